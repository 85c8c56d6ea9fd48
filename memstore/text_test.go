package memstore

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestCells(t *testing.T) {
	var c cells
	const alphabet = "abcdefghijklmnopqrstuvwxyz"
	firsts := make(map[int]uint32)
	text := func(length int) string { return strings.Repeat(alphabet, 10)[length%7:][:length] }
	for range 3 { // Cells that were freed are used again.
		for length := range 4*cellLen + 2 {
			firsts[length] = c.put([]byte(text(length)))
		}
		for length, first := range firsts {
			want := text(length)
			got := string(c.appendTo([]byte("<"), first))
			require.Equal(t, "<"+want, strings.TrimRight(got, "\x00"))
			require.Zero(t, (len(got)-1)%cellLen)
			require.True(t, c.begins(first, want))
			for i := range want {
				require.True(t, c.begins(first, want[:i]))
				require.False(t, c.begins(first, want[:i]+"*"+want[i+1:]), "byte %d of %d", i, length)
			}
		}
		for _, first := range firsts {
			c.free(first)
		}
		require.Zero(t, c.slab.taken())
	}
	assert.Zero(t, c.put(nil), "the empty text is slot 0")
	assert.Less(t, int(c.slab.last), 4*5*cellLen)
}

// Every field comes back from what the ones before it left, the last from nothing, too.
func FuzzFields(f *testing.F) {
	f.Add("", "", "")
	f.Add("a", "", strings.Repeat("b", 200))
	f.Add("\x00", "\xff\xff", "\x00")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		rest := append(appendField(appendField(appendField(nil, a), b), c), 0)
		for _, want := range []string{a, b, c, "", ""} {
			var got string
			got, rest = cutField(rest)
			assert.Equal(t, want, got)
		}
		assert.Empty(t, rest)
	})
}
