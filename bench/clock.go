package main

import (
	"syscall"
	"time"
)

// stopwatch measures time, and how much of it this process had a processor: on a machine
// with more to do, the first says little.
type stopwatch struct {
	begin time.Time
	cpu   time.Duration
}

func start() stopwatch { return stopwatch{time.Now(), cpuTime()} }

// read returns seconds since start.
func (s stopwatch) read() (elapsed, cpu float64) {
	return time.Since(s.begin).Seconds(), (cpuTime() - s.cpu).Seconds()
}

// cpuTime is that of all threads, the garbage collector's included.
func cpuTime() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		panic(err) // It fails for nobody who asks for their own.
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
