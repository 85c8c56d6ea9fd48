package customstore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/devicegrant/devicegrant"
	"github.com/devicegrant/devicegrant/examples/customstore"
)

var (
	tv    = devicegrant.Client{ID: "tv", DeviceGrant: true, Scopes: []string{"openid"}}
	alice = devicegrant.Person{Subject: "alice", Session: "phone"}
)

// host is what outlives a restart: its key, and what it has issued.
type host struct{ issued atomic.Int64 }

// serve returns the server of the process that has the Store.
func (h *host) serve(t *testing.T, store devicegrant.Store) *devicegrant.Server {
	t.Helper()
	grant, err := devicegrant.New(devicegrant.Config{
		Store: store, Keys: [][]byte{bytes.Repeat([]byte{1}, 32)}, VerificationURI: "https://example.com/device",
		AuthenticateClient: func(context.Context, devicegrant.Credentials) (devicegrant.Client, error) { return tv, nil },
		SignedIn:           func(http.ResponseWriter, *http.Request, string) (string, bool) { return "alice", true },
		IssueToken: func(_ context.Context, g *devicegrant.Grant) (*devicegrant.Token, error) {
			return &devicegrant.Token{AccessToken: fmt.Sprint(g.Subject, h.issued.Add(1)), ExpiresIn: time.Hour, Scope: g.Scope}, nil
		},
	})
	require.NoError(t, err)
	return grant
}

// A restart loses no grant and no decision, and no token is issued twice because of it.
func TestRestart(t *testing.T) {
	for name, restart := range map[string]func(*testing.T, *customstore.Store, string) (*customstore.Store, string){
		"after Close": func(t *testing.T, s *customstore.Store, path string) (*customstore.Store, string) {
			require.NoError(t, s.Close())
			return open(t, path), path
		},
		// What the file has while it is open is what a process leaves that is killed.
		"without Close": func(t *testing.T, _ *customstore.Store, path string) (*customstore.Store, string) {
			left, err := os.ReadFile(path)
			require.NoError(t, err)
			path = newPath(t)
			require.NoError(t, os.WriteFile(path, left, 0o600))
			return open(t, path), path
		},
	} {
		t.Run(name, func(t *testing.T) {
			h, path := &host{}, newPath(t)
			store := open(t, path)
			first := h.serve(t, store)
			pending, approved, denied := authorize(t, first), authorize(t, first), authorize(t, first)
			approve(t, first, approved)
			require.NoError(t, first.Deny(t.Context(), lookup(t, first, denied), alice))

			store, path = restart(t, store, path)
			second := h.serve(t, store)
			require.ErrorIs(t, poll(t, second, denied), devicegrant.ErrAccessDenied)
			pollAtOnce(t, second, approved)
			require.EqualValues(t, 1, h.issued.Load(), "tokens of the grant that was approved before")
			require.ErrorIs(t, poll(t, second, pending), devicegrant.ErrAuthorizationPending)
			approve(t, second, pending)
			require.NoError(t, poll(t, second, pending))

			store, _ = restart(t, store, path)
			third := h.serve(t, store)
			for _, over := range []*devicegrant.Authorization{approved, pending} {
				require.ErrorIs(t, poll(t, third, over), devicegrant.ErrInvalidGrant, "it was redeemed before")
			}
			assert.EqualValues(t, 2, h.issued.Load())
		})
	}
}

func authorize(t *testing.T, grant *devicegrant.Server) *devicegrant.Authorization {
	t.Helper()
	a, err := grant.Authorize(t.Context(), tv, devicegrant.AuthorizationRequest{Scope: "openid"})
	require.NoError(t, err)
	return a
}

// lookup returns the ticket.
func lookup(t *testing.T, grant *devicegrant.Server, a *devicegrant.Authorization) string {
	t.Helper()
	review, err := grant.Lookup(t.Context(), a.UserCode, alice)
	require.NoError(t, err)
	return review.Ticket
}

func approve(t *testing.T, grant *devicegrant.Server, a *devicegrant.Authorization) {
	t.Helper()
	require.NoError(t, grant.Approve(t.Context(), lookup(t, grant, a), alice, devicegrant.Approval{}))
}

func poll(t *testing.T, grant *devicegrant.Server, a *devicegrant.Authorization) error {
	_, err := grant.Poll(t.Context(), devicegrant.PollRequest{ClientID: "tv", DeviceCode: a.DeviceCode})
	return err
}

// pollAtOnce demands that one of several polls gets the tokens.
func pollAtOnce(t *testing.T, grant *devicegrant.Server, a *devicegrant.Authorization) {
	t.Helper()
	var wg sync.WaitGroup
	var won atomic.Int64
	for range 8 {
		wg.Go(func() {
			switch err := poll(t, grant, a); {
			case err == nil:
				won.Add(1)
			case !errors.Is(err, devicegrant.ErrAuthorizationPending) && !errors.Is(err, devicegrant.ErrInvalidGrant):
				t.Error(err)
			}
		})
	}
	wg.Wait()
	require.EqualValues(t, 1, won.Load())
}
