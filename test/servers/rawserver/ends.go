package main

import (
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/perfagent/perfagent/test/ends"
)

const chunkedHead = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

// whole answers in pieces, with a pause behind the first. It returns false when the connection is over.
//
//	/ends/KIND?pause=MS
func (s *session) whole(kind string, delay time.Duration) bool {
	switch kind {
	case "length":
		return s.pieces(delay, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n01234", "56789")
	case "interim":
		return s.pieces(delay, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n1234", "56789")
	case "until-fin":
		_ = s.pieces(delay, "HTTP/1.0 200 OK\r\n\r\nuntil ", "the end") && pause(delay)
		return false
	case "late": // everything, and the end at once; not before the client has sent what it likes
		pause(4 * delay)
		s.send([]byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"))
		return false
	}
	name, _ := strings.CutPrefix(kind, "chunk-")
	final, known := ends.FinalChunks[name]
	if !known {
		return s.end("", 0)
	}
	return s.pieces(delay, append([]string{chunkedHead + "5\r\nhello\r\n"}, final...)...)
}

// cut ends the connection before the response is whole, after a pause.
//
//	/ends/cut-KIND?pause=MS
func (s *session) cut(kind string, delay time.Duration) bool {
	switch kind {
	case "unanswered":
	case "length":
		s.send([]byte("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n01234"))
	case "chunk", "reset", "gone":
		s.send([]byte(chunkedHead + "a\r\n01234"))
	case "between":
		s.send([]byte(chunkedHead + "5\r\n01234\r\n"))
	}
	switch kind {
	case "wait", "gone": // the client leaves first
		io.Copy(io.Discard, s.reader)
	case "reset":
		s.reset()
	}
	pause(delay)
	return false
}

// pieces hands over each piece by one call, with a pause behind the first.
func (s *session) pieces(delay time.Duration, pieces ...string) bool {
	for i, p := range pieces {
		if i == 1 {
			pause(delay)
		}
		if !s.send([]byte(p)) {
			return false
		}
	}
	return true
}

// pauseOf is the pause that a query asks for.
func pauseOf(query string) time.Duration {
	ms, _ := strconv.Atoi(strings.TrimPrefix(query, "pause="))
	return time.Duration(ms) * time.Millisecond
}
