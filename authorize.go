package devicegrant

import (
	"context"
	"errors"
	"slices"
	"strings"
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
	// Device is where the request came from, for the person to see. What is too long
	// in it is cut, and control characters are taken out.
	Device Device
}

var errNotPermitted = ErrUnauthorizedClient.Describe("the client may not use this grant")

// maxCodeTries bounds how often a user code that is in use is drawn anew.
const maxCodeTries = 10

// Authorize starts an authorization for a client that has been authenticated
// (RFC 8628 section 3.1).
//
// It returns an *Error: ErrUnauthorizedClient, ErrInvalidScope, or
// ErrTemporarilyUnavailable when the Store is full or cannot answer.
func (s *Server) Authorize(ctx context.Context, client Client, asked AuthorizationRequest) (*Authorization, error) {
	if !client.DeviceGrant {
		return nil, errNotPermitted
	}
	granted, err := client.grantScope(asked.Scope)
	if err != nil {
		return nil, err
	}
	g := &Grant{ClientID: client.ID, Scope: granted, Device: asked.Device.clean()}
	deviceCode, userCode, err := s.create(ctx, g)
	if err != nil {
		return nil, s.unavailable(ctx, g, err)
	}
	s.raise(ctx, grantEvent(EventCreated, g, nil))
	a := &Authorization{
		DeviceCode:      deviceCode,
		UserCode:        s.cfg.UserCode.display(userCode),
		VerificationURI: s.cfg.VerificationURI,
		ExpiresIn:       s.cfg.Lifetime,
		Interval:        s.cfg.Interval,
	}
	if !client.NoCompleteURI {
		a.VerificationURIComplete = s.completeURI + a.UserCode
	}
	return a, nil
}

// unavailable turns a failure to create a grant into the client's answer.
func (s *Server) unavailable(ctx context.Context, g *Grant, err error) error {
	s.raise(ctx, grantEvent(EventStoreError, g, err))
	return ErrTemporarilyUnavailable.Because(err).withRetryAfter(s.cfg.Interval)
}

// create completes the grant and stores it. A user code that is in use is drawn
// again.
func (s *Server) create(ctx context.Context, g *Grant) (deviceCode, userCode string, err error) {
	now := s.now()
	g.ID, err = uuid.NewRandomFromReader(s.random)
	if err != nil {
		return "", "", err
	}
	g.State, g.CreatedAt, g.ExpiresAt = Pending, now, now.Add(s.cfg.Lifetime)
	g.Pace = Pace{Interval: s.cfg.Interval}
	latest := g.ExpiresAt.Add(mostGrace(s.cfg.Interval))
	if deviceCode, g.DeviceCode, err = s.keys.newDeviceCode(s.random, latest); err != nil {
		return "", "", err
	}
	length := s.userCodeLength(ctx)
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

// userCodeLength returns how long new codes must be for the grants that are live.
func (s *Server) userCodeLength(ctx context.Context) int {
	live := s.cfg.Guessing.MaxPending
	if c, ok := s.cfg.Store.(Counter); ok {
		if n, err := c.Count(ctx); err == nil {
			live = max(live, n)
		}
	}
	return s.cfg.Guessing.length(s.cfg.UserCode, s.cfg.Lifetime, live)
}

// grantScope returns the scope that the client gets when it asks for scope
// (RFC 6749 section 3.3): each token once.
func (c Client) grantScope(scope string) (string, error) {
	asked := strings.Split(scope, " ")
	if scope == "" {
		asked = c.DefaultScopes
	}
	granted := make([]string, 0, len(asked))
	for _, token := range asked {
		switch {
		case scope != "" && !slices.Contains(c.Scopes, token):
			return "", ErrInvalidScope.Describe("the client may not ask for scope %s", token)
		case !slices.Contains(granted, token):
			granted = append(granted, token)
		}
	}
	return strings.Join(granted, " "), nil
}
