package main

import (
	"context"
	"errors"
	"slices"

	"github.com/ory/fosite"
)

var scopes = []string{"openid", "profile", "offline_access"}

// client is what the host has registered: fosite's client with a name for people.
type client struct {
	fosite.DefaultClient
	Name string
}

// clients are the device that people sign in, and a website whose backend introspects.
// Only clients that list a grant may use it.
func clients() map[string]fosite.Client {
	return map[string]fosite.Client{
		"tv": &client{Name: "Living-room TV", DefaultClient: fosite.DefaultClient{
			ID: "tv", Public: true, Scopes: scopes,
			GrantTypes: []string{"urn:ietf:params:oauth:grant-type:device_code", "refresh_token"},
		}},
		"web": &client{Name: "Website", DefaultClient: fosite.DefaultClient{
			ID: "web", Scopes: scopes, GrantTypes: []string{"refresh_token"},
			Secret: []byte("$2a$10$seESB3HN1jjydlDP8f724.6DMNMLsiF8u4q13APo21lHKxxWbc4Jq"), // web-secret
		}},
	}
}

func (c client) mayUse(grantType string) bool { return slices.Contains(c.GrantTypes, grantType) }

// client returns a registered client, and ErrInvalidClient if there is none. When the
// storage fails, it returns its error: fosite's AuthenticateClient takes that for an
// unknown client, which would end the logins of all devices that ask meanwhile.
func (h *host) client(ctx context.Context, id string) (client, error) {
	found, err := h.store.GetClient(ctx, id)
	if errors.Is(err, fosite.ErrNotFound) {
		err = fosite.ErrInvalidClient
	}
	if err != nil {
		return client{}, err
	}
	return *found.(*client), nil // Nothing else is registered.
}

// authenticate returns the client with that id and secret. A public client has none.
func (h *host) authenticate(ctx context.Context, id, secret string) (client, error) {
	c, err := h.client(ctx, id)
	if err != nil {
		return client{}, err
	}
	if c.Public {
		return c, nil
	}
	if err := h.config.ClientSecretsHasher.Compare(ctx, c.GetHashedSecret(), []byte(secret)); err != nil {
		return client{}, fosite.ErrInvalidClient
	}
	return c, nil
}
