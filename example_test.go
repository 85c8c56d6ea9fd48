package devicegrant_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/devicegrant/devicegrant"
	"github.com/devicegrant/devicegrant/memstore"
)

// exampleConfig is the least a host supplies. Its clients, its login and its
// tokens are stand-ins for what an authorization server has.
func exampleConfig() devicegrant.Config {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // Keep it, and share it among replicas.
	return devicegrant.Config{
		Store:                       memstore.New(0),
		Keys:                        [][]byte{key},
		VerificationURI:             "https://example.com/device",
		DeviceAuthorizationEndpoint: "https://example.com/device_authorization",

		AuthenticateClient: func(_ context.Context, c devicegrant.Credentials) (devicegrant.Client, error) {
			if c.ID != "tv" || c.Method != devicegrant.AuthNone {
				return devicegrant.Client{}, devicegrant.ErrInvalidClient
			}
			return devicegrant.Client{ID: "tv", Name: "Living-room TV", DeviceGrant: true, Scopes: []string{"openid"}}, nil
		},
		SignedIn: func(w http.ResponseWriter, r *http.Request, returnTo string) (string, bool) {
			session, err := r.Cookie("session")
			if err != nil {
				http.Redirect(w, r, "/login?return_to="+url.QueryEscape(returnTo), http.StatusSeeOther)
				return "", false
			}
			return session.Value, true // Look the session up in yours.
		},
		IssueToken: func(_ context.Context, g *devicegrant.Grant) (*devicegrant.Token, error) {
			return &devicegrant.Token{AccessToken: "made-for-" + g.Subject, ExpiresIn: time.Hour, Scope: g.Scope}, nil
		},
	}
}

// Three handlers on the host's own mux. The token handler serves this grant, and
// hands every other request to the token endpoint that is there already.
func Example() {
	grant, err := devicegrant.New(exampleConfig())
	if err != nil {
		log.Fatal(err)
	}
	yourTokenEndpoint := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "the host's own answer")
	})

	mux := http.NewServeMux()
	mux.Handle("/device_authorization", grant.DeviceAuthorizationHandler())
	mux.Handle("/token", grant.TokenHandler(yourTokenEndpoint))
	mux.Handle("/device", grant.VerificationHandler())

	post := func(path, form string) string {
		r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(form))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, r)
		return w.Body.String()
	}
	fmt.Println(strings.Contains(post("/device_authorization", "client_id=tv&scope=openid"), `"user_code"`))
	fmt.Println(post("/token", "grant_type=authorization_code&code=abc"))
	// Output:
	// true
	// the host's own answer
}

// A page of the host's own: look a code up, show what it stands for, take the
// decision with the ticket.
func ExampleServer_Lookup() {
	grant, err := devicegrant.New(exampleConfig())
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	tv := devicegrant.Client{ID: "tv", DeviceGrant: true, Scopes: []string{"openid"}}
	device, err := grant.Authorize(ctx, tv, devicegrant.AuthorizationRequest{Scope: "openid"}) // The device has asked.
	if err != nil {
		log.Fatal(err)
	}

	alice := devicegrant.Person{ // Who is signed in, in which browser, and from where.
		Subject:   "alice",
		Session:   "a cookie that the browser keeps across logins",
		Addr:      netip.MustParseAddr("192.0.2.1"),
		UserAgent: "the browser's",
	}
	typed := strings.ToLower(device.UserCode)
	review, err := grant.Lookup(ctx, typed, alice)
	if err != nil {
		log.Fatal(err) // ErrUserCode, ErrDecided, ErrOtherSession, ErrRefused or *TooManyGuessesError
	}
	fmt.Println("asks for", review.Scopes, "- same code:", review.UserCode == device.UserCode)
	fmt.Println("in another place:", review.Elsewhere) // Show Device and Place, and warn.

	// The page holds review.Ticket in a form; the form comes back.
	if err := grant.Approve(ctx, review.Ticket, alice, devicegrant.Approval{}); err != nil {
		log.Fatal(err) // ErrTicket, ErrDecided, ErrUserCode, ErrUnconfirmed or ErrRefused
	}
	token, err := grant.Poll(ctx, devicegrant.PollRequest{ClientID: "tv", DeviceCode: device.DeviceCode}) // The device polls.
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(token.AccessToken)
	// Output:
	// asks for [openid] - same code: true
	// in another place: false
	// made-for-alice
}

// The page in the host's own words and with its logo.
func ExamplePage() {
	cfg := exampleConfig()
	cfg.Page = devicegrant.Page{
		Logo: "/logo.svg", LogoText: "Example",
		Texts: map[string]devicegrant.Texts{"en": {FormTitle: "Connect your TV"}},
		Scope: func(scope, language string) string { // In words; others stay as they are.
			return map[string]string{"en openid": "Know who you are"}[language+" "+scope]
		},
	}
	grant, err := devicegrant.New(cfg)
	if err != nil {
		log.Fatal(err)
	}
	w := httptest.NewRecorder()
	grant.VerificationHandler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/device", nil))
	fmt.Println(strings.Contains(w.Body.String(), "<h1>Connect your TV</h1>"))
	fmt.Println(strings.Join(devicegrant.Languages()[:6], ", "), "...")
	// Output:
	// true
	// ar, cs, da, de, en, es ...
}

// What the host thinks of a request: nobody is asked about one from another country, and
// people are warned of codes that others have tried as well.
func ExampleSituation() {
	cfg := exampleConfig()
	cfg.Place = func(_ context.Context, addr netip.Addr) string { // Ask your database of addresses.
		if addr.Is4() {
			return "Switzerland"
		}
		return "Peru"
	}
	cfg.Risk = func(_ context.Context, s devicegrant.Situation) (devicegrant.Verdict, error) {
		switch {
		case s.DevicePlace != s.Place:
			return devicegrant.Refuse, nil
		case s.Entered > 1:
			return devicegrant.Warn, nil
		}
		return devicegrant.Allow, nil
	}
	grant, err := devicegrant.New(cfg)
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	tv := devicegrant.Client{ID: "tv", DeviceGrant: true}
	device, err := grant.Authorize(ctx, tv, devicegrant.AuthorizationRequest{
		Device: devicegrant.Device{Name: "Living room", Addr: netip.MustParseAddr("2001:db8::1")},
	})
	if err != nil {
		log.Fatal(err)
	}
	alice := devicegrant.Person{Subject: "alice", Session: "phone", Addr: netip.MustParseAddr("192.0.2.1")}
	_, err = grant.Lookup(ctx, device.UserCode, alice)
	fmt.Println(errors.Is(err, devicegrant.ErrRefused))
	// Output: true
}

// Twelve digits for a device with a remote control, and what that means to someone
// who guesses.
func ExampleUserCodeFormat() {
	cfg := exampleConfig()
	cfg.UserCode = devicegrant.Digits
	chances := cfg.GuessChances()
	fmt.Printf("one address finds a given code with chance %.0e\n", chances.PerAddress)

	// Codes that could be guessed are refused.
	cfg.UserCode = devicegrant.UserCodeFormat{Alphabet: "0123456789", Length: 6, Group: 3}
	_, err := devicegrant.New(cfg)
	fmt.Println(strings.Contains(err.Error(), "set UserCode.Length to 11 or more"))
	// Output:
	// one address finds a given code with chance 5e-12
	// true
}

// The fields that the grant adds to the host's metadata (RFC 8414).
func ExampleServer_Metadata() {
	grant, err := devicegrant.New(exampleConfig())
	if err != nil {
		log.Fatal(err)
	}
	doc := grant.Metadata(map[string]any{"grant_types_supported": []string{"refresh_token"}})
	fmt.Println(doc["device_authorization_endpoint"])
	fmt.Println(doc["grant_types_supported"])
	// Output:
	// https://example.com/device_authorization
	// [refresh_token urn:ietf:params:oauth:grant-type:device_code]
}
