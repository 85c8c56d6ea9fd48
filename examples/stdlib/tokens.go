package main

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

const (
	accessType  = "at+jwt" // RFC 9068 section 2.1
	accessLife  = 10 * time.Minute
	refreshLife = 30 * 24 * time.Hour // since it was last used
)

var scopes = []string{"openid", "profile", "offline_access"}

// client is a registered client. One without a secret is public.
type client struct {
	id, name, secret string
	device           bool // may use the device grant
}

var clients = map[string]client{
	"tv":  {id: "tv", name: "Living-room TV", device: true},
	"web": {id: "web", name: "Website", secret: "web-secret"},
}

// authenticate returns a client whose secret is right.
func (s *server) authenticate(id, secret string) (client, bool) {
	c, ok := clients[id]
	return c, ok && subtle.ConstantTimeCompare([]byte(secret), []byte(c.secret)) == 1
}

// credentials reads who a client says that it is (RFC 6749 section 2.3.1).
func credentials(r *http.Request) (id, secret string, err error) {
	user, password, ok := r.BasicAuth()
	if !ok {
		return r.PostForm.Get("client_id"), r.PostForm.Get("client_secret"), nil
	}
	id, err1 := url.QueryUnescape(user)
	secret, err2 := url.QueryUnescape(password)
	return id, secret, errors.Join(err1, err2)
}

// accessClaims are those of an access token (RFC 9068 section 2.2).
type accessClaims struct {
	jwt.Claims
	ClientID string `json:"client_id"`
	Scope    string `json:"scope,omitempty"`
}

// login is what one person allowed one client: what its refresh tokens are worth. Each of
// them is written "family.secret". A login has one family and one valid secret.
type login struct {
	grant, clientID, subject, scope string
	issued                          time.Time
	secret                          digest
}

// tokens are a token response (RFC 6749 section 5.1).
type tokens struct {
	Access    string `json:"access_token"`
	Type      string `json:"token_type"`
	ExpiresIn int64  `json:"expires_in"`
	Refresh   string `json:"refresh_token,omitempty"`
	Scope     string `json:"scope,omitempty"`
}

// issue makes the first tokens of a login. What grant it came from is what revoke knows.
func (s *server) issue(grant, clientID, subject, scope string) (*tokens, error) {
	t, err := s.newAccess(clientID, subject, scope)
	if err != nil {
		return nil, err
	}
	if slices.Contains(strings.Fields(scope), "offline_access") {
		family, secret := rand.Text(), rand.Text()
		s.logins.put(digestOf(family), login{grant, clientID, subject, scope, time.Now(), digestOf(secret)}, refreshLife)
		t.Refresh = family + "." + secret
	}
	return t, nil
}

// newAccess signs an access token. It is not kept, so it ends by itself and cannot be
// revoked: that is why its life is short.
func (s *server) newAccess(clientID, subject, scope string) (*tokens, error) {
	now := time.Now()
	token, err := jwt.Signed(s.signer).Claims(accessClaims{
		Claims: jwt.Claims{
			Issuer: s.origin, Subject: subject, Audience: jwt.Audience{s.origin}, ID: rand.Text(),
			IssuedAt: jwt.NewNumericDate(now), Expiry: jwt.NewNumericDate(now.Add(accessLife)),
		},
		ClientID: clientID,
		Scope:    scope,
	}).Serialize()
	return &tokens{Access: token, Type: "Bearer", ExpiresIn: int64(accessLife / time.Second), Scope: scope}, err
}

// revoke ends the login that came from a grant, if it is as old as that.
func (s *server) revoke(grant string, issued time.Time) {
	s.logins.removeAll(func(l login) bool { return l.grant == grant && !l.issued.After(issued) })
}

var (
	errGrant = errors.New("invalid_grant")
	errScope = errors.New("invalid_scope")
)

// refresh exchanges a refresh token for new tokens, for a scope that was granted or, if
// that is empty, for all of it (RFC 6749 section 6). One that was exchanged before has two
// holders, and nobody can say which of them is honest: the login ends (RFC 9700 section
// 4.14.2).
func (s *server) refresh(clientID, token, scope string) (*tokens, error) {
	family, secret, _ := strings.Cut(token, ".")
	l, ok := s.logins.get(digestOf(family))
	if !ok || l.clientID != clientID {
		return nil, errGrant
	}
	had := strings.Fields(l.scope)
	if slices.ContainsFunc(strings.Fields(scope), func(s string) bool { return !slices.Contains(had, s) }) {
		return nil, errScope
	}
	if scope == "" {
		scope = l.scope
	}
	t, err := s.newAccess(clientID, l.subject, scope)
	if err != nil {
		return nil, err
	}
	old, next := digestOf(secret), rand.Text()
	s.logins.update(digestOf(family), refreshLife, func(l login, found bool) (login, bool) {
		ok = found && subtle.ConstantTimeCompare(l.secret[:], old[:]) == 1
		l.secret = digestOf(next)
		return l, ok
	})
	if !ok {
		return nil, errGrant
	}
	t.Refresh = family + "." + next
	return t, nil
}

// serveToken is the token endpoint, for refresh tokens.
func (s *server) serveToken(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	if err := r.ParseForm(); err != nil || r.Method != http.MethodPost {
		writeJSON(w, http.StatusBadRequest, oauthError{"invalid_request"})
		return
	}
	if r.PostForm.Get("grant_type") != "refresh_token" {
		writeJSON(w, http.StatusBadRequest, oauthError{"unsupported_grant_type"})
		return
	}
	id, secret, err := credentials(r)
	c, ok := s.authenticate(id, secret)
	if err != nil || !ok {
		w.Header().Set("WWW-Authenticate", `Basic realm="token"`)
		writeJSON(w, http.StatusUnauthorized, oauthError{"invalid_client"})
		return
	}
	t, err := s.refresh(c.id, r.PostForm.Get("refresh_token"), r.PostForm.Get("scope"))
	switch {
	case err == nil:
		writeJSON(w, http.StatusOK, t)
	case errors.Is(err, errGrant), errors.Is(err, errScope):
		writeJSON(w, http.StatusBadRequest, oauthError{err.Error()})
	default:
		s.logger.ErrorContext(r.Context(), "issuing tokens failed", "error", err)
		writeJSON(w, http.StatusServiceUnavailable, oauthError{"temporarily_unavailable"})
	}
}

// serveUserinfo says whose access token it is (OpenID Connect Core section 5.3).
func (s *server) serveUserinfo(w http.ResponseWriter, r *http.Request) {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	claims, err := s.verify(token)
	if err != nil || !strings.EqualFold(scheme, "Bearer") {
		w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token"`)
		writeJSON(w, http.StatusUnauthorized, oauthError{"invalid_token"})
		return
	}
	info := map[string]string{"sub": claims.Subject}
	if slices.Contains(strings.Fields(claims.Scope), "profile") {
		info["name"] = users[claims.Subject].name
	}
	writeJSON(w, http.StatusOK, info)
}

var errType = errors.New("not an access token")

// verify returns the claims of an access token of this server (RFC 9068 section 4).
func (s *server) verify(token string) (claims accessClaims, err error) {
	parsed, err := jwt.ParseSigned(token, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		return claims, err
	}
	if err = parsed.Claims(s.key, &claims); err != nil {
		return claims, err
	}
	if parsed.Headers[0].ExtraHeaders[jose.HeaderType] != accessType || claims.Expiry == nil {
		return claims, errType
	}
	expected := jwt.Expected{Issuer: s.origin, AnyAudience: jwt.Audience{s.origin}}
	return claims, claims.ValidateWithLeeway(expected.WithTime(time.Now()), 0)
}

// metadata is the server's metadata (RFC 8414).
func (s *server) metadata() map[string]any {
	return map[string]any{
		"issuer":                                s.origin,
		"token_endpoint":                        s.origin + "/token",
		"userinfo_endpoint":                     s.origin + "/userinfo",
		"jwks_uri":                              s.origin + "/jwks",
		"scopes_supported":                      scopes,
		"response_types_supported":              []string{}, // There is no authorization endpoint.
		"grant_types_supported":                 []string{"refresh_token"},
		"token_endpoint_auth_methods_supported": []string{"none", "client_secret_basic", "client_secret_post"},
	}
}

// oauthError is an error response (RFC 6749 section 5.2).
type oauthError struct {
	Code string `json:"error"`
}

// writeJSON writes an answer that no cache may keep. What is given has to be a type of our
// own, which can be encoded.
func writeJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		panic(err) // Only our own types are written.
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(body) // A client that has gone cannot be told.
}

// serveJSON serves what is the same for everybody.
func serveJSON(v any) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, http.StatusOK, v) })
}
