package demo

import (
	"container/list"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"sync"
	"time"
)

// table is a map of limited size whose entries expire, those that were written last
// the latest. When it is full, the oldest makes room. It needs no goroutine: a write
// takes what has expired along.
type table[K comparable, V any] struct {
	max int

	mu      sync.Mutex
	entries map[K]*list.Element
	oldest  *list.List // of *entry[K, V]; the front expires first
}

type entry[K comparable, V any] struct {
	key     K
	value   V
	expires time.Time
}

func newTable[K comparable, V any](limit int) *table[K, V] {
	return &table[K, V]{max: limit, entries: make(map[K]*list.Element), oldest: list.New()}
}

func (t *table[K, V]) get(key K, now time.Time) (value V, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.entries[key]; e != nil {
		if e := e.Value.(*entry[K, V]); now.Before(e.expires) {
			return e.value, true
		}
	}
	return value, false
}

func (t *table[K, V]) put(key K, value V, now, expires time.Time) {
	t.update(key, now, func(V, bool) (V, time.Time, bool) { return value, expires, true })
}

func (t *table[K, V]) remove(key K) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e, ok := t.entries[key]; ok {
		t.drop(e)
	}
}

// update replaces the value of a key, or removes it unless keep is true, while
// nobody else can read or write it. The value that change is given is the zero
// value if there is none.
func (t *table[K, V]) update(key K, now time.Time, change func(value V, ok bool) (_ V, expires time.Time, keep bool)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.expire(now)
	var value V
	e, ok := t.entries[key]
	if ok {
		value = e.Value.(*entry[K, V]).value
		t.drop(e)
	}
	value, expires, keep := change(value, ok)
	if !keep {
		return
	}
	if len(t.entries) >= t.max {
		t.drop(t.oldest.Front())
	}
	t.entries[key] = t.oldest.PushBack(&entry[K, V]{key, value, expires})
}

func (t *table[K, V]) expire(now time.Time) {
	for e := t.oldest.Front(); e != nil && !now.Before(e.Value.(*entry[K, V]).expires); e = t.oldest.Front() {
		t.drop(e)
	}
}

func (t *table[K, V]) drop(e *list.Element) {
	delete(t.entries, e.Value.(*entry[K, V]).key)
	t.oldest.Remove(e)
}

// digest is the SHA-256 digest of a secret. Random secrets are kept as such, so
// that who reads memory or a dump cannot use them, and looking one up tells nothing
// by how long it takes.
type digest [sha256.Size]byte

func digestOf(secret string) digest { return sha256.Sum256([]byte(secret)) }

// newSecret returns 256 random bits as text.
func newSecret() string {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // It never fails.
	return base64.RawURLEncoding.EncodeToString(b)
}
