package analytics

import (
	"net/netip"
	"strings"

	"github.com/perfagent/perfagent/internal/wire"
)

// hostName returns the name in a Host header: a part of host, without the port and the brackets of an IPv6 address. It
// is empty when host is not a plausible host: too long, or with a byte that host names and addresses do not have. It
// allocates nothing.
func hostName(host []byte) []byte {
	name := host
	if i := lastColon(host); i >= 0 {
		if !isPort(host[i+1:]) {
			return nil
		}
		name = host[:i]
	}
	if n := len(name); n > 2 && name[0] == '[' && name[n-1] == ']' {
		name = name[1 : n-1]
	}
	if len(name) > 253 { // RFC 1035, section 2.3.4
		return nil
	}
	for _, c := range name {
		if !isHostByte(c) {
			return nil
		}
	}
	return name
}

// lastColon returns the position of the colon before the port, or -1.
func lastColon(host []byte) int {
	for i := len(host) - 1; i >= 0; i-- {
		switch host[i] {
		case ':':
			return i
		case ']':
			return -1
		}
	}
	return -1
}

// isPort accepts no digits at all, too (RFC 3986, section 3.2.3).
func isPort(b []byte) bool {
	n := 0
	for _, c := range b {
		if c < '0' || c > '9' {
			return false
		}
		if n = n*10 + int(c-'0'); n > 65535 {
			return false
		}
	}
	return true
}

func isHostByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c == '.' || c == '-' || c == '_' || c == ':'
}

// ServerAddress returns the name under which the serving end of ex was addressed (that of the Host header, else the IP
// address) and the port of its socket, whatever the header says of it (0 for a Unix socket). The conventions call them
// server.address and server.port.
func ServerAddress(ex *wire.Exchange) (string, uint16) {
	server := ex.Server()
	if name := hostName(ex.Host); len(name) > 0 {
		return strings.ToLower(string(name)), server.Port()
	}
	return addressText(server.Addr()), server.Port()
}

func addressText(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.Unmap().WithZone("").String()
}

func appendLower(dst, src []byte) []byte {
	for _, c := range src {
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		dst = append(dst, c)
	}
	return dst
}
