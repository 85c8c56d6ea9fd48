package integration

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"testing"

	"github.com/cli/oauth/api"
	clidevice "github.com/cli/oauth/device"
	"github.com/stretchr/testify/require"
	"golang.org/x/oauth2"

	"github.com/devicegrant/devicegrant/deviceclient"
)

// attempt is a client that has shown its code, and polls.
type attempt struct {
	shown answer
	end   func(t *testing.T) ended // waits for the client to be done
}

// ended is what came of a login.
type ended struct {
	how          string
	accessTokens []string // the first was issued, the second refreshed
}

// How a login ends, whatever a client calls it.
const (
	gotToken   = "a token"
	denied     = "access_denied"
	expired    = "expired_token"
	byItsClock = "by the client's own clock"
	lost       = "lost connection"
)

var allScopes = []string{"openid", "profile", "offline_access"}

// startOAuth2 starts golang.org/x/oauth2, which refreshes by itself.
func startOAuth2(style oauth2.AuthStyle) func(*testing.T, *authServer, string) *attempt {
	return func(t *testing.T, _ *authServer, at string) *attempt {
		d := newDevice(t, at, oauth2Client{id: "tv", style: style})
		polled := d.poll(t, d.authorization)
		return &attempt{d.shown(), func(t *testing.T) ended {
			r := <-polled
			if refused, ok := errors.AsType[*oauth2.RetrieveError](r.err); ok {
				return ended{how: refused.ErrorCode}
			}
			if r.err != nil {
				return ended{how: goError(r.err)}
			}
			refreshed, err := d.config.TokenSource(d.ctx, &oauth2.Token{RefreshToken: r.token.RefreshToken}).Token()
			require.NoError(t, err)
			return ended{gotToken, []string{r.token.AccessToken, refreshed.AccessToken}}
		}}
	}
}

// goError says what an error is that no server sent: of a context, or of net/http.
func goError(err error) string {
	if errors.Is(err, context.DeadlineExceeded) {
		return byItsClock
	}
	if _, ok := errors.AsType[*url.Error](err); ok {
		return lost
	}
	return err.Error()
}

// startCLI starts cli/oauth, which the GitHub CLI logs in with. It does not refresh.
func startCLI(t *testing.T, _ *authServer, at string) *attempt {
	client := newClient(t)
	code, err := clidevice.RequestCode(client, at+"/device_authorization", "tv", allScopes)
	require.NoError(t, err)
	shown := answer{UserCode: code.UserCode, VerificationURI: code.VerificationURI}
	return inBackground(t, shown, func(ctx context.Context) ended {
		token, err := clidevice.Wait(ctx, client, at+"/token", clidevice.WaitOptions{ClientID: "tv", DeviceCode: code})
		if refused, ok := errors.AsType[*api.Error](err); ok {
			return ended{how: refused.Code}
		}
		if err != nil {
			return ended{how: goError(err)}
		}
		return ended{gotToken, []string{token.Token}}
	})
}

// startDeviceclient starts our own. Refreshing is the business of others.
func startDeviceclient(t *testing.T, _ *authServer, at string) *attempt {
	client, err := deviceclient.New(deviceclient.Config{
		ClientID:                    "tv",
		DeviceAuthorizationEndpoint: at + "/device_authorization",
		TokenEndpoint:               at + "/token",
		Scopes:                      allScopes,
	})
	require.NoError(t, err)
	a, err := client.Start(t.Context())
	require.NoError(t, err)
	shown := answer{UserCode: a.UserCode, VerificationURI: a.VerificationURI}
	return inBackground(t, shown, func(ctx context.Context) ended {
		token, err := client.Poll(ctx, a)
		refused, answered := errors.AsType[*deviceclient.Error](err)
		switch {
		case err == nil:
			return ended{gotToken, []string{token.AccessToken}}
		case errors.Is(err, deviceclient.ErrExpired) && !answered:
			return ended{how: byItsClock}
		case errors.Is(err, deviceclient.ErrExpired), errors.Is(err, deviceclient.ErrDenied):
			return ended{how: refused.Code}
		default:
			return ended{how: err.Error()}
		}
	})
}

// inBackground polls until there is a result, or for as long as is bearable.
func inBackground(t *testing.T, shown answer, poll func(context.Context) ended) *attempt {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	result := make(chan ended, 1)
	go func() { result <- poll(ctx) }()
	return &attempt{shown, func(*testing.T) ended { return <-result }}
}

// startOpenIDClient starts openid-client, with PKCE.
func startOpenIDClient(t *testing.T, s *authServer, at string) *attempt {
	return startNode(t, "device.mjs", s.origin, "pkce", at)
}

// startOAuth4WebAPI starts oauth4webapi in a loop like that of its documentation.
func startOAuth4WebAPI(t *testing.T, s *authServer, at string) *attempt {
	return startNode(t, "oauth4webapi.mjs", s.origin, at)
}

func startNode(t *testing.T, script string, args ...string) *attempt {
	d := startNodeScript(t, script, args...)
	return &attempt{d.shown, func(t *testing.T) ended {
		got := d.said(t)
		switch {
		case got.Issued.AccessToken != "":
			return ended{gotToken, []string{got.Issued.AccessToken, got.Refreshed.AccessToken}}
		case got.Failed.Error != "":
			return ended{how: got.Failed.Error}
		case got.Failed.Code == "OAUTH_TIMEOUT": // A signal's of its own.
			return ended{how: byItsClock}
		case got.Failed.Cause == "ECONNREFUSED", got.Failed.Cause == "ECONNRESET", got.Failed.Cause == "UND_ERR_SOCKET":
			return ended{how: lost}
		default:
			return ended{how: fmt.Sprint("failed: ", got.Failed)}
		}
	}}
}
