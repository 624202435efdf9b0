package alerts

import (
	"flag"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/perfagent/perfagent/internal/alert"
)

var outages = flag.Int("alerts.outages", 200, "synthetic outages that burn an error budget")

// pairs are the burn rates of objectives, with how often they are evaluated.
var pairs = []struct {
	name     string
	rate     float64
	long     time.Duration
	interval time.Duration
}{
	{"ErrorBudgetBurn14.4", 14.4, time.Hour, alert.IntervalDefault},
	{"ErrorBudgetBurn6", 6, 6 * time.Hour, time.Minute},
	{"ErrorBudgetBurn3", 3, 24 * time.Hour, 2 * time.Minute},
	{"ErrorBudgetBurn1", 1, 72 * time.Hour, 2 * time.Minute},
}

// After three days without an error a share of the requests begins to fail. Each burn rate's alert fires when that share, over the
// long window, has reached the rate times the allowed share: at rate * allowed * window / share after the beginning, plus or minus
// one interval; and not at all where the share is below that. Each fires once, and ends once after the outage.
func TestOutages(t *testing.T) {
	wanted := *outages
	if testing.Short() {
		wanted = min(wanted, 5)
	}
	random := rand.New(rand.NewPCG(1, 2))
	fired := 0
	for i := range wanted {
		allowed := []float64{.001, .005, .01}[i%3]
		share := math.Pow(10, -2.3+2.3*random.Float64()) // 0.5 % to all
		perStep := 50 + random.IntN(1000)                // of 15 s
		fired += oneOutage(t, allowed, share, perStep)
	}
	t.Logf("%d outages, %d alerts fired at the formula's time", wanted, fired)
}

func oneOutage(t *testing.T, allowed, share float64, perStep int) (fired int) {
	begin := time.Unix(1_700_000_000, 0).Truncate(10 * time.Minute)
	w := newWorld(t, begin.Add(-72*time.Hour), nil, []alert.Objective{{Service: "shop", AvailabilityPercent: 100 - 100*allowed}})
	defer w.close(t)
	good, bad := w.counter("service_name", "shop"), w.counter("service_name", "shop", "error_type", "500", "http_response_status_code", "500")
	for w.scrapeCounts(good, bad); w.now.Before(begin); w.scrapeCounts(good, bad) {
		steps := 8 // the older, the coarser, as in the history
		if begin.Sub(w.now) <= 6*time.Hour {
			steps = 1
		}
		w.now = w.now.Add(time.Duration(steps) * step)
		good.count += float64(steps * perStep)
	}
	// The longest of the four to fire, and the time to stop.
	last := time.Duration(0)
	for _, p := range pairs {
		if d := predicted(p.rate, allowed, share, p.long); d > last && d < 8*time.Hour {
			last = d
		}
	}
	total, failed := 0., 0.
	seen := map[string]time.Time{}
	for end := begin.Add(last + 10*time.Minute); w.now.Before(end); {
		w.now = w.now.Add(step)
		total += float64(perStep)
		before := failed
		failed = math.Ceil(total * share) // whole requests, never less than the share
		bad.count += failed - before
		good.count += float64(perStep) - (failed - before)
		w.scrapeCounts(good, bad)
		w.evaluateRules()
		for name, i := range w.told {
			if _, known := seen[name]; !known {
				seen[name] = i.first
			}
		}
	}
	for _, p := range pairs {
		want, got := predicted(p.rate, allowed, share, p.long), seen[p.name]
		switch {
		case want > last: // never, or later than was looked
			if !got.IsZero() {
				t.Errorf("allowed %v, share %v: %s fired after %s, formula %s", allowed, share, p.name, got.Sub(begin), want)
			}
		case got.IsZero() || (got.Sub(begin)-want).Abs() > p.interval:
			t.Errorf("allowed %v, share %v, %d requests: %s fired after %s, formula %s", allowed, share, perStep, p.name, got.Sub(begin), want)
		default:
			fired++
			if w.told[p.name].begins != 1 {
				t.Errorf("%s began %d times", p.name, w.told[p.name].begins)
			}
		}
	}
	for _, problem := range w.failing() {
		t.Error(problem)
	}
	return fired
}

// predicted is when a burn rate's alert fires, after the beginning of an outage.
func predicted(rate, allowed, share float64, long time.Duration) time.Duration {
	if share <= rate*allowed {
		return math.MaxInt64
	}
	return time.Duration(rate * allowed / share * float64(long))
}
