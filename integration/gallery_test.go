package integration

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/devicegrant/devicegrant"
	"github.com/devicegrant/devicegrant/memstore"
	"github.com/devicegrant/devicegrant/storetest"
)

// gallery is a server in this process at which alice is always signed in, and which
// can be put into any situation.
type gallery struct {
	*devicegrant.Server
	t      *testing.T
	origin string
	store  *storetest.Faulty
	events chan devicegrant.Event

	verdict devicegrant.Verdict
	more    asking // what grants ask for besides scopes
}

// asking is what a grant asks for besides scopes.
type asking struct{ resource, details string }

// keeper is a Store in which grants ask for what the gallery says.
type keeper struct {
	devicegrant.Store
	g *gallery
}

func (k keeper) Create(ctx context.Context, g *devicegrant.Grant) error {
	more := *g
	more.Resource, more.AuthorizationDetails = k.g.more.resource, k.g.more.details
	return k.Store.Create(ctx, &more)
}

// startGallery starts one; change, when not nil, adapts its Config.
func startGallery(t *testing.T, change func(*devicegrant.Config)) *gallery {
	t.Helper()
	g := &gallery{
		t: t, store: storetest.NewFaulty(memstore.New(0)), events: make(chan devicegrant.Event, 1000), verdict: devicegrant.Allow,
	}
	mux := http.NewServeMux()
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	g.origin = server.URL
	cfg := devicegrant.Config{
		Store:           keeper{g.store, g},
		Keys:            [][]byte{bytes.Repeat([]byte{1}, 32)},
		VerificationURI: g.origin + "/device",
		AuthenticateClient: func(context.Context, devicegrant.Credentials) (devicegrant.Client, error) {
			return devicegrant.Client{}, devicegrant.ErrInvalidClient
		},
		Client: func(_ context.Context, id string) (devicegrant.Client, error) {
			return devicegrant.Client{ID: id, Name: "Living-room TV", RequiredScopes: []string{"openid"}}, nil
		},
		SignedIn:    func(http.ResponseWriter, *http.Request, string) (string, bool) { return "alice", true },
		AccountName: func(context.Context, string) (string, error) { return "alice@example.com", nil },
		SwitchAccount: func(w http.ResponseWriter, r *http.Request, returnTo string) {
			http.Redirect(w, r, returnTo, http.StatusSeeOther)
		},
		IssueToken: func(context.Context, *devicegrant.Grant) (*devicegrant.Token, error) { return nil, errors.New("none") },
		Place: func(_ context.Context, addr netip.Addr) string {
			return map[bool]string{true: "Bern, Switzerland", false: "Lima, Peru"}[addr.IsLoopback()]
		},
		Risk:     func(context.Context, devicegrant.Situation) (devicegrant.Verdict, error) { return g.verdict, nil },
		UserCode: devicegrant.UserCodeFormat{Alphabet: devicegrant.Base20.Alphabet, Length: 12, Group: 4},
		Guessing: devicegrant.Guessing{PerAddress: devicegrant.Limit{Burst: 1000, Every: time.Minute}},
		OnEvent:  func(_ context.Context, e devicegrant.Event) { g.events <- e },
	}
	if change != nil {
		change(&cfg)
	}
	var err error
	g.Server, err = devicegrant.New(cfg)
	require.NoError(t, err)
	mux.Handle("/device", g.VerificationHandler())
	return g
}

// authorize starts an authorization from elsewhere.
func (g *gallery) authorize() answer {
	g.t.Helper()
	a, err := g.Authorize(g.t.Context(), devicegrant.Client{ID: "tv", DeviceGrant: true, Scopes: []string{"openid", "profile", "offline_access"}}, devicegrant.AuthorizationRequest{
		Scope:  "openid profile offline_access",
		Device: devicegrant.Device{Name: "TV in the living room", Addr: netip.MustParseAddr("203.0.113.7")},
	})
	require.NoError(g.t, err)
	return answer{DeviceCode: a.DeviceCode, UserCode: a.UserCode, VerificationURI: a.VerificationURI, VerificationURIComplete: a.VerificationURIComplete}
}

// await returns the next event of a type.
func (g *gallery) await(kind devicegrant.EventType) devicegrant.Event {
	g.t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case e := <-g.events:
			if e.Type == kind {
				return e
			}
		case <-deadline:
			require.Fail(g.t, "there was no event "+string(kind))
		}
	}
}

// paymentDetails are authorization details of two types, in two directions.
const paymentDetails = `[{"type":"payment_initiation","instructedAmount":{"currency":"EUR","amount":"123.50"},"creditorName":"מאפיית השכונה",` +
	`"remittance":"\u202einvoice 7","creditorAccount":{"iban":"DE02100100109307118603"}},{"type":"calendar","actions":["read"],"locations":[]}]`

// exhibits are all the pages, each with how a browser gets there.
var exhibits = []struct {
	name   string
	status int64
	visit  func(*gallery, *tab) int64
}{
	{"form", http.StatusOK, func(g *gallery, b *tab) int64 { return b.open(g.origin + "/device") }},
	{"form-error", http.StatusBadRequest, func(g *gallery, b *tab) int64 { return b.enterCode("WWWW-WWWW-WWWW") }},
	{"review", http.StatusOK, func(g *gallery, b *tab) int64 { return b.open(g.authorize().VerificationURIComplete) }},
	{"review-warned", http.StatusOK, func(g *gallery, b *tab) int64 {
		g.verdict = devicegrant.Warn
		defer func() { g.verdict = devicegrant.Allow }()
		return b.open(g.authorize().VerificationURIComplete)
	}},
	{"review-unconfirmed", http.StatusBadRequest, func(g *gallery, b *tab) int64 {
		b.open(g.authorize().VerificationURIComplete)
		b.do(chromedp.Evaluate[chromedp.Void]("document.querySelector('[name=confirm]').required = false"))
		return b.press(approveButton)
	}},
	{"review-details", http.StatusOK, func(g *gallery, b *tab) int64 {
		g.more = asking{"https://api.example.com/photos urn:example:calendar", paymentDetails}
		defer func() { g.more = asking{} }()
		return b.open(g.authorize().VerificationURIComplete)
	}},
	{"review-long-details", http.StatusOK, func(g *gallery, b *tab) int64 {
		g.more = asking{"", "[" + strings.Repeat(paymentDetails[1:len(paymentDetails)-1]+",", 40) + `{"type":"end"}]`}
		defer func() { g.more = asking{} }()
		return b.open(g.authorize().VerificationURIComplete)
	}},
	{"review-narrow-unconfirmed", http.StatusBadRequest, func(g *gallery, b *tab) int64 {
		b.open(g.authorize().VerificationURIComplete)
		b.do(chromedp.Evaluate[chromedp.Void]("document.querySelector('[name=confirm]').required = false"))
		b.do(chromedp.Click(profileBox))
		return b.press(approveButton)
	}},
	{"approved", http.StatusOK, func(g *gallery, b *tab) int64 {
		b.open(g.authorize().VerificationURIComplete)
		b.do(chromedp.Evaluate[chromedp.Void]("document.querySelector('[name=confirm]').checked = true"))
		return b.press(approveButton)
	}},
	{"denied", http.StatusOK, func(g *gallery, b *tab) int64 {
		b.open(g.authorize().VerificationURIComplete)
		return b.press(denyButton)
	}},
	{"reported", http.StatusOK, func(g *gallery, b *tab) int64 {
		b.open(g.authorize().VerificationURIComplete)
		return b.press(reportButton)
	}},
	{"decided", http.StatusConflict, func(g *gallery, b *tab) int64 {
		a := g.authorize()
		b.open(a.VerificationURIComplete)
		b.press(denyButton)
		return b.open(a.VerificationURIComplete)
	}},
	{"stale", http.StatusBadRequest, func(g *gallery, b *tab) int64 {
		b.open(g.authorize().VerificationURIComplete)
		b.do(chromedp.Evaluate[chromedp.Void]("document.querySelector('[name=ticket]').value = 'old'"))
		return b.press(denyButton)
	}},
	{"other-session", http.StatusConflict, func(g *gallery, b *tab) int64 {
		a := g.authorize()
		_, err := g.Lookup(g.t.Context(), a.UserCode, devicegrant.Person{Subject: "alice", Session: "another"})
		require.NoError(g.t, err)
		return b.open(a.VerificationURIComplete)
	}},
	{"refused", http.StatusForbidden, func(g *gallery, b *tab) int64 {
		g.verdict = devicegrant.Refuse
		defer func() { g.verdict = devicegrant.Allow }()
		return b.open(g.authorize().VerificationURIComplete)
	}},
	{"unavailable", http.StatusServiceUnavailable, func(g *gallery, b *tab) int64 {
		a := g.authorize()
		g.store.Inject(storetest.OpByUserCode, storetest.Fault{Times: storetest.Always, Err: errors.New("away")})
		defer g.store.Heal()
		return b.open(a.VerificationURIComplete)
	}},
	{"malformed", http.StatusBadRequest, func(g *gallery, b *tab) int64 {
		b.open(g.authorize().VerificationURIComplete)
		b.do(chromedp.Evaluate[chromedp.Void]("document.querySelector('[value=deny]').value = 'explode'"))
		return b.press("button[value=explode]")
	}},
	{"cross-origin", http.StatusForbidden, func(g *gallery, b *tab) int64 {
		type form struct{ Action, Name, Value, Press string }
		b.open(foreignSite(g.t, foreignForm, form{g.origin + "/device", "user_code", "x", ""}))
		return b.press(submitButton)
	}},
	{"too-many", http.StatusTooManyRequests, func(g *gallery, b *tab) int64 {
		strict := startGallery(g.t, func(c *devicegrant.Config) { c.Guessing = devicegrant.Guessing{} })
		b.open(strict.origin + "/device")
		for range 5 {
			if status := b.enterCode("WWWW-WWWW-WWWW"); status != http.StatusBadRequest {
				return status
			}
		}
		return 0
	}},
}

// Every page fits every screen, in the light and in the dark, and axe-core finds nothing
// to object to, whichever way the language runs. With SCREENSHOTS they have their
// pictures taken, in more languages.
func TestEveryPage(t *testing.T) {
	g := startGallery(t, func(c *devicegrant.Config) { c.ConfirmCode, c.NarrowScopes = true, true })
	b := newTab(t)
	for _, language := range []string{"en", "ar"} {
		b.speak(language)
		for _, page := range exhibits {
			name := page.name + "-" + language
			require.Equal(t, page.status, page.visit(g, b), name)
			assert.Equal(t, language, evaluate[string](b, "document.documentElement.lang"), name)
			b.requireFit(name)
			b.requireAccessible(name + " in the dark")
			b.look(390, 844, "light")
			b.requireAccessible(name)
		}
	}
}

// The page speaks every language it is said to. The code is written from left to right
// in each.
func TestEveryLanguage(t *testing.T) {
	g := startGallery(t, nil)
	b := newTab(t)
	headings := map[string]string{}
	for _, language := range devicegrant.Languages() {
		b.speak(language)
		a := g.authorize()
		require.EqualValues(t, http.StatusOK, b.open(a.VerificationURIComplete))
		heading := b.heading()
		assert.NotContains(t, headings, heading, "%s and %s", language, headings[heading])
		headings[heading] = language
		want := "ltr"
		if language == "ar" || language == "he" || language == "fa" || language == "ur" {
			want = "rtl"
		}
		assert.Equal(t, want, evaluate[string](b, "getComputedStyle(document.body).direction"), language)
		assert.Equal(t, "ltr", evaluate[string](b, "getComputedStyle(document.querySelector('.code *')).direction"), language)
		assert.Contains(t, b.text(), a.UserCode)
		for device, size := range map[string][2]int64{"narrow": {320, 568}, "phone": {390, 844}} {
			b.look(size[0], size[1], "light")
			assert.LessOrEqual(t, evaluate[int64](b, "document.documentElement.scrollWidth"), size[0], "%s on a %s screen", language, device)
		}
		b.screenshot("language-" + language)
		b.press(denyButton)
	}
	assert.GreaterOrEqual(t, len(headings), 15)
}
