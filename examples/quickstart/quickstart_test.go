package main

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/devicegrant/devicegrant/examples/internal/browser"
)

const origin = "http://127.0.0.1:8080"

// screenOf is what a device shows, and a way to wait for it.
type screenOf struct {
	t     testing.TB
	lines *bufio.Scanner
	done  chan error
}

// start runs a device in the background.
func start(t testing.TB, device func(out io.Writer) error) *screenOf {
	r, w := io.Pipe()
	s := &screenOf{t: t, lines: bufio.NewScanner(r), done: make(chan error, 1)}
	go func() {
		s.done <- device(w)
		w.Close()
	}()
	return s
}

// link waits for the device to show what it has to, and returns the link on it.
func (s *screenOf) link() (link string) {
	s.t.Helper()
	shown := s.until("Waiting for your decision")
	require.Contains(s.t, shown, "alice / wonderland")
	link = regexp.MustCompile(`http://\S+user_code=\S+`).FindString(shown)
	require.NotEmpty(s.t, link)
	_, code, _ := strings.Cut(link, "=")
	require.Contains(s.t, shown, "enter the code     "+code)
	return link
}

func (s *screenOf) until(text string) string {
	s.t.Helper()
	var shown strings.Builder
	for s.lines.Scan() {
		shown.WriteString(s.lines.Text() + "\n")
		if strings.Contains(s.lines.Text(), text) {
			return shown.String()
		}
	}
	require.Fail(s.t, "never shown: "+text, shown.String())
	return ""
}

// end waits for the device to end, and returns the rest of what it showed.
func (s *screenOf) end() (rest string, err error) {
	for s.lines.Scan() {
		rest += s.lines.Text() + "\n"
	}
	return rest, <-s.done
}

// decide signs in as alice, coming from the link, and presses a button.
func decide(t testing.TB, b *browser.Browser, link, button string) {
	b.Open(link)
	require.Equal(t, "/login", b.URL.Path)
	b.Submit("", map[string]string{"username": "alice", "password": "wonderland"})
	require.Equal(t, "/device", b.URL.Path)
	require.Contains(t, b.Text, "Living-room TV")
	b.Submit(button, nil)
	require.Equal(t, http.StatusOK, b.Status)
}

// inBubble starts a device against the quickstart's server, without a network.
func inBubble(ctx context.Context, t testing.TB) (*screenOf, http.RoundTripper) {
	server, err := newServer(origin)
	require.NoError(t, err)
	transport := browser.Handler{Handler: server}
	return start(t, func(out io.Writer) error {
		return signIn(ctx, out, &http.Client{Transport: transport}, origin)
	}), transport
}

func TestApproved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		screen, transport := inBubble(t.Context(), t)
		decide(t, browser.New(t, transport), screen.link(), "approve")
		rest, err := screen.end()
		require.NoError(t, err)
		assert.Contains(t, rest, "Approved: the device is signed in as Alice (alice).")
	})
}

// TestStolenDeviceCode: who has seen the device code, and not its verifier, gets nothing
// for it, and does the device no harm.
func TestStolenDeviceCode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, err := newServer(origin)
		require.NoError(t, err)
		transport := browser.Handler{Handler: server}
		polls := make(chan string, 10)
		watched := transportFunc(func(r *http.Request) (*http.Response, error) {
			if r.URL.Path == "/token" {
				form, err := io.ReadAll(r.Body)
				require.NoError(t, err)
				polls <- string(form)
				r.Body = io.NopCloser(bytes.NewReader(form))
			}
			return transport.RoundTrip(r)
		})
		screen := start(t, func(out io.Writer) error { return signIn(t.Context(), out, &http.Client{Transport: watched}, origin) })
		link := screen.link()
		form, err := url.ParseQuery(<-polls)
		require.NoError(t, err)
		require.NotEmpty(t, form.Get("device_code"))
		form.Del("code_verifier")
		decide(t, browser.New(t, transport), link, "approve")
		resp, err := (&http.Client{Transport: transport}).PostForm(origin+"/token", form)
		require.NoError(t, err)
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		assert.Contains(t, string(body), "invalid_grant")

		rest, err := screen.end()
		require.NoError(t, err)
		assert.Contains(t, rest, "Approved")
	})
}

func TestDenied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		screen, transport := inBubble(t.Context(), t)
		decide(t, browser.New(t, transport), screen.link(), "deny")
		rest, err := screen.end()
		require.ErrorIs(t, err, errDenied)
		assert.NotContains(t, rest, "Approved")
	})
}

func TestExpired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		screen, _ := inBubble(t.Context(), t)
		screen.link()
		_, err := screen.end()
		require.ErrorIs(t, err, errExpired)
		assert.GreaterOrEqual(t, time.Since(began), 15*time.Minute)
	})
}

func TestStoppedWhileWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		screen, _ := inBubble(ctx, t)
		screen.link()
		stop()
		_, err := screen.end()
		require.ErrorIs(t, err, errStopped)
	})
}

// TestRun goes through the network, as the command does.
func TestRun(t *testing.T) {
	screen := start(t, func(out io.Writer) error { return run(t.Context(), out, "127.0.0.1:0") })
	b := browser.New(t, &http.Transport{})
	defer b.Close()
	decide(t, b, screen.link(), "approve")
	rest, err := screen.end()
	require.NoError(t, err)
	assert.Contains(t, rest, "signed in as Alice")
}

func TestRunStopped(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	screen := start(t, func(out io.Writer) error { return run(ctx, out, "127.0.0.1:0") })
	link := screen.link()
	stop()
	_, err := screen.end()
	require.ErrorIs(t, err, errStopped)
	_, err = http.Get(link)
	require.Error(t, err, "the server is still there")
}

func TestRunPortInUse(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	err = run(t.Context(), io.Discard, taken.Addr().String())
	require.EqualError(t, err, taken.Addr().String()+" is in use by another program; choose another address with -addr")
}

func TestRunRefusesHTTPElsewhere(t *testing.T) {
	_, err := newServer("http://192.0.2.1:8080")
	require.ErrorContains(t, err, "VerificationURI")
}

// transportFunc is a server in one function.
type transportFunc func(*http.Request) (*http.Response, error)

func (f transportFunc) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestColorsOnlyOnTerminals(t *testing.T) {
	assert.False(t, isTerminal(new(bytes.Buffer)))
}
