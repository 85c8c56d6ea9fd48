package devicegrant

import (
	"context"
	"errors"
)

// Filter says which grants [Server.List] and [Server.Revoke] are about: those for which
// all that is set is true. At least one field has to be set.
type Filter struct {
	// ClientID is the client that the device is.
	ClientID string
	// Subject is who has approved it. Nobody's is a grant that is pending.
	Subject string
	// UserCode is its user code, however it is written.
	UserCode string
}

// ErrNotListed is that a Store that is no [Lister] cannot be asked for grants by client or
// subject.
var ErrNotListed = errors.New("devicegrant: the Store is no Lister")

var errNoFilter = errors.New("devicegrant: the Filter is empty; set one of its fields")

// List returns up to limit grants that are pending, or approved and not collected, in no
// order that means anything. after is the last of those that were returned before; nil
// begins. Fewer than limit are the last.
//
// It is for operators: a Store may have to look at every grant. It returns ErrNotListed
// unless the filter has a UserCode or the Store is a [Lister].
func (s *Server) List(ctx context.Context, f Filter, after *Grant, limit int) ([]*Grant, error) {
	switch {
	case f == Filter{}:
		return nil, errNoFilter
	case limit < 1:
		return nil, errors.New("devicegrant: limit must be above zero")
	case f.UserCode != "":
		return s.listCode(ctx, f, after)
	}
	lister, ok := s.cfg.Store.(Lister)
	if !ok {
		return nil, ErrNotListed
	}
	q := ListQuery{ClientID: f.ClientID, Subject: f.Subject, Now: s.now(), Limit: limit}
	if after != nil {
		q.After = after.DeviceCode
	}
	grants, err := lister.List(ctx, q)
	if err != nil {
		s.raise(ctx, Event{Type: EventStoreError, ClientID: f.ClientID, Subject: f.Subject, Err: err})
	}
	return grants, err
}

// listCode returns the grant of the filter's user code, unless it is the one before.
func (s *Server) listCode(ctx context.Context, f Filter, after *Grant) ([]*Grant, error) {
	code, ok := s.cfg.UserCode.normalize(f.UserCode)
	if !ok || after != nil {
		return nil, nil
	}
	now := s.now()
	g, err := s.live(ctx, now, code)
	switch {
	case errors.Is(err, ErrUserCode):
		return nil, nil
	case err != nil:
		return nil, err
	}
	if _, ok := g.revoke(now); !ok || f.ClientID != "" && g.ClientID != f.ClientID || f.Subject != "" && g.Subject != f.Subject {
		return nil, nil
	}
	return []*Grant{g}, nil
}

// revokeBatch is how many grants Revoke lists at a time.
const revokeBatch = 100

// Revoke denies all grants that List returns for the filter, and returns how many there
// were. Their devices are told access_denied (RFC 8628 section 3.5). One that is collected
// or decided meanwhile is left as it is: for tokens that are issued, see
// Config.IssueToken, which had the grant's ID. Errors are those of List; what was revoked
// before stays so.
func (s *Server) Revoke(ctx context.Context, f Filter) (n int, err error) {
	var after *Grant
	for {
		grants, err := s.List(ctx, f, after, revokeBatch)
		if err != nil {
			return n, err
		}
		for _, g := range grants {
			revoked, err := s.revoke(ctx, g)
			if err != nil {
				return n, err
			}
			if revoked {
				n++
			}
		}
		if len(grants) < revokeBatch {
			return n, nil
		}
		after = grants[len(grants)-1]
	}
}

// revoke denies a grant, unless somebody else ends it first.
func (s *Server) revoke(ctx context.Context, g *Grant) (bool, error) {
	for range maxConflicts {
		revoked, ok := g.revoke(s.now())
		if !ok {
			return false, nil
		}
		err := s.write(ctx, &revoked)
		if err == nil {
			s.ended(ctx, EventRevoked, &revoked)
			return true, nil
		}
		if !errors.Is(err, ErrConflict) {
			return false, err
		}
		if g, err = s.cfg.Store.ByDeviceCode(ctx, g.DeviceCode); errors.Is(err, ErrNotFound) {
			return false, nil
		} else if err != nil {
			return false, err
		}
	}
	return false, ErrConflict
}
