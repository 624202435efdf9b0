package export

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// EventLogState is what the event log says of itself.
type EventLogState struct {
	Writable  bool
	Lines     map[string]uint64 // by kind
	Dropped   map[string]uint64 // by reason
	Rotations uint64
}

// RedisState is what the publisher to Redis says of itself.
type RedisState struct {
	Up        bool
	Published map[string]uint64 // rounds, by how they ended
	Alerts    map[string]uint64 // by what became of them
}

// Recovery is how often a part of the agent failed and came back.
type Recovery struct {
	Part  string
	Down  bool      // it is away now
	Since time.Time // when it failed; zero: it works
	Count uint64    // times that it came back
	Last  time.Time // when it did the last time; zero: never
	// AwaySeconds is how long it was away in all, up to now.
	AwaySeconds float64
}

// PartsState tells the state of parts that the agent can do without for a while. A nil function, and a nil result: there is no such
// part.
type PartsState struct {
	EventLog   func() *EventLogState
	Redis      func() *RedisState
	Recoveries func() []Recovery
}

var (
	descEventLogWritable = describe("perfagent_event_log_writable", "Whether the event log can be written; 0: its lines are dropped.")
	descEventLogLines    = describe("perfagent_event_log_lines_total", "Lines written to the event log.", "kind")
	descEventLogDropped  = describe("perfagent_event_log_dropped_total",
		"Lines that are not in the event log: it could not keep up (queue_full), it could not be written (write), or they were no objects (invalid).", "reason")
	descEventLogRotations = describe("perfagent_event_log_rotations_total", "Times that the event log began another file.")
	descRedisUp           = describe("perfagent_redis_up", "Whether the last attempt to publish to Redis succeeded.")
	descRedisRounds       = describe("perfagent_redis_publications_total", "Attempts to publish to Redis, by how they ended.", "result")
	descRedisAlerts       = describe("perfagent_redis_alerts_total", "Alerts for the stream in Redis, by what became of them.", "result")
	descRecoveries        = describe("perfagent_recoveries_total", "Times that a part of the agent came back after it had failed.", "part")
	descPartUp            = describe("perfagent_part_up", "Whether a part of the agent works; 0: it failed and is tried again.", "part")
	descPartAway          = describe("perfagent_part_away_seconds_total", "How long a part of the agent was away after it had failed.", "part")
)

// partsCollector exports PartsState.
type partsCollector struct{ PartsState }

// Describe implements prometheus.Collector; see Collector.Describe.
func (c partsCollector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c partsCollector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, labels...)
	}
	each := func(d *prometheus.Desc, counts map[string]uint64) {
		for label, n := range counts {
			counter(d, float64(n), label)
		}
	}
	if s := call(c.EventLog); s != nil {
		gauge(descEventLogWritable, oneIf(s.Writable))
		counter(descEventLogRotations, float64(s.Rotations))
		each(descEventLogLines, s.Lines)
		each(descEventLogDropped, s.Dropped)
	}
	if s := call(c.Redis); s != nil {
		gauge(descRedisUp, oneIf(s.Up))
		each(descRedisRounds, s.Published)
		each(descRedisAlerts, s.Alerts)
	}
	if c.Recoveries == nil {
		return
	}
	for _, r := range c.Recoveries() {
		gauge(descPartUp, oneIf(!r.Down), r.Part)
		counter(descRecoveries, float64(r.Count), r.Part)
		counter(descPartAway, r.AwaySeconds, r.Part)
	}
}

// call returns what a function says that may be nil.
func call[T any](f func() *T) *T {
	if f == nil {
		return nil
	}
	return f()
}
