package finding

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// How findings are joined
//
// One thing that goes wrong shows at several places: the store is slow, so are the calls of it, the shop that makes them, and the proxy
// before the shop. Each is a finding, and all of them are one incident, which is led by the finding that the others come of:
//
//	a service        -> the calls that it makes, if those take most of the longer time -> the service of this host that they lead to
//	calls            -> else the service that makes them
//	who names a resource, of the host or of another service, as the likeliest cause -> the finding of that resource
//	more or fewer requests -> who sends them
//
// Findings that name the same resource of the host, of which there is no finding, are joined as well: the oldest leads.

const (
	// joinTicks is how long a finding may still be put below another one: as long as the rule Anomaly tells nobody of it.
	joinTicks = 6
	// joinWithin is by how many ticks findings may begin one after the other that only a call connects: the widest interval.
	joinWithin = widest
	// joinShare is the share of a longer response time that calls must have, to be what it comes of.
	joinShare = 0.5
	// joinNamed is how many findings a sentence names.
	joinNamed = 5
)

// Effect is a finding of an incident beside the one that leads it.
type Effect struct {
	ID string `json:"id"`
	Measure
	Start    time.Time  `json:"start"`
	End      *time.Time `json:"end,omitempty"`
	Severity string     `json:"severity"`
	Causing  bool       `json:"causing,omitempty"` // as Finding.Causing
	Summary  string     `json:"summary"`
}

// Brief is a finding in short.
func (f *Finding) Brief() Effect {
	return Effect{f.ID, f.Measure, f.Start, f.End, f.Severity, f.Causing, f.Summary}
}

// join puts open findings below those that they come of.
func (e *Engine) join() {
	open := e.openGroups()
	if len(open) == 0 {
		return
	}
	j := &joining{e: e, open: open, parents: make(map[*group]*group), around: &Surroundings{Serves: e.o.Serves}}
	for _, g := range open {
		if g.joined && g.finding.Incident != "" {
			j.parents[g] = j.leader(g.finding.Incident)
		}
	}
	for _, by := range []func(*group) *group{j.named, j.connected, j.caller} { // the surest first
		for _, g := range open {
			if !g.joined && j.parents[g] == nil {
				j.put(g, by(g))
			}
		}
	}
	causing := make(map[*group]bool)
	for _, g := range open { // what people were told of stays, and its cause is found below it
		if !g.joined || g.finding.Incident != "" {
			continue
		}
		if a := cmp.Or(j.named(g), j.connected(g)); a != nil && !j.root(a).joined {
			causing[j.root(a)] = true
			j.put(j.root(a), g)
		}
	}
	j.joinByHost()
	ids := make([]string, len(open)) // of all before any changes
	for i, g := range open {
		ids[i] = j.incident(g)
	}
	for i, g := range open {
		j.publish(g, ids[i], causing[g])
	}
}

// openGroups are those with an open finding, the oldest first.
func (e *Engine) openGroups() (open []*group) {
	for _, g := range e.groups {
		if g.finding != nil {
			g.joined = g.joined || e.row-g.openedRow >= joinTicks
			open = append(open, g)
		}
	}
	slices.SortFunc(open, func(a, b *group) int {
		return cmp.Or(cmp.Compare(a.openedRow, b.openedRow), a.finding.Start.Compare(b.finding.Start), cmp.Compare(a.finding.ID, b.finding.ID))
	})
	return open
}

// joining is what findings have to do with each other in a tick.
type joining struct {
	e       *Engine
	open    []*group
	parents map[*group]*group // nil: it leads, or who led it is over
	around  *Surroundings
}

func (j *joining) root(g *group) *group {
	for j.parents[g] != nil {
		g = j.parents[g]
	}
	return g
}

// put puts a group that leads below another one, unless that is nil, or below it.
func (j *joining) put(g, below *group) {
	if below != nil && j.parents[g] == nil && j.root(below) != g {
		j.parents[g] = below
	}
}

func (j *joining) leader(id string) *group {
	if i := slices.IndexFunc(j.open, func(g *group) bool { return g.finding.ID == id }); i >= 0 {
		return j.open[i]
	}
	return nil
}

// incident is the ID of the finding that leads the incident of another; "" for one that leads. A leader that is over stays it.
func (j *joining) incident(g *group) string {
	root := j.root(g)
	switch over := root.finding.Incident; {
	case over != "" && j.leader(over) == nil:
		return over
	case root == g:
		return ""
	}
	return root.finding.ID
}

// publish replaces a finding by one that says to which incident it belongs.
func (j *joining) publish(g *group, id string, causing bool) {
	f := g.finding
	causing = id != "" && (causing || g.joined && f.Causing)
	if f.Incident == id && f.Causing == causing {
		return
	}
	joined := *f
	joined.Incident, joined.Causing = id, causing
	g.finding = &joined
	j.e.o.OnFinding(Changed, &joined)
}

// connected is whose finding that of a group comes of by who calls whom; nil for none. What is due to the service itself comes of nothing
// else.
func (j *joining) connected(g *group) *group {
	f, c := g.finding, g.finding.likeliest()
	isOwn := c != nil && c.Relationship == ofSelf && c.Confidence >= sureFrom
	switch {
	case f.Metric == Throughput || isOwn && c.Metric == Throughput:
		return j.sender(g)
	case g.key.role == "client":
		return j.answering(g)
	case isOwn || g.key.service == "":
		return nil
	}
	return j.called(g)
}

// likeliest is the first of the causes that are named; nil for none.
func (f *Finding) likeliest() *Cause {
	if len(f.Causes) == 0 {
		return nil
	}
	return &f.Causes[0]
}

// named is whose finding is of what a finding names as its likeliest cause.
func (j *joining) named(g *group) *group {
	c := g.finding.likeliest()
	if c == nil || g.finding.Metric == Throughput {
		return nil
	}
	key := groupKey{role: roleOf(&c.Measure), service: c.Service, namespace: c.Namespace}
	if c.Address != "" {
		key.role, key.address, key.port = "client", c.Address, c.Port
	}
	a := j.e.groups[key]
	switch {
	case a == nil || a == g || a.finding == nil || a.finding.Metric == Throughput && c.Metric != Throughput:
		return nil
	case c.Service == "" && !a.finding.isOf(c):
		return nil
	}
	return a
}

// resources are what of the host metrics are about.
var resources = map[string]string{
	CPUUsage: "processors", CPUSteal: "processors", RunQueueWait: "processors", PressureCPU: "processors",
	MemoryUsage: "memory", SwapRate: "memory", OOMKills: "memory", PressureMemory: "memory",
	DiskUtilisation: "disks", DiskLatency: "disks", PressureIO: "disks", DiskRead: "disks", DiskWrite: "disks",
	Retransmits: "network", RTT: "network",
}

// isOf tells whether a finding of the host is of the resource that a cause is about.
func (f *Finding) isOf(c *Cause) bool {
	resource := resources[c.Metric]
	same := func(m *Measure) bool {
		return resource != "" && resources[m.Metric] == resource && (m.Device == c.Device || m.Device == "" || c.Device == "")
	}
	return same(&f.Measure) || slices.ContainsFunc(f.Parts, func(p Part) bool { return same(&p.Measure) })
}

// near tells whether the findings of two groups began at about the same time.
func (j *joining) near(a, b *group) bool {
	apart := a.finding.Start.Sub(b.finding.Start).Abs()
	return apart <= joinWithin*j.e.o.Tick
}

// leadsTo tells whether calls lead to a service of this host.
func (j *joining) leadsTo(calls, to *group) bool {
	if calls.key.role != "client" || to.key.role != "server" {
		return false
	}
	id := serviceID{to.key.service, to.key.namespace}
	local, ok := j.around.localService(calls.key.address, calls.key.port)
	return ok && local == id || to.key.service != "" && to.key.service == firstLabel(calls.key.address)
}

// isCaller tells whether a service makes some calls.
func isCaller(g, calls *group) bool {
	return calls.key.role == "client" && g.key.role == "server" && g.key.service == calls.key.service && g.key.namespace == calls.key.namespace
}

// answering is, of calls, the service of this host that answers them badly.
func (j *joining) answering(g *group) *group {
	for _, a := range j.open {
		if j.leadsTo(g, a) && j.near(a, g) && a.finding.Metric != Throughput && severityRank(a.finding.Severity) > severityRank(Info) {
			return a
		}
	}
	return nil
}

// caller is, of calls, the service that makes them.
func (j *joining) caller(g *group) *group {
	for _, a := range j.open {
		if isCaller(a, g) && j.near(a, g) && a.finding.Metric != Throughput {
			return a
		}
	}
	return nil
}

// called are, of a service, the calls that account for most of what it suffers from.
func (j *joining) called(g *group) (most *group) {
	f, grown := g.finding, 0.
	for _, a := range j.open {
		o := a.finding
		if !isCaller(g, a) || !j.near(a, g) || partOf(&o.Measure) != partOf(&f.Measure) {
			continue
		}
		if by := o.Peak - o.Expected; by >= joinShare*(f.Peak-f.Expected) && by > grown {
			most, grown = a, by
		}
	}
	return most
}

// sender is, of more or fewer requests, who sends them: what is unusual of that, or of those calls.
func (j *joining) sender(g *group) *group {
	if g.key.role == "client" {
		for _, a := range j.open {
			if isCaller(a, g) && j.near(a, g) {
				return a
			}
		}
		return nil
	}
	for _, calls := range j.e.sortedGroups() {
		if !j.leadsTo(calls, g) {
			continue
		}
		if calls.finding != nil && j.near(calls, g) {
			return calls
		}
		for _, a := range j.open {
			if a != g && isCaller(a, calls) && j.near(a, g) {
				return a
			}
		}
	}
	return nil
}

// joinByHost joins what is left of those that name the same resource of the host as the likeliest cause.
func (j *joining) joinByHost() {
	type resource struct{ name, device string }
	first := make(map[resource]*group)
	for _, g := range j.open {
		c := g.finding.likeliest()
		leads := j.parents[g] == nil && (g.finding.Incident == "" || !g.joined)
		if !leads || c == nil || c.Service != "" || c.Address != "" || resources[c.Metric] == "" {
			continue
		}
		is := resource{resources[c.Metric], c.Device}
		switch a := first[is]; {
		case a == nil:
			first[is] = g
		case !g.joined && j.near(a, g):
			j.put(g, a)
		}
	}
}

// Incidents returns what leads incidents among findings, which stand in the order of Engine.Findings: each with the others of its incident,
// the severity of the worst that goes on, the end of the last, and words for them. What goes on after its leader, or without it, is led by
// the first of those that are left.
func Incidents(all []*Finding) []*Finding {
	of := make(map[string][]*Finding)
	var order []string
	for _, f := range all {
		id := cmp.Or(f.Incident, f.ID)
		if of[id] == nil {
			order = append(order, id)
		}
		of[id] = append(of[id], f)
	}
	heads := make([]*Finding, 0, len(order))
	for _, id := range order {
		heads = append(heads, incident(id, of[id]))
	}
	slices.SortStableFunc(heads, func(a, b *Finding) int {
		switch {
		case (a.End == nil) != (b.End == nil):
			return map[bool]int{true: -1, false: 1}[a.End == nil]
		case a.End != nil:
			return b.End.Compare(*a.End)
		}
		return cmp.Or(cmp.Compare(severityRank(b.Severity), severityRank(a.Severity)), a.Start.Compare(b.Start), cmp.Compare(a.ID, b.ID))
	})
	return heads
}

// incident makes one of its findings.
func incident(id string, all []*Finding) *Finding {
	isOpen := slices.ContainsFunc(all, func(f *Finding) bool { return f.End == nil })
	var head *Finding
	for _, f := range all {
		if isOpen && f.End != nil {
			continue
		}
		if head == nil || f.ID == id {
			head = f
		}
	}
	if len(all) == 1 {
		return head
	}
	led := *head
	led.Effects = nil
	for _, f := range all {
		if f != head {
			led.Effects = append(led.Effects, f.Brief())
		}
		if severityRank(f.Severity) > severityRank(led.Severity) && (f.End == nil || !isOpen) {
			led.Severity = f.Severity
		}
		if !isOpen && f.End.After(*led.End) {
			led.End = f.End
		}
	}
	slices.SortStableFunc(led.Effects, func(a, b Effect) int {
		return cmp.Or(cmp.Compare(severityRank(b.Severity), severityRank(a.Severity)), a.Start.Compare(b.Start), cmp.Compare(a.ID, b.ID))
	})
	led.Summary += led.affected(head.ID == id)
	return &led
}

// Touches tells whether a finding, or an effect of it, is about a subject that is wanted.
func (f *Finding) Touches(wanted func(*Subject) bool) bool {
	return wanted(&f.Subject) || slices.ContainsFunc(f.Effects, func(e Effect) bool { return wanted(&e.Subject) })
}

// affected says who else an incident is about.
func (f *Finding) affected(leads bool) string {
	var causes, effects []string
	for i := range f.Effects {
		to, said := &effects, f.Effects[i].said()
		if f.Effects[i].Causing {
			to = &causes
		}
		if f.Effects[i].Service == "" {
			said = f.Effects[i].words() + " of " + said
		}
		if !slices.Contains(*to, said) {
			*to = append(*to, said)
		}
	}
	text := listed(" Behind it is, as was found later: ", causes)
	if leads {
		return text + listed(" Affected by it: ", effects)
	}
	return text + listed(" Of the same incident: ", effects)
}

func (m *Measure) words() string {
	if known := MetricOf(m.Metric); known != nil {
		return known.Words
	}
	return m.Metric
}

func listed(before string, names []string) string {
	if len(names) == 0 {
		return ""
	}
	text := before + strings.Join(names[:min(len(names), joinNamed)], ", ")
	if more := len(names) - joinNamed; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text + "."
}
