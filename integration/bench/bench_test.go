package bench

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/devicegrant/devicegrant"
	"github.com/devicegrant/devicegrant/integration/internal/databases"
	"github.com/devicegrant/devicegrant/sqlstore"
)

// operation is what is measured.
type operation struct {
	name    string
	workers []int // how many goroutines at once, each in turn
	// make returns one call of it, and what is to be done before each that does not
	// count, or nil.
	make func(tb testing.TB, f *fixture) (call func() error, before func())
}

var (
	one  = []int{1}
	many = []int{1, 8, 64}
)

// batch is how many grants Server.Purge has purged at a time.
const batch = 1000

// operations are the yardsticks, each method of a Store, and whole logins.
var operations = []operation{
	{"SELECT", many, selectState},
	{"INSERT", one, insertToken},
	{"Create", one, create},
	{"ByUserCode", one, byUserCode},
	{"ByDeviceCode", one, byDeviceCode},
	{"Poll", many, poll},
	{"Swap", one, swap},
	{"Redeem", one, redeem},
	{"Purge1000", one, purge},
	{"Login", one, loginByDefault},
	{"LoginInTransaction", one, loginInTransaction},
}

// BenchmarkSQL measures with 100,000 grants in the table. SELECTs/op is how many
// SELECTs of one row by its primary key, with as many workers, take as long: they
// are timed just before.
func BenchmarkSQL(b *testing.B) {
	for _, kind := range databases.EachDriver {
		b.Run("db="+kind.Name, func(b *testing.B) {
			f := newFixture(b, kind, 100_000)
			for _, op := range operations {
				for _, workers := range op.workers {
					b.Run(fmt.Sprintf("op=%s/workers=%d", op.name, workers), func(b *testing.B) { measure(b, f, op, workers) })
				}
			}
		})
	}
}

// Every operation succeeds on every database.
func TestOperations(t *testing.T) {
	for _, kind := range databases.EachDriver {
		t.Run(kind.Name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, kind, 100)
			for _, op := range operations {
				call, before := op.make(t, f)
				for range 3 {
					if before != nil {
						before()
					}
					assert.NoError(t, call(), op.name)
				}
			}
		})
	}
}

func measure(b *testing.B, f *fixture, op operation, workers int) {
	b.ReportAllocs()
	const selects = 1000
	yardstick, _ := selectState(b, f)
	begin := time.Now()
	require.NoError(b, repeat(selects, workers, yardstick))
	unit := time.Since(begin) / selects

	call, before := op.make(b, f)
	b.ResetTimer()
	var err error
	if before == nil {
		err = repeat(b.N, workers, call)
	}
	for i := 0; i < b.N && before != nil && err == nil; i++ {
		b.StopTimer()
		before()
		b.StartTimer()
		err = call()
	}
	b.StopTimer()
	require.NoError(b, err)
	b.ReportMetric(float64(b.Elapsed())/float64(b.N)/float64(unit), "SELECTs/op")
}

// repeat makes n calls by as many workers, or stops at an error.
func repeat(n, workers int, call func() error) error {
	var calls atomic.Int64
	var wg sync.WaitGroup
	errs := make([]error, workers)
	for w := range errs {
		wg.Go(func() {
			for errs[w] == nil && calls.Add(1) <= int64(n) {
				errs[w] = call()
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

func selectState(tb testing.TB, f *fixture) (call func() error, before func()) {
	query := f.prepare(tb, "SELECT state FROM devicegrant_grants WHERE device_code = "+f.parameter(1))
	return func() error {
		var state int
		return query(next(f, f.polled).DeviceCode[:]).Scan(&state)
	}, nil
}

func insertToken(tb testing.TB, f *fixture) (call func() error, before func()) {
	return func() error { return f.issue(tb.Context(), f.db) }, nil
}

func create(tb testing.TB, f *fixture) (call func() error, before func()) {
	return func() error {
		g := newGrant(f.fresh(), expires)
		return f.store.Create(tb.Context(), &g)
	}, nil
}

func byUserCode(tb testing.TB, f *fixture) (call func() error, before func()) {
	return func() error {
		_, err := f.store.ByUserCode(tb.Context(), next(f, f.polled).UserCode)
		return err
	}, nil
}

func byDeviceCode(tb testing.TB, f *fixture) (call func() error, before func()) {
	return func() error {
		_, err := f.store.ByDeviceCode(tb.Context(), next(f, f.polled).DeviceCode)
		return err
	}, nil
}

// poll is a poll on time: every grant that is polled is so once in a minute of the
// Store's time, which is the caller's.
func poll(tb testing.TB, f *fixture) (call func() error, before func()) {
	return func() error {
		n := int(f.calls.Add(1))
		g := &f.polled[n%len(f.polled)]
		p, err := f.store.Poll(tb.Context(), g.DeviceCode, clientID, created.Add(time.Duration(1+n/len(f.polled))*time.Minute))
		if err == nil && p.Pace.Early() {
			return errors.New("the poll was early")
		}
		return err
	}, nil
}

func swap(tb testing.TB, f *fixture) (call func() error, before func()) {
	return func() error {
		g := next(f, f.changed)
		err := f.store.Swap(tb.Context(), g)
		g.Version++
		return err
	}, nil
}

// redeem is the transaction, with one token of the host's.
func redeem(tb testing.TB, f *fixture) (call func() error, before func()) {
	store, receipt := f.store.Transactional(), make([]byte, 300)
	return func() error {
		g := next(f, f.changed)
		err := store.Redeem(tb.Context(), g, func(ctx context.Context) ([]byte, error) { return receipt, f.issue(ctx, sqlstore.Tx(ctx)) })
		g.Version++
		return err
	}, nil
}

// purge purges a batch of which all have been polled.
func purge(tb testing.TB, f *fixture) (call func() error, before func()) {
	long := created.Add(-time.Hour)
	return func() error {
			n, err := f.store.Purge(tb.Context(), created, batch)
			if err == nil && n != batch {
				return fmt.Errorf("%d grants were purged", n)
			}
			return err
		}, func() {
			grants := make([]devicegrant.Grant, batch)
			for i := range grants {
				grants[i] = newGrant(f.fresh(), long)
			}
			f.load(tb, grants)
			f.loadPolls(tb, grants)
		}
}

func loginByDefault(tb testing.TB, f *fixture) (call func() error, before func()) {
	return login(tb, f.store, func(ctx context.Context) error { return f.issue(ctx, f.db) }), nil
}

func loginInTransaction(tb testing.TB, f *fixture) (call func() error, before func()) {
	return login(tb, f.store.Transactional(), func(ctx context.Context) error { return f.issue(ctx, sqlstore.Tx(ctx)) }), nil
}

// login is everything from the device's request to its tokens, with one poll in vain.
func login(tb testing.TB, store devicegrant.Store, issue func(context.Context) error) (call func() error) {
	key := make([]byte, 32)
	_, _ = rand.Read(key)
	server, err := devicegrant.New(devicegrant.Config{
		Store: store, Keys: [][]byte{key}, VerificationURI: "https://example.com/device",
		AuthenticateClient: func(context.Context, devicegrant.Credentials) (devicegrant.Client, error) {
			return devicegrant.Client{}, devicegrant.ErrInvalidClient
		},
		SignedIn: func(http.ResponseWriter, *http.Request, string) (string, bool) { return "", false },
		IssueToken: func(ctx context.Context, _ *devicegrant.Grant) (*devicegrant.Token, error) {
			return &devicegrant.Token{AccessToken: "token"}, issue(ctx)
		},
	})
	require.NoError(tb, err)
	client := devicegrant.Client{ID: clientID, DeviceGrant: true, Scopes: []string{"openid", "profile"}}
	person := devicegrant.Person{Subject: "alice"}
	return func() error {
		ctx := tb.Context()
		a, err := server.Authorize(ctx, client, devicegrant.AuthorizationRequest{Scope: "openid profile"})
		if err != nil {
			return err
		}
		if _, err := server.Poll(ctx, devicegrant.PollRequest{ClientID: clientID, DeviceCode: a.DeviceCode}); !errors.Is(err, devicegrant.ErrAuthorizationPending) {
			return fmt.Errorf("the first poll: %w", err)
		}
		review, err := server.Lookup(ctx, a.UserCode, person)
		if err != nil {
			return err
		}
		if err := server.Approve(ctx, review.Ticket, person, devicegrant.Approval{}); err != nil {
			return err
		}
		_, err = server.Poll(ctx, devicegrant.PollRequest{ClientID: clientID, DeviceCode: a.DeviceCode})
		return err
	}
}

// issue writes a token of the host's.
func (f *fixture) issue(ctx context.Context, db interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}) error {
	_, err := db.ExecContext(ctx, "INSERT INTO tokens (token, subject) VALUES ("+f.parameter(1)+", 'alice')", rand.Text())
	return err
}

// next returns each of the grants in turn.
func next(f *fixture, grants []devicegrant.Grant) *devicegrant.Grant {
	return &grants[int(f.calls.Add(1))%len(grants)]
}
