package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/devicegrant/devicegrant"
)

// Transactional is a Store whose grants are redeemed in one transaction, together
// with what the host writes in it. Get one with [Store.Transactional].
type Transactional struct{ *Store }

var (
	_ devicegrant.Redeemer = Transactional{}
	_ devicegrant.Tallier  = Transactional{}
	_ devicegrant.Lister   = Transactional{}
)

// Transactional returns the Store for a host that keeps its tokens in the same
// database. Its Config.IssueToken gets the transaction with [Tx] and writes its
// tokens in it: redemption and tokens then succeed or fail together, so that a crash
// of anything loses no login and doubles no token.
//
// What IssueToken writes elsewhere, or through the *sql.DB, is not part of the
// transaction; in SQLite, it would wait for the transaction in vain.
func (s *Store) Transactional() Transactional { return Transactional{s} }

type txKey struct{}

// Tx returns the transaction that redeems a grant, in the context that
// Config.IssueToken was given; nil without one. It is not the host's to commit or to
// roll back.
func Tx(ctx context.Context) *sql.Tx {
	tx, _ := ctx.Value(txKey{}).(*sql.Tx)
	return tx
}

// Redeem implements devicegrant.Redeemer. Other polls of the grant do not wait for
// the transaction: they read what was there before, or have ErrConflict.
func (t Transactional) Redeem(ctx context.Context, g *devicegrant.Grant, issue func(context.Context) ([]byte, error)) error {
	if err := checkText(g); err != nil {
		return err
	}
	defer t.memory.decided(g.DeviceCode)
	ctx, cancel := context.WithCancel(ctx) // The transaction's, so that it is not only for its beginning.
	defer cancel()
	tooLate := time.AfterFunc(t.timeout, cancel)
	defer tooLate.Stop()
	if err := t.writer.lock(ctx); err != nil {
		return errOp("redeem", err)
	}
	defer t.writer.unlock()
	tx, err := t.begin(ctx, g)
	tooLate.Stop()
	if err != nil {
		return errOp("redeem", err)
	}
	defer tx.Rollback() // After Commit there is nothing left to undo.
	receipt, err := issue(context.WithValue(ctx, txKey{}, tx))
	if err != nil {
		return err
	}
	if err := t.queries.swap.in(ctx, tx).changeOne(ctx, devicegrant.ErrConflict, swapArgs(g, receipt)...); err != nil {
		return errOp("redeem", err)
	}
	return errOp("redeem", tx.Commit())
}

// begin returns a transaction that holds the grant.
func (t Transactional) begin(ctx context.Context, g *devicegrant.Grant) (tx *sql.Tx, err error) {
	err = repeat(ctx, t.dialect.lost, func(ctx context.Context) error {
		if tx, err = t.db.BeginTx(ctx, nil); err != nil {
			return err
		}
		var version int64
		err := t.queries.lock.in(ctx, tx).readOne(ctx, []any{g.DeviceCode[:], g.Version}, []any{&version})
		if err == nil {
			return nil
		}
		_ = tx.Rollback() // The connection's error, if any, is the same.
		if errors.Is(err, devicegrant.ErrNotFound) {
			return devicegrant.ErrConflict // Changed, gone, or held by another.
		}
		return err
	})
	return tx, err
}

// Receipt implements devicegrant.Redeemer.
func (t Transactional) Receipt(ctx context.Context, g *devicegrant.Grant) (receipt []byte, err error) {
	err = t.do(ctx, "receipt", func(ctx context.Context) error {
		return t.queries.receipt.readOne(ctx, []any{g.DeviceCode[:], g.Version}, []any{&receipt})
	})
	return receipt, err
}
