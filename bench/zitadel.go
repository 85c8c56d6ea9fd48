package main

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/zitadel/oidc/v3/example/server/storage"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

// openZitadel opens the provider of zitadel/oidc, without the router in front of it.
func openZitadel() (*server, error) {
	config := &op.Config{
		SupportedScopes: []string{oidc.ScopeProfile, oidc.ScopeEmail},
		DeviceAuthorization: op.DeviceAuthorizationConfig{
			Lifetime: 15 * time.Minute, PollInterval: 5 * time.Second,
			UserFormURL: "https://example.com/device", UserCode: op.UserCodeBase20,
		},
	}
	_, _ = rand.Read(config.CryptoKey[:]) // It never fails.
	kept := &zitadelStore{
		clients: map[string]op.Client{"tv": zitadelClient{storage.NativeClient("tv")}},
		devices: make(map[string]*op.DeviceAuthorizationState),
		users:   make(map[string]*op.DeviceAuthorizationState),
	}
	provider, err := op.NewProvider(config, kept, op.StaticIssuer("https://example.com"))
	if err != nil {
		return nil, err
	}
	return &server{
		authorization: http.HandlerFunc(op.DeviceAuthorizationHandler(provider)),
		token:         http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { op.Exchange(w, r, provider) }),
		lookUp: func(_ context.Context, userCode string) error {
			return kept.find(userCode, func(*op.DeviceAuthorizationState) {})
		},
		approve: func(_ context.Context, userCode string) error {
			return kept.find(userCode, func(s *op.DeviceAuthorizationState) { s.Subject, s.Done = "alice", true })
		},
	}, nil
}

// zitadelStore is what the provider asks of a storage for this grant, and nothing else.
// Like that of the provider's examples, it keeps codes as they are.
type zitadelStore struct {
	op.Storage

	clients map[string]op.Client

	mu             sync.Mutex
	devices, users map[string]*op.DeviceAuthorizationState
}

var _ op.DeviceAuthorizationStorage = (*zitadelStore)(nil)

// GetClientByClientID implements op.Storage.
func (s *zitadelStore) GetClientByClientID(_ context.Context, id string) (op.Client, error) {
	client, ok := s.clients[id]
	if !ok {
		return nil, errors.New("no such client")
	}
	return client, nil
}

// CreateAccessToken implements op.Storage. The provider encrypts the id that it returns.
func (s *zitadelStore) CreateAccessToken(context.Context, op.TokenRequest) (string, time.Time, error) {
	return rand.Text(), time.Now().Add(time.Hour), nil
}

// StoreDeviceAuthorization implements op.DeviceAuthorizationStorage.
func (s *zitadelStore) StoreDeviceAuthorization(_ context.Context, clientID, deviceCode, userCode string, expires time.Time, scopes []string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	// A user code that is taken would end the run: the provider does not draw another.
	state := &op.DeviceAuthorizationState{ClientID: clientID, Scopes: scopes, Expires: expires}
	s.devices[deviceCode], s.users[userCode] = state, state
	return nil
}

// GetDeviceAuthorizatonState implements op.DeviceAuthorizationStorage.
func (s *zitadelStore) GetDeviceAuthorizatonState(_ context.Context, clientID, deviceCode string) (*op.DeviceAuthorizationState, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	state, ok := s.devices[deviceCode]
	if !ok || state.ClientID != clientID {
		return nil, errors.New("no such device code")
	}
	return state, nil
}

// find does something with what has a user code.
func (s *zitadelStore) find(userCode string, do func(*op.DeviceAuthorizationState)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	state, ok := s.users[userCode]
	if !ok {
		return errors.New("zitadel: no such user code")
	}
	do(state)
	return nil
}

// zitadelClient is a client of the provider's examples that may use this grant.
type zitadelClient struct{ op.Client }

// GrantTypes implements op.Client.
func (zitadelClient) GrantTypes() []oidc.GrantType { return zitadelGrants }

var zitadelGrants = []oidc.GrantType{oidc.GrantTypeDeviceCode}
