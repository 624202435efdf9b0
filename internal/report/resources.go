package report

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/perfagent/perfagent/internal/query"
)

const (
	// resourceSteps is how many steps peaks are looked for in, resourceSamples how many intervals each has at least.
	resourceSteps, resourceSamples = 60, 5
	resourcesMax                   = 15
	lossesMax                      = 50
)

// window is a range in PromQL.
func window(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) + "ms" }

// resources asks what the services used that used most.
func (m *maker) resources() {
	m.r.Resources = []ServiceResources{}
	expr := fmt.Sprintf("topk(%d, sum by (service_name) (increase(perfagent_service_cpu_seconds_total[%s])))", resourcesMax, window(m.span.length()))
	top, err := m.ask(query.Question{Expr: expr, Start: m.span.To, End: m.span.To, WindowSamples: resourceSamples})
	if err != nil {
		m.r.ResourcesUnknown = err.Error()
		return
	}
	slices.SortStableFunc(top, func(a, b answered) int { return strings.Compare(a.labels["service_name"], b.labels["service_name"]) })
	slices.SortStableFunc(top, func(a, b answered) int { return int(math.Copysign(1, b.values[0]-a.values[0])) })
	var names []string
	for _, s := range top {
		names = append(names, regexp.QuoteMeta(s.labels["service_name"]))
	}
	if len(names) == 0 {
		m.r.ResourcesUnknown = "nothing was measured of services in this range"
		return
	}
	step := max(m.span.length()/resourceSteps, 30*time.Second).Truncate(10 * time.Second)
	chosen := "{service_name=~" + strconv.Quote(strings.Join(names, "|")) + "}"
	steps := query.Question{Start: m.span.From.Add(step), End: m.span.To, Step: step, WindowSamples: resourceSamples}
	byService := map[string]*ServiceResources{}
	for _, s := range top {
		byService[s.labels["service_name"]] = &ServiceResources{Service: s.labels["service_name"]}
	}
	for _, ask := range []struct {
		expr string
		put  func(*ServiceResources, *float64, *float64)
	}{
		{fmt.Sprintf("100 * sum by (service_name) (rate(perfagent_service_cpu_seconds_total%s[%s]))", chosen, window(step)),
			func(r *ServiceResources, average, peak *float64) { r.CPUAverage, r.CPUPeak = average, peak }},
		{fmt.Sprintf("sum by (service_name) (avg_over_time(perfagent_service_resident_memory_bytes%s[%s])) / 1e6", chosen, window(step)),
			func(r *ServiceResources, average, peak *float64) { r.MemoryAverage, r.MemoryPeak = average, peak }},
	} {
		steps.Expr = ask.expr
		all, err := m.ask(steps)
		if err != nil {
			m.r.ResourcesUnknown = err.Error()
			return
		}
		for _, s := range all {
			if r := byService[s.labels["service_name"]]; r != nil {
				ask.put(r, mean(s.values), rounded(slices.Max(s.values)))
			}
		}
	}
	for _, s := range top {
		m.r.Resources = append(m.r.Resources, *byService[s.labels["service_name"]])
	}
}

func mean(values []float64) *float64 {
	sum := 0.
	for _, v := range values {
		sum += v
	}
	return rounded(sum / float64(len(values)))
}

// losses asks for exchanges that were lost.
func (m *maker) losses() {
	m.r.Losses = []Loss{}
	expr := fmt.Sprintf("sum by (stage, reason) (increase(perfagent_exchanges_lost_total[%s]))", window(m.span.length()))
	all, err := m.ask(query.Question{Expr: expr, Start: m.span.To, End: m.span.To})
	switch {
	case err != nil:
		m.r.LossesUnknown = err.Error()
	case len(all) == 0:
		m.r.LossesUnknown = "the history has no count of losses in this range"
	}
	for _, s := range all {
		if n := math.Round(s.values[0]); n >= 1 {
			m.r.Losses = append(m.r.Losses, Loss{s.labels["stage"], s.labels["reason"], n})
		}
	}
	slices.SortStableFunc(m.r.Losses, func(a, b Loss) int { return int(b.Exchanges - a.Exchanges) })
	m.r.Losses = m.r.Losses[:min(len(m.r.Losses), lossesMax)]
}

// answered is a series of an answer: numbers alone, at least one.
type answered struct {
	labels map[string]string
	times  []int64
	values []float64
}

// ask copies what the engine answers with.
func (m *maker) ask(q query.Question) ([]answered, error) {
	all, warnings, err := ask(m.ctx, m.o.Engine, q)
	for _, w := range warnings {
		m.note(w)
	}
	return all, err
}
