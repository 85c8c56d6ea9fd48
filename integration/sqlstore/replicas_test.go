package sqlstore_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"io"
	"os"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/devicegrant/devicegrant"
	"github.com/devicegrant/devicegrant/integration/internal/databases"
	"github.com/devicegrant/devicegrant/sqlstore"
)

// Four processes poll one approved grant a hundred times at once. One poll gets
// tokens, and everybody else is told that it is over or that another is at it. With
// DEVICEGRANT_SOAK=1, each of the processes does so a hundred times.
func TestOneOfFourProcessesWins(t *testing.T) {
	const processes, rounds = 4, 200
	for _, kind := range []databases.Kind{databases.PostgreSQL, databases.MariaDB, databases.SQLiteMattn} {
		for _, m := range modes {
			t.Run(kind.Name+"/"+m.name, func(t *testing.T) {
				t.Parallel()
				dsn := kind.Create(t)
				db := kind.Open(t, dsn)
				server := newServer(t, kind.NewStore(t, db, sqlstore.Config{}))
				createTokens(t, db)
				replicas := startReplicas(t, processes, "poll", pollJob{kind.Name, dsn, m.transactional})
				for range rounds {
					a := authorize(t, server)
					approve(t, server, a)
					requireOneWinner(t, replicas, a.DeviceCode)
				}
				if m.transactional {
					var tokens, grants int
					require.NoError(t, db.QueryRowContext(t.Context(), "SELECT count(*), count(DISTINCT grant_id) FROM tokens").Scan(&tokens, &grants))
					assert.Equal(t, []int{rounds, rounds}, []int{tokens, grants}, "tokens and their grants, in the host's table")
				}
			})
		}
	}
}

func requireOneWinner(t *testing.T, replicas []replica, deviceCode string) {
	t.Helper()
	for _, r := range replicas {
		require.NoError(t, r.in.Encode(deviceCode))
	}
	var sum pollOutcome
	for _, r := range replicas {
		var o pollOutcome
		require.NoError(t, r.out.Decode(&o))
		sum.Tokens += o.Tokens
		sum.Refused += o.Refused
		sum.Others = append(sum.Others, o.Others...)
	}
	require.Empty(t, sum.Others, "what else the polls were told")
	require.Equal(t, 1, sum.Tokens, "polls that got tokens")
	require.Equal(t, len(replicas)*pollsAtOnce-1, sum.Refused)
}

// pollsAtOnce is how many polls each process makes at once.
var pollsAtOnce = func() int {
	if os.Getenv("DEVICEGRANT_SOAK") == "1" {
		return 100
	}
	return 25
}()

// pollJob is what a process is told that polls. A device code for each round follows.
type pollJob struct {
	Kind, DSN     string
	Transactional bool
}

// pollOutcome is what the polls of a round got.
type pollOutcome struct {
	Tokens, Refused int
	Others          []string // told or done, as it should not be
}

func pollRole(in *json.Decoder, out *json.Encoder) error {
	var job pollJob
	if err := in.Decode(&job); err != nil {
		return err
	}
	db, store, err := open(job.Kind, job.DSN)
	if err != nil {
		return err
	}
	defer db.Close()
	m := mode{transactional: job.Transactional}
	server, err := devicegrant.New(config(m.store(store), func(cfg *devicegrant.Config) {
		if m.transactional {
			cfg.IssueToken = issueInTransaction
		}
	}))
	if err != nil {
		return err
	}
	for {
		var deviceCode string
		if err := in.Decode(&deviceCode); err != nil {
			return unlessEOF(err)
		}
		if err := out.Encode(pollAtOnce(server, deviceCode)); err != nil {
			return err
		}
	}
}

func pollAtOnce(server *devicegrant.Server, deviceCode string) (o pollOutcome) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range pollsAtOnce {
		wg.Go(func() {
			_, err := server.Poll(context.Background(), devicegrant.PollRequest{ClientID: tv.ID, DeviceCode: deviceCode})
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				o.Tokens++
			case errors.Is(err, devicegrant.ErrAuthorizationPending), errors.Is(err, devicegrant.ErrInvalidGrant):
				o.Refused++
			default:
				o.Others = append(o.Others, err.Error())
			}
		})
	}
	wg.Wait()
	return o
}

// open opens the database of a DSN, in which the schema is already.
func open(kind, dsn string) (*sql.DB, *sqlstore.Store, error) {
	k := databases.ByName(kind)
	db, err := sql.Open(k.Driver, dsn)
	if err != nil {
		return nil, nil, err
	}
	db.SetMaxOpenConns(4)
	db.SetMaxIdleConns(4)
	store, err := sqlstore.New(db, k.Dialect, sqlstore.Config{Timeout: patience}) // All tests load the servers at once.
	if err != nil {
		return nil, nil, errors.Join(err, db.Close())
	}
	return db, store, nil
}

func unlessEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}
