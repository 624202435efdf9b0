package host

import (
	"bytes"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	// serviceBytesMax bounds a service name: it becomes a label of every series of its process.
	serviceBytesMax = 128
	// ancestorsMax bounds the walk up to a filter's process or to the master of a worker, against a corrupt tree.
	ancestorsMax = 64
	// unknownService stands where a process has no name at all.
	unknownService = "unknown"
)

// Variables of a process's environment that tell what it is called.
const (
	envServiceName = "OTEL_SERVICE_NAME"
	envAttributes  = "OTEL_RESOURCE_ATTRIBUTES"
	envHostname    = "HOSTNAME"
	envRelease     = "RELEASE_NAME" // an Elixir or Erlang release
	envFlaskApp    = "FLASK_APP"
	envSpringName  = "SPRING_APPLICATION_NAME"
	envPM2Script   = "pm_exec_path" // what pm2 runs, whose own script is on the command line
)

var environmentNames = []string{envServiceName, envAttributes, envHostname, envRelease, envFlaskApp, envSpringName, envPM2Script}

// identityReader reads who a process is, without memory of processes.
type identityReader struct {
	proc       procFS
	filter     Filter
	containers *containerNames
	files      *processFiles
	services   *Services // nil for none
}

func newIdentityReader(root string, filter Filter) identityReader {
	proc := newProcFS(root)
	return identityReader{proc, filter, newContainerNames(proc.root), &processFiles{proc: proc}, nil}
}

// reading is what was read of a process.
type reading struct {
	Identity
	startTicks uint64
	rule       int  // the first rule of the services file that it fulfils, those of ports left aside; or noRule
	ruled      bool // a rule names it
}

// identify reads a process. It fails where the process is gone. Descends tells of another process whether it was chosen
// before.
func (r *identityReader) identify(pid uint32, descends func(uint32) bool) (reading, error) {
	// A process may end while it is read and its pid may be given again: what was read counts only if the start time
	// is the same behind it. It changes at most once in practice.
	unknown := reading{Identity: Identity{Chosen: r.filter.admitsUnknown(pid)}, rule: noRule}
	for range 3 {
		before, err := r.proc.stat(pid)
		if err != nil {
			return unknown, fmt.Errorf("identify process %d: %w", pid, err)
		}
		found := r.read(pid, before)
		after, err := r.proc.stat(pid)
		if err != nil || after.startTicks != before.startTicks {
			continue
		}
		found.Chosen = found.Chosen && r.descends(pid, before, descends)
		return found, nil
	}
	return unknown, fmt.Errorf("identify process %d: it ended", pid)
}

// read composes an identity; Chosen covers all of the filter but its processes.
func (r *identityReader) read(pid uint32, stat processStat) reading {
	cgroupData, _ := r.proc.read(pid, "cgroup", cgroupBytesMax)
	cgroup := parseCgroup(cgroupData)
	env := r.proc.environment(pid, environmentNames...)
	identity := Identity{
		ContainerID: cgroup.ContainerID(),
		Executable:  r.proc.executable(pid),
		Started:     stat.started(),
	}
	attributes := parseAttributes(env[envAttributes])
	if namespace := attributes["service.namespace"]; namespace != "" {
		identity.Namespace = cleanName(namespace)
	}
	identity.Chosen = r.filter.matchExecutable(identity.Executable) && r.filter.matchCgroup(cgroup)
	ruled, rule := r.ruledName(pid, identity.Executable, cgroup)
	identity.Service = cleanName(firstOf(
		func() string { return ruled },
		func() string { return env[envServiceName] },
		func() string { return attributes["service.name"] },
		cgroup.Unit,
		func() string { return r.containers.name(identity.ContainerID, env[envHostname]) },
		cgroup.machine,
		func() string { return r.program(pid, identity.Executable, stat, env) },
		func() string { return stat.comm },
	))
	return reading{identity, stat.startTicks, rule, ruled != ""}
}

// ruledName returns the name that the services file gives to a process, or "", and its first rule that is not of a port.
func (r *identityReader) ruledName(pid uint32, executable string, cgroup Cgroup) (name string, rule int) {
	if r.services == nil {
		return "", noRule
	}
	rule = r.services.match(executable, cgroup, func() string {
		args, _ := r.proc.arguments(pid)
		return strings.Join(args, " ")
	})
	first := rule
	if len(r.services.ports) > 0 {
		first = min(rule, r.services.firstPort(r.services.listeningPorts(r.proc, pid)))
	}
	if first == noRule {
		return "", rule
	}
	return r.services.rules[first].name, rule
}

// firstOf returns the first name that is not empty; later sources are not read.
func firstOf(sources ...func() string) string {
	for _, source := range sources {
		if name := source(); name != "" {
			return name
		}
	}
	return ""
}

// descends tells whether a process is one of the filter's or descends from one.
func (r *identityReader) descends(pid uint32, stat processStat, chosen func(uint32) bool) bool {
	if len(r.filter.PIDs) == 0 {
		return true
	}
	for range ancestorsMax {
		if slices.Contains(r.filter.PIDs, pid) {
			return true
		}
		if pid = stat.parent; pid == 0 {
			return false
		}
		// With other lists in the filter a process that was not chosen says nothing of its children.
		if chosen(pid) {
			return true
		}
		var err error
		if stat, err = r.proc.stat(pid); err != nil {
			return slices.Contains(r.filter.PIDs, pid)
		}
	}
	return false
}

// parseAttributes parses OTEL_RESOURCE_ATTRIBUTES: comma-separated key=value with percent-encoded values (the W3C
// baggage form without metadata). A value that cannot be decoded is taken as it stands.
func parseAttributes(text string) map[string]string {
	attributes := make(map[string]string)
	for pair := range strings.SplitSeq(text, ",") {
		key, value, found := strings.Cut(pair, "=")
		if !found {
			continue
		}
		value = strings.TrimSpace(value)
		if decoded, err := url.PathUnescape(value); err == nil {
			value = decoded
		}
		attributes[strings.TrimSpace(key)] = value
	}
	return attributes
}

// commText returns a task name without its padding.
func commText(comm [16]byte) string {
	name, _, _ := bytes.Cut(comm[:], []byte{0})
	return string(name)
}

// cleanName makes a name fit for a label and a terminal: valid UTF-8 of printable characters, at most serviceBytesMax
// bytes, never empty. What does not fit becomes `_`.
func cleanName(name string) string {
	if len(name) > 4*serviceBytesMax {
		name = name[:4*serviceBytesMax]
	}
	name = strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return '_'
		}
		return r
	}, strings.TrimSpace(name))
	if len(name) > serviceBytesMax {
		name = name[:serviceBytesMax]
		for !utf8.ValidString(name) {
			name = name[:len(name)-1]
		}
	}
	if name == "" {
		return unknownService
	}
	return name
}
