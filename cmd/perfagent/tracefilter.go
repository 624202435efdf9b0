package main

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/perfagent/perfagent/internal/wire"
)

// traceFilter chooses the exchanges that trace shows. The command sends it as a query, the agent applies it; the zero
// value chooses all.
type traceFilter struct {
	Slower   time.Duration // only durations of at least that; 0 means any
	Statuses []string      // 404, 5xx, aborted or timeout; one match is enough, none means any
	Services []string      // one match is enough, none means any
	Limit    int           // exchanges after which trace ends; 0 means none
}

// parseTraceFilter reads the query of GET /trace. It fails on a parameter that it does not know.
func parseTraceFilter(query url.Values) (traceFilter, error) {
	var f traceFilter
	for name, values := range query {
		var err error
		switch name {
		case "slower":
			f.Slower, err = parseSlower(values[len(values)-1])
		case "status":
			f.Statuses, err = parseStatuses(values)
		case "service":
			f.Services = values
		case "limit":
			f.Limit, err = parseLimit(values[len(values)-1])
		default:
			err = fmt.Errorf("unknown")
		}
		if err != nil {
			return traceFilter{}, fmt.Errorf("parameter %s: %w", name, err)
		}
	}
	return f, nil
}

// query returns what parseTraceFilter reads.
func (f traceFilter) query() url.Values {
	query := url.Values{}
	if f.Slower > 0 {
		query.Set("slower", f.Slower.String())
	}
	if len(f.Statuses) > 0 {
		query.Set("status", strings.Join(f.Statuses, ","))
	}
	for _, service := range f.Services {
		query.Add("service", service)
	}
	if f.Limit > 0 {
		query.Set("limit", strconv.Itoa(f.Limit))
	}
	return query
}

// match tells whether the filter chooses an exchange; Limit is the caller's.
func (f *traceFilter) match(e *wire.Exchange) bool {
	if f.Slower > 0 && e.Duration() < int64(f.Slower) {
		return false
	}
	if len(f.Services) > 0 && !slices.Contains(f.Services, e.Service) {
		return false
	}
	for _, wanted := range f.Statuses {
		if matchStatus(wanted, e) {
			return true
		}
	}
	return len(f.Statuses) == 0
}

func matchStatus(wanted string, e *wire.Exchange) bool {
	switch {
	case wanted == "aborted" || wanted == "timeout":
		return e.ErrorType == wanted
	case len(wanted) != 3 || e.Status < 100:
		return false
	case wanted[1:] == "xx":
		return uint16(wanted[0]-'0') == e.Status/100
	}
	return wanted == strconv.Itoa(int(e.Status))
}

func parseSlower(text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return 0, fmt.Errorf("%q is not a duration such as 100ms", text)
	}
	return d, nil
}

func parseLimit(text string) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("%q is not a number of exchanges", text)
	}
	return n, nil
}

// parseStatuses splits lists at commas.
func parseStatuses(texts []string) ([]string, error) {
	var statuses []string
	for _, text := range texts {
		for status := range strings.SplitSeq(text, ",") {
			status = strings.ToLower(strings.TrimSpace(status))
			class := len(status) == 3 && status[0] >= '1' && status[0] <= '5'
			code, err := strconv.Atoi(status)
			isCode := class && err == nil && code >= 100
			if !isCode && !(class && status[1:] == "xx") && status != "aborted" && status != "timeout" {
				return nil, fmt.Errorf("%q is not a status such as 404, 5xx, aborted or timeout", status)
			}
			statuses = append(statuses, status)
		}
	}
	return statuses, nil
}
