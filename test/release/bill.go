package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	cdx "github.com/CycloneDX/cyclonedx-go"
	"github.com/google/licensecheck"
)

// bundled are the packages of npm that the dashboard is built from, as deploy/packaging/licenses has them.
var bundled = []string{"preact", "uplot"}

// dashboardLock says which versions of them.
const dashboardLock = "internal/web/dashboard/package-lock.json"

// npmPackage is one of package-lock.json.
type npmPackage struct{ Version, License, Integrity string }

func readBundled(root string) (map[string]npmPackage, error) {
	data, err := os.ReadFile(filepath.Join(root, dashboardLock))
	if err != nil {
		return nil, err
	}
	var lock struct{ Packages map[string]npmPackage }
	if err := json.Unmarshal(data, &lock); err != nil {
		return nil, fmt.Errorf("%s: %w", dashboardLock, err)
	}
	found := make(map[string]npmPackage)
	for _, name := range bundled {
		p, ok := lock.Packages["node_modules/"+name]
		if !ok {
			return nil, fmt.Errorf("%s has no package %s", dashboardLock, name)
		}
		found[name] = p
	}
	return found, nil
}

// bill is the program's bill of materials in the form of CycloneDX: the modules that the linker put in, read from the program itself, and
// what the dashboard is made of.
func (r *release) bill(p *program) ([]byte, error) {
	self := cdx.Component{BOMRef: "perfagent", Type: cdx.ComponentTypeApplication, Name: "perfagent", Version: string(r.version),
		PackageURL: "pkg:golang/" + p.info.Main.Path + "@" + string(r.version), Licenses: licensedAs("Apache-2.0"),
		Hashes: &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: sha256Hex(p.data)}}, Properties: properties(map[string]string{
			"goarch": p.architecture, "goversion": p.info.GoVersion, "vcs.revision": p.setting("vcs.revision")})}
	components := moduleComponents(p)
	npm, err := readBundled(r.root)
	if err != nil {
		return nil, err
	}
	for _, name := range bundled {
		components = append(components, npmComponent(name, npm[name]))
	}
	refs := []string{}
	for _, c := range components {
		refs = append(refs, c.BOMRef)
	}
	b := cdx.NewBOM()
	b.Metadata = &cdx.Metadata{Timestamp: r.time.Format("2006-01-02T15:04:05Z"), Component: &self}
	b.Components, b.Dependencies = &components, &[]cdx.Dependency{{Ref: "perfagent", Dependencies: &refs}}
	var out bytes.Buffer
	err = cdx.NewBOMEncoder(&out, cdx.BOMFileFormatJSON).SetPretty(true).Encode(b)
	return out.Bytes(), err
}

func moduleComponents(p *program) []cdx.Component {
	var all []cdx.Component
	for _, m := range p.modules {
		url := fmt.Sprintf("pkg:golang/%s@%s?type=module", m.path, m.version)
		c := cdx.Component{BOMRef: url, Type: cdx.ComponentTypeLibrary, Name: m.path, Version: m.version, PackageURL: url}
		if ids := identify(m.notices); len(ids) > 0 {
			c.Licenses = licensedAs(ids...)
		}
		if m.sum != "" {
			c.Properties = properties(map[string]string{"go.sum": m.sum})
		}
		all = append(all, c)
	}
	return all
}

func npmComponent(name string, p npmPackage) cdx.Component {
	url := fmt.Sprintf("pkg:npm/%s@%s", name, p.Version)
	c := cdx.Component{BOMRef: url, Type: cdx.ComponentTypeLibrary, Name: name, Version: p.Version, PackageURL: url, Licenses: licensedAs(p.License)}
	if digest, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(p.Integrity, "sha512-")); err == nil {
		c.Hashes = &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA512, Value: hex.EncodeToString(digest)}}
	}
	return c
}

func licensedAs(ids ...string) *cdx.Licenses {
	var all cdx.Licenses
	for _, id := range ids {
		all = append(all, cdx.LicenseChoice{License: &cdx.License{ID: id}})
	}
	return &all
}

func properties(values map[string]string) *[]cdx.Property {
	var all []cdx.Property
	for name, value := range values {
		if value != "" {
			all = append(all, cdx.Property{Name: "perfagent:" + name, Value: value})
		}
	}
	slices.SortFunc(all, func(a, b cdx.Property) int { return strings.Compare(a.Name, b.Name) })
	return &all
}

// notice is one file that a license asks to pass on.
type notice struct {
	name string
	text []byte
}

// readNotices returns the licenses and notices that stand at the top of a module's sources.
func readNotices(dir string) ([]notice, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var all []notice
	for _, entry := range entries {
		stem := strings.ToUpper(strings.TrimSuffix(entry.Name(), filepath.Ext(entry.Name())))
		if !entry.Type().IsRegular() || !slices.Contains([]string{"LICENSE", "LICENCE", "COPYING", "NOTICE", "COPYRIGHT", "PATENTS"}, stem) {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		if err != nil {
			return nil, err
		}
		all = append(all, notice{entry.Name(), text})
	}
	if len(all) == 0 {
		return nil, errors.New("it has no license")
	}
	return all, nil
}

// coveredLeast is the share in percent of a text that a known license must account for; the rest are names and years.
const coveredLeast = 75

// identify returns the licenses' identifiers of SPDX, each once; none where a text is not a known one.
func identify(texts []notice) []string {
	var ids []string
	for _, t := range texts {
		if found := licensecheck.Scan(t.text); found.Percent >= coveredLeast {
			for _, match := range found.Match {
				ids = append(ids, match.ID)
			}
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// thirdParty is the text that goes with the program: who made what is in it, and under which terms.
func thirdParty(root string, p *program) ([]byte, error) {
	var b bytes.Buffer
	fmt.Fprintf(&b, "What perfagent contains of others, with the terms under which they give it.\n")
	section := func(name, version string, texts []notice) {
		fmt.Fprintf(&b, "\n%s\n%s %s\n", strings.Repeat("=", 80), name, version)
		for _, t := range texts {
			fmt.Fprintf(&b, "%s\n%s\n\n%s\n", strings.Repeat("-", 80), t.name, bytes.TrimSpace(t.text))
		}
	}
	for _, m := range p.modules {
		section(m.path, m.version, m.notices)
	}
	npm, err := readBundled(root)
	if err != nil {
		return nil, err
	}
	for _, name := range bundled {
		text, err := os.ReadFile(filepath.Join(root, "deploy", "packaging", "licenses", name+".txt"))
		if err != nil {
			return nil, err
		}
		section(name+" (in the dashboard)", npm[name].Version, []notice{{"LICENSE", text}})
	}
	return b.Bytes(), nil
}

func sha256Hex(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
