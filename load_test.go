package devicegrant_test

import (
	"container/heap"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/devicegrant/devicegrant"
)

// crowd is many devices and their people, on a clock of their own.
type crowd struct {
	*fixture
	rng     *rand.Rand
	now     time.Time
	agenda  agenda
	polls   map[int64]int // in each second
	longest time.Duration // interval that was advertised
	tokens  int
}

// appointment is something that happens at a time.
type appointment struct {
	at time.Time
	do func()
}

type agenda []appointment

func (a agenda) Len() int           { return len(a) }
func (a agenda) Less(i, j int) bool { return a[i].at.Before(a[j].at) }
func (a agenda) Swap(i, j int)      { a[i], a[j] = a[j], a[i] }
func (a *agenda) Push(x any)        { *a = append(*a, x.(appointment)) }
func (a *agenda) Pop() any {
	last := len(*a) - 1
	next := (*a)[last]
	*a = (*a)[:last]
	return next
}

func newCrowd(t *testing.T, change func(*devicegrant.Config)) *crowd {
	c := &crowd{
		fixture: newFixture(t, change),
		rng:     rand.New(rand.NewPCG(8, 6)),
		now:     time.Date(2026, 11, 25, 20, 15, 0, 0, time.UTC),
		polls:   make(map[int64]int),
	}
	c.SetClock(func() time.Time { return c.now })
	return c
}

func (c *crowd) in(d time.Duration, do func()) {
	heap.Push(&c.agenda, appointment{c.now.Add(d), do})
}

func (c *crowd) run() {
	for c.agenda.Len() > 0 {
		next := heap.Pop(&c.agenda).(appointment)
		c.now = next.at
		next.do()
	}
}

func (c *crowd) between(least, most time.Duration) time.Duration {
	return least + time.Duration(c.rng.Int64N(int64(most-least)))
}

// address is the n-th of the internet's.
func address(n int) netip.Addr {
	var a [4]byte
	binary.BigEndian.PutUint32(a[:], 1<<25|uint32(n))
	return netip.AddrFrom4(a)
}

// arrive has the n-th device ask for a code, poll for it as slowly as it is told to, and
// its person find their phone after some time.
func (c *crowd) arrive(n int, person time.Duration) {
	a, err := c.Authorize(c.t.Context(), tv, devicegrant.AuthorizationRequest{Device: devicegrant.Device{Addr: address(n)}})
	require.NoError(c.t, err)
	c.longest = max(c.longest, a.Interval)
	c.in(c.drifted(a.Interval), func() { c.pollOn(a) })
	c.in(person, func() {
		by := devicegrant.Person{Subject: fmt.Sprint("person ", n), Session: fmt.Sprint("browser ", n), Addr: address(n)}
		r, err := c.Lookup(c.t.Context(), a.UserCode, by)
		if err == nil {
			err = c.yes(c.t.Context(), r.Ticket, by)
		}
		if err != nil {
			require.NoError(c.t, err)
		}
	})
}

// drifted is an interval on a device's timer.
func (c *crowd) drifted(interval time.Duration) time.Duration {
	return interval + c.between(0, 100*time.Millisecond)
}

func (c *crowd) pollOn(a *devicegrant.Authorization) {
	c.polls[c.now.Unix()]++
	_, err := c.poll(a)
	if err == nil {
		c.tokens++
		return
	}
	if err != devicegrant.ErrAuthorizationPending {
		require.NoError(c.t, err, "it obeys")
	}
	c.in(c.drifted(a.Interval), func() { c.pollOn(a) })
}

// most is the most polls of a second.
func (c *crowd) most() (n int) {
	for _, polls := range c.polls {
		n = max(n, polls)
	}
	return n
}

// Twenty thousand devices arrive within a minute, a thousand polls a second are what the
// server can bear, and people need up to five minutes. With DEVICEGRANT_SOAK=1 it is five
// times as many.
func TestSpreadPolls(t *testing.T) {
	t.Parallel() // It takes longer than all others.
	devices, budget := 20_000, 1_000
	if os.Getenv("DEVICEGRANT_SOAK") == "1" {
		devices, budget = 5*devices, 5*budget
	}
	c := newCrowd(t, func(c *devicegrant.Config) { c.Policy = devicegrant.SpreadPolls(float64(budget)) })
	for n := range devices {
		c.in(c.between(0, time.Minute), func() { c.arrive(n, c.between(20*time.Second, 5*time.Minute)) })
	}
	c.run()
	t.Logf("at most %d polls in a second; intervals of up to %v", c.most(), c.longest)
	assert.Equal(t, devices, c.tokens, "every device has its tokens")
	chance := 7 * math.Sqrt(float64(budget)) // Devices do not come evenly.
	assert.LessOrEqual(t, c.most(), budget+int(chance))
	assert.Greater(t, c.most(), budget/2, "the crowd was a real one")
	assert.Less(t, c.longest, time.Minute, "and none waits for very long")

	c.now = c.now.Add(10 * time.Second)
	assert.Equal(t, 5*time.Second, c.authorize().Interval, "the interval has fallen back")
}

// What the load makes of an interval.
func TestSpreadPollsInterval(t *testing.T) {
	app := devicegrant.Application{Lifetime: 15 * time.Minute, Interval: 5 * time.Second}
	for name, tt := range map[string]struct {
		load devicegrant.Load
		want time.Duration
	}{
		"idle":                        {devicegrant.Load{}, 5 * time.Second},
		"as many as the budget bears": {devicegrant.Load{Pending: 499}, 5 * time.Second},
		"one more":                    {devicegrant.Load{Pending: 500}, 6 * time.Second},
		"a fair share":                {devicegrant.Load{Pending: 1999}, 20 * time.Second},
		"more are coming":             {devicegrant.Load{Pending: 199, Arrivals: 30}, 20 * time.Second},
		"a device or two":             {devicegrant.Load{Pending: 2, Polls: 0.4}, 5 * time.Second},
		"some of the budget is gone":  {devicegrant.Load{Pending: 10, Polls: 16}, 5 * time.Second},
		"more of it is gone":          {devicegrant.Load{Pending: 10, Polls: 17}, 6 * time.Second},
		"half the budget is gone":     {devicegrant.Load{Pending: 10, Polls: 50}, 10 * time.Second},
		"the budget is nearly gone":   {devicegrant.Load{Pending: 10, Polls: 99.9}, 225 * time.Second},
		"the budget is gone":          {devicegrant.Load{Pending: 10, Polls: 200}, 225 * time.Second},
		"a crowd":                     {devicegrant.Load{Pending: 1 << 40}, 225 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			app := app
			app.Load = tt.load
			terms, err := devicegrant.SpreadPolls(100)(t.Context(), app)
			require.NoError(t, err)
			assert.Equal(t, devicegrant.Terms{Interval: tt.want}, terms)
		})
	}
	app.Lifetime, app.Load.Pending = 10*time.Second, 1000
	terms, err := devicegrant.SpreadPolls(100)(t.Context(), app)
	require.NoError(t, err)
	assert.Equal(t, 5*time.Second, terms.Interval, "it never gets shorter")
}
