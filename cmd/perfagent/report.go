package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/perfagent/perfagent/internal/analytics"
	"github.com/perfagent/perfagent/internal/finding"
	"github.com/perfagent/perfagent/internal/history"
	"github.com/perfagent/perfagent/internal/query"
	"github.com/perfagent/perfagent/internal/report"
	"github.com/perfagent/perfagent/internal/web"
)

// analysisOptions are what conclusions from the history are drawn from.
func (a *agent) analysisOptions(config *Config) web.AnalysisOptions {
	o := web.AnalysisOptions{Engine: a.query, Objectives: a.objectiveViews}
	if config.Anomalies.Mode != anomaliesOff {
		o.Findings = a.findingsIn
	}
	return o
}

// reportOptions are what a running agent's reports are made of.
func (a *agent) reportOptions(config *Config) report.Options {
	o := report.Options{Engine: a.query, Judge: a.engine.Judge, Objectives: a.objectiveViews, Analyse: a.analysisOptions(config).Report, Host: hostName(),
		Version: readBuild().Version}
	if config.Anomalies.Mode != anomaliesOff {
		o.Sources = append(o.Sources, report.Findings(a.incidentsIn))
	}
	o.Sources = append(o.Sources, report.Alerts{Manager: a.alerts.Load}, report.RecordedAlerts{Engine: a.query})
	return o
}

// incidentsIn are the detector's incidents that touch a time, also those of before a restart.
func (a *agent) incidentsIn(from, to time.Time) ([]*finding.Finding, error) {
	e := a.findings.Load()
	if e == nil {
		return nil, nil
	}
	return e.IncidentsIn(from, to)
}

func hostName() string {
	name, _ := os.Hostname() // "" is called this host
	return name
}

// reportCommand has the flags of `report`.
type reportCommand struct {
	wanted         report.Wanted
	format, output string
}

// reportBytesMax bounds what is taken from an agent.
const reportBytesMax = 64 << 20

func newReportCommand(environ []string) *cobra.Command {
	var r reportCommand
	command := &cobra.Command{
		Use:   "report",
		Short: "Write the report of a time: HTML, Markdown or JSON",
		Long: "Writes how fast and how reliable this host's services were in a time, compared\n" +
			"with the time before, what went wrong and what is about to. It asks the running\n" +
			"agent; with --storage.path it reads the history of one that ended, which knows\n" +
			"no findings and no error budgets. Without a time the last 24 hours are meant.",
		Example: "  perfagent report --range daily -o yesterday.html\n  perfagent report --last 6h\n" +
			"  perfagent report --from 2026-03-01T00:00:00Z --to now-6h --format json",
		Args: noArguments,
	}
	flags := command.Flags()
	source := addSettings(flags, environ, forReport)
	flags.StringVar(&r.wanted.Range, "range", "", "the last full hour, day or week, in UTC (`name`): "+strings.Join(report.Ranges, ", "))
	flags.StringVar(&r.wanted.Last, "last", "", "how far back from now (`age`), such as 6h or 7d")
	flags.StringVar(&r.wanted.From, "from", "", "`time` of its start: RFC 3339 or now-6h")
	flags.StringVar(&r.wanted.To, "to", "", "`time` of its end: the same; now without it")
	flags.StringVar(&r.format, "format", "", "`format`: "+strings.Join(report.Formats, ", ")+"; without it that of the file's name, else markdown")
	flags.StringVarP(&r.output, "output", "o", "", "`file` to write; without it to standard output")
	completeWords(command, "range", report.Ranges...)
	completeWords(command, "format", report.Formats...)
	command.RunE = func(c *cobra.Command, _ []string) error {
		if err := r.check(); err != nil {
			return usageError{err}
		}
		return r.run(c.Context(), source, c.OutOrStdout(), c.ErrOrStderr())
	}
	showProgress(command, "making the report", false)
	return command
}

// check finds the format, and says what is wrong with the flags.
func (r *reportCommand) check() error {
	if _, err := r.wanted.Span(time.Now()); err != nil {
		return err
	}
	if r.format == "" {
		r.format = "markdown"
		for format, extension := range report.Extensions {
			if r.output != "" && strings.EqualFold(filepath.Ext(r.output), extension) {
				return r.set(format)
			}
		}
		if r.output != "" {
			return fmt.Errorf("flag --output: %q does not end in .html, .md or .json: say with --format what it is to be", r.output)
		}
	}
	return r.set(r.format)
}

func (r *reportCommand) set(format string) error {
	if !slices.Contains(report.Formats, format) {
		return fmt.Errorf("flag --format: %q is not one of %s", format, strings.Join(report.Formats, ", "))
	}
	r.format = format
	return nil
}

// run asks the agent, or reads the directory that is named.
func (r *reportCommand) run(ctx context.Context, source *configSource, stdout, stderr io.Writer) error {
	config, err := source.load()
	if err != nil {
		return err
	}
	_, socketNamed := source.flags["web.socket"]
	_, pathNamed := source.flags["storage.path"]
	if socketNamed && pathNamed {
		return usageError{errors.New("--web.socket and --storage.path exclude each other: an agent is asked, or a directory is read")}
	}
	var body []byte
	if socket := config.Web.Socket; !pathNamed && socket != "" {
		body, err = r.ask(ctx, socket)
		switch {
		case !noAgent(err):
			if err != nil {
				return explainSocket(err, socket)
			}
			return r.write(body, stdout)
		case socketNamed || config.Storage.Path == "":
			return fmt.Errorf("no agent answers at %s: name the socket of one with --web.socket, or with --storage.path the directory that one kept its history in", printable(socket))
		}
		fmt.Fprintf(stderr, "no agent answers at %s: reading the history in %s\n", printable(socket), printable(config.Storage.Path))
	}
	if body, err = r.read(ctx, config); err != nil {
		return err
	}
	return r.write(body, stdout)
}

// ask gets the report from a running agent.
func (r *reportCommand) ask(ctx context.Context, socket string) ([]byte, error) {
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}
	defer transport.CloseIdleConnections()
	values := url.Values{"format": {r.format}}
	for name, value := range map[string]string{"range": r.wanted.Range, "last": r.wanted.Last, "from": r.wanted.From, "to": r.wanted.To} {
		if value != "" {
			values.Set(name, value)
		}
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://perfagent/report?"+values.Encode(), nil)
	if err != nil {
		return nil, err
	}
	response, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, reportBytesMax))
	switch {
	case err != nil:
		return nil, fmt.Errorf("the agent's answer broke off: %w", err)
	case response.StatusCode == http.StatusNotFound:
		return nil, errors.New("the agent is older than this command and has no reports: restart it")
	case response.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("the agent answers %s: %s", response.Status, body)
	}
	return body, nil
}

// read makes the report of a directory, as an agent has left it or writes it at this moment.
func (r *reportCommand) read(ctx context.Context, config *Config) ([]byte, error) {
	if config.Storage.Path == "" {
		return nil, usageError{errors.New("--web.socket or --storage.path is needed: an agent to ask, or the directory of a history")}
	}
	h, err := history.OpenReadOnly(config.Storage.Path)
	if err != nil {
		return nil, err
	}
	defer h.Close()
	engine := query.New(query.Options{History: func() *history.History { return h }, MaxSamples: config.Query.MaxSamples, Timeout: config.Query.Timeout})
	levels := analytics.NewEngine(analytics.Options{})
	levels.SetLevels(config.Levels.options())
	o := report.Options{Engine: engine, Judge: levels.Judge, Sources: []report.IncidentSource{report.RecordedAlerts{Engine: engine}},
		Analyse: web.AnalysisOptions{Engine: engine}.Report, Host: hostName(), Version: readBuild().Version,
		Lacks: "read from the directory of the history: it has alerts, but neither findings with their causes nor error budgets; a running agent knows those"}
	span, err := r.wanted.Span(time.Now())
	if err != nil {
		return nil, err
	}
	made, err := o.Make(ctx, span)
	if err != nil {
		return nil, err
	}
	var body bytes.Buffer
	err = made.Write(&body, r.format)
	return body.Bytes(), err
}

// write writes to standard output, or replaces the file: it is the old one or the new one, whole.
func (r *reportCommand) write(body []byte, stdout io.Writer) error {
	if r.output == "" {
		_, err := stdout.Write(body)
		return err
	}
	temporary, err := os.CreateTemp(filepath.Dir(r.output), ".perfagent-report-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", printable(r.output), err)
	}
	defer os.Remove(temporary.Name()) // nothing is there once it was renamed
	_, err = temporary.Write(body)
	err = errors.Join(err, temporary.Chmod(0o640), temporary.Close())
	if err == nil {
		err = os.Rename(temporary.Name(), r.output)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", printable(r.output), err)
	}
	return nil
}
