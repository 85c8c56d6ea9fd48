package storetest

import (
	"bytes"
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/devicegrant/devicegrant"
	"github.com/devicegrant/devicegrant/memstore"
)

// swapTallyAs has SwapTallies store what change makes of the tally; stored is the one before.
func swapTallyAs(change func(given *tally, stored tally)) func(*reference) {
	return func(r *reference) {
		r.swapTally = func(r *reference, key tallyKey, t tally) error {
			stored := r.count(key)
			version := t.Version
			change(&t, stored)
			if version != stored.Version {
				return devicegrant.ErrConflict
			}
			locked(r, func() any { t.Version++; r.counted[key] = t; return nil })
			return nil
		}
	}
}

// tallyUnless has SwapTallies compare no version where free says so.
func tallyUnless(free func(given, stored tally) bool) func(*reference) {
	return func(r *reference) {
		r.swapTally = func(r *reference, key tallyKey, t tally) error {
			if stored := r.count(key); free(t, stored) {
				t.Version = stored.Version
			}
			return swapTally(r, key, t)
		}
	}
}

// tallyKeyAs has other keys stored and read.
func tallyKeyAs(change func(key tallyKey) tallyKey) func(*reference) {
	return func(r *reference) {
		r.swapTally = func(r *reference, key tallyKey, t tally) error { return swapTally(r, change(key), t) }
		r.tallies = func(r *reference, keys []tallyKey) ([]tally, error) {
			changed := slices.Clone(keys)
			for i, key := range keys {
				changed[i] = change(key)
			}
			return readTallies(r, changed)
		}
	}
}

// withTallies changes what is read.
func withTallies(change func(keys []tallyKey, tallies []tally) []tally) func(*reference) {
	return func(r *reference) {
		r.tallies = func(r *reference, keys []tallyKey) ([]tally, error) {
			tallies, err := readTallies(r, keys)
			return change(keys, tallies), err
		}
	}
}

// withPurge replaces what Purge does with tallies; it has done with the grants, and less
// than the limit is left.
func withPurge(tallies func(r *reference, before time.Time, limit, left int) int) func(*reference) {
	return func(r *reference) {
		r.purge = func(r *reference, before time.Time, limit int) (int, error) {
			n, err := r.deleteIf(limit, func(g *grant) bool { return g.ExpiresAt.Before(before) })
			return n + tallies(r, before, limit, limit-n), err
		}
	}
}

func (r *reference) count(key tallyKey) tally {
	return locked(r, func() tally { return r.counted[key] })
}

func expiredBefore(before time.Time) func(tally) bool {
	return func(t tally) bool { return t.ExpiresAt.Before(before) }
}

// swapTallyLater compares first and writes later.
func swapTallyLater(r *reference) {
	r.swapTally = func(r *reference, key tallyKey, t tally) error {
		if r.count(key).Version != t.Version {
			return devicegrant.ErrConflict
		}
		pause()
		locked(r, func() any { t.Version++; r.counted[key] = t; return nil })
		return nil
	}
}

var tallyMutants = []mutant{
	{"no tally is an error", "Tally/nothing stored is the zero Tally", func(r *reference) {
		r.tallies = func(r *reference, keys []tallyKey) ([]tally, error) {
			if slices.ContainsFunc(keys, func(key tallyKey) bool { return r.count(key).Version == 0 }) {
				return nil, devicegrant.ErrNotFound
			}
			return readTallies(r, keys)
		}
	}},
	{"no tally has the time of 1970", "Tally/nothing stored is the zero Tally", withTallies(func(_ []tallyKey, tallies []tally) []tally {
		for i := range tallies {
			if tallies[i].Version == 0 {
				tallies[i].PaidAt = time.UnixMicro(0)
			}
		}
		return tallies
	})},
	{"reading stores the zero Tally", "Tally/nothing stored is the zero Tally", func(r *reference) {
		r.tallies = func(r *reference, keys []tallyKey) ([]tally, error) {
			tallies, err := readTallies(r, keys)
			locked(r, func() any {
				for i, key := range keys {
					r.counted[key] = tallies[i]
				}
				return nil
			})
			return tallies, err
		}
	}},

	{"guesses in a byte", "Tally/stores every field", swapTallyAs(func(given *tally, _ tally) { given.Guesses &= 0xff })},
	{"guesses are never lowered", "Tally/stores every field", swapTallyAs(func(given *tally, stored tally) { given.Guesses = max(given.Guesses, stored.Guesses) })},
	{"a write leaves PaidAt", "Tally/stores every field", swapTallyAs(func(given *tally, stored tally) {
		if stored.Version > 0 {
			given.PaidAt = stored.PaidAt
		}
	})},
	{"a write only extends ExpiresAt", "Tally/stores every field", swapTallyAs(func(given *tally, stored tally) {
		if given.ExpiresAt.Before(stored.ExpiresAt) {
			given.ExpiresAt = stored.ExpiresAt
		}
	})},

	{"tallies to the millisecond", "Tally/keeps times as instants, to the microsecond", swapTallyAs(func(given *tally, _ tally) { given.PaidAt = given.PaidAt.Truncate(time.Millisecond) })},
	{"tallies as a wall clock shows them", "Tally/keeps times as instants, to the microsecond", swapTallyAs(func(given *tally, _ tally) { given.ExpiresAt = wall(given.ExpiresAt) })},

	{"tallies in the order of the table", "Tally/reads in the order of the keys", func(r *reference) {
		r.tallies = func(r *reference, keys []tallyKey) ([]tally, error) {
			return readTallies(r, slices.SortedFunc(slices.Values(keys), func(a, b tallyKey) int { return bytes.Compare(a[:], b[:]) }))
		}
	}},
	{"a key that comes twice is read once", "Tally/reads in the order of the keys", withTallies(func(keys []tallyKey, tallies []tally) []tally {
		for i, key := range keys {
			if slices.Contains(keys[:i], key) {
				tallies[i] = tally{}
			}
		}
		return tallies
	})},
	{"missing ones are left out", "Tally/reads in the order of the keys", withTallies(func(_ []tallyKey, tallies []tally) []tally {
		return slices.DeleteFunc(tallies, func(t tally) bool { return t.Version == 0 })
	})},
	{"five at once", "Tally/reads in the order of the keys", withTallies(func(_ []tallyKey, tallies []tally) []tally {
		clear(tallies[min(len(tallies), 5):])
		return tallies
	})},
	{"Tallies sorts the keys it is given", "Tally/reads in the order of the keys", func(r *reference) {
		r.tallies = func(r *reference, keys []tallyKey) ([]tally, error) {
			tallies, err := readTallies(r, keys)
			slices.SortFunc(keys, func(a, b tallyKey) int { return bytes.Compare(a[:], b[:]) })
			return tallies, err
		}
	}},

	{"keys are trimmed", "Tally/tells keys apart byte for byte", tallyKeyAs(func(key tallyKey) tallyKey {
		if key[31] == ' ' {
			key[31] = 0
		}
		return key
	})},
	{"keys fold case", "Tally/tells keys apart byte for byte", tallyKeyAs(func(key tallyKey) tallyKey {
		if key[0] == 'A' {
			key[0] = 'a'
		}
		return key
	})},
	{"Purge deletes all or nothing", "Tally/tells keys apart byte for byte", withPurge(func(r *reference, before time.Time, _, left int) int {
		over := expiredBefore(before)
		if !locked(r, func() bool {
			for _, t := range r.counted {
				if over(t) {
					return true
				}
			}
			return false
		}) {
			return 0
		}
		return r.deleteTallies(left, func(tally) bool { return true })
	})},

	{"Tallies answers from a cache", "Tally/returns copies", func(r *reference) {
		cache := map[tallyKey][]tally{}
		r.tallies = func(r *reference, keys []tallyKey) ([]tally, error) {
			read, err := readTallies(r, keys)
			return locked(r, func() []tally {
				if old := cache[keys[0]]; len(old) >= len(read) && old[0].Version >= read[0].Version {
					return old[:len(read)]
				}
				cache[keys[0]] = read
				return read
			}), err
		}
	}},
	{"Tallies uses a slice again", "Tally/returns copies", func(r *reference) {
		var used [devicegrant.MaxTallies]tally
		r.tallies = func(r *reference, keys []tallyKey) ([]tally, error) {
			tallies, err := readTallies(r, keys)
			return locked(r, func() []tally { copy(used[:], tallies); return used[:len(keys)] }), err
		}
	}},

	{"a write adds two", "Tally/adds one to Version each time", swapTallyAs(func(given *tally, stored tally) {
		if stored.Version > 2 {
			given.Version++
		}
	})},
	{"a write that changes nothing adds nothing", "Tally/adds one to Version each time", swapTallyAs(func(given *tally, stored tally) {
		if *given == stored {
			given.Version--
		}
	})},

	{"any version is inserted", "Tally/of version zero is stored only where nothing is", tallyUnless(func(_, stored tally) bool { return stored.Version == 0 })},
	{"version zero writes over", "Tally/of version zero is stored only where nothing is", tallyUnless(func(given, _ tally) bool { return given.Version == 0 })},

	{"only older versions are refused", "Tally/refuses another version", tallyUnless(func(given, stored tally) bool { return given.Version > stored.Version && stored.Version > 0 })},
	{"only newer versions are refused", "Tally/refuses another version", tallyUnless(func(given, stored tally) bool { return 0 < given.Version && given.Version < stored.Version })},
	{"a refused write extends the deadline", "Tally/refuses another version", func(r *reference) {
		r.swapTally = func(r *reference, key tallyKey, t tally) error {
			err := swapTally(r, key, t)
			if err != nil {
				locked(r, func() any {
					if stored, ok := r.counted[key]; ok {
						stored.ExpiresAt = t.ExpiresAt
						r.counted[key] = stored
					}
					return nil
				})
			}
			return err
		}
	}},
	{"a refused write is nobody's error", "Tally/refuses another version", func(r *reference) {
		r.swapTally = func(r *reference, key tallyKey, t tally) error { _ = swapTally(r, key, t); return nil }
	}},
	{"a refused write is another error", "Tally/refuses another version", func(r *reference) {
		r.swapTally = func(r *reference, key tallyKey, t tally) error {
			if swapTally(r, key, t) != nil {
				return ErrInjected
			}
			return nil
		}
	}},

	{"who knows of a later deadline writes", "Tally/lets one of two readers write", tallyUnless(func(given, stored tally) bool { return given.ExpiresAt.After(stored.ExpiresAt) })},

	{"of several, those that can be are written", "Tally/several are written all or none", func(r *reference) {
		r.swapTallies = func(r *reference, keys []tallyKey, tallies []tally) (err error) {
			for i, key := range keys {
				err = cmp.Or(err, swapTally(r, key, tallies[i]))
			}
			return err
		}
	}},
	{"of several, those before one that cannot be are written", "Tally/several are written all or none", func(r *reference) {
		r.swapTallies = func(r *reference, keys []tallyKey, tallies []tally) error {
			for i, key := range keys {
				if err := swapTally(r, key, tallies[i]); err != nil {
					return err
				}
			}
			return nil
		}
	}},
	{"of several, the first decides", "Tally/several are written all or none", func(r *reference) {
		r.swapTallies = func(r *reference, keys []tallyKey, tallies []tally) error {
			if err := swapTally(r, keys[0], tallies[0]); err != nil {
				return err
			}
			for i, key := range keys[1:] {
				locked(r, func() any { t := tallies[i+1]; t.Version++; r.counted[key] = t; return nil })
			}
			return nil
		}
	}},
	{"several are compared first and written later", "Tally/of writes of several at once, one wins", func(r *reference) {
		r.swapTallies = func(r *reference, keys []tallyKey, tallies []tally) error {
			for i, key := range keys {
				if r.count(key).Version != tallies[i].Version {
					return devicegrant.ErrConflict
				}
			}
			pause()
			for i, key := range keys {
				locked(r, func() any { t := tallies[i]; t.Version++; r.counted[key] = t; return nil })
			}
			return nil
		}
	}},

	{"SwapTallies compares first and writes later", "Tally/of writes at once of one version, one wins", swapTallyLater},
	{"increments are lost", "Tally/increments at once lose nothing", swapTallyLater},

	{"Purge takes live tallies", "Tally/Purge deletes what expired strictly before, and nothing else", withPurge(func(r *reference, _ time.Time, _, left int) int {
		return r.deleteTallies(left, func(tally) bool { return true })
	})},
	{"Purge takes tallies that expire at the very instant", "Tally/Purge deletes what expired strictly before, and nothing else", withPurge(func(r *reference, before time.Time, _, left int) int {
		return r.deleteTallies(left, func(t tally) bool { return !t.ExpiresAt.After(before) })
	})},
	{"Purge takes what is paid", "Tally/Purge deletes what expired strictly before, and nothing else", withPurge(func(r *reference, before time.Time, _, left int) int {
		return r.deleteTallies(left, func(t tally) bool { return t.PaidAt.Before(before) })
	})},
	{"Purge spares tallies", "Tally/Purge deletes what expired strictly before, and nothing else", withPurge(func(*reference, time.Time, int, int) int { return 0 })},

	{"Purge goes by the first deadline", "Tally/Purge goes by the deadline written last", func(r *reference) {
		first := map[tallyKey]time.Time{}
		r.swapTally = func(r *reference, key tallyKey, t tally) error {
			err := swapTally(r, key, t)
			locked(r, func() any {
				if err == nil && t.Version == 0 {
					first[key] = t.ExpiresAt
				}
				return nil
			})
			return err
		}
		r.purge = func(r *reference, before time.Time, limit int) (int, error) {
			return locked(r, func() int {
				n := len(r.counted)
				maps.DeleteFunc(r.counted, func(key tallyKey, _ tally) bool { return first[key].Before(before) })
				return n - len(r.counted)
			}), nil
		}
	}},

	{"Purge does not count tallies", "Tally/Purge counts tallies with grants, up to limit, until none is left", withPurge(func(r *reference, before time.Time, _, left int) int {
		r.deleteTallies(left, expiredBefore(before))
		return 0
	})},
	{"Purge takes up to limit of each", "Tally/Purge counts tallies with grants, up to limit, until none is left", withPurge(func(r *reference, before time.Time, limit, _ int) int {
		return r.deleteTallies(limit, expiredBefore(before))
	})},
	{"Purge takes up to limit of either", "Tally/Purge counts tallies with grants, up to limit, until none is left", withPurge(func(r *reference, before time.Time, limit, left int) int {
		if left < limit {
			return 0
		}
		return r.deleteTallies(limit, expiredBefore(before))
	})},
	{"tallies keep grants from being purged", "Tally/Purge counts tallies with grants, up to limit, until none is left", func(r *reference) {
		r.purge = func(r *reference, before time.Time, limit int) (int, error) {
			if n := r.deleteTallies(limit, expiredBefore(before)); n > 0 {
				return n, nil
			}
			return r.deleteIf(limit, func(g *grant) bool { return g.ExpiresAt.Before(before) })
		}
	}},

	{"versions go on after Purge", "Tally/purged is as if it had never been", withPurge(func(r *reference, before time.Time, _, _ int) int {
		return locked(r, func() int {
			n := 0
			for key, t := range r.counted {
				if t.ExpiresAt.Before(before) {
					r.counted[key] = tally{Version: t.Version, ExpiresAt: before}
					n++
				}
			}
			return n
		})
	})},

	{"Purge selects tallies first and deletes later", "Tally/of a write and Purge at once, one wins", func(r *reference) {
		r.purge = func(r *reference, before time.Time, limit int) (int, error) {
			selected := r.expiredTallies(before, limit)
			pause()
			return r.deleteSelected(selected), nil
		}
	}},
	{"Purge counts the tallies it selected", "Tally/Purges at once count each tally once", func(r *reference) {
		r.purge = func(r *reference, before time.Time, limit int) (int, error) {
			selected := r.expiredTallies(before, limit)
			pause()
			r.deleteSelected(selected)
			return len(selected), nil
		}
	}},

	{"no version is compared", "Tally/answers random calls as the contract says", tallyUnless(func(tally, tally) bool { return true })},
	{"Purge takes one tally at a time", "Tally/answers random calls as the contract says", withPurge(func(r *reference, before time.Time, _, left int) int {
		return r.deleteTallies(min(left, 1), expiredBefore(before))
	})},
}

// expiredTallies returns up to limit tallies to purge, the same for whoever asks.
func (r *reference) expiredTallies(before time.Time, limit int) []tallyKey {
	return locked(r, func() []tallyKey {
		var keys []tallyKey
		for key, t := range r.counted {
			if t.ExpiresAt.Before(before) {
				keys = append(keys, key)
			}
		}
		slices.SortFunc(keys, func(a, b tallyKey) int { return bytes.Compare(a[:], b[:]) })
		return keys[:min(limit, len(keys))]
	})
}

func (r *reference) deleteSelected(keys []tallyKey) int {
	return locked(r, func() int {
		n := 0
		for _, key := range keys {
			if _, ok := r.counted[key]; ok {
				delete(r.counted, key)
				n++
			}
		}
		return n
	})
}

var wrappedTallyMutants = []wrappedMutant{
	{"a cancelled read finds nothing", "Tally/cancelled: reads return an error or the tallies", func(s *memstore.Store) devicegrant.Store { return heedlessTallies{s} }},
	{"a cancelled write says it succeeded", "Tally/cancelled: is written wholly or not at all", func(s *memstore.Store) devicegrant.Store { return heedlessTallies{s} }},
	{"a cancelled write is half done", "Tally/cancelled: is written wholly or not at all", func(s *memstore.Store) devicegrant.Store { return halfTally{s} }},
	{"a cancelled Purge deletes half its batch of tallies", "Tally/cancelled: Purge deletes its batch or nothing", func(s *memstore.Store) devicegrant.Store { return halfPurgeTallies{s} }},
}

type heedlessTallies struct{ *memstore.Store }

func (s heedlessTallies) Tallies(ctx context.Context, keys []tallyKey) ([]tally, error) {
	select {
	case <-ctx.Done():
		return make([]tally, len(keys)), nil
	default:
		return s.Store.Tallies(ctx, keys)
	}
}

func (s heedlessTallies) SwapTallies(ctx context.Context, keys []tallyKey, tallies []tally) error {
	select {
	case <-ctx.Done():
		return nil
	default:
		return s.Store.SwapTallies(ctx, keys, tallies)
	}
}

type halfTally struct{ *memstore.Store }

func (s halfTally) SwapTallies(ctx context.Context, keys []tallyKey, tallies []tally) error {
	tallies = slices.Clone(tallies)
	if ctx.Err() != nil {
		tallies[0].ExpiresAt = tallies[0].PaidAt
	}
	return s.Store.SwapTallies(ctx, keys, tallies)
}

type halfPurgeTallies struct{ *memstore.Store }

func (s halfPurgeTallies) Purge(ctx context.Context, before time.Time, limit int) (int, error) {
	return halfPurge{s.Store}.Purge(ctx, before, limit)
}
