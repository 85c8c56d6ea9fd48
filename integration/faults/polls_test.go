package faults

import (
	"context"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/devicegrant/devicegrant"
	"github.com/devicegrant/devicegrant/integration/internal/databases"
	"github.com/devicegrant/devicegrant/sqlstore"
)

var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// counted is a Store whose statements are counted.
type counted struct {
	*sqlstore.Store
	line *line
}

func newCounted(t *testing.T, kind databases.Kind, cfg sqlstore.Config) counted {
	dsn := kind.Create(t)
	kind.NewStore(t, kind.Open(t, dsn), cfg) // With the schema.
	l := &line{at: -1}
	store, err := sqlstore.New(l.open(t, kind, dsn), kind.Dialect, cfg)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, store.Close()) })
	l.watch()
	return counted{store, l}
}

// statements returns how many there were since it was called last.
func (c counted) statements() int {
	c.line.mu.Lock()
	defer c.line.mu.Unlock()
	n := 0
	for _, p := range c.line.seen {
		if p == statement {
			n++
		}
	}
	c.line.seen = nil
	return n
}

func (c counted) grant(t *testing.T, name string) *devicegrant.Grant {
	g := &devicegrant.Grant{
		ID: uuid.New(), DeviceCode: sha256.Sum256([]byte(name)), UserCode: sha256.Sum256([]byte("user" + name)),
		ClientID: "tv", Scope: "openid", State: devicegrant.Pending,
		CreatedAt: noon, ExpiresAt: noon.Add(10 * time.Minute), Pace: devicegrant.Pace{Interval: 5 * time.Second},
	}
	require.NoError(t, c.Create(t.Context(), g))
	return g
}

// Polls that come too early cost no query, until this Store hears of a decision, or has
// not asked for ten seconds.
func TestEarlyPollsAskNothing(t *testing.T) {
	for _, kind := range databases.Each {
		t.Run(kind.Name, func(t *testing.T) {
			t.Parallel()
			c := newCounted(t, kind, sqlstore.Config{})
			g := c.grant(t, "early")
			poll := func(after time.Duration) devicegrant.State {
				t.Helper()
				at := noon.Add(after)
				g.Pace = g.Pace.Next(at)
				p, err := c.Poll(t.Context(), g.DeviceCode, "tv", at)
				require.NoError(t, err)
				assert.Equal(t, g.Pace, p.Pace, "after %v", after)
				return p.State
			}
			poll(0)
			require.Positive(t, c.statements())
			for i := range 99 {
				poll(time.Duration(i+1) * 100 * time.Millisecond)
			}
			assert.Zero(t, c.statements(), "99 early polls in less than ten seconds")
			poll(10 * time.Second)
			assert.Positive(t, c.statements(), "then it asks")

			poll(11 * time.Second)
			assert.Zero(t, c.statements())
			g.State, g.Subject = devicegrant.Approved, "alice"
			require.NoError(t, c.Swap(t.Context(), g))
			assert.Equal(t, devicegrant.Approved, poll(12*time.Second), "an early poll after a decision made here")

			g = c.grant(t, "redeemed in a transaction")
			poll(0)
			g.State = devicegrant.Redeemed
			require.NoError(t, c.Transactional().Redeem(t.Context(), g, func(context.Context) ([]byte, error) { return nil, nil }))
			assert.Equal(t, devicegrant.Redeemed, poll(time.Second))
		})
	}
}

// Nor do codes that nobody made cost one.
func TestForgedCodesAskNothing(t *testing.T) {
	h := newHost(t, databases.PostgreSQL, false)
	l := &login{host: h, line: &line{at: -1}, events: map[devicegrant.EventType]int{}}
	l.faulty = l.line.open(t, h.kind, h.dsn)
	store, err := sqlstore.New(l.faulty, h.kind.Dialect, sqlstore.Config{})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, store.Close()) })
	l.start(t, store)
	l.authorize(t)
	l.line.watch()
	forged := []byte(l.device.DeviceCode)
	for i := range 30 {
		forged[i] ^= 1
		_, err := l.server.Poll(t.Context(), devicegrant.PollRequest{ClientID: "tv", DeviceCode: string(forged)})
		require.ErrorIs(t, err, devicegrant.ErrInvalidGrant)
	}
	assert.Empty(t, l.line.history())
	l.pollPending(t)
	assert.NotEmpty(t, l.line.history(), "a real one")
}

func twoReplicas(t *testing.T, kind databases.Kind) (here, there *sqlstore.Store) {
	dsn := kind.Create(t)
	return kind.NewStore(t, kind.Open(t, dsn), sqlstore.Config{}), kind.NewStore(t, kind.Open(t, dsn), sqlstore.Config{})
}

// What a replica answers from memory, others learn with its next query; a decision made at
// another is late for a device that polls too early, by ten seconds at most.
func TestReplicasWithoutExactPace(t *testing.T) {
	for _, kind := range databases.Each {
		t.Run(kind.Name, func(t *testing.T) {
			t.Parallel()
			here, there := twoReplicas(t, kind)
			c := counted{Store: here}
			g, other := c.grant(t, "one"), c.grant(t, "other")
			poll := func(store *sqlstore.Store, g *devicegrant.Grant, after time.Duration) devicegrant.Polled {
				t.Helper()
				p, err := store.Poll(t.Context(), g.DeviceCode, "tv", noon.Add(after))
				require.NoError(t, err)
				return p
			}
			interval := func(store *sqlstore.Store) time.Duration {
				read, err := store.ByUserCode(t.Context(), g.UserCode)
				require.NoError(t, err)
				return read.Pace.Interval
			}
			poll(here, g, 0)
			for i := range 3 {
				poll(here, g, time.Duration(i+1)*time.Second)
			}
			assert.Equal(t, 20*time.Second, interval(here))
			assert.Equal(t, 5*time.Second, interval(there), "nobody has told it")
			poll(here, other, 0)
			require.Eventually(t, func() bool { return interval(there) == 20*time.Second }, patience, time.Millisecond)
			assert.Equal(t, 20*time.Second, interval(here))
			assert.Equal(t, 25*time.Second, poll(there, g, 4*time.Second).Pace.Interval, "it goes on from there")

			approved := *g
			approved.State, approved.Subject = devicegrant.Approved, "alice"
			require.NoError(t, there.Swap(t.Context(), &approved))
			assert.Equal(t, devicegrant.Pending, poll(here, g, 5*time.Second).State, "too early to hear of it")
			assert.Equal(t, devicegrant.Approved, poll(here, g, 10*time.Second).State, "too early, but the last answer is too old")
			assert.Equal(t, devicegrant.Approved, poll(here, g, 10*time.Second+time.Millisecond).State, "and from then on")
		})
	}
}

// Where another replica has recorded a poll meanwhile, its pace stays, and the longer of both
// intervals.
func TestReplicasKeepTheLongerInterval(t *testing.T) {
	for _, kind := range databases.Each {
		t.Run(kind.Name, func(t *testing.T) {
			t.Parallel()
			here, there := twoReplicas(t, kind)
			g := counted{Store: here}.grant(t, "one")
			var p devicegrant.Polled
			for _, poll := range []struct {
				store *sqlstore.Store
				after time.Duration
			}{{here, 0}, {here, time.Second}, {there, 5 * time.Second}, {here, 10500 * time.Millisecond}} {
				var err error
				p, err = poll.store.Poll(t.Context(), g.DeviceCode, "tv", noon.Add(poll.after))
				require.NoError(t, err)
			}
			assert.Equal(t, devicegrant.Pace{
				Interval: 15 * time.Second, OnTime: noon.Add(5 * time.Second), Last: noon.Add(10500 * time.Millisecond),
			}, p.Pace)
		})
	}
}

// A device that keeps to its interval hears of a decision at once, wherever it was made.
func TestReplicaHearsOfDecisionOnTime(t *testing.T) {
	for _, kind := range databases.Each {
		t.Run(kind.Name, func(t *testing.T) {
			t.Parallel()
			here, there := twoReplicas(t, kind)
			g := counted{Store: here}.grant(t, "one")
			_, err := here.Poll(t.Context(), g.DeviceCode, "tv", noon)
			require.NoError(t, err)
			g.State, g.Subject = devicegrant.Denied, "alice"
			require.NoError(t, there.Swap(t.Context(), g))
			p, err := here.Poll(t.Context(), g.DeviceCode, "tv", noon.Add(5*time.Second))
			require.NoError(t, err)
			assert.Equal(t, devicegrant.Denied, p.State)
		})
	}
}

// Many devices poll at once, by a Store that answers early polls from memory and by one
// that asks about each: all of them are answered as Pace.Next says, whatever statement
// takes them, and sees what was decided.
func TestPollsTogetherAreAnsweredAsAlone(t *testing.T) {
	const devices, polls = 60, 40
	for _, kind := range databases.EachDriver {
		for _, exact := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/exact=%t", kind.Name, exact), func(t *testing.T) {
				t.Parallel()
				c := newCounted(t, kind, sqlstore.Config{ExactPace: exact, Timeout: patience})
				grants := make([]*devicegrant.Grant, devices)
				for i := range grants {
					grants[i] = c.grant(t, fmt.Sprint("device ", i))
				}
				c.statements()
				errs := make([]error, devices)
				var wg sync.WaitGroup
				for i, g := range grants {
					wg.Go(func() { errs[i] = pollLikeADevice(t.Context(), c.Store, g, uint64(i), polls) })
				}
				wg.Wait()
				for _, err := range errs {
					require.NoError(t, err)
				}
				asked := c.statements()
				t.Logf("%d polls took %d statements", devices*polls, asked)
				assert.Less(t, asked, devices*polls*3/4)
			})
		}
	}
}

// pollLikeADevice polls a grant at random, and has it approved in the midst of that.
func pollLikeADevice(ctx context.Context, store *sqlstore.Store, g *devicegrant.Grant, seed uint64, polls int) error {
	rng := rand.New(rand.NewPCG(seed, 8628))
	at := noon
	for i := range polls {
		at = at.Add(gap(rng, g.Pace))
		clientID := "tv"
		if rng.IntN(10) == 0 {
			clientID = "cli"
		} else {
			g.Pace = g.Pace.Next(at)
		}
		p, err := store.Poll(ctx, g.DeviceCode, clientID, at)
		want := devicegrant.Polled{ID: g.ID, ClientID: "tv", State: g.State, ExpiresAt: g.ExpiresAt, Pace: g.Pace}
		switch {
		case err != nil:
			return err
		case p != want:
			return fmt.Errorf("device %d, poll %d by %s: answered %+v, want %+v", seed, i, clientID, p, want)
		case i != polls/2:
			continue
		}
		g.State, g.Subject = devicegrant.Approved, "alice"
		if err := store.Swap(ctx, g); err != nil {
			return err
		}
		g.Version++
	}
	return nil
}

// gap is how long a device waits: mostly as long as it should, and often for just so long
// that a microsecond less would be something else.
func gap(rng *rand.Rand, p devicegrant.Pace) time.Duration {
	same, leeway := min(p.Interval/10, 250*time.Millisecond), min(p.Interval/5, time.Second)
	gaps := []time.Duration{p.Interval, p.Interval, p.Interval, p.Interval - leeway, same, -same, time.Second, 0}
	d := gaps[rng.IntN(len(gaps))] + time.Duration(rng.IntN(3)-1)*time.Microsecond
	return d.Truncate(time.Microsecond)
}
