package devicegrant

import (
	"net/http"
	"strconv"
	"strings"
)

// DeviceAuthorizationHandler serves the device authorization endpoint (RFC 8628
// sections 3.1 and 3.2).
func (s *Server) DeviceAuthorizationHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.preflight(w, r) {
			return
		}
		if r.Method != http.MethodPost {
			methodNotAllowed(w, http.MethodPost)
			return
		}
		s.shareWithAny(w, r)
		if err := s.serveAuthorization(w, r); err != nil {
			e := asError(err)
			if e == nil {
				e = ErrTemporarilyUnavailable.withRetryAfter(s.cfg.Interval)
			}
			writeError(w, r, e)
		}
	})
}

// serveAuthorization answers a request, unless it returns an error.
func (s *Server) serveAuthorization(w http.ResponseWriter, r *http.Request) error {
	f, err := readForm(r, paramResource)
	if err != nil {
		return err
	}
	defer f.free()
	a, err := s.authorizeRequest(w, r, f)
	if err != nil {
		return err
	}
	f.body.Reset() // It has been read, and has room for the answer.
	writeJSON(w, http.StatusOK, a.appendTo(f.body.AvailableBuffer()))
	return nil
}

func (s *Server) authorizeRequest(w http.ResponseWriter, r *http.Request, f *form) (*Authorization, error) {
	client, err := s.authenticate(w, r, f)
	if err != nil {
		return nil, err
	}
	key, err := s.requestKey(w, r, f)
	if err != nil {
		return nil, err
	}
	return s.Authorize(r.Context(), client, AuthorizationRequest{
		Scope:                f.get("scope"),
		Resources:            f.all(paramResource),
		AuthorizationDetails: f.get("authorization_details"),
		CodeChallenge:        f.get("code_challenge"),
		CodeChallengeMethod:  f.get("code_challenge_method"),
		Key:                  key,
		Device:               Device{Name: f.get("device_name"), UserAgent: r.UserAgent(), Addr: s.remoteAddr(r)},
	})
}

// requestKey is the key that the device code is bound to: one that the request proves to
// hold, or one that it names, for clients that prove theirs to the token endpoint only (RFC
// 9449 section 10; its section 10.1 has both agree).
func (s *Server) requestKey(w http.ResponseWriter, r *http.Request, f *form) (Key, error) {
	key, err := s.provenKey(w, r)
	jkt := f.get("dpop_jkt")
	if err != nil || jkt == "" || s.cfg.ProvenKey == nil {
		return key, err
	}
	named := Key{KeyDPoP, jkt}
	switch {
	case len(jkt) != 43 || strings.Trim(jkt, base64URL) != "":
		return Key{}, ErrInvalidRequest.Describe("dpop_jkt must be a SHA-256 digest in base64url without padding")
	case key != (Key{}) && key != named:
		return Key{}, ErrInvalidRequest.Describe("dpop_jkt is not the thumbprint of the key that is proven")
	default:
		return named, nil
	}
}

const base64URL = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

// appendTo appends the answer, as encoding/json would write it.
func (a *Authorization) appendTo(b []byte) []byte {
	b = appendString(append(b, `{"device_code":`...), a.DeviceCode)
	b = appendString(append(b, `,"user_code":`...), a.UserCode)
	b = appendString(append(b, `,"verification_uri":`...), a.VerificationURI)
	if a.VerificationURIComplete != "" {
		b = appendString(append(b, `,"verification_uri_complete":`...), a.VerificationURIComplete)
	}
	b = strconv.AppendInt(append(b, `,"expires_in":`...), wholeSeconds(a.ExpiresIn), 10)
	b = strconv.AppendInt(append(b, `,"interval":`...), wholeSeconds(a.Interval), 10)
	return append(b, '}')
}
