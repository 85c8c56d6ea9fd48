// Package deviceclient is the device's side of the OAuth 2.0 Device Authorization Grant
// (RFC 8628), for a TV, a command line or a sensor that signs in at any server which has
// it:
//
//	client, err := deviceclient.New(deviceclient.Config{ClientID: "tv", Issuer: "https://example.com"})
//	authorization, err := client.Start(ctx)
//	fmt.Println("Open", authorization.VerificationURI, "and enter", authorization.UserCode)
//	token, err := client.Poll(ctx, authorization)
//
// Poll waits for the person, and ends in one of five ways: with a [Token], or with an
// error that is [ErrDenied], [ErrExpired], [ErrCancelled] or [ErrFailed].
//
// It never polls earlier than the server allows, slows down when it is told to, and
// outlasts lost connections, time-outs and servers that are restarted. What a server
// sends is bounded in size, time and value. The code is bound to a verifier that only
// this process knows (RFC 7636) and, with a [Prover], to a key (RFC 9449).
//
// The package links the standard library alone, and leaves no goroutine behind. Refreshing
// tokens and using them is the business of others, such as golang.org/x/oauth2.
package deviceclient

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// Config configures a [Client]. ClientID is required, and either Issuer or both endpoints;
// the zero value of everything else is a sensible default.
type Config struct {
	// ClientID is the client_id that the server knows the device by.
	ClientID string

	// ClientSecret is that of a confidential client, which few devices can keep. It is
	// sent as AuthMethod says.
	ClientSecret string

	// AuthMethod is how the secret is sent (RFC 6749 section 2.3.1): AuthBasic, which is
	// the default, or AuthPost.
	AuthMethod AuthMethod

	// Issuer is the server's issuer identifier, https://example.com for one, from whose
	// metadata the endpoints are taken (RFC 8414, or OpenID Connect Discovery where there
	// is nothing by that name). Empty asks for no metadata.
	Issuer string

	// DeviceAuthorizationEndpoint and TokenEndpoint are the absolute URLs of both
	// endpoints. They go before what Issuer leads to. Like Issuer, they must be https, or
	// http on a loopback address.
	DeviceAuthorizationEndpoint, TokenEndpoint string

	// Scopes are what is asked for (RFC 6749 section 3.3); none leaves it to the server.
	Scopes []string

	// Parameters are sent with the device authorization request besides, such as resource
	// (RFC 8707), audience or device_name.
	Parameters url.Values

	// NoPKCE sends no code challenge (RFC 7636), for servers that refuse what they do not
	// know. RFC 6749 section 3.2 has them ignore it.
	NoPKCE bool

	// DPoP binds the tokens to a key of the device (RFC 9449). Nil binds them to none.
	DPoP Prover

	// HTTPClient sends the requests. Its CheckRedirect is not used: no redirect is
	// followed, for it would carry codes elsewhere. Nil has connections of its own, which
	// are closed when Start fails and when Poll returns.
	HTTPClient *http.Client

	// RequestTimeout is how long one request may take, its answer included. Zero means 15
	// seconds.
	RequestTimeout time.Duration
}

// AuthMethod is how a client sends its secret, by the name that it is registered under
// (RFC 7591 section 2).
type AuthMethod string

// The ways to send a secret.
const (
	AuthBasic AuthMethod = "client_secret_basic"
	AuthPost  AuthMethod = "client_secret_post"
)

// Prover holds a key of the device and makes DPoP proofs with it (RFC 9449). It is used by
// one goroutine at a time.
type Prover interface {
	// Thumbprint is that of the public key, by RFC 7638 with SHA-256, in base64url. It is
	// sent as dpop_jkt with the device authorization request.
	Thumbprint() string
	// Proof returns a proof for a request by that method to that URL, with the nonce if
	// it is not empty (RFC 9449 section 4.2).
	Proof(ctx context.Context, method, uri, nonce string) (string, error)
}
