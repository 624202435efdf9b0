package http2

import (
	"math/rand"
	"testing"

	"github.com/perfagent/perfagent/internal/wire"
)

// walker squeezes a direction's bytes as the kernel side does.
type walker struct {
	left, kept uint64
	head       []byte // of the frame's head under way
	lost       bool
}

const fragmentBytes = 1024 // most that a fragment keeps

func (w *walker) word() FrameWord {
	word := FrameWord(w.left) | FrameWord(len(w.head))<<24
	if w.lost {
		return word | FrameWord(FramePresumed)<<28
	}
	if len(w.head) == 0 {
		return word | FrameWord(w.kept)<<32
	}
	for i, b := range w.head[:min(len(w.head), 4)] {
		word |= FrameWord(b) << (32 + 8*i)
	}
	return word
}

// squeeze hands over an operation's fragments: kept bytes, how many they stand for, and the word.
func (w *walker) squeeze(data []byte, piece func(kept []byte, length int, word FrameWord)) {
	var kept []byte
	length, word := 0, w.word()
	flush := func() {
		if length > 0 && (len(kept) > 0 || w.left == 0) {
			piece(kept, length, word)
			kept, length = nil, 0
		}
		if len(kept) == 0 && length == 0 {
			word = w.word()
		}
	}
	for len(data) > 0 {
		if len(kept) >= fragmentBytes-256 {
			flush()
		}
		var n int
		switch {
		case w.left > 0 && w.kept == 0:
			n = int(min(w.left, uint64(len(data))))
			w.left -= uint64(n)
		case w.left > 0:
			n = int(min(w.kept, uint64(len(data)), 256))
			kept = append(kept, data[:n]...)
			w.left, w.kept = w.left-uint64(n), w.kept-uint64(n)
		default:
			n = min(frameHead-len(w.head), len(data))
			kept, w.head = append(kept, data[:n]...), append(w.head, data[:n]...)
			if len(w.head) == frameHead {
				f := parseFrame(w.head)
				w.left, w.kept, w.head, w.lost = uint64(f.length), f.squeezed(), nil, false
			}
		}
		length += n
		data = data[n:]
	}
	if length > 0 && len(kept) == 0 && w.left > 0 {
		piece(nil, -length, word) // of which nothing is told
		return
	}
	flush()
}

// squeezed feeds a connection whose fragments are squeezed, and may lose some.
func (p *tape) squeezed(ops []op, loses func() bool, cut func(n int) int, lost bool) *tape {
	walkers := [2]walker{{left: uint64(len(preface)), kept: uint64(len(preface))}, {}}
	if lost {
		walkers = [2]walker{{lost: true}, {lost: true}}
	}
	for _, o := range ops {
		w := &walkers[1]
		if o.request {
			w = &walkers[0]
		}
		p.at += 10
		for data := o.data; len(data) > 0; {
			n := cut(len(data))
			w.squeeze(data[:n], func(kept []byte, length int, word FrameWord) {
				if length < 0 {
					p.fragment(o.request, nil, -length)
					return
				}
				f := p.fragment(o.request, kept, length)
				f.Chunks = wire.Chunks(word)
				if !loses() {
					p.Fragment(f, p.note)
				}
			})
			data = data[n:]
		}
	}
	p.close()
	return p
}

func all(n int) int { return n }

func never() bool { return false }

// Shows that squeezed fragments tell as much as all bytes do, but for the messages of gRPC that begin where nothing was kept, and
// however operations are cut.
func TestSqueezed(t *testing.T) {
	for seed := range int64(40) {
		ops := made(seed, 200)
		streams := oracle(t, ops)
		r := rand.New(rand.NewSource(seed))
		cut := all
		if seed%2 == 1 {
			cut = func(n int) int { return 1 + r.Intn(min(n, 40)) }
		}
		whole, p := newTape(t, Options{}).play(ops), newTape(t, Options{Squeezed: true}).squeezed(ops, never, cut, false)
		p.books()
		agrees(t, p.out, streams, true)
		if len(p.failures) > 0 || len(p.lost) > 0 {
			t.Fatalf("seed %d: %v, lost %v", seed, p.failures, p.lost)
		}
		if got, want := p.lines(), whole.lines(); got != want {
			t.Fatalf("seed %d:\n%s\nwant\n%s", seed, got, want)
		}
	}
}

// Shows that whatever squeezed fragments are lost, and wherever a connection is joined, what is said to be known is right; and that the
// place is found again with the next fragment.
func TestSqueezedLost(t *testing.T) {
	reported, gaps, found := 0, 0, 0
	for seed := range int64(120) {
		ops := made(seed, 200)
		streams := oracle(t, ops)
		r := rand.New(rand.NewSource(seed))
		p := newTape(t, Options{Squeezed: true})
		joined := seed%2 == 1
		if joined {
			ops = ops[r.Intn(len(ops)):]
			p.flags = wire.FlagOlder
		}
		cut := func(n int) int { return 1 + r.Intn(min(n, 600)) }
		p.squeezed(ops, func() bool { return r.Intn(25) == 0 }, cut, joined)
		p.books()
		agrees(t, p.out, streams, false)
		reported, gaps, found = reported+len(p.out), gaps+int(p.Stats().Gaps), found+int(p.Stats().Found)
	}
	t.Logf("%d were reported, the place was lost %d times and found %d times", reported, gaps, found)
	if reported < 900 || found < gaps*9/10 {
		t.Errorf("%d were reported, the place was lost %d times and found %d times", reported, gaps, found)
	}
}

// Shows that a connection whose ends were presumed the wrong way round is put right by its first headers.
func TestTurned(t *testing.T) {
	ops := made(3, 200)
	streams := oracle(t, ops)
	for i := range ops {
		ops[i].request = !ops[i].request
	}
	p := newTape(t, Options{})
	p.role, p.flags = wire.RoleClient, wire.FlagOlder
	p.play(ops[3:])
	p.books()
	agrees(t, p.out, streams, false)
	if len(p.out) < 20 || p.out[0].Role != wire.RoleServer {
		t.Errorf("%d came out: %s", len(p.out), p.lines())
	}
}
