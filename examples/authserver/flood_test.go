package main

import (
	"crypto/rand"
	"encoding/base64"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestForgedFlood: whoever makes device codes up is told to stop, and devices at the same
// address, whose codes are genuine, do not notice.
func TestForgedFlood(t *testing.T) {
	const forged, at = 4000, 8
	p := serve(t)
	defer p.end(t)
	d := newDevice(t)
	began := time.Now()
	var admitted, refused atomic.Int64
	var flood sync.WaitGroup
	for range at {
		flood.Go(func() {
			for range forged / at {
				got := d.poll(p, madeUp())
				if got.Error == "invalid_grant" {
					admitted.Add(1)
					continue
				}
				refused.Add(1)
				wait, err := strconv.Atoi(got.Header.Get("Retry-After"))
				if !assert.Equal(t, http.StatusTooManyRequests, got.Status, got.Body) ||
					!assert.Equal(t, "too_many_requests", got.Error) || !assert.NoError(t, err) || !assert.Positive(t, wait) {
					return
				}
			}
		})
	}
	b, _ := newPerson(t)
	signIn(t, b, p)
	for range 20 { // While it goes on.
		a := d.authorize(p)
		require.Equal(t, "authorization_pending", d.poll(p, a.DeviceCode).Error)
		approve(t, b, p, a.UserCode)
		require.Equal(t, http.StatusOK, d.poll(p, a.DeviceCode).Status)
	}
	flood.Wait()
	assert.EqualValues(t, forged, admitted.Load()+refused.Load())
	assert.LessOrEqual(t, admitted.Load(), 100+int64(time.Since(began)/time.Second)+1)
	a := d.authorize(p) // And after it.
	require.Equal(t, "authorization_pending", d.poll(p, a.DeviceCode).Error)
}

// madeUp has the form of a device code.
func madeUp() string {
	raw := make([]byte, 48)
	_, _ = rand.Read(raw) // It never fails.
	return base64.RawURLEncoding.EncodeToString(raw)
}

// TestFleet: a fleet behind one address starts at once.
func TestFleet(t *testing.T) {
	p := serve(t)
	defer p.end(t)
	d := newDevice(t)
	var devices sync.WaitGroup
	for range 8 {
		devices.Go(func() {
			for range 100 {
				a := d.post(p, "/device_authorization", url.Values{})
				assert.Equal(t, http.StatusOK, a.Status, a.Body)
			}
		})
	}
	devices.Wait()
}
