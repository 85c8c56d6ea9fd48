// Package devicegrant adds the OAuth 2.0 Device Authorization Grant (RFC 8628) to
// an authorization server that exists already: the flow in which a TV, a command
// line or a sensor shows a short code and a person approves it on another device.
//
// Start with [New], [Config] and three handlers on your own mux:
//
//	grant, err := devicegrant.New(devicegrant.Config{…})
//	mux.Handle("/device_authorization", grant.DeviceAuthorizationHandler())
//	mux.Handle("/token", grant.TokenHandler(yourTokenEndpoint))
//	mux.Handle("/device", grant.VerificationHandler())
//
// Client registry, login and token issuing stay yours; the callbacks of Config
// lead to them. Grants are kept in a [Store]; package memstore has one for a
// single process. Whoever wants other transports or pages calls [Server.Authorize],
// [Server.Poll], [Server.Lookup], [Server.Approve] and [Server.Deny].
//
// What is enforced: an approved code is redeemed once, whatever races; no poll can
// undo a decision; polling is paced per code (RFC 8628 section 3.5); wrong user
// codes are limited, and New refuses a configuration in which they could be guessed
// (section 5.1). What remains the host's: TLS, its login, and the life of the tokens
// it issues.
package devicegrant

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// GrantType is the grant_type of the token request (RFC 8628 section 3.4).
const GrantType = "urn:ietf:params:oauth:grant-type:device_code"

// Config configures a [Server]. Store, Keys, VerificationURI, AuthenticateClient,
// SignedIn and IssueToken are required; the zero value of everything else is a
// sensible default.
//
// Callbacks are called concurrently. Where one returns an *[Error], the client is
// answered with it; any other error is logged and never shown.
type Config struct {
	// Store keeps the grants.
	Store Store

	// Keys protect codes: each at least 32 random bytes, the same on every
	// replica. The first makes, all of them verify: to rotate, add a new key last
	// on every replica, then put it first on every replica, and drop the old one
	// two lifetimes later: of the longest that Client or Policy gives.
	Keys [][]byte

	// VerificationURI is where people enter codes: the absolute URL at which
	// VerificationHandler is mounted. It should be short, for it is typed by hand.
	// It must be https, or http on a loopback address.
	VerificationURI string

	// DeviceAuthorizationEndpoint is the absolute URL at which
	// DeviceAuthorizationHandler is mounted, for Metadata; empty leaves it out.
	DeviceAuthorizationEndpoint string

	// AuthenticateClient identifies the client of a request, and checks its
	// secret if it has one (RFC 8628 sections 3.1 and 3.4). It returns
	// ErrInvalidClient when there is no such client or its secret is wrong.
	AuthenticateClient func(ctx context.Context, c Credentials) (Client, error)

	// Client returns a registered client by its id, for the verification page to
	// name it. When nil, the page names clients by their id.
	Client func(ctx context.Context, clientID string) (Client, error)

	// SignedIn returns the subject who is signed in at the browser that made r.
	// When nobody is, it sends the browser to the login, with status 303, such that
	// it comes back to returnTo (a path and query on this server), and reports
	// false.
	SignedIn func(w http.ResponseWriter, r *http.Request, returnTo string) (subject string, ok bool)

	// AccountName returns what a subject calls themselves, such as a user name or a
	// mail address, for the page to say who is signed in. When nil, it shows the
	// subject.
	AccountName func(ctx context.Context, subject string) (string, error)

	// SwitchAccount sends the browser, with status 303, to where another account can be
	// chosen, such that it comes back to returnTo. When nil, the page does not offer
	// it.
	SwitchAccount func(w http.ResponseWriter, r *http.Request, returnTo string)

	// Place says where an address is, in words that people understand, such as a town
	// and a country; empty when that is not known. The page shows it for both sides,
	// and warns when they differ. When nil, it compares networks.
	Place func(ctx context.Context, addr netip.Addr) string

	// Risk decides whether a person is asked at all, and whether they are warned
	// (RFC 8628 section 5.4, RFC 10027). It is asked again when they say yes. When nil,
	// everybody is asked.
	Risk func(ctx context.Context, s Situation) (Verdict, error)

	// ProvenKey returns the key that a request to either endpoint proves to hold, by a
	// DPoP proof (RFC 9449; see the module dpop) or by mutual TLS (RFC 8705; see
	// [CertificateKey]); the zero Key if it proves none. It may set headers of the answer,
	// such as DPoP-Nonce, but must not write to w. The body of r has been read. A key of
	// the device authorization request is demanded of every poll. When nil, no key is
	// known.
	ProvenKey func(w http.ResponseWriter, r *http.Request) (Key, error)

	// Policy decides what a device gets: lifetime, interval, scope, and what it has to
	// prove. When nil, everything is as Client and Config say.
	Policy Policy

	// Issuance limits how many grants are created.
	Issuance Issuance

	// AllowedOrigin reports whether any client has an origin (see Client.Origins), for
	// browsers to ask whether pages there may use the two endpoints (CORS). When nil, none
	// may.
	AllowedOrigin func(ctx context.Context, origin string) bool

	// NarrowScopes lets people untick scopes that they do not want to allow, but for
	// Client.RequiredScopes.
	NarrowScopes bool

	// ConfirmCode demands that the person ticks that the code is shown on their own
	// device before they can allow anything.
	ConfirmCode bool

	// DenyOnLeave denies when the page that asks is closed or left without a decision,
	// so that the device need not wait for the deadline. It takes JavaScript; without it,
	// nothing changes.
	DenyOnLeave bool

	// Page is how the verification page looks.
	Page Page

	// IssueToken makes the tokens for an approved grant. It is called at most
	// once at a time for a grant, and never again once it has succeeded. When it
	// fails, the login goes on and the next poll tries again, unless the error
	// is an *Error, which is what the client is told. So an error has to mean that
	// nothing was issued; who cannot know, because a database did not answer, has a
	// Store that is a Redeemer, or replaces what it may have issued for Grant.ID. It
	// must return within ClaimTimeout; its context ends then.
	IssueToken func(ctx context.Context, g *Grant) (*Token, error)

	// Lifetime is how long a code can be used, in whole seconds (expires_in, RFC
	// 8628 section 3.2). Zero means 15 minutes.
	Lifetime time.Duration

	// Interval is the least time between two polls, in whole seconds (interval,
	// RFC 8628 section 3.2). Zero means 5 seconds.
	Interval time.Duration

	// ClaimTimeout is how long issuing tokens may take. A grant whose claim has
	// not ended by then, because the process died, is expired; with a Store that is
	// a Redeemer, it can be redeemed again. Zero means 30 seconds.
	ClaimTimeout time.Duration

	// UserCode is what user codes look like. The zero value means Base20.
	UserCode UserCodeFormat

	// Guessing limits wrong user codes.
	Guessing Guessing

	// TrustedProxies are the addresses of reverse proxies whose Forwarded and
	// X-Forwarded-For headers say where a request came from. When empty, those
	// headers are ignored. A request with both headers that disagree counts as the
	// proxy's own.
	TrustedProxies []netip.Prefix

	// OnEvent, when set, is told what happens. It is called inline and should
	// return at once.
	OnEvent func(ctx context.Context, e Event)

	// Logger logs what an operator has to know. Nil means slog.Default().
	Logger *slog.Logger
}

// Client is a registered client.
type Client struct {
	// ID is the client_id.
	ID string
	// Name is shown to people. Empty shows the ID.
	Name string
	// DeviceGrant permits this grant to the client. A client without it is
	// answered unauthorized_client.
	DeviceGrant bool
	// Scopes are what the client may ask for. Asking for anything else is
	// invalid_scope.
	Scopes []string
	// DefaultScopes are used when the client asks for none (RFC 6749 section 3.3).
	DefaultScopes []string
	// RequiredScopes are those of the Scopes that a person cannot untick, with
	// Config.NarrowScopes.
	RequiredScopes []string
	// Resources are the resources that the client may ask for tokens for, each exactly as
	// it is sent (RFC 8707). Asking for any other is invalid_target.
	Resources []string
	// AuthorizationDetailsTypes are the types of authorization_details that the client
	// may ask for (RFC 9396 section 10). Asking for any other is
	// invalid_authorization_details. What else is in them, Config.Policy can check.
	AuthorizationDetailsTypes []string
	// RequireChallenge demands a code challenge (RFC 7636), and RequireKey a key (see
	// Config.ProvenKey), of every device authorization request.
	RequireChallenge, RequireKey bool
	// Lifetime and Interval replace those of Config, in whole seconds; zero leaves them.
	Lifetime, Interval time.Duration
	// Quota replaces Config.Issuance.PerClient for this client, and AddressQuota the
	// quota of every address for its requests, which are then counted apart from those of
	// other clients. Zero leaves them.
	Quota, AddressQuota Quota
	// Origins are the web origins, such as https://tv.example.com, whose pages may use the
	// two endpoints as this client. See Config.AllowedOrigin.
	Origins []string
	// NoCompleteURI leaves verification_uri_complete out, so that the person has to
	// type the code (RFC 8628 section 3.3.1).
	NoCompleteURI bool
}

func (c Client) displayName() string {
	if c.Name != "" {
		return c.Name
	}
	return c.ID
}

// Server is the device authorization grant of one authorization server. It is
// safe for concurrent use and starts no goroutine.
type Server struct {
	cfg  Config
	keys keyring

	redeemer Redeemer // the Store, if it is one
	sending  sync.Map // device codes whose answer is being sent by this process

	issuance  *issuance
	guesses   *guesses
	pressured atomic.Int64 // when EventGuessPressure was raised last, in microseconds

	pages       *pages
	cookie      string // the name of the page's cookie
	verifyPath  string // VerificationURI as a path and query
	completeURI string // VerificationURI up to the value of user_code
	resumePath  string // verifyPath up to the value of resume

	now    func() time.Time
	random io.Reader
}

// New checks the configuration and returns a Server. Its error names every
// setting that has to change.
func New(cfg Config) (*Server, error) {
	cfg = cfg.withDefaults()
	keys, keyErr := newKeyring(cfg.Keys)
	uri, uriErr := parseVerificationURI(cfg.VerificationURI)
	pages, pageErr := newPages(cfg.Page, uri.RequestURI(), cfg.UserCode, cfg.NarrowScopes)
	if err := errors.Join(cfg.validate(), keyErr, uriErr, pageErr); err != nil {
		return nil, fmt.Errorf("devicegrant: invalid Config:\n%w", err)
	}
	cfg.Keys = nil // What was derived from them is enough.
	redeemer, _ := cfg.Store.(Redeemer)
	return &Server{
		cfg:         cfg,
		keys:        keys,
		redeemer:    redeemer,
		issuance:    newIssuance(cfg.Issuance, cfg.Lifetime),
		guesses:     newGuesses(cfg.Guessing, cfg.Lifetime, cfg.Store),
		pages:       pages,
		cookie:      cookieName(uri),
		verifyPath:  uri.RequestURI(),
		completeURI: withParameter(uri.String(), "user_code"),
		resumePath:  withParameter(uri.RequestURI(), "resume"),
		now:         now,
		random:      rand.Reader,
	}, nil
}

// now is the time as every Store can hold it.
func now() time.Time { return time.UnixMicro(time.Now().UnixMicro()) }

func (c Config) withDefaults() Config {
	if c.Lifetime == 0 {
		c.Lifetime = 15 * time.Minute
	}
	if c.Interval == 0 {
		c.Interval = 5 * time.Second
	}
	if c.ClaimTimeout == 0 {
		c.ClaimTimeout = 30 * time.Second
	}
	if c.UserCode == (UserCodeFormat{}) {
		c.UserCode = Base20
	}
	if c.Client == nil {
		c.Client = func(_ context.Context, id string) (Client, error) { return Client{ID: id}, nil }
	}
	if c.AccountName == nil {
		c.AccountName = func(_ context.Context, subject string) (string, error) { return subject, nil }
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	c.Guessing = c.Guessing.withDefaults(c.Lifetime)
	c.Issuance = c.Issuance.withDefaults()
	return c
}

func (c Config) validate() error {
	var errs []error
	for _, required := range []struct {
		name    string
		missing bool
	}{
		{"Store", c.Store == nil},
		{"AuthenticateClient", c.AuthenticateClient == nil},
		{"SignedIn", c.SignedIn == nil},
		{"IssueToken", c.IssueToken == nil},
	} {
		if required.missing {
			errs = append(errs, fmt.Errorf("%s is required; set it", required.name))
		}
	}
	errs = append(errs, checkTimes(c.Lifetime, c.Interval))
	if c.ClaimTimeout < time.Second {
		errs = append(errs, fmt.Errorf("ClaimTimeout is %v; set it to a second or more", c.ClaimTimeout))
	}
	return errors.Join(append(errs, c.validateCodes(), c.Issuance.validate())...)
}

// validateCodes checks that user codes are well-formed and cannot be guessed.
func (c Config) validateCodes() error {
	if err := errors.Join(c.UserCode.validate(), c.Guessing.validate()); err != nil {
		return err
	}
	return c.Guessing.check(c.UserCode, c.Lifetime)
}

// GuessChances returns what guessing user codes can achieve under this
// configuration, defaults included (RFC 8628 section 5.1). New refuses what is
// above the bounds in [Guessing].
func (c Config) GuessChances() GuessChances {
	c = c.withDefaults()
	return c.Guessing.chances(c.UserCode, c.UserCode.Length, c.Lifetime, c.Guessing.MaxPending)
}

func parseVerificationURI(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.Fragment != "" {
		return &url.URL{}, fmt.Errorf("VerificationURI is %q; set it to the absolute URL of the verification page", s)
	}
	ip, _ := netip.ParseAddr(u.Hostname())
	loopback := u.Hostname() == "localhost" || ip.IsLoopback()
	if u.Scheme != "https" && (u.Scheme != "http" || !loopback) {
		return u, fmt.Errorf("VerificationURI is %q; it must be https, or http on a loopback address", s)
	}
	return u, nil
}

// withParameter returns uri, whatever query it has, up to and with "name=".
func withParameter(uri, name string) string {
	sep := "?"
	if strings.Contains(uri, "?") {
		sep = "&"
	}
	return uri + sep + name + "="
}
