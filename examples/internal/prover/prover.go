// Package prover is a client's key, with which tests make DPoP proofs (RFC 9449).
package prover

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Key is a key of P-256, and the nonce that a server gave last.
type Key struct {
	Nonce string

	t       testing.TB
	private *ecdsa.PrivateKey
	jwk     map[string]string
}

// New returns a random key.
func New(t testing.TB) *Key {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	point, err := private.PublicKey.Bytes() // 4, and the two coordinates.
	require.NoError(t, err)
	return &Key{t: t, private: private, jwk: map[string]string{
		"kty": "EC", "crv": "P-256", "x": encode(point[1:33]), "y": encode(point[33:]),
	}}
}

// Thumbprint is RFC 7638 section 3.
func (k *Key) Thumbprint() string {
	sum := sha256.Sum256(k.marshal(k.jwk)) // The names are in order.
	return encode(sum[:])
}

// Proof returns a new proof for a request: by what method, for which URL, and with which
// access token, if there is one.
func (k *Key) Proof(method, uri, accessToken string) string {
	claims := map[string]any{"jti": rand.Text(), "htm": method, "htu": uri, "iat": time.Now().Unix(), "nonce": k.Nonce}
	if accessToken != "" {
		sum := sha256.Sum256([]byte(accessToken))
		claims["ath"] = encode(sum[:])
	}
	header := map[string]any{"typ": "dpop+jwt", "alg": "ES256", "jwk": k.jwk}
	signed := encode(k.marshal(header)) + "." + encode(k.marshal(claims))
	sum := sha256.Sum256([]byte(signed))
	r, s, err := ecdsa.Sign(rand.Reader, k.private, sum[:])
	require.NoError(k.t, err)
	return signed + "." + encode(append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...))
}

func (k *Key) marshal(v any) []byte {
	b, err := json.Marshal(v)
	require.NoError(k.t, err)
	return b
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }
