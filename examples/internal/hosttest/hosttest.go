// Package hosttest is a device and a person for tests of the hosts beside it, which it
// asks without a network.
package hosttest

import (
	"cmp"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/devicegrant/devicegrant"
	"github.com/devicegrant/devicegrant/examples/internal/browser"
)

const (
	// Origin is where the hosts are reached.
	Origin = "http://127.0.0.1:8080"
	// Scopes are all that the tv may ask for.
	Scopes = "openid profile offline_access"
)

// Answer is an answer of any endpoint, and what it says if it is JSON.
type Answer struct {
	Status int         `json:"-"`
	Header http.Header `json:"-"`
	Body   string      `json:"-"`

	Error                   string
	DeviceCode              string `json:"device_code"`
	UserCode                string `json:"user_code"`
	VerificationURIComplete string `json:"verification_uri_complete"`
	AccessToken             string `json:"access_token"`
	TokenType               string `json:"token_type"`
	RefreshToken            string `json:"refresh_token"`
	ExpiresIn               int    `json:"expires_in"`
	Scope                   string
	Sub, Name               string
}

// Host is a host under test.
type Host struct {
	T         testing.TB
	Handler   http.Handler
	TokenPath string // Empty is /token.
}

// Get asks for a path, with an access token unless that is empty.
func (h Host) Get(path, accessToken string) Answer {
	h.T.Helper()
	r := httptest.NewRequest(http.MethodGet, Origin+path, nil)
	if accessToken != "" {
		r.Header.Set("Authorization", "Bearer "+accessToken)
	}
	return h.Do(r)
}

// Post sends parameters, given as name, value, name, value.
func (h Host) Post(path string, parameters ...string) Answer {
	h.T.Helper()
	return h.Do(FormRequest(path, parameters...))
}

// PostBasic does so as a client that authenticates by HTTP Basic.
func (h Host) PostBasic(clientID, secret, path string, parameters ...string) Answer {
	h.T.Helper()
	r := FormRequest(path, parameters...)
	r.SetBasicAuth(clientID, secret)
	return h.Do(r)
}

// FormRequest is a request with parameters, which are given as to Post.
func FormRequest(path string, parameters ...string) *http.Request {
	form := url.Values{}
	for i := 0; i < len(parameters); i += 2 {
		form.Add(parameters[i], parameters[i+1])
	}
	r := httptest.NewRequest(http.MethodPost, Origin+path, strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return r
}

// Do sends a request that is unlike the others.
func (h Host) Do(r *http.Request) Answer {
	h.T.Helper()
	w := httptest.NewRecorder()
	h.Handler.ServeHTTP(w, r)
	a := Answer{Status: w.Code, Header: w.Header(), Body: w.Body.String()}
	contentType := a.Header.Get("Content-Type")
	if a.Status != http.StatusOK && !strings.HasPrefix(contentType, "application/json") {
		return a // Some hosts refuse in plain text.
	}
	require.Contains(h.T, contentType, "application/json")
	require.NoError(h.T, json.Unmarshal(w.Body.Bytes(), &a), "%d %s", a.Status, a.Body)
	return a
}

// Authorize starts a login of the tv, for every scope unless some are given.
func (h Host) Authorize(scopes ...string) Answer {
	h.T.Helper()
	scope := cmp.Or(strings.Join(scopes, " "), Scopes)
	a := h.Post("/device_authorization", "client_id", "tv", "scope", scope)
	require.Equal(h.T, http.StatusOK, a.Status, a.Body)
	return a
}

// Poll polls once as the tv.
func (h Host) Poll(deviceCode string) Answer {
	h.T.Helper()
	return h.token("grant_type", devicegrant.GrantType, "client_id", "tv", "device_code", deviceCode)
}

// Refresh uses a refresh token as the tv.
func (h Host) Refresh(token string) Answer {
	h.T.Helper()
	return h.token("grant_type", "refresh_token", "client_id", "tv", "refresh_token", token)
}

func (h Host) token(parameters ...string) Answer {
	h.T.Helper()
	return h.Post(cmp.Or(h.TokenPath, "/token"), parameters...)
}

// Decide has alice follow the link of a login, sign in and press a button: approve or deny.
func (h Host) Decide(a Answer, action string) {
	h.T.Helper()
	b := browser.New(h.T, browser.Handler{Handler: h.Handler})
	b.Open(a.VerificationURIComplete)
	require.Equal(h.T, "/login", b.URL.Path)
	require.Contains(h.T, b.Text, "<h1>Sign in</h1>")
	b.Submit("", map[string]string{"username": "alice", "password": "wonderland"})
	require.Equal(h.T, "/device", b.URL.Path)
	require.Contains(h.T, b.Text, "Living-room TV")
	require.Contains(h.T, b.Text, "Alice")
	b.Submit(action, nil)
	require.Equal(h.T, http.StatusOK, b.Status, b.Text)
}

// Login goes from code to tokens, which it returns with the device code. The scopes are as
// for Authorize.
func (h Host) Login(scopes ...string) (got Answer, deviceCode string) {
	h.T.Helper()
	a := h.Authorize(scopes...)
	h.Decide(a, "approve")
	got = h.Poll(a.DeviceCode)
	require.Equal(h.T, http.StatusOK, got.Status, got.Body)
	return got, a.DeviceCode
}

// RequireClients checks who is refused at both endpoints: who is unknown, whose secret is
// wrong, and who may not use this grant or asks for too much.
func (h Host) RequireClients() {
	h.T.Helper()
	for _, tt := range []struct{ id, secret, want string }{
		{"nobody", "", "invalid_client"},
		{"tv", "secret", "invalid_client"},
		{"web", "", "invalid_client"},
		{"web", "wrong", "invalid_client"},
		{"web", "web-secret", "unauthorized_client"},
	} {
		asked := h.PostBasic(tt.id, tt.secret, "/device_authorization", "scope", "openid")
		assert.Equal(h.T, tt.want, asked.Error, tt)
		polled := h.PostBasic(tt.id, tt.secret, cmp.Or(h.TokenPath, "/token"), "grant_type", devicegrant.GrantType, "device_code", "x")
		assert.Equal(h.T, tt.want, polled.Error, tt)
	}
	assert.Equal(h.T, "invalid_scope", h.Post("/device_authorization", "client_id", "tv", "scope", "admin").Error)
}
