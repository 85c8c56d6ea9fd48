package integration

import (
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/oauth2"
)

// realClient is a client that programs log in with.
type realClient struct {
	name      string
	start     func(t *testing.T, s *authServer, at string) *attempt // with the endpoints of the grant at an origin
	perPoll   int                                                   // requests that one poll makes
	refreshes bool
	ends      ends
}

// ends are how each scenario ends for a client.
type ends struct{ approve, deny, expiry, slowDown, outage string }

// realClients are the clients, and what becomes of them. docs/clients.md has this table.
//
// At a lost connection, all but ours give up at once: golang.org/x/oauth2 and cli/oauth
// return whatever net/http does, openid-client goes on after two error codes and after 503
// with Retry-After only, and oauth4webapi.mjs says why it does.
var realClients = []realClient{
	{"oauth2", startOAuth2(oauth2.AuthStyleInParams), 1, true, ends{gotToken, denied, byItsClock, gotToken, lost}},
	{"oauth2-auto-detected", startOAuth2(oauth2.AuthStyleAutoDetect), 2, true, ends{gotToken, denied, byItsClock, gotToken, lost}},
	{"cli-oauth", startCLI, 1, false, ends{gotToken, denied, byItsClock, gotToken, lost}},
	{"openid-client", startOpenIDClient, 1, true, ends{gotToken, denied, byItsClock, gotToken, lost}},
	{"oauth4webapi", startOAuth4WebAPI, 1, true, ends{gotToken, denied, expired, gotToken, lost}},
	{"deviceclient", startDeviceclient, 1, false, ends{gotToken, denied, expired, gotToken, gotToken}},
}

// site is a database, and servers on databases of its kind.
type site struct {
	create           func(t *testing.T) string // returns the URL of another one
	server, expiring *authServer
	alice            *sync.Mutex // held while she decides
}

// decide has alice decide, one thing at a time: codes that a person has looked up at once
// count as wrong until they are found, and three are the limit.
func (s site) decide(t *testing.T, shown answer, decision func(*person, *testing.T, answer)) {
	t.Helper()
	s.alice.Lock()
	defer s.alice.Unlock()
	decision(newAlice(t), t, shown)
}

func TestClients(t *testing.T) {
	t.Parallel()
	sites := map[string]site{}
	for _, name := range []string{"sqlite", "postgres"} {
		create := storeURLs[name]
		sites[name] = site{
			create:   create,
			server:   startAuthServer(t, "-store", create(t)),
			expiring: startAuthServer(t, "-store", create(t), "-interval", "4s", "-lifetime", "7s"),
			alice:    &sync.Mutex{},
		}
	}
	for _, c := range realClients {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			for name, s := range sites {
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					c.test(t, s)
				})
			}
		})
	}
}

func (c realClient) test(t *testing.T, s site) {
	for name, scenario := range map[string]func(*testing.T, site){
		"approve":   c.approve,
		"deny":      c.deny,
		"expiry":    c.expiry,
		"slow_down": c.slowDown,
		"outage":    c.outage,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			scenario(t, s)
		})
	}
}

// approve: somebody allows it after two polls.
func (c realClient) approve(t *testing.T, s site) {
	f := newFront(t, s.server, false)
	l := c.start(t, s.server, f.origin)
	f.await(t, 2*c.perPoll)
	s.decide(t, l.shown, (*person).approve)
	c.requireEnd(t, s.server, l, c.ends.approve)
	requirePolls(t, f.polls(), c.perPoll, "authorization_pending")
}

// deny: somebody refuses it after one poll.
func (c realClient) deny(t *testing.T, s site) {
	f := newFront(t, s.server, false)
	l := c.start(t, s.server, f.origin)
	f.await(t, c.perPoll)
	s.decide(t, l.shown, (*person).deny)
	c.requireEnd(t, s.server, l, c.ends.deny)
	polls := f.polls()
	assert.Equal(t, "access_denied", polls[len(polls)-1].code)
}

// expiry: nobody does anything for as long as codes live, which is no multiple of the
// interval. Who goes by its own clock does not ask again.
func (c realClient) expiry(t *testing.T, s site) {
	f := newFront(t, s.expiring, false)
	began := time.Now()
	l := c.start(t, s.expiring, f.origin)
	c.requireEnd(t, s.expiring, l, c.ends.expiry)
	assert.GreaterOrEqual(t, time.Since(began), 6900*time.Millisecond)
	told := slices.ContainsFunc(f.polls(), func(r recorded) bool { return r.code == "expired_token" })
	assert.Equal(t, c.ends.expiry == expired, told, f.polls())
}

// slowDown: the first poll is too early. From then on the client waits five seconds more
// (RFC 8628 section 3.5), counted from the answer.
func (c realClient) slowDown(t *testing.T, s site) {
	f := newFront(t, s.server, true)
	l := c.start(t, s.server, f.origin)
	f.await(t, c.perPoll)
	s.decide(t, l.shown, (*person).approve)
	c.requireEnd(t, s.server, l, c.ends.slowDown)
	polls := f.polls()
	requirePolls(t, polls, c.perPoll, "slow_down")
	gap := polls[c.perPoll].asked.Sub(polls[c.perPoll-1].answered)
	assert.GreaterOrEqual(t, gap, 9900*time.Millisecond, "a tenth of a second is the timer's")
}

// outage: the server is away for ten seconds, and then somebody allows it. The address is
// one of which nobody else takes the port meanwhile.
func (c realClient) outage(t *testing.T, s site) {
	args := []string{"-interval", "1s", "-store", s.create(t), "-key", filepath.Join(t.TempDir(), "key"), "-addr"}
	server := startAuthServer(t, append(args, "127.0.0.2:0")...)
	l := c.start(t, server, server.origin)
	time.Sleep(2500 * time.Millisecond) // For a poll or two; what follows is the pace of a restart.
	require.Zero(t, server.stop(t, syscall.SIGTERM))
	if c.ends.outage == lost {
		c.requireEnd(t, server, l, lost)
		return
	}
	time.Sleep(10 * time.Second)
	again := startAuthServer(t, append(args, strings.TrimPrefix(server.origin, "http://"))...)
	newAlice(t).approve(t, l.shown)
	c.requireEnd(t, again, l, c.ends.outage)
}

// requireEnd waits for a login to end as it has to. Every token is good.
func (c realClient) requireEnd(t *testing.T, s *authServer, l *attempt, want string) {
	t.Helper()
	got := l.end(t)
	require.Equal(t, want, got.how)
	tokens := 0
	switch {
	case want == gotToken && c.refreshes:
		tokens = 2
	case want == gotToken:
		tokens = 1
	}
	require.Len(t, got.accessTokens, tokens)
	for _, token := range got.accessTokens {
		require.Equal(t, "alice", s.userinfo(t, token).Sub)
	}
}
