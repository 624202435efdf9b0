package finding

import (
	"fmt"
	"math"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/perfagent/perfagent/internal/analytics"
)

const (
	// sureFrom is the confidence from which on a sentence says "probably because of".
	sureFrom = 0.5
	// stepFrom is the confidence from which on a cause that is not the first is worth a step.
	stepFrom = 0.1
	// hardlyAny is the part of a longer time that is not worth a number.
	hardlyAny = 0.05
	// stepsMax bounds the next steps: who is woken at night reads three.
	stepsMax = 5
)

// clock writes an instant for people.
func clock(t time.Time) string { return t.UTC().Format("15:04 UTC") }

// quantity writes an amount with its unit.
func quantity(v float64, unit string) string {
	switch unit {
	case "ms":
		switch {
		case math.Abs(v) >= 9999.5:
			return figure(v/1000) + " s"
		case v != 0 && math.Abs(v) < 1:
			return figure(v*1000) + " us"
		}
		return figure(v) + " ms"
	case "percent":
		return figure(v) + " %"
	case "bytes", "bytes/s":
		names, i := [...]string{" B", " kB", " MB", " GB", " TB"}, 0
		for ; i < len(names)-1 && math.Abs(v) >= 999.5; i++ {
			v /= 1000
		}
		return figure(v) + names[i] + strings.TrimPrefix(unit, "bytes")
	case "requests/s", "segments/s":
		return figure(v) + "/s"
	}
	return figure(v)
}

// figure writes a number with two or three digits that count.
func figure(v float64) string {
	digits := 0
	switch a := math.Abs(v); {
	case a < 0.005:
		return "0"
	case a < 1:
		digits = 2
	case a < 10:
		digits = 1
	}
	s := strconv.FormatFloat(v, 'f', digits, 64)
	if digits > 0 {
		s = strings.TrimSuffix(strings.TrimRight(s, "0"), ".")
	}
	return s
}

// plain makes captured text part of a sentence: what is not printable is escaped, and what would end a quotation is replaced.
func plain(s string) string { return strings.ReplaceAll(analytics.Printable(s), "`", "'") }

// quoted makes captured text an argument of a shell's command.
func quoted(s string) string {
	s = analytics.Printable(s)
	if s != "" && !strings.HasPrefix(s, "-") && strings.IndexFunc(s, func(r rune) bool {
		return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:@", r)
	}) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// firstLabel is the first part of a name: cart of cart.shop.svc; all of an address.
func firstLabel(address string) string {
	if _, err := netip.ParseAddr(address); err == nil {
		return address
	}
	name, _, _ := strings.Cut(address, ".")
	return name
}

// place writes where a target is.
func (u *Subject) place() string {
	switch {
	case u.Port == 0:
		return plain(u.Address)
	case strings.Contains(u.Address, ":"):
		return "[" + plain(u.Address) + "]:" + strconv.Itoa(int(u.Port))
	}
	return plain(u.Address) + ":" + strconv.Itoa(int(u.Port))
}

// answers says who answers at a target: by its name, if that is a service of this host.
func (s *situation) answers(u *Subject) string {
	if local, ok := s.localService(u.Address, u.Port); ok && local.name != firstLabel(u.Address) {
		return plain(local.name) + " (" + u.place() + ")"
	}
	return u.place()
}

// said says who it is, as a sentence does.
func (u *Subject) said() string {
	switch {
	case u.Route != "" || u.Method != "" && u.Role != "client":
		return "`" + strings.TrimSpace(plain(u.Method)+" "+plain(u.Route)) + "` of " + plain(u.Service)
	case u.Address != "":
		return "calls of " + plain(u.Service) + " to " + u.place()
	case u.Service != "":
		return plain(u.Service)
	case u.Device != "":
		return plain(u.Device)
	}
	return "the host"
}

// summarize says a finding in a sentence.
func summarize(f *Finding, s *situation) string {
	var b strings.Builder
	b.WriteString(f.Measure.what(f))
	fmt.Fprintf(&b, " (%s%s, usually %s)", f.aboveAll(), quantity(f.Peak, f.Unit), quantity(f.Expected, f.Unit))
	if len(f.Causes) > 0 {
		c := &f.Causes[0]
		if c.Confidence >= sureFrom {
			b.WriteString(", probably because of ")
		} else {
			b.WriteString(", together with ")
		}
		b.WriteString(c.noun(s))
	}
	if u := f.Until; u != nil {
		fmt.Fprintf(&b, "; if it goes on like this, it reaches %s at about %s", u.Limit, clock(u.Likely))
	}
	b.WriteByte('.')
	return b.String()
}

// aboveAll says of which of several endpoints the figures are; "" where they are of all.
func (f *Finding) aboveAll() string {
	if name := strings.TrimSpace(plain(f.above.Method) + " " + plain(f.above.Route)); name != "" {
		return "above all `" + name + "`: "
	}
	return ""
}

// what says what is unusual of whom, and when.
func (m *Measure) what(f *Finding) string {
	subject := m.Subject.said()
	when := " since " + clock(f.Start)
	if f.End != nil {
		when = " from " + clock(f.Start) + " to " + clock(*f.End)
		if clock(f.Start) == clock(*f.End) {
			when = " at " + clock(f.Start)
		}
	}
	if f.began.After(f.Start) && f.End == nil { // something else of it began earlier
		when = " since " + clock(f.began)
	}
	up := f.Peak >= f.Expected
	tense := func(now, then string) string {
		if f.End != nil {
			return then
		}
		return now
	}
	if m.Address != "" { // calls are many
		subject = upper(subject)
		tense = func(_, then string) string { return map[bool]string{true: then, false: plurals[then]}[f.End != nil] }
	}
	switch m.Metric {
	case ResponseTime, ResponseTimeP95:
		return subject + slower(f, tense("is", "was"), tense("takes", "took")) + when
	case ErrorRate:
		return subject + tense(" fails", " failed") + more(up) + when
	case Throughput:
		if m.Address != "" {
			return subject + tense("", " were ") + direction(up, "more", "fewer") + " than usual" + when
		}
		return subject + tense(" gets ", " got ") + direction(up, "more", "fewer") + " requests than usual" + when
	}
	words, known := resourceWords[m.Metric]
	if !known {
		words = resourceWord{m.words() + " of %s is ", m.words() + " of %s was ", "higher", "lower"}
	}
	text := fmt.Sprintf(tense(words.now, words.then)+direction(up, words.up, words.down), subject)
	if !strings.HasPrefix(text, subject) || m.Service == "" && m.Device == "" { // a name stays as it is
		text = upper(text)
	}
	return text + " than usual" + when
}

// plurals are the forms of the present of many, by those of the past.
var plurals = map[string]string{"was": "are", "took": "take", " failed": " fail", " were ": " are "}

// resourceWord says what a resource does now, and did then, and how that is when it is more, or less, of it.
type resourceWord struct{ now, then, up, down string }

// resourceWords are the words for findings of what services and the host use and wait for.
var resourceWords = map[string]resourceWord{
	SaturationUsed:    {"%s uses ", "%s used ", "more of its capacity", "less of its capacity"},
	PressureCPU:       {"tasks of %s wait for a processor for ", "tasks of %s waited for a processor for ", "more of the time", "less of the time"},
	PressureMemory:    {"tasks of %s wait for memory for ", "tasks of %s waited for memory for ", "more of the time", "less of the time"},
	PressureIO:        {"tasks of %s wait for disks for ", "tasks of %s waited for disks for ", "more of the time", "less of the time"},
	CPUUsage:          {"%s uses ", "%s used ", "more processor time", "less processor time"},
	CPUSteal:          {"other virtual machines take ", "other virtual machines took ", "more of the processors of %s", "less of the processors of %s"},
	CPUThrottling:     {"its CPU limit stops %s ", "its CPU limit stopped %s ", "more often", "less often"},
	RunQueueWait:      {"threads of %s wait for a processor ", "threads of %s waited for a processor ", "longer", "less long"},
	MemoryUsage:       {"%s uses ", "%s used ", "more memory", "less memory"},
	MemoryLimitUsage:  {"%s uses ", "%s used ", "more of its memory limit", "less of its memory limit"},
	MemoryResident:    {"%s holds ", "%s held ", "more memory", "less memory"},
	SwapRate:          {"%s swaps ", "%s swapped ", "more", "less"},
	DiskUtilisation:   {"disk %s is ", "disk %s was ", "busier", "less busy"},
	DiskLatency:       {"operations of disk %s take ", "operations of disk %s took ", "longer", "less long"},
	DiskRead:          {"%s reads ", "%s read ", "more from disks", "less from disks"},
	DiskWrite:         {"%s writes ", "%s wrote ", "more to disks", "less to disks"},
	DiskSpaceUsed:     {"%s is ", "%s was ", "fuller", "less full"},
	NetworkThroughput: {"%s sends and receives ", "%s sent and received ", "more", "less"},
	Retransmits:       {"%s sends lost TCP segments again ", "%s sent lost TCP segments again ", "more often", "less often"},
	RTT:               {"TCP round trips of %s take ", "TCP round trips of %s took ", "longer", "less long"},
	OpenFiles:         {"%s has ", "%s had ", "more open files", "fewer open files"},
	Threads:           {"%s has ", "%s had ", "more threads", "fewer threads"},
	OOMKills:          {"the kernel kills ", "the kernel killed ", "more processes of %s for want of memory", "fewer processes of %s for want of memory"},
	ProcessStarts:     {"%s starts ", "%s started ", "more processes", "fewer processes"},
}

func more(up bool) string { return direction(up, " more often", " less often") }

func direction(up bool, yes, no string) string {
	if up {
		return yes
	}
	return no
}

func upper(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

// slower says by how much something takes longer.
func slower(f *Finding, is, takes string) string {
	at := ""
	if f.Metric == ResponseTimeP95 {
		at = " for one request in twenty"
	}
	switch ratio := f.Peak / f.Expected; {
	case !(f.Expected > 0):
		return " " + takes + " longer than usual" + at
	case ratio >= 2:
		return fmt.Sprintf(" %s %s times as long as usual%s", takes, figure(ratio), at)
	case ratio >= 1:
		return fmt.Sprintf(" %s %.0f %% slower than usual%s", is, 100*(ratio-1), at)
	default:
		return fmt.Sprintf(" %s %.0f %% faster than usual%s", is, 100*(1-ratio), at)
	}
}

// whose writes a possessive: its for the service that the finding is about.
func (c *Cause) whose() string {
	switch {
	case c.Relationship == ofSelf:
		return "its"
	case c.Service == "":
		return "the host's"
	}
	return plain(c.Service) + "'s"
}

// whoseFirst is the same at the beginning of a sentence; names stay as they are.
func (c *Cause) whoseFirst() string {
	if c.Relationship == ofSelf || c.Service == "" {
		return upper(c.whose())
	}
	return c.whose()
}

// noun is a cause as a part of a sentence.
func (c *Cause) noun(s *situation) string {
	whose := c.whose()
	switch c.Metric {
	case CPUThrottling:
		return "the CPU limit of " + whose + " control group"
	case CPUUsage:
		if c.Service == "" {
			return "busy processors"
		}
		if c.Relationship == ofSelf {
			return "the processor time that it uses itself"
		}
		return "the processor time that " + plain(c.Service) + " uses"
	case CPUSteal:
		return "processor time that other virtual machines take"
	case RunQueueWait, PressureCPU:
		return "waiting for a processor"
	case MemoryResident:
		return whose + " growing memory"
	case MemoryUsage:
		if c.Service == "" {
			return "the host's memory getting full"
		}
		return whose + " memory limit"
	case SwapRate, PressureMemory:
		return "waiting for memory"
	case OOMKills:
		return "processes killed for want of memory"
	case DiskRead, DiskWrite:
		return "what " + direction(c.Relationship == ofSelf, "it", plain(c.Service)) + direction(c.Metric == DiskRead, " reads from", " writes to") + " disks"
	case DiskUtilisation:
		return "the busy disk " + plain(c.Device)
	case DiskLatency:
		return "the slow disk " + plain(c.Device)
	case PressureIO:
		return "waiting for disks"
	case Retransmits:
		return "lost packets"
	case RTT:
		return "a slower network"
	case OpenFiles, Threads:
		return "a growing number of " + whose + " " + MetricOf(c.Metric).Words
	case Throughput:
		return direction(c.After >= c.Before, "more", "fewer") + " requests"
	case ResponseTime, ResponseTimeP95:
		return "slow answers of " + s.answers(&c.Subject)
	case ErrorRate:
		if c.Address != "" {
			return "failures of " + s.answers(&c.Subject)
		}
		return "failures of its own"
	case ProcessStarts:
		return "the start of " + direction(c.Relationship == ofSelf, "its", plain(c.Service)) + " processes"
	case metricConcurrency:
		return "waiting inside the service"
	}
	return c.words()
}

// sentence says a candidate with its evidence.
func (s *situation) sentence(c *candidate) string {
	cause := Cause{Measure: c.Measure, Relationship: c.relationship}
	whose := cause.whose()
	change := quantity(c.before, c.nature.unit) + " → " + quantity(c.after, c.nature.unit)
	text := ""
	switch c.Metric {
	case CPUThrottling:
		text = fmt.Sprintf("The CPU limit of %s control group stops it: throttled periods %s", whose, change)
	case CPUUsage:
		text = s.processorsSentence(c, change)
	case CPUSteal:
		text = "Other virtual machines of the same physical host take processor time: " + change
	case RunQueueWait:
		text = fmt.Sprintf("%s threads wait for a processor: %s each time", cause.whoseFirst(), change)
	case PressureCPU:
		text = fmt.Sprintf("Tasks wait for a processor: %s of the time", change)
	case MemoryResident:
		text = fmt.Sprintf("%s memory grows: %s", cause.whoseFirst(), change)
	case MemoryUsage:
		text = fmt.Sprintf("%s memory%s is used: %s", cause.whoseFirst(), direction(c.Service == "", "", " limit"), change)
	case SwapRate:
		text = "The host swaps: " + change
	case PressureMemory:
		text = fmt.Sprintf("Tasks wait for memory to be reclaimed: %s of the time", change)
	case OOMKills:
		text = "The kernel kills processes for want of memory"
	case DiskRead, DiskWrite:
		text = fmt.Sprintf("%s%s more: %s", plain(c.Service), direction(c.Metric == DiskRead, " reads from disks", " writes to disks"), change)
	case DiskUtilisation:
		text = fmt.Sprintf("Disk %s is busy: %s of the time", plain(c.Device), change)
	case DiskLatency:
		text = fmt.Sprintf("Disk %s is slow: an operation takes %s", plain(c.Device), change)
	case PressureIO:
		text = fmt.Sprintf("Tasks wait for disks: %s of the time", change)
	case Retransmits:
		text = "TCP segments are lost and sent again: " + change
	case RTT:
		text = "The network is slower: a round trip takes " + change
	case OpenFiles, Threads:
		text = fmt.Sprintf("%s has more %s: %s", plain(c.Service), MetricOf(c.Metric).Words, change)
	case Throughput:
		text = s.loadSentence(c, change)
	case ResponseTime, ResponseTimeP95:
		text = fmt.Sprintf("%s, which %s calls, answers slower: %s", s.answers(&c.Subject), direction(c.id() == s.self, "it", plain(c.Service)), change)
	case ErrorRate:
		text = s.failuresSentence(c, change)
	case ProcessStarts:
		text = fmt.Sprintf("Processes of %s were started at %s: a new version, or it had ended", plain(c.Service), clock(c.start))
	case metricConcurrency:
		text = s.waitingSentence(c)
	}
	return text + effectsWords(c) + "."
}

func (s *situation) processorsSentence(c *candidate, change string) string {
	switch {
	case c.Service != "" && c.relationship == ofSelf:
		return fmt.Sprintf("%s uses more processor time, more than its requests account for: %s of a processor", plain(c.Service), change)
	case c.Service != "":
		return fmt.Sprintf("%s uses more processor time: %s of a processor", plain(c.Service), change)
	}
	text := "The host's processors are busy: " + change
	if c.growth < material/4 {
		text = "The host's processors are as busy as before (" + quantity(c.after, c.nature.unit) + "), and more wants to run"
	}
	if !s.accountedFor(c) {
		text += ", by processes that serve no requests"
	}
	return text
}

// accountedFor tells whether services account for what the host's processors do more.
func (s *situation) accountedFor(c *candidate) bool {
	together := 0.
	for _, o := range s.part(partCPU) {
		together += max(0, o.after-o.before)
	}
	whole := s.processorSeconds()
	return whole <= 0 || together >= whole/2
}

func (s *situation) loadSentence(c *candidate, change string) string {
	text := fmt.Sprintf("%s gets %s requests: %s", plain(c.Service), direction(c.after >= c.before, "more", "fewer"), change)
	if m := s.busiest; m != nil && c.id() == s.self && c.after > c.before && (m.Route != "" || m.Method != "") {
		text += ", most of them `" + strings.TrimSpace(plain(m.Method)+" "+plain(m.Route)) + "`"
	}
	return text
}

func (s *situation) failuresSentence(c *candidate, change string) string {
	if c.of != nil {
		return fmt.Sprintf("Calls to %s fail: %s", s.answers(&c.Subject), change)
	}
	if c.Address != "" {
		return fmt.Sprintf("%s answers with failures, or not at all: %s", c.place(), change)
	}
	return fmt.Sprintf("%s itself fails, and nothing that was measured around it explains that: %s", plain(c.Service), change)
}

func (s *situation) waitingSentence(c *candidate) string {
	text := "Requests wait inside " + plain(c.Service)
	if computed, known := s.computed(); known {
		share := quantity(max(0, computed), "ms")
		if computed < hardlyAny*s.effect {
			share = "hardly any"
		}
		text += fmt.Sprintf(": of %s more, %s is processor time", quantity(s.effect, s.finding.Unit), share)
	}
	text += ", and nothing that it calls or shares with others explains them: a lock, or a pool of threads or connections that is exhausted"
	if c.after >= 0.5 {
		text += fmt.Sprintf(" (about %s requests in progress, before %s)", figure(c.after), figure(c.before))
	}
	return text
}

// effectsMax bounds the effects that a sentence names.
const effectsMax = 2

// effectsWords says what a cause explains beside the finding.
func effectsWords(c *candidate) string {
	var said []string
	for _, e := range c.effects {
		if metric := MetricOf(e.Metric); metric != nil && e.growth >= material && len(said) < effectsMax {
			said = append(said, fmt.Sprintf("%s %s → %s", metric.Words, quantity(e.before, e.nature.unit), quantity(e.after, e.nature.unit)))
		}
	}
	if len(said) == 0 {
		return ""
	}
	return "; with it " + strings.Join(said, ", ")
}

// nextSteps says what to look at and what to change, for the likeliest causes, and where single requests are.
func nextSteps(f *Finding, s *situation) []string {
	var steps []string
	add := func(step string) {
		if step != "" && len(steps) < stepsMax {
			for _, known := range steps {
				if known == step {
					return
				}
			}
			steps = append(steps, step)
		}
	}
	for i := range f.Causes[:min(len(f.Causes), 3)] {
		if i == 0 || f.Causes[i].Confidence >= stepFrom {
			add(f.Causes[i].step(s))
		}
	}
	if len(f.Phases) > 0 && f.Phases[0].SharePercent >= 50 {
		add(phaseStep(&f.Phases[0]))
	}
	if f.Service != "" {
		switch partOf(&f.Measure) {
		case partDuration:
			add(fmt.Sprintf("Look at single requests as they end: %s --slower %.0fms; the slowest of late: %s", s.trace(f.Service), math.Max(1, (f.Peak+f.Expected)/2), s.requests("slowest", &f.Subject)))
		case partFailures:
			add(fmt.Sprintf("Look at single requests as they fail: %s --status error; those of late: %s", s.trace(f.Service), s.requests("failed", &f.Subject)))
		case partLoad:
			add("Look at who sends them (client_address, user_agent): " + s.trace(f.Service) + " -o json")
		}
	}
	return steps
}

// trace is the command that shows exchanges of a service as they end.
func (s *situation) trace(service string) string {
	return s.reach().traceCommand() + " --service " + quoted(service)
}

// requests is the command that shows exchanges of a subject that were kept.
func (s *situation) requests(kind string, u *Subject) string {
	query := url.Values{"kind": {kind}, "service": {u.Service}}
	if u.Role == "client" {
		query.Set("role", "client")
	}
	return s.reach().Get("/requests?" + query.Encode())
}

func (s *situation) reach() *Reach {
	if s.evidence.Surroundings == nil {
		return &Reach{}
	}
	return &s.evidence.Surroundings.Reach
}

func phaseStep(p *PhaseShift) string {
	grown := fmt.Sprintf(" (%s → %s)", quantity(p.BeforeMS, "ms"), quantity(p.AfterMS, "ms"))
	switch p.Phase {
	case "queue":
		return "Most of it passes before the application reads the request" + grown + ": too few workers, too little processor time for them, or accept comes too late."
	case "transfer":
		return "Most of it passes while the response is sent" + grown + ": a slow network or reader, or larger responses."
	}
	return "Most of it passes between the request and the first byte of the response" + grown + ": the application, or what it calls."
}

// process is where a process of the service is, for a shell.
func (c *Cause) process(s *situation) string {
	if s.evidence.Surroundings != nil {
		if pid := s.evidence.Surroundings.PIDs[Subject{Service: c.Service, Namespace: c.Namespace}]; pid != 0 {
			return "/proc/" + strconv.FormatUint(uint64(pid), 10)
		}
	}
	return "/proc/PID"
}

// step is what to look at, and to change, if the cause is the right one.
func (c *Cause) step(s *situation) string {
	name := plain(c.Service)
	switch c.Metric {
	case CPUThrottling:
		return fmt.Sprintf("Raise the CPU limit of %s, or give it less to do. cat %s/cgroup names its control group: the limit is in cpu.max there (cgroup v1: cpu.cfs_quota_us), and nr_throttled in cpu.stat.", name, c.process(s))
	case CPUUsage:
		switch {
		case c.Service == "":
			return "Find who uses the processors, and limit or move it: ps -eo pid,ni,pcpu,args --sort=-pcpu | head"
		case c.Relationship == ofSelf:
			return fmt.Sprintf("Profile %s: it computes more for each request than before (perf top -p %s, or its runtime's profiler).", name, strings.TrimPrefix(c.process(s), "/proc/"))
		}
		return fmt.Sprintf("Limit %s (cpu.max or cpu.weight of its control group), or move it to another host.", name)
	case CPUSteal:
		return "Ask who runs the virtual machine for processors of its own: st in vmstat 1."
	case RunQueueWait, PressureCPU:
		return "Find who uses the processors, and limit or move it: ps -eo pid,ni,pcpu,args --sort=-pcpu | head"
	case MemoryResident:
		return fmt.Sprintf("Look for what %s keeps in memory (a leak, a cache without a bound), and whether its control group has a limit: grep -i rss %s/status, cat %s/cgroup.", name, c.process(s), c.process(s))
	case MemoryUsage:
		if c.Service != "" {
			return fmt.Sprintf("Raise the memory limit of %s, or let it use less. cat %s/cgroup names its control group: memory.max and memory.events are there (cgroup v1: memory.limit_in_bytes).", name, c.process(s))
		}
		return "Find who takes the memory: ps -eo pid,rss,args --sort=-rss | head, and cat /proc/meminfo"
	case SwapRate, PressureMemory, OOMKills:
		return "Find who takes the memory: ps -eo pid,rss,args --sort=-rss | head; dmesg names processes that were killed, memory.events of a control group its limit."
	case DiskRead, DiskWrite:
		return fmt.Sprintf("Look at what %s reads and writes (pidstat -d 1), and bound it (io.max of its control group).", name)
	case DiskUtilisation, DiskLatency, PressureIO:
		return "Find who uses the disk: iostat -x 1, pidstat -d 1; a cloud disk may have reached its quota, and io.max of a control group may hold it back."
	case Retransmits, RTT:
		return "Look at the network between the hosts: ss -tin, nstat -az TcpRetransSegs, ip -s link (errors, drops), tc -s qdisc"
	case OpenFiles, Threads:
		return fmt.Sprintf("See what %s opens or starts and does not end: ls -l %s/fd, ls %s/task", name, c.process(s), c.process(s))
	case Throughput:
		return fmt.Sprintf("See who sends the requests (client_address, user_agent), and limit them, or add workers: %s -o json", s.trace(c.Service))
	case ResponseTime, ResponseTimeP95, ErrorRate:
		if c.Address != "" {
			return fmt.Sprintf("Look at %s, and at the calls to it (role client, server_address): %s -o json", s.answers(&c.Subject), s.trace(c.Service))
		}
		return fmt.Sprintf("Read the log of %s; the statuses, as requests fail: %s --status error", name, s.trace(c.Service))
	case ProcessStarts:
		return fmt.Sprintf("See what changed in %s at the start, and go back to the version before if it was a deployment.", name)
	case metricConcurrency:
		return fmt.Sprintf("Take stacks of %s while it is slow (what its threads wait for), and compare the sizes of its pools of threads and connections with the requests in progress.", name)
	}
	return ""
}

// String names a subject, for tables and logs.
func (u Subject) String() string {
	name := u.Service
	if u.Namespace != "" {
		name = u.Namespace + "/" + name
	}
	switch {
	case u.Address != "":
		return name + " to " + u.place()
	case u.Route != "" || u.Method != "":
		return u.Method + " " + u.Route + " of " + name
	case name != "":
		return name
	case u.Device != "":
		return u.Device
	}
	return "the host"
}
