// Package bench measures sqlstore on every database and driver that it is tested
// with. `make bench-sql` runs it; docs/operations.md has figures.
package bench

import (
	"crypto/sha256"
	"database/sql"
	"fmt"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/devicegrant/devicegrant"
	"github.com/devicegrant/devicegrant/integration/internal/databases"
	"github.com/devicegrant/devicegrant/sqlstore"
)

const (
	clientID = "tv"
	interval = 5 * time.Second

	// connections is the size of the pool, for up to 64 goroutines.
	connections = 16

	// rowsPerInsert keeps an INSERT within what a statement may be given.
	rowsPerInsert = 1000
)

// When the grants were created, and until when they live.
var (
	created = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	expires = created.Add(24 * time.Hour)
)

// fixture is a database with grants in it.
type fixture struct {
	kind  databases.Kind
	db    *sql.DB
	store *sqlstore.Store

	polled  []devicegrant.Grant // A fifth, so that MariaDB's table in memory has room for all.
	changed []devicegrant.Grant // Another fifth, as they are stored.

	calls atomic.Int64 // of anything, so that what has to be new is
}

func newFixture(tb testing.TB, kind databases.Kind, grants int) *fixture {
	tb.Helper()
	db := kind.Open(tb, kind.Create(tb))
	db.SetMaxOpenConns(connections)
	db.SetMaxIdleConns(connections)
	f := &fixture{kind: kind, db: db, store: kind.NewStore(tb, db, sqlstore.Config{})}
	f.exec(tb, "CREATE TABLE tokens (token VARCHAR(64) PRIMARY KEY, subject VARCHAR(64) NOT NULL)")
	all := make([]devicegrant.Grant, grants)
	for i := range all {
		all[i] = newGrant(i, expires)
	}
	f.load(tb, all)
	f.polled, f.changed = all[:grants/5], all[grants/5:grants*2/5]
	f.loadPolls(tb, f.polled)
	for _, statement := range analyze[kind.Dialect] {
		f.exec(tb, statement)
	}
	return f
}

// analyze is what databases do by themselves in time: look at what is in the tables.
var analyze = map[sqlstore.Dialect][]string{
	sqlstore.PostgreSQL: {"VACUUM ANALYZE devicegrant_grants", "VACUUM ANALYZE devicegrant_polls"},
	sqlstore.MySQL:      {"ANALYZE TABLE devicegrant_grants"},
	sqlstore.SQLite:     {"ANALYZE", "PRAGMA wal_checkpoint(TRUNCATE)"},
}

// newGrant returns the i-th grant, which waits for a person.
func newGrant(i int, expires time.Time) devicegrant.Grant {
	g := devicegrant.Grant{
		DeviceCode: sha256.Sum256(fmt.Append(nil, "device ", i)),
		UserCode:   sha256.Sum256(fmt.Append(nil, "user ", i)),
		ClientID:   clientID,
		Scope:      "openid profile",
		Device:     devicegrant.Device{Name: "Kitchen", UserAgent: "TV/1.0", Addr: netip.AddrFrom4([4]byte{192, 0, 2, 1})},
		State:      devicegrant.Pending,
		CreatedAt:  created,
		ExpiresAt:  expires,
		Pace:       devicegrant.Pace{Interval: interval},
	}
	copy(g.ID[:], g.DeviceCode[:])
	return g
}

// fresh returns a number that nothing had before; those of the grants that were
// loaded at first are smaller.
func (f *fixture) fresh() int { return 1e9 + int(f.calls.Add(1)) }

// load stores grants, faster than one by one.
func (f *fixture) load(tb testing.TB, grants []devicegrant.Grant) {
	tb.Helper()
	f.insert(tb, `devicegrant_grants (device_code, user_code, id, client_id, scope, resource, authorization_details, token_hint,
	device_name, device_agent, device_addr, state, subject, entered, created_at, expires_at, version, interval_us, repeated)`, grants, func(g *devicegrant.Grant, parameter func(any) string) string {
		return fmt.Sprintf("%s, %s, %s, '%s', '%s', '', '', '', '%s', '%s', '%s', %d, '%s', %d, %d, %d, %d, %d, false",
			parameter(g.DeviceCode[:]), parameter(g.UserCode[:]), parameter(f.id(g.ID)), g.ClientID, g.Scope,
			g.Device.Name, g.Device.UserAgent, g.Device.Addr, g.State, g.Subject, g.Entered,
			g.CreatedAt.UnixMicro(), g.ExpiresAt.UnixMicro(), g.Version, g.Pace.Interval.Microseconds())
	})
}

// loadPolls records a first poll of grants.
func (f *fixture) loadPolls(tb testing.TB, grants []devicegrant.Grant) {
	tb.Helper()
	columns := "device_code, interval_us, on_time, last_poll, repeated"
	if f.kind.Dialect != sqlstore.SQLite {
		columns += ", expires_at"
	}
	f.insert(tb, "devicegrant_polls ("+columns+")", grants, func(g *devicegrant.Grant, parameter func(any) string) string {
		row := fmt.Sprintf("%s, %d, %[3]d, %[3]d, false", parameter(g.DeviceCode[:]), g.Pace.Interval.Microseconds(), created.UnixMicro())
		if f.kind.Dialect != sqlstore.SQLite {
			row += fmt.Sprint(", ", g.ExpiresAt.UnixMicro())
		}
		return row
	})
}

// insert inserts a row for each of the grants, in one transaction.
func (f *fixture) insert(tb testing.TB, into string, grants []devicegrant.Grant, row func(g *devicegrant.Grant, parameter func(any) string) string) {
	tb.Helper()
	tx, err := f.db.BeginTx(tb.Context(), nil)
	require.NoError(tb, err)
	defer tx.Rollback()
	for len(grants) > 0 {
		n := min(rowsPerInsert, len(grants))
		rows, args := make([]string, n), []any(nil)
		for i := range rows {
			rows[i] = "(" + row(&grants[i], func(arg any) string {
				args = append(args, arg)
				return f.parameter(len(args))
			}) + ")"
		}
		_, err := tx.ExecContext(tb.Context(), "INSERT INTO "+into+" VALUES "+strings.Join(rows, ", "), args...)
		require.NoError(tb, err)
		grants = grants[n:]
	}
	require.NoError(tb, tx.Commit())
}

func (f *fixture) exec(tb testing.TB, text string, args ...any) {
	tb.Helper()
	_, err := f.db.ExecContext(tb.Context(), text, args...)
	require.NoError(tb, err)
}

// prepare returns a statement like those of the Store: prepared, except on
// PostgreSQL, where that is left to the driver.
func (f *fixture) prepare(tb testing.TB, text string) func(args ...any) *sql.Row {
	tb.Helper()
	if f.kind.Dialect == sqlstore.PostgreSQL {
		return func(args ...any) *sql.Row { return f.db.QueryRowContext(tb.Context(), text, args...) }
	}
	statement, err := f.db.PrepareContext(tb.Context(), text)
	require.NoError(tb, err)
	tb.Cleanup(func() { require.NoError(tb, statement.Close()) })
	return func(args ...any) *sql.Row { return statement.QueryRowContext(tb.Context(), args...) }
}

// parameter is the n-th of a statement.
func (f *fixture) parameter(n int) string {
	if f.kind.Dialect == sqlstore.PostgreSQL {
		return fmt.Sprintf("$%d", n)
	}
	return "?"
}

// id is a UUID as the database takes it.
func (f *fixture) id(id uuid.UUID) any {
	if f.kind.Dialect == sqlstore.PostgreSQL {
		return id.String()
	}
	return id[:]
}
