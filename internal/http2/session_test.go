package http2

import (
	"bytes"
	"fmt"
	"math/rand"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/perfagent/perfagent/internal/wire"
)

// maker makes up a connection with the frames and header blocks of another implementation.
type maker struct {
	r        *rand.Rand
	out      [2]bytes.Buffer // what each end sends next: client, server
	framers  [2]*http2.Framer
	encoders [2]*hpack.Encoder
	headers  [2]bytes.Buffer
	ops      []op
	next     uint32
	open     []*dialogue
}

// dialogue is a stream of a maker's.
type dialogue struct {
	id                       uint32
	grpc, requested, replied bool
	requestOver, over        bool
}

func newMaker(seed int64) *maker {
	m := &maker{r: rand.New(rand.NewSource(seed)), next: 1}
	for i := range m.framers {
		m.framers[i] = http2.NewFramer(&m.out[i], nil)
		m.framers[i].AllowIllegalWrites = true
		m.encoders[i] = hpack.NewEncoder(&m.headers[i])
	}
	m.out[0].WriteString(preface)
	_ = m.framers[0].WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20})
	m.flush(0)
	_ = m.framers[1].WriteSettings()
	_ = m.framers[1].WriteSettingsAck()
	m.flush(1)
	_ = m.framers[0].WriteSettingsAck()
	m.flush(0)
	return m
}

// flush makes an operation of what an end has written.
func (m *maker) flush(end int) {
	if m.out[end].Len() > 0 {
		m.ops = append(m.ops, op{end == 0, bytes.Clone(m.out[end].Bytes())})
		m.out[end].Reset()
	}
}

// block encodes headers, given as name, value and so on.
func (m *maker) block(end int, fields ...string) []byte {
	m.headers[end].Reset()
	if m.r.Intn(30) == 0 {
		m.encoders[end].SetMaxDynamicTableSize(uint32(m.r.Intn(20)) * 256 % 4097)
	}
	for i := 0; i < len(fields); i += 2 {
		_ = m.encoders[end].WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1], Sensitive: m.r.Intn(15) == 0})
	}
	return bytes.Clone(m.headers[end].Bytes())
}

// head writes HEADERS, with padding, priority and CONTINUATION now and then.
func (m *maker) head(end int, id uint32, over bool, fields ...string) {
	block := m.block(end, fields...)
	p := http2.HeadersFrameParam{StreamID: id, EndStream: over, EndHeaders: true, BlockFragment: block}
	if m.r.Intn(6) == 0 {
		p.PadLength = uint8(m.r.Intn(20))
	}
	if m.r.Intn(6) == 0 {
		p.Priority = http2.PriorityParam{StreamDep: 1, Weight: 3}
	}
	if m.r.Intn(5) == 0 {
		n := m.r.Intn(len(block) + 1)
		p.BlockFragment, p.EndHeaders = block[:n], false
		block = block[n:]
	}
	_ = m.framers[end].WriteHeaders(p)
	for !p.EndHeaders {
		n := m.r.Intn(len(block) + 1)
		p.EndHeaders = n == len(block)
		_ = m.framers[end].WriteContinuation(id, p.EndHeaders, block[:n])
		block = block[n:]
	}
}

// body writes DATA: of gRPC a message, or anything.
func (m *maker) body(end int, d *dialogue, over bool) {
	data := make([]byte, m.r.Intn(300))
	if m.r.Intn(3) == 0 {
		data = make([]byte, m.r.Intn(3000))
	}
	m.r.Read(data)
	if d.grpc {
		data = append([]byte{0, 0, 0, byte(len(data) >> 8), byte(len(data))}, data...)
	}
	if m.r.Intn(4) == 0 {
		_ = m.framers[end].WriteDataPadded(d.id, over, data, make([]byte, m.r.Intn(50)))
		return
	}
	_ = m.framers[end].WriteData(d.id, over, data)
}

// step moves on by a frame or a few.
func (m *maker) step() {
	if len(m.open) == 0 || m.r.Intn(3) == 0 && len(m.open) < 30 {
		m.open = append(m.open, &dialogue{id: m.next, grpc: m.r.Intn(3) == 0})
		m.next += uint32(2 + 2*m.r.Intn(2))
		if last := m.open[len(m.open)-1]; m.r.Intn(8) > 0 {
			m.request(last)
			return
		}
		m.request(m.open[len(m.open)-1])
	}
	switch i := m.r.Intn(len(m.open)); m.r.Intn(12) {
	case 0:
		_ = m.framers[m.r.Intn(2)].WritePing(false, [8]byte{1, 2, 3})
	case 1:
		_ = m.framers[m.r.Intn(2)].WriteWindowUpdate(0, 1000)
	case 2:
		_ = m.framers[m.r.Intn(2)].WriteWindowUpdate(m.open[i].id, 500)
	case 3:
		_ = m.framers[0].WritePriority(m.open[i].id, http2.PriorityParam{Weight: 9})
	case 4:
		_ = m.framers[m.r.Intn(2)].WriteRawFrame(0x20, 0, 0, []byte("greased"))
	case 5:
		if m.r.Intn(4) == 0 {
			m.reset(m.open[i])
			m.drop(i)
		}
	default:
		if d := m.open[i]; m.r.Intn(2) == 0 && !d.requestOver {
			d.requestOver = m.r.Intn(3) == 0
			m.body(0, d, d.requestOver)
		} else if m.respond(d); d.over && d.requestOver {
			m.drop(i)
		} else if d.over { // as RFC 9113, section 8.1, has it
			_ = m.framers[1].WriteRSTStream(d.id, http2.ErrCodeNo)
			m.drop(i)
		}
	}
	for end := range m.out {
		if m.r.Intn(3) > 0 {
			m.flush(end)
		}
	}
}

func (m *maker) drop(i int) { m.open = append(m.open[:i], m.open[i+1:]...) }

func (m *maker) reset(d *dialogue) {
	m.flush(0)
	m.flush(1)
	end := m.r.Intn(2)
	_ = m.framers[end].WriteRSTStream(d.id, []http2.ErrCode{http2.ErrCodeCancel, http2.ErrCodeRefusedStream, http2.ErrCodeInternal}[m.r.Intn(3)])
	m.flush(end)
}

func (m *maker) request(d *dialogue) {
	fields := []string{":method", []string{"GET", "POST", "PUT", "PROPFIND"}[m.r.Intn(4)], ":scheme", "http",
		":path", fmt.Sprintf("/items/%d?q=%d", m.r.Intn(50), m.r.Intn(9)), ":authority", "shop:8080", "user-agent", "made-up/1",
		"cookie", strings.Repeat("c", m.r.Intn(80))}
	if d.requestOver = m.r.Intn(2) == 0; d.grpc {
		fields[1], fields[5] = "POST", fmt.Sprintf("/shop.Items/Get%d", m.r.Intn(9))
		fields = append(fields, "content-type", "application/grpc+proto", "te", "trailers")
		d.requestOver = false
	}
	m.head(0, d.id, d.requestOver, fields...)
	m.flush(0)
}

func (m *maker) respond(d *dialogue) {
	m.flush(0) // what is answered was asked
	switch {
	case !d.replied:
		if m.r.Intn(8) == 0 {
			m.head(1, d.id, false, ":status", "103", "link", "</a>")
		}
		fields := []string{":status", []string{"200", "404", "302", "500", "503"}[m.r.Intn(5)], "server", "made-up", "date", fmt.Sprint("d", m.r.Intn(5))}
		if d.grpc {
			fields = []string{":status", "200", "content-type", "application/grpc"}
		}
		if d.replied, d.over = true, m.r.Intn(5) == 0; d.over && d.grpc {
			fields = append(fields, "grpc-status", fmt.Sprint(m.r.Intn(17)), "grpc-message", "said")
		}
		m.head(1, d.id, d.over, fields...)
	case d.grpc && m.r.Intn(3) == 0:
		d.over = true
		m.head(1, d.id, true, "grpc-status", fmt.Sprint(m.r.Intn(3)*5), "grpc-message", "")
	default:
		d.over = m.r.Intn(3) == 0 && !d.grpc
		m.body(1, d, d.over)
	}
	if d.over {
		m.flush(1)
	}
}

// make returns a connection of so many steps.
func made(seed int64, steps int) []op {
	m := newMaker(seed)
	for range steps {
		m.step()
	}
	m.flush(0)
	m.flush(1)
	return m.ops
}

// Shows that random connections come out as another implementation understands them: every stream once, with all that is read.
func TestMade(t *testing.T) {
	for seed := range int64(80) {
		ops := made(seed, 300)
		p := newTape(t, Options{}).play(ops)
		p.books()
		streams := oracle(t, ops)
		agrees(t, p.out, streams, true)
		if len(p.out) != len(streams) || len(p.lost) > 0 || len(p.failures) > 0 {
			t.Fatalf("seed %d: %d of %d streams came out, lost %v, failures %v", seed, len(p.out), len(streams), p.lost, p.failures)
		}
	}
}

// Shows that it does not matter how the bytes are cut into pieces.
func TestMadeCut(t *testing.T) {
	for seed := range int64(6) {
		ops := made(seed, 100)
		want := newTape(t, Options{}).play(ops).lines()
		r := rand.New(rand.NewSource(seed))
		for size := 1; size < 30; size++ {
			p := newTape(t, Options{})
			for _, o := range ops {
				var cuts []int
				for at := 0; at < len(o.data); at += 1 + r.Intn(size) {
					cuts = append(cuts, at)
				}
				p.send(o, cuts...)
			}
			p.close()
			p.books()
			if got := p.lines(); got != want {
				t.Fatalf("seed %d, pieces of %d:\n%s\nwant\n%s", seed, size, got, want)
			}
		}
	}
}

// Shows that wherever a connection is joined, and whatever is lost of it, what is said to be known is right, and that each request
// that was seen is reported or lost.
func TestMadeLost(t *testing.T) {
	reported, found := 0, 0
	for seed := range int64(120) {
		ops := made(seed, 200)
		streams := oracle(t, ops)
		r := rand.New(rand.NewSource(seed))
		p := newTape(t, Options{})
		first := 0
		if r.Intn(2) == 0 {
			first, p.flags = r.Intn(len(ops)), wire.FlagOlder
		}
		for i, o := range ops[first:] {
			p.at += 10
			data := o.data
			if i == 0 && p.flags != 0 {
				data = data[r.Intn(len(data)):]
			}
			f := p.fragment(o.request, data, len(data))
			if r.Intn(20) == 0 { // lost
				continue
			}
			if r.Intn(20) == 0 { // cut short
				f.Data = f.Data[:r.Intn(len(f.Data)+1)]
			}
			p.Fragment(f, p.note)
		}
		p.close()
		p.books()
		agrees(t, p.out, streams, false)
		reported += len(p.out)
		found += int(p.Stats().Found)
	}
	t.Logf("%d were reported, the place was found %d times", reported, found)
	if reported < 1000 || found < 1000 {
		t.Errorf("%d were reported, the place was found %d times", reported, found)
	}
}
