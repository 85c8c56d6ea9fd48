package sqlstore_test

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"fmt"
	"log/slog"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/devicegrant/devicegrant"
	"github.com/devicegrant/devicegrant/sqlstore"
)

const scope = "openid offline_access"

var (
	secret = []byte("the key that all replicas share.")
	tv     = devicegrant.Client{ID: "tv", DeviceGrant: true, Scopes: []string{"openid", "offline_access"}}
	alice  = devicegrant.Person{Subject: "alice"}
)

// mode is one of the two ways to redeem.
type mode struct {
	name          string
	transactional bool
}

var modes = []mode{{"default", false}, {"transaction", true}}

// store returns the Store as the mode uses it.
func (m mode) store(s *sqlstore.Store) devicegrant.Store {
	if m.transactional {
		return s.Transactional()
	}
	return s
}

// newServer returns a server of the library with a host around it that issues random
// tokens; change may change that.
func newServer(t testing.TB, store devicegrant.Store, change ...func(*devicegrant.Config)) *devicegrant.Server {
	t.Helper()
	server, err := devicegrant.New(config(store, change...))
	require.NoError(t, err)
	return server
}

func config(store devicegrant.Store, change ...func(*devicegrant.Config)) devicegrant.Config {
	cfg := devicegrant.Config{
		Store:           store,
		Keys:            [][]byte{secret},
		VerificationURI: "https://example.com/device",
		AuthenticateClient: func(_ context.Context, c devicegrant.Credentials) (devicegrant.Client, error) {
			client := tv
			client.ID = c.ID
			return client, nil
		},
		SignedIn:   func(http.ResponseWriter, *http.Request, string) (string, bool) { return alice.Subject, true },
		IssueToken: issue,
		Logger:     slog.New(slog.DiscardHandler),
	}
	for _, f := range change {
		f(&cfg)
	}
	return cfg
}

func issue(context.Context, *devicegrant.Grant) (*devicegrant.Token, error) {
	return &devicegrant.Token{
		AccessToken: rand.Text(), RefreshToken: rand.Text(), ExpiresIn: time.Hour,
		Extra: map[string]any{"id_token": rand.Text()},
	}, nil
}

// createTokens creates the host's own table.
func createTokens(t *testing.T, db *sql.DB) {
	t.Helper()
	_, err := db.ExecContext(t.Context(), "CREATE TABLE tokens (grant_id CHAR(36) NOT NULL, token CHAR(64) NOT NULL)")
	require.NoError(t, err)
}

// issueInTransaction issues tokens as a host does that has them in the same database.
func issueInTransaction(ctx context.Context, g *devicegrant.Grant) (*devicegrant.Token, error) {
	token, err := issue(ctx, g)
	if err != nil {
		return nil, err
	}
	_, err = sqlstore.Tx(ctx).ExecContext(ctx, fmt.Sprintf("INSERT INTO tokens (grant_id, token) VALUES ('%s', '%x')",
		g.ID, sha256.Sum256([]byte(token.AccessToken))))
	return token, err
}

// authorize starts a login.
func authorize(t testing.TB, s *devicegrant.Server) *devicegrant.Authorization {
	t.Helper()
	a, err := s.Authorize(t.Context(), tv, devicegrant.AuthorizationRequest{Scope: scope})
	require.NoError(t, err)
	return a
}

// approve has alice say yes.
func approve(t testing.TB, s *devicegrant.Server, a *devicegrant.Authorization) {
	t.Helper()
	review, err := s.Lookup(t.Context(), a.UserCode, alice)
	require.NoError(t, err)
	require.NoError(t, s.Approve(t.Context(), review.Ticket, alice, devicegrant.Approval{}))
}
