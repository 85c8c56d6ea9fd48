package integration

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const (
	grantType = "urn:ietf:params:oauth:grant-type:device_code"
	formType  = "application/x-www-form-urlencoded"
)

// authServer is a running examples/authserver and a plain HTTP client.
type authServer struct {
	*process
	origin string
	client *http.Client
}

// startAuthServer starts a server of the test's own, which has to end cleanly.
func startAuthServer(t *testing.T, args ...string) *authServer {
	t.Helper()
	return startServer(t, "authserver", args...)
}

// startServer does so with any program that serves.
func startServer(t *testing.T, program string, args ...string) *authServer {
	t.Helper()
	p := start(t, program, append([]string{"-addr", "127.0.0.1:0"}, args...)...)
	t.Cleanup(func() {
		select {
		case <-p.ended:
		default:
			assert.Zero(t, p.stop(t, syscall.SIGTERM), "exit code")
		}
	})
	origin := p.printed(t, `(?m)^listening on (http://\S+)\n`)[1]
	return &authServer{p, origin, newClient(t)}
}

// newClient returns a client with connections of its own, which end with the test. A
// Client.Timeout would leak: golang.org/x/oauth2 does not close every body.
func newClient(t *testing.T) *http.Client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.ResponseHeaderTimeout = patience
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// answer is a JSON answer of any endpoint.
type answer struct {
	status int
	header http.Header
	raw    string

	Error                   string
	Interval                int
	DeviceCode              string `json:"device_code"`
	UserCode                string `json:"user_code"`
	VerificationURI         string `json:"verification_uri"`
	VerificationURIComplete string `json:"verification_uri_complete"`
	AccessToken             string `json:"access_token"`
	RefreshToken            string `json:"refresh_token"`
	Scope                   string
	Sub                     string
}

// do sends a request and reads the answer, which no cache may keep.
func (s *authServer) do(t *testing.T, r *http.Request) answer {
	t.Helper()
	resp, err := s.client.Do(r.WithContext(t.Context()))
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	a := answer{status: resp.StatusCode, header: resp.Header, raw: string(body)}
	require.NoError(t, json.Unmarshal(body, &a), "%s", body)
	assert.Equal(t, "application/json", resp.Header.Get("Content-Type"))
	assert.Equal(t, "no-store", resp.Header.Get("Cache-Control"))
	return a
}

// post sends parameters, given as name, value, name, value.
func (s *authServer) post(t *testing.T, path string, parameters ...string) answer {
	t.Helper()
	return s.do(t, s.postRequest(t, path, encode(parameters...)))
}

func (s *authServer) postRequest(t *testing.T, path, body string) *http.Request {
	t.Helper()
	r, err := http.NewRequest(http.MethodPost, s.origin+path, strings.NewReader(body))
	require.NoError(t, err)
	r.Header.Set("Content-Type", formType)
	return r
}

func encode(parameters ...string) string {
	values := url.Values{}
	for i := 0; i < len(parameters); i += 2 {
		values.Add(parameters[i], parameters[i+1])
	}
	return values.Encode()
}

// authorize starts an authorization of the public client, with every scope.
func (s *authServer) authorize(t *testing.T) answer {
	t.Helper()
	a := s.post(t, "/device_authorization", "client_id", "tv", "scope", "openid profile offline_access")
	require.Equal(t, http.StatusOK, a.status, a.raw)
	return a
}

// poll polls once for the public client.
func (s *authServer) poll(t *testing.T, deviceCode string) answer {
	t.Helper()
	return s.post(t, "/token", "grant_type", grantType, "client_id", "tv", "device_code", deviceCode)
}

func (s *authServer) refresh(t *testing.T, clientID, token string) answer {
	t.Helper()
	return s.post(t, "/token", "grant_type", "refresh_token", "client_id", clientID, "refresh_token", token)
}

func (s *authServer) userinfo(t *testing.T, accessToken string) answer {
	t.Helper()
	r, err := http.NewRequest(http.MethodGet, s.origin+"/userinfo", nil)
	require.NoError(t, err)
	r.Header.Set("Authorization", "Bearer "+accessToken)
	return s.do(t, r)
}
