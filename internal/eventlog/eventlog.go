// Package eventlog writes what happens to a file of JSON lines: exchanges, alerts, findings. Nobody waits for it. What it cannot keep
// up with, and what the disk does not take, is counted and said, also in the file, where it is missing.
package eventlog

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/perfagent/perfagent/internal/export"
	"github.com/perfagent/perfagent/internal/trace"
	"github.com/perfagent/perfagent/internal/wire"
)

// The kinds of lines. One more, dropped, tells how many are missing at its place.
const (
	KindExchange = "exchange"
	KindAlert    = "alert"
	KindFinding  = "finding"
	kindDropped  = "dropped"
)

// Kinds lists the kinds that can be chosen.
var Kinds = []string{KindExchange, KindAlert, KindFinding}

// The choices of exchanges.
const (
	All     = "all"
	Notable = "notable" // slow and failed ones
	Sample  = "sample"  // those, and one in so many of the others
)

// Choices lists the choices of exchanges.
var Choices = []string{All, Notable, Sample}

// Defaults of Options.
const (
	BytesDefault  = 64 << 20
	FilesDefault  = 5
	SlowerDefault = time.Second
	OneInDefault  = 100
)

const (
	// eventsMax bounds the lines of other kinds that wait. They come by the dozen, when an incident begins.
	eventsMax = 512
	// lineBytesMax bounds a line of another kind: labels and annotations of an alert are a few hundred bytes.
	lineBytesMax = 64 << 10
	// writeBytes is how much is written at once where lines come faster than they are written.
	writeBytes = 64 << 10
	// houseInterval is how often it is looked whether the file is still where it was, and what was dropped.
	houseInterval = time.Second
	// Pauses between attempts to write to a disk that fails double from the first to the last.
	pauseMin = time.Second
	pauseMax = 30 * time.Second
)

// Why a line was dropped.
const (
	droppedQueue   = "queue_full"
	droppedWrite   = "write"
	droppedInvalid = "invalid"
)

// Options configure a Log.
type Options struct {
	File   string        // path
	Bytes  int64         // of one file, at most; 0: BytesDefault
	Age    time.Duration // of one file, at most; 0: any
	Files  int           // in all; 0: FilesDefault
	Kinds  []string      // of Kinds; empty: all
	Choice string        // of Choices; "": All
	Slower time.Duration // from this duration on an exchange is slow; 0: SlowerDefault
	OneIn  int           // of the others, where Choice is Sample; 0: OneInDefault
	Hub    *trace.Hub    // where exchanges come from; nil: there are none
	Queue  int           // exchanges that may wait; 0: as many as for who traces
	Log    *slog.Logger  // nil: silent
	Now    func() time.Time
	// Works is told whether the file takes lines, at each change; nil: nobody is. It must return at once.
	Works func(works bool)
}

func (o *Options) setDefaults() {
	if o.Bytes == 0 {
		o.Bytes = BytesDefault
	}
	if o.Files == 0 {
		o.Files = FilesDefault
	}
	if len(o.Kinds) == 0 {
		o.Kinds = Kinds
	}
	if o.Choice == "" {
		o.Choice = All
	}
	if o.Slower == 0 {
		o.Slower = SlowerDefault
	}
	if o.OneIn == 0 {
		o.OneIn = OneInDefault
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Works == nil {
		o.Works = func(bool) {}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
}

// event is a line of another kind that waits.
type event struct {
	kind string
	line []byte
}

// Log is an event log. Run has one owner; Write, Reopen, Stats and Trouble may be called from any goroutine, also of a nil Log, which
// takes nothing.
type Log struct {
	o         Options
	exchanges *trace.Subscription // nil: none are wanted
	events    chan event
	reopen    chan struct{}

	// Of Run's goroutine.
	file    file
	buffer  []byte
	waiting map[string]uint64 // lines in the buffer, by kind
	missed  uint64            // lines dropped since the file was told
	pause   time.Duration     // until the next attempt, where the latest failed
	next    time.Time

	mu    sync.Mutex
	stats Stats
	// Of Write, which counts without the lock.
	refused, invalid atomic.Uint64
}

// Stats is what a Log says of itself.
type Stats struct {
	Written   map[string]uint64 // lines, by kind
	Dropped   map[string]uint64 // lines, by reason: each that there is
	Rotations uint64
	Trouble   string // why nothing is written, in a user's words; "": all is well
}

// Open opens the file, and subscribes to the hub. A path that no pause makes right (ErrUnsafe, no directory, no permission) is an
// error; of anything else, such as a full disk, the log says so and tries again. Run must follow, or Close.
func Open(o Options) (*Log, error) {
	o.setDefaults()
	l := &Log{o: o, events: make(chan event, eventsMax), reopen: make(chan struct{}, 1), waiting: map[string]uint64{},
		file: file{name: o.File, bytesMax: o.Bytes, ageMax: o.Age, files: o.Files}}
	l.stats = Stats{Written: map[string]uint64{}, Dropped: map[string]uint64{}}
	if err := l.file.open(o.Now()); err != nil {
		if isPermanent(err) {
			return nil, fmt.Errorf("open the event log: %w", err)
		}
		l.fail(err)
	}
	if o.Hub != nil && slices.Contains(o.Kinds, KindExchange) {
		var err error
		if l.exchanges, err = o.Hub.SubscribeTo(l.choose, o.Queue); err != nil {
			l.file.close()
			return nil, fmt.Errorf("subscribe the event log to exchanges: %w", err)
		}
	}
	return l, nil
}

// isPermanent tells whether an error says that the setting is wrong, rather than that the disk is.
func isPermanent(err error) bool {
	return errors.Is(err, ErrUnsafe) || isPathError(err)
}

// notable tells whether an exchange is slow or failed (by the meaning that `perfagent trace --status error` has).
func (l *Log) notable(ex *wire.Exchange) bool {
	return ex.Class != wire.ClassOK || ex.Duration() >= int64(l.o.Slower)
}

// choose is called by the goroutine that publishes exchanges.
func (l *Log) choose(ex *wire.Exchange) bool {
	return l.o.Choice == All || l.notable(ex) || l.o.Choice == Sample && rand.IntN(l.o.OneIn) == 0
}

// Write queues a line of the kind, which has the fields of v, a JSON object, beside time and kind. It returns at once; what is not
// queued is counted.
func (l *Log) Write(kind string, at time.Time, v any) {
	if l == nil || !slices.Contains(l.o.Kinds, kind) {
		return
	}
	line, err := encodeEvent(kind, at, v)
	if err != nil {
		l.invalid.Add(1)
		l.o.Log.Error("an event cannot be written", "kind", kind, "err", err)
		return
	}
	select {
	case l.events <- event{kind, line}:
	default:
		l.refused.Add(1)
	}
}

// errFields says what a line cannot hold.
var errFields = errors.New("no JSON object, too large, or with a time or kind of its own")

// encodeEvent makes a line. Fields of v that are called as the line's own would hide them.
func encodeEvent(kind string, at time.Time, v any) ([]byte, error) {
	fields, err := encode(v)
	if err != nil {
		return nil, err
	}
	var names map[string]json.RawMessage
	if json.Unmarshal(fields, &names) != nil || names == nil || names["time"] != nil || names["kind"] != nil || len(fields) > lineBytesMax {
		return nil, errFields
	}
	head, err := encode(struct {
		Kind string    `json:"kind"`
		Time time.Time `json:"time"`
	}{kind, at.UTC()})
	if err != nil || len(names) == 0 {
		return head, err
	}
	return appendFields(head[:len(head)-2], fields), nil
}

// appendFields goes on in an object that is not closed yet.
func appendFields(object, fields []byte) []byte {
	return append(append(object, ','), fields[1:]...)
}

// encode returns the JSON and a line feed.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(v)
	return b.Bytes(), err
}

// Reopen has the file opened anew, as it must be when another program renamed it. It returns at once.
func (l *Log) Reopen() {
	if l == nil {
		return
	}
	select {
	case l.reopen <- struct{}{}:
	default: // one is under way
	}
}

// Stats returns the state as of now.
func (l *Log) Stats() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := Stats{Written: map[string]uint64{}, Rotations: l.stats.Rotations, Trouble: l.stats.Trouble,
		Dropped: map[string]uint64{droppedQueue: l.stats.Dropped[droppedQueue] + l.refused.Load(), droppedWrite: l.stats.Dropped[droppedWrite],
			droppedInvalid: l.invalid.Load()}}
	for _, kind := range l.o.Kinds {
		s.Written[kind] = l.stats.Written[kind]
	}
	return s
}

// Run writes until the context ends, then what waits, and closes the file.
func (l *Log) Run(ctx context.Context) {
	defer l.Close()
	var exchanges <-chan *wire.Exchange
	if l.exchanges != nil {
		exchanges = l.exchanges.C
	}
	house := time.NewTicker(houseInterval)
	defer house.Stop()
	done := ctx.Done()
	for {
		select {
		case ex := <-exchanges:
			l.addExchange(ex)
		case e := <-l.events:
			l.add(e.kind, e.line)
		case <-l.reopen:
			l.flush()
			l.file.close()
			l.next = time.Time{}
		case <-house.C:
			l.keepHouse()
		case <-done:
			done = nil
		}
		if len(exchanges) > 0 || len(l.events) > 0 {
			continue
		}
		if done == nil {
			l.keepHouse()
		}
		l.flush()
		if done == nil {
			return
		}
	}
}

// Close ends the subscription and closes the file; Run does it by itself.
func (l *Log) Close() {
	if l.exchanges != nil {
		l.exchanges.Close()
	}
	l.file.close()
}

// addExchange makes a line of an exchange: trace's JSON, behind the kind. One of a sample says so, so that they can be scaled.
func (l *Log) addExchange(ex *wire.Exchange) {
	prefix := `{"kind":"` + KindExchange + `"`
	if l.o.Choice == Sample && !l.notable(ex) {
		prefix = fmt.Sprintf(`%s,"sampled_one_in":%d`, prefix, l.o.OneIn)
	}
	object := export.NewObject(ex, l.o.Hub.RawPaths())
	object.Finding = l.o.Hub.Finding(ex)
	fields, err := object.AppendJSON(nil)
	if err != nil {
		l.invalid.Add(1)
		return
	}
	l.add(KindExchange, appendFields([]byte(prefix), fields))
}

// add puts a line into the buffer, and writes what is there before it would be too much.
func (l *Log) add(kind string, line []byte) {
	if len(l.buffer) > 0 && int64(len(l.buffer)+len(line)) > min(writeBytes, l.o.Bytes) {
		l.flush()
	}
	l.buffer = append(l.buffer, line...)
	l.waiting[kind]++
}

// keepHouse opens a file anew that is not where it was, and takes over what subscriber and callers were refused.
func (l *Log) keepHouse() {
	l.countMissed()
	if l.file.moved() {
		l.file.close()
	}
}

// countMissed counts what found its queue full.
func (l *Log) countMissed() {
	n := l.refused.Swap(0)
	if l.exchanges != nil {
		n += l.exchanges.Dropped()
	}
	if n > 0 {
		l.drop(droppedQueue, n)
	}
}

func (l *Log) drop(reason string, n uint64) {
	l.missed += n
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stats.Dropped[reason] += n
}

// flush writes the buffer, or drops it where the disk takes nothing. A file that was told to be opened anew, or that failed, is
// opened also without a line.
func (l *Log) flush() {
	now := l.o.Now()
	if len(l.buffer) == 0 && l.missed == 0 && l.file.f != nil && l.pause == 0 {
		return
	}
	if l.pause > 0 && now.Before(l.next) {
		l.dropBuffer()
		return
	}
	lines := l.buffer
	if l.missed > 0 {
		lines = append(droppedLine(l.missed, now), l.buffer...)
	}
	rotated, err := l.file.write(lines, now)
	if rotated {
		l.mu.Lock()
		l.stats.Rotations++
		l.mu.Unlock()
	}
	if err != nil {
		l.dropBuffer()
		l.fail(err)
		return
	}
	l.wrote()
}

func droppedLine(n uint64, now time.Time) []byte {
	line, err := encodeEvent(kindDropped, now, map[string]uint64{"count": n})
	if err != nil {
		panic(err) // a number
	}
	return line
}

// wrote counts what was written, and says that it is again where it was not.
func (l *Log) wrote() {
	l.mu.Lock()
	for kind, n := range l.waiting {
		l.stats.Written[kind] += n
	}
	again := l.stats.Trouble != ""
	if again {
		l.stats.Trouble = ""
	}
	l.mu.Unlock()
	if again {
		l.o.Works(true)
		l.o.Log.Info("the event log is written again", "file", l.o.File, "lines_missing", l.missed)
	}
	l.buffer, l.missed, l.pause = l.buffer[:0], 0, 0
	clear(l.waiting)
}

// dropBuffer drops what is in the buffer.
func (l *Log) dropBuffer() {
	n := uint64(0)
	for _, count := range l.waiting {
		n += count
	}
	if n > 0 {
		l.drop(droppedWrite, n)
	}
	l.buffer = l.buffer[:0]
	clear(l.waiting)
}

// fail notes that the disk takes nothing, says so once, and waits longer each time: half of the pause at least.
func (l *Log) fail(err error) {
	l.pause = min(max(2*l.pause, pauseMin), pauseMax)
	l.next = l.o.Now().Add(l.pause/2 + rand.N(l.pause/2))
	l.file.close() // what was written is not known
	l.mu.Lock()
	first := l.stats.Trouble == ""
	l.stats.Trouble = fmt.Sprintf("the event log cannot be written, its lines are dropped: %v", err)
	l.mu.Unlock()
	if first {
		l.o.Works(false)
		l.o.Log.Error("the event log cannot be written", "file", l.o.File, "err", err)
	}
}
