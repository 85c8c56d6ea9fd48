package deviceclient

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

const (
	maxShown   = 200     // runes of a server's words
	maxSeconds = 1 << 30 // 34 years, which no timer overflows
)

// seconds reads a JSON number of seconds, or one in a string, as some servers write it.
// Nothing at all is zero.
func seconds(raw json.RawMessage) (time.Duration, error) {
	text := string(raw)
	if text == "" || text == "null" {
		return 0, nil
	}
	if strings.HasPrefix(text, `"`) {
		if err := json.Unmarshal(raw, &text); err != nil {
			return 0, err
		}
	}
	n, err := strconv.ParseFloat(text, 64)
	switch {
	case err != nil || math.IsNaN(n):
		return 0, errors.New("is no number")
	case n < 0:
		return 0, errors.New("is negative")
	case n > maxSeconds:
		return 0, errors.New("is absurdly large")
	}
	return time.Duration(n * float64(time.Second)), nil
}

// clean makes a server's words fit to be shown: on one line, without what a terminal
// would act on, and not too long.
func clean(s string) string {
	var b strings.Builder
	n := 0
	for _, r := range s {
		if n++; n > maxShown {
			b.WriteString("…")
			break
		}
		if notShown(r) {
			r = '?'
		}
		b.WriteRune(r)
	}
	return b.String()
}

// notShown reports what a terminal would act on, or nobody can see. Broken UTF-8 is such.
func notShown(r rune) bool { return r == utf8.RuneError || !unicode.IsPrint(r) }

func quote(s string) string { return strconv.Quote(clean(s)) }

// checkText returns what is wrong with a value that people are shown or that is sent back:
// it has to be there, of bounded length, and printable.
func checkText(name, s string, limit int) error {
	switch {
	case s == "":
		return fmt.Errorf("%s is missing", name)
	case len(s) > limit:
		return fmt.Errorf("%s is longer than %d bytes", name, limit)
	case strings.ContainsFunc(s, notShown):
		return fmt.Errorf("%s has characters that cannot be shown", name)
	}
	return nil
}

// checkShownURI returns what is wrong with a URL that people are to open.
func checkShownURI(name, s string) error {
	if err := checkText(name, s, maxURI); err != nil {
		return err
	}
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return fmt.Errorf("%s is no web address", name)
	}
	return nil
}
