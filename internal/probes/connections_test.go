package probes

import (
	"maps"
	"testing"
)

// fillConnections puts connections into a probe's map as the kernel side would.
func fillConnections(t testing.TB, p *Probe, conns ...trafficConn) {
	t.Helper()
	for i := range conns {
		if err := p.maps[trafficMapConns].Put(uint64(i+1), &conns[i]); err != nil {
			t.Fatal(err)
		}
	}
}

func openUnused(t testing.TB, o Options) *Probe {
	t.Helper()
	p, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// connIn is a connection of process 7 in a state.
func connIn(state trafficConnState, change func(*trafficConn)) trafficConn {
	c := trafficConn{State: uint8(state), ResponseWant: ^uint64(0)}
	c.Rec.Pid, c.Rec.Role, c.Rec.Seq = 7, uint8(trafficRecordRoleROLE_SERVER), 3
	c.Rec.LocalPort, c.Rec.RemotePort = unusedPort, 40000
	c.Rec.ResponseBytes, c.Rec.ResponseLen = 500, 100
	if change != nil {
		change(&c)
	}
	return c
}

// Of each state of a connection it is told whether a request is under way: from its first byte until the end that the framing
// tells, and as long as the framing does not tell one; but not where user space knows that the response was complete, nor in
// the client role.
func TestConnectionsActive(t *testing.T) {
	requireRoot(t)
	const response = trafficConnStateS_RESPONSE
	p := openUnused(t, Options{Ports: []uint16{unusedPort}, Connections: 16, Heads: 16, RingBytes: 1 << 16})
	for _, c := range []struct {
		name   string
		conn   trafficConn
		active bool
	}{
		{"idle", connIn(trafficConnStateS_IDLE, nil), false},
		{"part of a head", connIn(trafficConnStateS_REQUEST_HEAD, nil), true},
		{"waiting", connIn(trafficConnStateS_REQUEST, nil), true},
		{"part of a response's head", connIn(trafficConnStateS_RESPONSE_HEAD, nil), true},
		{"until the close", connIn(response, nil), true},
		{"head open", connIn(response, func(c *trafficConn) { c.HeadOpen = 1 }), true},
		{"a byte is missing", connIn(response, func(c *trafficConn) { c.ResponseWant = 501 }), true},
		{"length reached", connIn(response, func(c *trafficConn) { c.ResponseWant = 500 }), false},
		{"chunks to come", connIn(response, func(c *trafficConn) { c.Chunked = 1 }), true},
		{"final chunk", connIn(response, func(c *trafficConn) { c.Chunked, c.ChunkEnd = 1, 1 }), false},
		{"nothing captured", connIn(response, func(c *trafficConn) { c.Rec.ResponseLen = 0 }), false},
		{"swept, reported", connIn(response, func(c *trafficConn) { c.Swept, c.Rec.Conn = 1, 99 }), false},
		{"swept, not reported", connIn(response, func(c *trafficConn) { c.Swept, c.Rec.Conn = 1, 98 }), true},
		{"irregular", connIn(trafficConnStateS_STREAM, nil), false},
		{"tunnel", connIn(trafficConnStateS_OTHER, nil), false},
		{"client", connIn(trafficConnStateS_REQUEST, func(c *trafficConn) { c.Rec.Role = uint8(trafficRecordRoleROLE_CLIENT) }), false},
	} {
		fillConnections(t, p, c.conn)
		byPID, err := p.Connections(func(conn uint64, seq uint32) bool { return conn == 99 && seq == 3 })
		if err != nil {
			t.Fatal(err)
		}
		if active := len(byPID) == 1 && byPID[7].Active == 1; active != c.active || !active && len(byPID) > 0 {
			t.Errorf("%s: %+v", c.name, byPID[7])
		}
	}
}

// Connections that are not decoded are counted by process and reason, of the chosen ports only: the server's port counts, where
// it is known which that is.
func TestConnectionsUndecoded(t *testing.T) {
	requireRoot(t)
	other := func(pid uint32, reason Undecoded, role trafficRecordRole, local, remote uint16) trafficConn {
		return connIn(trafficConnStateS_OTHER, func(c *trafficConn) {
			c.Rec.Pid, c.Rec.Other, c.Rec.Role, c.Rec.LocalPort, c.Rec.RemotePort = pid, uint8(reason), uint8(role), local, remote
			c.Rec.Comm = [16]int8{'x', int8('0' + pid)}
		})
	}
	const server, client, unclear = trafficRecordRoleROLE_SERVER, trafficRecordRoleROLE_CLIENT, trafficRecordRoleROLE_UNKNOWN
	p := openUnused(t, Options{Ports: []uint16{unusedPort}, Connections: 32, Heads: 16, RingBytes: 1 << 16})
	fillConnections(t, p,
		other(1, UndecodedTLS, server, unusedPort, 5), other(1, UndecodedTLS, server, unusedPort, 6),
		other(1, UndecodedHTTP2, server, unusedPort, 5), other(2, UndecodedHTTP2, client, 5, unusedPort),
		other(2, UndecodedUnknown, unclear, 5, unusedPort), other(2, UndecodedUnknown, unclear, unusedPort, 5),
		other(2, UndecodedUnknown, server, 0, 0), // a Unix socket
		other(3, UndecodedTLS, server, 5, unusedPort), other(3, UndecodedTLS, client, unusedPort, 5), other(3, UndecodedTLS, unclear, 5, 6),
		other(3, 0, server, unusedPort, 5), other(3, UndecodedMax, server, unusedPort, 5))
	byPID, err := p.Connections(nil)
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[uint32]Connections)
	for pid, c := range byPID {
		got[pid] = *c
	}
	want := map[uint32]Connections{
		1: {Comm: [16]byte{'x', '1'}, Undecoded: [UndecodedMax]uint64{UndecodedTLS: 2, UndecodedHTTP2: 1}},
		2: {Comm: [16]byte{'x', '2'}, Undecoded: [UndecodedMax]uint64{UndecodedUnknown: 3, UndecodedHTTP2: 1}},
	}
	if !maps.Equal(got, want) {
		t.Errorf("got %+v, expected %+v", got, want)
	}
	for reason, name := range map[Undecoded]string{UndecodedUnknown: "unknown", UndecodedTLS: "tls", UndecodedHTTP2: "http2"} {
		if reason.String() != name {
			t.Errorf("%d is called %q", reason, reason)
		}
	}
}

// Every connection is visited once, in a full map of many batches and in an empty one.
func TestConnectionsWalk(t *testing.T) {
	requireRoot(t)
	const all = 10*walkBatch + 1
	p := openUnused(t, Options{Ports: []uint16{unusedPort}, Connections: all, Heads: 16, RingBytes: 1 << 16})
	for _, n := range []int{0, all} {
		conns := make([]trafficConn, n)
		for i := range conns {
			conns[i] = connIn(trafficConnStateS_REQUEST, func(c *trafficConn) { c.Rec.Conn = uint64(i + 1) })
		}
		fillConnections(t, p, conns...)
		seen := make(map[uint64]int)
		if err := p.eachConnection(func(c *trafficConn) { seen[c.Rec.Conn]++ }); err != nil {
			t.Fatal(err)
		}
		if len(seen) != n {
			t.Errorf("%d of %d connections seen", len(seen), n)
		}
		for conn, times := range seen {
			if times != 1 {
				t.Fatalf("connection %d seen %d times", conn, times)
			}
		}
	}
}

// What counting 30,000 connections costs.
func BenchmarkConnections(b *testing.B) {
	p := openUnused(b, Options{Ports: []uint16{unusedPort}})
	conns := make([]trafficConn, 30000)
	for i := range conns {
		conns[i] = connIn(trafficConnStateS_REQUEST, nil)
	}
	fillConnections(b, p, conns...)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := p.Connections(nil); err != nil {
			b.Fatal(err)
		}
	}
}
