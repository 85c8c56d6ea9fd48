package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/devicegrant/devicegrant/integration/internal/databases"
	"github.com/devicegrant/devicegrant/sqlstore"
)

const (
	rounds  = 12                     // in which everybody has a turn, so that all bear the same noise
	oneTurn = 250 * time.Millisecond // for each
)

// contestant is a call, and how many make it at once.
type contestant struct {
	name    string
	workers int
	call    func() error

	rates []float64 // calls a second, by round
}

// pollers are how many poll at once, on each kind of database.
var pollers = map[sqlstore.Dialect]int{sqlstore.PostgreSQL: 256, sqlstore.MySQL: 256, sqlstore.SQLite: 8}

// BenchmarkBesideSELECT has polls on time and SELECTs of one row by its primary key take
// turns, and reports how many times the SELECTs' rate that of the polls is, at the number
// of goroutines that select the most; and how many times as long one poll takes as one
// SELECT. `-benchtime 1x` is enough: a run has rounds of its own.
func BenchmarkBesideSELECT(b *testing.B) {
	for _, kind := range []databases.Kind{databases.PostgreSQL, databases.MariaDB, databases.SQLite} {
		b.Run("db="+kind.Name, func(b *testing.B) {
			f := newFixture(b, kind, 100_000)
			selects := f.contestants(b, "SELECT", selectState, []int{1, 2, 4, 8, 16, 64})
			polls := f.contestants(b, "Poll", poll, []int{1, pollers[kind.Dialect]})
			one, many := polls[0], polls[1]
			again, _ := poll(b, f)
			require.NoError(b, repeat(len(f.polled), 64, again)) // What is measured is not the first poll of a grant.
			var latencies []float64
			b.ResetTimer()
			for range rounds * b.N {
				for _, c := range selects {
					c.turn(b)
				}
				many.turn(b)
				latencies = append(latencies, latency(b, one, selects[0]))
			}
			b.StopTimer()
			best := slices.MaxFunc(selects, func(a, b *contestant) int { return cmp.Compare(median(a.rates), median(b.rates)) })
			b.Logf("SELECT is fastest with %d: %.0f/s", best.workers, median(best.rates))
			report(b, fmt.Sprintf("rate-of-%d/SELECT", many.workers), ratio(many.rates, best.rates))
			report(b, "latency/SELECT", latencies)
			switch kind.Dialect {
			case sqlstore.PostgreSQL:
				before := f.number(b, "SELECT pg_current_wal_insert_lsn() - '0/0'")
				n := many.turn(b)
				b.ReportMetric((f.number(b, "SELECT pg_current_wal_insert_lsn() - '0/0'")-before)/n, "WAL-bytes/poll")
			case sqlstore.SQLite:
				info, err := os.Stat(f.file(b) + "-wal")
				require.NoError(b, err)
				b.ReportMetric(float64(info.Size())/(1<<20), "WAL-MiB")
			}
		})
	}
}

// latency has two make single calls by turns for as long as a turn takes, and returns how
// many times the second's median time the first's is.
func latency(b *testing.B, first, second *contestant) float64 {
	b.Helper()
	times := map[*contestant][]float64{}
	for end := time.Now().Add(oneTurn); time.Now().Before(end); {
		for _, c := range []*contestant{first, second} {
			begin := time.Now()
			require.NoError(b, c.call())
			times[c] = append(times[c], float64(time.Since(begin)))
		}
	}
	return median(times[first]) / median(times[second])
}

// report reports the median of what the rounds have shown, and logs how far they differ.
func report(b *testing.B, unit string, values []float64) {
	b.Helper()
	b.ReportMetric(median(values), unit)
	b.Logf("%s: %.2f (%.2f to %.2f)", unit, median(values), slices.Min(values), slices.Max(values))
}

func (f *fixture) contestants(b *testing.B, name string, open func(testing.TB, *fixture) (func() error, func()), workers []int) (cs []*contestant) {
	for _, n := range workers {
		call, _ := open(b, f)
		cs = append(cs, &contestant{name: name, workers: n, call: call})
	}
	return cs
}

// turn has the workers call for as long as a turn takes, and returns how often they did.
func (c *contestant) turn(b *testing.B) (calls float64) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), oneTurn)
	defer cancel()
	var n atomic.Int64
	var wg sync.WaitGroup
	errs := make([]error, c.workers)
	begin := time.Now()
	for w := range errs {
		wg.Go(func() {
			for ctx.Err() == nil && errs[w] == nil {
				errs[w] = c.call()
				n.Add(1)
			}
		})
	}
	wg.Wait()
	c.rates = append(c.rates, float64(n.Load())/time.Since(begin).Seconds())
	require.NoError(b, errors.Join(errs...))
	return float64(n.Load())
}

// ratio divides round by round.
func ratio(a, b []float64) []float64 {
	r := make([]float64, len(a))
	for i := range r {
		r[i] = a[i] / b[i]
	}
	return r
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

func (f *fixture) number(b *testing.B, query string) (n float64) {
	b.Helper()
	require.NoError(b, f.db.QueryRowContext(b.Context(), query).Scan(&n))
	return n
}

// file is the file of a SQLite database.
func (f *fixture) file(b *testing.B) (name string) {
	b.Helper()
	require.NoError(b, f.db.QueryRowContext(b.Context(), "SELECT file FROM pragma_database_list WHERE name = 'main'").Scan(&name))
	return name
}
