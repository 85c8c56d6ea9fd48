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
// the request from, and so on. It stops at the first entry that it cannot read.
// Forwarded (RFC 7239) goes before X-Forwarded-For; a proxy that is trusted must
// set or remove both.
func clientAddr(peer netip.Addr, h http.Header, trusted []netip.Prefix) netip.Addr {
	if !isTrusted(peer, trusted) {
		return peer
	}
	hops, parse := h.Values("Forwarded"), forwardedFor
	if len(hops) == 0 {
		hops, parse = h.Values("X-Forwarded-For"), hopAddr
	}
	entries := lastEntries(hops)
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
