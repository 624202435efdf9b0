package pipeline

import (
	"time"

	"github.com/perfagent/perfagent/internal/http"
	"github.com/perfagent/perfagent/internal/http2"
	"github.com/perfagent/perfagent/internal/wire"
)

// http2Streams is HTTP/2 and gRPC: every connection is followed by its fragments, which the kernel side squeezes
// (docs/http2.md).
type http2Streams struct {
	connections *http2.Connections
	emit        func(*http2.Exchange)
}

func openHTTP2(s Surroundings) Protocol {
	p := &http2Streams{emit: func(ex *http2.Exchange) {
		if ex.Convention == wire.ConventionRPC {
			ex.Verb = ex.RPC.System // a method is of HTTP
		}
		s.Emit(&ex.Exchange)
	}}
	p.connections = http2.New(http2.Options{
		MaxConnections: s.Streams, Squeezed: true, Lost: s.Lose, User: s.User, Failed: func(err *http2.Failure) { s.Failed(err.Reason()) },
	})
	return p
}

// Record implements Protocol. Of such a connection the kernel side sends fragments only.
func (p *http2Streams) Record(rec *wire.Record) (Understood, bool, error) {
	return Understood{}, rec.Flags.Ended(), http.ErrNotHTTP
}

// Fragment implements Protocol.
func (p *http2Streams) Fragment(f *wire.Fragment) { p.connections.Fragment(f, p.emit) }

// Sweep implements Protocol.
func (p *http2Streams) Sweep(now int64, deadline time.Duration) {
	p.connections.Sweep(now, deadline, p.emit)
}

// EachActive implements Protocol.
func (p *http2Streams) EachActive(visit func(pid uint32, comm *[16]byte)) {
	p.connections.EachActive(visit)
}
