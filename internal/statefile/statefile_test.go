package statefile

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// Shows that a file is replaced as a whole, readable by its owner alone, and that a failure leaves the old one and nothing beside it.
func TestReplace(t *testing.T) {
	directory := t.TempDir()
	name := filepath.Join(directory, "state")
	for _, text := range []string{"a longer first", "second"} {
		if err := Replace(name, []byte(text)); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(name); err != nil || string(got) != text {
			t.Fatalf("%q, %v", got, err)
		}
	}
	if info, err := os.Stat(name); err != nil || info.Mode() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	other := filepath.Join(directory, "other")
	if err := os.MkdirAll(filepath.Join(other, "inside"), 0o700); err != nil { // which no file can replace
		t.Fatal(err)
	}
	if err := Replace(other, []byte("x")); err == nil {
		t.Error("a directory was replaced")
	}
	if err := Replace(filepath.Join(directory, "nowhere", "state"), []byte("x")); err == nil {
		t.Error("a file was written to no directory")
	}
	if all, err := os.ReadDir(directory); err != nil || len(all) != 2 {
		t.Errorf("%v, %v", all, err)
	}
	if got, err := os.ReadFile(name); err != nil || string(got) != "second" {
		t.Errorf("%q, %v", got, err)
	}
}

// Shows that pipes, links and directories are not opened, and that a missing file is told as such.
func TestOpen(t *testing.T) {
	directory := t.TempDir()
	at := func(name string) string { return filepath.Join(directory, name) }
	if err := errors.Join(Replace(at("file"), []byte("x")), os.Symlink(at("file"), at("link")), syscall.Mkfifo(at("pipe"), 0o600)); err != nil {
		t.Fatal(err)
	}
	for name, fine := range map[string]bool{"file": true, "link": false, "pipe": false, ".": false, "none": false} {
		f, err := Open(at(name))
		if (err == nil) != fine || (name == "none") != errors.Is(err, os.ErrNotExist) || (name == "pipe") != errors.Is(err, ErrIrregular) && name != "." {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil {
			f.Close()
		}
	}
}

// Shows which directories are refused: those that everybody may write to, and, to root, those of another user.
func TestCheckDirectory(t *testing.T) {
	directory := t.TempDir()
	check := func(mode os.FileMode, safe bool) {
		t.Helper()
		if err := os.Chmod(directory, mode); err != nil {
			t.Fatal(err)
		}
		if err := CheckDirectory(directory); (err == nil) != safe || err != nil && !errors.Is(err, ErrUnsafe) {
			t.Errorf("%s: %v", mode, err)
		}
	}
	check(0o700, true)
	check(0o755, true)
	check(0o777, false)
	check(0o777|os.ModeSticky, true)
	if os.Geteuid() == 0 {
		if err := os.Chown(directory, 65534, 0); err != nil {
			t.Fatal(err)
		}
		check(0o700, false)
	}
}

// Of two that want a directory's files one has them, until it gives them back; a link in place of the lock is not followed.
func TestLock(t *testing.T) {
	directory := filepath.Join(t.TempDir(), "made")
	first, err := Lock(directory)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Lock(directory); !errors.Is(err, ErrLocked) {
		t.Errorf("the second: %v", err)
	}
	if err := first.Close(); err != nil {
		t.Error(err)
	}
	second, err := Lock(directory)
	if err != nil {
		t.Fatal(err)
	}
	second.Close()
	target := filepath.Join(t.TempDir(), "elsewhere")
	if err := errors.Join(os.Remove(filepath.Join(directory, lockName)), os.Symlink(target, filepath.Join(directory, lockName))); err != nil {
		t.Fatal(err)
	}
	if f, err := Lock(directory); err == nil {
		f.Close()
		t.Error("a link was followed")
	}
	if _, err := os.Lstat(target); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s: %v", target, err)
	}
}

// What stands under the name that a file is written with first, a link, a second name of another file or what a kill left, is replaced, and
// what it leads to stays as it was.
func TestReplaceWritesToNobodyElse(t *testing.T) {
	directory := t.TempDir()
	name, victim := filepath.Join(directory, "state"), filepath.Join(directory, "victim")
	for _, plant := range []func(string) error{
		func(at string) error { return os.Symlink(victim, at) },
		func(at string) error { return os.Link(victim, at) },
		func(at string) error { return os.WriteFile(at, []byte("half"), 0o600) },
	} {
		if err := errors.Join(os.WriteFile(victim, []byte("precious"), 0o600), plant(name+".new"), Replace(name, []byte("new"))); err != nil {
			t.Error(err)
		}
		kept, err := os.ReadFile(victim)
		if err != nil || string(kept) != "precious" {
			t.Errorf("%q, %v", kept, err)
		}
		if got, err := os.ReadFile(name); err != nil || string(got) != "new" {
			t.Errorf("%q, %v", got, err)
		}
		if info, err := os.Lstat(name); err != nil || !info.Mode().IsRegular() {
			t.Errorf("%v, %v", info, err)
		}
	}
}
