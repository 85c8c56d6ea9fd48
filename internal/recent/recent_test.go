package recent_test

import (
	"encoding/binary"
	"errors"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/devicegrant/devicegrant"
	"github.com/devicegrant/devicegrant/internal/recent"
)

func put(t *testing.T, m *recent.Map[int, int], key, value int) {
	t.Helper()
	require.NoError(t, m.Update([]int{key}, func(values []int) error { values[0] = value; return nil }))
}

func get[K comparable, V any](m *recent.Map[K, V], key K) V { return m.Values([]K{key})[0] }

// kept returns how many values there are.
func kept(t *testing.T, m *recent.Map[int, int]) (n int) {
	t.Helper()
	require.Zero(t, m.Purge(func(int) bool { n++; return false }, 1))
	return n
}

func TestGetAndUpdate(t *testing.T) {
	m := recent.New[string, int](10)
	assert.Zero(t, get(m, "a"))
	add := func(values []int) error {
		for i := range values {
			values[i]++
		}
		return nil
	}
	for range 2 {
		require.NoError(t, m.Update([]string{"a"}, add))
	}
	require.NoError(t, m.Update([]string{"a", "b"}, add))
	assert.Equal(t, []int{3, 1, 0}, []int{get(m, "a"), get(m, "b"), get(m, "c")})

	failed := errors.New("failed")
	require.ErrorIs(t, m.Update([]string{"a", "c"}, func(values []int) error { values[0], values[1] = 99, 99; return failed }), failed)
	assert.Equal(t, []int{3, 0}, []int{get(m, "a"), get(m, "c")}, "a failed Update stores nothing")
}

// Values are swapped all or none, by their versions, and what was given stays as it was.
func TestSwap(t *testing.T) {
	type versioned struct {
		text    string
		version int64
	}
	version := func(v *versioned) *int64 { return &v.version }
	m := recent.New[string, versioned](10)
	keys, given := []string{"a", "b"}, []versioned{{"one", 0}, {"two", 0}}
	require.True(t, m.Swap(keys, given, version))
	assert.Equal(t, []versioned{{"one", 0}, {"two", 0}}, given)
	stored := []versioned{{"one", 1}, {"two", 1}}
	assert.Equal(t, stored, m.Values(keys))
	for _, stale := range [][]versioned{{{"x", 1}, {"y", 0}}, {{"x", 2}, {"y", 1}}} {
		assert.False(t, m.Swap(keys, stale, version))
		assert.Equal(t, stored, m.Values(keys), "none is stored")
	}
	require.True(t, m.Swap([]string{"b", "c"}, []versioned{{"three", 1}, {"four", 0}}, version))
	assert.Equal(t, []versioned{{"one", 1}, {"three", 2}, {"four", 1}}, m.Values([]string{"a", "b", "c"}))
}

// However many keys there are, the last max that were used are kept, and at most twice as
// many. What is used again and again stays.
func TestKeepsTheLastUsed(t *testing.T) {
	for _, most := range []int{1, 2, 3, 10, 100} {
		m := recent.New[int, int](most)
		const always = -1
		for i := range 10*most + 7 {
			require.Equal(t, i, get(m, always), "read again and again: key %d of at most %d", i, most)
			require.NoError(t, m.Update([]int{always}, func(values []int) error { values[0]++; return nil }))
			put(t, m, i, 2*i)
			require.LessOrEqual(t, kept(t, m), 2*most)
		}
		for i := 9*most + 8; i < 10*most+7; i++ { // The last, with the one that is always used.
			require.Equal(t, 2*i, get(m, i), "key %d of at most %d", i, most)
		}
	}
}

// Reading what is not there makes nobody forget anything.
func TestReadingInVain(t *testing.T) {
	m := recent.New[int, int](5)
	for i := range 5 {
		put(t, m, i, i+1)
	}
	for i := range 1000 {
		require.Zero(t, get(m, -1-i))
	}
	for i := range 5 {
		assert.Equal(t, i+1, get(m, i))
	}
}

func TestPurge(t *testing.T) {
	m := recent.New[int, int](60)
	for i := range 100 { // In both generations.
		put(t, m, i, i)
	}
	even := func(value int) bool { return value%2 == 0 }
	assert.Equal(t, 0, m.Purge(even, 0))
	assert.Equal(t, 20, m.Purge(even, 20))
	assert.Equal(t, 20, m.Purge(even, 20))
	assert.Equal(t, 10, m.Purge(even, 20), "fewer: none is left")
	assert.Equal(t, 0, m.Purge(even, 20))
	assert.Equal(t, 50, kept(t, m))
	for i := range 100 {
		assert.Equal(t, i*(i%2), get(m, i))
	}
}

// Whatever is moved between generations while others write, no Update is lost.
func TestAtOnce(t *testing.T) {
	const workers, each = 4, 2000
	m := recent.New[int, int](8)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range each {
				assert.NoError(t, m.Update([]int{0}, func(values []int) error { values[0]++; return nil }))
				// Of the others each worker uses one at most before the first comes again.
				assert.NoError(t, m.Update([]int{1 + i%20}, func(values []int) error { values[0] = i; return nil }))
				m.Purge(func(value int) bool { return value < 0 }, w)
			}
		})
	}
	wg.Wait()
	assert.Equal(t, workers*each, get(m, 0))
}

// A million keys of whoever makes them up take less than 64 MiB, and much more is not
// kept than was asked for.
func TestMemoryOfAMillionKeys(t *testing.T) {
	const million, mostBytes = 1_000_000, 64 << 20
	m := recent.New[devicegrant.TallyKey, devicegrant.Tally](0)
	at := time.Date(2026, time.June, 1, 12, 0, 0, 0, time.UTC)
	before := heap()
	for i := range million {
		_ = m.Update([]devicegrant.TallyKey{key(i)}, func(values []devicegrant.Tally) error {
			values[0] = devicegrant.Tally{Guesses: 1, PaidAt: at, ExpiresAt: at, Version: 1}
			return nil
		})
	}
	bytes := heap() - before
	for i := million - recent.DefaultMax; i < million; i++ {
		if get(m, key(i)).Version != 1 {
			require.Fail(t, "a key of the last is forgotten", "%d", i)
		}
	}
	n := m.Purge(func(devicegrant.Tally) bool { return true }, million)
	t.Logf("%d bytes for %d of %d keys: %d for each", bytes, n, million, bytes/int64(n))
	assert.LessOrEqual(t, n, 2*recent.DefaultMax)
	assert.GreaterOrEqual(t, n, recent.DefaultMax)
	assert.Less(t, bytes, int64(mostBytes))
	assert.Greater(t, bytes, int64(n)*32, "the keys alone take as much")
}

func key(i int) (key devicegrant.TallyKey) {
	binary.BigEndian.PutUint64(key[:], uint64(i))
	return key
}

// heap returns the bytes of what is reachable.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
