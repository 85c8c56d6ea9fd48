// Command authserver is an authorization server with everything in devicegrant
// switched on. With a database as its store, any number of replicas serve the same
// devices and people.
//
// It prints one line, "listening on http://HOST:PORT", when it serves; logs go to
// the standard error. SIGTERM and Ctrl-C end it.
package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"time"

	"github.com/devicegrant/devicegrant"
	"github.com/devicegrant/devicegrant/dpop"
	"github.com/devicegrant/devicegrant/examples/internal/demo"
	"github.com/devicegrant/devicegrant/examples/internal/program"
)

func main() { program.Main("authserver", run) }

// run serves until ctx ends.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	o, err := parseOptions(args, stderr)
	if err != nil {
		return err
	}
	listener, origin, err := demo.Listen(o.addr)
	if err != nil {
		return err
	}
	defer listener.Close()
	kept, err := openStores(ctx, o.store)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, kept.close()) }()
	logger := slog.New(slog.NewTextHandler(stderr, nil))
	telemetry, err := startTelemetry(o.telemetryFile) //nolint:contextcheck // The last of it is written when the context has ended.
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, telemetry.stop()) }()
	host, grant, err := newServer(o, kept, telemetry, origin, logger)
	if err != nil {
		return err
	}
	return program.Serve(ctx, stdout, listener, origin, routes(o, host, grant), logger,
		program.Purge(grant), func(ctx context.Context) { host.PurgeEvery(ctx, program.PurgeInterval) })
}

// newServer returns the server that a team has already, and the device grant in it.
func newServer(o options, kept stores, telemetry *telemetry, origin string, logger *slog.Logger) (*demo.Host, *devicegrant.Server, error) {
	keys, err := loadKeys(o.keyFile)
	if err != nil {
		return nil, nil, err
	}
	// Replicas do not know which proofs the others have taken: one can be used once at each
	// of them, by whoever holds the key or has seen it. See dpop.Config.Replay.
	cfg := dpop.Config{BaseURL: origin}
	if o.dpopNonces {
		cfg.NonceKeys = keys // Which replicas share, so that each takes the others' nonces.
	}
	proofs, err := dpop.New(cfg)
	if err != nil {
		return nil, nil, err
	}
	host := demo.NewHost(origin, kept.records, logger)
	host.DPoP, host.Origins = proofs, o.tvOrigins
	grant, err := newGrant(o, keys, kept.grants, host, telemetry, origin, logger)
	return host, grant, err
}

// loadKeys returns the keys in a file, or, without one, a key that nobody else has.
func loadKeys(file string) ([][]byte, error) {
	if file == "" {
		return demo.NewKeys(), nil
	}
	return demo.LoadKeys(file)
}

// newGrant embeds the device grant into the host.
func newGrant(o options, keys [][]byte, store devicegrant.Store, host *demo.Host, telemetry *telemetry, origin string, logger *slog.Logger) (*devicegrant.Server, error) {
	return devicegrant.New(devicegrant.Config{
		Store:                       store,
		Keys:                        keys,
		VerificationURI:             origin + "/device",
		DeviceAuthorizationEndpoint: origin + "/device_authorization",
		AuthenticateClient:          host.AuthenticateClient,
		Client:                      host.Client,
		SignedIn:                    host.SignedIn,
		AccountName:                 host.AccountName,
		SwitchAccount:               host.SwitchAccount,
		Place:                       host.Place,
		Risk:                        host.Risk,
		ProvenKey:                   host.ProvenKey,
		Policy:                      devicegrant.SpreadPolls(o.pollBudget),
		Issuance:                    issuance,
		AllowedOrigin:               host.AllowedOrigin,
		NarrowScopes:                true,
		ConfirmCode:                 o.confirmCode,
		DenyOnLeave:                 o.denyOnLeave,
		Page:                        demo.Page,
		IssueToken:                  host.IssueToken,
		Lifetime:                    o.lifetime,
		Interval:                    o.interval,
		TrustedProxies:              o.trustedProxies,
		OnEvent: func(ctx context.Context, e devicegrant.Event) {
			host.OnEvent(ctx, e)
			telemetry.OnEvent(ctx, e)
		},
		Logger: logger,
	})
}

// issuance takes this computer for a network behind which a fleet starts together: all
// devices that are tried out here have its address. Any other has the usual limits.
var issuance = devicegrant.Issuance{
	PerClient: fleet,
	Networks: map[netip.Prefix]devicegrant.Quota{
		netip.MustParsePrefix("127.0.0.0/8"): fleet,
		netip.MustParsePrefix("::1/128"):     fleet,
	},
}

var fleet = devicegrant.Quota{Rate: devicegrant.Limit{Burst: 10_000, Every: time.Millisecond}, Pending: 100_000}

func routes(o options, host *demo.Host, grant *devicegrant.Server) http.Handler {
	mux := host.Routes()
	if o.adminSecret != "" {
		a := admin{grant: grant, secret: o.adminSecret}
		mux.Handle("POST /admin/grants/list", a.handler(a.list))
		mux.Handle("POST /admin/grants/revoke", a.handler(a.revoke))
	}
	mux.Handle("/device_authorization", grant.DeviceAuthorizationHandler())
	mux.Handle("/token", grant.TokenHandler(host.TokenHandler()))
	mux.Handle("/device", grant.VerificationHandler())
	mux.Handle("/.well-known/oauth-authorization-server", host.MetadataHandler(grant.Metadata))
	return mux
}
