package devicegrant

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"sync"
	"time"
)

// Limit admits Burst events at once and one more each time Every has passed. Both
// must be above zero; the zero Limit stands for a default.
type Limit struct {
	Burst int
	Every time.Duration
}

// within returns the most events that the limit admits in any span of length d.
func (l Limit) within(d time.Duration) float64 {
	return float64(l.Burst) + math.Floor(float64(d)/float64(l.Every))
}

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
	// only subjects who have not been wrong for a lifetime are let through, so that
	// honest people are not locked out; their wrong codes are limited together by
	// the same Limit once more. Zero admits 250 at once and 1,250 in a lifetime, and
	// so 2,500 in all.
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
		g.Global = Limit{Burst: 250, Every: lifetime / 1000}
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
		PerAddress: g.PerAddress.within(lifetime) / codes,
		GlobalHits: g.everybody(lifetime) * float64(live) / codes,
	}
}

// everybody is the most wrong codes that are taken in a lifetime, the reserve for
// those with a clean record included.
func (g Guessing) everybody(lifetime time.Duration) float64 { return 2 * g.Global.within(lifetime) }

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
		return fmt.Errorf("user codes are too easy to guess: one address may try %.0f in a lifetime of %v and finds a given code with chance %.2g, above Guessing.MaxAddressChance %.2g; "+
			"set UserCode.Length to %d or more, or lower Guessing.PerAddress or Lifetime",
			g.PerAddress.within(lifetime), lifetime, c.PerAddress, g.MaxAddressChance, g.length(f, lifetime, g.MaxPending))
	}
	return fmt.Errorf("user codes are too easy to guess: %.0f guesses admitted in a lifetime of %v against %d live codes find %.2g of them, above Guessing.MaxGlobalHits %.2g; "+
		"set UserCode.Length to %d or more, or lower Guessing.Global, Guessing.MaxPending or Lifetime",
		g.everybody(lifetime), lifetime, g.MaxPending, c.GlobalHits, g.MaxGlobalHits, g.length(f, lifetime, g.MaxPending))
}

// guesses enforces Guessing. A guess is charged to every bucket that it concerns
// before the code is looked up, so that guesses made at the same time cannot exceed
// a limit together; a right one is given back.
type guesses struct {
	lifetime time.Duration

	mu        sync.Mutex
	addresses buckets[netip.Prefix]
	subjects  buckets[string]
	global    *bucket
	reserve   *bucket // for those with a clean record, once global is used up
}

// maxLimited bounds how many addresses, and how many subjects, are remembered.
// Whoever comes from more of them than that still meets the global limit.
const maxLimited = 1 << 16

// inFlight is how long to wait for a guess to be admitted that only the guesses
// being looked up at this moment are in the way of.
const inFlight = time.Second

func newGuesses(g Guessing, lifetime time.Duration) *guesses {
	return &guesses{
		lifetime:  lifetime,
		addresses: buckets[netip.Prefix]{limit: g.PerAddress, max: maxLimited / 2},
		subjects:  buckets[string]{limit: g.PerAddress, max: maxLimited / 2},
		global:    newBucket(g.Global),
		reserve:   newBucket(g.Global),
	}
}

// guess is one that was admitted. It must be settled.
type guess struct {
	*guesses
	charged []*bucket
	subject *bucket // nil if nobody is signed in
}

// admit charges a guess. It returns how long to wait, above zero, when there are
// too many, and charges nothing then.
func (g *guesses) admit(now time.Time, addr netip.Addr, subject string) (guess, time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	admitted := guess{guesses: g}
	if addr.IsValid() {
		admitted.charged = append(admitted.charged, g.addresses.get(addressKey(addr)))
	}
	if subject != "" {
		admitted.subject = g.subjects.get(subject)
		admitted.charged = append(admitted.charged, admitted.subject)
	}
	everybody := g.global
	if g.global.wait(now) > 0 && admitted.subject != nil && admitted.subject.clean(now, g.lifetime) {
		everybody = g.reserve
	}
	admitted.charged = append(admitted.charged, everybody)
	for _, b := range admitted.charged {
		if wait := b.wait(now); wait > 0 {
			return guess{}, wait
		}
	}
	for _, b := range admitted.charged {
		b.take()
	}
	return admitted, 0
}

// settle says how a guess ended: a right one costs nothing.
func (g guess) settle(now time.Time, right bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, b := range g.charged {
		b.settle(right)
	}
	if !right && g.subject != nil {
		g.subject.wrong = now
	}
}

// bucket holds the tokens of one Limit. A token comes back each time Every has
// passed, until there are Burst.
type bucket struct {
	limit  Limit
	tokens float64
	filled time.Time // when tokens was reckoned; the zero time fills it
	flying int       // guesses that were charged and not settled
	wrong  time.Time // when the last wrong guess was settled
}

func newBucket(l Limit) *bucket { return &bucket{limit: l, tokens: float64(l.Burst)} }

// wait returns how long it is until there is a token; zero if there is one.
func (b *bucket) wait(now time.Time) time.Duration {
	if now.After(b.filled) {
		b.tokens = min(float64(b.limit.Burst), b.tokens+float64(now.Sub(b.filled))/float64(b.limit.Every))
	}
	b.filled = now
	switch {
	case b.tokens >= 1:
		return 0
	case b.tokens+float64(b.flying) >= 1:
		return inFlight
	default:
		return max(1, time.Duration((1-b.tokens)*float64(b.limit.Every)))
	}
}

func (b *bucket) take() {
	b.tokens--
	b.flying++
}

func (b *bucket) settle(right bool) {
	b.flying--
	if right {
		b.tokens = min(float64(b.limit.Burst), b.tokens+1)
	}
}

// clean reports whether no guess has been wrong for a lifetime.
func (b *bucket) clean(now time.Time, lifetime time.Duration) bool {
	return b.wrong.IsZero() || now.Sub(b.wrong) >= lifetime
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

// buckets is a bucket for each key, of the keys used last: at the least the last max
// of them, at the most twice as many.
type buckets[K comparable] struct {
	limit      Limit
	max        int
	young, old map[K]*bucket
}

func (s *buckets[K]) get(key K) *bucket {
	if b, ok := s.young[key]; ok {
		return b
	}
	b, ok := s.old[key]
	if !ok {
		b = newBucket(s.limit)
	}
	if s.young == nil || len(s.young) >= s.max {
		s.young, s.old = make(map[K]*bucket), s.young
	}
	s.young[key] = b
	return b
}
