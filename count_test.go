package devicegrant

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const width = time.Minute

func pending(c *count) int {
	n, _ := c.sums()
	return n
}

func polls(c *count) float64 {
	_, n := c.sums()
	return n
}

// What is counted of grants that expire at different times, and polled at different
// intervals.
func TestCount(t *testing.T) {
	var c count
	c.add(t0, t0.Add(10*time.Minute), width, 5*time.Second)
	c.add(t0, t0.Add(5*time.Minute), width, 10*time.Second)
	c.add(t0, t0.Add(10*time.Minute), width, 10*time.Second)
	assert.Equal(t, 3, pending(&c))
	assert.InDelta(t, 0.4, polls(&c), 1e-9)

	c.expire(t0.Add(5*time.Minute + width))
	assert.Equal(t, 2, pending(&c), "no later than a slot's width")
	assert.InDelta(t, 0.3, polls(&c), 1e-9)
	assert.True(t, c.remove(t0, t0.Add(10*time.Minute), 5*time.Second))
	assert.InDelta(t, 0.1, polls(&c), 1e-9)
	assert.True(t, c.remove(t0, t0.Add(10*time.Minute), 10*time.Second))
	assert.Zero(t, polls(&c))
	assert.False(t, c.remove(t0, t0.Add(10*time.Minute), 10*time.Second), "nothing is left")
}

// A grant that is over is taken out of the slot in which it was, so that the others are
// forgotten when they expire and not before.
func TestCountRemovesTheRightOne(t *testing.T) {
	early, late := t0.Add(5*time.Minute), t0.Add(10*time.Minute)
	var c count
	c.add(t0, early, width, 5*time.Second)
	c.add(t0, late, width, 5*time.Second)
	c.remove(t0, late, 5*time.Second)
	c.expire(early.Add(width))
	assert.Zero(t, pending(&c))

	c.add(t0, early, width, 5*time.Second)
	c.add(t0, late, width, 5*time.Second)
	c.remove(t0, early, 5*time.Second)
	c.expire(early.Add(width))
	assert.Equal(t, 1, pending(&c))
	c.remove(t0, late.Add(time.Hour), 5*time.Second) // Approval has moved its deadline.
	assert.Zero(t, pending(&c))
}

// A slot ends after the grants in it, by no more than its width, and begins where the one
// before it ends.
func TestSlotEnd(t *testing.T) {
	for _, width := range []time.Duration{62_500 * time.Microsecond, time.Second, 56_250 * time.Millisecond, time.Hour} {
		end := slotEnd(t0, width)
		assert.True(t, end.After(t0) && !end.After(t0.Add(width)), width)
		assert.True(t, slotEnd(end.Add(-time.Microsecond), width).Equal(end), width)
		assert.True(t, slotEnd(end, width).Equal(end.Add(width)), width)
	}
}

// Polls that were slowed down since are taken off in full with the last of their slot.
func TestCountOfSlowedDownPolls(t *testing.T) {
	var c count
	c.add(t0, t0.Add(5*time.Minute), width, 5*time.Second)
	c.add(t0, t0.Add(10*time.Minute), width, 5*time.Second)
	c.remove(t0, t0.Add(5*time.Minute), 20*time.Second)
	assert.Equal(t, 1, pending(&c))
	assert.InDelta(t, 0.2, polls(&c), 1e-9)
}

// However long grants live, a count stays small; nothing is forgotten too early.
func TestCountIsBounded(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var c count
	var expires []time.Time
	for range 1000 {
		at := t0.Add(time.Duration(rng.Int64N(int64(1000 * time.Hour))))
		expires = append(expires, at)
		c.add(t0, at, width, 5*time.Second)
		require.LessOrEqual(t, len(c.slots), maxSlots)
	}
	for now := t0; now.Before(t0.Add(1000 * time.Hour)); now = now.Add(time.Hour) {
		c.expire(now)
		live := 0
		for _, at := range expires {
			if now.Before(at) {
				live++
			}
		}
		require.GreaterOrEqual(t, pending(&c), live)
	}
	c.expire(t0.Add(1001 * time.Hour))
	assert.Zero(t, pending(&c))
	assert.Zero(t, polls(&c))
	assert.Empty(t, c.slots)
}

// Whatever is added and removed, each is one grant, and nothing is left of none.
func TestCountAddsUp(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	var c count
	now := t0
	for range 10_000 {
		now = now.Add(time.Duration(rng.Int64N(int64(3 * time.Second))))
		expires, interval := now.Add(time.Duration(rng.Int64N(int64(time.Hour)))), time.Duration(1+rng.Int64N(60))*time.Second
		c.expire(now)
		want := pending(&c)
		if rng.IntN(2) == 0 {
			c.add(now, expires, width, interval)
			want++
		} else if c.remove(now, expires, interval) {
			want--
		}
		require.Equal(t, want, pending(&c))
		for i, s := range c.slots {
			require.GreaterOrEqual(t, s.pending, 0)
			require.GreaterOrEqual(t, s.polls, 0.0)
			require.True(t, s.pending > 0 || s.polls == 0)
			require.True(t, i == 0 || c.slots[i-1].end.Before(s.end))
		}
	}
}

// How long to wait: until the rate admits one more, and until something expires, which
// may well be sooner than a minute.
func TestCountWaits(t *testing.T) {
	q := Quota{Rate: Limit{Burst: 3, Every: 10 * time.Second}, Pending: 2}
	assert.Zero(t, (*count)(nil).wait(t0, q))
	var c count
	add := func(expires time.Duration) {
		c.add(t0, t0.Add(expires), time.Second, 5*time.Second)
		c.rate = q.rule().charge(c.rate, t0)
	}
	add(19 * time.Second)
	assert.Zero(t, c.wait(t0, q))
	add(time.Hour)
	assert.Equal(t, 20*time.Second, c.wait(t0, q))
	assert.Zero(t, c.wait(t0.Add(20*time.Second), q))
	c = count{rate: c.rate}
	add(time.Hour)
	assert.Equal(t, 10*time.Second, c.wait(t0, q), "by the rate")
	add(time.Hour)
	assert.Equal(t, time.Minute, c.wait(t0, q))
}
