package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"
	"time"
)

// report is what is printed in the end. Times are in milliseconds unless they say
// otherwise.
type report struct {
	Devices  int     `json:"devices"`
	Complete int64   `json:"complete"` // devices whose every login ended as its person said
	People   int     `json:"people"`
	Seconds  float64 `json:"seconds"` // from the first device to the last

	Begun      int64 `json:"logins_begun"`
	Redeemed   int64 `json:"logins_redeemed"`
	Denied     int64 `json:"logins_denied"`
	Expired    int64 `json:"logins_expired"`
	Faulty     int64 `json:"logins_faulty"`
	Unfinished int64 `json:"logins_unfinished"`

	Polls int64 `json:"polls"` // that were answered
	// PollsPerSecond are those while all devices took part; zero if that was cut short.
	PollsPerSecond float64        `json:"polls_per_second"`
	Errors         map[string]int `json:"errors"`
	Latencies      []quantiles    `json:"latencies"`
	// Server and Generator, this program, are nil without -pid.
	Server    *consumption `json:"server,omitempty"`
	Generator *consumption `json:"generator,omitempty"`
}

// quantiles are those of one kind of latency.
type quantiles struct {
	Name  string  `json:"name"`
	Count uint64  `json:"count"`
	P50   float64 `json:"p50"`
	P99   float64 `json:"p99"`
	P999  float64 `json:"p99.9"`
	Max   float64 `json:"max"`
}

// consumption is what a process used, everything that it did included.
type consumption struct {
	CPUPerPoll float64 `json:"cpu_per_poll"` // while all devices took part, or else from first to last
	Cores      float64 `json:"cores"`        // likewise: CPU seconds a second
	CPU        float64 `json:"cpu_seconds"`  // from first to last
	RSS        float64 `json:"rss_mib"`      // in the end
	PeakRSS    float64 `json:"peak_rss_mib"` // in the process's life
}

// report sums up what was done between two samples, and, unless that is zero, in the window
// in which all devices took part.
func (f *fleet) report(all, full window) *report {
	r := &report{
		Devices: f.devices, Complete: f.complete.Load(), People: f.people, Seconds: all.elapsed().Seconds(),
		Begun: f.begun.Load(), Redeemed: f.ended[redeemed].Load(), Denied: f.ended[denied].Load(),
		Expired: f.ended[expired].Load(), Faulty: f.ended[faulty].Load(),
		Polls: all.polls(), Errors: f.faults.all(),
		Latencies: []quantiles{
			quantilesOf("poll, from when it was due", &f.polling.due),
			quantilesOf("poll, from when it was sent", &f.polling.sent),
			quantilesOf("device authorization, due", &f.asking.due),
			quantilesOf("device authorization, sent", &f.asking.sent),
			quantilesOf("page, redirects included, sent", &f.pages),
			quantilesOf("decision, from when its person came", &f.deciding),
		},
	}
	r.Unfinished = r.Begun - r.Redeemed - r.Denied - r.Expired - r.Faulty
	busy := all
	if !full.to.at.IsZero() {
		busy = full
		r.PollsPerSecond = float64(full.polls()) / full.elapsed().Seconds()
	}
	if f.pid != 0 {
		r.Server = consumed(busy, all, func(s sample) usage { return s.server })
		r.Generator = consumed(busy, all, func(s sample) usage { return s.self })
	}
	return r
}

func (w window) elapsed() time.Duration { return w.to.at.Sub(w.from.at) }

func (w window) polls() int64 { return w.to.polls - w.from.polls }

func consumed(busy, all window, of func(sample) usage) *consumption {
	cpu, last := of(busy.to).cpu-of(busy.from).cpu, of(all.to)
	return &consumption{
		CPUPerPoll: milliseconds(cpu) / float64(max(1, busy.polls())),
		Cores:      cpu.Seconds() / busy.elapsed().Seconds(),
		CPU:        (last.cpu - of(all.from).cpu).Seconds(),
		RSS:        float64(last.rss) / (1 << 20),
		PeakRSS:    float64(last.peak) / (1 << 20),
	}
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func quantilesOf(name string, h *histogram) quantiles {
	return quantiles{
		Name: name, Count: h.count(),
		P50: milliseconds(h.quantile(0.5)), P99: milliseconds(h.quantile(0.99)), P999: milliseconds(h.quantile(0.999)),
		Max: milliseconds(h.max()),
	}
}

func (f *faults) all() map[string]int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.counts)
}

// good reports that nothing went wrong.
func (r *report) good() bool { return r.Complete == int64(r.Devices) && len(r.Errors) == 0 }

func (r *report) writeJSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(r)
}

func (r *report) writeText(w io.Writer) error {
	return errors.Join(align(w, 0, r.outcome()), align(w, tabwriter.AlignRight, r.latencies()))
}

// outcome is one line for each thing that there is to say.
func (r *report) outcome() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "devices\t%d of %d complete, in %.1f s\n", r.Complete, r.Devices, r.Seconds)
	fmt.Fprintf(&b, "logins\t%d begun: %d redeemed, %d denied, %d expired, %d faulty, %d unfinished\n",
		r.Begun, r.Redeemed, r.Denied, r.Expired, r.Faulty, r.Unfinished)
	fmt.Fprintf(&b, "polls\t%d, %.1f a second while all devices took part\n", r.Polls, r.PollsPerSecond)
	for _, process := range []struct {
		name string
		*consumption
	}{{"server", r.Server}, {"generator", r.Generator}} {
		if c := process.consumption; c != nil {
			fmt.Fprintf(&b, "%s\t%.4f ms of CPU a poll with all else that it did, %.2f cores; %.1f s in all; %.0f MiB resident, at most %.0f\n",
				process.name, c.CPUPerPoll, c.Cores, c.CPU, c.RSS, c.PeakRSS)
		}
	}
	for _, kind := range slices.Sorted(maps.Keys(r.Errors)) {
		fmt.Fprintf(&b, "error\t%d x %s\n", r.Errors[kind], kind)
	}
	if len(r.Errors) == 0 {
		fmt.Fprintln(&b, "errors\tnone")
	}
	return b.Bytes()
}

func (r *report) latencies() []byte {
	var b bytes.Buffer
	fmt.Fprintln(&b, "\ncount\tp50\tp99\tp99.9\tmax\tms\t")
	for _, l := range r.Latencies {
		fmt.Fprintf(&b, "%d\t%.2f\t%.2f\t%.2f\t%.2f\t%s\t\n", l.Count, l.P50, l.P99, l.P999, l.Max, l.Name)
	}
	return b.Bytes()
}

// align writes lines whose columns end in tabs.
func align(w io.Writer, flags uint, lines []byte) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', flags)
	_, err := t.Write(lines)
	return errors.Join(err, t.Flush())
}
