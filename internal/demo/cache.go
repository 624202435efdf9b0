package demo

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Bounds of the cache.
const (
	cacheKeys    = 1000
	cacheBytes   = bodyBytes // of a key or a value
	cacheFields  = 8         // of a command
	cacheSeconds = 5 * time.Second
	cacheTimeout = time.Second
)

// store is what the cache holds.
type store struct {
	mu     sync.Mutex
	values map[string]cached
}

type cached struct {
	value string
	until time.Time
}

// serveCache answers GET and SET in the protocol of Redis, RESP2, as far as the shop needs it. What it keeps is old after five seconds.
func serveCache(_ *process, l *connection) error {
	s := &store{values: make(map[string]cached)}
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go s.serve(c)
	}
}

func (s *store) serve(c net.Conn) {
	defer c.Close()
	in := bufio.NewReader(c)
	for {
		command, err := readCommand(in)
		if err != nil {
			return
		}
		if _, err := io.WriteString(c, s.answer(command)); err != nil {
			return
		}
	}
}

func (s *store) answer(command []string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case len(command) == 2 && strings.EqualFold(command[0], "GET"):
		v, ok := s.values[command[1]]
		if !ok || time.Now().After(v.until) {
			return "$-1\r\n"
		}
		return bulk(v.value)
	case len(command) == 3 && strings.EqualFold(command[0], "SET"):
		if len(s.values) >= cacheKeys {
			clear(s.values)
		}
		s.values[command[1]] = cached{command[2], time.Now().Add(cacheSeconds)}
		return "+OK\r\n"
	case len(command) == 1 && strings.EqualFold(command[0], "PING"):
		return "+PONG\r\n"
	}
	return "-ERR the demo's cache knows GET, SET and PING\r\n"
}

func bulk(s string) string { return fmt.Sprintf("$%d\r\n%s\r\n", len(s), s) }

var errCommand = errors.New("no command of Redis")

// readCommand reads an array of bulk strings.
func readCommand(in *bufio.Reader) ([]string, error) {
	n, err := readLength(in, '*', cacheFields)
	if err != nil {
		return nil, err
	}
	command := make([]string, n)
	for i := range command {
		if command[i], err = readBulk(in); err != nil {
			return nil, err
		}
	}
	return command, nil
}

// errAbsent is the answer for a key that is not there.
var errAbsent = errors.New("no value")

func readBulk(in *bufio.Reader) (string, error) {
	n, err := readLength(in, '$', cacheBytes)
	if err != nil {
		return "", err
	}
	if n < 0 {
		return "", errAbsent
	}
	text := make([]byte, n+2)
	if _, err := io.ReadFull(in, text); err != nil {
		return "", err
	}
	return string(text[:n]), nil
}

// readLength reads a line that is a mark and a number of at most most; -1 is nothing.
func readLength(in *bufio.Reader, mark byte, most int) (int, error) {
	line, err := in.ReadSlice('\n')
	if err != nil {
		return 0, err
	}
	text := strings.TrimSuffix(string(line), "\r\n")
	if text == "" || text[0] != mark {
		return 0, errCommand
	}
	n, err := strconv.Atoi(text[1:])
	if err != nil || n < -1 || n > most || n < 0 && mark == '*' {
		return 0, errCommand
	}
	return n, nil
}

// cacheClient has one connection, which it makes anew after an error. Without its cache a service goes on.
type cacheClient struct {
	address string
	mu      sync.Mutex
	conn    net.Conn
	in      *bufio.Reader
}

func newCacheClient(address string) *cacheClient { return &cacheClient{address: address} }

func (c *cacheClient) get(key string) (value string, ok bool) {
	c.ask(func() (err error) {
		value, err = readBulk(c.in)
		ok = err == nil
		if errors.Is(err, errAbsent) {
			return nil
		}
		return err
	}, "GET", key)
	return value, ok
}

func (c *cacheClient) set(key, value string) {
	c.ask(func() error { _, err := c.in.ReadSlice('\n'); return err }, "SET", key, value)
}

func (c *cacheClient) ask(read func() error, command ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn == nil {
		conn, err := net.DialTimeout("tcp", c.address, cacheTimeout)
		if err != nil {
			return
		}
		c.conn, c.in = conn, bufio.NewReader(conn)
	}
	text := fmt.Sprintf("*%d\r\n", len(command))
	for _, field := range command {
		text += bulk(field)
	}
	err := c.conn.SetDeadline(time.Now().Add(cacheTimeout))
	if err == nil {
		_, err = io.WriteString(c.conn, text)
	}
	if err == nil {
		err = read()
	}
	if err != nil {
		_ = c.conn.Close()
		c.conn = nil
	}
}
