package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Shows that a rule whose evaluation would take too much is refused when its file is read, with its name, and that one with a week's
// subquery is taken, as the built-in ones are.
func TestRulesAreBounded(t *testing.T) {
	c := defaultConfig()
	file := filepath.Join(t.TempDir(), "rules.yml")
	c.Alerts.RulesFiles = []string{file}
	write := func(window string) {
		t.Helper()
		text := "groups: [{name: g, rules: [{record: weekly, expr: 'max_over_time(nope[" + window + "])'}]}]\n"
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("7d:1m")
	if _, err := c.rules(); err != nil {
		t.Error(err)
	}
	write("7d:1s")
	if _, err := c.rules(); err == nil || !strings.Contains(err.Error(), `rules.yml: group "g": rule "weekly": exceeded maximum resolution`) {
		t.Error(err)
	}
}
