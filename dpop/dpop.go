// Package dpop verifies DPoP proofs (RFC 9449): at an authorization server, as
// [devicegrant.Config.ProvenKey], and at the resources that its tokens are for.
//
// Start with [New], and hand [Verifier.ProvenKey] to the grant:
//
//	proofs, err := dpop.New(dpop.Config{BaseURL: "https://as.example.com"})
//	grant, err := devicegrant.New(devicegrant.Config{ProvenKey: proofs.ProvenKey, …})
//
// A token for such a device has the key's thumbprint in its cnf, and its token_type is
// "DPoP" (sections 5 and 6). A resource calls [Verifier.Resource], compares that
// thumbprint with the key of the request, and answers with [Verifier.Challenge] where
// they differ. Metadata says which algorithms there are.
//
// What is enforced: every rule of section 4.3, and that no proof is used twice (section
// 11.1). What remains the host's: several replicas have to share a [Replay] and the
// NonceKeys; and a token that is bound to a key must not be taken by the scheme Bearer
// (section 7.2).
package dpop

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/devicegrant/devicegrant"
)

// The errors that clients are told. Two of the same code match under errors.Is.
var (
	// ErrInvalidProof: the proof breaks a rule of section 4.3, or was used before. The
	// client may try again with a new one (section 5).
	ErrInvalidProof = &devicegrant.Error{Code: "invalid_dpop_proof"}
	// ErrUseNonce: the proof has no nonce that is good now. The client makes another
	// with the nonce of the answer's DPoP-Nonce header (section 8).
	ErrUseNonce = &devicegrant.Error{Code: "use_dpop_nonce"}
	// ErrInvalidToken: the access token is malformed, unknown, expired, or bound to
	// another key (section 7.1, RFC 6750 section 3.1).
	ErrInvalidToken = &devicegrant.Error{Code: "invalid_token"}
)

// Config configures a [Verifier]. BaseURL is required; the zero value of everything
// else is a sensible default.
type Config struct {
	// BaseURL is the absolute URL under which clients reach this server, such as
	// https://as.example.com. The path of a request's URL is added to it, and the htu of
	// the proof has to be the same (section 4.3). Where something strips a prefix of the
	// path before the Verifier sees it, a proxy or http.StripPrefix, it ends in that
	// prefix. It must be https, or http on a loopback address.
	BaseURL string

	// Algorithms are those that proofs may be signed with: of ES256, ES384, ES512,
	// EdDSA (with Ed25519), PS256, PS384, PS512, RS256, RS384 and RS512. RSA keys must
	// have 2048 to 4096 bits. Nil means ES256, EdDSA, PS256 and RS256.
	Algorithms []jose.SignatureAlgorithm

	// Window is how long a proof is good, from a second to an hour: with NonceKeys from
	// when its nonce was made, otherwise from its iat, which may be up to ten seconds
	// ahead of this server's clock. It should be longer than the interval at which
	// devices poll, or each poll needs a new nonce first. Zero means 2 minutes.
	Window time.Duration

	// NonceKeys, when set, demand a nonce of this server in every proof (section 8): no
	// proof can then be made in advance, and devices whose clock is wrong can log in,
	// for the nonce says when a proof was made, and iat is not compared. Each has at
	// least 32 random bytes, the same on every replica; those of
	// devicegrant.Config.Keys will do. The first makes, all of them verify: to
	// rotate, add a new key last on every replica, then put it first, and drop the old
	// one a Window later.
	NonceKeys [][]byte

	// Replay remembers which proofs were used. Nil keeps up to 262,144 of them in the
	// memory of this process, in 30 to 40 MB. With several replicas that do not share
	// one, a proof can be used once at each.
	Replay Replay
}

const (
	// skew is how far ahead a client's clock may be. It is short because who post-dates
	// proofs could otherwise push those of honest clients out of the replay cache.
	skew = 10 * time.Second

	defaultWindow = 2 * time.Minute
	maxWindow     = time.Hour
)

var (
	defaultAlgorithms = []jose.SignatureAlgorithm{jose.ES256, jose.EdDSA, jose.PS256, jose.RS256}

	// asymmetric are the algorithms that section 4.3 permits, as far as they are
	// implemented: neither none nor one with a shared secret.
	asymmetric = []jose.SignatureAlgorithm{
		jose.ES256, jose.ES384, jose.ES512, jose.EdDSA,
		jose.PS256, jose.PS384, jose.PS512, jose.RS256, jose.RS384, jose.RS512,
	}
)

// Verifier verifies the proofs that are sent to one server. It is safe for concurrent
// use and starts no goroutine.
type Verifier struct {
	base       address
	algorithms []jose.SignatureAlgorithm
	window     time.Duration
	nonces     nonces
	replay     Replay
}

// New checks the configuration and returns a Verifier. Its error names every setting
// that has to change.
func New(cfg Config) (*Verifier, error) {
	if cfg.Algorithms == nil {
		cfg.Algorithms = defaultAlgorithms
	}
	if cfg.Window == 0 {
		cfg.Window = defaultWindow
	}
	if cfg.Replay == nil {
		cfg.Replay = newMemory(maxRemembered)
	}
	base, baseErr := parseBaseURL(cfg.BaseURL)
	keys, keyErr := newNonces(cfg.NonceKeys, cfg.Window)
	if err := errors.Join(baseErr, checkAlgorithms(cfg.Algorithms), checkWindow(cfg.Window), keyErr); err != nil {
		return nil, fmt.Errorf("dpop: %w", err)
	}
	return &Verifier{
		base:       base,
		algorithms: slices.Clone(cfg.Algorithms),
		window:     cfg.Window,
		nonces:     keys,
		replay:     cfg.Replay,
	}, nil
}

func checkAlgorithms(list []jose.SignatureAlgorithm) error {
	if len(list) == 0 {
		return errors.New("Algorithms is empty; leave it nil for the default")
	}
	for _, alg := range list {
		if !slices.Contains(asymmetric, alg) {
			return fmt.Errorf("Algorithms has %q; use only %v", alg, asymmetric)
		}
	}
	return nil
}

func checkWindow(d time.Duration) error {
	if d < time.Second || d > maxWindow {
		return fmt.Errorf("Window is %v; set it to between a second and %v", d, maxWindow)
	}
	return nil
}

// ProvenKey is a [devicegrant.Config.ProvenKey]: it returns the key of the request's
// DPoP proof, or the zero Key if it has none (section 5). A proof that is not valid is
// ErrInvalidProof or ErrUseNonce. Any other error is that of the Replay.
//
// A proof can be verified once; so call it once for a request. With NonceKeys it sets
// DPoP-Nonce on the answer to every proof, also to valid ones, so that clients always
// have a fresh nonce (section 8.2), and Cache-Control: no-store.
func (v *Verifier) ProvenKey(w http.ResponseWriter, r *http.Request) (devicegrant.Key, error) {
	if len(r.Header.Values("DPoP")) == 0 {
		return devicegrant.Key{}, nil
	}
	return v.verify(w, r, nil)
}

// Metadata returns doc, which may be nil, with the algorithms that proofs may be signed
// with, as the metadata of an authorization server (section 5.1) and that of a protected
// resource (RFC 9728 section 2) name them. doc is not changed.
func (v *Verifier) Metadata(doc map[string]any) map[string]any {
	merged := make(map[string]any, len(doc)+1)
	maps.Copy(merged, doc)
	merged["dpop_signing_alg_values_supported"] = v.algorithmNames()
	return merged
}

func (v *Verifier) algorithmNames() []string {
	names := make([]string, len(v.algorithms))
	for i, alg := range v.algorithms {
		names[i] = string(alg)
	}
	return names
}
