package main

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	jose "github.com/go-jose/go-jose/v4"
	"github.com/zitadel/oidc/v3/example/server/storage"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

// replayGrace is how long after tokens were issued their device code may come again in a
// request that was only sent twice.
const replayGrace = 5 * time.Second

// store is the storage of the provider's own examples, which keeps everything in memory and
// forgets nothing. It has only the methods that op.Storage names: the provider looks for
// those of its own device grant, of token exchange and of service accounts, and serves
// none of them because it finds none.
type store struct {
	op.Storage
	op.CanSetUserinfoFromRequest // without which id_tokens have no subject

	clients map[string]client

	mu     sync.Mutex
	logins map[string]login  // by their id: that of the grant they came from
	holder map[string]string // the id of a login, by its token
}

// login is what one person allowed one device.
type login struct {
	token             string // the newest refresh token; without any, the id of the access token
	subject, clientID string
	issued            time.Time
}

func newStore() *store {
	tv, web := storage.NativeClient("tv"), storage.WebClient("web", "web-secret")
	kept := storage.NewStorageWithClients(accounts, map[string]*storage.Client{"tv": tv, "web": web})
	return &store{
		Storage: kept, CanSetUserinfoFromRequest: kept,
		clients: map[string]client{
			"tv":  {tv, "Living-room TV", []oidc.GrantType{oidc.GrantTypeDeviceCode, oidc.GrantTypeRefreshToken}},
			"web": {web, "Website", []oidc.GrantType{oidc.GrantTypeCode, oidc.GrantTypeRefreshToken}},
		},
		logins: make(map[string]login),
		holder: make(map[string]string),
	}
}

// client is one of the example's with a name that people understand, and with grants of its
// own choice.
type client struct {
	op.Client
	name   string
	grants []oidc.GrantType
}

// GrantTypes implements op.Client.
func (c client) GrantTypes() []oidc.GrantType { return c.grants }

func (c client) mayUse(grantType string) bool {
	return slices.Contains(c.grants, oidc.GrantType(grantType))
}

// find returns a registered client.
func (s *store) find(_ context.Context, id string) (client, error) {
	c, ok := s.clients[id]
	if !ok {
		return client{}, oidc.ErrInvalidClient()
	}
	return c, nil
}

// GetClientByClientID implements op.Storage.
func (s *store) GetClientByClientID(ctx context.Context, id string) (op.Client, error) {
	return s.find(ctx, id)
}

// GetKeyByIDAndClientID implements op.Storage. No client has a key: the only one that the
// example knows can be read in its sources.
func (s *store) GetKeyByIDAndClientID(context.Context, string, string) (*jose.JSONWebKey, error) {
	return nil, errors.New("no client has a key")
}

// CreateAccessToken implements op.Storage.
func (s *store) CreateAccessToken(ctx context.Context, r op.TokenRequest) (id string, expires time.Time, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if id, expires, err = s.Storage.CreateAccessToken(ctx, r); err == nil {
		err = s.keep(ctx, r, "", id)
	}
	return id, expires, err
}

// CreateAccessAndRefreshTokens implements op.Storage. The lock is held throughout, so that a
// login that is revoked meanwhile does not live on in the new tokens.
func (s *store) CreateAccessAndRefreshTokens(ctx context.Context, r op.TokenRequest, current string) (id, refresh string, expires time.Time, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if id, refresh, expires, err = s.Storage.CreateAccessAndRefreshTokens(ctx, r, current); err == nil {
		err = s.keep(ctx, r, current, refresh)
	}
	return id, refresh, expires, err
}

// keep notes which token a login has now: for a new one, instead of those of a try that
// failed afterwards; for another, instead of the refresh token that was used.
func (s *store) keep(ctx context.Context, r op.TokenRequest, used, token string) error {
	id := s.holder[used]
	if request, ok := r.(*storage.AuthRequest); ok {
		id = request.ID
		if err := s.end(ctx, id); err != nil {
			return err
		}
		s.logins[id] = login{subject: request.UserID, clientID: request.ApplicationID, issued: time.Now()}
	}
	l := s.logins[id]
	l.token = token
	s.logins[id], s.holder[token] = l, id
	delete(s.holder, used)
	return nil
}

// end revokes the tokens of a login, if there is one.
func (s *store) end(ctx context.Context, id string) error {
	l, ok := s.logins[id]
	if !ok {
		return nil
	}
	if err := s.RevokeToken(ctx, l.token, l.subject, l.clientID); err != nil {
		return err
	}
	delete(s.logins, id)
	delete(s.holder, l.token)
	return nil
}

// revokeReplayed ends a login whose device code was presented again.
func (s *store) revokeReplayed(ctx context.Context, grant string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Since(s.logins[grant].issued) < replayGrace {
		return nil
	}
	return s.end(ctx, grant)
}

// GetRefreshTokenInfo implements op.Storage. The example's reads without its lock.
func (s *store) GetRefreshTokenInfo(_ context.Context, _, token string) (userID, tokenID string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id, ok := s.holder[token]
	if !ok {
		return "", "", op.ErrInvalidRefreshToken
	}
	return s.logins[id].subject, token, nil
}

// users are those of the login, by their subject, which is their name as well.
type users map[string]*storage.User

var accounts = users{
	"alice": {ID: "alice", Username: "alice", FirstName: "Alice", LastName: "Example"},
	"bob":   {ID: "bob", Username: "bob", FirstName: "Bob", LastName: "Example"},
}

// GetUserByID implements storage.UserStore.
func (u users) GetUserByID(id string) *storage.User { return u[id] }

// GetUserByUsername implements storage.UserStore.
func (u users) GetUserByUsername(name string) *storage.User { return u[name] }

// ExampleClientID implements storage.UserStore: there is no service account.
func (users) ExampleClientID() string { return "" }
