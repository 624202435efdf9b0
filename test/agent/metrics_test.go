package agent

import "testing"

// Labels with escapes, commas and braces are read, and sums take only what matches.
func TestParseMetrics(t *testing.T) {
	m, err := ParseMetrics(`# HELP a help
a_total{role="server",path="/x{id},\"q\"\\"} 7
a_total{role="client"} 1.1e+01 1700000000000
b 3
perfagent_exchanges_lost_total{stage="kernel",reason="ring_full"} 2
h_bucket{le="+Inf"} 5 # {trace_id="x"} 1
`)
	if err != nil {
		t.Fatal(err)
	}
	if got := m.Sum("a_total"); got != 18 {
		t.Errorf("sum %g", got)
	}
	if got := m.Sum("a_total", "role", "server", "path", `/x{id},"q"\`); got != 7 {
		t.Errorf("sum of one %g", got)
	}
	if !m.Has("b") || m.Has("b", "role", "server") || m.Sum("h_bucket", "le", "+Inf") != 5 {
		t.Errorf("%+v", m)
	}
	if lost := m.Lost(); len(lost) != 1 || lost[0] != "kernel/ring_full=2" {
		t.Errorf("lost %v", lost)
	}
	for _, bad := range []string{"a", "a{", `a{b="c}`, `a{b="c"} x`} {
		if _, err := ParseMetrics(bad); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}
