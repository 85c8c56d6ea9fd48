package memstore_test

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"runtime"
	"runtime/metrics"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/devicegrant/devicegrant"
	"github.com/devicegrant/devicegrant/memstore"
)

// These benchmarks need up to three gigabytes. Run them one at a time.

const million = 1_000_000

// fleetGrant is the n-th of many grants as devices ask for them: all of one client and three
// scopes, a hundred user agents, a name and an address each. They expire in their order, a
// millisecond apart.
func fleetGrant(n int) *devicegrant.Grant {
	g := grant(n)
	g.ID = [16]byte(g.DeviceCode[:16])
	g.ClientID, g.Scope = "living-room-tv", "openid profile offline_access"
	g.Device.Name = fmt.Sprintf("Television %07d", n)
	g.Device.UserAgent = fmt.Sprintf("ExampleTV/7.%02d (Linux; U; SmartTV 2026; en) AppleWebKit/605.1.15", n%100)
	var addr [16]byte
	copy(addr[:], "\x20\x01\x0d\xb8")
	binary.BigEndian.PutUint64(addr[8:], uint64(n))
	g.Device.Addr = netip.AddrFrom16(addr)
	g.ExpiresAt = noon.Add(time.Duration(n) * time.Millisecond)
	return g
}

// fleet returns a Store that holds n of them.
func fleet(b *testing.B, n int) *memstore.Store {
	b.Helper()
	s := memstore.New(2 * n)
	for i := range n {
		require.NoError(b, s.Create(b.Context(), fleetGrant(i)))
	}
	return s
}

// deviceCode is that of the n-th grant. It is hashed, as every device code is.
func deviceCode(n int) devicegrant.DeviceCodeDigest {
	var code [9]byte
	binary.BigEndian.PutUint64(code[:], uint64(n))
	code[8] = 'd'
	return sha256.Sum256(code[:])
}

func heap() float64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}

// BenchmarkMemory is the heap that a million pending grants take, all indices included.
func BenchmarkMemory(b *testing.B) {
	var most float64
	for b.Loop() {
		before := heap()
		s := fleet(b, million)
		most = max(most, (heap()-before)/million)
		runtime.KeepAlive(s)
	}
	b.ReportMetric(most, "B/grant")
}

// BenchmarkPoll polls grants at random, of few and of many.
func BenchmarkPoll(b *testing.B) {
	for _, n := range []int{10_000, million, 5 * million} {
		store := sync.OnceValue(func() *memstore.Store { return fleet(b, n) })
		b.Run(fmt.Sprintf("grants=%d", n), func(b *testing.B) {
			s, now := store(), noon
			runtime.GC()
			b.ReportAllocs()
			for b.Loop() {
				now = now.Add(time.Microsecond)
				if _, err := s.Poll(b.Context(), deviceCode(rand.IntN(n)), "living-room-tv", now); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkPollParallel is to be run with -cpu 1,2.
func BenchmarkPollParallel(b *testing.B) {
	const grants = 100_000
	s := fleet(b, grants)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for now := noon; pb.Next(); now = now.Add(time.Microsecond) {
			if _, err := s.Poll(b.Context(), deviceCode(rand.IntN(grants)), "living-room-tv", now); err != nil {
				b.Error(err)
			}
		}
	})
}

// server returns a Server with n pending grants, and their device codes, of which each is
// width long.
func server(b *testing.B, n int) (s *devicegrant.Server, codes string, width int) {
	b.Helper()
	tv := devicegrant.Client{ID: "living-room-tv", DeviceGrant: true, Scopes: []string{"openid", "profile", "offline_access"}}
	plenty := devicegrant.Quota{Rate: devicegrant.Limit{Burst: 1 << 30, Every: time.Microsecond}, Pending: 1 << 30}
	s, err := devicegrant.New(devicegrant.Config{
		VerificationURI: "https://example.com/device", DeviceAuthorizationEndpoint: "https://example.com/device_authorization",
		Keys:               [][]byte{make([]byte, 32)},
		Store:              hurried{memstore.New(2 * n)},
		Client:             func(context.Context, string) (devicegrant.Client, error) { return tv, nil },
		AuthenticateClient: func(context.Context, devicegrant.Credentials) (devicegrant.Client, error) { return tv, nil },
		SignedIn:           func(http.ResponseWriter, *http.Request, string) (string, bool) { return "", false },
		IssueToken:         func(context.Context, *devicegrant.Grant) (*devicegrant.Token, error) { return nil, nil },
		Issuance:           devicegrant.Issuance{PerClient: plenty, PerAddress: plenty},
	})
	require.NoError(b, err)
	var all strings.Builder
	for range n {
		a, err := s.Authorize(b.Context(), tv, devicegrant.AuthorizationRequest{Scope: "openid profile"})
		require.NoError(b, err)
		all.WriteString(a.DeviceCode)
		width = len(a.DeviceCode)
	}
	return s, all.String(), width
}

// hurried is a Store for which a microsecond is ten seconds, so that no poll comes too early.
type hurried struct{ *memstore.Store }

func (h hurried) Poll(ctx context.Context, code devicegrant.DeviceCodeDigest, clientID string, now time.Time) (devicegrant.Polled, error) {
	return h.Store.Poll(ctx, code, clientID, started.Add(now.Sub(started)*10_000_000))
}

var started = time.Now()

// BenchmarkServerPoll is the same with what a Server adds: keyed code, client check, pacing.
// Servers take turns, so that all bear the same noise, and are compared with the first turn
// by turn. `-benchtime 1x` is enough: a run has rounds of its own.
func BenchmarkServerPoll(b *testing.B) {
	const rounds, batches = 41, 40
	sizes := []int{10_000, million, 5 * million}
	polls, took := make([]func() time.Duration, len(sizes)), make([][]time.Duration, len(sizes))
	for i, n := range sizes {
		polls[i] = pollSome(b, n)
	}
	runtime.GC()
	b.ResetTimer()
	for range rounds * b.N {
		for i, poll := range polls {
			var sum time.Duration
			for range batches {
				sum += poll()
			}
			took[i] = append(took[i], sum/batches/somePolls)
		}
	}
	ratios := make([][]float64, len(sizes))
	for i, n := range sizes {
		for round, t := range took[i] {
			ratios[i] = append(ratios[i], float64(t)/float64(took[0][round]))
		}
		slices.Sort(took[i])
		slices.Sort(ratios[i])
		b.ReportMetric(float64(took[i][len(took[i])/2]), fmt.Sprintf("ns/poll-of-%d", n))
		b.ReportMetric(ratios[i][len(ratios[i])/2], fmt.Sprintf("x-of-%d", n))
	}
}

// somePolls is how many are made between two looks at the clock.
const somePolls = 1024

// pollSome returns a function that polls some of n grants at random, and returns how long
// that took.
func pollSome(b *testing.B, n int) func() time.Duration {
	s, codes, width := server(b, n)
	var some [somePolls]string
	return func() time.Duration {
		for i := range some { // A device code comes with its request: it is not to be looked for in memory.
			at := rand.IntN(n) * width
			some[i] = strings.Clone(codes[at : at+width])
		}
		began := time.Now()
		for _, code := range some {
			_, err := s.Poll(b.Context(), devicegrant.PollRequest{ClientID: "living-room-tv", DeviceCode: code})
			if !errors.Is(err, devicegrant.ErrAuthorizationPending) {
				b.Fatal(err)
			}
		}
		return time.Since(began)
	}
}

// cpu returns the processor time spent on garbage collection, and on everything.
func cpu() (gc, used float64) {
	runtime.GC() // It is counted when a collection ends.
	s := []metrics.Sample{{Name: "/cpu/classes/gc/total:cpu-seconds"}, {Name: "/cpu/classes/total:cpu-seconds"}, {Name: "/cpu/classes/idle:cpu-seconds"}}
	metrics.Read(s)
	return s[0].Value.Float64(), s[1].Value.Float64() - s[2].Value.Float64()
}

// BenchmarkChurn has a million grants live, of which the oldest go as new ones come. For
// each that comes, ten are polled and one is approved; a twentieth is purged at once. Run it
// long enough for garbage to be collected.
func BenchmarkChurn(b *testing.B) {
	s := fleet(b, million)
	swap := func(n int) error {
		g, err := s.ByDeviceCode(b.Context(), deviceCode(n))
		if err != nil {
			return err
		}
		g.State, g.Subject, g.Session = devicegrant.Approved, "alice", devicegrant.SessionDigest(g.DeviceCode)
		return s.Swap(b.Context(), g)
	}
	gc, used := cpu()
	next := million
	for b.Loop() {
		err := errors.Join(s.Create(b.Context(), fleetGrant(next)), swap(next-million/2))
		for range 10 {
			_, pollErr := s.Poll(b.Context(), deviceCode(next-rand.IntN(million/2)), "living-room-tv", noon)
			err = errors.Join(err, pollErr)
		}
		if next++; next%(million/20) == 0 {
			err = errors.Join(err, purgeAll(b, s, noon.Add(time.Duration(next-million)*time.Millisecond)))
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	gcAfter, usedAfter := cpu()
	b.ReportMetric(100*(gcAfter-gc)/(usedAfter-used), "%GC")
}

// purgeAll purges as a Server does, without a pause.
func purgeAll(b *testing.B, s *memstore.Store, before time.Time) error {
	const batch = 1000
	for {
		if n, err := s.Purge(b.Context(), before, batch); err != nil || n < batch {
			return err
		}
	}
}

// BenchmarkPurgeStall polls while a million grants are purged, as fast as they can be, and
// reports how long the longest polls took; and how long they take while the other processor
// is as busy with nothing. With both busy, the system takes one away for milliseconds now
// and then, unless the benchmark is told to come first: `-exec 'chrt -f 1'` (Linux).
func BenchmarkPurgeStall(b *testing.B) {
	for b.Loop() {
		s := fleet(b, million)
		live := grant(million)
		live.ExpiresAt = noon.Add(2 * time.Hour)
		require.NoError(b, s.Create(b.Context(), live))
		var over atomic.Bool
		took := make([]time.Duration, 0, 1<<24)
		polled := make(chan []time.Duration)
		for _, phase := range []struct {
			name string
			work func()
		}{
			{"-busy", func() { spin(time.Second) }},
			{"-purge", func() { require.NoError(b, purgeAll(b, s, noon.Add(time.Hour))) }},
		} {
			runtime.GC()
			over.Store(false)
			go func() { polled <- pollUntil(b, s, &over, took[:0]) }()
			phase.work()
			over.Store(true)
			report(b, <-polled, phase.name)
		}
		wantCount(b, s, 1)
	}
}

func spin(d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); {
	}
}

// pollUntil polls one grant after another, there or not, and appends how long each took, up
// to the capacity.
func pollUntil(b *testing.B, s *memstore.Store, over *atomic.Bool, took []time.Duration) []time.Duration {
	for !over.Load() && len(took) < cap(took) {
		code := deviceCode(rand.IntN(million + 1))
		began := time.Now()
		_, err := s.Poll(b.Context(), code, "living-room-tv", noon)
		took = append(took, time.Since(began))
		if err != nil && !errors.Is(err, devicegrant.ErrNotFound) {
			b.Error(err)
		}
	}
	return took
}

func report(b *testing.B, took []time.Duration, phase string) {
	slices.Sort(took)
	long, _ := slices.BinarySearch(took, time.Millisecond)
	b.ReportMetric(float64(took[len(took)-1].Microseconds()), "max-us"+phase)
	b.ReportMetric(float64(took[len(took)*9999/10000].Microseconds()), "p99.99-us"+phase)
	b.ReportMetric(float64(len(took)-long), "over-1ms"+phase)
}
