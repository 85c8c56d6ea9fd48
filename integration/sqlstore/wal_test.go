package sqlstore_test

import (
	"database/sql"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/devicegrant/devicegrant"
	"github.com/devicegrant/devicegrant/integration/internal/databases"
	"github.com/devicegrant/devicegrant/sqlstore"
)

// Polls of pending grants leave no row in PostgreSQL's log. What is left of a poll is
// the record that its transaction ended, for which nobody waits.
func TestPollsWriteNoWAL(t *testing.T) {
	t.Parallel()
	db := databases.PostgreSQL.Open(t, databases.StartPostgreSQL(t, "autovacuum=off").DSN)
	server := newServer(t, databases.PostgreSQL.NewStore(t, db, sqlstore.Config{ExactPace: true})) // So that each poll is a statement.
	execAll(t, db, "CREATE EXTENSION pg_walinspect")

	const polls = 10_000
	logged := walOfPolls(t, db, server, polls)
	assert.Empty(t, logged.rows, "records of rows")
	assert.LessOrEqual(t, logged.bytes, int64(48*polls))
	assert.Positive(t, logged.commits, "the polls are in the part of the log that was read")

	execAll(t, db, "ALTER TABLE devicegrant_polls SET LOGGED")
	assert.NotEmpty(t, walOfPolls(t, db, server, 10).rows, "records of rows in a table that is logged: they would be seen")
}

// Whoever reads a page of grants that were changed tidies it, and that is logged. A poll
// does not wait for it to be on disk: here it would do so for ever.
func TestPollsDoNotWaitForTheLog(t *testing.T) {
	t.Parallel()
	dsn := databases.StartPostgreSQL(t, "autovacuum=off", "synchronous_standby_names=nobody").DSN
	local := databases.PostgreSQL.Open(t, databases.PostgreSQL.With(dsn, "synchronous_commit=local"))
	databases.PostgreSQL.NewStore(t, local, sqlstore.Config{}) // With the schema.
	store, err := sqlstore.New(databases.PostgreSQL.Open(t, dsn), sqlstore.PostgreSQL, sqlstore.Config{ExactPace: true})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, store.Close()) })

	const grants = 100 // Several pages of them, for each way to poll.
	execAll(t, local, grantsOnPostgreSQL(2*grants))
	for from, workers := range map[int]int{1: 1, 1 + grants: grants} {
		for minute := range 2 { // First polls, and others.
			execAll(t, local, "UPDATE devicegrant_grants SET version = version + 1")
			var next atomic.Int64
			require.NoError(t, together(workers, func() (err error) {
				for i := next.Add(1) - 1; i < grants && err == nil; i = next.Add(1) - 1 {
					_, err = store.Poll(t.Context(), [32]byte(codeOf(int64(from)+i)), "tv", time.UnixMicro(1).Add(time.Duration(minute)*time.Minute))
				}
				return err
			}))
		}
	}
}

// together makes n calls at once.
func together(n int, call func() error) error {
	var wg sync.WaitGroup
	errs := make([]error, n)
	for i := range errs {
		wg.Go(func() { errs[i] = call() })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// walRecords is what was logged.
type walRecords struct {
	rows    []string // kinds of records of tables and indexes
	commits int
	bytes   int64 // of the commits
}

// walOfPolls has a hundred devices or fewer poll, and returns what that has logged.
func walOfPolls(t *testing.T, db *sql.DB, server *devicegrant.Server, polls int) (logged walRecords) {
	t.Helper()
	codes := make([]string, min(polls, 100))
	for i := range codes {
		codes[i] = authorize(t, server).DeviceCode
	}
	// What reading for the first time after a write would log is not the polls'.
	execAll(t, db, "VACUUM (FREEZE) devicegrant_grants", "CHECKPOINT")
	position := "SELECT pg_current_wal_insert_lsn()"
	var before, after string
	require.NoError(t, db.QueryRowContext(t.Context(), position).Scan(&before))
	for i := range polls {
		_, err := server.Poll(t.Context(), devicegrant.PollRequest{ClientID: tv.ID, DeviceCode: codes[i%len(codes)]})
		requirePending(t, err)
	}
	require.NoError(t, db.QueryRowContext(t.Context(), position).Scan(&after))
	execAll(t, db, "CHECKPOINT") // The records have to be on disk to be read.

	// Records of the catalog are of other statements' work, done when somebody passes by.
	rows, err := db.QueryContext(t.Context(), `
		SELECT resource_manager || '/' || record_type, count(*), sum(record_length)
		FROM pg_get_wal_records_info($1, $2) r
		WHERE resource_manager = 'Transaction' OR EXISTS (SELECT FROM pg_class
			WHERE relname LIKE 'devicegrant_%' AND r.block_ref LIKE '%/' || relfilenode || ' %')
		GROUP BY 1`, before, after)
	require.NoError(t, err)
	defer rows.Close()
	for rows.Next() {
		var kind string
		var n int
		var bytes int64
		require.NoError(t, rows.Scan(&kind, &n, &bytes))
		if kind != "Transaction/COMMIT" {
			logged.rows = append(logged.rows, kind)
			continue
		}
		logged.commits, logged.bytes = n, bytes
	}
	require.NoError(t, rows.Err())
	t.Logf("%d polls logged %+v", polls, logged)
	return logged
}

func requirePending(t *testing.T, err error) {
	t.Helper()
	var e *devicegrant.Error
	require.ErrorAs(t, err, &e)
	require.Contains(t, []string{"authorization_pending", "slow_down"}, e.Code)
	require.NoError(t, e.Unwrap())
}

func execAll(t *testing.T, db *sql.DB, statements ...string) {
	t.Helper()
	for _, statement := range statements {
		_, err := db.ExecContext(t.Context(), statement)
		require.NoError(t, err, statement)
	}
}
