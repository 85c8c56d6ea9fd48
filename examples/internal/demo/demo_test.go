package demo

import (
	"context"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	_ "modernc.org/sqlite" // driver "sqlite"

	"github.com/devicegrant/devicegrant"
	"github.com/devicegrant/devicegrant/examples/internal/browser"
	"github.com/devicegrant/devicegrant/memstore"
	"github.com/devicegrant/devicegrant/sqlstore"
)

const origin = "http://127.0.0.1:8080"

// fixture is a host with the device grant, and a clock that stands still. The grant
// has the real one.
type fixture struct {
	*Host
	t     testing.TB
	db    *sql.DB // nil in memory
	grant *devicegrant.Server
	mux   *http.ServeMux

	issueErr error // what IssueToken returns after it has done its work
}

// newFixture keeps everything in memory.
func newFixture(t testing.TB) *fixture {
	f := &fixture{t: t}
	return f.with(memstore.New(0), InMemory())
}

// newDatabaseFixture keeps everything in a database without tables.
func newDatabaseFixture(t testing.TB, db *sql.DB, dialect sqlstore.Dialect) *fixture {
	f := &fixture{t: t, db: db}
	require.NoError(t, sqlstore.CreateSchema(t.Context(), db, dialect, sqlstore.Config{}))
	store, err := sqlstore.New(db, dialect, sqlstore.Config{})
	require.NoError(t, err)
	t.Cleanup(func() { _ = store.Close() }) // The test may have closed the database.
	records, err := InDatabase(t.Context(), db, dialect)
	require.NoError(t, err)
	return f.with(store.Transactional(), records)
}

func newSQLiteFixture(t testing.TB) *fixture {
	return newDatabaseFixture(t, openSQLite(t, filepath.Join(t.TempDir(), "test.db")), sqlstore.SQLite)
}

func openSQLite(t testing.TB, file string) *sql.DB {
	db, err := sql.Open("sqlite", "file:"+file+"?_txlock=immediate&_pragma=busy_timeout(20)&_pragma=journal_mode(WAL)&_pragma=synchronous(NORMAL)")
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, db.Close()) })
	return db
}

// keepers are the kinds of Records that the host behaves the same on.
var keepers = []struct {
	name string
	open func(testing.TB) *fixture
}{{"memory", newFixture}, {"SQLite", newSQLiteFixture}}

// onEach runs a test on a host with each kind of Records.
func onEach(t *testing.T, test func(t *testing.T, f *fixture)) {
	t.Helper()
	for _, k := range keepers {
		t.Run(k.name, func(t *testing.T) { test(t, k.open(t)) })
	}
}

func (f *fixture) with(store devicegrant.Store, records Records) *fixture {
	f.Host = NewHost(origin, records, nil)
	f.advance(0)
	var err error
	f.grant, err = devicegrant.New(devicegrant.Config{
		Store: store, Keys: NewKeys(), VerificationURI: origin + "/device",
		AuthenticateClient: f.AuthenticateClient, Client: f.Client, SignedIn: f.SignedIn,
		ProvenKey: f.ProvenKey, IssueToken: f.issueToken, OnEvent: f.OnEvent, Logger: slog.New(slog.DiscardHandler),
	})
	require.NoError(f.t, err)
	f.mux = f.Routes()
	f.mux.Handle("/token", f.grant.TokenHandler(f.TokenHandler()))
	f.mux.Handle("/device", f.grant.VerificationHandler())
	return f
}

func (f *fixture) issueToken(ctx context.Context, g *devicegrant.Grant) (*devicegrant.Token, error) {
	token, err := f.IssueToken(ctx, g)
	return token, errors.Join(err, f.issueErr)
}

// advance moves the host's clock.
func (f *fixture) advance(d time.Duration) {
	at := f.now().Add(d)
	f.now = func() time.Time { return at }
}

func (f *fixture) browser() *browser.Browser {
	return browser.New(f.t, browser.Handler{Handler: f.mux})
}

// post sends a form; headers are names and values in turn.
func (f *fixture) post(path, body string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	return f.do(r)
}

func (f *fixture) do(r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	f.mux.ServeHTTP(w, r)
	return w
}

func (f *fixture) userinfo(accessToken string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, "/userinfo", nil)
	r.Header.Set("Authorization", "Bearer "+accessToken)
	return f.do(r)
}

// tokens is a token response, or an error in its place.
type tokens struct {
	Status       int    `json:"-"`
	Error        string `json:"error"`
	AccessToken  string `json:"access_token"`
	TokenType    string `json:"token_type"`
	RefreshToken string `json:"refresh_token"`
	Scope        string `json:"scope"`
	ExpiresIn    int    `json:"expires_in"`

	Details json.RawMessage `json:"authorization_details"`

	deviceCode string
}

func (f *fixture) tokenRequest(body string, headers ...string) (got tokens) {
	f.t.Helper()
	w := f.post("/token", body, headers...)
	got.Status = w.Code
	require.NoError(f.t, json.Unmarshal(w.Body.Bytes(), &got))
	require.Equal(f.t, "no-store", w.Header().Get("Cache-Control"))
	return got
}

// connected takes a device of the client tv through the whole flow, for alice.
func (f *fixture) connected(scope string) tokens {
	f.t.Helper()
	deviceCode := f.approved(scope)
	got := f.poll(deviceCode)
	require.Equal(f.t, http.StatusOK, got.Status)
	got.deviceCode = deviceCode
	return got
}

// approved takes one as far as alice's approval.
func (f *fixture) approved(scope string) (deviceCode string) {
	f.t.Helper()
	return f.approvedFor("tv", devicegrant.AuthorizationRequest{Scope: scope})
}

// approvedFor is approved for any client and request.
func (f *fixture) approvedFor(clientID string, asked devicegrant.AuthorizationRequest) (deviceCode string) {
	f.t.Helper()
	ctx, alice := f.t.Context(), devicegrant.Person{Subject: "alice"}
	client, err := f.Client(ctx, clientID)
	require.NoError(f.t, err)
	a, err := f.grant.Authorize(ctx, client, asked)
	require.NoError(f.t, err)
	review, err := f.grant.Lookup(ctx, a.UserCode, alice)
	require.NoError(f.t, err)
	require.NoError(f.t, f.grant.Approve(ctx, review.Ticket, alice, devicegrant.Approval{}))
	return a.DeviceCode
}

func (f *fixture) poll(deviceCode string) tokens {
	f.t.Helper()
	return f.tokenRequest("client_id=tv&grant_type=" + url.QueryEscape(devicegrant.GrantType) + "&device_code=" + deviceCode)
}

func (f *fixture) refreshed(refreshToken, more string) tokens {
	f.t.Helper()
	return f.tokenRequest("client_id=tv&grant_type=refresh_token&refresh_token=" + refreshToken + more)
}

func basicAuth(id, secret string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(id+":"+secret))
}

func body(t testing.TB, w *httptest.ResponseRecorder) string {
	b, err := io.ReadAll(w.Body)
	require.NoError(t, err)
	return string(b)
}
