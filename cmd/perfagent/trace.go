package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/perfagent/perfagent/internal/export"
	"github.com/perfagent/perfagent/internal/trace"
)

// traceLineBytesMax bounds one line of the stream: a path of 4 KiB, all of it escaped, is far below.
const traceLineBytesMax = 1 << 20

// errTraceDone ends a stream that delivered what was asked for.
var errTraceDone = errors.New("all exchanges shown")

type traceOptions struct {
	query  trace.Query
	output string // text or json
}

func newTraceCommand(environ []string) *cobra.Command {
	command := &cobra.Command{
		Use:   "trace",
		Short: "Show exchanges as they end, one a line",
		Long: "trace shows exchanges as they end, one a line: those that the running agent observes, or its own\n" +
			"observation where no agent runs or a --capture flag is given. An agent whose socket is named must run.\n" +
			"STATUS is the response's, or aborted or timeout where it did not come to its end; -o json has both.",
		Example: "  perfagent trace --slower 100ms\n  perfagent trace --status 5xx,aborted --service shop -o json --limit 10",
		Args:    noArguments,
	}
	flags := command.Flags()
	source := addSettings(flags, environ, forTrace)
	var options traceOptions
	query := &options.query
	var statuses []string
	flags.DurationVar(&query.Slower, "slower", 0, "only exchanges of at least this `duration`")
	flags.StringArrayVar(&statuses, "status", nil, "only these `statuses`: 404, 5xx, error, aborted, timeout; a comma or a repetition means or")
	flags.StringArrayVar(&query.Services, "service", nil, "only `services` with this name or glob; repeatable")
	flags.IntVar(&query.Limit, "limit", 0, "end after this `count` of exchanges; 0 for no end")
	flags.StringVarP(&options.output, "output", "o", "text", "`format`: text or json")
	completeWords(command, "output", "text", "json")
	completeLists(command, "status", "2xx", "3xx", "4xx", "5xx", "error", "aborted", "timeout")
	command.RunE = func(cmd *cobra.Command, _ []string) error {
		query.Status = trace.SplitStatus(statuses)
		if err := query.Validate(); err != nil {
			return usageError{fmt.Errorf("flag --%w", err)} // parameters and flags have the same names
		}
		if options.output != "text" && options.output != "json" {
			return usageError{fmt.Errorf("flag --output: %q is not one of text, json", options.output)}
		}
		return showTrace(cmd.Context(), source, options, cmd.OutOrStdout(), cmd.ErrOrStderr())
	}
	return command
}

// showTrace shows exchanges until the limit, SIGINT or SIGTERM, or until nobody reads them any more.
func showTrace(ctx context.Context, source *configSource, options traceOptions, stdout, stderr io.Writer) error {
	config, err := source.load()
	if err != nil {
		return err
	}
	if err := checkChosen(config.Capture); err != nil {
		return err
	}
	ends := []os.Signal{syscall.SIGTERM, os.Interrupt}
	if !signal.Ignored(syscall.SIGHUP) { // as nohup does
		ends = append(ends, syscall.SIGHUP)
	}
	ctx, stop := signal.NotifyContext(ctx, ends...)
	defer stop()
	signal.Ignore(syscall.SIGPIPE) // a write tells, and what was made for this command is removed
	options.query.RawPaths = config.Trace.RawPaths
	query := options.query.Values()
	printer := newTracePrinter(stdout, options, source.environ)
	_, named := source.flags["web.socket"]
	if named && config.Web.Socket != "" && source.captures() {
		return usageError{errors.New("flag --web.socket: the agent there was told what to capture when it started; leave out the --capture flags, or --web.socket")}
	}
	if config.Web.Socket != "" && !source.captures() {
		err := streamTrace(ctx, config.Web.Socket, query, printer, "from the agent at "+printable(config.Web.Socket))
		switch {
		case !noAgent(err):
			return explainSocket(err, config.Web.Socket)
		case named || config.Web.Socket != socketDefault:
			return fmt.Errorf("no agent answers at %s: start one with this --web.socket, or leave it out to observe without one", printable(config.Web.Socket))
		}
		fmt.Fprintf(stderr, "no agent listens on %s: observing from here\n", printable(config.Web.Socket))
	}
	return traceAlone(ctx, config, query, printer, stderr)
}

// captures tells whether a flag says what to observe, which a running agent was told already.
func (s *configSource) captures() bool {
	for path := range s.flags {
		if strings.HasPrefix(path, "capture.") {
			return true
		}
	}
	return false
}

func noAgent(err error) bool {
	return errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED)
}

func explainSocket(err error, socket string) error {
	if errors.Is(err, os.ErrPermission) {
		return fmt.Errorf("%s: permission denied: run this as the socket's owner or in its group", socket)
	}
	return err
}

// traceAlone runs a pipeline of its own that serves nothing but a private socket, and reads from that: one way for
// both cases.
func traceAlone(ctx context.Context, config *Config, query url.Values, printer *tracePrinter, stderr io.Writer) (err error) {
	directory, err := os.MkdirTemp("", "perfagent-trace-*")
	if err != nil {
		return fmt.Errorf("make a place for the private socket: %w", err)
	}
	defer os.RemoveAll(directory)
	config.Web = WebConfig{Socket: filepath.Join(directory, "trace.sock")}
	config.OTLP = OTLPConfig{}                               // an agent's business
	config.Log.Level = max(config.Log.Level, slog.LevelWarn) // the exchanges are what is shown
	log := newLogger(stderr, config.Log, new(slog.LevelVar))
	limitProcess(config)
	started := time.Now()
	agent, err := startPipeline(ctx, config, log, pipelineHooks{
		Reload:      func() (string, error) { return "", errors.New("trace has nothing to reload") },
		ReloadState: func() (bool, time.Time) { return true, started },
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closePipeline(agent)) }()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case err := <-agent.Failed():
			cancel(err)
		case <-ctx.Done():
		}
	}()
	if err := streamTrace(ctx, config.Web.Socket, query, printer, "observed by this command alone"); err != nil {
		return err
	}
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}

// streamTrace prints what an agent's socket delivers, until the limit or the end of ctx, which are no errors. The heading says
// from where it is.
func streamTrace(ctx context.Context, socket string, query url.Values, printer *tracePrinter, from string) error {
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}
	defer transport.CloseIdleConnections()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://perfagent"+trace.Path+"?"+query.Encode(), nil)
	if err != nil {
		return err
	}
	response, err := (&http.Client{Transport: transport}).Do(request)
	switch {
	case ctx.Err() != nil:
		return nil
	case err != nil:
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(io.LimitReader(response.Body, 4096))
		return fmt.Errorf("the agent answers %s: %s", response.Status, body)
	}
	printer.begin(from)
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(nil, traceLineBytesMax)
	for lines.Scan() {
		if err := printer.print(lines.Bytes()); errors.Is(err, errTraceDone) || errors.Is(err, syscall.EPIPE) {
			return nil
		} else if err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return nil
	}
	return errors.Join(errors.New("the agent stopped"), lines.Err())
}

// tracePrinter writes exchanges as text or JSON lines.
type tracePrinter struct {
	w    io.Writer
	json bool
	left int        // exchanges until the end; negative for no end
	wide func() int // columns of a line, which change with a terminal's size
	line export.LineOptions
	out  []byte
}

func newTracePrinter(w io.Writer, options traceOptions, environ []string) *tracePrinter {
	p := &tracePrinter{w: w, json: options.output == "json", left: -1}
	p.wide = func() int { return lineWidth(w, environ) }
	if options.query.Limit > 0 {
		p.left = options.query.Limit
	}
	return p
}

// begin writes what is measured, and the names of the columns.
func (p *tracePrinter) begin(from string) {
	if !p.json {
		title := []rune("HTTP exchanges as they end, " + from)
		most := p.wide()
		if most == 0 || most == math.MaxInt { // what is no terminal has no width, but a heading fits any
			most = export.LineWidth
		}
		if len(title) > most {
			title = append(title[:most-1], '~')
		}
		fmt.Fprintf(p.w, "%s\n%s", string(title), export.LineHeader())
	}
}

// print writes one line of the stream; errTraceDone tells that it was the last one wanted.
func (p *tracePrinter) print(data []byte) error {
	if len(data) == 0 {
		return nil
	}
	var line struct {
		export.Object
		trace.Dropped
	}
	if err := json.Unmarshal(data, &line); err != nil {
		return fmt.Errorf("the agent sent a line that is no exchange: %w", err)
	}
	left := line.Dropped.Dropped
	switch {
	case p.json:
		p.out = append(append(p.out[:0], data...), '\n')
	case left > 0:
		p.out = fmt.Appendf(p.out[:0], "(%d exchanges left out: they came faster than they were read)\n", left)
	default:
		p.line.Width = p.wide()
		p.out = line.AppendLine(p.out[:0], p.line)
	}
	if _, err := p.w.Write(p.out); err != nil {
		return err
	}
	if left > 0 || p.left < 0 {
		return nil
	}
	if p.left--; p.left > 0 {
		return nil
	}
	return errTraceDone
}
