package pipeline

import (
	"time"

	"github.com/perfagent/perfagent/internal/http2"
	"github.com/perfagent/perfagent/internal/wire"
)

// overHTTP2 is HTTP/2 in clear, and gRPC on it. The kernel side sends frames and no exchanges.
type overHTTP2 struct {
	connections *http2.Connections
	emit        func(*http2.Exchange)
}

func openHTTP2(s Surroundings) Protocol {
	return &overHTTP2{
		connections: http2.New(http2.Options{
			MaxConnections: s.Streams, Squeezed: true, Lost: s.Lose, User: s.User,
			Failed: func(err *http2.Failure) { s.Failed(err.Reason()) },
		}),
		emit: func(ex *http2.Exchange) {
			if ex.Convention == wire.ConventionRPC {
				ex.Verb = ex.RPC.System
			}
			s.Emit(&ex.Exchange)
		},
	}
}

// Record implements Protocol.
func (p *overHTTP2) Record(*wire.Record) (Understood, bool, error) {
	return Understood{}, true, errUnasked
}

// Fragment implements Protocol.
func (p *overHTTP2) Fragment(f *wire.Fragment) { p.connections.Fragment(f, p.emit) }

// Sweep implements Protocol.
func (p *overHTTP2) Sweep(now int64, deadline time.Duration) {
	p.connections.Sweep(now, deadline, p.emit)
}

// EachActive implements Protocol.
func (p *overHTTP2) EachActive(visit func(pid uint32, comm *[16]byte)) {
	p.connections.EachActive(visit)
}
