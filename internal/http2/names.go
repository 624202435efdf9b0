package http2

// namesMax bounds the names of methods that are kept as strings, of at most pathBytesMax each: as many as a host has endpoints.
const namesMax = 1 << 11

// names makes strings of bytes without allocating each time. When it is full it begins anew.
type names map[string]string

func (n *names) text(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	if s, ok := (*n)[string(b)]; ok {
		return s
	}
	if *n == nil || len(*n) >= namesMax {
		*n = make(names)
	}
	s := string(b)
	(*n)[s] = s
	return s
}
