package devicegrant

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/netip"
	"time"
)

// Token is a token response (RFC 6749 section 5.1).
type Token struct {
	// AccessToken is required.
	AccessToken string
	// TokenType is required; empty means "DPoP" where Grant.Key is of that method (RFC 9449
	// section 5), and "Bearer" otherwise.
	TokenType string
	// ExpiresIn is the access token's lifetime; zero sends none.
	ExpiresIn time.Duration
	// RefreshToken is optional.
	RefreshToken string
	// Scope is what was granted; empty means Grant.Scope.
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

// PollRequest is a device's poll for its tokens (RFC 8628 section 3.4).
type PollRequest struct {
	// ClientID is the client, which has been authenticated.
	ClientID string
	// DeviceCode is the device code that it presents.
	DeviceCode string
	// CodeVerifier is the code verifier (RFC 7636 section 4.5), which has to be there if
	// there was a challenge, and only then.
	CodeVerifier string
	// Key is the key that it has proven to hold; zero if none. If there was one in the
	// device authorization request, it has to be that. It reaches IssueToken either way.
	Key Key
	// Addr is where it came from; the zero Addr is not limited.
	Addr netip.Addr
}

// Poll answers a device's poll for its tokens (RFC 8628 section 3.4). It returns the tokens, once, or an
// *Error: ErrAuthorizationPending and ErrSlowDown mean that the device goes on;
// ErrAccessDenied, ErrExpiredToken and ErrInvalidGrant that it is over.
//
// While the Store cannot answer, or IssueToken fails, the device is told to slow
// down: clients give up on any error they do not know.
//
// With a Store that is a [Redeemer], TokenHandler ends a redemption when it has sent
// the answer, and Poll when it returns.
func (s *Server) Poll(ctx context.Context, p PollRequest) (*Token, error) {
	var code deviceCode
	known := s.keys.openDeviceCode(p.DeviceCode, &code)
	if !known {
		if err := s.limitUnknown(ctx, p.Addr); err != nil {
			return nil, err
		}
	}
	token, deliver, err := s.poll(ctx, p, &code, known)
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

// poll is Poll for a caller that has opened the device code, and sends the tokens by the
// deliverer.
func (s *Server) poll(ctx context.Context, r PollRequest, code *deviceCode, known bool) (token *Token, deliver deliverer, err error) {
	now := s.now()
	switch {
	case !known:
		s.raise(ctx, Event{Type: EventUnknownDeviceCode, ClientID: r.ClientID, Addr: r.Addr})
		return nil, nil, errForged
	case !now.Before(code.latest):
		return nil, nil, ErrExpiredToken
	case !code.provenBy(proof{r.CodeVerifier, r.Key}):
		return nil, nil, s.unproven(ctx, r, code)
	}
	p, err := s.cfg.Store.Poll(ctx, code.digest, r.ClientID, now)
	if errors.Is(err, ErrNotFound) {
		return nil, nil, s.purgedCode(ctx, r)
	}
	if err != nil {
		return nil, nil, s.goOn(ctx, &Grant{ClientID: r.ClientID}, err)
	}
	refusal := answer(p, r.ClientID, now)
	switch {
	case s.redeemer != nil && (refusal == nil || refusal == ErrAuthorizationPending && p.State == Redeeming):
		return s.collect(ctx, r, code.digest, p, now)
	case refusal == nil:
		token, err = s.redeem(ctx, r, code.digest, p, now)
		return token, deliverOnce, err
	}
	return nil, nil, s.refuse(ctx, p, r, refusal)
}

// limitUnknown refuses a poll with a device code that nobody knows if there were too many
// from that address.
func (s *Server) limitUnknown(ctx context.Context, addr netip.Addr) error {
	wait := s.issuance.unknownCode(s.now(), addr)
	if wait == 0 {
		return nil
	}
	s.raise(ctx, Event{Type: EventLimited, Addr: addr})
	return errTooManyUnknown.withRetryAfter(wait)
}

// purgedCode refuses a device code that was made here, of which the Store knows nothing
// any more.
func (s *Server) purgedCode(ctx context.Context, r PollRequest) error {
	if err := s.limitUnknown(ctx, r.Addr); err != nil {
		return err
	}
	s.raise(ctx, Event{Type: EventUnknownDeviceCode, ClientID: r.ClientID, Addr: r.Addr})
	return ErrInvalidGrant
}

// unproven refuses whoever cannot prove what a device code is bound to. Nothing is
// recorded, so that a thief does not slow the owner down; the Store is only asked which
// grant it is about.
func (s *Server) unproven(ctx context.Context, r PollRequest, code *deviceCode) error {
	e := Event{Type: EventUnproven, ClientID: r.ClientID, Addr: r.Addr}
	if g, err := s.cfg.Store.ByDeviceCode(ctx, code.digest); err == nil {
		e.Grant, e.CreatedAt, e.Subject = g.ID, g.CreatedAt, g.Subject
	}
	s.raise(ctx, e)
	return errUnproven
}

// refuse raises the event of a refusal, if it has one.
func (s *Server) refuse(ctx context.Context, p Polled, r PollRequest, refusal *Error) error {
	var raised EventType
	var cause error
	switch {
	case refusal == errUnknownState:
		raised, cause = EventStoreError, refusal
	case refusal == errOtherClient:
		raised = EventOtherClient
	case refusal == errReplayed:
		raised = EventReplayed
	case refusal.Code == ErrSlowDown.Code:
		raised = EventSlowDown
	default:
		return refusal
	}
	s.raise(ctx, Event{Type: raised, Grant: p.ID, ClientID: r.ClientID, Addr: r.Addr, Err: cause})
	return refusal
}

// goOn answers a poll that could not be served, such that the login goes on.
func (s *Server) goOn(ctx context.Context, g *Grant, err error) error {
	s.raise(ctx, grantEvent(EventStoreError, g, err))
	return ErrSlowDown.Because(err)
}

// toDevice is what a device is told of an error: what would end its login though
// nothing is wrong with it is slow_down. Whoever makes codes up is told to stop.
func toDevice(err error) *Error {
	e := asError(err)
	switch {
	case e == nil, e.Code == ErrTemporarilyUnavailable.Code, e.Code == ErrTooManyRequests.Code && !errors.Is(e.cause, errMadeUp):
		return ErrSlowDown.Because(err)
	default:
		return e
	}
}

// redeem turns an approved grant into tokens: claim, issue, commit. Only one poll
// can win the claim, and only the winner issues.
func (s *Server) redeem(ctx context.Context, r PollRequest, digest DeviceCodeDigest, p Polled, now time.Time) (*Token, error) {
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
	return s.issue(ctx, g, &claimed, r.Key)
}

// issue holds the claim, and ends it whatever happens: even a panic of the host's
// releases it.
func (s *Server) issue(ctx context.Context, g, claimed *Grant, key Key) (token *Token, err error) {
	end := g.release(*claimed)
	defer func() { s.endClaim(ctx, &end) }()

	issueCtx, cancel := context.WithTimeout(ctx, s.cfg.ClaimTimeout)
	defer cancel()
	token, err = s.issueToken(issueCtx, g, key)
	if err != nil {
		s.raise(ctx, grantEvent(EventIssueFailed, g, err))
		return nil, toDevice(err)
	}
	end = g.commit(*claimed)
	s.ended(ctx, EventRedeemed, g)
	return token, nil
}

// issueToken has the host issue tokens, bound to the key if there is one. It returns only
// what can be sent.
func (s *Server) issueToken(ctx context.Context, g *Grant, key Key) (*Token, error) {
	given := *g
	given.Key = key
	token, err := s.cfg.IssueToken(ctx, &given)
	if err != nil {
		return nil, err
	}
	if token == nil || token.AccessToken == "" {
		return nil, errors.New("devicegrant: IssueToken returned no access token")
	}
	t := *token
	t.Scope = cmp.Or(t.Scope, g.Scope) // It may differ from what was asked for (RFC 6749 section 5.1).
	if t.TokenType == "" && key.Method == KeyDPoP {
		t.TokenType = "DPoP" // RFC 9449 section 5.
	}
	return s.sendable(ctx, t), nil
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
