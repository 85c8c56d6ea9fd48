package dpop

import (
	"encoding/binary"
	"math/rand/v2"
	"runtime"
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
	require.Len(t, m.used, held)
	require.LessOrEqual(t, held, m.most)
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
		require.Len(t, m.used, 1)
		require.False(t, m.use(t, 1, expires)) // As if the clock said that it were good.
	})
}

// An id is known by itself, whatever it is said to expire at.
func TestMemoryKnowsIDs(t *testing.T) {
	m := newMemory(1000)
	require.True(t, m.use(t, 1, time.Now().Add(time.Minute)))
	require.False(t, m.use(t, 1, time.Now().Add(2*time.Minute)))
}

// BenchmarkMemory is one use, the memory full. It says how many bytes that takes.
func BenchmarkMemory(b *testing.B) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	m, n, now := newMemory(maxRemembered), 0, time.Now()
	use := func() {
		n++
		_, _ = m.Use(b.Context(), idOf(n), now.Add(time.Duration(n)*time.Second/1000))
	}
	for range maxRemembered {
		use()
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	b.ReportAllocs()
	for b.Loop() {
		use()
	}
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/1e6, "MB")
}

// However many seconds expire at once, nothing of any of them is new again.
func TestMemoryForgetsMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, start := newMemory(1000), time.Now()
		for n := range 60 {
			require.True(t, m.use(t, n, start.Add(time.Duration(n)*time.Second)))
		}
		time.Sleep(time.Hour)
		for n := range 60 {
			require.False(t, m.use(t, n, start.Add(time.Duration(n)*time.Second)))
		}
		require.Empty(t, m.used)
	})
}
