package devicegrant_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/devicegrant/devicegrant"
	"github.com/devicegrant/devicegrant/memstore"
)

// benchGrants is how many grants are pending while polls are measured.
const benchGrants = 10_000

// pendingCodes returns device codes whose polls are neither early nor expired.
func pendingCodes(b *testing.B) (*fixture, []string) {
	b.Helper()
	f := newFixture(b, func(c *devicegrant.Config) { c.OnEvent = nil })
	codes := make([]string, benchGrants)
	for i := range codes {
		a, err := f.Authorize(b.Context(), tv, devicegrant.AuthorizationRequest{Scope: "openid profile"})
		require.NoError(b, err)
		codes[i] = a.DeviceCode
	}
	// A clock that steps back makes every poll one on time.
	now := time.Now()
	f.SetClock(func() time.Time { now = now.Add(-time.Microsecond * 200); return now })
	return f, codes
}

// BenchmarkPollPending is a poll through the handler, answered
// authorization_pending.
func BenchmarkPollPending(b *testing.B) {
	f, codes := pendingCodes(b)
	h := f.TokenHandler(nil)
	bodies := make([]string, len(codes))
	for i, code := range codes {
		bodies[i] = grantType + "&client_id=tv&device_code=" + code
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		w := serveForm(h, bodies[i%benchGrants])
		if w.Code != http.StatusBadRequest || w.Body.Len() != len(`{"error":"authorization_pending"}`) {
			b.Fatal(w.Code, w.Body)
		}
	}
}

// BenchmarkPollPendingCore is the same without HTTP: keyed code, client check,
// pacing.
func BenchmarkPollPendingCore(b *testing.B) {
	f, codes := pendingCodes(b)
	ctx := b.Context()
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if _, err := f.Poll(ctx, devicegrant.PollRequest{ClientID: "tv", DeviceCode: codes[i%benchGrants]}); err != devicegrant.ErrAuthorizationPending {
			b.Fatal(err)
		}
	}
}

// BenchmarkDeviceAuthorization is a device authorization request through the
// handler.
func BenchmarkDeviceAuthorization(b *testing.B) {
	f := newFixture(b, func(c *devicegrant.Config) { c.OnEvent, c.Store = nil, memstore.New(1<<30) })
	h := f.DeviceAuthorizationHandler()
	b.ReportAllocs()
	for b.Loop() {
		w := serveForm(h, "client_id=tv&scope=openid+profile")
		if w.Code != http.StatusOK {
			b.Fatal(w.Code, w.Body)
		}
	}
}

// serveForm sends a form as cheaply as a request can be made.
func serveForm(h http.Handler, body string) *httptest.ResponseRecorder {
	r := &http.Request{
		Method:     http.MethodPost,
		Header:     http.Header{"Content-Type": {formType}},
		RemoteAddr: "192.0.2.1:1234",
		Body:       io.NopCloser(strings.NewReader(body)),
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}
