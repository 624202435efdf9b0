package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"testing"
	"time"
)

// What people have: a value a line, CSV with and without a header, with times, semicolons, tabs and missing values.
func TestReadTable(t *testing.T) {
	for name, c := range map[string]struct {
		in    string
		names string
		rows  string
		step  time.Duration
	}{
		"values":        {"1\n2.5\r\nNaN\n-3e2", "value", "1 2.5 NaN -300", 0},
		"header":        {"cpu\n1\n2\n", "cpu", "1 2", 0},
		"columns":       {"1,2\n3,4\n", "column 1,column 2", "1 3|2 4", 0},
		"time":          {"time,cpu,mem\n2026-01-01T00:00:00Z,1,2\n2026-01-01T00:01:00Z,3,\n", "cpu,mem", "1 3|2 NaN", time.Minute},
		"unnamed time":  {"2026-01-01 00:00:00;1\n2026-01-01 01:00:00;null\n", "value", "1 NaN", time.Hour},
		"seconds":       {"ts\tx\n1652565600\t1\n1652565610\t2\n1652565620\t3\n", "x", "1 2 3", 10 * time.Second},
		"quoted":        {"# of a host\n\"a, b\",c\n1,2\n", "a, b,c", "1|2", 0},
		"infinite":      {"1\n+Inf\n", "value", "1 +Inf", 0},
		"out of range":  {"1e999\n1\n", "value", "+Inf 1", 0},
		"a mark":        {"\ufeff1\n2\n", "value", "1 2", 0},
		"time, a mark":  {"\ufefftime,x\r\n2026-01-01T00:00:00Z,1\r\n2026-01-01T00:01:00Z,2\r\n", "x", "1 2", time.Minute},
		"microseconds":  {"ts,x\n1652565600000000,1\n1652565610000000,2\n", "x", "1 2", 10 * time.Second},
		"nanoseconds":   {"ts,x\n1652565600000000000,1\n1652565610000000000,2\n", "x", "1 2", 10 * time.Second},
		"times at will": {"time,x\nnoon,1\nevening,2\n", "x", "1 2", 0},
	} {
		got, err := readTable(strings.NewReader(c.in))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var columns []string
		for _, column := range got.columns {
			columns = append(columns, strings.Trim(fmt.Sprint(column), "[]"))
		}
		if rows := strings.Join(columns, "|"); rows != c.rows || strings.Join(got.names, ",") != c.names || got.step != c.step {
			t.Errorf("%s: %q %q step %s, want %q %q %s", name, got.names, rows, got.step, c.names, c.rows, c.step)
		}
	}
}

// What is no table is refused with its line.
func TestReadTableErrors(t *testing.T) {
	for in, want := range map[string]string{
		"":                     "no value",
		"cpu\n":                "no value",
		"1\n2\nthree\n":        "line 3, column value: \"three\" is not a number",
		"a,b\n1,2\n3\n":        "line 3: 1 values in a table of 2 columns",
		"a,b\n1,2\n3,\"4\n5,6": "line 3",
		strings.Repeat("1,", analyzeColumnsMax) + "1": "more than 1024",
	} {
		if _, err := readTable(strings.NewReader(in)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.30q: %v, want %s", in, err, want)
		}
	}
}

// endless is input that repeats itself, and counts what was read of it.
type endless struct {
	head, body string
	read, most int
}

func (e *endless) Read(to []byte) (int, error) {
	if e.read > e.most {
		return 0, errors.New("too much was read")
	}
	for n := range to {
		if at := e.read + n; at < len(e.head) {
			to[n] = e.head[at]
		} else {
			to[n] = e.body[(at-len(e.head))%len(e.body)]
		}
	}
	e.read += len(to)
	return len(to), nil
}

// Shows that input which never comes to the end of a row or an object is refused after a bounded part of it, and not kept, for it may be
// larger than memory.
func TestEndlessInput(t *testing.T) {
	for name, c := range map[string]struct {
		head, body string
		most       int
		engine     []string
	}{
		"a line":            {"", "1", analyzeRowBytesMax, []string{"trend"}},
		"a quote":           {"x\n\"", "1", analyzeRowBytesMax, []string{"changepoints"}},
		"a quote of lines":  {"x\n\"", "1\n", analyzeRowBytesMax, []string{"forecast"}},
		"comments":          {"", "# and so on\n", analyzeRowBytesMax, []string{"anomalies"}},
		"zeros":             {"1,2\n", "\x00", analyzeRowBytesMax, []string{"correlation"}},
		"values of JSON":    {`{"y":[1`, ",1", analyzeObjectBytesMax, []string{"trend"}},
		"a name of JSON":    {`{"`, "x", analyzeObjectBytesMax, []string{"correlation"}},
		"what is no object": {"{", " ", analyzeObjectBytesMax, []string{"correlation"}},
	} {
		in := &endless{head: c.head, body: c.body, most: c.most + 2*analyzeLineMax}
		command := newAnalyzeCommand()
		command.SetArgs(c.engine)
		command.SetIn(in)
		command.SetOut(io.Discard)
		command.SetErr(io.Discard)
		command.SilenceUsage = true
		if err := command.Execute(); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("is longer than %d MiB", c.most>>20)) {
			t.Errorf("%s: %v after %d bytes", name, err, in.read)
		}
	}
}

// Shows that of a time no more is kept than one can have that is understood.
func TestLongTimes(t *testing.T) {
	values, err := readTable(strings.NewReader("time,x\n" + strings.Repeat("9", 60000) + ",1\n2026-01-01,2\n"))
	if err != nil || values.rows() != 2 || len(values.times[0]) > analyzeTimeBytesMax || values.times[1] != "2026-01-01" {
		t.Errorf("%+v, %v", values, err)
	}
}

// Any input is a table, all columns equally long, or an error.
func FuzzReadTable(f *testing.F) {
	f.Add("time,a,b\n2026-01-01,1,2\n,3,\n")
	f.Add("1\n2\nNaN\n")
	f.Fuzz(func(t *testing.T, in string) {
		values, err := readTable(strings.NewReader(in))
		if err != nil {
			return
		}
		for i, column := range values.columns {
			if len(column) != values.rows() {
				t.Fatalf("column %d has %d of %d rows", i, len(column), values.rows())
			}
		}
	})
}

// analyzed runs `perfagent analyze` with a whole command line.
func analyzed(t *testing.T, in string, arguments ...string) (string, error) {
	t.Helper()
	command := newAnalyzeCommand()
	var out, warn bytes.Buffer
	command.SetArgs(arguments)
	command.SetIn(strings.NewReader(in))
	command.SetOut(&out)
	command.SetErr(&warn)
	command.SilenceUsage, command.SilenceErrors = true, true
	err := command.Execute()
	return out.String(), err
}

// hours is a table of hours of day 1 with two columns: one rises by 2 an hour and wobbles, the other follows it.
func hours(n int) string {
	in := "time,used,work\n"
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for i := range n {
		used := 100 + 2*float64(i) + 3*math.Sin(float64(i*i))
		in += fmt.Sprintf("%s,%.2f,%.2f\n", start.Add(time.Duration(i)*time.Hour).Format("2006-01-02 15:04"), used, 5+used/10+math.Cos(float64(i*i)))
	}
	return in
}

// A trend is a sentence with its unit from the times, JSON, or a line for each object.
func TestAnalyzeTrend(t *testing.T) {
	text, err := analyzed(t, hours(100), "trend", "--column", "used")
	if err != nil || !strings.HasPrefix(text, "used over 4d4h (100 values): rising by 4") || !strings.Contains(text, "per day") || !strings.Contains(text, "strong: ") {
		t.Errorf("%v: %s", err, text)
	}
	text, err = analyzed(t, hours(100), "trend", "--column", "used", "-o", "json")
	var found struct {
		Direction   string
		Slope       float64
		P           float64 `json:"p_value"`
		StepSeconds float64 `json:"step_seconds"`
	}
	if bad := json.Unmarshal([]byte(text), &found); err != nil || bad != nil || found.Direction != "rising" || math.Abs(found.Slope-2) > 0.1 || found.StepSeconds != 3600 {
		t.Errorf("%v: %s", err, text)
	}
	if text, err = analyzed(t, "3\n1\n2\n3\n1\n2\n1\n3\n2\n", "trend"); err != nil || !strings.Contains(text, "steady") {
		t.Errorf("%v: %s", err, text)
	}
	text, err = analyzed(t, "{\"y\":[1,2,3,4,5,6,null,8]}\n{\"y\":[]}", "trend")
	if lines := strings.Split(text, "\n"); err != nil || len(lines) != 3 || !strings.HasPrefix(lines[0], "1 ") || lines[1] != "0 1" {
		t.Errorf("%v: %s", err, text)
	}
}

// Steps as durations that a person would write, where the step is known.
func TestSteps(t *testing.T) {
	for want, c := range map[string]struct {
		step  time.Duration
		steps float64
	}{
		"12 steps": {0, 12}, "45s": {time.Second, 45}, "2m": {time.Second, 120}, "2m5s": {time.Second, 125}, "3h": {time.Minute, 180},
		"1h20m": {time.Minute, 80}, "2d": {time.Hour, 48}, "1d1h": {time.Hour, 25}, "10h0m20s": {time.Second, 36020}, "0s": {time.Second, 0},
	} {
		if got := (&table{step: c.step}).steps(c.steps); got != want {
			t.Errorf("%g of %s: %s, want %s", c.steps, c.step, got, want)
		}
	}
}

// Pairs of columns with what relates them; a target and a load leave fewer.
func TestAnalyzeCorrelation(t *testing.T) {
	text, err := analyzed(t, hours(100), "correlation")
	if err != nil || !strings.Contains(text, "used and work") || !strings.Contains(text, "of 1 pairs, 1 are related") {
		t.Errorf("%v: %s", err, text)
	}
	text, err = analyzed(t, hours(100), "correlation", "--target", "work", "--max-lag", "3", "-o", "json")
	var found struct {
		X, Y, Relationship string
		Coefficient        float64
	}
	if bad := json.Unmarshal([]byte(text), &found); err != nil || bad != nil || found.X != "used" || found.Y != "work" || found.Relationship != "positive" {
		t.Errorf("%v: %s", err, text)
	}
	if text, err = analyzed(t, "{\"x\":[1,2,3,4,5],\"y\":[2,4,6,8,10]}\n", "correlation"); err != nil || !strings.HasPrefix(text, "1 ") {
		t.Errorf("%v: %s", err, text)
	}
	for _, arguments := range [][]string{{"--load", "used"}, {"--target", "nothing"}, {"--max-lag", "-1"}, {"-o", "xml"}} {
		if text, err := analyzed(t, hours(10), append([]string{"correlation"}, arguments...)...); err == nil {
			t.Errorf("%v: no error but %s", arguments, text)
		}
	}
}

// The metric that grew comes first, with its score; the names tell what each is.
func TestAnalyzeRootcause(t *testing.T) {
	in := "time,web_cpu,web_latency_99,db_memory\n"
	for i := range 40 {
		hog := 0
		if i >= 20 {
			hog = 70
		}
		in += fmt.Sprintf("%d,%d,%d,%d\n", 1_700_000_000+i, 10+i%3+hog, 20+i%4+10*hog, 500+i%5)
	}
	text, err := analyzed(t, in, "rootcause", "20")
	if lines := strings.Split(text, "\n"); err != nil || len(lines) != 4 || !strings.HasPrefix(lines[0], "web_cpu\t1.") || !strings.HasPrefix(lines[2], "db_memory\t0.0") {
		t.Errorf("%v: %s", err, text)
	}
	for _, row := range []string{"40", "0", "x"} {
		if _, err := analyzed(t, in, "rootcause", row); err == nil {
			t.Errorf("row %s: no error", row)
		}
	}
}

// The words of a name tell what it measures and of what.
func TestMetricOf(t *testing.T) {
	for name, want := range map[string]string{
		"cart_cpu": "cart cpu", "queue-master_cpu": "queue-master cpu", "cart_request_duration": "cart latency", "cart_lat_90": "cart latency",
		"memory_pressure": " pressure", "db.disk_io_time": "db disk", "shop requests": "shop load", "shop_errors": "shop errors", "Host CPU": "Host cpu",
		"temperature": "temperature other", "": " other",
	} {
		if entity, kind := metricOf(name); entity+" "+string(kind) != want {
			t.Errorf("%s: %q %s, want %s", name, entity, kind, want)
		}
	}
}

// A forecast is a line a step, JSON, or the time until a limit is reached.
func TestAnalyzeForecast(t *testing.T) {
	text, err := analyzed(t, hours(100), "forecast", "3", "0", "--column", "used")
	var mean, low, high float64
	if lines := strings.Split(text, "\n"); err != nil || len(lines) != 4 {
		t.Fatalf("%v: %s", err, text)
	} else if n, _ := fmt.Sscan(lines[0], &mean, &low, &high); n != 3 || math.Abs(mean-300) > 5 || low >= mean || high <= mean {
		t.Errorf("%s, want about 300", text)
	}
	text, err = analyzed(t, hours(100), "forecast", "200", "--column", "used", "--until", "400")
	if err != nil || !strings.HasPrefix(text, "used reaches 400 in ") || !strings.Contains(text, "2026-01-07") || !strings.Contains(text, "at the earliest") {
		t.Errorf("%v: %s", err, text)
	}
	if text, err = analyzed(t, hours(100), "forecast", "2", "--column", "used", "--until", "9000"); err != nil || !strings.Contains(text, "does not reach 9000 within 2h") {
		t.Errorf("%v: %s", err, text)
	}
	text, err = analyzed(t, hours(100), "forecast", "5", "--column", "used", "-o", "json", "--until", "305")
	var found struct {
		Season int
		Values []struct{ Mean, Low, High float64 }
		Models []struct{ Name string }
		Until  struct{ Likely int }
	}
	if bad := json.Unmarshal([]byte(text), &found); err != nil || bad != nil || found.Season != 24 || len(found.Values) != 5 || len(found.Models) == 0 || found.Until.Likely == 0 {
		t.Errorf("%v: %s", err, text)
	}
	for _, arguments := range [][]string{{"0"}, {"x"}, {"5", "-1"}, {"5", "24", "7"}, {"5", "--until", "soon"}, {"5"}} {
		if text, err := analyzed(t, hours(10), append([]string{"forecast"}, arguments...)...); err == nil {
			t.Errorf("%v: no error but %s", arguments, text)
		}
	}
}

// The share of hits as lines where sizes are given, as a table else; other policies, sizes and lifetimes are refused.
func TestAnalyzeCache(t *testing.T) {
	in := strings.Repeat("/a x\n/b\n\n/a\n/c\n", 25)
	text, err := analyzed(t, in, "cache", "lru,ttl:2,ttl:1000", "1,3")
	if want := "lru 1 0.00000\nlru 3 0.97000\nttl:2 0 0.00000\nttl:1000 0 0.97000\n"; err != nil || text != want {
		t.Errorf("%v: %q, want %q", err, text, want)
	}
	if text, err = analyzed(t, in, "cache"); err != nil || !strings.HasPrefix(text, "hits of 100 requests for 3 keys, in percent (exact)") {
		t.Errorf("%v: %s", err, text)
	}
	for _, arguments := range [][]string{{"clock"}, {"ttl:0"}, {"lru", "0"}, {"lru", "x"}, {"--keys=-1"}} {
		if _, err := analyzed(t, in, append([]string{"cache"}, arguments...)...); err == nil {
			t.Errorf("%v: no error", arguments)
		}
	}
	if _, err := analyzed(t, "\n", "cache"); err == nil {
		t.Error("no error without a request")
	}
}

// What a person gets wrong is said in his words: times out of order, values that are no numbers, a file as an argument.
func TestAnalyzeMistakes(t *testing.T) {
	for in, want := range map[string]string{
		"time,v\n2026-01-01T00:00:20Z,1\n2026-01-01T00:00:10Z,2\n": "row 2: the time 2026-01-01T00:00:10Z is not after that of the row before",
		"time,v\n2026-01-01,1\n2026-01-01,2\n":                     "row 2: the time 2026-01-01 is not after",
	} {
		if _, err := readTable(strings.NewReader(in)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", in, err)
		}
	}
	if err := analyzeTrend(strings.NewReader("{\"y\": \"x\"}\n"), &bytes.Buffer{}, "", false); err == nil || err.Error() != "object 1: y is string, not numbers or null" {
		t.Errorf("%v", err)
	}
	if err := readsInput(nil, []string{"host.csv"}); err == nil || !strings.Contains(err.Error(), "standard input, as < FILE") {
		t.Errorf("%v", err)
	}
}

// A limit that a forecast does not reach is null in JSON, not step 0.
func TestForecastUntilJSON(t *testing.T) {
	for limit, want := range map[float64]string{1e9: `"until":{"likely":null,"earliest":null,"latest":null}`, 42: `"until":{"likely":2,`} {
		var in strings.Builder
		for i := range 41 {
			fmt.Fprintln(&in, i)
		}
		var out bytes.Buffer
		if err := analyzeForecast(strings.NewReader(in.String()), &out, forecastOptions{horizon: 10, season: -1, limit: limit, output: "json"}); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(out.String(), want) {
			t.Errorf("until %g: %s", limit, out.String())
		}
	}
}
