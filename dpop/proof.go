package dpop

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/json"

	"github.com/devicegrant/devicegrant"
)

const (
	proofType = "dpop+jwt" // section 4.2

	maxProof = 8 << 10 // bytes, before anything is decoded; an RSA key of 4096 bits takes 2 KiB
	maxID    = 256     // bytes of a jti, which has 16 or so

	minRSABits = 2048 // RFC 7518 section 3.3
	maxRSABits = 4096 // what a made-up key may cost
)

// claims are those of section 4.2. All others are ignored.
//
// They are decoded by go-jose's encoding/json, which takes no name twice, nor one in
// another case.
type claims struct {
	ID        string   `json:"jti"`
	Method    string   `json:"htm"`
	URL       string   `json:"htu"`
	IssuedAt  *float64 `json:"iat"` // A NumericDate may have a fraction (RFC 7519 section 2).
	TokenHash *string  `json:"ath"`
	Nonce     string   `json:"nonce"`
}

// verify checks the proof of r by section 4.3, in the order in which that costs least
// and tells most, and returns its key. token is the access token that comes with it, at
// a protected resource.
func (v *Verifier) verify(w http.ResponseWriter, r *http.Request, token *string) (devicegrant.Key, error) {
	v.offerNonce(w.Header())
	signed, err := v.parse(r.Header.Values("DPoP"))
	if err != nil {
		return devicegrant.Key{}, err
	}
	thumbprint, c, err := open(signed)
	if err != nil {
		return devicegrant.Key{}, err
	}
	target, err := v.matches(c, r)
	if err != nil {
		return devicegrant.Key{}, err
	}
	if token != nil && !c.of(*token) {
		return devicegrant.Key{}, ErrInvalidProof.Describe("the ath of the proof is not that of the access token")
	}
	expires, err := v.expiry(c)
	if err != nil {
		return devicegrant.Key{}, err
	}
	// Last of all, so that nothing is remembered of a proof that was of no use.
	fresh, err := v.replay.Use(r.Context(), useOf(thumbprint, target, c.ID), expires)
	switch {
	case err != nil:
		return devicegrant.Key{}, fmt.Errorf("dpop: remembering a proof: %w", err)
	case !fresh:
		return devicegrant.Key{}, ErrInvalidProof.Describe("the proof was used before")
	}
	return devicegrant.Key{Method: devicegrant.KeyDPoP, Thumbprint: thumbprint}, nil
}

// parse returns the only proof among the DPoP headers, of which nothing is verified yet.
func (v *Verifier) parse(headers []string) (*jose.JSONWebSignature, error) {
	if len(headers) != 1 {
		return nil, ErrInvalidProof.Describe("there must be one DPoP header")
	}
	proof := headers[0]
	if len(proof) > maxProof {
		return nil, ErrInvalidProof.Describe("the proof is longer than %d bytes", maxProof)
	}
	// Go's base64 skips line breaks, which a JWS cannot have (RFC 7515 section 2).
	if strings.ContainsAny(proof, "\r\n") {
		return nil, ErrInvalidProof.Describe("the proof is not a JWS in compact form")
	}
	signed, err := jose.ParseSignedCompact(proof, v.algorithms)
	var alg *jose.ErrUnexpectedSignatureAlgorithm
	switch {
	case errors.As(err, &alg):
		return nil, ErrInvalidProof.Describe("the alg of the proof is not supported")
	case err != nil: // It may quote the proof, and so stays here.
		return nil, ErrInvalidProof.Describe("the proof is not a JWS in compact form with a public key that is supported")
	}
	return signed, nil
}

// open verifies the signature by the key that is in the proof itself, and returns that
// key's thumbprint (RFC 7638) and the claims.
func open(signed *jose.JSONWebSignature) (thumbprint string, c claims, err error) {
	header := signed.Signatures[0].Protected
	if typ, _ := header.ExtraHeaders[jose.HeaderType].(string); typ != proofType {
		return "", c, ErrInvalidProof.Describe("the typ of the proof is not %s", proofType)
	}
	// go-jose knows b64 (RFC 7797), which a JWT must not have; DPoP has no extension.
	for _, name := range []jose.HeaderKey{"crit", "b64"} {
		if _, ok := header.ExtraHeaders[name]; ok {
			return "", c, ErrInvalidProof.Describe("the proof has an extension that is not supported")
		}
	}
	key := header.JSONWebKey
	if key == nil { // Of those that are there, go-jose has refused all that are not public.
		return "", c, ErrInvalidProof.Describe("the proof has no public key in its jwk")
	}
	if public, ok := key.Key.(*rsa.PublicKey); ok && (public.N.BitLen() < minRSABits || public.N.BitLen() > maxRSABits) {
		return "", c, ErrInvalidProof.Describe("an RSA key must have %d to %d bits", minRSABits, maxRSABits)
	}
	payload, err := signed.Verify(key.Key) // The curve is that of alg, or this fails.
	if err != nil {
		return "", c, ErrInvalidProof.Describe("the signature of the proof is not valid")
	}
	if err := json.Unmarshal(payload, &c); err != nil {
		return "", c, ErrInvalidProof.Describe("the claims of the proof are malformed")
	}
	sum, err := key.Thumbprint(crypto.SHA256)
	if err != nil {
		return "", c, ErrInvalidProof.Describe("the key of the proof is not supported")
	}
	return base64.RawURLEncoding.EncodeToString(sum), c, nil
}

// matches checks that the proof was made for r, and returns the URL of both.
func (v *Verifier) matches(c claims, r *http.Request) (address, error) {
	if c.ID == "" || len(c.ID) > maxID {
		return address{}, ErrInvalidProof.Describe("the jti of the proof must have 1 to %d bytes", maxID)
	}
	if c.IssuedAt == nil {
		return address{}, ErrInvalidProof.Describe("the proof has no iat")
	}
	if c.Method != r.Method {
		return address{}, ErrInvalidProof.Describe("the htm of the proof is not the method of the request")
	}
	target := v.base.join(r.URL)
	if claimed, ok := parseAddress(c.URL); !ok || claimed != target {
		return address{}, ErrInvalidProof.Describe("the htu of the proof is not the URL of the request")
	}
	return target, nil
}

// of reports whether the proof was made for the access token.
func (c claims) of(token string) bool {
	sum := sha256.Sum256([]byte(token))
	want := base64.RawURLEncoding.EncodeToString(sum[:])
	return c.TokenHash != nil && subtle.ConstantTimeCompare([]byte(*c.TokenHash), []byte(want)) == 1
}

// expiry returns until when the proof is good. When it was made, its nonce says if
// there has to be one, and its iat otherwise (section 4.3, item 11).
func (v *Verifier) expiry(c claims) (time.Time, error) {
	now := time.Now()
	if v.nonces.demanded() {
		made, ok := v.nonces.verify(c.Nonce, now)
		if !ok {
			return time.Time{}, ErrUseNonce.Describe("the proof must have the nonce of the DPoP-Nonce header")
		}
		return made.Add(v.window), nil
	}
	// As numbers: an iat may be too large for a time.
	age := float64(now.UnixMicro())/1e6 - *c.IssuedAt
	if age > v.window.Seconds() || age < -skew.Seconds() {
		return time.Time{}, ErrInvalidProof.Describe("the iat of the proof is too far from the time of this server")
	}
	// From the proof alone, so that it is remembered in one place however often it comes.
	return time.UnixMicro(int64(*c.IssuedAt * 1e6)).Add(v.window), nil
}

// useOf is what is remembered of a proof: its jti, in the context of its key and its URL
// (section 11.1). So nobody uses up what somebody else's proofs are called.
func useOf(thumbprint string, target address, id string) [sha256.Size]byte {
	return sha256.Sum256([]byte(thumbprint + "\x00" + target.host + "\x00" + target.path + "\x00" + id))
}
