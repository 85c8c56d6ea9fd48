package devicegrant

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"net/netip"
	"strings"
	"time"

	"github.com/google/uuid"
)

// Person is who enters a code or decides, and from where. Subject, Addr and Session
// count against limits on wrong codes, each by itself.
type Person struct {
	// Subject is who is signed in. It is required.
	Subject string
	// Session names the browser session, across sign-ins: an unguessable value that is
	// the browser's own. A code belongs to the first session that enters it. Empty
	// takes all browsers of the subject for one.
	Session string
	// Addr is where the browser is. The zero Addr is not limited.
	Addr netip.Addr
	// UserAgent is the browser's User-Agent header, for Config.Risk.
	UserAgent string
}

// session is the digest under which the person's browser session is stored.
func (p Person) session() SessionDigest {
	if p.Session == "" {
		return sha256.Sum256([]byte("devicegrant subject\x00" + p.Subject))
	}
	return sha256.Sum256([]byte("devicegrant session\x00" + p.Session))
}

// Review is what a person must be shown before deciding (RFC 8628 sections 3.3
// and 5.4): which client asks, for what, under which code, and from where.
type Review struct {
	// Ticket is handed to Approve, Deny or Report. It ties the decision to this
	// request, this person and this browser session, and is safe in a form.
	Ticket string
	// UserCode is the code as the device shows it, for the person to compare.
	UserCode string
	// Client is who asks, as Config.Client describes it.
	Client Client
	// Scopes are what is asked for. With Config.NarrowScopes, the person can leave out
	// those that are not among Client.RequiredScopes.
	Scopes []string
	// Resources are where the tokens are to be used (RFC 8707).
	Resources []string
	// AuthorizationDetails is the JSON array that the device sent (RFC 9396); empty if it
	// sent none. The person has to be shown what is in it.
	AuthorizationDetails string
	// Device is where the request came from, and DevicePlace where that is, as
	// Config.Place says it.
	Device      Device
	DevicePlace string
	// Place is where the person is, likewise.
	Place string
	// Elsewhere is whether the device and the person are in different places, or, where
	// these are not known, in different networks. The person should be warned.
	Elsewhere bool
	// Warned is whether Config.Risk wants the person to be warned.
	Warned bool
	// CreatedAt is when the device asked.
	CreatedAt time.Time
	// ExpiresAt is until when it can be decided.
	ExpiresAt time.Time
}

// Approval is what a person adds to their yes.
type Approval struct {
	// Confirmed is that the person said that the code is shown on their own device.
	// Config.ConfirmCode demands it.
	Confirmed bool
	// Scopes are which of Review.Scopes the person allows; Client.RequiredScopes come on
	// top. Nil is all of them, and without Config.NarrowScopes it has to be nil.
	Scopes []string
}

// Lookup returns the request that a user code stands for, for the person to
// review. What was typed is taken however it is written. The first browser session
// that looks a code up gets it; it may do so again.
//
// It returns ErrUserCode for a code that is not live, ErrDecided for one that was
// decided in this session, ErrOtherSession for one that belongs to another,
// ErrRefused when Config.Risk says so, and *TooManyGuessesError when limits forbid to
// look (see [Guessing]); any other error means that the Store or a callback failed.
func (s *Server) Lookup(ctx context.Context, typed string, by Person) (*Review, error) {
	if by.Subject == "" {
		return nil, errors.New("devicegrant: Lookup needs a Subject; sign the person in first")
	}
	code, ok := s.cfg.UserCode.normalize(typed)
	if !ok {
		return nil, ErrUserCode
	}
	now := s.now()
	admitted, err := s.admit(ctx, now, by)
	if err != nil {
		return nil, err
	}
	g, err := s.enter(ctx, now, code, by)
	s.settle(ctx, now, admitted, err, by)
	if err != nil {
		return nil, err
	}
	return s.review(ctx, g, code, by)
}

// lookupAgain does what Lookup did before, when the code was right: it is no guess.
func (s *Server) lookupAgain(ctx context.Context, typed string, by Person) (*Review, error) {
	code, _ := s.cfg.UserCode.normalize(typed)
	g, err := s.enter(ctx, s.now(), code, by)
	if err != nil {
		return nil, err
	}
	return s.review(ctx, g, code, by)
}

// admit charges a guess, or says that there are too many.
func (s *Server) admit(ctx context.Context, now time.Time, by Person) (guess, error) {
	admitted, wait, err := s.guesses.admit(ctx, now, by)
	switch {
	case err != nil && ctx.Err() == nil:
		s.raise(ctx, Event{Type: EventStoreError, Subject: by.Subject, Err: err})
		return guess{}, err
	case err != nil:
		return guess{}, err // Who asked has gone.
	case wait > 0:
		s.raise(ctx, Event{Type: EventTooManyGuesses, Subject: by.Subject, Addr: by.Addr})
		return guess{}, &TooManyGuessesError{RetryAfter: wait}
	}
	return admitted, nil
}

// settle counts a guess by how it ended. What says nothing of the code costs nothing.
func (s *Server) settle(ctx context.Context, now time.Time, g guess, end error, by Person) {
	wrong := errors.Is(end, ErrUserCode) || errors.Is(end, ErrOtherSession)
	if err := g.settle(ctx, now, !wrong); err != nil {
		s.raise(ctx, Event{Type: EventStoreError, Subject: by.Subject, Err: err})
	}
	if !wrong {
		return
	}
	if errors.Is(end, ErrUserCode) {
		s.raise(ctx, Event{Type: EventWrongUserCode, Subject: by.Subject, Addr: by.Addr})
	}
	s.raisePressure(ctx, now, g.used(now))
}

// pressureInterval is how often EventGuessPressure is raised at the most.
const pressureInterval = time.Minute

func (s *Server) raisePressure(ctx context.Context, now time.Time, wrong int) {
	burst := s.cfg.Guessing.Global.Burst
	last := s.pressured.Load()
	if wrong*2 < burst || now.UnixMicro()-last < pressureInterval.Microseconds() || !s.pressured.CompareAndSwap(last, now.UnixMicro()) {
		return
	}
	s.raise(ctx, Event{Type: EventGuessPressure, Pressure: GuessPressure{Wrong: wrong, Burst: burst, Chances: s.cfg.GuessChances()}})
}

// enter finds the grant of a user code and gives it to the person's browser session,
// if it has none.
func (s *Server) enter(ctx context.Context, now time.Time, code string, by Person) (*Grant, error) {
	for range maxConflicts {
		g, err := s.live(ctx, now, code)
		if err != nil {
			return nil, err
		}
		entered, outcome := g.enter(by.session(), now)
		if entered.Entered != g.Entered || entered.Session != g.Session {
			err := s.write(ctx, &entered)
			if errors.Is(err, ErrConflict) {
				continue
			}
			if err != nil {
				return nil, err
			}
			s.raiseEntered(ctx, g, outcome, by)
		}
		return &entered, outcome
	}
	return nil, ErrConflict
}

func (s *Server) raiseEntered(ctx context.Context, g *Grant, outcome error, by Person) {
	event := EventReviewed
	if outcome != nil {
		event = EventOtherSession
	}
	s.raise(ctx, personEvent(event, g, by))
}

// write is swap, whose failures are raised.
func (s *Server) write(ctx context.Context, g *Grant) error {
	err := s.swap(ctx, g)
	if err != nil && !errors.Is(err, ErrConflict) {
		s.raise(ctx, grantEvent(EventStoreError, g, err))
	}
	return err
}

// live finds the grant of a user code, whichever key it was stored under, or returns
// ErrUserCode. A code that has expired is searched for as long as one that never was.
func (s *Server) live(ctx context.Context, now time.Time, code string) (*Grant, error) {
	for _, k := range s.keys {
		g, err := s.cfg.Store.ByUserCode(ctx, k.userCodeDigest(code))
		switch {
		case err == nil && now.Before(g.ExpiresAt):
			return g, nil
		case err != nil && !errors.Is(err, ErrNotFound):
			s.raise(ctx, Event{Type: EventStoreError, Err: err})
			return nil, err
		}
	}
	return nil, ErrUserCode
}

// review makes the Review of a grant that belongs to the person's session.
func (s *Server) review(ctx context.Context, g *Grant, code string, by Person) (*Review, error) {
	r, err := s.describe(ctx, g, by)
	if err != nil {
		return nil, err
	}
	content, err := json.Marshal(ticket{Grant: g.ID, UserCode: code, Subject: by.Subject, Session: g.Session})
	if err != nil {
		return nil, err
	}
	r.UserCode, r.Ticket = s.cfg.UserCode.display(code), s.keys.seal(ticketPurpose, g.ExpiresAt, content)
	return r, nil
}

// describe says what a grant is about, and what is thought of it.
func (s *Server) describe(ctx context.Context, g *Grant, by Person) (*Review, error) {
	client, err := s.cfg.Client(ctx, g.ClientID)
	if err != nil {
		return nil, err
	}
	r := &Review{
		Client:               client,
		Scopes:               strings.Fields(g.Scope),
		Resources:            strings.Fields(g.Resource),
		AuthorizationDetails: g.AuthorizationDetails,
		Device:               g.Device,
		DevicePlace:          s.place(ctx, g.Device.Addr),
		Place:                s.place(ctx, by.Addr),
		CreatedAt:            g.CreatedAt,
		ExpiresAt:            g.ExpiresAt,
	}
	r.Elsewhere = elsewhere(g.Device.Addr, by.Addr, r.DevicePlace, r.Place)
	r.Warned, err = s.assess(ctx, g, r, by)
	return r, err
}

func (s *Server) place(ctx context.Context, addr netip.Addr) string {
	if s.cfg.Place == nil || !addr.IsValid() {
		return ""
	}
	return s.cfg.Place(ctx, addr)
}

// elsewhere compares places, or, where one is not known, networks. An IPv4 and an IPv6
// address say nothing of each other: a home has both.
func elsewhere(device, person netip.Addr, devicePlace, place string) bool {
	if devicePlace != "" && place != "" {
		return devicePlace != place
	}
	if !device.IsValid() || !person.IsValid() {
		return false
	}
	d, p := addressKey(device), addressKey(person)
	return d.Bits() == p.Bits() && d != p
}

const ticketPurpose = "ticket"

// ticket is the content of Review.Ticket, which is encrypted.
type ticket struct {
	Grant    uuid.UUID
	UserCode string
	Subject  string
	Session  SessionDigest
}

// Approve records that the person allows the request they were shown. ticket is
// that of the Review, and by must be the person it was made for, in the same browser
// session.
//
// It returns ErrTicket, ErrUserCode when the request has expired, ErrDecided when it
// was decided before, ErrUnconfirmed, ErrNoScope, or ErrRefused when Config.Risk says
// so; then nothing has changed. Any other error means that the Store or a callback
// failed.
func (s *Server) Approve(ctx context.Context, ticket string, by Person, approval Approval) error {
	if s.cfg.ConfirmCode && !approval.Confirmed {
		return ErrUnconfirmed
	}
	if approval.Scopes != nil && !s.cfg.NarrowScopes {
		return errors.New("devicegrant: Approval.Scopes is set; set Config.NarrowScopes too, or leave it nil")
	}
	return s.decide(ctx, ticket, by, EventApproved, func(g Grant, subject string, now time.Time) (Grant, error) {
		scope, err := s.allowed(ctx, g, approval)
		if err != nil {
			return g, err
		}
		return g.approve(subject, scope, now)
	})
}

// allowed returns the scope that is left of what a grant asks for.
func (s *Server) allowed(ctx context.Context, g Grant, approval Approval) (string, error) {
	if approval.Scopes == nil {
		return g.Scope, nil
	}
	client, err := s.cfg.Client(ctx, g.ClientID)
	if err != nil {
		return "", err
	}
	return g.narrow(approval.Scopes, client.RequiredScopes), nil
}

// Deny records that the person refuses the request they were shown. The device is
// told access_denied (RFC 8628 section 3.5). Errors are those of Approve, but for
// ErrUnconfirmed, ErrNoScope and ErrRefused.
func (s *Server) Deny(ctx context.Context, ticket string, by Person) error {
	return s.decide(ctx, ticket, by, EventDenied, Grant.deny)
}

// Report does what Deny does, for a person who did not start this: it raises
// EventReported instead of EventDenied.
func (s *Server) Report(ctx context.Context, ticket string, by Person) error {
	return s.decide(ctx, ticket, by, EventReported, Grant.deny)
}

// leave does what Deny does, for a person who left the page.
func (s *Server) leave(ctx context.Context, ticket string, by Person) error {
	return s.decide(ctx, ticket, by, EventLeft, Grant.deny)
}

func (s *Server) decide(ctx context.Context, sealed string, by Person, event EventType, arrow func(Grant, string, time.Time) (Grant, error)) error {
	now := s.now()
	t, err := s.openTicket(sealed, by, now)
	if err != nil {
		return err
	}
	for range maxConflicts {
		g, err := s.ticketGrant(ctx, now, t)
		if err != nil {
			return err
		}
		decided, err := arrow(*g, by.Subject, now)
		if err != nil {
			return err
		}
		if event == EventApproved {
			if err := s.reassess(ctx, g, by); err != nil {
				return err
			}
		}
		err = s.write(ctx, &decided)
		if errors.Is(err, ErrConflict) {
			continue // Decided, or entered in another session.
		}
		switch {
		case err != nil:
			return err
		case event == EventApproved:
			s.raise(ctx, grantEvent(event, &decided, nil))
		default:
			s.ended(ctx, event, &decided)
		}
		return nil
	}
	return ErrConflict
}

func (s *Server) openTicket(sealed string, by Person, now time.Time) (t ticket, err error) {
	content, ok := s.keys.unseal(ticketPurpose, now, sealed)
	if !ok || json.Unmarshal(content, &t) != nil || by.Subject == "" || t.Subject != by.Subject || t.Session != by.session() {
		return t, ErrTicket
	}
	return t, nil
}

// ticketGrant returns the grant that a ticket was made for. A code that is not live any
// more was redeemed, or is too old, which its ticket would be too.
func (s *Server) ticketGrant(ctx context.Context, now time.Time, t ticket) (*Grant, error) {
	g, err := s.live(ctx, now, t.UserCode)
	switch {
	case errors.Is(err, ErrUserCode), err == nil && g.ID != t.Grant:
		return nil, ErrDecided
	case err != nil:
		return nil, err
	}
	return g, nil
}

// reviewAgain returns the Review that a ticket was made with.
func (s *Server) reviewAgain(ctx context.Context, sealed string, by Person) (*Review, error) {
	now := s.now()
	t, err := s.openTicket(sealed, by, now)
	if err != nil {
		return nil, err
	}
	g, err := s.ticketGrant(ctx, now, t)
	if err != nil {
		return nil, err
	}
	return s.review(ctx, g, t.UserCode, by)
}
