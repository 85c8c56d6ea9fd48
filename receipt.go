package devicegrant

import (
	"context"
	"encoding/json"
	"errors"
	"time"
)

// This file is redemption in one transaction with the host's own writes, for a Store
// that is a Redeemer. The transaction leaves the grant claimed, with a receipt: the
// answer, sealed under the server's keys for the device's own code. Once the device has
// been sent the answer, the claim is committed and the receipt discarded. If the
// process or the database dies in between, the device comes back and is given the
// same answer again: nothing is issued twice, and no login is lost.

// deliveryTime is how long a device has to be sent its answer before a poll may
// fetch it again.
const deliveryTime = 10 * time.Second

// collect redeems a grant that is approved. For one that is claimed, it delivers the
// answer again if it was lost.
func (s *Server) collect(ctx context.Context, r PollRequest, digest DeviceCodeDigest, p Polled, now time.Time) (*Token, deliverer, error) {
	_, sending := s.sending.Load(digest)
	g, err := s.cfg.Store.ByDeviceCode(ctx, digest)
	if err != nil {
		return nil, nil, s.goOn(ctx, &Grant{ID: p.ID, ClientID: p.ClientID}, err)
	}
	switch {
	case g.State == Approved:
		return s.redeemTogether(ctx, r.DeviceCode, g, now, EventRedeemed,
			func(ctx context.Context) (*Token, error) { return s.issueToken(ctx, g, r.Key) })
	case p.State == Redeeming && (sending || g.State == Redeemed):
		return nil, nil, s.refuse(ctx, p, r, errReplayed) // The device is being sent its answer, or has it.
	case g.State == Redeeming:
		return s.deliverAgain(ctx, r.DeviceCode, g, now)
	default:
		return nil, nil, ErrAuthorizationPending // Another poll was faster.
	}
}

// redeemTogether claims the grant, and keeps the answer that issue returns, in one
// transaction with what issue writes. The event is raised when that has happened.
func (s *Server) redeemTogether(ctx context.Context, deviceCode string, g *Grant, now time.Time, event EventType, issue func(context.Context) (*Token, error)) (token *Token, deliver deliverer, err error) {
	held, ok := g.hold(now)
	if !ok {
		return nil, nil, ErrExpiredToken
	}
	inTime, cancel := context.WithTimeout(ctx, s.cfg.ClaimTimeout)
	defer cancel()
	var issueErr error
	err = s.redeemer.Redeem(inTime, &held, func(ctx context.Context) ([]byte, error) {
		if token, issueErr = issue(ctx); issueErr != nil {
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
	held.Version++ // As it is stored now.
	if event == EventRedeemed {
		s.issuance.end(now, g)
	}
	s.raise(ctx, grantEvent(event, g, nil))
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
	if !ok {
		return nil, nil, ErrAuthorizationPending // The device may just be getting it.
	}
	return s.redeemTogether(ctx, deviceCode, g, now, EventDeliveredAgain,
		func(context.Context) (*Token, error) { return token, nil })
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
