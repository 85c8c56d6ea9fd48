package devicegrant

import (
	"context"
	"time"
)

// Purge deletes grants that have been expired for a lifetime, and tallies likewise, in
// batches, and returns how many there were. Between two batches it leaves the Store alone for four
// times as long as the last one took, a second at most. It is safe to call at any
// time, from any replica.
func (s *Server) Purge(ctx context.Context) (int, error) {
	const batch = 1000
	before := s.now().Add(-s.cfg.Lifetime)
	total := 0
	defer func() {
		if total > 0 {
			s.raise(ctx, Event{Type: EventPurged, Count: total})
		}
	}()
	for {
		began := time.Now()
		n, err := s.cfg.Store.Purge(ctx, before, batch)
		total += n
		if err != nil || n < batch {
			return total, err
		}
		select {
		case <-time.After(min(4*time.Since(began), time.Second)):
		case <-ctx.Done():
			return total, ctx.Err()
		}
	}
}

// PurgeEvery calls Purge at the interval, which must be above zero, until ctx
// ends, and returns why it ended. Failures are logged, and the next interval tries
// again. Run it in a goroutine of your own.
func (s *Server) PurgeEvery(ctx context.Context, interval time.Duration) error {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
			if _, err := s.Purge(ctx); err != nil && ctx.Err() == nil {
				s.cfg.Logger.ErrorContext(ctx, "devicegrant: purging expired grants failed", "error", err)
			}
		}
	}
}
