package alert

import (
	"strings"
	"testing"
)

// Shows what a server's rules differ in from the built-in ones: each host is judged for itself, also where two terms meet, and what reads
// classic series of a histogram reads the native one where they are missing, and the other way round.
func TestServerExpressions(t *testing.T) {
	for text, want := range map[string]string{
		`sum(increase(perfagent_exchanges_lost_total[5m])) >= 1`: `sum by (instance) (increase(perfagent_exchanges_lost_total[5m])) >= 1`,
		`max by (device) (a) < 1 and on () (b < 2)`:              `max by (instance, device) (a) < 1 and on (instance) (b < 2)`,
		`a == 0 and max_over_time(a[1h]) == 1`:                   `a == 0 and max_over_time(a[1h]) == 1`,
		`sum by (x) (increase(http_server_request_duration_seconds_count{e!=""}[5m] offset 1h))`: `sum by (instance, x) ((increase(http_server_request_duration_seconds_count{e!=""}[5m] offset 1h) or ` +
			`histogram_count(increase(http_server_request_duration_seconds{e!=""}[5m] offset 1h))))`,
		`sum(rate(perfagent_http_server_phase_duration_seconds_sum[5m]))`: `sum by (instance) ((rate(perfagent_http_server_phase_duration_seconds_sum[5m]) or ` +
			`histogram_sum(rate(perfagent_http_server_phase_duration_seconds[5m]))))`,
		`histogram_quantile(0.95, sum by (x) (rate(http_server_request_duration_seconds[5m]))) > 1`: `(histogram_quantile(0.95, sum by (instance, x) (rate(http_server_request_duration_seconds[5m]))) or ` +
			`histogram_quantile(0.95, sum by (instance, x, le) (rate(http_server_request_duration_seconds_bucket[5m])))) > 1`,
	} {
		got, err := serverExpr(text)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if squeeze(got) != squeeze(want) {
			t.Errorf("%s became\n%s\nwant\n%s", text, got, want)
		}
	}
}

// squeeze takes away how an expression is laid out.
func squeeze(expr string) string { return strings.Join(strings.Fields(expr), "") }

// Shows that a server has every built-in rule, and reads them as a rule file of Prometheus.
func TestServerRules(t *testing.T) {
	var b Builtin
	var file strings.Builder
	if err := b.WriteServerRules(&file); err != nil {
		t.Fatal(err)
	}
	read, err := Parse([]File{{"server.yml", []byte(file.String())}}, nil, nil)
	if err != nil || len(read.Warnings) > 0 {
		t.Fatalf("%v %v\n%s", err, read, file.String())
	}
	own, err := Parse(nil, &b, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, g := range own.groups {
		for j, r := range g.rules {
			other := read.groups[i].rules[j]
			if other.name != r.name || other.hold != r.hold || other.labels.String() != r.labels.String() || other.annotations.Get("next_step") != r.annotations.Get("next_step") {
				t.Errorf("%s is %s of the server's", r.definition(), other.definition())
			}
		}
	}
	if read.Len() != own.Len() {
		t.Errorf("%d rules, %d of the server's", own.Len(), read.Len())
	}
}
