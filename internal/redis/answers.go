package redis

import (
	"errors"
	"fmt"
	"net"
	"strconv"
)

const (
	// answerBytesMax bounds an answer: those to what is sent here are a word, an error, or the name of an entry of a stream.
	answerBytesMax = 4 << 10
	// lengthDigitsMax is more than a length within the bound has.
	lengthDigitsMax = 8
)

// errNoAnswer says that what is there is no Redis server, or none to be talked with.
var errNoAnswer = errors.New("the server's answer is none of Redis to what was sent")

// answers is a connection that hands on answers of Redis' protocol to what is sent here: lines, and one text of a length. The client
// makes room for whatever length it is told, and goes as deep as lists in lists do, so that who listens there by mistake or malice would
// take all memory.
type answers struct {
	net.Conn
	kind  byte // of the answer that is read; 0: the next byte tells it
	bytes int  // of it
	head  []byte
	text  int // what is to come of a text, with its end of line
}

// Read fails at the first byte of anything else.
func (a *answers) Read(p []byte) (int, error) {
	n, err := a.Conn.Read(p)
	for _, b := range p[:n] {
		if err := a.take(b); err != nil {
			return 0, err
		}
	}
	return n, err
}

func (a *answers) take(b byte) error {
	if a.text > 0 {
		a.text--
		return nil
	}
	if a.kind == 0 {
		if b != '+' && b != '-' && b != ':' && b != '$' {
			return errNoAnswer
		}
		a.kind, a.bytes, a.head = b, 0, a.head[:0]
		return nil
	}
	if a.bytes++; a.bytes > answerBytesMax {
		return fmt.Errorf("%w: it is longer than %d bytes", errNoAnswer, answerBytesMax)
	}
	if b != '\n' {
		if a.kind == '$' && b != '\r' {
			a.head = append(a.head, b)
		}
		if len(a.head) > lengthDigitsMax {
			return errNoAnswer
		}
		return nil
	}
	kind := a.kind
	a.kind = 0
	if kind != '$' || string(a.head) == "-1" { // no text
		return nil
	}
	length, err := strconv.ParseUint(string(a.head), 10, 31)
	if err != nil || length > answerBytesMax {
		return fmt.Errorf("%w: a text of %q bytes", errNoAnswer, a.head)
	}
	a.text = int(length) + len("\r\n")
	return nil
}
