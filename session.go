package devicegrant

import (
	"crypto/rand"
	"net/http"
	"net/url"
)

// plainCookie is the name of the page's cookie over http.
const plainCookie = "devicegrant"

// cookieName returns the name of the page's cookie. The prefix keeps other hosts of the
// same site from setting it; browsers grant it to https only.
func cookieName(verificationURI *url.URL) string {
	if verificationURI.Scheme == "https" {
		return "__Host-" + plainCookie
	}
	return plainCookie
}

// session returns the name of the browser session that the request belongs to, and
// begins one if there is none. It outlives sign-ins, so that a person can switch
// accounts, and ends with the browser.
func (v *visit) session() string {
	if c, err := v.r.Cookie(v.s.cookie); err == nil && isSession(c.Value) {
		return c.Value
	}
	name := rand.Text()
	http.SetCookie(v.w, &http.Cookie{ //nolint:gosec // Secure, unless the page is on a loopback address.
		Name: v.s.cookie, Value: name, Path: "/", HttpOnly: true,
		Secure:   v.s.cookie != plainCookie,
		SameSite: http.SameSiteLaxMode, // The complete URI is a link that is followed from elsewhere.
	})
	return name
}

// isSession reports whether a cookie can be one of ours: rand.Text is 26 characters.
func isSession(value string) bool { return len(value) == 26 }
