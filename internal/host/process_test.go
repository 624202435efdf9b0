package host_test

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/perfagent/perfagent/internal/host"
)

const (
	containerA = "4f0c1d6a9b2e4f0c1d6a9b2e4f0c1d6a9b2e4f0c1d6a9b2e4f0c1d6a9b2e1234"
	second     = int64(time.Second)
)

// Shows the order of the sources of a service name, one process per case.
func TestServiceName(t *testing.T) {
	python, node, java := "/usr/bin/python3.11", "/usr/bin/node", "/usr/lib/jvm/java-17/bin/java"
	unit := "0::/system.slice/shop.service\n"
	docker := "0::/system.slice/docker-" + containerA + ".scope\n"
	cases := []struct {
		name    string
		process fakeProcess
		want    string
	}{
		{"environment first", fakeProcess{executable: "/usr/sbin/nginx", cgroup: unit, env: []string{"A=b", "OTEL_SERVICE_NAME=checkout", "OTEL_RESOURCE_ATTRIBUTES=service.name=other"}}, "checkout"},
		{"resource attribute", fakeProcess{executable: "/usr/sbin/nginx", cgroup: unit, env: []string{"OTEL_RESOURCE_ATTRIBUTES=a=b,service.name=check%20out"}}, "check out"},
		{"empty variable is none", fakeProcess{executable: "/usr/sbin/nginx", cgroup: unit, env: []string{"OTEL_SERVICE_NAME="}}, "shop"},
		{"unit", fakeProcess{executable: "/usr/sbin/nginx", cgroup: unit}, "shop"},
		{"unit of cgroup v1", fakeProcess{executable: "/usr/sbin/nginx", cgroup: "4:memory:/x\n1:name=systemd:/system.slice/shop.service\n0::/\n"}, "shop"},
		{"unit below a user manager", fakeProcess{executable: "/a", cgroup: "0::/user.slice/user-1000.slice/user@1000.service/app.slice/shop.service\n"}, "shop"},
		{"unit's own subgroup", fakeProcess{executable: "/a", cgroup: "0::/system.slice/shop.service/worker\n"}, "shop"},
		{"unit escape", fakeProcess{executable: "/a", cgroup: `0::/system.slice/my\x2dshop@eu.service` + "\n"}, "my-shop@eu"},
		{"session scope is none", fakeProcess{executable: "/usr/sbin/nginx", cgroup: "0::/user.slice/user-0.slice/session-3.scope\n"}, "nginx"},
		{"user manager is none", fakeProcess{executable: "/usr/sbin/nginx", cgroup: "0::/user.slice/user-1.slice/user@1.service/init.scope\n"}, "nginx"},
		{"init is none", fakeProcess{executable: "/usr/sbin/nginx", cgroup: "0::/init.scope\n"}, "nginx"},
		{"ssh is none", fakeProcess{executable: "/usr/sbin/nginx", cgroup: "0::/system.slice/ssh.service\n"}, "nginx"},
		{"container named by docker", fakeProcess{executable: "/usr/sbin/nginx", cgroup: docker}, "web-1"},
		{"engine's unit is none", fakeProcess{executable: "/a", cgroup: "0::/system.slice/containerd.service/kubepods-pod1.slice:cri-containerd:" + strings.Repeat("b", 64) + "\n"}, "bbbbbbbbbbbb"},
		{"container named by podman", fakeProcess{executable: "/a", cgroup: "0::/machine.slice/libpod-" + strings.Repeat("c", 64) + ".scope/container\n"}, "cart"},
		{"unit around a container", fakeProcess{executable: "/a", cgroup: "0::/system.slice/cart.service/libpod-payload-" + strings.Repeat("c", 64) + "\n"}, "cart"},
		{"container of cgroup v1", fakeProcess{executable: "/a", cgroup: "4:memory:/docker/" + containerA + "\n1:name=systemd:/\n"}, "web-1"},
		{"container by host name", fakeProcess{executable: "/a", env: []string{"HOSTNAME=shop-7f9c"}, cgroup: "0::/kubepods/burstable/pod1/" + strings.Repeat("d", 64) + "\n"}, "shop-7f9c"},
		{"container's host name is its id", fakeProcess{executable: "/a", env: []string{"HOSTNAME=dddddddddddd"}, cgroup: "0::/docker/" + strings.Repeat("d", 64) + "\n"}, "dddddddddddd"},
		{"lxc", fakeProcess{executable: "/a", cgroup: "0::/lxc.payload.mail/x\n"}, "mail"},
		{"executable", fakeProcess{executable: "/opt/shop/bin/shop-server"}, "shop-server"},
		{"deleted executable", fakeProcess{executable: "/opt/shop/bin/shop-server (deleted)"}, "shop-server"},
		{"kernel thread", fakeProcess{comm: "nfsd"}, "nfsd"},

		{"python script", fakeProcess{executable: python, args: []string{"python3", "/srv/shop.py"}}, "shop"},
		{"python module", fakeProcess{executable: python, args: []string{"python3", "-m", "http.server", "8000"}}, "http.server"},
		{"python module, joined flags", fakeProcess{executable: python, args: []string{"python3", "-uBmhttp.server"}}, "http.server"},
		{"python options", fakeProcess{executable: python, args: []string{"python3", "-X", "dev", "-Wdefault", "-u", "srv.py"}}, "srv"},
		{"uvicorn", fakeProcess{executable: python, args: []string{"/usr/bin/python3", "/usr/bin/uvicorn", "main:app"}, directory: "/srv/shop"}, "shop"},
		{"uvicorn as module", fakeProcess{executable: python, args: []string{"python", "-m", "uvicorn", "main:app"}, directory: "/srv/billing"}, "billing"},
		{"gunicorn with a title", fakeProcess{executable: python, args: []string{"gunicorn: worker [app]"}, directory: "/srv/shop"}, "shop"},
		{"python directory", fakeProcess{executable: python, args: []string{"python3", "/srv/shop/__main__.py"}}, "shop"},
		{"python inline", fakeProcess{executable: python, args: []string{"python3", "-c", "import x"}, directory: "/srv/shop"}, "shop"},
		{"python shell", fakeProcess{executable: python, args: []string{"python3"}, directory: "/"}, "python3.11-inline"},
		{"node script", fakeProcess{executable: node, args: []string{"node", "--require", "./trace.js", "--max-old-space-size=300", "/srv/server.js", "x"}}, "server"},
		{"node directory", fakeProcess{executable: node, args: []string{"node", "."}, directory: "/srv/shop"}, "shop"},
		{"node title", fakeProcess{executable: node, args: []string{"next-server (v15.0.0)\x00\x00\x00"}}, "next-server"},
		{"node inline", fakeProcess{executable: node, args: []string{"node", "-e", "code()"}}, "node-inline"},
		{"java jar", fakeProcess{executable: java, args: []string{"java", "-Xmx1g", "-Da=b", "-jar", "/srv/shop-1.2.3-SNAPSHOT.jar", "x"}}, "shop"},
		{"java class", fakeProcess{executable: java, args: []string{"java", "-cp", "/a.jar:/b.jar", "com.example.ShopApplication"}}, "ShopApplication"},
		{"java launcher class", fakeProcess{executable: java, args: []string{"java", "org.apache.catalina.startup.Bootstrap", "start"}}, "org.apache.catalina.startup.Bootstrap"},
		{"java module", fakeProcess{executable: java, args: []string{"java", "--add-opens", "a/b=c", "-m", "shop/com.example.Shop"}}, "Shop"},
		{"ruby", fakeProcess{executable: "/usr/bin/ruby3.1", args: []string{"ruby", "-I", "lib", "bin/rails", "server"}}, "rails"},
		{"ruby bundle", fakeProcess{executable: "/usr/bin/ruby3.1", args: []string{"ruby", "/usr/bin/bundle", "exec", "bin/puma"}}, "puma"},
		{"puma title", fakeProcess{executable: "/usr/bin/ruby3.1", args: []string{"puma: cluster worker 0: 12 [shop]"}}, "shop"},
		{"perl", fakeProcess{executable: "/usr/bin/perl", args: []string{"/usr/bin/perl", "-w", "-Mstrict", "/usr/bin/plackup", "app.psgi"}, directory: "/srv/shop"}, "shop"},
		{"php built-in server", fakeProcess{executable: "/usr/bin/php8.2", args: []string{"php", "-S", "127.0.0.1:80", "-t", "public"}, directory: "/srv/shop"}, "shop"},
		{"php script", fakeProcess{executable: "/usr/bin/php8.2", args: []string{"php", "-d", "a=b", "artisan", "serve"}}, "artisan"},
		{"php-fpm", fakeProcess{executable: "/usr/sbin/php-fpm8.2", args: []string{"php-fpm: pool www"}, cgroup: "0::/system.slice/php8.2-fpm.service\n"}, "www"},
		{"shell script", fakeProcess{executable: "/usr/bin/bash", args: []string{"bash", "-euo", "pipefail", "./serve.sh"}}, "serve"},
		{"shell inline", fakeProcess{executable: "/usr/bin/dash", args: []string{"sh", "-c", "x"}}, "dash-inline"},
		{"shell reading a descriptor", fakeProcess{executable: "/usr/bin/bash", args: []string{"bash", "/dev/fd/63"}, directory: "/srv/shop"}, "shop"},
		{"login shell", fakeProcess{executable: "/usr/bin/bash", args: []string{"-bash"}}, "bash-inline"},
		{"deno", fakeProcess{executable: "/usr/bin/deno", args: []string{"deno", "run", "--allow-net", "-A", "main.ts"}}, "main"},
		{"bun", fakeProcess{executable: "/usr/bin/bun", args: []string{"bun", "--hot", "api.ts"}}, "api"},
		{"dotnet", fakeProcess{executable: "/usr/bin/dotnet", args: []string{"dotnet", "/srv/Shop.Api.dll"}}, "Shop.Api"},
		{"busybox", fakeProcess{executable: "/bin/busybox", args: []string{"httpd", "-f"}}, "httpd"},
		{"elixir release", fakeProcess{executable: "/x/beam.smp", args: []string{"/x/beam.smp"}, env: []string{"RELEASE_NAME=shop"}}, "shop"},

		{"control characters", fakeProcess{executable: "/a", env: []string{"OTEL_SERVICE_NAME=a\x1b[31m\nb\u202ec\xff"}}, "a_[31m_b_c_"},
		{"too long", fakeProcess{executable: "/a", env: []string{"OTEL_SERVICE_NAME=" + strings.Repeat("é", 1000)}}, strings.Repeat("é", 64)},
		{"only blanks", fakeProcess{executable: "/a", env: []string{"OTEL_SERVICE_NAME=  "}}, "unknown"},
	}
	h := newFakeHost(t)
	h.write("var/lib/docker/containers/"+containerA+"/config.v2.json", `{"ID":"x","Name":"/web-1","Config":{"Name":"no"}}`)
	h.write("var/lib/containers/storage/overlay-containers/containers.json", `[{"id":"e"},{"id":"`+strings.Repeat("c", 64)+`","names":["cart"]}]`)
	processes := host.NewProcesses(host.ProcessOptions{Root: h.root})
	for i, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			c.process.pid = uint32(i + 10)
			h.add(c.process)
			got := processes.Identify(c.process.pid, comm("task"), second).Service
			if got != c.want {
				t.Errorf("service %q, want %q", got, c.want)
			}
			if !utf8.ValidString(got) || len(got) > 128 {
				t.Errorf("service %q is not fit for a label", got)
			}
		})
	}
}

// Shows that workers started by Python's multiprocessing (uvicorn --workers) have their master's service.
func TestSpawnedWorkerHasItsMastersService(t *testing.T) {
	h := newFakeHost(t)
	python := "/usr/bin/python3.11"
	h.add(fakeProcess{pid: 5, parent: 1, executable: "/usr/bin/bash", args: []string{"bash", "x.sh"}})
	h.add(fakeProcess{pid: 6, parent: 5, executable: python, args: []string{"python3", "/usr/bin/uvicorn", "--workers", "2", "main:app"}, directory: "/srv/shop"})
	h.add(fakeProcess{pid: 7, parent: 6, executable: python, args: []string{"python3", "-c", "from multiprocessing.spawn import spawn_main; spawn_main()", "--multiprocessing-fork"}})
	h.add(fakeProcess{pid: 8, parent: 5, executable: python, args: []string{"python3", "-c", "serve()"}})
	processes := host.NewProcesses(host.ProcessOptions{Root: h.root})
	for pid, want := range map[uint32]string{6: "shop", 7: "shop", 8: "python3.11-inline"} {
		if got := processes.Identify(pid, comm("python3"), second).Service; got != want {
			t.Errorf("process %d: service %q, want %q", pid, got, want)
		}
	}
}

// Shows all of an identity.
func TestIdentity(t *testing.T) {
	h := newFakeHost(t)
	h.add(fakeProcess{
		pid: 9, started: 12345, comm: "a) S (b", executable: "/usr/sbin/nginx",
		cgroup: "0::/docker/" + containerA + "\n", env: []string{"OTEL_RESOURCE_ATTRIBUTES=service.namespace=eu"},
	})
	got := *host.NewProcesses(host.ProcessOptions{Root: h.root}).Identify(9, comm("nginx"), second)
	want := host.Identity{
		Service: containerA[:12], Namespace: "eu", ContainerID: containerA, Executable: "/usr/sbin/nginx",
		Started: 123450 * time.Millisecond, Chosen: true,
	}
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// Shows that a remembered identity is believed for the recheck time only, follows a reused pid and an exec, and outlives
// its process.
func TestReusedPID(t *testing.T) {
	h := newFakeHost(t)
	processes := host.NewProcesses(host.ProcessOptions{Root: h.root, Recheck: 2 * time.Second})
	expect := func(at int64, want string) {
		t.Helper()
		if got := processes.Identify(9, comm("task"), at*second).Service; got != want {
			t.Errorf("at %d s: service %q, want %q", at, got, want)
		}
	}
	h.add(fakeProcess{pid: 9, started: 100, executable: "/bin/one"})
	expect(10, "one")
	h.add(fakeProcess{pid: 9, started: 200, executable: "/bin/two"})
	expect(11, "one")
	expect(12, "two")
	h.add(fakeProcess{pid: 9, started: 200, executable: "/bin/three"})
	expect(14, "three")
	h.remove(9)
	expect(20, "three")
	h.add(fakeProcess{pid: 9, started: 300, executable: "/bin/four"})
	processes.Forget(9)
	expect(20, "four")
}

// Shows that a process that ended before it was read is called by its task name, also when the next one with its pid is
// met at once.
func TestEndedProcess(t *testing.T) {
	h := newFakeHost(t)
	processes := host.NewProcesses(host.ProcessOptions{Root: h.root})
	for _, name := range []string{"curl", "wget", "a\nb", ""} {
		want := map[string]string{"a\nb": "a_b", "": "unknown"}[name]
		if want == "" {
			want = name
		}
		if got := processes.Identify(7, comm(name), second); got.Service != want || got.Started != 0 || !got.Chosen {
			t.Errorf("%q: got %+v", name, got)
		}
	}
}

// Shows that the number of remembered processes is bounded, and that the least recently used one makes room.
func TestProcessesBound(t *testing.T) {
	h := newFakeHost(t)
	processes := host.NewProcesses(host.ProcessOptions{Root: h.root, Entries: 3})
	for pid := uint32(1); pid <= 3; pid++ {
		h.add(fakeProcess{pid: pid, executable: "/bin/old"})
		processes.Identify(pid, comm("x"), second)
	}
	processes.Identify(1, comm("x"), 3*second)
	for pid := uint32(1); pid <= 4; pid++ {
		h.add(fakeProcess{pid: pid, executable: "/bin/new"})
	}
	processes.Identify(4, comm("x"), 3*second) // drops 2
	for pid, want := range map[uint32]string{1: "old", 4: "new"} {
		if got := processes.Identify(pid, comm("x"), 3*second).Service; got != want {
			t.Errorf("process %d: %q, want %q", pid, got, want)
		}
	}
	if got := processes.Identify(2, comm("x"), 3*second).Service; got != "new" {
		t.Errorf("process 2 was not dropped: %q", got)
	}
	if processes.Len() != 3 {
		t.Errorf("%d entries, want 3", processes.Len())
	}
}

// Shows that a process that is only described has its name, also once its pid is another's, and is not among the recent ones
// until it exchanges something.
func TestDescribe(t *testing.T) {
	h := newFakeHost(t)
	processes := host.NewProcesses(host.ProcessOptions{Root: h.root, Recheck: time.Minute})
	h.add(fakeProcess{pid: 1, executable: "/bin/old", started: 5})
	recent := func(nowNS int64) int { return len(processes.Recent(nowNS, time.Hour, 10)) }
	if got := processes.Describe(1, comm("x"), second).Service; got != "old" || recent(second) != 0 {
		t.Errorf("%q, %d recent", got, recent(second))
	}
	h.add(fakeProcess{pid: 1, executable: "/bin/new", started: 6})
	if got := processes.Describe(1, comm("x"), 100*second).Service; got != "new" || recent(100*second) != 0 {
		t.Errorf("%q, %d recent", got, recent(100*second))
	}
	if processes.Identify(1, comm("x"), 100*second); recent(100*second) != 1 {
		t.Error("a process that exchanges is not among the recent ones")
	}
	if processes.Describe(1, comm("x"), 101*second); recent(101*second) != 1 {
		t.Error("being described makes a process forgotten")
	}
	if got := processes.Describe(2, comm("gone"), second).Service; got != "gone" {
		t.Errorf("a process that has ended is called %q", got)
	}
}

// Shows the filter's decision for each process, also for the child of a chosen process that ended.
func TestFilter(t *testing.T) {
	h := newFakeHost(t)
	h.add(fakeProcess{pid: 1, executable: "/sbin/init"})
	h.add(fakeProcess{pid: 10, parent: 1, executable: "/opt/shop/bin/master", cgroup: "0::/shop/a\n"})
	h.add(fakeProcess{pid: 11, parent: 10, executable: "/opt/shop/bin/worker", cgroup: "0::/shop/a/b\n"})
	h.add(fakeProcess{pid: 12, parent: 1, executable: "/usr/sbin/nginx", cgroup: "0::/shop2\n"})
	glob := func(pattern string) host.Glob {
		g, err := host.NewGlob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		return g
	}
	cases := []struct {
		name   string
		filter host.Filter
		want   []bool // of 10, 11, 12 and 99, which does not exist
	}{
		{"none", host.Filter{}, []bool{true, true, true, true}},
		{"pid", host.Filter{PIDs: []uint32{10}}, []bool{true, true, false, false}},
		{"ended pid", host.Filter{PIDs: []uint32{99}}, []bool{false, false, false, true}},
		{"executable", host.Filter{Executables: []host.Glob{glob("/opt/**")}}, []bool{true, true, false, false}},
		{"executable by name", host.Filter{Executables: []host.Glob{glob("nginx"), glob("m*r")}}, []bool{true, false, true, false}},
		{"cgroup", host.Filter{Cgroups: []string{"/sys/fs/cgroup/shop"}}, []bool{true, true, false, false}},
		{"cgroup below", host.Filter{Cgroups: []string{"shop/a/b/"}}, []bool{false, true, false, false}},
		{"both", host.Filter{PIDs: []uint32{10}, Executables: []host.Glob{glob("worker")}}, []bool{false, true, false, false}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			processes := host.NewProcesses(host.ProcessOptions{Root: h.root, Filter: c.filter})
			for i, pid := range []uint32{10, 11, 12, 99} {
				if got := processes.Identify(pid, comm("x"), second).Chosen; got != c.want[i] {
					t.Errorf("process %d: chosen %v, want %v", pid, got, c.want[i])
				}
			}
		})
	}
	processes := host.NewProcesses(host.ProcessOptions{Root: h.root, Filter: host.Filter{PIDs: []uint32{10}}})
	processes.Identify(11, comm("x"), second)
	h.remove(10)
	h.add(fakeProcess{pid: 13, parent: 11, executable: "/bin/x"})
	if !processes.Identify(13, comm("x"), second).Chosen {
		t.Error("the child of a chosen process was lost when its grandparent ended")
	}
}

// Shows that a variable is found behind 1.2 MB of others and before one of a megabyte, and that one that is too long for a name costs
// no more than the name.
func TestHugeEnvironment(t *testing.T) {
	h := newFakeHost(t)
	h.add(fakeProcess{pid: 9, executable: "/bin/a", env: []string{"A=" + strings.Repeat("x", 120<<10), "OTEL_SERVICE_NAME=" + strings.Repeat("y", 60<<10)}})
	h.add(fakeProcess{pid: 8, executable: "/bin/a", env: []string{"OTEL_SERVICE_NAME=z", "A=" + strings.Repeat("x", 1<<20)}})
	many := make([]string, 12_000)
	for i := range many {
		many[i] = fmt.Sprintf("VARIABLE_%d=%s", i, strings.Repeat("x", 80+i%40))
	}
	h.add(fakeProcess{pid: 7, executable: "/bin/a", env: append(many, "OTEL_SERVICE_NAME=late")})
	processes := host.NewProcesses(host.ProcessOptions{Root: h.root})
	for pid, want := range map[uint32]string{9: "a", 8: "z", 7: "late"} {
		if got := processes.Identify(pid, comm("x"), second).Service; got != want {
			t.Errorf("process %d: service %q, want %q", pid, got, want)
		}
	}
}

// Shows a real process of the live host.
func TestLiveProcess(t *testing.T) {
	command := exec.Command("sh", "-c", "read x; :")
	command.Env = []string{"OTEL_SERVICE_NAME=live test"}
	input, err := command.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	defer command.Wait()
	defer input.Close()
	pid := uint32(command.Process.Pid)
	// The kernel says that a program was started before it has laid out its environment.
	until(t, func() bool {
		environment, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
		return err != nil || len(environment) > 0
	})
	got := *host.NewProcesses(host.ProcessOptions{}).Identify(pid, comm("sh"), second)
	if got.Service != "live test" || got.Started == 0 || got.Executable == "" {
		t.Errorf("got %+v", got)
	}
	descendants, err := host.Descendants("", []uint32{uint32(os.Getpid())})
	if err != nil || len(descendants) < 2 {
		t.Errorf("descendants of the test: %v, %v", descendants, err)
	}
}

func BenchmarkIdentifyHit(b *testing.B) {
	h := newFakeHost(b)
	processes := host.NewProcesses(host.ProcessOptions{Root: h.root})
	for pid := range uint32(1000) {
		h.add(fakeProcess{pid: pid, executable: "/bin/x"})
		processes.Identify(pid, comm("x"), second)
	}
	b.Run("same", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			processes.Identify(5, new([16]byte), second)
		}
	})
	b.Run("spread", func(b *testing.B) {
		b.ReportAllocs()
		pid := uint32(0)
		for b.Loop() {
			processes.Identify(pid%8, new([16]byte), second)
			pid++
		}
	})
}

func BenchmarkIdentifyMiss(b *testing.B) {
	processes := host.NewProcesses(host.ProcessOptions{})
	pid := uint32(os.Getpid())
	for b.Loop() {
		processes.Forget(pid)
		processes.Identify(pid, new([16]byte), second)
	}
}
