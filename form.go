package devicegrant

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
)

const (
	maxBody       = 64 << 10 // bytes of a request's body
	maxParameters = 100      // parameters in it
)

// form is the parameters of one request. Repeated parameters have been refused
// already (RFC 6749 section 3.2), so that each has one value. It is reused; its
// strings are not.
type form struct {
	names, values []string
}

var (
	formPool = sync.Pool{New: func() any { return new(form) }}
	bodyPool = sync.Pool{New: func() any { return new(body) }}
)

// body is the first maxBody bytes of a request's body.
type body struct {
	bytes.Buffer
	limited io.LimitedReader
}

// get returns a parameter's value; one that is absent is empty, and one that was
// sent empty counts as absent (RFC 6749 section 3.2).
func (f *form) get(name string) string {
	for i, n := range f.names {
		if n == name {
			return f.values[i]
		}
	}
	return ""
}

func (f *form) add(name, value string) error {
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

func (f *form) free() {
	clear(f.names)
	clear(f.values)
	f.names, f.values = f.names[:0], f.values[:0]
	formPool.Put(f)
}

// readForm reads the parameters of a request's body; what is in the URL does not
// count. A form that the host has parsed already is taken as it is. The caller
// frees the form.
func readForm(r *http.Request) (*form, error) {
	if !isForm(r) {
		return nil, ErrInvalidRequest.Describe("the content type must be application/x-www-form-urlencoded")
	}
	if r.PostForm != nil {
		return formOf(r.PostForm)
	}
	b := bodyPool.Get().(*body)
	defer bodyPool.Put(b)
	complete, err := b.read(r)
	if err != nil {
		return nil, err
	}
	if !complete {
		return nil, errBodyTooLarge
	}
	return parseForm(b.String())
}

var (
	errBodyTooLarge = ErrInvalidRequest.Describe("the body is larger than 64 KiB")
	errBodyRead     = ErrInvalidRequest.Describe("the body could not be read")
)

// read fills b; complete is false when there is more than it holds.
func (b *body) read(r *http.Request) (complete bool, err error) {
	b.Reset()
	if r.Body == nil {
		return true, nil
	}
	b.limited = io.LimitedReader{R: r.Body, N: maxBody + 1}
	_, err = b.ReadFrom(&b.limited)
	b.limited.R = nil
	var tooLarge *http.MaxBytesError
	switch {
	case err == nil:
		return b.Len() <= maxBody, nil
	case errors.As(err, &tooLarge):
		return false, errBodyTooLarge
	default:
		return false, errBodyRead.Because(err)
	}
}

// isForm reports whether a request's body is a form, by its content type.
func isForm(r *http.Request) bool {
	mediaType, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	return strings.EqualFold(strings.TrimSpace(mediaType), "application/x-www-form-urlencoded")
}

func formOf(values url.Values) (*form, error) {
	f := formPool.Get().(*form)
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

// parseForm splits a body into parameters. Those that need no decoding share the
// body's memory.
func parseForm(body string) (*form, error) {
	f := formPool.Get().(*form)
	for body != "" {
		var pair string
		pair, body, _ = strings.Cut(body, "&")
		if pair == "" {
			continue
		}
		rawName, rawValue, _ := strings.Cut(pair, "=")
		name, err1 := unescape(rawName)
		value, err2 := unescape(rawValue)
		if err1 != nil || err2 != nil {
			f.free()
			return nil, ErrInvalidRequest.Describe("the body is not a well-formed form")
		}
		if err := f.add(name, value); err != nil {
			f.free()
			return nil, err
		}
	}
	return f, nil
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
