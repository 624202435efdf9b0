package history

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"github.com/perfagent/perfagent/internal/analytics"
)

// segment holds the blocks of a range of ticks in one tier: a bbolt file that is written once, or, where there is no disk, a
// map. What its name says (see docs/history-format.md) is all that is known before it is read.
type segment struct {
	tier        tier
	from, to    int64  // the first and the last slot of its points
	first, last uint64 // numbers of the ticks that it is made of
	renames     uint64 // the latest rename that its names follow
	sum         uint32 // of the file

	name  string   // of the file; "": in memory
	held  *os.File // the file, where another process may remove it
	bytes int64
	mem   map[string][]byte // by entry, with checksums
	// stored: in memory, and in a directory that is gone as well.
	stored bool

	// Guarded by files.mu.
	pins    int
	doomed  bool // to be removed with the last pin
	checked bool // the file's checksum was right
	db      *bolt.DB
	users   int
	used    uint64 // when, in uses
}

const (
	segmentSuffix  = ".db"
	temporaryName  = "tmp-"
	damagedSuffix  = ".damaged"
	segmentVersion = 1
	timeLayout     = "20060102T150405Z"
)

var (
	bucketMeta   = []byte("meta")
	bucketBlocks = []byte("blocks")
	keyMeta      = []byte("meta")
)

// segmentMeta is what a segment says of itself, as JSON, for whoever finds the file alone.
type segmentMeta struct {
	Version int    `json:"version"`
	Cells   int    `json:"cells"`
	Tier    string `json:"tier"`
	From    int64  `json:"from_slot"`
	To      int64  `json:"to_slot"`
	First   uint64 `json:"first_tick"`
	Last    uint64 `json:"last_tick"`
	Renames uint64 `json:"renames"`
}

func (s *segment) meta() segmentMeta {
	return segmentMeta{segmentVersion, analytics.CellsVersion, s.tier.String(), s.from, s.to, s.first, s.last, s.renames}
}

// fileName is the name of a segment's file.
func (s *segment) fileName() string {
	at := func(slot int64) string { return time.Unix(slot*slotSeconds, 0).UTC().Format(timeLayout) }
	return fmt.Sprintf("%s_%s_%s_%d-%d_%d_%08x%s", s.tier, at(s.from), at(s.to), s.first, s.last, s.renames, s.sum, segmentSuffix)
}

// parseSegmentName reads a file's name; false: it is none of a segment.
func parseSegmentName(name string) (*segment, bool) {
	rest, isSegment := strings.CutSuffix(name, segmentSuffix)
	parts := strings.Split(rest, "_")
	if !isSegment || len(parts) != 6 {
		return nil, false
	}
	s := &segment{name: name, tier: tiers}
	for t := range tiers {
		if t.String() == parts[0] {
			s.tier = t
		}
	}
	from, err1 := time.Parse(timeLayout, parts[1])
	to, err2 := time.Parse(timeLayout, parts[2])
	first, last, _ := strings.Cut(parts[3], "-")
	var err3, err4, err5, err6 error
	s.first, err3 = strconv.ParseUint(first, 10, 64)
	s.last, err4 = strconv.ParseUint(last, 10, 64)
	s.renames, err5 = strconv.ParseUint(parts[4], 10, 64)
	sum, err6 := strconv.ParseUint(parts[5], 16, 32)
	s.from, s.to, s.sum = floorDiv(from.Unix(), slotSeconds), floorDiv(to.Unix(), slotSeconds), uint32(sum)
	return s, s.tier < tiers && errors.Join(err1, err2, err3, err4, err5, err6) == nil && s.fileName() == name
}

// oneSpan tells whether all points lie in one span of the tier, so that they may be united with others of it.
func (s *segment) oneSpan() bool { return s.tier.span(s.from) == s.tier.span(s.to) }

// covers tells whether o was united to s: all ticks of the same span are in one segment then.
func (s *segment) covers(o *segment) bool {
	return s != o && s.tier == o.tier && s.oneSpan() && o.oneSpan() && s.tier.span(s.from) == o.tier.span(o.from) &&
		s.first <= o.first && o.last <= s.last && (s.first < o.first || o.last < s.last || s.renames > o.renames)
}

const (
	// batchBytes bounds what one transaction holds in memory while a segment is written.
	batchBytes = 1 << 20
	// fill leaves no room in pages: nothing is ever put between.
	fill = 1
)

// pageSizeFor makes pages large where there are many blocks of some KiB, two of which would waste half of a small page.
func pageSizeFor(bytes int64) int {
	switch {
	case bytes < 256<<10:
		return 4 << 10
	case bytes < 2<<20:
		return 16 << 10
	}
	return 32 << 10
}

// blocks yields entries in the order of their names, each with its value.
type blocks func(yield func(name string, value []byte) error) error

// write makes the segment's file. bytes is about how large it will be. Nothing is there under its name before all of it is on
// the disk.
func (s *segment) write(directory string, bytes int64, all blocks) (err error) {
	temporary := filepath.Join(directory, temporaryName+s.tier.String()+segmentSuffix)
	os.Remove(temporary)
	defer func() {
		if err != nil {
			os.Remove(temporary)
		}
	}()
	db, err := openBolt(temporary, bolt.Options{NoSync: true, NoGrowSync: true, NoFreelistSync: true, PageSize: pageSizeFor(bytes)})
	if err != nil {
		return err
	}
	var size int64
	err = guarded(func() error { return s.fill(db, all, &size) })
	if err = errors.Join(err, db.Close()); err != nil {
		return fmt.Errorf("write a segment: %w", err)
	}
	if s.sum, err = finish(temporary, size); err != nil {
		return fmt.Errorf("write a segment: %w", err)
	}
	name := s.fileName()
	if err := os.Rename(temporary, filepath.Join(directory, name)); err != nil {
		return err
	}
	s.name, s.bytes, s.mem, s.checked = name, size, nil, true
	return syncDirectory(directory)
}

func (s *segment) fill(db *bolt.DB, all blocks, size *int64) error {
	meta, err := json.Marshal(s.meta())
	if err != nil {
		return err
	}
	var batch []struct {
		name  string
		value []byte
	}
	pending := 0
	flush := func() error {
		return db.Update(func(tx *bolt.Tx) error {
			m, err := tx.CreateBucketIfNotExists(bucketMeta)
			if err == nil {
				err = m.Put(keyMeta, sealValue(keyMeta, meta))
			}
			if err != nil {
				return err
			}
			b, err := tx.CreateBucketIfNotExists(bucketBlocks)
			if err != nil {
				return err
			}
			b.FillPercent = fill
			for _, x := range batch {
				if err := b.Put([]byte(x.name), x.value); err != nil {
					return err
				}
			}
			batch, pending = batch[:0], 0
			return nil
		})
	}
	err = all(func(name string, value []byte) error {
		batch = append(batch, struct {
			name  string
			value []byte
		}{name, value})
		if pending += len(name) + len(value); pending < batchBytes {
			return nil
		}
		return flush()
	})
	if err == nil {
		err = flush()
	}
	if err != nil {
		return err
	}
	return db.View(func(tx *bolt.Tx) error { *size = tx.Size(); return nil })
}

// finish cuts a file to its size, has it written to the disk, and returns its checksum.
func finish(name string, size int64) (uint32, error) {
	f, err := openNoFollow(name, os.O_RDWR, 0)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	if err := errors.Join(f.Truncate(size), f.Sync()); err != nil {
		return 0, err
	}
	return fileSum(f)
}

func fileSum(f io.Reader) (uint32, error) {
	sum := crc32.New(castagnoli)
	_, err := io.CopyBuffer(struct{ io.Writer }{sum}, struct{ io.Reader }{f}, make([]byte, 128<<10))
	return sum.Sum32(), err
}

// files opens segments' files, a few at a time.
type files struct {
	directory string
	mu        sync.Mutex
	open      []*segment
	uses      uint64
}

// openFilesMax bounds the files that are mapped: each counts as resident with what was read of it, some MiB.
const openFilesMax = 6

func (f *files) pin(segments []*segment) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range segments {
		s.pins++
	}
}

func (f *files) unpin(segments []*segment) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range segments {
		if s.pins--; s.pins == 0 && s.doomed {
			f.unlink(s)
		}
	}
}

// remove removes a segment's file once nobody reads it.
func (f *files) remove(s *segment) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s.doomed = true
	if s.pins == 0 {
		f.unlink(s)
	}
}

// abandon closes a segment's file, which is no part of the history any more.
func (f *files) abandon(s *segment) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.shut(s)
}

func (f *files) unlink(s *segment) {
	f.shut(s)
	if s.name != "" {
		os.Remove(filepath.Join(f.directory, s.name))
	}
	s.mem = nil
}

func (f *files) shut(s *segment) {
	if s.db != nil && s.users == 0 {
		s.db.Close()
		s.db = nil
		f.open = slices.DeleteFunc(f.open, func(o *segment) bool { return o == s })
	}
}

// close shuts all files that nobody uses.
func (f *files) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range slices.Clone(f.open) {
		f.shut(s)
	}
}

// acquire opens a segment's file after a look at its checksum; release must follow.
func (f *files) acquire(s *segment) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if s.db == nil {
		if err := f.load(s); err != nil {
			return err
		}
		f.open = append(f.open, s)
		f.evict()
	}
	f.uses++
	s.users, s.used = s.users+1, f.uses
	return nil
}

func (f *files) evict() {
	for len(f.open) > openFilesMax {
		var oldest *segment
		for _, o := range f.open[:len(f.open)-1] {
			if o.users == 0 && (oldest == nil || o.used < oldest.used) {
				oldest = o
			}
		}
		if oldest == nil {
			return
		}
		f.shut(oldest)
	}
}

func (f *files) load(s *segment) error {
	name := filepath.Join(f.directory, s.name)
	if !s.checked {
		if err := s.checkFile(name); err != nil {
			return err
		}
	}
	db, err := openBolt(name, bolt.Options{ReadOnly: true, OpenFile: s.openFile})
	if err != nil {
		return err
	}
	if !s.checked {
		if err := guarded(func() error { return checkMeta(db, s) }); err != nil {
			return errors.Join(err, db.Close())
		}
	}
	s.db, s.checked = db, true
	return nil
}

// openFile opens the file under its name, or the one that is held once more.
func (s *segment) openFile(name string, flag int, mode os.FileMode) (*os.File, error) {
	if s.held != nil {
		name = fmt.Sprintf("/proc/self/fd/%d", s.held.Fd())
		return os.OpenFile(name, flag|unix.O_CLOEXEC, mode)
	}
	return openNoFollow(name, flag, mode)
}

func (s *segment) checkFile(name string) error {
	file, err := s.openFile(name, os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer file.Close()
	sum, err := fileSum(file)
	if err != nil {
		return fmt.Errorf("%w: read %s: %w", errDamaged, name, err)
	}
	if sum != s.sum {
		return fmt.Errorf("%w: %s has checksum %08x", errDamaged, name, sum)
	}
	return nil
}

// checkMeta compares what a segment says of itself with its name.
func checkMeta(db *bolt.DB, s *segment) error {
	return db.View(func(tx *bolt.Tx) error {
		b := tx.Bucket(bucketMeta)
		if b == nil {
			return fmt.Errorf("%w: no meta", errDamaged)
		}
		value, err := openValue(keyMeta, b.Get(keyMeta))
		if err != nil {
			return err
		}
		var m segmentMeta
		if err := json.Unmarshal(value, &m); err != nil {
			return fmt.Errorf("%w: meta: %w", errDamaged, err)
		}
		if m.Version != segmentVersion || m.Cells != analytics.CellsVersion {
			return fmt.Errorf("%w: version %d, cells %d", errVersion, m.Version, m.Cells)
		}
		if m != s.meta() {
			return fmt.Errorf("%w: meta is another segment's", errDamaged)
		}
		return nil
	})
}

func (f *files) release(s *segment) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s.users--
}

// each calls yield with every entry and what reads its block; both are valid during the call.
func (f *files) each(s *segment, yield func(name []byte, block func() ([]byte, error)) error) error {
	check := func(name, value []byte) error {
		return yield(name, func() ([]byte, error) { return openValue(name, value) })
	}
	if s.name == "" {
		for name, value := range s.mem {
			if err := check([]byte(name), value); err != nil {
				return err
			}
		}
		return nil
	}
	if err := f.acquire(s); err != nil {
		return err
	}
	defer f.release(s)
	return guarded(func() error {
		return s.db.View(func(tx *bolt.Tx) error {
			b := tx.Bucket(bucketBlocks)
			if b == nil {
				return fmt.Errorf("%w: no blocks", errDamaged)
			}
			return b.ForEach(check)
		})
	})
}

// get calls use with an entry's block, which is valid during the call.
func (f *files) get(s *segment, name []byte, use func(block []byte) error) error {
	if s.name == "" {
		b, err := openValue(name, s.mem[string(name)])
		if err != nil {
			return err
		}
		return use(b)
	}
	if err := f.acquire(s); err != nil {
		return err
	}
	defer f.release(s)
	return guarded(func() error {
		return s.db.View(func(tx *bolt.Tx) error {
			var value []byte
			if b := tx.Bucket(bucketBlocks); b != nil {
				value = b.Get(name)
			}
			b, err := openValue(name, value)
			if err != nil {
				return err
			}
			return use(b)
		})
	})
}
