package sqlstore

import (
	"database/sql"
	"fmt"
	"net/netip"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/devicegrant/devicegrant"
)

// What a text column holds at most, in bytes.
const (
	maxName        = 1 << 10
	maxScope       = 1<<16 - 1
	maxResource    = 4 << 10
	maxDetails     = 16 << 10
	maxTokenHint   = 1 << 10
	maxDeviceName  = 256
	maxDeviceAgent = 512
	maxDeviceAddr  = 64
)

// checkText refuses text that some of the databases would refuse, cut short or
// change, so that a grant is stored as it is or not at all.
func checkText(g *devicegrant.Grant) error {
	for _, text := range []struct {
		name, value string
		most        int
	}{
		{"client id", g.ClientID, maxName},
		{"subject", g.Subject, maxName},
		{"scope", g.Scope, maxScope},
		{"resource", g.Resource, maxResource},
		{"value of authorization_details", g.AuthorizationDetails, maxDetails},
		{"token hint", g.TokenHint, maxTokenHint},
		{"device name", g.Device.Name, maxDeviceName},
		{"user agent", g.Device.UserAgent, maxDeviceAgent},
		{"address", address(g.Device.Addr), maxDeviceAddr},
	} {
		switch {
		case !isText(text.value):
			return fmt.Errorf("sqlstore: the %s is not text: it must be UTF-8 without NUL", text.name)
		case len(text.value) > text.most:
			return fmt.Errorf("sqlstore: the %s has %d bytes; at most %d can be stored", text.name, len(text.value), text.most)
		}
	}
	return nil
}

func isText(s string) bool { return utf8.ValidString(s) && !strings.Contains(s, "\x00") }

// row is a grant as readGrant returns it.
type row struct {
	deviceCode, userCode      []byte
	id                        uuid.UUID
	clientID, scope, subject  string
	resource, details, hint   string
	device                    devicegrant.Device // but for the address
	addr                      []byte
	state                     devicegrant.State
	session                   []byte
	entered                   int
	created, expires, version int64
	pace                      paceRow
}

func (r *row) columns() []any {
	return []any{
		&r.deviceCode, &r.userCode, &r.id, &r.clientID, &r.scope, &r.resource, &r.details, &r.hint,
		&r.device.Name, &r.device.UserAgent, &r.addr, &r.state, &r.subject, &r.session, &r.entered, &r.created, &r.expires, &r.version,
		&r.pace.interval, &r.pace.onTime, &r.pace.last, &r.pace.repeated,
	}
}

func (r *row) read() (*devicegrant.Grant, error) {
	g := &devicegrant.Grant{
		ID: r.id, ClientID: r.clientID, Scope: r.scope, Resource: r.resource, AuthorizationDetails: r.details, TokenHint: r.hint,
		Device: r.device, State: r.state, Subject: r.subject, Entered: r.entered,
		CreatedAt: instant(r.created), ExpiresAt: instant(r.expires), Pace: r.pace.read(), Version: r.version,
	}
	copy(g.DeviceCode[:], r.deviceCode)
	copy(g.UserCode[:], r.userCode)
	copy(g.Session[:], r.session)
	if err := g.Device.Addr.UnmarshalText(r.addr); err != nil {
		return nil, err
	}
	return g, nil
}

// polledRow is what a poll returns, but for the client, which is who polls.
type polledRow struct {
	id      uuid.UUID
	state   devicegrant.State
	expires int64
	pace    paceRow
}

func (r *polledRow) columns() []any {
	return []any{&r.id, &r.state, &r.expires, &r.pace.interval, &r.pace.onTime, &r.pace.last, &r.pace.repeated}
}

func (r *polledRow) read() devicegrant.Polled {
	return devicegrant.Polled{ID: r.id, State: r.state, ExpiresAt: instant(r.expires), Pace: r.pace.read()}
}

// paceRow is a pace as it is stored.
type paceRow struct {
	interval     int64
	onTime, last sql.NullInt64
	repeated     bool
}

func (p *paceRow) read() devicegrant.Pace {
	pace := devicegrant.Pace{Interval: time.Duration(p.interval) * time.Microsecond, Repeated: p.repeated}
	if p.onTime.Valid {
		pace.OnTime = instant(p.onTime.Int64)
	}
	if p.last.Valid {
		pace.Last = instant(p.last.Int64)
	}
	return pace
}

func instant(micros int64) time.Time { return time.UnixMicro(micros).UTC() }

// micros stores the zero time as NULL.
func micros(t time.Time) sql.NullInt64 {
	return sql.NullInt64{Int64: t.UnixMicro(), Valid: !t.IsZero()}
}

// digest stores a user code that is free, of which there may be many, and a session that
// is none, as NULL.
func digest(d [32]byte) any {
	if d == [32]byte{} {
		return nil
	}
	return d[:]
}

// address is empty when there is none.
func address(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}
