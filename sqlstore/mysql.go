package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"strings"

	"github.com/google/uuid"
)

// MySQL is MariaDB 10.6 or later, and MySQL 8.0.29 or later. A statement of theirs
// cannot write a poll and read the grant, or delete from two tables up to a limit:
// procedures of the schema do that in one round trip.
var MySQL = Dialect{&dialect{
	name: "mysql",
	// A dump has the procedures only when it is asked for them.
	version: `SELECT IF(COUNT(*) = 3, (` + readVersion + `), 0) FROM information_schema.routines
WHERE routine_schema = DATABASE() AND routine_name IN ('devicegrant_poll', 'devicegrant_poll_many', 'devicegrant_purge')`,
	texts: texts{
		// It ignores that a code exists; everything else it would ignore is checked
		// before (checkText).
		create: `INSERT IGNORE INTO ` + newGrant,

		poll: `CALL devicegrant_poll(?, ?, ?)`,

		// A statement that writes would lock the grants that it reads.
		look: `SELECT g.device_code, g.expires_at, g.interval_us
FROM JSON_TABLE(?, '$[*]' COLUMNS (device_code CHAR(64) PATH '$.device_code', client_id VARCHAR(2048) PATH '$.client_id')) i
STRAIGHT_JOIN devicegrant_grants g ON g.device_code = UNHEX(i.device_code) AND g.client_id = UNHEX(i.client_id)
WHERE g.last_poll IS NULL`,

		pollMany: `CALL devicegrant_poll_many(?)`,

		purge: `CALL devicegrant_purge(?, ?)`,

		lock: lockGrant,

		insertTally: `INSERT IGNORE INTO ` + newTally,

		purgeTallies: `DELETE FROM devicegrant_tallies WHERE expires_at < ? ORDER BY expires_at, id LIMIT ?`,
	},
	lanes:    4,
	atOnce:   64,
	pollArgs: pollsAsJSON,
	prepares: true,
	id:       func(id uuid.UUID) any { return id[:] },
	lost:     lostMySQL,
	locked:   lockedMySQL,
}}

// lostMySQL recognizes a deadlock. The error's number is a field of a driver's type,
// and the start of its text.
func lostMySQL(err error) bool { return strings.Contains(err.Error(), "Error 1213 ") }

// lockedMySQL applies the schema under a lock of the connection: tables cannot be
// created in a transaction.
func lockedMySQL(ctx context.Context, db *sql.DB, apply func(execer) error) (err error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	var got sql.NullInt64
	if err := conn.QueryRowContext(ctx, "SELECT GET_LOCK('devicegrant_schema', ?)", schemaTimeout.Seconds()).Scan(&got); err != nil {
		return err
	}
	if got.Int64 != 1 {
		return errors.New("another process is applying it")
	}
	err = apply(conn)
	_, unlockErr := conn.ExecContext(context.WithoutCancel(ctx), "DO RELEASE_LOCK('devicegrant_schema')")
	return errors.Join(err, unlockErr)
}
