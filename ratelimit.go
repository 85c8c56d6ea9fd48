package devicegrant

import (
	"context"
	"crypto/sha256"
	"errors"
	"math"
	"net/netip"
	"sync"
	"time"

	"github.com/devicegrant/devicegrant/internal/recent"
)

// Limit admits Burst events at once and one more each time Every has passed. Burst
// must be above zero and Every a microsecond or more; the zero Limit stands for a
// default.
type Limit struct {
	Burst int
	Every time.Duration
}

func (l Limit) valid() bool { return l.Burst > 0 && l.Every >= time.Microsecond }

// rule says how guesses count against one limit. It is pure: a Tally is what it makes
// of the guesses so far.
//
// A guess costs time, and Burst times Every can be owed.
type rule struct {
	Limit
	doubling bool          // each guess beyond Burst costs twice as much as the one before
	forget   time.Duration // how long after everything is paid guesses still count
}

// maxDoublings bounds what a guess costs: sixteen times Every.
const maxDoublings = 4

// cost is what the n-th guess costs.
func (r rule) cost(n int) time.Duration {
	every := r.Every.Truncate(time.Microsecond) // As a Store keeps it.
	if !r.doubling || n <= r.Burst {
		return every
	}
	return every << min(n-r.Burst, maxDoublings)
}

// current is the tally as it counts at now.
func (r rule) current(t Tally, now time.Time) Tally {
	if now.Before(t.ExpiresAt) {
		return t
	}
	return Tally{PaidAt: now, ExpiresAt: now, Version: t.Version}
}

// wait is how long it is until one more guess is admitted; zero if it is now.
func (r rule) wait(t Tally, now time.Time) time.Duration {
	owed := r.current(t, now).PaidAt.Sub(now)
	return max(0, owed-time.Duration(r.Burst-1)*r.cost(1))
}

// charge adds a guess.
func (r rule) charge(t Tally, now time.Time) Tally {
	t = r.current(t, now)
	t.Guesses++
	if t.PaidAt.Before(now) {
		t.PaidAt = now
	}
	return r.paidAt(t, t.PaidAt.Add(r.cost(t.Guesses)))
}

// refund takes back a guess, whichever it was: the costs of the others are those of
// fewer.
func (r rule) refund(t Tally, now time.Time) Tally {
	t = r.current(t, now)
	if t.Guesses == 0 {
		return t
	}
	t.Guesses--
	return r.paidAt(t, t.PaidAt.Add(-r.cost(t.Guesses+1)))
}

func (r rule) paidAt(t Tally, paid time.Time) Tally {
	t.PaidAt, t.ExpiresAt = paid, paid.Add(r.forget)
	return t
}

// within returns the most guesses that the rule admits in any span of length d: those
// that somebody makes as soon as they are admitted, beginning with a clean record.
func (r rule) within(d time.Duration) float64 {
	n, at := float64(r.Burst), time.Duration(0)
	if r.doubling {
		for i := r.Burst; i < r.Burst+maxDoublings; i++ {
			if at += r.cost(i); at > d {
				return n
			}
			n++
		}
	}
	return n + math.Floor(float64(d-at)/float64(r.cost(math.MaxInt)))
}

// What is limited, in the order in which a guess is charged: what most guesses share
// comes first, for there others interfere.
const (
	limitGlobal = iota
	limitGlobalReserve
	limitAddress
	limitAddressReserve
	limitSubject
	limitSession
	limits // how many there are
)

// guesses enforces Guessing. A guess is charged to every limit that it concerns before
// the code is looked up, so that guesses made at the same time cannot exceed a limit
// together; a right one is given back.
type guesses struct {
	rules   [limits]rule
	tallies Tallier

	mu     sync.Mutex
	flying map[TallyKey]int // guesses of this process that are charged and not settled
}

// inFlight is how long to wait for a guess to be admitted that only the guesses being
// looked up at this moment are in the way of.
const inFlight = time.Second

// maxConflicts bounds how often a write is tried again because others came between.
const maxConflicts = 10

func newGuesses(g Guessing, lifetime time.Duration, store Store) *guesses {
	person, reserve, global := g.personRule(lifetime), g.reserveRule(lifetime), g.globalRule(lifetime)
	tallies, shared := store.(Tallier)
	if !shared {
		tallies = ownTallies{recent.New[TallyKey, Tally](0)}
	}
	return &guesses{
		rules: [limits]rule{
			limitGlobal: global, limitGlobalReserve: global,
			limitAddress: person, limitAddressReserve: reserve,
			limitSubject: person, limitSession: person,
		},
		tallies: tallies,
		flying:  make(map[TallyKey]int),
	}
}

// guess is one that was admitted. It must be settled.
type guess struct {
	*guesses
	charges []charge
}

// charge is what a guess cost of one limit.
type charge struct {
	rule          rule
	key           TallyKey
	before, after Tally
}

// admit charges a guess. It returns how long to wait, above zero, when there are too
// many, and charges nothing then.
func (g *guesses) admit(ctx context.Context, now time.Time, by Person) (admitted guess, wait time.Duration, err error) {
	keys := limitKeys(by)
	for range maxConflicts {
		tallies, err := g.read(ctx, keys)
		if err != nil {
			return guess{}, 0, err
		}
		limited, wait := g.choose(now, keys, tallies)
		if wait > 0 {
			return guess{}, wait, nil
		}
		admitted, err = g.charge(ctx, now, limited, keys, tallies)
		if !errors.Is(err, ErrConflict) {
			return admitted, 0, err
		}
	}
	return guess{}, inFlight, nil
}

// read returns the tallies of the keys, in their places.
func (g *guesses) read(ctx context.Context, keys [limits]TallyKey) (tallies [limits]Tally, err error) {
	asked := make([]TallyKey, 0, limits)
	for _, key := range keys {
		if key != (TallyKey{}) {
			asked = append(asked, key)
		}
	}
	stored, err := g.tallies.Tallies(ctx, asked)
	if err != nil {
		return tallies, err
	}
	if len(stored) != len(asked) {
		return tallies, errors.New("devicegrant: the Store returned another number of tallies than it was asked for")
	}
	for i, key := range keys {
		if key != (TallyKey{}) {
			tallies[i], stored = stored[0], stored[1:]
		}
	}
	return tallies, nil
}

// choose returns the limits that a guess is charged to, or how long to wait.
func (g *guesses) choose(now time.Time, keys [limits]TallyKey, tallies [limits]Tally) (limited []int, wait time.Duration) {
	waitFor := func(i int) time.Duration { return g.wait(now, i, keys[i], tallies[i]) }
	subject := tallies[limitSubject]
	clean := keys[limitSubject] != (TallyKey{}) && g.rules[limitSubject].current(subject, now).Guesses == 0
	for i := range limits {
		switch {
		case keys[i] == (TallyKey{}), i == limitGlobalReserve, i == limitAddressReserve:
			continue
		case (i == limitGlobal || i == limitAddress) && clean && waitFor(i) > 0:
			i++ // Its reserve.
		}
		limited = append(limited, i)
		wait = max(wait, waitFor(i))
	}
	return limited, wait
}

// wait is how long it is until one of the limits admits a guess. Right guesses that
// are being looked up at this moment will be given back.
func (g *guesses) wait(now time.Time, i int, key TallyKey, t Tally) time.Duration {
	r := g.rules[i]
	wait := r.wait(t, now)
	if wait == 0 {
		return 0
	}
	g.mu.Lock()
	flying := g.flying[key]
	g.mu.Unlock()
	for range min(flying, r.Burst) {
		t = r.refund(t, now)
	}
	if r.wait(t, now) == 0 {
		return min(wait, inFlight)
	}
	return wait
}

// charge writes what a guess costs. When others come between, it takes back what it
// has written.
func (g *guesses) charge(ctx context.Context, now time.Time, limited []int, keys [limits]TallyKey, tallies [limits]Tally) (guess, error) {
	admitted := guess{guesses: g}
	for _, i := range limited {
		c := charge{rule: g.rules[i], key: keys[i], before: g.rules[i].current(tallies[i], now)}
		c.after = c.rule.charge(c.before, now)
		if err := g.tallies.SwapTally(ctx, c.key, c.after); err != nil {
			return guess{}, errors.Join(err, admitted.settle(ctx, now, true))
		}
		c.after.Version++
		g.fly(c.key, 1)
		admitted.charges = append(admitted.charges, c)
	}
	return admitted, nil
}

func (g *guesses) fly(key TallyKey, n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.flying[key] += n; g.flying[key] == 0 {
		delete(g.flying, key)
	}
}

// settle says how a guess ended: a right one costs nothing. When that cannot be
// written, it costs what a wrong one does.
func (g guess) settle(ctx context.Context, now time.Time, right bool) error {
	ctx = context.WithoutCancel(ctx) // Whoever has gone is owed it as well.
	var errs []error
	for _, c := range g.charges {
		if right {
			errs = append(errs, g.giveBack(ctx, now, c))
		}
		g.fly(c.key, -1)
	}
	return errors.Join(errs...)
}

// giveBack makes a tally what it was before the charge, or, if others have written it
// since, what theirs alone would have made of it.
func (g *guesses) giveBack(ctx context.Context, now time.Time, c charge) error {
	next := c.before
	next.Version = c.after.Version
	for range maxConflicts {
		if err := g.tallies.SwapTally(ctx, c.key, next); !errors.Is(err, ErrConflict) {
			return err
		}
		stored, err := g.tallies.Tallies(ctx, []TallyKey{c.key})
		if err != nil || len(stored) != 1 {
			return err
		}
		next = c.rule.refund(stored[0], now)
	}
	return ErrConflict
}

// used returns how many guesses count against the global limit after this one.
func (g guess) used(now time.Time) int {
	for _, c := range g.charges {
		if c.key == globalKey {
			return int(math.Ceil(float64(c.after.PaidAt.Sub(now)) / float64(c.rule.cost(1))))
		}
	}
	return g.rules[limitGlobal].Burst // The reserve is drawn upon.
}

// limitKeys are the keys of what limits a person; zero where there is nothing.
func limitKeys(by Person) (keys [limits]TallyKey) {
	keys[limitGlobal], keys[limitGlobalReserve] = globalKey, globalReserveKey
	if by.Addr.IsValid() {
		addr := addressKey(by.Addr).String()
		keys[limitAddress], keys[limitAddressReserve] = tallyKey("address", addr), tallyKey("address reserve", addr)
	}
	if by.Subject != "" {
		keys[limitSubject] = tallyKey("subject", by.Subject)
	}
	if by.Session != "" {
		keys[limitSession] = tallyKey("session", by.Session)
	}
	return keys
}

var globalKey, globalReserveKey = tallyKey("global", ""), tallyKey("global reserve", "")

// tallyKey does not depend on Config.Keys, so that all replicas agree while these are
// rotated.
func tallyKey(kind, value string) TallyKey {
	return sha256.Sum256([]byte("devicegrant guesses\x00" + kind + "\x00" + value))
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

// ownTallies are those of this process, where the Store keeps none: those that were used
// last. A guess that is refused leaves none, so that only what the global limit admits
// can push out others.
type ownTallies struct {
	m *recent.Map[TallyKey, Tally]
}

// Tallies implements Tallier.
func (o ownTallies) Tallies(_ context.Context, keys []TallyKey) ([]Tally, error) {
	tallies := make([]Tally, len(keys))
	for i, key := range keys {
		tallies[i] = o.m.Get(key)
	}
	return tallies, nil
}

// SwapTally implements Tallier.
func (o ownTallies) SwapTally(_ context.Context, key TallyKey, t Tally) error {
	return o.m.Update(key, func(stored Tally) (Tally, error) {
		if stored.Version != t.Version {
			return stored, ErrConflict
		}
		t.Version++
		return t, nil
	})
}
