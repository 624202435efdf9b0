package main

import (
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode"
	"unicode/utf8"
	"unsafe"
)

// printable escapes what a terminal would obey or could not show, as Go writes it: \n, \x1b, \u202e.
func printable(s string) string {
	if strings.IndexFunc(s, func(r rune) bool { return r == utf8.RuneError || !unicode.IsPrint(r) }) < 0 {
		return s
	}
	var b strings.Builder
	for i, r := range s {
		_, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			b.WriteString(`\x` + strconv.FormatUint(uint64(s[i]), 16))
		case unicode.IsPrint(r):
			b.WriteRune(r)
		default:
			quoted := strconv.QuoteRune(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		}
	}
	return b.String()
}

// shorten cuts a text to at most width characters, the last of which then is `…`. Zero means no bound.
func shorten(s string, width int) string {
	if width <= 0 || utf8.RuneCountInString(s) <= width {
		return s
	}
	runes := []rune(s)
	return string(runes[:width-1]) + "…"
}

// terminalWidth returns how many characters fit on a line of w, 0 where w is no terminal.
func terminalWidth(w io.Writer) int {
	f, ok := w.(*os.File)
	if !ok {
		return 0
	}
	var size struct{ rows, columns, x, y uint16 }
	_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, f.Fd(), syscall.TIOCGWINSZ, uintptr(unsafe.Pointer(&size)))
	if errno != 0 {
		return 0
	}
	return int(size.columns)
}

// showDuration writes nanoseconds with three digits: 842ns, 12.3us, 1.20ms, 4.05s. Negative is `-`, not known.
func showDuration(ns int64) string {
	if ns < 0 {
		return "-"
	}
	units := []struct {
		name string
		ns   float64
	}{{"us", 1e3}, {"ms", 1e6}, {"s", 1e9}}
	if ns < 1000 {
		return strconv.FormatInt(ns, 10) + "ns"
	}
	for i, unit := range units {
		v := float64(ns) / unit.ns
		if v < 999.5 || i == len(units)-1 {
			decimals := 0
			if v < 9.995 {
				decimals = 2
			} else if v < 99.95 {
				decimals = 1
			}
			return strconv.FormatFloat(v, 'f', decimals, 64) + unit.name
		}
	}
	return time.Duration(ns).String()
}
