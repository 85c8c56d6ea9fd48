package main

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/ory/fosite"
	"github.com/ory/fosite/compose"
	"github.com/ory/fosite/handler/oauth2"

	"github.com/devicegrant/devicegrant/examples/internal/demo"
)

const (
	accessLife  = time.Hour
	refreshLife = 30 * 24 * time.Hour
	maxFormBody = 64 << 10 // bytes
)

// host is an authorization server made of fosite, as a team may have one before it adds the
// device grant.
type host struct {
	origin string
	mux    *http.ServeMux
	logger *slog.Logger
	people *demo.Host // the login

	store    tokenStore
	config   *fosite.Config
	strategy oauth2.CoreStrategy
	provider fosite.OAuth2Provider
}

// newHost returns a server that is reached at origin, a URL without a path.
func newHost(origin string, store tokenStore, logger *slog.Logger) *host {
	h := &host{
		origin: origin, mux: http.NewServeMux(), logger: logger, store: store,
		people: demo.NewHost(origin, demo.InMemory(), logger), config: newConfig(),
	}
	h.strategy = compose.NewOAuth2HMACStrategy(h.config)
	h.provider = compose.Compose(h.config, store, h.strategy,
		compose.OAuth2RefreshTokenGrantFactory, compose.OAuth2TokenIntrospectionFactory)
	people := h.people.Routes()
	h.mux.Handle("/login", people)
	h.mux.Handle("/logout", people)
	h.mux.HandleFunc("GET /userinfo", h.serveUserinfo)
	h.mux.HandleFunc("POST /introspect", h.serveIntrospection)
	return h
}

// newConfig sets what fosite would otherwise set in the midst of the first requests that
// need it, which is a data race.
func newConfig() *fosite.Config {
	config := &fosite.Config{
		GlobalSecret:                  demo.NewKeys()[0],
		AccessTokenLifespan:           accessLife,
		RefreshTokenLifespan:          refreshLife,
		RefreshTokenScopes:            []string{"offline_access"},
		ScopeStrategy:                 fosite.ExactScopeStrategy,
		AudienceMatchingStrategy:      fosite.DefaultAudienceMatchingStrategy,
		DisableRefreshTokenValidation: true, // A refresh token is good for no resource.
	}
	config.ClientSecretsHasher = &fosite.BCrypt{Config: config}
	return config
}

// newSession is what tokens say of the person who allowed them. Its maps are not nil:
// fosite would make them while it introspects, and all requests share the session.
func (h *host) newSession(subject string) *fosite.DefaultSession {
	now := time.Now().UTC()
	return &fosite.DefaultSession{
		Subject: subject,
		ExpiresAt: map[fosite.TokenType]time.Time{
			fosite.AccessToken:  now.Add(h.config.AccessTokenLifespan),
			fosite.RefreshToken: now.Add(h.config.RefreshTokenLifespan),
		},
		Extra: map[string]any{},
	}
}

// tokenHandler is the token endpoint: refresh tokens, which is all that is enabled.
func (h *host) tokenHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, maxFormBody)
		request, err := h.provider.NewAccessRequest(r.Context(), r, new(fosite.DefaultSession))
		if err != nil {
			h.provider.WriteAccessError(r.Context(), w, request, err)
			return
		}
		response, err := h.provider.NewAccessResponse(r.Context(), request)
		if err != nil {
			h.provider.WriteAccessError(r.Context(), w, request, err)
			return
		}
		h.provider.WriteAccessResponse(r.Context(), w, request, response)
	})
}

// serveUserinfo tells whoever has an access token whose it is. It takes the token from the
// header only: in a URL, it would end up in logs.
func (h *host) serveUserinfo(w http.ResponseWriter, r *http.Request) {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		w.Header().Set("WWW-Authenticate", "Bearer")
		http.Error(w, "an access token is required", http.StatusUnauthorized)
		return
	}
	_, request, err := h.provider.IntrospectToken(r.Context(), token, fosite.AccessToken, new(fosite.DefaultSession))
	if err != nil {
		w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token"`)
		http.Error(w, "the access token is not valid", http.StatusUnauthorized)
		return
	}
	answer := map[string]any{"sub": request.GetSession().GetSubject()}
	if request.GetGrantedScopes().Has("profile") {
		if name, err := h.people.AccountName(r.Context(), request.GetSession().GetSubject()); err == nil {
			answer["name"] = name
		}
	}
	demo.WriteJSON(w, http.StatusOK, answer)
}

// serveIntrospection tells what a token is (RFC 7662). It is for clients with a secret, by
// HTTP Basic; fosite answers whoever has an access token as well.
func (h *host) serveIntrospection(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxFormBody)
	if _, _, ok := r.BasicAuth(); !ok {
		h.provider.WriteIntrospectionError(r.Context(), w, fosite.ErrRequestUnauthorized)
		return
	}
	response, err := h.provider.NewIntrospectionRequest(r.Context(), r, new(fosite.DefaultSession))
	if err != nil {
		h.provider.WriteIntrospectionError(r.Context(), w, err)
		return
	}
	h.provider.WriteIntrospectionResponse(r.Context(), w, response)
}

// keepTokens stores the tokens of a request: both or neither, so that an error means that
// nothing was issued. A storage with transactions does it in one (storage.MaybeBeginTx).
func (h *host) keepTokens(ctx context.Context, request fosite.Requester, access, refresh string) error {
	if err := h.store.CreateAccessTokenSession(ctx, access, request); err != nil || refresh == "" {
		return err
	}
	if err := h.store.CreateRefreshTokenSession(ctx, refresh, access, request); err != nil {
		return errors.Join(err, h.store.DeleteAccessTokenSession(context.WithoutCancel(ctx), access))
	}
	return nil
}

// revoke ends what came of a request whose tokens were issued before a time, even if
// whoever caused it has hung up.
func (h *host) revoke(ctx context.Context, requestID string, issuedBefore time.Time) {
	if issued, ok := h.store.issuedAt(requestID); !ok || !issued.Before(issuedBefore) {
		return
	}
	ctx = context.WithoutCancel(ctx)
	for _, revoke := range []func(context.Context, string) error{h.store.RevokeRefreshToken, h.store.RevokeAccessToken} {
		if err := revoke(ctx, requestID); err != nil && !errors.Is(err, fosite.ErrNotFound) {
			h.logger.ErrorContext(ctx, "revoking tokens failed", "request", requestID, "error", err)
		}
	}
}

// metadata is that of RFC 8414, which fosite leaves to the host.
func (h *host) metadata() map[string]any {
	return map[string]any{
		"issuer":                                        h.origin,
		"token_endpoint":                                h.origin + "/token",
		"userinfo_endpoint":                             h.origin + "/userinfo",
		"introspection_endpoint":                        h.origin + "/introspect",
		"scopes_supported":                              scopes,
		"response_types_supported":                      []string{}, // There is no authorization endpoint.
		"grant_types_supported":                         []string{"refresh_token"},
		"token_endpoint_auth_methods_supported":         []string{"none", "client_secret_basic", "client_secret_post"},
		"introspection_endpoint_auth_methods_supported": []string{"client_secret_basic"},
	}
}

// jsonHandler answers with doc.
func jsonHandler(doc map[string]any) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { demo.WriteJSON(w, http.StatusOK, doc) })
}
