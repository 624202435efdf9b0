package cache

// none is no key.
const none = -1

// lists are doubly linked lists over keys 0 to n-1, each key in one of them at most.
type lists struct {
	next, prev []int32
	in         []uint8 // 1 + the list that a key is in; 0: none
	ends       []ends
}

// ends are the oldest and the newest key of a list.
type ends struct {
	oldest, newest int32
	length         int
}

// reset makes count empty lists over n keys.
func (l *lists) reset(n, count int) {
	if len(l.next) != n {
		l.next, l.prev, l.in = make([]int32, n), make([]int32, n), make([]uint8, n)
	}
	clear(l.in)
	l.ends = l.ends[:0]
	for range count {
		l.ends = append(l.ends, ends{none, none, 0})
	}
}

// where returns the list of a key; none for none.
func (l *lists) where(key int32) int { return int(l.in[key]) - 1 }

func (l *lists) length(list int) int { return l.ends[list].length }

// push makes a key the newest of a list.
func (l *lists) push(list int, key int32) {
	e := &l.ends[list]
	l.prev[key], l.next[key] = e.newest, none
	if e.newest == none {
		e.oldest = key
	} else {
		l.next[e.newest] = key
	}
	e.newest = key
	e.length++
	l.in[key] = uint8(list) + 1
}

// remove takes a key out of its list.
func (l *lists) remove(key int32) {
	e := &l.ends[l.in[key]-1]
	before, after := l.prev[key], l.next[key]
	if before == none {
		e.oldest = after
	} else {
		l.next[before] = after
	}
	if after == none {
		e.newest = before
	} else {
		l.prev[after] = before
	}
	e.length--
	l.in[key] = 0
}

// pop takes the oldest key out of a list that has one.
func (l *lists) pop(list int) int32 {
	key := l.ends[list].oldest
	l.remove(key)
	return key
}

// move makes a key the newest of another list, or of its own.
func (l *lists) move(list int, key int32) {
	l.remove(key)
	l.push(list, key)
}
