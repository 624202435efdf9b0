package tlsfile

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Beginnings of a table of functions (.gopclntab), which every Go executable keeps, stripped or not: tracebacks need it.
const (
	magicGo120 = 0xfffffff1
	magicGo118 = 0xfffffff0
	magicGo116 = 0xfffffffa
	magicGo12  = 0xfffffffb
)

const (
	goHeaderBytes   = 72
	goFunctionsMax  = 2 << 20 // the largest programs have 300,000
	goNameMax       = 128     // of the names that are looked for
	goVersionMax    = 64
	goRelocationMax = 8 << 20 // relocations that are looked through
	textWord        = 22      // where moduledata has the beginning of the text, Go 1.20 to 1.26
)

// Names of functions in the table.
const (
	goRead    = "crypto/tls.(*Conn).Read"
	goWrite   = "crypto/tls.(*Conn).Write"
	goMemmove = "runtime.memmove"
	goReader  = "bytes.(*Reader).Read"
)

// goEndless are the beginnings of names of functions that do not return. What stands behind a call of them is not reached from there.
var goEndless = []string{"runtime.panic", "runtime.gopanic", "runtime.goPanic", "runtime.throw", "runtime.fatal"}

// goGrowing is the beginning of the names of functions that make the stack grow.
const goGrowing = "runtime.morestack"

// goTable is the table of functions of a Go executable. Its layout is that of Go 1.20 to at least 1.26, where the header has no address of the text any more.
type goTable struct {
	im                         *image
	offset, size, address      uint64 // in the file; in memory
	count                      uint64
	names, namesEnd, functions uint64 // offsets in the table
	headerText                 uint64
	old                        bool // of a Go that is too old
}

// goTable returns nil for what was not made by Go.
func (im *image) goTable() *goTable {
	s := im.section(".gopclntab")
	if s == nil {
		s = im.section(".data.rel.ro.gopclntab")
	}
	if s == nil || s.size < goHeaderBytes {
		return nil
	}
	h, err := im.src.bytes(s.offset, goHeaderBytes)
	if err != nil {
		return nil
	}
	switch le.Uint32(h) {
	case magicGo120:
	case magicGo118, magicGo116, magicGo12:
		return &goTable{im: im, old: true}
	default:
		return nil
	}
	t := &goTable{im: im, offset: s.offset, size: s.size, address: s.address, count: le.Uint64(h[8:]), headerText: le.Uint64(h[24:]),
		names: le.Uint64(h[32:]), namesEnd: le.Uint64(h[40:]), functions: le.Uint64(h[64:])}
	if h[7] != 8 || t.count > goFunctionsMax || t.names > t.namesEnd || t.namesEnd > t.size || t.functions > t.size || t.count*8+4 > t.size-t.functions {
		return nil
	}
	return t
}

// recognise fills in what a Go program has of TLS.
func (t *goTable) recognise(file *File) error {
	version := t.im.goVersion()
	if t.old {
		file.Kind, file.Version, file.Reason = GoTLS, version, "compiled by a Go older than 1.20: its tables of functions are not read"
		return nil
	}
	found, err := t.find()
	if err != nil {
		return err
	}
	if len(found.named[goRead]) == 0 && len(found.named[goWrite]) == 0 {
		return t.im.recognise(file) // a library in C may be part of it
	}
	file.Kind, file.Version = GoTLS, version
	text, ok, err := t.text(found)
	if err != nil {
		return err
	}
	if !ok {
		file.Reason = "where the code of this Go program begins was not found"
		return nil
	}
	t.im.addGoFunctions(file, found.at(text))
	return nil
}

// goFunctions are functions of the table by name, at offsets from the beginning of the text, later at addresses.
type goFunctions struct {
	named            map[string][]symbol
	endless, growing map[uint64]bool
}

func (f goFunctions) at(text uint64) goFunctions {
	moved := goFunctions{named: make(map[string][]symbol), endless: make(map[uint64]bool), growing: make(map[uint64]bool)}
	for name, list := range f.named {
		for _, s := range list {
			moved.named[name] = append(moved.named[name], symbol{address: s.address + text, size: s.size})
		}
	}
	for a := range f.endless {
		moved.endless[a+text] = true
	}
	for a := range f.growing {
		moved.growing[a+text] = true
	}
	return moved
}

// find reads the table once from front to end, after the places of the names were found in its names.
func (t *goTable) find() (goFunctions, error) {
	found := goFunctions{named: make(map[string][]symbol), endless: make(map[uint64]bool), growing: make(map[uint64]bool)}
	names, err := t.nameOffsets()
	if err != nil {
		return found, err
	}
	window := window{src: t.im.src, offset: t.offset + t.functions, size: t.size - t.functions}
	var last symbol
	var lastName string
	put := func(next uint64) {
		switch {
		case lastName == "":
		case slices.ContainsFunc(goEndless, func(p string) bool { return strings.HasPrefix(lastName, p) }):
			found.endless[last.address] = true
		case strings.HasPrefix(lastName, goGrowing):
			found.growing[last.address] = true
		default:
			last.size = next - last.address
			found.named[lastName] = append(found.named[lastName], last)
		}
	}
	err = t.im.src.chunks(t.offset+t.functions, t.count*8, 0, func(part []byte, _ uint64) bool {
		for ; len(part) >= 8; part = part[8:] {
			entry := uint64(le.Uint32(part))
			put(entry)
			lastName = ""
			if f := window.bytes(uint64(le.Uint32(part[4:])), 8); f != nil {
				last = symbol{address: uint64(le.Uint32(f))}
				lastName = names[le.Uint32(f[4:])]
			}
		}
		return true
	})
	if err != nil {
		return found, err
	}
	end, err := t.im.src.bytes(t.offset+t.functions+t.count*8, 4)
	if err != nil {
		return found, err
	}
	put(uint64(le.Uint32(end)))
	return found, nil
}

// nameOffsets finds the wanted names in the table's names.
func (t *goTable) nameOffsets() (map[uint32]string, error) {
	offsets := make(map[uint32]string)
	exact := []string{goRead, goWrite, goMemmove, goReader, goStart[t.im.machine]}
	patterns := make([][]byte, 0, len(exact)+len(goEndless))
	for _, name := range exact {
		patterns = append(patterns, []byte("\x00"+name+"\x00"))
	}
	for _, prefix := range append([]string{goGrowing}, goEndless...) {
		patterns = append(patterns, []byte("\x00"+prefix))
	}
	err := t.im.src.chunks(t.offset+t.names, t.namesEnd-t.names, goNameMax, func(part []byte, at uint64) bool {
		for _, pattern := range patterns {
			for from := 0; ; {
				i := bytes.Index(part[from:], pattern)
				if i < 0 {
					break
				}
				from += i + 1
				if end := bytes.IndexByte(part[from:], 0); end >= 0 && end < goNameMax {
					offsets[uint32(at)+uint32(from)] = string(part[from : from+end])
				}
			}
		}
		return len(offsets) < stringsMax
	})
	return offsets, err
}

// goStart is the function at the entry of a program that the Go linker has linked by itself.
var goStart = map[elf.Machine]string{elf.EM_X86_64: "_rt0_amd64_linux", elf.EM_AARCH64: "_rt0_arm64_linux"}

// text returns the address that the table's offsets begin at. What may be it is tried, and taken where all of the wanted functions begin with the check of the
// stack that Go's functions begin with.
func (t *goTable) text(found goFunctions) (uint64, bool, error) {
	var candidates []uint64
	if t.headerText != 0 {
		candidates = append(candidates, t.headerText)
	}
	if s := t.im.section(".text"); s != nil {
		candidates = append(candidates, s.address)
	}
	if start := found.named[goStart[t.im.machine]]; len(start) == 1 && start[0].address < t.im.entry {
		candidates = append(candidates, t.im.entry-start[0].address)
	}
	for _, c := range candidates {
		if t.fits(c, found) {
			return c, true, nil
		}
	}
	// With a C linker the program begins with code of C. Then the module's data say, directly or by a relocation.
	c, err := t.moduleText()
	return c, err == nil && c != 0 && t.fits(c, found), err
}

// fits tells whether the functions begin like Go's at that address of the text.
func (t *goTable) fits(text uint64, found goFunctions) bool {
	seen := 0
	for _, name := range []string{goRead, goWrite} {
		for _, s := range found.named[name] {
			if !checksStack(t.im.machine, t.im.code(text+s.address, 16)) {
				return false
			}
			seen++
		}
	}
	return seen > 0
}

// checksStack knows the instructions by which a function finds out whether the stack suffices: g is in R14 and X28, its limit at 16.
func checksStack(machine elf.Machine, code []byte) bool {
	if machine == elf.EM_AARCH64 {
		return bytes.HasPrefix(code, []byte{0x90, 0x0b, 0x40, 0xf9})
	}
	switch {
	case bytes.HasPrefix(code, []byte{0x4c, 0x8d, 0x64, 0x24}) && len(code) > 5:
		code = code[5:]
	case bytes.HasPrefix(code, []byte{0x4c, 0x8d, 0xa4, 0x24}) && len(code) > 8:
		code = code[8:]
	default:
		return bytes.HasPrefix(code, []byte{0x49, 0x3b, 0x66, 0x10})
	}
	return bytes.HasPrefix(code, []byte{0x4d, 0x3b, 0x66, 0x10})
}

// moduleText finds the module's data by their first word, the address of the table, and returns their word for the beginning of the text; 0 for not found.
func (t *goTable) moduleText() (uint64, error) {
	for _, name := range []string{".go.module", ".data.rel.ro", ".noptrdata", ".data"} {
		s := t.im.section(name)
		if s == nil {
			continue
		}
		text := uint64(0)
		err := t.im.src.chunks(s.offset, s.size&^7, (textWord+1)*8, func(part []byte, _ uint64) bool {
			for ; len(part) >= (textWord+1)*8 && text == 0; part = part[8:] {
				if le.Uint64(part) == t.address {
					text = le.Uint64(part[textWord*8:])
				}
			}
			return text == 0
		})
		if err != nil || text != 0 {
			return text, err
		}
	}
	module, err := t.im.relocation(func(_, addend uint64) bool { return addend == t.address })
	if err != nil || module == nil {
		return 0, err
	}
	text, err := t.im.relocation(func(at, _ uint64) bool { return at == module[0]+textWord*8 })
	if err != nil || text == nil {
		return 0, err
	}
	return text[1], nil
}

// relocation returns place and addend of the first relocation that fits, or nil.
func (im *image) relocation(fits func(at, addend uint64) bool) (found []uint64, err error) {
	for _, s := range im.sections {
		if s.kind != elf.SHT_RELA || s.flags&elf.SHF_ALLOC == 0 || found != nil {
			continue
		}
		size := min(s.size/24, goRelocationMax) * 24
		err = im.src.chunks(s.offset, size, 0, func(part []byte, _ uint64) bool {
			for ; len(part) >= 24 && found == nil; part = part[24:] {
				if at, addend := le.Uint64(part), le.Uint64(part[16:]); fits(at, addend) {
					found = []uint64{at, addend}
				}
			}
			return found == nil
		})
		if err != nil {
			return nil, err
		}
	}
	return found, nil
}

// goVersionText is what a version of Go looks like; development versions have more behind it.
var goVersionText = regexp.MustCompile(`^(?:go1\.\d{1,3}|devel )`)

// goVersion is what the build information says, "" where it cannot be read.
func (im *image) goVersion() string {
	s := im.section(".go.buildinfo")
	if s == nil || s.size < 34 {
		return ""
	}
	p, err := im.src.bytes(s.offset, int(min(s.size, 34+goVersionMax)))
	if err != nil || !bytes.HasPrefix(p, []byte("\xff Go buildinf:")) || p[15]&2 == 0 {
		return ""
	}
	n, used := binary.Uvarint(p[32:])
	if used <= 0 || n > uint64(len(p)-32-used) {
		return ""
	}
	version := string(p[32+used : 32+used+int(n)])
	if !goVersionText.MatchString(version) || strings.ContainsFunc(version, func(r rune) bool { return r < ' ' || r > '~' }) {
		return ""
	}
	return version
}

// window reads short pieces at rising offsets of a range without a call for each.
type window struct {
	src          *source
	offset, size uint64
	at           uint64
	held         []byte
}

// bytes returns n bytes, nil where there are none.
func (w *window) bytes(at uint64, n uint64) []byte {
	if at > w.size || n > w.size-at {
		return nil
	}
	if at < w.at || at+n > w.at+uint64(len(w.held)) {
		p, err := w.src.bytes(w.offset+at, int(min(chunkBytes, w.size-at)))
		if err != nil {
			return nil
		}
		w.at, w.held = at, p
	}
	return w.held[at-w.at : at-w.at+n]
}

// addGoFunctions finds the places of what was found, now at addresses.
func (im *image) addGoFunctions(file *File, found goFunctions) {
	for _, f := range []struct {
		name string
		role Role
	}{{goRead, Read}, {goWrite, Write}} {
		for _, sym := range found.named[f.name] {
			offset, ok := im.place(sym.address, 1, elf.PF_X)
			if !ok {
				continue
			}
			function := Function{Name: f.name, Role: f.role, Address: sym.address, Offset: offset, Size: sym.size}
			if f.role == Read {
				function.Sites = im.goCopies(sym, found)
			} else {
				function.Sites = im.goEntry(sym, found)
			}
			if len(function.Sites) == 0 {
				file.Reason = fmt.Sprintf("%s has another form than is known", f.name)
				continue
			}
			file.Functions = append(file.Functions, function)
		}
	}
}
