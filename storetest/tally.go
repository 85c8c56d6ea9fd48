package storetest

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/devicegrant/devicegrant"
)

// These clauses are for a Store that is a devicegrant.Tallier.
var tallyClauses = []clause{
	{"nothing stored is the zero Tally", tallying(tallyNothing)},
	{"stores every field", tallying(tallyStoresFields)},
	{"keeps times as instants, to the microsecond", tallying(tallyKeepsInstants)},
	{"reads in the order of the keys", tallying(tallyOrder)},
	{"tells keys apart byte for byte", tallying(tallyKeepsKeys)},
	{"returns copies", tallying(tallyCopies)},
	{"adds one to Version each time", tallying(tallyCountsVersions)},
	{"of version zero is stored only where nothing is", tallying(tallyInserts)},
	{"refuses another version", tallying(tallyRefusesStale)},
	{"lets one of two readers write", tallying(tallyOneOfTwo)},
	{"of writes at once of one version, one wins", tallying(tallyRaces)},
	{"increments at once lose nothing", tallying(tallyIncrements)},
	{"several are written all or none", tallying(tallySeveral)},
	{"of writes of several at once, one wins", tallying(tallySeveralRace)},
	{"Purge deletes what expired strictly before, and nothing else", tallying(tallyPurge)},
	{"Purge goes by the deadline written last", tallying(tallyPurgeDeadline)},
	{"Purge counts tallies with grants, up to limit, until none is left", tallying(tallyPurgeLimit)},
	{"purged is as if it had never been", tallying(tallyPurged)},
	{"of a write and Purge at once, one wins", tallying(tallyRacesPurge)},
	{"Purges at once count each tally once", tallying(tallyRacePurges)},
	{"cancelled: reads return an error or the tallies", tallying(tallyReadCancelled)},
	{"cancelled: is written wholly or not at all", tallying(tallySwapCancelled)},
	{"cancelled: Purge deletes its batch or nothing", tallying(tallyPurgeCancelled)},
	{"answers random calls as the contract says", tallying(tallyRandom)},
}

// tallySuite is a suite on a Store that is a Tallier.
type tallySuite struct {
	*suite
	devicegrant.Tallier
}

func tallying(check func(*tallySuite)) func(*suite) {
	return func(s *suite) {
		if t, ok := s.Store.(devicegrant.Tallier); ok {
			check(&tallySuite{s, t})
		}
	}
}

// key returns a key unlike every other of the test.
func (s *tallySuite) key() devicegrant.TallyKey {
	s.made++
	return sha256.Sum256(fmt.Append(nil, "tally", s.made))
}

// guesses returns a Tally that is not stored yet.
func guesses(n int) devicegrant.Tally {
	return devicegrant.Tally{Guesses: n, PaidAt: noon.Add(time.Minute), ExpiresAt: noon.Add(lifetime)}
}

// expiredTally returns a Tally that is over at noon, and is not stored yet.
func expiredTally() devicegrant.Tally {
	return devicegrant.Tally{Guesses: 1, PaidAt: noon.Add(-time.Minute), ExpiresAt: noon.Add(-time.Second)}
}

// swap writes one Tally.
func (s *tallySuite) swap(ctx context.Context, key devicegrant.TallyKey, t devicegrant.Tally) error {
	return s.SwapTallies(ctx, []devicegrant.TallyKey{key}, []devicegrant.Tally{t})
}

// write stores a Tally and returns what is stored then.
func (s *tallySuite) write(key devicegrant.TallyKey, t devicegrant.Tally) devicegrant.Tally {
	s.Helper()
	if err := s.swap(s.Context(), key, t); err != nil {
		s.Fatalf("SwapTallies of the stored version, %d: %v", t.Version, err)
	}
	t.Version++
	return t
}

// all reads tallies.
func (s *tallySuite) all(keys ...devicegrant.TallyKey) []devicegrant.Tally {
	s.Helper()
	got, err := s.Tallies(s.Context(), keys)
	if err != nil || len(got) != len(keys) {
		s.Fatalf("Tallies of %d keys returned %v, %v", len(keys), got, err)
	}
	return got
}

func (s *tallySuite) wantTally(when string, key devicegrant.TallyKey, want devicegrant.Tally) {
	s.Helper()
	if d := diffTally(s.all(key)[0], want); d != "" {
		s.Errorf("%s: wrong tally: %s", when, d)
	}
}

// wantAll demands what is stored under each of the keys.
func (s *tallySuite) wantAll(when string, keys []devicegrant.TallyKey, want []devicegrant.Tally) {
	s.Helper()
	for i, got := range s.all(keys...) {
		if d := diffTally(got, want[i]); d != "" {
			s.Errorf("%s: wrong tally for key %d of %d: %s", when, i+1, len(keys), d)
		}
	}
}

func diffTally(got, want devicegrant.Tally) string {
	var d differences
	compare(&d, "Guesses", got.Guesses, want.Guesses)
	compareTime(&d, "PaidAt", got.PaidAt, want.PaidAt)
	compareTime(&d, "ExpiresAt", got.ExpiresAt, want.ExpiresAt)
	compare(&d, "Version", got.Version, want.Version)
	return strings.Join(d, "; ")
}

// refuseTally demands that a write is refused and leaves what is stored.
func (s *tallySuite) refuseTally(what string, key devicegrant.TallyKey, t, stored devicegrant.Tally) {
	s.Helper()
	s.wantError("SwapTallies of "+what, s.swap(s.Context(), key, t), devicegrant.ErrConflict)
	s.wantTally("after the SwapTallies of "+what+" was refused", key, stored)
}

func tallyNothing(s *tallySuite) {
	var none devicegrant.TallyKey
	unknown := s.key()
	s.wantTally("empty store", unknown, devicegrant.Tally{})
	s.write(s.key(), guesses(1))
	g := s.store()
	for name, key := range map[string]devicegrant.TallyKey{
		"a key unlike another": unknown, "the zero key": none,
		"a grant's device code": devicegrant.TallyKey(g.DeviceCode), "a grant's user code": devicegrant.TallyKey(g.UserCode),
	} {
		s.wantTally(name, key, devicegrant.Tally{})
	}
	if n := s.purge(noon, 100); n != 0 {
		s.Errorf("Purge returned %d after tallies were read that are not there, want 0", n)
	}
	s.wantTally("read in vain, then written", unknown, s.write(unknown, guesses(2)))
}

func tallyStoresFields(s *tallySuite) {
	for _, n := range []int{0, 1, 3, 250, 1 << 16, math.MaxInt32} {
		key := s.key()
		stored := s.write(key, guesses(n))
		s.wantTally(fmt.Sprintf("a new one with %d guesses", n), key, stored)
		stored.Guesses, stored.PaidAt, stored.ExpiresAt = n+1-n%2, noon.Add(time.Hour), noon.Add(2*time.Hour)
		s.wantTally("written again, with all fields changed", key, s.write(key, stored))
		stored.Version++
		stored.Guesses, stored.PaidAt, stored.ExpiresAt = 0, noon.Add(-time.Hour), noon
		s.wantTally("written again, with all fields smaller", key, s.write(key, stored))
	}
}

func tallyKeepsInstants(s *tallySuite) {
	key, stored := s.key(), devicegrant.Tally{}
	for name, at := range inOrder(instants()) {
		given := devicegrant.Tally{Guesses: 1, PaidAt: at, ExpiresAt: at.Add(lifetime)}
		fresh := s.key()
		s.wantTally("a new one, with times given as "+name, fresh, s.write(fresh, given))
		given.Version = stored.Version
		stored = s.write(key, given)
		s.wantTally("with times given as "+name, key, stored)
	}
}

func tallyOrder(s *tallySuite) {
	var keys []devicegrant.TallyKey
	var stored []devicegrant.Tally
	for i := range devicegrant.MaxTallies {
		keys, stored = append(keys, s.key()), append(stored, devicegrant.Tally{})
		if i%3 != 2 { // Some are missing.
			stored[i] = s.write(keys[i], guesses(i+1))
		}
	}
	orders := [][]int{{0, 0}, {5, 0, 5}, {1, 1, 1, 1, 1, 1}, {2, 2}, {0, 2, 0, 2, 0, 2}, {4, 3, 3, 4, 5}, {5, 4, 3, 2, 1, 0}}
	for n := range devicegrant.MaxTallies { // From one key to as many as there may be, from each on.
		for first := range devicegrant.MaxTallies {
			var order []int
			for i := range n + 1 {
				order = append(order, (first+i)%devicegrant.MaxTallies)
			}
			orders = append(orders, order)
		}
	}
	s.wantAll("no keys", nil, nil)
	for _, order := range orders {
		var asked []devicegrant.TallyKey
		var want []devicegrant.Tally
		for _, i := range order {
			asked, want = append(asked, keys[i]), append(want, stored[i])
		}
		given := slices.Clone(asked)
		s.wantAll(fmt.Sprintf("keys %v, of which every third is not stored", order), given, want)
		if !slices.Equal(given, asked) {
			s.Errorf("Tallies changed the keys it was given")
		}
	}
}

// tallyKeepsKeys has keys that a column which pads, trims or folds case takes for one
// another. Each is written, refused and purged beside the others.
func tallyKeepsKeys(s *tallySuite) {
	var keys []devicegrant.TallyKey
	var stored []devicegrant.Tally
	check := func(when string) {
		s.Helper()
		for i, key := range keys {
			s.wantTally(fmt.Sprintf("among keys that differ in one byte, %x, after %s", key, when), key, stored[i])
		}
		for i := range len(keys) - devicegrant.MaxTallies {
			s.wantAll("keys that differ in one byte, after "+when, keys[i:i+devicegrant.MaxTallies], stored[i:i+devicegrant.MaxTallies])
		}
	}
	for _, b := range []byte{0x00, 0x01, 'a', 'A', ' ', '\\', 0x7f, 0x80, 0xff} {
		keys = append(keys, devicegrant.TallyKey{31: b, 0: 'x'}, devicegrant.TallyKey{0: b, 31: 'y'})
	}
	for i, key := range keys {
		stored = append(stored, s.write(key, guesses(i)))
	}
	check("each was written once")
	stored[3].ExpiresAt = noon.Add(-time.Second)
	stored[3] = s.write(keys[3], stored[3])
	check("one was written again")
	s.refuseTally("another version", keys[4], guesses(99), stored[4])
	check("one was refused")
	s.purge(noon, 100)
	stored[3] = devicegrant.Tally{}
	check("one was purged")
}

func tallyCopies(s *tallySuite) {
	key := s.key()
	stored := s.write(key, guesses(1))
	got := s.all(key, key)
	got[0].Guesses, got[0].Version = 99, 99
	s.wantTally("after the caller changed what Tallies returned", key, stored)
	before := s.all(key)
	after := s.write(key, stored)
	s.wantTally("after a write", key, after)
	if d := diffTally(before[0], stored); d != "" {
		s.Errorf("a tally that was read before a write changed with it: %s", d)
	}
}

func tallyCountsVersions(s *tallySuite) {
	key, stored := s.key(), guesses(0)
	for i := range 5 {
		stored.Guesses = 10 * i
		stored = s.write(key, stored)
		s.wantTally(fmt.Sprintf("after write %d", i+1), key, stored)
	}
	s.wantTally("after a write that changes nothing but Version", key, s.write(key, stored))
}

func tallyInserts(s *tallySuite) {
	key := s.key()
	for _, version := range []int64{-1, 1, 2, 1 << 32} {
		given := guesses(9)
		given.Version = version
		s.refuseTally(fmt.Sprintf("version %d when nothing is stored", version), key, given, devicegrant.Tally{})
	}
	stored := s.write(key, guesses(1))
	s.refuseTally("version 0 when 1 is stored", key, guesses(2), stored)
	stored = s.write(key, stored)
	s.refuseTally("version 0 when 2 is stored", key, guesses(2), stored)
}

func tallyRefusesStale(s *tallySuite) {
	key, stored := s.key(), guesses(1)
	for range 4 {
		stored = s.write(key, stored)
	}
	for _, off := range []int64{-5, -4, -3, -2, -1, 1, 2, 1 << 32} {
		given := devicegrant.Tally{Guesses: 99, PaidAt: noon.Add(time.Hour), ExpiresAt: noon.Add(2 * time.Hour), Version: stored.Version + off}
		s.refuseTally(fmt.Sprintf("version %d when %d is stored", given.Version, stored.Version), key, given, stored)
	}
	s.wantTally("after stale writes, it can still be written", key, s.write(key, stored))
}

func tallyOneOfTwo(s *tallySuite) {
	key := s.key()
	for i := range 3 { // The first two readers find nothing.
		one, two := s.all(key)[0], s.all(key)[0]
		one.Guesses, one.PaidAt, one.ExpiresAt = i, noon, noon.Add(lifetime)
		two.Guesses, two.PaidAt, two.ExpiresAt = i+100, noon.Add(time.Hour), noon.Add(2*lifetime)
		stored := s.write(key, one)
		s.refuseTally("what was read before another wrote", key, two, stored)
	}
}

func tallyRaces(s *tallySuite) {
	for range raceRounds / 3 {
		key, stored := s.key(), devicegrant.Tally{}
		for range 2 { // Where nothing is, and over what is there.
			given, errs := make([]devicegrant.Tally, racers), make([]error, racers)
			for i := range given {
				given[i] = guesses(i)
				given[i].PaidAt, given[i].Version = noon.Add(time.Duration(i)*time.Second), stored.Version
			}
			together(racers, func(i int) { errs[i] = s.swap(s.Context(), key, given[i]) })
			stored = given[s.oneWins(fmt.Sprintf("SwapTallies at once of version %d", stored.Version), errs, devicegrant.ErrConflict)]
			stored.Version++
			s.wantTally("the winner of SwapTallies at once", key, stored)
		}
	}
}

// tallyIncrements has workers that read and write, and try again, until each has added
// its share.
func tallyIncrements(s *tallySuite) {
	const workers, each = 4, 30
	key := s.key()
	together(workers, func(int) {
		for added := 0; added < each; {
			got, err := s.Tallies(s.Context(), []devicegrant.TallyKey{key})
			if err != nil || len(got) != 1 {
				s.Errorf("Tallies beside others: %v, %v", got, err)
				return
			}
			next := guesses(got[0].Guesses + 1)
			next.Version = got[0].Version
			switch err := s.swap(s.Context(), key, next); {
			case err == nil:
				added++
			case !errors.Is(err, devicegrant.ErrConflict):
				s.Errorf("SwapTallies beside others: %v", err)
				return
			}
		}
	})
	want := guesses(workers * each)
	want.Version = workers * each
	s.wantTally(fmt.Sprintf("after %d increments by %d workers at once", workers*each, workers), key, want)
}

func tallySeveral(s *tallySuite) {
	for n := 2; n <= devicegrant.MaxTallies; n++ {
		keys, stored := make([]devicegrant.TallyKey, n), make([]devicegrant.Tally, n)
		for i := range keys {
			keys[i] = s.key()
			if i%2 == 1 { // Some are there already.
				stored[i] = s.write(keys[i], guesses(10+i))
			}
		}
		given := func(more int) []devicegrant.Tally {
			tallies := slices.Clone(stored)
			for i := range tallies {
				version := tallies[i].Version
				tallies[i] = guesses(more + i)
				tallies[i].Version = version
			}
			return tallies
		}
		for stale := range n {
			tallies := given(20)
			tallies[stale].Version += int64(1 - 2*(stale%2)) // One to come, or one that was.
			what := fmt.Sprintf("%d tallies, number %d of another version", n, stale+1)
			s.wantError("SwapTallies of "+what, s.SwapTallies(s.Context(), keys, tallies), devicegrant.ErrConflict)
			s.wantAll("after the SwapTallies of "+what+" was refused", keys, stored)
		}
		stored = given(30)
		if err := s.SwapTallies(s.Context(), keys, stored); err != nil {
			s.Fatalf("SwapTallies of %d tallies of the stored versions: %v", n, err)
		}
		stored = slices.Clone(stored)
		for i := range stored {
			stored[i].Version++
		}
		s.wantAll(fmt.Sprintf("SwapTallies of %d", n), keys, stored)
	}
}

// tallySeveralRace has racers write the same tallies, in this order and in that.
func tallySeveralRace(s *tallySuite) {
	for range 20 {
		keys := []devicegrant.TallyKey{s.key(), s.key(), s.key()}
		backwards := slices.Clone(keys)
		slices.Reverse(backwards)
		errs := make([]error, racers)
		together(racers, func(i int) {
			order := keys
			if i%2 == 1 {
				order = backwards
			}
			errs[i] = s.SwapTallies(s.Context(), order, []devicegrant.Tally{guesses(i + 1), guesses(i + 1), guesses(i + 1)})
		})
		winner := -1
		for i, err := range errs {
			switch {
			case err == nil && winner < 0:
				winner = i
			case err == nil:
				s.Errorf("two of %d writes of the same three new tallies succeeded", racers)
			default:
				s.wantError("SwapTallies that lost", err, devicegrant.ErrConflict)
			}
		}
		want := guesses(winner + 1)
		want.Version = 1
		s.wantAll("after the race", keys, []devicegrant.Tally{want, want, want})
	}
}

func tallyPurge(s *tallySuite) {
	expires := func(at time.Time) devicegrant.TallyKey {
		key := s.key()
		s.write(key, devicegrant.Tally{Guesses: 1, PaidAt: noon.Add(-time.Hour), ExpiresAt: at})
		return key
	}
	gone := []devicegrant.TallyKey{expires(noon.Add(-time.Microsecond)), expires(noon.Add(-365 * 24 * time.Hour))}
	kept := []devicegrant.TallyKey{expires(noon), expires(noon.Add(time.Microsecond)), expires(noon.Add(lifetime))}
	want := s.all(kept...)
	live := s.store()
	if n := s.purge(noon.In(time.FixedZone("", -8*3600)), 100); n != 2 {
		s.Errorf("Purge returned %d, want 2: of five tallies two expired before %v, one of them by a microsecond", n, noon)
	}
	s.wantAll("expired a microsecond and a year before, after Purge", gone, make([]devicegrant.Tally, 2))
	s.wantAll("expiring exactly at the time given to Purge, a microsecond after and later", kept, want)
	s.wantStored("a live grant, after Purge of tallies", live)
}

func tallyPurgeDeadline(s *tallySuite) {
	extended, shortened := s.key(), s.key()
	t := s.write(extended, expiredTally())
	t.ExpiresAt = noon.Add(time.Second)
	t = s.write(extended, t)
	over := s.write(shortened, guesses(1))
	over.ExpiresAt = noon.Add(-time.Second)
	s.write(shortened, over)
	if n := s.purge(noon, 100); n != 1 {
		s.Errorf("Purge returned %d, want 1: the tally whose deadline was moved into the past", n)
	}
	s.wantTally("a tally whose deadline was extended, after Purge", extended, t)
	s.wantTally("a tally whose deadline was moved into the past, after Purge", shortened, devicegrant.Tally{})
}

// present returns how many of the keys have a tally.
func (s *tallySuite) present(keys []devicegrant.TallyKey) int {
	s.Helper()
	n := 0
	for some := range slices.Chunk(keys, devicegrant.MaxTallies) {
		for _, t := range s.all(some...) {
			if t.Version != 0 {
				n++
			}
		}
	}
	return n
}

// tallyPurgeLimit has grants and tallies expire in numbers of which one is more than, as
// much as and less than the limit.
func tallyPurgeLimit(s *tallySuite) {
	for _, expired := range []struct{ grants, tallies int }{{6, 6}, {0, 7}, {1, 12}, {12, 1}} {
		for _, limit := range []int{1, 4, 7, 13, 100} {
			grants, keys := make([]*devicegrant.Grant, expired.grants), make([]devicegrant.TallyKey, expired.tallies)
			for i := range grants {
				grants[i] = s.store(expires(noon.Add(-time.Duration(i+1) * time.Second)))
			}
			for i := range keys {
				keys[i] = s.key()
				s.write(keys[i], expiredTally())
			}
			live, key := s.store(), s.key()
			tally := s.write(key, guesses(1))
			s.purgeInBatches(limit, grants, keys)
			s.wantStored("a live grant, after Purge in batches", live)
			s.wantTally("a live tally, after Purge in batches", key, tally)
		}
	}
}

// purgeInBatches purges, as Server.Purge does, until fewer than limit are deleted, which
// must be when none of the grants and tallies is left.
func (s *tallySuite) purgeInBatches(limit int, grants []*devicegrant.Grant, keys []devicegrant.TallyKey) {
	s.Helper()
	for left := len(grants) + len(keys); ; left -= limit {
		want := max(min(left, limit), 0)
		n := s.purge(noon, limit)
		if n != want {
			s.Fatalf("Purge with limit %d, when of %d expired grants and %d expired tallies %d are left, returned %d, want %d",
				limit, len(grants), len(keys), left, n, want)
		}
		if still := s.count(grants) + s.present(keys); still != left-want {
			s.Fatalf("Purge with limit %d returned %d, and of %d expired grants and tallies %d are still there", limit, n, left, still)
		}
		if n < limit {
			return
		}
	}
}

func tallyPurged(s *tallySuite) {
	key := s.key()
	old := s.write(key, s.write(key, expiredTally()))
	if n := s.purge(noon, 10); n != 1 {
		s.Fatalf("Purge returned %d, want 1: the tally", n)
	}
	s.wantTally("after Purge", key, devicegrant.Tally{})
	s.refuseTally("a tally that was purged since it was read", key, old, devicegrant.Tally{})
	s.wantTally("stored again after Purge", key, s.write(key, guesses(3)))
}

// tallyRacesPurge extends tallies while they are purged. Whoever was told that the write
// succeeded has it stored.
func tallyRacesPurge(s *tallySuite) {
	const tallies = 10
	for range raceRounds / 6 {
		keys, given, errs := make([]devicegrant.TallyKey, tallies), make([]devicegrant.Tally, tallies), make([]error, tallies)
		for i := range keys {
			keys[i] = s.key()
			given[i] = s.write(keys[i], expiredTally())
			given[i].ExpiresAt = noon.Add(lifetime)
		}
		var purged atomic.Int64
		together(3, func(racer int) {
			if racer == 0 {
				for i, key := range keys {
					errs[i] = s.swap(s.Context(), key, given[i])
				}
				return
			}
			for range tallies {
				n, err := s.Purge(s.Context(), noon, 2)
				if err != nil {
					s.Errorf("Purge beside others: %v", err)
				}
				purged.Add(int64(n))
			}
		})
		refused := int64(0)
		for i, key := range keys {
			want := given[i]
			want.Version++
			if errs[i] != nil {
				s.wantError("SwapTallies of what Purge took", errs[i], devicegrant.ErrConflict)
				want = devicegrant.Tally{}
				refused++
			}
			s.wantTally(fmt.Sprintf("extended beside Purge, which returned %v: what Purge deletes must be expired when it is deleted", errs[i]), key, want)
		}
		if purged.Load() != refused {
			s.Errorf("Purge beside SwapTallies says it deleted %d tallies; %d writes found none", purged.Load(), refused)
		}
	}
}

func tallyRacePurges(s *tallySuite) {
	racePurgesOf(s.suite, "tallies", func() { s.write(s.key(), expiredTally()) })
}

func tallyReadCancelled(s *tallySuite) {
	keys := []devicegrant.TallyKey{s.key(), s.key()}
	want := []devicegrant.Tally{s.write(keys[0], guesses(1)), {}}
	got, err := s.Tallies(s.cancelled(), keys)
	if err != nil {
		return
	}
	if len(got) != 2 || diffTally(got[0], want[0]) != "" || diffTally(got[1], want[1]) != "" {
		s.Errorf("Tallies with a cancelled context returned %v and no error, want %v", got, want)
	}
}

func tallySwapCancelled(s *tallySuite) {
	for _, written := range []int{0, 1} { // Where nothing is, and over what is there.
		key, before := s.key(), devicegrant.Tally{}
		for range written {
			before = s.write(key, guesses(1))
		}
		after := guesses(2)
		after.Version = before.Version
		err := s.swap(s.cancelled(), key, after)
		after.Version++
		if err != nil && diffTally(s.all(key)[0], before) == "" {
			after = before
		}
		s.wantTally("SwapTallies with a cancelled context, which returned "+show(err), key, after)
	}
}

func tallyPurgeCancelled(s *tallySuite) {
	keys := make([]devicegrant.TallyKey, 5)
	for i := range keys {
		keys[i] = s.key()
		s.write(keys[i], expiredTally())
	}
	n, err := s.Purge(s.cancelled(), noon, 3)
	left := s.present(keys)
	if err == nil && n != 3 {
		s.Errorf("Purge with limit 3, a cancelled context and 5 expired tallies returned %d and no error", n)
	}
	if left != 2 && (left != 5 || err == nil) {
		s.Errorf("Purge with limit 3 and a cancelled context returned %d, %v, and of 5 expired tallies %d are left", n, err, left)
	}
}

const (
	tallySeeds = 4
	tallySteps = 300
)

func tallyRandom(s *tallySuite) {
	for seed := range uint64(tallySeeds) {
		m := &tallyModel{
			tallySuite: s, seed: seed, now: noon,
			rng:    rand.New(rand.NewPCG(seed, 8628)), //nolint:gosec // a fixed seed, so that a failure repeats
			stored: map[devicegrant.TallyKey]devicegrant.Tally{},
		}
		for range devicegrant.MaxTallies + 2 {
			m.keys = append(m.keys, s.key())
		}
		for m.step = range tallySteps {
			m.next()
		}
		if n := m.purge(m.now.Add(1000*lifetime), 100); n != len(m.stored) {
			m.Errorf("%s returned %d, want %d", m.at("the last Purge"), n, len(m.stored))
		}
	}
}

// tallyModel is the contract, written as plainly as one goroutine allows, beside the Store
// under test.
type tallyModel struct {
	*tallySuite
	rng    *rand.Rand
	seed   uint64
	step   int
	now    time.Time
	keys   []devicegrant.TallyKey
	stored map[devicegrant.TallyKey]devicegrant.Tally
}

// at names the step in messages.
func (m *tallyModel) at(call string) string {
	return fmt.Sprintf("random calls for tallies, seed %d, step %d: %s", m.seed, m.step, call)
}

func (m *tallyModel) next() {
	switch n := m.rng.IntN(10); {
	case n < 4:
		m.readSome()
	case n < 8:
		m.writeOne()
	case n < 9:
		m.purgeSome()
	default:
		m.now = m.now.Add(m.micros(lifetime))
	}
}

func (m *tallyModel) micros(most time.Duration) time.Duration {
	return time.Duration(m.rng.Int64N(int64(most/time.Microsecond))) * time.Microsecond
}

func (m *tallyModel) pick() devicegrant.TallyKey { return m.keys[m.rng.IntN(len(m.keys))] }

func (m *tallyModel) readSome() {
	keys, want := make([]devicegrant.TallyKey, 1+m.rng.IntN(devicegrant.MaxTallies)), []devicegrant.Tally(nil)
	for i := range keys {
		keys[i] = m.pick()
		want = append(want, m.stored[keys[i]])
	}
	m.wantAll(m.at("Tallies"), keys, want)
}

// writeOne writes the version that is stored, or one beside it.
func (m *tallyModel) writeOne() {
	key := m.pick()
	stored := m.stored[key]
	given := devicegrant.Tally{Guesses: m.rng.IntN(1000), PaidAt: m.now.Add(m.micros(lifetime)), ExpiresAt: m.now.Add(m.micros(2 * lifetime)), Version: stored.Version}
	if m.rng.IntN(3) == 0 {
		given.Version = max(0, given.Version+int64(m.rng.IntN(5)-2))
	}
	err := m.swap(m.Context(), key, given)
	if given.Version != stored.Version {
		m.wantError(m.at(fmt.Sprintf("SwapTallies of version %d when %d is stored", given.Version, stored.Version)), err, devicegrant.ErrConflict)
		return
	}
	if err != nil {
		m.Fatalf("%s: %v", m.at("SwapTallies of the stored version"), err)
	}
	given.Version++
	m.stored[key] = given
}

// purgeSome purges and sees which of the expired tallies the Store chose.
func (m *tallyModel) purgeSome() {
	var expired []devicegrant.TallyKey
	for _, key := range m.keys {
		if t, ok := m.stored[key]; ok && t.ExpiresAt.Before(m.now) {
			expired = append(expired, key)
		}
	}
	limit := 1 + m.rng.IntN(len(m.keys))
	want := min(limit, len(expired))
	if n := m.purge(m.now, limit); n != want {
		m.Fatalf("%s returned %d, want %d", m.at(fmt.Sprintf("Purge with limit %d and %d expired", limit, len(expired))), n, want)
	}
	for _, key := range expired {
		if m.all(key)[0].Version == 0 {
			delete(m.stored, key)
			want--
		}
	}
	if want != 0 {
		m.Fatalf("%s said it deleted %d more tallies than are gone", m.at("Purge"), want)
	}
}
