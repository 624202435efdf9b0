package series

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// ProbabilityText writes a p-value as far as anybody can know it.
func ProbabilityText(p float64) string {
	if p < 1e-6 {
		return "p < 1e-6"
	}
	return fmt.Sprintf("p = %.2g", p)
}

// NumberText writes a number with three significant digits, never with an exponent that people would have to read.
func NumberText(v float64) string {
	a := math.Abs(v)
	switch {
	case a == 0:
		return "0"
	case a < 1e-6 || a >= 1e15:
		return strconv.FormatFloat(v, 'g', 3, 64)
	}
	decimals := max(0, 2-int(math.Floor(math.Log10(a))))
	text := strconv.FormatFloat(v, 'f', decimals, 64)
	if strings.Contains(text, ".") {
		text = strings.TrimRight(strings.TrimRight(text, "0"), ".")
	}
	return text
}

// SpanText writes a duration as people say it: in its largest unit where that is whole, or in two.
func SpanText(d time.Duration) string {
	units := []struct {
		length time.Duration
		name   string
	}{{24 * time.Hour, "day"}, {time.Hour, "hour"}, {time.Minute, "minute"}, {time.Second, "second"}}
	d = d.Round(time.Second)
	var parts []string
	for _, u := range units {
		n := d / u.length
		d -= n * u.length
		if n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s%s", n, u.name, map[bool]string{true: "s"}[n > 1]))
		}
	}
	if len(parts) == 0 {
		return "0 seconds"
	}
	return strings.Join(parts[:min(len(parts), 2)], " and ")
}
