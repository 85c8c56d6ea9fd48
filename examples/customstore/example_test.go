package customstore_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/devicegrant/devicegrant"
	"github.com/devicegrant/devicegrant/examples/customstore"
)

// A Store of one's own is given to devicegrant like any other.
func Example() {
	dir, err := os.MkdirTemp("", "customstore")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	store, err := customstore.Open(filepath.Join(dir, "grants.db"))
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()

	key := make([]byte, 32)
	_, _ = rand.Read(key) // Keep it: codes are worth nothing without it after a restart.
	grant, err := devicegrant.New(devicegrant.Config{
		Store:           store,
		Keys:            [][]byte{key},
		VerificationURI: "https://example.com/device",
		AuthenticateClient: func(_ context.Context, c devicegrant.Credentials) (devicegrant.Client, error) {
			return devicegrant.Client{ID: c.ID, DeviceGrant: true}, nil // Ask your registry.
		},
		SignedIn: func(http.ResponseWriter, *http.Request, string) (string, bool) {
			return "alice", true // Ask your sessions.
		},
		IssueToken: func(_ context.Context, g *devicegrant.Grant) (*devicegrant.Token, error) {
			return &devicegrant.Token{AccessToken: "made-for-" + g.Subject, ExpiresIn: time.Hour}, nil
		},
	})
	if err != nil {
		log.Fatal(err)
	}

	ctx := context.Background()
	device, err := grant.Authorize(ctx, devicegrant.Client{ID: "tv", DeviceGrant: true}, devicegrant.AuthorizationRequest{})
	if err != nil {
		log.Fatal(err)
	}
	poll := devicegrant.PollRequest{ClientID: "tv", DeviceCode: device.DeviceCode}
	_, err = grant.Poll(ctx, poll)
	fmt.Println(errors.Is(err, devicegrant.ErrAuthorizationPending))

	alice := devicegrant.Person{Subject: "alice", Session: "a cookie of the browser"}
	review, err := grant.Lookup(ctx, device.UserCode, alice)
	if err != nil {
		log.Fatal(err)
	}
	if err := grant.Approve(ctx, review.Ticket, alice, devicegrant.Approval{}); err != nil {
		log.Fatal(err)
	}
	token, err := grant.Poll(ctx, poll)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(token.AccessToken)
	// Output:
	// true
	// made-for-alice
}
