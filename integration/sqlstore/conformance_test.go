package sqlstore_test

import (
	"context"
	"database/sql"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/devicegrant/devicegrant"
	"github.com/devicegrant/devicegrant/integration/internal/databases"
	"github.com/devicegrant/devicegrant/sqlstore"
	"github.com/devicegrant/devicegrant/storetest"
)

// The contract, by every driver, and with settings of servers and drivers that
// change how statements are sent or what their text means.
func TestConformance(t *testing.T) {
	type setting struct {
		kind       databases.Kind
		name       string
		parameters []string
	}
	settings := []setting{
		{databases.PostgreSQL, "-simple protocol", []string{"default_query_exec_mode=simple_protocol"}}, // behind PgBouncer
		{databases.PostgreSQL, "-serializable", []string{"options=-c%20default_transaction_isolation%3Dserializable"}},
		{databases.MariaDB, "-unusual", []string{"parseTime=true", "loc=Asia%2FTokyo", "time_zone=%27%2B09%3A00%27",
			"interpolateParams=true", "clientFoundRows=true", "sql_mode=%27%27"}},
	}
	for _, kind := range databases.EachDriver {
		settings = append(settings, setting{kind: kind})
	}
	for _, s := range settings {
		t.Run(s.kind.Name+s.name, func(t *testing.T) {
			t.Parallel()
			db := s.kind.Open(t, s.kind.With(s.kind.Create(t), s.parameters...))
			var tables atomic.Int64
			storetest.Run(t, func(t *testing.T) devicegrant.Store {
				return s.kind.NewStore(t, db, sqlstore.Config{Prefix: fmt.Sprintf("t%d_", tables.Add(1))}).Transactional()
			})
		})
	}
}

// The contract, as replicas keep it that know of one another by the database only.
func TestConformanceOfReplicas(t *testing.T) {
	for _, kind := range []databases.Kind{databases.PostgreSQL, databases.MariaDB, databases.SQLite, databases.SQLiteMattn} {
		t.Run(kind.Name, func(t *testing.T) {
			t.Parallel()
			dsn := kind.Create(t)
			if kind.Dialect == sqlstore.SQLite {
				dsn = kind.With(dsn, noWaiting...) // The driver would keep waiting when its caller no longer does.
			}
			var pools [4]*sql.DB
			for i := range pools {
				pools[i] = kind.Open(t, dsn)
				pools[i].SetMaxOpenConns(4)
			}
			var tables atomic.Int64
			storetest.Run(t, func(t *testing.T) devicegrant.Store {
				cfg := sqlstore.Config{Prefix: fmt.Sprintf("t%d_", tables.Add(1)), ExactPace: true}
				r := &replicas{}
				for i, db := range pools {
					r.stores[i] = kind.NewStore(t, db, cfg).Transactional()
				}
				return r
			})
		})
	}
}

// replicas hands each call to the next of its Stores.
type replicas struct {
	stores [4]sqlstore.Transactional
	calls  atomic.Uint64
}

func (r *replicas) next() sqlstore.Transactional {
	return r.stores[r.calls.Add(1)%uint64(len(r.stores))]
}

func (r *replicas) Create(ctx context.Context, g *devicegrant.Grant) error {
	return r.next().Create(ctx, g)
}

func (r *replicas) ByUserCode(ctx context.Context, code devicegrant.UserCodeDigest) (*devicegrant.Grant, error) {
	return r.next().ByUserCode(ctx, code)
}

func (r *replicas) ByDeviceCode(ctx context.Context, code devicegrant.DeviceCodeDigest) (*devicegrant.Grant, error) {
	return r.next().ByDeviceCode(ctx, code)
}

func (r *replicas) Poll(ctx context.Context, code devicegrant.DeviceCodeDigest, clientID string, now time.Time) (devicegrant.Polled, error) {
	return r.next().Poll(ctx, code, clientID, now)
}

func (r *replicas) Swap(ctx context.Context, g *devicegrant.Grant) error {
	return r.next().Swap(ctx, g)
}

func (r *replicas) Purge(ctx context.Context, before time.Time, limit int) (int, error) {
	return r.next().Purge(ctx, before, limit)
}

func (r *replicas) Redeem(ctx context.Context, g *devicegrant.Grant, issue func(context.Context) ([]byte, error)) error {
	return r.next().Redeem(ctx, g, issue)
}

func (r *replicas) Receipt(ctx context.Context, g *devicegrant.Grant) ([]byte, error) {
	return r.next().Receipt(ctx, g)
}

func (r *replicas) Tallies(ctx context.Context, keys []devicegrant.TallyKey) ([]devicegrant.Tally, error) {
	return r.next().Tallies(ctx, keys)
}

func (r *replicas) SwapTallies(ctx context.Context, keys []devicegrant.TallyKey, tallies []devicegrant.Tally) error {
	return r.next().SwapTallies(ctx, keys, tallies)
}
