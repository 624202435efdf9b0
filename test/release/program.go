package main

import (
	"bytes"
	"context"
	"debug/buildinfo"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
)

// program is the agent, compiled for one architecture.
type program struct {
	architecture string
	data         []byte
	info         *debug.BuildInfo
	modules      []module // that are linked into it, the standard library first
}

// module is one that is linked into a program.
type module struct {
	path, version, sum string
	notices            []notice
}

func (r *release) git(ctx context.Context, args ...string) (string, error) {
	output, err := command(ctx, r.root, nil, "git", args...)
	return strings.TrimSpace(output), err
}

// command runs a program and returns what it prints; an error has what it complains of.
func command(ctx context.Context, dir string, environ []string, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env = dir, environ
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, "PERFAGENT_") { // settings of the agent, which it shall say nothing about here
			cmd.Env = append(cmd.Env, variable)
		}
	}
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	output, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(complaints.String()))
	}
	return string(output), nil
}

// compile makes the programs that were not given, as make build does: static, without paths of this machine, and with the revision where
// there is a repository.
func (r *release) compile(ctx context.Context) error {
	stamp := "-buildvcs=true"
	if _, err := r.git(ctx, "rev-parse", "HEAD"); err != nil {
		stamp = "-buildvcs=false"
	}
	for _, architecture := range architectures {
		if r.programs[architecture] != "" {
			continue
		}
		r.log("compiling for %s", architecture)
		file := filepath.Join(r.stage, "perfagent-"+architecture)
		_, err := command(ctx, r.root, []string{"CGO_ENABLED=0", "GOOS=linux", "GOARCH=" + architecture, "GOFLAGS="},
			"go", "build", stamp, "-trimpath", "-ldflags", "-s -w -X main.buildVersion="+string(r.version), "-o", file, "./cmd/perfagent")
		if err != nil {
			return err
		}
		r.programs[architecture] = file
	}
	return nil
}

// openProgram reads a program and refuses one that is of another architecture, or needs a loader or libraries of its host.
func openProgram(ctx context.Context, root, file, architecture string) (*program, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	if err := checkStatic(data, architecture); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	info, err := buildinfo.Read(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	p := &program{architecture: architecture, data: data, info: info}
	return p, p.findModules(ctx, root)
}

func checkStatic(data []byte, architecture string) error {
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return err
	}
	machines := map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}
	if f.Machine != machines[architecture] {
		return fmt.Errorf("it is for %s, not for %s", f.Machine, architecture)
	}
	for _, segment := range f.Progs {
		if segment.Type == elf.PT_INTERP || segment.Type == elf.PT_DYNAMIC {
			return errors.New("it is not static")
		}
	}
	return nil
}

// findModules reads from the program itself which modules are in it, and finds their sources.
func (p *program) findModules(ctx context.Context, root string) error {
	goroot, err := command(ctx, root, nil, "go", "env", "GOROOT")
	if err != nil {
		return err
	}
	std := module{path: "std", version: strings.TrimPrefix(p.info.GoVersion, "go")}
	if std.notices, err = readNotices(strings.TrimSpace(goroot)); err != nil {
		return err
	}
	p.modules = []module{std}
	args := []string{"mod", "download", "-json"}
	for _, m := range p.info.Deps {
		if m.Replace != nil {
			return fmt.Errorf("module %s is replaced: it cannot be named to others", m.Path)
		}
		p.modules = append(p.modules, module{path: m.Path, version: m.Version, sum: m.Sum})
		args = append(args, m.Path+"@"+m.Version)
	}
	output, err := command(ctx, root, nil, "go", args...)
	if err != nil {
		return err
	}
	for decoder := json.NewDecoder(strings.NewReader(output)); ; {
		var found struct{ Path, Dir string }
		if err := decoder.Decode(&found); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("go mod download: %w", err)
		}
		i := slices.IndexFunc(p.modules, func(m module) bool { return m.path == found.Path })
		if p.modules[i].notices, err = readNotices(found.Dir); err != nil {
			return fmt.Errorf("module %s: %w", found.Path, err)
		}
	}
}

// setting is one of the build, "" where it was not made.
func (p *program) setting(key string) string {
	for _, s := range p.info.Settings {
		if s.Key == key {
			return s.Value
		}
	}
	return ""
}
