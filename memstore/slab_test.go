package memstore

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestSlab(t *testing.T) {
	const values = 3*chunkLen + 1
	var s slab[int]
	at := make([]*int, values+1)
	for i := 1; i <= values; i++ {
		slot := s.take()
		require.EqualValues(t, i, slot, "slot 0 is none")
		at[i] = s.at(slot)
		*at[i] = i
	}
	assert.Equal(t, values, s.taken())
	for i := 1; i <= values; i++ {
		assert.Same(t, at[i], s.at(uint32(i)), "a value has moved")
		assert.Equal(t, i, *at[i])
	}

	s.drop(5)
	s.drop(chunkLen)
	assert.Equal(t, values-2, s.taken())
	assert.Equal(t, [2]int{4, 6}, [2]int{*s.at(4), *s.at(6)})
	for _, freed := range []uint32{chunkLen, 5} {
		slot := s.take()
		assert.Equal(t, freed, slot, "freed slots are used first")
		assert.Zero(t, *s.at(slot), "what was there is gone")
	}
	assert.EqualValues(t, values+1, s.take())
	assert.Len(t, s.chunks, 4)
}
