package main

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	jose "github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/zitadel/oidc/v3/example/server/storage"
	"github.com/zitadel/oidc/v3/pkg/op"

	"github.com/devicegrant/devicegrant"
	"github.com/devicegrant/devicegrant/examples/internal/hosttest"
)

const (
	interval  = 5 * time.Second
	tokenPath = "/oauth/token"
)

// server is one that needs no network, and what it is made of.
type server struct {
	hosttest.Host
	host *host
}

func newServer(t *testing.T) *server {
	h, err := newHost(hosttest.Origin, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	mux := h.routes()
	_, err = addDeviceGrant(mux, h, interval)
	require.NoError(t, err)
	return &server{hosttest.Host{T: t, Handler: mux, TokenPath: tokenPath}, h}
}

// inBubble runs a test whose time is its own.
func inBubble(t *testing.T, test func(t *testing.T, s *server)) {
	synctest.Test(t, func(t *testing.T) { test(t, newServer(t)) })
}

// idTokenIn returns the id_token of an answer, if it has one.
func idTokenIn(t *testing.T, a hosttest.Answer) string {
	t.Helper()
	var tokens struct {
		IDToken string `json:"id_token"`
	}
	require.NoError(t, json.Unmarshal([]byte(a.Body), &tokens))
	return tokens.IDToken
}

func TestLogin(t *testing.T) {
	inBubble(t, func(t *testing.T, s *server) {
		codes := s.Authorize()
		require.Equal(t, "authorization_pending", s.Poll(codes.DeviceCode).Error)
		s.Decide(codes, "approve")
		time.Sleep(interval)
		tokens := s.Poll(codes.DeviceCode)
		require.Equal(t, http.StatusOK, tokens.Status, tokens.Body)
		assert.Equal(t, "Bearer", tokens.TokenType)
		assert.Equal(t, 300, tokens.ExpiresIn)
		assert.Equal(t, hosttest.Scopes, tokens.Scope)

		info := s.Get("/userinfo", tokens.AccessToken)
		assert.Equal(t, http.StatusOK, info.Status)
		assert.Equal(t, "alice", info.Sub)
		assert.Equal(t, "Alice Example", info.Name)
		assert.Equal(t, http.StatusUnauthorized, s.Get("/userinfo", tokens.AccessToken+"A").Status)

		again := s.Poll(codes.DeviceCode)
		assert.Equal(t, http.StatusBadRequest, again.Status)
		assert.Equal(t, "invalid_grant", again.Error)
	})
}

// TestIDToken: it is the provider's, signed with the key that it publishes.
func TestIDToken(t *testing.T) {
	inBubble(t, func(t *testing.T, s *server) {
		tokens, _ := s.Login()
		var keys jose.JSONWebKeySet
		require.NoError(t, json.Unmarshal([]byte(s.Get("/keys", "").Body), &keys))
		require.Len(t, keys.Keys, 1)
		signed, err := jose.ParseSignedCompact(idTokenIn(t, tokens), []jose.SignatureAlgorithm{jose.RS256})
		require.NoError(t, err)
		payload, err := signed.Verify(keys.Keys[0])
		require.NoError(t, err)
		var claims struct {
			Issuer   string   `json:"iss"`
			Subject  string   `json:"sub"`
			Audience []string `json:"aud"`
		}
		require.NoError(t, json.Unmarshal(payload, &claims))
		assert.Equal(t, hosttest.Origin, claims.Issuer)
		assert.Equal(t, "alice", claims.Subject)
		assert.Equal(t, []string{"tv"}, claims.Audience)
	})
}

// TestScopes: a device gets what it asked for and was allowed, and no more.
func TestScopes(t *testing.T) {
	inBubble(t, func(t *testing.T, s *server) {
		tokens, _ := s.Login("openid")
		assert.Empty(t, tokens.RefreshToken)
		assert.NotEmpty(t, idTokenIn(t, tokens))
		info := s.Get("/userinfo", tokens.AccessToken)
		assert.Equal(t, "alice", info.Sub)
		assert.Empty(t, info.Name)

		tokens, _ = s.Login("profile", "offline_access")
		assert.NotEmpty(t, tokens.RefreshToken)
		assert.Empty(t, idTokenIn(t, tokens))

		refused := s.Post("/device_authorization", "client_id", "tv", "scope", "openid email")
		assert.Equal(t, "invalid_scope", refused.Error)
	})
}

func TestRefresh(t *testing.T) {
	inBubble(t, func(t *testing.T, s *server) {
		first, _ := s.Login()
		time.Sleep(time.Duration(first.ExpiresIn+1) * time.Second)
		require.Equal(t, http.StatusForbidden, s.Get("/userinfo", first.AccessToken).Status)
		second := s.Refresh(first.RefreshToken)
		require.Equal(t, http.StatusOK, second.Status, second.Body)
		assert.Equal(t, "alice", s.Get("/userinfo", second.AccessToken).Sub)
		assert.Equal(t, "invalid_grant", s.Refresh(first.RefreshToken).Error, "it was used")
		assert.Equal(t, http.StatusOK, s.Refresh(second.RefreshToken).Status)
	})
}

func TestRevoke(t *testing.T) {
	inBubble(t, func(t *testing.T, s *server) {
		tokens, _ := s.Login()
		other := s.Post("/revoke", "client_id", "web", "client_secret", "web-secret", "token", tokens.RefreshToken)
		assert.Equal(t, "invalid_client", other.Error)
		require.Equal(t, http.StatusOK, s.Get("/userinfo", tokens.AccessToken).Status)
		w := httptest.NewRecorder() // The answer calls itself JSON and is empty.
		s.Handler.ServeHTTP(w, hosttest.FormRequest("/revoke", "client_id", "tv", "token", tokens.RefreshToken))
		require.Equal(t, http.StatusOK, w.Code)
		assert.Equal(t, http.StatusForbidden, s.Get("/userinfo", tokens.AccessToken).Status)
		assert.Equal(t, "invalid_grant", s.Refresh(tokens.RefreshToken).Error)
	})
}

// TestRevokeWhileRefreshing: a revocation looks a token up while others are made. The race
// detector sees the storage that does so without a lock.
func TestRevokeWhileRefreshing(t *testing.T) {
	s := newServer(t)
	tokens, _ := s.Login()
	var revoking sync.WaitGroup
	revoking.Go(func() {
		for range 100 {
			_, _, err := s.host.store.GetRefreshTokenInfo(t.Context(), "tv", "made-up")
			assert.ErrorIs(t, err, op.ErrInvalidRefreshToken)
		}
	})
	for range 10 {
		tokens = s.Refresh(tokens.RefreshToken)
		assert.Equal(t, http.StatusOK, tokens.Status)
	}
	revoking.Wait()
}

func TestDenied(t *testing.T) {
	inBubble(t, func(t *testing.T, s *server) {
		codes := s.Authorize()
		s.Decide(codes, "deny")
		assert.Equal(t, "access_denied", s.Poll(codes.DeviceCode).Error)
		assert.Empty(t, s.host.store.logins)
	})
}

func TestRefusedClients(t *testing.T) {
	inBubble(t, func(t *testing.T, s *server) {
		for _, tt := range []struct {
			id, secret string
			status     int
			want       string
		}{
			{"radio", "", http.StatusUnauthorized, "invalid_client"},
			{"tv", "made-up", http.StatusUnauthorized, "invalid_client"},
			{"web", "", http.StatusUnauthorized, "invalid_client"},
			{"web", "made-up", http.StatusUnauthorized, "invalid_client"},
			{"web", "web-secret", http.StatusBadRequest, "unauthorized_client"},
		} {
			client := []string{"client_id", tt.id, "client_secret", tt.secret}
			a := s.Post("/device_authorization", client...)
			assert.Equal(t, tt.status, a.Status, tt)
			assert.Equal(t, tt.want, a.Error, tt)
			a = s.Post(tokenPath, append(client, "grant_type", devicegrant.GrantType, "device_code", s.Authorize().DeviceCode)...)
			assert.Equal(t, tt.status, a.Status, tt)
			assert.Equal(t, tt.want, a.Error, tt)
		}
		_, err := s.host.store.GetKeyByIDAndClientID(t.Context(), storage.ServiceUserKeyID, accounts.ExampleClientID())
		assert.Error(t, err, "everybody has this key")
	})
}

// brokenStorage fails where it is told to, once, and knows the refresh tokens that it made.
type brokenStorage struct {
	op.Storage
	tokens, signing bool
	made            []string
}

func (b *brokenStorage) CreateAccessAndRefreshTokens(ctx context.Context, r op.TokenRequest, current string) (string, string, time.Time, error) {
	if b.tokens {
		b.tokens = false
		return "", "", time.Time{}, errors.New("the database is away")
	}
	id, refresh, expires, err := b.Storage.CreateAccessAndRefreshTokens(ctx, r, current)
	b.made = append(b.made, refresh)
	return id, refresh, expires, err
}

func (b *brokenStorage) SigningKey(ctx context.Context) (op.SigningKey, error) {
	if b.signing {
		b.signing = false
		return nil, errors.New("the key is away")
	}
	return b.Storage.SigningKey(ctx)
}

// TestIssuingFails: the login goes on, and the next poll gets the tokens. Of those that were
// stored before it failed, none is left.
func TestIssuingFails(t *testing.T) {
	for name, broken := range map[string]*brokenStorage{
		"storing": {tokens: true},
		"signing": {signing: true},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, s *server) {
				broken.Storage = s.host.store.Storage
				s.host.store.Storage = broken
				codes := s.Authorize()
				s.Decide(codes, "approve")
				failed := s.Poll(codes.DeviceCode)
				require.Equal(t, "slow_down", failed.Error)
				require.Empty(t, failed.AccessToken)

				time.Sleep(2 * interval)
				tokens := s.Poll(codes.DeviceCode)
				require.Equal(t, http.StatusOK, tokens.Status, tokens.Body)
				assert.Equal(t, "alice", s.Get("/userinfo", tokens.AccessToken).Sub)
				for _, made := range broken.made {
					assert.Equal(t, made == tokens.RefreshToken, s.Refresh(made).Status == http.StatusOK)
				}
				assert.Equal(t, "invalid_grant", s.Poll(codes.DeviceCode).Error)
			})
		})
	}
}

// TestReplay: a code that is presented again ends the login, whatever its tokens are by then;
// a request that was only sent twice does not.
func TestReplay(t *testing.T) {
	inBubble(t, func(t *testing.T, s *server) {
		tokens, code := s.Login()
		bystander, _ := s.Login()
		require.Equal(t, "invalid_grant", s.Poll(code).Error)
		require.Equal(t, http.StatusOK, s.Get("/userinfo", tokens.AccessToken).Status)

		tokens = s.Refresh(tokens.RefreshToken)
		require.Equal(t, http.StatusOK, tokens.Status)
		time.Sleep(replayGrace)
		require.Equal(t, "invalid_grant", s.Poll(code).Error)
		assert.Equal(t, http.StatusForbidden, s.Get("/userinfo", tokens.AccessToken).Status)
		assert.Equal(t, "invalid_grant", s.Refresh(tokens.RefreshToken).Error)
		assert.Equal(t, http.StatusOK, s.Refresh(bystander.RefreshToken).Status)
	})
}

func TestReplayWithoutRefreshToken(t *testing.T) {
	inBubble(t, func(t *testing.T, s *server) {
		tokens, code := s.Login("openid")
		time.Sleep(replayGrace)
		require.Equal(t, http.StatusOK, s.Get("/userinfo", tokens.AccessToken).Status)
		require.Equal(t, "invalid_grant", s.Poll(code).Error)
		assert.Equal(t, http.StatusForbidden, s.Get("/userinfo", tokens.AccessToken).Status)
	})
}

// TestOwnDeviceGrantIsOff: the provider has one, and cannot be made to use it.
func TestOwnDeviceGrantIsOff(t *testing.T) {
	inBubble(t, func(t *testing.T, s *server) {
		assert.False(t, s.host.provider.GrantTypeDeviceCodeSupported())
		doc, err := s.host.metadata(t.Context())
		require.NoError(t, err)
		assert.Equal(t, []any{"refresh_token"}, doc["grant_types_supported"])

		codes := s.Authorize()
		s.Decide(codes, "approve")
		direct := hosttest.Host{T: t, Handler: s.host.provider, TokenPath: tokenPath}
		assert.Equal(t, "unsupported_grant_type", direct.Poll(codes.DeviceCode).Error)
		query := "?client_id=tv&device_code=" + codes.DeviceCode + "&grant_type=" + url.QueryEscape(devicegrant.GrantType)
		assert.Equal(t, "unsupported_grant_type", s.Get(tokenPath+query, "").Error, "what is not posted is the provider's")
		assert.Equal(t, http.StatusMethodNotAllowed, s.Get("/device_authorization?client_id=tv", "").Status, "the provider takes it")
		assert.Equal(t, http.StatusOK, s.Poll(codes.DeviceCode).Status)
	})
}

// TestMetadata: every endpoint in it exists, and none that does not.
func TestMetadata(t *testing.T) {
	inBubble(t, func(t *testing.T, s *server) {
		read := func(path string) (doc map[string]any) {
			a := s.Get(path, "")
			require.Equal(t, "application/json", a.Header.Get("Content-Type"))
			require.NoError(t, json.Unmarshal([]byte(a.Body), &doc))
			return doc
		}
		doc := read("/.well-known/oauth-authorization-server")
		assert.Equal(t, doc, read("/.well-known/openid-configuration"))
		assert.Equal(t, hosttest.Origin, doc["issuer"])
		assert.Equal(t, []any{"refresh_token", devicegrant.GrantType}, doc["grant_types_supported"])
		assert.Equal(t, []any{"openid", "profile", "offline_access"}, doc["scopes_supported"])
		assert.Equal(t, []any{}, doc["response_types_supported"])
		endpoints := 0
		for name, value := range doc {
			uri, _ := value.(string)
			if path, ok := strings.CutPrefix(uri, hosttest.Origin+"/"); ok {
				assert.NotEqual(t, http.StatusNotFound, s.Get("/"+path, "").Status, name)
				endpoints++
			}
		}
		assert.Equal(t, 5, endpoints, "device authorization, token, userinfo, revocation and keys")
	})
}

// TestLargeBody: what the provider reads is bounded.
func TestLargeBody(t *testing.T) {
	handler, _, err := build(hosttest.Origin, interval, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	large := hosttest.Host{T: t, Handler: handler}.Post(tokenPath, "grant_type", "refresh_token", "refresh_token", strings.Repeat("a", maxBody))
	assert.Equal(t, http.StatusBadRequest, large.Status)
}
