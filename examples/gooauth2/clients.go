package main

import (
	"context"
	"crypto/subtle"
	"errors"
	"slices"

	"github.com/go-oauth2/oauth2/v4"
	"github.com/go-oauth2/oauth2/v4/models"
	"github.com/go-oauth2/oauth2/v4/store"
)

var scopes = []string{"openid", "profile", "offline_access"}

// client is what the registry keeps of a client: what the library knows of one, and what
// this server adds.
type client struct {
	models.Client
	name   string
	scopes []string
	grants []oauth2.GrantType
}

// newRegistry returns the library's registry with the clients of this server.
func newRegistry() (*store.ClientStore, error) {
	registry := store.NewClientStore()
	for _, c := range []*client{
		{
			Client: models.Client{ID: "tv", Public: true},
			name:   "Living-room TV",
			scopes: scopes,
			grants: []oauth2.GrantType{"urn:ietf:params:oauth:grant-type:device_code", oauth2.Refreshing},
		},
		{
			Client: models.Client{ID: "web", Secret: "web-secret"},
			name:   "Website",
			scopes: scopes,
			grants: []oauth2.GrantType{oauth2.AuthorizationCode, oauth2.Refreshing},
		},
	} {
		if err := registry.Set(c.ID, c); err != nil {
			return nil, err
		}
	}
	return registry, nil
}

var errSecret = errors.New("wrong client secret")

// client returns a registered client. The error of this registry means that there is none.
func (h *host) client(ctx context.Context, id string) (client, error) {
	info, err := h.manager.GetClient(ctx, id)
	if err != nil {
		return client{}, err
	}
	return *info.(*client), nil // The registry holds no others.
}

// authenticate returns a client whose secret is right. That of a public client is empty.
func (h *host) authenticate(ctx context.Context, id, secret string) (client, error) {
	c, err := h.client(ctx, id)
	if err != nil {
		return client{}, err
	}
	if subtle.ConstantTimeCompare([]byte(secret), []byte(c.Secret)) != 1 {
		return client{}, errSecret
	}
	return c, nil
}

// mayUse is for the library's server.
func (h *host) mayUse(id string, grant oauth2.GrantType) (bool, error) {
	c, err := h.client(context.Background(), id) // The library passes none.
	return slices.Contains(c.grants, grant), err
}
