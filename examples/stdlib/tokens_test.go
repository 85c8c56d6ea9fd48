package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/devicegrant/devicegrant/examples/internal/hosttest"
)

// TestAccessToken: an access token is what RFC 9068 says, and can be verified by whoever
// knows the published key.
func TestAccessToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, _ := newTestHost(t)
		got, _ := h.Login()
		issued := time.Now().Unix()
		var keys jose.JSONWebKeySet
		require.NoError(t, json.Unmarshal([]byte(h.Get("/jwks", "").Body), &keys))
		require.Len(t, keys.Keys, 1)
		require.True(t, keys.Keys[0].IsPublic())

		parsed, err := jwt.ParseSigned(got.AccessToken, []jose.SignatureAlgorithm{jose.ES256})
		require.NoError(t, err)
		assert.Equal(t, "at+jwt", parsed.Headers[0].ExtraHeaders["typ"])
		var claims map[string]any
		require.NoError(t, parsed.Claims(keys, &claims))
		assert.NotEmpty(t, claims["jti"])
		delete(claims, "jti")
		assert.Equal(t, map[string]any{
			"iss": hosttest.Origin, "sub": "alice", "aud": hosttest.Origin, "client_id": "tv",
			"scope": hosttest.Scopes, "iat": float64(issued), "exp": float64(issued + 600),
		}, claims)
	})
}

func TestAccessTokenExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, _ := newTestHost(t)
		got, _ := h.Login()
		time.Sleep(accessLife)
		assert.Equal(t, http.StatusOK, h.Get("/userinfo", got.AccessToken).Status)
		time.Sleep(time.Second)
		assert.Equal(t, http.StatusUnauthorized, h.Get("/userinfo", got.AccessToken).Status)
		next := h.Refresh(got.RefreshToken)
		assert.Equal(t, "alice", h.Get("/userinfo", next.AccessToken).Sub)
	})
}

// forge signs what an access token says, changed, with a key.
func forge(t *testing.T, key any, alg jose.SignatureAlgorithm, typ jose.ContentType, claims accessClaims) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, (&jose.SignerOptions{}).WithType(typ))
	require.NoError(t, err)
	token, err := jwt.Signed(signer).Claims(claims).Serialize()
	require.NoError(t, err)
	return token
}

// TestForged: what is no access token of this server opens nothing.
func TestForged(t *testing.T) {
	h, s := newTestHost(t)
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	got, _ := h.Login()
	claims, err := s.verify(got.AccessToken)
	require.NoError(t, err)
	s.key.Key = own.Public()

	changed := func(change func(*accessClaims)) string {
		c := claims
		change(&c)
		return forge(t, own, jose.ES256, accessType, c)
	}
	require.Equal(t, http.StatusOK, h.Get("/userinfo", changed(func(*accessClaims) {})).Status)
	for name, token := range map[string]string{
		"none":            "",
		"no JWT":          "x",
		"refresh token":   got.RefreshToken,
		"another key":     forge(t, other, jose.ES256, accessType, claims),
		"symmetric key":   forge(t, make([]byte, 32), jose.HS256, accessType, claims),
		"another type":    forge(t, own, jose.ES256, "JWT", claims),
		"another issuer":  changed(func(c *accessClaims) { c.Issuer = "http://127.0.0.1:1" }),
		"another service": changed(func(c *accessClaims) { c.Audience = jwt.Audience{"http://127.0.0.1:1"} }),
		"no audience":     changed(func(c *accessClaims) { c.Audience = nil }),
		"endless":         changed(func(c *accessClaims) { c.Expiry = nil }),
		"expired":         changed(func(c *accessClaims) { c.Expiry = jwt.NewNumericDate(time.Now().Add(-time.Second)) }),
	} {
		refused := h.Get("/userinfo", token)
		assert.Equal(t, http.StatusUnauthorized, refused.Status, name)
		assert.Equal(t, "invalid_token", refused.Error, name)
		assert.Equal(t, `Bearer error="invalid_token"`, refused.Header.Get("WWW-Authenticate"), name)
	}
	inURL := h.Get("/userinfo?access_token="+changed(func(*accessClaims) {}), "")
	assert.Equal(t, http.StatusUnauthorized, inURL.Status)
}

// TestRefresh: a refresh token is exchanged once. Used again, it ends the login.
func TestRefresh(t *testing.T) {
	h, _ := newTestHost(t)
	got, _ := h.Login()
	next := h.Refresh(got.RefreshToken)
	require.Equal(t, http.StatusOK, next.Status, next.Body)
	assert.Equal(t, hosttest.Scopes, next.Scope)
	assert.NotEqual(t, got.RefreshToken, next.RefreshToken)
	assert.Equal(t, "alice", h.Get("/userinfo", next.AccessToken).Sub)
	again := h.PostBasic("tv", "", "/token", "grant_type", "refresh_token", "refresh_token", next.RefreshToken)
	require.Equal(t, http.StatusOK, again.Status, again.Body)

	assert.Equal(t, "invalid_grant", h.Refresh(got.RefreshToken).Error)
	assert.Equal(t, "invalid_grant", h.Refresh(again.RefreshToken).Error)
}

// TestRefreshRefused: what is refused does not use the token up.
func TestRefreshRefused(t *testing.T) {
	h, _ := newTestHost(t)
	got, _ := h.Login()
	refresh := []string{"grant_type", "refresh_token", "refresh_token", got.RefreshToken}
	for _, tt := range []struct {
		name string
		a    hosttest.Answer
		want string
	}{
		{"another client", h.PostBasic("web", "web-secret", "/token", refresh...), "invalid_grant"},
		{"no client", h.Post("/token", refresh...), "invalid_client"},
		{"wrong secret", h.PostBasic("web", "wrong", "/token", refresh...), "invalid_client"},
		{"malformed name", h.PostBasic("%", "", "/token", refresh...), "invalid_client"},
		{"malformed secret", h.PostBasic("tv", "%", "/token", refresh...), "invalid_client"},
		{"more scope", h.PostBasic("tv", "", "/token", append(refresh, "scope", "openid admin")...), "invalid_scope"},
		{"no token", h.Refresh(""), "invalid_grant"},
		{"unknown family", h.Refresh("x." + got.RefreshToken), "invalid_grant"},
		{"in the URL", h.Post("/token?grant_type=refresh_token&client_id=tv&refresh_token=" + got.RefreshToken), "unsupported_grant_type"},
		{"GET", h.Get("/token", ""), "invalid_request"},
	} {
		assert.Equal(t, tt.want, tt.a.Error, tt.name)
	}
	narrow := h.PostBasic("tv", "", "/token", append(refresh, "scope", "openid")...)
	require.Equal(t, http.StatusOK, narrow.Status, narrow.Body)
	assert.Equal(t, "openid", narrow.Scope)
	assert.JSONEq(t, `{"sub":"alice"}`, h.Get("/userinfo", narrow.AccessToken).Body)
	assert.Equal(t, hosttest.Scopes, h.Refresh(narrow.RefreshToken).Scope)
}

// TestRefreshExpires: a refresh token lasts for as long as it is used.
func TestRefreshExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, _ := newTestHost(t)
		got, _ := h.Login()
		for range 2 {
			time.Sleep(refreshLife - time.Second)
			got = h.Refresh(got.RefreshToken)
			require.Equal(t, http.StatusOK, got.Status, got.Body)
		}
		time.Sleep(refreshLife)
		assert.Equal(t, "invalid_grant", h.Refresh(got.RefreshToken).Error)
	})
}

// TestOnline: who is not allowed offline access gets no refresh token.
func TestOnline(t *testing.T) {
	h, _ := newTestHost(t)
	got, _ := h.Login("openid")
	assert.Empty(t, got.RefreshToken)
}

func TestTableIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tab := newTable[string](3)
		put := func(name string, life time.Duration) { tab.put(digestOf(name), name, life) }
		has := func(names ...string) (found []string) {
			for _, name := range names {
				if v, ok := tab.get(digestOf(name)); ok {
					found = append(found, v)
				}
			}
			return found
		}
		put("a", time.Minute)
		put("b", time.Second)
		put("c", time.Hour)
		put("c", time.Hour)
		assert.Equal(t, []string{"a", "b", "c"}, has("a", "b", "c"))
		put("d", time.Hour)
		assert.Equal(t, []string{"a", "c", "d"}, has("a", "b", "c", "d"))
		time.Sleep(time.Minute)
		assert.Equal(t, []string{"c", "d"}, has("a", "c", "d"))
		put("e", time.Hour)
		assert.Equal(t, []string{"c", "d", "e"}, has("a", "c", "d", "e"))
		time.Sleep(time.Hour)
		put("f", time.Hour)
		assert.Len(t, tab.entries, 1)
	})
}
