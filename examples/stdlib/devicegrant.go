package main

import (
	"context"
	"net/http"
	"time"

	"github.com/devicegrant/devicegrant"
	"github.com/devicegrant/devicegrant/examples/internal/demo"
	"github.com/devicegrant/devicegrant/memstore"
)

// addDeviceGrant is what the device grant takes: callbacks that lead to the server's
// clients, login and tokens, and handlers on its mux. Call PurgeEvery of what it returns.
func addDeviceGrant(mux *http.ServeMux, s *server, interval time.Duration) (*devicegrant.Server, error) {
	grant, err := devicegrant.New(devicegrant.Config{
		Store:                       memstore.New(0), // Replicas share a sqlstore,
		Keys:                        demo.NewKeys(),  // and keys that outlive the process.
		VerificationURI:             s.origin + "/device",
		DeviceAuthorizationEndpoint: s.origin + "/device_authorization",
		AuthenticateClient: func(_ context.Context, c devicegrant.Credentials) (devicegrant.Client, error) {
			client, ok := s.authenticate(c.ID, c.Secret)
			if !ok {
				return devicegrant.Client{}, devicegrant.ErrInvalidClient
			}
			return devicegrant.Client{ID: client.id, DeviceGrant: client.device, Scopes: scopes}, nil
		},
		Client: func(_ context.Context, id string) (devicegrant.Client, error) {
			return devicegrant.Client{ID: id, Name: clients[id].name}, nil
		},
		SignedIn: s.signedIn,
		AccountName: func(_ context.Context, subject string) (string, error) {
			return users[subject].name, nil
		},
		SwitchAccount: s.switchAccount,
		IssueToken: func(_ context.Context, g *devicegrant.Grant) (*devicegrant.Token, error) {
			t, err := s.issue(g.ID.String(), g.ClientID, g.Subject, g.Scope)
			if err != nil {
				return nil, err // Nothing was issued, and the device's next poll tries again.
			}
			return &devicegrant.Token{AccessToken: t.Access, ExpiresIn: accessLife, RefreshToken: t.Refresh}, nil
		},
		OnEvent: func(_ context.Context, e devicegrant.Event) {
			// Who presents a code again may have stolen it, unless the request was only sent twice.
			if e.Type == devicegrant.EventReplayed {
				s.revoke(e.Grant.String(), e.Time.Add(-5*time.Second))
			}
		},
		Interval: interval,
		Logger:   s.logger,
	})
	if err != nil {
		return nil, err
	}
	mux.Handle("/device_authorization", grant.DeviceAuthorizationHandler())
	mux.Handle("/token", grant.TokenHandler(http.HandlerFunc(s.serveToken)))
	mux.Handle("/device", grant.VerificationHandler())
	mux.Handle("GET /.well-known/oauth-authorization-server", serveJSON(grant.Metadata(s.metadata())))
	return grant, nil
}
