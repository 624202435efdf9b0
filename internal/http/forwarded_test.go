package http

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/perfagent/perfagent/internal/wire"
)

// What a request's headers say of who a proxy forwards for, from the header lines to what is shown.
func TestForwarded(t *testing.T) {
	for _, c := range [][2]string{
		// RFC 7239, sections 4 and 6.
		{`Forwarded: for="_gazonk"`, "_gazonk"},
		{`Forwarded: For="[2001:db8:cafe::17]:4711"`, "2001:db8:cafe::17"},
		{"Forwarded: for=192.0.2.60;proto=http;by=203.0.113.43", "192.0.2.60"},
		{"Forwarded: for=192.0.2.43, for=198.51.100.17", "192.0.2.43"},
		{`Forwarded: for=_hidden, for=_SEVKISEK`, "_hidden"},
		{`Forwarded: for=unknown`, "unknown"},
		{`Forwarded: for="192.0.2.43:47011"`, "192.0.2.43"},
		{`Forwarded: for="_a.b-c:_port"`, "_a.b-c"},
		// Quotes hide separators; a backslash hides a quote.
		{`Forwarded: by="a,b;for=9.9.9.9";for=192.0.2.1`, "192.0.2.1"},
		{`Forwarded: by="a\",for=9.9.9.9";for=192.0.2.1`, "192.0.2.1"},
		{`Forwarded: for="192.0.2.\43"`, "192.0.2.43"},
		{`Forwarded: proto=https ; FOR = 192.0.2.1`, ""}, // no space around "=" in the grammar
		{`Forwarded: proto=https ; FOR=192.0.2.1 ; by=x`, "192.0.2.1"},
		{`Forwarded: ;;for=192.0.2.1`, "192.0.2.1"},
		{`Forwarded: , ,for=192.0.2.1`, "192.0.2.1"},
		// The first element is the one about the client, or nothing is known.
		{"Forwarded: by=203.0.113.43, for=192.0.2.1", ""},
		{"Forwarded: xfor=192.0.2.1", ""},
		{"Forwarded: by=for=192.0.2.1", ""},
		{`Forwarded: for="192.0.2.1`, ""},
		{`Forwarded: for="192.0.2.1"x`, ""},
		{`Forwarded: for="`, ""},
		{`Forwarded: for=`, ""},
		{`Forwarded: for=[2001:db8::1`, ""},
		{`Forwarded: for=[192.0.2.1]`, ""},
		{`Forwarded: for="[2001:db8::1]x"`, ""},
		{`Forwarded: for="192.0.2.1:123456"`, ""},
		{`Forwarded: for="192.0.2.1:"`, ""},
		{`Forwarded: for=client.example`, ""},
		{`Forwarded: for=_`, ""},
		{"Forwarded: for=\"_\x1b[2J\"", ""},
		{"Forwarded: for=_" + strings.Repeat("x", 62), "_" + strings.Repeat("x", 62)},
		{"Forwarded: for=_" + strings.Repeat("x", 63), ""},
		// X-Forwarded-For as proxies write it.
		{"X-Forwarded-For: 203.0.113.7", "203.0.113.7"},
		{"x-forwarded-for:203.0.113.7,198.51.100.1", "203.0.113.7"},
		{"X-Forwarded-For: , 203.0.113.7 , 198.51.100.1", "203.0.113.7"},
		{"X-Forwarded-For: 2001:DB8:0::1", "2001:db8::1"},
		{"X-Forwarded-For: [2001:db8::1]:443", "2001:db8::1"},
		{"X-Forwarded-For: ::ffff:203.0.113.7", "203.0.113.7"},
		{"X-Forwarded-For: fe80::1%eth0", "fe80::1"},
		{"X-Forwarded-For: 203.0.113.7:8080", "203.0.113.7"},
		{`X-Forwarded-For: "203.0.113.7"`, "203.0.113.7"},
		{"X-Forwarded-For: unknown, 203.0.113.7", "unknown"},
		{"X-Forwarded-For: 203.0.113.7; DROP TABLE", ""},
		{"X-Forwarded-For: 203.0.113", ""},
		{"X-Forwarded-For: 203.0.113.7.8", ""},
		// The one that proxies keep more often wins, then the first line.
		{"Forwarded: for=192.0.2.60\r\nX-Forwarded-For: 203.0.113.7", "203.0.113.7"},
		{"X-Forwarded-For: 203.0.113.7\r\nForwarded: for=192.0.2.60\r\nX-Forwarded-For: 203.0.113.8", "203.0.113.7"},
		{"X-Forwarded-For:\r\nForwarded: for=192.0.2.60", "192.0.2.60"},
	} {
		var r Request
		if err := ParseRequest([]byte("GET / HTTP/1.1\r\n"+c[0]+"\r\n\r\n"), &r); err != nil {
			t.Fatal(err)
		}
		if got := ForwardedNode(r.ForwardedFor); got != c[1] {
			t.Errorf("%s: %q of %q, expected %q", c[0], got, r.ForwardedFor, c[1])
		}
	}
}

// Whatever a header holds, what is shown of it is an address in its usual form, "unknown" or an identifier, and is short.
func FuzzForwarded(f *testing.F) {
	for _, s := range []string{`for="[2001:db8::1]:4711";by=x, for=1.2.3.4`, `by="a\",;";for=_x`, `for="\`, "unknown, 1.2.3.4", ",,;=", "::1%\x1b"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, v := range [][]byte{forwardedFor(b), firstElement(b), b} {
			node := ForwardedNode(v)
			a, err := netip.ParseAddr(node)
			switch {
			case len(node) > forwardedNodeMax:
				t.Fatalf("%q: %q is long", v, node)
			case node == "", node == "unknown", node[0] == '_' && wire.TokenLen([]byte(node)) == len(node):
			case err != nil || a.Zone() != "" || a.String() != node || a.Is4In6():
				t.Fatalf("%q: %q is no node", v, node)
			}
		}
	})
}

// FuzzXForwardedFor does the same through a whole head, whose other headers it must not mix in.
func FuzzXForwardedFor(f *testing.F) {
	f.Add([]byte("203.0.113.7, 10.0.0.1"))
	f.Add([]byte(" [::1]:80 ,"))
	f.Fuzz(func(t *testing.T, value []byte) {
		if strings.ContainsAny(string(value), "\r\n") {
			return
		}
		var r Request
		head := "GET / HTTP/1.1\r\nA: 192.0.2.1\r\nX-Forwarded-For: " + string(value) + "\r\nCookie: 192.0.2.2\r\n\r\n"
		if err := ParseRequest([]byte(head), &r); err != nil {
			t.Fatal(err)
		}
		if want := firstElement(value); string(r.ForwardedFor) != string(want) {
			t.Fatalf("%q: %q, expected %q", value, r.ForwardedFor, want)
		}
	})
}
