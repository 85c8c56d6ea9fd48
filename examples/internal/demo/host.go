// Package demo is a small authorization server as a team may have one before it
// adds the device grant: clients, a login, tokens, a token endpoint with refresh
// tokens, and metadata. The commands beside it embed devicegrant into it.
//
// It keeps sessions and tokens in memory, or in the database that the grants are in
// (see Records). Its people and secrets are in the source, so it is for trying out and
// for reading, not for use.
package demo

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"time"

	"github.com/devicegrant/devicegrant"
	"github.com/devicegrant/devicegrant/dpop"
)

// Host is the authorization server. Its methods that are no handlers are what
// devicegrant.Config asks for. Its exported fields are set before it serves.
type Host struct {
	// DPoP verifies what clients prove of their keys. Nil binds no token to a key.
	DPoP *dpop.Verifier
	// Origins are those of web pages that may be the client tv.
	Origins []string

	origin   string
	logger   *slog.Logger
	records  Records
	failures *table[digest, int] // wrong passwords, by whom and from where
	now      func() time.Time
}

// NewHost returns a server that is reached at origin, a URL without a path. Nil
// for logger logs nothing.
func NewHost(origin string, records Records, logger *slog.Logger) *Host {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	return &Host{
		origin:   origin,
		logger:   logger,
		records:  records,
		failures: newTable[digest, int](10_000),
		now:      now,
	}
}

// now is the time as databases keep it.
func now() time.Time { return time.Now().Truncate(time.Microsecond) }

// PurgeEvery deletes sessions and tokens that have expired at the interval, in
// batches, until ctx ends. Failures are logged, and the next interval tries again.
func (h *Host) PurgeEvery(ctx context.Context, interval time.Duration) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			if err := h.purge(ctx); err != nil && ctx.Err() == nil {
				h.logger.ErrorContext(ctx, "purging expired tokens failed", "error", err)
			}
		}
	}
}

const purgeBatch = 1000

func (h *Host) purge(ctx context.Context) error {
	for now := h.now(); ; {
		if n, err := h.records.purge(ctx, now, purgeBatch); err != nil || n < purgeBatch {
			return err
		}
	}
}

// Routes returns a mux with the endpoints that have nothing to do with the device
// grant.
func (h *Host) Routes() *http.ServeMux {
	sameSite := http.NewCrossOriginProtection()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", h.serveHome)
	mux.HandleFunc("GET /login", h.serveLoginForm)
	mux.Handle("POST /login", sameSite.Handler(http.HandlerFunc(h.serveLogin)))
	mux.Handle("POST /logout", sameSite.Handler(http.HandlerFunc(h.serveLogout)))
	mux.HandleFunc("GET /userinfo", h.serveUserinfo)
	mux.HandleFunc("POST /userinfo", h.serveUserinfo)
	return mux
}

// MetadataHandler serves the server's metadata (RFC 8414), to which extend may add
// what it knows of.
func (h *Host) MetadataHandler(extend func(map[string]any) map[string]any) http.Handler {
	doc := extend(map[string]any{
		"issuer":                   h.origin,
		"token_endpoint":           h.origin + "/token",
		"userinfo_endpoint":        h.origin + "/userinfo",
		"scopes_supported":         scopes,
		"response_types_supported": []string{}, // There is no authorization endpoint.
		"grant_types_supported":    []string{"refresh_token"},
		"token_endpoint_auth_methods_supported": []devicegrant.AuthMethod{
			devicegrant.AuthNone, devicegrant.AuthBasic, devicegrant.AuthPost,
		},
		"code_challenge_methods_supported":      []string{"S256"},
		"authorization_details_types_supported": detailTypes, // RFC 9396 section 10.
	})
	if h.DPoP != nil {
		doc = h.DPoP.Metadata(doc)
	}
	body, err := json.Marshal(doc)
	if err != nil {
		panic(err) // Strings and lists of strings always marshal.
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(body)
	})
}

// OnEvent logs what happens in the device grant. When a device code is presented
// again after its tokens were issued, somebody else knows it, and the tokens are
// revoked.
func (h *Host) OnEvent(ctx context.Context, e devicegrant.Event) {
	if e.Type == devicegrant.EventReplayed {
		h.revokeReplayed(ctx, e.Grant)
	}
	if e.Err != nil {
		return // The library has logged it.
	}
	h.logger.LogAttrs(ctx, e.Type.Level(), "device grant: "+string(e.Type), e.Attrs()...)
}
