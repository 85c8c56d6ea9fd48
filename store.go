package devicegrant

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
)

// State is where a grant stands. Expiry is a time and not a state: see
// [Grant.ExpiresAt].
type State uint8

// The states of a grant. The zero State is none of them, so that a Store that
// forgot to write one is noticed.
const (
	// Pending waits for a person.
	Pending State = iota + 1
	// Approved waits for the device to collect its tokens.
	Approved
	// Denied was refused by a person. It is final.
	Denied
	// Redeeming is held by the one poll that is issuing tokens.
	Redeeming
	// Redeemed has had its tokens issued. It is final.
	Redeemed
)

var stateNames = [...]string{Pending: "pending", Approved: "approved", Denied: "denied", Redeeming: "redeeming", Redeemed: "redeemed"}

// String returns the state's name in lower case.
func (s State) String() string {
	if s < Pending || s > Redeemed {
		return "unknown"
	}
	return stateNames[s]
}

// DeviceCodeDigest is the SHA-256 digest under which a device code is stored.
type DeviceCodeDigest [32]byte

// UserCodeDigest is the keyed digest (HMAC-SHA-256) under which a user code is
// stored. The zero value stands for no code: that of a redeemed grant is free to
// be used again.
type UserCodeDigest [32]byte

// Grant is one device authorization: what a device asked for and what became of
// it. It holds no secret; codes are in it as digests only.
type Grant struct {
	// ID names the grant in events and logs. It is not secret.
	ID uuid.UUID
	// DeviceCode finds the grant for the device. It is unique and never changes.
	DeviceCode DeviceCodeDigest
	// UserCode finds the grant for the person. It is unique while it is set.
	UserCode UserCodeDigest
	// ClientID is the client that the device code was issued to.
	ClientID string
	// Scope is what was asked for: space-separated scope tokens (RFC 6749
	// section 3.3). Empty means none.
	Scope string
	// State is where the grant stands.
	State State
	// Subject is who approved or denied; empty before.
	Subject string
	// CreatedAt is when the device asked.
	CreatedAt time.Time
	// ExpiresAt is the deadline: at that instant, and after it, the grant is
	// expired whatever its State.
	ExpiresAt time.Time
	// Pace is how the device polls. Create stores it; afterwards only Poll
	// changes it, and Swap leaves it alone.
	Pace Pace
	// Version counts the writes of Swap.
	Version int64
}

// Polled is what a poll needs to know of a grant.
type Polled struct {
	ID        uuid.UUID
	ClientID  string
	State     State
	ExpiresAt time.Time
	// Pace includes the poll that was just recorded.
	Pace Pace
}

// Store keeps grants. Package memstore is the one for a single process; package
// storetest checks any other.
//
// Every method is atomic, is safe for concurrent use, and takes effect wholly or
// not at all. A Store decides nothing: it compares versions, keeps codes unique,
// and computes [Pace.Next]. It keeps times to the microsecond at least, returns
// them as the instants they were given as, and never reads a clock of its own.
//
// A Store returns the sentinel errors named below, or errors that wrap them, for
// the cases named below; any other error means that it could not answer. It
// copies what it is given and what it returns.
type Store interface {
	// Create stores a new grant, every field as given. Its UserCode is not zero. It
	// returns ErrUserCodeExists when another grant has the same user code and has
	// not freed it, and ErrFull when there is room for no more. A device code that
	// is stored already is an error of any kind, and changes nothing.
	Create(ctx context.Context, g *Grant) error

	// ByUserCode returns the grant that has the user code, in any state and past
	// its deadline too, or ErrNotFound. The zero digest finds nothing.
	ByUserCode(ctx context.Context, code UserCodeDigest) (*Grant, error)

	// ByDeviceCode returns the grant that has the device code, or ErrNotFound.
	ByDeviceCode(ctx context.Context, code DeviceCodeDigest) (*Grant, error)

	// Poll records a poll by clientID at now, as Pace.Next says, and returns the
	// grant with the pace that resulted, or ErrNotFound. A poll by any client but
	// the grant's own is not recorded; the grant is returned all the same.
	//
	// Recording must not touch what Swap writes: a poll that rewrites the
	// decision loses approvals. It need not be durable: losing a pace on a crash
	// harms nobody.
	Poll(ctx context.Context, code DeviceCodeDigest, clientID string, now time.Time) (Polled, error)

	// Swap writes the UserCode, State, Subject and ExpiresAt of g and adds one to
	// the stored Version, if the stored Version equals g.Version. Otherwise, and
	// when there is no such grant, it changes nothing and returns ErrConflict.
	// UserCode is either what is stored or zero, which frees the code.
	Swap(ctx context.Context, g *Grant) error

	// Purge deletes up to limit grants with ExpiresAt before the given time and
	// returns how many it deleted, with an error too; fewer than limit without one
	// means that none is left.
	Purge(ctx context.Context, before time.Time, limit int) (int, error)
}

// Counter is an optional interface of a Store that knows, cheaply and at least
// roughly, how many grants it holds. With it user codes get longer when more are
// live than their length can bear (see [Guessing]).
type Counter interface {
	Count(ctx context.Context) (int, error)
}

// Redeemer is an optional interface of a Store that is in the same database as the
// host's tokens. With it, IssueToken is called within the transaction that redeems
// the grant, so that a crash loses no approved login and doubles no token.
type Redeemer interface {
	// Redeem does in one transaction what Swap does with g, and what issue does
	// with the context that it is given, in which the transaction is. It keeps the
	// receipt that issue returns until the next write of the grant.
	//
	// It returns ErrConflict, without calling issue, when the stored Version is not
	// g.Version and while another Redeem of the grant goes on. When issue fails, its
	// error is returned, and nothing of the transaction has happened. After any other
	// error all of it has happened or nothing.
	Redeem(ctx context.Context, g *Grant, issue func(context.Context) (receipt []byte, err error)) error

	// Receipt returns the receipt of the grant, nil if there is none, or ErrNotFound
	// when the stored Version is not g.Version.
	Receipt(ctx context.Context, g *Grant) ([]byte, error)
}

// What a Store returns.
var (
	ErrNotFound       = errors.New("devicegrant: no such grant")
	ErrConflict       = errors.New("devicegrant: grant was changed meanwhile")
	ErrUserCodeExists = errors.New("devicegrant: user code is in use")
	ErrFull           = errors.New("devicegrant: store is full")
)
