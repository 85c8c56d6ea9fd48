package storetest

import (
	"fmt"
	"time"

	"github.com/devicegrant/devicegrant"
)

var readClauses = []clause{
	{"ErrNotFound for unknown codes", readUnknown},
	{"the zero user code finds nothing", readZeroCode},
	{"finds grants in any state and past the deadline", readAnyState},
	{"sees every write at once", readSeesWrites},
	{"returns copies", readCopies},
}

func readUnknown(s *suite) {
	check := func(when string) {
		s.wantGone(when, s.grant())
		_, err := s.ByDeviceCode(s.Context(), noDeviceCode)
		s.wantError(when+": ByDeviceCode of the zero digest", err, devicegrant.ErrNotFound)
	}
	check("unknown codes, empty store")
	g := s.store()
	check("unknown codes beside a grant")
	_, err := s.ByUserCode(s.Context(), devicegrant.UserCodeDigest(g.DeviceCode))
	s.wantError("ByUserCode of a device code's digest", err, devicegrant.ErrNotFound)
	_, err = s.ByDeviceCode(s.Context(), devicegrant.DeviceCodeDigest(g.UserCode))
	s.wantError("ByDeviceCode of a user code's digest", err, devicegrant.ErrNotFound)
}

func readZeroCode(s *suite) {
	check := func(when string) {
		_, err := s.ByUserCode(s.Context(), noUserCode)
		s.wantError("ByUserCode of the zero digest, "+when, err, devicegrant.ErrNotFound)
	}
	check("empty store")
	var redeemed []*devicegrant.Grant
	for range 3 {
		g := s.store()
		check("beside a live grant")
		redeemed = append(redeemed, s.swap(g, redeem))
		check("beside redeemed grants")
		_, err := s.ByUserCode(s.Context(), g.UserCode)
		s.wantError("ByUserCode of a freed code", err, devicegrant.ErrNotFound)
	}
	for _, g := range redeemed {
		s.wantStored("one of several redeemed grants, none of which has a user code", g)
	}
}

func readAnyState(s *suite) {
	for _, state := range states {
		for _, expires := range []time.Time{noon.Add(lifetime), noon.Add(-24 * time.Hour)} {
			g := s.swap(s.store(), func(g *devicegrant.Grant) { g.State, g.ExpiresAt = state, expires })
			s.wantStored(fmt.Sprintf("%v, deadline %v", state, expires), g)
		}
	}
}

func readSeesWrites(s *suite) {
	g := s.store()
	s.wantStored("after Create", g)
	for i, state := range states {
		g = s.swap(g, func(g *devicegrant.Grant) { g.State = state })
		s.wantStored("after Swap", g)
		at := noon.Add(time.Duration(i) * time.Second)
		s.poll(g, at)
		g.Pace = g.Pace.Next(at)
		s.wantStored("after Poll", g)
	}
	s.purge(noon.Add(2*lifetime), 1)
	s.wantGone("after Purge", g)
}

func readCopies(s *suite) {
	want := s.store()
	spoil(s.read(want))
	s.wantStored("after the caller changed what ByDeviceCode returned", want)
	got, err := s.ByUserCode(s.Context(), want.UserCode)
	if err != nil {
		s.Fatalf("ByUserCode: %v", err)
	}
	spoil(got)
	s.wantStored("after the caller changed what ByUserCode returned", want)
	before := *s.read(want)
	got = s.read(want)
	s.swap(want, func(g *devicegrant.Grant) { g.State = devicegrant.Approved })
	s.poll(want, noon)
	if d := diff(got, &before); d != "" {
		s.Errorf("Swap and Poll changed a grant that ByDeviceCode had returned before: %s", d)
	}
}
