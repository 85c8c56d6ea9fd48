package devicegrant

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	_ "embed" // The page's template, style and script.
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// Page is how the verification page looks. Its zero value is a complete page, in the
// language that the browser asks for among those of [Languages].
//
// A host that wants a page of its own altogether calls [Server.Lookup],
// [Server.Approve] and [Server.Deny] instead.
type Page struct {
	// Language returns the language of a page as a BCP 47 tag. When it is nil, or
	// returns what there are no texts for, Accept-Language decides.
	Language func(r *http.Request) string
	// Texts replaces texts and adds languages, by BCP 47 tag. Texts that are empty
	// stay ours, in the nearest language that there is.
	Texts map[string]Texts
	// Scope says in words what a scope permits, in the page's language. When it is
	// nil or returns nothing, the scope itself is shown.
	Scope func(scope, language string) string
	// Detail says in words what one of the authorization_details asks for (RFC 9396), in the
	// page's language; detail is its JSON object. When it is nil or returns nothing, the
	// object itself is shown.
	Detail func(detail json.RawMessage, language string) string
	// Logo is the URL of an image above the page's heading; empty shows none. It is
	// a path on this origin, an https URL, or a data URL of an image.
	Logo string
	// LogoText is what the image says, for those who do not see it.
	LogoText string
	// CSS replaces the style. It cannot load anything: the page's
	// Content-Security-Policy forbids it.
	CSS string
	// Template replaces the page's markup. It is executed with a [View], and the
	// page's Content-Security-Policy permits it the style View.Style, the script
	// Review.Script and the image View.Logo, each as it is. New refuses one that
	// cannot show every page, or shows one without what it is for: the field user_code
	// on the form; client, code, ticket and everything that is asked for on the review, and
	// with Config.NarrowScopes the fields scope and narrow.
	Template *template.Template
}

// View is what a page's template is given. One of Form, Review and Message is set.
type View struct {
	Language string // a BCP 47 tag
	Dir      string // ltr or rtl
	Text     *Texts // not to be changed
	Title    string // of the document: the heading, and whether there is an error
	Heading  string
	Style    template.CSS
	Logo     template.URL
	LogoText string
	Path     string // of the verification page, to which forms are posted
	// Account is who is signed in, as people are named; empty if nobody is.
	Account string
	// Resume is posted with the action "switch" to sign in with another account;
	// CanSwitch is whether that is possible.
	Resume    string
	CanSwitch bool

	Form    *FormView
	Review  *ReviewView
	Message *MessageView
}

// FormView is the page on which the code is entered, in the field user_code.
type FormView struct {
	Typed   string // what was typed, to be corrected
	Wrong   bool   // it is no code
	Example string // what a code looks like
	Digits  bool   // it consists of digits
}

// ReviewView is the page on which the person decides: by a button named action with
// the value approve, deny or report, beside the field ticket.
type ReviewView struct {
	Ticket   string
	UserCode string // grouped as it is on the device
	Client   string // its name
	Scopes   []ScopeView
	// Narrow is whether the person can untick scopes: each that is not Required has a
	// checkbox named scope with the value ScopeView.Scope, which is ticked unless it is
	// Unticked, and beside them is a field narrow with the value yes. A page that does not
	// send that allows all of them.
	Narrow bool
	// Resources are where the tokens are to be used (RFC 8707). They are no links.
	Resources []string
	// Details are what is asked for beyond scopes (RFC 9396).
	Details []DetailView
	Device  Side
	Browser Side
	// Minutes is how long ago the device asked, rounded down; CreatedAt is when.
	Minutes   int
	CreatedAt time.Time
	Elsewhere bool // the two sides are in different places, or networks
	Warned    bool // Config.Risk warns
	// Confirm demands the field confirm with the value yes for an approval;
	// Unconfirmed says that it was missing.
	Confirm, Unconfirmed bool
	// DenyOnLeave sets Script, which posts the action "leave" beside the ticket when
	// the page is left and no form of it was sent off. It is empty otherwise.
	DenyOnLeave bool
	Script      template.JS
}

// ScopeView is one scope that is asked for.
type ScopeView struct {
	Scope    string
	Text     string // in words, where there are any; or else as Scope
	Required bool   // it cannot be unticked (Client.RequiredScopes)
	Unticked bool   // the person did so before
}

// Side is where the device, or this browser, is. Whatever is not known is empty.
type Side struct {
	Name  string // what it calls itself
	Addr  string
	Place string // as Config.Place says it
}

// MessageView is a page that only says something.
type MessageView struct {
	Kind  MessageKind
	Text  string
	Again bool          // whether to offer the form
	Wait  time.Duration // until it makes sense to try again; zero says nothing
	Retry string        // Wait in words
}

// MessageKind names a message.
type MessageKind string

// The messages of the page.
const (
	MessageApproved     MessageKind = "approved"
	MessageDenied       MessageKind = "denied"
	MessageReported     MessageKind = "reported"      // denied by "this wasn't me"
	MessageDecided      MessageKind = "decided"       // somebody decided before
	MessageStale        MessageKind = "stale"         // the page is out of date
	MessageOtherSession MessageKind = "other_session" // the code is in use in another browser
	MessageRefused      MessageKind = "refused"       // by Config.Risk
	MessageTooMany      MessageKind = "too_many"      // wrong codes
	MessageUnavailable  MessageKind = "unavailable"   // the Store or the host failed
	MessageMalformed    MessageKind = "malformed"     // the request could not be read
	MessageCrossOrigin  MessageKind = "cross_origin"  // the request came from another site
	MessageMethod       MessageKind = "method"        // the request was neither GET nor POST
)

// messageKinds are all of them.
var messageKinds = []MessageKind{
	MessageApproved,
	MessageDenied,
	MessageReported,
	MessageDecided,
	MessageStale,
	MessageOtherSession,
	MessageRefused,
	MessageTooMany,
	MessageUnavailable,
	MessageMalformed,
	MessageCrossOrigin,
	MessageMethod,
}

// Piece is a part of a text: of its words, or the value of its placeholder.
type Piece struct {
	Text  string
	Value bool
}

// Fill splits a text at its placeholder, for a template to mark up the value, such
// as in <bdi>:
//
//	{{range $.Fill $.Text.Asks "client" .Client}}{{if .Value}}<bdi>{{.Text}}</bdi>{{else}}{{.Text}}{{end}}{{end}}
func (View) Fill(text, name string, value any) []Piece {
	before, after, found := strings.Cut(text, "{"+name+"}")
	if !found {
		return []Piece{{Text: text}}
	}
	return []Piece{{Text: before}, {Text: fmt.Sprint(value), Value: true}, {Text: after}}
}

var (
	//go:embed page.html
	pageHTML string
	//go:embed page.css
	pageCSS string
	//go:embed page.js
	pageJS string

	pageTemplate = template.Must(template.New("page").Parse(pageHTML))
)

// pages makes the verification page. It is safe for concurrent use.
type pages struct {
	cfg      Page
	path     string
	format   UserCodeFormat
	narrow   bool // Config.NarrowScopes
	template *template.Template
	style    template.CSS
	policy   string // Content-Security-Policy
	speeches speeches
}

// newPages checks the configuration of the page; its error says what to set. path
// is where forms are posted.
func newPages(cfg Page, path string, format UserCodeFormat, narrow bool) (*pages, error) {
	p := &pages{cfg: cfg, path: path, format: format, narrow: narrow, template: pageTemplate}
	// A browser reads every line break as \n, and hashes it so.
	css := strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(cmp.Or(cfg.CSS, pageCSS))
	p.style = template.CSS(css) //nolint:gosec // The host's own style, or ours.
	images, logoErr := imageSource(cfg.Logo)
	p.policy = contentSecurityPolicy(css, images)
	var textErr, templateErr error
	p.speeches, textErr = newSpeeches(cfg.Texts)
	if cfg.Template != nil {
		p.template = cfg.Template
		if format.validate() == nil { // Or there is no code to show, and New says why.
			templateErr = p.try()
		}
	}
	if err := errors.Join(checkCSS(css), logoErr, textErr, templateErr); err != nil {
		return nil, err
	}
	return p, nil
}

func checkCSS(css string) error {
	if strings.Contains(strings.ToLower(css), "</style") || !utf8.ValidString(css) || strings.ContainsRune(css, 0) {
		return errors.New("Page.CSS cannot be put into a page; set it to UTF-8 without NUL and without </style>")
	}
	return nil
}

// hostname leaves out whatever means something in a Content-Security-Policy.
var hostname = regexp.MustCompile(`^[A-Za-z0-9.-]+(:[0-9]+)?$`)

// imageSource returns the source expression that admits the logo (CSP Level 3,
// section 2.3.1), empty for none.
func imageSource(logo string) (string, error) {
	if logo == "" {
		return "", nil
	}
	if strings.HasPrefix(logo, "data:image/") {
		return "data:", nil
	}
	u, err := url.Parse(logo)
	switch {
	case err != nil:
	case u.Scheme == "https" && hostname.MatchString(u.Host):
		return "https://" + u.Host, nil
	case u.Scheme == "" && u.Host == "" && strings.HasPrefix(u.Path, "/"):
		return "'self'", nil
	}
	return "", fmt.Errorf("Page.Logo is %.100q; set it to a path that begins with /, an https URL, or a data URL of an image", logo)
}

// contentSecurityPolicy admits the page's own style and logo, and nothing else. It
// leaves form-action out: browsers apply that to redirects too, and a post may be
// redirected to a login on another origin.
func contentSecurityPolicy(css, images string) string {
	policy := "default-src 'none'; style-src " + hashSource(css) + "; base-uri 'none'; frame-ancestors 'none'"
	if images != "" {
		policy += "; img-src " + images
	}
	return policy
}

// scriptPolicy admits the script that denies when the page is left.
var scriptPolicy = "; script-src " + hashSource(pageJS) + "; connect-src 'self'"

func hashSource(content string) string {
	sum := sha256.Sum256([]byte(content))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

// trials are the pages that try shows.
func (p *pages) trials() []View {
	side := Side{Name: "trial", Addr: "192.0.2.1", Place: "trial"}
	review := ReviewView{Ticket: "trial-ticket", UserCode: "TRIAL-CODE", Client: "trial-client"}
	full := review
	full.Device, full.Browser, full.Minutes, full.Narrow = side, side, 1, p.narrow
	full.Elsewhere, full.Warned, full.Confirm, full.Unconfirmed, full.DenyOnLeave = true, true, true, true, true
	full.Scopes = []ScopeView{
		{Scope: "trial-choice", Text: "trial-words"}, {Scope: "trial-no", Text: "trial-unticked", Unticked: p.narrow},
		{Scope: "trial-must", Text: "trial-needed", Required: true},
	}
	full.Resources = []string{"urn:trial-resource"}
	full.Details = []DetailView{{Type: "trial-type", Text: "trial-detail", JSON: "{}"}, {Type: "trial-bare", JSON: `{"a":"trial-json"}`}}
	views := []View{
		{Form: &FormView{}},
		{Form: &FormView{Typed: "TRIAL", Wrong: true}, Account: "trial", CanSwitch: true, Resume: "trial"},
		{Review: &review},
		{Review: &full, Account: "trial", CanSwitch: true, Resume: "trial"},
	}
	for _, kind := range messageKinds {
		views = append(views, View{Message: &MessageView{Kind: kind, Again: true, Wait: time.Minute}})
	}
	return views
}

// try shows every kind of page by the host's template.
func (p *pages) try() error {
	trial := *p
	trial.cfg.Scope, trial.cfg.Detail = nil, nil // What is on trial has its own words.
	var buf bytes.Buffer
	for _, v := range p.trials() {
		buf.Reset()
		trial.complete(&v, &p.speeches.all[0])
		v.Style = "" // It names fields, too.
		if err := p.template.Execute(&buf, v); err != nil {
			return fmt.Errorf("Page.Template cannot show the page %q: %w", v.Heading, err)
		}
		for _, field := range v.mustShow() {
			if !strings.Contains(buf.String(), field.value) {
				return fmt.Errorf("Page.Template shows the page %q without %s; add it", v.Heading, field.name)
			}
		}
	}
	return nil
}

type shown struct{ name, value string }

// mustShow returns what a page is no use without, if it is on trial.
func (v View) mustShow() []shown {
	switch {
	case v.Form != nil:
		return []shown{{"the field user_code", "user_code"}}
	case v.Review != nil:
		return v.Review.mustShow()
	}
	return nil
}

func (r *ReviewView) mustShow() []shown {
	must := []shown{{".Review.Ticket", r.Ticket}, {".Review.UserCode", r.UserCode}, {".Review.Client", r.Client}}
	for _, scope := range r.Scopes {
		must = append(must, shown{"the Text of each of .Review.Scopes", scope.Text})
		if r.Narrow && !scope.Required {
			must = append(must, shown{"the field scope for each of .Review.Scopes that can be unticked", scope.Scope})
		}
	}
	if r.Narrow {
		must = append(must, shown{"the field narrow", "narrow"})
	}
	for _, resource := range r.Resources {
		must = append(must, shown{".Review.Resources", resource})
	}
	for _, detail := range r.Details {
		what := shown{"the Text of each of .Review.Details", detail.Text}
		if detail.Text == "" {
			what = shown{"the JSON of each of .Review.Details that has no Text", "trial-json"}
		}
		must = append(must, shown{"the Type of each of .Review.Details", detail.Type}, what)
	}
	return must
}

// language returns the language of the page that r gets, as a BCP 47 tag.
func (p *pages) language(r *http.Request) string { return p.speech(r).tag }

func (p *pages) speech(r *http.Request) *speech {
	if p.cfg.Language != nil {
		if s, ok := p.speeches.named(p.cfg.Language(r)); ok {
			return s
		}
	}
	return p.speeches.accepted(r.Header)
}

// complete sets what of a view follows from the configuration and the language.
func (p *pages) complete(v *View, s *speech) {
	t := &s.texts
	v.Language, v.Dir, v.Text, v.Style, v.Path = s.tag, s.dir, t, p.style, p.path
	v.Logo, v.LogoText = template.URL(p.cfg.Logo), p.cfg.LogoText //nolint:gosec // The host's own; imageSource has checked it.
	wrong := false
	switch {
	case v.Form != nil:
		form := *v.Form
		form.Example, form.Digits = p.format.example(), strings.Trim(p.format.Alphabet, "0123456789") == ""
		v.Form, v.Heading, wrong = &form, t.FormTitle, form.Wrong
	case v.Review != nil:
		review := *v.Review
		review.Scopes, review.Details = p.scopes(review.Scopes, s.tag), p.details(review.Details, s.tag)
		review.Resources = visibly(review.Resources)
		if review.DenyOnLeave {
			review.Script = template.JS(pageJS) //nolint:gosec // Our own script.
		}
		v.Review, v.Heading, wrong = &review, t.ReviewTitle, review.Unconfirmed
	case v.Message != nil:
		message := *v.Message
		v.Heading, message.Text = t.message(message.Kind)
		message.Retry = t.retry(message.Wait)
		v.Message = &message
	}
	v.Title = v.Heading
	if wrong {
		v.Title = strings.Replace(t.ErrorTitle, "{title}", v.Heading, 1)
	}
}

// scopes says in words what the scopes permit, where the host has words for it.
func (p *pages) scopes(scopes []ScopeView, language string) []ScopeView {
	worded := slices.Clone(scopes)
	for i, scope := range worded {
		if p.cfg.Scope != nil {
			worded[i].Text = p.cfg.Scope(scope.Scope, language)
		}
		worded[i].Text = cmp.Or(worded[i].Text, scope.Scope)
	}
	return worded
}

// details says in words what the details ask for, where the host has words for it, and
// makes the rest readable.
func (p *pages) details(details []DetailView, language string) []DetailView {
	worded := slices.Clone(details)
	for i, detail := range worded {
		if p.cfg.Detail != nil {
			worded[i].Text = p.cfg.Detail(json.RawMessage(detail.JSON), language)
		}
		worded[i].Type, worded[i].JSON = visible(detail.Type), readable(detail.JSON)
	}
	return worded
}

func visibly(texts []string) []string {
	seen := slices.Clone(texts)
	for i, text := range seen {
		seen[i] = visible(text)
	}
	return seen
}

// LongDetails is whether Details take so much room that they should scroll by
// themselves.
func (r *ReviewView) LongDetails() bool {
	lines := 0
	for _, detail := range r.Details {
		text := cmp.Or(detail.Text, detail.JSON)
		lines += 2 + strings.Count(text, "\n") + len(text)/longLine
	}
	return lines > manyLines
}

// What is still to be read without scrolling by itself: a few details of the usual kind.
const longLine, manyLines = 40, 60

var pageBuffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// show completes a view and writes the page. It is made whole before it is sent, so
// that no page ends half-way. When the host's template fails, the page is our own,
// which says that something went wrong, and the error is for the log.
func (p *pages) show(w http.ResponseWriter, r *http.Request, status int, v View) error {
	s := p.speech(r)
	buf := pageBuffers.Get().(*bytes.Buffer)
	defer pageBuffers.Put(buf)
	buf.Reset()
	p.complete(&v, s)
	err := p.template.Execute(buf, v)
	if err != nil {
		err = fmt.Errorf("devicegrant: Page.Template cannot show a page: %w", err)
		buf.Reset()
		status, v = http.StatusServiceUnavailable, View{Message: &MessageView{Kind: MessageUnavailable, Again: true}}
		p.complete(&v, s)
		err = errors.Join(err, pageTemplate.Execute(buf, v))
	}
	p.setHeaders(w.Header(), v)
	w.WriteHeader(status)
	_, _ = w.Write(buf.Bytes()) // A browser that has gone cannot be told.
	return err
}

func (p *pages) setHeaders(h http.Header, v View) {
	policy := p.policy
	if v.Review != nil && v.Review.Script != "" {
		policy += scriptPolicy
	}
	h.Add("Vary", "Accept-Language")
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Language", v.Language)
	h.Set("Content-Security-Policy", policy)
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("X-Frame-Options", "DENY")
	h.Set("X-Content-Type-Options", "nosniff")
}

// example is a code of the format that is plainly made up.
func (f UserCodeFormat) example() string {
	code := make([]byte, f.Length)
	for i := range code {
		code[i] = f.Alphabet[i%len(f.Alphabet)]
	}
	return f.display(string(code))
}
