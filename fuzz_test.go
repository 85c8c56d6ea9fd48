package devicegrant_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/devicegrant/devicegrant"
)

const formType = "application/x-www-form-urlencoded"

var bodySeeds = []string{
	"client_id=tv&scope=openid",
	"client_id=tv&client_id=tv",
	grantType + "&client_id=tv&device_code=" + strings.Repeat("A", 64),
	grantType + "&client_id=cli&client_secret=x&device_code=%00%ff",
	"grant_type=refresh_token&refresh_token=x",
	"%zz=1&a=%u0041",
	"&&&===&",
	"client_id=%2574v&scope=a+b++c",
	"{}",
	"",
	"user_code=WDJB-MJHT", "action=approve&ticket=x", "user_code=%EF%BC%B7%00&action=",
	"action=approve&ticket=x&confirm=yes", "action=leave&ticket=", "action=switch&resume=%00", "action=report",
	"client_id=tv&device_name=%3Cb%3E%E2%80%AE%00%FF",
}

// fuzzHandler sends arbitrary requests and requires an answer in the protocol's own
// form, never a 500, and never a token.
func fuzzHandler(f *testing.F, path string) {
	for _, body := range bodySeeds {
		f.Add("POST", formType, "", body)
		f.Add("POST", formType+";charset=utf-8", "Basic dHY6", body)
		f.Add("POST", "text/plain", "Basic Y2xpOmNsaSUyMHNlY3JldCUyRiUyQiUzQQ==", body)
		f.Add("GET", "", "Bearer x", body)
	}
	fixture := newFixture(f, nil)
	f.Fuzz(func(t *testing.T, method, contentType, authorization, body string) {
		if strings.ContainsFunc(method, func(r rune) bool { return r < 'A' || r > 'Z' }) {
			return // net/http would not let it through.
		}
		r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
		r.Method = method
		r.Header.Set("Content-Type", contentType)
		r.Header.Set("Authorization", authorization)
		w := fixture.do(r)
		require.Contains(t, []int{200, 400, 401, 405}, w.Code)
		var answer map[string]any
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &answer), w.Body)
		require.NotContains(t, answer, "access_token")
		require.Equal(t, w.Code == http.StatusOK, answer["error"] == nil)
		require.Equal(t, "no-store", w.Header().Get("Cache-Control"))
	})
}

func FuzzDeviceAuthorizationHandler(f *testing.F) { fuzzHandler(f, "/device_authorization") }

func FuzzTokenHandler(f *testing.F) { fuzzHandler(f, "/token") }

// FuzzVerificationHandler sends anything to a page with everything switched on, which
// always answers with a page of its own, and decides nothing.
func FuzzVerificationHandler(f *testing.F) {
	for _, body := range bodySeeds {
		f.Add("POST", "", formType, body, "de", "x")
		f.Add("GET", body, "", "", "*;q=0.5, ar", "")
	}
	f.Add("GET", "user_code=WDJB-MJHT&resume=x", "", "", "", "AAAAAAAAAAAAAAAAAAAAAAAAAA")
	fixture := newFixture(f, func(c *devicegrant.Config) {
		c.ConfirmCode, c.DenyOnLeave = true, true
		c.SwitchAccount = func(w http.ResponseWriter, r *http.Request, returnTo string) {
			http.Redirect(w, r, returnTo, http.StatusSeeOther)
		}
	})
	f.Fuzz(func(t *testing.T, method, query, contentType, body, language, session string) {
		if strings.ContainsFunc(method, func(r rune) bool { return r < 'A' || r > 'Z' }) {
			return
		}
		r := httptest.NewRequest(http.MethodPost, "/device", strings.NewReader(body))
		r.Method, r.URL.RawQuery = method, query
		r.Header.Set("Content-Type", contentType)
		r.Header.Set("Accept-Language", language)
		r.AddCookie(&http.Cookie{Name: "subject", Value: "alice"})
		r.AddCookie(&http.Cookie{Name: "__Host-devicegrant", Value: session})
		w := fixture.do(r)
		require.Contains(t, []int{200, 204, 303, 400, 405, 429}, w.Code)
		if w.Code == http.StatusSeeOther {
			require.True(t, strings.HasPrefix(w.Header().Get("Location"), "/device"))
		} else if w.Code != http.StatusNoContent {
			requirePage(t, w)
		}
		for _, decision := range []devicegrant.EventType{devicegrant.EventApproved, devicegrant.EventDenied, devicegrant.EventReported, devicegrant.EventLeft} {
			assert.Empty(t, fixture.raised(decision))
		}
	})
}
