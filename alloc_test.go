//go:build !race

package devicegrant_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/devicegrant/devicegrant"
)

// Allocations are counted without the race detector, which makes pools forget.

func TestPollPendingDoesNotAllocate(t *testing.T) {
	f := newFixture(t, nil)
	a := f.authorize()
	now := time.Now()
	f.SetClock(func() time.Time { now = now.Add(5 * time.Second); return now })
	end := now.Add(a.ExpiresIn)
	assert.Zero(t, testing.AllocsPerRun(100, func() {
		if _, err := f.poll(a); now.Before(end) && err != devicegrant.ErrAuthorizationPending {
			t.Error(err)
		}
	}))
}

func TestForgedCodeDoesNotAllocate(t *testing.T) {
	f := newFixture(t, nil)
	a := f.authorize()
	forged := "AAAA" + a.DeviceCode[4:]
	assert.Zero(t, testing.AllocsPerRun(100, func() { _, _ = f.Poll(t.Context(), devicegrant.PollRequest{ClientID: "tv", DeviceCode: forged}) }))
}
