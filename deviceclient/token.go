package deviceclient

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/url"
	"strings"
	"time"
)

// grantType is that of the token request (RFC 8628 section 3.4).
const grantType = "urn:ietf:params:oauth:grant-type:device_code"

// Token is a token response (RFC 6749 section 5.1). It prints and logs without its
// secrets.
type Token struct {
	// AccessToken opens what the person allowed. It is never empty.
	AccessToken string
	// TokenType is how the access token is used, such as Bearer (RFC 6750) or DPoP (RFC
	// 9449), as the server wrote it.
	TokenType string
	// RefreshToken is empty if there is none.
	RefreshToken string
	// Expiry is when the access token expires, by this device's clock; zero if the server
	// did not say.
	Expiry time.Time
	// Scope is what was allowed, space-separated: what was asked for if the server did
	// not say (RFC 6749 section 5.1).
	Scope string
	// Parameters are the whole answer, with what has no field above, such as id_token.
	Parameters map[string]any
}

// poll asks for the token once (RFC 8628 section 3.4).
func (c *Client) poll(ctx context.Context, a *Authorization) (*Token, error) {
	server, err := c.metadata(ctx)
	if err != nil {
		return nil, err
	}
	form := url.Values{"grant_type": {grantType}, "device_code": {a.DeviceCode}}
	if a.CodeVerifier != "" {
		form.Set("code_verifier", a.CodeVerifier)
	}
	body, err := c.post(ctx, server.TokenEndpoint, form)
	if err != nil {
		return nil, err
	}
	token, why := parseToken(body, time.Now())
	if why != "" {
		return nil, &unreadableError{from: server.TokenEndpoint, why: why}
	}
	if token.Scope == "" {
		token.Scope = strings.Join(c.cfg.Scopes, " ")
	}
	return token, nil
}

// parseToken reads a token response that came at a time, or says why it is none. A
// lifetime that makes no sense is not worth losing the token for.
func parseToken(body []byte, now time.Time) (t *Token, why string) {
	var w struct {
		AccessToken  string          `json:"access_token"`
		TokenType    string          `json:"token_type"`
		RefreshToken string          `json:"refresh_token"`
		Scope        string          `json:"scope"`
		ExpiresIn    json.RawMessage `json:"expires_in"`
	}
	var all map[string]any
	if json.Unmarshal(body, &w) != nil || json.Unmarshal(body, &all) != nil {
		return nil, "it is no token response"
	}
	switch {
	case w.AccessToken == "":
		return nil, "access_token is missing"
	case w.TokenType == "":
		return nil, "token_type is missing"
	}
	t = &Token{
		AccessToken:  w.AccessToken,
		TokenType:    w.TokenType,
		RefreshToken: w.RefreshToken,
		Scope:        w.Scope,
		Parameters:   all,
	}
	if life, err := seconds(w.ExpiresIn); err == nil && life > 0 {
		t.Expiry = now.Add(life)
	}
	return t, ""
}

// LogValue leaves out what is secret.
func (t Token) LogValue() slog.Value {
	return slog.GroupValue(
		slog.String("token_type", t.TokenType),
		slog.Time("expiry", t.Expiry),
		slog.String("scope", t.Scope),
	)
}

// String leaves out what is secret.
func (t Token) String() string { return t.LogValue().String() }

// GoString leaves out what is secret.
func (t Token) GoString() string { return t.String() }
