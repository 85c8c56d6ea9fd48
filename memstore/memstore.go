// Package memstore keeps grants in the memory of one process: for a single
// server, for tests, and for trying things out. What it holds is lost when the
// process ends.
package memstore

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/devicegrant/devicegrant"
	"github.com/devicegrant/devicegrant/internal/recent"
)

// DefaultMax is how many grants a Store holds when Config.Max is zero.
const DefaultMax = 1_000_000

// shardCount is one for each first byte of a digest, and enough for two cores to meet in
// one seldom.
const shardCount = 256

// Store is a devicegrant.Store in memory. It is safe for concurrent use.
//
// Grants are spread over shards by the digest of their device code, and the index
// of user codes by theirs. Locks are taken in the order of a shard of the index, of
// grants, of user agents, one of each kind at most, and none is held for longer than a
// hundred grants or so take.
//
// A grant takes some 230 bytes, its indices included, and text that is its own beyond that
// of a short device name. Nothing of it is an object of the heap, so that the garbage
// collector does not notice how many there are. Room that grants have left is for grants
// that come, and is not given back.
//
// Of tallies it holds the 65,536 that were used last, and at most twice as many.
type Store struct {
	max     int64
	count   atomic.Int64
	grants  [shardCount]grantShard
	codes   [shardCount]codeShard
	agents  shared // the user agents of all grants
	tallies *recent.Map[devicegrant.TallyKey, devicegrant.Tally]

	purgeNext atomic.Uint32 // the place at which the next Purge begins
}

// codeShard finds the places of grants by some of the user codes.
type codeShard struct {
	sync.Mutex
	index index
}

// place is where a grant is: its slot, and in the lowest byte its shard.
type place uint32

// maxSlot is the last slot that a place can name.
const maxSlot = 1<<24 - 1

func placeOf(shard, slot uint32) place { return place(slot*shardCount + shard) }

func (p place) shard() uint32 { return uint32(p) % shardCount }

func (p place) slot() uint32 { return uint32(p) / shardCount }

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
	return &Store{max: int64(maxGrants), tallies: recent.New[devicegrant.TallyKey, devicegrant.Tally](0)}
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
	if s.byUserCode(codes, g.UserCode) != nil {
		return devicegrant.ErrUserCodeExists
	}
	grants := s.grantShard(g.DeviceCode)
	grants.Lock()
	defer grants.Unlock()
	if grants.find(g.DeviceCode) != 0 {
		return errDeviceCodeExists
	}
	if s.count.Add(1) > s.max || grants.records.taken() >= maxSlot {
		s.count.Add(-1)
		return devicegrant.ErrFull
	}
	slot := grants.insert(g, s.agents.add(g.Device.UserAgent))
	codes.index.insert(hashDigest(g.UserCode), uint32(placeOf(uint32(g.DeviceCode[0]), slot)))
	return nil
}

// ByUserCode implements devicegrant.Store.
func (s *Store) ByUserCode(_ context.Context, code devicegrant.UserCodeDigest) (*devicegrant.Grant, error) {
	codes := s.codeShard(code)
	codes.Lock()
	defer codes.Unlock()
	if g := s.byUserCode(codes, code); g != nil {
		return g, nil
	}
	return nil, devicegrant.ErrNotFound
}

// byUserCode returns the grant that has the user code, nil if there is none. The index may
// lead to a grant that has freed the code, or to another in the place of one that is gone:
// it is the grant that says which code it has.
func (s *Store) byUserCode(codes *codeShard, code devicegrant.UserCodeDigest) (g *devicegrant.Grant) {
	if code == (devicegrant.UserCodeDigest{}) {
		return nil
	}
	codes.index.find(hashDigest(code), func(at uint32) bool {
		shard := &s.grants[place(at).shard()]
		shard.Lock()
		defer shard.Unlock()
		if r := shard.records.at(place(at).slot()); r.userCode == code {
			g = s.read(shard, r)
		}
		return g != nil
	})
	return g
}

// read returns a copy of a grant, whose shard is locked.
func (s *Store) read(shard *grantShard, r *record) *devicegrant.Grant {
	g := shard.read(r)
	g.Device.UserAgent = s.agents.text(r.agent)
	return g
}

// ByDeviceCode implements devicegrant.Store.
func (s *Store) ByDeviceCode(_ context.Context, code devicegrant.DeviceCodeDigest) (*devicegrant.Grant, error) {
	shard := s.grantShard(code)
	shard.Lock()
	defer shard.Unlock()
	slot := shard.find(code)
	if slot == 0 {
		return nil, devicegrant.ErrNotFound
	}
	return s.read(shard, shard.records.at(slot)), nil
}

// Poll implements devicegrant.Store. It does not allocate.
func (s *Store) Poll(_ context.Context, code devicegrant.DeviceCodeDigest, clientID string, now time.Time) (devicegrant.Polled, error) {
	shard := s.grantShard(code)
	shard.Lock()
	defer shard.Unlock()
	slot := shard.find(code)
	if slot == 0 {
		return devicegrant.Polled{}, devicegrant.ErrNotFound
	}
	r := shard.records.at(slot)
	pace := r.pace()
	if shard.isClient(r, clientID) {
		pace = pace.Next(instantOf(now).time()) // OnTime and Last lose the same digits.
		r.setPace(pace)
	} else {
		clientID = shard.texts.text(&shard.cells, r.client)
	}
	return devicegrant.Polled{ID: r.id, ClientID: clientID, State: r.state, ExpiresAt: r.expires.time(), Pace: pace}, nil
}

// Swap implements devicegrant.Store.
func (s *Store) Swap(_ context.Context, g *devicegrant.Grant) error {
	shard := s.grantShard(g.DeviceCode)
	shard.Lock()
	slot := shard.find(g.DeviceCode)
	if slot == 0 || shard.records.at(slot).version != g.Version {
		shard.Unlock()
		return devicegrant.ErrConflict
	}
	r := shard.records.at(slot)
	had := r.userCode
	shard.write(r, g)
	r.version++
	shard.Unlock()
	if g.UserCode != had {
		s.free(had, placeOf(uint32(g.DeviceCode[0]), slot))
	}
	return nil
}

// free takes out of the index that the grant in that place has the user code, which it has
// no more. Its shard is not locked: meanwhile the place may be another grant's, and the code
// as well. If one grant has both, the index says so twice, and says it once from then on.
func (s *Store) free(code devicegrant.UserCodeDigest, at place) {
	codes := s.codeShard(code)
	codes.Lock()
	defer codes.Unlock()
	codes.index.remove(hashDigest(code), uint32(at))
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
