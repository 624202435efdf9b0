package finding

import (
	"math"
	"math/rand"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// The host of these tests: shop serves two endpoints and calls stock, which runs on the same host, and payments elsewhere; batch is a
// neighbour. Each series has its usual level, in the unit of its metric.
var (
	shop, stock, batch = Subject{Service: "shop"}, Subject{Service: "stock"}, Subject{Service: "batch"}
	theHost, sda       = Subject{}, Subject{Device: "sda"}
	cart               = Subject{Role: "server", Service: "shop", Method: "POST", Route: "/cart"}
	items              = Subject{Role: "server", Service: "shop", Method: "GET", Route: "/items/{id}"}
	stockLevel         = Subject{Role: "server", Service: "stock", Method: "GET", Route: "/level/{id}"}
	toStock            = Subject{Role: "client", Service: "shop", Method: "GET", Address: "127.0.0.1", Port: 8081}
	toPayments         = Subject{Role: "client", Service: "shop", Method: "POST", Address: "payments.example", Port: 80}
	fromStock          = Subject{Role: "client", Service: "stock", Method: "GET", Address: "10.0.0.9", Port: 9200}
)

type at struct {
	metric string
	of     Subject
}

var usualLevels = map[at]float64{
	{ResponseTime, cart}: 80, {Throughput, cart}: 10, {ErrorRate, cart}: 0, {QueueTime, cart}: 0.2, {ProcessingTime, cart}: 79, {TransferTime, cart}: 0.5,
	{ResponseTime, items}: 20, {Throughput, items}: 50, {ErrorRate, items}: 0, {QueueTime, items}: 0.2, {ProcessingTime, items}: 19, {TransferTime, items}: 0.5,
	{ResponseTime, stockLevel}: 9, {Throughput, stockLevel}: 60, {ErrorRate, stockLevel}: 0,
	{ResponseTime, toStock}: 10, {Throughput, toStock}: 60, {ErrorRate, toStock}: 0,
	{ResponseTime, toPayments}: 50, {Throughput, toPayments}: 10, {ErrorRate, toPayments}: 0,
	{ResponseTime, fromStock}: 4, {Throughput, fromStock}: 60, {ErrorRate, fromStock}: 0,
	{CPUUsage, shop}: 40, {CPUThrottling, shop}: 0, {RunQueueWait, shop}: 0.1, {MemoryResident, shop}: 300e6, {MemoryUsage, shop}: 40, {DiskWrite, shop}: 0.1e6,
	{DiskRead, shop}: 0, {Retransmits, shop}: 0.1, {RTT, shop}: 0.3, {OpenFiles, shop}: 120, {Threads, shop}: 14, {ProcessStarts, shop}: 0,
	{CPUUsage, stock}: 15, {CPUThrottling, stock}: 0, {RunQueueWait, stock}: 0.1, {MemoryResident, stock}: 200e6, {MemoryUsage, stock}: 30, {DiskWrite, stock}: 0,
	{DiskRead, stock}: 0, {Retransmits, stock}: 0, {RTT, stock}: 0.3, {OpenFiles, stock}: 60, {Threads, stock}: 9, {ProcessStarts, stock}: 0,
	{CPUUsage, batch}: 4, {MemoryResident, batch}: 100e6, {DiskWrite, batch}: 0.2e6, {DiskRead, batch}: 0, {OpenFiles, batch}: 30, {Threads, batch}: 5,
	{CPUUsage, theHost}: 32, {PressureCPU, theHost}: 2, {RunQueueWait, theHost}: 0.1, {MemoryUsage, theHost}: 50, {PressureMemory, theHost}: 0, {PressureIO, theHost}: 0.5,
	{SwapRate, theHost}: 0, {OOMKills, theHost}: 0, {CPUSteal, theHost}: 0.1, {Retransmits, theHost}: 0.3, {DiskUtilisation, sda}: 4, {DiskLatency, sda}: 1,
	{DiskRead, sda}: 0.1e6, {DiskWrite, sda}: 0.4e6,
}

const (
	rowsOfTest   = 128
	beginsInTest = 100
)

var beginning = time.Date(2030, 1, 2, 13, 45, 0, 0, time.UTC)

// before are levels that some faults have before them.
var before = map[string]map[at]float64{
	"CPU hog for which a disk's operations end later": {{CPUUsage, theHost}: 100, {PressureCPU, theHost}: 95, {RunQueueWait, theHost}: 1.5},
	"CPU hog on a host that was busy before":          {{CPUUsage, theHost}: 100, {PressureCPU, theHost}: 95, {RunQueueWait, theHost}: 2},
	"a limit where there was none, on a busy host":    {{CPUThrottling, shop}: math.NaN(), {CPUUsage, theHost}: 100, {PressureCPU, theHost}: 92},
}

// around makes the evidence of a fault: usual levels with noise until row 100, and those of the fault since.
func around(seed int64, fault map[at]float64) *Evidence { return aroundFrom(seed, nil, fault) }

// aroundFrom is around with other levels before.
func aroundFrom(seed int64, usual, fault map[at]float64) *Evidence {
	r := rand.New(rand.NewSource(seed))
	e := &Evidence{From: beginning, Step: 10 * time.Second, Start: beginsInTest,
		Surroundings: &Surroundings{Processors: 2, Serves: loopbackServes(map[uint16]Subject{8080: shop, 8081: stock}), PIDs: map[Subject]uint32{shop: 4711}}}
	keys := make([]at, 0, len(usualLevels))
	for key := range usualLevels {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, func(a, b at) int {
		x, y := Measure{a.metric, a.of}, Measure{b.metric, b.of}
		return x.compare(&y)
	})
	for _, key := range keys {
		m := Measured{Measure: Measure{key.metric, key.of}, Values: make([]float32, rowsOfTest)}
		for row := range m.Values {
			v := usualLevels[key]
			if other, ok := usual[key]; ok {
				v = other
			}
			if changed, ok := fault[key]; ok && row >= beginsInTest {
				v = changed
			}
			noise := 1 + 0.1*r.NormFloat64()
			if key.metric == ProcessStarts { // an event, not a level
				noise = 1
				if row != beginsInTest-1 {
					v = 0
				} else {
					v = fault[key]
				}
			}
			if key.metric == CPUUsage && key.of == theHost && v == 100 { // more there is not
				noise = 1
			}
			if m.Values[row] = float32(max(0, v*noise)); math.IsNaN(v) {
				m.Values[row] = float32(v)
			}
		}
		e.All = append(e.All, m)
	}
	return e
}

// about makes the finding of a fault that the detector would make.
func about(metric string, of Subject, fault map[at]float64) *Finding {
	return &Finding{ID: "f1", Kind: Anomaly, Measure: Measure{metric, of}, Unit: MetricOf(metric).Unit, Start: beginning.Add(beginsInTest * 10 * time.Second),
		Expected: usualLevels[at{metric, of}], Peak: fault[at{metric, of}], Confidence: 0.9, Severity: Warning}
}

// merged is one fault with what else it changes.
func merged(all ...map[at]float64) map[at]float64 {
	sum := map[at]float64{}
	for _, m := range all {
		for key, v := range m {
			sum[key] = v
		}
	}
	return sum
}

var faults = map[string]struct {
	finding at
	changes map[at]float64
	// first is the cause that a person would name: a metric and whom it is of; says is a part of its sentence.
	first at
	how   string
	says  string
}{
	"CPU hog that serves nothing": {at{ResponseTime, cart}, map[at]float64{{ResponseTime, cart}: 210, {ProcessingTime, cart}: 200, {QueueTime, cart}: 8, {ResponseTime, items}: 60,
		{ProcessingTime, items}: 52, {QueueTime, items}: 7, {ResponseTime, toStock}: 34, {ResponseTime, stockLevel}: 30, {RunQueueWait, shop}: 9, {RunQueueWait, stock}: 8,
		{RunQueueWait, theHost}: 7, {CPUUsage, theHost}: 99, {PressureCPU, theHost}: 70, {CPUUsage, shop}: 44},
		at{CPUUsage, theHost}, ofHost, "by processes that serve no requests"},
	"a neighbour takes the processors": {at{ResponseTime, cart}, map[at]float64{{ResponseTime, cart}: 210, {ProcessingTime, cart}: 200, {QueueTime, cart}: 8, {ResponseTime, items}: 60,
		{ResponseTime, toStock}: 34, {RunQueueWait, shop}: 9, {RunQueueWait, stock}: 8, {CPUUsage, theHost}: 99, {PressureCPU, theHost}: 70, {CPUUsage, batch}: 138},
		at{CPUUsage, batch}, ofNeighbour, "batch uses more processor time: "},
	"container CPU limit": {at{ResponseTime, cart}, map[at]float64{{ResponseTime, cart}: 260, {ProcessingTime, cart}: 240, {QueueTime, cart}: 18, {ResponseTime, items}: 90, {QueueTime, items}: 15,
		{ProcessingTime, items}: 70, {CPUThrottling, shop}: 85, {CPUUsage, shop}: 30, {RunQueueWait, shop}: 12, {PressureCPU, theHost}: 22, {CPUUsage, theHost}: 27,
		{ResponseTime, toStock}: 16},
		at{CPUThrottling, shop}, ofSelf, "The CPU limit of its control group stops it"},
	"CPU hog on a host that was busy before": {at{ResponseTime, cart}, map[at]float64{{ResponseTime, cart}: 130, {ProcessingTime, cart}: 125, {QueueTime, cart}: 3, {ResponseTime, items}: 40,
		{ProcessingTime, items}: 36, {ResponseTime, toPayments}: 56, {RunQueueWait, shop}: 2, {RunQueueWait, theHost}: 5, {CPUUsage, theHost}: 100, {PressureCPU, theHost}: 97},
		at{CPUUsage, theHost}, ofHost, "as busy as before (100 %), and more wants to run"},
	"CPU hog for which a disk's operations end later": {at{ResponseTime, cart}, map[at]float64{{ResponseTime, cart}: 130, {ProcessingTime, cart}: 125, {QueueTime, cart}: 3, {ResponseTime, items}: 40,
		{ProcessingTime, items}: 36, {RunQueueWait, shop}: 2, {RunQueueWait, theHost}: 5, {CPUUsage, theHost}: 100, {PressureCPU, theHost}: 97, {DiskLatency, sda}: 12, {DiskUtilisation, sda}: 38,
		{PressureIO, theHost}: 15},
		at{CPUUsage, theHost}, ofHost, "more wants to run"},
	"slow disk, while processors are a little scarcer": {at{ResponseTime, cart}, map[at]float64{{ResponseTime, cart}: 190, {ProcessingTime, cart}: 188, {DiskLatency, sda}: 60, {DiskUtilisation, sda}: 70,
		{PressureIO, theHost}: 40, {RunQueueWait, theHost}: 3, {RunQueueWait, shop}: 1, {PressureCPU, theHost}: 12},
		at{DiskLatency, sda}, ofHost, "Disk sda"},
	"a neighbour writes, and computes for it": {at{ResponseTime, cart}, map[at]float64{{ResponseTime, cart}: 190, {ProcessingTime, cart}: 188, {DiskLatency, sda}: 12, {DiskUtilisation, sda}: 80,
		{PressureIO, theHost}: 40, {DiskWrite, batch}: 120e6, {DiskWrite, sda}: 120e6, {CPUUsage, batch}: 20, {RunQueueWait, theHost}: 4, {RunQueueWait, shop}: 1},
		at{DiskWrite, batch}, ofNeighbour, "batch writes to disks more: "},
	"a limit where there was none, on a busy host": {at{ResponseTime, cart}, map[at]float64{{ResponseTime, cart}: 18000, {ProcessingTime, cart}: 6000, {QueueTime, cart}: 3400, {ResponseTime, items}: 9000,
		{ProcessingTime, items}: 5000, {CPUThrottling, shop}: 97, {CPUUsage, shop}: 3, {RunQueueWait, shop}: 19, {CPUUsage, theHost}: 100, {PressureCPU, theHost}: 94,
		{ResponseTime, toStock}: 1357, {OpenFiles, shop}: 402, {OpenFiles, stock}: 320},
		at{CPUThrottling, shop}, ofSelf, "throttled periods 0 % → "},
	"memory pressure by a neighbour": {at{ResponseTime, cart}, map[at]float64{{ResponseTime, cart}: 200, {ProcessingTime, cart}: 198, {ResponseTime, items}: 70, {PressureMemory, theHost}: 30,
		{PressureIO, theHost}: 25, {SwapRate, theHost}: 20e6, {MemoryUsage, theHost}: 97, {MemoryResident, batch}: 1900e6, {DiskUtilisation, sda}: 60, {DiskLatency, sda}: 6,
		{CPUUsage, theHost}: 50},
		at{MemoryResident, batch}, ofNeighbour, "batch's memory grows"},
	"memory pressure of its own limit": {at{ResponseTime, cart}, map[at]float64{{ResponseTime, cart}: 200, {ProcessingTime, cart}: 198, {ResponseTime, items}: 70, {PressureMemory, theHost}: 30,
		{PressureIO, theHost}: 20, {MemoryUsage, shop}: 99, {MemoryResident, shop}: 700e6, {CPUUsage, shop}: 60, {DiskRead, shop}: 9e6, {DiskUtilisation, sda}: 30},
		at{MemoryUsage, shop}, ofSelf, "Its memory limit is used"},
	"slow disk": {at{ResponseTime, cart}, map[at]float64{{ResponseTime, cart}: 190, {ProcessingTime, cart}: 188, {DiskLatency, sda}: 60, {DiskUtilisation, sda}: 97, {PressureIO, theHost}: 40},
		at{DiskLatency, sda}, ofHost, "Disk sda"},
	"a neighbour writes": {at{ResponseTime, cart}, map[at]float64{{ResponseTime, cart}: 190, {ProcessingTime, cart}: 188, {DiskLatency, sda}: 40, {DiskUtilisation, sda}: 99, {PressureIO, theHost}: 40,
		{DiskWrite, batch}: 120e6, {CPUUsage, batch}: 12},
		at{DiskWrite, batch}, ofNeighbour, "batch writes to disks more: "},
	"packet delay": {at{ResponseTime, cart}, map[at]float64{{ResponseTime, cart}: 130, {ProcessingTime, cart}: 129, {ResponseTime, toPayments}: 100, {RTT, shop}: 50},
		at{RTT, shop}, ofSelf, "The network is slower"},
	"packet loss": {at{ResponseTime, cart}, map[at]float64{{ResponseTime, cart}: 140, {ProcessingTime, cart}: 139, {ResponseTime, toPayments}: 110, {Retransmits, shop}: 14, {Retransmits, theHost}: 14},
		at{Retransmits, shop}, ofSelf, "sent again"},
	"lock contention": {at{ResponseTime, cart}, map[at]float64{{ResponseTime, cart}: 400, {ProcessingTime, cart}: 399, {ResponseTime, items}: 240, {ProcessingTime, items}: 239, {CPUUsage, shop}: 36,
		{Threads, shop}: 30},
		at{metricConcurrency, Subject{Role: "server", Service: "shop"}}, ofSelf, "a lock, or a pool"},
	"slow downstream elsewhere": {at{ResponseTime, cart}, map[at]float64{{ResponseTime, cart}: 580, {ProcessingTime, cart}: 579, {ResponseTime, toPayments}: 550, {CPUUsage, shop}: 38, {Threads, shop}: 24},
		at{ResponseTime, toPayments}, ofDownstream, "payments.example:80, which it calls, answers slower"},
	"slow downstream elsewhere, while others lose packets": {at{ResponseTime, cart}, map[at]float64{{ResponseTime, cart}: 580, {ProcessingTime, cart}: 579, {ResponseTime, toPayments}: 550,
		{CPUUsage, shop}: 38, {Threads, shop}: 24, {Retransmits, theHost}: 18},
		at{ResponseTime, toPayments}, ofDownstream, "payments.example:80, which it calls, answers slower"},
	"slow downstream on the host, for its limit": {at{ResponseTime, items}, map[at]float64{{ResponseTime, items}: 120, {ProcessingTime, items}: 119, {ResponseTime, cart}: 180, {ResponseTime, toStock}: 110,
		{ResponseTime, stockLevel}: 108, {CPUThrottling, stock}: 90, {RunQueueWait, stock}: 20, {CPUUsage, stock}: 12},
		at{CPUThrottling, stock}, ofDownstream, "The CPU limit of stock's control group"},
	"slow downstream of a downstream": {at{ResponseTime, items}, map[at]float64{{ResponseTime, items}: 120, {ProcessingTime, items}: 119, {ResponseTime, cart}: 180, {ResponseTime, toStock}: 110,
		{ResponseTime, stockLevel}: 108, {ResponseTime, fromStock}: 103},
		at{ResponseTime, fromStock}, ofDownstream, "10.0.0.9:9200, which stock calls, answers slower"},
	"error burst of its own":        {at{ErrorRate, cart}, map[at]float64{{ErrorRate, cart}: 40}, at{ErrorRate, cart}, ofSelf, "shop itself fails"},
	"error burst of its downstream": {at{ErrorRate, cart}, map[at]float64{{ErrorRate, cart}: 40, {ErrorRate, toPayments}: 41}, at{ErrorRate, toPayments}, ofDownstream, "Calls to payments.example:80 fail"},
	"traffic burst": {at{ResponseTime, cart}, map[at]float64{{ResponseTime, cart}: 300, {ProcessingTime, cart}: 180, {QueueTime, cart}: 119, {ResponseTime, items}: 150, {QueueTime, items}: 100,
		{Throughput, items}: 200, {Throughput, cart}: 10, {Throughput, toStock}: 210, {Throughput, stockLevel}: 210, {ResponseTime, toStock}: 20, {ResponseTime, stockLevel}: 19, {CPUUsage, shop}: 120, {CPUUsage, stock}: 50,
		{CPUUsage, theHost}: 92, {PressureCPU, theHost}: 55, {RunQueueWait, shop}: 6, {RunQueueWait, stock}: 4},
		at{Throughput, Subject{Role: "server", Service: "shop"}}, ofSelf, "most of them `GET /items/{id}`"},
	"slower deploy": {at{ResponseTime, cart}, map[at]float64{{ResponseTime, cart}: 140, {ProcessingTime, cart}: 139, {CPUUsage, shop}: 95, {ProcessStarts, shop}: 2, {CPUUsage, theHost}: 55, {MemoryResident, shop}: 320e6},
		at{ProcessStarts, shop}, ofSelf, "Processes of shop were started at 14:01 UTC"},
	"pool exhausted": {at{ResponseTime, cart}, map[at]float64{{ResponseTime, cart}: 600, {ProcessingTime, cart}: 598, {ResponseTime, toPayments}: 55, {Throughput, cart}: 9, {Throughput, toPayments}: 9},
		at{metricConcurrency, Subject{Role: "server", Service: "shop"}}, ofSelf, "a pool of threads or connections that is exhausted"},
	"processors taken by other machines": {at{ResponseTime, cart}, map[at]float64{{ResponseTime, cart}: 200, {ProcessingTime, cart}: 190, {CPUSteal, theHost}: 45, {RunQueueWait, shop}: 2, {PressureCPU, theHost}: 8},
		at{CPUSteal, theHost}, ofHost, "Other virtual machines"},
}

// Of each kind of fault the cause that a person would name comes first, whatever the noise, and is said in words.
func TestCauses(t *testing.T) {
	for name, c := range faults {
		for seed := range int64(20) {
			f := about(c.finding.metric, c.finding.of, c.changes)
			explain(f, aroundFrom(seed, before[name], c.changes))
			if len(f.Causes) == 0 {
				t.Errorf("%s, seed %d: no cause", name, seed)
				break
			}
			got := f.Causes[0]
			if got.Measure != (Measure{c.first.metric, c.first.of}) || got.Relationship != c.how || !strings.Contains(got.Summary, c.says) {
				t.Errorf("%s, seed %d:%s", name, seed, told(f))
				break
			}
			if seed == 0 && testing.Verbose() {
				t.Logf("%s:%s", name, told(f))
			}
		}
	}
}

// told is a finding as people read it.
func told(f *Finding) string {
	var b strings.Builder
	b.WriteString("\n  " + f.Summary)
	for _, p := range f.Phases {
		b.WriteString("\n  phase " + p.Phase + " " + quantity(p.BeforeMS, "ms") + " → " + quantity(p.AfterMS, "ms") + ", " + quantity(p.SharePercent, "percent"))
	}
	for _, c := range f.Causes {
		b.WriteString("\n  " + c.Relationship + " " + c.Metric + " score " + figure(c.Score) + " confidence " + figure(c.Confidence) + ": " + c.Summary)
		if c.Correlation != nil {
			b.WriteString(" r=" + figure(*c.Correlation))
		}
	}
	for _, s := range f.NextSteps {
		b.WriteString("\n  > " + s)
	}
	return b.String()
}

// Equal evidence leads to equal conclusions, whatever the order of the series.
func TestExplanationIsDeterministic(t *testing.T) {
	for name, c := range faults {
		one, other := about(c.finding.metric, c.finding.of, c.changes), about(c.finding.metric, c.finding.of, c.changes)
		explain(one, around(1, c.changes))
		e := around(1, c.changes)
		slices.Reverse(e.All)
		explain(other, e)
		if !reflect.DeepEqual(one, other) {
			t.Errorf("%s:%s\n%s", name, told(one), told(other))
		}
	}
}

// Where nothing happened but the finding itself, no resource, neighbour or call is blamed for it.
func TestNoCauseIsMadeUp(t *testing.T) {
	for seed := range int64(50) {
		fault := map[at]float64{{ResponseTime, cart}: 110, {ProcessingTime, cart}: 109}
		f := about(ResponseTime, cart, fault)
		explain(f, around(seed, fault))
		for _, c := range f.Causes {
			if c.Metric != metricConcurrency {
				t.Fatalf("seed %d:%s", seed, told(f))
			}
		}
	}
}

// Evidence that is cut anywhere, without rows, values or a past, is no harm.
func TestExplainWithoutEvidence(t *testing.T) {
	c := faults["CPU hog that serves nothing"]
	for _, cut := range []int{0, 1, 2, 99, 100, 101, 103} {
		for _, start := range []int{-5, 0, 1, 100, 500} {
			f := about(c.finding.metric, c.finding.of, c.changes)
			e := around(2, c.changes)
			e.Start = start
			e.Surroundings = nil
			for i := range e.All {
				e.All[i].Values = e.All[i].Values[:cut]
				if i%7 == 0 {
					e.All[i].Values = nil
				}
				if i%5 == 0 {
					for j := range e.All[i].Values {
						e.All[i].Values[j] = float32(math.NaN())
					}
				}
			}
			explain(f, e)
			if !strings.HasPrefix(f.Summary, "`POST /cart` of shop takes 2.6 times as long as usual since 14:01 UTC (210 ms, usually 80 ms)") {
				t.Errorf("cut %d, start %d: %s", cut, start, f.Summary)
			}
		}
	}
	f := about(c.finding.metric, c.finding.of, c.changes)
	explain(f, &Evidence{})
	if len(f.Causes) > 0 || f.Summary == "" {
		t.Errorf("%+v", f)
	}
}

// BenchmarkExplain is what an explanation takes with as many series as there may be: the causes of two hundred neighbours.
func BenchmarkExplain(b *testing.B) {
	c := faults["a neighbour takes the processors"]
	e := around(1, c.changes)
	for i := range 200 {
		for _, metric := range []string{CPUUsage, MemoryResident} {
			m := Measured{Measure: Measure{metric, Subject{Service: "other" + figure(float64(i))}}, Values: e.All[i%len(e.All)].Values}
			e.All = append(e.All, m)
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		explain(about(c.finding.metric, c.finding.of, c.changes), e)
	}
}

// A service of the host that is called by an address is named.
func TestCalledServiceIsNamed(t *testing.T) {
	fault := map[at]float64{{ResponseTime, items}: 120, {ProcessingTime, items}: 119, {ResponseTime, cart}: 180, {ResponseTime, toStock}: 110, {ResponseTime, stockLevel}: 108}
	f := about(ResponseTime, items, fault)
	explain(f, around(1, fault))
	if !strings.Contains(f.Summary, ", probably because of slow answers of stock (127.0.0.1:8081).") {
		t.Errorf("%s", told(f))
	}
}

// loopbackServes are services that answer at ports of loopback.
func loopbackServes(ports map[uint16]Subject) func(string, uint16) (Subject, bool) {
	return func(address string, port uint16) (Subject, bool) {
		u, ok := ports[port]
		return u, ok && address == "127.0.0.1"
	}
}

// Shows that calls to an address or name of which it is known that a service of this host answers there are followed to it, as those to
// loopback are, and others are not.
func TestLocalAddress(t *testing.T) {
	fault := map[at]float64{{ResponseTime, cart}: 190, {ResponseTime, toStock}: 110, {CPUThrottling, stock}: 90}
	for _, c := range []struct {
		address string
		serves  string // at which address it is known to answer
		first   string
	}{{"127.0.0.1", "127.0.0.1", CPUThrottling}, {"10.231.7.2", "10.231.7.2", CPUThrottling}, {"stock.internal", "stock.internal", CPUThrottling},
		{"10.231.7.2", "127.0.0.1", ResponseTime}, {"10.231.7.3", "10.231.7.2", ResponseTime}} {
		f, e := about(ResponseTime, cart, fault), around(1, fault)
		for i := range e.All {
			if m := &e.All[i]; m.Address == toStock.Address && m.Port == toStock.Port {
				m.Address = c.address
			}
		}
		e.Surroundings.Serves = func(address string, port uint16) (Subject, bool) {
			return stock, address == c.serves && port == toStock.Port
		}
		explain(f, e)
		if len(f.Causes) == 0 || f.Causes[0].Metric != c.first || f.Causes[0].Relationship != ofDownstream {
			t.Errorf("%+v: %+v", c, f.Causes)
		}
	}
}
