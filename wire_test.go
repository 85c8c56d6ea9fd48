package devicegrant_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/devicegrant/devicegrant"
	"github.com/devicegrant/devicegrant/memstore"
)

const grantType = "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Adevice_code"

func basicAuth(id, secret string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(url.QueryEscape(id)+":"+url.QueryEscape(secret)))
}

// wire is one request and its answer. DEVICECODE in the body stands for a code
// that was issued to tv.
type wire struct {
	name   string
	method string // POST when empty
	ctype  string // a form's when empty
	auth   string
	body   string
	status int
	err    string // the error code; none with 200
}

func TestWireDeviceAuthorization(t *testing.T) {
	for _, tt := range []wire{
		{name: "public client", body: "client_id=tv", status: 200},
		{name: "scope", body: "client_id=tv&scope=openid+profile", status: 200},
		{name: "scope empty counts as absent", body: "client_id=tv&scope=", status: 200},
		{name: "unknown parameter", body: "client_id=tv&color=red", status: 200},
		{name: "content type with charset", ctype: "Application/X-WWW-Form-Urlencoded; charset=UTF-8", body: "client_id=tv", status: 200},
		{name: "Basic without client_id", auth: basicAuth("cli", "cli secret/+:"), status: 200},
		{name: "Basic with client_id", auth: basicAuth("cli", "cli secret/+:"), body: "client_id=cli", status: 200},
		{name: "secret in the body", body: "client_id=cli&client_secret=cli+secret%2F%2B%3A", status: 200},
		{name: "Basic without a secret, client_id agrees", auth: basicAuth("tv", ""), body: "client_id=tv", status: 200},
		{name: "Basic without a secret or client_id", auth: basicAuth("tv", ""), status: 200},
		{name: "another scheme", auth: "Bearer abc", body: "client_id=tv", status: 200},
		{name: "GET", method: http.MethodGet, status: 405, err: "invalid_request"},
		{name: "PUT", method: http.MethodPut, body: "client_id=tv", status: 405, err: "invalid_request"},
		{name: "JSON", ctype: "application/json", body: `{"client_id":"tv"}`, status: 400, err: "invalid_request"},
		{name: "no content type", ctype: "-", body: "client_id=tv", status: 400, err: "invalid_request"},
		{name: "body too large", body: "client_id=tv&x=" + strings.Repeat("a", 64<<10), status: 400, err: "invalid_request"},
		{name: "body as large as may be", body: "client_id=tv&x=" + strings.Repeat("a", 64<<10-15), status: 200},
		{name: "too many parameters", body: "client_id=tv" + manyParameters(101), status: 400, err: "invalid_request"},
		{name: "parameter twice", body: "client_id=tv&scope=openid&scope=openid", status: 400, err: "invalid_request"},
		{name: "parameter twice, once empty", body: "client_id=tv&client_id=", status: 400, err: "invalid_request"},
		{name: "unknown parameter twice", body: "client_id=tv&x=1&x=2", status: 400, err: "invalid_request"},
		{name: "parameter twice, escaped", body: "client_id=tv&client%5Fid=tv", status: 400, err: "invalid_request"},
		{name: "malformed escape", body: "client_id=tv&x=%zz", status: 400, err: "invalid_request"},
		{name: "no client", body: "scope=openid", status: 400, err: "invalid_request"},
		{name: "client_id empty", body: "client_id=", status: 400, err: "invalid_request"},
		{name: "no body", status: 400, err: "invalid_request"},
		{name: "client in the URL only", body: "", status: 400, err: "invalid_request"},
		{name: "unknown client", body: "client_id=nobody", status: 401, err: "invalid_client"},
		{name: "wrong secret", auth: basicAuth("cli", "guess"), status: 401, err: "invalid_client"},
		{name: "confidential client without its secret", body: "client_id=cli", status: 401, err: "invalid_client"},
		{name: "Basic that is not base64", auth: "Basic %%%", body: "client_id=tv", status: 401, err: "invalid_client"},
		{name: "Basic without a colon", auth: "Basic " + base64.StdEncoding.EncodeToString([]byte("tv")), status: 401, err: "invalid_client"},
		{name: "Basic without the secret that there is", auth: basicAuth("cli", ""), status: 401, err: "invalid_client"},
		{name: "Basic without a name", auth: basicAuth("", "x"), body: "client_id=tv", status: 401, err: "invalid_client"},
		{name: "Basic and another client_id", auth: basicAuth("cli", "cli secret/+:"), body: "client_id=tv", status: 400, err: "invalid_request"},
		{name: "Basic and a secret in the body", auth: basicAuth("cli", "cli secret/+:"), body: "client_id=cli&client_secret=x", status: 400, err: "invalid_request"},
		{name: "client without this grant", body: "client_id=web&client_secret=web-secret", status: 400, err: "unauthorized_client"},
		{name: "scope the client may not have", body: "client_id=tv&scope=openid+admin", status: 400, err: "invalid_scope"},
		{name: "scope malformed", body: `client_id=tv&scope=open"id`, status: 400, err: "invalid_scope"},
		{name: "scope with two spaces", body: "client_id=tv&scope=openid++profile", status: 400, err: "invalid_scope"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFixture(t, nil)
			w := f.send(tt, "/device_authorization?client_id=tv")
			body := requireWire(t, tt, w)
			if tt.status != http.StatusOK {
				return
			}
			assert.Equal(t, "https://example.com/device", body["verification_uri"])
			assert.Equal(t, "https://example.com/device?user_code="+body["user_code"].(string), body["verification_uri_complete"])
			assert.Equal(t, json.Number("900"), body["expires_in"])
			assert.Equal(t, json.Number("5"), body["interval"])
			assert.Len(t, body, 6)
		})
	}
}

func TestWireToken(t *testing.T) {
	for _, tt := range []wire{
		{name: "pending", body: grantType + "&client_id=tv&device_code=DEVICECODE", status: 400, err: "authorization_pending"},
		{name: "unescaped grant type", body: "grant_type=" + devicegrant.GrantType + "&client_id=tv&device_code=DEVICECODE", status: 400, err: "authorization_pending"},
		{name: "empty scope and unknown parameter", body: grantType + "&client_id=tv&device_code=DEVICECODE&scope=&color=red", status: 400, err: "authorization_pending"},
		{name: "Basic without a secret, client_id agrees", auth: basicAuth("tv", ""), body: grantType + "&client_id=tv&device_code=DEVICECODE", status: 400, err: "authorization_pending"},
		{name: "another client", auth: basicAuth("cli", "cli secret/+:"), body: grantType + "&device_code=DEVICECODE", status: 400, err: "invalid_grant"},
		{name: "forged code", body: grantType + "&client_id=tv&device_code=" + strings.Repeat("A", 64), status: 400, err: "invalid_grant"},
		{name: "nonsense code", body: grantType + "&client_id=tv&device_code=%00%FF%27", status: 400, err: "invalid_grant"},
		{name: "huge code", body: grantType + "&client_id=tv&device_code=" + strings.Repeat("A", 60000), status: 400, err: "invalid_grant"},
		{name: "no code", body: grantType + "&client_id=tv", status: 400, err: "invalid_request"},
		{name: "code empty", body: grantType + "&client_id=tv&device_code=", status: 400, err: "invalid_request"},
		{name: "code twice", body: grantType + "&client_id=tv&device_code=DEVICECODE&device_code=DEVICECODE", status: 400, err: "invalid_request"},
		{name: "grant type twice", body: grantType + "&" + grantType + "&client_id=tv&device_code=DEVICECODE", status: 400, err: "invalid_request"},
		{name: "body too large", body: grantType + "&client_id=tv&device_code=DEVICECODE&x=" + strings.Repeat("a", 64<<10), status: 400, err: "invalid_request"},
		{name: "malformed escape", body: grantType + "&client_id=tv&device_code=DEVICECODE&x=%zz", status: 400, err: "invalid_request"},
		{name: "no client", body: grantType + "&device_code=DEVICECODE", status: 400, err: "invalid_request"},
		{name: "unknown client", body: grantType + "&client_id=nobody&device_code=DEVICECODE", status: 401, err: "invalid_client"},
		{name: "wrong secret", auth: basicAuth("cli", "guess"), body: grantType + "&device_code=DEVICECODE", status: 401, err: "invalid_client"},
		{name: "client without this grant", body: grantType + "&client_id=web&client_secret=web-secret&device_code=DEVICECODE", status: 400, err: "unauthorized_client"},
		{name: "GET", method: http.MethodGet, status: 405, err: "invalid_request"},
		{name: "another grant", body: "grant_type=authorization_code&code=x&client_id=tv", status: 400, err: "unsupported_grant_type"},
		{name: "no grant type", body: "client_id=tv", status: 400, err: "invalid_request"},
		{name: "JSON", ctype: "application/json", body: `{"grant_type":"urn:ietf:params:oauth:grant-type:device_code"}`, status: 400, err: "invalid_request"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFixture(t, nil)
			tt.body = strings.ReplaceAll(tt.body, "DEVICECODE", f.authorize().DeviceCode)
			requireWire(t, tt, f.send(tt, "/token"))
		})
	}
}

func (f *fixture) send(tt wire, path string) *httptest.ResponseRecorder {
	method := http.MethodPost
	if tt.method != "" {
		method = tt.method
	}
	r := httptest.NewRequest(method, path, strings.NewReader(tt.body))
	switch tt.ctype {
	case "":
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	case "-":
	default:
		r.Header.Set("Content-Type", tt.ctype)
	}
	if tt.auth != "" {
		r.Header.Set("Authorization", tt.auth)
	}
	return f.do(r)
}

// requireWire checks what every answer has in common (RFC 6749 section 5.2).
func requireWire(t *testing.T, tt wire, w *httptest.ResponseRecorder) (body map[string]any) {
	t.Helper()
	require.Equal(t, tt.status, w.Code, w.Body)
	assert.Equal(t, "application/json", w.Header().Get("Content-Type"))
	assert.Equal(t, "no-store", w.Header().Get("Cache-Control"))
	assert.Equal(t, tt.status == 401 && tt.auth != "", w.Header().Get("WWW-Authenticate") != "")
	assert.Equal(t, tt.status == 405, w.Header().Get("Allow") == "POST")
	d := json.NewDecoder(w.Body)
	d.UseNumber()
	require.NoError(t, d.Decode(&body))
	if tt.status != http.StatusOK {
		assert.Equal(t, tt.err, body["error"])
		delete(body, "error_description")
		assert.Len(t, body, 1)
	}
	return body
}

func manyParameters(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString("&p")
		b.WriteString(strings.Repeat("x", i))
		b.WriteString("=1")
	}
	return b.String()
}

func TestTokenResponse(t *testing.T) {
	f := newFixture(t, nil)
	f.issue = func(context.Context, *devicegrant.Grant) (*devicegrant.Token, error) {
		return &devicegrant.Token{AccessToken: "a", ExpiresIn: time.Hour, RefreshToken: "r", Scope: "openid", Extra: map[string]any{"id_token": "i", "access_token": "not this"}}, nil
	}
	a := f.authorize()
	f.approve(a)
	w := f.post("/token", grantType+"&client_id=tv&device_code="+a.DeviceCode)
	require.Equal(t, http.StatusOK, w.Code)
	assert.Equal(t, "no-store", w.Header().Get("Cache-Control"))
	assert.JSONEq(t, `{"access_token":"a","token_type":"Bearer","expires_in":3600,"refresh_token":"r","scope":"openid","id_token":"i"}`, w.Body.String())
}

func TestSlowDownCarriesTheInterval(t *testing.T) {
	f := newFixture(t, nil)
	a := f.authorize()
	now := time.Now()
	for i, want := range []string{`{"error":"authorization_pending"}`, `{"error":"slow_down","interval":10}`, `{"error":"slow_down","interval":15}`} {
		f.SetClock(func() time.Time { return now.Add(time.Duration(i) * time.Second) })
		w := f.post("/token", grantType+"&client_id=tv&device_code="+a.DeviceCode)
		assert.Equal(t, http.StatusBadRequest, w.Code)
		assert.Equal(t, want, w.Body.String())
	}
}

// Requests that are not for this grant reach the host as they came.
func TestTokenHandlerHandsOnTheRest(t *testing.T) {
	f := newFixture(t, nil)
	for name, tt := range map[string]struct{ method, ctype, body string }{
		"another grant":         {"POST", "application/x-www-form-urlencoded", "grant_type=refresh_token&refresh_token=x&resource=a&resource=b"},
		"no grant type":         {"POST", "application/x-www-form-urlencoded", "a=b"},
		"empty":                 {"POST", "application/x-www-form-urlencoded", ""},
		"malformed":             {"POST", "application/x-www-form-urlencoded", "a=%zz&grant_type=password"},
		"larger than our bound": {"POST", "application/x-www-form-urlencoded", "grant_type=other&x=" + strings.Repeat("y", 200<<10)},
		"JSON":                  {"POST", "application/json", `{"grant_type":"urn:ietf:params:oauth:grant-type:device_code"}`},
		"GET":                   {"GET", "", ""},
		"PUT":                   {"PUT", "application/x-www-form-urlencoded", grantType},
	} {
		t.Run(name, func(t *testing.T) {
			called := false
			h := f.TokenHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				called = true
				got, err := io.ReadAll(r.Body)
				assert.NoError(t, err)
				assert.Equal(t, tt.body, string(got))
				assert.NoError(t, r.Body.Close())
				w.WriteHeader(http.StatusTeapot)
			}))
			r := httptest.NewRequest(tt.method, "/token", strings.NewReader(tt.body))
			r.Header.Set("Content-Type", tt.ctype)
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			assert.True(t, called)
			assert.Equal(t, http.StatusTeapot, w.Code)
		})
	}
}

// A host that has parsed the form already is served all the same, and its own
// token endpoint finds the form as it was.
func TestFormParsedByTheHost(t *testing.T) {
	f := newFixture(t, nil)
	a := f.authorize()
	serve := func(h http.Handler, body string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		require.NoError(t, r.ParseForm())
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w
	}
	assert.Contains(t, serve(f.TokenHandler(nil), grantType+"&client_id=tv&device_code="+a.DeviceCode).Body.String(), "authorization_pending")
	assert.Contains(t, serve(f.TokenHandler(nil), grantType+"&client_id=tv&client_id=tv").Body.String(), "repeated")
	assert.Equal(t, 200, serve(f.DeviceAuthorizationHandler(), "client_id=tv").Code)
	serve(f.TokenHandler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		assert.Equal(t, "y", r.PostForm.Get("x"))
	})), "grant_type=other&x=y")
}

// The host's own limit on bodies is honoured.
func TestHostLimitsBody(t *testing.T) {
	f := newFixture(t, nil)
	r := httptest.NewRequest(http.MethodPost, "/token", nil)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	w := httptest.NewRecorder()
	r.Body = http.MaxBytesReader(w, io.NopCloser(strings.NewReader(grantType+"&client_id=tv")), 10)
	f.mux.ServeHTTP(w, r)
	assert.Equal(t, http.StatusBadRequest, w.Code)
	assert.Contains(t, w.Body.String(), "invalid_request")
}

func TestClientDisconnectsMidBody(t *testing.T) {
	f := newFixture(t, nil)
	for _, path := range []string{"/token", "/device_authorization"} {
		r := httptest.NewRequest(http.MethodPost, path, io.MultiReader(strings.NewReader("client_id"), errReader{}))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		w := f.do(r)
		assert.Equal(t, http.StatusBadRequest, w.Code)
		assert.NotContains(t, w.Body.String(), "wire cut")
	}
}

type errReader struct{}

func (errReader) Read([]byte) (int, error) { return 0, errors.New("wire cut") }

// A full store, and one that fails, are 503 with Retry-After and no word of why.
func TestDeviceAuthorizationUnavailable(t *testing.T) {
	full := memstore.New(1)
	f := newFixture(t, func(c *devicegrant.Config) { c.Store = full })
	f.authorize()
	w := f.post("/device_authorization", "client_id=tv")
	assert.Equal(t, http.StatusServiceUnavailable, w.Code)
	assert.Equal(t, "5", w.Header().Get("Retry-After"))
	assert.Equal(t, "no-store", w.Header().Get("Cache-Control"))
	assert.JSONEq(t, `{"error":"temporarily_unavailable"}`, w.Body.String())
	require.Len(t, f.raised(devicegrant.EventStoreError), 1)
	require.ErrorIs(t, f.raised(devicegrant.EventStoreError)[0].Err, devicegrant.ErrFull)
}

func TestRandomnessFails(t *testing.T) {
	f := newFixture(t, nil)
	for budget := range int64(100) { // Enough for a whole authorization at 96 bytes.
		f.SetRandom(io.LimitReader(bytes.NewReader(make([]byte, 1000)), budget))
		w := f.post("/device_authorization", "client_id=tv")
		if w.Code == http.StatusOK {
			assert.GreaterOrEqual(t, budget, int64(16+32+16))
			return
		}
		require.Equal(t, http.StatusServiceUnavailable, w.Code)
	}
	assert.Fail(t, "never succeeded")
}

// What goes wrong in the host's client registry is not the client's to know: a
// device authorization may be tried later, and a poll goes on.
func TestClientRegistryFails(t *testing.T) {
	f := newFixture(t, func(c *devicegrant.Config) {
		c.AuthenticateClient = func(context.Context, devicegrant.Credentials) (devicegrant.Client, error) {
			return devicegrant.Client{}, errors.New("pq: connection refused")
		}
	})
	w := f.post("/device_authorization", "client_id=tv")
	assert.Equal(t, http.StatusServiceUnavailable, w.Code)
	assert.JSONEq(t, `{"error":"temporarily_unavailable"}`, w.Body.String())
	w = f.post("/token", grantType+"&client_id=tv&device_code=x")
	assert.Equal(t, http.StatusBadRequest, w.Code)
	assert.JSONEq(t, `{"error":"slow_down"}`, w.Body.String())
	assert.Contains(t, f.logged(), "connection refused")
}

// A host that forgets a client's id would make all clients one.
func TestClientWithoutID(t *testing.T) {
	f := newFixture(t, func(c *devicegrant.Config) {
		c.AuthenticateClient = func(context.Context, devicegrant.Credentials) (devicegrant.Client, error) {
			return devicegrant.Client{DeviceGrant: true}, nil
		}
	})
	assert.Equal(t, http.StatusServiceUnavailable, f.post("/device_authorization", "client_id=tv").Code)
	assert.Contains(t, f.logged(), "without an ID")
}

// What is temporary ends no login, whichever callback says so.
func TestTemporarilyUnavailableIsNotForPolls(t *testing.T) {
	away := true
	f := newFixture(t, func(c *devicegrant.Config) {
		c.AuthenticateClient = func(context.Context, devicegrant.Credentials) (devicegrant.Client, error) {
			if away {
				return devicegrant.Client{}, devicegrant.ErrTemporarilyUnavailable
			}
			return tv, nil
		}
	})
	a := f.authorize()
	f.approve(a)
	poll := grantType + "&client_id=tv&device_code=" + a.DeviceCode
	assert.JSONEq(t, `{"error":"slow_down"}`, f.post("/token", poll).Body.String())
	assert.Equal(t, http.StatusServiceUnavailable, f.post("/device_authorization", "client_id=tv").Code)
	away = false
	f.issue = func(context.Context, *devicegrant.Grant) (*devicegrant.Token, error) {
		return nil, devicegrant.ErrTemporarilyUnavailable
	}
	assert.JSONEq(t, `{"error":"slow_down"}`, f.post("/token", poll).Body.String())
	f.issue = nil
	assert.Equal(t, http.StatusOK, f.post("/token", poll).Code)
}

func TestErrorDescriptionIsPrintable(t *testing.T) {
	f := newFixture(t, func(c *devicegrant.Config) {
		c.AuthenticateClient = func(context.Context, devicegrant.Credentials) (devicegrant.Client, error) {
			return devicegrant.Client{}, devicegrant.ErrInvalidClient.Describe("no \"such\"\nclíent\\").Because(errors.New("row 7"))
		}
	})
	w := f.post("/token", grantType+"&client_id=tv")
	assert.JSONEq(t, `{"error":"invalid_client","error_description":"no ?such??cl??ent?"}`, w.Body.String())
}

func TestVerificationURIWithQuery(t *testing.T) {
	f := newFixture(t, func(c *devicegrant.Config) { c.VerificationURI = "https://example.com/device?tenant=a%26b" })
	a := f.authorize()
	assert.Equal(t, "https://example.com/device?tenant=a%26b&user_code="+a.UserCode, a.VerificationURIComplete)
}

func TestMetadata(t *testing.T) {
	f := newFixture(t, nil)
	doc := map[string]any{"issuer": "https://example.com", "grant_types_supported": []any{"refresh_token"}}
	merged := f.Metadata(doc)
	assert.Equal(t, map[string]any{
		"issuer":                        "https://example.com",
		"device_authorization_endpoint": "https://example.com/device_authorization",
		"grant_types_supported":         []string{"refresh_token", devicegrant.GrantType},
	}, merged)
	assert.Equal(t, []any{"refresh_token"}, doc["grant_types_supported"], "the host's document is left alone")
	f = newFixture(t, func(c *devicegrant.Config) { c.DeviceAuthorizationEndpoint = "" })
	assert.NotContains(t, f.Metadata(nil), "device_authorization_endpoint")
	assert.Equal(t, []string{devicegrant.GrantType}, f.Metadata(nil)["grant_types_supported"])
	for name, tt := range map[string]struct {
		doc  map[string]any
		want []string
	}{
		"a list":             {map[string]any{"grant_types_supported": []string{"a"}}, []string{"a", devicegrant.GrantType}},
		"already in it":      {map[string]any{"grant_types_supported": []string{devicegrant.GrantType, "a"}}, []string{devicegrant.GrantType, "a"}},
		"RFC 8414's default": {map[string]any{"issuer": "x"}, []string{"authorization_code", "implicit", devicegrant.GrantType}},
		"another type":       {map[string]any{"grant_types_supported": []devicegrant.AuthMethod{"a"}}, []string{"a", devicegrant.GrantType}},
		"a mixed list":       {map[string]any{"grant_types_supported": []any{"a", 1, nil}}, []string{"a", devicegrant.GrantType}},
		"no list":            {map[string]any{"grant_types_supported": "a"}, []string{devicegrant.GrantType}},
	} {
		assert.Equal(t, tt.want, f.Metadata(tt.doc)["grant_types_supported"], name)
	}
}

func TestClientCredentials(t *testing.T) {
	r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader("client_id=a&client_assertion=x"))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	require.NoError(t, r.ParseForm())
	c, err := devicegrant.ClientCredentials(r)
	require.NoError(t, err)
	assert.Equal(t, "a", c.ID)
	assert.Equal(t, devicegrant.AuthNone, c.Method)
	assert.Equal(t, "x", c.Parameter("client_assertion"))
	assert.Same(t, r, c.Request)
}

// Both parts of Basic are form-encoded inside (RFC 6749 section 2.3.1).
func TestClientCredentialsBasic(t *testing.T) {
	r := httptest.NewRequest(http.MethodPost, "/", nil)
	r.Header.Set("Authorization", "bASIC "+base64.StdEncoding.EncodeToString([]byte("my+%2F%3A+client:se%3Acret%20+")))
	c, err := devicegrant.ClientCredentials(r)
	require.NoError(t, err)
	assert.Equal(t, "my /: client", c.ID)
	assert.Equal(t, "se:cret  ", c.Secret)
	assert.Equal(t, devicegrant.AuthBasic, c.Method)
}
