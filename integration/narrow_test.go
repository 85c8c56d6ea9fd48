package integration

import (
	"context"
	"net/http"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/devicegrant/devicegrant"
)

// startNarrow starts a gallery whose tokens are their scope.
func startNarrow(t *testing.T) *gallery {
	t.Helper()
	return startGallery(t, func(c *devicegrant.Config) {
		c.NarrowScopes = true
		c.IssueToken = issueScope
	})
}

func issueScope(_ context.Context, g *devicegrant.Grant) (*devicegrant.Token, error) {
	return &devicegrant.Token{AccessToken: "access", Scope: g.Scope}, nil
}

// One scope is unticked by keyboard alone, with and without JavaScript, and the device
// gets the rest.
func TestPagesUntickByKeyboard(t *testing.T) {
	g := startNarrow(t)
	for name, javaScript := range map[string]bool{"with JavaScript": true, "without JavaScript": false} {
		t.Run(name, func(t *testing.T) {
			b := newTab(t)
			if !javaScript {
				b.disableJavaScript()
			}
			a := g.authorize()
			require.EqualValues(t, http.StatusOK, b.open(a.VerificationURIComplete))
			b.focus(profileBox)
			assert.True(t, evaluate[bool](b, "document.activeElement.checked"))
			b.do(chromedp.KeyEvent(" "), chromedp.KeyEvent(" "), chromedp.KeyEvent(" "))
			assert.False(t, evaluate[bool](b, "document.activeElement.checked"))
			b.focus(approveButton)
			require.EqualValues(t, http.StatusOK, b.load(chromedp.KeyEvent(kb.Enter)))
			b.requireHeading(titleApproved)
			token, err := g.Poll(t.Context(), devicegrant.PollRequest{ClientID: "tv", DeviceCode: a.DeviceCode})
			require.NoError(t, err)
			assert.Equal(t, "openid offline_access", token.Scope)
		})
	}
}

// What cannot be unticked is no stop on the way, and is said in words.
func TestPagesRequiredScope(t *testing.T) {
	g := startNarrow(t)
	b := newTab(t)
	require.EqualValues(t, http.StatusOK, b.open(g.authorize().VerificationURIComplete))
	assert.Equal(t, []string{"profile", "offline_access"}, evaluate[[]string](b, "[...document.querySelectorAll('fieldset input:not([type=hidden])')].map(i => i.value)"))
	assert.Contains(t, b.text(), "openid (required)")
}

// A long list of details scrolls by itself, which a keyboard can do, too.
func TestPagesLongDetailsByKeyboard(t *testing.T) {
	g := startNarrow(t)
	for _, page := range exhibits {
		if page.name != "review-long-details" {
			continue
		}
		b := newTab(t)
		require.Equal(t, page.status, page.visit(g, b))
		b.focus(".details")
		b.do(chromedp.KeyEvent(kb.End))
		const atEnd = "new Promise(done => { const look = () => { const d = document.querySelector('.details'); " +
			"d.scrollTop > 0 && d.scrollTop + d.clientHeight >= d.scrollHeight - 1 ? done(true) : requestAnimationFrame(look) }; look() })"
		b.do(chromedp.Evaluate[chromedp.Void](atEnd, chromedp.EvalAwaitPromise))
		return
	}
	require.Fail(t, "there is no such page")
}
