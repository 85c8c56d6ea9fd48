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
	token, access := newAccessToken(g.ID, g.Scope, now)
	err := h.records.issue(ctx, login{
		grant: g.ID, clientID: g.ClientID, subject: g.Subject, scope: g.Scope,
		family: digestOf(refresh.family), newest: digestOf(refresh.secret),
		issued: now, expires: now.Add(refreshLife),
	}, access)
	if err != nil {
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

// newAccessToken returns a token, and what is kept of it.
func newAccessToken(grant uuid.UUID, scope string, now time.Time) (*devicegrant.Token, accessToken) {
	secret := newSecret()
	return &devicegrant.Token{AccessToken: secret, ExpiresIn: accessLife, Scope: scope},
		accessToken{token: digestOf(secret), grant: grant, scope: scope, expires: now.Add(accessLife)}
}

// refresh exchanges a refresh token for new tokens, of the scope that is asked for
// if that is no more than was granted (RFC 6749 section 6). One that was exchanged
// before has two holders, and nobody can say which of them is honest: the login ends
// (RFC 9700 section 4.14.2).
func (h *Host) refresh(ctx context.Context, clientID, token, scope string) (*devicegrant.Token, error) {
	old, ok := parseRefreshToken(token)
	if !ok {
		return nil, devicegrant.ErrInvalidGrant
	}
	now := h.now()
	l, ok, err := h.records.login(ctx, old.grant, now)
	if err != nil {
		return nil, err
	}
	if !ok || l.clientID != clientID || !l.family.matches(old.family) {
		return nil, devicegrant.ErrInvalidGrant
	}
	narrowed, ok := narrow(l.scope, scope)
	if !ok {
		return nil, devicegrant.ErrInvalidScope.Describe("the scope is more than was granted")
	}
	next := refreshToken{old.grant, old.family, newSecret()}
	issued, access := newAccessToken(old.grant, narrowed, now)
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
