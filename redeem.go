package devicegrant

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"time"
)

// Token is a token response (RFC 6749 section 5.1).
type Token struct {
	// AccessToken is required.
	AccessToken string
	// TokenType is required; empty means "Bearer".
	TokenType string
	// ExpiresIn is the access token's lifetime; zero sends none.
	ExpiresIn time.Duration
	// RefreshToken is optional.
	RefreshToken string
	// Scope is what was granted; empty means what was asked for.
	Scope string
	// Extra is further members of the response, such as id_token. It cannot
	// replace those above. One that cannot be encoded as JSON is left out.
	Extra map[string]any
}

// MarshalJSON returns the token response.
func (t Token) MarshalJSON() ([]byte, error) {
	body := make(map[string]any, len(t.Extra)+5)
	maps.Copy(body, t.Extra)
	body["access_token"], body["token_type"] = t.AccessToken, t.TokenType
	if t.TokenType == "" {
		body["token_type"] = "Bearer"
	}
	if t.ExpiresIn > 0 {
		body["expires_in"] = int64(t.ExpiresIn / time.Second)
	}
	if t.RefreshToken != "" {
		body["refresh_token"] = t.RefreshToken
	}
	if t.Scope != "" {
		body["scope"] = t.Scope
	}
	return json.Marshal(body)
}

// claimWriteTimeout bounds the write that begins or ends a claim.
const claimWriteTimeout = 5 * time.Second

// Poll answers a device's poll for its tokens (RFC 8628 section 3.4), made by the
// client that was authenticated as clientID. It returns the tokens, once, or an
// *Error: ErrAuthorizationPending and ErrSlowDown mean that the device goes on;
// ErrAccessDenied, ErrExpiredToken and ErrInvalidGrant that it is over.
//
// While the Store cannot answer, or IssueToken fails, the device is told to slow
// down: clients give up on any error they do not know.
//
// With a Store that is a [Redeemer], TokenHandler ends a redemption when it has sent
// the answer, and Poll when it returns.
func (s *Server) Poll(ctx context.Context, clientID, deviceCode string) (*Token, error) {
	token, deliver, err := s.poll(ctx, clientID, deviceCode)
	if err == nil {
		deliver(func() error { return nil })
	}
	return token, err
}

// deliverer has a token response sent. What depends on whether that failed is done
// when it returns.
type deliverer func(send func() error)

// deliverOnce is for tokens of which nothing is kept: they arrive or are lost.
func deliverOnce(send func() error) { _ = send() }

// poll is Poll for a caller that sends the tokens by the deliverer.
func (s *Server) poll(ctx context.Context, clientID, deviceCode string) (token *Token, deliver deliverer, err error) {
	now := s.now()
	digest, latest, ok := s.keys.openDeviceCode(deviceCode)
	if !ok {
		return nil, nil, errForged
	}
	if !now.Before(latest) {
		return nil, nil, ErrExpiredToken
	}
	p, err := s.cfg.Store.Poll(ctx, digest, clientID, now)
	if errors.Is(err, ErrNotFound) {
		return nil, nil, ErrInvalidGrant
	}
	if err != nil {
		return nil, nil, s.goOn(ctx, &Grant{ClientID: clientID}, err)
	}
	refusal := answer(p, clientID, now)
	switch {
	case s.redeemer != nil && (refusal == nil || refusal == ErrAuthorizationPending && p.State == Redeeming):
		return s.collect(ctx, deviceCode, digest, p, now)
	case refusal == nil:
		token, err = s.redeem(ctx, digest, p, now)
		return token, deliverOnce, err
	}
	return nil, nil, s.refuse(ctx, p, clientID, refusal)
}

// refuse raises the event of a refusal, if it has one.
func (s *Server) refuse(ctx context.Context, p Polled, clientID string, refusal *Error) error {
	switch refusal {
	case errUnknownState:
		s.raise(ctx, Event{Type: EventStoreError, Grant: p.ID, ClientID: clientID, Err: refusal})
	case errOtherClient:
		s.raise(ctx, Event{Type: EventOtherClient, Grant: p.ID, ClientID: clientID})
	case errReplayed:
		s.raise(ctx, Event{Type: EventReplayed, Grant: p.ID, ClientID: clientID})
	}
	return refusal
}

// goOn answers a poll that could not be served, such that the login goes on.
func (s *Server) goOn(ctx context.Context, g *Grant, err error) error {
	s.raise(ctx, grantEvent(EventStoreError, g, err))
	return ErrSlowDown.Because(err)
}

// toDevice is what a device is told of an error: what would end its login though
// nothing is wrong with it is slow_down.
func toDevice(err error) *Error {
	if e := asError(err); e != nil && e.Code != ErrTemporarilyUnavailable.Code {
		return e
	}
	return ErrSlowDown.Because(err)
}

// redeem turns an approved grant into tokens: claim, issue, commit. Only one poll
// can win the claim, and only the winner issues.
func (s *Server) redeem(ctx context.Context, digest DeviceCodeDigest, p Polled, now time.Time) (*Token, error) {
	g, err := s.cfg.Store.ByDeviceCode(ctx, digest)
	if err != nil {
		return nil, s.goOn(ctx, &Grant{ID: p.ID, ClientID: p.ClientID}, err)
	}
	claimed, ok := g.claim(now, s.cfg.ClaimTimeout)
	if !ok {
		return nil, ErrAuthorizationPending // Another poll was faster.
	}
	switch err := s.swapClaim(ctx, &claimed); {
	case errors.Is(err, ErrConflict):
		return nil, ErrAuthorizationPending
	case err != nil:
		return nil, s.goOn(ctx, g, err)
	}
	return s.issue(ctx, g, &claimed)
}

// issue holds the claim, and ends it whatever happens: even a panic of the host's
// releases it.
func (s *Server) issue(ctx context.Context, g, claimed *Grant) (token *Token, err error) {
	end := g.release(*claimed)
	defer func() { s.endClaim(ctx, &end) }()

	issueCtx, cancel := context.WithTimeout(ctx, s.cfg.ClaimTimeout)
	defer cancel()
	token, err = s.issueToken(issueCtx, g)
	if err != nil {
		s.raise(ctx, grantEvent(EventIssueFailed, g, err))
		return nil, toDevice(err)
	}
	end = g.commit(*claimed)
	s.raise(ctx, grantEvent(EventRedeemed, g, nil))
	return token, nil
}

// issueToken has the host issue tokens. It returns only what can be sent.
func (s *Server) issueToken(ctx context.Context, g *Grant) (*Token, error) {
	given := *g
	token, err := s.cfg.IssueToken(ctx, &given)
	if err != nil {
		return nil, err
	}
	if token == nil || token.AccessToken == "" {
		return nil, errors.New("devicegrant: IssueToken returned no access token")
	}
	return s.sendable(ctx, *token), nil
}

// sendable leaves out an Extra that cannot be encoded: the tokens are issued, and
// are not to be issued again.
func (s *Server) sendable(ctx context.Context, t Token) *Token {
	if _, err := json.Marshal(t.Extra); err != nil {
		s.cfg.Logger.ErrorContext(ctx, "devicegrant: IssueToken returned an Extra that cannot be encoded; it is left out", "error", err)
		t.Extra = nil
	}
	return &t
}

// endClaim commits or releases. When that fails the grant stays claimed: no other
// poll can issue, and those that ask are told expired_token once the claim has
// timed out.
func (s *Server) endClaim(ctx context.Context, end *Grant) {
	if err := s.swapClaim(ctx, end); err != nil {
		s.raise(context.WithoutCancel(ctx), grantEvent(EventClaimStuck, end, err))
	}
}

// swapClaim writes the beginning or the end of a claim. It has its own time, so
// that a device that hangs up does not leave a claim behind.
func (s *Server) swapClaim(ctx context.Context, g *Grant) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), claimWriteTimeout)
	defer cancel()
	return s.swap(ctx, g)
}

// swap writes the grant and keeps its Version in step with the stored one.
func (s *Server) swap(ctx context.Context, g *Grant) error {
	err := s.cfg.Store.Swap(ctx, g)
	if err == nil {
		g.Version++
	}
	return err
}
