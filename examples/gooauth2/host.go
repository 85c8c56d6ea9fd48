package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	stderrors "errors"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-oauth2/oauth2/v4"
	"github.com/go-oauth2/oauth2/v4/errors"
	"github.com/go-oauth2/oauth2/v4/manage"
	"github.com/go-oauth2/oauth2/v4/server"

	"github.com/devicegrant/devicegrant/examples/internal/demo"
)

const (
	accessLife  = time.Hour
	refreshLife = 30 * 24 * time.Hour // since it was last used
	maxBody     = 64 << 10            // bytes
)

// host is the authorization server: the library's Manager and Server, with clients and
// people of its own.
type host struct {
	origin  string
	manager *manager
	server  *server.Server
	people  *demo.Host // the login
	logger  *slog.Logger
}

// newHost returns a server that is reached at origin, a URL without a path.
func newHost(origin string, tokens oauth2.TokenStore, logger *slog.Logger) (*host, error) {
	registry, err := newRegistry()
	if err != nil {
		return nil, err
	}
	m := &manager{Manager: manage.NewManager()}
	m.MapClientStorage(registry)
	m.MapTokenStorage(tokens)
	m.MapAccessGenerate(generator{})
	m.SetPasswordTokenCfg(&manage.Config{AccessTokenExp: accessLife, RefreshTokenExp: refreshLife, IsGenerateRefresh: true})
	m.SetRefreshTokenCfg(&manage.RefreshingConfig{
		AccessTokenExp: accessLife, RefreshTokenExp: refreshLife, IsGenerateRefresh: true,
		IsResetRefreshTime: true, IsRemoveAccess: true, IsRemoveRefreshing: true,
	})
	h := &host{
		origin:  origin,
		manager: m,
		server: server.NewServer(&server.Config{
			TokenType:         "Bearer",
			AllowedGrantTypes: []oauth2.GrantType{oauth2.Refreshing},
		}, m),
		people: demo.NewHost(origin, demo.InMemory(), logger),
		logger: logger,
	}
	h.server.ClientInfoHandler = h.credentials
	h.server.ClientAuthorizedHandler = h.mayUse
	h.server.RefreshingScopeHandler = isNarrower
	h.server.AccessTokenResolveHandler = bearer
	h.server.InternalErrorHandler = h.internalError
	h.server.ResponseErrorHandler = fixStatus
	return h, nil
}

// routes mounts what is served without the device grant, but for the token endpoint and
// the metadata.
func (h *host) routes(mux *http.ServeMux) {
	people := h.people.Routes()
	mux.Handle("/login", people)
	mux.Handle("/logout", people)
	mux.Handle("GET /{$}", http.RedirectHandler("/device", http.StatusSeeOther))
	mux.HandleFunc("GET /userinfo", h.serveUserinfo)
}

// serveToken is the token endpoint of the library's server.
func (h *host) serveToken(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	r.URL.RawQuery = "" // The library takes parameters from there too, where they end up in logs.
	if err := h.server.HandleTokenRequest(w, r); err != nil {
		h.logger.WarnContext(r.Context(), "the answer of the token endpoint was not sent", "error", err)
	}
}

// credentials is for the library's server: Basic, or the body.
func (h *host) credentials(r *http.Request) (id, secret string, err error) {
	id, secret, err = server.ClientBasicHandler(r)
	if err != nil {
		id, secret, err = server.ClientFormHandler(r)
	} else if id, err = url.QueryUnescape(id); err == nil { // RFC 6749 section 2.3.1.
		secret, err = url.QueryUnescape(secret)
	}
	if err == nil {
		_, err = h.authenticate(r.Context(), id, secret)
	}
	if err != nil {
		return "", "", errors.ErrInvalidClient
	}
	return id, secret, nil
}

// isNarrower is for the library's server: a refreshed token has no scope that was not granted.
func isNarrower(r *oauth2.TokenGenerateRequest, granted string) (bool, error) {
	had := strings.Fields(granted)
	wanted := strings.Fields(r.Scope)
	return !slices.ContainsFunc(wanted, func(s string) bool { return !slices.Contains(had, s) }), nil
}

// bearer is for the library's server, whose own takes tokens from URLs too.
func bearer(r *http.Request) (token string, ok bool) {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	return token, strings.EqualFold(scheme, "Bearer") && token != ""
}

// internalError is for the library's server, which answers server_error.
func (h *host) internalError(err error) *errors.Response {
	h.logger.Error("token endpoint failed", "error", err)
	return nil
}

// fixStatus gives errors the status of RFC 6749 section 5.2, where the library says 401 and
// 403 for most of them.
func fixStatus(re *errors.Response) {
	if re.StatusCode < http.StatusInternalServerError && !stderrors.Is(re.Error, errors.ErrInvalidClient) {
		re.StatusCode = http.StatusBadRequest
	}
}

// serveUserinfo says whose access token it is (OpenID Connect Core section 5.3).
func (h *host) serveUserinfo(w http.ResponseWriter, r *http.Request) {
	t, err := h.server.ValidationBearerToken(r)
	switch {
	case err == nil:
	case stderrors.Is(err, errors.ErrInvalidAccessToken), stderrors.Is(err, errors.ErrExpiredAccessToken),
		stderrors.Is(err, errors.ErrExpiredRefreshToken):
		w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token"`)
		demo.WriteJSON(w, http.StatusUnauthorized, map[string]string{"error": "invalid_token"})
		return
	default:
		h.logger.ErrorContext(r.Context(), "tokens are unavailable", "error", err)
		demo.WriteJSON(w, http.StatusServiceUnavailable, map[string]string{"error": "temporarily_unavailable"})
		return
	}
	claims := map[string]string{"sub": t.GetUserID()}
	if name, err := h.people.AccountName(r.Context(), t.GetUserID()); err == nil && hasScope(t, "profile") {
		claims["name"] = name
	}
	demo.WriteJSON(w, http.StatusOK, claims)
}

// metadataHandler serves the server's metadata (RFC 8414), to which extend may add what it
// knows of.
func (h *host) metadataHandler(extend func(map[string]any) map[string]any) http.Handler {
	doc, err := json.Marshal(extend(map[string]any{
		"issuer":                                h.origin,
		"token_endpoint":                        h.origin + "/token",
		"userinfo_endpoint":                     h.origin + "/userinfo",
		"scopes_supported":                      scopes,
		"response_types_supported":              []string{}, // There is no authorization endpoint.
		"grant_types_supported":                 []string{oauth2.Refreshing.String()},
		"token_endpoint_auth_methods_supported": []string{"none", "client_secret_basic", "client_secret_post"},
	}))
	if err != nil {
		panic(err) // Strings and lists of strings always marshal.
	}
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(doc) // A client that has gone cannot be told.
	})
}

// manager is the library's, but for refreshing: the library's own does not ask whose
// refresh token it is, and gives tokens to each of two that come at the same time.
type manager struct {
	*manage.Manager
	refreshing sync.Mutex
}

// RefreshAccessToken implements oauth2.Manager.
func (m *manager) RefreshAccessToken(ctx context.Context, r *oauth2.TokenGenerateRequest) (oauth2.TokenInfo, error) {
	m.refreshing.Lock()
	defer m.refreshing.Unlock()
	old, err := m.LoadRefreshToken(ctx, r.Refresh)
	if err != nil {
		return nil, err
	}
	if old.GetClientID() != r.ClientID {
		return nil, errors.ErrInvalidRefreshToken
	}
	return m.Manager.RefreshAccessToken(ctx, r)
}

// generator makes random tokens, and refresh tokens for those who were allowed offline
// access. The library's own makes them for everybody.
type generator struct{}

// Token implements oauth2.AccessGenerate.
func (generator) Token(_ context.Context, data *oauth2.GenerateBasic, withRefresh bool) (access, refresh string, err error) {
	if withRefresh && hasScope(data.TokenInfo, "offline_access") {
		refresh = rand.Text()
	}
	return rand.Text(), refresh, nil
}

func hasScope(t oauth2.TokenInfo, scope string) bool {
	return slices.Contains(strings.Fields(t.GetScope()), scope)
}
