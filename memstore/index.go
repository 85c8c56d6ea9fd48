package memstore

import (
	"encoding/binary"
	"math/bits"
)

// index finds slots by the hashes of their keys. It is a hash table with open addressing
// and linear probing, of eight bytes an entry. The keys are where the slots are: whoever
// looks for one compares it there. Hashes are kept, so that the table grows, and closes the
// gap that a removed entry leaves, without looking at keys.
type index struct {
	entries []entry
	size    uint32 // len(entries)
	count   uint32
}

// entry is empty when its slot is zero.
type entry struct{ hash, slot uint32 }

// firstSize is that of an index with an entry. It grows by a quarter when four of five
// entries are in use.
const firstSize = 8

// find returns the slot with that hash for which is reports true, zero if there is none.
func (x *index) find(hash uint32, is func(slot uint32) bool) uint32 {
	if x.count == 0 {
		return 0
	}
	for i := x.home(hash); x.entries[i].slot != 0; i = x.next(i) {
		if e := x.entries[i]; e.hash == hash && is(e.slot) {
			return e.slot
		}
	}
	return 0
}

func (x *index) insert(hash, slot uint32) {
	if x.count >= x.size-x.size/5 {
		x.grow()
	}
	x.count++
	x.place(entry{hash, slot})
}

// remove removes one entry with that hash and slot, if there is one.
func (x *index) remove(hash, slot uint32) {
	if x.count == 0 {
		return
	}
	gap := x.home(hash)
	for x.entries[gap] != (entry{hash, slot}) {
		if x.entries[gap].slot == 0 {
			return
		}
		gap = x.next(gap)
	}
	x.count--
	// An entry behind the gap moves into it, unless that is before its home.
	for i := x.next(gap); x.entries[i].slot != 0; i = x.next(i) {
		if x.distance(x.home(x.entries[i].hash), i) >= x.distance(gap, i) {
			x.entries[gap] = x.entries[i]
			gap = i
		}
	}
	x.entries[gap] = entry{}
}

func (x *index) grow() {
	old := x.entries
	x.size = max(firstSize, x.size+x.size/4)
	x.entries = make([]entry, x.size)
	for _, e := range old {
		if e.slot != 0 {
			x.place(e)
		}
	}
}

func (x *index) place(e entry) {
	i := x.home(e.hash)
	for x.entries[i].slot != 0 {
		i = x.next(i)
	}
	x.entries[i] = e
}

// home is where an entry is unless others are in its way. It grows with the hash, so that
// a table is read and written from its beginning to its end when it grows.
func (x *index) home(hash uint32) uint32 {
	home, _ := bits.Mul32(hash, x.size)
	return home
}

func (x *index) next(i uint32) uint32 {
	if i++; i < x.size {
		return i
	}
	return 0
}

// distance is how many steps lead from one position to another.
func (x *index) distance(from, to uint32) uint32 {
	if to < from {
		to += x.size
	}
	return to - from
}

// hashDigest is of all bytes, for a digest that was not made by hashing may differ in any.
func hashDigest(digest [32]byte) uint32 {
	var hash uint32
	for i := 0; i < len(digest); i += 4 {
		hash ^= binary.LittleEndian.Uint32(digest[i:])
	}
	return hash
}
