package faults

import (
	"crypto/sha256"
	"database/sql"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/devicegrant/devicegrant"
	"github.com/devicegrant/devicegrant/integration/internal/databases"
	"github.com/devicegrant/devicegrant/sqlstore"
)

// A tally is counted up and purged, once without a fault. Then each thing that this asked
// the driver for fails, in each way: what a call that failed did has happened wholly or
// not at all, and a call that succeeded did it.
func TestEachPointOfTalliesFails(t *testing.T) {
	for _, kind := range databases.Each {
		t.Run(kind.Name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t, kind, false)
			points := h.countUp(t, -1, "")
			t.Logf("%d points: %v", len(points), points)
			require.Len(t, points, 8, "three reads, three writes, and a purge of grants and of tallies")
			for at, p := range points {
				for _, how := range p.faults() {
					t.Run(fmt.Sprintf("%d %s %s", at, p, how), func(t *testing.T) {
						seen := h.countUp(t, at, how)
						require.Equal(t, points[:at+1], seen[:at+1], "the same happens up to the fault")
					})
				}
			}
		})
	}
}

// countUp counts a tally up to three and purges it. One point fails. It returns the points
// that there were.
func (h *host) countUp(t *testing.T, at int, how fault) []point {
	c := &counting{host: h, line: &line{at: at, how: how}, key: sha256.Sum256(fmt.Append(nil, at, how))}
	c.faulty = c.line.open(t, h.kind, h.dsn)
	store, err := sqlstore.New(c.faulty, h.kind.Dialect, sqlstore.Config{})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, store.Close()) })
	c.line.watch()
	for range 3 {
		c.add(t, store)
	}
	c.purge(t, store)
	if at >= 0 {
		require.True(t, c.line.failed(), "the fault is never met")
	}
	return c.line.history()
}

type counting struct {
	*host
	line   *line
	faulty *sql.DB
	key    devicegrant.TallyKey
}

// tally is what is stored, seen through a sound connection.
func (c *counting) tally(t *testing.T) devicegrant.Tally {
	t.Helper()
	requireReturned(t, c.faulty)
	tallies, err := c.store.Tallies(t.Context(), []devicegrant.TallyKey{c.key})
	require.NoError(t, err)
	return tallies[0]
}

var longAgo = time.UnixMicro(1e6).UTC()

// add counts one more.
func (c *counting) add(t *testing.T, store *sqlstore.Store) {
	t.Helper()
	for range tries {
		tallies, err := store.Tallies(t.Context(), []devicegrant.TallyKey{c.key})
		before := c.tally(t)
		if err != nil {
			require.True(t, c.line.failed(), "Tallies: %v", err)
			continue
		}
		require.Equal(t, []devicegrant.Tally{before}, tallies)
		given := devicegrant.Tally{Guesses: before.Guesses + 1, PaidAt: longAgo, ExpiresAt: longAgo, Version: before.Version}
		err = store.SwapTallies(t.Context(), []devicegrant.TallyKey{c.key}, []devicegrant.Tally{given})
		given.Version++
		after := c.tally(t)
		if err == nil {
			require.Equal(t, given, after)
			return
		}
		require.NotErrorIs(t, err, devicegrant.ErrConflict)
		require.True(t, c.line.failed(), "SwapTallies: %v", err)
		if after == given {
			return
		}
		require.Equal(t, before, after)
	}
	require.Fail(t, "the guess is not counted")
}

func (c *counting) purge(t *testing.T, store *sqlstore.Store) {
	t.Helper()
	require.Equal(t, 3, c.tally(t).Guesses)
	for range tries {
		n, err := store.Purge(t.Context(), longAgo.Add(time.Second), 10)
		gone := c.tally(t) == devicegrant.Tally{}
		if err == nil {
			require.True(t, gone)
			require.True(t, n == 1 || c.line.failed(), "it counts")
			return
		}
		require.True(t, c.line.failed(), "Purge: %v", err)
	}
	require.Fail(t, "the tally is not purged")
}
