package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Shows which ages a retention may have, and that what is shown of one is read as the same.
func TestAges(t *testing.T) {
	for text, want := range map[string]time.Duration{"15d": 360 * time.Hour, "36h": 36 * time.Hour, "1d12h": 36 * time.Hour, "0": 0, "0d": 0, "1.5d": 36 * time.Hour} {
		age, err := parseAge(text)
		if err != nil || age != want {
			t.Errorf("%s is %v, %v", text, age, err)
		}
		if again, err := parseAge(showAge(age.String())); err != nil || again != age {
			t.Errorf("%v is shown as %s", age, showAge(age.String()))
		}
	}
	for _, text := range []string{"", "d", "15", "-1d", "10m", "20000d", "xd", "NaNd"} {
		if age, err := parseAge(text); err == nil && !(text == "" && age == 0) {
			t.Errorf("%q is %v", text, age)
		}
	}
}

// Shows that a service manager's directory is the default, and that the environment's own setting wins over it.
func TestStorageDefault(t *testing.T) {
	for _, c := range []struct {
		environ []string
		want    string
	}{
		{nil, ""},
		{[]string{"STATE_DIRECTORY=/var/lib/perfagent:/var/lib/other"}, "/var/lib/perfagent"},
		{[]string{"STATE_DIRECTORY=/var/lib/perfagent", "PERFAGENT_STORAGE_PATH=/data"}, "/data"},
	} {
		config, err := (&configSource{environ: c.environ}).load()
		if err != nil || config.Storage.Path != c.want {
			t.Errorf("%v: %q, %v", c.environ, config.Storage.Path, err)
		}
	}
}

// Shows what the dump says of a wrong command line and of a directory without a history.
func TestDumpErrors(t *testing.T) {
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"history", "dump"}, exitUsage, "--storage.path is needed"},
		{[]string{"history", "dump", "--storage.path=/nowhere"}, exitError, "no history in /nowhere/history"},
		{[]string{"history", "dump", "--storage.path=/nowhere", "--from=soon"}, exitUsage, "--from"},
		{[]string{"history", "dump", "--storage.path=/nowhere", "--from=1h", "--to=2h"}, exitUsage, "--from 1h is later than --to 2h"},
		{[]string{"history", "dump", "--storage.path=/nowhere", "--match={a=b}"}, exitUsage, "no selector"},
	} {
		code, stdout, stderr := runProgram(t, nil, c.args...)
		if code != c.code || !strings.Contains(stderr, c.want) || stdout != "" {
			t.Errorf("%v: exit code %d, %q, output %q", c.args, code, stderr, stdout)
		}
	}
}

// Shows that a storage directory that everybody may write to is refused, by the flag's name, and that one that is not there is not.
func TestCheckStorage(t *testing.T) {
	directory := t.TempDir()
	c := defaultConfig()
	for path, want := range map[string]string{"": "", filepath.Join(directory, "none"): "", directory: "--storage.path: directory " + directory} {
		c.Storage.Path = path
		if err := os.Chmod(directory, 0o777); err != nil {
			t.Fatal(err)
		}
		if err := c.checkStorage(); (err == nil) != (want == "") || err != nil && !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: %v", path, err)
		}
	}
}
