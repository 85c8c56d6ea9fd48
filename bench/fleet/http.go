package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	requestTime = 15 * time.Second // for an answer; what a device waits for
	idleTime    = 20 * time.Second // after which a connection is not trusted any more
	maxBody     = 256 << 10        // bytes of an answer
	formType    = "application/x-www-form-urlencoded"
)

// loopback returns the server's URL without a path, if it is on this computer: this is a
// flood to any other.
func loopback(server string) (*url.URL, error) {
	u, err := url.Parse(server)
	if err != nil || u.Scheme != "http" || u.Host == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.User != nil {
		return nil, fmt.Errorf("-server is %q; it must be http://HOST:PORT", server)
	}
	ip, err := netip.ParseAddr(u.Hostname())
	if err != nil || !ip.IsLoopback() || u.Port() == "" {
		return nil, fmt.Errorf("-server is %q; it must be a loopback address with a port, such as http://127.0.0.1:8080", server)
	}
	return &url.URL{Scheme: u.Scheme, Host: u.Host}, nil
}

// endpoint is where devices post to.
type endpoint struct{ head string }

// newEndpoint takes a URL of the server's metadata, which must not lead elsewhere.
func newEndpoint(server *url.URL, uri string) (endpoint, error) {
	u, err := url.Parse(uri)
	if err != nil || u.Scheme != server.Scheme || u.Host != server.Host {
		return endpoint{}, fmt.Errorf("the endpoint %q is not at %s", uri, server)
	}
	return endpoint{"POST " + u.RequestURI() + " HTTP/1.1\r\nHost: " + u.Host + "\r\nContent-Type: " + formType + "\r\n"}, nil
}

// request is what is written to post a form from an address.
func (e endpoint) request(addr string, form url.Values) []byte {
	body := form.Encode()
	return fmt.Appendf(nil, "%sX-Forwarded-For: %s\r\nContent-Length: %d\r\n\r\n%s", e.head, addr, len(body), body)
}

// address is that of the n-th device or person. A server that trusts this computer as a
// proxy takes each for another one; by any other, all are limited as one address.
func address(n int) string {
	return netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)}).String() //nolint:gosec // They are its bytes.
}

const firstPerson = 1 << 23 // beyond all devices

// latency is how long requests of one kind took: from when they were sent, and from when
// they were due, so that the time for which they waited in this program shows, and is not
// taken for the server's (coordinated omission).
type latency struct{ sent, due histogram }

// pool is the connections that all devices share, as through a load balancer. The one that
// was used last is used next.
type pool struct {
	addr  string
	slots chan struct{} // one for each connection that is in use
	mu    sync.Mutex
	idle  []*conn
}

// conn is one of them. What it reads is kept until the next request.
type conn struct {
	conn net.Conn
	in   *bufio.Reader
	body bytes.Buffer
	used time.Time
	stop func() bool
}

func newPool(addr string, connections int) *pool {
	return &pool{addr: addr, slots: make(chan struct{}, connections)}
}

// post sends a request, which was due at a time, and reads what JSON is in the answer. It is
// cut off when ctx ends, which must be the same for all.
func (p *pool) post(ctx context.Context, request []byte, due time.Time, l *latency, answer any) (status int, err error) {
	c, err := p.take(ctx)
	if err != nil {
		return 0, err
	}
	sent := time.Now()
	status, reusable, err := c.ask(request, sent)
	c.used = time.Now()
	if err == nil {
		l.sent.add(c.used.Sub(sent))
		l.due.add(c.used.Sub(due))
		_ = json.Unmarshal(c.body.Bytes(), answer) // What is no JSON says nothing.
	}
	p.give(c, reusable)
	return status, err
}

// take waits for a connection.
func (p *pool) take(ctx context.Context) (*conn, error) {
	select {
	case p.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	for c := p.pop(); c != nil; c = p.pop() {
		if time.Since(c.used) < idleTime {
			return c, nil
		}
		c.close()
	}
	dialer := net.Dialer{Timeout: requestTime}
	opened, err := dialer.DialContext(ctx, "tcp", p.addr)
	if err != nil {
		<-p.slots
		return nil, err
	}
	c := &conn{conn: opened, in: bufio.NewReader(opened)}
	c.stop = context.AfterFunc(ctx, func() { _ = opened.Close() }) // Whoever reads is told.
	return c, nil
}

func (p *pool) pop() *conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.idle) == 0 {
		return nil
	}
	last := len(p.idle) - 1
	c := p.idle[last]
	p.idle = p.idle[:last]
	return c
}

func (p *pool) give(c *conn, reusable bool) {
	if reusable {
		p.mu.Lock()
		p.idle = append(p.idle, c)
		p.mu.Unlock()
	} else {
		c.close()
	}
	<-p.slots
}

// close closes what is idle.
func (p *pool) close() {
	for c := p.pop(); c != nil; c = p.pop() {
		c.close()
	}
}

func (c *conn) close() {
	c.stop()
	_ = c.conn.Close() // What was read is read.
}

// ask sends a request and reads the answer into the body.
func (c *conn) ask(request []byte, now time.Time) (status int, reusable bool, err error) {
	if err := c.conn.SetDeadline(now.Add(requestTime)); err != nil {
		return 0, false, err
	}
	if _, err := c.conn.Write(request); err != nil {
		return 0, false, err
	}
	resp, err := http.ReadResponse(c.in, nil)
	if err != nil {
		return 0, false, err
	}
	defer resp.Body.Close()
	c.body.Reset()
	if n, err := c.body.ReadFrom(io.LimitReader(resp.Body, maxBody)); err != nil || n == maxBody {
		return 0, false, errors.Join(err, errUnreadable)
	}
	return resp.StatusCode, !resp.Close, nil
}

var errUnreadable = errors.New("unreadable answer")

// kindOf names what went wrong with a request, in one of few ways.
func kindOf(err error) string {
	var timeout net.Error
	switch {
	case errors.Is(err, errUnreadable):
		return errUnreadable.Error()
	case errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return "no answer in time"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	default:
		return "connection broken"
	}
}
