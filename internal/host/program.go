package host

import (
	"path"
	"regexp"
	"slices"
	"strings"
)

// subject is what a process runs, as its command line tells.
type subject struct {
	name     string   // of a script, module, jar or class; may say nothing
	given    bool     // name was chosen by a user and is taken as it is
	mute     bool     // name says nothing, whatever it is
	inline   bool     // the program has no name of its own
	packaged bool     // it may belong to a package with a name (package.json)
	tool     string   // the launcher that runs it; ""
	places   []string // directories whose names say more where name says nothing, the best first; "" is skipped
}

// command is how a process was started, as it shows itself.
type command struct {
	base      string // name of the executable
	args      []string
	env       map[string]string
	directory string // working directory, or ""
}

// program returns the name of what a process runs: the script or module of an interpreter, else the base name of its
// executable; "" for a kernel thread. Where that says nothing (index.js, main:app) it is the name of the package or of the
// directory.
func (r *identityReader) program(pid uint32, executable string, stat processStat, env map[string]string) string {
	if executable == "" {
		return ""
	}
	inline := ""
	for range ancestorsMax {
		c := r.command(pid, executable, stat.comm, env)
		found, isInterpreter := c.subject()
		if !isInterpreter {
			return r.plainName(pid, executable, &c)
		}
		name := r.subjectName(pid, &found)
		if !found.inline && name != "" {
			return name
		}
		if inline == "" {
			inline = firstOf(func() string { return name }, func() string { return c.base + inlineSuffix })
		}
		// A worker that was started with inline code (Python's multiprocessing) belongs to the process that started
		// it, as long as that runs the same interpreter.
		if stat.parent == 0 || r.proc.executable(stat.parent) != executable {
			break
		}
		pid = stat.parent
		var err error
		if stat, err = r.proc.stat(pid); err != nil {
			break
		}
		env = r.proc.environment(pid, environmentNames...)
	}
	return inline
}

// inlineSuffix makes a name of an interpreter's of which nothing else is known: its code has no name, its directory neither.
const inlineSuffix = "-inline"

// command reads how a process was started.
func (r *identityReader) command(pid uint32, executable, comm string, env map[string]string) command {
	args, cut := r.proc.arguments(pid)
	if cut {
		args = args[:max(len(args)-1, 0)] // may have lost its end
	}
	c := command{base: path.Base(executable), env: env, directory: r.proc.directory(pid)}
	if program, rest := loaded(c.base, args); len(rest) > 0 {
		c.base, c.args = program, rest
		return c
	}
	c.args = args
	c.base = r.ownName(pid, executable, comm, &c)
	return c
}

// loaderOptions of ld.so(8) have a value.
var loaderOptions = []string{"--library-path", "--preload", "--audit", "--argv0", "--inhibit-rpath", "--glibc-hwcaps-prepend", "--glibc-hwcaps-mask"}

var loaderName = regexp.MustCompile(`^(ld-(linux|musl)[-\w]*\.so(\.\d+)?|ld-\d[\d.]*\.so|ld(64)?\.so\.\d+|qemu-(x86_64|i386|aarch64|arm|armeb|riscv64|s390x|ppc64le)(-static)?)$`)

// loaded returns the program that was started through the dynamic loader (or an emulator), which is the executable then,
// with its arguments.
func loaded(base string, args []string) (program string, rest []string) {
	if !loaderName.MatchString(base) {
		return "", nil
	}
	for i := 1; i < len(args); i++ {
		switch {
		case slices.Contains(loaderOptions, args[i]):
			i++
		case !strings.HasPrefix(args[i], "-"):
			return path.Base(args[i]), args[i:]
		}
	}
	return "", nil
}

// commMax is how much of a program's name the kernel keeps as the task's name.
const commMax = 15

// ownName returns the name that a program was started by. That is its executable's, unless the file was renamed since, as
// updates do: its first argument then is the same as its task's name, and is another file or none.
func (r *identityReader) ownName(pid uint32, executable, comm string, c *command) string {
	isTask := func(name string) bool { return comm != "" && name[:min(len(name), commMax)] == comm }
	memory := strings.HasPrefix(executable, "/memfd:") // has no file
	if !memory && isTask(c.base) || len(c.args) == 0 {
		return c.base
	}
	started := path.Base(c.args[0])
	switch {
	case memory:
		if isTask(started) {
			return started
		}
		name, _, _ := strings.Cut(strings.TrimPrefix(executable, "/memfd:"), ":")
		return name
	case !isTask(started):
		return c.base
	case !strings.Contains(c.args[0], "/"): // found on the PATH
		if strings.HasPrefix(c.base, started) || strings.HasPrefix(c.base, ".nfs") {
			return started
		}
	case r.files.isOtherFile(pid, c.absolute(c.args[0])): // else a link to it
		return started
	}
	return c.base
}

// subject returns what a process runs, and whether its executable is one that runs others' programs.
func (c *command) subject() (found subject, isInterpreter bool) {
	if len(c.args) == 0 {
		return subject{}, false
	}
	switch name := versionSuffix.ReplaceAllString(c.base, ""); {
	case multiCall[c.base]:
		return subject{name: multiCallName(c.args), given: true}, true
	case name == "beam.smp" || name == "beam":
		return c.erlang(), true
	case strings.HasPrefix(name, "php-fpm"):
		pool, ok := strings.CutPrefix(c.args[0], "php-fpm: pool ")
		return subject{name: pool, given: true}, ok && len(c.args) == 1
	case name == "uwsgi" || strings.HasPrefix(name, "uwsgi"):
		return c.launched(map[string]*launcher{"uwsgi": uwsgi}, append([]string{"uwsgi"}, c.args[1:]...)), true
	}
	s := interpreterOf(c.base)
	if s == nil {
		return subject{}, false
	}
	if found, ok := c.titled(s); ok {
		return found, true
	}
	return c.interpreted(s), true
}

// uwsgi takes its application from options, or from a file of them whose name is the application's.
var uwsgi = &launcher{
	app:       []string{"-w", "--module", "--wsgi", "--wsgi-file", "--file", "--ini", "--yaml", "--xml"},
	name:      []string{"--procname"},
	directory: []string{"--chdir"},
}

// multiCall are executables that are many programs, chosen by the name they are called by.
var multiCall = map[string]bool{"busybox": true, "toybox": true, "coreutils": true}

func multiCallName(args []string) string {
	name := path.Base(strings.TrimPrefix(args[0], "-"))
	if multiCall[name] && len(args) > 1 {
		name = path.Base(args[1])
	}
	return name
}

// erlang names a release, a node (-sname shop@host), a script, or the directory.
func (c *command) erlang() subject {
	if name := c.env[envRelease]; name != "" {
		return subject{name: name, given: true}
	}
	found := subject{inline: true, places: []string{c.directory}}
	for i, arg := range c.args[:len(c.args)-1] {
		value := c.args[i+1]
		switch arg {
		case "-sname", "-name":
			if name, _, _ := strings.Cut(value, "@"); !saysNothing(name) {
				return subject{name: name, given: true}
			}
		case "-root":
			found.places = append([]string{value}, found.places...)
		case "-extra":
			isScript := func(a string) bool { return strings.HasSuffix(a, ".exs") || strings.HasSuffix(a, ".ex") }
			if at := slices.IndexFunc(c.args[i:], isScript); at >= 0 {
				return c.script(c.args[i+at])
			}
		}
	}
	return found
}

// titleTag is what a title says in brackets at its end: gunicorn: worker [shop], puma 6.4 (tcp://…) [shop].
var titleTag = regexp.MustCompile(`^(?:gunicorn: \w+|puma[: ].*) \[([^\[\]]+)\]$`)

// titled names a program that replaced its command line by a title. One that is a command line, as process managers set
// it, becomes the arguments instead. A login shell's leading dash is no title.
func (c *command) titled(s *syntax) (subject, bool) {
	if len(c.args) != 1 || strings.HasPrefix(c.args[0], "/") && !strings.Contains(c.args[0], " ") || strings.HasPrefix(c.args[0], "-") {
		return subject{}, false
	}
	title := c.args[0]
	words := strings.Fields(title)
	if len(words) == 0 {
		return subject{}, false
	}
	first := strings.TrimSuffix(words[0], ":")
	if interpreterOf(path.Base(first)) != nil {
		c.args = words
		return subject{}, false
	}
	packaged := s.language == "node" || s.language == "bun" || s.language == "deno"
	if m := titleTag.FindStringSubmatch(title); m != nil {
		return c.application(m[1], c.directory), true
	}
	switch {
	case first == "Passenger" && len(words) > 2 && strings.HasPrefix(words[2], "/"):
		return subject{name: first, mute: true, places: []string{words[2], c.directory}}, true
	case first == "sidekiq" && len(words) > 2 && !strings.HasPrefix(words[2], "["):
		return subject{name: words[2], places: []string{c.directory}}, true
	case strings.HasPrefix(first, "[celeryd"):
		words = append([]string{"celery"}, words...)
		words[len(words)-1] = strings.TrimSuffix(words[len(words)-1], ")")
	case launchers[s.language][first] == nil && (!packaged || launchers["node"][first] == nil):
		return subject{name: first, packaged: packaged, places: []string{c.directory}}, true
	}
	known := launchers[s.language]
	if packaged {
		known = launchers["node"]
	}
	found := c.launched(known, words)
	found.packaged = packaged
	return found, true
}

// scriptExtensions are left out of a script's name.
var scriptExtensions = []string{
	".py", ".pyc", ".pyz", ".js", ".mjs", ".cjs", ".ts", ".mts", ".cts", ".tsx", ".jsx", ".rb", ".ru", ".pl", ".psgi", ".php",
	".phar", ".sh", ".bash", ".jar", ".war", ".java", ".dll", ".exe", ".csproj", ".fsproj", ".lua", ".R", ".r", ".tcl", ".scm", ".jl",
	".exs", ".ex", ".coffee", ".ini", ".yml", ".yaml", ".xml",
}

// script names a file by its base name without extension. A directory's entry point (__main__.py, `node .`) has the
// directory's name.
func (c *command) script(file string) subject {
	base := path.Base(path.Clean(file))
	file = c.absolute(file)
	if base == "." || base == ".." || base == "/" {
		return subject{places: []string{file, c.directory}}
	}
	if extension := path.Ext(base); extension != base && slices.Contains(scriptExtensions, extension) {
		base = strings.TrimSuffix(base, extension)
	}
	return subject{name: base, places: []string{path.Dir(file), c.directory}}
}

// absolute returns a path as the process would open it; it stays relative where the working directory is not known.
func (c *command) absolute(file string) string {
	if path.IsAbs(file) || c.directory == "" {
		return path.Clean(file)
	}
	return path.Join(c.directory, file)
}

// subjectName returns the name that tells a subject from others, or "".
func (r *identityReader) subjectName(pid uint32, s *subject) string {
	if s.given {
		return s.name
	}
	if !s.mute && s.name != "" && !saysNothing(s.name) {
		return s.name
	}
	for _, place := range s.places {
		if s.packaged {
			if name := r.files.packageName(pid, place); name != "" {
				return name
			}
		}
		if name := directoryName(place); name != "" {
			return name
		}
	}
	return s.name
}

// plainName names a program that is an executable of its own. Where the name says nothing, as `server` may, it is the
// directory's, but for what belongs to the system.
func (r *identityReader) plainName(pid uint32, executable string, c *command) string {
	if !saysNothing(c.base) || slices.ContainsFunc(systemPlaces, func(p string) bool { return strings.HasPrefix(executable, p) }) {
		return c.base
	}
	s := subject{name: c.base, places: []string{path.Dir(executable), c.directory}}
	if strings.HasPrefix(executable, "/tmp/go-build") { // of `go run`
		s.places = s.places[1:]
	}
	return r.subjectName(pid, &s)
}

var systemPlaces = []string{"/usr/", "/bin/", "/sbin/", "/lib", "/nix/"}

// emptyWords say nothing of what is run: names of entry points, of the parts of a program and of where programs lie.
var emptyWords = wordSet("index main app apps application applications server start run serve www web api http https service services backend " +
	"frontend bootstrap launcher launch boot entrypoint entry init cli cmd worker workers daemon handler program script scripts dev prod " +
	"development production test tests local default bundle dist build builds out output src source sources lib libs bin sbin wsgi asgi manage " +
	"create factory celery tasks artisan console router routes fastapi flask django config conf core project site my myapp mysite node nodejs " +
	"python ruby php java deno bun dotnet js ts py esm cjs min quarkus uwsgi jar classes target debug release releases current shared publish public html " +
	"htdocs static srv opt usr var tmp home root etc mnt media data share workspace workspaces work deploy deployment deployments " +
	"code packages package modules module venv virtualenv env envs site-packages erlang exe versions shims snap docker container nuxt vite next")

// partWords are directories of one of several applications in a project: their name follows the project's.
var partWords = wordSet("api web backend frontend worker server client")

func wordSet(words string) map[string]bool {
	set := make(map[string]bool)
	for _, word := range strings.Fields(words) {
		set[word] = true
	}
	return set
}

var (
	numberWord = regexp.MustCompile(`^v?[0-9]+$|^net[0-9]+$`)
	hashWord   = regexp.MustCompile(`^[0-9a-f]*[0-9][0-9a-f]*$`)
)

// hashLength is the shortest revision that a directory of releases is named after.
const hashLength = 7

// saysNothing tells whether all words of a name are such that any application may be called so.
func saysNothing(name string) bool {
	if strings.HasPrefix(name, ".") {
		return true // .venv, .output
	}
	isSeparator := func(r rune) bool {
		return r < 0x80 && !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9')
	}
	for word := range strings.FieldsFuncSeq(name, isSeparator) {
		word = strings.ToLower(word)
		if !emptyWords[word] && !numberWord.MatchString(word) && !(len(word) >= hashLength && hashWord.MatchString(word)) {
			return false
		}
	}
	return true
}

// directoryName returns the name of the first directory upward from place that says something, or "". One that is a part
// of a project follows it: /srv/shop/api/src is shop-api.
func directoryName(place string) string {
	part := ""
	for ; place != "" && place != "." && place != "/"; place = path.Dir(place) {
		name := path.Base(place)
		switch {
		case name == "..":
			return part
		case !saysNothing(name) && part != "":
			return name + "-" + part
		case !saysNothing(name):
			return name
		case part == "" && partWords[name]:
			part = name
		}
	}
	return part
}
