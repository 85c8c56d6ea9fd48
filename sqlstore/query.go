package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/devicegrant/devicegrant"
)

// queries are the statements of a Store.
type queries struct {
	create, byUserCode, byDeviceCode, list          query
	poll, pollAgain, look, pollManyAgain, pollMany  query
	savePace, saveInterval                          query
	swap, purge, lock, receipt                      query
	tallies, insertTally, updateTally, purgeTallies query
}

// query is one statement.
type query struct {
	on       execer
	text     string
	prepared *sql.Stmt // nil where preparing gains nothing
}

// newQueries prepares the statements of a dialect.
func newQueries(ctx context.Context, db *sql.DB, d Dialect, prefix string) (q queries, err error) {
	for _, s := range []struct {
		query *query
		text  string
	}{
		{&q.create, d.texts.create},
		{&q.byUserCode, readGrant + "user_code = ?"},
		{&q.byDeviceCode, readGrant + "device_code = ?"},
		{&q.list, readGrant + listed},
		{&q.poll, d.texts.poll},
		{&q.pollAgain, d.texts.pollAgain},
		{&q.look, d.texts.look},
		{&q.pollManyAgain, d.texts.pollManyAgain},
		{&q.pollMany, d.texts.pollMany},
		{&q.savePace, savePace},
		{&q.saveInterval, saveInterval},
		{&q.swap, swapGrant},
		{&q.purge, d.texts.purge},
		{&q.lock, d.texts.lock},
		{&q.receipt, readReceipt},
		{&q.tallies, readTallies},
		{&q.insertTally, d.texts.insertTally},
		{&q.updateTally, updateTally},
		{&q.purgeTallies, d.texts.purgeTallies},
	} {
		if d.numbered {
			s.text = number(s.text)
		}
		*s.query = query{on: db, text: strings.ReplaceAll(s.text, defaultPrefix, prefix)}
		if !d.prepares || s.text == "" {
			continue
		}
		if s.query.prepared, err = db.PrepareContext(ctx, s.query.text); err != nil {
			return q, errors.Join(errOp("prepare", err), q.close())
		}
	}
	return q, nil
}

// number writes $1, $2 and so on for each ?.
func number(text string) string {
	var b strings.Builder
	n := 0
	for part := range strings.SplitSeq(text, "?") {
		if n > 0 {
			fmt.Fprintf(&b, "$%d", n)
		}
		b.WriteString(part)
		n++
	}
	return b.String()
}

func (q *queries) close() error {
	var errs []error
	for _, q := range []query{
		q.create, q.byUserCode, q.byDeviceCode, q.list, q.poll, q.pollAgain, q.look, q.pollManyAgain, q.pollMany, q.savePace, q.saveInterval,
		q.swap, q.purge, q.lock, q.receipt,
		q.tallies, q.insertTally, q.updateTally, q.purgeTallies,
	} {
		if q.prepared != nil {
			errs = append(errs, q.prepared.Close())
		}
	}
	return errors.Join(errs...)
}

// in returns the statement as a part of a transaction.
func (q query) in(ctx context.Context, tx *sql.Tx) query {
	if q.prepared != nil {
		q.prepared = tx.StmtContext(ctx, q.prepared)
	}
	q.on = tx
	return q
}

func (q query) exec(ctx context.Context, args ...any) (sql.Result, error) {
	if q.prepared != nil {
		return q.prepared.ExecContext(ctx, args...)
	}
	return q.on.ExecContext(ctx, q.text, args...)
}

func (q query) rows(ctx context.Context, args ...any) (*sql.Rows, error) {
	if q.prepared != nil {
		return q.prepared.QueryContext(ctx, args...)
	}
	return q.on.QueryContext(ctx, q.text, args...)
}

// change returns how many rows a statement has changed.
func (q query) change(ctx context.Context, args ...any) (int64, error) {
	result, err := q.exec(ctx, args...)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// changeOne runs a statement that changes one row; when it changes none, that means
// the error none.
func (q query) changeOne(ctx context.Context, none error, args ...any) error {
	n, err := q.change(ctx, args...)
	if err == nil && n != 1 {
		return none
	}
	return err
}

// readOne reads the only row, if there is one, or returns ErrNotFound.
func (q query) readOne(ctx context.Context, args, dest []any) error {
	found := false
	err := q.each(ctx, args, func(rows *sql.Rows) error {
		found = true
		return rows.Scan(dest...)
	})
	if err == nil && !found {
		return devicegrant.ErrNotFound
	}
	return err
}

// each reads all rows to the end: a statement that writes and returns rows is over,
// and its log can be recycled, only then (SQLite).
func (q query) each(ctx context.Context, args []any, f func(*sql.Rows) error) error {
	rows, err := q.rows(ctx, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := f(rows); err != nil {
			return err
		}
	}
	return errors.Join(rows.Err(), rows.Close())
}

// Between two tries of a statement that the database has rolled back.
const (
	firstBackoff = time.Millisecond
	maxBackoff   = 25 * time.Millisecond
)

// do makes one call within the Store's time. What the database rolled back because
// of others is tried again until then.
func (s *Store) do(ctx context.Context, op string, call func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	return errOp(op, repeat(ctx, s.dialect.lost, call))
}

// write is do for what writes, and waits for the Store's other writers where only
// one can.
func (s *Store) write(ctx context.Context, op string, call func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	return s.writeWithin(ctx, op, call)
}

// writeWithin is write in a context that ends within the Store's time.
func (s *Store) writeWithin(ctx context.Context, op string, call func(context.Context) error) error {
	return errOp(op, repeat(ctx, s.dialect.lost, func(ctx context.Context) error {
		if err := s.writer.lock(ctx); err != nil {
			return err
		}
		defer s.writer.unlock()
		return call(ctx)
	}))
}

// repeat makes a call again as long as it loses to others and there is time.
func repeat(ctx context.Context, lost func(error) bool, call func(context.Context) error) error {
	for backoff := firstBackoff; ; backoff = min(2*backoff, maxBackoff) {
		err := call(ctx)
		if err == nil || !lost(err) {
			return err
		}
		timer := time.NewTimer(backoff/2 + rand.N(backoff)) //nolint:gosec // It spreads the tries, and is no secret.
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return errors.Join(ctx.Err(), err)
		}
	}
}

// writer is a lock that a context can give up waiting for. The nil writer lets
// everybody in.
type writer chan struct{}

func (w writer) lock(ctx context.Context) error {
	if w == nil {
		return nil
	}
	select {
	case w <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (w writer) unlock() {
	if w != nil {
		<-w
	}
}

// errOp says which call failed, unless the error is one of the contract's.
func errOp(op string, err error) error {
	if err == nil || errors.Is(err, devicegrant.ErrNotFound) || errors.Is(err, devicegrant.ErrConflict) || errors.Is(err, devicegrant.ErrUserCodeExists) {
		return err
	}
	return fmt.Errorf("sqlstore: %s: %w", op, err)
}
