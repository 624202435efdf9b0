// Package statefile keeps small files of state whole over crashes and power cuts. It imports the standard library alone.
package statefile

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Replace writes a file (mode 0600) so that at any instant, also after a power cut, the old one or the new one is there, whole; when it
// returns without an error it is the new one. What it writes beside it is called like the file, with ".new".
func Replace(name string, data []byte) error {
	temporary := name + ".new"
	if err := write(temporary, data); err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", name, err), remove(temporary))
	}
	if err := os.Rename(temporary, name); err != nil {
		return errors.Join(fmt.Errorf("replace %s: %w", name, err), remove(temporary))
	}
	return SyncDirectory(filepath.Dir(name))
}

// write writes a file that lasts, under a name that may not.
func write(name string, data []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// remove removes what may not be there.
func remove(name string) error {
	if err := os.Remove(name); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// SyncDirectory makes names in a directory last.
func SyncDirectory(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
