package main

import (
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/devicegrant/devicegrant/examples/internal/prover"
)

// The keys of a rotation.
var (
	keyA = strings.Repeat("0a", 32)
	keyB = strings.Repeat("0b", 32)
)

// keyFile returns a file with keys, the first of which makes codes.
func keyFile(t *testing.T, keys ...string) string {
	file := filepath.Join(t.TempDir(), "key")
	require.NoError(t, os.WriteFile(file, []byte(strings.Join(keys, "\n")), 0o600))
	return file
}

// TestKeyRotation: a login goes on while the key of its codes is being replaced, and its
// codes are worth nothing once the key is gone.
func TestKeyRotation(t *testing.T) {
	store := "sqlite:" + filepath.Join(t.TempDir(), "auth.db")
	d := newDevice(t)
	b, _ := newPerson(t)

	old := serve(t, "-store", store, "-key", keyFile(t, keyA))
	a, late := d.authorize(old), d.authorize(old)
	signIn(t, b, old)
	old.end(t)

	both := serve(t, "-store", store, "-key", keyFile(t, keyB, keyA))
	require.Equal(t, "authorization_pending", d.poll(both, a.DeviceCode).Error)
	approve(t, b, both, a.UserCode)
	got := d.poll(both, a.DeviceCode)
	require.Equal(t, http.StatusOK, got.Status, got.Body)
	require.Equal(t, "authorization_pending", d.poll(both, late.DeviceCode).Error)
	fresh := d.authorize(both)
	both.end(t)

	rotated := serve(t, "-store", store, "-key", keyFile(t, keyB))
	assert.Equal(t, "invalid_grant", d.poll(rotated, late.DeviceCode).Error)
	b.Open(rotated.origin + "/device?user_code=" + late.UserCode)
	assert.Equal(t, http.StatusBadRequest, b.Status)
	assert.NotContains(t, b.Text, "Living-room TV")
	assert.Equal(t, "alice", d.userinfo(rotated, got.AccessToken).Sub, "tokens do not depend on it")
	approve(t, b, rotated, fresh.UserCode)
	require.Equal(t, http.StatusOK, d.poll(rotated, fresh.DeviceCode).Status)
	rotated.end(t)
}

// TestReplicasRotate: replicas of which some make codes under the new key already take each
// other's codes, tickets and nonces, whichever of them a request reaches.
func TestReplicasRotate(t *testing.T) {
	store := "sqlite:" + filepath.Join(t.TempDir(), "auth.db")
	behind := serve(t, "-dpop-nonces", "-store", store, "-key", keyFile(t, keyA, keyB))
	ahead := serve(t, "-dpop-nonces", "-store", store, "-key", keyFile(t, keyB, keyA))
	d := newDevice(t)
	b, _ := newPerson(t)
	signIn(t, b, behind)
	for _, replicas := range [][2]*process{{behind, ahead}, {ahead, behind}} {
		makes, takes := replicas[0], replicas[1]
		key := prover.New(t)
		a := d.proven(makes, key, "/device_authorization", url.Values{})
		poll := func() answer { // With a nonce that the other one made.
			return d.post(takes, "/token", pollForm(a.DeviceCode), "DPoP", key.Proof(http.MethodPost, takes.origin+"/token", ""))
		}
		require.Equal(t, "invalid_grant", d.poll(takes, a.DeviceCode).Error, "without the key")
		require.Equal(t, "authorization_pending", poll().Error)
		// One shows the request, and the other takes the decision.
		b.Open(makes.origin + "/device?user_code=" + a.UserCode)
		b.URL.Host = strings.TrimPrefix(takes.origin, "http://")
		b.Submit("approve", nil)
		require.Contains(t, b.Text, "Device connected")
		got := poll()
		require.Equal(t, http.StatusOK, got.Status, got.Body)
	}
	behind.end(t)
	ahead.end(t)
}
