package deviceclient

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// Metadata is what is known of a server (RFC 8414 section 2, RFC 8628 section 4).
type Metadata struct {
	Issuer                      string
	DeviceAuthorizationEndpoint string
	TokenEndpoint               string
	// UserinfoEndpoint is where to ask who signed in (OpenID Connect Core 1.0 section
	// 5.3). Empty if the server has none.
	UserinfoEndpoint string
	// Parameters are the whole document, unchecked; nil without Config.Issuer.
	Parameters map[string]any
}

// Metadata returns the server's metadata, with the endpoints of Config in place of its
// own, for what a program does with its tokens. The server is asked once, by whichever
// method needs it first; without Config.Issuer, it is not asked. Errors are like those of
// Start.
func (c *Client) Metadata(ctx context.Context) (Metadata, error) {
	m, err := c.metadata(ctx)
	if err != nil {
		c.hangUp()
		return Metadata{}, failed(ctx, err)
	}
	return m, nil
}

func (c *Client) metadata(ctx context.Context) (Metadata, error) {
	c.mu.Lock()
	known := c.known
	c.mu.Unlock()
	if known != nil {
		return *known, nil
	}
	var m Metadata
	if c.cfg.Issuer != "" {
		var err error
		if m, err = c.discover(ctx); err != nil {
			return Metadata{}, err
		}
	}
	m.DeviceAuthorizationEndpoint = cmp.Or(c.cfg.DeviceAuthorizationEndpoint, m.DeviceAuthorizationEndpoint)
	m.TokenEndpoint = cmp.Or(c.cfg.TokenEndpoint, m.TokenEndpoint)
	if err := m.check(); err != nil {
		return Metadata{}, err
	}
	c.mu.Lock()
	c.known = &m
	c.mu.Unlock()
	return m, nil
}

// check returns what is wrong with the endpoints.
func (m Metadata) check() error {
	for _, s := range []struct {
		name, value string
		required    bool
	}{
		{"device_authorization_endpoint", m.DeviceAuthorizationEndpoint, true},
		{"token_endpoint", m.TokenEndpoint, true},
		{"userinfo_endpoint", m.UserinfoEndpoint, false},
	} {
		if s.value == "" && s.required {
			return fmt.Errorf("the server's metadata has no %s: it does not offer this grant", s.name)
		}
		if s.value == "" {
			continue
		}
		if err := checkEndpoint(s.value); err != nil {
			return fmt.Errorf("the metadata's %s %w", s.name, err)
		}
	}
	return nil
}

// discover reads the metadata of the Issuer: from where RFC 8414 section 3.1 has it, or,
// if there is nothing there, from where OpenID Connect Discovery 1.0 section 4 has it.
func (c *Client) discover(ctx context.Context) (Metadata, error) {
	oauth, openID := wellKnown(c.cfg.Issuer)
	m, err := c.metadataAt(ctx, oauth)
	if missing, ok := errors.AsType[*statusError](err); ok && missing.status/100 == 4 {
		if m, second := c.metadataAt(ctx, openID); second == nil {
			return m, nil
		}
	}
	return m, err
}

func wellKnown(issuer string) (oauth, openID string) {
	u, err := url.Parse(issuer)
	if err != nil {
		panic(err) // New has checked it.
	}
	path := strings.TrimSuffix(u.EscapedPath(), "/")
	root := u.Scheme + "://" + u.Host
	return root + "/.well-known/oauth-authorization-server" + path, root + path + "/.well-known/openid-configuration"
}

func (c *Client) metadataAt(ctx context.Context, uri string) (Metadata, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, uri, nil)
	if err != nil {
		return Metadata{}, err
	}
	body, err := c.send(r)
	if err != nil {
		return Metadata{}, err
	}
	var w struct {
		Issuer              string `json:"issuer"`
		DeviceAuthorization string `json:"device_authorization_endpoint"`
		Token               string `json:"token_endpoint"`
		Userinfo            string `json:"userinfo_endpoint"`
	}
	var all map[string]any
	if json.Unmarshal(body, &w) != nil || json.Unmarshal(body, &all) != nil {
		return Metadata{}, &unreadableError{from: uri, why: "it is no metadata"}
	}
	if w.Issuer != c.cfg.Issuer { // RFC 8414 section 3.3
		return Metadata{}, fmt.Errorf("the metadata is that of %s and not of %s", quote(w.Issuer), quote(c.cfg.Issuer))
	}
	return Metadata{w.Issuer, w.DeviceAuthorization, w.Token, w.Userinfo, all}, nil
}
