package host_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/perfagent/perfagent/internal/host"
)

// Shows that two applications are two services whatever runs them: each case is one command line, in the directory of an
// application unless it says otherwise.
func TestApplicationNames(t *testing.T) {
	python, node, java, ruby := "/usr/bin/python3.11", "/usr/bin/node", "/usr/lib/jvm/java-17/bin/java", "/usr/bin/ruby3.1"
	words := strings.Fields
	cases := []struct {
		want       string
		executable string
		args       []string
		directory  string // /srv/billing otherwise
		env        []string
	}{
		// Node: the package's name, up from the script, then the directory's.
		{"shop-api", node, words("node index.js 8080"), "/srv/shop", nil},
		{"billing", node, words("node index.js 8080"), "", nil},
		{"shop-api", node, words("node /srv/shop/dist/server.mjs"), "/", nil},
		{"shop-api", node, words("node ./bin/www"), "/srv/shop", nil},
		{"shop-api", node, words("node ."), "/srv/shop", nil},
		{"orders", node, words("node orders.js"), "/srv/shop", nil},
		{"unnamed", node, words("node main.js"), "/srv/unnamed", nil},
		{"carts", node, words("node services/carts/index.js"), "/srv/mono", nil},
		{"mono", node, words("node index.js"), "/srv/mono", nil},
		{"shop-api", node, []string{"npm start"}, "/srv/shop", nil},
		{"shop-api", node, words("node /usr/bin/npm run dev"), "/srv/shop", nil},
		{"shop-api", node, words("node /usr/bin/yarn start"), "/srv/shop", nil},
		{"shop-api", node, words("node /usr/lib/node_modules/pnpm/bin/pnpm.cjs start"), "/srv/shop", nil},
		{"shop-api", node, words("node /srv/shop/node_modules/.bin/tsx watch src/index.ts"), "/srv/shop", nil},
		{"shop-api", node, words("/usr/bin/node --require /srv/shop/node_modules/tsx/dist/preflight.cjs --import file:///x/loader.mjs src/index.ts"), "/srv/shop", nil},
		{"orders", node, words("node /srv/shop/node_modules/.bin/ts-node -P tsconfig.json src/orders.ts"), "/srv/shop", nil},
		{"shop-api", node, words("node /srv/shop/node_modules/next/dist/bin/next start -p 3000"), "/srv/shop", nil},
		{"shop-api", node, words("node /srv/shop/node_modules/.bin/json-server db.json"), "/srv/shop", nil},
		{"verdaccio", node, words("node /usr/lib/node_modules/verdaccio/bin/verdaccio"), "/srv/shop", nil},
		{"billing", node, []string{"next-server (v15.0.0)"}, "", nil},
		{"shop-api", node, []string{"node /srv/shop/index.js"}, "/", nil},
		{"orders", node, []string{"node /srv/x/orders.js 8080"}, "/", nil},
		{"shop-api", node, words("node /usr/lib/node_modules/pm2/lib/ProcessContainerFork.js"), "/", []string{"pm_exec_path=/srv/shop/index.js"}},
		{"billing", "/usr/bin/deno", words("deno run -A main.ts"), "", nil},
		{"shop-api", "/usr/local/bin/bun", words("bun run start"), "/srv/shop", nil},
		{"shop-worker", node, words("node /srv/shop2/shop/worker/index.js"), "/", nil},
		// Python: module and directory.
		{"shop", python, words("python3 /usr/bin/uvicorn shop.main:app --port 80"), "", nil},
		{"billing", python, words("/srv/billing/venv/bin/python /srv/billing/venv/bin/gunicorn -w 4 -b :80 app:app"), "/", nil},
		{"billing", python, words("python3 -m uvicorn --reload main:app --log-level critical"), "", nil},
		{"shop", python, words("python3 -m uvicorn main:app --app-dir /srv/shop/src"), "/", nil},
		{"acme.shop", python, words("python3 /usr/bin/gunicorn -c gunicorn.conf.py --log-level info acme.shop.wsgi"), "", nil},
		{"billing", python, words("python3 /usr/bin/gunicorn -c gunicorn.conf.py"), "", nil},
		{"billing", python, words("python3 /usr/bin/gunicorn -c python:settings.gunicorn config.wsgi:application"), "", nil},
		{"till", python, words("python3 /usr/bin/gunicorn --name till app:app"), "", nil},
		{"billing", python, []string{"gunicorn: master [main:app]"}, "", nil},
		{"till", python, []string{"gunicorn: worker [till]"}, "", nil},
		{"billing", python, words("python3 /usr/bin/hypercorn --bind unix:app.sock main:app"), "", nil},
		{"shop", python, words("python3 /usr/bin/waitress-serve --port=80 --call shop:create_app"), "", nil},
		{"billing", python, words("python3 /usr/bin/flask run"), "", nil},
		{"shop", python, words("python3 -m flask --app shop run"), "", nil},
		{"shop", python, words("python3 /usr/bin/flask run"), "", []string{"FLASK_APP=shop.py"}},
		{"shop", python, words("python3 /usr/bin/celery -A shop.celery worker -l info"), "", nil},
		{"shop", python, []string{"[celeryd: celery@host:MainProcess] -active- (worker -A shop)"}, "", nil},
		{"billing", python, words("python3 manage.py runserver 0.0.0.0:80"), "", nil},
		{"billing", python, words("python3 /usr/bin/fastapi run main.py"), "", nil},
		{"billing", python, words("python3 app.py"), "", nil},
		{"shop", python, words("python3 -m shop.server"), "", nil},
		{"billing", python, words("python3 -m app.main"), "", nil},
		{"billing", python, words("python3 app.py"), "/srv/billing/releases/20240102/current (deleted)", nil},
		{"billing", "/usr/bin/uwsgi-core", words("uwsgi --http :80 --module app.wsgi"), "", nil},
		{"till", "/usr/bin/uwsgi", words("uwsgi --ini /etc/uwsgi/apps-enabled/till.ini"), "/", nil},
		// Java: a name of its own, the jar, the class, the directory.
		{"x", java, words("java -jar /opt/x-1.2.3.jar"), "", nil},
		{"shop", java, words("java -jar shop-service-all.jar --spring.application.name=shop"), "", nil},
		{"shop", java, words("java -Dspring.application.name=shop -jar app.jar"), "", nil},
		{"shop", java, words("java -jar app.jar"), "", []string{"SPRING_APPLICATION_NAME=shop"}},
		{"billing", java, words("java -jar target/app.jar"), "", nil},
		{"billing", java, words("java -jar target/quarkus-app/quarkus-run.jar"), "", nil},
		{"com.acme.Main", java, words("java -cp a.jar:b.jar com.acme.Main"), "", nil},
		{"billing", java, words("java -cp . Main"), "", nil},
		{"billing", java, words("java -cp . org.springframework.boot.loader.launch.JarLauncher"), "", nil},
		{"till", java, words("java -Dcatalina.base=/srv/till -cp x org.apache.catalina.startup.Bootstrap start"), "/", nil},
		// Ruby.
		{"billing", ruby, []string{"puma 6.4.2 (tcp://0.0.0.0:9292)"}, "", nil},
		{"till", ruby, []string{"puma 6.4.2 (tcp://0.0.0.0:9292) [till]"}, "", nil},
		{"billing", ruby, words("ruby bin/rails server"), "", nil},
		{"billing", ruby, []string{"unicorn worker[0] -c config/unicorn.rb"}, "", nil},
		{"billing", ruby, words("ruby /usr/bin/bundle exec rackup -p 80"), "/srv/billing/current", nil},
		{"till", ruby, []string{"sidekiq 7.2.0 till [0 of 5 busy]"}, "", nil},
		{"billing", ruby, []string{"Passenger RubyApp: /srv/billing/current/public (production)"}, "/", nil},
		// Others.
		{"till", "/usr/sbin/php-fpm8.2", []string{"php-fpm: pool till"}, "/", nil},
		{"php-fpm8.2", "/usr/sbin/php-fpm8.2", []string{"php-fpm: master process (/etc/php/8.2/fpm/php-fpm.conf)"}, "/", nil},
		{"billing", "/usr/bin/php8.2", words("php artisan serve"), "", nil},
		{"billing", "/usr/bin/dotnet", words("dotnet bin/Release/net8.0/App.dll"), "", nil},
		{"Shop", "/usr/bin/dotnet", words("dotnet run --project src/Shop.csproj"), "", nil},
		{"till", "/usr/lib/erlang/erts-13/bin/beam.smp", words("beam.smp -- -root /usr/lib/erlang -sname till@host"), "", nil},
		{"billing", "/usr/lib/erlang/erts-13/bin/beam.smp", words("beam.smp -- -root /usr/lib/erlang -noshell -extra /usr/bin/mix phx.server"), "", nil},
		{"billing", "/usr/bin/perl", []string{"starman master app.psgi"}, "", nil},
		{"till", "/usr/bin/perl", words("perl script/till daemon"), "", nil},
		{"billing", "/usr/bin/bash", words("bash ./start.sh"), "", nil},
		{"billing", "/srv/billing/bin/server", words("./server"), "/", nil},
		{"billing", "/tmp/go-build12/b001/exe/main", words("/tmp/go-build12/b001/exe/main"), "", nil},
		{"http", "/usr/lib/apt/methods/http", words("/usr/lib/apt/methods/http"), "", nil},
		// Through the loader or an emulator.
		{"till", "/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2", words("/lib64/ld-linux-x86-64.so.2 --library-path /x ./till 80"), "", nil},
		{"shop", "/lib/ld-musl-x86_64.so.1", words("/lib/ld-musl-x86_64.so.1 /usr/bin/python3 shop.py"), "", nil},
		{"till", "/usr/bin/qemu-aarch64-static", words("/usr/bin/qemu-aarch64-static ./till"), "", nil},
		{"till", "/memfd:till (deleted)", words("x"), "/", nil},
	}
	h := newFakeHost(t)
	for name, content := range map[string]string{
		"shop": `{"private": true, "name": "shop-api"}`, "unnamed": `{"dependencies": {}}`, "mono": `{"name": "mono", "workspaces": ["services/*"]}`,
	} {
		h.write("fs/srv/"+name+"/package.json", content)
	}
	h.write("fs/srv/shop/dist/package.json", `{"type": "module"}`)
	h.write("fs/srv/package.json", `{"name": "left-behind"}`)
	processes := host.NewProcesses(host.ProcessOptions{Root: h.root})
	for i, c := range cases {
		if c.directory == "" {
			c.directory = "/srv/billing"
		}
		pid := uint32(i + 10)
		h.add(fakeProcess{pid: pid, executable: c.executable, args: c.args, directory: c.directory, env: c.env, root: "fs"})
		if got := processes.Identify(pid, comm("task"), second).Service; got != c.want {
			t.Errorf("%q in %s: service %q, want %q", c.args, c.directory, got, c.want)
		}
	}
}

// Shows that below a unit that supervises other programs it is the programs that are named.
func TestSupervisedPrograms(t *testing.T) {
	h := newFakeHost(t)
	processes := host.NewProcesses(host.ProcessOptions{Root: h.root})
	for i, unit := range words("supervisor supervisord runit runsvdir@x gitlab-runsvdir s6-svscan pm2-deploy pm2-root circusd php8.2-fpm") {
		for j, name := range []string{"shopd", "cartd"} {
			pid := uint32(10 + 2*i + j)
			h.add(fakeProcess{pid: pid, executable: "/srv/" + name, args: []string{"./" + name}, cgroup: "0::/system.slice/" + unit + ".service\n"})
			if got := processes.Identify(pid, comm(name), second).Service; got != name {
				t.Errorf("%s below %s is called %q", name, unit, got)
			}
		}
	}
}

func words(text string) []string { return strings.Fields(text) }

// Shows that what stands in the place of a package.json can do no harm: it is left out, and the directory gives the name.
func TestHostilePackages(t *testing.T) {
	h := newFakeHost(t)
	h.write("outside/package.json", `{"name": "outside"}`)
	deep := strings.Repeat("[", 100_000)
	for name, content := range map[string]string{
		"huge": `{"name": "huge", "x": "` + strings.Repeat("x", 1<<20) + `"}`, "deep": `{"name": "deep", "x": ` + deep, "array": `{"name": ["x"]}`,
		"text": "name", "empty": "",
	} {
		h.write("fs/srv/"+name+"/package.json", content)
	}
	h.write("fs/srv/control/package.json", `{"name": "a\u001b[31m\nb`+strings.Repeat("x", 1000)+`"}`)
	links := map[string]string{"loop": "package.json", "escape": filepath.Join(h.root, "outside/package.json"), "up": "../../../outside/package.json", "proc": "/proc/self/root/" + h.root + "/outside/package.json"}
	for name, target := range links {
		h.write("fs/srv/"+name+"/x", "")
		h.link("fs/srv/"+name+"/package.json", target)
	}
	h.write("fs/srv/fifo/x", "")
	if err := syscall.Mkfifo(filepath.Join(h.root, "fs/srv/fifo/package.json"), 0o644); err != nil {
		t.Fatal(err)
	}
	h.write("fs/srv/directory/package.json/x", "")
	h.write("fs/real/package.json", `{"name": "elsewhere"}`)
	h.write("fs/srv/inside/x", "")
	h.link("fs/srv/inside/package.json", "/real/package.json") // also where it stays below the root
	processes := host.NewProcesses(host.ProcessOptions{Root: h.root})
	want := map[string]string{"control": "a_[31m_b" + strings.Repeat("x", 120), "deep": "deep", "huge": "huge"}
	before := openFiles(t)
	for i, name := range words("huge deep array text empty control loop escape up proc fifo directory inside gone") {
		pid := uint32(10 + i)
		h.add(fakeProcess{pid: pid, executable: "/usr/bin/node", args: words("node index.js"), directory: "/srv/" + name, root: "fs"})
		if want[name] == "" {
			want[name] = name
		}
		if got := processes.Identify(pid, comm("node"), second).Service; got != want[name] {
			t.Errorf("%s: service %q, want %q", name, got, want[name])
		}
	}
	if after := openFiles(t); after != before {
		t.Errorf("%d descriptors are open, %d were", after, before)
	}
}

// Shows that a package gives its name only to processes that may read its package.json, by the modes of the file and of all
// directories above it, whatever the process says of itself: it chooses its arguments, and the agent may read more than it.
func TestPackagesOfOthers(t *testing.T) {
	h := newFakeHost(t)
	self := fmt.Sprintf("Uid:\t1\t1\t1\t%d\nGid:\t1\t1\t1\t1\n", os.Getuid())
	member := fmt.Sprintf("Uid:\t7\t7\t7\t12345\nGid:\t7\t7\t7\t7\nGroups:\t3 %d \n", os.Getgid())
	group := fmt.Sprintf("Uid:\t7\t7\t7\t12345\nGid:\t7\t7\t7\t%d\nGroups:\t\n", os.Getgid())
	const other = "Uid:\t0\t0\t0\t12345\nGid:\t0\t0\t0\t12345\nGroups:\t12346 \n"
	for i, c := range []struct {
		status          string
		directory, file os.FileMode
		readable        bool
	}{
		{other, 0o755, 0o644, true}, {other, 0o751, 0o604, true}, {other, 0o755, 0o640, false}, {other, 0o700, 0o644, false},
		{other, 0o754, 0o644, false}, {self, 0o700, 0o600, true}, {member, 0o750, 0o640, true}, {group, 0o750, 0o640, true},
		{member, 0o750, 0o600, false}, {member, 0o705, 0o644, false}, {"", 0o755, 0o644, true}, {"", 0o755, 0o640, false}, {"Uid:\t0\t0\t0\t0", 0o755, 0o640, false},
	} {
		above := fmt.Sprintf("fs/home/%d", i)
		h.write(above+"/private/shop/package.json", `{"name": "secret"}`)
		h.write(above+"/private/shop/dist/x", "")
		h.link(above+"/till", "private/shop")
		if err := errors.Join(os.Chmod(filepath.Join(h.root, above, "private/shop/package.json"), c.file), os.Chmod(filepath.Join(h.root, above, "private"), c.directory)); err != nil {
			t.Fatal(err)
		}
		for j, place := range []string{"private/shop", "private/shop/dist", "till"} {
			pid := uint32(10*i + j + 10)
			h.write(fmt.Sprintf("proc/%d/status", pid), "Name:\tnode\n"+c.status)
			h.add(fakeProcess{pid: pid, executable: "/usr/bin/node", args: []string{"node", fmt.Sprintf("/home/%d/%s/index.js", i, place)}, directory: "/", root: "fs"})
			want := map[bool]string{true: "secret", false: path.Base(strings.TrimSuffix(place, "/dist"))}[c.readable]
			if got := host.NewProcesses(host.ProcessOptions{Root: h.root}).Identify(pid, comm("node"), second).Service; got != want {
				t.Errorf("%q, directory %o, file %o, %s: service %q, want %q", c.status, c.directory, c.file, place, got, want)
			}
		}
	}
}

// Shows that a package.json that leads to a file of the kernel that never ends a read does not keep other processes from
// their names. Only the superuser may open that file.
func TestPackageOfKernel(t *testing.T) {
	h := newFakeHost(t)
	h.write("kernel/x", "")
	h.link("kernel/package.json", "/proc/kmsg")
	h.write("next/package.json", `{"name": "shop"}`)
	processes := host.NewProcesses(host.ProcessOptions{Root: h.root})
	for i, c := range []struct{ directory, want string }{{"kernel", "kernel"}, {"next", "shop"}} {
		pid := uint32(10 + i)
		h.write(fmt.Sprintf("proc/%d/status", pid), fmt.Sprintf("Uid:\t1\t1\t1\t%d\n", os.Getuid()))
		h.add(fakeProcess{pid: pid, executable: "/usr/bin/node", args: words("node index.js"), directory: filepath.Join(h.root, c.directory)})
		h.link(fmt.Sprintf("proc/%d/root", pid), "/")
		if got := processes.Identify(pid, comm("node"), second).Service; got != c.want {
			t.Errorf("service %q, want %q", got, c.want)
		}
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	names, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(names)
}

// serve starts a program that prints a line once it is what it is to be, and returns its pid.
func serve(t *testing.T, directory, program string, args ...string) uint32 {
	t.Helper()
	command := exec.Command(program, args...)
	command.Dir = directory
	input, err := command.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	output, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { input.Close(); command.Process.Kill(); command.Wait() })
	if _, err := output.Read(make([]byte, 1)); err != nil {
		t.Fatalf("%s %q ended: %v", program, args, err)
	}
	return uint32(command.Process.Pid)
}

// Shows names of real processes: Node scripts with and without a package, a title that is a command line, Python modules in
// two directories, and an executable that is renamed, replaced and removed, linked to, or started through the loader.
func TestLiveNames(t *testing.T) {
	h := newFakeHost(t)
	js := "process.stdin.resume(); console.log('ready')"
	h.write("shop/index.js", js)
	h.write("shop/package.json", `{"name": "shop-api"}`)
	h.write("billing/index.js", js)
	h.write("orders.js", "process.title = 'node ' + __filename; "+js)
	for _, name := range []string{"py1", "py2"} {
		h.write(name+"/main.py", "import sys; print('r', flush=True); sys.stdin.read()")
	}
	copyFile(t, "/usr/bin/cat", filepath.Join(h.root, "bin/cartd"))
	copyFile(t, "/usr/bin/cat", filepath.Join(h.root, "bin/tilld"))
	h.link("bin/tilld-link", "tilld")
	expect := func(what string, pid uint32, want string) {
		t.Helper()
		if got := host.NewProcesses(host.ProcessOptions{}).Identify(pid, comm("x"), second).Service; got != want {
			t.Errorf("%s: service %q, want %q", what, got, want)
		}
	}
	if node, err := exec.LookPath("node"); err == nil {
		expect("node with a package", serve(t, h.root+"/shop", node, "index.js"), "shop-api")
		expect("node without", serve(t, h.root+"/billing", node, "index.js"), "billing")
		expect("node with a title", serve(t, "/", node, h.root+"/orders.js", "8080"), "orders")
	}
	expect("python script", serve(t, h.root+"/py1", "/usr/bin/python3", "main.py"), "py1")
	expect("python module", serve(t, h.root+"/py2", "/usr/bin/python3", "-m", "main"), "py2")
	if loader, err := filepath.EvalSymlinks("/lib64/ld-linux-x86-64.so.2"); err == nil {
		expect("through the loader", serveCat(t, h.root+"/bin", loader, "./tilld"), "tilld")
	}
	expect("through a link", serveCat(t, h.root+"/bin", "./tilld-link"), "tilld")
	pid := serveCat(t, h.root+"/bin", "./cartd")
	expect("before the update", pid, "cartd")
	if err := os.Rename(h.root+"/bin/cartd", h.root+"/bin/cartd.old"); err != nil {
		t.Fatal(err)
	}
	expect("renamed", pid, "cartd")
	copyFile(t, "/usr/bin/cat", h.root+"/bin/cartd")
	expect("replaced", pid, "cartd")
	if err := os.Remove(h.root + "/bin/cartd.old"); err != nil {
		t.Fatal(err)
	}
	expect("removed", pid, "cartd")
}

// serveCat is serve for a copy of cat, which is what it is to be once it has echoed.
func serveCat(t *testing.T, directory, program string, args ...string) uint32 {
	t.Helper()
	h := newFakeHost(t)
	h.write("ready", "r")
	return serve(t, directory, program, append(args, h.root+"/ready", "-")...)
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, data, 0o755); err != nil {
		t.Fatal(err)
	}
}

// Shows that a services file comes first, that its first matching rule counts, what each condition means, and that new rules
// count at once for processes that are known, also for one that has ended.
func TestServicesRules(t *testing.T) {
	h := newFakeHost(t)
	unit := "0::/system.slice/shop.service/worker\n"
	h.add(fakeProcess{pid: 5, executable: "/opt/shop/bin/shopd", args: words("./shopd -c /etc/shop.conf"), cgroup: unit, env: []string{"OTEL_SERVICE_NAME=env"}})
	h.add(fakeProcess{pid: 6, executable: "/usr/bin/java", args: words("java -jar x.jar")})
	h.add(fakeProcess{pid: 7, executable: "/usr/bin/gone", started: 7})
	var current atomic.Pointer[host.Services]
	processes := host.NewProcesses(host.ProcessOptions{Root: h.root, Services: &current})
	expect := func(rules string, pid uint32, want string) *host.Identity {
		t.Helper()
		services, err := host.ParseServices(strings.NewReader(rules))
		if err != nil {
			t.Fatal(err)
		}
		current.Store(services)
		identity := processes.Identify(pid, comm("x"), second)
		if identity.Service != want {
			t.Errorf("%q: process %d is %q, want %q", rules, pid, identity.Service, want)
		}
		return identity
	}
	expect("", 5, "env")
	known := processes.Identify(7, comm("x"), second)
	h.remove(7)
	expect("a executable=/usr/**", 7, known.Service)
	expect("a executable=shopd", 5, "a")
	expect("a executable=/opt/**/shopd # the shop", 5, "a")
	expect("a executable=**/bin/shopd", 5, "a")
	expect("a executable=*/shop/bin/shopd", 5, "a")
	expect("# none\n\na executable=cartd\nb executable=shopd\nc executable=/opt/**/shopd", 5, "b")
	expect("a cgroup=/system.slice/shop.service", 5, "a")
	expect("a cgroup=/sys/fs/cgroup/system.slice/*.service", 5, "a")
	expect("a cgroup=shop.service", 5, "a")
	expect("a cgroup=system.slice", 5, "a")
	expect("a cgroup=system.slice/shop.service", 5, "a")
	expect("a command=./shopd -c /etc/shop.conf", 5, "a")
	expect("a cgroup=/system.slice/sho", 5, "env")
	expect("a command=*-c /etc/shop.conf", 5, "a")
	expect("a command=./shopd*", 5, "a")
	expect("a command=shopd", 5, "env")
	expect("a command=*shop?conf", 5, "a")
	expect("a command=*-jar*", 5, "env")
	expect("a command=*-jar*", 6, "a")
	if expect("b executable=x\na command=*-jar*", 6, "a") != expect("a command=*-jar*", 6, "a") {
		t.Error("other rules with the same outcome change the identity")
	}
	if got := processes.IdentifyServer(5, 80, comm("x"), second).Service; got != "env" {
		t.Errorf("without a rule for a port: %q", got)
	}
	expect("web port=80\na executable=shopd\nadmin port=81", 5, "a")
	for port, want := range map[uint16]string{80: "web", 81: "a", 82: "a", 0: "a"} {
		got := processes.IdentifyServer(5, port, comm("x"), second)
		if got.Service != want || got != processes.IdentifyServer(5, port, comm("x"), second) || got.Executable != "/opt/shop/bin/shopd" {
			t.Errorf("at port %d: %+v, want %q", port, got, want)
		}
	}
	if got := processes.IdentifyServer(99, 80, comm("curl"), second).Service; got != "web" {
		t.Errorf("a process that has ended, at a port with a rule: %q", got)
	}
}

// Shows with this process that a rule for a port names who listens at it, also where that begins after it was known.
func TestServicesPort(t *testing.T) {
	var listeners [2]net.Listener
	for i, network := range []string{"tcp4", "tcp6"} {
		listener, err := net.Listen(network, map[string]string{"tcp4": "127.0.0.1:0", "tcp6": "[::1]:0"}[network])
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		listeners[i] = listener
	}
	for _, listener := range listeners {
		port := listener.Addr().(*net.TCPAddr).Port
		services, err := host.ParseServices(strings.NewReader(fmt.Sprintf("other port=1\nlistener port=%d\n", port)))
		if err != nil {
			t.Fatal(err)
		}
		var current atomic.Pointer[host.Services]
		current.Store(services)
		processes := host.NewProcesses(host.ProcessOptions{Services: &current})
		pid := uint32(os.Getpid())
		if got := processes.Identify(pid, comm("x"), second).Service; got != "listener" {
			t.Errorf("%s: service %q", listener.Addr(), got)
		}
		listener.Close()
		processes.Forget(pid)
		before := processes.Identify(pid, comm("x"), second).Service
		again, err := net.Listen(listener.Addr().Network(), listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if after := processes.Identify(pid, comm("x"), 10*second).Service; before == "listener" || after != "listener" {
			t.Errorf("%s: service %q before it listens, %q after", listener.Addr(), before, after)
		}
		again.Close()
	}
}

// manyRules is a services file.
func manyRules(n int) string {
	var lines strings.Builder
	for i := range n {
		fmt.Fprintf(&lines, "a port=%d\n", i+1)
	}
	return lines.String()
}

// Shows which services files are refused, with the line.
func TestParseServices(t *testing.T) {
	for text, want := range map[string]string{
		"a": "1: want NAME", "a port": "1: want NAME", "# x\na port=0": "2: ", "a port=65536": "1: ", "a port=x": "1: \"x\" is not a port", "a prot=1": "1: unknown condition \"prot\"; did you mean port?",
		"a Command=x": "1: unknown condition \"Command\"; did you mean command?", "name=a port=1": "1: \"name=a\": a name comes first", "a unit=x": "1: unknown condition \"unit\": want port",
		"a port=": "1: want", "a executable=[": "1: ", "a cgroup=/[a": "1: ", "a port=1 port=2": "1: \"port=1 port=2\": one condition",
		"a\x1b port=1": "1: name", strings.Repeat("a", 129) + " port=1": "1: name", "a command=" + strings.Repeat("x", 5000): "1: longer than 4096",
		manyRules(1001): "1001: more than 1000 rules", "\xff port=1": "1: name",
		"my shop port=80": "1: a name has no spaces", "\na b c command=x y": "2: a name has no spaces", "a port =80": "1: \"port =\": no spaces around",
		"# x\na executable=bin/shopd": "2: executable=bin/shopd: never matches: a path begins with /; **/bin/shopd", "a executable=./shopd": "1: executable=./shopd: never",
		"a executable=../x/shopd": "1: executable=../x/shopd: never", "a executable=/opt/shop/": "1: executable=/opt/shop/: never matches: an executable is no directory; /opt/shop/**",
		"a executable=/":         "1: executable=/: never",
		"a port=80\n\nb port=80": "3: never matches: line 1 has the same condition", "a: port=80": "1: \"a:\": no colon",
	} {
		if _, err := host.ParseServices(strings.NewReader(text)); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%.40q: %v, want %q", text, err, want)
		}
	}
}

// Shows that no services file and no command line bring the matching down.
func FuzzServices(f *testing.F) {
	f.Add("a command=*x*?y\n", "./xy")
	f.Add("a executable=/**/b\nb cgroup=c\n", "/a/b")
	f.Fuzz(func(t *testing.T, rules, command string) {
		services, err := host.ParseServices(strings.NewReader(rules))
		if err != nil {
			return
		}
		h := newFakeHost(t)
		h.add(fakeProcess{pid: 1, executable: "/a/b", args: []string{command}, cgroup: "0::/c\n"})
		var current atomic.Pointer[host.Services]
		current.Store(services)
		if host.NewProcesses(host.ProcessOptions{Root: h.root, Services: &current}).Identify(1, comm("x"), 1).Service == "" {
			t.Error("no name")
		}
	})
}

// What a process costs that was not known: of its own executable, and a Node script whose package is three levels up.
func BenchmarkIdentifyNew(b *testing.B) {
	h := newFakeHost(b)
	h.write("fs/srv/shop/package.json", `{"name": "shop-api", "dependencies": {"a": "1", "b": "2"}}`)
	h.write("fs/srv/shop/dist/src/x", "")
	h.add(fakeProcess{pid: 1, executable: "/opt/shopd", comm: "shopd", args: words("./shopd"), cgroup: "0::/\n", root: "fs", directory: "/"})
	h.add(fakeProcess{pid: 2, executable: "/usr/bin/node", comm: "node", args: words("node dist/src/index.js"), cgroup: "0::/\n", root: "fs", directory: "/srv/shop"})
	h.add(fakeProcess{pid: 3, executable: "/usr/bin/python3.11", comm: "uvicorn", args: words("python3 /usr/bin/uvicorn main:app"), cgroup: "0::/\n", root: "fs", directory: "/srv/shop"})
	for pid, name := range []string{1: "executable", 2: "node", 3: "python"} {
		if name == "" {
			continue
		}
		b.Run(name, func(b *testing.B) {
			processes := host.NewProcesses(host.ProcessOptions{Root: h.root})
			for b.Loop() {
				processes.Forget(uint32(pid))
				processes.Identify(uint32(pid), new([16]byte), second)
			}
		})
	}
}
