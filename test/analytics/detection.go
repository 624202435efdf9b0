package main

import (
	"math"
	"math/rand/v2"

	"github.com/perfagent/perfagent/internal/series"
)

// detectionRuns are of anomalies and changes. NAB's scorer also compares the scores of cut series: it ends with an error where a
// detector looks ahead.
var detectionRuns = []run{
	{
		what: "anomalies, NAB", scorer: "nab_score.py", engine: "anomalies",
		figures: []figure{
			{"standard", []string{"profiles", "standard", "score"}, atLeast(68), atLeast(75)},
			{"few false alarms", []string{"profiles", "reward_low_FP_rate", "score"}, atLeast(60), atLeast(67)},
			{"few missed", []string{"profiles", "reward_low_FN_rate", "score"}, atLeast(73), atLeast(80.5)},
		},
	},
	{
		what: "anomalies, KPI", scorer: "kpi_score.py", engine: "anomalies",
		figures: []figure{
			{"F1 of events", []string{"EvF1"}, atLeast(0.55), atLeast(0.65)},
			{"F1 of points, threshold of the training half", []string{"F1d_train_threshold"}, atLeast(0.80), atLeast(0.85)},
			{"false alarms a series and day", []string{"false_alarms_per_series_day"}, nil, atMost(0.2)},
		},
	},
	{
		what: "anomalies, null data", own: falseAlarms,
		figures: []figure{
			{"normal, of wanted", []string{"normal"}, between(0.5, 2), between(0.77, 1.3)},
			{"exponential, of wanted", []string{"exponential"}, between(0.5, 2), between(0.77, 1.3)},
			{"lognormal, of wanted", []string{"lognormal"}, between(0.5, 2), between(0.77, 1.3)},
			{"AR(1) 0.9, of wanted", []string{"drifting"}, between(0.5, 2), between(0.77, 1.3)},
			{"day's rhythm, of wanted", []string{"daily"}, between(0.5, 2), between(0.77, 1.3)},
			{"Student's t(3), of wanted", []string{"heavy"}, between(0.5, 2), between(0.77, 1.3)},
		},
	},
	{
		what: "changes", scorer: "cp_score.py", engine: "changepoints",
		figures: []figure{
			{"F1", []string{"summary", "F1"}, atLeast(0.70), atLeast(0.76)},
			{"Cover", []string{"summary", "cover"}, atLeast(0.66), atLeast(0.70)},
			{"F1, quality controls", []string{"summary", "F1_qc"}, nil, atLeast(1)},
		},
	},
}

// falseAlarms counts alarms where nothing happens, in parts of the number asked for: 30 series of 10 weeks of minutes for each kind
// of noise, and one alarm wanted a week, so that a count is of about 300 and is off by 6 % by chance.
func falseAlarms() map[string]any {
	const seriesOf, weeks, wanted = 30, 10, 1
	measured := make(map[string]any)
	for name, draw := range nullData {
		alarms := 0
		for seed := range uint64(seriesOf) {
			r := rand.New(rand.NewPCG(seed, 11))
			d := series.NewAnomalies(series.AnomalyOptions{Sensitivity: wanted})
			v := 0.0
			for i := range weeks * 7 * 1440 {
				v = draw(r, i, v)
				if d.Add(int64(i)*60, v).Alarm {
					alarms++
				}
			}
		}
		measured[name] = float64(alarms) / (seriesOf * weeks * wanted)
	}
	return measured
}

// nullData is noise: the value of a minute, from the one before where it depends on it.
var nullData = map[string]func(r *rand.Rand, minute int, before float64) float64{
	"normal":      func(r *rand.Rand, _ int, _ float64) float64 { return r.NormFloat64() },
	"exponential": func(r *rand.Rand, _ int, _ float64) float64 { return r.ExpFloat64() },
	"lognormal":   func(r *rand.Rand, _ int, _ float64) float64 { return math.Exp(r.NormFloat64()) },
	"drifting":    func(r *rand.Rand, _ int, before float64) float64 { return 0.9*before + r.NormFloat64() },
	"daily": func(r *rand.Rand, minute int, _ float64) float64 {
		return 5*math.Sin(2*math.Pi*float64(minute)/1440) + r.NormFloat64()
	},
	"heavy": func(r *rand.Rand, _ int, _ float64) float64 {
		a, b, c := r.NormFloat64(), r.NormFloat64(), r.NormFloat64()
		return r.NormFloat64() / math.Sqrt((a*a+b*b+c*c)/3)
	},
}
