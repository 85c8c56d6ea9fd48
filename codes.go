package devicegrant

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// UserCodeFormat says what user codes look like (RFC 8628 section 6.1).
type UserCodeFormat struct {
	// Alphabet is the characters a code is made of: 2 to 36 different ASCII
	// digits and upper-case letters.
	Alphabet string
	// Length is the number of characters, at most 32. It is the least there are:
	// codes get longer while more grants are live than this length can bear.
	Length int
	// Group is after how many characters a dash is shown; zero shows none.
	Group int
}

// Ready-made formats.
var (
	// Base20 is the default and the RFC's own example: consonants only, so that
	// no code spells a word, shown as WDJB-MJHT.
	Base20 = UserCodeFormat{Alphabet: "BCDFGHJKLMNPQRSTVWXZ", Length: 8, Group: 4}
	// Digits suits remote controls and telephones: 1234-5678-9012.
	Digits = UserCodeFormat{Alphabet: "0123456789", Length: 12, Group: 4}
	// Base32 is letters and digits without 0, O, 1 and I, shown as 7KQ4-M2XZ.
	Base32 = UserCodeFormat{Alphabet: "23456789ABCDEFGHJKLMNPQRSTUVWXYZ", Length: 8, Group: 4}
)

const (
	maxUserCodeLength = 32
	// maxTyped bounds what is looked at of what a person typed, in bytes.
	maxTyped = 256
)

func (f UserCodeFormat) validate() error {
	switch {
	case len(f.Alphabet) < 2:
		return errors.New("UserCode.Alphabet must have at least two characters")
	case f.Length < 1 || f.Length > maxUserCodeLength:
		return fmt.Errorf("UserCode.Length is %d; set it from 1 to %d", f.Length, maxUserCodeLength)
	case f.Group < 0:
		return errors.New("UserCode.Group must not be negative")
	}
	for i, c := range f.Alphabet {
		if !(c >= '0' && c <= '9' || c >= 'A' && c <= 'Z') || strings.ContainsRune(f.Alphabet[:i], c) {
			return fmt.Errorf("UserCode.Alphabet: %q must be a digit or an upper-case letter and occur once", c)
		}
	}
	return nil
}

// generate returns a uniformly random code of n characters. Bytes at or above the
// largest multiple of the alphabet's size are rejected, so that no character is
// likelier than another.
func (f UserCodeFormat) generate(random io.Reader, n int) (string, error) {
	limit := 256 - 256%len(f.Alphabet)
	code := make([]byte, 0, maxUserCodeLength)
	var buf [2 * maxUserCodeLength]byte
	for len(code) < n {
		if _, err := io.ReadFull(random, buf[:2*n]); err != nil {
			return "", fmt.Errorf("devicegrant: making a user code: %w", err)
		}
		for _, b := range buf[:2*n] {
			if int(b) < limit && len(code) < n {
				code = append(code, f.Alphabet[int(b)%len(f.Alphabet)])
			}
		}
	}
	return string(code), nil
}

// display groups a code as it is printed on the device.
func (f UserCodeFormat) display(code string) string {
	if f.Group == 0 {
		return code
	}
	var b strings.Builder
	b.Grow(2 * len(code))
	for i := range len(code) {
		if i > 0 && i%f.Group == 0 {
			b.WriteByte('-')
		}
		b.WriteByte(code[i])
	}
	return b.String()
}

// normalize returns the code that a person meant: case, spaces, dashes and any
// other punctuation do not matter, nor do full-width forms (RFC 8628 section
// 6.1). Everything that takes a user code goes through here. ok is false when it
// cannot be a code of this format.
func (f UserCodeFormat) normalize(typed string) (code string, ok bool) {
	if len(typed) > maxTyped || !utf8.ValidString(typed) {
		return "", false
	}
	buf := make([]byte, 0, maxUserCodeLength)
	for _, r := range typed {
		if ignorable(r) {
			continue
		}
		r = fold(r)
		if r >= utf8.RuneSelf || strings.IndexByte(f.Alphabet, byte(r)) < 0 || len(buf) == maxUserCodeLength {
			return "", false
		}
		buf = append(buf, byte(r))
	}
	return string(buf), len(buf) >= f.Length
}

// ignorable is whatever may stand between the characters of a code: spaces of
// any width, dashes, quotes and brackets, and invisible formatting such as the
// marks that keyboards for right-to-left scripts put in.
func ignorable(r rune) bool {
	return unicode.IsSpace(r) || unicode.In(r, unicode.P, unicode.S, unicode.Zs, unicode.Cf)
}

// fold maps full-width forms to ASCII, the digits of the scripts whose keyboards
// type their own to ASCII digits, and lower case to upper.
func fold(r rune) rune {
	if r >= '\uff01' && r <= '\uff5e' {
		r -= '\uff01' - '!'
	}
	for _, zero := range [...]rune{'\u0660', '\u06f0', '\u0966'} { // Arabic, Persian, Devanagari
		if r >= zero && r <= zero+9 {
			return r - zero + '0'
		}
	}
	if r >= 'a' && r <= 'z' {
		r -= 'a' - 'A'
	}
	return r
}

// A device code is 48 bytes in base64url, and so 64 characters without padding. One that
// is bound to what its device has proven is 60 bytes, and 80 characters:
//
//	32 random bytes | 4 bytes: latest possible deadline, Unix seconds | 12 bytes: tag
//	32 random bytes | 4 bytes: the same | 12 bytes: binding (possession.go) | 12 bytes: tag
//
// The tag is the first 12 bytes of HMAC-SHA-256 over what precedes it. Whoever
// makes codes up is turned away by it without the Store being asked, and so is
// whoever polls for a code whose deadline has passed, or cannot prove what it is bound to.
const (
	deviceCodeRandom = 32
	deviceCodeBare   = deviceCodeRandom + 4
	deviceCodeBound  = deviceCodeBare + bindingBytes
	deviceCodeTag    = 12
	maxDeviceCode    = deviceCodeBound + deviceCodeTag
)

// userCodeDigest returns what a user code is stored as. A keyed digest: the few
// bits of a user code would be guessed from a dump otherwise.
func (k *key) userCodeDigest(code string) (d UserCodeDigest) {
	t := k.digesters.Get().(*digester)
	defer k.digesters.Put(t)
	t.user.Reset()
	t.user.Write(append(t.raw[:0], code...))
	copy(d[:], t.user.Sum(t.sum[:0]))
	return d
}

// deviceCode is a genuine device code, opened.
type deviceCode struct {
	digest DeviceCodeDigest
	latest time.Time // possible deadline
	key    *key      // that made it

	// What it is bound to, if anything, and what that is mixed with.
	binding [bindingBytes]byte // zero if it is not bound
	random  [deviceCodeRandom]byte
}

// digester computes the digest of a user code, and the tag and the binding of a device
// code, without allocating.
type digester struct {
	user, tagger, binder hash.Hash

	raw [maxDeviceCode]byte
	sum [1 + sha256.Size]byte
}

// newDeviceCode makes a device code whose grant is over at latest, whatever
// happens to it, and which is of use to nobody but who can prove p.
func (ring keyring) newDeviceCode(random io.Reader, latest time.Time, p possession) (string, DeviceCodeDigest, error) {
	t := ring[0].digesters.Get().(*digester)
	defer ring[0].digesters.Put(t)
	if _, err := io.ReadFull(random, t.raw[:deviceCodeRandom]); err != nil {
		return "", DeviceCodeDigest{}, fmt.Errorf("devicegrant: making a device code: %w", err)
	}
	seconds := latest.Add(time.Second - 1).Unix()                         // Rounded up: never before the grant's own deadline.
	binary.BigEndian.PutUint32(t.raw[deviceCodeRandom:], uint32(seconds)) //nolint:gosec // Good until 2106.
	signed := deviceCodeBare
	if kinds := p.kinds(); kinds != 0 {
		signed = deviceCodeBound
		copy(t.raw[deviceCodeBare:], t.binding(kinds, p))
	}
	copy(t.raw[signed:], t.tag(signed))
	raw := t.raw[:signed+deviceCodeTag]
	var text [maxDeviceCode / 3 * 4]byte
	return string(base64.RawURLEncoding.AppendEncode(text[:0], raw)), sha256.Sum256(raw), nil
}

// openDeviceCode reads a device code into c. It reports false, and leaves c as it is, when
// no key made it.
func (ring keyring) openDeviceCode(code string, c *deviceCode) (ok bool) {
	for _, k := range ring {
		t := k.digesters.Get().(*digester)
		ok = t.open(code, c)
		k.digesters.Put(t)
		if ok {
			c.key = k
			return true
		}
	}
	return false
}

func (t *digester) open(code string, c *deviceCode) bool {
	n, ok := t.decode(code)
	signed := n - deviceCodeTag
	if !ok || !hmac.Equal(t.tag(signed), t.raw[signed:n]) {
		return false
	}
	c.digest = sha256.Sum256(t.raw[:n])
	c.latest = time.Unix(int64(binary.BigEndian.Uint32(t.raw[deviceCodeRandom:])), 0)
	if signed == deviceCodeBound {
		copy(c.random[:], t.raw[:])
		copy(c.binding[:], t.raw[deviceCodeBare:])
	}
	return true
}

// decode returns how many bytes the code has.
func (t *digester) decode(code string) (n int, ok bool) {
	if len(code) != maxDeviceCode/3*4 && len(code) != (deviceCodeBare+deviceCodeTag)/3*4 {
		return 0, false
	}
	n, err := base64.RawURLEncoding.Decode(t.raw[:], []byte(code))
	return n, err == nil && n == len(code)/4*3 // It skips line breaks.
}

func (t *digester) tag(signed int) []byte {
	t.tagger.Reset()
	t.tagger.Write(t.raw[:signed])
	return t.tagger.Sum(t.sum[:0])[:deviceCodeTag]
}
