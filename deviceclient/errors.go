package deviceclient

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// How a login ends without a token. Every error of Poll is exactly one of these, and every
// error of Start is ErrCancelled or ErrFailed, under [errors.Is].
var (
	// ErrDenied: the person said no.
	ErrDenied = errors.New("deviceclient: the person denied the request")
	// ErrExpired: nobody said anything in time. Start gets new codes.
	ErrExpired = errors.New("deviceclient: the codes have expired")
	// ErrCancelled: the context ended. The error is that of the context, too.
	ErrCancelled = errors.New("deviceclient: cancelled")
	// ErrFailed: the server refused, or sent what nobody can make sense of. With an
	// [Error] in it, the server said why.
	ErrFailed = errors.New("deviceclient: the login failed")
)

// Error is an error response of the server (RFC 6749 section 5.2, RFC 8628 section 3.5).
type Error struct {
	// StatusCode is that of HTTP.
	StatusCode int
	// Code is the error code of the RFC.
	Code string
	// Description is for the developer, in the server's words, without control characters
	// and cut short after 200 characters; empty if there is none.
	Description string
	// RetryAfter is how long the server wants to be left alone; zero if it did not say.
	RetryAfter time.Duration

	interval time.Duration // that comes with slow_down; zero if none does
}

func (e *Error) Error() string {
	s := "the server answered " + e.Code
	if e.Description != "" {
		s += " (" + e.Description + ")"
	}
	return s
}

// is reports a code; nil has none.
func (e *Error) is(code string) bool { return e != nil && e.Code == code }

// temporary reports a status which says that the server cannot serve anybody now.
func temporary(status int) bool {
	return status >= 500 || status == http.StatusTooManyRequests || status == http.StatusRequestTimeout
}

// failed is ErrFailed for a reason, unless the context has ended.
func failed(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return cancelled(ctx)
	}
	return fmt.Errorf("%w: %w", ErrFailed, err)
}

func cancelled(ctx context.Context) error {
	return fmt.Errorf("%w: %w", ErrCancelled, context.Cause(ctx))
}
