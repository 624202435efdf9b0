package host

// Pressure is how much work stood still for want of a resource (PSI, since 4.20), from /proc/pressure. A resource is
// nil where the kernel does not tell: it was built without PSI or started with psi=0.
type Pressure struct {
	CPU, Memory, IO *ResourcePressure
}

// ResourcePressure is the pressure on one resource.
type ResourcePressure struct {
	Some Stall  // at least one task stood still
	Full *Stall // all tasks that were not idle stood still; nil for the processors, where it cannot happen host-wide
}

// Stall is the time in which tasks stood still.
type Stall struct {
	Avg10, Avg60 float64 // percent of the last 10 s and 60 s
	Seconds      Counter
}

// pressureReader reads one file of /proc/pressure (Linux 4.20, with CONFIG_PSI): cpu, memory or io.
type pressureReader struct {
	file string
	last ResourcePressure
}

// read returns the averages as the kernel has them, in percent, and the time that tasks stood still as a counter in seconds. It fails where
// the kernel keeps no such file, or refuses to read it (psi=0: EOPNOTSUPP).
func (r *pressureReader) read(files *fileReader, seconds float64) (*ResourcePressure, error) {
	data, err := files.read("/proc/pressure", r.file)
	if err != nil {
		return nil, &fileError{"/proc/pressure/" + r.file, err}
	}
	p, ok := parsePressure(data)
	if !ok {
		return nil, malformed("/proc/pressure/" + r.file)
	}
	p.Some.Seconds = r.last.Some.Seconds.next(p.Some.Seconds.Total, seconds)
	if r.file == "cpu" {
		p.Full = nil // always zero, written for compatibility since 5.13
	}
	if p.Full != nil {
		before := Stall{}
		if r.last.Full != nil {
			before = *r.last.Full
		}
		p.Full.Seconds = before.Seconds.next(p.Full.Seconds.Total, seconds)
	}
	r.last = p
	return &p, nil
}

// parsePressure parses lines of `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`, of which "full" may be absent.
func parsePressure(data []byte) (p ResourcePressure, ok bool) {
	for len(data) > 0 {
		var line []byte
		line, data = nextLine(data)
		kind, line := nextField(line)
		stall, understood := parseStall(line)
		switch {
		case !understood:
			return p, false
		case string(kind) == "some":
			p.Some, ok = stall, true
		case string(kind) == "full":
			p.Full = &stall
		}
	}
	return p, ok
}

// parseStall parses what follows some or full. Averages have two decimals, the total is in microseconds. Fields that are not known, such as
// avg300, are passed over; one that is missing makes the line malformed.
func parseStall(line []byte) (s Stall, ok bool) {
	found := 0
	for {
		var field []byte
		if field, line = nextField(line); len(field) == 0 {
			return s, found == 3
		}
		understood := true
		if value, is := cutPrefix(field, "avg10="); is {
			s.Avg10, understood = parseHundredths(value)
		} else if value, is := cutPrefix(field, "avg60="); is {
			s.Avg60, understood = parseHundredths(value)
		} else if value, is := cutPrefix(field, "total="); is {
			var microseconds uint64
			microseconds, understood = parseUint(value)
			s.Seconds.Total = float64(microseconds) / 1e6
		} else {
			continue
		}
		if !understood {
			return s, false
		}
		found++
	}
}
