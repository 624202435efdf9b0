// Command faults makes the fault pack: it runs nginx in front of a shop that calls a store, under load, lets one thing at a time go
// wrong, and has an agent's parts record what they see (docs/faults.md). It needs root, nginx and control groups.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"hash/crc64"
	"log"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/perfagent/perfagent/test/faults/recording"
)

const (
	// squeeze is by how much ticks are shorter than the agent's 10 s: half a second, so that a run takes less than a minute.
	squeeze = 20
	// A fault begins after between normalMin and normalMax ticks, lasts for between faultMin and faultMax, and tail ticks follow.
	normalMin, normalMax = 50, 58
	faultMin, faultMax   = 18, 24
	tail                 = 4
	// normalTicks is how long a recording without a fault is: an hour of the agent's ticks.
	normalTicks = 360
	// warm is how long the load runs before a recording.
	warm = 4 * time.Second
)

func main() {
	out := flag.String("out", "testdata/faults", "directory of the recordings")
	runs := flag.Int("runs", 10, "recordings of each fault")
	only := flag.String("faults", "", "names of faults, with commas between; empty: all")
	alive := flag.String("live", "", "directory for what a real agent says of each fault, in place of recordings")
	again := flag.Bool("again", false, "record also what is there already")
	base := flag.Int("port", 23500, "first of three ports")
	flag.Parse()
	if period := os.Getenv(hogVariable); period != "" {
		fmt.Fprintln(os.Stderr, beHog(period))
		os.Exit(1)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	wanted := strings.FieldsFunc(*only, func(r rune) bool { return r == ',' })
	if *alive != "" {
		if err := live(ctx, *alive, wanted, *base); err != nil {
			fmt.Fprintln(os.Stderr, "faults:", err)
			os.Exit(1)
		}
		return
	}
	if err := record(ctx, *out, *runs, wanted, *again, *base); err != nil {
		fmt.Fprintln(os.Stderr, "faults:", err)
		os.Exit(1)
	}
}

// record makes the recordings that are wanted, one of each fault before the second of any.
func record(ctx context.Context, out string, runs int, wanted []string, again bool, base int) (err error) {
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	rig, err := openRig(base, true)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rig.close()) }()
	for n := 1; n <= runs; n++ {
		for _, f := range faults {
			name := filepath.Join(out, fmt.Sprintf("%s-%02d.json.gz", f.name, n))
			if _, missing := os.Stat(name); len(wanted) > 0 && !slices.Contains(wanted, f.name) || missing == nil && !again || n > f.most() {
				continue
			}
			if err := recordOne(ctx, rig, &f, uint64(n), name); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	return nil
}

// recordOne makes one recording.
func recordOne(ctx context.Context, rig *rig, f *fault, n uint64, name string) error {
	r := &run{rig: rig, random: rand.New(rand.NewPCG(n, crc64.Checksum([]byte(f.name), crc64.MakeTable(crc64.ISO))))}
	from := normalMin + r.random.IntN(normalMax-normalMin+1)
	to := from + faultMin + r.random.IntN(faultMax-faultMin+1)
	end := to + tail
	if f.inject == nil {
		from, to, end = normalTicks, normalTicks, normalTicks
	}
	loading, cancel := context.WithCancel(ctx)
	r.load = startLoad(loading, rig.front, r.random)
	defer func() { cancel(); r.load.wait() }()
	if !pauseFor(ctx, warm) {
		return ctx.Err()
	}
	others := rig.groups.othersLoad()
	r.began, r.usedAtBegin = time.Now(), rig.groups.usedOr0("shop")
	if err := rig.recorder.begin(); err != nil {
		return err
	}
	truth := &recording.Truth{Fault: f.name, Seed: n, From: from, To: to, Service: "shop"}
	if err := r.follow(ctx, f, truth, end); err != nil {
		return err
	}
	truth.OthersLoad = others()
	sent, failed := r.load.counts()
	log.Printf("%s: %s; ticks %d to %d of %d, %d requests, %d failed, load of others %.1f", name, truth.Detail, from, to, end, sent, failed,
		truth.OthersLoad)
	return rig.recorder.end(name, truth)
}

// follow lets it go wrong and well again at the ticks that the truth has, and notes what was done, until a last tick.
func (r *run) follow(ctx context.Context, f *fault, truth *recording.Truth, end int) error {
	var undo func() error
	for tick := 0; tick < end; {
		var err error
		switch tick, err = r.recorder.tick(ctx); {
		case err != nil:
			return err
		case tick == truth.From && f.inject != nil:
			truth.Detail, undo, err = f.inject(r)
			truth.Of = r.of
		case tick == truth.To && undo != nil:
			err, undo = undo(), nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func pauseFor(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
	return ctx.Err() == nil
}
