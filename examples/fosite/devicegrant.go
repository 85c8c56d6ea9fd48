package main

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/ory/fosite"

	"github.com/devicegrant/devicegrant"
	"github.com/devicegrant/devicegrant/examples/internal/demo"
	"github.com/devicegrant/devicegrant/memstore"
)

// newGrant leads the device grant to the host's clients, login and tokens.
func newGrant(h *host, interval time.Duration) (*devicegrant.Server, error) {
	return devicegrant.New(devicegrant.Config{
		Store: memstore.New(0), Keys: demo.NewKeys(), Interval: interval, // Replicas share a sqlstore, and keys.
		VerificationURI:             h.origin + "/device",
		DeviceAuthorizationEndpoint: h.origin + "/device_authorization",
		AuthenticateClient: func(ctx context.Context, c devicegrant.Credentials) (devicegrant.Client, error) {
			return grantClient(h.authenticate(ctx, c.ID, c.Secret))
		},
		Client: func(ctx context.Context, id string) (devicegrant.Client, error) {
			return grantClient(h.client(ctx, id))
		},
		SignedIn: h.people.SignedIn, AccountName: h.people.AccountName, SwitchAccount: h.people.SwitchAccount,
		IssueToken: h.issueToken, Logger: h.logger,
		OnEvent: func(ctx context.Context, e devicegrant.Event) {
			if e.Type == devicegrant.EventReplayed { // Within seconds, it is a request that was sent twice.
				h.revoke(ctx, e.Grant.String(), e.Time.Add(-5*time.Second))
			}
		},
	})
}

// mountGrant adds the grant's endpoints to the host's; what else reaches /token is the host's.
func mountGrant(h *host, grant *devicegrant.Server) {
	h.mux.Handle("/device_authorization", grant.DeviceAuthorizationHandler())
	h.mux.Handle("/token", grant.TokenHandler(h.tokenHandler()))
	h.mux.Handle("/device", grant.VerificationHandler())
	h.mux.Handle("/.well-known/oauth-authorization-server", jsonHandler(grant.Metadata(h.metadata())))
}

// grantClient takes what the host's registry returned.
func grantClient(c client, err error) (devicegrant.Client, error) {
	if errors.Is(err, fosite.ErrInvalidClient) {
		err = devicegrant.ErrInvalidClient // Any other error has devices ask again.
	}
	permitted := c.mayUse(devicegrant.GrantType)
	return devicegrant.Client{ID: c.ID, Name: c.Name, DeviceGrant: permitted, Scopes: c.Scopes}, err
}

// issueToken makes and keeps fosite's tokens, as its handlers do. Their request has the grant's
// id, by which they can be revoked, together with what they are refreshed to. There is no
// id_token: a host that composes OpenID Connect adds one as Token.Extra.
func (h *host) issueToken(ctx context.Context, g *devicegrant.Grant) (token *devicegrant.Token, err error) {
	request := &fosite.Request{
		ID: g.ID.String(), Client: &fosite.DefaultClient{ID: g.ClientID}, RequestedAt: time.Now().UTC(),
		GrantedScope: strings.Fields(g.Scope), Session: h.newSession(g.Subject),
	}
	token = &devicegrant.Token{ExpiresIn: h.config.AccessTokenLifespan}
	var accessSignature, refreshSignature string // what fosite's storage finds them by
	token.AccessToken, accessSignature, err = h.strategy.GenerateAccessToken(ctx, request)
	if err == nil && request.GrantedScope.HasOneOf(h.config.RefreshTokenScopes...) {
		token.RefreshToken, refreshSignature, err = h.strategy.GenerateRefreshToken(ctx, request)
	}
	if err == nil {
		err = h.keepTokens(ctx, request, accessSignature, refreshSignature)
	}
	return token, err
}
