package clock

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
)

// Log is a file to which a server process writes the calls of its connections: one line a call,
// "KEY s|r END BEFORE AFTER EMPTY", "KEY t|c 0 BEFORE AFTER EMPTY" for a read that told of the other side's end and for the
// close, and "KEY . 0 0 0 0" when the connection has closed. KEY is the address of the client's end.
type Log struct {
	mu   sync.Mutex
	file *os.File
}

// OpenLog opens a log for appending. An empty path gives a nil *Log, which records nothing.
func OpenLog(path string) (*Log, error) {
	if path == "" {
		return nil, nil
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("opening clock log: %w", err)
	}
	return &Log{file: file}, nil
}

// Listener wraps l so that every accepted connection is a *Conn that is written to the log when it closes.
func (l *Log) Listener(inner net.Listener) net.Listener { return &listener{inner, l} }

type listener struct {
	net.Listener
	log *Log
}

func (l *listener) Accept() (net.Conn, error) {
	inner, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	conn, err := Wrap(inner)
	if err != nil {
		return nil, err
	}
	key := inner.RemoteAddr().String()
	conn.OnClose = func(ops Ops) { l.log.Write(key, ops) }
	return conn, nil
}

// Write appends the calls of one connection in one piece.
func (l *Log) Write(key string, ops Ops) {
	if l == nil {
		return
	}
	var b strings.Builder
	for _, op := range ops {
		direction := "r"
		switch {
		case op.Send:
			direction = "s"
		case op.Told:
			direction = "t"
		case op.End == 0:
			direction = "c"
		}
		fmt.Fprintf(&b, "%s %s %d %d %d %d\n", key, direction, op.End, op.Before, op.After, op.Empty)
	}
	fmt.Fprintf(&b, "%s . 0 0 0 0\n", key)
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, err := l.file.WriteString(b.String()); err != nil {
		fmt.Fprintln(os.Stderr, "clock log:", err)
	}
}

// ReadLog returns the calls of the connections that have closed, by the address of the client's end. A connection
// that reused an address replaces the earlier one.
func ReadLog(path string) (map[string]Ops, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading clock log: %w", err)
	}
	defer file.Close()
	closed, open := map[string]Ops{}, map[string]Ops{}
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		var key, direction string
		var op Op
		if _, err := fmt.Sscan(lines.Text(), &key, &direction, &op.End, &op.Before, &op.After, &op.Empty); err != nil {
			continue // the last line may still be on its way
		}
		if direction == "." {
			closed[key] = open[key]
			delete(open, key)
			continue
		}
		op.Send, op.Told = direction == "s", direction == "t"
		open[key] = append(open[key], op)
	}
	return closed, lines.Err()
}
