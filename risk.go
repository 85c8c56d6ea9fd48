package devicegrant

import (
	"context"
	"fmt"
	"time"
)

// Situation is what Config.Risk judges: a person is about to be asked, or has just
// said yes.
type Situation struct {
	// Client is who asks, and Scopes is for what.
	Client Client
	Scopes []string
	// Resources are where the tokens are to be used (RFC 8707), and AuthorizationDetails
	// is the JSON array that the device sent (RFC 9396); empty if it sent none.
	Resources            []string
	AuthorizationDetails string
	// Device is where the request came from, and DevicePlace where that is, as
	// Config.Place says it.
	Device      Device
	DevicePlace string
	// Person is who is asked, and Place where they are, likewise.
	Person Person
	Place  string
	// Elsewhere is whether the two sides are in different places, or, where these are
	// not known, in different networks.
	Elsewhere bool
	// Entered is how often the code was entered: once, unless others than the session
	// it belongs to tried. It is counted up to MaxEntered.
	Entered int
	// CreatedAt is when the device asked, and ExpiresAt until when it can be decided.
	CreatedAt, ExpiresAt time.Time
	// ConfirmCode is whether the person has to confirm that the code is on their own
	// device.
	ConfirmCode bool
}

// Verdict is what Config.Risk decides.
type Verdict int

// The verdicts. The zero Verdict is none of them, and refuses.
const (
	// Allow asks the person as usual.
	Allow Verdict = iota + 1
	// Warn asks the person, with one more warning.
	Warn
	// Refuse does not ask, and takes no yes. The request can still be denied.
	Refuse
)

// reassess judges a request again before a yes is taken.
func (s *Server) reassess(ctx context.Context, g *Grant, by Person) error {
	if s.cfg.Risk == nil {
		return nil
	}
	_, err := s.describe(ctx, g, by)
	return err
}

// assess has Config.Risk judge a request, and reports whether to warn.
func (s *Server) assess(ctx context.Context, g *Grant, r *Review, by Person) (warn bool, err error) {
	if s.cfg.Risk == nil {
		return false, nil
	}
	verdict, err := s.cfg.Risk(ctx, Situation{
		Client: r.Client, Scopes: r.Scopes, Resources: r.Resources, AuthorizationDetails: r.AuthorizationDetails,
		Device: r.Device, DevicePlace: r.DevicePlace,
		Person: by, Place: r.Place, Elsewhere: r.Elsewhere,
		Entered: g.Entered, CreatedAt: r.CreatedAt, ExpiresAt: r.ExpiresAt,
		ConfirmCode: s.cfg.ConfirmCode,
	})
	if err != nil {
		return false, fmt.Errorf("devicegrant: Config.Risk: %w", err)
	}
	if verdict == Allow || verdict == Warn {
		return verdict == Warn, nil
	}
	s.raise(ctx, personEvent(EventRefused, g, by))
	return false, ErrRefused
}
