package devicegrant

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
)

// Authorization is the device authorization response (RFC 8628 section 3.2).
type Authorization struct {
	// DeviceCode is the device's secret.
	DeviceCode string
	// UserCode is shown to the person, as it is here.
	UserCode string
	// VerificationURI is where the person enters it.
	VerificationURI string
	// VerificationURIComplete is the same with the code in it, for QR codes; empty
	// with Client.NoCompleteURI.
	VerificationURIComplete string
	// ExpiresIn is the lifetime of both codes.
	ExpiresIn time.Duration
	// Interval is the least time between two polls.
	Interval time.Duration
}

// AuthorizationRequest is what a device asks for (RFC 8628 section 3.1).
type AuthorizationRequest struct {
	// Scope is a list of scope tokens separated by spaces; empty means the client's
	// DefaultScopes.
	Scope string
	// Resources are where the tokens are to be used: absolute URIs (RFC 8707).
	Resources []string
	// AuthorizationDetails is a JSON array of objects that each have a type (RFC 9396);
	// empty for none.
	AuthorizationDetails string
	// CodeChallenge is the challenge for the code verifier of every poll, and
	// CodeChallengeMethod is S256 then (RFC 7636 section 4.3). Empty demands none.
	CodeChallenge, CodeChallengeMethod string
	// Key is a key that every poll has to prove to hold; zero demands none.
	Key Key
	// Device is where the request came from, for the person to see, and for limits. What
	// is too long in it is cut, and control characters are taken out.
	Device Device
}

var errNotPermitted = ErrUnauthorizedClient.Describe("the client may not use this grant")

// maxCodeTries bounds how often a user code that is in use is drawn anew.
const maxCodeTries = 10

// Authorize starts an authorization for a client that has been authenticated
// (RFC 8628 section 3.1).
//
// It returns an *Error: ErrUnauthorizedClient; ErrInvalidScope, ErrInvalidTarget,
// ErrInvalidAuthorizationDetails or ErrInvalidRequest for what was asked; what Config.Policy
// refuses with; ErrTooManyRequests (see [Issuance]); or ErrTemporarilyUnavailable when the
// Store is full or cannot answer, or Config.Policy failed.
func (s *Server) Authorize(ctx context.Context, client Client, asked AuthorizationRequest) (*Authorization, error) {
	if !client.DeviceGrant {
		return nil, errNotPermitted
	}
	g, holder, err := newGrant(client, asked)
	if err != nil {
		return nil, err
	}
	terms, err := s.terms(ctx, client, g, holder)
	if err != nil {
		return nil, err
	}
	now := s.now()
	g.CreatedAt, g.ExpiresAt, g.Pace = now, now.Add(terms.Lifetime), Pace{Interval: terms.Interval}
	pending, wait := s.issuance.admit(client, g)
	if wait > 0 {
		s.raise(ctx, Event{Type: EventLimited, ClientID: g.ClientID, Addr: g.Device.Addr})
		return nil, errTooManyGrants.withRetryAfter(wait)
	}
	deviceCode, userCode, err := s.create(ctx, g, holder, pending)
	if err != nil {
		s.issuance.undo(client, g)
		return nil, s.unavailable(ctx, g, err)
	}
	created := grantEvent(EventCreated, g, nil)
	created.Addr = g.Device.Addr
	s.raise(ctx, created)
	return s.authorization(client, terms, deviceCode, userCode), nil
}

var (
	errTooManyGrants  = ErrTooManyRequests.Describe("too many device authorization requests; try again later")
	errTooManyUnknown = ErrTooManyRequests.Describe("too many unknown device codes; try again later").Because(errMadeUp)
)

// authorization is the answer to a device.
func (s *Server) authorization(client Client, terms Terms, deviceCode, userCode string) *Authorization {
	a := &Authorization{
		DeviceCode:      deviceCode,
		UserCode:        s.cfg.UserCode.display(userCode),
		VerificationURI: s.cfg.VerificationURI,
		ExpiresIn:       terms.Lifetime,
		Interval:        terms.Interval,
	}
	if !client.NoCompleteURI {
		a.VerificationURIComplete = s.completeURI + a.UserCode
	}
	return a
}

// unavailable turns a failure to create a grant into the client's answer.
func (s *Server) unavailable(ctx context.Context, g *Grant, err error) error {
	s.raise(ctx, grantEvent(EventStoreError, g, err))
	return ErrTemporarilyUnavailable.Because(err).withRetryAfter(s.cfg.Interval)
}

// newGrant returns what is asked for, if the client may, and what its device code is to be
// bound to.
func newGrant(client Client, asked AuthorizationRequest) (g *Grant, holder possession, err error) {
	g = &Grant{ClientID: client.ID, State: Pending, Device: asked.Device.clean(), AuthorizationDetails: asked.AuthorizationDetails}
	if g.Scope, err = client.grantScope(asked.Scope); err != nil {
		return nil, holder, err
	}
	if g.Resource, err = client.grantResource(asked.Resources); err != nil {
		return nil, holder, err
	}
	if err = client.checkDetails(asked.AuthorizationDetails); err != nil {
		return nil, holder, err
	}
	holder.key = asked.Key
	holder.challenge, err = parseChallenge(asked.CodeChallenge, asked.CodeChallengeMethod)
	return g, holder, err
}

// create completes the grant, with which so many of this server are pending, and stores
// it. A user code that is in use is drawn again.
func (s *Server) create(ctx context.Context, g *Grant, holder possession, pending int) (deviceCode, userCode string, err error) {
	g.ID, err = uuid.NewRandomFromReader(s.random)
	if err != nil {
		return "", "", err
	}
	latest := g.ExpiresAt.Add(mostGrace(g.Pace.Interval))
	if deviceCode, g.DeviceCode, err = s.keys.newDeviceCode(s.random, latest, holder); err != nil {
		return "", "", err
	}
	length := s.userCodeLength(ctx, g.ExpiresAt.Sub(g.CreatedAt), pending)
	for range maxCodeTries {
		if userCode, err = s.cfg.UserCode.generate(s.random, length); err != nil {
			return "", "", err
		}
		if err = s.createWith(ctx, g, userCode); !errors.Is(err, ErrUserCodeExists) {
			return deviceCode, userCode, err
		}
	}
	return "", "", err
}

// createWith stores the grant under the user code. While keys are being rotated,
// the same code may be live under an older one.
func (s *Server) createWith(ctx context.Context, g *Grant, userCode string) error {
	for _, older := range s.keys[1:] {
		_, err := s.cfg.Store.ByUserCode(ctx, older.userCodeDigest(userCode))
		if err == nil {
			return ErrUserCodeExists
		}
		if !errors.Is(err, ErrNotFound) {
			return err
		}
	}
	g.UserCode = s.keys[0].userCodeDigest(userCode)
	return s.cfg.Store.Create(ctx, g)
}

// userCodeLength returns how long a new code must be that can be used for so long, for
// the grants that are live. Without a Counter, those of this server are what is known.
func (s *Server) userCodeLength(ctx context.Context, lifetime time.Duration, pending int) int {
	live := max(s.cfg.Guessing.MaxPending, pending)
	if c, ok := s.cfg.Store.(Counter); ok {
		if n, err := c.Count(ctx); err == nil {
			live = max(live, n)
		}
	}
	return s.cfg.Guessing.length(s.cfg.UserCode, s.cfg.Lifetime, lifetime, live)
}
