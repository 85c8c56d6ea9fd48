// Command gooauth2 is an authorization server made with github.com/go-oauth2/oauth2,
// which has no device grant, and devicegrant in it. All that this takes is in
// devicegrant.go; the other files are the server as it was before.
//
// It prints one line, "listening on http://HOST:PORT", when it serves; logs go to the
// standard error. SIGTERM and Ctrl-C end it.
package main

import (
	"log/slog"
	"net/http"
	"time"

	"github.com/go-oauth2/oauth2/v4/store"

	"github.com/devicegrant/devicegrant"
	"github.com/devicegrant/devicegrant/examples/internal/program"
)

func main() { program.Host("gooauth2", build) }

// build returns the server with the device grant in it.
func build(origin string, interval time.Duration, logger *slog.Logger) (http.Handler, *devicegrant.Server, error) {
	tokens, err := store.NewMemoryTokenStore() // It has a goroutine, and nothing to end it with but the process.
	if err != nil {
		return nil, nil, err
	}
	host, err := newHost(origin, tokens, logger)
	if err != nil {
		return nil, nil, err
	}
	mux := http.NewServeMux()
	host.routes(mux)
	grant, err := addDeviceGrant(mux, host, interval)
	return mux, grant, err
}
