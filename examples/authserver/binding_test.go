package main

import (
	"net/http"
	"net/url"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/devicegrant/devicegrant/examples/internal/prover"
)

// The example of RFC 7636 appendix B.
const (
	verifier  = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
	challenge = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
)

// TestVerifier: a code with a challenge is of use together with its verifier, and one
// without a challenge together with none (RFC 7636 section 4.6, RFC 9700 section 2.1.1).
// Whoever tries anything else neither gets the tokens nor keeps them from their owner.
func TestVerifier(t *testing.T) {
	p := serve(t)
	defer p.end(t)
	d := newDevice(t)
	b, _ := newPerson(t)
	signIn(t, b, p)
	challenged := url.Values{"code_challenge": {challenge}, "code_challenge_method": {"S256"}}
	own := []string{verifier}
	for _, tt := range []struct {
		name       string
		asked      url.Values
		own, tried []string // of the parameter code_verifier
	}{
		{"no verifier", challenged, own, nil},
		{"empty verifier", challenged, own, []string{""}},
		{"another verifier", challenged, own, []string{"a" + verifier[1:]}},
		{"more than the verifier", challenged, own, []string{verifier + "a"}},
		{"the challenge", challenged, own, []string{challenge}},
		{"too short", challenged, own, []string{"a"}},
		{"no challenge", url.Values{}, nil, own},
		{"no challenge, no verifier of the right form", url.Values{}, nil, []string{"a"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := d.authorizeWith(p, tt.asked)
			poll := func(verifier []string) answer {
				form := pollForm(a.DeviceCode)
				if verifier != nil {
					form["code_verifier"] = verifier
				}
				return d.post(p, "/token", form)
			}
			for range 3 {
				require.Equal(t, "invalid_grant", poll(tt.tried).Error, "pending")
			}
			require.Equal(t, "authorization_pending", poll(tt.own).Error, "the thief slows the owner down")
			approve(t, b, p, a.UserCode)
			require.Equal(t, "invalid_grant", poll(tt.tried).Error, "approved")
			got := poll(tt.own)
			require.Equal(t, http.StatusOK, got.Status, got.Body)
			assert.Equal(t, "alice", d.userinfo(p, got.AccessToken).Sub)
		})
	}
	assert.Contains(t, p.log.String(), "level=WARN msg=\"device grant: unproven\"")
}

func TestChallengeRefused(t *testing.T) {
	p := serve(t)
	defer p.end(t)
	d := newDevice(t)
	for name, asked := range map[string]url.Values{
		"plain":          {"code_challenge": {verifier}, "code_challenge_method": {"plain"}},
		"no method":      {"code_challenge": {challenge}}, // Which means plain (RFC 7636 section 4.3).
		"no challenge":   {"code_challenge_method": {"S256"}},
		"no digest":      {"code_challenge": {"abc"}, "code_challenge_method": {"S256"}},
		"dpop_jkt":       {"dpop_jkt": {"abc"}},
		"dpop_jkt twice": {"dpop_jkt": {challenge, challenge}},
	} {
		a := d.post(p, "/device_authorization", asked)
		assert.Equal(t, http.StatusBadRequest, a.Status, name)
		assert.Equal(t, "invalid_request", a.Error, name)
	}
}

// proven posts a form with a proof of the key, and again with the nonce that the server
// demands if that is refused (RFC 9449 section 8).
func (d *device) proven(p *process, key *prover.Key, path string, form url.Values) answer {
	d.t.Helper()
	send := func() answer {
		a := d.post(p, path, form, "DPoP", key.Proof(http.MethodPost, p.origin+path, ""))
		key.Nonce = a.Header.Get("DPoP-Nonce")
		require.NotEmpty(d.t, key.Nonce, a.Body)
		return a
	}
	a := send()
	if a.Error == "use_dpop_nonce" {
		a = send()
	}
	return a
}

// userinfoBy uses a bound token with a key, which has a nonce.
func (d *device) userinfoBy(p *process, key *prover.Key, accessToken string) answer {
	d.t.Helper()
	r, err := http.NewRequestWithContext(d.t.Context(), http.MethodGet, p.origin+"/userinfo", nil)
	require.NoError(d.t, err)
	return d.send(r, "Authorization", "DPoP "+accessToken, "DPoP", key.Proof(http.MethodGet, p.origin+"/userinfo", accessToken))
}

// TestKey: a code that was asked for with a key, or for a key, gets its tokens with that
// key only, and they are good with it only (RFC 9449).
func TestKey(t *testing.T) {
	for kind, args := range kinds {
		for name, named := range map[string]bool{"proven": false, "named in dpop_jkt": true} {
			t.Run(kind+", "+name, func(t *testing.T) {
				p := serve(t, append(args(t), "-dpop-nonces")...)
				defer p.end(t)
				d := newDevice(t)
				b, _ := newPerson(t)
				signIn(t, b, p)
				key, thief := prover.New(t), prover.New(t)
				asked := url.Values{"scope": {"openid offline_access"}}
				var a answer
				if named {
					asked.Set("dpop_jkt", key.Thumbprint())
					a = d.authorizeWith(p, asked)
				} else {
					a = d.proven(p, key, "/device_authorization", asked)
				}
				require.Equal(t, http.StatusOK, a.Status, a.Body)

				steal := func() {
					t.Helper()
					require.Equal(t, "invalid_grant", d.poll(p, a.DeviceCode).Error, "no proof")
					require.Equal(t, "invalid_grant", d.proven(p, thief, "/token", pollForm(a.DeviceCode)).Error, "another key")
				}
				steal()
				require.Equal(t, "authorization_pending", d.proven(p, key, "/token", pollForm(a.DeviceCode)).Error)
				approve(t, b, p, a.UserCode)
				steal()
				got := d.proven(p, key, "/token", pollForm(a.DeviceCode))
				require.Equal(t, http.StatusOK, got.Status, got.Body)
				require.Equal(t, "DPoP", got.TokenType)

				d.requireBound(p, key, thief, got.AccessToken)
				refresh := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {got.RefreshToken}}
				require.Equal(t, "invalid_grant", d.post(p, "/token", refresh).Error)
				require.Equal(t, "invalid_grant", d.proven(p, thief, "/token", refresh).Error)
				next := d.proven(p, key, "/token", refresh)
				require.Equal(t, http.StatusOK, next.Status, next.Body)
				require.Equal(t, "DPoP", next.TokenType)
				d.requireBound(p, key, thief, next.AccessToken)
			})
		}
	}
}

// requireBound checks what opens userinfo and what does not.
func (d *device) requireBound(p *process, key, thief *prover.Key, accessToken string) {
	d.t.Helper()
	require.Equal(d.t, "alice", d.userinfoBy(p, key, accessToken).Sub)
	require.Equal(d.t, http.StatusUnauthorized, d.userinfoBy(p, thief, accessToken).Status)
	require.Equal(d.t, http.StatusUnauthorized, d.userinfo(p, accessToken).Status)
}

// TestKeysDiffer: what is named and what is proven have to agree (RFC 9449 section 10.1).
func TestKeysDiffer(t *testing.T) {
	p := serve(t, "-dpop-nonces")
	defer p.end(t)
	d, key := newDevice(t), prover.New(t)
	a := d.proven(p, key, "/device_authorization", url.Values{"dpop_jkt": {prover.New(t).Thumbprint()}})
	assert.Equal(t, "invalid_request", a.Error)
	a = d.proven(p, key, "/device_authorization", url.Values{"dpop_jkt": {key.Thumbprint()}})
	assert.Equal(t, http.StatusOK, a.Status, a.Body)
}

// TestProofs: what a proof is refused for, here by way of the token endpoint.
func TestProofs(t *testing.T) {
	p := serve(t, "-dpop-nonces")
	defer p.end(t)
	d, key := newDevice(t), prover.New(t)
	a := d.authorize(p)
	first := d.post(p, "/token", pollForm(a.DeviceCode), "DPoP", key.Proof(http.MethodPost, p.origin+"/token", ""))
	require.Equal(t, "use_dpop_nonce", first.Error)
	key.Nonce = first.Header.Get("DPoP-Nonce")
	proof := key.Proof(http.MethodPost, p.origin+"/token", "")
	for _, tt := range []struct{ name, proof, want string }{
		{"good", proof, "authorization_pending"},
		{"used before", proof, "invalid_dpop_proof"},
		{"for another endpoint", key.Proof(http.MethodPost, p.origin+"/device_authorization", ""), "invalid_dpop_proof"},
		{"for another method", key.Proof(http.MethodGet, p.origin+"/token", ""), "invalid_dpop_proof"},
		{"no proof", "x", "invalid_dpop_proof"},
	} {
		assert.Equal(t, tt.want, d.post(p, "/token", pollForm(a.DeviceCode), "DPoP", tt.proof).Error, tt.name)
	}
}

// Without the flag, a proof needs no nonce.
func TestProofWithoutNonce(t *testing.T) {
	p := serve(t)
	defer p.end(t)
	d, key := newDevice(t), prover.New(t)
	a := d.authorize(p)
	polled := d.post(p, "/token", pollForm(a.DeviceCode), "DPoP", key.Proof(http.MethodPost, p.origin+"/token", ""))
	assert.Equal(t, "authorization_pending", polled.Error)
	assert.Empty(t, polled.Header.Get("DPoP-Nonce"))
}
