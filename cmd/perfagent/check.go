package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/perfagent/perfagent/internal/host"
)

// checkReport is what `check` says; -o json shows it as it is.
type checkReport struct {
	Degraded   bool               `json:"degraded"`
	Kernel     kernelReport       `json:"kernel"`
	Privileges []privilege        `json:"privileges"`
	Backend    string             `json:"backend"` // the one that run would take; empty for none
	Backends   []backendReport    `json:"backends"`
	Host       backendReport      `json:"host"` // hooks that watch processors, disks and TCP connections
	TLS        host.LibraryReport `json:"tls"`
	Watched    watchedReport      `json:"watched"`
	NotVisible []blindSpot        `json:"not_visible"`
	Summary    string             `json:"summary"` // one sentence

	privileges privileges
}

// watchedReport is what the settings choose of what runs now.
type watchedReport struct {
	Processes int      `json:"processes"`
	Listening []uint16 `json:"listening_ports"`    // TCP, of this network namespace
	Obstacle  string   `json:"obstacle,omitempty"` // why no exchange of a server here can be seen with these settings
	text      string
}

type kernelReport struct {
	Release      string `json:"release"`
	Architecture string `json:"architecture"`
	BTF          bool   `json:"btf"`      // the kernel describes its own types
	Lockdown     string `json:"lockdown"` // none, integrity, confidentiality, or unknown
	// HostProcesses tells whether the agent sees the host's process ids, not those of a container.
	HostProcesses bool `json:"host_processes"`
}

// blindSpot is something that cannot be seen on this host.
type blindSpot struct {
	What   string `json:"what"`
	Why    string `json:"why"`
	Remedy string `json:"remedy,omitempty"`
	// Expected tells that a user would expect to see it: it makes the host degraded.
	Expected bool `json:"expected"`
}

func newCheckCommand(environ []string) *cobra.Command {
	command := &cobra.Command{
		Use:   "check",
		Short: "Say what this host can and cannot show, and why",
		Long: "check says what this host can and cannot show, and why. It leaves nothing attached.\n" +
			"Exit code 3: something that a user would expect is not available.",
		Args: noArguments,
	}
	source := addSettings(command.Flags(), environ, forCheck)
	var output string
	command.Flags().StringVarP(&output, "output", "o", "text", "`format`: text or json")
	completeWords(command, "output", "text", "json")
	command.RunE = func(cmd *cobra.Command, _ []string) error {
		if output != "text" && output != "json" {
			return usageError{fmt.Errorf("flag --output: %q is not one of text, json", output)}
		}
		config, err := source.load()
		if err != nil {
			return err
		}
		if err := checkChosen(config.Capture); err != nil {
			return err
		}
		report, err := check(cmd.Context(), "/", config)
		if err != nil {
			return err
		}
		if err := report.write(cmd.OutOrStdout(), output); err != nil {
			return err
		}
		if report.Degraded {
			return errDegraded
		}
		return nil
	}
	showProgress(command, "looking at this host", false)
	return command
}

// check looks at the host below root.
func check(ctx context.Context, root string, config *Config) (*checkReport, error) {
	report := &checkReport{Kernel: readKernel(root)}
	report.privileges = readPrivileges(root, report.Kernel.Release)
	report.Privileges = report.privileges.All
	backends, err := checkBackends(ctx, config)
	loads := err == nil
	if !loads {
		report.blind(blindSpot{What: "anything", Why: err.Error(), Expected: true})
	}
	report.Backends = append([]backendReport{}, backends...) // never null in JSON
	for i := range report.Backends {
		report.Backends[i].Hooks = append([]hookReport{}, report.Backends[i].Hooks...)
	}
	report.chooseBackend(config.Capture.Backend)
	report.explainHost(config.Capture.Host, loads)
	filter, err := config.processFilter()
	if err != nil {
		return nil, err
	}
	if report.TLS, err = host.FindTLSLibraries(host.LibraryOptions{Root: root, Filter: filter, Except: uint32(os.Getpid())}); err != nil {
		return nil, err
	}
	chosen, err := look(root, config, nil)
	if err != nil {
		return nil, err
	}
	report.Watched = watchedReport{chosen.processes, append([]uint16{}, chosen.listening...), chosen.obstacle(), chosen.String()}
	report.explainKernel(loads)
	report.explainTLS(config.Capture.TLS)
	report.blind(blindSpot{What: "HTTP/3 exchanges, and those of HTTP/2 behind Upgrade: h2c", Why: "this version does not decode them"})
	for _, spot := range report.NotVisible {
		report.Degraded = report.Degraded || spot.Expected
	}
	report.Summary = report.summary(loads)
	return report, nil
}

// processFilter returns which processes the settings choose.
func (c *Config) processFilter() (host.Filter, error) {
	filter := host.Filter{PIDs: c.Capture.PIDs, Cgroups: c.Capture.Cgroups}
	for _, pattern := range c.Capture.Executables {
		glob, err := host.NewGlob(pattern)
		if err != nil {
			return host.Filter{}, err
		}
		filter.Executables = append(filter.Executables, glob)
	}
	return filter, nil
}

func (r *checkReport) blind(spot blindSpot) { r.NotVisible = append(r.NotVisible, spot) }

// blindGaps adds what is not visible with a backend.
func (r *checkReport) blindGaps(backend *backendReport) {
	for _, gap := range backend.gaps() {
		r.blind(blindSpot{What: gap.What, Why: gap.Why, Expected: true})
	}
}

// chooseBackend takes the first backend that is available, or the one that was forced.
func (r *checkReport) chooseBackend(wanted string) {
	var reasons []string
	for _, backend := range r.Backends {
		if wanted != "auto" && backend.Name != wanted {
			continue
		}
		if !backend.Available {
			reasons = append(reasons, backend.Name+": "+backend.Reason)
			continue
		}
		r.Backend = backend.Name
		r.blindGaps(&backend)
		return
	}
	if len(r.Backends) > 0 {
		r.blind(blindSpot{What: "any exchange", Why: "no backend is available: " + strings.Join(reasons, "; "), Expected: true})
	}
}

// explainHost tries the hooks that watch the host, where BPF programs can be loaded at all.
func (r *checkReport) explainHost(mode string, loads bool) {
	r.Host = backendReport{Name: "host", Hooks: []hookReport{}}
	if mode == "off" {
		r.Host.Reason = "switched off by --capture.host"
		r.blind(blindSpot{What: hostLoss, Why: r.Host.Reason})
		return
	}
	if !loads {
		r.Host.Reason = "BPF programs cannot be loaded"
		return
	}
	found, err := checkHost()
	if err != nil {
		r.Host.Reason = err.Error()
		r.blind(blindSpot{What: hostLoss, Why: err.Error(), Expected: true})
		return
	}
	r.Host = found
	r.blindGaps(&found)
}

// explainKernel turns facts of the kernel and missing privileges into blind spots.
func (r *checkReport) explainKernel(loads bool) {
	for _, gap := range r.privileges.gaps(loads) {
		r.blind(blindSpot{gap.What, gap.Why, r.privileges.remedy(), true})
	}
	if !r.Kernel.BTF {
		r.blind(blindSpot{"any exchange", "the kernel does not describe its types (no /sys/kernel/btf/vmlinux)", "boot a kernel built with CONFIG_DEBUG_INFO_BTF=y", true})
	}
	if !r.Kernel.HostProcesses {
		r.blind(blindSpot{"names of processes outside this container", "the agent runs in a process namespace of its own", "run the container with the host's process namespace", true})
	}
	if r.Kernel.Lockdown == "confidentiality" {
		r.blind(blindSpot{"bytes of requests and responses", "kernel lockdown forbids reading them", "boot with lockdown=integrity", true})
	}
}

// explainTLS names the TLS libraries in use that this build does not look into.
func (r *checkReport) explainTLS(mode string) {
	kinds := make(map[string]int)
	for _, library := range r.TLS.Libraries {
		if !tlsDecoded[library.Kind] {
			kinds[library.Kind] += library.Processes
		}
	}
	if r.TLS.Unreadable > 0 {
		// With the privileges, only processes that the kernel protects are left: nothing that a user misses.
		lacks := len(r.privileges.missing(true)) > 0
		remedy := map[bool]string{true: r.privileges.remedy()}[lacks]
		r.blind(blindSpot{"TLS libraries of " + plural(r.TLS.Unreadable, "process", "processes"), "their mappings cannot be read", remedy, lacks})
	}
	if len(kinds) == 0 {
		return
	}
	var names []string
	for kind, processes := range kinds {
		names = append(names, fmt.Sprintf("%s (%d)", kind, processes))
	}
	slices.Sort(names)
	spot := blindSpot{What: "exchanges inside TLS", Why: "not looked into, by processes: " + strings.Join(names, ", "), Expected: true}
	if mode == "off" {
		spot.Why, spot.Expected = "switched off by --capture.tls", false
	}
	r.blind(spot)
}

// summary says in a sentence, and within a line, what this host can show.
func (r *checkReport) summary(loads bool) string {
	if r.Backend == "" {
		return "This host shows no exchanges: " + r.noExchanges(loads) + "."
	}
	shown := "This host shows HTTP/1 exchanges"
	if r.Host.Available {
		shown += " and its resources"
	}
	expected := 0
	for _, spot := range r.NotVisible {
		if spot.Expected {
			expected++
		}
	}
	switch expected {
	case 0:
		return shown + "."
	case 1:
		return shown + ", not what is marked !."
	}
	return fmt.Sprintf("%s, not the %d things marked !.", shown, expected)
}

// noExchanges is the short form of why nothing can be seen.
func (r *checkReport) noExchanges(loads bool) string {
	missing := r.privileges.missing(false)
	switch {
	case !loads && len(missing) > 0:
		return strings.Join(missing, ", ") + map[bool]string{true: " is missing", false: " are missing"}[len(missing) == 1]
	case !loads && !r.Kernel.BTF:
		return "its kernel does not describe its types"
	case !loads:
		return "BPF programs cannot be loaded"
	}
	return "no backend works"
}

// readKernel reads what the kernel says of itself.
func readKernel(root string) kernelReport {
	_, btfErr := os.Stat(filepath.Join(root, "sys/kernel/btf/vmlinux"))
	// The initial process namespace has a fixed inode number (PROC_PID_INIT_INO).
	namespace, _ := os.Readlink(filepath.Join(root, "proc/self/ns/pid"))
	return kernelReport{
		Release:       firstLine(filepath.Join(root, "proc/sys/kernel/osrelease")),
		Architecture:  runtime.GOARCH,
		BTF:           btfErr == nil,
		Lockdown:      readLockdown(root),
		HostProcesses: namespace == "pid:[4026531836]" || namespace == "",
	}
}

// lockdownMode finds the mode in force, which stands in brackets: "none [integrity] confidentiality".
var lockdownMode = regexp.MustCompile(`\[([a-z]+)\]`)

func readLockdown(root string) string {
	if m := lockdownMode.FindStringSubmatch(firstLine(filepath.Join(root, "sys/kernel/security/lockdown"))); m != nil {
		return m[1]
	}
	return "unknown"
}

func firstLine(name string) string {
	data, _ := os.ReadFile(name)
	line, _, _ := strings.Cut(string(data), "\n")
	return printable(line)
}

var releaseNumbers = regexp.MustCompile(`^(\d+)\.(\d+)`)

// kernelAtLeast compares a release such as 6.1.0-18-amd64; one that cannot be read counts as new.
func kernelAtLeast(release string, major, minor int) bool {
	m := releaseNumbers.FindStringSubmatch(release)
	if m == nil {
		return true
	}
	a, _ := strconv.Atoi(m[1])
	b, _ := strconv.Atoi(m[2])
	return cmp.Or(cmp.Compare(a, major), cmp.Compare(b, minor)) >= 0
}

// write shows the report as text or JSON.
func (r *checkReport) write(w io.Writer, output string) error {
	if output == "json" {
		encoder := json.NewEncoder(w)
		encoder.SetIndent("", "  ")
		return encoder.Encode(r)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "What perfagent can show on this host\n\n")
	fmt.Fprintf(&b, "kernel      %s\n", r.Kernel)
	for i, p := range r.Privileges {
		label := map[bool]string{true: "privileges"}[i == 0]
		fmt.Fprintf(&b, "%-11s %-8s %s: %s\n", label, p.state(), p.Name, p.Why)
	}
	fmt.Fprintf(&b, "backend     %s\n", cmp.Or(r.Backend, "none"))
	r.writeBackends(&b)
	writeWrapped(&b, "processes   ", r.Watched.text)
	if r.Watched.Obstacle != "" {
		writeWrapped(&b, "exchanges   ", "none of a server here with these settings: "+r.Watched.Obstacle)
	}
	r.writeTLS(&b)
	fmt.Fprintf(&b, "\nnot visible\n")
	for _, spot := range r.NotVisible {
		mark := map[bool]string{true: "!", false: "-"}[spot.Expected]
		writeWrapped(&b, "  "+mark+" ", spot.What+": "+spot.Why+map[bool]string{true: "; " + spot.Remedy}[spot.Remedy != ""])
	}
	b.WriteString("\n")
	writeWrapped(&b, "", "A running agent counts the connections that it does not decode, by service and reason: "+
		"perfagent_undecoded_connections.")
	fmt.Fprintf(&b, "%s\n", r.Summary)
	_, err := io.WriteString(w, b.String())
	return err
}

func (r *checkReport) writeBackends(b *strings.Builder) {
	for _, backend := range append(slices.Clone(r.Backends), r.Host) {
		writeWrapped(b, "  ", fmt.Sprintf("%-10s %s", backend.Name, availability(backend.Available, backend.Reason)))
		for i, hook := range backend.Hooks {
			switch {
			case hook.Available:
				writeWrapped(b, "    ", hook.Name+" ok")
			case i == slices.IndexFunc(backend.Hooks, hook.missingLike): // the first with its reason, which is said once for all
				writeWrapped(b, "    ", backend.missing(hook))
			}
		}
	}
}

// missingLike tells whether another hook is missing for the same reason.
func (h hookReport) missingLike(other hookReport) bool {
	return !h.Available && !other.Available && h.Reason == other.Reason
}

// missing names all hooks that are missing for the reason of one, and that where the backend's own does not say it.
func (r *backendReport) missing(like hookReport) string {
	var names []string
	for _, h := range r.Hooks {
		if like.missingLike(h) {
			names = append(names, h.Name)
		}
	}
	text := strings.Join(names, ", ") + " "
	if !r.Available && like.Reason != "" && strings.HasSuffix(r.Reason, ": "+like.Reason) {
		return text + "missing"
	}
	return text + availability(false, like.Reason)
}

// state is how a privilege is shown.
func (p *privilege) state() string {
	switch {
	case p.Present:
		return "ok"
	case p.Needed:
		return "MISSING"
	}
	return "not used"
}

func (r *checkReport) writeTLS(b *strings.Builder) {
	fmt.Fprintf(b, "\nTLS libraries\n")
	for _, library := range r.TLS.Libraries {
		writeWrapped(b, "  ", printable(library.String()))
	}
	using := strconv.Itoa(r.TLS.Using)
	if r.TLS.Using == 0 {
		using = "none"
	}
	text := "in use by " + using + " of " + plural(r.TLS.Processes-r.TLS.Unreadable, "process", "processes")
	if r.TLS.Unreadable > 0 {
		text += fmt.Sprintf(" whose mappings can be read; those of %d more cannot", r.TLS.Unreadable)
	}
	writeWrapped(b, "  ", text)
}

// plural is a number with its noun.
func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + many
}

func availability(available bool, reason string) string {
	if available {
		return "ok"
	}
	return "missing: " + printable(cmp.Or(reason, "no reason known"))
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// writeWrapped writes a text in lines of at most 80 characters, the later ones indented below the first.
func writeWrapped(b *strings.Builder, indent, text string) {
	const width = 80
	line := indent
	hanging := strings.Repeat(" ", len(indent)+2)
	for i, word := range strings.SplitAfter(text, " ") {
		if i > 0 && len(line)+len(strings.TrimSpace(word)) > width {
			b.WriteString(strings.TrimRight(line, " ") + "\n")
			line = hanging
		}
		line += word
	}
	b.WriteString(strings.TrimRight(line, " ") + "\n")
}
