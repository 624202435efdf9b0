package series

import (
	"math/rand"
	"testing"
)

// incident makes a metric that is at one level for 60 steps, then at another, both with a twentieth of noise.
func incident(r *rand.Rand, entity string, kind MetricKind, before, after float64) CauseMetric {
	m := CauseMetric{Name: entity + "_" + string(kind), Entity: entity, Kind: kind}
	for i := range 90 {
		level := before
		if i >= 60 {
			level = after
		}
		m.Values = append(m.Values, level*(1+0.05*r.NormFloat64()))
	}
	return m
}

// What a person would blame first: the resource that grew, not the latency that grew with it, not what follows from the load,
// not what is small beside others of its kind, and the memory rather than the processor time that it costs.
func TestRankCauses(t *testing.T) {
	r := rand.New(rand.NewSource(6))
	of := func(entity string, kind MetricKind, before, after float64) CauseMetric {
		return incident(r, entity, kind, before, after)
	}
	empty := CauseMetric{Name: "gone", Entity: "gone", Kind: KindCPU, Values: []float64{nan, nan}}
	calm := []CauseMetric{of("db", KindCPU, 10, 10), of("db", KindMemory, 900, 905), of("web", KindMemory, 300, 297), empty}
	for name, c := range map[string]struct {
		metrics []CauseMetric
		first   string
	}{
		"hog":       {[]CauseMetric{of("web", KindLatency, 20, 400), of("web", KindErrors, 1, 30), of("web", KindCPU, 10, 95)}, "web_cpu"},
		"traffic":   {[]CauseMetric{of("web", KindLoad, 100, 500), of("web", KindCPU, 10, 50), of("web", KindLatency, 20, 400)}, "web_load"},
		"leak":      {[]CauseMetric{of("web", KindCPU, 10, 95), of("web", KindMemory, 300, 800)}, "web_memory"},
		"trifle":    {[]CauseMetric{of("cron", KindMemory, 4, 9), of("cron", KindCPU, 2, 80)}, "cron_cpu"},
		"stall":     {[]CauseMetric{of("web", KindLatency, 20, 400), of("host", KindPressure, 0, 30), of("web", KindCPU, 20, 4)}, "host_pressure"},
		"neighbour": {[]CauseMetric{of("web", KindLatency, 20, 60), of("web", KindCPU, 20, 22), of("batch", KindCPU, 1, 180)}, "batch_cpu"},
	} {
		for _, from := range []int{60, 57, 63} { // also where the start is not known exactly
			got := RankCauses(append(c.metrics, calm...), from)
			if got[0].Name != c.first || got[0].Shift < 3 {
				t.Errorf("%s from %d: %s first (score %.2f, then %s %.2f), want %s", name, from, got[0].Name, got[0].Score, got[1].Name, got[1].Score, c.first)
			}
			if last := got[len(got)-1]; last.Score != 0 {
				t.Errorf("%s: %s is last with score %g, want what has no values", name, last.Name, last.Score)
			}
		}
	}
}

// Where nothing happened no score is worth a look, and where there are no rows on one side nothing has a score.
func TestRankCausesOfNothing(t *testing.T) {
	r := rand.New(rand.NewSource(7))
	metrics := []CauseMetric{incident(r, "web", KindCPU, 10, 10), incident(r, "web", KindMemory, 300, 300), incident(r, "db", KindLoad, 5, 5)}
	for _, from := range []int{60, 0, -3, 90, 1000} {
		for _, cause := range RankCauses(metrics, from) {
			if cause.Score > 0.1 || cause.Score != 0 && from != 60 {
				t.Errorf("from %d: %s has score %.2f", from, cause.Name, cause.Score)
			}
		}
	}
}
