package demo

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/devicegrant/devicegrant"
	"github.com/devicegrant/devicegrant/examples/internal/browser"
	"github.com/devicegrant/devicegrant/memstore"
)

const origin = "http://127.0.0.1:8080"

// fixture is a host with the device grant.
type fixture struct {
	*Host
	t     testing.TB
	grant *devicegrant.Server
	mux   *http.ServeMux
}

func newFixture(t testing.TB) *fixture {
	f := &fixture{Host: NewHost(origin, nil), t: t}
	var err error
	f.grant, err = devicegrant.New(devicegrant.Config{
		Store: memstore.New(0), Keys: NewKeys(), VerificationURI: origin + "/device",
		AuthenticateClient: f.AuthenticateClient, Client: f.Client, SignedIn: f.SignedIn,
		IssueToken: f.IssueToken, OnEvent: f.OnEvent,
	})
	require.NoError(t, err)
	f.mux = f.Routes()
	f.mux.Handle("/token", f.grant.TokenHandler(f.TokenHandler()))
	f.mux.Handle("/device", f.grant.VerificationHandler())
	return f
}

func (f *fixture) browser() *browser.Browser {
	return browser.New(f.t, browser.Handler{Handler: f.mux})
}

// post sends a form; headers are names and values in turn.
func (f *fixture) post(path, body string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	return f.do(r)
}

func (f *fixture) do(r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	f.mux.ServeHTTP(w, r)
	return w
}

func (f *fixture) userinfo(accessToken string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, "/userinfo", nil)
	r.Header.Set("Authorization", "Bearer "+accessToken)
	return f.do(r)
}

// tokens is a token response, or an error in its place.
type tokens struct {
	Status       int    `json:"-"`
	Error        string `json:"error"`
	AccessToken  string `json:"access_token"`
	TokenType    string `json:"token_type"`
	RefreshToken string `json:"refresh_token"`
	Scope        string `json:"scope"`
	ExpiresIn    int    `json:"expires_in"`

	deviceCode string
}

func (f *fixture) tokenRequest(body string) (got tokens) {
	f.t.Helper()
	w := f.post("/token", body)
	got.Status = w.Code
	require.NoError(f.t, json.Unmarshal(w.Body.Bytes(), &got))
	require.Equal(f.t, "no-store", w.Header().Get("Cache-Control"))
	return got
}

// connected takes a device of the client tv through the whole flow, for alice.
func (f *fixture) connected(scope string) tokens {
	f.t.Helper()
	ctx, alice := f.t.Context(), devicegrant.Person{Subject: "alice"}
	a, err := f.grant.Authorize(ctx, clients["tv"].Client, scope)
	require.NoError(f.t, err)
	review, err := f.grant.Lookup(ctx, a.UserCode, alice)
	require.NoError(f.t, err)
	require.NoError(f.t, f.grant.Approve(ctx, review.Ticket, alice))
	got := f.poll(a.DeviceCode)
	require.Equal(f.t, http.StatusOK, got.Status)
	got.deviceCode = a.DeviceCode
	return got
}

func (f *fixture) poll(deviceCode string) tokens {
	f.t.Helper()
	return f.tokenRequest("client_id=tv&grant_type=" + url.QueryEscape(devicegrant.GrantType) + "&device_code=" + deviceCode)
}

func (f *fixture) refreshed(refreshToken, more string) tokens {
	f.t.Helper()
	return f.tokenRequest("client_id=tv&grant_type=refresh_token&refresh_token=" + refreshToken + more)
}

func basicAuth(id, secret string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(id+":"+secret))
}

func body(t testing.TB, w *httptest.ResponseRecorder) string {
	b, err := io.ReadAll(w.Body)
	require.NoError(t, err)
	return string(b)
}
