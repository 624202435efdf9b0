package probes

import (
	"maps"
	"testing"

	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"

	"github.com/perfagent/perfagent/internal/wire"
)

// enumOf returns the enumerators of a type of the traffic object, all of them: generated constants cannot be listed.
func enumOf(t *testing.T, name string) map[string]uint64 {
	t.Helper()
	spec, err := loadTraffic()
	if err != nil {
		t.Fatal(err)
	}
	var enum *btf.Enum
	if err := spec.Types.TypeByName(name, &enum); err != nil {
		t.Fatal(err)
	}
	values := make(map[string]uint64, len(enum.Values))
	for _, v := range enum.Values {
		values[v.Name] = v.Value
	}
	return values
}

// Every bit, role and protocol that the kernel side writes has its name in wire, and the other way round, with the same value.
func TestMirroredEnums(t *testing.T) {
	for name, mirrored := range map[string]map[string]uint64{
		"record_flags": {
			"F_CLOSED":            uint64(wire.FlagClosed),
			"F_TIMEOUT":           uint64(wire.FlagTimeout),
			"F_SWEPT":             uint64(wire.FlagSwept),
			"F_OLDER":             uint64(wire.FlagOlder),
			"F_CHUNKED_END":       uint64(wire.FlagChunkedEnd),
			"F_UNIX":              uint64(wire.FlagUnix),
			"F_NO_ARRIVAL":        uint64(wire.FlagNoArrival),
			"F_REQUEST_DIRECTION": uint64(wire.FlagRequestDirection),
			"F_HEAD_CUT":          uint64(wire.FlagHeadCut),
			"F_UNREADABLE":        uint64(wire.FlagUnreadable),
			"F_HEAD_ALL":          uint64(wire.FlagHeadAll),
			"F_FRAMED":            uint64(wire.FlagFramed),
			"F_CUT":               uint64(wire.FlagCut),
			"F_CHUNKS":            uint64(wire.FlagChunks),
			"F_HALF":              uint64(wire.FlagHalf),
		},
		"record_protocol": {"PROTOCOL_HTTP1": uint64(wire.ProtocolHTTP1), "PROTOCOL_HTTP2": uint64(wire.ProtocolHTTP2)},
		"record_role":     {"ROLE_UNKNOWN": 0, "ROLE_SERVER": uint64(wire.RoleServer), "ROLE_CLIENT": uint64(wire.RoleClient)},
	} {
		if got := enumOf(t, name); !maps.Equal(got, mirrored) {
			t.Errorf("%s: the kernel side has %v, wire %v", name, got, mirrored)
		}
	}
	if n := len(enumOf(t, "record_protocol")); n != int(wire.Protocols) {
		t.Errorf("the kernel side has %d protocols, wire %d", n, wire.Protocols)
	}
}

// A place in a chunked body, put together as the kernel side does it, is read as what it was; those of its states that are
// no place inside a body are refused.
func TestMirroredChunks(t *testing.T) {
	inside := map[string]wire.ChunkState{
		"CHUNK_SIZE": wire.ChunkSize, "CHUNK_LINE": wire.ChunkLine, "CHUNK_DATA": wire.ChunkData, "CHUNK_END": wire.ChunkEnd,
		"CHUNK_TRAILER": wire.ChunkTrailer, "CHUNK_CR": wire.ChunkCR, "CHUNK_FIELD": wire.ChunkField,
	}
	const size = 1<<trafficChunkWordCHUNK_DIGITS_SHIFT - 2
	states := enumOf(t, "chunk_state")
	for name, state := range states {
		place := wire.Chunks(state<<trafficChunkWordCHUNK_STATE_SHIFT | 1<<trafficChunkWordCHUNK_DIGITS_SHIFT | size)
		got, ok := place.State()
		want, known := inside[name]
		if ok != known || ok && got != want {
			t.Errorf("%s is read as state %d, %v", name, got, ok)
		}
		if place.Digits() != 1 || place.Size() != size {
			t.Errorf("%s: read %d digits and size %d", name, place.Digits(), place.Size())
		}
	}
	for name := range inside {
		if _, ok := states[name]; !ok {
			t.Errorf("the kernel side has no %s", name)
		}
	}
}

// Bounds that other packages repeat, because they import neither this one nor the kernel's headers.
func TestMirroredBounds(t *testing.T) {
	for name, pair := range map[string][2]int{
		"method": {wire.MethodBytesMax, int(trafficLimitsMETHOD_MAX)},
		"IPv4":   {wire.FamilyIPv4, unix.AF_INET},
		"IPv6":   {wire.FamilyIPv6, unix.AF_INET6},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%s: %d, the kernel side has %d", name, pair[0], pair[1])
		}
	}
}
