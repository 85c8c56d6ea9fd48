package devicegrant

import "time"

// count is the grants that are pending of a client, of an address, or in all: how many,
// how often they poll, and how fast they were created. Its methods are pure but for
// what they change in it; the nil count is empty to those that only read.
type count struct {
	rate     Tally  // of Quota.Rate
	slots    []slot // in the order of their ends
	arrivals arrivals
}

// slot is the grants that expire at about the same time.
type slot struct {
	end     time.Time // no grant in it expires later
	pending int
	polls   float64 // a second; zero if none is pending
}

const (
	// slotsInLifetime is how many slots a lifetime is divided into: a grant that expires
	// counts for up to a sixteenth of a lifetime longer.
	slotsInLifetime = 16
	// maxSlots bounds the slots. Where lifetimes are longer, those of the last are put
	// together.
	maxSlots = 64
	// fullWait is the longest that somebody is told to wait because too many grants are
	// pending: they can end at any time.
	fullWait = time.Minute
)

// expire forgets what has expired.
func (c *count) expire(now time.Time) {
	n := 0
	for n < len(c.slots) && !now.Before(c.slots[n].end) {
		n++
	}
	c.slots = append(c.slots[:0], c.slots[n:]...)
}

// sums is how many grants are pending, and how often they poll, a second.
func (c *count) sums() (pending int, polls float64) {
	for _, s := range c.slots {
		pending += s.pending
		polls += s.polls
	}
	return pending, polls
}

// add counts a grant.
func (c *count) add(now, expires time.Time, width, interval time.Duration) {
	c.expire(now)
	s := c.slot(slotEnd(expires, width))
	s.pending++
	s.polls += perSecond(interval)
	c.arrivals.add(now)
}

// slotEnd is when the slot ends that a grant is in: at a multiple of the width, which is
// in whole microseconds. Time.Truncate would do, at several times the cost.
func slotEnd(expires time.Time, width time.Duration) time.Time {
	at, every := expires.UnixMicro(), width.Microseconds()
	return time.UnixMicro(at - at%every + every)
}

// slot returns the slot that ends then. Nearly always it is the last, or a new one after
// it.
func (c *count) slot(end time.Time) *slot {
	i := len(c.slots)
	for i > 0 && c.slots[i-1].end.After(end) {
		i--
	}
	switch {
	case i > 0 && c.slots[i-1].end.Equal(end):
		return &c.slots[i-1]
	case len(c.slots) == maxSlots:
		last := &c.slots[maxSlots-1]
		if last.end.Before(end) {
			last.end = end
		}
		return &c.slots[min(i, maxSlots-1)]
	}
	c.slots = append(c.slots, slot{})
	copy(c.slots[i+1:], c.slots[i:])
	c.slots[i] = slot{end: end}
	return &c.slots[i]
}

// remove forgets a grant that is over, in the first slot that it can be in: its deadline
// may have been moved since. It reports whether there was any.
func (c *count) remove(now, expires time.Time, interval time.Duration) bool {
	c.expire(now)
	if pending, _ := c.sums(); pending == 0 {
		return false
	}
	i := 0
	for i < len(c.slots)-1 && (c.slots[i].pending == 0 || !c.slots[i].end.After(expires)) {
		i++
	}
	for c.slots[i].pending == 0 {
		i--
	}
	s := &c.slots[i]
	s.pending--
	s.polls = max(0, s.polls-perSecond(interval))
	if s.pending == 0 {
		s.polls = 0 // Slowed down polls, and fractions.
	}
	return true
}

// wait is how long it is until one more can be created; zero if it is now.
func (c *count) wait(now time.Time, q Quota) time.Duration {
	if c == nil {
		return 0
	}
	c.expire(now)
	wait := q.rule().wait(c.rate, now)
	if pending, _ := c.sums(); pending >= q.Pending {
		wait = max(wait, min(fullWait, c.slots[0].end.Sub(now)))
	}
	return wait
}

func perSecond(interval time.Duration) float64 { return float64(time.Second) / float64(interval) }

// arrivals is how many came in each of the last ten seconds.
type arrivals struct {
	last int64 // the second of the latest
	n    [10]int
}

func (a *arrivals) add(now time.Time) {
	a.move(now)
	a.n[a.last%int64(len(a.n))]++
}

// move forgets what came more than ten seconds before now. A clock that stepped back
// changes nothing.
func (a *arrivals) move(now time.Time) {
	second := now.Unix()
	if second-a.last >= int64(len(a.n)) {
		*a = arrivals{last: second}
		return
	}
	for ; a.last < second; a.last++ {
		a.n[(a.last+1)%int64(len(a.n))] = 0
	}
}

func (a *arrivals) perSecond(now time.Time) float64 {
	a.move(now)
	total := 0
	for _, n := range a.n {
		total += n
	}
	return float64(total) / float64(len(a.n))
}
