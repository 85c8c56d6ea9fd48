package main

import (
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

// Each bucket begins where the one before ends, and is at most a 32nd of what is in it.
func TestBuckets(t *testing.T) {
	var h histogram
	assert.Equal(t, 0, bucketOf(0))
	assert.Equal(t, len(h.counts)-1, bucketOf(topValue))
	for b := range h.counts {
		top := topOf(b)
		assert.Equal(t, b, bucketOf(top))
		if b+1 < len(h.counts) {
			assert.Equal(t, b+1, bucketOf(top+1))
			assert.LessOrEqual(t, topOf(b+1)-top-1, top/32)
		}
	}
}

func TestQuantiles(t *testing.T) {
	rng := rand.New(rand.NewPCG(8, 20))
	var h histogram
	var all []time.Duration
	for range 10_000 {
		d := time.Duration(math.Exp(rng.Float64() * math.Log(1e10))) // From 1 ns to 10 s.
		all = append(all, d)
		h.add(d)
	}
	slices.Sort(all)
	assert.EqualValues(t, len(all), h.count())
	assert.Equal(t, all[len(all)-1].Truncate(time.Microsecond), h.max())
	for _, q := range []float64{0.001, 0.01, 0.5, 0.99, 0.999, 1} {
		want := all[int(math.Ceil(q*float64(len(all))))-1]
		assert.GreaterOrEqual(t, h.quantile(q), want.Truncate(time.Microsecond), q)
		assert.LessOrEqual(t, h.quantile(q), want+want/32, q)
	}
}

func TestHistogramAtItsEnds(t *testing.T) {
	var h histogram
	assert.Zero(t, h.quantile(0.5))
	assert.Zero(t, h.max())
	h.add(-time.Second) // A clock that stepped back.
	assert.Zero(t, h.quantile(1))
	h.add(24 * time.Hour)
	assert.Equal(t, micros(topValue), h.max())
	assert.Equal(t, micros(topValue), h.quantile(1))
	assert.Zero(t, h.quantile(0.5))
	assert.EqualValues(t, 2, h.count())
}

func TestHistogramTogether(t *testing.T) {
	var h histogram
	var adding sync.WaitGroup
	for i := range 4 {
		adding.Go(func() {
			for j := range 1000 {
				h.add(time.Duration(4*j+i) * time.Microsecond)
			}
		})
	}
	adding.Wait()
	assert.EqualValues(t, 4000, h.count())
	assert.Equal(t, 3999*time.Microsecond, h.max())
}
