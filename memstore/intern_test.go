package memstore

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestTextsAreKeptOnceEach(t *testing.T) {
	var texts intern
	var c cells
	long := strings.Repeat("x", 3*cellLen)
	all := []string{"tv", "t", "tvs", long, long + "x", long[1:], "\x00", "\x00\x00", ""}
	slots := make(map[uint32]string)
	for range 3 {
		for _, text := range all {
			slots[texts.add(&c, text)] = text
		}
	}
	require.Len(t, slots, len(all))
	assert.Equal(t, len(all)-1, texts.texts.taken(), "the empty text takes no room")
	for slot, text := range slots {
		assert.Equal(t, text, texts.text(&c, slot))
		for _, other := range all {
			assert.Equal(t, text == other, texts.is(&c, slot, other), "%.5q and %.5q", text, other)
		}
	}
	for round := range 3 {
		for slot := range slots {
			texts.release(&c, slot)
		}
		assert.Equal(t, round < 2, texts.texts.taken() > 0, "kept until the last is gone, and no longer")
	}
	assert.Zero(t, c.slab.taken())
	assert.Zero(t, texts.index.count)
}

// A text that is made up takes the room of one that is gone.
func TestTextsAreBounded(t *testing.T) {
	var agents shared
	r := rand.New(rand.NewPCG(3, 8628))
	const live = 500
	numbers, texts := make([]uint32, live), make([]string, live)
	for range 100 * live {
		i := r.IntN(live)
		if numbers[i] != 0 {
			require.Equal(t, texts[i], agents.text(numbers[i]))
			agents.release(numbers[i])
		}
		texts[i] = strings.Repeat(string(rune('a'+r.IntN(26))), r.IntN(300))
		numbers[i] = agents.add(texts[i])
	}
	room, index := 0, 0
	for i := range agents {
		room += int(agents[i].texts.texts.last)
		index += int(agents[i].texts.index.size)
	}
	assert.Less(t, room, 4*live)
	assert.Less(t, index, 8*live)
	for i, number := range numbers {
		if texts[i] != "" || number != 0 {
			agents.release(number)
		}
	}
	for i := range agents {
		assert.Zero(t, agents[i].texts.texts.taken())
		assert.Zero(t, agents[i].cells.slab.taken())
		assert.Zero(t, agents[i].texts.index.count)
	}
}

func TestTextIsComparedWithoutAllocating(t *testing.T) {
	var texts intern
	var c cells
	long := "https://client.example.com/" + strings.Repeat("x", 1000)
	slot := texts.add(&c, long)
	assert.Zero(t, testing.AllocsPerRun(100, func() {
		if !texts.is(&c, slot, long) {
			t.Error("it is another text")
		}
	}))
}
