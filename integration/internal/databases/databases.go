// Package databases gives tests databases of their own: on the PostgreSQL and
// MariaDB servers of this machine, or those that environment variables name, and
// in SQLite files. A server that is not there is a failure.
package databases

import (
	"context"
	"crypto/rand"
	"database/sql"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib" // driver "pgx"
	_ "github.com/lib/pq"              // driver "postgres"
	_ "github.com/mattn/go-sqlite3"    // driver "sqlite3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	_ "modernc.org/sqlite" // driver "sqlite"

	"github.com/devicegrant/devicegrant/sqlstore"
)

// The servers, and by what variable to name others.
const (
	postgresEnv, postgresDSN = "DEVICEGRANT_POSTGRES", "postgres://postgres@127.0.0.1:5432/postgres?sslmode=disable"
	mysqlEnv, mysqlDSN       = "DEVICEGRANT_MYSQL", "root@tcp(127.0.0.1:3306)/"
)

// Kind is a kind of database and a driver for it.
type Kind struct {
	Name    string // of subtests
	Driver  string // for sql.Open
	Dialect sqlstore.Dialect
	create  func(t testing.TB) (dsn string)
}

// The kinds of databases. One for each kind is enough for what does not depend on
// the driver.
var (
	PostgreSQL = Kind{"PostgreSQL", "pgx", sqlstore.PostgreSQL, createPostgreSQL}
	MariaDB    = Kind{"MariaDB", "mysql", sqlstore.MySQL, createMariaDB}
	SQLite     = Kind{"SQLite", "sqlite", sqlstore.SQLite, func(t testing.TB) string {
		return "file:" + filepath.Join(t.TempDir(), "test.db") + "?_pragma=journal_mode(WAL)&_pragma=synchronous(NORMAL)"
	}}

	PostgreSQLPQ = Kind{"PostgreSQL-pq", "postgres", sqlstore.PostgreSQL, createPostgreSQL}
	SQLiteMattn  = Kind{"SQLite-mattn", "sqlite3", sqlstore.SQLite, func(t testing.TB) string {
		return "file:" + filepath.Join(t.TempDir(), "test.db") + "?_busy_timeout=50&_journal_mode=WAL&_synchronous=NORMAL"
	}}

	Each       = []Kind{PostgreSQL, MariaDB, SQLite}
	EachDriver = []Kind{PostgreSQL, PostgreSQLPQ, MariaDB, SQLite, SQLiteMattn}
)

// ByName returns the kind of that name.
func ByName(name string) Kind {
	return EachDriver[slices.IndexFunc(EachDriver, func(k Kind) bool { return k.Name == name })]
}

// Create returns the DSN of an empty database that is dropped when the test ends.
func (k Kind) Create(t testing.TB) (dsn string) {
	t.Helper()
	return k.create(t)
}

// With returns a DSN of this kind with more parameters, each as in "name=value".
func (k Kind) With(dsn string, parameters ...string) string {
	for _, parameter := range parameters {
		separator := "?"
		if strings.Contains(dsn, separator) {
			separator = "&"
		}
		dsn += separator + parameter
	}
	return dsn
}

// Open returns a pool for the database of a DSN, which ends with the test.
func (k Kind) Open(t testing.TB, dsn string) *sql.DB {
	t.Helper()
	db, err := sql.Open(k.Driver, dsn)
	require.NoError(t, err)
	db.SetMaxOpenConns(8)
	db.SetMaxIdleConns(8)
	t.Cleanup(func() { assert.NoError(t, db.Close()) })
	return db
}

// NewStore returns a Store with tables of its own in the database.
func (k Kind) NewStore(t testing.TB, db *sql.DB, cfg sqlstore.Config) *sqlstore.Store {
	t.Helper()
	require.NoError(t, sqlstore.CreateSchema(t.Context(), db, k.Dialect, cfg))
	store, err := sqlstore.New(db, k.Dialect, cfg)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, store.Close()) })
	return store
}

func createPostgreSQL(t testing.TB) string {
	u, err := url.Parse(fromEnv(postgresEnv, postgresDSN))
	require.NoError(t, err)
	own := *u
	own.Path = "/" + createOn(t, "pgx", u.String(), " WITH (FORCE)")
	return own.String()
}

func createMariaDB(t testing.TB) string {
	cfg, err := mysql.ParseDSN(fromEnv(mysqlEnv, mysqlDSN))
	require.NoError(t, err)
	own := cfg.Clone()
	own.DBName = createOn(t, "mysql", cfg.FormatDSN(), "")
	return own.FormatDSN()
}

// createOn creates a database on a server.
func createOn(t testing.TB, driver, dsn, dropOptions string) (name string) {
	name = "devicegrant_" + strings.ToLower(rand.Text())
	server, err := sql.Open(driver, dsn)
	require.NoError(t, err)
	_, err = server.ExecContext(t.Context(), "CREATE DATABASE "+name)
	require.NoError(t, err, "the server that %s is to be tested on", driver)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		_, err := server.ExecContext(ctx, "DROP DATABASE "+name+dropOptions)
		assert.NoError(t, err)
		assert.NoError(t, server.Close())
	})
	return name
}

func fromEnv(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}
