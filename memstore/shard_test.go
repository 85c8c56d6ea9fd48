package memstore

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/devicegrant/devicegrant"
)

var noon = time.Date(2026, time.June, 1, 12, 0, 0, 0, time.UTC)

// crowd stores n pending grants whose device codes, and user codes, are in one shard each.
// They expire at noon, a second apart, in a random order, the last at noon.
func crowd(t *testing.T, s *Store, n int) []*devicegrant.Grant {
	t.Helper()
	r := rand.New(rand.NewPCG(6, 8628))
	grants := make([]*devicegrant.Grant, n)
	for i, order := range r.Perm(n) {
		g := randomGrant(t, r)
		g.DeviceCode[0], g.UserCode[0], g.State = 1, 2, devicegrant.Pending
		g.ExpiresAt = noon.Add(-time.Duration(order) * time.Second)
		require.NoError(t, s.Create(t.Context(), g))
		grants[i] = g
	}
	return grants
}

// wantNothing demands that a Store has nothing of any grant.
func wantNothing(t *testing.T, s *Store) {
	t.Helper()
	for i := range s.grants {
		shard := &s.grants[i]
		assert.Zero(t, [4]int{int(shard.index.count), shard.records.taken(), shard.texts.texts.taken(), shard.cells.slab.taken()})
		assert.Zero(t, shard.texts.index.count)
		assert.Zero(t, s.codes[i].index.count)
	}
	for i := range s.agents {
		assert.Zero(t, [3]int{int(s.agents[i].texts.index.count), s.agents[i].texts.texts.taken(), s.agents[i].cells.slab.taken()})
	}
	assert.Zero(t, s.count.Load())
}

// A shard has more slots than a step of Purge looks at.
func TestPurgeGoesOnWhereItStopped(t *testing.T) {
	const grants, limit = 5 * stepLen / 2, 100
	s := New(0)
	crowd(t, s, grants)
	purge := func(before time.Time, limit int) int {
		n, err := s.Purge(t.Context(), before, limit)
		require.NoError(t, err)
		return n
	}
	for left := grants; left > 0; {
		at := place(s.purgeNext.Load())
		n := purge(noon.Add(time.Second), limit)
		require.Equal(t, min(left, limit), n)
		if left -= n; left > 0 {
			assert.Greater(t, place(s.purgeNext.Load()).slot(), at.slot(), "it begins anew each time")
		}
	}
	wantNothing(t, s)

	// What expired in slots that it has left behind is found, too, the rest is left alone.
	all := crowd(t, s, grants)
	for _, g := range all[:10] {
		g.ExpiresAt = noon.Add(-time.Hour)
		require.NoError(t, s.Swap(t.Context(), g))
	}
	for slot := range uint32(grants) {
		s.purgeNext.Store(uint32(placeOf(1, slot)))
		n := purge(noon.Add(-time.Hour+time.Second), 1)
		require.Equal(t, min(1, 10-min(10, int(slot))), n)
	}
	require.Zero(t, purge(noon.Add(-time.Hour+time.Second), 1))
	assert.Equal(t, grants-10-1, purge(noon, grants), "all but the one that expires at noon")
	assert.Equal(t, 1, purge(noon.Add(time.Microsecond), 2))
	wantNothing(t, s)
}

// countdown is a context that ends when it has been asked for its error often enough.
type countdown struct {
	context.Context
	left int
}

func (c *countdown) Err() error {
	if c.left--; c.left < 0 {
		return context.Canceled
	}
	return nil
}

func TestPurgeLooksAtItsContextBetweenSteps(t *testing.T) {
	s := New(0)
	crowd(t, s, 3*stepLen)
	n, err := s.Purge(&countdown{t.Context(), 3}, noon.Add(time.Second), 10*stepLen)
	require.ErrorIs(t, err, context.Canceled)
	assert.Equal(t, 2*stepLen, n, "an empty shard and two steps")
	count, err := s.Count(t.Context())
	require.NoError(t, err)
	assert.Equal(t, stepLen, count)
}

func TestListOfACrowd(t *testing.T) {
	const grants = 3*stepLen + 1
	s := New(0)
	want := crowd(t, s, grants)
	slices.SortFunc(want, func(a, b *devicegrant.Grant) int { return slices.Compare(a.DeviceCode[:], b.DeviceCode[:]) })
	q := devicegrant.ListQuery{Now: noon.Add(-time.Hour), Limit: 100}
	for i := 0; i < grants; i += 100 {
		got, err := s.List(t.Context(), q)
		require.NoError(t, err)
		require.Equal(t, want[i:min(i+100, grants)], got)
		q.After = got[len(got)-1].DeviceCode
	}
	_, err := s.List(&countdown{t.Context(), 0}, q)
	require.ErrorIs(t, err, context.Canceled)
}

// A grant that no longer matches when it is its turn is not listed.
func TestListLooksAgain(t *testing.T) {
	s := New(0)
	g := crowd(t, s, 1)[0]
	q := devicegrant.ListQuery{Now: noon.Add(-time.Hour), Limit: 1}
	shard := s.grantShard(g.DeviceCode)
	codes := shard.list(&q)
	require.Len(t, codes, 1)
	require.Equal(t, g, s.listed(shard, codes[0], &q))
	g.State = devicegrant.Denied
	require.NoError(t, s.Swap(t.Context(), g))
	assert.Nil(t, s.listed(shard, codes[0], &q))
	_, err := s.Purge(t.Context(), noon.Add(time.Second), 1)
	require.NoError(t, err)
	assert.Nil(t, s.listed(shard, codes[0], &q))
}

// What a poll is answered is what the next one is measured against, to the microsecond.
func TestPollAnswersWhatItStores(t *testing.T) {
	s := New(0)
	g := crowd(t, s, 1)[0]
	for i := range 20 {
		got, err := s.Poll(t.Context(), g.DeviceCode, g.ClientID, noon.Add(time.Duration(i)*(time.Second+789)))
		require.NoError(t, err)
		require.Equal(t, get(t, s, g).Pace, got.Pace)
	}
}

// Codes whose hashes are equal are compared.
func TestCodesOfOneHash(t *testing.T) {
	s := New(0)
	r := rand.New(rand.NewPCG(7, 8628))
	var all []*devicegrant.Grant
	for i := range byte(40) {
		g := randomGrant(t, r)
		g.DeviceCode = devicegrant.DeviceCodeDigest{1: i, 5: i, 9: 1}
		g.UserCode = devicegrant.UserCodeDigest{1: i, 5: i, 9: 1}
		g.ExpiresAt = noon.Add(time.Duration(i%2) * time.Hour)
		require.Equal(t, hashDigest([32]byte{9: 1}), hashDigest(g.DeviceCode))
		require.NoError(t, s.Create(t.Context(), g))
		again := *g
		again.DeviceCode[31] = 1
		require.ErrorIs(t, s.Create(t.Context(), &again), devicegrant.ErrUserCodeExists)
		again = *g
		again.UserCode[31] = 1
		require.ErrorIs(t, s.Create(t.Context(), &again), errDeviceCodeExists)
		all = append(all, g)
	}
	n, err := s.Purge(t.Context(), noon.Add(time.Second), 100)
	require.NoError(t, err)
	require.Equal(t, 20, n)
	for i, g := range all {
		if i%2 == 1 {
			require.Equal(t, g, get(t, s, g))
			continue
		}
		_, err := s.ByUserCode(t.Context(), g.UserCode)
		require.ErrorIs(t, err, devicegrant.ErrNotFound)
		_, err = s.ByDeviceCode(t.Context(), g.DeviceCode)
		require.ErrorIs(t, err, devicegrant.ErrNotFound)
	}
}

// Between the end of a grant and the end of its code in the index, its place may become
// another grant's, and its code, too.
func TestPlaceIsTakenBeforeTheCodeIsFreed(t *testing.T) {
	for name, sameCode := range map[string]bool{"with another code": false, "with the same code": true} {
		t.Run(name, func(t *testing.T) {
			s := New(0)
			r := rand.New(rand.NewPCG(8, 8628))
			gone, g := randomGrant(t, r), randomGrant(t, r)
			gone.DeviceCode[0] = g.DeviceCode[0]
			if sameCode {
				g.UserCode = gone.UserCode
			}
			require.NoError(t, s.Create(t.Context(), gone))
			shard := s.grantShard(gone.DeviceCode)
			at := placeOf(uint32(gone.DeviceCode[0]), shard.find(gone.DeviceCode))
			s.agents.release(shard.records.at(at.slot()).agent)
			shard.remove(at.slot())
			_, err := s.ByUserCode(t.Context(), gone.UserCode)
			require.ErrorIs(t, err, devicegrant.ErrNotFound, "the index leads to no grant")

			require.NoError(t, s.Create(t.Context(), g))
			require.Equal(t, at.slot(), shard.find(g.DeviceCode))
			require.Equal(t, g, get(t, s, g))
			if !sameCode {
				_, err = s.ByUserCode(t.Context(), gone.UserCode)
				require.ErrorIs(t, err, devicegrant.ErrNotFound, "the index leads to another grant")
			}
			s.free(gone.UserCode, at)
			require.Equal(t, g, get(t, s, g), "what is freed is the code of the grant that is gone")
			s.count.Add(-1)
			n, err := s.Purge(t.Context(), g.ExpiresAt.Add(time.Second), 2)
			require.NoError(t, err)
			assert.Equal(t, 1, n)
			wantNothing(t, s)
		})
	}
}

func TestZeroUserCodeFindsNothing(t *testing.T) {
	s := New(0)
	g := randomGrant(t, rand.New(rand.NewPCG(9, 8628)))
	copy(g.UserCode[:], make([]byte, 32))
	for i := range g.UserCode {
		g.UserCode[i] = 7 // The hash of as many equal words is that of the zero digest.
	}
	require.NoError(t, s.Create(t.Context(), g))
	s.grantShard(g.DeviceCode).records.at(1).userCode = devicegrant.UserCodeDigest{} // Swap is about to free it.
	s.codes[0].index = s.codes[7].index
	_, err := s.ByUserCode(t.Context(), devicegrant.UserCodeDigest{})
	require.ErrorIs(t, err, devicegrant.ErrNotFound)
}

func TestShardIsFull(t *testing.T) {
	s := New(0)
	g := randomGrant(t, rand.New(rand.NewPCG(10, 8628)))
	records := &s.grantShard(g.DeviceCode).records
	records.last = maxSlot
	require.ErrorIs(t, s.Create(t.Context(), g), devicegrant.ErrFull, "a place names no more slots")
	records.last = 0
	require.NoError(t, s.Create(t.Context(), g))
	assert.Equal(t, place(maxSlot*shardCount+255), placeOf(255, maxSlot))
	assert.EqualValues(t, maxSlot, placeOf(255, maxSlot).slot())
	assert.EqualValues(t, 255, placeOf(255, maxSlot).shard())
}

// Devices that make up long texts, of which no two are alike, take up what they sent
// and little more, however long it goes on; in the end nothing is left.
func TestLongTextsAreBounded(t *testing.T) {
	const live, turnover, length = 200, 20, 1000
	s := New(live)
	for i := range live * turnover {
		var g devicegrant.Grant
		binary.BigEndian.PutUint64(g.DeviceCode[1:], uint64(i))
		g.UserCode = devicegrant.UserCodeDigest(g.DeviceCode)
		text := strings.Repeat(string(rune('a'+i%26)), length-i%7) + string(g.DeviceCode[1:9])
		g.ClientID, g.Scope, g.Device.UserAgent, g.Device.Name, g.AuthorizationDetails = text, text+"s", text+"u", text+"n", text+"d"
		g.ExpiresAt = noon.Add(time.Duration(i) * time.Second)
		require.NoError(t, s.Create(t.Context(), &g))
		if i >= live-1 {
			n, err := s.Purge(t.Context(), g.ExpiresAt.Add(-(live-2)*time.Second), 2)
			require.NoError(t, err)
			require.Equal(t, 1, n)
		}
	}
	assert.Less(t, s.room(), 2*live*5*length, "what they sent, and less than as much again")
	_, err := s.Purge(t.Context(), noon.Add(live*turnover*time.Second), live)
	require.NoError(t, err)
	wantNothing(t, s)
}

// room is how many bytes of text there is room for.
func (s *Store) room() int {
	n := 0
	for i := range s.grants {
		n += int(s.grants[i].cells.slab.last) * cellLen
	}
	for i := range s.agents {
		n += int(s.agents[i].cells.slab.last) * cellLen
	}
	return n
}

// A grant is its own client's, whoever had the first grant of the shard, and whoever's text
// was where the client's is.
func TestClientsOfOneShard(t *testing.T) {
	s := New(0)
	r := rand.New(rand.NewPCG(11, 8628))
	create := func(clientID string, expires time.Time) *devicegrant.Grant {
		g := randomGrant(t, r)
		g.DeviceCode[0], g.ClientID, g.Scope, g.ExpiresAt = 1, clientID, "", expires
		require.NoError(t, s.Create(t.Context(), g))
		return g
	}
	wantClient := func(g *devicegrant.Grant) {
		t.Helper()
		for _, id := range []string{"tv", "cli", "watch", ""} {
			before, err := s.ByDeviceCode(t.Context(), g.DeviceCode)
			require.NoError(t, err)
			p, err := s.Poll(t.Context(), g.DeviceCode, id, before.Pace.Last.Add(time.Hour))
			require.NoError(t, err)
			assert.Equal(t, g.ClientID, p.ClientID)
			assert.Equal(t, id == g.ClientID, p.Pace != before.Pace, "a poll by %s of %s's is recorded", id, g.ClientID)
		}
	}
	create("tv", noon)
	wantClient(create("cli", noon.Add(time.Hour)))
	n, err := s.Purge(t.Context(), noon.Add(time.Minute), 10)
	require.NoError(t, err)
	require.Equal(t, 1, n)
	wantClient(create("watch", noon.Add(time.Hour)))
	wantClient(create("", noon.Add(time.Hour)))
}
