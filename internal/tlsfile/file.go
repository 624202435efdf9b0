// Package tlsfile finds out which file is a TLS library, in which form, and where in it uprobes see plaintext at little
// cost. It reads files that others wrote: every read is bounded, nothing is mapped, and nothing of a file is executed.
package tlsfile

import (
	"fmt"
	"io"
	"runtime"
	"time"
)

// Kind is a TLS library.
type Kind string

// The kinds whose functions are looked for, and those that are only named.
const (
	OpenSSL   Kind = "OpenSSL" // 1.1 and later, and what has its interface
	BoringSSL Kind = "BoringSSL"
	GnuTLS    Kind = "GnuTLS"
	GoTLS     Kind = "Go crypto/tls"
	Rustls    Kind = "rustls"
	NSS       Kind = "NSS"
	MbedTLS   Kind = "Mbed TLS"
	WolfSSL   Kind = "wolfSSL"
)

// Limits of one examination. The largest executables at hand (a browser, 300 MB) need 60 MB and 0.1 s.
const (
	readBytesMax = 192 << 20        // of one file
	cpuMax       = 2 * time.Second  // of processor time for one file, looked at before each read
	timeMax      = 30 * time.Second // for one file: a busy machine lets little of it be processor time, a network's disk may not answer
	chunkBytes   = 240 << 10        // read at a time: a multiple of the size of a symbol
)

// Role is what a function does with plaintext.
type Role string

const (
	Read  Role = "read"  // plaintext is there when it returns
	Write Role = "write" // plaintext is there when it is called
)

// File is what is known of one file. Functions is empty where Reason says why.
type File struct {
	Kind      Kind   // "": no TLS was found
	Version   string // as far as the file tells: "3.0.15", "3", "go1.26.8"
	BuildID   string // hexadecimal, of the GNU note; "" for none
	Functions []Function
	Reason    string // why it has no functions, in plain words
	BytesRead int64  // by the examination
}

// Function is one function of the library, with the places where probes belong.
type Function struct {
	Name string
	Role Role
	// Address is its entry's virtual address, Offset the same in the file, which is what a uprobe takes.
	Address, Offset, Size uint64
	Sites                 []Site
}

// Site is a place for a probe and what is found there.
type Site struct {
	Offset      uint64 // in the file, of an instruction's first byte
	Instruction string
	// Emulated: the kernel does the instruction itself, instead of stepping a copy of it (0.4 against 16 us in a virtual machine).
	Emulated bool
	Why      string // why no better one was found, where Emulated is false
	// Where the function's arguments are. Session is "" where it is nowhere.
	Session, Buffer, Length Location
	// Count is where the number of bytes is written on return, for functions with the signature of SSL_read_ex; else "".
	Count Location
	// Stack is by how many bytes the stack pointer is below its value at the function's first instruction.
	Stack int
	// Return: a return probe may be attached here, because the return address is where the kernel looks for it.
	Return bool
	// Source is where the plaintext is before the call, for sites in front of a copy; else "".
	Source Location
	// Results are places at which the function's result is in a register on its way out, where the kernel steps these cheaply.
	Results []uint64
}

// Location is a register in the kernel's spelling ("rdi", "x1"), or "rsp+104": that far above the stack pointer; "" for nowhere.
type Location string

// Examine looks at size bytes of r. An error means that it could not be read to the end within the limits; what is no ELF file of a
// supported machine is no error and has no kind.
func Examine(r io.ReaderAt, size int64) (File, error) {
	runtime.LockOSThread() // whose processor time is measured
	defer runtime.UnlockOSThread()
	src := &source{r: r, size: size, left: readBytesMax, until: time.Now().Add(timeMax), cpuUntil: threadTime() + cpuMax}
	file, err := examine(src)
	file.BytesRead = readBytesMax - src.left
	if err != nil {
		return file, fmt.Errorf("examining for TLS: %w", err)
	}
	return file, nil
}

func examine(src *source) (File, error) {
	im, err := readImage(src)
	if err != nil || im == nil {
		return File{}, err
	}
	file := File{BuildID: im.buildID()}
	if table := im.goTable(); table != nil {
		return file, table.recognise(&file)
	}
	return file, im.recognise(&file)
}
