package host

import (
	"path"
	"regexp"
	"slices"
	"strings"
)

// launcher is a program that runs another one which its arguments name, or which lies where it is started.
type launcher struct {
	app       []string // options whose value is the application
	name      []string // options whose value is a name that its user chose
	directory []string // options whose value is the directory that it runs in
	flags     []string // options without a value; of any other the next argument is taken for its value
	words     []string // in front of the application
	takes     appKind
}

// appKind is what of a launcher's arguments is the application.
type appKind uint8

const (
	takesNothing appKind = iota // it runs what is in its directory
	takesModule                 // module:object, or a module
	takesScript                 // a file
)

// appOptions are options of launchers whose value may look like an application and is none.
var appOptions = []string{
	"-b", "--bind", "--insecure-bind", "--quic-bind", "--host", "-H", "-c", "--config", "-r", "--require", "--import", "--loader", "-P", "--project",
	"-w", "--watch", "-i", "--ignore", "-x", "--exec", "--log-config", "--worker-class", "-k", "--unix-socket", "-u",
}

var (
	pythonServer = &launcher{
		name: []string{"-n", "--name", "--process-name"}, directory: []string{"--app-dir", "--chdir", "--working-dir"}, takes: takesModule,
		flags: []string{
			"--reload", "--factory", "--proxy-headers", "--no-proxy-headers", "--server-header", "--no-server-header", "--date-header",
			"--no-date-header", "--access-log", "--no-access-log", "--use-colors", "--no-use-colors", "--daemon", "-D", "--preload",
			"--check-config", "--print-config", "--spew", "--reuse-port", "--no-sendfile", "-R", "--enable-stdio-inheritance",
			"--capture-output", "--initgroups", "--proxy-protocol", "--log-syslog", "--call", "--debug", "--no-ws", "--expose-tracebacks",
		},
	}
	scriptRunner  = &launcher{takes: takesScript, words: []string{"run", "dev", "watch", "start", "master", "worker"}}
	celeryTool    = &launcher{app: []string{"-A", "--app"}, directory: []string{"--workdir"}}
	directoryTool = &launcher{name: []string{"--tag"}, directory: []string{"--dir", "--chdir", "--pythonpath", "--prefix", "--cwd"}}
)

// launchers maps languages and names of programs, as scripts or modules, to what they do with their arguments.
var launchers = map[string]map[string]*launcher{
	"python": launchersOf(map[*launcher]string{
		pythonServer:  "uvicorn gunicorn hypercorn daphne granian waitress waitress-serve aiohttp.web",
		scriptRunner:  "debugpy coverage streamlit fastapi kopf pdb cProfile watchfiles bokeh gradio",
		celeryTool:    "celery",
		directoryTool: "django django-admin manage rq rqworker huey_consumer dramatiq airflow jupyter pytest poetry pipenv uv honcho",
		{app: []string{"--app", "-A"}, words: []string{"run"}}: "flask quart",
	}),
	"node": launchersOf(map[*launcher]string{
		scriptRunner: "ts-node ts-node-dev ts-node-esm tsnd tsx esno jiti nodemon babel-node swc-node vite-node coffee forever pm2-runtime node-dev c8 nyc",
		directoryTool: "npm npm-cli npx npx-cli yarn yarnpkg pnpm pnpx corepack next next-server nuxt nuxi vite react-scripts webpack webpack-dev-server ng " +
			"nest turbo nx gatsby remix-serve react-router-serve astro strapi parcel svelte-kit json-server concurrently npm-run-all jest mocha vitest",
	}),
	"ruby": launchersOf(map[*launcher]string{
		directoryTool: "puma rails rackup thin unicorn unicorn_rails falcon passenger rake spring bundle foreman shotgun rerun iodine hanami good_job",
		{name: []string{"-g", "--tag"}, directory: []string{"-r", "--require"}}: "sidekiq",
	}),
	"perl": launchersOf(map[*launcher]string{scriptRunner: "plackup starman starlet twiggy hypnotoad morbo"}),
}

func launchersOf(names map[*launcher]string) map[string]*launcher {
	byName := make(map[string]*launcher)
	for l, list := range names {
		for _, name := range strings.Fields(list) {
			byName[name] = l
		}
	}
	return byName
}

// launched names a script, or what it runs where it is one of these launchers. Args begin with the script.
func (c *command) launched(known map[string]*launcher, args []string) subject {
	found := c.script(args[0])
	tool := known[args[0]]
	if tool == nil {
		tool = known[found.name]
	}
	if tool == nil {
		return found
	}
	name := found.name
	app, given, directory := tool.read(args[1:])
	if given != "" && !saysNothing(given) {
		return subject{name: given, given: true}
	}
	if app == "" && name == "flask" {
		app = c.env[envFlaskApp]
	}
	// A tool lies in its application's directory (bin/rails, venv/bin/gunicorn) or in one of the system, which says nothing.
	places := append([]string{c.directory}, found.places...)
	if directory != "" {
		directory = c.absolute(directory)
		if slices.Contains(scriptExtensions, path.Ext(directory)) {
			directory = path.Dir(directory) // sidekiq -r ./config/boot.rb
		}
		places = append([]string{directory}, places...)
	}
	switch {
	case app == "":
		found = subject{name: name, mute: true}
	case tool.takes == takesScript:
		found = c.script(app)
	default:
		found = c.application(app, places[0])
	}
	found.tool = name
	found.places = append(found.places, places...)
	return found
}

var (
	moduleObject = regexp.MustCompile(`^[A-Za-z_][\w.]*:[A-Za-z_][\w.]*(\(.*\))?$`)
	moduleOnly   = regexp.MustCompile(`^[A-Za-z_][\w.]*$`)
)

// isApp tells whether an argument looks like what the launcher takes, whatever stands in front of it.
func (l *launcher) isApp(arg string) bool {
	switch l.takes {
	case takesModule:
		return moduleObject.MatchString(arg)
	case takesScript:
		return slices.Contains(scriptExtensions, path.Ext(arg))
	}
	return false
}

// read returns what a launcher's arguments say of the application.
func (l *launcher) read(args []string) (app, name, directory string) {
	for i := 0; i < len(args); i++ {
		arg := args[i]
		if len(arg) < 2 || arg[0] != '-' {
			plain := l.takes == takesModule && moduleOnly.MatchString(arg) || l.takes == takesScript && !slices.Contains(l.words, arg)
			if app == "" && arg != "" && (l.isApp(arg) || plain) {
				app = arg
			}
			continue
		}
		option, value, joined := l.split(arg)
		if !joined && !slices.Contains(l.flags, arg) && i+1 < len(args) && !strings.HasPrefix(args[i+1], "-") &&
			(slices.Contains(appOptions, arg) || !l.isApp(args[i+1])) {
			i++
			value = args[i]
		}
		switch {
		case value == "":
		case slices.Contains(l.app, option):
			app = value
		case slices.Contains(l.name, option):
			name = value
		case slices.Contains(l.directory, option):
			directory = value
		}
	}
	return app, name, directory
}

// split separates an option from a value in the same argument (--app=shop, -Ashop).
func (l *launcher) split(arg string) (option, value string, joined bool) {
	if option, value, joined = strings.Cut(arg, "="); joined {
		return option, value, true
	}
	if len(arg) > 2 && arg[1] != '-' && (slices.Contains(l.app, arg[:2]) || slices.Contains(l.name, arg[:2])) {
		return arg[:2], arg[2:], true
	}
	return arg, "", false
}
