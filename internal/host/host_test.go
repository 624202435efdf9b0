package host_test

import (
	"cmp"
	"context"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/perfagent/perfagent/internal/host"
)

// Shows which paths a glob matches.
func TestGlob(t *testing.T) {
	cases := []struct {
		pattern, name string
		want          bool
	}{
		{"/usr/bin/node", "/usr/bin/node", true},
		{"/usr/bin/node", "/usr/bin/nodes", false},
		{"/usr/*/node", "/usr/bin/node", true},
		{"/usr/*", "/usr/bin/node", false},
		{"/usr/**", "/usr/bin/node", true},
		{"/usr/**/node", "/usr/node", true},
		{"/**/bin/**/x", "/a/bin/b/bin/c/x", true},
		{"/**/bin/**/x", "/a/bin/b/bin/c/y", false},
		{"python3*", "/usr/bin/python3.11", true},
		{"python3.[0-9]", "/usr/bin/python3.1", true},
		{"**", "/a", true},
		{"/a", "", false},
		{"**/**/**/**/**/**/**/**/**/q", "/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a", false},
	}
	for _, c := range cases {
		glob, err := host.NewGlob(c.pattern)
		if err != nil {
			t.Fatal(err)
		}
		if got := glob.Match(c.name); got != c.want {
			t.Errorf("%q on %q: %v, want %v", c.pattern, c.name, got, c.want)
		}
	}
	for _, pattern := range []string{"", "/a/[x"} {
		if _, err := host.NewGlob(pattern); err == nil {
			t.Errorf("%q was accepted", pattern)
		}
	}
}

// Shows the descendants of a tree, without strangers and without what does not live.
func TestDescendants(t *testing.T) {
	h := newFakeHost(t)
	for pid, parent := range map[uint32]uint32{1: 0, 2: 1, 3: 2, 4: 3, 5: 1, 6: 5} {
		h.add(fakeProcess{pid: pid, parent: parent})
	}
	got, err := host.Descendants(h.root, []uint32{2, 6, 77})
	if want := []uint32{2, 3, 4, 6}; err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
	if _, err := host.Descendants(h.root+"/none", []uint32{1}); err == nil {
		t.Error("a host without proc was accepted")
	}
}

// Shows the TLS libraries of mapped files and of executables that carry their own, counted by path.
func TestFindTLSLibraries(t *testing.T) {
	h := newFakeHost(t)
	ssl := "7f00-7f01 r-xp 00000000 08:01 12 /usr/lib/libssl.so.3\n7f01-7f02 r--p 00001000 08:01 12 /usr/lib/libssl.so.3\n"
	h.write("bin/nginx", "SSL_read ssl/ssl_lib.c")
	h.write("bin/shop", "xx"+string(make([]byte, 3<<20))+"crypto/tls.(*Conn).Handshake")
	h.write("bin/plain", "nothing")
	h.add(fakeProcess{pid: 5, executable: h.root + "/bin/nginx", maps: ssl})
	h.add(fakeProcess{pid: 6, executable: h.root + "/bin/nginx", maps: ssl})
	h.add(fakeProcess{pid: 7, executable: h.root + "/bin/shop", maps: "7f00-7f01 r-xp 0 08:01 13 /bin/shop\n"})
	h.add(fakeProcess{pid: 8, executable: h.root + "/bin/plain", maps: "7f00-7f01 r-xp 0 08:01 13 /usr/lib/libgnutls.so.30 (deleted)\n"})
	h.add(fakeProcess{pid: 9}) // a kernel thread maps nothing
	// The program, and a library, that were replaced while it runs; others have the new library.
	h.write("bin/old (deleted)", "crypto/tls.(*Conn).Handshake")
	h.add(fakeProcess{pid: 10, executable: h.root + "/bin/old (deleted)", maps: "7f00-7f01 r-xp 0 08:01 14 /usr/lib/libgnutls.so.30\n"})
	report, err := host.FindTLSLibraries(host.LibraryOptions{Root: h.root})
	if err != nil {
		t.Fatal(err)
	}
	want := host.LibraryReport{Processes: 5, Using: 5, Libraries: []host.Library{
		{Kind: "openssl", Path: "/usr/lib/libssl.so.3", Processes: 2, PIDs: []uint32{5, 6}},
		{Kind: "go", Path: h.root + "/bin/shop", Static: true, Processes: 1, PIDs: []uint32{7}},
		{Kind: "go", Path: h.root + "/bin/old", Static: true, Deleted: true, Processes: 1, PIDs: []uint32{10}},
		{Kind: "gnutls", Path: "/usr/lib/libgnutls.so.30", Processes: 1, PIDs: []uint32{10}},
		{Kind: "gnutls", Path: "/usr/lib/libgnutls.so.30", Deleted: true, Processes: 1, PIDs: []uint32{8}},
	}}
	slices.SortStableFunc(want.Libraries[1:], func(a, b host.Library) int { return cmp.Compare(a.Path, b.Path) })
	if text := want.Libraries[4].String(); h.root < "/usr" && text != "gnutls /usr/lib/libgnutls.so.30 (deleted) (1 process)" {
		t.Error(text)
	}
	if !reflect.DeepEqual(report, want) {
		t.Errorf("got %+v\nwant %+v", report, want)
	}
	report, err = host.FindTLSLibraries(host.LibraryOptions{Root: h.root, Filter: host.Filter{PIDs: []uint32{7}}})
	if err != nil || report.Processes != 1 || len(report.Libraries) != 1 {
		t.Errorf("with a filter: %+v, %v", report, err)
	}
	report, err = host.FindTLSLibraries(host.LibraryOptions{Root: h.root, Filter: host.Filter{PIDs: []uint32{77}}})
	if err != nil || report.Processes != 0 {
		t.Errorf("with a filter that chooses nothing: %+v, %v", report, err)
	}
}

// Shows the conversion of instants, that a small difference is taken for noise, and that a moved clock is followed.
func TestClock(t *testing.T) {
	monotonic, wall := int64(1000), time.Unix(1700000000, 0)
	reading := int64(0)
	clock := host.NewClock(host.ClockOptions{
		// Each second reading is 100 ns after the first, as a measurement sees it.
		Monotonic: func() int64 { reading++; return monotonic + 100*(1-reading%2) },
		Wall:      func() time.Time { return wall },
	})
	expect := func(want int64) {
		t.Helper()
		if got := clock.Time(monotonic).Sub(time.Unix(1700000000, 0)).Nanoseconds(); got < want-100 || got > want+100 {
			t.Errorf("off by %d ns, want %d", got, want)
		}
	}
	expect(0)
	before := clock.Time(5)
	wall = wall.Add(20)
	clock.Refresh()
	if clock.Time(5) != before {
		t.Error("noise moved the clock")
	}
	wall = wall.Add(time.Hour)
	clock.Refresh()
	expect(int64(time.Hour) + 20)
}

// Shows that the live clocks agree with the standard library's within a millisecond, and that Run ends with its context.
func TestLiveClock(t *testing.T) {
	clock := host.NewClock(host.ClockOptions{})
	if d := time.Since(clock.Time(host.Monotonic())); d < -time.Millisecond || d > 50*time.Millisecond {
		t.Errorf("off by %v", d)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	clock.Run(ctx)
}
