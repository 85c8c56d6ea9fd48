package sqlstore

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"slices"
	"time"

	"github.com/devicegrant/devicegrant"
)

// Tallies implements devicegrant.Tallier.
func (s *Store) Tallies(ctx context.Context, keys []devicegrant.TallyKey) ([]devicegrant.Tally, error) {
	tallies := make([]devicegrant.Tally, len(keys))
	switch {
	case len(keys) == 0:
		return tallies, nil
	case len(keys) > devicegrant.MaxTallies:
		return nil, fmt.Errorf("sqlstore: %d tallies are asked for; at most %d can be read at once", len(keys), devicegrant.MaxTallies)
	}
	err := s.do(ctx, "tallies", func(ctx context.Context) error {
		clear(tallies) // Of a try before, nothing counts.
		return s.queries.tallies.each(ctx, tallyArgs(keys), func(rows *sql.Rows) error {
			var id []byte
			var t devicegrant.Tally
			var paid, expires int64
			if err := rows.Scan(&id, &t.Guesses, &paid, &expires, &t.Version); err != nil {
				return err
			}
			t.PaidAt, t.ExpiresAt = instant(paid), instant(expires)
			for i, key := range keys {
				if slices.Equal(key[:], id) {
					tallies[i] = t
				}
			}
			return nil
		})
	})
	if err != nil {
		return nil, err
	}
	return tallies, nil
}

// tallyArgs repeats the last key, until there are as many as the statement takes.
func tallyArgs(keys []devicegrant.TallyKey) []any {
	args := make([]any, devicegrant.MaxTallies)
	for i := range args {
		args[i] = keys[min(i, len(keys)-1)][:]
	}
	return args
}

// SwapTallies implements devicegrant.Tallier. Several are written in a transaction, in
// the order of their keys, so that no two wait for each other.
func (s *Store) SwapTallies(ctx context.Context, keys []devicegrant.TallyKey, tallies []devicegrant.Tally) error {
	if len(keys) != len(tallies) || len(keys) > devicegrant.MaxTallies {
		return fmt.Errorf("sqlstore: %d keys and %d tallies; at most %d of each can be written at once, and as many", len(keys), len(tallies), devicegrant.MaxTallies)
	}
	changes := make([]tallyChange, len(keys))
	for i, key := range keys {
		changes[i] = tallyChange{key, tallies[i]}
	}
	slices.SortFunc(changes, func(a, b tallyChange) int { return bytes.Compare(a.key[:], b.key[:]) })
	return s.write(ctx, "swap tallies", func(ctx context.Context) error {
		if len(changes) == 1 {
			return changes[0].write(ctx, s.queries.insertTally, s.queries.updateTally)
		}
		tx, err := s.db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer tx.Rollback() // After Commit there is nothing left to undo.
		insert, update := s.queries.insertTally.in(ctx, tx), s.queries.updateTally.in(ctx, tx)
		for _, c := range changes {
			if err := c.write(ctx, insert, update); err != nil {
				return err
			}
		}
		return tx.Commit()
	})
}

type tallyChange struct {
	key devicegrant.TallyKey
	devicegrant.Tally
}

func (c *tallyChange) write(ctx context.Context, insert, update query) error {
	paid, expires := c.PaidAt.UnixMicro(), c.ExpiresAt.UnixMicro()
	if c.Version == 0 {
		return insert.changeOne(ctx, devicegrant.ErrConflict, c.key[:], c.Guesses, paid, expires)
	}
	return update.changeOne(ctx, devicegrant.ErrConflict, c.Guesses, paid, expires, c.key[:], c.Version)
}

func (s *Store) purgeTallies(ctx context.Context, before time.Time, most int) (n int, err error) {
	err = s.write(ctx, "purge tallies", func(ctx context.Context) error {
		deleted, err := s.queries.purgeTallies.change(ctx, before.UnixMicro(), most)
		n = int(deleted)
		return err
	})
	return n, err
}
