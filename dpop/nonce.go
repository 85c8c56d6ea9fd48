package dpop

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"net/http"
	"time"
)

// nonces makes nonces and takes them back (section 8). They are the time at which they
// were made and a tag, so that nothing has to be kept.
type nonces struct {
	keys   [][]byte // The first makes, all of them verify.
	window time.Duration
}

const (
	minKeyBytes = 32
	nonceTag    = 16 // bytes
	nonceBytes  = 8 + nonceTag

	// replicaSkew is how far the clock of the replica that made a nonce may be ahead.
	replicaSkew = 5 * time.Second
)

func newNonces(secrets [][]byte, window time.Duration) (nonces, error) {
	n := nonces{window: window}
	for i, secret := range secrets {
		if len(secret) < minKeyBytes {
			return n, fmt.Errorf("NonceKeys[%d] has %d bytes; use at least %d random ones", i, len(secret), minKeyBytes)
		}
		key, err := hkdf.Key(sha256.New, secret, nil, "devicegrant dpop nonce", minKeyBytes)
		if err != nil {
			return n, fmt.Errorf("NonceKeys[%d]: %w", i, err)
		}
		n.keys = append(n.keys, key)
	}
	return n, nil
}

func (n nonces) demanded() bool { return len(n.keys) > 0 }

// fresh returns a nonce of the moment.
func (n nonces) fresh(now time.Time) string {
	stamp := binary.BigEndian.AppendUint64(nil, uint64(now.UnixMilli()))
	return base64.RawURLEncoding.EncodeToString(append(stamp, tag(n.keys[0], stamp)...))
}

// verify returns when the nonce was made, if that was here and not too long ago.
func (n nonces) verify(nonce string, now time.Time) (made time.Time, ok bool) {
	raw, err := base64.RawURLEncoding.DecodeString(nonce)
	if err != nil || len(raw) != nonceBytes {
		return time.Time{}, false
	}
	stamp, given := raw[:8], raw[8:]
	for _, key := range n.keys {
		if hmac.Equal(given, tag(key, stamp)) {
			made = time.UnixMilli(int64(binary.BigEndian.Uint64(stamp))) //nolint:gosec // Written the same way.
			age := now.Sub(made)
			return made, age <= n.window && age >= -replicaSkew
		}
	}
	return time.Time{}, false
}

func tag(key, stamp []byte) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write(stamp)
	return mac.Sum(nil)[:nonceTag]
}

// offerNonce hands the client a fresh nonce, if nonces are demanded. Nobody else may get
// it from a cache (section 8.2).
func (v *Verifier) offerNonce(h http.Header) {
	if v.nonces.demanded() {
		h.Set("DPoP-Nonce", v.nonces.fresh(time.Now()))
		h.Set("Cache-Control", "no-store")
	}
}
