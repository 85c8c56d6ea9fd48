package storetest

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/devicegrant/devicegrant"
)

var paceClauses = []clause{
	{"the first poll is on time", paceFirst},
	{"is Pace.Next at every boundary", paceBoundaries},
	{"is Pace.Next for polls in any time zone", paceZones},
	{"is not upset by nanoseconds", paceNanoseconds},
	{"is Pace.Next on random sequences", paceRandom},
}

func paceFirst(s *suite) {
	g := s.store()
	got := s.poll(g, noon)
	if got.Pace.Early() {
		s.Errorf("the first poll of a grant was recorded as early")
	}
	g.Pace = g.Pace.Next(noon)
	s.wantPolled("first Poll", got, g)
}

// intervals are below, at and above the cap, and some that five does not divide.
var intervals = []time.Duration{
	time.Second, 1000003 * time.Microsecond, 5 * time.Second, 7 * time.Second,
	55 * time.Second, 57 * time.Second, devicegrant.MaxInterval, devicegrant.MaxInterval + time.Microsecond, 90 * time.Second,
}

// boundaries returns the instants at and around which Pace.Next decides otherwise.
// They only choose what to ask: what is right, Pace.Next says.
func boundaries(p devicegrant.Pace) []time.Time {
	window := min(p.Interval/10, 250*time.Millisecond).Truncate(time.Microsecond)
	leeway := min(p.Interval/5, time.Second)
	var at []time.Time
	for _, t := range []time.Time{
		p.Last, p.Last.Add(window), p.Last.Add(-window), p.Last.Add(-time.Hour),
		p.OnTime, p.OnTime.Add(p.Interval - leeway).Truncate(time.Microsecond), p.OnTime.Add(p.Interval),
		p.Last.Add(p.Interval - leeway).Truncate(time.Microsecond), p.Last.Add(p.Interval),
	} {
		at = append(at, t.Add(-time.Microsecond), t, t.Add(time.Microsecond))
	}
	return at
}

func paceBoundaries(s *suite) {
	for _, interval := range intervals {
		start := devicegrant.Pace{Interval: interval}.Next(noon)
		// After a poll on time, the same sent twice, an early one, and that sent twice.
		for _, pace := range []devicegrant.Pace{
			start, start.Next(noon),
			start.Next(noon.Add(300 * time.Millisecond)), start.Next(noon.Add(300 * time.Millisecond)).Next(noon.Add(300 * time.Millisecond)),
		} {
			for _, at := range boundaries(pace) {
				g := s.store(func(g *devicegrant.Grant) { g.Pace = pace })
				s.pollAsNext(fmt.Sprintf("a poll %v after the last and %v after the last on time", at.Sub(pace.Last), at.Sub(pace.OnTime)), g, at)
			}
		}
	}
}

// pollAsNext polls g and demands the pace that Pace.Next makes of g.Pace, which is
// then the grant's.
func (s *suite) pollAsNext(what string, g *devicegrant.Grant, at time.Time) {
	s.Helper()
	before := g.Pace
	g.Pace = before.Next(at)
	got := s.poll(g, at)
	if d := diffPace(got.Pace, g.Pace); d != "" {
		s.Fatalf("%s at %v, when the pace was %+v: Poll does not compute Pace.Next: %s", what, at, before, d)
	}
}

func paceZones(s *suite) {
	for name, at := range inOrder(instants()) {
		g := s.store()
		for i, zone := range []*time.Location{at.Location(), time.UTC, time.FixedZone("", 5*3600)} {
			s.pollAsNext("a poll at an instant given as "+name, g, at.Add(time.Duration(i)*time.Second).In(zone))
			s.wantStored("after a poll at an instant given as "+name, g)
		}
	}
}

// paceNanoseconds polls at instants finer than a Store need keep. What it makes of
// them is its own affair, as long as OnTime and Last lose the same digits: else a
// poll on time is read as early.
func paceNanoseconds(s *suite) {
	g := s.store()
	model := g.Pace
	check := func(what string, got devicegrant.Pace) {
		s.Helper()
		near := func(a, b time.Time) bool { return a.Sub(b).Abs() <= time.Microsecond }
		if got.Early() != model.Early() || got.Interval != model.Interval || !near(got.OnTime, model.OnTime) || !near(got.Last, model.Last) {
			s.Errorf("%s: the pace is %+v (early: %t), want to the microsecond %+v (early: %t)", what, got, got.Early(), model, model.Early())
		}
	}
	at := noon
	for i, after := range []time.Duration{789, 5*time.Second + 499, 50*time.Millisecond + 501, time.Second + 999, 9*time.Second + 1, 11 * time.Second} {
		at = at.Add(after)
		model = model.Next(at)
		what := fmt.Sprintf("poll %d at %v, which has nanoseconds", i+1, at)
		check(what, s.poll(g, at).Pace)
		check("read after "+what, s.read(g).Pace)
	}
}

const (
	paceSeeds = 40
	paceSteps = 100
)

func paceRandom(s *suite) {
	for seed := range uint64(paceSeeds) {
		rng := rand.New(rand.NewPCG(seed, 8628)) //nolint:gosec // a fixed seed, so that a failure repeats
		g := s.store(func(g *devicegrant.Grant) { g.Pace.Interval = intervals[rng.IntN(len(intervals))] })
		at := noon
		for step := range paceSteps {
			at = nextPoll(rng, g.Pace, at)
			s.pollAsNext(fmt.Sprintf("seed %d, step %d: a poll", seed, step), g, at)
		}
		s.wantStored(fmt.Sprintf("seed %d: after all polls", seed), g)
	}
}

// nextPoll draws when the next poll comes: mostly a little later, often exactly
// where the rule turns, sometimes earlier.
func nextPoll(rng *rand.Rand, p devicegrant.Pace, at time.Time) time.Time {
	micros := func(most time.Duration) time.Duration {
		return time.Duration(rng.Int64N(int64(most/time.Microsecond))) * time.Microsecond
	}
	switch n := rng.IntN(10); {
	case n < 3 && !p.Last.IsZero():
		turns := boundaries(p)
		return turns[rng.IntN(len(turns))]
	case n < 4:
		return at.Add(micros(time.Millisecond))
	case n < 5:
		return at.Add(micros(200 * time.Millisecond))
	case n < 6:
		return at.Add(-micros(p.Interval))
	case n < 8:
		return at.Add(micros(p.Interval))
	default:
		return at.Add(p.Interval + micros(p.Interval))
	}
}
