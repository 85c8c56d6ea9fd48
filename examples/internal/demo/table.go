package demo

import (
	"container/list"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"sync"
	"time"
)

// table is a map of limited size whose entries live equally long from when they
// were last written. When it is full, the oldest makes room. It needs no goroutine:
// a write takes what has expired along.
type table[K comparable, V any] struct {
	max  int
	life time.Duration

	mu      sync.Mutex
	entries map[K]*list.Element
	oldest  *list.List // of *entry[K, V]; the front expires first
}

type entry[K comparable, V any] struct {
	key     K
	value   V
	expires time.Time
}

func newTable[K comparable, V any](limit int, life time.Duration) *table[K, V] {
	return &table[K, V]{max: limit, life: life, entries: make(map[K]*list.Element), oldest: list.New()}
}

func (t *table[K, V]) get(key K) (value V, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.entries[key]; e != nil {
		if e := e.Value.(*entry[K, V]); time.Now().Before(e.expires) {
			return e.value, true
		}
	}
	return value, false
}

func (t *table[K, V]) put(key K, value V) {
	t.update(key, func(V, bool) (V, bool) { return value, true })
}

func (t *table[K, V]) remove(key K) {
	t.update(key, func(v V, _ bool) (V, bool) { return v, false })
}

// update replaces the value of a key, or removes it unless keep is true, while
// nobody else can read or write it. The value that change is given is the zero
// value if there is none.
func (t *table[K, V]) update(key K, change func(value V, ok bool) (_ V, keep bool)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	t.expire(now)
	var value V
	e, ok := t.entries[key]
	if ok {
		value = e.Value.(*entry[K, V]).value
		t.drop(e)
	}
	value, keep := change(value, ok)
	if !keep {
		return
	}
	if len(t.entries) >= t.max {
		t.drop(t.oldest.Front())
	}
	t.entries[key] = t.oldest.PushBack(&entry[K, V]{key, value, now.Add(t.life)})
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
