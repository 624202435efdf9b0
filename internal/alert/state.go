package alert

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"

	"github.com/perfagent/perfagent/internal/notify"
	"github.com/perfagent/perfagent/internal/statefile"
)

// The file has one line "perfagent-alerts VERSION CRC32C LENGTH" and LENGTH bytes of JSON (savedState). It is replaced as a whole.
const (
	stateMagic   = "perfagent-alerts"
	stateVersion = 1
	// stateBytesMax bounds the file: some 8,000 alerts with their labels. What does not fit is left out, pending ones first.
	stateBytesMax = 8 << 20
	// stateEvery is how often the file is written though no alert changes: it tells how long the agent was away.
	stateEvery = time.Minute
	// outageTolerance is how long the agent may be away for pending alerts to go on, as in Prometheus.
	outageTolerance = time.Hour
	// restartHold is how long what fired before a restart goes on firing without a value: the windows of most rules, 5 minutes,
	// have to fill anew.
	restartHold = 5*time.Minute + IntervalDefault
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// savedState is what the file has.
type savedState struct {
	SavedAt  time.Time       `json:"saved_at"`
	Alerts   []savedAlert    `json:"alerts"`
	Resolved []resolvedAlert `json:"resolved"`
}

// savedAlert is one that is pending or fires.
type savedAlert struct {
	Group           string            `json:"group"` // group.key
	Rule            string            `json:"rule"`  // rule.key
	Nth             int               `json:"nth,omitempty"`
	Labels          map[string]string `json:"labels"`
	Annotations     map[string]string `json:"annotations"` // for when its rule is gone
	Metric          map[string]string `json:"metric"`      // of the sample, for templates
	Value           string            `json:"value"`       // JSON has no NaN
	ActiveAt        time.Time         `json:"active_at"`
	FiredAt         time.Time         `json:"fired_at,omitzero"`
	KeepFiringSince time.Time         `json:"keep_firing_since,omitzero"`
	Announced       bool              `json:"announced,omitempty"`
	Doubtful        bool              `json:"doubtful,omitempty"`

	told *telling // until it is written
	rule *rule
}

// stateFile is the file with what it had at the start, as long as no rule has taken that over. A nil one remembers nothing.
type stateFile struct {
	name    string
	log     *slog.Logger
	loaded  savedState
	savedAt time.Time
	failing atomic.Bool

	failures atomic.Uint64 // to write
	damaged  uint64        // files that were set aside
}

// openState reads the file of a name. Whatever is wrong with it is said, and set aside.
func openState(name string, now time.Time, log *slog.Logger) *stateFile {
	if name == "" {
		return nil
	}
	s := &stateFile{name: name, log: log, savedAt: now}
	loaded, err := readState(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return s
	case err != nil:
		s.damaged++
		aside, moved := statefile.SetAside(name)
		if moved != nil {
			aside = "nowhere: " + moved.Error()
		}
		log.Warn("the state of alerts cannot be read: it begins anew", "err", err, "kept", aside)
		return s
	}
	s.loaded = *loaded
	return s
}

// readState reads a file and checks it.
func readState(name string) (*savedState, error) {
	f, err := statefile.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, stateBytesMax+1<<10))
	if err != nil {
		return nil, err
	}
	return parseState(data)
}

func parseState(data []byte) (*savedState, error) {
	head, body, _ := bytes.Cut(data, []byte("\n"))
	var magic string
	var version, length int
	var sum uint32
	if n, err := fmt.Sscanf(string(head), "%s %d %x %d", &magic, &version, &sum, &length); err != nil || n != 4 || magic != stateMagic {
		return nil, errors.New("it is no state of alerts")
	}
	if version != stateVersion {
		return nil, fmt.Errorf("it has version %d, of another release", version)
	}
	if len(body) != length || crc32.Checksum(body, castagnoli) != sum {
		return nil, errors.New("it is damaged: its checksum differs")
	}
	s := new(savedState)
	if err := json.Unmarshal(body, s); err != nil {
		return nil, fmt.Errorf("decoding: %w", err)
	}
	return s, nil
}

// due tells whether the file is to be written though nothing has changed.
func (s *stateFile) due(now time.Time) bool {
	return now.Sub(s.savedAt) >= stateEvery || now.Before(s.savedAt)
}

// resolved returns what was over already.
func (s *stateFile) resolved() []resolvedAlert { return s.loaded.Resolved }

// restore gives a new group the alerts that it had before a restart. What fired goes on firing; what was pending goes on if
// the agent was away for less than outageTolerance, as if that time had not been.
func (s *stateFile) restore(g *group, now time.Time) {
	if s == nil {
		return
	}
	away := now.Sub(s.loaded.SavedAt) // below 0: the clock was ahead
	s.loaded.Alerts = slices.DeleteFunc(s.loaded.Alerts, func(a savedAlert) bool {
		if a.Group != g.key() {
			return false
		}
		for _, r := range g.rules {
			if r.alerting && r.nth == a.Nth && r.key() == a.Rule {
				a.restore(r, now, away)
				return true
			}
		}
		return false
	})
}

func (a *savedAlert) restore(r *rule, now time.Time, away time.Duration) {
	i := &instance{labels: labels.FromMap(a.Labels), state: Pending, activeAt: a.ActiveAt.Add(away), firedAt: a.FiredAt,
		announced: a.Announced, resumed: a.Announced, doubtful: a.Doubtful}
	_, _ = fmt.Sscan(a.Value, &i.value)
	i.told = told(promql.Sample{Metric: labels.FromMap(a.Metric), F: i.value}, now, labels.FromMap(a.Annotations))
	switch {
	case !a.FiredAt.IsZero():
		i.state, i.activeAt, i.heldUntil = Firing, a.ActiveAt.Add(min(0, away)), now.Add(restartHold)
		if !a.KeepFiringSince.IsZero() {
			i.keepFiringSince = a.KeepFiringSince.Add(min(0, away))
		}
	case away > outageTolerance:
		return
	}
	r.active[i.labels.Hash()] = i
}

// orphans returns what fired of rules that are no more, as resolved.
func (s *stateFile) orphans(now time.Time) (over []news) {
	if s == nil {
		return nil
	}
	for _, a := range s.loaded.Alerts {
		if !a.FiredAt.IsZero() {
			over = append(over, news{Alert: notify.Alert{Labels: a.Labels, Annotations: a.Annotations, StartsAt: a.FiredAt, EndsAt: now}})
		}
	}
	s.loaded.Alerts = nil
	return over
}

// save writes the state of all alerts. It is called by one at a time.
func (m *Manager) save(now time.Time) {
	if m.state == nil {
		return
	}
	saved := m.stateOf(now)
	for i := range saved.Alerts { // without lock, as templates may take their time
		a := &saved.Alerts[i]
		a.Annotations = a.told.annotations(a.rule).Map()
	}
	tellAll(saved.Resolved)
	m.state.write(saved, now)
}

// stateOf returns what is to be written, but for annotations.
func (m *Manager) stateOf(now time.Time) *savedState {
	defer m.lock()()
	m.resolved = slices.DeleteFunc(m.resolved, func(r resolvedAlert) bool { return now.Sub(r.ResolvedAt) > resolvedAge })
	saved := &savedState{SavedAt: now, Resolved: slices.Clone(m.resolved)}
	for _, g := range m.groups {
		for _, r := range g.rules {
			for _, a := range r.sorted() {
				if a.state != Inactive {
					saved.Alerts = append(saved.Alerts, newSavedAlert(g, r, a))
				}
			}
		}
	}
	return saved
}

func newSavedAlert(g *group, r *rule, a *instance) savedAlert {
	return savedAlert{Group: g.key(), Rule: r.key(), Nth: r.nth, Labels: a.labels.Map(), Metric: a.told.sample.Metric.Map(), Value: fmt.Sprint(a.value), ActiveAt: a.activeAt,
		FiredAt: a.firedAt, KeepFiringSince: a.keepFiringSince, Announced: a.announced, Doubtful: a.doubtful, told: a.told, rule: r}
}

// write replaces the file. A failure is said once, until it is over.
func (s *stateFile) write(saved *savedState, now time.Time) {
	s.savedAt = now
	data, err := encodeState(saved)
	if err == nil {
		err = s.replace(data)
	}
	if err != nil {
		s.failures.Add(1)
		if !s.failing.Load() {
			s.log.Error("the state of alerts cannot be kept: after a restart they begin anew", "err", err)
		}
	} else if s.failing.Load() {
		s.log.Info("the state of alerts is kept again")
	}
	s.failing.Store(err != nil)
}

// encodeState makes a file of at most stateBytesMax.
func encodeState(saved *savedState) ([]byte, error) {
	slices.SortStableFunc(saved.Alerts, func(a, b savedAlert) int { return b.FiredAt.Compare(a.FiredAt) }) // pending last
	for {
		body, err := json.Marshal(saved)
		if err != nil {
			return nil, fmt.Errorf("encoding: %w", err)
		}
		if len(body) <= stateBytesMax {
			return append(fmt.Appendf(nil, "%s %d %08x %d\n", stateMagic, stateVersion, crc32.Checksum(body, castagnoli), len(body)), body...), nil
		}
		if len(saved.Alerts) == 0 {
			saved.Resolved = nil
		}
		saved.Alerts = saved.Alerts[:len(saved.Alerts)/2]
	}
}

func (s *stateFile) replace(data []byte) error {
	if err := os.MkdirAll(filepath.Dir(s.name), 0o700); err != nil {
		return err
	}
	return statefile.Replace(s.name, data)
}
