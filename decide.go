package devicegrant

import (
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"strings"
	"time"

	"github.com/google/uuid"
)

// Person is who enters a code or decides, and from where. Both count against
// limits on wrong codes.
type Person struct {
	// Subject is who is signed in. It is required.
	Subject string
	// Addr is where the browser is. The zero Addr is not limited.
	Addr netip.Addr
}

// Review is what a person must be shown before deciding (RFC 8628 sections 3.3
// and 5.4): which client asks, for what, and under which code.
type Review struct {
	// Ticket is handed to Approve or Deny. It ties the decision to this request
	// and to this person, and is safe in a form.
	Ticket string
	// UserCode is the code as the device shows it, for the person to compare.
	UserCode string
	// Client is who asks, as Config.Client describes it.
	Client Client
	// Scopes are what is asked for.
	Scopes []string
	// CreatedAt is when the device asked.
	CreatedAt time.Time
	// ExpiresAt is until when it can be decided.
	ExpiresAt time.Time
}

const ticketPurpose = "ticket"

// ticket is the sealed content of Review.Ticket.
type ticket struct {
	Grant    uuid.UUID
	UserCode UserCodeDigest
	Subject  string
}

// Lookup returns the request that a user code stands for, for the person to
// review. What was typed is taken however it is written.
//
// It returns ErrUserCode for a code that is not live, ErrDecided for one that
// was decided, and *TooManyGuessesError when limits forbid to look (see
// [Guessing]); any other error means that the Store or Config.Client failed.
func (s *Server) Lookup(ctx context.Context, typed string, by Person) (*Review, error) {
	if by.Subject == "" {
		return nil, errors.New("devicegrant: Lookup needs a Subject; sign the person in first")
	}
	code, ok := s.cfg.UserCode.normalize(typed)
	if !ok {
		return nil, ErrUserCode
	}
	now := s.now()
	attempt, wait := s.guesses.admit(now, by.Addr, by.Subject)
	if wait > 0 {
		s.raise(ctx, Event{Type: EventTooManyGuesses, Subject: by.Subject})
		return nil, &TooManyGuessesError{RetryAfter: wait}
	}
	g, err := s.byUserCode(ctx, code)
	if err == nil {
		err = g.open(now)
	}
	wrong := errors.Is(err, ErrUserCode) || errors.Is(err, ErrNotFound)
	attempt.settle(now, !wrong)
	if wrong {
		s.raise(ctx, Event{Type: EventWrongUserCode, Subject: by.Subject})
		return nil, ErrUserCode
	}
	if err != nil {
		return nil, err
	}
	return s.review(ctx, g, code, by)
}

func (s *Server) review(ctx context.Context, g *Grant, code string, by Person) (*Review, error) {
	client, err := s.cfg.Client(ctx, g.ClientID)
	if err != nil {
		return nil, err
	}
	content, err := json.Marshal(ticket{Grant: g.ID, UserCode: g.UserCode, Subject: by.Subject})
	if err != nil {
		return nil, err
	}
	return &Review{
		Ticket:    s.keys.seal(ticketPurpose, g.ExpiresAt, content),
		UserCode:  s.cfg.UserCode.display(code),
		Client:    client,
		Scopes:    strings.Fields(g.Scope),
		CreatedAt: g.CreatedAt,
		ExpiresAt: g.ExpiresAt,
	}, nil
}

// byUserCode finds a grant by its code, whichever key it was stored under.
func (s *Server) byUserCode(ctx context.Context, code string) (g *Grant, err error) {
	for _, k := range s.keys {
		g, err = s.storedByUserCode(ctx, k.userCodeDigest(code))
		if !errors.Is(err, ErrNotFound) {
			return g, err
		}
	}
	return nil, err
}

func (s *Server) storedByUserCode(ctx context.Context, digest UserCodeDigest) (*Grant, error) {
	g, err := s.cfg.Store.ByUserCode(ctx, digest)
	if err != nil && !errors.Is(err, ErrNotFound) {
		s.raise(ctx, Event{Type: EventStoreError, Err: err})
	}
	return g, err
}

// Approve records that the person allows the request they were shown. ticket is
// that of the Review, and by must be the person it was made for.
//
// It returns ErrTicket, ErrUserCode when the request has expired, or ErrDecided
// when it was decided before; then nothing has changed. Any other error means that
// the Store failed.
func (s *Server) Approve(ctx context.Context, ticket string, by Person) error {
	return s.decide(ctx, ticket, by, EventApproved, Grant.approve)
}

// Deny records that the person refuses the request they were shown. The device is
// told access_denied (RFC 8628 section 3.5). Errors are those of Approve.
func (s *Server) Deny(ctx context.Context, ticket string, by Person) error {
	return s.decide(ctx, ticket, by, EventDenied, Grant.deny)
}

func (s *Server) decide(ctx context.Context, sealed string, by Person, event EventType, arrow func(Grant, string, time.Time) (Grant, error)) error {
	now := s.now()
	t, err := s.openTicket(sealed, by, now)
	if err != nil {
		return err
	}
	g, err := s.storedByUserCode(ctx, t.UserCode)
	if errors.Is(err, ErrNotFound) || err == nil && g.ID != t.Grant {
		return ErrDecided // Redeemed meanwhile: the code was freed.
	}
	if err != nil {
		return err
	}
	decided, err := arrow(*g, by.Subject, now)
	if err != nil {
		return err
	}
	switch err := s.swap(ctx, &decided); {
	case errors.Is(err, ErrConflict):
		return ErrDecided // Only a decision can have come between.
	case err != nil:
		s.raise(ctx, grantEvent(EventStoreError, g, err))
		return err
	}
	s.raise(ctx, grantEvent(event, &decided, nil))
	return nil
}

func (s *Server) openTicket(sealed string, by Person, now time.Time) (t ticket, err error) {
	content, ok := s.keys.unseal(ticketPurpose, now, sealed)
	if !ok || json.Unmarshal(content, &t) != nil || by.Subject == "" || t.Subject != by.Subject {
		return t, ErrTicket
	}
	return t, nil
}
