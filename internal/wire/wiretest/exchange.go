// Package wiretest has exchanges for the tests of those who show them.
package wiretest

import (
	"net/netip"
	"time"

	"github.com/perfagent/perfagent/internal/wire"
)

// Exchange is one of a server that went well, with everything that is usually known of one.
func Exchange() *wire.Exchange {
	return &wire.Exchange{
		ID: wire.ID{Conn: 0xabc, Seq: 7}, PID: 4242, Role: wire.RoleServer, Protocol: "http/1.1",
		Operation: wire.Operation{Verb: "GET", Name: "/items/{id}"}, Outcome: wire.Outcome{Code: 200},
		Comm: [16]byte{'n', 'g', 'i', 'n', 'x'}, Service: "shop", Path: []byte("/items/42"),
		Local: netip.MustParseAddrPort("10.0.0.1:8080"), Remote: netip.MustParseAddrPort("10.0.0.2:54321"),
		Arrived: 1_000_000_000, Read: 1_000_100_000, Responded: 1_002_000_000, Finished: 1_002_050_000,
		RequestSize: 0, ResponseSize: 1234, Host: []byte("shop.example:8080"), UserAgent: []byte("curl/8.5"),
		Time: time.Unix(1_700_000_000, 123_456_789),
	}
}

// ClientExchange is one of a client that was refused, and of which no size is known.
func ClientExchange() *wire.Exchange {
	ex := Exchange()
	ex.Role, ex.Read, ex.Name, ex.RequestSize, ex.ResponseSize = wire.RoleClient, 0, "", -1, -1
	ex.Local, ex.Remote = netip.MustParseAddrPort("10.0.0.1:40000"), netip.MustParseAddrPort("10.0.0.9:9000")
	ex.Host = []byte("stock.example:9000")
	ex.Outcome = wire.Outcome{Code: 503, Class: wire.ClassServerFault, ErrorType: "503"}
	return ex
}
