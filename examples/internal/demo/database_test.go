package demo

import (
	"database/sql"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/devicegrant/devicegrant/sqlstore"
)

func count(t testing.TB, db *sql.DB, table string) (n int) {
	t.Helper()
	require.NoError(t, db.QueryRowContext(t.Context(), "SELECT count(*) FROM "+table).Scan(&n))
	return n
}

// TestRefreshAtOnce: however many present a refresh token at the same time, one at the
// most gets tokens, and since several had it, the login ends.
func TestRefreshAtOnce(t *testing.T) {
	onEach(t, func(t *testing.T, f *fixture) {
		for range 20 {
			token := f.connected("openid offline_access")
			got := make([]tokens, 4)
			var holders sync.WaitGroup
			for i := range got {
				holders.Go(func() { got[i] = f.refreshed(token.RefreshToken, "") })
			}
			holders.Wait()
			won := 0
			for _, g := range got {
				if g.Status == http.StatusOK {
					won++
					assert.Equal(t, http.StatusUnauthorized, f.userinfo(g.AccessToken).Code)
				} else {
					assert.Equal(t, "invalid_grant", g.Error)
				}
			}
			require.Equal(t, 1, won)
			require.Equal(t, http.StatusUnauthorized, f.userinfo(token.AccessToken).Code)
		}
	})
}

// TestIssueFails: what was written in a redemption that failed is not there, and the
// device gets its tokens with the next poll.
func TestIssueFails(t *testing.T) {
	for _, k := range keepers[1:] {
		t.Run(k.name, func(t *testing.T) {
			f := k.open(t)
			deviceCode := f.approved("openid offline_access")
			f.issueErr = assert.AnError
			require.Equal(t, "slow_down", f.poll(deviceCode).Error)
			assert.Zero(t, count(t, f.db, "host_logins"))
			assert.Zero(t, count(t, f.db, "host_access"))
			var state int
			require.NoError(t, f.db.QueryRowContext(t.Context(), "SELECT state FROM devicegrant_grants").Scan(&state))
			assert.Equal(t, 2, state, "the grant is not approved any more")

			f.issueErr = nil
			got := f.poll(deviceCode)
			require.Equal(t, http.StatusOK, got.Status)
			assert.Equal(t, 1, count(t, f.db, "host_logins"))
			assert.Equal(t, 1, count(t, f.db, "host_access"))
			assert.Equal(t, http.StatusOK, f.userinfo(got.AccessToken).Code)
		})
	}
}

func TestIssueNeedsTransaction(t *testing.T) {
	err := newSQLiteFixture(t).records.issue(t.Context(), login{}, accessToken{})
	require.ErrorContains(t, err, "use sqlstore.Store.Transactional")
}

// TestPurge: what has expired is deleted in batches, and nothing else.
func TestPurge(t *testing.T) {
	for _, k := range keepers[1:] {
		t.Run(k.name, func(t *testing.T) {
			f := k.open(t)
			for range 5 {
				f.connected("openid")
				logIn(t, f, nil)
			}
			f.advance(accessLife)
			kept := f.connected("openid") // The five logins live on as well.
			require.NoError(t, f.purge(t.Context()))
			assert.Equal(t, 1, count(t, f.db, "host_access"))
			assert.Equal(t, 5, count(t, f.db, "host_sessions"))
			assert.Equal(t, 6, count(t, f.db, "host_logins"))
			assert.Equal(t, http.StatusOK, f.userinfo(kept.AccessToken).Code)

			f.advance(refreshLife)
			for _, want := range []int{2, 2, 2, 0} { // The logins are the most.
				n, err := f.records.purge(t.Context(), f.now(), 2)
				require.NoError(t, err)
				require.Equal(t, want, n)
			}
			for _, table := range tables {
				assert.Zero(t, count(t, f.db, table.name), table.name)
			}
		})
	}
}

// TestTablesTogether: replicas that start at once all find their tables.
func TestTablesTogether(t *testing.T) {
	file := filepath.Join(t.TempDir(), "test.db")
	require.NoError(t, CreateFile(file, ""))
	pools := make([]*sql.DB, 4)
	for i := range pools {
		pools[i] = openSQLite(t, file)
		require.NoError(t, pools[i].PingContext(t.Context()))
	}
	var replicas sync.WaitGroup
	for _, db := range pools {
		replicas.Go(func() {
			_, err := InDatabase(t.Context(), db, sqlstore.SQLite)
			assert.NoError(t, err)
		})
	}
	replicas.Wait()
	assert.Zero(t, count(t, pools[0], "host_logins"))
}

// TestWritesWaitForOthers: a write that SQLite refuses because of another is tried
// again.
func TestWritesWaitForOthers(t *testing.T) {
	file := filepath.Join(t.TempDir(), "test.db")
	db, other := openSQLite(t, file), openSQLite(t, file)
	f := newDatabaseFixture(t, db, sqlstore.SQLite)
	token := f.connected("openid offline_access")
	tx, err := other.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	_, err = db.ExecContext(t.Context(), "DELETE FROM host_logins")
	require.ErrorContains(t, err, "database is locked", "nobody has to wait")
	released := make(chan error, 1)
	time.AfterFunc(200*time.Millisecond, func() { released <- tx.Commit() }) // Ten times the driver's own patience.
	var writes sync.WaitGroup
	writes.Go(func() {
		assert.NoError(t, f.records.startSession(t.Context(), digest{1}, session{"alice", f.now().Add(time.Hour)}, f.now()))
	})
	writes.Go(func() { assert.NoError(t, f.records.revoke(t.Context(), uuid.New(), f.now())) })
	writes.Go(func() { assert.Equal(t, http.StatusOK, f.refreshed(token.RefreshToken, "").Status) })
	writes.Wait()
	require.NoError(t, <-released)
}

// TestRecordsUnavailable: nobody is taken for signed out, and no token for invalid,
// because the database is away.
func TestRecordsUnavailable(t *testing.T) {
	f := newSQLiteFixture(t)
	token, cookie := f.connected("openid offline_access"), logIn(t, f, nil)
	require.NoError(t, f.db.Close())

	w := f.userinfo(token.AccessToken)
	assert.Equal(t, http.StatusServiceUnavailable, w.Code)
	assert.Contains(t, body(t, w), "temporarily_unavailable")
	got := f.refreshed(token.RefreshToken, "")
	assert.Equal(t, http.StatusServiceUnavailable, got.Status)
	assert.Equal(t, "temporarily_unavailable", got.Error)
	for _, path := range []string{"/", "/device?user_code=BCDF-GHJK"} {
		r := httptest.NewRequest(http.MethodGet, path, nil)
		r.AddCookie(cookie)
		assert.Equal(t, http.StatusServiceUnavailable, f.do(r).Code, path)
	}
	assert.Equal(t, http.StatusServiceUnavailable, f.post("/logout", "", "Cookie", cookie.String()).Code)
	w = f.post("/login", "username=alice&password=wonderland")
	assert.Equal(t, http.StatusServiceUnavailable, w.Code)
	assert.Empty(t, w.Result().Cookies())
}

func TestStatementsAreNumbered(t *testing.T) {
	assert.Equal(t, "a = $1 AND b = $2 LIMIT $3", (&database{numbered: true}).text("a = ? AND b = ? LIMIT ?"))
	assert.Equal(t, "a = ?", (&database{}).text("a = ?"))
}
