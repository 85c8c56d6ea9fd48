package dpop_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/require"

	"github.com/devicegrant/devicegrant"
	"github.com/devicegrant/devicegrant/dpop"
)

const (
	baseURL  = "https://as.example.com"
	tokenURL = baseURL + "/token"
)

// The keys of clients. Two are always the same, for fuzzing runs in several processes.
var (
	p256 = sync.OnceValue(func() *ecdsa.PrivateKey {
		return must(ecdsa.ParseRawPrivateKey(elliptic.P256(), []byte("the key of a client in our tests")))
	})
	p384    = sync.OnceValue(func() *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader)) })
	p521    = sync.OnceValue(func() *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(elliptic.P521(), rand.Reader)) })
	ed      = sync.OnceValue(func() ed25519.PrivateKey { return ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)) })
	rsa2048 = sync.OnceValue(func() *rsa.PrivateKey { return must(rsa.GenerateKey(rand.Reader, 2048)) })
	rsa1024 = sync.OnceValue(func() *rsa.PrivateKey { return must(rsa.GenerateKey(rand.Reader, 1024)) })
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// proof is a DPoP proof that a test can make wrong in any way before it is signed.
type proof struct {
	key            any // nil signs nothing
	header, claims map[string]any
}

// newProof is a valid proof for a POST to tokenURL.
func newProof(alg string, key crypto.Signer) *proof {
	return &proof{
		key:    key,
		header: map[string]any{"typ": "dpop+jwt", "alg": alg, "jwk": jwk(key.Public())},
		claims: map[string]any{"jti": rand.Text(), "htm": "POST", "htu": tokenURL, "iat": time.Now().Unix()},
	}
}

// es256 is the proof that most clients make.
func es256() *proof { return newProof("ES256", p256()) }

func (p *proof) with(claim string, value any) *proof {
	p.claims[claim] = value
	return p
}

func (p *proof) String() string {
	encode := base64.RawURLEncoding.EncodeToString
	alg, _ := p.header["alg"].(string)
	input := encode(must(json.Marshal(p.header))) + "." + encode(must(json.Marshal(p.claims)))
	return input + "." + encode(sign(alg, p.key, []byte(input)))
}

func jwk(key any) map[string]any {
	var members map[string]any
	if err := json.Unmarshal(must(jose.JSONWebKey{Key: key}.MarshalJSON()), &members); err != nil {
		panic(err)
	}
	return members
}

// sign is RFC 7518 section 3 and RFC 8037 section 3.1, without go-jose, which would not
// sign what is wrong.
func sign(alg string, key any, input []byte) []byte {
	hash := map[byte]crypto.Hash{'6': crypto.SHA256, '4': crypto.SHA384, '2': crypto.SHA512}[alg[len(alg)-1]]
	var digest []byte
	if hash != 0 {
		h := hash.New()
		h.Write(input)
		digest = h.Sum(nil)
	}
	switch key := key.(type) {
	case *ecdsa.PrivateKey:
		r, s, err := ecdsa.Sign(rand.Reader, key, digest)
		if err != nil {
			panic(err)
		}
		size := (key.Curve.Params().BitSize + 7) / 8
		return append(r.FillBytes(make([]byte, size)), s.FillBytes(make([]byte, size))...)
	case ed25519.PrivateKey:
		return ed25519.Sign(key, input)
	case *rsa.PrivateKey:
		if strings.HasPrefix(alg, "PS") {
			return must(rsa.SignPSS(rand.Reader, key, hash, digest, nil))
		}
		return must(rsa.SignPKCS1v15(rand.Reader, key, hash, digest))
	case []byte:
		mac := hmac.New(sha256.New, key)
		mac.Write(input)
		return mac.Sum(nil)
	default:
		return nil
	}
}

func newVerifier(t testing.TB, change func(*dpop.Config)) *dpop.Verifier {
	t.Helper()
	cfg := dpop.Config{BaseURL: baseURL}
	if change != nil {
		change(&cfg)
	}
	v, err := dpop.New(cfg)
	require.NoError(t, err)
	return v
}

// post is a token request with the proofs in headers of their own.
func post(proofs ...string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/token", nil)
	for _, p := range proofs {
		r.Header.Add("DPoP", p)
	}
	return r
}

// prove returns what ProvenKey makes of a token request.
func prove(v *dpop.Verifier, proofs ...string) (devicegrant.Key, error) {
	return v.ProvenKey(httptest.NewRecorder(), post(proofs...))
}

// requireRefused requires a refusal with a code and in these words.
func requireRefused(t *testing.T, key devicegrant.Key, err error, code *devicegrant.Error, words string) {
	t.Helper()
	require.Zero(t, key)
	require.ErrorIs(t, err, code)
	var refusal *devicegrant.Error
	require.ErrorAs(t, err, &refusal)
	require.Contains(t, refusal.Description, words)
}

// replayFunc is a Replay.
type replayFunc func(id [sha256.Size]byte, expires time.Time) (bool, error)

func (f replayFunc) Use(_ context.Context, id [sha256.Size]byte, expires time.Time) (bool, error) {
	return f(id, expires)
}

// untouched is a Replay that must not be asked.
func untouched(t *testing.T) dpop.Replay {
	return replayFunc(func([sha256.Size]byte, time.Time) (bool, error) {
		t.Error("a proof that is of no use was remembered")
		return false, nil
	})
}
