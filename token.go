package devicegrant

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
)

// TokenHandler serves the token endpoint for this grant (RFC 8628 sections 3.4
// and 3.5) and hands every other request, its body untouched, to next, the host's
// own token endpoint. With a nil next, other requests are refused.
func (s *Server) TokenHandler(next http.Handler) http.Handler {
	if next == nil {
		next = http.HandlerFunc(refuseToken)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.preflight(w, r) {
			return
		}
		f, err := tokenForm(r)
		if f == nil && err == nil {
			next.ServeHTTP(w, r)
			return
		}
		s.shareWithAny(w, r)
		if err != nil {
			writeError(w, r, toDevice(err))
			return
		}
		defer f.free()
		s.serveToken(w, r, f)
	})
}

// serveToken answers one poll. Whatever goes wrong on the server's side, the
// device is told to go on.
func (s *Server) serveToken(w http.ResponseWriter, r *http.Request, f *form) {
	token, deliver, err := s.pollRequest(w, r, f)
	if err != nil {
		writeError(w, r, toDevice(err))
		return
	}
	body, err := json.Marshal(token)
	if err != nil {
		panic(err) // Poll returns only tokens that can be encoded.
	}
	deliver(func() error { return sendToken(w, r, body) })
}

// pollRequest makes the poll that a request is. One with a device code that nobody knows
// is refused, where there were too many, before its client costs anything.
func (s *Server) pollRequest(w http.ResponseWriter, r *http.Request, f *form) (*Token, deliverer, error) {
	p := PollRequest{DeviceCode: f.get("device_code"), CodeVerifier: f.get("code_verifier"), Addr: s.remoteAddr(r)}
	var code deviceCode
	known := s.keys.openDeviceCode(p.DeviceCode, &code)
	if !known && p.DeviceCode != "" {
		if err := s.limitUnknown(r.Context(), p.Addr); err != nil {
			return nil, nil, err
		}
	}
	client, err := s.authenticate(w, r, f)
	switch {
	case err != nil:
		return nil, nil, err
	case p.DeviceCode == "":
		return nil, nil, ErrInvalidRequest.Describe("device_code is missing")
	case !client.DeviceGrant:
		return nil, nil, errNotPermitted
	}
	p.ClientID = client.ID
	if p.Key, err = s.provenKey(w, r); err != nil {
		return nil, nil, err
	}
	return s.poll(r.Context(), p, &code, known)
}

// sendToken sends an answer such that it is on its way, whole, when this returns.
func sendToken(w http.ResponseWriter, r *http.Request, body []byte) error {
	if err := r.Context().Err(); err != nil {
		return err // The device has hung up.
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	writeJSON(w, http.StatusOK, body)
	err := http.NewResponseController(w).Flush()
	if errors.Is(err, http.ErrNotSupported) {
		return nil // Then it is sent when the handler returns.
	}
	return err
}

// authenticate identifies the client of a request, and lets the pages of its origins read
// the answer. Failures of the host's that are not meant for the client are logged here.
func (s *Server) authenticate(w http.ResponseWriter, r *http.Request, f *form) (Client, error) {
	c, err := credentials(r, f)
	if err != nil {
		return Client{}, err
	}
	client, err := s.cfg.AuthenticateClient(r.Context(), c)
	if err == nil && client.ID == "" {
		err = errors.New("AuthenticateClient returned a Client without an ID") // All clients would be one.
	}
	if err != nil {
		s.logFailure(r.Context(), "AuthenticateClient", err, "client_id", c.ID)
		return Client{}, err
	}
	s.shareWith(w, r, client)
	return client, nil
}

// provenKey returns the key that a request proves to hold, if any. Failures are logged
// likewise.
func (s *Server) provenKey(w http.ResponseWriter, r *http.Request) (Key, error) {
	if s.cfg.ProvenKey == nil {
		return Key{}, nil
	}
	key, err := s.cfg.ProvenKey(w, r)
	if err != nil {
		s.logFailure(r.Context(), "Config.ProvenKey", err)
	}
	return key, err
}

// logFailure logs the failure of a callback, unless it is an answer for the client.
func (s *Server) logFailure(ctx context.Context, callback string, err error, attrs ...any) {
	if asError(err) == nil {
		s.cfg.Logger.ErrorContext(ctx, "devicegrant: "+callback+" failed", append(attrs, "error", err)...)
	}
}

// tokenForm returns the request's form if it is for this grant, and neither form
// nor error, with the body as it was, if it is for the host.
func tokenForm(r *http.Request) (*form, error) {
	if r.Method != http.MethodPost || !isForm(r) {
		return nil, nil
	}
	if r.PostForm != nil {
		if r.PostForm.Get("grant_type") != GrantType {
			return nil, nil
		}
		return formOf(r.PostForm, paramResource)
	}
	f := newForm(paramResource)
	complete, err := f.read(r)
	if err != nil {
		f.free()
		return nil, err
	}
	err = f.parse()
	ours := err == nil && f.get("grant_type") == GrantType
	if ours && complete {
		return f, nil
	}
	defer f.free()
	switch {
	case ours:
		return nil, errBodyTooLarge
	case err != nil && mentionsGrant(f.body.Bytes()):
		return nil, err
	}
	r.Body = restored{io.MultiReader(bytes.NewReader(bytes.Clone(f.body.Bytes())), r.Body), r.Body}
	return nil, nil
}

// mentionsGrant reports whether a body that is not a well-formed form was meant
// for this grant, so that it is this endpoint's to refuse.
func mentionsGrant(body []byte) bool {
	return bytes.Contains(body, []byte(GrantType)) || bytes.Contains(body, []byte(escapedGrantType))
}

// restored is a body of which the beginning has been read and put back.
type restored struct {
	io.Reader
	io.Closer
}

// refuseToken is the token endpoint of a host that has no other grant.
func refuseToken(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		methodNotAllowed(w, http.MethodPost)
		return
	}
	f, err := readForm(r, paramResource)
	if err != nil {
		writeError(w, r, toDevice(err))
		return
	}
	defer f.free()
	if f.get("grant_type") == "" {
		writeError(w, r, ErrInvalidRequest.Describe("grant_type is missing"))
		return
	}
	writeError(w, r, ErrUnsupportedGrantType)
}
