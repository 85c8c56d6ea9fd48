package devicegrant_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/devicegrant/devicegrant"
)

const (
	raceRounds = 1000
	racePolls  = 100
)

// together runs fn n times at once, started by one signal, and waits for all.
func together(n int, fn func(i int)) {
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		wg.Go(func() {
			<-start
			fn(i)
		})
	}
	close(start)
	wg.Wait()
}

// answers counts what concurrent polls were told.
type answers struct{ tokens, pending, invalid, other atomic.Int64 }

func (a *answers) count(token *devicegrant.Token, err error) {
	switch {
	case err == nil && token.AccessToken != "":
		a.tokens.Add(1)
	case errors.Is(err, devicegrant.ErrAuthorizationPending), errors.Is(err, devicegrant.ErrSlowDown):
		a.pending.Add(1)
	case errors.Is(err, devicegrant.ErrInvalidGrant):
		a.invalid.Add(1)
	default:
		a.other.Add(1)
	}
}

// One approval, several tokens: zitadel/oidc, fosite, authelia, go-oidc, solid,
// authgate, autentico and others (docs/decisions.md).
func TestConcurrentPollsOneToken(t *testing.T) {
	f := newFixture(t, nil)
	for round := range raceRounds {
		a := f.authorize()
		f.approve(a)
		var got answers
		together(racePolls, func(int) { got.count(f.poll(a)) })
		require.EqualValues(t, 1, got.tokens.Load(), "round %d", round)
		require.EqualValues(t, racePolls-1, got.pending.Load()+got.invalid.Load())
	}
	assert.EqualValues(t, raceRounds, f.issued.Load())
}

// The issuer fails on every other call: the login goes on, and one token comes out.
func TestConcurrentPollsIssuerFails(t *testing.T) {
	f := newFixture(t, nil)
	var calls atomic.Int64
	f.issue = func(context.Context, *devicegrant.Grant) (*devicegrant.Token, error) {
		if calls.Add(1)%2 == 1 {
			return nil, errors.New("signing key is away")
		}
		return nil, nil
	}
	for round := range raceRounds {
		a := f.authorize()
		f.approve(a)
		var got answers
		together(racePolls, func(int) { got.count(f.poll(a)) })
		require.Zero(t, got.other.Load())
		require.LessOrEqual(t, got.tokens.Load(), int64(1), "round %d", round)
		for got.tokens.Load() == 0 { // The winners may all have failed; the login has not.
			got.count(f.poll(a))
		}
		require.EqualValues(t, round+1, f.issued.Load())
		f.requirePoll(a, devicegrant.ErrInvalidGrant)
	}
}

// Approve races deny and a second approver: one of them decides, the others are
// told so, and the device hears what was decided.
func TestApproveRacesDeny(t *testing.T) {
	f := newFixture(t, nil)
	for round := range raceRounds {
		a := f.authorize()
		tickets := map[string]string{"alice": f.review(a.UserCode, alice).Ticket, "bob": f.review(a.UserCode, bob).Ticket}
		var approved, denied atomic.Int64
		together(8, func(i int) {
			by, decide, won := alice, f.yes, &approved
			if i%2 == 1 {
				by = bob
			}
			if i >= 4 {
				decide, won = f.Deny, &denied
			}
			switch err := decide(t.Context(), tickets[by.Subject], by); {
			case err == nil:
				won.Add(1)
			default:
				assert.ErrorIs(t, err, devicegrant.ErrDecided)
			}
		})
		require.EqualValues(t, 1, approved.Load()+denied.Load(), "round %d", round)
		if approved.Load() == 1 {
			f.requirePoll(a, nil)
		} else {
			f.requirePoll(a, devicegrant.ErrAccessDenied)
		}
	}
}

// Approve races polls: the approval is never lost, and one token comes out.
func TestApproveRacesPoll(t *testing.T) {
	f := newFixture(t, nil)
	for round := range raceRounds {
		a := f.authorize()
		ticket := f.review(a.UserCode, alice).Ticket
		var got answers
		together(20, func(i int) {
			if i == 10 {
				assert.NoError(t, f.yes(t.Context(), ticket, alice))
				return
			}
			got.count(f.poll(a))
		})
		require.Zero(t, got.other.Load())
		if got.tokens.Load() == 0 {
			f.requirePoll(a, nil)
		}
		require.EqualValues(t, round+1, f.issued.Load())
	}
}

// Concurrent devices whose codes collide: each grant has a code of its own.
func TestConcurrentAuthorizationsHaveTheirOwnCodes(t *testing.T) {
	f := newFixture(t, func(c *devicegrant.Config) {
		c.UserCode = devicegrant.UserCodeFormat{Alphabet: "0123456789", Length: 4}
		c.Guessing.MaxAddressChance, c.Guessing.MaxGlobalHits = 1, 1e9
	})
	var codes sync.Map
	together(200, func(int) {
		a, err := f.Authorize(t.Context(), tv, devicegrant.AuthorizationRequest{})
		if assert.NoError(t, err) {
			_, taken := codes.LoadOrStore(a.UserCode, true)
			assert.False(t, taken, a.UserCode)
		}
	})
}
