package devicegrant_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/devicegrant/devicegrant"
)

// decided is a Policy that always decides the same.
func decided(t devicegrant.Terms, err error) devicegrant.Policy {
	return func(context.Context, devicegrant.Application) (devicegrant.Terms, error) { return t, err }
}

// Who says how long a code lives and how fast it is polled for, and that it is enforced.
func TestLifetimeAndInterval(t *testing.T) {
	for name, tt := range map[string]struct {
		client             devicegrant.Client
		policy             devicegrant.Policy
		lifetime, interval time.Duration
	}{
		"Config":              {lifetime: 15 * time.Minute, interval: 5 * time.Second},
		"Client":              {client: devicegrant.Client{Lifetime: time.Hour, Interval: 9 * time.Second}, lifetime: time.Hour, interval: 9 * time.Second},
		"Client, one of them": {client: devicegrant.Client{Interval: 9 * time.Second}, lifetime: 15 * time.Minute, interval: 9 * time.Second},
		"Policy": {
			client:   devicegrant.Client{Lifetime: time.Hour, Interval: 9 * time.Second},
			policy:   decided(devicegrant.Terms{Lifetime: 10 * time.Minute, Interval: 70 * time.Second}, nil),
			lifetime: 10 * time.Minute, interval: 70 * time.Second,
		},
		"Policy, nothing": {
			client:   devicegrant.Client{Lifetime: time.Hour, Interval: 9 * time.Second},
			policy:   decided(devicegrant.Terms{}, nil),
			lifetime: time.Hour, interval: 9 * time.Second,
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t, func(c *devicegrant.Config) { c.Policy = tt.policy })
				tt.client.ID, tt.client.DeviceGrant = "tv", true
				a, err := f.Authorize(t.Context(), tt.client, devicegrant.AuthorizationRequest{})
				require.NoError(t, err)
				assert.Equal(t, tt.lifetime, a.ExpiresIn)
				assert.Equal(t, tt.interval, a.Interval)
				f.requirePoll(a, devicegrant.ErrAuthorizationPending)
				time.Sleep(tt.interval)
				f.requirePoll(a, devicegrant.ErrAuthorizationPending)
				time.Sleep(tt.interval / 2)
				f.requirePoll(a, devicegrant.ErrSlowDown)
				time.Sleep(tt.lifetime)
				f.requirePoll(a, devicegrant.ErrExpiredToken)
			})
		})
	}
}

// What a Policy is told.
func TestApplication(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen devicegrant.Application
		f := newFixture(t, func(c *devicegrant.Config) {
			c.Policy = func(_ context.Context, a devicegrant.Application) (devicegrant.Terms, error) {
				seen = a
				return devicegrant.Terms{}, nil
			}
		})
		client := tv
		client.Interval, client.Resources, client.AuthorizationDetailsTypes = 10*time.Second, []string{"urn:a", "urn:b"}, []string{"payment"}
		device := devicegrant.Device{Name: "Kitchen", UserAgent: "TV/1", Addr: address(7)}
		request := devicegrant.AuthorizationRequest{
			Scope: "openid profile", Resources: []string{"urn:b", "urn:a"}, AuthorizationDetails: `[{"type":"payment"}]`,
			CodeChallenge: codeChallenge, CodeChallengeMethod: "S256", Key: thumbprint, Device: device,
		}
		for range 3 {
			_, err := f.Authorize(t.Context(), client, request)
			require.NoError(t, err)
		}
		assert.Equal(t, devicegrant.Application{
			Client: client, Scopes: []string{"openid", "profile"}, Resources: []string{"urn:b", "urn:a"}, AuthorizationDetails: `[{"type":"payment"}]`,
			Device: device, Challenge: true, Key: thumbprint, Lifetime: 15 * time.Minute, Interval: 10 * time.Second,
			Load: devicegrant.Load{Pending: 2, Polls: 0.2, Arrivals: 0.2},
		}, seen)

		time.Sleep(9 * time.Second)
		_, err := f.Authorize(t.Context(), tv, devicegrant.AuthorizationRequest{})
		require.NoError(t, err)
		assert.InDelta(t, 0.3, seen.Load.Arrivals, 1e-9, "within ten seconds")
		assert.False(t, seen.Challenge)
		assert.Zero(t, seen.Key)
		time.Sleep(time.Second)
		a, err := f.Authorize(t.Context(), tv, devicegrant.AuthorizationRequest{})
		require.NoError(t, err)
		assert.Equal(t, 4, seen.Load.Pending)
		assert.InDelta(t, 0.5, seen.Load.Polls, 1e-9)
		assert.InDelta(t, 0.1, seen.Load.Arrivals, 1e-9)

		time.Sleep(5 * time.Second)
		f.deny(a)
		_, err = f.Authorize(t.Context(), tv, devicegrant.AuthorizationRequest{})
		require.NoError(t, err)
		assert.Equal(t, 4, seen.Load.Pending)
		time.Sleep(16 * time.Minute)
		_, err = f.Authorize(t.Context(), tv, devicegrant.AuthorizationRequest{})
		require.NoError(t, err)
		assert.Zero(t, seen.Load, "everything has expired")
	})
}

// Scopes that a Policy takes away, and the hint that it gives, reach IssueToken and the
// device.
func TestPolicyScopesAndHint(t *testing.T) {
	for name, tt := range map[string]struct {
		asked   string
		allowed []string
		want    string
		err     error
	}{
		"all":                  {"openid profile", nil, "openid profile", nil},
		"some":                 {"profile openid", []string{"openid", "admin"}, "openid", nil},
		"none":                 {"openid profile", []string{}, "", devicegrant.ErrInvalidScope},
		"others":               {"openid profile", []string{"admin"}, "", devicegrant.ErrInvalidScope},
		"the default, unasked": {"", []string{"openid"}, "openid", nil},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, func(c *devicegrant.Config) {
				c.Policy = decided(devicegrant.Terms{Scopes: tt.allowed, TokenHint: "short-lived"}, nil)
			})
			f.issue = func(_ context.Context, g *devicegrant.Grant) (*devicegrant.Token, error) {
				assert.Equal(t, tt.want, g.Scope)
				assert.Equal(t, "short-lived", g.TokenHint)
				return &devicegrant.Token{AccessToken: "x"}, nil
			}
			a, err := f.Authorize(t.Context(), tv, devicegrant.AuthorizationRequest{Scope: tt.asked})
			if tt.err != nil {
				require.ErrorIs(t, err, tt.err)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, strings.Fields(tt.want), f.review(a.UserCode, alice).Scopes)
			f.approve(a)
			token, err := f.poll(a)
			require.NoError(t, err)
			assert.Equal(t, tt.want, token.Scope)
		})
	}
}

// What a Policy cannot decide, and how it refuses. Nothing is stored or counted then.
func TestPolicyRefuses(t *testing.T) {
	denied := devicegrant.ErrUnauthorizedClient.Describe("not from there")
	for name, tt := range map[string]struct {
		terms  devicegrant.Terms
		err    error
		want   error
		logged string
	}{
		"an answer for the client": {err: fmt.Errorf("policy: %w", denied), want: denied},
		"a failure":                {err: errors.New("no connection"), want: devicegrant.ErrTemporarilyUnavailable, logged: "no connection"},
		"a fraction of a second":   {terms: devicegrant.Terms{Interval: 1500 * time.Millisecond}, want: devicegrant.ErrTemporarilyUnavailable, logged: "Interval is 1.5s"},
		"a negative lifetime":      {terms: devicegrant.Terms{Lifetime: -time.Second}, want: devicegrant.ErrTemporarilyUnavailable, logged: "Lifetime is -1s"},
		"no second poll":           {terms: devicegrant.Terms{Interval: time.Hour}, want: devicegrant.ErrTemporarilyUnavailable, logged: "no device could poll twice"},
		"a long hint":              {terms: devicegrant.Terms{TokenHint: strings.Repeat("x", 1025)}, want: devicegrant.ErrTemporarilyUnavailable, logged: "TokenHint"},
		"a hint that is no text":   {terms: devicegrant.Terms{TokenHint: "\xff"}, want: devicegrant.ErrTemporarilyUnavailable, logged: "TokenHint"},
		"a hint with NUL":          {terms: devicegrant.Terms{TokenHint: "\x00"}, want: devicegrant.ErrTemporarilyUnavailable, logged: "TokenHint"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, func(c *devicegrant.Config) { c.Policy = decided(tt.terms, tt.err) })
			_, err := f.Authorize(t.Context(), tv, devicegrant.AuthorizationRequest{})
			require.ErrorIs(t, err, tt.want)
			assert.Contains(t, f.logged(), tt.logged)
			assert.Equal(t, tt.logged != "", strings.Contains(f.logged(), "Config.Policy failed"))
			assert.Empty(t, f.events)
		})
	}
}

// A code that lives longer than Config.Lifetime is as hard to guess as any: by one address,
// and by everybody.
func TestLongLivesTakeLongCodes(t *testing.T) {
	for name, tt := range map[string]struct {
		guessing devicegrant.Guessing
		lengths  map[time.Duration]int
	}{
		"as it is":     {devicegrant.Guessing{}, map[time.Duration]int{time.Minute: 8, 15 * time.Minute: 8, 16 * time.Minute: 9, 5 * time.Hour: 9, 6 * time.Hour: 10}},
		"one address":  {devicegrant.Guessing{MaxGlobalHits: 1e9}, map[time.Duration]int{15 * time.Minute: 8, 16 * time.Minute: 9}},
		"all together": {devicegrant.Guessing{MaxAddressChance: 1}, map[time.Duration]int{15 * time.Minute: 8, 16 * time.Minute: 9}},
	} {
		f := newFixture(t, func(c *devicegrant.Config) { c.Guessing = tt.guessing })
		for lifetime, want := range tt.lengths {
			client := tv
			client.Lifetime = lifetime
			a, err := f.Authorize(t.Context(), client, devicegrant.AuthorizationRequest{})
			require.NoError(t, err)
			assert.Len(t, strings.ReplaceAll(a.UserCode, "-", ""), want, "%s, %v", name, lifetime)
		}
	}
}
