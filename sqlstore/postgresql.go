package sqlstore

import (
	"context"
	"database/sql"
	"errors"

	"github.com/google/uuid"
)

// PostgreSQL is PostgreSQL 12 or later. Its statements are not prepared here: pgx does
// so by itself, and poolers between need not bear it.
var PostgreSQL = Dialect{&dialect{
	name:    "postgresql",
	version: readVersion,
	texts: texts{
		create: `INSERT INTO ` + newGrant + ` ON CONFLICT DO NOTHING`,

		// The grant is read and not locked; the upsert is in the unlogged table.
		poll: withPace(`WITH g AS (
	SELECT device_code, id, state, expires_at, interval_us, on_time, last_poll, repeated
	FROM devicegrant_grants WHERE device_code = $1 AND client_id = $2
), polled AS (
	INSERT INTO devicegrant_polls AS p (device_code, expires_at, interval_us, on_time, last_poll, repeated)
	SELECT g.device_code, g.expires_at, {next of g} FROM g
	ON CONFLICT (device_code) DO UPDATE SET (interval_us, on_time, last_poll, repeated) = ROW({next of p})
	RETURNING p.interval_us, p.on_time, p.last_poll, p.repeated
)
SELECT g.id, g.state, g.expires_at, polled.* FROM g, polled`, "$3::bigint", "least", "greatest"),

		// Arrays, so that the planner cannot choose to look for a batch twice. A poll
		// that was under way when its grant was purged leaves an orphan, for the last
		// batch to delete.
		purge: `WITH gone AS (
	DELETE FROM devicegrant_grants WHERE device_code = ANY (ARRAY(
		SELECT device_code FROM devicegrant_grants WHERE expires_at < $1 ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED))
	RETURNING device_code
), orphans AS (
	SELECT p.device_code FROM (SELECT device_code FROM devicegrant_polls WHERE expires_at < $1 ORDER BY expires_at LIMIT $2) p
	WHERE (SELECT count(*) FROM gone) < $2 AND NOT EXISTS (SELECT FROM devicegrant_grants g WHERE g.device_code = p.device_code)
), polls AS (
	DELETE FROM devicegrant_polls WHERE device_code = ANY (ARRAY(SELECT device_code FROM gone UNION ALL SELECT device_code FROM orphans))
)
SELECT count(*) FROM gone`,

		lock: lockGrant,

		insertTally: `INSERT INTO ` + newTally + ` ON CONFLICT DO NOTHING`,

		purgeTallies: `DELETE FROM devicegrant_tallies WHERE id = ANY (ARRAY(
	SELECT id FROM devicegrant_tallies WHERE expires_at < $1 ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED))`,
	},
	numbered: true,
	id:       func(id uuid.UUID) any { return id.String() },
	lost:     lostPostgreSQL,
	locked:   lockedPostgreSQL,
}}

// lostPostgreSQL recognizes a deadlock and a serialization failure, of any driver.
func lostPostgreSQL(err error) bool {
	var e interface{ SQLState() string }
	return errors.As(err, &e) && (e.SQLState() == "40P01" || e.SQLState() == "40001")
}

// lockedPostgreSQL applies the schema in one transaction.
func lockedPostgreSQL(ctx context.Context, db *sql.DB, apply func(execer) error) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() // After Commit there is nothing left to undo.

	const key = 0x64657667 // "devg"
	if _, err := tx.ExecContext(ctx, "SELECT pg_advisory_xact_lock($1)", key); err != nil {
		return err
	}
	if err := apply(tx); err != nil {
		return err
	}
	return tx.Commit()
}
