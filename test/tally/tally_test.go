package main

import (
	"strings"
	"testing"
)

// Each command is run by bash and its tests are counted, whatever form it prints them in.
func TestStepCountsTests(t *testing.T) {
	for _, c := range []struct {
		name, command string
		want          counts
		shown         string
	}{
		{"a command without tests", "echo hello", counts{passed: 1}, "hello"},
		{"a command that fails", "echo oops; exit 3", counts{failed: 1}, "exit status 3"},
		{"JSON", `cat <<'X'
{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestA","Output":"    a.go:1: broken\n"}
{"Action":"fail","Package":"p","Test":"TestA","Elapsed":0.1}
{"Action":"output","Package":"p","Test":"TestB","Output":"not shown\n"}
{"Action":"pass","Package":"p","Test":"TestB"}
{"Action":"skip","Package":"p","Test":"TestC"}
{"Action":"fail","Package":"p"}
X
exit 1`, counts{1, 1, 1}, "a.go:1: broken"},
		{"a package that does not build", `cat <<'X'
{"ImportPath":"p","Action":"build-output","Output":"p.go:1: syntax error\n"}
{"Action":"fail","Package":"p","FailedBuild":"p"}
X
exit 1`, counts{failed: 1}, "syntax error"},
		{"text", "printf '=== RUN   TestA\\n--- PASS: TestA (0.00s)\\n    --- PASS: TestA/x (0.00s)\\n--- FAIL: TestB (0.00s)\\n'; exit 1",
			counts{passed: 2, failed: 1}, "--- FAIL: TestB"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out strings.Builder
			if got := step(c.command, &out); got != c.want {
				t.Errorf("counted %+v, want %+v", got, c.want)
			}
			_, shown, _ := strings.Cut(out.String(), c.command+"\n")
			if !strings.Contains(shown, c.shown) || strings.Contains(shown, "not shown") {
				t.Errorf("showed %q, want %q in it", shown, c.shown)
			}
		})
	}
}
