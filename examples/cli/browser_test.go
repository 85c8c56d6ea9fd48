package main

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestBrowserCommand(t *testing.T) {
	display := map[string]string{"DISPLAY": ":0"}
	for _, tt := range []struct {
		goos string
		env  map[string]string
		uri  string
		want []string
	}{
		{"linux", display, complete, []string{"xdg-open", complete}},
		{"linux", map[string]string{"WAYLAND_DISPLAY": "wayland-0"}, complete, []string{"xdg-open", complete}},
		{"linux", nil, complete, nil},
		{"linux", map[string]string{"DISPLAY": ":0", "SSH_CONNECTION": "192.0.2.1 1 192.0.2.2 22"}, complete, nil},
		{"darwin", nil, complete, []string{"open", complete}},
		{"darwin", map[string]string{"SSH_CONNECTION": "192.0.2.1 1 192.0.2.2 22"}, complete, nil},
		{"windows", nil, complete, []string{"rundll32", "url.dll,FileProtocolHandler", complete}},
		{"linux", display, "http://127.0.0.1:8080/device?a=1&b=$(reboot)", []string{"xdg-open", "http://127.0.0.1:8080/device?a=1&b=$(reboot)"}},
		{"linux", display, "file:///etc/passwd", nil},
		{"linux", display, "javascript:alert(1)", nil},
		{"linux", display, "--help", nil},
		{"linux", display, "https:///device", nil},
		{"linux", display, "https://example.com/%zz", nil},
	} {
		getenv := func(name string) string { return tt.env[name] }
		assert.Equal(t, tt.want, browserCommand(tt.goos, getenv, tt.uri), "%s %v %s", tt.goos, tt.env, tt.uri)
	}
}

func TestStartFailsSilently(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	assert.False(t, start([]string{"xdg-open", complete}))
	assert.False(t, start(nil))
}
