package demo

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/devicegrant/devicegrant"
)

const (
	accessLife  = time.Hour
	refreshLife = 30 * 24 * time.Hour // since it was last used

	// replayGrace is how long after tokens were issued their device code may come
	// again in a request that was only sent twice.
	replayGrace = 5 * time.Second
)

// refreshToken is written "grant.family.secret". The family tells a token that
// was used before from one that somebody made up: grant ids are in logs.
type refreshToken struct {
	grant          uuid.UUID
	family, secret string
}

func (t refreshToken) String() string {
	return t.grant.String() + "." + t.family + "." + t.secret
}

func parseRefreshToken(s string) (t refreshToken, ok bool) {
	parts := strings.Split(s, ".")
	if len(parts) != 3 {
		return t, false
	}
	grant, err := uuid.Parse(parts[0])
	return refreshToken{grant, parts[1], parts[2]}, err == nil
}

// IssueToken is for devicegrant.Config.
func (h *Host) IssueToken(ctx context.Context, g *devicegrant.Grant) (*devicegrant.Token, error) {
	now, refresh := h.now(), refreshToken{g.ID, newSecret(), newSecret()}
	l := login{
		grant: g.ID, clientID: g.ClientID, subject: g.Subject,
		scope: g.Scope, resource: g.Resource, details: g.AuthorizationDetails,
		family: digestOf(refresh.family), newest: digestOf(refresh.secret),
		issued: now, expires: now.Add(refreshLife),
	}
	l.bind(g.Key)
	token, access := l.newAccess(g.Scope, g.Resource, g.Key, now)
	if err := h.records.issue(ctx, l, access); err != nil {
		return nil, err
	}
	if slices.Contains(strings.Fields(g.Scope), "offline_access") {
		token.RefreshToken = refresh.String()
	}
	return token, nil
}

// revokeReplayed ends a login whose device code was presented again. It does so even
// if whoever presented it has hung up.
func (h *Host) revokeReplayed(ctx context.Context, grant uuid.UUID) {
	if err := h.records.revoke(context.WithoutCancel(ctx), grant, h.now().Add(-replayGrace)); err != nil {
		h.logger.ErrorContext(ctx, "revoking the tokens of a replayed device code failed", "grant", grant, "error", err)
	}
}

// bind binds the refresh tokens to a key, if there is one and they are a public client's:
// those of others are bound to the client already (RFC 9449 section 5).
func (l *login) bind(key devicegrant.Key) {
	if clients[l.clientID].public && key != (devicegrant.Key{}) {
		l.key = key
	}
}

// newAccess returns a token, and what is kept of it. The response says what it is for
// beyond its scope (RFC 9396 section 7), and how to use it (RFC 9449 section 5).
func (l *login) newAccess(scope, resource string, key devicegrant.Key, now time.Time) (*devicegrant.Token, accessToken) {
	secret := newSecret()
	token := &devicegrant.Token{AccessToken: secret, ExpiresIn: accessLife, Scope: scope}
	if key.Method == devicegrant.KeyDPoP {
		token.TokenType = "DPoP"
	}
	if l.details != "" {
		token.Extra = map[string]any{"authorization_details": json.RawMessage(l.details)}
	}
	return token, accessToken{
		token: digestOf(secret), grant: l.grant, scope: scope, resource: resource, key: key, expires: now.Add(accessLife),
	}
}

// refreshRequest is what a client asks for with a refresh token.
type refreshRequest struct {
	clientID, token string
	scope           string   // empty for all that was granted
	resources       []string // likewise
	key             devicegrant.Key
}

// refresh exchanges a refresh token for new tokens, for what is asked for if that is no
// more than was granted (RFC 6749 section 6, RFC 8707 section 2.2). One that was exchanged
// before has two holders, and nobody can say which of them is honest: the login ends
// (RFC 9700 section 4.14.2). Whoever does not have its key gets nothing, and ends nothing.
func (h *Host) refresh(ctx context.Context, r refreshRequest) (*devicegrant.Token, error) {
	old, ok := parseRefreshToken(r.token)
	if !ok {
		return nil, devicegrant.ErrInvalidGrant
	}
	now := h.now()
	l, ok, err := h.records.login(ctx, old.grant, now)
	if err != nil {
		return nil, err
	}
	if !ok || l.clientID != r.clientID || !l.family.matches(old.family) || l.key != (devicegrant.Key{}) && l.key != r.key {
		return nil, devicegrant.ErrInvalidGrant
	}
	scope, ok := narrow(l.scope, r.scope)
	if !ok {
		return nil, devicegrant.ErrInvalidScope.Describe("the scope is more than was granted")
	}
	resource, ok := narrow(l.resource, strings.Join(r.resources, " "))
	if !ok {
		return nil, devicegrant.ErrInvalidTarget.Describe("the resources are more than were granted")
	}
	l.bind(r.key)
	next := refreshToken{old.grant, old.family, newSecret()}
	issued, access := l.newAccess(scope, resource, r.key, now)
	l.newest, l.expires = digestOf(next.secret), now.Add(refreshLife)
	ok, err = h.records.refresh(ctx, l, digestOf(old.secret), access, now)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, devicegrant.ErrInvalidGrant
	}
	issued.RefreshToken = next.String()
	return issued, nil
}

func (d digest) matches(secret string) bool {
	other := digestOf(secret)
	return subtle.ConstantTimeCompare(d[:], other[:]) == 1
}

// narrow returns what is asked for of what was granted, both separated by spaces; nothing
// asks for all of it.
func narrow(granted, asked string) (narrowed string, ok bool) {
	if asked == "" {
		return granted, true
	}
	wanted := strings.Fields(asked)
	kept := slices.DeleteFunc(strings.Fields(granted), func(s string) bool { return !slices.Contains(wanted, s) })
	for _, s := range wanted {
		if !slices.Contains(kept, s) {
			return "", false
		}
	}
	return strings.Join(kept, " "), len(kept) > 0
}
