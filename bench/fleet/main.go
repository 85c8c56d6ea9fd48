// Command fleet is a load of devices and people for an authorization server with the device
// grant (RFC 8628) on this computer, such as examples/authserver:
//
//	fleet -server http://127.0.0.1:8080 -devices 1000 -people 50 -ramp 10s -for 30s -pid PID
//
// Each device gets codes, polls for them at the interval that it is told until there are
// tokens, a denial or the end of the codes, and starts again, until the ramp and -for are
// over. People enter each code at a random time and decide. What a client that keeps to the
// RFC should never see counts as an error: also slow_down, which nobody here deserves.
//
// Devices and people say that they come from addresses of their own, as if this were a proxy:
// start the server with -trusted-proxies 127.0.0.0/8, or it limits all of them as one.
//
// Ctrl-C ends it, and it reports what there is. The exit status is 1 if there was an error,
// or a device whose logins did not all end as its people said.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
	case errors.Is(err, errUsage):
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, "fleet:", err)
		os.Exit(1)
	}
}

var (
	errUsage = errors.New("wrong usage") // It has been explained already.
	errBad   = errors.New("not all went well")
)

// run reports to stdout.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	o, err := parseOptions(args, stderr)
	if err != nil {
		return err
	}
	f, err := newFleet(ctx, o)
	if err != nil {
		return err
	}
	r, err := f.run(ctx)
	if err != nil {
		return err
	}
	write := r.writeText
	if o.json {
		write = r.writeJSON
	}
	if err := write(stdout); err != nil {
		return err
	}
	if !r.good() {
		return errBad
	}
	return nil
}

// options is the command line.
type options struct {
	server                       *url.URL
	devices, people, connections int
	ramp, last, wait             time.Duration
	denying                      float64
	pid                          int
	json                         bool
}

func parseOptions(args []string, stderr io.Writer) (o options, err error) {
	flags := flag.NewFlagSet("fleet", flag.ContinueOnError)
	flags.SetOutput(stderr)
	server := flags.String("server", "http://127.0.0.1:8080", "`URL` of the server, at a loopback address")
	flags.IntVar(&o.devices, "devices", 1000, "how many devices there are")
	flags.IntVar(&o.people, "people", 50, "how many people enter codes, each in a browser of their own")
	flags.IntVar(&o.connections, "connections", 256, "how many connections the devices share")
	flags.DurationVar(&o.ramp, "ramp", 10*time.Second, "how long it takes until all devices have started")
	flags.DurationVar(&o.last, "for", 30*time.Second, "how long after that devices start again")
	flags.DurationVar(&o.wait, "wait", time.Minute, "how long a code is shown at most until a person comes; keep it below the codes' lifetime")
	flags.Float64Var(&o.denying, "deny", 0.1, "`share` of the codes that people deny")
	flags.IntVar(&o.pid, "pid", 0, "`PID` of the server, to report what it uses (Linux)")
	flags.BoolVar(&o.json, "json", false, "report in JSON")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return o, err
	case err != nil:
		return o, errUsage
	case flags.NArg() > 0:
		return o, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	if o.server, err = loopback(*server); err != nil {
		return o, err
	}
	return o, o.validate()
}

func (o options) validate() error {
	for _, n := range []struct {
		name        string
		value, most int
	}{{"devices", o.devices, 1_000_000}, {"people", o.people, 10_000}, {"connections", o.connections, 10_000}} {
		if n.value < 1 || n.value > n.most {
			return fmt.Errorf("-%s is %d; it must be from 1 to %d", n.name, n.value, n.most)
		}
	}
	for _, d := range []struct {
		name  string
		value time.Duration
	}{{"ramp", o.ramp}, {"for", o.last}, {"wait", o.wait}} {
		if d.value <= 0 || d.value > 24*time.Hour {
			return fmt.Errorf("-%s is %v; it must be above zero and at most a day", d.name, d.value)
		}
	}
	if !(o.denying >= 0 && o.denying <= 1) { // Nor is NaN.
		return fmt.Errorf("-deny is %v; it must be from 0 to 1", o.denying)
	}
	if o.pid < 0 {
		return fmt.Errorf("-pid is %d; it must not be negative", o.pid)
	}
	return nil
}
