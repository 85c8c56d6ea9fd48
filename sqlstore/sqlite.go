package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"strings"

	"github.com/google/uuid"
)

// SQLite is SQLite 3.37 or later. Only one connection can write at a time: the Store
// has its own writers wait for one another, and tries again when others' keep it.
// The database should be in WAL mode, so that reading waits for nobody.
var SQLite = Dialect{&dialect{
	name:    "sqlite",
	version: readVersion,
	texts: texts{
		create: `INSERT INTO ` + newGrant + ` ON CONFLICT DO NOTHING`,

		poll: withPace(`INSERT INTO devicegrant_polls AS p (device_code, interval_us, on_time, last_poll, repeated)
SELECT g.device_code, {next of g} FROM devicegrant_grants g WHERE g.device_code = ?1 AND g.client_id = ?2
ON CONFLICT (device_code) DO UPDATE SET (interval_us, on_time, last_poll, repeated) = ({next of p})
RETURNING (SELECT id FROM devicegrant_grants WHERE device_code = ?1), (SELECT state FROM devicegrant_grants WHERE device_code = ?1),
	(SELECT expires_at FROM devicegrant_grants WHERE device_code = ?1), interval_us, on_time, last_poll, repeated`, "?3", "min", "max"),

		pollMany: withPace(`WITH i (device_code, client_id, now) AS (VALUES `+strings.TrimSuffix(strings.Repeat("(?, ?, ?), ", sqliteAtOnce), ", ")+`)
INSERT INTO devicegrant_polls AS p (device_code, interval_us, on_time, last_poll, repeated)
SELECT g.device_code, g.interval_us, i.now, i.now, 0
FROM i CROSS JOIN devicegrant_grants g ON g.device_code = i.device_code AND g.client_id = i.client_id WHERE g.last_poll IS NULL
ON CONFLICT (device_code) DO UPDATE SET (interval_us, on_time, last_poll, repeated) = ({next of p})
RETURNING device_code, (SELECT id FROM devicegrant_grants g WHERE g.device_code = devicegrant_polls.device_code),
	(SELECT state FROM devicegrant_grants g WHERE g.device_code = devicegrant_polls.device_code),
	(SELECT expires_at FROM devicegrant_grants g WHERE g.device_code = devicegrant_polls.device_code),
	interval_us, on_time, last_poll, repeated`, "excluded.last_poll", "min", "max"),

		// A trigger deletes the polls.
		purge: `DELETE FROM devicegrant_grants WHERE device_code IN (
	SELECT device_code FROM devicegrant_grants WHERE expires_at < ? ORDER BY expires_at LIMIT ?)
RETURNING 1`,

		// A write that changes nothing takes the lock for all that follow.
		lock: `UPDATE devicegrant_grants SET version = version WHERE device_code = ? AND version = ? RETURNING version`,

		insertTally: `INSERT INTO ` + newTally + ` ON CONFLICT DO NOTHING`,

		purgeTallies: `DELETE FROM devicegrant_tallies WHERE id IN (
	SELECT id FROM devicegrant_tallies WHERE expires_at < ? ORDER BY expires_at LIMIT ?)`,
	},
	lanes:        1,
	atOnce:       sqliteAtOnce,
	pollArgs:     pollsAsValues,
	prepares:     true,
	oneWriter:    true,
	purgesAtOnce: 8,
	id:           func(id uuid.UUID) any { return id[:] },
	lost:         lostSQLite,
	locked:       lockedSQLite,
}}

// sqliteAtOnce is how many polls the statement takes. It has parameters for as many, so
// that it can be prepared, and those that are not used are NULL.
const sqliteAtOnce = 8

func pollsAsValues(flights []*flight) []any {
	args := make([]any, 3*sqliteAtOnce)
	for i, f := range flights {
		args[3*i], args[3*i+1], args[3*i+2] = f.code[:], f.clientID, f.now.UnixMicro()
	}
	return args
}

// lostSQLite recognizes SQLITE_BUSY and SQLITE_LOCKED by the text that SQLite itself
// has for them: each driver has a type of its own.
func lostSQLite(err error) bool {
	text := err.Error()
	return strings.Contains(text, "database is locked") || strings.Contains(text, "table is locked")
}

// lockedSQLite applies the schema in one transaction, which begins as a writer.
func lockedSQLite(ctx context.Context, db *sql.DB, apply func(execer) error) error {
	return repeat(ctx, lostSQLite, func(ctx context.Context) (err error) {
		conn, err := db.Conn(ctx)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, conn.Close()) }()
		if _, err := conn.ExecContext(ctx, "BEGIN IMMEDIATE"); err != nil {
			return err
		}
		if err = apply(conn); err == nil {
			_, err = conn.ExecContext(ctx, "COMMIT")
		}
		if err != nil {
			_, undoErr := conn.ExecContext(context.WithoutCancel(ctx), "ROLLBACK")
			return errors.Join(err, undoErr)
		}
		return nil
	})
}
