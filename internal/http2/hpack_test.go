package http2

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"math/rand"
	"strings"
	"testing"

	"golang.org/x/net/http2/hpack"
)

// Shows, with random strings and with each byte alone, that Huffman codes decode to what another implementation encoded.
func TestHuffman(t *testing.T) {
	r := rand.New(rand.NewSource(1))
	for i := range 20000 {
		b := make([]byte, r.Intn(40))
		for j := range b {
			if b[j] = byte(r.Intn(256)); i%2 == 0 {
				b[j] = "abcdefghijklmnopqrstuvwxyz/0123456789-_.?=&%"[r.Intn(44)]
			}
		}
		if i < 256 {
			b = []byte{byte(i)}
		}
		got, ok := huffmanDecode(nil, hpack.AppendHuffmanString(nil, string(b)))
		if !ok || !bytes.Equal(got, b) {
			t.Fatalf("%q became %q, %v", b, got, ok)
		}
	}
}

// Shows that what is no Huffman code is refused exactly where another implementation refuses it.
func TestHuffmanRefused(t *testing.T) {
	r := rand.New(rand.NewSource(2))
	refused := 0
	for range 50000 {
		b := make([]byte, r.Intn(12))
		for j := range b {
			if b[j] = byte(r.Intn(256)); r.Intn(3) == 0 {
				b[j] = 0xff
			}
		}
		want, err := hpack.HuffmanDecodeToString(b)
		got, ok := huffmanDecode(nil, b)
		if ok != (err == nil) || ok && string(got) != want {
			t.Fatalf("%x: %q, %v; want %q, %v", b, got, ok, want, err)
		}
		if !ok {
			refused++
		}
	}
	if refused < 1000 {
		t.Errorf("only %d were refused", refused)
	}
}

// newHpack returns a decoder with a table of a connection's beginning.
func newHpack() (*decoder, *table) {
	d, tab := &decoder{}, &table{}
	tab.reset(true)
	return d, tab
}

// contents returns the sizes of a table's entries, the newest first, and its own.
func contents(t *table) string {
	var s []string
	for i := range t.n {
		e, _ := t.get(uint64(i) + 1)
		s = append(s, fmt.Sprint(e.size))
	}
	return fmt.Sprint(strings.Join(s, " "), " = ", t.size)
}

// Shows the examples of RFC 7541, appendix C: what is read of each block, and what its dynamic table holds behind it.
func TestRFC7541(t *testing.T) {
	requests := []string{
		":method=GET :path=/ :authority=www.example.com", ":method=GET :path=/ :authority=www.example.com",
		":method=GET :path=/index.html :authority=www.example.com",
	}
	requestTables := []string{"57 = 57", "53 57 = 110", "54 53 57 = 164"}
	responses := []string{":status=302", ":status=307", ":status=200"}
	responseTables := []string{"63 65 52 42 = 222", "42 63 65 52 = 222", "98 52 65 = 215"}
	for _, c := range []struct {
		name   string
		max    uint64
		blocks []string
		heads  []string
		tables []string
	}{
		{"C.2.1 to C.2.4", 4096, []string{"400a637573746f6d2d6b65790d637573746f6d2d686561646572", "040c2f73616d706c652f70617468", "100870617373776f726406736563726574", "82"},
			[]string{"", ":path=/sample/path", "", ":method=GET"}, []string{"55 = 55", "55 = 55", "55 = 55", "55 = 55"}},
		{"C.3", 4096, []string{"828684410f7777772e6578616d706c652e636f6d", "828684be58086e6f2d6361636865",
			"828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565"}, requests, requestTables},
		{"C.4", 4096, []string{"828684418cf1e3c2e5f23a6ba0ab90f4ff", "828684be5886a8eb10649cbf", "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf"},
			requests, requestTables},
		{"C.5", 256, []string{
			"4803333032580770726976617465611d4d6f6e2c203231204f637420323031332032303a31333a323120474d546e1768747470733a2f2f7777772e6578616d706c652e636f6d",
			"4803333037c1c0bf",
			"88c1611d4d6f6e2c203231204f637420323031332032303a31333a323220474d54c05a04677a69707738666f6f3d4153444a4b48514b425a584f5157454f50495541585157454f49553b206d61782d6167653d333630303b2076657273696f6e3d31",
		}, responses, responseTables},
		{"C.6", 256, []string{
			"488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad171863c78f0b97c8e9ae82ae43d3",
			"4883640effc1c0bf",
			"88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab77ad94e7821dd7f2e6c7b335dfdfcd5b3960d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007",
		}, responses, responseTables},
	} {
		d, tab := newHpack()
		tab.resize(c.max)
		for i, text := range c.blocks {
			block, _ := hex.DecodeString(text)
			if err := d.decode(tab, block, true, tableDefault); err != nil {
				t.Fatalf("%s, block %d: %v", c.name, i, err)
			}
			if got := shown(&d.headers); got != c.heads[i] {
				t.Errorf("%s, block %d: %q, want %q", c.name, i, got, c.heads[i])
			}
			if got := contents(tab); got != c.tables[i] {
				t.Errorf("%s, block %d: table %q, want %q", c.name, i, got, c.tables[i])
			}
		}
	}
}

// shown lists the fields that the tests are about.
func shown(h *headers) string {
	var s []string
	for _, f := range [...]struct {
		field field
		name  string
	}{{fieldMethod, ":method"}, {fieldPath, ":path"}, {fieldAuthority, ":authority"}, {fieldStatus, ":status"}, {fieldUserAgent, "user-agent"},
		{fieldContentType, "content-type"}, {fieldGRPCStatus, "grpc-status"}} {
		if h.has(f.field) {
			s = append(s, f.name+"="+string(h.get(f.field)))
		}
	}
	return strings.Join(s, " ")
}

// session makes random header blocks with another implementation's encoder, which changes its table's size now and then.
type session struct {
	r       *rand.Rand
	encoder *hpack.Encoder
	out     bytes.Buffer
}

func newSession(seed int64, max uint32) *session {
	s := &session{r: rand.New(rand.NewSource(seed))}
	s.encoder = hpack.NewEncoder(&s.out)
	s.encoder.SetMaxDynamicTableSizeLimit(max)
	if max != tableDefault {
		s.encoder.SetMaxDynamicTableSize(max)
	}
	return s
}

// block returns an encoded block and what is read of it.
func (s *session) block() (block []byte, want string) {
	s.out.Reset()
	if s.r.Intn(20) == 0 {
		s.encoder.SetMaxDynamicTableSize(uint32(s.r.Intn(3)) * 200)
	} else if s.r.Intn(20) == 0 {
		s.encoder.SetMaxDynamicTableSize(4096)
	}
	var shown []string
	add := func(name, value string, read bool) {
		_ = s.encoder.WriteField(hpack.HeaderField{Name: name, Value: value, Sensitive: s.r.Intn(10) == 0})
		if read {
			shown = append(shown, name+"="+value)
		}
	}
	add(":method", []string{"GET", "POST", "DELETE", "PROPFIND"}[s.r.Intn(4)], true)
	add(":path", fmt.Sprintf("/a/%d", s.r.Intn(40)), true)
	add(":authority", fmt.Sprintf("host-%d:80", s.r.Intn(5)), true)
	add("user-agent", strings.Repeat("x", s.r.Intn(200)), true)
	for range s.r.Intn(6) {
		add(fmt.Sprintf("x-%d", s.r.Intn(30)), strings.Repeat("v", s.r.Intn(60)), false)
	}
	add("content-type", fmt.Sprintf("text/%d", s.r.Intn(9)), true)
	return bytes.Clone(s.out.Bytes()), strings.Join(shown, " ")
}

// Shows that blocks of another implementation, with tables of many sizes, are read as they were meant.
func TestSessions(t *testing.T) {
	for seed := range int64(20) {
		s := newSession(seed, []uint32{4096, 0, 300, 4096, 65536}[seed%5])
		d, tab := newHpack()
		for i := range 300 {
			block, want := s.block()
			if err := d.decode(tab, block, true, anySize); err != nil {
				t.Fatalf("session %d, block %d: %v", seed, i, err)
			}
			if got := shown(&d.headers); got != want {
				t.Fatalf("session %d, block %d: %q, want %q", seed, i, got, want)
			}
		}
	}
}

// Shows that a decoder which joins at any block, or misses any, knows less but nothing wrong: every field that it reads is the
// one that was sent, and once all that is referred to was added since, nothing is unknown.
func TestJoined(t *testing.T) {
	learned := 0
	for seed := range int64(15) {
		s := newSession(seed, 4096)
		d, tab := newHpack()
		tab.reset(false)
		for i := range 400 {
			block, want := s.block()
			switch i {
			case 0, 1, 2, 3, 4, 5, 6, 7: // before it joined
				continue
			case 200:
				tab.forget()
				continue
			}
			if err := d.decode(tab, block, true, anySize); err != nil {
				t.Fatalf("session %d, block %d: %v", seed, i, err)
			}
			for field := range strings.FieldsSeq(shown(&d.headers)) {
				if !strings.Contains(" "+want+" ", " "+field+" ") {
					t.Fatalf("session %d, block %d: %q was read, and %q was sent", seed, i, field, want)
				}
			}
			if d.unknown == 0 && shown(&d.headers) != want {
				t.Fatalf("session %d, block %d: %q was read, %q was sent, and nothing is unknown", seed, i, shown(&d.headers), want)
			}
			if d.unknown == 0 {
				learned++
			}
		}
	}
	if learned < 3000 {
		t.Errorf("only %d blocks were wholly known", learned)
	}
}

// Shows that a block may end anywhere: what is read of its beginning is right, and a block that is said to be whole is refused.
func TestBlocksCut(t *testing.T) {
	s := newSession(7, 4096)
	for range 30 {
		block, want := s.block()
		for n := range len(block) {
			d, tab := newHpack()
			tab.reset(false)
			if err := d.decode(tab, block[:n], false, anySize); err != nil {
				t.Fatalf("%x, cut at %d: %v", block, n, err)
			}
			for field := range strings.FieldsSeq(shown(&d.headers)) {
				if !strings.Contains(" "+want+" ", " "+field+" ") {
					t.Fatalf("%q was read of %q", field, want)
				}
			}
		}
	}
	for _, text := range []string{"", "40", "4003", "400361", "82ff", "ffffffffff7f", "80", "be", "3fffffffffff", "8220", "7f", "0f", "410f77"} {
		block, _ := hex.DecodeString(text)
		d, tab := newHpack()
		if err := d.decode(tab, block, true, tableDefault); (err == nil) != (text == "") {
			t.Errorf("%s: %v", text, err)
		}
	}
}
