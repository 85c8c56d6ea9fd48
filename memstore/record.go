package memstore

import (
	"time"

	"github.com/google/uuid"

	"github.com/devicegrant/devicegrant"
)

// record is a Grant without pointers. What a poll needs comes first, so that it is in as
// few cache lines as can be.
type record struct {
	deviceCode            devicegrant.DeviceCodeDigest
	id                    uuid.UUID
	expires, onTime, last instant
	interval              time.Duration
	client                uint32 // in the shard's texts
	state                 devicegrant.State
	repeated              bool
	live                  bool // The record is that of a grant.

	userCode devicegrant.UserCodeDigest
	created  instant
	version  int64
	entered  int
	scope    uint32 // in the shard's texts
	agent    uint32 // in Store.agents
	asked    uint32 // in the shard's cells: what else the device sent
	decided  uint32 // in the shard's cells: who entered the code and decided
}

// instant is a time in microseconds since 1970.
type instant int64

func instantOf(t time.Time) instant { return instant(t.UnixMicro()) }

func (i instant) time() time.Time { return time.UnixMicro(int64(i)).UTC() }

func (r *record) pace() devicegrant.Pace {
	return devicegrant.Pace{Interval: r.interval, OnTime: r.onTime.time(), Last: r.last.time(), Repeated: r.repeated}
}

func (r *record) setPace(p devicegrant.Pace) {
	r.interval, r.onTime, r.last, r.repeated = p.Interval, instantOf(p.OnTime), instantOf(p.Last), p.Repeated
}

// appendAsked appends what a device sent that is its own, or rare. Empty fields at the end
// are left out: cutField finds them in the zeros that follow, or in nothing.
func appendAsked(b []byte, g *devicegrant.Grant) []byte {
	var addr [64]byte
	from, _ := g.Device.Addr.AppendBinary(addr[:0]) // It cannot fail.
	fields := []string{string(from), g.Device.Name, g.Resource, g.AuthorizationDetails, g.TokenHint}
	for len(fields) > 0 && fields[len(fields)-1] == "" {
		fields = fields[:len(fields)-1]
	}
	for _, field := range fields {
		b = appendField(b, field)
	}
	return b
}

func readAsked(g *devicegrant.Grant, b []byte) {
	from, b := cutField(b)
	_ = g.Device.Addr.UnmarshalBinary([]byte(from)) // It is what AppendBinary made.
	for _, field := range [...]*string{&g.Device.Name, &g.Resource, &g.AuthorizationDetails, &g.TokenHint} {
		*field, b = cutField(b)
	}
}

// appendDecided appends who entered the code and decided; nothing if nobody has.
func appendDecided(b []byte, g *devicegrant.Grant) []byte {
	if g.Subject == "" && g.Session == (devicegrant.SessionDigest{}) {
		return b
	}
	return appendField(append(b, g.Session[:]...), g.Subject)
}

func readDecided(g *devicegrant.Grant, b []byte) {
	if len(b) > 0 {
		g.Subject, _ = cutField(b[copy(g.Session[:], b):])
	}
}
