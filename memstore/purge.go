package memstore

import (
	"context"
	"runtime"
	"time"

	"github.com/devicegrant/devicegrant"
)

// stepLen is how many slots are looked at while a shard is locked, by Purge and List: few
// enough for a poll that waits not to notice.
const stepLen = 128

// Purge implements devicegrant.Store. It goes through the slots of all shards, some
// hundred at a time, and goes on where the call before it stopped. Tallies come after the
// grants.
func (s *Store) Purge(ctx context.Context, before time.Time, limit int) (int, error) {
	total, at := 0, place(s.purgeNext.Load())
	// The shard at which it begins is gone through again in the end, from its first slot.
	for range shardCount + 1 {
		for more := true; more; {
			if err := ctx.Err(); err != nil {
				return total, err
			}
			var n int
			n, at, more = s.purgeStep(at, instantOf(before), limit-total)
			if total += n; total >= limit {
				s.purgeNext.Store(uint32(at))
				return total, nil
			}
			runtime.Gosched() // Whoever waits for the shard comes first.
		}
		at = placeOf((at.shard()+1)%shardCount, 0)
	}
	over := func(t devicegrant.Tally) bool { return t.ExpiresAt.Before(before) }
	return total + s.tallies.Purge(over, limit-total), nil
}

// purgeStep looks at the next slots of a shard, from a place on, and deletes up to limit
// grants. It returns how many, where to go on, and whether there are more slots.
func (s *Store) purgeStep(from place, before instant, limit int) (n int, next place, more bool) {
	var freed [stepLen]struct {
		code devicegrant.UserCodeDigest
		at   place
	}
	shard := &s.grants[from.shard()]
	shard.Lock()
	slot := max(from.slot(), 1)
	end := min(slot+stepLen-1, shard.records.last)
	for ; slot <= end && n < limit; slot++ {
		if r := shard.records.at(slot); r.live && r.expires < before {
			freed[n].code, freed[n].at = r.userCode, placeOf(from.shard(), slot)
			s.agents.release(r.agent)
			shard.remove(slot)
			n++
		}
	}
	more = slot <= shard.records.last
	shard.Unlock()
	for _, f := range freed[:n] {
		s.free(f.code, f.at)
	}
	s.count.Add(-int64(n))
	return n, placeOf(from.shard(), slot), more
}
