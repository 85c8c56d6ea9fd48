package devicegrant_test

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/devicegrant/devicegrant"
	"github.com/devicegrant/devicegrant/storetest"
)

// aliceAtHome is alice in another browser than her laptop's.
var aliceAtHome = devicegrant.Person{Subject: "alice", Session: "home"}

func (f *fixture) lookup(a *devicegrant.Authorization, by devicegrant.Person) error {
	_, err := f.Lookup(f.t.Context(), a.UserCode, by)
	return err
}

// A code belongs to the browser session that entered it first, whoever is signed in
// there. Others change nothing, and hear of it.
func TestCodeBelongsToItsFirstSession(t *testing.T) {
	f := newFixture(t, nil)
	a := f.authorize()
	ticket := f.review(a.UserCode, alice).Ticket
	require.ErrorIs(t, f.lookup(a, aliceAtHome), devicegrant.ErrOtherSession, "the same person in another browser")
	require.ErrorIs(t, f.yes(t.Context(), ticket, aliceAtHome), devicegrant.ErrTicket)
	require.ErrorIs(t, f.Deny(t.Context(), ticket, aliceAtHome), devicegrant.ErrTicket)
	f.requirePoll(a, devicegrant.ErrAuthorizationPending)

	require.ErrorIs(t, f.yes(t.Context(), ticket, bob), devicegrant.ErrTicket, "another person in the same browser")
	require.NoError(t, f.yes(t.Context(), f.review(a.UserCode, bob).Ticket, bob), "who may enter it")
	f.requirePoll(a, nil)

	require.Len(t, f.raised(devicegrant.EventReviewed), 1, "the first time")
	others := f.raised(devicegrant.EventOtherSession)
	require.Len(t, others, 1)
	assert.Equal(t, "alice", others[0].Subject)
	assert.Empty(t, f.raised(devicegrant.EventWrongUserCode))
}

// A host's own page that knows no browser sessions has one for each person.
func TestWithoutSessionsACodeBelongsToItsFirstPerson(t *testing.T) {
	f := newFixture(t, nil)
	a := f.authorize()
	ticket := f.review(a.UserCode, devicegrant.Person{Subject: "alice"}).Ticket
	require.ErrorIs(t, f.lookup(a, devicegrant.Person{Subject: "bob"}), devicegrant.ErrOtherSession)
	require.NoError(t, f.yes(t.Context(), ticket, devicegrant.Person{Subject: "alice"}))
}

// Another session is not told what became of a code, and pays for trying.
func TestOtherSessionsLearnNothing(t *testing.T) {
	f := newFixture(t, nil)
	for name, decide := range map[string]func(*devicegrant.Authorization){"denied": f.deny, "approved": f.approve} {
		a := f.authorize()
		decide(a)
		require.ErrorIs(t, f.lookup(a, alice), devicegrant.ErrDecided, name)
		require.ErrorIs(t, f.lookup(a, aliceAtHome), devicegrant.ErrUserCode, name)
	}
	carol := devicegrant.Person{Subject: "carol", Session: "phone"}
	a := f.authorize()
	f.review(a.UserCode, alice)
	for range 3 {
		require.ErrorIs(t, f.lookup(a, carol), devicegrant.ErrOtherSession)
	}
	var tooMany *devicegrant.TooManyGuessesError
	require.ErrorAs(t, f.lookup(a, carol), &tooMany)
	assert.InDelta(t, 450, tooMany.RetryAfter.Seconds(), 1)
}

// Of sessions that enter a code at the same time, one gets it.
func TestOneSessionGetsTheCode(t *testing.T) {
	f, store := faultyFixture(t)
	a := f.authorize()
	store.Before = func(op storetest.Op, _ int) {
		if op == storetest.OpSwap {
			store.Before = nil
			f.review(a.UserCode, aliceAtHome)
		}
	}
	require.ErrorIs(t, f.lookup(a, alice), devicegrant.ErrOtherSession)
	f.review(a.UserCode, aliceAtHome)
	require.Len(t, f.raised(devicegrant.EventReviewed), 1)
	require.Len(t, f.raised(devicegrant.EventOtherSession), 1)
}

// Somebody else who enters the code at that moment does not keep a decision from being
// taken.
func TestEnteringDoesNotDisturbADecision(t *testing.T) {
	f, store := faultyFixture(t)
	a := f.authorize()
	ticket := f.review(a.UserCode, alice).Ticket
	store.Before = func(op storetest.Op, _ int) {
		if op == storetest.OpSwap {
			store.Before = nil
			require.ErrorIs(t, f.lookup(a, aliceAtHome), devicegrant.ErrOtherSession)
		}
	}
	require.NoError(t, f.yes(t.Context(), ticket, alice))
	f.requirePoll(a, nil)
}

// Entering a code again writes nothing.
func TestReviewingAgainWritesNothing(t *testing.T) {
	f, store := faultyFixture(t)
	a := f.authorize()
	f.review(a.UserCode, alice)
	store.Before = func(op storetest.Op, _ int) { assert.NotEqual(t, storetest.OpSwap, op) }
	f.review(a.UserCode, alice)
}

func TestReport(t *testing.T) {
	f := newFixture(t, nil)
	a := f.authorize()
	require.NoError(t, f.Report(t.Context(), f.review(a.UserCode, alice).Ticket, alice))
	f.requirePoll(a, devicegrant.ErrAccessDenied)
	reported := f.raised(devicegrant.EventReported)
	require.Len(t, reported, 1)
	assert.Equal(t, "alice", reported[0].Subject)
	assert.Equal(t, "tv", reported[0].ClientID)
	assert.Empty(t, f.raised(devicegrant.EventDenied))
}

func TestConfirmCode(t *testing.T) {
	f := newFixture(t, func(c *devicegrant.Config) { c.ConfirmCode = true })
	a, denied := f.authorize(), f.authorize()
	ticket := f.review(a.UserCode, alice).Ticket
	require.ErrorIs(t, f.yes(t.Context(), ticket, alice), devicegrant.ErrUnconfirmed)
	f.requirePoll(a, devicegrant.ErrAuthorizationPending)
	require.NoError(t, f.Approve(t.Context(), ticket, alice, devicegrant.Approval{Confirmed: true}))
	f.requirePoll(a, nil)
	f.deny(denied)
}

var (
	addrHome  = netip.MustParseAddr("192.0.2.1")
	addrHome6 = netip.MustParseAddr("2001:db8:1:2::1")
)

// The review says where the device is, where the person is, and whether that differs.
func TestReviewShowsBothSides(t *testing.T) {
	for name, tt := range map[string]struct {
		device, person string // addresses
		places         map[string]string
		elsewhere      bool
	}{
		"the same address":               {"192.0.2.1", "192.0.2.1", nil, false},
		"another address":                {"192.0.2.1", "192.0.2.2", nil, true},
		"one network of IPv6":            {"2001:db8:1:2::1", "2001:db8:1:2::99", nil, false},
		"another network of IPv6":        {"2001:db8:1:2::1", "2001:db8:1:3::1", nil, true},
		"IPv4 and IPv6":                  {"192.0.2.1", "2001:db8:1:2::1", nil, false},
		"IPv4 in IPv6":                   {"::ffff:192.0.2.1", "192.0.2.1", nil, false},
		"no address":                     {"", "192.0.2.1", nil, false},
		"one place":                      {"192.0.2.1", "198.51.100.1", map[string]string{"192.0.2.1": "Bern", "198.51.100.1": "Bern"}, false},
		"two places":                     {"192.0.2.1", "2001:db8:1:2::1", map[string]string{"192.0.2.1": "Bern", "2001:db8:1:2::1": "Lima"}, true},
		"one place is not known":         {"192.0.2.1", "198.51.100.1", map[string]string{"192.0.2.1": "Bern"}, true},
		"one place, the other no family": {"192.0.2.1", "2001:db8:1:2::1", map[string]string{"192.0.2.1": "Bern"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, func(c *devicegrant.Config) {
				c.Place = func(_ context.Context, addr netip.Addr) string { return tt.places[addr.String()] }
			})
			device, _ := netip.ParseAddr(tt.device)
			person := alice
			person.Addr, _ = netip.ParseAddr(tt.person)
			a, err := f.Authorize(t.Context(), tv, devicegrant.AuthorizationRequest{Device: devicegrant.Device{Name: "Living room", Addr: device}})
			require.NoError(t, err)
			r := f.review(a.UserCode, person)
			assert.Equal(t, tt.elsewhere, r.Elsewhere)
			assert.Equal(t, "Living room", r.Device.Name)
			assert.Equal(t, tt.places[tt.device], r.DevicePlace)
			assert.Equal(t, tt.places[tt.person], r.Place)
		})
	}
}

// What a device says of itself is one line of text, of bounded length.
func TestDeviceIsCleaned(t *testing.T) {
	f := newFixture(t, nil)
	for given, want := range map[string]string{
		"":                            "",
		"  Living \n\t room  ":        "Living room",
		"a\x00b\x1bc\u202ed\u2066e":   "a b c d e", // Controls, and what turns the text around it.
		"\xff\xfeTV\xc3":              "TV",
		"Küche 居間":                    "Küche 居間",
		strings.Repeat("x", 1_000):    strings.Repeat("x", 128),
		strings.Repeat("é", 1_000):    strings.Repeat("é", 64),
		"x" + strings.Repeat("é", 64): "x" + strings.Repeat("é", 63),
	} {
		a, err := f.Authorize(t.Context(), tv, devicegrant.AuthorizationRequest{Device: devicegrant.Device{
			Name: given, UserAgent: strings.Repeat("u", 1_000), Addr: netip.MustParseAddr("::ffff:192.0.2.1"),
		}})
		require.NoError(t, err)
		device := f.review(a.UserCode, alice).Device
		assert.Equal(t, want, device.Name)
		assert.Equal(t, devicegrant.Device{Name: want, UserAgent: strings.Repeat("u", 256), Addr: addrHome}, device)
	}
}

// Risk sees both sides, and its verdict holds when the person is asked and when they
// say yes.
func TestRisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen devicegrant.Situation
		var verdict devicegrant.Verdict
		var failure error
		f := newFixture(t, func(c *devicegrant.Config) {
			c.ConfirmCode = true
			c.Place = func(_ context.Context, addr netip.Addr) string { return "at " + addr.String() }
			c.Risk = func(_ context.Context, s devicegrant.Situation) (devicegrant.Verdict, error) {
				seen = s
				return verdict, failure
			}
		})
		device := devicegrant.Device{Name: "TV", UserAgent: "tv/1.0", Addr: addrHome6}
		a, err := f.Authorize(t.Context(), tv, devicegrant.AuthorizationRequest{Scope: "openid", Device: device})
		require.NoError(t, err)
		person := devicegrant.Person{Subject: "alice", Session: "phone", Addr: addrHome, UserAgent: "phone/2.0"}
		confirmed := devicegrant.Approval{Confirmed: true}

		verdict = devicegrant.Warn
		r := f.review(a.UserCode, person)
		assert.True(t, r.Warned)
		assert.Equal(t, devicegrant.Situation{
			Client: tv, Scopes: []string{"openid"}, Resources: []string{},
			Device: device, DevicePlace: "at " + addrHome6.String(),
			Person: person, Place: "at " + addrHome.String(), Elsewhere: true,
			Entered: 1, CreatedAt: r.CreatedAt, ExpiresAt: r.ExpiresAt, ConfirmCode: true,
		}, seen)

		verdict = devicegrant.Allow
		assert.False(t, f.review(a.UserCode, person).Warned)
		require.ErrorIs(t, f.lookup(a, aliceAtHome), devicegrant.ErrOtherSession)
		require.ErrorIs(t, f.lookup(a, aliceAtHome), devicegrant.ErrOtherSession)
		f.review(a.UserCode, person)
		assert.Equal(t, 3, seen.Entered)

		for _, refusing := range []devicegrant.Verdict{devicegrant.Refuse, 0, 99} {
			verdict = refusing
			require.ErrorIs(t, f.lookup(a, person), devicegrant.ErrRefused)
			require.ErrorIs(t, f.Approve(t.Context(), r.Ticket, person, confirmed), devicegrant.ErrRefused)
		}
		assert.Len(t, f.raised(devicegrant.EventRefused), 6)
		failure = errors.New("risk service is away")
		require.ErrorIs(t, f.lookup(a, person), failure)
		require.ErrorIs(t, f.Approve(t.Context(), r.Ticket, person, confirmed), failure)
		f.requirePoll(a, devicegrant.ErrAuthorizationPending)

		verdict, failure = devicegrant.Warn, nil
		require.NoError(t, f.Approve(t.Context(), r.Ticket, person, confirmed), "a warning leaves the person the choice")
		time.Sleep(a.Interval)
		f.requirePoll(a, nil)

		b := f.authorize()
		ticket := f.review(b.UserCode, person).Ticket
		verdict = devicegrant.Refuse
		require.NoError(t, f.Deny(t.Context(), ticket, person), "what is refused can be denied")
	})
}

func TestNoCompleteURI(t *testing.T) {
	f := newFixture(t, nil)
	client := tv
	client.NoCompleteURI = true
	a, err := f.Authorize(t.Context(), client, devicegrant.AuthorizationRequest{})
	require.NoError(t, err)
	assert.Empty(t, a.VerificationURIComplete)
	f.approve(a)
	f.requirePoll(a, nil)
}

// When many codes are wrong everywhere, an operator hears of it, with figures, and not
// too often.
func TestGuessPressure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, nil)
		guess := func(i int) error {
			_, err := f.Lookup(t.Context(), "BBBB-BBBB", devicegrant.Person{
				Subject: string(rune('a'+i%26)) + strings.Repeat("x", i/26), Addr: netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}),
			})
			return err
		}
		for i := range 124 {
			require.ErrorIs(t, guess(i), devicegrant.ErrUserCode)
		}
		require.Empty(t, f.raised(devicegrant.EventGuessPressure))
		for i := 124; i < 250; i++ {
			require.ErrorIs(t, guess(i), devicegrant.ErrUserCode)
		}
		raised := f.raised(devicegrant.EventGuessPressure)
		require.Len(t, raised, 1)
		assert.Equal(t, 125, raised[0].Pressure.Wrong)
		assert.Equal(t, 250, raised[0].Pressure.Burst)
		cfg := validConfig()
		assert.Equal(t, cfg.GuessChances(), raised[0].Pressure.Chances)

		time.Sleep(time.Minute) // 66 guesses are paid for.
		require.ErrorIs(t, guess(250), devicegrant.ErrUserCode)
		raised = f.raised(devicegrant.EventGuessPressure)
		require.Len(t, raised, 2)
		assert.Equal(t, 185, raised[1].Pressure.Wrong)
	})
}
