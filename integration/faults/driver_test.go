package faults

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/devicegrant/devicegrant/integration/internal/databases"
)

// This file is a driver around another one. It fails where it is told to.

// point is what a driver is asked for.
type point string

const (
	begin     point = "begin"
	prepare   point = "prepare"
	statement point = "statement"
	commit    point = "commit"
	rollback  point = "rollback"
)

// fault is a way to fail.
type fault string

const (
	refused fault = "refused"  // The database says no; a commit is rolled back.
	broken  fault = "broken"   // The connection breaks before the request arrives.
	badConn fault = "bad conn" // The same, and the driver says that it can be repeated.
	lost    fault = "lost"     // The connection breaks before the reply arrives.
)

// faults are those of a point. No database refuses to roll back.
func (p point) faults() []fault {
	if p == rollback {
		return []fault{broken, badConn, lost}
	}
	return []fault{refused, broken, badConn, lost}
}

var (
	errRefused = errors.New("the database refuses")
	errBroken  = errors.New("the connection broke")
)

// line is the connections of a pool. It counts what they are asked for while it is
// watched, and has one of that fail.
type line struct {
	mu      sync.Mutex
	watched bool
	seen    []point
	at      int // the number of the point that fails; negative for none
	how     fault
}

// next returns how the point at hand fails; empty if it does not.
func (l *line) next(p point) fault {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.watched {
		return ""
	}
	l.seen = append(l.seen, p)
	if len(l.seen)-1 == l.at {
		return l.how
	}
	return ""
}

func (l *line) watch() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.watched = true
}

func (l *line) history() []point {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]point(nil), l.seen...)
}

func (l *line) failed() bool { return l.at >= 0 && len(l.history()) > l.at }

// open returns a pool of connections on the line.
func (l *line) open(t testing.TB, kind databases.Kind, dsn string) *sql.DB {
	t.Helper()
	plain, err := sql.Open(kind.Driver, dsn)
	require.NoError(t, err)
	inner := plain.Driver()
	require.NoError(t, plain.Close())
	c := &connector{line: l, driver: inner, dsn: dsn, prepares: kind.Name == databases.MariaDB.Name}
	if d, ok := inner.(driver.DriverContext); ok {
		c.inner, err = d.OpenConnector(dsn)
		require.NoError(t, err)
	}
	db := sql.OpenDB(c)
	db.SetMaxOpenConns(maxOpen)
	db.SetMaxIdleConns(maxOpen)
	t.Cleanup(func() { assert.NoError(t, db.Close()) })
	return db
}

// maxOpen is so little that a connection which is not returned is soon missed.
const maxOpen = 2

type connector struct {
	line     *line
	driver   driver.Driver
	dsn      string
	inner    driver.Connector // nil if the driver has none
	prepares bool             // The driver sends no arguments without preparing.
}

func (c *connector) Driver() driver.Driver { return c.driver }

func (c *connector) Connect(ctx context.Context) (driver.Conn, error) {
	var inner driver.Conn
	var err error
	if c.inner != nil {
		inner, err = c.inner.Connect(ctx)
	} else {
		inner, err = c.driver.Open(c.dsn)
	}
	if err != nil {
		return nil, err
	}
	return &conn{Conn: inner, connector: c}, nil
}

// conn is used by one goroutine at a time.
type conn struct {
	driver.Conn
	*connector
	dead bool
}

// do asks for a point, unless that is the one that fails. A refusal does what undo does;
// nil does nothing.
func (c *conn) do(p point, call func() error, undo func() error) error {
	if c.dead {
		return driver.ErrBadConn
	}
	switch c.line.next(p) {
	case refused:
		if undo != nil {
			return errors.Join(errRefused, undo())
		}
		return errRefused
	case broken:
		c.dead = true
		return errBroken
	case badConn:
		c.dead = true
		return driver.ErrBadConn
	case lost:
		if err := call(); err != nil {
			return err
		}
		c.dead = true
		return errBroken
	}
	return call()
}

func (c *conn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	var inner driver.Stmt
	err := c.do(prepare, func() (err error) {
		inner, err = c.Conn.(driver.ConnPrepareContext).PrepareContext(ctx, query)
		return err
	}, nil)
	if err != nil {
		if inner != nil {
			err = errors.Join(err, inner.Close())
		}
		return nil, err
	}
	return &stmt{inner, c}, nil
}

func (c *conn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	if c.prepares && len(args) > 0 {
		return nil, driver.ErrSkip
	}
	return c.exec(func() (driver.Result, error) { return c.Conn.(driver.ExecerContext).ExecContext(ctx, query, args) })
}

func (c *conn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	if c.prepares && len(args) > 0 {
		return nil, driver.ErrSkip
	}
	return c.query(func() (driver.Rows, error) { return c.Conn.(driver.QueryerContext).QueryContext(ctx, query, args) })
}

func (c *conn) exec(call func() (driver.Result, error)) (result driver.Result, err error) {
	err = c.do(statement, func() (err error) { result, err = call(); return err }, nil)
	if err != nil {
		return nil, err
	}
	return result, nil
}

func (c *conn) query(call func() (driver.Rows, error)) (rows driver.Rows, err error) {
	err = c.do(statement, func() (err error) { rows, err = call(); return err }, nil)
	if err != nil {
		if rows != nil {
			drain(rows) // The statement takes effect to its end.
		}
		return nil, err
	}
	return rows, nil
}

func drain(rows driver.Rows) {
	row := make([]driver.Value, len(rows.Columns()))
	for rows.Next(row) == nil {
	}
	_ = rows.Close()
}

func (c *conn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	var inner driver.Tx
	err := c.do(begin, func() (err error) {
		inner, err = c.Conn.(driver.ConnBeginTx).BeginTx(ctx, opts)
		return err
	}, nil)
	if err != nil {
		if inner != nil {
			_ = inner.Rollback() // As the database does when the connection breaks.
		}
		return nil, err
	}
	return &tx{inner, c}, nil
}

func (c *conn) Ping(ctx context.Context) error {
	if p, ok := c.Conn.(driver.Pinger); ok && !c.dead {
		return p.Ping(ctx)
	}
	return c.usable()
}

func (c *conn) ResetSession(ctx context.Context) error {
	if r, ok := c.Conn.(driver.SessionResetter); ok && !c.dead {
		return r.ResetSession(ctx)
	}
	return c.usable()
}

func (c *conn) usable() error {
	if c.dead {
		return driver.ErrBadConn
	}
	return nil
}

func (c *conn) IsValid() bool {
	v, ok := c.Conn.(driver.Validator)
	return !c.dead && (!ok || v.IsValid())
}

func (c *conn) CheckNamedValue(v *driver.NamedValue) error {
	if checker, ok := c.Conn.(driver.NamedValueChecker); ok {
		return checker.CheckNamedValue(v)
	}
	return driver.ErrSkip
}

type stmt struct {
	driver.Stmt
	conn *conn
}

func (s *stmt) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	return s.conn.exec(func() (driver.Result, error) { return s.Stmt.(driver.StmtExecContext).ExecContext(ctx, args) })
}

func (s *stmt) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	return s.conn.query(func() (driver.Rows, error) { return s.Stmt.(driver.StmtQueryContext).QueryContext(ctx, args) })
}

func (s *stmt) CheckNamedValue(v *driver.NamedValue) error {
	if checker, ok := s.Stmt.(driver.NamedValueChecker); ok {
		return checker.CheckNamedValue(v)
	}
	return s.conn.CheckNamedValue(v)
}

type tx struct {
	driver.Tx
	conn *conn
}

func (t *tx) Commit() error {
	err := t.conn.do(commit, t.Tx.Commit, t.Tx.Rollback)
	if t.conn.dead {
		_ = t.Tx.Rollback() // As the database does, unless it has committed.
	}
	return err
}

func (t *tx) Rollback() error {
	err := t.conn.do(rollback, t.Tx.Rollback, nil)
	if t.conn.dead {
		_ = t.Tx.Rollback()
	}
	return err
}
