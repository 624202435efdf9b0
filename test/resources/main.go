// resources compares the figures of the host and of one service that perfagent reports with /proc, and with pidstat,
// mpstat and iostat where they are installed, while stress-ng loads processors and disk for five seconds and a client the
// service. It ends with code 1 if a figure breaks its limit against /proc.
//
// The agent samples once a second, so /proc is read right before and after a sample: the true change between two samples
// is known as an interval, and an error is the distance to its nearest end. The tools measure a little longer than the
// load and see what else runs meanwhile, so theirs is a second opinion without a limit.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/perfagent/perfagent/test/agent"
	"github.com/perfagent/perfagent/test/client"
	"github.com/perfagent/perfagent/test/servers"
)

const (
	loadSeconds = 5
	toolSeconds = 7
	// switchesWait is how long after an exchange its context switches are known.
	switchesWait = 7
)

func main() {
	broken, err := run()
	err = errors.Join(err, servers.Cleanup())
	if err != nil {
		fmt.Fprintln(os.Stderr, "resources:", err)
	}
	if err != nil || broken > 0 {
		os.Exit(1)
	}
}

func run() (broken int, err error) {
	server, err := servers.Start(servers.Options{Kind: servers.Go})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, server.Stop()) }()
	a, err := agent.Start(agent.Options{Ports: []int{server.Port}, NoTrace: true})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, a.Stop()) }()
	b := &bench{agent: a, server: server}
	if err := b.begin(); err != nil {
		return 0, err
	}
	before, err := b.sample()
	if err != nil {
		return 0, err
	}
	opinions, err := b.load()
	if err != nil {
		return 0, err
	}
	after, err := b.sample()
	if err != nil {
		return 0, err
	}
	var settled sample
	for range switchesWait {
		if settled, err = b.sample(); err != nil {
			return 0, err
		}
	}
	return b.print(before, after, settled, opinions), nil
}

// bench is a server and the agent that watches it.
type bench struct {
	agent   *agent.Agent
	server  *servers.Server
	service string
}

// begin makes one exchange, and waits until the service is watched.
func (b *bench) begin() error {
	if err := b.request(1, 0); err != nil {
		return err
	}
	deadline := time.Now().Add(servers.Slow(20 * time.Second))
	for time.Now().Before(deadline) {
		metrics, err := b.agent.Metrics()
		if err != nil {
			return err
		}
		for _, m := range metrics {
			if m.Name == "http_server_request_duration_seconds_count" {
				b.service = m.Labels["service_name"]
			}
		}
		if b.service != "" && metrics.Has("perfagent_service_context_switches_total", "service_name", b.service) {
			return nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return errors.New("the service is not watched")
}

// request asks for one mebibyte again and again until the seconds are over, at least count times.
func (b *bench) request(count int, seconds float64) error {
	conn, err := client.Dial(client.Options{Address: b.server.Address})
	if err != nil {
		return err
	}
	defer conn.Close()
	end := time.Now().Add(time.Duration(seconds * float64(time.Second)))
	for i := 0; i < count || time.Now().Before(end); i++ {
		if _, err := conn.Do(client.Request{Target: "/bytes/1048576"}); err != nil {
			return err
		}
		time.Sleep(2 * time.Millisecond) // bounds the load
	}
	return nil
}

// load runs the load and the tools, and returns what the tools say by figure.
func (b *bench) load() (map[string]float64, error) {
	dir, err := os.MkdirTemp("", "perfagent-resources")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	opinions := make(chan map[string]float64, 3)
	go func() { opinions <- pidstat(b.server.PID()) }()
	go func() { opinions <- mpstat() }()
	go func() { opinions <- iostat() }()
	time.Sleep(500 * time.Millisecond) // the tools have begun; their window is longer than the load
	stress := exec.Command("stress-ng", "--quiet", "--cpu", "1", "--hdd", "1", "--hdd-bytes", "64m", "--temp-path", dir, "--timeout", fmt.Sprint(loadSeconds))
	if err := stress.Start(); err != nil {
		fmt.Fprintln(os.Stderr, "without stress-ng:", err)
	} else {
		defer stress.Wait()
	}
	if err := b.request(1, loadSeconds); err != nil {
		return nil, err
	}
	all := map[string]float64{}
	for range cap(opinions) {
		for name, value := range <-opinions {
			all[name] = value
		}
	}
	return all, nil
}

// sample is what the agent says, and what /proc said before and after it was read.
type sample struct {
	metrics       agent.Metrics
	before, after map[string]float64
}

// sample waits for the agent's next sample.
func (b *bench) sample() (s sample, err error) {
	const number = "perfagent_host_samples_total"
	first := math.NaN()
	deadline := time.Now().Add(servers.Slow(20 * time.Second))
	for time.Now().Before(deadline) {
		before := truths(b.server.PID())
		if s.metrics, err = b.agent.Metrics(); err != nil {
			return s, err
		}
		n := s.metrics.Sum(number)
		if n > first {
			s.after = truths(b.server.PID())
			return s, nil
		}
		first, s.before = n, before
		time.Sleep(10 * time.Millisecond)
	}
	return s, errors.New("the agent does not sample")
}

// row is a figure to compare.
type row struct {
	name     string
	metric   string
	labels   []string
	isGauge  bool
	settled  bool    // read in turn: later than the rest
	relative float64 // limit of the error, of the true value
	absolute float64 // or this, where it is larger
}

func (b *bench) rows() []row {
	service := []string{"service_name", b.service}
	const tick, page = 0.01, 4096
	return []row{
		{name: "cpu user, s", metric: "perfagent_host_cpu_seconds_total", labels: []string{"mode", "user"}, relative: 0.01, absolute: tick},
		{name: "cpu nice, s", metric: "perfagent_host_cpu_seconds_total", labels: []string{"mode", "nice"}, relative: 0.01, absolute: tick},
		{name: "cpu system, s", metric: "perfagent_host_cpu_seconds_total", labels: []string{"mode", "system"}, relative: 0.01, absolute: tick},
		{name: "cpu idle, s", metric: "perfagent_host_cpu_seconds_total", labels: []string{"mode", "idle"}, relative: 0.01, absolute: tick},
		{name: "memory available, B", metric: "perfagent_host_memory_available_bytes", isGauge: true, relative: 0.01},
		{name: "disks read, B", metric: "perfagent_host_disk_read_bytes_total", labels: []string{"stacked", "false"}, relative: 0.01, absolute: page},
		{name: "disks written, B", metric: "perfagent_host_disk_written_bytes_total", labels: []string{"stacked", "false"}, relative: 0.01, absolute: page},
		{name: "disk writes", metric: "perfagent_host_disk_writes_total", labels: []string{"stacked", "false"}, relative: 0.01},
		{name: "disk write time, s", metric: "perfagent_host_disk_write_seconds_total", labels: []string{"stacked", "false"}, relative: 0.01, absolute: 0.001},
		{name: "loopback received, B", metric: "perfagent_host_network_receive_bytes_total", labels: []string{"interface", "lo"}, relative: 0.01},
		{name: "segments sent", metric: "perfagent_host_tcp_sent_segments_total", relative: 0.01},
		{name: "cpu pressure, s", metric: "perfagent_host_pressure_stalled_seconds_total", labels: []string{"resource", "cpu"}, relative: 0.01, absolute: tick},
		{name: "service cpu, s", metric: "perfagent_service_cpu_seconds_total", labels: service, relative: 0.01, absolute: tick},
		{name: "service resident, B", metric: "perfagent_service_resident_memory_bytes", labels: service, isGauge: true, relative: 0.01, absolute: 64 * page},
		{name: "service threads", metric: "perfagent_service_threads", labels: service, isGauge: true},
		{name: "service descriptors", metric: "perfagent_service_open_file_descriptors", labels: service, isGauge: true},
		{name: "service switches", metric: "perfagent_service_context_switches_total", labels: append([]string{"kind", "voluntary"}, service...), settled: true, relative: 0.01, absolute: 10},
	}
}

// print prints the table, and returns how many rows break their limit.
func (b *bench) print(before, after, settled sample, opinions map[string]float64) (broken int) {
	const format = "%-22s %14s %14s %14s %10s %14s\n"
	fmt.Println("perfagent's resource figures against /proc and the sysstat tools")
	fmt.Printf(format, "figure", "perfagent", "/proc at least", "/proc at most", "error", "tool")
	for _, r := range b.rows() {
		last := after
		if r.settled {
			last = settled
		}
		got := last.metrics.Sum(r.metric, r.labels...)
		low, high := min(last.before[r.name], last.after[r.name]), max(last.before[r.name], last.after[r.name])
		if !r.isGauge {
			got -= before.metrics.Sum(r.metric, r.labels...)
			low, high = last.before[r.name]-before.after[r.name], last.after[r.name]-before.before[r.name]
		}
		distance := max(0, low-got, got-high)
		mark := ""
		if distance > max(r.absolute, r.relative*math.Abs(high)) || !last.metrics.Has(r.metric, r.labels...) {
			mark, broken = "!", broken+1
		}
		percent := "0"
		if distance > 0 {
			percent = fmt.Sprintf("%.2f %%", 100*distance/max(math.Abs(high), math.SmallestNonzeroFloat64))
		}
		opinion := "-"
		if value, ok := opinions[r.name]; ok {
			opinion = number(value)
		}
		fmt.Printf(format, r.name, number(got), number(low), number(high), percent+mark, opinion)
	}
	fmt.Printf("%d rows break their limit.\n", broken)
	return broken
}

func number(v float64) string {
	if v == math.Trunc(v) {
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
	return strconv.FormatFloat(v, 'f', 3, 64)
}

// truths reads the figures of the host and of a process, by name of row.
func truths(pid int) map[string]float64 {
	t := map[string]float64{}
	cpu := fields("/proc/stat", "cpu")
	t["cpu user, s"], t["cpu nice, s"] = (cpu.at(1)-cpu.at(9))/100, (cpu.at(2)-cpu.at(10))/100
	t["cpu system, s"], t["cpu idle, s"] = cpu.at(3)/100, cpu.at(4)/100
	t["memory available, B"] = fields("/proc/meminfo", "MemAvailable:").at(1) * 1024
	devices, _ := filepath.Glob("/sys/block/*/stat")
	for _, device := range devices {
		if slaves, _ := filepath.Glob(filepath.Dir(device) + "/slaves/*"); len(slaves) > 0 {
			continue
		}
		disk := fields(device, "")
		t["disks read, B"] += disk.at(2) * 512
		t["disks written, B"] += disk.at(6) * 512
		t["disk writes"] += disk.at(4)
		t["disk write time, s"] += disk.at(7) / 1000
	}
	t["loopback received, B"] = fields("/sys/class/net/lo/statistics/rx_bytes", "").at(0)
	t["segments sent"] = fields("/proc/net/snmp", "Tcp: 1").at(11)
	if total := fields("/proc/pressure/cpu", "some"); len(total) > 0 {
		microseconds, _ := strconv.ParseFloat(strings.TrimPrefix(total[len(total)-1], "total="), 64)
		t["cpu pressure, s"] = microseconds / 1e6
	}
	dir := fmt.Sprintf("/proc/%d", pid)
	text, _ := os.ReadFile(dir + "/stat")
	stat := words(strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:])))
	t["service cpu, s"] = (stat.at(11) + stat.at(12)) / 100
	t["service resident, B"] = fields(dir+"/status", "VmRSS:").at(1) * 1024
	t["service threads"] = fields(dir+"/status", "Threads:").at(1)
	files, _ := os.ReadDir(dir + "/fd")
	t["service descriptors"] = float64(len(files))
	tasks, _ := filepath.Glob(dir + "/task/*/status")
	for _, task := range tasks {
		t["service switches"] += fields(task, "voluntary_ctxt_switches:").at(1)
	}
	return t
}

// words are the fields of a line.
type words []string

func (w words) at(i int) float64 {
	if i >= len(w) {
		return math.NaN()
	}
	v, err := strconv.ParseFloat(w[i], 64)
	if err != nil {
		return math.NaN()
	}
	return v
}

// fields returns the first line of a file that begins so.
func fields(file, prefix string) words {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil
	}
	for line := range strings.Lines(string(text)) {
		if found := strings.Fields(line); strings.HasPrefix(strings.Join(found, " "), prefix) && (prefix == "" || found[0] == strings.Fields(prefix)[0]) {
			return found
		}
	}
	return nil
}

// tool runs one of sysstat's tools for its window; nil where it is not installed.
func tool(name string, args ...string) []byte {
	command := exec.Command(name, append(args, fmt.Sprint(toolSeconds), "1")...)
	command.Env = append(os.Environ(), "LC_ALL=C")
	out, err := command.Output()
	if err != nil {
		fmt.Fprintf(os.Stderr, "without %s: %v\n", name, err)
		return nil
	}
	return out
}

// pidstat says what a process used, by the names of its header's columns.
func pidstat(pid int) map[string]float64 {
	var header []string
	said := map[string]float64{}
	for line := range strings.Lines(string(tool("pidstat", "-h", "-u", "-r", "-p", fmt.Sprint(pid)))) {
		found := strings.Fields(line)
		if len(found) > 1 && found[0] == "#" {
			header = found[1:]
			continue
		}
		for i, column := range header {
			switch column {
			case "%CPU":
				said["service cpu, s"] = words(found).at(i) / 100 * toolSeconds
			case "RSS":
				said["service resident, B"] = words(found).at(i) * 1024
			}
		}
	}
	return said
}

// sysstat is what iostat and mpstat say in JSON.
type sysstat struct {
	Sysstat struct {
		Hosts []struct {
			Processors int `json:"number-of-cpus"`
			Statistics []struct {
				Disk []map[string]any
				CPU  []map[string]any `json:"cpu-load"`
			}
		}
	}
}

func mpstat() map[string]float64 {
	var s sysstat
	said := map[string]float64{}
	if json.Unmarshal(tool("mpstat", "-o", "JSON"), &s) != nil || len(s.Sysstat.Hosts) == 0 {
		return said
	}
	h := s.Sysstat.Hosts[0]
	for name, column := range map[string]string{"cpu user, s": "usr", "cpu nice, s": "nice", "cpu system, s": "sys", "cpu idle, s": "idle"} {
		percent, _ := h.Statistics[0].CPU[0][column].(float64)
		said[name] = percent / 100 * toolSeconds * float64(h.Processors)
	}
	return said
}

func iostat() map[string]float64 {
	var s sysstat
	said := map[string]float64{}
	if json.Unmarshal(tool("iostat", "-d", "-k", "-y", "-o", "JSON"), &s) != nil || len(s.Sysstat.Hosts) == 0 {
		return said
	}
	for _, d := range s.Sysstat.Hosts[0].Statistics[0].Disk {
		read, _ := d["kB_read"].(float64)
		written, _ := d["kB_wrtn"].(float64)
		said["disks read, B"] += read * 1024
		said["disks written, B"] += written * 1024
	}
	return said
}
