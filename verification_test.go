package devicegrant_test

import (
	"context"
	"errors"
	"html"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/devicegrant/devicegrant"
	"github.com/devicegrant/devicegrant/storetest"
)

// browser is a person at the verification page, signed in or not.
type browser struct {
	*fixture
	subject string
	header  http.Header
	cookie  *http.Cookie // the page's
}

func (b *browser) do(r *http.Request) *httptest.ResponseRecorder {
	if b.subject != "" {
		r.AddCookie(&http.Cookie{Name: "subject", Value: b.subject})
	}
	for name, values := range b.header {
		r.Header[name] = values
	}
	if b.cookie != nil {
		r.AddCookie(b.cookie)
	}
	w := b.fixture.do(r)
	for _, set := range w.Result().Cookies() {
		b.cookie = set
	}
	assert.Equal(b.t, "no-store", w.Header().Get("Cache-Control"))
	assert.Equal(b.t, "no-referrer", w.Header().Get("Referrer-Policy"))
	if w.Code != http.StatusSeeOther {
		requirePage(b.t, w)
	}
	return w
}

func (b *browser) get(path string) *httptest.ResponseRecorder {
	return b.do(httptest.NewRequest(http.MethodGet, path, nil))
}

func (b *browser) post(values ...string) *httptest.ResponseRecorder {
	form := url.Values{}
	for i := 0; i < len(values); i += 2 {
		form.Set(values[i], values[i+1])
	}
	r := httptest.NewRequest(http.MethodPost, "/device", strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return b.do(r)
}

// requirePage checks what every page has in common.
func requirePage(t testing.TB, w *httptest.ResponseRecorder) {
	t.Helper()
	h := w.Header()
	assert.Equal(t, "text/html; charset=utf-8", h.Get("Content-Type"))
	assert.Equal(t, "DENY", h.Get("X-Frame-Options"))
	assert.Equal(t, "same-origin", h.Get("Cross-Origin-Opener-Policy"))
	assert.Equal(t, "Accept-Language", h.Get("Vary"))
	assert.Equal(t, "nosniff", h.Get("X-Content-Type-Options"))
	csp := h.Get("Content-Security-Policy")
	assert.Contains(t, csp, "default-src 'none'")
	assert.Contains(t, csp, "frame-ancestors 'none'")
	assert.NotContains(t, csp, "unsafe")
	assert.Contains(t, w.Body.String(), "</html>")
	assert.Equal(t, strings.Contains(w.Body.String(), "<script"), strings.Contains(csp, "script-src 'sha256-"))
}

func ticketOn(t testing.TB, w *httptest.ResponseRecorder) string {
	t.Helper()
	return fieldOn(t, w, "ticket")
}

// fieldOn returns the value of a hidden field of a page.
func fieldOn(t testing.TB, w *httptest.ResponseRecorder, name string) string {
	t.Helper()
	m := regexp.MustCompile(`name="` + name + `" value="([^"]+)"`).FindStringSubmatch(w.Body.String())
	require.NotNil(t, m, w.Body)
	return html.UnescapeString(m[1])
}

func TestPageApproveAndDeny(t *testing.T) {
	for action, want := range map[string]error{"approve": nil, "deny": devicegrant.ErrAccessDenied} {
		t.Run(action, func(t *testing.T) {
			f := newFixture(t, nil)
			b := &browser{fixture: f, subject: "alice"}
			a := f.authorize()
			w := b.get("/device")
			assert.Equal(t, http.StatusOK, w.Code)
			assert.Contains(t, w.Body.String(), `name="user_code"`)

			w = b.post("user_code", strings.ToLower(a.UserCode))
			assert.Equal(t, http.StatusSeeOther, w.Code)
			assert.NotContains(t, strings.ToUpper(w.Header().Get("Location")), a.UserCode)
			w = b.get(w.Header().Get("Location"))
			assert.Equal(t, http.StatusOK, w.Code)
			for _, shown := range []string{"Television", a.UserCode, "openid", "profile", `value="approve"`, `value="deny"`} {
				assert.Contains(t, w.Body.String(), shown)
			}
			assert.NotContains(t, w.Body.String(), a.DeviceCode)
			f.requirePoll(a, devicegrant.ErrAuthorizationPending)

			ticket := ticketOn(t, w)
			w = b.post("action", action, "ticket", ticket)
			assert.Equal(t, http.StatusOK, w.Code)
			f.requirePoll(a, want)

			w = b.post("action", "approve", "ticket", ticket) // Back, and again.
			assert.Equal(t, http.StatusConflict, w.Code)
			assert.Contains(t, w.Body.String(), "Already decided")
		})
	}
}

// Nothing is decided by GET, whatever is in the URL.
func TestPageGetDecidesNothing(t *testing.T) {
	f := newFixture(t, nil)
	b := &browser{fixture: f, subject: "alice"}
	a := f.authorize()
	w := b.get("/device?user_code=" + a.UserCode)
	assert.Contains(t, w.Body.String(), a.UserCode, "the complete URI leads to the same question")
	ticket := url.QueryEscape(ticketOn(t, w))
	b.get("/device?action=approve&ticket=" + ticket + "&user_code=" + a.UserCode)
	r := httptest.NewRequest(http.MethodHead, "/device?action=approve&ticket="+ticket, nil)
	r.AddCookie(&http.Cookie{Name: "subject", Value: "alice"})
	f.do(r)
	f.requirePoll(a, devicegrant.ErrAuthorizationPending)
	assert.Empty(t, f.raised(devicegrant.EventApproved))
}

// Nothing is looked up before sign-in, and the code survives the detour, without
// standing in a URL in the clear.
func TestPageDetourThroughLogin(t *testing.T) {
	f, store := faultyFixture(t)
	a := f.authorize()
	calls := 0
	store.Before = func(storetest.Op, int) { calls++ }
	out := &browser{fixture: f}
	in := &browser{fixture: f, subject: "alice"}
	for name, w := range map[string]*httptest.ResponseRecorder{
		"typed":        out.post("user_code", a.UserCode),
		"complete URI": out.get("/device?user_code=" + a.UserCode),
	} {
		require.Equal(t, http.StatusSeeOther, w.Code, name)
		require.Zero(t, calls)
		location, err := url.Parse(w.Header().Get("Location"))
		require.NoError(t, err)
		assert.Equal(t, "/login", location.Path)
		returnTo := location.Query().Get("return_to")
		assert.True(t, strings.HasPrefix(returnTo, "/device?resume="), returnTo)
		assert.NotContains(t, returnTo, a.UserCode)
		assert.Contains(t, in.get(returnTo).Body.String(), a.UserCode)
		calls = 0
	}
}

func TestPageResumeExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, nil)
		a := f.authorize()
		location, err := url.Parse((&browser{fixture: f}).post("user_code", a.UserCode).Header().Get("Location"))
		require.NoError(t, err)
		time.Sleep(a.ExpiresIn)
		for _, path := range []string{location.Query().Get("return_to"), "/device?resume=forged"} {
			w := (&browser{fixture: f, subject: "alice"}).get(path)
			assert.Equal(t, http.StatusOK, w.Code)
			assert.Contains(t, w.Body.String(), `name="user_code"`)
		}
	})
}

// A session that ended before the decision leads to the login, and the decision is
// not taken on trust.
func TestPageSessionEndsBeforeDeciding(t *testing.T) {
	f := newFixture(t, nil)
	a := f.authorize()
	laptop := &browser{fixture: f, subject: "alice"}
	ticket := ticketOn(t, laptop.get("/device?user_code="+a.UserCode))
	w := (&browser{fixture: f, cookie: laptop.cookie}).post("action", "approve", "ticket", ticket)
	assert.Equal(t, http.StatusSeeOther, w.Code)
	for name, other := range map[string]*browser{
		"somebody else":                 {fixture: f, subject: "bob", cookie: laptop.cookie},
		"another browser":               {fixture: f, subject: "alice"},
		"somebody else's other browser": {fixture: f, subject: "bob"},
	} {
		w = other.post("action", "approve", "ticket", ticket)
		assert.Equal(t, http.StatusBadRequest, w.Code, name)
		assert.Contains(t, w.Body.String(), "Start again")
	}
	f.requirePoll(a, devicegrant.ErrAuthorizationPending)
}

func TestPageRefusesOtherSites(t *testing.T) {
	f := newFixture(t, nil)
	a := f.authorize()
	b := &browser{fixture: f, subject: "alice"}
	ticket := ticketOn(t, b.get("/device?user_code="+a.UserCode))
	for name, header := range map[string]http.Header{
		"Sec-Fetch-Site":        {"Sec-Fetch-Site": {"cross-site"}},
		"same site only":        {"Sec-Fetch-Site": {"same-site"}},
		"Origin":                {"Origin": {"https://evil.example"}},
		"a sandbox, as it says": {"Origin": {"null"}, "Sec-Fetch-Site": {"cross-site"}},
	} {
		b.header = header
		for _, action := range []string{"approve", "deny", "report", "leave", "switch"} {
			assert.Equal(t, http.StatusForbidden, b.post("action", action, "ticket", ticket).Code, name)
		}
		assert.Equal(t, http.StatusForbidden, b.post("user_code", a.UserCode).Code, name)
	}
	f.requirePoll(a, devicegrant.ErrAuthorizationPending)
	b.header = http.Header{"Sec-Fetch-Site": {"same-origin"}}
	assert.Equal(t, http.StatusOK, b.post("action", "approve", "ticket", ticket).Code)
}

// Browsers that know no Sec-Fetch-Site say that our own pages have no origin, for these
// send no referrer.
func TestPageInOldBrowsers(t *testing.T) {
	f := newFixture(t, nil)
	a := f.authorize()
	b := &browser{fixture: f, subject: "alice", header: http.Header{"Origin": {"null"}}}
	w := b.post("user_code", a.UserCode)
	require.Equal(t, http.StatusSeeOther, w.Code)
	ticket := ticketOn(t, b.get(w.Header().Get("Location")))
	assert.Equal(t, http.StatusOK, b.post("action", "approve", "ticket", ticket).Code)
	f.requirePoll(a, nil)
}

// Unknown, expired, redeemed and malformed codes look the same.
func TestPageWrongCodesLookTheSame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, func(c *devicegrant.Config) {
			c.UserCode.Alphabet, c.UserCode.Length, c.UserCode.Group = devicegrant.Base20.Alphabet, 9, 4
			c.Guessing.PerAddress = devicegrant.Limit{Burst: 9, Every: 24 * time.Hour}
		})
		expired := f.authorize()
		time.Sleep(expired.ExpiresIn)
		redeemed := f.authorize()
		f.approve(redeemed)
		f.requirePoll(redeemed, nil)
		b := &browser{fixture: f, subject: "bob"}
		var bodies []string
		for _, code := range []string{"BBBB-BBBB-B", expired.UserCode, redeemed.UserCode, "not a code"} {
			w := b.post("user_code", code)
			assert.Equal(t, http.StatusBadRequest, w.Code)
			bodies = append(bodies, strings.ReplaceAll(w.Body.String(), `value="`+code+`"`, ""))
		}
		for _, body := range bodies[1:] {
			assert.Equal(t, bodies[0], body)
		}
		assert.Contains(t, bodies[0], `aria-invalid="true"`)
		assert.Contains(t, bodies[0], `role="alert"`)
	})
}

// Wrong codes are limited on every route, by address and by subject; the refusal
// says when to try again, and the right code gets through afterwards.
func TestPageLimitsGuesses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, nil)
		a := f.authorize()
		b := &browser{fixture: f, subject: "alice"}
		b.post("user_code", "BBBB-BBBB")
		b.get("/device?user_code=BBBB-BBBC")
		assert.Equal(t, http.StatusSeeOther, b.post("user_code", a.UserCode).Code, "after two typing errors the right code is taken")
		b.post("user_code", "BBBB-BBBD")
		for _, w := range []*httptest.ResponseRecorder{b.post("user_code", a.UserCode), b.get("/device?user_code=" + a.UserCode)} {
			assert.Equal(t, http.StatusTooManyRequests, w.Code)
			assert.Equal(t, "450", w.Header().Get("Retry-After"))
			assert.Contains(t, w.Body.String(), "Try again in 8")
		}
		require.Len(t, f.raised(devicegrant.EventWrongUserCode), 3)
		require.Len(t, f.raised(devicegrant.EventTooManyGuesses), 2)
		time.Sleep(450 * time.Second)
		assert.Equal(t, http.StatusSeeOther, b.post("user_code", a.UserCode).Code)
	})
}

// Guesses count against where they come from, as a trusted proxy tells it.
func TestPageGuessesBehindAProxy(t *testing.T) {
	f := newFixture(t, func(c *devicegrant.Config) {
		c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")} // httptest's address
	})
	from := func(addr, subject string) *httptest.ResponseRecorder {
		b := &browser{fixture: f, subject: subject, header: http.Header{"X-Forwarded-For": {addr}}}
		return b.post("user_code", "BBBB-BBBB")
	}
	for _, subject := range []string{"a", "b", "c", "d"} { // The last one from the reserve.
		assert.Equal(t, http.StatusBadRequest, from("198.51.100.1", subject).Code)
	}
	assert.Equal(t, http.StatusTooManyRequests, from("198.51.100.1", "e").Code)
	assert.Equal(t, http.StatusBadRequest, from("198.51.100.2", "e").Code)
}

// Links on other sites cannot use up anybody's guesses; the code is there to be sent.
func TestPageLinksFromOtherSites(t *testing.T) {
	f := newFixture(t, nil)
	a := f.authorize()
	b := &browser{fixture: f, subject: "alice", header: http.Header{"Sec-Fetch-Site": {"cross-site"}}}
	for range 10 {
		assert.Equal(t, http.StatusOK, b.get("/device?user_code=BBBB-BBBB").Code)
	}
	w := b.get("/device?user_code=" + a.UserCode)
	assert.Contains(t, w.Body.String(), `value="`+a.UserCode+`"`)
	assert.NotContains(t, w.Body.String(), "name=\"ticket\"")
	assert.Empty(t, f.raised(devicegrant.EventWrongUserCode))
	assert.Equal(t, http.StatusSeeOther, (&browser{fixture: f, subject: "alice"}).post("user_code", a.UserCode).Code)
}

// What clients and devices name themselves is text, not markup.
func TestPageEscapes(t *testing.T) {
	const evil = `<script>alert(1)</script><img/src=x>"'&`
	f := newFixture(t, func(c *devicegrant.Config) {
		c.Client = func(context.Context, string) (devicegrant.Client, error) {
			return devicegrant.Client{ID: "tv", Name: evil}, nil
		}
		c.AccountName = func(context.Context, string) (string, error) { return evil, nil }
		c.Place = func(_ context.Context, addr netip.Addr) string { return evil + addr.String() }
	})
	client := tv
	client.Scopes = []string{evil}
	a, err := f.Authorize(t.Context(), client, devicegrant.AuthorizationRequest{
		Scope: evil, Device: devicegrant.Device{Name: evil, Addr: addrHome},
	})
	require.NoError(t, err)
	b := &browser{fixture: f, subject: "alice"}
	w := b.get("/device?user_code=" + a.UserCode)
	assert.NotContains(t, w.Body.String(), "<img")
	assert.NotContains(t, w.Body.String(), "<script")
	assert.Equal(t, 6, strings.Count(w.Body.String(), "&lt;script&gt;alert(1)"), "client, account, scope, device and two places")
	w = b.post("user_code", `"><img src=x>`)
	assert.NotContains(t, w.Body.String(), "<img")
}

func TestPageBadRequests(t *testing.T) {
	f := newFixture(t, nil)
	b := &browser{fixture: f, subject: "alice"}
	assert.Equal(t, http.StatusBadRequest, b.post("action", "explode", "ticket", "x").Code)
	assert.Equal(t, http.StatusBadRequest, b.post("action", "approve").Code)
	assert.Equal(t, http.StatusBadRequest, b.post("action", "leave").Code, "it was not asked for")
	assert.Equal(t, http.StatusBadRequest, b.post("action", "switch").Code, "the host cannot do it")
	assert.Equal(t, http.StatusBadRequest, b.post().Code)
	assert.Equal(t, http.StatusBadRequest, b.post("user_code", strings.Repeat("B", 70_000)).Code)
	w := b.post("user_code", strings.Repeat("B", 1_000))
	assert.Equal(t, http.StatusBadRequest, w.Code)
	assert.NotContains(t, w.Body.String(), "BBBBB", "what nobody can have typed is not shown again")
	assert.Equal(t, http.StatusBadRequest, b.get("/device?user_code="+strings.Repeat("B", 70_000)).Code)
	assert.Equal(t, http.StatusSeeOther, (&browser{fixture: f}).get("/device?user_code="+strings.Repeat("B", 70_000)).Code)

	w = b.do(httptest.NewRequest(http.MethodDelete, "/device", nil))
	assert.Equal(t, http.StatusMethodNotAllowed, w.Code)
	assert.Equal(t, "GET, HEAD, POST", w.Header().Get("Allow"))

	r := httptest.NewRequest(http.MethodPost, "/device", strings.NewReader(`{"user_code":"x"}`))
	r.Header.Set("Content-Type", "application/json")
	assert.Equal(t, http.StatusBadRequest, b.do(r).Code)
}

func TestPageClientRegistryFails(t *testing.T) {
	f := newFixture(t, func(c *devicegrant.Config) {
		c.Client = func(context.Context, string) (devicegrant.Client, error) {
			return devicegrant.Client{}, errors.New("registry is away")
		}
	})
	w := (&browser{fixture: f, subject: "alice"}).get("/device?user_code=" + f.authorize().UserCode)
	assert.Equal(t, http.StatusServiceUnavailable, w.Code)
	assert.NotEmpty(t, w.Header().Get("Retry-After"))
	assert.NotContains(t, w.Body.String(), "registry")
	assert.Contains(t, f.logged(), "registry is away")
}

// The page stays where the host has mounted it, query and all.
func TestPageKeepsItsURI(t *testing.T) {
	f := newFixture(t, func(c *devicegrant.Config) { c.VerificationURI = "https://example.com/auth/device?tenant=a" })
	w := (&browser{fixture: f, subject: "alice"}).get("/device")
	assert.Contains(t, w.Body.String(), `action="/auth/device?tenant=a"`)
	w = (&browser{fixture: f}).post("user_code", f.authorize().UserCode)
	assert.Contains(t, w.Header().Get("Location"), url.QueryEscape("/auth/device?tenant=a&resume="))
}
