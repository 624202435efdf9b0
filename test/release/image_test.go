package main

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

// imageOf builds the image and returns its index, read back from the archive.
func imageOf(t *testing.T, all map[string]*program) v1.ImageIndex {
	t.Helper()
	r := newRelease(t, "1.2.3+4.gabc")
	if err := r.writeImage(all); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(r.out, "perfagent-1.2.3+4.gabc-image.tar"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	unpack(t, bytes.NewReader(data), dir)
	path, err := layout.FromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	outer, err := path.ImageIndex()
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := outer.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	if len(manifest.Manifests) != 1 || manifest.Manifests[0].Annotations["org.opencontainers.image.ref.name"] != "1.2.3_4.gabc" {
		t.Fatalf("the layout has %+v", manifest.Manifests)
	}
	index, err := outer.ImageIndex(manifest.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	return index
}

// unpack unpacks what release archives and layers hold: directories and files.
func unpack(t *testing.T, r io.Reader, dir string) {
	t.Helper()
	for archive := tar.NewReader(r); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Fatal(err)
		}
		name := filepath.Join(dir, filepath.Clean("/"+header.Name))
		if header.Typeflag == tar.TypeDir {
			err = os.MkdirAll(name, os.FileMode(header.Mode).Perm())
		} else {
			var data []byte
			if data, err = io.ReadAll(archive); err == nil {
				err = os.WriteFile(name, data, os.FileMode(header.Mode).Perm())
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// The image is a valid one for both architectures: every digest and size is right, its labels and its configuration say what it is, and each
// architecture has its own program.
func TestImage(t *testing.T) {
	index := imageOf(t, programs(t))
	if err := validate.Index(index); err != nil {
		t.Fatal(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	if len(manifest.Manifests) != len(architectures) {
		t.Fatalf("%d images", len(manifest.Manifests))
	}
	for i, architecture := range architectures {
		image, err := index.Image(manifest.Manifests[i].Digest)
		if err != nil {
			t.Fatal(err)
		}
		config, err := image.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		labels := config.Config.Labels
		if config.Architecture != architecture || manifest.Manifests[i].Platform.Architecture != architecture || config.OS != "linux" || !config.Created.Equal(commitTime) ||
			config.Config.Entrypoint[0] != programPath || labels["org.opencontainers.image.version"] != "1.2.3+4.gabc" || labels["org.opencontainers.image.licenses"] == "" {
			t.Errorf("%+v", config)
		}
		root := t.TempDir()
		files := mutate.Extract(image)
		unpack(t, files, root)
		files.Close()
		program, err := os.ReadFile(filepath.Join(root, programPath))
		if err != nil || !bytes.HasPrefix(program, []byte(architecture)) {
			t.Errorf("%s has another program: %v", architecture, err)
		}
		for name, least := range map[string]int{certificatesPath: 100 << 10, zonesPath: 100 << 10, "/etc/passwd": 10} {
			if data, err := os.ReadFile(filepath.Join(root, name)); err != nil || len(data) < least {
				t.Errorf("%s: %d bytes, %v", name, len(data), err)
			}
		}
	}
}

// container is the configuration of a container as Kubernetes' runtimes make it for the chart's pod: four capabilities, no new privileges, a
// read-only root, /sys read-only; the host's processes and, for this test, its network.
const container = `{"ociVersion": "1.0.2", "hostname": "perfagent", "root": {"path": "root", "readonly": true},
"process": {"user": {"uid": 0, "gid": 0}, "cwd": "/", "noNewPrivileges": true, "args": %s, "env": %s, "capabilities": {"bounding": %[3]s, "effective": %[3]s, "permitted": %[3]s}},
"mounts": [{"destination": "/proc", "type": "proc", "source": "proc"},
	{"destination": "/sys", "type": "none", "source": "/sys", "options": ["rbind", "ro", "nosuid", "noexec", "nodev"]},
	{"destination": "/run/perfagent", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "noexec", "nodev", "mode=750", "size=1m"]},
	{"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "noexec", "nodev"]}],
"linux": {"namespaces": [{"type": "mount"}, {"type": "uts"}, {"type": "ipc"}], "maskedPaths": ["/proc/kcore", "/sys/firmware"], "readonlyPaths": ["/proc/bus", "/proc/sys"]}}`

// The image's program, run by runc as Kubernetes would, with four capabilities and a read-only root, is ready, sees each exchange of a server on
// this host, answers probes, and its check finds nothing missing of what it was given.
func TestImageRuns(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("observing needs root")
	}
	all := programs(t)
	all[runtime.GOARCH] = realProgram(t)
	c := newContainer(t, imageOf(t, all))
	const requests = 7
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, "ok") }))
	defer server.Close()
	metrics, health := freePort(t), freePort(t)
	c.start("run", "--capture.port="+portOf(server.Listener.Addr()), fmt.Sprintf("--web.listen-address=127.0.0.1:%d", metrics), fmt.Sprintf("--web.health-address=127.0.0.1:%d", health))
	c.until("ready", func() (string, bool) {
		w, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/-/ready", health))
		if err != nil {
			return err.Error(), false
		}
		w.Body.Close()
		return w.Status, w.StatusCode == http.StatusOK
	})
	for range requests {
		w, err := http.Get(server.URL + "/hello")
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, w.Body)
		w.Body.Close()
	}
	want := fmt.Sprintf(`perfagent_exchanges_total{protocol="http/1.1",role="server"} %d`, requests)
	c.until("all exchanges counted", func() (string, bool) {
		text := get(fmt.Sprintf("http://127.0.0.1:%d/metrics", metrics))
		return text, strings.Contains(text, want+"\n")
	})
	c.check()
}

// check runs perfagent check in the container, which must find each capability that this kernel needs.
func (c *runningContainer) check() {
	c.t.Helper()
	output, err := exec.Command("runc", "--root", c.state, "exec", c.id, programPath, "check", "-o", "json").Output()
	var exit *exec.ExitError
	if err != nil && !(errors.As(err, &exit) && exit.ExitCode() == 3) { // 3: something is missing, as TLS always is
		c.t.Fatalf("check: %v %s", err, output)
	}
	var report struct {
		Backend string
		Kernel  struct {
			HostProcesses bool `json:"host_processes"`
		}
		Privileges []struct {
			Name            string
			Needed, Present bool
		}
	}
	if err := json.Unmarshal(output, &report); err != nil {
		c.t.Fatal(err)
	}
	for _, p := range report.Privileges {
		if p.Needed && !p.Present {
			c.t.Errorf("%s is missing", p.Name)
		}
	}
	if report.Backend == "" || !report.Kernel.HostProcesses || len(report.Privileges) < 4 {
		c.t.Errorf("check: %s", output)
	}
}

// runningContainer is one that runc runs.
type runningContainer struct {
	t                      *testing.T
	id, bundle, state, log string
	config                 *v1.ConfigFile
}

// newContainer unpacks the image of this machine's architecture as a bundle.
func newContainer(t *testing.T, index v1.ImageIndex) *runningContainer {
	t.Helper()
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	c := &runningContainer{t: t, id: fmt.Sprintf("perfagent-image-test-%d", os.Getpid()), bundle: t.TempDir(), state: t.TempDir()}
	for _, m := range manifest.Manifests {
		if m.Platform.Architecture != runtime.GOARCH {
			continue
		}
		image, err := index.Image(m.Digest)
		if err != nil {
			t.Fatal(err)
		}
		if c.config, err = image.ConfigFile(); err != nil {
			t.Fatal(err)
		}
		files := mutate.Extract(image)
		defer files.Close()
		for _, dir := range []string{"root/proc", "root/sys"} { // an engine makes the places of mounts
			if err := os.MkdirAll(filepath.Join(c.bundle, dir), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		unpack(t, files, filepath.Join(c.bundle, "root"))
	}
	return c
}

// start runs the image's entry point with further arguments.
func (c *runningContainer) start(args ...string) {
	c.t.Helper()
	text := func(v any) string {
		data, _ := json.Marshal(v) // of strings
		return string(data)
	}
	capabilities := text([]string{"CAP_BPF", "CAP_PERFMON", "CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH"})
	spec := fmt.Sprintf(container, text(append(c.config.Config.Entrypoint, args...)), text(c.config.Config.Env), capabilities)
	if err := os.WriteFile(filepath.Join(c.bundle, "config.json"), []byte(spec), 0o600); err != nil {
		c.t.Fatal(err)
	}
	c.log = filepath.Join(c.bundle, "log")
	log, err := os.Create(c.log)
	if err != nil {
		c.t.Fatal(err)
	}
	cmd := exec.Command("runc", "--root", c.state, "run", "--bundle", c.bundle, c.id)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() {
		_ = exec.Command("runc", "--root", c.state, "kill", c.id, "TERM").Run()
		if err := cmd.Wait(); err != nil {
			c.t.Errorf("the container ended with %v: %s", err, c.logged())
		}
		_ = exec.Command("runc", "--root", c.state, "delete", "--force", c.id).Run()
		log.Close()
	})
}

func (c *runningContainer) logged() string {
	data, _ := os.ReadFile(c.log)
	return string(data)
}

// until waits for a condition, which says what it saw.
func (c *runningContainer) until(what string, reached func() (string, bool)) {
	c.t.Helper()
	deadline := time.Now().Add(time.Minute)
	for tick := time.Tick(50 * time.Millisecond); ; <-tick {
		saw, ok := reached()
		if ok {
			return
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("not %s within a minute: %s\n%s", what, saw, c.logged())
		}
	}
}

func get(url string) string {
	w, err := http.Get(url)
	if err != nil {
		return err.Error()
	}
	defer w.Body.Close()
	data, err := io.ReadAll(w.Body)
	if err != nil {
		return err.Error()
	}
	return string(data)
}

func portOf(a net.Addr) string { return strconv.Itoa(a.(*net.TCPAddr).Port) }

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}
