package history

import (
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/perfagent/perfagent/internal/analytics"
)

// Whoever asks while ticks are stored and segments are united sees each of them once.
func TestQueriesBesideTicks(t *testing.T) {
	for _, path := range []string{"", t.TempDir()} {
		h := Open(Options{Path: path, Log: quiet})
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { defer close(ended); h.Run(ctx) }()
		n := 0
		for n < 800 {
			h.Consume(tickOf(n), nil)
			n++
			waitFor(t, func() bool { return h.Stats().Ticks == uint64(n) }) // the queue is for ticks that come every 10 s
			if n%40 == 0 {
				checkTicks(t, h, n)
			}
		}
		stop()
		<-ended
	}
}

func waitFor(t *testing.T, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !done(); runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatal("it took too long")
		}
	}
}

// Ticks that find the queue full are counted, and what they said of routes holds all the same.
func TestQueueFull(t *testing.T) {
	h := Open(Options{Log: quiet})
	first := tickOf(0)
	h.Consume(first, nil)
	h.add(<-h.queue)
	for i := range queueMax {
		h.Consume(&analytics.Seal{To: start.Add(time.Duration(i+2) * analytics.TickInterval)}, nil)
	}
	h.Consume(&analytics.Seal{To: start.Add(100 * analytics.TickInterval), Renames: []analytics.Rename{{From: endpoint(1), To: endpoint(7)}}}, nil)
	for range queueMax {
		h.add(<-h.queue)
	}
	h.Consume(&analytics.Seal{To: start.Add(101 * analytics.TickInterval)}, nil)
	h.add(<-h.queue)
	if s := h.Stats(); s.Dropped != 1 || s.Ticks != queueMax+2 {
		t.Errorf("%+v", s)
	}
	routes, err := h.LabelValues(Query{From: start, To: start.Add(time.Hour)}, "http_route")
	if err != nil || len(routes) != 1 || routes[0] != "/r7" {
		t.Errorf("routes are %v, %v", routes, err)
	}
}

// Retention removes what is too old, in each resolution, and keeps the rest; the bytes stay below their bound, and the oldest of
// the resolution that has most of its share goes first.
func TestRetention(t *testing.T) {
	path := t.TempDir()
	h := Open(Options{Path: path, Retention: 48 * time.Hour, Log: quiet})
	const hours = 100
	feedHours := func(from, to int) {
		for i := from; i < to; i++ {
			for m := range 4 {
				at := start.Add(time.Duration(i)*time.Hour + time.Duration(15*(m+1))*time.Minute)
				feed(h, &analytics.Seal{To: at, Entries: []*analytics.Sealed{sealed(rand.New(rand.NewPCG(uint64(i), 1)), endpoint(1), 30)}}, nil)
			}
		}
	}
	feedHours(0, hours)
	end := start.Add(hours * time.Hour)
	ages := map[string]time.Duration{}
	for _, tier := range h.Stats().Tiers {
		ages[tier.Name] = end.Sub(tier.Oldest)
	}
	if a := ages["10s"]; a < 24*time.Hour || a > 26*time.Hour {
		t.Errorf("10 s are kept for %v", a)
	}
	if a := ages["1m"]; a < 48*time.Hour || a > 55*time.Hour { // a segment has six hours
		t.Errorf("minutes are kept for %v", a)
	}
	if ages["1h"] != hours*time.Hour {
		t.Errorf("hours are kept for %v", ages["1h"])
	}
	// What is older is answered by what is left of it.
	count := 0
	r, err := h.Select(Query{From: start, To: end})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range r.Series {
		if s.Kind == Ticks {
			for it := s.Iterate(); it.Next(); {
				count += int(it.At().Value)
			}
		}
	}
	r.Close()
	if count != 4*hours {
		t.Errorf("%d of %d ticks are left", count, 4*hours)
	}
	h.o.MaxBytes = 1600 << 10 // a quarter is left where the head takes the rest
	feedHours(hours, hours+3)
	var bytes int64
	for _, tier := range h.Stats().Tiers {
		bytes += tier.Bytes
		if tier.Segments == 0 {
			t.Errorf("nothing is left of %s", tier.Name)
		}
	}
	if bytes > 400<<10 {
		t.Errorf("%d bytes are left", bytes)
	}
	h.close()
	var onDisk int64
	entries, err := os.ReadDir(filepath.Join(path, directoryName))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(e.Name(), segmentSuffix) && e.Name() != headName {
			onDisk += info.Size()
		}
	}
	if onDisk != bytes {
		t.Errorf("%d bytes are on the disk, %d are known", onDisk, bytes)
	}
}
