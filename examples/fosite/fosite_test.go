package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ory/fosite"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/devicegrant/devicegrant"
	"github.com/devicegrant/devicegrant/examples/internal/hosttest"
)

// fixture is the server without a network, and what it logs.
type fixture struct {
	hosttest.Host
	*host
	broken *brokenStore
	log    bytes.Buffer
}

func newFixture(t testing.TB) *fixture {
	f := &fixture{broken: &brokenStore{memory: newMemory()}}
	f.host = newHost(hosttest.Origin, f.broken, slog.New(slog.NewTextHandler(&f.log, nil)))
	grant, err := newGrant(f.host, time.Second)
	require.NoError(t, err)
	mountGrant(f.host, grant)
	f.Host = hosttest.Host{T: t, Handler: f.mux}
	return f
}

// brokenStore fails and is slow on demand.
type brokenStore struct {
	*memory
	clients, access, refresh error
	pause                    time.Duration // after a refresh token was looked up
}

func (s *brokenStore) GetRefreshTokenSession(ctx context.Context, signature string, session fosite.Session) (fosite.Requester, error) {
	request, err := s.memory.GetRefreshTokenSession(ctx, signature, session)
	time.Sleep(s.pause)
	return request, err
}

func (s *brokenStore) GetClient(ctx context.Context, id string) (fosite.Client, error) {
	if s.clients != nil {
		return nil, s.clients
	}
	return s.memory.GetClient(ctx, id)
}

func (s *brokenStore) CreateAccessTokenSession(ctx context.Context, signature string, request fosite.Requester) error {
	if s.access != nil {
		return s.access
	}
	return s.memory.CreateAccessTokenSession(ctx, signature, request)
}

func (s *brokenStore) CreateRefreshTokenSession(ctx context.Context, signature, access string, request fosite.Requester) error {
	if s.refresh != nil {
		return s.refresh
	}
	return s.memory.CreateRefreshTokenSession(ctx, signature, access, request)
}

// introspection is what the server tells a client of a token.
type introspection struct {
	hosttest.Answer
	Active   bool
	ClientID string `json:"client_id"`
}

func (f *fixture) introspect(token, id, secret string) introspection {
	f.T.Helper()
	seen := introspection{Answer: f.PostBasic(id, secret, "/introspect", "token", token)}
	require.NoError(f.T, json.Unmarshal([]byte(seen.Body), &seen), seen.Body)
	return seen
}

// inBubble runs a test with a clock of its own.
func inBubble(t *testing.T, test func(t *testing.T, f *fixture)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { test(t, newFixture(t)) })
}

// TestLogin goes from the code to tokens that fosite takes for its own.
func TestLogin(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fixture) {
		a := f.Authorize()
		require.Equal(t, "authorization_pending", f.Poll(a.DeviceCode).Error)
		f.Decide(a, "approve")
		got := f.Poll(a.DeviceCode)
		require.Equal(t, http.StatusOK, got.Status, got.Body)
		assert.Equal(t, "Bearer", got.TokenType)
		assert.Equal(t, 3600, got.ExpiresIn)
		assert.Equal(t, hosttest.Scopes, got.Scope)

		info := f.Get("/userinfo", got.AccessToken)
		assert.Equal(t, http.StatusOK, info.Status)
		assert.Equal(t, "alice", info.Sub)
		assert.Equal(t, "Alice", info.Name)
		seen := f.introspect(got.AccessToken, "web", "web-secret")
		assert.True(t, seen.Active)
		assert.Equal(t, "alice", seen.Sub)
		assert.Equal(t, "tv", seen.ClientID)
		assert.Equal(t, hosttest.Scopes, seen.Scope)

		require.Equal(t, "invalid_grant", f.Poll(a.DeviceCode).Error)
		for _, secret := range []string{a.DeviceCode, a.UserCode, got.AccessToken, got.RefreshToken} {
			require.NotEmpty(t, secret)
			assert.NotContains(t, f.log.String(), secret)
		}

		time.Sleep(accessLife + time.Second)
		assert.Equal(t, http.StatusUnauthorized, f.Get("/userinfo", got.AccessToken).Status)
	})
}

func TestDenied(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fixture) {
		a := f.Authorize()
		f.Decide(a, "deny")
		require.Equal(t, "access_denied", f.Poll(a.DeviceCode).Error)
		assert.Empty(t, f.broken.AccessTokens)
	})
}

// TestRefresh is between the device and fosite.
func TestRefresh(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fixture) {
		got, _ := f.Login()
		time.Sleep(24 * time.Hour)
		next := f.Refresh(got.RefreshToken)
		require.Equal(t, http.StatusOK, next.Status, next.Body)
		assert.Equal(t, hosttest.Scopes, next.Scope)
		assert.Equal(t, "alice", f.Get("/userinfo", next.AccessToken).Sub)
		assert.Equal(t, http.StatusUnauthorized, f.Get("/userinfo", got.AccessToken).Status)
		time.Sleep(refreshLife + time.Second)
		assert.Equal(t, "invalid_grant", f.Refresh(next.RefreshToken).Error)

		unused, _ := f.Login()
		time.Sleep(refreshLife + time.Second)
		assert.Equal(t, "invalid_grant", f.Refresh(unused.RefreshToken).Error)
	})
}

// TestRefreshTwice: who uses a refresh token again ends the login.
func TestRefreshTwice(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fixture) {
		got, _ := f.Login()
		next := f.Refresh(got.RefreshToken)
		require.Equal(t, http.StatusOK, next.Status, next.Body)
		require.Equal(t, "invalid_grant", f.Refresh(got.RefreshToken).Error)
		assert.Equal(t, http.StatusUnauthorized, f.Get("/userinfo", next.AccessToken).Status)
		assert.Equal(t, "invalid_grant", f.Refresh(next.RefreshToken).Error)
	})
}

// TestRefreshTogether: of many uses of one refresh token, each of which has found it unused,
// one gets tokens.
func TestRefreshTogether(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fixture) {
		got, _ := f.Login()
		f.broken.pause = time.Second
		statuses := make(chan int, 10)
		var all sync.WaitGroup
		for range cap(statuses) {
			all.Go(func() { statuses <- f.Refresh(got.RefreshToken).Status })
		}
		all.Wait()
		close(statuses)
		won := 0
		for status := range statuses {
			if status == http.StatusOK {
				won++
			}
		}
		assert.Equal(t, 1, won)
	})
}

// TestStoreTogether: what refreshing reads, revoking writes.
func TestStoreTogether(t *testing.T) {
	m := newMemory()
	request := &fosite.Request{ID: "request"}
	require.NoError(t, m.CreateRefreshTokenSession(t.Context(), "refresh", "access", request))
	var all sync.WaitGroup
	for _, use := range []func(){
		func() { _, _ = m.GetRefreshTokenSession(t.Context(), "refresh", nil) },
		func() { _ = m.RevokeRefreshToken(t.Context(), "request") },
		func() { _ = m.RotateRefreshToken(t.Context(), "request", "refresh") },
		func() { _ = m.DeleteRefreshTokenSession(t.Context(), "other") },
	} {
		all.Go(func() {
			for range 100 {
				use()
			}
		})
	}
	all.Wait()
	_, err := m.GetRefreshTokenSession(t.Context(), "refresh", nil)
	require.ErrorIs(t, err, fosite.ErrInactiveToken)
}

// TestSharedSession: all requests with a token have its session, of which introspection reads
// this.
func TestSharedSession(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fixture) {
		got, _ := f.Login()
		var all sync.WaitGroup
		for range 10 {
			all.Go(func() {
				_, request, err := f.provider.IntrospectToken(t.Context(), got.AccessToken, fosite.AccessToken, new(fosite.DefaultSession))
				if assert.NoError(t, err) {
					session := request.GetSession().(*fosite.DefaultSession)
					assert.Empty(t, session.GetExtraClaims())
					assert.False(t, session.GetExpiresAt(fosite.AccessToken).IsZero())
				}
			})
		}
		all.Wait()
	})
}

func TestWithoutOfflineAccess(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fixture) {
		got, _ := f.Login("openid")
		assert.Empty(t, got.RefreshToken)
		info := f.Get("/userinfo", got.AccessToken)
		assert.Equal(t, "alice", info.Sub)
		assert.Empty(t, info.Name)
	})
}

// TestReplay: whoever presents a code again that was redeemed a while ago ends what it
// became.
func TestReplay(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fixture) {
		got, code := f.Login()
		time.Sleep(time.Second)
		require.Equal(t, "invalid_grant", f.Poll(code).Error)
		require.Equal(t, http.StatusOK, f.Get("/userinfo", got.AccessToken).Status, "it may have been sent twice")
		time.Sleep(10 * time.Second)
		next := f.Refresh(got.RefreshToken)
		require.Equal(t, http.StatusOK, next.Status, next.Body)
		other, _ := f.Login()

		require.Equal(t, "invalid_grant", f.Poll(code).Error)
		assert.Equal(t, http.StatusUnauthorized, f.Get("/userinfo", next.AccessToken).Status)
		assert.Equal(t, "invalid_grant", f.Refresh(next.RefreshToken).Error)
		assert.Equal(t, http.StatusOK, f.Get("/userinfo", other.AccessToken).Status)
		assert.NotContains(t, f.log.String(), "revoking tokens failed")
	})
}

func TestClients(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fixture) {
		for _, tt := range []struct {
			name   string
			client []string
			status int
			want   string
		}{
			{"unknown", []string{"client_id", "radio"}, http.StatusUnauthorized, "invalid_client"},
			{"without the grant", []string{"client_id", "web", "client_secret", "web-secret"}, http.StatusBadRequest, "unauthorized_client"},
			{"wrong secret", []string{"client_id", "web", "client_secret", "wrong"}, http.StatusUnauthorized, "invalid_client"},
			{"no secret", []string{"client_id", "web"}, http.StatusUnauthorized, "invalid_client"},
			{"scope", []string{"client_id", "tv", "scope", "admin"}, http.StatusBadRequest, "invalid_scope"},
		} {
			a := f.Post("/device_authorization", tt.client...)
			assert.Equal(t, tt.want, a.Error, tt.name)
			assert.Equal(t, tt.status, a.Status, tt.name)
		}
	})
}

// TestClientsAway: a registry that does not answer is no reason to end a login.
func TestClientsAway(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fixture) {
		a := f.Authorize()
		f.Decide(a, "approve")
		f.broken.clients = errors.New("the database is away")
		require.Equal(t, "slow_down", f.Poll(a.DeviceCode).Error)
		f.broken.clients = nil
		time.Sleep(10 * time.Second)
		require.Equal(t, http.StatusOK, f.Poll(a.DeviceCode).Status)
	})
}

// TestIssuingFails: the login goes on, nothing that was not handed out is left behind, and the
// next poll gets tokens.
func TestIssuingFails(t *testing.T) {
	for name, breakIt := range map[string]func(f *fixture, err error){
		"access":  func(f *fixture, err error) { f.broken.access = err },
		"refresh": func(f *fixture, err error) { f.broken.refresh = err },
		"signing": func(f *fixture, err error) {
			f.config.GlobalSecret = make([]byte, 32)
			if err != nil {
				f.config.GlobalSecret = nil
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, f *fixture) {
				a := f.Authorize()
				f.Decide(a, "approve")
				breakIt(f, errors.New("the database is away"))
				require.Equal(t, "slow_down", f.Poll(a.DeviceCode).Error)
				assert.Empty(t, f.broken.AccessTokens)
				assert.Empty(t, f.broken.RefreshTokens)
				assert.Contains(t, f.log.String(), "issue_failed")
				breakIt(f, nil)
				time.Sleep(10 * time.Second)
				got := f.Poll(a.DeviceCode)
				require.Equal(t, http.StatusOK, got.Status, got.Body)
				assert.Equal(t, "alice", f.Get("/userinfo", got.AccessToken).Sub)
				assert.Equal(t, http.StatusOK, f.Refresh(got.RefreshToken).Status)
			})
		})
	}
}

// bearing gives a request a token, which may be empty.
func bearing(token string, r *http.Request) *http.Request {
	r.Header.Set("Authorization", "Bearer "+token)
	return r
}

// TestOnlyAccessTokens: userinfo and introspection are for access tokens, and introspection
// for clients with a secret.
func TestOnlyAccessTokens(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fixture) {
		got, _ := f.Login()
		other, _ := f.Login()
		for _, token := range []string{got.RefreshToken, "", got.AccessToken + "x"} {
			info := f.Do(bearing(token, httptest.NewRequest(http.MethodGet, "/userinfo", nil)))
			assert.Equal(t, http.StatusUnauthorized, info.Status, token)
			assert.Equal(t, `Bearer error="invalid_token"`, info.Header.Get("WWW-Authenticate"))
			if token != "" {
				assert.False(t, f.introspect(token, "web", "web-secret").Active)
			}
		}
		assert.Equal(t, http.StatusUnauthorized, f.Get("/userinfo", "").Status)
		assert.Equal(t, http.StatusUnauthorized, f.Get("/userinfo?access_token="+got.AccessToken, "").Status)

		for _, client := range [][2]string{{"web", "wrong"}, {"tv", ""}, {"radio", "web-secret"}} {
			seen := f.introspect(got.AccessToken, client[0], client[1])
			assert.Equal(t, http.StatusUnauthorized, seen.Status, client[0])
			assert.False(t, seen.Active)
		}
		r := bearing(other.AccessToken, hosttest.FormRequest("/introspect", "token", got.AccessToken))
		assert.Equal(t, http.StatusUnauthorized, f.Do(r).Status)
	})
}

// TestOwnDeviceFlowIsOff: fosite itself answers no device code, and has no endpoint for it.
func TestOwnDeviceFlowIsOff(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fixture) {
		request := &fosite.AccessRequest{GrantTypes: fosite.Arguments{devicegrant.GrantType}}
		require.Len(t, f.config.TokenEndpointHandlers, 1)
		for _, handler := range f.config.TokenEndpointHandlers {
			assert.False(t, handler.CanHandleTokenEndpointRequest(t.Context(), request))
		}
		a := f.Authorize()
		f.Decide(a, "approve")
		refused := hosttest.Host{T: t, Handler: f.tokenHandler()}.Poll(a.DeviceCode)
		assert.Equal(t, http.StatusBadRequest, refused.Status)
		assert.Equal(t, "invalid_request", refused.Error)
		assert.Equal(t, http.StatusNotFound, f.Post("/oauth2/device/auth", "client_id", "tv").Status)
	})
}

func TestMetadata(t *testing.T) {
	f := newFixture(t)
	a := f.Get("/.well-known/oauth-authorization-server", "")
	assert.Equal(t, "application/json", a.Header.Get("Content-Type"))
	var doc map[string]any
	require.NoError(t, json.Unmarshal([]byte(a.Body), &doc))
	assert.Equal(t, hosttest.Origin, doc["issuer"])
	for name, path := range map[string]string{
		"token_endpoint": "/token", "device_authorization_endpoint": "/device_authorization",
		"userinfo_endpoint": "/userinfo", "introspection_endpoint": "/introspect",
	} {
		assert.Equal(t, hosttest.Origin+path, doc[name])
	}
	assert.ElementsMatch(t, []any{devicegrant.GrantType, "refresh_token"}, doc["grant_types_supported"])
}
