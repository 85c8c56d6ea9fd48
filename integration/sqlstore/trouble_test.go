package sqlstore_test

import (
	"context"
	"database/sql"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/devicegrant/devicegrant"
	"github.com/devicegrant/devicegrant/integration/internal/databases"
	"github.com/devicegrant/devicegrant/sqlstore"
)

// While no connection is to be had, or somebody else holds the grant's row, every call
// ends in time, devices are told to slow down, and afterwards the login completes.
func TestTrouble(t *testing.T) {
	troubles := []struct {
		name    string
		cause   func(t *testing.T, kind databases.Kind, db *sql.DB, dsn string) (end func())
		timeout time.Duration
		answer  string // a pattern
	}{
		{"no connection", takeConnection, 300 * time.Millisecond, "slow_down"},
		// Whoever holds the row may be another poll. MariaDB counts lock waits in seconds.
		{"row locked", lockRow, 2 * time.Second, "slow_down|authorization_pending"},
	}
	for _, kind := range databases.EachDriver {
		for _, m := range modes {
			for _, trouble := range troubles {
				t.Run(kind.Name+"/"+m.name+"/"+trouble.name, func(t *testing.T) {
					t.Parallel()
					dsn := kind.With(kind.Create(t), boundedLockWaits[kind.Dialect]...)
					db := kind.Open(t, dsn)
					db.SetMaxOpenConns(1)
					store := m.store(kind.NewStore(t, db, sqlstore.Config{Timeout: trouble.timeout}))
					server := newServer(t, store)
					a := authorize(t, server)
					approve(t, server, a)

					end := trouble.cause(t, kind, db, dsn)
					assertAnswersInTime(t, store, trouble.timeout)
					assertGoesOn(t, server, a.DeviceCode, trouble.answer, 2*trouble.timeout)
					end()
					token, err := server.Poll(t.Context(), devicegrant.PollRequest{ClientID: tv.ID, DeviceCode: a.DeviceCode})
					require.NoError(t, err, "afterwards")
					assert.NotEmpty(t, token.AccessToken)
				})
			}
		}
	}
}

// boundedLockWaits has the database give up waiting for a lock before the Store does.
// Otherwise a statement whose caller has gone may still be carried out.
var boundedLockWaits = map[sqlstore.Dialect][]string{
	sqlstore.PostgreSQL: {"options=-c%20lock_timeout%3D200"},
	sqlstore.MySQL:      {"innodb_lock_wait_timeout=1"},
	sqlstore.SQLite:     noWaiting,
}

// slack is how much longer something may take on a busy machine.
const slack = 3 * time.Second

func takeConnection(t *testing.T, _ databases.Kind, db *sql.DB, _ string) func() {
	conn, err := db.Conn(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() }) // If end has not been called.
	return func() { require.NoError(t, conn.Close()) }
}

// lockRow locks every grant, such that nobody else can write it.
func lockRow(t *testing.T, kind databases.Kind, _ *sql.DB, dsn string) func() {
	conn, err := kind.Open(t, dsn).Conn(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() }) // If end has not been called.
	statements := map[sqlstore.Dialect][]string{
		sqlstore.PostgreSQL: {"BEGIN", "SELECT * FROM devicegrant_grants FOR UPDATE"},
		sqlstore.MySQL:      {"BEGIN", "SELECT * FROM devicegrant_grants FOR UPDATE"},
		sqlstore.SQLite:     {"BEGIN IMMEDIATE"},
	}
	for _, statement := range statements[kind.Dialect] {
		_, err := conn.ExecContext(t.Context(), statement)
		require.NoError(t, err)
	}
	return func() {
		_, err := conn.ExecContext(t.Context(), "ROLLBACK")
		require.NoError(t, err)
		require.NoError(t, conn.Close())
	}
}

// assertAnswersInTime calls every method of the Store: what it answers does not matter
// here, but when.
func assertAnswersInTime(t *testing.T, store devicegrant.Store, timeout time.Duration) {
	t.Helper()
	g := newGrant(1)
	calls := map[string]func(ctx context.Context) error{
		"Create":       func(ctx context.Context) error { return store.Create(ctx, g) },
		"ByUserCode":   func(ctx context.Context) error { _, err := store.ByUserCode(ctx, g.UserCode); return err },
		"ByDeviceCode": func(ctx context.Context) error { _, err := store.ByDeviceCode(ctx, g.DeviceCode); return err },
		"Poll":         func(ctx context.Context) error { _, err := store.Poll(ctx, g.DeviceCode, "tv", time.Now()); return err },
		"Swap":         func(ctx context.Context) error { return store.Swap(ctx, g) },
		"Purge":        func(ctx context.Context) error { _, err := store.Purge(ctx, time.Now(), 10); return err },
	}
	tallier := store.(devicegrant.Tallier)
	calls["Tallies"] = func(ctx context.Context) error {
		_, err := tallier.Tallies(ctx, []devicegrant.TallyKey{{1}})
		return err
	}
	calls["SwapTallies"] = func(ctx context.Context) error {
		return tallier.SwapTallies(ctx, []devicegrant.TallyKey{{1}, {2}}, make([]devicegrant.Tally, 2))
	}
	if r, ok := store.(devicegrant.Redeemer); ok {
		calls["Receipt"] = func(ctx context.Context) error { _, err := r.Receipt(ctx, g); return err }
		calls["Redeem"] = func(ctx context.Context) error {
			return r.Redeem(ctx, g, func(context.Context) ([]byte, error) { return nil, errors.New("not issued") })
		}
	}
	for name, call := range calls {
		began := time.Now()
		_ = call(context.Background()) // Without a deadline, so that the Store's own is needed.
		assert.Less(t, time.Since(began), timeout+slack, "%s without a deadline", name)

		ctx, cancel := context.WithTimeout(t.Context(), timeout/10)
		began = time.Now()
		_ = call(ctx)
		cancel()
		assert.Less(t, time.Since(began), timeout/10+slack, "%s with a deadline", name)
	}
}

// assertGoesOn polls through the library and over HTTP, and is told to go on.
func assertGoesOn(t *testing.T, server *devicegrant.Server, deviceCode, answer string, within time.Duration) {
	t.Helper()
	began := time.Now()
	_, err := server.Poll(t.Context(), devicegrant.PollRequest{ClientID: tv.ID, DeviceCode: deviceCode})
	var e *devicegrant.Error
	require.ErrorAs(t, err, &e)
	assert.Regexp(t, "^("+answer+")$", e.Code)
	status, body := post(t, server.TokenHandler(nil), url.Values{
		"grant_type": {devicegrant.GrantType}, "client_id": {tv.ID}, "device_code": {deviceCode},
	})
	assert.Equal(t, http.StatusBadRequest, status)
	assert.Regexp(t, `^{"error":"(`+answer+`)"}$`, body)
	assert.Less(t, time.Since(began), within+slack)
}

// post sends a form to a handler.
func post(t *testing.T, handler http.Handler, form url.Values) (status int, body string) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

// A poll of a pending grant reads the decision and does not wait for who is writing it.
func TestPollDoesNotWaitForTheGrant(t *testing.T) {
	for _, kind := range []databases.Kind{databases.PostgreSQL, databases.PostgreSQLPQ, databases.MariaDB} {
		t.Run(kind.Name, func(t *testing.T) {
			t.Parallel()
			dsn := kind.Create(t)
			server := newServer(t, kind.NewStore(t, kind.Open(t, dsn), sqlstore.Config{Timeout: patience}))
			a := authorize(t, server)
			conn, err := kind.Open(t, dsn).Conn(t.Context())
			require.NoError(t, err)
			defer conn.Close()
			for _, statement := range []string{"BEGIN", "SELECT * FROM devicegrant_grants FOR UPDATE", "UPDATE devicegrant_grants SET state = 2"} {
				_, err := conn.ExecContext(t.Context(), statement)
				require.NoError(t, err)
			}
			for range 3 {
				ctx, cancel := context.WithTimeout(t.Context(), patience/2)
				_, err := server.Poll(ctx, devicegrant.PollRequest{ClientID: tv.ID, DeviceCode: a.DeviceCode})
				cancel()
				requirePending(t, err)
			}
			_, err = conn.ExecContext(t.Context(), "ROLLBACK")
			require.NoError(t, err)
		})
	}
}
