package storetest

import (
	"fmt"
	"time"

	"github.com/devicegrant/devicegrant"
)

var pollClauses = []clause{
	{"ErrNotFound for an unknown device code", pollUnknown},
	{"returns the grant in any state and past the deadline", pollAnyState},
	{"changes nothing but the pace", pollChangesOnlyPace},
	{"never makes a Swap conflict", pollBesideSwap},
	{"sees a Swap at once", pollSeesSwap},
	{"never extends a grant's life", pollKeepsDeadline},
	{"by another client is answered and not recorded", pollOtherClient},
	{"of one grant leaves others alone", pollLeavesOthers},
}

func pollUnknown(s *suite) {
	check := func(when string, code devicegrant.DeviceCodeDigest) {
		_, err := s.Poll(s.Context(), code, "tv", noon)
		s.wantError("Poll of an unknown device code, "+when, err, devicegrant.ErrNotFound)
	}
	unknown := s.grant()
	check("empty store", unknown.DeviceCode)
	s.store()
	check("beside a grant", unknown.DeviceCode)
	check("the zero digest", noDeviceCode)
	s.wantGone("after a Poll of it", unknown)
	s.create(unknown)
	s.wantStored("created after it was polled in vain (that left no pace)", unknown)
}

func pollAnyState(s *suite) {
	for _, state := range states {
		g := s.swap(s.store(), func(g *devicegrant.Grant) { g.State = state })
		for _, at := range []time.Time{noon, noon.Add(time.Second), g.ExpiresAt, g.ExpiresAt.Add(24 * time.Hour)} {
			g.Pace = g.Pace.Next(at)
			s.wantPolled(fmt.Sprintf("Poll of a grant that is %v, at %v of %v", state, at, g.ExpiresAt), s.poll(g, at), g)
		}
		s.wantStored("after polls, the last past the deadline", g)
	}
}

func pollChangesOnlyPace(s *suite) {
	for _, state := range states {
		g := s.swap(s.store(), func(g *devicegrant.Grant) { g.State, g.Subject = state, "alice" })
		for i := range 5 {
			at := noon.Add(time.Duration(i) * time.Second)
			g.Pace = g.Pace.Next(at)
			s.poll(g, at)
			s.wantStored(fmt.Sprintf("%v, after poll %d (a poll that is early, too, changes only the pace)", state, i+1), g)
		}
	}
}

func pollBesideSwap(s *suite) {
	g := s.store()
	read := *s.read(g)
	s.poll(g, noon)
	s.poll(g, noon.Add(time.Second))
	pace := g.Pace.Next(noon).Next(noon.Add(time.Second))
	read.State, read.Subject = devicegrant.Approved, "alice"
	if err := s.Swap(s.Context(), &read); err != nil {
		s.Errorf("Swap of a grant that was polled since it was read: %v; polls must not count as writes", err)
	}
	read.Version++
	read.Pace = pace
	s.wantStored("a grant read, polled, then written: the decision is in, and the pace is the polls'", &read)
}

func pollSeesSwap(s *suite) {
	g := s.store()
	s.poll(g, noon)
	at := noon
	for _, state := range []devicegrant.State{devicegrant.Approved, devicegrant.Redeeming, devicegrant.Approved, devicegrant.Denied, devicegrant.Redeemed} {
		g = s.swap(g, func(g *devicegrant.Grant) {
			g.State, g.Subject, g.ExpiresAt = state, "alice", g.ExpiresAt.Add(time.Minute)
		})
		for range 2 {
			at = at.Add(3 * time.Second)
			g.Pace = g.Pace.Next(at)
			s.wantPolled(fmt.Sprintf("Poll after a Swap to %v", state), s.poll(g, at), g)
			s.wantStored(fmt.Sprintf("a Swap to %v, then a Poll: the decision stays", state), g)
		}
	}
}

func pollKeepsDeadline(s *suite) {
	g := s.store(func(g *devicegrant.Grant) { g.ExpiresAt = noon.Add(time.Minute) })
	for i := range 40 {
		got := s.poll(g, noon.Add(time.Duration(i)*6*time.Second))
		if !got.ExpiresAt.Equal(g.ExpiresAt) {
			s.Fatalf("Poll %d returned the deadline %v, want the grant's, %v", i+1, got.ExpiresAt, g.ExpiresAt)
		}
	}
	if n := s.purge(g.ExpiresAt.Add(time.Microsecond), 10); n != 1 {
		s.Errorf("Purge of a grant that was polled past its deadline returned %d, want 1", n)
	}
	s.wantGone("polled, then purged", g)
}

// otherClients are not "tv", though a database's collation may think so.
var otherClients = []string{"", "cli", "TV", "Tv", "tv ", " tv", "tv\u0301", "t", "tvtv", "t%", "ｔｖ"}

func pollOtherClient(s *suite) {
	g := s.store()
	g.Pace = g.Pace.Next(noon)
	s.poll(g, noon)
	for i, id := range otherClients {
		got, err := s.Poll(s.Context(), g.DeviceCode, id, noon.Add(time.Duration(i+1)*time.Second))
		if err != nil {
			s.Errorf("Poll by client %q of a grant of client %q: error %v; it is answered all the same", id, g.ClientID, err)
			continue
		}
		s.wantPolled(fmt.Sprintf("Poll by client %q of a grant of client %q", id, g.ClientID), got, g)
		s.wantStored(fmt.Sprintf("after a poll by client %q, which is not the grant's (%q) and must not be recorded", id, g.ClientID), g)
	}
	fresh := s.store()
	if _, err := s.Poll(s.Context(), fresh.DeviceCode, "cli", noon); err != nil {
		s.Errorf("Poll by another client of a grant nobody has polled: %v", err)
	}
	s.wantStored("a grant that only another client has polled", fresh)
}

func pollLeavesOthers(s *suite) {
	one := s.store()
	two := s.store(func(g *devicegrant.Grant) { g.Pace.Interval = 7 * time.Second })
	for i := range 6 {
		at := noon.Add(time.Duration(i) * time.Second)
		one.Pace = one.Pace.Next(at)
		s.wantPolled("Poll of the first of two", s.poll(one, at), one)
		s.wantStored("the other of two grants, after a poll of the first", two)
	}
	two.Pace = two.Pace.Next(noon)
	s.wantPolled("first Poll of the second", s.poll(two, noon), two)
	s.wantStored("the first of two grants, after a poll of the other", one)
}
