package demo

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var (
	asAlice = map[string]string{"username": "alice", "password": "wonderland"}
	asBob   = map[string]string{"username": "bob", "password": "builder"}
	wrong   = map[string]string{"username": "alice", "password": "builder"}
)

func TestLoginComesBack(t *testing.T) {
	b := newFixture(t).browser()
	b.Open(origin + "/device?user_code=BCDF-GHJK")
	require.Equal(t, "/login", b.URL.Path)
	b.Submit("", asAlice)
	require.Equal(t, "/device", b.URL.Path)
	assert.Contains(t, b.Text, "BCDF-GHJK", "the code was lost on the way")
}

func TestLoginRefuses(t *testing.T) {
	for _, tt := range []struct {
		name   string
		fields map[string]string
		status int
		text   string
	}{
		{"wrong password", wrong, http.StatusUnauthorized, "The user name or the password is wrong."},
		{"unknown name", map[string]string{"username": "nobody", "password": "x"}, http.StatusUnauthorized, "The user name or the password is wrong."},
		{"no password", map[string]string{"username": "alice"}, http.StatusBadRequest, "Enter your user name and your password."},
		{"no name", map[string]string{"password": "x"}, http.StatusBadRequest, "Enter your user name and your password."},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newFixture(t).browser()
			b.Open(origin + "/login?return_to=%2Fdevice")
			b.Submit("", tt.fields)
			require.Equal(t, tt.status, b.Status)
			require.Contains(t, b.Text, tt.text)
			b.Submit("", asAlice) // The form is there to try again, and knows where to go.
			require.Equal(t, "/device", b.URL.Path)
		})
	}
}

func TestLoginBodyTooLarge(t *testing.T) {
	w := newFixture(t).post("/login", "username="+strings.Repeat("a", maxFormBody))
	assert.Equal(t, http.StatusBadRequest, w.Code)
}

func TestLoginAttemptsAreLimited(t *testing.T) {
	onEach(t, func(t *testing.T, f *fixture) {
		b := f.browser()
		b.Open(origin + "/login")
		for range maxLoginFailure {
			b.Submit("", wrong)
			require.Equal(t, http.StatusUnauthorized, b.Status)
		}
		b.Submit("", asAlice)
		require.Equal(t, http.StatusTooManyRequests, b.Status, "the right password tells nothing now")
		b.Submit("", asBob)
		require.Equal(t, http.StatusOK, b.Status, "others are not affected")
		f.advance(5 * time.Minute)
		b.Open(origin + "/login")
		b.Submit("", asAlice)
		require.Equal(t, http.StatusOK, b.Status)
	})
}

func TestLoginFromOtherSites(t *testing.T) {
	f := newFixture(t)
	for _, path := range []string{"/login", "/logout"} {
		w := f.post(path, "username=alice&password=wonderland", "Sec-Fetch-Site", "cross-site")
		assert.Equal(t, http.StatusForbidden, w.Code, path)
		assert.Empty(t, w.Header().Get("Set-Cookie"), path)
	}
}

func TestSession(t *testing.T) {
	onEach(t, func(t *testing.T, f *fixture) {
		first := logIn(t, f, nil)
		assert.True(t, first.HttpOnly)
		assert.Equal(t, http.SameSiteLaxMode, first.SameSite)
		assert.Equal(t, "/", first.Path)
		assert.Equal(t, "alice", subjectOf(f, first))

		second := logIn(t, f, first)
		assert.NotEqual(t, first.Value, second.Value)
		assert.Empty(t, subjectOf(f, first), "the session before the login goes on")
		assert.Equal(t, "alice", subjectOf(f, second))

		f.advance(8 * time.Hour)
		assert.Empty(t, subjectOf(f, second), "a session never ends")
	})
}

func TestLogout(t *testing.T) {
	onEach(t, func(t *testing.T, f *fixture) {
		session := logIn(t, f, nil)
		w := f.post("/logout", "", "Cookie", session.String())
		require.Equal(t, http.StatusSeeOther, w.Code)
		assert.Negative(t, w.Result().Cookies()[0].MaxAge)
		assert.Empty(t, subjectOf(f, session), "the cookie still signs in")
	})
}

func TestLogoutButton(t *testing.T) {
	b := newFixture(t).browser()
	b.Open(origin + "/login")
	b.Submit("", asBob)
	require.Contains(t, b.Text, "You are signed in as Bob.")
	b.Submit("", nil)
	require.NotContains(t, b.Text, "Bob")
	assert.Contains(t, b.Text, `href="/device"`)
}

// logIn signs alice in, in a browser that may have a cookie.
func logIn(t testing.TB, f *fixture, cookie *http.Cookie) *http.Cookie {
	t.Helper()
	var headers []string
	if cookie != nil {
		headers = []string{"Cookie", cookie.String()}
	}
	w := f.post("/login", "username=alice&password=wonderland", headers...)
	require.Equal(t, http.StatusSeeOther, w.Code)
	cookies := w.Result().Cookies()
	require.Len(t, cookies, 1)
	return cookies[0]
}

func subjectOf(f *fixture, cookie *http.Cookie) string {
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.AddCookie(cookie)
	s, _, err := f.session(r)
	require.NoError(f.t, err)
	return s.subject
}

// TestReturnTo: whatever return_to is, a browser stays on this server.
func TestReturnTo(t *testing.T) {
	for _, tt := range []struct{ given, want string }{
		{"/device", "/device"},
		{"/device?resume=a.b-c_d", "/device?resume=a.b-c_d"},
		{"/", "/"},
		{"", "/"},
		{"device", "/"},
		{"//evil.example", "/"},
		{"///evil.example", "/"},
		{`/\evil.example`, "/"},
		{`/.\evil.example`, "/"},
		{`/./\evil.example`, "/"},
		{"/\t/evil.example", "/"},
		{"/\n/evil.example", "/"},
		{"https://evil.example/", "/"},
		{"javascript:alert(1)", "/"},
		{"%zz", "/"},
	} {
		t.Run(tt.given, func(t *testing.T) {
			f := newFixture(t)
			w := f.post("/login", url.Values{"username": {"bob"}, "password": {"builder"}, "return_to": {tt.given}}.Encode())
			require.Equal(t, http.StatusSeeOther, w.Code)
			assert.Equal(t, tt.want, w.Header().Get("Location"))
		})
	}
}

func TestPageHeaders(t *testing.T) {
	b := newFixture(t).browser()
	for _, path := range []string{"/", "/login"} {
		b.Open(origin + path)
		assert.Equal(t, http.StatusOK, b.Status)
		assert.Contains(t, b.Header.Get("Content-Security-Policy"), "frame-ancestors 'none'")
		assert.Equal(t, "DENY", b.Header.Get("X-Frame-Options"))
		assert.Equal(t, "nosniff", b.Header.Get("X-Content-Type-Options"))
		assert.Equal(t, "no-referrer", b.Header.Get("Referrer-Policy"))
		assert.Equal(t, "no-store", b.Header.Get("Cache-Control"))
	}
}

func TestLoginEscapes(t *testing.T) {
	b := newFixture(t).browser()
	b.Open(origin + "/login?return_to=" + url.QueryEscape(`/"><script>`))
	assert.NotContains(t, b.Text, "<script>")
	b.Submit("", map[string]string{"username": `"><script>`, "password": "x"})
	assert.NotContains(t, b.Text, "<script>")
}
