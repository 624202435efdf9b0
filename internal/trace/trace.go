// Package trace chooses single exchanges and hands them to whoever watches: what `perfagent trace` asks for, and the hub
// that the pipeline publishes to. Serving a trace is web's business.
package trace

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/perfagent/perfagent/internal/wire"
)

const (
	// SocketDefault is where a running agent serves `perfagent trace`.
	SocketDefault = "/run/perfagent/perfagent.sock"

	// bufferDefault is how many exchanges wait for a subscriber. The worker delivers what the kernel side saw in a
	// tenth of a second at once, so this bears 160,000 exchanges/s. One takes about 0.6 KiB, 1.5 KiB with the longest
	// heads: a subscriber that does not read holds 24 MiB at most, and all of them together five times that.
	bufferDefault = 16384

	// subscribersMax bounds the subscribers, and with them memory and the cost of each exchange: four traces and the event log.
	subscribersMax = 5
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
		return ex.Class != wire.ClassOK
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

// Hub hands single exchanges to whoever is watching. Its zero value is ready to use. One goroutine publishes; all
// else may be called from any goroutine.
type Hub struct {
	mu       sync.Mutex // serialises changes of subs
	subs     atomic.Pointer[[]*Subscription]
	rawPaths atomic.Bool
	finding  atomic.Pointer[func(*wire.Exchange) string]
}

// SetRawPaths says whether streams show paths unmasked without being asked to.
func (h *Hub) SetRawPaths(raw bool) { h.rawPaths.Store(raw) }

// RawPaths tells what SetRawPaths said last.
func (h *Hub) RawPaths() bool { return h.rawPaths.Load() }

// SetFinding says what finding an exchange belongs to, "" for none. It is asked for exchanges that are shown, not for each.
func (h *Hub) SetFinding(of func(*wire.Exchange) string) { h.finding.Store(&of) }

// Finding returns the ID of the open finding that an exchange belongs to; "" for none.
func (h *Hub) Finding(ex *wire.Exchange) string {
	if of := h.finding.Load(); of != nil {
		return (*of)(ex)
	}
	return ""
}

// Subscription is one watcher's bounded queue.
type Subscription struct {
	// C delivers the chosen exchanges, which are shared: read only.
	C <-chan *wire.Exchange

	c       chan *wire.Exchange
	choose  func(*wire.Exchange) bool
	dropped atomic.Uint64
	hub     *Hub
}

// Subscribe starts a subscription with room for buffer exchanges (0: 16,384). The caller must Close it.
func (h *Hub) Subscribe(f Filter, buffer int) (*Subscription, error) {
	if err := f.Validate(); err != nil {
		return nil, err
	}
	return h.SubscribeTo(f.Match, buffer)
}

// SubscribeTo is Subscribe for what a Filter cannot say. The goroutine that publishes calls choose for each exchange, which it must
// not keep.
func (h *Hub) SubscribeTo(choose func(*wire.Exchange) bool, buffer int) (*Subscription, error) {
	if buffer <= 0 {
		buffer = bufferDefault
	}
	s := &Subscription{c: make(chan *wire.Exchange, buffer), choose: choose, hub: h}
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

// Next waits for the next exchange. After the end of ctx it returns those that are queued, then nil.
func (s *Subscription) Next(ctx context.Context) *wire.Exchange {
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

func (h *Hub) load() []*Subscription {
	if all := h.subs.Load(); all != nil {
		return *all
	}
	return nil
}

// store keeps nil for nobody, so that Publish needs one look.
func (h *Hub) store(all []*Subscription) {
	if len(all) == 0 {
		h.subs.Store(nil)
		return
	}
	h.subs.Store(&all)
}

// Wanted tells whether anybody subscribed: what only Publish needs can be left out otherwise.
func (h *Hub) Wanted() bool {
	all := h.subs.Load()
	return all != nil && len(*all) > 0
}

// Publish gives a copy of ex to every subscriber that wants it and has room; it never waits. Without a subscriber it
// costs one load.
func (h *Hub) Publish(ex *wire.Exchange) {
	all := h.subs.Load()
	if all == nil {
		return
	}
	var copied *wire.Exchange
	for _, s := range *all {
		if !s.choose(ex) {
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

// Path is where an agent serves a trace.
const Path = "/trace"

// Query is what a trace asks for, as query parameters of GET /trace: slower (a duration), status (repeatable, or
// separated by commas), service (repeatable), limit, raw_paths.
type Query struct {
	Filter
	Limit    int // the stream ends after so many exchanges; 0: never
	RawPaths bool
}

// Validate reports what is wrong with the query, as Filter's does.
func (q *Query) Validate() error {
	if q.Limit < 0 {
		return fmt.Errorf("limit: %d is negative", q.Limit)
	}
	return q.Filter.Validate()
}

// Values returns the query parameters.
func (q *Query) Values() url.Values {
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

// ParseQuery is the inverse of Values. Unknown parameters are errors: a filter that does nothing misleads.
func ParseQuery(v url.Values) (q Query, err error) {
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
