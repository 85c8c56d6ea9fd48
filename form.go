package devicegrant

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
)

const (
	maxBody       = 64 << 10 // bytes of a request's body
	maxParameters = 100      // different parameters in it
	maxRepeats    = 1000     // values of the one that may be repeated
)

// paramResource is the one parameter of OAuth requests that may be repeated (RFC 8707
// section 2).
const paramResource = "resource"

// form is the parameters of one request. Repeated parameters have been refused
// already (RFC 6749 section 3.2), so that each has one value, but for one that its
// reader names. It is reused; its strings are not.
type form struct {
	names, values []string

	repeatable string
	repeated   []string // its values

	body    bytes.Buffer // the first maxBody bytes of the request's
	limited io.LimitedReader
}

var formPool = sync.Pool{New: func() any { return new(form) }}

// get returns a parameter's value, the first if there are several; one that is absent
// is empty, and one that was sent empty counts as absent (RFC 6749 section 3.2).
func (f *form) get(name string) string {
	if name == f.repeatable && len(f.repeated) > 0 {
		return f.repeated[0]
	}
	for i, n := range f.names {
		if n == name {
			return f.values[i]
		}
	}
	return ""
}

// all returns the values of a parameter in the order they were sent, without those
// that are empty.
func (f *form) all(name string) []string {
	values := slices.Clone(f.repeated)
	if name != f.repeatable {
		values = []string{f.get(name)}
	}
	return slices.DeleteFunc(values, func(value string) bool { return value == "" })
}

func (f *form) add(name, value string) error {
	if name == f.repeatable {
		return f.repeat(value)
	}
	for _, n := range f.names {
		if n == name {
			return ErrInvalidRequest.Describe("a parameter is repeated")
		}
	}
	if len(f.names) == maxParameters {
		return ErrInvalidRequest.Describe("there are more than %d parameters", maxParameters)
	}
	f.names, f.values = append(f.names, name), append(f.values, value)
	return nil
}

func (f *form) repeat(value string) error {
	if len(f.repeated) == maxRepeats {
		return ErrInvalidRequest.Describe("a parameter is repeated more than %d times", maxRepeats)
	}
	f.repeated = append(f.repeated, value)
	return nil
}

// newForm returns an empty form in which one parameter may be repeated.
func newForm(repeatable string) *form {
	f := formPool.Get().(*form)
	f.repeatable = repeatable
	return f
}

func (f *form) free() {
	clear(f.names)
	clear(f.values)
	clear(f.repeated)
	f.names, f.values, f.repeated = f.names[:0], f.values[:0], f.repeated[:0]
	f.body.Reset()
	formPool.Put(f)
}

// readForm reads the parameters of a request's body, of which one may be repeated; what
// is in the URL does not count. A form that the host has parsed already is taken as it
// is. The caller frees the form.
func readForm(r *http.Request, repeatable string) (*form, error) {
	if !isForm(r) {
		return nil, ErrInvalidRequest.Describe("the content type must be application/x-www-form-urlencoded")
	}
	if r.PostForm != nil {
		return formOf(r.PostForm, repeatable)
	}
	f := newForm(repeatable)
	complete, err := f.read(r)
	if err == nil && !complete {
		err = errBodyTooLarge
	}
	if err == nil {
		err = f.parse()
	}
	if err != nil {
		f.free()
		return nil, err
	}
	return f, nil
}

var (
	errBodyTooLarge = ErrInvalidRequest.Describe("the body is larger than 64 KiB")
	errBodyRead     = ErrInvalidRequest.Describe("the body could not be read")
)

// read reads a request's body; complete is false when there is more than the form holds.
func (f *form) read(r *http.Request) (complete bool, err error) {
	if r.Body == nil {
		return true, nil
	}
	f.limited = io.LimitedReader{R: r.Body, N: maxBody + 1}
	_, err = f.body.ReadFrom(&f.limited)
	f.limited.R = nil
	if err == nil {
		return f.body.Len() <= maxBody, nil
	}
	if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
		return false, errBodyTooLarge
	}
	return false, errBodyRead.Because(err)
}

const formType = "application/x-www-form-urlencoded"

// isForm reports whether a request's body is a form, by its content type.
func isForm(r *http.Request) bool {
	contentType := header(r, "Content-Type")
	if contentType == formType {
		return true // Nearly always.
	}
	mediaType, _, _ := strings.Cut(contentType, ";")
	return strings.EqualFold(strings.TrimSpace(mediaType), formType)
}

// header returns the first value of a header, by its canonical name, which Header.Get would
// make canonical each time.
func header(r *http.Request, name string) string {
	if values := r.Header[name]; len(values) > 0 {
		return values[0]
	}
	return ""
}

func formOf(values url.Values, repeatable string) (*form, error) {
	f := newForm(repeatable)
	for name, list := range values {
		for _, value := range list {
			if err := f.add(name, value); err != nil {
				f.free()
				return nil, err
			}
		}
	}
	return f, nil
}

// parse splits the body into parameters. Those that need no decoding share one copy of it.
func (f *form) parse() error {
	for body := f.body.String(); body != ""; {
		var pair string
		pair, body = cut(body, '&')
		if pair == "" {
			continue
		}
		rawName, rawValue := cut(pair, '=')
		name, err1 := unescape(rawName)
		value, err2 := unescape(rawValue)
		if err1 != nil || err2 != nil {
			return ErrInvalidRequest.Describe("the body is not a well-formed form")
		}
		if err := f.add(name, value); err != nil {
			return err
		}
	}
	return nil
}

// cut is strings.Cut at one byte, and faster.
func cut(s string, at byte) (before, after string) {
	if i := strings.IndexByte(s, at); i >= 0 {
		return s[:i], s[i+1:]
	}
	return s, ""
}

// escapedGrantType is how every client sends the one value that needs escaping.
const escapedGrantType = "urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Adevice_code"

func unescape(s string) (string, error) {
	if s == escapedGrantType {
		return GrantType, nil
	}
	if strings.IndexByte(s, '%') < 0 && strings.IndexByte(s, '+') < 0 {
		return s, nil
	}
	return url.QueryUnescape(s)
}
