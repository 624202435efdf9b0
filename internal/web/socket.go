package web

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// socketMode lets the owner and group trace: exchanges hold more than metrics do.
const socketMode = 0o660

// ErrSocketBusy says that another agent serves the socket.
var ErrSocketBusy = errors.New("another agent serves this socket")

// ListenSocket listens on a Unix socket that owner and group may use, making its directory if needed. A socket that a
// killed agent left behind is replaced; one that is being served is ErrSocketBusy.
func ListenSocket(name string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return nil, fmt.Errorf("making the directory of the socket: %w", err)
	}
	if err := removeStaleSocket(name); err != nil {
		return nil, err
	}
	l, err := net.Listen("unix", name)
	if err != nil {
		return nil, fmt.Errorf("listening on unix:%s: %w", name, err)
	}
	if err := os.Chmod(name, socketMode); err != nil {
		return nil, errors.Join(fmt.Errorf("setting the socket's mode: %w", err), l.Close())
	}
	return l, nil
}

func removeStaleSocket(name string) error {
	info, err := os.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("looking at the socket: %w", err)
	}
	if info.Mode()&fs.ModeSocket == 0 {
		return fmt.Errorf("listening on unix:%s: the path exists and is no socket; remove it or choose another path", name)
	}
	c, err := net.DialTimeout("unix", name, time.Second)
	if err == nil {
		_ = c.Close()
		return fmt.Errorf("unix:%s: %w", name, ErrSocketBusy)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("looking whether unix:%s is served: %w", name, err)
	}
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing a stale socket: %w", err)
	}
	return nil
}
