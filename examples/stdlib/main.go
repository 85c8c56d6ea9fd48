// Command stdlib is an authorization server without a framework, and devicegrant in it.
// All that the device grant takes is in devicegrant.go. The other files are the server
// as it was before: its login in login.go, its tokens and clients in tokens.go, and what
// both keep in table.go.
//
// It prints one line, "listening on http://HOST:PORT", when it serves; logs go to the
// standard error. SIGTERM and Ctrl-C end it.
package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"log/slog"
	"net/http"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/devicegrant/devicegrant"
	"github.com/devicegrant/devicegrant/examples/internal/program"
)

func main() { program.Host("stdlib", build) }

// build returns the server with the device grant in it.
func build(origin string, interval time.Duration, logger *slog.Logger) (http.Handler, *devicegrant.Server, error) {
	s, err := newServer(origin, logger)
	if err != nil {
		return nil, nil, err
	}
	mux := http.NewServeMux()
	s.routes(mux)
	grant, err := addDeviceGrant(mux, s, interval)
	return mux, grant, err
}

// server is the authorization server. It keeps what it knows in memory, and its key is
// lost with the process; one for use has a database and a key store.
type server struct {
	origin string
	logger *slog.Logger

	sessions *table[session] // by the digest of the cookie
	failures *table[int]     // wrong passwords, by who was named and from where

	signer jose.Signer
	key    jose.JSONWebKey // verifies what signer has signed
	logins *table[login]   // by the digest of the refresh tokens' family
}

// newServer returns a server that is reached at origin, a URL without a path.
func newServer(origin string, logger *slog.Logger) (*server, error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	key := jose.JSONWebKey{Key: private, KeyID: rand.Text(), Algorithm: string(jose.ES256), Use: "sig"}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, (&jose.SignerOptions{}).WithType(accessType))
	if err != nil {
		return nil, err
	}
	return &server{
		origin:   origin,
		logger:   logger,
		sessions: newTable[session](10_000),
		failures: newTable[int](10_000),
		signer:   signer,
		key:      key.Public(),
		logins:   newTable[login](10_000),
	}, nil
}

// routes mounts what is served without the device grant, but for the token endpoint and
// the metadata.
func (s *server) routes(mux *http.ServeMux) {
	sameSite := http.NewCrossOriginProtection()
	mux.HandleFunc("GET /login", s.serveLoginForm)
	mux.Handle("POST /login", sameSite.Handler(http.HandlerFunc(s.serveLogin)))
	mux.Handle("GET /{$}", http.RedirectHandler("/device", http.StatusSeeOther))
	mux.HandleFunc("GET /userinfo", s.serveUserinfo)
	mux.Handle("GET /jwks", serveJSON(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{s.key}}))
}
