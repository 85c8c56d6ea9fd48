package storetest

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	"github.com/devicegrant/devicegrant"
)

var listClauses = []clause{
	{"returns what is pending or approved, and not over", ifLister(listStates)},
	{"goes by client and by subject", ifLister(listFilters)},
	{"goes on in the order of device codes", ifLister(listGoesOn)},
	{"returns the first Limit of those that match", ifLister(listLimit)},
	{"goes on after what no longer matches", ifLister(listAfterChanged)},
	{"returns what is stored", ifLister(listReturnsAll)},
	{"sees every write at once", ifLister(listSeesWrites)},
}

// listSuite is the suite of a Store that is a Lister.
type listSuite struct {
	*suite
	devicegrant.Lister
}

func ifLister(check func(*listSuite)) func(*suite) {
	return func(s *suite) {
		if lister, ok := s.Store.(devicegrant.Lister); ok {
			check(&listSuite{s, lister})
		}
	}
}

// wantList demands exactly these grants, in the order of their device codes.
func (s *listSuite) wantList(what string, q devicegrant.ListQuery, want ...*devicegrant.Grant) {
	s.Helper()
	if q.Limit == 0 {
		q.Limit = 1000
	}
	if q.Now.IsZero() {
		q.Now = noon
	}
	got, err := s.List(s.Context(), q)
	if err != nil || len(got) != len(want) {
		s.Errorf("List of %s returned %d grants and %v, want %d", what, len(got), err, len(want))
		return
	}
	want = slices.Clone(want)
	slices.SortFunc(want, byDeviceCodes)
	for i, g := range got {
		s.wantGrant(fmt.Sprintf("List of %s, grant %d", what, i), g, nil, want[i])
	}
}

func byDeviceCodes(a, b *devicegrant.Grant) int {
	return bytes.Compare(a.DeviceCode[:], b.DeviceCode[:])
}

func listStates(s *listSuite) {
	s.wantList("an empty store", devicegrant.ListQuery{})
	var want []*devicegrant.Grant
	for _, state := range states {
		g := s.swap(s.store(), func(g *devicegrant.Grant) { g.State = state })
		if state == devicegrant.Pending || state == devicegrant.Approved {
			want = append(want, g)
		}
		for _, over := range []time.Time{noon, noon.Add(-time.Microsecond)} {
			s.swap(s.store(), func(g *devicegrant.Grant) { g.State, g.ExpiresAt = state, over })
		}
	}
	want = append(want, s.store(func(g *devicegrant.Grant) { g.ExpiresAt = noon.Add(time.Microsecond) }))
	s.wantList("every state", devicegrant.ListQuery{}, want...)
	s.wantList("every state, Now in another zone", devicegrant.ListQuery{Now: noon.In(time.FixedZone("", 14*3600))}, want...)
	s.wantList("every state a microsecond later", devicegrant.ListQuery{Now: noon.Add(time.Microsecond)}, want[:2]...)
}

func listFilters(s *listSuite) {
	of := make(map[[2]string][]*devicegrant.Grant)
	all := []string{"tv", "TV", "tv ", "télé"}
	for _, client := range all {
		for _, subject := range []string{"", "alice", "Alice", "alice "} {
			g := s.store(func(g *devicegrant.Grant) { g.ClientID, g.Subject = client, subject })
			for _, key := range [][2]string{{}, {client}, {"", subject}, {client, subject}} {
				if !slices.Contains(of[key], g) {
					of[key] = append(of[key], g)
				}
			}
		}
	}
	for key, want := range of {
		s.wantList(fmt.Sprintf("client %q, subject %q", key[0], key[1]), devicegrant.ListQuery{ClientID: key[0], Subject: key[1]}, want...)
	}
	for _, pattern := range []string{"%", "t_", "t%", "*"} {
		s.wantList("a pattern as the client", devicegrant.ListQuery{ClientID: pattern})
		s.wantList("a pattern as the subject", devicegrant.ListQuery{Subject: pattern})
	}
	s.wantList("an unknown client", devicegrant.ListQuery{ClientID: "nobody"})
	s.wantList("an unknown subject", devicegrant.ListQuery{Subject: "nobody"})
}

func listGoesOn(s *listSuite) {
	var all []*devicegrant.Grant
	for i := range 20 {
		all = append(all, s.store(func(g *devicegrant.Grant) {
			g.DeviceCode = [32]byte{0: byte(i * 13), 1: byte(255 - i), 31: byte(i)} // Not in the order in which they are made.
		}))
	}
	// Codes that differ in one byte, and what a comparison of signed bytes, or of text, takes
	// for smaller.
	for _, code := range []devicegrant.DeviceCodeDigest{{}, {31: 1}, {31: 2}, {0: 0x7f}, {0: 0x80}, {0: 0xff}, {0: 'a'}, {0: 'B'}} {
		if !slices.ContainsFunc(all, func(g *devicegrant.Grant) bool { return g.DeviceCode == code }) {
			all = append(all, s.store(func(g *devicegrant.Grant) { g.DeviceCode = code }))
		}
	}
	slices.SortFunc(all, byDeviceCodes)
	if all[0].DeviceCode == noDeviceCode {
		all = all[1:] // Nothing is less than it.
	}
	for _, limit := range []int{1, 3, len(all) - 1, len(all), len(all) + 1} {
		var after devicegrant.DeviceCodeDigest
		for i := 0; ; i += limit {
			page := all[min(i, len(all)):min(i+limit, len(all))]
			s.wantList(fmt.Sprintf("%d from %d on", limit, i), devicegrant.ListQuery{After: after, Limit: limit}, page...)
			if len(page) == 0 {
				break
			}
			after = page[len(page)-1].DeviceCode
		}
	}
}

// listLimit has two of three grants not match, in each of the ways. A Store that takes the
// first Limit and then looks which of them match tells Server.Revoke to stop too early.
func listLimit(s *listSuite) {
	var want []*devicegrant.Grant
	for i := range 30 {
		g := s.store(func(g *devicegrant.Grant) {
			g.DeviceCode, g.Subject = [32]byte{byte(i + 1)}, "alice"
			switch i % 6 {
			case 0:
				g.ClientID = "cli"
			case 1:
				g.Subject = "bob"
			case 3:
				g.State = devicegrant.Denied
			case 4:
				g.ExpiresAt = noon
			}
		})
		if i%3 == 2 {
			want = append(want, g)
		}
	}
	for _, limit := range []int{1, 3, len(want), len(want) + 1} {
		q := devicegrant.ListQuery{ClientID: "tv", Subject: "alice", Limit: limit}
		for i := 0; i < len(want); i += limit {
			page := want[i:min(i+limit, len(want))]
			s.wantList(fmt.Sprintf("%d of those that match, from %d on", limit, i), q, page...)
			q.After = page[len(page)-1].DeviceCode
		}
	}
}

// listAfterChanged goes on as Server.Revoke does: after a grant that it has denied, or that
// is purged meanwhile.
func listAfterChanged(s *listSuite) {
	first, second, third := [32]byte{1}, [32]byte{2}, [32]byte{3}
	g := s.store(func(g *devicegrant.Grant) { g.DeviceCode = first })
	purged := s.store(func(g *devicegrant.Grant) { g.DeviceCode, g.ExpiresAt = second, noon.Add(time.Microsecond) })
	last := s.store(func(g *devicegrant.Grant) { g.DeviceCode = third })
	s.swap(g, func(g *devicegrant.Grant) { g.State = devicegrant.Denied })
	s.wantList("what is after a denied grant", devicegrant.ListQuery{After: first}, purged, last)
	if n := s.purge(noon.Add(2*time.Microsecond), 10); n != 1 {
		s.Fatalf("Purge returned %d, want 1", n)
	}
	s.wantList("what is after a purged grant", devicegrant.ListQuery{After: second}, last)
}

func listSeesWrites(s *listSuite) {
	g := s.store()
	alice := devicegrant.ListQuery{Subject: "alice"}
	s.wantList("nobody's grant, by subject", alice)
	for _, state := range []devicegrant.State{devicegrant.Approved, devicegrant.Redeeming, devicegrant.Approved, devicegrant.Redeemed} {
		g = s.swap(g, func(g *devicegrant.Grant) { g.State, g.Subject = state, "alice" })
		if state == devicegrant.Approved {
			s.wantList("a grant that Swap approved or released", alice, g)
		} else {
			s.wantList("a grant that Swap claimed or redeemed", alice)
		}
	}
	s.store()
	s.purge(noon.Add(2*lifetime), 10)
	s.wantList("what is left after Purge", devicegrant.ListQuery{})
}

func listReturnsAll(s *listSuite) {
	g := s.store(func(g *devicegrant.Grant) { g.Scope, g.Subject = texts["accents"], texts["quotes"] })
	s.poll(g, noon)
	g.Pace = g.Pace.Next(noon)
	g = s.swap(g, func(g *devicegrant.Grant) { g.Session, g.Entered, g.Scope = sessions[2], 3, "narrowed" })
	s.wantList("a grant that was polled and written", devicegrant.ListQuery{}, g)
	got, err := s.List(s.Context(), devicegrant.ListQuery{Now: noon, Limit: 1})
	if err != nil || len(got) != 1 {
		s.Fatalf("List returned %d grants and %v, want one", len(got), err)
	}
	spoil(got[0])
	s.wantStored("after the caller changed what List returned", g)
}
