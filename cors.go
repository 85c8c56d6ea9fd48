package devicegrant

import (
	"net/http"
	"slices"
)

// This file lets web pages use the two endpoints that devices use, for televisions whose
// programs are web pages (CORS, https://fetch.spec.whatwg.org/#http-cors-protocol). It
// gives away nothing that any other program could not have: no cookie counts there.

// preflight answers a browser that asks whether a page may send a request, and reports
// whether it did. Which client the page is, the browser does not say, so any client's
// origin will do; who reads the answers is another question (shareWith). Other questions
// are for the host.
func (s *Server) preflight(w http.ResponseWriter, r *http.Request) bool {
	if r.Method != http.MethodOptions || r.Header.Get("Access-Control-Request-Method") != http.MethodPost || !s.shareWithAny(w, r) {
		return false
	}
	h := w.Header()
	h.Set("Access-Control-Allow-Methods", http.MethodPost)
	h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type, DPoP")
	h.Set("Access-Control-Max-Age", "600") // Seconds.
	w.WriteHeader(http.StatusNoContent)
	return true
}

// shareWithAny lets the page that made a request read the answer if any client has its
// origin, and reports whether that is so. It is for what is answered before it is known
// who asks.
func (s *Server) shareWithAny(w http.ResponseWriter, r *http.Request) bool {
	if s.cfg.AllowedOrigin == nil {
		return false
	}
	h := w.Header()
	h.Add("Vary", "Origin")
	origin := r.Header.Get("Origin")
	if origin == "" || !s.cfg.AllowedOrigin(r.Context(), origin) {
		return false
	}
	h.Set("Access-Control-Allow-Origin", origin)
	h.Set("Access-Control-Expose-Headers", "DPoP-Nonce, Retry-After, WWW-Authenticate")
	return true
}

// shareWith takes that back unless the client that asks has the origin.
func (s *Server) shareWith(w http.ResponseWriter, r *http.Request, client Client) {
	if s.cfg.AllowedOrigin == nil || slices.Contains(client.Origins, r.Header.Get("Origin")) {
		return
	}
	w.Header().Del("Access-Control-Allow-Origin")
	w.Header().Del("Access-Control-Expose-Headers")
}
