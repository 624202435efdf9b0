package notify

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/perfagent/perfagent/internal/statefile"
)

// A file of state is a line and a JSON document:
//
//	perfagent-notify 1 <CRC-32C of the document, 8 hexadecimal digits> <its length>\n{...}
//
// It is written beside its place, synced, and renamed, so that there is the old one or the new one.
const (
	storeMagic   = "perfagent-notify"
	storeVersion = 1
	// storeBytesMax is more than alertsMax alerts of alertBytesMax take as JSON with every byte escaped.
	storeBytesMax = 64 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errDamaged says that a file is not what was written.
var errDamaged = errors.New("the file is damaged")

// directory is where state is kept, locked against other agents.
type directory struct {
	path string
	lock *os.File
}

// openDirectory makes the directory where it is missing. It belongs to the agent alone, as labels may tell of users.
func openDirectory(path string) (*directory, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("make the directory of notifications: %w", err)
	}
	if info, err := os.Lstat(path); err != nil || !info.IsDir() {
		return nil, errors.Join(err, fmt.Errorf("the directory of notifications: %s is a link", path))
	}
	if err := statefile.CheckDirectory(path); err != nil {
		return nil, fmt.Errorf("the directory of notifications: %w", err)
	}
	if err := os.Chmod(path, 0o700); err != nil {
		return nil, fmt.Errorf("close the directory of notifications to others: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(path, "lock"), os.O_CREATE|os.O_RDWR|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the directory of notifications: %w", err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		lock.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			err = errors.New("another agent uses it")
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return &directory{path, lock}, nil
}

func (d *directory) close() error {
	if d == nil {
		return nil
	}
	return d.lock.Close()
}

// store is one file of a directory.
type store struct{ path string }

func (d *directory) store(name string) *store {
	if d == nil {
		return nil
	}
	return &store{filepath.Join(d.path, name+".json")}
}

func (s *store) exists() bool {
	_, err := os.Lstat(s.path)
	return err == nil
}

// write replaces the file.
func (s *store) write(v any) error {
	document, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode %s: %w", s.path, err)
	}
	header := fmt.Appendf(nil, "%s %d %08x %d\n", storeMagic, storeVersion, crc32.Checksum(document, castagnoli), len(document))
	return statefile.Replace(s.path, append(header, document...))
}

// read fills v with what was written. A file that is not there is no error; one that is damaged, or of another version, is set aside, and
// is errDamaged.
func (s *store) read(v any) error {
	f, err := statefile.Open(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the state: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, storeBytesMax))
	if err != nil {
		return fmt.Errorf("read the state: %w", err)
	}
	if err := decodeState(data, v); err != nil {
		return errors.Join(fmt.Errorf("%s: %w: it is set aside", s.path, err), s.setAside())
	}
	return nil
}

// decodeState checks all of the file before it believes any of it.
func decodeState(data []byte, v any) error {
	line, document, _ := bytes.Cut(data, []byte("\n"))
	var version, length int
	var sum uint32
	if _, err := fmt.Sscanf(string(line), storeMagic+" %d %x %d", &version, &sum, &length); err != nil || length != len(document) {
		return errDamaged
	}
	if version != storeVersion {
		return fmt.Errorf("%w: version %d, and this program knows %d", errDamaged, version, storeVersion)
	}
	if crc32.Checksum(document, castagnoli) != sum || json.Unmarshal(document, v) != nil {
		return errDamaged
	}
	return nil
}

func (s *store) setAside() error {
	_, err := statefile.SetAside(s.path)
	return err
}

// savedSink is a sink's state as it is written.
type savedSink struct {
	Alerts []savedAlert `json:"alerts"`
	Groups []savedGroup `json:"groups"`
}

type savedAlert struct {
	Labels       map[string]string `json:"labels"`
	Annotations  map[string]string `json:"annotations,omitempty"`
	StartsAt     time.Time         `json:"starts_at"`
	EndsAt       time.Time         `json:"ends_at,omitzero"`
	GeneratorURL string            `json:"generator_url,omitempty"`
	Over         bool              `json:"over,omitempty"`
	Told         bool              `json:"told,omitempty"`
	GaveUp       bool              `json:"gave_up,omitempty"`
	Since        time.Time         `json:"since"`
	ToldAt       time.Time         `json:"told_at,omitzero"`
}

type savedGroup struct {
	Key      string            `json:"key"`
	Labels   map[string]string `json:"labels,omitempty"`
	Born     time.Time         `json:"born"`
	Sequence uint64            `json:"sequence"`
	Flushed  time.Time         `json:"flushed,omitzero"`
	Sent     time.Time         `json:"sent,omitzero"`
	Failing  time.Time         `json:"failing,omitzero"`
}

// save writes the state where it has changed; a failure is tried again after saveAgain, or at once where now it must be.
func (s *sink) save(now time.Time, must bool) {
	if !s.dirty {
		return
	}
	if s.store == nil {
		s.dirty = false
		return
	}
	failing := s.state().NotSaved != ""
	if failing && !must && now.Sub(s.saved) < saveAgain {
		return
	}
	s.saved = now
	var state savedSink
	for _, t := range s.alerts {
		state.Alerts = append(state.Alerts, savedAlert{Labels: t.alert.Labels, Annotations: t.alert.Annotations, StartsAt: t.alert.StartsAt,
			EndsAt: t.alert.EndsAt, GeneratorURL: t.alert.GeneratorURL, Over: t.over, Told: t.told, GaveUp: t.gaveUp, Since: t.since, ToldAt: t.toldAt})
	}
	for _, g := range s.groups {
		state.Groups = append(state.Groups, savedGroup{g.key, g.labels, g.born, g.sequence, g.flushed, g.sent, g.failing})
	}
	err := s.store.write(state)
	if err == nil {
		s.dirty = false
		s.count(func(c *SinkStats) { c.NotSaved = "" })
		return
	}
	if !failing {
		s.log.Error("notifications are kept in memory only: a restart may repeat some", "err", err)
	}
	s.count(func(c *SinkStats) { c.SaveErrors++; c.NotSaved = err.Error() })
}

// load reads what an earlier run has left. What fired then is given the time to be repeated.
func (s *sink) load(now time.Time) {
	if s.store == nil {
		return
	}
	var state savedSink
	if err := s.store.read(&state); err != nil {
		s.log.Error("what was told before this start is not known", "err", err)
		if errors.Is(err, errDamaged) {
			s.stats.Damaged++
		} else {
			s.stats.NotSaved = err.Error()
		}
		return
	}
	past := func(t time.Time) time.Time { // the clock may have been ahead: nothing waits for that time to come
		if t.After(now) {
			return now
		}
		return t
	}
	for _, g := range state.Groups {
		s.groups[g.Key] = &group{key: g.Key, labels: g.Labels, born: g.Born, sequence: g.Sequence, flushed: past(g.Flushed), sent: past(g.Sent),
			failing: past(g.Failing), alerts: map[string]*tracked{}}
	}
	for _, a := range state.Alerts {
		alert := &Alert{Labels: a.Labels, Annotations: a.Annotations, StartsAt: a.StartsAt, EndsAt: a.EndsAt, GeneratorURL: a.GeneratorURL}
		id := identity(a.Labels)
		if s.alerts[id] != nil || len(s.alerts) == alertsMax || !s.policy.takes(alert) && (!a.Told || a.GaveUp || s.policy.forward) {
			continue
		}
		t := &tracked{id: id, alert: alert, over: a.Over, told: a.Told && !s.policy.forward, gaveUp: a.GaveUp, since: past(a.Since), toldAt: past(a.ToldAt), expires: now.Add(lapseAfter)}
		s.alerts[id] = t
		s.enter(t, now)
		s.owe(t, !s.takes(t))
	}
}
