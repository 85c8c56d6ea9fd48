package devicegrant

import (
	"errors"
	"fmt"
	"math"
	"time"
)

// Guessing bounds how many wrong user codes are taken, and so an attacker's
// chances (RFC 8628 sections 5.1 and 5.2). A right code costs nothing, and gives
// nothing back of what wrong ones have cost. All servers on a Store that is a
// [Tallier] share the limits; with another Store each has its own, and several
// replicas admit that many times as much.
//
// New computes the chances from these limits, the format of the codes, their
// lifetime and MaxPending, and refuses a configuration that is above a bound.
// [Config.GuessChances] returns them.
type Guessing struct {
	// PerAddress limits the wrong codes from one address (one IPv4 address, or one
	// IPv6 /64), and apart from that those by one subject and those by one browser
	// session. Burst are taken at once; the wait for one more is Every, and twice as
	// long with each further wrong code, up to sixteen times. It starts anew when
	// nothing has been wrong for a lifetime and more.
	//
	// Once an address has used that up, subjects with a clean record, who have not
	// been wrong for so long, are let through from there a third as often, so that
	// somebody who shares an address with an attacker gets in.
	//
	// Zero admits three at once, four in a lifetime, and one more by those with a
	// clean record.
	PerAddress Limit
	// Global limits the wrong codes from everybody together; here the wait stays
	// the same. Once it is used up, only subjects with a clean record are let through;
	// their wrong codes are limited together by the same Limit once more. Zero admits
	// 250 at once and 1,250 in a lifetime, and so 2,500 in all.
	Global Limit
	// MaxPending is how many grants can be live at once at the length of code
	// that is configured. Zero means 10,000. When a Store that is a Counter has
	// more, new codes are longer by as much as it takes.
	MaxPending int
	// MaxAddressChance bounds the chance that one address finds one given code
	// within its lifetime. Zero means 2^-32, the RFC's own example.
	MaxAddressChance float64
	// MaxGlobalHits bounds the number of live codes that everybody together is
	// expected to find in a lifetime, guessing as fast as Global admits. Zero
	// means 2^-10: one code in a thousand lifetimes of full attack.
	MaxGlobalHits float64
}

func (g Guessing) withDefaults(lifetime time.Duration) Guessing {
	if g.PerAddress == (Limit{}) {
		g.PerAddress = Limit{Burst: 3, Every: lifetime / 2}
	}
	if g.Global == (Limit{}) {
		g.Global = Limit{Burst: 250, Every: lifetime / 1000}
	}
	if g.MaxPending == 0 {
		g.MaxPending = 10_000
	}
	if g.MaxAddressChance == 0 {
		g.MaxAddressChance = math.Pow(2, -32)
	}
	if g.MaxGlobalHits == 0 {
		g.MaxGlobalHits = math.Pow(2, -10)
	}
	return g
}

func (g Guessing) validate() error {
	if !g.PerAddress.valid() || !g.Global.valid() {
		return errors.New("Guessing.PerAddress and Guessing.Global: Burst must be above zero, and Every a microsecond or more")
	}
	if g.MaxPending < 0 || g.MaxAddressChance < 0 || g.MaxGlobalHits < 0 {
		return errors.New("Guessing: MaxPending, MaxAddressChance and MaxGlobalHits must not be negative")
	}
	return nil
}

// GuessChances is what guessing user codes can achieve within one lifetime.
type GuessChances struct {
	// PerAddress is the chance that one address finds one given code.
	PerAddress float64
	// GlobalHits is the expected number of codes that everybody together finds
	// while MaxPending of them are live.
	GlobalHits float64
}

func (g Guessing) chances(f UserCodeFormat, length int, lifetime time.Duration, live int) GuessChances {
	codes := math.Pow(float64(len(f.Alphabet)), float64(length))
	return GuessChances{
		PerAddress: g.perAddress(lifetime) / codes,
		GlobalHits: g.everybody(lifetime) * float64(live) / codes,
	}
}

// perAddress is the most wrong codes that are taken from an address in a lifetime,
// the reserve for those with a clean record included.
func (g Guessing) perAddress(lifetime time.Duration) float64 {
	return g.personRule(lifetime).within(lifetime) + g.reserveRule(lifetime).within(lifetime)
}

// everybody is the most that are taken from everybody together, likewise.
func (g Guessing) everybody(lifetime time.Duration) float64 {
	return 2 * g.globalRule(lifetime).within(lifetime)
}

// personRule is the limit of an address, a subject and a browser session.
func (g Guessing) personRule(lifetime time.Duration) rule {
	return rule{Limit: g.PerAddress, doubling: true, forget: lifetime}
}

// reserveRule is what an address admits beyond that, in all, from those with a clean
// record: no second burst within a lifetime.
func (g Guessing) reserveRule(lifetime time.Duration) rule {
	return rule{Limit: Limit{Burst: (g.PerAddress.Burst + 2) / 3, Every: 2 * lifetime}, doubling: true, forget: lifetime}
}

// globalRule is the limit of everybody together, and of its reserve.
func (g Guessing) globalRule(lifetime time.Duration) rule {
	return rule{Limit: g.Global, forget: lifetime}
}

func (g Guessing) bears(c GuessChances) bool {
	return c.PerAddress <= g.MaxAddressChance && c.GlobalHits <= g.MaxGlobalHits
}

// length returns how long a new code must be that lives for the duration while live
// grants are. In each lifetime begun of it, as much can be guessed as in one.
func (g Guessing) length(f UserCodeFormat, lifetime, lives time.Duration, live int) int {
	lifetimes := max(1, math.Ceil(float64(lives)/float64(lifetime)))
	bears := func(n int) bool {
		c := g.chances(f, n, lifetime, live)
		return g.bears(GuessChances{c.PerAddress * lifetimes, c.GlobalHits * lifetimes})
	}
	n := f.Length
	for n < maxUserCodeLength && !bears(n) {
		n++
	}
	return n
}

// check refuses what is above a bound, and says what to do about it.
func (g Guessing) check(f UserCodeFormat, lifetime time.Duration) error {
	c := g.chances(f, f.Length, lifetime, g.MaxPending)
	if g.bears(c) {
		return nil
	}
	if c.PerAddress > g.MaxAddressChance {
		return fmt.Errorf("user codes are too easy to guess: one address may try %.0f in a lifetime of %v and finds a given code with chance %.2g, above Guessing.MaxAddressChance %.2g; "+
			"set UserCode.Length to %d or more, or lower Guessing.PerAddress or Lifetime",
			g.perAddress(lifetime), lifetime, c.PerAddress, g.MaxAddressChance, g.length(f, lifetime, lifetime, g.MaxPending))
	}
	return fmt.Errorf("user codes are too easy to guess: %.0f guesses admitted in a lifetime of %v against %d live codes find %.2g of them, above Guessing.MaxGlobalHits %.2g; "+
		"set UserCode.Length to %d or more, or lower Guessing.Global, Guessing.MaxPending or Lifetime",
		g.everybody(lifetime), lifetime, g.MaxPending, c.GlobalHits, g.MaxGlobalHits, g.length(f, lifetime, lifetime, g.MaxPending))
}
