package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// report1 is what one device, whose person comes at once, makes of a server, and the error
// of the program.
func report1(t *testing.T, ctx context.Context, s *stub, more ...string) (r report, err error) { //nolint:revive // It is the test's.
	t.Helper()
	var stdout bytes.Buffer
	err = run(ctx, append([]string{
		"-server", s.URL, "-devices", "1", "-people", "1", "-ramp", "1ms", "-for", "1ms", "-wait", "1ms", "-deny", "0", "-json",
	}, more...), &stdout, io.Discard)
	require.NoError(t, json.Unmarshal(stdout.Bytes(), &r), stdout.String())
	return r, err
}

// TestServer has a small fleet sign in at a real server.
func TestServer(t *testing.T) {
	t.Parallel()
	origin, pid := startServer(t, "-interval", "1s", "-trusted-proxies", "127.0.0.0/8")
	args := []string{"-server", origin, "-devices", "50", "-people", "5", "-ramp", "1s", "-for", "3s", "-wait", "3s", "-deny", "0.3", "-json"}
	if runtime.GOOS == "linux" {
		args = append(args, "-pid", strconv.Itoa(pid))
	}
	var stdout, stderr bytes.Buffer
	require.NoError(t, run(t.Context(), args, &stdout, &stderr), stdout.String())
	assert.Empty(t, stderr.String())
	var r report
	require.NoError(t, json.Unmarshal(stdout.Bytes(), &r))
	assert.EqualValues(t, 50, r.Complete)
	assert.Empty(t, r.Errors)
	assert.Greater(t, r.Begun, int64(50), "devices start again")
	assert.Equal(t, r.Begun, r.Redeemed+r.Denied)
	assert.Positive(t, r.Redeemed)
	assert.Positive(t, r.Denied)
	assert.Zero(t, r.Unfinished)
	assert.Greater(t, r.Polls, r.Begun)
	assert.Positive(t, r.PollsPerSecond)
	require.Len(t, r.Latencies, 6)
	assert.EqualValues(t, r.Polls, r.Latencies[0].Count)
	assert.EqualValues(t, r.Polls, r.Latencies[1].Count)
	assert.EqualValues(t, r.Begun, r.Latencies[2].Count)
	assert.EqualValues(t, r.Begun, r.Latencies[5].Count)
	assert.GreaterOrEqual(t, r.Latencies[0].Max, r.Latencies[1].Max)
	if runtime.GOOS == "linux" {
		assert.Positive(t, r.Server.PeakRSS)
		assert.Positive(t, r.Generator.PeakRSS)
	}
}

// What a server does to one device, and what is reported.
func TestOneDevice(t *testing.T) {
	for name, tt := range map[string]struct {
		server func(*stub)
		polls  []answer
		args   []string
		errors map[string]int
		want   report // of the logins
	}{
		"all is well":         {polls: []answer{tokens}, want: report{Complete: 1, Redeemed: 1}},
		"denied":              {polls: []answer{refused}, args: []string{"-deny", "1"}, want: report{Complete: 1, Denied: 1}},
		"nobody comes":        {polls: []answer{tooLate}, args: []string{"-wait", "24h"}, want: report{Expired: 1}},
		"approvals are lost":  {polls: []answer{pending, tooLate}, errors: map[string]int{"poll: authorization_pending after the decision": 1, `poll: 400 "expired_token"`: 1}, want: report{Faulty: 1}},
		"allowed by nobody":   {polls: []answer{tokens}, args: []string{"-wait", "24h"}, errors: map[string]int{"poll: a decision that nobody made": 1}, want: report{Faulty: 1}},
		"denied by nobody":    {polls: []answer{refused}, args: []string{"-wait", "24h"}, errors: map[string]int{"poll: a decision that nobody made": 1}, want: report{Faulty: 1}},
		"denied, not allowed": {polls: []answer{refused}, errors: map[string]int{"poll: the opposite of what was decided": 1}, want: report{Faulty: 1}},
		"allowed, not denied": {polls: []answer{tokens}, args: []string{"-deny", "1"}, errors: map[string]int{"poll: the opposite of what was decided": 1}, want: report{Faulty: 1}},
		"unknown":             {polls: []answer{unknown}, errors: map[string]int{`poll: 400 "invalid_grant"`: 1}, want: report{Faulty: 1}},
		"a page for tokens":   {polls: []answer{page}, errors: map[string]int{`poll: 200 ""`: 1}, want: report{Faulty: 1}},
		"broken for a moment": {polls: []answer{broken, tokens}, errors: map[string]int{`poll: 500 ""`: 1}, want: report{Complete: 1, Redeemed: 1}},
		"busy for a moment":   {polls: []answer{busy, tokens}, errors: map[string]int{`poll: 429 "too_many_requests"`: 1}, want: report{Complete: 1, Redeemed: 1}},
		"gone for a moment":   {polls: []answer{silent, tokens}, errors: map[string]int{"poll: connection broken": 1}, want: report{Complete: 1, Redeemed: 1}},
		"impatient":           {polls: []answer{slowDown, tokens}, errors: map[string]int{"poll: slow_down for a device that kept to its interval": 1}, want: report{Complete: 1, Redeemed: 1}},
		"no codes":            {server: func(s *stub) { s.authorize = busy }, errors: map[string]int{`device authorization: 429 "too_many_requests"`: 1}, want: report{Faulty: 1}},
		"no code in it":       {server: func(s *stub) { s.authorize = page }, errors: map[string]int{`device authorization: 200 ""`: 1}, want: report{Faulty: 1}},
		"no answer":           {server: func(s *stub) { s.authorize = silent }, errors: map[string]int{"device authorization: connection broken": 1}, want: report{Faulty: 1}},
		"a page fails":        {server: func(s *stub) { s.decide = broken }, polls: []answer{pending, pending, pending, tooLate}, errors: map[string]int{"page: decision: status 500": 3}, want: report{Expired: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStub(t, tt.polls...)
			if tt.server != nil {
				tt.server(s)
			}
			r, err := report1(t, t.Context(), s, tt.args...)
			assert.Equal(t, tt.errors, r.Errors)
			assert.Equal(t, tt.want, report{Complete: r.Complete, Redeemed: r.Redeemed, Denied: r.Denied, Expired: r.Expired, Faulty: r.Faulty})
			assert.EqualValues(t, 1, r.Begun)
			assert.Zero(t, r.Unfinished)
			assert.Equal(t, tt.errors == nil && tt.want.Complete == 1, err == nil)
			for i := 1; i < len(s.polled); i++ {
				least := time.Second
				if tt.polls[min(i, len(tt.polls))-1] == slowDown {
					least += 5 * time.Second // RFC 8628 section 3.5.
				}
				assert.GreaterOrEqual(t, s.polled[i].Sub(s.polled[i-1]), least-drift)
			}
		})
	}
}

// A server that answers a code's polls for ever is one that does not end a login.
func TestNeverExpires(t *testing.T) {
	s := newStub(t, pending)
	o, err := parseOptions([]string{"-server", s.URL}, io.Discard)
	require.NoError(t, err)
	f, err := newFleet(t.Context(), o)
	require.NoError(t, err)
	defer f.browsers.CloseIdleConnections()
	defer f.pool.close()
	l := &login{request: f.token.request(address(0), map[string][]string{"device_code": {"secret"}, "client_id": {clientID}})}
	l.expires = time.Now().Add(time.Minute - maxOverrun)
	assert.Equal(t, goesOn, f.poll(t.Context(), l, time.Now()))
	l.expires = time.Now().Add(-time.Minute - maxOverrun)
	assert.Equal(t, faulty, f.poll(t.Context(), l, time.Now()))
	assert.Len(t, f.faults.all(), 1)
}

// People who are too far behind leave codes alone that nobody waits for any more.
func TestPeopleBehind(t *testing.T) {
	s := newStub(t, pending)
	o, err := parseOptions([]string{"-server", s.URL, "-devices", "1"}, io.Discard)
	require.NoError(t, err)
	f, err := newFleet(t.Context(), o)
	require.NoError(t, err)
	defer f.browsers.CloseIdleConnections()
	l := &login{verificationURI: s.URL + "/device", expires: time.Now().Add(-time.Second)}
	f.show(l)
	f.show(l)
	close(f.shown)
	f.person(t.Context(), 0, f.accounts[0])
	assert.Empty(t, f.shown)
	assert.EqualValues(t, undecided, l.decision.Load())
	assert.Empty(t, f.faults.all())
}

// No account has more codes looked up at once than the server admits.
func TestEnteredAtOnce(t *testing.T) {
	who := newAccounts()[0]
	var seen atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen.Add(int64(len(who.entering)))
		if r.Method == http.MethodGet {
			_, _ = io.WriteString(w, `<form method="post" action="/device">`)
		} else if r.FormValue("username") == "" {
			_, _ = io.WriteString(w, `<form method="post" action="/login"><input name="password">`)
		}
	}))
	defer server.Close()
	u, err := loopback(server.URL)
	require.NoError(t, err)
	browsers := newBrowsers(u.Host, 1)
	defer browsers.CloseIdleConnections()
	b := &browser{f: new(fleet), client: newBrowser(browsers)}
	require.NoError(t, b.open(t.Context(), server.URL))
	_, err = b.enter(t.Context(), who, "code")
	require.NoError(t, err)
	assert.EqualValues(t, 2, seen.Load(), "one at the code, and one at the login")
	for range enteredAtOnce {
		who.entering <- struct{}{}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = b.enter(ctx, who, "code")
	assert.ErrorIs(t, err, context.Canceled)
	assert.EqualValues(t, 3, b.f.pages.count())
}

// The kinds of errors are bounded, whatever a server sends.
func TestFaultsAreBounded(t *testing.T) {
	f := new(fleet)
	for i := range 2 * maxKinds {
		f.fault(t.Context(), "%d", i)
	}
	assert.Len(t, f.faults.all(), maxKinds+1)
	assert.Equal(t, maxKinds, f.faults.all()["others"])
}

// Who is interrupted reports what there is.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	s := newStub(t, pending)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-s.reached
		cancel()
	}()
	r, err := report1(t, ctx, s, "-wait", "24h", "-for", "24h")
	assert.ErrorIs(t, err, errBad)
	assert.Empty(t, r.Errors)
	assert.EqualValues(t, 1, r.Begun)
	assert.EqualValues(t, 1, r.Unfinished)
	assert.Zero(t, r.Complete)
}

// The time for which a request waited here is in one latency and not in the other.
func TestLatency(t *testing.T) {
	s := newStub(t, pending)
	u, err := loopback(s.URL)
	require.NoError(t, err)
	e, err := newEndpoint(u, s.URL+"/token")
	require.NoError(t, err)
	p := newPool(u.Host, 1)
	defer p.close()
	var l latency
	var a pollAnswer
	status, err := p.post(t.Context(), e.request(address(1), nil), time.Now().Add(-time.Hour), &l, &a)
	require.NoError(t, err)
	assert.Equal(t, http.StatusBadRequest, status)
	assert.Equal(t, "invalid_grant", a.Error)
	assert.GreaterOrEqual(t, l.due.max(), time.Hour)
	assert.Less(t, l.sent.max(), time.Hour)
}

// Connections are used again, and there are never more than there may be.
func TestPool(t *testing.T) {
	var opened atomic.Int64
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			opened.Add(1)
		}
	}
	server.Start()
	defer server.Close()
	u, err := loopback(server.URL)
	require.NoError(t, err)
	e, err := newEndpoint(u, server.URL+"/token")
	require.NoError(t, err)
	p := newPool(u.Host, 3)
	defer p.close()
	var l latency
	var posting sync.WaitGroup
	for range 10 {
		posting.Go(func() {
			for range 10 {
				var a pollAnswer
				status, err := p.post(t.Context(), e.request(address(1), nil), time.Now(), &l, &a)
				assert.NoError(t, err)
				assert.Equal(t, http.StatusNotFound, status)
			}
		})
	}
	posting.Wait()
	assert.EqualValues(t, 100, l.sent.count())
	before := opened.Load()
	assert.LessOrEqual(t, before, int64(3))
	for _, c := range p.idle {
		c.used = time.Now().Add(-idleTime) // The server may have closed it.
	}
	_, err = p.post(t.Context(), e.request(address(1), nil), time.Now(), &l, new(pollAnswer))
	require.NoError(t, err)
	assert.Equal(t, before+1, opened.Load())
	assert.Len(t, p.idle, 1)
}

func TestUsageErrors(t *testing.T) {
	for _, args := range [][]string{
		{"-server", "http://192.0.2.1:8080"},
		{"-server", "http://localhost.example.com:8080"},
		{"-server", "https://127.0.0.1:8080"},
		{"-server", "http://127.0.0.1"},
		{"-server", "http://127.0.0.1:8080/path"},
		{"-server", "http://user@127.0.0.1:8080"},
		{"-server", "127.0.0.1:8080"},
		{"-server", "http://127.0.0.1:8080", "more"},
		{"-devices", "0"},
		{"-devices", "1000001"},
		{"-people", "0"},
		{"-connections", "-1"},
		{"-ramp", "0s"},
		{"-for", "-1s"},
		{"-wait", "25h"},
		{"-deny", "1.1"},
		{"-deny", "NaN"},
		{"-pid", "-1"},
	} {
		_, err := parseOptions(args, io.Discard)
		assert.Error(t, err, args)
	}
	_, err := parseOptions([]string{"-nonsense"}, io.Discard)
	assert.ErrorIs(t, err, errUsage)
	_, err = parseOptions([]string{"-h"}, io.Discard)
	assert.ErrorIs(t, err, flag.ErrHelp)
	o, err := parseOptions([]string{"-server", "http://[::1]:8080/"}, io.Discard)
	require.NoError(t, err)
	assert.Equal(t, "http://[::1]:8080", o.server.String())
}

// Metadata does not lead elsewhere.
func TestEndpointElsewhere(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"device_authorization_endpoint":"http://192.0.2.1/codes","token_endpoint":"http://192.0.2.1/token"}`)
	}))
	defer server.Close()
	err := run(t.Context(), []string{"-server", server.URL}, io.Discard, io.Discard)
	assert.ErrorContains(t, err, "http://192.0.2.1/token")
}
