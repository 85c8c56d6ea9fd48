package integration

import (
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/html"
)

// What the pages are called.
const (
	titleForm     = "Connect a device"
	titleLogin    = "Sign in"
	titleReview   = "Allow this sign-in?"
	titleApproved = "Device connected"
	titleDenied   = "Sign-in denied"
	titleDecided  = "Already decided"
	titleForeign  = "Not from here"
	titleStale    = "Start again"
	titleReported = "Denied and reported"
)

// person is somebody with a browser that follows the pages' own links and forms.
type person struct {
	username, password string
	client             *http.Client
}

func newPerson(t *testing.T, username, password string) *person {
	t.Helper()
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	client := newClient(t)
	client.Jar = jar
	return &person{username, password, client}
}

func newAlice(t *testing.T) *person {
	t.Helper()
	return newPerson(t, "alice", "wonderland")
}

// approve types the code and allows what the page asks.
func (p *person) approve(t *testing.T, a answer) {
	t.Helper()
	p.decide(t, a, "approve", titleApproved)
}

// deny types the code and refuses what the page asks.
func (p *person) deny(t *testing.T, a answer) {
	t.Helper()
	p.decide(t, a, "deny", titleDenied)
}

func (p *person) decide(t *testing.T, a answer, action, want string) {
	t.Helper()
	review := p.submit(t, p.open(t, a.VerificationURI), map[string]string{"user_code": a.UserCode})
	if review.heading() == titleLogin {
		review = p.submit(t, review, map[string]string{"username": p.username, "password": p.password})
	}
	require.Equal(t, titleReview, review.heading())
	assert.Contains(t, review.text(), a.UserCode)
	done := p.submit(t, review, map[string]string{"action": action})
	require.Equal(t, http.StatusOK, done.status)
	require.Equal(t, want, done.heading())
}

// cookies are what keeps the person signed in, and what names their browser session, by
// name.
func (p *person) cookies(t *testing.T, origin string) map[string]string {
	t.Helper()
	u, err := url.Parse(origin)
	require.NoError(t, err)
	values := map[string]string{}
	for _, c := range p.client.Jar.Cookies(u) {
		values[c.Name] = c.Value
	}
	return values
}

func (p *person) open(t *testing.T, uri string) *webPage {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, uri, nil)
	require.NoError(t, err)
	return p.load(t, r)
}

// submit fills in the page's form. A button's name and value press that button.
func (p *person) submit(t *testing.T, page *webPage, filled map[string]string) *webPage {
	t.Helper()
	form := page.find("form")
	require.NotNil(t, form, page.text())
	require.Equal(t, "post", attribute(form, "method"))
	fields := hiddenFields(form)
	for name, value := range filled {
		require.True(t, accepts(form, name, value), "the form of %q has no %s=%s", page.heading(), name, value)
		fields.Set(name, value)
	}
	target, err := page.url.Parse(attribute(form, "action"))
	require.NoError(t, err)
	return p.post(t, target, fields)
}

// post sends a form from a page of the same origin.
func (p *person) post(t *testing.T, target *url.URL, fields url.Values) *webPage {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, target.String(), strings.NewReader(fields.Encode()))
	require.NoError(t, err)
	r.Header.Set("Content-Type", formType)
	r.Header.Set("Origin", target.Scheme+"://"+target.Host)
	return p.load(t, r)
}

func (p *person) load(t *testing.T, r *http.Request) *webPage {
	t.Helper()
	resp, err := p.client.Do(r)
	require.NoError(t, err)
	defer resp.Body.Close()
	doc, err := html.Parse(resp.Body)
	require.NoError(t, err)
	return &webPage{resp.StatusCode, resp.Request.URL, doc}
}

// webPage is a page that was loaded.
type webPage struct {
	status int
	url    *url.URL // after redirects
	doc    *html.Node
}

func (p *webPage) text() string { return text(p.doc) }

func (p *webPage) heading() string {
	h1 := p.find("h1")
	if h1 == nil {
		return ""
	}
	return text(h1)
}

// find returns the first element of a kind.
func (p *webPage) find(element string) *html.Node {
	for n := range p.doc.Descendants() {
		if n.Type == html.ElementNode && n.Data == element {
			return n
		}
	}
	return nil
}

func hiddenFields(form *html.Node) url.Values {
	fields := url.Values{}
	for n := range form.Descendants() {
		if n.Data == "input" && attribute(n, "type") == "hidden" {
			fields.Set(attribute(n, "name"), attribute(n, "value"))
		}
	}
	return fields
}

// accepts reports whether a form has a field of that name, or such a button.
func accepts(form *html.Node, name, value string) bool {
	for n := range form.Descendants() {
		if attribute(n, "name") == name && (n.Data == "input" || n.Data == "button" && attribute(n, "value") == value) {
			return true
		}
	}
	return false
}

func attribute(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

func text(n *html.Node) string {
	var b strings.Builder
	for d := range n.Descendants() {
		if d.Type == html.TextNode {
			b.WriteString(d.Data)
		}
	}
	return b.String()
}
