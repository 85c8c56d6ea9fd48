package devicegrant_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/devicegrant/devicegrant"
	"github.com/devicegrant/devicegrant/memstore"
	"github.com/devicegrant/devicegrant/storetest"
)

// fixture is a server with everything a host supplies, and a record of what it did.
type fixture struct {
	*devicegrant.Server
	t      testing.TB
	mux    *http.ServeMux
	issued atomic.Int64                                                          // tokens
	issue  func(context.Context, *devicegrant.Grant) (*devicegrant.Token, error) // before a token is issued; may be nil

	onEvent func(devicegrant.Event) // when one is raised; may be nil

	mu     sync.Mutex
	events []devicegrant.Event
	log    bytes.Buffer
}

var (
	tv  = devicegrant.Client{ID: "tv", Name: "Television", DeviceGrant: true, Scopes: []string{"openid", "profile"}, DefaultScopes: []string{"openid"}}
	cli = devicegrant.Client{ID: "cli", DeviceGrant: true, Scopes: []string{"openid"}}
	web = devicegrant.Client{ID: "web"}

	// They share a browser.
	alice = devicegrant.Person{Subject: "alice", Session: "laptop"}
	bob   = devicegrant.Person{Subject: "bob", Session: "laptop"}
)

// plenty is for what is not about limits on issuing.
var plenty = devicegrant.Quota{Rate: devicegrant.Limit{Burst: 1 << 30, Every: time.Microsecond}, Pending: 1 << 30}

// newFixture makes a server on a memstore; change, when not nil, adapts the Config.
func newFixture(t testing.TB, change func(*devicegrant.Config)) *fixture {
	f := &fixture{t: t, mux: http.NewServeMux()}
	cfg := devicegrant.Config{
		Store:                       memstore.New(0),
		Keys:                        [][]byte{bytes.Repeat([]byte{1}, 32)},
		VerificationURI:             "https://example.com/device",
		DeviceAuthorizationEndpoint: "https://example.com/device_authorization",
		AuthenticateClient:          authenticateClient,
		Client: func(_ context.Context, id string) (devicegrant.Client, error) {
			return map[string]devicegrant.Client{"tv": tv, "cli": cli, "web": web}[id], nil
		},
		SignedIn:   signedIn,
		IssueToken: f.issueToken,
		Issuance:   devicegrant.Issuance{PerClient: plenty, PerAddress: plenty},
		OnEvent:    f.record,
		Logger:     slog.New(slog.NewTextHandler(f, nil)),
	}
	if change != nil {
		change(&cfg)
	}
	var err error
	f.Server, err = devicegrant.New(cfg)
	require.NoError(t, err)
	f.mux.Handle("/device_authorization", f.DeviceAuthorizationHandler())
	f.mux.Handle("/token", f.TokenHandler(nil))
	f.mux.Handle("/device", f.VerificationHandler())
	return f
}

func authenticateClient(_ context.Context, c devicegrant.Credentials) (devicegrant.Client, error) {
	switch {
	case c.ID == "tv" && c.Method == devicegrant.AuthNone:
		return tv, nil
	case c.ID == "cli" && c.Secret == "cli secret/+:":
		return cli, nil
	case c.ID == "web" && c.Secret == "web-secret":
		return web, nil
	}
	return devicegrant.Client{}, devicegrant.ErrInvalidClient
}

// signedIn takes the subject from a cookie, and leads to /login without one.
func signedIn(w http.ResponseWriter, r *http.Request, returnTo string) (string, bool) {
	if c, err := r.Cookie("subject"); err == nil {
		return c.Value, true
	}
	http.Redirect(w, r, "/login?return_to="+url.QueryEscape(returnTo), http.StatusSeeOther)
	return "", false
}

func (f *fixture) issueToken(ctx context.Context, g *devicegrant.Grant) (*devicegrant.Token, error) {
	if f.issue != nil {
		if token, err := f.issue(ctx, g); token != nil || err != nil {
			return token, err
		}
	}
	return &devicegrant.Token{AccessToken: fmt.Sprintf("token-%d-%s", f.issued.Add(1), g.Subject), Scope: g.Scope}, nil
}

func (f *fixture) record(_ context.Context, e devicegrant.Event) {
	if f.onEvent != nil {
		f.onEvent(e)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.events = append(f.events, e)
}

// Write makes the fixture the place its server logs to.
func (f *fixture) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.log.Write(p)
}

func (f *fixture) logged() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.log.String()
}

// raised returns the events of a type.
func (f *fixture) raised(t devicegrant.EventType) (found []devicegrant.Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, e := range f.events {
		if e.Type == t {
			found = append(found, e)
		}
	}
	return found
}

func (f *fixture) authorize() *devicegrant.Authorization {
	f.t.Helper()
	a, err := f.Authorize(f.t.Context(), tv, devicegrant.AuthorizationRequest{Scope: "openid profile"})
	require.NoError(f.t, err)
	return a
}

// authorizeInTheEnd tries until the one user code that is free is drawn.
func (f *fixture) authorizeInTheEnd() *devicegrant.Authorization {
	f.t.Helper()
	for range 1000 {
		if a, err := f.Authorize(f.t.Context(), tv, devicegrant.AuthorizationRequest{}); err == nil {
			return a
		}
	}
	require.Fail(f.t, "no user code is free")
	return nil
}

func (f *fixture) review(userCode string, by devicegrant.Person) *devicegrant.Review {
	f.t.Helper()
	r, err := f.Lookup(f.t.Context(), userCode, by)
	require.NoError(f.t, err)
	return r
}

func (f *fixture) approve(a *devicegrant.Authorization) {
	f.t.Helper()
	require.NoError(f.t, f.yes(f.t.Context(), f.review(a.UserCode, alice).Ticket, alice))
}

// yes approves with nothing to add.
func (f *fixture) yes(ctx context.Context, ticket string, by devicegrant.Person) error {
	return f.Approve(ctx, ticket, by, devicegrant.Approval{})
}

func (f *fixture) deny(a *devicegrant.Authorization) {
	f.t.Helper()
	require.NoError(f.t, f.Deny(f.t.Context(), f.review(a.UserCode, alice).Ticket, alice))
}

func (f *fixture) poll(a *devicegrant.Authorization) (*devicegrant.Token, error) {
	return f.Poll(f.t.Context(), devicegrant.PollRequest{ClientID: "tv", DeviceCode: a.DeviceCode})
}

// requirePoll polls and requires the error, or a token if there is none.
func (f *fixture) requirePoll(a *devicegrant.Authorization, want error) {
	f.t.Helper()
	token, err := f.poll(a)
	if want == nil {
		require.NoError(f.t, err)
		require.NotEmpty(f.t, token.AccessToken)
		return
	}
	require.ErrorIs(f.t, err, want)
}

// post sends a form to a handler and returns what it answered.
func (f *fixture) post(path, body string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	return f.do(r)
}

func (f *fixture) do(r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	f.mux.ServeHTTP(w, r)
	return w
}

// faultyFixture is a fixture on a memstore that fails where it is told to.
func faultyFixture(t testing.TB) (*fixture, *storetest.Faulty) {
	store := storetest.NewFaulty(memstore.New(0))
	return newFixture(t, func(c *devicegrant.Config) { c.Store = impatient{store} }), store
}

// impatient is a Store that, like a database, writes nothing for a context that has
// ended, and does not wait for the answer when it ends meanwhile.
type impatient struct{ devicegrant.Store }

func (s impatient) Swap(ctx context.Context, g *devicegrant.Grant) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	err := s.Store.Swap(ctx, g)
	return cmp.Or(ctx.Err(), err)
}

// outage fails every call until the Store is healed.
var outage = storetest.Fault{Times: storetest.Always, Err: errOutage}

var errOutage = errors.New("connection refused")
