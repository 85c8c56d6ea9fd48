package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite" // driver "sqlite"

	"github.com/devicegrant/devicegrant"
	"github.com/devicegrant/devicegrant/examples/internal/demo"
	"github.com/devicegrant/devicegrant/memstore"
	"github.com/devicegrant/devicegrant/sqlstore"
)

const knownStores = "memory:, sqlite:FILE, postgres://USER:PASSWORD@HOST/DATABASE, mysql://USER:PASSWORD@HOST/DATABASE"

// openTime is how long a database may take to answer at the start, and schemaTime how
// long until the tables are there, while other replicas may be creating them.
const (
	openTime   = 5 * time.Second
	schemaTime = 30 * time.Second
)

// stores are where the server keeps what it has to remember.
type stores struct {
	grants  devicegrant.Store
	records demo.Records
	close   func() error
}

// openStores opens what a URL names. Its errors name the scheme and never the
// password.
func openStores(ctx context.Context, store string) (stores, error) {
	if store == "memory:" {
		return stores{memstore.New(0), demo.InMemory(), func() error { return nil }}, nil
	}
	scheme, rest, _ := strings.Cut(store, ":")
	var s stores
	var err error
	switch scheme {
	case "sqlite":
		s, err = openDatabase(ctx, sqlstore.SQLite, func() (*sql.DB, error) { return sqlitePool(rest) })
	case "postgres", "postgresql":
		s, err = openDatabase(ctx, sqlstore.PostgreSQL, func() (*sql.DB, error) { return postgresPool(store) })
	case "mysql":
		s, err = openDatabase(ctx, sqlstore.MySQL, func() (*sql.DB, error) { return mysqlPool(store) })
	default:
		return stores{}, fmt.Errorf("unknown store %q; known are: %s", scheme+":…", knownStores)
	}
	if err != nil {
		return stores{}, fmt.Errorf("store %q: %w", scheme+":…", err)
	}
	return s, nil
}

// openDatabase creates the tables that are missing. The grants and the host's tokens
// are in one database, so that a grant is redeemed and its tokens are kept together.
func openDatabase(ctx context.Context, dialect sqlstore.Dialect, pool func() (*sql.DB, error)) (_ stores, err error) {
	db, err := pool()
	if err != nil {
		return stores{}, err
	}
	defer func() {
		if err != nil {
			_ = db.Close() // What went wrong before says more.
		}
	}()
	if err := ping(ctx, db); err != nil {
		return stores{}, fmt.Errorf("the database does not let us in: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, schemaTime)
	defer cancel()
	if err := sqlstore.CreateSchema(ctx, db, dialect, sqlstore.Config{}); err != nil {
		return stores{}, err
	}
	records, err := demo.InDatabase(ctx, db, dialect)
	if err != nil {
		return stores{}, err
	}
	grants, err := sqlstore.New(db, dialect, sqlstore.Config{}) //nolint:contextcheck // It has a time limit of its own.
	if err != nil {
		return stores{}, err
	}
	return stores{
		grants:  grants.Transactional(),
		records: records,
		close:   func() error { return errors.Join(grants.Close(), db.Close()) },
	}, nil
}

// ping waits for SQLite to let the process in: several that start together get in
// each other's way while the file becomes a database.
func ping(ctx context.Context, db *sql.DB) error {
	ctx, cancel := context.WithTimeout(ctx, openTime)
	defer cancel()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := db.PingContext(ctx)
		if err == nil || !strings.Contains(err.Error(), "database is locked") {
			return err
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return err
		}
	}
}

// sqlitePool opens a file, which it creates for the owner only. Transactions begin as
// writers, so that waiting for another one can help; the wait is short, for those who
// write try again by themselves.
func sqlitePool(file string) (*sql.DB, error) {
	if file == "" {
		return nil, errors.New("the name of the file is missing")
	}
	path, err := filepath.Abs(file)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		if err := demo.CreateFile(path, ""); err != nil {
			return nil, err
		}
	}
	db, err := sql.Open("sqlite", sqliteURI(path))
	if err != nil {
		return nil, err
	}
	return limited(db, 8), nil
}

// sqliteURI names a file in SQLite's own way, in which any name can be written.
func sqliteURI(path string) string {
	uri := url.URL{Scheme: "file", Path: path, RawQuery: "_txlock=immediate" +
		"&_pragma=busy_timeout(100)&_pragma=journal_mode(WAL)&_pragma=synchronous(NORMAL)"}
	return uri.String()
}

func postgresPool(store string) (*sql.DB, error) {
	cfg, err := postgresConfig(store)
	if err != nil {
		return nil, err
	}
	return limited(sql.OpenDB(stdlib.GetConnector(*cfg)), 16), nil
}

// postgresConfig has the driver read the URL without its password, so that no error of
// the driver's can tell it.
func postgresConfig(store string) (*pgx.ConnConfig, error) {
	u, err := parseURL(store)
	if err != nil {
		return nil, err
	}
	query := u.Query()
	password, given := query.Get("password"), query.Has("password")
	if given {
		query.Del("password")
		u.RawQuery = query.Encode()
	}
	if u.User != nil {
		if inUser, ok := u.User.Password(); ok && !given {
			password, given = inUser, true
		}
		u.User = url.User(u.User.Username())
	}
	cfg, err := pgx.ParseConfig(u.String())
	if err != nil {
		return nil, err
	}
	if given {
		cfg.Password = password
	}
	return cfg, nil
}

func mysqlPool(store string) (*sql.DB, error) {
	cfg, err := mysqlConfig(store)
	if err != nil {
		return nil, err
	}
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		return nil, err
	}
	return limited(sql.OpenDB(connector), 16), nil
}

// mysqlConfig turns a URL into what the driver's own, different notation would say.
func mysqlConfig(store string) (*mysql.Config, error) {
	u, err := parseURL(store)
	if err != nil {
		return nil, err
	}
	host, port := u.Hostname(), u.Port()
	if host == "" {
		host = "127.0.0.1"
	}
	if port == "" {
		port = "3306"
	}
	addr := net.JoinHostPort(host, port)
	// The notation takes the last slash for the beginning of the database's name.
	cfg, err := mysql.ParseDSN("tcp(" + addr + ")/?" + strings.ReplaceAll(u.RawQuery, "/", "%2F"))
	if err != nil {
		return nil, err
	}
	if cfg.Addr != addr || cfg.Net != "tcp" {
		return nil, errMalformed
	}
	cfg.DBName = strings.TrimPrefix(u.Path, "/")
	if cfg.DBName == "" {
		return nil, errors.New("the URL names no database")
	}
	if u.User != nil {
		cfg.User = u.User.Username()
		cfg.Passwd, _ = u.User.Password()
	}
	return cfg, nil
}

var errMalformed = errors.New("the URL is malformed; write special characters in a user name or password in percent-encoding, such as %40 for @")

// parseURL refuses URLs in which a part of the password may have been taken for
// something else, which errors would tell.
func parseURL(store string) (*url.URL, error) {
	u, err := url.Parse(store)
	if err != nil || u.Opaque != "" || strings.Contains(store, "#") ||
		strings.Contains(u.EscapedPath(), "@") || strings.Contains(u.RawQuery, "@") {
		return nil, errMalformed // The error of url.Parse quotes what it does not understand.
	}
	return u, nil
}

// limited returns a pool of so many connections, which it keeps while they are used.
// Replicas share what a server admits: four stay below 100.
func limited(db *sql.DB, connections int) *sql.DB {
	db.SetMaxOpenConns(connections)
	db.SetMaxIdleConns(connections)
	db.SetConnMaxIdleTime(5 * time.Minute)
	db.SetConnMaxLifetime(30 * time.Minute)
	return db
}
