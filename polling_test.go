package devicegrant

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var t0 = time.Date(2026, 3, 29, 0, 59, 58, 0, time.UTC)

func at(d time.Duration) time.Time { return t0.Add(d) }

// The answer table (docs/state-machine.md): every state, before and after the
// deadline, by the right client and by another, on time and early.
func TestAnswerTable(t *testing.T) {
	onTime := Pace{Interval: 5 * time.Second, OnTime: at(0), Last: at(0)}
	early := Pace{Interval: 15 * time.Second, OnTime: at(-time.Second), Last: at(0)}
	for _, tt := range []struct {
		name   string
		state  State
		client string
		pace   Pace
		after  bool // the deadline
		want   *Error
	}{
		{"other client, pending", Pending, "other", onTime, false, errOtherClient},
		{"other client, approved", Approved, "other", onTime, false, errOtherClient},
		{"other client, redeemed", Redeemed, "other", onTime, false, errOtherClient},
		{"other client, expired", Pending, "other", onTime, true, errOtherClient},
		{"pending, expired", Pending, "tv", onTime, true, ErrExpiredToken},
		{"pending, expired, early", Pending, "tv", early, true, ErrExpiredToken},
		{"approved, expired", Approved, "tv", onTime, true, ErrExpiredToken},
		{"denied, expired", Denied, "tv", onTime, true, ErrExpiredToken},
		{"redeeming, expired", Redeeming, "tv", onTime, true, ErrExpiredToken},
		{"redeemed, expired", Redeemed, "tv", onTime, true, ErrExpiredToken},
		{"denied", Denied, "tv", onTime, false, ErrAccessDenied},
		{"denied, early", Denied, "tv", early, false, ErrAccessDenied},
		{"redeemed", Redeemed, "tv", onTime, false, errReplayed},
		{"redeemed, early", Redeemed, "tv", early, false, errReplayed},
		{"approved", Approved, "tv", onTime, false, nil},
		{"approved, early", Approved, "tv", early, false, nil},
		{"redeeming", Redeeming, "tv", onTime, false, ErrAuthorizationPending},
		{"redeeming, early", Redeeming, "tv", early, false, ErrAuthorizationPending},
		{"pending, early", Pending, "tv", early, false, ErrSlowDown},
		{"pending", Pending, "tv", onTime, false, ErrAuthorizationPending},
		{"unknown state", State(99), "tv", onTime, false, errUnknownState},
		{"no state", State(0), "tv", onTime, false, errUnknownState},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := Polled{ClientID: "tv", State: tt.state, Pace: tt.pace, ExpiresAt: at(1)}
			if tt.after {
				p.ExpiresAt = at(0) // The deadline itself is past it.
			}
			got := answer(p, tt.client, at(0))
			if tt.want == ErrSlowDown {
				require.ErrorIs(t, got, ErrSlowDown)
				assert.Equal(t, 15*time.Second, got.Interval, "slow_down tells the interval in force")
				return
			}
			assert.Same(t, tt.want, got)
		})
	}
}

// poll is one poll of a sequence: when, whether it is early, and the interval
// after it.
type poll struct {
	at       time.Duration
	early    bool
	interval time.Duration
}

func TestPace(t *testing.T) {
	const s, ms = time.Second, time.Millisecond
	for _, tt := range []struct {
		name  string
		start time.Duration // the interval advertised
		polls []poll
	}{
		{"the first poll is never early", 5 * s, []poll{{0, false, 5 * s}}},
		{"a correct client", 5 * s, []poll{{0, false, 5 * s}, {5 * s, false, 5 * s}, {10 * s, false, 5 * s}}},
		{"a client that obeys +5 s recovers on its next poll", 5 * s,
			[]poll{{0, false, 5 * s}, {2 * s, true, 10 * s}, {12 * s, false, 10 * s}, {22 * s, false, 10 * s}}},
		{"twice as fast as allowed, +5 s each time, then recovery", 1 * s,
			[]poll{{0, false, s}, {500 * ms, true, 6 * s}, {3500 * ms, true, 11 * s}, {14500 * ms, false, 11 * s}, {25500 * ms, false, 11 * s}}},
		{"an interval of 5, 10, 15 survives a good poll", 5 * s,
			[]poll{{0, false, 5 * s}, {1 * s, true, 10 * s}, {2 * s, true, 15 * s}, {17 * s, false, 15 * s}, {32 * s, false, 15 * s}, {42 * s, true, 20 * s}}},
		{"one jittered poll, then a fixed cadence as told", 5 * s,
			[]poll{{0, false, 5 * s}, {3900 * ms, true, 10 * s}, {13900 * ms, false, 10 * s}, {23900 * ms, false, 10 * s}}},
		{"one jittered poll, then the old cadence: not put off for ever", 5 * s,
			[]poll{{0, false, 5 * s}, {3 * s, true, 10 * s}, {10 * s, false, 10 * s}, {15 * s, true, 15 * s}, {25 * s, false, 15 * s}}},
		{"a ticker that drifts", 1 * s, []poll{{0, false, s}, {996 * ms, false, s}, {1992 * ms, false, s}, {2988 * ms, false, s}}},
		{"a delayed poll makes the next look early, within the leeway", 5 * s,
			[]poll{{0, false, 5 * s}, {5900 * ms, false, 5 * s}, {10 * s, false, 5 * s}}},
		{"the leeway is a fifth", 1 * s, []poll{{0, false, s}, {800 * ms, false, s}, {1599999 * time.Microsecond, true, 6 * s}}},
		{"the leeway is a second at most", 30 * s, []poll{{0, false, 30 * s}, {29 * s, false, 30 * s}, {57999 * ms, true, 35 * s}}},
		{"a poll sent twice is one poll", 1 * s,
			[]poll{{0, false, s}, {1 * ms, false, s}, {1 * s, false, s}, {1*s + 99*ms, false, s}, {2 * s, false, s}, {2*s + 100*ms, true, 6 * s}}},
		{"an early poll sent twice adds 5 s once", 1 * s,
			[]poll{{0, false, s}, {500 * ms, true, 6 * s}, {749 * ms, true, 6 * s}, {1250 * ms, true, 11 * s}, {1251 * ms, true, 11 * s}}},
		{"a poll sent three times is two", 5 * s,
			[]poll{{0, false, 5 * s}, {1 * ms, false, 5 * s}, {2 * ms, true, 10 * s}, {3 * ms, true, 10 * s}, {4 * ms, true, 15 * s}}},
		{"a poll sent twice, the second request overtaking", 5 * s,
			[]poll{{100 * ms, false, 5 * s}, {99 * ms, false, 5 * s}, {98 * ms, true, 10 * s}, {10100 * ms, false, 10 * s}}},
		{"a tenth of the interval later is another poll", 1 * s, []poll{{0, false, s}, {100 * ms, true, 6 * s}}},
		{"a quarter of a second later is another poll", 5 * s, []poll{{0, false, 5 * s}, {250 * ms, true, 10 * s}}},
		{"growth is capped", 50 * s,
			[]poll{{0, false, 50 * s}, {1 * s, true, 55 * s}, {2 * s, true, 60 * s}, {3 * s, true, 60 * s}, {60 * s, false, 60 * s}}},
		{"an interval above the cap stays", 90 * s, []poll{{0, false, 90 * s}, {1 * s, true, 90 * s}, {90 * s, false, 90 * s}}},
		{"a client that ignores slow_down is heard once a minute", 5 * s,
			[]poll{{0, false, 5 * s}, {3 * s, true, 10 * s}, {6 * s, true, 15 * s}, {9 * s, true, 20 * s}, {12 * s, true, 25 * s}, {15 * s, true, 30 * s}, {29 * s, false, 30 * s}}},
		{"a clock that steps back", 5 * s,
			[]poll{{3600 * s, false, 5 * s}, {3605 * s, false, 5 * s}, {0, false, 5 * s}, {5 * s, false, 5 * s}}},
		{"a clock that steps back after an early poll", 5 * s,
			[]poll{{0, false, 5 * s}, {3 * s, true, 10 * s}, {2 * s, false, 10 * s}, {12 * s, false, 10 * s}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := Pace{Interval: tt.start}
			for _, want := range tt.polls {
				p = p.Next(at(want.at))
				assert.Equal(t, want.early, p.Early(), "early at %v", want.at)
				assert.Equal(t, want.interval, p.Interval, "interval after %v", want.at)
			}
		})
	}
}

// Whatever the polls are: the interval never shrinks, grows by one step at the
// most, and a poll that waits for the interval in force is never early.
func TestPaceInvariants(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		p := Pace{Interval: time.Duration(1+rng.IntN(70)) * time.Second}
		now := t0
		for range 200 {
			now = now.Add(time.Duration(rng.Int64N(int64(20*time.Second))) - 2*time.Second)
			before := p
			p = p.Next(now)
			require.GreaterOrEqual(t, p.Interval, before.Interval)
			require.LessOrEqual(t, p.Interval, max(before.Interval, min(before.Interval+SlowDownStep, MaxInterval)))
			if p.Early() {
				patient := p.Next(now.Add(p.Interval))
				require.False(t, patient.Early(), "a client that obeys recovers on its next poll")
			}
		}
	}
}

// Each arrow from each state: the legal ones lead where they should, and the
// illegal ones change nothing.
func TestArrows(t *testing.T) {
	type result struct {
		state State
		err   error
	}
	grant := func(s State) Grant {
		return Grant{State: s, Version: 7, UserCode: UserCodeDigest{1}, Pace: Pace{Interval: 5 * time.Second}, ExpiresAt: at(time.Minute)}
	}
	for from, want := range map[State]result{
		Pending:   {Approved, nil},
		Approved:  {Approved, ErrDecided},
		Denied:    {Denied, ErrDecided},
		Redeeming: {Redeeming, ErrDecided},
		Redeemed:  {Redeemed, ErrDecided},
	} {
		g, err := grant(from).approve("alice", "", at(0))
		require.ErrorIs(t, err, want.err)
		assert.Equal(t, want.state, g.State, "approve from %v", from)
	}
	for _, from := range []State{Approved, Denied, Redeeming, Redeemed} {
		g, err := grant(from).deny("alice", at(0))
		require.ErrorIs(t, err, ErrDecided)
		assert.Equal(t, from, g.State, "deny from %v", from)
	}
	for _, from := range []State{Pending, Denied, Redeeming, Redeemed} {
		_, ok := grant(from).claim(at(0), time.Second)
		assert.False(t, ok, "claim from %v", from)
	}
	for _, decide := range []func(Grant, string, time.Time) (Grant, error){approveAll, Grant.deny} {
		g, err := decide(grant(Pending), "alice", at(time.Minute))
		require.ErrorIs(t, err, ErrUserCode, "nobody decides at the deadline or after it")
		assert.Equal(t, grant(Pending), g)
	}
	_, ok := grant(Approved).claim(at(time.Minute), time.Second)
	assert.False(t, ok, "nothing is claimed past its deadline")
}

func approveAll(g Grant, subject string, now time.Time) (Grant, error) {
	return g.approve(subject, g.Scope, now)
}

func TestApprovalLeavesTimeToCollect(t *testing.T) {
	g := Grant{State: Pending, Pace: Pace{Interval: 15 * time.Second}, ExpiresAt: at(time.Minute)}
	early, err := g.approve("alice", "", at(0))
	require.NoError(t, err)
	assert.Equal(t, g.ExpiresAt, early.ExpiresAt, "a minute is enough for two polls")
	late, err := g.approve("alice", "", at(time.Minute-time.Second))
	require.NoError(t, err)
	assert.Equal(t, at(time.Minute-time.Second+2*15*time.Second+collectMargin), late.ExpiresAt)
}

func TestClaim(t *testing.T) {
	g := Grant{State: Approved, Subject: "alice", UserCode: UserCodeDigest{1}, Version: 7, ExpiresAt: at(time.Minute)}
	claimed, ok := g.claim(at(0), 10*time.Second)
	require.True(t, ok)
	assert.Equal(t, Redeeming, claimed.State)
	assert.Equal(t, at(10*time.Second), claimed.ExpiresAt, "an orphaned claim ends when it has timed out")
	short, _ := g.claim(at(55*time.Second), 10*time.Second)
	assert.Equal(t, g.ExpiresAt, short.ExpiresAt, "a claim does not extend a grant's life")

	claimed.Version = 8
	released := g.release(claimed)
	assert.Equal(t, Grant{State: Approved, Subject: "alice", UserCode: UserCodeDigest{1}, Version: 8, ExpiresAt: g.ExpiresAt}, released)
	committed := g.commit(claimed)
	assert.Equal(t, Grant{State: Redeemed, Subject: "alice", Version: 8, ExpiresAt: g.ExpiresAt}, committed)
}

func TestStateNames(t *testing.T) {
	for s, want := range map[State]string{0: "unknown", Pending: "pending", Approved: "approved", Denied: "denied", Redeeming: "redeeming", Redeemed: "redeemed", 6: "unknown"} {
		assert.Equal(t, want, s.String())
	}
}

// What can be taken back: until it is collected, and not what is over.
func TestRevokeArrow(t *testing.T) {
	for state, want := range map[State]bool{Pending: true, Approved: true, Denied: false, Redeeming: false, Redeemed: false} {
		g := Grant{State: state, Subject: "alice", ExpiresAt: at(1), Version: 7}
		revoked, ok := g.revoke(at(0))
		assert.Equal(t, want, ok, "%v", state)
		if ok {
			assert.Equal(t, Grant{State: Denied, Subject: "alice", ExpiresAt: at(1), Version: 7}, revoked)
		}
		_, ok = g.revoke(at(1))
		assert.False(t, ok, "%v, at its deadline", state)
	}
}
