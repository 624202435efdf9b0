package main

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// hostRoot is the root of a host that has a shell, and systemd's tools, which write down what they are asked for.
type hostRoot struct {
	t      *testing.T
	dir    string
	before []string
}

// shared are directories that other packages have as well, or a distribution's own.
var shared = []string{"etc/default", "usr/lib/systemd/system", "usr/share/doc", "usr/share/man/man1", "usr/share/bash-completion/completions",
	"usr/share/fish/vendor_completions.d", "usr/share/zsh/vendor-completions", "usr/share/zsh/site-functions"}

// newHostRoot returns a root with files that the package manager needs.
func newHostRoot(t *testing.T, dirs ...string) *hostRoot {
	t.Helper()
	h := &hostRoot{t: t, dir: t.TempDir()}
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(busybox)
	if err != nil {
		t.Fatal(err)
	}
	h.write("usr/bin/busybox", string(data), 0o755)
	if err := os.Symlink("usr/bin", filepath.Join(h.dir, "bin")); err != nil {
		t.Fatal(err)
	}
	for _, applet := range []string{"sh", "rm", "rmdir"} {
		if err := os.Symlink("busybox", filepath.Join(h.dir, "usr/bin", applet)); err != nil {
			t.Fatal(err)
		}
	}
	for _, tool := range []string{"systemctl", "deb-systemd-helper", "deb-systemd-invoke"} {
		h.write("usr/bin/"+tool, "#!/bin/sh\necho "+tool+" \"$@\" >> /asked\n", 0o755)
	}
	h.write("asked", "", 0o644)
	h.write("dev/null", "", 0o666)
	for _, dir := range shared {
		h.write(dir+"/of-another-package", "", 0o644)
	}
	for _, dir := range append(dirs, "run/systemd/system", "var/lib/private", "var/log/private", "tmp", "var/tmp") {
		if err := os.MkdirAll(filepath.Join(h.dir, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return h
}

func (h *hostRoot) write(name, text string, mode os.FileMode) {
	h.t.Helper()
	name = filepath.Join(h.dir, name)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		h.t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), mode); err != nil {
		h.t.Fatal(err)
	}
}

// read returns a file's text; what is missing is "".
func (h *hostRoot) read(name string) string {
	data, _ := os.ReadFile(filepath.Join(h.dir, name))
	return string(data)
}

func (h *hostRoot) has(name string) bool {
	_, err := os.Lstat(filepath.Join(h.dir, name))
	return err == nil
}

// asked returns what the tools were asked for since the last time, a line each.
func (h *hostRoot) asked() string {
	text := h.read("asked")
	h.write("asked", "", 0o644)
	return text
}

// files lists everything but what the package manager keeps for itself.
func (h *hostRoot) files() []string {
	var all []string
	_ = filepath.WalkDir(h.dir, func(name string, entry fs.DirEntry, err error) error {
		relative, _ := filepath.Rel(h.dir, name)
		if relative == "var/lib/dpkg" || relative == "var/lib/rpm" || relative == "var/log/dpkg.log" {
			if entry.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		all = append(all, relative)
		return err
	})
	return all
}

// run runs a package manager as root, in a user namespace where the test is not.
func (h *hostRoot) run(name string, args ...string) string {
	h.t.Helper()
	if os.Geteuid() != 0 {
		name, args = "unshare", append([]string{"--user", "--map-root-user", name}, args...)
	}
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin", "LC_ALL=C")
	output, err := cmd.CombinedOutput()
	if err != nil {
		h.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, output)
	}
	return string(output)
}

// twoVersions writes the packages of two versions, of which the later has another default in one file of the configuration.
func twoVersions(t *testing.T) (older, newer string) {
	t.Helper()
	for _, v := range []version{"1.0.0", "1.1.0"} {
		r := newRelease(t, v)
		p := programs(t)["amd64"]
		files, err := r.installed(p, documents(t, r))
		if err != nil {
			t.Fatal(err)
		}
		if v == "1.1.0" {
			i := slices.IndexFunc(files, func(f file) bool { return f.path == defaultPath })
			files[i].data = append(files[i].data, "# of 1.1.0\n"...)
		}
		if err := r.writePackages(p, files); err != nil {
			t.Fatal(err)
		}
		older, newer = newer, r.out
	}
	return older, newer
}

const (
	edited  = "capture:\n  port: [8080]\n"
	history = "var/lib/private/perfagent/history.db"
)

// A Debian package is installed, upgraded, removed and purged by dpkg, in a root of its own: an edited configuration is kept and an untouched
// one renewed, a removal keeps both and the history, a purge leaves nothing, and systemd is asked for what Debian's policy wants.
func TestDebianPackage(t *testing.T) {
	older, newer := twoVersions(t)
	h := newHostRoot(t, "var/lib/dpkg/info", "var/lib/dpkg/updates", "var/lib/dpkg/triggers")
	h.write("var/lib/dpkg/status", "", 0o644)
	h.write("var/lib/dpkg/available", "", 0o644)
	before := h.files()
	dpkg := func(args ...string) string {
		return h.run("dpkg", append([]string{"--root=" + h.dir, "--force-depends", "--force-architecture", "--log=/dev/null"}, args...)...)
	}
	dpkg("-i", filepath.Join(older, "perfagent_1.0.0_amd64.deb"))
	for _, name := range []string{programPath, unitPath, configPath, defaultPath, documentsDir + "copyright", thirdPartyPath, completionPaths["bash"][0], "/usr/share/zsh/vendor-completions/_perfagent"} {
		if !h.has(name) {
			t.Errorf("%s is not installed", name)
		}
	}
	if asked := h.asked(); !strings.Contains(asked, "deb-systemd-invoke start perfagent.service") || !strings.Contains(asked, "deb-systemd-helper enable") || !strings.Contains(asked, "daemon-reload") {
		t.Errorf("the installation asked\n%s", asked)
	}
	h.write(configPath, edited, 0o644)
	h.write(history, "weeks", 0o600)
	dpkg("-i", filepath.Join(newer, "perfagent_1.1.0_amd64.deb"))
	if h.read(configPath) != edited || !strings.Contains(h.read(defaultPath), "# of 1.1.0") || h.read(history) != "weeks" {
		t.Errorf("after the upgrade: %q, %q", h.read(configPath), h.read(defaultPath))
	}
	if asked := h.asked(); !strings.Contains(asked, "deb-systemd-invoke restart") || strings.Contains(asked, "stop") {
		t.Errorf("the upgrade asked\n%s", asked)
	}
	dpkg("-r", "perfagent")
	if h.has(programPath) || h.has(unitPath) || h.read(configPath) != edited || h.read(history) != "weeks" {
		t.Error("the removal removed too little or too much")
	}
	if asked := h.asked(); !strings.Contains(asked, "deb-systemd-invoke stop") || !strings.Contains(asked, "deb-systemd-helper mask") {
		t.Errorf("the removal asked\n%s", asked)
	}
	dpkg("-P", "perfagent")
	if asked := h.asked(); !strings.Contains(asked, "deb-systemd-helper purge") {
		t.Errorf("the purge asked\n%s", asked)
	}
	if after := h.files(); !slices.Equal(after, before) {
		t.Errorf("left behind:\n%v\nbefore:\n%v", after, before)
	}
}

// An RPM package is installed, upgraded and removed by rpm, in a root of its own: an edited configuration survives both, the history stays,
// and nothing else is left.
func TestRPMPackage(t *testing.T) {
	older, newer := twoVersions(t)
	h := newHostRoot(t, "var/lib/rpm")
	before := h.files()
	rpm := func(args ...string) string {
		return h.run("rpm", append([]string{"--root=" + h.dir, "--dbpath=/var/lib/rpm"}, args...)...)
	}
	rpm("--initdb")
	rpm("-i", "--nodeps", "--ignorearch", filepath.Join(older, "perfagent-1.0.0-1.x86_64.rpm"))
	for _, name := range []string{programPath, unitPath, configPath, defaultPath, "/usr/share/zsh/site-functions/_perfagent"} {
		if !h.has(name) {
			t.Errorf("%s is not installed", name)
		}
	}
	if asked := h.asked(); !strings.Contains(asked, "preset perfagent.service") || strings.Contains(asked, " start ") {
		t.Errorf("the installation asked\n%s", asked)
	}
	if output := rpm("-V", "--nodeps", "perfagent"); strings.TrimSpace(output) != "" {
		t.Errorf("rpm -V: %s", output)
	}
	h.write(configPath, edited, 0o644)
	h.write(history, "weeks", 0o600)
	rpm("-U", "--nodeps", "--ignorearch", filepath.Join(newer, "perfagent-1.1.0-1.x86_64.rpm"))
	if h.read(configPath) != edited || !strings.Contains(h.read(defaultPath), "# of 1.1.0") {
		t.Errorf("after the upgrade: %q, %q", h.read(configPath), h.read(defaultPath))
	}
	if asked := h.asked(); !strings.Contains(asked, "try-restart perfagent.service") || strings.Contains(asked, "disable") {
		t.Errorf("the upgrade asked\n%s", asked)
	}
	rpm("-e", "--nodeps", "perfagent")
	if asked := h.asked(); !strings.Contains(asked, "disable --now perfagent.service") {
		t.Errorf("the removal asked\n%s", asked)
	}
	if h.read(configPath+".rpmsave") != edited || h.read(history) != "weeks" {
		t.Error("the configuration or the history is gone")
	}
	expected := append(slices.Clone(before), "etc/perfagent", "etc/perfagent/perfagent.yml.rpmsave", "var/lib/private/perfagent", history)
	slices.Sort(expected)
	after := h.files()
	slices.Sort(after)
	if !slices.Equal(after, expected) {
		t.Errorf("left behind:\n%v\nexpected:\n%v", after, expected)
	}
}

// The files of the configuration that a package installs are ones that the agent takes, as they are and with every example in them switched on.
func TestDefaultConfiguration(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("..", "..", "deploy", "packaging", "perfagent.yml"))
	if err != nil {
		t.Fatal(err)
	}
	var examples strings.Builder
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, "#"); ok && !strings.HasPrefix(rest, " ") || strings.HasPrefix(line, "#  ") {
			examples.WriteString(rest)
		}
	}
	for name, text := range map[string]string{"as it is": string(data), "with its examples": examples.String()} {
		file := filepath.Join(t.TempDir(), "perfagent.yml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		// Behind the file stands a process that there is not: the start is refused for that alone.
		cmd := exec.Command(agentBinary(t), "run", "--config.file="+file, "--capture.pid=4194305")
		cmd.Env = []string{} // the agent refuses variables of its name that it does not know, as PERFAGENT_BINARY
		output, err := cmd.CombinedOutput()
		if err == nil || !strings.Contains(string(output), "4194305") {
			t.Errorf("%s: %v: %s", name, err, output)
		}
	}
	if strings.Count(examples.String(), "\n") < 10 {
		t.Errorf("only these examples were found:\n%s", examples.String())
	}
}
