package http2

import (
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/perfagent/perfagent/internal/wire"
)

var update = flag.Bool("update", false, "write what comes out of testdata/*.h2 to testdata/*.txt")

// recorded reads what two real peers said to each other: "> " and "< " with what the client and the server sent, in hexadecimal, one
// read of a proxy between them a line, and "x" where the connection ends. See TestRecord.
func recorded(t testing.TB, file string) (ops []op) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		sign, digits, _ := strings.Cut(strings.TrimSpace(line), " ")
		if sign == "x" {
			break
		}
		data, err := hex.DecodeString(digits)
		if err != nil {
			t.Fatal(err)
		}
		ops = append(ops, op{sign == ">", data})
	}
	return ops
}

// recordings returns the recordings there are.
func recordings(t testing.TB) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", "*.h2"))
	if err != nil || len(files) < 10 {
		t.Fatalf("%d recordings: %v", len(files), err)
	}
	return files
}

// upgraded tells whether a recording begins with HTTP/1, which the other implementation does not read.
func upgraded(ops []op) bool { return !strings.HasPrefix(string(ops[0].data), "PRI") }

// Shows that what real peers said comes out as written down, which another implementation confirms.
func TestRecorded(t *testing.T) {
	for _, file := range recordings(t) {
		ops := recorded(t, file)
		p := newTape(t, Options{}).play(ops)
		p.books()
		if len(p.failures) > 0 || len(p.lost) > 0 {
			t.Errorf("%s: %v, lost %v", file, p.failures, p.lost)
		}
		if !upgraded(ops) {
			agrees(t, p.out, oracle(t, ops), true)
		}
		golden := strings.TrimSuffix(file, ".h2") + ".txt"
		if *update {
			if err := os.WriteFile(golden, []byte(p.lines()), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.lines(); got != string(want) {
			t.Errorf("%s:\n%s\nwant\n%s", file, got, want)
		}
	}
}

// Shows that it does not matter where a recording's operations are cut in two, nor whether its bytes come one by one.
func TestRecordedCut(t *testing.T) {
	for _, file := range recordings(t) {
		ops := recorded(t, file)
		want := newTape(t, Options{}).play(ops).lines()
		check := func(what string, cuts func(o op) []int) {
			p := newTape(t, Options{})
			for _, o := range ops {
				p.send(o, cuts(o)...)
			}
			p.close()
			p.books()
			if got := p.lines(); got != want {
				t.Fatalf("%s, %s:\n%s\nwant\n%s", file, what, got, want)
			}
		}
		longest := 0
		for _, o := range ops {
			longest = max(longest, len(o.data))
		}
		for at := range min(longest, cutsMax) {
			check(fmt.Sprint("cut at ", at), func(o op) []int { return []int{at} })
		}
		check("byte by byte", func(o op) []int {
			cuts := make([]int, len(o.data))
			for i := range cuts {
				cuts[i] = i
			}
			return cuts
		})
	}
}

// cutsMax is where recordings are cut at most: behind it there is only more of the same data.
const cutsMax = 600

// Shows that a recording may end at any byte, that a connection may be joined at any of its first bytes in each direction, and that
// what is said to be known is right then.
func TestRecordedTruncatedAndJoined(t *testing.T) {
	for _, file := range recordings(t) {
		ops := recorded(t, file)
		if upgraded(ops) {
			continue
		}
		streams := oracle(t, ops)
		total := 0
		for _, o := range ops {
			total += len(o.data)
		}
		for at := 0; at < total; at += 1 + at/200 {
			p := newTape(t, Options{})
			joined := newTape(t, Options{})
			joined.flags = wire.FlagOlder
			before := 0
			for _, o := range ops {
				n := min(max(at-before, 0), len(o.data))
				before += len(o.data)
				if n > 0 {
					p.send(op{o.request, o.data[:n]})
				}
				if n < len(o.data) {
					joined.send(op{o.request, o.data[n:]})
				}
			}
			p.close()
			p.books()
			joined.close()
			joined.books()
			agrees(t, p.out, streams, false)
			agrees(t, joined.out, streams, false)
		}
	}
}
