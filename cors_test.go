package devicegrant_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/devicegrant/devicegrant"
)

const (
	tvOrigin  = "https://tv.example.com"
	cliOrigin = "https://cli.example.com"
)

// webTVs is a fixture whose clients are web pages, each at an origin of its own.
func webTVs(t *testing.T) *fixture {
	origins := map[string]string{"tv": tvOrigin, "cli": cliOrigin}
	return newFixture(t, func(c *devicegrant.Config) {
		c.AllowedOrigin = func(_ context.Context, origin string) bool {
			return slices.Contains([]string{tvOrigin, cliOrigin}, origin)
		}
		c.AuthenticateClient = func(ctx context.Context, credentials devicegrant.Credentials) (devicegrant.Client, error) {
			client, err := authenticateClient(ctx, credentials)
			client.Origins = []string{origins[client.ID]}
			return client, err
		}
	})
}

func preflight(f *fixture, path, origin, method string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodOptions, path, nil)
	r.Header.Set("Origin", origin)
	r.Header.Set("Access-Control-Request-Method", method)
	r.Header.Set("Access-Control-Request-Headers", "content-type,dpop")
	return f.do(r)
}

func TestPreflight(t *testing.T) {
	for name, tt := range map[string]struct {
		off            bool
		origin, method string
		allowed        bool
	}{
		"a client's origin":    {origin: tvOrigin, method: "POST", allowed: true},
		"another's":            {origin: cliOrigin, method: "POST", allowed: true},
		"nobody's":             {origin: "https://evil.example.com", method: "POST"},
		"part of one":          {origin: "https://tv.example.co", method: "POST"},
		"by plain http":        {origin: "http://tv.example.com", method: "POST"},
		"with a port":          {origin: tvOrigin + ":8443", method: "POST"},
		"null":                 {origin: "null", method: "POST"},
		"none":                 {origin: "", method: "POST"},
		"for another method":   {origin: tvOrigin, method: "DELETE"},
		"with CORS off":        {off: true, origin: tvOrigin, method: "POST"},
		"that is no preflight": {origin: tvOrigin, method: ""},
	} {
		for _, path := range []string{"/device_authorization", "/token"} {
			t.Run(name+path, func(t *testing.T) {
				f := webTVs(t)
				if tt.off {
					f = newFixture(t, nil)
				}
				w := preflight(f, path, tt.origin, tt.method)
				if !tt.allowed {
					assert.Equal(t, http.StatusMethodNotAllowed, w.Code)
					assert.Empty(t, w.Header().Get("Access-Control-Allow-Origin"))
					assert.Empty(t, w.Header().Get("Access-Control-Allow-Methods"))
					return
				}
				assert.Equal(t, http.StatusNoContent, w.Code)
				assert.Equal(t, tt.origin, w.Header().Get("Access-Control-Allow-Origin"))
				assert.Equal(t, "POST", w.Header().Get("Access-Control-Allow-Methods"))
				assert.Equal(t, "Authorization, Content-Type, DPoP", w.Header().Get("Access-Control-Allow-Headers"))
				assert.Equal(t, "600", w.Header().Get("Access-Control-Max-Age"))
				assert.Equal(t, []string{"Origin"}, w.Header().Values("Vary"))
				assert.Empty(t, w.Header().Get("Access-Control-Allow-Credentials"))
				assert.Empty(t, w.Body.String())
			})
		}
	}
}

// Who may read which answers.
func TestSharedAnswers(t *testing.T) {
	for name, tt := range map[string]struct {
		body, origin string
		shared       bool
	}{
		"the client's own origin":           {"client_id=tv", tvOrigin, true},
		"another client's":                  {"client_id=tv", cliOrigin, false},
		"nobody's":                          {"client_id=tv", "https://evil.example.com", false},
		"none":                              {"client_id=tv", "", false},
		"an unknown client, some origin":    {"client_id=nobody", tvOrigin, true},
		"an unknown client, nobody's":       {"client_id=nobody", "https://evil.example.com", false},
		"a malformed request, some origin":  {"client_id=tv&client_id=tv", tvOrigin, true},
		"a malformed request, nobody's":     {"client_id=tv&client_id=tv", "null", false},
		"a refused request, its own origin": {"client_id=tv&scope=admin", tvOrigin, true},
		"a refused request, another's":      {"client_id=tv&scope=admin", cliOrigin, false},
	} {
		for path, body := range map[string]string{
			"/device_authorization": tt.body,
			"/token":                grantType + "&device_code=x&" + tt.body,
		} {
			t.Run(name+path, func(t *testing.T) {
				w := webTVs(t).post(path, body, "Origin", tt.origin)
				assert.Equal(t, []string{"Origin"}, w.Header().Values("Vary"))
				if !tt.shared {
					assert.Empty(t, w.Header().Get("Access-Control-Allow-Origin"))
					assert.Empty(t, w.Header().Get("Access-Control-Expose-Headers"))
					return
				}
				assert.Equal(t, tt.origin, w.Header().Get("Access-Control-Allow-Origin"))
				assert.Equal(t, "DPoP-Nonce, Retry-After, WWW-Authenticate", w.Header().Get("Access-Control-Expose-Headers"))
			})
		}
	}
	w := newFixture(t, nil).post("/device_authorization", "client_id=tv", "Origin", tvOrigin)
	assert.Empty(t, w.Header().Values("Vary"), "off")
}

// What is not for the device grant is the host's to share.
func TestHostSharesItsOwn(t *testing.T) {
	f := webTVs(t)
	host := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })
	handler := f.TokenHandler(host)
	for _, r := range []*http.Request{
		httptest.NewRequest(http.MethodOptions, "/token", nil),
		httptest.NewRequest(http.MethodPost, "/token", nil),
	} {
		r.Header.Set("Origin", "https://spa.example.com")
		r.Header.Set("Access-Control-Request-Method", "POST")
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		require.Equal(t, http.StatusTeapot, w.Code)
		assert.Empty(t, w.Header().Get("Access-Control-Allow-Origin"))
	}
}
