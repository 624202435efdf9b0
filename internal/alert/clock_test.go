package alert

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/promql"
)

// set sets the clock as people and NTP do, while a second passes.
func (r *rig) set(by time.Duration) {
	r.passed = func(from, to time.Time) time.Duration {
		r.passed = func(from, to time.Time) time.Duration { return to.Sub(from) }
		return to.Sub(from) - by
	}
	r.clock = r.clock.Add(by)
}

// evaluate evaluates so many times, one every 15 s.
func (r *rig) evaluate(times int) {
	for range times {
		r.Evaluate(context.Background(), r.clock.Add(settle))
		r.clock = r.clock.Add(IntervalDefault)
	}
}

// A clock that is set, back or ahead, ends no alert that fires, gives it no other start, has it told once a minute as before, and makes
// none that is pending older or younger.
func TestClockIsSet(t *testing.T) {
	for _, by := range []time.Duration{-time.Hour, -24 * time.Hour, 3 * time.Hour, -20 * time.Second} {
		r := newRig(t, strings.ReplaceAll(oneRule, "30s", "60s"))
		r.source.set("down", "a")
		r.to("00:02:00")
		r.source.set("down", "a", "b")
		r.to("00:02:30") // b is pending for 15 s
		r.sink.told = nil
		r.set(by)
		r.evaluate(2)
		if c := r.Counts(); c.Firing != 1 || c.Pending != 1 {
			t.Errorf("by %s: %+v", by, c)
		}
		r.evaluate(4)
		if c := r.Counts(); c.Firing != 2 {
			t.Errorf("by %s: %+v", by, c)
		}
		if told := strings.Join(r.sink.told, "\n"); strings.Contains(told, "over") || !strings.Contains(told, "a fires since 00:01:00") || strings.Count(told, "b fires") != 1 {
			t.Errorf("by %s:\n%s", by, told)
		}
	}
}

// Where the windows of a rule are empty after the clock was set, its alert is over when they have had time to fill.
func TestClockIsSetAndWindowsAreEmpty(t *testing.T) {
	for _, by := range []time.Duration{-time.Hour, 3 * time.Hour} {
		r := newRig(t, oneRule)
		r.source.set("down", "a")
		r.to("00:02:00")
		r.sink.told = nil
		r.source.set("down")
		r.set(by)
		r.evaluate(20)
		if told := strings.Join(r.sink.told, "\n"); strings.Contains(told, "over") || r.Counts().Firing != 1 {
			t.Errorf("by %s:\n%s", by, told)
		}
		r.evaluate(4)
		if told := strings.Join(r.sink.told, "\n"); strings.Count(told, "a over since 00:00:30") != 1 || r.Counts().Firing != 0 {
			t.Errorf("by %s:\n%s", by, told)
		}
	}
}

// during does something while it answers.
type during struct {
	*fakeSource
	what func()
}

// Vector implements Source.
func (d *during) Vector(ctx context.Context, expr string, at time.Time) (promql.Vector, error) {
	d.what()
	return d.fakeSource.Vector(ctx, expr, at)
}

// What is evaluated while the clock is set changes nothing: its instant is one of the clock before.
func TestClockIsSetAmidEvaluation(t *testing.T) {
	r := newRig(t, strings.ReplaceAll(oneRule, "30s", "10m"))
	r.source.set("down", "a")
	r.to("00:01:00")
	g, at := r.next(r.clock.Add(settle))
	r.Manager.source = &during{r.source, func() {
		r.set(-time.Hour)
		defer r.lock()()
		r.keepTime(r.clock.Add(settle))
	}}
	r.Manager.evaluate(context.Background(), g, at)
	r.release(g)
	r.Manager.source = r.source
	if c := r.Counts(); c.Firing != 0 || c.Pending != 1 {
		t.Errorf("%+v", c)
	}
	r.evaluate(4)
	if c := r.Counts(); c.Firing != 0 || c.Pending != 1 {
		t.Errorf("afterwards %+v", c)
	}
}

// After a restart with a clock that was ahead before it, or that is behind now, alerts go on as they were.
func TestRestartWithAnEarlierClock(t *testing.T) {
	r := newRig(t, strings.ReplaceAll(oneRule, "30s", "60s"))
	r.source.set("down", "a")
	r.to("00:02:00")
	r.source.set("down", "a", "b")
	r.to("00:02:30")
	r.save(r.clock)
	r.sink.told = nil
	r.clock = r.clock.Add(-365 * 24 * time.Hour)
	r.start(strings.ReplaceAll(oneRule, "30s", "60s"))
	r.evaluate(2)
	if c := r.Counts(); c.Firing != 1 || c.Pending != 1 {
		t.Errorf("%+v", c)
	}
	r.evaluate(4)
	if told := strings.Join(r.sink.told, "\n"); strings.Contains(told, "over") || !strings.Contains(told, "a fires since 00:01:00") || strings.Count(told, "b fires") != 1 {
		t.Error(told)
	}
}
