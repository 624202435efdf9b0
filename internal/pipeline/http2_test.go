package pipeline

import (
	"testing"
	"time"

	"github.com/perfagent/perfagent/internal/wire"
)

// Shows that a connection of HTTP/2 comes out of the protocol's door as exchanges, that a request under way is active, and that a record,
// which there is none of, is not understood.
func TestHTTP2(t *testing.T) {
	var out []wire.Exchange
	p := openHTTP2(Surroundings{
		Emit: func(ex *wire.Exchange) { out = append(out, *ex.Clone()) }, Lose: func(wire.Loss, int) {}, Failed: func(reason string) { t.Error(reason) },
	})
	send := func(flags wire.Flags, at int64, data string) {
		p.Fragment(&wire.Fragment{Conn: 1, PID: 9, Role: wire.RoleServer, Flags: flags, At: at, Arrived: at - 1, Length: uint64(len(data)), Data: []byte(data)})
	}
	active := func() (n int) {
		p.EachActive(func(uint32, *[16]byte) { n++ })
		return n
	}
	send(wire.FlagRequestDirection, 10, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"+
		"\x00\x00\x07\x01\x05\x00\x00\x00\x01\x82\x86\x04\x03/a?")
	if active() != 1 {
		t.Errorf("%d requests are active", active())
	}
	send(0, 20, "\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00\x01\x01\x05\x00\x00\x00\x01\x88")
	if len(out) != 1 || active() != 0 {
		t.Fatalf("%d exchanges came out, %d requests are active", len(out), active())
	}
	if ex := &out[0]; ex.Verb != "GET" || string(ex.Path) != "/a" || ex.Code != 200 || ex.Protocol != "http/2" || ex.Duration() != 11 {
		t.Errorf("%+v", ex)
	}
	send(wire.FlagRequestDirection, 30, "\x00\x00\x03\x01\x05\x00\x00\x00\x03\x82\x86\x84")
	p.Sweep(30+int64(time.Minute), time.Minute)
	if len(out) != 2 || out[1].Class != wire.ClassTimeout {
		t.Fatalf("%+v", out)
	}
	if _, _, err := p.Record(&wire.Record{}); err == nil {
		t.Error("a record was understood")
	}
}
