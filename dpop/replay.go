package dpop

import (
	"context"
	"crypto/sha256"
	"math"
	"sync"
	"time"
)

// Replay remembers which proofs were used (section 11.1). Replicas that share one, such
// as a table with a unique column or a cache with "set if absent", take no proof twice.
// It is called concurrently, and only for proofs that are valid otherwise.
type Replay interface {
	// Use remembers id until expires, and reports whether it was not remembered before.
	// Of several calls with the same id at once, one reports true. id is a digest and no
	// secret. Whatever has no room for it reports false or fails: an id that was
	// forgotten before expires can be used again.
	//
	// An error means that this could not be found out. The proof is refused then, and
	// ProvenKey and Resource return the error.
	Use(ctx context.Context, id [sha256.Size]byte, expires time.Time) (bool, error)
}

// maxRemembered is how many proofs memory remembers unless a test says otherwise: a
// thousand a second for longer than the default Window.
const maxRemembered = 1 << 18

// memory is a Replay that never takes a proof twice and never holds more than most.
//
// Anyone can sign proofs with a key of their own, so it can be filled. Were it then to
// refuse everything, nobody could log in; were it to forget, what was forgotten could be
// used again. So it forgets the second in which the first proofs expire, and from then on
// refuses whatever expires in it or before: under a flood, proofs are good for a shorter
// time, and those of clients whose clock is right are still taken.
type memory struct {
	most int

	mu      sync.Mutex
	used    map[useID]struct{}
	seconds map[int64][]useID // those of used, by when they expire
	floor   int64             // nothing that expires in this second or before is taken
	purged  int64             // the second of the last purge
}

type useID = [sha256.Size]byte

func newMemory(most int) *memory {
	return &memory{most: most, used: make(map[useID]struct{}), seconds: make(map[int64][]useID), floor: math.MinInt64}
}

func (m *memory) Use(_ context.Context, id useID, expires time.Time) (bool, error) {
	now, second := time.Now().Unix(), expires.Unix()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.purge(now)
	if _, ok := m.used[id]; ok || second <= m.floor {
		return false, nil
	}
	m.used[id] = struct{}{}
	m.seconds[second] = append(m.seconds[second], id)
	for len(m.used) > m.most {
		m.forgetFirst()
	}
	return true, nil
}

// purge forgets what has expired, once a second.
func (m *memory) purge(now int64) {
	if now == m.purged {
		return
	}
	m.purged = now
	for second := range m.seconds {
		if second < now {
			m.forget(second)
		}
	}
}

// forgetFirst forgets the second that expires first.
func (m *memory) forgetFirst() {
	first := int64(math.MaxInt64)
	for second := range m.seconds {
		first = min(first, second)
	}
	m.forget(first)
}

// forget raises the floor as well, so that not even a clock that is set back makes any of
// this new again.
func (m *memory) forget(second int64) {
	for _, id := range m.seconds[second] {
		delete(m.used, id)
	}
	delete(m.seconds, second)
	m.floor = max(m.floor, second)
}
