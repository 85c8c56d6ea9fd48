package sqlstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/devicegrant/devicegrant"
)

// What can be said without a database. The rest is in the integration module.

var dialects = []Dialect{PostgreSQL, MySQL, SQLite}

func TestConfig(t *testing.T) {
	for name, tt := range map[string]struct {
		cfg     Config
		dialect Dialect
		want    []string // in the error; none without one
	}{
		"zero":                      {Config{}, PostgreSQL, nil},
		"a prefix":                  {Config{Prefix: "auth_2_", Timeout: time.Nanosecond}, MySQL, nil},
		"underscores":               {Config{Prefix: "__"}, SQLite, nil},
		"30 characters":             {Config{Prefix: strings.Repeat("a", 30)}, SQLite, nil},
		"31 characters":             {Config{Prefix: strings.Repeat("a", 31)}, SQLite, []string{"Prefix", "at most 30"}},
		"a digit first":             {Config{Prefix: "2fa_"}, SQLite, []string{`"2fa_"`}},
		"upper case":                {Config{Prefix: "Auth_"}, SQLite, []string{`"Auth_"`}},
		"a quote":                   {Config{Prefix: `a"; DROP TABLE users; --`}, SQLite, []string{"Prefix"}},
		"a schema":                  {Config{Prefix: "auth.dg_"}, SQLite, []string{"Prefix"}},
		"a line":                    {Config{Prefix: "a\n"}, SQLite, []string{"Prefix"}},
		"no ASCII":                  {Config{Prefix: "größe_"}, SQLite, []string{"Prefix"}},
		"a negative timeout":        {Config{Timeout: -time.Second}, SQLite, []string{"Timeout is -1s"}},
		"no dialect":                {Config{}, Dialect{}, []string{"use PostgreSQL, MySQL or SQLite"}},
		"all of it is said at once": {Config{Prefix: "-", Timeout: -1}, Dialect{}, []string{"dialect", "Prefix", "Timeout"}},
	} {
		t.Run(name, func(t *testing.T) {
			db := (&fakeDatabase{}).open(t)
			_, newErr := New(db, tt.dialect, tt.cfg)
			_, schemaErr := Schema(tt.dialect, tt.cfg)
			createErr := CreateSchema(t.Context(), db, tt.dialect, tt.cfg)
			if tt.want == nil {
				assert.NoError(t, schemaErr)
				return
			}
			for _, err := range []error{newErr, schemaErr, createErr} {
				for _, want := range tt.want {
					assert.ErrorContains(t, err, want)
				}
			}
		})
	}
	cfg, err := Config{}.withDefaults(SQLite)
	require.NoError(t, err)
	assert.Equal(t, Config{Prefix: "devicegrant_", Timeout: 5 * time.Second}, cfg)
}

func TestDialectNames(t *testing.T) {
	assert.Equal(t, "[postgresql mysql sqlite]", fmt.Sprint(dialects))
	assert.Equal(t, "no dialect", Dialect{}.String())
}

// created finds what a statement of a schema creates, and the names it uses.
var (
	created = regexp.MustCompile(`CREATE (?:UNLOGGED |UNIQUE )?(TABLE|INDEX|PROCEDURE|TRIGGER) IF NOT EXISTS (\w+)`)
	named   = regexp.MustCompile(`\b\w+_(?:schema|grants|polls|tallies|purge|grants_\w+|polls_\w+|tallies_\w+)\b`)
)

func TestSchema(t *testing.T) {
	for _, d := range dialects {
		t.Run(d.String(), func(t *testing.T) {
			plain, err := Schema(d, Config{})
			require.NoError(t, err)
			prefixed, err := Schema(d, Config{Prefix: "dg7_"})
			require.NoError(t, err)
			assert.Equal(t, plain, strings.ReplaceAll(prefixed, "dg7_", defaultPrefix), "nothing else differs")

			code := regexp.MustCompile(`(?m)--.*$`).ReplaceAllString(prefixed, "")
			assert.NotContains(t, code, "devicegrant")
			things := created.FindAllStringSubmatch(code, -1)
			assert.Len(t, things, strings.Count(code, "CREATE "), "all can be applied again")
			for _, thing := range things {
				assert.True(t, strings.HasPrefix(thing[2], "dg7_"), thing[2])
			}
			for _, name := range named.FindAllString(code, -1) {
				assert.True(t, strings.HasPrefix(name, "dg7_"), name)
			}
			for _, text := range statements(t, d, "dg7_") {
				assert.NotContains(t, text, "devicegrant")
				assert.Contains(t, text, "dg7_")
			}
		})
	}
}

// statements are those that a Store of the dialect uses.
func statements(t *testing.T, d Dialect, prefix string) map[string]string {
	t.Helper()
	q, err := newQueries(t.Context(), (&fakeDatabase{}).open(t), d, prefix)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, q.close()) })
	texts := map[string]string{
		"pollAgain": q.pollAgain.text, "look": q.look.text, "pollManyAgain": q.pollManyAgain.text, "pollMany": q.pollMany.text, "savePace": q.savePace.text, "saveInterval": q.saveInterval.text,
		"create": q.create.text, "byUserCode": q.byUserCode.text, "byDeviceCode": q.byDeviceCode.text, "list": q.list.text, "poll": q.poll.text,
		"swap": q.swap.text, "purge": q.purge.text, "lock": q.lock.text, "receipt": q.receipt.text,
		"tallies": q.tallies.text, "insertTally": q.insertTally.text, "updateTally": q.updateTally.text, "purgeTallies": q.purgeTallies.text,
	}
	maps.DeleteFunc(texts, func(_, text string) bool { return text == "" }) // What the dialect has no use for.
	return texts
}

// Every dialect takes the same arguments, and leaves no gap of a text's unfilled.
func TestStatements(t *testing.T) {
	arguments := map[string]int{
		"create": 22, "byUserCode": 1, "byDeviceCode": 1, "list": 7, "poll": 3, "swap": 10, "purge": 2, "lock": 2, "receipt": 2,
		"tallies": devicegrant.MaxTallies, "insertTally": 4, "updateTally": 5, "purgeTallies": 2,
		"pollAgain": 3, "savePace": 8, "saveInterval": 3,
	}
	for _, d := range dialects {
		arguments["pollMany"] = len(d.pollArgs(nil))
		arguments["look"], arguments["pollManyAgain"] = arguments["pollMany"], arguments["pollMany"]
		for name, text := range statements(t, d, defaultPrefix) {
			most, plain := 0, strings.Count(text, "?")
			for _, numbered := range regexp.MustCompile(`[?$]\d+`).FindAllString(text, -1) {
				var n int
				_, err := fmt.Sscanf(numbered[1:], "%d", &n)
				require.NoError(t, err)
				most = max(most, n)
			}
			if most == 0 {
				most = plain
			}
			assert.Equal(t, arguments[name], most, "%v: %s", d, name)
			assert.NotRegexp(t, `[{}]`, text, "%v: %s", d, name)
			assert.Equal(t, d.numbered, strings.Contains(text, "$1"), "%v: %s", d, name)
			if d.numbered {
				assert.NotContains(t, text, "?")
			}
		}
	}
	assert.Equal(t, "a = $1 AND b = $2 AND c = $3", number("a = ? AND b = ? AND c = ?"))
	assert.Equal(t, "nothing", number("nothing"))
}

func TestSplit(t *testing.T) {
	for name, tt := range map[string]struct {
		text string
		want []string
	}{
		"nothing":             {"", nil},
		"only a comment":      {"-- a comment;\n\n", nil},
		"one":                 {"SELECT 1;\n", []string{"SELECT 1"}},
		"no line at the end":  {"SELECT 1;", []string{"SELECT 1"}},
		"several lines":       {"SELECT\n  1\n;\n", []string{"SELECT\n  1\n"}},
		"a comment inside":    {"SELECT -- one;  \n  1;\n", []string{"SELECT -- one;  \n  1"}},
		"a delimiter inside":  {"SELECT ';', 1;\n", []string{"SELECT ';', 1"}},
		"two, and a comment":  {"SELECT 1;\n-- two;\n\nSELECT 2;\n", []string{"SELECT 1", "SELECT 2"}},
		"another delimiter":   {"DELIMITER //\nBEGIN;\nEND//\nDELIMITER ;\nSELECT 1;\n", []string{"BEGIN;\nEND", "SELECT 1"}},
		"a trigger in a line": {"CREATE TRIGGER x\nBEGIN DELETE FROM y; END;\n", []string{"CREATE TRIGGER x\nBEGIN DELETE FROM y; END"}},
	} {
		assert.Equal(t, tt.want, split(tt.text), name)
	}
}

// Every statement of the schemas is whole, and none is lost.
func TestSplitSchemas(t *testing.T) {
	for d, want := range map[Dialect]int{PostgreSQL: 8, MySQL: 8, SQLite: 8} {
		text, err := Schema(d, Config{})
		require.NoError(t, err)
		got := split(text)
		assert.Len(t, got, want, d)
		assert.True(t, strings.HasPrefix(got[0], "CREATE TABLE IF NOT EXISTS devicegrant_schema ("), "it is created before it is asked: %s", got[0])
		last := got[len(got)-1]
		assert.Contains(t, last, "INTO devicegrant_schema (version) VALUES (1)", "it says last that all is there")
		assert.Contains(t, last, fmt.Sprint("(", SchemaVersion, ")"))
		for _, statement := range got {
			assert.Regexp(t, `^(CREATE|INSERT) `, statement)
			assert.NotContains(t, statement, "DELIMITER")
			assert.NotContains(t, statement, "//")
			assert.Equal(t, strings.Count(statement, "("), strings.Count(statement, ")"), statement)
		}
		kept := strings.Join(got, "")
		for _, line := range strings.Split(text, "\n") {
			if line != "" && !strings.HasPrefix(line, "--") && !strings.HasPrefix(line, "DELIMITER") {
				assert.Contains(t, kept, strings.TrimRight(line, ";/"))
			}
		}
	}
}

func TestCheckText(t *testing.T) {
	long := func(n int) string { return strings.Repeat("x", n) }
	for name, tt := range map[string]struct {
		g    devicegrant.Grant
		want string // in the error; empty without one
	}{
		"empty":                     {devicegrant.Grant{}, ""},
		"all there is in Unicode":   {devicegrant.Grant{ClientID: "📺 \u202e ÄÖ", Subject: "'\"`\\%_\n\x01\x7f", Scope: "\ufffd \U0010ffff"}, ""},
		"as long as may be":         {devicegrant.Grant{ClientID: long(1024), Subject: long(1024), Scope: long(65535)}, ""},
		"all of the tokens":         {devicegrant.Grant{Resource: long(4096), AuthorizationDetails: long(16384), TokenHint: long(1024)}, ""},
		"a client id too long":      {devicegrant.Grant{ClientID: long(1025)}, "the client id has 1025 bytes; at most 1024"},
		"a subject too long":        {devicegrant.Grant{Subject: long(1025)}, "the subject has 1025 bytes"},
		"a scope too long":          {devicegrant.Grant{Scope: long(65536)}, "the scope has 65536 bytes; at most 65535"},
		"a resource too long":       {devicegrant.Grant{Resource: long(4097)}, "the resource has 4097 bytes; at most 4096"},
		"details too long":          {devicegrant.Grant{AuthorizationDetails: long(16385)}, "the value of authorization_details has 16385 bytes; at most 16384"},
		"a hint too long":           {devicegrant.Grant{TokenHint: long(1025)}, "the token hint has 1025 bytes; at most 1024"},
		"a NUL in the resource":     {devicegrant.Grant{Resource: "urn:\x00"}, "the resource is not text"},
		"details that are no UTF-8": {devicegrant.Grant{AuthorizationDetails: "[\xff]"}, "the value of authorization_details is not text"},
		"a NUL in the hint":         {devicegrant.Grant{TokenHint: "\x00"}, "the token hint is not text"},
		"too long in bytes only":    {devicegrant.Grant{Subject: strings.Repeat("ü", 513)}, "1026 bytes"},
		"a NUL in the client id":    {devicegrant.Grant{ClientID: "a\x00b"}, "the client id is not text"},
		"a NUL in the subject":      {devicegrant.Grant{Subject: "\x00"}, "the subject is not text"},
		"a NUL in the scope":        {devicegrant.Grant{Scope: "openid\x00"}, "the scope is not text"},
		"a scope that is no UTF-8":  {devicegrant.Grant{Scope: "\xff"}, "the scope is not text"},
		"a device in full": {devicegrant.Grant{Device: devicegrant.Device{
			Name: long(256), UserAgent: long(512), Addr: netip.MustParseAddr("2001:db8:1111:2222:3333:4444:5555:6666%" + long(24)),
		}}, ""},
		"a device's name too long":     {devicegrant.Grant{Device: devicegrant.Device{Name: long(257)}}, "the device name has 257 bytes; at most 256"},
		"a user agent too long":        {devicegrant.Grant{Device: devicegrant.Device{UserAgent: long(513)}}, "the user agent has 513 bytes; at most 512"},
		"an address too long":          {devicegrant.Grant{Device: devicegrant.Device{Addr: netip.MustParseAddr("::1%" + long(61))}}, "the address has 65 bytes; at most 64"},
		"a NUL in a device's name":     {devicegrant.Grant{Device: devicegrant.Device{Name: "\x00"}}, "the device name is not text"},
		"a user agent that's no UTF-8": {devicegrant.Grant{Device: devicegrant.Device{UserAgent: "\xff"}}, "the user agent is not text"},
		"a NUL in an address's zone":   {devicegrant.Grant{Device: devicegrant.Device{Addr: netip.MustParseAddr("::1%\x00")}}, "the address is not text"},
		"half a surrogate":             {devicegrant.Grant{Subject: "\xed\xa0\x80"}, "the subject is not text"},
	} {
		err := checkText(&tt.g)
		if tt.want == "" {
			assert.NoError(t, err, name)
		} else {
			assert.ErrorContains(t, err, tt.want, name)
		}
	}
}

// Text that cannot be stored is refused without asking the database.
func TestBadTextIsNotSent(t *testing.T) {
	db := &fakeDatabase{}
	s := db.store(t, SQLite)
	sent := db.sent()
	bad := &devicegrant.Grant{Subject: "\x00"}
	require.ErrorContains(t, s.Create(t.Context(), bad), "not text")
	require.ErrorContains(t, s.Swap(t.Context(), bad), "not text")
	require.ErrorContains(t, s.Transactional().Redeem(t.Context(), bad, nil), "not text")
	assert.Equal(t, sent, db.sent())
}

// Nor is the database asked for grants of whom none can be.
func TestListOfBadTextIsEmpty(t *testing.T) {
	db := &fakeDatabase{}
	s := db.store(t, SQLite)
	sent := db.sent()
	for _, bad := range []string{"a\x00", "\xff", strings.Repeat("x", maxName+1)} {
		for _, q := range []devicegrant.ListQuery{{ClientID: bad, Limit: 1}, {Subject: bad, Limit: 1}} {
			list, err := s.List(t.Context(), q)
			require.NoError(t, err)
			assert.Empty(t, list)
		}
	}
	assert.Equal(t, sent, db.sent())
	_, err := s.List(t.Context(), devicegrant.ListQuery{ClientID: "tv", Limit: 1})
	require.ErrorContains(t, err, "sqlstore: list: ", "the database's answer is no grant")
}

func TestTimes(t *testing.T) {
	at := time.Date(2026, time.October, 25, 2, 30, 0, 123456789, time.FixedZone("CEST", 7200))
	stored := micros(at)
	assert.Equal(t, sql.NullInt64{Int64: 1792888200123456, Valid: true}, stored)
	assert.True(t, at.Truncate(time.Microsecond).Equal(instant(stored.Int64)))
	assert.Equal(t, time.UTC, instant(0).Location())
	assert.False(t, micros(time.Time{}).Valid)
	assert.Equal(t, devicegrant.Pace{Interval: 5 * time.Second}, (&paceRow{interval: 5e6}).read(), "never polled")
}

// stateError is an error as the drivers of PostgreSQL have them.
type stateError string

func (s stateError) Error() string    { return "ERROR: " + string(s) }
func (s stateError) SQLState() string { return string(s) }

// What a database rolled back because of others can be tried again, and nothing else.
func TestLost(t *testing.T) {
	for d, errs := range map[Dialect]map[error]bool{
		PostgreSQL: {
			stateError("40P01"): true, stateError("40001"): true, stateError("23505"): false, stateError("57014"): false,
			errors.New("deadlock detected (40P01)"): false,
		},
		MySQL: {
			errors.New("Error 1213 (40001): Deadlock found when trying to get lock"): true,
			errors.New("Error 1205 (HY000): Lock wait timeout exceeded"):             false,
			errors.New("invalid connection"):                                         false,
		},
		SQLite: {
			errors.New("database is locked (5) (SQLITE_BUSY)"):             true,
			errors.New("database is locked"):                               true,
			errors.New("database table is locked: devicegrant_grants"):     true,
			errors.New("database schema is locked: main"):                  false,
			errors.New("constraint failed: UNIQUE constraint failed (19)"): false,
		},
	} {
		for err, want := range errs {
			assert.Equal(t, want, d.lost(err), "%v: %v", d, err)
			assert.Equal(t, want, d.lost(fmt.Errorf("wrapped: %w", err)), "%v: %v, wrapped", d, err)
		}
		assert.False(t, d.lost(context.DeadlineExceeded))
		assert.False(t, d.lost(driver.ErrBadConn))
	}
}

func TestRepeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		errLost := errors.New("lost")
		lost := func(err error) bool { return errors.Is(err, errLost) }
		calls := 0
		require.NoError(t, repeat(t.Context(), lost, func(context.Context) error {
			if calls++; calls < 4 {
				return errLost
			}
			return nil
		}))
		assert.Equal(t, 4, calls)

		calls = 0
		require.ErrorIs(t, repeat(t.Context(), lost, func(context.Context) error { calls++; return io.ErrUnexpectedEOF }), io.ErrUnexpectedEOF)
		assert.Equal(t, 1, calls, "only what is lost is tried again")

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		calls = 0
		err := repeat(ctx, lost, func(context.Context) error { calls++; return errLost })
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorIs(t, err, errLost)
		assert.Less(t, calls, 200, "it does not spin")
		assert.Greater(t, calls, 20, "it does not give up")
	})
}

func TestWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var everybody writer
		require.NoError(t, everybody.lock(t.Context()))
		require.NoError(t, everybody.lock(t.Context()))
		everybody.unlock()

		one := make(writer, 1)
		require.NoError(t, one.lock(t.Context()))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, one.lock(ctx), context.DeadlineExceeded)
		one.unlock()
		require.NoError(t, one.lock(t.Context()))
	})
}

// The contract's errors are not wrapped; all others say which call failed.
func TestErrOp(t *testing.T) {
	for _, err := range []error{nil, devicegrant.ErrNotFound, devicegrant.ErrConflict, devicegrant.ErrUserCodeExists} {
		assert.Equal(t, err, errOp("swap", err))
	}
	err := errOp("swap", io.ErrUnexpectedEOF)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	assert.EqualError(t, err, "sqlstore: swap: unexpected EOF")
}

func TestTxOutsideOfRedeem(t *testing.T) { assert.Nil(t, Tx(t.Context())) }

func TestDigest(t *testing.T) {
	assert.Nil(t, digest(devicegrant.UserCodeDigest{}))
	assert.Nil(t, digest(devicegrant.SessionDigest{}))
	assert.Len(t, digest(devicegrant.UserCodeDigest{31: 1}), 32)
	for _, d := range dialects {
		assert.Len(t, fmt.Sprint(d.id(uuid.Max)), map[Dialect]int{PostgreSQL: 36, MySQL: 65, SQLite: 65}[d], "%v", d) // Text, or 16 bytes.
	}
}

// An address is stored as text that is read as the same address, and none is empty.
func TestAddress(t *testing.T) {
	assert.Empty(t, address(netip.Addr{}))
	for _, text := range []string{"", "192.0.2.1", "::", "2001:db8::1", "::ffff:192.0.2.1", "fe80::1%eth0", "::ffff:192.0.2.1%a%b"} {
		var addr netip.Addr
		require.NoError(t, addr.UnmarshalText([]byte(text)))
		g, err := (&row{addr: []byte(address(addr))}).read()
		require.NoError(t, err)
		assert.Equal(t, addr, g.Device.Addr)
	}
	g, err := (&row{addr: []byte("example.com")}).read()
	require.ErrorContains(t, err, "example.com")
	assert.Nil(t, g)
}

// What cannot be read at once is refused, and nothing is read without asking.
func TestTalliesAreFew(t *testing.T) {
	db := &fakeDatabase{}
	s := db.store(t, SQLite)
	sent := db.sent()
	tallies, err := s.Tallies(t.Context(), nil)
	require.NoError(t, err)
	assert.Empty(t, tallies)
	_, err = s.Tallies(t.Context(), make([]devicegrant.TallyKey, devicegrant.MaxTallies+1))
	require.ErrorContains(t, err, "7 tallies are asked for; at most 6")
	assert.Equal(t, sent, db.sent())

	keys := []devicegrant.TallyKey{{1}, {2}}
	assert.Equal(t, []any{keys[0][:], keys[1][:], keys[1][:], keys[1][:], keys[1][:], keys[1][:]}, tallyArgs(keys))
}

func TestNewRefuses(t *testing.T) {
	for name, tt := range map[string]struct {
		database func() *fakeDatabase
		want     string
	}{
		"a database that is away": {
			func() *fakeDatabase { return &fakeDatabase{connectErr: errors.New("connection refused")} }, "connection refused",
		},
		"one without tables": {
			func() *fakeDatabase { return &fakeDatabase{queryErr: errors.New("no such table")} },
			"which CreateSchema or your migrations have to create first: no such table",
		},
		"tables that are not all": {
			func() *fakeDatabase { return &fakeDatabase{version: -1} }, "the schema is not complete; apply it with CreateSchema",
		},
		"a later version": {
			func() *fakeDatabase { return &fakeDatabase{version: 2} }, "version 2, and this package works with version 1",
		},
		"statements it cannot take": {
			func() *fakeDatabase { return &fakeDatabase{refuse: "SELECT receipt FROM"} }, "sqlstore: prepare: syntax error",
		},
	} {
		for _, d := range dialects {
			database := tt.database()
			if database.refuse != "" && !d.prepares {
				continue
			}
			t.Run(name+"/"+d.String(), func(t *testing.T) {
				db := database.open(t)
				s, err := New(db, d, Config{})
				require.ErrorContains(t, err, tt.want)
				assert.Nil(t, s)
				assert.Zero(t, db.Stats().InUse)
				assert.Zero(t, database.prepared(), "statements are left open")
			})
		}
	}
}

// A database that does not answer does not keep New.
func TestNewIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := (&fakeDatabase{silent: true}).open(t)
		start := time.Now()
		_, err := New(db, SQLite, Config{})
		require.ErrorIs(t, err, context.DeadlineExceeded)
		assert.Equal(t, time.Minute, time.Since(start))
		assert.NoError(t, db.Close())
		synctest.Wait()
	})
}

func TestCloseReleasesStatements(t *testing.T) {
	for _, d := range dialects {
		database := &fakeDatabase{}
		db := database.open(t)
		s, err := New(db, d, Config{})
		require.NoError(t, err)
		want := map[Dialect]int{PostgreSQL: 0, MySQL: 17, SQLite: 16}
		assert.Equal(t, want[d], database.prepared(), d)
		require.NoError(t, s.Close())
		assert.Zero(t, database.prepared())
		assert.NoError(t, db.PingContext(t.Context()), "the database stays open")
	}
}

// A CreateSchema that finds another version changes nothing.
func TestCreateSchemaRefusesAnotherVersion(t *testing.T) {
	for _, d := range dialects {
		database := &fakeDatabase{version: 7}
		err := CreateSchema(t.Context(), database.open(t), d, Config{})
		require.ErrorContains(t, err, "creating the schema: the schema in the database is version 7")
		for _, text := range database.sent() {
			assert.NotContains(t, text, "devicegrant_grants", d)
			assert.NotContains(t, text, "INSERT", d)
		}
	}
}

// A CreateSchema that fails halfway lets go of its lock, and says why it failed.
func TestCreateSchemaFails(t *testing.T) {
	for d, undo := range map[Dialect]string{PostgreSQL: "rollback", MySQL: "DO RELEASE_LOCK('devicegrant_schema')", SQLite: "ROLLBACK"} {
		database := &fakeDatabase{version: -1, refuse: "devicegrant_polls ("}
		db := database.open(t)
		require.ErrorContains(t, CreateSchema(t.Context(), db, d, Config{}), "creating the schema: syntax error", d)
		sent := database.sent()
		assert.Equal(t, undo, sent[len(sent)-1], d)
		assert.Zero(t, db.Stats().InUse, d)
	}
}

// fakeDatabase takes every statement. To every query it answers a row with its version.
type fakeDatabase struct {
	connectErr, queryErr error
	version              int64  // zero means the right one, negative means none
	refuse               string // what a statement has in it that is a syntax error
	silent               bool   // Queries are not answered.

	mu    sync.Mutex
	texts []string
	stmts int // prepared now
}

func (d *fakeDatabase) open(t testing.TB) *sql.DB {
	db := sql.OpenDB(d)
	t.Cleanup(func() { assert.NoError(t, db.Close()) })
	return db
}

func (d *fakeDatabase) store(t testing.TB, dialect Dialect) *Store {
	t.Helper()
	s, err := New(d.open(t), dialect, Config{})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, s.Close()) })
	return s
}

// sent returns every statement so far.
func (d *fakeDatabase) sent() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]string(nil), d.texts...)
}

// prepared returns how many statements are prepared now.
func (d *fakeDatabase) prepared() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.stmts
}

func (d *fakeDatabase) take(text string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.texts = append(d.texts, text)
	if d.refuse != "" && strings.Contains(text, d.refuse) {
		return errors.New("syntax error")
	}
	return nil
}

func (d *fakeDatabase) Connect(context.Context) (driver.Conn, error) {
	if d.connectErr != nil {
		return nil, d.connectErr
	}
	return fakeConn{d}, nil
}

func (d *fakeDatabase) Driver() driver.Driver { return nil }

type fakeConn struct{ *fakeDatabase }

func (fakeConn) Close() error                { return nil }
func (c fakeConn) Begin() (driver.Tx, error) { return c, nil }
func (c fakeConn) Commit() error             { return c.take("commit") }
func (c fakeConn) Rollback() error           { return c.take("rollback") }

func (c fakeConn) Prepare(text string) (driver.Stmt, error) {
	if err := c.take(text); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stmts++
	return fakeStmt{c}, nil
}

func (c fakeConn) ExecContext(_ context.Context, text string, _ []driver.NamedValue) (driver.Result, error) {
	return driver.RowsAffected(1), c.take(text)
}

func (c fakeConn) QueryContext(ctx context.Context, text string, _ []driver.NamedValue) (driver.Rows, error) {
	if c.silent {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if err := errors.Join(c.queryErr, c.take(text)); err != nil {
		return nil, err
	}
	version := c.version
	switch {
	case strings.Contains(text, "GET_LOCK"), version == 0:
		version = 1
	case version < 0:
		version = 0
	}
	return &fakeRows{version: version}, nil
}

type fakeStmt struct{ fakeConn }

func (s fakeStmt) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stmts--
	return nil
}

func (fakeStmt) NumInput() int                              { return -1 }
func (fakeStmt) Exec([]driver.Value) (driver.Result, error) { return driver.RowsAffected(1), nil }
func (fakeStmt) Query([]driver.Value) (driver.Rows, error)  { return &fakeRows{version: 1}, nil }

type fakeRows struct {
	version int64
	over    bool
}

func (*fakeRows) Columns() []string { return []string{"version"} }
func (*fakeRows) Close() error      { return nil }

func (r *fakeRows) Next(row []driver.Value) error {
	if r.over {
		return io.EOF
	}
	r.over, row[0] = true, r.version
	return nil
}
