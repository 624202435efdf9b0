package main

import (
	"log/slog"
	"os"
	"strings"
	"testing"

	"github.com/perfagent/perfagent/internal/pipeline"
)

// Shows that a services file is read with its errors, by file and line, and that a bad one leaves what was in force.
func TestServicesFile(t *testing.T) {
	name := writeFile(t, "services", "# names\nshop port=8080\n")
	a := &agent{worker: pipeline.New(pipeline.Options{}), log: slog.New(slog.DiscardHandler)}
	config := &Config{Services: ServicesConfig{File: name}}
	if read, err := a.loadFiles(config); err != nil || a.services.Load().Len() != 1 || read != "the services file with 1 rule" {
		t.Fatal(err)
	}
	for content, want := range map[string]string{
		"a port=1\n\nshop prot=1\n": name + `:3: unknown condition "prot"`, "x port=70000": name + ":1: ", "x": name + ":1: want NAME and one of",
		"a executable=/[": name + ":1: executable=/[: glob", "a port=1 port=2": name + ":1: ", "a\x01b port=1": name + ":1: name ",
	} {
		if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := a.loadFiles(config); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", content, err, want)
		}
		if a.services.Load().Len() != 1 {
			t.Errorf("%q changed what is in force", content)
		}
	}
	config.Services.File = "/nowhere/services"
	if _, err := a.loadFiles(config); err == nil || !strings.Contains(err.Error(), "/nowhere/services") {
		t.Error(err)
	}
	config.Services.File, config.Routes.File = writeFile(t, "services", "a port=1\nb port=2\n"), writeFile(t, "routes", "GET /a/{b}\n")
	if read, err := a.loadFiles(config); err != nil || read != "the services file with 2 rules, the routes file with 1 route" {
		t.Errorf("read %q, %v", read, err)
	}
	config.Services.File, config.Routes.File = "", ""
	if _, err := a.loadFiles(config); err != nil || a.services.Load() != nil {
		t.Errorf("no file: %v", err)
	}
}
