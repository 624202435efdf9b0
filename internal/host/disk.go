package host

import (
	"errors"
	"strings"
)

// disksMax is how many block devices are followed. Larger hosts have more, mostly paths to the same storage.
const disksMax = 256

// devicesMax is how many devices are remembered, with partitions and loop devices that are not used.
const devicesMax = 16 * disksMax

// errOverLimit is counted where more things are there than are followed. Those that are stay.
var errOverLimit = errors.New("there are more than are followed")

// Disk is the traffic of one block device, from /proc/diskstats: whole devices that were ever used, no partitions.
type Disk struct {
	Device string // such as sda, nvme0n1, dm-0
	// Stacked tells that the device lies on others that are listed too (dm, md): sums leave it out.
	Stacked bool

	Reads, Writes             Counter // operations that finished
	ReadBytes, WrittenBytes   Counter
	ReadSeconds, WriteSeconds Counter // time that finished operations took, summed up
	BusySeconds               Counter // time with any operation under way
	InFlight                  float64 // operations under way
}

// ReadLatency is the average time, in seconds, of the reads that finished in the last interval; Unknown without one.
func (d *Disk) ReadLatency() float64 { return average(d.ReadSeconds, d.Reads) }

// WriteLatency is ReadLatency for writes.
func (d *Disk) WriteLatency() float64 { return average(d.WriteSeconds, d.Writes) }

func average(sum, count Counter) float64 {
	if !(count.Rate > 0) {
		return Unknown
	}
	return sum.Rate / count.Rate
}

// diskReader remembers the devices of /proc/diskstats. One that was away for a reading begins anew (since is 0), as another device
// may have its name now: rates would be made of the counters of two.
type diskReader struct {
	known     map[string]*diskState
	round     uint64
	overLimit bool // in the last reading
}

// diskState is what is remembered of a device; partitions are remembered as such.
type diskState struct {
	last  Disk
	whole bool
	round uint64
}

// read returns the whole devices that were ever used; partitions would count the same bytes again. It fails where the file cannot be read
// or has a line of another form; more than disksMax devices are cut, and noted in overLimit.
func (r *diskReader) read(files *fileReader, seconds float64) ([]Disk, error) {
	data, err := files.read("/proc", "diskstats")
	if err != nil {
		return nil, &fileError{"/proc/diskstats", err}
	}
	if r.known == nil {
		r.known = make(map[string]*diskState)
	}
	r.round++
	r.overLimit = false
	data = append([]byte(nil), data...) // looking up a new device uses the buffer
	disks := make([]Disk, 0, len(r.known))
	for len(data) > 0 {
		var line []byte
		line, data = nextLine(data)
		raw, ok := parseDiskstats(line)
		if !ok {
			return nil, malformed("/proc/diskstats")
		}
		state := r.state(files, raw.name)
		if state == nil {
			continue
		}
		since := seconds
		if state.round != r.round-1 {
			since = 0
		}
		state.round = r.round
		if !state.whole || raw.reads+raw.writes == 0 {
			continue
		}
		state.last = state.last.next(&raw, since)
		if len(disks) == disksMax {
			r.overLimit = true
			break
		}
		disks = append(disks, state.last)
	}
	r.forget()
	return disks, nil
}

// state returns what is known of a device, nil where there are too many.
func (r *diskReader) state(files *fileReader, name []byte) *diskState {
	if state := r.known[string(name)]; state != nil {
		return state
	}
	if len(r.known) >= devicesMax {
		r.overLimit = true
		return nil
	}
	device := string(name)
	// The kernel writes a device's slash, as in cciss/c0d0, as an exclamation mark.
	entry := strings.ReplaceAll(device, "/", "!")
	state := &diskState{last: Disk{Device: device}, whole: files.exists("/sys/block", entry)}
	if state.whole {
		state.last.Stacked = files.holds("/sys/block/" + entry + "/slaves")
	}
	r.known[device] = state
	return state
}

// forget drops devices that are gone.
func (r *diskReader) forget() {
	for name, state := range r.known {
		if state.round != r.round {
			delete(r.known, name)
		}
	}
}

func (d Disk) next(raw *diskstats, seconds float64) Disk {
	const sector, milli = 512, 1e-3
	d.Reads = d.Reads.next(float64(raw.reads), seconds)
	d.Writes = d.Writes.next(float64(raw.writes), seconds)
	d.ReadBytes = d.ReadBytes.next(float64(raw.readSectors)*sector, seconds)
	d.WrittenBytes = d.WrittenBytes.next(float64(raw.writtenSectors)*sector, seconds)
	d.ReadSeconds = d.ReadSeconds.next(float64(raw.readMS)*milli, seconds)
	d.WriteSeconds = d.WriteSeconds.next(float64(raw.writeMS)*milli, seconds)
	d.BusySeconds = d.BusySeconds.next(float64(raw.busyMS)*milli, seconds)
	d.InFlight = float64(raw.inFlight)
	return d
}

// diskstats is one line of /proc/diskstats (Documentation/admin-guide/iostats.rst).
type diskstats struct {
	name                                               []byte
	reads, readSectors, readMS, writes, writtenSectors uint64
	writeMS, inFlight, busyMS                          uint64
}

func parseDiskstats(line []byte) (d diskstats, ok bool) {
	_, line = nextField(line)
	_, line = nextField(line)
	d.name, line = nextField(line)
	var merged uint64
	for _, into := range [...]*uint64{&d.reads, &merged, &d.readSectors, &d.readMS, &d.writes, &merged, &d.writtenSectors,
		&d.writeMS, &d.inFlight, &d.busyMS} {
		if *into, line, ok = nextUint(line); !ok {
			return d, false
		}
	}
	return d, true
}
