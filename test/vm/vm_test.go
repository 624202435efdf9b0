package vm

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// A boot needs QEMU and, once, a download, so the tests that boot run on request: go test ./test/vm -boot 5.10,6.1,6.12
var bootKernels = flag.String("boot", "", "comma-separated kernels on which to run the tests that boot")

// Machines get processors while there are any, all that they ask for or none, and others get them afterwards.
func TestTurns(t *testing.T) {
	dir, all := t.TempDir(), runtime.NumCPU()
	take := func(n int, want bool) turn {
		t.Helper()
		got, err := tryTurn(dir, n)
		if err != nil || (got != nil) != want {
			t.Fatalf("a turn of %d processors: %v, %v; expected one: %v", n, got, err, want)
		}
		return got
	}
	one := take(1, true)
	take(all, false)
	if all > 1 {
		rest := take(all-1, true)
		take(1, false)
		rest.pass()
		take(all-1, true).pass()
	}
	one.pass()
	take(all, true).pass()
}

// The archive is what the kernel's own unpacker expects: cpio, which reads the same format, lists and unpacks it.
func TestInitramfsIsReadableByCPIO(t *testing.T) {
	var archive bytes.Buffer
	c := newCPIO(&archive)
	c.dir("d")
	for name, data := range map[string]string{"d/empty": "", "d/one": "1", "d/three": "123", "d/four": "1234"} {
		c.file(name, 0o755, []byte(data))
	}
	if err := c.close(); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("cpio", "-idm", "--quiet")
	cmd.Dir, cmd.Stdin = t.TempDir(), &archive
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("cpio: %v\n%s", err, out)
	}
	for name, want := range map[string]string{"d/empty": "", "d/one": "1", "d/three": "123", "d/four": "1234"} {
		got, err := os.ReadFile(filepath.Join(cmd.Dir, name))
		if err != nil || string(got) != want {
			t.Errorf("%s holds %q (%v), want %q", name, got, err, want)
		}
	}
}

// Any argument, environment value and directory reaches the command unchanged: a shell runs the script that the guest would run.
func TestJobScriptKeepsEveryByte(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a 'quoted' $dir")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	odd := "it's $HOME `id` \\ \"x\"\n\t*"
	script := jobScript(Options{
		Dir: dir, Env: []string{"ODD=" + odd},
		Command: []string{"sh", "-c", `printf '%s|%s|%s' "$PWD" "$ODD" "$1"`, "sh", odd},
	})
	out, err := exec.Command("sh", "-c", string(script)).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if want := dir + "|" + odd + "|" + odd; string(out) != want {
		t.Errorf("the command saw %q, want %q", out, want)
	}
}

// What QEMU and the guest leave behind becomes the error that Run documents.
func TestResult(t *testing.T) {
	console := filepath.Join(t.TempDir(), "console")
	if err := os.WriteFile(console, []byte("Kernel panic\x1b[31m\r\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := result(t.Context(), nil, "exit 0\n", "", console); err != nil {
		t.Errorf("status 0 gives %v", err)
	}
	var exit *ExitError
	if err := result(t.Context(), nil, "exit 139\n", "", console); !errors.As(err, &exit) || exit.Status != 139 {
		t.Errorf("status 139 gives %v", err)
	}
	for _, status := range []string{"", "exit", "exit x", "139"} {
		err := result(t.Context(), nil, status, "", console)
		if !errors.Is(err, ErrNoResult) || !strings.HasSuffix(err.Error(), "Kernel panic?[31m\n") {
			t.Errorf("status %q gives %q", status, err)
		}
	}
	done, cancel := context.WithDeadline(t.Context(), time.Unix(0, 0))
	defer cancel()
	if err := result(done, errors.New("signal: killed"), "", "", console); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("after the deadline: %v", err)
	}
}

// Options that cannot work are refused before anything starts.
func TestOptionsRefused(t *testing.T) {
	for name, opts := range map[string]Options{
		"no command":     {Kernel: "6.1"},
		"unknown kernel": {Kernel: "2.6", Command: []string{"true"}},
		"icount on SMP":  {Kernel: "6.1", Command: []string{"true"}, ICount: true, CPUs: 2},
	} {
		if err := Run(t.Context(), opts); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// On each kernel: the right kernel runs, the host's programs work with nginx serving curl, BTF and the file systems that an
// agent needs are there, output is complete and in its own stream, the status comes back, and the host's files do not change.
func TestBoot(t *testing.T) {
	for _, kernel := range kernelsToBoot(t) {
		t.Run(kernel, func(t *testing.T) {
			dir, share := t.TempDir(), t.TempDir()
			var stdout, stderr bytes.Buffer
			err := Run(t.Context(), Options{
				Kernel: kernel, Dir: dir, Share: []string{share}, Env: []string{"SHARE=" + share},
				Command: []string{"sh", "-ec", bootChecks}, Stdout: &stdout, Stderr: &stderr, Timeout: 3 * time.Minute,
			})
			var exit *ExitError
			if !errors.As(err, &exit) || exit.Status != 42 {
				t.Fatalf("got %v, want status 42; stderr:\n%s", err, stderr.String())
			}
			release, rest, _ := strings.Cut(stdout.String(), "\n")
			if !strings.HasPrefix(release, kernel+".") {
				t.Errorf("uname -r says %q", release)
			}
			if !strings.HasPrefix(rest, "served 200\n1\n2\n") || !strings.HasSuffix(rest, "\n199999\n200000\n") || strings.Count(rest, "\n") != 200001 {
				t.Errorf("%d bytes of output, not those of the command", len(rest))
			}
			if got := stderr.String(); got != "to stderr\n" {
				t.Errorf("stderr is %q", got)
			}
			if data, err := os.ReadFile(filepath.Join(share, "result")); err != nil || string(data) != "shared\n" {
				t.Errorf("the shared file holds %q (%v)", data, err)
			}
			if _, err := os.Stat(filepath.Join(dir, "nginx.conf")); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the guest's file is on the host: %v", err)
			}
		})
	}
}

// It leaves processes behind that hold the output open; they must not keep the machine alive.
const bootChecks = `
uname -r
for d in /sys/fs/cgroup/cgroup.procs /sys/kernel/btf/vmlinux /sys/kernel/tracing/events; do test -e $d; done
mountpoint -q /sys/fs/bpf
cat >nginx.conf <<EOF
daemon on; worker_processes 1; pid $PWD/pid; error_log stderr crit;
events { }
http { access_log off; server { listen 127.0.0.1:8080; location / { return 200 "served "; } } }
EOF
nginx -p "$PWD" -c nginx.conf
curl -s -w '%{http_code}\n' http://127.0.0.1:8080/
(trap '' TERM; exec sleep 1000) &
echo shared >"$SHARE/result"
echo to stderr >&2
seq 1 200000
exit 42
`

// A panic is reported with what the kernel printed, and at once.
func TestBootPanic(t *testing.T) {
	for _, kernel := range kernelsToBoot(t) {
		t.Run(kernel, func(t *testing.T) {
			err := Run(t.Context(), Options{Kernel: kernel, Command: []string{"sh", "-c", "echo c >/proc/sysrq-trigger"}, Timeout: 2 * time.Minute})
			if !errors.Is(err, ErrNoResult) || !strings.Contains(err.Error(), "Kernel panic") {
				t.Errorf("got %v", err)
			}
		})
	}
}

func kernelsToBoot(t *testing.T) []string {
	if *bootKernels == "" {
		t.Skip("no kernel given with -boot")
	}
	return strings.Split(*bootKernels, ",")
}
