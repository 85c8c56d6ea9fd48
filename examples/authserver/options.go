package main

import (
	"flag"
	"fmt"
	"io"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/devicegrant/devicegrant/examples/internal/program"
)

// options is the command line. Zero durations are the library's defaults.
type options struct {
	addr, store, keyFile string
	telemetryFile        string
	lifetime, interval   time.Duration
	trustedProxies       []netip.Prefix
	pollBudget           float64
	tvOrigins            []string
	adminSecret          string

	confirmCode, denyOnLeave, dpopNonces bool
}

func parseOptions(args []string, stderr io.Writer) (o options, err error) {
	flags := flag.NewFlagSet("authserver", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&o.addr, "addr", "127.0.0.1:8080", "`HOST:PORT` to serve at; port 0 takes any that is free")
	flags.StringVar(&o.store, "store", "memory:", "`URL` of where grants, tokens and sessions are kept: "+knownStores+"; replicas share a database")
	flags.StringVar(&o.keyFile, "key", "", "`FILE` with the keys that protect codes, which replicas share; created when missing (default a random key)")
	flags.DurationVar(&o.lifetime, "lifetime", 0, "how long codes can be used (default 15m)")
	flags.DurationVar(&o.interval, "interval", 0, "least time between two polls (default 5s)")
	flags.BoolVar(&o.confirmCode, "confirm-code", false, "have people tick that the code is on their device before they can allow anything")
	flags.BoolVar(&o.denyOnLeave, "deny-on-leave", false, "deny when the page that asks is left without a decision")
	flags.BoolVar(&o.dpopNonces, "dpop-nonces", false, "have every DPoP proof carry a nonce of this server, so that none can be made in advance")
	flags.StringVar(&o.telemetryFile, "telemetry", "", "`FILE` to which OpenTelemetry metrics and spans are appended as JSON, metrics once a minute and at the end (default: none)")
	flags.Float64Var(&o.pollBudget, "poll-budget", 50_000, "polls a second that devices are spread to: when many of them wait, new ones are told a longer interval")
	flags.StringVar(&o.adminSecret, "admin-secret", "", "`SECRET` with which an operator may list and revoke, as a bearer token:\n"+
		"POST /admin/grants/list or /admin/grants/revoke with client_id, subject or user_code (default: nobody may)")
	flags.Func("tv-origins", "`ORIGIN[,ORIGIN]` of web pages that may be the client tv, such as https://tv.example.com (default none)", func(s string) (err error) {
		o.tvOrigins, err = parseOrigins(s)
		return err
	})
	flags.Func("trusted-proxies", "`CIDR[,CIDR]` of reverse proxies whose forwarding headers are believed", func(s string) (err error) {
		o.trustedProxies, err = parsePrefixes(s)
		return err
	})
	if err := program.Parse(flags, args); err != nil {
		return o, err
	}
	if !(o.pollBudget > 0) { // Nor is NaN.
		return o, fmt.Errorf("-poll-budget is %v; it must be above zero", o.pollBudget)
	}
	return o, nil
}

// parseOrigins reads ORIGIN[,ORIGIN]; empty means none. Each is as browsers send it (RFC
// 6454 section 6.2).
func parseOrigins(s string) (origins []string, err error) {
	if s == "" {
		return nil, nil
	}
	for part := range strings.SplitSeq(s, ",") {
		origin := strings.TrimSpace(part)
		u, err := url.Parse(origin)
		if err != nil || u.Host == "" || u.Scheme+"://"+strings.ToLower(u.Host) != origin {
			return nil, fmt.Errorf("%q is no origin, such as https://tv.example.com", origin)
		}
		origins = append(origins, origin)
	}
	return origins, nil
}

// parsePrefixes reads CIDR[,CIDR]; empty means none.
func parsePrefixes(s string) (prefixes []netip.Prefix, err error) {
	if s == "" {
		return nil, nil
	}
	for part := range strings.SplitSeq(s, ",") {
		p, err := netip.ParsePrefix(strings.TrimSpace(part))
		if err != nil {
			return nil, err
		}
		prefixes = append(prefixes, p.Masked())
	}
	return prefixes, nil
}
