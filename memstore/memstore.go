// Package memstore keeps grants in the memory of one process: for a single
// server, for tests, and for trying things out. What it holds is lost when the
// process ends.
package memstore

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/devicegrant/devicegrant"
	"github.com/devicegrant/devicegrant/internal/recent"
)

// DefaultMax is how many grants a Store holds when Config.Max is zero.
const DefaultMax = 1_000_000

// shardCount is a power of two, large enough that two cores seldom meet in one.
const shardCount = 256

// Store is a devicegrant.Store in memory. It is safe for concurrent use.
//
// Grants are spread over shards by the digest of their device code, and the index
// of user codes by theirs. No two shards are ever locked at once by one call,
// except by Create, which takes the index's first.
//
// Of tallies it holds the 65,536 that were used last, and at most twice as many.
type Store struct {
	max     int64
	count   atomic.Int64
	grants  [shardCount]grantShard
	codes   [shardCount]codeShard
	tallies *recent.Map[devicegrant.TallyKey, devicegrant.Tally]

	purgeNext atomic.Uint32 // the shard at which the next Purge begins
}

type grantShard struct {
	sync.Mutex
	m map[devicegrant.DeviceCodeDigest]*devicegrant.Grant
}

type codeShard struct {
	sync.Mutex
	m map[devicegrant.UserCodeDigest]devicegrant.DeviceCodeDigest
}

var errDeviceCodeExists = errors.New("memstore: device code is stored already")

var (
	_ devicegrant.Store   = (*Store)(nil)
	_ devicegrant.Counter = (*Store)(nil)
	_ devicegrant.Lister  = (*Store)(nil)
	_ devicegrant.Tallier = (*Store)(nil)
)

// New returns an empty Store for at most maxGrants grants, those that are over and
// not yet purged included. Create returns devicegrant.ErrFull when there are as
// many. Zero means DefaultMax.
func New(maxGrants int) *Store {
	if maxGrants == 0 {
		maxGrants = DefaultMax
	}
	s := &Store{max: int64(maxGrants), tallies: recent.New[devicegrant.TallyKey, devicegrant.Tally](0)}
	for i := range shardCount {
		s.grants[i].m = make(map[devicegrant.DeviceCodeDigest]*devicegrant.Grant)
		s.codes[i].m = make(map[devicegrant.UserCodeDigest]devicegrant.DeviceCodeDigest)
	}
	return s
}

// grantShard returns the shard of a grant. Digests are uniform, and a device code
// cannot be chosen by a client, so that its first byte spreads evenly.
func (s *Store) grantShard(code devicegrant.DeviceCodeDigest) *grantShard {
	return &s.grants[code[0]]
}

func (s *Store) codeShard(code devicegrant.UserCodeDigest) *codeShard {
	return &s.codes[code[0]]
}

// Create implements devicegrant.Store.
func (s *Store) Create(_ context.Context, g *devicegrant.Grant) error {
	codes := s.codeShard(g.UserCode)
	codes.Lock()
	defer codes.Unlock()
	if _, taken := codes.m[g.UserCode]; taken {
		return devicegrant.ErrUserCodeExists
	}
	grants := s.grantShard(g.DeviceCode)
	grants.Lock()
	defer grants.Unlock()
	if _, taken := grants.m[g.DeviceCode]; taken {
		return errDeviceCodeExists
	}
	if s.count.Add(1) > s.max {
		s.count.Add(-1)
		return devicegrant.ErrFull
	}
	stored := *g
	stored.Key = devicegrant.Key{}
	// They may be part of a whole request.
	stored.ClientID, stored.Scope, stored.Resource = strings.Clone(g.ClientID), strings.Clone(g.Scope), strings.Clone(g.Resource)
	stored.AuthorizationDetails, stored.TokenHint = strings.Clone(g.AuthorizationDetails), strings.Clone(g.TokenHint)
	stored.Device.Name, stored.Device.UserAgent = strings.Clone(g.Device.Name), strings.Clone(g.Device.UserAgent)
	codes.m[g.UserCode] = g.DeviceCode
	grants.m[g.DeviceCode] = &stored
	return nil
}

// ByUserCode implements devicegrant.Store.
func (s *Store) ByUserCode(ctx context.Context, code devicegrant.UserCodeDigest) (*devicegrant.Grant, error) {
	codes := s.codeShard(code)
	codes.Lock()
	device, ok := codes.m[code]
	codes.Unlock()
	if !ok {
		return nil, devicegrant.ErrNotFound
	}
	g, err := s.ByDeviceCode(ctx, device)
	if err == nil && g.UserCode != code {
		return nil, devicegrant.ErrNotFound // Freed since the index was read.
	}
	return g, err
}

// ByDeviceCode implements devicegrant.Store.
func (s *Store) ByDeviceCode(_ context.Context, code devicegrant.DeviceCodeDigest) (*devicegrant.Grant, error) {
	shard := s.grantShard(code)
	shard.Lock()
	defer shard.Unlock()
	stored, ok := shard.m[code]
	if !ok {
		return nil, devicegrant.ErrNotFound
	}
	g := *stored
	return &g, nil
}

// Poll implements devicegrant.Store. It does not allocate.
func (s *Store) Poll(_ context.Context, code devicegrant.DeviceCodeDigest, clientID string, now time.Time) (devicegrant.Polled, error) {
	shard := s.grantShard(code)
	shard.Lock()
	defer shard.Unlock()
	g, ok := shard.m[code]
	if !ok {
		return devicegrant.Polled{}, devicegrant.ErrNotFound
	}
	if g.ClientID == clientID {
		g.Pace = g.Pace.Next(now)
	}
	return devicegrant.Polled{ID: g.ID, ClientID: g.ClientID, State: g.State, ExpiresAt: g.ExpiresAt, Pace: g.Pace}, nil
}

// Swap implements devicegrant.Store.
func (s *Store) Swap(_ context.Context, g *devicegrant.Grant) error {
	freed, err := s.swap(g)
	if err == nil && freed != (devicegrant.UserCodeDigest{}) {
		s.free(freed, g.DeviceCode)
	}
	return err
}

// swap returns the user code that the write frees, if any.
func (s *Store) swap(g *devicegrant.Grant) (freed devicegrant.UserCodeDigest, err error) {
	shard := s.grantShard(g.DeviceCode)
	shard.Lock()
	defer shard.Unlock()
	stored, ok := shard.m[g.DeviceCode]
	if !ok || stored.Version != g.Version {
		return freed, devicegrant.ErrConflict
	}
	if g.UserCode != stored.UserCode {
		freed = stored.UserCode
	}
	stored.UserCode, stored.State, stored.Subject, stored.ExpiresAt = g.UserCode, g.State, g.Subject, g.ExpiresAt
	stored.Session, stored.Entered = g.Session, g.Entered
	if stored.Scope != g.Scope {
		stored.Scope = strings.Clone(g.Scope) // It may be part of a longer one.
	}
	stored.Version++
	return freed, nil
}

// free takes a user code out of the index, if it still leads to that grant.
func (s *Store) free(code devicegrant.UserCodeDigest, device devicegrant.DeviceCodeDigest) {
	codes := s.codeShard(code)
	codes.Lock()
	defer codes.Unlock()
	if codes.m[code] == device {
		delete(codes.m, code)
	}
}

// Purge implements devicegrant.Store. It holds one shard at a time, and goes on
// where the call before it stopped. Tallies come after the grants.
func (s *Store) Purge(ctx context.Context, before time.Time, limit int) (int, error) {
	total, start := 0, s.purgeNext.Load()
	for i := range uint32(shardCount) {
		if err := ctx.Err(); err != nil {
			return total, err
		}
		shard := &s.grants[(start+i)%shardCount]
		for device, code := range shard.purge(before, limit-total) {
			s.free(code, device)
			s.count.Add(-1)
			total++
		}
		if total >= limit {
			s.purgeNext.Store(start + i) // There may be more in this shard.
			return total, nil
		}
	}
	over := func(t devicegrant.Tally) bool { return t.ExpiresAt.Before(before) }
	return total + s.tallies.Purge(over, limit-total), nil
}

// purge deletes up to limit grants and returns their codes.
func (shard *grantShard) purge(before time.Time, limit int) map[devicegrant.DeviceCodeDigest]devicegrant.UserCodeDigest {
	shard.Lock()
	defer shard.Unlock()
	purged := make(map[devicegrant.DeviceCodeDigest]devicegrant.UserCodeDigest)
	for device, g := range shard.m {
		if len(purged) >= limit {
			break
		}
		if g.ExpiresAt.Before(before) {
			purged[device] = g.UserCode
			delete(shard.m, device)
		}
	}
	return purged
}

// List implements devicegrant.Lister. It walks the shards, which are in the order of
// device codes, and holds one at a time.
func (s *Store) List(ctx context.Context, q devicegrant.ListQuery) ([]*devicegrant.Grant, error) {
	var list []*devicegrant.Grant
	for i := int(q.After[0]); i < shardCount && len(list) < q.Limit; i++ {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		list = append(list, s.grants[i].list(&q, q.Limit-len(list))...)
	}
	return list, nil
}

// list returns copies of the first grants for which q is true, at most limit.
func (shard *grantShard) list(q *devicegrant.ListQuery, limit int) []*devicegrant.Grant {
	shard.Lock()
	defer shard.Unlock()
	var codes []devicegrant.DeviceCodeDigest
	for code, g := range shard.m {
		if bytes.Compare(code[:], q.After[:]) > 0 && matches(g, q) {
			codes = append(codes, code)
		}
	}
	slices.SortFunc(codes, func(a, b devicegrant.DeviceCodeDigest) int { return bytes.Compare(a[:], b[:]) })
	list := make([]*devicegrant.Grant, min(limit, len(codes)))
	for i := range list {
		g := *shard.m[codes[i]]
		list[i] = &g
	}
	return list
}

// matches is all of a ListQuery but After.
func matches(g *devicegrant.Grant, q *devicegrant.ListQuery) bool {
	return (g.State == devicegrant.Pending || g.State == devicegrant.Approved) && g.ExpiresAt.After(q.Now) &&
		(q.ClientID == "" || g.ClientID == q.ClientID) && (q.Subject == "" || g.Subject == q.Subject)
}

// Count implements devicegrant.Counter: the grants held, in whatever state.
func (s *Store) Count(context.Context) (int, error) { return int(s.count.Load()), nil }

// Tallies implements devicegrant.Tallier.
func (s *Store) Tallies(_ context.Context, keys []devicegrant.TallyKey) ([]devicegrant.Tally, error) {
	return s.tallies.Values(keys), nil
}

// SwapTallies implements devicegrant.Tallier.
func (s *Store) SwapTallies(_ context.Context, keys []devicegrant.TallyKey, tallies []devicegrant.Tally) error {
	if !s.tallies.Swap(keys, tallies, func(t *devicegrant.Tally) *int64 { return &t.Version }) {
		return devicegrant.ErrConflict
	}
	return nil
}
