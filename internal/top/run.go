package top

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"
)

// IntervalMin bounds how often the agent is asked: it has new figures every ten seconds, and the host's every second.
const IntervalMin = 500 * time.Millisecond

// Options of Run.
type Options struct {
	// Clients are where the agent may be; the first that answers is it.
	Clients []*Client
	// Host is the name of this host, for the title.
	Host string
	// View is one of Views; Sort "" or one of SortNames of it.
	View, Sort, Filter string
	Reverse            bool
	Limit              int    // rows at most; 0: all
	Window             string // 1m, 5m, 15m or 60m
	Interval           time.Duration
	// Once ends after one table; JSON writes objects, one a refresh, instead of a table.
	Once, JSON bool
	// Columns bounds the lines of a table that is text; 0: nothing does.
	Columns int
	// NoColor is without colours, ASCII without other characters than those.
	NoColor, ASCII bool
	// Input and Output are a terminal, unless Once or JSON is set. Environment is the process's.
	Input       io.Reader
	Output      io.Writer
	Environment []string
}

// Validate tells what is wrong with the options, by the names of their flags.
func (o *Options) Validate() error {
	switch {
	case !slices.Contains(Views, o.View):
		return fmt.Errorf("view: %q is not one of %s", o.View, strings.Join(Views, ", "))
	case o.Sort != "" && !slices.Contains(SortNames(o.View), o.Sort):
		return fmt.Errorf("sort: %q is not one of %s", o.Sort, strings.Join(SortNames(o.View), ", "))
	case o.Sort == "trend" && (o.Once || o.JSON):
		return errors.New("sort: trend is of a live table only")
	case o.Limit < 0:
		return fmt.Errorf("limit: %d is less than 0", o.Limit)
	case !slices.Contains(Windows, o.Window):
		return fmt.Errorf("window: %q is not one of %s", o.Window, strings.Join(Windows, ", "))
	case o.Interval < IntervalMin:
		return fmt.Errorf("interval: %s is less than %s", o.Interval, IntervalMin)
	}
	return nil
}

// order is how a view is sorted.
func (o *Options) order(view int) sorting {
	order := sortDefault(view)
	if o.Sort != "" {
		order.by = columnNamed(view, o.Sort)
	}
	order.reverse = o.Reverse
	return order
}

// Run shows the table until the user, the context or, where it is written, its reader ends it. Without an agent at its start it fails.
func Run(ctx context.Context, o *Options) error {
	client, first, err := find(ctx, o)
	if err != nil {
		return err
	}
	if client.host != "" {
		o.Host = client.host
	}
	switch {
	case o.JSON:
		return stream(ctx, o, client, first)
	case o.Once:
		return writeText(o.Output, o, first, o.Columns)
	}
	return interact(ctx, o, newModel(ctx, o, client, first))
}

// interact runs the user interface. Whatever ends it, the terminal is as it was.
func interact(ctx context.Context, o *Options, m tea.Model) error {
	program := tea.NewProgram(m, tea.WithInput(o.Input), tea.WithOutput(o.Output), tea.WithEnvironment(o.Environment))
	defer context.AfterFunc(ctx, program.Quit)()
	_, err := program.Run()
	switch {
	case errors.Is(err, tea.ErrInterrupted):
		return nil
	case errors.Is(err, tea.ErrProgramPanic):
		return errors.New("the display failed; what it was is above. The agent is not concerned")
	}
	return err
}

// find returns the first agent that answers.
func find(ctx context.Context, o *Options) (*Client, *sample, error) {
	var tried []string
	for _, c := range o.Clients {
		s, err := c.read(ctx, o.Window, nil)
		if err == nil {
			return c, s, nil
		}
		if ctx.Err() != nil {
			return nil, nil, ctx.Err()
		}
		tried = append(tried, fmt.Sprintf("%s (%s)", c.Name(), inert(explain(err))))
	}
	return nil, nil, fmt.Errorf("no agent to show: %s. Start one as root with perfagent run, or name one with --web.socket or --web.url", strings.Join(tried, ", "))
}

func explain(err error) string {
	switch {
	case errors.Is(err, os.ErrNotExist):
		return "there is no such socket"
	case errors.Is(err, os.ErrPermission):
		return "permission denied: be its owner or in its group"
	}
	return err.Error()
}

// stream writes an object for each refresh. While the agent is gone it is asked again, and there is none.
func stream(ctx context.Context, o *Options, client *Client, s *sample) error {
	if err := writeJSON(o.Output, o, s); err != nil || o.Once {
		return err
	}
	again := time.NewTicker(o.Interval)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-again.C:
		}
		next, err := client.read(ctx, o.Window, s)
		if err != nil {
			continue
		}
		s = next
		if err := writeJSON(o.Output, o, s); err != nil {
			return err
		}
	}
}
