package memstore

import (
	"maps"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// hashes draws from few homes, at the end of the table, too, or from all.
var hashes = map[string]func(*rand.Rand) uint32{
	"anywhere":   (*rand.Rand).Uint32,
	"all equal":  func(*rand.Rand) uint32 { return 1 << 31 },
	"all zero":   func(*rand.Rand) uint32 { return 0 },
	"at the end": func(r *rand.Rand) uint32 { return math.MaxUint32 - r.Uint32N(3) },
	"few":        func(r *rand.Rand) uint32 { return r.Uint32N(16) << 28 },
	"one home":   func(r *rand.Rand) uint32 { return r.Uint32N(100) },
}

// TestIndex does at random what a Go map does as well: slots are its keys, for a slot has
// one hash.
func TestIndex(t *testing.T) {
	for name, draw := range hashes {
		t.Run(name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(1, 8628))
			var x index
			want := make(map[uint32]uint32)
			for step := range 6000 {
				slot := 1 + r.Uint32N(300)
				hash, there := want[slot]
				switch {
				case !there && step%1000 < 600: // It grows, and then shrinks.
					want[slot] = draw(r)
					x.insert(want[slot], slot)
				case there:
					x.remove(hash, slot)
					delete(want, slot)
				default:
					x.remove(draw(r), slot) // It is not there.
				}
				if step%50 == 0 {
					wantIndex(t, &x, want)
				}
			}
			for slot, hash := range want {
				x.remove(hash, slot)
			}
			wantIndex(t, &x, nil)
		})
	}
}

func wantIndex(t *testing.T, x *index, want map[uint32]uint32) {
	t.Helper()
	require.EqualValues(t, len(want), x.count)
	got := make(map[uint32]uint32)
	for _, e := range x.entries {
		if e.slot != 0 {
			got[e.slot] = e.hash
		}
	}
	require.True(t, maps.Equal(want, got), "there is %v, want %v", got, want)
	for slot, hash := range want {
		require.Equal(t, slot, x.find(hash, func(s uint32) bool { return s == slot }))
		require.Zero(t, x.find(hash+1, func(s uint32) bool { return s == slot }), "found by another hash")
		require.Zero(t, x.find(hash, func(uint32) bool { return false }))
	}
}

// Entries that were removed leave nothing that others have to step over.
func TestIndexStaysAsGoodAsNew(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 8628))
	var x index
	const live = 1000
	at := make([]uint32, live)
	for slot := range uint32(live) {
		at[slot] = r.Uint32()
		x.insert(at[slot], slot+1)
	}
	size, steps := x.size, x.steps()
	assert.Less(t, size, uint32(live*16/10), "it is no more than a quarter larger than it needs to be")
	for range 200 * live {
		slot := r.Uint32N(live)
		x.remove(at[slot], slot+1)
		at[slot] = r.Uint32()
		x.insert(at[slot], slot+1)
	}
	assert.Equal(t, size, x.size)
	assert.Less(t, x.steps(), 2*steps+live)
}

// steps is how far all entries are from home.
func (x *index) steps() int {
	n := 0
	for i, e := range x.entries {
		if e.slot != 0 {
			n += int(x.distance(x.home(e.hash), uint32(i)))
		}
	}
	return n
}

func TestHashDigest(t *testing.T) {
	seen := make(map[uint32]int)
	for i := range 32 {
		var digest [32]byte
		digest[i] = 1
		seen[hashDigest(digest)]++
	}
	assert.Len(t, seen, 4, "it is a sum of words")
	assert.NotContains(t, seen, uint32(0), "every byte counts")
}
