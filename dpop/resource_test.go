package dpop_test

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/devicegrant/devicegrant/dpop"
)

const accessToken = "Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU" // RFC 9449 section 7.1

func ath(token string) string {
	sum := sha256.Sum256([]byte(token))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// resourceProof is a proof for a GET of baseURL/me with the access token.
func resourceProof() *proof {
	return es256().with("htm", "GET").with("htu", baseURL+"/me").with("ath", ath(accessToken))
}

func get(authorization []string, proofs ...string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "/me", nil)
	r.Header["Authorization"] = authorization
	for _, p := range proofs {
		r.Header.Add("DPoP", p)
	}
	return r
}

func TestResource(t *testing.T) {
	v := newVerifier(t, nil)
	for _, scheme := range []string{"DPoP ", "dpop ", "DPOP  "} {
		token, key, err := v.Resource(httptest.NewRecorder(), get([]string{scheme + accessToken}, resourceProof().String()))
		require.NoError(t, err)
		require.Equal(t, accessToken, token)
		require.Equal(t, thumbprint(p256().Public()), key.Thumbprint)
	}
}

// Each breaks one rule of a protected resource (sections 4.3 and 7.1).
func TestResourceRefuses(t *testing.T) {
	v := newVerifier(t, func(c *dpop.Config) { c.Replay = untouched(t) })
	authorized := []string{"DPoP " + accessToken}
	withoutHash := resourceProof()
	delete(withoutHash.claims, "ath")
	for name, c := range map[string]struct {
		authorization []string
		proofs        []string
		want          error
		words         string
	}{
		"no token":            {nil, []string{resourceProof().String()}, dpop.ErrNoToken, ""},
		"a bearer token":      {[]string{"Bearer " + accessToken}, []string{resourceProof().String()}, dpop.ErrNoToken, ""},
		"two tokens":          {[]string{authorized[0], "Bearer x"}, []string{resourceProof().String()}, dpop.ErrInvalidToken, "one Authorization"},
		"an empty token":      {[]string{"DPoP "}, []string{resourceProof().String()}, dpop.ErrInvalidToken, "malformed"},
		"only padding":        {[]string{"DPoP =="}, []string{resourceProof().String()}, dpop.ErrInvalidToken, "malformed"},
		"two words":           {[]string{"DPoP a b"}, []string{resourceProof().String()}, dpop.ErrInvalidToken, "malformed"},
		"parameters":          {[]string{`DPoP token="x"`}, []string{resourceProof().String()}, dpop.ErrInvalidToken, "malformed"},
		"no proof":            {authorized, nil, dpop.ErrInvalidProof, "one DPoP header"},
		"two proofs":          {authorized, []string{resourceProof().String(), resourceProof().String()}, dpop.ErrInvalidProof, "one DPoP header"},
		"no ath":              {authorized, []string{withoutHash.String()}, dpop.ErrInvalidProof, "ath"},
		"an empty ath":        {authorized, []string{resourceProof().with("ath", "").String()}, dpop.ErrInvalidProof, "ath"},
		"ath of another":      {authorized, []string{resourceProof().with("ath", ath("x")).String()}, dpop.ErrInvalidProof, "ath"},
		"ath that is a token": {authorized, []string{resourceProof().with("ath", accessToken).String()}, dpop.ErrInvalidProof, "ath"},
		"another method":      {authorized, []string{resourceProof().with("htm", "POST").String()}, dpop.ErrInvalidProof, "htm"},
	} {
		t.Run(name, func(t *testing.T) {
			token, key, err := v.Resource(httptest.NewRecorder(), get(c.authorization, c.proofs...))
			require.Empty(t, token)
			require.Zero(t, key)
			require.ErrorIs(t, err, c.want)
			require.ErrorContains(t, err, c.words)
			require.NotContains(t, err.Error(), accessToken)
		})
	}
}

// The examples of RFC 9449 section 7.1, when they were made.
func TestResourceExampleOfTheRFC(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(time.Unix(1562262618, 0)))
		v := newVerifier(t, func(c *dpop.Config) { c.BaseURL = "https://resource.example.org" })
		r := get([]string{"DPoP " + accessToken}, rfcHeader+"."+
			"eyJqdGkiOiJlMWozVl9iS2ljOC1MQUVCIiwiaHRtIjoiR0VUIiwiaHR1IjoiaHR0cHM6Ly9yZXNvdXJjZS5leGFtcGxlLm9yZy9wcm90ZWN0ZWRyZXNvdXJjZSIsImlhdCI6MTU2MjI2MjYxOCwi"+
			"YXRoIjoiZlVIeU8ycjJaM0RaNTNFc05yV0JiMHhXWG9hTnk1OUlpS0NBcWtzbVFFbyJ9."+
			"2oW9RP35yRqzhrtNP86L-Ey71EOptxRimPPToA1plemAgR6pxHF8y6-yqyVnmcw6Fy1dqd-jfxSYoMxhAJpLjA")
		r.URL.Path = "/protectedresource"
		_, key, err := v.Resource(httptest.NewRecorder(), r)
		require.NoError(t, err)
		require.Equal(t, rfcThumbprint, key.Thumbprint)
	})
}

func TestChallenge(t *testing.T) {
	v := newVerifier(t, func(c *dpop.Config) {
		c.Algorithms = c.Algorithms[:0:0]
		c.Algorithms = append(c.Algorithms, "ES256", "PS256")
	})
	for name, c := range map[string]struct {
		err    error
		status int
		want   string
	}{
		"no token":      {dpop.ErrNoToken, 401, `DPoP algs="ES256 PS256"`},
		"invalid token": {dpop.ErrInvalidToken, 401, `DPoP error="invalid_token", algs="ES256 PS256"`},
		"described": {dpop.ErrInvalidProof.Describe("the \"htu\"\r\n is ü"), 401,
			`DPoP error="invalid_dpop_proof", error_description="the ?htu??? is ?", algs="ES256 PS256"`},
		"nonce": {dpop.ErrUseNonce.Because(errors.New("secret")), 401, `DPoP error="use_dpop_nonce", algs="ES256 PS256"`},
		"ours":  {errors.New("secret"), 500, ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := httptest.NewRecorder()
			v.Challenge(w, c.err)
			require.Equal(t, c.status, w.Code)
			require.Equal(t, c.want, w.Header().Get("WWW-Authenticate"))
			require.NotContains(t, w.Body.String(), "secret")
			if c.status == http.StatusUnauthorized {
				require.Equal(t, "no-store", w.Header().Get("Cache-Control"))
			}
		})
	}
}

// A resource demands nonces as well (section 9).
func TestResourceNonce(t *testing.T) {
	v := newVerifier(t, func(c *dpop.Config) { c.NonceKeys = [][]byte{make([]byte, 32)} })
	w := httptest.NewRecorder()
	_, _, err := v.Resource(w, get([]string{"DPoP " + accessToken}, resourceProof().String()))
	require.ErrorIs(t, err, dpop.ErrUseNonce)
	p := resourceProof().with("nonce", w.Header().Get("DPoP-Nonce"))
	_, _, err = v.Resource(httptest.NewRecorder(), get([]string{"DPoP " + accessToken}, p.String()))
	require.NoError(t, err)
}
