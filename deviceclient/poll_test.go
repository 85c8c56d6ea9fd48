package deviceclient_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/devicegrant/devicegrant/deviceclient"
)

var (
	errUnreachable = &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	outcomes       = []error{deviceclient.ErrDenied, deviceclient.ErrExpired, deviceclient.ErrCancelled, deviceclient.ErrFailed}
)

func unreachable(*http.Request) (*http.Response, error) { return nil, errUnreachable }

// cut answers what ends in the middle.
func cut(body string) answer {
	return func(r *http.Request) (*http.Response, error) {
		return reply(r, http.StatusOK, io.MultiReader(strings.NewReader(body), failing{io.ErrUnexpectedEOF}))
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// endless never stops sending.
func endless(r *http.Request) (*http.Response, error) {
	return reply(r, http.StatusOK, io.MultiReader(strings.NewReader(`{"access_token":"`), zeros{}))
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = '0'
	}
	return len(b), nil
}

// drips sends a byte a second, for ever.
func drips(r *http.Request) (*http.Response, error) {
	return reply(r, http.StatusOK, drip{r.Context()})
}

type drip struct{ ctx context.Context }

func (d drip) Read(b []byte) (int, error) {
	select {
	case <-time.After(time.Second):
		b[0] = ' '
		return 1, nil
	case <-d.ctx.Done():
		return 0, d.ctx.Err()
	}
}

func html(status int) answer {
	return says(status, "<h1>Oops</h1>", "Content-Type", "text/html; charset=utf-8")
}

// requireOutcome checks that an error is one of the ways to end, and none of the others.
func requireOutcome(t *testing.T, want, err error) {
	t.Helper()
	for _, outcome := range outcomes {
		require.Equal(t, outcome == want, errors.Is(err, outcome), "%v is %v", err, outcome)
	}
}

const s = time.Second

// How logins go: what the server answers to the polls, when they come, and what comes of
// it. Codes live for a minute, and the interval is five seconds.
var logins = map[string]struct {
	polls []answer
	gaps  []time.Duration // before each poll
	want  error           // nil for a token
	says  string          // in the error
}{
	"approved": {
		polls: []answer{refuses(pending), refuses(pending), says(200, issued)},
		gaps:  []time.Duration{5 * s, 5 * s, 5 * s},
	},
	"denied": {
		polls: []answer{refuses(pending), refuses(denied)},
		gaps:  []time.Duration{5 * s, 5 * s}, want: deviceclient.ErrDenied,
	},
	"expired, as the server says": {
		polls: []answer{refuses(expired)},
		gaps:  []time.Duration{5 * s}, want: deviceclient.ErrExpired,
	},
	"pending for ever, also when the codes have expired": {
		polls: []answer{refuses(pending)},
		gaps:  []time.Duration{5 * s, 5 * s, 5 * s, 5 * s, 5 * s, 5 * s, 5 * s, 5 * s, 5 * s, 5 * s, 5 * s, 5 * s}, want: deviceclient.ErrExpired,
	},
	"slow_down lengthens the interval for good": {
		polls: []answer{refuses(slowDown), refuses(pending), refuses(slowDown), refuses(pending), says(200, issued)},
		gaps:  []time.Duration{5 * s, 10 * s, 10 * s, 15 * s, 15 * s},
	},
	"slow_down with a larger interval": {
		polls: []answer{refuses(`{"error":"slow_down","interval":12}`), refuses(pending), says(200, issued)},
		gaps:  []time.Duration{5 * s, 12 * s, 12 * s},
	},
	"slow_down with a smaller interval": {
		polls: []answer{refuses(`{"error":"slow_down","interval":6}`), refuses(pending), says(200, issued)},
		gaps:  []time.Duration{5 * s, 10 * s, 10 * s},
	},
	"slow_down with an interval that is none": {
		polls: []answer{refuses(`{"error":"slow_down","interval":-7}`), refuses(`{"error":"slow_down","interval":{}}`), says(200, issued)},
		gaps:  []time.Duration{5 * s, 10 * s, 15 * s},
	},
	"slow_down beyond the end": {
		polls: []answer{refuses(`{"error":"slow_down","interval":100000}`)},
		gaps:  []time.Duration{5 * s}, want: deviceclient.ErrExpired, says: "poll again after 27h46m40s only",
	},
	"the last poll comes after the end": {
		polls: []answer{refuses(`{"error":"slow_down","interval":60}`), says(200, issued)},
		gaps:  []time.Duration{5 * s, 60 * s},
	},
	"Retry-After holds once": {
		polls: []answer{refuses(pending, "Retry-After", "20"), refuses(pending), says(200, issued)},
		gaps:  []time.Duration{5 * s, 20 * s, 5 * s},
	},
	"Retry-After below the interval": {
		polls: []answer{refuses(pending, "Retry-After", "1"), says(200, issued)},
		gaps:  []time.Duration{5 * s, 5 * s},
	},
	"Retry-After as a date, by the server's clock": {
		polls: []answer{
			says(503, "", "Retry-After", "Wed, 21 Oct 2015 07:28:30 GMT", "Date", "Wed, 21 Oct 2015 07:28:00 GMT"),
			refuses(pending, "Retry-After", "Wed, 21 Oct 2015 07:28:00 GMT", "Date", "Wed, 21 Oct 2015 07:28:30 GMT"),
			says(200, issued),
		},
		gaps: []time.Duration{5 * s, 30 * s, 5 * s},
	},
	"lost connections": {
		polls: []answer{unreachable, unreachable, refuses(pending), unreachable, says(200, issued)},
		gaps:  []time.Duration{5 * s, 10 * s, 20 * s, 5 * s, 10 * s},
	},
	"time-outs": {
		polls: []answer{hangs, says(200, issued)},
		gaps:  []time.Duration{5 * s, 15*s + 10*s},
	},
	"a slow drip": {
		polls: []answer{drips, says(200, issued)},
		gaps:  []time.Duration{5 * s, 15*s + 10*s},
	},
	"lost for good": {
		polls: []answer{unreachable},
		gaps:  []time.Duration{5 * s, 10 * s, 20 * s, 25 * s}, want: deviceclient.ErrExpired, says: "connection refused",
	},
	"bad gateways": {
		polls: []answer{html(502), html(408), html(504), says(200, issued)},
		gaps:  []time.Duration{5 * s, 10 * s, 20 * s, 25 * s},
	},
	"too many requests": {
		polls: []answer{says(429, `{"error":"too_many_requests"}`, "Retry-After", "17"), html(429), says(200, issued)},
		gaps:  []time.Duration{5 * s, 17 * s, 20 * s},
	},
	"an error of the protocol, from a server that is overloaded": {
		polls: []answer{says(503, `{"error":"temporarily_unavailable"}`), says(200, issued)},
		gaps:  []time.Duration{5 * s, 10 * s},
	},
	"a token that was cut off": {
		polls: []answer{cut(issued[:40]), cut(issued[:40]), says(200, issued)},
		gaps:  []time.Duration{5 * s, 5 * s, 5 * s},
	},
	"tokens that are always cut off": {
		polls: []answer{cut(issued[:40])},
		gaps:  []time.Duration{5 * s, 5 * s, 5 * s}, want: deviceclient.ErrFailed, says: "it ends too early",
	},
	"odd answers, and others between": {
		polls: []answer{html(200), html(404), refuses(pending), html(200), html(302), unreachable, html(200), says(200, issued)},
		gaps:  []time.Duration{5 * s, 5 * s, 5 * s, 5 * s, 5 * s, 5 * s, 10 * s, 5 * s},
	},
	"a web page": {
		polls: []answer{html(200)},
		gaps:  []time.Duration{5 * s, 5 * s, 5 * s}, want: deviceclient.ErrFailed, says: "https://example.com/token answered what cannot be used: it is no token response",
	},
	"no such page": {
		polls: []answer{html(404)},
		gaps:  []time.Duration{5 * s, 5 * s, 5 * s}, want: deviceclient.ErrFailed, says: "https://example.com/token answered 404 Not Found with text/html",
	},
	"a redirect, which is not followed": {
		polls: []answer{says(307, "", "Location", "https://evil.example/token?secret")},
		gaps:  []time.Duration{5 * s, 5 * s, 5 * s}, want: deviceclient.ErrFailed, says: "to https://evil.example/token, where no code is sent",
	},
	"a redirect with an error": {
		polls: []answer{says(302, denied), says(200, issued)},
		gaps:  []time.Duration{5 * s, 5 * s},
	},
	"an error without a code": {
		polls: []answer{refuses(`{}`)},
		gaps:  []time.Duration{5 * s, 5 * s, 5 * s}, want: deviceclient.ErrFailed, says: "answered 400 Bad Request with application/json",
	},
	"a nonce for nobody": {
		polls: []answer{refuses(`{"error":"use_dpop_nonce"}`, "DPoP-Nonce", "n")},
		gaps:  []time.Duration{5 * s}, want: deviceclient.ErrFailed, says: "use_dpop_nonce",
	},
	"endless JSON": {
		polls: []answer{endless},
		gaps:  []time.Duration{5 * s, 5 * s, 5 * s}, want: deviceclient.ErrFailed, says: "it is too long",
	},
	"a token that is none": {
		polls: []answer{says(200, `{"token_type":"Bearer"}`)},
		gaps:  []time.Duration{5 * s, 5 * s, 5 * s}, want: deviceclient.ErrFailed, says: "access_token is missing",
	},
	"refused": {
		polls: []answer{refuses(`{"error":"invalid_grant","error_description":"no \u001b[31msuch\ncode"}`)},
		gaps:  []time.Duration{5 * s}, want: deviceclient.ErrFailed, says: "the server answered invalid_grant (no ?[31msuch?code)",
	},
	"an error that nobody knows": {
		polls: []answer{refuses(`{"error":"` + strings.Repeat("x", 10_000) + `"}`)},
		gaps:  []time.Duration{5 * s}, want: deviceclient.ErrFailed, says: "xxx…",
	},
}

func TestPoll(t *testing.T) {
	for name, login := range logins {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := serving(login.polls...)
				client := server.client(t)
				a := start(t, client)
				began := time.Now()
				token, err := client.Poll(t.Context(), a)
				assert.Equal(t, login.gaps, server.gaps(began))
				if login.want == nil {
					require.NoError(t, err)
					assert.Equal(t, "secret-access", token.AccessToken)
					return
				}
				requireOutcome(t, login.want, err)
				assert.ErrorContains(t, err, login.says)
				assert.Less(t, len(err.Error()), 500)
				assert.NotContains(t, err.Error(), "authorization_pending", "it is no trouble")
				for _, secret := range []string{"secret", a.DeviceCode, a.CodeVerifier, "\x1b", "\n"} {
					assert.NotContains(t, err.Error(), secret)
				}
			})
		})
	}
}

// What the server said is there for a program to look at.
func TestPollErrorOfTheServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := serving(says(401, `{"error":"invalid_client","error_description":"who are you"}`, "Retry-After", "3"))
		client := server.client(t)
		_, err := client.Poll(t.Context(), start(t, client))
		refused, ok := errors.AsType[*deviceclient.Error](err)
		require.True(t, ok)
		assert.Equal(t, 401, refused.StatusCode)
		assert.Equal(t, "invalid_client", refused.Code)
		assert.Equal(t, "who are you", refused.Description)
		assert.Equal(t, 3*s, refused.RetryAfter)
	})
}

// The context ends a login at once, whatever the client is doing, and is what the error
// says.
func TestPollCancelled(t *testing.T) {
	stopped := errors.New("somebody pressed a button")
	for name, polls := range map[string][]answer{"waiting": {refuses(pending)}, "asking": {hangs}, "reading": {drips}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := serving(polls...)
				client := server.client(t)
				a := start(t, client)
				ctx, cancel := context.WithCancelCause(t.Context())
				time.AfterFunc(7*s, func() { cancel(stopped) })
				began := time.Now()
				_, err := client.Poll(ctx, a)
				assert.Equal(t, 7*s, time.Since(began))
				requireOutcome(t, deviceclient.ErrCancelled, err)
				assert.ErrorIs(t, err, stopped)
			})
		})
	}
	for _, after := range []time.Duration{7 * s, 62 * s} { // The second in the last poll.
		synctest.Test(t, func(t *testing.T) {
			client := serving(append(slices.Repeat([]answer{refuses(pending)}, 11), hangs)...).client(t)
			a := start(t, client)
			ctx, cancel := context.WithTimeout(t.Context(), after)
			defer cancel()
			_, err := client.Poll(ctx, a)
			requireOutcome(t, deviceclient.ErrCancelled, err)
			assert.ErrorIs(t, err, context.DeadlineExceeded)
		})
	}
}

// A request that runs out of time is not the end of the caller's context.
func TestPollTimeoutIsNoDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := serving(hangs).client(t)
		_, err := client.Poll(t.Context(), start(t, client))
		requireOutcome(t, deviceclient.ErrExpired, err)
		assert.NotErrorIs(t, err, context.DeadlineExceeded)
		assert.ErrorContains(t, err, "no answer within 15s")
	})
}

// A device that was switched off goes on with what it kept, and counts from there.
func TestPollGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := serving(refuses(pending))
		a := start(t, server.client(t))
		kept, err := json.Marshal(a)
		require.NoError(t, err)
		time.Sleep(time.Hour) // Or the clock is wrong.
		var again deviceclient.Authorization
		require.NoError(t, json.Unmarshal(kept, &again))
		assert.Equal(t, time.Minute, again.Left(time.Now()))
		began := time.Now()
		_, err = server.client(t).Poll(t.Context(), &again)
		requireOutcome(t, deviceclient.ErrExpired, err)
		assert.Equal(t, 60*s, time.Since(began))
		polls := server.to("/token")
		assert.Equal(t, a.CodeVerifier, polls[0].form.Get("code_verifier"))
		assert.Equal(t, "secret-device-code", polls[0].form.Get("device_code"))
	})
}

// One that was put together by hand counts from Poll, and polls no faster than once a
// second.
func TestPollByHand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := serving(refuses(pending))
		a := &deviceclient.Authorization{DeviceCode: "code", ExpiresIn: 3 * s}
		assert.Equal(t, 3*s, a.Left(time.Now()))
		began := time.Now()
		_, err := server.client(t).Poll(t.Context(), a)
		requireOutcome(t, deviceclient.ErrExpired, err)
		assert.Equal(t, []time.Duration{s, s, s}, server.gaps(began))
		assert.False(t, server.to("/token")[0].form.Has("code_verifier"))
	})
}
