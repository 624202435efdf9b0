package host

import (
	"path"
	"regexp"
	"slices"
	"strings"
)

// syntax is how an interpreter's command line tells what it runs. Options are matched without their `=value`.
type syntax struct {
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
var interpreters = map[string]*syntax{
	"python": {
		flags:     "bBdEhiIOPqsSuvVx",
		withValue: []string{"-W", "-X", "-Q", "--check-hash-based-pycs"},
		module:    []string{"-m"}, inline: []string{"-c"},
	},
	"node": {
		withValue: []string{
			"-r", "--require", "--import", "--loader", "--experimental-loader", "-C", "--conditions", "--env-file",
			"--title", "--input-type", "--openssl-config", "--icu-data-dir", "--redirect-warnings",
			"--unhandled-rejections", "--dns-result-order", "--watch-path", "--max-http-header-size",
		},
		inline:   []string{"-e", "--eval", "-p", "--print", "-pe"},
		commands: []string{"inspect"},
	},
	"ruby": {
		flags:     "alnpsSvwW",
		withValue: []string{"-I", "-r", "-C", "-E", "--encoding"}, inline: []string{"-e"},
		commands: []string{"exec"},
	},
	"perl": {flags: "acfglnpsStTuUvVwWX", withValue: []string{"-I"}, inline: []string{"-e", "-E"}},
	"php": {
		withValue: []string{"-c", "-d", "-S", "-t", "-z", "--server", "--docroot", "--php-ini", "--define"},
		module:    []string{"-f", "--file"}, inline: []string{"-r", "--run", "-B", "-R", "-E"},
	},
	"java": {
		withValue: []string{
			"-cp", "-classpath", "--class-path", "-p", "--module-path", "--upgrade-module-path", "--add-modules",
			"--add-reads", "--add-exports", "--add-opens", "--patch-module", "--limit-modules", "--source",
			"--enable-native-access",
		},
		module: []string{"-jar", "-m", "--module"},
	},
	"sh":      {flags: "abefhimnuvxlpBCEHPTrsD", withValue: []string{"-o", "-O", "--rcfile", "--init-file"}, inline: []string{"-c"}},
	"deno":    {withValue: []string{"-c", "--config", "--import-map", "-L", "--log-level", "--cert", "--location"}, commands: []string{"run", "serve", "task", "test", "bench"}},
	"bun":     {withValue: []string{"-r", "--preload", "--cwd", "-c", "--config", "--env-file"}, inline: []string{"-e", "--eval", "-p", "--print"}, commands: []string{"run", "x"}},
	"dotnet":  {withValue: []string{"--runtimeconfig", "--depsfile", "--additionalprobingpath", "--fx-version", "--roll-forward"}, commands: []string{"exec", "watch", "run"}},
	"lua":     {withValue: []string{"-l"}, inline: []string{"-e"}},
	"Rscript": {inline: []string{"-e"}},
	"tclsh":   {},
	"guile":   {withValue: []string{"-L", "-C", "-l", "-x"}, module: []string{"-s"}, inline: []string{"-c"}},
	"julia":   {withValue: []string{"-J", "-L", "-t", "-p", "-H"}, inline: []string{"-e", "-E"}},
}

// interpreterNames are other names of the same interpreters.
var interpreterNames = map[string]string{
	"pypy": "python", "nodejs": "node", "jruby": "ruby", "truffleruby": "ruby", "bash": "sh", "dash": "sh", "zsh": "sh",
	"ksh": "sh", "mksh": "sh", "ash": "sh", "php-cli": "php", "luajit": "lua",
}

// multiCall are executables that are many programs, chosen by the name they are called by.
var multiCall = map[string]bool{"busybox": true, "toybox": true, "coreutils": true}

var versionSuffix = regexp.MustCompile(`-?[0-9][0-9.]*(dm|t)?$`)

// interpreterOf returns the syntax of an executable's command line, nil where it is no interpreter.
func interpreterOf(base string) *syntax {
	name := versionSuffix.ReplaceAllString(base, "")
	if other, ok := interpreterNames[name]; ok {
		name = other
	}
	return interpreters[name]
}

// scriptName returns the name of what an interpreter runs, "" where base is no interpreter or nothing can be named;
// follow then tells that the program was given inline, so that the parent process may tell more. Directory returns the
// base name of the working directory.
//
// The name is the script's base name without its extension (server.js is server), a module's dotted name
// (python -m http.server is http.server), a jar's base name without extension and version, a class's simple name.
func scriptName(base string, args []string, cut bool, directory func() string) (name string, follow bool) {
	if len(args) > 0 && multiCall[base] {
		return multiCallName(args), false
	}
	s := interpreterOf(base)
	if s == nil || len(args) == 0 {
		return "", false
	}
	if title := titleName(args); title != "" {
		return title, false
	}
	script, module, inline := s.find(args[1:], cut)
	switch {
	case inline:
		return "", true
	case script == "":
		return "", false
	case module:
		return moduleName(script), false
	case script == "bundle" || strings.HasSuffix(script, "/bundle"):
		return bundleName(args), false
	case interpreters["java"] == s:
		return className(script), false
	}
	return fileName(script, directory), false
}

// find returns what the arguments behind the interpreter's name say is run.
func (s *syntax) find(args []string, cut bool) (script string, module, inline bool) {
	for i := 0; i < len(args); i++ {
		arg := args[i]
		if cut && i == len(args)-1 {
			return "", false, false // this argument may have lost its end
		}
		if arg == "--" && i+1 < len(args) {
			return args[i+1], false, false
		}
		if len(arg) < 2 || arg[0] != '-' && arg[0] != '+' {
			if slices.Contains(s.commands, arg) || arg == "" {
				continue
			}
			if arg[0] == '@' && s == interpreters["java"] {
				continue // a file of more options
			}
			return arg, false, isStream(arg)
		}
		option, value, hasValue := s.split(arg)
		if hasValue && value == "" && slices.Contains(s.withValue, option) {
			i++ // the value is the next argument
			continue
		}
		switch {
		case slices.Contains(s.inline, option):
			return "", false, true
		case slices.Contains(s.module, option):
			if value == "" && i+1 < len(args) && !(cut && i+1 == len(args)-1) {
				value = args[i+1]
			}
			return value, true, false
		}
	}
	return "", false, false
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
	if strings.HasPrefix(arg, "--") || interpreters["java"] == s {
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

// titleName returns the program's name where it replaced its command line by a title ("gunicorn: worker [app]",
// "puma 6.4 (tcp://…)", "next-server (v15)"), else "". A login shell's leading dash is no title.
func titleName(args []string) string {
	if len(args) != 1 || strings.HasPrefix(args[0], "/") || strings.HasPrefix(args[0], "-") {
		return ""
	}
	first, _, _ := strings.Cut(args[0], " ")
	first = strings.TrimSuffix(first, ":")
	if interpreterOf(path.Base(first)) != nil {
		return ""
	}
	return first
}

func multiCallName(args []string) string {
	name := path.Base(strings.TrimPrefix(args[0], "-"))
	if multiCall[name] && len(args) > 1 {
		name = path.Base(args[1])
	}
	return name
}

// bundleName returns what Ruby's `bundle exec` runs.
func bundleName(args []string) string {
	if i := slices.Index(args, "exec"); i >= 0 && i+1 < len(args) {
		return fileName(args[i+1], nil)
	}
	return "bundle"
}

// moduleName names the value of an option: a dotted module, a jar, module/Class, or a file.
func moduleName(module string) string {
	switch {
	case strings.HasSuffix(module, ".jar") || strings.HasSuffix(module, ".war"):
		return jarVersion.ReplaceAllString(fileName(module, nil), "")
	case strings.HasSuffix(module, ".php") || strings.HasPrefix(module, "/"):
		return fileName(module, nil)
	}
	if _, class, ok := strings.Cut(module, "/"); ok {
		return className(class)
	}
	return strings.TrimSuffix(module, ".__main__")
}

// jarVersion is left out, so that a service keeps its series over releases.
var jarVersion = regexp.MustCompile(`-[0-9]+\.[0-9].*$`)

// launcherClasses say nothing of the program by themselves: their package is kept.
var launcherClasses = map[string]bool{
	"Main": true, "Bootstrap": true, "Launcher": true, "JarLauncher": true, "WarLauncher": true, "PropertiesLauncher": true,
	"App": true, "Application": true, "Server": true, "Start": true, "Startup": true,
}

// className returns the simple name of a Java class.
func className(class string) string {
	if strings.HasSuffix(class, ".java") {
		return fileName(class, nil)
	}
	simple := class[strings.LastIndexByte(class, '.')+1:]
	if launcherClasses[simple] {
		return class
	}
	return simple
}

// scriptExtensions are left out of a script's name.
var scriptExtensions = []string{
	".py", ".pyc", ".pyz", ".js", ".mjs", ".cjs", ".ts", ".mts", ".cts", ".tsx", ".jsx", ".rb", ".ru", ".pl", ".psgi", ".php",
	".phar", ".sh", ".bash", ".jar", ".war", ".java", ".dll", ".exe", ".csproj", ".lua", ".R", ".r", ".tcl", ".scm", ".jl",
}

// fileName returns a script's base name without extension. A directory's entry point (__main__.py, `node .`) has the
// directory's name.
func fileName(script string, directory func() string) string {
	script = path.Clean(script)
	base := path.Base(script)
	if base == "__main__.py" {
		if script = path.Dir(script); script != "." {
			return path.Base(script)
		}
		base = "."
	}
	if base == "." && directory != nil {
		return directory()
	}
	if extension := path.Ext(base); extension != base && slices.Contains(scriptExtensions, extension) {
		base = strings.TrimSuffix(base, extension)
	}
	if base == "." || base == "/" || base == ".." {
		return ""
	}
	return base
}
