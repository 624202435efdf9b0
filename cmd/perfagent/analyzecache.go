package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/perfagent/perfagent/internal/cache"
)

// cacheShares are the sizes for which nothing was said, in parts of the different keys.
var cacheShares = []float64{0.001, 0.01, 0.05, 0.1, 0.2, 0.4}

// cacheLifetimes are the lifetimes in requests for which nothing was said.
var cacheLifetimes = []int{100, 1000, 10_000, 100_000}

// lifetimePrefix marks a lifetime among policies: ttl:1000.
const lifetimePrefix = "ttl:"

func newAnalyzeCacheCommand() *cobra.Command {
	limits := cache.Limits{}
	command := &cobra.Command{
		Use:   "cache [POLICIES [SIZES]]",
		Short: "Tell which share of requests a cache would answer, by policy and size",
		Long: "Reads a request a line, in their order: the first field is the key, such as a URL. Prints for\n" +
			"policies (" + strings.Join(cache.Policies, ",") + ") and sizes in keys\n" +
			"which share of the requests would be hits; \"ttl:1000\" is an unbounded cache whose entries live\n" +
			"for 1000 requests. With more keys or requests than the limits it simulates on a sample.",
		Example: "  awk '$6 ~ /GET/ { print $7 }' access.log | perfagent analyze cache\n" +
			"  perfagent analyze cache lru,s3fifo,ttl:5000 1000,10000 < keys.txt",
		Args: cobra.MaximumNArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			policies, sizes, err := cacheArguments(args)
			if err == nil && (limits.Keys < 0 || limits.Requests < 0) {
				err = errors.New("--keys and --requests cannot be negative")
			}
			if err != nil {
				return usageError{err}
			}
			return analyzeCache(c.InOrStdin(), c.OutOrStdout(), limits, policies, sizes)
		},
	}
	command.Flags().IntVar(&limits.Keys, "keys", cache.KeysDefault, "most different keys to simulate")
	command.Flags().IntVar(&limits.Requests, "requests", cache.RequestsDefault, "most requests to simulate")
	return command
}

// cacheArguments reads POLICIES and SIZES; nil for those that are not given.
func cacheArguments(args []string) (policies []string, sizes []int, err error) {
	if len(args) > 0 {
		policies = strings.Split(args[0], ",")
	}
	for _, p := range policies {
		if lifetime, ok := strings.CutPrefix(p, lifetimePrefix); ok {
			if n, err := strconv.Atoi(lifetime); err != nil || n < 1 {
				return nil, nil, fmt.Errorf("POLICIES: %q is not a lifetime in requests", p)
			}
		} else if !slices.Contains(cache.Policies, p) {
			return nil, nil, fmt.Errorf("POLICIES: %q is not one of %s, ttl:N", p, strings.Join(cache.Policies, ", "))
		}
	}
	if len(args) > 1 {
		for _, s := range strings.Split(args[1], ",") {
			size, err := strconv.Atoi(s)
			if err != nil || size < 1 || size > 1<<30 {
				return nil, nil, fmt.Errorf("SIZES: %q is not a number of keys", s)
			}
			sizes = append(sizes, size)
		}
	}
	return policies, sizes, nil
}

// analyzeCache implements `analyze cache`.
func analyzeCache(r io.Reader, w io.Writer, limits cache.Limits, policies []string, sizes []int) error {
	in := inputOf(r)
	requests := cache.NewRequests(limits)
	for {
		line, err := readLine(in)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return fmt.Errorf("read requests: %w", err)
		}
		if fields := bytes.Fields(line); len(fields) > 0 {
			requests.Add(fields[0])
		}
	}
	if requests.Seen() == 0 {
		return errors.New("there is no request on standard input")
	}
	out := bufio.NewWriter(w)
	var err error
	if sizes == nil {
		err = writeCacheTable(out, requests, policies)
	} else {
		err = writeCacheLines(out, requests, policies, sizes)
	}
	return errors.Join(err, out.Flush())
}

// writeCacheLines writes "policy size ratio" for each; a lifetime has no size.
func writeCacheLines(w io.Writer, requests *cache.Requests, policies []string, sizes []int) error {
	for _, p := range policies {
		if lifetime, ok := strings.CutPrefix(p, lifetimePrefix); ok {
			n, _ := strconv.Atoi(lifetime)
			fmt.Fprintf(w, "%s 0 %.5f\n", p, requests.Lifetime(n))
			continue
		}
		ratios, err := requests.HitRatios(p, sizes)
		if err != nil {
			return err
		}
		for i, size := range sizes {
			fmt.Fprintf(w, "%s %d %.5f\n", p, size, ratios[i])
		}
	}
	return nil
}

// writeCacheTable writes percentages of hits for people: a row for each size, a column for each policy.
func writeCacheTable(w io.Writer, requests *cache.Requests, policies []string) error {
	var lifetimes []int
	if policies == nil {
		policies, lifetimes = cache.Policies, cacheLifetimes
	}
	how := "exact"
	if rate := requests.Rate(); rate < 1 {
		how = fmt.Sprintf("estimated from %.2g %% of the keys", 100*rate)
	}
	keys := requests.Keys()
	fmt.Fprintf(w, "hits of %d requests for %d keys, in percent (%s)\n", requests.Seen(), keys, how)
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(table, "keys in cache\t")
	var sizes []int
	for _, share := range cacheShares {
		if size := max(10, int(share*float64(keys))); size <= keys && !slices.Contains(sizes, size) {
			sizes = append(sizes, size)
		}
	}
	columns := make([][]float64, 0, len(policies))
	for _, p := range policies {
		if lifetime, ok := strings.CutPrefix(p, lifetimePrefix); ok {
			n, _ := strconv.Atoi(lifetime)
			lifetimes = append(lifetimes, n)
			continue
		}
		ratios, err := requests.HitRatios(p, sizes)
		if err != nil {
			return err
		}
		columns = append(columns, ratios)
		fmt.Fprintf(table, "%s\t", p)
	}
	fmt.Fprintln(table)
	for i, size := range sizes {
		fmt.Fprintf(table, "%d\t", size)
		for _, ratios := range columns {
			fmt.Fprintf(table, "%.1f\t", 100*ratios[i])
		}
		fmt.Fprintln(table)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	for _, n := range lifetimes {
		if uint64(n) < requests.Seen() {
			fmt.Fprintf(w, "without a bound, entries that live for %d requests: %.1f\n", n, 100*requests.Lifetime(n))
		}
	}
	return nil
}
