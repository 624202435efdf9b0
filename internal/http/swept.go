package http

// sweptMax bounds Swept. One entry is needed for each connection that is silent after a reported exchange; 64 Ki of them
// take about 4 MiB.
const sweptMax = 1 << 16

// sweptKey names an exchange.
type sweptKey struct {
	conn uint64
	seq  uint32
}

// Swept remembers which exchanges were reported from a swept record, so that their final record, which may come much later
// or never, is not reported again. When it is full the oldest is forgotten; its final record would then be counted
// twice, which takes more than sweptMax silent connections. The zero value is empty and ready; one goroutine uses it.
type Swept struct {
	max   int
	slots map[sweptKey]int // into ring
	ring  []sweptKey
	next  int // slot to write next; the oldest once the ring is full
}

// Reported remembers that an exchange was reported. It returns false where that was known already.
func (s *Swept) Reported(conn uint64, seq uint32) bool {
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

// Seen tells whether an exchange was reported before, and forgets it. Call it for every record that is final by itself.
func (s *Swept) Seen(conn uint64, seq uint32) bool {
	key := sweptKey{conn, seq}
	if _, ok := s.slots[key]; !ok {
		return false
	}
	delete(s.slots, key)
	return true
}

// Has tells whether an exchange was reported before.
func (s *Swept) Has(conn uint64, seq uint32) bool {
	_, ok := s.slots[sweptKey{conn, seq}]
	return ok
}

// Len returns how many exchanges are remembered.
func (s *Swept) Len() int { return len(s.slots) }
