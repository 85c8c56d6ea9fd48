// Package sqlstore keeps grants in a database that the host has already:
// PostgreSQL, MySQL or MariaDB, or SQLite. Any number of replicas share them.
//
//	db, err := sql.Open("pgx", dsn) // the host's own, with the host's driver
//	err = sqlstore.CreateSchema(ctx, db, sqlstore.PostgreSQL, sqlstore.Config{})
//	store, err := sqlstore.New(db, sqlstore.PostgreSQL, sqlstore.Config{})
//
// It imports no driver and changes no schema unless told to. A goroutine of its own runs
// only while there are polls that wait for one another.
// Each method of devicegrant.Store is one statement that goes by an index; Purge is one
// for grants and one for tallies. List alone may read a whole table. Polls are recorded
// apart from the grants, so that none of them touches a decision: many by one statement, and
// those that come too early by none (see [Config.ExactPace]).
//
// A host that keeps its tokens in the same database has them written in the
// transaction that redeems the grant: see [Store.Transactional].
package sqlstore

import (
	"context"
	"database/sql"
	"time"

	"github.com/devicegrant/devicegrant"
)

// Config is how a Store uses its database. Its zero value is a sensible default.
type Config struct {
	// Prefix begins the name of every table, index and procedure: lower-case
	// letters, digits and underscores, at most 30, no digit first. Empty means
	// "devicegrant_".
	Prefix string

	// Timeout bounds each call, waiting for a connection and for locks included,
	// so that a poll is answered though the database is not. Zero means 5 seconds.
	// It does not bound the transaction of Redeem, for which the caller's context
	// does.
	Timeout time.Duration

	// ExactPace has the database asked about every poll. Otherwise one that comes too early,
	// or a second time at once, is answered from memory if this Store has seen the grant
	// pending less than ten seconds ago and knows of no decision since: without a query, so
	// that whoever polls too fast costs the database less than who does not. What that makes
	// of the interval is saved with the next query. Replicas then differ for a moment: a
	// decision made at another reaches a device that polls too early up to ten seconds late,
	// and each replica counts early polls for itself at first.
	ExactPace bool
}

const (
	defaultPrefix  = "devicegrant_"
	defaultTimeout = 5 * time.Second
)

// Store is a devicegrant.Store in a database. It is safe for concurrent use, also
// by other processes.
type Store struct {
	db      *sql.DB
	dialect Dialect
	timeout time.Duration
	queries queries
	writer  writer

	memory *memory
	turns  turns
	lanes  lanes
}

var (
	_ devicegrant.Store   = (*Store)(nil)
	_ devicegrant.Tallier = (*Store)(nil)
	_ devicegrant.Lister  = (*Store)(nil)
)

// New returns a Store in db, which stays the host's to configure and to close. The
// schema has to be there: apply it with your migrations (see [Schema]) or with
// [CreateSchema]. New refuses another version of it. It takes at most a minute: no
// device waits yet, and a database may be busy when its replicas start.
func New(db *sql.DB, dialect Dialect, cfg Config) (*Store, error) {
	cfg, err := cfg.withDefaults(dialect)
	if err != nil {
		return nil, err
	}
	s := &Store{db: db, dialect: dialect, timeout: cfg.Timeout, memory: newMemory(cfg.ExactPace), lanes: lanes{free: dialect.lanes}}
	if dialect.oneWriter {
		s.writer = make(writer, 1)
	}
	ctx, cancel := context.WithTimeout(context.Background(), schemaTimeout)
	defer cancel()
	err = repeat(ctx, dialect.lost, func(ctx context.Context) (err error) {
		if err := checkSchema(ctx, db, dialect, cfg); err != nil {
			return err
		}
		s.queries, err = newQueries(ctx, db, dialect, cfg.Prefix)
		return err
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Close releases the statements that were prepared. The database stays open.
func (s *Store) Close() error { return s.queries.close() }

// Create implements devicegrant.Store. Text that is not UTF-8, has a NUL in it or is
// too long is an error: 1 KiB of client id, subject or token hint, 64 KiB of scope, 4 KiB
// of resource, 16 KiB of authorization details, 256 bytes of the device's name, 512 of its
// user agent and 64 of its address.
func (s *Store) Create(ctx context.Context, g *devicegrant.Grant) error {
	if err := checkText(g); err != nil {
		return err
	}
	s.memory.created(g.DeviceCode)
	return s.write(ctx, "create", func(ctx context.Context) error {
		return s.queries.create.changeOne(ctx, devicegrant.ErrUserCodeExists,
			g.DeviceCode[:], digest(g.UserCode), s.dialect.id(g.ID), g.ClientID, g.Scope,
			g.Resource, g.AuthorizationDetails, g.TokenHint,
			g.Device.Name, g.Device.UserAgent, address(g.Device.Addr), g.State, g.Subject, digest(g.Session), g.Entered,
			g.CreatedAt.UnixMicro(), g.ExpiresAt.UnixMicro(), g.Version,
			g.Pace.Interval.Microseconds(), micros(g.Pace.OnTime), micros(g.Pace.Last), g.Pace.Repeated)
	})
}

// ByUserCode implements devicegrant.Store.
func (s *Store) ByUserCode(ctx context.Context, code devicegrant.UserCodeDigest) (*devicegrant.Grant, error) {
	return s.readBy(ctx, s.queries.byUserCode, code[:])
}

// ByDeviceCode implements devicegrant.Store.
func (s *Store) ByDeviceCode(ctx context.Context, code devicegrant.DeviceCodeDigest) (*devicegrant.Grant, error) {
	return s.readBy(ctx, s.queries.byDeviceCode, code[:])
}

func (s *Store) readBy(ctx context.Context, q query, code []byte) (g *devicegrant.Grant, err error) {
	err = s.do(ctx, "read", func(ctx context.Context) error {
		for range maxReads {
			saved := s.memory.saved()
			var r row
			if err := q.readOne(ctx, []any{code}, r.columns()); err != nil {
				return err
			}
			if g, err = r.read(); err != nil || s.memory.read(g, saved) {
				return err
			}
		}
		return nil
	})
	return g, err
}

// maxReads is how often a grant is read until no pace is saved meanwhile.
const maxReads = 3

// List implements devicegrant.Lister. It goes by the primary key from q.After on, and reads
// past what does not match, to the end of the table if there is too little: it has no index
// of its own, which every create would have to pay for.
func (s *Store) List(ctx context.Context, q devicegrant.ListQuery) (list []*devicegrant.Grant, err error) {
	for _, filter := range []string{q.ClientID, q.Subject} {
		if !isText(filter) || len(filter) > maxName {
			return nil, nil // No grant has it.
		}
	}
	args := []any{q.After[:], q.Now.UnixMicro(), q.ClientID == "", q.ClientID, q.Subject == "", q.Subject, q.Limit}
	err = s.do(ctx, "list", func(ctx context.Context) error {
		list = nil // Of a try before, nothing counts.
		return s.queries.list.each(ctx, args, func(rows *sql.Rows) error {
			var r row
			if err := rows.Scan(r.columns()...); err != nil {
				return err
			}
			g, err := r.read()
			if err == nil {
				s.memory.read(g, 0)
			}
			list = append(list, g)
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

// Swap implements devicegrant.Store. It discards the receipt of a redemption.
func (s *Store) Swap(ctx context.Context, g *devicegrant.Grant) error {
	if err := checkText(g); err != nil {
		return err
	}
	defer s.memory.decided(g.DeviceCode)
	return s.write(ctx, "swap", func(ctx context.Context) error {
		return s.queries.swap.changeOne(ctx, devicegrant.ErrConflict, swapArgs(g, nil)...)
	})
}

func swapArgs(g *devicegrant.Grant, receipt any) []any {
	return []any{
		digest(g.UserCode), g.Scope, g.State, g.Subject, digest(g.Session), g.Entered, g.ExpiresAt.UnixMicro(), receipt,
		g.DeviceCode[:], g.Version,
	}
}

// Purge implements devicegrant.Store. It deletes the oldest first, and holds no lock
// but those of its batch. Of several at once, in PostgreSQL each passes over what the
// others delete; elsewhere they wait for one another. In SQLite, where nobody writes
// beside it, it goes by a few at a time. Tallies come after the grants.
func (s *Store) Purge(ctx context.Context, before time.Time, limit int) (n int, err error) {
	s.memory.purge(before)
	for _, purge := range []func(context.Context, time.Time, int) (int, error){s.purgeGrants, s.purgeTallies} {
		for left := true; left && n < limit; {
			most := limit - n
			if s.dialect.purgesAtOnce > 0 {
				most = min(most, s.dialect.purgesAtOnce)
			}
			some, err := purge(ctx, before, most)
			n += some
			if err != nil {
				return n, err
			}
			left = some == most
		}
	}
	return n, nil
}

func (s *Store) purgeGrants(ctx context.Context, before time.Time, most int) (n int, err error) {
	err = s.write(ctx, "purge", func(ctx context.Context) error {
		n = 0
		return s.queries.purge.each(ctx, []any{before.UnixMicro(), most}, func(rows *sql.Rows) error {
			var some int // Each row counts for as many.
			err := rows.Scan(&some)
			n += some
			return err
		})
	})
	return n, err
}
