package devicegrant

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"
	"unicode/utf8"
)

// Policy decides what a device gets, or refuses it with an *[Error]. It is called for
// every device authorization request that is well-formed and of a client that may make it,
// and should return at once.
type Policy func(ctx context.Context, a Application) (Terms, error)

// Application is a device authorization request that a Policy judges.
type Application struct {
	Client Client
	// Scopes are what the client asks for, or its DefaultScopes.
	Scopes []string
	// Resources are where the tokens are to be used (RFC 8707).
	Resources []string
	// AuthorizationDetails is the JSON array that was sent (RFC 9396); empty if none was.
	AuthorizationDetails string
	// Device is where the request came from.
	Device Device
	// Challenge is whether the tokens will take a code verifier (RFC 7636), and Key is the
	// key that they will take; zero if none.
	Challenge bool
	Key       Key
	// Lifetime and Interval are what the device gets unless Terms say otherwise.
	Lifetime, Interval time.Duration
	// Load is what this server has to do already.
	Load Load
}

// Load is what this server has to do: for the grants that it has created, until they have
// expired or it has seen them end.
type Load struct {
	// Pending is how many grants are waiting to be approved or collected.
	Pending int
	// Polls is how many polls a second they make together if all devices obey.
	Polls float64
	// Arrivals is how many were created a second, on average over the last ten.
	Arrivals float64
}

// Terms are what a Policy decides. The zero Terms leave everything as it is.
type Terms struct {
	// Lifetime and Interval are in whole seconds; zero leaves those of the Application.
	// A code that lives longer than Config.Lifetime is longer, where that takes it (see
	// [Guessing]).
	Lifetime, Interval time.Duration
	// Scopes are which of the scopes that were asked for the client can get; nil is all
	// of them. Others in it are ignored; when none is left, the answer is invalid_scope.
	Scopes []string
	// TokenHint is kept with the grant for IssueToken: UTF-8 without NUL, up to 1 KiB.
	TokenHint string
	// RequireChallenge and RequireKey refuse the request if it has no code challenge, or
	// no key.
	RequireChallenge, RequireKey bool
}

const maxTokenHint = 1 << 10

// foresight is how far SpreadPolls looks ahead: what is created while somebody finds
// their phone is there together.
const foresight = time.Minute

// SpreadPolls returns a Policy under which the grants of this server make at most budget
// polls a second, as long as devices obey: the more of them are pending, and the faster
// they arrive, the longer is the interval of those that are created. It never makes it
// shorter, nor so long that fewer than four polls fit into the lifetime; the budget is
// exceeded before that.
func SpreadPolls(budget float64) Policy {
	return func(_ context.Context, a Application) (Terms, error) {
		expected := float64(a.Load.Pending+1) + a.Load.Arrivals*foresight.Seconds()
		fair := expected / budget
		// What is left of the budget is shared out such that it is never used up: who comes
		// when half of it is gone waits for twice as long. That is rounded down: it makes up
		// for itself with the next, and a single device would make it longer otherwise.
		left := max(0, 1-a.Load.Polls/budget)
		needed := max(math.Ceil(fair), math.Floor(a.Interval.Seconds()/left))
		most := (a.Lifetime / 4).Truncate(time.Second)
		return Terms{Interval: max(a.Interval, min(most, seconds(needed)))}, nil
	}
}

func seconds(whole float64) time.Duration {
	return time.Duration(min(whole, math.MaxInt32)) * time.Second
}

// terms decides what a grant is created with, and takes out of it what the client does not
// get.
func (s *Server) terms(ctx context.Context, client Client, g *Grant, holder possession) (Terms, error) {
	base := Terms{
		Lifetime: cmp.Or(client.Lifetime, s.cfg.Lifetime), Interval: cmp.Or(client.Interval, s.cfg.Interval),
		RequireChallenge: client.RequireChallenge, RequireKey: client.RequireKey,
	}
	decided := Terms{}
	if s.cfg.Policy != nil {
		var err error
		decided, err = s.cfg.Policy(ctx, Application{
			Client: client, Scopes: strings.Fields(g.Scope), Resources: strings.Fields(g.Resource),
			AuthorizationDetails: g.AuthorizationDetails, Device: g.Device,
			Challenge: holder.challenge != challenge{}, Key: holder.key,
			Lifetime: base.Lifetime, Interval: base.Interval, Load: s.issuance.load(s.now()),
		})
		if err != nil {
			return Terms{}, s.policyFailed(ctx, client, err)
		}
	}
	t := base.with(decided)
	if err := t.validate(); err != nil {
		return Terms{}, s.policyFailed(ctx, client, err)
	}
	if decided.Scopes != nil {
		left := g.narrow(decided.Scopes, nil)
		if left == "" && g.Scope != "" {
			return Terms{}, ErrInvalidScope.Describe("the client may have none of the scopes now")
		}
		g.Scope = left
	}
	g.TokenHint = t.TokenHint
	return t, t.check(holder)
}

// policyFailed returns what the client is told. What is not meant for it is logged.
func (s *Server) policyFailed(ctx context.Context, client Client, err error) error {
	s.logFailure(ctx, "Config.Policy", err, "client_id", client.ID)
	if e := asError(err); e != nil {
		return e
	}
	return ErrTemporarilyUnavailable.Because(err).withRetryAfter(s.cfg.Interval)
}

// with returns the terms with what was decided beyond them.
func (t Terms) with(decided Terms) Terms {
	decided.Lifetime, decided.Interval = cmp.Or(decided.Lifetime, t.Lifetime), cmp.Or(decided.Interval, t.Interval)
	decided.RequireChallenge = decided.RequireChallenge || t.RequireChallenge
	decided.RequireKey = decided.RequireKey || t.RequireKey
	return decided
}

// validate checks what the host decided.
func (t Terms) validate() error {
	if err := checkTimes(t.Lifetime, t.Interval); err != nil {
		return fmt.Errorf("terms: %w", err)
	}
	if len(t.TokenHint) > maxTokenHint || !utf8.ValidString(t.TokenHint) || strings.Contains(t.TokenHint, "\x00") {
		return errors.New("terms: TokenHint must be UTF-8 without NUL, and at most 1 KiB")
	}
	return nil
}

// check demands of a request what it has to prove (RFC 7636 section 4.4.1).
func (t Terms) check(holder possession) error {
	if t.RequireChallenge && holder.challenge == (challenge{}) {
		return ErrInvalidRequest.Describe("code_challenge is required")
	}
	if t.RequireKey && holder.key == (Key{}) {
		return ErrInvalidRequest.Describe("a proof of a key is required")
	}
	return nil
}

// checkTimes checks what is advertised: it is sent in whole seconds (RFC 8628 section
// 3.2).
func checkTimes(lifetime, interval time.Duration) error {
	var errs []error
	for _, sent := range []struct {
		name string
		d    time.Duration
	}{{"Lifetime", lifetime}, {"Interval", interval}} {
		if sent.d < time.Second || sent.d%time.Second != 0 {
			errs = append(errs, fmt.Errorf("%s is %v; set it to whole seconds, at least one", sent.name, sent.d))
		}
	}
	if lifetime < interval {
		errs = append(errs, fmt.Errorf("Lifetime (%v) is shorter than Interval (%v); no device could poll twice", lifetime, interval))
	}
	return errors.Join(errs...)
}
