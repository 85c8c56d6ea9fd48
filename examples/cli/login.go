package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/devicegrant/devicegrant/deviceclient"
	"github.com/devicegrant/devicegrant/examples/internal/userinfo"
)

// authorizer is a deviceclient.Client.
type authorizer interface {
	Start(ctx context.Context) (*deviceclient.Authorization, error)
	Poll(ctx context.Context, a *deviceclient.Authorization) (*deviceclient.Token, error)
}

// signIn shows what a person needs to decide, and waits until they have.
func signIn(ctx context.Context, t terminal, client authorizer, o options) (*deviceclient.Token, error) {
	t.status("Asking " + o.issuer + " for a code.")
	a, err := client.Start(ctx)
	t.clear()
	if err != nil {
		return nil, err
	}
	v := t.view()
	if o.browse {
		v.opened = t.browse(cmp.Or(a.VerificationURIComplete, a.VerificationURI))
	}
	t.print(screen(a, v))
	return wait(ctx, t, client, a)
}

// wait polls for the token, and says every second how much time is left.
func wait(ctx context.Context, t terminal, client authorizer, a *deviceclient.Authorization) (*deviceclient.Token, error) {
	type result struct {
		token *deviceclient.Token
		err   error
	}
	polled := make(chan result, 1)
	go func() {
		token, err := client.Poll(ctx, a)
		polled <- result{token, err}
	}()
	if !t.rich {
		t.print(waiting(a.Left(time.Now()), 0) + "\n")
	}
	second := time.NewTicker(time.Second)
	defer second.Stop()
	for {
		t.status(waiting(a.Left(time.Now()), t.view().width))
		select {
		case r := <-polled: // Which comes when ctx ends, and when the code has.
			return r.token, r.err
		case <-second.C:
		}
	}
}

// greeting is the end of a login: as whom, if the server has said so.
func greeting(who userinfo.Person, err error) string {
	switch {
	case err != nil:
		return "Signed in. The server did not say as whom: " + printable(err.Error()) + "."
	case who.Name == "":
		return "Signed in as " + printable(who.Subject) + "."
	default:
		return fmt.Sprintf("Signed in as %s (%s).", printable(who.Name), printable(who.Subject))
	}
}

// failure says how a login ended without a token, and what to do.
func failure(err error, o options) string {
	switch {
	case errors.Is(err, deviceclient.ErrCancelled):
		return "Cancelled. Nobody is signed in."
	case errors.Is(err, deviceclient.ErrDenied):
		return "Denied. Somebody said no to this on the page. If that was a mistake, start again."
	case errors.Is(err, deviceclient.ErrExpired):
		return "Expired. Nobody has decided in time. Start again for a new code."
	}
	reason := strings.TrimPrefix(strings.TrimPrefix(err.Error(), deviceclient.ErrFailed.Error()+": "), "deviceclient: ")
	return "Failed: " + printable(reason) + ".\n" + advice(err, o)
}

// advice says what may help against a failure.
func advice(err error, o options) string {
	refused, ok := errors.AsType[*deviceclient.Error](err)
	if !ok {
		return fmt.Sprintf("Check that %s is the server, and that it can be reached; -issuer names another.", o.issuer)
	}
	switch refused.Code {
	case "invalid_client", "unauthorized_client":
		return fmt.Sprintf("The server lets no client %q sign in like this; -client names another.", o.client)
	case "invalid_scope":
		return fmt.Sprintf("The server does not give out %q; -scope asks for something else.", o.scope)
	case "temporarily_unavailable", "too_many_requests", "slow_down", "server_error":
		if refused.RetryAfter > 0 {
			return fmt.Sprintf("Start again in %v.", refused.RetryAfter)
		}
		return "Start again in a while."
	default:
		return "Start again; if that does not help, ask whoever runs the server."
	}
}

func exitCode(err error) int {
	if errors.Is(err, deviceclient.ErrCancelled) {
		return exitInterrupted
	}
	return exitNot
}

// maxShown is how many characters of a text from elsewhere are shown.
const maxShown = 300

// printable returns a text from elsewhere without what a terminal would obey or what
// would change the order of the text around it, and cut short.
func printable(s string) string {
	shown := []rune(strings.Map(func(r rune) rune {
		switch {
		case unicode.IsPrint(r):
			return r
		case unicode.IsSpace(r):
			return ' '
		default:
			return -1
		}
	}, s))
	if len(shown) > maxShown {
		return string(shown[:maxShown]) + "…"
	}
	return string(shown)
}
