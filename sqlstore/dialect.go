package sqlstore

import (
	"context"
	"database/sql"

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
	prepares  bool // statements are worth preparing
	oneWriter bool // only one connection can write at a time

	// id is a grant's ID as the database takes it.
	id func(uuid.UUID) any
	// lost reports whether a statement was rolled back because of others, and so
	// can be repeated.
	lost func(error) bool
	// locked calls apply while nobody else applies the schema.
	locked func(ctx context.Context, db *sql.DB, apply func(execer) error) error
}

// texts are the statements of a dialect, under the default prefix. Each takes its
// arguments in the same order everywhere.
type texts struct {
	create, byUserCode, byDeviceCode, poll, swap, purge string
	lock, receipt                                       string // of Transactional
}
