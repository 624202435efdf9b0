package wire

// Loss names why a known exchange was not reported; the pair is the label set of perfagent_exchanges_lost_total.
type Loss struct{ Stage, Reason string }

// Every loss that perfagent counts. Stages: kernel (BPF programs), queue (between reader and worker), parse.
var (
	LostRingFull   = Loss{"kernel", "ring_full"}   // no room in the ring buffer
	LostMapFull    = Loss{"kernel", "map_full"}    // no room for the connection's state
	LostEvicted    = Loss{"kernel", "evicted"}     // the captured head was displaced by newer ones
	LostUnreadable = Loss{"kernel", "unreadable"}  // the process's memory could not be read
	LostQueueFull  = Loss{"queue", "queue_full"}   // user space fell behind
	LostParse      = Loss{"parse", "parse"}        // the captured bytes were not understood
	LostDesync     = Loss{"parse", "desync"}       // a pipelined connection's framing was lost
	LostStreams    = Loss{"parse", "streams_full"} // too many irregular connections at once
	LostReader     = Loss{"reader", "failed"}      // under way when the reader failed
)

// Losses lists them all, in a fixed order.
var Losses = []Loss{LostRingFull, LostMapFull, LostEvicted, LostUnreadable, LostQueueFull, LostParse, LostDesync, LostStreams, LostReader}
