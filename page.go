package devicegrant

import (
	"bytes"
	"crypto/sha256"
	_ "embed" // The page's template and style.
	"encoding/base64"
	"fmt"
	"html/template"
	"net/http"
)

//go:embed page.html
var pageHTML string

//go:embed page.css
var pageCSS string

var pages = template.Must(template.New("page").Parse(pageHTML))

// contentSecurityPolicy admits the page's own style and nothing else. It leaves
// form-action out: browsers apply that to redirects too, and a post may be
// redirected to a login on another origin.
var contentSecurityPolicy = func() string {
	sum := sha256.Sum256([]byte(pageCSS))
	return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) +
		"'; base-uri 'none'; frame-ancestors 'none'"
}()

// page is what every page has. One of Form, Review and Message is set.
type page struct {
	Title   string
	Style   template.CSS
	Path    string // of the verification page
	Form    *formPage
	Review  *reviewPage
	Message *message
}

type formPage struct {
	Typed   string // what was typed, to be corrected
	Wrong   bool   // it is no code
	Example string // what a code looks like
}

type reviewPage struct {
	*Review
	Name string // of the client
}

// message is a page that only says something. Again offers the form.
type message struct {
	Title, Text string
	Again       bool
}

var (
	messageApproved    = message{"Device connected", "You allowed the sign-in. You can close this page and go back to your device.", false}
	messageDenied      = message{"Sign-in denied", "The device was not allowed to sign in. You can close this page.", false}
	messageDecided     = message{"Already decided", "This request has been allowed or denied already. Nothing was changed.", true}
	messageStale       = message{"Start again", "This page is out of date, and nothing was changed. Enter the code that your device shows now.", true}
	messageUnavailable = message{"Please try again", "Something went wrong on our side, and nothing was changed. Try again in a moment.", true}
	messageMalformed   = message{"That did not work", "Your browser sent something that could not be read. Nothing was changed.", true}
	messageCrossOrigin = message{"Not from here", "This was sent from another site, so it was refused. Nothing was changed.", true}
	messageMethod      = message{"That did not work", "This page cannot be used in that way.", true}
)

func tooManyMessage(seconds int64) message {
	wait := "in a moment"
	switch {
	case seconds > 90:
		wait = fmt.Sprintf("in %d minutes", (seconds+59)/60)
	case seconds > 1:
		wait = fmt.Sprintf("in %d seconds", seconds)
	}
	return message{"Too many wrong codes", "Wrong codes have been entered too often. Try again " + wait + ".", true}
}

func (s *Server) showForm(w http.ResponseWriter, status int, f formPage) {
	if len(f.Typed) > maxTyped {
		f.Typed = "" // Nobody typed that.
	}
	f.Example = s.cfg.UserCode.example()
	s.show(w, status, page{Title: "Connect a device", Form: &f})
}

func (s *Server) showReview(w http.ResponseWriter, review *Review) {
	p := page{Title: "Allow this sign-in?", Review: &reviewPage{review, review.Client.displayName()}}
	s.show(w, http.StatusOK, p)
}

func (s *Server) showMessage(w http.ResponseWriter, status int, m message) {
	s.show(w, status, page{Title: m.Title, Message: &m})
}

// show writes a page. It is made whole before it is sent, so that no page ends
// half-way.
func (s *Server) show(w http.ResponseWriter, status int, p page) {
	p.Style, p.Path = template.CSS(pageCSS), s.verifyPath //nolint:gosec // Our own style.
	var buf bytes.Buffer
	if err := pages.Execute(&buf, p); err != nil {
		panic(err) // The template is fixed, and so are the types it is given.
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", contentSecurityPolicy)
	h.Set("X-Frame-Options", "DENY")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(buf.Bytes()) // A browser that has gone cannot be told.
}

// example is a code of the format that is plainly made up.
func (f UserCodeFormat) example() string {
	code := make([]byte, f.Length)
	for i := range code {
		code[i] = f.Alphabet[i%len(f.Alphabet)]
	}
	return f.display(string(code))
}
