package devicegrant_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/devicegrant/devicegrant"
	"github.com/devicegrant/devicegrant/memstore"
	"github.com/devicegrant/devicegrant/storetest"
)

// The life of a grant, and what other servers get wrong about it.

func TestTheFirstPollIsNotThrottled(t *testing.T) {
	f := newFixture(t, nil)
	f.requirePoll(f.authorize(), devicegrant.ErrAuthorizationPending)
}

func TestOneApprovalOneToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, nil)
		a := f.authorize()
		f.approve(a)
		f.requirePoll(a, nil)
		for range 5 {
			f.requirePoll(a, devicegrant.ErrInvalidGrant)
			time.Sleep(time.Minute)
		}
		time.Sleep(24 * time.Hour)
		f.requirePoll(a, devicegrant.ErrExpiredToken)
		assert.EqualValues(t, 1, f.issued.Load())
	})
}

func TestApprovedIsRedeemedEvenWhenPolledEarly(t *testing.T) {
	f := newFixture(t, nil)
	a := f.authorize()
	f.requirePoll(a, devicegrant.ErrAuthorizationPending)
	f.approve(a)
	f.requirePoll(a, nil)
}

// An approval that comes while a poll is under way is not reverted by it.
func TestPollDoesNotRevertAnApproval(t *testing.T) {
	for _, when := range []string{"before", "after"} {
		t.Run(when, func(t *testing.T) {
			f, store := faultyFixture(t)
			a := f.authorize()
			ticket := f.review(a.UserCode, alice).Ticket
			hook := func(op storetest.Op, n int) {
				if op == storetest.OpPoll && n == 1 {
					require.NoError(t, f.yes(t.Context(), ticket, alice))
				}
			}
			if when == "before" {
				store.Before = hook
			} else {
				store.After = hook
			}
			_, _ = f.poll(a)
			if f.issued.Load() == 0 {
				f.requirePoll(a, nil)
			}
		})
	}
}

// Two polls have read the approved grant; one claims it and redeems. The other
// finds its claim refused and issues nothing, whenever it gets there.
func TestTheLoserOfAClaimIssuesNothing(t *testing.T) {
	for _, when := range []storetest.Op{storetest.OpByDeviceCode, storetest.OpPoll} {
		t.Run(string(when), func(t *testing.T) {
			f, store := faultyFixture(t)
			a := f.authorize()
			f.approve(a)
			store.After = func(op storetest.Op, n int) {
				if op == when && n == 1 {
					f.requirePoll(a, nil)
				}
			}
			f.requirePoll(a, devicegrant.ErrAuthorizationPending)
			assert.EqualValues(t, 1, f.issued.Load())
			f.requirePoll(a, devicegrant.ErrInvalidGrant)
		})
	}
}

// A poll that comes while tokens are being issued is pending, and issues nothing.
func TestPollWhileIssuing(t *testing.T) {
	f := newFixture(t, nil)
	a := f.authorize()
	f.approve(a)
	f.issue = func(context.Context, *devicegrant.Grant) (*devicegrant.Token, error) {
		f.requirePoll(a, devicegrant.ErrAuthorizationPending)
		return nil, nil
	}
	f.requirePoll(a, nil)
	assert.EqualValues(t, 1, f.issued.Load())
}

// Two people decide at once: the one who loses is told, and changes nothing.
func TestTheLoserOfADecisionIsTold(t *testing.T) {
	f, store := faultyFixture(t)
	a := f.authorize()
	mine, theirs := f.review(a.UserCode, alice).Ticket, f.review(a.UserCode, bob).Ticket
	store.Before = func(op storetest.Op, _ int) {
		if op == storetest.OpSwap {
			store.Before = nil
			require.NoError(t, f.Deny(t.Context(), theirs, bob))
		}
	}
	require.ErrorIs(t, f.yes(t.Context(), mine, alice), devicegrant.ErrDecided)
	f.requirePoll(a, devicegrant.ErrAccessDenied)
	assert.Empty(t, f.raised(devicegrant.EventApproved))
}

func TestNothingIsDecidedTwice(t *testing.T) {
	f := newFixture(t, nil)
	denied, approved, redeemed := f.authorize(), f.authorize(), f.authorize()
	decisions := map[*devicegrant.Authorization]string{}
	for _, a := range []*devicegrant.Authorization{denied, approved, redeemed} {
		decisions[a] = f.review(a.UserCode, alice).Ticket
	}
	f.deny(denied)
	f.approve(approved)
	f.approve(redeemed)
	f.requirePoll(redeemed, nil)
	for a, ticket := range decisions { // Deny, then back in the browser; approve after redemption.
		require.ErrorIs(t, f.yes(t.Context(), ticket, alice), devicegrant.ErrDecided)
		require.ErrorIs(t, f.Deny(t.Context(), ticket, alice), devicegrant.ErrDecided)
		_, err := f.Lookup(t.Context(), a.UserCode, alice)
		require.Error(t, err)
	}
	f.requirePoll(denied, devicegrant.ErrAccessDenied)
	f.requirePoll(approved, nil)
	f.requirePoll(redeemed, devicegrant.ErrInvalidGrant)
}

func TestNoDecisionAfterExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, nil)
		a := f.authorize()
		ticket := f.review(a.UserCode, alice).Ticket
		time.Sleep(a.ExpiresIn)
		require.Error(t, f.yes(t.Context(), ticket, alice))
		require.Error(t, f.Deny(t.Context(), ticket, alice))
		_, err := f.Lookup(t.Context(), a.UserCode, alice)
		require.ErrorIs(t, err, devicegrant.ErrUserCode)
		f.requirePoll(a, devicegrant.ErrExpiredToken)
	})
}

func TestDenyIsHeard(t *testing.T) {
	f := newFixture(t, nil)
	a := f.authorize()
	f.deny(a)
	f.requirePoll(a, devicegrant.ErrAccessDenied)
	f.requirePoll(a, devicegrant.ErrAccessDenied)
}

// Past its deadline a grant is expired_token in every state, while it is kept and
// after it was purged.
func TestExpiryInEveryState(t *testing.T) {
	for name, prepare := range map[string]func(*fixture, *devicegrant.Authorization){
		"pending":  func(*fixture, *devicegrant.Authorization) {},
		"approved": (*fixture).approve,
		"denied":   (*fixture).deny,
		"redeemed": func(f *fixture, a *devicegrant.Authorization) { f.approve(a); f.requirePoll(a, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t, nil)
				a := f.authorize()
				prepare(f, a)
				time.Sleep(a.ExpiresIn - time.Nanosecond)
				_, err := f.poll(a)
				require.NotErrorIs(t, err, devicegrant.ErrExpiredToken)
				if name == "approved" {
					return // Collected just in time.
				}
				time.Sleep(time.Nanosecond)
				f.requirePoll(a, devicegrant.ErrExpiredToken)
				time.Sleep(2*a.ExpiresIn + time.Second)
				n, err := f.Purge(t.Context())
				require.NoError(t, err)
				require.Positive(t, n) // Tallies are counted as well.
				f.requirePoll(a, devicegrant.ErrExpiredToken)
			})
		})
	}
}

func TestApprovedExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, nil)
		a := f.authorize()
		f.approve(a)
		time.Sleep(a.ExpiresIn)
		f.requirePoll(a, devicegrant.ErrExpiredToken)
		assert.Zero(t, f.issued.Load())
	})
}

// Approval in the last second leaves two intervals and ten seconds to collect.
func TestGraceAfterApproval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, nil)
		a, late := f.authorize(), f.authorize()
		time.Sleep(a.ExpiresIn - time.Second)
		f.approve(a)
		f.approve(late)
		time.Sleep(2*a.Interval + 10*time.Second - time.Nanosecond)
		f.requirePoll(a, nil)
		time.Sleep(time.Nanosecond)
		f.requirePoll(late, devicegrant.ErrExpiredToken)
	})
}

// A device that was slowed down all the way still has time after approval, and its
// device code is good for as long.
func TestGraceSuitsTheSlowest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, nil)
		a := f.authorize()
		for range 20 {
			_, _ = f.poll(a)
			time.Sleep(time.Second)
		}
		time.Sleep(a.ExpiresIn - 21*time.Second)
		f.approve(a)
		time.Sleep(2*devicegrant.MaxInterval + 10*time.Second - time.Nanosecond)
		f.requirePoll(a, nil)
	})
}

// Polls do not extend a grant's life, and expired grants are kept for a lifetime.
func TestPollsDoNotExtendLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memstore.New(0)
		f := newFixture(t, func(c *devicegrant.Config) { c.Store = store })
		a := f.authorize()
		for start := time.Now(); time.Since(start) < 2*a.ExpiresIn; time.Sleep(a.Interval) {
			_, _ = f.poll(a)
		}
		n, err := f.Purge(t.Context())
		require.NoError(t, err)
		require.Zero(t, n, "it is kept for as long again")
		f.requirePoll(a, devicegrant.ErrExpiredToken)
		time.Sleep(time.Second)
		n, err = f.Purge(t.Context())
		require.NoError(t, err)
		require.Equal(t, 1, n)
		count, err := store.Count(t.Context())
		require.NoError(t, err)
		require.Zero(t, count)
	})
}

// Another client's polls are invalid_grant, change nothing, and are noticed.
func TestOtherClient(t *testing.T) {
	f := newFixture(t, nil)
	a := f.authorize()
	f.requirePoll(a, devicegrant.ErrAuthorizationPending)
	now := time.Now()
	for i := range 10 {
		f.SetClock(func() time.Time { return now.Add(time.Duration(i) * 200 * time.Millisecond) })
		_, err := f.Poll(t.Context(), devicegrant.PollRequest{ClientID: "cli", DeviceCode: a.DeviceCode})
		require.ErrorIs(t, err, devicegrant.ErrInvalidGrant)
	}
	events := f.raised(devicegrant.EventOtherClient)
	require.Len(t, events, 10)
	assert.Equal(t, "cli", events[0].ClientID)
	assert.Equal(t, f.raised(devicegrant.EventCreated)[0].Grant, events[0].Grant)

	f.SetClock(func() time.Time { return now.Add(5 * time.Second) })
	f.requirePoll(a, devicegrant.ErrAuthorizationPending) // The owner was not made early.
	f.approve(a)
	_, err := f.Poll(t.Context(), devicegrant.PollRequest{ClientID: "cli", DeviceCode: a.DeviceCode})
	require.ErrorIs(t, err, devicegrant.ErrInvalidGrant)
	f.requirePoll(a, nil)
}

func TestReplayNamesTheGrant(t *testing.T) {
	f := newFixture(t, nil)
	a, b := f.authorize(), f.authorize()
	f.approve(a)
	f.approve(b)
	f.requirePoll(b, nil)
	f.requirePoll(a, nil)
	f.requirePoll(b, devicegrant.ErrInvalidGrant)
	require.Len(t, f.raised(devicegrant.EventReplayed), 1)
	assert.Equal(t, f.raised(devicegrant.EventRedeemed)[0].Grant, f.raised(devicegrant.EventReplayed)[0].Grant)
}

// Whichever call to the Store fails, and whether or not it took effect, the poll
// is told to slow down and the login comes to its end: tokens, or where the claim
// was left behind, expired_token when it has timed out. Never two tokens.
func TestStoreFailsDuringPoll(t *testing.T) {
	const claim, commit = 0, 1 // which Swap it is
	for _, tt := range []struct {
		op     storetest.Op
		skip   int
		lost   bool  // the call takes effect
		first  error // what the failing poll is told
		then   error // what the next poll is told; nil: the token
		atLast error // what a poll after the claim's time is told
		tokens int64
	}{
		{op: storetest.OpPoll, first: devicegrant.ErrSlowDown, tokens: 1, atLast: devicegrant.ErrInvalidGrant},
		{op: storetest.OpPoll, lost: true, first: devicegrant.ErrSlowDown, tokens: 1, atLast: devicegrant.ErrInvalidGrant},
		{op: storetest.OpByDeviceCode, first: devicegrant.ErrSlowDown, tokens: 1, atLast: devicegrant.ErrInvalidGrant},
		{op: storetest.OpSwap, skip: claim, first: devicegrant.ErrSlowDown, tokens: 1, atLast: devicegrant.ErrInvalidGrant},
		{op: storetest.OpSwap, skip: claim, lost: true, first: devicegrant.ErrSlowDown, then: devicegrant.ErrAuthorizationPending, atLast: devicegrant.ErrExpiredToken},
		{op: storetest.OpSwap, skip: commit, tokens: 1, then: devicegrant.ErrAuthorizationPending, atLast: devicegrant.ErrExpiredToken},
		{op: storetest.OpSwap, skip: commit, lost: true, tokens: 1, then: devicegrant.ErrInvalidGrant, atLast: devicegrant.ErrInvalidGrant},
	} {
		t.Run(fmt.Sprintf("%s skip=%d lost=%v", tt.op, tt.skip, tt.lost), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, store := faultyFixture(t)
				a := f.authorize()
				f.approve(a)
				store.Inject(tt.op, storetest.Fault{Skip: tt.skip, Times: storetest.Always, Err: errOutage, Lost: tt.lost})
				f.requirePoll(a, tt.first)
				assert.NotEmpty(t, append(f.raised(devicegrant.EventStoreError), f.raised(devicegrant.EventClaimStuck)...))
				assert.Contains(t, f.logged(), "connection refused")
				store.Heal()
				time.Sleep(a.Interval)
				f.requirePoll(a, tt.then)
				time.Sleep(30 * time.Second)
				f.requirePoll(a, tt.atLast)
				assert.Equal(t, tt.tokens, f.issued.Load())
			})
		})
	}
}

// A pending login survives an outage.
func TestOutageWhilePending(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, store := faultyFixture(t)
		a := f.authorize()
		store.Inject(storetest.OpPoll, outage)
		for range 3 {
			w := f.post("/token", grantType+"&client_id=tv&device_code="+a.DeviceCode)
			assert.Equal(t, http.StatusBadRequest, w.Code)
			assert.JSONEq(t, `{"error":"slow_down"}`, w.Body.String())
			time.Sleep(10 * time.Second)
		}
		store.Heal()
		f.requirePoll(a, devicegrant.ErrAuthorizationPending)
		f.approve(a)
		f.requirePoll(a, nil)
	})
}

// Issuing fails, then succeeds: nothing was consumed.
func TestIssueFails(t *testing.T) {
	f := newFixture(t, nil)
	a := f.authorize()
	f.approve(a)
	for name, issue := range map[string]func(context.Context, *devicegrant.Grant) (*devicegrant.Token, error){
		"error": func(context.Context, *devicegrant.Grant) (*devicegrant.Token, error) {
			return nil, errors.New("no key")
		},
		"empty token": func(context.Context, *devicegrant.Grant) (*devicegrant.Token, error) {
			return &devicegrant.Token{}, nil
		},
		"out of time": func(ctx context.Context, _ *devicegrant.Grant) (*devicegrant.Token, error) {
			_, ok := ctx.Deadline()
			assert.True(t, ok, "issuing has a deadline")
			return nil, context.DeadlineExceeded
		},
	} {
		f.issue = issue
		f.requirePoll(a, devicegrant.ErrSlowDown)
		require.NotEmpty(t, f.raised(devicegrant.EventIssueFailed), name)
	}
	require.Len(t, f.raised(devicegrant.EventIssueFailed), 3)

	f.issue = func(context.Context, *devicegrant.Grant) (*devicegrant.Token, error) {
		return nil, devicegrant.ErrAccessDenied.Describe("the account is locked")
	}
	f.requirePoll(a, devicegrant.ErrAccessDenied)

	f.issue = func(context.Context, *devicegrant.Grant) (*devicegrant.Token, error) { panic("host") }
	require.PanicsWithValue(t, "host", func() { _, _ = f.poll(a) })

	f.issue = nil
	f.requirePoll(a, nil)
	f.requirePoll(a, devicegrant.ErrInvalidGrant)
}

// Tokens that were issued are not issued again because something beside them cannot
// be encoded.
func TestUnencodableExtra(t *testing.T) {
	f := newFixture(t, nil)
	f.issue = func(context.Context, *devicegrant.Grant) (*devicegrant.Token, error) {
		return &devicegrant.Token{AccessToken: "a", Extra: map[string]any{"f": func() {}}}, nil
	}
	a := f.authorize()
	f.approve(a)
	w := f.post("/token", grantType+"&client_id=tv&device_code="+a.DeviceCode)
	assert.JSONEq(t, `{"access_token":"a","token_type":"Bearer","scope":"openid profile"}`, w.Body.String())
	assert.Contains(t, f.logged(), "cannot be encoded")
	f.requirePoll(a, devicegrant.ErrInvalidGrant)
}

// IssueToken may do with its Grant what it likes.
func TestIssueTokenGetsACopy(t *testing.T) {
	f := newFixture(t, nil)
	a := f.authorize()
	f.approve(a)
	f.issue = func(_ context.Context, g *devicegrant.Grant) (*devicegrant.Token, error) {
		assert.Equal(t, "openid profile", g.Scope)
		assert.Equal(t, "alice", g.Subject)
		assert.Equal(t, "tv", g.ClientID)
		g.State, g.Version, g.Subject = devicegrant.Pending, 99, "mallory"
		return nil, nil
	}
	f.requirePoll(a, nil)
	f.requirePoll(a, devicegrant.ErrInvalidGrant)
	assert.Equal(t, "alice", f.raised(devicegrant.EventRedeemed)[0].Subject)
}

// A device that hangs up while its tokens are issued does not leave a claim behind.
func TestDeviceHangsUpWhileIssuing(t *testing.T) {
	f, _ := faultyFixture(t)
	a := f.authorize()
	f.approve(a)
	ctx, hangUp := context.WithCancel(t.Context())
	f.issue = func(ctx context.Context, _ *devicegrant.Grant) (*devicegrant.Token, error) {
		hangUp()
		return nil, context.Cause(ctx)
	}
	_, err := f.Poll(ctx, devicegrant.PollRequest{ClientID: "tv", DeviceCode: a.DeviceCode})
	require.ErrorIs(t, err, devicegrant.ErrSlowDown)
	f.issue = nil
	f.requirePoll(a, nil)
}

// A device that hangs up while its claim is written does not lose the login: the
// claim is known to have been made, and is released.
func TestDeviceHangsUpWhileClaiming(t *testing.T) {
	f, store := faultyFixture(t)
	a := f.authorize()
	f.approve(a)
	ctx, hangUp := context.WithCancel(t.Context())
	store.After = func(op storetest.Op, _ int) {
		if op == storetest.OpSwap {
			hangUp()
		}
	}
	f.issue = func(ctx context.Context, _ *devicegrant.Grant) (*devicegrant.Token, error) { return nil, ctx.Err() }
	_, err := f.Poll(ctx, devicegrant.PollRequest{ClientID: "tv", DeviceCode: a.DeviceCode})
	require.ErrorIs(t, err, devicegrant.ErrSlowDown)
	f.issue = nil
	f.requirePoll(a, nil)
}

// A Store that returns nonsense is an operator's business, and ends no login.
func TestUnknownState(t *testing.T) {
	f := newFixture(t, func(c *devicegrant.Config) { c.Store = brokenStore{c.Store} })
	a := f.authorize()
	f.requirePoll(a, devicegrant.ErrSlowDown)
	require.Len(t, f.raised(devicegrant.EventStoreError), 1)
	assert.Equal(t, f.raised(devicegrant.EventCreated)[0].Grant, f.raised(devicegrant.EventStoreError)[0].Grant)
}

type brokenStore struct{ devicegrant.Store }

func (s brokenStore) Poll(ctx context.Context, code devicegrant.DeviceCodeDigest, clientID string, now time.Time) (devicegrant.Polled, error) {
	p, err := s.Store.Poll(ctx, code, clientID, now)
	p.State = 0
	return p, err
}

// A claim whose holder died: polls are pending until it has timed out, and then the
// device is told to start again. It is never issued by anyone else.
func TestOrphanedClaim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, store := faultyFixture(t)
		a := f.authorize()
		f.approve(a)
		store.Inject(storetest.OpSwap, storetest.Fault{Skip: 1, Err: errOutage}) // The release does not get through.
		f.issue = func(context.Context, *devicegrant.Grant) (*devicegrant.Token, error) { return nil, errOutage }
		f.requirePoll(a, devicegrant.ErrSlowDown)
		require.Len(t, f.raised(devicegrant.EventClaimStuck), 1)
		f.issue = nil
		for range 5 {
			time.Sleep(a.Interval)
			f.requirePoll(a, devicegrant.ErrAuthorizationPending)
		}
		time.Sleep(a.Interval)
		f.requirePoll(a, devicegrant.ErrExpiredToken)
		assert.Zero(t, f.issued.Load())
	})
}

func TestUserCodeIsFreedByRedemption(t *testing.T) {
	f := newFixture(t, func(c *devicegrant.Config) {
		c.UserCode = devicegrant.UserCodeFormat{Alphabet: "AB", Length: 1}
		c.Guessing.MaxAddressChance, c.Guessing.MaxGlobalHits = 10, 1e9
	})
	a, b := f.authorize(), f.authorize()
	require.NotEqual(t, a.UserCode, b.UserCode)
	_, err := f.Authorize(t.Context(), tv, devicegrant.AuthorizationRequest{})
	require.ErrorIs(t, err, devicegrant.ErrTemporarilyUnavailable, "both codes are taken, and tries are bounded")
	ticket := f.review(a.UserCode, alice).Ticket
	f.approve(a)
	f.requirePoll(a, nil)
	_, err = f.Lookup(t.Context(), a.UserCode, alice)
	require.ErrorIs(t, err, devicegrant.ErrUserCode)
	again := f.authorizeInTheEnd()
	assert.Equal(t, a.UserCode, again.UserCode)
	require.ErrorIs(t, f.yes(t.Context(), ticket, alice), devicegrant.ErrDecided, "a ticket is for its grant, not for its code")
	f.requirePoll(again, devicegrant.ErrAuthorizationPending)
	f.approve(again)
	f.requirePoll(a, devicegrant.ErrInvalidGrant) // The code is new, its old grant stays redeemed.
	f.requirePoll(again, nil)
}

// Keys are rotated in the middle of logins: none is lost, and codes under the old
// key are not given out a second time.
func TestKeyRotationMidLogin(t *testing.T) {
	store := memstore.New(0)
	oldKey, newKey := bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32)
	with := func(keys ...[]byte) *fixture {
		return newFixture(t, func(c *devicegrant.Config) {
			c.Store, c.Keys = store, keys
			c.UserCode = devicegrant.UserCodeFormat{Alphabet: "AB", Length: 1}
			c.Guessing.MaxAddressChance, c.Guessing.MaxGlobalHits = 10, 1e9
		})
	}
	old := with(oldKey)
	a := old.authorize()
	ticket := old.review(a.UserCode, alice).Ticket

	rotated := with(newKey, oldKey)
	rotated.requirePoll(a, devicegrant.ErrAuthorizationPending)
	b := rotated.authorizeInTheEnd()
	require.NotEqual(t, a.UserCode, b.UserCode)
	rotated.review(a.UserCode, alice)
	require.NoError(t, rotated.yes(t.Context(), ticket, alice))
	rotated.requirePoll(a, nil)
	rotated.approve(b)
	rotated.requirePoll(b, nil)
	with(newKey).requirePoll(a, devicegrant.ErrInvalidGrant)
}

// A flood of codes that were not made here, or are over, costs the Store nothing.
func TestForgedCodesDoNotReachTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, store := faultyFixture(t)
		a := f.authorize()
		other := newFixture(t, func(c *devicegrant.Config) { c.Keys = [][]byte{bytes.Repeat([]byte{9}, 32)} }).authorize()
		calls := 0
		store.Before = func(storetest.Op, int) { calls++ }
		for _, code := range []string{other.DeviceCode, "", "x", strings.Repeat("A", 64), a.DeviceCode[:63] + "%", a.DeviceCode + "A"} {
			_, err := f.Poll(t.Context(), devicegrant.PollRequest{ClientID: "tv", DeviceCode: code})
			require.ErrorIs(t, err, devicegrant.ErrInvalidGrant)
		}
		time.Sleep(a.ExpiresIn + 5*devicegrant.MaxInterval)
		f.requirePoll(a, devicegrant.ErrExpiredToken)
		assert.Zero(t, calls)
	})
}

func TestUserCodesAreTakenHoweverTheyAreTyped(t *testing.T) {
	f := newFixture(t, nil)
	a := f.authorize()
	for _, typed := range []string{a.UserCode, strings.ToLower(a.UserCode), strings.ReplaceAll(a.UserCode, "-", ""), strings.ReplaceAll(a.UserCode, "-", "\u2013"), " " + strings.ReplaceAll(a.UserCode, "-", "\u00a0") + " "} {
		r, err := f.Lookup(t.Context(), typed, alice)
		require.NoError(t, err, "%q", typed)
		assert.Equal(t, a.UserCode, r.UserCode)
		assert.Equal(t, "Television", r.Client.Name)
		assert.Equal(t, []string{"openid", "profile"}, r.Scopes)
	}
}

// The one who decides is the one who was asked.
func TestTickets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, nil)
		a := f.authorize()
		ticket := f.review(a.UserCode, alice).Ticket
		for name, try := range map[string]struct {
			ticket string
			by     devicegrant.Person
		}{
			"somebody else": {ticket, bob},
			"nobody":        {ticket, devicegrant.Person{}},
			"empty":         {"", alice},
			"forged":        {"AAAA" + ticket[4:], alice},
		} {
			require.ErrorIs(t, f.yes(t.Context(), try.ticket, try.by), devicegrant.ErrTicket, name)
			require.ErrorIs(t, f.Deny(t.Context(), try.ticket, try.by), devicegrant.ErrTicket, name)
		}
		f.requirePoll(a, devicegrant.ErrAuthorizationPending)
		_, err := f.Lookup(t.Context(), a.UserCode, devicegrant.Person{})
		require.Error(t, err, "nothing is looked up for nobody")
	})
}

// What is stored, raised and logged over a whole login holds neither code nor token.
func TestNoSecretsAtRestOrInLogs(t *testing.T) {
	store := memstore.New(0)
	f := newFixture(t, func(c *devicegrant.Config) { c.Store = store })
	var dump strings.Builder
	note := func(code devicegrant.DeviceCodeDigest) {
		g, err := store.ByDeviceCode(t.Context(), code)
		require.NoError(t, err)
		fmt.Fprintf(&dump, "%+v %+q", g, []string{g.ClientID, g.Scope, g.Subject})
	}
	f.issue = func(_ context.Context, g *devicegrant.Grant) (*devicegrant.Token, error) {
		note(g.DeviceCode)
		return nil, nil
	}
	a := f.authorize()
	ticket := f.review(a.UserCode, alice).Ticket
	f.approve(a)
	token, err := f.poll(a)
	require.NoError(t, err)
	f.requirePoll(a, devicegrant.ErrInvalidGrant)
	f.mu.Lock()
	fmt.Fprintf(&dump, "%+v %s", f.events, f.log.String())
	f.mu.Unlock()
	for name, secret := range map[string]string{
		"device code": a.DeviceCode, "user code": a.UserCode, "user code without dash": strings.ReplaceAll(a.UserCode, "-", ""),
		"token": token.AccessToken, "ticket": ticket, "user code in hex": fmt.Sprintf("%x", strings.ReplaceAll(a.UserCode, "-", "")),
	} {
		assert.NotContains(t, dump.String(), secret, name)
	}
	assert.Contains(t, dump.String(), "tv")
}

func TestScopeIsListedOnce(t *testing.T) {
	f := newFixture(t, nil)
	a, err := f.Authorize(t.Context(), tv, devicegrant.AuthorizationRequest{Scope: "profile openid profile"})
	require.NoError(t, err)
	assert.Equal(t, []string{"profile", "openid"}, f.review(a.UserCode, alice).Scopes)
	a, err = f.Authorize(t.Context(), tv, devicegrant.AuthorizationRequest{})
	require.NoError(t, err)
	assert.Equal(t, []string{"openid"}, f.review(a.UserCode, alice).Scopes, "the default")
}

func TestEventsOfALogin(t *testing.T) {
	f := newFixture(t, nil)
	a, b := f.authorize(), f.authorize()
	f.approve(a)
	f.requirePoll(a, nil)
	f.deny(b)
	for _, e := range []devicegrant.EventType{devicegrant.EventApproved, devicegrant.EventRedeemed, devicegrant.EventDenied} {
		events := f.raised(e)
		require.Len(t, events, 1, e)
		assert.Equal(t, "alice", events[0].Subject)
		assert.Equal(t, "tv", events[0].ClientID)
		assert.False(t, events[0].Time.IsZero())
		assert.Zero(t, events[0].Time.Nanosecond()%1000, "times are such as every Store can hold")
	}
	require.Len(t, f.raised(devicegrant.EventCreated), 2)
}

func TestPurgeTakesAsManyBatchesAsItNeeds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, nil)
		for range 2500 {
			f.authorize()
		}
		time.Sleep(2*15*time.Minute + time.Second)
		n, err := f.Purge(t.Context())
		require.NoError(t, err)
		assert.Equal(t, 2500, n)
	})
}

func TestPurgeEvery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memstore.New(0)
		f := newFixture(t, func(c *devicegrant.Config) { c.Store = store })
		f.authorize()
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		require.ErrorIs(t, f.PurgeEvery(ctx, time.Minute), context.DeadlineExceeded)
		n, err := store.Count(t.Context())
		require.NoError(t, err)
		assert.Zero(t, n)
	})
}

func TestPurgeEveryGoesOnAfterAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, store := faultyFixture(t)
		store.Inject(storetest.OpPurge, outage)
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute+time.Second)
		defer cancel()
		require.ErrorIs(t, f.PurgeEvery(ctx, time.Minute), context.DeadlineExceeded)
		assert.Equal(t, 3, store.Calls(storetest.OpPurge))
		assert.Contains(t, f.logged(), "connection refused")
	})
}

// The store of the page fails: the person is told to try again, and can.
func TestStoreFailsDuringDecision(t *testing.T) {
	for _, op := range []storetest.Op{storetest.OpByUserCode, storetest.OpSwap} {
		t.Run(string(op), func(t *testing.T) {
			f, store := faultyFixture(t)
			a := f.authorize()
			ticket := f.review(a.UserCode, alice).Ticket
			store.Inject(op, outage)
			require.ErrorIs(t, f.yes(t.Context(), ticket, alice), errOutage)
			require.Len(t, f.raised(devicegrant.EventStoreError), 1)
			r := httptest.NewRequest(http.MethodGet, "/device?user_code="+a.UserCode, nil)
			r.AddCookie(&http.Cookie{Name: "subject", Value: "alice"})
			if w := f.do(r); op == storetest.OpByUserCode {
				assert.Equal(t, http.StatusServiceUnavailable, w.Code)
				assert.NotContains(t, w.Body.String(), "refused")
			}
			store.Heal()
			require.NoError(t, f.yes(t.Context(), ticket, alice))
			f.requirePoll(a, nil)
		})
	}
}
