package dpop_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/devicegrant/devicegrant"
	"github.com/devicegrant/devicegrant/dpop"
	"github.com/devicegrant/devicegrant/memstore"
)

// newServer is an authorization server that demands nonces, over HTTP. seen are the keys
// that the grant was told of.
func newServer(t *testing.T) (server *httptest.Server, seen func() []devicegrant.Key) {
	t.Helper()
	mux := http.NewServeMux()
	server = httptest.NewServer(mux)
	t.Cleanup(server.Close)
	key := make([]byte, 32)
	proofs := newVerifier(t, func(c *dpop.Config) { c.BaseURL, c.NonceKeys = server.URL, [][]byte{key} })

	var mu sync.Mutex
	var keys []devicegrant.Key
	grant, err := devicegrant.New(devicegrant.Config{
		Store:           memstore.New(0),
		Keys:            [][]byte{key},
		VerificationURI: server.URL + "/device",
		AuthenticateClient: func(_ context.Context, c devicegrant.Credentials) (devicegrant.Client, error) {
			return devicegrant.Client{ID: c.ID, DeviceGrant: true}, nil
		},
		SignedIn: func(http.ResponseWriter, *http.Request, string) (string, bool) { return "", false },
		IssueToken: func(context.Context, *devicegrant.Grant) (*devicegrant.Token, error) {
			return &devicegrant.Token{AccessToken: "x", TokenType: "DPoP", ExpiresIn: time.Hour}, nil
		},
		ProvenKey: func(w http.ResponseWriter, r *http.Request) (devicegrant.Key, error) {
			key, err := proofs.ProvenKey(w, r)
			if err == nil {
				mu.Lock()
				defer mu.Unlock()
				keys = append(keys, key)
			}
			return key, err
		},
	})
	require.NoError(t, err)
	mux.Handle("/device_authorization", grant.DeviceAuthorizationHandler())
	mux.Handle("/token", grant.TokenHandler(nil))
	return server, func() []devicegrant.Key {
		mu.Lock()
		defer mu.Unlock()
		return keys
	}
}

// A device that proves its key at both endpoints of a grant is told what to do by the
// codes and the header of RFC 9449, and the grant learns its key.
func TestWithTheGrant(t *testing.T) {
	server, seen := newServer(t)
	send := func(path string, form url.Values, proof string) (answer map[string]any, nonce string) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL+path, strings.NewReader(form.Encode()))
		require.NoError(t, err)
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("DPoP", proof)
		response, err := server.Client().Do(r)
		require.NoError(t, err)
		defer response.Body.Close()
		require.NoError(t, json.NewDecoder(response.Body).Decode(&answer))
		if answer["error"] != nil {
			require.Equal(t, http.StatusBadRequest, response.StatusCode)
		}
		nonce = response.Header.Get("DPoP-Nonce")
		require.NotEmpty(t, nonce)
		return answer, nonce
	}
	proofOf := func(path, nonce string) string {
		return es256().with("htu", server.URL+path).with("nonce", nonce).String()
	}

	const authorize, poll = "/device_authorization", "/token"
	client := url.Values{"client_id": {"tv"}}
	answer, nonce := send(authorize, client, proofOf(authorize, ""))
	require.Equal(t, "use_dpop_nonce", answer["error"])
	answer, nonce = send(authorize, client, proofOf(authorize, nonce))
	require.NotEmpty(t, answer["device_code"], answer)

	form := url.Values{"client_id": {"tv"}, "grant_type": {devicegrant.GrantType}, "device_code": {answer["device_code"].(string)}}
	used := proofOf(poll, nonce)
	answer, nonce = send(poll, form, used)
	require.Equal(t, "authorization_pending", answer["error"])
	answer, _ = send(poll, form, used)
	require.Equal(t, "invalid_dpop_proof", answer["error"])
	answer, _ = send(poll, form, proofOf(authorize, nonce))
	require.Equal(t, "invalid_dpop_proof", answer["error"])

	want := devicegrant.Key{Method: devicegrant.KeyDPoP, Thumbprint: thumbprint(p256().Public())}
	require.Equal(t, []devicegrant.Key{want, want}, seen())
}
