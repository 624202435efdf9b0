package host

// TCP is what the host's network namespace counts, from /proc/net/snmp and /proc/net/netstat. Counters are Unknown
// where the kernel does not have them.
type TCP struct {
	// Established are connections that are open in both directions, or of which the peer has closed its own: what the
	// kernel calls CurrEstab.
	Established float64

	ActiveOpens, PassiveOpens Counter // connections begun by this host, and by others
	FailedAttempts            Counter // handshakes that came to nothing
	EstablishedResets         Counter // open connections that ended with a reset, of either side
	SentResets                Counter
	SentSegments              Counter // retransmitted ones left out
	ReceivedSegments          Counter
	RetransmittedSegments     Counter
	ReceivedErrors            Counter
	Timeouts                  Counter // retransmission timers that ran out
	SYNRetransmits            Counter
	ListenOverflows           Counter // handshakes that found the accept queue full
	ListenDrops               Counter // handshakes dropped, overflows included
	SYNCookiesSent            Counter // the queue of half-open connections was full
	SYNQueueDrops             Counter
	WantedZeroWindow          Counter // a window of zero was called for, and a larger one advertised so as not to shrink it
	ZeroWindows               Counter // times that a full receive buffer closed the window
	ReopenedWindows           Counter // times that it was opened again
	PrunedReceives            Counter // segments dropped because the receive buffer was full
	BacklogDrops              Counter
	AbortsOnMemory            Counter
	AbortsOnTimeout           Counter
}

// counter returns where a column of a table is kept, nil where it is not.
func (t *TCP) counter(table, column []byte) *Counter {
	switch string(table) {
	case "Tcp:":
		switch string(column) {
		case "ActiveOpens":
			return &t.ActiveOpens
		case "PassiveOpens":
			return &t.PassiveOpens
		case "AttemptFails":
			return &t.FailedAttempts
		case "EstabResets":
			return &t.EstablishedResets
		case "InSegs":
			return &t.ReceivedSegments
		case "OutSegs":
			return &t.SentSegments
		case "RetransSegs":
			return &t.RetransmittedSegments
		case "InErrs":
			return &t.ReceivedErrors
		case "OutRsts":
			return &t.SentResets
		}
	case "TcpExt:":
		switch string(column) {
		case "TCPTimeouts":
			return &t.Timeouts
		case "TCPSynRetrans":
			return &t.SYNRetransmits
		case "ListenOverflows":
			return &t.ListenOverflows
		case "ListenDrops":
			return &t.ListenDrops
		case "TCPReqQFullDoCookies":
			return &t.SYNCookiesSent
		case "TCPReqQFullDrop":
			return &t.SYNQueueDrops
		case "TCPWantZeroWindowAdv":
			return &t.WantedZeroWindow
		case "TCPToZeroWindowAdv":
			return &t.ZeroWindows
		case "TCPFromZeroWindowAdv":
			return &t.ReopenedWindows
		case "TCPRcvQDrop":
			return &t.PrunedReceives
		case "TCPBacklogDrop":
			return &t.BacklogDrops
		case "TCPAbortOnMemory":
			return &t.AbortsOnMemory
		case "TCPAbortOnTimeout":
			return &t.AbortsOnTimeout
		}
	}
	return nil
}

// unknownTCP has no counter.
func unknownTCP() TCP {
	u := unknownCounter
	return TCP{
		Established: Unknown, ActiveOpens: u, PassiveOpens: u, FailedAttempts: u, EstablishedResets: u, SentResets: u,
		SentSegments: u, ReceivedSegments: u, RetransmittedSegments: u, ReceivedErrors: u, Timeouts: u, SYNRetransmits: u,
		ListenOverflows: u, ListenDrops: u, SYNCookiesSent: u, SYNQueueDrops: u, WantedZeroWindow: u, ZeroWindows: u,
		ReopenedWindows: u, PrunedReceives: u, BacklogDrops: u, AbortsOnMemory: u, AbortsOnTimeout: u,
	}
}

type tcpReader struct{ last TCP }

func (r *tcpReader) read(files *fileReader, seconds float64) (*TCP, error) {
	if seconds == 0 {
		r.last = unknownTCP()
	}
	tcp := r.last
	for _, file := range [...]string{"snmp", "netstat"} {
		data, err := files.read(files.net, file)
		if err != nil {
			return nil, &fileError{files.net + "/" + file, err}
		}
		if !parseNetTables(data, &tcp, seconds) {
			return nil, malformed(files.net + "/" + file)
		}
	}
	r.last = tcp
	return &tcp, nil
}

// parseNetTables parses /proc/net/snmp and netstat: for each table a line of names, and one of as many values.
func parseNetTables(data []byte, tcp *TCP, seconds float64) (ok bool) {
	for len(data) > 0 {
		var names, values []byte
		names, data = nextLine(data)
		values, data = nextLine(data)
		table, names := nextField(names)
		again, values := nextField(values)
		if len(table) == 0 || string(table) != string(again) {
			return false
		}
		if string(table) != "Tcp:" && string(table) != "TcpExt:" {
			continue
		}
		ok = true
		if !parseNetTable(table, names, values, tcp, seconds) {
			return false
		}
	}
	return ok
}

func parseNetTable(table, names, values []byte, tcp *TCP, seconds float64) bool {
	for {
		var name, value []byte
		name, names = nextField(names)
		value, values = nextField(values)
		if len(name) == 0 || len(value) == 0 {
			return len(name) == len(value)
		}
		if string(name) == "CurrEstab" {
			n, ok := parseUint(value)
			if !ok {
				return false
			}
			tcp.Established = float64(n)
			continue
		}
		counter := tcp.counter(table, name)
		if counter == nil {
			continue
		}
		total, ok := parseUint(value)
		if !ok {
			return false
		}
		*counter = counter.next(float64(total), seconds)
	}
}

// Sockets are the TCP sockets of the host's network namespace, IPv4 and IPv6 together, from /proc/net/sockstat and
// sockstat6.
type Sockets struct {
	InUse    float64 // all but those in TIME_WAIT: listening, open, in a handshake, closing
	TimeWait float64
	Orphaned float64 // of InUse: closed by their process, and not yet by TCP; of all network namespaces
	Memory   float64 // bytes of all TCP buffers, of all network namespaces
}

type socketReader struct{ pageSize float64 }

func (r *socketReader) read(files *fileReader, _ float64) (*Sockets, error) {
	data, err := files.read(files.net, "sockstat")
	if err != nil {
		return nil, &fileError{files.net + "/sockstat", err}
	}
	raw, ok := parseSockstat(data, "TCP:")
	if !ok {
		return nil, malformed(files.net + "/sockstat")
	}
	sockets := &Sockets{float64(raw.inUse), float64(raw.timeWait), float64(raw.orphaned), float64(raw.pages) * r.pageSize}
	data, err = files.read(files.net, "sockstat6")
	if err != nil {
		if isGone(err) {
			return sockets, nil // a kernel without IPv6
		}
		return nil, &fileError{files.net + "/sockstat6", err}
	}
	if raw, ok = parseSockstat(data, "TCP6:"); !ok {
		return nil, malformed(files.net + "/sockstat6")
	}
	sockets.InUse += float64(raw.inUse)
	return sockets, nil
}

type sockstat struct{ inUse, orphaned, timeWait, pages uint64 }

// parseSockstat parses the protocol's line: NAME: key number key number….
func parseSockstat(data []byte, protocol string) (s sockstat, ok bool) {
	for len(data) > 0 {
		var line []byte
		line, data = nextLine(data)
		name, line := nextField(line)
		if string(name) != protocol {
			continue
		}
		for {
			var key []byte
			if key, line = nextField(line); len(key) == 0 {
				return s, ok
			}
			var n uint64
			var isNumber bool
			if n, line, isNumber = nextUint(line); !isNumber {
				return s, false
			}
			switch string(key) {
			case "inuse":
				s.inUse, ok = n, true
			case "orphan":
				s.orphaned = n
			case "tw":
				s.timeWait = n
			case "mem":
				s.pages = n
			}
		}
	}
	return s, false
}
