// Package program is what the programs with an authorization server in them have in common:
// how their command lines are read, and how they begin and end.
package program

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/devicegrant/devicegrant"
	"github.com/devicegrant/devicegrant/examples/internal/demo"
)

// PurgeInterval is how often what has expired is deleted.
const PurgeInterval = time.Minute

// ErrUsage is a wrong command line, which has been explained already.
var ErrUsage = errors.New("wrong usage")

// Main is the main function of a program. SIGTERM and Ctrl-C end the context of run. The
// exit code is 1 after an error, and 2 after ErrUsage.
func Main(name string, run func(ctx context.Context, args []string, stdout, stderr io.Writer) error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
	case errors.Is(err, ErrUsage):
		os.Exit(2)
	case err != nil:
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
}

// Parse reads a command line that is made of flags alone. Its error is flag.ErrHelp,
// ErrUsage, or says what is wrong.
func Parse(flags *flag.FlagSet, args []string) error {
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return err
	case err != nil:
		return ErrUsage
	case flags.NArg() > 0:
		return fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	return nil
}

// Serve prints one line, "listening on" and the origin, and serves until ctx ends, with
// jobs beside, which have to end with their context.
func Serve(ctx context.Context, stdout io.Writer, listener net.Listener, origin string, handler http.Handler, logger *slog.Logger, jobs ...func(context.Context)) error {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	for _, job := range jobs {
		running.Go(func() { job(ctx) })
	}
	if _, err := fmt.Fprintf(stdout, "listening on %s\n", origin); err != nil {
		return err
	}
	return demo.Serve(ctx, listener, handler, logger)
}

// Purge is the job that purges grants.
func Purge(grant *devicegrant.Server) func(context.Context) {
	return func(ctx context.Context) { _ = grant.PurgeEvery(ctx, PurgeInterval) } // It logs what fails.
}

// Build returns a server that is reached at origin, a URL without a path, and the device
// grant in it. It starts nothing.
type Build func(origin string, interval time.Duration, logger *slog.Logger) (http.Handler, *devicegrant.Server, error)

// Host is the main function of a program with somebody else's server in it. It prints one
// line, "listening on http://HOST:PORT", when the server serves; logs go to the standard
// error.
func Host(name string, build Build) {
	Main(name, func(ctx context.Context, args []string, stdout, stderr io.Writer) error {
		return runHost(ctx, name, args, stdout, stderr, build)
	})
}

// runHost serves until ctx ends.
func runHost(ctx context.Context, name string, args []string, stdout, stderr io.Writer, build Build) error {
	flags := flag.NewFlagSet(name, flag.ContinueOnError)
	flags.SetOutput(stderr)
	addr := flags.String("addr", "127.0.0.1:8080", "`HOST:PORT` to serve at; port 0 takes any that is free")
	interval := flags.Duration("interval", 5*time.Second, "least time between two polls")
	if err := Parse(flags, args); err != nil {
		return err
	}
	listener, origin, err := demo.Listen(*addr)
	if err != nil {
		return err
	}
	defer listener.Close()
	logger := slog.New(slog.NewTextHandler(stderr, nil))
	handler, grant, err := build(origin, *interval, logger)
	if err != nil {
		return err
	}
	return Serve(ctx, stdout, listener, origin, handler, logger, Purge(grant))
}
