package integration

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// size is that of a terminal, in characters.
type size struct{ width, height int }

// sizes are those of the tests, and how much is shown in each.
var sizes = map[size]struct{ qr, link, beside bool }{
	{80, 24}:  {qr: true, beside: true},
	{100, 50}: {qr: true, link: true},
	{40, 15}:  {},
}

// startLogin starts the command-line login in a terminal and returns what it shows.
func startLogin(t *testing.T, in size, issuer string, args ...string) (*screen, answer) {
	t.Helper()
	s := startInTerminal(t, in, nil, "cli", append([]string{"-issuer", issuer, "-no-browser"}, args...)...)
	return s, s.shown()
}

// shown waits until the screen is complete, and returns what a person reads off it.
func (s *screen) shown() answer {
	s.t.Helper()
	m := s.until(`(?s)To sign in.*?(http://\S+/device)\n.*\s([A-Z]{4}-[A-Z]{4})\n.*\nWaiting.*\d\d:\d\d left`)
	return answer{VerificationURI: m[1], UserCode: m[2]}
}

func TestCLIScreens(t *testing.T) {
	t.Parallel()
	server := startAuthServer(t, "-interval", "1s")
	for in, want := range sizes {
		t.Run(fmt.Sprintf("%dx%d", in.width, in.height), func(t *testing.T) {
			t.Parallel()
			s, a := startLogin(t, in, server.origin)
			complete := a.VerificationURI + "?user_code=" + a.UserCode
			shown := s.text()
			assert.Equal(t, server.origin+"/device", a.VerificationURI)
			assert.True(t, strings.HasPrefix(s.history(), shown), "nothing has left the screen:\n%s", s.history())
			assert.Equal(t, want.link, strings.Contains(shown, complete), shown)
			assert.Equal(t, !want.qr, strings.Contains(strings.Join(strings.Fields(shown), " "), "it does not fit"), shown)
			if want.qr {
				assert.Equal(t, complete, s.readQR(true))
			}
			assert.Equal(t, want.beside, regexp.MustCompile(`[▀▄█] +http`).MatchString(shown), shown)
			s.requireBold(a.UserCode)

			newAlice(t).approve(t, a)
			assert.Zero(t, s.exitCode(t))
			s.requireEnd("Signed in as Alice (alice).")
		})
	}
}

func TestCLIDenied(t *testing.T) {
	t.Parallel()
	server := startAuthServer(t, "-interval", "1s")
	for in := range sizes {
		s, a := startLogin(t, in, server.origin)
		newAlice(t).deny(t, a)
		assert.Equal(t, 1, s.exitCode(t))
		s.requireEnd("Denied. Somebody said no to this on the page. If that was a mistake, start again.")
	}
}

// TestCLIExpired also watches the time: each second of it is shown, in the same line.
func TestCLIExpired(t *testing.T) {
	t.Parallel()
	server := startAuthServer(t, "-interval", "1s", "-lifetime", "3s")
	for in := range sizes {
		t.Run(fmt.Sprintf("%dx%d", in.width, in.height), func(t *testing.T) {
			t.Parallel()
			s, _ := startLogin(t, in, server.origin)
			assert.Equal(t, 1, s.exitCode(t))
			s.requireEnd("Expired. Nobody has decided in time. Start again for a new code.")
			for _, left := range []string{"00:03", "00:02", "00:01"} {
				assert.Contains(t, s.written.String(), left+" left")
			}
		})
	}
}

func TestCLICancelled(t *testing.T) {
	t.Parallel()
	server := startAuthServer(t)
	for in := range sizes {
		s, _ := startLogin(t, in, server.origin)
		s.press("\x03")
		assert.Equal(t, 130, s.exitCode(t))
		s.requireEnd("Cancelled. Nobody is signed in.")
	}
}

// A server that does not answer is left at once, too.
func TestCLICancelledWhileStarting(t *testing.T) {
	t.Parallel()
	silent := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-silent }))
	defer server.Close()
	defer close(silent)
	s := startInTerminal(t, size{80, 24}, nil, "cli", "-issuer", server.URL)
	s.until(`Asking http://\S+ for a code\.`)
	s.press("\x03")
	assert.Equal(t, 130, s.exitCode(t))
	assert.Equal(t, "Cancelled. Nobody is signed in.", s.text())
}

func TestCLIFailed(t *testing.T) {
	t.Parallel()
	server := startAuthServer(t)
	for in := range sizes {
		s := startInTerminal(t, in, nil, "cli", "-issuer", server.origin, "-client", "toaster")
		assert.Equal(t, 1, s.exitCode(t))
		assert.Equal(t, "Failed: the server answered invalid_client. "+
			`The server lets no client "toaster" sign in like this; -client names another.`, strings.Join(strings.Fields(s.text()), " "))
	}
}

// TestCLIFailedWhileWaiting has a server that changes its mind, and one that tries to
// write to the terminal.
func TestCLIFailedWhileWaiting(t *testing.T) {
	t.Parallel()
	mux := http.NewServeMux()
	server := httptest.NewServer(mux)
	defer server.Close()
	answerWith := func(path string, status int, body string) {
		mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(status)
			_, _ = io.WriteString(w, strings.ReplaceAll(body, "ISSUER", server.URL))
		})
	}
	answerWith("/.well-known/oauth-authorization-server", http.StatusOK,
		`{"issuer":"ISSUER","device_authorization_endpoint":"ISSUER/start","token_endpoint":"ISSUER/token"}`)
	answerWith("/start", http.StatusOK, `{"device_code":"secret-code","user_code":"WDJB-MJHT","verification_uri":"ISSUER/device",`+
		`"verification_uri_complete":"ISSUER/device?user_code=WDJB-MJHT","expires_in":60,"interval":1}`)
	answerWith("/token", http.StatusBadRequest, `{"error":"invalid_grant","error_description":"gone\u001b[2J for good"}`)
	for in := range sizes {
		s, _ := startLogin(t, in, server.URL)
		assert.Equal(t, 1, s.exitCode(t))
		got := s.requireEnd("Failed: the server answered invalid_grant")
		assert.Contains(t, got, "Start again; if that does not help, ask whoever runs the server.")
		assert.NotContains(t, s.written.String(), "\x1b[2J")
		assert.NotContains(t, s.written.String(), "secret-code")
	}
}

// TestCLIPlain has a terminal that wants no colors, or cannot have them.
func TestCLIPlain(t *testing.T) {
	t.Parallel()
	server := startAuthServer(t, "-interval", "1s")
	for _, env := range []string{"NO_COLOR=1", "TERM=dumb"} {
		s := startInTerminal(t, size{100, 50}, []string{env}, "cli", "-issuer", server.origin, "-no-browser")
		a := s.shown()
		assert.Equal(t, a.VerificationURI+"?user_code="+a.UserCode, s.readQR(false))
		for _, cell := range s.cells() {
			require.True(t, cell.Style.IsZero(), "%s: %q is styled", env, cell.Content)
		}
		s.press("\x03")
		assert.Equal(t, 130, s.exitCode(t))
		assert.NotContains(t, s.written.String(), "\x1b", env)
		assert.Regexp(t, `(?s)cancels\.\n\^C\nCancelled\. Nobody is signed in\.$`, s.text())
	}
}

// TestCLIPiped has the output go to other programs.
func TestCLIPiped(t *testing.T) {
	t.Parallel()
	server := startAuthServer(t, "-interval", "1s")
	p := start(t, "cli", "-issuer", server.origin)
	shown := p.printed(t, `(?s)browser:\n\n  (http://\S+)\n.*\n  ([A-Z-]{9})\n.*▀.*\nWaiting for your decision\. 15:00 left.*\n`)
	newAlice(t).approve(t, answer{VerificationURI: shown[1], UserCode: shown[2]})
	require.Zero(t, p.exitCode(t))
	assert.True(t, strings.HasSuffix(p.stdout.String(), "\nSigned in as Alice (alice).\n"), p.stdout.String())
	assert.Equal(t, 1, strings.Count(p.stdout.String(), "Waiting"))
	assert.NotContains(t, p.stdout.String(), "\x1b")
	assert.NotContains(t, p.stdout.String(), "\r")
	assert.Empty(t, p.stderr.String())
}

func TestCLIUsage(t *testing.T) {
	t.Parallel()
	p := start(t, "cli", "surplus")
	assert.Equal(t, 2, p.exitCode(t))
	assert.Equal(t, "cli: unexpected argument \"surplus\"\n", p.stderr.String())
	assert.Empty(t, p.stdout.String())
}

// TestCLIBrowser has a browser that does not end, which the login neither waits for nor
// takes with it.
func TestCLIBrowser(t *testing.T) {
	t.Parallel()
	server := startAuthServer(t, "-interval", "1s")
	dir := t.TempDir()
	opened := filepath.Join(dir, "opened")
	script := "#!/bin/sh\necho $$ $# \"$1\" >" + opened + ".part\nmv " + opened + ".part " + opened + "\nexec sleep 300\n"
	require.NoError(t, os.WriteFile(filepath.Join(dir, "xdg-open"), []byte(script), 0o700))
	env := []string{"PATH=" + dir + ":" + os.Getenv("PATH"), "DISPLAY=:0", "SSH_CONNECTION="}

	s := startInTerminal(t, size{80, 24}, env, "cli", "-issuer", server.origin)
	m := s.until(`(?s)Your browser opens.*\s([A-Z]{4}-[A-Z]{4})\n.*Waiting`)
	var call []byte
	require.Eventually(t, func() (found bool) {
		var err error
		call, err = os.ReadFile(opened)
		return err == nil
	}, patience, 10*time.Millisecond)
	words := strings.Fields(string(call))
	pid, err := strconv.Atoi(words[0])
	require.NoError(t, err)
	defer syscall.Kill(pid, syscall.SIGKILL)
	assert.Equal(t, []string{"1", server.origin + "/device?user_code=" + m[1]}, words[1:])
	group, err := syscall.Getpgid(pid)
	require.NoError(t, err)
	assert.Equal(t, pid, group, "the terminal's Ctrl-C must not reach the browser")
	s.press("\x03")
	assert.Equal(t, 130, s.exitCode(t))

	require.NoError(t, os.Remove(opened))
	for _, without := range [][]string{{"-no-browser"}, {"SSH_CONNECTION=192.0.2.1 1 192.0.2.2 22"}, {"DISPLAY="}} {
		args, env := []string{"-issuer", server.origin}, append([]string(nil), env...)
		if strings.HasPrefix(without[0], "-") {
			args = append(args, without...)
		} else {
			env = append(env, without...)
		}
		s := startInTerminal(t, size{80, 24}, env, "cli", args...)
		s.shown()
		s.press("\x03")
		assert.Equal(t, 130, s.exitCode(t))
		assert.NoFileExists(t, opened, without)
	}
}
