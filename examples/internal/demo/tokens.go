package demo

import (
	"context"
	"crypto/subtle"
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

// login is what one person allowed one device. All tokens of a grant hang on it:
// without it none of them is worth anything.
type login struct {
	clientID, subject, scope string
	family                   digest // of the part that all its refresh tokens share
	newest                   digest // of the part that only the valid one has
	issued                   time.Time
}

// accessToken opens userinfo until it expires or its login is revoked.
type accessToken struct {
	grant uuid.UUID
	scope string
}

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
func (h *Host) IssueToken(_ context.Context, g *devicegrant.Grant) (*devicegrant.Token, error) {
	refresh := refreshToken{g.ID, newSecret(), newSecret()}
	h.logins.put(g.ID, login{
		clientID: g.ClientID, subject: g.Subject, scope: g.Scope,
		family: digestOf(refresh.family), newest: digestOf(refresh.secret), issued: time.Now(),
	})
	token := h.newAccessToken(g.ID, g.Scope)
	if slices.Contains(strings.Fields(g.Scope), "offline_access") {
		token.RefreshToken = refresh.String()
	}
	return token, nil
}

// revokeReplayed ends a login whose device code was presented again.
func (h *Host) revokeReplayed(grant uuid.UUID, when time.Time) {
	h.logins.update(grant, func(l login, found bool) (login, bool) {
		return l, found && when.Sub(l.issued) < replayGrace
	})
}

func (h *Host) newAccessToken(grant uuid.UUID, scope string) *devicegrant.Token {
	secret := newSecret()
	h.access.put(digestOf(secret), accessToken{grant, scope})
	return &devicegrant.Token{AccessToken: secret, ExpiresIn: accessLife, Scope: scope}
}

// refresh exchanges a refresh token for new tokens, of the scope that is asked for
// if that is no more than was granted (RFC 6749 section 6).
func (h *Host) refresh(clientID, token, scope string) (*devicegrant.Token, error) {
	old, ok := parseRefreshToken(token)
	if !ok {
		return nil, devicegrant.ErrInvalidGrant
	}
	l, ok := h.logins.get(old.grant)
	if !ok || l.clientID != clientID || !l.family.matches(old.family) {
		return nil, devicegrant.ErrInvalidGrant
	}
	narrowed, ok := narrow(l.scope, scope)
	if !ok {
		return nil, devicegrant.ErrInvalidScope.Describe("the scope is more than was granted")
	}
	next, ok := h.rotate(old)
	if !ok {
		return nil, devicegrant.ErrInvalidGrant
	}
	issued := h.newAccessToken(old.grant, narrowed)
	issued.RefreshToken = next.String()
	return issued, nil
}

// rotate replaces a refresh token. One that was replaced before has two holders,
// and nobody can say which of them is honest: the login ends (RFC 9700 section
// 4.14.2).
func (h *Host) rotate(old refreshToken) (next refreshToken, ok bool) {
	next = refreshToken{old.grant, old.family, newSecret()}
	h.logins.update(old.grant, func(l login, found bool) (login, bool) {
		ok = found && l.newest.matches(old.secret)
		l.newest = digestOf(next.secret)
		return l, ok
	})
	return next, ok
}

// bearer returns the login that an access token belongs to, and its scope.
func (h *Host) bearer(token string) (l login, scope string, ok bool) {
	t, ok := h.access.get(digestOf(token))
	if !ok {
		return login{}, "", false
	}
	l, ok = h.logins.get(t.grant)
	return l, t.scope, ok
}

func (d digest) matches(secret string) bool {
	other := digestOf(secret)
	return subtle.ConstantTimeCompare(d[:], other[:]) == 1
}

// narrow returns what is asked for of a granted scope; nothing asks for all of it.
func narrow(granted, asked string) (scope string, ok bool) {
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
