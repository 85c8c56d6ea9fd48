package deviceclient_test

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/devicegrant/devicegrant"
	"github.com/devicegrant/devicegrant/deviceclient"
	"github.com/devicegrant/devicegrant/memstore"
)

// newGrant returns this project's own server, which demands a code challenge.
func newGrant(t testing.TB, uri string) *devicegrant.Server {
	t.Helper()
	tv := devicegrant.Client{ID: "tv", DeviceGrant: true, Scopes: []string{"openid", "profile"}, RequireChallenge: true}
	grant, err := devicegrant.New(devicegrant.Config{
		Store:                       memstore.New(0),
		Keys:                        [][]byte{make([]byte, 32)},
		VerificationURI:             uri + "/device",
		DeviceAuthorizationEndpoint: uri + "/device_authorization",
		AuthenticateClient: func(_ context.Context, c devicegrant.Credentials) (devicegrant.Client, error) {
			return tv, nil
		},
		SignedIn: func(http.ResponseWriter, *http.Request, string) (string, bool) { return "alice", true },
		IssueToken: func(_ context.Context, g *devicegrant.Grant) (*devicegrant.Token, error) {
			return &devicegrant.Token{AccessToken: "made-for-" + g.Subject, ExpiresIn: time.Hour, Scope: g.Scope}, nil
		},
	})
	require.NoError(t, err)
	return grant
}

func routes(grant *devicegrant.Server, uri string) *http.ServeMux {
	mux := http.NewServeMux()
	mux.Handle("/device_authorization", grant.DeviceAuthorizationHandler())
	mux.Handle("/token", grant.TokenHandler(nil))
	mux.HandleFunc("/.well-known/oauth-authorization-server", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(grant.Metadata(map[string]any{"issuer": uri, "token_endpoint": uri + "/token"}))
	})
	return mux
}

// inProcess sends requests to a handler.
type inProcess struct{ http.Handler }

func (p inProcess) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	p.ServeHTTP(w, r)
	return w.Result(), nil
}

// decide has somebody type the code, and decide.
func decide(t testing.TB, grant *devicegrant.Server, code string, allow bool) {
	t.Helper()
	alice := devicegrant.Person{Subject: "alice", Session: "phone"}
	review, err := grant.Lookup(t.Context(), code, alice)
	require.NoError(t, err)
	if allow {
		require.NoError(t, grant.Approve(t.Context(), review.Ticket, alice, devicegrant.Approval{}))
	} else {
		require.NoError(t, grant.Deny(t.Context(), review.Ticket, alice))
	}
}

// The client against the server that this project has: it is never too early.
func TestLogin(t *testing.T) {
	for name, test := range map[string]struct {
		after time.Duration // when somebody decides
		allow bool
		want  error
	}{
		"approved at once":            {0, true, nil},
		"approved":                    {time.Minute, true, nil},
		"approved at the last moment": {15*time.Minute - time.Second, true, nil},
		"denied":                      {time.Minute, false, deviceclient.ErrDenied},
		"expired":                     {time.Hour, false, deviceclient.ErrExpired},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				grant := newGrant(t, origin)
				var early atomic.Int32
				next := routes(grant, origin)
				watched := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					kept := httptest.NewRecorder()
					next.ServeHTTP(kept, r)
					var answer struct{ Error string }
					if json.Unmarshal(kept.Body.Bytes(), &answer) == nil && answer.Error == "slow_down" {
						early.Add(1)
					}
					w.WriteHeader(kept.Code)
					_, _ = w.Write(kept.Body.Bytes())
				})
				client := newClient(t, deviceclient.Config{
					ClientID: "tv", Issuer: origin, Scopes: []string{"openid"},
					HTTPClient: &http.Client{Transport: inProcess{watched}},
				})
				a := start(t, client)
				timer := time.AfterFunc(test.after, func() { decide(t, grant, a.UserCode, test.allow) })
				defer timer.Stop()
				token, err := client.Poll(t.Context(), a)
				assert.Zero(t, early.Load())
				if test.want != nil {
					requireOutcome(t, test.want, err)
					return
				}
				require.NoError(t, err)
				assert.Equal(t, "made-for-alice", token.AccessToken)
				assert.Equal(t, "openid", token.Scope)
				assert.WithinDuration(t, time.Now().Add(time.Hour), token.Expiry, time.Second)
			})
		})
	}
}

// Without an HTTPClient of the caller's, nothing is left when a login has ended: neither a
// connection nor a goroutine.
func TestNothingIsLeft(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("/device_authorization", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"device_code":"d","user_code":"W","verification_uri":"https://example.com","expires_in":60,"interval":1}`))
	})
	mux.HandleFunc("/token", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = w.Write([]byte(denied))
	})
	mux.HandleFunc("/header", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Endless", strings.Repeat("x", 100_000))
		w.WriteHeader(http.StatusNotFound)
	})
	var opened, open atomic.Int32
	server := httptest.NewUnstartedServer(mux)
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			opened.Add(1)
			open.Add(1)
		case http.StateClosed:
			open.Add(-1)
		default:
		}
	}
	server.Start()
	cfg := deviceclient.Config{ClientID: "tv", DeviceAuthorizationEndpoint: server.URL + "/device_authorization", TokenEndpoint: server.URL + "/token"}
	client := newClient(t, cfg)
	_, err := client.Poll(t.Context(), start(t, client))
	requireOutcome(t, deviceclient.ErrDenied, err)
	assert.EqualValues(t, 1, opened.Load(), "one connection serves the login")
	cfg.DeviceAuthorizationEndpoint = server.URL + "/header"
	_, err = newClient(t, cfg).Start(t.Context())
	requireOutcome(t, deviceclient.ErrFailed, err)
	assert.ErrorContains(t, err, "headers exceeded 65536 bytes")
	assert.Eventually(t, func() bool { return open.Load() == 0 }, 10*time.Second, time.Millisecond)
	server.Close()
	assert.Eventually(t, func() bool {
		stacks := make([]byte, 1<<20)
		return !strings.Contains(string(stacks[:runtime.Stack(stacks, true)]), "net/http.(*persistConn)")
	}, 10*time.Second, time.Millisecond, "a connection's goroutines")
}

// A proxy, and whoever else is between, sees codes in no URL.
func TestNothingSecretInURLs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := serving(refuses(pending), says(200, issued))
		client := server.client(t)
		_, err := client.Poll(t.Context(), start(t, client))
		require.NoError(t, err)
		require.Len(t, server.requests, 4)
		for _, r := range server.requests {
			u, err := url.Parse(r.url)
			require.NoError(t, err)
			assert.Empty(t, u.RawQuery)
			assert.NotContains(t, r.url, "secret")
		}
	})
}
