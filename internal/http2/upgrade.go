package http2

import (
	"bytes"
	"encoding/base64"

	"github.com/perfagent/perfagent/internal/http"
	"github.com/perfagent/perfagent/internal/wire"
)

// upgradeHeadMax bounds the heads of HTTP/1 by which a connection becomes one of HTTP/2 (RFC 7540, section 3.2).
const upgradeHeadMax = 8 << 10

// openingBytes takes what a direction begins with: of requests the preface, or a request of HTTP/1 that asks for an upgrade; of
// responses a frame, or the response to that.
func (s *Connections) openingBytes(c *connection, d *direction, f *wire.Fragment, data []byte) int {
	if !d.request {
		switch {
		case data[0] == 'H': // a frame of that length is never the first
			d.instants = momentOf(f)
			s.startUpgrade(d)
		case len(data) > 3 && kind(data[3]) != kindSettings: // which a server begins with
			s.misplace(c, d, ErrPreface)
		default:
			d.state = stateHead
		}
		return 0
	}
	if d.have == 0 {
		d.instants = momentOf(f)
	}
	for i, b := range data {
		if b != preface[d.have] {
			s.noPreface(c, d, data)
			return 0
		}
		if d.have++; int(d.have) == len(preface) {
			d.state, d.have = stateHead, 0
			return i + 1
		}
	}
	return len(data)
}

// noPreface looks for something else that a direction of requests may begin with.
func (s *Connections) noPreface(c *connection, d *direction, data []byte) {
	seen := d.have
	d.have = 0
	if (seen > 0 || wire.TokenLen(data) > 0) && c.lastID == 0 { // a method, or its beginning
		s.startUpgrade(d)
		s.gather(&d.payload, []byte(preface[:seen]), upgradeHeadMax)
		return
	}
	s.misplace(c, d, ErrPreface)
}

func (s *Connections) startUpgrade(d *direction) {
	d.state = stateUpgrade
	d.payload.drop()
}

// upgradeBytes takes bytes of a head of HTTP/1.
func (s *Connections) upgradeBytes(c *connection, d *direction, f *wire.Fragment, data []byte) int {
	before := len(d.payload.bytes)
	s.gather(&d.payload, data, upgradeHeadMax)
	from := max(before-3, 0)
	end := blankLine(d.payload.bytes[from:])
	if end < 0 {
		if d.payload.holed {
			s.misplace(c, d, ErrPreface)
		}
		return len(data)
	}
	end += from
	head := d.payload.bytes[:end]
	if d.request {
		s.upgradeRequest(c, d, f, head)
	} else {
		s.upgradeResponse(c, d, head)
	}
	d.payload.drop()
	return end - before
}

// blankLine returns where the bytes behind the first blank line are, -1 where there is none.
func blankLine(b []byte) int {
	if i := bytes.Index(b, []byte("\r\n\r\n")); i >= 0 {
		return i + 4
	}
	return -1
}

// upgradeRequest takes the request that asks for the upgrade: it is answered on stream 1.
func (s *Connections) upgradeRequest(c *connection, d *direction, f *wire.Fragment, head []byte) {
	var r http.Request
	r.SetUser(s.opts.User)
	if http.ParseRequest(head, &r) != nil || r.Chunked {
		s.misplace(c, d, ErrPreface)
		return
	}
	h := &s.hpack.headers
	h.seen, h.twice, h.unknown, h.ended = 0, 0, 0, true
	for _, v := range [...]struct {
		field field
		value []byte
	}{
		{fieldMethod, r.MethodOriginal}, {fieldPath, r.Path}, {fieldAuthority, r.Authority}, {fieldHost, r.Host}, {fieldUserAgent, r.UserAgent},
		{fieldRequestID, r.RequestID}, {fieldTraceParent, r.TraceParent}, {fieldXForwardedFor, r.ForwardedFor},
	} {
		if len(v.value) > 0 {
			h.set(v.field, v.value[:min(len(v.value), int(keptBytes[v.field]))])
		}
	}
	if len(r.User) > 0 {
		s.hpack.scratch = s.hpack.scratch[:0]
		h.set(fieldUser, s.hpack.hashed(r.User))
	}
	if payload := settingsHeader(head); len(payload) > 0 { // acknowledged by the response
		s.settings(c, d, payload)
		c.responses.limit = c.responses.asked.acknowledged(c.responses.limit)
	}
	d.state, d.left, c.lastID = stateOpening, uint64(max(r.ContentLength, 0)), 1
	if st := s.begin(c, 1, &d.instants); st != nil {
		st.last = f.At
		s.describe(st, h)
		st.requestLength = max(r.ContentLength, 0)
	}
	if d.state = stateBody; d.left == 0 {
		s.upgradeBody(c, d, f, 0)
	}
}

// upgradeBody takes n bytes of the body of that request, which ends before HTTP/2 begins.
func (s *Connections) upgradeBody(c *connection, d *direction, f *wire.Fragment, n uint64) {
	d.left -= n
	if st := c.streams.get(1, s.seed); st != nil {
		st.ex.RequestSize += int64(n)
	}
	if d.left == 0 {
		d.state, d.have = stateOpening, 0
		s.endStream(c, d, f, 1)
	}
}

// upgradeResponse takes what a server says to an upgrade.
func (s *Connections) upgradeResponse(c *connection, d *direction, head []byte) {
	var r http.Response
	err := http.ParseResponse(head, &r)
	switch {
	case err == nil && r.Status == 101:
		d.state = stateHead
	case err == nil && r.Status/100 == 1:
	default:
		s.ignore(c)
	}
}

// settingsHeader returns the payload of SETTINGS that HTTP2-Settings holds, nil without.
func settingsHeader(head []byte) []byte {
	for len(head) > 0 {
		var line []byte
		line, head, _ = bytes.Cut(head, []byte("\n"))
		name, value, ok := bytes.Cut(line, []byte(":"))
		if !ok || !bytes.EqualFold(name, []byte("http2-settings")) {
			continue
		}
		value = bytes.TrimRight(bytes.TrimSpace(value), "=")
		payload := make([]byte, base64.RawURLEncoding.DecodedLen(len(value)))
		if n, err := base64.RawURLEncoding.Decode(payload, value); err == nil {
			return payload[:n]
		}
		return nil
	}
	return nil
}
