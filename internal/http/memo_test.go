package http

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"testing"

	"github.com/perfagent/perfagent/internal/wire"
)

func memoRecord(pid uint32, role wire.Role, conn uint64, request string) wire.Record {
	const response = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
	return wire.Record{
		Conn: conn, Seq: uint32(conn), PID: pid, Role: role, Comm: [16]byte{'a'},
		Addresses: wire.Addresses{
			LocalAddr: [16]byte{127, 0, 0, 1}, RemoteAddr: [16]byte{10, 0, 0, byte(conn)},
			LocalPort: 80, RemotePort: uint16(40000 + conn%3), Family: wire.FamilyIPv4,
		},
		Arrived: int64(conn), Read: int64(conn) + 1, Responded: int64(conn) + 2, Finished: int64(conn) + 3,
		RequestBytes: uint64(len(request)), ResponseBytes: uint64(len(response)) + 5, Request: []byte(request), Response: []byte(response),
	}
}

// Whatever heads come in whatever order, more of them than places, broken and long ones among them, a Memo says of each
// record exactly what a Decoder says, and the caller's value is the one that was left for the same request.
func TestMemoAgreesWithDecoder(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	memo, decoder := NewMemo[string](), Decoder{}
	kept := 0
	for range 40_000 {
		request := fmt.Sprintf("GET /p/%d HTTP/1.1\r\nHost: h%d\r\nX-Request-Id: %d\r\n\r\n", random.IntN(3000), random.IntN(2), random.IntN(2))
		switch random.IntN(20) {
		case 0:
			request = request[:random.IntN(len(request))]
		case 1:
			request = "\x16\x03" + request
		case 2:
			request = fmt.Sprintf("GET /%0*d HTTP/1.1\r\n\r\n", memoHeadMax, random.IntN(3))
		}
		rec := memoRecord(uint32(1+random.IntN(2)), wire.Role(1+random.IntN(2)), random.Uint64N(200), request)
		if random.IntN(10) == 0 {
			rec.Flags, rec.Response, rec.ResponseBytes = wire.FlagClosed, nil, 0
		}
		var want wire.Exchange
		wantFinal, wantErr := decoder.Exchange(&rec, &want)
		got, final, err := memo.Exchange(&rec)
		if err != wantErr || final != wantFinal {
			t.Fatalf("%q: %v %v, expected %v %v", request, final, err, wantFinal, wantErr)
		}
		if err != nil {
			continue
		}
		got.Local, got.Remote = rec.Local(), rec.Remote()
		if !reflect.DeepEqual(got.Exchange, want) {
			t.Fatalf("%q:\n%+v, expected\n%+v", request, got.Exchange, want)
		}
		value := fmt.Sprint(rec.PID, rec.Role, request)
		if rec.Role == wire.RoleClient {
			value += rec.Remote().String()
		}
		if got.Value != "" {
			kept++
			if got.Value != value {
				t.Fatalf("value %q, expected %q", got.Value, value)
			}
		}
		if len(request) <= memoHeadMax {
			got.Value = value
		}
	}
	if kept == 0 {
		t.Error("nothing was remembered")
	}
}

// The remote end of a client's exchange is right: its target is counted by it.
func TestMemoClientRemote(t *testing.T) {
	memo := NewMemo[int]()
	for _, port := range []uint16{80, 81, 80} {
		rec := memoRecord(1, wire.RoleClient, 1, "GET / HTTP/1.1\r\n\r\n")
		rec.RemotePort = port
		k, _, err := memo.Exchange(&rec)
		if want := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, 1}), port); err != nil || k.Remote != want {
			t.Errorf("remote %v (%v), expected %v", k.Remote, err, want)
		}
	}
}

// Remembered and new heads alike allocate nothing once the places are filled.
func TestMemoAllocations(t *testing.T) {
	memo := NewMemo[int]()
	recs := make([]wire.Record, 64)
	for i := range recs {
		recs[i] = memoRecord(1, wire.RoleServer, uint64(i), fmt.Sprintf("GET /%02d HTTP/1.1\r\n\r\n", i))
	}
	all := func() {
		for i := range recs {
			if _, _, err := memo.Exchange(&recs[i]); err != nil {
				t.Fatal(err)
			}
		}
	}
	all()
	if n := testing.AllocsPerRun(10, all); n != 0 {
		t.Errorf("%g allocations", n)
	}
}

func BenchmarkMemo(b *testing.B) {
	for name, paths := range map[string]int{"known": 7, "new": 1 << 16} {
		b.Run(name, func(b *testing.B) {
			memo := NewMemo[int]()
			recs := make([]wire.Record, paths)
			for i := range recs {
				recs[i] = memoRecord(1, wire.RoleServer, 1, fmt.Sprintf("GET /users/%d HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nUser-Agent: curl/7.88\r\n\r\n", i))
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if _, _, err := memo.Exchange(&recs[i%len(recs)]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
