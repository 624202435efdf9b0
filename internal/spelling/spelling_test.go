package spelling

import (
	"slices"
	"testing"
)

// A slip of each kind finds the word, exchanged letters are one slip, and what is further away than allowed finds none.
func TestNearest(t *testing.T) {
	words := slices.Values([]string{"GET", "PUT", "POST", "PATCH", "HEAD"})
	for _, tt := range []struct {
		wrong, want string
		slips       int
	}{
		{"GTE", "GET", 1}, {"GETT", "GET", 1}, {"PTCH", "PATCH", 1}, {"HEAP", "HEAD", 1}, {"POTS", "POST", 1}, {"GET", "GET", 0},
		{"PET", "GET", 1}, // as near as PUT, and before it
		{"BAN", "", 1}, {"", "", 2}, {"FETCH", "", 1}, {"FETCH", "PATCH", 2},
	} {
		if got := Nearest(tt.wrong, words, tt.slips); got != tt.want {
			t.Errorf("%q within %d: %q, want %q", tt.wrong, tt.slips, got, tt.want)
		}
	}
}
