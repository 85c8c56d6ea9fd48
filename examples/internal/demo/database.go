package demo

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/devicegrant/devicegrant/sqlstore"
)

// database is Records that replicas share. Times are microseconds, as in sqlstore.
// Each write is one statement, or a transaction that begins with a write: SQLite
// can have it wait for other writers then.
type database struct {
	db       *sql.DB
	numbered bool // parameters are $1, $2 and not ?
	purges   []string
}

// InDatabase returns Records in a database, and creates their tables unless they are
// there. Replicas that start together may all call it. On SQLite, transactions have to
// begin as writers.
func InDatabase(ctx context.Context, db *sql.DB, dialect sqlstore.Dialect) (Records, error) {
	d := &database{db: db, numbered: dialect == sqlstore.PostgreSQL, purges: purges(dialect)}
	if err := d.createTables(ctx, dialect); err != nil {
		return nil, fmt.Errorf("creating the host's tables: %w", err)
	}
	return d, nil
}

func (d *database) startSession(ctx context.Context, cookie digest, s session, _ time.Time) error {
	_, err := d.write(ctx, "INSERT INTO host_sessions (cookie, subject, expires_at) VALUES (?, ?, ?)",
		cookie[:], s.subject, s.expires.UnixMicro())
	return err
}

func (d *database) session(ctx context.Context, cookie digest, now time.Time) (s session, ok bool, err error) {
	var expires int64
	ok, err = d.read(ctx, []any{&s.subject, &expires},
		"SELECT subject, expires_at FROM host_sessions WHERE cookie = ? AND expires_at > ?", cookie[:], now.UnixMicro())
	s.expires = time.UnixMicro(expires)
	return s, ok, err
}

func (d *database) endSession(ctx context.Context, cookie digest) error {
	_, err := d.write(ctx, "DELETE FROM host_sessions WHERE cookie = ?", cookie[:])
	return err
}

func (d *database) issue(ctx context.Context, l login, t accessToken) error {
	tx := sqlstore.Tx(ctx) // What is written in it is there if, and only if, the grant is redeemed.
	if tx == nil {
		return errors.New("tokens are to be issued in the transaction that redeems the grant; use sqlstore.Store.Transactional")
	}
	_, err := d.exec(ctx, tx, `INSERT INTO host_logins
(grant_id, client_id, subject, scope, resource, details, cnf_method, cnf_value, family, newest, issued_at, expires_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		l.grant[:], l.clientID, l.subject, l.scope, l.resource, l.details, string(l.key.Method), l.key.Thumbprint,
		l.family[:], l.newest[:], l.issued.UnixMicro(), l.expires.UnixMicro())
	if err != nil {
		return err
	}
	return d.keepAccess(ctx, tx, t)
}

func (d *database) keepAccess(ctx context.Context, tx *sql.Tx, t accessToken) error {
	_, err := d.exec(ctx, tx, "INSERT INTO host_access (token, grant_id, scope, resource, cnf_method, cnf_value, expires_at) VALUES (?, ?, ?, ?, ?, ?, ?)",
		t.token[:], t.grant[:], t.scope, t.resource, string(t.key.Method), t.key.Thumbprint, t.expires.UnixMicro())
	return err
}

func (d *database) login(ctx context.Context, grant uuid.UUID, now time.Time) (l login, ok bool, err error) {
	var family, newest []byte
	var issued, expires int64
	ok, err = d.read(ctx, []any{
		&l.clientID, &l.subject, &l.scope, &l.resource, &l.details, &l.key.Method, &l.key.Thumbprint, &family, &newest, &issued, &expires,
	}, `SELECT client_id, subject, scope, resource, details, cnf_method, cnf_value, family, newest, issued_at, expires_at
FROM host_logins WHERE grant_id = ? AND expires_at > ?`, grant[:], now.UnixMicro())
	l.grant, l.issued, l.expires = grant, time.UnixMicro(issued), time.UnixMicro(expires)
	copy(l.family[:], family)
	copy(l.newest[:], newest)
	return l, ok, err
}

func (d *database) refresh(ctx context.Context, l login, old digest, t accessToken, now time.Time) (ok bool, err error) {
	err = d.transaction(ctx, func(ctx context.Context, tx *sql.Tx) error {
		n, err := d.exec(ctx, tx, `UPDATE host_logins SET newest = ?, cnf_method = ?, cnf_value = ?, expires_at = ?
WHERE grant_id = ? AND newest = ? AND expires_at > ?`,
			l.newest[:], string(l.key.Method), l.key.Thumbprint, l.expires.UnixMicro(), l.grant[:], old[:], now.UnixMicro())
		if err != nil {
			return err
		}
		if ok = n == 1; ok {
			return d.keepAccess(ctx, tx, t)
		}
		_, err = d.exec(ctx, tx, "DELETE FROM host_logins WHERE grant_id = ?", l.grant[:])
		return err
	})
	return ok && err == nil, err
}

func (d *database) revoke(ctx context.Context, grant uuid.UUID, issued time.Time) error {
	_, err := d.write(ctx, "DELETE FROM host_logins WHERE grant_id = ? AND issued_at <= ?", grant[:], issued.UnixMicro())
	return err
}

func (d *database) access(ctx context.Context, token digest, now time.Time) (t accessToken, l login, ok bool, err error) {
	var grant []byte
	var expires int64
	ok, err = d.read(ctx, []any{&grant, &t.scope, &t.resource, &t.key.Method, &t.key.Thumbprint, &expires},
		"SELECT grant_id, scope, resource, cnf_method, cnf_value, expires_at FROM host_access WHERE token = ? AND expires_at > ?",
		token[:], now.UnixMicro())
	if !ok || err != nil {
		return t, l, false, err
	}
	t.token, t.expires = token, time.UnixMicro(expires)
	copy(t.grant[:], grant)
	l, ok, err = d.login(ctx, t.grant, now)
	return t, l, ok, err
}

func (d *database) purge(ctx context.Context, now time.Time, limit int) (most int, err error) {
	for _, purge := range d.purges {
		n, err := d.write(ctx, purge, now.UnixMicro(), limit)
		if err != nil {
			return most, err
		}
		most = max(most, int(n))
	}
	return most, nil
}

// callTime bounds each call, waiting for a connection and for locks included.
const callTime = 5 * time.Second

// do makes one call, and again while the database rolls it back because of others.
func (d *database) do(ctx context.Context, call func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	for {
		err := call(ctx)
		if err == nil || !lost(err) {
			return err
		}
		timer := time.NewTimer(time.Millisecond + rand.N(20*time.Millisecond)) //nolint:gosec // It spreads the tries, and is no secret.
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return errors.Join(ctx.Err(), err)
		}
	}
}

// lost recognizes what was rolled back because of others: SQLITE_BUSY, a deadlock in
// MySQL, a deadlock or a serialization failure in PostgreSQL.
func lost(err error) bool {
	text := err.Error()
	for _, part := range []string{"database is locked", "Error 1213 ", "(SQLSTATE 40P01)", "(SQLSTATE 40001)"} {
		if strings.Contains(text, part) {
			return true
		}
	}
	return false
}

// write runs a statement by itself, and returns how many rows it changed.
func (d *database) write(ctx context.Context, text string, args ...any) (n int64, err error) {
	err = d.do(ctx, func(ctx context.Context) (err error) {
		n, err = d.exec(ctx, d.db, text, args...)
		return err
	})
	return n, err
}

func (d *database) transaction(ctx context.Context, call func(context.Context, *sql.Tx) error) error {
	return d.do(ctx, func(ctx context.Context) error {
		tx, err := d.db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer tx.Rollback() // After Commit there is nothing left to undo.
		if err := call(ctx, tx); err != nil {
			return err
		}
		return tx.Commit()
	})
}

// read reads the only row, if there is one.
func (d *database) read(ctx context.Context, dest []any, text string, args ...any) (found bool, err error) {
	err = d.do(ctx, func(ctx context.Context) error {
		err := d.db.QueryRowContext(ctx, d.text(text), args...).Scan(dest...) //nolint:gosec // The statements are constants.
		found = err == nil
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		return err
	})
	return found, err
}

// exec runs a statement in the database or in a transaction.
func (d *database) exec(ctx context.Context, on interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}, text string, args ...any,
) (int64, error) {
	result, err := on.ExecContext(ctx, d.text(text), args...)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// text returns a statement with its parameters as the database writes them.
func (d *database) text(statement string) string {
	if !d.numbered {
		return statement
	}
	parts := strings.Split(statement, "?")
	for i := range parts[1:] {
		parts[i] += "$" + strconv.Itoa(i+1)
	}
	return strings.Join(parts, "")
}
