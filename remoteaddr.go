package devicegrant

import (
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// maxHops bounds how many entries of a forwarding header are looked at.
const maxHops = 32

// remoteAddr returns where a request came from, or the zero Addr if it does not
// say: the nearest address that is not a trusted proxy. Headers are read from the
// right, for what stands on the left is whatever the client claims.
func (s *Server) remoteAddr(r *http.Request) netip.Addr {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return netip.Addr{}
	}
	return clientAddr(addr.Unmap().WithZone(""), r.Header, s.cfg.TrustedProxies)
}

// clientAddr returns where a request came from, given the peer that delivered it:
// the peer itself unless it is a trusted proxy; then what that proxy says it had
// the request from, in Forwarded (RFC 7239) or X-Forwarded-For.
//
// Most proxies set one of the two and let the other through as the client sent it.
// Where both are there and disagree, one of them is made up and neither is taken.
func clientAddr(peer netip.Addr, h http.Header, trusted []netip.Prefix) netip.Addr {
	if !isTrusted(peer, trusted) {
		return peer // Nearly always; no header is read then.
	}
	forwarded, xff := h.Values("Forwarded"), h.Values("X-Forwarded-For")
	switch byForwarded, byXFF := follow(peer, forwarded, forwardedFor, trusted), follow(peer, xff, hopAddr, trusted); {
	case len(xff) == 0 || byForwarded == byXFF:
		return byForwarded
	case len(forwarded) == 0:
		return byXFF
	default:
		return peer
	}
}

// follow goes from the peer back through a header's entries as long as each is a
// trusted proxy's word. It stops at the first that it cannot read.
func follow(peer netip.Addr, lines []string, parse func(string) (netip.Addr, bool), trusted []netip.Prefix) netip.Addr {
	entries := lastEntries(lines)
	for i := len(entries) - 1; i >= 0 && isTrusted(peer, trusted); i-- {
		addr, ok := parse(entries[i])
		if !ok {
			break
		}
		peer = addr
	}
	return peer
}

func isTrusted(addr netip.Addr, trusted []netip.Prefix) bool {
	for _, p := range trusted {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}

// lastEntries splits header lines at commas and keeps the last maxHops entries.
func lastEntries(lines []string) []string {
	entries := strings.Split(strings.Join(lines, ","), ",")
	return entries[max(0, len(entries)-maxHops):]
}

// forwardedFor returns the address in the "for" of one element of Forwarded.
func forwardedFor(element string) (netip.Addr, bool) {
	for pair := range strings.SplitSeq(element, ";") {
		name, value, _ := strings.Cut(strings.TrimSpace(pair), "=")
		if strings.EqualFold(name, "for") {
			return hopAddr(strings.Trim(value, `"`))
		}
	}
	return netip.Addr{}, false
}

// hopAddr parses an address, with or without a port, IPv6 with or without
// brackets.
func hopAddr(s string) (netip.Addr, bool) {
	s = strings.TrimSpace(s)
	if ap, err := netip.ParseAddrPort(s); err == nil {
		return ap.Addr().Unmap().WithZone(""), true
	}
	s = strings.TrimSuffix(strings.TrimPrefix(s, "["), "]")
	addr, err := netip.ParseAddr(s)
	return addr.Unmap().WithZone(""), err == nil
}
