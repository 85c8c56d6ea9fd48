package clientfaults

import (
	"bytes"
	"context"
	"crypto/rand"
	"log/slog"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/devicegrant/devicegrant"
	"github.com/devicegrant/devicegrant/integration/internal/databases"
	"github.com/devicegrant/devicegrant/memstore"
	"github.com/devicegrant/devicegrant/sqlstore"
)

// The endpoints, at a name where nobody is asked.
const (
	origin            = "https://example.com"
	authorizationPath = "/device_authorization"
	tokenPath         = "/token"
)

const (
	clientID = "tv"
	interval = 5 * time.Second
)

// host is an authorization server, at which one device at a time logs in.
type host struct {
	store devicegrant.Store
	wrong time.Duration // by how much the clock that paces polls is; of the device's goroutine

	mu     sync.Mutex
	server *devicegrant.Server
	mux    *http.ServeMux
	tokens []string // that were made for the device
}

// inMemory makes a host whose grants are in memory. A token whose answer is lost is lost.
func inMemory(t *testing.T) *host {
	h := &host{}
	h.store = clocked{memstore.New(0), &h.wrong}
	h.restart(t)
	return h
}

// inTransactions makes a host that keeps an answer until it has been sent.
func inTransactions(t *testing.T) *host {
	db := databases.SQLiteMattn.Open(t, databases.SQLiteMattn.Create(t))
	h := &host{store: databases.SQLiteMattn.NewStore(t, db, sqlstore.Config{}).Transactional()}
	h.restart(t)
	return h
}

// clocked is a Store that is given wrong times to pace polls by.
type clocked struct {
	*memstore.Store
	wrong *time.Duration
}

func (c clocked) Poll(ctx context.Context, code devicegrant.DeviceCodeDigest, client string, now time.Time) (devicegrant.Polled, error) {
	return c.Store.Poll(ctx, code, client, now.Add(*c.wrong))
}

// restart makes the server anew. The keys and the Store are all that is left of it.
func (h *host) restart(t *testing.T) {
	tv := devicegrant.Client{ID: clientID, DeviceGrant: true}
	server, err := devicegrant.New(devicegrant.Config{
		Store:           h.store,
		Keys:            [][]byte{bytes.Repeat([]byte{1}, 32)},
		VerificationURI: origin + "/device",
		Interval:        interval,
		AuthenticateClient: func(_ context.Context, c devicegrant.Credentials) (devicegrant.Client, error) {
			if c.ID != clientID || c.Secret != "" {
				return devicegrant.Client{}, devicegrant.ErrInvalidClient
			}
			return tv, nil
		},
		SignedIn:   func(http.ResponseWriter, *http.Request, string) (string, bool) { return alice.Subject, true },
		IssueToken: h.issueToken,
		Logger:     slog.New(slog.DiscardHandler),
	})
	require.NoError(t, err)
	mux := http.NewServeMux()
	mux.Handle(authorizationPath, server.DeviceAuthorizationHandler())
	mux.Handle(tokenPath, server.TokenHandler(nil))
	h.mu.Lock()
	defer h.mu.Unlock()
	h.server, h.mux = server, mux
}

func (h *host) issueToken(context.Context, *devicegrant.Grant) (*devicegrant.Token, error) {
	token := rand.Text()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.tokens = append(h.tokens, token)
	return &devicegrant.Token{AccessToken: token, ExpiresIn: time.Hour}, nil
}

// takeTokens returns the tokens that were made since it was called last.
func (h *host) takeTokens() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	taken := h.tokens
	h.tokens = nil
	return taken
}

// ServeHTTP answers a request by whichever server there is.
func (h *host) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	mux := h.mux
	h.mu.Unlock()
	mux.ServeHTTP(w, r)
}

var alice = devicegrant.Person{Subject: "alice"}

// approve has a person enter a code and allow what it stands for.
func (h *host) approve(t *testing.T, userCode string) {
	h.mu.Lock()
	server := h.server
	h.mu.Unlock()
	review, err := server.Lookup(t.Context(), userCode, alice)
	if assert.NoError(t, err) {
		assert.NoError(t, server.Approve(t.Context(), review.Ticket, alice, devicegrant.Approval{}))
	}
}
