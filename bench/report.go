package main

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/perf/benchmath"
	"golang.org/x/perf/benchunit"
)

// report is everything that was measured.
type report struct {
	settings
	tables  []table
	scaling scaling
}

// table is what came of one workload.
type table struct {
	workload
	results []result
}

// write writes the report as Markdown.
func (r report) write(w *bytes.Buffer) {
	fmt.Fprintf(w, "# Results\n\nMade by `make bench`; do not edit.\n\n%s\n", machine())
	fmt.Fprintf(w, "\n%d rounds of %v for each, in turns, with %d grants pending. Figures are medians of the rounds, and ± is their 95 %%\n"+
		"confidence interval. CPU is the CPU time of an operation, garbage collection included, and x floor compares it in each round:\n"+
		"what passed meanwhile, elapsed, also depends on what else the machine does.\n", r.rounds, r.slice, r.grants)
	for _, t := range r.tables {
		t.write(w)
	}
	r.scaling.write(w)
	fmt.Fprintf(w, "\n## Targets\n\n")
	for _, target := range r.targets() {
		fmt.Fprintln(w, target)
	}
	fmt.Fprintf(w, "\n## Notes\n\n%s", notes)
}

func (t table) write(w *bytes.Buffer) {
	fmt.Fprintf(w, "\n## %s\n\n%s\n\n", t.name, t.what)
	fmt.Fprintf(w, "| | CPU | ± | x floor | ± | elapsed | ± | B/op | allocs/op |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|\n")
	floor := t.results[0]
	for _, r := range t.results {
		if r.rounds == nil {
			fmt.Fprintf(w, "| %s | none | | | | | | | |\n", r.name)
			continue
		}
		fmt.Fprintf(w, "| %s | %s | %s | %s | %.0f | %.0f |\n", r.name,
			duration(summary(r.rounds, cpu)), ratio(quotients(r.rounds, floor.rounds, cpu)), duration(summary(r.rounds, elapsed)),
			summary(r.rounds, bytesAllocated).Center, summary(r.rounds, allocs).Center)
	}
}

func (s scaling) write(w *bytes.Buffer) {
	fmt.Fprintf(w, "\n## Two goroutines\n\nPending polls by Server.Poll, at one server. Elapsed is for each poll; with two goroutines, two are made at a time.\n\n")
	fmt.Fprintf(w, "| goroutines | elapsed | ± | rate, x one | ± | CPU | ± | CPU, x one | ± |\n|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n")
	for i, rounds := range [][]sample{s.one, s.two} {
		fmt.Fprintf(w, "| %d | %s | %s | %s | %s |\n", i+1, duration(summary(rounds, elapsed)), ratio(quotients(s.one, rounds, elapsed)),
			duration(summary(rounds, cpu)), ratio(quotients(rounds, s.one, cpu)))
	}
}

// duration formats seconds, and ratio a ratio, for two cells of a table.
func duration(s benchmath.Summary) string {
	return benchunit.Scale(s.Center, benchunit.Decimal) + "s | " + s.PctRangeString()
}

func ratio(s benchmath.Summary) string { return fmt.Sprintf("%.2f | %s", s.Center, s.PctRangeString()) }

// target is something that was to be reached.
type target struct {
	what    string
	got     benchmath.Summary
	unit    string
	bound   float64
	atLeast bool // rather than at most
}

func (t target) met() bool {
	if t.atLeast {
		return t.got.Center >= t.bound
	}
	return t.got.Center <= t.bound
}

func (t target) String() string {
	verdict, limit := "FAIL", "at most"
	if t.met() {
		verdict = "pass"
	}
	if t.atLeast {
		limit = "at least"
	}
	return fmt.Sprintf("- %s: %s: %.3g%s ± %s (%s %.3g)", verdict, t.what, t.got.Center, t.unit, t.got.PctRangeString(), limit, t.bound)
}

// targets returns what was to be reached, and what was.
func (r report) targets() []target {
	poll, authorization := r.table(pollWorkload), r.table(authorizationWorkload)
	ours, core, made := poll.result(oursName), poll.result(coreName), authorization.result(oursName)
	fastest, quickest := poll.fastestPeer(), authorization.fastestPeer()
	atMost := func(bound float64, what string, a, b result) target {
		return target{what, quotients(a.rounds, b.rounds, cpu), " x", bound, false}
	}
	return []target{
		atMost(0.6, "pending poll through the handler, against the floor", ours, poll.results[0]),
		{"allocations of it", summary(ours.rounds, allocs), "", 18, false},
		atMost(1./4, "the same against the fastest peer, "+fastest.name, ours, fastest),
		atMost(1./8, "pending poll by Server.Poll, against the floor", core, poll.results[0]),
		{"allocations of it", summary(core.rounds, allocs), "", 0, false},
		atMost(1.2, "device authorization, against the floor", made, authorization.results[0]),
		atMost(1./2, "the same against the fastest peer, "+quickest.name, made, quickest),
		{"rate of two goroutines, against one", quotients(r.scaling.one, r.scaling.two, elapsed), " x", 1.8, true},
	}
}

func (r report) table(name string) table {
	return r.tables[slices.IndexFunc(r.tables, func(t table) bool { return t.name == name })]
}

func (t table) result(name string) result {
	return t.results[slices.IndexFunc(t.results, func(r result) bool { return r.name == name })]
}

func (t table) fastestPeer() result {
	peers := slices.DeleteFunc(slices.Clone(t.results), func(r result) bool { return !r.peer || r.rounds == nil })
	return slices.MinFunc(peers, func(a, b result) int {
		return cmp.Compare(summary(a.rounds, cpu).Center, summary(b.rounds, cpu).Center)
	})
}

// The values of a sample.
func elapsed(s sample) float64        { return s.elapsed }
func cpu(s sample) float64            { return s.cpu }
func bytesAllocated(s sample) float64 { return s.bytes }
func allocs(s sample) float64         { return s.allocs }

// summary is the median of a value with its 95 % confidence interval, as benchstat has it.
func summary(rounds []sample, value func(sample) float64) benchmath.Summary {
	values := make([]float64, len(rounds))
	for i, s := range rounds {
		values[i] = value(s)
	}
	return summarize(values)
}

// quotients is the same of the quotients of two that were measured in the same rounds.
func quotients(rounds, by []sample, value func(sample) float64) benchmath.Summary {
	values := make([]float64, len(rounds))
	for i, s := range rounds {
		values[i] = value(s) / value(by[i])
	}
	return summarize(values)
}

func summarize(values []float64) benchmath.Summary {
	return benchmath.AssumeNothing.Summary(benchmath.NewSample(values, &benchmath.DefaultThresholds), 0.95)
}

// notes say what the contestants are, and which are missing.
var notes = strings.TrimSpace(`
All servers keep everything in memory, log nothing and trace nothing, and have the same public client send the same requests to
an http.Handler. No token is stored.

- floor: net/http, encoding/json and two maps under a mutex. It checks neither client nor deadline, and limits nothing.
- devicegrant: memstore, and everything that is on by default. For polls to be on time one right after the other, its Store is
  told that time passes faster. A look-up is mostly the first of its code, which binds it to the browser's session.
- zitadel/oidc: the provider's handlers without its router, on a storage of two maps that keeps codes as they are. It never answers
  slow_down, and does not consume a device code. Its access token is an id that is encrypted (AES); no JWT is signed.

Missing:

- ory/fosite: v0.49.0, the newest release, has no device grant.
- dexidp/dex: its tags v2 are no versions of a module whose path does not end in /v2, and what can be had as one is older than the
  device grant.
- Authelia's provider could not be had as a module.
- go-oauth2/oauth2 v4 has no device grant.
`) + "\n"
