package devicegrant

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// Error is an OAuth error response (RFC 6749 section 5.2, RFC 8628 section 3.5)
// and the Go error for it in one. Code and Description go to the client; what
// the error wraps is for logs only.
//
// Two Errors with the same Code match under [errors.Is], whatever else differs:
//
//	if errors.Is(err, devicegrant.ErrAccessDenied) { … }
//
// A callback of the host returns one to choose the client's answer. An Error is
// immutable; its methods return changed copies.
type Error struct {
	// Code is the error code of the RFC.
	Code string
	// Description is sent as error_description. Empty sends none. It must say
	// nothing that the client may not know, and is limited to printable ASCII
	// without '"' and '\'; anything else in it is sent as '?'.
	Description string
	// Interval is sent with slow_down as the interval now in force; zero sends
	// none. It is rounded up to whole seconds.
	Interval time.Duration
	// RetryAfter is sent as the Retry-After header, rounded up to whole seconds;
	// zero sends none.
	RetryAfter time.Duration

	cause error
	body  []byte // The answer, ready to send, for errors that always look alike.
}

// The errors of the protocol.
var (
	// RFC 6749 section 5.2.
	ErrInvalidRequest       = fixedError("invalid_request")
	ErrInvalidClient        = fixedError("invalid_client")
	ErrInvalidGrant         = fixedError("invalid_grant")
	ErrUnauthorizedClient   = fixedError("unauthorized_client")
	ErrUnsupportedGrantType = fixedError("unsupported_grant_type")
	ErrInvalidScope         = fixedError("invalid_scope")

	// RFC 8628 section 3.5.
	ErrAuthorizationPending = fixedError("authorization_pending")
	ErrSlowDown             = fixedError("slow_down")
	ErrAccessDenied         = fixedError("access_denied")
	ErrExpiredToken         = fixedError("expired_token")

	// RFC 8707 section 2: a resource that the client may not ask for, or that is none.
	ErrInvalidTarget = fixedError("invalid_target")

	// RFC 9396 section 5: authorization_details that the client may not ask for, or that
	// are malformed.
	ErrInvalidAuthorizationDetails = fixedError("invalid_authorization_details")

	// Sent with status 429 by [Issuance]; no RFC has a code for it. A poll is told
	// slow_down where a callback returns it, for clients give up on anything else.
	ErrTooManyRequests = fixedError("too_many_requests")

	// RFC 6749 section 4.1.2.1. Sent with status 503 to a device authorization
	// request that cannot be served now. A poll, which would end there, is told
	// slow_down instead, also where a callback returns it.
	ErrTemporarilyUnavailable = fixedError("temporarily_unavailable")
)

// Why a person's code or decision was not taken. They are returned by Lookup,
// Approve and Deny and have no form on the wire.
var (
	// ErrUserCode: the code is unknown, expired or used up. Which of these, nobody
	// is told: the difference would help whoever is guessing.
	ErrUserCode = errors.New("devicegrant: no such user code")
	// ErrDecided: the request has been approved or denied already. Nothing changed.
	ErrDecided = errors.New("devicegrant: request was decided already")
	// ErrTicket: the ticket is forged, too old, or was made for somebody else or for
	// another browser session.
	ErrTicket = errors.New("devicegrant: ticket is not valid")
	// ErrOtherSession: the code belongs to another browser session, in which it was
	// entered first. Nothing changed, and the try counts as a wrong code.
	ErrOtherSession = errors.New("devicegrant: user code is in use in another browser session")
	// ErrUnconfirmed: Config.ConfirmCode demands that the person confirms that the
	// code is on their device, and they did not.
	ErrUnconfirmed = errors.New("devicegrant: the code was not confirmed to be on the device")
	// ErrNoScope: the person unticked every scope that they could, and none is left to
	// allow. Nothing changed; what they mean is Deny.
	ErrNoScope = errors.New("devicegrant: no scope is left to allow")
	// ErrRefused: Config.Risk refused the request.
	ErrRefused = errors.New("devicegrant: request was refused as too risky")
)

// TooManyGuessesError is returned by Lookup instead of looking anything up.
type TooManyGuessesError struct {
	// RetryAfter is when the next try will be admitted.
	RetryAfter time.Duration
}

func (e *TooManyGuessesError) Error() string {
	return fmt.Sprintf("devicegrant: too many wrong user codes, try again in %v", e.RetryAfter)
}

// Error returns the code, the description and the cause. It is for logs.
func (e *Error) Error() string {
	s := "devicegrant: " + e.Code
	if e.Description != "" {
		s += " (" + e.Description + ")"
	}
	if e.cause != nil {
		s += ": " + e.cause.Error()
	}
	return s
}

// Unwrap returns the cause, which no client sees.
func (e *Error) Unwrap() error { return e.cause }

// Is reports whether target is an Error with the same Code.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code
}

// Describe returns a copy of e with a description for the client.
func (e *Error) Describe(format string, args ...any) *Error {
	c := *e
	c.Description, c.body = fmt.Sprintf(format, args...), nil
	return &c
}

// Because returns a copy of e that wraps cause. The answer to the client stays
// the same.
func (e *Error) Because(cause error) *Error {
	c := *e
	c.cause = cause
	return &c
}

func (e *Error) withInterval(d time.Duration) *Error {
	c := *e
	c.Interval, c.body = d, nil
	return &c
}

func (e *Error) withRetryAfter(d time.Duration) *Error {
	c := *e
	c.RetryAfter = d
	return &c
}

func fixedError(code string) *Error {
	e := &Error{Code: code}
	e.body = e.marshal()
	return e
}

// marshal returns the JSON body of RFC 6749 section 5.2.
func (e *Error) marshal() []byte {
	b := appendString([]byte(`{"error":`), e.Code)
	if e.Description != "" {
		b = appendString(append(b, `,"error_description":`...), printable(e.Description))
	}
	if interval := wholeSeconds(e.Interval); interval != 0 {
		b = strconv.AppendInt(append(b, `,"interval":`...), interval, 10)
	}
	return append(b, '}')
}

// printable keeps to what RFC 6749 section 5.2 allows in an error_description.
func printable(s string) string {
	ok := func(c byte) bool { return c >= 0x20 && c <= 0x7e && c != '"' && c != '\\' }
	b := []byte(s)
	for i, c := range b {
		if !ok(c) {
			b[i] = '?'
		}
	}
	return string(b)
}

// status returns the HTTP status of RFC 6749 section 5.2: 400, but for clients
// that failed to authenticate and for a server that cannot serve.
func (e *Error) status() int {
	switch e.Code {
	case ErrInvalidClient.Code:
		return http.StatusUnauthorized
	case ErrTooManyRequests.Code:
		return http.StatusTooManyRequests
	case ErrTemporarilyUnavailable.Code:
		return http.StatusServiceUnavailable
	default:
		return http.StatusBadRequest
	}
}

// Header values that every answer shares; nobody changes them.
var (
	jsonType = []string{"application/json"}
	noStore  = []string{"no-store"}
)

// writeError answers r with e.
func writeError(w http.ResponseWriter, r *http.Request, e *Error) {
	status := e.status()
	if status == http.StatusUnauthorized && r.Header.Get("Authorization") != "" {
		w.Header().Set("WWW-Authenticate", `Basic realm="token"`)
	}
	if e.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.FormatInt(wholeSeconds(e.RetryAfter), 10))
	}
	body := e.body
	if body == nil {
		body = e.marshal()
	}
	writeJSON(w, status, body)
}

// asError returns the *Error that err is or wraps, or nil.
func asError(err error) *Error {
	if e, ok := err.(*Error); ok { //nolint:errorlint // The common case costs no allocation.
		return e
	}
	var e *Error
	errors.As(err, &e)
	return e
}

// writeJSON writes an answer that no cache may keep (RFC 6749 section 5.1).
func writeJSON(w http.ResponseWriter, status int, body []byte) {
	h := w.Header()
	h["Content-Type"], h["Cache-Control"] = jsonType, noStore
	w.WriteHeader(status)
	_, _ = w.Write(body) // A client that has gone cannot be told.
}

// methodNotAllowed answers a request by a method that the endpoint does not have.
func methodNotAllowed(w http.ResponseWriter, allow string) {
	w.Header().Set("Allow", allow)
	writeJSON(w, http.StatusMethodNotAllowed, ErrInvalidRequest.Describe("the method must be %s", allow).marshal())
}

// wholeSeconds rounds up: a client that waits that long is never early.
func wholeSeconds(d time.Duration) int64 { return int64((d + time.Second - 1) / time.Second) }
