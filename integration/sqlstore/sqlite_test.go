package sqlstore_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/devicegrant/devicegrant"
	"github.com/devicegrant/devicegrant/integration/internal/databases"
	"github.com/devicegrant/devicegrant/sqlstore"
)

var sqliteDrivers = []databases.Kind{databases.SQLite, databases.SQLiteMattn}

// noWaiting has SQLite itself wait for no lock, by either driver's parameter.
var noWaiting = []string{"_pragma=busy_timeout(0)", "_busy_timeout=0"}

// Eight who write at once, each through a pool of its own, hear nothing of one another.
func TestSQLiteWritersAtOnce(t *testing.T) {
	const writers, logins = 8, 25
	for _, kind := range sqliteDrivers {
		t.Run(kind.Name, func(t *testing.T) {
			t.Parallel()
			dsn := kind.With(kind.Create(t), noWaiting...)
			var wg sync.WaitGroup
			for range writers {
				store := kind.NewStore(t, kind.Open(t, dsn), sqlstore.Config{Timeout: patience})
				wg.Go(func() { assert.NoError(t, logIn(store, logins)) })
			}
			wg.Wait()
		})
	}
}

// So do four processes.
func TestSQLiteProcessesAtOnce(t *testing.T) {
	const processes, logins = 4, 50
	for _, kind := range sqliteDrivers {
		t.Run(kind.Name, func(t *testing.T) {
			t.Parallel()
			dsn := kind.With(kind.Create(t), noWaiting...)
			kind.NewStore(t, kind.Open(t, dsn), sqlstore.Config{})
			for _, r := range startReplicas(t, processes, "write", writeJob{kind.Name, dsn, logins}) {
				var failure string
				require.NoError(t, r.out.Decode(&failure))
				assert.Empty(t, failure)
			}
		})
	}
}

// writeJob is what a process is told that writes.
type writeJob struct {
	Kind, DSN string
	Logins    int
}

func writeRole(in *json.Decoder, out *json.Encoder) error {
	var job writeJob
	if err := in.Decode(&job); err != nil {
		return err
	}
	db, store, err := open(job.Kind, job.DSN)
	if err != nil {
		return err
	}
	defer db.Close()
	failure := ""
	if err := logIn(store, job.Logins); err != nil {
		failure = err.Error()
	}
	return out.Encode(failure)
}

// logIn takes logins from beginning to end, in both modes, and returns what a client
// or the host was told that it should not be.
func logIn(store *sqlstore.Store, logins int) error {
	for i := range logins {
		var seen error
		server, err := devicegrant.New(config(modes[i%2].store(store), func(cfg *devicegrant.Config) {
			cfg.OnEvent = func(_ context.Context, e devicegrant.Event) { seen = errors.Join(seen, e.Err) }
		}))
		if err != nil {
			return err
		}
		if err := errors.Join(logInOnce(server), seen); err != nil {
			return err
		}
	}
	return nil
}

func logInOnce(server *devicegrant.Server) error {
	ctx := context.Background()
	a, err := server.Authorize(ctx, tv, devicegrant.AuthorizationRequest{Scope: scope})
	if err != nil {
		return err
	}
	if _, err := server.Poll(ctx, devicegrant.PollRequest{ClientID: tv.ID, DeviceCode: a.DeviceCode}); !errors.Is(err, devicegrant.ErrAuthorizationPending) {
		return fmt.Errorf("a poll while it is pending: %w", err)
	}
	by := devicegrant.Person{Subject: rand.Text()} // One person could not be in so many places.
	review, err := server.Lookup(ctx, a.UserCode, by)
	if err != nil {
		return err
	}
	if err := server.Approve(ctx, review.Ticket, by, devicegrant.Approval{}); err != nil {
		return err
	}
	_, err = server.Poll(ctx, devicegrant.PollRequest{ClientID: tv.ID, DeviceCode: a.DeviceCode})
	return err
}

// The log of a database that is polled all the time does not grow without bounds.
func TestSQLiteLogStaysSmall(t *testing.T) {
	const pollers, mostBytes = 8, 32 << 20
	for _, kind := range sqliteDrivers {
		t.Run(kind.Name, func(t *testing.T) {
			t.Parallel()
			polls := 50_000
			if kind.Name == databases.SQLite.Name {
				polls = 10_000 // A page each would be too much, and the race detector slows this driver down.
			}
			dsn := kind.Create(t)
			store := kind.NewStore(t, kind.Open(t, dsn), sqlstore.Config{Timeout: patience})
			server := newServer(t, store)
			var wg sync.WaitGroup
			for range pollers {
				code := authorize(t, server).DeviceCode
				wg.Go(func() {
					for range polls / pollers {
						var e *devicegrant.Error
						_, err := server.Poll(t.Context(), devicegrant.PollRequest{ClientID: tv.ID, DeviceCode: code})
						if !assert.ErrorAs(t, err, &e) || !assert.NoError(t, e.Unwrap()) {
							return
						}
					}
				})
			}
			wg.Wait()
			path, _, _ := strings.Cut(strings.TrimPrefix(dsn, "file:"), "?")
			log, err := os.Stat(path + "-wal")
			require.NoError(t, err)
			assert.LessOrEqual(t, log.Size(), int64(mostBytes))
			t.Logf("the log has %d bytes", log.Size())
		})
	}
}
