package memstore

import (
	"hash/maphash"
	"sync"
)

// intern keeps each text once, however many grants have it, by its slot. The last grant
// to go takes the text with it, so that whoever makes texts up cannot fill the memory with
// them. The empty text is slot 0. Whoever has the intern has its lock.
type intern struct {
	index index
	texts slab[text]
}

type text struct {
	first  uint32 // of its cells
	hash   uint32
	length int
	count  int // of those that have it
}

// seed keeps whoever makes texts up from choosing their hashes.
var seed = maphash.MakeSeed()

func hashText(s string) uint32 {
	return uint32(maphash.String(seed, s) >> 32)
}

// add returns the slot of the text, which one more has.
func (t *intern) add(c *cells, s string) uint32 {
	if s == "" {
		return 0
	}
	hash := hashText(s)
	slot := t.index.find(hash, func(slot uint32) bool { return t.is(c, slot, s) })
	if slot == 0 {
		slot = t.texts.take()
		*t.texts.at(slot) = text{first: c.put([]byte(s)), hash: hash, length: len(s)}
		t.index.insert(hash, slot)
	}
	t.texts.at(slot).count++
	return slot
}

// release takes back one add, and reports whether the text is gone.
func (t *intern) release(c *cells, slot uint32) (gone bool) {
	if slot == 0 {
		return false
	}
	text := t.texts.at(slot)
	if text.count--; text.count > 0 {
		return false
	}
	c.free(text.first)
	t.index.remove(text.hash, slot)
	t.texts.drop(slot)
	return true
}

// is reports whether the text is s. It does not allocate.
func (t *intern) is(c *cells, slot uint32, s string) bool {
	if slot == 0 || s == "" {
		return slot == 0 && s == ""
	}
	text := t.texts.at(slot)
	return text.length == len(s) && c.begins(text.first, s)
}

// text returns the text.
func (t *intern) text(c *cells, slot uint32) string {
	if slot == 0 {
		return ""
	}
	var buf [512]byte
	text := t.texts.at(slot)
	return string(c.appendTo(buf[:0], text.first)[:text.length])
}

// sharedShards is a power of two.
const sharedShards = 64

// shared is an intern for the grants of all shards, for texts of which there are too many
// to keep each in every shard. It is safe for concurrent use.
type shared [sharedShards]struct {
	sync.Mutex
	texts intern
	cells cells
}

// add returns the number of the text, which one more has.
func (t *shared) add(s string) uint32 {
	n := hashText(s) % sharedShards
	shard := &t[n]
	shard.Lock()
	defer shard.Unlock()
	return shard.texts.add(&shard.cells, s)*sharedShards + n
}

// release takes back one add.
func (t *shared) release(number uint32) {
	shard := &t[number%sharedShards]
	shard.Lock()
	defer shard.Unlock()
	shard.texts.release(&shard.cells, number/sharedShards)
}

// text returns the text.
func (t *shared) text(number uint32) string {
	shard := &t[number%sharedShards]
	shard.Lock()
	defer shard.Unlock()
	return shard.texts.text(&shard.cells, number/sharedShards)
}
