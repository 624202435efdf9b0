package report

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

const day = 24 * time.Hour

const (
	// RangeMin is what conclusions need at least, RangeMax more than any history has.
	RangeMin = 10 * time.Minute
	RangeMax = 400 * day
	// spanMax is longer than any range, and short enough for a time.Duration.
	spanMax = 100 * 365 * day
	// LastDefault is the range where nobody names one.
	LastDefault = "24h"
)

// Ranges are the names of ranges: the last full hour, day and week (from Monday on), in UTC.
var Ranges = []string{"hourly", "daily", "weekly"}

// Span is the time that a report is about.
type Span struct {
	From, To time.Time
	Step     time.Duration // both ends are multiples of it
}

// Wanted says in words which time is meant. At most one of Range, Last and From may be set.
type Wanted struct {
	Range    string // one of Ranges
	Last     string // such as 6h or 7d, until now
	From, To string // RFC 3339, seconds since 1970, now, or now-6h; To without From is an error
}

// Span finds the time.
func (w Wanted) Span(now time.Time) (Span, error) {
	now = now.UTC()
	given := 0
	for _, text := range []string{w.Range, w.Last, w.From} {
		if text != "" {
			given++
		}
	}
	switch {
	case given > 1:
		return Span{}, errors.New("range, last and from exclude each other")
	case w.To != "" && w.From == "":
		return Span{}, errors.New("to needs from")
	case w.Range != "":
		to, length, err := lastFull(w.Range, now)
		return Span{to.Add(-length), to, stepOf(length)}, err
	case w.From != "":
		return w.between(now)
	}
	last := w.Last
	if last == "" {
		last = LastDefault
	}
	length, err := parseLength(last)
	if err != nil {
		return Span{}, fmt.Errorf("last: %w", err)
	}
	return aligned(now.Add(-length), now)
}

func (w Wanted) between(now time.Time) (Span, error) {
	from, err := parseMoment(w.From, now)
	if err != nil {
		return Span{}, fmt.Errorf("from: %w", err)
	}
	to := now
	if w.To != "" {
		if to, err = parseMoment(w.To, now); err != nil {
			return Span{}, fmt.Errorf("to: %w", err)
		}
	}
	if to.After(now) {
		to = now
	}
	return aligned(from, to)
}

// lastFull is the end of the last full hour, day or week, and its length.
func lastFull(name string, now time.Time) (end time.Time, length time.Duration, err error) {
	midnight := now.UTC().Truncate(day) // Go's zero time is a midnight in UTC
	switch name {
	case "hourly":
		return now.UTC().Truncate(time.Hour), time.Hour, nil
	case "daily":
		return midnight, day, nil
	case "weekly":
		return midnight.AddDate(0, 0, -(int(midnight.Weekday())+6)%7), 7 * day, nil
	}
	return now, 0, fmt.Errorf("%q is not one of %s", name, strings.Join(Ranges, ", "))
}

// aligned floors both ends, so that steps hold whole intervals of the history.
func aligned(from, to time.Time) (Span, error) {
	length := to.Sub(from)
	if length < RangeMin || length > RangeMax {
		return Span{}, fmt.Errorf("a range of %s is not between 10 minutes and 400 days", length.Round(time.Second))
	}
	step := stepOf(length)
	return Span{from.UTC().Truncate(step), to.UTC().Truncate(step), step}, nil
}

// stepOf is the length of steps in which it is looked at what the agent counted: minutes within a day, hours from two days on, where the
// history's minutes would be too much to read.
func stepOf(length time.Duration) time.Duration {
	switch {
	case length <= day:
		return time.Minute
	case length < 2*day:
		return 2 * time.Minute
	case length <= 60*day:
		return time.Hour
	}
	return 6 * time.Hour
}

// parseLength reads 90m, 6h, 7d, 2w.
func parseLength(text string) (time.Duration, error) {
	for suffix, unit := range map[string]time.Duration{"d": day, "w": 7 * day} {
		if digits, found := strings.CutSuffix(text, suffix); found {
			if n, err := strconv.ParseUint(digits, 10, 16); err == nil && n <= uint64(spanMax/unit) {
				return time.Duration(n) * unit, nil
			}
		}
	}
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 {
		return 0, fmt.Errorf("%q is not a time such as 90m, 6h or 7d", text)
	}
	return d, nil
}

func parseMoment(text string, now time.Time) (time.Time, error) {
	if text == "now" {
		return now, nil
	}
	if ago, found := strings.CutPrefix(text, "now-"); found {
		d, err := parseLength(ago)
		return now.Add(-d), err
	}
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t.UTC(), nil
	}
	if s, err := strconv.ParseUint(text, 10, 40); err == nil {
		return time.Unix(int64(s), 0).UTC(), nil
	}
	return now, fmt.Errorf("%q is not a time such as 2026-03-01T12:00:00Z, now or now-6h", text)
}
