package deviceclient

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"time"
)

const (
	defaultRequestTimeout = 15 * time.Second
	maxHeader             = 64 << 10 // bytes of an answer's header
	idleTimeout           = time.Minute
)

// Client signs a device in at one server. It is safe for concurrent use if its HTTPClient
// and its Prover are.
type Client struct {
	cfg  Config
	http *http.Client
	own  *http.Transport // the connections, if they are this Client's own

	mu    sync.Mutex
	known *Metadata // once it is found
	nonce string    // of the server, for the next proof (RFC 9449 section 8.2)
}

// New checks the configuration and returns a Client. It sends nothing. Its error names
// every setting that has to change.
func New(cfg Config) (*Client, error) {
	if cfg.AuthMethod == "" {
		cfg.AuthMethod = AuthBasic
	}
	if cfg.RequestTimeout == 0 {
		cfg.RequestTimeout = defaultRequestTimeout
	}
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("deviceclient: invalid Config:\n%w", err)
	}
	c := &Client{cfg: cfg, http: &http.Client{}}
	if cfg.HTTPClient != nil {
		*c.http = *cfg.HTTPClient
	} else {
		c.own = &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			ForceAttemptHTTP2:      true,
			IdleConnTimeout:        idleTimeout,
			MaxResponseHeaderBytes: maxHeader,
		}
		c.http.Transport = c.own
	}
	c.http.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return c, nil
}

// hangUp ends the connections that nobody uses, if they are the Client's own.
func (c *Client) hangUp() {
	if c.own != nil {
		c.own.CloseIdleConnections()
	}
}

func (c Config) validate() error {
	var errs []error
	if c.ClientID == "" {
		errs = append(errs, errors.New("ClientID is required; set it"))
	}
	if c.AuthMethod != AuthBasic && c.AuthMethod != AuthPost {
		errs = append(errs, fmt.Errorf("AuthMethod is %q; set it to AuthBasic or AuthPost", c.AuthMethod))
	}
	if c.RequestTimeout < 0 {
		errs = append(errs, fmt.Errorf("RequestTimeout is %v; set it above zero", c.RequestTimeout))
	}
	if c.Issuer == "" && (c.DeviceAuthorizationEndpoint == "" || c.TokenEndpoint == "") {
		errs = append(errs, errors.New("Issuer is missing; set it, or both DeviceAuthorizationEndpoint and TokenEndpoint"))
	}
	for _, s := range []struct{ name, value string }{
		{"Issuer", c.Issuer},
		{"DeviceAuthorizationEndpoint", c.DeviceAuthorizationEndpoint},
		{"TokenEndpoint", c.TokenEndpoint},
	} {
		if s.value == "" {
			continue
		}
		if err := checkEndpoint(s.value); err != nil {
			errs = append(errs, fmt.Errorf("%s %w", s.name, err))
		}
	}
	if u, err := url.Parse(c.Issuer); err == nil && u.RawQuery != "" { // RFC 8414 section 2
		errs = append(errs, errors.New("Issuer has a query; set it to the issuer identifier alone"))
	}
	return errors.Join(errs...)
}

// checkEndpoint returns what is wrong with a URL to which codes and secrets are sent.
func checkEndpoint(s string) error {
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Host == "" || u.Fragment != "" || u.User != nil:
		return fmt.Errorf("is %s; it has to be an absolute URL", quote(s))
	case u.Scheme == "https", u.Scheme == "http" && isLoopback(u.Hostname()):
		return nil
	default:
		return fmt.Errorf("is %s; it has to be https, or http on a loopback address", quote(s))
	}
}

func isLoopback(host string) bool {
	ip, _ := netip.ParseAddr(host)
	return host == "localhost" || ip.IsLoopback()
}
