package recording

import (
	"bytes"
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/perfagent/perfagent/internal/analytics"
	"github.com/perfagent/perfagent/internal/export"
	"github.com/perfagent/perfagent/internal/host"
	"github.com/perfagent/perfagent/internal/wire"
)

// example is a recording of three ticks: a service with a failure in the second, and a process that is another one in the third.
func example() *Recording {
	r := &Recording{Header: Header{Squeeze: 20, Truth: Truth{Fault: "slow-disk", Seed: 7, From: 1, To: 2, Service: "shop"}}}
	key := analytics.Key{Role: wire.RoleServer, Service: "shop", Operation: wire.Operation{Verb: "GET", Name: "/items/{id}"}}
	start := time.Date(2026, 1, 2, 3, 4, 10, 0, time.UTC)
	for i := range 3 {
		to := start.Add(time.Duration(i) * analytics.TickInterval)
		e := &analytics.Sealed{Key: key, RouteSource: wire.RouteLearned}
		e.RequestSize, e.ResponseSize = analytics.NewHistogram(analytics.Bytes), analytics.NewHistogram(analytics.Bytes)
		ok := analytics.Series{Result: analytics.Result{Outcome: wire.Outcome{Code: 200}, Protocol: "http/1.1"}, Created: to}
		for ms := range 50 {
			ok.Duration.Add(int64(ms*ms) * 1e6)
			e.Queue.Add(int64(ms) * 1e3)
		}
		e.ResponseSize.Add(1000)
		e.ResponseSize.Add(3000)
		e.Series = []analytics.Series{ok}
		if i == 1 {
			failed := analytics.Series{Result: analytics.Result{Outcome: wire.Outcome{Code: 502, Class: wire.ClassServerFault, ErrorType: "502"}}, Untimed: 3, Created: to}
			failed.Duration.Add(5e9)
			e.Series = append(e.Series, failed)
		}
		seal := &analytics.Seal{Tick: int64(100 + i), From: to.Add(-analytics.TickInterval), To: to, Entries: []*analytics.Sealed{e}}
		sample := &host.Sample{CPU: &host.CPU{Processors: 2}, Services: []host.Service{{
			Name: "shop", ResidentBytes: 123456789, CPUSeconds: host.Counter{Total: 7, Rate: .25}, ReadBytes: host.Counter{Total: math.NaN(), Rate: math.NaN()},
			Processes: []host.Process{{PID: uint32(42 + i/2), StartSeconds: 12}},
			Cgroups:   []host.CgroupStats{{Path: `/sh"op`, CPULimit: math.Inf(1)}},
		}}}
		if i == 0 {
			sample.Services[0].CPUSeconds.Rate = math.NaN()
		}
		witness := &export.HostStats{RunQueue: &export.Latency{Bounds: []float64{.001, .01}, Buckets: []uint64{uint64(10 * i), 2, 3}, Sum: 1.23456789 + float64(i)},
			Services: []export.ServiceStats{{Service: "shop", TCP: export.TCPEvents{Retransmits: uint64(1000 + i)}}}}
		r.All = append(r.All, Tick{seal, sample, witness})
	}
	return r
}

// Shows that a recording is read as it was written: histograms of durations to the width of their cells, figures to some digits, what is unknown as that, and
// totals as sums of the rates.
func TestWriteRead(t *testing.T) {
	name := filepath.Join(t.TempDir(), "recording")
	if err := Write(name, example()); err != nil {
		t.Fatal(err)
	}
	want, got := example(), read(t, name)
	if len(got.All) != 3 || got.Truth != want.Truth || got.Squeeze != 20 {
		t.Fatalf("header %+v with %d ticks", got.Header, len(got.All))
	}
	for i := range got.All {
		w, g := want.All[i], got.All[i]
		if g.Seal.Tick != w.Seal.Tick || !g.Seal.To.Equal(w.Seal.To) || !g.Seal.From.Equal(w.Seal.From) || !g.Host.Time.Equal(w.Seal.To) {
			t.Errorf("tick %d: %+v", i, g.Seal)
		}
		compareEntries(t, w.Seal.Entries[0], g.Seal.Entries[0])
	}
	service := got.All[2].Host.Services[0]
	if service.CPUSeconds.Total != 5 || service.CPUSeconds.Rate != .25 { // two ticks of 10 s at .25
		t.Errorf("processor time: %+v", service.CPUSeconds)
	}
	if host.Known(service.ReadBytes.Total) || !math.IsInf(service.Cgroups[0].CPULimit, 1) || service.Cgroups[0].Path != `/sh"op` {
		t.Errorf("service %+v", service)
	}
	if service.ResidentBytes != 1.235e8 || service.Processes[0].PID != 43 || got.All[1].Host.Services[0].Processes[0].PID != 42 {
		t.Errorf("service %+v", service)
	}
	witness := got.All[2].Witness
	if witness.RunQueue.Buckets[0] != 25 || witness.RunQueue.Sum != 3.23456789 || witness.Services[0].TCP.Retransmits != 20*1002 {
		t.Errorf("witness %+v, run queue %+v", witness, witness.RunQueue)
	}
}

func read(t *testing.T, name string) *Recording {
	t.Helper()
	r, err := Read(name)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func compareEntries(t *testing.T, want, got *analytics.Sealed) {
	t.Helper()
	if got.Key != want.Key || got.RouteSource != want.RouteSource || len(got.Series) != len(want.Series) {
		t.Fatalf("entry %+v and not %+v", got, want)
	}
	for i := range want.Series {
		w, g := &want.Series[i], &got.Series[i]
		if g.Result != w.Result || g.Untimed != w.Untimed || g.Duration.Count() != w.Duration.Count() || g.Duration.Zeros() != w.Duration.Zeros() {
			t.Errorf("series %+v and not %+v", g, w)
		}
		for _, q := range []float64{.1, .5, .9} {
			if a, b := g.Duration.Quantile(q), w.Duration.Quantile(q); math.Abs(a-b) > .0109*b {
				t.Errorf("quantile %v is %v and not %v", q, a, b)
			}
		}
		if a, b := g.Duration.Sum(), w.Duration.Sum(); math.Abs(a-b) > .0109*b {
			t.Errorf("sum %v and not %v", a, b)
		}
	}
	if a, b := got.Queue.Quantile(.5), want.Queue.Quantile(.5); math.Abs(a-b) > .1*b || got.Queue.Count() != want.Queue.Count() {
		t.Errorf("median of the queue %v and not %v", a, b)
	}
	if got.ResponseSize.Count() != 2 || got.ResponseSize.Sum() != 4000 {
		t.Errorf("sizes: %d of %v", got.ResponseSize.Count(), got.ResponseSize.Sum())
	}
}

// Shows that samples that are repeated go on in time, with totals that only grow, and leave the recording as it is.
func TestRepeat(t *testing.T) {
	name := filepath.Join(t.TempDir(), "recording")
	if err := Write(name, example()); err != nil {
		t.Fatal(err)
	}
	r := read(t, name)
	all := r.Repeat()
	for i := range 7 {
		at := time.Unix(int64(1000+10*i), 0)
		sample, tick := all.Sample(at)
		// The first sample of three has no rate, each other one counts 2.5 s.
		if want := 2.5 * float64(i-i/3); sample.Services[0].CPUSeconds.Total != want || tick != i%3 || !sample.Time.Equal(at) {
			t.Errorf("sample %d: tick %d, %+v, want a total of %v", i, tick, sample.Services[0].CPUSeconds, want)
		}
	}
	if got := r.All[2].Host.Services[0].CPUSeconds.Total; got != 5 {
		t.Errorf("the recording has changed: %v", got)
	}
}

// Shows that what was cut off, is of another version or names what does not exist is refused and does no harm.
func TestDamaged(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "recording")
	if err := Write(name, example()); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for length := 0; length < len(whole); length += 13 {
		if err := os.WriteFile(name, whole[:length], 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := Read(name); err == nil {
			t.Errorf("%d of %d bytes are read", length, len(whole))
		}
	}
	for _, text := range []string{
		`{"version":99,"cells":1,"ticks":0}`,
		`{"version":1,"cells":1,"ticks":1}` + "\n" + `{"path":"host*.Nothing","values":[1]}` + "\n" + `{"tick":1,"to":10}`,
		`{"version":1,"cells":1,"ticks":1}` + "\n" + `{"path":"host*.Services#99999.Name","values":["a"]}` + "\n" + `{"tick":1,"to":10}`,
		`{"version":1,"cells":1,"ticks":1}` + "\n" + `{"path":"host*.CPU","values":[]}` + "\n" + `{"tick":1,"to":10}`,
		`{"version":1,"cells":1,"ticks":1}` + "\n" + `{"tick":1,"to":10,"entries":[{"k":3}]}`,
		`{"version":1,"cells":1,"ticks":1}` + "\n" + `{"tick":1,"to":10,"keys":[{"key":{}}],"entries":[{"k":0,"s":[{"r":0,"d":[0,1]}]}]}`,
		`{"version":1,"cells":1,"ticks":1}` + "\n" + `{"tick":1,"to":10,"keys":[{"key":{}}],"results":[{}],"entries":[{"k":0,"s":[{"r":0,"d":[0,99999]}]}]}`,
		`{"version":1,"cells":1,"ticks":-1}`,
		`{"version":1,"cells":1,"ticks":1000000000}`,
	} {
		if err := new(Recording).decode(bytes.NewReader([]byte(text))); err == nil {
			t.Errorf("%s is read", text)
		}
	}
}

// Shows that a sample taken by a clock that runs 20 times as fast tells what one by the agent's clock would: shares of time stay, also
// those of the kernel's averages, and what was started a second before was started 20 seconds before.
func TestStretch(t *testing.T) {
	s := Stretcher{Squeeze: 20, Boot: 1000}
	before := &host.Sample{Pressure: host.Pressure{CPU: &host.ResourcePressure{Some: host.Stall{Avg10: 1, Seconds: host.Counter{Rate: .025}}}},
		Services: []host.Service{{CPUSeconds: host.Counter{Total: 3, Rate: .01}, Processes: []host.Process{{StartSeconds: 1001}}}}}
	after := s.Stretch(before)
	if got := after.Services[0].CPUSeconds.Rate; got != .2 {
		t.Errorf("rate %v", got)
	}
	if got := after.Pressure.CPU.Some.Avg10; got != 50 {
		t.Errorf("pressure %v", got)
	}
	if got := after.Services[0].Processes[0].StartSeconds; got != 1020 {
		t.Errorf("started %v", got)
	}
	if before.Services[0].CPUSeconds.Rate != .01 || before.Pressure.CPU.Some.Avg10 != 1 || before.Services[0].Processes[0].StartSeconds != 1001 {
		t.Errorf("the sample has changed: %+v", before)
	}
}
