package devicegrant

import (
	"cmp"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/text/language"
)

// Texts is everything that the verification page says in one language. Texts are
// plain, not HTML. A word in braces is replaced by what it stands for, and that is
// escaped.
type Texts struct {
	FormTitle  string `json:"form_title"`  // heading of the page on which the code is entered
	ErrorTitle string `json:"error_title"` // a document's title while {title} has an error on it
	Step       string `json:"step"`        // {n} is 1 or 2
	FormIntro  string `json:"form_intro"`
	CodeLabel  string `json:"code_label"`
	CodeHint   string `json:"code_hint"` // {example} is a code that was made up
	CodeWrong  string `json:"code_wrong"`
	Continue   string `json:"continue"` // the button that sends the code

	SignedIn      string `json:"signed_in"` // {account} is a name
	SwitchAccount string `json:"switch_account"`

	ReviewTitle  string `json:"review_title"`  // heading of the page on which the person decides
	Asks         string `json:"asks"`          // {client} is a name
	CodeQuestion string `json:"code_question"` // the code stands below
	Scopes       string `json:"scopes"`        // what the client asks for stands below
	Narrow       string `json:"narrow"`        // the scopes stand below, with boxes that are ticked
	Required     string `json:"required"`      // stands behind a scope that cannot be unticked
	Resources    string `json:"resources"`     // where the client wants to use it stands below: URIs
	Details      string `json:"details"`       // what the client asks for besides scopes stands below
	Device       string `json:"device"`        // heading of what is known of the device
	Browser      string `json:"browser"`       // heading of what is known of this browser
	Name         string `json:"name"`          // label of what the device, or the browser, says it is
	Address      string `json:"address"`
	Place        string `json:"place"`
	Asked        string `json:"asked"` // label of the time at which the device asked
	JustNow      string `json:"just_now"`
	MinutesAgo   string `json:"minutes_ago"` // {n} minutes
	Unknown      string `json:"unknown"`     // instead of a name, an address or a place

	Elsewhere      string `json:"elsewhere"` // the device and the browser are in different places, or networks
	Warned         string `json:"warned"`    // Config.Risk warns
	Warning        string `json:"warning"`   // is on every page on which the person decides
	Confirm        string `json:"confirm"`   // what is ticked before an approval
	ConfirmMissing string `json:"confirm_missing"`

	Deny   string `json:"deny"`
	Allow  string `json:"allow"`
	Report string `json:"report"` // the button that denies and reports

	EnterCode    string `json:"enter_code"` // the link to the form
	RetrySoon    string `json:"retry_soon"`
	RetrySeconds string `json:"retry_seconds"` // {n} seconds
	RetryMinutes string `json:"retry_minutes"` // {n} minutes

	// Titles and texts of the messages, in the order of MessageKind.

	ApprovedTitle     string `json:"approved_title"`
	ApprovedText      string `json:"approved_text"`
	DeniedTitle       string `json:"denied_title"`
	DeniedText        string `json:"denied_text"`
	ReportedTitle     string `json:"reported_title"`
	ReportedText      string `json:"reported_text"`
	DecidedTitle      string `json:"decided_title"`
	DecidedText       string `json:"decided_text"`
	StaleTitle        string `json:"stale_title"`
	StaleText         string `json:"stale_text"`
	OtherSessionTitle string `json:"other_session_title"`
	OtherSessionText  string `json:"other_session_text"`
	RefusedTitle      string `json:"refused_title"`
	RefusedText       string `json:"refused_text"`
	TooManyTitle      string `json:"too_many_title"`
	TooManyText       string `json:"too_many_text"`
	UnavailableTitle  string `json:"unavailable_title"`
	UnavailableText   string `json:"unavailable_text"`
	MalformedTitle    string `json:"malformed_title"`
	MalformedText     string `json:"malformed_text"`
	CrossOriginTitle  string `json:"cross_origin_title"`
	CrossOriginText   string `json:"cross_origin_text"`
	MethodTitle       string `json:"method_title"`
	MethodText        string `json:"method_text"`
}

//go:embed texts/*.json
var textFiles embed.FS

// textsByLanguage is read when the first Server is made, and never changed.
var textsByLanguage = sync.OnceValue(func() map[string]Texts {
	all := map[string]Texts{}
	for _, tag := range Languages() {
		content, err := textFiles.ReadFile("texts/" + tag + ".json")
		var texts Texts
		if err = errors.Join(err, json.Unmarshal(content, &texts)); err != nil {
			panic("devicegrant: texts/" + tag + ".json: " + err.Error()) // They are part of the program, and tested.
		}
		all[tag] = texts
	}
	return all
})

// Languages returns the languages that the verification page speaks, as sorted
// BCP 47 tags. [Page.Texts] adds others.
func Languages() []string {
	files, err := textFiles.ReadDir("texts")
	if err != nil {
		panic(err) // It is part of the program.
	}
	tags := make([]string, len(files))
	for i, file := range files {
		tags[i] = strings.TrimSuffix(file.Name(), ".json")
	}
	slices.Sort(tags)
	return tags
}

// overlay returns t with what is set in own in its place.
func (t Texts) overlay(own Texts) Texts {
	to, from := reflect.ValueOf(&t).Elem(), reflect.ValueOf(own)
	for i := range from.NumField() {
		if text := from.Field(i).String(); text != "" {
			to.Field(i).SetString(text)
		}
	}
	return t
}

// message returns the heading and the text of a message.
func (t *Texts) message(kind MessageKind) (title, text string) {
	switch kind {
	case MessageApproved:
		return t.ApprovedTitle, t.ApprovedText
	case MessageDenied:
		return t.DeniedTitle, t.DeniedText
	case MessageReported:
		return t.ReportedTitle, t.ReportedText
	case MessageDecided:
		return t.DecidedTitle, t.DecidedText
	case MessageStale:
		return t.StaleTitle, t.StaleText
	case MessageOtherSession:
		return t.OtherSessionTitle, t.OtherSessionText
	case MessageRefused:
		return t.RefusedTitle, t.RefusedText
	case MessageTooMany:
		return t.TooManyTitle, t.TooManyText
	case MessageMalformed:
		return t.MalformedTitle, t.MalformedText
	case MessageCrossOrigin:
		return t.CrossOriginTitle, t.CrossOriginText
	case MessageMethod:
		return t.MethodTitle, t.MethodText
	case MessageUnavailable:
	}
	return t.UnavailableTitle, t.UnavailableText
}

// retry says in words when to try again. Minutes are rounded up.
func (t *Texts) retry(wait time.Duration) string {
	text, n := t.RetrySoon, int64(0)
	switch seconds := wholeSeconds(wait); {
	case wait <= 0:
		return ""
	case seconds > 90:
		text, n = t.RetryMinutes, (seconds+59)/60
	case seconds > 1:
		text, n = t.RetrySeconds, seconds
	}
	return strings.Replace(text, "{n}", strconv.FormatInt(n, 10), 1)
}

var placeholder = regexp.MustCompile(`\{\w+\}`)

// check refuses texts that would leave a placeholder on the page, or leave out who
// asks.
func (t Texts) check() error {
	var errs []error
	own, english := reflect.ValueOf(t), reflect.ValueOf(textsByLanguage()["en"])
	for i := range own.NumField() {
		text, name := own.Field(i).String(), own.Type().Field(i).Name
		have := placeholder.FindAllString(text, -1)
		may := placeholder.FindAllString(english.Field(i).String(), -1)
		if len(have) > 0 && !slices.Equal(have, may) {
			errs = append(errs, fmt.Errorf("%s has %s; it can have %q, and once", name, strings.Join(have, " and "), strings.Join(may, "")))
		}
	}
	if t.Asks != "" && !strings.Contains(t.Asks, "{client}") {
		errs = append(errs, errors.New("Asks does not say who asks; put {client} in it"))
	}
	return errors.Join(errs...)
}

// speech is one language of the page.
type speech struct {
	tag, dir string
	texts    Texts
}

// speeches are the languages of the page, English first, in the matcher's order.
type speeches struct {
	all     []speech
	matcher language.Matcher
}

// newSpeeches returns our languages with the host's texts, by BCP 47 tag, over them.
func newSpeeches(own map[string]Texts) (speeches, error) {
	ours := matching(textsByLanguage())
	texts, added := maps.Clone(textsByLanguage()), map[string]Texts{}
	said := map[string]string{} // by tag: under which key of own
	var errs []error
	for _, key := range slices.Sorted(maps.Keys(own)) {
		tag, err := language.Parse(key)
		if err != nil || tag.IsRoot() {
			errs = append(errs, fmt.Errorf("Page.Texts has the language %q; set it to a BCP 47 tag such as \"de\" or \"pt-BR\"", key))
			continue
		}
		if err := own[key].check(); err != nil {
			errs = append(errs, fmt.Errorf("Page.Texts[%q]: %w", key, err))
		}
		name := tag.String()
		if nearest, confidence := ours.match(tag); confidence == language.Exact {
			name = nearest.tag
		}
		if other, twice := said[name]; twice {
			errs = append(errs, fmt.Errorf("Page.Texts has both %q and %q, which are one language; join them", other, key))
		}
		said[name] = key
		if base, known := texts[name]; known {
			texts[name] = base.overlay(own[key])
		} else {
			added[name] = own[key]
		}
	}
	nearest := matching(texts)
	for name, t := range added {
		base, _ := nearest.match(language.Make(name))
		texts[name] = base.texts.overlay(t)
	}
	return matching(texts), errors.Join(errs...)
}

// matching returns speeches of all the texts.
func matching(texts map[string]Texts) speeches {
	var s speeches
	var tags []language.Tag
	names := slices.DeleteFunc(slices.Sorted(maps.Keys(texts)), func(name string) bool { return name == "en" })
	for _, name := range append([]string{"en"}, names...) {
		tag := language.Make(name)
		s.all, tags = append(s.all, speech{name, direction(tag), texts[name]}), append(tags, tag)
	}
	s.matcher = language.NewMatcher(tags)
	return s
}

// match returns the language that suits best, English if none does.
func (s speeches) match(wanted ...language.Tag) (*speech, language.Confidence) {
	_, i, confidence := s.matcher.Match(wanted...)
	if confidence == language.No {
		i = 0 // The matcher would take a language of the same script.
	}
	return &s.all[i], confidence
}

// maxAcceptLanguage bounds what is read of Accept-Language, in bytes. Browsers send
// a tenth of it.
const maxAcceptLanguage = 1 << 10

// accepted returns the language for an Accept-Language header (RFC 9110 section
// 12.5.4). Entries that make no sense are passed over.
func (s speeches) accepted(header http.Header) *speech {
	value := header.Get("Accept-Language")
	if len(value) > maxAcceptLanguage {
		return &s.all[0]
	}
	type entry struct {
		tag    language.Tag
		weight float32
	}
	var entries []entry
	for part := range strings.SplitSeq(value, ",") {
		tags, weights, err := language.ParseAcceptLanguage(part)
		if err == nil && len(tags) == 1 {
			entries = append(entries, entry{tags[0], weights[0]})
		}
	}
	slices.SortStableFunc(entries, func(a, b entry) int { return cmp.Compare(b.weight, a.weight) })
	tags := make([]language.Tag, len(entries))
	for i, e := range entries {
		tags[i] = e.tag
	}
	found, _ := s.match(tags...)
	return found
}

// named returns the language that suits a tag; ok is false when none does.
func (s speeches) named(name string) (found *speech, ok bool) {
	tag, err := language.Parse(name)
	if err != nil {
		return nil, false
	}
	found, confidence := s.match(tag)
	return found, confidence != language.No
}

// rightToLeft are the scripts in use that are written from right to left (ISO 15924).
var rightToLeft = []string{"Adlm", "Arab", "Hebr", "Mand", "Nkoo", "Rohg", "Samr", "Syrc", "Thaa"}

func direction(tag language.Tag) string {
	if script, _ := tag.Script(); slices.Contains(rightToLeft, script.String()) {
		return "rtl"
	}
	return "ltr"
}
