package main

import (
	"context"
	"net/http"
	"time"

	"github.com/zitadel/oidc/v3/pkg/op"

	"github.com/devicegrant/devicegrant"
	"github.com/devicegrant/devicegrant/examples/internal/demo"
	"github.com/devicegrant/devicegrant/memstore"
)

// addDeviceGrant adds the device grant to the provider's server. This file is what you
// would write; the others stand for what you have.
func addDeviceGrant(mux *http.ServeMux, h *host, interval time.Duration) (*devicegrant.Server, error) {
	grant, err := devicegrant.New(devicegrant.Config{
		Store:                       memstore.New(0), // For one process; package sqlstore is for several.
		Keys:                        demo.NewKeys(),  // Load yours, the same on every replica.
		VerificationURI:             h.origin + "/device",
		DeviceAuthorizationEndpoint: h.origin + "/device_authorization",
		AuthenticateClient:          h.authenticateClient,
		Client:                      h.client,
		SignedIn:                    h.people.SignedIn,
		AccountName:                 h.people.AccountName,
		SwitchAccount:               h.people.SwitchAccount,
		IssueToken:                  h.issueToken,
		OnEvent:                     h.onEvent,
		Interval:                    interval,
		Logger:                      h.logger,
	})
	if err != nil {
		return nil, err
	}
	mux.Handle("/device_authorization", grant.DeviceAuthorizationHandler())
	mux.Handle(h.provider.TokenEndpoint().Relative(), grant.TokenHandler(h.provider)) // The rest is the provider's.
	mux.Handle("/device", grant.VerificationHandler())
	h.serveMetadata(mux, grant.Metadata)
	return grant, nil
}

// authenticateClient asks the storage, for which a public client is one with an empty secret.
// All its errors mean that the client is refused. One that means that the database is away
// has to be returned as it is, so that devices are told to go on.
func (h *host) authenticateClient(ctx context.Context, c devicegrant.Credentials) (devicegrant.Client, error) {
	if err := h.store.AuthorizeClientIDSecret(ctx, c.ID, c.Secret); err != nil {
		return devicegrant.Client{}, devicegrant.ErrInvalidClient.Because(err)
	}
	return h.client(ctx, c.ID)
}

func (h *host) client(ctx context.Context, id string) (devicegrant.Client, error) {
	c, err := h.store.find(ctx, id)
	return devicegrant.Client{ID: id, Name: c.name, DeviceGrant: c.mayUse(devicegrant.GrantType), Scopes: scopes}, err
}

// issueToken has the provider make and store tokens as it does for an authorization code. The
// storage knows them by the id of the grant: a second try replaces what a failed one left.
func (h *host) issueToken(ctx context.Context, g *devicegrant.Grant) (*devicegrant.Token, error) {
	client, err := h.store.find(ctx, g.ClientID)
	if err != nil {
		return nil, err
	}
	request := newLogin(g.ID.String(), g.ClientID, g.Subject, g.Scope)
	made, err := op.CreateTokenResponse(op.ContextWithIssuer(ctx, h.origin), request, client, h.provider, true, "", "")
	if err != nil {
		return nil, err
	}
	return &devicegrant.Token{
		AccessToken: made.AccessToken, RefreshToken: made.RefreshToken, Extra: idTokenOf(made),
		ExpiresIn: time.Duration(made.ExpiresIn) * time.Second, //nolint:gosec // It is a few minutes.
	}, nil
}
