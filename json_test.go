package devicegrant

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// FuzzAnswers compares answers with what encoding/json makes of the same members.
func FuzzAnswers(f *testing.F) {
	f.Add("GmRhmhcxhwAzkoEqiMEg_DnyEysNkuNhszIySk9eS", "WDJB-MJHT", "https://example.com/device", "https://example.com/device?user_code=WDJB-MJHT", int64(1800), int64(5))
	f.Add("", "", "https://example.com/?a=b&c=d", "", int64(0), int64(-1))
	f.Add("\"\\/\x00\x1f\x7f\xff", "\u2028\u2029", "https://пример.example/", "\U0001f4fa\t", int64(1)<<33, int64(61))
	for _, special := range []string{`"`, `\`, "<", ">", "&", "\x1f", "\x7f", "\xff", "\u2028"} {
		f.Add("a"+special, special+"b", special, special, int64(1), int64(1))
	}
	f.Fuzz(func(t *testing.T, deviceCode, userCode, uri, complete string, expiresIn, interval int64) {
		a := &Authorization{deviceCode, userCode, uri, complete, time.Duration(expiresIn), time.Duration(interval)}
		requireMarshaled(t, struct {
			DeviceCode              string `json:"device_code"`
			UserCode                string `json:"user_code"`
			VerificationURI         string `json:"verification_uri"`
			VerificationURIComplete string `json:"verification_uri_complete,omitempty"`
			ExpiresIn               int64  `json:"expires_in"`
			Interval                int64  `json:"interval"`
		}{deviceCode, userCode, uri, complete, wholeSeconds(a.ExpiresIn), wholeSeconds(a.Interval)}, a.appendTo(nil))

		e := &Error{Code: deviceCode, Description: userCode, Interval: time.Duration(interval)}
		requireMarshaled(t, struct {
			Error       string `json:"error"`
			Description string `json:"error_description,omitempty"`
			Interval    int64  `json:"interval,omitempty"`
		}{e.Code, printable(e.Description), wholeSeconds(e.Interval)}, e.marshal())
	})
}

func requireMarshaled(t *testing.T, members any, answer []byte) {
	t.Helper()
	want, err := json.Marshal(members)
	require.NoError(t, err)
	require.Equal(t, string(want), string(answer))
}
