package sqlstore

import (
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

// SwapTally implements devicegrant.Tallier.
func (s *Store) SwapTally(ctx context.Context, key devicegrant.TallyKey, t devicegrant.Tally) error {
	return s.write(ctx, "swap tally", func(ctx context.Context) error {
		paid, expires := t.PaidAt.UnixMicro(), t.ExpiresAt.UnixMicro()
		if t.Version == 0 {
			return s.queries.insertTally.changeOne(ctx, devicegrant.ErrConflict, key[:], t.Guesses, paid, expires)
		}
		return s.queries.updateTally.changeOne(ctx, devicegrant.ErrConflict, t.Guesses, paid, expires, key[:], t.Version)
	})
}

func (s *Store) purgeTallies(ctx context.Context, before time.Time, most int) (n int, err error) {
	err = s.write(ctx, "purge tallies", func(ctx context.Context) error {
		deleted, err := s.queries.purgeTallies.change(ctx, before.UnixMicro(), most)
		n = int(deleted)
		return err
	})
	return n, err
}
