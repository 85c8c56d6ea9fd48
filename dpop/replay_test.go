package dpop

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func idOf(n int) (id [32]byte) {
	binary.BigEndian.PutUint64(id[:], uint64(n))
	return id
}

func (m *memory) use(t *testing.T, n int, expires time.Time) bool {
	t.Helper()
	fresh, err := m.Use(t.Context(), idOf(n), expires)
	require.NoError(t, err)
	held := 0
	for _, used := range m.seconds {
		held += len(used)
	}
	require.Equal(t, held, m.count)
	require.LessOrEqual(t, held, m.max)
	return fresh
}

// Whatever comes in whatever order, nothing is taken twice while it is good, and no more
// is held than there is room for.
func TestMemoryNeverTakesTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, r := newMemory(50), rand.New(rand.NewPCG(1, 2))
		type use struct {
			n       int
			expires time.Time
		}
		var taken []use
		for n := range 5000 {
			u := use{n, time.Now().Add(time.Duration(r.Int64N(int64(30 * time.Second))))}
			if m.use(t, u.n, u.expires) {
				taken = append(taken, u)
			}
			again := taken[r.IntN(len(taken))]
			if !time.Now().After(again.expires) {
				require.False(t, m.use(t, again.n, again.expires))
			}
			time.Sleep(time.Duration(r.Int64N(int64(200 * time.Millisecond))))
		}
		assert.Greater(t, len(taken), 1000)
	})
}

// Under a flood, who comes with a right clock is served all the same.
func TestMemoryUnderFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, n := newMemory(1000), 0
		for range 300 {
			for range 100 {
				n++
				m.use(t, n, time.Now().Add(defaultWindow))
			}
			n++
			require.True(t, m.use(t, n, time.Now().Add(defaultWindow)))
			require.False(t, m.use(t, n, time.Now().Add(defaultWindow)))
			time.Sleep(time.Second)
		}
	})
}

// What has expired makes room, and is not new again when the clock is set back.
func TestMemoryForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(1000)
		expires := time.Now().Add(time.Minute)
		for n := range 100 {
			require.True(t, m.use(t, n, expires))
		}
		time.Sleep(time.Minute)
		require.False(t, m.use(t, 1, expires))
		time.Sleep(time.Second)
		require.True(t, m.use(t, 100, expires.Add(time.Minute)))
		require.Equal(t, 1, m.count)
		require.False(t, m.use(t, 1, expires)) // As if the clock said that it were good.
	})
}
