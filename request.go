package devicegrant

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"
)

// This file is what a client may ask for: scopes (RFC 6749 section 3.3), resources (RFC
// 8707) and authorization details (RFC 9396).

// What is kept of a request, in bytes.
const (
	maxResource = 4 << 10
	maxDetails  = 16 << 10
)

// grantScope returns the scope that the client gets when it asks for scope
// (RFC 6749 section 3.3): each token once.
func (c Client) grantScope(scope string) (string, error) {
	var few [8]string // As many as most ask for.
	asked := append(few[:0], c.DefaultScopes...)
	if scope != "" {
		asked = few[:0]
		for token := range strings.SplitSeq(scope, " ") {
			asked = append(asked, token)
		}
	}
	granted := asked[:0]
	for _, token := range asked {
		switch {
		case scope != "" && !slices.Contains(c.Scopes, token):
			return "", ErrInvalidScope.Describe("the client may not ask for scope %s", token)
		case !slices.Contains(granted, token):
			granted = append(granted, token)
		}
	}
	if scope != "" && len(granted) == len(asked) {
		return scope, nil
	}
	return strings.Join(granted, " "), nil
}

// grantResource returns the resources that the client asks for, each once, as a Grant has
// them (RFC 8707 section 2).
func (c Client) grantResource(resources []string) (string, error) {
	granted := make([]string, 0, len(resources))
	for _, r := range resources {
		u, err := url.Parse(r)
		switch {
		case err != nil || !u.IsAbs() || strings.ContainsAny(r, "# "):
			return "", ErrInvalidTarget.Describe("a resource must be an absolute URI without a fragment")
		case !slices.Contains(c.Resources, r):
			return "", ErrInvalidTarget.Describe("the client may not ask for resource %s", r)
		case !slices.Contains(granted, r):
			granted = append(granted, r)
		}
	}
	joined := strings.Join(granted, " ")
	if len(joined) > maxResource {
		return "", ErrInvalidTarget.Describe("the resources have more than %d bytes together", maxResource)
	}
	return joined, nil
}

// checkDetails checks that the client may ask for authorization details, and that they
// say the same to whoever reads them (RFC 9396 sections 2 and 5).
func (c Client) checkDetails(details string) error {
	if details == "" {
		return nil
	}
	if len(details) > maxDetails {
		return ErrInvalidAuthorizationDetails.Describe("authorization_details has more than %d bytes", maxDetails)
	}
	if err := checkJSON(details); err != nil {
		return ErrInvalidAuthorizationDetails.Describe("authorization_details is not well-formed JSON that can be read in one way only").Because(err)
	}
	var objects []map[string]json.RawMessage
	if err := json.Unmarshal([]byte(details), &objects); err != nil || objects == nil {
		return ErrInvalidAuthorizationDetails.Describe("authorization_details must be an array of objects").Because(err)
	}
	for _, object := range objects {
		var kind string
		if err := json.Unmarshal(object["type"], &kind); err != nil {
			return ErrInvalidAuthorizationDetails.Describe("each of authorization_details must have a type")
		}
		if !slices.Contains(c.AuthorizationDetailsTypes, kind) {
			return ErrInvalidAuthorizationDetails.Describe("the client may not ask for authorization details of type %s", kind)
		}
	}
	return nil
}

// checkJSON refuses what one reader may take for something else than another: text that is
// not UTF-8, and a name that occurs twice in an object.
func checkJSON(s string) error {
	if !utf8.ValidString(s) {
		return errors.New("it is not UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader([]byte(s)))
	d.UseNumber()
	if err := checkValue(d); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows it")
	}
	return nil
}

// checkValue reads one value. It nests no deeper than there are bytes, maxDetails.
func checkValue(d *json.Decoder) error {
	token, err := d.Token()
	if err != nil {
		return err
	}
	open, ok := token.(json.Delim)
	if !ok {
		return nil
	}
	seen := make(map[string]bool)
	for d.More() {
		if open == '{' {
			token, err := d.Token()
			if err != nil {
				return err
			}
			name, _ := token.(string)
			if seen[name] {
				return errors.New("a name occurs twice")
			}
			seen[name] = true
		}
		if err := checkValue(d); err != nil {
			return err
		}
	}
	_, err = d.Token() // The closing one.
	return err
}
