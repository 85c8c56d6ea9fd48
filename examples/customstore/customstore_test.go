package customstore_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/devicegrant/devicegrant"
	"github.com/devicegrant/devicegrant/examples/customstore"
	"github.com/devicegrant/devicegrant/storetest"
)

var noon = time.Date(2026, time.June, 1, 12, 0, 0, 0, time.UTC)

// grant returns the n-th grant: pending for ten minutes, codes of its own.
func grant(n int) *devicegrant.Grant {
	return &devicegrant.Grant{
		DeviceCode: [32]byte{'d', byte(n >> 8), byte(n)}, UserCode: [32]byte{'u', byte(n >> 8), byte(n)},
		ClientID: "tv", Scope: "openid profile", State: devicegrant.Pending,
		CreatedAt: noon, ExpiresAt: noon.Add(10 * time.Minute), Pace: devicegrant.Pace{Interval: 5 * time.Second},
	}
}

func newPath(t testing.TB) string { return filepath.Join(t.TempDir(), "grants.db") }

func open(t testing.TB, path string) *customstore.Store {
	t.Helper()
	s, err := customstore.Open(path)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, s.Close()) })
	return s
}

// All of it writes some ten thousand times, which need not reach the disk one by one.
func TestConformance(t *testing.T) {
	storetest.Run(t, func(t *testing.T) devicegrant.Store { return open(t, newPath(t)).WithoutSync() })
}

// Polls write nothing to the file, and so wait for no disk.
func TestPollWritesNothing(t *testing.T) {
	path := newPath(t)
	s, g := open(t, path), grant(1)
	require.NoError(t, s.Create(t.Context(), g))
	before, err := os.ReadFile(path)
	require.NoError(t, err)
	for i := range 10 {
		_, err := s.Poll(t.Context(), g.DeviceCode, g.ClientID, noon.Add(time.Duration(i)*time.Second))
		require.NoError(t, err)
	}
	stored, err := s.ByDeviceCode(t.Context(), g.DeviceCode)
	require.NoError(t, err)
	assert.Greater(t, stored.Pace.Interval, g.Pace.Interval, "early polls were recorded")
	after, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, before, after)
}

// A poll at the same time as the Purge that takes its grant leaves no pace behind, which
// nothing would ever take away.
func TestPurgeForgetsPace(t *testing.T) {
	s := open(t, newPath(t)).WithoutSync()
	for i := range 200 {
		g := grant(i)
		require.NoError(t, s.Create(t.Context(), g))
		var polls sync.WaitGroup
		over := make(chan struct{})
		for range 2 {
			polls.Go(func() {
				for err := error(nil); err == nil; {
					_, err = s.Poll(t.Context(), g.DeviceCode, g.ClientID, noon)
					select {
					case <-over:
						return
					default:
					}
				}
			})
		}
		n, err := s.Purge(t.Context(), g.ExpiresAt.Add(time.Second), 10)
		close(over)
		polls.Wait()
		require.NoError(t, err)
		require.Equal(t, 1, n)

		require.NoError(t, s.Create(t.Context(), g))
		again, err := s.ByDeviceCode(t.Context(), g.DeviceCode)
		require.NoError(t, err)
		require.Equal(t, g.Pace, again.Pace, "round %d", i)
		_, err = s.Purge(t.Context(), g.ExpiresAt.Add(time.Second), 10)
		require.NoError(t, err)
	}
}

// What encoding/json would change is refused, and changes nothing.
func TestRefusesWhatIsNotText(t *testing.T) {
	s := open(t, newPath(t))
	const notText = "\xff"
	for i, spoil := range []func(*devicegrant.Grant){
		func(g *devicegrant.Grant) { g.ClientID = notText },
		func(g *devicegrant.Grant) { g.Scope = notText },
		func(g *devicegrant.Grant) { g.Resource = notText },
		func(g *devicegrant.Grant) { g.AuthorizationDetails = notText },
		func(g *devicegrant.Grant) { g.TokenHint = notText },
		func(g *devicegrant.Grant) { g.Subject = notText },
		func(g *devicegrant.Grant) { g.Device.Name = notText },
		func(g *devicegrant.Grant) { g.Device.UserAgent = notText },
	} {
		g := grant(i)
		spoil(g)
		require.ErrorContains(t, s.Create(t.Context(), g), "UTF-8")
		_, err := s.ByUserCode(t.Context(), g.UserCode)
		require.ErrorIs(t, err, devicegrant.ErrNotFound)
		require.NoError(t, s.Create(t.Context(), grant(i)), "its codes are free")
	}

	g := grant(0)
	g.State, g.Subject = devicegrant.Approved, notText
	require.ErrorContains(t, s.Swap(t.Context(), g), "UTF-8")
	stored, err := s.ByUserCode(t.Context(), g.UserCode)
	require.NoError(t, err)
	assert.Equal(t, grant(0), stored)
}

// Paces in memory are right because nobody else has the file.
func TestFileIsForOneStore(t *testing.T) {
	path := newPath(t)
	first := open(t, path)
	synctest.Test(t, func(t *testing.T) { // Open waits for a second.
		_, err := customstore.Open(path)
		require.ErrorIs(t, err, berrors.ErrTimeout)
	})
	require.NoError(t, first.Close())
	open(t, path)
}

func TestFileIsForItsOwner(t *testing.T) {
	path := newPath(t)
	open(t, path)
	info, err := os.Stat(path)
	require.NoError(t, err)
	assert.Equal(t, fs.FileMode(0o600), info.Mode().Perm())
}

func TestOpenFails(t *testing.T) {
	_, err := customstore.Open(filepath.Join(t.TempDir(), "missing", "grants.db"))
	require.ErrorIs(t, err, fs.ErrNotExist)

	path := newPath(t)
	require.NoError(t, os.WriteFile(path, []byte("something else"), 0o600))
	_, err = customstore.Open(path)
	require.ErrorIs(t, err, berrors.ErrInvalid)
}

// A closed Store says that it cannot answer, and not that there is no such grant.
func TestClosed(t *testing.T) {
	s, g := open(t, newPath(t)), grant(1)
	require.NoError(t, s.Create(t.Context(), g))
	require.NoError(t, s.Close())
	_, pollErr := s.Poll(t.Context(), g.DeviceCode, g.ClientID, noon)
	_, readErr := s.ByDeviceCode(t.Context(), g.DeviceCode)
	_, purgeErr := s.Purge(t.Context(), noon, 1)
	for _, err := range []error{pollErr, readErr, purgeErr, s.Swap(t.Context(), g)} {
		require.ErrorIs(t, err, berrors.ErrDatabaseNotOpen)
	}
}

// BenchmarkPoll polls a thousand grants in turn, alone and beside people who decide as fast
// as the disk lets them.
func BenchmarkPoll(b *testing.B) {
	const pending = 1000
	for _, beside := range []int{0, 4} {
		b.Run(fmt.Sprintf("writers=%d", beside), func(b *testing.B) {
			s := open(b, newPath(b))
			for i := range pending {
				require.NoError(b, s.Create(b.Context(), grant(i)))
			}
			defer write(b, s, beside)()
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if _, err := s.Poll(b.Context(), grant(i%pending).DeviceCode, "tv", noon); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// write has writers swap a grant each until the function that it returns is called.
func write(b *testing.B, s *customstore.Store, writers int) (stop func()) {
	var wg sync.WaitGroup
	over := make(chan struct{})
	for i := range writers {
		wg.Go(func() {
			for g := grant(i); ; g.Version++ {
				select {
				case <-over:
					return
				default:
				}
				if err := s.Swap(b.Context(), g); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	return func() { close(over); wg.Wait() }
}
