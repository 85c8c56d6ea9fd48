package integration

import (
	"html/template"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var foreignForm = template.Must(template.New("").Parse(`<!DOCTYPE html>
<form method="post" action="{{.Action}}">
<input type="hidden" name="{{.Name}}" value="{{.Value}}">
<button name="action" value="{{.Press}}">Win a prize</button>
</form>`))

var foreignFrame = template.Must(template.New("").Parse(`<!DOCTYPE html>
<iframe src="{{.}}"></iframe>`))

// foreignSite serves a page at 127.0.0.1 and another port: the same site to a
// browser, which sends cookies there, but another origin.
func foreignSite(t *testing.T, content *template.Template, data any) (origin string) {
	t.Helper()
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		assert.NoError(t, content.Execute(w, data))
	}))
	t.Cleanup(site.Close)
	return site.URL
}

// Other sites cannot press the buttons, not even with a ticket that is good.
func TestForeignPosts(t *testing.T) {
	server := startAuthServer(t)
	b := newTab(t)
	a := server.authorize(t)
	b.review(a)
	type form struct{ Action, Name, Value, Press string }
	ticket := evaluate[string](b, "document.querySelector('[name=ticket]').value")
	decision := foreignSite(t, foreignForm, form{a.VerificationURI, "ticket", ticket, "approve"})
	code := foreignSite(t, foreignForm, form{a.VerificationURI, "user_code", a.UserCode, ""})
	login := foreignSite(t, foreignForm, form{server.origin + "/login", "username", "bob", ""})
	for name, origin := range map[string]string{"decision": decision, "code": code, "login": login} {
		for _, uri := range []string{origin, strings.Replace(origin, "127.0.0.1", "localhost", 1)} {
			b.open(uri)
			assert.EqualValues(t, http.StatusForbidden, b.press(submitButton), "%s from %s", name, uri)
			if name != "login" {
				b.requireHeading(titleForeign)
			}
		}
	}
	assert.Equal(t, "authorization_pending", server.poll(t, a.DeviceCode).Error)

	b.review(a)
	b.press(approveButton)
	requireSignedIn(t, server, a)
}

func TestForeignFrames(t *testing.T) {
	server := startAuthServer(t)
	b := newTab(t)
	a := server.authorize(t)
	b.review(a) // Signed in from here on.
	framed := func(uri string) *cdp.Frame {
		b.open(foreignSite(t, foreignFrame, uri))
		tree, err := chromedp.Call(b.ctx, page.GetFrameTree, cdp.Empty{})
		require.NoError(t, err)
		require.Len(t, tree.FrameTree.ChildFrames, 1)
		return tree.FrameTree.ChildFrames[0].Frame
	}
	for _, uri := range []string{a.VerificationURI, a.VerificationURIComplete, server.origin + "/login"} {
		assert.Equal(t, uri, framed(uri).UnreachableURL)
	}
	other := server.origin + "/.well-known/oauth-authorization-server"
	assert.Equal(t, other, framed(other).URL, "what may be framed is, so the above says something")
}
