package demo

import (
	"bytes"
	"crypto/sha256"
	_ "embed" // The template and style of the pages.
	"encoding/base64"
	"html/template"
	"net/http"
)

//go:embed page.html
var pageHTML string

//go:embed page.css
var pageCSS string

var pages = template.Must(template.New("page").Parse(pageHTML))

// contentSecurityPolicy admits the pages' own style and forms, and nothing else.
var contentSecurityPolicy = func() string {
	sum := sha256.Sum256([]byte(pageCSS))
	return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) +
		"'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
}()

// page is what every page has. Either Home or Login is set.
type page struct {
	Title string
	Style template.CSS
	Home  *homePage
	Login *loginPage
}

type homePage struct {
	Name string // of who is signed in; empty if nobody is
}

type loginPage struct {
	Username string
	ReturnTo string
	Error    string
}

func showLogin(w http.ResponseWriter, status int, p loginPage) {
	showPage(w, status, page{Title: "Sign in", Login: &p})
}

func showPage(w http.ResponseWriter, status int, p page) {
	p.Style = template.CSS(pageCSS) //nolint:gosec // Our own style.
	var buf bytes.Buffer
	if err := pages.Execute(&buf, p); err != nil {
		panic(err) // The template is fixed, and so are the types it is given.
	}
	header := w.Header()
	header.Set("Content-Type", "text/html; charset=utf-8")
	header.Set("Content-Security-Policy", contentSecurityPolicy)
	header.Set("X-Frame-Options", "DENY")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(buf.Bytes()) // A browser that has gone cannot be told.
}
