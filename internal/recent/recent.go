// Package recent has a map that forgets what has not been used for long, so that
// whoever makes up keys cannot fill the memory.
package recent

import (
	"errors"
	"sync"
)

// DefaultMax is how many keys a Map keeps when New is given zero.
const DefaultMax = 1 << 16

// Map keeps values under the keys that were used last: as many of them as New was given
// at least, twice as many at most. It is safe for concurrent use.
//
// Keys in use are in the young generation. When that is full it becomes the old one, of
// which whatever is used again comes back, and the rest is forgotten with the next.
type Map[K comparable, V any] struct {
	most int // in a generation

	mu         sync.Mutex
	young, old map[K]V
}

// New returns an empty Map that keeps the last most keys; zero stands for DefaultMax.
func New[K comparable, V any](most int) *Map[K, V] {
	if most == 0 {
		most = DefaultMax
	}
	return &Map[K, V]{most: most, young: make(map[K]V)}
}

// Values returns the values of the keys, each the zero V if there is none, as they were
// at one moment, and uses the keys.
func (m *Map[K, V]) Values(keys []K) []V {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.useAll(keys)
}

// Update stores what f makes of the keys' values, each the zero V if there is none.
// Nobody else uses the Map meanwhile. When f fails, its error is returned and nothing
// is stored.
func (m *Map[K, V]) Update(keys []K, f func(values []V) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	values := m.useAll(keys)
	if err := f(values); err != nil {
		return err
	}
	for i, key := range keys {
		m.store(key, values[i])
	}
	return nil
}

var errStale = errors.New("recent: another version is stored")

// Swap stores the values, with one added to the version of each, if those that are
// stored have the same versions. Otherwise it stores nothing and reports false. version
// says where a value has its version.
func (m *Map[K, V]) Swap(keys []K, values []V, version func(*V) *int64) bool {
	err := m.Update(keys, func(stored []V) error {
		for i, value := range values {
			if *version(&stored[i]) != *version(&value) {
				return errStale
			}
			*version(&value)++
			stored[i] = value
		}
		return nil
	})
	return err == nil
}

// Purge deletes up to limit values of which over reports true, and returns how many it
// deleted. It goes through all values and keeps everybody else waiting.
func (m *Map[K, V]) Purge(over func(V) bool, limit int) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := 0
	for _, generation := range []map[K]V{m.old, m.young} {
		for key, value := range generation {
			if n >= limit {
				return n
			}
			if over(value) {
				delete(generation, key)
				n++
			}
		}
	}
	return n
}

func (m *Map[K, V]) useAll(keys []K) []V {
	values := make([]V, len(keys))
	for i, key := range keys {
		values[i] = m.use(key)
	}
	return values
}

// use returns the value of the key, which is in the young generation then, if there is
// one.
func (m *Map[K, V]) use(key K) V {
	value, ok := m.old[key]
	if !ok {
		return m.young[key]
	}
	delete(m.old, key)
	m.store(key, value)
	return value
}

// store writes to the young generation. No key is in both.
func (m *Map[K, V]) store(key K, value V) {
	if len(m.young) >= m.most {
		if _, ok := m.young[key]; !ok {
			m.young, m.old = make(map[K]V), m.young
		}
	}
	m.young[key] = value
}
