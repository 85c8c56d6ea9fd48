package devicegrant

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"sync"
	"time"
)

// keyring makes codes and tickets under the first key and takes those of all.
type keyring []*key

type key struct {
	digesters sync.Pool // of *digester
	aead      cipher.AEAD
}

const minKeyBytes = 32

func newKeyring(secrets [][]byte) (keyring, error) {
	if len(secrets) == 0 {
		return nil, fmt.Errorf("Keys is empty; set it to at least one key of %d random bytes that all replicas share", minKeyBytes)
	}
	ring := make(keyring, len(secrets))
	for i, secret := range secrets {
		if len(secret) < minKeyBytes {
			return nil, fmt.Errorf("Keys[%d] has %d bytes; use at least %d random ones", i, len(secret), minKeyBytes)
		}
		var err error
		if ring[i], err = newKey(secret); err != nil {
			return nil, fmt.Errorf("Keys[%d]: %w", i, err)
		}
	}
	return ring, nil
}

// newKey derives a key for each use, so that none can be turned against another.
func newKey(secret []byte) (*key, error) {
	var derived [4][]byte
	for i, use := range [...]string{"device code", "user code", "ticket", "binding"} {
		var err error
		if derived[i], err = hkdf.Key(sha256.New, secret, nil, "devicegrant "+use, minKeyBytes); err != nil {
			return nil, err
		}
	}
	block, err := aes.NewCipher(derived[2])
	if err != nil {
		return nil, err
	}
	k := new(key)
	k.digesters.New = func() any {
		return &digester{
			tagger: hmac.New(sha256.New, derived[0]),
			user:   hmac.New(sha256.New, derived[1]),
			binder: hmac.New(sha256.New, derived[3]),
		}
	}
	k.aead, err = cipher.NewGCMWithRandomNonce(block)
	return k, err
}

// seal encrypts what a page hands to a browser to bring back, good until expires
// and for one purpose. It is safe in a URL and in a form.
func (ring keyring) seal(purpose string, expires time.Time, content []byte) string {
	plain := binary.BigEndian.AppendUint64(nil, uint64(expires.UnixMicro()))
	sealed := ring[0].aead.Seal(nil, nil, append(plain, content...), []byte(purpose))
	return base64.RawURLEncoding.EncodeToString(sealed)
}

// unseal returns what seal was given; ok is false when it was for another
// purpose, made under no key of ours, or has expired at now.
func (ring keyring) unseal(purpose string, now time.Time, sealed string) (content []byte, ok bool) {
	raw, err := base64.RawURLEncoding.DecodeString(sealed)
	if err != nil {
		return nil, false
	}
	for _, k := range ring {
		plain, err := k.aead.Open(nil, nil, raw, []byte(purpose))
		if err == nil && len(plain) >= 8 {
			expires := time.UnixMicro(int64(binary.BigEndian.Uint64(plain))) //nolint:gosec // Written the same way.
			return plain[8:], now.Before(expires)
		}
	}
	return nil, false
}
