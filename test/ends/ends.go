// Package ends has the ways in which a body in chunks may end, for the tests that play a server and for the server of tests.
package ends

import "strings"

// FinalChunks are ways to end a body in chunks, each in the pieces in which it is handed over.
var FinalChunks = map[string][]string{
	"plain":         {"0\r\n\r\n"},
	"zeros":         {"00000000\r\n\r\n"},
	"extension":     {"0;a=b;c=\"d e\"\r\n\r\n"},
	"trailers":      {"0\r\nX-Sum: abc\r\nX-Long: " + strings.Repeat("x", 3000) + "\r\n\r\n"},
	"bytewise":      strings.Split("0\r\n\r\n", ""),
	"bytes-trailer": strings.Split("0\r\nA: b\r\n\r\n", ""),
	"line-feeds":    {"0\n\n"},
	"behind-data":   {"5\r\nhel", "lo\r\n0\r\n\r\n"},
}
