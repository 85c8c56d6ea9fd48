package integration

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A client that polls twice as fast as it may is told to slow down, five seconds
// more each time, recovers once it obeys, and gets its token even when early.
func TestFastClient(t *testing.T) { // Not beside tests that keep the machine busy.
	server := startAuthServer(t, "-interval", "1s")
	a := server.authorize(t)
	require.Equal(t, 1, a.Interval)
	for _, step := range []struct {
		wait     time.Duration
		want     string
		interval int
	}{
		{0, "authorization_pending", 0},
		{500 * time.Millisecond, "slow_down", 6},
		{2500 * time.Millisecond, "slow_down", 11},
		{11 * time.Second, "authorization_pending", 0},
	} {
		time.Sleep(step.wait) // The pace is what is tested.
		got := server.poll(t, a.DeviceCode)
		require.Equal(t, http.StatusBadRequest, got.status)
		require.Equal(t, step.want, got.Error, "after %v", step.wait)
		require.Equal(t, step.interval, got.Interval, "after %v", step.wait)
	}
	newAlice(t).approve(t, a)
	early := server.poll(t, a.DeviceCode)
	assert.Equal(t, http.StatusOK, early.status, early.raw)
	assert.Equal(t, "alice", server.userinfo(t, early.AccessToken).Sub)
}

// Requests sent at once are one poll, so nobody is told to slow down.
func TestSamePollTwice(t *testing.T) { // Not beside tests that keep the machine busy.
	server := startAuthServer(t)
	a := server.authorize(t)
	assert.Equal(t, "authorization_pending", server.poll(t, a.DeviceCode).Error)
	assert.Equal(t, "authorization_pending", server.poll(t, a.DeviceCode).Error)
}
