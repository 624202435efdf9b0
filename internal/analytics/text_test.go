package analytics

import "testing"

// Text keeps what can be shown, and escapes the rest in the value itself.
func TestPrintable(t *testing.T) {
	for in, want := range map[string][2]string{
		"/a é 日本 %20\\":    {"/a é 日本 %20\\", "/a é 日本 %20\\"},
		"/\x00\x1b[2J\x7f": {`/\x00\x1b[2J\x7f`, "/%00%1B[2J%7F"},
		"\xff\u0085\ufffd": {`\xff\x85` + "\ufffd", "%FF%C2%85\ufffd"},
		"\u202e\U000e0041": {`\u202e\U000e0041`, "%E2%80%AE%F3%A0%81%81"},
	} {
		if got := [2]string{Printable(in), PrintablePath(in)}; got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
	if n := testing.AllocsPerRun(10, func() { Printable("/items/é"); PrintablePath("/items/é") }); n != 0 {
		t.Errorf("%v allocations for text that is printable already", n)
	}
}
