package demo

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/devicegrant/devicegrant"
	"github.com/devicegrant/devicegrant/dpop"
	"github.com/devicegrant/devicegrant/examples/internal/prover"
)

// onEachBound is onEach on hosts that take proofs, which need no nonce.
func onEachBound(t *testing.T, test func(t *testing.T, f *fixture)) {
	t.Helper()
	onEach(t, func(t *testing.T, f *fixture) {
		var err error
		f.DPoP, err = dpop.New(dpop.Config{BaseURL: origin})
		require.NoError(t, err)
		test(t, f)
	})
}

// collected polls for an approved login of the client tv; key may be nil.
func (f *fixture) collected(deviceCode string, key *prover.Key) tokens {
	f.t.Helper()
	got := f.proven(key, "client_id=tv&grant_type="+url.QueryEscape(devicegrant.GrantType)+"&device_code="+deviceCode)
	require.Equal(f.t, http.StatusOK, got.Status, got.Error)
	return got
}

// proven is tokenRequest with a proof of a key, unless that is nil.
func (f *fixture) proven(key *prover.Key, body string) tokens {
	f.t.Helper()
	if key == nil {
		return f.tokenRequest(body)
	}
	return f.tokenRequest(body, "DPoP", key.Proof(http.MethodPost, origin+"/token", ""))
}

// userinfoBy uses an access token by the scheme DPoP with a proof, if there is one.
func (f *fixture) userinfoBy(accessToken, proof string) *httptest.ResponseRecorder {
	f.t.Helper()
	r := httptest.NewRequest(http.MethodGet, "/userinfo", nil)
	r.Header.Set("Authorization", "DPoP "+accessToken)
	if proof != "" {
		r.Header.Set("DPoP", proof)
	}
	return f.do(r)
}

func proofFor(key *prover.Key, accessToken string) string {
	return key.Proof(http.MethodGet, origin+"/userinfo", accessToken)
}

// TestBoundToken: a token that is bound to a key is good with a proof of that key, and
// with nothing else (RFC 9449 sections 7.1 and 7.2).
func TestBoundToken(t *testing.T) {
	onEachBound(t, func(t *testing.T, f *fixture) {
		key := prover.New(t)
		bound, bare := f.collected(f.approved("openid"), key), f.collected(f.approved("openid"), nil)
		require.Equal(t, "DPoP", bound.TokenType)
		require.Equal(t, "Bearer", bare.TokenType)
		assert.JSONEq(t, `{"sub":"alice","scope":"openid"}`, body(t, f.userinfoBy(bound.AccessToken, proofFor(key, bound.AccessToken))))
		assert.Equal(t, http.StatusOK, f.userinfo(bare.AccessToken).Code)

		const algs = `algs="ES256 EdDSA PS256 RS256"`
		for _, tt := range []struct {
			name         string
			answer       *httptest.ResponseRecorder
			bearer, dpop string
		}{
			{"as a bearer token", f.userinfo(bound.AccessToken), `Bearer error="invalid_token"`, `DPoP ` + algs},
			{"another key", f.userinfoBy(bound.AccessToken, proofFor(prover.New(t), bound.AccessToken)), "Bearer", `DPoP error="invalid_token", ` + algs},
			{"not bound", f.userinfoBy(bare.AccessToken, proofFor(key, bare.AccessToken)), "Bearer", `DPoP error="invalid_token", ` + algs},
			{"unknown", f.userinfoBy("x", proofFor(key, "x")), "Bearer", `DPoP error="invalid_token", ` + algs},
			{"proof for another token", f.userinfoBy(bound.AccessToken, proofFor(key, bare.AccessToken)), "Bearer", `DPoP error="invalid_dpop_proof", error_description="the ath of the proof is not that of the access token", ` + algs},
			{"proof for no token", f.userinfoBy(bound.AccessToken, proofFor(key, "")), "Bearer", `DPoP error="invalid_dpop_proof", error_description="the ath of the proof is not that of the access token", ` + algs},
			{"no proof", f.userinfoBy(bound.AccessToken, ""), "Bearer", `DPoP error="invalid_dpop_proof", error_description="there must be one DPoP header", ` + algs},
			{"no token", f.do(httptest.NewRequest(http.MethodGet, "/userinfo", nil)), "Bearer", `DPoP ` + algs},
		} {
			assert.Equal(t, http.StatusUnauthorized, tt.answer.Code, tt.name)
			assert.Equal(t, []string{tt.bearer, tt.dpop}, tt.answer.Header().Values("WWW-Authenticate"), tt.name)
			assert.Equal(t, "application/json", tt.answer.Header().Get("Content-Type"), tt.name)
			assert.NotContains(t, body(t, tt.answer), "alice", tt.name)
		}
	})
}

// TestRefreshBound: a public client's refresh token is bound to the key that it was issued
// to (RFC 9449 section 5), and trying another harms nobody.
func TestRefreshBound(t *testing.T) {
	onEachBound(t, func(t *testing.T, f *fixture) {
		key := prover.New(t)
		token := f.collected(f.approved("openid offline_access"), key)
		for range 2 {
			refresh := "client_id=tv&grant_type=refresh_token&refresh_token=" + token.RefreshToken
			require.Equal(t, "invalid_grant", f.proven(nil, refresh).Error)
			require.Equal(t, "invalid_grant", f.proven(prover.New(t), refresh).Error)
			require.Equal(t, "invalid_dpop_proof", f.tokenRequest(refresh, "DPoP", key.Proof(http.MethodPost, origin+"/userinfo", "")).Error)
			next := f.proven(key, refresh)
			require.Equal(t, http.StatusOK, next.Status, next.Error)
			require.Equal(t, "DPoP", next.TokenType)
			assert.Equal(t, http.StatusUnauthorized, f.userinfo(next.AccessToken).Code)
			assert.Equal(t, http.StatusOK, f.userinfoBy(next.AccessToken, proofFor(key, next.AccessToken)).Code)
			token = next
		}
	})
}

// TestRefreshBinds: a refresh token that is issued to a public client together with a proof
// is bound from then on.
func TestRefreshBinds(t *testing.T) {
	onEachBound(t, func(t *testing.T, f *fixture) {
		key := prover.New(t)
		token := f.collected(f.approved("openid offline_access"), nil)
		token = f.proven(key, "client_id=tv&grant_type=refresh_token&refresh_token="+token.RefreshToken)
		require.Equal(t, "DPoP", token.TokenType)
		refresh := "client_id=tv&grant_type=refresh_token&refresh_token=" + token.RefreshToken
		require.Equal(t, "invalid_grant", f.proven(nil, refresh).Error)
		require.Equal(t, http.StatusOK, f.proven(key, refresh).Status)
	})
}

// TestRefreshConfidential: a confidential client's refresh token is bound to its secret,
// so that its key can change. Its access tokens are bound to the key of their request.
func TestRefreshConfidential(t *testing.T) {
	onEachBound(t, func(t *testing.T, f *fixture) {
		const cli = "client_id=cli&client_secret=cli-secret&grant_type="
		old, key := prover.New(t), prover.New(t)
		deviceCode := f.approvedFor("cli", devicegrant.AuthorizationRequest{Scope: "openid offline_access"})
		token := f.proven(old, cli+url.QueryEscape(devicegrant.GrantType)+"&device_code="+deviceCode)
		require.Equal(t, "DPoP", token.TokenType, token.Error)
		token = f.proven(key, cli+"refresh_token&refresh_token="+token.RefreshToken)
		require.Equal(t, "DPoP", token.TokenType, token.Error)
		assert.Equal(t, http.StatusOK, f.userinfoBy(token.AccessToken, proofFor(key, token.AccessToken)).Code)
		assert.Equal(t, http.StatusUnauthorized, f.userinfoBy(token.AccessToken, proofFor(old, token.AccessToken)).Code)
		token = f.proven(nil, cli+"refresh_token&refresh_token="+token.RefreshToken)
		require.Equal(t, "Bearer", token.TokenType, token.Error)
		assert.Equal(t, http.StatusOK, f.userinfo(token.AccessToken).Code)
	})
}

// TestWithoutDPoP: a host that takes no proofs has bearer tokens only.
func TestWithoutDPoP(t *testing.T) {
	f := newFixture(t)
	key := prover.New(t)
	token := f.collected(f.approved("openid"), key)
	assert.Equal(t, "Bearer", token.TokenType)
	w := f.userinfoBy(token.AccessToken, proofFor(key, token.AccessToken))
	assert.Equal(t, http.StatusUnauthorized, w.Code)
	assert.Equal(t, []string{"Bearer"}, w.Header().Values("WWW-Authenticate"))
}

// TestResources: tokens are for what was asked for (RFC 8707), or less once they are
// refreshed (section 2.2), and say so.
func TestResources(t *testing.T) {
	resources := []string{origin + "/userinfo", "https://api.example.com/"}
	onEach(t, func(t *testing.T, f *fixture) {
		token := f.collected(f.approvedFor("tv", devicegrant.AuthorizationRequest{Scope: "openid offline_access", Resources: resources}), nil)
		assert.Equal(t, resources, f.audience(token))

		narrowed := f.refreshed(token.RefreshToken, "&resource="+url.QueryEscape(resources[1]))
		require.Equal(t, http.StatusOK, narrowed.Status, narrowed.Error)
		assert.Equal(t, resources[1:], f.audience(narrowed))

		both := f.refreshed(narrowed.RefreshToken, "&resource="+url.QueryEscape(resources[0])+"&resource="+url.QueryEscape(resources[1]))
		require.Equal(t, http.StatusOK, both.Status, both.Error)
		assert.Equal(t, resources, f.audience(both))
		require.Equal(t, "invalid_target", f.refreshed(both.RefreshToken, "&resource=https://other.example.com/").Error)

		all := f.refreshed(both.RefreshToken, "")
		assert.Equal(t, resources, f.audience(all))
		assert.Empty(t, f.audience(f.connected("openid")))
	})
}

// audience is the aud in userinfo.
func (f *fixture) audience(token tokens) []string {
	f.t.Helper()
	w := f.userinfo(token.AccessToken)
	require.Equal(f.t, http.StatusOK, w.Code)
	var said struct{ Aud []string }
	require.NoError(f.t, json.Unmarshal(w.Body.Bytes(), &said))
	return said.Aud
}

// TestAuthorizationDetails: every token response has what was asked for, as it was sent
// (RFC 9396 section 7).
func TestAuthorizationDetails(t *testing.T) {
	const details = `[{"type":"payment_initiation","instructedAmount":{"currency":"EUR","amount":"123.50"},"n":1.50e2,"ü":null}]`
	onEach(t, func(t *testing.T, f *fixture) {
		token := f.collected(f.approvedFor("tv", devicegrant.AuthorizationRequest{Scope: "openid offline_access", AuthorizationDetails: details}), nil)
		assert.Equal(t, details, string(token.Details))                               //nolint:testifylint // Byte for byte.
		assert.Equal(t, details, string(f.refreshed(token.RefreshToken, "").Details)) //nolint:testifylint // Byte for byte.
		assert.Nil(t, f.connected("openid").Details)
	})
}

func TestPaymentWords(t *testing.T) {
	const payment = `{"type":"payment_initiation","instructedAmount":{"currency":"EUR","amount":"123.50"},"creditorName":"Merchant A"}`
	assert.Equal(t, "Pay 123.50 EUR to “Merchant A”", Page.Detail(json.RawMessage(payment), "en"))
	assert.Empty(t, Page.Detail(json.RawMessage(payment), "de"))
	for _, change := range [][2]string{ // What the words would not say, the page has to show.
		{`"creditorName"`, `"remittance":"x","creditorName"`},
		{`"creditorName"`, `"CreditorName":"Merchant B","creditorName"`},
		{`"creditorName"`, `"CreditorName"`},
		{`"currency"`, `"fee":"1","currency"`},
		{`"123.50"`, `123.50`},
		{`123.50`, `1 EUR to “Me” or 2`},
		{`EUR`, `eur`},
		{`Merchant A`, `\u202eA tnahcreM`},
		{`Merchant A`, `Me”, and nothing to “Merchant A`},
		{`Merchant A`, ``},
		{`payment_initiation`, `account_information`},
	} {
		changed := strings.Replace(payment, change[0], change[1], 1)
		require.NotEqual(t, payment, changed)
		assert.Empty(t, Page.Detail(json.RawMessage(changed), "en"), changed)
	}
}

func TestAllowedOrigin(t *testing.T) {
	f := newFixture(t)
	assert.False(t, f.AllowedOrigin(t.Context(), "https://tv.example.com"))
	f.Origins = []string{"https://tv.example.com"}
	assert.True(t, f.AllowedOrigin(t.Context(), "https://tv.example.com"))
	assert.False(t, f.AllowedOrigin(t.Context(), "https://cli.example.com"))
	for id, want := range map[string][]string{"tv": f.Origins, "cli": nil, "web": nil} {
		client, err := f.Client(t.Context(), id)
		require.NoError(t, err)
		assert.Equal(t, want, client.Origins, id)
	}
}
