// Package customstore keeps grants in a file of go.etcd.io/bbolt, a key-value store for
// one process. It is the guide for whoever writes a devicegrant.Store: read it beside the
// documentation of that interface. Each method says which promise it keeps, and how bbolt
// keeps it.
//
// Four things carry over to any database:
//
//   - There is one atomic step to find: whatever compares and writes at once. Here it is a
//     transaction of bbolt that writes, of which there is one at a time.
//   - Reading, deciding in Go and writing in a step of its own is the mistake to avoid: two
//     who read the same version would both write. So versions are compared inside the step.
//   - What polls write is kept apart from what people decide. See [Store.Poll].
//   - A Store knows nothing of the protocol. It does not look at a State, compares no
//     deadline with a clock, and leaves the pace of polls to devicegrant.Pace.
//
// A Store can do more, by methods that devicegrant looks for. None of them is here:
//
//   - devicegrant.Counter lets user codes grow while very many are live. bbolt counts keys
//     by walking all of them, which is not cheap; without it, Guessing.MaxPending says how
//     many there can be.
//   - devicegrant.Lister lets operators list and revoke requests, with Server.List and
//     Server.Revoke. It takes an index by client and one by subject, or a walk through all.
//   - devicegrant.Tallier lets all replicas share the limits on wrong codes. A bbolt file has
//     one process, so that here they would gain no more than to survive a restart.
//   - devicegrant.Redeemer calls Config.IssueToken within the transaction that redeems the
//     grant. It is worth having where the host's tokens are in the same database.
package customstore

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"
	"unicode/utf8"

	"go.etcd.io/bbolt"

	"github.com/devicegrant/devicegrant"
)

// The buckets. Each call sees and changes all of them in one transaction, so that an
// index never leads to a grant that is not there.
var (
	grants    = []byte("grants")     // device code to record
	userCodes = []byte("user codes") // user code to device code, while the code is not freed
	deadlines = []byte("deadlines")  // deadline and device code, in the order of the deadlines, to nothing
)

// lockTime is how long Open waits for another process to let go of the file: long enough
// for the one that a restart replaces.
const lockTime = time.Second

var (
	errDeviceCodeExists = errors.New("customstore: device code is stored already")
	errNotText          = errors.New("customstore: what is not UTF-8 cannot be stored")
)

// Store is a devicegrant.Store in a file. It is safe for concurrent use.
//
// It has no bound of its own, and so never returns devicegrant.ErrFull: Config.Issuance
// bounds how many grants are pending, and Purge deletes them when they are over.
type Store struct {
	db *bbolt.DB

	mu    sync.Mutex // held by reads, from before their transaction begins; see Poll
	paces map[devicegrant.DeviceCodeDigest]devicegrant.Pace
}

var _ devicegrant.Store = (*Store)(nil)

// Open opens the file at path and makes it if there is none. Nobody but its owner can read
// it: codes are in it as digests only, but also who approved what. It fails while another
// Store has the file open, in whichever process. Close the Store in the end.
func Open(path string) (*Store, error) {
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: lockTime})
	if err != nil {
		return nil, fmt.Errorf("customstore: cannot open %s: %w", path, err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		for _, bucket := range [][]byte{grants, userCodes, deadlines} {
			if _, err := tx.CreateBucketIfNotExists(bucket); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("customstore: cannot make the buckets in %s: %w", path, err), db.Close())
	}
	return &Store{db: db, paces: make(map[devicegrant.DeviceCodeDigest]devicegrant.Pace)}, nil
}

// Close waits for the calls that go on and closes the file. Any call after it fails.
func (s *Store) Close() error { return s.db.Close() }

// Create implements devicegrant.Store.
//
// The promise: of two grants with one user code, one is refused, even when both are
// created at the same time. To look the codes up and to put the grant is one transaction
// here; SQL has unique indexes for it. It does not matter whether the grant that has
// the code is over: the code is free when Swap or Purge has freed it.
func (s *Store) Create(ctx context.Context, g *devicegrant.Grant) error {
	return s.update(ctx, func(tx *bbolt.Tx) error {
		switch {
		case tx.Bucket(userCodes).Get(g.UserCode[:]) != nil:
			return devicegrant.ErrUserCodeExists
		case tx.Bucket(grants).Get(g.DeviceCode[:]) != nil:
			return errDeviceCodeExists
		}
		return put(tx, g)
	})
}

// ByUserCode implements devicegrant.Store.
//
// The promise: grants are found in any state, and past their deadline too, for devicegrant
// tells people and devices what became of them. Index and record are read in one
// transaction, between which no write comes. The zero digest finds nothing, for put never
// leads it anywhere.
func (s *Store) ByUserCode(_ context.Context, code devicegrant.UserCodeDigest) (*devicegrant.Grant, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.read(func(tx *bbolt.Tx) []byte { return tx.Bucket(userCodes).Get(code[:]) })
}

// ByDeviceCode implements devicegrant.Store.
//
// The promise: a read sees every write that has returned. A transaction of bbolt that
// begins after another was committed sees it; a cache or a lagging replica might not.
func (s *Store) ByDeviceCode(_ context.Context, code devicegrant.DeviceCodeDigest) (*devicegrant.Grant, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.read(func(*bbolt.Tx) []byte { return code[:] })
}

// Poll implements devicegrant.Store.
//
// The promise: a poll never undoes a decision, nor makes Swap conflict, and two polls at
// once count one after the other. It writes to the map of paces and reads the rest, so
// that there is nothing of a decision that it could write back; and the mutex makes one
// step of reading a pace, Pace.Next and keeping what it returns.
//
// That the map is in memory is a choice. To write the pace to the file would cost a commit,
// with its wait for the disk, for every poll of every device, and polls are nearly all that
// a server does. DB.Batch shares the wait among polls at the same time, but adds up to
// 10 ms to each, and people who approve wait behind them for the one writer. What is lost
// with the process is no more than how fast a device has polled, which the contract allows:
// it goes on at the pace that Create was given. And no other process can have paces of
// its own, for bbolt locks the file. A Store that is shared by replicas keeps paces
// in the database, in a table of their own.
func (s *Store) Poll(_ context.Context, code devicegrant.DeviceCodeDigest, clientID string, now time.Time) (devicegrant.Polled, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g, err := s.read(func(*bbolt.Tx) []byte { return code[:] })
	if err != nil {
		return devicegrant.Polled{}, err
	}
	if g.ClientID == clientID { // Who has stolen a device code must not slow its owner down.
		g.Pace = g.Pace.Next(now)
		s.paces[code] = g.Pace
	}
	return devicegrant.Polled{ID: g.ID, ClientID: g.ClientID, State: g.State, ExpiresAt: g.ExpiresAt, Pace: g.Pace}, nil
}

// Swap implements devicegrant.Store.
//
// The promise: of all who have read one version, one writes. That makes an approved grant
// pay out once, whatever races. The version is compared inside the transaction that
// writes, and bbolt has begun no other by then. SQL has UPDATE … WHERE version = … and the
// count of rows for it.
//
// The decision is on the disk when Swap returns: bbolt syncs the file before Update does.
// Only what the contract names is taken from g. All else stays as Create stored it,
// whatever the caller has in its copy.
func (s *Store) Swap(ctx context.Context, g *devicegrant.Grant) error {
	return s.update(ctx, func(tx *bbolt.Tx) error {
		stored, err := find(tx, g.DeviceCode[:])
		switch {
		case errors.Is(err, devicegrant.ErrNotFound), err == nil && stored.Version != g.Version:
			return devicegrant.ErrConflict
		case err != nil:
			return err
		}
		next := *stored
		next.UserCode, next.Scope, next.State, next.Subject = g.UserCode, g.Scope, g.State, g.Subject
		next.Session, next.Entered, next.ExpiresAt = g.Session, g.Entered, g.ExpiresAt
		next.Version++
		return errors.Join(drop(tx, stored), put(tx, &next)) // An error undoes both.
	})
}

// Purge implements devicegrant.Store.
//
// The promise: what it deletes has expired when it is deleted, and is counted once. The
// first of the deadlines is looked at and deleted in one transaction, so that no Swap can
// move it in between. It reads no more than it deletes, and devicegrant asks for a batch
// at a time, since others who write have to wait for it.
//
// A pace goes after its grant is gone for good. A poll that found the grant has kept its
// pace by then, because it has held the mutex since before it looked; a later one finds
// nothing. So no pace is left behind.
func (s *Store) Purge(ctx context.Context, before time.Time, limit int) (int, error) {
	var purged []devicegrant.DeviceCodeDigest
	err := s.update(ctx, func(tx *bbolt.Tx) error {
		for end := stamp(before); len(purged) < limit; {
			key, _ := tx.Bucket(deadlines).Cursor().First() // A cursor does not outlive a Delete.
			if key == nil || bytes.Compare(key[:len(end)], end) >= 0 {
				return nil
			}
			g, err := find(tx, key[len(end):])
			if err == nil {
				err = drop(tx, g)
			}
			if err != nil {
				return err
			}
			purged = append(purged, g.DeviceCode)
		}
		return nil
	})
	if err != nil {
		return 0, err // Nothing was deleted.
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, code := range purged {
		delete(s.paces, code)
	}
	return len(purged), nil
}

// update runs write in a transaction, which is committed whole, or not at all when write
// fails. Whoever gave up while others were writing gets nothing written.
func (s *Store) update(ctx context.Context, write func(*bbolt.Tx) error) error {
	return s.db.Update(func(tx *bbolt.Tx) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		return write(tx)
	})
}

// read returns the grant whose device code lookUp returns, with its pace. The caller holds
// the mutex, so that both are of one moment. It does not wait for the disk: readers of bbolt
// go on beside the one writer, but for the moment in which a file that has grown is mapped.
func (s *Store) read(lookUp func(*bbolt.Tx) []byte) (g *devicegrant.Grant, err error) {
	err = s.db.View(func(tx *bbolt.Tx) error {
		g, err = find(tx, lookUp(tx))
		return err
	})
	if err != nil {
		return nil, err
	}
	if pace, polled := s.paces[g.DeviceCode]; polled {
		g.Pace = pace
	}
	return g, nil
}

// find returns the grant as it is in the file. It is a copy: what bbolt returns is valid
// within the transaction only.
func find(tx *bbolt.Tx, code []byte) (*devicegrant.Grant, error) {
	value := tx.Bucket(grants).Get(code)
	if value == nil {
		return nil, devicegrant.ErrNotFound
	}
	return decode(code, value)
}

// put stores a grant, and where its code and its deadline lead to it.
func put(tx *bbolt.Tx, g *devicegrant.Grant) error {
	value, err := encode(g)
	if err != nil {
		return err
	}
	if g.UserCode != (devicegrant.UserCodeDigest{}) {
		err = tx.Bucket(userCodes).Put(g.UserCode[:], g.DeviceCode[:])
	}
	return errors.Join(err, tx.Bucket(deadlines).Put(deadline(g), nil), tx.Bucket(grants).Put(g.DeviceCode[:], value))
}

// drop undoes put. A code that was freed may lead to another grant by now, and stays.
func drop(tx *bbolt.Tx, g *devicegrant.Grant) (err error) {
	if g.UserCode != (devicegrant.UserCodeDigest{}) {
		err = tx.Bucket(userCodes).Delete(g.UserCode[:])
	}
	return errors.Join(err, tx.Bucket(deadlines).Delete(deadline(g)), tx.Bucket(grants).Delete(g.DeviceCode[:]))
}

// deadline is the key of a grant in the bucket of deadlines.
func deadline(g *devicegrant.Grant) []byte { return append(stamp(g.ExpiresAt), g.DeviceCode[:]...) }

// stamp writes an instant so that earlier ones sort first. devicegrant keeps time to the
// microsecond.
func stamp(t time.Time) []byte { return t.UTC().AppendFormat(nil, "2006-01-02T15:04:05.000000") }

// record is a grant as it is stored under its device code. Its own fields hide those of
// Grant that have their names, as the rules of encoding/json are: the device code is the key
// already, Key is none of a Store's business, and bytes take less than half of the space as
// text that they take as an array of numbers. Of Pace it keeps what Create was given.
type record struct {
	devicegrant.Grant
	DeviceCode, Key   *struct{} `json:",omitempty"` // always nil
	UserCode, Session []byte
}

// encode refuses text that encoding/json would change without a word.
func encode(g *devicegrant.Grant) ([]byte, error) {
	for _, text := range []string{g.ClientID, g.Scope, g.Resource, g.AuthorizationDetails, g.TokenHint, g.Subject, g.Device.Name, g.Device.UserAgent} {
		if !utf8.ValidString(text) {
			return nil, errNotText
		}
	}
	return json.Marshal(record{Grant: *g, UserCode: g.UserCode[:], Session: g.Session[:]})
}

func decode(code, value []byte) (*devicegrant.Grant, error) {
	var r record
	if err := json.Unmarshal(value, &r); err != nil {
		return nil, fmt.Errorf("customstore: a record is damaged: %w", err)
	}
	copy(r.Grant.DeviceCode[:], code)
	copy(r.Grant.UserCode[:], r.UserCode)
	copy(r.Grant.Session[:], r.Session)
	return &r.Grant, nil
}
