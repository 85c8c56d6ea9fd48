package sqlstore_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/devicegrant/devicegrant"
	"github.com/devicegrant/devicegrant/integration/internal/databases"
	"github.com/devicegrant/devicegrant/sqlstore"
)

const (
	million = 1_000_000
	// These are a million grants, each with its number i in its codes, such that those
	// that expire one after another are far apart by their codes. The first half has
	// expired, and every grant has been polled.
	grantsOfMillion = `INSERT INTO devicegrant_grants (device_code, user_code, id, client_id, scope,
		resource, authorization_details, token_hint, device_name, device_agent, device_addr, state, subject, session, entered, created_at, expires_at, version, interval_us, repeated)
	SELECT %[1]s, %[1]s, %[2]s, 'tv', 'openid offline_access', '', '', '', 'Kitchen', 'TV/1.0', '192.0.2.1', 1, '', %[1]s, 1, i, i, 0, 5000000, %[3]s FROM %[4]s ORDER BY 1`
	pollsOfMillion = `INSERT INTO devicegrant_polls (%[1]sdevice_code, interval_us, on_time, last_poll, repeated)
	SELECT %[1]sdevice_code, interval_us, created_at, created_at, repeated FROM devicegrant_grants`
	// All tallies have expired before the first grant, so that they can be purged alone.
	talliesOfMillion = `INSERT INTO devicegrant_tallies (id, guesses, paid_at, expires_at, version)
	SELECT device_code, 1, -created_at, -created_at, 1 FROM devicegrant_grants`
)

// grantsOnPostgreSQL are the first n of them.
func grantsOnPostgreSQL(n int) string {
	return fmt.Sprintf(grantsOfMillion, "lpad((i * 48271 % 1000003)::text, 32, '0')::bytea", "gen_random_uuid()", "false",
		fmt.Sprintf("generate_series(1::bigint, %d) i", n))
}

// codeOf is the digest in both codes of grant i: a number that i permutes, in decimal.
func codeOf(i int64) []byte { return fmt.Appendf(nil, "%032d", i*48271%1000003) }

// With a million grants every call still goes by an index. With DEVICEGRANT_SOAK=1, half
// of them are purged, which must not keep polls waiting.
func TestMillion(t *testing.T) {
	for _, c := range []struct {
		kind       databases.Kind
		parameters []string
		loader     []string // parameters while loading
		load       []string
		statements func(t *testing.T, dsn string)
	}{
		{databases.PostgreSQL, nil, nil, []string{
			grantsOnPostgreSQL(million),
			fmt.Sprintf(pollsOfMillion, "expires_at, "), talliesOfMillion,
			"VACUUM ANALYZE devicegrant_grants", "VACUUM ANALYZE devicegrant_polls", "VACUUM ANALYZE devicegrant_tallies",
		}, postgresLooksUp},
		{databases.MariaDB, []string{"max_heap_table_size=1073741824"}, nil, []string{
			fmt.Sprintf(grantsOfMillion, "LPAD(i * 48271 % 1000003, 32, '0')", "UNHEX(MD5(i))", "FALSE", "(SELECT seq i FROM seq_1_to_1000000) s"),
			fmt.Sprintf(pollsOfMillion, "expires_at, "), talliesOfMillion,
			"ANALYZE TABLE devicegrant_grants", "ANALYZE TABLE devicegrant_tallies",
		}, mariaLooksUp},
		{databases.SQLiteMattn, nil, []string{"_cache_size=-1000000", "_synchronous=OFF"}, []string{
			"WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s WHERE i < 1000000) " +
				fmt.Sprintf(grantsOfMillion, "CAST(printf('%032d', i * 48271 % 1000003) AS BLOB)", "randomblob(16)", "0", "s"),
			fmt.Sprintf(pollsOfMillion, ""), talliesOfMillion, "ANALYZE",
		}, sqliteLooksUp},
	} {
		t.Run(c.kind.Name, func(t *testing.T) {
			dsn := c.kind.With(c.kind.Create(t), c.parameters...)
			db := c.kind.Open(t, dsn)
			store := c.kind.NewStore(t, db, sqlstore.Config{Timeout: patience})
			began := time.Now()
			execAll(t, c.kind.Open(t, c.kind.With(dsn, c.loader...)), c.load...)
			t.Logf("loaded in %v", time.Since(began))
			t.Run("statements", func(t *testing.T) { c.statements(t, dsn) })
			t.Run("list", func(t *testing.T) { listMillion(t, store) })
			if os.Getenv("DEVICEGRANT_SOAK") == "1" { // It measures, and wants the machine for itself.
				t.Run("purge", func(t *testing.T) { assertPurgeLetsPollsThrough(t, c.kind, store) })
			}
		})
	}
}

// listMillion lists what is there in plenty, and what is not there at all, for which
// every grant is read.
func listMillion(t *testing.T, store *sqlstore.Store) {
	began := time.Now()
	plenty, err := store.List(t.Context(), devicegrant.ListQuery{ClientID: "tv", Now: time.UnixMicro(million / 2), Limit: 100})
	require.NoError(t, err)
	require.Len(t, plenty, 100)
	t.Logf("100 of half a million in %v", time.Since(began))
	began = time.Now()
	none, err := store.List(t.Context(), devicegrant.ListQuery{Subject: "nobody", Now: time.UnixMicro(0), Limit: 100})
	require.NoError(t, err)
	require.Empty(t, none)
	t.Logf("none of a million in %v", time.Since(began))
}

// useAll makes each call of a Store on grant i of a million, and one in vain.
func useAll(t *testing.T, store *sqlstore.Store, i int64) {
	t.Helper()
	ctx := t.Context()
	g, err := store.ByDeviceCode(ctx, devicegrant.DeviceCodeDigest(codeOf(i)))
	require.NoError(t, err)
	_, err = store.ByUserCode(ctx, g.UserCode)
	require.NoError(t, err)
	_, err = store.Poll(ctx, g.DeviceCode, "tv", time.Now())
	require.NoError(t, err)
	_, err = store.Poll(ctx, g.DeviceCode, "other", time.Now())
	require.NoError(t, err)
	require.NoError(t, store.Swap(ctx, g))
	g.Version++
	require.NoError(t, store.Transactional().Redeem(ctx, g, func(context.Context) ([]byte, error) { return []byte("receipt"), nil }))
	g.Version++
	_, err = store.Transactional().Receipt(ctx, g)
	require.NoError(t, err)
	_, err = store.ByDeviceCode(ctx, devicegrant.DeviceCodeDigest{1})
	require.ErrorIs(t, err, devicegrant.ErrNotFound)
	added := newGrant(byte(i))
	require.NoError(t, store.Create(ctx, added))
	require.ErrorIs(t, store.Create(ctx, added), devicegrant.ErrUserCodeExists)
	n, err := store.Purge(ctx, time.UnixMicro(million/2), 10)
	require.NoError(t, err)
	require.Equal(t, 10, n)
	useTallies(t, store, i)
}

// useTallies makes each call for tallies on the i-th of a million, and one in vain.
func useTallies(t *testing.T, store *sqlstore.Store, i int64) {
	t.Helper()
	ctx := t.Context()
	var keys []devicegrant.TallyKey
	for n := range int64(devicegrant.MaxTallies) {
		keys = append(keys, devicegrant.TallyKey(codeOf(1+(i+n*million/10)%(million/2))))
	}
	tallies, err := store.Tallies(ctx, keys)
	require.NoError(t, err)
	require.EqualValues(t, 1, tallies[devicegrant.MaxTallies-1].Version)
	require.NoError(t, store.SwapTallies(ctx, keys[:1], tallies[:1]))
	require.ErrorIs(t, store.SwapTallies(ctx, keys[:1], tallies[:1]), devicegrant.ErrConflict)
	added := devicegrant.Tally{Guesses: 1, PaidAt: time.Now(), ExpiresAt: time.Now()}
	require.NoError(t, store.SwapTallies(ctx, []devicegrant.TallyKey{{byte(i)}}, []devicegrant.Tally{added}))
	require.ErrorIs(t, store.SwapTallies(ctx, []devicegrant.TallyKey{{byte(i)}}, []devicegrant.Tally{added}), devicegrant.ErrConflict)
	n, err := store.Purge(ctx, time.UnixMicro(0), 10)
	require.NoError(t, err)
	require.Equal(t, 10, n)
}

// postgresLooksUp reads the plans of the very statements, which PostgreSQL itself
// sends, when it plans for their values and when it no longer does.
func postgresLooksUp(t *testing.T, dsn string) {
	db, plans := openExplained(t, dsn)
	store, err := sqlstore.New(db, sqlstore.PostgreSQL, sqlstore.Config{Timeout: patience})
	require.NoError(t, err)
	execAll(t, db, explainAll...)
	const rounds = 8 // Plans are generic after five.
	for i := range rounds {
		useAll(t, store, million-int64(i))
	}
	execAll(t, db, explainNothing)
	require.Greater(t, len(*plans), rounds*18)
	for _, text := range *plans {
		assert.True(t, parsePlan(t, text).goesByIndex(), text)
	}
	execAll(t, db, explainAll...)
	*plans = nil
	count(t, db)
	assert.False(t, parsePlan(t, (*plans)[0]).goesByIndex(), "a scan would be seen")
}

// Statements that make PostgreSQL send the plans of those that follow.
var explainAll = []string{
	"LOAD 'auto_explain'", "SET auto_explain.log_min_duration = 0", "SET auto_explain.log_analyze = on",
	"SET auto_explain.log_format = json", "SET auto_explain.log_level = notice",
}

const explainNothing = "SET auto_explain.log_min_duration = -1"

// openExplained opens a database by one connection, and returns the plans that come by it.
func openExplained(t *testing.T, dsn string) (db *sql.DB, plans *[]string) {
	t.Helper()
	cfg, err := pgx.ParseConfig(dsn)
	require.NoError(t, err)
	plans = new([]string)
	cfg.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) {
		if _, plan, ok := strings.Cut(n.Message, "plan:\n"); ok {
			*plans = append(*plans, plan)
		}
	}
	db = stdlib.OpenDB(*cfg)
	t.Cleanup(func() { assert.NoError(t, db.Close()) })
	db.SetMaxOpenConns(1)
	return db, plans
}

func parsePlan(t *testing.T, text string) plan {
	t.Helper()
	var p struct{ Plan plan }
	require.NoError(t, json.Unmarshal([]byte(text), &p), text)
	return p.Plan
}

// plan is a step of a plan of PostgreSQL's.
type plan struct {
	NodeType  string  `json:"Node Type"`
	IndexCond string  `json:"Index Cond"`
	Rows      float64 `json:"Actual Rows"`
	Plans     []plan
}

// goesByIndex reports whether tables are read where an index says, and no more than
// the batch of a purge.
func (p plan) goesByIndex() bool {
	return !p.contains(func(p plan) bool { return p.scans() || p.Rows > 20 })
}

// scans reports whether a table, or an index, is read from its beginning to its end.
func (p plan) scans() bool {
	return strings.HasPrefix(p.NodeType, "Seq") || strings.HasPrefix(p.NodeType, "Index") && p.IndexCond == ""
}

func (p plan) contains(step func(plan) bool) bool {
	return step(p) || slices.ContainsFunc(p.Plans, func(p plan) bool { return p.contains(step) })
}

// mariaLooksUp counts how rows were read: never one after the other from the start of
// a table, procedures included.
func mariaLooksUp(t *testing.T, dsn string) {
	db := databases.MariaDB.Open(t, dsn)
	db.SetMaxOpenConns(1)
	store, err := sqlstore.New(db, sqlstore.MySQL, sqlstore.Config{Timeout: patience})
	require.NoError(t, err)
	defer store.Close()
	read := func() (n int) {
		require.NoError(t, db.QueryRowContext(t.Context(), `SELECT CAST(SUM(VARIABLE_VALUE) AS UNSIGNED) FROM information_schema.SESSION_STATUS
			WHERE VARIABLE_NAME IN ('Handler_read_rnd_next', 'Handler_read_next', 'Handler_read_prev', 'Handler_read_rnd')`).Scan(&n))
		return n
	}
	before := read()
	reading := read() - before // What it takes to read this.
	before = read()
	const rounds = 8
	for i := range rounds {
		useAll(t, store, million-int64(i))
	}
	n := read() - before - reading
	assert.Less(t, n, rounds*200, "rows that were read one after the other")
	t.Logf("%d rows were read one after the other", n)
	before = read()
	execAll(t, db, "DO (SELECT MAX(created_at) FROM devicegrant_grants)")
	assert.Greater(t, read()-before-reading, million/2, "a scan would be seen")
}

// sqliteLooksUp has the statements explained that the Store prepares.
func sqliteLooksUp(t *testing.T, dsn string) {
	db := databases.SQLiteMattn.Open(t, dsn)
	recorder := &statementRecorder{Connector: connector{db.Driver(), dsn}}
	recorded := sql.OpenDB(recorder)
	defer recorded.Close()
	store, err := sqlstore.New(recorded, sqlstore.SQLite, sqlstore.Config{Timeout: patience})
	require.NoError(t, err)
	for i := range int64(8) {
		useAll(t, store, million-i)
	}
	require.NoError(t, store.Close())
	recorder.statements["DELETE FROM devicegrant_polls WHERE device_code = ?"] = 1 // The trigger's.
	require.Greater(t, len(recorder.statements), 12)
	for statement, parameters := range recorder.statements {
		assert.NotContains(t, planOfSQLite(t, db, statement, parameters), "SCAN devicegrant", statement)
	}
	assert.Contains(t, planOfSQLite(t, db, "SELECT state FROM devicegrant_grants WHERE scope = ''", 0), "SCAN devicegrant", "a scan would be seen")
}

func planOfSQLite(t *testing.T, db *sql.DB, statement string, parameters int) string {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), "EXPLAIN QUERY PLAN "+statement, make([]any, parameters)...)
	require.NoError(t, err, statement)
	defer rows.Close()
	var plan strings.Builder
	for rows.Next() {
		var id, parent, unused int
		var detail string
		require.NoError(t, rows.Scan(&id, &parent, &unused, &detail))
		plan.WriteString(detail + "\n")
	}
	require.NoError(t, rows.Err())
	return plan.String()
}

// statementRecorder remembers the statements that are prepared, and how many
// parameters each has.
type statementRecorder struct {
	driver.Connector
	mu         sync.Mutex
	statements map[string]int
}

// connector opens connections of a driver that has no Connector.
type connector struct {
	driver driver.Driver
	dsn    string
}

func (c connector) Connect(context.Context) (driver.Conn, error) { return c.driver.Open(c.dsn) }
func (c connector) Driver() driver.Driver                        { return c.driver }

func (r *statementRecorder) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := r.Connector.Connect(ctx)
	return recordedConn{conn, r}, err
}

type recordedConn struct {
	driver.Conn
	recorder *statementRecorder
}

func (c recordedConn) Prepare(query string) (driver.Stmt, error) {
	stmt, err := c.Conn.Prepare(query)
	if err == nil && (strings.Contains(query, "device_code") || strings.Contains(query, "devicegrant_tallies")) {
		c.recorder.mu.Lock()
		defer c.recorder.mu.Unlock()
		if c.recorder.statements == nil {
			c.recorder.statements = map[string]int{}
		}
		c.recorder.statements[query] = stmt.NumInput()
	}
	return stmt, err
}

// assertPurgeLetsPollsThrough purges in turns of purging and not, and compares how long
// the polls of each turn take with those of the turn before, until all that has expired
// is gone.
func assertPurgeLetsPollsThrough(t *testing.T, kind databases.Kind, store *sqlstore.Store) {
	const turns, batch = 9, 1000
	p := startPollers(t, store)
	purged, took := 0, time.Duration(0)
	purge := func() bool {
		began := time.Now()
		n, err := store.Purge(t.Context(), time.UnixMicro(million/2), batch)
		assert.NoError(t, err)
		purged += n
		took = time.Since(began)
		return n == batch
	}
	var ratios []float64
	var delays []time.Duration
	for range turns {
		without := p99(p.during(func() { p.pause(turnTime) }))
		with := p99(p.during(func() {
			for began := time.Now(); time.Since(began) < turnTime && purge(); {
				p.pause(purgePause * took) // As Server.Purge does.
			}
		}))
		ratios, delays = append(ratios, float64(with)/float64(without)), append(delays, with)
		t.Logf("p99 %v, while purging %v", without, with)
	}
	slices.Sort(ratios)
	slices.Sort(delays)
	t.Logf("purged %d; ratios %.2f", purged, ratios)
	assert.LessOrEqual(t, delays[turns/2], mostDelay, "the median of the turns' p99 while purging")
	if kind.Dialect != sqlstore.SQLite {
		assert.LessOrEqual(t, ratios[turns/2], 2.0, "the median of the turns' ratios of p99")
	}
	for purge() {
	}
	assert.GreaterOrEqual(t, purged, million/2-100)
}

const (
	// Devices poll when it is time to, also when others wait: a poll counts from when it
	// was due, so that each moment of a turn weighs the same.
	devices        = 40
	deviceInterval = 50 * time.Millisecond
	turnTime       = 2 * time.Second
	// purgePause is how long nothing is purged after each batch, in times of the batch's:
	// purging has a fifth of the time.
	purgePause = 4
	// mostDelay is what purging may cost a poll. It is all that can be asked of SQLite,
	// where only one can write at a time, and now and then writes the log back.
	mostDelay = 50 * time.Millisecond
)

func p99(times []time.Duration) time.Duration {
	slices.Sort(times)
	return times[len(times)*99/100]
}

// polling is what devices do in the background.
type polling struct {
	mu    sync.Mutex
	times []time.Duration // of the polls of this turn
}

// pause lets polls go on for a while.
func (p *polling) pause(d time.Duration) { <-time.After(d) }

// startPollers has grants polled that do not expire, until the test ends.
func startPollers(t *testing.T, store *sqlstore.Store) *polling {
	p := &polling{}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	t.Cleanup(wg.Wait)
	t.Cleanup(cancel)
	var next atomic.Int64
	for i := range devices {
		due := time.Now().Add(time.Duration(i) * deviceInterval / devices)
		wg.Go(func() {
			for ; ; due = due.Add(deviceInterval) {
				select {
				case <-time.After(time.Until(due)):
				case <-ctx.Done():
					return
				}
				i := million/2 + 1000 + next.Add(1)*7919%(million/2-2000)
				if _, err := store.Poll(ctx, devicegrant.DeviceCodeDigest(codeOf(i)), "tv", due); err != nil {
					assert.ErrorIs(t, ctx.Err(), context.Canceled, "%v", err)
					return
				}
				p.record(time.Since(due))
			}
		})
	}
	return p
}

func (p *polling) record(took time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.times = append(p.times, took)
}

// during returns the times of the polls that ended while f ran.
func (p *polling) during(f func()) []time.Duration {
	p.mu.Lock()
	p.times = nil
	p.mu.Unlock()
	f()
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.times)
}
