package integration

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// wireCase is one request and its answer. DEVICE_CODE and REFRESH_TOKEN in the body
// stand for those of the public client.
type wireCase struct {
	name           string
	method         string // empty: POST
	contentType    string // empty: a form
	user, password string // of a Basic header, which is sent if one is set
	body           string

	status    int
	err       string
	challenge bool // there is a WWW-Authenticate
}

const (
	asDevice   = "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Adevice_code"
	poll       = asDevice + "&client_id=tv&device_code=DEVICE_CODE"
	cliPoll    = asDevice + "&device_code=DEVICE_CODE"
	asRefresh  = "grant_type=refresh_token"
	rightScope = "openid%20profile"
)

var tooLong = strings.Repeat("x", 64<<10)

var deviceAuthorizationCases = []wireCase{
	{name: "public client", body: "client_id=tv", status: 200},
	{name: "scope", body: "client_id=tv&scope=" + rightScope, status: 200},
	{name: "empty scope", body: "client_id=tv&scope=", status: 200},
	{name: "unknown parameter", body: "client_id=tv&colour=green", status: 200},
	{name: "Basic", user: "cli", password: "cli-secret", status: 200},
	{name: "Basic with client_id", user: "cli", password: "cli-secret", body: "client_id=cli", status: 200},
	{name: "Basic without a secret", user: "tv", body: "client_id=tv", status: 200},
	{name: "secret in the body", body: "client_id=cli&client_secret=cli-secret", status: 200},
	{name: "GET", method: http.MethodGet, status: 405, err: "invalid_request"},
	{name: "JSON", contentType: "application/json", body: `{"client_id":"tv"}`, status: 400, err: "invalid_request"},
	{name: "too large", body: "client_id=tv&x=" + tooLong, status: 400, err: "invalid_request"},
	{name: "parameter twice", body: "client_id=tv&client_id=tv", status: 400, err: "invalid_request"},
	{name: "no client", status: 400, err: "invalid_request"},
	{name: "empty client", body: "client_id=", status: 400, err: "invalid_request"},
	{name: "two clients", user: "cli", password: "cli-secret", body: "client_id=tv", status: 400, err: "invalid_request"},
	{name: "unknown client", body: "client_id=toaster", status: 401, err: "invalid_client"},
	{name: "unknown client by Basic", user: "toaster", password: "x", status: 401, err: "invalid_client", challenge: true},
	{name: "wrong secret", body: "client_id=cli&client_secret=guess", status: 401, err: "invalid_client"},
	{name: "wrong secret by Basic", user: "cli", password: "guess", status: 401, err: "invalid_client", challenge: true},
	{name: "no secret", body: "client_id=cli", status: 401, err: "invalid_client"},
	{name: "client without the grant", user: "web", password: "web-secret", status: 400, err: "unauthorized_client"},
	{name: "wrong scope", body: "client_id=tv&scope=openid%20admin", status: 400, err: "invalid_scope"},
}

var tokenCases = []wireCase{
	{name: "pending", body: poll, status: 400, err: "authorization_pending"},
	{name: "unknown parameter", body: poll + "&colour=green", status: 400, err: "authorization_pending"},
	{name: "empty parameter", body: poll + "&client_secret=", status: 400, err: "authorization_pending"},
	{name: "Basic without a secret", user: "tv", body: poll, status: 400, err: "authorization_pending"},
	{name: "GET", method: http.MethodGet, status: 405, err: "invalid_request"},
	{name: "JSON", contentType: "application/json", body: `{"client_id":"tv"}`, status: 400, err: "invalid_request"},
	{name: "too large", body: poll + "&x=" + tooLong, status: 400, err: "invalid_request"},
	{name: "too large, another grant", body: asRefresh + "&x=" + tooLong, status: 400, err: "invalid_request"},
	{name: "parameter twice", body: poll + "&device_code=DEVICE_CODE", status: 400, err: "invalid_request"},
	{name: "no grant type", body: "client_id=tv", status: 400, err: "invalid_request"},
	{name: "unknown grant type", body: "client_id=tv&grant_type=password", status: 400, err: "unsupported_grant_type"},
	{name: "no client", body: cliPoll, status: 400, err: "invalid_request"},
	{name: "no device code", body: asDevice + "&client_id=tv", status: 400, err: "invalid_request"},
	{name: "empty device code", body: asDevice + "&client_id=tv&device_code=", status: 400, err: "invalid_request"},
	{name: "unknown client", body: cliPoll + "&client_id=toaster", status: 401, err: "invalid_client"},
	{name: "unknown client by Basic", user: "toaster", password: "x", body: cliPoll, status: 401, err: "invalid_client", challenge: true},
	{name: "another client's code by Basic", user: "cli", password: "cli-secret", body: cliPoll, status: 400, err: "invalid_grant"},
	{name: "another client's code", body: cliPoll + "&client_id=cli&client_secret=cli-secret", status: 400, err: "invalid_grant"},
	{name: "made-up code", body: asDevice + "&client_id=tv&device_code=made-up", status: 400, err: "invalid_grant"},
	{name: "client without the grant", user: "web", password: "web-secret", body: cliPoll, status: 400, err: "unauthorized_client"},
	{name: "refresh by another client", user: "cli", password: "cli-secret", body: asRefresh + "&refresh_token=REFRESH_TOKEN", status: 400, err: "invalid_grant"},
	{name: "refresh without client", body: asRefresh + "&refresh_token=REFRESH_TOKEN", status: 400, err: "invalid_request"},
	{name: "refresh with a made-up token", body: asRefresh + "&client_id=tv&refresh_token=made-up", status: 400, err: "invalid_grant"},
}

func TestWire(t *testing.T) {
	t.Parallel()
	server := startAuthServer(t)
	refreshToken := login(t, server).RefreshToken
	for path, cases := range map[string][]wireCase{"/device_authorization": deviceAuthorizationCases, "/token": tokenCases} {
		for _, c := range cases {
			t.Run(path+" "+c.name, func(t *testing.T) {
				deviceCode := ""
				if strings.Contains(c.body, "DEVICE_CODE") {
					deviceCode = server.authorize(t).DeviceCode
				}
				c.body = strings.NewReplacer("DEVICE_CODE", deviceCode, "REFRESH_TOKEN", refreshToken).Replace(c.body)
				c.check(t, server, path)
			})
		}
	}
	assert.Equal(t, http.StatusOK, server.refresh(t, "tv", refreshToken).status, "nothing above used it up")
}

func (c wireCase) check(t *testing.T, s *authServer, path string) {
	t.Helper()
	r := s.postRequest(t, path, c.body)
	if c.method != "" {
		r.Method = c.method
	}
	if c.contentType != "" {
		r.Header.Set("Content-Type", c.contentType)
	}
	if c.user != "" {
		r.SetBasicAuth(c.user, c.password)
	}
	a := s.do(t, r)
	assert.Equal(t, c.status, a.status, a.raw)
	assert.Equal(t, c.err, a.Error)
	assert.Equal(t, c.challenge, a.header.Get("WWW-Authenticate") != "", "WWW-Authenticate: %s", a.header.Get("WWW-Authenticate"))
	if c.status == http.StatusMethodNotAllowed {
		assert.Equal(t, http.MethodPost, a.header.Get("Allow"))
	}
}

// login goes through a whole login of the public client, as alice.
func login(t *testing.T, s *authServer) answer {
	t.Helper()
	a := s.authorize(t)
	newAlice(t).approve(t, a)
	token := s.poll(t, a.DeviceCode)
	require.Equal(t, http.StatusOK, token.status, token.raw)
	require.Equal(t, "alice", s.userinfo(t, token.AccessToken).Sub)
	return token
}

// A code that comes again at once, as when a request was sent twice, gets nothing
// and takes nothing away. (Later it would: package demo tests that.)
func TestReplayAtOnce(t *testing.T) {
	t.Parallel()
	server := startAuthServer(t)
	a := server.authorize(t)
	newAlice(t).approve(t, a)
	token := server.poll(t, a.DeviceCode)
	require.Equal(t, http.StatusOK, token.status, token.raw)
	assert.Equal(t, "invalid_grant", server.poll(t, a.DeviceCode).Error)
	requireGood(t, server, token)
}

// requireGood checks that a token response opens userinfo and can be refreshed.
func requireGood(t *testing.T, s *authServer, token answer) {
	t.Helper()
	assert.Equal(t, "alice", s.userinfo(t, token.AccessToken).Sub)
	refreshed := s.refresh(t, "tv", token.RefreshToken)
	require.Equal(t, http.StatusOK, refreshed.status, refreshed.raw)
}

func TestConcurrentPollsOneToken(t *testing.T) {
	t.Parallel()
	const polls = 50
	server := startAuthServer(t)
	a := server.authorize(t)
	newAlice(t).approve(t, a)
	var (
		wg      sync.WaitGroup
		gate    = make(chan struct{})
		answers [polls]answer
	)
	for i := range polls {
		wg.Go(func() {
			<-gate
			answers[i] = server.poll(t, a.DeviceCode)
		})
	}
	close(gate)
	wg.Wait()
	outcomes := map[string]int{}
	for _, got := range answers {
		outcomes[got.Error]++
		if got.status == http.StatusOK {
			requireGood(t, server, got)
		}
	}
	assert.Equal(t, 1, outcomes[""], outcomes)
	for code := range outcomes {
		assert.Contains(t, []string{"", "authorization_pending", "invalid_grant"}, code)
	}
}

func TestMetadata(t *testing.T) {
	t.Parallel()
	server := startAuthServer(t)
	resp, err := server.client.Get(server.origin + "/.well-known/oauth-authorization-server")
	require.NoError(t, err)
	defer resp.Body.Close()
	require.Equal(t, http.StatusOK, resp.StatusCode)
	require.Equal(t, "application/json", resp.Header.Get("Content-Type"))
	var doc map[string]any
	require.NoError(t, json.NewDecoder(resp.Body).Decode(&doc))

	assert.Equal(t, server.origin, doc["issuer"])
	assert.ElementsMatch(t, []any{grantType, "refresh_token"}, doc["grant_types_supported"])
	assert.ElementsMatch(t, []any{"openid", "profile", "offline_access"}, doc["scopes_supported"])
	want := map[string]int{ // What each endpoint answers to an empty form.
		"device_authorization_endpoint": http.StatusBadRequest,
		"token_endpoint":                http.StatusBadRequest,
		"userinfo_endpoint":             http.StatusUnauthorized,
	}
	for _, name := range slices.Sorted(maps.Keys(doc)) {
		if strings.HasSuffix(name, "_endpoint") {
			require.Contains(t, want, name)
			path, ok := strings.CutPrefix(doc[name].(string), server.origin)
			require.True(t, ok, "%s is %s", name, doc[name])
			assert.Equal(t, want[name], server.post(t, path).status, name)
			delete(want, name)
		}
	}
	assert.Empty(t, want, "endpoints that the metadata do not name")
}
