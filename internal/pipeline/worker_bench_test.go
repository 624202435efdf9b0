package pipeline

import (
	"encoding/binary"
	"fmt"
	"os"
	"testing"

	"github.com/perfagent/perfagent/internal/analytics"
	"github.com/perfagent/perfagent/internal/host"
	"github.com/perfagent/perfagent/internal/probes"
	"github.com/perfagent/perfagent/internal/wire"
)

const (
	benchRequest  = "GET /users/%d HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n"
	benchResponse = "HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\nDate: Mon, 23 Nov 2026 22:33:57 GMT\r\nContent-Type: text/plain\r\n" +
		"Content-Length: 2\r\nConnection: keep-alive\r\n\r\n"
	statusLine = 16 // of a framed response only the status is carried
)

// sample is an exchange record as the kernel side sends it (bpf/events.h).
func sample(role wire.Role, conn uint64, seq uint32, path int) []byte {
	request := fmt.Sprintf(benchRequest, path)
	b := make([]byte, 128, 128+len(request)+len(benchResponse))
	e := binary.NativeEndian
	e.PutUint64(b[0:], conn<<8)
	now := uint64(host.Monotonic())
	e.PutUint64(b[8:], now)
	e.PutUint64(b[16:], now+10_000)
	e.PutUint64(b[24:], now+60_000)
	e.PutUint64(b[32:], now+61_000)
	e.PutUint64(b[40:], uint64(len(request)))
	e.PutUint64(b[48:], uint64(len(benchResponse)+2))
	copy(b[88:], "worker")
	e.PutUint32(b[104:], uint32(os.Getpid()))
	e.PutUint32(b[108:], seq)
	e.PutUint16(b[112:], 8080)
	e.PutUint16(b[114:], 40000)
	e.PutUint16(b[116:], uint16(len(request)))
	e.PutUint16(b[118:], statusLine)
	e.PutUint16(b[120:], uint16(wire.FlagFramed))
	e.PutUint16(b[126:], uint16(len(benchResponse)))
	b[122], b[123], b[124] = probes.KindExchange, byte(role), 2
	return append(append(b, request...), benchResponse[:statusLine]...)
}

// BenchmarkWorker is what an exchange costs in user space behind the ring buffer: decoding, heads, identity, route and
// histograms.
func BenchmarkWorker(b *testing.B) {
	for _, role := range []wire.Role{wire.RoleServer, wire.RoleClient} {
		b.Run(role.String(), func(b *testing.B) {
			w := newWorker(analytics.NewEngine(analytics.Options{}), nil)
			var samples [64][]byte
			for i := range samples {
				samples[i] = sample(role, uint64(i+1), 1, i%7)
			}
			var d probes.Decoder
			var r wire.Record
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if d.Record(samples[i%len(samples)], &r) != nil {
					b.Fatal("sample not understood")
				}
				w.Record(&r)
			}
		})
	}
}
