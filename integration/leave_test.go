package integration

import (
	"net/http"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/devicegrant/devicegrant"
)

func denyOnLeave(c *devicegrant.Config) { c.DenyOnLeave = true }

// Who goes elsewhere, or back, without deciding has denied.
func TestPagesLeaveToDeny(t *testing.T) {
	g := startGallery(t, denyOnLeave)
	for name, leave := range map[string]func(*tab){
		"to another page": func(b *tab) { b.open(g.origin + "/device") },
		"back":            (*tab).back,
		"closing the tab": func(b *tab) { require.NoError(t, chromedp.Cancel(b.ctx)) },
	} {
		t.Run(name, func(t *testing.T) {
			b := newTab(t).another() // The browser stays open.
			a := g.authorize()
			b.open(g.origin + "/device")
			b.open(a.VerificationURIComplete)
			leave(b)
			assert.Equal(t, "alice", g.await(devicegrant.EventLeft).Subject)
			_, err := g.Poll(t.Context(), devicegrant.PollRequest{ClientID: "tv", DeviceCode: a.DeviceCode})
			require.ErrorIs(t, err, devicegrant.ErrAccessDenied)
		})
	}
}

// A decision is not undone by the page that goes with it, and a detour to another account
// is not leaving.
func TestPagesDecidingIsNotLeaving(t *testing.T) {
	g := startGallery(t, denyOnLeave)
	b := newTab(t)
	a := g.authorize()
	b.open(a.VerificationURIComplete)
	require.EqualValues(t, http.StatusOK, b.press(switchButton))
	b.requireHeading(titleReview)
	require.EqualValues(t, http.StatusOK, b.press(approveButton))
	b.requireHeading(titleApproved)
	b.open(g.origin + "/device")
	for _, kind := range []devicegrant.EventType{devicegrant.EventCreated, devicegrant.EventReviewed, devicegrant.EventApproved} {
		assert.Equal(t, kind, (<-g.events).Type)
	}
	assert.Empty(t, g.events)
}

// Without JavaScript, and where the host has not asked for it, leaving changes nothing.
func TestPagesLeaveWithoutConsequence(t *testing.T) {
	for name, tt := range map[string]struct {
		change     func(*devicegrant.Config)
		javaScript bool
	}{"without JavaScript": {denyOnLeave, false}, "by default": {nil, true}} {
		t.Run(name, func(t *testing.T) {
			g := startGallery(t, tt.change)
			b := newTab(t)
			if !tt.javaScript {
				b.disableJavaScript()
			}
			a := g.authorize()
			b.open(a.VerificationURIComplete)
			b.open(g.origin + "/device")
			require.EqualValues(t, http.StatusOK, b.open(a.VerificationURIComplete), "it can still be decided")
			require.EqualValues(t, http.StatusOK, b.press(denyButton))
			g.await(devicegrant.EventDenied)
		})
	}
}
