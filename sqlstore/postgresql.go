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
	FROM devicegrant_grants, `+noWait+` WHERE device_code = $1 AND client_id = $2
), polled AS (
	INSERT INTO devicegrant_polls AS p (device_code, expires_at, interval_us, on_time, last_poll, repeated)
	SELECT g.device_code, g.expires_at, {next of g} FROM g
	ON CONFLICT (device_code) DO UPDATE SET (interval_us, on_time, last_poll, repeated) = ROW({next of p})
	RETURNING p.interval_us, p.on_time, p.last_poll, p.repeated
)
SELECT g.id, g.state, g.expires_at, polled.* FROM g, polled`, "$3::bigint", "least", "greatest"),

		// What every device does that keeps to its interval. Nothing is computed but whether
		// it does: neither the same poll once more, nor too early.
		pollAgain: withPace(`UPDATE devicegrant_polls p SET on_time = $3, last_poll = $3, repeated = false
FROM devicegrant_grants g, `+noWait+`
WHERE p.device_code = $1 AND g.device_code = $1 AND g.client_id = $2 AND {plain after p}
RETURNING g.id, g.state, g.expires_at, p.interval_us, p.on_time, p.last_poll, p.repeated`, "$3", "least", "greatest"),

		// Rows are locked in the order in which they are found. Where two replicas poll two
		// grants at one moment and find them in different orders, one of them tries again.
		pollManyAgain: withPace(`UPDATE devicegrant_polls p SET (interval_us, on_time, last_poll, repeated) = ROW({next of p})
FROM `+polledGrants+` AND p.device_code = g.device_code
RETURNING g.device_code, g.id, g.state, g.expires_at, p.interval_us, p.on_time, p.last_poll, p.repeated`, "i.now", "least", "greatest"),

		// As poll. That of a grant which nobody has polled is on time, and excluded.last_poll
		// is when this poll came.
		pollMany: withPace(`WITH g AS (
	SELECT g.device_code, g.id, g.state, g.expires_at, g.interval_us, i.now
	FROM `+polledGrants+` AND g.last_poll IS NULL
), polled AS (
	INSERT INTO devicegrant_polls AS p (device_code, expires_at, interval_us, on_time, last_poll, repeated)
	SELECT device_code, expires_at, interval_us, now, now, false FROM g ORDER BY device_code
	ON CONFLICT (device_code) DO UPDATE SET (interval_us, on_time, last_poll, repeated) = ROW({next of p})
	RETURNING p.device_code, p.interval_us, p.on_time, p.last_poll, p.repeated
)
SELECT g.device_code, g.id, g.state, g.expires_at, polled.interval_us, polled.on_time, polled.last_poll, polled.repeated
FROM g JOIN polled USING (device_code)`, "excluded.last_poll", "least", "greatest"),

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
	lanes:    4,
	atOnce:   64,
	pollArgs: pollsAsJSON,
	numbered: true,
	id:       func(id uuid.UUID) any { return id.String() },
	lost:     lostPostgreSQL,
	locked:   lockedPostgreSQL,
}}

// noWait lets a transaction end before its log is on disk. A poll has nothing that would
// have to be there; but whoever reads grants tidies their pages, which is logged, and would
// wait for that.
const noWait = `set_config('synchronous_commit', 'off', true)`

// polledGrants are the polls of a batch, each with its client's grant. LATERAL and LIMIT have
// the grants looked up one by one: while there are a few thousands, of which it may not know
// yet, the planner would rather read all of them for every batch.
const polledGrants = `json_to_recordset($1::json) AS i (device_code text, client_id text, now bigint)
CROSS JOIN LATERAL (SELECT * FROM devicegrant_grants WHERE device_code = decode(i.device_code, 'hex') LIMIT 1) AS g
CROSS JOIN ` + noWait + `
WHERE g.client_id = convert_from(decode(i.client_id, 'hex'), 'UTF8')`

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
