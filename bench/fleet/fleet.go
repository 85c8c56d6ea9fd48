package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// fleet is devices and people at one server, and what has become of them.
type fleet struct {
	options
	pool          *pool
	browsers      *http.Transport
	authorization endpoint
	token         endpoint
	accounts      []account

	began time.Time
	shown chan *login // codes whose person has come

	complete        atomic.Int64           // devices
	begun           atomic.Int64           // logins
	ended           [outcomes]atomic.Int64 // logins
	asking, polling latency
	pages           histogram // from request to answer, redirects included
	deciding        histogram // from when a person came until all was decided
	faults          faults
}

// drainTime is how long devices have, once all codes were entered, to hear of it.
const drainTime = 2 * time.Minute

// newFleet asks the server where its endpoints are.
func newFleet(ctx context.Context, o options) (*fleet, error) {
	f := &fleet{
		options:  o,
		pool:     newPool(o.server.Host, o.connections),
		browsers: newBrowsers(o.server.Host, o.people),
		shown:    make(chan *login, o.devices),
		accounts: newAccounts(),
	}
	var metadata struct {
		Authorization string `json:"device_authorization_endpoint"`
		Token         string `json:"token_endpoint"`
	}
	err := f.discover(ctx, &metadata)
	if err != nil {
		return nil, err
	}
	var errToken error
	f.authorization, err = newEndpoint(o.server, metadata.Authorization)
	f.token, errToken = newEndpoint(o.server, metadata.Token)
	return f, errors.Join(err, errToken)
}

// run has every device sign in again and again, and returns when all logins that were begun
// in time have ended, or ctx has.
func (f *fleet) run(ctx context.Context) (*report, error) {
	ctx, cancel := context.WithTimeout(ctx, f.ramp+f.last+f.wait+drainTime)
	defer cancel()
	defer f.pool.close()
	defer f.browsers.CloseIdleConnections()
	f.began = time.Now()
	first, err := f.sample()
	if err != nil {
		return nil, err
	}
	var devices, others sync.WaitGroup
	for n := range f.devices {
		devices.Go(func() { f.device(ctx, n, f.began.Add(f.ramp*time.Duration(n)/time.Duration(f.devices))) })
	}
	for n := range f.people {
		others.Go(func() { f.person(ctx, n, f.accounts[n%len(f.accounts)]) })
	}
	var full window
	others.Go(func() { full = f.watch(ctx) })
	devices.Wait()
	close(f.shown)
	others.Wait()
	last, err := f.sample()
	return f.report(window{first, last}, full), err
}

// sample is what has been done and used until a moment.
type sample struct {
	at           time.Time
	polls        int64 // that were answered
	server, self usage // zero without -pid
}

// window is what lies between two of them.
type window struct{ from, to sample }

func (f *fleet) sample() (s sample, err error) {
	s = sample{at: time.Now(), polls: int64(f.polling.sent.count())} //nolint:gosec // They are not that many.
	if f.pid == 0 {
		return s, nil
	}
	s.self, err = usageOf(os.Getpid())
	var serverErr error
	s.server, serverErr = usageOf(f.pid)
	return s, errors.Join(err, serverErr)
}

// watch returns the window in which all devices take part; zero if it was cut short.
func (f *fleet) watch(ctx context.Context) window {
	timer := time.NewTimer(0)
	if !sleep(ctx, timer, f.began.Add(f.ramp)) {
		return window{}
	}
	from, err := f.sample()
	if !sleep(ctx, timer, f.ends()) {
		return window{}
	}
	to, errTo := f.sample()
	if errors.Join(err, errTo) != nil {
		return window{} // The process is gone, as the end will tell.
	}
	return window{from, to}
}

// ends is when no device begins another login.
func (f *fleet) ends() time.Time { return f.began.Add(f.ramp + f.last) }

// sleep waits until a time, and reports false if ctx ended before.
func sleep(ctx context.Context, timer *time.Timer, until time.Time) bool {
	timer.Reset(time.Until(until))
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// faults counts what no client should see, by kind.
type faults struct {
	mu     sync.Mutex
	counts map[string]int
}

// maxKinds bounds the kinds that are told apart: some are in the server's words.
const maxKinds = 50

// fault counts one, unless it came because everything has ended.
func (f *fleet) fault(ctx context.Context, format string, args ...any) {
	if ctx.Err() != nil {
		return
	}
	kind := fmt.Sprintf(format, args...)
	f.faults.mu.Lock()
	defer f.faults.mu.Unlock()
	if f.faults.counts == nil {
		f.faults.counts = map[string]int{}
	}
	if _, known := f.faults.counts[kind]; !known && len(f.faults.counts) >= maxKinds {
		kind = "others"
	}
	f.faults.counts[kind]++
}

// discover reads the server's metadata (RFC 8414).
func (f *fleet) discover(ctx context.Context, metadata any) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, f.server.String()+"/.well-known/oauth-authorization-server", nil)
	if err != nil {
		return err
	}
	resp, err := newBrowser(f.browsers).Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxBody)).Decode(metadata); err != nil {
		return fmt.Errorf("the server's metadata, %s: %w", resp.Status, err)
	}
	return nil
}
