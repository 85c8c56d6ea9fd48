package devicegrant_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/netip"
	"time"

	"github.com/devicegrant/devicegrant"
)

// A device that sends a code challenge is the only one that can use its device code (PKCE,
// RFC 7636).
func ExampleAuthorizationRequest_codeChallenge() {
	grant, err := devicegrant.New(exampleConfig())
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	tv := devicegrant.Client{ID: "tv", DeviceGrant: true, RequireChallenge: true}
	device, err := grant.Authorize(ctx, tv, devicegrant.AuthorizationRequest{
		CodeChallenge: "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM", CodeChallengeMethod: "S256",
	})
	if err != nil {
		log.Fatal(err)
	}

	poll := devicegrant.PollRequest{ClientID: "tv", DeviceCode: device.DeviceCode}
	_, err = grant.Poll(ctx, poll) // Somebody has found the code.
	fmt.Println(errors.Is(err, devicegrant.ErrInvalidGrant))
	poll.CodeVerifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
	_, err = grant.Poll(ctx, poll)
	fmt.Println(errors.Is(err, devicegrant.ErrAuthorizationPending))
	// Output:
	// true
	// true
}

// A policy of one's own, and polls that stay within what the database bears.
func ExampleSpreadPolls() {
	spread := devicegrant.SpreadPolls(5000) // polls a second
	cfg := devicegrant.Config{
		Policy: func(ctx context.Context, a devicegrant.Application) (devicegrant.Terms, error) {
			terms, err := spread(ctx, a)
			if err != nil {
				return terms, err
			}
			if !a.Device.Addr.IsPrivate() { // From outside, and for less.
				terms.Lifetime, terms.Scopes, terms.TokenHint = 5*time.Minute, []string{"openid"}, "short-lived"
			}
			return terms, nil
		},
	}

	terms, err := cfg.Policy(context.Background(), devicegrant.Application{
		Device:   devicegrant.Device{Addr: netip.MustParseAddr("198.51.100.7")},
		Lifetime: 15 * time.Minute, Interval: 5 * time.Second,
		Load: devicegrant.Load{Pending: 99_999},
	})
	fmt.Println(terms.Interval, terms.Lifetime, terms.Scopes, err)
	// Output: 20s 5m0s [openid] <nil>
}

// A fleet behind one NAT, which starts together after a power cut, needs more than a home.
func ExampleIssuance() {
	cfg := exampleConfig()
	cfg.Issuance.Networks = map[netip.Prefix]devicegrant.Quota{
		netip.MustParsePrefix("203.0.113.0/28"): {Rate: devicegrant.Limit{Burst: 500, Every: 10 * time.Millisecond}, Pending: 500},
	}
	grant, err := devicegrant.New(cfg)
	if err != nil {
		log.Fatal(err)
	}
	for _, addr := range []string{"203.0.113.5", "198.51.100.7"} {
		admitted := 0
		for range 500 {
			device := devicegrant.Device{Addr: netip.MustParseAddr(addr)}
			_, err := grant.Authorize(context.Background(), devicegrant.Client{ID: "tv", DeviceGrant: true}, devicegrant.AuthorizationRequest{Device: device})
			if err == nil {
				admitted++
			}
		}
		fmt.Println(addr, admitted >= 500, admitted >= 100)
	}
	// Output:
	// 203.0.113.5 true true
	// 198.51.100.7 false true
}

// An operator takes back what a client's devices have not collected. By client or subject,
// that takes a Store that is a Lister, as memstore is.
func ExampleServer_Revoke() {
	grant, err := devicegrant.New(exampleConfig())
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	device, err := grant.Authorize(ctx, devicegrant.Client{ID: "tv", DeviceGrant: true}, devicegrant.AuthorizationRequest{})
	if err != nil {
		log.Fatal(err)
	}
	found, err := grant.List(ctx, devicegrant.Filter{ClientID: "tv"}, nil, 100)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(found), found[0].State)

	n, err := grant.Revoke(ctx, devicegrant.Filter{ClientID: "tv"})
	fmt.Println(n, err)
	_, err = grant.Poll(ctx, devicegrant.PollRequest{ClientID: "tv", DeviceCode: device.DeviceCode})
	fmt.Println(errors.Is(err, devicegrant.ErrAccessDenied))
	// Output:
	// 1 pending
	// 1 <nil>
	// true
}
