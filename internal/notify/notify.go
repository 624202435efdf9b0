// Package notify tells people and programs of alerts: once for each incident, whoever restarts or does not answer
// meanwhile. It groups alerts, keeps back what was silenced, tries again what failed, and, where it is told to, does a first remedy.
package notify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Options configures a Notifier.
type Options struct {
	Config Config
	// Path is the agent's storage directory: what was told is remembered below it, in notify/, and remedies are recorded in remedies.log. "" keeps
	// it in memory: a restart tells again what fires.
	Path string
	// ReadFile reads a file that the configuration names, of at most limit bytes; nil is a plain reading. Errors name the file.
	ReadFile func(name string, limit int64) ([]byte, error)
	// Host is the host's name, for people; "" is what the system says.
	Host string
	// ExternalURL leads to the agent's own pages; "" is none.
	ExternalURL string
	// Version is the agent's, for the User-Agent.
	Version string
	Log     *slog.Logger // nil: none

	deliverTo func(r *Receiver, target int) integration // of tests
}

// Notifier tells receivers of alerts. Its methods may be called from any goroutine.
type Notifier struct {
	o         Options
	log       *slog.Logger
	files     files
	directory *directory // nil: in memory
	trouble   string     // why the directory is not used
	inhibitor inhibitor
	mutes     atomic.Pointer[mutes]
	remedies  *remedies

	applying sync.Mutex // held by a reload, which waits for deliveries; Send does not

	mu      sync.Mutex
	sinks   map[string]*running
	ctx     context.Context // of Run; nil before it
	serving sync.WaitGroup
}

// running is a sink and who gets its alerts.
type running struct {
	*sink
	urgent, regular bool
	stop            context.CancelFunc
	ended           chan struct{}
}

// New returns a notifier that delivers once it runs. A bad configuration, or a file that it names and that cannot be read, is an error; a directory that
// cannot be used is not, as the alerts are then kept in memory (Trouble says so).
func New(o Options) (*Notifier, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.ReadFile == nil {
		o.ReadFile = readFile
	}
	if o.Host == "" {
		o.Host, _ = os.Hostname()
	}
	n := &Notifier{o: o, log: o.Log, files: newFiles(o.ReadFile), sinks: map[string]*running{}}
	if err := n.Check(&o.Config); err != nil {
		return nil, err
	}
	r := &remedies{log: o.Log, files: n.files, agent: n.userAgent(), host: o.Host, mutes: n.mutes.Load, audit: &audit{}}
	if o.Path != "" {
		var err error
		if n.directory, err = openDirectory(filepath.Join(o.Path, "notify")); err != nil {
			n.trouble = err.Error()
			n.log.Error("notifications are kept in memory only: a restart may repeat some", "err", err)
		} else {
			r.audit.path = filepath.Join(o.Path, "remedies.log")
		}
	}
	r.store = n.directory.store(".remedies") // no receiver's name begins so
	n.remedies = newRemedies(r, time.Now())
	n.mutes.Store(&mutes{})
	n.Apply(o.Config)
	return n, nil
}

func readFile(name string, limit int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, limit))
}

// Check reports what is wrong with a configuration, with a KeyError where one key is to blame: names, and the files that it needs.
func (n *Notifier) Check(c *Config) error {
	if err := c.CheckNames(); err != nil {
		return err
	}
	for i := range c.Receivers {
		if err := n.files.check(&c.Receivers[i]); err != nil {
			return &KeyError{"notify.receivers", fmt.Errorf("%s: %w", c.Receivers[i].Name, err)}
		}
	}
	return c.Remedies.check(n.files, n.o.Path != "", n.remedies.inForce(), func(remedy string, err error) {
		n.log.Warn("a remedy cannot be done as things are", "remedy", remedy, "err", err)
	})
}

// Apply takes a configuration over that Check found good. What is to be told to a receiver stays with its name.
func (n *Notifier) Apply(c Config) {
	n.applying.Lock()
	defer n.applying.Unlock()
	m := &mutes{silences: c.Silences, inhibitor: &n.inhibitor}
	if c.NoInhibit {
		m.inhibitor = nil
	}
	n.mutes.Store(m)
	if n.directory == nil && c.Remedies.Mode == RemediesOn {
		n.log.Error("no remedy is done: what was done cannot be remembered", "err", n.trouble)
		c.Remedies.Mode = RemediesOff
	}
	n.remedies.apply(c.Remedies)
	wanted := map[string]place{}
	for _, r := range c.receivers() {
		if urgent, regular := c.takes(r.Name); !urgent && !regular {
			n.log.Warn("a receiver is neither in notify.urgent nor in notify.regular: nobody tells it anything", "receiver", r.Name)
		}
		for target := range targets(&r) {
			wanted[placeKey(r.Name, target)] = place{r, target}
		}
	}
	n.stopSinks(wanted)
	for _, key := range slices.Sorted(maps.Keys(wanted)) {
		n.applySink(&c, key, wanted[key])
	}
}

// place is one target of a receiver.
type place struct {
	Receiver
	target int
}

// placeKey names a place, and its file. Receivers' names have no full stops.
func placeKey(name string, target int) string {
	if target == 0 {
		return name
	}
	return fmt.Sprintf("%s.%d", name, target)
}

// stopSinks ends those that are not wanted any more, or that become others. Their files stay, so that a receiver that comes back is not told again
// what it knows.
func (n *Notifier) stopSinks(wanted map[string]place) {
	var ending []*running
	n.mu.Lock()
	for key, s := range n.sinks {
		if w, found := wanted[key]; !found || w.kind() != s.kind {
			ending = append(ending, s)
			delete(n.sinks, key)
		}
	}
	n.mu.Unlock() // alerts go on to the others while these end
	for _, s := range ending {
		if s.stop != nil {
			s.stop()
		}
	}
	for _, s := range ending {
		if s.ended != nil {
			<-s.ended
		}
	}
}

// targets is how many places a receiver has, each with a sink of its own.
func targets(r *Receiver) int {
	if r.Alertmanager != nil {
		return len(r.Alertmanager.URLs)
	}
	return 1
}

// applySink begins a sink, or has it go on in another way.
func (n *Notifier) applySink(c *Config, key string, w place) {
	p := n.policy(c, &w.Receiver, w.target)
	n.mu.Lock()
	old := n.sinks[key]
	if old != nil {
		old.urgent, old.regular = p.urgent, p.regular
		old.apply(p)
	}
	n.mu.Unlock()
	if old != nil {
		return
	}
	s := &running{sink: newSink(w.Name, w.kind(), p, n.directory.store(key), n.log), urgent: p.urgent, regular: p.regular}
	for id, t := range s.alerts {
		n.inhibitor.see(t.alert, id, t.expires, t.over)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.sinks[key] = s
	if n.ctx != nil {
		n.startSink(s)
	}
}

func (n *Notifier) policy(c *Config, r *Receiver, target int) policy {
	p := policy{to: n.integration(r, target), quiet: r.Quiet, mutes: n.mutes.Load(), groupBy: c.GroupBy,
		wait: cmp.Or(c.GroupWait, GroupWaitDefault), interval: cmp.Or(c.GroupInterval, GroupIntervalDefault), repeat: cmp.Or(c.RepeatInterval, RepeatIntervalDefault)}
	p.urgent, p.regular = c.takes(r.Name)
	if p.groupBy == nil {
		p.groupBy = GroupByDefault
	}
	if r.Log != nil { // nobody is disturbed by a line
		p.wait = 0
	}
	if r.Alertmanager != nil {
		p.forward, p.groupBy, p.wait, p.interval, p.repeat, p.quiet, p.mutes = true, nil, 0, 0, 0, nil, nil
	}
	p.wait = max(p.wait, 0)
	return p
}

// integration returns what delivers to a receiver.
func (n *Notifier) integration(r *Receiver, target int) integration {
	if n.o.deliverTo != nil {
		return n.o.deliverTo(r, target)
	}
	p := poster{n.files, n.userAgent()}
	switch {
	case r.Alertmanager != nil:
		return &alertmanagerSender{p, r.Alertmanager.Endpoint, r.Alertmanager.URLs[target], n.o.Host}
	case r.Webhook != nil:
		return &webhookSender{p, r.Webhook, n.o.ExternalURL, n.o.Host}
	case r.Slack != nil:
		return &slackSender{p, r.Slack, n.o.Host}
	case r.PagerDuty != nil:
		return &pagerDutySender{p, r.PagerDuty, n.o.Host}
	case r.Email != nil:
		return &emailSender{files: n.files, Email: r.Email, host: n.o.Host, log: n.log.With("receiver", r.Name)}
	}
	return &logSender{n.log}
}

func (n *Notifier) userAgent() string { return "perfagent/" + cmp.Or(n.o.Version, "unknown") }

// Send takes alerts over and returns at once. It is to be called for each alert that begins to fire or is resolved, and about once a minute for
// all that fire: one that is not repeated for five minutes, or beyond its EndsAt, counts as resolved.
func (n *Notifier) Send(alerts []Alert) {
	now := time.Now()
	cleaned := make(map[string]*Alert, len(alerts))
	for i := range alerts {
		a := alerts[i].cleaned()
		if len(a.Labels) == 0 {
			continue
		}
		id := identity(a.Labels)
		n.inhibitor.see(a, id, a.lapses(now), a.isOver(now))
		cleaned[id] = a
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, s := range n.sinks {
		s.put(cleaned, s.urgent, s.regular)
	}
	n.remedies.put(cleaned)
}

// Run delivers until ctx ends. Deliveries under way then get a few seconds; what is to be told is on the disk.
func (n *Notifier) Run(ctx context.Context) {
	n.mu.Lock()
	n.ctx = ctx
	for _, s := range n.sinks {
		n.startSink(s)
	}
	n.mu.Unlock()
	n.serving.Go(func() { n.remedies.run(ctx) })
	<-ctx.Done()
	n.mu.Lock() // no reload starts another sink
	n.ctx = nil
	n.mu.Unlock()
	n.serving.Wait()
	if err := n.directory.close(); err != nil {
		n.log.Error("leaving the directory of notifications", "err", err)
	}
}

// Close gives the directory back, of a notifier that never ran.
func (n *Notifier) Close() error { return n.directory.close() }

// startSink is called with mu held.
func (n *Notifier) startSink(s *running) {
	ctx, stop := context.WithCancel(n.ctx)
	s.stop, s.ended = stop, make(chan struct{})
	n.serving.Go(func() {
		defer close(s.ended)
		s.run(ctx)
	})
}

// Stats is how notifications went.
type Stats struct {
	Sinks    []SinkStats // by receiver; several of an Alertmanager with several URLs
	Remedies RemedyStats
	Trouble  string // of the directory; "" for nothing
}

// Stats returns how notifications went since the start.
func (n *Notifier) Stats() Stats {
	n.mu.Lock()
	defer n.mu.Unlock()
	s := Stats{Remedies: n.remedies.state(), Trouble: n.trouble}
	for _, key := range slices.Sorted(maps.Keys(n.sinks)) {
		s.Sinks = append(s.Sinks, n.sinks[key].state())
	}
	return s
}

// troubleAfter is how long a receiver may fail before the agent's health says so: restarts are shorter.
const troubleAfter = time.Minute

// Trouble says what is wrong, in sentences for people.
func (n *Notifier) Trouble() (trouble []string) {
	s := n.Stats()
	if s.Trouble != "" {
		trouble = append(trouble, "notifications are kept in memory only: "+s.Trouble)
	}
	for i := range s.Sinks {
		one := &s.Sinks[i]
		if !one.FailingSince.IsZero() && time.Since(one.FailingSince) >= troubleAfter {
			trouble = append(trouble, fmt.Sprintf("the receiver %s (%s) takes no notifications since %s: %s", one.Receiver, one.Integration,
				one.FailingSince.UTC().Format(time.TimeOnly+" UTC"), one.Problem))
		}
		if one.NotSaved != "" {
			trouble = append(trouble, fmt.Sprintf("notifications for %s are kept in memory only: %s", one.Receiver, one.NotSaved))
		}
	}
	if s.Remedies.Trouble != "" {
		trouble = append(trouble, s.Remedies.Trouble)
	}
	return trouble
}

// Tested is how a receiver took a test.
type Tested struct {
	Receiver, Integration string
	Err                   error // nil: it took both
}

// ErrNoReceiver says that no receiver has the name.
var ErrNoReceiver = errors.New("no receiver is called so")

// Test sends an alert that fires, and its end, to the receiver of that name, or to each for "". Nothing is remembered or tried again.
func Test(ctx context.Context, o Options, name string) ([]Tested, error) {
	o.Path = ""
	o.Config.Remedies = RemedyConfig{}
	if o.ReadFile == nil {
		o.ReadFile = readFile
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Host == "" {
		o.Host, _ = os.Hostname()
	}
	if err := o.Config.CheckNames(); err != nil {
		return nil, err
	}
	n := &Notifier{o: o, log: o.Log, files: newFiles(o.ReadFile)}
	var results []Tested
	for _, r := range o.Config.receivers() {
		if name != "" && r.Name != name {
			continue
		}
		for target := range targets(&r) {
			results = append(results, Tested{r.Name, r.kind(), n.test(ctx, &r, target)})
		}
	}
	if len(results) == 0 {
		return nil, fmt.Errorf("%q: %w", name, ErrNoReceiver)
	}
	return results, nil
}

// test delivers twice to one place.
func (n *Notifier) test(ctx context.Context, r *Receiver, target int) error {
	if err := n.files.check(r); err != nil {
		return err
	}
	to := n.integration(r, target)
	if mail, isMail := to.(*emailSender); isMail {
		mail.strict = true
	}
	now := time.Now()
	alert := &Alert{
		Labels:      map[string]string{labelName: "PerfagentTest", labelSeverity: "info", labelService: "perfagent", labelInstance: cmp.Or(n.o.Host, "unknown")},
		Annotations: map[string]string{"summary": "This is a test of perfagent's notifications", "description": "Nothing is wrong. It was sent by perfagent notify test."},
		StartsAt:    now,
	}
	group := map[string]string{labelName: "PerfagentTest", labelService: "perfagent"}
	for _, over := range []bool{false, true} {
		if over {
			ended := *alert
			ended.EndsAt = time.Now()
			alert = &ended
		}
		one := &notification{ID: identity(map[string]string{"test": fmt.Sprint(now.UnixNano(), over)}), Receiver: r.Name, GroupKey: "{}:" + labelSet(group),
			GroupLabels: group, Alerts: []item{{Alert: alert, Over: over, New: true, expires: now.Add(lapseAfter)}}, Time: time.Now()}
		ctx, cancel := context.WithTimeout(ctx, deliveryTimeout)
		err := to.deliver(ctx, one)
		cancel()
		if err != nil {
			return err
		}
	}
	return nil
}
