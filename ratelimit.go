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
// must be above zero and Every a microsecond or more, and both together no more than 292
// years; the zero Limit stands for a default.
type Limit struct {
	Burst int
	Every time.Duration
}

func (l Limit) valid() bool {
	return l.Burst > 0 && l.Every >= time.Microsecond && l.Every <= math.MaxInt64/time.Duration(l.Burst)
}

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

// What is limited. A reserve follows what it is of, and everybody's limit comes first.
const (
	limitGlobal = iota
	limitGlobalReserve
	limitAddress
	limitAddressReserve
	limitSubject
	limitSession
	limits // how many there are
)

// guesses enforces Guessing. A guess is charged to every limit that it concerns, at once,
// before the code is looked up, so that guesses made at the same time cannot exceed a limit
// together; a right one is given back.
type guesses struct {
	rules   [limits]rule
	tallies Tallier

	// turn is held by whoever of this process writes again because others have come
	// between, so that they do not do so again and again: everybody shares one limit.
	// Whoever is refused does not wait for it, however many they are.
	turn chan struct{}

	mu     sync.Mutex
	flying map[TallyKey]int // guesses of this process that are charged and not settled
}

// inFlight is how long to wait for a guess to be admitted that only the guesses being
// looked up at this moment are in the way of.
const inFlight = time.Second

// maxConflicts bounds how often a write is tried again because others came between.
const maxConflicts = 100

// settleTimeout bounds giving a guess back.
const settleTimeout = 5 * time.Second

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
		turn:    make(chan struct{}, 1),
		flying:  make(map[TallyKey]int),
	}
}

// guess is one that was admitted. It must be settled.
type guess struct {
	*guesses
	rules         []rule
	keys          []TallyKey
	before, after []Tally
}

// admit charges a guess. It returns how long to wait, above zero, when there are too
// many, and charges nothing then.
func (g *guesses) admit(ctx context.Context, now time.Time, by Person) (admitted guess, wait time.Duration, err error) {
	keys := limitKeys(by)
	for i := range maxConflicts {
		admitted, wait, err = g.try(ctx, now, keys, i > 0)
		if !errors.Is(err, ErrConflict) {
			return admitted, wait, err
		}
	}
	return guess{}, inFlight, nil
}

// try is admit, which has to be repeated, in turn, when others come between.
func (g *guesses) try(ctx context.Context, now time.Time, keys [limits]TallyKey, inTurn bool) (admitted guess, wait time.Duration, err error) {
	if inTurn {
		if err := g.takeTurn(ctx); err != nil {
			return guess{}, 0, err
		}
		defer g.endTurn()
	}
	tallies, err := g.read(ctx, keys)
	if err != nil {
		return guess{}, 0, err
	}
	if admitted, wait = g.choose(now, keys, tallies); wait > 0 {
		return guess{}, wait, nil
	}
	if !inTurn && g.turnIsTaken() {
		return guess{}, 0, ErrConflict // It would be one for whoever has it.
	}
	if err := g.tallies.SwapTallies(ctx, admitted.keys, admitted.after); err != nil {
		return guess{}, 0, err
	}
	for i := range admitted.after {
		admitted.after[i].Version++
	}
	g.fly(admitted.keys, 1)
	return admitted, 0, nil
}

func (g *guesses) takeTurn(ctx context.Context) error {
	select {
	case g.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (g *guesses) endTurn() { <-g.turn }

func (g *guesses) turnIsTaken() bool { return len(g.turn) > 0 }

// read returns the tallies of the keys, in their places.
func (g *guesses) read(ctx context.Context, keys [limits]TallyKey) (tallies [limits]Tally, err error) {
	asked := make([]TallyKey, 0, limits)
	for _, key := range keys {
		if key != (TallyKey{}) {
			asked = append(asked, key)
		}
	}
	stored, err := g.stored(ctx, asked)
	if err != nil {
		return tallies, err
	}
	for i, key := range keys {
		if key != (TallyKey{}) {
			tallies[i], stored = stored[0], stored[1:]
		}
	}
	return tallies, nil
}

func (g *guesses) stored(ctx context.Context, keys []TallyKey) ([]Tally, error) {
	tallies, err := g.tallies.Tallies(ctx, keys)
	if err == nil && len(tallies) != len(keys) {
		err = errors.New("devicegrant: the Store returned another number of tallies than it was asked for")
	}
	return tallies, err
}

// choose returns the guess as it is to be charged, or how long to wait.
func (g *guesses) choose(now time.Time, keys [limits]TallyKey, tallies [limits]Tally) (to guess, wait time.Duration) {
	to.guesses = g
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
		r, t := g.rules[i], g.rules[i].current(tallies[i], now)
		to.rules, to.keys = append(to.rules, r), append(to.keys, keys[i])
		to.before, to.after = append(to.before, t), append(to.after, r.charge(t, now))
		wait = max(wait, waitFor(i))
	}
	return to, wait
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

func (g *guesses) fly(keys []TallyKey, n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, key := range keys {
		if g.flying[key] += n; g.flying[key] == 0 {
			delete(g.flying, key)
		}
	}
}

// settle says how a guess ended: a right one costs nothing. When that cannot be
// written, it costs what a wrong one does.
func (g guess) settle(ctx context.Context, now time.Time, right bool) error {
	defer g.fly(g.keys, -1)
	if !right {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTimeout) // Whoever has gone is owed it as well.
	defer cancel()
	for i := range g.before {
		g.before[i].Version = g.after[i].Version
	}
	if g.turnIsTaken() {
		return g.refund(ctx, now)
	}
	err := g.tallies.SwapTallies(ctx, g.keys, g.before)
	if errors.Is(err, ErrConflict) {
		err = g.refund(ctx, now)
	}
	return err
}

// refund makes the tallies what the guesses of others alone would have made of them,
// who have come between.
func (g guess) refund(ctx context.Context, now time.Time) error {
	if err := g.takeTurn(ctx); err != nil {
		return err
	}
	defer g.endTurn()
	for range maxConflicts {
		tallies, err := g.stored(ctx, g.keys)
		if err != nil {
			return err
		}
		for i, t := range tallies {
			tallies[i] = g.rules[i].refund(t, now)
		}
		if err := g.tallies.SwapTallies(ctx, g.keys, tallies); !errors.Is(err, ErrConflict) {
			return err
		}
	}
	return ErrConflict
}

// used returns how many guesses count against the limit of everybody after this one.
func (g guess) used(now time.Time) int {
	if g.keys[0] != globalKey {
		return g.rules[0].Burst // The reserve is drawn upon.
	}
	return int(math.Ceil(float64(g.after[0].PaidAt.Sub(now)) / float64(g.rules[0].cost(1))))
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
	return o.m.Values(keys), nil
}

// SwapTallies implements Tallier.
func (o ownTallies) SwapTallies(_ context.Context, keys []TallyKey, tallies []Tally) error {
	if !o.m.Swap(keys, tallies, func(t *Tally) *int64 { return &t.Version }) {
		return ErrConflict
	}
	return nil
}
