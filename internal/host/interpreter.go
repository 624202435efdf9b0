package host

import (
	"path"
	"regexp"
	"slices"
	"strings"
)

// syntax is how an interpreter's command line tells what it runs. Options are matched without their `=value`.
type syntax struct {
	language string
	// flags are the short options without a value, which may stand together in one argument (-uB).
	flags string
	// withValue are options whose value is the next argument. Short ones may hold it in the same argument (-Wdefault).
	withValue []string
	// module are options whose value names what is run.
	module []string
	// inline are options whose value is the program itself: there is no script to name.
	inline []string
	// commands are words before the script (deno run x.ts).
	commands []string
}

// interpreters maps the executable's name without version (python for python3.11) to its syntax.
var interpreters = syntaxes([]syntax{
	{
		language: "python", flags: "bBdEhiIOPqsSuvVx",
		withValue: []string{"-W", "-X", "-Q", "--check-hash-based-pycs"},
		module:    []string{"-m"}, inline: []string{"-c"},
	},
	{
		language: "node",
		withValue: []string{
			"-r", "--require", "--import", "--loader", "--experimental-loader", "-C", "--conditions", "--env-file",
			"--title", "--input-type", "--openssl-config", "--icu-data-dir", "--redirect-warnings",
			"--unhandled-rejections", "--dns-result-order", "--watch-path", "--max-http-header-size",
		},
		inline:   []string{"-e", "--eval", "-p", "--print", "-pe"},
		commands: []string{"inspect"},
	},
	{
		language: "ruby", flags: "alnpsSvwW",
		withValue: []string{"-I", "-r", "-C", "-E", "--encoding"}, inline: []string{"-e"},
		commands: []string{"exec"},
	},
	{language: "perl", flags: "acfglnpsStTuUvVwWX", withValue: []string{"-I"}, inline: []string{"-e", "-E"}},
	{
		language:  "php",
		withValue: []string{"-c", "-d", "-S", "-t", "-z", "--server", "--docroot", "--php-ini", "--define"},
		module:    []string{"-f", "--file"}, inline: []string{"-r", "--run", "-B", "-R", "-E"},
	},
	{
		language: "java",
		withValue: []string{
			"-cp", "-classpath", "--class-path", "-p", "--module-path", "--upgrade-module-path", "--add-modules",
			"--add-reads", "--add-exports", "--add-opens", "--patch-module", "--limit-modules", "--source",
			"--enable-native-access",
		},
		module: []string{"-jar", "-m", "--module"},
	},
	{language: "sh", flags: "abefhimnuvxlpBCEHPTrsD", withValue: []string{"-o", "-O", "--rcfile", "--init-file"}, inline: []string{"-c"}},
	{language: "deno", withValue: []string{"-c", "--config", "--import-map", "-L", "--log-level", "--cert", "--location"}, commands: []string{"run", "serve", "task", "test", "bench"}},
	{language: "bun", withValue: []string{"-r", "--preload", "--cwd", "-c", "--config", "--env-file"}, inline: []string{"-e", "--eval", "-p", "--print"}, commands: []string{"run", "x"}},
	{language: "dotnet", withValue: []string{"--runtimeconfig", "--depsfile", "--additionalprobingpath", "--fx-version", "--roll-forward"}, module: []string{"--project"}, commands: []string{"exec", "watch", "run"}},
	{language: "lua", withValue: []string{"-l"}, inline: []string{"-e"}},
	{language: "Rscript", inline: []string{"-e"}},
	{language: "tclsh"},
	{language: "guile", withValue: []string{"-L", "-C", "-l", "-x"}, module: []string{"-s"}, inline: []string{"-c"}},
	{language: "julia", withValue: []string{"-J", "-L", "-t", "-p", "-H"}, inline: []string{"-e", "-E"}},
})

// interpreterNames are other names of the same interpreters.
var interpreterNames = map[string]string{
	"pypy": "python", "nodejs": "node", "jruby": "ruby", "truffleruby": "ruby", "bash": "sh", "dash": "sh", "zsh": "sh",
	"ksh": "sh", "mksh": "sh", "ash": "sh", "php-cli": "php", "luajit": "lua",
}

func syntaxes(list []syntax) map[string]*syntax {
	byLanguage := make(map[string]*syntax, len(list))
	for i := range list {
		byLanguage[list[i].language] = &list[i]
	}
	return byLanguage
}

var versionSuffix = regexp.MustCompile(`-?[0-9][0-9.]*(dm|t)?$`)

// interpreterOf returns the syntax of an executable's command line, nil where it is no interpreter.
func interpreterOf(base string) *syntax {
	name := versionSuffix.ReplaceAllString(base, "")
	if other, ok := interpreterNames[name]; ok {
		name = other
	}
	return interpreters[name]
}

// how tells what a command line says is run.
type how uint8

const (
	byNothing how = iota // an interactive interpreter, or one that cannot be understood
	byScript
	byModule // the value of an option: python -m, java -jar
	byInline // code on the command line or from a descriptor
)

// find returns what the arguments behind the interpreter's name say is run, and what is behind that.
func (s *syntax) find(args []string) (script string, rest []string, by how) {
	for i := 0; i < len(args); i++ {
		arg := args[i]
		if arg == "--" && i+1 < len(args) {
			return args[i+1], args[i+2:], byScript
		}
		if len(arg) < 2 || arg[0] != '-' && arg[0] != '+' {
			if slices.Contains(s.commands, arg) || arg == "" {
				continue
			}
			if arg[0] == '@' && s.language == "java" {
				continue // a file of more options
			}
			if isStream(arg) {
				return "", nil, byInline
			}
			return arg, args[i+1:], byScript
		}
		option, value, hasValue := s.split(arg)
		if hasValue && value == "" && slices.Contains(s.withValue, option) {
			i++ // the value is the next argument
			continue
		}
		switch {
		case slices.Contains(s.inline, option):
			return "", nil, byInline
		case slices.Contains(s.module, option):
			if value == "" && i+1 < len(args) {
				i++
				value = args[i]
			}
			return value, args[i+1:], byModule
		}
	}
	return "", nil, byNothing
}

// isStream tells whether a program is read from a descriptor, whose name says nothing of it.
func isStream(script string) bool {
	return script == "-" || strings.HasPrefix(script, "/dev/fd/") || strings.HasPrefix(script, "/proc/self/fd/") ||
		script == "/dev/stdin"
}

// split separates an option from the value in the same argument: --option=value, -Ovalue and, for the flags that may
// stand together, -uBmmodule. HasValue tells that the option has a value, here or in the next argument.
func (s *syntax) split(arg string) (option, value string, hasValue bool) {
	takes := func(o string) bool {
		return slices.Contains(s.withValue, o) || slices.Contains(s.module, o) || slices.Contains(s.inline, o)
	}
	if takes(arg) {
		return arg, "", true
	}
	if name, value, ok := strings.Cut(arg, "="); ok && strings.HasPrefix(arg, "--") {
		return name, value, value != ""
	}
	if strings.HasPrefix(arg, "--") || s.language == "java" {
		return arg, "", false
	}
	for i := 1; i < len(arg); i++ {
		short := "-" + arg[i:i+1]
		if takes(short) {
			return short, strings.TrimPrefix(arg[i+1:], "="), true
		}
		if strings.IndexByte(s.flags, arg[i]) < 0 {
			break
		}
	}
	return arg, "", false
}

// interpreted returns what an interpreter runs.
func (c *command) interpreted(s *syntax) subject {
	script, rest, by := s.find(c.args[1:])
	switch {
	case s.language == "java":
		return c.java(script, by)
	case by == byInline || by == byNothing && s.language != "php" && s.language != "dotnet":
		return subject{inline: true, places: []string{c.directory}}
	}
	var found subject
	switch s.language {
	case "python":
		found = c.python(script, rest, by)
	case "node", "deno", "bun":
		found = c.javascript(script, rest)
	case "ruby":
		found = c.launched(launchers["ruby"], rubyProgram(script, rest))
	case "php":
		found = c.php(script)
	case "dotnet":
		found = c.script(script)
	default:
		found = c.launched(launchers[s.language], append([]string{script}, rest...))
	}
	return found
}

// python names a script, a module, or what a server of applications runs. A module's dotted name loses what says nothing
// at its ends: shop.main is shop, config.wsgi nothing at all.
func (c *command) python(script string, rest []string, by how) subject {
	if by == byScript {
		return c.launched(launchers["python"], append([]string{script}, rest...))
	}
	if launchers["python"][script] != nil {
		return c.launched(launchers["python"], append([]string{script}, rest...))
	}
	if script == "http.server" {
		return subject{name: script, given: true} // the standard library's; both its words say nothing elsewhere
	}
	return c.module(strings.TrimSuffix(script, ".__main__"), c.directory)
}

// module names a dotted module that lies below a directory.
func (c *command) module(module, directory string) subject {
	parts := strings.Split(module, ".")
	for len(parts) > 0 && saysNothing(parts[len(parts)-1]) {
		parts = parts[:len(parts)-1]
	}
	for len(parts) > 0 && saysNothing(parts[0]) {
		parts = parts[1:]
	}
	if len(parts) > 0 {
		module = strings.Join(parts, ".")
	}
	return subject{name: module, places: []string{directory}}
}

// application names what a server of Python applications is told to run: module:object, a module, or a file.
func (c *command) application(spec, directory string) subject {
	spec = strings.TrimPrefix(spec, "file:")
	if i := strings.LastIndexByte(spec, ':'); i > 0 {
		spec = spec[:i]
	}
	if strings.HasSuffix(spec, ".py") || strings.Contains(spec, "/") {
		return c.script(spec)
	}
	return c.module(spec, directory)
}

// javascript names a script, or a package where a tool of it was started: npm, next, anything in its node_modules.
func (c *command) javascript(script string, rest []string) subject {
	if c.env[envPM2Script] != "" && strings.Contains(script, "/pm2/lib/ProcessContainer") {
		script, rest = c.env[envPM2Script], nil
	}
	found := c.launched(launchers["node"], append([]string{script}, rest...))
	found.packaged = true
	// Any other program of a project's own node_modules is a tool of it as well; those of the system are programs.
	project, _, isTool := strings.Cut(c.absolute(script), "/node_modules/")
	if isTool && found.tool == "" && path.Base(project) != "lib" {
		if isBelow(c.directory, project) {
			project = c.directory
		}
		found.mute, found.places = true, append([]string{project}, found.places...)
	}
	return found
}

// rubyProgram returns what `bundle exec` runs, with its arguments.
func rubyProgram(script string, rest []string) []string {
	args := append([]string{script}, rest...)
	if path.Base(script) == "bundle" || path.Base(script) == "bundler" {
		if i := slices.Index(args, "exec"); i >= 0 && i+1 < len(args) {
			return args[i+1:]
		}
	}
	return args
}

// php names a script. The built-in server's says nothing without the directory that it serves.
func (c *command) php(script string) subject {
	places := []string{c.directory}
	for i, arg := range c.args[:len(c.args)-1] {
		if arg == "-t" || arg == "--docroot" {
			places = []string{c.absolute(c.args[i+1]), c.directory}
		}
	}
	if script == "" {
		return subject{inline: true, places: places}
	}
	found := c.script(script)
	found.places = append(found.places, places...)
	return found
}

// Names that Java programs are given by their users, the first that is there counts.
var javaNames = []string{"-Dotel.service.name=", "-Dspring.application.name=", "--spring.application.name="}

// javaHomes are properties with the directory of a server's instance.
var javaHomes = []string{"-Dcatalina.base=", "-Djetty.base=", "-Djboss.server.base.dir=", "-Dkaraf.base="}

// javaFrameworks are packages whose main classes start other people's programs.
var javaFrameworks = []string{
	"org.springframework.boot.loader.", "org.apache.catalina.startup.", "org.jboss.modules.", "org.eclipse.jetty.start.",
	"io.quarkus.bootstrap.", "org.codehaus.plexus.classworlds.", "org.apache.karaf.main.",
}

// java names a jar without its version, or a class.
func (c *command) java(script string, by how) subject {
	value := func(prefixes []string) string {
		for _, prefix := range prefixes {
			for _, arg := range c.args {
				if value, ok := strings.CutPrefix(arg, prefix); ok && value != "" {
					return value
				}
			}
		}
		return ""
	}
	if name := firstOf(func() string { return value(javaNames) }, func() string { return c.env[envSpringName] }); name != "" {
		return subject{name: name, given: true}
	}
	places := []string{c.directory}
	if home := value(javaHomes); home != "" {
		places = []string{c.absolute(home), c.directory}
	}
	switch {
	case script == "":
		return subject{inline: true, places: places}
	case strings.HasSuffix(script, ".jar") || strings.HasSuffix(script, ".war"):
		found := c.script(script)
		found.name = jarVersion.ReplaceAllString(found.name, "")
		found.places = append(found.places, places...)
		return found
	case strings.HasSuffix(script, ".java"):
		return c.script(script)
	}
	if _, class, ok := strings.Cut(script, "/"); ok && by == byModule {
		script = class
	}
	isFramework := func(p string) bool { return strings.HasPrefix(script, p) }
	return subject{name: className(script), places: places, mute: slices.ContainsFunc(javaFrameworks, isFramework)}
}

// jarVersion is left out, so that a service keeps its series over releases; also what build tools append.
var jarVersion = regexp.MustCompile(`-[0-9]+\.[0-9].*$|-[0-9]{4,}$|(-SNAPSHOT|-all|-exec|-fat|-uber|-shaded|-boot|-runner|-jar-with-dependencies)+$`)

// launcherClasses say nothing of the program by themselves: their package is kept.
var launcherClasses = map[string]bool{
	"Main": true, "Bootstrap": true, "Launcher": true, "JarLauncher": true, "WarLauncher": true, "PropertiesLauncher": true,
	"App": true, "Application": true, "Server": true, "Start": true, "Startup": true,
}

// className returns the simple name of a Java class.
func className(class string) string {
	simple := class[strings.LastIndexByte(class, '.')+1:]
	if launcherClasses[simple] {
		return class
	}
	return simple
}
