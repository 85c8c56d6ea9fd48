package demo

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/devicegrant/devicegrant"
)

func TestAuthenticateClient(t *testing.T) {
	for _, tt := range []struct {
		id, secret string
		method     devicegrant.AuthMethod
		ok         bool
	}{
		{"tv", "", devicegrant.AuthNone, true},
		{"tv", "secret", devicegrant.AuthPost, false},
		{"tv", "secret", devicegrant.AuthBasic, false},
		{"cli", "cli-secret", devicegrant.AuthBasic, true},
		{"cli", "cli-secret", devicegrant.AuthPost, true},
		{"cli", "", devicegrant.AuthNone, false},
		{"cli", "web-secret", devicegrant.AuthPost, false},
		{"web", "web-secret", devicegrant.AuthBasic, true},
		{"nobody", "", devicegrant.AuthNone, false},
		{"", "", devicegrant.AuthNone, false},
	} {
		client, err := NewHost(origin, InMemory(), nil).AuthenticateClient(t.Context(), devicegrant.Credentials{ID: tt.id, Secret: tt.secret, Method: tt.method})
		if tt.ok {
			require.NoError(t, err, tt)
			assert.Equal(t, tt.id, client.ID)
			assert.Equal(t, tt.id != "web", client.DeviceGrant)
		} else {
			require.ErrorIs(t, err, devicegrant.ErrInvalidClient, tt)
		}
	}
}

func TestClient(t *testing.T) {
	h := NewHost(origin, InMemory(), nil)
	client, err := h.Client(t.Context(), "cli")
	require.NoError(t, err)
	assert.Equal(t, "Command line", client.Name)
	_, err = h.Client(t.Context(), "nobody")
	require.Error(t, err)
}

func TestUserinfo(t *testing.T) {
	onEach(t, func(t *testing.T, f *fixture) {
		got := f.connected("")
		assert.Equal(t, "openid profile", got.Scope)
		assert.Equal(t, "Bearer", got.TokenType)
		assert.Equal(t, 3600, got.ExpiresIn)
		assert.JSONEq(t, `{"sub":"alice","name":"Alice","scope":"openid profile"}`, body(t, f.userinfo(got.AccessToken)))

		got = f.connected("openid")
		assert.JSONEq(t, `{"sub":"alice","scope":"openid"}`, body(t, f.userinfo(got.AccessToken)), "the name takes the scope profile")
	})
}

func TestUserinfoRefuses(t *testing.T) {
	onEach(t, func(t *testing.T, f *fixture) {
		token := f.connected("openid offline_access")
		for _, tt := range []struct{ authorization, challenge string }{
			{"", "Bearer"},
			{"Basic YTpi", "Bearer"},
			{"Bearer", `Bearer error="invalid_token"`},
			{"Bearer nonsense", `Bearer error="invalid_token"`},
			{"Bearer " + token.RefreshToken, `Bearer error="invalid_token"`},
		} {
			r := httptest.NewRequest(http.MethodGet, "/userinfo?access_token="+token.AccessToken, nil)
			r.Header.Set("Authorization", tt.authorization)
			w := f.do(r)
			assert.Equal(t, http.StatusUnauthorized, w.Code, tt.authorization)
			assert.Equal(t, tt.challenge, w.Header().Get("WWW-Authenticate"), tt.authorization)
		}
	})
}

func TestAccessTokenExpires(t *testing.T) {
	onEach(t, func(t *testing.T, f *fixture) {
		got := f.connected("openid")
		f.advance(time.Hour - time.Second)
		require.Equal(t, http.StatusOK, f.userinfo(got.AccessToken).Code)
		f.advance(time.Second)
		require.Equal(t, http.StatusUnauthorized, f.userinfo(got.AccessToken).Code)
	})
}

func TestRefreshTokenNeedsOfflineAccess(t *testing.T) {
	onEach(t, func(t *testing.T, f *fixture) {
		assert.Empty(t, f.connected("openid profile").RefreshToken)
		assert.NotEmpty(t, f.connected("openid offline_access").RefreshToken)
	})
}

func TestRefresh(t *testing.T) {
	onEach(t, func(t *testing.T, f *fixture) {
		token := f.connected("openid offline_access")
		for range 3 {
			f.advance(20 * 24 * time.Hour) // Used often enough, it lasts.
			next := f.refreshed(token.RefreshToken, "")
			require.Equal(t, http.StatusOK, next.Status)
			assert.Equal(t, "openid offline_access", next.Scope)
			assert.NotEqual(t, token.RefreshToken, next.RefreshToken)
			assert.NotEqual(t, token.AccessToken, next.AccessToken)
			require.Equal(t, http.StatusOK, f.userinfo(next.AccessToken).Code)
			token = next
		}
		f.advance(refreshLife)
		require.Equal(t, "invalid_grant", f.refreshed(token.RefreshToken, "").Error)
	})
}

func TestRefreshReused(t *testing.T) {
	onEach(t, func(t *testing.T, f *fixture) {
		first := f.connected("openid offline_access")
		second := f.refreshed(first.RefreshToken, "")
		require.Equal(t, http.StatusOK, second.Status)
		require.Equal(t, "invalid_grant", f.refreshed(first.RefreshToken, "").Error)
		assert.Equal(t, "invalid_grant", f.refreshed(second.RefreshToken, "").Error, "the family goes on")
		assert.Equal(t, http.StatusUnauthorized, f.userinfo(second.AccessToken).Code, "an access token of the family is still good")
	})
}

// TestRefreshMadeUp: whoever knows no more than the grant's id, which is in logs,
// cannot end a login.
func TestRefreshMadeUp(t *testing.T) {
	onEach(t, func(t *testing.T, f *fixture) {
		token := f.connected("openid offline_access")
		parsed, ok := parseRefreshToken(token.RefreshToken)
		require.True(t, ok)
		for _, made := range []string{
			refreshToken{parsed.grant, newSecret(), newSecret()}.String(),
			refreshToken{parsed.grant, newSecret(), parsed.secret}.String(),
			refreshToken{uuid.New(), parsed.family, parsed.secret}.String(),
			parsed.grant.String(), "a.b.c", ".", "x",
		} {
			require.Equal(t, "invalid_grant", f.refreshed(made, "").Error, made)
		}
		require.Equal(t, http.StatusOK, f.refreshed(token.RefreshToken, "").Status)
	})
}

func TestRefreshByAnotherClient(t *testing.T) {
	onEach(t, func(t *testing.T, f *fixture) {
		token := f.connected("openid offline_access")
		got := f.tokenRequest("client_id=cli&client_secret=cli-secret&grant_type=refresh_token&refresh_token=" + token.RefreshToken)
		require.Equal(t, "invalid_grant", got.Error)
		require.Equal(t, http.StatusOK, f.refreshed(token.RefreshToken, "").Status, "its own client lost it")
	})
}

func TestRefreshScope(t *testing.T) {
	onEach(t, func(t *testing.T, f *fixture) {
		token := f.connected("openid profile offline_access")
		narrowed := f.refreshed(token.RefreshToken, "&scope=openid")
		require.Equal(t, http.StatusOK, narrowed.Status)
		assert.Equal(t, "openid", narrowed.Scope)
		assert.JSONEq(t, `{"sub":"alice","scope":"openid"}`, body(t, f.userinfo(narrowed.AccessToken)))

		again := f.refreshed(narrowed.RefreshToken, "&scope=") // The refresh token's scope is what it was.
		assert.Equal(t, "openid profile offline_access", again.Scope)

		for _, scope := range []string{"admin", "openid+admin", "+"} {
			require.Equal(t, "invalid_scope", f.refreshed(again.RefreshToken, "&scope="+scope).Error, scope)
		}
		require.Equal(t, http.StatusOK, f.refreshed(again.RefreshToken, "").Status, "a refused scope used the token up")
	})
}

func TestReplayRevokes(t *testing.T) {
	onEach(t, func(t *testing.T, f *fixture) {
		other, stolen := f.connected("openid offline_access"), f.connected("openid offline_access")
		require.Equal(t, "invalid_grant", f.poll(stolen.deviceCode).Error)
		require.Equal(t, http.StatusOK, f.userinfo(stolen.AccessToken).Code, "a request that was sent twice is no theft")
		f.advance(replayGrace)
		require.Equal(t, "invalid_grant", f.poll(stolen.deviceCode).Error)
		assert.Equal(t, http.StatusUnauthorized, f.userinfo(stolen.AccessToken).Code)
		assert.Equal(t, "invalid_grant", f.refreshed(stolen.RefreshToken, "").Error)
		assert.Equal(t, http.StatusOK, f.userinfo(other.AccessToken).Code, "another login was revoked")
	})
}

// TestTokenEndpoint: what the host's own grants are refused for on the wire.
func TestTokenEndpoint(t *testing.T) {
	const refresh = "grant_type=refresh_token&refresh_token=x"
	for _, tt := range []struct {
		name, ctype, auth, body string
		status                  int
		err                     string
	}{
		{name: "unknown token", body: refresh + "&client_id=tv", status: 400, err: "invalid_grant"},
		{name: "charset", ctype: "application/x-www-form-urlencoded; charset=utf-8", body: refresh + "&client_id=tv", status: 400, err: "invalid_grant"},
		{name: "Basic", auth: basicAuth("cli", "cli-secret"), body: refresh, status: 400, err: "invalid_grant"},
		{name: "wrong secret in Basic", auth: basicAuth("cli", "x"), body: refresh, status: 401, err: "invalid_client"},
		{name: "wrong secret in the body", body: refresh + "&client_id=cli&client_secret=x", status: 401, err: "invalid_client"},
		{name: "secret of a public client", body: refresh + "&client_id=tv&client_secret=x", status: 401, err: "invalid_client"},
		{name: "confidential client without secret", body: refresh + "&client_id=cli", status: 401, err: "invalid_client"},
		{name: "unknown client", body: refresh + "&client_id=nobody", status: 401, err: "invalid_client"},
		{name: "no client", body: refresh, status: 400, err: "invalid_request"},
		{name: "no refresh token", body: "grant_type=refresh_token&client_id=tv", status: 400, err: "invalid_request"},
		{name: "no grant type", body: "client_id=tv", status: 400, err: "invalid_request"},
		{name: "empty", status: 400, err: "invalid_request"},
		{name: "unknown grant type", body: "grant_type=password&client_id=tv", status: 400, err: "unsupported_grant_type"},
		{name: "unknown grant type without a client", body: "grant_type=x", status: 400, err: "unsupported_grant_type"},
		{name: "repeated", body: refresh + "&client_id=tv&refresh_token=y", status: 400, err: "invalid_request"},
		{name: "grant type repeated", body: "grant_type=a&grant_type=b&client_id=tv", status: 400, err: "invalid_request"},
		{name: "JSON", ctype: "application/json", body: `{}`, status: 400, err: "invalid_request"},
		{name: "malformed", body: refresh + "&client_id=%zz", status: 400, err: "invalid_request"},
		{name: "too large", body: refresh + "&client_id=tv&x=" + strings.Repeat("a", maxFormBody), status: 400, err: "invalid_request"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodPost, "/token", strings.NewReader(tt.body))
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			if tt.ctype != "" {
				r.Header.Set("Content-Type", tt.ctype)
			}
			if tt.auth != "" {
				r.Header.Set("Authorization", tt.auth)
			}
			w := newFixture(t).do(r)
			require.Equal(t, tt.status, w.Code)
			assert.Equal(t, "application/json", w.Header().Get("Content-Type"))
			assert.Equal(t, "no-store", w.Header().Get("Cache-Control"))
			assert.Equal(t, tt.status == 401 && tt.auth != "", w.Header().Get("WWW-Authenticate") != "")
			var got struct{ Error string }
			require.NoError(t, json.Unmarshal(w.Body.Bytes(), &got))
			assert.Equal(t, tt.err, got.Error)
		})
	}
}

func TestTokenEndpointMethod(t *testing.T) {
	w := newFixture(t).do(httptest.NewRequest(http.MethodGet, "/token?grant_type=refresh_token", nil))
	assert.Equal(t, http.StatusMethodNotAllowed, w.Code)
	assert.Equal(t, http.MethodPost, w.Header().Get("Allow"))
	assert.Contains(t, body(t, w), "invalid_request")
}

// TestEventsAreLogged: what has an error is left to the library, which logs it.
func TestEventsAreLogged(t *testing.T) {
	for _, tt := range []struct {
		event devicegrant.Event
		want  string
	}{
		{devicegrant.Event{Type: devicegrant.EventApproved, ClientID: "tv", Subject: "bob"}, `level=INFO msg="device grant: approved" client_id=tv subject=bob`},
		{devicegrant.Event{Type: devicegrant.EventWrongUserCode, Subject: "bob"}, `level=WARN msg="device grant: wrong_user_code"`},
		{devicegrant.Event{Type: devicegrant.EventUnproven, Grant: uuid.UUID{1}, Addr: netip.MustParseAddr("192.0.2.1")}, `level=WARN msg="device grant: unproven" grant=01000000-\S+ addr=192.0.2.1`},
		{devicegrant.Event{Type: devicegrant.EventGuessPressure, Pressure: devicegrant.GuessPressure{Wrong: 7, Burst: 9}}, `level=WARN msg="device grant: guess_pressure" wrong=7 burst=9`},
		{devicegrant.Event{Type: devicegrant.EventStoreError, Err: errors.New("no store")}, `^$`},
	} {
		var log bytes.Buffer
		NewHost(origin, InMemory(), slog.New(slog.NewTextHandler(&log, nil))).OnEvent(t.Context(), tt.event)
		assert.Regexp(t, tt.want, log.String())
	}
}
