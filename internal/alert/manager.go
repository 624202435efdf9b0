// Package alert evaluates rules in Prometheus' format over the local history: its files, built-in ones, and those that follow
// from objectives. What fires is told to a Sink, remembered over restarts, and shown.
//
// A Source answers PromQL, and takes the series that rules record. Groups are evaluated at multiples of their interval, a moment later,
// so that the tick of that instant is there, and each for itself: some at once, each in a goroutine for one evaluation, so that one
// that takes its time holds up neither others nor a reload nor the end.
package alert

import (
	"context"
	"log/slog"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/common/model"
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
	// groupsAtOnce bounds the groups that are evaluated at the same time, and with it their memory.
	groupsAtOnce = 4
	// slowAfter is what an evaluation takes after which its group counts as slow: half of the places are kept free of those.
	slowAfter = time.Second
	// stopPatience is how long the end waits for evaluations that do not end with their context.
	stopPatience = 2 * time.Second
	// resolvedMax bounds the alerts that /alerts shows as resolved.
	resolvedMax = 200
	// resolvedAge is how long it shows them.
	resolvedAge = 24 * time.Hour
)

// Source answers rules' queries, several at once.
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
	wake   chan struct{} // a new set of rules, or an evaluation has ended

	started   time.Time                              // guarded by mu
	passed    func(from, to time.Time) time.Duration // by the clock that nobody sets
	templates atomic.Uint64                          // those that failed

	publishing sync.Mutex // held while the state is written and the Sink is told, in this order
	state      *stateFile

	mu         sync.Mutex // guards the rest, and what evaluations leave in groups and rules
	groups     []*group
	seen       time.Time // when the clock was looked at last
	epoch      uint64    // how often it was set
	running    int       // groups that are evaluated now
	slow       int       // of them
	objectives []Objective
	news       []news          // for the Sink
	resolved   []resolvedAlert // the latest last
	lost       uint64          // resolved alerts that were forgotten for resolvedMax
}

// news is an alert that the Sink is to be told of, without its annotations yet.
type news struct {
	notify.Alert
	of   *instance // nil of one whose annotations are known
	told *telling
	rule *rule
}

// resolvedAlert is one that fired and does not any more.
type resolvedAlert struct {
	Labels, Annotations map[string]string
	Value               float64
	ActiveAt, FiredAt   time.Time
	ResolvedAt          time.Time

	told *telling // nil: Annotations are known
	rule *rule
}

// tellAll fills in the annotations, without lock, as templates may take their time.
func tellAll(resolved []resolvedAlert) {
	for i := range resolved {
		if r := &resolved[i]; r.told != nil {
			r.Annotations = r.told.annotations(r.rule).Map()
		}
	}
}

// New returns a Manager without rules.
func New(o Options) *Manager {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	m := &Manager{source: o.Source, sink: o.Sink, outer: external{o.URL}, log: o.Log, now: o.Now, wake: make(chan struct{}, 1), started: o.Now(),
		passed: func(from, to time.Time) time.Duration { return to.Sub(from) }}
	m.seen = m.started
	m.state = openState(o.StateFile, m.started, o.Log)
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
// alerts that fire are resolved. It waits for no evaluation: one of a group that is replaced is ended, and changes nothing any more.
func (m *Manager) Apply(rules *Rules) {
	now := m.now()
	m.replace(rules, now)
	m.publish(now)
	m.nudge()
}

func (m *Manager) replace(rules *Rules, now time.Time) {
	defer m.lock()()
	m.keepTime(now)
	before := map[string]*group{}
	for _, g := range m.groups {
		before[g.key()] = g
	}
	groups := slices.Clone(rules.groups)
	for i, g := range groups {
		old := before[g.key()]
		delete(before, g.key())
		switch {
		case old == nil:
			m.begin(g, now)
		case old.same(g):
			groups[i] = old
		default:
			old.retire()
			for _, gone := range g.takeOver(old) {
				m.end(gone, now)
			}
		}
	}
	for _, g := range m.groups {
		if before[g.key()] == nil {
			continue
		}
		g.retire()
		for _, r := range g.rules {
			m.end(r, now)
			g.abandon(r)
		}
		if len(groups) > 0 { // whoever is first marks them stale
			groups[0].stale = append(groups[0].stale, g.stale...)
		}
	}
	m.news = append(m.news, m.state.orphans(now)...)
	m.groups, m.objectives = groups, rules.objectives
}

// begin prepares a group that is new.
func (m *Manager) begin(g *group, now time.Time) {
	g.next = g.first(now)
	m.state.restore(g, now)
	for _, r := range g.rules {
		m.news = append(m.news, m.newsOf(r, now)...)
	}
}

// end resolves what fires of a rule that is gone.
func (m *Manager) end(r *rule, now time.Time) {
	for _, a := range r.sorted() {
		if a.state == Firing {
			a.state, a.resolvedAt = Inactive, now
			m.news = append(m.news, m.notice(r, a))
		}
	}
}

func (m *Manager) nudge() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// Run evaluates groups at their times until the context ends.
func (m *Manager) Run(ctx context.Context) {
	var evaluations sync.WaitGroup
	for ctx.Err() == nil {
		for g, at := m.next(m.now()); g != nil; g, at = m.next(m.now()) {
			evaluations.Go(func() {
				m.evaluate(ctx, g, at)
				m.release(g)
				m.publish(m.now())
				m.nudge()
			})
		}
		timer := time.NewTimer(m.until())
		select {
		case <-ctx.Done():
		case <-m.wake:
		case <-timer.C:
		}
		timer.Stop()
	}
	m.waitFor(&evaluations)
	m.publishing.Lock()
	defer m.publishing.Unlock()
	m.save(m.now())
}

// waitFor waits for evaluations to end, but not for long: one whose Source does not answer has nothing to say any more.
func (m *Manager) waitFor(evaluations *sync.WaitGroup) {
	ended := make(chan struct{})
	go func() { evaluations.Wait(); close(ended) }()
	patience := time.NewTimer(stopPatience)
	defer patience.Stop()
	select {
	case <-ended:
	case <-patience.C:
		m.log.Warn("an evaluation of rules did not end in time: it is left alone")
		defer m.lock()()
		for _, g := range m.groups {
			g.retire()
		}
	}
}

// until is the time to the next evaluation that may begin.
func (m *Manager) until() time.Duration {
	defer m.lock()()
	now := m.now()
	wait := time.Minute // nothing is due; the clock may be set meanwhile
	for _, g := range m.groups {
		if !g.running && m.hasPlace(g) {
			wait = min(wait, g.next.Add(settle).Sub(now))
		}
	}
	return max(wait, 10*time.Millisecond)
}

// hasPlace tells whether a group may be evaluated beside those that are.
func (m *Manager) hasPlace(g *group) bool {
	return m.running < groupsAtOnce && (!g.isSlow() || m.slow < groupsAtOnce/2)
}

func (g *group) isSlow() bool { return g.took >= slowAfter }

// next takes the group that is due for the longest time and has a place; release gives that back. nil: none is.
func (m *Manager) next(now time.Time) (first *group, at time.Time) {
	defer m.lock()()
	m.keepTime(now)
	for _, g := range m.groups {
		if !g.running && m.hasPlace(g) && (first == nil || g.next.Before(first.next)) && g.isDue(now) {
			first = g
		}
	}
	if first == nil {
		return nil, at
	}
	first.running, first.slowly, first.epoch = true, first.isSlow(), m.epoch
	m.running++
	if first.slowly {
		m.slow++
	}
	return first, first.turn(now)
}

func (m *Manager) release(g *group) {
	defer m.lock()()
	g.running = false
	m.running--
	if g.slowly {
		m.slow--
	}
}

// Evaluate evaluates all groups that are due, one after the other. Of several times that have passed, a group is evaluated at the last
// one, and the others are counted as missed. Run does the same, and must not be under way.
func (m *Manager) Evaluate(ctx context.Context, now time.Time) {
	unlock := m.lock()
	m.keepTime(now)
	groups := slices.Clone(m.groups)
	unlock()
	for _, g := range groups {
		unlock := m.lock()
		due := g.isDue(now)
		var at time.Time
		if due {
			at, g.epoch = g.turn(now), m.epoch
		}
		unlock()
		if due && ctx.Err() == nil {
			m.evaluate(ctx, g, at)
		}
		m.publish(now) // at once: what others take their time for is not to hold it up
	}
}

// isDue tells whether a group is to be evaluated.
func (g *group) isDue(now time.Time) bool {
	at := now.Add(-settle).Truncate(g.step())
	if ahead := g.next.Sub(at); ahead > g.step() { // the clock was set back, or the step has become shorter
		g.next = at
	}
	return !at.Before(g.next)
}

// turn returns the instant for which a group that is due is evaluated.
func (g *group) turn(now time.Time) (at time.Time) {
	step := g.step()
	at = now.Add(-settle).Truncate(step)
	g.missed += uint64(at.Sub(g.next) / step)
	g.next = at.Add(step)
	return at
}

// publish keeps the state where there is news, and now and then, and then tells the Sink: so that after a crash in between the
// alerts go on as they were, and it is told again.
func (m *Manager) publish(now time.Time) {
	m.publishing.Lock()
	defer m.publishing.Unlock()
	unlock := m.lock()
	all := m.news
	m.news = nil
	unlock()
	if m.state != nil && (len(all) > 0 || m.state.due(now)) {
		m.save(now)
	}
	if len(all) == 0 || m.sink == nil {
		return
	}
	alerts := make([]notify.Alert, 0, len(all))
	for i := range all {
		if n := &all[i]; n.told != nil {
			n.Annotations = n.told.annotations(n.rule).Map()
		}
		alerts = append(alerts, all[i].Alert)
	}
	m.sink.Send(alerts)
	defer m.lock()()
	for i := range all {
		if a := all[i].of; a != nil && a.state == Firing {
			a.announced = true
		}
	}
}

// tell notes for the Sink what is new of a rule's alerts, and once a minute those that fire.
func (m *Manager) tell(g *group, r *rule, at time.Time) {
	if !r.alerting {
		return
	}
	unlock, ok := m.enter(g)
	if !ok {
		return
	}
	defer unlock()
	all := m.newsOf(r, at)
	for _, a := range r.dropped {
		a.state, a.resolvedAt = Inactive, at
		all = append(all, m.notice(r, a))
	}
	r.dropped = nil
	slices.SortFunc(all, func(a, b news) int { return a.StartsAt.Compare(b.StartsAt) })
	m.news = append(m.news, all...)
}

// newsOf notes what is new of a rule's alerts.
func (m *Manager) newsOf(r *rule, at time.Time) (all []news) {
	for _, a := range r.active {
		if a.isNews(at) {
			a.sentAt = at
			all = append(all, m.notice(r, a))
		}
	}
	return all
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
func (m *Manager) notice(r *rule, a *instance) news {
	if a.state == Inactive {
		a.endTold = true
		m.remember(r, a)
	}
	all := a.labels.Map()
	told := notify.Alert{Labels: all, StartsAt: a.firedAt, EndsAt: a.resolvedAt, GeneratorURL: m.generator(all), Resumed: a.resumed, Doubtful: a.doubtful}
	if a.state == Firing && r.interval > resendDelay { // or it would count as over before it is told again
		told.EndsAt = a.sentAt.Add(resendsMissed * r.interval)
	}
	return news{told, a, a.told, r}
}

// generator leads to where people read of an alert: the agent's page of those of its name and service.
func (m *Manager) generator(all map[string]string) string {
	if m.outer.url == nil {
		return ""
	}
	chosen := url.Values{}
	for _, name := range []string{model.AlertNameLabel, "service_name"} {
		if all[name] != "" {
			chosen.Set(name, all[name])
		}
	}
	return m.outer.url.JoinPath("/alerts").String() + "?" + chosen.Encode()
}

// remember adds an alert that is over to what /alerts shows.
func (m *Manager) remember(r *rule, a *instance) {
	m.resolved = append(m.resolved, resolvedAlert{Labels: a.labels.Map(), Value: a.value, ActiveAt: a.activeAt, FiredAt: a.firedAt, ResolvedAt: a.resolvedAt,
		told: a.told, rule: r})
	if over := len(m.resolved) - resolvedMax; over > 0 {
		m.resolved = slices.Clone(m.resolved[over:])
		m.lost += uint64(over)
	}
}

// templateFailed counts a failure, and says each error of a rule once.
func (m *Manager) templateFailed(r *rule, err error) {
	m.templates.Add(1)
	if r.templates.isNew(err) {
		m.log.Warn("a template of a rule failed", "rule", r.name, "err", err)
	}
}
