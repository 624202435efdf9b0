package pipeline

import (
	"net/netip"
	"strings"
	"sync"

	"github.com/perfagent/perfagent/internal/analytics"
	"github.com/perfagent/perfagent/internal/host"
	"github.com/perfagent/perfagent/internal/wire"
)

// servesMax bounds what serves remembers of each kind, some 100 bytes each. The oldest are forgotten where containers, each with an address
// of its own, come and go.
const servesMax = 1024

// Server is who serves at a port.
type Server struct{ Service, Namespace string }

// calledAt is how a client addressed a server: as a finding has it.
type calledAt struct {
	name string // of the Host header
	port uint16 // of the server's socket
}

// serves remembers which service of this host answered where, so that a call can be followed to who answers it:
//
//	ports   a TCP port -> who answered there last, in whichever network namespace
//	places  the address and port of a server's socket -> who answered there last: also of a container's own address, which is none of the
//	        interfaces in the agent's network namespace
//	names   a name and port that a client called -> the address that its connection led to
//
// Who learns is the worker; anybody may ask.
type serves struct {
	mu     sync.Mutex
	ports  remembered[uint16, Server]
	places remembered[netip.AddrPort, Server]
	names  remembered[calledAt, netip.AddrPort]
}

// note learns from an exchange, once for each head that is known: of a server who answers where, of a client where a name leads to.
func (s *serves) note(ex *wire.Exchange, rec *wire.Record, identity *host.Identity) {
	local, remote := ex.Local, ex.Remote
	if rec != nil {
		local, remote = rec.Local(), rec.Remote()
	}
	if ex.Role == wire.RoleServer {
		s.answers(local, identity)
		return
	}
	if name, port := analytics.ServerAddress(ex); remote.Port() != 0 && port == remote.Port() {
		s.calls(name, remote)
	}
}

// answers notes that a service answered at a socket's address; Unix sockets have no port.
func (s *serves) answers(local netip.AddrPort, identity *host.Identity) {
	if local.Port() == 0 || identity.Service == "" {
		return
	}
	server := Server{identity.Service, identity.Namespace}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ports.put(local.Port(), server)
	s.places.put(plainPlace(local), server)
}

// calls notes where a name leads to. An address that somebody of this host answers at stays before one of another host: the servers of a
// name are many.
func (s *serves) calls(name string, remote netip.AddrPort) {
	if _, err := netip.ParseAddr(name); err == nil || name == "" {
		return
	}
	at, remote := calledAt{name, remote.Port()}, plainPlace(remote)
	s.mu.Lock()
	defer s.mu.Unlock()
	if known, ok := s.names.get(at); ok && known != remote {
		_, here := s.places.get(known)
		if _, also := s.places.get(remote); here && !also {
			return
		}
	}
	s.names.put(at, remote)
}

// at tells which service of this host answers at an address, or name, and port. A port alone tells it of loopback and of the addresses that
// are the host's own; where the same address is there in several network namespaces, who answered last.
func (s *serves) at(address string, port uint16, isLocal func(netip.Addr) bool) (Server, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	place, err := netip.ParseAddr(address)
	if err != nil {
		led, ok := s.names.get(calledAt{strings.ToLower(address), port})
		switch {
		case ok:
			place = led.Addr()
		case address == "" || address == "localhost":
			place = netip.AddrFrom4([4]byte{127, 0, 0, 1})
		default:
			return Server{}, false
		}
	}
	place = place.Unmap().WithZone("")
	if server, ok := s.places.get(netip.AddrPortFrom(place, port)); ok {
		return server, true
	}
	if !place.IsLoopback() && (isLocal == nil || !isLocal(place)) {
		return Server{}, false
	}
	return s.ports.get(port)
}

// plainPlace has one form for each address.
func plainPlace(p netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(p.Addr().Unmap().WithZone(""), p.Port())
}

// remembered is a map of two generations: when the young one is full it becomes the old one, which is forgotten. So what was noted stays for
// at least servesMax other keys.
type remembered[K, V comparable] struct{ young, old map[K]V }

func (r *remembered[K, V]) put(key K, value V) {
	if v, ok := r.young[key]; ok && v == value {
		return
	}
	if len(r.young) >= servesMax {
		r.young, r.old = nil, r.young
	}
	if r.young == nil {
		r.young = make(map[K]V)
	}
	r.young[key] = value
}

func (r *remembered[K, V]) get(key K) (V, bool) {
	if v, ok := r.young[key]; ok {
		return v, true
	}
	v, ok := r.old[key]
	return v, ok
}

// ServedAt tells which service of this host answers at an address, or a name that clients call it by, and port; isLocal tells whether an
// address is one of this host's interfaces. It may be called from any goroutine.
func (w *Worker) ServedAt(address string, port uint16, isLocal func(netip.Addr) bool) (Server, bool) {
	return w.serves.at(address, port, isLocal)
}
