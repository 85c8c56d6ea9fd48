package deviceclient

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestRetryAfter(t *testing.T) {
	const noon, later = "Sun, 29 Nov 2026 12:00:00 GMT", "Sun, 29 Nov 2026 12:00:30 GMT"
	now := time.Date(2026, time.November, 29, 12, 0, 10, 0, time.UTC)
	for _, test := range []struct {
		after, date string
		want        time.Duration
	}{
		{"", noon, 0},
		{"0", noon, 0},
		{"7", noon, 7 * time.Second},
		{"4294967295", noon, 24 * time.Hour},
		{"99999999999999999999", noon, 0},
		{"-1", noon, 0},
		{"soon", noon, 0},
		{later, noon, 30 * time.Second},
		{later, "", 20 * time.Second},
		{noon, later, 0},
		{"Wed, 29 Nov 2126 12:00:00 GMT", noon, 24 * time.Hour},
	} {
		h := http.Header{"Retry-After": {test.after}, "Date": {test.date}}
		assert.Equal(t, test.want, retryAfter(h, now), "%+v", test)
	}
}

// A token is not lost for what is odd about its lifetime.
func TestParseToken(t *testing.T) {
	now := time.Now()
	for expiresIn, want := range map[string]time.Time{
		`3600`: now.Add(time.Hour), `"3600"`: now.Add(time.Hour), `0.5`: now.Add(time.Second / 2),
		`0`: {}, `null`: {}, `-1`: {}, `1e300`: {}, `"soon"`: {}, `[]`: {},
	} {
		token, why := parseToken([]byte(`{"access_token":"a","token_type":"b","expires_in":`+expiresIn+`}`), now)
		assert.Empty(t, why)
		assert.Equal(t, want, token.Expiry, expiresIn)
	}
	for body, want := range map[string]string{
		`{"token_type":"b"}`:                      "access_token is missing",
		`{"access_token":"","token_type":"b"}`:    "access_token is missing",
		`{"access_token":"a"}`:                    "token_type is missing",
		`{"access_token":["a"],"token_type":"b"}`: "it is no token response",
		`null`: "access_token is missing",
		`[]`:   "it is no token response",
	} {
		_, why := parseToken([]byte(body), now)
		assert.Equal(t, want, why, body)
	}
}
