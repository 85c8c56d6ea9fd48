package devicegrant_test

import (
	"context"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/devicegrant/devicegrant"
	"github.com/devicegrant/devicegrant/memstore"
)

func TestSmoke(t *testing.T) {
	s, err := devicegrant.New(devicegrant.Config{
		Store: memstore.New(0), Keys: [][]byte{make([]byte, 32)}, VerificationURI: "https://example.com/device",
		AuthenticateClient: func(_ context.Context, c devicegrant.Credentials) (devicegrant.Client, error) {
			return devicegrant.Client{ID: c.ID, DeviceGrant: true}, nil
		},
		SignedIn: func(http.ResponseWriter, *http.Request, string) (string, bool) { return "alice", true },
		IssueToken: func(_ context.Context, g *devicegrant.Grant) (*devicegrant.Token, error) {
			return &devicegrant.Token{AccessToken: "t-" + g.Subject}, nil
		},
	})
	require.NoError(t, err)
	ctx := t.Context()
	a, err := s.Authorize(ctx, devicegrant.Client{ID: "tv", DeviceGrant: true}, "")
	require.NoError(t, err)
	_, err = s.Poll(ctx, "tv", a.DeviceCode)
	require.ErrorIs(t, err, devicegrant.ErrAuthorizationPending)
	alice := devicegrant.Person{Subject: "alice"}
	r, err := s.Lookup(ctx, a.UserCode, alice)
	require.NoError(t, err)
	require.NoError(t, s.Approve(ctx, r.Ticket, alice))
	require.ErrorIs(t, s.Approve(ctx, r.Ticket, alice), devicegrant.ErrDecided)
	tok, err := s.Poll(ctx, "tv", a.DeviceCode)
	require.NoError(t, err)
	require.Equal(t, "t-alice", tok.AccessToken)
	_, err = s.Poll(ctx, "tv", a.DeviceCode)
	require.ErrorIs(t, err, devicegrant.ErrInvalidGrant)
}
