package devicegrant_test

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/devicegrant/devicegrant"
)

// attacker guesses user codes from many addresses and accounts, as fast as the limits
// admit.
type attacker struct {
	*fixture
	rng                 *rand.Rand
	addresses, accounts int
	alphabet            string
	length              int

	admitted, hits int
}

// guess tries a random code from a random place, and reports whether it was looked up.
func (a *attacker) guess() bool {
	code := make([]byte, a.length)
	for i := range code {
		code[i] = a.alphabet[a.rng.IntN(len(a.alphabet))]
	}
	place := a.rng.IntN(a.addresses)
	_, err := a.Lookup(a.t.Context(), string(code), devicegrant.Person{
		Subject: fmt.Sprint("account ", a.rng.IntN(a.accounts)),
		Addr:    netip.AddrFrom4([4]byte{10, byte(place >> 16), byte(place >> 8), byte(place)}),
	})
	var tooMany *devicegrant.TooManyGuessesError
	switch {
	case errors.As(err, &tooMany):
		return false
	case err == nil:
		a.hits++
	default:
		require.ErrorIs(a.t, err, devicegrant.ErrUserCode)
	}
	a.admitted++
	return true
}

// run guesses for as long as codes live. Refusals cost nothing, so each moment ends
// only when many in a row have been refused.
func (a *attacker) run(lifetime time.Duration) {
	const moment = 450 * time.Millisecond // Half as long as one more guess takes.
	for range lifetime / moment {
		for refused := 0; refused < 20; refused++ {
			if a.guess() {
				refused = 0
			}
		}
		time.Sleep(moment)
	}
}

// A hundred thousand codes are live, and ten thousand addresses with a thousand accounts
// guess through one lifetime.
func TestGuessingAttack(t *testing.T) {
	const live = 100_000
	for name, tt := range map[string]struct {
		length    int
		unbounded bool // for codes short enough for hits to be counted
	}{
		"nine characters, which bear it": {9, false},
		"five characters, to see hits":   {5, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var cfg devicegrant.Config
				f := newFixture(t, func(c *devicegrant.Config) {
					c.UserCode.Alphabet, c.UserCode.Length = devicegrant.Base20.Alphabet, tt.length
					c.Guessing.MaxPending = live
					if tt.unbounded {
						c.Guessing.MaxAddressChance, c.Guessing.MaxGlobalHits = 1, 1000
					}
					cfg = *c
				})
				for range live {
					_, err := f.Authorize(t.Context(), tv, devicegrant.AuthorizationRequest{})
					require.NoError(t, err)
				}
				a := &attacker{
					fixture: f, rng: rand.New(rand.NewPCG(1, 2)),
					addresses: 10_000, accounts: 1_000, alphabet: devicegrant.Base20.Alphabet, length: tt.length,
				}
				a.run(15 * time.Minute)
				bound := cfg.GuessChances().GlobalHits
				t.Logf("%d guesses admitted, of 2500 that were reckoned with; %d codes found, where the bound expects %.2g", a.admitted-a.hits, a.hits, bound)
				assert.LessOrEqual(t, a.admitted-a.hits, 2500)
				assert.Greater(t, a.admitted, 1750, "the attack was a real one: a clean record can be used once")
				assert.InDelta(t, bound, a.hits, 1+6*math.Sqrt(bound), "what chance allows")
				if tt.unbounded {
					assert.Greater(t, a.hits, 10, "and it found some")
				}
			})
		})
	}
}

// From one address, with as many accounts as anybody likes, five guesses are admitted in
// a lifetime: what 2^-32 bears of eight characters (RFC 8628 section 5.1).
func TestGuessingAttackFromOneAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &attacker{
			fixture: newFixture(t, nil), rng: rand.New(rand.NewPCG(1, 2)),
			addresses: 1, accounts: 1_000, alphabet: devicegrant.Base20.Alphabet, length: 8,
		}
		a.run(15 * time.Minute)
		t.Logf("%d guesses admitted", a.admitted)
		assert.Equal(t, 5, a.admitted)
	})
}

// Somebody who mistypes twice gets in.
func TestMistypingTwice(t *testing.T) {
	f := newFixture(t, nil)
	a := f.authorize()
	person := devicegrant.Person{Subject: "alice", Session: "phone", Addr: addrHome}
	for _, typo := range []string{"BBBB-BBBB", "BBBB-BBBC"} {
		_, err := f.Lookup(t.Context(), typo, person)
		require.ErrorIs(t, err, devicegrant.ErrUserCode)
	}
	require.NoError(t, f.Approve(t.Context(), f.review(a.UserCode, person).Ticket, person, devicegrant.Approval{}))
	f.requirePoll(a, nil)
}

// Whoever shares an address with an attacker gets in when they are signed in and have
// not been wrong lately: a right code costs the address's reserve nothing, so any number
// of them do. Nor does an attack from everywhere keep them out.
func TestHonestPeopleBesideAnAttacker(t *testing.T) {
	f := newFixture(t, nil)
	mallory := &attacker{
		fixture: f, rng: rand.New(rand.NewPCG(1, 2)),
		addresses: 1, accounts: 1, alphabet: devicegrant.Base20.Alphabet, length: 8,
	}
	for mallory.guess() {
	}
	require.Equal(t, 3, mallory.admitted)
	for i := range 20 {
		a := f.authorize()
		person := devicegrant.Person{Subject: fmt.Sprint("employee ", i), Session: fmt.Sprint(i), Addr: netip.MustParseAddr("10.0.0.0")}
		require.NoError(t, f.Approve(t.Context(), f.review(a.UserCode, person).Ticket, person, devicegrant.Approval{}))
	}

	everywhere := &attacker{
		fixture: f, rng: mallory.rng, addresses: 1 << 20, accounts: 90, alphabet: devicegrant.Base20.Alphabet, length: 8,
	}
	for refused := 0; refused < 1000; refused++ {
		if everywhere.guess() {
			refused = 0
		}
	}
	require.GreaterOrEqual(t, everywhere.admitted, 247, "everybody's budget is used up")
	f.review(f.authorize().UserCode, devicegrant.Person{Subject: "carol", Session: "phone", Addr: addrHome})
}
