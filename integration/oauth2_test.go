package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/oauth2"
)

// pendingPolls is how often a device of these tests polls before anybody decides.
const pendingPolls = 4

// oauth2Client is a way to use golang.org/x/oauth2 for this grant.
//
// Its DeviceAuth sends the client_id and nothing else to authenticate with, so a
// confidential client has to add its secret: as a parameter of the call, or as a
// header that a RoundTripper sets.
type oauth2Client struct {
	id, secret string
	style      oauth2.AuthStyle
	options    []oauth2.AuthCodeOption // of DeviceAuth
	header     bool                    // DeviceAuth is given a Basic header
	perPoll    int                     // requests that one poll makes
}

var oauth2Clients = map[string]oauth2Client{
	"tv in parameters":     {id: "tv", style: oauth2.AuthStyleInParams, perPoll: 1},
	"tv auto-detected":     {id: "tv", style: oauth2.AuthStyleAutoDetect, perPoll: 2},
	"cli in the header":    {id: "cli", secret: "cli-secret", style: oauth2.AuthStyleInHeader, header: true, perPoll: 1},
	"cli auto-detected":    {id: "cli", secret: "cli-secret", style: oauth2.AuthStyleAutoDetect, options: secretParameter, perPoll: 2},
	"cli, both their ways": {id: "cli", secret: "cli-secret", style: oauth2.AuthStyleInParams, options: secretParameter, perPoll: 1},
}

var secretParameter = []oauth2.AuthCodeOption{oauth2.SetAuthURLParam("client_secret", "cli-secret")}

func TestOAuth2Login(t *testing.T) { // Not beside tests that keep the machine busy.
	server := startAuthServer(t, "-interval", "1s")
	for name, c := range oauth2Clients {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDevice(t, server.origin, c)
			assert.EqualValues(t, 1, d.authorization.Interval)
			result := d.poll(t, d.authorization)
			d.recorder.await(t, pendingPolls*c.perPoll)
			newAlice(t).approve(t, d.shown())
			token := requireToken(t, result)

			d.requirePolls(t)
			assert.Equal(t, "alice", server.userinfo(t, token.AccessToken).Sub)
			assert.Equal(t, "openid profile offline_access", token.Extra("scope"))
			requireRefresh(t, server, d, token)
		})
	}
}

func TestOAuth2ConfidentialClientNeedsItsSecret(t *testing.T) {
	t.Parallel()
	server := startAuthServer(t)
	config := oauth2Config(server.origin, oauth2Client{id: "cli", secret: "cli-secret"})
	_, err := config.DeviceAuth(t.Context())
	requireCode(t, "invalid_client", err)
}

// Without expires_in the client has no deadline, and the server has the last word.
func TestOAuth2Expired(t *testing.T) {
	t.Parallel()
	server := startAuthServer(t, "-interval", "1s", "-lifetime", "3s")
	d := newDevice(t, server.origin, oauth2Clients["tv auto-detected"])
	endless := *d.authorization
	endless.Expiry = time.Time{}
	requireCode(t, "expired_token", (<-d.poll(t, &endless)).err)
}

// device is a client in the middle of a login.
type device struct {
	oauth2Client
	ctx           context.Context
	config        *oauth2.Config
	recorder      *recorder
	authorization *oauth2.DeviceAuthResponse
}

// oauth2Config is for a server whose endpoints are at origin.
func oauth2Config(origin string, c oauth2Client) *oauth2.Config {
	return &oauth2.Config{
		ClientID:     c.id,
		ClientSecret: c.secret,
		Scopes:       []string{"openid", "profile", "offline_access"},
		Endpoint: oauth2.Endpoint{
			DeviceAuthURL: origin + "/device_authorization",
			TokenURL:      origin + "/token",
			AuthStyle:     c.style,
		},
	}
}

func newDevice(t *testing.T, origin string, c oauth2Client) *device {
	t.Helper()
	return newDeviceWith(t, oauth2Config(origin, c), c)
}

// newDeviceWith does so at the endpoints of a Config.
func newDeviceWith(t *testing.T, config *oauth2.Config, c oauth2Client) *device {
	t.Helper()
	client := newClient(t)
	d := &device{oauth2Client: c, config: config, recorder: newRecorder(client.Transport)}
	client.Transport = d.recorder
	if c.header {
		client.Transport = deviceAuthHeader{d.recorder, c}
	}
	d.ctx = context.WithValue(t.Context(), oauth2.HTTPClient, client)
	var err error
	d.authorization, err = d.config.DeviceAuth(d.ctx, c.options...)
	require.NoError(t, err)
	return d
}

// shown is what the device shows.
func (d *device) shown() answer {
	return answer{UserCode: d.authorization.UserCode, VerificationURI: d.authorization.VerificationURI}
}

type pollResult struct {
	token *oauth2.Token
	err   error
}

// poll polls until there is a result.
func (d *device) poll(t *testing.T, a *oauth2.DeviceAuthResponse) <-chan pollResult {
	t.Helper()
	ctx, cancel := context.WithTimeout(d.ctx, patience)
	t.Cleanup(cancel)
	result := make(chan pollResult, 1)
	go func() {
		token, err := d.config.DeviceAccessToken(ctx, a)
		result <- pollResult{token, err}
	}()
	return result
}

// requirePolls checks that every answer but the last was authorization_pending, and that
// an auto-detecting client has tried both styles each time.
func (d *device) requirePolls(t *testing.T) {
	t.Helper()
	seen := d.recorder.all()
	require.GreaterOrEqual(t, len(seen), pendingPolls*d.perPoll+1)
	requirePolls(t, seen, d.perPoll, "authorization_pending")
	for i, a := range seen {
		if d.perPoll == 2 {
			assert.Equal(t, i%2 == 0, a.basic, "answer %d of %v", i+1, seen)
		}
	}
}

// requirePolls checks how the first poll was answered. Those that follow are pending, up to
// the last, which got the token. Of a poll that is sent twice, the first request counts: on
// a busy machine, the second may come late, and be an early poll of its own.
func requirePolls(t *testing.T, polls []recorded, perPoll int, first string) {
	t.Helper()
	require.Greater(t, len(polls), perPoll, polls)
	want := first
	for i := 0; i < len(polls)-1; i += perPoll {
		require.Equal(t, want, polls[i].code, "answer %d of %v", i+1, polls)
		want = "authorization_pending"
	}
	require.Empty(t, polls[len(polls)-1].code, polls)
}

func requireToken(t *testing.T, result <-chan pollResult) *oauth2.Token {
	t.Helper()
	r := <-result
	require.NoError(t, r.err)
	require.Equal(t, "Bearer", r.token.TokenType)
	require.NotEmpty(t, r.token.RefreshToken)
	return r.token
}

// requireRefresh refreshes with the Config of the login, which remembers the style
// that worked: for a public client that may be Basic without a secret, and then it
// names itself nowhere else.
func requireRefresh(t *testing.T, s *authServer, d *device, token *oauth2.Token) {
	t.Helper()
	source := d.config.TokenSource(d.ctx, &oauth2.Token{RefreshToken: token.RefreshToken})
	refreshed, err := source.Token()
	require.NoError(t, err)
	assert.NotEqual(t, token.AccessToken, refreshed.AccessToken)
	assert.NotEqual(t, token.RefreshToken, refreshed.RefreshToken)
	assert.Equal(t, "alice", s.userinfo(t, refreshed.AccessToken).Sub)
}

func requireCode(t *testing.T, code string, err error) {
	t.Helper()
	var refused *oauth2.RetrieveError
	require.ErrorAs(t, err, &refused)
	require.Equal(t, code, refused.ErrorCode)
}

// deviceAuthHeader authenticates device authorization requests with a header.
type deviceAuthHeader struct {
	next   http.RoundTripper
	client oauth2Client
}

func (h deviceAuthHeader) RoundTrip(r *http.Request) (*http.Response, error) {
	if strings.HasSuffix(r.URL.Path, "/device_authorization") {
		r = r.Clone(r.Context())
		r.SetBasicAuth(h.client.id, h.client.secret)
	}
	return h.next.RoundTrip(r)
}

// recorder keeps what the token endpoint answers.
type recorder struct {
	next http.RoundTripper

	mu      sync.Mutex
	answers []recorded
	changed chan struct{} // closed by the next answer
}

type recorded struct {
	asked, answered time.Time
	basic           bool   // the request had a Basic header
	code            string // the error, empty for a token
}

func newRecorder(next http.RoundTripper) *recorder {
	return &recorder{next: next, changed: make(chan struct{})}
}

func (c *recorder) RoundTrip(r *http.Request) (*http.Response, error) {
	asked := time.Now()
	resp, err := c.next.RoundTrip(r)
	if err != nil || !strings.HasSuffix(r.URL.Path, "/token") {
		return resp, err
	}
	body, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil {
		return nil, err
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	var a struct{ Error string }
	if err := json.Unmarshal(body, &a); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	_, _, basic := r.BasicAuth()
	c.answers = append(c.answers, recorded{asked, time.Now(), basic, a.Error})
	close(c.changed)
	c.changed = make(chan struct{})
	return resp, nil
}

func (c *recorder) all() []recorded {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]recorded(nil), c.answers...)
}

// await waits for the nth answer.
func (c *recorder) await(t *testing.T, n int) {
	t.Helper()
	deadline := time.After(patience)
	for {
		c.mu.Lock()
		got, changed := len(c.answers), c.changed
		c.mu.Unlock()
		if got >= n {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			require.Failf(t, "too few polls", "%d of %d", got, n)
		}
	}
}
