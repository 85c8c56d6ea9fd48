package dpop

import (
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"
)

// URLs of one line are the same (RFC 3986 sections 6.2.2 and 6.2.3), and no two lines
// have any in common.
func TestAddress(t *testing.T) {
	seen := map[address]int{}
	for i, same := range [][]string{
		{"https://example.com", "https://example.com/", "HTTPS://EXAMPLE.com:443/", "https://example.com:", "https://example.com/.", "https://example.com/..", "https://example.com?q", "https://example.com#f"},
		{"https://example.com/a/b", "https://example.com/./a/../a/b", "https://example.com/%61/b", "https://example.com/%2e/a/b", "https://example.com/a/c/%2E%2e/b", "https://example.com/a/b?q=/#f"},
		{"https://example.com/a/b/", "https://example.com/a/b/.", "https://example.com/a/b/c/.."},
		{"https://example.com/A/b"},
		{"https://example.com/a//b"},
		{"https://example.com/a%2Fb", "https://example.com/a%2fb"},
		{"https://example.com/a%252Fb"},
		{"https://example.com/a%3Fb"},
		{"https://example.com/~a", "https://example.com/%7ea"},
		{"https://example.com/%C3%BC", "https://example.com/ü", "https://example.com/%c3%bc"},
		{"http://example.com/", "http://example.com:80"},
		{"http://example.com:443/"},
		{"https://example.com:80/"},
		{"https://example.com./"},
		{"https://[2001:db8::1]/", "https://[2001:DB8::1]:443"},
		{"https://[2001:db8::1]:8443/"},
	} {
		for _, s := range same {
			a, ok := parseAddress(s)
			require.True(t, ok, s)
			if first, found := seen[a]; found {
				require.Equal(t, first, i, s)
			}
			if s != same[0] {
				require.Contains(t, seen, a, s)
			}
			seen[a] = i
		}
	}
	for _, s := range []string{"", "/a", "//example.com/a", "https:", "https:///a", "https:example.com", "https://:443/", "https://user@example.com/", "ftp://example.com/", "https://example.com/%zz", "https://exa mple.com/", "https://example.com/\x00"} {
		_, ok := parseAddress(s)
		require.False(t, ok, s)
	}
}

// Normal forms are stable, whatever they are made of.
func FuzzNormalPath(f *testing.F) {
	for _, s := range []string{"", "/", "/a/../b", "/%2e%2E/", "//", "/..//.", "/%2%", "/%25%32%65", "*"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		u := url.URL{Path: s}
		path := normalPath(u.EscapedPath())
		require.Equal(t, path, normalPath(path))
		require.Equal(t, byte('/'), path[0])
		again, err := url.ParseRequestURI("https://example.com" + path)
		require.NoError(t, err)
		require.Equal(t, path, normalPath(again.EscapedPath()))
	})
}
