package deviceclient_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"time"

	"github.com/devicegrant/devicegrant/deviceclient"
)

// A whole login: get codes, show them, wait for the person.
func Example() {
	issuer, stop := exampleServer()
	defer stop()

	client, err := deviceclient.New(deviceclient.Config{
		ClientID: "tv",
		Issuer:   issuer,
		Scopes:   []string{"openid", "offline_access"},
	})
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background() // End it, and the login ends.
	authorization, err := client.Start(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("Open", authorization.VerificationURI, "and enter", authorization.UserCode)

	token, err := client.Poll(ctx, authorization)
	switch {
	case err == nil:
		fmt.Println("Signed in with a token of type", token.TokenType)
	case errors.Is(err, deviceclient.ErrDenied):
		fmt.Println("You said no.")
	case errors.Is(err, deviceclient.ErrExpired):
		fmt.Println("That took too long. Try again with a new code.")
	case errors.Is(err, deviceclient.ErrCancelled):
		fmt.Println("Stopped.")
	default:
		fmt.Println("That did not work:", err)
	}
	// Output:
	// Open https://example.com/device and enter WDJB-MJHT
	// Signed in with a token of type Bearer
}

// Endpoints that are known, a name for the verification page, and connections through
// the program's own http.Client.
func ExampleConfig() {
	_, err := deviceclient.New(deviceclient.Config{
		ClientID:                    "tv",
		DeviceAuthorizationEndpoint: "https://example.com/device_authorization",
		TokenEndpoint:               "https://example.com/token",
		Parameters:                  url.Values{"device_name": {"Kitchen TV"}},
		HTTPClient:                  http.DefaultClient,
		RequestTimeout:              10 * time.Second,
	})
	fmt.Println(err)
	// Output: <nil>
}

// exampleServer is one at which everything is allowed at once.
func exampleServer() (issuer string, stop func()) {
	mux := http.NewServeMux()
	server := httptest.NewServer(mux)
	for path, answer := range map[string]string{
		"/.well-known/oauth-authorization-server": `{"issuer":"` + server.URL + `","token_endpoint":"` + server.URL + `/token",
			"device_authorization_endpoint":"` + server.URL + `/device_authorization"}`,
		"/device_authorization": `{"device_code":"…","user_code":"WDJB-MJHT","verification_uri":"https://example.com/device",
			"expires_in":900,"interval":1}`,
		"/token": `{"access_token":"…","token_type":"Bearer"}`,
	} {
		mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprint(w, answer)
		})
	}
	return server.URL, server.Close
}
