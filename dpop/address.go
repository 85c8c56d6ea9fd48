package dpop

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"
)

// address is a URL without query and fragment, in the one form of all that are
// equivalent by RFC 3986 sections 6.2.2 and 6.2.3. Two of them can be compared.
type address struct {
	scheme string
	host   string // with the port, unless it is the scheme's own
	path   string // escaped
}

// parseAddress reads an absolute URL of http or https. What follows the path is ignored
// (section 4.3, item 9).
func parseAddress(s string) (address, bool) {
	u, err := url.Parse(s) // The scheme is in lower case then.
	if err != nil || u.Hostname() == "" || u.User != nil {
		return address{}, false
	}
	ports := map[string]string{"http": "80", "https": "443"}
	usual, known := ports[u.Scheme]
	if !known {
		return address{}, false
	}
	host := strings.ToLower(u.Hostname())
	if port := u.Port(); port != "" && port != usual {
		host = net.JoinHostPort(host, port)
	}
	return address{scheme: u.Scheme, host: host, path: normalPath(u.EscapedPath())}, true
}

// parseBaseURL reads Config.BaseURL.
func parseBaseURL(s string) (address, error) {
	base, ok := parseAddress(s)
	if !ok || strings.ContainsAny(s, "?#") {
		return address{}, fmt.Errorf("BaseURL is %q; set it to the absolute URL under which clients reach this server, without a query", s)
	}
	u, err := url.Parse(s)
	if err != nil {
		return address{}, fmt.Errorf("BaseURL: %w", err)
	}
	ip, _ := netip.ParseAddr(u.Hostname())
	if base.scheme != "https" && u.Hostname() != "localhost" && !ip.IsLoopback() {
		return address{}, fmt.Errorf("BaseURL is %q; it must be https, or http on a loopback address", s)
	}
	base.path = strings.TrimRight(base.path, "/")
	return base, nil
}

// join returns the address under base that a request for u was made to.
func (base address) join(u *url.URL) address {
	path := u.EscapedPath()
	if !strings.HasPrefix(path, "/") {
		path = "/" + path
	}
	base.path = normalPath(base.path + path)
	return base
}

// normalPath returns the escaped path in its normal form: nothing escaped that need not
// be, hexadecimal digits in upper case, no dot segments, and a slash if it is empty.
func normalPath(escaped string) string {
	return withoutDots(normalEscapes(escaped))
}

// normalEscapes is RFC 3986 sections 6.2.2.1 and 6.2.2.2.
func normalEscapes(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '%' || i+2 >= len(s) {
			b.WriteByte(s[i])
			continue
		}
		octet, err := url.PathUnescape(s[i : i+3])
		if err == nil && unreserved(octet[0]) {
			b.WriteString(octet)
		} else {
			b.WriteString(strings.ToUpper(s[i : i+3]))
		}
		i += 2
	}
	return b.String()
}

// unreserved is RFC 3986 section 2.3.
func unreserved(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-._~", c) >= 0
}

// withoutDots is RFC 3986 section 6.2.2.3. Empty segments stay, for they mean something.
func withoutDots(path string) string {
	segments := strings.Split(strings.TrimPrefix(path, "/"), "/")
	kept := segments[:0]
	for i, segment := range segments {
		last := i == len(segments)-1
		switch segment {
		case "..":
			kept = kept[:max(0, len(kept)-1)]
		case ".":
		default:
			kept = append(kept, segment)
			continue
		}
		if last {
			kept = append(kept, "")
		}
	}
	return "/" + strings.Join(kept, "/")
}
