package main

import (
	"reflect"
	"testing"
	"time"

	"github.com/perfagent/perfagent/internal/export"
)

// A part that fails twice and comes back once was away for the time between, up to now; reports of what is known change nothing.
func TestRecoveries(t *testing.T) {
	now := time.Unix(1000, 0)
	r := recoveries{now: func() time.Time { return now }}
	history, _ := r.of("history"), r.of("event_log")
	for _, step := range []struct {
		works bool
		after time.Duration
	}{{true, time.Second}, {false, 2 * time.Second}, {false, 3 * time.Second}, {true, time.Second}, {true, time.Second}, {false, 4 * time.Second}} {
		history(step.works)
		now = now.Add(step.after)
	}
	want := []export.Recovery{{Part: "event_log"}, {Part: "history", Down: true, Since: time.Unix(1008, 0), Count: 1, Last: time.Unix(1006, 0), AwaySeconds: 9}}
	if got := r.states(); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v", got)
	}
}
