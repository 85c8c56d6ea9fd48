package devicegrant_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/devicegrant/devicegrant"
	"github.com/devicegrant/devicegrant/memstore"
	"github.com/devicegrant/devicegrant/storetest"
)

// logins is one grant in each state, by name, and one of another client.
func logins(t *testing.T, f *fixture) map[string]*devicegrant.Authorization {
	all := make(map[string]*devicegrant.Authorization)
	for _, state := range []string{"expired", "pending", "approved", "denied", "redeemed"} {
		all[state] = f.authorize()
		if state == "expired" {
			time.Sleep(all[state].ExpiresIn)
		}
	}
	f.approve(all["approved"])
	f.deny(all["denied"])
	f.approve(all["redeemed"])
	f.requirePoll(all["redeemed"], nil)
	var err error
	all["other"], err = f.Authorize(t.Context(), cli, devicegrant.AuthorizationRequest{})
	require.NoError(t, err)
	return all
}

// Which grants a filter finds, and that revoking ends these and no others.
func TestListAndRevoke(t *testing.T) {
	filters := map[string]struct {
		filter func(all map[string]*devicegrant.Authorization) devicegrant.Filter
		want   []string
	}{
		"a client": {func(map[string]*devicegrant.Authorization) devicegrant.Filter {
			return devicegrant.Filter{ClientID: "tv"}
		}, []string{"pending", "approved"}},
		"another client": {func(map[string]*devicegrant.Authorization) devicegrant.Filter {
			return devicegrant.Filter{ClientID: "cli"}
		}, []string{"other"}},
		"an unknown client": {func(map[string]*devicegrant.Authorization) devicegrant.Filter {
			return devicegrant.Filter{ClientID: "nobody"}
		}, nil},
		"a subject": {func(map[string]*devicegrant.Authorization) devicegrant.Filter {
			return devicegrant.Filter{Subject: "alice"}
		}, []string{"approved"}},
		"a subject and a client": {func(map[string]*devicegrant.Authorization) devicegrant.Filter {
			return devicegrant.Filter{Subject: "alice", ClientID: "cli"}
		}, nil},
		"somebody else": {func(map[string]*devicegrant.Authorization) devicegrant.Filter {
			return devicegrant.Filter{Subject: "bob"}
		}, nil},
		"no code": {func(map[string]*devicegrant.Authorization) devicegrant.Filter {
			return devicegrant.Filter{UserCode: "?"}
		}, nil},
		"a code of another client": {func(all map[string]*devicegrant.Authorization) devicegrant.Filter {
			return devicegrant.Filter{UserCode: all["pending"].UserCode, ClientID: "cli"}
		}, nil},
		"a code of another subject": {func(all map[string]*devicegrant.Authorization) devicegrant.Filter {
			return devicegrant.Filter{UserCode: all["approved"].UserCode, Subject: "bob"}
		}, nil},
	}
	for _, state := range []string{"expired", "pending", "approved", "denied", "redeemed", "other"} {
		want := []string{state}
		if state == "expired" || state == "denied" || state == "redeemed" {
			want = nil
		}
		filters["the code of one that is "+state] = struct {
			filter func(all map[string]*devicegrant.Authorization) devicegrant.Filter
			want   []string
		}{func(all map[string]*devicegrant.Authorization) devicegrant.Filter {
			return devicegrant.Filter{UserCode: " " + all[state].UserCode + "."}
		}, want}
	}
	for name, tt := range filters {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t, nil)
				all := logins(t, f)
				filter := tt.filter(all)
				listed, err := f.List(t.Context(), filter, nil, 10)
				require.NoError(t, err)
				require.Len(t, listed, len(tt.want))
				ids := make(map[any]bool)
				for _, g := range listed {
					ids[g.ID] = true
				}

				n, err := f.Revoke(t.Context(), filter)
				require.NoError(t, err)
				assert.Equal(t, len(tt.want), n)
				revoked := f.raised(devicegrant.EventRevoked)
				require.Len(t, revoked, len(tt.want))
				for _, e := range revoked {
					assert.True(t, ids[e.Grant])
				}
				answers := map[string]error{
					"expired": devicegrant.ErrExpiredToken, "pending": devicegrant.ErrAuthorizationPending,
					"denied": devicegrant.ErrAccessDenied, "redeemed": devicegrant.ErrInvalidGrant, "other": devicegrant.ErrAuthorizationPending, "approved": nil,
				}
				for _, state := range tt.want {
					answers[state] = devicegrant.ErrAccessDenied
				}
				for state, want := range answers {
					client := "tv"
					if state == "other" {
						client = "cli"
					}
					_, err := f.Poll(t.Context(), devicegrant.PollRequest{ClientID: client, DeviceCode: all[state].DeviceCode})
					assert.ErrorIs(t, err, want, state)
				}
				n, err = f.Revoke(t.Context(), filter)
				require.NoError(t, err)
				assert.Zero(t, n, "nothing is left")
			})
		})
	}
}

// A list goes on where the last one ended, and Revoke goes through all of it.
func TestListGoesOn(t *testing.T) {
	const grants = 250
	f := newFixture(t, nil)
	for range grants {
		f.authorize()
	}
	filter := devicegrant.Filter{ClientID: "tv"}
	seen := make(map[any]bool)
	var after *devicegrant.Grant
	for {
		list, err := f.List(t.Context(), filter, after, 100)
		require.NoError(t, err)
		for _, g := range list {
			assert.False(t, seen[g.ID])
			seen[g.ID] = true
		}
		if len(list) < 100 {
			break
		}
		after = list[len(list)-1]
	}
	assert.Len(t, seen, grants)
	list, err := f.List(t.Context(), devicegrant.Filter{UserCode: f.authorize().UserCode}, after, 100)
	require.NoError(t, err)
	assert.Empty(t, list, "there is but one of a code")

	n, err := f.Revoke(t.Context(), filter)
	require.NoError(t, err)
	assert.Equal(t, grants+1, n)
}

func TestListRefuses(t *testing.T) {
	f, store := faultyFixture(t)
	for name, tt := range map[string]struct {
		filter devicegrant.Filter
		limit  int
		want   string
	}{
		"no filter":                 {devicegrant.Filter{}, 10, "Filter is empty"},
		"no limit":                  {devicegrant.Filter{ClientID: "tv"}, 0, "limit"},
		"a Store that is no Lister": {devicegrant.Filter{ClientID: "tv"}, 10, "no Lister"},
	} {
		_, err := f.List(t.Context(), tt.filter, nil, tt.limit)
		assert.ErrorContains(t, err, tt.want, name)
	}
	_, err := f.List(t.Context(), devicegrant.Filter{Subject: "alice"}, nil, 1)
	require.ErrorIs(t, err, devicegrant.ErrNotListed)
	_, err = f.Revoke(t.Context(), devicegrant.Filter{})
	require.ErrorContains(t, err, "Filter is empty")

	a := f.authorize()
	store.Inject(storetest.OpByUserCode, outage)
	_, err = f.Revoke(t.Context(), devicegrant.Filter{UserCode: a.UserCode})
	require.ErrorIs(t, err, errOutage)
	require.Len(t, f.raised(devicegrant.EventStoreError), 1)
	store.Heal()
	store.Inject(storetest.OpSwap, outage)
	_, err = f.Revoke(t.Context(), devicegrant.Filter{UserCode: a.UserCode})
	require.ErrorIs(t, err, errOutage)
	require.Len(t, f.raised(devicegrant.EventStoreError), 2)
	assert.Empty(t, f.raised(devicegrant.EventRevoked))
}

// unlistable is a Lister that fails.
type unlistable struct{ *memstore.Store }

func (unlistable) List(context.Context, devicegrant.ListQuery) ([]*devicegrant.Grant, error) {
	return nil, errOutage
}

func TestListInAnOutage(t *testing.T) {
	f := newFixture(t, func(c *devicegrant.Config) { c.Store = unlistable{memstore.New(0)} })
	_, err := f.List(t.Context(), devicegrant.Filter{ClientID: "tv"}, nil, 1)
	require.ErrorIs(t, err, errOutage)
	require.Len(t, f.raised(devicegrant.EventStoreError), 1)
}

// Whatever happens between reading and revoking wins, or is revoked.
func TestRevokeRaces(t *testing.T) {
	for name, tt := range map[string]struct {
		between func(f *fixture, a *devicegrant.Authorization)
		revoked int
		want    error
	}{
		"approve": {func(f *fixture, a *devicegrant.Authorization) { f.approve(a) }, 1, devicegrant.ErrAccessDenied},
		"enter":   {func(f *fixture, a *devicegrant.Authorization) { f.review(a.UserCode, alice) }, 1, devicegrant.ErrAccessDenied},
		"deny":    {func(f *fixture, a *devicegrant.Authorization) { f.deny(a) }, 0, devicegrant.ErrAccessDenied},
		"redeem": {func(f *fixture, a *devicegrant.Authorization) {
			f.approve(a)
			f.requirePoll(a, nil)
		}, 0, devicegrant.ErrInvalidGrant},
	} {
		t.Run(name, func(t *testing.T) {
			f, store := faultyFixture(t)
			a := f.authorize()
			done := false
			store.Before = func(op storetest.Op, _ int) {
				if op == storetest.OpSwap && !done {
					done = true
					tt.between(f, a)
				}
			}
			n, err := f.Revoke(t.Context(), devicegrant.Filter{UserCode: a.UserCode})
			require.NoError(t, err)
			require.True(t, done)
			assert.Equal(t, tt.revoked, n)
			assert.Len(t, f.raised(devicegrant.EventRevoked), tt.revoked)
			f.requirePoll(a, tt.want)
		})
	}
}

// Revoke comes to an end, however many devices arrive meanwhile.
func TestRevokeEnds(t *testing.T) {
	store := &endless{Store: memstore.New(0)}
	f := newFixture(t, func(c *devicegrant.Config) { c.Store = store })
	store.f = f
	n, err := f.Revoke(t.Context(), devicegrant.Filter{ClientID: "tv"})
	require.NoError(t, err)
	assert.GreaterOrEqual(t, n, 100)
}

// endless is a Lister at which devices keep arriving.
type endless struct {
	*memstore.Store
	f     *fixture
	asked int
}

func (e *endless) List(ctx context.Context, q devicegrant.ListQuery) ([]*devicegrant.Grant, error) {
	if e.asked++; e.asked > 1000 {
		return nil, errOutage
	}
	for range q.Limit {
		e.f.authorize()
	}
	return e.Store.List(ctx, q)
}
