package deviceclient

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"net/url"
	"strings"
	"time"
)

const (
	defaultInterval = 5 * time.Second // RFC 8628 section 3.2
	minInterval     = time.Second     // whatever the server allows
	maxLifetime     = 7 * 24 * time.Hour

	// Bytes that a server may send of each.
	maxURI        = 2048
	maxUserCode   = 64
	maxDeviceCode = 4096
)

// Authorization is a device authorization response (RFC 8628 section 3.2). UserCode and
// VerificationURI are for the person, or VerificationURIComplete, as a QR code for one. They
// hold no control characters.
//
// A device that may be switched off meanwhile can keep it as JSON, as secretly as tokens,
// and go on with Poll later. It prints and logs without its secrets.
type Authorization struct {
	// DeviceCode is the device's own, for Poll. Nobody else may see it.
	DeviceCode string
	// UserCode is what the person types.
	UserCode string
	// VerificationURI is where they type it.
	VerificationURI string
	// VerificationURIComplete is where the code is filled in already. Empty if the server
	// has none: then the person has to type.
	VerificationURIComplete string
	// ExpiresIn is how long the codes live, from when the server answered.
	ExpiresIn time.Duration
	// Interval is the least time between two polls.
	Interval time.Duration
	// CodeVerifier is what the code is bound to (RFC 7636), as secret as DeviceCode; empty
	// with Config.NoPKCE.
	CodeVerifier string

	started time.Time // with a monotonic reading; zero in one that was made by hand
}

// Start asks for codes (RFC 8628 section 3.1), after discovery if there is an Issuer. It
// tries once, for whoever sees the error knows best when to try again; RetryAfter of an
// [Error] in it says when the server wants to be asked.
func (c *Client) Start(ctx context.Context) (*Authorization, error) {
	a, err := c.start(ctx)
	if err != nil {
		c.hangUp()
		return nil, failed(ctx, err)
	}
	return a, nil
}

func (c *Client) start(ctx context.Context) (*Authorization, error) {
	server, err := c.metadata(ctx)
	if err != nil {
		return nil, err
	}
	form := url.Values{}
	maps.Copy(form, c.cfg.Parameters)
	if len(c.cfg.Scopes) > 0 {
		form.Set("scope", strings.Join(c.cfg.Scopes, " "))
	}
	var verifier string
	if !c.cfg.NoPKCE {
		verifier = newVerifier()
		form.Set("code_challenge", challenge(verifier))
		form.Set("code_challenge_method", "S256")
	}
	if c.cfg.DPoP != nil {
		form.Set("dpop_jkt", c.cfg.DPoP.Thumbprint())
	}
	body, err := c.post(ctx, server.DeviceAuthorizationEndpoint, form)
	if err != nil {
		return nil, err
	}
	a, err := parseAuthorization(body, time.Now())
	if err != nil {
		return nil, &unreadableError{from: server.DeviceAuthorizationEndpoint, why: err.Error()}
	}
	a.CodeVerifier = verifier
	return a, nil
}

// newVerifier returns a code verifier, and challenge what may be known of it (RFC 7636
// sections 4.1 and 4.2).
func newVerifier() string {
	secret := make([]byte, 32)
	_, _ = rand.Read(secret) // It never fails.
	return base64.RawURLEncoding.EncodeToString(secret)
}

func challenge(verifier string) string {
	sum := sha256.Sum256([]byte(verifier))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// wireAuthorization is the answer as it is sent, and as it is kept, with the verifier.
type wireAuthorization struct {
	DeviceCode              string          `json:"device_code"`
	UserCode                string          `json:"user_code"`
	VerificationURI         string          `json:"verification_uri,omitempty"`
	VerificationURL         string          `json:"verification_url,omitempty"` // what drafts called it, and some servers do still
	VerificationURIComplete string          `json:"verification_uri_complete,omitempty"`
	ExpiresIn               json.RawMessage `json:"expires_in"`
	Interval                json.RawMessage `json:"interval,omitempty"`
	CodeVerifier            string          `json:"code_verifier,omitempty"`
}

// MarshalJSON writes what UnmarshalJSON reads, the secrets with it.
func (a Authorization) MarshalJSON() ([]byte, error) {
	return json.Marshal(wireAuthorization{
		DeviceCode:              a.DeviceCode,
		UserCode:                a.UserCode,
		VerificationURI:         a.VerificationURI,
		VerificationURIComplete: a.VerificationURIComplete,
		ExpiresIn:               wholeSeconds(a.ExpiresIn),
		Interval:                wholeSeconds(a.Interval),
		CodeVerifier:            a.CodeVerifier,
	})
}

func wholeSeconds(d time.Duration) json.RawMessage {
	return fmt.Appendf(nil, "%.0f", math.Ceil(d.Seconds()))
}

// UnmarshalJSON reads a device authorization response, or what MarshalJSON wrote, and
// refuses what no device could use. ExpiresIn counts from now: what the clock said when it
// was written does not matter, and in doubt the server has the last word.
func (a *Authorization) UnmarshalJSON(b []byte) error {
	read, err := parseAuthorization(b, time.Now())
	if err != nil {
		return fmt.Errorf("deviceclient: %w", err)
	}
	*a = *read
	return nil
}

// parseAuthorization reads what came, or was read again, at a time.
func parseAuthorization(b []byte, now time.Time) (*Authorization, error) {
	var w wireAuthorization
	if json.Unmarshal(b, &w) != nil {
		return nil, errors.New("it is no device authorization response") // The error of JSON might quote a code.
	}
	if w.VerificationURI == "" {
		w.VerificationURI = w.VerificationURL
	}
	a := &Authorization{
		DeviceCode:              w.DeviceCode,
		UserCode:                w.UserCode,
		VerificationURI:         w.VerificationURI,
		VerificationURIComplete: w.VerificationURIComplete,
		CodeVerifier:            w.CodeVerifier,
		started:                 now,
	}
	complete := cmp.Or(w.VerificationURIComplete, w.VerificationURI) // It is optional.
	err := cmp.Or(
		checkText("device_code", w.DeviceCode, maxDeviceCode),
		checkText("user_code", w.UserCode, maxUserCode),
		checkShownURI("verification_uri", w.VerificationURI),
		checkShownURI("verification_uri_complete", complete),
		a.readTimes(w),
	)
	if err != nil {
		return nil, err
	}
	return a, nil
}

// readTimes takes over how long the codes live, and how often the device may poll.
func (a *Authorization) readTimes(w wireAuthorization) (err error) {
	if a.ExpiresIn, err = seconds(w.ExpiresIn); err != nil {
		return fmt.Errorf("expires_in %w", err)
	}
	if a.Interval, err = seconds(w.Interval); err != nil {
		return fmt.Errorf("interval %w", err)
	}
	if a.Interval == 0 {
		a.Interval = defaultInterval
	}
	a.Interval = max(a.Interval, minInterval)
	switch {
	case a.ExpiresIn == 0:
		return errors.New("expires_in is missing or zero")
	case a.ExpiresIn > maxLifetime:
		return fmt.Errorf("expires_in is %v, and more than %v is not believed", a.ExpiresIn, maxLifetime)
	case a.Interval > a.ExpiresIn:
		return fmt.Errorf("interval is %v, and the codes expire after %v already", a.Interval, a.ExpiresIn)
	}
	return nil
}

// Left returns how long the codes are still good for at a time, by this device's clock;
// zero if they are not. Setting the clock does not change it, for a time of time.Now.
func (a *Authorization) Left(now time.Time) time.Duration {
	if a.started.IsZero() {
		return a.ExpiresIn
	}
	return max(0, a.ExpiresIn-now.Sub(a.started))
}

// LogValue leaves out what is secret.
func (a Authorization) LogValue() slog.Value {
	return slog.GroupValue(
		slog.String("verification_uri", a.VerificationURI),
		slog.Duration("expires_in", a.ExpiresIn),
		slog.Duration("interval", a.Interval),
	)
}

// String leaves out what is secret.
func (a Authorization) String() string { return a.LogValue().String() }

// GoString leaves out what is secret.
func (a Authorization) GoString() string { return a.String() }
