package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/devicegrant/devicegrant/deviceclient"
	"github.com/devicegrant/devicegrant/examples/internal/userinfo"
)

// fake is a client whose person decides after a time.
type fake struct {
	authorization *deviceclient.Authorization
	startErr      error
	after         time.Duration
	token         *deviceclient.Token
	err           error
}

func (f fake) Start(context.Context) (*deviceclient.Authorization, error) {
	return f.authorization, f.startErr
}

func (f fake) Poll(ctx context.Context, _ *deviceclient.Authorization) (*deviceclient.Token, error) {
	select {
	case <-time.After(f.after):
		return f.token, f.err
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", deviceclient.ErrCancelled, ctx.Err())
	}
}

// newScreen is a terminal, and what is written to it.
func newScreen(rich bool, width int) (terminal, *bytes.Buffer) {
	written := new(bytes.Buffer)
	return terminal{
		out:    written,
		here:   true,
		rich:   rich,
		size:   func() (int, int, error) { return width, 50, nil },
		browse: func(string) bool { return false },
	}, written
}

func TestSignInCountsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		want := &deviceclient.Token{AccessToken: "secret"}
		s, written := newScreen(true, 100)
		a := authorization(t, complete)
		token, err := signIn(t.Context(), s, fake{authorization: a, after: 2500 * time.Millisecond, token: want}, options{issuer: "https://example.com"})
		require.NoError(t, err)
		assert.Same(t, want, token)

		const line = emptyLine + "Waiting for your decision. %s left, Ctrl-C cancels."
		assert.Equal(t, emptyLine+"Asking https://example.com for a code."+emptyLine+screen(a, s.view())+
			fmt.Sprintf(line, "15:00")+fmt.Sprintf(line, "14:59")+fmt.Sprintf(line, "14:58"), written.String())
	})
}

func TestSignInPlain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, written := newScreen(false, 100)
		a := authorization(t, complete)
		_, err := signIn(t.Context(), s, fake{authorization: a, after: time.Minute, err: deviceclient.ErrDenied}, options{})
		require.ErrorIs(t, err, deviceclient.ErrDenied)
		assert.Equal(t, screen(a, s.view())+"Waiting for your decision. 15:00 left, Ctrl-C cancels.\n", written.String())
	})
}

func TestSignInCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(10*time.Second, cancel)
		s, _ := newScreen(true, 100)
		began := time.Now()
		_, err := signIn(ctx, s, fake{authorization: authorization(t, complete), after: time.Hour}, options{})
		require.ErrorIs(t, err, deviceclient.ErrCancelled)
		assert.Equal(t, 10*time.Second, time.Since(began))
	})
}

func TestSignInStartFails(t *testing.T) {
	s, written := newScreen(true, 30)
	_, err := signIn(t.Context(), s, fake{startErr: deviceclient.ErrFailed}, options{issuer: "https://login.example.com"})
	require.ErrorIs(t, err, deviceclient.ErrFailed)
	assert.Equal(t, emptyLine+"Asking https://login.exampl"+emptyLine, written.String(), "it has to stay one line")
}

func TestSignInBrowses(t *testing.T) {
	for _, tt := range []struct {
		browse   bool
		complete string
		want     []string
	}{
		{true, complete, []string{complete}},
		{true, "", []string{page}},
		{false, complete, nil},
	} {
		var opened []string
		s, written := newScreen(false, 100)
		s.browse = func(uri string) bool {
			opened = append(opened, uri)
			return true
		}
		_, err := signIn(t.Context(), s, fake{authorization: authorization(t, tt.complete)}, options{browse: tt.browse})
		require.NoError(t, err)
		assert.Equal(t, tt.want, opened)
		assert.Equal(t, tt.browse, strings.HasPrefix(written.String(), "Your browser opens"))
	}
}

func TestEnd(t *testing.T) {
	rich, written := newScreen(true, 20)
	rich.end(rich.out, "Denied. Somebody said no.")
	assert.Equal(t, emptyLine+"Denied. Somebody\nsaid no.\n", written.String())

	plain, written := newScreen(false, 20)
	plain.end(plain.out, "Cancelled.")
	assert.Equal(t, "\nCancelled.\n", written.String(), "below a ^C")

	plain, written = newScreen(false, 20)
	plain.here = false
	plain.end(plain.out, "Denied. Somebody said no.")
	assert.Equal(t, "Denied. Somebody said no.\n", written.String())
}

func TestFailure(t *testing.T) {
	o := options{issuer: "https://example.com", client: "toaster", scope: "everything"}
	refused := func(e deviceclient.Error) error { return fmt.Errorf("%w: %w", deviceclient.ErrFailed, &e) }
	const code = "Failed: the server answered "
	for _, tt := range []struct {
		err  error
		want string
		exit int
	}{
		{deviceclient.ErrDenied, "Denied. Somebody said no to this on the page. If that was a mistake, start again.", 1},
		{deviceclient.ErrExpired, "Expired. Nobody has decided in time. Start again for a new code.", 1},
		{fmt.Errorf("%w: %w", deviceclient.ErrCancelled, context.Canceled), "Cancelled. Nobody is signed in.", 130},
		{refused(deviceclient.Error{Code: "invalid_client"}), code + `invalid_client.` + "\n" + `The server lets no client "toaster" sign in like this; -client names another.`, 1},
		{refused(deviceclient.Error{Code: "invalid_scope", Description: "no"}), code + `invalid_scope (no).` + "\n" + `The server does not give out "everything"; -scope asks for something else.`, 1},
		{refused(deviceclient.Error{Code: "server_error"}), code + "server_error.\nStart again in a while.", 1},
		{refused(deviceclient.Error{Code: "too_many_requests", RetryAfter: time.Minute}), code + "too_many_requests.\nStart again in 1m0s.", 1},
		{refused(deviceclient.Error{Code: "invalid_grant"}), code + "invalid_grant.\nStart again; if that does not help, ask whoever runs the server.", 1},
		{fmt.Errorf("%w: %w", deviceclient.ErrFailed, errors.New("connection\x1b[2J refused\nby it")), "Failed: connection[2J refused by it.\n" +
			"Check that https://example.com is the server, and that it can be reached; -issuer names another.", 1},
	} {
		assert.Equal(t, tt.want, failure(tt.err, o))
		assert.Equal(t, tt.exit, exitCode(tt.err), tt.want)
	}
}

func TestGreeting(t *testing.T) {
	assert.Equal(t, "Signed in as Alice (alice).", greeting(userinfo.Person{Subject: "alice", Name: "Alice"}, nil))
	assert.Equal(t, "Signed in as alice.", greeting(userinfo.Person{Subject: "alice", Name: ""}, nil))
	assert.Equal(t, "Signed in. The server did not say as whom: it has no userinfo endpoint.", greeting(userinfo.Person{}, errors.New("it has no userinfo endpoint")))
	assert.Equal(t, "Signed in as ali]0;ce ([2Jxyz).", greeting(userinfo.Person{Subject: "\x1b[2J\u202exyz\u009b", Name: "ali\x1b]0;ce"}, nil))
	assert.Equal(t, "Signed in as "+strings.Repeat("ü", 300)+"….", greeting(userinfo.Person{Subject: strings.Repeat("ü", 301), Name: ""}, nil))
}
