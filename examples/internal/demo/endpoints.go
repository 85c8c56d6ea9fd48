package demo

import (
	"encoding/json"
	"errors"
	"mime"
	"net/http"

	"github.com/devicegrant/devicegrant"
)

// TokenHandler is the token endpoint for all that the server issues without the
// device grant, which is refresh tokens. It belongs behind
// devicegrant.Server.TokenHandler.
func (h *Host) TokenHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			w.Header().Set("Allow", http.MethodPost)
			writeError(w, r, http.StatusMethodNotAllowed, devicegrant.ErrInvalidRequest.Describe("the method must be POST"))
			return
		}
		token, err := h.tokenRequest(w, r)
		if err != nil {
			h.writeTokenError(w, r, err)
			return
		}
		WriteJSON(w, http.StatusOK, token)
	})
}

func (h *Host) tokenRequest(w http.ResponseWriter, r *http.Request) (*devicegrant.Token, error) {
	if err := parseTokenForm(w, r); err != nil {
		return nil, err
	}
	switch r.PostForm.Get("grant_type") {
	case "refresh_token":
	case "":
		return nil, devicegrant.ErrInvalidRequest.Describe("grant_type is missing")
	default:
		return nil, devicegrant.ErrUnsupportedGrantType
	}
	credentials, err := devicegrant.ClientCredentials(r)
	if err != nil {
		return nil, err
	}
	client, err := h.AuthenticateClient(r.Context(), credentials)
	if err != nil {
		return nil, err
	}
	token := r.PostForm.Get("refresh_token")
	if token == "" {
		return nil, devicegrant.ErrInvalidRequest.Describe("refresh_token is missing")
	}
	key, err := h.ProvenKey(w, r)
	if err != nil {
		return nil, err
	}
	return h.refresh(r.Context(), refreshRequest{client.ID, token, r.PostForm.Get("scope"), r.PostForm["resource"], key})
}

// ProvenKey is for devicegrant.Config. A proof can be verified once: here for what the
// server issues itself, and by the library for the device grant.
func (h *Host) ProvenKey(w http.ResponseWriter, r *http.Request) (devicegrant.Key, error) {
	if h.DPoP == nil {
		return devicegrant.Key{}, nil
	}
	return h.DPoP.ProvenKey(w, r)
}

// parseTokenForm reads the parameters of the body. None may be repeated (RFC 6749
// section 3.2) but for resource (RFC 8707 section 2).
func parseTokenForm(w http.ResponseWriter, r *http.Request) error {
	mediaType, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if mediaType != "application/x-www-form-urlencoded" {
		return devicegrant.ErrInvalidRequest.Describe("the content type must be application/x-www-form-urlencoded")
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxFormBody)
	if err := r.ParseForm(); err != nil {
		return devicegrant.ErrInvalidRequest.Describe("the body is too large or malformed").Because(err)
	}
	for name, values := range r.PostForm {
		if len(values) > 1 && name != "resource" {
			return devicegrant.ErrInvalidRequest.Describe("a parameter is repeated")
		}
	}
	return nil
}

// writeTokenError answers with the status that RFC 6749 section 5.2 gives an error.
func (h *Host) writeTokenError(w http.ResponseWriter, r *http.Request, err error) {
	e, ok := errors.AsType[*devicegrant.Error](err)
	switch {
	case !ok:
		h.logger.ErrorContext(r.Context(), "token endpoint failed", "error", err)
		writeError(w, r, http.StatusServiceUnavailable, devicegrant.ErrTemporarilyUnavailable)
	case errors.Is(e, devicegrant.ErrInvalidClient):
		writeError(w, r, http.StatusUnauthorized, e)
	default:
		writeError(w, r, http.StatusBadRequest, e)
	}
}

func writeError(w http.ResponseWriter, r *http.Request, status int, e *devicegrant.Error) {
	if status == http.StatusUnauthorized && r.Header.Get("Authorization") != "" {
		w.Header().Set("WWW-Authenticate", `Basic realm="token"`)
	}
	WriteJSON(w, status, struct {
		Error       string `json:"error"`
		Description string `json:"error_description,omitempty"`
	}{e.Code, e.Description})
}

// WriteJSON writes an answer that no cache may keep. What is given has to be a type of our
// own, which can be encoded.
func WriteJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		panic(err) // Only our own types are written.
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(body) // A client that has gone cannot be told.
}
