package dpop_test

import (
	"crypto"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/devicegrant/devicegrant"
	"github.com/devicegrant/devicegrant/dpop"
)

// A valid proof of every algorithm proves its key, by the thumbprint of RFC 7638.
func TestEveryAlgorithm(t *testing.T) {
	keys := map[jose.SignatureAlgorithm]crypto.Signer{
		jose.ES256: p256(), jose.ES384: p384(), jose.ES512: p521(), jose.EdDSA: ed(),
		jose.PS256: rsa2048(), jose.PS384: rsa2048(), jose.PS512: rsa2048(),
		jose.RS256: rsa2048(), jose.RS384: rsa2048(), jose.RS512: rsa2048(),
	}
	v := newVerifier(t, func(c *dpop.Config) { c.Algorithms = slices.Collect(maps.Keys(keys)) })
	for alg, key := range keys {
		got, err := prove(v, newProof(string(alg), key).String())
		require.NoError(t, err, alg)
		require.Equal(t, devicegrant.Key{Method: devicegrant.KeyDPoP, Thumbprint: thumbprint(key.Public())}, got, alg)
	}
}

// thumbprint is RFC 7638 section 3: the members that are required, in order.
func thumbprint(public any) string {
	members := jwk(public)
	var required []byte
	switch members["kty"] {
	case "EC":
		required = must(json.Marshal(map[string]any{"crv": members["crv"], "kty": "EC", "x": members["x"], "y": members["y"]}))
	case "OKP":
		required = must(json.Marshal(map[string]any{"crv": members["crv"], "kty": "OKP", "x": members["x"]}))
	default:
		required = must(json.Marshal(map[string]any{"e": members["e"], "kty": "RSA", "n": members["n"]}))
	}
	sum := sha256.Sum256(required)
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// Each breaks one rule of section 4.3 and is refused for that; nothing of it is
// remembered.
func TestInvalidProofs(t *testing.T) {
	v := newVerifier(t, func(c *dpop.Config) { c.Replay = untouched(t) })
	unsigned := "not a JWS in compact form"
	for name, c := range map[string]struct {
		proofs []string
		words  string
	}{
		"two headers":         {[]string{es256().String(), es256().String()}, "one DPoP header"},
		"two in one header":   {[]string{es256().String() + ", " + es256().String()}, unsigned},
		"an empty header":     {[]string{""}, unsigned},
		"too long":            {[]string{es256().with("x", strings.Repeat("x", 8<<10)).String()}, "longer than"},
		"no JWS":              {[]string{"proof"}, unsigned},
		"two parts":           {[]string{cut(es256(), 2)}, unsigned},
		"four parts":          {[]string{es256().String() + ".e30"}, unsigned},
		"a line break":        {[]string{es256().String() + "\n"}, unsigned},
		"JSON serialization":  {[]string{jsonForm(es256())}, unsigned},
		"no typ":              {[]string{header("typ", nil)}, "typ"},
		"typ JWT":             {[]string{header("typ", "JWT")}, "typ"},
		"typ in capitals":     {[]string{header("typ", "DPoP+JWT")}, "typ"},
		"typ with its prefix": {[]string{header("typ", "application/dpop+jwt")}, "typ"},
		"typ that is a list":  {[]string{header("typ", []string{"dpop+jwt"})}, "typ"},
		"no alg":              {[]string{header("alg", nil)}, "alg"},
		"alg none":            {[]string{unsignedBy("none", nil)}, "alg"},
		"alg HS256":           {[]string{unsignedBy("HS256", []byte("secret"))}, "alg"},
		"alg not configured":  {[]string{newProof("ES384", p384()).String()}, "alg"},
		"no jwk":              {[]string{header("jwk", nil)}, "no public key"},
		"jwk null":            {[]string{header("jwk", json.RawMessage("null"))}, "no public key"},
		"a private EC key":    {[]string{header("jwk", jwk(p256()))}, unsigned},
		"a private Ed key":    {[]string{privateProof("EdDSA", ed())}, unsigned},
		"a private RSA key":   {[]string{privateProof("RS256", rsa2048())}, unsigned},
		"a symmetric key":     {[]string{header("jwk", map[string]any{"kty": "oct", "k": "c2VjcmV0"})}, unsigned},
		"a public key and k":  {[]string{header("jwk", merge(jwk(p256().Public()), "k", "c2VjcmV0"))}, unsigned},
		"another key":         {[]string{header("jwk", jwk(ed().Public()))}, "signature"},
		"another curve":       {[]string{header("jwk", jwk(p384().Public()))}, "signature"},
		"a point elsewhere":   {[]string{header("jwk", merge(jwk(p256().Public()), "x", strings.Repeat("A", 43)))}, unsigned},
		"a short RSA key":     {[]string{newProof("RS256", rsa1024()).String()}, "RSA key"},
		"claims changed":      {[]string{spliced()}, "signature"},
		"no signature":        {[]string{cut(es256(), 2) + "."}, "signature"},
		"crit":                {[]string{header("crit", []string{"b64"})}, "extension"},
		"b64":                 {[]string{header("b64", true)}, "extension"},
		"claims that are not": {[]string{claim("jti", 7)}, "malformed"},
		"no jti":              {[]string{claim("jti", nil)}, "jti"},
		"an empty jti":        {[]string{claim("jti", "")}, "jti"},
		"a long jti":          {[]string{claim("jti", strings.Repeat("x", 257))}, "jti"},
		"no iat":              {[]string{claim("iat", nil)}, "no iat"},
		"iat that is text":    {[]string{claim("iat", "now")}, "malformed"},
		"iat for ever":        {[]string{claim("iat", 1e300)}, "iat"},
		"iat before time":     {[]string{claim("iat", -1e300)}, "iat"},
		"no htm":              {[]string{claim("htm", nil)}, "htm"},
		"another method":      {[]string{claim("htm", "GET")}, "htm"},
		"htm in small":        {[]string{claim("htm", "post")}, "htm"},
		"no htu":              {[]string{claim("htu", nil)}, "htu"},
		"another path":        {[]string{claim("htu", baseURL+"/device_authorization")}, "htu"},
		"another host":        {[]string{claim("htu", "https://rs.example.com/token")}, "htu"},
		"another scheme":      {[]string{claim("htu", "http://as.example.com/token")}, "htu"},
		"another port":        {[]string{claim("htu", "https://as.example.com:8443/token")}, "htu"},
		"a path alone":        {[]string{claim("htu", "/token")}, "htu"},
	} {
		t.Run(name, func(t *testing.T) {
			key, err := prove(v, c.proofs...)
			requireRefused(t, key, err, dpop.ErrInvalidProof, c.words)
		})
	}
}

// header is a proof with another value in its header, or without that at all.
func header(name string, value any) string {
	p := es256()
	if p.header[name] = value; value == nil {
		delete(p.header, name)
	}
	if name == "alg" {
		input := strings.Join(strings.Split(es256().String(), ".")[1:], ".")
		return base64.RawURLEncoding.EncodeToString(must(json.Marshal(p.header))) + "." + input
	}
	return p.String()
}

func claim(name string, value any) string {
	p := es256().with(name, value)
	if value == nil {
		delete(p.claims, name)
	}
	return p.String()
}

// unsignedBy is a proof by an algorithm that is not asymmetric, with a public key that
// is in order.
func unsignedBy(alg string, secret []byte) string {
	p := es256()
	p.header["alg"], p.key = alg, secret
	return p.String()
}

// privateProof has the private key in its jwk.
func privateProof(alg string, key crypto.Signer) string {
	p := newProof(alg, key)
	p.header["jwk"] = jwk(key)
	return p.String()
}

func merge(m map[string]any, name string, value any) map[string]any {
	m[name] = value
	return m
}

func cut(p *proof, parts int) string {
	return strings.Join(strings.Split(p.String(), ".")[:parts], ".")
}

// spliced has the claims of one proof and the signature of another.
func spliced() string {
	a, b := strings.Split(es256().String(), "."), strings.Split(es256().String(), ".")
	return a[0] + "." + b[1] + "." + a[2]
}

func jsonForm(p *proof) string {
	parts := strings.Split(p.String(), ".")
	return string(must(json.Marshal(map[string]string{"protected": parts[0], "payload": parts[1], "signature": parts[2]})))
}

// A name that is there twice means one thing to us and another to somebody else.
func TestNamesThatAreThereTwice(t *testing.T) {
	v := newVerifier(t, func(c *dpop.Config) { c.Replay = untouched(t) })
	p := es256()
	parts := strings.Split(p.String(), ".")
	twice := strings.Replace(string(must(json.Marshal(p.claims))), "{", `{"htm":"GET",`, 1)
	input := parts[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(twice))
	signature := base64.RawURLEncoding.EncodeToString(sign("ES256", p256(), []byte(input)))
	key, err := prove(v, input+"."+signature)
	requireRefused(t, key, err, dpop.ErrInvalidProof, "malformed")
}

// An RSA key may not be larger than the limit even where the program lets go-jose take
// larger ones.
func TestLargeRSAKey(t *testing.T) {
	most := jose.MaxRSAModulusBits
	jose.MaxRSAModulusBits = 1 << 14
	t.Cleanup(func() { jose.MaxRSAModulusBits = most })
	p := newProof("RS256", rsa2048())
	n := new(big.Int).SetBit(big.NewInt(1), 4096, 1)
	p.header["jwk"] = merge(jwk(rsa2048().Public()), "n", base64.RawURLEncoding.EncodeToString(n.Bytes()))
	key, err := prove(newVerifier(t, nil), p.String())
	requireRefused(t, key, err, dpop.ErrInvalidProof, "RSA key")
}

// What section 4.3 does not speak of is no reason to refuse.
func TestProofsThatAreInOrder(t *testing.T) {
	v := newVerifier(t, nil)
	for name, p := range map[string]*proof{
		"unknown claims":        es256().with("nbf", "never").with("x", []int{1}),
		"an ath without use":    es256().with("ath", "x"),
		"a nonce without use":   es256().with("nonce", "x"),
		"iat with a fraction":   es256().with("iat", float64(time.Now().UnixMilli())/1e3),
		"the longest jti":       es256().with("jti", strings.Repeat("x", 256)),
		"a host in capitals":    es256().with("htu", "HTTPS://AS.Example.COM/token"),
		"the usual port":        es256().with("htu", "https://as.example.com:443/token"),
		"a query and fragment":  es256().with("htu", tokenURL+"?a=b#c"),
		"escapes without need":  es256().with("htu", baseURL+"/%74oken"),
		"segments without need": es256().with("htu", baseURL+"/a/../token"),
	} {
		t.Run(name, func(t *testing.T) {
			key, err := prove(v, p.String())
			require.NoError(t, err)
			require.Equal(t, thumbprint(p256().Public()), key.Thumbprint)
		})
	}
}

// A request without a proof proves nothing, and that is no error.
func TestNoProof(t *testing.T) {
	v := newVerifier(t, func(c *dpop.Config) { c.NonceKeys = [][]byte{make([]byte, 32)} })
	w := httptest.NewRecorder()
	key, err := v.ProvenKey(w, post())
	require.NoError(t, err)
	require.Zero(t, key)
	require.Empty(t, w.Header())
}

// The query of the request is not part of htu, and what stripped a prefix of its path is
// made up for.
func TestURLOfTheRequest(t *testing.T) {
	v := newVerifier(t, func(c *dpop.Config) { c.BaseURL = "https://as.example.com/auth/" })
	var err error
	h := http.StripPrefix("/auth", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, err = v.ProvenKey(w, r)
	}))
	for target, htu := range map[string]string{
		"/auth/token":         baseURL + "/auth/token",
		"/auth/token?x=1":     baseURL + "/auth/token",
		"/auth/a%2Fb/%7Euser": baseURL + "/auth/a%2fb/~user",
		"/auth/":              baseURL + "/auth/",
	} {
		r := httptest.NewRequest(http.MethodPost, target, nil)
		r.Header.Set("DPoP", es256().with("htu", htu).String())
		h.ServeHTTP(httptest.NewRecorder(), r)
		require.NoError(t, err, target)
	}
}

// A proof is good for Window, and may be ten seconds ahead (section 4.3, item 11).
func TestWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVerifier(t, func(c *dpop.Config) { c.Window = time.Minute })
		for iat, ok := range map[time.Duration]bool{
			0: true, -time.Minute: true, -time.Minute - time.Second: false, 10 * time.Second: true, 11 * time.Second: false,
		} {
			key, err := prove(v, es256().with("iat", time.Now().Add(iat).Unix()).String())
			if ok {
				require.NoError(t, err, iat)
				continue
			}
			requireRefused(t, key, err, dpop.ErrInvalidProof, "iat")
		}
	})
}

// A proof is never taken twice: while it is good it is known, and then it is too old.
func TestReplay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVerifier(t, nil)
		time.Sleep(300 * time.Millisecond)
		for _, ahead := range []time.Duration{0, 9 * time.Second} {
			p := es256().with("iat", time.Now().Add(ahead).Unix()).String()
			_, err := prove(v, p)
			require.NoError(t, err)
			words := map[string]int{}
			for range 150 {
				key, err := prove(v, p)
				var refusal *devicegrant.Error
				require.ErrorAs(t, err, &refusal)
				require.ErrorIs(t, err, dpop.ErrInvalidProof)
				require.Zero(t, key)
				words[refusal.Description]++
				time.Sleep(time.Second)
			}
			assert.Len(t, words, 2)
			assert.Equal(t, 120+int(ahead/time.Second), words["the proof was used before"])
		}
	})
}

// A jti is known in the context of its key and its URL, so that nobody uses up those of
// others.
func TestReplayOfOthers(t *testing.T) {
	v := newVerifier(t, nil)
	for _, p := range []*proof{es256(), newProof("EdDSA", ed())} {
		_, err := prove(v, p.with("jti", "1").String())
		require.NoError(t, err)
		key, err := prove(v, p.with("iat", time.Now().Unix()-1).String())
		requireRefused(t, key, err, dpop.ErrInvalidProof, "used before")
	}
	r := httptest.NewRequest(http.MethodPost, "/device_authorization", nil)
	r.Header.Set("DPoP", es256().with("jti", "1").with("htu", baseURL+"/device_authorization").String())
	_, err := v.ProvenKey(httptest.NewRecorder(), r)
	require.NoError(t, err)
}

// Of a hundred requests with one proof, one is served.
func TestReplayRace(t *testing.T) {
	v := newVerifier(t, nil)
	p := es256().String()
	var served atomic.Int32
	var all sync.WaitGroup
	for range 100 {
		all.Go(func() {
			if key, err := prove(v, p); err == nil && key != (devicegrant.Key{}) {
				served.Add(1)
			}
		})
	}
	all.Wait()
	require.EqualValues(t, 1, served.Load())
}

// A Replay that cannot tell refuses the proof, and the client is not told why.
func TestReplayThatFails(t *testing.T) {
	away := errors.New("away")
	v := newVerifier(t, func(c *dpop.Config) {
		c.Replay = replayFunc(func([sha256.Size]byte, time.Time) (bool, error) { return true, away })
	})
	key, err := prove(v, es256().String())
	require.Zero(t, key)
	require.ErrorIs(t, err, away)
	var refusal *devicegrant.Error
	require.NotErrorAs(t, err, &refusal)
}

// A Replay is told to remember a proof for as long as it is good, however it was dated.
func TestReplayUntil(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var until time.Time
		ids := map[[sha256.Size]byte]bool{}
		v := newVerifier(t, func(c *dpop.Config) {
			c.Replay = replayFunc(func(id [sha256.Size]byte, expires time.Time) (bool, error) {
				until, ids[id] = expires, true
				return true, nil
			})
		})
		for _, iat := range []time.Duration{-time.Minute, 0, 10 * time.Second} {
			_, err := prove(v, es256().with("iat", time.Now().Add(iat).Unix()).String())
			require.NoError(t, err)
			require.WithinDuration(t, time.Now().Add(iat+2*time.Minute), until, time.Microsecond)
		}
		require.Len(t, ids, 3)
	})
}

// With NonceKeys a proof needs a nonce of this server that is not too old (section 8).
func TestNonce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVerifier(t, func(c *dpop.Config) { c.NonceKeys = [][]byte{make([]byte, 32)} })
		ask := func(p *proof) (nonce string, err error) {
			w := httptest.NewRecorder()
			key, err := v.ProvenKey(w, post(p.String()))
			if err != nil {
				requireRefused(t, key, err, dpop.ErrUseNonce, "DPoP-Nonce")
			}
			require.Equal(t, "no-store", w.Header().Get("Cache-Control"))
			return w.Header().Get("DPoP-Nonce"), err
		}
		time.Sleep(500 * time.Millisecond)
		nonce, err := ask(es256())
		require.ErrorIs(t, err, dpop.ErrUseNonce)
		for _, wrong := range []string{"", "x", nonce[:31], nonce + "AAAA", "B" + nonce[1:], nonce[:31] + "!", strings.Repeat("A", 32)} {
			_, err = ask(es256().with("nonce", wrong))
			require.Error(t, err, wrong)
		}

		// The proof whose nonce was no good used up nothing, not even its jti.
		p := es256().with("nonce", strings.Repeat("A", 32))
		nonce, err = ask(p)
		require.Error(t, err)
		next, err := ask(p.with("nonce", nonce))
		require.NoError(t, err)

		// Any client can use a nonce, and until it is too old.
		time.Sleep(2 * time.Minute)
		_, err = ask(newProof("EdDSA", ed()).with("nonce", next))
		require.NoError(t, err)
		time.Sleep(time.Millisecond)
		fresh, err := ask(es256().with("nonce", next))
		require.Error(t, err)

		// The nonce says when a proof was made, and not the device's clock.
		_, err = ask(es256().with("nonce", fresh).with("iat", 0))
		require.NoError(t, err)

		// A used proof is no better for its nonce.
		p = es256().with("nonce", fresh)
		_, err = ask(p)
		require.NoError(t, err)
		key, err := prove(v, p.String())
		requireRefused(t, key, err, dpop.ErrInvalidProof, "used before")
	})
}

// An invalid proof is answered with a nonce, too: the next one will need it.
func TestNonceForInvalidProof(t *testing.T) {
	v := newVerifier(t, func(c *dpop.Config) { c.NonceKeys = [][]byte{make([]byte, 32)} })
	w := httptest.NewRecorder()
	key, err := v.ProvenKey(w, post("x"))
	requireRefused(t, key, err, dpop.ErrInvalidProof, "JWS")
	require.NotEmpty(t, w.Header().Get("DPoP-Nonce"))
}

// Replicas verify each other's nonces, while keys rotate and when their clocks are a
// little apart.
func TestNonceRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := []byte(strings.Repeat("a", 32)), []byte(strings.Repeat("b", 32))
		replica := func(keys ...[]byte) *dpop.Verifier {
			return newVerifier(t, func(c *dpop.Config) { c.NonceKeys = keys })
		}
		nonceOf := func(v *dpop.Verifier) string {
			w := httptest.NewRecorder()
			_, err := v.ProvenKey(w, post(es256().String()))
			require.ErrorIs(t, err, dpop.ErrUseNonce)
			return w.Header().Get("DPoP-Nonce")
		}
		steps := []*dpop.Verifier{replica(a), replica(a, b), replica(b, a), replica(b)}
		for i, maker := range steps {
			for j, taker := range steps {
				_, err := prove(taker, es256().with("nonce", nonceOf(maker)).String())
				if i-j < 2 && j-i < 2 {
					require.NoError(t, err, "%d to %d", i, j)
				}
				if (i < 2 && j == 3) || (i > 1 && j == 0) {
					require.ErrorIs(t, err, dpop.ErrUseNonce, "%d to %d", i, j)
				}
			}
		}
	})
}

// The example of RFC 9449 section 4.1 is valid when it was made, and its key has the
// thumbprint of section 6.1.
func TestExampleOfTheRFC(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(time.Unix(1562262616, 0)))
		v := newVerifier(t, func(c *dpop.Config) { c.BaseURL = "https://server.example.com" })
		key, err := prove(v, rfcHeader+"."+
			"eyJqdGkiOiItQndDM0VTYzZhY2MybFRjIiwiaHRtIjoiUE9TVCIsImh0dSI6Imh0dHBzOi8vc2VydmVyLmV4YW1wbGUuY29tL3Rva2VuIiwiaWF0IjoxNTYyMjYyNjE2fQ."+
			"2-GxA6T8lP4vfrg8v-FdWP0A0zdrj8igiMLvqRMUvwnQg4PtFLbdLXiOSsX0x7NVY-FNyJK70nfbV37xRZT3Lg")
		require.NoError(t, err)
		require.Equal(t, rfcThumbprint, key.Thumbprint)
	})
}

const (
	rfcHeader = "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCRnMi" +
		"LCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19"
	rfcThumbprint = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"
)

func TestConfig(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*dpop.Config)
		says   string
	}{
		"no BaseURL":        {func(c *dpop.Config) { c.BaseURL = "" }, "BaseURL"},
		"a path":            {func(c *dpop.Config) { c.BaseURL = "/auth" }, "BaseURL"},
		"http":              {func(c *dpop.Config) { c.BaseURL = "http://as.example.com" }, "must be https"},
		"another scheme":    {func(c *dpop.Config) { c.BaseURL = "ftp://as.example.com" }, "BaseURL"},
		"a query":           {func(c *dpop.Config) { c.BaseURL += "?x" }, "BaseURL"},
		"no algorithms":     {func(c *dpop.Config) { c.Algorithms = []jose.SignatureAlgorithm{} }, "Algorithms"},
		"none":              {func(c *dpop.Config) { c.Algorithms = []jose.SignatureAlgorithm{jose.ES256, "none"} }, "Algorithms"},
		"HMAC":              {func(c *dpop.Config) { c.Algorithms = []jose.SignatureAlgorithm{jose.HS256} }, "Algorithms"},
		"a short window":    {func(c *dpop.Config) { c.Window = time.Second - 1 }, "Window"},
		"a negative one":    {func(c *dpop.Config) { c.Window = -time.Minute }, "Window"},
		"a long window":     {func(c *dpop.Config) { c.Window = time.Hour + 1 }, "Window"},
		"a short nonce key": {func(c *dpop.Config) { c.NonceKeys = [][]byte{make([]byte, 32), make([]byte, 31)} }, "NonceKeys[1]"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := dpop.Config{BaseURL: baseURL}
			c.change(&cfg)
			_, err := dpop.New(cfg)
			require.ErrorContains(t, err, c.says)
		})
	}
	_, err := dpop.New(dpop.Config{Window: -1, Algorithms: []jose.SignatureAlgorithm{"x"}})
	for _, setting := range []string{"BaseURL", "Window", "Algorithms"} {
		require.ErrorContains(t, err, setting)
	}
	for _, base := range []string{"http://localhost:8080", "http://127.0.0.1", "http://[::1]:80/x"} {
		newVerifier(t, func(c *dpop.Config) { c.BaseURL = base })
	}
}

func TestMetadata(t *testing.T) {
	v := newVerifier(t, nil)
	doc := map[string]any{"issuer": baseURL}
	require.Equal(t, map[string]any{
		"issuer":                            baseURL,
		"dpop_signing_alg_values_supported": []string{"ES256", "EdDSA", "PS256", "RS256"},
	}, v.Metadata(doc))
	require.Len(t, doc, 1)
	require.Len(t, v.Metadata(nil), 1)
}

// BenchmarkProvenKey is a request with a proof, headers and replay cache included.
func BenchmarkProvenKey(b *testing.B) {
	for alg, key := range map[string]crypto.Signer{"ES256": p256(), "EdDSA": ed(), "RS256": rsa2048()} {
		b.Run(alg, func(b *testing.B) {
			v := newVerifier(b, func(c *dpop.Config) {
				c.NonceKeys = [][]byte{make([]byte, 32)}
				c.Window = time.Hour
				c.Replay = replayFunc(func([sha256.Size]byte, time.Time) (bool, error) { return true, nil })
			})
			w := httptest.NewRecorder()
			_, err := v.ProvenKey(w, post(newProof(alg, key).String()))
			require.ErrorIs(b, err, dpop.ErrUseNonce)
			r := post(newProof(alg, key).with("nonce", w.Header().Get("DPoP-Nonce")).String())
			b.ReportAllocs()
			for b.Loop() {
				if _, err := v.ProvenKey(w, r); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
