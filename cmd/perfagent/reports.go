package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/perfagent/perfagent/internal/notify"
	"github.com/perfagent/perfagent/internal/report"
)

const (
	// reportsMax bounds the schedules, reportsKeepMax the files of each.
	reportsMax     = 20
	reportsKeep    = 30
	reportsKeepMax = 10_000
)

// readReports reads what is written by itself. In the file:
//
//	reports:
//	  - {schedule: daily, format: html, directory: /var/lib/perfagent/reports, keep: 30, receiver: chat}
func readReports(node *yaml.Node) (all []report.Schedule, at *yaml.Node, err error) {
	at, err = readElements(node, func(element *yaml.Node) (*yaml.Node, error) {
		s := report.Schedule{Format: report.Formats[0], Keep: reportsKeep}
		at, err := readKeys(element, "report", keyed{
			"schedule": into(&s.Range, parseChoice(report.Ranges)), "format": into(&s.Format, parseChoice(report.Formats)),
			"directory": into(&s.Directory, parseReportDirectory), "keep": into(&s.Keep, parseReportKeep), "receiver": into(&s.Receiver, parseReceiverName),
		})
		switch {
		case err != nil:
			return at, err
		case s.Range == "" || s.Directory == "":
			return element, errors.New("a report needs schedule and directory")
		case slices.ContainsFunc(all, func(o report.Schedule) bool {
			return o.Range == s.Range && o.Format == s.Format && o.Directory == s.Directory
		}):
			return element, fmt.Errorf("two reports are %s, %s and in %s", s.Range, s.Format, s.Directory)
		}
		if all = append(all, s); len(all) > reportsMax {
			return element, fmt.Errorf("there are more than %d", reportsMax)
		}
		return nil, nil
	})
	return all, at, err
}

func parseChoice(choices []string) func(string) (string, error) {
	return func(s string) (string, error) {
		if !slices.Contains(choices, s) {
			return "", fmt.Errorf("%q is not one of %s", s, strings.Join(choices, ", "))
		}
		return s, nil
	}
}

func parseReportDirectory(s string) (string, error) {
	if !filepath.IsAbs(s) {
		return "", fmt.Errorf("%q is not an absolute path", s)
	}
	return filepath.Clean(s), nil
}

func parseReportKeep(s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > reportsKeepMax {
		return 0, fmt.Errorf("%q is not a number from 1 to %d", s, reportsKeepMax)
	}
	return n, nil
}

// checkReports reports receivers that are not there, or take no reports.
func (c *Config) checkReports() error {
	for _, s := range c.Reports.value {
		if s.Receiver == "" {
			continue
		}
		i := slices.IndexFunc(c.Notify.Receivers.value, func(r notify.Receiver) bool { return r.Name == s.Receiver })
		err := notify.ErrNoReceiver
		if i >= 0 {
			err = c.Notify.Receivers.value[i].MayBeTold()
		}
		if err != nil {
			return fmt.Errorf("reports: receiver %q: %w", s.Receiver, err)
		}
	}
	return nil
}

// runReports writes reports when they are due.
func (a *agent) runReports(ctx context.Context, config *Config) {
	s := report.Scheduler{Make: a.reports.Make, Schedules: a.scheduled, Log: a.log}
	options := notify.Options{Config: config.notification(), ReadFile: readNamedFile, ExternalURL: config.Web.ExternalURL, Version: readBuild().Version, Log: a.log}
	s.Tell = func(ctx context.Context, receiver string, r *report.Report, file string) error {
		m := notify.Message{Name: "PerfagentReport", Summary: fmt.Sprintf("%s, %s to %s UTC", r.Title, r.From.Format("2 January 15:04"), r.To.Format("2 January 15:04")),
			Description: strings.Join(r.Summary, " ") + " The whole report is in " + file + "."}
		if config.Web.ExternalURL != "" {
			m.URL = fmt.Sprintf("%s/report?from=%d&to=%d", config.Web.ExternalURL, r.From.Unix(), r.To.Unix())
		}
		return notify.Tell(ctx, options, receiver, m)
	}
	s.Run(ctx)
}
