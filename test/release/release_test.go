package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

var commitTime = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// agentBinary is the agent that make build has built.
func agentBinary(t *testing.T) string {
	t.Helper()
	name := os.Getenv("PERFAGENT_BINARY")
	if name == "" {
		name = filepath.Join("..", "..", "bin", "perfagent")
	}
	name, err := filepath.Abs(name)
	if err == nil {
		_, err = os.Stat(name)
	}
	if err != nil {
		t.Fatalf("%v: make build", err)
	}
	return name
}

// newRelease returns a release with results in a directory of its own.
func newRelease(t *testing.T, v version) *release {
	t.Helper()
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	return &release{root: root, version: v, time: commitTime, out: t.TempDir(), stage: t.TempDir(), programs: map[string]string{}, log: t.Logf}
}

// programBytes is what tests pack of the program where nobody runs it.
const programBytes = 64 << 10

// openedPrograms keeps the agent by its file: it is tens of megabytes, and Go takes a while to say where its modules are.
var openedPrograms = map[string]*program{}

// realProgram is the agent of this machine.
func realProgram(t *testing.T) *program {
	t.Helper()
	file := agentBinary(t)
	if p := openedPrograms[file]; p != nil {
		return p
	}
	p, err := openProgram(t.Context(), filepath.Join("..", ".."), file, runtime.GOARCH)
	openedPrograms[file] = p
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// programs are stand-ins for both architectures: the beginning of the real one, with all that it says of itself.
func programs(t *testing.T) map[string]*program {
	t.Helper()
	all := map[string]*program{}
	for _, architecture := range architectures {
		p := *realProgram(t)
		p.architecture, p.data = architecture, append([]byte(architecture), p.data[:programBytes]...)
		all[architecture] = &p
	}
	return all
}

func documents(t *testing.T, r *release) []file {
	t.Helper()
	all, err := r.generate(t.Context(), agentBinary(t))
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// Versions are what git describes, and sort, for Debian's dpkg, in the order in which they came to be.
func TestVersions(t *testing.T) {
	inOrder := []struct{ described, want string }{
		{"fa4c44b", "0.0.0-git20260301120000.gfa4c44b"},
		{"v1.2.0-rc.1", "1.2.0-rc.1"},
		{"v1.2.0", "1.2.0"},
		{"v1.2.0-4-gabcdef0", "1.2.0+4.gabcdef0"},
		{"v1.2.0-11-gabcdef0-dirty", "1.2.0+11.gabcdef0.dirty"},
		{"1.2.1", "1.2.1"},
	}
	before := ""
	for _, c := range inOrder {
		v, err := parseVersion(c.described, commitTime)
		if err != nil || string(v) != c.want {
			t.Errorf("%s: %q, %v", c.described, v, err)
		}
		debian := strings.Replace(string(v), "-", "~", 1)
		if before != "" && exec.Command("dpkg", "--compare-versions", before, "lt", debian).Run() != nil {
			t.Errorf("%s is not before %s", before, debian)
		}
		before = debian
	}
	for _, bad := range []string{"", "v1", "release", "1.2.3 4", "v1.2.3-dirty-dirty"} {
		if v, err := parseVersion(bad, commitTime); err == nil {
			t.Errorf("%q is %q", bad, v)
		}
	}
	if tag := version("1.2.0+4.gabc").tag(); tag != "1.2.0_4.gabc" {
		t.Errorf("tag %q", tag)
	}
}

// Two builds in other directories are the same in every byte; what they
// consist of is what SHA256SUMS lists.
func TestReproducible(t *testing.T) {
	var sums [2]string
	for i := range sums {
		r := newRelease(t, "1.2.3-rc.1")
		if err := r.assemble(programs(t), documents(t, r)); err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(filepath.Join(r.out, "SHA256SUMS"))
		if err != nil {
			t.Fatal(err)
		}
		sums[i] = string(data)
		check := exec.Command("sha256sum", "--strict", "-c", "SHA256SUMS")
		check.Dir = r.out
		if output, err := check.CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, output)
		}
	}
	if sums[0] != sums[1] {
		t.Errorf("the builds differ:\n%s\n%s", sums[0], sums[1])
	}
	for _, name := range []string{"perfagent_1.2.3~rc.1_amd64.deb", "perfagent_1.2.3~rc.1_arm64.deb", "perfagent-1.2.3~rc.1-1.x86_64.rpm", "perfagent-1.2.3~rc.1-1.aarch64.rpm",
		"perfagent-1.2.3-rc.1-linux-amd64.tar.gz", "perfagent-1.2.3-rc.1-linux-arm64.tar.gz", "perfagent-1.2.3-rc.1-image.tar", "perfagent-1.2.3-rc.1.tgz",
		"perfagent-1.2.3-rc.1-linux-amd64.cdx.json", "perfagent-1.2.3-rc.1-kubernetes.yaml", "perfagent-1.2.3-rc.1-kubernetes-prometheus.yaml"} {
		if !strings.Contains(sums[0], "  "+name+"\n") {
			t.Errorf("no %s in\n%s", name, sums[0])
		}
	}
}

// A program of another architecture, one that needs a loader, and what is no program are refused.
func TestProgramRefused(t *testing.T) {
	p := realProgram(t)
	other := map[string]string{"amd64": "arm64", "arm64": "amd64"}[runtime.GOARCH]
	if err := checkStatic(p.data, other); err == nil || !strings.Contains(err.Error(), "it is for") {
		t.Errorf("another architecture: %v", err)
	}
	dynamic := bytes.Clone(p.data)
	first := binary.LittleEndian.Uint64(dynamic[32:]) // the type of the first program header becomes PT_INTERP
	binary.LittleEndian.PutUint32(dynamic[first:], 3)
	if err := checkStatic(dynamic, runtime.GOARCH); err == nil || !strings.Contains(err.Error(), "not static") {
		t.Errorf("with a loader: %v", err)
	}
	if err := checkStatic([]byte("#!/bin/sh\n"), runtime.GOARCH); err == nil {
		t.Error("a script is taken for a program")
	}
}

// The bill of materials names each module that the linker put into the program, with its version and license, and what the dashboard is
// made of; the notices have a text for each.
func TestBill(t *testing.T) {
	p := realProgram(t)
	r := newRelease(t, "1.2.3")
	data, err := r.bill(p)
	if err != nil {
		t.Fatal(err)
	}
	var b cdx.BOM
	if err := cdx.NewBOMDecoder(bytes.NewReader(data), cdx.BOMFileFormatJSON).Decode(&b); err != nil {
		t.Fatal(err)
	}
	notices, err := thirdParty(r.root, p)
	if err != nil {
		t.Fatal(err)
	}
	licensed := 0
	for _, c := range *b.Components {
		if c.Version == "" || c.PackageURL == "" {
			t.Errorf("component %+v", c)
		}
		if c.Licenses != nil {
			licensed++
		}
		if !bytes.Contains(notices, []byte("\n"+c.Name+" ")) {
			t.Errorf("no notice of %s", c.Name)
		}
	}
	if want := len(p.info.Deps) + 1 + len(bundled); len(*b.Components) != want || licensed != want {
		t.Errorf("%d components, %d with a known license, want %d", len(*b.Components), licensed, want)
	}
	for _, name := range []string{"std", "github.com/cilium/ebpf", "preact", "uplot"} {
		if !slices.ContainsFunc(*b.Components, func(c cdx.Component) bool { return c.Name == name }) {
			t.Errorf("no %s", name)
		}
	}
}

// The tarball has everything below one directory, owned by root; the chart has the release's version, first in its archive.
func TestArchives(t *testing.T) {
	r := newRelease(t, "1.2.3+4.gabc")
	if err := r.assemble(programs(t), documents(t, r)); err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	readTar(t, filepath.Join(r.out, "perfagent-1.2.3+4.gabc-linux-arm64.tar.gz"), func(h *tar.Header, data []byte) {
		names[h.Name] = true
		if h.Uid != 0 || h.Gid != 0 || !h.ModTime.Equal(commitTime) || !strings.HasPrefix(h.Name, "perfagent-1.2.3+4.gabc-linux-arm64/") {
			t.Errorf("%+v", h)
		}
		if strings.HasSuffix(h.Name, programPath) && (h.Mode != 0o755 || !bytes.HasPrefix(data, []byte("arm64"))) {
			t.Errorf("the program has mode %o", h.Mode)
		}
	})
	for _, name := range []string{programPath, unitPath, configPath, "/LICENSE", thirdPartyPath, completionPaths["fish"][0]} {
		if !names["perfagent-1.2.3+4.gabc-linux-arm64"+name] {
			t.Errorf("no %s", name)
		}
	}
	first := ""
	readTar(t, filepath.Join(r.out, "perfagent-1.2.3+4.gabc.tgz"), func(h *tar.Header, data []byte) {
		if first == "" && h.Typeflag == tar.TypeReg {
			first = h.Name + "\n" + string(data)
		}
	})
	if !strings.HasPrefix(first, "perfagent/Chart.yaml\n") || !strings.Contains(first, `version: "1.2.3+4.gabc"`) || !strings.Contains(first, `appVersion: "1.2.3_4.gabc"`) {
		t.Errorf("the chart begins with %s", first)
	}
	manifest, err := os.ReadFile(filepath.Join(r.out, "perfagent-1.2.3+4.gabc-kubernetes.yaml"))
	if err != nil || !bytes.Contains(manifest, []byte(`perfagent:1.2.3_4.gabc"`)) || bytes.Contains(manifest, []byte("0.0.0")) && !bytes.Contains(manifest, []byte("0.0.0.0")) {
		t.Errorf("%v: %s", err, manifest)
	}
}

func readTar(t *testing.T, name string, visit func(*tar.Header, []byte)) {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	unpacked, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	for archive := tar.NewReader(unpacked); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(archive)
		if err != nil {
			t.Fatal(err)
		}
		visit(header, data)
	}
}

// exposureMost is the worst exposure that systemd may find in the unit; 10 is a service without any restriction. What is left are the
// capabilities that observing needs.
const exposureMost = "3.1"

// systemd finds nothing wrong with the unit, and its sandbox is not weaker than it was.
func TestUnit(t *testing.T) {
	unit := filepath.Join("..", "..", "deploy", "systemd", "perfagent.service")
	data, err := os.ReadFile(unit)
	if err != nil {
		t.Fatal(err)
	}
	here := filepath.Join(t.TempDir(), "perfagent.service")
	// systemd wants the program to be there.
	data = bytes.ReplaceAll(data, []byte("/usr/bin/perfagent"), []byte(agentBinary(t)))
	if err := os.WriteFile(here, data, 0o644); err != nil {
		t.Fatal(err)
	}
	if output, err := command(context.Background(), ".", nil, "systemd-analyze", "verify", "--man=no", here); err != nil || output != "" {
		t.Errorf("%v%s", err, output)
	}
	if output, err := command(context.Background(), ".", nil, "systemd-analyze", "security", "--offline=true", fmt.Sprintf("--threshold=%s", strings.ReplaceAll(exposureMost, ".", "")), here); err != nil {
		t.Errorf("%v: %s", err, output)
	}
}
