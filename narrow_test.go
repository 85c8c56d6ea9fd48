package devicegrant_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/devicegrant/devicegrant"
	"github.com/devicegrant/devicegrant/memstore"
)

// choosy is a client that asks for a lot, and cannot do without openid.
var choosy = devicegrant.Client{
	ID: "tv", Name: "Television", DeviceGrant: true,
	Scopes: []string{"openid", "profile", "email", "offline_access"}, RequiredScopes: []string{"openid", "admin"},
}

// narrowFixture is a fixture at which people can untick scopes.
func narrowFixture(t *testing.T, change func(*devicegrant.Config)) *fixture {
	return newFixture(t, func(c *devicegrant.Config) {
		c.NarrowScopes = true
		c.Client = func(context.Context, string) (devicegrant.Client, error) { return choosy, nil }
		if change != nil {
			change(c)
		}
	})
}

func (f *fixture) authorizeScope(scope string) *devicegrant.Authorization {
	f.t.Helper()
	a, err := f.Authorize(f.t.Context(), choosy, devicegrant.AuthorizationRequest{Scope: scope})
	require.NoError(f.t, err)
	return a
}

func TestApproveNarrows(t *testing.T) {
	for name, tt := range map[string]struct {
		asked string
		allow []string
		want  string
		err   error
	}{
		"all of it":                  {"openid profile email", nil, "openid profile email", nil},
		"each of them":               {"openid profile email", []string{"email", "profile", "openid"}, "openid profile email", nil},
		"one fewer, as it was asked": {"openid email profile", []string{"profile", "email", "profile"}, "openid email profile", nil},
		"one":                        {"profile email", []string{"email"}, "email", nil},
		"only what is required":      {"profile openid", []string{}, "openid", nil},
		"what was not asked for":     {"openid profile", []string{"profile", "offline_access", "admin", ""}, "openid profile", nil},
		"nothing":                    {"profile email", []string{}, "", devicegrant.ErrNoScope},
		"nothing that was asked for": {"profile", []string{"email", "pro", "profile email"}, "", devicegrant.ErrNoScope},
		"nothing of nothing":         {"", []string{}, "", nil},
	} {
		t.Run(name, func(t *testing.T) {
			f := narrowFixture(t, nil)
			a := f.authorizeScope(tt.asked)
			r := f.review(a.UserCode, alice)
			assert.Equal(t, strings.Fields(tt.asked), r.Scopes)
			err := f.Approve(t.Context(), r.Ticket, alice, devicegrant.Approval{Scopes: tt.allow})
			if tt.err != nil {
				require.ErrorIs(t, err, tt.err)
				f.requirePoll(a, devicegrant.ErrAuthorizationPending)
				assert.Empty(t, f.raised(devicegrant.EventApproved))
				require.NoError(t, f.yes(t.Context(), r.Ticket, alice), "nothing has changed")
				return
			}
			require.NoError(t, err)
			token, err := f.poll(a)
			require.NoError(t, err)
			assert.Equal(t, tt.want, token.Scope)
		})
	}
}

// Whoever cannot decide is told so, whatever they would have allowed.
func TestApproveNarrowsNothingElse(t *testing.T) {
	f := narrowFixture(t, nil)
	a := f.authorizeScope("profile")
	ticket := f.review(a.UserCode, alice).Ticket
	nothing := devicegrant.Approval{Scopes: []string{}}
	require.ErrorIs(t, f.Approve(t.Context(), ticket, bob, nothing), devicegrant.ErrTicket)
	require.NoError(t, f.Deny(t.Context(), ticket, alice))
	require.ErrorIs(t, f.Approve(t.Context(), ticket, alice, nothing), devicegrant.ErrDecided)
}

func TestApproveScopesWithoutNarrowing(t *testing.T) {
	f := newFixture(t, nil)
	a := f.authorize()
	ticket := f.review(a.UserCode, alice).Ticket
	err := f.Approve(t.Context(), ticket, alice, devicegrant.Approval{Scopes: []string{"openid", "profile"}})
	require.ErrorContains(t, err, "Config.NarrowScopes")
	f.requirePoll(a, devicegrant.ErrAuthorizationPending)
}

func TestApproveNarrowsWithoutTheRegistry(t *testing.T) {
	away := errors.New("registry is away")
	var failure error
	f := narrowFixture(t, func(c *devicegrant.Config) {
		c.Client = func(context.Context, string) (devicegrant.Client, error) { return choosy, failure }
	})
	a := f.authorizeScope("openid profile")
	ticket := f.review(a.UserCode, alice).Ticket
	failure = away
	require.ErrorIs(t, f.Approve(t.Context(), ticket, alice, devicegrant.Approval{Scopes: []string{"profile"}}), away)
	f.requirePoll(a, devicegrant.ErrAuthorizationPending)
}

// The device is told which scope it got, whether or not the host says so (RFC 6749
// section 5.1).
func TestTokenSaysItsScope(t *testing.T) {
	for said, want := range map[string]string{"": `"scope":"openid email"`, "email": `"scope":"email"`} {
		f := narrowFixture(t, nil)
		var given string
		f.issue = func(_ context.Context, g *devicegrant.Grant) (*devicegrant.Token, error) {
			given = g.Scope
			return &devicegrant.Token{AccessToken: "a", Scope: said}, nil
		}
		a := f.authorizeScope("openid profile email")
		require.NoError(t, f.Approve(t.Context(), f.review(a.UserCode, alice).Ticket, alice, devicegrant.Approval{Scopes: []string{"email"}}))
		w := f.post("/token", grantType+"&client_id=tv&device_code="+a.DeviceCode)
		assert.Contains(t, w.Body.String(), want)
		assert.Equal(t, "openid email", given)
	}
	f := narrowFixture(t, nil)
	f.issue = func(context.Context, *devicegrant.Grant) (*devicegrant.Token, error) {
		return &devicegrant.Token{AccessToken: "a"}, nil
	}
	a := f.authorizeScope("")
	f.approve(a)
	assert.NotContains(t, f.post("/token", grantType+"&client_id=tv&device_code="+a.DeviceCode).Body.String(), "scope")
}

func box(scope, state string) string {
	return `<input type="checkbox" form="decision" name="scope" value="` + scope + `"` + state + `>`
}

// postForm is post for fields that are there more than once.
func (b *browser) postForm(fields url.Values) (status int, body string) {
	b.t.Helper()
	r, err := http.NewRequestWithContext(b.t.Context(), http.MethodPost, "/device", strings.NewReader(fields.Encode()))
	require.NoError(b.t, err)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	w := b.do(r)
	return w.Code, w.Body.String()
}

func TestPageNarrows(t *testing.T) {
	for name, tt := range map[string]struct {
		narrow string
		allow  []string
		shown  string
		want   string // scope; empty is a denial
	}{
		"some":                {"yes", []string{"email"}, "Device connected", "openid email"},
		"several":             {"yes", []string{"email", "profile"}, "Device connected", "openid profile email"},
		"none but required":   {"yes", nil, "Device connected", "openid"},
		"a page without them": {"", nil, "Device connected", "openid profile email"},
		"boxes that are not":  {"no", []string{"email"}, "Device connected", "openid profile email"},
	} {
		t.Run(name, func(t *testing.T) {
			f := narrowFixture(t, nil)
			b := &browser{fixture: f, subject: "alice"}
			a := f.authorizeScope("openid profile email")
			w := b.get("/device?user_code=" + a.UserCode)
			for _, shown := range []string{box("profile", " checked"), box("email", " checked"), "<bdi>openid</bdi> <span class=\"needed\">(required)", `form="decision" name="narrow" value="yes"`, `<form id="decision"`} {
				assert.Contains(t, w.Body.String(), shown)
			}
			assert.NotContains(t, w.Body.String(), `value="openid"`)
			status, body := b.postForm(url.Values{"action": {"approve"}, "ticket": {ticketOn(t, w)}, "narrow": {tt.narrow}, "scope": tt.allow})
			assert.Equal(t, http.StatusOK, status)
			assert.Contains(t, body, tt.shown)
			token, err := f.poll(a)
			require.NoError(t, err)
			assert.Equal(t, tt.want, token.Scope)
		})
	}
}

// Who unticks everything and allows that has denied.
func TestPageAllowingNothingDenies(t *testing.T) {
	f := narrowFixture(t, nil)
	b := &browser{fixture: f, subject: "alice"}
	a := f.authorizeScope("profile email")
	ticket := ticketOn(t, b.get("/device?user_code="+a.UserCode))
	w := b.post("action", "approve", "ticket", ticket, "narrow", "yes")
	assert.Equal(t, http.StatusOK, w.Code)
	assert.Contains(t, w.Body.String(), "Sign-in denied")
	f.requirePoll(a, devicegrant.ErrAccessDenied)
	assert.Len(t, f.raised(devicegrant.EventDenied), 1)
	assert.Empty(t, f.raised(devicegrant.EventApproved))
	w = b.post("action", "approve", "ticket", ticket, "narrow", "yes")
	assert.Equal(t, http.StatusConflict, w.Code)
	assert.Contains(t, w.Body.String(), "Already decided")
}

// What was unticked stays so when something else was missing.
func TestPageRemembersWhatWasUnticked(t *testing.T) {
	f := narrowFixture(t, func(c *devicegrant.Config) { c.ConfirmCode = true })
	b := &browser{fixture: f, subject: "alice"}
	a := f.authorizeScope("openid profile email")
	ticket := ticketOn(t, b.get("/device?user_code="+a.UserCode))
	for name, fields := range map[string]url.Values{
		"unticked":   {"narrow": {"yes"}, "scope": {"email"}},
		"not asked":  {},
		"everything": {"narrow": {"yes"}},
	} {
		fields.Set("action", "approve")
		fields.Set("ticket", ticket)
		status, body := b.postForm(fields)
		assert.Equal(t, http.StatusBadRequest, status, name)
		assert.Equal(t, name == "not asked", strings.Contains(body, box("profile", " checked")), name)
		assert.Equal(t, name != "everything", strings.Contains(body, box("email", " checked")), name)
		assert.Equal(t, name != "not asked", strings.Contains(body, box("profile", "")), name)
		assert.Contains(t, body, "<bdi>openid</bdi> <span class=\"needed\">(required)", name)
	}
	f.requirePoll(a, devicegrant.ErrAuthorizationPending)
}

// Where the host has not asked for it, and where everything is required, there is nothing
// to untick, and fields that are there all the same change nothing.
func TestPageWithoutNarrowing(t *testing.T) {
	for name, f := range map[string]*fixture{
		"by default": newFixture(t, nil),
		"everything required": narrowFixture(t, func(c *devicegrant.Config) {
			c.Client = func(context.Context, string) (devicegrant.Client, error) {
				return devicegrant.Client{ID: "tv", RequiredScopes: []string{"profile", "openid"}}, nil
			}
		}),
	} {
		t.Run(name, func(t *testing.T) {
			f.t = t
			b := &browser{fixture: f, subject: "alice"}
			a := f.authorize()
			w := b.get("/device?user_code=" + a.UserCode)
			assert.Contains(t, w.Body.String(), "<li><bdi>openid</bdi></li>")
			assert.NotContains(t, w.Body.String(), "narrow")
			assert.NotContains(t, w.Body.String(), "checkbox")
			w = b.post("action", "approve", "ticket", ticketOn(t, w), "narrow", "yes", "scope", "openid")
			assert.Contains(t, w.Body.String(), "Device connected")
			token, err := f.poll(a)
			require.NoError(t, err)
			assert.Equal(t, "openid profile", token.Scope)
		})
	}
}

// Nothing but the scope may be repeated, and that not for ever.
func TestPageRefusesRepeats(t *testing.T) {
	f := narrowFixture(t, nil)
	b := &browser{fixture: f, subject: "alice"}
	a := f.authorizeScope("openid profile")
	ticket := ticketOn(t, b.get("/device?user_code="+a.UserCode))
	for name, fields := range map[string]url.Values{
		"ticket":          {"ticket": {ticket, ticket}, "narrow": {"yes"}},
		"narrow":          {"ticket": {ticket}, "narrow": {"yes", "yes"}},
		"resource":        {"ticket": {ticket}, "resource": {"a", "b"}},
		"too many scopes": {"ticket": {ticket}, "scope": make([]string, 1001)},
	} {
		fields.Set("action", "approve")
		status, body := b.postForm(fields)
		assert.Equal(t, http.StatusBadRequest, status, name)
		assert.Contains(t, body, "That did not work", name)
	}
	f.requirePoll(a, devicegrant.ErrAuthorizationPending)
	status, _ := b.postForm(url.Values{"action": {"approve"}, "ticket": {ticket}, "narrow": {"yes"}, "scope": make([]string, 1000)})
	assert.Equal(t, http.StatusOK, status)
}

// A resource may be repeated at both endpoints (RFC 8707 section 2), and nothing else.
func TestRepeatedResource(t *testing.T) {
	f := newFixture(t, nil)
	a := f.authorize()
	assert.Contains(t, f.post("/token", grantType+"&client_id=tv&resource=urn:a&device_code="+a.DeviceCode+"&resource=urn:b").Body.String(), "authorization_pending")
	assert.Contains(t, f.post("/token", grantType+"&client_id=tv&scope=a&scope=b&device_code="+a.DeviceCode).Body.String(), "a parameter is repeated")
	assert.NotContains(t, f.post("/device_authorization", "client_id=tv&resource=urn:a&resource=urn:b").Body.String(), "repeated")

	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "/token", nil)
	require.NoError(t, err)
	r.PostForm = url.Values{"client_id": {"tv"}, "resource": {"", "urn:a", "urn:b"}}
	c, err := devicegrant.ClientCredentials(r)
	require.NoError(t, err)
	assert.Equal(t, "tv", c.ID)
	r.PostForm["client_id"] = []string{"tv", "tv"}
	_, err = devicegrant.ClientCredentials(r)
	require.ErrorIs(t, err, devicegrant.ErrInvalidRequest)
}

// asking is a Store in which every grant asks for more.
type asking struct {
	devicegrant.Store
	resource, details string
}

func (s asking) Create(ctx context.Context, g *devicegrant.Grant) error {
	more := *g
	more.Resource, more.AuthorizationDetails = s.resource, s.details
	return s.Store.Create(ctx, &more)
}

// Everything that is asked for is shown, is judged, and cannot hide.
func TestPageShowsResourcesAndDetails(t *testing.T) {
	const details = "[{\"type\":\"payment\",\"to\":\"\u202e<b>\"},{\"type\":\"calendar\",\"access\":\"read\"}]"
	var seen devicegrant.Situation
	f := newFixture(t, func(c *devicegrant.Config) {
		c.Store = asking{memstore.New(0), "https://api.example.com/ urn:a\u202eb", details}
		c.Risk = func(_ context.Context, s devicegrant.Situation) (devicegrant.Verdict, error) {
			seen = s
			return devicegrant.Allow, nil
		}
		c.Page.Detail = func(detail json.RawMessage, language string) string {
			if strings.Contains(string(detail), `"type":"calendar"`) {
				return "See your calendar, " + language
			}
			return ""
		}
	})
	a := f.authorize()
	r := f.review(a.UserCode, alice)
	assert.Equal(t, []string{"https://api.example.com/", "urn:a\u202eb"}, r.Resources)
	assert.Equal(t, r.Resources, seen.Resources)
	assert.Equal(t, []string{details, details}, []string{r.AuthorizationDetails, seen.AuthorizationDetails}, "byte for byte")

	a = f.authorize()
	body := (&browser{fixture: f, subject: "alice"}).get("/device?user_code=" + a.UserCode).Body.String()
	for _, shown := range []string{
		`<li><bdi dir="ltr" translate="no">https://api.example.com/</bdi></li>`, `>urn:a\u202eb</bdi>`,
		`>payment</bdi></dt>`, `<bdi>&#34;to&#34;</bdi>: <bdi>&#34;\u202e&lt;b&gt;&#34;</bdi>`,
		`>calendar</bdi></dt>`, `<dd><bdi>See your calendar, en</bdi></dd>`,
	} {
		assert.Contains(t, body, shown)
	}
	assert.NotContains(t, body, "\u202e")
	assert.NotContains(t, body, `&#34;access&#34;`, "what there are words for")
	assert.NotContains(t, body, "<a ")
}

// However much it is, all of it is on the page.
func TestPageShowsHugeDetails(t *testing.T) {
	f := newFixture(t, func(c *devicegrant.Config) {
		c.Store = asking{memstore.New(0), "", `[{"type":"a","x":"` + strings.Repeat("<", 16<<10) + `"}]`}
	})
	body := (&browser{fixture: f, subject: "alice"}).get("/device?user_code=" + f.authorize().UserCode).Body.String()
	assert.Equal(t, 16<<10, strings.Count(body, "&lt;"))
	assert.Contains(t, body, `<div class="box details" tabindex="0" role="group" aria-labelledby="details">`)
}
