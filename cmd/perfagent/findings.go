package main

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/perfagent/perfagent/internal/analytics"
	"github.com/perfagent/perfagent/internal/eventlog"
	"github.com/perfagent/perfagent/internal/export"
	"github.com/perfagent/perfagent/internal/finding"
)

// AnomaliesConfig is what of the unusual is found.
type AnomaliesConfig struct {
	Mode        string  // on, off
	Sensitivity float64 // false alarms wanted per series and week
}

const (
	anomaliesOff = "off"
	// sensitivityMin is one false alarm in twenty years of a series, sensitivityMax seven a day: beyond it everything would be one.
	sensitivityMin, sensitivityMax = 0.001, 50
	// findingsFile keeps what the detector has learned, below the storage path.
	findingsFile = "findings.state"
	// findingsPastFile keeps findings that ended, beside it.
	findingsPastFile = "findings.jsonl"
	// scoresMax bounds the series of perfagent_anomaly_score.
	scoresMax = 200
	// saturationTicks is how often the saturation of services is looked at: it is of a quarter of an hour.
	saturationTicks = 6
	// saturationWindow is the window that is asked for it.
	saturationWindow = 5 * time.Minute
)

func parseSensitivity(s string) (float64, error) {
	v, err := strconv.ParseFloat(s, 64)
	if err != nil || math.IsNaN(v) || v < sensitivityMin || v > sensitivityMax {
		return 0, fmt.Errorf("%q is not a number between %s and %d", s, number64(sensitivityMin), sensitivityMax)
	}
	return v, nil
}

// openFindings has the detector of anomalies take every tick; there is none where it is switched off, or where nobody can ask for it.
func (a *agent) openFindings(config *Config) {
	if config.Anomalies.Mode == anomaliesOff || !a.exports() {
		return
	}
	o := finding.Options{Sensitivity: config.Anomalies.Sensitivity, Explain: a.explainer(config).Explain, Serves: a.servesAt, OnFinding: a.tellFinding, Log: a.log}
	if a.state.path != "" {
		o.File = filepath.Join(a.state.path, findingsFile)
		o.Past = filepath.Join(a.state.path, findingsPastFile)
	}
	e := finding.New(o)
	a.findings.Store(e)
	a.markExchanges(e)
	w := witnessReadings{}
	a.engine.OnSeal(func(s *analytics.Seal) {
		readings := w.read(a.hostStats(), s.To)
		if s.Tick%saturationTicks == 0 {
			readings = append(readings, a.saturations()...)
		}
		e.Offer(s, a.sampler.Latest(), readings)
	})
}

func (a *agent) runFindings(ctx context.Context) {
	if e := a.findings.Load(); e != nil {
		e.Run(ctx)
	}
}

// findingEvent is a line of the event log.
type findingEvent struct {
	Event finding.Event `json:"event"` // opened, changed, ended
	*finding.Finding
}

// tellFinding writes what happened to a finding to the event log.
func (a *agent) tellFinding(event finding.Event, f *finding.Finding) {
	if event == finding.Opened {
		a.findingsOpened.Add(1)
	}
	a.events.Write(eventlog.KindFinding, time.Now().Round(time.Millisecond), findingEvent{event, f})
}

// saturations are how much of their capacity services use, where that is known.
func (a *agent) saturations() (readings []finding.Reading) {
	w, err := a.engine.Window(saturationWindow)
	if err != nil {
		return nil
	}
	for i := range w.Services {
		if s := &w.Services[i]; s.Saturation.Known {
			readings = append(readings, finding.Reading{
				Measure: finding.Measure{Metric: finding.SaturationUsed, Subject: finding.Subject{Service: s.Service, Namespace: s.Namespace}},
				Value:   100 * (1 - s.Saturation.CapacityLeft)})
		}
	}
	return readings
}

// witnessReadings makes readings of what was counted since the last time.
type witnessReadings struct {
	before *export.HostStats
	at     time.Time
}

// read returns means and rates since the last time that there was something new.
func (w *witnessReadings) read(s *export.HostStats, now time.Time) (readings []finding.Reading) {
	before, seconds := w.before, now.Sub(w.at).Seconds()
	if s == nil || s == before {
		return nil
	}
	w.before, w.at = s, now
	if before == nil || seconds <= 0 {
		return nil
	}
	add := func(metric string, of finding.Subject, v float64) {
		readings = append(readings, finding.Reading{Measure: finding.Measure{Metric: metric, Subject: of}, Value: v})
	}
	add(finding.RunQueueWait, finding.Subject{}, meanSince(s.RunQueue, before.RunQueue, finding.RunQueueWait))
	type service struct{ name, namespace string }
	then := map[service]*export.ServiceStats{}
	for i := range before.Services {
		then[service{before.Services[i].Service, before.Services[i].Namespace}] = &before.Services[i]
	}
	for i := range s.Services {
		is := &s.Services[i]
		was := then[service{is.Service, is.Namespace}]
		if was == nil {
			continue
		}
		of := finding.Subject{Service: is.Service, Namespace: is.Namespace}
		add(finding.RunQueueWait, of, meanSince(is.RunQueue, was.RunQueue, finding.RunQueueWait))
		add(finding.RTT, of, meanSince(&is.RTT, &was.RTT, finding.RTT))
		if !s.Unseen.Retransmits && is.TCP.Retransmits >= was.TCP.Retransmits {
			add(finding.Retransmits, of, float64(is.TCP.Retransmits-was.TCP.Retransmits)/seconds)
		}
	}
	return readings
}

// meanSince is the mean of what was added to a distribution, in ms; NaN where that is too little, or not known.
func meanSince(now, then *export.Latency, metric string) float64 {
	if now == nil || then == nil {
		return math.NaN()
	}
	count := func(l *export.Latency) (n uint64) {
		for _, c := range l.Buckets {
			n += c
		}
		return n
	}
	n, before := count(now), count(then)
	if n < before+uint64(max(1, finding.MetricOf(metric).Requests)) || now.Sum < then.Sum {
		return math.NaN()
	}
	return 1e3 * (now.Sum - then.Sum) / float64(n-before)
}

// findingsIn are the findings of [from, to), one by one, and the incidents that they make.
func (a *agent) findingsIn(from, to time.Time) ([]*finding.Finding, error) {
	if e := a.findings.Load(); e != nil {
		return e.FindingsIn(from, to)
	}
	return nil, nil
}

// openedFindings are those that lead incidents that go on.
func (a *agent) openedFindings() (all []finding.Finding) {
	e := a.findings.Load()
	if e == nil {
		return nil
	}
	for _, f := range e.Incidents() {
		if f.End == nil {
			all = append(all, *f)
		}
	}
	return all
}

// findingsState is what the metrics show.
func (a *agent) findingsState() *export.FindingsState {
	e := a.findings.Load()
	if e == nil {
		return nil
	}
	stats := e.Stats()
	state := &export.FindingsState{Findings: a.findingsOpened.Load(), Series: stats.Series, Learning: stats.Learning, Without: stats.Without, Dropped: stats.Dropped,
		NotKept: stats.NotKept, Damaged: stats.Damaged}
	for _, f := range e.Incidents() {
		if f.End == nil {
			labels := subjectLabels(&f.Subject)
			labels["metric"], labels["severity"] = f.Metric, f.Severity
			state.Open = append(state.Open, labels)
		}
	}
	scores := slices.DeleteFunc(slices.Clone(e.Scores()), func(s finding.Score) bool { return s.Value <= 0 })
	slices.SortFunc(scores, func(a, b finding.Score) int { return cmp.Compare(b.Value, a.Value) })
	for _, s := range scores[:min(len(scores), scoresMax)] {
		state.Scores = append(state.Scores, export.AnomalyScore{Labels: subjectLabels(&s.Subject), Value: s.Value})
	}
	return state
}

// subjectLabels are the labels that an endpoint, a target, a service or the host has in metrics.
func subjectLabels(s *finding.Subject) map[string]string {
	labels := map[string]string{}
	for name, value := range map[string]string{"service_name": s.Service, "service_namespace": s.Namespace, "http_request_method": s.Method,
		"http_route": s.Route, "server_address": s.Address, "device": s.Device} {
		if value != "" {
			labels[name] = value
		}
	}
	if s.Port != 0 {
		labels["server_port"] = strconv.Itoa(int(s.Port))
	}
	return labels
}
