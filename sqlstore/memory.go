package sqlstore

import (
	"errors"
	"sync"
	"time"

	"github.com/devicegrant/devicegrant"
	"github.com/devicegrant/devicegrant/internal/recent"
)

const (
	// trusted is for how long a decision that was made elsewhere may stay unknown to a
	// device that polls too early.
	trusted = 10 * time.Second

	// maxUnsaved bounds the paces of which the database does not know. While there are
	// as many, it is asked about early polls too.
	maxUnsaved = recent.DefaultMax
)

// known is what this process knows of a grant that it has polled. The zero known is
// nothing.
type known struct {
	polled  devicegrant.Polled // what the last poll was answered
	asked   time.Time          // when the database was, last
	pending bool               // so it said, and nobody has told this process otherwise
}

// early returns the pace after a poll that the database need not be asked about: one that
// is too early, or the last one sent twice, so that it learns nothing of a decision anyway,
// as far as anybody here knows.
func (k *known) early(clientID string, now time.Time) (next devicegrant.Pace, ok bool) {
	p := &k.polled
	if !k.pending || p.ClientID != clientID || !now.Before(p.ExpiresAt) || now.Sub(k.asked).Abs() >= trusted {
		return next, false
	}
	next = p.Pace.Next(now)
	return next, next.OnTime.Equal(p.Pace.OnTime)
}

// change is what polls that were answered from memory made of the pace in the database.
type change struct{ before, after devicegrant.Pace }

// slows reports whether the interval has grown.
func (c *change) slows() bool { return c.after.Interval > c.before.Interval }

// matters reports whether the database has to know of the change to record a poll at now.
func (c *change) matters(now time.Time) bool {
	return c.before.Next(now) != c.after.Next(now)
}

// on returns the pace with the change: all of it if the pace is the one that was changed,
// and what it has made of the interval if others have polled meanwhile.
func (c *change) on(p devicegrant.Pace) devicegrant.Pace {
	if p == c.before {
		return c.after
	}
	p.Interval = max(p.Interval, c.after.Interval)
	return p
}

// memory is what this process knows of polls: enough to tell a device that it polls too
// early without a query. It is safe for concurrent use. Whoever records a poll of a grant
// has the grant's turn.
type memory struct {
	exact bool // The database is asked about every poll.
	known *recent.Map[devicegrant.DeviceCodeDigest, known]

	mu      sync.Mutex
	unsaved map[devicegrant.DeviceCodeDigest]change
	grown   []devicegrant.DeviceCodeDigest // Those of unsaved with a longer interval, and some that were.
	saves   uint64                         // how many changes were taken out of unsaved
	purged  time.Time                      // Grants that expired before may be gone.

	// decisions counts those that were made or heard of here, by the first byte of the device
	// code: what a query that began before one has read may be out of date.
	decisions [256]uint64
}

func newMemory(exact bool) *memory {
	return &memory{
		exact:   exact,
		known:   recent.New[devicegrant.DeviceCodeDigest, known](0),
		unsaved: make(map[devicegrant.DeviceCodeDigest]change),
	}
}

// early answers a poll, if the database need not be asked.
func (m *memory) early(f *flight) (p devicegrant.Polled, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c, changed := m.unsaved[f.code]
	slowed := c.slows()
	if m.exact || !changed && len(m.unsaved) >= maxUnsaved {
		return p, false
	}
	_ = m.known.Update([]devicegrant.DeviceCodeDigest{f.code}, func(k []known) error {
		if k[0].polled.ExpiresAt.Before(m.purged) {
			return errUnknown
		}
		var next devicegrant.Pace
		if next, ok = k[0].early(f.clientID, f.now); !ok {
			return errUnknown
		}
		if !changed {
			c.before = k[0].polled.Pace
		}
		c.after, k[0].polled.Pace = next, next
		p = k[0].polled
		return nil
	})
	if ok {
		m.unsaved[f.code] = c
	}
	if ok && c.slows() && !slowed && len(m.grown) < maxUnsaved {
		m.grown = append(m.grown, f.code)
	}
	return p, ok
}

var errUnknown = errors.New("sqlstore: the database has to be asked")

// begin is called before the database is asked about a poll, and finds the change that it
// has to be told of first.
func (m *memory) begin(f *flight) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f.decisions = m.decisions[f.code[0]]
	k := m.known.Values([]devicegrant.DeviceCodeDigest{f.code})[0]
	f.again, f.last = k.polled.State != 0 && k.polled.ClientID == f.clientID, k.polled
	if c, ok := m.unsaved[f.code]; ok && c.matters(f.now) {
		f.change = &c
	}
}

// end is called with what the database has answered.
func (m *memory) end(f *flight) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var k known
	if f.err == nil {
		k = known{f.polled, f.now, f.polled.State == devicegrant.Pending && m.decisions[f.code[0]] == f.decisions}
	}
	m.set(f.code, k)
	if f.err == nil {
		m.forget(f.code)
	}
}

func (m *memory) set(code devicegrant.DeviceCodeDigest, k known) {
	_ = m.known.Update([]devicegrant.DeviceCodeDigest{code}, func(stored []known) error {
		stored[0] = k
		return nil
	})
}

// created forgets a grant of the same device code.
func (m *memory) created(code devicegrant.DeviceCodeDigest) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.set(code, known{})
	m.forget(code)
}

// decided is called when a grant has been written, or may have been: from then on the
// database is asked.
func (m *memory) decided(code devicegrant.DeviceCodeDigest) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.decisions[code[0]]++
	_ = m.known.Update([]devicegrant.DeviceCodeDigest{code}, func(k []known) error {
		if !k[0].pending {
			return errUnknown
		}
		k[0].pending = false
		return nil
	})
}

// purge is called before grants are purged.
func (m *memory) purge(before time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if before.After(m.purged) {
		m.purged = before
	}
}

// saved returns how many changes have been saved, for read.
func (m *memory) saved() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.saves
}

// read completes what was read of a grant, and takes note of a decision. It reports whether
// that is all: a change that was saved since the query began may be missing.
func (m *memory) read(g *devicegrant.Grant, saved uint64) (whole bool) {
	if g.State != devicegrant.Pending {
		m.decided(g.DeviceCode)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if c, ok := m.unsaved[g.DeviceCode]; ok {
		g.Pace = c.on(g.Pace)
	}
	return m.saves == saved
}

// change returns the change of a grant, nil if there is none.
func (m *memory) change(code devicegrant.DeviceCodeDigest) *change {
	m.mu.Lock()
	defer m.mu.Unlock()
	if c, ok := m.unsaved[code]; ok {
		return &c
	}
	return nil
}

// save forgets the change of a grant: the database knows of it.
func (m *memory) save(code devicegrant.DeviceCodeDigest) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.forget(code)
}

func (m *memory) forget(code devicegrant.DeviceCodeDigest) {
	if _, ok := m.unsaved[code]; ok {
		delete(m.unsaved, code)
		m.saves++
	}
}

// slowed returns a grant whose interval has grown though no other replica knows: one of
// those might leave it too little time to collect its tokens.
func (m *memory) slowed() (code devicegrant.DeviceCodeDigest, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.grown) == 0 {
		return code, false
	}
	code, m.grown = m.grown[0], m.grown[1:]
	return code, true
}
