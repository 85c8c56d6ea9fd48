package storetest

import (
	"context"
	"time"

	"github.com/devicegrant/devicegrant"
)

// A call whose context has ended may fail or succeed. What it may not do is half
// of its work, or say that it succeeded when it did nothing.
var contextClauses = []clause{
	{"cancelled: Create stores the grant wholly or not at all", contextCreate},
	{"cancelled: reads return an error or the grant", contextReads},
	{"cancelled: Swap writes wholly or not at all", contextSwap},
	{"cancelled: Poll records or does not", contextPoll},
	{"cancelled: Purge deletes its batch or nothing", contextPurge},
}

func (s *suite) cancelled() context.Context {
	ctx, cancel := context.WithCancel(s.Context())
	cancel()
	return ctx
}

// wantEither demands that after is stored, or, if the call failed, before.
func (s *suite) wantEither(call string, err error, before, after *devicegrant.Grant) {
	s.Helper()
	if got := s.read(before); err != nil && diff(got, before) == "" {
		after = before
	}
	s.wantStored(call+" with a cancelled context, which returned "+show(err), after)
}

func contextCreate(s *suite) {
	g := s.grant()
	given := *g
	err := s.Create(s.cancelled(), &given)
	if _, missing := s.ByDeviceCode(s.Context(), g.DeviceCode); err != nil && missing != nil {
		s.wantGone("Create with a cancelled context failed and left no grant", g)
		s.create(g) // Its codes are free.
	}
	s.wantStored("Create with a cancelled context, which returned "+show(err), g)
}

func contextReads(s *suite) {
	g := s.store()
	if got, err := s.ByDeviceCode(s.cancelled(), g.DeviceCode); err == nil {
		s.wantGrant("ByDeviceCode with a cancelled context", got, err, g)
	}
	if got, err := s.ByUserCode(s.cancelled(), g.UserCode); err == nil {
		s.wantGrant("ByUserCode with a cancelled context", got, err, g)
	}
}

func contextSwap(s *suite) {
	before := s.store()
	next := *before
	redeem(&next)
	given := next
	err := s.Swap(s.cancelled(), &given)
	next.Version++
	s.wantEither("Swap", err, before, &next)
}

func contextPoll(s *suite) {
	before := s.store()
	after := *before
	after.Pace = before.Pace.Next(noon)
	got, err := s.Poll(s.cancelled(), before.DeviceCode, before.ClientID, noon)
	if err == nil {
		s.wantPolled("Poll with a cancelled context", got, &after)
	}
	s.wantEither("Poll", err, before, &after)
}

func contextPurge(s *suite) {
	var expired []*devicegrant.Grant
	for range 5 {
		expired = append(expired, s.store(expires(noon.Add(-time.Second))))
	}
	n, err := s.Purge(s.cancelled(), noon, 3)
	left := s.count(expired)
	if err == nil && n != 3 {
		s.Errorf("Purge with limit 3, a cancelled context and 5 expired grants returned %d and no error", n)
	}
	if left != 2 && (left != 5 || err == nil) {
		s.Errorf("Purge with limit 3 and a cancelled context returned %d, %v, and of 5 expired grants %d are left", n, err, left)
	}
}
