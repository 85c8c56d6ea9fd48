package storetest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/devicegrant/devicegrant"
)

var modelClauses = []clause{
	{"answers random calls as the contract says", modelRandom},
}

const (
	modelSeeds = 8
	modelSteps = 600
)

func modelRandom(s *suite) {
	for seed := range uint64(modelSeeds) {
		m := &model{
			suite: s, seed: seed, now: noon,
			rng:    rand.New(rand.NewPCG(seed, 6749)), //nolint:gosec // a fixed seed, so that a failure repeats
			grants: map[devicegrant.DeviceCodeDigest]*devicegrant.Grant{},
		}
		for m.step = range modelSteps {
			m.next()
		}
		m.empty()
	}
}

// model is the contract, written as plainly as one goroutine allows, beside the
// Store under test. Every call is made to both.
type model struct {
	*suite
	rng    *rand.Rand
	seed   uint64
	step   int
	now    time.Time
	grants map[devicegrant.DeviceCodeDigest]*devicegrant.Grant
	known  []*devicegrant.Grant // every grant created and not forgotten, purged or not
	held   []*devicegrant.Grant // grants read some time ago, to Swap
}

func (m *model) next() {
	if len(m.known) == 0 {
		m.createOne()
		return
	}
	switch n := m.rng.IntN(100); {
	case n < 12:
		m.createOne()
	case n < 42:
		m.pollOne()
	case n < 55:
		m.readOne()
	case n < 67:
		m.findOne()
	case n < 92:
		m.swapOne()
	case n < 95:
		m.purgeSome()
	default:
		m.now = m.now.Add(time.Duration(m.rng.Int64N(int64(lifetime/4/time.Microsecond))) * time.Microsecond)
	}
}

// at names the step in messages.
func (m *model) at(call string) string {
	return fmt.Sprintf("random calls, seed %d, step %d: %s", m.seed, m.step, call)
}

func (m *model) pick() *devicegrant.Grant { return m.known[m.rng.IntN(len(m.known))] }

// owner returns the grant that has the user code.
func (m *model) owner(code devicegrant.UserCodeDigest) *devicegrant.Grant {
	for _, g := range m.grants {
		if g.UserCode == code && code != noUserCode {
			return g
		}
	}
	return nil
}

// createOne draws from so few user codes that many are in use.
func (m *model) createOne() {
	g := m.grant(func(g *devicegrant.Grant) {
		g.UserCode = [32]byte{'c', byte(m.rng.IntN(20))}
		g.CreatedAt, g.ExpiresAt = m.now, m.now.Add(lifetime)
		g.Resource, g.TokenHint = texts["quotes"], texts["lines"]
		g.Device.Name, g.Device.Addr = texts["accents"], netip.AddrFrom16([16]byte{0: 0x20, 15: byte(m.rng.IntN(256))})
		g.Pace.Interval = intervals[m.rng.IntN(len(intervals))]
	})
	given := *g
	err := m.Create(m.Context(), &given)
	if m.owner(g.UserCode) != nil {
		m.wantError(m.at("Create with a user code in use"), err, devicegrant.ErrUserCodeExists)
		return
	}
	if err != nil {
		m.Fatalf("%s: %v", m.at("Create with a free user code"), err)
	}
	m.grants[g.DeviceCode] = g
	if m.known = append(m.known, g); len(m.known) > 30 {
		m.known = m.known[1:]
	}
}

func (m *model) pollOne() {
	g := m.pick()
	client, at := "tv", nextPoll(m.rng, g.Pace, m.now)
	if m.rng.IntN(10) == 0 {
		client = "cli"
	}
	got, err := m.Poll(m.Context(), g.DeviceCode, client, at)
	want := m.grants[g.DeviceCode]
	switch {
	case want == nil:
		m.wantError(m.at("Poll of a purged grant"), err, devicegrant.ErrNotFound)
	case err != nil:
		m.Fatalf("%s: %v", m.at("Poll"), err)
	default:
		if client == want.ClientID {
			want.Pace = want.Pace.Next(at)
		}
		m.wantPolled(m.at("Poll by "+client), got, want)
	}
}

func (m *model) readOne() {
	code := m.pick().DeviceCode
	got, err := m.ByDeviceCode(m.Context(), code)
	m.answer("ByDeviceCode", got, err, m.grants[code])
}

func (m *model) findOne() {
	code := devicegrant.UserCodeDigest{'c', byte(m.rng.IntN(20))}
	got, err := m.ByUserCode(m.Context(), code)
	m.answer("ByUserCode", got, err, m.owner(code))
}

// answer compares what was read, and holds on to it for a later Swap.
func (m *model) answer(call string, got *devicegrant.Grant, err error, want *devicegrant.Grant) {
	m.Helper()
	if want == nil {
		m.wantError(m.at(call+" of a code that no grant has"), err, devicegrant.ErrNotFound)
		return
	}
	m.wantGrant(m.at(call), got, err, want)
	if got == nil || err != nil {
		return
	}
	if m.held = append(m.held, got); len(m.held) > 10 {
		m.held = m.held[1:]
	}
}

// swapOne writes a grant as it was read a while ago, often too long ago.
func (m *model) swapOne() {
	if len(m.held) == 0 {
		return
	}
	given := *m.held[m.rng.IntN(len(m.held))]
	if m.rng.IntN(4) > 0 {
		given = *m.held[len(m.held)-1]
	}
	given.State, given.Subject = states[m.rng.IntN(len(states))], texts["quotes"][:m.rng.IntN(5)]
	given.ExpiresAt = given.ExpiresAt.Add(time.Duration(m.rng.IntN(2e6)-1e6) * time.Microsecond)
	given.Session, given.Entered = sessions[m.rng.IntN(len(sessions))], m.rng.IntN(devicegrant.MaxEntered+1)
	given.Scope = texts["markup"][:m.rng.IntN(5)]
	given.Device, given.Resource = devicegrant.Device{}, "" // They are not Swap's to write.
	if given.State == devicegrant.Redeemed {
		given.UserCode = noUserCode
	}
	stored, asked := m.grants[given.DeviceCode], given
	err := m.Swap(m.Context(), &asked)
	if stored == nil || stored.Version != given.Version {
		m.wantError(m.at("Swap of a stale or purged grant"), err, devicegrant.ErrConflict)
		return
	}
	if err != nil {
		m.Fatalf("%s: %v", m.at("Swap of the stored version"), err)
	}
	stored.UserCode, stored.State, stored.Subject, stored.ExpiresAt = given.UserCode, given.State, given.Subject, given.ExpiresAt
	stored.Scope, stored.Session, stored.Entered = given.Scope, given.Session, given.Entered
	stored.Version++
}

// purgeSome purges and sees which of the expired grants the Store chose.
func (m *model) purgeSome() {
	var expired []*devicegrant.Grant
	for _, g := range m.grants {
		if g.ExpiresAt.Before(m.now) {
			expired = append(expired, g)
		}
	}
	limit := 1 + m.rng.IntN(12)
	want := min(limit, len(expired))
	if n := m.purge(m.now, limit); n != want {
		m.Fatalf("%s returned %d, want %d", m.at(fmt.Sprintf("Purge with limit %d and %d expired", limit, len(expired))), n, want)
	}
	for _, g := range expired {
		if _, err := m.ByDeviceCode(m.Context(), g.DeviceCode); errors.Is(err, devicegrant.ErrNotFound) {
			delete(m.grants, g.DeviceCode)
			want--
		}
	}
	if want != 0 {
		m.Fatalf("%s said it deleted %d more grants than are gone", m.at("Purge"), want)
	}
}

// empty compares every grant that is left, and then purges them all.
func (m *model) empty() {
	for _, g := range m.grants {
		m.wantStored(m.at("at the end"), g)
	}
	if n := m.purge(m.now.Add(1000*lifetime), 10000); n != len(m.grants) {
		m.Errorf("%s returned %d, want %d", m.at("the last Purge"), n, len(m.grants))
	}
}
