package faults

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/devicegrant/devicegrant"
	"github.com/devicegrant/devicegrant/integration/internal/databases"
	"github.com/devicegrant/devicegrant/sqlstore"
)

// patience is how long something may take that takes no time on an idle machine.
const patience = 60 * time.Second

// A login whose first try to issue tokens fails, so that there is something to roll
// back, is done once without a fault. Then each thing that it asked the driver for
// fails, in each way.
func TestEachPointFails(t *testing.T) {
	for _, kind := range databases.Each {
		for _, transactional := range []bool{false, true} {
			name := kind.Name + "/in steps"
			if transactional {
				name = kind.Name + "/in one transaction"
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				h := newHost(t, kind, transactional)
				points := h.login(t, -1, "")
				t.Logf("%d points: %v", len(points), points)
				want := []point{statement}
				if transactional {
					want = append(want, begin, commit, rollback)
				}
				for _, p := range want {
					require.Contains(t, points, p)
				}
				for at, p := range points {
					for _, how := range p.faults() {
						t.Run(fmt.Sprintf("%d %s %s", at, p, how), func(t *testing.T) {
							seen := h.login(t, at, how)
							require.Equal(t, points[:at+1], seen[:at+1], "the same happens up to the fault")
						})
					}
				}
			})
		}
	}
}

// host is an authorization server's database, seen through sound connections.
type host struct {
	kind          databases.Kind
	transactional bool
	dsn           string
	db            *sql.DB
	store         *sqlstore.Store
	insertToken   string
}

func newHost(t *testing.T, kind databases.Kind, transactional bool) *host {
	h := &host{kind: kind, transactional: transactional, dsn: kind.Create(t)}
	h.db = kind.Open(t, h.dsn)
	h.store = kind.NewStore(t, h.db, sqlstore.Config{})
	_, err := h.db.ExecContext(t.Context(), "CREATE TABLE tokens (token VARCHAR(64) NOT NULL PRIMARY KEY, grant_id VARCHAR(36) NOT NULL)")
	require.NoError(t, err)
	h.insertToken = "INSERT INTO tokens (token, grant_id) VALUES (?, ?)"
	if kind.Name == databases.PostgreSQL.Name {
		h.insertToken = "INSERT INTO tokens (token, grant_id) VALUES ($1, $2)"
	}
	return h
}

// login is one login, of which one point fails. It returns the points that there were.
func (h *host) login(t *testing.T, at int, how fault) []point {
	l := &login{host: h, line: &line{at: at, how: how}, events: map[devicegrant.EventType]int{}}
	l.person.Subject = rand.Text() // Whose tries nobody else has used up.
	l.faulty = l.line.open(t, h.kind, h.dsn)
	store, err := sqlstore.New(l.faulty, h.kind.Dialect, sqlstore.Config{})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, store.Close()) })
	l.start(t, store)

	l.line.watch()
	l.authorize(t)
	l.pollPending(t)
	l.approve(t)
	l.collect(t)
	if at >= 0 {
		require.True(t, l.line.failed(), "the fault is never met")
	}
	return l.line.history()
}

type login struct {
	*host
	line   *line
	faulty *sql.DB
	server *devicegrant.Server
	person devicegrant.Person
	events map[devicegrant.EventType]int

	issues int // calls of IssueToken
	device *devicegrant.Authorization
	digest devicegrant.DeviceCodeDigest
}

var errIssue = errors.New("the first try fails")

const (
	clientID     = "tv"
	claimTimeout = time.Second // the least; in a transaction there is no such claim
)

func (l *login) start(t *testing.T, store *sqlstore.Store) {
	client := devicegrant.Client{ID: clientID, DeviceGrant: true}
	cfg := devicegrant.Config{
		Store:           store,
		Keys:            [][]byte{make([]byte, 32)},
		VerificationURI: "https://example.com/device",
		AuthenticateClient: func(context.Context, devicegrant.Credentials) (devicegrant.Client, error) {
			return client, nil
		},
		SignedIn:     func(http.ResponseWriter, *http.Request, string) (string, bool) { return l.person.Subject, true },
		IssueToken:   l.issueToken,
		ClaimTimeout: claimTimeout,
		OnEvent:      func(_ context.Context, e devicegrant.Event) { l.events[e.Type]++ },
		Logger:       slog.New(slog.DiscardHandler),
	}
	if l.transactional {
		cfg.Store, cfg.ClaimTimeout = store.Transactional(), patience
	}
	var err error
	l.server, err = devicegrant.New(cfg)
	require.NoError(t, err)
}

// issueToken writes the token in the transaction; without one, on a connection that
// does not fail: how hosts write then is their own affair. Its first call fails.
func (l *login) issueToken(ctx context.Context, g *devicegrant.Grant) (*devicegrant.Token, error) {
	exec := l.db.ExecContext
	if tx := sqlstore.Tx(ctx); tx != nil {
		exec = tx.ExecContext
	}
	token := uuid.NewString()
	if _, err := exec(ctx, l.insertToken, token, g.ID.String()); err != nil {
		return nil, err
	}
	if l.issues++; l.issues > 1 {
		return &devicegrant.Token{AccessToken: token}, nil
	}
	if !l.transactional { // Nobody rolls it back.
		if _, err := exec(ctx, "DELETE FROM tokens WHERE grant_id = '"+g.ID.String()+"'"); err != nil {
			return nil, err
		}
	}
	return nil, errIssue
}

// tries is how often a step is tried that a fault can make fail once.
const tries = 3

func (l *login) authorize(t *testing.T) {
	t.Helper()
	client := devicegrant.Client{ID: clientID, DeviceGrant: true}
	for range tries {
		a, err := l.server.Authorize(t.Context(), client, devicegrant.AuthorizationRequest{})
		l.requireReturned(t)
		if err == nil {
			raw, err := base64.RawURLEncoding.DecodeString(a.DeviceCode)
			require.NoError(t, err)
			l.device, l.digest = a, sha256.Sum256(raw)
			l.requireState(t, devicegrant.Pending)
			return
		}
		require.True(t, l.line.failed(), "Authorize: %v", err)
	}
	require.Fail(t, "the device gets no code")
}

func (l *login) poll(t *testing.T) (*devicegrant.Token, error) {
	t.Helper()
	token, err := l.server.Poll(t.Context(), devicegrant.PollRequest{ClientID: clientID, DeviceCode: l.device.DeviceCode})
	l.requireReturned(t)
	return token, err
}

func (l *login) pollPending(t *testing.T) {
	t.Helper()
	for range tries {
		_, err := l.poll(t)
		l.requireState(t, devicegrant.Pending)
		if errors.Is(err, devicegrant.ErrAuthorizationPending) {
			return
		}
		require.ErrorIs(t, err, devicegrant.ErrSlowDown)
		require.True(t, l.line.failed(), "Poll: %v", err)
	}
	require.Fail(t, "the device is not told to wait")
}

// approve is a person who tries again when something does not work.
func (l *login) approve(t *testing.T) {
	t.Helper()
	for range tries {
		r, err := l.server.Lookup(t.Context(), l.device.UserCode, l.person)
		l.requireReturned(t)
		if err != nil {
			require.True(t, l.line.failed(), "Lookup: %v", err)
			continue
		}
		for range tries {
			err := l.server.Approve(t.Context(), r.Ticket, l.person, devicegrant.Approval{})
			l.requireReturned(t)
			if err == nil || errors.Is(err, devicegrant.ErrDecided) && l.line.failed() {
				l.requireState(t, devicegrant.Approved)
				return
			}
			require.True(t, l.line.failed(), "Approve: %v", err)
			l.requireState(t, devicegrant.Pending, devicegrant.Approved)
		}
	}
	require.Fail(t, "nobody can approve")
}

// collect polls until it is over.
func (l *login) collect(t *testing.T) {
	t.Helper()
	slowDowns := 0
	for end := time.Now().Add(patience); time.Now().Before(end); {
		token, err := l.poll(t)
		state := l.requireState(t, devicegrant.Approved, devicegrant.Redeeming, devicegrant.Redeemed)
		switch {
		case err == nil:
			l.over(t, token, state, slowDowns)
			return
		case errors.Is(err, devicegrant.ErrExpiredToken):
			l.orphaned(t, state)
			return
		case errors.Is(err, devicegrant.ErrSlowDown):
			slowDowns++
		default:
			require.ErrorIs(t, err, devicegrant.ErrAuthorizationPending)
			require.Equal(t, devicegrant.Redeeming, state)
			require.True(t, l.line.failed())
			<-time.After(claimTimeout / 10) // The device's interval.
		}
	}
	require.Fail(t, "the device waits for ever")
}

// over checks what the device's tokens leave behind.
func (l *login) over(t *testing.T, token *devicegrant.Token, state devicegrant.State, slowDowns int) {
	t.Helper()
	require.Equal(t, []string{token.AccessToken}, l.tokens(t))
	require.LessOrEqual(t, slowDowns, 2, "one for the issuer, one for the fault")
	require.Equal(t, 1, l.events[devicegrant.EventRedeemed]+l.events[devicegrant.EventDeliveredAgain])
	if state == devicegrant.Redeeming {
		require.Equal(t, 1, l.events[devicegrant.EventClaimStuck], "the commit failed")
		_, err := l.poll(t)
		require.ErrorIs(t, err, devicegrant.ErrAuthorizationPending)
		return
	}
	_, err := l.poll(t)
	if l.line.failed() && errors.Is(err, devicegrant.ErrSlowDown) {
		_, err = l.poll(t)
	}
	require.ErrorIs(t, err, devicegrant.ErrInvalidGrant)
	require.Equal(t, []string{token.AccessToken}, l.tokens(t))
	require.Equal(t, 1, l.events[devicegrant.EventReplayed])
}

// orphaned checks that it is the fault of a claim that the device starts again.
func (l *login) orphaned(t *testing.T, state devicegrant.State) {
	t.Helper()
	require.False(t, l.transactional, "no approved login is lost in a transaction")
	require.True(t, l.line.failed())
	require.Equal(t, devicegrant.Redeeming, state)
	require.Positive(t, l.events[devicegrant.EventClaimStuck]+l.events[devicegrant.EventStoreError])
	require.Empty(t, l.tokens(t), "the device has none")
}

// requireState requires that the grant is in one of the states, and that the tokens in
// the database agree with it.
func (l *login) requireState(t *testing.T, allowed ...devicegrant.State) devicegrant.State {
	t.Helper()
	g, err := l.store.ByDeviceCode(t.Context(), l.digest)
	require.NoError(t, err)
	require.True(t, slices.Contains(allowed, g.State), "it is %v, want one of %v", g.State, allowed)
	require.Equal(t, g.State == devicegrant.Redeemed, g.UserCode == devicegrant.UserCodeDigest{})
	n := len(l.tokens(t))
	receipt, err := l.store.Transactional().Receipt(t.Context(), g)
	require.NoError(t, err)
	switch {
	case g.State == devicegrant.Redeemed:
		require.Equal(t, 1, n, "tokens of a grant that is redeemed")
	case g.State == devicegrant.Redeeming && l.transactional:
		require.Equal(t, 1, n, "tokens of a grant that is redeeming")
	case g.State == devicegrant.Redeeming:
		require.LessOrEqual(t, n, 1)
	default:
		require.Zero(t, n, "tokens of a grant that is %v", g.State)
	}
	require.Equal(t, l.transactional && g.State == devicegrant.Redeeming, len(receipt) > 0, "whether there is a receipt of a grant that is %v", g.State)
	return g.State
}

// tokens returns those of the grant in the host's table.
func (l *login) tokens(t *testing.T) (tokens []string) {
	t.Helper()
	g, err := l.store.ByDeviceCode(t.Context(), l.digest)
	require.NoError(t, err)
	rows, err := l.db.QueryContext(t.Context(), "SELECT token FROM tokens WHERE grant_id = '"+g.ID.String()+"'")
	require.NoError(t, err)
	defer rows.Close()
	for rows.Next() {
		var token string
		require.NoError(t, rows.Scan(&token))
		tokens = append(tokens, token)
	}
	require.NoError(t, rows.Err())
	return tokens
}

func (l *login) requireReturned(t *testing.T) {
	t.Helper()
	requireReturned(t, l.faulty)
}

// requireReturned requires that every connection is back, and none is left over.
func requireReturned(t *testing.T, db *sql.DB) {
	t.Helper()
	require.Eventually(t, func() bool { return db.Stats().InUse == 0 }, patience, time.Millisecond, "a connection is not returned")
	s := db.Stats()
	require.LessOrEqual(t, s.OpenConnections, maxOpen)
	require.Equal(t, s.OpenConnections, s.Idle)
}
