package main

import (
	"net/http"
	"net/url"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const tvOrigin = "https://tv.example.com"

// preflight is what a browser asks before a page sends a DPoP proof.
func (d *device) preflight(p *process, path, origin string) (status int, header http.Header) {
	d.t.Helper()
	r, err := http.NewRequestWithContext(d.t.Context(), http.MethodOptions, p.origin+path, nil)
	require.NoError(d.t, err)
	r.Header.Set("Origin", origin)
	r.Header.Set("Access-Control-Request-Method", http.MethodPost)
	r.Header.Set("Access-Control-Request-Headers", "content-type,dpop")
	resp, err := d.client.Do(r)
	require.NoError(d.t, err)
	require.NoError(d.t, resp.Body.Close())
	return resp.StatusCode, resp.Header
}

// TestWebPages: web pages of the tv's origin may use both endpoints as the tv, and nobody
// else may.
func TestWebPages(t *testing.T) {
	p := serve(t, "-tv-origins", tvOrigin+",https://tv.example.org")
	defer p.end(t)
	d := newDevice(t)
	const allowed = "Access-Control-Allow-Origin"
	for _, path := range []string{"/device_authorization", "/token"} {
		for _, origin := range []string{tvOrigin, "https://tv.example.org"} {
			status, header := d.preflight(p, path, origin)
			assert.Equal(t, http.StatusNoContent, status)
			assert.Equal(t, []string{origin}, header.Values(allowed))
			assert.Equal(t, "POST", header.Get("Access-Control-Allow-Methods"))
			assert.Contains(t, header.Get("Access-Control-Allow-Headers"), "DPoP")
			assert.Contains(t, header.Values("Vary"), "Origin")
			assert.Empty(t, header.Get("Access-Control-Allow-Credentials"))
		}
		for _, origin := range []string{"https://evil.example.com", "https://tv.example.com.evil.example", "http://tv.example.com", "null"} {
			status, header := d.preflight(p, path, origin)
			assert.Equal(t, http.StatusMethodNotAllowed, status, origin)
			assert.Empty(t, header.Values(allowed), origin)
		}
	}

	// A client whose pages there are none.
	cli := d.post(p, "/device_authorization", url.Values{}, "Origin", tvOrigin, "Authorization", "Basic "+basicCLI)
	require.Equal(t, http.StatusOK, cli.Status, cli.Body)
	assert.Empty(t, cli.Header.Values(allowed))

	a := d.post(p, "/device_authorization", url.Values{}, "Origin", tvOrigin)
	require.Equal(t, http.StatusOK, a.Status, a.Body)
	for name, got := range map[string]answer{
		"codes":        a,
		"pending":      d.post(p, "/token", pollForm(a.DeviceCode), "Origin", tvOrigin),
		"made-up code": d.post(p, "/token", pollForm("x"), "Origin", tvOrigin),
		"scope":        d.post(p, "/device_authorization", url.Values{"scope": {"admin"}}, "Origin", tvOrigin),
	} {
		assert.Equal(t, []string{tvOrigin}, got.Header.Values(allowed), name)
		assert.Contains(t, got.Header.Get("Access-Control-Expose-Headers"), "DPoP-Nonce", name)
	}
	other := d.post(p, "/device_authorization", url.Values{}, "Origin", "https://evil.example.com")
	assert.Equal(t, http.StatusOK, other.Status, "it is the browser that keeps the page from reading it")
	assert.Empty(t, other.Header.Values(allowed))
}

// TestNoWebPages: without the option, no page may.
func TestNoWebPages(t *testing.T) {
	p := serve(t)
	defer p.end(t)
	d := newDevice(t)
	status, header := d.preflight(p, "/token", tvOrigin)
	assert.Equal(t, http.StatusMethodNotAllowed, status)
	assert.Empty(t, header.Values("Access-Control-Allow-Origin"))
	a := d.post(p, "/device_authorization", url.Values{}, "Origin", tvOrigin)
	assert.Equal(t, http.StatusOK, a.Status)
	assert.Empty(t, a.Header.Values("Access-Control-Allow-Origin"))
}
