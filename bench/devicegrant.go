package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"time"

	"github.com/devicegrant/devicegrant"
	"github.com/devicegrant/devicegrant/memstore"
)

// openOnTime opens a server at which polls are on time, one right after the other.
func openOnTime() (*server, error) {
	return openServer(devicegrant.Config{Store: hurried{memstore.New(maxGrants), time.Now()}})
}

// openEarly opens one at which all polls of a run are early but the first of each code,
// which may come twice.
func openEarly() (*server, error) {
	return openServer(devicegrant.Config{Store: memstore.New(maxGrants), Interval: 10 * time.Minute})
}

// maxGrants is more than are made.
const maxGrants = 1 << 30

// hurry is how many times as fast time passes for a hurried Store: a microsecond is a
// second.
const hurry = 1_000_000

// hurried is a Store for which no poll comes too early.
type hurried struct {
	*memstore.Store
	since time.Time
}

// Poll implements devicegrant.Store.
func (h hurried) Poll(ctx context.Context, code devicegrant.DeviceCodeDigest, clientID string, now time.Time) (devicegrant.Polled, error) {
	return h.Store.Poll(ctx, code, clientID, h.since.Add(now.Sub(h.since)*hurry))
}

func openServer(cfg devicegrant.Config) (*server, error) {
	s, err := newServer(cfg)
	if err != nil {
		return nil, err
	}
	alice := devicegrant.Person{Subject: "alice", Session: "laptop", Addr: netip.AddrFrom4([4]byte{192, 0, 2, 2})}
	return &server{
		authorization: s.DeviceAuthorizationHandler(),
		token:         s.TokenHandler(nil),
		lookUp: func(ctx context.Context, userCode string) error {
			_, err := s.Lookup(ctx, userCode, alice)
			return err
		},
		approve: func(ctx context.Context, userCode string) error {
			review, err := s.Lookup(ctx, userCode, alice)
			if err != nil {
				return err
			}
			return s.Approve(ctx, review.Ticket, alice, devicegrant.Approval{})
		},
	}, nil
}

// tv is the client of all servers: a public one.
var tv = devicegrant.Client{ID: "tv", Name: "Television", DeviceGrant: true, Scopes: []string{"profile", "email"}}

// newServer returns a server with everything that is on by default, except for limits on
// issuing, which would end the run.
func newServer(cfg devicegrant.Config) (*devicegrant.Server, error) {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // It never fails.
	clients := map[string]devicegrant.Client{tv.ID: tv}
	find := func(_ context.Context, id string) (devicegrant.Client, error) {
		client, ok := clients[id]
		if !ok {
			return client, devicegrant.ErrInvalidClient
		}
		return client, nil
	}
	unlimited := devicegrant.Quota{Rate: devicegrant.Limit{Burst: maxGrants, Every: time.Microsecond}, Pending: maxGrants}
	cfg.Keys = [][]byte{key}
	cfg.VerificationURI = "https://example.com/device"
	cfg.AuthenticateClient = func(ctx context.Context, c devicegrant.Credentials) (devicegrant.Client, error) {
		return find(ctx, c.ID)
	}
	cfg.Client = find
	cfg.SignedIn = func(http.ResponseWriter, *http.Request, string) (string, bool) { return "alice", true }
	cfg.IssueToken = func(_ context.Context, g *devicegrant.Grant) (*devicegrant.Token, error) {
		return &devicegrant.Token{AccessToken: rand.Text(), Scope: g.Scope, ExpiresIn: time.Hour}, nil
	}
	cfg.Issuance = devicegrant.Issuance{PerClient: unlimited, PerAddress: unlimited}
	cfg.Logger = slog.New(slog.DiscardHandler)
	return devicegrant.New(cfg)
}

// corePolls returns an operation that polls without HTTP.
func corePolls(grants int) (operation, error) {
	s, codes, err := coreServer(grants)
	if err != nil {
		return nil, err
	}
	next := inTurn(codes)
	return func() error { return corePoll(s, next()) }, nil
}

func corePoll(s *devicegrant.Server, deviceCode string) error {
	_, err := s.Poll(context.Background(), devicegrant.PollRequest{ClientID: tv.ID, DeviceCode: deviceCode})
	if !errors.Is(err, devicegrant.ErrAuthorizationPending) {
		return fmt.Errorf("expected authorization_pending, not: %w", err)
	}
	return nil
}

// coreServer returns a server like that of openOnTime, and the device codes of grants that
// are pending.
func coreServer(grants int) (*devicegrant.Server, []string, error) {
	s, err := newServer(devicegrant.Config{Store: hurried{memstore.New(maxGrants), time.Now()}})
	if err != nil {
		return nil, nil, err
	}
	codes := make([]string, grants)
	for i := range codes {
		a, err := s.Authorize(context.Background(), tv, devicegrant.AuthorizationRequest{Scope: "profile email"})
		if err != nil {
			return nil, nil, err
		}
		codes[i] = a.DeviceCode
	}
	return s, codes, nil
}
