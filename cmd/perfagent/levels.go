package main

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/perfagent/perfagent/internal/analytics"
)

// LevelsConfig is by which limits levels are judged: analytics.LevelLimits, from the best to the worst.
type LevelsConfig struct {
	ResponseTimeMS   []float64
	ThroughputRPS    []float64 // empty: throughput has no level
	ErrorRatePercent []float64

	// Services are the limits of services and routes that have their own. In the file:
	//
	//	levels:
	//	  services:
	//	    shop:
	//	      response-time-ms: [50, 100, 200, 500, 1000]
	//	      routes:
	//	        "GET /items/{id}":             # or /items/{id} for any method
	//	          error-rate-percent: [0.1, 0.5, 1, 2, 5]
	Services map[string]analytics.ServiceLevels
}

func defaultLevels() LevelsConfig {
	return LevelsConfig{
		ResponseTimeMS:   slices.Clone(analytics.ResponseTimeLimits[:]),
		ErrorRatePercent: slices.Clone(analytics.ErrorRateLimits[:]),
	}
}

// options returns the limits as the engine takes them.
func (c *LevelsConfig) options() analytics.LevelOptions {
	limits := func(v []float64) *analytics.LevelLimits {
		if len(v) == 0 {
			return nil
		}
		return (*analytics.LevelLimits)(slices.Clone(v))
	}
	return analytics.LevelOptions{
		LevelSet: analytics.LevelSet{
			analytics.ResponseTime: limits(c.ResponseTimeMS),
			analytics.Throughput:   limits(c.ThroughputRPS),
			analytics.ErrorRate:    limits(c.ErrorRatePercent),
		},
		Services: c.Services,
	}
}

// direction is the order of an aspect's limits.
type direction int

const (
	rising direction = iota
	falling
	risingPercent // rising, and no limit above 100
)

// aspectKeys name the aspects in the file, with the direction of their limits.
var aspectKeys = [analytics.Aspects]struct {
	key string
	direction
}{
	analytics.ResponseTime: {"response-time-ms", rising},
	analytics.Throughput:   {"throughput-rps", falling},
	analytics.ErrorRate:    {"error-rate-percent", risingPercent},
}

func parseLimit(s string) (float64, error) {
	v, err := strconv.ParseFloat(s, 64)
	if err != nil || math.IsNaN(v) || math.IsInf(v, 0) || v < 0 {
		return 0, fmt.Errorf("%q is not a number of 0 or more", s)
	}
	return v, nil
}

// check reports what is wrong with an aspect's limits.
func (d direction) check(limits []float64) error {
	if most := len(analytics.LevelLimits{}); len(limits) != most {
		return fmt.Errorf("%d limits are expected, not %d", most, len(limits))
	}
	for i := 1; i < len(limits); i++ {
		if d != falling && limits[i] <= limits[i-1] || d == falling && limits[i] >= limits[i-1] {
			return fmt.Errorf("limits must %s: %s stands behind %s", map[bool]string{false: "rise", true: "fall"}[d == falling],
				number64(limits[i]), number64(limits[i-1]))
		}
	}
	if last := limits[len(limits)-1]; d == risingPercent && last > 100 {
		return fmt.Errorf("%s is more than 100 %%", number64(last))
	}
	return nil
}

func number64(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }

// limitsValue is the value of an aspect's general limits: a list that is checked as a whole.
type limitsValue struct {
	*field[float64]
	to *[]float64
	direction
}

func levelLimits(to *[]float64, d direction) *limitsValue {
	return &limitsValue{list(to, parseLimit, "limits", ","), to, d}
}

// set implements value.
func (v *limitsValue) set(texts []string) error {
	if v.direction == falling && strings.Join(texts, "") == "" {
		*v.to = nil // the default of the throughput: no level
		return nil
	}
	before := *v.to
	if err := v.field.set(texts); err != nil {
		return err
	}
	if err := v.check(*v.to); err != nil {
		*v.to = before
		return err
	}
	return nil
}

// serviceLevels is the value of levels.services. As text, for flags and variables, it is YAML in one line.
type serviceLevels struct {
	to *map[string]analytics.ServiceLevels
}

func (v *serviceLevels) kind() string               { return "YAML" }
func (v *serviceLevels) isList() bool               { return false }
func (v *serviceLevels) choices() []string          { return nil }
func (v *serviceLevels) split(text string) []string { return []string{text} }
func (v *serviceLevels) texts() []string            { return []string{v.String()} }

func (v *serviceLevels) set(texts []string) error {
	node, err := contentOf(texts)
	if err == nil && node == nil {
		*v.to = nil
		return nil
	}
	if err == nil {
		_, err = v.setNode(node)
	}
	return err
}

func (v *serviceLevels) setNode(node *yaml.Node) (*yaml.Node, error) {
	all := map[string]analytics.ServiceLevels{}
	at, err := eachKey(node, "services", func(service string, value *yaml.Node) (*yaml.Node, error) {
		levels, at, err := readService(service, value)
		all[service] = levels
		return at, err
	})
	if err != nil {
		return at, err
	}
	if len(all) == 0 {
		all = nil
	}
	*v.to = all
	return nil, nil
}

// readService reads a service's limits and those of its routes.
func readService(name string, node *yaml.Node) (levels analytics.ServiceLevels, at *yaml.Node, err error) {
	at, err = eachKey(node, name, func(key string, value *yaml.Node) (*yaml.Node, error) {
		if key != "routes" {
			return setAspect(&levels.LevelSet, key, value, " or routes")
		}
		levels.Routes = map[string]analytics.LevelSet{}
		return eachKey(value, "routes", func(route string, value *yaml.Node) (*yaml.Node, error) {
			set, at, err := readRoute(route, value)
			levels.Routes[route] = set
			return at, err
		})
	})
	return levels, at, err
}

func readRoute(name string, node *yaml.Node) (set analytics.LevelSet, at *yaml.Node, err error) {
	at, err = eachKey(node, name, func(key string, value *yaml.Node) (*yaml.Node, error) {
		return setAspect(&set, key, value, "")
	})
	return set, at, err
}

// eachKey calls f for the keys of a mapping; nothing at all is an empty one. Both return where a mistake is.
func eachKey(node *yaml.Node, name string, f func(key string, value *yaml.Node) (*yaml.Node, error)) (*yaml.Node, error) {
	switch {
	case node.Kind == yaml.ScalarNode && node.Tag == "!!null":
		return nil, nil
	case node.Kind != yaml.MappingNode:
		return node, fmt.Errorf("%s: keys are expected below it", name)
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		switch {
		case key.Kind != yaml.ScalarNode || key.Value == "<<" || value.Kind == yaml.AliasNode:
			return key, fmt.Errorf("%s: only plain keys and values are understood", name)
		case seen[key.Value]:
			return key, fmt.Errorf("%s: %s is already set", name, key.Value)
		}
		seen[key.Value] = true
		if at, err := f(key.Value, value); err != nil {
			if at == nil {
				at = key
			}
			return at, err
		}
	}
	return nil, nil
}

// setAspect sets one aspect's limits; also says what other keys there are, in an error.
func setAspect(set *analytics.LevelSet, key string, value *yaml.Node, also string) (*yaml.Node, error) {
	var names []string
	for a, aspect := range aspectKeys {
		names = append(names, aspect.key)
		if aspect.key != key {
			continue
		}
		if value.Kind != yaml.SequenceNode {
			return value, fmt.Errorf("%s: a list of limits is expected", key)
		}
		var limits []float64
		for _, element := range value.Content {
			limit, err := parseLimit(element.Value)
			if err != nil || element.Kind != yaml.ScalarNode {
				return element, fmt.Errorf("%s: %q is not a number of 0 or more", key, element.Value)
			}
			limits = append(limits, limit)
		}
		if err := aspect.check(limits); err != nil {
			return value, fmt.Errorf("%s: %w", key, err)
		}
		set[a] = (*analytics.LevelLimits)(limits)
		return nil, nil
	}
	return nil, fmt.Errorf("unknown key %s: %s%s are known", key, strings.Join(names, ", "), also)
}

// String writes the limits as YAML in one line, the same for the same limits.
func (v *serviceLevels) String() string {
	if len(*v.to) == 0 {
		return ""
	}
	var services []string
	for _, name := range slices.Sorted(maps.Keys(*v.to)) {
		levels := (*v.to)[name]
		parts := aspectTexts(levels.LevelSet)
		if levels.Routes != nil {
			var routes []string
			for _, route := range slices.Sorted(maps.Keys(levels.Routes)) {
				routes = append(routes, strconv.Quote(route)+": {"+strings.Join(aspectTexts(levels.Routes[route]), ", ")+"}")
			}
			parts = append(parts, "routes: {"+strings.Join(routes, ", ")+"}")
		}
		services = append(services, strconv.Quote(name)+": {"+strings.Join(parts, ", ")+"}")
	}
	return "{" + strings.Join(services, ", ") + "}"
}

func aspectTexts(set analytics.LevelSet) (texts []string) {
	for a, limits := range set {
		if limits == nil {
			continue
		}
		var numbers []string
		for _, limit := range limits {
			numbers = append(numbers, number64(limit))
		}
		texts = append(texts, aspectKeys[a].key+": ["+strings.Join(numbers, ", ")+"]")
	}
	return texts
}
