package host

import (
	"bytes"
	"iter"
	"os"
	"path"
	"regexp"
	"strings"
)

// Cgroup tells where a process stands in the control group hierarchies of its host.
type Cgroup struct {
	// Unified is the cgroup v2 path, such as /system.slice/nginx.service; "" on a host with cgroup v1 only.
	Unified string
	// Systemd is the path in cgroup v1's name=systemd hierarchy; "" without one.
	Systemd string
	// Controller is the longest path in any other cgroup v1 hierarchy: container runtimes without systemd set only
	// those.
	Controller string
}

// ReadCgroup returns the control group of a process. Root is the directory that holds proc, "" for "/".
func ReadCgroup(root string, pid uint32) (Cgroup, error) {
	data, err := newProcFS(root).read(pid, "cgroup", cgroupBytesMax)
	if err != nil {
		return Cgroup{}, err
	}
	return parseCgroup(data), nil
}

// parseCgroup parses /proc/PID/cgroup: lines of hierarchy:controllers:path. Lines that are not are skipped.
func parseCgroup(data []byte) Cgroup {
	var c Cgroup
	for line := range bytes.Lines(data) {
		parts := strings.SplitN(strings.TrimSuffix(string(line), "\n"), ":", 3)
		if len(parts) != 3 || !strings.HasPrefix(parts[2], "/") {
			continue
		}
		where := strings.TrimSuffix(parts[2], " (deleted)")
		switch {
		case parts[0] == "0" && parts[1] == "":
			c.Unified = where
		case parts[1] == "name=systemd":
			c.Systemd = where
		case len(where) > len(c.Controller):
			c.Controller = where
		}
	}
	return c
}

// paths returns the known paths, the most telling first. On a hybrid host systemd keeps its units in name=systemd, and
// the unified path repeats them or is "/".
func (c Cgroup) paths() [3]string { return [3]string{c.Systemd, c.Unified, c.Controller} }

// Unit returns the systemd service unit that a process belongs to, without ".service", or "". Scopes of sessions, user
// managers and units that merely host other people's programs (container engines, cron, ssh, supervisors of processes) are none.
func (c Cgroup) Unit() string {
	for _, where := range c.paths() {
		if unit := unitOf(where); unit != "" {
			return unit
		}
	}
	return ""
}

// groups returns every control group that a process is in: its own and those above it.
func (c Cgroup) groups() iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, where := range c.paths() {
			for ; len(where) > 1; where = path.Dir(where) {
				if !yield(where) {
					return
				}
			}
		}
	}
}

// hostingUnits are services whose processes are not the service: what runs below them has a better name of its own.
var hostingUnits = map[string]bool{
	"containerd": true, "crio": true, "cri-o": true, "docker": true, "snap.docker.dockerd": true, "podman": true,
	"kubelet": true, "k3s": true, "k3s-agent": true, "rke2-server": true, "rke2-agent": true, "lxc": true, "lxd": true,
	"incus": true, "snap.lxd.daemon": true, "libvirtd": true,
	"ssh": true, "sshd": true, "cron": true, "crond": true, "anacron": true, "atd": true, "rc-local": true,
	"getty": true, "serial-getty": true, "console-getty": true, "container-getty": true, "emergency": true, "rescue": true,
	"user": true, "systemd-nspawn": true,
	"supervisor": true, "supervisord": true, "runit": true, "runsvdir": true, "runsvdir-start": true, "gitlab-runsvdir": true,
	"s6": true, "s6-svscan": true, "s6-overlay": true, "svscan": true, "svscanboot": true, "daemontools": true, "nosh": true,
	"circus": true, "circusd": true, "monit": true, "god": true, "immortal": true, "dinit": true, "nomad": true, "xinetd": true,
	"pm2": true, "forever": true, "uwsgi": true, "unit": true, "gitlab-runner": true, "buildkite-agent": true,
}

// hostingUnit matches such units that have a user or a version in their name: pm2-deploy, php8.2-fpm.
var hostingUnit = regexp.MustCompile(`^(pm2-.+|php[0-9.]*-fpm[0-9.]*|actions\.runner\..+)$`)

// unitOf returns the innermost service unit of one path. A container below a unit is looked at first only where the
// unit is its engine: podman and nerdctl units that wrap one container are the better name.
func unitOf(where string) string {
	for component := range inward(where) {
		unit, isService := strings.CutSuffix(component, ".service")
		if !isService {
			continue
		}
		template, _, _ := strings.Cut(unit, "@")
		if hostingUnits[template] || hostingUnit.MatchString(unit) {
			return ""
		}
		return unescapeUnit(unit)
	}
	return ""
}

// inward returns the components of a path, the innermost first.
func inward(where string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for slash := strings.LastIndexByte(where, '/'); slash >= 0; slash = strings.LastIndexByte(where, '/') {
			if !yield(where[slash+1:]) {
				return
			}
			where = where[:slash]
		}
	}
}

// unescapeUnit undoes the \xNN escapes of systemd.unit(5), which a dash in a name becomes.
func unescapeUnit(unit string) string {
	var b strings.Builder
	for i := 0; i < len(unit); i++ {
		if i+3 < len(unit) && unit[i] == '\\' && unit[i+1] == 'x' && isHex(unit[i+2:i+4]) {
			b.WriteByte(hexValue(unit[i+2])<<4 | hexValue(unit[i+3]))
			i += 3
			continue
		}
		b.WriteByte(unit[i])
	}
	return b.String()
}

func hexValue(c byte) byte {
	if c >= 'a' {
		return c - 'a' + 10
	}
	return c - '0'
}

// isHex tells whether s consists of lower-case hexadecimal digits.
func isHex(s string) bool {
	for i := range len(s) {
		if !(s[i] >= '0' && s[i] <= '9' || s[i] >= 'a' && s[i] <= 'f') {
			return false
		}
	}
	return s != ""
}

// containerIDLength is the length of the identifiers that Docker, containerd, CRI-O and Podman give.
const containerIDLength = 64

// ContainerID returns the 64-digit id of the innermost container that a process belongs to, or "".
func (c Cgroup) ContainerID() string {
	for _, where := range c.paths() {
		for component := range inward(where) {
			if id := containerIDOf(component); id != "" {
				return id
			}
		}
	}
	return ""
}

// containerIDOf returns the container id at the end of one path component, in the forms ID (cgroupfs driver),
// docker-ID.scope, cri-containerd-ID.scope, crio-ID.scope, libpod-ID.scope, libpod-payload-ID (systemd driver) and
// SLICE:cri-containerd:ID (containerd below systemd without its driver). A container's monitor (conmon) is no part of it.
func containerIDOf(component string) string {
	component = strings.TrimSuffix(component, ".scope")
	if len(component) < containerIDLength || strings.Contains(component, "conmon") {
		return ""
	}
	prefix, id := component[:len(component)-containerIDLength], component[len(component)-containerIDLength:]
	if !isHex(id) || prefix != "" && !strings.HasSuffix(prefix, "-") && !strings.HasSuffix(prefix, ":") {
		return ""
	}
	return id
}

// machine returns the name that LXC or systemd-machined gives to a container, which is part of the path; or "".
func (c Cgroup) machine() string {
	for _, where := range c.paths() {
		for component := range strings.SplitSeq(where, "/") {
			if name, ok := strings.CutPrefix(component, "lxc.payload."); ok {
				return name
			}
			if name, ok := strings.CutPrefix(strings.TrimSuffix(component, ".scope"), "machine-"); ok {
				return unescapeUnit(name)
			}
			if name, ok := strings.CutPrefix(strings.TrimSuffix(component, ".service"), "systemd-nspawn@"); ok {
				return unescapeUnit(name)
			}
		}
		if rest, ok := strings.CutPrefix(where, "/lxc/"); ok {
			name, _, _ := strings.Cut(rest, "/")
			return name
		}
	}
	return ""
}

// Within tells whether a process is in the group named by wanted or below it. Wanted is a cgroup v2 path, from the
// hierarchy's root (/system.slice/nginx.service) or from the file system's (/sys/fs/cgroup/…). Where a host keeps
// systemd's units in cgroup v1 only, that hierarchy is compared.
func (c Cgroup) Within(wanted string) bool {
	wanted = cleanCgroup(wanted)
	return isBelow(c.Unified, wanted) || isBelow(c.Systemd, wanted)
}

// cleanCgroup brings a cgroup path as a person writes it into the form of /proc/PID/cgroup.
func cleanCgroup(name string) string {
	name = path.Clean("/" + name)
	for _, mount := range []string{"/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd", "/sys/fs/cgroup"} {
		if name == mount {
			return "/"
		}
		if rest, ok := strings.CutPrefix(name, mount+"/"); ok {
			return "/" + rest
		}
	}
	return name
}

// isBelow tells whether where is wanted or one of its descendants. An unknown path is below nothing.
func isBelow(where, wanted string) bool {
	switch {
	case where == "":
		return false
	case wanted == "/" || where == wanted:
		return true
	}
	return strings.HasPrefix(where, wanted+"/")
}

// CgroupExists tells whether there is a control group of a name as Within takes it: a directory of one of the usual mounts, or a
// process in the group. Where neither shows, as without such mounts, it cannot be told and is true. Root is the directory that
// holds proc and sys, "" for "/".
func CgroupExists(root, name string) (bool, error) {
	name = cleanCgroup(name)
	mounted := false
	for _, mount := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd"} {
		if _, err := os.Stat(path.Join("/", root, mount)); err != nil {
			continue
		}
		mounted = true
		if info, err := os.Stat(path.Join("/", root, mount, name)); err == nil && info.IsDir() {
			return true, nil
		}
	}
	if !mounted {
		return true, nil
	}
	inside := Filter{Cgroups: []string{name}}
	pids, err := inside.Choose(root)
	return len(pids) > 0, err
}
