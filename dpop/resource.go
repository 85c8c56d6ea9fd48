package dpop

import (
	"errors"
	"net/http"
	"strings"

	"github.com/devicegrant/devicegrant"
)

// ErrNoToken is returned by Resource for a request without an access token of the scheme
// DPoP. It has no form on the wire: such a client is told the scheme only (RFC 6750
// section 3.1).
var ErrNoToken = errors.New("dpop: the request has no access token of the scheme DPoP")

// Resource returns the access token of a request for a protected resource and the key
// that the request proves to hold (section 7.1). Neither says that the token is good:
// look it up, and compare the thumbprint in its cnf with that of the key. Answer an
// error, and ErrInvalidToken where they differ, with [Verifier.Challenge].
//
// Like ProvenKey it is called once for a request, and offers nonces.
func (v *Verifier) Resource(w http.ResponseWriter, r *http.Request) (token string, key devicegrant.Key, err error) {
	token, err = accessToken(r.Header.Values("Authorization"))
	if err != nil {
		return "", devicegrant.Key{}, err
	}
	if key, err = v.verify(w, r, &token); err != nil {
		return "", devicegrant.Key{}, err
	}
	return token, key, nil
}

// accessToken reads the Authorization header (section 7.1).
func accessToken(headers []string) (string, error) {
	if len(headers) == 0 {
		return "", ErrNoToken
	}
	if len(headers) > 1 {
		return "", ErrInvalidToken.Describe("there must be one Authorization header")
	}
	scheme, token, _ := strings.Cut(headers[0], " ")
	if !strings.EqualFold(scheme, "DPoP") {
		return "", ErrNoToken
	}
	token = strings.Trim(token, " ")
	if !token68(token) {
		return "", ErrInvalidToken.Describe("the access token is malformed")
	}
	return token, nil
}

// token68 is RFC 9110 section 11.2.
func token68(s string) bool {
	s = strings.TrimRight(s, "=")
	for i := range len(s) {
		if !unreserved(s[i]) && s[i] != '+' && s[i] != '/' {
			return false
		}
	}
	return s != ""
}

// Challenge answers a request for a protected resource that is refused because of err
// (section 7.1): with status 401, the algorithms, and the code and description of a
// *devicegrant.Error. ErrNoToken has no code. Any other error is the server's own: the
// status is 500, and nothing of it is shown.
func (v *Verifier) Challenge(w http.ResponseWriter, err error) {
	var refusal *devicegrant.Error
	if !errors.As(err, &refusal) && !errors.Is(err, ErrNoToken) {
		http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
		return
	}
	challenge := "DPoP "
	if refusal != nil {
		challenge += `error="` + quotable(refusal.Code) + `", `
		if refusal.Description != "" {
			challenge += `error_description="` + quotable(refusal.Description) + `", `
		}
	}
	challenge += `algs="` + strings.Join(v.algorithmNames(), " ") + `"`
	w.Header().Add("WWW-Authenticate", challenge)
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusUnauthorized)
}

// quotable keeps to what RFC 6750 section 3 allows in an error_description.
func quotable(s string) string {
	return strings.Map(func(c rune) rune {
		if c < 0x20 || c > 0x7e || c == '"' || c == '\\' {
			return '?'
		}
		return c
	}, s)
}
