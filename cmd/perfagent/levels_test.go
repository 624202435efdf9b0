package main

import (
	"strings"
	"testing"

	"github.com/perfagent/perfagent/internal/analytics"
)

const levelsFile = `levels:
  response-time-ms: [10, 20, 30, 40, 50]
  services:
    shop:
      throughput-rps: [5, 4, 3, 2, 1]
      routes:
        "GET /items/{id}":
          error-rate-percent: [0.01, 0.02, 0.03, 0.04, 0.05]
        /pay:
    "odd \"name\"":
      response-time-ms: [1, 2, 3, 4, 5.5]
`

// Shows that limits reach the engine, those of services and routes among them, and that their text means the same.
func TestLevels(t *testing.T) {
	config, err := loadConfig(t, levelsFile, nil, []string{"levels.error-rate-percent=1,2,3,4,5"})
	if err != nil {
		t.Fatal(err)
	}
	check := func(o analytics.LevelOptions) {
		t.Helper()
		shop := o.Services["shop"]
		if *o.LevelSet[analytics.ResponseTime] != (analytics.LevelLimits{10, 20, 30, 40, 50}) ||
			o.LevelSet[analytics.Throughput] != nil ||
			*o.LevelSet[analytics.ErrorRate] != (analytics.LevelLimits{1, 2, 3, 4, 5}) {
			t.Errorf("general: %v", o.LevelSet)
		}
		if *shop.LevelSet[analytics.Throughput] != (analytics.LevelLimits{5, 4, 3, 2, 1}) || shop.LevelSet[analytics.ResponseTime] != nil {
			t.Errorf("shop: %v", shop.LevelSet)
		}
		if l := shop.Routes["GET /items/{id}"][analytics.ErrorRate]; l == nil || l[4] != .05 {
			t.Errorf("routes: %v", shop.Routes)
		}
		if l := o.Services[`odd "name"`].LevelSet[analytics.ResponseTime]; l == nil || l[4] != 5.5 {
			t.Errorf("services: %v", o.Services)
		}
	}
	check(config.Levels.options())
	merged := withLive(defaultConfig(), config)
	check(merged.Levels.options())
	limited, err := loadConfig(t, "levels.throughput-rps: [5, 4, 3, 2, 1]", nil, nil)
	if err != nil || *limited.Levels.options().LevelSet[analytics.Throughput] != (analytics.LevelLimits{5, 4, 3, 2, 1}) {
		t.Errorf("throughput: %v, %v", limited.Levels, err)
	}
	if again := withLive(limited, config); again.Levels.options().LevelSet[analytics.Throughput] != nil {
		t.Errorf("after a reload without limits: %v", again.Levels)
	}
	if live, restart := changes(defaultConfig(), config); strings.Join(live, " ") !=
		"levels.response-time-ms levels.error-rate-percent levels.services" || restart != nil {
		t.Errorf("changes %v, %v", live, restart)
	}
}

// Shows that a mistake in the limits stops the start with file, line and key, wherever it is.
func TestLevelMistakes(t *testing.T) {
	for file, want := range map[string]string{
		"levels:\n  response-time: [1,2,3,4,5]\n":                                                   "yml:2: unknown key levels.response-time; did you mean levels.response-time-ms?",
		"levels:\n  response-time-ms: [1,2,3,4]\n":                                                  "yml:2: levels.response-time-ms: 5 limits are expected, not 4",
		"levels:\n  response-time-ms: [1,2,3,5,4]\n":                                                "levels.response-time-ms: limits must rise: 4 stands behind 5",
		"levels:\n  throughput-rps: [1,2,3,4,5]\n":                                                  "levels.throughput-rps: limits must fall: 2 stands behind 1",
		"levels:\n  error-rate-percent: [a,2,3,4,5]\n":                                              `levels.error-rate-percent: "a" is not a number`,
		"levels:\n  error-rate-percent: [-1,2,3,4,5]\n":                                             `"-1" is not a number of 0 or more`,
		"levels:\n  services: 5\n":                                                                  "yml:2: levels.services: services: keys are expected below it",
		"levels:\n  services:\n    shop:\n      colour: 1\n":                                        "yml:4: levels.services: unknown key colour: response-time-ms, throughput-rps, error-rate-percent or routes are known",
		"levels:\n  services:\n    shop:\n      routes:\n        /a:\n          x: [1]\n":           "yml:6: levels.services: unknown key x: response-time-ms, throughput-rps, error-rate-percent are known",
		"levels:\n  services:\n    shop:\n      throughput-rps: 5\n":                                "yml:4: levels.services: throughput-rps: a list of limits is expected",
		"levels:\n  services:\n    shop:\n      throughput-rps:\n        - 5\n        - x\n":        `yml:6: levels.services: throughput-rps: "x" is not a number`,
		"levels:\n  services:\n    shop:\n      throughput-rps: [1,2,3,4,5]\n":                      "yml:4: levels.services: throughput-rps: limits must fall",
		"levels:\n  services:\n    shop:\n    shop:\n":                                              "yml:4: levels.services: services: shop is already set",
		"a: &a\n  x: 1\nlevels:\n  services:\n    shop: *a\n":                                       "unknown key a",
		"levels:\n  services:\n    shop: &a\n      throughput-rps: [5,4,3,2,1]\n    other: *a\n":    "yml:5: levels.services: services: only plain keys and values",
		"levels:\n  services:\n    shop:\n      routes:\n        /a:\n          throughput-rps: {}": "yml:6: levels.services: throughput-rps: a list",
	} {
		_, err := loadConfig(t, file, nil, nil)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", file, err, want)
		}
	}
	if _, err := loadConfig(t, "", []string{"PERFAGENT_LEVELS_SERVICES={shop: {x: 1}}"}, nil); err == nil || !strings.Contains(err.Error(), "PERFAGENT_LEVELS_SERVICES: unknown key x") {
		t.Errorf("in the environment: %v", err)
	}
	if _, err := loadConfig(t, "", []string{"PERFAGENT_LEVELS_SERVICES={"}, nil); err == nil || !strings.Contains(err.Error(), "not valid YAML") {
		t.Errorf("in the environment: %v", err)
	}
}
