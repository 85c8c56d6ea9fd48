package devicegrant

import (
	"bytes"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestNormalize(t *testing.T) {
	for _, tt := range []struct{ name, typed, want string }{
		{"as shown", "WDJB-MJHT", "WDJBMJHT"},
		{"lower case", "wdjb-mjht", "WDJBMJHT"},
		{"no dash", "WDJBMJHT", "WDJBMJHT"},
		{"spaces around and between", "  wdjb mjht\r\n", "WDJBMJHT"},
		{"a space after each character", "W D J B M J H T", "WDJBMJHT"},
		{"no-break space", "WDJB\u00a0MJHT", "WDJBMJHT"},
		{"narrow and ideographic space", "WDJB\u202fMJ\u3000HT", "WDJBMJHT"},
		{"en dash, em dash, minus, non-breaking hyphen", "WD\u2013JB\u2014MJ\u2212H\u2011T", "WDJBMJHT"},
		{"dots, underscores, slashes, quotes", "'W.D_J/B'\"MJHT\"", "WDJBMJHT"},
		{"full width", "ＷＤＪＢ－ｍｊｈｔ", "WDJBMJHT"},
		{"zero-width space, marks of direction, byte order mark", "\ufeffWDJB\u200b\u200e\u200fMJHT", "WDJBMJHT"},
		{"soft hyphen", "WDJB\u00adMJHT", "WDJBMJHT"},
		{"longer codes, made under load", "WDJB-MJHT-BCD", "WDJBMJHTBCD"},
		{"too short", "WDJB-MJH", ""},
		{"empty", "", ""},
		{"nothing but dashes", "----", ""},
		{"a vowel", "WDJA-MJHT", ""},
		{"a digit", "WDJ1-MJHT", ""},
		{"an umlaut", "WDJÖ-MJHT", ""},
		{"NUL", "WDJB\x00MJHT", ""},
		{"invalid UTF-8", "WDJB\xffMJHT", ""},
		{"longer than any code", strings.Repeat("B", maxUserCodeLength+1), ""},
		{"as long as any code", strings.Repeat("B", maxUserCodeLength), strings.Repeat("B", maxUserCodeLength)},
		{"padded beyond reason", "WDJBMJHT" + strings.Repeat("-", maxTyped), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, ok := Base20.normalize(tt.typed)
			assert.Equal(t, tt.want != "", ok)
			if ok {
				assert.Equal(t, tt.want, got)
			}
		})
	}
	for _, typed := range []string{"1234 5678 9012", "１２３４-５６７８-９０１２", "١٢٣٤٥٦٧٨٩٠١٢", "۱۲۳۴۵۶۷۸۹۰۱۲", "१२३४५६७८९०१२"} {
		got, ok := Digits.normalize(typed)
		assert.True(t, ok, typed)
		assert.Equal(t, "123456789012", got)
	}
}

// What is displayed normalizes to what was made, for every format.
func FuzzNormalize(f *testing.F) {
	for _, seed := range []string{"WDJB-MJHT", "wdjb mjht", "ＷＤＪＢ－ＭＪＨＴ", "W\u2013D\u00a0J", "\xff\xfe", "\x00", "1234-5678-9012", "١٢٣٤", strings.Repeat("B", 300), "ı", "ſ", "K" /* Kelvin */} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, typed string) {
		for _, format := range []UserCodeFormat{Base20, Digits, Base32} {
			code, ok := format.normalize(typed)
			if !ok {
				continue
			}
			require.LessOrEqual(t, len(code), maxUserCodeLength)
			require.GreaterOrEqual(t, len(code), format.Length)
			require.Empty(t, strings.Trim(code, format.Alphabet))
			again, ok := format.normalize(format.display(code))
			require.True(t, ok)
			require.Equal(t, code, again)
		}
	})
}

// User codes are uniform: chi-square over 10^6 codes of each alphabet, for each
// position and for each pair of neighbours. The source is seeded, so that the
// result is the same every time; a sound generator exceeds the critical value in
// one seed of a million. The same test finds a generator without rejection.
func TestUserCodesAreUniform(t *testing.T) {
	const codes = 1_000_000
	for name, format := range map[string]UserCodeFormat{"Base20": Base20, "Digits": Digits, "Base32": Base32, "25 letters": {Alphabet: "ABCDEFGHIJKLMNOPQRSTUVWXY", Length: 8}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			random := rand.NewChaCha8([32]byte{1})
			assert.Empty(t, biases(format, codes, func() string {
				code, err := format.generate(random, format.Length)
				require.NoError(t, err)
				return code
			}))
		})
	}
	t.Run("a biased generator is found", func(t *testing.T) {
		random := rand.NewChaCha8([32]byte{1})
		buf := make([]byte, Base20.Length)
		assert.NotEmpty(t, biases(Base20, codes/10, func() string {
			_, _ = random.Read(buf)
			for i := range buf {
				buf[i] = Base20.Alphabet[int(buf[i])%len(Base20.Alphabet)]
			}
			return string(buf)
		}))
	})
}

// biases returns the tables that are not uniform at a significance of 10^-6.
func biases(f UserCodeFormat, codes int, next func() string) (found []string) {
	k := len(f.Alphabet)
	var index [256]int
	for i := range k {
		index[f.Alphabet[i]] = i
	}
	singles, pairs := make([][]int, f.Length), make([]int, k*k)
	for i := range singles {
		singles[i] = make([]int, k)
	}
	for range codes {
		code := next()
		for i := range code {
			singles[i][index[code[i]]]++
			if i > 0 {
				pairs[index[code[i-1]]*k+index[code[i]]]++
			}
		}
	}
	for i, table := range append(singles, pairs) {
		if x := chiSquare(table); x > chiSquareCritical(len(table)-1) {
			found = append(found, fmt.Sprintf("table %d: %.1f", i, x))
		}
	}
	return found
}

func chiSquare(observed []int) (x float64) {
	total := 0
	for _, n := range observed {
		total += n
	}
	expected := float64(total) / float64(len(observed))
	for _, n := range observed {
		x += (float64(n) - expected) * (float64(n) - expected) / expected
	}
	return x
}

// chiSquareCritical is the value that is exceeded with probability 10^-6
// (Wilson and Hilferty's approximation; 4.753 is the normal quantile).
func chiSquareCritical(df int) float64 {
	v := 2 / (9 * float64(df))
	return float64(df) * math.Pow(1-v+4.753*math.Sqrt(v), 3)
}

func TestGenerateLengthsAndDisplay(t *testing.T) {
	random := rand.NewChaCha8([32]byte{2})
	for n := 1; n <= maxUserCodeLength; n++ {
		code, err := Base20.generate(random, n)
		require.NoError(t, err)
		assert.Len(t, code, n)
	}
	assert.Equal(t, "WDJB-MJHT", Base20.display("WDJBMJHT"))
	assert.Equal(t, "WDJB-MJHT-B", Base20.display("WDJBMJHTB"))
	assert.Equal(t, "WDJBMJHT", UserCodeFormat{}.display("WDJBMJHT"))
	_, err := Base20.generate(iotest.ErrReader(errors.New("no entropy")), 8)
	assert.ErrorContains(t, err, "no entropy")
}

func testRing(t testing.TB, seeds ...byte) keyring {
	t.Helper()
	var secrets [][]byte
	for _, seed := range seeds {
		secrets = append(secrets, bytes.Repeat([]byte{seed}, minKeyBytes))
	}
	ring, err := newKeyring(secrets)
	require.NoError(t, err)
	return ring
}

// holders are what a device code can be bound to, and how long it is then.
var holders = []struct {
	name   string
	holder possession
	length int
}{
	{"nothing", possession{}, 64},
	{"a challenge", possession{challenge: challenge{1}}, 80},
	{"a key", possession{key: Key{KeyDPoP, "thumb"}}, 80},
	{"both", possession{challenge{1}, Key{KeyDPoP, "thumb"}}, 80},
}

func TestDeviceCode(t *testing.T) {
	ring := testRing(t, 1)
	latest := time.Unix(1_800_000_000, 0)
	for _, h := range holders {
		t.Run(h.name, func(t *testing.T) {
			code, digest, err := ring.newDeviceCode(rand.NewChaCha8([32]byte{}), latest, h.holder)
			require.NoError(t, err)
			assert.Regexp(t, `^[A-Za-z0-9_-]+$`, code)
			assert.Len(t, code, h.length)

			var got deviceCode
			require.True(t, ring.openDeviceCode(code, &got))
			assert.Equal(t, digest, got.digest)
			assert.True(t, latest.Equal(got.latest))

			for i := range code {
				for _, c := range []byte{'A', 'b', '-', '=', '\n', 0} {
					forged := code[:i] + string(c) + code[i+1:]
					assert.Equal(t, forged == code, ring.openDeviceCode(forged, new(deviceCode)), "changed at %d", i)
				}
			}
			for _, bad := range []string{"", code[:63], code[:64] + "\n", code + "A", code + "\n", code[:len(code)-1], strings.Repeat("A", 64), strings.Repeat("=", 80), code[:9] + strings.Repeat("\n", 16) + code[9:min(len(code), 64)]} {
				assert.False(t, ring.openDeviceCode(bad, new(deviceCode)), "%q", bad)
			}
		})
	}
	code, _, err := ring.newDeviceCode(rand.NewChaCha8([32]byte{}), latest.Add(time.Nanosecond), possession{})
	require.NoError(t, err)
	var got deviceCode
	require.True(t, ring.openDeviceCode(code, &got))
	assert.True(t, latest.Add(time.Second).Equal(got.latest), "a fraction is rounded up")
	_, _, err = ring.newDeviceCode(iotest.ErrReader(errors.New("no entropy")), latest, possession{})
	assert.ErrorContains(t, err, "no entropy")
}

// A code that is bound cannot be made into one that is not.
func TestDeviceCodeKeepsItsBinding(t *testing.T) {
	ring := testRing(t, 1)
	random := make([]byte, deviceCodeRandom)
	bound, _, err := ring.newDeviceCode(bytes.NewReader(random), t0, possession{challenge: challenge{1}})
	require.NoError(t, err)
	raw, err := base64.RawURLEncoding.DecodeString(bound)
	require.NoError(t, err)
	stripped := base64.RawURLEncoding.EncodeToString(append(raw[:deviceCodeBare:deviceCodeBare], raw[deviceCodeBound:]...))
	assert.False(t, ring.openDeviceCode(stripped, new(deviceCode)))
}

// Nobody sees by two codes that they are bound to the same key.
func TestBindingsDiffer(t *testing.T) {
	ring, random := testRing(t, 1), rand.NewChaCha8([32]byte{})
	var bindings [2]string
	for i := range bindings {
		code, _, err := ring.newDeviceCode(random, t0, possession{key: Key{KeyDPoP, "thumb"}})
		require.NoError(t, err)
		bindings[i] = code[deviceCodeBare/3*4:][:bindingBytes/3*4]
	}
	assert.NotEqual(t, bindings[0], bindings[1])
}

func FuzzDeviceCode(f *testing.F) {
	ring := testRing(f, 1, 2)
	made := make(map[string]DeviceCodeDigest)
	for _, h := range holders {
		code, digest, err := ring.newDeviceCode(rand.NewChaCha8([32]byte{}), t0, h.holder)
		require.NoError(f, err)
		made[code] = digest
		f.Add(code)
		f.Add(code[1:])
		f.Add(strings.Repeat("A", h.length))
	}
	f.Fuzz(func(t *testing.T, s string) {
		var got deviceCode
		ok := ring.openDeviceCode(s, &got)
		digest, known := made[s]
		require.Equal(t, known, ok, "only what was made is taken")
		if ok {
			require.Equal(t, digest, got.digest)
			require.True(t, got.latest.Equal(t0))
		}
	})
}

// The first key makes, all verify, and one that was dropped does not.
func TestKeyRotation(t *testing.T) {
	old, both, fresh := testRing(t, 1), testRing(t, 2, 1), testRing(t, 2)
	code, digest, err := old.newDeviceCode(rand.NewChaCha8([32]byte{}), t0, possession{})
	require.NoError(t, err)
	var got deviceCode
	assert.True(t, both.openDeviceCode(code, &got))
	assert.Equal(t, digest, got.digest)
	assert.False(t, fresh.openDeviceCode(code, &got))

	sealed := old.seal("p", at(time.Minute), []byte("content"))
	content, ok := both.unseal("p", at(0), sealed)
	assert.True(t, ok)
	assert.Equal(t, "content", string(content))
	_, ok = fresh.unseal("p", at(0), sealed)
	assert.False(t, ok)

	assert.Equal(t, old[0].userCodeDigest("B"), both[1].userCodeDigest("B"))
	assert.NotEqual(t, both[0].userCodeDigest("B"), both[1].userCodeDigest("B"))
}

// A user code is stored as its HMAC under a key of its own, whatever was computed before.
func TestUserCodeDigest(t *testing.T) {
	ring := testRing(t, 1)
	secret, err := hkdf.Key(sha256.New, bytes.Repeat([]byte{1}, 32), nil, "devicegrant user code", 32)
	require.NoError(t, err)
	for _, code := range []string{"WDJBMJHT", "W", strings.Repeat("W", maxUserCodeLength), "WDJBMJHT"} {
		mac := hmac.New(sha256.New, secret)
		mac.Write([]byte(code))
		digest := ring[0].userCodeDigest(code)
		assert.Equal(t, mac.Sum(nil), digest[:], code)
		_, _, err := ring.newDeviceCode(rand.NewChaCha8([32]byte{}), t0, possession{})
		require.NoError(t, err)
	}
}

func TestSeal(t *testing.T) {
	ring := testRing(t, 1)
	sealed := ring.seal("ticket", at(time.Minute), []byte("content"))
	assert.NotContains(t, sealed, "content")
	assert.Regexp(t, `^[A-Za-z0-9_-]+$`, sealed, "safe in a URL and in a form")
	for name, tt := range map[string]struct {
		purpose, sealed string
		now             time.Time
		ok              bool
	}{
		"good":            {"ticket", sealed, at(0), true},
		"other purpose":   {"resume", sealed, at(0), false},
		"at the deadline": {"ticket", sealed, at(time.Minute), false},
		"changed":         {"ticket", sealed[:20] + "A" + sealed[21:], at(0), sealed[20] == 'A'},
		"cut":             {"ticket", sealed[:len(sealed)-4], at(0), false},
		"not base64":      {"ticket", "%%%", at(0), false},
		"empty":           {"ticket", "", at(0), false},
	} {
		_, ok := ring.unseal(tt.purpose, tt.now, tt.sealed)
		assert.Equal(t, tt.ok, ok, name)
	}
}

func TestKeysAreChecked(t *testing.T) {
	_, err := newKeyring(nil)
	assert.ErrorContains(t, err, "Keys is empty")
	_, err = newKeyring([][]byte{bytes.Repeat([]byte{1}, 32), make([]byte, 31)})
	assert.ErrorContains(t, err, "Keys[1] has 31 bytes")
}
