package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/devicegrant/devicegrant"
)

// These clauses are for a Store that is a devicegrant.Redeemer.
var redeemClauses = []clause{
	{"writes what Swap writes, and nothing else", redeeming(redeemWritesItsFields)},
	{"copies what it is given", redeeming(redeemCopies)},
	{"refuses a stale version", redeeming(redeemRefusesStale)},
	{"refuses a grant that is not there", redeeming(redeemRefusesUnknown)},
	{"refuses while another goes on", redeeming(redeemRefusesSecond)},
	{"calls issue once, with the caller's context", redeeming(redeemCallsIssue)},
	{"writes nothing when issue fails", redeeming(redeemIssueFails)},
	{"writes nothing when issue panics", redeeming(redeemIssuePanics)},
	{"keeps the receipt", redeeming(redeemKeepsReceipt)},
	{"keeps receipts byte for byte", redeeming(redeemKeepsBytes)},
	{"Swap discards the receipt", redeeming(redeemSwapDiscards)},
	{"a later Redeem replaces the receipt", redeeming(redeemReplaces)},
	{"reads beside it see what was before, at once", redeeming(redeemReads)},
	{"a poll beside it is answered with what was before, or fails in its time", redeeming(redeemPolls)},
	{"cancelled: happens wholly or not at all", redeeming(redeemCancelled)},
	{"of Redeems at once, one wins", redeeming(redeemRaces)},
	{"of Redeem and Swaps at once, one wins", redeeming(redeemRacesSwap)},
}

// redeemSuite is a suite on a Store that is a Redeemer.
type redeemSuite struct {
	*suite
	devicegrant.Redeemer
}

func redeeming(check func(*redeemSuite)) func(*suite) {
	return func(s *suite) {
		if r, ok := s.Store.(devicegrant.Redeemer); ok {
			check(&redeemSuite{s, r})
		}
	}
}

// patience is how long a call may take that has nothing to wait for.
const patience = 5 * time.Second

type issueFunc = func(context.Context) ([]byte, error)

// issues returns an issue that succeeds.
func issues(receipt string) issueFunc {
	return func(context.Context) ([]byte, error) { return []byte(receipt), nil }
}

// hold is the change that a redemption makes.
func hold(g *devicegrant.Grant) {
	g.State, g.Subject, g.ExpiresAt = devicegrant.Redeeming, "alice", g.ExpiresAt.Add(time.Minute)
	g.Session, g.Entered = sessions[2], 4
}

// redeem changes the stored grant and returns what is stored then.
func (s *redeemSuite) redeem(g *devicegrant.Grant, change func(*devicegrant.Grant), receipt string) *devicegrant.Grant {
	s.Helper()
	next := *s.read(g)
	change(&next)
	given := next
	if err := s.Redeem(s.Context(), &given, issues(receipt)); err != nil {
		s.Fatalf("Redeem of the grant just read: %v", err)
	}
	next.Version++
	return &next
}

// wantReceipt demands a receipt of the grant at its version. An empty one is as good as
// none.
func (s *redeemSuite) wantReceipt(when string, g *devicegrant.Grant, want string) {
	s.Helper()
	given := *g
	got, err := s.Receipt(s.Context(), &given)
	switch {
	case err != nil:
		s.Errorf("%s: Receipt: %v", when, err)
	case !bytes.Equal(got, []byte(want)):
		s.Errorf("%s: Receipt returned %s, want %s", when, show(string(got)), show(want))
	}
}

// wantRefused demands that a Redeem of given is refused, and calls no issue.
func (s *redeemSuite) wantRefused(what string, given *devicegrant.Grant) {
	s.Helper()
	err := s.Redeem(s.Context(), given, func(context.Context) ([]byte, error) {
		s.Errorf("Redeem of %s called issue", what)
		return nil, nil
	})
	s.wantError("Redeem of "+what, err, devicegrant.ErrConflict)
}

// wantRedeemable demands that the grant is as it was, and that it can be redeemed. A
// transaction that was abandoned may hold it for a moment.
func (s *redeemSuite) wantRedeemable(when string, g *devicegrant.Grant) {
	s.Helper()
	s.wantStored(when, g)
	next := *g
	hold(&next)
	err := devicegrant.ErrConflict
	for end := time.Now().Add(patience); errors.Is(err, devicegrant.ErrConflict) && time.Now().Before(end); time.Sleep(time.Millisecond) {
		given := next
		err = s.Redeem(s.Context(), &given, issues("at last"))
	}
	if err != nil {
		s.Fatalf("%s: Redeem fails: %v", when, err)
	}
	next.Version++
	s.wantStored(when+", and a Redeem", &next)
	s.wantReceipt(when+", and a Redeem", &next, "at last")
}

// beside redeems the grant and makes a call while that goes on, which must end before.
// The call may not use Fatalf.
func (s *redeemSuite) beside(g *devicegrant.Grant, what string, call func(context.Context)) {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.Context(), patience)
	defer cancel()
	done := make(chan struct{})
	given := *g
	hold(&given)
	err := s.Redeem(s.Context(), &given, func(context.Context) ([]byte, error) {
		go func() {
			defer close(done)
			call(ctx)
		}()
		select {
		case <-done:
		case <-ctx.Done():
			s.Errorf("%s waits for a Redeem of the grant that is going on", what)
		}
		return []byte("receipt"), nil
	})
	if err != nil {
		s.Fatalf("Redeem, with %s beside it: %v", what, err)
	}
	select {
	case <-done:
	case <-time.After(patience):
		s.Fatalf("%s does not end", what)
	}
	given.Version++
	s.wantStored("after a Redeem with "+what+" beside it", s.withPace(&given))
	s.wantReceipt("after a Redeem with "+what+" beside it", &given, "receipt")
}

// withPace returns the grant with the pace that is stored.
func (s *redeemSuite) withPace(g *devicegrant.Grant) *devicegrant.Grant {
	s.Helper()
	with := *g
	with.Pace = s.read(g).Pace
	return &with
}

func redeemWritesItsFields(s *redeemSuite) {
	g := s.store()
	s.poll(g, noon)
	before := s.read(g)
	given := *before
	hold(&given)
	given.Scope = "openid"
	leaveAlone(&given)
	if err := s.Redeem(s.Context(), &given, issues("receipt")); err != nil {
		s.Fatalf("Redeem of the grant just read: %v", err)
	}
	want := *before
	want.State, want.Subject, want.ExpiresAt, want.Version = given.State, given.Subject, given.ExpiresAt, before.Version+1
	want.Scope, want.Session, want.Entered = given.Scope, given.Session, given.Entered
	s.wantStored("after Redeem of a grant all of whose fields differ", &want)
	for name, text := range inOrder(texts) {
		g = s.redeem(g, func(g *devicegrant.Grant) { g.Subject = text }, "receipt")
		s.wantStored("Subject is "+name, g)
	}
	for name, at := range inOrder(instants()) {
		g = s.redeem(g, func(g *devicegrant.Grant) { g.ExpiresAt = at }, "receipt")
		s.wantStored("ExpiresAt is "+name, g)
	}
	s.wantStored("after Redeem freed the code", s.redeem(g, redeem, "receipt"))
	_, err := s.ByUserCode(s.Context(), before.UserCode)
	s.wantError("ByUserCode of the code that Redeem freed", err, devicegrant.ErrNotFound)
}

func redeemCopies(s *redeemSuite) {
	given := *s.store()
	hold(&given)
	want, receipt := given, []byte("receipt")
	if err := s.Redeem(s.Context(), &given, func(context.Context) ([]byte, error) { return receipt, nil }); err != nil {
		s.Fatalf("Redeem: %v", err)
	}
	if d := diff(&given, &want); d != "" {
		s.Errorf("Redeem changed the grant it was given (adding one to Version is for its caller): %s", d)
	}
	want.Version++
	spoil(&given)
	receipt[0] = 'R'
	s.wantStored("after the caller changed the grant it had given to Redeem", &want)
	got, _ := s.Receipt(s.Context(), &want)
	s.wantReceipt("after issue's caller changed the receipt", &want, "receipt")
	if len(got) > 0 {
		got[0] = 'R'
	}
	s.wantReceipt("after a reader changed the receipt", &want, "receipt")
}

func redeemRefusesStale(s *redeemSuite) {
	g := s.store()
	for range 3 {
		g = s.redeem(g, hold, "receipt")
	}
	for _, off := range []int64{-3, -2, -1, 1, 2, 1 << 32} {
		given := *g
		given.Version += off
		given.State, given.Subject, given.UserCode, given.Session = devicegrant.Redeemed, "mallory", noUserCode, sessions[1]
		what := fmt.Sprintf("version %d when %d is stored", given.Version, g.Version)
		s.wantRefused(what, &given)
		s.wantStored("after the Redeem of "+what+" was refused", g)
		s.wantReceipt("after the Redeem of "+what+" was refused", g, "receipt")
	}
	stale := *g
	g = s.swap(g, func(g *devicegrant.Grant) { g.State = devicegrant.Redeemed })
	s.wantRefused("a grant that Swap has written since", &stale)
	s.wantRedeemable("after stale Redeems", g)
}

func redeemRefusesUnknown(s *redeemSuite) {
	s.store()
	unknown := s.grant()
	s.wantRefused("a grant that was never created", unknown)
	s.wantGone("after the Redeem of a grant that was never created", unknown)
	_, err := s.Receipt(s.Context(), unknown)
	s.wantError("Receipt of a grant that was never created", err, devicegrant.ErrNotFound)

	purged := s.redeem(s.store(), func(g *devicegrant.Grant) { g.ExpiresAt = noon.Add(-time.Hour) }, "receipt")
	s.purge(noon, 10)
	given := *purged
	given.ExpiresAt = noon.Add(time.Hour)
	s.wantRefused("a grant that was purged meanwhile", &given)
	s.wantGone("after the Redeem of a purged grant", purged)
	_, err = s.Receipt(s.Context(), purged)
	s.wantError("Receipt of a grant that was purged", err, devicegrant.ErrNotFound)
	purged.Version = 0
	s.create(purged)
	s.wantReceipt("a grant that was created again after Purge", purged, "")
}

// redeemRefusesSecond allows a second Redeem to fail in its time, in place of being
// refused at once, where writing another grant has to wait as well: in a database with
// one writer.
func redeemRefusesSecond(s *redeemSuite) {
	g, other := s.store(), s.store()
	s.beside(g, "a second Redeem", func(ctx context.Context) {
		soon, cancel := context.WithTimeout(ctx, patience/10)
		defer cancel()
		oneWriter := s.Swap(soon, other) != nil

		later, cancel := context.WithTimeout(ctx, patience/2)
		defer cancel()
		given := *g
		given.State = devicegrant.Redeemed
		err := s.Redeem(later, &given, func(context.Context) ([]byte, error) {
			s.Errorf("a second Redeem called issue while the first was going on")
			return nil, nil
		})
		if oneWriter && err != nil && later.Err() != nil {
			return
		}
		s.wantError("a second Redeem while the first is going on", err, devicegrant.ErrConflict)
	})
}

type contextKey struct{}

func redeemCallsIssue(s *redeemSuite) {
	g := s.store()
	given := *g
	hold(&given)
	ctx, cancel := context.WithCancel(context.WithValue(s.Context(), contextKey{}, "value"))
	defer cancel()
	calls := 0
	err := s.Redeem(ctx, &given, func(ctx context.Context) ([]byte, error) {
		calls++
		if ctx.Err() != nil || ctx.Value(contextKey{}) != "value" {
			s.Errorf("Redeem called issue with a context that has ended or is not its caller's: %v", ctx)
			return nil, ErrInjected
		}
		cancel()
		select {
		case <-ctx.Done():
		case <-time.After(patience):
			s.Errorf("the context of issue did not end with that of Redeem's caller")
		}
		return nil, ErrInjected
	})
	s.wantError("Redeem whose context ended while issue failed", err, ErrInjected)
	if calls != 1 {
		s.Errorf("Redeem called issue %d times, want once", calls)
	}
	s.wantRedeemable("after a Redeem whose context ended while issue failed", g)
}

func redeemIssueFails(s *redeemSuite) {
	failures := map[string]error{
		"some error":              ErrInjected,
		"an error of the Store's": fmt.Errorf("the host's: %w", devicegrant.ErrNotFound),
		"an error for the client": devicegrant.ErrAccessDenied.Because(ErrInjected),
	}
	for name, failure := range inOrder(failures) {
		g := s.redeem(s.store(), hold, "before")
		given, calls := *g, 0
		redeem(&given)
		err := s.Redeem(s.Context(), &given, func(context.Context) ([]byte, error) {
			calls++
			return []byte("after"), failure
		})
		s.wantError("Redeem when issue returns "+name, err, failure)
		if calls != 1 {
			s.Errorf("Redeem called issue %d times, want once, although it returned %s", calls, name)
		}
		s.wantReceipt("after issue returned "+name, g, "before")
		s.wantRedeemable("after issue returned "+name, g)
	}
}

func redeemIssuePanics(s *redeemSuite) {
	g := s.redeem(s.store(), hold, "before")
	panicked, err := redeemPanicking(s, g)
	if !panicked && err == nil {
		s.Errorf("Redeem succeeded when issue panicked")
	}
	s.wantReceipt("after issue panicked", g, "before")
	s.wantRedeemable("after issue panicked", g)
	s.wantStored("a grant created after issue panicked", s.store())
}

func redeemPanicking(s *redeemSuite, g *devicegrant.Grant) (panicked bool, err error) {
	defer func() { panicked = recover() != nil }()
	given := *g
	redeem(&given)
	return false, s.Redeem(s.Context(), &given, func(context.Context) ([]byte, error) { panic("issue panics") })
}

func redeemKeepsReceipt(s *redeemSuite) {
	other := s.redeem(s.store(), hold, "another's")
	g := s.store()
	s.wantReceipt("a grant that was never redeemed", g, "")
	g = s.redeem(g, hold, "receipt")
	s.poll(g, noon)
	s.wantReceipt("after Redeem and a poll", g, "receipt")
	s.wantReceipt("a second time", g, "receipt")
	for _, off := range []int64{-1, 1, 1 << 32} {
		given := *g
		given.Version += off
		got, err := s.Receipt(s.Context(), &given)
		s.wantError(fmt.Sprintf("Receipt of version %d when %d is stored", given.Version, g.Version), err, devicegrant.ErrNotFound)
		if got != nil {
			s.Errorf("Receipt of another version returned %s", show(string(got)))
		}
	}
	stale := *g
	stale.Version--
	s.wantError("Swap of a stale version", s.Swap(s.Context(), &stale), devicegrant.ErrConflict)
	s.wantReceipt("after a Swap that was refused", g, "receipt")
	s.wantReceipt("another grant's", other, "another's")
}

func redeemKeepsBytes(s *redeemSuite) {
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	receipts := map[string]string{
		"one byte":         "x",
		"a NUL":            "\x00",
		"a space":          " ",
		"every byte":       string(every),
		"no UTF-8":         "\xff\xfe\xc0\x80",
		"64 KiB":           string(bytes.Repeat(every, 256)),
		"64 KiB, and more": string(bytes.Repeat([]byte("receipt "), 9000)),
		"empty":            "",
	}
	for name, receipt := range inOrder(receipts) {
		g := s.redeem(s.store(), hold, receipt)
		s.wantReceipt("the receipt is "+name, g, receipt)
	}
	given := *s.store()
	if err := s.Redeem(s.Context(), &given, func(context.Context) ([]byte, error) { return nil, nil }); err != nil {
		s.Fatalf("Redeem without a receipt: %v", err)
	}
	given.Version++
	s.wantReceipt("the receipt is nil", &given, "")
}

func redeemSwapDiscards(s *redeemSuite) {
	for _, state := range states {
		before := s.redeem(s.store(), hold, "receipt")
		after := s.swap(before, func(g *devicegrant.Grant) { g.State = state })
		s.wantReceipt(fmt.Sprintf("after Swap to %v", state), after, "")
		_, err := s.Receipt(s.Context(), before)
		s.wantError("Receipt of the version before Swap", err, devicegrant.ErrNotFound)
	}
}

func redeemReplaces(s *redeemSuite) {
	g := s.store()
	for _, receipt := range []string{"first", "second, and longer", "3rd", "", "fifth"} {
		before := *g
		g = s.redeem(g, hold, receipt)
		s.wantReceipt("after another Redeem", g, receipt)
		_, err := s.Receipt(s.Context(), &before)
		s.wantError("Receipt of the version before another Redeem", err, devicegrant.ErrNotFound)
	}
}

func redeemReads(s *redeemSuite) {
	g := s.redeem(s.store(), hold, "before")
	s.beside(g, "reading", func(ctx context.Context) {
		got, err := s.ByDeviceCode(ctx, g.DeviceCode)
		s.wantGrant("ByDeviceCode while a Redeem is going on", got, err, g)
		got, err = s.ByUserCode(ctx, g.UserCode)
		s.wantGrant("ByUserCode while a Redeem is going on", got, err, g)
		receipt, err := s.Receipt(ctx, g)
		if err != nil || string(receipt) != "before" {
			s.Errorf("Receipt while a Redeem is going on returned %s, %v, want the one before", show(string(receipt)), err)
		}
	})
}

// redeemPolls gives the poll a time of its own: in a database with one writer it has
// to wait.
func redeemPolls(s *redeemSuite) {
	g := s.store()
	after := *g
	after.Pace = g.Pace.Next(noon)
	answered := false
	s.beside(g, "a poll with little time", func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, patience/10)
		defer cancel()
		got, err := s.Poll(ctx, g.DeviceCode, g.ClientID, noon)
		if answered = err == nil; answered {
			s.wantPolled("Poll while a Redeem is going on", got, &after)
		}
	})
	redeemed := s.read(g)
	if d := diffPace(redeemed.Pace, after.Pace); answered && d != "" {
		s.Errorf("after a Redeem with a poll beside it, the poll is lost: %s", d)
	}
	at := noon.Add(time.Minute)
	got := s.poll(redeemed, at)
	redeemed.Pace = redeemed.Pace.Next(at)
	s.wantPolled("Poll after a Redeem with a poll beside it", got, redeemed)
}

func redeemCancelled(s *redeemSuite) {
	g := s.redeem(s.store(), hold, "before")
	given := *g
	hold(&given)
	err := s.Redeem(s.cancelled(), &given, issues("after"))
	s.wantWhole("Redeem with a cancelled context", err, g, &given)

	g = s.redeem(s.store(), hold, "before")
	given = *g
	hold(&given)
	ctx, cancel := context.WithCancel(s.Context())
	defer cancel()
	err = s.Redeem(ctx, &given, func(context.Context) ([]byte, error) {
		cancel()
		return []byte("after"), nil
	})
	s.wantWhole("Redeem whose context ends while it issues", err, g, &given)
}

// wantWhole demands that a Redeem of given happened, or, if it failed, that it did not.
func (s *redeemSuite) wantWhole(call string, err error, before, given *devicegrant.Grant) {
	s.Helper()
	call += ", which returned " + show(err)
	if s.read(before).Version == before.Version && err != nil {
		s.wantReceipt(call, before, "before")
		s.wantRedeemable(call, before)
		return
	}
	after := *given
	after.Version++
	s.wantStored(call, &after)
	s.wantReceipt(call, &after, "after")
}

func redeemRaces(s *redeemSuite) {
	for range raceRounds {
		g := s.store()
		given, errs := make([]devicegrant.Grant, racers), make([]error, racers)
		var calls atomic.Int64
		for i := range given {
			given[i] = *g
			given[i].State, given[i].Subject = devicegrant.Redeeming, fmt.Sprint("racer ", i)
		}
		together(racers, func(i int) {
			mine := given[i]
			errs[i] = s.Redeem(s.Context(), &mine, func(context.Context) ([]byte, error) {
				calls.Add(1)
				return []byte(mine.Subject), nil
			})
		})
		want := given[s.oneWins("Redeems at once of one version", errs, devicegrant.ErrConflict)]
		want.Version++
		s.wantStored("the winner of Redeems at once", &want)
		s.wantReceipt("the winner of Redeems at once", &want, want.Subject)
		if n := calls.Load(); n != 1 {
			s.Fatalf("Redeems at once called issue %d times, want once: who cannot have the grant must not issue", n)
		}
	}
}

// redeemRacesSwap has all begin at once, and every other time the Swaps when the Redeem
// is under way, which then gives them a moment.
func redeemRacesSwap(s *redeemSuite) {
	for round := range raceRounds {
		g := s.store()
		given, errs := make([]devicegrant.Grant, racers), make([]error, racers)
		for i := range given {
			given[i] = *g
			given[i].State, given[i].Subject = devicegrant.Redeeming, fmt.Sprint("racer ", i)
		}
		begun, swapped := make(chan struct{}), make(chan struct{})
		begin, swap := sync.OnceFunc(func() { close(begun) }), sync.OnceFunc(func() { close(swapped) })
		together(racers, func(i int) {
			mine := given[i]
			if i == 0 {
				defer begin()
				errs[i] = s.Redeem(s.Context(), &mine, func(context.Context) ([]byte, error) {
					begin()
					select {
					case <-swapped:
					case <-time.After(time.Millisecond):
					}
					return []byte("receipt"), nil
				})
				return
			}
			if round%2 == 0 {
				<-begun
			}
			errs[i] = s.Swap(s.Context(), &mine)
			swap()
		})
		winner := s.oneWins("a Redeem and Swaps at once of one version", errs, devicegrant.ErrConflict)
		want, receipt := given[winner], ""
		if winner == 0 {
			receipt = "receipt"
		}
		want.Version++
		s.wantStored("the winner of a Redeem and Swaps at once", &want)
		s.wantReceipt("the winner of a Redeem and Swaps at once", &want, receipt)
	}
}
