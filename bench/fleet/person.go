package main

import (
	"context"
	"errors"
	"fmt"
	"html"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"time"
)

// account is somebody who can sign in at examples/authserver.
type account struct {
	username, password string
	entering           chan struct{} // one for each code that is being entered
}

// newAccounts returns all that there are.
func newAccounts() []account {
	return []account{
		{"alice", "wonderland", make(chan struct{}, enteredAtOnce)},
		{"bob", "builder", make(chan struct{}, enteredAtOnce)},
	}
}

// enteredAtOnce is how many codes one account may enter at the same time. The server does
// not know yet whether they are wrong and admits three (devicegrant.Guessing), but goes by
// when each of them came, which may be another order. No account has as many people
// elsewhere.
const enteredAtOnce = 2

const (
	tries = 3           // of a person whom a page fails
	pause = time.Second // between two
)

// person takes codes that devices show, one after another, until there are no more.
func (f *fleet) person(ctx context.Context, n int, who account) {
	b := &browser{f: f, client: newBrowser(f.browsers), addr: address(firstPerson + n)}
	for {
		select {
		case l, more := <-f.shown:
			if !more {
				return
			}
			f.decide(ctx, b, who, l)
		case <-ctx.Done():
			return
		}
	}
}

// decide enters a code, unless the person was kept busy until it expired.
func (f *fleet) decide(ctx context.Context, b *browser, who account, l *login) {
	timer := time.NewTimer(0)
	for range tries {
		if time.Now().After(l.expires) {
			return
		}
		step, err := b.decide(ctx, who, l)
		if err == nil {
			f.deciding.add(time.Since(l.comes))
			return
		}
		f.fault(ctx, "page: %s: %s", step, pageFault(err))
		if !sleep(ctx, timer, time.Now().Add(pause)) {
			return
		}
	}
}

// browser is that of one person. It shows one page at a time.
type browser struct {
	f      *fleet
	client *http.Client
	addr   string
	url    *url.URL
	text   string
}

// newBrowsers returns connections for browsers that lead to the server and nowhere else.
func newBrowsers(addr string, people int) *http.Transport {
	var dialer net.Dialer
	return &http.Transport{
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, network, addr)
		},
		MaxIdleConnsPerHost: people,
		IdleConnTimeout:     idleTime,
		DisableCompression:  true,
	}
}

func newBrowser(transport *http.Transport) *http.Client {
	jar, err := cookiejar.New(nil)
	if err != nil {
		panic(err) // It has no options to be wrong.
	}
	return &http.Client{Transport: transport, Jar: jar, Timeout: requestTime}
}

// decide goes from the empty form to the decision (RFC 8628 section 3.3). It returns the
// step that failed.
func (b *browser) decide(ctx context.Context, who account, l *login) (step string, err error) {
	if err := b.open(ctx, l.verificationURI); err != nil {
		return "form", err
	}
	if step, err := b.enter(ctx, who, l.userCode); err != nil {
		return step, err
	}
	action := "approve"
	if l.denies {
		action = "deny"
	}
	l.decision.Store(pressed)
	if err := b.submit(ctx, url.Values{"ticket": {b.between(`name="ticket" value="`)}, "action": {action}}); err != nil {
		return "decision", err
	}
	l.decision.Store(confirmed)
	return "", nil
}

// enter sends the code off, and signs in if need be. It returns the step that failed.
func (b *browser) enter(ctx context.Context, who account, code string) (step string, err error) {
	select {
	case who.entering <- struct{}{}:
		defer func() { <-who.entering }()
	case <-ctx.Done():
		return "code", ctx.Err()
	}
	if err := b.submit(ctx, url.Values{"user_code": {code}}); err != nil {
		return "code", err
	}
	if !strings.Contains(b.text, `name="password"`) {
		return "", nil
	}
	return "login", b.submit(ctx, url.Values{
		"username": {who.username}, "password": {who.password}, "return_to": {b.between(`name="return_to" value="`)},
	})
}

// open goes to a URL.
func (b *browser) open(ctx context.Context, uri string) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, uri, nil)
	if err != nil {
		return err
	}
	return b.load(r)
}

// submit posts fields to where the page's first form says.
func (b *browser) submit(ctx context.Context, fields url.Values) error {
	action, err := b.url.Parse(b.between(`method="post" action="`))
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, action.String(), strings.NewReader(fields.Encode()))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", formType)
	r.Header.Set("Origin", action.Scheme+"://"+action.Host)
	return b.load(r)
}

// between returns the attribute of the page that begins so; empty if there is none.
func (b *browser) between(start string) string {
	_, rest, _ := strings.Cut(b.text, start)
	value, _, _ := strings.Cut(rest, `"`)
	return html.UnescapeString(value)
}

// load follows redirects and reads the page.
func (b *browser) load(r *http.Request) error {
	r.Header.Set("X-Forwarded-For", b.addr)
	sent := time.Now()
	resp, err := b.client.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		return err
	}
	b.f.pages.add(time.Since(sent))
	b.url, b.text = resp.Request.URL, string(text)
	if resp.StatusCode != http.StatusOK {
		return &statusError{resp.StatusCode}
	}
	return nil
}

// statusError is a page that says that something is wrong.
type statusError struct{ status int }

func (e *statusError) Error() string { return fmt.Sprintf("status %d", e.status) }

func pageFault(err error) string {
	if e, ok := errors.AsType[*statusError](err); ok {
		return e.Error()
	}
	return kindOf(err)
}
