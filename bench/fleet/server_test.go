package main

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// startServer runs examples/authserver until the end of the test, and returns its URL and
// its process.
func startServer(t *testing.T, args ...string) (origin string, pid int) {
	t.Helper()
	program := filepath.Join(t.TempDir(), "authserver")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", program, "./authserver")
	build.Dir = filepath.Join("..", "..", "examples")
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)
	server := exec.Command(program, append([]string{"-addr", "127.0.0.1:0"}, args...)...) // t.Context ends too early for it to end well.
	server.Stderr = io.Discard
	stdout, err := server.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, server.Start())
	t.Cleanup(func() {
		assert.NoError(t, server.Process.Signal(syscall.SIGTERM))
		assert.NoError(t, server.Wait())
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	require.NoError(t, err)
	return strings.TrimSpace(strings.TrimPrefix(line, "listening on ")), server.Process.Pid
}

// stub is a server with one login, which does as a test says.
type stub struct {
	*httptest.Server
	// What it answers: to requests for codes; to each poll in turn, and the last of these for
	// ever; and to a decision. A status of zero answers nothing.
	authorize answer
	polls     []answer
	decide    answer

	mu      sync.Mutex
	polled  []time.Time
	reached chan struct{} // closed by the first poll
}

type answer struct {
	status int
	body   string
}

var (
	authorized = answer{http.StatusOK, `{"device_code":"secret","user_code":"WDJB-MJHT","verification_uri":"%s/device","expires_in":600,"interval":1}`}
	pending    = answer{http.StatusBadRequest, `{"error":"authorization_pending"}`}
	slowDown   = answer{http.StatusBadRequest, `{"error":"slow_down"}`}
	refused    = answer{http.StatusBadRequest, `{"error":"access_denied"}`}
	tooLate    = answer{http.StatusBadRequest, `{"error":"expired_token"}`}
	unknown    = answer{http.StatusBadRequest, `{"error":"invalid_grant"}`}
	tokens     = answer{http.StatusOK, `{"access_token":"secret","token_type":"Bearer"}`}
	broken     = answer{http.StatusInternalServerError, `<h1>Oops</h1>`}
	busy       = answer{http.StatusTooManyRequests, `{"error":"too_many_requests"}`}
	silent     = answer{}
	page       = answer{http.StatusOK, `<h1>Device connected</h1>`}
)

// newStub returns a server that answers polls so, and all else as it should.
func newStub(t *testing.T, polls ...answer) *stub {
	s := &stub{authorize: authorized, polls: polls, decide: page, reached: make(chan struct{})}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/oauth-authorization-server", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"device_authorization_endpoint":"%[1]s/codes","token_endpoint":"%[1]s/token"}`, s.URL)
	})
	mux.HandleFunc("POST /codes", func(w http.ResponseWriter, r *http.Request) {
		a := s.authorize
		if r.Header.Get("X-Forwarded-For") != "10.0.0.0" {
			a = unknown
		}
		a.body = strings.ReplaceAll(a.body, "%s", s.URL)
		a.write(w)
	})
	mux.HandleFunc("POST /token", func(w http.ResponseWriter, r *http.Request) { s.poll(r).write(w) })
	mux.HandleFunc("GET /device", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `<form method="post" action="/device"><input name="user_code"></form>`)
	})
	mux.HandleFunc("POST /device", s.serveDecision)
	s.Server = httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s
}

func (a answer) write(w http.ResponseWriter) {
	if a.status == 0 {
		panic(http.ErrAbortHandler)
	}
	w.WriteHeader(a.status)
	fmt.Fprint(w, a.body)
}

func (s *stub) poll(r *http.Request) answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.polled) == 0 {
		close(s.reached)
	}
	s.polled = append(s.polled, time.Now())
	if r.FormValue("device_code") != "secret" || r.FormValue("client_id") != clientID || r.Header.Get("X-Forwarded-For") != "10.0.0.0" {
		return unknown
	}
	return s.polls[min(len(s.polled), len(s.polls))-1]
}

func (s *stub) serveDecision(w http.ResponseWriter, r *http.Request) {
	if r.FormValue("action") == "" {
		fmt.Fprint(w, `<form id="decision" method="post" action="/device"><input name="ticket" value="a&#43;b"></form>`)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.FormValue("ticket") != "a+b" || r.Header.Get("Origin") != s.URL || r.Header.Get("X-Forwarded-For") != "10.128.0.0" {
		w.WriteHeader(http.StatusForbidden)
		return
	}
	s.decide.write(w)
}
