package devicegrant

import (
	"encoding/json"
	"net/http"
)

// DeviceAuthorizationHandler serves the device authorization endpoint (RFC 8628
// sections 3.1 and 3.2).
func (s *Server) DeviceAuthorizationHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			methodNotAllowed(w, http.MethodPost)
			return
		}
		a, err := s.authorizeRequest(r)
		if err != nil {
			e := asError(err)
			if e == nil {
				e = ErrTemporarilyUnavailable.withRetryAfter(s.cfg.Interval)
			}
			writeError(w, r, e)
			return
		}
		writeJSON(w, http.StatusOK, a.response())
	})
}

func (s *Server) authorizeRequest(r *http.Request) (*Authorization, error) {
	f, err := readForm(r)
	if err != nil {
		return nil, err
	}
	defer f.free()
	client, err := s.authenticate(r, f)
	if err != nil {
		return nil, err
	}
	return s.Authorize(r.Context(), client, AuthorizationRequest{
		Scope:  f.get("scope"),
		Device: Device{Name: f.get("device_name"), UserAgent: r.UserAgent(), Addr: s.remoteAddr(r)},
	})
}

func (a *Authorization) response() []byte {
	body, err := json.Marshal(struct {
		DeviceCode              string `json:"device_code"`
		UserCode                string `json:"user_code"`
		VerificationURI         string `json:"verification_uri"`
		VerificationURIComplete string `json:"verification_uri_complete,omitempty"`
		ExpiresIn               int64  `json:"expires_in"`
		Interval                int64  `json:"interval"`
	}{
		a.DeviceCode, a.UserCode, a.VerificationURI, a.VerificationURIComplete,
		wholeSeconds(a.ExpiresIn), wholeSeconds(a.Interval),
	})
	if err != nil {
		panic(err) // Strings and numbers always marshal.
	}
	return body
}
