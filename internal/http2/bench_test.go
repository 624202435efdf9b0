package http2

import (
	"bytes"
	"syscall"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/perfagent/perfagent/internal/wire"
)

// exchanges makes n exchanges as a busy connection has them: a request and a response each, in an operation each.
func exchanges(n int, grpc, literal bool) (ops []op) {
	var out, block bytes.Buffer
	framers := [2]*http2.Framer{http2.NewFramer(&out, nil), http2.NewFramer(&out, nil)}
	encoders := [2]*hpack.Encoder{hpack.NewEncoder(&block), hpack.NewEncoder(&block)}
	head := func(end int, id uint32, over bool, fields ...string) {
		block.Reset()
		for i := 0; i < len(fields); i += 2 {
			_ = encoders[end].WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1], Sensitive: literal && fields[i] == ":path"})
		}
		_ = framers[end].WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndStream: over, EndHeaders: true, BlockFragment: block.Bytes()})
	}
	flush := func(request bool) {
		ops = append(ops, op{request, bytes.Clone(out.Bytes())})
		out.Reset()
	}
	out.WriteString(preface)
	_ = framers[0].WriteSettings()
	flush(true)
	_ = framers[1].WriteSettings()
	flush(false)
	body := make([]byte, 100)
	body[4] = 95
	for i := range n {
		id := uint32(2*i + 1)
		if grpc {
			head(0, id, false, ":method", "POST", ":scheme", "http", ":path", "/shop.Items/Get", ":authority", "shop:50051", "content-type",
				"application/grpc", "user-agent", "grpc-go/1.85.0", "te", "trailers")
			_ = framers[0].WriteData(id, true, body)
			flush(true)
			head(1, id, false, ":status", "200", "content-type", "application/grpc")
			_ = framers[1].WriteData(id, false, body)
			head(1, id, true, "grpc-status", "0", "grpc-message", "")
			flush(false)
			continue
		}
		head(0, id, true, ":method", "GET", ":scheme", "http", ":path", "/items/42/reviews", ":authority", "shop:8080", "user-agent", "curl/8.5.0",
			"accept", "*/*")
		flush(true)
		head(1, id, false, ":status", "200", "content-type", "application/json", "date", "Mon, 30 Nov 2026 11:00:00 GMT", "content-length", "100")
		_ = framers[1].WriteData(id, true, body)
		flush(false)
	}
	return ops
}

func benchmark(b *testing.B, grpc, literal bool) {
	const n = 1000
	ops := exchanges(n, grpc, literal)
	s := New(Options{})
	seen := 0
	emit := func(*Exchange) { seen++ }
	play := func() {
		for i := range ops {
			f := wire.Fragment{Conn: 1, Role: wire.RoleServer, At: 10, Arrived: 5, Length: uint64(len(ops[i].data)), Data: ops[i].data}
			if ops[i].request {
				f.Flags = wire.FlagRequestDirection
			}
			s.Fragment(&f, emit)
		}
		s.Fragment(&wire.Fragment{Conn: 1, Role: wire.RoleServer, Flags: wire.FlagClosed, At: 20}, emit)
	}
	play()
	seen = 0
	b.ReportAllocs()
	before := processorTime()
	for b.Loop() {
		play()
	}
	b.ReportMetric(float64(processorTime()-before)/float64(seen), "cpu-ns/exchange")
	if seen != b.N*n {
		b.Fatalf("%d exchanges of %d", seen, b.N*n)
	}
}

// processorTime is what this process has used in its own code, in nanoseconds: what a busy machine does not change.
func processorTime() int64 {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return u.Utime.Nano()
}

// An operation is a connection of 1,000 exchanges: all headers in the table.
func BenchmarkIndexed(b *testing.B) { benchmark(b, false, false) }

// The path written out and Huffman coded each time, as nghttp2 does.
func BenchmarkLiteralPath(b *testing.B) { benchmark(b, false, true) }

// A unary call of gRPC.
func BenchmarkGRPC(b *testing.B) { benchmark(b, true, false) }

// A path of 18 characters.
func BenchmarkHuffman(b *testing.B) {
	raw := hpack.AppendHuffmanString(nil, "/items/42/reviews?")
	var out []byte
	b.ReportAllocs()
	for b.Loop() {
		out, _ = huffmanDecode(out[:0], raw)
	}
}
