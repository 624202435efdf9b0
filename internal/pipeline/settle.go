package pipeline

import "github.com/perfagent/perfagent/internal/wire"

// settle says which of an exchange's records counts: of its swept copies and its final record the first that is final, and no
// other. That one decides also where it is lost, because the kernel side does not count the loss of a final record behind a
// copy whose framing was known. It knows no protocol: whether an unframed copy is final its protocol says.
type settle struct {
	swept  swept
	finals finals
}

// again tells whether a record, as its flags have it, is a swept copy whose framing is not known: where it is lost or does not
// show the exchange's end, it comes again.
func again(flags wire.Flags) bool { return flags&(wire.FlagSwept|wire.FlagFramed) == wire.FlagSwept }

// late tells whether a record that is no swept copy comes behind a copy that has decided, and remembers that it came.
func (s *settle) late(conn uint64, seq uint32) bool {
	s.finals.add(conn, seq)
	return s.superseded(conn, seq)
}

// superseded is late for what the kernel side did not send as a record: an exchange of an irregular connection, which may have
// been regular, silent and reported before it became irregular.
func (s *settle) superseded(conn uint64, seq uint32) bool {
	return s.swept.len() > 0 && s.swept.seen(conn, seq)
}

// first tells whether a swept copy that is final is the first such record of its exchange, and remembers that it was.
func (s *settle) first(conn uint64, seq uint32) bool {
	return !s.finals.has(conn, seq) && s.swept.reported(conn, seq)
}

// counts tells whether a record decides about its exchange, whose fate is known: a swept copy must be final.
func (s *settle) counts(conn uint64, seq uint32, flags wire.Flags) bool {
	if flags&wire.FlagSwept != 0 {
		return s.first(conn, seq)
	}
	return !s.late(conn, seq)
}

// finals remembers the latest final records. A connection that is swept at the very moment at which it moves on may
// send its final record first; the swept copy behind it must not count.
type finals [4096]struct {
	conn uint64
	seq  uint32
}

func (f *finals) add(conn uint64, seq uint32) {
	e := &f[(conn>>8)%uint64(len(f))]
	e.conn, e.seq = conn, seq
}

func (f *finals) has(conn uint64, seq uint32) bool {
	e := &f[(conn>>8)%uint64(len(f))]
	return e.conn == conn && e.seq >= seq
}

// sweptMax bounds swept. One entry is needed for each connection that is silent after a reported exchange; 64 Ki of them
// take about 4 MiB.
const sweptMax = 1 << 16

// sweptKey names an exchange.
type sweptKey struct {
	conn uint64
	seq  uint32
}

// swept remembers which exchanges were reported from a swept record, so that their final record, which may come much later
// or never, is not reported again. When it is full the oldest is forgotten; its final record would then be counted
// twice, which takes more than sweptMax silent connections. The zero value is empty and ready; one goroutine uses it.
type swept struct {
	max   int
	slots map[sweptKey]int // into ring
	ring  []sweptKey
	next  int // slot to write next; the oldest once the ring is full
}

// reported remembers that an exchange was reported. It returns false where that was known already.
func (s *swept) reported(conn uint64, seq uint32) bool {
	if s.slots == nil {
		if s.max == 0 {
			s.max = sweptMax
		}
		s.slots = make(map[sweptKey]int)
	}
	key := sweptKey{conn, seq}
	if _, ok := s.slots[key]; ok {
		return false
	}
	if len(s.ring) < s.max {
		s.ring = append(s.ring, key)
	} else {
		if old := s.ring[s.next]; s.slots[old] == s.next {
			delete(s.slots, old)
		}
		s.ring[s.next] = key
	}
	s.slots[key] = s.next
	s.next = (s.next + 1) % s.max
	return true
}

// seen tells whether an exchange was reported before, and forgets it. Call it for every record that is final by itself.
func (s *swept) seen(conn uint64, seq uint32) bool {
	key := sweptKey{conn, seq}
	if _, ok := s.slots[key]; !ok {
		return false
	}
	delete(s.slots, key)
	return true
}

// has tells whether an exchange was reported before.
func (s *swept) has(conn uint64, seq uint32) bool {
	_, ok := s.slots[sweptKey{conn, seq}]
	return ok
}

// len returns how many exchanges are remembered.
func (s *swept) len() int { return len(s.slots) }
