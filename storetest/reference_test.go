package storetest

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/devicegrant/devicegrant"
)

type (
	grant      = devicegrant.Grant
	polled     = devicegrant.Polled
	deviceCode = devicegrant.DeviceCodeDigest
	userCode   = devicegrant.UserCodeDigest
	tally      = devicegrant.Tally
	tallyKey   = devicegrant.TallyKey
)

// reference is the plainest Store: one lock, and maps. Its steps are functions, so
// that a mutant can have one of them otherwise.
type reference struct {
	mu     sync.Mutex
	grants map[deviceCode]*grant
	codes  map[userCode]deviceCode

	receipts map[deviceCode][]byte
	held     map[deviceCode]bool // by a Redeem

	counted map[tallyKey]tally

	create       func(r *reference, g *grant) error
	byUserCode   func(r *reference, code userCode) (*grant, error)
	byDeviceCode func(r *reference, code deviceCode) (*grant, error)
	poll         func(r *reference, code deviceCode, clientID string, now time.Time) (polled, error)
	swap         func(r *reference, g *grant) error
	purge        func(r *reference, before time.Time, limit int) (int, error)
	redeem       func(ctx context.Context, r *reference, g *grant, issue issueFunc) error
	receipt      func(r *reference, g *grant) ([]byte, error)
	list         func(r *reference, q devicegrant.ListQuery) ([]*grant, error)
	tallies      func(r *reference, keys []tallyKey) ([]tally, error)
	swapTally    func(r *reference, key tallyKey, t tally) error
	swapTallies  func(r *reference, keys []tallyKey, tallies []tally) error
}

var (
	_ devicegrant.Lister   = (*reference)(nil)
	_ devicegrant.Redeemer = (*reference)(nil)
	_ devicegrant.Tallier  = (*reference)(nil)
)

func newReference() *reference {
	return &reference{
		grants: map[deviceCode]*grant{}, codes: map[userCode]deviceCode{}, receipts: map[deviceCode][]byte{}, held: map[deviceCode]bool{},
		counted: map[tallyKey]tally{},
		create:  create, byUserCode: byUserCode, byDeviceCode: byDeviceCode, poll: poll, swap: swap, purge: purge,
		redeem: redeemHeld, receipt: readReceipt, list: list, tallies: readTallies, swapTally: swapTally, swapTallies: swapTallies,
	}
}

// locked runs a step under the lock.
func locked[T any](r *reference, step func() T) T {
	r.mu.Lock()
	defer r.mu.Unlock()
	return step()
}

func (r *reference) Create(_ context.Context, g *grant) error { return r.create(r, g) }

func (r *reference) ByUserCode(_ context.Context, code userCode) (*grant, error) {
	return r.byUserCode(r, code)
}

func (r *reference) ByDeviceCode(_ context.Context, code deviceCode) (*grant, error) {
	return r.byDeviceCode(r, code)
}

func (r *reference) Poll(_ context.Context, code deviceCode, clientID string, now time.Time) (polled, error) {
	return r.poll(r, code, clientID, now)
}

func (r *reference) Swap(_ context.Context, g *grant) error { return r.swap(r, g) }

func (r *reference) Purge(_ context.Context, before time.Time, limit int) (int, error) {
	return r.purge(r, before, limit)
}

func (r *reference) Redeem(ctx context.Context, g *grant, issue func(context.Context) ([]byte, error)) error {
	return r.redeem(ctx, r, g, issue)
}

func (r *reference) Receipt(_ context.Context, g *grant) ([]byte, error) { return r.receipt(r, g) }

func (r *reference) List(_ context.Context, q devicegrant.ListQuery) ([]*grant, error) {
	return r.list(r, q)
}

func (r *reference) Tallies(_ context.Context, keys []tallyKey) ([]tally, error) {
	return r.tallies(r, keys)
}

func (r *reference) SwapTallies(_ context.Context, keys []tallyKey, tallies []tally) error {
	if len(keys) == 1 {
		return r.swapTally(r, keys[0], tallies[0])
	}
	return r.swapTallies(r, keys, tallies)
}

func create(r *reference, g *grant) error {
	return locked(r, func() error {
		if _, taken := r.codes[g.UserCode]; taken {
			return devicegrant.ErrUserCodeExists
		}
		if _, taken := r.grants[g.DeviceCode]; taken {
			return errors.New("device code is stored already")
		}
		kept := *g
		kept.Key = devicegrant.Key{}
		r.put(kept)
		return nil
	})
}

// put writes a grant, and the index, as they are given.
func (r *reference) put(g grant) {
	r.grants[g.DeviceCode] = &g
	if g.UserCode != noUserCode {
		r.codes[g.UserCode] = g.DeviceCode
	}
}

func byUserCode(r *reference, code userCode) (*grant, error) {
	return locked2(r, func() (*grant, error) {
		device, ok := r.codes[code]
		if !ok {
			return nil, devicegrant.ErrNotFound
		}
		g := *r.grants[device]
		return &g, nil
	})
}

func byDeviceCode(r *reference, code deviceCode) (*grant, error) {
	g, ok := r.get(code)
	if !ok {
		return nil, devicegrant.ErrNotFound
	}
	return &g, nil
}

// get returns a copy.
func (r *reference) get(code deviceCode) (grant, bool) {
	return locked2(r, func() (grant, bool) {
		if g, ok := r.grants[code]; ok {
			return *g, true
		}
		return grant{}, false
	})
}

func locked2[T, U any](r *reference, step func() (T, U)) (T, U) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return step()
}

func poll(r *reference, code deviceCode, clientID string, now time.Time) (polled, error) {
	return locked2(r, func() (polled, error) {
		g, ok := r.grants[code]
		if !ok {
			return polled{}, devicegrant.ErrNotFound
		}
		if g.ClientID == clientID {
			g.Pace = g.Pace.Next(now)
		}
		return polledOf(*g), nil
	})
}

func polledOf(g grant) polled {
	return polled{ID: g.ID, ClientID: g.ClientID, State: g.State, ExpiresAt: g.ExpiresAt, Pace: g.Pace}
}

func swap(r *reference, g *grant) error {
	return locked(r, func() error {
		stored, ok := r.grants[g.DeviceCode]
		if !ok || stored.Version != g.Version {
			return devicegrant.ErrConflict
		}
		r.write(stored, g)
		return nil
	})
}

// write is what a Swap does that is let in.
func (r *reference) write(stored, g *grant) {
	if stored.UserCode != g.UserCode {
		delete(r.codes, stored.UserCode)
	}
	stored.UserCode, stored.State, stored.Subject, stored.ExpiresAt = g.UserCode, g.State, g.Subject, g.ExpiresAt
	stored.Scope, stored.Session, stored.Entered = g.Scope, g.Session, g.Entered
	stored.Version++
	delete(r.receipts, stored.DeviceCode)
}

func list(r *reference, q devicegrant.ListQuery) ([]*grant, error) {
	found := r.find(func(g *grant) bool {
		return (g.State == devicegrant.Pending || g.State == devicegrant.Approved) && q.Now.Before(g.ExpiresAt) &&
			bytes.Compare(g.DeviceCode[:], q.After[:]) > 0 &&
			(q.ClientID == "" || g.ClientID == q.ClientID) && (q.Subject == "" || g.Subject == q.Subject)
	})
	slices.SortFunc(found, byDeviceCodes)
	return found[:min(len(found), q.Limit)], nil
}

// find returns copies of some grants, in any order.
func (r *reference) find(wanted func(*grant) bool) []*grant {
	return locked(r, func() (found []*grant) {
		for _, g := range r.grants {
			if wanted(g) {
				kept := *g
				found = append(found, &kept)
			}
		}
		return found
	})
}

func purge(r *reference, before time.Time, limit int) (int, error) {
	grants, err := r.deleteIf(limit, func(g *grant) bool { return g.ExpiresAt.Before(before) })
	return grants + r.deleteTallies(limit-grants, func(t tally) bool { return t.ExpiresAt.Before(before) }), err
}

func (r *reference) deleteTallies(limit int, over func(tally) bool) int {
	return locked(r, func() int {
		n := 0
		for key, t := range r.counted {
			if n < limit && over(t) {
				delete(r.counted, key)
				n++
			}
		}
		return n
	})
}

func (r *reference) deleteIf(limit int, over func(*grant) bool) (int, error) {
	return locked(r, func() int {
		n := 0
		for device, g := range r.grants {
			if n < limit && over(g) {
				delete(r.grants, device)
				delete(r.receipts, device)
				if g.UserCode != noUserCode {
					delete(r.codes, g.UserCode)
				}
				n++
			}
		}
		return n
	}), nil
}

func redeemHeld(ctx context.Context, r *reference, g *grant, issue issueFunc) error {
	given := *g
	if !r.hold(&given) {
		return devicegrant.ErrConflict
	}
	defer r.letGo(&given)
	receipt, err := issue(ctx)
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return err
	}
	return r.commit(&given, receipt)
}

// hold keeps other Redeems out.
func (r *reference) hold(g *grant) bool {
	return locked(r, func() bool {
		stored, ok := r.grants[g.DeviceCode]
		if !ok || stored.Version != g.Version || r.held[g.DeviceCode] {
			return false
		}
		r.held[g.DeviceCode] = true
		return true
	})
}

func (r *reference) letGo(g *grant) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.held, g.DeviceCode)
}

// commit is a Swap that leaves a receipt.
func (r *reference) commit(g *grant, receipt []byte) error {
	return locked(r, func() error {
		stored, ok := r.grants[g.DeviceCode]
		if !ok || stored.Version != g.Version {
			return devicegrant.ErrConflict
		}
		r.write(stored, g)
		if len(receipt) > 0 {
			r.receipts[g.DeviceCode] = bytes.Clone(receipt)
		}
		return nil
	})
}

func readReceipt(r *reference, g *grant) ([]byte, error) {
	return locked2(r, func() ([]byte, error) {
		stored, ok := r.grants[g.DeviceCode]
		if !ok || stored.Version != g.Version {
			return nil, devicegrant.ErrNotFound
		}
		return bytes.Clone(r.receipts[g.DeviceCode]), nil
	})
}

func readTallies(r *reference, keys []tallyKey) ([]tally, error) {
	return locked(r, func() []tally {
		tallies := make([]tally, len(keys))
		for i, key := range keys {
			tallies[i] = r.counted[key]
		}
		return tallies
	}), nil
}

func swapTallies(r *reference, keys []tallyKey, tallies []tally) error {
	return locked(r, func() error {
		for i, key := range keys {
			if r.counted[key].Version != tallies[i].Version {
				return devicegrant.ErrConflict
			}
		}
		for i, key := range keys {
			t := tallies[i]
			t.Version++
			r.counted[key] = t
		}
		return nil
	})
}

func swapTally(r *reference, key tallyKey, t tally) error {
	return locked(r, func() error {
		if r.counted[key].Version != t.Version {
			return devicegrant.ErrConflict
		}
		t.Version++
		r.counted[key] = t
		return nil
	})
}
