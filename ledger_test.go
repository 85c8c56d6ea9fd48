package devicegrant_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/devicegrant/devicegrant"
	"github.com/devicegrant/devicegrant/memstore"
	"github.com/devicegrant/devicegrant/storetest"
)

// ledger is a memstore with transactions, and so a devicegrant.Redeemer. It fails where
// it is told to.
type ledger struct {
	*storetest.Faulty
	store *memstore.Store // that of Faulty

	mu       sync.Mutex
	fault    redeemFault // of the next Redeem
	held     map[devicegrant.DeviceCodeDigest]bool
	receipts map[devicegrant.DeviceCodeDigest]versioned
}

// versioned is a receipt, and the version of the grant that it is good for.
type versioned struct {
	version int64
	receipt []byte
}

type redeemFault int

const (
	sound      redeemFault = iota
	notBegun               // It fails before it issues.
	rolledBack             // It fails when it has issued.
	replyLost              // It takes effect, and fails.
)

var _ devicegrant.Redeemer = (*ledger)(nil)

func newLedger() *ledger {
	store := memstore.New(0)
	return &ledger{
		Faulty: storetest.NewFaulty(impatient{store}), store: store,
		held: map[devicegrant.DeviceCodeDigest]bool{}, receipts: map[devicegrant.DeviceCodeDigest]versioned{},
	}
}

func (l *ledger) Redeem(ctx context.Context, g *devicegrant.Grant, issue func(context.Context) ([]byte, error)) error {
	fault, err := l.begin(ctx, g)
	if err != nil {
		return err
	}
	defer l.end(g)
	receipt, err := issue(ctx)
	if err != nil {
		return err
	}
	if fault == rolledBack {
		return errOutage
	}
	if err := l.commit(ctx, g, receipt); err != nil {
		return err
	}
	if fault == replyLost {
		return errOutage
	}
	return nil
}

func (l *ledger) begin(ctx context.Context, g *devicegrant.Grant) (redeemFault, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fault := l.fault
	l.fault = sound
	if fault == notBegun {
		return fault, errOutage
	}
	stored, err := l.store.ByDeviceCode(ctx, g.DeviceCode)
	if err != nil || stored.Version != g.Version || l.held[g.DeviceCode] {
		return fault, devicegrant.ErrConflict
	}
	l.held[g.DeviceCode] = true
	return fault, nil
}

func (l *ledger) end(g *devicegrant.Grant) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.held, g.DeviceCode)
}

// commit writes the grant together with the receipt: whoever reads one waits.
func (l *ledger) commit(ctx context.Context, g *devicegrant.Grant, receipt []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := l.store.Swap(ctx, g); err != nil {
		return err
	}
	l.receipts[g.DeviceCode] = versioned{g.Version + 1, bytes.Clone(receipt)}
	return nil
}

func (l *ledger) Receipt(ctx context.Context, g *devicegrant.Grant) ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	stored, err := l.store.ByDeviceCode(ctx, g.DeviceCode)
	if err != nil || stored.Version != g.Version {
		return nil, devicegrant.ErrNotFound
	}
	if kept := l.receipts[g.DeviceCode]; kept.version == g.Version {
		return bytes.Clone(kept.receipt), nil
	}
	return nil, nil
}

// failNext has the next Redeem fail.
func (l *ledger) failNext(fault redeemFault) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fault = fault
}

// The tests with it mean something only if it keeps the contract.
func TestLedger(t *testing.T) {
	storetest.Run(t, func(*testing.T) devicegrant.Store { return newLedger() })
}

// ledgerFixture is a fixture whose Store is a Redeemer.
func ledgerFixture(t testing.TB) (*fixture, *ledger) {
	l := newLedger()
	return newFixture(t, func(c *devicegrant.Config) { c.Store = l }), l
}

// replica is another server on the Store.
func (l *ledger) replica(t testing.TB, keys ...[]byte) *fixture {
	return newFixture(t, func(c *devicegrant.Config) {
		c.Store = l
		if len(keys) > 0 {
			c.Keys = keys
		}
	})
}

// digestOf returns the digest under which a device code is stored.
func digestOf(t testing.TB, a *devicegrant.Authorization) devicegrant.DeviceCodeDigest {
	t.Helper()
	raw, err := base64.RawURLEncoding.DecodeString(a.DeviceCode)
	require.NoError(t, err)
	return sha256.Sum256(raw)
}

// stored returns the grant of an authorization as it is stored.
func (l *ledger) stored(t testing.TB, a *devicegrant.Authorization) *devicegrant.Grant {
	t.Helper()
	g, err := l.store.ByDeviceCode(t.Context(), digestOf(t, a))
	require.NoError(t, err)
	return g
}

// requireState requires a state, and with redeemed that nothing is left of the answer
// and of the user code.
func (l *ledger) requireState(t testing.TB, a *devicegrant.Authorization, want devicegrant.State) {
	t.Helper()
	g := l.stored(t, a)
	require.Equal(t, want, g.State)
	receipt, err := l.Receipt(t.Context(), g)
	require.NoError(t, err)
	require.Equal(t, want == devicegrant.Redeeming, receipt != nil, "there is a receipt while redeeming")
	require.Equal(t, want == devicegrant.Redeemed, g.UserCode == devicegrant.UserCodeDigest{}, "redemption frees the code")
}

func pollRequest(a *devicegrant.Authorization) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/token", strings.NewReader(grantType+"&client_id=tv&device_code="+a.DeviceCode))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return r
}

// dying is where a process dies that has written its answer: nobody gets it.
type dying struct{ *httptest.ResponseRecorder }

var errDied = errors.New("the process dies")

func (dying) FlushError() error { panic(errDied) }

// lose polls, and loses the answer, which must be tokens.
func (f *fixture) lose(a *devicegrant.Authorization) (lost string) {
	f.t.Helper()
	w := dying{httptest.NewRecorder()}
	require.PanicsWithValue(f.t, errDied, func() { f.mux.ServeHTTP(w, pollRequest(a)) })
	return w.Body.String()
}

// collect polls for tokens and returns the answer.
func (f *fixture) collect(a *devicegrant.Authorization) string {
	f.t.Helper()
	w := f.do(pollRequest(a))
	require.Equal(f.t, http.StatusOK, w.Code, w.Body)
	return w.Body.String()
}
