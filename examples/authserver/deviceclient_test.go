package main

import (
	"context"
	"net/http"
	"net/url"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/devicegrant/devicegrant/deviceclient"
	"github.com/devicegrant/devicegrant/examples/internal/prover"
)

// deviceKey is a key as deviceclient wants it.
type deviceKey struct{ *prover.Key }

func (k deviceKey) Proof(_ context.Context, method, uri, nonce string) (string, error) {
	k.Nonce = nonce
	return k.Key.Proof(method, uri, ""), nil
}

// TestDeviceClient: a device with a key, at a server that wants a nonce in each proof, has
// tokens that nobody else can use.
func TestDeviceClient(t *testing.T) {
	p := serve(t, "-dpop-nonces", "-interval", "1s")
	defer p.end(t)
	d := newDevice(t)
	b, _ := newPerson(t)
	signIn(t, b, p)
	key, thief := prover.New(t), prover.New(t)
	client, err := deviceclient.New(deviceclient.Config{
		ClientID: "tv", Issuer: p.origin, Scopes: []string{"openid"}, DPoP: deviceKey{key}, HTTPClient: d.client,
	})
	require.NoError(t, err)
	a, err := client.Start(t.Context())
	require.NoError(t, err)
	form := pollForm(a.DeviceCode)
	form.Set("code_verifier", a.CodeVerifier)
	assert.Equal(t, "invalid_grant", d.proven(p, thief, "/token", form).Error, "the code is bound from the start")
	approve(t, b, p, a.UserCode)
	token, err := client.Poll(t.Context(), a)
	require.NoError(t, err)
	assert.Equal(t, "DPoP", token.TokenType)
	another := d.proven(p, thief, "/device_authorization", url.Values{}) // Which brings a nonce.
	require.Equal(t, http.StatusOK, another.Status, another.Body)
	d.requireBound(p, key, thief, token.AccessToken)
}
