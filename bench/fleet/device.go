package main

import (
	"context"
	"math/rand/v2"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/devicegrant/devicegrant"
)

// clientID is a public client of examples/authserver.
const clientID = "tv"

const (
	drift      = 100 * time.Millisecond // by which a device's timer is late at most
	rest       = 2 * time.Second        // between two logins of a device
	maxBackoff = time.Minute
	maxOverrun = 3 * time.Minute // by which a decision prolongs the codes' life at most
)

// login is one attempt of a device. All but the decision is the device's own, and fixed
// once a person has the code.
type login struct {
	userCode, verificationURI string

	request  []byte // a poll
	interval time.Duration
	expires  time.Time
	comes    time.Time // when the person does
	denies   bool      // what they will say
	decision atomic.Int32
}

// What has become of a decision.
const (
	undecided = iota
	pressed   // the person has pressed the button
	confirmed // the server has said so
)

// authorization is the answer to a request for codes (RFC 8628 section 3.2).
type authorization struct {
	DeviceCode      string `json:"device_code"`
	UserCode        string `json:"user_code"`
	VerificationURI string `json:"verification_uri"`
	ExpiresIn       int64  `json:"expires_in"`
	Interval        int64  `json:"interval"`
	Error           string `json:"error"`
}

func (a authorization) usable() bool {
	return a.DeviceCode != "" && a.UserCode != "" && a.VerificationURI != "" && a.ExpiresIn > 0 && a.Interval >= 0
}

// outcome is how a login ended, if it has.
type outcome int

const (
	goesOn outcome = iota
	redeemed
	denied
	expired
	faulty // otherwise than its person said, or than the RFC has it
	outcomes
)

// device is one of the fleet. It is complete when each of its logins ended as its person
// said.
func (f *fleet) device(ctx context.Context, n int, due time.Time) {
	addr := address(n)
	timer := time.NewTimer(0)
	complete := true
	for sleep(ctx, timer, due) {
		f.begun.Add(1)
		ended := f.login(ctx, timer, addr, due)
		if ctx.Err() != nil {
			return
		}
		f.ended[ended].Add(1)
		complete = complete && (ended == redeemed || ended == denied)
		if due = later(rest); due.After(f.ends()) {
			break
		}
	}
	if complete && ctx.Err() == nil {
		f.complete.Add(1)
	}
}

// later is when a device's timer wakes it, if it is set now.
func later(d time.Duration) time.Time { return time.Now().Add(d + rand.N(drift)) } //nolint:gosec // It is no secret.

// login gets codes, and polls until it is over.
func (f *fleet) login(ctx context.Context, timer *time.Timer, addr string, due time.Time) outcome {
	l := f.start(ctx, addr, due)
	if l == nil {
		return faulty
	}
	shown := false
	for {
		due = later(l.interval)
		if !shown && l.comes.Before(due) {
			if !sleep(ctx, timer, l.comes) {
				return goesOn
			}
			f.show(l)
			shown = true
		}
		if !sleep(ctx, timer, due) {
			return goesOn
		}
		if o := f.poll(ctx, l, due); o != goesOn {
			return o
		}
	}
}

// start gets codes (RFC 8628 section 3.1), and settles what a person will do with them.
// It returns nil without codes.
func (f *fleet) start(ctx context.Context, addr string, due time.Time) *login {
	var a authorization
	request := f.authorization.request(addr, url.Values{"client_id": {clientID}, "scope": {"openid offline_access"}})
	status, err := f.pool.post(ctx, request, due, &f.asking, &a)
	now := time.Now()
	switch {
	case err != nil:
		f.fault(ctx, "device authorization: %s", kindOf(err))
	case status != http.StatusOK || !a.usable():
		f.fault(ctx, "device authorization: %d %.40q", status, a.Error)
	default:
		return &login{
			userCode: a.UserCode, verificationURI: a.VerificationURI,
			request: f.token.request(addr, url.Values{
				"grant_type": {devicegrant.GrantType}, "device_code": {a.DeviceCode}, "client_id": {clientID},
			}),
			interval: time.Duration(a.Interval) * time.Second,
			expires:  now.Add(time.Duration(a.ExpiresIn) * time.Second),
			comes:    now.Add(rand.N(f.wait)),    //nolint:gosec // Nor is this.
			denies:   rand.Float64() < f.denying, //nolint:gosec // Nor this.
		}
	}
	return nil
}

// show hands the code to whichever person is free next. When they are hopelessly behind,
// nobody comes.
func (f *fleet) show(l *login) {
	select {
	case f.shown <- l:
	default:
	}
}

// poll asks for tokens (RFC 8628 section 3.4).
func (f *fleet) poll(ctx context.Context, l *login, due time.Time) outcome {
	var a pollAnswer
	before := l.decision.Load()
	status, err := f.pool.post(ctx, l.request, due, &f.polling, &a)
	switch {
	case err != nil:
		f.fault(ctx, "poll: %s", kindOf(err))
		l.backOff()
	case status == http.StatusOK && a.AccessToken != "":
		return f.decided(ctx, l, redeemed)
	case status == http.StatusBadRequest:
		return f.refused(ctx, l, a.Error, before)
	case status >= http.StatusInternalServerError || status == http.StatusTooManyRequests:
		f.fault(ctx, "poll: %d %.40q", status, a.Error)
		l.backOff()
	default:
		f.fault(ctx, "poll: %d %.40q", status, a.Error)
		return faulty
	}
	return f.unlessOver(ctx, l)
}

// refused is what an error response means (RFC 8628 section 3.5), given what had become of
// the decision before the poll.
func (f *fleet) refused(ctx context.Context, l *login, code string, before int32) outcome {
	switch {
	case code == "access_denied":
		return f.decided(ctx, l, denied)
	case code == "expired_token" && before != confirmed:
		return expired
	case code == "authorization_pending" && before != confirmed:
	case code == "authorization_pending":
		f.fault(ctx, "poll: authorization_pending after the decision")
	case code == "slow_down":
		f.fault(ctx, "poll: slow_down for a device that kept to its interval")
		l.interval += devicegrant.SlowDownStep
	default:
		f.fault(ctx, "poll: %d %.40q", http.StatusBadRequest, code)
		return faulty
	}
	return f.unlessOver(ctx, l)
}

// unlessOver ends a login whose codes have expired long ago.
func (f *fleet) unlessOver(ctx context.Context, l *login) outcome {
	if time.Now().After(l.expires.Add(maxOverrun)) {
		f.fault(ctx, "poll: the codes have expired, and the server does not say so")
		return faulty
	}
	return goesOn
}

// pollAnswer is the answer to a poll (RFC 8628 section 3.5).
type pollAnswer struct {
	AccessToken string `json:"access_token"`
	Error       string `json:"error"`
}

// backOff is what a device does that was not answered (RFC 8628 section 3.5).
func (l *login) backOff() { l.interval = max(l.interval, min(2*l.interval, maxBackoff)) }

// decided checks the end of a login against what its person said.
func (f *fleet) decided(ctx context.Context, l *login, o outcome) outcome {
	switch {
	case l.decision.Load() == undecided:
		f.fault(ctx, "poll: a decision that nobody made")
	case l.denies != (o == denied):
		f.fault(ctx, "poll: the opposite of what was decided")
	default:
		return o
	}
	return faulty
}
