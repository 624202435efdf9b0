package series

import (
	"cmp"
	"math"
	"slices"
)

// MetricKind is what a metric measures, as far as it matters for what can be the cause of what.
type MetricKind string

const (
	KindLoad     MetricKind = "load"     // what is asked of an entity: requests, connections
	KindLatency  MetricKind = "latency"  // how long it takes: a symptom
	KindErrors   MetricKind = "errors"   // how often it fails: a symptom
	KindCPU      MetricKind = "cpu"      // use of processors
	KindMemory   MetricKind = "memory"   // use of memory
	KindDisk     MetricKind = "disk"     // use of disks
	KindNetwork  MetricKind = "network"  // delay and loss between hosts
	KindPressure MetricKind = "pressure" // waiting for a resource: stalls, throttling, locks, pools
	KindOther    MetricKind = "other"
)

// explains are the kinds whose rise follows, in the same entity, from that of another. Whoever takes memory works for it
// (allocating, collecting garbage, reclaiming, paging); work alone takes no memory. Swapping and full disks are waited for.
// So where both rose, the earlier link is the cause, and it gets the evidence of the later ones as well.
var explains = map[MetricKind][]MetricKind{
	KindMemory:  {KindCPU, KindDisk, KindPressure},
	KindCPU:     {KindPressure},
	KindDisk:    {KindPressure},
	KindNetwork: {KindPressure},
}

// kindWeights are for kinds that explain less than a resource does: a load may be the cause, but also the work that went on
// elsewhere; a symptom is what has to be explained.
var kindWeights = map[MetricKind]float64{KindLoad: 0.5, KindLatency: 0.1, KindErrors: 0.1}

const (
	// levelShare is the part of the largest level among metrics of one kind that is added to each level: growth of what is
	// small beside that is not material, however large the ratio. A service that goes from 8 to 17 MB is not a leak on a host
	// whose largest has 700 MB.
	levelShare = 0.05
	// materialGrowth is the logarithm of the growth (by half) from which one kind explains another.
	materialGrowth = 0.4
	// clearShift is the shift, in spreads of the normal time, that counts half; more has ever less to add.
	clearShift = 3
	// fallWeight is for metrics that fell: a resource that is used less is rarely to blame.
	fallWeight = 0.2
	// causeValuesMin is how many values a metric needs before and after.
	causeValuesMin = 3
)

// CauseMetric is a candidate.
type CauseMetric struct {
	Name   string
	Entity string // what it belongs to: a service, container or the host
	Kind   MetricKind
	Values []float64 // at equal steps, the same ones for all; NaN: missing
}

// Cause is the finding that a metric may be to blame, with its evidence.
type Cause struct {
	Name     string     `json:"name"`
	Entity   string     `json:"entity"`
	Kind     MetricKind `json:"kind"`
	Score    float64    `json:"score"`              // of no unit; above about 0.5 it is worth a look
	Before   float64    `json:"before"`             // median of the normal time
	After    float64    `json:"after"`              // median since
	Shift    float64    `json:"shift"`              // change in spreads of the normal time, signed
	Explains []string   `json:"explains,omitempty"` // metrics of the same entity that follow from this one
}

// RankCauses ranks metrics by how likely they are to blame for what began at row from: those that grew most, in ratio, for
// sure, beyond what the entity's load accounts for. All rows before are taken as normal. The most suspect comes first; metrics
// without enough values come last, with the score 0.
//
// Medians make it insensitive to where exactly the trouble began: a shift by a tenth of the window changes nothing.
func RankCauses(metrics []CauseMetric, from int) []Cause {
	causes := make([]Cause, len(metrics))
	spreads := make([]float64, len(metrics))
	largest := make(map[MetricKind]float64)
	for i, m := range metrics {
		c := &causes[i]
		c.Name, c.Entity, c.Kind = m.Name, m.Entity, m.Kind
		at := min(max(from, 0), len(m.Values))
		c.Before, spreads[i] = levelAndSpread(m.Values[:at])
		c.After, _ = levelAndSpread(m.Values[at:])
		if !math.IsNaN(c.Before + c.After) {
			largest[m.Kind] = max(largest[m.Kind], math.Abs(c.Before), math.Abs(c.After))
		}
	}
	growth := make([]float64, len(metrics))
	loads := make(map[string]float64) // growth of each entity's load
	for i := range causes {
		growth[i] = causes[i].growth(spreads[i], levelShare*largest[causes[i].Kind])
		if causes[i].Kind == KindLoad {
			loads[causes[i].Entity] = max(loads[causes[i].Entity], growth[i])
		}
	}
	for i := range causes {
		causes[i].score(growth[i], loads[causes[i].Entity])
	}
	explain(causes, growth)
	slices.SortStableFunc(causes, func(a, b Cause) int { return cmp.Compare(b.Score, a.Score) })
	return causes
}

// levelAndSpread returns the median and the distance between the quartiles; NaN for too few values.
func levelAndSpread(y []float64) (level, spread float64) {
	values := present(finite(y))
	if len(values) < causeValuesMin {
		return math.NaN(), math.NaN()
	}
	return median(values), quantile(values, 0.75) - quantile(values, 0.25)
}

// growth sets the shift and returns the logarithm of the ratio of the levels, both with the floor added, as far as it is
// certain; 0 where levels are missing.
func (c *Cause) growth(spread, floor float64) float64 {
	if math.IsNaN(c.Before) || math.IsNaN(c.After) {
		c.Before, c.After = zeroIfMissing(c.Before), zeroIfMissing(c.After)
		return 0
	}
	const quiet = 0.01 // of the level: less is nothing, also where the normal time has no spread at all
	if unit := spread + quiet*math.Abs(c.Before) + quiet*floor; unit > 0 {
		c.Shift = (c.After - c.Before) / unit
	}
	if floor == 0 {
		return 0
	}
	certain := math.Abs(c.Shift) / (math.Abs(c.Shift) + clearShift)
	return certain * math.Log((math.Abs(c.After)+floor)/(math.Abs(c.Before)+floor))
}

func zeroIfMissing(v float64) float64 {
	if math.IsNaN(v) {
		return 0
	}
	return v
}

// score makes a score of a metric's growth and that of the entity's load.
func (c *Cause) score(growth, load float64) {
	weight, known := kindWeights[c.Kind]
	if !known {
		weight = 1
		if growth > 0 {
			growth = max(0, growth-max(0, load))
		}
	}
	if growth < 0 {
		growth *= -fallWeight
	}
	c.Score = weight * growth
}

// explain hands the evidence of what follows from a metric to it.
func explain(causes []Cause, growth []float64) {
	own := make([]float64, len(causes))
	for i := range causes {
		own[i] = causes[i].Score
	}
	for i := range causes {
		if growth[i] < materialGrowth || own[i] == 0 {
			continue
		}
		for j := range causes {
			if causes[j].Entity == causes[i].Entity && growth[j] >= materialGrowth && slices.Contains(explains[causes[i].Kind], causes[j].Kind) {
				causes[i].Score += own[j]
				causes[i].Explains = append(causes[i].Explains, causes[j].Name)
			}
		}
	}
}
