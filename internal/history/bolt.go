package history

import (
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"time"

	bolt "go.etcd.io/bbolt"
	"golang.org/x/sys/unix"
)

// errDamaged says that stored bytes are not what was written.
var errDamaged = errors.New("damaged")

const (
	fileMode      = 0o600
	directoryMode = 0o700
	// lockWait is how long to wait for a file that another process has open for a moment.
	lockWait = 200 * time.Millisecond
	// growBytes is by how much a file grows at a time; bbolt's own 16 MiB would be more than most segments have.
	growBytes = 64 << 10
)

// guarded runs what reads a mapped file. A page that cannot be read, as on a failing disk or where the file was cut, and an
// assertion of bbolt's, which panics, are errors then.
func guarded(f func() error) (err error) {
	before := debug.SetPanicOnFault(true)
	defer func() {
		debug.SetPanicOnFault(before)
		if reason := recover(); reason != nil {
			err = fmt.Errorf("%w: %v", errDamaged, reason)
		}
	}()
	return f()
}

// openNoFollow opens a file, and no other that a symbolic link names.
func openNoFollow(name string, flag int, mode os.FileMode) (*os.File, error) {
	return os.OpenFile(name, flag|unix.O_NOFOLLOW|unix.O_CLOEXEC, mode)
}

// openBolt opens a file to write or to read.
func openBolt(name string, o bolt.Options) (db *bolt.DB, err error) {
	o.Timeout, o.FreelistType, o.NoStatistics = lockWait, bolt.FreelistMapType, true
	if o.OpenFile == nil {
		o.OpenFile = openNoFollow
	}
	err = guarded(func() (err error) {
		db, err = bolt.Open(name, fileMode, &o)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	db.AllocSize = growBytes
	return db, nil
}

// syncDirectory makes names in a directory last.
func syncDirectory(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
