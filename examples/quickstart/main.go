// Command quickstart shows the device authorization grant (RFC 8628) from both
// ends in one terminal: an authorization server, and a device that asks a person
// to sign in to it.
//
// newServer is what adding the grant to a server takes. The server it is added to
// is package demo; the device is in device.go.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/devicegrant/devicegrant"
	"github.com/devicegrant/devicegrant/examples/internal/demo"
	"github.com/devicegrant/devicegrant/memstore"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:8080", "`HOST:PORT` to serve at")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Stdout, *addr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "quickstart:", err)
		os.Exit(1)
	}
}

// run serves until the device is signed in, or will not be. out is the device's
// screen.
func run(ctx context.Context, out io.Writer, addr string) error {
	listener, origin, err := demo.Listen(addr)
	if err != nil {
		return err
	}
	server, err := newServer(origin)
	if err != nil {
		_ = listener.Close() // Nothing was served yet.
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	served := make(chan error, 1)
	go func() {
		defer cancel() // Without a server, the device has nobody to ask.
		served <- demo.Serve(ctx, listener, server, slog.Default())
	}()
	err = signIn(ctx, out, http.DefaultClient, origin)
	http.DefaultClient.CloseIdleConnections()
	cancel()
	if serveErr := <-served; serveErr != nil {
		return serveErr
	}
	return err
}

// newServer returns an authorization server with the device grant.
func newServer(origin string) (http.Handler, error) {
	host := demo.NewHost(origin, demo.InMemory(), nil) // The server that you have already.
	grant, err := devicegrant.New(devicegrant.Config{
		Store:                       memstore.New(0),
		Keys:                        demo.NewKeys(),
		VerificationURI:             origin + "/device",
		DeviceAuthorizationEndpoint: origin + "/device_authorization",
		AuthenticateClient:          host.AuthenticateClient,
		Client:                      host.Client,
		SignedIn:                    host.SignedIn,
		AccountName:                 host.AccountName,
		SwitchAccount:               host.SwitchAccount,
		Page:                        demo.Page,
		IssueToken:                  host.IssueToken,
		OnEvent:                     host.OnEvent,
		Interval:                    2 * time.Second, // Shorter than usual, for you not to wait.
	})
	if err != nil {
		return nil, err
	}
	mux := host.Routes()
	mux.Handle("/device_authorization", grant.DeviceAuthorizationHandler())
	mux.Handle("/token", grant.TokenHandler(host.TokenHandler()))
	mux.Handle("/device", grant.VerificationHandler())
	mux.Handle("/.well-known/oauth-authorization-server", host.MetadataHandler(grant.Metadata))
	return mux, nil
}
