// Package browser is as much of a web browser as tests of the demo's pages need:
// it keeps cookies, follows redirects, and submits forms as they are on the page.
package browser

import (
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

// Browser shows one page at a time. It is used by one goroutine.
type Browser struct {
	Status int
	Header http.Header
	URL    *url.URL
	Text   string // the page's source

	t      testing.TB
	client http.Client
	root   *html.Node
}

// New returns a browser without cookies. Nil for transport uses the network.
func New(t testing.TB, transport http.RoundTripper) *Browser {
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	return &Browser{t: t, client: http.Client{Transport: transport, Jar: jar}}
}

// Open goes to a URL.
func (b *Browser) Open(uri string) {
	b.t.Helper()
	resp, err := b.client.Get(uri)
	b.take(resp, err)
}

// Untick unticks the box of that name and value.
func (b *Browser) Untick(name, value string) {
	b.t.Helper()
	box := find(b.root, func(n *html.Node) bool {
		return n.DataAtom == atom.Input && attr(n, "type") == "checkbox" && attr(n, "name") == name && attr(n, "value") == value
	})
	require.NotNil(b.t, box, "there is no box %s=%s", name, value)
	require.True(b.t, has(box, "checked"), "it is not ticked")
	box.Attr = slices.DeleteFunc(box.Attr, func(a html.Attribute) bool { return a.Key == "checked" })
}

// Submit fills in fields of the page's form and presses its button with the given
// value; an empty value presses one that has none.
func (b *Browser) Submit(button string, fields map[string]string) {
	b.t.Helper()
	form := find(b.root, func(n *html.Node) bool { return n.DataAtom == atom.Form })
	require.NotNil(b.t, form, "there is no form in:\n%s", b.Text)
	values, names := url.Values{}, map[string]bool{}
	for _, n := range b.inputs(form) {
		name := attr(n, "name")
		names[name] = true
		if attr(n, "type") != "checkbox" || has(n, "checked") {
			values.Add(name, attr(n, "value"))
		}
	}
	for name, value := range fields {
		require.True(b.t, names[name], "there is no field %q", name)
		values.Set(name, value)
	}
	pressed := find(form, func(n *html.Node) bool { return n.DataAtom == atom.Button && attr(n, "value") == button })
	require.NotNil(b.t, pressed, "there is no button %q", button)
	if name := attr(pressed, "name"); name != "" {
		values.Set(name, button)
	}
	require.Equal(b.t, "post", attr(form, "method"))
	action, err := b.URL.Parse(attr(form, "action"))
	require.NoError(b.t, err)
	b.Post(action.String(), values)
}

// Field returns the value of the page's first field of that name.
func (b *Browser) Field(name string) string {
	b.t.Helper()
	field := find(b.root, func(n *html.Node) bool { return n.DataAtom == atom.Input && attr(n, "name") == name })
	require.NotNil(b.t, field, "there is no field %q", name)
	return attr(field, "value")
}

// Post sends a form that is not on the page.
func (b *Browser) Post(path string, values url.Values) {
	b.t.Helper()
	target, err := b.URL.Parse(path)
	require.NoError(b.t, err)
	resp, err := b.client.PostForm(target.String(), values)
	b.take(resp, err)
}

// inputs are those in the form, and those elsewhere on the page that name it.
func (b *Browser) inputs(form *html.Node) (inputs []*html.Node) {
	for n := range b.root.Descendants() {
		if n.DataAtom != atom.Input {
			continue
		}
		owner := attr(n, "form") != "" && attr(n, "form") == attr(form, "id")
		for parent := range n.Ancestors() {
			owner = owner || parent == form
		}
		if owner {
			inputs = append(inputs, n)
		}
	}
	return inputs
}

// Close ends the browser's connections.
func (b *Browser) Close() { b.client.CloseIdleConnections() }

func (b *Browser) take(resp *http.Response, err error) {
	b.t.Helper()
	require.NoError(b.t, err)
	text, err := io.ReadAll(resp.Body)
	require.NoError(b.t, err)
	require.NoError(b.t, resp.Body.Close())
	b.Status, b.Header, b.URL, b.Text = resp.StatusCode, resp.Header, resp.Request.URL, string(text)
	b.root, err = html.Parse(strings.NewReader(b.Text))
	require.NoError(b.t, err)
}

func find(root *html.Node, match func(*html.Node) bool) *html.Node {
	for n := range root.Descendants() {
		if match(n) {
			return n
		}
	}
	return nil
}

func has(n *html.Node, key string) bool {
	return slices.ContainsFunc(n.Attr, func(a html.Attribute) bool { return a.Key == key })
}

func attr(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

// Handler is a transport that asks a handler instead of the network.
type Handler struct{ http.Handler }

// RoundTrip implements http.RoundTripper.
func (h Handler) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	received := r.Clone(r.Context())
	received.RequestURI, received.RemoteAddr = r.URL.RequestURI(), "192.0.2.1:1234"
	if received.Body == nil {
		received.Body = http.NoBody
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, received)
	resp := w.Result()
	resp.Request = r
	return resp, nil
}
