package devicegrant

import (
	"context"
	"log/slog"
	"net/netip"
	"time"

	"github.com/google/uuid"
)

// EventType says what happened.
type EventType string

// What happens, each raised once for each time it does. Beside each: which fields of the
// Event are set, apart from Type and Time. "The grant" is Grant, ClientID, CreatedAt and
// Subject, if somebody has decided.
const (
	// EventCreated: a device was given codes. The grant, Addr.
	EventCreated EventType = "created"
	// EventLimited: a request was answered 429, because of [Issuance]: nothing was
	// stored. Addr; ClientID unless it was a poll with a device code that nobody knows.
	EventLimited EventType = "limited"
	// EventReviewed: a person was shown the request for the first time, and it belongs
	// to their browser session now. The grant, Addr; Subject is who.
	EventReviewed EventType = "reviewed"
	// EventOtherSession: a code was entered that belongs to another browser session:
	// of the same person on another computer, or of somebody who was sent the code.
	// The grant, Addr; Subject is who entered it.
	EventOtherSession EventType = "other_session"
	// EventRefused: Config.Risk refused a request. The grant, Addr; Subject is who
	// wanted to see or approve it.
	EventRefused EventType = "refused"
	// EventApproved: a person said yes. The grant.
	EventApproved EventType = "approved"
	// EventDenied: a person said no. The grant.
	EventDenied EventType = "denied"
	// EventReported: a person said that it was not them who started this, which denies.
	// Somebody may be phishing (RFC 8628 section 5.4). The grant.
	EventReported EventType = "reported"
	// EventLeft: the page was left without a decision, which denies with
	// Config.DenyOnLeave. The grant.
	EventLeft EventType = "left"
	// EventRevoked: [Server.Revoke] denied a grant. The grant.
	EventRevoked EventType = "revoked"
	// EventRedeemed: tokens were issued. The grant.
	EventRedeemed EventType = "redeemed"
	// EventDeliveredAgain: a device was given again the tokens that were issued to
	// it, because the first answer may not have reached it: the process or the
	// Store died at that moment. The grant.
	EventDeliveredAgain EventType = "delivered_again"
	// EventSlowDown: a device polled too early and was told to slow down. Grant,
	// ClientID, Addr.
	EventSlowDown EventType = "slow_down"
	// EventReplayed: a device code was presented again after its tokens were
	// issued. Whoever did it knows the code, so the host may want to revoke what
	// it issued (RFC 8628 section 5.2, RFC 6749 section 10.5) - but not within
	// seconds of issuing it: a request that was sent twice looks the same.
	// Grant, ClientID, Addr.
	EventReplayed EventType = "replayed"
	// EventOtherClient: a client presented a device code that was issued to
	// another. Grant, Addr; ClientID is the one that presented it.
	EventOtherClient EventType = "other_client"
	// EventUnproven: a device code was presented without the code verifier or the key
	// that it was asked for with, or with another, or with a verifier though there was
	// no challenge. Whoever did it may have stolen the code. ClientID is who presented
	// it; Addr; the grant where the Store knows it.
	EventUnproven EventType = "unproven"
	// EventUnknownDeviceCode: a device code was presented that was not made here, or
	// that the Store does not know any more. ClientID is who presented it; Addr.
	EventUnknownDeviceCode EventType = "unknown_device_code"
	// EventWrongUserCode: a person entered a code that is not live. Subject, Addr.
	EventWrongUserCode EventType = "wrong_user_code"
	// EventTooManyGuesses: a user code was not looked up because a limit was
	// reached. Subject, Addr.
	EventTooManyGuesses EventType = "too_many_guesses"
	// EventGuessPressure: so many wrong codes have been entered, by everybody together,
	// that half of what Guessing.Global admits at once is used up. It is raised once a
	// minute at the most, by each server. Pressure.
	EventGuessPressure EventType = "guess_pressure"
	// EventPurged: [Server.Purge] deleted something. Count is how much.
	EventPurged EventType = "purged"
	// EventStoreError: the Store could not answer. Err; the grant where it is known.
	EventStoreError EventType = "store_error"
	// EventIssueFailed: IssueToken failed; the grant can be redeemed by the next
	// poll. The grant, Err.
	EventIssueFailed EventType = "issue_failed"
	// EventClaimStuck: a redemption could not be recorded as ended. Its tokens, if
	// any, were issued once; the grant will be expired. The grant, Err.
	EventClaimStuck EventType = "claim_stuck"
)

// Level is how loud an operator may want to hear of it: an error for what the server
// failed to do, a warning for what an honest device or person has little reason to do,
// and information otherwise.
func (t EventType) Level() slog.Level {
	switch t {
	case EventStoreError, EventIssueFailed, EventClaimStuck:
		return slog.LevelError
	case EventLimited, EventOtherSession, EventRefused, EventReported, EventReplayed, EventOtherClient, EventUnproven,
		EventUnknownDeviceCode, EventWrongUserCode, EventTooManyGuesses, EventGuessPressure:
		return slog.LevelWarn
	default:
		return slog.LevelInfo
	}
}

// Event is something that happened. It holds no code, token or key.
type Event struct {
	Type EventType
	Time time.Time
	// Grant names the grant, and CreatedAt is when the device asked for it.
	Grant     uuid.UUID
	CreatedAt time.Time
	ClientID  string
	Subject   string
	// Addr is where the request came from that this is about.
	Addr     netip.Addr
	Count    int
	Err      error
	Pressure GuessPressure
}

// Attrs returns the fields that are set, but for Type and Time, under the names that this
// package logs them by.
//
//	logger.LogAttrs(ctx, e.Type.Level(), string(e.Type), e.Attrs()...)
func (e Event) Attrs() []slog.Attr {
	attrs := make([]slog.Attr, 0, 8)
	add := func(set bool, a slog.Attr) {
		if set {
			attrs = append(attrs, a)
		}
	}
	add(e.Grant != uuid.Nil, slog.String("grant", e.Grant.String()))
	add(!e.CreatedAt.IsZero(), slog.Time("created_at", e.CreatedAt))
	add(e.ClientID != "", slog.String("client_id", e.ClientID))
	add(e.Subject != "", slog.String("subject", e.Subject))
	add(e.Addr.IsValid(), slog.String("addr", e.Addr.String()))
	add(e.Count != 0, slog.Int("count", e.Count))
	if e.Pressure != (GuessPressure{}) {
		attrs = append(attrs, slog.Int("wrong", e.Pressure.Wrong), slog.Int("burst", e.Pressure.Burst),
			slog.Float64("expected_hits", e.Pressure.Chances.GlobalHits))
	}
	add(e.Err != nil, slog.Any("error", e.Err))
	return attrs
}

// LogValue implements [slog.LogValuer]: a group of the type and of Attrs.
func (e Event) LogValue() slog.Value {
	return slog.GroupValue(append([]slog.Attr{slog.String("type", string(e.Type))}, e.Attrs()...)...)
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
	if s.cfg.OnEvent != nil {
		e.Time = s.now()
		s.cfg.OnEvent(ctx, e)
	}
	if e.Err != nil {
		s.cfg.Logger.LogAttrs(ctx, slog.LevelError, "devicegrant: "+string(e.Type), e.Attrs()...)
	}
}

// ended raises the event of a grant that counts as pending no longer.
func (s *Server) ended(ctx context.Context, t EventType, g *Grant) {
	s.issuance.end(s.now(), g)
	s.raise(ctx, grantEvent(t, g, nil))
}

// grantEvent is an event about a grant.
func grantEvent(t EventType, g *Grant, err error) Event {
	return Event{Type: t, Grant: g.ID, CreatedAt: g.CreatedAt, ClientID: g.ClientID, Subject: g.Subject, Err: err}
}

// personEvent is an event about a grant that somebody looks at, who has not decided it.
func personEvent(t EventType, g *Grant, by Person) Event {
	e := grantEvent(t, g, nil)
	e.Subject, e.Addr = by.Subject, by.Addr
	return e
}
