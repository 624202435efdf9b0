package main

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const modulePath = "github.com/perfagent/perfagent"

// layers is the import rule: each package may import those on its right, and no other of this module. A new package
// gets a line here when it is designed; a line is not changed to make a build pass.
var layers = map[string][]string{
	"internal/wire":          {},
	"internal/wire/wiretest": {"internal/wire"}, // for tests only: nobody has it on his right
	"internal/spelling":      {},
	"internal/probes":        {"internal/wire"},
	"internal/http":          {"internal/wire"},
	"internal/http2":         {"internal/wire", "internal/http"}, // what headers mean is the same in both
	"internal/route":         {"internal/wire", "internal/spelling"},
	"internal/host":          {"internal/wire", "internal/spelling"},
	"internal/trace":         {"internal/wire"},
	"internal/series":        {},
	"internal/cache":         {},
	"internal/tlsfile":       {},
	"internal/chart":         {"internal/series"},
	"internal/statefile":     {},
	"internal/notify":        {"internal/statefile"},
	"internal/analytics":     {"internal/wire", "internal/probes", "internal/http", "internal/http2", "internal/route", "internal/host"},
	"internal/history":       {"internal/wire", "internal/host", "internal/analytics"},
	"internal/query":         {"internal/analytics", "internal/history"},
	"internal/finding":       {"internal/wire", "internal/host", "internal/analytics", "internal/series", "internal/statefile"},
	"internal/export":        {"internal/wire", "internal/probes", "internal/http", "internal/route", "internal/host", "internal/analytics"},
	"internal/alert":         {"internal/notify", "internal/statefile"},
	"internal/web":           {"internal/wire", "internal/route", "internal/trace", "internal/analytics", "internal/export", "internal/query", "internal/alert", "internal/series", "internal/finding", "internal/chart", "internal/report"},
	"internal/report":        {"internal/wire", "internal/analytics", "internal/query", "internal/alert", "internal/series", "internal/finding", "internal/chart", "internal/statefile"},
	"internal/pipeline":      {"internal/wire", "internal/probes", "internal/http", "internal/http2", "internal/route", "internal/host", "internal/trace", "internal/analytics"},
	"cmd/perfagent":          {"internal/wire", "internal/spelling", "internal/probes", "internal/http", "internal/route", "internal/host", "internal/trace", "internal/analytics", "internal/export", "internal/web", "internal/pipeline", "internal/history", "internal/query", "internal/alert", "internal/series", "internal/cache", "internal/notify", "internal/statefile", "internal/eventlog", "internal/redis", "internal/finding", "internal/report", "internal/demo", "internal/top"},
	"internal/eventlog":      {"internal/wire", "internal/trace", "internal/export"},
	"internal/redis":         {},
	"internal/demo":          {},
	"internal/top":           {"internal/analytics", "internal/finding"}, // the types of what it reads, and what makes text inert
}

// homes names the one package for each heavy module; of Prometheus, rules need what its rule files are made of.
var homes = map[string][]string{
	"github.com/cilium/ebpf":                 {"internal/probes"},
	"github.com/shirou/gopsutil":             {"internal/host"},
	"github.com/prometheus/client_golang":    {"internal/export"},
	"github.com/prometheus/exporter-toolkit": {"internal/web"},
	"github.com/prometheus/prometheus":       {"internal/query", "internal/alert"},
	"go.etcd.io/bbolt":                       {"internal/history"},
	"golang.org/x/arch":                      {"internal/tlsfile"},
	"golang.org/x/image":                     {"internal/chart"},
	"github.com/gomodule/redigo":             {"internal/redis"},
	"charm.land/bubbletea/v2":                {"internal/top"},
	"charm.land/lipgloss/v2":                 {"internal/top"},
	"github.com/spf13/cobra":                 {"cmd/perfagent"},
	"github.com/spf13/pflag":                 {"cmd/perfagent"},
	"go.yaml.in/yaml":                        {"cmd/perfagent"},
}

// standardOnly are packages that import the standard library, this module, and the modules that have their home there
// alone, so that they build and test anywhere.
var standardOnly = []string{"internal/wire", "internal/http", "internal/http2", "internal/route", "internal/host", "internal/analytics", "internal/trace", "internal/series", "internal/cache", "internal/notify", "internal/demo"}

// Shows that every package keeps to the import rule, from the import lines of its sources for every platform. Tests
// and the programs below test/ may import what they need.
func TestImportRule(t *testing.T) {
	seen := 0
	for file, imports := range sourceImports(t, filepath.Join("..", "..")) {
		home := path.Dir(filepath.ToSlash(file))
		if strings.HasPrefix(home, "test/") || home == "test" {
			continue
		}
		seen++
		allowed, known := layers[home]
		if !known {
			t.Errorf("%s: package %s is not in the import rule", file, home)
			continue
		}
		for _, imported := range imports {
			if problem := violation(home, allowed, imported); problem != "" {
				t.Errorf("%s imports %s: %s", file, imported, problem)
			}
		}
	}
	if seen < 20 {
		t.Errorf("only %d sources were found", seen)
	}
}

// violation says what is wrong with an import, "" for nothing.
func violation(home string, allowed []string, imported string) string {
	if rest, ok := strings.CutPrefix(imported, modulePath+"/"); ok {
		if rest != home && !slices.Contains(allowed, rest) {
			return "not allowed by the import rule"
		}
		return ""
	}
	if first, _, _ := strings.Cut(imported, "/"); !strings.Contains(first, ".") {
		return "" // the standard library
	}
	for module, where := range homes {
		if imported == module || strings.HasPrefix(imported, module+"/") {
			if !slices.Contains(where, home) {
				return "belongs to " + strings.Join(where, " and ")
			}
			return ""
		}
	}
	if slices.Contains(standardOnly, home) {
		return "only the standard library is allowed"
	}
	return ""
}

// sourceImports returns the imports of each Go source below root, tests left out.
func sourceImports(t *testing.T, root string) map[string][]string {
	t.Helper()
	found := make(map[string][]string)
	files := token.NewFileSet()
	err := fs.WalkDir(os.DirFS(root), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		base := entry.Name()
		if entry.IsDir() && (base == "testdata" || base == "vendor" || base == "node_modules" || strings.HasPrefix(base, ".") && base != ".") {
			return fs.SkipDir
		}
		if entry.IsDir() || !strings.HasSuffix(base, ".go") || strings.HasSuffix(base, "_test.go") {
			return nil
		}
		source, err := parser.ParseFile(files, filepath.Join(root, name), nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		found[name] = []string{}
		for _, spec := range source.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			found[name] = append(found[name], imported)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// Shows that the rule sees each kind of violation.
func TestImportRuleViolations(t *testing.T) {
	for _, c := range []struct {
		home, imported string
		ok             bool
	}{
		{"internal/http", modulePath + "/internal/wire", true},
		{"internal/http", modulePath + "/internal/host", false},
		{"internal/http", modulePath + "/internal/route", false},
		{"internal/route", modulePath + "/internal/http", false},
		{"internal/wire", modulePath + "/internal/http", false},
		{"internal/analytics", modulePath + "/internal/export", false},
		{"internal/analytics", "github.com/cilium/ebpf/link", false},
		{"internal/probes", "github.com/cilium/ebpf/link", true},
		{"internal/export", modulePath + "/internal/web", false},
		{"internal/trace", modulePath + "/internal/web", false},
		{"internal/pipeline", modulePath + "/internal/http", true},
		{"internal/pipeline", modulePath + "/internal/export", false},
		{"internal/web", modulePath + "/internal/pipeline", false},
		{"internal/analytics", modulePath + "/internal/pipeline", false},
		{"internal/export", "github.com/spf13/pflag", false},
		{"internal/web", "github.com/prometheus/client_golang/prometheus", false},
		{"internal/host", "github.com/shirou/gopsutil/v3/disk", true},
		{"internal/host", "github.com/prometheus/procfs", false},
		{"internal/analytics", "github.com/shirou/gopsutil/v3/disk", false},
		{"internal/analytics", modulePath + "/internal/history", false},
		{"internal/history", "go.etcd.io/bbolt", true},
		{"internal/web", "go.etcd.io/bbolt", false},
		{"internal/query", "github.com/prometheus/prometheus/promql", true},
		{"internal/web", "github.com/prometheus/prometheus/promql", false},
		{"internal/alert", "github.com/prometheus/prometheus/model/rulefmt", true},
		{"internal/alert", modulePath + "/internal/history", false},
		{"internal/http", "golang.org/x/net/http2", false},
		{"internal/http", "net/http", true},
	} {
		if problem := violation(c.home, layers[c.home], c.imported); (problem == "") != c.ok {
			t.Errorf("%s importing %s: %q", c.home, c.imported, problem)
		}
	}
}
