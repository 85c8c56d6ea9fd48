package deviceclient

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Whatever a server sends is refused, or can be shown, waited for, and kept.
func FuzzAuthorization(f *testing.F) {
	f.Add(`{"device_code":"d","user_code":"WDJB-MJHT","verification_uri":"https://a.b/device","expires_in":1800,"interval":5}`)
	f.Add(`{"device_code":"d","user_code":"W","verification_url":"http://a","verification_uri_complete":"http://a?b","expires_in":"1.5"}`)
	f.Add(`{"device_code":"d","user_code":"W","verification_uri":"https://a","expires_in":"9.5","interval":5.5}`)
	f.Add(`{"device_code":"\u0000","user_code":"\u202e","verification_uri":"javascript:a","expires_in":-1e400,"interval":"NaN"}`)
	f.Fuzz(func(t *testing.T, body string) {
		now := time.Now()
		a, err := parseAuthorization([]byte(body), now)
		if err != nil {
			assert.Less(t, len(err.Error()), 200)
			assert.NotContains(t, err.Error(), "\n")
			return
		}
		for _, shown := range []string{a.UserCode, a.VerificationURI, a.VerificationURIComplete} {
			require.True(t, utf8.ValidString(shown))
			for _, r := range shown {
				require.True(t, unicode.IsPrint(r), "%q", r)
			}
		}
		require.NotEmpty(t, a.DeviceCode)
		require.NotEmpty(t, a.UserCode)
		require.GreaterOrEqual(t, a.Interval, time.Second)
		require.LessOrEqual(t, a.Interval, a.ExpiresIn)
		require.LessOrEqual(t, a.ExpiresIn, maxLifetime)
		assert.Equal(t, a.ExpiresIn, a.Left(now))

		kept, err := json.Marshal(a)
		require.NoError(t, err)
		again, err := parseAuthorization(kept, now)
		require.NoError(t, err, "%s", kept)
		for again, first := range map[time.Duration]time.Duration{again.ExpiresIn: a.ExpiresIn, again.Interval: a.Interval} {
			assert.GreaterOrEqual(t, again, first)
			assert.Less(t, again-first, time.Second)
		}
		again.ExpiresIn, again.Interval = a.ExpiresIn, a.Interval // They were rounded up.
		assert.Equal(t, a, again)
	})
}

func FuzzToken(f *testing.F) {
	f.Add(`{"access_token":"a","token_type":"Bearer","expires_in":3600}`)
	f.Add(`{"access_token":"a","token_type":"DPoP","expires_in":"-1","scope":"b","refresh_token":"c","x":[1]}`)
	f.Add(`{"access_token":{},"token_type":null}`)
	f.Fuzz(func(t *testing.T, body string) {
		now := time.Now()
		token, why := parseToken([]byte(body), now)
		if token == nil {
			require.NotEmpty(t, why)
			return
		}
		require.NotEmpty(t, token.AccessToken)
		require.NotEmpty(t, token.TokenType)
		require.NotNil(t, token.Parameters)
		require.True(t, token.Expiry.IsZero() || token.Expiry.After(now))
	})
}

// Whatever the status, the headers and the body of a refusal: it is an error that can be
// shown, and asks for no more than a day of patience.
func FuzzRefusal(f *testing.F) {
	f.Add(400, `{"error":"slow_down","interval":"10","error_description":"x\u0007"}`, "Fri, 31 Dec 1999 23:59:59 GMT", "", "text/html")
	f.Add(307, "<h1>", "120", "https://a.b/?c=d", "")
	f.Fuzz(func(t *testing.T, status int, body, after, location, mediaType string) {
		resp := &http.Response{
			StatusCode: status,
			Header:     http.Header{"Retry-After": {after}, "Location": {location}, "Content-Type": {mediaType}},
			Body:       io.NopCloser(strings.NewReader(body)),
			Request:    &http.Request{URL: &url.URL{Scheme: "https", Host: "example.com", Path: "/token"}},
		}
		err := refusal(resp, []byte(body), time.Unix(0, 0))
		for _, r := range err.Error() {
			require.True(t, unicode.IsPrint(r), "%q", err)
		}
		require.Less(t, len(err.Error()), 4*(2*maxShown+100))
		wait := demanded(err)
		require.True(t, wait >= 0 && wait <= maxRetryAfter)
		if refused, ok := errors.AsType[*Error](err); ok {
			require.True(t, refused.interval >= 0 && refused.interval <= maxSeconds*time.Second)
		}
	})
}
