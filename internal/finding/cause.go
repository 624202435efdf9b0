package finding

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/perfagent/perfagent/internal/series"
)

// How causes are found
//
// series.RankCauses tells which metrics grew most, for sure, beyond what the load of their service accounts for. Here follows what
// a host's metrics have to do with each other, which no ratio tells: a service waits for processors because another one uses them, a
// disk is busy because of who writes to it, a request is slow because of what it calls, and that because of a limit of its
// container. So evidence is handed on, along what explains what, from what requests suffer from to what somebody can change:
//
//	calls of a slow service  -> what that one suffers from, the network
//	waiting for a processor  -> processors that are busy -> who uses them -> the load of the service, its new version
//	waiting for memory, disk -> memory or disks that are full or busy -> who uses them
//
// What nothing measured explains while requests take longer, and the service uses no more processor time for them, is waiting inside
// the service: a lock, or a pool that is exhausted.

// What a cause has to do with whom a finding is about.
const (
	ofSelf       = "self"
	ofDownstream = "downstream"
	ofHost       = "host"
	ofNeighbour  = "neighbour"
)

// Metrics of causes that are no series of their own.
const (
	metricConcurrency = "concurrency" // requests in progress, by Little's law: those that wait inside the service
)

const (
	causesMax = 5
	// causeScoreMin is the score below which nothing is said: something always moves a little.
	causeScoreMin = 0.3
	// handed is the share of its evidence that an effect loses when it is handed on: it stays in the list, below.
	handed = 0.7
	// material is the growth (a logarithm, of amounts that matter) from which on something explains something else.
	material = 0.4
	// shareMin is the share of a growth that somebody must account for to be the cause of it.
	shareMin = 0.3
	// callScore is the score of calls that take all of the time by which requests got longer: an identity, not a likelihood, but who
	// is called may be slow for the same reason.
	callScore = 2.5
	// wakesOfCall is how often a call waits for a processor on its way, at least: who is called is woken, and who called.
	wakesOfCall = 3
	// wakesOfOperation is the same of a disk's operation: who issues it, a worker of the kernel, and who waits for its end.
	wakesOfOperation = 3
	// heldWeight is the weight of what requests hold while they are in progress: more of it is mostly a symptom.
	heldWeight = 0.2
	// ourWeight is the weight of calls that wait on this side: a symptom.
	ourWeight = 0.1
	// waitScore is the score of what is left when nothing measured explains the time that requests take.
	waitScore = 1.2
	// startScore is that of a process that was started when the finding began.
	startScore = 1.5
	// startSlack is how much earlier a process may have been started: a new version has to warm up before it shows.
	startSlack = 2 * time.Minute
	// startRows is the same in rows, where these have no length. startsUsual is the part of the rows in which processes may be started
	// without that being usual.
	startRows, startsUsual = 12, 0.05
	// fullPercent is from where on a limit is what is waited for.
	fullPercent = 85
	// busyPercent is from where on processors of the host are what is waited for.
	busyPercent = 60
)

// candidate is a series that may be to blame.
type candidate struct {
	Measure
	nature       nature
	relationship string
	before       float64
	after        float64
	growth       float64 // logarithm of the ratio, in amounts that matter, as far as it is certain
	score        float64
	effects      []*candidate // what it explains
	start        time.Time
	rows         []float64
	of           *target // of calls
}

// target is a server that the service calls, all methods together.
type target struct {
	Measure  // the series that grew most
	time     weighted
	failures weighted
	growth   float64   // of the time that calls take
	local    serviceID // who that is, if it runs on this host
	isLocal  bool
	ours     bool // it answers as fast as before: calls of it wait here
}

// causes ranks what the finding may come from.
func (s *situation) causes() []Cause {
	if !s.bad() {
		return s.startAlone()
	}
	s.addTargets()
	s.addLoads()
	s.addResources()
	s.rank()
	s.dropOthersLosses()
	s.addCalls()
	s.addComputing()
	s.handOn()
	s.addFailures()
	s.addWaiting()
	s.addStarts()
	return s.best()
}

// startAlone is for findings of something that got better, which needs no culprit.
func (s *situation) startAlone() []Cause {
	s.addStarts()
	return s.best()
}

// whole tells whether a series is of a service's endpoints together.
func (u *Subject) whole() bool { return u.Method == "" && u.Route == "" && u.Address == "" }

// addLoads sums up the requests per second of each service, unless they are summed up already, and notes which endpoint of the service
// itself grew most.
func (s *situation) addLoads() {
	most := 0.
	summed := make(map[serviceID]bool)
	for _, m := range s.all {
		if m.Metric == Throughput && m.Role == "server" && m.whole() {
			summed[m.id()] = true
		}
	}
	for _, m := range s.all {
		if partOf(&m.Measure) != partLoad || m.Role == "client" {
			continue
		}
		if m.id() == s.self && !m.whole() {
			if before, after := s.levels(m.Values); zero(after)-zero(before) > most {
				most, s.busiest = zero(after)-zero(before), &m.Measure
			}
		}
		if summed[m.id()] && !m.whole() {
			continue
		}
		sum := s.loads[m.id()]
		if sum == nil {
			sum = make([]float64, s.to)
			for row := range sum {
				sum[row] = math.NaN()
			}
			s.loads[m.id()] = sum
		}
		for row := range min(s.to, len(m.Values)) {
			if v := float64(m.Values[row]); !math.IsNaN(v) {
				sum[row] = zero(sum[row]) + v
			}
		}
	}
	ids := slices.SortedFunc(maps.Keys(s.loads), func(a, b serviceID) int {
		return cmp.Or(cmp.Compare(a.name, b.name), cmp.Compare(a.namespace, b.namespace))
	})
	for _, id := range ids {
		sum := s.loads[id]
		// What makes a neighbour take more of the host does not matter; of the host's own findings it does.
		relationship := s.relationshipOf(id)
		if relationship == ofNeighbour && s.self != (serviceID{}) {
			continue
		}
		values := make([]float32, len(sum))
		for i, v := range sum {
			values[i] = float32(v)
		}
		m := Measured{Measure{Throughput, Subject{Role: "server", Service: id.name, Namespace: id.namespace}}, values}
		s.add(&m, relationship)
	}
}

func zero(v float64) float64 {
	if math.IsNaN(v) {
		return 0
	}
	return v
}

// relationshipOf says what a service, or the host, has to do with the finding.
func (s *situation) relationshipOf(id serviceID) string {
	switch {
	case id == serviceID{}:
		return ofHost
	case id == s.self:
		return ofSelf
	case slices.ContainsFunc(s.targets, func(t *target) bool { return t.isLocal && t.local == id }):
		return ofDownstream
	}
	return ofNeighbour
}

// addTargets gathers what the service calls, or the one target that the finding is about.
func (s *situation) addTargets() {
	type place struct {
		address string
		port    uint16
	}
	rates := make(map[Subject]*Measured)
	for _, m := range s.all {
		if m.Role == "client" && m.id() == s.self && partOf(&m.Measure) == partLoad {
			rates[m.Subject] = m
		}
	}
	duration := s.durationMetric()
	known := make(map[place]*target)
	for _, m := range s.all {
		p := partOf(&m.Measure)
		if m.Role != "client" || m.id() != s.self || m.Metric != duration && p != partFailures {
			continue
		}
		at := place{m.Address, m.Port}
		t := known[at]
		if t == nil {
			t = &target{Measure: m.Measure, growth: math.Inf(-1)}
			t.local, t.isLocal = s.localService(at.address, at.port)
			known[at] = t
			s.targets = append(s.targets, t)
		}
		before, after := s.levels(m.Values)
		beforeRate, afterRate := 1., 1.
		if rate := rates[m.Subject]; rate != nil {
			beforeRate, afterRate = s.levels(rate.Values)
		}
		if p == partFailures {
			t.failures.add(before, after, zero(beforeRate), zero(afterRate))
			continue
		}
		t.time.add(before, after, zero(beforeRate), zero(afterRate))
		if grown := after - before; grown > t.growth {
			t.growth, t.Measure = grown, m.Measure
		}
	}
}

// durationMetric is the statistic of response times that the finding is about, if that is known of calls, too.
func (s *situation) durationMetric() string {
	for _, m := range s.all {
		if m.Role == "client" && m.id() == s.self && m.Metric == s.finding.Metric && partOf(&m.Measure) == partDuration {
			return m.Metric
		}
	}
	return ResponseTime
}

// localService tells which service of this host an address leads to.
func (s *situation) localService(address string, port uint16) (serviceID, bool) {
	if id, ok := s.evidence.Surroundings.localService(address, port); ok && id != s.self {
		return id, true
	}
	for _, m := range s.all { // in a network of containers a service is called by its name
		if u := &m.Subject; u.Role == "server" && u.Service == firstLabel(address) && u.id() != s.self {
			return u.id(), true
		}
	}
	return serviceID{}, false
}

// isApartFrom tells that a finding of what the host has cannot come of a series: lost packets keep nobody waiting for a processor, memory or
// a disk.
func (f *Finding) isApartFrom(m *Measured) bool {
	of := resources[f.Metric]
	return f.Service == "" && of != "" && of != "network" && resources[m.Metric] == "network"
}

// addResources adds what services and the host use and wait for. Of a neighbour only what it takes from others matters.
func (s *situation) addResources() {
	for _, m := range s.all {
		n := natureOf(&m.Measure)
		if n.part < partCPU || m.Measure == s.finding.Measure || s.finding.isApartFrom(m) {
			continue
		}
		relationship := s.relationshipOf(m.id())
		if relationship == ofNeighbour && n.part != partCPU && n.part != partMemory && n.part != partIO {
			continue
		}
		s.add(m, relationship)
	}
}

// add makes a candidate of a series, its values in amounts that matter.
func (s *situation) add(m *Measured, relationship string) {
	n := natureOf(&m.Measure)
	if len(s.candidates) >= candidatesMax {
		return
	}
	rows, from := s.window(m.Values)
	for i := range rows {
		rows[i] /= n.least
		if i < from && math.IsNaN(rows[i]) && (n.part == partThrottled || n.part == partReclaim) {
			rows[i] = 0 // before there was a limit, nobody was stopped by it
		}
	}
	s.candidates = append(s.candidates, &candidate{Measure: m.Measure, nature: n, relationship: relationship, rows: rows})
}

// rank has the candidates scored. A constant series of each kind sees to it that amounts below one do not matter (levelShare of
// RankCauses is a twentieth).
func (s *situation) rank() {
	const quiet = 20
	metrics := make([]series.CauseMetric, 0, len(s.candidates)+8)
	kinds := make(map[series.MetricKind]bool)
	for i, c := range s.candidates {
		id := c.id()
		metrics = append(metrics, series.CauseMetric{Name: strconv.Itoa(i), Entity: id.namespace + "\x00" + id.name, Kind: c.nature.kind, Values: c.rows})
		if kind := c.nature.kind; !kinds[kind] {
			kinds[kind] = true
			values := make([]float64, len(c.rows))
			for j := range values {
				values[j] = quiet
			}
			metrics = append(metrics, series.CauseMetric{Name: "", Entity: "\x00quiet", Kind: kind, Values: values})
		}
	}
	explained := make(map[*candidate]bool)
	for _, ranked := range series.RankCauses(metrics, s.from-s.first) {
		i, err := strconv.Atoi(ranked.Name)
		if err != nil {
			continue // the constant ones
		}
		c := s.candidates[i]
		c.before, c.after, c.score = ranked.Before*c.nature.least, ranked.After*c.nature.least, ranked.Score
		c.growth = growthOf(ranked.Before, ranked.After, ranked.Shift)
		for _, name := range ranked.Explains {
			if j, err := strconv.Atoi(name); err == nil {
				c.effects = append(c.effects, s.candidates[j])
				explained[s.candidates[j]] = true
			}
		}
	}
	for c := range explained {
		c.score *= 1 - handed
	}
	for _, c := range s.candidates {
		if c.Metric == OpenFiles || c.Metric == Threads { // requests that wait hold some
			c.score *= heldWeight
		}
	}
	// Processors that were busy all along may still be what is waited for.
	s.candidates = slices.DeleteFunc(s.candidates, func(c *candidate) bool { return c.growth == 0 && c.nature.part != partHostCPU })
}

// growthOf is the growth as RankCauses sees it, before the load is taken into account.
func growthOf(before, after, shift float64) float64 {
	certain := math.Abs(shift) / (math.Abs(shift) + 3)
	return certain * math.Log((math.Abs(after)+1)/(math.Abs(before)+1))
}

// part returns the candidates of a part that have to do with the finding in one of the ways, those that grew first.
func (s *situation) part(p part, relationships ...string) (all []*candidate) {
	for _, c := range s.candidates {
		if c.nature.part == p && (len(relationships) == 0 || slices.Contains(relationships, c.relationship)) {
			all = append(all, c)
		}
	}
	slices.SortStableFunc(all, func(a, b *candidate) int { return cmp.Compare(b.growth, a.growth) })
	return all
}

// largest is the one of a part that grew most, if that matters; nil for none.
func (s *situation) largest(p part, relationships ...string) *candidate {
	if all := s.part(p, relationships...); len(all) > 0 && all[0].growth >= material {
		return all[0]
	}
	return nil
}

// give hands a share of an effect's evidence on to what explains it.
func (c *candidate) give(to *candidate, share float64) {
	if c == nil || to == nil || c == to || !(share > 0) || c.score <= 0 {
		return
	}
	share = min(share, 1)
	to.score += share * c.score
	c.score *= 1 - handed*share
	to.effects = append(to.effects, c)
}

// addCalls adds the servers that the service calls, by the share of the longer response times that calls of them account for: of the
// time that all requests of the service took more in a second, that which its calls took more.
func (s *situation) addCalls() {
	if partOf(&s.finding.Measure) != partDuration || s.finding.Role == "client" {
		return
	}
	whole := s.grownTotal(ProcessingTime, ResponseTime)
	for _, t := range s.targets {
		before, after := t.time.levels()
		share := (after - before) * t.time.afterWeight / whole
		if math.IsNaN(share) || share < shareMin/2 || after <= before || whole <= 0 {
			continue
		}
		grown := 1.
		if before > 0 {
			grown = min(1, math.Log(after/before)/material)
		}
		if s.isOurs(t, after-before) {
			grown *= ourWeight
		}
		s.candidates = append(s.candidates, &candidate{Measure: t.Measure, nature: natureOf(&t.Measure), relationship: ofDownstream, before: before, after: after,
			growth: material * grown, score: callScore * min(share, 1) * grown, of: t})
	}
}

// isOurs tells of calls to a service of this host that they take longer though it answers as fast as before: they wait on the caller's
// side.
func (s *situation) isOurs(t *target, grown float64) bool {
	if !t.isLocal {
		return false
	}
	served, known := 0., false
	for _, m := range s.all {
		if m.Role == "server" && m.id() == t.local && m.Metric == ResponseTime {
			if before, after := s.levels(m.Values); !math.IsNaN(after - before) {
				served, known = max(served, after-before), true
			}
		}
	}
	t.ours = known && served < shareMin*grown
	return t.ours
}

// addComputing credits the service's own use of processors by the share of the longer response time that a request computes: an account, as
// that of calls.
func (s *situation) addComputing() {
	ms, known := s.computed()
	if !known || partOf(&s.finding.Measure) != partDuration || s.finding.Role == "client" || s.effect <= 0 {
		return
	}
	for _, c := range s.part(partCPU, ofSelf) {
		if share := min(ms/s.effect, 1); share >= shareMin && c.growth >= material/2 && c.score > 0 {
			c.score = max(c.score, callScore*share)
		}
	}
}

// grownTotal is by how much a figure of the service's requests grew, summed up over the requests of a second: of the first metric that
// an endpoint has.
func (s *situation) grownTotal(metrics ...string) (sum float64) {
	for _, rate := range s.all {
		if rate.Role != "server" || rate.id() != s.self || rate.Metric != Throughput || rate.whole() {
			continue
		}
		before, perSecond := s.levels(rate.Values)
		if math.IsNaN(perSecond) {
			perSecond = before
		}
		for _, metric := range metrics {
			if m := s.measured(Measure{metric, rate.Subject}); m != nil {
				if before, after := s.levels(m.Values); after > before {
					sum += (after - before) * zero(perSecond)
				}
				break
			}
		}
	}
	return sum
}

// loadLevels returns the requests per second of a service before and since; NaN where these are not known.
func (s *situation) loadLevels(id serviceID) (before, after float64) {
	sum := s.loads[id]
	if sum == nil {
		return math.NaN(), math.NaN()
	}
	return level(sum[s.first:s.from]), level(sum[s.from:s.to])
}

// addFailures adds, for a finding of failures, the servers that the service calls which fail, and else the service itself.
func (s *situation) addFailures() {
	if partOf(&s.finding.Measure) != partFailures {
		return
	}
	explained := 0.
	for _, c := range s.candidates {
		if c.nature.part != partReclaim && c.nature.part != partLimit && !s.slower() {
			c.score *= 0.4 // what makes requests slow does not make them fail
		}
		explained = max(explained, c.score)
	}
	for _, t := range s.targets {
		before, after := t.failures.levels()
		share := (after - zero(before)) * t.failures.afterWeight / s.grownTotal(ErrorRate)
		if s.finding.Role == "client" || math.IsNaN(share) || share < shareMin {
			continue
		}
		m := t.Measure
		m.Metric = s.finding.Metric
		explained = max(explained, callScore*min(share, 1))
		s.candidates = append(s.candidates, &candidate{Measure: m, nature: natureOf(&m), relationship: ofDownstream, before: zero(before), after: after,
			growth: material, score: callScore * min(share, 1), of: t})
	}
	own := &candidate{Measure: s.finding.Measure, nature: natureOf(&s.finding.Measure), relationship: ofSelf, before: s.finding.Expected, after: s.finding.Peak,
		growth: material, score: waitScore * (1 - min(1, explained/callScore))}
	if s.finding.Role == "client" {
		own.relationship = ofDownstream
	}
	s.candidates = append(s.candidates, own)
}

// slower tells whether the requests that fail more often take longer, too, as those do that time out.
func (s *situation) slower() bool {
	m := s.finding.Measure
	m.Metric = ResponseTime
	own := s.measured(m)
	if own == nil {
		return false
	}
	before, after := s.levels(own.Values)
	return after > before*(1+material)
}

// addWaiting adds, for requests that take longer without anything else that explains it, that they wait inside the service.
func (s *situation) addWaiting() {
	if partOf(&s.finding.Measure) != partDuration || s.finding.Role == "client" {
		return
	}
	explained := 0.
	for _, c := range s.candidates {
		explained = max(explained, c.score)
	}
	before, after := s.concurrency()
	score := waitScore * (1 - min(1, explained/(waitScore+0.3)))
	switch computed, known := s.computed(); {
	case !known:
		score *= 0.7
	case computed >= s.effect/2: // it works longer, and does not wait
		return
	}
	if math.IsNaN(after) || score < causeScoreMin {
		return
	}
	m := Measure{metricConcurrency, Subject{Role: "server", Service: s.self.name, Namespace: s.self.namespace}}
	s.candidates = append(s.candidates, &candidate{Measure: m, nature: nature{part: partLimit, kind: series.KindPressure, unit: "requests", least: 1},
		relationship: ofSelf, before: before, after: after, growth: material, score: score})
}

// concurrency is how many requests of the service are in progress, by Little's law, before and since.
func (s *situation) concurrency() (before, after float64) {
	times := make(map[Subject]*Measured)
	for _, m := range s.all {
		if m.id() == s.self && m.Role == "server" && m.Metric == ResponseTime && !m.whole() {
			times[m.Subject] = m
		}
	}
	after = math.NaN()
	for _, rate := range s.all {
		took := times[rate.Subject]
		if took == nil || partOf(&rate.Measure) != partLoad {
			continue
		}
		rateBefore, rateAfter := s.levels(rate.Values)
		tookBefore, tookAfter := s.levels(took.Values)
		before += zero(rateBefore*tookBefore) / 1000
		after = zero(after) + zero(rateAfter*tookAfter)/1000
	}
	return before, after
}

// computed is by how many milliseconds the processor time of a request grew.
func (s *situation) computed() (ms float64, known bool) {
	beforeLoad, afterLoad := s.loadLevels(s.self)
	for _, m := range s.all {
		if partOf(&m.Measure) != partCPU || m.id() != s.self {
			continue
		}
		before, after := s.levels(m.Values)
		ms = 10 * (after/afterLoad - before/beforeLoad) // percent of a second are 10 ms
		return ms, !math.IsNaN(ms) && !math.IsInf(ms, 0)
	}
	return 0, false
}

// addStarts adds services of which processes were started when the finding began: a new version, or a crash. Services that start
// processes all the time, for each request say, tell nothing by that.
func (s *situation) addStarts() {
	slack := startRows
	if s.evidence.Step > 0 {
		slack = int(startSlack / s.evidence.Step)
	}
	for _, m := range s.all {
		relationship := s.relationshipOf(m.id())
		if m.Metric != ProcessStarts || relationship != ofSelf && relationship != ofDownstream {
			continue
		}
		usual, started, row := 0., 0., 0
		for i, v := range m.Values[:min(s.to, len(m.Values))] {
			switch {
			case !(v > 0):
			case i < s.from-slack:
				usual++
			case i <= s.from+1:
				started, row = started+float64(v), i
			}
		}
		if started > 0 && usual <= startsUsual*float64(s.from) {
			s.addStart(m, relationship, started, s.evidence.From.Add(time.Duration(row)*s.evidence.Step))
		}
	}
}

// addStart adds one, and hands on to it what its service uses more, waits for, or is slower for since.
func (s *situation) addStart(m *Measured, relationship string, started float64, at time.Time) {
	c := &candidate{Measure: m.Measure, relationship: relationship, nature: natureOf(&m.Measure), after: started, growth: material, score: startScore, start: at}
	for _, o := range s.candidates {
		own := o.of == nil && o.id() == m.id() && o.nature.part != partLoad && o.nature.part != partReclaim
		if own || o.of != nil && o.of.isLocal && o.of.local == m.id() {
			o.give(c, 0.8)
		}
	}
	s.candidates = append(s.candidates, c)
}

// best returns the candidates that are worth a look, the likeliest first.
func (s *situation) best() []Cause {
	likely := slices.DeleteFunc(slices.Clone(s.candidates), func(c *candidate) bool {
		return !(c.score >= causeScoreMin) || c.Measure == s.finding.Measure && c.nature.part != partFailures
	})
	slices.SortStableFunc(likely, func(a, b *candidate) int {
		return cmp.Or(cmp.Compare(b.score, a.score), a.Measure.compare(&b.Measure))
	})
	likely = likely[:min(len(likely), causesMax)]
	whole := 0.
	for _, c := range likely {
		whole += c.score
	}
	causes := make([]Cause, 0, len(likely))
	for _, c := range likely {
		causes = append(causes, Cause{Measure: c.Measure, Kind: c.nature.kind, Unit: c.nature.unit, Before: short(c.before), After: short(c.after), Score: short(c.score),
			Confidence: short((1 - math.Exp(-c.score)) * c.score / whole), Relationship: c.relationship, Summary: s.sentence(c)})
	}
	s.relate(causes)
	return causes
}

// short rounds to four digits, which is more than anything here is known to.
func short(v float64) float64 {
	if v == 0 || math.IsNaN(v) || math.IsInf(v, 0) {
		return 0
	}
	scale := math.Pow(10, 3-math.Floor(math.Log10(math.Abs(v))))
	return math.Round(v*scale) / scale
}

// compare orders measures, so that equal evidence leads to equal conclusions.
func (m *Measure) compare(o *Measure) int {
	return cmp.Or(cmp.Compare(m.Metric, o.Metric), cmp.Compare(m.Role, o.Role), cmp.Compare(m.Namespace, o.Namespace), cmp.Compare(m.Service, o.Service),
		cmp.Compare(m.Address, o.Address), cmp.Compare(m.Port, o.Port), cmp.Compare(m.Route, o.Route), cmp.Compare(m.Method, o.Method), cmp.Compare(m.Device, o.Device))
}
