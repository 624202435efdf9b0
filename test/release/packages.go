package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/goreleaser/nfpm/v2"
	"github.com/goreleaser/nfpm/v2/deb"
	"github.com/goreleaser/nfpm/v2/files"
	"github.com/goreleaser/nfpm/v2/rpm"
)

const (
	homepage   = "https://github.com/perfagent/perfagent"
	maintainer = "the authors of perfagent <maintainers@perfagent.example>"
	summary    = "shows the latency of every HTTP exchange of a host, by BPF"
	// description is what package managers show; Debian's form has the summary first.
	description = summary + "\n" +
		"perfagent watches the kernel's sockets and reports how many HTTP exchanges\n" +
		"there were, with which status, how long each took and where the time went,\n" +
		"without a change to the programs that it sees. Metrics for Prometheus, a\n" +
		"dashboard, alerts, one line per exchange on the terminal."
)

// packager is nfpm's for one kind of package.
type packager interface {
	Package(*nfpm.Info, io.Writer) error
	ConventionalFileName(*nfpm.Info) string
}

// writePackages writes the packages of one architecture.
func (r *release) writePackages(p *program, all []file) error {
	for kind, make := range map[string]packager{"deb": deb.Default, "rpm": rpm.DefaultRPM} {
		info, err := r.packageInfo(kind, p, all)
		if err != nil {
			return fmt.Errorf("%s: %w", kind, err)
		}
		name := make.ConventionalFileName(info)
		var b bytes.Buffer
		if err := make.Package(info, &b); err != nil {
			return fmt.Errorf("%s: %w", kind, err)
		}
		if err := r.write(name, b.Bytes()); err != nil {
			return err
		}
	}
	return nil
}

func (r *release) packageInfo(kind string, p *program, all []file) (*nfpm.Info, error) {
	contents, err := r.contents(kind, p, all)
	if err != nil {
		return nil, err
	}
	scripts := filepath.Join(r.root, "deploy", "packaging", kind)
	info := nfpm.WithDefaults(&nfpm.Info{Name: "perfagent", Arch: p.architecture, Platform: "linux", Version: string(r.version),
		Maintainer: maintainer, Vendor: "perfagent", Homepage: homepage, License: "Apache-2.0 AND (GPL-2.0-only OR BSD-2-Clause)",
		Section: "admin", Priority: "optional", Description: description, MTime: r.time, DisableGlobbing: true,
		Overridables: nfpm.Overridables{Contents: contents,
			Scripts: nfpm.Scripts{PostInstall: scripts + "-postinst.sh", PreRemove: scripts + "-prerm.sh", PostRemove: scripts + "-postrm.sh"},
			RPM:     nfpm.RPM{Summary: summary, BuildHost: "localhost", Group: "System Environment/Daemons", Compression: "gzip:9"},
			Deb:     nfpm.Deb{Compression: "gzip"}}})
	if kind == "rpm" {
		info.Release = "1"
	}
	return info, nfpm.PrepareForPackager(info, kind)
}

// contents stages the files and lists them as nfpm wants them. What is of the other kind of distribution is left out.
func (r *release) contents(kind string, p *program, all []file) (files.Contents, error) {
	var contents files.Contents
	for _, f := range all {
		if strings.Contains(f.path, "/zsh/vendor-") && kind != "deb" || strings.Contains(f.path, "/zsh/site-") && kind != "rpm" {
			continue
		}
		staged := filepath.Join(r.stage, kind, p.architecture, f.path)
		if err := os.MkdirAll(filepath.Dir(staged), 0o755); err != nil {
			return nil, err
		}
		if err := os.WriteFile(staged, f.data, f.mode); err != nil {
			return nil, err
		}
		c := &files.Content{Source: staged, Destination: f.path,
			FileInfo: &files.ContentFileInfo{Owner: "root", Group: "root", Mode: f.mode, MTime: r.time}}
		if f.config {
			c.Type = files.TypeConfigNoReplace
		}
		contents = append(contents, c)
	}
	for _, dir := range []string{"/etc/perfagent", strings.TrimSuffix(documentsDir, "/")} { // that go with the package
		contents = append(contents, &files.Content{Destination: dir, Type: files.TypeDir,
			FileInfo: &files.ContentFileInfo{Owner: "root", Group: "root", Mode: 0o755, MTime: r.time}})
	}
	return contents, nil
}
