package devicegrant_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"sync"
	"testing"
	"time"

	"github.com/devicegrant/devicegrant"
	"github.com/devicegrant/devicegrant/storetest"
)

// mapStore is a whole Store, as short as one can be: a map under a mutex. Look-ups
// by user code walk it, which is fine for a few hundred grants.
type mapStore struct {
	mu     sync.Mutex
	grants map[devicegrant.DeviceCodeDigest]devicegrant.Grant
}

func newMapStore() *mapStore {
	return &mapStore{grants: map[devicegrant.DeviceCodeDigest]devicegrant.Grant{}}
}

// find is called with the lock held.
func (s *mapStore) find(code devicegrant.UserCodeDigest) (devicegrant.Grant, bool) {
	for _, g := range s.grants {
		if g.UserCode == code && code != (devicegrant.UserCodeDigest{}) {
			return g, true
		}
	}
	return devicegrant.Grant{}, false
}

func (s *mapStore) Create(_ context.Context, g *devicegrant.Grant) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, taken := s.find(g.UserCode); taken {
		return devicegrant.ErrUserCodeExists
	}
	if _, taken := s.grants[g.DeviceCode]; taken {
		return errors.New("device code is stored already")
	}
	stored := *g
	stored.Key = devicegrant.Key{}
	s.grants[g.DeviceCode] = stored
	return nil
}

func (s *mapStore) ByUserCode(_ context.Context, code devicegrant.UserCodeDigest) (*devicegrant.Grant, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if g, ok := s.find(code); ok {
		return &g, nil
	}
	return nil, devicegrant.ErrNotFound
}

func (s *mapStore) ByDeviceCode(_ context.Context, code devicegrant.DeviceCodeDigest) (*devicegrant.Grant, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if g, ok := s.grants[code]; ok {
		return &g, nil
	}
	return nil, devicegrant.ErrNotFound
}

func (s *mapStore) Poll(_ context.Context, code devicegrant.DeviceCodeDigest, clientID string, now time.Time) (devicegrant.Polled, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g, ok := s.grants[code]
	if !ok {
		return devicegrant.Polled{}, devicegrant.ErrNotFound
	}
	if g.ClientID == clientID {
		g.Pace = g.Pace.Next(now)
		s.grants[code] = g
	}
	return devicegrant.Polled{ID: g.ID, ClientID: g.ClientID, State: g.State, ExpiresAt: g.ExpiresAt, Pace: g.Pace}, nil
}

func (s *mapStore) Swap(_ context.Context, g *devicegrant.Grant) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	stored, ok := s.grants[g.DeviceCode]
	if !ok || stored.Version != g.Version {
		return devicegrant.ErrConflict
	}
	stored.UserCode, stored.State, stored.Subject, stored.ExpiresAt = g.UserCode, g.State, g.Subject, g.ExpiresAt
	stored.Scope, stored.Session, stored.Entered = g.Scope, g.Session, g.Entered
	stored.Version++
	s.grants[g.DeviceCode] = stored
	return nil
}

func (s *mapStore) Purge(_ context.Context, before time.Time, limit int) (n int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for code, g := range s.grants {
		if n < limit && g.ExpiresAt.Before(before) {
			delete(s.grants, code)
			n++
		}
	}
	return n, nil
}

// The conformance suite says whether a Store keeps the contract.
func TestMapStore(t *testing.T) {
	storetest.Run(t, func(*testing.T) devicegrant.Store { return newMapStore() })
}

// A custom Store: the methods above are all that it takes.
func ExampleStore() {
	cfg := exampleConfig()
	cfg.Store = newMapStore()
	grant, err := devicegrant.New(cfg)
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	device, err := grant.Authorize(ctx, devicegrant.Client{ID: "tv", DeviceGrant: true}, devicegrant.AuthorizationRequest{})
	if err != nil {
		log.Fatal(err)
	}
	alice := devicegrant.Person{Subject: "alice"}
	review, err := grant.Lookup(ctx, device.UserCode, alice)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(grant.Deny(ctx, review.Ticket, alice))
	_, err = grant.Poll(ctx, devicegrant.PollRequest{ClientID: "tv", DeviceCode: device.DeviceCode})
	fmt.Println(err)
	// Output:
	// <nil>
	// devicegrant: access_denied
}
