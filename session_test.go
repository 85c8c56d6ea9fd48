package devicegrant_test

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/devicegrant/devicegrant"
)

// The page's cookie is out of reach of scripts, of other sites and, over https, of other
// hosts; it ends with the browser, and nobody has one who is not signed in.
func TestPageCookie(t *testing.T) {
	for uri, want := range map[string]http.Cookie{
		"https://example.com/device":   {Name: "__Host-devicegrant", Secure: true},
		"http://127.0.0.1:8080/device": {Name: "devicegrant"},
	} {
		t.Run(uri, func(t *testing.T) {
			f := newFixture(t, func(c *devicegrant.Config) { c.VerificationURI = uri })
			a := f.authorize()
			out := &browser{fixture: f}
			out.get("/device")
			out.post("user_code", a.UserCode)
			assert.Nil(t, out.cookie)

			b := &browser{fixture: f, subject: "alice"}
			b.get("/device?user_code=" + a.UserCode)
			require.NotNil(t, b.cookie)
			assert.Equal(t, want.Name, b.cookie.Name)
			assert.Equal(t, want.Secure, b.cookie.Secure)
			assert.Equal(t, "/", b.cookie.Path)
			assert.Empty(t, b.cookie.Domain)
			assert.True(t, b.cookie.HttpOnly)
			assert.Equal(t, http.SameSiteLaxMode, b.cookie.SameSite)
			assert.Zero(t, b.cookie.MaxAge)
			assert.True(t, b.cookie.Expires.IsZero())

			first := b.cookie
			b.get("/device?user_code=" + a.UserCode)
			assert.Same(t, first, b.cookie, "it stays")
			b.cookie = &http.Cookie{Name: want.Name, Value: "made up"}
			b.get("/device?user_code=" + a.UserCode)
			assert.NotEqual(t, first.Value, b.cookie.Value)
			assert.Len(t, b.cookie.Value, 26)
			assert.NotContains(t, f.logged(), first.Value)
		})
	}
}

// A code that is in use in another browser says so, and is not to be had.
func TestPageOtherSession(t *testing.T) {
	f := newFixture(t, nil)
	a := f.authorize()
	laptop, phone := &browser{fixture: f, subject: "alice"}, &browser{fixture: f, subject: "alice"}
	ticket := ticketOn(t, laptop.get("/device?user_code="+a.UserCode))
	for _, w := range []*httptest.ResponseRecorder{phone.get("/device?user_code=" + a.UserCode), phone.post("user_code", a.UserCode)} {
		assert.Equal(t, http.StatusConflict, w.Code)
		assert.NotContains(t, w.Body.String(), "name=\"ticket\"")
		assert.NotContains(t, w.Body.String(), "Television")
	}
	assert.Equal(t, http.StatusOK, laptop.post("action", "approve", "ticket", ticket).Code)
	f.requirePoll(a, nil)
}

// Who switches accounts comes back to the code, and what the first account was shown
// does not bind the second.
func TestPageSwitchAccount(t *testing.T) {
	f := newFixture(t, func(c *devicegrant.Config) {
		c.AccountName = func(_ context.Context, subject string) (string, error) { return subject + "@example.com", nil }
		c.SwitchAccount = func(w http.ResponseWriter, r *http.Request, returnTo string) {
			http.Redirect(w, r, "/login?prompt=select_account&return_to="+url.QueryEscape(returnTo), http.StatusSeeOther)
		}
	})
	a := f.authorize()
	b := &browser{fixture: f, subject: "alice"}
	w := b.get("/device?user_code=" + a.UserCode)
	assert.Contains(t, w.Body.String(), "alice@example.com")
	ticket, resume := ticketOn(t, w), fieldOn(t, w, "resume")
	w = b.post("action", "switch", "resume", resume)
	require.Equal(t, http.StatusSeeOther, w.Code)
	location, err := url.Parse(w.Header().Get("Location"))
	require.NoError(t, err)
	assert.Equal(t, "select_account", location.Query().Get("prompt"))
	assert.NotContains(t, location.String(), a.UserCode)

	b.subject = "bob"
	w = b.get(location.Query().Get("return_to"))
	assert.Contains(t, w.Body.String(), "bob@example.com")
	assert.Contains(t, w.Body.String(), a.UserCode)
	assert.Equal(t, http.StatusBadRequest, b.post("action", "approve", "ticket", ticket).Code, "what alice was shown")
	assert.Equal(t, http.StatusOK, b.post("action", "approve", "ticket", ticketOn(t, w)).Code)
	token, err := f.poll(a)
	require.NoError(t, err)
	assert.Contains(t, token.AccessToken, "bob")

	w = b.post("action", "switch", "resume", "forged")
	assert.Contains(t, w.Header().Get("Location"), "return_to=%2Fdevice", "nothing to come back to but the form")
	assert.NotContains(t, w.Header().Get("Location"), "resume")
}

func TestPageAccountNameFails(t *testing.T) {
	f := newFixture(t, func(c *devicegrant.Config) {
		c.AccountName = func(context.Context, string) (string, error) { return "", errors.New("directory is away") }
	})
	w := (&browser{fixture: f, subject: "alice"}).get("/device?user_code=" + f.authorize().UserCode)
	assert.Equal(t, http.StatusServiceUnavailable, w.Code)
	assert.NotContains(t, w.Body.String(), "directory")
	assert.Contains(t, f.logged(), "directory is away")
}

func TestPageReport(t *testing.T) {
	f := newFixture(t, nil)
	a := f.authorize()
	b := &browser{fixture: f, subject: "alice"}
	w := b.get("/device?user_code=" + a.UserCode)
	assert.Contains(t, w.Body.String(), `value="report"`)
	assert.Equal(t, http.StatusOK, b.post("action", "report", "ticket", ticketOn(t, w)).Code)
	f.requirePoll(a, devicegrant.ErrAccessDenied)
	assert.Len(t, f.raised(devicegrant.EventReported), 1)
}

// The box is the server's to demand.
func TestPageConfirmCode(t *testing.T) {
	f := newFixture(t, func(c *devicegrant.Config) { c.ConfirmCode = true })
	a := f.authorize()
	b := &browser{fixture: f, subject: "alice"}
	w := b.get("/device?user_code=" + a.UserCode)
	assert.Contains(t, w.Body.String(), `name="confirm"`)
	assert.NotContains(t, w.Body.String(), `role="alert"`)
	for _, confirm := range []string{"", "no"} {
		w = b.post("action", "approve", "ticket", ticketOn(t, w), "confirm", confirm)
		assert.Equal(t, http.StatusBadRequest, w.Code)
		assert.Contains(t, w.Body.String(), `role="alert"`)
		assert.Contains(t, w.Body.String(), a.UserCode, "the question is asked again")
	}
	f.requirePoll(a, devicegrant.ErrAuthorizationPending)
	assert.Equal(t, http.StatusBadRequest, b.post("action", "approve", "ticket", "forged").Code)
	assert.Equal(t, http.StatusOK, b.post("action", "approve", "ticket", ticketOn(t, w), "confirm", "yes").Code)
	f.requirePoll(a, nil)

	plain := newFixture(t, nil)
	w = (&browser{fixture: plain, subject: "alice"}).get("/device?user_code=" + plain.authorize().UserCode)
	assert.NotContains(t, w.Body.String(), `name="confirm"`)
}

// Leaving denies when the host has asked for it; afterwards it changes nothing.
func TestPageDenyOnLeave(t *testing.T) {
	f := newFixture(t, func(c *devicegrant.Config) { c.DenyOnLeave = true })
	a, approved := f.authorize(), f.authorize()
	b := &browser{fixture: f, subject: "alice"}
	w := b.get("/device?user_code=" + a.UserCode)
	assert.Contains(t, w.Body.String(), "<script")
	assert.Contains(t, w.Header().Get("Content-Security-Policy"), "connect-src 'self'")
	assert.NotContains(t, b.get("/device").Body.String(), "<script")
	leave := func(ticket string) int {
		r := httptest.NewRequest(http.MethodPost, "/device", strings.NewReader(url.Values{"action": {"leave"}, "ticket": {ticket}}.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded;charset=UTF-8") // As a beacon has it.
		r.Header.Set("Sec-Fetch-Site", "same-origin")
		r.AddCookie(&http.Cookie{Name: "subject", Value: "alice"})
		r.AddCookie(b.cookie)
		return f.do(r).Code
	}
	assert.Equal(t, http.StatusNoContent, leave(ticketOn(t, w)))
	f.requirePoll(a, devicegrant.ErrAccessDenied)
	require.Len(t, f.raised(devicegrant.EventLeft), 1)
	assert.Empty(t, f.raised(devicegrant.EventDenied))

	ticket := ticketOn(t, b.get("/device?user_code="+approved.UserCode))
	b.post("action", "approve", "ticket", ticket)
	assert.Equal(t, http.StatusNoContent, leave(ticket))
	f.requirePoll(approved, nil)
}

func TestPageRisk(t *testing.T) {
	verdict := devicegrant.Warn
	f := newFixture(t, func(c *devicegrant.Config) {
		c.Risk = func(context.Context, devicegrant.Situation) (devicegrant.Verdict, error) { return verdict, nil }
	})
	a := f.authorize()
	b := &browser{fixture: f, subject: "alice"}
	warned := b.get("/device?user_code=" + a.UserCode)
	verdict = devicegrant.Allow
	usual := b.get("/device?user_code=" + a.UserCode)
	warnings := func(w *httptest.ResponseRecorder) int { return strings.Count(w.Body.String(), "warning") }
	assert.Greater(t, warnings(warned), warnings(usual))
	verdict = devicegrant.Refuse
	for _, w := range []*httptest.ResponseRecorder{b.get("/device?user_code=" + a.UserCode), b.post("action", "approve", "ticket", ticketOn(t, usual))} {
		assert.Equal(t, http.StatusForbidden, w.Code)
		assert.NotContains(t, w.Body.String(), "name=\"ticket\"")
	}
	f.requirePoll(a, devicegrant.ErrAuthorizationPending)
}

// The page says what asked, from where, and where this browser is.
func TestPageShowsBothSides(t *testing.T) {
	f := newFixture(t, func(c *devicegrant.Config) {
		c.Place = func(_ context.Context, addr netip.Addr) string {
			return map[string]string{"198.51.100.7": "Lima, Peru", "192.0.2.1": "Bern, Switzerland"}[addr.String()]
		}
	})
	ask := func(values url.Values) string {
		r := httptest.NewRequest(http.MethodPost, "/device_authorization", strings.NewReader(values.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("User-Agent", "tv-firmware/7.1")
		r.RemoteAddr = "198.51.100.7:1234"
		w := f.do(r)
		require.Equal(t, http.StatusOK, w.Code, w.Body)
		var answer struct {
			UserCode string `json:"user_code"`
		}
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &answer))
		return answer.UserCode
	}
	b := &browser{fixture: f, subject: "alice"}
	page := b.get("/device?user_code=" + ask(url.Values{"client_id": {"tv"}, "device_name": {"Living room"}})).Body.String()
	for _, shown := range []string{"Living room", "198.51.100.7", "Lima, Peru", "192.0.2.1", "Bern, Switzerland", "alice", "Television"} {
		assert.Contains(t, page, shown)
	}
	assert.NotContains(t, page, "tv-firmware")
	page = b.get("/device?user_code=" + ask(url.Values{"client_id": {"tv"}})).Body.String()
	assert.Contains(t, page, "tv-firmware/7.1", "for want of a name")
}

// Whoever asks, and whether the code was typed or came in the URL, the page asks whether
// the device shows the same one.
func TestPageAlwaysAsks(t *testing.T) {
	f := newFixture(t, nil)
	for _, client := range []devicegrant.Client{tv, cli} { // A public one, and one with a secret.
		for _, typed := range []bool{true, false} {
			a, err := f.Authorize(t.Context(), client, devicegrant.AuthorizationRequest{})
			require.NoError(t, err)
			b := &browser{fixture: f, subject: "alice"}
			uri := strings.TrimPrefix(a.VerificationURIComplete, "https://example.com")
			if typed {
				uri = b.post("user_code", a.UserCode).Header().Get("Location")
			}
			page := b.get(uri).Body.String()
			assert.Contains(t, page, "Does your device show exactly this code?")
			assert.Contains(t, page, a.UserCode)
			assert.Contains(t, page, "Allow this only if the device is in front of you")
			_, err = f.Poll(t.Context(), devicegrant.PollRequest{ClientID: client.ID, DeviceCode: a.DeviceCode})
			require.ErrorIs(t, err, devicegrant.ErrAuthorizationPending)
		}
	}
}

// Reloading the question, or going back to it, is no guess, though the limits have been
// reached meanwhile.
func TestPageReloadsTheQuestion(t *testing.T) {
	f := newFixture(t, nil)
	a := f.authorize()
	b := &browser{fixture: f, subject: "alice"}
	question := b.post("user_code", a.UserCode).Header().Get("Location")
	for _, wrong := range []string{"BBBB-BBBB", "BBBB-BBBC", "BBBB-BBBD"} {
		b.post("user_code", wrong)
	}
	require.Equal(t, http.StatusTooManyRequests, b.post("user_code", a.UserCode).Code)
	for range 5 {
		assert.Equal(t, http.StatusOK, b.get(question).Code)
	}
	b.subject = "bob" // For somebody else it is a guess, which the browser session has none left for.
	assert.Equal(t, http.StatusTooManyRequests, b.get(question).Code)
	other := &browser{fixture: f, subject: "alice"}
	assert.Equal(t, http.StatusTooManyRequests, other.get(question).Code)
}

// Codes that are unknown, expired, redeemed or purged take as long as one another to be
// refused: the means differ by less than a standard deviation.
func TestPageWrongCodesTakeTheSameTime(t *testing.T) {
	var f *fixture
	codes := map[string]string{"unknown": "BBBB-BBBB-BBBB-BBBB"}
	clock := time.Now()
	f = newFixture(t, func(c *devicegrant.Config) {
		c.UserCode.Alphabet, c.UserCode.Length, c.UserCode.Group = devicegrant.Base20.Alphabet, 16, 4
		c.Guessing.PerAddress = devicegrant.Limit{Burst: 1 << 20, Every: time.Hour}
		c.Guessing.Global = devicegrant.Limit{Burst: 1 << 20, Every: time.Hour}
		c.Keys = append(c.Keys, []byte(strings.Repeat("2", 32))) // A key that is being retired is looked under, too.
	})
	f.SetClock(func() time.Time { return clock })
	purged := f.authorize()
	clock = clock.Add(3 * purged.ExpiresIn)
	_, err := f.Purge(t.Context())
	require.NoError(t, err)
	expired := f.authorize()
	clock = clock.Add(expired.ExpiresIn)
	redeemed := f.authorize()
	f.approve(redeemed)
	f.requirePoll(redeemed, nil)
	codes["purged"], codes["expired"], codes["redeemed"] = purged.UserCode, expired.UserCode, redeemed.UserCode

	took := make(map[string][]float64)
	b := &browser{fixture: f, subject: "bob"}
	for range 500 {
		for kind, code := range codes {
			start := time.Now()
			w := b.post("user_code", code)
			took[kind] = append(took[kind], time.Since(start).Seconds())
			require.Equal(t, http.StatusBadRequest, w.Code)
		}
	}
	unknown, spread := meanAndDeviation(took["unknown"])
	for kind, times := range took {
		mean, deviation := meanAndDeviation(times)
		assert.Less(t, math.Abs(mean-unknown), max(spread, deviation), kind)
	}
}

func meanAndDeviation(values []float64) (mean, deviation float64) {
	for _, v := range values {
		mean += v / float64(len(values))
	}
	for _, v := range values {
		deviation += (v - mean) * (v - mean) / float64(len(values))
	}
	return mean, math.Sqrt(deviation)
}
