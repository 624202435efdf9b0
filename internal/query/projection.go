package query

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/perfagent/perfagent/internal/analytics"
	"github.com/perfagent/perfagent/internal/history"
)

// projection is one of the forms in which a series of the history is answered.
type projection struct {
	kind   projectionKind
	suffix string // of the name
	le     string // the label, of buckets
	cell   int    // at which the bucket ends
}

type projectionKind uint8

const (
	plain  projectionKind = iota // a figure, or what a rule recorded
	native                       // a distribution as native histogram
	bucket                       // a distribution's classic bucket: how many values were at or below a bound
	count                        // how many values there were
	sum                          // their sum, in seconds or bytes
)

var plainOnly = []projection{{kind: plain}}

// distributions are the projections of distributions, by unit.
var distributions = [...][]projection{
	analytics.Nanoseconds: distributionProjections(analytics.Nanoseconds),
	analytics.Bytes:       distributionProjections(analytics.Bytes),
}

func distributionProjections(u analytics.Unit) []projection {
	all := []projection{{kind: native}}
	cells := analytics.BoundCells(u)
	for i, bound := range analytics.ClassicBounds(u) {
		all = append(all, projection{kind: bucket, suffix: "_bucket", le: boundText(bound), cell: int(cells[i])})
	}
	return append(all,
		projection{kind: bucket, suffix: "_bucket", le: "+Inf", cell: analytics.CellsMax},
		projection{kind: count, suffix: "_count"}, projection{kind: sum, suffix: "_sum"})
}

// boundText is a bound as Prometheus 3 stores it, and OpenMetrics writes it: with a point where it has none.
func boundText(v float64) string {
	text := strconv.FormatFloat(v, 'g', -1, 64)
	if !strings.ContainsAny(text, ".e") {
		text += ".0"
	}
	return text
}

// familyNames are the names of distributions.
var familyNames = func() map[string]bool {
	all := map[string]bool{}
	for i := range analytics.Families {
		all[analytics.Families[i].Name] = true
	}
	return all
}()

// suffixes are what distributions' names end with.
var suffixes = []string{"", "_bucket", "_count", "_sum"}

// chooser finds the projections that matchers choose.
type chooser struct {
	ctx   context.Context   // once it is over nothing is chosen: a regular expression may take a millisecond for each value
	rest  []history.Matcher // of other labels than name and le
	names []*labels.Matcher
	les   []*labels.Matcher
}

func newChooser(ctx context.Context, matchers []*labels.Matcher) *chooser {
	c := &chooser{ctx: ctx}
	for _, m := range matchers {
		switch m.Name {
		case labels.MetricName:
			c.names = append(c.names, m)
		case labels.BucketLabel:
			c.les = append(c.les, m)
		default:
			c.rest = append(c.rest, history.Matcher{Name: m.Name, Match: func(value string) bool { return c.matches(m, value) }})
		}
	}
	return c
}

// matchers are what the history is asked for: series of which at least one projection may be chosen. The label le is there on
// projections, or on what a rule recorded.
func (c *chooser) matchers() []history.Matcher {
	names := history.Matcher{Name: labels.MetricName, Match: func(name string) bool {
		if !familyNames[name] {
			return c.nameMatches(name)
		}
		for _, suffix := range suffixes {
			if c.nameMatches(name + suffix) {
				return true
			}
		}
		return false
	}}
	return append([]history.Matcher{names}, c.rest...)
}

// hasDistributions tells whether any distribution may be chosen.
func (c *chooser) hasDistributions() bool {
	for name := range familyNames {
		for _, suffix := range suffixes {
			if c.nameMatches(name + suffix) {
				return true
			}
		}
	}
	return false
}

// onlyDistributions tells whether nothing else may be chosen.
func (c *chooser) onlyDistributions() bool {
	for _, m := range c.names {
		if m.Type == labels.MatchEqual && isDistribution(m.Value) {
			return true
		}
	}
	return false
}

// onlyNumbers tells whether all that is chosen are counts, sums or one bucket of a distribution.
func (c *chooser) onlyNumbers() bool {
	name := ""
	for _, m := range c.names {
		if m.Type == labels.MatchEqual {
			name = m.Value
		}
	}
	switch {
	case !isDistribution(name) || familyNames[name]:
		return false
	case strings.HasSuffix(name, "_bucket"):
		return slices.ContainsFunc(c.les, func(m *labels.Matcher) bool { return m.Type == labels.MatchEqual })
	}
	return true
}

// isDistribution tells whether a name is one of a distribution's.
func isDistribution(name string) bool {
	for _, suffix := range suffixes {
		if family, ok := strings.CutSuffix(name, suffix); ok && familyNames[family] {
			return true
		}
	}
	return false
}

func (c *chooser) matches(m *labels.Matcher, value string) bool {
	return c.ctx.Err() == nil && m.Matches(value)
}

func (c *chooser) nameMatches(name string) bool {
	for _, m := range c.names {
		if !c.matches(m, name) {
			return false
		}
	}
	return true
}

// of returns the projections of a series that are chosen.
func (c *chooser) of(s *history.Series) []projection {
	all := plainOnly
	if s.Kind == history.Distribution {
		all = distributions[s.Unit]
	}
	var chosen []projection
	for i := range all {
		p := &all[i]
		le := p.le
		if p.kind == plain {
			le = labelOf(s.Labels, labels.BucketLabel)
		}
		if c.nameMatches(s.Labels[0].Value+p.suffix) && c.leMatches(le) {
			chosen = append(chosen, *p)
		}
	}
	return chosen
}

func labelOf(all []analytics.Label, name string) string {
	for _, l := range all {
		if l.Name == name {
			return l.Value
		}
	}
	return ""
}

// leMatches also takes a bound without a point, le="1", as /metrics writes it in the text format and older servers store it.
func (c *chooser) leMatches(le string) bool {
	for _, m := range c.les {
		positive := m.Type == labels.MatchEqual || m.Type == labels.MatchRegexp
		short := strings.TrimSuffix(le, ".0")
		if positive && !c.matches(m, le) && !c.matches(m, short) || !positive && (!c.matches(m, le) || !c.matches(m, short)) {
			return false
		}
	}
	return true
}

// labelSetsMax bounds the label sets that are remembered: 2,000 endpoints with some series each. One has about 300 bytes.
const labelSetsMax = 20_000

// labelSets remembers the labels of series that were asked for, which rules ask for again and again.
type labelSets struct {
	mu  sync.Mutex
	all map[labelSetKey]labels.Labels
}

type labelSetKey struct {
	first      *analytics.Label // of the series' labels, which the history remembers as well
	suffix, le string
}

// of returns the labels of a projection of a series.
func (n *labelSets) of(all []analytics.Label, p *projection) labels.Labels {
	key := labelSetKey{&all[0], p.suffix, p.le}
	n.mu.Lock()
	defer n.mu.Unlock()
	if l, known := n.all[key]; known {
		return l
	}
	b := labels.NewScratchBuilder(len(all) + 1)
	for i, l := range all {
		if i == 0 {
			l.Value += p.suffix
		}
		b.Add(l.Name, l.Value)
	}
	if p.le != "" {
		b.Add(labels.BucketLabel, p.le)
	}
	b.Sort()
	made := b.Labels()
	if len(n.all) >= labelSetsMax || n.all == nil {
		n.all = map[labelSetKey]labels.Labels{}
	}
	n.all[key] = made
	return made
}
