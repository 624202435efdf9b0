package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/perfagent/perfagent/internal/analytics"
	"github.com/perfagent/perfagent/internal/host"
)

const (
	// firstWait is how long nothing is seen until it is said why that probably is.
	firstWait = 10 * time.Second
	firstPoll = 250 * time.Millisecond
	// namesSaid is how many ports or services a line of the checklist has.
	namesSaid = 8
)

// checklist is what a start says to people, line by line; without a terminal there is none, and the log has what follows.
type checklist struct{ w io.Writer }

// startChecklist begins with what is known before anything is attached. A log for programs stays one.
func startChecklist(stderr io.Writer, config LogConfig) checklist {
	if _, ok := terminalWidth(stderr); !ok || config.Format != "logfmt" {
		return checklist{}
	}
	c := checklist{stderr}
	c.begin("/")
	return c
}

func (c checklist) begin(root string) {
	kernel := readKernel(root)
	held := readPrivileges(root, kernel.Release)
	c.line("kernel", kernel.String())
	c.line("privileges", held.String())
}

func (c checklist) line(name, text string) {
	if c.w == nil {
		return
	}
	var b strings.Builder
	writeWrapped(&b, fmt.Sprintf("%-12s", name), text)
	_, _ = io.WriteString(c.w, b.String())
}

func (k kernelReport) String() string {
	return fmt.Sprintf("%s %s, BTF %s, lockdown %s", k.Release, k.Architecture, yesNo(k.BTF), k.Lockdown)
}

// String names what is missing.
func (p *privileges) String() string {
	if missing := append(p.missing(false), p.missing(true)...); len(missing) > 0 {
		return "missing " + strings.Join(missing, ", ") + ": " + p.remedy()
	}
	return "ok"
}

// watched is what the settings choose, and what tells why no exchange of it is seen.
type watched struct {
	capture   CaptureConfig
	processes int      // that are chosen
	listening []uint16 // TCP ports of this network namespace, without the agent's own
	unknown   bool     // what listens could not be read
	undecoded []analytics.Undecoded
	lost      uint64 // exchanges
}

// listeningPorts are the TCP ports that something listens on; tests set it.
var listeningPorts = func() (ports []uint16, err error) {
	found, err := host.NewListeners().Read()
	for _, p := range found {
		ports = append(ports, p.Port)
	}
	return ports, err
}

// look reads what the settings choose on the host below root; own are ports of the agent.
func look(root string, config *Config, own []uint16) (w watched, err error) {
	w.capture = config.Capture
	filter, err := config.processFilter()
	if err != nil {
		return w, err
	}
	if filter.IsZero() {
		processes, err := filepath.Glob(filepath.Join(root, "proc/[0-9]*"))
		if err != nil {
			return w, err
		}
		w.processes = len(processes)
	} else {
		pids, err := filter.Choose(root)
		if err != nil {
			return w, fmt.Errorf("list processes: %w", err)
		}
		w.processes = len(pids)
	}
	w.listening, err = listeningPorts()
	w.unknown = err != nil
	w.listening = slices.DeleteFunc(w.listening, func(p uint16) bool { return slices.Contains(own, p) })
	return w, nil
}

// String is the checklist's line of processes.
func (w *watched) String() string {
	text := plural(w.processes, "process", "processes")
	if w.filtered() != "" {
		text += " chosen by " + w.filtered()
	}
	switch {
	case w.unknown:
		text += "; what listens cannot be read"
	case len(w.capture.Ports) > 0:
		text += fmt.Sprintf("; only server ports %s, of these listened on: %s", join(w.capture.Ports), join(w.chosenListening()))
	default:
		text += "; listened on: " + join(w.listening)
	}
	return text
}

// filtered names the flags that choose processes.
func (w *watched) filtered() string {
	var flags []string
	for name, n := range map[string]int{"pid": len(w.capture.PIDs), "executable": len(w.capture.Executables), "cgroup": len(w.capture.Cgroups)} {
		if n > 0 {
			flags = append(flags, "--capture."+name)
		}
	}
	slices.Sort(flags)
	return strings.Join(flags, " and ")
}

// chosenListening are the ports of --capture.port that something listens on.
func (w *watched) chosenListening() []uint16 {
	return slices.DeleteFunc(slices.Clone(w.capture.Ports), func(p uint16) bool { return !slices.Contains(w.listening, p) })
}

// obstacle is why no exchange of a server here can be seen with these settings, "" where one can.
func (w *watched) obstacle() string {
	if w.processes == 0 && w.filtered() != "" {
		return "no running process is chosen by " + w.filtered()
	}
	if len(w.capture.Ports) > 0 && len(w.chosenListening()) == 0 && !w.unknown {
		return fmt.Sprintf("nothing listens on port %s here (listened on: %s), so that there can only be requests to other hosts",
			join(w.capture.Ports), join(w.listening))
	}
	return ""
}

// reason is why no exchange was seen, as far as it is known.
func (w *watched) reason() string {
	if w.lost > 0 {
		return plural(int(w.lost), "exchange was", "exchanges were") + " seen and lost: perfagent_exchanges_lost_total says why"
	}
	decodable := func(u analytics.Undecoded) bool { return len(w.capture.Ports) == 0 && u.Reason == "unknown" }
	others := slices.DeleteFunc(slices.Clone(w.undecoded), decodable) // of a chosen port, what carries anything else is the likeliest reason
	switch obstacle := w.obstacle(); {
	case len(others) > 0:
		return "only connections that are not decoded are open: " + sayUndecoded(others)
	case obstacle != "":
		return obstacle
	}
	text := "no HTTP request in clear was made to or by what is watched"
	if len(w.undecoded) > 0 {
		text += "; open connections carry something else: " + sayUndecoded(w.undecoded)
	}
	return text + ". " + w.suggestion()
}

// suggestion is how to make an exchange.
func (w *watched) suggestion() string {
	candidates := w.listening
	if len(w.capture.Ports) > 0 {
		candidates = w.chosenListening()
	}
	candidates = slices.DeleteFunc(slices.Clone(candidates), func(p uint16) bool { return p < 80 || p == 443 }) // remote shells, mail, names; TLS
	switch {
	case w.filtered() != "":
		return "Ask one of the chosen processes for something"
	case len(candidates) > 0:
		return fmt.Sprintf("If that is a web server, this makes one: curl http://127.0.0.1:%d/", candidates[0])
	}
	return "To look around: perfagent demo"
}

// sayUndecoded lists what is not decoded by service: "tls of nginx (3)".
func sayUndecoded(all []analytics.Undecoded) string {
	var said []string
	for _, u := range all[:min(len(all), namesSaid)] {
		said = append(said, fmt.Sprintf("%s of %s (%d)", u.Reason, printable(u.Service), u.Connections))
	}
	if len(all) > namesSaid {
		said = append(said, fmt.Sprintf("%d more", len(all)-namesSaid))
	}
	return strings.Join(said, ", ")
}

// join lists some ports.
func join(ports []uint16) string {
	if len(ports) == 0 {
		return "none"
	}
	var said []string
	for _, p := range ports[:min(len(ports), namesSaid)] {
		said = append(said, fmt.Sprint(p))
	}
	if len(ports) > namesSaid {
		said = append(said, fmt.Sprintf("%d more", len(ports)-namesSaid))
	}
	return strings.Join(said, ", ")
}

// watchFirst says what is watched, and then either that the first exchange was seen or, after a while, why none probably is.
func (a *agent) watchFirst(ctx context.Context, config *Config, list checklist) {
	own := a.ownPorts()
	if w, err := look("/", config, own); err == nil && list.w != nil {
		list.line("backend", a.backend())
		list.line("processes", w.String())
		list.line("exchanges", "none yet")
	}
	poll := time.NewTicker(firstPoll)
	defer poll.Stop()
	for said := false; ; {
		select {
		case <-ctx.Done():
			return
		case <-poll.C:
		}
		seconds := time.Since(a.started).Round(100 * time.Millisecond).Seconds()
		books := a.engine.Snapshot().Books(0)
		switch {
		case books.Reported > 0:
			list.say(a.log, "exchanges", fmt.Sprintf("the first was seen after %.1f s", seconds), slog.Float64("seconds", seconds))
			return
		case said || time.Since(a.started) < firstWait:
			continue
		}
		said = true
		w, err := look("/", config, own)
		if err != nil {
			a.log.Debug("it is not known why no exchange is seen", "err", err)
			continue
		}
		w.undecoded, w.lost = a.worker.Undecoded(), books.Lost
		list.say(a.log, "exchanges", fmt.Sprintf("none in the first %d s: %s", firstWait/time.Second, w.reason()))
	}
}

// say tells people on the terminal, the log otherwise.
func (c checklist) say(log *slog.Logger, name, text string, attributes ...any) {
	if c.w != nil {
		c.line(name, text)
		return
	}
	log.Info(name+": "+text, attributes...)
}

// ownPorts are those that the agent itself listens on.
func (a *agent) ownPorts() (ports []uint16) {
	if a.server == nil {
		return nil
	}
	for _, address := range a.server.Addresses() {
		if tcp, ok := address.(*net.TCPAddr); ok {
			ports = append(ports, uint16(tcp.Port))
		}
	}
	return ports
}
