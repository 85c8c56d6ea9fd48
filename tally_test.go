package devicegrant_test

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/devicegrant/devicegrant"
	"github.com/devicegrant/devicegrant/memstore"
	"github.com/devicegrant/devicegrant/storetest"
)

// strictTallies are those of a Store that, like a database, writes nothing for a context
// that has ended.
type strictTallies struct{ *storetest.FaultyTallier }

func (s strictTallies) SwapTallies(ctx context.Context, keys []devicegrant.TallyKey, tallies []devicegrant.Tally) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return s.FaultyTallier.SwapTallies(ctx, keys, tallies)
}

// tallyFixture is a fixture whose Store keeps tallies, which fail where they are told to.
func tallyFixture(t testing.TB) (*fixture, *storetest.FaultyTallier) {
	store := storetest.NewFaultyTallier(memstore.New(0))
	return newFixture(t, func(c *devicegrant.Config) { c.Store = strictTallies{store} }), store
}

// requireTries demands that a person has exactly so many wrong codes left.
func (f *fixture) requireTries(tries int, by devicegrant.Person) {
	f.t.Helper()
	for i := range tries {
		_, err := f.Lookup(f.t.Context(), "BBBB-BBBB", by)
		require.ErrorIs(f.t, err, devicegrant.ErrUserCode, "try %d of %d", i+1, tries)
	}
	var tooMany *devicegrant.TooManyGuessesError
	_, err := f.Lookup(f.t.Context(), "BBBB-BBBB", by)
	require.ErrorAs(f.t, err, &tooMany)
}

// A guess that cannot be counted is not looked up, and leaves nothing charged.
func TestGuessesThatCannotBeCounted(t *testing.T) {
	person := devicegrant.Person{Subject: "alice", Session: "phone", Addr: addrHome}
	for _, op := range []storetest.Op{storetest.OpTallies, storetest.OpSwapTallies} {
		t.Run(string(op), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { // So that nothing comes back with time.
				f, store := tallyFixture(t)
				a := f.authorize()
				for range 5 {
					store.Inject(op, storetest.Fault{Err: errOutage})
					require.ErrorIs(t, f.lookup(a, person), errOutage)
					store.Heal()
				}
				assert.Zero(t, store.Calls(storetest.OpByUserCode))
				assert.Len(t, f.raised(devicegrant.EventStoreError), 5)
				f.requireTries(3, person)
			})
		})
	}
}

// A right code that cannot be given back is right all the same, and costs a try.
func TestGuessThatCannotBeGivenBack(t *testing.T) {
	f, store := tallyFixture(t)
	a := f.authorize()
	store.Inject(storetest.OpSwapTallies, storetest.Fault{Skip: 1, Times: storetest.Always, Err: errOutage})
	f.review(a.UserCode, alice)
	store.Heal()
	assert.Len(t, f.raised(devicegrant.EventStoreError), 1)
	f.requireTries(2, alice)
}

// Whoever closes the browser while their code is looked up is given it back.
func TestGuessIsGivenBackToWhoHasGone(t *testing.T) {
	f, store := tallyFixture(t)
	a := f.authorize()
	ctx, cancel := context.WithCancel(t.Context())
	store.Before = func(op storetest.Op, _ int) {
		if op == storetest.OpByUserCode {
			cancel()
		}
	}
	_, err := f.Lookup(ctx, a.UserCode, alice)
	require.NoError(t, err)
	f.requireTries(3, alice)
}

// Guesses at the same moment, at whichever replica, are all counted, and only the wrong
// ones stay.
func TestGuessesAtTheSameMoment(t *testing.T) {
	for write, what := range []string{"the charge", "giving back"} {
		t.Run("before "+what, func(t *testing.T) {
			f, store := tallyFixture(t)
			replica := newFixture(t, func(c *devicegrant.Config) { c.Store = strictTallies{store} })
			a := f.authorize()
			neighbour := devicegrant.Person{Subject: "bob", Session: "tablet", Addr: addrHome}
			person := devicegrant.Person{Subject: "alice", Session: "phone", Addr: addrHome}
			writes := 0
			store.Before = func(op storetest.Op, _ int) {
				if op != storetest.OpSwapTallies {
					return
				}
				if writes++; writes == write+1 {
					store.Before = nil
					_, err := replica.Lookup(t.Context(), "BBBB-BBBB", neighbour)
					require.ErrorIs(t, err, devicegrant.ErrUserCode)
				}
			}
			require.NoError(t, f.lookup(a, person))
			require.Nil(t, store.Before, "the neighbour came")
			f.requireTries(2, devicegrant.Person{Subject: "carol", Session: "watch", Addr: addrHome})
		})
	}
}

// shortTallies are those of a Store that breaks its contract.
type shortTallies struct{ *memstore.Store }

func (shortTallies) Tallies(context.Context, []devicegrant.TallyKey) ([]devicegrant.Tally, error) {
	return nil, nil
}

func TestStoreThatReturnsTooFewTallies(t *testing.T) {
	f := newFixture(t, func(c *devicegrant.Config) { c.Store = shortTallies{memstore.New(0)} })
	_, err := f.Lookup(t.Context(), f.authorize().UserCode, alice)
	require.ErrorContains(t, err, "another number of tallies")
}

// How often a code was entered is counted up to a bound.
func TestEnteredIsBounded(t *testing.T) {
	var seen devicegrant.Situation
	f := newFixture(t, func(c *devicegrant.Config) {
		c.Risk = func(_ context.Context, s devicegrant.Situation) (devicegrant.Verdict, error) {
			seen = s
			return devicegrant.Allow, nil
		}
	})
	a := f.authorize()
	f.review(a.UserCode, alice)
	for i := range devicegrant.MaxEntered + 10 {
		require.ErrorIs(t, f.lookup(a, devicegrant.Person{Subject: fmt.Sprint(i)}), devicegrant.ErrOtherSession)
	}
	f.review(a.UserCode, alice)
	assert.Equal(t, devicegrant.MaxEntered, seen.Entered)
}

// While nobody can count guesses, the page says that it does not work.
func TestPageWhileTalliesFail(t *testing.T) {
	f, store := tallyFixture(t)
	store.Inject(storetest.OpTallies, storetest.Fault{Times: storetest.Always, Err: errOutage})
	w := (&browser{fixture: f, subject: "alice"}).post("user_code", "BBBB-BBBB")
	assert.Equal(t, http.StatusServiceUnavailable, w.Code)
	assert.NotContains(t, w.Body.String(), errOutage.Error())
}
