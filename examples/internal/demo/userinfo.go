package demo

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/devicegrant/devicegrant"
	"github.com/devicegrant/devicegrant/dpop"
)

// info is what userinfo says.
type info struct {
	Subject  string   `json:"sub"`
	Scope    string   `json:"scope"`
	Name     string   `json:"name,omitempty"`
	Audience []string `json:"aud,omitempty"` // the resources that the token is for
}

// serveUserinfo tells whoever has an access token whose it is (RFC 6750, RFC 9449
// section 7).
func (h *Host) serveUserinfo(w http.ResponseWriter, r *http.Request) {
	t, l, err := h.accessOf(w, r)
	_, refused := errors.AsType[*devicegrant.Error](err)
	switch {
	case refused, errors.Is(err, dpop.ErrNoToken):
		h.challenge(w, r, err)
		return
	case err != nil:
		h.logger.ErrorContext(r.Context(), "userinfo endpoint failed", "error", err)
		writeError(w, r, http.StatusServiceUnavailable, devicegrant.ErrTemporarilyUnavailable)
		return
	}
	answer := info{Subject: l.subject, Scope: t.scope, Audience: strings.Fields(t.resource)}
	if slices.Contains(strings.Fields(t.scope), "profile") {
		answer.Name = users[l.subject].name
	}
	WriteJSON(w, http.StatusOK, answer)
}

// accessOf returns the access token of a request, and its login. A token that is bound to
// a key is good together with a proof of that only, by the scheme DPoP; and a token that
// is bound to none is not good there (RFC 9449 sections 7.1 and 7.2). It returns
// dpop.ErrNoToken for a request without one.
func (h *Host) accessOf(w http.ResponseWriter, r *http.Request) (t accessToken, l login, err error) {
	var key devicegrant.Key
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	switch {
	case strings.EqualFold(scheme, "Bearer"):
	case h.DPoP == nil:
		return t, l, dpop.ErrNoToken
	default:
		if token, key, err = h.DPoP.Resource(w, r); err != nil {
			return t, l, err
		}
	}
	t, l, ok, err := h.records.access(r.Context(), digestOf(token), h.now())
	if err == nil && (!ok || t.key != key) {
		err = dpop.ErrInvalidToken
	}
	return t, l, err
}

// challenge refuses a request for a resource: by each scheme that there is, it says how to
// ask, and by that of the request what was wrong (RFC 6750 section 3, RFC 9449 section
// 7.1).
func (h *Host) challenge(w http.ResponseWriter, r *http.Request, err error) {
	var body struct {
		Error string `json:"error,omitempty"`
	}
	e, refused := errors.AsType[*devicegrant.Error](err)
	if refused {
		body.Error = e.Code
	}
	scheme, _, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	bearer := "Bearer"
	if refused && strings.EqualFold(scheme, bearer) {
		bearer += ` error="` + e.Code + `"`
		err = dpop.ErrNoToken
	}
	w.Header().Add("WWW-Authenticate", bearer)
	if h.DPoP == nil {
		WriteJSON(w, http.StatusUnauthorized, body)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	h.DPoP.Challenge(w, err)
	_ = json.NewEncoder(w).Encode(body) // A client that has gone cannot be told.
}
