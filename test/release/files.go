package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// file is one that is installed.
type file struct {
	path   string // on the host, absolute
	data   []byte
	mode   os.FileMode
	config bool // an upgrade keeps what the administrator made of it
}

const (
	shareDir       = "/usr/share/"
	documentsDir   = shareDir + "doc/perfagent/"
	unitPath       = "/usr/lib/systemd/system/perfagent.service"
	configPath     = "/etc/perfagent/perfagent.yml"
	defaultPath    = "/etc/default/perfagent"
	programPath    = "/usr/bin/perfagent"
	thirdPartyPath = documentsDir + "THIRD_PARTY.txt.gz"
)

// completionPaths say where each shell looks; Debian's zsh has a directory of its own for packages.
var completionPaths = map[string][]string{
	"bash": {shareDir + "bash-completion/completions/perfagent"},
	"zsh":  {shareDir + "zsh/vendor-completions/_perfagent", shareDir + "zsh/site-functions/_perfagent"},
	"fish": {shareDir + "fish/vendor_completions.d/perfagent.fish"},
}

// generate asks a program that runs here for its shell completions and manual pages.
func (r *release) generate(ctx context.Context, program string) ([]file, error) {
	var all []file
	for shell, paths := range completionPaths {
		text, err := command(ctx, r.root, nil, program, "completion", shell)
		if err != nil {
			return nil, err
		}
		for _, p := range paths {
			all = append(all, file{path: p, data: []byte(text), mode: 0o644})
		}
	}
	pages, err := r.manual(ctx, program)
	if err != nil {
		return nil, err
	}
	all = append(all, pages...)
	slices.SortFunc(all, func(a, b file) int { return strings.Compare(a.path, b.path) })
	return all, nil
}

// manual returns the pages that the program writes; none where it has no such command.
func (r *release) manual(ctx context.Context, program string) ([]file, error) {
	if help, err := command(ctx, r.root, nil, program, "--help"); err != nil || !strings.Contains(help, "\n  man ") {
		r.log("no manual pages: this version does not write any")
		return nil, err
	}
	dir := filepath.Join(r.stage, "man")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	date := fmt.Sprintf("SOURCE_DATE_EPOCH=%d", r.time.Unix())
	if _, err := command(ctx, r.root, []string{date}, program, "man", dir); err != nil {
		return nil, err
	}
	pages, err := filepath.Glob(filepath.Join(dir, "*.[1-8]"))
	if err != nil {
		return nil, err
	}
	var all []file
	for _, page := range pages {
		data, err := os.ReadFile(page)
		if err != nil {
			return nil, err
		}
		name := filepath.Base(page)
		all = append(all, file{path: shareDir + "man/man" + name[len(name)-1:] + "/" + name + ".gz", data: compressed(data), mode: 0o644})
	}
	return all, nil
}

// installed returns everything that a package installs.
func (r *release) installed(p *program, documents []file) ([]file, error) {
	notices, err := thirdParty(r.root, p)
	if err != nil {
		return nil, err
	}
	all := append([]file{{path: programPath, data: p.data, mode: 0o755}, {path: thirdPartyPath, data: compressed(notices), mode: 0o644}}, documents...)
	for _, source := range []struct {
		from, to string
		config   bool
		compress bool
	}{
		{"deploy/systemd/perfagent.service", unitPath, false, false},
		{"deploy/packaging/perfagent.yml", configPath, true, false},
		{"deploy/packaging/default", defaultPath, true, false},
		{"deploy/packaging/copyright", documentsDir + "copyright", false, false},
		{"CHANGELOG.md", documentsDir + "changelog.gz", false, true},
		{"README.md", documentsDir + "README.md", false, false},
		{"docs/reference.md", documentsDir + "reference.md", false, false},
		{"docs/install.md", documentsDir + "install.md", false, false},
		{"SECURITY.md", documentsDir + "SECURITY.md", false, false},
		{"KNOWN_ISSUES.md", documentsDir + "KNOWN_ISSUES.md", false, false},
	} {
		data, err := os.ReadFile(filepath.Join(r.root, source.from))
		if err != nil {
			return nil, err
		}
		if source.compress {
			data = compressed(data)
		}
		all = append(all, file{path: source.to, data: data, mode: 0o644, config: source.config})
	}
	slices.SortFunc(all, func(a, b file) int { return strings.Compare(a.path, b.path) })
	return all, nil
}

// compressed is gzip without a name and a time, as gzip -9n has it.
func compressed(data []byte) []byte {
	var b bytes.Buffer
	w, _ := gzip.NewWriterLevel(&b, gzip.BestCompression) // the level is a valid one
	_, _ = w.Write(data)                                  // a buffer takes all
	_ = w.Close()
	return b.Bytes()
}

// archive writes files as a tar: owned by root, in the order given, directories before what is in them.
func (r *release) archive(w io.Writer, files []file) error {
	t := tar.NewWriter(w)
	seen := make(map[string]bool)
	for _, f := range files {
		name := strings.TrimPrefix(f.path, "/")
		for _, dir := range parents(name) {
			if seen[dir] {
				continue
			}
			seen[dir] = true
			if err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir + "/", Mode: 0o755, ModTime: r.time, Format: tar.FormatUSTAR}); err != nil {
				return err
			}
		}
		header := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: int64(f.mode.Perm()), Size: int64(len(f.data)), ModTime: r.time, Format: tar.FormatUSTAR}
		if f.mode.IsDir() {
			header.Typeflag, header.Name, seen[name] = tar.TypeDir, name+"/", true
		}
		if f.mode&os.ModeSticky != 0 {
			header.Mode |= 0o1000
		}
		if err := t.WriteHeader(header); err != nil {
			return err
		}
		if _, err := t.Write(f.data); err != nil {
			return err
		}
	}
	return t.Close()
}

// parents are the directories above a relative path, the outermost first.
func parents(name string) []string {
	var all []string
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		all = append(all, dir)
	}
	slices.Reverse(all)
	return all
}

// writeTarball writes the same files as the packages, below one directory: the program on top, the rest as it would be below /.
func (r *release) writeTarball(p *program, files []file) error {
	name := fmt.Sprintf("perfagent-%s-linux-%s", r.version, p.architecture)
	license, err := os.ReadFile(filepath.Join(r.root, "LICENSE"))
	if err != nil {
		return err
	}
	all := []file{{path: name + "/LICENSE", data: license, mode: 0o644}}
	for _, f := range files {
		f.path = name + f.path
		all = append(all, f)
	}
	var b bytes.Buffer
	if err := r.archive(&b, all); err != nil {
		return err
	}
	return r.write(name+".tar.gz", compressed(b.Bytes()))
}

// writeChart packs the Helm chart, which gets the release's version.
func (r *release) writeChart() error {
	dir := filepath.Join(r.root, "deploy", "helm", "perfagent")
	var all []file
	err := filepath.WalkDir(dir, func(name string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		relative, _ := filepath.Rel(dir, name) // below dir
		data, err := os.ReadFile(name)
		if relative == "Chart.yaml" {
			data = chartOf(data, r.version)
		}
		all = append(all, file{path: "perfagent/" + filepath.ToSlash(relative), data: data, mode: 0o644})
		return err
	})
	if err != nil {
		return err
	}
	// Chart.yaml comes first: registries read no further for it.
	slices.SortStableFunc(all, func(a, b file) int {
		if a.path == "perfagent/Chart.yaml" {
			return -1
		} else if b.path == "perfagent/Chart.yaml" {
			return 1
		}
		return 0
	})
	var b bytes.Buffer
	if err := r.archive(&b, all); err != nil {
		return err
	}
	return r.write(fmt.Sprintf("perfagent-%s.tgz", r.version), compressed(b.Bytes()))
}

// chartOf puts the release's version into a Chart.yaml.
func chartOf(chart []byte, v version) []byte {
	lines := strings.SplitAfter(string(chart), "\n")
	for i, line := range lines {
		switch {
		case strings.HasPrefix(line, "version:"):
			lines[i] = fmt.Sprintf("version: %q\n", string(v))
		case strings.HasPrefix(line, "appVersion:"):
			lines[i] = fmt.Sprintf("appVersion: %q\n", v.tag())
		}
	}
	return []byte(strings.Join(lines, ""))
}

// writeChecksums writes SHA256SUMS of all results, as sha256sum -c takes it, and says what was made.
func (r *release) writeChecksums() error {
	entries, err := os.ReadDir(r.out)
	if err != nil {
		return err
	}
	var b strings.Builder
	for _, entry := range entries {
		data, err := os.ReadFile(filepath.Join(r.out, entry.Name()))
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "%x  %s\n", sha256.Sum256(data), entry.Name())
		r.log("%6.1f MB  %s", float64(len(data))/1e6, entry.Name())
	}
	return r.write("SHA256SUMS", []byte(b.String()))
}

// writeManifests writes the manifests for kubectl with the release's image.
func (r *release) writeManifests() error {
	for from, to := range map[string]string{"perfagent.yaml": "kubernetes", "perfagent-prometheus.yaml": "kubernetes-prometheus"} {
		data, err := os.ReadFile(filepath.Join(r.root, "deploy", "kubernetes", from))
		if err != nil {
			return err
		}
		text := strings.NewReplacer(`perfagent/perfagent:0.0.0"`, "perfagent/perfagent:"+r.version.tag()+`"`,
			`app.kubernetes.io/version: "0.0.0"`, fmt.Sprintf("app.kubernetes.io/version: %q", r.version.tag())).Replace(string(data))
		if err := r.write(fmt.Sprintf("perfagent-%s-%s.yaml", r.version, to), []byte(text)); err != nil {
			return err
		}
	}
	return nil
}
