package http

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/perfagent/perfagent/internal/wire"
)

// hashOf is the hash that a request with these header lines gets.
func hashOf(t *testing.T, u *UserHeader, lines string) uint64 {
	t.Helper()
	var d Decoder
	d.SetUserHeader(u)
	var ex wire.Exchange
	rec := wire.Record{Request: []byte("GET / HTTP/1.1\r\n" + lines + "\r\n"), Flags: wire.FlagClosed}
	if _, err := d.Exchange(&rec, &ex); err != nil {
		t.Fatal(err)
	}
	return ex.UserHash
}

// The hash is HMAC-SHA256 (RFC 4231, case 2: key "Jefe"), cut to its first 64 bits; the same value has the same hash in
// any place and case of the name, and under another key another one.
func TestUserHeader(t *testing.T) {
	u := newUserHeader("X-User", []byte("Jefe"))
	const value, want = "what do ya want for nothing?", 0x5bdcc146bf60754e
	for _, lines := range []string{
		"X-User: " + value + "\r\n", "a: b\r\nx-uSER:" + value + " \r\n", "X-User:\r\nX-User: " + value + "\r\nX-User: other\r\n",
		"X-User: " + value + "\r\nCookie: x\r\n y\r\n",
	} {
		if got := hashOf(t, u, lines); got != want {
			t.Errorf("%q: %x", lines, got)
		}
	}
	for _, lines := range []string{
		"", "X-User: \r\n", "X-Users: " + value + "\r\n", "X_User: " + value + "\r\n", "X-User : " + value + "\r\n",
		"X-User: what do ya want\r\n for nothing?\r\n", "Authorization: " + value + "\r\nCookie: " + value + "\r\n",
	} {
		if got := hashOf(t, u, lines); got != 0 {
			t.Errorf("%q: %x", lines, got)
		}
	}
	lines := "X-User: alice\r\n"
	if a, b := hashOf(t, NewUserHeader("x-user"), lines), hashOf(t, NewUserHeader("x-user"), lines); a == b || a == 0 || b == 0 {
		t.Errorf("two keys give %x and %x", a, b)
	}
	if NewUserHeader("") != nil || hashOf(t, nil, lines) != 0 {
		t.Error("a hash without a header")
	}
	// A header that is read anyhow, and one that is read only because it is named.
	for _, name := range []string{"User-Agent", "Authorization", "Cookie", "traceparent"} {
		if hashOf(t, NewUserHeader(name), name+": x\r\n") == 0 {
			t.Errorf("%s has no hash", name)
		}
	}
}

func TestCheckHeaderName(t *testing.T) {
	for name, ok := range map[string]bool{
		"": true, "X-User": true, "x_user.id": true, "a b": false, "X-User:": false, "ü": false, "a\x00": false,
		strings.Repeat("x", 64): true, strings.Repeat("x", 65): false,
	} {
		if err := CheckHeaderName(name); (err == nil) != ok {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// All three ways from bytes to exchanges know the user, and a remembered head keeps its hash. None allocates.
func TestUserHeaderEverywhere(t *testing.T) {
	u := newUserHeader("X-User", []byte("Jefe"))
	head := func(user string) string { return "GET / HTTP/1.1\r\nX-User: " + user + "\r\n\r\n" }
	memo := NewMemo[int]()
	memo.SetUserHeader(u)
	var stream []uint64
	s := NewStreams(StreamOptions{User: u})
	emit := func(ex *wire.Exchange) { stream = append(stream, ex.UserHash) }
	for i, user := range []string{"a", "b", "a", "b"} {
		want := hashOf(t, u, "X-User: "+user+"\r\n")
		rec := memoRecord(1, wire.RoleServer, 1, head(user))
		k, _, err := memo.Exchange(&rec)
		if err != nil || k.UserHash != want {
			t.Errorf("%s: %x (%v), expected %x", user, k.UserHash, err, want)
		}
		request := []byte(head(user))
		response := []byte("HTTP/1.1 204 No Content\r\n\r\n")
		s.Fragment(&wire.Fragment{Conn: uint64(i + 1), Flags: wire.FlagRequestDirection, At: 1, Length: uint64(len(request)), Data: request}, emit)
		s.Fragment(&wire.Fragment{Conn: uint64(i + 1), At: 2, Length: uint64(len(response)), Data: response}, emit)
		s.Fragment(&wire.Fragment{Conn: uint64(i + 1), At: 3, Flags: wire.FlagClosed}, emit)
		s.Sweep(int64(time.Hour), time.Minute, emit)
		if len(stream) != i+1 || stream[i] != want {
			t.Errorf("%s: %x, expected %x", user, stream, want)
		}
	}
	var d Decoder
	d.SetUserHeader(u)
	var ex wire.Exchange
	rec := memoRecord(1, wire.RoleServer, 1, head("alice"))
	if n := testing.AllocsPerRun(100, func() { _, _ = d.Exchange(&rec, &ex) }); n != 0 || ex.UserHash == 0 {
		t.Errorf("%v allocations", n)
	}
}

// A request that is remembered leaves nothing behind but what its exchange shows.
func TestMemoForgetsCredentials(t *testing.T) {
	const secret = "c3VwZXItc2VjcmV0"
	memo := NewMemo[int]()
	for i := range 50 {
		rec := memoRecord(1, wire.RoleServer, 1, fmt.Sprintf("GET /%d?token=%s HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer %s\r\n"+
			"Cookie: s=%s\r\nX-Api-Key: %s\r\nX-Request-Id: %d\r\n\r\n", i, secret, secret, secret, secret, i))
		if _, _, err := memo.Exchange(&rec); err != nil {
			t.Fatal(err)
		}
	}
	kept := 0
	for _, k := range memo.slots {
		if k == nil {
			continue
		}
		kept++
		for _, p := range k.Texts() {
			if all := (*p)[:cap(*p)]; bytes.Contains(all, []byte(secret)) {
				t.Fatalf("%q", all)
			}
		}
		if bytes.Contains(k.text[:cap(k.text)], []byte(secret)) {
			t.Fatalf("%q", k.text)
		}
	}
	if kept == 0 {
		t.Error("nothing was remembered")
	}
}

// A head that is cut anywhere shows each value whole or not at all.
func TestRequestTruncated(t *testing.T) {
	head := "POST /a/b HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: curl/8\r\nX-Request-Id: 4f1c-9\r\ntraceparent: " + traceParent +
		"\r\nForwarded: for=\"[2001:db8::1]:4711\"\r\nX-Forwarded-For: 203.0.113.7, 10.0.0.1\r\nX-User: alice\r\n\r\n"
	u := newUserHeader("x-user", []byte("k"))
	whole := Request{user: u}
	if err := ParseRequest([]byte(head), &whole); err != nil || !whole.Complete || string(whole.User) != "alice" {
		t.Fatal(err, whole)
	}
	for n := range len(head) {
		r := Request{user: u}
		if err := ParseRequest([]byte(head[:n]), &r); err != nil && n > 0 {
			t.Fatalf("%q: %v", head[:n], err)
		}
		for i, v := range [][2][]byte{
			{r.Host, whole.Host}, {r.UserAgent, whole.UserAgent}, {r.RequestID, whole.RequestID}, {r.TraceParent, whole.TraceParent}, {r.User, whole.User},
		} {
			if len(v[0]) > 0 && !bytes.Equal(v[0], v[1]) {
				t.Fatalf("cut at %d: value %d is %q", n, i, v[0])
			}
		}
		if got := ForwardedNode(r.ForwardedFor); got != "" && got != "2001:db8::1" && got != "203.0.113.7" {
			t.Fatalf("cut at %d: forwarded for %q", n, got)
		}
	}
}

func BenchmarkUserHash(b *testing.B) {
	u := NewUserHeader("X-User")
	value := []byte("alice@example.com")
	b.ReportAllocs()
	for b.Loop() {
		u.hash(value)
	}
}
