package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/devicegrant/devicegrant"
	"github.com/devicegrant/devicegrant/examples/internal/browser"
	"github.com/devicegrant/devicegrant/examples/internal/demo"
	"github.com/devicegrant/devicegrant/memstore"
)

// process is a server that run serves.
type process struct {
	origin string
	stdout *bufio.Scanner
	log    logBuffer
	stop   context.CancelFunc
	done   chan error
}

type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// serve starts a server and waits until it says that it serves.
func serve(t *testing.T, args ...string) *process {
	r, w := io.Pipe()
	ctx, stop := context.WithCancel(t.Context())
	p := &process{stdout: bufio.NewScanner(r), stop: stop, done: make(chan error, 1)}
	go func() {
		p.done <- run(ctx, append([]string{"-addr", "127.0.0.1:0"}, args...), w, &p.log)
		w.Close()
	}()
	require.True(t, p.stdout.Scan(), "it never served")
	origin, ok := strings.CutPrefix(p.stdout.Text(), "listening on ")
	require.True(t, ok, p.stdout.Text())
	p.origin = origin
	return p
}

// end stops the server and requires that it ends well, having said no more.
func (p *process) end(t *testing.T) {
	t.Helper()
	p.stop()
	require.False(t, p.stdout.Scan(), p.stdout.Text())
	require.NoError(t, <-p.done)
}

func TestRun(t *testing.T) {
	p := serve(t, "-lifetime", "5m", "-interval", "3s")
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	resp, err := client.PostForm(p.origin+"/device_authorization", url.Values{"client_id": {"tv"}})
	require.NoError(t, err)
	defer resp.Body.Close()
	var a struct {
		DeviceCode      string `json:"device_code"`
		UserCode        string `json:"user_code"`
		VerificationURI string `json:"verification_uri"`
		ExpiresIn       int    `json:"expires_in"`
		Interval        int    `json:"interval"`
	}
	require.NoError(t, json.NewDecoder(resp.Body).Decode(&a))
	assert.Equal(t, p.origin+"/device", a.VerificationURI)
	assert.Equal(t, 300, a.ExpiresIn)
	assert.Equal(t, 3, a.Interval)
	p.end(t)
	assert.Contains(t, p.log.String(), "device grant: created")
	assert.NotContains(t, p.log.String(), a.DeviceCode)
	assert.NotContains(t, p.log.String(), a.UserCode)
	_, err = client.Get(p.origin)
	require.Error(t, err, "the server is still there")
}

// TestEndsWithOpenConnections: a browser that keeps a connection open does not keep the server.
func TestEndsWithOpenConnections(t *testing.T) {
	p := serve(t)
	b := browser.New(t, &http.Transport{})
	defer b.Close()
	b.Open(p.origin + "/")
	require.Equal(t, http.StatusOK, b.Status)
	p.end(t)
}

func TestRefused(t *testing.T) {
	dir := t.TempDir()
	badKey := filepath.Join(dir, "bad")
	require.NoError(t, os.WriteFile(badKey, []byte("abc"), 0o600))
	noDatabase := filepath.Join(dir, "text")
	require.NoError(t, os.WriteFile(noDatabase, bytes.Repeat([]byte("text"), 1000), 0o600))
	silent := newSilentServer(t)
	for _, tt := range []struct {
		name string
		args []string
		want string
	}{
		{"unknown store", []string{"-store", "carrier:pigeon"}, `unknown store "carrier:…"; known are: memory:, sqlite:FILE, postgres:`},
		{"a store's password is not told", []string{"-store", "oracle://u:hunter2@h/db"}, `unknown store "oracle:…"; known are: memory:`},
		{"malformed store", []string{"-store", "postgres://u:hunter2/@h/db"}, `store "postgres:…": the URL is malformed`},
		{"store without a database", []string{"-store", "mysql://u:hunter2@h"}, "the URL names no database"},
		{"no file", []string{"-store", "sqlite:"}, "the name of the file is missing"},
		{"no directory for the file", []string{"-store", "sqlite:" + filepath.Join(dir, "none", "db")}, "no such file"},
		{"not a database", []string{"-store", "sqlite:" + noDatabase}, "not a database"},
		{"PostgreSQL is not there", []string{"-store", "postgres://u:hunter2@127.0.0.1:1/db"}, "refused"},
		{"MariaDB is not there", []string{"-store", "mysql://u:hunter2@127.0.0.1:1/db"}, "refused"},
		{"PostgreSQL does not answer", []string{"-store", "postgres://u:hunter2@" + silent + "/db"}, "timeout"},
		{"MariaDB does not answer", []string{"-store", "mysql://u:hunter2@" + silent + "/db"}, "deadline exceeded"},
		{"store without a scheme", []string{"-store", "memory"}, "unknown store"},
		{"short key", []string{"-key", badKey}, "not at least 32 bytes in hex"},
		{"no directory for the key", []string{"-key", filepath.Join(dir, "none", "key")}, "no such file"},
		{"lifetime", []string{"-lifetime", "1ms"}, "Lifetime is 1ms"},
		{"interval", []string{"-interval", "-1s"}, "Interval is -1s"},
		{"address", []string{"-addr", "nowhere"}, `"nowhere" is not HOST:PORT`},
		{"argument", []string{"serve"}, `unexpected argument "serve"`},
		{"flag", []string{"-nope"}, "wrong usage"},
		{"proxies", []string{"-trusted-proxies", "10.0.0.1"}, "wrong usage"},
		{"origin with a path", []string{"-tv-origins", "https://tv.example.com/"}, "wrong usage"},
		{"origin in capitals", []string{"-tv-origins", "https://TV.example.com"}, "wrong usage"},
		{"any origin", []string{"-tv-origins", "https://tv.example.com,*"}, "wrong usage"},
		{"no origin", []string{"-tv-origins", "null"}, "wrong usage"},
		{"no polls", []string{"-poll-budget", "0"}, "-poll-budget is 0; it must be above zero"},
		{"no number of polls", []string{"-poll-budget", "NaN"}, "-poll-budget is NaN"},
		{"help", []string{"-h"}, flag.ErrHelp.Error()},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel() // Some wait.
			var stdout, stderr bytes.Buffer
			began := time.Now()
			err := run(t.Context(), append([]string{"-addr", "127.0.0.1:0"}, tt.args...), &stdout, &stderr)
			require.ErrorContains(t, err, tt.want)
			assert.NotContains(t, err.Error()+stderr.String(), "hunter2")
			assert.Empty(t, stdout.String())
			assert.Less(t, time.Since(began), openTime+5*time.Second)
		})
	}
}

// newSilentServer returns the address of a server that lets everybody in and says
// nothing.
func newSilentServer(t *testing.T) (addr string) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { listener.Close() })
	return listener.Addr().String() // The system accepts for it.
}

func TestOptions(t *testing.T) {
	o, err := parseOptions([]string{
		"-trusted-proxies", "10.0.0.0/8, 2001:db8::/32", "-lifetime", "10m", "-interval", "1s", "-key", "k",
		"-poll-budget", "0.5", "-tv-origins", "https://tv.example.com, http://127.0.0.1:81", "-admin-secret", "s",
	}, io.Discard)
	require.NoError(t, err)
	assert.Equal(t, options{
		addr: "127.0.0.1:8080", store: "memory:", keyFile: "k", lifetime: 10 * time.Minute, interval: time.Second,
		trustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8::/32")},
		pollBudget:     0.5, tvOrigins: []string{"https://tv.example.com", "http://127.0.0.1:81"}, adminSecret: "s",
	}, o)
}

func TestEmptyLists(t *testing.T) {
	o, err := parseOptions([]string{"-trusted-proxies", "", "-tv-origins", ""}, io.Discard)
	require.NoError(t, err)
	assert.Empty(t, o.trustedProxies)
	assert.Empty(t, o.tvOrigins)
}

// TestReplicasShareKeys: with the same key file, a code of one server is known to
// be genuine by another.
func TestReplicasShareKeys(t *testing.T) {
	key := filepath.Join(t.TempDir(), "key")
	a, b, other := newReplica(t, key), newReplica(t, key), newReplica(t, "")
	code, err := a.Authorize(t.Context(), devicegrant.Client{ID: "tv", DeviceGrant: true, DefaultScopes: []string{"openid"}}, devicegrant.AuthorizationRequest{})
	require.NoError(t, err)
	// Each has a store of its own, so both refuse the code; but only one takes it
	// for a forgery, as the error's cause says.
	_, genuine := b.Poll(t.Context(), devicegrant.PollRequest{ClientID: "tv", DeviceCode: code.DeviceCode})
	_, forged := other.Poll(t.Context(), devicegrant.PollRequest{ClientID: "tv", DeviceCode: code.DeviceCode})
	assert.NotEqual(t, forged.Error(), genuine.Error())
}

func newReplica(t *testing.T, key string) *devicegrant.Server {
	_, grant := inMemory(t, "http://127.0.0.1:8080", key)
	return grant
}

// inMemory is the server that nobody listens for.
func inMemory(t *testing.T, origin, key string) (*demo.Host, *devicegrant.Server) {
	unused, err := startTelemetry("")
	require.NoError(t, err)
	host, grant, err := newServer(options{keyFile: key, pollBudget: 1}, stores{grants: memstore.New(0), records: demo.InMemory()}, unused, origin, nil)
	require.NoError(t, err)
	return host, grant
}

// TestMetadataNamesRoutes: every endpoint in the metadata exists.
func TestMetadataNamesRoutes(t *testing.T) {
	origin := "http://127.0.0.1:8080"
	host, grant := inMemory(t, origin, "")
	handler := routes(options{}, host, grant)
	get := func(path string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		return w
	}
	var doc map[string]any
	require.NoError(t, json.Unmarshal(get("/.well-known/oauth-authorization-server").Body.Bytes(), &doc))
	for _, name := range []string{"token_endpoint", "device_authorization_endpoint", "userinfo_endpoint"} {
		uri, _ := doc[name].(string)
		path, ok := strings.CutPrefix(uri, origin)
		require.True(t, ok, name)
		assert.NotEqual(t, http.StatusNotFound, get(path).Code, name)
	}
	assert.Equal(t, origin, doc["issuer"])
	assert.Equal(t, []any{"refresh_token", devicegrant.GrantType}, doc["grant_types_supported"])
	assert.Equal(t, []any{"none", "client_secret_basic", "client_secret_post"}, doc["token_endpoint_auth_methods_supported"])
	assert.Equal(t, []any{"openid", "profile", "offline_access"}, doc["scopes_supported"])
	assert.Equal(t, []any{}, doc["response_types_supported"])
	assert.Equal(t, []any{"S256"}, doc["code_challenge_methods_supported"])
	assert.Equal(t, []any{"payment_initiation"}, doc["authorization_details_types_supported"])
	assert.Equal(t, []any{"ES256", "EdDSA", "PS256", "RS256"}, doc["dpop_signing_alg_values_supported"])
}
