package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/devicegrant/devicegrant"
)

// How signing in can end without a token.
var (
	errDenied  = errors.New("denied: the device was not signed in")
	errExpired = errors.New("expired: nobody allowed the device in time; start it again for a new code")
	errStopped = errors.New("stopped before anybody decided")
)

const (
	requestTimeout  = 10 * time.Second
	slowDownStep    = 5 * time.Second // RFC 8628 section 3.5
	defaultInterval = 5               // seconds, when the server names none (RFC 8628 section 3.2)
	maxBody         = 64 << 10        // bytes of an answer
)

// device is a client that can show text and reach the server, and no more.
type device struct {
	client   *http.Client
	clientID string
	server   metadata
	verifier string // Whoever steals the device code does not know it (RFC 7636).
}

// metadata is what the device needs of the server's metadata (RFC 8414).
type metadata struct {
	DeviceAuthorization string `json:"device_authorization_endpoint"`
	Token               string `json:"token_endpoint"`
	Userinfo            string `json:"userinfo_endpoint"`
}

// authorization is the device authorization response (RFC 8628 section 3.2).
type authorization struct {
	DeviceCode              string `json:"device_code"`
	UserCode                string `json:"user_code"`
	VerificationURI         string `json:"verification_uri"`
	VerificationURIComplete string `json:"verification_uri_complete"`
	ExpiresIn               int    `json:"expires_in"`
	Interval                int    `json:"interval"`
}

// oauthError is an error response (RFC 6749 section 5.2).
type oauthError struct {
	Code     string `json:"error"`
	Interval int    `json:"interval"` // in force from now on, where slow_down says so
}

func (e *oauthError) Error() string { return "the server answered " + e.Code }

// signIn asks for codes, shows them, waits for a person to decide, and greets them.
func signIn(ctx context.Context, out io.Writer, client *http.Client, origin string) error {
	d := device{client: client, clientID: "tv", verifier: newVerifier()}
	err := d.get(ctx, origin+"/.well-known/oauth-authorization-server", "", &d.server)
	if err != nil {
		return err
	}
	var a authorization
	err = d.post(ctx, d.server.DeviceAuthorization, url.Values{
		"device_name":           {"Quickstart"},
		"code_challenge":        {challenge(d.verifier)},
		"code_challenge_method": {"S256"},
	}, &a)
	if err != nil {
		return err
	}
	if err = show(out, a); err != nil {
		return err
	}
	accessToken, err := d.poll(ctx, a)
	if err != nil {
		return err
	}
	var person struct{ Sub, Name string }
	err = d.get(ctx, d.server.Userinfo, accessToken, &person)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "Approved: the device is signed in as %s (%s).\n", person.Name, person.Sub)
	return err
}

// poll asks for the tokens until there is an answer (RFC 8628 sections 3.4 and
// 3.5). The last poll comes after the codes' end, for the server to have the last
// word about that.
func (d *device) poll(ctx context.Context, a authorization) (accessToken string, err error) {
	if a.Interval == 0 {
		a.Interval = defaultInterval
	}
	interval := seconds(a.Interval)
	for end := time.Now().Add(seconds(a.ExpiresIn)); time.Now().Before(end); {
		if err := wait(ctx, interval); err != nil {
			return "", err
		}
		var token struct {
			AccessToken string `json:"access_token"`
		}
		err := d.post(ctx, d.server.Token, url.Values{
			"grant_type":    {devicegrant.GrantType},
			"device_code":   {a.DeviceCode},
			"code_verifier": {d.verifier},
		}, &token)
		if err == nil {
			return token.AccessToken, nil
		}
		if interval, err = nextInterval(interval, err); err != nil {
			return "", err
		}
	}
	return "", errExpired
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

// nextInterval returns how long to wait after a poll that failed, or why not to
// poll again (RFC 8628 section 3.5).
func nextInterval(interval time.Duration, err error) (time.Duration, error) {
	refused, ok := errors.AsType[*oauthError](err)
	switch {
	case errors.Is(err, errStopped):
		return 0, err
	case !ok: // No answer: there may be too many who ask.
		return 2 * interval, nil
	case refused.Code == devicegrant.ErrAuthorizationPending.Code:
		return interval, nil
	case refused.Code == devicegrant.ErrSlowDown.Code:
		return max(interval+slowDownStep, seconds(refused.Interval)), nil
	case refused.Code == devicegrant.ErrAccessDenied.Code:
		return 0, errDenied
	case refused.Code == devicegrant.ErrExpiredToken.Code:
		return 0, errExpired
	default:
		return 0, err
	}
}

func (d *device) get(ctx context.Context, uri, accessToken string, answer any) error {
	header := http.Header{}
	if accessToken != "" {
		header.Set("Authorization", "Bearer "+accessToken)
	}
	return d.do(ctx, http.MethodGet, uri, header, nil, answer)
}

func (d *device) post(ctx context.Context, uri string, form url.Values, answer any) error {
	form.Set("client_id", d.clientID)
	header := http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}
	return d.do(ctx, http.MethodPost, uri, header, strings.NewReader(form.Encode()), answer)
}

// do sends a request and decodes the answer, or returns it as an oauthError.
func (d *device) do(ctx context.Context, method, uri string, header http.Header, body io.Reader, answer any) error {
	timed, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	r, err := http.NewRequestWithContext(timed, method, uri, body)
	if err != nil {
		return err
	}
	r.Header = header
	resp, err := d.client.Do(r)
	if ctx.Err() != nil {
		return errStopped
	}
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	decode := json.NewDecoder(io.LimitReader(resp.Body, maxBody)).Decode
	if resp.StatusCode == http.StatusOK {
		return decode(answer)
	}
	var refused oauthError
	if err := decode(&refused); err != nil || refused.Code == "" {
		return fmt.Errorf("%s answered %s", uri, resp.Status)
	}
	return &refused
}

func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return errStopped
	}
}

func seconds(n int) time.Duration { return time.Duration(n) * time.Second }
