package pipeline

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/perfagent/perfagent/internal/host"
	"github.com/perfagent/perfagent/internal/wire"
)

// noteAt has serves learn from an exchange of a service with both its ends; its local end is the server's, or the client's.
func noteAt(s *serves, role wire.Role, service, local, remote, hostHeader string) {
	s.note(&wire.Exchange{Role: role, Local: netip.MustParseAddrPort(local), Remote: netip.MustParseAddrPort(remote), Host: []byte(hostHeader)}, nil,
		&host.Identity{Service: service, Namespace: "prod"})
}

// here tells that the host has one address beside loopback.
func here(a netip.Addr) bool { return a == netip.MustParseAddr("192.0.2.7") }

// A call is followed to the service that answered last at the port of this host, or at just that address, which may be one of another
// network namespace; what nobody of this host answered at is not this host's.
func TestServesPlaces(t *testing.T) {
	var s serves
	if at, ok := s.at("127.0.0.1", 8080, here); ok {
		t.Errorf("%v answers before anything has", at)
	}
	const client = "127.0.0.1:50000"
	noteAt(&s, wire.RoleServer, "old", "127.0.0.1:8080", client, "")
	noteAt(&s, wire.RoleServer, "shop", "127.0.0.1:8080", client, "")
	noteAt(&s, wire.RoleServer, "stock", "[::ffff:10.231.7.2]:8080", "10.231.7.1:50000", "") // a container's, over a socket for both families
	noteAt(&s, wire.RoleServer, "", "127.0.0.1:9090", client, "")
	for _, c := range []struct {
		address string
		port    uint16
		want    string // "": not of this host
	}{
		{"127.0.0.1", 8080, "shop"}, {"localhost", 8080, "shop"}, {"", 8080, "shop"}, {"10.231.7.2", 8080, "stock"}, {"::ffff:10.231.7.2", 8080, "stock"},
		{"192.0.2.7", 8080, "stock"}, // nothing answered at just that: who answered last at the port
		{"10.231.7.3", 8080, ""}, {"10.231.7.2", 8081, ""}, {"192.0.2.8", 8080, ""}, {"127.0.0.1", 9090, ""}, {"stock", 8080, ""},
	} {
		got, ok := s.at(c.address, c.port, here)
		if got.Service != c.want || ok != (c.want != "") || ok && got.Namespace != "prod" {
			t.Errorf("at %s:%d answers %v %t, not %q", c.address, c.port, got, ok, c.want)
		}
	}
	if _, ok := s.at("192.0.2.7", 8080, nil); ok {
		t.Error("an address is this host's though nobody knows which are")
	}
}

// A name that clients call by is followed to where their connections led, and to one of several addresses that a service of this host
// answers at.
func TestServesNames(t *testing.T) {
	var s serves
	noteAt(&s, wire.RoleServer, "stock", "10.231.7.2:8080", "10.231.7.1:50000", "Stock.internal:8080")
	if at, ok := s.at("stock.internal", 8080, here); ok {
		t.Errorf("a server's word for its own name counts: %v", at)
	}
	noteAt(&s, wire.RoleClient, "shop", "10.231.7.1:50000", "10.231.7.2:8080", "Stock.internal:8080")
	noteAt(&s, wire.RoleClient, "shop", "10.231.7.1:50001", "198.51.100.1:8080", "stock.internal:8080") // another server of the same name
	noteAt(&s, wire.RoleClient, "shop", "10.231.7.1:50002", "198.51.100.1:80", "example.org")
	noteAt(&s, wire.RoleClient, "shop", "10.231.7.1:50003", "10.231.7.2:8080", "198.51.100.9") // a proxy: the header is no address
	for address, want := range map[string]string{"stock.internal": "stock", "STOCK.internal": "stock", "example.org": "", "198.51.100.9": "", "nowhere": ""} {
		if got, ok := s.at(address, 8080, here); got.Service != want || ok != (want != "") {
			t.Errorf("at %s answers %v %t, not %q", address, got, ok, want)
		}
	}
	noteAt(&s, wire.RoleServer, "web", "10.231.7.9:8080", "10.231.7.1:50000", "")
	noteAt(&s, wire.RoleClient, "shop", "10.231.7.1:50004", "10.231.7.9:8080", "stock.internal:8080") // it moved, within the host
	if got, _ := s.at("stock.internal", 8080, here); got.Service != "web" {
		t.Errorf("a name that moved leads to %v", got)
	}
}

// What is remembered is bounded, the oldest is forgotten, and what was noted of late is not.
func TestServesBound(t *testing.T) {
	var s serves
	place := func(i int) string { return fmt.Sprintf("10.%d.%d.%d", i>>16, i>>8&255, i&255) }
	for i := range 5 * servesMax {
		noteAt(&s, wire.RoleServer, "shop", place(i)+":8080", "192.0.2.1:50000", "")
		noteAt(&s, wire.RoleClient, "shop", "192.0.2.1:50000", place(i)+":8080", fmt.Sprint("host", i))
	}
	if n := len(s.places.young) + len(s.places.old); n > 2*servesMax {
		t.Errorf("%d places are remembered", n)
	}
	if n := len(s.names.young) + len(s.names.old); n > 2*servesMax {
		t.Errorf("%d names are remembered", n)
	}
	for i, want := range map[int]bool{0: false, 5*servesMax - 1: true, 4 * servesMax: true} {
		for _, address := range []string{place(i), fmt.Sprint("host", i)} {
			if _, ok := s.at(address, 8080, here); ok != want {
				t.Errorf("%s: %t", address, ok)
			}
		}
	}
}

// An exchange of which only the record has the addresses, as of a head that was known before, is noted at the record's.
func TestServesRecord(t *testing.T) {
	var s serves
	rec := &wire.Record{Addresses: wire.Addresses{Family: wire.FamilyIPv4, LocalAddr: [16]byte{10, 231, 7, 2}, LocalPort: 8080, RemoteAddr: [16]byte{10, 231, 7, 1}, RemotePort: 50000}}
	s.note(&wire.Exchange{Role: wire.RoleServer, Local: netip.MustParseAddrPort("127.0.0.1:1")}, rec, &host.Identity{Service: "stock"})
	if got, ok := s.at("10.231.7.2", 8080, nil); !ok || got.Service != "stock" {
		t.Errorf("%v %t", got, ok)
	}
	if _, ok := s.at("127.0.0.1", 1, nil); ok {
		t.Error("an address of an earlier exchange counts")
	}
}
