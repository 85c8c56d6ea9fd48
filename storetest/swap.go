package storetest

import (
	"fmt"
	"slices"
	"time"

	"github.com/devicegrant/devicegrant"
)

var swapClauses = []clause{
	{"writes UserCode, Scope, State, Subject, Session, Entered and ExpiresAt, and nothing else", swapWritesItsFields},
	{"stores any text, session, count and time", swapStoresTexts},
	{"adds one to Version each time", swapCountsVersions},
	{"copies what it is given", swapCopies},
	{"refuses a stale version", swapRefusesStale},
	{"refuses a stale version that would free the code", swapRefusesStaleFree},
	{"refuses a grant that is not there", swapRefusesUnknown},
	{"lets one of two readers write, whatever the arrow", swapOneOfTwo},
	{"leaves other grants alone", swapLeavesOthers},
}

func swapWritesItsFields(s *suite) {
	g := s.store()
	s.poll(g, noon)
	before := s.read(g)
	given := *before
	given.State, given.Subject, given.ExpiresAt = devicegrant.Approved, "alice", noon.Add(2*lifetime)
	given.Scope, given.Session, given.Entered = "openid", sessions[1], 2
	leaveAlone(&given)
	if err := s.Swap(s.Context(), &given); err != nil {
		s.Fatalf("Swap of the grant just read: %v", err)
	}
	want := *before
	want.State, want.Subject, want.ExpiresAt, want.Version = given.State, given.Subject, given.ExpiresAt, before.Version+1
	want.Scope, want.Session, want.Entered = given.Scope, given.Session, given.Entered
	s.wantStored("after Swap of a grant all of whose fields differ", &want)
	s.wantStored("after Swap freed the code", s.swap(&want, redeem))
	_, err := s.ByUserCode(s.Context(), before.UserCode)
	s.wantError("ByUserCode of the freed code", err, devicegrant.ErrNotFound)
}

// leaveAlone changes what no write of a grant may write. Codes and ID are how a Store may
// find it.
func leaveAlone(g *devicegrant.Grant) {
	g.ClientID, g.CreatedAt, g.Device = "other", noon.Add(-time.Hour), elsewhere
	g.Resource, g.AuthorizationDetails, g.TokenHint = "urn:other", `[{"type":"other"}]`, "other"
	g.Key = devicegrant.Key{Method: devicegrant.KeyDPoP, Thumbprint: "thumbprint"}
	g.Pace = devicegrant.Pace{Interval: time.Hour, OnTime: noon.Add(time.Hour), Last: noon.Add(time.Hour), Repeated: true}
}

func swapStoresTexts(s *suite) {
	g := s.store()
	for name, text := range inOrder(texts) {
		g = s.swap(g, func(g *devicegrant.Grant) { g.Subject, g.Scope = text, "scope "+text })
		s.wantStored("Subject and Scope are "+name, g)
	}
	for i, session := range slices.Concat(sessions, sessions) {
		g = s.swap(g, func(g *devicegrant.Grant) { g.Session = session })
		s.wantStored(fmt.Sprintf("session %d is %x", i, session), g)
	}
	for _, entered := range []int{1, 2, devicegrant.MaxEntered, 0} {
		g = s.swap(g, func(g *devicegrant.Grant) { g.Entered = entered })
		s.wantStored(fmt.Sprintf("Entered is %d", entered), g)
	}
	for name, at := range inOrder(instants()) {
		g = s.swap(g, func(g *devicegrant.Grant) { g.ExpiresAt = at })
		s.wantStored("ExpiresAt is "+name, g)
	}
}

func swapCountsVersions(s *suite) {
	g := s.store()
	for i, state := range []devicegrant.State{devicegrant.Approved, devicegrant.Redeeming, devicegrant.Approved, devicegrant.Redeeming, devicegrant.Redeemed} {
		g = s.swap(g, func(g *devicegrant.Grant) { g.State = state })
		if g.Version != int64(i+1) {
			s.Errorf("the Swap to %v read version %d, want %d", state, g.Version-1, i)
		}
		s.wantStored(fmt.Sprintf("after Swap %d, to %v", i+1, state), g)
	}
	g = s.swap(g, func(*devicegrant.Grant) {})
	s.wantStored("after a Swap that changes nothing but Version", g)
}

func swapCopies(s *suite) {
	g := s.store()
	given := *s.read(g)
	given.State = devicegrant.Approved
	want := given
	if err := s.Swap(s.Context(), &given); err != nil {
		s.Fatalf("Swap: %v", err)
	}
	if d := diff(&given, &want); d != "" {
		s.Errorf("Swap changed the grant it was given (adding one to Version is for its caller): %s", d)
	}
	want.Version++
	spoil(&given)
	s.wantStored("after the caller changed the grant it had given to Swap", &want)
}

// refuse demands that the Swap of given is refused and leaves what is stored.
func (s *suite) refuse(what string, given, stored *devicegrant.Grant) {
	s.Helper()
	want := *stored
	err := s.Swap(s.Context(), given)
	s.wantError("Swap of "+what, err, devicegrant.ErrConflict)
	s.wantStored("after the Swap of "+what+" was refused", &want)
}

func swapRefusesStale(s *suite) {
	g := s.store()
	for range 3 {
		g = s.swap(g, func(g *devicegrant.Grant) { g.Subject += "x" })
	}
	for _, off := range []int64{-3, -2, -1, 1, 2, 1 << 32} {
		given := *g
		given.Version += off
		given.State, given.Subject, given.ExpiresAt = devicegrant.Denied, "mallory", noon.Add(time.Hour)
		given.Scope, given.Session, given.Entered = "admin", sessions[1], 3
		s.refuse(fmt.Sprintf("version %d when %d is stored", given.Version, g.Version), &given, g)
	}
	s.swap(g, func(g *devicegrant.Grant) { g.State = devicegrant.Approved }) // It can still be written.
}

func swapRefusesStaleFree(s *suite) {
	stale := s.read(s.store())
	g := s.swap(stale, func(g *devicegrant.Grant) { g.State = devicegrant.Approved })
	redeem(stale)
	s.refuse("a stale grant that would free the user code", stale, g)
	other := s.grant(func(o *devicegrant.Grant) { o.UserCode = g.UserCode })
	s.wantError("Create with the user code that a refused Swap would have freed", s.Create(s.Context(), other), devicegrant.ErrUserCodeExists)
}

func swapRefusesUnknown(s *suite) {
	s.store()
	unknown := s.grant()
	s.wantError("Swap of a grant that was never created", s.Swap(s.Context(), unknown), devicegrant.ErrConflict)
	s.wantGone("after the Swap of a grant that was never created", unknown)

	purged := s.store(func(g *devicegrant.Grant) { g.ExpiresAt = noon.Add(-time.Hour) })
	read := s.read(purged)
	s.purge(noon, 10)
	read.State, read.ExpiresAt = devicegrant.Approved, noon.Add(time.Hour)
	s.wantError("Swap of a grant that was purged meanwhile", s.Swap(s.Context(), read), devicegrant.ErrConflict)
	s.wantGone("after the Swap of a purged grant", purged)
}

// swapOneOfTwo has two readers of one version. Whatever the first writes, the
// second is refused: approve after deny, two approvals, a claim that two polls
// make, a release after commit.
func swapOneOfTwo(s *suite) {
	for _, from := range states {
		for _, first := range states {
			for _, second := range states {
				g := s.store()
				g = s.swap(g, func(g *devicegrant.Grant) { g.State = from })
				late := *s.read(g)
				stored := s.swap(g, func(g *devicegrant.Grant) { g.State, g.Subject = first, "first" })
				late.State, late.Subject = second, "second"
				s.refuse(fmt.Sprintf("%v, read when %v, after another wrote %v", second, from, first), &late, stored)
			}
		}
	}
}

func swapLeavesOthers(s *suite) {
	one, two := s.store(), s.store()
	s.poll(two, noon)
	before := s.read(two)
	s.swap(one, func(g *devicegrant.Grant) { g.State = devicegrant.Denied })
	s.swap(one, redeem)
	s.wantStored("a grant beside the one that was written", before)
}
