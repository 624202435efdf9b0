package probes

import (
	"slices"
	"strings"
)

// Gap is something that a user does not see.
type Gap struct {
	What string // in a user's words
	Why  string // which hooks are missing for it, and why
}

// String returns both.
func (g Gap) String() string { return g.What + ": " + g.Why }

// Gaps returns what is not seen without the hooks that are missing, in their order. It is what run, check and the agent's
// health say.
func Gaps(hooks []Hook) []Gap {
	var gaps []Gap
	var last string // the reason given last
	for _, h := range hooks {
		if h.Attached || h.Loss == "" {
			continue
		}
		i := slices.IndexFunc(gaps, func(g Gap) bool { return g.What == h.Loss })
		switch {
		case i < 0:
			gaps = append(gaps, Gap{What: h.Loss, Why: h.Program + ": " + h.Reason})
		case i == len(gaps)-1 && h.Reason == last:
			gaps[i].Why = strings.TrimSuffix(gaps[i].Why, ": "+last) + ", " + h.Program + ": " + h.Reason
		default:
			gaps[i].Why += "; " + h.Program + ": " + h.Reason
		}
		last = h.Reason
	}
	return gaps
}
