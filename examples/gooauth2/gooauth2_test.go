package main

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-oauth2/oauth2/v4"
	"github.com/go-oauth2/oauth2/v4/store"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/devicegrant/devicegrant/examples/internal/hosttest"
)

// memory is shared by all tests: nothing ends the goroutine of such a store.
var memory = sync.OnceValues(store.NewMemoryTokenStore)

// failingStore fails to store tokens for a while.
type failingStore struct {
	oauth2.TokenStore
	failures int
}

var errStore = errors.New("the store is away")

func (s *failingStore) Create(ctx context.Context, info oauth2.TokenInfo) error {
	if s.failures > 0 {
		s.failures--
		return errStore
	}
	return s.TokenStore.Create(ctx, info)
}

func newTestHost(t *testing.T, failures int) hosttest.Host {
	t.Helper()
	tokens, err := memory()
	require.NoError(t, err)
	h, err := newHost(hosttest.Origin, &failingStore{tokens, failures}, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	mux := http.NewServeMux()
	h.routes(mux)
	_, err = addDeviceGrant(mux, h, 5*time.Second)
	require.NoError(t, err)
	return hosttest.Host{T: t, Handler: mux}
}

func TestLogin(t *testing.T) {
	h := newTestHost(t, 0)
	got, code := h.Login()
	assert.Equal(t, hosttest.Scopes, got.Scope)
	assert.Equal(t, 3600, got.ExpiresIn)
	assert.JSONEq(t, `{"sub":"alice","name":"Alice"}`, h.Get("/userinfo", got.AccessToken).Body)
	assert.Equal(t, "invalid_grant", h.Poll(code).Error)
	for _, wrong := range []string{"", "x", got.RefreshToken} {
		refused := h.Get("/userinfo", wrong)
		assert.Equal(t, http.StatusUnauthorized, refused.Status, wrong)
		assert.Equal(t, "invalid_token", refused.Error, wrong)
		assert.Contains(t, refused.Header.Get("WWW-Authenticate"), "Bearer")
	}
	inURL := h.Get("/userinfo?access_token="+got.AccessToken, "")
	assert.Equal(t, http.StatusUnauthorized, inURL.Status)
}

func TestDenied(t *testing.T) {
	h := newTestHost(t, 0)
	a := h.Authorize()
	require.Equal(t, "authorization_pending", h.Poll(a.DeviceCode).Error)
	h.Decide(a, "deny")
	assert.Equal(t, "access_denied", h.Poll(a.DeviceCode).Error)
}

// TestIssuingFails: the login goes on, and its next poll has the tokens.
func TestIssuingFails(t *testing.T) {
	h := newTestHost(t, 1)
	a := h.Authorize()
	h.Decide(a, "approve")
	failed := h.Poll(a.DeviceCode)
	assert.Contains(t, []string{"authorization_pending", "slow_down"}, failed.Error)
	assert.NotContains(t, failed.Body, errStore.Error())
	got := h.Poll(a.DeviceCode)
	require.Equal(t, http.StatusOK, got.Status, got.Body)
	assert.Equal(t, "alice", h.Get("/userinfo", got.AccessToken).Sub)
}

// TestRefresh: the library's token endpoint exchanges the refresh token, once, and for
// the client that it belongs to.
func TestRefresh(t *testing.T) {
	h := newTestHost(t, 0)
	got, _ := h.Login()
	assert.Equal(t, "invalid_client", h.Post("/token", "grant_type", "refresh_token",
		"client_id", "web", "client_secret", "wrong", "refresh_token", got.RefreshToken).Error)
	stolen := h.PostBasic("web", "web-secret", "/token", "grant_type", "refresh_token", "refresh_token", got.RefreshToken)
	assert.Equal(t, "invalid_grant", stolen.Error)
	assert.Equal(t, http.StatusBadRequest, stolen.Status)
	more := h.Post("/token", "grant_type", "refresh_token", "client_id", "tv", "refresh_token", got.RefreshToken, "scope", "openid admin")
	assert.Equal(t, "invalid_scope", more.Error)
	inURL := h.Post("/token?grant_type=refresh_token&client_id=tv&refresh_token=" + got.RefreshToken)
	assert.Equal(t, "unsupported_grant_type", inURL.Error)

	next := h.PostBasic("tv", "", "/token", "grant_type", "refresh_token", "refresh_token", got.RefreshToken)
	require.Equal(t, http.StatusOK, next.Status, next.Body)
	assert.NotEqual(t, got.RefreshToken, next.RefreshToken)
	assert.Equal(t, "alice", h.Get("/userinfo", next.AccessToken).Sub)
	assert.Equal(t, http.StatusUnauthorized, h.Get("/userinfo", got.AccessToken).Status)
	assert.Equal(t, "invalid_grant", h.Refresh(got.RefreshToken).Error)
	assert.Equal(t, http.StatusOK, h.Refresh(next.RefreshToken).Status)
}

// TestRefreshRace: of those who come with the same refresh token, one gets tokens.
func TestRefreshRace(t *testing.T) {
	h := newTestHost(t, 0)
	got, _ := h.Login()
	var winners atomic.Int32
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if h.Refresh(got.RefreshToken).Status == http.StatusOK {
				winners.Add(1)
			}
		})
	}
	all.Wait()
	assert.EqualValues(t, 1, winners.Load())
}

// TestOnline: who is not allowed offline access gets no refresh token.
func TestOnline(t *testing.T) {
	h := newTestHost(t, 0)
	got, _ := h.Login("openid")
	assert.Empty(t, got.RefreshToken)
	assert.JSONEq(t, `{"sub":"alice"}`, h.Get("/userinfo", got.AccessToken).Body)
}

func TestClientsRefused(t *testing.T) {
	h := newTestHost(t, 0)
	h.RequireClients()
}

// TestHostAlone: without the glue, the library serves neither the device grant nor the
// grant type by which tokens are made for it.
func TestHostAlone(t *testing.T) {
	tokens, err := memory()
	require.NoError(t, err)
	host, err := newHost(hosttest.Origin, tokens, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	alone := hosttest.Host{T: t, Handler: http.HandlerFunc(host.serveToken)}
	assert.Equal(t, "unsupported_grant_type", alone.Poll("x").Error)
	for _, h := range []hosttest.Host{alone, newTestHost(t, 0)} {
		password := h.Post("/token", "grant_type", "password", "client_id", "tv", "username", "alice", "password", "wonderland")
		assert.NotEqual(t, http.StatusOK, password.Status)
		assert.Contains(t, []string{"access_denied", "unauthorized_client"}, password.Error)
	}
}

func TestMetadata(t *testing.T) {
	h := newTestHost(t, 0)
	doc := h.Get("/.well-known/oauth-authorization-server", "")
	assert.JSONEq(t, `{
		"issuer": "http://127.0.0.1:8080",
		"token_endpoint": "http://127.0.0.1:8080/token",
		"userinfo_endpoint": "http://127.0.0.1:8080/userinfo",
		"device_authorization_endpoint": "http://127.0.0.1:8080/device_authorization",
		"scopes_supported": ["openid", "profile", "offline_access"],
		"response_types_supported": [],
		"grant_types_supported": ["refresh_token", "urn:ietf:params:oauth:grant-type:device_code"],
		"token_endpoint_auth_methods_supported": ["none", "client_secret_basic", "client_secret_post"]
	}`, doc.Body)
}
