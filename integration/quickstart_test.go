package integration

import (
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// startQuickstart runs the README's first command, and returns what it shows.
func startQuickstart(t *testing.T) (*process, answer) {
	t.Helper()
	p := start(t, "quickstart", "-addr", "127.0.0.1:0")
	shown := p.printed(t, `open +(http://\S+)\s+and enter the code +(\S+)\n(?s:.*)\n(http://\S+user_code=\S+)\n(?s:.*)Waiting`)
	return p, answer{VerificationURI: shown[1], UserCode: shown[2], VerificationURIComplete: shown[3]}
}

func TestQuickstartByLink(t *testing.T) {
	p, a := startQuickstart(t)
	b := newTab(t)
	b.review(a)
	b.press(approveButton)
	b.requireHeading(titleApproved)
	requireGreeting(t, p)
}

func TestQuickstartByCode(t *testing.T) {
	p, a := startQuickstart(t)
	b := newTab(t)
	b.open(a.VerificationURI)
	b.requireHeading(titleForm)
	b.enterCode(strings.ToLower(a.UserCode))
	b.signIn()
	b.requireHeading(titleReview)
	assert.Contains(t, b.text(), a.UserCode)
	b.press(approveButton)
	b.requireHeading(titleApproved)
	requireGreeting(t, p)
}

func requireGreeting(t *testing.T, p *process) {
	t.Helper()
	require.Zero(t, p.exitCode(t))
	assert.Contains(t, p.stdout.String(), "signed in as Alice (alice)")
	assert.Empty(t, p.stderr.String())
}

func TestQuickstartDenied(t *testing.T) {
	p, a := startQuickstart(t)
	b := newTab(t)
	b.review(a)
	b.press(denyButton)
	b.requireHeading(titleDenied)
	require.Equal(t, 1, p.exitCode(t))
	assert.Contains(t, p.stderr.String(), "denied")
	assert.NotContains(t, p.stdout.String(), "signed in")
}

func TestQuickstartInterrupted(t *testing.T) {
	p, _ := startQuickstart(t)
	require.Equal(t, 1, p.stop(t, syscall.SIGINT))
	assert.Equal(t, "quickstart: stopped before anybody decided\n", p.stderr.String())
}
