package devicegrant_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"log/slog"
	"net/http"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/devicegrant/devicegrant"
	"github.com/devicegrant/devicegrant/memstore"
	"github.com/devicegrant/devicegrant/storetest"
)

// eventTypes are all that there are, by the source.
func eventTypes(t *testing.T) (all []devicegrant.EventType) {
	file, err := parser.ParseFile(token.NewFileSet(), "events.go", nil, 0)
	require.NoError(t, err)
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if ok && len(spec.Values) == 1 && strings.HasPrefix(spec.Names[0].Name, "Event") {
			if name, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value); assert.NoError(t, err) {
				all = append(all, devicegrant.EventType(name))
			}
		}
		return true
	})
	require.NotEmpty(t, all)
	return all
}

// cause is something that happens, and the events that it raises, in order.
type cause struct {
	change func(*devicegrant.Config)
	do     func(f *fixture, store *storetest.Faulty)
	want   string
}

// causes are named by the event that they are about.
var causes = map[devicegrant.EventType]cause{
	devicegrant.EventCreated: {do: func(f *fixture, _ *storetest.Faulty) {
		f.requirePoll(f.authorize(), devicegrant.ErrAuthorizationPending)
	}, want: "created"},
	devicegrant.EventLimited: {
		change: func(c *devicegrant.Config) { c.Issuance.PerClient.Pending = 1 },
		do: func(f *fixture, _ *storetest.Faulty) {
			f.authorize()
			_, err := f.from(address(1), tv)
			require.ErrorIs(f.t, err, devicegrant.ErrTooManyRequests)
		}, want: "created limited",
	},
	devicegrant.EventReviewed: {do: func(f *fixture, _ *storetest.Faulty) {
		a := f.authorize()
		f.review(a.UserCode, alice)
		f.review(a.UserCode, alice)
		f.review(a.UserCode, bob)
	}, want: "created reviewed"},
	devicegrant.EventOtherSession: {do: func(f *fixture, _ *storetest.Faulty) {
		a := f.authorize()
		f.review(a.UserCode, alice)
		_, err := f.Lookup(f.t.Context(), a.UserCode, devicegrant.Person{Subject: "alice", Session: "phone"})
		require.ErrorIs(f.t, err, devicegrant.ErrOtherSession)
	}, want: "created reviewed other_session"},
	devicegrant.EventRefused: {
		change: func(c *devicegrant.Config) {
			c.Risk = func(context.Context, devicegrant.Situation) (devicegrant.Verdict, error) {
				return devicegrant.Refuse, nil
			}
		},
		do: func(f *fixture, _ *storetest.Faulty) {
			_, err := f.Lookup(f.t.Context(), f.authorize().UserCode, alice)
			require.ErrorIs(f.t, err, devicegrant.ErrRefused)
		}, want: "created reviewed refused",
	},
	devicegrant.EventApproved: {do: func(f *fixture, _ *storetest.Faulty) {
		a := f.authorize()
		r := f.review(a.UserCode, alice)
		require.NoError(f.t, f.yes(f.t.Context(), r.Ticket, alice))
		require.ErrorIs(f.t, f.yes(f.t.Context(), r.Ticket, alice), devicegrant.ErrDecided)
		require.ErrorIs(f.t, f.Deny(f.t.Context(), r.Ticket, alice), devicegrant.ErrDecided)
	}, want: "created reviewed approved"},
	devicegrant.EventDenied: {do: func(f *fixture, _ *storetest.Faulty) {
		a := f.authorize()
		f.deny(a)
		f.requirePoll(a, devicegrant.ErrAccessDenied)
	}, want: "created reviewed denied"},
	devicegrant.EventReported: {do: func(f *fixture, _ *storetest.Faulty) {
		require.NoError(f.t, f.Report(f.t.Context(), f.review(f.authorize().UserCode, alice).Ticket, alice))
	}, want: "created reviewed reported"},
	devicegrant.EventLeft: {
		change: func(c *devicegrant.Config) { c.DenyOnLeave = true },
		do: func(f *fixture, _ *storetest.Faulty) {
			b := &browser{fixture: f, subject: "alice"}
			ticket := ticketOn(f.t, b.get("/device?user_code="+f.authorize().UserCode))
			r, err := http.NewRequest(http.MethodPost, "/device", strings.NewReader("action=leave&ticket="+ticket))
			require.NoError(f.t, err)
			r.Header.Set("Content-Type", formType)
			r.AddCookie(&http.Cookie{Name: "subject", Value: "alice"})
			r.AddCookie(b.cookie)
			require.Equal(f.t, http.StatusNoContent, f.do(r).Code)
		}, want: "created reviewed left",
	},
	devicegrant.EventRevoked: {do: func(f *fixture, _ *storetest.Faulty) {
		filter := devicegrant.Filter{UserCode: f.authorize().UserCode}
		for _, want := range []int{1, 0} {
			n, err := f.Revoke(f.t.Context(), filter)
			require.NoError(f.t, err)
			require.Equal(f.t, want, n)
		}
	}, want: "created revoked"},
	devicegrant.EventRedeemed: {do: func(f *fixture, _ *storetest.Faulty) {
		a := f.authorize()
		f.approve(a)
		f.requirePoll(a, nil)
	}, want: "created reviewed approved redeemed"},
	devicegrant.EventDeliveredAgain: {
		change: func(c *devicegrant.Config) { c.Store = newLedger() },
		do: func(f *fixture, _ *storetest.Faulty) {
			a := f.authorize()
			f.approve(a)
			f.lose(a)
			time.Sleep(delivery)
			f.collect(a)
		}, want: "created reviewed approved redeemed delivered_again",
	},
	devicegrant.EventSlowDown: {do: func(f *fixture, _ *storetest.Faulty) {
		a := f.authorize()
		for _, want := range []error{devicegrant.ErrAuthorizationPending, devicegrant.ErrSlowDown, devicegrant.ErrSlowDown} {
			f.requirePoll(a, want)
			time.Sleep(time.Second)
		}
	}, want: "created slow_down slow_down"},
	devicegrant.EventReplayed: {do: func(f *fixture, _ *storetest.Faulty) {
		a := f.authorize()
		f.approve(a)
		f.requirePoll(a, nil)
		f.requirePoll(a, devicegrant.ErrInvalidGrant)
	}, want: "created reviewed approved redeemed replayed"},
	devicegrant.EventOtherClient: {do: func(f *fixture, _ *storetest.Faulty) {
		_, err := f.Poll(f.t.Context(), devicegrant.PollRequest{ClientID: "cli", DeviceCode: f.authorize().DeviceCode})
		require.ErrorIs(f.t, err, devicegrant.ErrInvalidGrant)
	}, want: "created other_client"},
	devicegrant.EventUnproven: {do: func(f *fixture, _ *storetest.Faulty) {
		_, err := f.Poll(f.t.Context(), devicegrant.PollRequest{ClientID: "tv", DeviceCode: f.authorize().DeviceCode, CodeVerifier: verifier})
		require.ErrorIs(f.t, err, devicegrant.ErrInvalidGrant)
	}, want: "created unproven"},
	devicegrant.EventUnknownDeviceCode: {do: func(f *fixture, _ *storetest.Faulty) {
		require.Equal(f.t, http.StatusBadRequest, f.post("/token", tokenForm("tv", "x")).Code)
	}, want: "unknown_device_code"},
	devicegrant.EventWrongUserCode: {do: func(f *fixture, _ *storetest.Faulty) {
		_, err := f.Lookup(f.t.Context(), "BBBB-BBBB", alice)
		require.ErrorIs(f.t, err, devicegrant.ErrUserCode)
	}, want: "wrong_user_code"},
	devicegrant.EventTooManyGuesses: {
		change: func(c *devicegrant.Config) { c.Guessing.PerAddress = devicegrant.Limit{Burst: 1, Every: time.Hour} },
		do: func(f *fixture, _ *storetest.Faulty) {
			for range 2 {
				_, err := f.Lookup(f.t.Context(), "BBBB-BBBB", alice)
				require.Error(f.t, err)
			}
		}, want: "wrong_user_code too_many_guesses",
	},
	devicegrant.EventGuessPressure: {
		change: func(c *devicegrant.Config) { c.Guessing.Global = devicegrant.Limit{Burst: 4, Every: time.Hour} },
		do: func(f *fixture, _ *storetest.Faulty) {
			for range 3 {
				_, err := f.Lookup(f.t.Context(), "BBBB-BBBB", alice)
				require.ErrorIs(f.t, err, devicegrant.ErrUserCode)
			}
		}, want: "wrong_user_code wrong_user_code guess_pressure wrong_user_code",
	},
	devicegrant.EventPurged: {do: func(f *fixture, _ *storetest.Faulty) {
		f.authorize()
		for range 3 {
			_, err := f.Purge(f.t.Context())
			require.NoError(f.t, err)
			time.Sleep(time.Hour)
		}
	}, want: "created purged"},
	devicegrant.EventStoreError: {do: func(f *fixture, store *storetest.Faulty) {
		a := f.authorize()
		store.Inject(storetest.OpPoll, outage)
		f.requirePoll(a, devicegrant.ErrSlowDown)
	}, want: "created store_error"},
	devicegrant.EventIssueFailed: {do: func(f *fixture, _ *storetest.Faulty) {
		f.issue = func(context.Context, *devicegrant.Grant) (*devicegrant.Token, error) {
			return nil, errors.New("no signer")
		}
		a := f.authorize()
		f.approve(a)
		f.requirePoll(a, devicegrant.ErrSlowDown)
	}, want: "created reviewed approved issue_failed"},
	devicegrant.EventClaimStuck: {do: func(f *fixture, store *storetest.Faulty) {
		a := f.authorize()
		f.approve(a)
		f.issue = func(context.Context, *devicegrant.Grant) (*devicegrant.Token, error) {
			store.Inject(storetest.OpSwap, outage)
			return nil, nil
		}
		f.requirePoll(a, nil)
	}, want: "created reviewed approved redeemed claim_stuck"},
}

// Every event is raised once for each cause, and nothing else is.
func TestEveryEvent(t *testing.T) {
	for _, event := range eventTypes(t) {
		t.Run(string(event), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cause, ok := causes[event]
				require.True(t, ok, "there is no cause of it here")
				store := storetest.NewFaulty(memstore.New(0))
				f := newFixture(t, func(c *devicegrant.Config) {
					c.Store = store
					if cause.change != nil {
						cause.change(c)
					}
				})
				cause.do(f, store)
				raised := make([]string, len(f.events))
				for i, e := range f.events {
					raised[i] = string(e.Type)
					assert.False(t, e.Time.IsZero())
				}
				assert.Equal(t, cause.want, strings.Join(raised, " "))
				assert.Contains(t, cause.want, event)
			})
		})
	}
}

// What an event says of itself in a log.
func TestEventAttrs(t *testing.T) {
	var log bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
	e := devicegrant.Event{
		Type: devicegrant.EventReplayed, Time: time.Unix(2, 0), Grant: uuid.UUID{1}, CreatedAt: time.Unix(1, 0).UTC(), ClientID: "tv", Subject: "alice",
		Addr: netip.MustParseAddr("192.0.2.1"), Count: 3, Err: errors.New("no"), Pressure: devicegrant.GuessPressure{Wrong: 1, Burst: 2},
	}
	logger.LogAttrs(t.Context(), e.Type.Level(), string(e.Type), e.Attrs()...)
	logger.Info("event", "event", devicegrant.Event{Type: devicegrant.EventPurged, Count: 7})
	assert.Equal(t, `level=WARN msg=replayed grant=01000000-0000-0000-0000-000000000000 created_at=1970-01-01T00:00:01.000Z client_id=tv subject=alice addr=192.0.2.1 count=3 wrong=1 burst=2 expected_hits=0 error=no
level=INFO msg=event event.type=purged event.count=7
`, log.String())
	assert.Empty(t, devicegrant.Event{}.Attrs())
	assert.Equal(t, slog.LevelError, devicegrant.EventStoreError.Level())
	assert.Equal(t, slog.LevelInfo, devicegrant.EventSlowDown.Level())
}

// A thousand logins with everything that can go wrong: no code, verifier, token, ticket or
// key of theirs is in an event or in the log.
func TestNoSecretsInEventsAndLogs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var dump bytes.Buffer
		store := storetest.NewFaulty(memstore.New(0))
		f := newFixture(t, func(c *devicegrant.Config) { c.Store = store })
		f.onEvent = func(e devicegrant.Event) { fmt.Fprintf(&dump, "%+v %v\n", e, e.LogValue()) }
		secrets := []string{string(bytes.Repeat([]byte{1}, 32)), verifier, otherVerifier, codeChallenge, thumbprint.Thumbprint}
		for i := range 1000 {
			a, err := f.Authorize(t.Context(), tv, devicegrant.AuthorizationRequest{
				CodeChallenge: codeChallenge, CodeChallengeMethod: "S256", Key: thumbprint, Device: devicegrant.Device{Addr: address(i)},
			})
			require.NoError(t, err)
			by := devicegrant.Person{Subject: fmt.Sprint("person", i), Session: fmt.Sprintf("cookie-%d-secret", i), Addr: address(i)}
			r := f.review(a.UserCode, by)
			secrets = append(secrets, a.DeviceCode, a.UserCode, strings.ReplaceAll(a.UserCode, "-", ""), by.Session, r.Ticket)
			_, _ = f.Lookup(t.Context(), a.UserCode, devicegrant.Person{Subject: "spy", Session: fmt.Sprint("s", i)})
			_, _ = f.Lookup(t.Context(), a.UserCode[:8]+"Z", by)
			poll := devicegrant.PollRequest{ClientID: "tv", DeviceCode: a.DeviceCode, Addr: address(i)}
			_, _ = f.Poll(t.Context(), poll)
			poll.CodeVerifier, poll.Key = verifier, thumbprint
			store.Inject(storetest.OpPoll, outage)
			_, _ = f.Poll(t.Context(), poll)
			store.Heal()
			_, _ = f.Poll(t.Context(), poll)
			require.NoError(t, f.yes(t.Context(), r.Ticket, by))
			_ = f.post("/token", tokenForm("cli", a.DeviceCode, "client_secret=cli+secret%2F%2B%3A", "code_verifier="+verifier))
			token, err := f.Poll(t.Context(), poll)
			require.NoError(t, err)
			secrets = append(secrets, token.AccessToken)
			_, err = f.Poll(t.Context(), poll)
			require.ErrorIs(t, err, devicegrant.ErrInvalidGrant)
			time.Sleep(5 * time.Second) // Wrong codes are forgiven.
		}
		text := dump.String() + f.logged()
		for _, secret := range secrets {
			if strings.Contains(text, secret) {
				require.Fail(t, "a secret is in the log or in an event", secret)
			}
		}
		assert.Empty(t, regexp.MustCompile(`[A-Za-z0-9_-]{43,}`).FindAllString(text, 3), "what looks like one")
		for _, event := range []string{"redeemed", "replayed", "unproven", "other_session", "store_error", "wrong_user_code"} {
			assert.Contains(t, text, event)
		}
	})
}

// Events say where from: the browser, or the device that polled.
func TestEventsSayWhereFrom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		verdict := devicegrant.Allow
		f := newFixture(t, func(c *devicegrant.Config) {
			c.Risk = func(context.Context, devicegrant.Situation) (devicegrant.Verdict, error) { return verdict, nil }
		})
		at := devicegrant.Person{Subject: "alice", Session: "laptop", Addr: address(1)}
		a := f.authorize()
		f.review(a.UserCode, at)
		_, _ = f.Lookup(t.Context(), a.UserCode, devicegrant.Person{Subject: "alice", Session: "phone", Addr: address(1)})
		for range 8 {
			_, _ = f.Lookup(t.Context(), "BBBB-BBBB", at)
		}
		verdict = devicegrant.Refuse
		time.Sleep(time.Hour)
		_, err := f.Lookup(t.Context(), f.authorize().UserCode, at)
		require.ErrorIs(t, err, devicegrant.ErrRefused)
		verdict = devicegrant.Allow

		b := f.authorize()
		poll := devicegrant.PollRequest{ClientID: "cli", DeviceCode: b.DeviceCode, Addr: address(1)}
		_, _ = f.Poll(t.Context(), poll)
		poll.ClientID = "tv"
		for range 3 {
			_, _ = f.Poll(t.Context(), poll)
			time.Sleep(time.Second)
		}
		f.approve(b)
		for range 2 {
			_, _ = f.Poll(t.Context(), poll)
		}
		for _, event := range []devicegrant.EventType{
			devicegrant.EventReviewed, devicegrant.EventOtherSession, devicegrant.EventWrongUserCode, devicegrant.EventTooManyGuesses,
			devicegrant.EventRefused, devicegrant.EventOtherClient, devicegrant.EventSlowDown, devicegrant.EventReplayed,
		} {
			raised := f.raised(event)
			require.NotEmpty(t, raised, event)
			assert.Equal(t, address(1), raised[0].Addr, event)
		}
	})
}

// Where nobody listens, what fails is logged all the same.
func TestWithoutOnEvent(t *testing.T) {
	store := storetest.NewFaulty(memstore.New(0))
	f := newFixture(t, func(c *devicegrant.Config) { c.OnEvent, c.Store = nil, store })
	f.approve(f.authorize())
	store.Inject(storetest.OpCreate, outage)
	_, err := f.Authorize(t.Context(), tv, devicegrant.AuthorizationRequest{})
	require.ErrorIs(t, err, devicegrant.ErrTemporarilyUnavailable)
	assert.Contains(t, f.logged(), errOutage.Error())
}
