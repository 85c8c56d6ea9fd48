package dpop_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/devicegrant/devicegrant"
	"github.com/devicegrant/devicegrant/dpop"
	"github.com/devicegrant/devicegrant/memstore"
)

// An authorization server hands ProvenKey to its device grant. A device that sends a proof
// with its first request has a code that is of use to nobody else.
func ExampleVerifier_ProvenKey() {
	proofs, err := dpop.New(dpop.Config{BaseURL: "https://as.example.com"})
	if err != nil {
		panic(err)
	}
	grant, err := devicegrant.New(devicegrant.Config{
		Store:           memstore.New(0),
		Keys:            [][]byte{bytes.Repeat([]byte{1}, 32)}, // From your secrets.
		VerificationURI: "https://as.example.com/device",
		ProvenKey:       proofs.ProvenKey,
		AuthenticateClient: func(context.Context, devicegrant.Credentials) (devicegrant.Client, error) {
			return devicegrant.Client{ID: "tv", DeviceGrant: true, RequireKey: true}, nil
		},
		SignedIn: func(http.ResponseWriter, *http.Request, string) (string, bool) { return "alice", true },
		IssueToken: func(_ context.Context, g *devicegrant.Grant) (*devicegrant.Token, error) {
			return &devicegrant.Token{AccessToken: "with cnf." + string(g.Key.Method)}, nil
		},
	})
	if err != nil {
		panic(err)
	}

	for _, proof := range []string{"", es256().with("htu", "https://as.example.com/device_authorization").String()} {
		r := httptest.NewRequest(http.MethodPost, "/device_authorization", strings.NewReader("client_id=tv"))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		if proof != "" {
			r.Header.Set("DPoP", proof)
		}
		w := httptest.NewRecorder()
		grant.DeviceAuthorizationHandler().ServeHTTP(w, r)
		fmt.Println(w.Code)
	}
	// Output:
	// 400
	// 200
}

// A resource takes tokens that are bound to a key together with a proof only.
func ExampleVerifier_Resource() {
	proofs, err := dpop.New(dpop.Config{BaseURL: "https://api.example.com"})
	if err != nil {
		panic(err)
	}
	cnf := map[string]string{} // The thumbprint that your tokens have in their cnf.
	films := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token, key, err := proofs.Resource(w, r)
		if err == nil && cnf[token] != key.Thumbprint {
			err = dpop.ErrInvalidToken
		}
		if err != nil {
			proofs.Challenge(w, err)
			return
		}
		fmt.Fprint(w, "films")
	})

	r := httptest.NewRequest(http.MethodGet, "/films", nil)
	r.Header.Set("Authorization", "DPoP stolen")
	w := httptest.NewRecorder()
	films.ServeHTTP(w, r)
	fmt.Println(w.Code, w.Header().Get("WWW-Authenticate"))
	// Output:
	// 401 DPoP error="invalid_dpop_proof", error_description="there must be one DPoP header", algs="ES256 EdDSA PS256 RS256"
}
