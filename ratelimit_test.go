package devicegrant

import (
	"fmt"
	"math"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func testGuesses() *guesses { return newGuesses(Guessing{}.withDefaults(15 * time.Minute)) }

var (
	v4 = netip.MustParseAddr("192.0.2.1")
	v6 = netip.MustParseAddr("2001:db8:1:2:3:4:5:6")
)

// No span of a lifetime admits more wrong codes from an address than the budget
// was computed with, however they are timed.
func TestWrongCodesPerAddress(t *testing.T) {
	const lifetime = 15 * time.Minute
	g := testGuesses()
	var admitted []time.Time
	for now := t0; now.Before(at(4 * lifetime)); now = now.Add(time.Second) {
		if _, wait := g.admit(now, v4, ""); wait == 0 {
			admitted = append(admitted, now)
		} else {
			require.LessOrEqual(t, wait, lifetime/2)
		}
	}
	require.Greater(t, len(admitted), 8)
	for i := range admitted {
		n := 0
		for _, later := range admitted[i:] {
			if later.Sub(admitted[i]) < lifetime {
				n++
			}
		}
		require.LessOrEqual(t, n, 5, "in the lifetime from %v", admitted[i])
	}
}

func TestRightCodesCostNothing(t *testing.T) {
	g := testGuesses()
	for i := range 1000 {
		refund, wait := g.admit(at(time.Duration(i)*time.Millisecond), v4, "alice")
		require.Zero(t, wait, "code %d", i)
		refund()
	}
}

// A right code in between does not give the wrong ones back.
func TestSuccessDoesNotResetTheCount(t *testing.T) {
	g := testGuesses()
	for range 3 {
		_, wait := g.admit(t0, v4, "")
		require.Zero(t, wait)
		if refund, wait := g.admit(t0, v4, ""); wait == 0 {
			refund()
		}
	}
	_, wait := g.admit(t0, v4, "")
	assert.Positive(t, wait)
}

func TestGuessesAreCountedApart(t *testing.T) {
	g := testGuesses()
	exhaust := func(addr netip.Addr, subject string) {
		t.Helper()
		for range 3 {
			_, wait := g.admit(t0, addr, subject)
			require.Zero(t, wait)
		}
		_, wait := g.admit(t0, addr, subject)
		require.Positive(t, wait)
	}
	exhaust(v4, "")
	exhaust(netip.MustParseAddr("192.0.2.2"), "")
	exhaust(v6, "")
	_, wait := g.admit(t0, netip.MustParseAddr("2001:db8:1:2:ffff::"), "")
	assert.Positive(t, wait, "a /64 is one address")
	_, wait = g.admit(t0, netip.MustParseAddr("::ffff:192.0.2.1"), "")
	assert.Positive(t, wait, "IPv4 in IPv6 is the same address")
	exhaust(netip.MustParseAddr("2001:db8:1:3::"), "")
	exhaust(netip.Addr{}, "mallory")
	_, wait = g.admit(t0, netip.MustParseAddr("192.0.2.99"), "mallory")
	assert.Positive(t, wait, "another address does not help a subject")
}

// A guess that one limit refuses is not charged to the others.
func TestRefusedGuessesAreNotCharged(t *testing.T) {
	g := testGuesses()
	for range 3 {
		_, wait := g.admit(t0, netip.Addr{}, "mallory")
		require.Zero(t, wait)
	}
	for range 10 {
		_, wait := g.admit(t0, v4, "mallory")
		require.Positive(t, wait)
	}
	for range 3 {
		_, wait := g.admit(t0, v4, "")
		require.Zero(t, wait)
	}
}

// Once everybody together has used up the global budget, those with a clean record
// still get in; their first wrong code ends that.
func TestGlobalBudget(t *testing.T) {
	g := testGuesses()
	for i := range 500 {
		_, wait := g.admit(t0, netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), "")
		require.Zero(t, wait)
	}
	_, wait := g.admit(t0, v4, "")
	assert.Positive(t, wait, "nobody is signed in")
	refund, wait := g.admit(t0, v4, "alice")
	require.Zero(t, wait, "alice has a clean record")
	refund()
	_, wait = g.admit(t0, v4, "alice")
	require.Zero(t, wait, "and keeps it with a right code")
	_, wait = g.admit(t0, v4, "alice")
	assert.Positive(t, wait, "but not with a wrong one")
}

// However many addresses and subjects come, what is remembered is bounded.
func TestGuessMemoryIsBounded(t *testing.T) {
	l := keyedLimiter[string]{limit: Limit{Burst: 1, Every: time.Hour}, max: 100}
	first := l.get("0")
	first.AllowN(t0, 1)
	for i := range 10_000 {
		l.get(fmt.Sprint(i))
		require.LessOrEqual(t, len(l.young)+len(l.old), 200)
		if i%50 == 0 {
			require.Same(t, first, l.get("0"), "who keeps coming is remembered")
		}
	}
}

func TestLimitWithin(t *testing.T) {
	assert.Equal(t, 5, Limit{Burst: 3, Every: 450 * time.Second}.Within(15*time.Minute))
	assert.Equal(t, 3, Limit{Burst: 3, Every: time.Hour}.Within(15*time.Minute))
	assert.Equal(t, math.MaxInt, Limit{Burst: 3}.Within(time.Second), "without a pause nothing is limited")
}

// Codes get longer as more grants are live, and no shorter than configured.
func TestCodesGetLongerUnderLoad(t *testing.T) {
	const lifetime = 15 * time.Minute
	g := Guessing{}.withDefaults(lifetime)
	for live, want := range map[int]int{0: 8, 10_000: 8, 10_001: 9, 200_000: 9, 200_001: 10, 4_000_001: 11, 80_000_001: 12} {
		n := g.length(Base20, lifetime, live)
		assert.Equal(t, want, n, "%d live", live)
		assert.True(t, g.bears(g.chances(Base20, n, lifetime, live)))
	}
}

// Where a request came from: headers count as far as trusted proxies wrote them.
func TestRemoteAddr(t *testing.T) {
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	for _, tt := range []struct {
		name, peer string
		header     http.Header
		want       string
	}{
		{"no proxy", "192.0.2.1:1234", nil, "192.0.2.1"},
		{"IPv6", "[2001:db8::1]:1234", nil, "2001:db8::1"},
		{"IPv6 with a zone", "[fe80::1%eth0]:1234", nil, "fe80::1"},
		{"IPv4 in IPv6", "[::ffff:192.0.2.1]:1234", nil, "192.0.2.1"},
		{"no port", "192.0.2.1", nil, "192.0.2.1"},
		{"a socket", "@", nil, "invalid IP"},
		{"headers of a stranger", "192.0.2.1:1234", http.Header{"X-Forwarded-For": {"198.51.100.1"}, "Forwarded": {"for=198.51.100.1"}}, "192.0.2.1"},
		{"one proxy", "10.0.0.1:1234", http.Header{"X-Forwarded-For": {"192.0.2.1"}}, "192.0.2.1"},
		{"two proxies", "10.0.0.1:1234", http.Header{"X-Forwarded-For": {"192.0.2.1, 10.0.0.2"}}, "192.0.2.1"},
		{"two lines", "10.0.0.1:1234", http.Header{"X-Forwarded-For": {"192.0.2.1", "10.0.0.2"}}, "192.0.2.1"},
		{"spoofed entries on the left", "10.0.0.1:1234", http.Header{"X-Forwarded-For": {"8.8.8.8, 10.9.9.9, 192.0.2.1"}}, "192.0.2.1"},
		{"rubbish", "10.0.0.1:1234", http.Header{"X-Forwarded-For": {"8.8.8.8, unknown"}}, "10.0.0.1"},
		{"rubbish left of the client", "10.0.0.1:1234", http.Header{"X-Forwarded-For": {"rubbish, 192.0.2.1"}}, "192.0.2.1"},
		{"empty", "10.0.0.1:1234", http.Header{"X-Forwarded-For": {""}}, "10.0.0.1"},
		{"all trusted", "10.0.0.1:1234", http.Header{"X-Forwarded-For": {"10.0.0.3, 10.0.0.2"}}, "10.0.0.3"},
		{"with a port", "10.0.0.1:1234", http.Header{"X-Forwarded-For": {"192.0.2.1:99"}}, "192.0.2.1"},
		{"Forwarded", "10.0.0.1:1234", http.Header{"Forwarded": {`for=192.0.2.1;proto=https, For="10.0.0.2:80"`}}, "192.0.2.1"},
		{"Forwarded, IPv6", "[fd00::1]:1234", http.Header{"Forwarded": {`by=x; for="[2001:db8::1]:99"`}}, "2001:db8::1"},
		{"Forwarded, obfuscated", "10.0.0.1:1234", http.Header{"Forwarded": {"for=_hidden"}}, "10.0.0.1"},
		{"Forwarded goes first", "10.0.0.1:1234", http.Header{"Forwarded": {"for=192.0.2.1"}, "X-Forwarded-For": {"8.8.8.8"}}, "192.0.2.1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := &Server{cfg: Config{TrustedProxies: trusted}}
			got := s.remoteAddr(&http.Request{RemoteAddr: tt.peer, Header: tt.header})
			assert.Equal(t, tt.want, got.String())
		})
	}
}
