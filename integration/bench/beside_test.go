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
var pollers = map[sqlstore.Dialect][]int{
	sqlstore.PostgreSQL: {1, 256},
	sqlstore.MySQL:      {1, 256},
	sqlstore.SQLite:     {1, 8},
}

// BenchmarkBesideSELECT has polls on time and SELECTs of one row by its primary key take
// turns, and reports how many times the SELECTs' rate that of the polls is. One poller is
// compared with one that selects; many, with as many as select the most. `-benchtime 1x`
// is enough: a run has rounds of its own.
func BenchmarkBesideSELECT(b *testing.B) {
	for _, kind := range []databases.Kind{databases.PostgreSQL, databases.MariaDB, databases.SQLite} {
		b.Run("db="+kind.Name, func(b *testing.B) {
			f := newFixture(b, kind, 100_000)
			selects := f.contestants(b, "SELECT", selectState, []int{1, 2, 4, 8, 16, 64})
			polls := f.contestants(b, "Poll", poll, pollers[kind.Dialect])
			again, _ := poll(b, f)
			require.NoError(b, repeat(len(f.polled), 64, again)) // What is measured is not the first poll of a grant.
			b.ResetTimer()
			for range rounds * b.N {
				for _, c := range slices.Concat(selects, polls) {
					c.turn(b)
				}
			}
			b.StopTimer()
			best := slices.MaxFunc(selects, func(a, b *contestant) int { return cmp.Compare(median(a.rates), median(b.rates)) })
			b.Logf("SELECT is fastest with %d: %.0f/s", best.workers, median(best.rates))
			for _, c := range polls {
				against := best
				if c.workers == 1 {
					against = selects[0]
				}
				ratios := ratio(c.rates, against.rates)
				b.Logf("%s with %d: %.0f/s, %.2f (%.2f to %.2f) times the rate of SELECT with %d",
					c.name, c.workers, median(c.rates), median(ratios), slices.Min(ratios), slices.Max(ratios), against.workers)
				b.ReportMetric(median(ratios), fmt.Sprintf("x_SELECT_with_%d", c.workers))
			}
			many := polls[len(polls)-1]
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
