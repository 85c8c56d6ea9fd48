package main

import (
	"math"
	"math/bits"
	"sync/atomic"
	"time"
)

// histogram counts durations in buckets that grow with them: what it returns is at most a
// 32nd above what it was given, and a microsecond. It is as large as it will ever be, and
// safe for concurrent use. The zero value is ready.
type histogram struct {
	counts [(topShift + 2) << subBits]atomic.Uint64
	most   atomic.Int64 // in microseconds
}

const (
	subBits  = 5  // 32 buckets to each doubling
	topShift = 26 // beyond 71 minutes, everything is one
	topValue = 1<<(topShift+subBits+1) - 1
)

func (h *histogram) add(d time.Duration) {
	us := min(max(d.Microseconds(), 0), topValue)
	h.counts[bucketOf(us)].Add(1)
	for {
		most := h.most.Load()
		if us <= most || h.most.CompareAndSwap(most, us) {
			return
		}
	}
}

// bucketOf keeps the six highest bits of a number of microseconds.
func bucketOf(us int64) int {
	shift := max(0, bits.Len64(uint64(us))-subBits-1) //nolint:gosec // It is not negative.
	return shift<<subBits + int(us>>shift)
}

// topOf is the largest number of microseconds in a bucket.
func topOf(bucket int) int64 {
	shift := max(0, bucket>>subBits-1)
	return int64(bucket-shift<<subBits+1)<<shift - 1
}

func (h *histogram) count() (n uint64) {
	for i := range h.counts {
		n += h.counts[i].Load()
	}
	return n
}

// quantile returns what the share q of all is not above; zero if there is nothing.
func (h *histogram) quantile(q float64) time.Duration {
	rank := uint64(math.Ceil(q * float64(h.count())))
	seen := uint64(0)
	for i := range h.counts {
		seen += h.counts[i].Load()
		if seen >= rank && seen > 0 {
			return micros(min(topOf(i), h.most.Load()))
		}
	}
	return 0
}

func (h *histogram) max() time.Duration { return micros(h.most.Load()) }

func micros(us int64) time.Duration { return time.Duration(us) * time.Microsecond }
