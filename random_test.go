package devicegrant_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/devicegrant/devicegrant"
	"github.com/devicegrant/devicegrant/storetest"
)

// A model of what a person and a device may expect, beside the server, over
// random events: polls at random times, approvals, denials, failures of the
// issuer, expiry, purges, and a clock that steps back.
//
// The seeds are fixed, so that a failure repeats. DEVICEGRANT_SOAK=1 runs a
// hundred times as many (make soak).
func TestRandomEvents(t *testing.T) {
	names := []string{"token", "authorization_pending", "slow_down", "access_denied", "expired_token", "invalid_grant"}
	t.Run("in steps", func(t *testing.T) { testRandomEvents(t, nil, names...) })
	t.Run("in one transaction", func(t *testing.T) {
		testRandomEvents(t, newLedger, append(names, "token that is lost", "token given again", "redemption that fails")...)
	})
}

// testRandomEvents runs worlds, with ledgers if newStore makes some, and requires that
// the answers named were all seen often.
func testRandomEvents(t *testing.T, newStore func() *ledger, names ...string) {
	const events = 5_000
	seeds := uint64(30)
	if os.Getenv("DEVICEGRANT_SOAK") != "" {
		seeds *= 100
	}
	seen := map[string]int{}
	for seed := range seeds {
		w := newWorld(t, seed, newStore)
		for range events {
			w.step()
		}
		for name, n := range w.seen {
			seen[name] += n
		}
		for id, n := range w.redeemed {
			require.LessOrEqual(t, n, 1, "grant %v", id)
		}
	}
	for _, name := range names {
		require.Greater(t, seen[name], 1000, "%s has been seen often enough", name)
	}
}

type world struct {
	*fixture
	t        *testing.T
	rng      *rand.Rand
	now      time.Time
	failing  bool
	ledger   *ledger // nil where tokens are issued in steps
	danger   danger  // of the last poll
	redeemed map[uuid.UUID]int
	last     uuid.UUID      // of the grants in redeemed
	seen     map[string]int // answers to polls
	logins   []*login
}

// login is what the model knows of one grant.
type login struct {
	*devicegrant.Authorization
	ticket   string // alice's; empty until she has looked
	state    devicegrant.State
	deadline time.Time
	pace     devicegrant.Pace
	purged   bool

	latest time.Time // what the device code says
	token  string    // that was issued, of which no device has been sent the answer
	given  time.Time // when that was
}

const worldLifetime = 5 * time.Minute

func newWorld(t *testing.T, seed uint64, newStore func() *ledger) *world {
	w := &world{t: t, rng: rand.New(rand.NewPCG(seed, 1)), now: time.Unix(1_800_000_000, 0), redeemed: map[uuid.UUID]int{}, seen: map[string]int{}}
	w.fixture = newFixture(t, func(c *devicegrant.Config) {
		if newStore != nil {
			w.ledger = newStore()
			c.Store = w.ledger
		}
		c.Lifetime = worldLifetime
		c.Guessing = devicegrant.Guessing{ // Limits have tests of their own.
			PerAddress: devicegrant.Limit{Burst: 1e6, Every: time.Millisecond}, Global: devicegrant.Limit{Burst: 1e6, Every: time.Millisecond},
			MaxAddressChance: 1, MaxGlobalHits: 1e9,
		}
	})
	w.SetClock(func() time.Time { return w.now })
	w.issue = func(_ context.Context, g *devicegrant.Grant) (*devicegrant.Token, error) {
		if w.failing {
			return nil, errors.New("issuer fails")
		}
		w.redeemed[g.ID]++
		w.last = g.ID
		return nil, nil
	}
	return w
}

func (w *world) step() {
	switch n := w.rng.IntN(100); {
	case n < 6 || len(w.logins) == 0:
		w.create()
	case n < 60:
		w.pollOne()
	case n < 68:
		w.decideOne(w.yes, devicegrant.Approved)
	case n < 72:
		w.decideOne(w.Deny, devicegrant.Denied)
	case n < 77:
		w.failing = !w.failing
	case n < 97:
		w.now = w.now.Add(time.Duration(w.rng.Int64N(int64(8 * time.Second))))
	case n < 98:
		w.now = w.now.Add(-time.Duration(w.rng.Int64N(int64(time.Minute))))
	case n < 99:
		w.now = w.now.Add(time.Duration(w.rng.Int64N(int64(worldLifetime))))
	default:
		w.purge()
	}
}

// purge takes what has been over for a lifetime, and nothing else.
func (w *world) purge() {
	_, err := w.Purge(w.t.Context())
	require.NoError(w.t, err)
	for _, l := range w.logins {
		l.purged = l.purged || l.deadline.Before(w.now.Add(-worldLifetime))
	}
}

func answerName(err error) string {
	var e *devicegrant.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return "token"
}

func (w *world) create() {
	a := w.authorize()
	if len(w.logins) == 15 {
		w.logins = w.logins[1:]
	}
	w.logins = append(w.logins, &login{
		Authorization: a, state: devicegrant.Pending, pace: devicegrant.Pace{Interval: a.Interval},
		deadline: w.now.Add(worldLifetime), latest: w.now.Add(worldLifetime + 2*collectTime(devicegrant.MaxInterval) + time.Second - 1).Truncate(time.Second),
	})
}

func (w *world) pick() *login { return w.logins[w.rng.IntN(len(w.logins))] }

// collectTime is what is left to a device at the least.
func collectTime(interval time.Duration) time.Duration { return 2*interval + 10*time.Second }

func (w *world) pollOne() {
	l := w.pick()
	poll := w.poll
	if w.ledger != nil {
		poll = w.pollInDanger
	}
	held, issued := l.state == devicegrant.Redeeming, w.issued.Load()
	token, err := poll(l.Authorization)
	before := l.pace.Interval
	l.pace = l.pace.Next(w.now)
	require.GreaterOrEqual(w.t, l.pace.Interval, before, "the interval never shrinks")
	w.seen[answerName(err)]++
	switch {
	case l.purged:
		require.Contains(w.t, []string{"invalid_grant", "expired_token"}, answerName(err))
	case !w.now.Before(l.deadline) || !w.now.Before(l.latest):
		require.ErrorIs(w.t, err, devicegrant.ErrExpiredToken)
	case l.state == devicegrant.Approved && w.failing:
		require.ErrorIs(w.t, err, devicegrant.ErrSlowDown)
	case held && w.now.Sub(l.given) < delivery:
		require.ErrorIs(w.t, err, devicegrant.ErrAuthorizationPending)
	case l.state == devicegrant.Approved || held:
		w.redeemOne(l, token, err, issued)
	case l.state == devicegrant.Denied:
		require.ErrorIs(w.t, err, devicegrant.ErrAccessDenied)
	case l.state == devicegrant.Redeemed:
		require.ErrorIs(w.t, err, devicegrant.ErrInvalidGrant)
	default:
		w.requirePending(l, err)
	}
}

// danger is what befalls a poll in a world with transactions.
type danger struct {
	fault redeemFault
	lost  bool // the answer, so that the claim is not committed
}

// pollInDanger is a poll of which the transaction may fail, or the answer be lost.
func (w *world) pollInDanger(a *devicegrant.Authorization) (*devicegrant.Token, error) {
	w.danger = danger{}
	switch n := w.rng.IntN(12); {
	case n < 4:
		w.danger.lost = true
		w.ledger.Inject(storetest.OpSwap, storetest.Fault{})
	case n < 7:
		w.danger.fault = redeemFault(n - 3)
	}
	w.ledger.failNext(w.danger.fault)
	defer w.ledger.failNext(sound)
	defer w.ledger.Heal()
	return w.poll(a)
}

// redeemOne follows a poll that has to give tokens, unless its transaction failed.
func (w *world) redeemOne(l *login, token *devicegrant.Token, err error, issued int64) {
	d := w.danger
	if d.fault != sound {
		w.seen["redemption that fails"]++
		require.ErrorIs(w.t, err, devicegrant.ErrSlowDown)
	} else {
		require.NoError(w.t, err, "an approval is never lost")
	}
	if d.fault == rolledBack && l.state == devicegrant.Approved {
		w.redeemed[w.last]-- // Its token is not in the database.
	}
	if d.fault == notBegun || d.fault == rolledBack {
		return
	}
	if l.state == devicegrant.Redeeming {
		w.seen["token given again"]++
		require.Equal(w.t, issued, w.issued.Load(), "nothing is issued twice")
	} else {
		l.token = fmt.Sprintf("token-%d-alice", issued+1)
	}
	if err == nil {
		require.Equal(w.t, l.token, token.AccessToken)
	}
	if least := w.now.Add(collectTime(devicegrant.MaxInterval)); w.ledger != nil && l.deadline.Before(least) {
		l.deadline = least
	}
	l.state = devicegrant.Redeemed
	if d.lost || d.fault == replyLost {
		w.seen["token that is lost"]++
		l.state, l.given = devicegrant.Redeeming, w.now
	}
}

func (w *world) requirePending(l *login, err error) {
	if !l.pace.Early() {
		require.ErrorIs(w.t, err, devicegrant.ErrAuthorizationPending)
		return
	}
	require.ErrorIs(w.t, err, devicegrant.ErrSlowDown)
	var e *devicegrant.Error
	require.ErrorAs(w.t, err, &e)
	require.Equal(w.t, l.pace.Interval, e.Interval)
}

// decideOne decides as alice, now or with a ticket that she was given earlier.
func (w *world) decideOne(decide func(context.Context, string, devicegrant.Person) error, to devicegrant.State) {
	l := w.pick()
	if l.ticket == "" {
		r, err := w.Lookup(w.t.Context(), l.UserCode, alice)
		if err != nil {
			require.False(w.t, l.state == devicegrant.Pending && !l.purged && w.now.Before(l.deadline), "a live code is found: %v", err)
			return
		}
		l.ticket = r.Ticket
	}
	err := decide(w.t.Context(), l.ticket, alice)
	if err == nil {
		require.Equal(w.t, devicegrant.Pending, l.state, "only what is pending is decided")
		require.True(w.t, w.now.Before(l.deadline), "nothing is decided past its deadline")
		l.state = to
		if least := w.now.Add(collectTime(l.pace.Interval)); to == devicegrant.Approved && l.deadline.Before(least) {
			l.deadline = least
		}
		return
	}
	require.False(w.t, l.state == devicegrant.Pending && !l.purged && w.now.Before(l.deadline), "a pending grant can be decided: %v", err)
}
