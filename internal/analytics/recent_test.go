package analytics

import (
	"testing"
	"time"

	"github.com/perfagent/perfagent/internal/wire"
)

// Recent books are those of the last ten minutes by ticks, from the start on while that is not so long ago, and also where the
// machine slept; they take the same memory for ever.
func TestRecentBooks(t *testing.T) {
	start := time.Unix(1_700_000_103, 0)
	now := start
	e := NewEngine(Options{Now: func() time.Time { return now }})
	ex := serverExchange("shop", "/", 200)
	step := func(d time.Duration) {
		now = now.Add(d)
		e.Tick()
	}
	check := func(what string, reported, lost uint64, since time.Time) {
		t.Helper()
		now = now.Add(snapshotInterval)
		r := e.Snapshot().Recent
		if r.Reported != reported || r.Lost != lost || r.Seen != reported+lost || !r.Since.Equal(since) {
			t.Errorf("%s: %+v, want %d and %d since %v", what, r, reported, lost, since)
		}
	}
	check("nothing", 0, 0, start)
	e.Lose(wire.LostQueueFull, 7)
	e.Add(ex)
	check("before a tick", 1, 7, start)
	for range 59 { // the first of them 7 s after the start
		e.Add(ex)
		step(TickInterval)
	}
	check("nearly ten minutes later", 60, 7, start)
	step(TickInterval)
	check("ten minutes later", 60, 7, start)
	e.Add(ex)
	step(TickInterval)
	check("beyond the window", 60-1, 0, start.Add(7*time.Second))
	for range 1000 {
		e.Lose(wire.LostQueueFull, 1)
		step(TickInterval)
	}
	if r := e.Snapshot().Recent; r.Reported != 0 || r.Lost != 60 || len(e.recently.ticks) != 61 || cap(e.recently.ticks) > 128 {
		t.Errorf("%+v; %d ticks are remembered, with room for %d", r, len(e.recently.ticks), cap(e.recently.ticks))
	}
	step(24 * time.Hour)
	if r := e.Snapshot().Recent; r.Seen != 0 || len(e.recently.ticks) != 2 {
		t.Errorf("after a night: %+v, %d ticks", r, len(e.recently.ticks))
	}
}
