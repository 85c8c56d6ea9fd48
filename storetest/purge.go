package storetest

import (
	"fmt"
	"time"

	"github.com/devicegrant/devicegrant"
)

var purgeClauses = []clause{
	{"of an empty store deletes nothing", purgeEmpty},
	{"deletes what expired strictly before", purgeStrictlyBefore},
	{"deletes by the deadline alone, in any state", purgeAnyState},
	{"goes by the deadline that Swap wrote last", purgeSwappedDeadline},
	{"deletes up to limit, and fewer only when none is left", purgeLimit},
	{"frees both codes", purgeFreesCodes},
}

func purgeEmpty(s *suite) {
	if n := s.purge(noon, 100); n != 0 {
		s.Errorf("Purge of an empty store returned %d", n)
	}
}

func purgeStrictlyBefore(s *suite) {
	before := s.store(expires(noon.Add(-time.Microsecond)))
	long := s.store(expires(noon.Add(-365 * 24 * time.Hour)))
	at := s.store(expires(noon))
	after := s.store(expires(noon.Add(time.Microsecond)))
	live := s.store(expires(noon.Add(lifetime)))
	// The same instant in another zone: it is instants that are compared.
	if n := s.purge(noon.In(time.FixedZone("", -8*3600)), 100); n != 2 {
		s.Errorf("Purge returned %d, want 2: of five deadlines two are before %v, one of them by a microsecond", n, noon)
	}
	s.wantGone("ExpiresAt a microsecond before", before)
	s.wantGone("ExpiresAt a year before", long)
	s.wantStored("ExpiresAt exactly at the time given to Purge, which is not before it", at)
	s.wantStored("ExpiresAt a microsecond after the time given to Purge", after)
	s.wantStored("a live grant, after Purge", live)
}

func expires(at time.Time) func(*devicegrant.Grant) {
	return func(g *devicegrant.Grant) { g.ExpiresAt = at }
}

func purgeAnyState(s *suite) {
	var live, over []*devicegrant.Grant
	for _, state := range states {
		in := func(at time.Time) *devicegrant.Grant {
			return s.swap(s.store(), func(g *devicegrant.Grant) { g.State, g.ExpiresAt = state, at })
		}
		live, over = append(live, in(noon.Add(time.Second))), append(over, in(noon.Add(-time.Second)))
	}
	live = append(live, s.swap(s.store(), redeem))
	if n := s.purge(noon, 100); n != len(over) {
		s.Errorf("Purge returned %d, want %d: one expired grant in each state", n, len(over))
	}
	for _, g := range live {
		s.wantStored(fmt.Sprintf("%v and not expired, after Purge", g.State), g)
	}
	for _, g := range over {
		s.wantGone(fmt.Sprintf("%v and expired, after Purge", g.State), g)
	}
}

func purgeSwappedDeadline(s *suite) {
	extended := s.store(expires(noon.Add(-time.Second)))
	extended = s.swap(extended, expires(noon.Add(time.Second)))
	shortened := s.store(expires(noon.Add(time.Second)))
	s.swap(shortened, expires(noon.Add(-time.Second)))
	if n := s.purge(noon, 100); n != 1 {
		s.Errorf("Purge returned %d, want 1: the grant whose deadline Swap moved into the past", n)
	}
	s.wantStored("a grant whose deadline Swap extended, after Purge", extended)
	s.wantGone("a grant whose deadline Swap moved into the past", shortened)
}

func purgeLimit(s *suite) {
	for _, limit := range []int{1, 3, 4, 7, 12, 13, 100} {
		live := s.store()
		const expired = 12
		gone := make([]*devicegrant.Grant, expired)
		for i := range gone {
			gone[i] = s.store(expires(noon.Add(-time.Duration(i+1) * time.Second)))
		}
		for left := expired; ; left -= limit {
			want := max(min(left, limit), 0)
			n := s.purge(noon, limit)
			if n != want {
				s.Fatalf("Purge with limit %d and %d expired grants left returned %d, want %d", limit, left, n, want)
			}
			if still := s.count(gone); still != left-want {
				s.Fatalf("Purge with limit %d returned %d, and of %d expired grants %d are still there", limit, n, left, still)
			}
			if n < limit {
				break
			}
		}
		s.wantStored("a live grant, after Purge in batches", live)
	}
}

// count returns how many of the grants are stored.
func (s *suite) count(grants []*devicegrant.Grant) int {
	n := 0
	for _, g := range grants {
		if _, err := s.ByDeviceCode(s.Context(), g.DeviceCode); err == nil {
			n++
		}
	}
	return n
}

func purgeFreesCodes(s *suite) {
	g := s.store()
	s.poll(g, noon)
	s.swap(g, func(g *devicegrant.Grant) { g.State = devicegrant.Denied })
	s.purge(noon.Add(2*lifetime), 1)
	s.wantGone("after Purge", g)
	_, err := s.Poll(s.Context(), g.DeviceCode, g.ClientID, noon)
	s.wantError("Poll of a purged grant", err, devicegrant.ErrNotFound)
	next := s.grant(func(next *devicegrant.Grant) { next.UserCode = g.UserCode })
	if err := s.Create(s.Context(), next); err != nil {
		s.Fatalf("Create with the user code of a purged grant: %v", err)
	}
	s.wantStored("the new owner of a purged grant's user code", next)
}
