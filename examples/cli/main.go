// Command cli signs a command line in at an authorization server by the device
// authorization grant (RFC 8628), as a user would like it: it shows where to go, the code
// and a QR code, opens the browser if there is one, counts down, and says how it ended.
//
//	cli [-issuer URL] [-client ID] [-scope SCOPES] [-no-browser]
//
// The device's side of the protocol is package deviceclient; this program is the screen.
// On what is no terminal, or with NO_COLOR or TERM=dumb, it writes plain lines. How a
// login failed goes to the standard error.
//
// It exits with
//
//	0    when signed in
//	1    when denied, expired or failed
//	2    when the command line is wrong
//	130  after Ctrl-C
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"runtime"
	"strings"

	"github.com/devicegrant/devicegrant/deviceclient"
	"github.com/devicegrant/devicegrant/examples/internal/userinfo"
)

// The exit codes.
const (
	exitSignedIn    = 0
	exitNot         = 1
	exitUsage       = 2
	exitInterrupted = 130 // 128 and SIGINT's number, as shells have it
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	code := run(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string) int {
	o, err := parseOptions(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil: // It has been explained already.
		return exitUsage
	}
	t := newTerminal(os.Stdout, os.Getenv)
	if err := login(ctx, t, o); err != nil {
		t.end(os.Stderr, failure(err, o))
		return exitCode(err)
	}
	return exitSignedIn
}

// login signs in at the server, and says as whom.
func login(ctx context.Context, t terminal, o options) error {
	client, err := deviceclient.New(deviceclient.Config{
		ClientID:   o.client,
		Issuer:     o.issuer,
		Scopes:     strings.Fields(o.scope),
		Parameters: url.Values{"device_name": {deviceName()}},
	})
	if err != nil {
		return err
	}
	token, err := signIn(ctx, t, client, o)
	if err != nil {
		return err
	}
	// A program that goes on would keep the token now where only this user can read it: in
	// the system's keyring, or in a file of mode 0600 where there is none.
	server, err := client.Metadata(ctx)
	if err != nil {
		return err
	}
	connections := http.DefaultTransport.(*http.Transport).Clone()
	defer connections.CloseIdleConnections()
	who, err := userinfo.Ask(ctx, &http.Client{Transport: connections}, server.UserinfoEndpoint, token)
	t.end(t.out, greeting(who, err))
	return nil
}

// options is the command line.
type options struct {
	issuer, client, scope string
	browse                bool
}

func parseOptions(args []string) (options, error) {
	var o options
	flags := flag.NewFlagSet("cli", flag.ContinueOnError)
	flags.StringVar(&o.issuer, "issuer", "http://127.0.0.1:8080", "`URL` of the authorization server")
	flags.StringVar(&o.client, "client", "tv", "`ID` that the server knows this program by")
	flags.StringVar(&o.scope, "scope", "openid profile", "`SCOPES` to ask for, space-separated")
	noBrowser := flags.Bool("no-browser", false, "do not open the browser")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() > 0 {
		err := fmt.Errorf("unexpected argument %q", flags.Arg(0))
		fmt.Fprintln(os.Stderr, "cli:", err)
		return o, err
	}
	o.browse = !*noBrowser
	return o, nil
}

// deviceName lets people recognize on the server's page what asks them.
func deviceName() string {
	host, err := os.Hostname()
	if err != nil {
		return "Command line on " + runtime.GOOS
	}
	return "Command line on " + host
}
