package memstore_test

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/devicegrant/devicegrant"
	"github.com/devicegrant/devicegrant/memstore"
	"github.com/devicegrant/devicegrant/storetest"
)

var noon = time.Date(2026, time.June, 1, 12, 0, 0, 0, time.UTC)

// grant returns the n-th grant: pending for ten minutes, codes of its own.
func grant(n int) *devicegrant.Grant {
	code := binary.BigEndian.AppendUint64(nil, uint64(n))
	return &devicegrant.Grant{
		DeviceCode: sha256.Sum256(append(code, 'd')), UserCode: sha256.Sum256(append(code, 'u')),
		ClientID: "tv", State: devicegrant.Pending,
		CreatedAt: noon, ExpiresAt: noon.Add(10 * time.Minute), Pace: devicegrant.Pace{Interval: 5 * time.Second},
	}
}

// filled returns a Store for at most n grants that holds as many.
func filled(t *testing.T, n int) *memstore.Store {
	t.Helper()
	s := memstore.New(n)
	for i := range n {
		require.NoError(t, s.Create(t.Context(), grant(i)))
	}
	return s
}

func wantCount(t testing.TB, s *memstore.Store, want int) {
	t.Helper()
	n, err := s.Count(t.Context())
	require.NoError(t, err)
	assert.Equal(t, want, n, "Count")
}

func TestConformance(t *testing.T) {
	storetest.Run(t, func(*testing.T) devicegrant.Store { return memstore.New(0) })
}

func TestZeroMaxIsDefault(t *testing.T) {
	s := memstore.New(0)
	for i := range 1000 {
		require.NoError(t, s.Create(t.Context(), grant(i)))
	}
	wantCount(t, s, 1000)
}

func TestFull(t *testing.T) {
	const most = 300
	s := filled(t, most)
	late := grant(most)
	require.ErrorIs(t, s.Create(t.Context(), late), devicegrant.ErrFull)
	wantCount(t, s, most)

	// What was refused is not there, and its codes are free.
	_, err := s.ByDeviceCode(t.Context(), late.DeviceCode)
	require.ErrorIs(t, err, devicegrant.ErrNotFound)
	_, err = s.ByUserCode(t.Context(), late.UserCode)
	require.ErrorIs(t, err, devicegrant.ErrNotFound)

	// A redeemed grant has freed its code, and still takes up room.
	g := grant(0)
	g.State, g.UserCode = devicegrant.Redeemed, devicegrant.UserCodeDigest{}
	require.NoError(t, s.Swap(t.Context(), g))
	require.ErrorIs(t, s.Create(t.Context(), late), devicegrant.ErrFull)
	wantCount(t, s, most)

	n, err := s.Purge(t.Context(), noon.Add(time.Hour), 1)
	require.NoError(t, err)
	require.Equal(t, 1, n)
	require.NoError(t, s.Create(t.Context(), late), "there is room again")
	require.ErrorIs(t, s.Create(t.Context(), grant(most+1)), devicegrant.ErrFull)
}

// A user code in use takes no room, however often it is tried.
func TestRefusedCreateTakesNoRoom(t *testing.T) {
	s := memstore.New(2)
	require.NoError(t, s.Create(t.Context(), grant(0)))
	same := grant(1)
	same.UserCode = grant(0).UserCode
	for range 5 {
		require.ErrorIs(t, s.Create(t.Context(), same), devicegrant.ErrUserCodeExists)
	}
	wantCount(t, s, 1)
	require.NoError(t, s.Create(t.Context(), grant(1)))
}

func TestPurgeInBatches(t *testing.T) {
	const all, live, limit = 1000, 100, 64
	s := memstore.New(0)
	for i := range all {
		g := grant(i)
		if i >= live {
			g.ExpiresAt = noon.Add(-time.Minute)
		}
		require.NoError(t, s.Create(t.Context(), g))
	}
	for left := all - live; left > 0; {
		n, err := s.Purge(t.Context(), noon, limit)
		require.NoError(t, err)
		require.Equal(t, min(left, limit), n)
		left -= n
		wantCount(t, s, live+left)
	}
	n, err := s.Purge(t.Context(), noon, limit)
	require.NoError(t, err)
	assert.Zero(t, n)
	for i := range live {
		_, err := s.ByUserCode(t.Context(), grant(i).UserCode)
		require.NoError(t, err)
	}
}

// The user code of a purged grant can be used again, and the index forgets it.
func TestPurgeFreesCodes(t *testing.T) {
	const grants = 50
	s := filled(t, grants)
	n, err := s.Purge(t.Context(), noon.Add(time.Hour), grants+1)
	require.NoError(t, err)
	require.Equal(t, grants, n)
	wantCount(t, s, 0)
	for i := range grants {
		_, err := s.ByUserCode(t.Context(), grant(i).UserCode)
		require.ErrorIs(t, err, devicegrant.ErrNotFound)
		again := grant(grants + i)
		again.UserCode = grant(i).UserCode
		require.NoError(t, s.Create(t.Context(), again))
	}
}

func TestPollDoesNotAllocate(t *testing.T) {
	s := filled(t, 1)
	g := grant(0)
	ctx, now := t.Context(), noon
	allocs := testing.AllocsPerRun(1000, func() {
		now = now.Add(6 * time.Second)
		if _, err := s.Poll(ctx, g.DeviceCode, "tv", now); err != nil {
			t.Error(err)
		}
	})
	assert.Zero(t, allocs)
}

// The text of a grant is often a part of a request, which must not stay because of it.
func TestKeepsNoRequest(t *testing.T) {
	request := "client_id=tv&scope=openid&device_name=Kitchen&user_agent=TV/1.0&resource=urn:a&authorization_details=[{}]"
	g := grant(0)
	g.ClientID, g.Scope = request[10:12], request[19:25]
	g.Device.Name, g.Device.UserAgent = request[38:45], request[57:63]
	g.Resource, g.AuthorizationDetails, g.TokenHint = request[73:78], request[101:105], request[10:12]
	texts := func(g *devicegrant.Grant) []string {
		return []string{g.ClientID, g.Scope, g.Device.Name, g.Device.UserAgent, g.Resource, g.AuthorizationDetails, g.TokenHint}
	}
	given := texts(g)
	require.Equal(t, []string{"tv", "openid", "Kitchen", "TV/1.0", "urn:a", "[{}]", "tv"}, given)
	s := memstore.New(0)
	require.NoError(t, s.Create(t.Context(), g))
	got, err := s.ByDeviceCode(t.Context(), g.DeviceCode)
	require.NoError(t, err)
	for i, text := range texts(got) {
		assert.Equal(t, given[i], text)
		assert.NotSame(t, unsafe.StringData(given[i]), unsafe.StringData(text), "%q is a part of the request", text)
	}

	got.Scope = request[19:23]
	require.NoError(t, s.Swap(t.Context(), got))
	swapped, err := s.ByDeviceCode(t.Context(), g.DeviceCode)
	require.NoError(t, err)
	assert.Equal(t, "open", swapped.Scope)
	assert.NotSame(t, unsafe.StringData(got.Scope), unsafe.StringData(swapped.Scope), "the narrowed scope is a part of the request")
}

// Whoever makes up addresses neither fills the memory nor has others' tallies forgotten
// that are used all the time.
func TestTalliesAreBounded(t *testing.T) {
	const keys = 200_000
	s := memstore.New(0)
	everybody := devicegrant.TallyKey{31: 1}
	add := func(key devicegrant.TallyKey) {
		tallies, err := s.Tallies(t.Context(), []devicegrant.TallyKey{key})
		require.NoError(t, err)
		tallies[0].Guesses++
		tallies[0].ExpiresAt = noon
		require.NoError(t, s.SwapTallies(t.Context(), []devicegrant.TallyKey{key}, tallies))
	}
	for i := range keys {
		var key devicegrant.TallyKey
		binary.BigEndian.PutUint64(key[:], uint64(i))
		add(key)
		if i%100 == 0 {
			add(everybody)
		}
	}
	tallies, err := s.Tallies(t.Context(), []devicegrant.TallyKey{everybody, {}})
	require.NoError(t, err)
	assert.Equal(t, keys/100, tallies[0].Guesses)
	assert.Zero(t, tallies[1], "the first is forgotten")
	wantCount(t, s, 0)
	n, err := s.Purge(t.Context(), noon.Add(time.Second), keys)
	require.NoError(t, err)
	assert.Greater(t, n, 1<<16)
	assert.LessOrEqual(t, n, 2<<16)
}

// Creates at once never go over the bound, nor stop short of it.
func TestFullConcurrently(t *testing.T) {
	const most, creators, each = 100, 8, 50
	s := memstore.New(most)
	var created, full atomic.Int64
	var wg sync.WaitGroup
	for c := range creators {
		wg.Go(func() {
			for i := range each {
				switch err := s.Create(t.Context(), grant(c*each+i)); {
				case err == nil:
					created.Add(1)
				case errors.Is(err, devicegrant.ErrFull):
					full.Add(1)
				default:
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	assert.EqualValues(t, most, created.Load())
	assert.EqualValues(t, creators*each-most, full.Load())
	wantCount(t, s, most)
}

// Every method at once. Each grant is approved by one goroutine and then purged by
// whichever comes to it, so that in the end nothing is left and all add up.
func TestEverythingAtOnce(t *testing.T) {
	const workers, each = 4, 400
	s := memstore.New(0)
	var purged atomic.Int64
	purge := func() int {
		n, err := s.Purge(t.Context(), noon, 50)
		if err != nil {
			t.Error(err)
		}
		purged.Add(int64(n))
		return n
	}
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range each {
				if !liveAndDie(t, s, grant(w*each+i)) {
					return
				}
				if i%20 == 0 {
					purge()
				}
			}
		})
	}
	wg.Wait()
	for purge() > 0 {
	}
	assert.EqualValues(t, workers*each, purged.Load())
	wantCount(t, s, 0)
	for i := range workers * each {
		_, err := s.ByUserCode(t.Context(), grant(i).UserCode)
		require.ErrorIs(t, err, devicegrant.ErrNotFound)
	}
}

// liveAndDie takes a grant through a login and leaves it expired.
func liveAndDie(t *testing.T, s *memstore.Store, g *devicegrant.Grant) bool {
	ctx := t.Context()
	ok := assert.NoError(t, s.Create(ctx, g))
	for i := range 3 {
		p, err := s.Poll(ctx, g.DeviceCode, "tv", noon.Add(time.Duration(i)*time.Second))
		ok = ok && assert.NoError(t, err) && assert.Equal(t, devicegrant.Pending, p.State)
	}
	found, err := s.ByUserCode(ctx, g.UserCode)
	if !ok || !assert.NoError(t, err) {
		return false
	}
	found.State = devicegrant.Approved
	ok = assert.NoError(t, s.Swap(ctx, found))
	p, err := s.Poll(ctx, g.DeviceCode, "tv", noon.Add(4*time.Second))
	ok = ok && assert.NoError(t, err) && assert.Equal(t, devicegrant.Approved, p.State, "the decision is seen at once")
	found.State, found.Version, found.UserCode, found.ExpiresAt = devicegrant.Redeemed, 1, devicegrant.UserCodeDigest{}, noon.Add(-time.Second)
	return ok && assert.NoError(t, s.Swap(ctx, found))
}
