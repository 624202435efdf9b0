// Package redis publishes figures and alerts to a Redis server: each figure as a key that expires, alerts in one stream. The server may
// vanish, hang, be full or read-only: an attempt has a bound, the next one waits, and nobody waits for either.
package redis

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/gomodule/redigo/redis"
)

const (
	// IntervalDefault is that of the ticks that figures are of.
	IntervalDefault = 10 * time.Second
	// roundTimeout bounds an attempt: connecting, the figures, the alerts.
	roundTimeout = 5 * time.Second
	// ttlIntervals is after how many intervals without another one a figure expires.
	ttlIntervals = 3
	// figuresMax bounds the keys of a round: as many endpoints as have series of their own by default, and their services.
	figuresMax = 4096
	// figureBytesMax bounds one: a summary of a hundred endpoints has 100 KiB.
	figureBytesMax = 4 << 20
	// commandsMax is how many commands are sent before the first is waited for.
	commandsMax = 128
	// alertsMax bounds the alerts that wait for a server that is away; streamMax those that it keeps, about.
	alertsMax = 256
	streamMax = 10_000
	// alertBytesMax bounds one.
	alertBytesMax = 64 << 10
	// Pauses between attempts double from the first to the last, each with a random part.
	pauseMin = time.Second
	pauseMax = time.Minute
	// reasonBytesMax is what is shown of a server's words.
	reasonBytesMax = 256
)

// Options configure a Publisher.
type Options struct {
	Address  Address
	Password func() (string, error) // asked at each connect; nil, and "": none
	TLS      *tls.Config            // where the address wants TLS; nil: the system's certificates
	Prefix   string                 // of all keys, such as perfagent
	Host     string                 // names this agent's keys
	Interval time.Duration          // between two rounds; 0: IntervalDefault
	// Figures are what is published at each round.
	Figures func() ([]Figure, error)
	Log     *slog.Logger // nil: silent
	// Works is told whether the server takes what is published, at each change; nil: nobody is.
	Works func(works bool)
}

// Figure is one key's value: Body as JSON, under a name of these parts.
type Figure struct {
	Name []string
	Body any
}

// Publisher publishes. Run has one owner; Alert and Stats may be called from any goroutine, also of a nil Publisher.
type Publisher struct {
	o      Options
	alerts chan alert

	// Of Run's goroutine.
	server  redis.Conn // nil: not connected
	socket  net.Conn   // of it
	secret  string     // the password that was sent last
	waiting []alert
	pause   time.Duration
	next    time.Time

	mu    sync.Mutex
	stats Stats
}

type alert struct {
	at   time.Time
	body string
}

// Stats is what a Publisher says of itself.
type Stats struct {
	Rounds  map[string]uint64 // success, failed, skipped (while it waits after a failure)
	Alerts  map[string]uint64 // sent, dropped
	Trouble string            // in a user's words; "": all is well
}

// New returns a Publisher that Run starts.
func New(o Options) *Publisher {
	if o.Interval == 0 {
		o.Interval = IntervalDefault
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Works == nil {
		o.Works = func(bool) {}
	}
	return &Publisher{o: o, alerts: make(chan alert, alertsMax), stats: Stats{
		Rounds: map[string]uint64{"success": 0, "failed": 0, "skipped": 0}, Alerts: map[string]uint64{"sent": 0, "dropped": 0}}}
}

// Alert queues an alert for the stream and returns at once. What is dropped is counted.
func (p *Publisher) Alert(at time.Time, v any) {
	if p == nil {
		return
	}
	body, err := json.Marshal(v)
	if err == nil && len(body) <= alertBytesMax {
		select {
		case p.alerts <- alert{at, string(body)}:
			return
		default:
		}
	}
	p.countAlerts("dropped", 1)
}

// Address is where it publishes to, without the user.
func (p *Publisher) Address() string { return p.o.Address.String() }

// Stats returns the state as of now.
func (p *Publisher) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := Stats{Rounds: map[string]uint64{}, Alerts: map[string]uint64{}, Trouble: p.stats.Trouble}
	for k, n := range p.stats.Rounds {
		s.Rounds[k] = n
	}
	for k, n := range p.stats.Alerts {
		s.Alerts[k] = n
	}
	return s
}

// Run publishes at once and at each interval, alerts as they come, until the context ends.
func (p *Publisher) Run(ctx context.Context) {
	defer p.disconnect()
	ticks := time.NewTicker(p.o.Interval)
	defer ticks.Stop()
	p.round(ctx, true)
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticks.C:
			p.round(ctx, true)
		case a := <-p.alerts:
			p.keep(a)
			p.round(ctx, false)
		}
	}
}

// keep puts an alert behind those that wait; where there are too many the oldest goes.
func (p *Publisher) keep(a alert) {
	p.waiting = append(p.waiting, a)
	if n := len(p.waiting) - alertsMax; n > 0 {
		p.waiting = p.waiting[n:]
		p.countAlerts("dropped", uint64(n))
	}
}

// round makes one attempt, unless the one before failed a short while ago.
func (p *Publisher) round(ctx context.Context, figures bool) {
	for more := true; more; {
		select {
		case a := <-p.alerts:
			p.keep(a)
		default:
			more = false
		}
	}
	if time.Now().Before(p.next) {
		if figures {
			p.countRound("skipped")
		}
		return
	}
	attempt, cancel := context.WithTimeout(ctx, roundTimeout)
	defer cancel()
	err := p.publish(attempt, figures)
	if err != nil && ctx.Err() != nil {
		return // it is the end
	}
	if attempt.Err() != nil && err != nil {
		err = fmt.Errorf("no answer within %v: %w", roundTimeout, err)
	}
	if figures || err != nil {
		p.countRound(map[bool]string{true: "success", false: "failed"}[err == nil])
	}
	p.settle(err)
}

func (p *Publisher) publish(ctx context.Context, figures bool) error {
	if err := p.connect(ctx); err != nil {
		return err
	}
	socket := p.socket
	defer context.AfterFunc(ctx, func() { socket.Close() })() // whatever is waited for ends then
	if figures {
		if err := p.sendFigures(); err != nil {
			return err
		}
	}
	return p.sendAlerts()
}

// sendFigures sets the keys.
func (p *Publisher) sendFigures() error {
	all, err := p.o.Figures()
	if err != nil {
		return fmt.Errorf("gather the figures: %w", err)
	}
	ttl := (ttlIntervals * p.o.Interval).Milliseconds()
	for figures := range slices.Chunk(all[:min(len(all), figuresMax)], commandsMax) {
		sent := 0
		for _, f := range figures {
			body, err := json.Marshal(f.Body)
			if err != nil {
				return fmt.Errorf("encode %s: %w", p.key(f.Name...), err)
			}
			if len(body) > figureBytesMax {
				continue
			}
			if err := p.server.Send("SET", p.key(f.Name...), body, "PX", ttl); err != nil {
				return err
			}
			sent++
		}
		if err := p.await(sent); err != nil {
			return err
		}
	}
	return nil
}

// await sends what is buffered, and reads so many answers: the first that is an error is returned, as the connection is closed then.
func (p *Publisher) await(answers int) error {
	if err := p.server.Flush(); err != nil {
		return err
	}
	for range answers {
		if _, err := p.server.Receive(); err != nil {
			return err
		}
	}
	return nil
}

// sendAlerts appends what waits to the stream. One whose answer is lost with the connection may be there twice.
func (p *Publisher) sendAlerts() error {
	for len(p.waiting) > 0 {
		a := p.waiting[0]
		err := p.server.Send("XADD", p.streamKey(), "MAXLEN", "~", streamMax, "*",
			"host", p.o.Host, "time", a.at.UTC().Format(time.RFC3339Nano), "alert", a.body)
		if err == nil {
			err = p.await(1)
		}
		if err != nil {
			return err
		}
		p.waiting = p.waiting[1:]
		p.countAlerts("sent", 1)
	}
	return nil
}

// escape keeps the parts of a key apart.
var escape = strings.NewReplacer("%", "%25", ":", "%3A")

// key is PREFIX:HOST:PART:…
func (p *Publisher) key(parts ...string) string {
	escaped := []string{p.o.Prefix, escape.Replace(p.o.Host)}
	for _, part := range parts {
		escaped = append(escaped, escape.Replace(part))
	}
	return strings.Join(escaped, ":")
}

// streamKey is the one stream of all hosts.
func (p *Publisher) streamKey() string { return p.o.Prefix + ":alerts" }

// connect makes a connection where there is none.
func (p *Publisher) connect(ctx context.Context) (err error) {
	if p.server != nil {
		return nil
	}
	password := ""
	if p.o.Password != nil {
		if password, err = p.o.Password(); err != nil {
			return fmt.Errorf("read the password: %w", err)
		}
		p.secret = password
	}
	a := &p.o.Address
	var watch func() bool
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		socket, err := a.dial(ctx, p.o.TLS)
		if err == nil {
			p.socket = socket
			socket = &answers{Conn: socket}
			watch = context.AfterFunc(ctx, func() { socket.Close() }) // also while it is greeted
		}
		return socket, err
	}
	p.server, err = redis.DialContext(ctx, a.Network, a.Address, redis.DialContextFunc(dial), redis.DialUsername(a.User),
		redis.DialPassword(password), redis.DialDatabase(a.DB), redis.DialClientName("perfagent"))
	if watch != nil {
		watch()
	}
	if err != nil {
		p.server = nil // not a nil pointer in an interface
		return fmt.Errorf("connect: %w", err)
	}
	return nil
}

func (p *Publisher) disconnect() {
	if p.server != nil {
		p.server.Close() // what goes wrong with it is over
	}
	p.server, p.socket = nil, nil
}

// settle notes how an attempt ended, and says so where that is new.
func (p *Publisher) settle(err error) {
	trouble, reason := "", ""
	if err != nil {
		p.disconnect()
		p.pause = min(max(2*p.pause, pauseMin), pauseMax)
		p.next = time.Now().Add(p.pause/2 + rand.N(p.pause/2))
		reason = p.shown(err)
		trouble = "nothing is published to Redis: " + reason
	} else {
		p.pause = 0
	}
	p.mu.Lock()
	before := p.stats.Trouble
	p.stats.Trouble = trouble
	p.mu.Unlock()
	switch {
	case before == "" && trouble != "":
		p.o.Works(false)
		p.o.Log.Error("nothing is published to Redis", "address", p.o.Address.String(), "err", reason)
	case before != "" && trouble == "":
		p.o.Works(true)
		p.o.Log.Info("Redis takes figures again", "address", p.o.Address.String())
	}
}

// shown is what may be shown of an error, in which the server may have any word: not the password, and no character that acts on others.
func (p *Publisher) shown(err error) string {
	text := err.Error()
	if p.secret != "" {
		text = strings.ReplaceAll(text, p.secret, "…")
	}
	text = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, text)
	return strings.ToValidUTF8(text[:min(len(text), reasonBytesMax)], "")
}

func (p *Publisher) countRound(result string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stats.Rounds[result]++
}

func (p *Publisher) countAlerts(result string, n uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stats.Alerts[result] += n
}
