// Package alerts compares the rules of internal/alert with Prometheus' own. It is a module of its own, so that what Prometheus'
// rules need is no dependency of the agent.
package alerts

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/rules"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/util/teststorage"

	"github.com/perfagent/perfagent/internal/alert"
)

var oracleRules = flag.Int("alerts.rules", 10_000, "rules that are compared with the oracle")

const (
	step           = alert.IntervalDefault
	rulesOfRound   = 40
	seriesOfRound  = 12
	stepsOfRound   = 60
	settle         = time.Second // after its time an evaluation begins
	reloadsOfRound = 3
	// compareRecorded is after how many steps recorded series are compared, of twice as many.
	compareRecorded = 10
)

// side is one of the two that are compared, with series of its own.
type side struct {
	storage *teststorage.TestStorage
	query   rules.QueryFunc
}

func newSide(t *testing.T, engine *promql.Engine) *side {
	t.Helper()
	// In memory, and not kept until the end of the test, as New does.
	s, err := teststorage.NewWithError(func(o *tsdb.Options) { o.WALSegmentSize = -1 })
	if err != nil {
		t.Fatal(err)
	}
	return &side{s, rules.EngineQueryFunc(engine, s)}
}

func (s *side) close(t *testing.T) {
	t.Helper()
	if err := s.storage.Close(); err != nil {
		t.Error(err)
	}
}

// Vector implements alert.Source.
func (s *side) Vector(ctx context.Context, expr string, at time.Time) (promql.Vector, error) {
	return s.query(ctx, expr, at)
}

// Record implements alert.Source.
func (s *side) Record(_ time.Time, samples promql.Vector) error {
	app := s.storage.Appender(context.Background())
	for _, sample := range samples {
		if _, err := app.Append(0, sample.Metric, sample.T, sample.F); err != nil && !value.IsStaleNaN(sample.F) {
			return err
		}
	}
	return app.Commit()
}

// round is one set of random series and rules, that changes now and then.
type round struct {
	*testing.T
	random *rand.Rand
	file   string
	start  time.Time
	sides  [2]*side // oracle, ours

	manager *rules.Manager
	groups  []*rules.Group
	ours    *alert.Manager
	now     time.Time
	texts   []string // of rules
	made    int
}

// Both sides see the same random series and evaluate the same random rule files, which change while alerts are active; now and then
// evaluations are missed. After every evaluation all alerts, with annotations, times and values, the health of all rules, and
// all series that were recorded are the same.
func TestOracle(t *testing.T) {
	wanted := *oracleRules
	if testing.Short() {
		wanted /= 20
	}
	engine := promql.NewEngine(promql.EngineOpts{MaxSamples: 1e6, Timeout: time.Minute, EnableAtModifier: true, EnableNegativeOffset: true,
		Parser: parser.NewParser(parser.Options{}), Logger: slog.New(slog.DiscardHandler)})
	compared, alerts, states := 0, 0, map[string]int{}
	for seed := uint64(1); compared < wanted; seed++ {
		r := newRound(t, engine, seed)
		for i := range stepsOfRound {
			if i > 0 && r.random.IntN(stepsOfRound) < reloadsOfRound {
				r.reload(true)
			}
			at := r.start.Add(time.Duration(i) * step)
			r.feed(at)
			if i > 0 && r.random.IntN(12) == 0 {
				continue // a missed evaluation
			}
			r.evaluate(at)
			alerts += r.compare(at, states)
			if i%compareRecorded == compareRecorded-1 {
				r.compareRecorded(at, states)
			}
		}
		compared += len(r.texts)
		for _, s := range r.sides {
			s.close(t)
		}
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	t.Logf("%d rules, %d comparisons of an active alert, 0 differences; %v", compared, alerts, states)
	for _, state := range []string{"pending", "firing", "kept firing", "err", "recorded"} {
		if states[state] == 0 {
			t.Errorf("nothing was ever %s", state)
		}
	}
}

func newRound(t *testing.T, engine *promql.Engine, seed uint64) *round {
	r := &round{T: t, random: rand.New(rand.NewPCG(seed, 7)), file: filepath.Join(t.TempDir(), "rules.yml"), start: time.Unix(1_700_000_000, 0).Truncate(step).UTC()}
	for i := range r.sides {
		r.sides[i] = newSide(t, engine)
	}
	r.manager = rules.NewManager(&rules.ManagerOptions{QueryFunc: r.sides[0].query, NotifyFunc: func(context.Context, string, ...*rules.Alert) {},
		Context: context.Background(), AppendableV2: r.sides[0].storage, Queryable: r.sides[0].storage, Logger: slog.New(slog.DiscardHandler),
		ResendDelay: time.Minute, NameValidationScheme: model.UTF8Validation, Parser: parser.NewParser(parser.Options{})})
	r.ours = alert.New(alert.Options{Source: r.sides[1], Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return r.now }})
	r.now = r.start
	for range rulesOfRound {
		r.texts = append(r.texts, r.rule())
	}
	r.reload(false)
	return r
}

func (r *round) pick(all ...string) string { return all[r.random.IntN(len(all))] }

// rule is a random rule as YAML.
func (r *round) rule() string {
	n := r.random.IntN(seriesOfRound / 3)
	source := fmt.Sprintf("m%d", n)
	if r.random.IntN(4) == 0 {
		source = fmt.Sprintf("rec%d", r.random.IntN(4))
	}
	expr := r.pick(
		fmt.Sprintf("%s > %d", source, r.random.IntN(10)),
		fmt.Sprintf("%s{instance=~\"[ab]\"} <= %d", source, r.random.IntN(10)),
		fmt.Sprintf("sum by (job) (%s) > %d", source, 5+r.random.IntN(15)),
		fmt.Sprintf("rate(%s[2m]) != 0", source),
		fmt.Sprintf("absent(%s)", source),
		fmt.Sprintf("%s or vector(%d)", source, r.random.IntN(3)),
		fmt.Sprintf("%s unless %s > 4", source, source),
		fmt.Sprintf("%s / 0", source),
		"ALERTS{alertstate=\"firing\"} > 0",
		fmt.Sprintf("%s > on() group_left() scalar(%s)", source, source),
		"scalar(m0) > bool 3")
	labels := r.pick("", "{severity: warning}", "{severity: warning, instance: same}", `{level: '{{ if gt $value 5.0 }}high{{ else }}low{{ end }}'}`,
		`{of: '{{ $labels.instance }}', severity: ""}`, `{first: '{{ with query "m1" }}{{ . | first | value | humanize }}{{ end }}'}`)
	// Each rule has a number of its own: what a storage does with two rules that record one series is not what is compared.
	r.made++
	own := fmt.Sprintf("{number: n%d", r.made)
	if labels == "" {
		labels = "{}"
	}
	labels = own + strings.Replace(strings.Replace(labels, "{", ", ", 1), ", }", "}", 1)
	if r.random.IntN(3) == 0 {
		return fmt.Sprintf("{record: rec%d, expr: %q, labels: %s}", r.random.IntN(4), expr, labels)
	}
	text := fmt.Sprintf("{alert: A%d, expr: %q, for: %ds, keep_firing_for: %ds", r.random.IntN(30), expr, 15*r.random.IntN(8)*r.random.IntN(2), 15*r.random.IntN(8)*r.random.IntN(2))
	return text + ", labels: " + labels + r.pick("", `, annotations: {summary: 'fixed'}`,
		`, annotations: {summary: '{{ $labels.instance }} has {{ $value | humanize }} of {{ $labels.job }}', other: '{{ printf "%.3f" $value }} {{ $externalURL }}'}`,
		`, annotations: {summary: '{{ range query "m0" }}{{ .Labels.instance }}={{ .Value }} {{ end }}', broken: '{{ template "none" }}'}`) + "}"
}

// reload writes a file of which some rules have changed, and has both sides load it.
func (r *round) reload(change bool) {
	if change {
		for range 4 {
			switch i := r.random.IntN(len(r.texts)); r.random.IntN(3) {
			case 0:
				r.texts[i] = r.rule()
			case 1:
				r.texts[i] = strings.Replace(r.texts[i], "for: 0s", "for: 45s", 1)
			case 2:
				j := i/8*8 + r.random.IntN(8) // within its group
				r.texts[i], r.texts[j] = r.texts[j], r.texts[i]
			}
		}
	}
	var file strings.Builder
	file.WriteString("groups:\n")
	for i, rule := range r.texts {
		if i%8 == 0 {
			fmt.Fprintf(&file, "- {name: g%d, interval: 15s, limit: %d, query_offset: %ds, labels: {%s}, rules: [\n", i/8, []int{0, 0, 3}[i/8%3], []int{0, 0, 0, 30}[i/8%4], []string{"", "team: x"}[i/8%2])
		}
		file.WriteString("    " + rule)
		if i%8 == 7 || i == len(r.texts)-1 {
			file.WriteString("]}\n")
		} else {
			file.WriteString(",\n")
		}
	}
	if err := os.WriteFile(r.file, []byte(file.String()), 0o600); err != nil {
		r.Fatal(err)
	}
	r.loadOracle()
	ours, err := alert.Parse([]alert.File{{Name: r.file, Data: []byte(file.String())}}, nil, nil)
	if err != nil {
		r.Fatalf("%v\n%s", err, file.String())
	}
	r.ours.Apply(ours)
}

// loadOracle does what Prometheus' manager does, without its timers.
func (r *round) loadOracle() {
	loaded, errs := r.manager.LoadGroups(step, labels.EmptyLabels(), "", nil, false, r.file)
	if len(errs) > 0 {
		r.Fatal(errs)
	}
	var groups []*rules.Group
	for _, g := range loaded {
		for _, rule := range g.AlertingRules() {
			rule.SetRestored(true)
		}
		if i := slices.IndexFunc(r.groups, func(o *rules.Group) bool { return o.Name() == g.Name() }); i >= 0 {
			if r.groups[i].Equals(g) {
				g = r.groups[i]
			} else {
				g.CopyState(r.groups[i])
			}
		}
		groups = append(groups, g)
	}
	slices.SortFunc(groups, func(a, b *rules.Group) int { return strings.Compare(a.Name(), b.Name()) })
	r.groups = groups
}

// feed gives both sides the next samples of each series: steps, gaps, ends, and values that are no numbers.
func (r *round) feed(at time.Time) {
	var samples promql.Vector
	for i := range seriesOfRound {
		l := labels.FromStrings("__name__", fmt.Sprintf("m%d", i/3), "instance", string(rune('a'+i%3)), "job", []string{"x", "y"}[i%2])
		v := math.Floor(10 * r.random.Float64())
		switch r.random.IntN(15) {
		case 0:
			v = math.NaN()
		case 1:
			v = math.Float64frombits(value.StaleNaN)
		case 2:
			v = math.Inf(1)
		case 3, 4, 5:
			continue
		}
		samples = append(samples, promql.Sample{Metric: l, T: at.UnixMilli(), F: v})
	}
	for _, s := range r.sides {
		if err := s.Record(at, samples); err != nil {
			r.Fatal(err)
		}
	}
}

func (r *round) evaluate(at time.Time) {
	for _, g := range r.groups {
		g.Eval(context.Background(), at)
	}
	r.now = at.Add(settle)
	r.ours.Evaluate(context.Background(), r.now)
}

// compare compares all that both sides have now, and returns how many alerts are active.
func (r *round) compare(at time.Time, states map[string]int) (active int) {
	views := r.ours.Groups(true)
	for i, g := range r.groups {
		for j, rule := range g.Rules() {
			want, got := describe(rule), describeOurs(&views[i].Rules[j])
			if want != got {
				r.Fatalf("%s: group %s, rule %d: %s\nwant %s\n got %s", at, g.Name(), j, rule, want, got)
			}
			states[string(rule.Health())]++
			for _, a := range views[i].Rules[j].Alerts {
				active++
				states[a.State.String()]++
				if !a.KeepFiringSince.IsZero() {
					states["kept firing"]++
				}
			}
		}
	}
	return active
}

// compareRecorded compares what rules have recorded since the last time.
func (r *round) compareRecorded(at time.Time, states map[string]int) {
	want, got := r.recorded(0, at), r.recorded(1, at)
	if !slices.Equal(want, got) {
		r.Fatalf("%s: recorded:\nwant %s\n got %s", at, strings.Join(without(want, got), "\n     "), strings.Join(without(got, want), "\n     "))
	}
	states["recorded"] += len(got)
}

// describe is all of a rule of the oracle that must be the same.
func describe(rule rules.Rule) string {
	text := fmt.Sprintf("%s %s err=%v", rule.Name(), rule.Health(), rule.LastError())
	ar, ok := rule.(*rules.AlertingRule)
	if !ok {
		return text
	}
	var all []string
	for _, a := range ar.ActiveAlerts() {
		all = append(all, fmt.Sprintf("\n  %s %s %s %x active=%s fired=%s kept=%s", a.Labels, a.State, a.Annotations, math.Float64bits(a.Value), stamp(a.ActiveAt), stamp(a.FiredAt), stamp(a.KeepFiringSince)))
	}
	slices.Sort(all)
	return text + " " + ar.State().String() + strings.Join(all, "")
}

func describeOurs(v *alert.RuleView) string {
	err := v.Err
	if err == "" {
		err = "<nil>"
	}
	text := fmt.Sprintf("%s %s err=%s", v.Name, v.Health, err)
	if !v.Alerting {
		return text
	}
	var all []string
	for _, a := range v.Alerts {
		all = append(all, fmt.Sprintf("\n  %s %s %s %x active=%s fired=%s kept=%s", labels.FromMap(a.Labels), a.State, labels.FromMap(a.Annotations), math.Float64bits(a.Value), stamp(a.ActiveAt), stamp(a.FiredAt), stamp(a.KeepFiringSince)))
	}
	slices.Sort(all)
	return text + " " + v.State.String() + strings.Join(all, "")
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return fmt.Sprint(t.UnixMilli())
}

// recorded are the series that rules of a side have left, as of a time.
func (r *round) recorded(i int, at time.Time) (all []string) {
	q, err := r.sides[i].storage.Querier(at.Add(-2*compareRecorded*step).UnixMilli(), at.UnixMilli())
	if err != nil {
		r.Fatal(err)
	}
	defer q.Close()
	set := q.Select(context.Background(), true, nil, labels.MustNewMatcher(labels.MatchRegexp, "__name__", "ALERTS.*|rec.*"))
	for set.Next() {
		all = append(all, series(set.At()))
	}
	if set.Err() != nil {
		r.Fatal(set.Err())
	}
	return all
}

func without(all, some []string) []string {
	return slices.DeleteFunc(slices.Clone(all), func(text string) bool { return slices.Contains(some, text) })
}

// series is the last samples of a series as text, stale markers included.
func series(s storage.Series) string {
	text := s.Labels().String()
	it := s.Iterator(nil)
	for it.Next() != 0 {
		at, v := it.At()
		text += fmt.Sprintf(" %d:%x", at, math.Float64bits(v))
	}
	return text
}
