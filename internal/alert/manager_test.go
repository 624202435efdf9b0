package alert

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/promql"

	"github.com/perfagent/perfagent/internal/notify"
	"github.com/perfagent/perfagent/internal/statefile"
)

// fakeSource answers an expression with what a test says; what is recorded is found under its name.
type fakeSource struct {
	answers  map[string]promql.Vector
	errs     map[string]error
	recorded map[string]float64 // latest value by series; a stale marker removes it
}

func newSource() *fakeSource {
	return &fakeSource{answers: map[string]promql.Vector{}, errs: map[string]error{}, recorded: map[string]float64{}}
}

// Vector implements Source.
func (s *fakeSource) Vector(_ context.Context, expr string, _ time.Time) (promql.Vector, error) {
	return s.answers[expr], s.errs[expr]
}

// Record implements Source.
func (s *fakeSource) Record(_ time.Time, samples promql.Vector) error {
	for _, sample := range samples {
		if value.IsStaleNaN(sample.F) {
			delete(s.recorded, sample.Metric.String())
		} else {
			s.recorded[sample.Metric.String()] = sample.F
		}
	}
	return nil
}

// set makes an expression have one element for each instance.
func (s *fakeSource) set(expr string, instances ...string) {
	s.answers[expr] = nil
	for i, name := range instances {
		s.answers[expr] = append(s.answers[expr], promql.Sample{Metric: labels.FromStrings("__name__", expr, "instance", name), F: float64(i + 1)})
	}
}

// fakeSink keeps what it is told as text.
type fakeSink struct {
	told []string
	now  func() time.Time
}

// Send implements Sink.
func (s *fakeSink) Send(alerts []notify.Alert) {
	for _, a := range alerts {
		state := "fires"
		if !a.EndsAt.IsZero() && !a.EndsAt.After(s.now()) {
			state = "over"
		}
		s.told = append(s.told, fmt.Sprintf("%s %s %s since %s", a.Labels["alertname"], a.Labels["instance"], state, a.StartsAt.UTC().Format("15:04:05")))
	}
}

// rig is a Manager with a clock that a test moves.
type rig struct {
	*testing.T
	source *fakeSource
	sink   *fakeSink
	*Manager
	clock time.Time
	state string
}

var midnight = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)

func newRig(t *testing.T, file string) *rig {
	r := &rig{T: t, source: newSource(), clock: midnight, state: filepath.Join(t.TempDir(), "a", "alerts.state")}
	r.sink = &fakeSink{now: func() time.Time { return r.clock }}
	r.start(file)
	return r
}

// start begins anew, with the state that was left.
func (r *rig) start(file string) {
	r.Manager = New(Options{Source: r.source, Sink: r.sink, StateFile: r.state, Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return r.clock }})
	r.apply(file)
}

func (r *rig) apply(file string) {
	r.Helper()
	rules, err := Parse([]File{{"f.yml", []byte(file)}}, nil, nil)
	if err != nil {
		r.Fatal(err)
	}
	r.Apply(rules)
}

// to evaluates everything up to a time of the day, every 15 s.
func (r *rig) to(at string) {
	r.Helper()
	end, err := time.Parse(time.DateTime, "2026-03-01 "+at)
	if err != nil {
		r.Fatal(err)
	}
	for ; !r.clock.After(end); r.clock = r.clock.Add(IntervalDefault) {
		now := r.clock.Add(settle)
		r.Evaluate(context.Background(), now)
	}
}

// expect compares what the Sink was told since the last time.
func (r *rig) expect(want ...string) {
	r.Helper()
	if got := strings.Join(r.sink.told, "\n"); got != strings.Join(want, "\n") {
		r.Errorf("told:\n%s\nwant:\n%s", got, strings.Join(want, "\n"))
	}
	r.sink.told = nil
}

const oneRule = `
groups:
- name: g
  rules:
  - alert: Down
    expr: down
    for: 30s
`

// An alert is pending for its `for`, tells the Sink once that it fires, once a minute that it goes on, and once that it is over.
func TestLifeCycle(t *testing.T) {
	r := newRig(t, oneRule)
	r.source.set("down", "a")
	r.to("00:00:15")
	r.expect()
	if c := r.Counts(); c.Pending != 1 || c.Firing != 0 || r.source.recorded[`{__name__="ALERTS", alertname="Down", alertstate="pending", instance="a"}`] != 1 {
		t.Errorf("%+v %v", c, r.source.recorded)
	}
	r.to("00:01:15")
	r.expect("Down a fires since 00:00:30")
	r.to("00:02:30")
	r.expect("Down a fires since 00:00:30", "Down a fires since 00:00:30")
	r.source.set("down")
	r.to("00:30:00")
	r.expect("Down a over since 00:00:30")
	if len(r.source.recorded) != 0 {
		t.Errorf("series that are not stale: %v", r.source.recorded)
	}
	over := r.Resolved()
	if len(over) != 1 || over[0].ResolvedAt.Format("15:04:05") != "00:02:45" || over[0].Labels["instance"] != "a" {
		t.Errorf("%+v", over)
	}
	if r.groups[0].rules[0].active[0] != nil || len(r.groups[0].rules[0].active) != 0 {
		t.Error("what is over for a quarter of an hour is kept")
	}
	r.clock = r.clock.Add(25 * time.Hour)
	if len(r.Resolved()) != 0 {
		t.Error("an alert of yesterday is shown")
	}
}

// A firing alert goes on with the same start after a restart, also where its rule has no value at first, and is over when the
// windows have had time to fill; a pending one goes on as if the agent had not been away, but not after an hour.
func TestRestart(t *testing.T) {
	r := newRig(t, oneRule)
	r.source.set("down", "a")
	r.to("00:01:00")
	r.expect("Down a fires since 00:00:30")
	r.source.set("down", "a", "b")
	r.to("00:01:15") // b is pending since then
	r.save(r.clock)
	r.source.set("down", "b")
	r.clock = r.clock.Add(20 * time.Minute)
	r.start(oneRule)
	r.expect("Down a fires since 00:00:30") // at once
	r.to("00:21:30")
	if c := r.Counts(); c.Firing != 1 || c.Pending != 1 {
		t.Errorf("%+v", c)
	}
	r.to("00:22:00")
	r.expect("Down b fires since 00:21:45")
	r.to("00:28:00")
	if told := strings.Join(r.sink.told, "\n"); strings.Count(told, "a over since 00:00:30") != 1 || strings.Contains(told, "b over") {
		t.Error(told)
	}
	r.sink.told = nil

	r.source.set("down", "b", "c")
	r.to("00:28:15")
	r.save(r.clock)
	r.clock = r.clock.Add(2 * time.Hour)
	r.sink.told = nil
	r.start(oneRule)
	if c := r.Counts(); c.Firing != 1 || c.Pending != 0 {
		t.Errorf("after two hours %+v", c)
	}
	r.expect("Down b fires since 00:21:45")
	r.clock = r.clock.Add(time.Minute)
	r.start("groups: []\n") // the rule is gone with the restart
	r.expect("Down b over since 00:21:45")
}

// Two rules of one name and the same labels in a group have each their own alerts after a restart: the second's do not go on at the first,
// which would tell their end while they fire.
func TestRestartOfRulesAlike(t *testing.T) {
	const file = "groups: [{name: g, rules: [{alert: Down, expr: first, for: 30s}, {alert: Down, expr: second, for: 30s}]}]\n"
	r := newRig(t, file)
	r.source.set("first", "a")
	r.source.set("second", "b")
	r.to("00:01:00")
	r.expect("Down a fires since 00:00:30", "Down b fires since 00:00:30")
	r.save(r.clock)
	r.start(file)
	r.to("00:10:00")
	if told := strings.Join(r.sink.told, "\n"); strings.Contains(told, "over") || strings.Count(told, "since 00:00:30") != strings.Count(told, "since") {
		t.Error(told)
	}
	if c := r.Counts(); c.Firing != 2 || c.Pending != 0 {
		t.Errorf("%+v", c)
	}
}

// A reload that takes the first of two rules of one name and the same labels away ends its alerts, and no others.
func TestReloadOfRulesAlike(t *testing.T) {
	const second = "{alert: Down, expr: second, for: 30s}]}]\n"
	r := newRig(t, "groups: [{name: g, rules: [{alert: Down, expr: first, for: 30s}, "+second)
	r.source.set("first", "a")
	r.source.set("second", "b")
	r.to("00:01:00")
	r.expect("Down a fires since 00:00:30", "Down b fires since 00:00:30")
	r.apply("groups: [{name: g, rules: [" + second)
	r.expect("Down a over since 00:00:30")
	r.to("00:03:00")
	if told := strings.Join(r.sink.told, "\n"); strings.Count(told, "Down b fires since 00:00:30") != strings.Count(told, "Down") {
		t.Error(told)
	}
}

// A state that is damaged at any place, or of another release, is set aside and not believed.
func TestStateDamage(t *testing.T) {
	r := newRig(t, oneRule)
	r.source.set("down", "a")
	r.to("00:01:00")
	r.expect("Down a fires since 00:00:30")
	whole, err := os.ReadFile(r.state)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(r.state); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info, err)
	}
	for i := 0; i < len(whole); i += 7 {
		for _, bad := range [][]byte{whole[:i], append(append(append([]byte{}, whole[:i]...), whole[i]^0x10), whole[i+1:]...)} {
			if s, err := parseState(bad); err == nil && len(s.Alerts) != 1 {
				t.Fatalf("damaged at %d: %+v", i, s)
			}
		}
	}
	if _, err := parseState([]byte(strings.Replace(string(whole), " 1 ", " 2 ", 1))); err == nil || !strings.Contains(err.Error(), "version 2") {
		t.Error(err)
	}
	whole[len(whole)/2] ^= 1
	if err := os.WriteFile(r.state, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	r.start(oneRule)
	if c := r.Counts(); c.Firing != 0 || c.StateDamaged != 1 {
		t.Errorf("%+v", c)
	}
	if kept, err := os.ReadFile(r.state + ".damaged.0"); err != nil || string(kept) != string(whole) {
		t.Error("the damaged file is not kept")
	}
	r.to("00:03:00") // it goes on, and writes a new one
	if _, err := readState(r.state); err != nil {
		t.Error(err)
	}
}

// Where the state cannot be written, rules go on, and it is counted and told.
func TestStateDisk(t *testing.T) {
	r := newRig(t, oneRule)
	if err := os.WriteFile(filepath.Dir(r.state), nil, 0o600); err != nil { // a file where the directory should be
		t.Fatal(err)
	}
	r.source.set("down", "a")
	r.to("00:01:00")
	r.expect("Down a fires since 00:00:30")
	if c := r.Counts(); c.StateFailures == 0 || c.Firing != 1 {
		t.Errorf("%+v", c)
	}
	if trouble := r.Trouble(); len(trouble) != 1 || !strings.Contains(trouble[0], "cannot be written") {
		t.Errorf("%q", trouble)
	}
}

// A state that is too large keeps what fires before what is pending.
func TestStateBound(t *testing.T) {
	saved := &savedState{}
	for i := range 20_000 {
		a := savedAlert{Labels: map[string]string{"instance": strings.Repeat("x", 1000)}, ActiveAt: midnight}
		if i%100 == 99 {
			a.FiredAt = midnight
		}
		saved.Alerts = append(saved.Alerts, a)
	}
	data, err := encodeState(saved)
	if err != nil || len(data) > stateBytesMax+100 {
		t.Fatal(len(data), err)
	}
	s, err := parseState(data)
	fired := 0
	for _, a := range s.Alerts {
		if !a.FiredAt.IsZero() {
			fired++
		}
	}
	if err != nil || fired != 200 || len(s.Alerts) < 1000 {
		t.Error(fired, len(s.Alerts), err)
	}
}

// A reload keeps the alerts of rules that have the same name and labels, resolves those of rules that are gone, also where two rules
// were the same, and marks their series stale.
func TestReload(t *testing.T) {
	two := oneRule + "  - alert: Down\n    expr: down2\n  - record: kept\n    expr: down\n"
	r := newRig(t, two)
	r.source.set("down", "a")
	r.source.set("down2", "b")
	r.to("00:01:00")
	r.expect("Down b fires since 00:00:00", "Down a fires since 00:00:30", "Down b fires since 00:00:00")
	r.apply(oneRule)
	r.expect("Down b over since 00:00:00")
	r.to("00:01:15")
	for series := range r.source.recorded {
		if strings.Contains(series, `"b"`) || strings.Contains(series, "kept") {
			t.Error("not stale:", series)
		}
	}
	r.apply(strings.Replace(oneRule, "for: 30s", "for: 10m", 1))
	r.to("00:01:30")
	if c := r.Counts(); c.Pending != 1 || c.Firing != 0 {
		t.Errorf("a longer for: %+v", c)
	}
	r.expect()
	r.apply(oneRule)
	r.to("00:01:45")
	r.expect("Down a fires since 00:01:45")
	r.apply("groups: []\n")
	r.expect("Down a over since 00:01:45")
}

// Beyond its limit a group's alerts are dropped, and those that fired are resolved; a rule that fails leaves its alerts as they were.
func TestLimitAndFailure(t *testing.T) {
	r := newRig(t, strings.Replace(oneRule, "name: g", "name: g\n  limit: 1", 1))
	r.source.set("down", "a")
	r.to("00:00:30")
	r.expect("Down a fires since 00:00:30")
	r.source.errs["down"] = errors.New("the history is away")
	r.to("00:01:45")
	r.expect("Down a fires since 00:00:30")
	view := r.Groups(true)[0]
	if v := view.Rules[0]; v.Health != HealthBad || v.Err != "the history is away" || len(v.Alerts) != 1 || view.Failures != 5 || view.Evaluations != 8 {
		t.Errorf("%+v", view)
	}
	delete(r.source.errs, "down")
	r.source.set("down", "a", "b")
	r.to("00:02:00")
	r.expect("Down a over since 00:00:30")
	if v := r.Groups(true)[0].Rules[0]; v.Err != "exceeded limit of 1 with 2 alerts" || len(v.Alerts) != 0 {
		t.Errorf("%+v", v)
	}
}

// Evaluations that time has passed over are counted as missed, and a clock that is set back does not stop them.
func TestSchedule(t *testing.T) {
	r := newRig(t, oneRule)
	r.to("00:00:30")
	r.Evaluate(context.Background(), midnight.Add(10*time.Minute+settle))
	if g := r.Groups(false)[0]; g.Iterations != 4 || g.Missed != 37 || !g.Last.Equal(midnight.Add(10*time.Minute)) {
		t.Errorf("%+v", g)
	}
	r.Evaluate(context.Background(), midnight.Add(-time.Hour+settle))
	if g := r.Groups(false)[0]; g.Iterations != 5 || g.Missed != 37 {
		t.Errorf("set back: %+v", g)
	}
	if d := r.until(); d <= 0 || d > time.Hour+time.Minute {
		t.Error(d)
	}
}

// What is wrong with a rule file is said with the file and the line.
func TestMistakes(t *testing.T) {
	const head = "groups:\n- name: g\n  rules:\n"
	for _, c := range []struct{ file, want string }{
		{head + "  - alert: A\n    expr: sum(\n", `f.yml:5: group "g", rule 1, "A": could not parse expression: `},
		{head + "  - alert: A\n    expr: up\n    fort: 5m\n", "f.yml:6: field fort not found"},
		{head + "  - alert: A\n    expr: up\n    labels: {a: '{{ .Nosuch'}\n", `f.yml:4: group "g", rule 1, "A": label "a": `},
		{head + "  - alert: A\n    expr: up\n    annotations: {a: '{{ nosuch 1 }}'}\n", `f.yml:4: group "g", rule 1, "A": annotation "a": `},
		{head + "  - record: a b{}\n    expr: up\n", `f.yml:4: group "g", rule 1, "a b{}": `},
		{head + "  - record: a\n    expr: up\n    for: 5m\n", `f.yml:4: group "g", rule 1, "a": invalid field 'for'`},
		{"groups:\n- name: g\n- name: g\n", `f.yml: groupname: "g" is repeated`},
		{"groups:\n- name: g\n  interval: 10ms\n", `f.yml: group "g": the interval 10ms is below 1s`},
		{"groups:\n\t- x\n", "f.yml:2: found character that cannot start any token"},
		{"nothing: 1\n", "f.yml:1: field nothing not found"},
	} {
		_, err := Parse([]File{{"f.yml", []byte(c.file)}}, nil, nil)
		if err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%q:\n got %v\nwant %s", c.file, err, c.want)
		}
	}
	if _, err := Parse([]File{{"empty.yml", nil}}, nil, nil); err != nil {
		t.Error(err)
	}
}

// Annotations are expanded when somebody reads them, with the labels and the value of the latest evaluation.
func TestTemplates(t *testing.T) {
	r := newRig(t, strings.Replace(oneRule, "    for: 30s", "    annotations: {summary: '{{ $labels.instance }} {{ $value | humanize }}', broken: '{{ index $labels 1 }}'}", 1))
	r.source.set("down", "a", "b")
	r.to("00:00:00")
	alerts := r.Groups(true)[0].Rules[0].Alerts
	if len(alerts) != 2 || alerts[1].Annotations["summary"] != "b 2" || !strings.HasPrefix(alerts[1].Annotations["broken"], "<error expanding template: ") {
		t.Errorf("%+v", alerts)
	}
}

// After a restart the Sink knows that an alert fired before already; one that was not told before the agent was killed is new. What holds as soon as rules are
// evaluated again and is not remembered may be older, wherever its memory went; what begins later is not.
func TestWhatARestartForgets(t *testing.T) {
	for name, forget := range map[string]func(file string) error{
		"nothing": func(string) error { return nil },
		"lost":    os.Remove,
		"damaged": func(file string) error { return os.WriteFile(file, []byte("damage"), 0o600) },
		"of another version": func(file string) error {
			data, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			return os.WriteFile(file, []byte(strings.Replace(string(data), stateMagic+" 1 ", stateMagic+" 9 ", 1)), 0o600)
		},
	} {
		r := newRig(t, oneRule)
		sink := &lockedSink{}
		r.to("00:06:00")
		r.source.set("down", "a")
		r.to("00:08:00")
		r.save(r.clock)
		if err := forget(r.state); err != nil {
			t.Fatal(err)
		}
		r.clock = r.clock.Add(10 * time.Minute)
		r.start(oneRule)
		r.sink.told = nil
		r.Manager.sink = sink
		r.to("00:25:00")
		r.source.set("down", "a", "b")
		r.to("00:30:00")
		first := map[string]notify.Alert{}
		for _, a := range sink.told {
			if _, known := first[a.Labels["instance"]]; !known {
				first[a.Labels["instance"]] = a
			}
		}
		a, b := first["a"], first["b"]
		remembered := name == "nothing"
		if a.Resumed != remembered || a.Doubtful == remembered || a.StartsAt.Equal(midnight.Add(6*time.Minute+45*time.Second)) != remembered || b.Resumed || b.Doubtful || b.StartsAt.IsZero() {
			t.Errorf("%s: %+v\n%+v", name, a, b)
		}
		r.clock = r.clock.Add(time.Minute)
		r.start(oneRule) // what was doubtful stays so
		r.Manager.sink = sink
		before := len(sink.told)
		r.to("00:40:00")
		for _, told := range sink.told[before:] {
			if told.Labels["instance"] == "a" && told.Doubtful == remembered || told.Labels["instance"] == "b" && told.Doubtful || !told.Resumed {
				t.Errorf("%s, after another restart: %+v", name, told)
			}
		}
	}
	r := newRig(t, oneRule)
	r.source.set("down", "a")
	r.to("00:00:15")
	r.Manager.sink = nil // it is killed between the state and the telling
	r.to("00:00:30")
	r.start(oneRule)
	sink := &lockedSink{}
	r.Manager.sink = sink
	r.to("00:03:00")
	if len(sink.told) == 0 || sink.told[0].Resumed || !sink.told[0].StartsAt.Equal(midnight.Add(30*time.Second)) {
		t.Errorf("%+v", sink.told)
	}
}

// Damaged states are kept under numbered names, four of them.
func TestDamagedStatesAreKept(t *testing.T) {
	r := newRig(t, oneRule)
	if err := os.MkdirAll(filepath.Dir(r.state), 0o700); err != nil {
		t.Fatal(err)
	}
	for i := range statefile.AsideMax + 2 {
		if err := os.WriteFile(r.state, fmt.Append(nil, "damage ", i), 0o600); err != nil {
			t.Fatal(err)
		}
		r.start(oneRule)
	}
	kept, err := filepath.Glob(r.state + ".damaged.*")
	if err != nil || len(kept) != statefile.AsideMax {
		t.Errorf("%v %v", kept, err)
	}
	for i, want := range []string{"damage 0", "damage 1", "damage 2", "damage 5"} {
		if got, err := os.ReadFile(fmt.Sprintf("%s.damaged.%d", r.state, i)); err != nil || string(got) != want {
			t.Errorf("%d: %q %v", i, got, err)
		}
	}
}

// A megabyte in a label, whether of a series or of a template, reaches neither /alerts nor the state nor a message, and two alerts that differ
// behind the cut stay two; annotations are cut as well.
func TestLargeLabels(t *testing.T) {
	r := newRig(t, strings.Replace(oneRule, "    for: 30s", "    labels: {team: '{{ $labels.instance }}{{ $labels.instance }}'}\n    annotations: {summary: '{{ $labels.instance }}', text: '"+strings.Repeat("é", 5000)+"'}", 1))
	sink := &lockedSink{}
	r.Manager.sink = sink
	long := strings.Repeat("é", 1<<19)
	r.source.set("down", long+"1", long+"2", "short")
	r.to("00:00:15")
	alerts := r.Groups(true)[0].Rules[0].Alerts
	if len(alerts) != 3 || len(sink.told) != 3 || r.Groups(false)[0].Rules[0].Err != "" {
		t.Fatalf("%d alerts, %d told: %s", len(alerts), len(sink.told), r.Groups(false)[0].Rules[0].Err)
	}
	names := map[string]bool{}
	for _, a := range alerts {
		names[a.Labels["instance"]] = true
		for name, value := range a.Labels {
			if len(value) > 1<<10 {
				t.Errorf("%s has %d bytes", name, len(value))
			}
		}
		for name, value := range a.Annotations {
			if len(value) > 2<<10 || name == "text" && !strings.HasSuffix(value, "é…") {
				t.Errorf("%s has %d bytes", name, len(value))
			}
		}
	}
	if len(names) != 3 || !names["short"] {
		t.Errorf("%v", names)
	}
	if info, err := os.Stat(r.state); err != nil || info.Size() > 40<<10 {
		t.Errorf("the state has %d bytes, %v", info.Size(), err)
	}
	keys := map[string]bool{}
	for _, a := range sink.told {
		keys[a.Key()] = true
	}
	if len(keys) != 3 {
		t.Errorf("%d identities", len(keys))
	}
}

// Links of alerts lead below the address that the agent is reached at, to the alerts of their name and service.
func TestLinks(t *testing.T) {
	r := newRig(t, oneRule)
	r.outer.url = &url.URL{Scheme: "https", Host: "proxy.example", Path: "/perfagent"}
	if got := r.generator(map[string]string{"alertname": "Down & out", "service_name": "shop", "http_route": "/a"}); got != "https://proxy.example/perfagent/alerts?alertname=Down+%26+out&service_name=shop" {
		t.Error(got)
	}
}
