package main

import (
	"io"
	"math"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
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

// lineWidth returns how many characters a line of w may have: what COLUMNS says, else as many as fit on a terminal, and any number
// where w is none, because what is kept or searched must be whole. 0: it is a terminal that does not tell.
func lineWidth(w io.Writer, environ []string) int {
	for _, entry := range environ {
		if text, ok := strings.CutPrefix(entry, "COLUMNS="); ok {
			if n, err := strconv.Atoi(text); err == nil && n > 0 {
				return n
			}
		}
	}
	if n, ok := terminalWidth(w); ok {
		return n
	}
	return math.MaxInt
}

// terminalWidth returns how many characters fit on a line of a terminal, 0 where it does not tell, and whether w, a reader or a writer, is one.
func terminalWidth(w any) (columns int, ok bool) {
	f, ok := w.(*os.File)
	if !ok {
		return 0, false
	}
	var size struct{ rows, columns, x, y uint16 }
	_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, f.Fd(), syscall.TIOCGWINSZ, uintptr(unsafe.Pointer(&size)))
	return int(size.columns), errno == 0
}

// terminal is the one that the agent was started from.
type terminal struct{ file *os.File }

// openTerminal returns the controlling terminal, the zero value where there is none or where its end is to mean nothing
// (nohup). A service manager gives none. It is kept open, because what is open knows of a hangup before anybody is told.
func openTerminal() terminal {
	if signal.Ignored(syscall.SIGHUP) {
		return terminal{}
	}
	fd, err := syscall.Open("/dev/tty", syscall.O_RDONLY|syscall.O_NOCTTY|syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
	if err != nil {
		return terminal{}
	}
	return terminal{os.NewFile(uintptr(fd), "/dev/tty")}
}

// isGone tells whether there was a terminal and it has been closed.
func (t terminal) isGone() bool {
	if t.file == nil {
		return false
	}
	var group int32
	raw, err := t.file.SyscallConn()
	if err != nil {
		return true
	}
	var errno syscall.Errno
	err = raw.Control(func(fd uintptr) {
		_, _, errno = syscall.Syscall(syscall.SYS_IOCTL, fd, syscall.TIOCGPGRP, uintptr(unsafe.Pointer(&group)))
	})
	return err != nil || errno != 0
}

func (t terminal) close() {
	if t.file != nil {
		t.file.Close()
	}
}
