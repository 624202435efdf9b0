package history

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	bolt "go.etcd.io/bbolt"
)

// headName is the one file that changes: the ticks that are in no segment yet, and the renames that segments do not know.
const headName = "head.db"

// headBytesMax is more than the head ever has: what is larger is not read into memory.
const headBytesMax = 128 << 20

var (
	bucketTicks   = []byte("ticks")
	bucketRenames = []byte("renames")
)

// head is the open file.
type head struct {
	db   *bolt.DB
	file os.FileInfo
	torn bool // the latest transaction is not there, or its meta page is damaged
}

// headContent is what a head has, in the order of numbers.
type headContent struct {
	ticks   []numbered[*tick]
	renames []numbered[rename]
	damaged int // values that were not what was written, or are missing
}

type numbered[T any] struct {
	number uint64
	value  T
}

// openHead opens or makes the head; a damaged one is errDamaged.
func openHead(name string) (*head, error) {
	file, err := readHead(name)
	if err != nil {
		return nil, err
	}
	torn := false
	if len(file) > 0 {
		both, err := checkPages(file)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		torn = !both
	}
	db, err := openBolt(name, bolt.Options{})
	if err != nil {
		return nil, err
	}
	h := &head{db: db, torn: torn}
	err = guarded(func() error {
		return db.Update(func(tx *bolt.Tx) error {
			_, err1 := tx.CreateBucketIfNotExists(bucketTicks)
			_, err2 := tx.CreateBucketIfNotExists(bucketRenames)
			return errors.Join(err1, err2)
		})
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("write %s: %w", name, err), db.Close())
	}
	if h.file, err = os.Lstat(name); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return h, nil
}

func readHead(name string) ([]byte, error) {
	f, err := openNoFollow(name, os.O_RDONLY, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, headBytesMax+1))
	if err == nil && len(b) > headBytesMax {
		err = fmt.Errorf("%w: more than %d bytes", errDamaged, headBytesMax)
	}
	return b, err
}

// read returns all that the head has.
func (h *head) read() (*headContent, error) {
	c := new(headContent)
	if h.torn {
		c.damaged++
	}
	err := guarded(func() error { return h.db.View(c.read) })
	return c, err
}

func (c *headContent) read(tx *bolt.Tx) error {
	ticks, renames := tx.Bucket(bucketTicks), tx.Bucket(bucketRenames)
	if ticks == nil || renames == nil {
		return fmt.Errorf("%w: no buckets", errDamaged)
	}
	next := uint64(0)
	err := ticks.ForEach(func(k, v []byte) error {
		if len(k) != 8 {
			c.damaged++
			return nil
		}
		number := binary.BigEndian.Uint64(k)
		if next != 0 && number != next {
			c.damaged += int(min(number-next, pointsMax))
		}
		next = number + 1
		t, err := decodeTick(number, v)
		if err != nil {
			c.damaged++
			return nil
		}
		c.ticks = append(c.ticks, numbered[*tick]{number, t})
		return nil
	})
	if err != nil {
		return err
	}
	return renames.ForEach(func(k, v []byte) error {
		b, err := openValue(k, v)
		f := fields{b: b}
		r := rename{f.text(), f.text()}
		if err != nil || f.bad || len(k) != 8 {
			c.damaged++
			return nil
		}
		c.renames = append(c.renames, numbered[rename]{binary.BigEndian.Uint64(k), r})
		return nil
	})
}

// headChange is one transaction.
type headChange struct {
	ticks    []numbered[[]byte]
	renames  []numbered[rename]
	sealed   uint64 // ticks up to this number are in segments
	followed uint64 // all segments follow the renames up to this number
}

// apply writes a change; once it returns nil, it lasts.
func (h *head) apply(c *headChange) error {
	err := guarded(func() error {
		return h.db.Update(func(tx *bolt.Tx) error {
			ticks, renames := tx.Bucket(bucketTicks), tx.Bucket(bucketRenames)
			if ticks == nil || renames == nil {
				return fmt.Errorf("%w: no buckets", errDamaged)
			}
			err := errors.Join(deleteUpTo(ticks, c.sealed), deleteUpTo(renames, c.followed))
			for _, t := range c.ticks {
				err = errors.Join(err, ticks.Put(numberKey(t.number), t.value))
			}
			for _, r := range c.renames {
				key := numberKey(r.number)
				err = errors.Join(err, renames.Put(key, sealValue(key, appendText(appendText(nil, r.value.from), r.value.to))))
			}
			return err
		})
	})
	if err != nil {
		return fmt.Errorf("write %s: %w", headName, err)
	}
	return nil
}

func deleteUpTo(b *bolt.Bucket, number uint64) error {
	c := b.Cursor()
	for k, _ := c.First(); len(k) == 8 && binary.BigEndian.Uint64(k) <= number; k, _ = c.First() {
		if err := b.Delete(k); err != nil {
			return err
		}
	}
	return nil
}

// isGone tells whether the file was removed or replaced: what is written to it would last nowhere.
func (h *head) isGone(name string) bool {
	there, err := os.Lstat(name)
	return isMissing(err) || err == nil && !os.SameFile(h.file, there)
}

func (h *head) close() error {
	return guarded(h.db.Close)
}
