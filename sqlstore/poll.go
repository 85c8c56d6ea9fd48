package sqlstore

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/devicegrant/devicegrant"
)

// flight is a poll that is to be recorded, by the grant's own client as far as is known.
// Whoever has it has the grant's turn.
type flight struct {
	code     devicegrant.DeviceCodeDigest
	clientID string
	now      time.Time

	again     bool // This process has polled for the client before, with this answer:
	last      devicegrant.Polled
	change    *change // What has to be saved first; nil once it is.
	decisions uint64  // See memory.

	abandoned atomic.Bool   // Nobody waits for the answer any more.
	landed    chan struct{} // Closed when there is an answer, for who waits in line.
	polled    devicegrant.Polled
	err       error
}

// Poll implements devicegrant.Store. A poll that comes too early is answered from memory
// (see [Config.ExactPace]), and polls that come at the same time are recorded by one
// statement. A poll by another client, or of a grant that does not exist, costs a second
// look-up.
func (s *Store) Poll(ctx context.Context, code devicegrant.DeviceCodeDigest, clientID string, now time.Time) (p devicegrant.Polled, err error) {
	err = devicegrant.ErrNotFound
	if isText(clientID) && len(clientID) <= maxName { // No grant is another's.
		p, err = s.pollAs(ctx, code, clientID, now)
	}
	if !errors.Is(err, devicegrant.ErrNotFound) {
		return p, err
	}
	g, err := s.ByDeviceCode(ctx, code)
	if err != nil {
		return devicegrant.Polled{}, err
	}
	return devicegrant.Polled{ID: g.ID, ClientID: g.ClientID, State: g.State, ExpiresAt: g.ExpiresAt, Pace: g.Pace}, nil
}

// pollAs answers a poll by the grant's own client; ErrNotFound means that it is another's.
func (s *Store) pollAs(ctx context.Context, code devicegrant.DeviceCodeDigest, clientID string, now time.Time) (devicegrant.Polled, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	if err := s.turns.wait(ctx, code); err != nil {
		return devicegrant.Polled{}, errOp("poll", err)
	}
	f := &flight{code: code, clientID: clientID, now: instant(now.UnixMicro())}
	if p, ok := s.memory.early(f); ok {
		s.turns.end(code)
		return p, nil
	}
	s.memory.begin(f)
	if s.lanes.enter(f) {
		s.fly(ctx, f)
		s.goOn(ctx)
		return f.polled, f.err
	}
	select {
	case <-f.landed:
		return f.polled, f.err
	case <-ctx.Done():
		f.abandoned.Store(true)
		return devicegrant.Polled{}, errOp("poll", ctx.Err())
	}
}

// fly records a single poll, in a context that ends within the Store's time.
func (s *Store) fly(ctx context.Context, f *flight) {
	f.err = s.writeWithin(ctx, "poll", func(ctx context.Context) error { return s.pollOne(ctx, f) })
	s.land(f)
}

// land ends a flight: whoever waits for it has its answer.
func (s *Store) land(f *flight) {
	f.polled.ClientID = strings.Clone(f.clientID) // It may be part of a whole request.
	s.memory.end(f)
	s.turns.end(f.code)
	if f.landed != nil {
		close(f.landed)
	}
}

func (s *Store) pollOne(ctx context.Context, f *flight) error {
	if f.change != nil {
		if err := s.save(ctx, f.code, f.change); err != nil {
			return err
		}
		f.change = nil // Not to be saved again.
	}
	if f.again && s.queries.pollAgain.text != "" {
		if err := f.read(ctx, s.queries.pollAgain); !errors.Is(err, devicegrant.ErrNotFound) {
			return err
		}
	}
	return f.read(ctx, s.queries.poll)
}

// read records a poll by a statement that takes it alone.
func (f *flight) read(ctx context.Context, q query) error {
	var r polledRow
	err := q.readOne(ctx, []any{f.code[:], f.clientID, f.now.UnixMicro()}, r.columns())
	f.polled = r.read()
	return err
}

// save writes a change of a pace, or, where others have polled meanwhile, what it has made
// of the interval.
func (s *Store) save(ctx context.Context, code devicegrant.DeviceCodeDigest, c *change) error {
	n, err := s.queries.savePace.change(ctx,
		c.after.Interval.Microseconds(), c.after.Last.UnixMicro(), c.after.Repeated,
		code[:], c.before.Interval.Microseconds(), c.before.OnTime.UnixMicro(), c.before.Last.UnixMicro(), c.before.Repeated)
	if err == nil && n == 0 {
		_, err = s.queries.saveInterval.change(ctx, c.after.Interval.Microseconds(), code[:], c.after.Interval.Microseconds())
	}
	if err == nil {
		s.memory.save(code)
	}
	return err
}

// goOn is called by whoever has a lane and needs it no more. Who has come meanwhile is
// served by a goroutine, which ends when nobody is left.
func (s *Store) goOn(ctx context.Context) {
	ctx = context.WithoutCancel(ctx) // It is not for the caller any more.
	if batch := s.lanes.next(s.dialect.atOnce); batch != nil {
		go s.serve(ctx, batch)
	} else if code, ok := s.memory.slowed(); ok {
		go s.share(ctx, code)
	}
}

// serve records those who wait in line, and frees the lane.
func (s *Store) serve(ctx context.Context, batch []*flight) {
	for ; batch != nil; batch = s.lanes.next(s.dialect.atOnce) {
		s.flyAll(ctx, batch)
		runtime.Gosched() // Whoever has just had an answer may have the next poll ready.
		if code, ok := s.memory.slowed(); ok {
			s.share(ctx, code)
		}
	}
}

// flyAll records a batch by as few statements as there can be. Those about which they say
// nothing are recorded one by one.
func (s *Store) flyAll(ctx context.Context, batch []*flight) {
	slices.SortFunc(batch, func(a, b *flight) int { return bytes.Compare(a.code[:], b.code[:]) }) // So that replicas seldom wait for one another.
	var together, alone []*flight
	for _, f := range batch {
		switch {
		case f.abandoned.Load():
			f.err = context.Canceled
			s.land(f)
		case f.change != nil:
			alone = append(alone, f)
		default:
			together = append(together, f)
		}
	}
	for _, q := range []query{s.queries.pollManyAgain, s.queries.pollMany} {
		if q.text != "" && len(together) > 1 {
			together = s.flyTogether(ctx, q, together)
		}
	}
	for _, f := range append(alone, together...) {
		s.flyAlone(ctx, f)
	}
}

func (s *Store) flyAlone(ctx context.Context, f *flight) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	s.fly(ctx, f)
}

// flyTogether records polls of different grants by one statement, and returns those about
// which that says nothing.
func (s *Store) flyTogether(ctx context.Context, q query, flights []*flight) (left []*flight) {
	err := s.write(ctx, "poll", func(ctx context.Context) error {
		known, err := s.look(ctx, flights)
		if err != nil || len(known) == 0 {
			return err
		}
		var r polledRow
		return s.eachOf(ctx, q, known, r.columns(), func(f *flight) { f.polled = r.read() })
	})
	for _, f := range flights {
		f.err = err
		if err == nil && f.polled.State == 0 {
			left = append(left, f)
		} else {
			s.land(f)
		}
	}
	return left
}

// look finds out what pollMany has to know of grants that were not polled here before, and
// returns those of which it is known.
func (s *Store) look(ctx context.Context, flights []*flight) (known []*flight, err error) {
	if s.queries.look.text == "" {
		return flights, nil
	}
	unknown := slices.DeleteFunc(slices.Clone(flights), func(f *flight) bool { return f.again })
	if len(unknown) > 0 {
		var expires, interval int64
		err = s.eachOf(ctx, s.queries.look, unknown, []any{&expires, &interval}, func(f *flight) {
			f.again, f.last.ExpiresAt, f.last.Pace.Interval = true, instant(expires), time.Duration(interval)*time.Microsecond
		})
	}
	return slices.DeleteFunc(slices.Clone(flights), func(f *flight) bool { return !f.again }), err
}

// eachOf runs a statement for flights in the order of their codes, and calls read for each
// of which it returns a row, with the columns that follow the code in dest.
func (s *Store) eachOf(ctx context.Context, q query, flights []*flight, dest []any, read func(*flight)) error {
	var code sql.RawBytes
	dest = append([]any{&code}, dest...)
	return q.each(ctx, s.dialect.pollArgs(flights), func(rows *sql.Rows) error {
		if err := rows.Scan(dest...); err != nil {
			return err
		}
		i, ok := slices.BinarySearchFunc(flights, []byte(code), func(f *flight, code []byte) int { return bytes.Compare(f.code[:], code) })
		if ok {
			read(flights[i])
		}
		return nil
	})
}

// share saves a change of a pace for other replicas to know, unless the grant is being
// polled, by somebody who does.
func (s *Store) share(ctx context.Context, code devicegrant.DeviceCodeDigest) {
	if !s.turns.try(code) {
		return
	}
	defer s.turns.end(code)
	if c := s.memory.change(code); c != nil {
		// If it fails, the next poll tries again.
		_ = s.write(ctx, "save", func(ctx context.Context) error { return s.save(ctx, code, c) })
	}
}

// lanes are the statements that record polls at one time. Who finds none free waits in
// line, and is taken along with all others there by the first lane that gets free.
type lanes struct {
	mu   sync.Mutex
	free int
	line []*flight
}

// enter reports whether there is a free lane, which is the caller's then.
func (l *lanes) enter(f *flight) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.free > 0 {
		l.free--
		return true
	}
	f.landed = make(chan struct{})
	l.line = append(l.line, f)
	return false
}

// next returns the first who wait, at most that many, or frees the lane when nobody does.
func (l *lanes) next(most int) []*flight {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.line) == 0 {
		l.free++
		return nil
	}
	batch := slices.Clone(l.line[:min(most, len(l.line))])
	l.line = slices.Delete(l.line, 0, len(batch))
	return batch
}
