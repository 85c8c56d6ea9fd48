package integration

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The tests with a browser are not parallel, for the timing of those that are.

// A whole login, on a phone and on a desktop, with either outcome.
func TestPagesWholeLogin(t *testing.T) {
	server := startAuthServer(t)
	for name, tt := range map[string]struct {
		width, height int64
		button        chromedp.CSS
		heading       string
	}{
		"phone":         {390, 844, approveButton, titleApproved},
		"desktop":       {1280, 800, approveButton, titleApproved},
		"phone, denied": {390, 844, denyButton, titleDenied},
		"not me":        {1280, 800, reportButton, titleReported},
	} {
		t.Run(name, func(t *testing.T) {
			b := newTab(t)
			b.look(tt.width, tt.height, "light")
			a := server.authorize(t)
			require.EqualValues(t, http.StatusOK, b.open(a.VerificationURI))
			b.requireHeading(titleForm)
			b.enterCode(" " + strings.ToLower(strings.ReplaceAll(a.UserCode, "-", "  "))) // As phones paste it.
			b.signIn()
			b.requireHeading(titleReview)
			for _, shown := range []string{a.UserCode, "Living-room TV", "See your name", "Alice", "This computer"} {
				assert.Contains(t, b.text(), shown)
			}
			require.EqualValues(t, http.StatusOK, b.press(tt.button))
			b.requireHeading(tt.heading)
			requireOutcome(t, server, a, tt.button == approveButton)
		})
	}
}

// The box is demanded by the browser, which says so, and by the server.
func TestPagesConfirmCode(t *testing.T) {
	server := startAuthServer(t, "-confirm-code")
	b := newTab(t)
	a := server.authorize(t)
	b.review(a)
	b.do(chromedp.Click(approveButton))
	assert.True(t, evaluate[bool](b, "document.querySelector('[name=confirm]').matches(':invalid')"))
	b.requireHeading(titleReview)
	b.do(chromedp.Evaluate[chromedp.Void]("document.querySelector('[name=confirm]').required = false"))
	assert.EqualValues(t, http.StatusBadRequest, b.press(approveButton))
	b.requireHeading(titleReview)
	assert.Equal(t, "authorization_pending", server.poll(t, a.DeviceCode).Error)
	b.do(chromedp.Click(confirmBox))
	require.EqualValues(t, http.StatusOK, b.press(approveButton))
	requireSignedIn(t, server, a)
}

// Another account can be chosen on the way, without losing the code.
func TestPagesSwitchAccount(t *testing.T) {
	server := startAuthServer(t, "-deny-on-leave")
	b := newTab(t)
	a := server.authorize(t)
	b.review(a)
	b.press(switchButton)
	b.signInAs("bob", "builder")
	b.requireHeading(titleReview)
	assert.Contains(t, b.text(), "Bob")
	require.EqualValues(t, http.StatusOK, b.press(approveButton))
	assert.Equal(t, "bob", server.userinfo(t, server.poll(t, a.DeviceCode).AccessToken).Sub)
}

// A code that has expired meanwhile cannot be approved, and cannot be entered.
func TestPagesExpiredCode(t *testing.T) {
	server := startAuthServer(t, "-interval", "1s", "-lifetime", "3s")
	b := newTab(t)
	b.review(server.authorize(t)) // Signed in from here on.
	a := server.authorize(t)
	b.review(a)
	require.Eventually(t, func() bool { return server.poll(t, a.DeviceCode).Error == "expired_token" }, patience, time.Second)
	assert.EqualValues(t, http.StatusBadRequest, b.press(approveButton))
	b.requireHeading(titleStale)
	b.open(a.VerificationURI)
	assert.EqualValues(t, http.StatusBadRequest, b.enterCode(a.UserCode))
	assert.Equal(t, "expired_token", server.poll(t, a.DeviceCode).Error)
}

// A code that is being looked at in one browser is not to be had in another.
func TestPagesTwoBrowsers(t *testing.T) {
	server := startAuthServer(t)
	laptop, phone := newTab(t), newTab(t)
	a := server.authorize(t)
	laptop.review(a)
	phone.open(server.authorize(t).VerificationURIComplete)
	phone.signIn()
	assert.EqualValues(t, http.StatusConflict, phone.open(a.VerificationURIComplete))
	require.EqualValues(t, http.StatusOK, laptop.press(approveButton))
	requireSignedIn(t, server, a)
}

func TestPagesWithoutJavaScript(t *testing.T) {
	server := startAuthServer(t)
	b := newTab(t)
	b.disableJavaScript()
	a := server.authorize(t)
	require.EqualValues(t, http.StatusOK, b.open(a.VerificationURI))
	b.requireHeading(titleForm)
	b.enterCode(a.UserCode)
	b.signIn()
	b.requireHeading(titleReview)
	require.EqualValues(t, http.StatusOK, b.press(approveButton))
	b.requireHeading(titleApproved)
	requireSignedIn(t, server, a)
}

func TestPagesWithKeyboardOnly(t *testing.T) {
	server := startAuthServer(t)
	b := newTab(t)
	for action, button := range map[string]chromedp.CSS{"approve": approveButton, "deny": denyButton} {
		a := server.authorize(t)
		b.open(a.VerificationURI)
		b.focus(codeField)
		b.load(chromedp.KeyEvent(a.UserCode + kb.Enter))
		if b.heading() == titleLogin {
			b.focus(nameField)
			b.do(chromedp.KeyEvent("alice"))
			b.focus(passwordField)
			b.load(chromedp.KeyEvent("wonderland" + kb.Enter))
		}
		b.requireHeading(titleReview)
		b.focus(button)
		require.EqualValues(t, http.StatusOK, b.load(chromedp.KeyEvent(kb.Enter)))
		requireOutcome(t, server, a, action == "approve")
	}
}

func TestPagesWrongCode(t *testing.T) {
	server := startAuthServer(t)
	b := newTab(t)
	a := server.authorize(t)
	b.review(a)
	b.open(a.VerificationURI)
	assert.EqualValues(t, http.StatusBadRequest, b.enterCode("BBBB-BBBB"))
	assert.Equal(t, "true", evaluate[string](b, "document.querySelector('#user_code').getAttribute('aria-invalid')"))
	described := evaluate[[]string](b, `document.querySelector('#user_code').getAttribute('aria-describedby').split(' ')
		.map(id => document.getElementById(id).innerText)`)
	require.Len(t, described, 2, "error and hint")
	assert.Contains(t, described[0], "not valid")
	assert.Equal(t, "BBBB-BBBB", evaluate[string](b, "document.querySelector('#user_code').value"), "to be corrected")

	assert.EqualValues(t, http.StatusOK, b.enterCode(a.UserCode))
	b.requireHeading(titleReview)
}

// Whatever was decided stays, though the browser shows the question again.
func TestPagesBackButton(t *testing.T) {
	server := startAuthServer(t)
	for name, button := range map[string]chromedp.CSS{"approved": approveButton, "denied": denyButton} {
		t.Run(name, func(t *testing.T) {
			b := newTab(t)
			a := server.authorize(t)
			b.open(a.VerificationURI)
			b.enterCode(a.UserCode)
			b.signIn()
			require.EqualValues(t, http.StatusOK, b.press(button))
			b.back()
			if b.heading() == titleReview { // The browser kept the page, against no-store.
				assert.EqualValues(t, http.StatusConflict, b.press(approveButton))
			}
			b.requireHeading(titleDecided)
			requireOutcome(t, server, a, name == "approved")
		})
	}
}

func TestPagesTwoTabs(t *testing.T) {
	server := startAuthServer(t)
	first := newTab(t)
	second := first.another()
	a := server.authorize(t)
	first.review(a)
	second.review(a)
	first.press(denyButton)
	first.requireHeading(titleDenied)
	assert.EqualValues(t, http.StatusConflict, second.press(approveButton))
	second.requireHeading(titleDecided)
	assert.Equal(t, "access_denied", server.poll(t, a.DeviceCode).Error)
}

// Nothing nudges towards a decision.
func TestPagesButtonsAreEqual(t *testing.T) {
	server := startAuthServer(t)
	b := newTab(t)
	b.review(server.authorize(t))
	assert.Equal(t, "BODY", evaluate[string](b, "document.activeElement.tagName"), "what has the focus")
	deny, approve := b.box(denyButton), b.box(approveButton)
	assert.InDelta(t, deny.Width, approve.Width, 0.1)
	assert.InDelta(t, deny.Height, approve.Height, 0.1)
	for _, property := range []string{"backgroundColor", "borderColor", "color", "fontSize", "fontWeight"} {
		looks := evaluate[[]string](b, fmt.Sprintf("[...document.querySelectorAll('[value=deny], [value=approve]')].map(b => getComputedStyle(b).%s)", property))
		require.Len(t, looks, 2)
		assert.Equal(t, looks[0], looks[1], property)
	}
}

// Every page fits a narrow screen. With SCREENSHOTS it has its picture taken, too.
func TestPagesFit(t *testing.T) {
	server := startAuthServer(t)
	b := newTab(t)
	a, denied := server.authorize(t), server.authorize(t)
	visit := func(name, heading string) {
		b.requireHeading(heading)
		b.requireFit(name)
	}
	b.open(a.VerificationURI)
	visit("form", titleForm)
	b.enterCode(a.UserCode)
	visit("login", titleLogin)
	b.do(chromedp.SendKeys(nameField, "alice"), chromedp.SendKeys(passwordField, "wrong"))
	b.press(submitButton)
	visit("login-error", titleLogin)
	b.do(chromedp.SendKeys(passwordField, "wonderland"))
	b.press(submitButton)
	visit("confirmation", titleReview)
	b.press(approveButton)
	visit("approved", titleApproved)
	b.open(a.VerificationURIComplete)
	visit("decided", titleDecided)
	b.open(a.VerificationURI)
	b.enterCode(strings.Repeat("W", 64))
	visit("form-error", titleForm)
	b.review(denied)
	b.press(denyButton)
	visit("denied", titleDenied)
}

// requireFit looks at the page on screens of several sizes.
func (b *tab) requireFit(name string) {
	b.t.Helper()
	for device, size := range map[string][2]int64{"narrow": {320, 568}, "phone": {390, 844}, "desktop": {1280, 800}} {
		for _, scheme := range []string{"light", "dark"} {
			b.look(size[0], size[1], scheme)
			width := evaluate[int64](b, "document.documentElement.scrollWidth")
			assert.LessOrEqual(b.t, width, size[0], "%s scrolls sideways on a %s screen", name, device)
			b.screenshot(name + "-" + device + "-" + scheme)
		}
	}
}

// requireOutcome checks that the device hears what was decided.
func requireOutcome(t *testing.T, s *authServer, a answer, approved bool) {
	t.Helper()
	if approved {
		requireSignedIn(t, s, a)
		return
	}
	assert.Equal(t, "access_denied", s.poll(t, a.DeviceCode).Error)
}

// requireSignedIn polls once, and checks that the token is alice's.
func requireSignedIn(t *testing.T, s *authServer, a answer) {
	t.Helper()
	token := s.poll(t, a.DeviceCode)
	require.Equal(t, http.StatusOK, token.status, token.raw)
	assert.Equal(t, "alice", s.userinfo(t, token.AccessToken).Sub)
}
