// Package finding draws conclusions while the agent runs: what is unusual of endpoints, targets, services and the host, since when, by
// how much, together with what, and what to do next. It consumes what each tick sealed, and the host's figures at that moment, and
// keeps a bounded past of each series; the engines are those of internal/series.
package finding

import (
	"time"

	"github.com/perfagent/perfagent/internal/series"
)

// What a finding is.
const (
	Anomaly = "anomaly" // values that the past does not let expect, from the first to the last of them
	Change  = "change"  // a level that is another one since
)

// Severities, as alerts have them.
const (
	Info     = "info"
	Warning  = "warning"
	Error    = "error"
	Critical = "critical"
)

// Subject is whom a metric is about. All of it is empty for the host as a whole.
type Subject struct {
	Role      string `json:"role,omitempty"` // server or client, of endpoints and targets
	Service   string `json:"service_name,omitempty"`
	Namespace string `json:"service_namespace,omitempty"`
	Method    string `json:"http_request_method,omitempty"`
	Route     string `json:"http_route,omitempty"`     // of a server's endpoint
	Address   string `json:"server_address,omitempty"` // of a client's target
	Port      uint16 `json:"server_port,omitempty"`
	Device    string `json:"device,omitempty"` // a disk, an interface, a mount point of the host
}

// Measure names a series.
type Measure struct {
	Metric string `json:"metric"` // of Metrics
	Subject
}

// Finding is a conclusion with its evidence. It is never changed once it was published, but replaced by one of the same ID.
type Finding struct {
	ID   string `json:"id"` // the same through restarts
	Kind string `json:"finding"`
	Measure
	Unit  string     `json:"unit"`
	Start time.Time  `json:"start"`
	End   *time.Time `json:"end,omitempty"` // of its last unusual value; nil while it is open
	began time.Time  // when its own metric became unusual, which may be after something else of it; zero: at its start
	above Subject    // of whom the figures are, where the finding is about several endpoints and none of them is of all; zero: of its subject

	Expected      float64  `json:"expected"` // at the peak; of a change: the level before
	Low           float64  `json:"low"`      // 99 of 100 values were between low and high
	High          float64  `json:"high"`
	Peak          float64  `json:"peak"` // the value farthest from what was expected; of a change: the level since
	Latest        float64  `json:"latest"`
	EffectPercent *float64 `json:"effect_percent"` // of peak against expected; null where nothing was expected
	Score         float64  `json:"score"`          // as perfagent_anomaly_score: 0 once a week by chance, 1 once in ten weeks
	Confidence    float64  `json:"confidence"`     // 0 to 1
	Severity      string   `json:"severity"`
	Requests      uint64   `json:"requests,omitempty"` // that it concerns so far; of endpoints and targets

	// Parts are the series that are unusual together, the one that leads first: of a service with several endpoints, which of them.
	Parts []Part `json:"parts,omitempty"`

	Phases []PhaseShift `json:"phases,omitempty"` // where the time went, the largest part first; of response times
	Causes []Cause      `json:"causes,omitempty"` // the likeliest first
	// Until says when a limit is reached if it goes on like this; nil: not foreseen.
	Until *Until `json:"until,omitempty"`

	Summary   string   `json:"summary"` // one sentence for people
	NextSteps []string `json:"next_steps,omitempty"`

	// Incident is the ID of the finding that leads the incident of this one; "": this one leads.
	Incident string `json:"incident,omitempty"`
	// Causing tells that this one is probably what the one that leads comes of, and was found after people were told of that.
	Causing bool `json:"causing,omitempty"`
	// Effects are the other findings of an incident, the worst first; Incidents fills them in.
	Effects []Effect `json:"effects,omitempty"`
}

// Part is one of the series that are unusual together.
type Part struct {
	Measure
	Unit     string  `json:"unit"`
	Expected float64 `json:"expected"`
	Peak     float64 `json:"peak"`
	Latest   float64 `json:"latest"`
	Score    float64 `json:"score"`
}

// PhaseShift is how much of a longer response time passes in a phase.
type PhaseShift struct {
	Phase        string  `json:"phase"` // queue, processing, transfer
	BeforeMS     float64 `json:"before_ms"`
	AfterMS      float64 `json:"after_ms"`
	SharePercent float64 `json:"share_percent"` // of the whole effect
}

// Cause is what a finding probably comes from.
type Cause struct {
	Measure
	Kind         series.MetricKind `json:"kind"`
	Unit         string            `json:"unit"`
	Before       float64           `json:"before"` // median before the finding
	After        float64           `json:"after"`  // median since
	Score        float64           `json:"score"`  // as series.Cause
	Confidence   float64           `json:"confidence"`
	Relationship string            `json:"relationship"` // self (of the same service), downstream (what it calls), host, neighbour (another service of the host)
	Correlation  *float64          `json:"correlation,omitempty"`
	Summary      string            `json:"summary"`
}

// Until is when a limit is reached.
type Until struct {
	Limit    string     `json:"limit"` // objective, memory limit, disk full, saturation
	Likely   time.Time  `json:"likely"`
	Earliest time.Time  `json:"earliest"`
	Latest   *time.Time `json:"latest,omitempty"` // nil: perhaps never
}

// Evidence is what was measured around a finding, for whoever explains it: rows at equal steps, NaN for what is missing.
type Evidence struct {
	From  time.Time     // of the first row
	Step  time.Duration //
	Start int           // row at which the finding begins
	All   []Measured    // the finding's own series among them

	Surroundings *Surroundings // nil: unknown
}

// Measured is a series of an Evidence.
type Measured struct {
	Measure
	Values []float32
}
