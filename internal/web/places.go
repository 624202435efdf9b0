package web

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"
)

const (
	// answersMax bounds the answers of one path that are made or written at once, and with them their memory: a scrape's
	// compressor takes most of a megabyte, a document some 2 KiB a row.
	answersMax = 4
	// waitersMax is how many may wait for one of them to end.
	waitersMax = 16
	// answerWait ends before Prometheus gives up (10 s).
	answerWait = 8 * time.Second
	// answerLeast is how long an answer may take though others wait.
	answerLeast = 5 * time.Second
	// wayEvery is how often who waits looks for somebody to give way.
	wayEvery = 50 * time.Millisecond
)

// places are the answers of one path that are under way. Who finds all of them taken waits, first come, first served; and
// meanwhile a client that does not read its answer, or has taken long, loses its place: clients that stall deny nobody the
// path. The zero value is ready to use.
type places struct {
	mu      sync.Mutex
	taken   []*place // at most answersMax
	waiting []*place // at most waitersMax
}

// serve calls answer once there is a place; otherwise it has said that there is none.
func (s *places) serve(w http.ResponseWriter, r *http.Request, answer func(http.ResponseWriter)) {
	p := &place{ResponseWriter: w, places: s, granted: make(chan struct{})}
	if !s.take(r.Context(), p) {
		w.Header().Set("Retry-After", "1")
		problem(w, http.StatusServiceUnavailable, fmt.Sprintf("%d answers of this path are under way already", answersMax))
		return
	}
	defer s.leave(p)
	answer(p)
}

func (s *places) take(ctx context.Context, p *place) bool {
	s.mu.Lock()
	free, crowded := len(s.taken) < answersMax, len(s.waiting) >= waitersMax
	switch {
	case free:
		s.grant(p)
	case !crowded:
		s.waiting = append(s.waiting, p)
	}
	s.mu.Unlock()
	if free || crowded {
		return free
	}
	patience, look := time.NewTimer(answerWait), time.NewTicker(wayEvery)
	defer patience.Stop()
	defer look.Stop()
	for {
		select {
		case <-p.granted:
			return true
		case <-look.C:
			s.makeWay(time.Now())
		case <-ctx.Done():
			return s.giveUp(p)
		case <-patience.C:
			return s.giveUp(p)
		}
	}
}

func (s *places) grant(p *place) {
	p.since = time.Now()
	s.taken = append(s.taken, p)
	close(p.granted)
}

// giveUp stops waiting, unless the place was granted at this moment, which it returns.
func (s *places) giveUp(p *place) (granted bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.Index(s.waiting, p)
	if i < 0 {
		return true
	}
	s.waiting = slices.Delete(s.waiting, i, i+1)
	return false
}

func (s *places) leave(p *place) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taken = slices.DeleteFunc(s.taken, func(o *place) bool { return o == p })
	if len(s.waiting) > 0 {
		s.grant(s.waiting[0])
		s.waiting = slices.Delete(s.waiting, 0, 1)
	}
}

// makeWay ends one answer for each who waits: the one whose client reads the slowest, if any is slow, else the one that
// has taken longest, if that is long.
func (s *places) makeWay(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	leaving := 0
	var slowest, longest *place
	for _, p := range s.taken {
		switch {
		case p.ousted:
			leaving++
			continue
		case !p.writing.IsZero() && now.Sub(p.writing) >= slowAfter && (slowest == nil || p.writing.Before(slowest.writing)):
			slowest = p
		}
		if now.Sub(p.since) >= answerLeast && (longest == nil || p.since.Before(longest.since)) {
			longest = p
		}
	}
	if slowest == nil {
		slowest = longest
	}
	if slowest == nil || leaving >= len(s.waiting) {
		return
	}
	slowest.ousted = true
	// Its write fails, and so its handler returns. With the lock, so that it is not yet another request's deadline.
	_ = http.NewResponseController(slowest.ResponseWriter).SetWriteDeadline(now)
}

// place is the writer of an answer under way.
type place struct {
	http.ResponseWriter
	places  *places
	granted chan struct{} // closed when it is

	since   time.Time // with the lock, as what follows
	writing time.Time // since when a piece of the answer waits for the client; zero: none does
	ousted  bool
}

// Unwrap lets http.ResponseController reach the connection.
func (p *place) Unwrap() http.ResponseWriter { return p.ResponseWriter }

// Write hands over piece by piece, so that it shows whether the client takes them.
func (p *place) Write(b []byte) (n int, err error) {
	for {
		p.setWriting(time.Now())
		m, err := p.ResponseWriter.Write(b[:min(len(b), pieceBytes)])
		p.setWriting(time.Time{})
		n, b = n+m, b[m:]
		if err != nil || len(b) == 0 {
			return n, err
		}
	}
}

func (p *place) setWriting(t time.Time) {
	p.places.mu.Lock()
	p.writing = t
	p.places.mu.Unlock()
}
