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
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/devicegrant/devicegrant"
	"github.com/devicegrant/devicegrant/examples/internal/demo"
)

const purgeInterval = time.Minute

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
	case errors.Is(err, errUsage):
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, "authserver:", err)
		os.Exit(1)
	}
}

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
	host := demo.NewHost(origin, kept.records, logger)
	grant, err := newGrant(o, kept.grants, host, origin, logger)
	if err != nil {
		return err
	}

	ctx, cancel := context.WithCancel(ctx)
	var purging sync.WaitGroup
	defer purging.Wait()
	defer cancel()
	purging.Go(func() { _ = grant.PurgeEvery(ctx, purgeInterval) }) // It logs what fails.
	purging.Go(func() { host.PurgeEvery(ctx, purgeInterval) })

	if _, err := fmt.Fprintf(stdout, "listening on %s\n", origin); err != nil {
		return err
	}
	return demo.Serve(ctx, listener, routes(host, grant), logger)
}

// newGrant embeds the device grant into the host.
func newGrant(o options, store devicegrant.Store, host *demo.Host, origin string, logger *slog.Logger) (*devicegrant.Server, error) {
	keys := demo.NewKeys()
	if o.keyFile != "" {
		var err error
		if keys, err = demo.LoadKeys(o.keyFile); err != nil {
			return nil, err
		}
	}
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
		ConfirmCode:                 o.confirmCode,
		DenyOnLeave:                 o.denyOnLeave,
		Page:                        demo.Page,
		IssueToken:                  host.IssueToken,
		Lifetime:                    o.lifetime,
		Interval:                    o.interval,
		TrustedProxies:              o.trustedProxies,
		OnEvent:                     host.OnEvent,
		Logger:                      logger,
	})
}

func routes(host *demo.Host, grant *devicegrant.Server) http.Handler {
	mux := host.Routes()
	mux.Handle("/device_authorization", grant.DeviceAuthorizationHandler())
	mux.Handle("/token", grant.TokenHandler(host.TokenHandler()))
	mux.Handle("/device", grant.VerificationHandler())
	mux.Handle("/.well-known/oauth-authorization-server", host.MetadataHandler(grant.Metadata))
	return mux
}
