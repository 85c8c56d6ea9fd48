package storetest

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/devicegrant/devicegrant"
)

// outcomes makes n Swaps of a grant and returns which failed, and the version that
// is stored then.
func outcomes(t *testing.T, n int, faults ...Fault) (failed []bool, version int64) {
	t.Helper()
	f := NewFaulty(newReference())
	g := &devicegrant.Grant{DeviceCode: [32]byte{1}, UserCode: [32]byte{1}}
	require.NoError(t, f.Create(t.Context(), g))
	for _, fault := range faults {
		f.Inject(OpSwap, fault)
	}
	for range n {
		now, err := f.ByDeviceCode(t.Context(), g.DeviceCode)
		require.NoError(t, err)
		err = f.Swap(t.Context(), now)
		if err != nil {
			require.ErrorIs(t, err, ErrInjected)
		}
		failed = append(failed, err != nil)
	}
	assert.Equal(t, n, f.Calls(OpSwap))
	assert.Equal(t, n, f.Calls(OpByDeviceCode))
	now, err := f.ByDeviceCode(t.Context(), g.DeviceCode)
	require.NoError(t, err)
	return failed, now.Version
}

func TestFaultyFailsWhereTold(t *testing.T) {
	const ok, no = false, true
	tests := map[string]struct {
		faults  []Fault
		failed  []bool
		version int64
	}{
		"nothing injected":  {nil, []bool{ok, ok, ok, ok}, 4},
		"the next":          {[]Fault{{}}, []bool{no, ok, ok, ok}, 3},
		"the next two":      {[]Fault{{Times: 2}}, []bool{no, no, ok, ok}, 2},
		"the third":         {[]Fault{{Skip: 2}}, []bool{ok, ok, no, ok}, 3},
		"all":               {[]Fault{{Times: Always}}, []bool{no, no, no, no}, 0},
		"all but the first": {[]Fault{{Skip: 1, Times: Always}}, []bool{ok, no, no, no}, 1},
		"one after another": {[]Fault{{}, {Skip: 1}}, []bool{no, ok, no, ok}, 2},
		"answer lost":       {[]Fault{{Lost: true}}, []bool{no, ok, ok, ok}, 4},
		"lost, then failed": {[]Fault{{Lost: true}, {}}, []bool{no, no, ok, ok}, 3},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			failed, version := outcomes(t, len(test.failed), test.faults...)
			assert.Equal(t, test.failed, failed)
			assert.Equal(t, test.version, version, "writes that took effect")
		})
	}
}

func TestFaultyFailsEveryMethod(t *testing.T) {
	broken := errors.New("connection refused")
	calls := map[Op]func(f *FaultyTallier) error{
		OpCreate: func(f *FaultyTallier) error {
			return f.Create(t.Context(), &devicegrant.Grant{UserCode: [32]byte{2}})
		},
		OpByUserCode:   func(f *FaultyTallier) error { _, err := f.ByUserCode(t.Context(), [32]byte{1}); return err },
		OpByDeviceCode: func(f *FaultyTallier) error { _, err := f.ByDeviceCode(t.Context(), [32]byte{1}); return err },
		OpPoll:         func(f *FaultyTallier) error { _, err := f.Poll(t.Context(), [32]byte{1}, "tv", noon); return err },
		OpSwap: func(f *FaultyTallier) error {
			return f.Swap(t.Context(), &devicegrant.Grant{DeviceCode: [32]byte{1}})
		},
		OpPurge:       func(f *FaultyTallier) error { _, err := f.Purge(t.Context(), noon, 1); return err },
		OpTallies:     func(f *FaultyTallier) error { _, err := f.Tallies(t.Context(), []tallyKey{{1}}); return err },
		OpSwapTallies: func(f *FaultyTallier) error { return f.SwapTallies(t.Context(), []tallyKey{{1}}, []tally{{}}) },
	}
	for op, call := range calls {
		for _, lost := range []bool{false, true} {
			f := NewFaultyTallier(newReference())
			require.NoError(t, f.Create(t.Context(), &devicegrant.Grant{DeviceCode: [32]byte{1}, UserCode: [32]byte{1}, ExpiresAt: noon}))
			f.Inject(op, Fault{Err: broken, Lost: lost})
			assert.ErrorIs(t, call(f), broken, "%s, lost: %t", op, lost)
			assert.NotErrorIs(t, call(f), broken, "%s is over its fault", op)
			f.Inject(op, Fault{Times: Always})
			assert.ErrorIs(t, call(f), ErrInjected)
			f.Heal()
			assert.NotErrorIs(t, call(f), ErrInjected, "%s is healed", op)
		}
	}
}

// A write of a tally whose answer is lost has taken effect; one that fails has not.
func TestFaultyTallierWrites(t *testing.T) {
	for _, lost := range []bool{false, true} {
		f := NewFaultyTallier(newReference())
		f.Inject(OpSwapTallies, Fault{Lost: lost})
		require.ErrorIs(t, f.SwapTallies(t.Context(), []tallyKey{{1}}, []tally{{Guesses: 1}}), ErrInjected)
		tallies, err := f.Tallies(t.Context(), []tallyKey{{1}})
		require.NoError(t, err)
		assert.Equal(t, lost, tallies[0].Guesses == 1)
		f.Inject(OpTallies, Fault{})
		tallies, err = f.Tallies(t.Context(), []tallyKey{{1}})
		require.ErrorIs(t, err, ErrInjected)
		assert.Nil(t, tallies)
	}
}

// A Faulty hides that the Store which it wraps is more.
func TestFaultyIsAPlainStore(t *testing.T) {
	var store devicegrant.Store = NewFaulty(newReference())
	_, redeemer := store.(devicegrant.Redeemer)
	_, tallier := store.(devicegrant.Tallier)
	assert.Equal(t, []bool{false, false}, []bool{redeemer, tallier})
}

// A fault hides the whole answer, what was read included.
func TestFaultyHidesTheAnswer(t *testing.T) {
	f := NewFaulty(newReference())
	require.NoError(t, f.Create(t.Context(), &devicegrant.Grant{DeviceCode: [32]byte{1}, UserCode: [32]byte{1}, ClientID: "tv"}))
	f.Inject(OpPoll, Fault{Lost: true})
	p, err := f.Poll(t.Context(), [32]byte{1}, "tv", noon)
	require.ErrorIs(t, err, ErrInjected)
	assert.Zero(t, p)
	g, err := f.ByDeviceCode(t.Context(), [32]byte{1})
	require.NoError(t, err)
	assert.Equal(t, noon, g.Pace.Last, "the poll was recorded")
}

// A hook makes a race that happens every time: an approval comes between a
// denial's read and its write.
func TestFaultyHooks(t *testing.T) {
	store := newReference()
	f := NewFaulty(store)
	require.NoError(t, f.Create(t.Context(), &devicegrant.Grant{DeviceCode: [32]byte{1}, UserCode: [32]byte{1}}))
	g, err := f.ByDeviceCode(t.Context(), [32]byte{1})
	require.NoError(t, err)

	var order []string
	f.Before = func(op Op, n int) {
		order = append(order, "before "+string(op))
		approved := *g
		approved.State = devicegrant.Approved
		require.NoError(t, store.Swap(t.Context(), &approved))
		f.Inject(OpByUserCode, Fault{}) // Injecting from a hook does not deadlock.
	}
	f.After = func(op Op, n int) {
		order = append(order, "after "+string(op))
		assert.Equal(t, 1, n)
	}
	denied := *g
	denied.State = devicegrant.Denied
	require.ErrorIs(t, f.Swap(t.Context(), &denied), devicegrant.ErrConflict)
	assert.Equal(t, []string{"before Swap", "after Swap"}, order)
}

func TestFaultyConcurrently(t *testing.T) {
	const callers, calls, faults = 8, 100, 50
	f := NewFaulty(newReference())
	f.Inject(OpPurge, Fault{Skip: 20, Times: faults})
	var mu sync.Mutex
	failed := 0
	together(callers, func(int) {
		for range calls {
			_, err := f.Purge(context.Background(), time.Time{}, 1)
			mu.Lock()
			if err != nil {
				failed++
			}
			mu.Unlock()
		}
	})
	assert.Equal(t, faults, failed)
	assert.Equal(t, callers*calls, f.Calls(OpPurge))
}
