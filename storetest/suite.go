package storetest

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"iter"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/devicegrant/devicegrant"
)

// suite is one clause's test, the Store it runs on, and the short forms in which
// clauses are written. Its methods named for a Store's fail the test when the
// Store cannot do what it must be able to.
type suite struct {
	tb
	devicegrant.Store
	made int // grants, so that each is another
}

// noon is when the tests take place. It has microseconds, for a Store must keep
// them.
var noon = time.Date(2026, time.June, 1, 12, 0, 0, 123456000, time.UTC)

const lifetime = 10 * time.Minute

// states is every state of a grant.
var states = []devicegrant.State{devicegrant.Pending, devicegrant.Approved, devicegrant.Denied, devicegrant.Redeeming, devicegrant.Redeemed}

var (
	noDeviceCode devicegrant.DeviceCodeDigest
	noUserCode   devicegrant.UserCodeDigest
)

// grant returns a pending grant unlike every other of the test, changed by each
// of change. It is not stored.
func (s *suite) grant(change ...func(*devicegrant.Grant)) *devicegrant.Grant {
	s.made++
	g := &devicegrant.Grant{
		ID:                   uuid.NewSHA1(uuid.NameSpaceOID, fmt.Append(nil, s.made)),
		DeviceCode:           sha256.Sum256(fmt.Append(nil, "device", s.made)),
		UserCode:             sha256.Sum256(fmt.Append(nil, "user", s.made)),
		ClientID:             "tv",
		Scope:                "openid profile",
		Resource:             "https://api.example.com/ urn:example:films",
		AuthorizationDetails: `[{"type":"payment", "amount":"12.50 €"}]`,
		TokenHint:            "short-lived",
		Device:               devicegrant.Device{Name: "Kitchen", UserAgent: "TV/1.0", Addr: netip.AddrFrom4([4]byte{192, 0, 2, 1})},
		State:                devicegrant.Pending,
		CreatedAt:            noon,
		ExpiresAt:            noon.Add(lifetime),
		Pace:                 devicegrant.Pace{Interval: 5 * time.Second},
	}
	for _, f := range change {
		f(g)
	}
	return g
}

// store creates such a grant and returns what was created.
func (s *suite) store(change ...func(*devicegrant.Grant)) *devicegrant.Grant {
	s.Helper()
	g := s.grant(change...)
	s.create(g)
	return g
}

func (s *suite) create(g *devicegrant.Grant) {
	s.Helper()
	given := *g
	if err := s.Create(s.Context(), &given); err != nil {
		s.Fatalf("Create of a grant with new codes: %v", err)
	}
}

// read returns the grant as it is stored now.
func (s *suite) read(g *devicegrant.Grant) *devicegrant.Grant {
	s.Helper()
	got, err := s.ByDeviceCode(s.Context(), g.DeviceCode)
	if err != nil || got == nil {
		s.Fatalf("ByDeviceCode of a grant that is stored returned %v, %v", got, err)
	}
	return got
}

// swap changes the stored grant and returns what is stored then.
func (s *suite) swap(g *devicegrant.Grant, change func(*devicegrant.Grant)) *devicegrant.Grant {
	s.Helper()
	next := *s.read(g)
	change(&next)
	given := next
	if err := s.Swap(s.Context(), &given); err != nil {
		s.Fatalf("Swap of the grant just read: %v", err)
	}
	next.Version++
	return &next
}

func (s *suite) poll(g *devicegrant.Grant, now time.Time) devicegrant.Polled {
	s.Helper()
	got, err := s.Poll(s.Context(), g.DeviceCode, g.ClientID, now)
	if err != nil {
		s.Fatalf("Poll of a grant that is stored: %v", err)
	}
	return got
}

func (s *suite) purge(before time.Time, limit int) int {
	s.Helper()
	n, err := s.Purge(s.Context(), before, limit)
	if err != nil {
		s.Fatalf("Purge: %v", err)
	}
	return n
}

// wantStored demands that exactly want is stored, under its device code and,
// unless it has freed it, under its user code.
func (s *suite) wantStored(when string, want *devicegrant.Grant) {
	s.Helper()
	got, err := s.ByDeviceCode(s.Context(), want.DeviceCode)
	s.wantGrant(when+": ByDeviceCode", got, err, want)
	if want.UserCode != noUserCode {
		got, err = s.ByUserCode(s.Context(), want.UserCode)
		s.wantGrant(when+": ByUserCode", got, err, want)
	}
}

func (s *suite) wantGrant(what string, got *devicegrant.Grant, err error, want *devicegrant.Grant) {
	s.Helper()
	switch {
	case err != nil:
		s.Errorf("%s: error %q, want the grant", what, err)
	case got == nil:
		s.Errorf("%s: neither a grant nor an error", what)
	default:
		if d := diff(got, want); d != "" {
			s.Errorf("%s: wrong grant: %s", what, d)
		}
	}
}

// wantGone demands that the grant is found under neither code.
func (s *suite) wantGone(when string, g *devicegrant.Grant) {
	s.Helper()
	_, err := s.ByDeviceCode(s.Context(), g.DeviceCode)
	s.wantError(when+": ByDeviceCode", err, devicegrant.ErrNotFound)
	_, err = s.ByUserCode(s.Context(), g.UserCode)
	s.wantError(when+": ByUserCode", err, devicegrant.ErrNotFound)
}

func (s *suite) wantError(what string, err, want error) {
	s.Helper()
	if !errors.Is(err, want) {
		s.Errorf("%s: error %v, want one that is %q", what, err, want)
	}
}

// wantPolled demands what a Poll must say of want, whose Pace is the one that
// resulted.
func (s *suite) wantPolled(what string, got devicegrant.Polled, want *devicegrant.Grant) {
	s.Helper()
	seen := *want // Polled is a part of a Grant; the rest cannot differ.
	seen.ID, seen.ClientID, seen.State, seen.ExpiresAt, seen.Pace = got.ID, got.ClientID, got.State, got.ExpiresAt, got.Pace
	if d := diff(&seen, want); d != "" {
		s.Errorf("%s: wrong answer: %s", what, d)
	}
}

// diff says how got differs from want, field by field; empty if it does not.
// Times are compared as instants, for a Store need not keep their zones.
func diff(got, want *devicegrant.Grant) string {
	var d differences
	compare(&d, "ID", got.ID, want.ID)
	compare(&d, "DeviceCode", got.DeviceCode, want.DeviceCode)
	compare(&d, "UserCode", got.UserCode, want.UserCode)
	compare(&d, "ClientID", got.ClientID, want.ClientID)
	compare(&d, "Scope", got.Scope, want.Scope)
	compare(&d, "Resource", got.Resource, want.Resource)
	compare(&d, "AuthorizationDetails", got.AuthorizationDetails, want.AuthorizationDetails)
	compare(&d, "TokenHint", got.TokenHint, want.TokenHint)
	compare(&d, "Key", got.Key, want.Key)
	compare(&d, "Device.Name", got.Device.Name, want.Device.Name)
	compare(&d, "Device.UserAgent", got.Device.UserAgent, want.Device.UserAgent)
	compare(&d, "Device.Addr", got.Device.Addr, want.Device.Addr)
	compare(&d, "State", got.State, want.State)
	compare(&d, "Subject", got.Subject, want.Subject)
	compare(&d, "Session", got.Session, want.Session)
	compare(&d, "Entered", got.Entered, want.Entered)
	compareTime(&d, "CreatedAt", got.CreatedAt, want.CreatedAt)
	compareTime(&d, "ExpiresAt", got.ExpiresAt, want.ExpiresAt)
	comparePace(&d, got.Pace, want.Pace)
	compare(&d, "Version", got.Version, want.Version)
	return strings.Join(d, "; ")
}

func diffPace(got, want devicegrant.Pace) string {
	var d differences
	comparePace(&d, got, want)
	return strings.Join(d, "; ")
}

type differences []string

func comparePace(d *differences, got, want devicegrant.Pace) {
	compare(d, "Pace.Interval", got.Interval, want.Interval)
	compareTime(d, "Pace.OnTime", got.OnTime, want.OnTime)
	compareTime(d, "Pace.Last", got.Last, want.Last)
	compare(d, "Pace.Repeated", got.Repeated, want.Repeated)
}

func compare[T comparable](d *differences, field string, got, want T) {
	if got != want {
		*d = append(*d, fmt.Sprintf("%s is %s, want %s", field, show(got), show(want)))
	}
}

func compareTime(d *differences, field string, got, want time.Time) {
	switch {
	case got.Equal(want):
	case got.IsZero() || want.IsZero():
		*d = append(*d, fmt.Sprintf("%s is %s, want %s", field, show(got), show(want)))
	default:
		*d = append(*d, fmt.Sprintf("%s is %s, want %s (off by %v)", field, show(got), show(want), got.Sub(want)))
	}
}

// inOrder goes through a table by name, so that every run is the same.
func inOrder[V any](table map[string]V) iter.Seq2[string, V] {
	return func(yield func(string, V) bool) {
		for _, name := range slices.Sorted(maps.Keys(table)) {
			if !yield(name, table[name]) {
				return
			}
		}
	}
}

// show prints a value so that it can be told from its like.
func show(v any) string {
	switch v := v.(type) {
	case string:
		if len(v) > 80 {
			return fmt.Sprintf("%.40q… (%d bytes)", v, len(v))
		}
		return fmt.Sprintf("%q", v)
	case devicegrant.DeviceCodeDigest, devicegrant.UserCodeDigest, devicegrant.SessionDigest:
		return fmt.Sprintf("%x", v)
	case time.Time:
		if v.IsZero() {
			return "the zero time"
		}
		return v.Format(time.RFC3339Nano)
	default:
		return fmt.Sprint(v)
	}
}
