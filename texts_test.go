package devicegrant

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/text/language"
)

// fields returns texts by the name of their field.
func (t Texts) fields() map[string]string {
	all := map[string]string{}
	v := reflect.ValueOf(t)
	for i := range v.NumField() {
		all[v.Type().Field(i).Name] = v.Field(i).String()
	}
	return all
}

// Every language says everything, with the placeholders of the English text.
func TestTextsAreComplete(t *testing.T) {
	english := textsByLanguage()["en"].fields()
	require.GreaterOrEqual(t, len(Languages()), 20)
	for _, tag := range Languages() {
		t.Run(tag, func(t *testing.T) {
			content, err := textFiles.ReadFile("texts/" + tag + ".json")
			require.NoError(t, err)
			strict := json.NewDecoder(strings.NewReader(string(content)))
			strict.DisallowUnknownFields()
			var texts Texts
			require.NoError(t, strict.Decode(&texts))
			for name, text := range texts.fields() {
				assert.NotEmpty(t, text, name)
				assert.Equal(t, strings.TrimFunc(text, unicode.IsSpace), text, name)
				assert.NotContains(t, text, "  ", name)
				assert.False(t, strings.ContainsAny(text, "<>&\"'"), "%s: HTML, or a quote of typewriters: %s", name, text)
				assert.Equal(t, placeholder.FindAllString(english[name], -1), placeholder.FindAllString(text, -1), name)
			}
		})
	}
}

// What looks alike in English is still two texts; what differs there must not be
// one text by mistake.
func TestTextsDiffer(t *testing.T) {
	for _, tag := range Languages() {
		texts := textsByLanguage()[tag]
		assert.NotEqual(t, texts.Allow, texts.Deny, tag)
		assert.NotEqual(t, texts.ApprovedText, texts.DeniedText, tag)
		assert.NotEqual(t, texts.ApprovedTitle, texts.DeniedTitle, tag)
		if tag != "en" {
			assert.NotEqual(t, textsByLanguage()["en"].Warning, texts.Warning, tag)
		}
	}
}

func TestTextsLanguages(t *testing.T) {
	tags := Languages()
	assert.True(t, slices.IsSorted(tags))
	for _, tag := range tags {
		assert.Equal(t, tag, language.MustParse(tag).String())
	}
	assert.Subset(t, tags, []string{
		"ar", "cs", "da", "de", "en", "es", "fr", "he", "hi", "id", "it", "ja", "ko",
		"nl", "pl", "pt-BR", "ru", "sv", "tr", "uk", "vi", "zh-Hans", "zh-Hant",
	})
}

func TestTextsDirection(t *testing.T) {
	for tag, want := range map[string]string{
		"ar": "rtl", "he": "rtl", "fa": "rtl", "ur": "rtl", "yi": "rtl", "dv": "rtl", "az-Arab": "rtl",
		"en": "ltr", "ja": "ltr", "az": "ltr", "ar-Latn": "ltr",
	} {
		assert.Equal(t, want, direction(language.MustParse(tag)), tag)
	}
}

func requestIn(accept string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "/device", nil)
	r.Header.Set("Accept-Language", accept)
	return r
}

func mustPages(t testing.TB, cfg Page) *pages {
	t.Helper()
	p, err := newPages(cfg, "/device", Base20, true)
	require.NoError(t, err)
	return p
}

func TestLanguageMatching(t *testing.T) {
	p := mustPages(t, Page{})
	for accept, want := range map[string]string{
		"": "en", "*": "en", "en-GB": "en", "xx": "en", "tlh": "en",
		"de": "de", "de-AT,en;q=0.5": "de", "DE-ch": "de",
		"zh": "zh-Hans", "zh-CN": "zh-Hans", "zh-SG": "zh-Hans", "zh-Hans-HK": "zh-Hans",
		"zh-TW": "zh-Hant", "zh-HK": "zh-Hant", "zh-MO": "zh-Hant", "zh-Hant": "zh-Hant",
		"pt": "pt-BR", "pt-PT": "pt-BR", "pt-BR": "pt-BR",
		"iw": "he", "in": "id", "es-419": "es", "fr-CA": "fr",
		"en;q=0.1,ja;q=0.9": "ja",
		"de;q=0, fr;q=0.2":  "fr",
		"fa":                "en", "xx,ko;q=0.5": "ko",
		"en-US,en;q=0.9,de;q=0.8":          "en",
		";;;,,,\x00":                       "en",
		strings.Repeat("de,", 40_000):      "en",
		strings.Repeat("a-", 500) + "b":    "en",
		"de" + strings.Repeat(",xx", 2000): "en",
	} {
		assert.Equal(t, want, p.language(requestIn(accept)), "%.60q", accept)
	}
	assert.Equal(t, "en", p.language(httptest.NewRequest(http.MethodGet, "/device", nil)), "no header at all")
}

func TestLanguageOfTheHost(t *testing.T) {
	host := ""
	p := mustPages(t, Page{Language: func(*http.Request) string { return host }})
	for set, want := range map[string]string{"": "de", "fr-CA": "fr", "no such language": "de", "xx": "de", "ja": "ja"} {
		host = set
		assert.Equal(t, want, p.language(requestIn("de")), set)
	}
}

// A host replaces what it wants to, and adds languages; what it leaves out is said
// in the nearest language.
func TestTextsOfTheHost(t *testing.T) {
	p := mustPages(t, Page{Texts: map[string]Texts{
		"en":    {Deny: "No"},
		"de-AT": {Deny: "Na"},
		"pt":    {Deny: "Nada"},
		"zh-TW": {Deny: "不要"},
		"fa":    {Deny: "نه", Asks: "{client} می\u200cپرسد"},
	}})
	for accept, want := range map[string]struct{ tag, dir, deny, allow string }{
		"en":      {"en", "ltr", "No", "Allow"},
		"de":      {"de", "ltr", "Ablehnen", "Erlauben"},
		"de-AT":   {"de-AT", "ltr", "Na", "Erlauben"},
		"pt-BR":   {"pt-BR", "ltr", "Nada", "Permitir"},
		"pt-PT":   {"pt-BR", "ltr", "Nada", "Permitir"},
		"zh-Hant": {"zh-Hant", "ltr", "不要", "允許"},
		"zh-CN":   {"zh-Hans", "ltr", "拒绝", "允许"},
		"fa-IR":   {"fa", "rtl", "نه", "Allow"},
	} {
		s := p.speech(requestIn(accept))
		assert.Equal(t, want.tag, s.tag, accept)
		assert.Equal(t, want.dir, s.dir, accept)
		assert.Equal(t, want.deny, s.texts.Deny, accept)
		assert.Equal(t, want.allow, s.texts.Allow, accept)
	}
	assert.Equal(t, "Deny", textsByLanguage()["en"].Deny, "ours are not changed")
}

func TestTextsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		texts map[string]Texts
		want  string
	}{
		"no tag":          {map[string]Texts{"deutsch!": {}}, `the language "deutsch!"; set it to a BCP 47 tag`},
		"empty tag":       {map[string]Texts{"": {}}, `the language ""`},
		"twice":           {map[string]Texts{"pt": {}, "pt-br": {}}, `both "pt" and "pt-br"`},
		"placeholder":     {map[string]Texts{"en": {Deny: "No, {client}"}}, `Page.Texts["en"]: Deny has {client}`},
		"two of them":     {map[string]Texts{"en": {Step: "{n} {n}"}}, "Step has {n} and {n}"},
		"nobody who asks": {map[string]Texts{"en": {Asks: "May it?"}}, "put {client} in it"},
	} {
		_, err := newPages(Page{Texts: c.texts}, "/device", Base20, true)
		assert.ErrorContains(t, err, c.want, name)
	}
}

func TestTextsRetry(t *testing.T) {
	english := textsByLanguage()["en"]
	for wait, want := range map[time.Duration]string{
		-time.Second:            "",
		0:                       "",
		time.Millisecond:        "Try again in a moment.",
		time.Second:             "Try again in a moment.",
		1100 * time.Millisecond: "Try again in 2\u00a0s.",
		90 * time.Second:        "Try again in 90\u00a0s.",
		91 * time.Second:        "Try again in 2\u00a0min.",
		8 * time.Minute:         "Try again in 8\u00a0min.",
	} {
		assert.Equal(t, want, english.retry(wait), wait)
	}
}

func TestTextsMessages(t *testing.T) {
	english := textsByLanguage()["en"]
	seen := map[string]MessageKind{}
	for _, kind := range messageKinds {
		title, text := english.message(kind)
		assert.NotEmpty(t, title)
		assert.NotContains(t, seen, text, kind)
		seen[text] = kind
	}
	assert.Equal(t, MessageUnavailable, seen[english.UnavailableText])
	assert.Equal(t, MessageApproved, seen[english.ApprovedText])
}

func FuzzAcceptLanguage(f *testing.F) {
	for _, seed := range []string{"", "de", "zh-TW,en;q=0.5", "*;q=0", "x-private", "en-u-nu-arab", "a-b-c-d", "\xff", "i-klingon"} {
		f.Add(seed)
	}
	p := mustPages(f, Page{Texts: map[string]Texts{"fa": {}}})
	f.Fuzz(func(t *testing.T, accept string) {
		r := httptest.NewRequest(http.MethodGet, "/device", nil)
		r.Header["Accept-Language"] = []string{accept}
		assert.Contains(t, append(Languages(), "fa"), p.language(r))
	})
}
