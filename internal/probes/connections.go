package probes

import (
	"errors"
	"fmt"
	"slices"

	"github.com/cilium/ebpf"
)

// walkBatch is how many connections one system call copies: 128 KiB. The kernel refuses less than the fullest bucket of its
// hash table holds, which is a handful.
const walkBatch = 512

// Undecoded is what a connection carries that is not decoded, by its first bytes.
type Undecoded uint8

// The first is the one that says nothing.
const (
	UndecodedUnknown = Undecoded(trafficOtherOTHER_UNKNOWN)
	UndecodedTLS     = Undecoded(trafficOtherOTHER_TLS)
	UndecodedHTTP2   = Undecoded(trafficOtherOTHER_HTTP2)
	UndecodedMax     = Undecoded(trafficOtherOTHER_MAX)
)

// String returns the reason as metrics show it.
func (u Undecoded) String() string {
	switch u {
	case UndecodedTLS:
		return "tls"
	case UndecodedHTTP2:
		return "http2"
	}
	return "unknown"
}

// Connections is what the tracked connections of one process carry now, both ends of a connection within the host each
// with its own process.
type Connections struct {
	Comm      [16]byte             // task name, NUL-padded
	Active    int64                // requests that were received and are not answered to their end
	Undecoded [UndecodedMax]uint64 // connections that are not decoded
}

// visit is the memory into which connections are copied to be looked at.
type visit struct {
	keys  []uint64
	conns []trafficConn
}

// Connections counts by process what the tracked connections carry. reported tells of an exchange, by connection and sequence
// number, whether a swept copy of it was final; nil: of none. Irregular connections are not included: their framing is user
// space's. One goroutine at a time.
func (p *Probe) Connections(reported func(conn uint64, seq uint32) bool) (map[uint32]*Connections, error) {
	byPID := make(map[uint32]*Connections)
	err := p.eachConnection(func(c *trafficConn) {
		active, other := underWay(c), Undecoded(c.Rec.Other)
		if active && c.Swept != 0 && reported != nil {
			active = !reported(c.Rec.Conn, c.Rec.Seq)
		}
		undecoded := c.State == uint8(trafficConnStateS_OTHER) && other > 0 && other < UndecodedMax && p.portChosen(c)
		if !active && !undecoded {
			return
		}
		of := connectionsOf(byPID, c)
		if active {
			of.Active++
		} else {
			of.Undecoded[other]++
		}
	})
	return byPID, err
}

// Unreported counts as Active, by process, the exchanges that have begun and of which nothing was reported, of both roles: what is lost
// where the probe is closed. It is for a probe whose Run has ended; irregular connections are not included.
func (p *Probe) Unreported(reported func(conn uint64, seq uint32) bool) (map[uint32]*Connections, error) {
	byPID := make(map[uint32]*Connections)
	err := p.eachConnection(func(c *trafficConn) {
		switch trafficConnState(c.State) {
		case trafficConnStateS_REQUEST_HEAD, trafficConnStateS_REQUEST, trafficConnStateS_RESPONSE_HEAD, trafficConnStateS_RESPONSE:
		default:
			return
		}
		if (c.Swept == 0 || !reported(c.Rec.Conn, c.Rec.Seq)) && p.portChosen(c) {
			connectionsOf(byPID, c).Active++
		}
	})
	return byPID, err
}

// connectionsOf returns what is counted of a connection's process.
func connectionsOf(byPID map[uint32]*Connections, c *trafficConn) *Connections {
	of := byPID[c.Rec.Pid]
	if of == nil {
		of = new(Connections)
		for i, b := range c.Rec.Comm {
			of.Comm[i] = byte(b)
		}
		byPID[c.Rec.Pid] = of
	}
	return of
}

// eachConnection visits all tracked connections. Some that come or go meanwhile may be missed.
func (p *Probe) eachConnection(look func(*trafficConn)) error {
	if p.visit.keys == nil {
		p.visit = visit{make([]uint64, walkBatch), make([]trafficConn, walkBatch)}
	}
	var cursor ebpf.MapBatchCursor
	for {
		n, err := p.maps[trafficMapConns].BatchLookup(&cursor, p.visit.keys, p.visit.conns, nil)
		if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("walk the connections: %w", err)
		}
		for i := range n {
			look(&p.visit.conns[i])
		}
		if err != nil {
			return nil
		}
	}
}

// underWay tells whether a connection has a request that was received and is not answered to its end.
func underWay(c *trafficConn) bool {
	if c.Rec.Role != uint8(trafficRecordRoleROLE_SERVER) {
		return false
	}
	switch trafficConnState(c.State) {
	case trafficConnStateS_REQUEST_HEAD, trafficConnStateS_REQUEST, trafficConnStateS_RESPONSE_HEAD:
		return true
	case trafficConnStateS_RESPONSE:
		// Where nothing of its head was captured, its end is not known, and most connections are silent after it.
		return c.Rec.ResponseLen > 0 && !responseComplete(c)
	}
	return false
}

// responseComplete is response_complete of bpf/exchange.h.
func responseComplete(c *trafficConn) bool {
	const unknown = ^uint64(0) // UNKNOWN of bpf/maps.h, which as a number of 64 bits is no enumeration
	if c.Chunked != uint8(trafficChunkedNOT_CHUNKED) {
		return c.ChunkEnd != 0
	}
	return c.ResponseWant != unknown && c.Rec.ResponseBytes >= c.ResponseWant
}

// portChosen tells whether a connection's server port is one of Options.Ports. Who serves is not always known of what is not
// decoded; then either end's will do.
func (p *Probe) portChosen(c *trafficConn) bool {
	if len(p.opts.Ports) == 0 || c.Rec.LocalPort == 0 {
		return true // Unix sockets are filtered by their process
	}
	local, remote := slices.Contains(p.opts.Ports, c.Rec.LocalPort), slices.Contains(p.opts.Ports, c.Rec.RemotePort)
	switch trafficRecordRole(c.Rec.Role) {
	case trafficRecordRoleROLE_SERVER:
		return local
	case trafficRecordRoleROLE_CLIENT:
		return remote
	}
	return local || remote
}
