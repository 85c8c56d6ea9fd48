package storetest

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/devicegrant/devicegrant"
)

// ErrInjected is what a [Fault] without an Err returns. It is none of the errors
// that a Store's contract names: it means that the Store could not answer.
var ErrInjected = errors.New("storetest: injected fault")

// Op names a method of devicegrant.Store or devicegrant.Tallier.
type Op string

// The methods of devicegrant.Store, and those of devicegrant.Tallier.
const (
	OpCreate       Op = "Create"
	OpByUserCode   Op = "ByUserCode"
	OpByDeviceCode Op = "ByDeviceCode"
	OpPoll         Op = "Poll"
	OpSwap         Op = "Swap"
	OpPurge        Op = "Purge"

	OpTallies     Op = "Tallies"
	OpSwapTallies Op = "SwapTallies"
)

// Always is for a Fault's Times: every call fails.
const Always = -1

// Fault says which calls of a method fail, and how. The zero Fault makes the next
// call fail with ErrInjected before it takes effect.
type Fault struct {
	// Skip is how many calls succeed first.
	Skip int
	// Times is how many calls then fail; zero means one, Always means all.
	Times int
	// Err is what they return; nil means ErrInjected.
	Err error
	// Lost makes the call take effect and then fail all the same, as when a
	// connection breaks before the answer arrives. What the Store answered, an
	// error included, is not seen.
	Lost bool
}

// Faulty is a devicegrant.Store that hands every call on to another and fails
// where it is told to. It is for tests of what a server does when its database
// does not answer, and for tests that need one call to happen in the middle of
// another. Make one with NewFaulty. It is safe for concurrent use, as long as
// Before and After are set first.
//
// It is no devicegrant.Counter, devicegrant.Lister or devicegrant.Redeemer, even if the
// Store that it wraps is: a server on it claims, issues and commits in steps. Nor is it a
// devicegrant.Tallier; FaultyTallier is.
type Faulty struct {
	// Before, if not nil, is called before each call takes effect, with the number
	// of that method's calls so far, this one included. It may make calls of its
	// own, inject faults that apply to the call at hand, and block.
	Before func(op Op, n int)
	// After, if not nil, is called when a call has taken effect or has failed,
	// before its caller has the answer.
	After func(op Op, n int)

	store devicegrant.Store

	mu     sync.Mutex
	calls  map[Op]int
	faults map[Op][]Fault
}

var _ devicegrant.Store = (*Faulty)(nil)

// NewFaulty returns a Faulty around store that does not fail yet.
func NewFaulty(store devicegrant.Store) *Faulty {
	return &Faulty{store: store, calls: map[Op]int{}, faults: map[Op][]Fault{}}
}

// Inject makes calls of op fail as the fault says, counting from the next call, or,
// when faults of op are waiting already, from the first after those.
func (f *Faulty) Inject(op Op, fault Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if fault.Times == 0 {
		fault.Times = 1
	}
	if fault.Err == nil {
		fault.Err = ErrInjected
	}
	f.faults[op] = append(f.faults[op], fault)
}

// Heal forgets every fault that was injected.
func (f *Faulty) Heal() {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.faults)
}

// Calls returns how many calls of op there were, those that failed included.
func (f *Faulty) Calls(op Op) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls[op]
}

// do makes one call: op, which may fail before it or after it.
func (f *Faulty) do(op Op, call func() error) error {
	n := f.begin(op)
	if f.Before != nil {
		f.Before(op, n)
	}
	if f.After != nil {
		defer f.After(op, n)
	}
	fault := f.next(op)
	if fault.Err == nil {
		return call()
	}
	if fault.Lost {
		_ = call() // The answer is lost, whatever it was.
	}
	return fault.Err
}

func (f *Faulty) begin(op Op) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls[op]++
	return f.calls[op]
}

// next returns the fault of the call at hand; its Err is nil if there is none.
func (f *Faulty) next(op Op) Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.faults[op]) == 0 {
		return Fault{}
	}
	fault := &f.faults[op][0]
	switch {
	case fault.Skip > 0:
		fault.Skip--
		return Fault{}
	case fault.Times > 1:
		fault.Times--
	case fault.Times == 1:
		defer func() { f.faults[op] = f.faults[op][1:] }()
	}
	return *fault
}

// Create implements devicegrant.Store.
func (f *Faulty) Create(ctx context.Context, g *devicegrant.Grant) error {
	return f.do(OpCreate, func() error { return f.store.Create(ctx, g) })
}

// ByUserCode implements devicegrant.Store.
func (f *Faulty) ByUserCode(ctx context.Context, code devicegrant.UserCodeDigest) (*devicegrant.Grant, error) {
	return answerOf(f, OpByUserCode, func() (*devicegrant.Grant, error) { return f.store.ByUserCode(ctx, code) })
}

// ByDeviceCode implements devicegrant.Store.
func (f *Faulty) ByDeviceCode(ctx context.Context, code devicegrant.DeviceCodeDigest) (*devicegrant.Grant, error) {
	return answerOf(f, OpByDeviceCode, func() (*devicegrant.Grant, error) { return f.store.ByDeviceCode(ctx, code) })
}

// Poll implements devicegrant.Store.
func (f *Faulty) Poll(ctx context.Context, code devicegrant.DeviceCodeDigest, clientID string, now time.Time) (devicegrant.Polled, error) {
	return answerOf(f, OpPoll, func() (devicegrant.Polled, error) { return f.store.Poll(ctx, code, clientID, now) })
}

// Swap implements devicegrant.Store.
func (f *Faulty) Swap(ctx context.Context, g *devicegrant.Grant) error {
	return f.do(OpSwap, func() error { return f.store.Swap(ctx, g) })
}

// Purge implements devicegrant.Store.
func (f *Faulty) Purge(ctx context.Context, before time.Time, limit int) (int, error) {
	return answerOf(f, OpPurge, func() (int, error) { return f.store.Purge(ctx, before, limit) })
}

// answerOf makes a call that returns more than an error. A call that is made to
// fail returns nothing else.
func answerOf[T any](f *Faulty, op Op, call func() (T, error)) (T, error) {
	var answer, none T
	var answerErr error
	err := f.do(op, func() error {
		answer, answerErr = call()
		return nil
	})
	if err != nil {
		return none, err
	}
	return answer, answerErr
}

// FaultyTallier is a Faulty that is a devicegrant.Tallier too. Make one with
// NewFaultyTallier.
type FaultyTallier struct {
	*Faulty
	tallier devicegrant.Tallier
}

var _ devicegrant.Tallier = (*FaultyTallier)(nil)

// NewFaultyTallier returns a FaultyTallier around a store that is a Tallier. It does not
// fail yet.
func NewFaultyTallier(store interface {
	devicegrant.Store
	devicegrant.Tallier
}) *FaultyTallier {
	return &FaultyTallier{NewFaulty(store), store}
}

// Tallies implements devicegrant.Tallier.
func (f *FaultyTallier) Tallies(ctx context.Context, keys []devicegrant.TallyKey) ([]devicegrant.Tally, error) {
	return answerOf(f.Faulty, OpTallies, func() ([]devicegrant.Tally, error) { return f.tallier.Tallies(ctx, keys) })
}

// SwapTallies implements devicegrant.Tallier.
func (f *FaultyTallier) SwapTallies(ctx context.Context, keys []devicegrant.TallyKey, tallies []devicegrant.Tally) error {
	return f.do(OpSwapTallies, func() error { return f.tallier.SwapTallies(ctx, keys, tallies) })
}
