package main

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/devicegrant/devicegrant/examples/internal/browser"
	"github.com/devicegrant/devicegrant/examples/internal/hosttest"
)

// signIn posts the login form.
func signIn(h hosttest.Host, name, password, returnTo string, headers ...string) *httptest.ResponseRecorder {
	form := url.Values{"username": {name}, "password": {password}, "return_to": {returnTo}}
	r := httptest.NewRequest(http.MethodPost, hosttest.Origin+"/login", strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.Handler.ServeHTTP(w, r)
	return w
}

func requireSession(t *testing.T, w *httptest.ResponseRecorder) *http.Cookie {
	t.Helper()
	require.Equal(t, http.StatusSeeOther, w.Code)
	cookies := w.Result().Cookies()
	require.Len(t, cookies, 1)
	return cookies[0]
}

// TestSession: a session is new when somebody signs in, and that from before is over.
func TestSession(t *testing.T) {
	h, s := newTestHost(t)
	before := requireSession(t, signIn(h, "alice", "wonderland", "/device"))
	assert.True(t, before.HttpOnly)
	assert.Equal(t, http.SameSiteLaxMode, before.SameSite)
	after := requireSession(t, signIn(h, "bob", "builder", "/device", "Cookie", before.Name+"="+before.Value))
	assert.NotEqual(t, before.Value, after.Value)
	_, ok := s.sessions.get(digestOf(before.Value))
	assert.False(t, ok)
	got, _ := s.sessions.get(digestOf(after.Value))
	assert.Equal(t, "bob", got.subject)

	made := requireSession(t, signIn(h, "alice", "wonderland", "/device", "Cookie", "session=made-up"))
	assert.NotEqual(t, "made-up", made.Value)
}

func TestSessionExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, s := newTestHost(t)
		w := httptest.NewRecorder()
		r := httptest.NewRequest(http.MethodGet, "/device", nil)
		s.startSession(w, r, "alice")
		r.AddCookie(w.Result().Cookies()[0])
		subject, ok := s.signedIn(httptest.NewRecorder(), r, "/device")
		assert.True(t, ok)
		assert.Equal(t, "alice", subject)
		time.Sleep(sessionLife)
		w = httptest.NewRecorder()
		_, ok = s.signedIn(w, r, "/device?user_code=WDJB-MJHT")
		assert.False(t, ok)
		assert.Equal(t, "/login?return_to=%2Fdevice%3Fuser_code%3DWDJB-MJHT", w.Header().Get("Location"))
	})
}

func TestSecureCookie(t *testing.T) {
	_, s := newTestHost(t)
	s.origin = "https://example.com"
	w := httptest.NewRecorder()
	s.startSession(w, httptest.NewRequest(http.MethodGet, "/", nil), "alice")
	assert.True(t, w.Result().Cookies()[0].Secure)
}

func TestSwitchAccount(t *testing.T) {
	h, _ := newTestHost(t)
	a := h.Authorize()
	b := browser.New(t, browser.Handler{Handler: h.Handler})
	b.Open(a.VerificationURIComplete)
	b.Submit("", map[string]string{"username": "bob", "password": "builder"})
	require.Contains(t, b.Text, "Bob")
	b.Post("/device", url.Values{"action": {"switch"}, "resume": {b.Field("resume")}})
	require.Contains(t, b.Text, "<h1>Sign in</h1>")
	b.Open(a.VerificationURIComplete)
	require.Contains(t, b.Text, "<h1>Sign in</h1>", "bob is still signed in")
	b.Submit("", map[string]string{"username": "alice", "password": "wonderland"})
	assert.Contains(t, b.Text, "Alice")
	assert.NotContains(t, b.Text, "Bob")
}

// TestReturnTo: the login leads to no other site.
func TestReturnTo(t *testing.T) {
	h, _ := newTestHost(t)
	for returnTo, want := range map[string]string{
		"/device":                 "/device",
		"/device?user_code=A&x=1": "/device?user_code=A&x=1",
		"":                        "/",
		"device":                  "/",
		"//evil.example":          "/",
		"///evil.example":         "/",
		`/\evil.example`:          "/",
		"/\t/evil.example":        "/",
		"https://evil.example/":   "/",
		"javascript:alert(1)":     "/",
	} {
		assert.Equal(t, want, localPath(returnTo), returnTo)
		w := httptest.NewRecorder()
		h.Handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/login?return_to="+url.QueryEscape(returnTo), nil))
		page := w.Body.String()
		assert.Contains(t, page, `name="return_to" value="`+strings.ReplaceAll(want, "&", "&amp;")+`"`)
	}
	assert.Equal(t, "/", signIn(h, "alice", "wonderland", "//evil.example").Header().Get("Location"))
}

func TestWrongPassword(t *testing.T) {
	h, s := newTestHost(t)
	for _, tt := range []struct{ name, password string }{
		{"alice", "builder"}, {"alice", ""}, {"", ""}, {"nobody", "wonderland"}, {`"><script>`, "x"},
	} {
		w := signIn(h, tt.name, tt.password, "/device")
		assert.Equal(t, http.StatusUnauthorized, w.Code, tt)
		assert.Contains(t, w.Body.String(), "The user name or the password is wrong.")
		assert.NotContains(t, w.Body.String(), "<script>")
		assert.Empty(t, w.Result().Cookies())
	}
	assert.Empty(t, s.sessions.entries)
}

// TestTooManyPasswords: guessing one person's password is over soon, and keeps nobody else
// out.
func TestTooManyPasswords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, s := newTestHost(t)
		attempt := digestOf("alice\x00192.0.2.1") // The address of httptest's requests.
		s.failures.put(attempt, maxFailures-1, failureLife)
		require.Equal(t, http.StatusUnauthorized, signIn(h, "alice", "x", "/").Code)
		require.Equal(t, http.StatusTooManyRequests, signIn(h, "alice", "wonderland", "/").Code)
		require.Equal(t, http.StatusSeeOther, signIn(h, "bob", "builder", "/").Code)
		time.Sleep(failureLife)
		require.Equal(t, http.StatusSeeOther, signIn(h, "alice", "wonderland", "/").Code)
	})
}

// TestForeignLogin: no other site can sign people in here.
func TestForeignLogin(t *testing.T) {
	h, s := newTestHost(t)
	for _, headers := range [][]string{{"Sec-Fetch-Site", "cross-site"}, {"Origin", "https://evil.example"}} {
		assert.Equal(t, http.StatusForbidden, signIn(h, "alice", "wonderland", "/", headers...).Code)
	}
	assert.Empty(t, s.sessions.entries)
	assert.Equal(t, http.StatusSeeOther, signIn(h, "alice", "wonderland", "/", "Origin", hosttest.Origin).Code)
}

func TestLargeLogin(t *testing.T) {
	h, _ := newTestHost(t)
	assert.Equal(t, http.StatusBadRequest, signIn(h, "alice", strings.Repeat("x", maxBody), "/").Code)
}
