package storetest

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/devicegrant/devicegrant"
)

// These clauses make calls at once. They look at what the calls answered, and ask
// whether some order of them gives those answers, so that any two calls of which
// one came between the steps of the other are enough. Where the steps are a round
// trip apart, that happens in every run. Where they are nanoseconds apart, in
// memory, it happens in most; with the race detector or -count, in more.
var raceClauses = []clause{
	{"of Creates with one user code, one wins", raceCreates},
	{"of Swaps of one version, one wins", raceSwaps},
	{"each version is written once", raceVersions},
	{"polls at once are recorded one after the other", racePolls},
	{"polls at one instant are recorded one after the other", racePollsAtOneInstant},
	{"polls never undo, delay or refuse a Swap", racePollsSwap},
	{"of Swap and Purge, one wins", raceSwapPurge},
	{"Purges at once count each grant once", racePurges},
}

const (
	raceRounds = 60
	racers     = 8
)

// together runs f in n goroutines that wait for one another to begin, and waits
// for them to end. f may not call Fatalf.
func together(n int, f func(i int)) {
	var ready atomic.Int64
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			ready.Add(1)
			for spins := 0; ready.Load() < int64(n); spins++ {
				if spins > 1000 { // Those who spin when the last one comes begin at once.
					runtime.Gosched()
				}
			}
			f(i)
		})
	}
	wg.Wait()
}

// oneWins demands that one error is nil and all others are lost.
func (s *suite) oneWins(call string, errs []error, lost error) (winner int) {
	s.Helper()
	winners := 0
	for i, err := range errs {
		switch {
		case err == nil:
			winner = i
			winners++
		case !errors.Is(err, lost):
			s.Errorf("%s: error %v, want nil or one that is %q", call, err, lost)
		}
	}
	if winners != 1 {
		s.Fatalf("%s: %d of %d succeeded, want 1: comparing and writing must be one step", call, winners, len(errs))
	}
	return winner
}

func raceCreates(s *suite) {
	for range raceRounds {
		code := s.grant().UserCode
		grants, errs := make([]*devicegrant.Grant, racers), make([]error, racers)
		for i := range grants {
			grants[i] = s.grant(func(g *devicegrant.Grant) { g.UserCode = code })
		}
		together(racers, func(i int) {
			given := *grants[i]
			errs[i] = s.Create(s.Context(), &given)
		})
		winner := s.oneWins("Creates at once with one user code", errs, devicegrant.ErrUserCodeExists)
		s.wantStored("the winner of Creates at once", grants[winner])
		if n := s.count(grants); n != 1 {
			s.Fatalf("of Creates at once with one user code, %d grants are stored, want 1", n)
		}
	}
}

func raceSwaps(s *suite) {
	for range raceRounds {
		g := s.store()
		given, errs := make([]devicegrant.Grant, racers), make([]error, racers)
		for i := range given {
			given[i] = *g
			given[i].State, given[i].Subject = states[i%len(states)], fmt.Sprint("racer ", i)
			given[i].Session, given[i].Entered = devicegrant.SessionDigest{byte(i + 1)}, i+1
		}
		together(racers, func(i int) {
			mine := given[i]
			errs[i] = s.Swap(s.Context(), &mine)
		})
		want := given[s.oneWins("Swaps at once of one version", errs, devicegrant.ErrConflict)]
		want.Version++
		s.wantStored("the winner of Swaps at once", &want)
	}
}

// raceVersions has writers that read and write, over and over. Their wins must be
// of versions that nobody else has won, without a gap.
func raceVersions(s *suite) {
	const writers, each = 4, 200
	g := s.store()
	won := make([][]int64, writers)
	together(writers, func(i int) {
		for range each {
			mine, err := s.ByDeviceCode(s.Context(), g.DeviceCode)
			if err != nil {
				s.Errorf("ByDeviceCode beside Swaps: %v", err)
				return
			}
			version := mine.Version
			switch err := s.Swap(s.Context(), mine); {
			case err == nil:
				won[i] = append(won[i], version)
			case !errors.Is(err, devicegrant.ErrConflict):
				s.Errorf("Swap beside Swaps: %v", err)
				return
			}
		}
	})
	all := slices.Sorted(slices.Values(slices.Concat(won...)))
	for i, version := range all {
		if version != int64(i) {
			s.Fatalf("writers at once: of the versions that Swap let one of them write, number %d is %d: comparing and writing must be one step", i, version)
		}
	}
	if got := s.read(g).Version; got != int64(len(all)) {
		s.Errorf("writers at once: Version is %d after %d Swaps", got, len(all))
	}
}

// pollCall is one poll and the pace that it was answered.
type pollCall struct {
	now time.Time
	got devicegrant.Pace
}

// racePolls makes polls at once that are all early, and more than a quarter of a
// second apart. Then whatever order they take, each one's pace depends on the one
// before: two that start from the same pace cannot both be right.
func racePolls(s *suite) {
	const lanes, each = 4, 3
	start := devicegrant.Pace{Interval: 5 * time.Second, OnTime: noon, Last: noon}
	for range 4 * raceRounds {
		g := s.store(func(g *devicegrant.Grant) { g.Pace = start })
		calls, errs := make([][]pollCall, lanes), make([]error, lanes)
		together(lanes, func(lane int) {
			for i := range each {
				now := noon.Add(time.Duration(1+lane+lanes*i) * 300 * time.Millisecond)
				got, err := s.Poll(s.Context(), g.DeviceCode, g.ClientID, now)
				errs[lane] = errors.Join(errs[lane], err)
				calls[lane] = append(calls[lane], pollCall{now, got.Pace})
			}
		})
		if err := errors.Join(errs...); err != nil {
			s.Fatalf("polls at once: %v", err)
		}
		if end := s.read(g).Pace; !inSomeOrder(start, calls, end) {
			s.Fatalf("polls at once of one grant: no order of them gives these answers, so that one was lost or read halfway: "+
				"to read a pace, to compute Pace.Next and to write it must be one step. From %v:%s\nat the end: %v",
				describe(start), describeCalls(calls), describe(end))
		}
	}
}

// inSomeOrder reports whether the calls, each lane's in its order, lead from the
// pace p to the pace end.
func inSomeOrder(p devicegrant.Pace, lanes [][]pollCall, end devicegrant.Pace) bool {
	over := true
	for i, lane := range lanes {
		if len(lane) == 0 {
			continue
		}
		over = false
		next := p.Next(lane[0].now)
		if diffPace(lane[0].got, next) != "" {
			continue
		}
		rest := slices.Clone(lanes)
		rest[i] = lane[1:]
		if inSomeOrder(next, rest, end) {
			return true
		}
	}
	return over && diffPace(p, end) == ""
}

// describe prints a pace as times since noon.
func describe(p devicegrant.Pace) string {
	return fmt.Sprintf("interval %v, on time +%v, last +%v, repeated %t", p.Interval, p.OnTime.Sub(noon), p.Last.Sub(noon), p.Repeated)
}

func describeCalls(lanes [][]pollCall) string {
	var text string
	for i, lane := range lanes {
		for _, call := range lane {
			text += fmt.Sprintf("\ngoroutine %d polled at +%v: %s", i, call.now.Sub(noon), describe(call.got))
		}
	}
	return text
}

// racePollsAtOneInstant makes early polls that cannot be told apart. They count in
// pairs.
func racePollsAtOneInstant(s *suite) {
	start := devicegrant.Pace{Interval: 5 * time.Second, OnTime: noon, Last: noon}
	at := noon.Add(time.Second)
	for range raceRounds {
		g := s.store(func(g *devicegrant.Grant) { g.Pace = start })
		calls, errs := make([][]pollCall, racers), make([]error, racers)
		together(racers, func(i int) {
			got, err := s.Poll(s.Context(), g.DeviceCode, g.ClientID, at)
			calls[i], errs[i] = []pollCall{{at, got.Pace}}, err
		})
		if err := errors.Join(errs...); err != nil {
			s.Fatalf("polls at once, at one instant: %v", err)
		}
		if end := s.read(g).Pace; !inSomeOrder(start, calls, end) {
			s.Fatalf("polls at once, at one instant: no order of them gives these answers, so that one was lost. From %v:%s\nat the end: %v",
				describe(start), describeCalls(calls), describe(end))
		}
	}
}

// racePollsSwap has a writer that nobody but polls competes with, for as long as
// it takes the polls to be many. Its deadlines only grow, so that a poll that sees
// an older one than the poll before it has seen a decision undone.
func racePollsSwap(s *suite) {
	const pollers, least = 3, 150
	g := s.store()
	want := *g
	var polls atomic.Int64
	var over atomic.Bool
	together(pollers+1, func(i int) {
		if i == 0 {
			defer over.Store(true)
			for n := 0; n < least || polls.Load() < least; n++ {
				if !s.writeBesidePolls(&want) {
					return
				}
				runtime.Gosched()
			}
			return
		}
		for seen := g.ExpiresAt; !over.Load(); {
			n := polls.Add(1)
			got, err := s.Poll(s.Context(), g.DeviceCode, g.ClientID, noon.Add(time.Duration(n)*300*time.Millisecond))
			if err != nil || got.ExpiresAt.Before(seen) {
				s.Errorf("Poll beside Swaps returned the deadline %v and error %v, after another that saw %v: decisions must not be undone", got.ExpiresAt, err, seen)
				polls.Add(least)
				return
			}
			seen = got.ExpiresAt
			runtime.Gosched() // The writer gives way, too, and must come back soon.
		}
	})
	want.Pace = s.read(g).Pace
	s.wantStored("after Swaps beside polls", &want)
}

// writeBesidePolls swaps g, which is what is stored but for its pace, and reports
// whether it was let in and is there to be read.
func (s *suite) writeBesidePolls(g *devicegrant.Grant) bool {
	given := *g
	given.State, given.ExpiresAt = states[g.Version%int64(len(states))], g.ExpiresAt.Add(time.Microsecond)
	next := given
	next.Version++
	if err := s.Swap(s.Context(), &given); err != nil {
		s.Errorf("Swap beside polls, with version %d, which must be the stored one: %v; polls must not count as writes, nor undo one", g.Version, err)
		return false
	}
	got, err := s.ByDeviceCode(s.Context(), g.DeviceCode)
	if err != nil || got == nil {
		s.Errorf("read after a Swap beside polls: %v, %v", got, err)
		return false
	}
	next.Pace = got.Pace
	if d := diff(got, &next); d != "" {
		s.Errorf("read after a Swap beside polls, of which one has undone a decision: %s", d)
		return false
	}
	*g = next
	return true
}

// raceSwapPurge extends grants while they are purged. Whoever was told that the
// Swap succeeded has a live grant.
func raceSwapPurge(s *suite) {
	const grants = 10
	for range raceRounds / 3 {
		given, errs := make([]*devicegrant.Grant, grants), make([]error, grants)
		for i := range given {
			given[i] = s.store(expires(noon.Add(-time.Second)))
		}
		var purged atomic.Int64
		together(3, func(racer int) {
			if racer == 0 {
				for i, g := range given {
					next := *g
					next.State, next.ExpiresAt = devicegrant.Approved, noon.Add(lifetime)
					errs[i] = s.Swap(s.Context(), &next)
				}
				return
			}
			for range grants {
				n, err := s.Purge(s.Context(), noon, 2)
				if err != nil {
					s.Errorf("Purge beside Swaps: %v", err)
				}
				purged.Add(int64(n))
			}
		})
		s.wantSettled(given, errs, purged.Load())
		s.purge(noon.Add(2*lifetime), 2*grants)
	}
}

// wantSettled demands that of each grant either the Swap or the Purge took place.
func (s *suite) wantSettled(given []*devicegrant.Grant, errs []error, purged int64) {
	s.Helper()
	refused := int64(0)
	for i, g := range given {
		got, err := s.ByDeviceCode(s.Context(), g.DeviceCode)
		switch {
		case errs[i] == nil && (err != nil || got.State != devicegrant.Approved || got.Version != 1):
			s.Fatalf("Swap beside Purge extended a grant and succeeded, then it was %+v, %v: what Purge deletes must be expired when it is deleted", got, err)
		case errs[i] != nil:
			s.wantError("Swap of a grant that Purge took", errs[i], devicegrant.ErrConflict)
			s.wantGone("Swap beside Purge was refused", g)
			refused++
		}
	}
	if refused != purged {
		s.Errorf("Purge beside Swaps says it deleted %d grants; %d Swaps found none", purged, refused)
	}
}

func racePurges(s *suite) {
	racePurgesOf(s, "grants", func() { s.store(expires(noon.Add(-time.Second))) })
}

// racePurgesOf has racers purge what store stores, each time something that has expired.
func racePurgesOf(s *suite, what string, store func()) {
	s.Helper()
	const stored = 40
	for range raceRounds / 6 {
		for range stored {
			store()
		}
		var purged atomic.Int64
		together(racers, func(int) {
			n, err := s.Purge(s.Context(), noon, 7)
			if err != nil {
				s.Errorf("Purges at once: %v", err)
			}
			purged.Add(int64(n))
		})
		if rest := s.purge(noon, 2*stored); int(purged.Load())+rest != stored {
			s.Fatalf("Purges at once say they deleted %d of %d %s, and %d were left: each counts for whoever deleted it", purged.Load(), stored, what, rest)
		}
	}
}
