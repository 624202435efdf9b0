package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"syscall"
	"time"
)

// Bounds of the files that settings name: a larger one is a mistake in the name.
const (
	configBytesMax   = 1 << 20 // configuration, web configuration
	servicesBytesMax = 8 << 20
	routesBytesMax   = 16 << 20
	pemBytesMax      = 4 << 20 // the certificates of a system have 200 KiB
)

// filePatience is how long a file that a setting names may take: it may lie on a file system that does not answer.
const filePatience = 5 * time.Second

// unanswered are the files of which a reading has not come back. Each holds a thread, so there is one of each.
var unanswered = struct {
	sync.Mutex
	names map[string]bool
}{names: make(map[string]bool)}

// readNamedFile reads a file that a setting names, in at most filePatience. It must be a regular file, or a link to one, of at
// most limit bytes; the errors name it.
func readNamedFile(name string, limit int64) ([]byte, error) {
	return readInTime(name, func() ([]byte, error) { return readRegular(name, limit) })
}

// readInTime waits for a reading, but not for long.
func readInTime(name string, reading func() ([]byte, error)) ([]byte, error) {
	late := fmt.Errorf("%s: its file system does not answer", name)
	unanswered.Lock()
	busy := unanswered.names[name]
	unanswered.names[name] = true
	unanswered.Unlock()
	if busy {
		return nil, late
	}
	type answer struct {
		data []byte
		err  error
	}
	answers := make(chan answer, 1)
	go func() {
		data, err := reading()
		unanswered.Lock()
		delete(unanswered.names, name)
		unanswered.Unlock()
		answers <- answer{data, err}
	}()
	patience := time.NewTimer(filePatience)
	defer patience.Stop()
	select {
	case a := <-answers:
		return a.data, a.err
	case <-patience.C:
		return nil, late
	}
}

// readRegular opens nothing but a regular file: a FIFO waits for its other end, and opening a device may do something.
func readRegular(name string, limit int64) ([]byte, error) {
	if info, err := os.Stat(name); err != nil {
		return nil, err
	} else if err := checkRegular(name, info); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil { // it may be another by now
		return nil, err
	} else if err := checkRegular(name, info); err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s: larger than %d MiB: is it the right file?", name, limit>>20)
	}
	return data, nil
}

func checkRegular(name string, info fs.FileInfo) error {
	kind := "special file"
	switch mode := info.Mode(); {
	case mode.IsRegular():
		return nil
	case mode.IsDir():
		kind = "directory"
	case mode&fs.ModeNamedPipe != 0:
		kind = "FIFO"
	case mode&fs.ModeDevice != 0:
		kind = "device"
	case mode&fs.ModeSocket != 0:
		kind = "socket"
	}
	return fmt.Errorf("%s: a regular file is expected, and this is a %s", name, kind)
}

// openFileError explains why the configuration file cannot be read.
func openFileError(err error) error {
	switch {
	case errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("%w: create it or correct --%s", err, configFileFlag)
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("%w: make it readable for the agent's user", err)
	}
	return err
}
