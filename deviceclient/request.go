package deviceclient

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	maxBody       = 1 << 20 // bytes of an answer
	maxRetryAfter = 24 * time.Hour
)

// Why a request has no answer, or none that can be used. An [Error] is an answer.
type (
	// unansweredError: the server was not reached, or not in time.
	unansweredError struct{ cause error }
	// statusError: something answered, and not in the protocol's form.
	statusError struct {
		status     int
		from       string
		mediaType  string
		location   string // where a redirect leads
		retryAfter time.Duration
	}
	// unreadableError: the answer to a request that succeeded cannot be made sense of.
	unreadableError struct{ from, why string }
)

func (e *unansweredError) Error() string { return e.cause.Error() }
func (e *unansweredError) Unwrap() error { return e.cause }

func (e *statusError) Error() string {
	s := fmt.Sprintf("%s answered %d %s", e.from, e.status, http.StatusText(e.status))
	if e.location != "" {
		return s + " to " + e.location + ", where no code is sent"
	}
	if e.mediaType != "" {
		s += " with " + e.mediaType
	}
	return s
}

func (e *unreadableError) Error() string { return e.from + " answered what cannot be used: " + e.why }

// post sends a form as the client (RFC 6749 section 2.3.1) and returns the answer's body.
func (c *Client) post(ctx context.Context, endpoint string, form url.Values) ([]byte, error) {
	form.Set("client_id", c.cfg.ClientID)
	if c.cfg.ClientSecret != "" && c.cfg.AuthMethod == AuthPost {
		form.Set("client_secret", c.cfg.ClientSecret)
	}
	body, err := c.postOnce(ctx, endpoint, form)
	if refused, ok := errors.AsType[*Error](err); ok && refused.Code == "use_dpop_nonce" && c.cfg.DPoP != nil {
		return c.postOnce(ctx, endpoint, form) // With the nonce that came along (RFC 9449 section 8).
	}
	return body, err
}

func (c *Client) postOnce(ctx context.Context, endpoint string, form url.Values) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if c.cfg.ClientSecret != "" && c.cfg.AuthMethod == AuthBasic {
		r.SetBasicAuth(url.QueryEscape(c.cfg.ClientID), url.QueryEscape(c.cfg.ClientSecret))
	}
	if err := c.prove(r); err != nil {
		return nil, err
	}
	return c.send(r)
}

// prove adds a DPoP proof, if there is a key (RFC 9449 section 4).
func (c *Client) prove(r *http.Request) error {
	if c.cfg.DPoP == nil {
		return nil
	}
	target := *r.URL
	target.RawQuery = ""
	c.mu.Lock()
	nonce := c.nonce
	c.mu.Unlock()
	proof, err := c.cfg.DPoP.Proof(r.Context(), r.Method, target.String(), nonce)
	if err != nil {
		return fmt.Errorf("making a DPoP proof: %w", err)
	}
	r.Header.Set("DPoP", proof)
	return nil
}

// send sends a request and returns the body of an answer with status 200. Its other
// answers are errors: an [Error] in the protocol's form, or one of the above.
func (c *Client) send(r *http.Request) ([]byte, error) {
	timed, cancel := context.WithTimeout(r.Context(), c.cfg.RequestTimeout)
	defer cancel()
	r.Header.Set("Accept", "application/json")
	resp, err := c.http.Do(r.WithContext(timed))
	if err != nil {
		return nil, c.unanswered(timed, err)
	}
	defer resp.Body.Close()
	if nonce := resp.Header.Get("DPoP-Nonce"); nonce != "" {
		c.mu.Lock()
		c.nonce = nonce
		c.mu.Unlock()
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
	switch {
	case resp.StatusCode != http.StatusOK:
		return nil, refusal(resp, body, time.Now())
	case timed.Err() != nil:
		return nil, c.unanswered(timed, err)
	case err != nil:
		return nil, &unreadableError{name(r.URL), "it ends too early"}
	case len(body) > maxBody:
		return nil, &unreadableError{name(r.URL), "it is too long"}
	}
	return body, nil
}

// unanswered says of a request that ran out of time no more than that: the context of the
// caller did not end.
func (c *Client) unanswered(timed context.Context, err error) error {
	if errors.Is(timed.Err(), context.DeadlineExceeded) {
		err = fmt.Errorf("no answer within %v", c.cfg.RequestTimeout)
	}
	return &unansweredError{err}
}

// refusal is what an answer with another status than 200 says.
func refusal(resp *http.Response, body []byte, now time.Time) error {
	var answer struct {
		Code        string          `json:"error"`
		Description string          `json:"error_description"`
		Interval    json.RawMessage `json:"interval"`
	}
	after := retryAfter(resp.Header, now)
	if resp.StatusCode >= 400 && json.Unmarshal(body, &answer) == nil && answer.Code != "" {
		interval, _ := seconds(answer.Interval) // What it cannot be is not believed.
		return &Error{
			StatusCode:  resp.StatusCode,
			Code:        clean(answer.Code),
			Description: clean(answer.Description),
			RetryAfter:  after,
			interval:    interval,
		}
	}
	e := &statusError{status: resp.StatusCode, from: name(resp.Request.URL), retryAfter: after}
	e.mediaType, _, _ = mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if location, err := resp.Location(); err == nil && resp.StatusCode/100 == 3 {
		e.location = name(location)
	}
	return e
}

// retryAfter is how long the server wants to be left alone (RFC 9110 section 10.2.3). A
// date is compared with the server's own, for a device's clock may be wrong.
func retryAfter(h http.Header, now time.Time) time.Duration {
	value := h.Get("Retry-After")
	if n, err := strconv.ParseUint(value, 10, 32); err == nil {
		return min(time.Duration(n)*time.Second, maxRetryAfter)
	}
	until, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	if date, err := http.ParseTime(h.Get("Date")); err == nil {
		now = date
	}
	return min(max(0, until.Sub(now)), maxRetryAfter)
}

// name is what errors call a URL: without what may be in its query.
func name(u *url.URL) string { return clean(u.Scheme + "://" + u.Host + u.EscapedPath()) }
