package main

import (
	"errors"
	"fmt"
	"math"
	"runtime"
	"sync"
	"time"
)

// sample is what one operation took in one round.
type sample struct {
	elapsed, cpu float64 // seconds
	bytes        float64
	allocs       float64
}

// result is what a contestant took in each of the rounds; nothing if it does not take
// part.
type result struct {
	contestant
	rounds []sample
}

// roundsTogether is how many rounds are measured on the same servers.
const roundsTogether = 3

// measure has every contestant take its turn in every round, of which each begins with
// another one. All get new servers every few rounds, so that those that make more grants in
// the same time do not end up with maps that are much fuller.
func (w workload) measure(m settings) ([]result, error) {
	results := make([]result, len(w.contestants))
	for i, c := range w.contestants {
		results[i].contestant = c
	}
	var ops []operation
	for round := range m.rounds {
		if round%roundsTogether == 0 {
			var err error
			if ops, err = w.open(m.grants); err != nil {
				return nil, err
			}
		}
		for i := range results {
			i = (round + i) % len(results)
			if ops[i] == nil {
				continue
			}
			s, err := measure(ops[i], m.slice)
			if err != nil {
				return nil, fmt.Errorf("%s: %s: %w", w.name, results[i].name, err)
			}
			results[i].rounds = append(results[i].rounds, s)
		}
	}
	return results, nil
}

// open returns the operations of all contestants; nil for those that have none.
func (w workload) open(grants int) ([]operation, error) {
	ops := make([]operation, len(w.contestants))
	for i, c := range w.contestants {
		if c.open == nil {
			continue
		}
		var err error
		if ops[i], err = c.open(grants); err != nil {
			return nil, fmt.Errorf("%s: %s: %w", w.name, c.name, err)
		}
	}
	return ops, nil
}

// measure measures an operation for as long as slice.
func measure(op operation, slice time.Duration) (sample, error) {
	if _, err := repeat(op, slice/10); err != nil { // Until pools and caches are filled.
		return sample{}, err
	}
	var before, after runtime.MemStats
	runtime.GC() // Nobody pays for another's garbage.
	runtime.ReadMemStats(&before)
	watch := start()
	n, err := repeat(op, slice)
	elapsed, cpu := watch.read()
	runtime.ReadMemStats(&after)
	each := func(total uint64) float64 { return math.Floor(float64(total) / float64(n)) } // As package testing rounds.
	return sample{
		elapsed: elapsed / float64(n),
		cpu:     cpu / float64(n),
		bytes:   each(after.TotalAlloc - before.TotalAlloc),
		allocs:  each(after.Mallocs - before.Mallocs),
	}, err
}

// repeat makes an operation again and again until d has passed or it fails, and returns
// how often it did.
func repeat(op operation, d time.Duration) (n int, err error) {
	const batch = 50 // operations between two looks at the clock
	for end := time.Now().Add(d); n == 0 || time.Now().Before(end); {
		for range batch {
			n++
			if err := op(); err != nil {
				return n, err
			}
		}
	}
	return n, nil
}

// scaling is what pending polls by Server.Poll took in each round, by one goroutine and by
// two at once: the time that passed for each, and the CPU time that it took.
type scaling struct{ one, two []sample }

// measureScaling has one goroutine poll, and two, in turns. Each polls grants of its own:
// a device does not poll twice at a time.
func measureScaling(m settings) (s scaling, err error) {
	server, codes, err := coreServer(m.grants)
	if err != nil {
		return s, err
	}
	shares := [][]string{codes[:m.grants/2], codes[m.grants/2:]}
	poll := func(code string) error { return corePoll(server, code) }
	for range m.rounds {
		one, err1 := together(poll, shares[:1], m.polls)
		two, err2 := together(poll, shares, m.polls)
		if err := errors.Join(err1, err2); err != nil {
			return s, fmt.Errorf("two goroutines: %w", err)
		}
		s.one, s.two = append(s.one, one), append(s.two, two)
	}
	return s, nil
}

// together measures polls, of which a goroutine for each of the shares makes n.
func together(poll func(code string) error, shares [][]string, n int) (sample, error) {
	errs := make([]error, len(shares))
	runtime.GC()
	watch := start()
	var wg sync.WaitGroup
	for w, codes := range shares {
		wg.Go(func() {
			var err error // Two that are written beside each other would slow each other down.
			for i := 0; i < n && err == nil; i++ {
				err = poll(codes[i%len(codes)])
			}
			errs[w] = err
		})
	}
	wg.Wait()
	elapsed, cpu := watch.read()
	all := float64(n * len(shares))
	return sample{elapsed: elapsed / all, cpu: cpu / all}, errors.Join(errs...)
}
