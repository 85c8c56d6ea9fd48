// Package program is what the programs with a server of somebody else's in them have in
// common: their command line, and how they begin and end.
package program

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

// errUsage is a wrong command line, which has been explained already.
var errUsage = errors.New("wrong usage")

// Build returns a server that is reached at origin, a URL without a path, and the device
// grant in it. It starts nothing.
type Build func(origin string, interval time.Duration, logger *slog.Logger) (http.Handler, *devicegrant.Server, error)

// Main is the main function of a program. It prints one line, "listening on
// http://HOST:PORT", when the server serves; logs go to the standard error. SIGTERM and
// Ctrl-C end it.
func Main(name string, build Build) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, name, os.Args[1:], os.Stdout, os.Stderr, build)
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
	case errors.Is(err, errUsage):
		os.Exit(2)
	case err != nil:
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
}

// run serves until ctx ends.
func run(ctx context.Context, name string, args []string, stdout, stderr io.Writer, build Build) error {
	addr, interval, err := parseOptions(name, args, stderr)
	if err != nil {
		return err
	}
	listener, origin, err := demo.Listen(addr)
	if err != nil {
		return err
	}
	defer listener.Close()
	logger := slog.New(slog.NewTextHandler(stderr, nil))
	handler, grant, err := build(origin, interval, logger)
	if err != nil {
		return err
	}

	ctx, cancel := context.WithCancel(ctx)
	var purging sync.WaitGroup
	defer purging.Wait()
	defer cancel()
	purging.Go(func() { _ = grant.PurgeEvery(ctx, purgeInterval) }) // It logs what fails.

	if _, err := fmt.Fprintf(stdout, "listening on %s\n", origin); err != nil {
		return err
	}
	return demo.Serve(ctx, listener, handler, logger)
}

func parseOptions(name string, args []string, stderr io.Writer) (addr string, interval time.Duration, err error) {
	flags := flag.NewFlagSet(name, flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&addr, "addr", "127.0.0.1:8080", "`HOST:PORT` to serve at; port 0 takes any that is free")
	flags.DurationVar(&interval, "interval", 5*time.Second, "least time between two polls")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return "", 0, err
	case err != nil:
		return "", 0, errUsage
	case flags.NArg() > 0:
		return "", 0, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	return addr, interval, nil
}
