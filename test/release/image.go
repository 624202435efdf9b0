package main

import (
	"bytes"
	"context"
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/crypto/x509roots/fallback/bundle"
)

const (
	certificatesPath = "/etc/ssl/certs/ca-certificates.crt"
	// zonesPath is where ZONEINFO has Go look for time zones, which quiet hours name.
	zonesPath = "/usr/share/zoneinfo.zip"
)

// labels are those of the image and of its index.
func (r *release) labels(revision string) map[string]string {
	all := map[string]string{"title": "perfagent", "description": summary, "version": string(r.version), "created": r.time.Format("2006-01-02T15:04:05Z"),
		"licenses": "Apache-2.0 AND (GPL-2.0-only OR BSD-2-Clause)", "vendor": "perfagent", "source": homepage, "url": homepage,
		"documentation": homepage + "/blob/main/docs/install.md"}
	if revision != "" {
		all["revision"] = revision
	}
	prefixed := make(map[string]string)
	for name, value := range all {
		prefixed["org.opencontainers.image."+name] = value
	}
	return prefixed
}

// writeImage writes one image for all architectures, as the tar of an OCI layout. There is no base image: the layers hold the program, and
// what a static program wants of a host.
func (r *release) writeImage(programs map[string]*program) error {
	surroundings, err := r.surroundings()
	if err != nil {
		return err
	}
	labels := r.labels(programs[architectures[0]].setting("vcs.revision"))
	index := v1.ImageIndex(mutate.IndexMediaType(empty.Index, types.OCIImageIndex))
	for _, architecture := range architectures {
		image, err := r.image(programs[architecture], surroundings, labels)
		if err != nil {
			return err
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: image,
			Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: architecture}}})
	}
	index = mutate.Annotations(index, labels).(v1.ImageIndex)
	return r.writeLayout(index)
}

// writeLayout writes an index as the one entry of a layout, packed as a tar.
func (r *release) writeLayout(index v1.ImageIndex) error {
	dir := filepath.Join(r.stage, "image")
	target, err := layout.Write(dir, empty.Index)
	if err != nil {
		return err
	}
	name := layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": r.version.tag()})
	if err := target.AppendIndex(index, name); err != nil {
		return err
	}
	var all []file
	err = filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		relative, _ := filepath.Rel(dir, path) // below dir
		data, err := os.ReadFile(path)
		all = append(all, file{path: relative, data: data, mode: 0o644})
		return err
	})
	if err != nil {
		return err
	}
	slices.SortFunc(all, func(a, b file) int { return strings.Compare(b.path, a.path) }) // oci-layout comes first
	var b bytes.Buffer
	if err := r.archive(&b, all); err != nil {
		return err
	}
	return r.write(fmt.Sprintf("perfagent-%s-image.tar", r.version), b.Bytes())
}

// image is that of one architecture. It runs as root, with what the engine leaves root: capabilities reach an ordinary user's
// program in no container engine.
func (r *release) image(p *program, surroundings v1.Layer, labels map[string]string) (v1.Image, error) {
	notices, err := thirdParty(r.root, p)
	if err != nil {
		return nil, err
	}
	layer, err := r.layer([]file{{path: programPath, data: p.data, mode: 0o755}, {path: thirdPartyPath, data: compressed(notices), mode: 0o644}})
	if err != nil {
		return nil, err
	}
	base := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	created := v1.Time{Time: r.time}
	image, err := mutate.Append(base,
		mutate.Addendum{Layer: surroundings, History: v1.History{Created: created, CreatedBy: "certificates, time zones, directories"}},
		mutate.Addendum{Layer: layer, History: v1.History{Created: created, CreatedBy: "perfagent " + string(r.version)}})
	if err != nil {
		return nil, err
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Created = "linux", p.architecture, created
	config.Config = v1.Config{User: "0:0", Entrypoint: []string{programPath}, WorkingDir: "/", Labels: labels, StopSignal: "SIGTERM",
		Env: []string{"PATH=/usr/bin", "ZONEINFO=" + zonesPath}}
	image, err = mutate.ConfigFile(image, config)
	if err != nil {
		return nil, err
	}
	return mutate.Annotations(image, labels).(v1.Image), nil
}

// surroundings is the layer below the program: certificates of authorities (those of Mozilla, as Go's developers keep them), time
// zones of the Go that compiled, users' names, and the directories that the program writes to.
func (r *release) surroundings() (v1.Layer, error) {
	var certificates bytes.Buffer
	for root := range bundle.Roots() {
		if root.Constraint == nil { // a file of certificates cannot say what one is not to be trusted for
			_ = pem.Encode(&certificates, &pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate}) // a buffer takes all
		}
	}
	goroot, err := command(context.Background(), r.root, nil, "go", "env", "GOROOT")
	if err != nil {
		return nil, err
	}
	zones, err := os.ReadFile(filepath.Join(strings.TrimSpace(goroot), "lib", "time", "zoneinfo.zip"))
	if err != nil {
		return nil, err
	}
	return r.layer([]file{
		{path: "/etc/passwd", data: []byte("root:x:0:0:root:/:/usr/bin/perfagent\nnobody:x:65534:65534:nobody:/:/usr/bin/perfagent\n"), mode: 0o644},
		{path: "/etc/group", data: []byte("root:x:0:\nnobody:x:65534:\n"), mode: 0o644},
		{path: certificatesPath, data: certificates.Bytes(), mode: 0o644},
		{path: zonesPath, data: zones, mode: 0o644},
		{path: "/run/perfagent", mode: os.ModeDir | 0o750},
		{path: "/tmp", mode: os.ModeDir | os.ModeSticky | 0o777},
		{path: "/var/lib/perfagent", mode: os.ModeDir | 0o700},
	})
}

func (r *release) layer(files []file) (v1.Layer, error) {
	var b bytes.Buffer
	if err := r.archive(&b, files); err != nil {
		return nil, err
	}
	packed := compressed(b.Bytes())
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(packed)), nil }
	return tarball.LayerFromOpener(open, tarball.WithMediaType(types.OCILayer))
}
