package finding

import (
	"math"
	"slices"
)

// handOn hands evidence on, from what requests suffer from to what somebody can change.
func (s *situation) handOn() {
	for _, c := range s.candidates {
		if c.of != nil {
			s.handOnCalls(c)
		}
	}
	s.handOnLateDisks()
	s.handOnStarved()
	s.handOnTo(partCPU, s.part(partHostCPU, ofHost), s.processorSeconds())
	s.handOnMemory()
	s.handOnTo(partIO, s.part(partHostIO), 0)
	s.handOnPaging()
	s.handOnToLoads()
}

// handOnMemory goes on from waiting for memory to who took it, or to the limit of a control group. Where memory is waited for, disks
// are busy with what was pushed out of it.
func (s *situation) handOnMemory() {
	if waited := s.largest(partReclaim); waited != nil {
		for _, c := range append(s.part(partHostIO), s.part(partIO, ofSelf, ofDownstream)...) {
			if c.growth >= material/2 {
				c.give(waited, 0.8)
			}
		}
	}
	s.handOnTo(partMemory, append(s.part(partReclaim), s.part(partHostMemory)...), 0)
	for _, limit := range s.part(partLimit) {
		if limit.Metric != MemoryUsage || limit.after < fullPercent || limit.growth < material/2 {
			continue
		}
		for _, c := range append(s.part(partReclaim), s.part(partMemory)...) {
			if c.id() == limit.id() || c.Service == "" {
				c.give(limit, 0.8)
			}
		}
	}
}

// handOnPaging goes on from a service that reads from disks since its memory grew: what was pushed out of memory is read again.
func (s *situation) handOnPaging() {
	for _, c := range s.part(partIO, ofSelf, ofDownstream) {
		for _, m := range s.part(partMemory, c.relationship) {
			if c.Metric == DiskRead && m.id() == c.id() && m.growth >= material/3 {
				c.give(m, 0.9)
			}
		}
	}
}

// handOnToLoads goes on to the requests that come, from what a service uses and waits for, and from what it calls to who calls it.
func (s *situation) handOnToLoads() {
	load := s.largest(partLoad, ofSelf)
	for _, c := range slices.Clone(s.candidates) {
		switch {
		case c.of != nil && load != nil: // a server that is asked more often may be slower for that
			c.give(load, min(1, load.growth)/2)
		case (c.relationship == ofSelf || c.relationship == ofDownstream) && c.growth > 0 && c.nature.part >= partCPU:
			for _, own := range s.part(partLoad, c.relationship) {
				if own.id() == c.id() && own.growth >= material {
					c.give(own, own.growth/c.growth)
				}
			}
		}
	}
	for _, c := range s.part(partLoad, ofDownstream) {
		if load != nil && c.growth > 0 {
			c.give(load, load.growth/c.growth)
		}
	}
}

// handOnCalls follows slow calls to the service that they lead to, and the network.
func (s *situation) handOnCalls(c *candidate) {
	waited := c.after - c.before
	if n := s.network(); n != nil {
		share := 0.8 // a segment that is sent again costs at least 200 ms
		if n.nature.unit == "ms" {
			share = (n.after - n.before) / waited
		}
		if share >= shareMin {
			c.give(n, share)
		}
	}
	for _, n := range s.part(partStarved, ofSelf) { // a call waits for a processor some times, and so does who is called
		if n.nature.unit == "ms" && n.growth >= material {
			c.give(n, wakesOfCall*(n.after-n.before)/waited)
		}
	}
	if !c.of.isLocal || c.of.ours {
		return
	}
	var best *candidate
	for _, o := range s.candidates {
		if o.id() == c.of.local && o.of == nil && o.growth >= material && o.score >= causeScoreMin && (best == nil || o.score > best.score) {
			best = o
		}
	}
	if best != nil {
		c.give(best, 0.9)
		return
	}
	s.follow(c, c.of.local, followedMax)
}

// network is what of the network got worse for the service. Where its own retransmissions are counted and did not rise, those of the host
// are of others.
func (s *situation) network() *candidate {
	if s.losesNone() {
		return s.largest(partNetwork, ofSelf, ofDownstream)
	}
	return s.largest(partNetwork)
}

// losesNone tells that the service's own retransmissions are known, and not more than before.
func (s *situation) losesNone() bool {
	known := slices.ContainsFunc(s.all, func(m *Measured) bool { return m.Metric == Retransmits && m.id() == s.self && m.id() != serviceID{} })
	return known && !slices.ContainsFunc(s.part(partNetwork, ofSelf), func(c *candidate) bool {
		return c.Metric == Retransmits && c.growth >= material
	})
}

// dropOthersLosses has retransmissions of others explain nothing.
func (s *situation) dropOthersLosses() {
	if !s.losesNone() {
		return
	}
	for _, c := range s.part(partNetwork, ofHost) {
		if c.Metric == Retransmits {
			c.score *= 1 - handed
		}
	}
}

// followedMax is how many services are followed from one to the next.
const followedMax = 3

// follow goes on to the calls of a service that is slow because of whom it calls.
func (s *situation) follow(c *candidate, id serviceID, left int) {
	if left == 0 {
		return
	}
	var most *Measured
	grown := (c.after - c.before) / 2
	for _, m := range s.all {
		if m.Role != "client" || m.id() != id || m.Metric != ResponseTime {
			continue
		}
		if before, after := s.levels(m.Values); after-before > grown {
			grown, most = after-before, m
		}
	}
	if most == nil {
		return
	}
	next := &candidate{Measure: most.Measure, nature: natureOf(&most.Measure), relationship: ofDownstream, growth: material}
	next.before, next.after = s.levels(most.Values)
	s.candidates = append(s.candidates, next)
	c.give(next, 0.9)
	if local, ok := s.localService(most.Address, most.Port); ok && local != s.self {
		s.follow(next, local, left-1)
	}
}

// handOnLateDisks goes on from disks to waiting for a processor: who issues an operation, the kernel's workers and interrupts on its way, and
// who waits for its end all need one. So operations end later where processors are short, and a disk in which they are in progress for
// longer counts as used the more. A disk that is full, or moves more than before, is slow by itself.
func (s *situation) handOnLateDisks() {
	starved := s.starvedMS()
	if starved <= 0 {
		return
	}
	to, shares, least := s.largest(partStarved, ofHost), make(map[string]float64), 1.
	if to == nil {
		to = s.largest(partStarved)
	}
	disks := s.part(partHostIO)
	for _, c := range disks {
		if c.Metric == DiskLatency && c.growth >= material/2 {
			share := 0.
			if !s.isBusyDisk(c.Device) {
				share = min(1, wakesOfOperation*starved/(c.after-c.before))
			}
			shares[c.Device], least = share, min(least, share)
		}
	}
	for _, c := range disks {
		share := shares[c.Device]
		if c.Metric == PressureIO && len(shares) > 0 {
			share = least // of all disks together
		}
		switch {
		case share < shareMin:
		case to == nil: // it is what the finding is about
			c.score *= 1 - handed*share
		default:
			c.give(to, share)
		}
	}
}

// starvedMS is by how many milliseconds those on the host that became ready to run wait longer for a processor; of the service alone where that
// is not known.
func (s *situation) starvedMS() float64 {
	for _, of := range [...]serviceID{{}, s.self} {
		if m := s.measured(Measure{RunQueueWait, Subject{Service: of.name, Namespace: of.namespace}}); m != nil {
			if before, after := s.levels(m.Values); !math.IsNaN(after - before) {
				return after - before
			}
		}
	}
	return 0
}

// isBusyDisk tells whether a disk has as much to do as it can, or moves more than before by an amount that matters.
func (s *situation) isBusyDisk(device string) bool {
	for i := range s.evidence.All {
		m := &s.evidence.All[i]
		if m.Service != "" || m.Device != device {
			continue
		}
		before, after := s.levels(m.Values)
		switch m.Metric {
		case DiskUtilisation:
			if after >= fullPercent {
				return true
			}
		case DiskRead, DiskWrite:
			least := natures[m.Metric].least
			if math.Log((after+least)/(before+least)) >= material {
				return true
			}
		}
	}
	return false
}

// handOnStarved goes on from waiting for a processor to a limit, or to processors that are busy, or else to who began to use them.
func (s *situation) handOnStarved() {
	busy := s.part(partHostCPU)
	for _, c := range s.part(partStarved) {
		throttled := s.largest(partThrottled)
		switch {
		case throttled != nil && (throttled.id() == c.id() || len(busy) > 0 && busy[0].after < busyPercent):
			c.give(throttled, 1)
		case len(busy) > 0 && busy[0].after >= busyPercent && (c.id() != busy[0].id() || busy[0].growth < material): // else RankCauses did
			if s.crowded(busy[0]) {
				c.give(busy[0], 1)
			}
		case len(busy) == 0 || busy[0].growth < material:
			s.handOnTo(partCPU, []*candidate{c}, 0)
		}
	}
}

// crowded tells whether more wants to run on the host's processors than before. Where they were busy before, that does not show in their
// use, but all of the host waits longer.
func (s *situation) crowded(busy *candidate) bool {
	if busy.growth >= material/4 {
		return true
	}
	for _, c := range s.part(partStarved, ofHost) {
		if c.growth >= material/2 {
			return true
		}
	}
	return false
}

// processorSeconds is by how much more the host's processors are used, in the unit of services, by one processor at least.
func (s *situation) processorSeconds() float64 {
	busy := s.part(partHostCPU)
	if len(busy) == 0 {
		return 0
	}
	processors := 1
	if s.evidence.Surroundings != nil {
		processors = max(processors, s.evidence.Surroundings.Processors)
	}
	return (busy[0].after - busy[0].before) * float64(processors)
}

// handOnTo hands the effects on to the services that use more of a resource, by their shares of all that is used more; 0: of what
// the services use more together.
func (s *situation) handOnTo(users part, effects []*candidate, whole float64) {
	all, together := s.part(users), 0.
	for _, c := range all {
		together += max(0, c.after-c.before)
	}
	whole = max(whole, together)
	for _, c := range all {
		if share := (c.after - c.before) / whole; share >= shareMin && c.growth >= material/2 {
			for _, effect := range effects {
				if effect.growth >= material/2 {
					effect.give(c, share)
				}
			}
		}
	}
}
