// Command release makes what a release of perfagent consists of: static programs for amd64 and arm64, tarballs, Debian and RPM
// packages, a container image for both, the Helm chart, bills of materials and checksums. It needs Go and git, no container engine,
// and makes the same bytes of the same commit.
//
//	go run . [-root DIR] [-out DIR] [-version V] [-epoch SECONDS] [-program amd64=PATH]...
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// architectures are those of the release, by Go's names.
var architectures = []string{"amd64", "arm64"}

// release is one release that is being made.
type release struct {
	root    string // of the repository
	out     string // the directory with the results; what was in it is removed
	stage   string // a directory for what is on the way there
	version version
	time    time.Time // of everything inside
	// programs are files by architecture; those that are missing are compiled.
	programs map[string]string
	log      func(format string, args ...any)
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) (err error) {
	flags := flag.NewFlagSet("release", flag.ExitOnError)
	r := &release{programs: make(map[string]string), log: func(format string, args ...any) { fmt.Printf(format+"\n", args...) }}
	flags.StringVar(&r.root, "root", filepath.Join("..", ".."), "directory of the repository")
	flags.StringVar(&r.out, "out", "", "directory of the results (default bin/release of the repository)")
	given := flags.String("version", "", "version, such as 1.2.3 (default: what git describes)")
	epoch := flags.String("epoch", os.Getenv("SOURCE_DATE_EPOCH"), "time of everything inside, seconds since 1970 (default: the commit's)")
	flags.Func("program", "ARCHITECTURE=FILE: a program that was compiled before; repeatable", func(s string) error {
		architecture, file, ok := strings.Cut(s, "=")
		if !ok {
			return errors.New("ARCHITECTURE=FILE is expected")
		}
		r.programs[architecture] = file
		return nil
	})
	_ = flags.Parse(args) // it exits
	if r.root, err = filepath.Abs(r.root); err != nil {
		return err
	}
	if r.out == "" {
		r.out = filepath.Join(r.root, "bin", "release")
	}
	if err := r.identify(ctx, *given, *epoch); err != nil {
		return err
	}
	if r.stage, err = os.MkdirTemp("", "perfagent-release-*"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(r.stage)) }()
	return r.make(ctx)
}

// identify fills in the version and the time.
func (r *release) identify(ctx context.Context, given, epoch string) error {
	if epoch == "" {
		text, err := r.git(ctx, "log", "-1", "--format=%ct")
		if err != nil {
			return fmt.Errorf("the time of the commit, which -epoch may give: %w", err)
		}
		epoch = text
	}
	seconds, err := strconv.ParseInt(epoch, 10, 64)
	if err != nil {
		return fmt.Errorf("-epoch %q: %w", epoch, err)
	}
	r.time = time.Unix(seconds, 0).UTC()
	if given == "" {
		if given, err = r.git(ctx, "describe", "--tags", "--always", "--dirty", "--abbrev=12", "--match=v[0-9]*"); err != nil {
			return fmt.Errorf("the version, which -version may give: %w", err)
		}
	}
	r.version, err = parseVersion(given, r.time)
	return err
}

// make makes everything.
func (r *release) make(ctx context.Context) error {
	if err := os.RemoveAll(r.out); err != nil {
		return err
	}
	if err := os.MkdirAll(r.out, 0o755); err != nil {
		return err
	}
	r.log("perfagent %s of %s", r.version, r.time.Format(time.RFC3339))
	if err := r.compile(ctx); err != nil {
		return err
	}
	programs := make(map[string]*program)
	for _, architecture := range architectures {
		p, err := openProgram(ctx, r.root, r.programs[architecture], architecture)
		if err != nil {
			return err
		}
		programs[architecture] = p
	}
	documents, err := r.generate(ctx, r.programs[runtime.GOARCH])
	if err != nil {
		return err
	}
	return r.assemble(programs, documents)
}

// assemble makes everything of programs, and of what they say of themselves.
func (r *release) assemble(programs map[string]*program, documents []file) error {
	for _, architecture := range architectures {
		if err := r.makeFor(programs[architecture], documents); err != nil {
			return fmt.Errorf("%s: %w", architecture, err)
		}
	}
	if err := r.writeImage(programs); err != nil {
		return fmt.Errorf("image: %w", err)
	}
	if err := r.writeChart(); err != nil {
		return fmt.Errorf("chart: %w", err)
	}
	if err := r.writeManifests(); err != nil {
		return fmt.Errorf("manifests: %w", err)
	}
	return r.writeChecksums()
}

// makeFor makes what is of one architecture alone.
func (r *release) makeFor(p *program, documents []file) error {
	bill, err := r.bill(p)
	if err != nil {
		return fmt.Errorf("bill of materials: %w", err)
	}
	if err := r.write(fmt.Sprintf("perfagent-%s-linux-%s.cdx.json", r.version, p.architecture), bill); err != nil {
		return err
	}
	files, err := r.installed(p, documents)
	if err != nil {
		return err
	}
	if err := r.writeTarball(p, files); err != nil {
		return fmt.Errorf("tarball: %w", err)
	}
	return r.writePackages(p, files)
}

// write writes one result.
func (r *release) write(name string, data []byte) error {
	return os.WriteFile(filepath.Join(r.out, name), data, 0o644)
}
