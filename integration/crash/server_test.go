package crash

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"os"
	"slices"
	"time"

	"github.com/devicegrant/devicegrant"
	"github.com/devicegrant/devicegrant/integration/internal/databases"
	"github.com/devicegrant/devicegrant/sqlstore"
)

// This file is the server under test. It keeps nothing: everything is in the
// database, the host's tokens too.

// settingsEnv makes the test binary such a server.
const settingsEnv = "DEVICEGRANT_CRASH_SERVER"

const (
	clientID = "tv"
	interval = time.Second
)

// storeConfig is every Store's.
var storeConfig = sqlstore.Config{Prefix: "crash_"}

// settings are what a server is started with.
type settings struct {
	Kind, DSN, Addr        string
	Transactional          bool
	Key                    []byte
	Lifetime, ClaimTimeout time.Duration
	IssuePause             time.Duration // at the most
}

// createTokens is the host's own table. It is not unique by grant, so that a second
// token can be seen.
const createTokens = "CREATE TABLE tokens (token VARCHAR(64) NOT NULL PRIMARY KEY, grant_id VARCHAR(36) NOT NULL)"

func kindOf(name string) databases.Kind {
	return databases.Each[slices.IndexFunc(databases.Each, func(k databases.Kind) bool { return k.Name == name })]
}

// serve runs the server until it is killed, or whoever started it ends.
func serve(content string) error {
	var s settings
	if err := json.Unmarshal([]byte(content), &s); err != nil {
		return err
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // It ends with the process that holds the other end.
		os.Exit(1)
	}()
	kind := kindOf(s.Kind)
	db, err := sql.Open(kind.Driver, s.DSN)
	if err != nil {
		return err
	}
	db.SetMaxOpenConns(8)
	db.SetMaxIdleConns(8)
	handler, err := newHandler(s, kind, db)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", s.Addr)
	if err != nil {
		return err
	}
	fmt.Println("listening")
	server := &http.Server{Handler: handler, ReadHeaderTimeout: patience}
	return server.Serve(listener)
}

func newHandler(s settings, kind databases.Kind, db *sql.DB) (http.Handler, error) {
	plain, err := sqlstore.New(db, kind.Dialect, storeConfig)
	if err != nil {
		return nil, err
	}
	var store devicegrant.Store = plain
	if s.Transactional {
		store = plain.Transactional()
	}
	grant, err := devicegrant.New(devicegrant.Config{
		Store:              store,
		Keys:               [][]byte{s.Key},
		VerificationURI:    "https://login.example/device",
		AuthenticateClient: authenticate,
		SignedIn: func(w http.ResponseWriter, _ *http.Request, _ string) (string, bool) {
			http.NotFound(w, nil)
			return "", false
		},
		IssueToken:   host{db, kind, s.IssuePause}.issue,
		Lifetime:     s.Lifetime,
		Interval:     interval,
		ClaimTimeout: s.ClaimTimeout,
		// Whose code is being looked up when the server dies loses a try, and here some do
		// again and again.
		UserCode: devicegrant.UserCodeFormat{Alphabet: devicegrant.Base20.Alphabet, Length: 10, Group: 5},
		Guessing: devicegrant.Guessing{PerAddress: devicegrant.Limit{Burst: 100, Every: time.Minute}},
		// All devices of the test have one address.
		Issuance: devicegrant.Issuance{PerAddress: devicegrant.Quota{Rate: devicegrant.Limit{Burst: 10_000, Every: time.Millisecond}, Pending: 10_000}},
		OnEvent:  report,
		Logger:   slog.New(slog.DiscardHandler), // The events say the same.
	})
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("/device_authorization", grant.DeviceAuthorizationHandler())
	token := grant.TokenHandler(nil)
	mux.HandleFunc("/token", func(w http.ResponseWriter, r *http.Request) { token.ServeHTTP(slowWriter{w}, r) })
	mux.HandleFunc("/approve", func(w http.ResponseWriter, r *http.Request) { approve(grant, w, r) })
	return mux, nil
}

func authenticate(_ context.Context, c devicegrant.Credentials) (devicegrant.Client, error) {
	if c.ID != clientID {
		return devicegrant.Client{}, devicegrant.ErrInvalidClient
	}
	return devicegrant.Client{ID: clientID, DeviceGrant: true}, nil
}

// approve is the person's decision in one request. One that was lost can be made
// again.
func approve(grant *devicegrant.Server, w http.ResponseWriter, r *http.Request) {
	by := devicegrant.Person{Subject: r.FormValue("subject")}
	review, err := grant.Lookup(r.Context(), r.FormValue("user_code"), by)
	if err == nil {
		err = grant.Approve(r.Context(), review.Ticket, by, devicegrant.Approval{})
	}
	switch {
	case errors.Is(err, devicegrant.ErrUserCode):
		w.WriteHeader(http.StatusNotFound)
	case err != nil && !errors.Is(err, devicegrant.ErrDecided):
		w.WriteHeader(http.StatusServiceUnavailable)
	}
}

// host is the host's part: its tokens.
type host struct {
	db    *sql.DB
	kind  databases.Kind
	pause time.Duration
}

// issue writes a token, in the transaction if there is one. Without, a failure does
// not say whether it was written; the host disowns it, so that it counts as none.
func (h host) issue(ctx context.Context, g *devicegrant.Grant) (*devicegrant.Token, error) {
	token, tx := rand.Text(), sqlstore.Tx(ctx)
	insert := h.db.ExecContext
	if tx != nil {
		insert = tx.ExecContext
	}
	statement := "INSERT INTO tokens (token, grant_id) VALUES (?, ?)"
	if h.kind.Dialect == sqlstore.PostgreSQL {
		statement = "INSERT INTO tokens (token, grant_id) VALUES ($1, $2)"
	}
	pause(h.pause)
	if _, err := insert(ctx, statement, token, g.ID.String()); err != nil {
		if tx == nil {
			fmt.Fprintln(os.Stderr, "disowned", token)
		}
		return nil, err
	}
	pause(h.pause)
	return &devicegrant.Token{AccessToken: token, ExpiresIn: time.Hour}, nil
}

// report prints an event that a login without trouble does not have.
func report(_ context.Context, e devicegrant.Event) {
	switch e.Type {
	case devicegrant.EventCreated, devicegrant.EventApproved, devicegrant.EventRedeemed:
	default:
		fmt.Fprintln(os.Stderr, "event", e.Type, e.Grant, e.Err)
	}
}

// slowWriter takes its time with tokens, so that a process can be killed before they
// are sent, and after.
type slowWriter struct{ http.ResponseWriter }

func (w slowWriter) WriteHeader(status int) {
	if status == http.StatusOK {
		pause(longestPause)
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w slowWriter) FlushError() error {
	err := http.NewResponseController(w.ResponseWriter).Flush()
	pause(longestPause)
	return err
}

const longestPause = 25 * time.Millisecond

// pause takes the time of a signature or a slow network, and widens the moments in
// which a death is dangerous.
func pause(longest time.Duration) { time.Sleep(mathrand.N(longest)) }
