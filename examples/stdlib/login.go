package main

import (
	"bytes"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"html/template"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	sessionCookie = "session"
	sessionLife   = 8 * time.Hour
	failureLife   = 5 * time.Minute
	maxFailures   = 10       // wrong passwords for one name from one address, until they are forgotten
	maxBody       = 64 << 10 // bytes

	// hashIterations is low, for these passwords are no secret. Have 600,000 for those that are.
	hashIterations = 10_000
)

// user is somebody who can sign in. The hash is PBKDF2 with SHA-256.
type user struct{ name, salt, hash string }

// The passwords are wonderland and builder.
var users = map[string]user{
	"alice": {"Alice", "4f1c6a9d2be07853", "e53bc30ed9db201125b716cb49e985ca183df2db286b2ed97f2165460978c70f"},
	"bob":   {"Bob", "c83e5d17fa0942b6", "ff6c7fad7d92e9ad2f4a52d9a9d55f68192f0594f21e6181627363a357f87433"},
}

// session is a browser in which somebody has signed in.
type session struct{ subject string }

// signedIn returns who is signed in. Whoever is not is sent to the login, and comes back to
// returnTo.
func (s *server) signedIn(w http.ResponseWriter, r *http.Request, returnTo string) (subject string, ok bool) {
	if cookie, err := r.Cookie(sessionCookie); err == nil {
		if found, ok := s.sessions.get(digestOf(cookie.Value)); ok {
			return found.subject, true
		}
	}
	http.Redirect(w, r, "/login?return_to="+url.QueryEscape(returnTo), http.StatusSeeOther)
	return "", false
}

// switchAccount ends the session, and leads to the login.
func (s *server) switchAccount(w http.ResponseWriter, r *http.Request, returnTo string) {
	s.endSession(r)
	http.Redirect(w, r, "/login?return_to="+url.QueryEscape(returnTo), http.StatusSeeOther)
}

func (s *server) serveLoginForm(w http.ResponseWriter, r *http.Request) {
	showLogin(w, http.StatusOK, loginForm{ReturnTo: localPath(r.URL.Query().Get("return_to"))})
}

func (s *server) serveLogin(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	if err := r.ParseForm(); err != nil {
		showLogin(w, http.StatusBadRequest, loginForm{ReturnTo: "/", Error: "Your browser sent something that could not be read."})
		return
	}
	name := r.PostForm.Get("username")
	form := loginForm{Username: name, ReturnTo: localPath(r.PostForm.Get("return_to"))}
	addr, _, _ := net.SplitHostPort(r.RemoteAddr)
	attempt := digestOf(name + "\x00" + addr)
	if n, _ := s.failures.get(attempt); n >= maxFailures {
		form.Error = "The password was wrong too often. Try again in a few minutes."
		showLogin(w, http.StatusTooManyRequests, form)
		return
	}
	if !passwordMatches(name, r.PostForm.Get("password")) {
		s.failures.update(attempt, failureLife, func(n int, _ bool) (int, bool) { return n + 1, true })
		form.Error = "The user name or the password is wrong."
		showLogin(w, http.StatusUnauthorized, form)
		return
	}
	s.startSession(w, r, name)
	http.Redirect(w, r, form.ReturnTo, http.StatusSeeOther)
}

// passwordMatches takes as long for a name that nobody has.
func passwordMatches(name, password string) bool {
	u, known := users[name]
	hash, err := pbkdf2.Key(sha256.New, password, []byte(u.salt), hashIterations, sha256.Size)
	right := subtle.ConstantTimeCompare([]byte(hex.EncodeToString(hash)), []byte(u.hash)) == 1
	return err == nil && known && right
}

// startSession gives the browser a session of its own, never one that it had before
// somebody signed in.
func (s *server) startSession(w http.ResponseWriter, r *http.Request, subject string) {
	s.endSession(r)
	id := rand.Text()
	s.sessions.put(digestOf(id), session{subject}, sessionLife)
	http.SetCookie(w, &http.Cookie{
		Name: sessionCookie, Value: id, Path: "/", HttpOnly: true,
		SameSite: http.SameSiteLaxMode, // A link from elsewhere may lead to the verification page.
		Secure:   strings.HasPrefix(s.origin, "https:"),
	})
}

func (s *server) endSession(r *http.Request) {
	if cookie, err := r.Cookie(sessionCookie); err == nil {
		s.sessions.update(digestOf(cookie.Value), 0, func(session, bool) (session, bool) { return session{}, false })
	}
}

// localPath returns a path on this server, or "/" instead of anything else: a login must not
// send people to other sites. Browsers take a backslash for a slash; url.Parse refuses the
// control characters that they skip.
func localPath(path string) string {
	_, err := url.Parse(path)
	if err != nil || !strings.HasPrefix(path, "/") || strings.HasPrefix(path, "//") || strings.Contains(path, `\`) {
		return "/"
	}
	return path
}

type loginForm struct{ Username, ReturnTo, Error string }

var loginPage = template.Must(template.New("login").Parse(`<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{{if .Error}}Error: {{end}}Sign in</title>
</head>
<body>
<main>
<h1>Sign in</h1>
{{- if .Error}}
<p id="error" role="alert">{{.Error}}</p>
{{- end}}
<form method="post" action="/login">
<input type="hidden" name="return_to" value="{{.ReturnTo}}">
<p><label for="username">User name</label><br>
<input id="username" name="username" value="{{.Username}}" required autocomplete="username" autocapitalize="none"{{if .Error}} aria-describedby="error"{{end}}></p>
<p><label for="password">Password</label><br>
<input id="password" name="password" type="password" required autocomplete="current-password"{{if .Error}} aria-describedby="error"{{end}}></p>
<p><button>Sign in</button></p>
</form>
<p>For trying it out: alice / wonderland, or bob / builder.</p>
</main>
</body>
</html>
`))

func showLogin(w http.ResponseWriter, status int, form loginForm) {
	var page bytes.Buffer
	if err := loginPage.Execute(&page, form); err != nil {
		panic(err) // The template is fixed, and so is the type it is given.
	}
	header := w.Header()
	header.Set("Content-Type", "text/html; charset=utf-8")
	header.Set("Content-Security-Policy", "default-src 'none'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(page.Bytes()) // A browser that has gone cannot be told.
}
