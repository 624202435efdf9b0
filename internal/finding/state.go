package finding

import (
	"bytes"
	"encoding/binary"
	"encoding/gob"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"math"
	"os"
	"slices"
	"time"

	"github.com/perfagent/perfagent/internal/analytics"
	"github.com/perfagent/perfagent/internal/statefile"
)

// What was learned is kept in one file, which is replaced as a whole:
//
//	magic     8 bytes, with the version
//	checksum  4 bytes, CRC-32C of the rest, little endian
//	the rest  a gob of stored
//
// A file that is damaged, or of another version, is set aside under a numbered name, and learning begins anew.
const (
	stateMagic = "pfagfnd\x01"
	// stateBytesMax bounds what is read: all series with all they know are 12 MiB.
	stateBytesMax = 64 << 20
	// saveTicks is how often it is written: a crash forgets a quarter of an hour.
	saveTicks = 90
	// asideMax is how many damaged files are kept.
	asideMax = 10
	// freshFor is how old values may be to tell what is usual now: 10 minutes, in ticks. Of what is older only what was learned of
	// hours and days is used, after as many ticks.
	freshFor = 60
)

// stored is what a file holds.
type stored struct {
	Saved  time.Time
	Tick   time.Duration
	Row    int64
	Unix   int64
	Groups []storedGroup
	Ended  []*Finding
}

type storedGroup struct {
	Role, Service, Namespace, Address string
	Port                              uint16
	Level, Knows                      float64
	Finding                           *Finding
	OpenedRow                         int64
	Entries                           []storedEntry
	Resources                         []storedTrack
}

type storedEntry struct {
	Key                               analytics.Key
	Whole                             bool
	Tracks                            [seriesOfEntry]storedTrack
	Last                              int64
	Ticks                             int
	Rate, Mean, Knows, Variance, Seen float64
}

type storedTrack struct {
	Measure  Measure
	Values   []byte // of recent
	Odd      []uint64
	Usual    []float64
	Run      []int
	Side     float64
	Rarity   []float64
	Number   int
	At       int
	Count    int
	Last     int64
	Latest   float64
	Failures []float64
	Long     []byte
	Episode  *episode
}

// Save writes what was learned to the file.
func (e *Engine) Save() error {
	if e.o.File == "" {
		return nil
	}
	e.mu.Lock()
	s := e.store()
	e.mu.Unlock()
	var b bytes.Buffer
	b.WriteString(stateMagic + "\x00\x00\x00\x00")
	if err := gob.NewEncoder(&b).Encode(s); err != nil {
		return fmt.Errorf("encode what was learned of anomalies: %w", err)
	}
	data := b.Bytes()
	binary.LittleEndian.PutUint32(data[len(stateMagic):], crc32.Checksum(data[len(stateMagic)+4:], castagnoli))
	return statefile.Replace(e.o.File, data)
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errDamaged says that a file is no state.
var errDamaged = errors.New("damaged, or of another version")

// load takes over what the file has. What it cannot read it sets aside.
func (e *Engine) load() {
	s, err := readState(e.o.File)
	if err == nil && s.Tick != e.o.Tick {
		err = fmt.Errorf("%w: with ticks of %s", errDamaged, s.Tick)
	}
	switch {
	case err == nil:
		e.restore(s)
	case errors.Is(err, fs.ErrNotExist):
	case errors.Is(err, errDamaged):
		e.o.Log.Error("what was learned of anomalies cannot be read, learning begins anew", "file", e.o.File, "err", err, "kept", setAside(e.o.File))
	default:
		e.o.Log.Error("what was learned of anomalies cannot be read", "file", e.o.File, "err", err)
	}
}

func readState(name string) (*stored, error) {
	f, err := statefile.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, stateBytesMax+1))
	if err != nil {
		return nil, err
	}
	return decodeState(data)
}

func decodeState(data []byte) (*stored, error) {
	if len(data) > stateBytesMax || len(data) < len(stateMagic)+4 || string(data[:len(stateMagic)]) != stateMagic {
		return nil, errDamaged
	}
	rest := data[len(stateMagic)+4:]
	if binary.LittleEndian.Uint32(data[len(stateMagic):]) != crc32.Checksum(rest, castagnoli) {
		return nil, errDamaged
	}
	s := new(stored)
	if err := gob.NewDecoder(bytes.NewReader(rest)).Decode(s); err != nil {
		return nil, fmt.Errorf("%w: %w", errDamaged, err)
	}
	return s, nil
}

// setAside gives a file a name under which it is kept, and returns it; "" where that fails.
func setAside(name string) string {
	for i := 1; i <= asideMax; i++ {
		aside := fmt.Sprintf("%s.damaged-%d", name, i)
		if _, err := os.Lstat(aside); errors.Is(err, fs.ErrNotExist) {
			if os.Rename(name, aside) != nil {
				return ""
			}
			return aside
		}
	}
	return ""
}

func (e *Engine) store() *stored {
	s := &stored{Saved: e.now, Tick: e.o.Tick, Row: e.row, Unix: e.unix, Ended: slices.Clone(e.ended)}
	for _, g := range e.sortedGroups() {
		k := g.key
		to := storedGroup{k.role, k.service, k.namespace, k.address, k.port, g.level, g.knows, g.finding, g.openedRow, nil, nil}
		for _, n := range g.entries {
			to.Entries = append(to.Entries, n.store(false))
		}
		if g.whole != nil {
			to.Entries = append(to.Entries, g.whole.store(true))
		}
		for _, t := range g.resources {
			to.Resources = append(to.Resources, t.store())
		}
		s.Groups = append(s.Groups, to)
	}
	return s
}

func (n *entry) store(whole bool) storedEntry {
	s := storedEntry{Key: n.key, Whole: whole, Last: n.last, Ticks: n.ticks, Rate: n.rate, Mean: n.mean, Knows: n.knows, Variance: n.variance, Seen: n.seen}
	for i, t := range n.tracks() {
		s.Tracks[i] = t.store()
	}
	return s
}

func (t *track) store() storedTrack {
	s := storedTrack{Measure: t.Measure, Count: t.values, Last: t.last, Latest: t.latest, Episode: t.copyEpisode()}
	if r := t.recent; r != nil && r.number > 0 {
		s.Number, s.Odd, s.At = r.number, slices.Clone(r.odd[:]), r.at
		s.Run, s.Side, s.Rarity = []int{r.run, r.length, r.outer, r.outest}, r.side, slices.Clone(r.rarity[:])
		for _, v := range r.usual.figures() {
			s.Usual = append(s.Usual, *v)
		}
		for _, v := range r.values[:min(r.number, recentTicks)] {
			s.Values = binary.LittleEndian.AppendUint32(s.Values, math.Float32bits(v))
		}
	}
	if f := t.fails; f != nil {
		s.Failures = []float64{f.all, f.failed, f.dispersion, f.seen}
	}
	if t.long != nil {
		s.Long, _ = t.long.MarshalBinary() // it has no error
	}
	return s
}

// figures are all that is usual but for the number of values.
func (u *usual) figures() []*float64 {
	return []*float64{&u.middle, &u.edge[0], &u.edge[1], &u.power[0], &u.power[1], &u.farthest[0], &u.farthest[1], &u.share, &u.doubt, &u.dependence, &u.low, &u.high, &u.typic}
}

// copyEpisode returns what does not change while it is written.
func (t *track) copyEpisode() *episode {
	if t.episode == nil {
		return nil
	}
	p := *t.episode
	return &p
}

// restore goes on where another engine stopped.
func (e *Engine) restore(s *stored) {
	e.row, e.unix, e.now, e.ended = s.Row, s.Unix, s.Saved, s.Ended
	for i := range s.Groups {
		from := &s.Groups[i]
		g := e.groupOf(groupKey{from.Role, from.Service, from.Namespace, from.Address, from.Port})
		g.level, g.knows, g.finding, g.openedRow = from.Level, from.Knows, from.Finding, from.OpenedRow
		for j := range from.Entries {
			if e.tracks+seriesOfEntry <= e.o.Limits.Series {
				e.restoreEntry(g, &from.Entries[j])
			}
		}
		for j := range from.Resources {
			r := &from.Resources[j]
			if MetricOf(r.Measure.Metric) == nil || e.tracks >= e.o.Limits.Series || e.resources[r.Measure] != nil {
				continue
			}
			t := e.newTrack(r.Measure, g)
			t.restore(e, r)
			e.resources[r.Measure] = t
			g.resources = append(g.resources, t)
		}
		if len(g.tracks) == 0 {
			delete(e.groups, g.key)
		}
	}
}

func (e *Engine) restoreEntry(g *group, s *storedEntry) {
	var n *entry
	switch {
	case s.Whole && g.whole == nil:
		n = e.newWhole(g)
		g.whole = n
	case !s.Whole && e.entries[s.Key] == nil:
		n = e.newEntry(&s.Key)
	default:
		return
	}
	n.last, n.ticks, n.rate, n.mean, n.knows, n.variance, n.seen = s.Last, s.Ticks, s.Rate, s.Mean, s.Knows, s.Variance, s.Seen
	for i, t := range n.tracks() {
		t.restore(e, &s.Tracks[i])
	}
}

func (t *track) restore(e *Engine, s *storedTrack) {
	t.values, t.last, t.latest, t.episode = s.Count, s.Last, s.Latest, s.Episode
	if r := t.recent; r != nil && len(s.Odd) == len(r.odd) && s.Number >= 0 && len(s.Values) == 4*min(s.Number, recentTicks) {
		r.number = s.Number
		copy(r.odd[:], s.Odd)
		for i := range len(s.Values) / 4 {
			r.values[i] = math.Float32frombits(binary.LittleEndian.Uint32(s.Values[4*i:]))
		}
		if figures := r.usual.figures(); len(s.Usual) == len(figures) && len(s.Rarity) == len(r.rarity) && len(s.Run) == 4 && s.Run[0] >= 0 && s.Run[0] <= runMost {
			for i, v := range figures {
				*v = s.Usual[i]
			}
			r.usual.n = min(r.number, recentTicks)
			r.at, r.run, r.length, r.outer, r.outest, r.side = s.At, s.Run[0], s.Run[1], s.Run[2], s.Run[3], s.Side
			copy(r.rarity[:], s.Rarity)
		}
	}
	if f := t.fails; f != nil && len(s.Failures) == 4 {
		f.all, f.failed, f.dispersion, f.seen = s.Failures[0], s.Failures[1], s.Failures[2], s.Failures[3]
	}
	if t.long != nil && len(s.Long) > 0 {
		if err := t.long.UnmarshalBinary(s.Long); err != nil {
			e.o.Log.Warn("what was learned of a series is not used", "metric", t.Metric, "service", t.Service, "err", err)
		}
	}
}

// resume goes on after a gap. What was usual minutes ago may not be so after hours: of a long gap the last values are forgotten, and what is
// learned of hours and days is not judged by at first. What was open has ended, as nobody knows when.
func (e *Engine) resume(ticks int64) {
	if ticks < freshFor {
		return
	}
	e.calmUntil = e.row + freshFor
	for _, g := range e.groups {
		for _, t := range g.tracks {
			t.episode, t.alarmed = nil, false
			if t.recent != nil && t.fails == nil {
				*t.recent = *newRecent()
			}
		}
		if g.finding != nil {
			e.close(g)
		}
	}
}
