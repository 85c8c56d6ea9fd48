package deviceclient

import (
	"context"
	"time"
)

// Poll asks for the token until the person has decided, the codes have expired or ctx
// ends (RFC 8628 sections 3.4 and 3.5). It takes at most as long as the codes live, a
// minute, and one request. Its error is ErrDenied, ErrExpired, ErrCancelled or ErrFailed, as if by
// [errors.Is].
//
// Between two polls it waits for the interval, which slow_down lengthens for good, or
// for as long as Retry-After says. While the server does not answer, or answers that it
// cannot serve anybody, it waits twice as long each time, up to a minute.
func (c *Client) Poll(ctx context.Context, a *Authorization) (*Token, error) {
	defer c.hangUp()
	started := *a
	if started.started.IsZero() {
		started.started = time.Now()
	}
	p := pace{interval: max(a.Interval, minInterval)}
	for wait := p.interval; ; {
		if !sleep(ctx, wait) {
			return nil, cancelled(ctx)
		}
		token, err := c.poll(ctx, &started)
		if err == nil {
			return token, nil
		}
		if ctx.Err() != nil {
			return nil, cancelled(ctx)
		}
		if wait, err = p.next(err, started.Left(time.Now())); err != nil {
			return nil, err
		}
	}
}

// sleep waits, and reports false if ctx ends meanwhile.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
