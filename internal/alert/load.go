package alert

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
)

const (
	// IntervalDefault is how often groups are evaluated that do not say it. A tick of the history is 10 s long.
	IntervalDefault = 15 * time.Second
	// intervalMin is below any use: nothing changes between two ticks.
	intervalMin = time.Second
	// RulesMax bounds the rules of all files: 5,000 take some .01 of a core.
	RulesMax = 20_000
	// mistakesMax bounds what is said of one bad file.
	mistakesMax = 10
)

// Origin says where a group comes from.
type Origin string

// Where groups come from.
const (
	OriginFile      Origin = "file"
	OriginBuiltin   Origin = "builtin"
	OriginObjective Origin = "objective"
)

// File is a rule file that was read.
type File struct {
	Name string
	Data []byte
}

// Rules are groups that were checked, for Manager.Apply. Once applied they are the Manager's.
type Rules struct {
	groups     []*group
	objectives []Objective
	files      int // that were read
	// Warnings say what of the files is probably not meant as it stands, with file and line.
	Warnings []string
}

// Len returns the number of rules.
func (r *Rules) Len() (n int) {
	for _, g := range r.groups {
		n += len(g.rules)
	}
	return n
}

// FromFiles returns how many files were read, and how many rules they have.
func (r *Rules) FromFiles() (files, rules int) {
	for _, g := range r.groups {
		if g.origin == OriginFile {
			rules += len(g.rules)
		}
	}
	return r.files, rules
}

// Parse reads rule files, in Prometheus' format, the built-in rules where b is not nil, and the rules of objectives. Its errors
// name the file and, where that is known, the line.
func Parse(files []File, b *Builtin, objectives []Objective) (*Rules, error) {
	all := &Rules{objectives: objectives, files: len(files)}
	var wrong []error
	for _, f := range files {
		groups, errs := rulefmt.Parse(f.Data, false, model.UTF8Validation, promQL(), slog.New(slog.DiscardHandler))
		if len(errs) > 0 {
			wrong = append(wrong, mistakes(f, errs))
			continue
		}
		all.checkSeverities(f, groups.Groups)
		wrong = append(wrong, all.add(f.Name, OriginFile, groups.Groups))
	}
	if b != nil {
		wrong = append(wrong, all.add(string(OriginBuiltin), OriginBuiltin, b.groups()))
	}
	if len(objectives) > 0 {
		wrong = append(wrong, all.add(string(OriginObjective), OriginObjective, objectiveGroups(objectives)))
	}
	if err := errors.Join(wrong...); err != nil {
		return nil, err
	}
	if n := all.Len(); n > RulesMax {
		return nil, fmt.Errorf("%d rules are more than the %d that are evaluated", n, RulesMax)
	}
	return all, nil
}

// Check asks about the expression of each rule, and returns what is wrong with the first that does not pass.
func (r *Rules) Check(passes func(expr string) error) error {
	for _, g := range r.groups {
		for _, made := range g.rules {
			if err := passes(made.expr); err != nil {
				return fmt.Errorf("%s: group %q: rule %q: %w", g.file, g.name, made.name, err)
			}
		}
	}
	return nil
}

func promQL() parser.Parser { return parser.NewParser(parser.Options{}) }

// add makes groups of what was read.
func (r *Rules) add(file string, origin Origin, groups []rulefmt.RuleGroup) error {
	for _, read := range groups {
		g := &group{name: read.Name, file: file, origin: origin, interval: time.Duration(read.Interval), limit: read.Limit}
		if g.interval == 0 {
			g.interval = IntervalDefault
		}
		if g.interval < intervalMin {
			return fmt.Errorf("%s: group %q: the interval %s is below %s", file, g.name, g.interval, intervalMin)
		}
		if read.QueryOffset != nil {
			g.offset = time.Duration(*read.QueryOffset)
		}
		alike := map[string]int{}
		for i := range read.Rules {
			made, err := newRule(read.Rules[i], maps.Clone(read.Labels), promQL())
			if err != nil {
				return fmt.Errorf("%s: group %q: %w", file, g.name, err)
			}
			made.interval, made.nth = g.interval, alike[made.key()]
			alike[made.key()]++
			g.rules = append(g.rules, made)
		}
		r.groups = append(r.groups, g)
	}
	return nil
}

var (
	position = regexp.MustCompile(`^(\d+):\d+: (?:\d+:\d+: )?`)
	yamlLine = regexp.MustCompile(`line (\d+): `)
)

// mistakes gives what is wrong with a file the form of other errors of this program: FILE:LINE: what.
func mistakes(f File, errs []error) error {
	var all []error
	for _, err := range errs {
		for text := range strings.Lines(strings.TrimPrefix(err.Error(), "yaml: unmarshal errors:\n")) {
			text = strings.TrimSpace(strings.TrimPrefix(text, "yaml: "))
			line := ""
			if m := position.FindStringSubmatch(text); m != nil {
				line, text = strings.TrimLeft(m[1], "0"), text[len(m[0]):] // 0 is none
			} else if m := yamlLine.FindStringSubmatch(text); m != nil {
				line, text = m[1], strings.Replace(text, m[0], "", 1)
			} else {
				line = lineOf(f.Data, err)
			}
			if line != "" {
				line = ":" + line
			}
			all = append(all, fmt.Errorf("%s%s: %s", f.Name, line, text))
		}
	}
	if more := len(all) - mistakesMax; more > 0 {
		all = append(all[:mistakesMax], fmt.Errorf("%s: and %d more", f.Name, more))
	}
	return errors.Join(all...)
}

// lineOf finds the rule of an error that has no line: the first one of its name. "" where there is none.
func lineOf(data []byte, err error) string {
	var of *rulefmt.Error
	if !errors.As(err, &of) || of.RuleName == "" {
		return ""
	}
	n := 0
	for line := range bytes.Lines(data) {
		n++
		key, name, _ := bytes.Cut(bytes.TrimLeft(line, " -\t"), []byte(":"))
		if (string(key) == "alert" || string(key) == "record") && strings.Trim(string(bytes.TrimSpace(name)), `"'`) == of.RuleName {
			return fmt.Sprint(n)
		}
	}
	return ""
}

// ParseMatchers makes a filter of series selectors, as the API has them: a set of labels passes that any of them chooses. Without
// selectors all pass.
func ParseMatchers(selectors []string) (passes func(set map[string]string) bool, err error) {
	sets, err := promQL().ParseMetricSelectors(selectors)
	if err != nil {
		return nil, err
	}
	for _, set := range sets {
		if !slices.ContainsFunc(set, func(m *labels.Matcher) bool { return !m.Matches("") }) {
			return nil, errors.New("match[] must contain at least one non-empty matcher")
		}
	}
	return func(all map[string]string) bool {
		return len(sets) == 0 || slices.ContainsFunc(sets, func(set []*labels.Matcher) bool {
			return !slices.ContainsFunc(set, func(m *labels.Matcher) bool { return !m.Matches(all[m.Name]) })
		})
	}, nil
}
