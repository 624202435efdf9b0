package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/perfagent/perfagent/internal/top"
)

// topIntervalDefault is a fifth of the agent's tick: its figures are shown soon after they are there, and the host's are fresh.
const topIntervalDefault = 2 * time.Second

type topOptions struct {
	top.Options
	url, caFile, passwordFile string
	output                    string // text or json
	noColor                   bool
}

func newTopCommand(environ []string) *cobra.Command {
	command := &cobra.Command{
		Use:   "top",
		Short: "Show endpoints, services, calls and what is wrong, live",
		Long: "top shows a live table of what the running agent observes: endpoints, services, what programs of this host\n" +
			"call, and what is wrong now. It reads from the agent's Unix socket, where that may be opened, else from the\n" +
			"address that it listens on, and needs no root. ? shows the keys. Figures are of the last minute (--window).",
		Example: "  perfagent top\n  perfagent top --sort p99 --filter 'shop|GET /orders'\n  perfagent top --once --view problems\n  perfagent top -o json --once --limit 10",
		Args:    noArguments,
	}
	flags := command.Flags()
	source := addSettings(flags, environ, forTop)
	var options topOptions
	flags.StringVar(&options.url, "web.url", "", "`URL` of the agent, such as https://user@host:9464, instead of its socket")
	flags.StringVar(&options.caFile, "web.ca-file", "", "`file` with the certificates (PEM) that the URL's is checked with; the system's otherwise")
	flags.StringVar(&options.passwordFile, "web.password-file", "", "`file` with the password of the URL's user")
	flags.StringVar(&options.View, "view", top.Views[0], "`table` to begin with: "+strings.Join(top.Views, ", "))
	flags.StringVar(&options.Sort, "sort", "", "`column` to sort by; of endpoints: "+strings.Join(top.SortNames(top.Views[0]), ", "))
	flags.BoolVar(&options.Reverse, "reverse", false, "sort the other way round")
	flags.StringVar(&options.Filter, "filter", "", "only rows that match the `expression`, or have it as a text where it is none")
	flags.IntVar(&options.Limit, "limit", 0, "at most so many rows (`count`); 0 for all")
	flags.StringVar(&options.Window, "window", "1m", "`length` that figures are of: 1m, 5m, 15m or 60m")
	flags.DurationVar(&options.Interval, "interval", topIntervalDefault, "`duration` between two questions to the agent, which has new figures every ten seconds")
	flags.BoolVar(&options.Once, "once", false, "print one table, and end; whole where the output is no terminal and COLUMNS is not set")
	flags.StringVarP(&options.output, "output", "o", "text", "`format`: text or json, an object a line at each refresh")
	flags.BoolVar(&options.noColor, "no-color", false, "no colours; NO_COLOR in the environment means the same")
	completeTop(command)
	command.RunE = func(cmd *cobra.Command, _ []string) error {
		if options.output != "text" && options.output != "json" {
			return usageError{fmt.Errorf("flag --output: %q is not one of text, json", options.output)}
		}
		options.JSON = options.output == "json"
		if err := options.Validate(); err != nil {
			return usageError{fmt.Errorf("flag --%w", err)}
		}
		return showTop(cmd.Context(), source, &options, cmd.InOrStdin(), cmd.OutOrStdout())
	}
	return command
}

// completeTop lets shells complete what there are few of.
func completeTop(command *cobra.Command) {
	completeWords(command, "view", top.Views...)
	completeWords(command, "window", top.Windows...)
	completeWords(command, "output", "text", "json")
	_ = command.RegisterFlagCompletionFunc("sort", func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		view, _ := cmd.Flags().GetString("view")
		return top.SortNames(view), cobra.ShellCompDirectiveNoFileComp
	})
}

// showTop shows the table until the user, SIGINT, SIGTERM or SIGHUP ends it.
func showTop(ctx context.Context, source *configSource, options *topOptions, stdin io.Reader, stdout io.Writer) (err error) {
	config, err := source.load()
	if err != nil {
		return err
	}
	if options.Clients, err = topClients(source, config, options); err != nil {
		return err
	}
	options.Host, _ = os.Hostname() // a title does without
	options.Input, options.Output, options.Environment = stdin, stdout, source.environ
	options.NoColor = options.noColor || variable(source.environ, "NO_COLOR") != ""
	locale := cmp.Or(variable(source.environ, "LC_ALL"), variable(source.environ, "LC_CTYPE"), variable(source.environ, "LANG"))
	options.ASCII = !strings.Contains(strings.ReplaceAll(strings.ToUpper(locale), "-", ""), "UTF8")
	if columns := lineWidth(stdout, source.environ); columns != math.MaxInt {
		options.Columns = cmp.Or(columns, 80)
	}
	if !options.Once && !options.JSON {
		if _, ok := terminalWidth(stdout); !ok {
			return usageError{errors.New("the output is no terminal: --once prints one table, -o json objects")}
		}
		if _, ok := terminalWidth(stdin); !ok {
			return usageError{errors.New("the input is no terminal, so keys cannot be read: --once prints one table, -o json objects")}
		}
		if variable(source.environ, "TERM") == "dumb" {
			return usageError{errors.New("TERM says that this terminal can show no table that changes: --once prints one")}
		}
	}
	ends := []os.Signal{syscall.SIGTERM, os.Interrupt}
	if !signal.Ignored(syscall.SIGHUP) {
		ends = append(ends, syscall.SIGHUP)
	}
	ctx, stop := signal.NotifyContext(ctx, ends...)
	defer stop()
	signal.Ignore(syscall.SIGPIPE) // a write tells
	err = top.Run(ctx, &options.Options)
	if errors.Is(err, syscall.EPIPE) || errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// topClients are where the agent may be: where it is said to be, or else at its socket, which shows it to root and the socket's group,
// or at the addresses that it listens on.
func topClients(source *configSource, config *Config, options *topOptions) ([]*top.Client, error) {
	_, named := source.flags["web.socket"]
	if options.url != "" {
		if named {
			return nil, usageError{errors.New("flags --web.url and --web.socket: the agent is at one of them")}
		}
		client, err := top.NewURLClient(options.url, options.caFile, options.passwordFile)
		if err != nil {
			return nil, usageError{fmt.Errorf("flag --web.url: %w", err)}
		}
		return []*top.Client{client}, nil
	}
	if options.caFile != "" || options.passwordFile != "" {
		return nil, usageError{errors.New("flags --web.ca-file and --web.password-file need --web.url")}
	}
	var clients []*top.Client
	if config.Web.Socket != "" {
		clients = append(clients, top.NewSocketClient(config.Web.Socket))
	}
	if named && len(clients) > 0 {
		return clients, nil
	}
	for _, address := range config.Web.ListenAddresses {
		if path, ok := strings.CutPrefix(address, "unix:"); ok {
			clients = append(clients, top.NewSocketClient(path))
			continue
		}
		client, err := top.NewURLClient("http://"+reachable(address), "", "")
		if err != nil {
			return nil, fmt.Errorf("setting web.listen-address: %s: %w", printable(address), err)
		}
		clients = append(clients, client)
	}
	return clients, nil
}

// reachable is where one who listens on an address is reached from this host.
func reachable(address string) string {
	host, port, err := net.SplitHostPort(address)
	if ip := net.ParseIP(host); err == nil && (host == "" || ip != nil && ip.IsUnspecified()) {
		return net.JoinHostPort("localhost", port)
	}
	return address
}

// variable is one of the environment, the last if it is there twice.
func variable(environ []string, name string) (value string) {
	for _, entry := range environ {
		if text, ok := strings.CutPrefix(entry, name+"="); ok {
			value = text
		}
	}
	return value
}
