package statefile

import (
	"os"
	"path/filepath"
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
