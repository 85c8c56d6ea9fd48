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
	texts: texts{
		// It ignores that a code exists; everything else it would ignore is checked
		// before (checkText).
		create: `INSERT IGNORE INTO devicegrant_grants (device_code, user_code, id, client_id, scope, state, subject,
	created_at, expires_at, version, interval_us, on_time, last_poll, repeated)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,

		byUserCode: `SELECT ` + grantColumns + `
FROM devicegrant_grants g LEFT JOIN devicegrant_polls p ON p.device_code = g.device_code
WHERE g.user_code = ?`,

		byDeviceCode: `SELECT ` + grantColumns + `
FROM devicegrant_grants g LEFT JOIN devicegrant_polls p ON p.device_code = g.device_code
WHERE g.device_code = ?`,

		poll: `CALL devicegrant_poll(?, ?, ?)`,

		swap: `UPDATE devicegrant_grants SET user_code = ?, state = ?, subject = ?, expires_at = ?, receipt = ?, version = version + 1
WHERE device_code = ? AND version = ?`,

		purge: `CALL devicegrant_purge(?, ?)`,

		lock: `SELECT version FROM devicegrant_grants WHERE device_code = ? AND version = ? FOR UPDATE SKIP LOCKED`,

		receipt: `SELECT receipt FROM devicegrant_grants WHERE device_code = ? AND version = ?`,
	},
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
	const wait = 60 // seconds
	if err := conn.QueryRowContext(ctx, "SELECT GET_LOCK('devicegrant_schema', ?)", wait).Scan(&got); err != nil {
		return err
	}
	if got.Int64 != 1 {
		return errors.New("another process is applying it")
	}
	err = apply(conn)
	_, unlockErr := conn.ExecContext(context.WithoutCancel(ctx), "DO RELEASE_LOCK('devicegrant_schema')")
	return errors.Join(err, unlockErr)
}
