package web

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
)

// hosts are the names that a server answers to. A web page whose domain an attacker points at the agent's address (DNS
// rebinding) would otherwise read everything that is served through the browser of somebody who may.
type hosts struct {
	names map[string]bool // lower case, without a port and a last dot
}

// newHosts returns this host's names, those of the addresses that are listened on, and further ones.
func newHosts(addresses, further []string) hosts {
	h := hosts{names: make(map[string]bool)}
	for _, name := range ownNames() {
		h.names[hostName(name)] = true
	}
	for _, a := range addresses {
		if name, _, err := net.SplitHostPort(a); err == nil && name != "" {
			h.names[hostName(name)] = true
		}
	}
	for _, name := range further {
		h.names[hostName(name)] = true
	}
	return h
}

// resolverBytesMax is more than a resolver's configuration has; what is behind it names no domains here.
const resolverBytesMax = 64 << 10

// ownNames are what this host calls itself, alone and in the domains that it looks names up in.
func ownNames() []string {
	name, err := os.Hostname()
	if err != nil {
		return nil
	}
	short, _, _ := strings.Cut(name, ".")
	all := []string{name, short}
	f, err := os.Open("/etc/resolv.conf")
	if err != nil {
		return all
	}
	defer f.Close()
	for lines := bufio.NewScanner(io.LimitReader(f, resolverBytesMax)); lines.Scan(); {
		if words := strings.Fields(lines.Text()); len(words) > 1 && (words[0] == "search" || words[0] == "domain") {
			for _, domain := range words[1:] {
				all = append(all, short+"."+domain)
			}
		}
	}
	return all
}

// hostName is a request's or an address's host as the names are kept.
func hostName(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
}

// guard refuses requests to an address that name a host which is not this one. A loopback address answers to loopback names and to
// those of h. Elsewhere a browser shows no other site's page what TLS or a password protects, for the certificate is not of that site, and the
// password is not sent; an address with neither answers to h, to numbers, which no attacker has a say in, and to names without a dot,
// which nobody can register. Sockets of the file system are nothing that a browser reaches.
func (h hosts) guard(a net.Addr, p Protection, next http.Handler) http.Handler {
	tcp, ok := a.(*net.TCPAddr)
	if !ok || !tcp.IP.IsLoopback() && p != (Protection{}) {
		return next
	}
	known, refusal := h.knownTo(tcp.IP), "this address answers to the names of this host only; --web.external-url names others"
	if tcp.IP.IsLoopback() {
		refusal = "this address answers to localhost only; --web.external-url names others, --web.listen-address serves other addresses"
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !known(hostName(r.Host)) {
			problem(w, http.StatusForbidden, refusal)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (h hosts) knownTo(listening net.IP) func(name string) bool {
	return func(name string) bool {
		if h.names[name] || name == "localhost" {
			return true
		}
		a, err := netip.ParseAddr(name)
		if listening.IsLoopback() {
			return err == nil && a.Unmap().IsLoopback()
		}
		return err == nil || name != "" && !slices.Contains([]byte(name), '.')
	}
}
