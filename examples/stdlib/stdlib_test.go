package main

import (
	"errors"
	"log/slog"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/devicegrant/devicegrant/examples/internal/hosttest"
)

func newTestHost(t *testing.T) (hosttest.Host, *server) {
	t.Helper()
	s, err := newServer(hosttest.Origin, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	mux := http.NewServeMux()
	s.routes(mux)
	_, err = addDeviceGrant(mux, s, 5*time.Second)
	require.NoError(t, err)
	return hosttest.Host{T: t, Handler: mux}, s
}

func TestLogin(t *testing.T) {
	h, _ := newTestHost(t)
	got, code := h.Login()
	assert.Equal(t, hosttest.Scopes, got.Scope)
	assert.Equal(t, 600, got.ExpiresIn)
	assert.JSONEq(t, `{"sub":"alice","name":"Alice"}`, h.Get("/userinfo", got.AccessToken).Body)
	assert.Equal(t, "invalid_grant", h.Poll(code).Error)
}

func TestDenied(t *testing.T) {
	h, _ := newTestHost(t)
	a := h.Authorize()
	require.Equal(t, "authorization_pending", h.Poll(a.DeviceCode).Error)
	h.Decide(a, "deny")
	assert.Equal(t, "access_denied", h.Poll(a.DeviceCode).Error)
}

// failingSigner fails to sign for a while.
type failingSigner struct {
	jose.Signer
	failures int
}

var errSigner = errors.New("the key store is away")

func (s *failingSigner) Sign(payload []byte) (*jose.JSONWebSignature, error) {
	if s.failures > 0 {
		s.failures--
		return nil, errSigner
	}
	return s.Signer.Sign(payload)
}

// TestIssuingFails: the login goes on, its next poll has the tokens, and a refresh token is
// not used up.
func TestIssuingFails(t *testing.T) {
	h, s := newTestHost(t)
	signer := &failingSigner{s.signer, 1}
	s.signer = signer
	a := h.Authorize()
	h.Decide(a, "approve")
	failed := h.Poll(a.DeviceCode)
	assert.Contains(t, []string{"authorization_pending", "slow_down"}, failed.Error)
	assert.NotContains(t, failed.Body, errSigner.Error())
	got := h.Poll(a.DeviceCode)
	require.Equal(t, http.StatusOK, got.Status, got.Body)
	assert.Equal(t, "alice", h.Get("/userinfo", got.AccessToken).Sub)

	signer.failures = 1
	failed = h.Refresh(got.RefreshToken)
	assert.Equal(t, http.StatusServiceUnavailable, failed.Status)
	assert.JSONEq(t, `{"error":"temporarily_unavailable"}`, failed.Body)
	assert.Equal(t, http.StatusOK, h.Refresh(got.RefreshToken).Status)
}

func TestClientsRefused(t *testing.T) {
	h, _ := newTestHost(t)
	h.RequireClients()
}

// TestReplayed: a device code that is presented again ends the login, unless that is within
// seconds, when the request may only have been sent twice.
func TestReplayed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, _ := newTestHost(t)
		got, code := h.Login()
		other, _ := h.Login()
		assert.Equal(t, "invalid_grant", h.Poll(code).Error)
		got = h.Refresh(got.RefreshToken)
		require.Equal(t, http.StatusOK, got.Status, got.Body)
		time.Sleep(5 * time.Second)
		assert.Equal(t, "invalid_grant", h.Poll(code).Error)
		assert.Equal(t, "invalid_grant", h.Refresh(got.RefreshToken).Error)
		assert.Equal(t, http.StatusOK, h.Refresh(other.RefreshToken).Status)
	})
}

// TestHostAlone: without the glue, nothing serves the device grant.
func TestHostAlone(t *testing.T) {
	_, s := newTestHost(t)
	alone := hosttest.Host{T: t, Handler: http.HandlerFunc(s.serveToken)}
	assert.Equal(t, "unsupported_grant_type", alone.Poll("x").Error)
}

func TestMetadata(t *testing.T) {
	h, _ := newTestHost(t)
	doc := h.Get("/.well-known/oauth-authorization-server", "")
	assert.JSONEq(t, `{
		"issuer": "http://127.0.0.1:8080",
		"token_endpoint": "http://127.0.0.1:8080/token",
		"userinfo_endpoint": "http://127.0.0.1:8080/userinfo",
		"jwks_uri": "http://127.0.0.1:8080/jwks",
		"device_authorization_endpoint": "http://127.0.0.1:8080/device_authorization",
		"scopes_supported": ["openid", "profile", "offline_access"],
		"response_types_supported": [],
		"grant_types_supported": ["refresh_token", "urn:ietf:params:oauth:grant-type:device_code"],
		"token_endpoint_auth_methods_supported": ["none", "client_secret_basic", "client_secret_post"]
	}`, doc.Body)
}
