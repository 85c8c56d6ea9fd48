package sqlstore

import (
	"context"
	"database/sql"
	"encoding/hex"
	"encoding/json"

	"github.com/google/uuid"
)

// Dialect is a kind of database: PostgreSQL, MySQL or SQLite.
type Dialect struct{ *dialect }

// String returns the name of the kind of database.
func (d Dialect) String() string {
	if d.dialect == nil {
		return "no dialect"
	}
	return d.name
}

// dialect is what sets a kind of database apart.
type dialect struct {
	name      string // of the schema's file
	texts     texts
	version   string // reads the schema's version; zero when something is missing
	numbered  bool   // parameters are $1, $2 and not ?
	prepares  bool   // statements are worth preparing
	oneWriter bool   // only one connection can write at a time
	lanes     int    // how many statements record polls at a time
	atOnce    int    // how many polls one of them records

	// pollArgs are the arguments of the texts for several polls, for at most atOnce polls.
	pollArgs func([]*flight) []any

	// purgesAtOnce is how many rows one statement may purge, so that others who write do
	// not wait long; zero is no limit.
	purgesAtOnce int

	// id is a grant's ID as the database takes it.
	id func(uuid.UUID) any
	// lost reports whether a statement was rolled back because of others, and so
	// can be repeated.
	lost func(error) bool
	// locked calls apply while nobody else applies the schema.
	locked func(ctx context.Context, db *sql.DB, apply func(execer) error) error
}

// texts are the statements that databases write differently. Each takes its
// arguments in the same order everywhere.
type texts struct {
	create string // a grant, unless one of its codes is there: the row count says so
	poll   string // of a client: record it and read the grant
	// pollAgain is poll for one that is on time, of a grant that was polled before: it
	// returns no row for any other. Empty where it would gain nothing.
	pollAgain string
	// look reads the device code, deadline and interval of several grants, each if it is the
	// client's and no pace came with Create. Empty where pollMany does so itself.
	look string
	// pollManyAgain is pollMany for grants that were polled before, faster.
	pollManyAgain string
	// pollMany is poll for several grants of which that is so. It returns a row for each
	// that it has recorded, with the device code first.
	pollMany string

	purge string // grants before a time, up to a limit: each row counts for as many
	lock  string // a grant of a version, unless a transaction has it: returns a row

	insertTally  string // unless its key is there: the row count says so
	purgeTallies string // before a time, up to a limit
}

// The statements, and parts of some, that they write in the same way.
const (
	newGrant = `devicegrant_grants (device_code, user_code, id, client_id, scope, resource, authorization_details, token_hint,
	device_name, device_agent, device_addr, state, subject, session, entered, created_at, expires_at, version,
	interval_us, on_time, last_poll, repeated)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`

	// The pace is the one that polls have made, or, before the first, the grant's own.
	readGrant = `SELECT g.device_code, g.user_code, g.id, g.client_id, g.scope, g.resource, g.authorization_details, g.token_hint,
	g.device_name, g.device_agent, g.device_addr, g.state, g.subject, g.session, g.entered, g.created_at, g.expires_at, g.version,
	COALESCE(p.interval_us, g.interval_us), COALESCE(p.on_time, g.on_time),
	COALESCE(p.last_poll, g.last_poll), COALESCE(p.repeated, g.repeated)
FROM devicegrant_grants g LEFT JOIN devicegrant_polls p ON p.device_code = g.device_code
WHERE g.`

	// listed follows readGrant. Of each filter, the first parameter says that it is empty.
	listed = `device_code > ? AND g.state IN (1, 2) AND g.expires_at > ? AND (? OR g.client_id = ?) AND (? OR g.subject = ?)
ORDER BY g.device_code LIMIT ?`

	swapGrant = `UPDATE devicegrant_grants SET user_code = ?, scope = ?, state = ?, subject = ?, session = ?, entered = ?, expires_at = ?, receipt = ?,
	version = version + 1
WHERE device_code = ? AND version = ?`

	// Both change a pace that is there, as it was read, or grow its interval.
	savePace = `UPDATE devicegrant_polls SET interval_us = ?, last_poll = ?, repeated = ?
WHERE device_code = ? AND interval_us = ? AND on_time = ? AND last_poll = ? AND repeated = ?`

	saveInterval = `UPDATE devicegrant_polls SET interval_us = ? WHERE device_code = ? AND interval_us < ?`

	lockGrant = `SELECT version FROM devicegrant_grants WHERE device_code = ? AND version = ? FOR UPDATE SKIP LOCKED`

	readVersion = `SELECT COALESCE(MAX(version), 0) FROM devicegrant_schema`

	readReceipt = `SELECT receipt FROM devicegrant_grants WHERE device_code = ? AND version = ?`

	// As many as there may be keys, which is devicegrant.MaxTallies.
	readTallies = `SELECT id, guesses, paid_at, expires_at, version FROM devicegrant_tallies WHERE id IN (?, ?, ?, ?, ?, ?)`

	newTally = `devicegrant_tallies (id, guesses, paid_at, expires_at, version) VALUES (?, ?, ?, ?, 1)`

	updateTally = `UPDATE devicegrant_tallies SET guesses = ?, paid_at = ?, expires_at = ?, version = version + 1
WHERE id = ? AND version = ?`
)

// pollsAsJSON are polls as an array of objects, for a statement that takes any number of
// them.
func pollsAsJSON(flights []*flight) []any {
	type object struct {
		DeviceCode string `json:"device_code"` // in hexadecimal, as is the client id, whatever the text encoding
		ClientID   string `json:"client_id"`
		Now        int64  `json:"now"`
		ExpiresAt  int64  `json:"expires_at"`
		Interval   int64  `json:"interval_us"`
	}
	objects := make([]object, len(flights))
	for i, f := range flights {
		objects[i] = object{
			hex.EncodeToString(f.code[:]), hex.EncodeToString([]byte(f.clientID)), f.now.UnixMicro(),
			f.last.ExpiresAt.UnixMicro(), f.last.Pace.Interval.Microseconds(),
		}
	}
	text, err := json.Marshal(objects)
	if err != nil {
		panic(err) // Strings and numbers always marshal.
	}
	return []any{string(text)}
}
