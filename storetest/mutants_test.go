package storetest

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"math"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/devicegrant/devicegrant"
	"github.com/devicegrant/devicegrant/memstore"
)

// mutant is a Store with one fault, and the clause that must catch it; others may
// as well.
type mutant struct {
	name, clause string
	mutate       func(r *reference)
}

func TestSoundStoresPass(t *testing.T) {
	t.Run("reference", func(t *testing.T) { Run(t, func(*testing.T) devicegrant.Store { return newReference() }) })
	t.Run("memstore", func(t *testing.T) { Run(t, func(*testing.T) devicegrant.Store { return memstore.New(0) }) })
	t.Run("Faulty, healed", func(t *testing.T) {
		Run(t, func(*testing.T) devicegrant.Store { return NewFaulty(newReference()) })
	})
	t.Run("FaultyTallier, healed", func(t *testing.T) {
		Run(t, func(*testing.T) devicegrant.Store { return NewFaultyTallier(newReference()) })
	})
}

func TestMutantsAreCaught(t *testing.T) {
	for _, m := range slices.Concat(createMutants, readMutants, swapMutants, pollMutants, paceMutants, purgeMutants, listMutants, tallyMutants) {
		t.Run(m.name, func(t *testing.T) {
			wantCaught(t, m.clause, func() devicegrant.Store {
				r := newReference()
				m.mutate(r)
				return r
			})
		})
	}
}

// Some of these mutants wait, or would have the suite wait, for what never comes.
func TestRedeemMutantsAreCaught(t *testing.T) {
	for _, m := range redeemMutants {
		t.Run(m.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				wantCaught(t, "Redeem/"+m.clause, func() devicegrant.Store {
					r := newReference()
					m.mutate(r)
					return r
				})
			})
		})
	}
}

func TestWrappedMutantsAreCaught(t *testing.T) {
	for _, m := range slices.Concat(wrappedMutants, wrappedTallyMutants) {
		t.Run(m.name, func(t *testing.T) {
			wantCaught(t, m.clause, func() devicegrant.Store { return m.wrap(memstore.New(0)) })
		})
	}
}

// wantCaught runs the clause on a faulty Store. That the recorder passes sound
// Stores is what makes a failure mean something.
func wantCaught(t *testing.T, clause string, open func() devicegrant.Store) {
	t.Helper()
	r := newRecorder(t, clause)
	run(r, func(tb) devicegrant.Store { return open() })
	require.NotEmpty(t, r.failures, "the clause %q", clause)
	t.Logf("caught by %s: %.300s", r.failures[0].clause, r.failures[0].message)
}

func TestRecorderPassesSoundStores(t *testing.T) {
	r := newRecorder(t, "")
	run(r, func(tb) devicegrant.Store { return newReference() })
	assert.Empty(t, r.failures)
}

// pause is where another call may come between. In a Store with this fault it is a
// round trip.
func pause() {
	for range 4 {
		runtime.Gosched()
	}
}

// createAs has Create store what change makes of the grant.
func createAs(change func(g *grant)) func(*reference) {
	return func(r *reference) {
		r.create = func(r *reference, g *grant) error {
			changed := *g
			change(&changed)
			return create(r, &changed)
		}
	}
}

func wall(t time.Time) time.Time {
	return time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), time.UTC)
}

var createMutants = []mutant{
	{"Create overwrites the grant with the same user code", "Create/refuses a user code that is in use", func(r *reference) {
		r.create = func(r *reference, g *grant) error { r.lockedPut(*g); return nil }
	}},
	{"Create takes the code of an expired grant", "Create/refuses a user code that is in use", func(r *reference) {
		r.create = func(r *reference, g *grant) error {
			if old, err := byUserCode(r, g.UserCode); err == nil && !g.CreatedAt.Before(old.ExpiresAt) {
				r.lockedPut(*g)
				return nil
			}
			return create(r, g)
		}
	}},
	{"Create looks first and inserts later", "Race/of Creates with one user code, one wins", func(r *reference) {
		r.create = func(r *reference, g *grant) error {
			if _, err := byUserCode(r, g.UserCode); err == nil {
				return devicegrant.ErrUserCodeExists
			}
			pause()
			r.lockedPut(*g)
			return nil
		}
	}},
	{"Create overwrites the grant with the same device code", "Create/refuses a device code that is stored already", func(r *reference) {
		r.create = func(r *reference, g *grant) error {
			if _, err := byUserCode(r, g.UserCode); err == nil {
				return devicegrant.ErrUserCodeExists
			}
			r.lockedPut(*g)
			return nil
		}
	}},
	{"Create keeps the pointer", "Create/copies what it is given", func(r *reference) {
		r.create = func(r *reference, g *grant) error {
			err := create(r, g)
			if err == nil {
				locked(r, func() any { r.grants[g.DeviceCode] = g; return nil })
			}
			return err
		}
	}},
	{"a refused Create leaves its grant", "Create/refuses a user code that is in use", func(r *reference) {
		r.create = func(r *reference, g *grant) error {
			err := create(r, g)
			if err != nil {
				locked(r, func() any { stored := *g; r.grants[g.DeviceCode] = &stored; return nil })
			}
			return err
		}
	}},
	{"ErrUserCodeExists is another error", "Create/refuses a user code that is in use", func(r *reference) {
		r.create = func(r *reference, g *grant) error {
			if create(r, g) != nil {
				return ErrInjected
			}
			return nil
		}
	}},
	{"Create keeps the key", "Create/keeps no key", func(r *reference) {
		r.create = func(r *reference, g *grant) error {
			err := create(r, g)
			if err == nil {
				r.edit(g.DeviceCode, func(stored *grant) { stored.Key = g.Key })
			}
			return err
		}
	}},
	{"Create forgets the resource", "Create/stores what was asked for byte for byte", createAs(func(g *grant) { g.Resource = "" })},
	{"Create forgets the hint", "Create/stores what was asked for byte for byte", createAs(func(g *grant) { g.TokenHint = "" })},
	{"details are written anew", "Create/stores what was asked for byte for byte", createAs(func(g *grant) {
		var compact bytes.Buffer
		if json.Compact(&compact, []byte(g.AuthorizationDetails)) == nil {
			g.AuthorizationDetails = compact.String()
		}
	})},
	{"details in 8 KiB", "Create/stores what was asked for byte for byte", createAs(func(g *grant) {
		g.AuthorizationDetails = g.AuthorizationDetails[:min(len(g.AuthorizationDetails), 8<<10)]
	})},
	{"resources in 1 KiB", "Create/stores what was asked for byte for byte", createAs(func(g *grant) { g.Resource = g.Resource[:min(len(g.Resource), 1<<10)] })},
	{"hints in 255 characters", "Create/stores what was asked for byte for byte", createAs(func(g *grant) {
		if r := []rune(g.TokenHint); len(r) > 255 {
			g.TokenHint = string(r[:255])
		}
	})},
	{"Create forgets the session", "Create/stores any state, session, version and pace", createAs(func(g *grant) { g.Session = devicegrant.SessionDigest{} })},
	{"a session that ends with zero is padded with spaces", "Create/stores any state, session, version and pace", createAs(func(g *grant) {
		if g.Session[0] == 's' {
			copy(g.Session[1:], strings.Repeat(" ", 31))
		}
	})},
	{"Create resets the count", "Create/stores any state, session, version and pace", createAs(func(g *grant) { g.Entered = 0 })},
	{"names of devices in 255 bytes", "Create/stores any device", createAs(func(g *grant) { g.Device.Name = g.Device.Name[:min(len(g.Device.Name), 255)] })},
	{"user agents in 255 bytes", "Create/stores any device", createAs(func(g *grant) {
		g.Device.UserAgent = g.Device.UserAgent[:min(len(g.Device.UserAgent), 255)]
	})},
	{"names of devices in Latin letters", "Create/stores any device", createAs(func(g *grant) {
		g.Device.Name = strings.Map(func(r rune) rune { return min(r, math.MaxUint8) }, g.Device.Name)
	})},
	{"IPv4 addresses only", "Create/stores any device", createAs(func(g *grant) {
		if !g.Device.Addr.Is4() {
			g.Device.Addr = netip.Addr{}
		}
	})},
	{"a mapped IPv4 address is unmapped", "Create/stores any device", createAs(func(g *grant) { g.Device.Addr = g.Device.Addr.Unmap() })},
	{"no address is the unspecified one", "Create/stores any device", createAs(func(g *grant) {
		if !g.Device.Addr.IsValid() {
			g.Device.Addr = netip.IPv4Unspecified()
		}
	})},
	{"Create forgets the pace", "Create/stores any state, session, version and pace", createAs(func(g *grant) { g.Pace = devicegrant.Pace{Interval: g.Pace.Interval} })},
	{"Create resets the version", "Create/stores any state, session, version and pace", createAs(func(g *grant) { g.Version = 0 })},
	{"times to the second", "Create/keeps times as instants, to the microsecond", createAs(func(g *grant) { g.ExpiresAt = g.ExpiresAt.Truncate(time.Second) })},
	{"times to the millisecond", "Create/keeps times as instants, to the microsecond", createAs(func(g *grant) { g.CreatedAt = g.CreatedAt.Truncate(time.Millisecond) })},
	{"times as a wall clock shows them", "Create/keeps times as instants, to the microsecond", createAs(func(g *grant) { g.CreatedAt = wall(g.CreatedAt) })},
	{"scope in 255 characters", "Create/stores every field", createAs(func(g *grant) { g.Scope = g.Scope[:min(len(g.Scope), 255)] })},
	{"padded text is trimmed", "Create/stores every field", createAs(func(g *grant) { g.Scope = strings.TrimRight(g.Scope, " ") })},
	{"text beyond the BMP is lost", "Create/stores every field", createAs(func(g *grant) {
		g.Subject = strings.Map(func(r rune) rune { return min(r, math.MaxUint16) }, g.Subject)
	})},
	{"user codes fold case", "Create/tells codes apart byte for byte", createAs(func(g *grant) {
		for i, b := range g.UserCode {
			if 'A' <= b && b <= 'Z' && g.UserCode[16] == 0 { // Only those of this clause are like text.
				g.UserCode[i] = b + 'a' - 'A'
			}
		}
	})},
	{"user codes are padded with spaces", "Create/tells codes apart byte for byte", func(r *reference) {
		trim := func(c userCode) userCode {
			if c[31] == ' ' {
				c[31] = 0
			}
			return c
		}
		r.create = func(r *reference, g *grant) error {
			given := *g
			given.UserCode = trim(g.UserCode)
			return create(r, &given)
		}
		r.byUserCode = func(r *reference, c userCode) (*grant, error) { return byUserCode(r, trim(c)) }
	}},
}

func (r *reference) lockedPut(g grant) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.put(g)
}

var readMutants = []mutant{
	{"ByDeviceCode returns the stored grant itself", "Read/returns copies", func(r *reference) {
		r.byDeviceCode = func(r *reference, code deviceCode) (*grant, error) {
			g, ok := locked2(r, func() (*grant, bool) { g, ok := r.grants[code]; return g, ok })
			if !ok {
				return nil, devicegrant.ErrNotFound
			}
			return g, nil
		}
	}},
	{"ByUserCode answers from a cache", "Read/sees every write at once", func(r *reference) {
		cache := map[userCode]*grant{}
		r.byUserCode = func(r *reference, code userCode) (*grant, error) {
			g, err := byUserCode(r, code)
			return locked2(r, func() (*grant, error) {
				if err == nil && cache[code] != nil {
					old := *cache[code]
					return &old, nil
				}
				if err == nil {
					old := *g
					cache[code] = &old
				}
				return g, err
			})
		}
	}},
	{"ByUserCode hides what has expired", "Read/finds grants in any state and past the deadline", func(r *reference) {
		r.byUserCode = func(r *reference, code userCode) (*grant, error) {
			g, err := byUserCode(r, code)
			if err == nil && g.ExpiresAt.Before(noon) {
				return nil, devicegrant.ErrNotFound
			}
			return g, err
		}
	}},
	{"ByUserCode finds only pending grants", "Read/finds grants in any state and past the deadline", func(r *reference) {
		r.byUserCode = func(r *reference, code userCode) (*grant, error) {
			g, err := byUserCode(r, code)
			if err == nil && g.State != devicegrant.Pending {
				return nil, devicegrant.ErrNotFound
			}
			return g, err
		}
	}},
	{"the zero user code finds a redeemed grant", "Read/the zero user code finds nothing", func(r *reference) {
		r.byUserCode = func(r *reference, code userCode) (*grant, error) {
			return locked2(r, func() (*grant, error) {
				for _, g := range r.grants {
					if g.UserCode == code {
						found := *g
						return &found, nil
					}
				}
				return nil, devicegrant.ErrNotFound
			})
		}
	}},
	{"nil and no error for what is not there", "Read/ErrNotFound for unknown codes", func(r *reference) {
		r.byDeviceCode = func(r *reference, code deviceCode) (*grant, error) {
			if g, ok := r.get(code); ok {
				return &g, nil
			}
			return nil, nil
		}
	}},
}

var swapMutants = []mutant{
	{"Swap checks no version", "Swap/refuses a stale version", func(r *reference) {
		r.swap = func(r *reference, g *grant) error {
			return locked(r, func() error {
				stored, ok := r.grants[g.DeviceCode]
				if !ok {
					return devicegrant.ErrConflict
				}
				r.write(stored, g)
				return nil
			})
		}
	}},
	{"Swap checks the version and does not raise it", "Swap/adds one to Version each time", func(r *reference) {
		r.swap = func(r *reference, g *grant) error {
			err := swap(r, g)
			if err == nil {
				r.edit(g.DeviceCode, func(g *grant) { g.Version-- })
			}
			return err
		}
	}},
	{"Swap refuses only older versions", "Swap/refuses a stale version", func(r *reference) {
		r.swap = func(r *reference, g *grant) error {
			given := *g
			if stored, ok := r.get(g.DeviceCode); ok && stored.Version < g.Version {
				given.Version = stored.Version
			}
			return swap(r, &given)
		}
	}},
	{"Swap compares first and writes later", "Race/of Swaps of one version, one wins", swapLater},
	{"Swap compares first and writes later, again and again", "Race/each version is written once", swapLater},
	{"Swap ignores the row count", "Swap/refuses a stale version", func(r *reference) {
		r.swap = func(r *reference, g *grant) error { _ = swap(r, g); return nil }
	}},
	{"Swap compares states and not versions", "Swap/lets one of two readers write, whatever the arrow", func(r *reference) {
		read := map[deviceCode]devicegrant.State{}
		r.byDeviceCode = func(r *reference, code deviceCode) (*grant, error) {
			g, err := byDeviceCode(r, code)
			if err == nil {
				locked(r, func() any { read[code] = g.State; return nil })
			}
			return g, err
		}
		r.swap = func(r *reference, g *grant) error {
			return locked(r, func() error {
				stored, ok := r.grants[g.DeviceCode]
				if !ok || stored.State != read[g.DeviceCode] {
					return devicegrant.ErrConflict
				}
				r.write(stored, g)
				return nil
			})
		}
	}},
	{"Swap creates what is not there", "Swap/refuses a grant that is not there", func(r *reference) {
		r.swap = func(r *reference, g *grant) error {
			if _, ok := r.get(g.DeviceCode); !ok {
				r.lockedPut(*g)
				return nil
			}
			return swap(r, g)
		}
	}},
	{"Swap of what is not there is ErrNotFound", "Swap/refuses a grant that is not there", func(r *reference) {
		r.swap = func(r *reference, g *grant) error {
			if _, ok := r.get(g.DeviceCode); !ok {
				return devicegrant.ErrNotFound
			}
			return swap(r, g)
		}
	}},
	{"Swap writes the pace", "Poll/never makes a Swap conflict", afterSwap(func(stored, given *grant) { stored.Pace = given.Pace })},
	{"Swap forgets the scope", "Swap/writes UserCode, Scope, State, Subject, Session, Entered and ExpiresAt, and nothing else", func(r *reference) {
		r.swap = func(r *reference, g *grant) error {
			given := *g
			if before, ok := r.get(g.DeviceCode); ok {
				given.Scope = before.Scope
			}
			return swap(r, &given)
		}
	}},
	{"scopes never get longer again", "Swap/stores any text, session, count and time", func(r *reference) {
		r.swap = func(r *reference, g *grant) error {
			given := *g
			if before, ok := r.get(g.DeviceCode); ok && len(g.Scope) > len(before.Scope) {
				given.Scope = before.Scope
			}
			return swap(r, &given)
		}
	}},
	{"a refused Swap writes the scope", "Swap/refuses a stale version", func(r *reference) {
		r.swap = func(r *reference, g *grant) error {
			r.edit(g.DeviceCode, func(stored *grant) { stored.Scope = g.Scope })
			return swap(r, g)
		}
	}},
	{"Swap writes the resource", "Swap/writes UserCode, Scope, State, Subject, Session, Entered and ExpiresAt, and nothing else", afterSwap(func(stored, given *grant) { stored.Resource = given.Resource })},
	{"Swap writes the details", "Swap/writes UserCode, Scope, State, Subject, Session, Entered and ExpiresAt, and nothing else", afterSwap(func(stored, given *grant) { stored.AuthorizationDetails = given.AuthorizationDetails })},
	{"Swap writes the hint", "Swap/writes UserCode, Scope, State, Subject, Session, Entered and ExpiresAt, and nothing else", afterSwap(func(stored, given *grant) { stored.TokenHint = given.TokenHint })},
	{"Swap writes the key", "Swap/writes UserCode, Scope, State, Subject, Session, Entered and ExpiresAt, and nothing else", afterSwap(func(stored, given *grant) { stored.Key = given.Key })},
	{"Swap writes the device", "Swap/writes UserCode, Scope, State, Subject, Session, Entered and ExpiresAt, and nothing else", afterSwap(func(stored, given *grant) { stored.Device = given.Device })},
	{"Swap writes the address of the device", "Model/answers random calls as the contract says", afterSwap(func(stored, given *grant) { stored.Device.Addr = given.Device.Addr })},
	{"Swap forgets the session", "Swap/writes UserCode, Scope, State, Subject, Session, Entered and ExpiresAt, and nothing else", afterSwap(func(stored, _ *grant) { stored.Session = devicegrant.SessionDigest{} })},
	{"Swap forgets the count", "Swap/writes UserCode, Scope, State, Subject, Session, Entered and ExpiresAt, and nothing else", afterSwap(func(stored, _ *grant) { stored.Entered = 0 })},
	{"a session that is there stays", "Swap/stores any text, session, count and time", keepingSession},
	{"the count is never lowered", "Swap/stores any text, session, count and time", func(r *reference) {
		r.swap = func(r *reference, g *grant) error {
			given := *g
			if before, ok := r.get(g.DeviceCode); ok {
				given.Entered = max(given.Entered, before.Entered)
			}
			return swap(r, &given)
		}
	}},
	{"a refused Swap writes the session", "Swap/refuses a stale version", func(r *reference) {
		r.swap = func(r *reference, g *grant) error {
			r.edit(g.DeviceCode, func(stored *grant) { stored.Session = g.Session })
			return swap(r, g)
		}
	}},
	{"a refused Swap counts", "Swap/refuses a stale version", func(r *reference) {
		r.swap = func(r *reference, g *grant) error {
			r.edit(g.DeviceCode, func(stored *grant) { stored.Entered = g.Entered })
			return swap(r, g)
		}
	}},
	{"Swap forgets the subject", "Swap/writes UserCode, Scope, State, Subject, Session, Entered and ExpiresAt, and nothing else", afterSwap(func(stored, _ *grant) { stored.Subject = "" })},
	{"Swap truncates the deadline", "Swap/stores any text, session, count and time", afterSwap(func(stored, _ *grant) { stored.ExpiresAt = stored.ExpiresAt.Truncate(time.Second) })},
	{"Swap raises the caller's version too", "Swap/copies what it is given", func(r *reference) {
		r.swap = func(r *reference, g *grant) error {
			err := swap(r, g)
			if err == nil {
				g.Version++
			}
			return err
		}
	}},
	{"Swap loses the user code's index", "Swap/adds one to Version each time", func(r *reference) {
		r.swap = func(r *reference, g *grant) error {
			err := swap(r, g)
			if err == nil {
				locked(r, func() any { delete(r.codes, g.UserCode); return nil })
			}
			return err
		}
	}},
	{"Swap does not free the user code", "Create/takes a user code that Swap has freed", func(r *reference) {
		r.swap = func(r *reference, g *grant) error {
			before, _ := r.get(g.DeviceCode)
			err := swap(r, g)
			if err == nil && before.UserCode != g.UserCode {
				locked(r, func() any { r.codes[before.UserCode] = g.DeviceCode; return nil })
			}
			return err
		}
	}},
	{"a refused Swap frees the user code", "Swap/refuses a stale version that would free the code", func(r *reference) {
		r.swap = func(r *reference, g *grant) error {
			before, _ := r.get(g.DeviceCode)
			if g.UserCode == noUserCode {
				locked(r, func() any { delete(r.codes, before.UserCode); return nil })
			}
			return swap(r, g)
		}
	}},
}

func keepingSession(r *reference) {
	r.swap = func(r *reference, g *grant) error {
		given := *g
		if before, ok := r.get(g.DeviceCode); ok && before.Session != (devicegrant.SessionDigest{}) {
			given.Session = before.Session
		}
		return swap(r, &given)
	}
}

func swapLater(r *reference) {
	r.swap = func(r *reference, g *grant) error {
		stored, ok := r.get(g.DeviceCode)
		if !ok || stored.Version != g.Version {
			return devicegrant.ErrConflict
		}
		pause()
		r.edit(g.DeviceCode, func(stored *grant) { r.write(stored, g) })
		return nil
	}
}

// edit changes a stored grant, if it is there.
func (r *reference) edit(code deviceCode, change func(*grant)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if g, ok := r.grants[code]; ok {
		change(g)
	}
}

// afterSwap adds a fault to every Swap that is let in.
func afterSwap(fault func(stored, given *grant)) func(*reference) {
	return func(r *reference) {
		r.swap = func(r *reference, g *grant) error {
			err := swap(r, g)
			if err == nil {
				r.edit(g.DeviceCode, func(stored *grant) { fault(stored, g) })
			}
			return err
		}
	}
}

// afterPoll adds a fault to every Poll; before is the grant as it was.
func afterPoll(fault func(stored *grant, before grant, answer *polled)) func(*reference) {
	return func(r *reference) {
		r.poll = func(r *reference, code deviceCode, clientID string, now time.Time) (polled, error) {
			before, _ := r.get(code)
			answer, err := poll(r, code, clientID, now)
			r.edit(code, func(stored *grant) { fault(stored, before, &answer) })
			return answer, err
		}
	}
}

// pollUnless has Poll fail for some grants.
func pollUnless(refused func(g grant, clientID string, now time.Time) bool) func(*reference) {
	return func(r *reference) {
		r.poll = func(r *reference, code deviceCode, clientID string, now time.Time) (polled, error) {
			if g, ok := r.get(code); ok && refused(g, clientID, now) {
				return polled{}, devicegrant.ErrNotFound
			}
			return poll(r, code, clientID, now)
		}
	}
}

// pollInSteps has Poll read, compute, and write later, as write does.
func pollInSteps(write func(stored *grant, read grant)) func(*reference) {
	return func(r *reference) {
		r.poll = func(r *reference, code deviceCode, clientID string, now time.Time) (polled, error) {
			g, ok := r.get(code)
			if !ok {
				return polled{}, devicegrant.ErrNotFound
			}
			if g.ClientID == clientID {
				g.Pace = g.Pace.Next(now)
			}
			pause()
			r.edit(code, func(stored *grant) { write(stored, g) })
			return polledOf(g), nil
		}
	}
}

var pollMutants = []mutant{
	{"Poll writes back the grant that the poll before it read", "Poll/sees a Swap at once", func(r *reference) {
		read := map[deviceCode]grant{}
		r.poll = func(r *reference, code deviceCode, clientID string, now time.Time) (polled, error) {
			locked(r, func() any {
				if old, ok := read[code]; ok && r.grants[code] != nil {
					old.Pace = r.grants[code].Pace
					r.put(old)
				}
				return nil
			})
			answer, err := poll(r, code, clientID, now)
			r.edit(code, func(g *grant) { read[code] = *g })
			return answer, err
		}
	}},
	{"Poll reads the whole grant and writes it all back", "Race/polls never undo, delay or refuse a Swap", pollInSteps(func(stored *grant, read grant) { *stored = read })},
	{"Poll reads the pace, computes, and writes it later", "Race/polls at once are recorded one after the other", pollInSteps(func(stored *grant, read grant) { stored.Pace = read.Pace })},
	{"Poll extends the life", "Poll/never extends a grant's life", afterPoll(func(stored *grant, _ grant, _ *polled) {
		stored.ExpiresAt = stored.ExpiresAt.Add(stored.Pace.Interval)
	})},
	{"Poll raises Version", "Poll/never makes a Swap conflict", afterPoll(func(stored *grant, _ grant, _ *polled) { stored.Version++ })},
	{"Poll answers the pace from before", "Pace/the first poll is on time", afterPoll(func(_ *grant, before grant, answer *polled) { answer.Pace = before.Pace })},
	{"Poll computes the pace and does not keep it", "Read/sees every write at once", afterPoll(func(stored *grant, before grant, _ *polled) { stored.Pace = before.Pace })},
	{"Poll answers no state", "Poll/returns the grant in any state and past the deadline", afterPoll(func(_ *grant, _ grant, answer *polled) { answer.State = 0 })},
	{"Poll records whoever polls", "Poll/by another client is answered and not recorded", func(r *reference) {
		r.poll = func(r *reference, code deviceCode, _ string, now time.Time) (polled, error) {
			return poll(r, code, "tv", now)
		}
	}},
	{"Poll compares clients without case", "Poll/by another client is answered and not recorded", func(r *reference) {
		r.poll = func(r *reference, code deviceCode, clientID string, now time.Time) (polled, error) {
			return poll(r, code, strings.ToLower(clientID), now)
		}
	}},
	{"Poll compares clients without spaces at the end", "Poll/by another client is answered and not recorded", func(r *reference) {
		r.poll = func(r *reference, code deviceCode, clientID string, now time.Time) (polled, error) {
			return poll(r, code, strings.TrimRight(clientID, " "), now)
		}
	}},
	{"Poll does not find the grant for another client", "Poll/by another client is answered and not recorded", pollUnless(func(g grant, clientID string, _ time.Time) bool { return g.ClientID != clientID })},
	{"Poll finds only pending grants", "Poll/returns the grant in any state and past the deadline", pollUnless(func(g grant, _ string, _ time.Time) bool { return g.State != devicegrant.Pending })},
	{"Poll does not find expired grants", "Poll/returns the grant in any state and past the deadline", pollUnless(func(g grant, _ string, now time.Time) bool { return !now.Before(g.ExpiresAt) })},
	{"Poll of an unknown code leaves a pace behind", "Poll/ErrNotFound for an unknown device code", func(r *reference) {
		left := map[deviceCode]devicegrant.Pace{}
		r.create = func(r *reference, g *grant) error {
			given := *g
			if pace, ok := left[g.DeviceCode]; ok {
				given.Pace.OnTime, given.Pace.Last = pace.OnTime, pace.Last
			}
			return create(r, &given)
		}
		r.poll = func(r *reference, code deviceCode, clientID string, now time.Time) (polled, error) {
			answer, err := poll(r, code, clientID, now)
			if err != nil {
				left[code] = devicegrant.Pace{}.Next(now)
			}
			return answer, err
		}
	}},
	{"one pace for all", "Poll/of one grant leaves others alone", func(r *reference) {
		r.poll = func(r *reference, code deviceCode, clientID string, now time.Time) (polled, error) {
			answer, err := poll(r, code, clientID, now)
			if err == nil {
				locked(r, func() any {
					for _, g := range r.grants {
						g.Pace.Last, g.Pace.OnTime = answer.Pace.Last, answer.Pace.OnTime
					}
					return nil
				})
			}
			return answer, err
		}
	}},
}

// paceAs has Poll compute another rule than Pace.Next.
func paceAs(next func(p devicegrant.Pace, now time.Time) devicegrant.Pace) func(*reference) {
	return func(r *reference) {
		r.poll = func(r *reference, code deviceCode, clientID string, now time.Time) (polled, error) {
			return locked2(r, func() (polled, error) {
				g, ok := r.grants[code]
				if !ok {
					return polled{}, devicegrant.ErrNotFound
				}
				if g.ClientID == clientID {
					g.Pace = next(g.Pace, now)
				}
				return polledOf(*g), nil
			})
		}
	}
}

// early is what Pace.Next does with an early poll, below the cap.
func early(p devicegrant.Pace, now time.Time) devicegrant.Pace {
	p.Interval, p.Last, p.Repeated = p.Interval+devicegrant.SlowDownStep, now, false
	return p
}

var paceMutants = []mutant{
	{"a poll exactly at the boundary is early", "Pace/is Pace.Next at every boundary", paceAs(func(p devicegrant.Pace, now time.Time) devicegrant.Pace {
		if !p.Last.IsZero() && now.Sub(p.OnTime) == p.Interval-min(p.Interval/5, time.Second) && now.Sub(p.Last) >= 250*time.Millisecond {
			p.Interval, p.Last = max(p.Interval, min(p.Interval+devicegrant.SlowDownStep, devicegrant.MaxInterval)), now
			return p
		}
		return p.Next(now)
	})},
	{"no leeway", "Pace/is Pace.Next at every boundary", paceAs(func(p devicegrant.Pace, now time.Time) devicegrant.Pace {
		next := p.Next(now)
		if gap := now.Sub(p.OnTime); !p.Last.IsZero() && !next.Early() && next.Last.Equal(now) && gap > 0 && gap < p.Interval && now.After(p.Last) {
			return early(p, now)
		}
		return next
	})},
	{"an early poll moves OnTime", "Pace/is Pace.Next on random sequences", paceAs(func(p devicegrant.Pace, now time.Time) devicegrant.Pace {
		next := p.Next(now)
		next.OnTime = next.Last
		return next
	})},
	{"a poll on time shrinks the interval", "Pace/is Pace.Next on random sequences", paceAs(func(p devicegrant.Pace, now time.Time) devicegrant.Pace {
		next := p.Next(now)
		if !next.Early() && next.Interval > 5*time.Second {
			next.Interval = 5 * time.Second
		}
		return next
	})},
	{"the interval grows for ever", "Pace/is Pace.Next on random sequences", paceAs(func(p devicegrant.Pace, now time.Time) devicegrant.Pace {
		if next := p.Next(now); next.Early() && !next.Last.Equal(p.Last) {
			return early(p, now)
		}
		return p.Next(now)
	})},
	{"the cap shortens a longer interval", "Pace/is Pace.Next at every boundary", paceAs(func(p devicegrant.Pace, now time.Time) devicegrant.Pace {
		next := p.Next(now)
		next.Interval = min(next.Interval, devicegrant.MaxInterval)
		return next
	})},
	{"two requests at once are two polls", "Pace/is Pace.Next at every boundary", paceAs(func(p devicegrant.Pace, now time.Time) devicegrant.Pace {
		if gap := now.Sub(p.Last); gap > 0 && gap < 100*time.Millisecond {
			return early(p, now)
		}
		return p.Next(now)
	})},
	{"a poll may be repeated for ever", "Pace/is Pace.Next at every boundary", paceAs(func(p devicegrant.Pace, now time.Time) devicegrant.Pace {
		p.Repeated = false
		return p.Next(now)
	})},
	{"a clock that steps back makes polls early", "Pace/is Pace.Next at every boundary", paceAs(func(p devicegrant.Pace, now time.Time) devicegrant.Pace {
		if p.Last.Sub(now) >= 250*time.Millisecond {
			return early(p, now)
		}
		return p.Next(now)
	})},
	{"polls to the millisecond", "Pace/is Pace.Next at every boundary", paceAs(func(p devicegrant.Pace, now time.Time) devicegrant.Pace {
		return p.Next(now.Truncate(time.Millisecond))
	})},
	{"polls as a wall clock shows them", "Pace/is Pace.Next for polls in any time zone", paceAs(func(p devicegrant.Pace, now time.Time) devicegrant.Pace { return p.Next(wall(now)) })},
	{"OnTime loses nanoseconds and Last does not", "Pace/is not upset by nanoseconds", paceAs(func(p devicegrant.Pace, now time.Time) devicegrant.Pace {
		next := p.Next(now)
		next.OnTime = next.OnTime.Truncate(time.Microsecond)
		return next
	})},
}

var purgeMutants = []mutant{
	{"Purge takes live grants", "Purge/deletes what expired strictly before", func(r *reference) {
		r.purge = func(r *reference, _ time.Time, limit int) (int, error) {
			return r.deleteIf(limit, func(*grant) bool { return true })
		}
	}},
	{"Purge takes finished grants before their time", "Purge/deletes by the deadline alone, in any state", func(r *reference) {
		r.purge = func(r *reference, before time.Time, limit int) (int, error) {
			return r.deleteIf(limit, func(g *grant) bool { return g.ExpiresAt.Before(before) || g.State == devicegrant.Redeemed })
		}
	}},
	{"Purge spares pending grants", "Purge/deletes by the deadline alone, in any state", func(r *reference) {
		r.purge = func(r *reference, before time.Time, limit int) (int, error) {
			return r.deleteIf(limit, func(g *grant) bool { return g.ExpiresAt.Before(before) && g.State != devicegrant.Pending })
		}
	}},
	{"Purge takes what expires at the very instant", "Purge/deletes what expired strictly before", func(r *reference) {
		r.purge = func(r *reference, before time.Time, limit int) (int, error) {
			return r.deleteIf(limit, func(g *grant) bool { return !g.ExpiresAt.After(before) })
		}
	}},
	{"Purge goes by the deadline of Create", "Purge/goes by the deadline that Swap wrote last", func(r *reference) {
		deadlines := map[deviceCode]time.Time{}
		r.create = func(r *reference, g *grant) error {
			locked(r, func() any { deadlines[g.DeviceCode] = g.ExpiresAt; return nil })
			return create(r, g)
		}
		r.purge = func(r *reference, before time.Time, limit int) (int, error) {
			return r.deleteIf(limit, func(g *grant) bool { return deadlines[g.DeviceCode].Before(before) })
		}
	}},
	{"Purge ignores the limit", "Purge/deletes up to limit, and fewer only when none is left", func(r *reference) {
		r.purge = func(r *reference, before time.Time, _ int) (int, error) { return purge(r, before, math.MaxInt) }
	}},
	{"Purge stops one short of the limit", "Purge/deletes up to limit, and fewer only when none is left", func(r *reference) {
		r.purge = func(r *reference, before time.Time, limit int) (int, error) { return purge(r, before, max(1, limit-1)) }
	}},
	{"Purge says it deleted as many as it might", "Purge/deletes up to limit, and fewer only when none is left", func(r *reference) {
		r.purge = func(r *reference, before time.Time, limit int) (int, error) {
			_, err := purge(r, before, limit)
			return limit, err
		}
	}},
	{"Purge keeps the user code", "Purge/frees both codes", func(r *reference) {
		r.purge = func(r *reference, before time.Time, limit int) (int, error) {
			codes := locked(r, func() map[userCode]deviceCode { return maps.Clone(r.codes) })
			n, err := purge(r, before, limit)
			locked(r, func() any { r.codes = codes; return nil })
			return n, err
		}
		r.byUserCode = func(r *reference, code userCode) (*grant, error) {
			return byDeviceCode(r, locked(r, func() deviceCode { return r.codes[code] }))
		}
	}},
	{"Purge frees a code that has a new owner", "Create/takes a user code that Swap has freed", func(r *reference) {
		first := map[deviceCode]userCode{}
		r.create = func(r *reference, g *grant) error {
			locked(r, func() any { first[g.DeviceCode] = g.UserCode; return nil })
			return create(r, g)
		}
		r.purge = func(r *reference, before time.Time, limit int) (int, error) {
			return r.deleteIf(limit, func(g *grant) bool {
				over := g.ExpiresAt.Before(before)
				if over {
					delete(r.codes, first[g.DeviceCode])
				}
				return over
			})
		}
	}},
	{"Purge leaves the pace behind", "Create/takes a user code that Purge has freed", func(r *reference) {
		paces := map[deviceCode]devicegrant.Pace{}
		r.poll = func(r *reference, code deviceCode, clientID string, now time.Time) (polled, error) {
			answer, err := poll(r, code, clientID, now)
			locked(r, func() any { paces[code] = answer.Pace; return nil })
			return answer, err
		}
		r.create = func(r *reference, g *grant) error {
			given := *g
			if pace, ok := locked2(r, func() (devicegrant.Pace, bool) { p, ok := paces[g.DeviceCode]; return p, ok }); ok {
				given.Pace = pace
			}
			return create(r, &given)
		}
	}},
	{"Purge selects first and deletes later", "Race/of Swap and Purge, one wins", func(r *reference) {
		r.purge = func(r *reference, before time.Time, limit int) (int, error) {
			selected := r.expired(before, limit)
			pause()
			return r.deleteIf(limit, func(g *grant) bool { return slices.Contains(selected, g.DeviceCode) })
		}
	}},
	{"Purge counts what it selected", "Race/Purges at once count each grant once", func(r *reference) {
		r.purge = func(r *reference, before time.Time, limit int) (int, error) {
			selected := r.expired(before, limit)
			pause()
			_, err := r.deleteIf(limit, func(g *grant) bool { return slices.Contains(selected, g.DeviceCode) && g.ExpiresAt.Before(before) })
			return len(selected), err
		}
	}},
}

// expired returns up to limit grants to purge, the same for whoever asks.
func (r *reference) expired(before time.Time, limit int) []deviceCode {
	return locked(r, func() []deviceCode {
		var codes []deviceCode
		for device, g := range r.grants {
			if g.ExpiresAt.Before(before) {
				codes = append(codes, device)
			}
		}
		slices.SortFunc(codes, func(a, b deviceCode) int { return strings.Compare(string(a[:]), string(b[:])) })
		return codes[:min(limit, len(codes))]
	})
}

// wrappedMutant is a fault of the kind that a layer around a sound Store adds.
type wrappedMutant struct {
	name, clause string
	wrap         func(*memstore.Store) devicegrant.Store
}

var wrappedMutants = []wrappedMutant{
	{"conflicts go unnoticed", "Swap/refuses a stale version", func(s *memstore.Store) devicegrant.Store { return unnoticed{s} }},
	{"a retry after conflict writes over", "Swap/lets one of two readers write, whatever the arrow", func(s *memstore.Store) devicegrant.Store { return retrying{s} }},
	{"a cancelled call says it succeeded", "Context/cancelled: Swap writes wholly or not at all", func(s *memstore.Store) devicegrant.Store { return heedless{s} }},
	{"a cancelled Purge deletes half its batch", "Context/cancelled: Purge deletes its batch or nothing", func(s *memstore.Store) devicegrant.Store { return halfPurge{s} }},
	{"a cancelled Create leaves a grant without its code", "Context/cancelled: Create stores the grant wholly or not at all", func(s *memstore.Store) devicegrant.Store { return halfCreate{s} }},
	{"a Count that fails", "Count/answers, where the Store has it", func(s *memstore.Store) devicegrant.Store { return miscounting{s} }},
}

type unnoticed struct{ devicegrant.Store }

func (s unnoticed) Swap(ctx context.Context, g *grant) error {
	_ = s.Store.Swap(ctx, g)
	return nil
}

type retrying struct{ devicegrant.Store }

func (s retrying) Swap(ctx context.Context, g *grant) error {
	if err := s.Store.Swap(ctx, g); err == nil {
		return nil
	}
	stored, err := s.ByDeviceCode(ctx, g.DeviceCode)
	if err != nil {
		return devicegrant.ErrConflict
	}
	again := *g
	again.Version = stored.Version
	return s.Store.Swap(ctx, &again)
}

type heedless struct{ devicegrant.Store }

func (s heedless) Swap(ctx context.Context, g *grant) error {
	select {
	case <-ctx.Done():
		return nil
	default:
		return s.Store.Swap(ctx, g)
	}
}

type halfPurge struct{ devicegrant.Store }

func (s halfPurge) Purge(ctx context.Context, before time.Time, limit int) (int, error) {
	if err := ctx.Err(); err != nil {
		n, _ := s.Store.Purge(context.WithoutCancel(ctx), before, limit/2)
		return n, err
	}
	return s.Store.Purge(ctx, before, limit)
}

type halfCreate struct{ devicegrant.Store }

func (s halfCreate) Create(ctx context.Context, g *grant) error {
	err := s.Store.Create(ctx, g)
	if err == nil && ctx.Err() != nil {
		codeless := *g
		codeless.UserCode = noUserCode
		_ = s.Swap(context.WithoutCancel(ctx), &codeless)
		return ctx.Err()
	}
	return err
}

type miscounting struct{ devicegrant.Store }

func (miscounting) Count(context.Context) (int, error) { return 0, ErrInjected }
