package pipeline

import (
	"maps"
	"sync/atomic"

	"github.com/perfagent/perfagent/internal/host"
)

// servesMax bounds the ports that are remembered, some 60 bytes each.
const servesMax = 1024

// Server is who serves at a port.
type Server struct{ Service, Namespace string }

// serves remembers which service answered last at which TCP port, so that a call to this host can be followed to who answers it. What
// is published never changes; it is copied when a port is another's, which is when something was deployed.
type serves struct {
	latest atomic.Pointer[map[uint16]Server]
}

func (s *serves) note(port uint16, identity *host.Identity) {
	if port == 0 || identity.Service == "" {
		return
	}
	server := Server{identity.Service, identity.Namespace}
	known := s.all()
	if known[port] == server || known[port] == (Server{}) && len(known) >= servesMax {
		return
	}
	changed := maps.Clone(known)
	if changed == nil {
		changed = make(map[uint16]Server)
	}
	changed[port] = server
	s.latest.Store(&changed)
}

func (s *serves) all() map[uint16]Server {
	if all := s.latest.Load(); all != nil {
		return *all
	}
	return nil
}

// Serves returns which service answered last at which TCP port. It may be called from any goroutine; the map must not be changed.
func (w *Worker) Serves() map[uint16]Server { return w.serves.all() }
