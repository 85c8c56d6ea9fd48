package demo

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/devicegrant/devicegrant"
)

// Records are what a Host keeps: who is signed in, and the tokens that it has issued.
// Get them with InMemory or InDatabase.
//
// Secrets are known to them by their digests only. What has expired is not found. Like
// the library's Store, they read no clock.
type Records interface {
	// startSession keeps a session under the digest of its cookie.
	startSession(ctx context.Context, cookie digest, s session, now time.Time) error
	// session returns the session of a cookie.
	session(ctx context.Context, cookie digest, now time.Time) (s session, ok bool, err error)
	// endSession forgets a session, if there is one.
	endSession(ctx context.Context, cookie digest) error

	// issue keeps a new login and its first access token. In a database, that is a
	// part of the transaction in ctx which redeems the grant.
	issue(ctx context.Context, l login, t accessToken) error
	// login returns the login that came from a grant.
	login(ctx context.Context, grant uuid.UUID, now time.Time) (l login, ok bool, err error)
	// refresh keeps t and has l.newest replace old, and l.key its key, together, if old is
	// the digest of the valid refresh token. Otherwise, the login of l ends, and ok is false.
	refresh(ctx context.Context, l login, old digest, t accessToken, now time.Time) (ok bool, err error)
	// revoke ends the login of a grant if it was issued at the given time or before.
	revoke(ctx context.Context, grant uuid.UUID, issued time.Time) error
	// access returns what is kept of an access token, and its login.
	access(ctx context.Context, token digest, now time.Time) (t accessToken, l login, ok bool, err error)

	// purge deletes up to limit records of a kind that have expired, and returns the
	// most that it deleted of one: fewer than limit means that none are left.
	purge(ctx context.Context, now time.Time, limit int) (int, error)
}

// session is a browser in which somebody has signed in.
type session struct {
	subject string
	expires time.Time
}

// login is what one person allowed one device. All tokens of a grant hang on it:
// without it none of them is worth anything. With a key, its refresh tokens are of use
// together with that only.
type login struct {
	grant                    uuid.UUID
	clientID, subject, scope string
	resource                 string // space-separated (RFC 8707)
	details                  string // JSON, as the device sent it (RFC 9396)
	key                      devicegrant.Key
	family                   digest // of the part that all its refresh tokens share
	newest                   digest // of the part that only the valid one has
	issued, expires          time.Time
}

// accessToken opens userinfo until it expires or its login is revoked; with a key,
// together with that only.
type accessToken struct {
	token           digest
	grant           uuid.UUID
	scope, resource string
	key             devicegrant.Key
	expires         time.Time
}

// memory is Records that last as long as the process.
type memory struct {
	sessions *table[digest, session]
	logins   *table[uuid.UUID, login] // by the grant they came from
	tokens   *table[digest, accessToken]
}

// InMemory returns Records for a single process, which are lost with it.
func InMemory() Records {
	return memory{
		sessions: newTable[digest, session](10_000),
		logins:   newTable[uuid.UUID, login](100_000),
		tokens:   newTable[digest, accessToken](100_000),
	}
}

func (m memory) startSession(_ context.Context, cookie digest, s session, now time.Time) error {
	m.sessions.put(cookie, s, now, s.expires)
	return nil
}

func (m memory) session(_ context.Context, cookie digest, now time.Time) (session, bool, error) {
	s, ok := m.sessions.get(cookie, now)
	return s, ok, nil
}

func (m memory) endSession(_ context.Context, cookie digest) error {
	m.sessions.remove(cookie)
	return nil
}

func (m memory) issue(_ context.Context, l login, t accessToken) error {
	m.logins.put(l.grant, l, l.issued, l.expires)
	m.tokens.put(t.token, t, l.issued, t.expires)
	return nil
}

func (m memory) login(_ context.Context, grant uuid.UUID, now time.Time) (login, bool, error) {
	l, ok := m.logins.get(grant, now)
	return l, ok, nil
}

func (m memory) refresh(_ context.Context, l login, old digest, t accessToken, now time.Time) (ok bool, err error) {
	m.logins.update(l.grant, now, func(stored login, found bool) (login, time.Time, bool) {
		ok = found && stored.newest == old
		return l, l.expires, ok
	})
	if ok {
		m.tokens.put(t.token, t, now, t.expires)
	}
	return ok, nil
}

func (m memory) revoke(_ context.Context, grant uuid.UUID, issued time.Time) error {
	m.logins.update(grant, issued, func(l login, found bool) (login, time.Time, bool) {
		return l, l.expires, found && l.issued.After(issued)
	})
	return nil
}

func (m memory) access(_ context.Context, token digest, now time.Time) (t accessToken, l login, ok bool, err error) {
	if t, ok = m.tokens.get(token, now); ok {
		l, ok = m.logins.get(t.grant, now)
	}
	return t, l, ok, nil
}

// purge has nothing to do: a table's writes take what has expired along.
func (m memory) purge(context.Context, time.Time, int) (int, error) { return 0, nil }
