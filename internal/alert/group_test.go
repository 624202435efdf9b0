package alert

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"

	"github.com/perfagent/perfagent/internal/notify"
)

// slowSource takes its time for expressions that begin with slow: until the context ends, or, with deaf, for ever. Its methods may be
// called at once.
type slowSource struct {
	mu       sync.Mutex
	asked    map[string][]time.Time // for which instants
	at       map[string][]time.Time // when
	recorded int
	deaf     chan struct{} // nil: it hears
}

// Vector implements Source.
func (s *slowSource) Vector(ctx context.Context, expr string, at time.Time) (promql.Vector, error) {
	s.mu.Lock()
	s.asked[expr] = append(s.asked[expr], at)
	s.at[expr] = append(s.at[expr], time.Now())
	s.mu.Unlock()
	if strings.HasPrefix(expr, "slow") {
		if s.deaf != nil {
			<-s.deaf
			return nil, errors.New("it was deaf")
		}
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return promql.Vector{{Metric: labels.FromStrings("instance", "a"), F: 1}}, nil
}

// Record implements Source.
func (s *slowSource) Record(time.Time, promql.Vector) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.recorded++
	return nil
}

func (s *slowSource) times(expr string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.asked[expr])
}

// lockedSink keeps the alerts that it is told.
type lockedSink struct {
	mu   sync.Mutex
	told []notify.Alert
}

// Send implements Sink.
func (s *lockedSink) Send(alerts []notify.Alert) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.told = append(s.told, alerts...)
}

func (s *lockedSink) count(name string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.told {
		if a.Labels["alertname"] == name {
			n++
		}
	}
	return n
}

// running is a Manager that runs, in a bubble of time.
type running struct {
	*testing.T
	*Manager
	source *slowSource
	sink   *lockedSink
	stop   func() time.Duration
}

func run(t *testing.T, file string, deaf chan struct{}) *running {
	t.Helper()
	r := &running{T: t, source: &slowSource{asked: map[string][]time.Time{}, at: map[string][]time.Time{}, deaf: deaf}, sink: &lockedSink{}}
	r.Manager = New(Options{Source: r.source, Sink: r.sink, Log: slog.New(slog.DiscardHandler)})
	r.apply(file)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { r.Manager.Run(ctx); close(ended) }()
	r.stop = func() time.Duration {
		began := time.Now()
		cancel()
		<-ended
		return time.Since(began)
	}
	return r
}

func (r *running) apply(file string) time.Duration {
	r.Helper()
	rules, err := Parse([]File{{"f.yml", []byte(file)}}, nil, nil)
	if err != nil {
		r.Fatal(err)
	}
	began := time.Now()
	r.Apply(rules)
	return time.Since(began)
}

// groupsOf makes groups of a rule each, by their expressions, and one of two rules, of which the first one is slow.
func groupsOf(exprs ...string) string {
	file := "groups:\n"
	for _, expr := range exprs {
		file += fmt.Sprintf("- name: g %s\n  rules:\n  - {alert: A_%s, expr: %s}\n", expr, expr, expr)
	}
	return file
}

// Groups that never end delay neither others nor a reload nor the end. Their evaluations are ended when their next time has come, which is
// counted, as are the times that went by, and shows as the error of their rules; alerts of rules that had no turn go on.
func TestSlowGroups(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := groupsOf("slow1", "slow2", "slow3", "slow4", "slow5", "slow6", "fast1", "fast2")
		r := run(t, file+"- name: both\n  rules:\n  - {alert: First, expr: fast3}\n  - {record: a, expr: fast4}\n", nil)
		time.Sleep(10*time.Minute + 5*time.Second)
		synctest.Wait()
		for _, expr := range []string{"fast1", "fast2", "fast3", "fast4"} {
			late := 0
			r.source.mu.Lock()
			for i, at := range r.source.asked[expr] {
				if r.source.at[expr][i].Sub(at) > settle+10*time.Millisecond {
					late++
				}
			}
			r.source.mu.Unlock()
			// The first time all groups are alike, and slow ones may have all places until they are ended.
			if n := r.source.times(expr); n < 39 || n > 41 || late > 1 {
				t.Errorf("%s was evaluated %d times in ten minutes, %d times late", expr, n, late)
			}
		}
		overruns := uint64(0)
		for _, g := range r.Groups(true) {
			slow := strings.Contains(g.Name, "slow")
			overruns += g.Overruns
			if slow && (g.Overruns < 10 || g.Missed < 10 || g.Failures < g.Overruns || g.Took != IntervalDefault || g.Rules[0].Health != HealthBad ||
				g.Rules[0].Err != "the evaluation of its group took too long and was ended after 15s") || !slow && (g.Overruns > 0 || g.Missed > 1 || g.Rules[0].Health != HealthGood) {
				t.Errorf("%+v", g)
			}
		}
		if overruns > 2*41+4 { // two places of four are for slow ones
			t.Errorf("%d evaluations of slow groups", overruns)
		}
		// A reload does not wait, and what is still evaluated of a group that it changes leaves nothing.
		if took := r.apply(strings.Replace(file, "{alert: A_slow1, expr: slow1}", "{alert: A_slow1, expr: fast5}", 1)); took != 0 {
			t.Errorf("a reload took %s", took)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if r.sink.count("A_slow1") == 0 {
			t.Error("the changed rule is not evaluated")
		}
		if took := r.stop(); took != 0 {
			t.Errorf("the end took %s", took)
		}
	})
}

// Rules that had no turn, as one before them took the time, say so, and their alerts are told each minute as before.
func TestRulesLeftOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const fine = "groups:\n- name: g\n  rules:\n  - {alert: Goes, expr: fast}\n"
		r := run(t, fine, nil)
		time.Sleep(time.Minute)
		synctest.Wait()
		before := r.sink.count("Goes")
		r.apply(strings.Replace(fine, "  - {alert: Goes", "  - {alert: Slow, expr: slow}\n  - {alert: Goes", 1))
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if n := r.sink.count("Goes") - before; n < 8 || n > 11 {
			t.Errorf("told %d times in ten minutes", n)
		}
		rule := r.Groups(true)[0].Rules[1]
		if rule.Health != HealthBad || rule.Err != errOverrun.Error() || len(rule.Alerts) != 1 || rule.State != Firing {
			t.Errorf("%+v", rule)
		}
		r.stop()
	})
}

// A Source that does not even hear that it is to end is left alone after two seconds, and changes nothing any more.
func TestDeafSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		deaf := make(chan struct{})
		r := run(t, groupsOf("slow", "fast"), deaf)
		time.Sleep(time.Minute)
		synctest.Wait()
		if took := r.apply(groupsOf("fast")); took != 0 {
			t.Errorf("a reload took %s", took)
		}
		if took := r.stop(); took != stopPatience {
			t.Errorf("the end took %s", took)
		}
		told := r.sink.count("A_fast")
		close(deaf)
		synctest.Wait()
		if r.sink.count("A_slow") != 0 || r.sink.count("A_fast") != told {
			t.Error("a group that is gone tells something")
		}
	})
}

// Many goroutines read while groups are evaluated and replaced: the race detector has nothing to say, and alerts fire.
func TestReadersAndReloads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := strings.ReplaceAll(groupsOf("fast1", "fast2", "fast3", "fast4", "fast5"), "}\n", ", annotations: {summary: '{{ $value }}'}}\n")
		r := run(t, file, nil)
		done := make(chan struct{})
		var readers sync.WaitGroup
		for range 3 {
			readers.Go(func() {
				for {
					select {
					case <-done:
						return
					case <-time.After(time.Second):
						r.Groups(true)
						r.Resolved()
						r.Counts()
						r.Series(func(map[string]string) {})
						r.Trouble()
					}
				}
			})
		}
		for i := range 40 {
			time.Sleep(5 * time.Second)
			r.apply(strings.Replace(file, "expr: fast1", fmt.Sprintf("expr: fast1 > %d", i), 1))
		}
		close(done)
		readers.Wait()
		r.stop()
		for _, name := range []string{"A_fast1", "A_fast2", "A_fast5"} {
			if r.sink.count(name) < 3 {
				t.Errorf("%s was told %d times", name, r.sink.count(name))
			}
		}
	})
}
