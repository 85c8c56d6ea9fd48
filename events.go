package devicegrant

import (
	"context"
	"time"

	"github.com/google/uuid"
)

// EventType says what happened.
type EventType string

// What happens. Beside each: which fields of the Event are set, apart from Type
// and Time.
const (
	// EventCreated: a device was given codes. Grant, ClientID.
	EventCreated EventType = "created"
	// EventReviewed: a person was shown the request for the first time, and it belongs
	// to their browser session now. Grant, ClientID; Subject is who.
	EventReviewed EventType = "reviewed"
	// EventOtherSession: a code was entered that belongs to another browser session:
	// of the same person on another computer, or of somebody who was sent the code.
	// Grant, ClientID; Subject is who entered it.
	EventOtherSession EventType = "other_session"
	// EventRefused: Config.Risk refused a request. Grant, ClientID; Subject is who
	// wanted to see or approve it.
	EventRefused EventType = "refused"
	// EventApproved: a person said yes. Grant, ClientID, Subject.
	EventApproved EventType = "approved"
	// EventDenied: a person said no. Grant, ClientID, Subject.
	EventDenied EventType = "denied"
	// EventReported: a person said that it was not them who started this, which denies.
	// Somebody may be phishing (RFC 8628 section 5.4). Grant, ClientID, Subject.
	EventReported EventType = "reported"
	// EventLeft: the page was left without a decision, which denies with
	// Config.DenyOnLeave. Grant, ClientID, Subject.
	EventLeft EventType = "left"
	// EventRedeemed: tokens were issued. Grant, ClientID, Subject.
	EventRedeemed EventType = "redeemed"
	// EventDeliveredAgain: a device was given again the tokens that were issued to
	// it, because the first answer may not have reached it: the process or the
	// Store died at that moment. Grant, ClientID, Subject.
	EventDeliveredAgain EventType = "delivered_again"
	// EventReplayed: a device code was presented again after its tokens were
	// issued. Whoever did it knows the code, so the host may want to revoke what
	// it issued (RFC 8628 section 5.2, RFC 6749 section 10.5) - but not within
	// seconds of issuing it: a request that was sent twice looks the same.
	// Grant, ClientID.
	EventReplayed EventType = "replayed"
	// EventOtherClient: a client presented a device code that was issued to
	// another. Grant; ClientID is the one that presented it.
	EventOtherClient EventType = "other_client"
	// EventWrongUserCode: a person entered a code that is not live. Subject.
	EventWrongUserCode EventType = "wrong_user_code"
	// EventTooManyGuesses: a user code was not looked up because a limit was
	// reached. Subject.
	EventTooManyGuesses EventType = "too_many_guesses"
	// EventGuessPressure: so many wrong codes have been entered, by everybody together,
	// that half of what Guessing.Global admits at once is used up. It is raised once a
	// minute at the most, by each server. Pressure.
	EventGuessPressure EventType = "guess_pressure"
	// EventStoreError: the Store could not answer. Err; Grant and ClientID where
	// they are known.
	EventStoreError EventType = "store_error"
	// EventIssueFailed: IssueToken failed; the grant can be redeemed by the next
	// poll. Grant, ClientID, Subject, Err.
	EventIssueFailed EventType = "issue_failed"
	// EventClaimStuck: a redemption could not be recorded as ended. Its tokens, if
	// any, were issued once; the grant will be expired. Grant, ClientID, Subject,
	// Err.
	EventClaimStuck EventType = "claim_stuck"
)

// Event is something that happened. It holds no code, token or key.
type Event struct {
	Type     EventType
	Time     time.Time
	Grant    uuid.UUID
	ClientID string
	Subject  string
	Err      error
	Pressure GuessPressure
}

// GuessPressure is how much user codes are being guessed.
type GuessPressure struct {
	// Wrong is how many wrong codes count against Guessing.Global now, and Burst how
	// many can: then only people with a clean record are let through.
	Wrong, Burst int
	// Chances are what guessing can achieve in a lifetime, as fast as the limits admit
	// and with Guessing.MaxPending codes live.
	Chances GuessChances
}

func (s *Server) raise(ctx context.Context, e Event) {
	e.Time = s.now()
	s.cfg.OnEvent(ctx, e)
	if e.Err != nil {
		s.cfg.Logger.ErrorContext(ctx, "devicegrant: "+string(e.Type),
			"grant", e.Grant, "client_id", e.ClientID, "error", e.Err)
	}
}

// grantEvent is an event about a grant.
func grantEvent(t EventType, g *Grant, err error) Event {
	return Event{Type: t, Grant: g.ID, ClientID: g.ClientID, Subject: g.Subject, Err: err}
}
