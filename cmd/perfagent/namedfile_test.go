package main

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/perfagent/perfagent/internal/export"
	"github.com/perfagent/perfagent/internal/pipeline"
)

// specialFiles returns names of files that a read may wait for forever or never finish, and what is wrong with each.
func specialFiles(t *testing.T) map[string]string {
	t.Helper()
	directory := t.TempDir()
	fifo, link, large := filepath.Join(directory, "fifo"), filepath.Join(directory, "link"), filepath.Join(directory, "large")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(fifo, link); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(large, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(large, 64<<20); err != nil {
		t.Fatal(err)
	}
	return map[string]string{
		fifo: fifo + ": a regular file is expected, and this is a FIFO", link: link + ": a regular file is expected, and this is a FIFO",
		"/dev/zero": "/dev/zero: a regular file is expected, and this is a device", directory: "this is a directory", large: large + ": larger than",
	}
}

// Shows that no file that a setting names can hold up the start or a reload: all that are no regular file of some size are
// refused with a reason, and leave what is in force.
func TestSpecialFiles(t *testing.T) {
	a := &agent{worker: pipeline.New(pipeline.Options{}), log: slog.New(slog.DiscardHandler)}
	services := writeFile(t, "services", "shop port=8080\n")
	if _, err := a.loadFiles(&Config{Services: ServicesConfig{File: services}}); err != nil {
		t.Fatal(err)
	}
	for name, want := range specialFiles(t) {
		web := "tls_server_config:\n  client_ca_file: " + name + "\n"
		for what, read := range map[string]func() error{
			"services":          func() error { _, err := a.loadFiles(&Config{Services: ServicesConfig{File: name}}); return err },
			"routes":            func() error { _, err := a.loadFiles(&Config{Routes: RoutesConfig{File: name}}); return err },
			"configuration":     func() error { _, err := (&configSource{file: name}).load(); return err },
			"web configuration": func() error { return checkWebConfig(name) },
			"client_ca_file":    func() error { return checkWebConfig(writeFile(t, "web.yml", web)) },
			"OTLP":              func() error { return newExporterWith(name) },
		} {
			done := make(chan error, 1)
			go func() { done <- read() }()
			if err := within(t, done, what+" of "+name); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, want %q", what, err, want)
			}
		}
	}
	if a.services.Load().Len() != 1 {
		t.Error("what was in force is not")
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(services, link); err != nil {
		t.Fatal(err)
	}
	if data, err := readNamedFile(link, 100); err != nil || string(data) != "shop port=8080\n" {
		t.Errorf("a link to a regular file: %q, %v", data, err)
	}
}

func newExporterWith(caFile string) error {
	_, err := newOTLPExporter(OTLPConfig{Endpoint: "https://127.0.0.1:1/v1/metrics", Interval: time.Minute, CAFile: caFile},
		export.CollectorOptions{}, nil, slog.New(slog.DiscardHandler))
	return err
}

// Shows, on the clock of a bubble, that a file whose file system does not answer is waited for once, not again while it is
// silent, and that it is read when it has answered.
func TestFileThatDoesNotAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		start := time.Now()
		content := func() ([]byte, error) { return []byte("x"), nil }
		if _, err := readInTime("/dead/services", func() ([]byte, error) { <-release; return content() }); err == nil || time.Since(start) != filePatience {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		if _, err := readInTime("/dead/services", content); err == nil || time.Since(start) != filePatience {
			t.Errorf("while it is silent: %v after %v", err, time.Since(start))
		}
		close(release)
		synctest.Wait()
		if data, err := readInTime("/dead/services", content); err != nil || string(data) != "x" {
			t.Errorf("when it has answered: %q, %v", data, err)
		}
	})
}

// heldAgent is one whose files do not answer before they are released.
type heldAgent struct {
	runningAgent
	applies chan struct{}
	release chan struct{}
}

func (h *heldAgent) Apply(*Config) (string, error) {
	h.applies <- struct{}{}
	<-h.release
	return "", nil
}
func (h *heldAgent) Failed() <-chan error { return nil }

// Shows that neither a scrape nor the end of the agent waits for a reload whose files do not answer, and that a reload asked for
// meanwhile follows it.
func TestReloadThatHangs(t *testing.T) {
	held := &heldAgent{applies: make(chan struct{}, 2), release: make(chan struct{})}
	log := slog.New(slog.DiscardHandler)
	reload := newReloader(&configSource{}, defaultConfig(), new(slog.LevelVar), log)
	reload.started(held)
	ctx, cancel := context.WithCancel(context.Background())
	hangup, ended := make(chan os.Signal, 1), make(chan error, 1)
	var reloads atomic.Int32
	go func() {
		ended <- serve(ctx, held, hangup, func() bool { return false }, func() { reload.Reload(); reloads.Add(1) })
	}()
	hangup <- syscall.SIGHUP
	within(t, held.applies, "the reload")
	hangup <- syscall.SIGHUP
	states := make(chan bool, 1)
	go func() { successful, _ := reload.State(); states <- successful }()
	if !within(t, states, "the state, which a scrape asks for") {
		t.Error("a reload that has not ended counts as failed")
	}
	held.release <- struct{}{}
	within(t, held.applies, "the reload behind it")
	if n := reloads.Load(); n != 1 {
		t.Errorf("%d reloads", n)
	}
	cancel()
	if err := within(t, ended, "the end"); err != nil {
		t.Error(err)
	}
	close(held.release)
	eventually(t, "the end of the reload", func() bool { return reloads.Load() == 2 })
}
