package dpop_test

import (
	"crypto/sha256"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/devicegrant/devicegrant"
	"github.com/devicegrant/devicegrant/dpop"
)

// FuzzProvenKey requires that a DPoP header is refused with a code of the protocol unless
// it is one of the valid ones, whose keys nobody else has, at their own URL and method.
func FuzzProvenKey(f *testing.F) {
	v := newVerifier(f, func(c *dpop.Config) {
		c.Window = time.Hour
		c.Replay = replayFunc(func([sha256.Size]byte, time.Time) (bool, error) { return true, nil })
	})
	keys := []string{thumbprint(p256().Public()), thumbprint(ed().Public())}
	for _, p := range []string{
		es256().String(), newProof("EdDSA", ed()).String(), header("jwk", jwk(p256())), header("typ", "JWT"),
		claim("iat", 1e300), unsignedBy("none", nil), jsonForm(es256()), "..", "e30.e30.e30", "",
	} {
		f.Add("POST", "/token", p)
		f.Add("GET", "/%2e%2e/token", p)
	}
	f.Fuzz(func(t *testing.T, method, path, proof string) {
		r := httptest.NewRequest(http.MethodPost, "/", nil)
		r.Method, r.URL.Path = method, path
		r.Header["Dpop"] = []string{proof}
		key, err := v.ProvenKey(httptest.NewRecorder(), r)
		if err == nil {
			require.Equal(t, devicegrant.KeyDPoP, key.Method)
			require.Contains(t, keys, key.Thumbprint)
			require.Equal(t, "POST", method)
			require.True(t, strings.HasSuffix(path, "token"), path)
			return
		}
		require.Zero(t, key)
		require.ErrorIs(t, err, dpop.ErrInvalidProof)
	})
}
