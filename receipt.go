package devicegrant

import (
	"context"
	"encoding/json"
	"errors"
	"time"
)

// This file is redemption in one transaction with the host's own writes, for a Store
// that is a Redeemer. The transaction leaves the grant claimed, with a receipt: the
// answer, sealed such that only the device's own code opens it. Once the device has
// been sent the answer, the claim is committed and the receipt discarded. If the
// process or the database dies in between, the device comes back and is given the
// same answer again: nothing is issued twice, and no login is lost.

// deliveryTime is how long a device has to be sent its answer before a poll may
// fetch it again.
const deliveryTime = 10 * time.Second

// collect redeems a grant that is approved. For one that is claimed, it delivers the
// answer again if it was lost.
func (s *Server) collect(ctx context.Context, deviceCode string, digest DeviceCodeDigest, p Polled, now time.Time) (*Token, deliverer, error) {
	_, sending := s.sending.Load(digest)
	g, err := s.cfg.Store.ByDeviceCode(ctx, digest)
	if err != nil {
		return nil, nil, s.goOn(ctx, &Grant{ID: p.ID, ClientID: p.ClientID}, err)
	}
	switch {
	case g.State == Approved:
		return s.issueTogether(ctx, deviceCode, g, now)
	case p.State == Redeeming && (sending || g.State == Redeemed):
		return nil, nil, s.refuse(ctx, p, p.ClientID, errReplayed) // The device is being sent its answer, or has it.
	case g.State == Redeeming:
		return s.deliverAgain(ctx, deviceCode, g, now)
	default:
		return nil, nil, ErrAuthorizationPending // Another poll was faster.
	}
}

// issueTogether has the tokens issued and the grant claimed in one transaction.
func (s *Server) issueTogether(ctx context.Context, deviceCode string, g *Grant, now time.Time) (token *Token, deliver deliverer, err error) {
	held, ok := g.hold(now)
	if !ok {
		return nil, nil, ErrExpiredToken
	}
	var issueErr error
	err = s.redeemInTime(ctx, &held, func(ctx context.Context) ([]byte, error) {
		if token, issueErr = s.issueToken(ctx, g); issueErr != nil {
			return nil, issueErr
		}
		return s.sealReceipt(deviceCode, token, held.ExpiresAt)
	})
	switch {
	case issueErr != nil:
		s.raise(ctx, grantEvent(EventIssueFailed, g, issueErr))
		return nil, nil, toDevice(issueErr)
	case errors.Is(err, ErrConflict):
		return nil, nil, ErrAuthorizationPending // Another poll was faster.
	case err != nil:
		return nil, nil, s.goOn(ctx, g, err)
	}
	s.raise(ctx, grantEvent(EventRedeemed, g, nil))
	return token, s.thenCommit(ctx, held), nil
}

// deliverAgain gives a device the answer that it may not have got.
func (s *Server) deliverAgain(ctx context.Context, deviceCode string, g *Grant, now time.Time) (*Token, deliverer, error) {
	sealed, err := s.redeemer.Receipt(ctx, g)
	if errors.Is(err, ErrNotFound) {
		return nil, nil, ErrAuthorizationPending // Another poll was faster.
	}
	if err != nil {
		return nil, nil, s.goOn(ctx, g, err)
	}
	token, ok := s.openReceipt(deviceCode, sealed, now)
	held, holds := g.hold(now)
	if !ok || !holds {
		return nil, nil, ErrAuthorizationPending // The device may just be getting it.
	}
	err = s.redeemInTime(ctx, &held, func(context.Context) ([]byte, error) {
		return s.sealReceipt(deviceCode, token, held.ExpiresAt)
	})
	switch {
	case errors.Is(err, ErrConflict):
		return nil, nil, ErrAuthorizationPending
	case err != nil:
		return nil, nil, s.goOn(ctx, g, err)
	}
	s.raise(ctx, grantEvent(EventDeliveredAgain, g, nil))
	return token, s.thenCommit(ctx, held), nil
}

// redeemInTime keeps the grant's Version in step with the stored one.
func (s *Server) redeemInTime(ctx context.Context, held *Grant, issue func(context.Context) ([]byte, error)) error {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.ClaimTimeout)
	defer cancel()
	err := s.redeemer.Redeem(ctx, held, issue)
	if err == nil {
		held.Version++
	}
	return err
}

// thenCommit commits the claim once the device has been sent its answer. If that
// fails, whoever has the device code can have the same answer again, until the
// deadline. A poll meanwhile is a replay.
func (s *Server) thenCommit(ctx context.Context, held Grant) deliverer {
	return func(send func() error) {
		s.sending.Store(held.DeviceCode, struct{}{})
		defer s.sending.Delete(held.DeviceCode)
		if send() != nil {
			return // It can ask again.
		}
		end := held.commit(held)
		if err := s.swapClaim(ctx, &end); err != nil && !errors.Is(err, ErrConflict) {
			s.raise(context.WithoutCancel(ctx), grantEvent(EventClaimStuck, &held, err))
		}
	}
}

// receipt is the content of a sealed receipt: the answer, and when it was given.
type receipt struct {
	AccessToken, TokenType, RefreshToken, Scope string
	ExpiresIn                                   time.Duration
	Extra                                       map[string]json.RawMessage
	IssuedAt                                    time.Time
}

// receiptPurpose ties a receipt to the device code, which the Store does not know.
func receiptPurpose(deviceCode string) string { return "receipt " + deviceCode }

func (s *Server) sealReceipt(deviceCode string, t *Token, expires time.Time) ([]byte, error) {
	r := receipt{
		AccessToken: t.AccessToken, TokenType: t.TokenType, RefreshToken: t.RefreshToken, Scope: t.Scope,
		ExpiresIn: t.ExpiresIn, Extra: make(map[string]json.RawMessage, len(t.Extra)), IssuedAt: s.now(),
	}
	for name, value := range t.Extra {
		var err error
		if r.Extra[name], err = json.Marshal(value); err != nil {
			return nil, err
		}
	}
	content, err := json.Marshal(r) //nolint:gosec // It is sealed before it goes anywhere.
	if err != nil {
		return nil, err
	}
	return []byte(s.keys.seal(receiptPurpose(deviceCode), expires, content)), nil
}

// openReceipt returns the answer in a receipt, as it is to be given at now; ok is
// false when there is none and while its delivery may still be going on.
func (s *Server) openReceipt(deviceCode string, sealed []byte, now time.Time) (t *Token, ok bool) {
	content, ok := s.keys.unseal(receiptPurpose(deviceCode), now, string(sealed))
	var r receipt
	if !ok || json.Unmarshal(content, &r) != nil {
		return nil, false
	}
	ago := now.Sub(r.IssuedAt)
	if ago < deliveryTime {
		return nil, false
	}
	t = &Token{AccessToken: r.AccessToken, TokenType: r.TokenType, RefreshToken: r.RefreshToken, Scope: r.Scope}
	if r.ExpiresIn > 0 {
		t.ExpiresIn = max(r.ExpiresIn-ago, time.Second)
	}
	if len(r.Extra) > 0 {
		t.Extra = make(map[string]any, len(r.Extra))
		for name, value := range r.Extra {
			t.Extra[name] = value
		}
	}
	return t, true
}
