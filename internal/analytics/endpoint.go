package analytics

import (
	"cmp"
	"net/netip"
	"strings"
	"time"

	"github.com/perfagent/perfagent/internal/wire"
)

// Other stands in for a method, route, service or server that has no series of its own because a limit was reached.
const Other = "_OTHER"

const (
	// labelBytesMax bounds a label's value: a route or a host name beyond it is noise.
	labelBytesMax = 256
	// variantsMax bounds the statuses of one endpoint; a server that answers with random codes fills no memory.
	variantsMax = 64
)

// ServerKey identifies an endpoint: what the requests that a service answers are grouped by.
type ServerKey struct {
	Service, Namespace, Method, Route string
}

// ClientKey identifies what the requests that a service sends are grouped by.
type ClientKey struct {
	Service, Namespace, Method string
	Address                    string // host name of the target, else its IP address
	Port                       uint16 // 0 for Unix sockets
}

// Outcome tells apart the ends that the requests of one endpoint come to.
type Outcome struct {
	Status    uint16 // 0: no response
	Protocol  string // "http/1.0", "http/1.1"
	TLS       bool
	ErrorType string // see wire.Exchange; Other for the outcomes beyond the limit of one endpoint
}

// Series is one outcome's share of an endpoint.
type Series struct {
	Outcome
	Duration Histogram // nanoseconds
	// Untimed counts the exchanges whose duration is unknown, because the kernel side saw no first instant. They are in
	// no histogram: their count would have no bucket to stand in, and no other instant may replace the missing one.
	Untimed uint64
	Created time.Time
}

// Phases holds what the statuses of a server's endpoint share.
type Phases struct {
	Queue, Processing, Transfer Histogram // nanoseconds
	RequestSize, ResponseSize   Histogram // bytes
}

// Endpoint is everything known of one ServerKey. In a Snapshot it never changes.
type Endpoint struct {
	ServerKey
	RouteSource wire.RouteSource // of the latest exchange
	Created     time.Time
	Series      []Series
	Phases
}

// Target is everything known of one ClientKey. In a Snapshot it never changes.
type Target struct {
	ClientKey
	Created time.Time
	Series  []Series
}

// activity is the life of an entry of the engine: it is published anew when it changed, and forgotten when no exchange
// touched it for the idle time.
type activity struct {
	changed  bool // since the latest snapshot
	touched  bool // since the latest sweep
	unsealed bool // since the latest tick
	lastSeen time.Time
	sampling sampling // of Requests, whose caller alone uses it
}

type endpoint struct {
	activity
	live Endpoint
	view *Endpoint // the copy in the latest snapshot
	ring *ring     // of windows; nil until the first tick after the first exchange
	// ended tells that its route has become another, under which its requests are counted now.
	ended bool
}

type target struct {
	activity
	live Target
	view *Target
}

// addSeries counts ex under its outcome and returns that series' place. guess is the place of the latest exchange with the
// same protocol, if there was one.
func addSeries(all *[]Series, guess int, ex *wire.Exchange, now func() time.Time) int {
	i := guess
	if uint(i) >= uint(len(*all)) || !(*all)[i].hasResult(ex) {
		if i = findSeries(*all, ex); i < 0 {
			i = newSeries(all, ex, now())
		}
	}
	s := &(*all)[i]
	if d := ex.Duration(); d >= 0 {
		s.Duration.Add(d)
	} else {
		s.Untimed++
	}
	return i
}

// counts tells whether the series is that of ex.
func (s *Series) counts(ex *wire.Exchange) bool { return s.hasResult(ex) && s.Protocol == ex.Protocol }

// hasResult is counts where the protocol is known to be the same.
func (s *Series) hasResult(ex *wire.Exchange) bool {
	return s.Status == ex.Status && s.TLS == ex.TLS && s.ErrorType == ex.ErrorType
}

func findSeries(all []Series, ex *wire.Exchange) int {
	for i := range all {
		if all[i].counts(ex) {
			return i
		}
	}
	return -1
}

func newSeries(all *[]Series, ex *wire.Exchange, now time.Time) int {
	o := Outcome{Status: ex.Status, Protocol: label(ex.Protocol), TLS: ex.TLS, ErrorType: label(ex.ErrorType)}
	if len(*all) >= variantsMax-1 {
		o = Outcome{ErrorType: Other}
	}
	for i := range *all {
		if (*all)[i].Outcome == o {
			return i
		}
	}
	*all = append(*all, Series{Outcome: o, Created: now})
	return len(*all) - 1
}

func (p *Phases) add(ex *wire.Exchange) {
	addKnown(&p.Queue, ex.Queue())
	addKnown(&p.Processing, ex.Processing())
	addKnown(&p.Transfer, ex.Transfer())
	addKnown(&p.RequestSize, ex.RequestSize)
	addKnown(&p.ResponseSize, ex.ResponseSize)
}

// addKnown leaves out what is unknown (-1).
func addKnown(h *Histogram, v int64) {
	if v >= 0 {
		h.Add(v)
	}
}

func newEndpoint(k ServerKey, now time.Time) *endpoint {
	e := &endpoint{activity: activity{lastSeen: now}}
	e.live = Endpoint{ServerKey: k, Created: now}
	e.live.RequestSize, e.live.ResponseSize = NewHistogram(Bytes), NewHistogram(Bytes)
	return e
}

// merge adds what another endpoint of the same service and method counted.
func (e *endpoint) merge(o *endpoint) {
	e.changed, e.touched, e.unsealed = true, e.touched || o.touched, e.unsealed || o.unsealed
	if o.lastSeen.After(e.lastSeen) {
		e.lastSeen = o.lastSeen
	}
	if o.live.Created.Before(e.live.Created) {
		e.live.Created = o.live.Created
	}
	for i := range o.live.Series {
		mergeSeries(&e.live.Series, &o.live.Series[i])
	}
	e.live.Phases.merge(&o.live.Phases)
}

func (p *Phases) merge(o *Phases) {
	p.Queue.Merge(&o.Queue)
	p.Processing.Merge(&o.Processing)
	p.Transfer.Merge(&o.Transfer)
	p.RequestSize.Merge(&o.RequestSize)
	p.ResponseSize.Merge(&o.ResponseSize)
}

// mergeSeries adds a series to those of another endpoint.
func mergeSeries(all *[]Series, o *Series) {
	outcome := o.Outcome
	for again := true; ; again = false {
		for i := range *all {
			if s := &(*all)[i]; s.Outcome == outcome {
				s.Duration.Merge(&o.Duration)
				s.Untimed += o.Untimed
				if o.Created.Before(s.Created) {
					s.Created = o.Created
				}
				return
			}
		}
		if len(*all) < variantsMax-1 || !again {
			*all = append(*all, *o)
			(*all)[len(*all)-1].Outcome = outcome
			return
		}
		outcome = Outcome{ErrorType: Other}
	}
}

// publish returns the immutable copy of the endpoint, made anew only when it changed.
func (e *endpoint) publish() *Endpoint {
	if e.view != nil && !e.changed {
		return e.view
	}
	v := e.live
	all := []*Histogram{&v.Queue, &v.Processing, &v.Transfer, &v.RequestSize, &v.ResponseSize}
	v.Series = cloneSeries(e.live.Series, all)
	e.view, e.changed = &v, false
	return e.view
}

func (t *target) publish() *Target {
	if t.view != nil && !t.changed {
		return t.view
	}
	v := t.live
	v.Series = cloneSeries(t.live.Series, nil)
	t.view, t.changed = &v, false
	return t.view
}

// cloneSeries copies the series, and replaces the other histograms by copies; all counts share one allocation.
func cloneSeries(series []Series, others []*Histogram) []Series {
	c := append([]Series(nil), series...)
	for i := range c {
		others = append(others, &c[i].Duration)
	}
	n := 0
	for _, h := range others {
		from, to := h.used()
		n += to - from
	}
	room := make([]uint16, 0, n)
	for _, h := range others {
		*h, room = h.cloneInto(room)
	}
	return c
}

func compareServers(a, b *endpoint) int {
	x, y := &a.live.ServerKey, &b.live.ServerKey
	return cmp.Or(strings.Compare(x.Namespace, y.Namespace), strings.Compare(x.Service, y.Service),
		strings.Compare(x.Route, y.Route), strings.Compare(x.Method, y.Method))
}

func compareClients(a, b *target) int {
	x, y := &a.live.ClientKey, &b.live.ClientKey
	return cmp.Or(strings.Compare(x.Namespace, y.Namespace), strings.Compare(x.Service, y.Service),
		strings.Compare(x.Address, y.Address), cmp.Compare(x.Port, y.Port), strings.Compare(x.Method, y.Method))
}

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
