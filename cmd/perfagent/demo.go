package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/perfagent/perfagent/internal/demo"
	"github.com/perfagent/perfagent/internal/finding"
	"github.com/perfagent/perfagent/internal/web"
)

const (
	demoDuration    = 10 * time.Minute
	demoDurationMin = time.Second
	demoPort        = 9464 // or the next one that is free
	demoPorts       = 100
	demoLook        = 5 * time.Second // how often it is looked what the agent found: half of its ticks
)

func newDemoCommand(environ []string) *cobra.Command {
	command := &cobra.Command{
		Use:   "demo",
		Short: "Look around: a shop with load and faults, watched by an agent",
		Long: "demo runs a small shop of seven processes, with shoppers who make 50 requests a second, and an\n" +
			"agent that watches these processes alone: what `perfagent run` does, without a configuration and with\n" +
			"the history in memory. Faults come and go on a schedule, and demo says what to look at. All of it is on\n" +
			"127.0.0.1; nothing is left when it ends. Of the environment and the file, it takes the settings of its flags.",
		Example: "  sudo perfagent demo\n  sudo perfagent demo --duration 3m --web.listen-address 127.0.0.1:9000",
		Args:    noArguments,
	}
	flags := command.Flags()
	source := addSettings(flags, environ, forDemo)
	duration := demoDuration
	flags.DurationVar(&duration, "duration", duration, "`duration` after which it ends by itself")
	command.RunE = func(cmd *cobra.Command, _ []string) error {
		if duration < demoDurationMin {
			return usageError{fmt.Errorf("flag --duration: %s is less than %s", duration, demoDurationMin)}
		}
		return runDemo(cmd.Context(), source, duration, cmd.OutOrStdout(), cmd.ErrOrStderr())
	}
	command.AddCommand(newDemoPartCommand())
	return command
}

// newDemoPartCommand is what the processes of the shop are.
func newDemoPartCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "part NAME",
		Short:  "Be a part of the demo's shop; the demo starts it",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return demo.Serve(args[0], cmd.InOrStdin(), cmd.OutOrStdout())
		},
	}
}

// demoConfig is that of an agent that nobody configured, but for what the demo's own flags set.
func demoConfig(source *configSource) (*Config, error) {
	given, err := source.load()
	if err != nil {
		return nil, err
	}
	config := defaultConfig()
	config.Web.ListenAddresses = nil
	if _, ok := source.flags["web.listen-address"]; ok {
		config.Web.ListenAddresses = given.Web.ListenAddresses
	}
	config.Capture.Backend, config.Log = given.Capture.Backend, given.Log
	if _, ok := source.flags["log.level"]; !ok {
		config.Log.Level = slog.LevelWarn // the demo itself says what goes on
	}
	return config, nil
}

// runDemo runs the shop and its agent until the time is over, or SIGTERM, SIGINT or SIGHUP.
func runDemo(ctx context.Context, source *configSource, duration time.Duration, stdout, stderr io.Writer) (err error) {
	config, err := demoConfig(source)
	if err != nil {
		return err
	}
	held := readPrivileges("/", readKernel("/").Release)
	if missing := held.missing(false); len(missing) > 0 {
		return fmt.Errorf("demo observes sockets in the kernel, which needs %s: %s", strings.Join(missing, " and "), held.remedy())
	}
	signal.Ignore(syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, os.Interrupt, syscall.SIGHUP)
	defer stop()
	directory, err := os.MkdirTemp("", "perfagent-demo-*")
	if err != nil {
		return fmt.Errorf("make a place for the trace socket: %w", err)
	}
	defer os.RemoveAll(directory)
	config.Web.Socket = filepath.Join(directory, "trace.sock")
	binary, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	shop, err := demo.Start(ctx, demo.Options{Command: []string{binary, "demo", "part"}})
	if err != nil {
		return err
	}
	defer shop.Close()
	config.Capture.PIDs = shop.PIDs()
	agent, err := startDemoAgent(ctx, config, stderr)
	if err != nil {
		return err
	}
	defer func() {
		stop() // a second signal ends a stop that hangs
		shop.Close()
		err = errors.Join(err, closePipeline(agent))
	}()
	guide := &demoGuide{w: stdout, opened: time.Now(), duration: duration, told: make(map[string]bool)}
	if err := shop.Open(); err != nil {
		return err
	}
	guide.welcome(config)
	return showDemo(ctx, shop, agent, guide)
}

// startDemoAgent starts the pipeline as run does, on the first port that is free where none was named.
func startDemoAgent(ctx context.Context, config *Config, stderr io.Writer) (agent runningAgent, err error) {
	log := newLogger(stderr, config.Log, new(slog.LevelVar))
	limitProcess(config)
	started := time.Now()
	hooks := pipelineHooks{
		Reload:      func() (string, error) { return "", errors.New("the demo has nothing to reload") },
		ReloadState: func() (bool, time.Time) { return true, started },
	}
	named := len(config.Web.ListenAddresses) > 0
	for port := demoPort; port < demoPort+demoPorts; port++ {
		if !named {
			config.Web.ListenAddresses = []string{fmt.Sprintf("127.0.0.1:%d", port)}
		}
		if agent, err = startPipeline(ctx, config, log, hooks); err == nil || named || !errors.Is(err, web.ErrPortBusy) {
			break
		}
	}
	if err != nil {
		return nil, err
	}
	if err := hideMemory(); err != nil {
		log.Warn("captured data is readable by debuggers of the same user", "err", err)
	}
	return agent, nil
}

// showDemo has faults begin and end, and says so, until the end.
func showDemo(ctx context.Context, shop *demo.Shop, agent runningAgent, guide *demoGuide) error {
	over := time.After(guide.duration)
	next := guide.coming(0)
	step, begun := time.NewTimer(next.At), false
	defer step.Stop()
	learned := time.NewTimer(demo.Learned)
	defer learned.Stop()
	look := time.NewTicker(demoLook)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			guide.say("stopping, as asked to")
			return nil
		case <-over:
			guide.say("the time is over")
			return nil
		case err := <-shop.Failed():
			return err
		case err := <-agent.Failed():
			return err
		case <-learned.C:
			guide.say("the agent knows by now what is usual here: it says what is unusual, and why")
		case <-look.C:
			guide.tell(agent)
		case <-step.C:
			if !begun {
				if err := shop.Begin(next); err != nil {
					return err
				}
				guide.say(fmt.Sprintf("now %s, for %s", next.Says(), shortDuration(next.End-next.At)))
				begun = true
				step.Reset(next.End - guide.since())
				continue
			}
			if err := shop.End(next); err != nil {
				return err
			}
			guide.say(next.Part() + " is as before")
			next, begun = guide.coming(next.End), false
			step.Reset(next.At - guide.since())
		}
	}
}

// demoGuide says on the terminal what there is to see.
type demoGuide struct {
	w        io.Writer
	opened   time.Time
	duration time.Duration
	told     map[string]bool // findings, by their ID
}

// finder is an agent that tells what is unusual.
type finder interface {
	openedFindings() []finding.Finding // those that lead incidents
}

// tell says what the agent found since it was asked last.
func (g *demoGuide) tell(agent runningAgent) {
	f, knows := agent.(finder)
	if !knows {
		return
	}
	for _, found := range f.openedFindings() {
		if !g.told[found.ID] {
			g.told[found.ID] = true
			g.say("the agent found: " + printable(found.Summary))
		}
	}
}

func (g *demoGuide) since() time.Duration { return time.Since(g.opened) }

// welcome says where to look first.
func (g *demoGuide) welcome(config *Config) {
	var b strings.Builder
	services := slices.DeleteFunc(demo.Names(), func(name string) bool { return name == demo.Shoppers })
	slices.Reverse(services)
	writeWrapped(&b, "", fmt.Sprintf("A shop (%s) with 50 requests a second, and an agent that watches it. It ends after %s, or with Ctrl-C.",
		strings.Join(services, ", "), shortDuration(g.duration)))
	for _, address := range config.Web.ListenAddresses {
		fmt.Fprintf(&b, "dashboard   http://%s/\n", address)
	}
	writeWrapped(&b, "look at     ", "Overview: the services and their levels; Endpoints: routes learned from paths with numbers, each with "+
		"phases and single exchanges; Outgoing calls: who calls whom; Agent: the cache is listed as not decoded")
	fmt.Fprintf(&b, "exchanges   sudo perfagent trace --web.socket=%s\n", config.Web.Socket)
	if len(config.Web.ListenAddresses) > 0 {
		fmt.Fprintf(&b, "metrics     curl -s http://%s/metrics\n", config.Web.ListenAddresses[0])
	}
	_, _ = io.WriteString(g.w, b.String())
}

// coming announces the next fault after an instant, if it comes before the end.
func (g *demoGuide) coming(since time.Duration) demo.Fault {
	next := demo.Next(since)
	if next.At < g.duration {
		in := (next.At - g.since()).Round(time.Second)
		g.say(fmt.Sprintf("in %s %s: watch %s", shortDuration(in), next.Says(), next.Watch()))
	}
	return next
}

func (g *demoGuide) say(text string) {
	var b strings.Builder
	writeWrapped(&b, time.Now().Format(time.TimeOnly)+"    ", text)
	_, _ = io.WriteString(g.w, b.String())
}

// shortDuration writes 10m and 40 s as people do.
func shortDuration(d time.Duration) string {
	if d < 2*time.Minute && d%time.Second == 0 {
		return fmt.Sprintf("%d s", d/time.Second)
	}
	if d%time.Minute == 0 {
		return fmt.Sprintf("%d min", d/time.Minute)
	}
	return d.String()
}
