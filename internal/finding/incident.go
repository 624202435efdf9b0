package finding

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"math"
	"slices"
	"time"
)

const (
	// changeTicks is how long an episode lasts until it is looked at whether it is a level that stays: 20 minutes.
	changeTicks = 120
	// goneTicks is after how long without a value an episode has ended: twice the widest interval.
	goneTicks = 2 * widest
	// explainAgain is how many ticks after its beginning a finding is explained once more: there is more to see.
	explainAgain = 3
	// explainEvery is how often an open finding is explained anew, so that what is said of its end stays true: 5 minutes. It takes some 13 ms.
	explainEvery = 30
	// partsMax bounds the endpoints that a finding lists.
	partsMax = 20
	// endedKept is how long a finding is published after its end.
	endedKept = 24 * time.Hour
)

// groupKey is whose episodes at one time are one finding: a service, a target of a service, or (empty) the host.
type groupKey struct {
	role, service, namespace, address string
	port                              uint16
}

// group has the series whose episodes are joined, so that an outage is one message and not two hundred.
type group struct {
	key    groupKey
	tracks []*track
	// resources are those of tracks that belong to no entry.
	resources []*track
	entries   []*entry
	whole     *entry // of a service with several endpoints
	served    bool   // it has endpoints

	// Of the endpoints in the tick.
	all, failed uint64
	timed, logs float64
	variance    float64 // of a request, times timed
	endpoints   int
	level       float64 // usual logarithm of a request's ms
	knows       float64

	finding   *Finding // nil: none is open
	openedRow int64
	joined    bool // it is settled to which incident that belongs
}

func (e *Engine) groupOf(k groupKey) *group {
	g := e.groups[k]
	if g == nil {
		g = &group{key: k}
		e.groups[k] = g
	}
	return g
}

func (g *group) isOpen() bool { return g.finding != nil }

func (g *group) drop(all ...*track) {
	gone := func(t *track) bool { return slices.Contains(all, t) }
	g.tracks, g.resources = slices.DeleteFunc(g.tracks, gone), slices.DeleteFunc(g.resources, gone)
	g.entries = slices.DeleteFunc(g.entries, func(n *entry) bool { return slices.Contains(all, n.response) })
}

// conclude makes findings of episodes, and publishes all.
func (e *Engine) conclude() {
	for _, g := range e.groups {
		e.concludeGroup(g)
	}
	e.join()
	var open []*Finding
	var scores []Score
	stats := Stats{Series: e.tracks, Without: len(e.waiting), Alarms: e.alarms, Ignored: e.ignored}
	for _, g := range e.groups {
		if g.finding != nil {
			open = append(open, g.finding)
		}
		scores = g.scores(e.row, scores)
		for _, t := range g.tracks {
			if t.recent != nil && t.usual.n < usualLeast {
				stats.Learning++
			}
		}
	}
	slices.SortFunc(open, func(a, b *Finding) int {
		return cmp.Or(cmp.Compare(severityRank(b.Severity), severityRank(a.Severity)), a.Start.Compare(b.Start), cmp.Compare(a.ID, b.ID))
	})
	for len(e.ended) > 0 && (len(e.ended) > e.o.Limits.Findings || e.now.Sub(*e.ended[0].End) > endedKept) {
		e.ended = e.ended[1:]
	}
	all := open
	for i := len(e.ended) - 1; i >= 0 && len(all) < e.o.Limits.Findings; i-- {
		all = append(all, e.ended[i])
	}
	stats.Open = len(open)
	e.published.Store(&published{all, Incidents(all), scores, stats})
}

// scores appends the score of each subject.
func (g *group) scores(row int64, to []Score) []Score {
	for _, n := range g.entries {
		to = append(to, Score{n.response.Subject, n.score(row)})
	}
	first := len(to)
	rest := g.resources
	if g.whole != nil {
		rest = append(slices.Clip(rest), g.whole.tracks()...)
	}
	for _, t := range rest {
		at := slices.IndexFunc(to[first:], func(s Score) bool { return s.Subject == t.Subject })
		if at < 0 {
			to = append(to, Score{Subject: t.Subject})
			at = len(to) - 1 - first
		}
		to[first+at].Value = max(to[first+at].Value, t.scoreAt(row))
	}
	return to
}

// score is the highest score of an entry's series, 0 at least.
func (n *entry) score(row int64) (score float64) {
	for _, t := range n.tracks() {
		score = max(score, t.scoreAt(row))
	}
	return score
}

// scoreAt is the score of the latest value, as long as that is recent.
func (t *track) scoreAt(row int64) float64 {
	if row-t.last > goneTicks {
		return 0
	}
	return t.score
}

// concludeGroup opens, replaces and ends the finding of a group.
func (e *Engine) concludeGroup(g *group) {
	e.blame(g)
	var members []*track
	isOver := true
	for _, t := range g.tracks {
		if t.episode != nil {
			if e.row-t.last >= goneTicks {
				t.Quiet, t.QuietTicks = quietLeast, quietTicks
			}
			members = append(members, t)
			isOver = isOver && t.over()
		}
	}
	if len(members) == 0 {
		if g.finding != nil { // what was unusual goes on under another name
			e.close(g)
		}
		return
	}
	f := e.compose(g, members)
	switch {
	case g.finding == nil:
		g.finding, g.openedRow, g.joined = f, e.row, false
		e.explain(g, f, members)
		e.o.OnFinding(Opened, f)
	case isOver:
		e.end(g, f, members, f.last(members))
	case e.row-g.openedRow >= changeTicks && e.settled(members):
		e.change(g, f, members)
	default:
		e.replace(g, f, members)
	}
}

// replace publishes a finding anew.
func (e *Engine) replace(g *group, f *Finding, members []*track) {
	old := g.finding
	g.finding = f
	differs := f.Severity != old.Severity || f.Measure != old.Measure || len(f.Parts) != len(old.Parts)
	if age := e.row - g.openedRow; differs || age == explainAgain || age%explainEvery == 0 {
		e.explain(g, f, members)
	} else {
		f.keep(old)
	}
	if differs {
		e.o.OnFinding(Changed, f)
	}
}

// keep takes over what a finding was explained by.
func (f *Finding) keep(old *Finding) {
	f.Phases, f.Causes, f.Until, f.Summary, f.NextSteps = old.Phases, old.Causes, old.Until, old.Summary, old.NextSteps
}

// end ends a finding and the episodes of its members.
func (e *Engine) end(g *group, f *Finding, members []*track, at time.Time) {
	f.End = &at
	e.explain(g, f, members)
	for _, t := range members {
		t.episode = nil
		if t.fails == nil {
			t.calm()
		}
	}
	g.finding = nil
	e.finish(f)
	e.o.OnFinding(Ended, f)
}

// close ends a finding of which nothing is left.
func (e *Engine) close(g *group) {
	f, at := *g.finding, e.now
	if at.Before(f.Start) {
		at = f.Start // the clock went back
	}
	f.End = &at
	g.finding = nil
	e.finish(&f)
	e.o.OnFinding(Ended, &f)
}

// last is when the last of the members' unusual values was.
func (f *Finding) last(members []*track) time.Time {
	at := f.Start
	for _, t := range members {
		if t.End.After(at) {
			at = t.End
		}
	}
	return at
}

// compose makes a finding of episodes.
func (e *Engine) compose(g *group, members []*track) *Finding {
	lead := members[0]
	for _, t := range members[1:] {
		if t.leads(lead) {
			lead = t
		}
	}
	subject, parts := g.subject(lead, members)
	for _, t := range members {
		if t.Metric == lead.Metric && t.Subject == subject {
			lead = t // the service as a whole, where several of its endpoints are concerned
		}
	}
	f := &Finding{Kind: Anomaly, Measure: Measure{lead.Metric, subject}, Parts: parts, Unit: lead.metric.Unit, Start: lead.Start,
		Expected: lead.Expected, Low: lead.Low, High: lead.High, Peak: lead.Peak, Latest: lead.latest, Score: lead.episode.Score}
	f.began = lead.Start
	for _, t := range members {
		if t.Start.Before(f.Start) {
			f.Start = t.Start
		}
		if t.Metric == lead.Metric && !t.over() {
			f.began = earlier(f.began, t.Start)
		}
		f.Score = max(f.Score, t.episode.Score)
		f.Confidence = max(f.Confidence, t.confidence())
	}
	if f.Expected != 0 {
		percent := 100 * (f.Peak - f.Expected) / math.Abs(f.Expected)
		f.EffectPercent = &percent
	}
	f.Requests = lead.episode.Requests
	if lead.Subject != subject && lead.Service != "" {
		f.above = lead.Subject
	}
	if g.finding != nil {
		f.ID, f.Start = g.finding.ID, earlier(g.finding.Start, f.Start)
		f.Incident, f.Causing = g.finding.Incident, g.finding.Causing
	} else {
		f.ID = g.id(f.Start)
	}
	for _, t := range members {
		if s := t.severity(); severityRank(s) > severityRank(f.Severity) {
			f.Severity = s
		}
	}
	return f
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// leads tells whether a series leads a finding rather than another one.
func (t *track) leads(o *track) bool {
	if t.over() != o.over() {
		return o.over()
	}
	if t.metric.rank != o.metric.rank {
		return t.metric.rank > o.metric.rank
	}
	if a, b := t.Method+t.Route != "", o.Method+o.Route != ""; a != b {
		return a
	}
	if t.episode.Score != o.episode.Score {
		return t.episode.Score > o.episode.Score
	}
	return t.episode.Requests > o.episode.Requests
}

// subject is whom a finding is about: the only endpoint that is concerned, or the service with a list of them.
func (g *group) subject(lead *track, members []*track) (Subject, []Part) {
	var parts []Part
	endpoints := map[Subject]bool{}
	for _, t := range members {
		p := Part{Measure: t.Measure, Unit: t.metric.Unit, Expected: t.Expected, Peak: t.Peak, Latest: t.latest, Score: t.episode.Score}
		parts = append(parts, p)
		if t.Route != "" || t.Method != "" {
			endpoints[t.Subject] = true
		}
	}
	slices.SortFunc(parts, func(a, b Part) int {
		return cmp.Or(cmp.Compare(MetricOf(b.Metric).rank, MetricOf(a.Metric).rank), cmp.Compare(b.Score, a.Score),
			cmp.Compare(a.Method+a.Route+a.Device, b.Method+b.Route+b.Device))
	})
	parts = parts[:min(len(parts), partsMax)]
	switch {
	case g.key.service == "":
		return lead.Subject, parts
	case len(endpoints) == 1:
		for s := range endpoints {
			return s, parts
		}
	}
	return Subject{Role: lead.Role, Service: g.key.service, Namespace: g.key.namespace, Address: g.key.address, Port: g.key.port}, parts
}

// id is the same for the same finding, also after a restart.
func (g *group) id(start time.Time) string {
	h := fnv.New64a()
	fmt.Fprintf(h, "%q %q %q %q %d %d", g.key.role, g.key.service, g.key.namespace, g.key.address, g.key.port, start.Unix())
	return fmt.Sprintf("%016x", h.Sum64())
}

// severityRank orders severities.
func severityRank(s string) int { return slices.Index([]string{"", Info, Warning, Error, Critical}, s) }

// Limits of severities.
const (
	// failingPart and brokenPart are the shares of failed requests, in percent, of an error and a critical finding.
	failingPart, brokenPart = 10, 50
	// affectedLeast requests must be concerned of what is more than a warning.
	affectedLeast = 20
	// muchSlower and far slower are factors of response times; with verySlowMS at least.
	muchSlower, farSlower = 2, 5
	slowMS, verySlowMS    = 50, 500
	// gone is the part of a throughput below which hardly anything comes.
	gone = 0.1
	// nearlyAll is the use of a resource, in percent, beyond which others suffer.
	nearlyAll = 90
)

// severity grades an episode by its effect. What a resource does by itself is for information: nobody suffers yet.
func (t *track) severity() string {
	p := t.episode
	switch t.Metric {
	case ErrorRate:
		switch {
		case p.Requests >= affectedLeast && p.Peak >= brokenPart:
			return Critical
		case p.Requests >= affectedLeast && p.Peak >= failingPart:
			return Error
		}
		return Warning
	case ResponseTime, ResponseTimeP95:
		switch factor := p.Peak / max(p.Expected, 1e-3); {
		case p.Requests < affectedLeast:
			return Warning
		case factor >= farSlower && p.Peak >= verySlowMS:
			return Critical
		case factor >= muchSlower && p.Peak-p.Expected >= slowMS:
			return Error
		}
		return Warning
	case Throughput:
		if p.Peak < p.Expected*gone {
			return Error
		}
		if p.Peak < p.Expected {
			return Warning
		}
		return Info
	case CPUUsage, MemoryUsage, DiskUtilisation, SaturationUsed:
		if t.Service == "" && p.Peak >= nearlyAll || t.Metric == SaturationUsed && p.Peak >= nearlyAll {
			return Warning
		}
	}
	return Info
}
