package devicegrant_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/devicegrant/devicegrant"
	"github.com/devicegrant/devicegrant/memstore"
	"github.com/devicegrant/devicegrant/storetest"
)

// The verifier and the challenge of RFC 7636, appendix B, and another verifier.
const (
	verifier      = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
	codeChallenge = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
	otherVerifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXK"
)

var (
	thumbprint = devicegrant.Key{Method: devicegrant.KeyDPoP, Thumbprint: "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"}
	otherKey   = devicegrant.Key{Method: devicegrant.KeyDPoP, Thumbprint: "1ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"}
	sameDigest = devicegrant.Key{Method: devicegrant.KeyCertificate, Thumbprint: thumbprint.Thumbprint}
)

// stolen are the ways in which somebody presents a device code who cannot prove what it
// is bound to.
var stolen = []struct {
	name        string
	challenge   string // what it is bound to
	key         devicegrant.Key
	verifier    string // what the thief shows
	shown       devicegrant.Key
	ownVerifier string // what the owner shows
	ownKey      devicegrant.Key
}{
	{name: "no verifier", challenge: codeChallenge, ownVerifier: verifier},
	{name: "another verifier", challenge: codeChallenge, verifier: otherVerifier, ownVerifier: verifier},
	{name: "the challenge as verifier", challenge: codeChallenge, verifier: codeChallenge, ownVerifier: verifier},
	{name: "a key in place of the verifier", challenge: codeChallenge, shown: thumbprint, ownVerifier: verifier},
	{name: "a verifier without a challenge", verifier: verifier},
	{name: "no key", key: thumbprint, ownKey: thumbprint},
	{name: "another key", key: thumbprint, shown: otherKey, ownKey: thumbprint},
	{name: "the digest of a key of another kind", key: thumbprint, shown: sameDigest, ownKey: thumbprint},
	{name: "a verifier in place of the key", key: thumbprint, verifier: verifier, ownKey: thumbprint},
	{name: "the key and a verifier too many", key: thumbprint, verifier: verifier, shown: thumbprint, ownKey: thumbprint},
	{name: "the key without the verifier", challenge: codeChallenge, key: thumbprint, shown: thumbprint, ownVerifier: verifier, ownKey: thumbprint},
	{name: "the verifier without the key", challenge: codeChallenge, key: thumbprint, verifier: verifier, ownVerifier: verifier, ownKey: thumbprint},
	{name: "the verifier and another key", challenge: codeChallenge, key: thumbprint, verifier: verifier, shown: otherKey, ownVerifier: verifier, ownKey: thumbprint},
}

// A stolen device code is worth nothing, whatever the state of its grant, and its owner
// is not harmed.
func TestStolenDeviceCode(t *testing.T) {
	for _, tt := range stolen {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := storetest.NewFaulty(memstore.New(0))
				f := newFixture(t, func(c *devicegrant.Config) { c.Store = store })
				var given devicegrant.Key
				f.issue = func(_ context.Context, g *devicegrant.Grant) (*devicegrant.Token, error) {
					given = g.Key
					return nil, nil
				}
				a, err := f.Authorize(t.Context(), tv, devicegrant.AuthorizationRequest{
					CodeChallenge: tt.challenge, CodeChallengeMethod: method(tt.challenge), Key: tt.key,
				})
				require.NoError(t, err)
				thief := devicegrant.PollRequest{ClientID: "tv", DeviceCode: a.DeviceCode, CodeVerifier: tt.verifier, Key: tt.shown, Addr: address(1)}
				owner := devicegrant.PollRequest{ClientID: "tv", DeviceCode: a.DeviceCode, CodeVerifier: tt.ownVerifier, Key: tt.ownKey}
				steal := func() {
					t.Helper()
					var written []storetest.Op
					store.Before = func(op storetest.Op, _ int) { written = append(written, op) }
					_, err := f.Poll(t.Context(), thief)
					store.Before = nil
					assert.ErrorIs(t, err, devicegrant.ErrInvalidGrant)
					assert.Equal(t, []storetest.Op{storetest.OpByDeviceCode}, written, "it is only found out which grant it is")
				}
				steal()
				_, err = f.Poll(t.Context(), owner)
				require.ErrorIs(t, err, devicegrant.ErrAuthorizationPending, "nobody has slowed the owner down")
				f.approve(a)
				steal()
				token, err := f.Poll(t.Context(), owner)
				require.NoError(t, err)
				assert.NotEmpty(t, token.AccessToken)
				assert.Equal(t, tt.ownKey, given)
				steal()
				assert.EqualValues(t, 1, f.issued.Load())

				events := f.raised(devicegrant.EventUnproven)
				require.Len(t, events, 3)
				assert.Equal(t, f.raised(devicegrant.EventCreated)[0].Grant, events[0].Grant)
				assert.Equal(t, "tv", events[0].ClientID)
				assert.Equal(t, address(1), events[0].Addr)
				assert.Empty(t, f.raised(devicegrant.EventReplayed))
			})
		})
	}
}

func method(challenge string) string {
	if challenge == "" {
		return ""
	}
	return "S256"
}

// While the Store is away, a thief learns nothing and the event still tells.
func TestStolenDeviceCodeInAnOutage(t *testing.T) {
	f, store := faultyFixture(t)
	a, err := f.Authorize(t.Context(), tv, devicegrant.AuthorizationRequest{Key: thumbprint})
	require.NoError(t, err)
	store.Inject(storetest.OpByDeviceCode, outage)
	f.requirePoll(a, devicegrant.ErrInvalidGrant)
	assert.Len(t, f.raised(devicegrant.EventUnproven), 1)
}

// What a code is bound to survives a rotation of keys, and a redemption in one
// transaction.
func TestBoundCodeAndRotation(t *testing.T) {
	ledger := newLedger()
	withKeys := func(seeds ...byte) *fixture {
		return newFixture(t, func(c *devicegrant.Config) {
			c.Store, c.Keys = ledger, nil
			for _, seed := range seeds {
				c.Keys = append(c.Keys, []byte(strings.Repeat(string(seed), 32)))
			}
		})
	}
	a, err := withKeys('a').Authorize(t.Context(), tv, devicegrant.AuthorizationRequest{
		CodeChallenge: codeChallenge, CodeChallengeMethod: "S256", Key: thumbprint,
	})
	require.NoError(t, err)
	f := withKeys('b', 'a')
	var given devicegrant.Key
	f.issue = func(_ context.Context, g *devicegrant.Grant) (*devicegrant.Token, error) {
		given = g.Key
		return nil, nil
	}
	f.approve(a)
	poll := devicegrant.PollRequest{ClientID: "tv", DeviceCode: a.DeviceCode, CodeVerifier: verifier}
	_, err = f.Poll(t.Context(), poll)
	require.ErrorIs(t, err, devicegrant.ErrInvalidGrant)
	poll.Key = thumbprint
	_, err = withKeys('b').Poll(t.Context(), poll)
	require.ErrorIs(t, err, devicegrant.ErrInvalidGrant, "the key that made it was dropped")
	token, err := f.Poll(t.Context(), poll)
	require.NoError(t, err)
	assert.Equal(t, thumbprint, given)
	assert.Equal(t, "DPoP", token.TokenType)
}

// Which code challenges are taken (RFC 7636 section 4.3).
func TestCodeChallenge(t *testing.T) {
	f := newFixture(t, nil)
	for name, tt := range map[string]struct {
		challenge, method string
		ok                bool
	}{
		"none":                 {"", "", true},
		"S256":                 {codeChallenge, "S256", true},
		"plain":                {verifier, "plain", false},
		"no method":            {codeChallenge, "", false},
		"no challenge":         {"", "S256", false},
		"another case":         {codeChallenge, "s256", false},
		"too short":            {codeChallenge[:42], "S256", false},
		"too long":             {codeChallenge + "A", "S256", false},
		"padded":               {codeChallenge + "=", "S256", false},
		"another alphabet":     {"+" + codeChallenge[1:], "S256", false},
		"bits that are no use": {codeChallenge[:42] + "N", "S256", false},
		"line break":           {codeChallenge[:42] + "\n", "S256", false},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := f.Authorize(t.Context(), tv, devicegrant.AuthorizationRequest{CodeChallenge: tt.challenge, CodeChallengeMethod: tt.method})
			if tt.ok {
				assert.NoError(t, err)
			} else {
				assert.ErrorIs(t, err, devicegrant.ErrInvalidRequest)
			}
		})
	}
}

// What is no code verifier is none, though its challenge be that of the code (RFC 7636
// section 4.1).
func TestCodeVerifier(t *testing.T) {
	f := newFixture(t, nil)
	for name, tt := range map[string]struct {
		verifier string
		want     error
	}{
		"the shortest":    {strings.Repeat("a", 43), devicegrant.ErrAuthorizationPending},
		"the longest":     {strings.Repeat("a", 128), devicegrant.ErrAuthorizationPending},
		"every character": {"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~", devicegrant.ErrAuthorizationPending},
		"too short":       {strings.Repeat("a", 42), devicegrant.ErrInvalidGrant},
		"too long":        {strings.Repeat("a", 129), devicegrant.ErrInvalidGrant},
		"a plus":          {strings.Repeat("a", 43) + "+" + strings.Repeat("a", 43), devicegrant.ErrInvalidGrant},
		"a space":         {strings.Repeat("a", 43) + " ", devicegrant.ErrInvalidGrant},
	} {
		t.Run(name, func(t *testing.T) {
			sum := sha256.Sum256([]byte(tt.verifier))
			a, err := f.Authorize(t.Context(), tv, devicegrant.AuthorizationRequest{
				CodeChallenge: base64.RawURLEncoding.EncodeToString(sum[:]), CodeChallengeMethod: "S256",
			})
			require.NoError(t, err)
			_, err = f.Poll(t.Context(), devicegrant.PollRequest{ClientID: "tv", DeviceCode: a.DeviceCode, CodeVerifier: tt.verifier})
			assert.ErrorIs(t, err, tt.want)
		})
	}
}

// Whoever has to prove something is refused before anything is stored.
func TestRequiredProof(t *testing.T) {
	challenged := devicegrant.AuthorizationRequest{CodeChallenge: codeChallenge, CodeChallengeMethod: "S256"}
	keyed := devicegrant.AuthorizationRequest{Key: thumbprint}
	for name, tt := range map[string]struct {
		client devicegrant.Client
		terms  devicegrant.Terms
		enough devicegrant.AuthorizationRequest
		lacks  devicegrant.AuthorizationRequest
	}{
		"challenge, by the client": {client: devicegrant.Client{RequireChallenge: true}, enough: challenged, lacks: keyed},
		"key, by the client":       {client: devicegrant.Client{RequireKey: true}, enough: keyed, lacks: challenged},
		"challenge, by the policy": {terms: devicegrant.Terms{RequireChallenge: true}, enough: challenged, lacks: keyed},
		"key, by the policy":       {terms: devicegrant.Terms{RequireKey: true}, enough: keyed, lacks: challenged},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, func(c *devicegrant.Config) {
				c.Policy = func(context.Context, devicegrant.Application) (devicegrant.Terms, error) { return tt.terms, nil }
			})
			tt.client.ID, tt.client.DeviceGrant = "tv", true
			_, err := f.Authorize(t.Context(), tt.client, tt.lacks)
			assert.ErrorIs(t, err, devicegrant.ErrInvalidRequest)
			assert.Empty(t, f.raised(devicegrant.EventCreated))
			_, err = f.Authorize(t.Context(), tt.client, tt.enough)
			assert.NoError(t, err)
		})
	}
}

// byHeader is a Config.ProvenKey for tests: the key is in a header.
func byHeader(w http.ResponseWriter, r *http.Request) (devicegrant.Key, error) {
	w.Header().Set("DPoP-Nonce", "next")
	switch proof := r.Header.Get("DPoP"); proof {
	case "":
		return devicegrant.Key{}, nil
	case "malformed":
		return devicegrant.Key{}, &devicegrant.Error{Code: "invalid_dpop_proof"}
	case "broken":
		return devicegrant.Key{}, errors.New("the replay cache is away")
	default:
		return devicegrant.Key{Method: devicegrant.KeyDPoP, Thumbprint: proof}, nil
	}
}

// errorCode is the error of a JSON answer.
func errorCode(t *testing.T, w *httptest.ResponseRecorder) string {
	t.Helper()
	var body struct{ Error string }
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &body), w.Body.String())
	return body.Error
}

// The key of a request to the device authorization endpoint: proven, or named by dpop_jkt
// (RFC 9449 section 10).
func TestKeyOfTheDeviceAuthorizationRequest(t *testing.T) {
	const jkt, other = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I", "1ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"
	for name, tt := range map[string]struct {
		proof, jkt string
		status     int
		code       string
		pollProof  string
		want       string
	}{
		"none":                         {status: 200, want: "authorization_pending"},
		"none, and one at the poll":    {status: 200, pollProof: other, want: "authorization_pending"},
		"proven":                       {proof: jkt, status: 200, pollProof: jkt, want: "authorization_pending"},
		"proven, and not at the poll":  {proof: jkt, status: 200, want: "invalid_grant"},
		"named":                        {jkt: jkt, status: 200, pollProof: jkt, want: "authorization_pending"},
		"named, another at the poll":   {jkt: jkt, status: 200, pollProof: other, want: "invalid_grant"},
		"proven and named":             {proof: jkt, jkt: jkt, status: 200, pollProof: jkt, want: "authorization_pending"},
		"proven and another named":     {proof: jkt, jkt: other, status: 400, code: "invalid_request"},
		"named, too short":             {jkt: jkt[1:], status: 400, code: "invalid_request"},
		"named, of another alphabet":   {jkt: jkt[1:] + ".", status: 400, code: "invalid_request"},
		"malformed":                    {proof: "malformed", status: 400, code: "invalid_dpop_proof"},
		"broken":                       {proof: "broken", status: 503, code: "temporarily_unavailable"},
		"a poll with a malformed one":  {status: 200, pollProof: "malformed", want: "invalid_dpop_proof"},
		"a poll that cannot be judged": {status: 200, pollProof: "broken", want: "slow_down"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, func(c *devicegrant.Config) { c.ProvenKey = byHeader })
			w := f.post("/device_authorization", "client_id=tv&dpop_jkt="+tt.jkt, "DPoP", tt.proof)
			require.Equal(t, tt.status, w.Code, w.Body.String())
			assert.Equal(t, "next", w.Header().Get("DPoP-Nonce"))
			if tt.code != "" {
				assert.Equal(t, tt.code, errorCode(t, w))
				return
			}
			var a struct {
				DeviceCode string `json:"device_code"`
			}
			require.NoError(t, json.Unmarshal(w.Body.Bytes(), &a))
			w = f.post("/token", tokenForm("tv", a.DeviceCode), "DPoP", tt.pollProof)
			assert.Equal(t, http.StatusBadRequest, w.Code)
			assert.Equal(t, tt.want, errorCode(t, w))
			assert.Equal(t, "next", w.Header().Get("DPoP-Nonce"))
			assert.Equal(t, tt.pollProof == "broken", strings.Contains(f.logged(), "Config.ProvenKey failed"))
		})
	}
	f := newFixture(t, nil)
	w := f.post("/device_authorization", "client_id=tv&dpop_jkt="+jkt)
	require.Equal(t, 200, w.Code)
	w = f.post("/token", tokenForm("tv", response(t, w)["device_code"].(string)))
	assert.Equal(t, "authorization_pending", errorCode(t, w), "without ProvenKey no key could ever be proven, and the parameter is unknown")
}

// A key that is proven at the poll alone binds the tokens, whose type says so.
func TestTokenType(t *testing.T) {
	for name, tt := range map[string]struct {
		key  devicegrant.Key
		host string
		want string
	}{
		"no key":                  {want: "Bearer"},
		"DPoP":                    {key: thumbprint, want: "DPoP"},
		"certificate":             {key: sameDigest, want: "Bearer"},
		"DPoP, host says another": {key: thumbprint, host: "PoP", want: "PoP"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, nil)
			f.issue = func(_ context.Context, g *devicegrant.Grant) (*devicegrant.Token, error) {
				assert.Equal(t, tt.key, g.Key)
				return &devicegrant.Token{AccessToken: "x", TokenType: tt.host}, nil
			}
			a := f.authorize()
			f.approve(a)
			token, err := f.Poll(t.Context(), devicegrant.PollRequest{ClientID: "tv", DeviceCode: a.DeviceCode, Key: tt.key})
			require.NoError(t, err)
			body, err := json.Marshal(token)
			require.NoError(t, err)
			assert.Contains(t, string(body), `"token_type":"`+tt.want+`"`)
		})
	}
}

func TestCertificateKey(t *testing.T) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(raw)
	require.NoError(t, err)
	sum := sha256.Sum256(raw)
	for name, tt := range map[string]struct {
		state *tls.ConnectionState
		want  devicegrant.Key
	}{
		"no TLS":         {nil, devicegrant.Key{}},
		"no certificate": {&tls.ConnectionState{}, devicegrant.Key{}},
		"certificate": {
			&tls.ConnectionState{PeerCertificates: []*x509.Certificate{cert}},
			devicegrant.Key{Method: devicegrant.KeyCertificate, Thumbprint: base64.RawURLEncoding.EncodeToString(sum[:])},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := devicegrant.CertificateKey(nil, &http.Request{TLS: tt.state})
			require.NoError(t, err)
			assert.Equal(t, tt.want, got)
		})
	}
}

// tokenForm is the body of a poll.
func tokenForm(clientID, deviceCode string, more ...string) string {
	return strings.Join(append([]string{grantType, "client_id=" + clientID, "device_code=" + deviceCode}, more...), "&")
}

// response is a JSON answer.
func response(t *testing.T, w *httptest.ResponseRecorder) (body map[string]any) {
	t.Helper()
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &body), w.Body.String())
	return body
}
