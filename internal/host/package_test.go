package host

import (
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"
)

// Shows, on the clock of a bubble, that a file system that does not answer is waited for once, not again while it is silent,
// and that reading goes on when it has answered.
func TestFilesThatDoNotAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		files, release := new(processFiles), make(chan struct{})
		named := func() fileAnswer { return fileAnswer{name: "shop"} }
		start := time.Now()
		if got := files.read(func() fileAnswer { <-release; return named() }); got != (fileAnswer{}) || time.Since(start) != filesPatience {
			t.Errorf("%+v after %v", got, time.Since(start))
		}
		if got := files.read(named); got != (fileAnswer{}) || time.Since(start) != filesPatience {
			t.Errorf("while it is silent: %+v after %v", got, time.Since(start))
		}
		close(release)
		synctest.Wait()
		if got := files.read(named); got.name != "shop" {
			t.Errorf("when it has answered: %+v", got)
		}
	})
}

// Shows which files lie where people's files do: not those of the kernel, in which reading may do something or never end.
func TestOrdinaryFileSystems(t *testing.T) {
	written := filepath.Join(t.TempDir(), "package.json")
	if err := os.WriteFile(written, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{written: true, "/proc/self/status": false, "/proc/self/mounts": false, "/sys/kernel/notes": false} {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		if got := isOrdinary(int(f.Fd())); got != want {
			t.Errorf("%s: ordinary %v", name, got)
		}
		f.Close()
	}
}
