package main

import (
	"crypto/sha256"
	"maps"
	"sync"
	"time"
)

// digest is what is kept of a secret, so that nobody who reads the memory can use it, and
// looking it up tells nothing by how long that takes.
type digest [sha256.Size]byte

func digestOf(secret string) digest { return sha256.Sum256([]byte(secret)) }

// table is a map of limited size whose entries expire. When it is full, those that have
// expired make room, or else the one that expires first.
type table[V any] struct {
	limit   int
	mu      sync.Mutex
	entries map[digest]entry[V]
}

type entry[V any] struct {
	value   V
	expires time.Time
}

func newTable[V any](limit int) *table[V] {
	return &table[V]{limit: limit, entries: map[digest]entry[V]{}}
}

func (t *table[V]) get(key digest) (value V, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e, ok := t.entries[key]
	if !ok || !time.Now().Before(e.expires) {
		return value, false
	}
	return e.value, true
}

func (t *table[V]) put(key digest, value V, life time.Duration) {
	t.update(key, life, func(V, bool) (V, bool) { return value, true })
}

// update replaces the value of a key, or removes it unless keep is true, while nobody
// else can read or write it.
func (t *table[V]) update(key digest, life time.Duration, change func(value V, ok bool) (_ V, keep bool)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	old, ok := t.entries[key]
	if ok && !now.Before(old.expires) {
		old, ok = entry[V]{}, false
	}
	delete(t.entries, key)
	value, keep := change(old.value, ok)
	if !keep {
		return
	}
	if len(t.entries) >= t.limit {
		t.makeRoom(now)
	}
	t.entries[key] = entry[V]{value, now.Add(life)}
}

// removeAll removes every entry that matches.
func (t *table[V]) removeAll(match func(value V) bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	maps.DeleteFunc(t.entries, func(_ digest, e entry[V]) bool { return match(e.value) })
}

func (t *table[V]) makeRoom(now time.Time) {
	var first digest
	var expires time.Time
	for key, e := range t.entries {
		if expires.IsZero() || e.expires.Before(expires) {
			first, expires = key, e.expires
		}
	}
	delete(t.entries, first)
	maps.DeleteFunc(t.entries, func(_ digest, e entry[V]) bool { return !now.Before(e.expires) })
}
