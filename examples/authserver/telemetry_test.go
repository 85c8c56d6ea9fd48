package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A login is in the telemetry, and no secret of it.
func TestTelemetry(t *testing.T) {
	file := filepath.Join(t.TempDir(), "telemetry.json")
	p := serve(t, "-telemetry", file)
	d := newDevice(t)
	b, _ := newPerson(t)
	signIn(t, b, p)
	a := d.authorize(p)
	approve(t, b, p, a.UserCode)
	got := d.poll(p, a.DeviceCode)
	require.NotEmpty(t, got.AccessToken, got.Body)
	p.end(t)

	content, err := os.ReadFile(file)
	require.NoError(t, err)
	for _, want := range []string{"devicegrant.events", "devicegrant.login.duration", `"Name":"devicegrant.login"`, `"redeemed"`} {
		assert.Contains(t, string(content), want)
	}
	for _, secret := range []string{a.DeviceCode, a.UserCode, got.AccessToken, "alice", "127.0.0.1"} {
		assert.NotContains(t, string(content), secret)
	}
}
