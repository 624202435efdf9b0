package export

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/perfagent/perfagent/internal/wire"
)

const (
	// SocketDefault is where a running agent serves `perfagent trace`.
	SocketDefault = "/run/perfagent/perfagent.sock"

	// socketMode lets the owner and group trace: exchanges hold more than metrics do.
	socketMode = 0o660

	// traceBufferDefault is how many exchanges wait for a subscriber. The worker delivers what the kernel side saw in a
	// tenth of a second at once, so this bears 160,000 exchanges/s. One takes about 0.6 KiB, 1.5 KiB with the longest
	// heads: a subscriber that does not read holds 24 MiB at most, and all of them together four times that.
	traceBufferDefault = 16384

	// noticeEvery is after how many lines, at the latest, a subscriber hears of what it missed.
	noticeEvery = 256

	// subscribersMax bounds the subscribers, and with them memory and the cost of each exchange.
	subscribersMax = 4

	// drainTimeout is how long a stream may take, once its server ends, to hand out what was published before.
	drainTimeout = time.Second
)

// Filter chooses exchanges. The zero value chooses all.
type Filter struct {
	// Slower chooses exchanges of at least this duration; one without a known duration only when it is 0.
	Slower time.Duration
	// Status chooses codes ("404"), classes ("5xx") and error types ("aborted", "timeout"); "error" stands for every
	// exchange with an error type or a status of 400 and above. One match is enough; empty means all.
	Status []string
	// Services chooses by names or globs (path.Match). One match is enough; empty means all.
	Services []string
}

// Validate reports what is wrong with the filter. The error begins with the name of the query parameter, which is that
// of the flag, too.
func (f *Filter) Validate() error {
	if f.Slower < 0 {
		return fmt.Errorf("slower: %v is negative", f.Slower)
	}
	for _, s := range f.Services {
		if _, err := path.Match(s, ""); err != nil {
			return fmt.Errorf("service: %q is not a name or a glob such as shop-*", s)
		}
	}
	for _, s := range f.Status {
		if !validStatus(s) {
			return fmt.Errorf("status: %q is not a status such as 404, 5xx, error, aborted or timeout", s)
		}
	}
	return nil
}

func validStatus(s string) bool {
	if s == "error" || s == "aborted" || s == "timeout" {
		return true
	}
	if len(s) != 3 || s[0] < '1' || s[0] > '9' {
		return false
	}
	_, err := strconv.ParseUint(s, 10, 16)
	return err == nil || s[0] <= '5' && s[1:] == "xx"
}

// SplitStatus returns the single values of lists such as "5xx, aborted", in lower case.
func SplitStatus(lists []string) (all []string) {
	for _, list := range lists {
		for s := range strings.SplitSeq(list, ",") {
			all = append(all, strings.ToLower(strings.TrimSpace(s)))
		}
	}
	return all
}

// Match reports whether the filter chooses ex. It allocates nothing.
func (f *Filter) Match(ex *wire.Exchange) bool {
	if f.Slower > 0 && ex.Duration() < int64(f.Slower) {
		return false
	}
	if len(f.Services) > 0 && !slices.ContainsFunc(f.Services, func(s string) bool { return matchName(s, ex.Service) }) {
		return false
	}
	return len(f.Status) == 0 || slices.ContainsFunc(f.Status, func(s string) bool { return matchStatus(s, ex) })
}

func matchName(glob, name string) bool {
	matches, err := path.Match(glob, name)
	return glob == name || matches && err == nil
}

func matchStatus(s string, ex *wire.Exchange) bool {
	switch {
	case s == "error":
		return ex.ErrorType != "" || ex.Code >= 400
	case s == ex.ErrorType:
		return true
	case len(s) == 3 && s[1:] == "xx":
		return ex.Code/100 == uint16(s[0]-'0')
	case len(s) == 3:
		return ex.Code == uint16(s[0]-'0')*100+uint16(s[1]-'0')*10+uint16(s[2]-'0')
	}
	return false
}

// ErrTooManySubscribers says that no further subscriber is served.
var ErrTooManySubscribers = errors.New("too many traces at once")

// TraceHub hands single exchanges to whoever is watching. Its zero value is ready to use. One goroutine publishes; all
// else may be called from any goroutine.
type TraceHub struct {
	mu       sync.Mutex // serialises changes of subs
	subs     atomic.Pointer[[]*Subscription]
	rawPaths atomic.Bool
}

// SetRawPaths says whether streams show paths unmasked without being asked to.
func (h *TraceHub) SetRawPaths(raw bool) { h.rawPaths.Store(raw) }

// Subscription is one watcher's bounded queue.
type Subscription struct {
	// C delivers the chosen exchanges, which are shared: read only.
	C <-chan *wire.Exchange

	c       chan *wire.Exchange
	filter  Filter
	dropped atomic.Uint64
	hub     *TraceHub
}

// Subscribe starts a subscription with room for buffer exchanges (0: 16,384). The caller must Close it.
func (h *TraceHub) Subscribe(f Filter, buffer int) (*Subscription, error) {
	if err := f.Validate(); err != nil {
		return nil, err
	}
	if buffer <= 0 {
		buffer = traceBufferDefault
	}
	s := &Subscription{c: make(chan *wire.Exchange, buffer), filter: f, hub: h}
	s.C = s.c
	h.mu.Lock()
	defer h.mu.Unlock()
	all := h.load()
	if len(all) >= subscribersMax {
		return nil, fmt.Errorf("%w: %d are running", ErrTooManySubscribers, len(all))
	}
	h.store(append(slices.Clone(all), s))
	return s, nil
}

// Close ends the subscription. C is not closed, and empties.
func (s *Subscription) Close() {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	s.hub.store(slices.DeleteFunc(slices.Clone(s.hub.load()), func(o *Subscription) bool { return o == s }))
}

// Dropped returns the number of exchanges that found the queue full since the last call.
func (s *Subscription) Dropped() uint64 { return s.dropped.Swap(0) }

func (h *TraceHub) load() []*Subscription {
	if all := h.subs.Load(); all != nil {
		return *all
	}
	return nil
}

// store keeps nil for nobody, so that Publish needs one look.
func (h *TraceHub) store(all []*Subscription) {
	if len(all) == 0 {
		h.subs.Store(nil)
		return
	}
	h.subs.Store(&all)
}

// Wanted tells whether anybody subscribed: what only Publish needs can be left out otherwise.
func (h *TraceHub) Wanted() bool {
	all := h.subs.Load()
	return all != nil && len(*all) > 0
}

// Publish gives a copy of ex to every subscriber that wants it and has room; it never waits. Without a subscriber it
// costs one load.
func (h *TraceHub) Publish(ex *wire.Exchange) {
	all := h.subs.Load()
	if all == nil {
		return
	}
	var copied *wire.Exchange
	for _, s := range *all {
		if !s.filter.Match(ex) {
			continue
		}
		if len(s.c) == cap(s.c) { // full: do not even copy
			s.dropped.Add(1)
			continue
		}
		if copied == nil {
			copied = ex.Clone()
		}
		select {
		case s.c <- copied:
		default:
			s.dropped.Add(1)
		}
	}
}

// Dropped is the line that tells a slow subscriber how many exchanges it missed at this place of the stream.
type Dropped struct {
	Dropped uint64 `json:"dropped"`
}

// TracePath is where a hub's handler is served.
const TracePath = "/trace"

// TraceQuery is what a trace asks for, as query parameters of GET /trace: slower (a duration), status (repeatable, or
// separated by commas), service (repeatable), limit, raw_paths.
type TraceQuery struct {
	Filter
	Limit    int // the stream ends after so many exchanges; 0: never
	RawPaths bool
}

// Validate reports what is wrong with the query, as Filter's does.
func (q *TraceQuery) Validate() error {
	if q.Limit < 0 {
		return fmt.Errorf("limit: %d is negative", q.Limit)
	}
	return q.Filter.Validate()
}

// Values returns the query parameters.
func (q *TraceQuery) Values() url.Values {
	v := url.Values{}
	if q.Slower > 0 {
		v.Set("slower", q.Slower.String())
	}
	if len(q.Status) > 0 {
		v.Set("status", strings.Join(q.Status, ","))
	}
	for _, s := range q.Services {
		v.Add("service", s)
	}
	if q.Limit > 0 {
		v.Set("limit", strconv.Itoa(q.Limit))
	}
	if q.RawPaths {
		v.Set("raw_paths", "true")
	}
	return v
}

// ParseTraceQuery is the inverse of Values. Unknown parameters are errors: a filter that does nothing misleads.
func ParseTraceQuery(v url.Values) (q TraceQuery, err error) {
	for name, values := range v {
		value := values[len(values)-1]
		switch name {
		case "slower":
			q.Slower, err = time.ParseDuration(value)
		case "status":
			q.Status = SplitStatus(values)
		case "service":
			q.Services = values
		case "limit":
			q.Limit, err = strconv.Atoi(value)
		case "raw_paths":
			q.RawPaths, err = strconv.ParseBool(value)
		default:
			err = errors.New("unknown parameter")
		}
		if err != nil {
			return q, fmt.Errorf("%q: %w", name, err)
		}
	}
	return q, q.Validate()
}

// TraceHandler serves GET /trace: a stream of JSON objects, one a line, as the exchanges happen. The response's head is
// sent at once: what happens after it has arrived is in the stream. When the request's context ends, what was published
// before is still sent, for a second at most.
func (h *TraceHub) TraceHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !allowMethods(w, r, http.MethodGet) {
			return
		}
		q, err := ParseTraceQuery(r.URL.Query())
		if err != nil {
			problem(w, http.StatusBadRequest, err.Error())
			return
		}
		q.RawPaths = q.RawPaths || h.rawPaths.Load()
		s, err := h.Subscribe(q.Filter, 0)
		if err != nil {
			problem(w, http.StatusServiceUnavailable, err.Error())
			return
		}
		defer s.Close()
		w.Header().Set("Content-Type", "application/x-ndjson")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.WriteHeader(http.StatusOK)
		_ = stream(r.Context(), w, s, q) // an error means that the client is gone, or does not read
	})
}

// stream writes until the limit, the end of the context and of what came before it, or a write error.
func stream(ctx context.Context, w http.ResponseWriter, s *Subscription, q TraceQuery) error {
	control := http.NewResponseController(w)
	if err := control.Flush(); err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() {
		_ = control.SetWriteDeadline(time.Now().Add(drainTimeout)) // a connection of net/http has deadlines
	})()
	var line []byte
	for sent := 0; q.Limit == 0 || sent < q.Limit; sent++ {
		ex := s.next(ctx)
		if ex == nil {
			break
		}
		var err error
		if line, err = NewObject(ex, q.RawPaths).AppendJSON(line[:0]); err != nil {
			return err
		}
		if _, err := w.Write(line); err != nil {
			return err
		}
		if len(s.C) > 0 && sent%noticeEvery != noticeEvery-1 {
			continue
		}
		if err := writeDropped(w, s); err != nil {
			return err
		}
		if err := control.Flush(); err != nil {
			return err
		}
	}
	return writeDropped(w, s)
}

// next waits for the next exchange. After the end of ctx it returns those that are queued, then nil.
func (s *Subscription) next(ctx context.Context) *wire.Exchange {
	select {
	case ex := <-s.C:
		return ex
	case <-ctx.Done():
	}
	select {
	case ex := <-s.C:
		return ex
	default:
		return nil
	}
}

// writeDropped tells the gap, once the queue is drained or noticeEvery lines after the last time.
func writeDropped(w http.ResponseWriter, s *Subscription) error {
	n := s.Dropped()
	if n == 0 {
		return nil
	}
	b, err := json.Marshal(Dropped{n})
	if err != nil {
		return err
	}
	_, err = w.Write(append(b, '\n'))
	return err
}

// ErrSocketBusy says that another agent serves the socket.
var ErrSocketBusy = errors.New("another agent serves this socket")

// ListenSocket listens on a Unix socket that owner and group may use, making its directory if needed. A socket that a
// killed agent left behind is replaced; one that is being served is ErrSocketBusy.
func ListenSocket(name string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return nil, fmt.Errorf("making the directory of the socket: %w", err)
	}
	if err := removeStaleSocket(name); err != nil {
		return nil, err
	}
	l, err := net.Listen("unix", name)
	if err != nil {
		return nil, fmt.Errorf("listening on unix:%s: %w", name, err)
	}
	if err := os.Chmod(name, socketMode); err != nil {
		return nil, errors.Join(fmt.Errorf("setting the socket's mode: %w", err), l.Close())
	}
	return l, nil
}

func removeStaleSocket(name string) error {
	info, err := os.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("looking at the socket: %w", err)
	}
	if info.Mode()&fs.ModeSocket == 0 {
		return fmt.Errorf("listening on unix:%s: the path exists and is no socket; remove it or choose another path", name)
	}
	c, err := net.DialTimeout("unix", name, time.Second)
	if err == nil {
		_ = c.Close()
		return fmt.Errorf("unix:%s: %w", name, ErrSocketBusy)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("looking whether unix:%s is served: %w", name, err)
	}
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing a stale socket: %w", err)
	}
	return nil
}
