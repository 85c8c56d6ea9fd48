package devicegrant

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"
)

// AuthMethod is how a client presented itself; the names are those of
// token_endpoint_auth_method (RFC 7591 section 2).
type AuthMethod string

// The methods that [ClientCredentials] reads.
const (
	// AuthNone: a public client, by client_id alone.
	AuthNone AuthMethod = "none"
	// AuthBasic: HTTP Basic.
	AuthBasic AuthMethod = "client_secret_basic"
	// AuthPost: client_id and client_secret in the body.
	AuthPost AuthMethod = "client_secret_post"
)

// Credentials are how the client of a request presented itself (RFC 6749 section
// 2.3.1). Nothing in them has been verified.
type Credentials struct {
	// ID is the client_id.
	ID string
	// Secret is the client secret; empty with AuthNone.
	Secret string
	// Method is where ID and Secret came from.
	Method AuthMethod
	// Request is the request, for other ways to authenticate, such as mutual TLS.
	// Its body has been read; use Parameter.
	Request *http.Request

	form *form
}

// Parameter returns a parameter of the request's body, such as client_assertion;
// empty if it is absent. It must not be called after AuthenticateClient returns.
func (c Credentials) Parameter(name string) string { return c.form.get(name) }

// ClientCredentials reads the credentials of a token or device authorization
// request from its Authorization header or its body, as RFC 6749 section 2.3.1
// says. It is for the host's own endpoints; the handlers of this package use it
// before they call AuthenticateClient. r's form must have been parsed
// ([http.Request.ParseForm]).
//
// Both ways at once are ErrInvalidRequest, and so is a client_id that contradicts
// the header. Basic with an empty password is a public client: some OAuth clients
// send it for want of a secret, with or without a client_id in the body.
func ClientCredentials(r *http.Request) (Credentials, error) {
	f, err := formOf(r.PostForm, paramResource)
	if err != nil {
		return Credentials{}, err
	}
	return credentials(r, f)
}

func credentials(r *http.Request, f *form) (Credentials, error) {
	c := Credentials{ID: f.get("client_id"), Secret: f.get("client_secret"), Method: AuthNone, Request: r, form: f}
	if c.Secret != "" {
		c.Method = AuthPost
	}
	id, secret, ok, err := basic(r)
	if err != nil {
		return c, err
	}
	if ok {
		if c.ID != "" && c.ID != id {
			return c, ErrInvalidRequest.Describe("client_id contradicts the Authorization header")
		}
		if c.Secret != "" {
			return c, ErrInvalidRequest.Describe("client credentials are given twice")
		}
		c.ID = id
		if secret != "" {
			c.Secret, c.Method = secret, AuthBasic
		}
	}
	if c.ID == "" {
		return c, ErrInvalidRequest.Describe("client_id is missing")
	}
	return c, nil
}

// basic reads HTTP Basic credentials. Both parts are form-encoded inside (RFC 6749
// section 2.3.1). Another scheme is none of our business.
func basic(r *http.Request) (id, secret string, ok bool, err error) {
	scheme, encoded := cut(header(r, "Authorization"), ' ')
	if !strings.EqualFold(scheme, "Basic") {
		return "", "", false, nil
	}
	raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(encoded))
	id, secret, ok = strings.Cut(string(raw), ":")
	if err != nil || !ok {
		return "", "", false, errMalformedBasic
	}
	id, err1 := url.QueryUnescape(id)
	secret, err2 := url.QueryUnescape(secret)
	if err1 != nil || err2 != nil || id == "" {
		return "", "", false, errMalformedBasic
	}
	return id, secret, true, nil
}

var errMalformedBasic = ErrInvalidClient.Describe("the Authorization header is malformed")
