package devicegrant

import (
	"errors"
	"slices"
	"strings"
	"time"
)

// This file is the whole of the protocol's decision logic: what a poll is
// answered, when a poll is early, and which state follows which. Everything in
// it is a pure function of its arguments; clocks and stores are elsewhere.

const (
	// SlowDownStep is what every slow_down adds to a grant's interval
	// (RFC 8628 section 3.5).
	SlowDownStep = 5 * time.Second

	// MaxInterval is where slow_down stops adding: an interval never grows past
	// it. A grant that starts with a longer interval keeps that one.
	MaxInterval = time.Minute

	// maxSamePoll bounds how close two requests are to be one poll: a tenth of the
	// interval, at most this. An OAuth client that probes for the right client
	// authentication sends each poll twice, the second as soon as the first is
	// answered: a round trip later.
	maxSamePoll = 250 * time.Millisecond

	// maxLeeway bounds how early an on-time poll may arrive: a fifth of the
	// interval, at most this. Timers drift, and a delayed request makes the next
	// one look early.
	maxLeeway = time.Second

	// collectMargin is what approval leaves beyond two intervals for the device
	// to collect its tokens: time for slow networks and slow timers.
	collectMargin = 10 * time.Second
)

// Pace is what a grant's polls have made of its interval (RFC 8628 section 3.5).
// The zero Pace with an Interval is that of a grant nobody has polled yet.
//
// Times are held to the microsecond; a Store may keep them as integers.
type Pace struct {
	// Interval is the least time between two polls now in force. It starts as
	// the advertised interval, grows by SlowDownStep with each early poll up to
	// MaxInterval, and never shrinks.
	Interval time.Duration
	// OnTime is when the last poll that was not early arrived; zero before the
	// first. Early polls do not move it, so that a client that is slightly too
	// fast is not put off for ever.
	OnTime time.Time
	// Last is when the last poll of either kind arrived.
	Last time.Time
	// Repeated is whether that poll has come twice: one more request within a tenth
	// of the interval, a quarter of a second at most, is the same poll and moves
	// neither time.
	Repeated bool
}

// Early reports whether the last poll was early, and so is to be told slow_down.
func (p Pace) Early() bool { return !p.Last.Equal(p.OnTime) }

// Next returns the pace after a poll at now. It is the only definition of the
// pacing rule: a Store either calls it or computes exactly the same, which
// storetest checks.
//
// A clock that stepped back makes a poll on time, never early.
func (p Pace) Next(now time.Time) Pace {
	since, same := now.Sub(p.Last), samePoll(p.Interval)
	switch {
	case p.Last.IsZero():
		p.OnTime, p.Last = now, now
	case since.Abs() < same && !p.Repeated:
		p.Repeated = true
	case since <= -same, now.Sub(p.OnTime) >= p.Interval-leeway(p.Interval):
		p.OnTime, p.Last, p.Repeated = now, now, false
	default:
		p.Interval = max(p.Interval, min(p.Interval+SlowDownStep, MaxInterval))
		p.Last, p.Repeated = now, false
	}
	return p
}

func samePoll(interval time.Duration) time.Duration { return min(interval/10, maxSamePoll) }

func leeway(interval time.Duration) time.Duration { return min(interval/5, maxLeeway) }

// answer says what a poll of p by clientID at now is told: nil means that the
// tokens are to be issued now. The order of the cases is the order of precedence
// (docs/state-machine.md); RFC 8628 section 3.5 names the codes.
func answer(p Polled, clientID string, now time.Time) *Error {
	switch {
	case p.ClientID != clientID:
		return errOtherClient
	case !now.Before(p.ExpiresAt):
		return ErrExpiredToken
	case p.State == Denied:
		return ErrAccessDenied
	case p.State == Redeemed:
		return errReplayed
	case p.State == Approved:
		return nil // Even when early: slow_down is for pending requests only.
	case p.State == Redeeming:
		return ErrAuthorizationPending
	case p.State != Pending:
		return errUnknownState
	case p.Pace.Early():
		return ErrSlowDown.withInterval(p.Pace.Interval)
	default:
		return ErrAuthorizationPending
	}
}

// Why a poll was answered invalid_grant or slow_down, where more than the answer
// depends on it.
var (
	errOtherClient  = ErrInvalidGrant.Because(errors.New("device code was issued to another client"))
	errReplayed     = ErrInvalidGrant.Because(errors.New("device code has been redeemed already"))
	errForged       = ErrInvalidGrant.Because(errors.New("device code was not made here"))
	errMadeUp       = errors.New("too many device codes that nobody knows")
	errUnproven     = ErrInvalidGrant.Describe("the code verifier or the key is not what the device code was asked for with")
	errUnknownState = ErrSlowDown.Because(errors.New("store returned a grant in an unknown state"))
)

// The arrows of the state machine. Each takes a grant as it was read and returns
// it as it is to be written with Store.Swap, which refuses it if anything else
// was written meanwhile.

// approve records that subject said yes to a scope. Little time left becomes enough for
// the device to collect its tokens. Who asked for a scope cannot get none: no token
// response can say so (RFC 6749 sections 3.3 and 5.1).
func (g Grant) approve(subject, scope string, now time.Time) (Grant, error) {
	if err := g.open(now); err != nil {
		return g, err
	}
	if scope == "" && g.Scope != "" {
		return g, ErrNoScope
	}
	g.State, g.Subject, g.Scope = Approved, subject, scope
	return g.collectable(now, g.Pace.Interval), nil
}

// narrow returns the scope that is left when a person allows some, and some are
// required: never more than was asked for, and in that order.
func (g Grant) narrow(allowed, required []string) string {
	left := slices.DeleteFunc(strings.Fields(g.Scope), func(scope string) bool {
		return !slices.Contains(allowed, scope) && !slices.Contains(required, scope)
	})
	return strings.Join(left, " ")
}

// collectable moves a deadline that leaves a device too little time, which polls at
// the interval.
func (g Grant) collectable(now time.Time, interval time.Duration) Grant {
	if least := now.Add(collectTime(interval)); g.ExpiresAt.Before(least) {
		g.ExpiresAt = least
	}
	return g
}

// deny records that subject said no.
func (g Grant) deny(subject string, now time.Time) (Grant, error) {
	if err := g.open(now); err != nil {
		return g, err
	}
	g.State, g.Subject = Denied, subject
	return g, nil
}

// revoke records that an operator took the request back, or the approval that nobody has
// collected.
func (g Grant) revoke(now time.Time) (Grant, bool) {
	if g.State != Pending && g.State != Approved || !now.Before(g.ExpiresAt) {
		return g, false
	}
	g.State = Denied
	return g, true
}

// enter records that the user code was entered in a browser session. The first one
// gets the grant; others are told apart, and learn nothing of what was decided.
func (g Grant) enter(session SessionDigest, now time.Time) (Grant, error) {
	first, owner := g.Session == SessionDigest{}, g.Session == session
	err := g.open(now)
	switch {
	case errors.Is(err, ErrDecided) && !owner:
		return g, ErrUserCode
	case err != nil || owner:
		return g, err
	}
	g.Entered = min(g.Entered+1, MaxEntered)
	if !first {
		return g, ErrOtherSession
	}
	g.Session = session
	return g, nil
}

// open reports whether a person can still decide the grant.
func (g Grant) open(now time.Time) error {
	switch {
	case !now.Before(g.ExpiresAt):
		return ErrUserCode
	case g.State != Pending:
		return ErrDecided
	default:
		return nil
	}
}

// claim takes the grant for one redemption. Its deadline becomes the claim's, so
// that a claim whose holder died ends as expired_token and not as tokens issued
// twice; commit and release put the grant's own deadline back.
func (g Grant) claim(now time.Time, timeout time.Duration) (Grant, bool) {
	if g.State != Approved || !now.Before(g.ExpiresAt) {
		return g, false
	}
	g.State = Redeeming
	if end := now.Add(timeout); end.Before(g.ExpiresAt) {
		g.ExpiresAt = end
	}
	return g, true
}

// commit ends a claim whose tokens were issued, and frees the user code. The
// receiver is the grant before the claim.
func (g Grant) commit(claimed Grant) Grant {
	g.State, g.UserCode, g.Version = Redeemed, UserCodeDigest{}, claimed.Version
	return g
}

// release ends a claim whose tokens could not be issued. The receiver is the
// grant before the claim.
func (g Grant) release(claimed Grant) Grant {
	g.Version = claimed.Version
	return g
}

// hold takes the grant for a redemption in one transaction, or, when that is over,
// for giving the device its answer again. The claim ends with the commit once the
// device has the answer, and not by itself: whoever holds it may die, and the device
// still has to come back - as slowly as an outage, whose slow_down no pace records,
// may have made it.
func (g Grant) hold(now time.Time) (Grant, bool) {
	if g.State != Approved && g.State != Redeeming || !now.Before(g.ExpiresAt) {
		return g, false
	}
	g.State = Redeeming
	return g.collectable(now, slowest(g.Pace.Interval)), true
}

// collectTime is how long an approved grant lives at the least: two polls and a
// margin.
func collectTime(interval time.Duration) time.Duration { return 2*interval + collectMargin }

// mostGrace is the most by which a device code outlives the first deadline: that of
// approval and of redemption in a transaction. Delivering again and again does not
// prolong it further.
func mostGrace(interval time.Duration) time.Duration { return 2 * collectTime(slowest(interval)) }

// slowest is the longest interval that slow_down can make of one.
func slowest(interval time.Duration) time.Duration { return max(interval, MaxInterval) }
