package main

import (
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/go-oauth2/oauth2/v4"

	"github.com/devicegrant/devicegrant"
	"github.com/devicegrant/devicegrant/examples/internal/demo"
	"github.com/devicegrant/devicegrant/memstore"
)

// addDeviceGrant is what the device grant takes: callbacks that lead to the host's clients,
// login and tokens, and handlers on its mux. Call PurgeEvery of what it returns.
func addDeviceGrant(mux *http.ServeMux, h *host, interval time.Duration) (*devicegrant.Server, error) {
	grant, err := devicegrant.New(devicegrant.Config{
		Store:                       memstore.New(0), // Replicas share a sqlstore,
		Keys:                        demo.NewKeys(),  // and keys that outlive the process.
		VerificationURI:             h.origin + "/device",
		DeviceAuthorizationEndpoint: h.origin + "/device_authorization",
		AuthenticateClient: func(ctx context.Context, c devicegrant.Credentials) (devicegrant.Client, error) {
			client, err := h.authenticate(ctx, c.ID, c.Secret)
			if err != nil { // With a registry that can fail, return only its refusals as this error.
				return devicegrant.Client{}, devicegrant.ErrInvalidClient
			}
			allowed := slices.Contains(client.grants, devicegrant.GrantType)
			return devicegrant.Client{ID: client.ID, DeviceGrant: allowed, Scopes: client.scopes}, nil
		},
		Client: func(ctx context.Context, id string) (devicegrant.Client, error) {
			client, err := h.client(ctx, id)
			return devicegrant.Client{ID: id, Name: client.name}, err
		},
		SignedIn:      h.people.SignedIn,
		AccountName:   h.people.AccountName,
		SwitchAccount: h.people.SwitchAccount,
		IssueToken: func(ctx context.Context, g *devicegrant.Grant) (*devicegrant.Token, error) {
			client, err := h.client(ctx, g.ClientID)
			if err != nil {
				return nil, err
			}
			// Of the grant types that the Manager knows, this one makes access and refresh tokens for
			// a person and asks for nothing else. The token endpoint does not take it from anybody.
			t, err := h.manager.GenerateAccessToken(ctx, oauth2.PasswordCredentials, &oauth2.TokenGenerateRequest{
				ClientID: g.ClientID, ClientSecret: client.GetSecret(), UserID: g.Subject, Scope: g.Scope,
			})
			if err != nil {
				return nil, err // Storing is the last that it does, so nothing was issued.
			}
			return &devicegrant.Token{
				AccessToken: t.GetAccess(), ExpiresIn: t.GetAccessExpiresIn(), RefreshToken: t.GetRefresh(),
			}, nil
		},
		// Not here: OnEvent, which learns by EventReplayed that a code was stolen. To revoke what was
		// issued, have your TokenStore keep Grant.ID with the tokens: the library's cannot find them by it.
		Interval: interval,
		Logger:   h.logger,
	})
	if err != nil {
		return nil, err
	}
	mux.Handle("/device_authorization", grant.DeviceAuthorizationHandler())
	mux.Handle("/token", grant.TokenHandler(http.HandlerFunc(h.serveToken)))
	mux.Handle("/device", grant.VerificationHandler())
	mux.Handle("GET /.well-known/oauth-authorization-server", h.metadataHandler(grant.Metadata))
	return grant, nil
}
