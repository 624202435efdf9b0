package pipeline

import (
	"time"

	"github.com/perfagent/perfagent/internal/http"
	"github.com/perfagent/perfagent/internal/wire"
)

// http1 is HTTP/1.0 and 1.1: heads that are remembered, and the framing of irregular connections.
type http1 struct {
	memo    *http.Memo[Known]
	streams *http.Streams
	emit    func(*wire.Exchange)
}

func openHTTP1(s Surroundings) Protocol {
	p := &http1{memo: http.NewMemo[Known](), emit: s.Emit}
	p.memo.SetUserHeader(s.User)
	p.streams = http.NewStreams(http.StreamOptions{
		MaxStreams: s.Streams, Lost: s.Lose, User: s.User, Failed: func(err *http.ParseError) { s.Failed(err.Reason()) },
	})
	return p
}

// Record implements Protocol.
func (p *http1) Record(rec *wire.Record) (Understood, bool, error) {
	k, final, err := p.memo.Exchange(rec)
	if err == http.ErrNoRequest {
		err = errUnasked
	}
	if err != nil {
		return Understood{}, final, err
	}
	return Understood{&k.Exchange, &k.Value}, final, nil
}

// Fragment implements Protocol.
func (p *http1) Fragment(f *wire.Fragment) { p.streams.Fragment(f, p.emit) }

// Sweep implements Protocol.
func (p *http1) Sweep(now int64, deadline time.Duration) { p.streams.Sweep(now, deadline, p.emit) }

// EachActive implements Protocol.
func (p *http1) EachActive(visit func(pid uint32, comm *[16]byte)) { p.streams.EachActive(visit) }
