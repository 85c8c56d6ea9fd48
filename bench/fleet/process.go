package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// usage is what a process has used so far, by /proc (proc(5)).
type usage struct {
	cpu       time.Duration // user and system, of all threads
	rss, peak int64         // resident memory now and at most, in bytes
}

// tick is the unit of times in /proc on every architecture that Go runs on (USER_HZ).
const tick = 10 * time.Millisecond

// usageOf reads what a process has used.
func usageOf(pid int) (u usage, err error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)) //nolint:gosec // It is a number.
	if err != nil {
		return usage{}, err
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid)) //nolint:gosec // It is a number.
	if err != nil {
		return usage{}, err
	}
	if u.cpu, err = parseStat(string(stat)); err != nil {
		return usage{}, err
	}
	u.rss, u.peak = parseStatus(string(status), "VmRSS"), parseStatus(string(status), "VmHWM")
	return u, nil
}

// parseStat returns the sum of utime and stime, the 14th and the 15th field. The second
// is the program's name in parentheses, in which there may be anything.
func parseStat(stat string) (time.Duration, error) {
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	const utime, stime = 14 - 3, 15 - 3 // What is left begins with the third.
	if len(fields) <= stime {
		return 0, errors.New("/proc/PID/stat is too short")
	}
	user, userErr := strconv.ParseInt(fields[utime], 10, 64)
	system, systemErr := strconv.ParseInt(fields[stime], 10, 64)
	return time.Duration(user+system) * tick, errors.Join(userErr, systemErr)
}

// parseStatus returns a line's size in bytes; zero if there is none.
func parseStatus(status, name string) int64 {
	for line := range strings.Lines(status) {
		fields := strings.Fields(line)
		if len(fields) == 3 && fields[0] == name+":" && fields[2] == "kB" {
			kib, _ := strconv.ParseInt(fields[1], 10, 64) // The kernel writes numbers.
			return kib << 10
		}
	}
	return 0
}
