package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/perfagent/perfagent/internal/series"
)

// faulty is a day of a quiet series, a minute apart, with ten minutes far above from 20:00 on.
func faulty() string {
	var b strings.Builder
	b.WriteString("timestamp,value\n")
	start := time.Date(2026, 1, 31, 0, 0, 0, 0, time.UTC)
	for i := range 1440 {
		v := 100 + (i*7919)%17
		if i >= 1200 && i < 1210 {
			v = 900
		}
		fmt.Fprintf(&b, "%s,%d\n", start.Add(time.Duration(i)*time.Minute).Format("2006-01-02 15:04:05"), v)
	}
	return b.String()
}

func anomaliesOf(t *testing.T, in, output string) string {
	t.Helper()
	var out bytes.Buffer
	f := anomalyFlags{output: output, sensitivity: series.AnomalySensitivity, step: time.Minute}
	if err := analyzeAnomalies(strings.NewReader(in), &out, f); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// One score a line, the highest where the fault begins; and a series that is cut there has the same scores up to then, since a value
// is judged by what came before only.
func TestAnalyzeAnomaliesScores(t *testing.T) {
	scores := strings.Fields(anomaliesOf(t, faulty(), "scores"))
	if len(scores) != 1440 {
		t.Fatalf("%d scores", len(scores))
	}
	highest, at := 0.0, 0
	for i, s := range scores {
		score, err := strconv.ParseFloat(s, 64)
		if err != nil {
			t.Fatal(err)
		}
		if score > highest {
			highest, at = score, i
		}
	}
	if at != 1200 {
		t.Errorf("the highest score, %g, is at %d", highest, at)
	}
	cut := strings.Join(strings.SplitAfter(faulty(), "\n")[:1101], "")
	if part := strings.Fields(anomaliesOf(t, cut, "scores")); strings.Join(part, " ") != strings.Join(scores[:1100], " ") {
		t.Error("a cut series has other scores")
	}
}

// The incident is told to people in a line that fits 80 columns, and to programs with everything that is known.
func TestAnalyzeAnomaliesIncidents(t *testing.T) {
	lines := strings.Split(strings.TrimSpace(anomaliesOf(t, faulty(), "text")), "\n")
	if len(lines) != 2 || !strings.HasPrefix(lines[1], "2026-01-31 20:00:00  critical") || !strings.Contains(lines[1], "900, not 10") {
		t.Errorf("got %q", lines)
	}
	for _, line := range lines {
		if len(line) > 80 {
			t.Errorf("%d columns: %s", len(line), line)
		}
	}
	var document struct {
		Incidents []series.Incident `json:"incidents"`
	}
	if err := json.Unmarshal([]byte(anomaliesOf(t, faulty(), "json")), &document); err != nil {
		t.Fatal(err)
	}
	if len(document.Incidents) != 1 || document.Incidents[0].Peak != 900 || document.Incidents[0].Open {
		t.Errorf("got %+v", document)
	}
}

// What is not understood is said with its place.
func TestAnalyzeAnomaliesErrors(t *testing.T) {
	f := anomalyFlags{output: "scores", sensitivity: 1, step: time.Minute}
	err := analyzeAnomalies(strings.NewReader("timestamp,value\n2026-01-31,1\nyesterday,2\n"), &bytes.Buffer{}, f)
	if err == nil || !strings.Contains(err.Error(), "row 2") {
		t.Errorf("got %v", err)
	}
}

// A step is found in each form: an index a line as benchmarks read it, a sentence, and JSON; several columns are looked at each.
func TestAnalyzeChangepoints(t *testing.T) {
	var in strings.Builder
	in.WriteString("p50,p99\n")
	for i := range 100 {
		level := 10
		if i >= 60 {
			level = 30
		}
		fmt.Fprintf(&in, "%d,%d\n", 5+(i*7919)%3, level+(i*7919)%3)
	}
	for output, want := range map[string]string{
		"indexes": "60\n",
		"text":    "1 change in 100 values\nrow 60  p99: 11 to 31 (+20), confidence 100 %\n",
	} {
		var out bytes.Buffer
		if err := analyzeChangepoints(strings.NewReader(in.String()), &out, "", output); err != nil {
			t.Fatal(err)
		}
		if out.String() != want {
			t.Errorf("%s: got %q, want %q", output, out.String(), want)
		}
	}
	var out bytes.Buffer
	if err := analyzeChangepoints(strings.NewReader(in.String()), &out, "p50", "json"); err != nil || out.String() != "{\"changes\":[]}\n" {
		t.Errorf("got %q, %v", out.String(), err)
	}
}
