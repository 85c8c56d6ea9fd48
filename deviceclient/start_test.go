package deviceclient_test

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/devicegrant/devicegrant/deviceclient"
)

func TestStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := serving(says(200, issued))
		cfg := server.config()
		cfg.Scopes = []string{"openid", "profile"}
		cfg.Parameters = url.Values{"device_name": {"Kitchen TV"}, "resource": {"https://a.example", "https://b.example"}, "client_id": {"other"}}
		client := newClient(t, cfg)
		a := start(t, client)
		assert.Equal(t, "secret-device-code", a.DeviceCode)
		assert.Equal(t, "WDJB-MJHT", a.UserCode)
		assert.Equal(t, origin+"/device", a.VerificationURI)
		assert.Equal(t, origin+"/device?user_code=WDJB-MJHT", a.VerificationURIComplete)
		assert.Equal(t, time.Minute, a.ExpiresIn)
		assert.Equal(t, 5*s, a.Interval)
		assert.Equal(t, time.Minute, a.Left(time.Now()))
		time.Sleep(20 * s)
		assert.Equal(t, 40*s, a.Left(time.Now()))
		time.Sleep(time.Hour)
		assert.Zero(t, a.Left(time.Now()))

		sent := server.to("/device_authorization")[0]
		assert.Equal(t, http.MethodPost, sent.method)
		assert.Equal(t, "application/x-www-form-urlencoded", sent.header.Get("Content-Type"))
		assert.Equal(t, "application/json", sent.header.Get("Accept"))
		assert.Empty(t, sent.header.Get("Authorization"))
		digest := sha256.Sum256([]byte(a.CodeVerifier))
		assert.Equal(t, url.Values{
			"client_id":             {"tv"},
			"scope":                 {"openid profile"},
			"device_name":           {"Kitchen TV"},
			"resource":              {"https://a.example", "https://b.example"},
			"code_challenge":        {base64.RawURLEncoding.EncodeToString(digest[:])},
			"code_challenge_method": {"S256"},
		}, sent.form)
		assert.Len(t, a.CodeVerifier, 43)
		assert.NotEqual(t, a.CodeVerifier, start(t, client).CodeVerifier)

		token, err := client.Poll(t.Context(), a)
		require.NoError(t, err)
		poll := server.to("/token")[0]
		assert.Equal(t, url.Values{
			"client_id":     {"tv"},
			"grant_type":    {"urn:ietf:params:oauth:grant-type:device_code"},
			"device_code":   {"secret-device-code"},
			"code_verifier": {a.CodeVerifier},
		}, poll.form)
		assert.Equal(t, &deviceclient.Token{
			AccessToken: "secret-access", TokenType: "Bearer", RefreshToken: "secret-refresh",
			Expiry: poll.at.Add(time.Hour), Scope: "openid profile",
			Parameters: map[string]any{
				"access_token": "secret-access", "token_type": "Bearer", "refresh_token": "secret-refresh",
				"expires_in": 3600.0, "id_token": "secret-id",
			},
		}, token)
		assert.Len(t, server.to("/.well-known/oauth-authorization-server"), 1, "asked once")
		assert.Equal(t, []string{"tv"}, sent.form["client_id"])
		assert.Equal(t, []string{"other"}, cfg.Parameters["client_id"], "what the caller has stays")
		for _, printed := range []any{a, *a, token, *token} {
			for _, format := range []string{"%v", "%+v", "%#v", "%s"} {
				assert.NotContains(t, fmt.Sprintf(format, printed), "secret")
				assert.NotContains(t, fmt.Sprintf(format, printed), a.CodeVerifier)
			}
			var log strings.Builder
			slog.New(slog.NewTextHandler(&log, nil)).Info("login", "it", printed)
			assert.NotContains(t, log.String(), "secret")
			assert.NotContains(t, log.String(), a.CodeVerifier)
		}
	})
}

func TestStartBare(t *testing.T) {
	server := serving()
	cfg := server.config()
	cfg.NoPKCE, cfg.AuthMethod = true, deviceclient.AuthPost
	a := start(t, newClient(t, cfg))
	assert.Empty(t, a.CodeVerifier)
	assert.Equal(t, url.Values{"client_id": {"tv"}}, server.to("/device_authorization")[0].form)
}

// A secret with characters that RFC 6749 section 2.3.1 has encoded.
func TestSecret(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for method, inBody := range map[deviceclient.AuthMethod]bool{"": false, deviceclient.AuthBasic: false, deviceclient.AuthPost: true} {
			server := serving(says(200, issued))
			cfg := server.config()
			cfg.ClientID, cfg.ClientSecret, cfg.AuthMethod = "c:li", "se cret/:", method
			client := newClient(t, cfg)
			_, err := client.Poll(t.Context(), start(t, client))
			require.NoError(t, err)
			for _, sent := range append(server.to("/device_authorization"), server.to("/token")...) {
				user, password, ok := (&http.Request{Header: sent.header}).BasicAuth()
				assert.Equal(t, !inBody, ok)
				assert.Equal(t, "c:li", sent.form.Get("client_id"))
				if inBody {
					assert.Equal(t, "se cret/:", sent.form.Get("client_secret"))
					continue
				}
				assert.Equal(t, "c%3Ali se+cret%2F%3A", user+" "+password)
				assert.False(t, sent.form.Has("client_secret"))
			}
		}
	})
}

// What servers answer to a device authorization request, and what is made of it.
func TestStartAnswers(t *testing.T) {
	with := func(field, value string) answer {
		fields := map[string]any{}
		require.NoError(t, json.Unmarshal([]byte(authorized), &fields))
		if value == "" {
			delete(fields, field)
		} else {
			fields[field] = json.RawMessage(value)
		}
		body, err := json.Marshal(fields)
		require.NoError(t, err)
		return says(200, string(body))
	}
	for name, test := range map[string]struct {
		answer answer
		says   string
	}{
		"HTML":                        {html(200), "it is no device authorization response"},
		"an empty body":               {says(200, ""), "it is no device authorization response"},
		"a list":                      {says(200, "[]"), "it is no device authorization response"},
		"nothing in it":               {says(200, "{}"), "device_code is missing"},
		"cut off":                     {cut(authorized[:50]), "it ends too early"},
		"endless":                     {endless, "it is too long"},
		"a slow drip":                 {drips, "no answer within 15s"},
		"no answer":                   {hangs, "no answer within 15s"},
		"no server":                   {unreachable, "connection refused"},
		"bad gateway":                 {html(502), "https://example.com/device_authorization answered 502 Bad Gateway with text/html"},
		"a redirect":                  {says(302, "", "Location", "/elsewhere?secret"), "answered 302 Found to https://example.com/elsewhere, where no code is sent"},
		"a redirect to nowhere":       {says(302, authorized), "answered 302 Found"},
		"created":                     {says(201, authorized), "answered 201 Created"},
		"refused":                     {refuses(`{"error":"invalid_scope","error_description":"no\u0007"}`), "the server answered invalid_scope (no?)"},
		"no device code":              {with("device_code", ""), "device_code is missing"},
		"a numeric device code":       {with("device_code", "12"), "it is no device authorization response"},
		"a huge device code":          {with("device_code", `"`+strings.Repeat("x", 5000)+`"`), "device_code is longer than 4096 bytes"},
		"a device code of lines":      {with("device_code", `"x\r\nSet-Cookie: a=b"`), "device_code has characters that cannot be shown"},
		"no user code":                {with("user_code", `""`), "user_code is missing"},
		"escapes in a user code":      {with("user_code", `"\u001b[2JWDJB"`), "user_code has characters that cannot be shown"},
		"a user code backwards":       {with("user_code", `"WDJB\u202eTHJM"`), "user_code has characters that cannot be shown"},
		"a broken user code":          {with("user_code", "\"W\xff\""), "user_code has characters that cannot be shown"},
		"a long user code":            {with("user_code", `"`+strings.Repeat("W", 65)+`"`), "user_code is longer than 64 bytes"},
		"no URI":                      {with("verification_uri", ""), "verification_uri is missing"},
		"a URI that runs":             {with("verification_uri", `"javascript:alert(1)"`), "verification_uri is no web address"},
		"another protocol":            {with("verification_uri", `"ftp://example.com/device"`), "verification_uri is no web address"},
		"no host":                     {with("verification_uri", `"https:///device"`), "verification_uri is no web address"},
		"a file":                      {with("verification_uri", `"file:///etc/passwd"`), "verification_uri is no web address"},
		"a path":                      {with("verification_uri", `"/device"`), "verification_uri is no web address"},
		"escapes in a URI":            {with("verification_uri", `"https://example.com/\u001b]8;;"`), "verification_uri has characters that cannot be shown"},
		"a long URI":                  {with("verification_uri_complete", `"https://example.com/`+strings.Repeat("x", 2048)+`"`), "verification_uri_complete is longer than 2048 bytes"},
		"a complete URI that is none": {with("verification_uri_complete", `"device"`), "verification_uri_complete is no web address"},
		"no expires_in":               {with("expires_in", ""), "expires_in is missing"},
		"expires_in null":             {with("expires_in", "null"), "expires_in is missing"},
		"expires_in zero":             {with("expires_in", "0"), "expires_in is missing or zero"},
		"expires_in negative":         {with("expires_in", "-60"), "expires_in is negative"},
		"expires_in absurd":           {with("expires_in", "1e300"), "expires_in is absurdly large"},
		"expires_in eight days":       {with("expires_in", "691200"), "expires_in is 192h0m0s, and more than 168h0m0s is not believed"},
		"expires_in not a number":     {with("expires_in", `"NaN"`), "expires_in is no number"},
		"expires_in an object":        {with("expires_in", `{}`), "expires_in is no number"},
		"interval negative":           {with("interval", "-5"), "interval is negative"},
		"interval infinite":           {with("interval", `"Inf"`), "interval is absurdly large"},
		"interval beyond the end":     {with("interval", "61"), "interval is 1m1s, and the codes expire after 1m0s already"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := serving()
				server.answers["/device_authorization"] = []answer{test.answer}
				a, err := server.client(t).Start(t.Context())
				assert.Nil(t, a)
				requireOutcome(t, deviceclient.ErrFailed, err)
				assert.ErrorContains(t, err, test.says)
				assert.NotContains(t, err.Error(), "secret")
				assert.NotContains(t, err.Error(), "\x1b")
			})
		})
	}
	for name, test := range map[string]struct {
		answer              answer
		expiresIn, interval time.Duration
	}{
		"no interval":         {with("interval", ""), time.Minute, 5 * s},
		"interval null":       {with("interval", "null"), time.Minute, 5 * s},
		"interval zero":       {with("interval", "0"), time.Minute, 5 * s},
		"interval too short":  {with("interval", "0.001"), time.Minute, s},
		"interval a fraction": {with("interval", "2.5"), time.Minute, 2500 * time.Millisecond},
		"interval as text":    {with("interval", `"7"`), time.Minute, 7 * s},
		"expires_in as text":  {with("expires_in", `"90.0"`), 90 * s, 5 * s},
		"no complete URI":     {with("verification_uri_complete", ""), time.Minute, 5 * s},
		"verification_url":    {says(200, strings.Replace(authorized, `"verification_uri":`, `"verification_url":`, 1)), time.Minute, 5 * s},
		"as HTML":             {says(200, authorized, "Content-Type", "text/html"), time.Minute, 5 * s},
	} {
		t.Run(name, func(t *testing.T) {
			server := serving()
			server.answers["/device_authorization"] = []answer{test.answer}
			a := start(t, server.client(t))
			assert.Equal(t, test.expiresIn, a.ExpiresIn)
			assert.Equal(t, test.interval, a.Interval)
			assert.Equal(t, origin+"/device", a.VerificationURI)
		})
	}
}

func TestStartCancelled(t *testing.T) {
	for name, answers := range map[string]answer{"asking": hangs, "reading": drips} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := serving()
				server.answers["/device_authorization"] = []answer{answers}
				ctx, cancel := context.WithTimeout(t.Context(), 3*s)
				defer cancel()
				_, err := server.client(t).Start(ctx)
				requireOutcome(t, deviceclient.ErrCancelled, err)
				assert.ErrorIs(t, err, context.DeadlineExceeded)
			})
		})
	}
}

// The issuer's metadata is looked for in two places, and has to be the issuer's.
func TestDiscovery(t *testing.T) {
	const oauth, openID = "/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"
	const tenant = "https://example.com/tenant"
	good := says(200, metadata)
	tenants := says(200, strings.Replace(metadata, `"https://example.com"`, `"`+tenant+`"`, 1))
	for name, test := range map[string]struct {
		issuer  string
		answers map[string]answer
		says    string // in the error; empty if there is none
	}{
		"OAuth":                          {origin, map[string]answer{oauth: good}, ""},
		"OpenID":                         {origin, map[string]answer{openID: good}, ""},
		"a path":                         {tenant, map[string]answer{oauth + "/tenant": tenants}, ""},
		"a path, OpenID":                 {tenant, map[string]answer{"/tenant" + openID: tenants}, ""},
		"neither":                        {origin, nil, "https://example.com/.well-known/oauth-authorization-server answered 404 Not Found with text/html"},
		"not there now":                  {origin, map[string]answer{oauth: html(503), openID: good}, "answered 503"},
		"refused in the protocol's form": {origin, map[string]answer{oauth: refuses(`{"error":"invalid_request"}`), openID: good}, "the server answered invalid_request"},
		"of another issuer":              {tenant, map[string]answer{oauth + "/tenant": good}, `the metadata is that of "https://example.com" and not of "https://example.com/tenant"`},
		"with a slash at the end":        {origin + "/", map[string]answer{oauth: good}, `the metadata is that of "https://example.com" and not of "https://example.com/"`},
		"HTML":                           {origin, map[string]answer{oauth: html(200)}, "it is no metadata"},
		"a redirect":                     {origin, map[string]answer{oauth: says(301, "", "Location", "https://evil.example/"), openID: good}, "answered 301 Moved Permanently to https://evil.example/"},
		"without the grant":              {origin, map[string]answer{oauth: says(200, `{"issuer":"https://example.com","token_endpoint":"https://example.com/token"}`)}, "has no device_authorization_endpoint: it does not offer this grant"},
		"without tokens":                 {origin, map[string]answer{oauth: says(200, `{"issuer":"https://example.com","device_authorization_endpoint":"https://example.com/device_authorization"}`)}, "has no token_endpoint"},
		"not over TLS":                   {origin, map[string]answer{oauth: says(200, strings.Replace(metadata, "https://example.com/token", "http://example.com/token", 1))}, `the metadata's token_endpoint is "http://example.com/token"; it has to be https`},
		"userinfo not over TLS":          {origin, map[string]answer{oauth: says(200, strings.Replace(metadata, "{", `{"userinfo_endpoint":"http://example.com/userinfo",`, 1))}, "the metadata's userinfo_endpoint is"},
		"an endpoint of escapes":         {origin, map[string]answer{oauth: says(200, strings.Replace(metadata, "https://example.com/token", `\u001b`, 1))}, `the metadata's token_endpoint is "?"`},
	} {
		t.Run(name, func(t *testing.T) {
			server := serving()
			delete(server.answers, oauth)
			for path, a := range test.answers {
				server.answers[path] = []answer{a}
			}
			cfg := server.config()
			cfg.Issuer = test.issuer
			_, err := newClient(t, cfg).Start(t.Context())
			if test.says == "" {
				require.NoError(t, err)
				return
			}
			requireOutcome(t, deviceclient.ErrFailed, err)
			assert.ErrorContains(t, err, test.says)
		})
	}
}

// What is configured goes before what the metadata says, and without an Issuer there is
// none.
func TestMetadata(t *testing.T) {
	server := serving()
	server.answers["/other"] = []answer{says(200, authorized)}
	server.answers["/.well-known/oauth-authorization-server"] = []answer{says(200, strings.Replace(metadata,
		"{", `{"userinfo_endpoint":"https://example.com/userinfo","scopes_supported":["openid"],`, 1))}
	cfg := server.config()
	cfg.DeviceAuthorizationEndpoint, cfg.TokenEndpoint = origin+"/other", origin+"/tokens"
	client := newClient(t, cfg)
	assert.Nil(t, cfg.HTTPClient.CheckRedirect, "the caller's client stays as it is")
	start(t, client)
	assert.Len(t, server.to("/other"), 1)
	m, err := client.Metadata(t.Context())
	require.NoError(t, err)
	assert.Equal(t, []any{"openid"}, m.Parameters["scopes_supported"])
	m.Parameters = nil
	assert.Equal(t, deviceclient.Metadata{
		Issuer:                      origin,
		DeviceAuthorizationEndpoint: origin + "/other",
		TokenEndpoint:               origin + "/tokens",
		UserinfoEndpoint:            origin + "/userinfo",
	}, m)

	cfg.Issuer, cfg.TokenEndpoint = "", origin+"/token"
	client = newClient(t, cfg)
	start(t, client)
	assert.Len(t, server.to("/other"), 2)
	m, err = client.Metadata(t.Context())
	require.NoError(t, err)
	assert.Equal(t, deviceclient.Metadata{DeviceAuthorizationEndpoint: origin + "/other", TokenEndpoint: origin + "/token"}, m)
	assert.Len(t, server.to("/.well-known/oauth-authorization-server"), 1, "it was asked once")

	delete(server.answers, "/.well-known/oauth-authorization-server")
	_, err = server.client(t).Metadata(t.Context())
	requireOutcome(t, deviceclient.ErrFailed, err)
}

func TestNewRefuses(t *testing.T) {
	for want, cfg := range map[string]deviceclient.Config{
		"ClientID is required":        {Issuer: origin},
		"Issuer is missing":           {ClientID: "tv", TokenEndpoint: origin},
		`Issuer is "http://example`:   {ClientID: "tv", Issuer: "http://example.com"},
		`Issuer is "example.com"`:     {ClientID: "tv", Issuer: "example.com"},
		`Issuer is "https://u@a.b"`:   {ClientID: "tv", Issuer: "https://u@a.b"},
		"Issuer has a query":          {ClientID: "tv", Issuer: "https://example.com?a=b"},
		`TokenEndpoint is "ftp:`:      {ClientID: "tv", Issuer: origin, TokenEndpoint: "ftp://example.com"},
		"DeviceAuthorizationEndpoint": {ClientID: "tv", Issuer: origin, DeviceAuthorizationEndpoint: "https://example.com#x"},
		"AuthMethod is":               {ClientID: "tv", Issuer: origin, AuthMethod: "private_key_jwt"},
		"RequestTimeout is -1s":       {ClientID: "tv", Issuer: origin, RequestTimeout: -s},
	} {
		_, err := deviceclient.New(cfg)
		assert.ErrorContains(t, err, want)
	}
	_, err := deviceclient.New(deviceclient.Config{Issuer: "x", AuthMethod: "y"})
	for _, all := range []string{"ClientID", "Issuer", "AuthMethod"} {
		assert.ErrorContains(t, err, all)
	}
	for _, loopback := range []string{"http://127.0.0.1:8080", "http://localhost", "http://[::1]:80"} {
		_, err := deviceclient.New(deviceclient.Config{ClientID: "tv", Issuer: loopback})
		assert.NoError(t, err)
	}
}

// prover writes down what it is asked to prove.
type prover struct{ err error }

func (prover) Thumbprint() string { return "thumbprint" }

func (p prover) Proof(_ context.Context, method, uri, nonce string) (string, error) {
	return method + " " + uri + " " + nonce, p.err
}

// A key is named at the start and proven with every request; a nonce that the server asks
// for is used at once, and from then on (RFC 9449 section 8).
func TestDPoP(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nonce := refuses(`{"error":"use_dpop_nonce"}`, "DPoP-Nonce", "n1")
		server := serving(refuses(pending, "DPoP-Nonce", "n2"), nonce, refuses(pending), nonce, nonce, says(200, issued))
		server.answers["/device_authorization"] = []answer{nonce, says(200, authorized)}
		cfg := server.config()
		cfg.DPoP, cfg.TokenEndpoint = prover{}, origin+"/token?tenant=1"
		client := newClient(t, cfg)
		a := start(t, client)
		proofs := func(path string) (all []string) {
			for _, r := range server.to(path) {
				all = append(all, r.header.Get("DPoP"))
			}
			return all
		}
		assert.Equal(t, "thumbprint", server.to("/device_authorization")[0].form.Get("dpop_jkt"))
		at := "POST https://example.com/device_authorization "
		assert.Equal(t, []string{at, at + "n1"}, proofs("/device_authorization"))

		_, err := client.Poll(t.Context(), a)
		requireOutcome(t, deviceclient.ErrFailed, err)
		assert.ErrorContains(t, err, "use_dpop_nonce", "two in a row are a server that takes none")
		at = "POST https://example.com/token "
		assert.Equal(t, []string{at + "n1", at + "n2", at + "n1", at + "n1", at + "n1"}, proofs("/token"))
	})
}

func TestDPoPFails(t *testing.T) {
	server := serving()
	cfg := server.config()
	cfg.DPoP = prover{errors.New("no such key")}
	_, err := newClient(t, cfg).Start(t.Context())
	requireOutcome(t, deviceclient.ErrFailed, err)
	assert.ErrorContains(t, err, "making a DPoP proof: no such key")
}
