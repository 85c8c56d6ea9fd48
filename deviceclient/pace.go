package deviceclient

import (
	"errors"
	"fmt"
	"time"
)

const (
	slowDownStep = 5 * time.Second // RFC 8628 section 3.5
	maxBackoff   = time.Minute     // unless the interval is longer
	maxOdd       = 3               // answers in a row that are not the protocol's, as a proxy or a captive portal gives them
	maxOverrun   = time.Minute     // how long after the codes' end the last poll may come
)

// pace decides when to poll next, or how the login has ended. It knows no clock.
type pace struct {
	interval time.Duration // in force: no two polls come closer
	lost     int           // polls in a row that the server did not answer
	odd      int           // answers in a row that are not the protocol's
}

// next returns how long to wait after a poll that gave no token, or the error that ends
// the login. left is how long the codes are good for: the last poll comes when they are
// not any more, for the server to have the last word about that.
func (p *pace) next(answer error, left time.Duration) (time.Duration, error) {
	before := *p
	p.lost, p.odd = 0, 0
	wait := p.interval
	trouble := answer
	refused, _ := errors.AsType[*Error](answer)
	switch {
	case refused.is("authorization_pending"):
		trouble = nil
	case refused.is("slow_down"):
		p.interval = max(p.interval+slowDownStep, refused.interval)
		wait, trouble = p.interval, nil
	case refused.is("access_denied"):
		return 0, fmt.Errorf("%w: %w", ErrDenied, answer)
	case refused.is("expired_token"):
		return 0, fmt.Errorf("%w: %w", ErrExpired, answer)
	case isTemporary(answer):
		p.lost = before.lost + 1
		wait = backoff(p.interval, p.lost, left)
	case isOdd(answer) && before.odd+1 < maxOdd:
		p.odd = before.odd + 1
	default:
		return 0, fmt.Errorf("%w: %w", ErrFailed, answer)
	}
	wait = max(wait, demanded(answer))
	if left <= 0 || wait > left+maxOverrun {
		return 0, expired(trouble, wait, left)
	}
	return wait, nil
}

// isTemporary reports that the server was not reached, or cannot serve anybody now.
func isTemporary(answer error) bool {
	if refused, ok := errors.AsType[*Error](answer); ok {
		return temporary(refused.StatusCode)
	}
	if odd, ok := errors.AsType[*statusError](answer); ok {
		return temporary(odd.status)
	}
	_, unanswered := errors.AsType[*unansweredError](answer)
	return unanswered
}

// isOdd reports an answer that is not the protocol's.
func isOdd(answer error) bool {
	_, unreadable := errors.AsType[*unreadableError](answer)
	_, status := errors.AsType[*statusError](answer)
	return unreadable || status
}

// backoff doubles the interval for each poll in a row that was lost (RFC 8628 section
// 3.5), up to a bound, and not beyond the codes' end.
func backoff(interval time.Duration, lost int, left time.Duration) time.Duration {
	wait := interval
	for i := 0; i < lost && wait < maxBackoff; i++ {
		wait *= 2
	}
	return max(interval, min(wait, maxBackoff, left))
}

// demanded is how long the server wants to be left alone, beside the interval.
func demanded(answer error) time.Duration {
	if refused, ok := errors.AsType[*Error](answer); ok {
		return refused.RetryAfter
	}
	if odd, ok := errors.AsType[*statusError](answer); ok {
		return odd.retryAfter
	}
	return 0
}

// expired is ErrExpired, and what kept the device from hearing more.
func expired(trouble error, wait, left time.Duration) error {
	switch {
	case trouble != nil:
		return fmt.Errorf("%w; the last poll failed: %w", ErrExpired, trouble)
	case left > 0:
		return fmt.Errorf("%w: the server lets the device poll again after %v only, when they have", ErrExpired, wait)
	default:
		return ErrExpired
	}
}
