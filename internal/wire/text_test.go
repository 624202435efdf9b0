package wire

import (
	"strconv"
	"testing"
)

// Every byte is a digit, a letter, a hexadecimal digit or part of a token where the standard library and RFC 9110 have it so.
func TestTextBytes(t *testing.T) {
	for i := range 256 {
		c := byte(i)
		n, err := strconv.ParseUint(string(rune(c)), 16, 8)
		if d, ok := HexDigit(c); ok != (err == nil) || ok && d != byte(n) {
			t.Errorf("HexDigit(%q) is %d, %t", c, d, ok)
		}
		if digit := c >= '0' && c <= '9'; IsDigit(c) != digit {
			t.Errorf("IsDigit(%q) is %t", c, !digit)
		}
		if letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'; IsLetter(c) != letter {
			t.Errorf("IsLetter(%q) is %t", c, !letter)
		}
	}
	for text, want := range map[string]int{"": 0, "GET /": 3, "X-User: a": 6, "a.b|c~`^_+*'&%$#!": 17, "a\x7f": 1, "\xc3": 0, "{a": 0} {
		if got := TokenLen([]byte(text)); got != want {
			t.Errorf("TokenLen(%q) is %d, want %d", text, got, want)
		}
	}
}
