package integration

import (
	"net/http"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What the server logs in a day that goes wrong holds no secret: neither of the
// flow, nor of the clients, nor of the people.
func TestLogHoldsNoSecret(t *testing.T) {
	t.Parallel()
	server := startAuthServer(t)
	alice := newAlice(t)
	a, denied, pending := server.authorize(t), server.authorize(t), server.authorize(t)
	alice.approve(t, a)
	alice.deny(t, denied)
	token := server.poll(t, a.DeviceCode)
	refreshed := server.refresh(t, "tv", token.RefreshToken)
	server.poll(t, a.DeviceCode)
	server.poll(t, denied.DeviceCode)
	server.refresh(t, "tv", token.RefreshToken)
	server.post(t, "/token", "grant_type", grantType, "client_id", "cli", "client_secret", "cli-secret", "device_code", pending.DeviceCode)
	wrong := alice.submit(t, alice.open(t, pending.VerificationURI), map[string]string{"user_code": "BBBB-BBBB"})
	require.Equal(t, http.StatusBadRequest, wrong.status)
	require.Zero(t, server.stop(t, syscall.SIGTERM))

	log := strings.ToLower(server.stderr.String())
	for _, event := range []string{"approved", "denied", "redeemed", "replayed", "other_client", "wrong_user_code"} {
		assert.Contains(t, log, event, "the log is worth looking at")
	}
	secrets := []string{
		token.AccessToken, token.RefreshToken, refreshed.AccessToken, refreshed.RefreshToken,
		alice.password, "cli-secret", "bbbb-bbbb", "bbbbbbbb",
	}
	cookies := alice.cookies(t, server.origin)
	require.Len(t, cookies, 2)
	for _, value := range cookies {
		secrets = append(secrets, value)
	}
	for _, a := range []answer{a, denied, pending} {
		secrets = append(secrets, a.DeviceCode, a.UserCode, strings.ReplaceAll(a.UserCode, "-", ""))
	}
	for _, secret := range secrets {
		require.NotEmpty(t, secret)
		assert.NotContains(t, log, strings.ToLower(secret))
	}
	assert.Equal(t, "listening on "+server.origin+"\n", server.stdout.String())
}
