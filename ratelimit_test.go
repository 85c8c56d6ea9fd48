package devicegrant

import (
	"fmt"
	"net/http"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func testGuesses() *guesses {
	return newGuesses(Guessing{}.withDefaults(15*time.Minute), 15*time.Minute)
}

// wrong makes a wrong guess if it is admitted, and returns how long to wait if not.
func (g *guesses) wrong(now time.Time, addr netip.Addr, subject string) time.Duration {
	admitted, wait := g.admit(now, addr, subject)
	if wait == 0 {
		admitted.settle(now, false)
	}
	return wait
}

// right makes a right guess that is admitted.
func (g *guesses) right(t *testing.T, now time.Time, addr netip.Addr, subject string) {
	t.Helper()
	admitted, wait := g.admit(now, addr, subject)
	require.Zero(t, wait)
	admitted.settle(now, true)
}

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
		if wait := g.wrong(now, v4, ""); wait == 0 {
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
		g.right(t, at(time.Duration(i)*time.Millisecond), v4, "alice")
	}
	for range 3 {
		require.Zero(t, g.wrong(at(time.Second), v4, "alice"), "all tries are left")
	}
}

// Right codes that are looked up at the same time cost nothing either. Who comes
// while they are is told to come back in a moment, and can.
func TestRightCodesAtOnceCostNothing(t *testing.T) {
	g := testGuesses()
	var flying []guess
	for _, subject := range []string{"alice", "bob", "carol"} {
		admitted, wait := g.admit(t0, v4, subject)
		require.Zero(t, wait)
		flying = append(flying, admitted)
	}
	_, wait := g.admit(at(time.Millisecond), v4, "dave")
	assert.Equal(t, inFlight, wait)
	for _, admitted := range flying {
		admitted.settle(at(2*time.Millisecond), true)
	}
	for range 3 {
		require.Zero(t, g.wrong(at(3*time.Millisecond), v4, "dave"))
	}
}

// Whoever is refused, however often and from however many goroutines, waits no
// longer for it, and neither does anybody beside them.
func TestRefusalsLeaveNoDebt(t *testing.T) {
	g := testGuesses()
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			for i := range 200 {
				g.wrong(at(time.Duration(i)*time.Millisecond), v4, "mallory")
			}
		})
	}
	wg.Wait()
	assert.LessOrEqual(t, g.wrong(at(time.Second), v4, "alice"), 450*time.Second)
	g.right(t, at(451*time.Second), v4, "alice")
	g.right(t, at(451*time.Second), v6, "bob")
}

// A right code in between does not give the wrong ones back.
func TestSuccessDoesNotResetTheCount(t *testing.T) {
	g := testGuesses()
	for i := range 3 {
		require.Zero(t, g.wrong(t0, v4, ""))
		if i < 2 {
			g.right(t, t0, v4, "")
		}
	}
	assert.Positive(t, g.wrong(t0, v4, ""))
}

func TestGuessesAreCountedApart(t *testing.T) {
	g := testGuesses()
	exhaust := func(addr netip.Addr, subject string) {
		t.Helper()
		for range 3 {
			require.Zero(t, g.wrong(t0, addr, subject))
		}
		require.Positive(t, g.wrong(t0, addr, subject))
	}
	exhaust(v4, "")
	exhaust(netip.MustParseAddr("192.0.2.2"), "")
	exhaust(v6, "")
	assert.Positive(t, g.wrong(t0, netip.MustParseAddr("2001:db8:1:2:ffff::"), ""), "a /64 is one address")
	assert.Positive(t, g.wrong(t0, netip.MustParseAddr("::ffff:192.0.2.1"), ""), "IPv4 in IPv6 is the same address")
	exhaust(netip.MustParseAddr("2001:db8:1:3::"), "")
	exhaust(netip.Addr{}, "mallory")
	assert.Positive(t, g.wrong(t0, netip.MustParseAddr("192.0.2.99"), "mallory"), "another address does not help a subject")
}

// A guess that one limit refuses is not charged to the others.
func TestRefusedGuessesAreNotCharged(t *testing.T) {
	g := testGuesses()
	for range 3 {
		require.Zero(t, g.wrong(t0, netip.Addr{}, "mallory"))
	}
	for range 10 {
		require.Positive(t, g.wrong(t0, v4, "mallory"))
	}
	for range 3 {
		require.Zero(t, g.wrong(t0, v4, ""))
	}
}

// Once everybody together has used up the global budget, those with a clean record
// still get in; a wrong code ends that for a lifetime.
func TestGlobalBudget(t *testing.T) {
	const lifetime = 15 * time.Minute
	g := testGuesses()
	exhaust := func(now time.Time) {
		for i := 0; g.global.wait(now) == 0; i++ {
			require.Zero(t, g.wrong(now, netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), ""))
		}
	}
	exhaust(t0)
	assert.Positive(t, g.wrong(t0, v4, ""), "nobody is signed in")
	g.right(t, t0, v4, "alice") // She has a clean record,
	g.right(t, t0, v4, "alice") // and keeps it with a right code,
	require.Zero(t, g.wrong(t0, v4, "alice"))
	assert.Positive(t, g.wrong(t0, v4, "alice"), "but not with a wrong one")
	exhaust(at(lifetime - time.Second))
	assert.Positive(t, g.wrong(at(lifetime-time.Second), v4, "alice"))
	exhaust(at(lifetime))
	assert.Zero(t, g.wrong(at(lifetime), v4, "alice"))
}

// However many accounts an attacker has, and however they are paced, everybody
// together gets no more wrong codes taken in a lifetime than New reckoned with.
func TestGlobalBudgetBindsManyAccounts(t *testing.T) {
	const lifetime, accounts = 15 * time.Minute, 5000
	g := testGuesses()
	taken := 0
	for round := range 4 { // Each account as often as its own limit allows.
		for i := range accounts {
			now := at(time.Duration(round)*226*time.Second + time.Duration(i)*45*time.Millisecond)
			if now.Before(at(lifetime)) && g.wrong(now, netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), fmt.Sprint(i)) == 0 {
				taken++
			}
		}
	}
	assert.LessOrEqual(t, float64(taken), Guessing{}.withDefaults(lifetime).everybody(lifetime))
	assert.Greater(t, taken, 2000, "the attack was a real one")
}

// However many addresses and subjects come, what is remembered is bounded.
func TestGuessMemoryIsBounded(t *testing.T) {
	s := buckets[string]{limit: Limit{Burst: 1, Every: time.Hour}, max: 100}
	first := s.get("0")
	for i := range 10_000 {
		s.get(fmt.Sprint(i))
		require.LessOrEqual(t, len(s.young)+len(s.old), 200)
		if i%50 == 0 {
			require.Same(t, first, s.get("0"), "who keeps coming is remembered")
		}
	}
}

func TestLimitWithin(t *testing.T) {
	assert.Equal(t, 5, int(Limit{Burst: 3, Every: 450 * time.Second}.within(15*time.Minute)))
	assert.Equal(t, 3, int(Limit{Burst: 3, Every: time.Hour}.within(15*time.Minute)))
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
		{"both, from a proxy that sets both", "10.0.0.1:1234", http.Header{"Forwarded": {"for=192.0.2.1"}, "X-Forwarded-For": {"192.0.2.1"}}, "192.0.2.1"},
		{"both, one of them spoofed", "10.0.0.1:1234", http.Header{"Forwarded": {"for=8.8.8.8"}, "X-Forwarded-For": {"192.0.2.1"}}, "10.0.0.1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := &Server{cfg: Config{TrustedProxies: trusted}}
			got := s.remoteAddr(&http.Request{RemoteAddr: tt.peer, Header: tt.header})
			assert.Equal(t, tt.want, got.String())
		})
	}
}
