package deviceclient_test

import (
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/devicegrant/devicegrant/deviceclient"
)

const (
	origin = "https://example.com"

	// What a server answers.
	authorized = `{"device_code":"secret-device-code","user_code":"WDJB-MJHT","verification_uri":"https://example.com/device",
		"verification_uri_complete":"https://example.com/device?user_code=WDJB-MJHT","expires_in":60,"interval":5}`
	issued   = `{"access_token":"secret-access","token_type":"Bearer","refresh_token":"secret-refresh","expires_in":3600,"id_token":"secret-id"}`
	pending  = `{"error":"authorization_pending"}`
	slowDown = `{"error":"slow_down"}`
	denied   = `{"error":"access_denied"}`
	expired  = `{"error":"expired_token"}`
	metadata = `{"issuer":"https://example.com","device_authorization_endpoint":"https://example.com/device_authorization",
		"token_endpoint":"https://example.com/token"}`
)

// answer is what a server does with a request.
type answer func(*http.Request) (*http.Response, error)

// says answers with a status, a body and headers, given as name, value, name, value.
func says(status int, body string, headers ...string) answer {
	return func(r *http.Request) (*http.Response, error) {
		return reply(r, status, strings.NewReader(body), headers...)
	}
}

func reply(r *http.Request, status int, body io.Reader, headers ...string) (*http.Response, error) {
	h := http.Header{"Content-Type": {"application/json"}}
	for i := 0; i < len(headers); i += 2 {
		h.Set(headers[i], headers[i+1])
	}
	return &http.Response{StatusCode: status, Header: h, Body: io.NopCloser(body), Request: r}, nil
}

// refuses answers with an error of the protocol.
func refuses(body string, headers ...string) answer {
	return says(http.StatusBadRequest, body, headers...)
}

// hangs never answers.
func hangs(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}

// server answers requests to each path in turn, and the last of its answers for ever. It
// keeps what it was sent, and when.
type server struct {
	mu       sync.Mutex
	answers  map[string][]answer
	requests []request
}

type request struct {
	at     time.Time
	method string
	url    string
	header http.Header
	form   url.Values
}

// serving returns a server with what it answers to a token request.
func serving(polls ...answer) *server {
	return &server{answers: map[string][]answer{
		"/.well-known/oauth-authorization-server": {says(http.StatusOK, metadata)},
		"/device_authorization":                   {says(http.StatusOK, authorized)},
		"/token":                                  polls,
	}}
}

func (s *server) RoundTrip(r *http.Request) (*http.Response, error) {
	kept := request{at: time.Now(), method: r.Method, url: r.URL.String(), header: r.Header}
	if r.Body != nil {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		r.Body.Close()
		if kept.form, err = url.ParseQuery(string(body)); err != nil {
			return nil, err
		}
	}
	s.mu.Lock()
	s.requests = append(s.requests, kept)
	answers := s.answers[r.URL.Path]
	if len(answers) > 1 {
		s.answers[r.URL.Path] = answers[1:]
	}
	s.mu.Unlock()
	if len(answers) == 0 {
		return reply(r, http.StatusNotFound, strings.NewReader("<h1>Not found</h1>"), "Content-Type", "text/html")
	}
	return answers[0](r)
}

// to returns the requests to a path.
func (s *server) to(path string) (found []request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.requests {
		if u, err := url.Parse(r.url); err == nil && u.Path == path {
			found = append(found, r)
		}
	}
	return found
}

// gaps returns how long after began the first poll came, and how long after each the next.
func (s *server) gaps(began time.Time) (gaps []time.Duration) {
	for _, r := range s.to("/token") {
		gaps = append(gaps, r.at.Sub(began))
		began = r.at
	}
	return gaps
}

// config is that of a client of the server.
func (s *server) config() deviceclient.Config {
	return deviceclient.Config{ClientID: "tv", Issuer: origin, HTTPClient: &http.Client{Transport: s}}
}

func (s *server) client(t testing.TB) *deviceclient.Client {
	return newClient(t, s.config())
}

func newClient(t testing.TB, cfg deviceclient.Config) *deviceclient.Client {
	t.Helper()
	c, err := deviceclient.New(cfg)
	require.NoError(t, err)
	return c
}

// start gets codes.
func start(t testing.TB, c *deviceclient.Client) *deviceclient.Authorization {
	t.Helper()
	a, err := c.Start(t.Context())
	require.NoError(t, err)
	return a
}
