package main

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"slices"
	"strings"

	"github.com/zitadel/oidc/v3/example/server/storage"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"

	"github.com/devicegrant/devicegrant"
	"github.com/devicegrant/devicegrant/examples/internal/demo"
)

// scopes are what clients may ask for.
var scopes = []string{oidc.ScopeOpenID, oidc.ScopeProfile, oidc.ScopeOfflineAccess}

// host is the server that a team has already: the provider, its storage, and a login.
type host struct {
	origin   string
	people   *demo.Host // for its login only; it knows its people by the subjects that store does
	store    *store
	provider *op.Provider
	logger   *slog.Logger
}

func newHost(origin string, logger *slog.Logger) (*host, error) {
	config := &op.Config{
		CryptoKey:             [32]byte(demo.NewKeys()[0]),
		AuthMethodPost:        true,
		GrantTypeRefreshToken: true,
		SupportedScopes:       scopes,
	}
	kept := newStore()
	provider, err := op.NewProvider(config, kept, op.StaticIssuer(origin), op.WithAllowInsecure())
	if err != nil {
		return nil, err
	}
	people := demo.NewHost(origin, demo.InMemory(), logger)
	return &host{origin: origin, people: people, store: kept, provider: provider, logger: logger}, nil
}

// routes returns a mux with what has nothing to do with the device grant. The provider has
// more endpoints: the one for authorization codes would need pages of its own, and that of
// its own device grant is not to be reached.
func (h *host) routes() *http.ServeMux {
	mux := http.NewServeMux()
	pages := h.people.Routes()
	for _, path := range []string{"/{$}", "/login", "/logout"} {
		mux.Handle(path, pages)
	}
	p := h.provider
	for _, endpoint := range []*op.Endpoint{p.UserinfoEndpoint(), p.RevocationEndpoint(), p.KeysEndpoint()} {
		mux.Handle(endpoint.Relative(), p)
	}
	return mux
}

// serveMetadata serves the provider's metadata, to which extend adds what it knows of, where
// OpenID Connect and where RFC 8414 has clients look for it.
func (h *host) serveMetadata(mux *http.ServeMux, extend func(map[string]any) map[string]any) {
	handler := func(w http.ResponseWriter, r *http.Request) {
		doc, err := h.metadata(r.Context())
		if err != nil {
			h.logger.ErrorContext(r.Context(), "making the metadata failed", "error", err)
			http.Error(w, "metadata is unavailable", http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(extend(doc)) // A client that has gone cannot be told.
	}
	mux.HandleFunc("GET "+oidc.DiscoveryEndpoint, handler)
	mux.HandleFunc("GET /.well-known/oauth-authorization-server", handler)
}

// metadata is the provider's own, without the endpoints and grants that routes leaves out.
func (h *host) metadata(ctx context.Context) (doc map[string]any, err error) {
	config := op.CreateDiscoveryConfig(op.ContextWithIssuer(ctx, h.origin), h.provider, h.store)
	config.AuthorizationEndpoint, config.IntrospectionEndpoint, config.EndSessionEndpoint = "", "", ""
	config.IntrospectionEndpointAuthMethodsSupported = nil
	config.IntrospectionEndpointAuthSigningAlgValuesSupported = nil
	config.DeviceAuthorizationEndpoint = ""
	config.GrantTypesSupported = []oidc.GrantType{oidc.GrantTypeRefreshToken}
	body, err := json.Marshal(config)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(body, &doc); err != nil {
		return nil, err
	}
	doc["response_types_supported"] = []string{} // RFC 8414 demands it; there is no authorization endpoint.
	return doc, nil
}

// newLogin is a request for tokens that a person has allowed.
func newLogin(id, clientID, subject, scope string) *storage.AuthRequest {
	return &storage.AuthRequest{
		ID: id, ApplicationID: clientID, UserID: subject,
		Scopes:       strings.Fields(scope),
		ResponseType: oidc.ResponseTypeCode, // For this one the provider makes refresh tokens.
	}
}

// idTokenOf returns the id_token of a response, if it was asked for: the provider always
// makes one.
func idTokenOf(r *oidc.AccessTokenResponse) map[string]any {
	if !slices.Contains(r.Scope, oidc.ScopeOpenID) {
		return nil
	}
	return map[string]any{"id_token": r.IDToken}
}

// onEvent logs what happens in the device grant. Whoever presents a device code after its
// tokens were issued has no business with it, and may have stolen it: the login ends.
func (h *host) onEvent(ctx context.Context, e devicegrant.Event) {
	if e.Type == devicegrant.EventReplayed {
		if err := h.store.revokeReplayed(context.WithoutCancel(ctx), e.Grant.String()); err != nil {
			h.logger.ErrorContext(ctx, "revoking the tokens of a replayed code failed", "grant", e.Grant, "error", err)
		}
	}
	if e.Err == nil { // The library has logged the others.
		h.logger.LogAttrs(ctx, e.Type.Level(), "device grant: "+string(e.Type), e.Attrs()...)
	}
}
