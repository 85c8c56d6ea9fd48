package devicegrant

import (
	"context"
	"errors"
	"net/netip"
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

// SessionDigest is the SHA-256 digest under which a browser session is stored.
type SessionDigest [32]byte

// Device is where a device authorization request came from, for the person who is
// asked to compare (RFC 8628 section 5.4). All of it may be empty, and none of it is
// proven: Name and UserAgent are what the device says of itself.
type Device struct {
	// Name is what the device calls itself: the parameter device_name of the
	// request, an extension.
	Name string
	// UserAgent is the User-Agent header of the request.
	UserAgent string
	// Addr is the address that the request came from.
	Addr netip.Addr
}

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
	// Scope is what was asked for, and once it is approved what was allowed of that:
	// space-separated scope tokens (RFC 6749 section 3.3). Empty means none.
	Scope string
	// Resource is where the tokens are to be used: space-separated absolute URIs, each
	// as the device sent it (RFC 8707 section 2). It never changes.
	Resource string
	// AuthorizationDetails is the JSON array that the device sent, byte for byte (RFC
	// 9396 section 2). It never changes.
	AuthorizationDetails string
	// TokenHint is what Config.Policy has to say to Config.IssueToken. It never changes.
	TokenHint string
	// Key is the key that the device has proven to hold at the poll that redeems the
	// grant, for the tokens to be bound to. It is set for Config.IssueToken only: a Store
	// does not keep it.
	Key Key
	// Device is where the request came from. It never changes.
	Device Device
	// State is where the grant stands.
	State State
	// Subject is who approved or denied; empty before.
	Subject string
	// Session is the browser session that entered the user code first, to which
	// the grant belongs from then on; zero before.
	Session SessionDigest
	// Entered is how often the user code was entered: once by the session it belongs
	// to, and by any other each time. It is counted up to MaxEntered.
	Entered int
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

// MaxEntered is where counting how often a user code was entered ends.
const MaxEntered = 100

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
// copies what it is given and what it returns. Text that it cannot keep as it is, such
// as what is not UTF-8, it refuses, in Create and Swap alike.
type Store interface {
	// Create stores a new grant, every field but Key as given. Its UserCode is not zero. It
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

	// Swap writes the UserCode, Scope, State, Subject, Session, Entered and ExpiresAt of
	// g and adds one to the stored Version, if the stored Version equals g.Version.
	// Otherwise, and when there is no such grant, it changes nothing and returns
	// ErrConflict.
	// UserCode is either what is stored or zero, which frees the code.
	Swap(ctx context.Context, g *Grant) error

	// Purge deletes up to limit grants with ExpiresAt before the given time and
	// returns how many it deleted, with an error too; fewer than limit without one
	// means that none is left. A Store that is a Tallier deletes tallies likewise and
	// counts them.
	Purge(ctx context.Context, before time.Time, limit int) (int, error)
}

// Counter is an optional interface of a Store that knows, cheaply and at least
// roughly, how many grants it holds. With it user codes get longer when more are
// live than their length can bear (see [Guessing]).
type Counter interface {
	Count(ctx context.Context) (int, error)
}

// Lister is an optional interface of a Store, which Server.List and Server.Revoke need.
type Lister interface {
	// List returns the first grants, at most q.Limit, in the order of their device codes,
	// that are Pending or Approved and for which all of q is true.
	List(ctx context.Context, q ListQuery) ([]*Grant, error)
}

// ListQuery says which grants a [Lister] returns.
type ListQuery struct {
	// ClientID and Subject are those of the grant; empty stands for any.
	ClientID, Subject string
	// After is less than the grant's DeviceCode, byte by byte.
	After DeviceCodeDigest
	// Now is before the grant's ExpiresAt.
	Now time.Time
	// Limit is above zero.
	Limit int
}

// Tallier is an optional interface of a Store that keeps what counts against the
// limits of [Guessing], so that all servers on that Store share them. Without it, each
// Server has limits of its own. A Tally may be lost in a crash, but not by chance.
type Tallier interface {
	// Tallies returns what is stored under each key, in the order of the keys, of
	// which there are at most MaxTallies; the zero Tally where there is nothing.
	Tallies(ctx context.Context, keys []TallyKey) ([]Tally, error)

	// SwapTallies stores each tally under its key, with one added to its Version, if
	// the stored Version of every one equals the given; nothing stored is Version zero.
	// Otherwise it changes nothing and returns ErrConflict. There are as many tallies as
	// keys, which are different from one another, and at most MaxTallies.
	SwapTallies(ctx context.Context, keys []TallyKey, tallies []Tally) error
}

// MaxTallies is how many tallies are read, or written, at once.
const MaxTallies = 6

// TallyKey is the digest of what is limited, such as an address.
type TallyKey [32]byte

// Tally is what counts against one limit. Times are held to the microsecond; only the
// zero Tally has zero times.
type Tally struct {
	// Guesses is how many guesses are counted.
	Guesses int
	// PaidAt is when the limit is as good as new but for Guesses.
	PaidAt time.Time
	// ExpiresAt is when the Tally means nothing any more and can be purged.
	ExpiresAt time.Time
	// Version counts the writes.
	Version int64
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
