package devicegrant

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"html"
	"html/template"
	"maps"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/text/language"
)

// fullReview is a review page with everything that there can be on it.
func fullReview() *ReviewView {
	return &ReviewView{
		Ticket: "sealed", UserCode: "WDJB-MJHT", Client: "Television",
		Scopes:  []ScopeView{{Scope: "openid", Required: true}, {Scope: "profile"}, {Scope: "email", Unticked: true}},
		Device:  Side{Name: "Living room TV", Addr: "2001:db8::17", Place: "Hamburg"},
		Browser: Side{Name: "Firefox on Linux", Addr: "192.0.2.17", Place: "Oslo"},
		Minutes: 4, CreatedAt: time.Date(2026, 11, 25, 15, 3, 7, 0, time.FixedZone("CET", 3600)),
		Narrow: true, Resources: []string{"https://api.example.com/"},
		Details:   []DetailView{{Type: "payment", JSON: `{"type":"payment","amount":12}`}},
		Elsewhere: true, Warned: true, Confirm: true, Unconfirmed: true, DenyOnLeave: true,
	}
}

// everyView returns each kind of page, bare and full.
func everyView() map[string]View {
	views := map[string]View{
		"form":        {Form: &FormView{}},
		"wrong":       {Form: &FormView{Typed: "BBBB-BBBB", Wrong: true}, Account: "alice", CanSwitch: true, Resume: "back"},
		"bare review": {Review: &ReviewView{Ticket: "sealed", UserCode: "WDJB-MJHT", Client: "Television"}},
		"full review": {Review: fullReview(), Account: "alice", CanSwitch: true, Resume: "back"},
	}
	for _, kind := range messageKinds {
		views[string(kind)] = View{Message: &MessageView{Kind: kind, Again: true, Wait: time.Minute}}
	}
	return views
}

func shownBy(t testing.TB, p *pages, accept string, v View) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	require.NoError(t, p.show(w, requestIn(accept), http.StatusOK, v))
	return w
}

var (
	tagPattern  = regexp.MustCompile(`<(/?)([a-z][a-z0-9]*)((?:\s+[a-z-]+(?:="[^"<>]*")?)*)\s*>`)
	rawElements = regexp.MustCompile(`(?s)<(style|script)>.*?</(style|script)>`)
	idPattern   = regexp.MustCompile(` id="([^"]+)"`)
	refPattern  = regexp.MustCompile(` (?:for|aria-describedby|aria-labelledby)="([^"]+)"`)
)

// requireWellFormed checks that every tag is closed where it should be, that ids are
// unique, and that what refers to one finds it.
func requireWellFormed(t testing.TB, body string) {
	t.Helper()
	require.True(t, strings.HasPrefix(body, "<!DOCTYPE html>\n"))
	body = rawElements.ReplaceAllString(strings.TrimPrefix(body, "<!DOCTYPE html>"), "<$1></$1>")
	void := []string{"meta", "input", "img", "br"}
	var open []string
	for _, tag := range tagPattern.FindAllStringSubmatch(body, -1) {
		switch name := tag[2]; {
		case slices.Contains(void, name):
		case tag[1] == "":
			open = append(open, name)
		default:
			require.NotEmpty(t, open, "</%s> closes nothing", name)
			require.Equal(t, open[len(open)-1], name)
			open = open[:len(open)-1]
		}
	}
	require.Empty(t, open)
	require.NotContains(t, tagPattern.ReplaceAllString(body, ""), "<", "every tag is one that is understood")
	ids := map[string]bool{}
	for _, id := range idPattern.FindAllStringSubmatch(body, -1) {
		require.False(t, ids[id[1]], "the id %s is there twice", id[1])
		ids[id[1]] = true
	}
	for _, refs := range refPattern.FindAllStringSubmatch(body, -1) {
		for ref := range strings.FieldsSeq(refs[1]) {
			require.True(t, ids[ref], "nothing has the id %s", ref)
		}
	}
}

func TestPageInEveryLanguage(t *testing.T) {
	p := mustPages(t, Page{Logo: "/logo.svg", LogoText: "Example"})
	for _, lang := range Languages() {
		texts := textsByLanguage()[lang]
		for name, v := range everyView() {
			t.Run(lang+"/"+name, func(t *testing.T) {
				w := shownBy(t, p, lang, v)
				body := w.Body.String()
				requireWellFormed(t, body)
				assert.Equal(t, lang, w.Header().Get("Content-Language"))
				assert.Contains(t, body, fmt.Sprintf(`<html lang=%q dir=%q>`, lang, direction(language.MustParse(lang))))
				assert.Equal(t, 1, strings.Count(body, "<h1>"))
				assert.Empty(t, placeholder.FindAllString(rawElements.ReplaceAllString(body, ""), -1), "a placeholder was left")
				switch {
				case v.Form != nil:
					assert.Contains(t, body, "<h1>"+texts.FormTitle+"</h1>")
				case v.Review != nil:
					assert.Contains(t, body, "<h1>"+texts.ReviewTitle+"</h1>")
					assert.Contains(t, body, ">WDJB-MJHT</bdi>")
					assert.Contains(t, body, texts.Warning)
				default:
					title, text := texts.message(v.Message.Kind)
					assert.Contains(t, body, "<h1>"+title+"</h1>")
					assert.Contains(t, body, text)
					assert.Contains(t, body, texts.retry(time.Minute))
					assert.Contains(t, body, texts.EnterCode)
				}
			})
		}
	}
}

func TestPageForm(t *testing.T) {
	p := mustPages(t, Page{})
	body := shownBy(t, p, "en", View{Form: &FormView{}}).Body.String()
	for _, want := range []string{
		"<title>Connect a device</title>", "Step <bdi>1</bdi> of 2", `name="user_code"`, `value=""`, " autofocus", `inputmode="text"`,
		`aria-describedby="user_code_hint"`, ">BCDF-GHJK</bdi>", `action="/device"`,
	} {
		assert.Contains(t, body, want)
	}
	for _, not := range []string{"aria-invalid", "role=\"alert\"", "signed in", "<img", "<script"} {
		assert.NotContains(t, rawElements.ReplaceAllString(body, ""), not)
	}

	v := View{Form: &FormView{Typed: "bbbb", Wrong: true}, Account: "alice", CanSwitch: true, Resume: "back"}
	body = shownBy(t, p, "en", v).Body.String()
	for _, want := range []string{
		"<title>Error: Connect a device</title>", `value="bbbb"`, `aria-invalid="true"`, `aria-describedby="user_code_error user_code_hint"`,
		`id="user_code_error" role="alert"`, "signed in as <bdi>alice</bdi>", `name="resume" value="back"`, `value="switch"`,
	} {
		assert.Contains(t, body, want)
	}
	assert.Less(t, strings.Index(body, "<button>"), strings.Index(body, `value="switch"`), "Enter and the first button send the code")

	v.CanSwitch = false
	assert.NotContains(t, shownBy(t, p, "en", v).Body.String(), `value="switch"`)

	p, err := newPages(Page{}, "/device?tenant=a", Digits, false)
	require.NoError(t, err)
	body = shownBy(t, p, "en", View{Form: &FormView{}}).Body.String()
	assert.Contains(t, body, `inputmode="numeric"`)
	assert.Contains(t, body, `action="/device?tenant=a"`)
	assert.Contains(t, body, ">0123-4567-8901</bdi>")
}

func TestPageReview(t *testing.T) {
	p := mustPages(t, Page{Scope: func(scope, language string) string {
		return map[string]string{"openid de": "Wissen, wer Sie sind"}[scope+" "+language]
	}})
	body := shownBy(t, p, "en", View{Review: fullReview(), Account: "alice", CanSwitch: true, Resume: "back"}).Body.String()
	english := textsByLanguage()["en"]
	for _, want := range []string{
		"<title>Error: Allow this sign-in?</title>", "Step <bdi>2</bdi> of 2", "<bdi translate=\"no\">Television</bdi>", "<bdi>openid</bdi>",
		"<bdi>Living room TV</bdi>", "<bdi>Hamburg</bdi>", ">2001:db8::17</bdi>", "<bdi>Firefox on Linux</bdi>", "<bdi>Oslo</bdi>", ">192.0.2.17</bdi>",
		"<bdi>4</bdi>\u00a0min ago", `datetime="2026-11-25T14:03:07Z"`, ">2026-11-25 14:03 UTC<",
		english.Elsewhere, english.Warned, english.Warning, `name="confirm" value="yes" required aria-describedby="confirm_error" aria-invalid="true"`,
		`<button name="action" value="deny" formnovalidate>`, `<button name="action" value="approve">`, `value="report" formnovalidate>`,
		`name="ticket" value="sealed"`, `value="switch"`,
	} {
		assert.Contains(t, body, want)
	}
	assert.NotContains(t, body, "autofocus")

	bare := View{Review: &ReviewView{Ticket: "sealed", UserCode: "WDJB-MJHT", Client: "Television"}}
	body = shownBy(t, p, "en", bare).Body.String()
	assert.Contains(t, body, english.Warning)
	assert.Contains(t, body, english.JustNow)
	for _, not := range []string{english.Elsewhere, english.Warned, `name="confirm"`, `role="alert"`, "<script", english.Scopes, english.Resources, english.Details, english.Browser, english.Unknown, "Error"} {
		assert.NotContains(t, body, not)
	}

	half := View{Review: &ReviewView{Browser: Side{Place: "Oslo"}, Scopes: []ScopeView{{Scope: "openid"}, {Scope: "profile"}}}}
	body = shownBy(t, p, "de", half).Body.String()
	assert.Contains(t, body, "nicht bekannt", "where the device is, beside where the browser is")
	assert.Contains(t, body, "<bdi>Wissen, wer Sie sind</bdi>")
	assert.Contains(t, body, "<bdi>profile</bdi>", "what there are no words for")
}

// The view that was handed in is the caller's.
func TestPageLeavesTheViewAlone(t *testing.T) {
	p := mustPages(t, Page{Scope: func(string, string) string { return "words" }})
	review := fullReview()
	shownBy(t, p, "en", View{Review: review})
	assert.Equal(t, fullReview(), review)
}

func TestPageMessage(t *testing.T) {
	p := mustPages(t, Page{})
	body := shownBy(t, p, "en", View{Message: &MessageView{Kind: MessageApproved}}).Body.String()
	assert.NotContains(t, body, "<a ")
	assert.NotContains(t, body, "Try again")
	assert.Contains(t, body, `<p class="mark good" aria-hidden="true">`)
	body = shownBy(t, p, "en", View{Message: &MessageView{Kind: MessageDenied}}).Body.String()
	assert.Contains(t, body, `<p class="mark" aria-hidden="true">`)
	body = shownBy(t, p, "en", View{Message: &MessageView{Kind: MessageTooMany, Again: true, Wait: 8 * time.Minute}}).Body.String()
	assert.Contains(t, body, `<a href="/device">Enter a code</a>`)
	assert.Contains(t, body, "in 8\u00a0min.")
	assert.NotContains(t, body, "class=\"mark")
}

// Whatever others supply is shown as text.
func TestPageEscapes(t *testing.T) {
	const evil = `"><script>alert(1)</script><b title='{client}{n}'>&lt;`
	v := View{Account: evil, CanSwitch: true, Resume: evil, Form: &FormView{Typed: evil, Wrong: true}}
	p := mustPages(t, Page{LogoText: evil, Logo: "/x?" + evil, Scope: func(string, string) string { return evil }})
	side := Side{Name: evil, Addr: evil, Place: evil}
	review := &ReviewView{Ticket: evil, UserCode: evil, Client: evil, Scopes: []ScopeView{{Scope: "a"}}, Device: side, Browser: side}
	for _, v := range []View{v, {Account: evil, CanSwitch: true, Review: review}} {
		body := shownBy(t, p, "en", v).Body.String()
		requireWellFormed(t, body)
		assert.NotContains(t, body, "<script")
		assert.NotContains(t, body, "<b ")
		assert.Contains(t, html.UnescapeString(body), evil)
	}
	p = mustPages(t, Page{Texts: map[string]Texts{"en": {Warning: evil[:30], Asks: evil[:30] + "{client}"}}})
	requireWellFormed(t, shownBy(t, p, "en", View{Review: fullReview()}).Body.String())
}

func contentOf(t testing.TB, body, element string) string {
	t.Helper()
	m := regexp.MustCompile(`(?s)<` + element + `>(.*)</` + element + `>`).FindStringSubmatch(body)
	require.NotNil(t, m, element)
	return m[1]
}

func hashOf(content string) string {
	sum := sha256.Sum256([]byte(content))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

func TestPageHeaders(t *testing.T) {
	for name, cfg := range map[string]Page{
		"ours":         {},
		"replaced CSS": {CSS: "h1 { color: teal }\r\nh2 > a { content: \"<&\" }\rp {}"},
	} {
		t.Run(name, func(t *testing.T) {
			p := mustPages(t, cfg)
			w := httptest.NewRecorder()
			w.Header().Set("Vary", "Cookie")
			require.NoError(t, p.show(w, requestIn("de"), http.StatusBadRequest, View{Form: &FormView{}}))
			assert.Equal(t, http.StatusBadRequest, w.Code)
			style := hashOf(contentOf(t, w.Body.String(), "style"))
			assert.NotContains(t, w.Body.String(), "\r")
			assert.NotContains(t, w.Body.String(), "teal }\n\n", "one break stays one")
			assert.Equal(t, []string{"Cookie", "Accept-Language"}, w.Header()["Vary"])
			w.Header().Del("Vary")
			assert.Equal(t, map[string]string{
				"Content-Type":               "text/html; charset=utf-8",
				"Content-Language":           "de",
				"Content-Security-Policy":    "default-src 'none'; style-src " + style + "; base-uri 'none'; frame-ancestors 'none'",
				"Cross-Origin-Opener-Policy": "same-origin",
				"X-Frame-Options":            "DENY",
				"X-Content-Type-Options":     "nosniff",
			}, single(w.Header()))

			w = shownBy(t, p, "en", View{Review: fullReview()})
			script := hashOf(contentOf(t, w.Body.String(), "script"))
			policy := w.Header().Get("Content-Security-Policy")
			assert.Contains(t, policy, "; script-src "+script+"; connect-src 'self'")
			assert.NotContains(t, policy, "unsafe")
			assert.NotContains(t, policy, "form-action")

			review := fullReview()
			review.DenyOnLeave = false
			w = shownBy(t, p, "en", View{Review: review})
			assert.NotContains(t, w.Header().Get("Content-Security-Policy"), "script-src")
			assert.NotContains(t, w.Body.String(), "<script")
		})
	}
}

func single(h http.Header) map[string]string {
	all := map[string]string{}
	for name := range maps.Keys(h) {
		all[name] = strings.Join(h[name], "|")
	}
	return all
}

func TestPageLogo(t *testing.T) {
	for logo, source := range map[string]string{
		"/static/logo.svg":                     "'self'",
		"https://cdn.example.com:8443/a/b.png": "https://cdn.example.com:8443",
		"data:image/png;base64,iVBORw0KGgo=":   "data:",
	} {
		w := shownBy(t, mustPages(t, Page{Logo: logo, LogoText: "Example"}), "en", View{Form: &FormView{}})
		assert.Contains(t, w.Header().Get("Content-Security-Policy"), "; img-src "+source)
		assert.Contains(t, html.UnescapeString(w.Body.String()), `<img class="logo" src="`+logo+`" alt="Example">`)
	}
	w := shownBy(t, mustPages(t, Page{}), "en", View{Form: &FormView{}})
	assert.NotContains(t, w.Header().Get("Content-Security-Policy"), "img-src")

	for _, logo := range []string{
		"logo.svg", "//cdn.example.com/a.png", "http://example.com/a.png", "javascript:alert(1)", "data:text/html,x",
		"https://", "https://example.com;script-src/a.png", "https://*/a.png", "https://user@/x", "https://[::1", "ftp://example.com/a.png", "\x00",
	} {
		_, err := newPages(Page{Logo: logo}, "/device", Base20, true)
		assert.ErrorContains(t, err, "Page.Logo is", logo)
	}
}

func TestPageCSSRefused(t *testing.T) {
	for _, css := range []string{"a</STYLE><script>", "\xff", "a\x00"} {
		_, err := newPages(Page{CSS: css}, "/device", Base20, true)
		assert.ErrorContains(t, err, "Page.CSS cannot be put into a page", "%q", css)
	}
}

func parse(t testing.TB, text string) *template.Template {
	t.Helper()
	parsed, err := template.New("host").Parse(text)
	require.NoError(t, err)
	return parsed
}

const hostTemplate = `<title>{{.Title}}</title><style>{{.Style}}</style>
{{with .Form}}<input name="user_code">{{end}}
{{with .Review}}{{range $.Fill $.Text.Asks "client" .Client}}{{if .Value}}<i>{{.Text}}</i>{{else}}{{.Text}}{{end}}{{end}}
{{.UserCode}}<input name="ticket" value="{{.Ticket}}">
{{range .Scopes}}{{.Text}}{{if and $.Review.Narrow (not .Required)}}<input type="checkbox" name="scope" value="{{.Scope}}">{{end}}{{end}}
{{if .Narrow}}<input name="narrow" value="yes">{{end}}{{range .Resources}}{{.}}{{end}}
{{range .Details}}{{.Type}}{{or .Text .JSON}}{{end}}{{end}}
{{with .Message}}{{.Text}}{{end}}`

func TestPageTemplate(t *testing.T) {
	p := mustPages(t, Page{Template: parse(t, hostTemplate)})
	w := shownBy(t, p, "en", View{Review: fullReview()})
	assert.Contains(t, w.Body.String(), "<i>Television</i> asks to sign in")
	assert.Contains(t, w.Header().Get("Content-Security-Policy"), hashOf(contentOf(t, w.Body.String(), "style")))
}

func TestPageTemplateRefused(t *testing.T) {
	for text, want := range map[string]string{
		strings.ReplaceAll(hostTemplate, `"user_code"`, `"code"`):                           `shows the page "Connect a device" without the field user_code; add it`,
		strings.ReplaceAll(hostTemplate, "{{.UserCode}}", ""):                               `shows the page "Allow this sign-in?" without .Review.UserCode`,
		strings.ReplaceAll(hostTemplate, "{{.Ticket}}", ""):                                 "without .Review.Ticket",
		strings.ReplaceAll(hostTemplate, `"client" .Client`, `"x" 1`):                       "without .Review.Client",
		strings.ReplaceAll(hostTemplate, "{{range .Scopes}}{{.Text}}", "{{range .Scopes}}"): "without the Text of each of .Review.Scopes",
		strings.ReplaceAll(hostTemplate, `value="{{.Scope}}"`, ""):                          "without the field scope for each",
		strings.ReplaceAll(hostTemplate, `name="narrow"`, ""):                               "without the field narrow",
		strings.ReplaceAll(hostTemplate, "{{range .Resources}}{{.}}{{end}}", ""):            "without .Review.Resources",
		strings.ReplaceAll(hostTemplate, "{{.Type}}", ""):                                   "without the Type of each of .Review.Details",
		strings.ReplaceAll(hostTemplate, "{{or .Text .JSON}}", "{{.JSON}}"):                 "without the Text of each of .Review.Details",
		strings.ReplaceAll(hostTemplate, "{{or .Text .JSON}}", "{{.Text}}"):                 "without the JSON of each of .Review.Details",
		strings.ReplaceAll(hostTemplate, "{{.Text}}{{end}}", "{{.No}}{{end}}"):              "cannot show the page",
		hostTemplate + `{{with .Review}}{{with .Device.Name}}{{.Nothing}}{{end}}{{end}}`:    `cannot show the page "Allow this sign-in?"`,
		`<a href="{{if .Form}}"{{end}}>`:                                                    `cannot show the page "Connect a device"`,
	} {
		_, err := newPages(Page{Template: parse(t, text)}, "/device", Base20, true)
		assert.ErrorContains(t, err, "Page.Template", text)
		assert.ErrorContains(t, err, want, text)
	}
}

// Who does not let people untick scopes needs no boxes.
func TestPageTemplateWithoutNarrowing(t *testing.T) {
	text := strings.ReplaceAll(strings.ReplaceAll(hostTemplate, `value="{{.Scope}}"`, ""), `name="narrow"`, "")
	_, err := newPages(Page{Template: parse(t, text)}, "/device", Base20, false)
	require.NoError(t, err)
}

// A template can fail for what it is given only later.
func TestPageTemplateFails(t *testing.T) {
	host := template.Must(template.New("host").Funcs(template.FuncMap{"mood": func(client string) (string, error) {
		if client == "Television" {
			return "", fmt.Errorf("no mood for %s", client)
		}
		panic("worse")
	}}).Parse(hostTemplate + `{{with .Review}}{{if .Elsewhere}}{{if ne .Client "trial-client"}}{{mood .Client}}{{end}}{{end}}{{end}}`))
	p := mustPages(t, Page{Template: host, Logo: "/logo.svg"})
	for client, want := range map[string]string{"Television": "no mood for Television", "Radio": "worse"} {
		review := fullReview()
		review.Client = client
		w := httptest.NewRecorder()
		err := p.show(w, requestIn("fr"), http.StatusOK, View{Review: review})
		assert.ErrorContains(t, err, want)
		assert.ErrorContains(t, err, "Page.Template")
		assert.Equal(t, http.StatusServiceUnavailable, w.Code)
		requireWellFormed(t, w.Body.String())
		assert.Contains(t, w.Body.String(), textsByLanguage()["fr"].UnavailableTitle)
		assert.NotContains(t, w.Body.String(), "mood")
		assert.NotContains(t, w.Header().Get("Content-Security-Policy"), "script-src")
	}
}

// Every mistake is reported at once.
func TestPageRefusesAllAtOnce(t *testing.T) {
	_, err := newPages(Page{Logo: "x", CSS: "</style>", Texts: map[string]Texts{"!": {}}, Template: parse(t, "nothing")}, "/device", Base20, true)
	for _, want := range []string{"Page.Logo", "Page.CSS", "Page.Texts", "Page.Template"} {
		assert.ErrorContains(t, err, want)
	}
}

func BenchmarkReviewPage(b *testing.B) {
	p := mustPages(b, Page{})
	r := requestIn("de-AT,de;q=0.9,en;q=0.8")
	v := View{Review: fullReview(), Account: "alice", CanSwitch: true}
	b.ReportAllocs()
	for b.Loop() {
		if err := p.show(httptest.NewRecorder(), r, http.StatusOK, v); err != nil {
			b.Fatal(err)
		}
	}
}
