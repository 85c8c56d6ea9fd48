package main

import (
	"context"
	"sync"
	"time"

	"github.com/ory/fosite"
	"github.com/ory/fosite/handler/oauth2"
	"github.com/ory/fosite/storage"
)

// tokenStore is what fosite needs for clients, access tokens and refresh tokens.
type tokenStore interface {
	fosite.Storage
	oauth2.CoreStorage
	oauth2.TokenRevocationStorage

	// issuedAt returns when the first tokens of a request were stored.
	issuedAt(requestID string) (at time.Time, ok bool)
}

// memory is fosite's storage for examples. Like that, it forgets nothing until the process
// ends.
//
// fosite's writes a map of refresh tokens while others read it, and lets one refresh token be
// exchanged twice at the same time. The lock is against both.
type memory struct {
	*storage.MemoryStore

	mu     sync.Mutex
	issued map[string]time.Time // by request id
}

func newMemory() *memory {
	m := &memory{MemoryStore: storage.NewMemoryStore(), issued: make(map[string]time.Time)}
	m.Clients = clients()
	return m
}

func (m *memory) issuedAt(requestID string) (at time.Time, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	at, ok = m.issued[requestID]
	return at, ok
}

func (m *memory) CreateAccessTokenSession(ctx context.Context, signature string, request fosite.Requester) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, refreshed := m.issued[request.GetID()]; !refreshed {
		m.issued[request.GetID()] = request.GetRequestedAt()
	}
	return m.MemoryStore.CreateAccessTokenSession(ctx, signature, request)
}

func (m *memory) GetRefreshTokenSession(ctx context.Context, signature string, session fosite.Session) (fosite.Requester, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.MemoryStore.GetRefreshTokenSession(ctx, signature, session)
}

func (m *memory) DeleteRefreshTokenSession(ctx context.Context, signature string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.MemoryStore.DeleteRefreshTokenSession(ctx, signature)
}

func (m *memory) RevokeRefreshToken(ctx context.Context, requestID string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.MemoryStore.RevokeRefreshToken(ctx, requestID)
}

// RotateRefreshToken fails for a token that another request has exchanged since this one
// looked.
func (m *memory) RotateRefreshToken(ctx context.Context, requestID, signature string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, err := m.MemoryStore.GetRefreshTokenSession(ctx, signature, nil); err != nil {
		return err
	}
	return m.MemoryStore.RotateRefreshToken(ctx, requestID, signature)
}
