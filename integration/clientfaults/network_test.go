package clientfaults

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/devicegrant/devicegrant"
)

// fate is what becomes of a request.
type fate int

const (
	arrives     fate = iota
	refused          // Nothing listens.
	badGateway       // A proxy answers, and the server is not asked.
	requestLost      // The client waits in vain.
	answerLost       // The same, but the server has answered, and does not know that it was in vain.
	requestCut       // The connection breaks.
	answerCut        // The same while the server answers, which it notices.
	copied           // It arrives a second time, a moment earlier.
)

// request is what a fate depends on.
type request struct {
	since time.Duration // since the device has its codes
	again bool          // It is the second of two that are one poll: x/oauth2 looks for the right authentication.
}

// network brings the requests of one login to its host. Faults are for polls: whoever
// asks for codes sees an error, and presses the button again.
type network struct {
	t    *testing.T
	host *host
	rng  *rand.Rand
	plan plan

	began  time.Time // when the device had its codes
	sent   time.Time // the last poll
	probed bool      // The last request was the first of two that are a poll.
	down   bool      // The server is.
	tally  tally
}

// tally is what was seen of a login's polls.
type tally struct {
	Polls, Copies int
	SlowDowns     int // counted as Faults are; a copy provokes one
	Early         int // sooner after the last than the answers allow
	Disturbed     int // requests with which something went wrong, and restarts of the device
	Faults        int // those that a client has to bear: of two that are one poll, x/oauth2 goes by the second
	Lost          int // tokens that were made and did not arrive
}

// RoundTrip implements http.RoundTripper.
func (n *network) RoundTrip(r *http.Request) (*http.Response, error) {
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	require.NoError(n.t, err)
	if r.URL.Path != tokenPath {
		return n.deliver(r, body, false)
	}
	_, _, probes := r.BasicAuth()
	q := request{since: time.Since(n.began), again: n.probed && !probes}
	n.probed = probes
	if !q.again {
		n.polled(time.Now())
	}
	if n.plan.clock != nil {
		n.host.wrong = n.plan.clock(q.since)
	}
	f := n.plan.fate(q)
	n.disturbed(f)
	if n.down && f != refused {
		n.host.restart(n.t)
	}
	n.down = f == refused
	return n.meet(f, r, body)
}

func (n *network) polled(now time.Time) {
	n.tally.Polls++
	least := interval + time.Duration(n.tally.SlowDowns)*devicegrant.SlowDownStep
	if !n.sent.IsZero() && now.Sub(n.sent) < least {
		n.tally.Early++
	}
	n.sent = now
}

// disturbed counts what goes wrong with a request.
func (n *network) disturbed(f fate) {
	if f != arrives || n.host.wrong != 0 {
		n.tally.Disturbed++
	}
	if f != arrives && f != copied && !n.probed {
		n.tally.Faults++
	}
}

// meet has a request meet its fate.
func (n *network) meet(f fate, r *http.Request, body []byte) (*http.Response, error) {
	switch f {
	case refused:
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	case badGateway:
		return answer(r, http.StatusBadGateway, "text/html", "<html><title>502 Bad Gateway</title></html>"), nil
	case requestLost:
		return nil, n.hang(r.Context())
	case answerLost:
		resp, err := n.deliver(r, body, false)
		if err == nil && resp.StatusCode == http.StatusOK {
			n.tally.Lost++
		}
		return nil, errors.Join(n.hang(r.Context()), err)
	case requestCut:
		return nil, errReset
	case answerCut:
		_, err := n.deliver(r, body, true)
		return nil, errors.Join(errReset, err)
	case copied:
		n.tally.Copies++
		if _, err := n.deliver(r, body, false); err != nil {
			return nil, err
		}
		time.Sleep(300 * time.Millisecond) // More than two that are one poll are apart.
	case arrives:
	}
	return n.deliver(r, body, false)
}

var errReset = &net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET}

// hang waits for the client to give up, which it has to.
func (n *network) hang(ctx context.Context) error {
	_, bounded := ctx.Deadline()
	require.True(n.t, bounded, "a client that waits for ever")
	<-ctx.Done()
	return ctx.Err()
}

// deliver brings a request to the server and the answer back, both after a while.
func (n *network) deliver(r *http.Request, body []byte, cut bool) (*http.Response, error) {
	if err := n.travel(r.Context()); err != nil {
		return nil, err
	}
	received := r.Clone(r.Context())
	received.Body = io.NopCloser(bytes.NewReader(body))
	received.RequestURI, received.RemoteAddr = r.URL.RequestURI(), "192.0.2.1:1234"
	w := answerWriter{httptest.NewRecorder(), cut}
	n.host.ServeHTTP(w, received)
	if !n.probed && strings.Contains(w.Body.String(), devicegrant.ErrSlowDown.Code) {
		n.tally.SlowDowns++
	}
	if err := n.travel(r.Context()); err != nil {
		return nil, err
	}
	resp := w.Result()
	resp.Request = r
	return resp, nil
}

// travel takes less than half of what two requests that are one poll may be apart.
func (n *network) travel(ctx context.Context) error {
	arrival := time.NewTimer(between(n.rng, 5*time.Millisecond, 50*time.Millisecond))
	defer arrival.Stop()
	select {
	case <-arrival.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// answerWriter is the server's end of a connection.
type answerWriter struct {
	*httptest.ResponseRecorder
	cut bool
}

// FlushError is what http.ResponseController calls.
func (w answerWriter) FlushError() error {
	if w.cut {
		return errReset
	}
	return nil
}

func answer(r *http.Request, status int, contentType, body string) *http.Response {
	w := httptest.NewRecorder()
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(status)
	_, _ = w.WriteString(body)
	resp := w.Result()
	resp.Request = r
	return resp
}
