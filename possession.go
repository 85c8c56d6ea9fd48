package devicegrant

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strings"
)

// This file is about who may use a device code: whoever knows the code verifier of its
// challenge (PKCE, RFC 7636), or holds the key that it was asked for with. What a code is
// bound to is in the code itself, under the server's keys, so that a poll by a thief is
// turned away before it reaches the Store.

// KeyMethod is how a key is named in the "cnf" of a token (RFC 7800 section 3.1).
type KeyMethod string

// The methods that have a standard.
const (
	// KeyDPoP: the thumbprint of a public key in JWK form (RFC 9449 section 6.1).
	KeyDPoP KeyMethod = "jkt"
	// KeyCertificate: the thumbprint of a client certificate (RFC 8705 section 3.1).
	KeyCertificate KeyMethod = "x5t#S256"
)

// Key names a key that a request has proven to hold, so that tokens can be bound to it.
// The zero Key is none.
type Key struct {
	// Method is the member of "cnf" under which a token names it.
	Method KeyMethod
	// Thumbprint is the value of that member: for both methods a SHA-256 digest in
	// base64url without padding. It is no secret.
	Thumbprint string
}

// CertificateKey is a Config.ProvenKey for servers that clients reach by mutual TLS
// themselves (RFC 8705 section 3): the key is that of the client's certificate, if it
// has presented one. Whether the certificate is to be trusted does not matter for that.
func CertificateKey(_ http.ResponseWriter, r *http.Request) (Key, error) {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return Key{}, nil
	}
	sum := sha256.Sum256(r.TLS.PeerCertificates[0].Raw)
	return Key{Method: KeyCertificate, Thumbprint: base64.RawURLEncoding.EncodeToString(sum[:])}, nil
}

// challenge is a code challenge by the method S256, decoded: the SHA-256 digest of the
// code verifier (RFC 7636 section 4.2). The zero challenge is none.
type challenge [sha256.Size]byte

// parseChallenge reads a code challenge. The method plain, which is also what a missing
// method means, would let whoever sees the challenge redeem the code.
func parseChallenge(s, method string) (c challenge, err error) {
	if s == "" && method == "" {
		return c, nil
	}
	if method != "S256" {
		return c, ErrInvalidRequest.Describe("code_challenge_method must be S256")
	}
	if n, err := base64.RawURLEncoding.Strict().Decode(c[:], []byte(s[:min(len(s), 43)])); err != nil || n != len(c) || len(s) != 43 {
		return challenge{}, ErrInvalidRequest.Describe("code_challenge must be a SHA-256 digest in base64url without padding")
	}
	return c, nil
}

// verifierChallenge returns the challenge that a code verifier answers. ok is false for
// what is no code verifier (RFC 7636 section 4.1).
func verifierChallenge(verifier string) (c challenge, ok bool) {
	const unreserved = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
	if len(verifier) < 43 || len(verifier) > 128 || strings.Trim(verifier, unreserved) != "" {
		return c, false
	}
	return sha256.Sum256([]byte(verifier)), true
}

// possession is what a device code is bound to: each part is demanded if it is not zero.
type possession struct {
	challenge challenge
	key       Key
}

// proof is what a poll proves.
type proof struct {
	verifier string
	key      Key
}

// The kinds of things that a code can be bound to, as it says itself.
const (
	boundToChallenge byte = 1 << iota
	boundToKey
)

func (p possession) kinds() (kinds byte) {
	if p.challenge != (challenge{}) {
		kinds |= boundToChallenge
	}
	if p.key != (Key{}) {
		kinds |= boundToKey
	}
	return kinds
}

// bindingBytes is one byte that says what a code is bound to, and eleven of HMAC-SHA-256
// over that, the code's random bytes and the thing itself. It is keyed, so that a
// verifier that was badly chosen cannot be tried out on the code.
const bindingBytes = 12

// binding is that of the code whose random bytes are in t.raw to what the kinds name of p.
func (t *digester) binding(kinds byte, p possession) []byte {
	t.binder.Reset()
	t.sum[0] = kinds
	t.binder.Write(t.sum[:1])
	t.binder.Write(t.raw[:deviceCodeRandom])
	if kinds&boundToChallenge != 0 {
		t.binder.Write(p.challenge[:])
	}
	if kinds&boundToKey != 0 {
		t.binder.Write([]byte(p.key.Method))
		t.binder.Write([]byte{0})
		t.binder.Write([]byte(p.key.Thumbprint))
	}
	t.binder.Sum(t.sum[1:1])
	return t.sum[:bindingBytes]
}

// provenBy reports whether p proves what the code is bound to. A verifier without a
// challenge is refused: somebody may have taken the challenge out of the device
// authorization request (RFC 9700 section 2.1.1). A key may be new: then only the tokens
// are bound to it.
func (c *deviceCode) provenBy(p proof) bool {
	kinds := c.binding[0]
	shown := possession{key: p.key}
	if verified := kinds&boundToChallenge != 0; verified || p.verifier != "" {
		var ok bool
		if shown.challenge, ok = verifierChallenge(p.verifier); !ok || !verified {
			return false
		}
	}
	if kinds == 0 {
		return true
	}
	t := c.key.digesters.Get().(*digester)
	defer c.key.digesters.Put(t)
	copy(t.raw[:], c.random[:])
	return hmac.Equal(t.binding(kinds, shown), c.binding[:])
}
