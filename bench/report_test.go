package main

import (
	"bytes"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// rounds are those in which an operation took some seconds of CPU time each, and twice as
// much time.
func rounds(cpu ...float64) (rounds []sample) {
	for _, c := range cpu {
		rounds = append(rounds, sample{elapsed: 2 * c, cpu: c, bytes: 2000, allocs: 18})
	}
	return rounds
}

// times multiplies what every round took.
func times(factor float64, of []sample) (rounds []sample) {
	for _, s := range of {
		s.elapsed, s.cpu = factor*s.elapsed, factor*s.cpu
		rounds = append(rounds, s)
	}
	return rounds
}

// madeUp is a report in which every target is just reached.
func madeUp() report {
	floor := rounds(1e-6, 2e-6, 3e-6, 4e-6, 5e-6, 6e-6, 7e-6)
	core := times(1./8, floor)
	for i := range core {
		core[i].allocs = 0
	}
	made := func(name string, peer bool, rounds []sample) result {
		return result{contestant{name: name, peer: peer}, rounds}
	}
	return report{
		settings: settings{7, time.Second, 100, 100},
		tables: []table{
			{workload{name: pollWorkload, what: "What."}, []result{
				made(floorName, false, floor), made(oursName, false, times(0.6, floor)), made(coreName, false, core),
				made("slow", true, times(3, floor)), made("fast", true, times(2.4, floor)), made("absent", true, nil),
			}},
			{workload{name: authorizationWorkload}, []result{
				made(floorName, false, floor), made(oursName, false, times(1.2, floor)), made("slow", true, times(2.4, floor)),
			}},
		},
		scaling: scaling{one: floor, two: times(1/1.8, floor)},
	}
}

func TestTable(t *testing.T) {
	var text bytes.Buffer
	madeUp().tables[0].write(&text)
	assert.Equal(t, `
## Pending poll

What.

| | CPU | ± | x floor | ± | elapsed | ± | B/op | allocs/op |
|---|--:|--:|--:|--:|--:|--:|--:|--:|
| floor | 4.000µs | 75% | 1.00 | 0% | 8.000µs | 75% | 2000 | 18 |
| devicegrant | 2.400µs | 75% | 0.60 | 0% | 4.800µs | 75% | 2000 | 18 |
| devicegrant, Server.Poll | 500.0ns | 75% | 0.12 | 0% | 1.000µs | 75% | 2000 | 0 |
| slow | 12.00µs | 75% | 3.00 | 0% | 24.00µs | 75% | 2000 | 18 |
| fast | 9.600µs | 75% | 2.40 | 0% | 19.20µs | 75% | 2000 | 18 |
| absent | none | | | | | | | |
`, text.String())
}

func TestTwoGoroutines(t *testing.T) {
	var text bytes.Buffer
	scaling{rounds(2, 2, 2, 2, 2, 2), rounds(1, 1, 1, 1, 1, 4)}.write(&text)
	assert.True(t, strings.HasSuffix(text.String(), `
| 1 | 4.000s | 0% | 1.00 | 0% | 2.000s | 0% | 1.00 | 0% |
| 2 | 2.000s | 300% | 2.00 | 75% | 1.000s | 300% | 0.50 | 300% |
`), text.String())
}

// Ratios are of the same round: what slows a round down is not in them.
func TestQuotients(t *testing.T) {
	floor := rounds(1, 50, 3, 2, 1, 9)
	assert.Equal(t, "0.50 | 0%", ratio(quotients(times(0.5, floor), floor, cpu)))
	assert.Equal(t, rounds(1, 50, 3, 2, 1, 9), floor, "nothing is sorted in its place")
	few := summary(rounds(1, 2, 3), cpu)
	assert.InDelta(t, 2, few.Center, 0)
	assert.True(t, math.IsInf(few.Hi, 1), "too few for an interval")
}

func TestTargets(t *testing.T) {
	var lines []string
	for _, target := range madeUp().targets() {
		assert.InDelta(t, target.bound, target.got.Center, 1e-9, target.what)
		// What is divided is not exact.
		target.got.Center = target.bound
		assert.True(t, target.met(), target.what)
		lines = append(lines, target.String())
		worse := 1e-6
		if target.atLeast {
			worse = -worse
		}
		target.got.Center += worse
		assert.False(t, target.met(), target.what)
		assert.True(t, strings.HasPrefix(target.String(), "- FAIL: "), target)
	}
	assert.Equal(t, []string{
		"- pass: pending poll through the handler, against the floor: 0.6 x ± 0% (at most 0.6)",
		"- pass: allocations of it: 18 ± 0% (at most 18)",
		"- pass: the same against the fastest peer, fast: 0.25 x ± 0% (at most 0.25)",
		"- pass: pending poll by Server.Poll, against the floor: 0.125 x ± 0% (at most 0.125)",
		"- pass: allocations of it: 0 ± 0% (at most 0)",
		"- pass: device authorization, against the floor: 1.2 x ± 0% (at most 1.2)",
		"- pass: the same against the fastest peer, slow: 0.5 x ± 0% (at most 0.5)",
		"- pass: rate of two goroutines, against one: 1.8 x ± 0% (at least 1.8)",
	}, lines)
}

// TestRun is the program, with little of everything.
func TestRun(t *testing.T) {
	var text bytes.Buffer
	file := filepath.Join(t.TempDir(), "RESULTS.md")
	little := settings{6, time.Millisecond, testGrants, 2000}
	require.NoError(t, run(little, file, &text))
	written, err := os.ReadFile(file)
	require.NoError(t, err)
	assert.Equal(t, text.String(), string(written))
	for _, load := range workloads() {
		assert.Contains(t, text.String(), "\n## "+load.name+"\n")
	}
	for _, part := range []string{runtime.Version(), "zitadel/oidc/v3 v3.", "6 rounds of 1ms", "20 grants", "| zitadel/oidc | none |", "\n## Targets\n", "\n## Notes\n"} {
		assert.Contains(t, text.String(), part)
	}
	for _, part := range []string{"NaN", "Inf", "∞", "?"} {
		assert.NotContains(t, text.String(), part)
	}
}

func TestRunRefuses(t *testing.T) {
	for _, m := range []settings{{5, 1, 1, 1}, {1001, 1, 1, 1}, {6, 0, 1, 1}, {6, time.Minute, 1, 1}} {
		assert.Error(t, run(m, "", new(bytes.Buffer)))
	}
}
