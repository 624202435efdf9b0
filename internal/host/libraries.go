package host

import (
	"bytes"
	"cmp"
	"errors"
	"io"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// Bounds of one search. It runs on demand, never while the agent observes.
const (
	mapsBytesMax = 8 << 20 // per process; a JVM with a thousand libraries has about 500 KiB
	// scanBytesMax bounds the search for TLS code inside one executable, scanTotalMax all of them together.
	scanBytesMax   = 256 << 20
	scanTotalMax   = 1 << 30
	scanChunkBytes = 1 << 20
	libraryPIDsMax = 8 // examples kept of each library
)

// Library is TLS code that running processes use.
type Library struct {
	Kind      string   `json:"kind"`              // openssl, gnutls, nss, mbedtls, wolfssl, s2n, netty-tcnative, conscrypt, go, rustls, jsse
	Path      string   `json:"path"`              // as the processes see it
	Static    bool     `json:"static"`            // part of an executable
	Deleted   bool     `json:"deleted,omitempty"` // the file was removed or replaced since the processes began to use it
	Processes int      `json:"processes"`
	PIDs      []uint32 `json:"pids"` // up to 8 of them, ascending
}

// LibraryOptions narrow a search. The zero value looks at every process of the live host.
type LibraryOptions struct {
	Root   string // directory that holds proc; "" means "/"
	Filter Filter
	Except uint32 // a process left out, such as the one that asks; 0 for none
}

// LibraryReport is the result of a search.
type LibraryReport struct {
	Libraries []Library `json:"libraries"`
	Processes int       `json:"processes"` // processes looked at, kernel threads excluded
	Using     int       `json:"using"`     // of them, those that use one of the libraries
	// Unreadable counts processes whose mappings could not be read for want of privilege.
	Unreadable int `json:"unreadable"`
	// Unscanned counts executables that were too large to be searched for TLS code of their own.
	Unscanned int `json:"unscanned"`
}

// FindTLSLibraries returns the TLS libraries that running processes have mapped, and the executables that carry one,
// those of the most processes first.
func FindTLSLibraries(options LibraryOptions) (LibraryReport, error) {
	proc := newProcFS(options.Root)
	pids, err := options.Filter.Choose(options.Root)
	if pids == nil && err == nil {
		pids, err = proc.pids()
	}
	if err != nil {
		return LibraryReport{}, err
	}
	slices.Sort(pids)
	search := librarySearch{proc: proc, found: make(map[libraryKey]*Library), scanned: make(map[fileKey]string), left: scanTotalMax}
	for _, pid := range pids {
		if pid != options.Except {
			search.process(pid)
		}
	}
	return search.report(), nil
}

type (
	libraryKey struct {
		kind, path string
		deleted    bool
	}
	fileKey struct{ device, inode uint64 }
)

type librarySearch struct {
	proc    procFS
	found   map[libraryKey]*Library
	scanned map[fileKey]string // kind of TLS code inside an executable, "" for none
	left    int64              // bytes that may still be scanned
	result  LibraryReport
}

func (s *librarySearch) report() LibraryReport {
	s.result.Libraries = []Library{} // never null in JSON
	for _, library := range s.found {
		s.result.Libraries = append(s.result.Libraries, *library)
	}
	slices.SortFunc(s.result.Libraries, func(a, b Library) int {
		return cmp.Or(cmp.Compare(b.Processes, a.Processes), cmp.Compare(a.Path, b.Path), cmp.Compare(a.Kind, b.Kind),
			strings.Compare(a.String(), b.String()))
	})
	return s.result
}

// process adds what one process uses.
func (s *librarySearch) process(pid uint32) {
	maps, err := s.proc.read(pid, "maps", mapsBytesMax)
	switch {
	case errors.Is(err, os.ErrPermission):
		s.result.Processes++
		s.result.Unreadable++
		return
	case err != nil || len(maps) == 0: // it ended, or is a kernel thread
		return
	}
	s.result.Processes++
	libraries := mappedLibraries(maps)
	for _, library := range libraries {
		s.add(library, false, pid)
	}
	if len(libraries) > 0 {
		s.result.Using++
	}
	executable, deleted := s.proc.executableFile(pid)
	// A program linked with a TLS library names its functions too, so only the others are searched for their own.
	if executable == "" || slices.ContainsFunc(libraries, func(l libraryKey) bool { return l.kind == "openssl" }) {
		return
	}
	if kind := s.scan(pid); kind != "" {
		s.add(libraryKey{kind, executable, deleted}, true, pid)
		if len(libraries) == 0 {
			s.result.Using++
		}
	}
}

func (s *librarySearch) add(key libraryKey, static bool, pid uint32) {
	library := s.found[key]
	if library == nil {
		library = &Library{Kind: key.kind, Path: key.path, Static: static, Deleted: key.deleted}
		s.found[key] = library
	}
	library.Processes++
	if len(library.PIDs) < libraryPIDsMax {
		library.PIDs = append(library.PIDs, pid)
	}
}

// librariesByName maps how a library's file name begins to its kind.
var librariesByName = []struct{ prefix, kind string }{
	{"libssl3.so", "nss"}, // NSS, before OpenSSL's libssl.so.3
	{"libssl.", "openssl"}, {"libssl-", "openssl"},
	{"libgnutls.", "gnutls"}, {"libgnutls-", "gnutls"},
	{"libmbedtls.", "mbedtls"}, {"libmbedtls-", "mbedtls"},
	{"libwolfssl.", "wolfssl"}, {"libs2n.", "s2n"},
	{"libnetty_tcnative", "netty-tcnative"}, {"libconscrypt", "conscrypt"}, {"librustls", "rustls"},
	{"libjvm.so", "jsse"}, // Java's own TLS runs inside the virtual machine
}

// mappedLibraries returns the TLS libraries in /proc/PID/maps, each once.
func mappedLibraries(maps []byte) []libraryKey {
	var found []libraryKey
	for line := range bytes.Lines(maps) {
		slash := bytes.IndexByte(line, '/')
		if slash < 0 {
			continue
		}
		file, deleted := strings.CutSuffix(strings.TrimSuffix(string(line[slash:]), "\n"), deletedMark)
		base := path.Base(file)
		for _, library := range librariesByName {
			if strings.HasPrefix(base, library.prefix) {
				if key := (libraryKey{library.kind, file, deleted}); !slices.Contains(found, key) {
					found = append(found, key)
				}
				break
			}
		}
	}
	return found
}

// staticMarks are texts that the TLS code of a kind leaves in an executable, also when symbols are stripped: names of
// source files in assertions, and the function table that the Go runtime needs.
var staticMarks = []struct {
	mark []byte
	kind string
}{
	{[]byte("crypto/tls.(*Conn).Handshake"), "go"},
	{[]byte("ssl/ssl_lib.c"), "openssl"}, // BoringSSL's is ssl_lib.cc
	{[]byte("rustls-0."), "rustls"},
	{[]byte("mbedtls_ssl_handshake"), "mbedtls"},
}

// scan returns the kind of TLS code inside a process's executable, "" for none. Each file is read once, however many
// processes run it.
func (s *librarySearch) scan(pid uint32) string {
	f, err := os.Open(s.proc.file(pid, "exe"))
	if err != nil {
		return ""
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return ""
	}
	var key fileKey
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		key = fileKey{uint64(stat.Dev), stat.Ino}
		if kind, known := s.scanned[key]; known {
			return kind
		}
	}
	kind := ""
	if size := info.Size(); size > scanBytesMax || size > s.left {
		s.result.Unscanned++
	} else {
		s.left -= size
		kind = scanFor(f)
	}
	s.scanned[key] = kind
	return kind
}

// scanFor returns the kind of the first mark that r contains.
func scanFor(r io.Reader) string {
	overlap := 0
	for _, m := range staticMarks {
		overlap = max(overlap, len(m.mark)-1)
	}
	buffer := make([]byte, overlap+scanChunkBytes)
	filled := 0
	for {
		n, err := io.ReadFull(r, buffer[filled:])
		window := buffer[:filled+n]
		for _, m := range staticMarks {
			if bytes.Contains(window, m.mark) {
				return m.kind
			}
		}
		if err != nil {
			return ""
		}
		filled = copy(buffer, window[len(window)-overlap:])
	}
}

// String returns a line such as "openssl /usr/lib/libssl.so.3 (deleted) (12 processes)".
func (l Library) String() string {
	file := l.Path
	if l.Deleted {
		file += deletedMark
	}
	noun := " processes)"
	if l.Processes == 1 {
		noun = " process)"
	}
	return l.Kind + " " + file + " (" + strconv.Itoa(l.Processes) + noun
}
