// Command fosite is an authorization server built with github.com/ory/fosite, which has no
// device grant, and devicegrant in it: the tokens are fosite's, and so are what refreshes
// and what accepts them.
//
// devicegrant.go is what adding the grant takes; main calls it.
// Everything else is the server that was there before.
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

func main() { program.Host("fosite", build) }

// build returns the server with the device grant in it.
func build(origin string, interval time.Duration, logger *slog.Logger) (http.Handler, *devicegrant.Server, error) {
	h := newHost(origin, newMemory(), logger)
	grant, err := newGrant(h, interval)
	if err != nil {
		return nil, nil, err
	}
	mountGrant(h, grant)
	return h.mux, grant, nil
}
