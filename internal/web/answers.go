package web

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"io"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/perfagent/perfagent/internal/export"
)

const (
	// makersMax bounds the documents of one path that are made at once: a scrape's compressor takes most of a megabyte, a
	// document some 2 KiB a row.
	makersMax = 2
	// answerBytesMax bounds the documents of one path that are being sent. A scrape of 2,000 endpoints has about 2 MiB.
	answerBytesMax = 8 << 20
	// readersMax is how many clients of one path may be at reading before those that do not read give way. With seven paths
	// and the endless answers they are fewer than connectionsEachMax.
	readersMax = 16
	// answerWait ends before Prometheus gives up (10 s).
	answerWait = 8 * time.Second
	// answerLeast is how long an answer may take though others wait.
	answerLeast = 5 * time.Second
	// wayEvery is how often who waits looks for somebody to give way.
	wayEvery = 50 * time.Millisecond
)

// answers are those of one path that are under way. What is asked for is made as a document in memory first, whatever its
// client does, and then sent: so only documents need room, and clients that do not read theirs keep nobody from his. Who asks
// for the same while it waits to be made shares it; no document is older than the request that it answers. Where documents
// take too much memory, or many are at reading, those that do not read lose theirs.
type answers struct {
	makersMax int                       // documents that are made at once
	refuse    func(http.ResponseWriter) // says that there are too many

	mu      sync.Mutex
	changed chan struct{} // closed, and made anew, when the next document may be begun
	wanted  []*document   // not begun, the longest waiting first
	making  int           // at most that many
	made    map[*document]struct{}
	held    int // bytes of what was made
}

func newAnswers() *answers {
	return &answers{makersMax: makersMax, refuse: func(w http.ResponseWriter) {
		problem(w, http.StatusServiceUnavailable, "too many answers of this path are under way")
	}, changed: make(chan struct{}), made: make(map[*document]struct{})}
}

// document is what answers all requests that asked for it before it was begun.
type document struct {
	key   string
	ready chan struct{} // closed when it is made

	clients int // the answers', as the next two: they wait for it or read it
	begun   bool
	readers []*reader

	header http.Header // what answer wrote, complete when it is ready
	status int
	body   bytes.Buffer
}

// serve answers with what answer writes, which is the same for all requests with the key.
func (s *answers) serve(w http.ResponseWriter, r *http.Request, key string, answer func(http.ResponseWriter)) {
	d := s.join(key)
	p := &reader{ResponseWriter: w, answers: s, document: d, conn: connOf(r.Context())}
	defer s.leave(p)
	if !s.await(r.Context(), d, answer) {
		w.Header().Set("Retry-After", "1")
		s.refuse(w)
		return
	}
	s.read(p)
	d.send(p, r)
}

// join returns the document with the key that is not begun yet.
func (s *answers) join(key string) *document {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.wanted, func(d *document) bool { return d.key == key })
	if i < 0 {
		i = len(s.wanted)
		s.wanted = append(s.wanted, &document{key: key, ready: make(chan struct{}), header: make(http.Header), status: http.StatusOK})
	}
	s.wanted[i].clients++
	return s.wanted[i]
}

func (s *answers) leave(p *reader) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := p.document
	d.readers = slices.DeleteFunc(d.readers, func(o *reader) bool { return o == p })
	d.clients--
	if d.clients > 0 {
		return
	}
	if i := slices.Index(s.wanted, d); i >= 0 {
		s.wanted = slices.Delete(s.wanted, i, i+1)
	}
	if _, made := s.made[d]; made {
		delete(s.made, d)
		s.held -= d.body.Cap()
	}
	s.wake()
}

// wake lets all look whether it is their turn.
func (s *answers) wake() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// await returns whether the document is made, by this request or by another that shares it.
func (s *answers) await(ctx context.Context, d *document, answer func(http.ResponseWriter)) bool {
	mine, changed := s.begin(d)
	if mine {
		s.make(d, answer)
		return true
	}
	patience, look := time.NewTimer(answerWait), time.NewTicker(wayEvery)
	defer patience.Stop()
	defer look.Stop()
	for {
		select {
		case <-d.ready:
			return true
		case <-changed:
			if mine, changed = s.begin(d); mine {
				s.make(d, answer)
				return true
			}
		case <-look.C:
			s.makeRoom(time.Now())
		case <-ctx.Done():
			return false
		case <-patience.C:
			return false
		}
	}
}

// begin returns whether the caller is to make the document, or else when to ask again.
func (s *answers) begin(d *document) (mine bool, again <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d.begun || s.wanted[0] != d || s.making >= s.makersMax || s.held >= answerBytesMax {
		return false, s.changed
	}
	d.begun = true
	s.wanted = slices.Delete(s.wanted, 0, 1)
	s.making++
	s.wake()
	return true, nil
}

func (s *answers) make(d *document, answer func(http.ResponseWriter)) {
	whole := false
	defer func() {
		if !whole { // answer has panicked, which net/http reports
			d.header, d.body = make(http.Header), bytes.Buffer{}
			problem(recorder{d}, http.StatusInternalServerError, "the answer could not be made")
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.making--
		s.made[d] = struct{}{}
		s.held += d.body.Cap()
		close(d.ready)
		s.wake()
	}()
	answer(recorder{d})
	whole = true
}

// recorder writes into a document.
type recorder struct{ *document }

// Header implements http.ResponseWriter.
func (r recorder) Header() http.Header { return r.header }

// Write implements http.ResponseWriter.
func (r recorder) Write(b []byte) (int, error) { return r.body.Write(b) }

// WriteHeader implements http.ResponseWriter.
func (r recorder) WriteHeader(status int) { r.status = status }

// send writes the document, which may be compressed, as the client takes it. An error is the client's, which is gone.
func (d *document) send(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	for name, values := range d.header {
		h[name] = values
	}
	zipped := d.header.Get("Content-Encoding") == "gzip"
	unzip := zipped && !export.AcceptsGzip(r.Header)
	length := d.body.Len()
	if unzip {
		h.Del("Content-Encoding")
		length = unzippedBytes(d.body.Bytes())
	}
	h.Set("Content-Length", strconv.Itoa(length))
	w.WriteHeader(d.status)
	switch {
	case r.Method == http.MethodHead:
	case unzip:
		_ = writeUnzipped(w, d.body.Bytes())
	default:
		_, _ = w.Write(d.body.Bytes())
	}
}

var unzippers = sync.Pool{New: func() any { return new(unzipper) }}

type unzipper struct {
	gzip.Reader
	piece [pieceBytes]byte
}

// unzippedBytes is what a gzip member made here tells at its end (RFC 1952): none has 4 GiB.
func unzippedBytes(zipped []byte) int {
	return int(binary.LittleEndian.Uint32(zipped[len(zipped)-4:]))
}

func writeUnzipped(w io.Writer, zipped []byte) error {
	z := unzippers.Get().(*unzipper)
	defer unzippers.Put(z)
	if err := z.Reset(bytes.NewReader(zipped)); err != nil {
		return err
	}
	_, err := io.CopyBuffer(struct{ io.Writer }{w}, &z.Reader, z.piece[:])
	return err
}

// makeRoom ends answers while documents take too much memory and somebody waits for that: those of the document whose client
// stands still for longest, else the one that has taken longest, if that is long.
func (s *answers) makeRoom(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	staying := s.held
	var slowest, longest *reader
	for d := range s.made {
		if d.leaves() {
			staying -= d.body.Cap()
			continue
		}
		for _, p := range d.readers {
			if p.stalled(now) && (slowest == nil || p.writing.Before(slowest.writing)) {
				slowest = p
			}
			if !p.ousted && now.Sub(p.since) >= answerLeast && (longest == nil || p.since.Before(longest.since)) {
				longest = p
			}
		}
	}
	switch {
	case len(s.wanted) == 0 || staying < answerBytesMax:
	case slowest != nil:
		for _, p := range slowest.document.readers {
			if p.stalled(now) {
				p.oust(now)
			}
		}
	case longest != nil:
		longest.oust(now)
	}
}

// leaves tells whether nobody is left to whom the document is sent.
func (d *document) leaves() bool {
	return d.clients == len(d.readers) && !slices.ContainsFunc(d.readers, func(p *reader) bool { return !p.ousted })
}

// read begins an answer. Where many are under way, those whose clients do not read give way.
func (s *answers) read(p *reader) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	p.since = now
	p.document.readers = append(p.document.readers, p)
	var stalled []*reader
	reading := 0
	for d := range s.made {
		for _, p := range d.readers {
			if !p.ousted {
				reading++
			}
			if p.stalled(now) {
				stalled = append(stalled, p)
			}
		}
	}
	slices.SortFunc(stalled, func(a, b *reader) int { return a.writing.Compare(b.writing) })
	for _, p := range stalled[:max(0, min(len(stalled), reading-readersMax))] {
		p.oust(now)
	}
}

// reader is the writer of an answer under way.
type reader struct {
	http.ResponseWriter
	answers  *answers
	document *document
	conn     *gatedConn // nil in tests without one

	since   time.Time
	writing time.Time // since when a piece of the answer waits for the client; zero: none does. With the lock, as what follows
	ousted  bool
}

func (p *reader) stalled(now time.Time) bool {
	return !p.ousted && !p.writing.IsZero() && now.Sub(p.writing) >= slowAfter
}

// oust makes its write fail, and so its handler return. With the lock, so that it is not yet another request's deadline.
func (p *reader) oust(now time.Time) {
	p.ousted = true
	_ = http.NewResponseController(p.ResponseWriter).SetWriteDeadline(now)
}

// Unwrap lets http.ResponseController reach the connection.
func (p *reader) Unwrap() http.ResponseWriter { return p.ResponseWriter }

// Write hands over piece by piece, so that it shows whether the client takes them.
func (p *reader) Write(b []byte) (n int, err error) {
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

func (p *reader) setWriting(t time.Time) {
	p.answers.mu.Lock()
	p.writing = t
	p.answers.mu.Unlock()
	p.conn.setStream(t)
}
