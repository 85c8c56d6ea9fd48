// Command bench measures devicegrant beside a bare handler and beside other servers, in
// one process and in turns, so that whatever else the machine does hits all of them
// alike. Ratios count; times are one machine's.
//
// `make bench` runs it, and keeps what it prints in RESULTS.md.
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"
)

// settings say how much is measured.
type settings struct {
	rounds int
	slice  time.Duration // for each operation in a round
	grants int           // that wait for a person meanwhile
	polls  int           // by each goroutine in a round, where there may be two
}

func main() {
	m := settings{grants: 10_000, polls: 50_000}
	flag.IntVar(&m.rounds, "rounds", 24, "how often everything is measured, from 6 to 1000 times")
	flag.DurationVar(&m.slice, "slice", 50*time.Millisecond, "for how long everything is measured each time, at most 10s")
	file := flag.String("o", "", "a file to write the tables to, too")
	flag.Parse()
	slog.SetDefault(slog.New(slog.DiscardHandler)) // Where zitadel/oidc logs to.
	if err := run(m, *file, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// run measures everything and writes a report to w and, if there is a name, to a file.
func run(m settings, file string, w io.Writer) error {
	// A confidence interval of the median takes six.
	if m.rounds < 6 || m.rounds > 1000 || m.slice <= 0 || m.slice > 10*time.Second {
		return errors.New("-rounds must be from 6 to 1000, and -slice above zero and at most 10s")
	}
	r := report{settings: m}
	for _, load := range workloads() {
		results, err := load.measure(m)
		if err != nil {
			return err
		}
		r.tables = append(r.tables, table{load, results})
	}
	var err error
	if r.scaling, err = measureScaling(m); err != nil {
		return err
	}
	var text bytes.Buffer
	r.write(&text)
	if _, err := w.Write(text.Bytes()); err != nil || file == "" {
		return err
	}
	return os.WriteFile(file, text.Bytes(), 0o644) //nolint:gosec // It is for everybody to read.
}
