package clientfaults

import (
	"bytes"
	"context"
	"encoding/gob"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"reflect"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/oauth2"

	"github.com/devicegrant/devicegrant"
	"github.com/devicegrant/devicegrant/deviceclient"
)

// patience is how long a client waits for one answer.
const patience = 10 * time.Second

// device is a program that signs in with one of the clients.
type device struct {
	name   string
	signIn func(*login) (token string, err error)
	check  func(l *login, err error, seen string) // that it ended as it must
}

var devices = []device{
	{"deviceclient", func(l *login) (string, error) { return signIn(l, ours(l)) }, checkOurs},
	{"x/oauth2, in parameters", func(l *login) (string, error) { return signIn(l, xoauth2(l, oauth2.AuthStyleInParams)) }, checkOAuth2},
	{"x/oauth2, auto-detected", func(l *login) (string, error) { return signIn(l, xoauth2(l, oauth2.AuthStyleAutoDetect)) }, checkOAuth2},
}

// program is what such a program calls; A is what it keeps.
type program[A any] struct {
	start func(context.Context) (a *A, userCode string, err error)
	poll  func(context.Context, *A) (token string, err error)
}

func ours(l *login) program[deviceclient.Authorization] {
	client, err := deviceclient.New(deviceclient.Config{
		ClientID:                    clientID,
		DeviceAuthorizationEndpoint: origin + authorizationPath,
		TokenEndpoint:               origin + tokenPath,
		HTTPClient:                  &http.Client{Transport: l.network},
		RequestTimeout:              patience,
	})
	require.NoError(l.t, err)
	return program[deviceclient.Authorization]{
		start: func(ctx context.Context) (*deviceclient.Authorization, string, error) {
			a, err := client.Start(ctx)
			if err != nil {
				return nil, "", err
			}
			return a, a.UserCode, nil
		},
		poll: func(ctx context.Context, a *deviceclient.Authorization) (string, error) {
			token, err := client.Poll(ctx, a)
			if err != nil {
				return "", err
			}
			return token.AccessToken, nil
		},
	}
}

// xoauth2 has a time limit for each request: without one it waits for a lost answer until
// the codes expire.
func xoauth2(l *login, style oauth2.AuthStyle) program[oauth2.DeviceAuthResponse] {
	config := &oauth2.Config{
		ClientID: clientID,
		Endpoint: oauth2.Endpoint{DeviceAuthURL: origin + authorizationPath, TokenURL: origin + tokenPath, AuthStyle: style},
	}
	limited := func(ctx context.Context) context.Context {
		return context.WithValue(ctx, oauth2.HTTPClient, &http.Client{Transport: l.network, Timeout: patience})
	}
	return program[oauth2.DeviceAuthResponse]{
		start: func(ctx context.Context) (*oauth2.DeviceAuthResponse, string, error) {
			a, err := config.DeviceAuth(limited(ctx))
			if err != nil {
				return nil, "", err
			}
			return a, a.UserCode, nil
		},
		poll: func(ctx context.Context, a *oauth2.DeviceAuthResponse) (string, error) {
			token, err := config.DeviceAccessToken(limited(ctx), a)
			if err != nil {
				return "", err
			}
			return token.AccessToken, nil
		},
	}
}

// signIn is one login. If the device restarts, it goes on with what it kept at the start.
func signIn[A any](l *login, p program[A]) (token string, err error) {
	ctx := l.t.Context()
	a, userCode, err := p.start(ctx)
	require.NoError(l.t, err)
	l.show(userCode)
	r := l.plan.restart
	if r == nil {
		return p.poll(ctx, a)
	}
	kept := r.keep(l.t, a)
	running, kill := context.WithTimeout(ctx, r.after)
	defer kill()
	_, err = p.poll(running, a)
	require.ErrorIs(l.t, err, context.DeadlineExceeded)
	l.network.tally.Disturbed++
	time.Sleep(r.off)
	a = new(A)
	r.restore(l.t, kept, a)
	return p.poll(ctx, a)
}

// restart is when a device is killed, how long it is off, and how it keeps what it has.
type restart struct {
	after, off time.Duration
	keeping
}

type keeping struct {
	keep    func(t *testing.T, a any) []byte
	restore func(t *testing.T, kept []byte, a any)
	late    bool // A date that was kept is over.
}

var asJSON = keeping{
	keep: func(t *testing.T, a any) []byte {
		kept, err := json.Marshal(a)
		require.NoError(t, err)
		return kept
	},
	restore: func(t *testing.T, kept []byte, a any) { require.NoError(t, json.Unmarshal(kept, a)) },
}

// asGob keeps dates as such, and the device's clock is set forward while it is off: a
// date that was ahead is now nearer by as much.
var asGob = keeping{
	late: true,
	keep: func(t *testing.T, a any) []byte {
		var kept bytes.Buffer
		require.NoError(t, gob.NewEncoder(&kept).Encode(a))
		return kept.Bytes()
	},
	restore: func(t *testing.T, kept []byte, a any) {
		require.NoError(t, gob.NewDecoder(bytes.NewReader(kept)).Decode(a))
		for f, value := range reflect.ValueOf(a).Elem().Fields() {
			if !f.IsExported() {
				continue
			}
			if date, ok := value.Addr().Interface().(*time.Time); ok {
				*date = date.Add(-time.Hour)
			}
		}
	},
}

// checkOurs demands the token, unless it was made and lost on its way, and that no poll was
// early.
func checkOurs(l *login, err error, seen string) {
	tally := &l.network.tally
	require.Zero(l.t, tally.Early, seen)
	require.Equal(l.t, tally.Copies, tally.SlowDowns, seen)
	if tally.Lost == 0 {
		require.NoError(l.t, err, seen)
		return
	}
	require.ErrorIs(l.t, err, deviceclient.ErrFailed, seen)
	refused, ok := errors.AsType[*deviceclient.Error](err)
	require.True(l.t, ok, seen)
	require.Equal(l.t, devicegrant.ErrInvalidGrant.Code, refused.Code, seen)
}

// checkOAuth2 demands the token where nothing went wrong, and finds that the first fault
// ended the login otherwise.
func checkOAuth2(l *login, err error, seen string) {
	tally := &l.network.tally
	answered, refused := errors.AsType[*oauth2.RetrieveError](err)
	switch {
	case l.plan.restart != nil && l.plan.restart.late:
		require.ErrorIs(l.t, err, context.DeadlineExceeded, seen)
	case tally.Faults > 0 && refused:
		require.Equal(l.t, http.StatusBadGateway, answered.Response.StatusCode, seen)
		require.Equal(l.t, 1, tally.Faults, seen)
	case tally.Faults > 0:
		var unanswered *url.Error
		require.ErrorAs(l.t, err, &unanswered, seen)
		require.Equal(l.t, 1, tally.Faults, seen)
	case tally.Lost > 0:
		require.True(l.t, refused, seen)
		require.Equal(l.t, devicegrant.ErrInvalidGrant.Code, answered.ErrorCode, seen)
	default:
		require.NoError(l.t, err, seen)
	}
}
