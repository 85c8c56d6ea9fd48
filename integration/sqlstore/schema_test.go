package sqlstore_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/devicegrant/devicegrant"
	"github.com/devicegrant/devicegrant/integration/internal/databases"
	"github.com/devicegrant/devicegrant/sqlstore"
)

// Replicas that start together on an empty database all create the schema.
func TestCreateSchemaAtOnce(t *testing.T) {
	const processes, each = 4, 2
	for _, kind := range databases.EachDriver {
		t.Run(kind.Name, func(t *testing.T) {
			t.Parallel()
			dsn := kind.Create(t)
			replicas := startReplicas(t, processes, "schema", schemaJob{kind.Name, dsn, each})
			for range 2 { // The second time it is there already.
				for _, r := range replicas {
					require.NoError(t, r.in.Encode(true))
				}
				for _, r := range replicas {
					var failures []string
					require.NoError(t, r.out.Decode(&failures))
					assert.Empty(t, failures)
				}
			}
			approve(t, newServer(t, kind.NewStore(t, kind.Open(t, dsn), sqlstore.Config{})), authorizeIn(t, kind, dsn))
		})
	}
}

// authorizeIn starts a login by way of another pool.
func authorizeIn(t *testing.T, kind databases.Kind, dsn string) *devicegrant.Authorization {
	t.Helper()
	store, err := sqlstore.New(kind.Open(t, dsn), kind.Dialect, sqlstore.Config{})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, store.Close()) })
	return authorize(t, newServer(t, store))
}

// schemaJob is what a process is told that creates the schema, Times at once for each
// value that follows.
type schemaJob struct {
	Kind, DSN string
	Times     int
}

func schemaRole(in *json.Decoder, out *json.Encoder) error {
	var job schemaJob
	if err := in.Decode(&job); err != nil {
		return err
	}
	for {
		var again bool
		if err := in.Decode(&again); err != nil {
			return unlessEOF(err)
		}
		failures := []string{}
		var mu sync.Mutex
		var wg sync.WaitGroup
		for range job.Times {
			wg.Go(func() {
				if err := createSchema(job.Kind, job.DSN); err != nil {
					mu.Lock()
					defer mu.Unlock()
					failures = append(failures, err.Error())
				}
			})
		}
		wg.Wait()
		if err := out.Encode(failures); err != nil {
			return err
		}
	}
}

func createSchema(kind, dsn string) error {
	k := databases.ByName(kind)
	db, err := sql.Open(k.Driver, dsn)
	if err != nil {
		return err
	}
	defer db.Close()
	return sqlstore.CreateSchema(context.Background(), db, k.Dialect, sqlstore.Config{})
}

// A database without the schema, with a part of it or with another version is refused,
// with an error that says what to do.
func TestSchemaIsChecked(t *testing.T) {
	for _, kind := range databases.EachDriver {
		t.Run(kind.Name, func(t *testing.T) {
			t.Parallel()
			db := kind.Open(t, kind.Create(t))
			refused := func(want ...string) {
				t.Helper()
				_, err := sqlstore.New(db, kind.Dialect, sqlstore.Config{})
				for _, text := range want {
					require.ErrorContains(t, err, text)
				}
			}
			refused("CreateSchema")
			require.NoError(t, sqlstore.CreateSchema(t.Context(), db, kind.Dialect, sqlstore.Config{}))
			execAll(t, db, "DELETE FROM devicegrant_schema")
			refused("not complete", "CreateSchema")
			execAll(t, db, "INSERT INTO devicegrant_schema (version) VALUES (1)", "INSERT INTO devicegrant_schema (version) VALUES (7)")
			refused("version 7", "version 1")
			err := sqlstore.CreateSchema(t.Context(), db, kind.Dialect, sqlstore.Config{})
			require.ErrorContains(t, err, "version 7")
			require.ErrorContains(t, err, "version 1")
			execAll(t, db, "DELETE FROM devicegrant_schema WHERE version = 7")
			kind.NewStore(t, db, sqlstore.Config{})

			for _, prefix := range []string{"Upper_", "1_", "a-b", `a"`, "a b", "ä_", strings.Repeat("a", 31)} {
				_, err := sqlstore.New(db, kind.Dialect, sqlstore.Config{Prefix: prefix})
				assert.ErrorContains(t, err, "Prefix")
				assert.ErrorContains(t, sqlstore.CreateSchema(t.Context(), db, kind.Dialect, sqlstore.Config{Prefix: prefix}), "Prefix")
			}
			kind.NewStore(t, db, sqlstore.Config{Prefix: strings.Repeat("a", 30)})
		})
	}
}

// The text of the schema is what the database's own client takes, more than once.
func TestSchemaByHand(t *testing.T) {
	for _, kind := range databases.Each {
		for _, prefix := range []string{"", "auth_"} {
			t.Run(kind.Name+"/"+prefix, func(t *testing.T) {
				t.Parallel()
				dsn := kind.Create(t)
				db := kind.Open(t, dsn)
				cfg := sqlstore.Config{Prefix: prefix}
				text, err := sqlstore.Schema(kind.Dialect, cfg)
				require.NoError(t, err)
				for range 2 {
					switch kind.Name {
					case databases.PostgreSQL.Name:
						feed(t, text, "psql", "--no-psqlrc", "--set=ON_ERROR_STOP=1", dsn)
					case databases.MariaDB.Name:
						c, err := mysql.ParseDSN(dsn)
						require.NoError(t, err)
						feed(t, text, "mariadb", append(clientOptions(c), c.DBName)...)
					default:
						execAll(t, db, text) // All statements at once.
					}
				}
				store, err := sqlstore.New(db, kind.Dialect, cfg)
				require.NoError(t, err)
				defer store.Close()
				authorize(t, newServer(t, store))
			})
		}
	}
}

func feed(t *testing.T, input, program string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Stdin = strings.NewReader(input)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
}

// Times come back as the instants they were given as, whatever zone the server, the
// session or the driver is in.
func TestTimeZones(t *testing.T) {
	for kind, parameters := range map[*databases.Kind][]string{
		&databases.PostgreSQL:   {"timezone=Asia%2FKathmandu"},
		&databases.PostgreSQLPQ: {"timezone=America%2FSt_Johns"},
		&databases.MariaDB:      {"parseTime=true", "loc=America%2FNew_York", "time_zone=%27%2B05%3A45%27"},
		&databases.SQLite:       {"_timezone=Asia%2FKathmandu", "_time_format=sqlite"},
		&databases.SQLiteMattn:  {"_loc=Asia%2FKathmandu"},
	} {
		t.Run(kind.Name, func(t *testing.T) {
			t.Parallel()
			dsn := kind.Create(t)
			writer := kind.NewStore(t, kind.Open(t, kind.With(dsn, parameters...)), sqlstore.Config{})
			reader := kind.NewStore(t, kind.Open(t, dsn), sqlstore.Config{})
			berlin, err := time.LoadLocation("Europe/Berlin")
			require.NoError(t, err)
			// An hour that comes twice in Berlin.
			want := time.Date(2026, 10, 25, 2, 30, 0, 123456000, berlin)
			g := newGrant(1)
			g.CreatedAt, g.ExpiresAt = want, want.Add(time.Hour)
			g.Pace.OnTime, g.Pace.Last = want, want.Add(time.Minute)
			require.NoError(t, writer.Create(t.Context(), g))
			for _, store := range []*sqlstore.Store{writer, reader} {
				got, err := store.ByDeviceCode(t.Context(), g.DeviceCode)
				require.NoError(t, err)
				for i, pair := range [][2]time.Time{
					{got.CreatedAt, g.CreatedAt}, {got.ExpiresAt, g.ExpiresAt}, {got.Pace.OnTime, g.Pace.OnTime}, {got.Pace.Last, g.Pace.Last},
				} {
					assert.True(t, pair[0].Equal(pair[1]), "time %d is %v, want %v", i, pair[0], pair[1])
				}
			}
		})
	}
}
