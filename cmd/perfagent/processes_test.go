package main

import (
	"bytes"
	"log/slog"
	"os"
	"strings"
	"testing"
)

// A pattern of --capture.executable that matches no running process is said at the start with its text, one that matches this test is not.
func TestWarnOfUnmatched(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	warnOfUnmatched(slog.New(slog.NewTextHandler(&out, nil)), []string{self, "/nowhere/**"})
	if lines := strings.Count(out.String(), "\n"); lines != 1 || !strings.Contains(out.String(), "no running process matches --capture.executable") || !strings.Contains(out.String(), "glob=/nowhere/**") {
		t.Errorf("%s", out.String())
	}
}
