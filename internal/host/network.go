package host

import "bytes"

// interfacesMax is how many network interfaces are followed: a node with 110 pods has as many of its own.
const interfacesMax = 256

// Interface is the traffic of one network interface of the host's network namespace, from /proc/net/dev.
type Interface struct {
	Name                              string
	Loopback                          bool // its traffic never leaves the host, and is received as often as it is sent
	Virtual                           bool // no device of its own: a bridge, a tunnel, an end of a container's link; its traffic is another one's too
	ReceivedBytes, SentBytes          Counter
	ReceivedPackets, SentPackets      Counter
	ReceiveErrors, TransmitErrors     Counter
	ReceivesDropped, TransmitsDropped Counter
}

// networkReader remembers the interfaces of /proc/net/dev of process 1's network namespace, up to interfacesMax: a host with containers
// has one for each of these.
type networkReader struct {
	known     map[string]*interfaceState
	round     uint64
	overLimit bool
}

// interfaceState is an interface as of the reading in which it was last there.
type interfaceState struct {
	last  Interface
	round uint64
}

// read returns all interfaces that are there. Without a single one, not even the loopback, the file is taken for malformed: an empty
// answer would look like a host without traffic.
func (r *networkReader) read(files *fileReader, seconds float64) ([]Interface, error) {
	data, err := files.read(files.net, "dev")
	if err != nil {
		return nil, &fileError{files.net + "/dev", err}
	}
	if r.known == nil {
		r.known = make(map[string]*interfaceState)
	}
	r.round++
	r.overLimit = false
	_, data = nextLine(data)
	_, data = nextLine(data)
	data = append([]byte(nil), data...) // looking up a new interface uses the buffer
	all := make([]Interface, 0, len(r.known))
	for len(data) > 0 {
		var line []byte
		line, data = nextLine(data)
		name, values, ok := parseNetDev(line)
		if !ok {
			return nil, malformed(files.net + "/dev")
		}
		state := r.state(files, name)
		if state == nil {
			continue
		}
		since := seconds
		if state.round != r.round-1 {
			since = 0
		}
		state.round = r.round
		state.last = state.last.next(&values, since)
		all = append(all, state.last)
	}
	for name, state := range r.known {
		if state.round != r.round {
			delete(r.known, name)
		}
	}
	if len(all) == 0 {
		return nil, malformed(files.net + "/dev")
	}
	return all, nil
}

// state returns what is known of an interface, nil where there are too many. What kind it is, is asked once: that takes two files more
// of sysfs for each interface.
func (r *networkReader) state(files *fileReader, name []byte) *interfaceState {
	if state := r.known[string(name)]; state != nil {
		return state
	}
	if len(r.known) >= interfacesMax {
		r.overLimit = true
		return nil
	}
	const loopback = "772" // ARPHRD_LOOPBACK
	kind, err := files.read("/sys/class/net/"+string(name), "type")
	state := &interfaceState{last: Interface{Name: string(name)}}
	state.last.Loopback = err == nil && string(bytes.TrimSpace(kind)) == loopback || err != nil && state.last.Name == "lo"
	_, err = files.read("/sys/class/net/"+string(name)+"/device", "uevent")
	state.last.Virtual = err != nil
	r.known[state.last.Name] = state
	return state
}

// Columns of /proc/net/dev that are of interest.
const (
	receivedBytes, receivedPackets, receiveErrors, receivesDropped = 0, 1, 2, 3
	sentBytes, sentPackets, transmitErrors, transmitsDropped       = 8, 9, 10, 11
	netDevColumns                                                  = 12
)

// next counts on from the reading before, seconds ago; 0 seconds: there is none, and no rates.
func (i Interface) next(values *[netDevColumns]uint64, seconds float64) Interface {
	for _, c := range [...]struct {
		counter *Counter
		column  int
	}{
		{&i.ReceivedBytes, receivedBytes}, {&i.ReceivedPackets, receivedPackets},
		{&i.ReceiveErrors, receiveErrors}, {&i.ReceivesDropped, receivesDropped},
		{&i.SentBytes, sentBytes}, {&i.SentPackets, sentPackets},
		{&i.TransmitErrors, transmitErrors}, {&i.TransmitsDropped, transmitsDropped},
	} {
		*c.counter = c.counter.next(float64(values[c.column]), seconds)
	}
	return i
}

// parseNetDev parses one interface's line, NAME: NUMBERS. A name may hold a colon (an alias).
func parseNetDev(line []byte) (name []byte, values [netDevColumns]uint64, ok bool) {
	colon := bytes.LastIndexByte(line, ':')
	if colon < 0 {
		return nil, values, false
	}
	name, _ = nextField(line[:colon])
	line = line[colon+1:]
	for i := range values {
		if values[i], line, ok = nextUint(line); !ok {
			return nil, values, false
		}
	}
	return name, values, len(name) > 0
}
