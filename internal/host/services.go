package host

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/perfagent/perfagent/internal/spelling"
)

const (
	// rulesMax bounds a services file: each new process is compared with all its rules.
	rulesMax = 1000
	// serviceLineMax bounds one line of it.
	serviceLineMax = 4 << 10
	// socketsMax bounds the descriptors of a process that are looked at for listening sockets.
	socketsMax = 4096
	// socketTableMax bounds a read of /proc/PID/net/tcp, where listening sockets come first, 150 bytes each.
	socketTableMax = 256 << 10
)

// Services are the rules of a services file. They do not change once they are parsed.
//
// A line is "NAME CONDITION", with one of the conditions port=8080 (a TCP port that the process listens at),
// executable=GLOB (its path, see Glob), cgroup=GLOB (its control group or one above it) and command=GLOB (its command line,
// all of it, with a space between arguments; * stands for any characters, ? for one). "#" at the beginning of a line or behind white space begins a comment. The first
// rule that matches names the process.
type Services struct {
	rules []serviceRule
	ports map[uint16]int // the rule of each port
	lines map[string]int // on which line a condition stands
}

// serviceRule is one line; exactly one condition is set.
type serviceRule struct {
	name       string
	port       uint16
	executable Glob
	cgroup     Glob
	command    string // pattern
}

// ParseServices reads a services file. The error begins with the number of the line.
func ParseServices(r io.Reader) (*Services, error) {
	services := &Services{ports: make(map[uint16]int), lines: make(map[string]int)}
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, serviceLineMax), serviceLineMax)
	n := 0
	for lines.Scan() {
		n++
		if err := services.add(lines.Text(), n); err != nil {
			return nil, fmt.Errorf("%d: %w", n, err)
		}
	}
	if err := lines.Err(); errors.Is(err, bufio.ErrTooLong) {
		return nil, fmt.Errorf("%d: longer than %d bytes", n+1, serviceLineMax)
	} else if err != nil {
		return nil, fmt.Errorf("%d: %w", n+1, err)
	}
	return services, nil
}

// Len returns the number of rules.
func (s *Services) Len() int { return len(s.rules) }

// add takes one line, the n-th.
func (s *Services) add(line string, n int) error {
	for i, c := range line {
		if c == '#' && (i == 0 || line[i-1] == ' ' || line[i-1] == '\t') {
			line = line[:i]
			break
		}
	}
	line = strings.TrimSpace(line)
	if line == "" {
		return nil
	}
	if len(s.rules) >= rulesMax {
		return fmt.Errorf("more than %d rules", rulesMax)
	}
	name, condition := line, ""
	if i := strings.IndexAny(line, " \t"); i >= 0 {
		name, condition = line[:i], strings.TrimSpace(line[i:])
	}
	key, value, ok := strings.Cut(condition, "=")
	if !ok || value == "" {
		return fmt.Errorf("want NAME and one of port=, executable=, cgroup=, command=, as in `shop port=8080`, and not %q", line)
	}
	if err := checkSpaces(key); err != nil {
		return err
	}
	if strings.Contains(name, "=") {
		return fmt.Errorf("%q: a name comes first, alone, as in `shop port=8080`", name)
	}
	if strings.HasSuffix(name, ":") {
		return fmt.Errorf("%q: no colon behind a name, as in `shop port=8080`", name)
	}
	if cleanName(name) != name {
		return fmt.Errorf("name %q is not made of at most %d bytes of printable characters", name, serviceBytesMax)
	}
	rule := serviceRule{name: name}
	if err := rule.set(key, value); err != nil {
		return err
	}
	if before := s.lines[key+"="+value]; before > 0 {
		return fmt.Errorf("never matches: line %d has the same condition, and the first rule that matches names the process", before)
	}
	s.lines[key+"="+value] = n
	if rule.port != 0 {
		s.ports[rule.port] = len(s.rules)
	}
	s.rules = append(s.rules, rule)
	return nil
}

// conditions are the keys of a rule.
var conditions = []string{"port", "executable", "cgroup", "command"}

// checkSpaces explains white space before the "=" of a condition.
func checkSpaces(key string) error {
	words := strings.Fields(key)
	switch {
	case len(words) == 0 || words[0] == key:
		return nil
	case len(words) == 1:
		return fmt.Errorf("%q: no spaces around the =", key+"=")
	case slices.Contains(conditions, words[len(words)-1]):
		return errors.New("a name has no spaces, as in `my-shop port=8080`")
	}
	return nil
}

// executableGlob compiles the pattern of an executable's path. It refuses those that match no path as they stand: /proc
// tells absolute ones, of files.
func executableGlob(pattern string) (Glob, error) {
	switch {
	case strings.HasSuffix(pattern, "/"):
		return Glob{}, fmt.Errorf("never matches: an executable is no directory; %s** is all below it", pattern)
	case strings.Contains(pattern, "/") && pattern[0] != '/' && pattern[0] != '*':
		return Glob{}, fmt.Errorf("never matches: a path begins with /; **/%s is at any place", strings.TrimLeft(pattern, "./"))
	}
	return NewGlob(pattern)
}

// set takes a rule's condition.
func (r *serviceRule) set(key, value string) (err error) {
	if key != "command" && strings.ContainsAny(value, " \t") {
		return fmt.Errorf("%q: one condition a line", key+"="+value)
	}
	switch key {
	case "port":
		port, err := strconv.ParseUint(value, 10, 16)
		if err != nil || port == 0 {
			return fmt.Errorf("%q is not a port (1 to 65535)", value)
		}
		r.port = uint16(port)
	case "executable":
		r.executable, err = executableGlob(value)
	case "cgroup":
		r.cgroup, err = NewGlob(strings.TrimPrefix(value, "/sys/fs/cgroup"))
	case "command":
		r.command = value
	default:
		if meant := spelling.Nearest(strings.ToLower(key), slices.Values(conditions), 2); meant != "" {
			return fmt.Errorf("unknown condition %q; did you mean %s?", key, meant)
		}
		return fmt.Errorf("unknown condition %q: want port, executable, cgroup or command", key)
	}
	if err != nil {
		return fmt.Errorf("%s=%s: %w", key, value, err)
	}
	return nil
}

// noRule is behind every rule.
const noRule = math.MaxInt

// match returns the first rule that a process fulfils, ports left aside. Command returns its command line.
func (s *Services) match(executable string, cgroup Cgroup, command func() string) int {
	line, isRead := "", false
	for i := range s.rules {
		rule := &s.rules[i]
		if rule.command != "" && !isRead {
			line, isRead = command(), true
		}
		switch {
		case rule.executable.Match(executable), rule.command != "" && matchText(rule.command, line):
			return i
		case rule.matchCgroup(cgroup):
			return i
		}
	}
	return noRule
}

func (r *serviceRule) matchCgroup(cgroup Cgroup) bool {
	if r.cgroup.components == nil {
		return false
	}
	for group := range cgroup.groups() {
		if r.cgroup.Match(group) {
			return true
		}
	}
	return false
}

// firstPort returns the first rule of one of these ports.
func (s *Services) firstPort(ports []uint16) int {
	first := noRule
	for _, port := range ports {
		if i, ok := s.ports[port]; ok {
			first = min(first, i)
		}
	}
	return first
}

// matchText tells whether the whole of a text matches, where `*` stands for any characters and `?` for one byte. It keeps one
// place to return to, as Glob does.
func matchText(pattern, text string) bool {
	p, t, starP, starT := 0, 0, -1, 0
	for t < len(text) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			starP, starT = p, t
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == text[t]):
			p, t = p+1, t+1
		case starP >= 0:
			starT++
			p, t = starP+1, starT
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}

// listeningPorts returns those of the rules' ports that a process listens at, in its own network namespace.
func (s *Services) listeningPorts(proc procFS, pid uint32) []uint16 {
	sockets := proc.sockets(pid)
	if len(sockets) == 0 {
		return nil
	}
	var ports []uint16
	for _, table := range []string{"net/tcp", "net/tcp6"} {
		data, err := proc.read(pid, table, socketTableMax)
		if err != nil {
			continue
		}
		eachListening(data, func(port uint16, inode uint64) {
			if _, wanted := s.ports[port]; wanted && sockets[inode] {
				ports = append(ports, port)
			}
		})
	}
	return ports
}

// sockets returns the inode numbers of a process's sockets.
func (p procFS) sockets(pid uint32) map[uint64]bool {
	directory, err := os.Open(p.file(pid, "fd"))
	if err != nil {
		return nil
	}
	defer directory.Close()
	names, _ := directory.Readdirnames(socketsMax) // what could be read counts
	found := make(map[uint64]bool)
	for _, name := range names {
		target, err := os.Readlink(p.file(pid, "fd/"+name))
		if err != nil {
			continue
		}
		if inode, ok := strings.CutPrefix(target, "socket:["); ok {
			if n, err := strconv.ParseUint(strings.TrimSuffix(inode, "]"), 10, 64); err == nil {
				found[n] = true
			}
		}
	}
	return found
}

// eachListening visits the listening sockets of /proc/net/tcp, which come before all others (proc(5)).
func eachListening(table []byte, visit func(port uint16, inode uint64)) {
	isHeader := true
	for line := range bytes.Lines(table) {
		fields := bytes.Fields(line)
		if isHeader {
			isHeader = false
			continue
		}
		if len(fields) < 10 || string(fields[3]) != "0A" || line[len(line)-1] != '\n' {
			return
		}
		_, digits, _ := bytes.Cut(fields[1], []byte{':'})
		port, err := strconv.ParseUint(string(digits), 16, 16)
		inode, inodeErr := strconv.ParseUint(string(fields[9]), 10, 64)
		if err == nil && inodeErr == nil {
			visit(uint16(port), inode)
		}
	}
}
