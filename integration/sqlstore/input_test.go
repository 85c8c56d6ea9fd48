package sqlstore_test

import (
	"database/sql"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/devicegrant/devicegrant"
	"github.com/devicegrant/devicegrant/integration/internal/databases"
	"github.com/devicegrant/devicegrant/sqlstore"
)

var (
	nul      = "a\x00b"
	notUTF8  = "a\xff\xfeb"
	megabyte = strings.Repeat("scope ", 1<<20/6)
)

// odd is text that is stored as it is.
var odd = []string{
	`it's "quoted" \ %s ? $1 :name @x -- /* ; DROP TABLE devicegrant_grants`, "`backticks`", "\n\r\t\x1a\b", " spaces ", "Ünïcode 💡 \u2028", "%00",
}

// A Store stores text as it is, or says what is wrong with it and stores nothing.
func TestOddText(t *testing.T) {
	for _, kind := range databases.EachDriver {
		t.Run(kind.Name, func(t *testing.T) {
			t.Parallel()
			db := kind.Open(t, kind.Create(t))
			store := kind.NewStore(t, db, sqlstore.Config{})
			for i, text := range odd {
				g := newGrant(byte(i + 1))
				g.ClientID, g.Scope, g.Subject = text, text, text
				g.Resource, g.AuthorizationDetails, g.TokenHint = text, text, text
				g.Device = devicegrant.Device{Name: text, UserAgent: text, Addr: netip.MustParseAddr(`::ffff:192.0.2.1%eth0'"\?$1`)}
				require.NoError(t, store.Create(t.Context(), g))
				got, err := store.ByUserCode(t.Context(), g.UserCode)
				require.NoError(t, err)
				assert.Equal(t, []string{text, text, text}, []string{got.ClientID, got.Scope, got.Subject})
				assert.Equal(t, []string{text, text, text}, []string{got.Resource, got.AuthorizationDetails, got.TokenHint})
				assert.Equal(t, g.Device, got.Device)
				p, err := store.Poll(t.Context(), g.DeviceCode, text, time.Now())
				require.NoError(t, err)
				assert.False(t, p.Pace.Last.IsZero(), "the poll is recorded")
			}
			stored := count(t, db)
			for _, bad := range []string{nul, notUTF8, megabyte} {
				for name, change := range map[string]func(*devicegrant.Grant){
					"client id": func(g *devicegrant.Grant) { g.ClientID = bad },
					"scope":     func(g *devicegrant.Grant) { g.Scope = bad },
					"subject":   func(g *devicegrant.Grant) { g.Subject = bad },

					"resource":              func(g *devicegrant.Grant) { g.Resource = bad },
					"authorization_details": func(g *devicegrant.Grant) { g.AuthorizationDetails = bad },
					"token hint":            func(g *devicegrant.Grant) { g.TokenHint = bad },

					"device name": func(g *devicegrant.Grant) { g.Device.Name = bad },
					"user agent":  func(g *devicegrant.Grant) { g.Device.UserAgent = bad },
				} {
					g := newGrant(200)
					change(g)
					require.ErrorContains(t, store.Create(t.Context(), g), name)
					swapped := newGrant(1)
					change(swapped)
					require.ErrorContains(t, store.Swap(t.Context(), swapped), name)
				}
				p, err := store.Poll(t.Context(), newGrant(1).DeviceCode, bad, time.Now())
				require.NoError(t, err, "a poll by somebody else")
				assert.Equal(t, odd[0], p.ClientID)
			}
			assert.Equal(t, stored, count(t, db), "grants")
			got, err := store.ByDeviceCode(t.Context(), newGrant(1).DeviceCode)
			require.NoError(t, err)
			assert.Zero(t, got.Version, "what was refused has changed nothing")
		})
	}
}

func newGrant(code byte) *devicegrant.Grant {
	now := time.Now()
	return &devicegrant.Grant{
		ID: uuid.New(), DeviceCode: devicegrant.DeviceCodeDigest{code}, UserCode: devicegrant.UserCodeDigest{code}, ClientID: "tv",
		State: devicegrant.Pending, CreatedAt: now, ExpiresAt: now.Add(time.Minute), Pace: devicegrant.Pace{Interval: time.Second},
	}
}

func count(t *testing.T, db *sql.DB) (n int) {
	t.Helper()
	require.NoError(t, db.QueryRowContext(t.Context(), "SELECT count(*) FROM devicegrant_grants").Scan(&n))
	return n
}

// Whatever is sent over HTTP, the client is told what the protocol has for it, and
// nothing of the database's.
func TestOddRequests(t *testing.T) {
	for _, kind := range databases.Each {
		t.Run(kind.Name, func(t *testing.T) {
			t.Parallel()
			db := kind.Open(t, kind.Create(t))
			store := kind.NewStore(t, db, sqlstore.Config{})
			server := newServer(t, store.Transactional())
			device, token := server.DeviceAuthorizationHandler(), server.TokenHandler(nil)
			code := authorize(t, server).DeviceCode
			stored := count(t, db)
			for _, text := range append(odd, nul, notUTF8, megabyte) {
				_, body := post(t, device, url.Values{"client_id": {tv.ID}, "scope": {text}})
				assertProtocolError(t, body)
				_, body = post(t, token, url.Values{"grant_type": {devicegrant.GrantType}, "client_id": {tv.ID}, "device_code": {text}})
				assertProtocolError(t, body)
				_, body = post(t, token, url.Values{"grant_type": {devicegrant.GrantType}, "client_id": {text}, "device_code": {code}})
				assertProtocolError(t, body)
			}
			assert.Equal(t, stored, count(t, db), "grants")
			for _, text := range []string{nul, notUTF8, strings.Repeat("c", 2000)} { // As if it were registered.
				status, body := post(t, device, url.Values{"client_id": {text}, "scope": {"openid"}})
				assert.GreaterOrEqual(t, status, http.StatusBadRequest)
				assertProtocolError(t, body)
			}
			assert.Equal(t, stored, count(t, db), "grants")
			for _, text := range odd {
				status, body := post(t, device, url.Values{"client_id": {text}, "scope": {"openid"}})
				assert.Equal(t, http.StatusOK, status, body)
			}
			assert.Equal(t, stored+len(odd), count(t, db), "grants")
		})
	}
}

func assertProtocolError(t *testing.T, body string) {
	t.Helper()
	assert.Regexp(t, `^{"error":"(invalid_(request|client|grant|scope)|temporarily_unavailable)"`, body)
	assert.NotRegexp(t, `(?i)sqlstore|sqlstate|syntax|UTF-?8|database`, body)
}
