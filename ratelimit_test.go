package devicegrant

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func testGuesses() *guesses {
	return newGuesses(Guessing{}.withDefaults(15*time.Minute), 15*time.Minute, nil)
}

// must is admit by tallies that cannot fail.
func (g *guesses) must(now time.Time, addr netip.Addr, subject string) (guess, time.Duration) {
	admitted, wait, err := g.admit(context.Background(), now, Person{Subject: subject, Addr: addr})
	if err != nil {
		panic(err)
	}
	return admitted, wait
}

func (g guess) mustSettle(now time.Time, right bool) {
	if err := g.settle(context.Background(), now, right); err != nil {
		panic(err)
	}
}

// wrong makes a wrong guess if it is admitted, and returns how long to wait if not.
func (g *guesses) wrong(now time.Time, addr netip.Addr, subject string) time.Duration {
	admitted, wait := g.must(now, addr, subject)
	if wait == 0 {
		admitted.mustSettle(now, false)
	}
	return wait
}

// right makes a right guess that is admitted.
func (g *guesses) right(t *testing.T, now time.Time, addr netip.Addr, subject string) {
	t.Helper()
	admitted, wait := g.must(now, addr, subject)
	require.Zero(t, wait)
	admitted.mustSettle(now, true)
}

var (
	v4 = netip.MustParseAddr("192.0.2.1")
	v6 = netip.MustParseAddr("2001:db8:1:2:3:4:5:6")
)

// No span of a lifetime admits more wrong codes from an address than the budget was
// computed with, whatever somebody does and whoever is signed in; and as many can be
// had.
func TestWrongCodesPerAddress(t *testing.T) {
	const lifetime = 15 * time.Minute
	most := Guessing{}.withDefaults(lifetime).perAddress(lifetime)
	require.InDelta(t, 5, most, 0)
	for name, pick := range map[string]func(*rand.Rand) (subject string, pause time.Duration){
		"nobody":                  func(*rand.Rand) (string, time.Duration) { return "", time.Second },
		"one account":             func(*rand.Rand) (string, time.Duration) { return "mallory", time.Second },
		"a new account each time": func(r *rand.Rand) (string, time.Duration) { return fmt.Sprint(r.Uint64()), time.Second },
		"with pauses": func(r *rand.Rand) (string, time.Duration) {
			return fmt.Sprint(r.Uint64()), time.Duration(r.Int64N(int64(2 * lifetime)))
		},
	} {
		t.Run(name, func(t *testing.T) {
			g, r := testGuesses(), rand.New(rand.NewPCG(1, 2))
			var admitted []time.Time
			for now := t0; now.Before(at(100 * lifetime)); {
				subject, pause := pick(r)
				if g.wrong(now, v4, subject) == 0 {
					admitted = append(admitted, now)
				}
				now = now.Add(pause)
			}
			densest := 0
			for i := range admitted {
				n := 0
				for _, later := range admitted[i:] {
					if later.Sub(admitted[i]) < lifetime {
						n++
					}
				}
				densest = max(densest, n)
			}
			require.LessOrEqual(t, densest, int(most))
			if name == "a new account each time" {
				assert.InDelta(t, most, densest, 0, "the bound is not a loose one")
			}
		})
	}
}

// The wait doubles with each further wrong code, up to a bound, and starts anew when
// nothing has been wrong for long.
func TestWaitsDouble(t *testing.T) {
	const lifetime = 15 * time.Minute
	g, now := testGuesses(), t0
	var waits []time.Duration
	for range 10 {
		for wait := g.wrong(now, v4, ""); wait > 0; wait = g.wrong(now, v4, "") {
			waits = append(waits, wait)
			now = now.Add(wait)
		}
	}
	const first = lifetime / 2
	assert.Equal(t, []time.Duration{first, 2 * first, 4 * first, 8 * first, 16 * first, 16 * first, 16 * first}, waits)
	now = now.Add((16+2)*first + lifetime)
	for range 3 {
		require.Zero(t, g.wrong(now, v4, ""))
	}
	assert.Equal(t, first, g.wrong(now, v4, ""))
}

// What a rule is said to admit is what whoever guesses as soon as they may gets.
func TestRuleWithin(t *testing.T) {
	for _, r := range []rule{
		{Limit: Limit{Burst: 3, Every: 450 * time.Second}, doubling: true, forget: time.Hour},
		{Limit: Limit{Burst: 1, Every: time.Second}, doubling: true, forget: time.Hour},
		{Limit: Limit{Burst: 250, Every: 900 * time.Millisecond}, forget: time.Hour},
		{Limit: Limit{Burst: 3, Every: time.Hour}, forget: time.Hour},
	} {
		for _, d := range []time.Duration{0, time.Second, 15 * time.Minute, time.Hour} {
			var tally Tally
			n := 0
			for now := t0; !now.After(t0.Add(d)); n++ {
				tally = r.charge(tally, now)
				now = now.Add(r.wait(tally, now))
			}
			assert.InDelta(t, n, r.within(d), 0, "%+v within %v", r, d)
		}
	}
}

// Whatever is charged and given back, in whatever order, leaves what the others alone
// would have made of a tally.
func TestRefund(t *testing.T) {
	r := rule{Limit: Limit{Burst: 2, Every: time.Minute}, doubling: true, forget: time.Hour}
	for charged := range 12 {
		for refunded := range charged + 1 {
			var all, others Tally
			for i := range charged {
				all = r.charge(all, t0)
				if i < charged-refunded {
					others = r.charge(others, t0)
				}
			}
			for range refunded {
				all = r.refund(all, t0)
			}
			assert.Equal(t, others.Guesses, all.Guesses)
			assert.Equal(t, r.wait(others, t0), r.wait(all, t0), "%d charged, %d refunded", charged, refunded)
		}
	}
	assert.Zero(t, r.refund(Tally{}, t0).Guesses, "one that was forgotten meanwhile")
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
		admitted, wait := g.must(t0, v4, subject)
		require.Zero(t, wait)
		flying = append(flying, admitted)
	}
	_, wait := g.must(at(time.Millisecond), v4, "")
	assert.Equal(t, inFlight, wait)
	for _, admitted := range flying {
		admitted.mustSettle(at(2*time.Millisecond), true)
	}
	for range 3 {
		require.Zero(t, g.wrong(at(3*time.Millisecond), v4, ""))
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

// A browser session has a limit of its own, whoever is signed in and wherever it goes.
func TestGuessesPerSession(t *testing.T) {
	g := testGuesses()
	for i := range 4 {
		by := Person{Subject: fmt.Sprint(i), Session: "laptop", Addr: netip.AddrFrom4([4]byte{10, 0, 0, byte(i)})}
		admitted, wait, err := g.admit(t.Context(), t0, by)
		require.NoError(t, err)
		if i == 3 {
			require.Equal(t, 450*time.Second, wait)
			break
		}
		require.Zero(t, wait)
		admitted.mustSettle(t0, false)
	}
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
// still get in; a wrong code ends that for a lifetime and more.
func TestGlobalBudget(t *testing.T) {
	const lifetime = 15 * time.Minute
	g, from := testGuesses(), 0
	exhaust := func(now time.Time) {
		for admitted := true; admitted; from++ { // From another address each time.
			admitted = g.wrong(now, netip.AddrFrom4([4]byte{10, byte(from >> 16), byte(from >> 8), byte(from)}), "") == 0
		}
	}
	exhaust(t0)
	assert.Positive(t, g.wrong(t0, v4, ""), "nobody is signed in")
	g.right(t, t0, v4, "alice") // She has a clean record,
	g.right(t, t0, v4, "alice") // and keeps it with a right code,
	require.Zero(t, g.wrong(t0, v4, "alice"))
	assert.Positive(t, g.wrong(t0, v4, "alice"), "but not with a wrong one")
	const clean = lifetime/2 + lifetime // Paid for, and forgotten.
	exhaust(at(clean - time.Second))
	assert.Positive(t, g.wrong(at(clean-time.Second), v4, "alice"))
	exhaust(at(clean))
	assert.Zero(t, g.wrong(at(clean), v4, "alice"))
	assert.Greater(t, from, 500, "the budget was used up")
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

// Codes get longer as more grants are live, and no shorter than configured.
func TestCodesGetLongerUnderLoad(t *testing.T) {
	const lifetime = 15 * time.Minute
	g := Guessing{}.withDefaults(lifetime)
	for live, want := range map[int]int{0: 8, 10_000: 8, 10_001: 9, 200_000: 9, 200_001: 10, 4_000_001: 11, 80_000_001: 12} {
		n := g.length(Base20, lifetime, lifetime, live)
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

// busyTallies are written by others all the time.
type busyTallies struct{ Tallier }

func (busyTallies) SwapTallies(context.Context, []TallyKey, []Tally) error { return ErrConflict }

// Whoever others keep coming between is told to come back in a moment, and waits for them
// no longer than their context. Whoever is refused does not wait.
func TestOthersComeBetween(t *testing.T) {
	g := testGuesses()
	for range 3 {
		require.Zero(t, g.wrong(t0, v6, ""))
	}
	g.tallies = busyTallies{g.tallies}
	_, wait, err := g.admit(t.Context(), t0, Person{Subject: "alice"})
	require.NoError(t, err)
	assert.Equal(t, inFlight, wait)

	require.NoError(t, g.takeTurn(t.Context()))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, _, err = g.admit(ctx, t0, Person{Subject: "alice"})
	require.ErrorIs(t, err, context.Canceled)
	_, wait, err = g.admit(t.Context(), t0, Person{Addr: v6})
	require.NoError(t, err)
	assert.Equal(t, 450*time.Second, wait)
}

// However many addresses, accounts and browser sessions come, what is remembered of them
// stays small: the most that this test may leave is 64 MiB.
func TestGuessMemoryIsBounded(t *testing.T) {
	const addresses = 1_000_000
	g := testGuesses()
	before := heap()
	admitted := 0
	for i := range addresses { // As fast as everybody together may.
		now := at(time.Duration(i) * 900 * time.Millisecond)
		var addr [16]byte
		addr[0], addr[4], addr[5], addr[6] = 0x20, byte(i>>16), byte(i>>8), byte(i)
		if g.wrong(now, netip.AddrFrom16(addr), fmt.Sprint(i)) == 0 {
			admitted++
		}
	}
	used := heap() - before
	t.Logf("%d addresses, %d guesses admitted, %.1f MiB kept", addresses, admitted, float64(used)/(1<<20))
	assert.Equal(t, addresses, admitted)
	assert.Less(t, used, int64(64<<20))
	runtime.KeepAlive(g)
}

// heap is how many bytes are in use.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
