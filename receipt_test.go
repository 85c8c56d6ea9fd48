package devicegrant_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/devicegrant/devicegrant"
	"github.com/devicegrant/devicegrant/storetest"
)

// Redemption in one transaction, as a host and a device see it.

// delivery is how long a device has to be sent its answer.
const delivery = 10 * time.Second

// requireRaised requires how often each event was raised.
func (f *fixture) requireRaised(want map[devicegrant.EventType]int) {
	f.t.Helper()
	for event, n := range want {
		require.Len(f.t, f.raised(event), n, event)
	}
}

func TestTogetherOnce(t *testing.T) {
	f, l := ledgerFixture(t)
	a := f.authorize()
	f.requirePoll(a, devicegrant.ErrAuthorizationPending)
	f.requirePoll(a, devicegrant.ErrAuthorizationPending)
	f.approve(a)
	f.requirePoll(a, nil)
	l.requireState(t, a, devicegrant.Redeemed)
	for range 3 {
		f.requirePoll(a, devicegrant.ErrInvalidGrant)
	}
	assert.EqualValues(t, 1, f.issued.Load())
	f.requireRaised(map[devicegrant.EventType]int{
		devicegrant.EventRedeemed: 1, devicegrant.EventReplayed: 3, devicegrant.EventDeliveredAgain: 0,
		devicegrant.EventClaimStuck: 0, devicegrant.EventStoreError: 0,
	})
}

// extra is what does not come through a decoder and an encoder unharmed, unless it is
// left as it is.
var extra = map[string]any{
	"id_token":  "eyJ.a-b_c.d+e/f=",
	"large":     json.Number("123456789012345678901234567890.5e-7"),
	"int64":     int64(9223372036854775807),
	"float":     1.1,
	"zero":      1e21,
	"null":      nil,
	"raw":       json.RawMessage(`{"b":1,"a":[1.0,2,{"z":null,"y":0.10}]}`),
	"nested":    map[string]any{"z": []any{true, "x", map[string]any{"deep": json.Number("0.10")}}, "a": map[string]string{}},
	"text":      "<b>&amp;</b> \u2028 \" \\ ü 📺",
	"empty":     "",
	"":          "no name",
	"IssuedAt":  "not ours",
	"ExpiresIn": 3,
	"time":      time.Date(2026, time.June, 1, 12, 0, 0, 1, time.UTC),
}

// members are a token response, each member as it was sent.
func members(t testing.TB, body string) map[string]string {
	t.Helper()
	var raw map[string]json.RawMessage
	require.NoError(t, json.Unmarshal([]byte(body), &raw))
	sent := map[string]string{}
	for name, value := range raw {
		sent[name] = string(value)
	}
	return sent
}

// The process dies when it has issued. The device comes back, to whatever replica, and
// is given the very same answer, once it cannot be on its way any more.
func TestLostAnswerIsGivenAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, l := ledgerFixture(t)
		f.issue = func(context.Context, *devicegrant.Grant) (*devicegrant.Token, error) {
			return &devicegrant.Token{
				AccessToken: `access "1"<é>`, TokenType: "DPoP", RefreshToken: "refresh/1", Scope: "openid", ExpiresIn: time.Hour, Extra: extra,
			}, nil
		}
		a := f.authorize()
		f.approve(a)
		lost := members(t, f.lose(a))
		l.requireState(t, a, devicegrant.Redeeming)

		other := l.replica(t)
		other.issue = func(context.Context, *devicegrant.Grant) (*devicegrant.Token, error) { panic("issued twice") }
		other.requirePoll(a, devicegrant.ErrAuthorizationPending)
		f.requirePoll(a, devicegrant.ErrAuthorizationPending)
		time.Sleep(delivery - time.Microsecond)
		other.requirePoll(a, devicegrant.ErrAuthorizationPending)
		l.requireState(t, a, devicegrant.Redeeming)
		time.Sleep(time.Microsecond)

		again := members(t, other.collect(a))
		assert.Equal(t, "3600", lost["expires_in"])
		assert.Equal(t, "3590", again["expires_in"])
		lost["expires_in"] = again["expires_in"]
		assert.Equal(t, lost, again)
		assert.Len(t, again, 5+len(extra))
		l.requireState(t, a, devicegrant.Redeemed)

		f.requirePoll(a, devicegrant.ErrInvalidGrant)
		other.requirePoll(a, devicegrant.ErrInvalidGrant)
		f.requireRaised(map[devicegrant.EventType]int{devicegrant.EventRedeemed: 1, devicegrant.EventDeliveredAgain: 0, devicegrant.EventReplayed: 1})
		other.requireRaised(map[devicegrant.EventType]int{devicegrant.EventRedeemed: 0, devicegrant.EventDeliveredAgain: 1, devicegrant.EventReplayed: 1})
		event := other.raised(devicegrant.EventDeliveredAgain)[0]
		assert.Equal(t, f.raised(devicegrant.EventRedeemed)[0].Grant, event.Grant)
		assert.Equal(t, "alice", event.Subject)
		assert.Equal(t, "tv", event.ClientID)
	})
}

// An answer can be lost several times. Its lifetime does not start again.
func TestLostAgainAndAgain(t *testing.T) {
	for name, tt := range map[string]struct {
		expires, wait time.Duration
		want          []string // expires_in: what is lost, and what comes again, again and again
	}{
		"an hour":             {time.Hour, delivery, []string{"3600", "3590", "3580", "3570"}},
		"seconds and a bit":   {25*time.Second + 500*time.Millisecond, delivery, []string{"25", "15", "5", "1"}},
		"already over":        {5 * time.Second, delivery, []string{"5", "1", "1", "1"}},
		"the device is late":  {time.Hour, 100 * time.Second, []string{"3600", "3500", "3400", "3300"}},
		"no lifetime is sent": {0, delivery, []string{"", "", "", ""}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, l := ledgerFixture(t)
				f.issue = func(context.Context, *devicegrant.Grant) (*devicegrant.Token, error) {
					return &devicegrant.Token{AccessToken: "token", ExpiresIn: tt.expires}, nil
				}
				a := f.authorize()
				f.approve(a)
				for i, want := range tt.want {
					if i > 0 {
						f.requirePoll(a, devicegrant.ErrAuthorizationPending)
						time.Sleep(tt.wait)
					}
					give := f.lose
					if i == len(tt.want)-1 {
						give = f.collect
					}
					got := members(t, give(a))
					assert.Equal(t, want, got["expires_in"])
					assert.Equal(t, `"token"`, got["access_token"])
					assert.Equal(t, `"Bearer"`, got["token_type"])
				}
				f.requirePoll(a, devicegrant.ErrInvalidGrant)
				l.requireState(t, a, devicegrant.Redeemed)
				f.requireRaised(map[devicegrant.EventType]int{devicegrant.EventRedeemed: 1, devicegrant.EventDeliveredAgain: len(tt.want) - 1})
			})
		})
	}
}

// Whichever part of the transaction fails, the poll is told to slow down, and the login
// comes to its end with one token.
func TestTransactionFails(t *testing.T) {
	for name, tt := range map[string]struct {
		fault  redeemFault
		state  devicegrant.State // that the failure leaves
		issued int64             // how often, in the end
		wait   time.Duration     // until the tokens are given
		again  int
	}{
		"before it issues":             {notBegun, devicegrant.Approved, 1, 0, 0},
		"rolled back":                  {rolledBack, devicegrant.Approved, 2, 0, 0},
		"committed, the reply is lost": {replyLost, devicegrant.Redeeming, 1, delivery, 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, l := ledgerFixture(t)
				a := f.authorize()
				f.approve(a)
				l.failNext(tt.fault)
				w := f.do(pollRequest(a))
				require.JSONEq(t, `{"error":"slow_down"}`, w.Body.String())
				require.Contains(t, f.logged(), errOutage.Error())
				l.requireState(t, a, tt.state)
				if tt.wait > 0 {
					f.requirePoll(a, devicegrant.ErrAuthorizationPending)
					time.Sleep(tt.wait)
				}
				token, err := f.poll(a)
				require.NoError(t, err)
				require.Equal(t, fmt.Sprintf("token-%d-alice", tt.issued), token.AccessToken)
				require.Equal(t, tt.issued, f.issued.Load())
				f.requirePoll(a, devicegrant.ErrInvalidGrant)
				l.requireState(t, a, devicegrant.Redeemed)
				f.requireRaised(map[devicegrant.EventType]int{
					devicegrant.EventStoreError: 1, devicegrant.EventRedeemed: 1 - tt.again, devicegrant.EventDeliveredAgain: tt.again,
				})
			})
		})
	}
}

// The transaction that gives the answer again fails, or what is read for it.
func TestGivingAgainFails(t *testing.T) {
	for _, fault := range []redeemFault{notBegun, rolledBack, replyLost} {
		t.Run(fmt.Sprint(fault), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, l := ledgerFixture(t)
				a := f.authorize()
				f.approve(a)
				lost := f.lose(a)
				time.Sleep(delivery)
				l.Inject(storetest.OpByDeviceCode, storetest.Fault{Err: errOutage})
				f.requirePoll(a, devicegrant.ErrSlowDown)
				l.failNext(fault)
				f.requirePoll(a, devicegrant.ErrSlowDown)
				l.requireState(t, a, devicegrant.Redeeming)
				if fault == replyLost {
					f.requirePoll(a, devicegrant.ErrAuthorizationPending)
					time.Sleep(delivery)
				}
				assert.Equal(t, lost, f.collect(a))
				f.requirePoll(a, devicegrant.ErrInvalidGrant)
				assert.EqualValues(t, 1, f.issued.Load())
			})
		})
	}
}

// The commit that follows the answer fails: the host is told, and the answer can be had
// again. If only the reply was lost, it cannot.
func TestCommitFails(t *testing.T) {
	for _, lost := range []bool{false, true} {
		t.Run(fmt.Sprint("lost=", lost), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, l := ledgerFixture(t)
				a := f.authorize()
				f.approve(a)
				l.Inject(storetest.OpSwap, storetest.Fault{Err: errOutage, Lost: lost})
				first := f.collect(a)
				stuck := f.raised(devicegrant.EventClaimStuck)
				require.Len(t, stuck, 1)
				require.ErrorIs(t, stuck[0].Err, errOutage)
				if lost {
					f.requirePoll(a, devicegrant.ErrInvalidGrant)
					return
				}
				f.requirePoll(a, devicegrant.ErrAuthorizationPending)
				time.Sleep(delivery)
				assert.Equal(t, first, f.collect(a))
				f.requirePoll(a, devicegrant.ErrInvalidGrant)
				assert.EqualValues(t, 1, f.issued.Load())
			})
		})
	}
}

// Issuing fails, then succeeds: nothing was consumed.
func TestIssueFailsTogether(t *testing.T) {
	f, l := ledgerFixture(t)
	a := f.authorize()
	f.approve(a)
	failures := []struct {
		issue func(context.Context, *devicegrant.Grant) (*devicegrant.Token, error)
		want  error
	}{
		{func(context.Context, *devicegrant.Grant) (*devicegrant.Token, error) {
			return nil, errors.New("no key")
		}, devicegrant.ErrSlowDown},
		{func(context.Context, *devicegrant.Grant) (*devicegrant.Token, error) {
			return &devicegrant.Token{}, nil
		}, devicegrant.ErrSlowDown},
		{func(ctx context.Context, _ *devicegrant.Grant) (*devicegrant.Token, error) {
			_, ok := ctx.Deadline()
			assert.True(t, ok, "issuing has a deadline")
			return nil, devicegrant.ErrConflict // The host's own, of another Store.
		}, devicegrant.ErrSlowDown},
		{func(context.Context, *devicegrant.Grant) (*devicegrant.Token, error) {
			return nil, devicegrant.ErrTemporarilyUnavailable
		}, devicegrant.ErrSlowDown},
		{func(context.Context, *devicegrant.Grant) (*devicegrant.Token, error) {
			return nil, devicegrant.ErrAccessDenied.Describe("the account is locked")
		}, devicegrant.ErrAccessDenied},
	}
	for i, failure := range failures {
		f.issue = failure.issue
		f.requirePoll(a, failure.want)
		require.Len(t, f.raised(devicegrant.EventIssueFailed), i+1)
		l.requireState(t, a, devicegrant.Approved)
	}
	f.issue = func(context.Context, *devicegrant.Grant) (*devicegrant.Token, error) { panic("host") }
	require.PanicsWithValue(t, "host", func() { _, _ = f.poll(a) })
	l.requireState(t, a, devicegrant.Approved)

	f.issue = nil
	f.requirePoll(a, nil)
	f.requirePoll(a, devicegrant.ErrInvalidGrant)
	assert.Empty(t, f.raised(devicegrant.EventStoreError))
}

// An Extra that cannot be encoded is left out of the answer, and of the one that is
// given again.
func TestUnencodableExtraTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, _ := ledgerFixture(t)
		f.issue = func(context.Context, *devicegrant.Grant) (*devicegrant.Token, error) {
			return &devicegrant.Token{AccessToken: "a", Extra: map[string]any{"f": func() {}}}, nil
		}
		a := f.authorize()
		f.approve(a)
		assert.JSONEq(t, `{"access_token":"a","token_type":"Bearer","scope":"openid profile"}`, f.lose(a))
		time.Sleep(delivery)
		assert.JSONEq(t, `{"access_token":"a","token_type":"Bearer","scope":"openid profile"}`, f.collect(a))
	})
}

// A device that hangs up while its tokens are issued finds them undone, and one that
// hangs up before they are sent is given them again.
func TestDeviceHangsUpTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, l := ledgerFixture(t)
		a := f.authorize()
		f.approve(a)
		ctx, hangUp := context.WithCancel(t.Context())
		f.issue = func(context.Context, *devicegrant.Grant) (*devicegrant.Token, error) { hangUp(); return nil, nil }
		f.do(pollRequest(a).WithContext(ctx))
		l.requireState(t, a, devicegrant.Approved)

		f.issue = nil
		ctx, hangUp = context.WithCancel(t.Context())
		f.onEvent = func(e devicegrant.Event) {
			if e.Type == devicegrant.EventRedeemed {
				hangUp()
			}
		}
		w := f.do(pollRequest(a).WithContext(ctx))
		assert.Empty(t, w.Body.String())
		l.requireState(t, a, devicegrant.Redeeming)
		f.onEvent = nil
		f.requirePoll(a, devicegrant.ErrAuthorizationPending)
		time.Sleep(delivery)
		f.requirePoll(a, nil)
		f.requirePoll(a, devicegrant.ErrInvalidGrant)
		assert.EqualValues(t, 2, f.issued.Load(), "the first was undone")
	})
}

// Poll, for a host with an endpoint of its own, has committed when it returns, although
// the device has hung up.
func TestPollCommits(t *testing.T) {
	f, l := ledgerFixture(t)
	a := f.authorize()
	f.approve(a)
	ctx, hangUp := context.WithCancel(t.Context())
	f.onEvent = func(e devicegrant.Event) {
		if e.Type == devicegrant.EventRedeemed {
			hangUp()
		}
	}
	l.Before = func(op storetest.Op, _ int) {
		if op == storetest.OpSwap {
			require.Equal(t, devicegrant.Redeeming, l.stored(t, a).State)
		}
	}
	token, err := f.Poll(ctx, devicegrant.PollRequest{ClientID: "tv", DeviceCode: a.DeviceCode})
	require.NoError(t, err)
	require.NotEmpty(t, token.AccessToken)
	require.Error(t, ctx.Err())
	l.requireState(t, a, devicegrant.Redeemed)
}

// Whoever is not the device gets nothing out of a receipt, and takes nothing away.
func TestNobodyElseIsGivenTheAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, l := ledgerFixture(t)
		a, b := f.authorize(), f.authorize()
		f.approve(a)
		f.approve(b)
		lostA, lostB := f.lose(a), f.lose(b)
		require.NotEqual(t, lostA, lostB)
		time.Sleep(delivery)

		_, err := f.Poll(t.Context(), devicegrant.PollRequest{ClientID: "cli", DeviceCode: a.DeviceCode})
		require.ErrorIs(t, err, devicegrant.ErrInvalidGrant)
		f.requireRaised(map[devicegrant.EventType]int{devicegrant.EventOtherClient: 1})
		forged := strings.Map(func(r rune) rune {
			if r == 'A' {
				return 'B'
			}
			return r
		}, "A"+a.DeviceCode[1:])
		_, err = f.Poll(t.Context(), devicegrant.PollRequest{ClientID: "tv", DeviceCode: forged})
		require.ErrorIs(t, err, devicegrant.ErrInvalidGrant)
		stranger := l.replica(t, bytes.Repeat([]byte{2}, 32))
		stranger.requirePoll(a, devicegrant.ErrInvalidGrant)

		// Somebody who writes to the database has exchanged the receipts.
		keptA, keptB := l.receipts[digestOf(t, a)], l.receipts[digestOf(t, b)]
		l.receipts[digestOf(t, a)], l.receipts[digestOf(t, b)] = keptB, keptA
		f.requirePoll(a, devicegrant.ErrAuthorizationPending)
		f.requirePoll(b, devicegrant.ErrAuthorizationPending)
		for _, spoiled := range []string{"", "x", string(keptA.receipt[:20]), string(keptA.receipt) + "AAAA"} {
			l.receipts[digestOf(t, a)] = versioned{keptA.version, []byte(spoiled)}
			f.requirePoll(a, devicegrant.ErrAuthorizationPending)
		}
		assert.NotContains(t, string(keptA.receipt), "token")

		l.receipts[digestOf(t, a)], l.receipts[digestOf(t, b)] = keptA, keptB
		assert.Equal(t, lostA, f.collect(a))
		time.Sleep(a.ExpiresIn)
		f.requirePoll(b, devicegrant.ErrExpiredToken)
	})
}

// Receipts survive the rotation of keys, as device codes do.
func TestReceiptsAndKeyRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old, newer := bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32)
		f, l := ledgerFixture(t) // Its key is the old one.
		a := f.authorize()
		f.approve(a)
		lost := f.lose(a)
		time.Sleep(delivery)

		rotated := l.replica(t, newer, old)
		require.Equal(t, lost, rotated.lose(a), "under the old key")
		time.Sleep(delivery)
		f.requirePoll(a, devicegrant.ErrAuthorizationPending) // It has not got the new key.
		assert.Equal(t, lost, rotated.collect(a), "under the new key")
		rotated.requirePoll(a, devicegrant.ErrInvalidGrant)
	})
}

// A claim of a server that claims, issues and commits in steps has no receipt. It ends
// as it would there.
func TestClaimWithoutReceipt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, l := ledgerFixture(t)
		a := f.authorize()
		f.approve(a)
		steps := newFixture(t, func(c *devicegrant.Config) { c.Store = l.Faulty })
		l.Inject(storetest.OpSwap, storetest.Fault{Lost: true}) // The claim.
		steps.requirePoll(a, devicegrant.ErrSlowDown)
		require.Equal(t, devicegrant.Redeeming, l.stored(t, a).State)
		f.requirePoll(a, devicegrant.ErrAuthorizationPending)
		time.Sleep(30*time.Second - time.Microsecond)
		f.requirePoll(a, devicegrant.ErrAuthorizationPending)
		time.Sleep(time.Microsecond)
		f.requirePoll(a, devicegrant.ErrExpiredToken)
		assert.Zero(t, f.issued.Load()+steps.issued.Load())
	})
}

// Redemption leaves time to come back, however late it is: two polls of a device that
// an outage has made as slow as can be, and ten seconds.
func TestLateRedemptionLeavesTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, _ := ledgerFixture(t)
		a, b := f.authorize(), f.authorize()
		time.Sleep(a.ExpiresIn - time.Microsecond)
		f.approve(a)
		f.approve(b)
		time.Sleep(collectTime(a.Interval) - time.Microsecond)
		lostA, _ := f.lose(a), f.lose(b)
		time.Sleep(collectTime(devicegrant.MaxInterval) - time.Microsecond)
		require.Equal(t, lostA, f.collect(a))
		time.Sleep(time.Microsecond)
		f.requirePoll(b, devicegrant.ErrExpiredToken)
	})
}

// The slowest device there is, approved and redeemed at the last moment: its device code
// is good for as long as its grant.
func TestLatestRedemptionOfTheSlowest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, _ := ledgerFixture(t)
		a := f.authorize()
		start := time.Now()
		for range 20 {
			_, _ = f.poll(a)
			time.Sleep(time.Second)
		}
		grace := collectTime(devicegrant.MaxInterval)
		time.Sleep(time.Until(start.Add(a.ExpiresIn - time.Microsecond)))
		f.approve(a)
		time.Sleep(grace - time.Microsecond)
		lost := f.lose(a)
		time.Sleep(grace - time.Microsecond)
		assert.Equal(t, lost, f.collect(a))
	})
}

// Two polls have read the approved grant; one redeems it. The other finds that out,
// whenever it gets there, and issues nothing.
func TestTheLoserOfATransactionIssuesNothing(t *testing.T) {
	for _, when := range []storetest.Op{storetest.OpByDeviceCode, storetest.OpPoll} {
		t.Run(string(when), func(t *testing.T) {
			f, l := ledgerFixture(t)
			a := f.authorize()
			f.approve(a)
			l.After = func(op storetest.Op, n int) {
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
func TestPollWhileIssuingTogether(t *testing.T) {
	f, _ := ledgerFixture(t)
	a := f.authorize()
	f.approve(a)
	f.issue = func(context.Context, *devicegrant.Grant) (*devicegrant.Token, error) {
		f.requirePoll(a, devicegrant.ErrAuthorizationPending)
		return nil, nil
	}
	f.requirePoll(a, nil)
	assert.EqualValues(t, 1, f.issued.Load())
}

func TestConcurrentPollsOneTokenTogether(t *testing.T) {
	f, l := ledgerFixture(t)
	for round := range raceRounds / 5 {
		a := f.authorize()
		f.approve(a)
		var got answers
		together(racePolls, func(int) { got.count(f.poll(a)) })
		require.EqualValues(t, 1, got.tokens.Load(), "round %d", round)
		require.EqualValues(t, racePolls-1, got.pending.Load()+got.invalid.Load())
		l.requireState(t, a, devicegrant.Redeemed)
	}
	assert.EqualValues(t, raceRounds/5, f.issued.Load())
}

// Of polls at once for an answer that was lost, one is given it.
func TestConcurrentPollsForALostAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, l := ledgerFixture(t)
		for round := range raceRounds / 20 {
			a := f.authorize()
			f.approve(a)
			f.lose(a)
			time.Sleep(delivery)
			var got answers
			together(racePolls, func(int) { got.count(f.poll(a)) })
			require.EqualValues(t, 1, got.tokens.Load(), "round %d", round)
			require.EqualValues(t, racePolls-1, got.pending.Load()+got.invalid.Load())
			l.requireState(t, a, devicegrant.Redeemed)
		}
		assert.EqualValues(t, raceRounds/20, f.issued.Load())
	})
}

// noting is a ResponseWriter that notes in which order it is used.
type noting struct {
	*httptest.ResponseRecorder
	order    []string
	flushErr error
}

func (n *noting) Write(b []byte) (int, error) {
	n.order = append(n.order, "write")
	return n.ResponseRecorder.Write(b)
}

func (n *noting) FlushError() error {
	n.order = append(n.order, "flush")
	return n.flushErr
}

// The claim is committed when the answer is on its way, and not before.
func TestAnswerBeforeCommit(t *testing.T) {
	for name, tt := range map[string]struct {
		flushErr error
		state    devicegrant.State
		order    []string
	}{
		"sent":                     {nil, devicegrant.Redeemed, []string{"write", "flush", "commit"}},
		"whoever wraps cannot":     {http.ErrNotSupported, devicegrant.Redeemed, []string{"write", "flush", "commit"}},
		"the connection is broken": {errors.New("broken pipe"), devicegrant.Redeeming, []string{"write", "flush"}},
	} {
		t.Run(name, func(t *testing.T) {
			f, l := ledgerFixture(t)
			a := f.authorize()
			f.approve(a)
			w := &noting{ResponseRecorder: httptest.NewRecorder(), flushErr: tt.flushErr}
			l.Before = func(op storetest.Op, _ int) {
				if op == storetest.OpSwap {
					w.order = append(w.order, "commit")
				}
			}
			f.mux.ServeHTTP(w, pollRequest(a))
			assert.Equal(t, tt.order, w.order)
			assert.Equal(t, fmt.Sprint(w.Body.Len()), w.Header().Get("Content-Length"))
			assert.Equal(t, "application/json", w.Header().Get("Content-Type"))
			assert.Equal(t, "no-store", w.Header().Get("Cache-Control"))
			l.requireState(t, a, tt.state)
		})
	}
}

// Over a real connection the device has its whole answer while the commit takes its
// time. Whoever presents the code again in the meantime is no device that lost its
// answer.
func TestAnswerArrivesBeforeCommit(t *testing.T) {
	f, l := ledgerFixture(t)
	a := f.authorize()
	f.approve(a)
	committing, commit := make(chan struct{}), make(chan struct{})
	l.Before = func(op storetest.Op, _ int) {
		if op == storetest.OpSwap {
			close(committing)
			<-commit
		}
	}
	server := httptest.NewServer(f.mux)
	defer server.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	r := pollRequest(a).WithContext(ctx)
	out, err := http.NewRequestWithContext(ctx, http.MethodPost, server.URL+"/token", r.Body)
	require.NoError(t, err)
	out.Header = r.Header
	resp, err := server.Client().Do(out)
	if err != nil {
		close(commit)
	}
	require.NoError(t, err)
	body, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	select {
	case <-committing:
	case <-ctx.Done():
	}
	_, replayErr := f.poll(a)
	state := l.stored(t, a).State
	close(commit)
	require.NoError(t, err)
	require.Contains(t, members(t, string(body)), "access_token")
	require.Equal(t, int64(len(body)), resp.ContentLength)
	require.Equal(t, devicegrant.Redeeming, state)
	require.ErrorIs(t, replayErr, devicegrant.ErrInvalidGrant)
	require.Eventually(t, func() bool { return l.stored(t, a).State == devicegrant.Redeemed }, 30*time.Second, time.Millisecond)
	f.requireRaised(map[devicegrant.EventType]int{devicegrant.EventReplayed: 1})
}
