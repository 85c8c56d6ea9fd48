package demo

import (
	"context"
	"crypto/subtle"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	sessionCookie   = "session"
	sessionLife     = 8 * time.Hour
	failureLife     = 5 * time.Minute
	maxFormBody     = 64 << 10 // bytes
	maxLoginFailure = 10       // wrong passwords for one name from one address, until they are forgotten
)

// user is somebody who can sign in. A real server keeps a slow hash of the
// password, or leaves the login to an identity provider.
type user struct {
	subject, name string
	password      digest
}

var users = map[string]user{
	"alice": {"alice", "Alice", digestOf("wonderland")},
	"bob":   {"bob", "Bob", digestOf("builder")},
}

// SignedIn is for devicegrant.Config: whoever is not signed in is sent to the
// login, and comes back to returnTo.
func (h *Host) SignedIn(w http.ResponseWriter, r *http.Request, returnTo string) (subject string, ok bool) {
	s, ok, err := h.session(r)
	if err != nil {
		h.unavailable(w, r, err)
		return "", false
	}
	if !ok {
		http.Redirect(w, r, "/login?return_to="+url.QueryEscape(returnTo), http.StatusSeeOther)
	}
	return s.subject, ok
}

// SwitchAccount is for devicegrant.Config: it signs the browser out, and leads to the
// login.
func (h *Host) SwitchAccount(w http.ResponseWriter, r *http.Request, returnTo string) {
	if err := h.endSession(r); err != nil {
		h.unavailable(w, r, err)
		return
	}
	http.Redirect(w, r, "/login?return_to="+url.QueryEscape(returnTo), http.StatusSeeOther)
}

// AccountName is for devicegrant.Config.
func (h *Host) AccountName(_ context.Context, subject string) (string, error) {
	user, ok := users[subject]
	if !ok {
		return "", fmt.Errorf("no user %q is known", subject)
	}
	return user.name, nil
}

// session returns the session that the request belongs to.
func (h *Host) session(r *http.Request) (s session, ok bool, err error) {
	cookie, err := r.Cookie(sessionCookie)
	if err != nil {
		return session{}, false, nil //nolint:nilerr // There is no such cookie.
	}
	return h.records.session(r.Context(), digestOf(cookie.Value), h.now())
}

// unavailable answers a browser while nobody knows who is signed in.
func (h *Host) unavailable(w http.ResponseWriter, r *http.Request, err error) {
	h.logger.ErrorContext(r.Context(), "sessions are unavailable", "error", err)
	http.Error(w, "This does not work at the moment. Try again in a minute.", http.StatusServiceUnavailable)
}

func (h *Host) serveHome(w http.ResponseWriter, r *http.Request) {
	s, _, err := h.session(r)
	if err != nil {
		h.unavailable(w, r, err)
		return
	}
	showPage(w, http.StatusOK, page{Title: "Device grant demo", Home: &homePage{Name: users[s.subject].name}})
}

func (h *Host) serveLoginForm(w http.ResponseWriter, r *http.Request) {
	showLogin(w, http.StatusOK, loginPage{ReturnTo: localPath(r.URL.Query().Get("return_to"))})
}

func (h *Host) serveLogin(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxFormBody)
	if r.ParseForm() != nil {
		showLogin(w, http.StatusBadRequest, loginPage{ReturnTo: "/", Error: "Your browser sent something that could not be read."})
		return
	}
	name, password := r.PostForm.Get("username"), r.PostForm.Get("password")
	form := loginPage{Username: name, ReturnTo: localPath(r.Form.Get("return_to"))}
	if name == "" || password == "" {
		form.Error = "Enter your user name and your password."
		showLogin(w, http.StatusBadRequest, form)
		return
	}
	subject, status := h.checkPassword(r, name, password)
	switch status {
	case http.StatusOK:
		if err := h.startSession(w, r, subject); err != nil {
			h.unavailable(w, r, err)
			return
		}
		http.Redirect(w, r, form.ReturnTo, http.StatusSeeOther)
		return
	case http.StatusTooManyRequests:
		form.Error = "The password was wrong too often. Try again in a few minutes."
	default:
		form.Error = "The user name or the password is wrong."
	}
	showLogin(w, status, form)
}

// checkPassword returns who signs in, or the status to refuse them with: unknown
// names and wrong passwords look the same.
func (h *Host) checkPassword(r *http.Request, name, password string) (subject string, status int) {
	addr, _, _ := net.SplitHostPort(r.RemoteAddr)
	attempt := digestOf(name + "\x00" + addr)
	now := h.now()
	if n, _ := h.failures.get(attempt, now); n >= maxLoginFailure {
		return "", http.StatusTooManyRequests
	}
	user, known := users[name]
	sent := digestOf(password)
	if subtle.ConstantTimeCompare(sent[:], user.password[:]) != 1 || !known {
		h.failures.update(attempt, now, func(n int, _ bool) (int, time.Time, bool) { return n + 1, now.Add(failureLife), true })
		return "", http.StatusUnauthorized
	}
	h.failures.remove(attempt)
	return user.subject, http.StatusOK
}

// startSession gives the browser a session of its own, never one that it had
// before somebody signed in.
func (h *Host) startSession(w http.ResponseWriter, r *http.Request, subject string) error {
	if err := h.endSession(r); err != nil {
		return err
	}
	id, now := newSecret(), h.now()
	if err := h.records.startSession(r.Context(), digestOf(id), session{subject, now.Add(sessionLife)}, now); err != nil {
		return err
	}
	http.SetCookie(w, h.cookie(id))
	return nil
}

func (h *Host) endSession(r *http.Request) error {
	old, err := r.Cookie(sessionCookie)
	if err != nil {
		return nil //nolint:nilerr // There is no such cookie.
	}
	return h.records.endSession(r.Context(), digestOf(old.Value))
}

func (h *Host) serveLogout(w http.ResponseWriter, r *http.Request) {
	if err := h.endSession(r); err != nil {
		h.unavailable(w, r, err)
		return
	}
	gone := h.cookie("")
	gone.MaxAge = -1
	http.SetCookie(w, gone)
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

func (h *Host) cookie(value string) *http.Cookie {
	return &http.Cookie{
		Name: sessionCookie, Value: value, Path: "/", HttpOnly: true,
		SameSite: http.SameSiteLaxMode, // The login may be reached by a link from elsewhere.
		Secure:   strings.HasPrefix(h.origin, "https:"),
	}
}

// localPath returns s if it is a path on this server, and "/" otherwise: a login
// must not send people to other sites. Browsers take a backslash for a slash and
// skip tabs and newlines, so none of these may be in it.
func localPath(s string) string {
	u, err := url.Parse(s) // It refuses control characters.
	if err != nil || u.Scheme != "" || u.Host != "" ||
		!strings.HasPrefix(s, "/") || strings.HasPrefix(s, "//") || strings.Contains(s, `\`) {
		return "/"
	}
	return s
}
