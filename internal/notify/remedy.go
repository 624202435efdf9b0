package notify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"
)

// Modes of remedies.
const (
	RemediesOff    = "off"
	RemediesDryRun = "dry-run" // decides and says so, and does nothing
	RemediesOn     = "on"
)

const (
	// RemedyTimeoutDefault and RemedyTimeoutMax bound how long a remedy runs; the next ones wait for it.
	RemedyTimeoutDefault = 30 * time.Second
	RemedyTimeoutMax     = 10 * time.Minute
	// RemediesPerHourDefault bounds all remedies together, RemedyPerHourDefault each of them: what did not help three times does no good.
	RemediesPerHourDefault = 6
	RemedyPerHourDefault   = 3
	// RemediesMax bounds the rules.
	RemediesMax = 64
	// incidentsMax bounds the incidents that are remembered; each is some hundred bytes.
	incidentsMax = 4096
	// incidentAge is how long an incident is remembered that nobody has heard of again.
	incidentAge = 7 * 24 * time.Hour
	// incidentTouch is how exactly it is known when an incident was last heard of: each more exact time is a write.
	incidentTouch = time.Hour
)

// RemedyConfig says what is done by itself when alerts begin to fire. The zero value does nothing.
type RemedyConfig struct {
	Mode    string // "" is off
	PerHour int    // runs of all remedies together; 0 is RemediesPerHourDefault
	Rules   []Remedy
}

// Remedy is done once for each incident: an alert from when it begins to fire until it is resolved. Exactly one of Webhook and Command is set.
type Remedy struct {
	Name     string
	Matchers []Matcher // all must match
	Webhook  *Webhook  // gets one message, in one attempt
	// Command is a program and its arguments, as they are: no shell reads them. It gets the alert as JSON on standard input.
	Command   []string
	User      string        // whom it runs as; "" is the agent's user
	AllowRoot bool          // it may run as root
	Timeout   time.Duration // 0 is RemedyTimeoutDefault
	PerHour   int           // runs; 0 is RemedyPerHourDefault
}

func (c *RemedyConfig) checkNames() error {
	names := map[string]bool{}
	for i := range c.Rules {
		if name := c.Rules[i].Name; names[name] {
			return &KeyError{"remedies.rules", fmt.Errorf("two remedies are called %s", name)}
		}
		names[c.Rules[i].Name] = true
	}
	if len(names) > RemediesMax {
		return &KeyError{"remedies.rules", fmt.Errorf("there are %d, and at most %d are possible", len(names), RemediesMax)}
	}
	return nil
}

func (c *RemedyConfig) isOff() bool { return c.Mode == RemediesOff || c.Mode == "" }

// check reports what would keep the remedies from being done. Of a remedy that is in force as it is already it is a warning: its program
// may be replaced just now, it is looked at again when it is to run, and everything else of a reload has nothing to do with it.
func (c *RemedyConfig) check(f files, persistent bool, inForce *RemedyConfig, warn func(remedy string, err error)) error {
	if c.isOff() {
		return nil
	}
	if c.Mode == RemediesOn && !persistent {
		return &KeyError{"remedies.mode", errors.New("remedies need --storage.path: without it a restart would do them again")}
	}
	for i := range c.Rules {
		r := &c.Rules[i]
		var err error
		if r.Webhook != nil {
			err = f.checkEndpoint(&r.Webhook.Endpoint, r.Webhook.SecretFile)
		} else {
			_, err = r.command()
			if err != nil && inForce != nil && !inForce.isOff() && slices.ContainsFunc(inForce.Rules, r.same) {
				warn(r.Name, err)
				err = nil
			}
		}
		if err != nil {
			return &KeyError{"remedies.rules", fmt.Errorf("%s: %w", r.Name, err)}
		}
	}
	return nil
}

// same tells whether two remedies are the same command for the same alerts.
func (r *Remedy) same(o Remedy) bool {
	return r.Webhook == nil && o.Webhook == nil && r.Name == o.Name && slices.Equal(r.Command, o.Command) && r.User == o.User && r.AllowRoot == o.AllowRoot &&
		r.Timeout == o.Timeout && r.PerHour == o.PerHour &&
		slices.EqualFunc(r.Matchers, o.Matchers, func(a, b Matcher) bool { return a.String() == b.String() })
}

// Decisions about an incident. All but silenced are final.
const (
	decisionRun      = "run"
	decisionDryRun   = "dry-run"
	decisionLimited  = "rate-limited"
	decisionSilenced = "silenced"
	decisionRefused  = "refused"
	decisionUnknown  = "unknown" // it may have been done for this incident already
)

var decisions = []string{decisionRun, decisionDryRun, decisionLimited, decisionSilenced, decisionRefused, decisionUnknown}

// incident is what was decided about an alert and a remedy.
type incident struct {
	Remedy   string    `json:"remedy"`
	Alert    string    `json:"alert"` // identity
	StartsAt time.Time `json:"starts_at"`
	Decision string    `json:"decision"`
	Seen     time.Time `json:"seen"`
	Over     bool      `json:"over,omitempty"` // the alert was heard to end
}

func (i *incident) key() string {
	return fmt.Sprintf("%s\xff%s\xff%d", i.Remedy, i.Alert, i.StartsAt.UnixNano())
}

// savedRemedies is the state as it is written.
type savedRemedies struct {
	Incidents []incident             `json:"incidents"`
	Runs      map[string][]time.Time `json:"runs"` // by remedy, of the last hour
	Unknown   time.Time              `json:"unknown_before,omitzero"`
}

// arrival is what was heard of an alert since it was looked at last.
type arrival struct {
	*Alert
	ended bool // it has ended meanwhile, though it fires again
}

// remedies decides and does, one after the other, in one goroutine. What was decided is on the disk before it is done: a crash leaves a remedy
// undone, and never does it twice.
//
// An incident is known by its alert and when that began. Where that may be forgotten (Alert.Doubtful), because the state of alerts is
// lost, damaged, of another version, or older than the crash, an alert may be an incident of before under another time: the one whose
// end was not heard. Nobody knows then, and nothing is done.
type remedies struct {
	log   *slog.Logger
	files files
	store *store
	audit *audit
	agent string // User-Agent
	host  string
	mutes func() *mutes

	incidents map[string]*incident
	runs      map[string][]time.Time
	unknown   time.Time // nobody knows what was done for alerts that began before; zero: it is known
	forgotten bool      // at this start, so that of a doubtful alert it is not known either
	wake      chan struct{}

	mu     sync.Mutex
	config RemedyConfig
	inbox  map[string]arrival
	stats  RemedyStats
}

// RemedyStats is what became of the incidents that matched a remedy.
type RemedyStats struct {
	Decisions map[string]uint64
	Failed    uint64 // of those that were done
	Trouble   string // "" for nothing
}

func newRemedies(r *remedies, now time.Time) *remedies {
	r.incidents, r.runs = map[string]*incident{}, map[string][]time.Time{}
	r.inbox, r.wake = map[string]arrival{}, make(chan struct{}, 1)
	r.stats.Decisions = map[string]uint64{}
	for _, decision := range decisions {
		r.stats.Decisions[decision] = 0
	}
	if r.store == nil {
		return r
	}
	var saved savedRemedies
	err := r.store.read(&saved)
	if err == nil && !r.store.exists() && r.audit.exists() {
		err = errors.New("it is gone, though remedies.log is there")
	}
	r.unknown = saved.Unknown
	if err != nil {
		r.log.Error("which remedies were done before this start is not known: none is done for an alert that may have begun before it", "err", err)
		r.unknown, r.forgotten = now, true
	}
	for i := range saved.Incidents {
		r.incidents[saved.Incidents[i].key()] = &saved.Incidents[i]
	}
	for name, times := range saved.Runs {
		for _, at := range times {
			if at.After(now) { // the clock was ahead
				at = now
			}
			r.runs[name] = append(r.runs[name], at)
		}
	}
	if r.forgotten {
		_ = r.save(now) // so that the next start knows it as well; a failure is told by Trouble
	}
	return r
}

// inForce returns the configuration that is; nil before there is one.
func (r *remedies) inForce() *RemedyConfig {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	config := r.config
	return &config
}

func (r *remedies) apply(config RemedyConfig) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.config = config
}

// put takes alerts, and returns at once. What finds no room comes again.
func (r *remedies) put(alerts map[string]*Alert) {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	idle := r.config.isOff() || len(r.config.Rules) == 0
	for id, a := range alerts {
		if idle && !a.isOver(now) { // what ends is noted in any case
			continue
		}
		if before, known := r.inbox[id]; known || len(r.inbox) < alertsMax {
			r.inbox[id] = arrival{a, known && (before.ended || before.isOver(now))}
		}
	}
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

func (r *remedies) state() RemedyStats {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.stats
	s.Decisions = maps.Clone(s.Decisions)
	return s
}

func (r *remedies) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.wake:
		}
		for ctx.Err() == nil && r.handleNext(ctx) {
		}
	}
}

// handleNext takes the alert that fires longest; false: there is none.
func (r *remedies) handleNext(ctx context.Context) bool {
	r.mu.Lock()
	next := ""
	for id, a := range r.inbox {
		if next == "" || cmp.Or(a.StartsAt.Compare(r.inbox[next].StartsAt), cmp.Compare(id, next)) < 0 {
			next = id
		}
	}
	a, config := r.inbox[next], r.config
	delete(r.inbox, next)
	r.mu.Unlock()
	if a.Alert == nil {
		return false
	}
	now := time.Now()
	over := a.isOver(now)
	if over || a.ended {
		r.conclude(next, a.StartsAt, over, now)
	}
	if over || config.isOff() {
		return true
	}
	for i := range config.Rules {
		if matchAll(config.Rules[i].Matchers, a.Labels) {
			r.handle(ctx, &config, &config.Rules[i], next, a.Alert)
		}
	}
	return true
}

// conclude notes that an alert has ended: of one that fires again, all but the incident that began then.
func (r *remedies) conclude(id string, startsAt time.Time, all bool, now time.Time) {
	changed := false
	for _, i := range r.incidents {
		if i.Alert == id && !i.Over && (all || !i.StartsAt.Equal(startsAt)) {
			i.Over, changed = true, true
		}
	}
	if changed {
		_ = r.save(now) // the next decision says what is wrong with the disk
	}
}

// handle decides once for an incident, and does what was decided.
func (r *remedies) handle(ctx context.Context, config *RemedyConfig, rule *Remedy, id string, a *Alert) {
	now := time.Now()
	this := &incident{Remedy: rule.Name, Alert: id, StartsAt: a.StartsAt, Seen: now}
	known := r.incidents[this.key()]
	before := ""
	if known != nil {
		before = known.Decision
		if before != decisionSilenced {
			if now.Sub(known.Seen) >= incidentTouch {
				known.Seen = now
				_ = r.save(now) // the next decision says what is wrong with the disk
			}
			return
		}
	}
	decision, why := r.decide(config, rule, id, a, now)
	if decision == decisionSilenced && before == decisionSilenced {
		return
	}
	this.Decision = decision
	r.incidents[this.key()] = this
	if decision == decisionRun {
		r.runs[rule.Name] = append(r.runs[rule.Name], now)
	}
	if err := r.save(now); err != nil && decision == decisionRun {
		decision, why = decisionRefused, "the decision cannot be written down: "+err.Error()
		this.Decision = decision
	}
	r.mu.Lock()
	r.stats.Decisions[decision]++
	r.mu.Unlock()
	r.record(auditLine{Time: now, Remedy: rule.Name, Decision: decision, Reason: why}, a)
	if decision == decisionRun {
		r.perform(ctx, rule, a, this)
	}
}

// decide returns what to do about an alert, and why.
func (r *remedies) decide(config *RemedyConfig, rule *Remedy, id string, a *Alert, now time.Time) (decision, why string) {
	if r.mutes().isSilenced(a, now) {
		return decisionSilenced, "a silence matches the alert"
	}
	if why := r.doubt(rule, id, a); why != "" {
		return decisionUnknown, why
	}
	if config.Mode == RemediesDryRun {
		return decisionDryRun, "it would be done"
	}
	all := 0
	for name, times := range r.runs {
		times = slices.DeleteFunc(times, func(t time.Time) bool { return now.Sub(t) >= time.Hour })
		r.runs[name] = times
		all += len(times)
	}
	if most := cmp.Or(rule.PerHour, RemedyPerHourDefault); len(r.runs[rule.Name]) >= most {
		return decisionLimited, fmt.Sprintf("it was done %d times in the last hour", most)
	}
	if most := cmp.Or(config.PerHour, RemediesPerHourDefault); all >= most {
		return decisionLimited, fmt.Sprintf("%d remedies were done in the last hour", most)
	}
	return decisionRun, ""
}

// doubt says why nobody knows whether a remedy was done for an incident already, "" where it is known.
func (r *remedies) doubt(rule *Remedy, id string, a *Alert) string {
	if a.StartsAt.Before(r.unknown) || a.Doubtful && r.forgotten {
		return "what was done for it before the agent's start is not known"
	}
	if !a.Doubtful {
		return ""
	}
	for _, i := range r.incidents {
		if i.Remedy == rule.Name && i.Alert == id && !i.Over && i.Decision != decisionSilenced {
			return fmt.Sprintf("it may be the incident of %s, for which the decision was %s: that its alert had ended was not heard, and when this one began was forgotten",
				i.StartsAt.UTC().Format(time.RFC3339), i.Decision)
		}
	}
	return ""
}

// perform does a remedy and records how it ended.
func (r *remedies) perform(ctx context.Context, rule *Remedy, a *Alert, this *incident) {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(rule.Timeout, RemedyTimeoutDefault))
	defer cancel()
	line := auditLine{Remedy: rule.Name, Decision: "done"}
	var err error
	n := &notification{ID: identity(map[string]string{"incident": this.key()}), Receiver: rule.Name, GroupKey: "{}:" + labelSet(a.Labels), GroupLabels: a.Labels,
		Alerts: []item{{Alert: a, New: true}}, Time: began}
	if rule.Webhook != nil {
		sender := webhookSender{poster: poster{r.files, r.agent}, Webhook: rule.Webhook, host: r.host}
		err = sender.deliver(ctx, n)
	} else {
		line.Output, err = rule.execute(ctx, n)
	}
	line.Time, line.DurationMS = time.Now(), time.Since(began).Milliseconds()
	if err != nil {
		line.Decision, line.Reason = "failed", err.Error()
		r.mu.Lock()
		r.stats.Failed++
		r.mu.Unlock()
	}
	r.record(line, a)
}

// record writes a line of the audit and of the log.
func (r *remedies) record(line auditLine, a *Alert) {
	line.Labels, line.StartsAt = a.Labels, a.StartsAt
	level := slog.LevelInfo
	if line.Decision == "failed" || line.Decision == decisionRefused || line.Decision == decisionUnknown || line.Decision == decisionLimited {
		level = slog.LevelWarn
	}
	fields := []any{"remedy", line.Remedy, "decision", line.Decision, labelName, a.name()}
	if line.Reason != "" {
		fields = append(fields, "reason", line.Reason)
	}
	r.log.Log(context.Background(), level, "remedy", fields...)
	if err := r.audit.write(line); err != nil {
		r.log.Error("a line of the remedies' audit could not be written", "err", err)
	}
}

// save writes the state; without a directory there is none.
func (r *remedies) save(now time.Time) error {
	r.forget(now)
	if r.store == nil {
		return nil
	}
	state := savedRemedies{Runs: r.runs, Unknown: r.unknown}
	for _, i := range r.incidents {
		state.Incidents = append(state.Incidents, *i)
	}
	err := r.store.write(state)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stats.Trouble = ""
	if err != nil {
		r.stats.Trouble = "no remedy is done, as decisions cannot be written: " + err.Error()
	}
	return err
}

// forget keeps the incidents that go on or were heard of last, and the runs that count.
func (r *remedies) forget(now time.Time) {
	maps.DeleteFunc(r.incidents, func(_ string, i *incident) bool { return now.Sub(i.Seen) >= incidentAge })
	if over := len(r.incidents) - incidentsMax; over > 0 {
		oldest := slices.SortedFunc(maps.Values(r.incidents), func(a, b *incident) int {
			if a.Over != b.Over { // what goes on is asked for again
				return map[bool]int{true: -1, false: 1}[a.Over]
			}
			return a.Seen.Compare(b.Seen)
		})
		for _, i := range oldest[:over] {
			delete(r.incidents, i.key())
		}
	}
	maps.DeleteFunc(r.runs, func(_ string, times []time.Time) bool {
		return len(times) == 0 || now.Sub(times[len(times)-1]) >= time.Hour
	})
}
