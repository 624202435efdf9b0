package history

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/perfagent/perfagent/internal/analytics"
	"github.com/perfagent/perfagent/internal/host"
)

// sampleOf is a host with a gauge, a counter and a service.
func sampleOf(n int) *host.Sample {
	return &host.Sample{Time: start, Number: uint64(n), Load: &host.Load{One: float64(n) / 4, Five: host.Unknown, Fifteen: host.Unknown},
		Services: []host.Service{{Name: "shop1", CPUSeconds: host.Counter{Total: float64(n) * .01}, ResidentBytes: 1 << 20, Threads: host.Unknown,
			OpenFiles: host.Unknown, OpenFilesUsed: host.Unknown, ReadBytes: host.Counter{Total: host.Unknown}, WrittenBytes: host.Counter{Total: host.Unknown},
			InvoluntarySwitches: host.Counter{Total: host.Unknown}, VoluntarySwitches: host.Counter{Total: host.Unknown}}}}
}

func dump(t *testing.T, path, selector, format string, step time.Duration) string {
	t.Helper()
	h, err := OpenReadOnly(path)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	q := Query{From: start, To: start.Add(1000 * time.Hour), Step: step}
	if q.Matchers, err = ParseSelector(selector); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := Dump(&out, h, q, format); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// A directory is dumped beside the agent that writes to it, and after it, with the same result, which is exact in each format; and
// nothing in the directory is changed.
func TestDump(t *testing.T) {
	path := t.TempDir()
	h := Open(Options{Path: path, Log: quiet})
	const n = 400
	for i := range n {
		feed(h, tickOf(i), sampleOf(i))
	}
	before := content(t, filepath.Join(path, directoryName))
	const durations = `http_server_request_duration_seconds{http_route=~"/r.",service_name!="x"}`
	type key struct {
		selector, format string
		step             time.Duration
	}
	texts := map[key]string{}
	for _, k := range []key{
		{durations, "openmetrics", 0}, {durations, "csv", time.Hour}, {durations, "json", time.Minute},
		{"perfagent_host_load1", "openmetrics", time.Hour}, {`perfagent_service_cpu_seconds_total{service_name="shop1"}`, "csv", 0},
	} {
		texts[k] = dump(t, path, k.selector, k.format, k.step)
	}
	if !maps.Equal(before, content(t, filepath.Join(path, directoryName))) {
		t.Error("the dump changed the directory")
	}
	h.close()
	for k, text := range texts {
		if again := dump(t, path, k.selector, k.format, k.step); again != text {
			t.Errorf("%v differs without the agent", k)
		}
	}
	lines := strings.Split(strings.TrimSpace(texts[key{durations, "openmetrics", 0}]), "\n")
	labels := `http_request_method="GET",http_response_status_code="200",http_route="/r1",network_protocol_version="1.1",service_name="shop1",url_scheme="http"`
	for _, want := range []string{
		"# TYPE http_server_request_duration_seconds histogram",
		`http_server_request_duration_seconds_bucket{` + labels + `,le="0.0001"} 5151 1772370400`,
		`http_server_request_duration_seconds_bucket{` + labels + `,le="60.0"} 80200 1772370400`,
		`http_server_request_duration_seconds_count{` + labels + `} 80200 1772370400`,
		`http_server_request_duration_seconds_count{` + labels + `} 3 1772366420`,
		`http_server_request_duration_seconds_count{` + labels + `} 0 1772366400`, // before the first of them
	} {
		if !slices.Contains(lines, want) {
			t.Errorf("%s is not there, but\n%s", want, strings.Join(lines[len(lines)-30:], "\n"))
		}
	}
	count := uint64(0)
	for line := range strings.Lines(texts[key{durations, "json", time.Minute}]) {
		var s sampleJSON
		if err := json.Unmarshal([]byte(line), &s); err != nil {
			t.Fatal(err)
		}
		count += *s.Count
	}
	if count != 80200 { // 1 + 2 + … + 400
		t.Errorf("JSON has %d requests", count)
	}
	if text := texts[key{"perfagent_host_load1", "openmetrics", time.Hour}]; !strings.HasPrefix(text, "# TYPE perfagent_host_load1 gauge\nperfagent_host_load1 89.75 1772370000\n") {
		t.Errorf("the load is %s", text)
	}
	if text := texts[key{`perfagent_service_cpu_seconds_total{service_name="shop1"}`, "csv", 0}]; !strings.Contains(text, `service_name=""shop1""`) || !strings.Contains(text, ",10,3.99,") {
		t.Errorf("the processor time is %s", text)
	}
}

// While an agent writes without a pause, whoever dumps sees the history as it was at one moment.
func TestDumpBesideWriter(t *testing.T) {
	path := t.TempDir()
	h := Open(Options{Path: path, Log: quiet})
	n, done, ended := 0, make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for ; ; n++ {
			select {
			case <-done:
				return
			default:
				feed(h, tickOf(n), nil)
			}
		}
	}()
	for range 5 {
		reader, err := OpenReadOnly(path)
		if err != nil && strings.Contains(err.Error(), "changes all the time") {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		checkTicks(t, reader, int(reader.store.next)-1)
		reader.Close()
	}
	close(done)
	<-ended
	h.close()
	reader, err := OpenReadOnly(path)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	checkTicks(t, reader, n)
}

// Selectors are read as Prometheus reads them, and anything else is refused.
func TestSelectors(t *testing.T) {
	labels := []analytics.Label{{Name: "__name__", Value: "m"}, {Name: "a", Value: "x\ny"}}
	for text, want := range map[string]bool{
		"m": true, "n": false, "m_count": true, "m_bucket": true, "m_total": false, `{__name__=~"m_.*"}`: true, `{__name__!="m_sum"}`: true, `{a=~"x.*"}`: true, `m{a="x\ny",b=""}`: true, `m{a!~"x.*"}`: false, `m{a!="z", }`: true, ` m { a =~ "x|x.y" } `: true,
	} {
		all, err := ParseSelector(text)
		if err != nil || matches(labels, all) != want {
			t.Errorf("%s: %v, %v", text, matches(labels, all), err)
		}
	}
	for _, text := range []string{"", "m{", `m{a}`, `m{a="x}`, `m{a=~"("}`, `m{a="x" b="y"}`, `{a="b"`} {
		if _, err := ParseSelector(text); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}

// Prometheus' own tool makes blocks of the dump, whose series are those that were dumped.
func TestDumpForPromtool(t *testing.T) {
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("promtool is not installed: make provision installs it")
	}
	path := t.TempDir()
	h := Open(Options{Path: path, Log: quiet})
	for i := range 400 {
		feed(h, tickOf(i), sampleOf(i))
	}
	h.close()
	text := filepath.Join(t.TempDir(), "dump.txt")
	write(t, text, dump(t, path, `{service_name="shop1"}`, "openmetrics", time.Minute))
	blocks := filepath.Join(t.TempDir(), "blocks")
	if out, err := exec.Command(promtool, "tsdb", "create-blocks-from", "openmetrics", text, blocks).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := os.Mkdir(filepath.Join(blocks, "wal"), 0o700); err != nil { // which it looks for
		t.Fatal(err)
	}
	out, err := exec.Command(promtool, "tsdb", "dump", "--match", `{__name__="http_server_request_duration_seconds_count"}`, blocks).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "80200 1772370400000") {
		t.Fatalf("%v: %s", err, out)
	}
}
