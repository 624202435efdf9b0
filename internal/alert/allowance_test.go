package alert

import (
	"bytes"
	"context"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
)

// expand returns what a template of an annotation makes of a series, and its failure.
func expand(t *testing.T, text string) (string, error) {
	t.Helper()
	small, err := thrifty(variables + text)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	told := &telling{sample: promql.Sample{Metric: labels.FromStrings("__name__", "up", "instance", "a{b", "job", "{{"), F: 2.5}, at: midnight}
	source := newSource()
	source.set("down", "x", "y")
	return told.execute(context.Background(), "Down", text, small, source)
}

// A template means the same with its allowance as without, whatever it is made of.
func TestThriftyTemplates(t *testing.T) {
	for text, want := range map[string]string{
		"": "", "plain {text}": "plain {text}", "{{ $labels.instance }}{{ $value }}": "a{b2.5", "{ {{- $value }}": "{2.5", "{{ $value -}} }": "2.5}",
		"{{/* none */}}{{`{{`}}{ {{- /* none */ -}} {x": "{{{{x", "{{ $labels.missing }}|{{ $labels.job }}": "|{{",
		`{{ if gt $value 2.0 }}more{{ else if eq $value 2.0 }}two{{ else }}less{{ end }}`:                            "more",
		`{{ range $i, $s := query "down" }}{{ if $i }}, {{ end }}{{ $s.Labels.instance }}={{ $s | value }}{{ end }}`: "x=1, y=2",
		`{{ range 5 }}{{ if eq . 3 }}{{ break }}{{ end }}{{ if eq . 1 }}{{ continue }}{{ end }}{{ . }}{{ end }}`:     "02",
		`{{ range query "none" }}x{{ else }}nobody{{ end }}`:                                                         "nobody",
		`{{ with query "down" }}{{ . | first | label "instance" }}{{ end }}`:                                         "x",
		`{{ define "a" }}[{{ . }}]{{ end }}{{ template "a" $value }}{{ block "b" 1 }}<{{ . }}>{{ end }}`:             "[2.5]<1>",
		`{{ $x := "a" }}{{ $x = print $x "b" }}{{ $x }}`:                                                             "ab",
		`{{ printf "%05.1f %[2]s %*d" $value "s" 4 7 }}`:                                                             "002.5 s %!*(BADINDEX)",
		`{{ printf "%-6s|" $labels.job }}{{ println 1 2 }}`:                                                          "{{    |1 2\n",
		`{{ reReplaceAll "(a)." "$1$1" "abab" }} {{ match "^a" "abc" }}`:                                             "aaaa true",
		`{{ html "<" }}{{ js "'" }}{{ urlquery "&" }}{{ humanize 1234.0 }}{{ args 1 2 }}`:                            `&lt;\'%261.234kmap[arg0:1 arg1:2]`,
		`{{ (args "x" 1).arg0 }}{{ -3 }}{{ 'a' }}{{ nil | print }}`:                                                  "x-397<nil>",
	} {
		got, err := expand(t, text)
		if strings.Contains(text, "nil | print") { // which Go refuses
			text = strings.ReplaceAll(text, "{{ nil | print }}", "")
			want = strings.TrimSuffix(want, "<nil>")
			got, err = expand(t, text)
		}
		if strings.Contains(want, "BADINDEX") { // as Go has it
			if err != nil || !strings.HasPrefix(got, "002.5 s ") {
				t.Errorf("%s: %q %v", text, got, err)
			}
			continue
		}
		if got != want || err != nil {
			t.Errorf("%s:\n got %q %v\nwant %q", text, got, err, want)
		}
	}
}

// A template that would run or write for ever, or for long, ends with an error, and makes no more than some megabytes meanwhile.
func TestOverdrawnTemplates(t *testing.T) {
	double := strings.Repeat(`{{ $x = print $x $x }}`, 60)
	for name, text := range map[string]string{
		"an empty loop":           `{{ range 40000000000 }}{{ end }}`,
		"loops within loops":      `{{ range 1000 }}{{ range 1000 }}{{ range 1000 }}{{ end }}{{ end }}{{ end }}`,
		"a loop that writes":      `{{ range 9000 }}` + strings.Repeat("x", 1000) + `{{ end }}`,
		"a loop of a long value":  `{{ $x := printf "%20000d" 1 }}{{ range 9000 }}{{ $x }}{{ end }}`,
		"a template of itself":    `{{ define "a" }}{{ template "a" . }}{{ end }}{{ template "a" . }}`,
		"one that doubles":        `{{ define "a" }}{{ if lt (len .) 1000000 }}{{ template "a" (print . .) }}{{ template "a" (print . .) }}{{ end }}{{ end }}{{ template "a" "x" }}`,
		"doubled text":            `{{ $x := "xxxxxxxxxxxxxxxx" }}` + double,
		"doubled by printf":       strings.ReplaceAll(`{{ $x := "xxxxxxxxxxxxxxxx" }}`+double, "print $x $x", `printf "%s%s" $x $x`),
		"doubled by js":           strings.ReplaceAll(`{{ $x := "\\" }}`+double, "print $x $x", `js $x`),
		"doubled by args":         strings.ReplaceAll(`{{ $x := args "xxxxxxxx" }}`+double, "print $x $x", `args $x $x`) + `{{ $x }}`,
		"squared by replacements": strings.ReplaceAll(`{{ $x := "xxxxxxxxxxxxxxxx" }}`+double, "print $x $x", `reReplaceAll "" $x $x`),
		"wide numbers":            `{{ printf "` + strings.Repeat("%999999d", 1000) + `" 1 }}`,
		"wide by an argument":     `{{ printf "%*d" 900000 1 }}`,
		"one argument often":      `{{ $x := printf "%10000d" 1 }}{{ printf "` + strings.Repeat("%[1]s", 1000) + `" $x }}`,
		"a large pattern":         `{{ match "` + strings.Repeat(".{1000}", 1000) + `" "x" }}`,
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		text, err := expand(t, text)
		runtime.ReadMemStats(&after)
		if err == nil || !strings.Contains(err.Error(), errOverdrawn.Error()) || text != "" {
			t.Errorf("%s: %.100q %v", name, text, err)
		}
		if made := after.TotalAlloc - before.TotalAlloc; made > 64<<20 {
			t.Errorf("%s: %d MiB were made", name, made>>20)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	small, err := thrifty(variables + "{{ range 5 }}{{ end }}")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := (&telling{at: midnight}).execute(ctx, "Down", "{{ range 5 }}{{ end }}", small, nil); err == nil || !strings.Contains(err.Error(), "takes too long") {
		t.Errorf("at its end: %v", err)
	}
}

// A template that fails says where, by the places of its text as it was written, and asks the source for each thing once.
func TestPlacesOfErrors(t *testing.T) {
	_, err := expand(t, `{{ range query "down" }}{{ .Value }} {{ end }}{{ template "none" }}`)
	const want = `error executing template __alert_Down: template: __alert_Down:1:170: executing "__alert_Down" at <{{template "none"}}>: template "none" not defined`
	if err == nil || err.Error() != want {
		t.Errorf("%v", err)
	}
	known := answers{source: &countingSource{fakeSource: newSource()}, all: map[string]answer{}}
	for range 2 {
		if _, err := known.ask(context.Background(), "down", midnight); err != nil {
			t.Error(err)
		}
	}
	if n := known.source.(*countingSource).asked; n != 1 {
		t.Errorf("asked %d times", n)
	}
}

// countingSource counts questions.
type countingSource struct {
	*fakeSource
	asked int
}

// Vector implements Source.
func (s *countingSource) Vector(ctx context.Context, expr string, at time.Time) (promql.Vector, error) {
	s.asked++
	return s.fakeSource.Vector(ctx, expr, at)
}

// lockedText is a log that several goroutines write.
type lockedText struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write implements io.Writer.
func (l *lockedText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// Templates that fail are counted each time, and said once for each error of a rule; one that does too much is left alone for five minutes, whoever asks.
// While templates are expanded nobody waits for the Manager.
func TestTemplateFailures(t *testing.T) {
	r := newRig(t, strings.Replace(oneRule, "    for: 30s", `    labels: {team: '{{ index $labels 1 }}'}
    annotations: {loop: '{{ range 40000000000 }}{{ end }}', changes: '{{ if gt $value 1.0 }}{{ index $labels 2 }}{{ else }}{{ toTime "x" }}{{ end }}'}`, 1))
	var text lockedText
	r.log = slog.New(slog.NewTextHandler(&text, nil))
	said := func() int { return strings.Count(text.String(), "a template of a rule failed") }
	r.source.set("down", "a")
	r.to("00:01:00")
	if n := r.Counts().TemplateFailures; said() != 3 || n < 5+3 {
		t.Errorf("%d failures, said:\n%s", n, text.String())
	}
	r.source.answers["down"][0].F = 2
	r.to("00:04:45")
	if said() != 4 || !strings.Contains(text.String(), "index $labels 2") {
		t.Errorf("said with another error:\n%s", text.String())
	}
	alerts := r.Groups(true)[0].Rules[0].Alerts
	if len(alerts) != 1 || !strings.Contains(alerts[0].Annotations["loop"], errOverdrawn.Error()) || !strings.HasPrefix(alerts[0].Labels["team"], "<error expanding template: ") {
		t.Errorf("%+v", alerts)
	}
	rule := r.groups[0].rules[0]
	loop := rule.annotations.Get("loop")
	if pausing := rule.templates.pausing(loop, midnight.Add(4*time.Minute)); pausing == nil {
		t.Error("a template that does too much is tried again at once")
	}
	if pausing := rule.templates.pausing(loop, midnight.Add(20*time.Minute)); pausing != nil {
		t.Error("it is never tried again")
	}
}

// Readers get annotations without the Manager's lock: one that asks while the lock is held for another's sake is not needed for it.
func TestTemplatesWithoutLock(t *testing.T) {
	r := newRig(t, strings.Replace(oneRule, "    for: 30s", "    annotations: {summary: '{{ $labels.instance }}'}", 1))
	r.source.set("down", "a")
	r.to("00:00:00")
	views, rules := r.views(true)
	unlock := r.lock()
	defer unlock()
	if got := views[0].Rules[0].Alerts[0].told.annotations(rules[0][0]).Get("summary"); got != "a" { // it would wait for ever
		t.Error(got)
	}
}
