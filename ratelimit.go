package devicegrant

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Limit admits Burst events at once and one more each time Every has passed. Both
// must be above zero; the zero Limit stands for a default.
type Limit struct {
	Burst int
	Every time.Duration
}

// Within returns the most events that the limit admits in any span of length d.
func (l Limit) Within(d time.Duration) int {
	if l.Every <= 0 {
		return math.MaxInt
	}
	return l.Burst + int(d/l.Every)
}

func (l Limit) rate() rate.Limit { return rate.Every(l.Every) }

// Guessing bounds how many wrong user codes are taken, and so an attacker's
// chances (RFC 8628 sections 5.1 and 5.2). A right code costs nothing. The limits
// are kept in this process; each of several replicas has its own.
//
// New computes the chances from these limits, the format of the codes, their
// lifetime and MaxPending, and refuses a configuration that is above a bound.
// [Config.GuessChances] returns them.
type Guessing struct {
	// PerAddress limits the wrong codes from one address (one IPv4 address, or
	// one IPv6 /64), and apart from that those by one subject. Zero admits three
	// at once and five in a lifetime.
	PerAddress Limit
	// Global limits the wrong codes from everybody together. Once it is used up,
	// only subjects who have not been wrong lately are let through, so that honest
	// people are not locked out; each of them may be wrong once more. Zero admits
	// 500 at once and 2,500 in a lifetime.
	Global Limit
	// MaxPending is how many grants can be live at once at the length of code
	// that is configured. Zero means 10,000. When a Store that is a Counter has
	// more, new codes are longer by as much as it takes.
	MaxPending int
	// MaxAddressChance bounds the chance that one address finds one given code
	// within its lifetime. Zero means 2^-32, the RFC's own example.
	MaxAddressChance float64
	// MaxGlobalHits bounds the number of live codes that everybody together is
	// expected to find in a lifetime, guessing as fast as Global admits. Zero
	// means 2^-10: one code in a thousand lifetimes of full attack.
	MaxGlobalHits float64
}

func (g Guessing) withDefaults(lifetime time.Duration) Guessing {
	if g.PerAddress == (Limit{}) {
		g.PerAddress = Limit{Burst: 3, Every: lifetime / 2}
	}
	if g.Global == (Limit{}) {
		g.Global = Limit{Burst: 500, Every: lifetime / 2000}
	}
	if g.MaxPending == 0 {
		g.MaxPending = 10_000
	}
	if g.MaxAddressChance == 0 {
		g.MaxAddressChance = math.Pow(2, -32)
	}
	if g.MaxGlobalHits == 0 {
		g.MaxGlobalHits = math.Pow(2, -10)
	}
	return g
}

func (g Guessing) validate() error {
	if g.PerAddress.Burst < 1 || g.PerAddress.Every <= 0 || g.Global.Burst < 1 || g.Global.Every <= 0 {
		return errors.New("Guessing.PerAddress and Guessing.Global: Burst and Every must be above zero")
	}
	if g.MaxPending < 0 || g.MaxAddressChance < 0 || g.MaxGlobalHits < 0 {
		return errors.New("Guessing: MaxPending, MaxAddressChance and MaxGlobalHits must not be negative")
	}
	return nil
}

// GuessChances is what guessing user codes can achieve within one lifetime.
type GuessChances struct {
	// PerAddress is the chance that one address finds one given code.
	PerAddress float64
	// GlobalHits is the expected number of codes that everybody together finds
	// while MaxPending of them are live.
	GlobalHits float64
}

func (g Guessing) chances(f UserCodeFormat, length int, lifetime time.Duration, live int) GuessChances {
	codes := math.Pow(float64(len(f.Alphabet)), float64(length))
	return GuessChances{
		PerAddress: float64(g.PerAddress.Within(lifetime)) / codes,
		GlobalHits: float64(g.Global.Within(lifetime)) * float64(live) / codes,
	}
}

func (g Guessing) bears(c GuessChances) bool {
	return c.PerAddress <= g.MaxAddressChance && c.GlobalHits <= g.MaxGlobalHits
}

// length returns how long a new code must be while live grants are.
func (g Guessing) length(f UserCodeFormat, lifetime time.Duration, live int) int {
	n := f.Length
	for n < maxUserCodeLength && !g.bears(g.chances(f, n, lifetime, live)) {
		n++
	}
	return n
}

// check refuses what is above a bound, and says what to do about it.
func (g Guessing) check(f UserCodeFormat, lifetime time.Duration) error {
	c := g.chances(f, f.Length, lifetime, g.MaxPending)
	if g.bears(c) {
		return nil
	}
	if c.PerAddress > g.MaxAddressChance {
		return fmt.Errorf("user codes are too easy to guess: one address may try %d in a lifetime of %v and finds a given code with chance %.2g, above Guessing.MaxAddressChance %.2g; "+
			"set UserCode.Length to %d or more, or lower Guessing.PerAddress or Lifetime",
			g.PerAddress.Within(lifetime), lifetime, c.PerAddress, g.MaxAddressChance, g.length(f, lifetime, g.MaxPending))
	}
	return fmt.Errorf("user codes are too easy to guess: %d guesses admitted in a lifetime of %v against %d live codes find %.2g of them, above Guessing.MaxGlobalHits %.2g; "+
		"set UserCode.Length to %d or more, or lower Guessing.Global, Guessing.MaxPending or Lifetime",
		g.Global.Within(lifetime), lifetime, g.MaxPending, c.GlobalHits, g.MaxGlobalHits, g.length(f, lifetime, g.MaxPending))
}

// guesses enforces Guessing.
type guesses struct {
	addresses keyedLimiter[netip.Prefix]
	subjects  keyedLimiter[string]
	global    *rate.Limiter
}

// maxLimited bounds how many addresses, and how many subjects, are remembered.
// Whoever comes from more of them than that still meets the global limit.
const maxLimited = 1 << 16

func newGuesses(g Guessing) *guesses {
	return &guesses{
		addresses: keyedLimiter[netip.Prefix]{limit: g.PerAddress, max: maxLimited / 2},
		subjects:  keyedLimiter[string]{limit: g.PerAddress, max: maxLimited / 2},
		global:    rate.NewLimiter(g.Global.rate(), g.Global.Burst),
	}
}

// admit charges one guess before the code is looked up, so that guesses made at
// the same time cannot exceed the limits together. refund gives the charge back
// if the code was right; wait is above zero when the guess is refused.
func (g *guesses) admit(now time.Time, addr netip.Addr, subject string) (refund func(), wait time.Duration) {
	var charged []*rate.Reservation
	refund = func() {
		for _, r := range charged {
			r.CancelAt(now)
		}
	}
	limiters := make([]*rate.Limiter, 0, 3)
	clean := subject != ""
	if addr.IsValid() {
		limiters = append(limiters, g.addresses.get(addressKey(addr)))
	}
	if subject != "" {
		l := g.subjects.get(subject)
		clean = l.TokensAt(now) > float64(l.Burst())-0.5 // A refund can fall short by a hair.
		limiters = append(limiters, l)
	}
	limiters = append(limiters, g.global)
	for _, l := range limiters {
		r := l.ReserveN(now, 1)
		if wait := r.DelayFrom(now); wait > 0 {
			r.CancelAt(now)
			if l == g.global && clean {
				break
			}
			refund()
			return nil, wait
		}
		charged = append(charged, r)
	}
	return refund, 0
}

// addressKey is what is limited as one address: a subscriber gets a whole /64 of
// IPv6.
func addressKey(addr netip.Addr) netip.Prefix {
	addr = addr.Unmap().WithZone("")
	bits := 32
	if addr.Is6() {
		bits = 64
	}
	p, _ := addr.Prefix(bits)
	return p
}

// keyedLimiter is a limiter for each key, of the keys used last: at the least the
// last max of them, at the most twice as many.
type keyedLimiter[K comparable] struct {
	limit Limit
	max   int

	mu    sync.Mutex
	young map[K]*rate.Limiter
	old   map[K]*rate.Limiter
}

func (k *keyedLimiter[K]) get(key K) *rate.Limiter {
	k.mu.Lock()
	defer k.mu.Unlock()
	if l, ok := k.young[key]; ok {
		return l
	}
	l, ok := k.old[key]
	if !ok {
		l = rate.NewLimiter(k.limit.rate(), k.limit.Burst)
	}
	if k.young == nil || len(k.young) >= k.max {
		k.young, k.old = make(map[K]*rate.Limiter), k.young
	}
	k.young[key] = l
	return l
}
