package storetest

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/devicegrant/devicegrant"
)

var createClauses = []clause{
	{"stores every field", createStoresFields},
	{"stores what was asked for byte for byte", createStoresRequest},
	{"keeps no key", createKeepsNoKey},
	{"stores any state, session, version and pace", createStoresHistory},
	{"stores any device", createStoresDevice},
	{"keeps times as instants, to the microsecond", createKeepsInstants},
	{"tells codes apart byte for byte", createKeepsDigests},
	{"copies what it is given", createCopies},
	{"refuses a user code that is in use", createRefusesUsedCode},
	{"refuses a device code that is stored already", createRefusesUsedDeviceCode},
	{"takes a user code that Swap has freed", createTakesFreedCode},
	{"takes a user code that Purge has freed", createTakesPurgedCode},
}

func createRefusesUsedDeviceCode(s *suite) {
	first := s.store()
	second := s.grant(func(g *devicegrant.Grant) { g.DeviceCode = first.DeviceCode })
	given := *second
	if err := s.Create(s.Context(), &given); err == nil {
		s.Errorf("Create with a device code that is stored already succeeded, want an error")
	}
	s.wantStored("after a second Create with its device code", first)
	_, err := s.ByUserCode(s.Context(), second.UserCode)
	s.wantError("ByUserCode of the grant that was refused", err, devicegrant.ErrNotFound)
}

// texts are what goes wrong on its way into a database and back.
var texts = map[string]string{
	"empty":              "",
	"one space":          " ",
	"spaces around":      "  tv  ",
	"quotes":             `'; DROP TABLE grants; --" \' ` + "`x`",
	"backslashes":        `\ \\ \n \u0000 \x00`,
	"patterns":           `%s %d 100% _ * ? $1 :name @p1 ??`,
	"lines":              "one\ntwo\r\nthree\ttabbed",
	"markup":             `<b>&amp;</b>`,
	"accents":            "ÄÖÜß éèê Ωμέγα Привет 電視 텔레비전",
	"composed otherwise": "e\u0301 \u00e9",
	"beyond the BMP":     "📺🇨🇭 𝔘𝔫𝔦𝔠𝔬𝔡𝔢",
	"right to left":      "תלוויזיה \u202e تلفاز",
}

func createStoresFields(s *suite) {
	for name, text := range inOrder(texts) {
		g := s.store(func(g *devicegrant.Grant) { g.ClientID, g.Scope, g.Subject = "client "+text, text, text })
		s.wantStored("text: "+name, g)
	}
	long := strings.Repeat("https://example.com/scope/", 400) // 10 KB
	s.wantStored("a long scope", s.store(func(g *devicegrant.Grant) { g.Scope = long }))
	s.wantStored("a zero ID", s.store(func(g *devicegrant.Grant) { g.ID = uuid.Nil }))
}

func createStoresRequest(s *suite) {
	for name, text := range inOrder(texts) {
		g := s.store(func(g *devicegrant.Grant) {
			g.Resource, g.AuthorizationDetails, g.TokenHint = text, "details "+text, "hint "+text
		})
		s.wantStored("what was asked for is "+name, g)
	}
	s.wantStored("nothing was asked for", s.store(func(g *devicegrant.Grant) { g.Resource, g.AuthorizationDetails, g.TokenHint = "", "", "" }))
	s.wantStored("details that another writer of JSON would change", s.store(func(g *devicegrant.Grant) {
		g.AuthorizationDetails = "[ {\"type\":\"a\\u0062\",\"n\":1.50,\"b\":1e2 ,\"a\":\"/\\/\"}\r\n]"
	}))
	s.wantStored("as much as there can be", s.store(func(g *devicegrant.Grant) {
		g.Resource = strings.Repeat("x", 4<<10)
		g.AuthorizationDetails = strings.Repeat("€ ", 4<<10)
		g.TokenHint = strings.Repeat("ж", 512)
	}))
}

func createKeepsNoKey(s *suite) {
	want := s.grant()
	given := *want
	given.Key = devicegrant.Key{Method: devicegrant.KeyDPoP, Thumbprint: "thumbprint"}
	s.create(&given)
	s.wantStored("created with a key", want)
}

func createStoresHistory(s *suite) {
	for _, state := range states {
		g := s.store(func(g *devicegrant.Grant) {
			g.State, g.Subject, g.Version = state, "alice", 41
			g.Session, g.Entered = sessions[2], devicegrant.MaxEntered
			g.Pace = devicegrant.Pace{Interval: 15 * time.Second, OnTime: noon.Add(time.Second), Last: noon.Add(3 * time.Second), Repeated: true}
		})
		s.wantStored(fmt.Sprintf("created %v, at version 41, entered and polled before", state), g)
	}
	for _, session := range sessions {
		s.wantStored(fmt.Sprintf("created with the session %x", session), s.store(func(g *devicegrant.Grant) { g.Session = session }))
	}
}

// sessions are no session and digests, some of which a column that pads or trims takes for
// another.
var sessions = []devicegrant.SessionDigest{{}, {31: 1}, {0: 's'}, {0: ' ', 31: ' '}, {0: 0xff, 1: 0xfe, 31: '\\'}}

// elsewhere is another device than a grant of the tests has.
var elsewhere = devicegrant.Device{Name: "Office", UserAgent: "Printer/2.0", Addr: netip.IPv6Loopback()}

// devices are what a device says of itself, and where it may be.
func devices() map[string]devicegrant.Device {
	devices := map[string]devicegrant.Device{
		"nothing known":       {},
		"as long as they get": {Name: strings.Repeat("телефон ", 17) + "1", UserAgent: strings.Repeat("Mozilla/5.0 (TV) ", 31)[:512]},
	}
	for _, addr := range []string{
		"192.0.2.1", "0.0.0.0", "255.255.255.255", "2001:db8::1", "::", "2001:db8:1111:2222:3333:4444:5555:6666",
		"::ffff:192.0.2.1", // It is not the IPv4 address that is mapped.
	} {
		devices["at "+addr] = devicegrant.Device{Addr: netip.MustParseAddr(addr)}
	}
	for name, text := range texts {
		devices["text: "+name] = devicegrant.Device{Name: text, UserAgent: "agent " + text}
	}
	return devices
}

func createStoresDevice(s *suite) {
	for name, device := range inOrder(devices()) {
		s.wantStored("the device is "+name, s.store(func(g *devicegrant.Grant) { g.Device = device }))
	}
}

// instants are times that a Store which keeps what a wall clock shows, or too few
// digits, gives back wrong.
func instants() map[string]time.Time {
	winter, summer := time.FixedZone("CET", 3600), time.FixedZone("CEST", 7200)
	return map[string]time.Time{
		"UTC":                            noon,
		"a whole second":                 noon.Truncate(time.Second),
		"a microsecond past a second":    noon.Truncate(time.Second).Add(time.Microsecond),
		"a microsecond before a second":  noon.Truncate(time.Second).Add(-time.Microsecond),
		"east of Greenwich":              noon.In(time.FixedZone("", 14*3600)),
		"west of Greenwich":              noon.In(time.FixedZone("", -(11*3600 + 1800))),
		"the local zone":                 noon.Local(),
		"just before summer time":        time.Date(2026, time.March, 29, 1, 59, 59, 999999000, winter),
		"in the hour that summer skips":  time.Date(2026, time.March, 29, 1, 30, 0, 0, time.UTC),
		"just after summer time began":   time.Date(2026, time.March, 29, 3, 0, 0, 0, summer),
		"02:30 for the first time":       time.Date(2026, time.October, 25, 2, 30, 0, 0, summer),
		"02:30 again, after summer time": time.Date(2026, time.October, 25, 2, 30, 0, 0, winter),
		"a leap day":                     time.Date(2028, time.February, 29, 23, 59, 59, 0, time.UTC),
		"past 32-bit seconds":            time.Date(2040, time.January, 1, 0, 0, 0, 0, time.UTC),
	}
}

func createKeepsInstants(s *suite) {
	for name, at := range inOrder(instants()) {
		g := s.store(func(g *devicegrant.Grant) {
			g.CreatedAt, g.ExpiresAt = at, at.Add(lifetime)
			g.Pace = devicegrant.Pace{Interval: 5 * time.Second, OnTime: at, Last: at.Add(time.Second)}
		})
		s.wantStored("times given as "+name, g)
	}
	s.wantStored("never polled: OnTime and Last stay zero", s.store())
}

// createKeepsDigests has codes that a column which pads, trims or folds case takes
// for one another.
func createKeepsDigests(s *suite) {
	var stored []*devicegrant.Grant
	for _, b := range []byte{0x00, 0x01, 'a', 'A', ' ', '\\', 0x7f, 0x80, 0xff} {
		stored = append(stored,
			s.store(func(g *devicegrant.Grant) {
				g.DeviceCode, g.UserCode = [32]byte{31: b, 0: 'x'}, [32]byte{31: b, 0: 'x'}
			}),
			s.store(func(g *devicegrant.Grant) {
				g.DeviceCode, g.UserCode = [32]byte{0: b, 31: 'y'}, [32]byte{0: b, 31: 'y'}
			}))
	}
	for _, g := range stored {
		s.wantStored(fmt.Sprintf("among codes that differ in one byte, %x", g.UserCode), g)
	}
}

func createCopies(s *suite) {
	given := s.grant()
	want := *given
	if err := s.Create(s.Context(), given); err != nil {
		s.Fatalf("Create: %v", err)
	}
	if d := diff(given, &want); d != "" {
		s.Errorf("Create changed the grant it was given: %s", d)
	}
	spoil(given)
	s.wantStored("after the caller changed the grant it had given to Create", &want)
}

// spoil changes every field.
func spoil(g *devicegrant.Grant) {
	*g = devicegrant.Grant{
		ID: uuid.NewSHA1(uuid.NameSpaceOID, []byte("spoiled")), DeviceCode: [32]byte{1}, UserCode: [32]byte{1}, ClientID: "spoiled", Scope: "spoiled", Resource: "spoiled", AuthorizationDetails: "spoiled", TokenHint: "spoiled",
		Device: elsewhere, State: devicegrant.Denied, Subject: "spoiled", Session: [32]byte{1}, Entered: 7, CreatedAt: noon.Add(-time.Hour), ExpiresAt: noon.Add(time.Hour),
		Pace: devicegrant.Pace{Interval: time.Hour, OnTime: noon, Last: noon}, Version: 1000,
	}
}

func createRefusesUsedCode(s *suite) {
	firsts := map[string]func(*devicegrant.Grant){
		"pending":                    func(*devicegrant.Grant) {},
		"past its deadline":          func(g *devicegrant.Grant) { g.ExpiresAt = noon.Add(-24 * time.Hour) },
		"approved":                   func(g *devicegrant.Grant) { g.State = devicegrant.Approved },
		"denied":                     func(g *devicegrant.Grant) { g.State = devicegrant.Denied },
		"redeeming":                  func(g *devicegrant.Grant) { g.State = devicegrant.Redeeming },
		"redeemed, code still in it": func(g *devicegrant.Grant) { g.State = devicegrant.Redeemed },
	}
	for name, change := range inOrder(firsts) {
		first := s.swap(s.store(), change)
		second := s.grant(func(g *devicegrant.Grant) { g.UserCode = first.UserCode })
		err := s.Create(s.Context(), second)
		s.wantError("second Create with the user code of a grant that is "+name, err, devicegrant.ErrUserCodeExists)
		s.wantStored("the first of two with one user code, "+name, first)
		_, err = s.ByDeviceCode(s.Context(), second.DeviceCode)
		s.wantError("ByDeviceCode of a grant whose Create was refused", err, devicegrant.ErrNotFound)
	}
}

func createTakesFreedCode(s *suite) {
	first := s.store()
	code := first.UserCode
	first = s.swap(first, redeem)
	second := s.grant(func(g *devicegrant.Grant) { g.UserCode = code })
	if err := s.Create(s.Context(), second); err != nil {
		s.Fatalf("Create with a user code that Swap freed by writing the zero digest: %v", err)
	}
	s.wantStored("the new owner of a freed code", second)
	s.wantStored("the old owner, which has no code", first)

	first = s.swap(first, func(g *devicegrant.Grant) { g.ExpiresAt = noon.Add(-time.Hour) })
	s.wantStored("the new owner, after a Swap of the old", second)
	s.wantStored("the old owner, after a Swap of it", first)
	if n := s.purge(noon.Add(-time.Minute), 10); n != 1 {
		s.Errorf("Purge returned %d, want 1: the old owner", n)
	}
	s.wantStored("the new owner, after the old was purged", second)
}

// redeem is the change that ends a grant and frees its user code.
func redeem(g *devicegrant.Grant) { g.State, g.UserCode = devicegrant.Redeemed, noUserCode }

func createTakesPurgedCode(s *suite) {
	first := s.store()
	s.poll(first, noon)
	s.poll(first, noon.Add(time.Second))
	if n := s.purge(first.ExpiresAt.Add(time.Second), 10); n != 1 {
		s.Fatalf("Purge returned %d, want 1", n)
	}
	s.wantGone("after Purge", first)
	s.create(first)
	s.wantStored("the same grant created again after Purge (no pace is left over from before)", first)
}
