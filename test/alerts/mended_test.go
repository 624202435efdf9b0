package alerts

import (
	"slices"
	"testing"
	"time"

	"github.com/perfagent/perfagent/internal/alert"
)

// Shows that rules which fail for two minutes, as between two reloads of a file in which somebody tries something, raise nothing, while
// those that go on failing do: the failures are counted at each evaluation, and end.
func TestMendedRules(t *testing.T) {
	for failing, want := range map[time.Duration]bool{2 * time.Minute: false, time.Hour: true} {
		begin := time.Unix(1_700_000_000, 0).Truncate(10 * time.Minute)
		w := newWorld(t, begin, &alert.Builtin{}, nil)
		for ; w.now.Before(begin.Add(40 * time.Minute)); w.now = w.now.Add(step) {
			since := w.now.Sub(begin) - 5*time.Minute
			if since >= 0 && since < failing {
				w.add(2, "perfagent_rule_evaluation_failures_total", "rule_group", "f.yml;g")
			} else {
				w.add(0, "perfagent_rule_evaluation_failures_total", "rule_group", "f.yml;g")
			}
			w.pass()
		}
		if got := slices.Contains(w.fired(), "PerfagentRulesFail"); got != want {
			t.Errorf("failing for %s: fired %v, of all %v", failing, got, w.fired())
		}
		w.close(t)
	}
}
