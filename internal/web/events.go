package web

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/perfagent/perfagent/internal/analytics"
)

const (
	// lookEvery is how soon a change of alerts is told; the engine's tick is every 10 s.
	lookEvery = time.Second
	// tickPatience is after how long what can change without a tick is told, the time at least: who hears nothing for longer has lost
	// the agent, and what stands between takes no quiet connection for a dead one.
	tickPatience = 10 * time.Second
	// eventsWaitingMax are the events that wait for one reader, of some 100 KiB each, shared by all: a minute's. Who takes none for so
	// long is dropped, and gets a snapshot when he comes back.
	eventsWaitingMax = 6
)

// feed hands the dashboard's document to whoever follows it: once whole, and then what of it changed, by its top-level fields. One
// goroutine makes it for all, while there is anybody.
type feed struct {
	dashboard *dashboard

	mu        sync.Mutex
	followers map[*follower]struct{}
	shown     map[string]json.RawMessage // what they know; nil without any
	at        time.Time                  // the engine's tick of it
	made      time.Time
	stop      chan struct{} // of the goroutine
}

// follower is one reader. Its events never change; a closed channel says that it was too slow.
type follower struct{ events chan []byte }

func newFeed(d *dashboard) *feed {
	return &feed{dashboard: d, followers: make(map[*follower]struct{})}
}

func (f *feed) route() Route {
	return Route{Path: "/events", Summary: "Server-sent events: the dashboard's document as snapshot, then as delta what of it changed, at each tick and when alerts do.",
		MediaType: "text/event-stream", Errors: []int{http.StatusInternalServerError}, Endless: true, Handler: f}
}

// ServeHTTP implements http.Handler.
func (f *feed) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	me, snapshot, err := f.follow()
	if err != nil {
		problem(w, http.StatusInternalServerError, err.Error())
		return
	}
	defer f.leave(me)
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	for event, more := snapshot, true; more; {
		if _, err := w.Write(event); err != nil {
			return // the client is gone, or does not read
		}
		select {
		case event, more = <-me.events:
		case <-r.Context().Done():
			return
		}
	}
}

// follow returns a follower, and the event that it begins with.
func (f *feed) follow() (*follower, []byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.shown == nil {
		if _, err := f.renew(); err != nil {
			return nil, nil, err
		}
	}
	if len(f.followers) == 0 {
		f.stop = make(chan struct{})
		go f.run(f.stop)
	}
	me := &follower{make(chan []byte, eventsWaitingMax)}
	f.followers[me] = struct{}{}
	return me, eventOf("snapshot", f.shown), nil
}

func (f *feed) leave(me *follower) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.drop(me)
}

// drop is called with the lock, once or twice.
func (f *feed) drop(me *follower) {
	if _, ok := f.followers[me]; !ok {
		return
	}
	delete(f.followers, me)
	close(me.events)
	if len(f.followers) == 0 {
		close(f.stop)
		f.shown = nil
	}
}

// run looks for changes until nobody follows.
func (f *feed) run(stop <-chan struct{}) {
	again := time.NewTicker(lookEvery)
	defer again.Stop()
	for {
		select {
		case <-again.C:
			f.look(stop)
		case <-stop:
			return
		}
	}
}

// look tells the followers what has changed. The document is not made where nothing can have.
func (f *feed) look(stop <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stop != stop || f.shown == nil {
		return // of a goroutine that ends
	}
	w, err := f.dashboard.performance.Engine.Window(analytics.LevelWindow)
	if err != nil {
		return // as with the snapshot, which was made
	}
	var changed map[string]json.RawMessage
	if !w.To.Equal(f.at) || time.Since(f.made) >= tickPatience {
		changed, err = f.renew()
	} else {
		changed, err = f.renewAlerts()
	}
	if err == nil && len(changed) > 0 {
		f.publish(eventOf("delta", changed))
	}
}

func (f *feed) publish(event []byte) {
	for me := range f.followers {
		select {
		case me.events <- event:
		default:
			f.drop(me)
		}
	}
}

// renew makes the document and returns those of its fields that are others than before.
func (f *feed) renew() (map[string]json.RawMessage, error) {
	w, err := f.dashboard.performance.Engine.Window(analytics.LevelWindow)
	if err != nil {
		return nil, err
	}
	document, err := f.dashboard.document(analytics.LevelWindow, rowsDefault)
	if err != nil {
		return nil, err
	}
	fields, err := fieldsOf(document)
	if err != nil {
		return nil, err
	}
	changed := make(map[string]json.RawMessage)
	for name, value := range fields {
		if !bytes.Equal(f.shown[name], value) {
			changed[name] = value
		}
	}
	for name := range f.shown {
		if _, still := fields[name]; !still {
			changed[name] = json.RawMessage("null") // as in a merge patch (RFC 7396)
		}
	}
	f.shown, f.at, f.made = fields, w.To, time.Now() // what the document says is rounded
	return changed, nil
}

// renewAlerts does so for what may change at any time.
func (f *feed) renewAlerts() (map[string]json.RawMessage, error) {
	alerts := f.dashboard.alertsNow()
	if alerts == nil {
		return nil, nil
	}
	var known alertsJSON
	if err := json.Unmarshal(f.shown["alerts"], &known); err != nil {
		return nil, fmt.Errorf("reading alerts that were told: %w", err)
	}
	value, err := json.Marshal(alerts)
	if err != nil {
		return nil, err
	}
	now := alerts.Time
	alerts.Time = known.Time // which changes always
	same, err := json.Marshal(alerts)
	if err != nil || bytes.Equal(same, f.shown["alerts"]) {
		return nil, err
	}
	alerts.Time = now
	f.shown = maps.Clone(f.shown)
	f.shown["alerts"] = value
	return map[string]json.RawMessage{"alerts": value}, nil
}

func fieldsOf(document any) (fields map[string]json.RawMessage, err error) {
	text, err := json.Marshal(document)
	if err != nil {
		return nil, err
	}
	return fields, json.Unmarshal(text, &fields)
}

// eventOf is an event of the text/event-stream format; JSON is one line.
func eventOf(name string, fields map[string]json.RawMessage) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "event: %s\ndata: {", name)
	for i, field := range slices.Sorted(maps.Keys(fields)) {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "%q:%s", field, fields[field])
	}
	b.WriteString("}\n\n")
	return b.Bytes()
}
