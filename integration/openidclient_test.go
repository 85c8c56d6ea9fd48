package integration

import (
	"encoding/json"
	"net/http"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// nodeDevice is a device that logs in by a package from npm: by openid-client, unless
// another script is named.
type nodeDevice struct {
	*process
	shown answer
}

// loggedIn is what it was given.
type loggedIn struct {
	Issued, Refreshed struct {
		AccessToken  string `json:"access_token"`
		RefreshToken string `json:"refresh_token"`
		TokenType    string `json:"token_type"`
		Scope        string
	}
	Answers  []struct{ Sub string } // of userinfo
	Verifier string

	Failed struct { // what it says of an error instead
		Error, Code string
		Cause       any // a system's word for a lost connection, or something else's number
	}
}

// startNodeDevice starts one and waits for it to show its code. kind is dpop or pkce.
func startNodeDevice(t *testing.T, s *authServer, kind string) *nodeDevice {
	t.Helper()
	return startNodeScript(t, "device.mjs", s.origin, kind)
}

func startNodeScript(t *testing.T, script string, args ...string) *nodeDevice {
	t.Helper()
	d := &nodeDevice{process: startCommand(t, "node", append([]string{filepath.Join("node", script)}, args...)...)}
	line := d.printed(t, `^(.*)\n`)[1]
	require.NoError(t, json.Unmarshal([]byte(line), &d.shown))
	return d
}

// end waits for it to have its tokens.
func (d *nodeDevice) end(t *testing.T) (got loggedIn) {
	t.Helper()
	require.Zero(t, d.exitCode(t), d.stderr.String())
	return d.said(t)
}

// said waits for it to end, and returns what it says of its tokens or of an error.
func (d *nodeDevice) said(t *testing.T) (got loggedIn) {
	t.Helper()
	d.exitCode(t)
	line := d.printed(t, `^.*\n(.*)\n$`)[1]
	require.NoError(t, json.Unmarshal([]byte(line), &got))
	return got
}

// The client that most JavaScript programs use logs in with a key (RFC 9449), and with a
// code verifier (RFC 7636). Nobody else gets anything for its code.
func TestOpenIDClient(t *testing.T) {
	t.Parallel()
	server := startAuthServer(t, "-interval", "1s")
	for kind, tokenType := range map[string]string{"dpop": "dpop", "pkce": "bearer"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			d := startNodeDevice(t, server, kind)
			require.Equal(t, "invalid_grant", server.poll(t, d.shown.DeviceCode).Error)
			newAlice(t).approve(t, d.shown)
			require.Equal(t, "invalid_grant", server.poll(t, d.shown.DeviceCode).Error)

			got := d.end(t)
			assert.Equal(t, tokenType, got.Issued.TokenType)
			assert.Equal(t, tokenType, got.Refreshed.TokenType)
			assert.Equal(t, "openid profile offline_access", got.Issued.Scope)
			require.Len(t, got.Answers, 2)
			assert.Equal(t, "alice", got.Answers[0].Sub)
			assert.Equal(t, "alice", got.Answers[1].Sub)

			want := map[string]int{"dpop": http.StatusUnauthorized, "pkce": http.StatusOK}[kind]
			assert.Equal(t, want, server.userinfo(t, got.Refreshed.AccessToken).status, "as a bearer token")
		})
	}
}

// Every database keeps which key a token is bound to; here, each proof takes a nonce.
func TestOpenIDClientOnDatabases(t *testing.T) {
	t.Parallel()
	for name, create := range storeURLs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := startAuthServer(t, "-store", create(t), "-interval", "1s", "-dpop-nonces")
			d := startNodeDevice(t, server, "dpop")
			newAlice(t).approve(t, d.shown)
			got := d.end(t)
			for _, token := range []string{got.Issued.AccessToken, got.Refreshed.AccessToken} {
				require.NotEmpty(t, token)
				assert.Equal(t, http.StatusUnauthorized, server.userinfo(t, token).status, "as a bearer token")
			}
			assert.Equal(t, "invalid_grant", server.refresh(t, "tv", got.Refreshed.RefreshToken).Error, "without the key")
		})
	}
}
