package integration

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/oauth2"
)

// hosts are the programs that embed the device grant in an authorization server which
// exists without it.
var hosts = []string{"zitadel", "fosite", "gooauth2", "stdlib"}

func TestHosts(t *testing.T) {
	t.Parallel()
	for _, name := range hosts {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := startHost(t, name)
			t.Run("login", func(t *testing.T) {
				for name, c := range map[string]oauth2Client{"explicit": hostClient, "auto-detected": oauth2Clients["tv auto-detected"]} {
					t.Run(name, func(t *testing.T) {
						t.Parallel()
						h.requireLogin(t, c)
					})
				}
			})
			t.Run("deny", func(t *testing.T) { h.requireDenied(t) })
			t.Run("race", func(t *testing.T) { h.requireOneToken(t) })
			t.Run("clients", func(t *testing.T) { h.requireClients(t) })
		})
	}
}

// hostClient is the public client that every host has.
var hostClient = oauth2Clients["tv in parameters"]

// host is one of them that runs. What is known of it is what its metadata says.
type host struct {
	*authServer
	metadata hostMetadata
}

// hostMetadata is what is used of a host's metadata (RFC 8414 section 2).
type hostMetadata struct {
	Issuer              string
	Token               string   `json:"token_endpoint"`
	DeviceAuthorization string   `json:"device_authorization_endpoint"`
	Userinfo            string   `json:"userinfo_endpoint"`
	Introspection       string   `json:"introspection_endpoint"`
	GrantTypes          []string `json:"grant_types_supported"`
}

func startHost(t *testing.T, program string) *host {
	t.Helper()
	h := &host{authServer: startServer(t, program, "-interval", "1s")}
	r, err := http.NewRequest(http.MethodGet, h.origin+"/.well-known/oauth-authorization-server", nil)
	require.NoError(t, err)
	a := h.ask(t, r)
	require.Equal(t, http.StatusOK, a.status, a.raw)
	require.NoError(t, json.Unmarshal([]byte(a.raw), &h.metadata), a.raw)
	require.Equal(t, h.origin, h.metadata.Issuer)
	require.Subset(t, h.metadata.GrantTypes, []string{grantType, "refresh_token"})
	require.NotEmpty(t, h.metadata.Userinfo+h.metadata.Introspection)
	return h
}

// ask sends a request and reads the answer, which is JSON as the host writes it.
func (h *host) ask(t *testing.T, r *http.Request) answer {
	t.Helper()
	resp, err := h.client.Do(r.WithContext(t.Context()))
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	require.NoError(t, err)
	a := answer{status: resp.StatusCode, header: resp.Header, raw: string(body)}
	require.NoError(t, json.Unmarshal(body, &a), "%d %s", a.status, body)
	return a
}

// form is a request for an endpoint, with parameters given as name, value, name, value.
func (h *host) form(t *testing.T, endpoint string, parameters ...string) *http.Request {
	t.Helper()
	path, ok := strings.CutPrefix(endpoint, h.origin)
	require.True(t, ok, "%q is not at %s", endpoint, h.origin)
	return h.postRequest(t, path, encode(parameters...))
}

func (h *host) authorize(t *testing.T) answer {
	t.Helper()
	a := h.ask(t, h.form(t, h.metadata.DeviceAuthorization, "client_id", "tv", "scope", "openid profile offline_access"))
	require.Equal(t, http.StatusOK, a.status, a.raw)
	return a
}

func (h *host) pollRequest(t *testing.T, deviceCode string) *http.Request {
	t.Helper()
	return h.form(t, h.metadata.Token, "grant_type", grantType, "client_id", "tv", "device_code", deviceCode)
}

// requireOpens checks that an access token is alice's, by the host's userinfo, or by its
// introspection if it has none.
func (h *host) requireOpens(t *testing.T, accessToken string) {
	t.Helper()
	if h.metadata.Userinfo == "" {
		h.requireActive(t, accessToken)
		return
	}
	r, err := http.NewRequest(http.MethodGet, h.metadata.Userinfo, nil)
	require.NoError(t, err)
	r.Header.Set("Authorization", "Bearer "+accessToken)
	a := h.ask(t, r)
	require.Equal(t, http.StatusOK, a.status, a.raw)
	require.Equal(t, "alice", a.Sub, a.raw)
}

// requireActive asks as the website, which stands for a resource server (RFC 7662).
func (h *host) requireActive(t *testing.T, accessToken string) {
	t.Helper()
	r := h.form(t, h.metadata.Introspection, "token", accessToken)
	r.SetBasicAuth("web", "web-secret")
	a := h.ask(t, r)
	var token struct{ Active bool }
	require.NoError(t, json.Unmarshal([]byte(a.raw), &token))
	require.True(t, token.Active, a.raw)
	require.Equal(t, "alice", a.Sub, a.raw)
}

func (h *host) newDevice(t *testing.T, c oauth2Client) *device {
	t.Helper()
	config := oauth2Config(h.origin, c)
	config.Endpoint.DeviceAuthURL, config.Endpoint.TokenURL = h.metadata.DeviceAuthorization, h.metadata.Token
	return newDeviceWith(t, config, c)
}

// requireLogin goes from code to token, and on with the refresh token.
func (h *host) requireLogin(t *testing.T, c oauth2Client) {
	t.Helper()
	d := h.newDevice(t, c)
	assert.EqualValues(t, 1, d.authorization.Interval)
	assert.Equal(t, h.origin+"/device", d.authorization.VerificationURI)
	result := d.poll(t, d.authorization)
	d.recorder.await(t, c.perPoll)
	newAlice(t).approve(t, d.shown())
	token := requireToken(t, result)
	h.requireOpens(t, token.AccessToken)

	refreshed, err := d.config.TokenSource(d.ctx, &oauth2.Token{RefreshToken: token.RefreshToken}).Token()
	require.NoError(t, err)
	assert.NotEqual(t, token.AccessToken, refreshed.AccessToken)
	h.requireOpens(t, refreshed.AccessToken)

	replay := h.ask(t, h.pollRequest(t, d.authorization.DeviceCode))
	assert.Equal(t, http.StatusBadRequest, replay.status)
	assert.Equal(t, "invalid_grant", replay.Error, replay.raw)
}

func (h *host) requireDenied(t *testing.T) {
	t.Helper()
	d := h.newDevice(t, hostClient)
	result := d.poll(t, d.authorization)
	d.recorder.await(t, 1)
	newAlice(t).deny(t, d.shown())
	requireCode(t, "access_denied", (<-result).err)
}

// requireOneToken checks that of many polls at once, one has the token.
func (h *host) requireOneToken(t *testing.T) {
	t.Helper()
	a := h.authorize(t)
	newAlice(t).approve(t, a)
	answers := make([]answer, 50)
	var all sync.WaitGroup
	start := make(chan struct{})
	for i := range answers {
		r := h.pollRequest(t, a.DeviceCode)
		all.Go(func() {
			<-start
			answers[i] = h.ask(t, r)
		})
	}
	close(start)
	all.Wait()
	var tokens []string
	for _, a := range answers {
		if a.AccessToken != "" {
			tokens = append(tokens, a.AccessToken)
			continue
		}
		assert.Contains(t, []string{"authorization_pending", "slow_down", "invalid_grant"}, a.Error, a.raw)
	}
	require.Len(t, tokens, 1)
	h.requireOpens(t, tokens[0])
	assert.Equal(t, "invalid_grant", h.ask(t, h.pollRequest(t, a.DeviceCode)).Error)
}

// requireClients checks that the grant is for clients who have it.
func (h *host) requireClients(t *testing.T) {
	t.Helper()
	unknown := h.form(t, h.metadata.DeviceAuthorization, "client_id", "nobody")
	assert.Equal(t, "invalid_client", h.ask(t, unknown).Error)
	web := h.form(t, h.metadata.DeviceAuthorization)
	web.SetBasicAuth("web", "web-secret")
	assert.Equal(t, "unauthorized_client", h.ask(t, web).Error)
}
