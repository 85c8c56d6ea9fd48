package integration

import (
	"encoding/hex"
	"net/http"
	"os"
	"path/filepath"
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

// Nor does the log of a day on which codes are stolen and made up: what devices prove and
// what an operator asks is not in it either.
func TestLogOfThefts(t *testing.T) {
	t.Parallel()
	const operator, badProof = "operatorsSecret", "bm90IGEgcHJvb2Y.bm90IGEgcHJvb2Y.bm90IGEgcHJvb2Y"
	key := strings.Repeat("0f1e2d3c", 8)
	file := filepath.Join(t.TempDir(), "key")
	require.NoError(t, os.WriteFile(file, []byte(key), 0o600))
	server := startAuthServer(t, "-interval", "1s", "-key", file, "-admin-secret", operator)
	alice := newAlice(t)

	raw, err := hex.DecodeString(key)
	require.NoError(t, err)
	secrets := []string{operator, badProof, key, string(raw)}
	for _, kind := range []string{"dpop", "pkce"} {
		d := startNodeDevice(t, server, kind)
		wrong := strings.Repeat("wrongVerifier", 4)
		stolen := encode("grant_type", grantType, "client_id", "tv", "device_code", d.shown.DeviceCode, "code_verifier", wrong)
		require.Equal(t, "invalid_grant", server.do(t, server.postRequest(t, "/token", stolen)).Error)
		r := server.postRequest(t, "/token", stolen)
		r.Header.Set("DPoP", badProof)
		require.Equal(t, "invalid_dpop_proof", server.do(t, r).Error)
		r = server.postRequest(t, "/admin/grants/list", encode("user_code", d.shown.UserCode))
		r.Header.Set("Authorization", "Bearer "+operator)
		require.Equal(t, http.StatusOK, server.do(t, r).status)
		alice.approve(t, d.shown)
		got := d.end(t)
		secrets = append(secrets, wrong, d.shown.DeviceCode, d.shown.UserCode, strings.ReplaceAll(d.shown.UserCode, "-", ""),
			got.Issued.AccessToken, got.Issued.RefreshToken, got.Refreshed.AccessToken, got.Refreshed.RefreshToken)
		if kind == "pkce" {
			secrets = append(secrets, got.Verifier)
		}
	}
	madeUp := strings.Repeat("made-up-", 8)
	for server.poll(t, madeUp).Error != "too_many_requests" {
	}
	revoked := server.authorize(t)
	r := server.postRequest(t, "/admin/grants/revoke", encode("user_code", revoked.UserCode))
	r.Header.Set("Authorization", "Bearer "+operator)
	require.JSONEq(t, `{"revoked":1}`, server.do(t, r).raw)
	secrets = append(secrets, madeUp, revoked.DeviceCode, revoked.UserCode, strings.ReplaceAll(revoked.UserCode, "-", ""))
	require.Zero(t, server.stop(t, syscall.SIGTERM))

	log := server.stderr.String()
	for _, event := range []string{"unproven", "unknown_device_code", "limited", "revoked", "redeemed"} {
		assert.Contains(t, log, "device grant: "+event, "the log is worth looking at")
	}
	for _, secret := range secrets {
		require.NotEmpty(t, secret)
		assert.NotContains(t, strings.ToLower(log), strings.ToLower(secret))
	}
}
