package devicegrant

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/devicegrant/devicegrant/internal/recent"
)

// Issuance limits how many grants are created. What is refused is answered 429 with
// Retry-After, and nothing is stored. Each server has limits of its own, so that none
// waits for another: n replicas admit n times as much.
//
// A device that polls for a code that was made here is never limited by its address,
// which many may share. Whoever presents device codes that nobody knows is.
type Issuance struct {
	// PerClient limits each client, unless it has a Client.Quota. Zero creates 1,000
	// grants at once and 100 a second, and has 10,000 pending.
	PerClient Quota
	// PerAddress limits each address (one IPv4 address, or one IPv6 /64). Zero creates
	// 100 at once and one a second, and has 200 pending.
	PerAddress Quota
	// Networks are addresses with another quota than PerAddress, each address by itself,
	// such as those behind which a fleet starts together. The smallest network that
	// contains an address counts.
	Networks map[netip.Prefix]Quota
	// UnknownCodes limits the polls from an address with device codes that nobody knows;
	// beyond it they are refused before their client is authenticated. Zero takes 100 at
	// once and one a second.
	UnknownCodes Limit
}

// Quota limits how fast grants are created, and how many are pending at a time: waiting to
// be approved or collected, and not expired. A part that is zero stands for a default.
type Quota struct {
	Rate    Limit
	Pending int
}

func (i Issuance) withDefaults() Issuance {
	i.PerClient = i.PerClient.or(Quota{Limit{Burst: 1000, Every: 10 * time.Millisecond}, 10_000})
	i.PerAddress = i.PerAddress.or(Quota{Limit{Burst: 100, Every: time.Second}, 200})
	if i.UnknownCodes == (Limit{}) {
		i.UnknownCodes = Limit{Burst: 100, Every: time.Second}
	}
	return i
}

func (q Quota) or(other Quota) Quota {
	if q.Rate == (Limit{}) {
		q.Rate = other.Rate
	}
	if q.Pending == 0 {
		q.Pending = other.Pending
	}
	return q
}

func (q Quota) rule() rule { return rule{Limit: q.Rate} }

func (q Quota) valid() bool { return q.Rate.valid() && q.Pending > 0 }

func (i Issuance) validate() error {
	const must = "Rate.Burst and Pending must be above zero, and Rate.Every a microsecond or more"
	if !i.PerClient.valid() || !i.PerAddress.valid() {
		return errors.New("Issuance.PerClient and Issuance.PerAddress: " + must)
	}
	for network, q := range i.Networks {
		if !network.IsValid() || network != network.Masked() || network.Addr().Is4In6() {
			return fmt.Errorf("Issuance.Networks: %v is no network; set it to one as netip.Prefix.Masked returns it", network)
		}
		if !q.or(i.PerAddress).valid() {
			return fmt.Errorf("Issuance.Networks[%v]: %s", network, must)
		}
	}
	if !i.UnknownCodes.valid() {
		return errors.New("Issuance.UnknownCodes: Burst must be above zero, and Every a microsecond or more")
	}
	return nil
}

// forAddress is the quota of an address.
func (i Issuance) forAddress(addr netip.Addr) Quota {
	smallest, quota := -1, Quota{}
	for network, q := range i.Networks {
		if network.Contains(addr) && network.Bits() > smallest {
			smallest, quota = network.Bits(), q
		}
	}
	return quota.or(i.PerAddress)
}

// issuance enforces Issuance, and knows the Load. It holds what was used last, so that
// whoever has many addresses cannot fill the memory.
type issuance struct {
	cfg     Issuance
	width   time.Duration // of a slot
	counts  *recent.Map[countKey, *count]
	unknown *recent.Map[netip.Prefix, Tally]
}

// countKey is what is counted: a client, an address, an address's requests for a client
// with an AddressQuota, or, when it is zero, everything.
type countKey struct {
	client string
	addr   netip.Prefix
}

func newIssuance(cfg Issuance, lifetime time.Duration) *issuance {
	return &issuance{
		cfg:     cfg,
		width:   lifetime / slotsInLifetime,
		counts:  recent.New[countKey, *count](0),
		unknown: recent.New[netip.Prefix, Tally](0),
	}
}

// bound is a count, and the quota that it must not exceed.
type bound struct {
	key   countKey
	quota Quota
}

// maxBounds is how many limit a request: its client's, and its address's.
const maxBounds = 2

// bounds are what limits a request.
func (i *issuance) bounds(client Client, addr netip.Addr) []bound {
	id := strings.Clone(client.ID) // It may be part of a whole request.
	list := make([]bound, 0, maxBounds)
	list = append(list, bound{countKey{client: id}, client.Quota.or(i.cfg.PerClient)})
	if !addr.IsValid() {
		return list
	}
	b := bound{countKey{addr: addressKey(addr)}, i.cfg.forAddress(addr)}
	if client.AddressQuota != (Quota{}) {
		b = bound{countKey{client: id, addr: addressKey(addr)}, client.AddressQuota.or(b.quota)}
	}
	return append(list, b)
}

// keysOf returns the keys of everything and of what limits.
func keysOf(limits []bound) []countKey {
	keys := make([]countKey, 1, 1+maxBounds)
	for _, b := range limits {
		keys = append(keys, b.key)
	}
	return keys
}

var errLimited = errors.New("devicegrant: too many grants")

// admit counts a grant that is about to be created, and returns how many are pending with
// it. It returns how long to wait, above zero, when there are too many, and counts nothing
// then.
func (i *issuance) admit(client Client, g *Grant) (pending int, wait time.Duration) {
	now, limits := g.CreatedAt, i.bounds(client, g.Device.Addr)
	_ = i.counts.Update(keysOf(limits), func(counts []*count) error {
		for j, b := range limits {
			wait = max(wait, counts[1+j].wait(now, b.quota))
		}
		if wait > 0 {
			return errLimited
		}
		for j := range counts {
			if counts[j] == nil {
				counts[j] = new(count)
			}
			counts[j].add(now, g.ExpiresAt, i.width, g.Pace.Interval)
			if j > 0 {
				counts[j].rate = limits[j-1].quota.rule().charge(counts[j].rate, now)
			}
		}
		pending, _ = counts[0].sums()
		return nil
	})
	return pending, wait
}

// undo forgets a grant that was admitted and could not be created.
func (i *issuance) undo(client Client, g *Grant) {
	limits := i.bounds(client, g.Device.Addr)
	_ = i.counts.Update(keysOf(limits), func(counts []*count) error {
		for j, c := range counts {
			if c == nil {
				return errLimited // It was forgotten meanwhile.
			}
			c.remove(g.CreatedAt, g.ExpiresAt, g.Pace.Interval)
			if j > 0 {
				c.rate = limits[j-1].quota.rule().refund(c.rate, g.CreatedAt)
			}
		}
		return nil
	})
}

// end says that a grant is over. One that another server created is not counted here,
// and those that are counted are as many as they were created here until they expire.
func (i *issuance) end(now time.Time, g *Grant) {
	keys := []countKey{{}, {client: g.ClientID}}
	if addr := g.Device.Addr; addr.IsValid() {
		keys = append(keys, countKey{client: g.ClientID, addr: addressKey(addr)}, countKey{addr: addressKey(addr)})
	}
	_ = i.counts.Update(keys, func(counts []*count) error {
		for j, c := range counts {
			if c != nil && c.remove(now, g.ExpiresAt, g.Pace.Interval) && j == 2 {
				break // It was counted for this client alone.
			}
		}
		return errLimited // What is not counted is not to be stored.
	})
}

// load is the Load at now.
func (i *issuance) load(now time.Time) (l Load) {
	_ = i.counts.Update([]countKey{{}}, func(counts []*count) error {
		if c := counts[0]; c != nil {
			c.expire(now)
			l.Pending, l.Polls = c.sums()
			l.Arrivals = c.arrivals.perSecond(now)
		}
		return errLimited
	})
	return l
}

// unknownCode counts a poll with a device code that nobody knows. It returns how long to
// wait, above zero, when there are too many, and counts nothing then.
func (i *issuance) unknownCode(now time.Time, addr netip.Addr) (wait time.Duration) {
	if !addr.IsValid() {
		return 0
	}
	r := rule{Limit: i.cfg.UnknownCodes}
	_ = i.unknown.Update([]netip.Prefix{addressKey(addr)}, func(tallies []Tally) error {
		if wait = r.wait(tallies[0], now); wait > 0 {
			return errLimited
		}
		tallies[0] = r.charge(tallies[0], now)
		return nil
	})
	return wait
}
