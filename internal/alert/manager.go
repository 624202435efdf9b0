// Package alert evaluates rules in Prometheus' format over the local history: its files, built-in ones, and those that follow
// from objectives. What fires is told to a Sink, remembered over restarts, and shown.
//
// A Source answers PromQL, and takes the series that rules record. Groups are evaluated in their order by one goroutine, at
// multiples of their interval, a moment later, so that the tick of that instant is there.
package alert

import (
	"context"
	"log/slog"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/prometheus/promql"

	"github.com/perfagent/perfagent/internal/notify"
)

const (
	// resendDelay is how often the Sink hears of an alert that fires, as an Alertmanager of Prometheus.
	resendDelay = time.Minute
	// resendsMissed evaluations of a group in a row may come to nothing before its alerts count as over, as in Prometheus.
	resendsMissed = 4
	// settle is how long after its time a group is evaluated: by then the history has taken the tick of that instant.
	settle = time.Second
	// resolvedMax bounds the alerts that /alerts shows as resolved.
	resolvedMax = 200
	// resolvedAge is how long it shows them.
	resolvedAge = 24 * time.Hour
)

// Source answers rules' queries.
type Source interface {
	// Vector evaluates an expression; a scalar is one sample without labels.
	Vector(ctx context.Context, expr string, at time.Time) (promql.Vector, error)
	// Record keeps samples of one instant as series that queries find from now on; a stale marker ends one.
	Record(at time.Time, samples promql.Vector) error
}

// Sink is told of alerts: of each that begins to fire or is resolved, and of all that fire once a minute. Send returns at once.
type Sink interface {
	Send([]notify.Alert)
}

// Options configure a Manager.
type Options struct {
	Source Source
	Sink   Sink // nil: nobody is told
	// StateFile remembers alerts over restarts; "" means that nothing does.
	StateFile string
	// URL is where this agent's pages are, for templates and as the alerts' origin; nil: nowhere.
	URL *url.URL
	Log *slog.Logger     // nil means slog.Default
	Now func() time.Time // nil means time.Now
}

// Manager evaluates rules. Run has one owner; all other methods may be called from any goroutine.
type Manager struct {
	source Source
	sink   Sink
	outer  external
	log    *slog.Logger
	now    func() time.Time
	state  *stateFile
	wake   chan struct{} // a new set of rules

	evaluating sync.Mutex     // held over the evaluation of a group, and while rules are replaced
	news       []notify.Alert // for the Sink

	mu         sync.Mutex // guards the rest, and what evaluations leave in groups and rules
	groups     []*group
	objectives []Objective
	resolved   []resolvedAlert // the latest last
	lost       uint64          // resolved alerts that were forgotten for resolvedMax
	templates  uint64          // templates that failed
}

// resolvedAlert is one that fired and does not any more.
type resolvedAlert struct {
	Labels, Annotations map[string]string
	Value               float64
	ActiveAt, FiredAt   time.Time
	ResolvedAt          time.Time
}

// New returns a Manager without rules.
func New(o Options) *Manager {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	m := &Manager{source: o.Source, sink: o.Sink, outer: external{o.URL}, log: o.Log, now: o.Now, wake: make(chan struct{}, 1)}
	m.state = openState(o.StateFile, o.Now(), o.Log)
	if m.state != nil {
		m.resolved = m.state.resolved()
	}
	return m
}

func (m *Manager) lock() (unlock func()) {
	m.mu.Lock()
	return m.mu.Unlock
}

// Apply replaces the rules. A rule that has the same name and labels in the same group goes on as it was; of one that is gone,
// alerts that fire are resolved.
func (m *Manager) Apply(rules *Rules) {
	m.evaluating.Lock()
	defer m.evaluating.Unlock()
	now := m.now()
	before := map[string]*group{}
	for _, g := range m.groups {
		before[g.key()] = g
	}
	groups := slices.Clone(rules.groups)
	var news []notify.Alert
	unlock := m.lock()
	for i, g := range groups {
		old := before[g.key()]
		delete(before, g.key())
		switch {
		case old == nil:
			g.next = g.first(now)
			m.state.restore(g, now)
			for _, r := range g.rules {
				news = append(news, m.newsOf(r, now)...)
			}
		case old.same(g):
			groups[i] = old
		default:
			for _, gone := range g.takeOver(old) {
				news = append(news, m.end(gone, now)...)
			}
		}
	}
	for _, g := range m.groups {
		if before[g.key()] == nil {
			continue
		}
		for _, r := range g.rules {
			news = append(news, m.end(r, now)...)
			g.abandon(r)
		}
		if len(groups) > 0 { // whoever is first marks them stale
			groups[0].stale = append(groups[0].stale, g.stale...)
		}
	}
	news = append(news, m.state.orphans(now)...)
	m.groups, m.objectives = groups, rules.objectives
	unlock()
	m.news = append(m.news, news...)
	m.publish(now)
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// end resolves what fires of a rule that is gone.
func (m *Manager) end(r *rule, now time.Time) (over []notify.Alert) {
	for _, a := range r.sorted() {
		if a.state == Firing {
			a.state, a.resolvedAt = Inactive, now
			over = append(over, m.notice(r, a))
		}
	}
	return over
}

// Run evaluates groups at their times until the context ends.
func (m *Manager) Run(ctx context.Context) {
	defer func() {
		m.evaluating.Lock()
		defer m.evaluating.Unlock()
		m.save(m.now())
	}()
	for {
		timer := time.NewTimer(m.until())
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-m.wake:
			timer.Stop()
		case <-timer.C:
			m.Evaluate(ctx, m.now())
		}
	}
}

// until is the time to the next evaluation.
func (m *Manager) until() time.Duration {
	defer m.lock()()
	now := m.now()
	wait := time.Minute // nothing is due; the clock may be set meanwhile
	for _, g := range m.groups {
		wait = min(wait, g.next.Add(settle).Sub(now))
	}
	return max(wait, 10*time.Millisecond)
}

// Evaluate evaluates all groups that are due. Of several times that have passed, a group is evaluated at the last one, and the
// others are counted as missed.
func (m *Manager) Evaluate(ctx context.Context, now time.Time) {
	for _, g := range m.all() {
		m.evaluating.Lock()
		if at, due := m.due(g, now); due && slices.Contains(m.groups, g) && ctx.Err() == nil {
			m.evaluate(ctx, g, at)
		}
		m.publish(now) // at once: what others take their time for is not to hold it up
		m.evaluating.Unlock()
	}
}

// publish keeps the state where there is news, and now and then, and then tells the Sink: so that after a crash in between the
// alerts go on as they were, and it is told again.
func (m *Manager) publish(now time.Time) {
	if m.state != nil && (len(m.news) > 0 || m.state.due(now)) {
		m.save(now)
	}
	if len(m.news) > 0 && m.sink != nil {
		m.sink.Send(m.news)
	}
	m.news = nil
}

func (m *Manager) all() []*group {
	defer m.lock()()
	return m.groups
}

// due tells whether a group is to be evaluated, and for which instant.
func (m *Manager) due(g *group, now time.Time) (at time.Time, due bool) {
	defer m.lock()()
	at = now.Add(-settle).Truncate(g.interval)
	if ahead := g.next.Sub(at); ahead > g.interval { // the clock was set back
		g.next = at
	}
	if at.Before(g.next) {
		return at, false
	}
	g.missed += uint64(at.Sub(g.next) / g.interval)
	g.next = at.Add(g.interval)
	return at, true
}

// tell notes for the Sink what is new of a rule's alerts, and once a minute those that fire.
func (m *Manager) tell(r *rule, at time.Time) {
	if !r.alerting {
		return
	}
	unlock := m.lock()
	news := m.newsOf(r, at)
	for _, a := range r.dropped {
		a.state, a.resolvedAt = Inactive, at
		news = append(news, m.notice(r, a))
	}
	r.dropped = nil
	unlock()
	slices.SortFunc(news, func(a, b notify.Alert) int { return a.StartsAt.Compare(b.StartsAt) })
	m.news = append(m.news, news...)
}

// newsOf notes what is new of a rule's alerts.
func (m *Manager) newsOf(r *rule, at time.Time) (news []notify.Alert) {
	for _, a := range r.active {
		if a.isNews(at) {
			a.sentAt = at
			news = append(news, m.notice(r, a))
		}
	}
	return news
}

// isNews tells whether the Sink is to hear of an alert.
func (a *instance) isNews(at time.Time) bool {
	switch a.state {
	case Firing:
		return a.sentAt.IsZero() || at.Sub(a.sentAt) >= resendDelay
	case Inactive:
		return !a.endTold
	}
	return false
}

// notice is what the Sink is told of an alert; one that is over is remembered.
func (m *Manager) notice(r *rule, a *instance) notify.Alert {
	if a.state == Inactive {
		a.endTold = true
		m.remember(r, a)
	}
	told := notify.Alert{Labels: a.labels.Map(), Annotations: a.annotations(r).Map(), StartsAt: a.firedAt, EndsAt: a.resolvedAt, GeneratorURL: m.generator(r)}
	if a.state == Firing && r.interval > resendDelay { // or it would count as over before it is told again
		told.EndsAt = a.sentAt.Add(resendsMissed * r.interval)
	}
	return told
}

// generator leads to what a rule's expression has now.
func (m *Manager) generator(r *rule) string {
	if m.outer.url == nil {
		return ""
	}
	return m.outer.url.JoinPath("/api/v1/query").String() + "?query=" + url.QueryEscape(r.expr)
}

// remember adds an alert that is over to what /alerts shows.
func (m *Manager) remember(r *rule, a *instance) {
	m.resolved = append(m.resolved, resolvedAlert{a.labels.Map(), a.annotations(r).Map(), a.value, a.activeAt, a.firedAt, a.resolvedAt})
	if over := len(m.resolved) - resolvedMax; over > 0 {
		m.resolved = slices.Clone(m.resolved[over:])
		m.lost += uint64(over)
	}
}

func (m *Manager) templateFailed(r *rule, err error) {
	m.log.Warn("a template of a rule failed", "rule", r.name, "err", err)
	defer m.lock()()
	m.templates++
}
