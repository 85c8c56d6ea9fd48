// Command zitadel is an OpenID Provider made with github.com/zitadel/oidc, and the device
// grant of devicegrant in it instead of the provider's own. What that takes is in
// devicegrant.go; tokens, refreshing them and userinfo are the provider's.
//
// It prints one line, "listening on http://HOST:PORT", when it serves; logs go to the
// standard error. SIGTERM and Ctrl-C end it.
package main

import (
	"log/slog"
	"net/http"
	"time"

	"github.com/devicegrant/devicegrant"
	"github.com/devicegrant/devicegrant/examples/internal/program"
)

const maxBody = 64 << 10 // bytes

func main() { program.Host("zitadel", build) }

// build returns the provider's server with the device grant in it.
func build(origin string, interval time.Duration, logger *slog.Logger) (http.Handler, *devicegrant.Server, error) {
	host, err := newHost(origin, logger)
	if err != nil {
		return nil, nil, err
	}
	mux := host.routes()
	grant, err := addDeviceGrant(mux, host, interval)
	return http.MaxBytesHandler(mux, maxBody), grant, err
}
