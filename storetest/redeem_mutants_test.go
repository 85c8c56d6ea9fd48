package storetest

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"time"

	"github.com/devicegrant/devicegrant"
)

// withRedeem replaces Redeem.
func withRedeem(redeem func(ctx context.Context, r *reference, g *grant, issue issueFunc) error) func(*reference) {
	return func(r *reference) { r.redeem = redeem }
}

// afterRedeem adds a fault to every Redeem that succeeds; before is the grant as it was.
func afterRedeem(fault func(r *reference, stored *grant, before, given grant)) func(*reference) {
	return withRedeem(func(ctx context.Context, r *reference, g *grant, issue issueFunc) error {
		given := *g
		before, _ := r.get(g.DeviceCode)
		err := redeemHeld(ctx, r, g, issue)
		if err == nil {
			r.edit(g.DeviceCode, func(stored *grant) { fault(r, stored, before, given) })
		}
		return err
	})
}

// withReceipt changes the receipt that issue returns.
func withReceipt(change func(receipt []byte) []byte) func(*reference) {
	return withRedeem(func(ctx context.Context, r *reference, g *grant, issue issueFunc) error {
		return redeemHeld(ctx, r, g, func(ctx context.Context) ([]byte, error) {
			receipt, err := issue(ctx)
			return change(receipt), err
		})
	})
}

// writeFirst has Redeem write before it issues, where everybody can see it, and undo
// that when issuing fails.
func writeFirst(undo bool) func(*reference) {
	return withRedeem(func(ctx context.Context, r *reference, g *grant, issue issueFunc) error {
		before, _ := r.get(g.DeviceCode)
		receipt, _ := readReceipt(r, &before)
		if err := r.commit(g, nil); err != nil {
			return err
		}
		made, err := issue(ctx)
		locked(r, func() any {
			switch {
			case err == nil:
				r.receipts[g.DeviceCode] = bytes.Clone(made)
			case undo:
				r.put(before)
				r.receipts[g.DeviceCode] = receipt
			}
			return nil
		})
		return err
	})
}

// waiting has calls wait for a Redeem that is going on; but for its end, nothing ends that.
func waiting(of func(r *reference, turn chan struct{})) func(*reference) {
	return func(r *reference) {
		turn := make(chan struct{}, 1)
		r.redeem = func(ctx context.Context, r *reference, g *grant, issue issueFunc) error {
			turn <- struct{}{}
			defer func() { <-turn }()
			return redeemHeld(ctx, r, g, issue)
		}
		of(r, turn)
	}
}

var redeemMutants = []mutant{
	{"Redeem forgets the subject", "writes what Swap writes, and nothing else", afterRedeem(func(_ *reference, stored *grant, _, _ grant) { stored.Subject = "" })},
	{"Redeem forgets the scope", "writes what Swap writes, and nothing else", afterRedeem(func(_ *reference, stored *grant, before, _ grant) { stored.Scope = before.Scope })},
	{"Redeem writes the resource", "writes what Swap writes, and nothing else", afterRedeem(func(_ *reference, stored *grant, _, given grant) { stored.Resource = given.Resource })},
	{"Redeem writes the key", "writes what Swap writes, and nothing else", afterRedeem(func(_ *reference, stored *grant, _, given grant) { stored.Key = given.Key })},
	{"Redeem writes the pace", "writes what Swap writes, and nothing else", afterRedeem(func(_ *reference, stored *grant, _, given grant) { stored.Pace = given.Pace })},
	{"Redeem forgets the session", "writes what Swap writes, and nothing else", afterRedeem(func(_ *reference, stored *grant, before, _ grant) { stored.Session = before.Session })},
	{"Redeem forgets the count", "writes what Swap writes, and nothing else", afterRedeem(func(_ *reference, stored *grant, before, _ grant) { stored.Entered = before.Entered })},
	{"Redeem writes the device", "writes what Swap writes, and nothing else", afterRedeem(func(_ *reference, stored *grant, _, given grant) { stored.Device = given.Device })},
	{"Redeem truncates the deadline", "writes what Swap writes, and nothing else", afterRedeem(func(_ *reference, stored *grant, _, _ grant) {
		stored.ExpiresAt = stored.ExpiresAt.Truncate(time.Second)
	})},
	{"Redeem does not raise the version", "writes what Swap writes, and nothing else", afterRedeem(func(_ *reference, stored *grant, before, _ grant) { stored.Version = before.Version })},
	{"Redeem does not free the user code", "writes what Swap writes, and nothing else", afterRedeem(func(r *reference, stored *grant, before, _ grant) {
		r.codes[before.UserCode] = stored.DeviceCode
	})},

	{"Redeem raises the caller's version too", "copies what it is given", withRedeem(func(ctx context.Context, r *reference, g *grant, issue issueFunc) error {
		err := redeemHeld(ctx, r, g, issue)
		if err == nil {
			g.Version++
		}
		return err
	})},
	{"Redeem keeps the slice of issue", "copies what it is given", withRedeem(func(ctx context.Context, r *reference, g *grant, issue issueFunc) error {
		var kept []byte
		err := redeemHeld(ctx, r, g, func(ctx context.Context) (receipt []byte, err error) {
			kept, err = issue(ctx)
			return kept, err
		})
		locked(r, func() any { r.receipts[g.DeviceCode] = kept; return nil })
		return err
	})},
	{"Receipt returns the stored slice", "copies what it is given", func(r *reference) {
		r.receipt = func(r *reference, g *grant) ([]byte, error) {
			if _, err := readReceipt(r, g); err != nil {
				return nil, err
			}
			return locked(r, func() []byte { return r.receipts[g.DeviceCode] }), nil
		}
	}},

	{"Redeem checks no version", "refuses a stale version", withRedeem(func(ctx context.Context, r *reference, g *grant, issue issueFunc) error {
		given := *g
		if stored, ok := r.get(g.DeviceCode); ok {
			given.Version = stored.Version
		}
		return redeemHeld(ctx, r, &given, issue)
	})},
	{"Redeem issues, and then compares", "refuses a stale version", withRedeem(issueFirst)},
	{"Redeem of what is not there is ErrNotFound", "refuses a grant that is not there", withRedeem(func(ctx context.Context, r *reference, g *grant, issue issueFunc) error {
		if _, ok := r.get(g.DeviceCode); !ok {
			return devicegrant.ErrNotFound
		}
		return redeemHeld(ctx, r, g, issue)
	})},
	{"Redeem creates what is not there", "refuses a grant that is not there", withRedeem(func(ctx context.Context, r *reference, g *grant, issue issueFunc) error {
		if _, ok := r.get(g.DeviceCode); !ok {
			r.lockedPut(*g)
		}
		return redeemHeld(ctx, r, g, issue)
	})},
	{"no receipt and no error for what is not there", "refuses a grant that is not there", func(r *reference) {
		r.receipt = func(r *reference, g *grant) ([]byte, error) {
			if _, ok := r.get(g.DeviceCode); !ok {
				return nil, nil
			}
			return readReceipt(r, g)
		}
	}},
	{"Purge leaves the receipt", "refuses a grant that is not there", func(r *reference) {
		r.purge = func(r *reference, before time.Time, limit int) (int, error) {
			left := locked(r, func() map[deviceCode][]byte {
				left := map[deviceCode][]byte{}
				for code, receipt := range r.receipts {
					left[code] = receipt
				}
				return left
			})
			n, err := purge(r, before, limit)
			locked(r, func() any { r.receipts = left; return nil })
			return n, err
		}
	}},

	{"a second Redeem waits", "refuses while another goes on", waiting(func(*reference, chan struct{}) {})},
	{"a second Redeem waits in its time", "refuses while another goes on", withRedeem(func(ctx context.Context, r *reference, g *grant, issue issueFunc) error {
		for locked(r, func() bool { return r.held[g.DeviceCode] }) && ctx.Err() == nil {
			time.Sleep(time.Millisecond)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		return redeemHeld(ctx, r, g, issue)
	})},
	{"a second Redeem issues, and then compares", "refuses while another goes on", withRedeem(func(ctx context.Context, r *reference, g *grant, issue issueFunc) error {
		if stored, ok := r.get(g.DeviceCode); !ok || stored.Version != g.Version {
			return devicegrant.ErrConflict
		}
		return issueFirst(ctx, r, g, issue)
	})},
	{"a second Redeem fails with another error", "refuses while another goes on", withRedeem(func(ctx context.Context, r *reference, g *grant, issue issueFunc) error {
		if locked(r, func() bool { return r.held[g.DeviceCode] }) {
			return ErrInjected
		}
		return redeemHeld(ctx, r, g, issue)
	})},

	{"Redeem issues again when that failed", "calls issue once, with the caller's context", withRedeem(func(ctx context.Context, r *reference, g *grant, issue issueFunc) error {
		return redeemHeld(ctx, r, g, func(ctx context.Context) ([]byte, error) {
			if receipt, err := issue(ctx); err == nil {
				return receipt, nil
			}
			return issue(ctx)
		})
	})},
	{"issue gets a context of its own", "calls issue once, with the caller's context", withRedeem(func(ctx context.Context, r *reference, g *grant, issue issueFunc) error {
		return redeemHeld(ctx, r, g, func(context.Context) ([]byte, error) { return issue(context.Background()) })
	})},
	{"the context of issue never ends", "calls issue once, with the caller's context", withRedeem(func(ctx context.Context, r *reference, g *grant, issue issueFunc) error {
		return redeemHeld(ctx, r, g, func(ctx context.Context) ([]byte, error) { return issue(context.WithoutCancel(ctx)) })
	})},

	{"Redeem writes before it issues", "writes nothing when issue fails", writeFirst(false)},
	{"the error of issue is lost", "writes nothing when issue fails", withRedeem(func(ctx context.Context, r *reference, g *grant, issue issueFunc) error {
		if err := redeemHeld(ctx, r, g, issue); err != nil {
			return errors.New(err.Error())
		}
		return nil
	})},
	{"the error of issue goes unnoticed", "writes nothing when issue fails", withRedeem(func(ctx context.Context, r *reference, g *grant, issue issueFunc) error {
		return redeemHeld(ctx, r, g, func(ctx context.Context) ([]byte, error) {
			receipt, _ := issue(ctx)
			return receipt, nil
		})
	})},
	{"a failed Redeem discards the receipt", "writes nothing when issue fails", withRedeem(func(ctx context.Context, r *reference, g *grant, issue issueFunc) error {
		err := redeemHeld(ctx, r, g, issue)
		if err != nil {
			locked(r, func() any { delete(r.receipts, g.DeviceCode); return nil })
		}
		return err
	})},
	{"a failed Redeem holds the grant for ever", "writes nothing when issue fails", withRedeem(func(ctx context.Context, r *reference, g *grant, issue issueFunc) error {
		err := redeemHeld(ctx, r, g, issue)
		if err != nil && !errors.Is(err, devicegrant.ErrConflict) {
			r.hold(g)
		}
		return err
	})},

	{"a panic holds the grant for ever", "writes nothing when issue panics", withRedeem(holdingUntilReturn)},
	{"a panic leaves what was written", "writes nothing when issue panics", writeFirst(true)},
	{"a panic is success", "writes nothing when issue panics", withRedeem(func(ctx context.Context, r *reference, g *grant, issue issueFunc) error {
		defer func() { _ = recover() }()
		return redeemHeld(ctx, r, g, issue)
	})},

	{"Receipt compares no version", "keeps the receipt", func(r *reference) {
		r.receipt = func(r *reference, g *grant) ([]byte, error) {
			given := *g
			if stored, ok := r.get(g.DeviceCode); ok {
				given.Version = stored.Version
			}
			return readReceipt(r, &given)
		}
	}},
	{"Receipt of another version is nil", "keeps the receipt", func(r *reference) {
		r.receipt = func(r *reference, g *grant) ([]byte, error) {
			receipt, _ := readReceipt(r, g)
			return receipt, nil
		}
	}},
	{"one receipt for all", "keeps the receipt", afterRedeem(func(r *reference, stored *grant, _, _ grant) {
		for code := range r.receipts {
			r.receipts[code] = r.receipts[stored.DeviceCode]
		}
	})},
	{"a poll discards the receipt", "keeps the receipt", func(r *reference) {
		r.poll = func(r *reference, code deviceCode, clientID string, now time.Time) (polled, error) {
			locked(r, func() any { delete(r.receipts, code); return nil })
			return poll(r, code, clientID, now)
		}
	}},
	{"a refused Swap discards the receipt", "keeps the receipt", func(r *reference) {
		r.swap = func(r *reference, g *grant) error {
			locked(r, func() any { delete(r.receipts, g.DeviceCode); return nil })
			return swap(r, g)
		}
	}},

	{"receipts of 255 bytes", "keeps receipts byte for byte", withReceipt(func(b []byte) []byte { return b[:min(len(b), 255)] })},
	{"receipts of 64 KiB less one", "keeps receipts byte for byte", withReceipt(func(b []byte) []byte { return b[:min(len(b), 65535)] })},
	{"receipts end at a NUL", "keeps receipts byte for byte", withReceipt(func(b []byte) []byte { b, _, _ = bytes.Cut(b, []byte{0}); return b })},
	{"receipts are text", "keeps receipts byte for byte", withReceipt(func(b []byte) []byte { return []byte(strings.ToValidUTF8(string(b), "?")) })},
	{"receipts are trimmed", "keeps receipts byte for byte", withReceipt(func(b []byte) []byte { return bytes.TrimRight(b, " ") })},

	{"Swap keeps the receipt", "Swap discards the receipt", func(r *reference) {
		r.swap = func(r *reference, g *grant) error {
			receipt, _ := readReceipt(r, g)
			err := swap(r, g)
			if err == nil {
				locked(r, func() any { r.receipts[g.DeviceCode] = receipt; return nil })
			}
			return err
		}
	}},
	{"only the Swap that ends the grant discards the receipt", "Swap discards the receipt", func(r *reference) {
		r.swap = func(r *reference, g *grant) error {
			receipt, _ := readReceipt(r, g)
			err := swap(r, g)
			if err == nil && g.State != devicegrant.Redeemed {
				locked(r, func() any { r.receipts[g.DeviceCode] = receipt; return nil })
			}
			return err
		}
	}},

	{"the first receipt stays", "a later Redeem replaces the receipt", keepingReceipt(func(first, _ []byte) bool { return len(first) > 0 })},
	{"no receipt leaves the one before", "a later Redeem replaces the receipt", keepingReceipt(func(_, second []byte) bool { return len(second) == 0 })},

	{"reads wait", "reads beside it see what was before, at once", waiting(func(r *reference, turn chan struct{}) {
		r.byUserCode = func(r *reference, code userCode) (*grant, error) {
			turn <- struct{}{}
			defer func() { <-turn }()
			return byUserCode(r, code)
		}
	})},
	{"reads see what is not committed", "reads beside it see what was before, at once", writeFirst(true)},
	{"Receipt waits", "reads beside it see what was before, at once", waiting(func(r *reference, turn chan struct{}) {
		r.receipt = func(r *reference, g *grant) ([]byte, error) {
			turn <- struct{}{}
			defer func() { <-turn }()
			return readReceipt(r, g)
		}
	})},

	{"polls wait, whatever their time", "a poll beside it is answered with what was before, or fails in its time", waiting(func(r *reference, turn chan struct{}) {
		r.poll = func(r *reference, code deviceCode, clientID string, now time.Time) (polled, error) {
			turn <- struct{}{}
			defer func() { <-turn }()
			return poll(r, code, clientID, now)
		}
	})},
	{"polls see what is not committed", "a poll beside it is answered with what was before, or fails in its time", writeFirst(true)},
	{"Redeem loses the polls beside it", "a poll beside it is answered with what was before, or fails in its time", afterRedeem(func(_ *reference, stored *grant, before, _ grant) { stored.Pace = before.Pace })},

	{"a cancelled Redeem says it succeeded", "cancelled: happens wholly or not at all", withRedeem(func(ctx context.Context, r *reference, g *grant, issue issueFunc) error {
		if err := redeemHeld(ctx, r, g, issue); !errors.Is(err, context.Canceled) {
			return err
		}
		return nil
	})},
	{"a cancelled Redeem leaves the claim without its receipt", "cancelled: happens wholly or not at all", withRedeem(func(ctx context.Context, r *reference, g *grant, issue issueFunc) error {
		err := redeemHeld(ctx, r, g, issue)
		if errors.Is(err, context.Canceled) {
			_ = r.commit(g, nil)
		}
		return err
	})},

	{"Redeem compares first and holds later", "of Redeems at once, one wins", withRedeem(func(ctx context.Context, r *reference, g *grant, issue issueFunc) error {
		stored, ok := r.get(g.DeviceCode)
		if !ok || stored.Version != g.Version {
			return devicegrant.ErrConflict
		}
		pause()
		receipt, err := issue(ctx)
		if err != nil {
			return err
		}
		return r.commit(g, receipt)
	})},
	{"Redeem writes over a Swap", "of Redeem and Swaps at once, one wins", withRedeem(func(ctx context.Context, r *reference, g *grant, issue issueFunc) error {
		given := *g
		if !r.hold(&given) {
			return devicegrant.ErrConflict
		}
		defer r.letGo(&given)
		receipt, err := issue(ctx)
		if err != nil {
			return err
		}
		pause()
		if stored, ok := r.get(g.DeviceCode); ok {
			given.Version = stored.Version
		}
		return r.commit(&given, receipt)
	})},
}

func issueFirst(ctx context.Context, r *reference, g *grant, issue issueFunc) error {
	receipt, err := issue(ctx)
	if err != nil {
		return err
	}
	return r.commit(g, receipt)
}

func holdingUntilReturn(ctx context.Context, r *reference, g *grant, issue issueFunc) error {
	if !r.hold(g) {
		return devicegrant.ErrConflict
	}
	receipt, err := issue(ctx)
	r.letGo(g)
	if err != nil {
		return err
	}
	return r.commit(g, receipt)
}

// keepingReceipt has the receipt before stay if keep says so.
func keepingReceipt(keep func(first, second []byte) bool) func(*reference) {
	return withRedeem(func(ctx context.Context, r *reference, g *grant, issue issueFunc) error {
		first, _ := readReceipt(r, g)
		var second []byte
		err := redeemHeld(ctx, r, g, func(ctx context.Context) (_ []byte, err error) {
			second, err = issue(ctx)
			return second, err
		})
		if err == nil && keep(first, second) {
			locked(r, func() any { r.receipts[g.DeviceCode] = first; return nil })
		}
		return err
	})
}
