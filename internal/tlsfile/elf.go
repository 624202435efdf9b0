package tlsfile

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"
)

// Limits of an ELF file's tables. Executables have some forty sections and fifteen segments; -ffunction-sections in a partial link has thousands.
const (
	sectionsMax    = 8192
	segmentsMax    = 128
	noteBytesMax   = 4096
	nameBytesMax   = 64       // of a section
	dynamicMax     = 4096     // entries
	neededMax      = 256      // libraries that are named
	sonameBytesMax = 128      // of a library's name
	buildIDMax     = 64       // bytes: SHA-1 has 20
	stringsMax     = 4096     // places at which the wanted names occur in a string table
	rodataMax      = 64 << 20 // bytes that are looked through for words
)

const (
	headerSize  = 64
	sectionSize = 64
	segmentSize = 56
	symbolSize  = 24
)

var le = binary.LittleEndian

// image is an ELF file: 64 bits, little endian, x86-64 or arm64, an executable or a shared object.
type image struct {
	src      *source
	machine  elf.Machine
	kind     elf.Type
	entry    uint64
	segments []segment
	sections []section
}

type segment struct {
	kind                             elf.ProgType
	flags                            elf.ProgFlag
	offset, address, fileSize, bytes uint64
}

type section struct {
	name                                string
	kind                                elf.SectionType
	flags                               elf.SectionFlag
	address, offset, size, link, stride uint64
}

// readImage returns nil for what is no such file.
func readImage(src *source) (*image, error) {
	if src.size < headerSize {
		return nil, nil
	}
	h, err := src.bytes(0, headerSize)
	if err != nil {
		return nil, err
	}
	if string(h[:4]) != elf.ELFMAG || h[4] != byte(elf.ELFCLASS64) || h[5] != byte(elf.ELFDATA2LSB) {
		return nil, nil
	}
	im := &image{src: src, kind: elf.Type(le.Uint16(h[16:])), machine: elf.Machine(le.Uint16(h[18:])), entry: le.Uint64(h[24:])}
	if im.machine != elf.EM_X86_64 && im.machine != elf.EM_AARCH64 || im.kind != elf.ET_EXEC && im.kind != elf.ET_DYN {
		return nil, nil
	}
	if err := im.readSegments(le.Uint64(h[32:]), le.Uint16(h[54:]), le.Uint16(h[56:])); err != nil {
		return nil, err
	}
	return im, im.readSections(le.Uint64(h[40:]), le.Uint16(h[58:]), int(le.Uint16(h[60:])), int(le.Uint16(h[62:])))
}

func (im *image) readSegments(offset uint64, stride, count uint16) error {
	if stride != segmentSize || count > segmentsMax {
		return fmt.Errorf("%d segments of %d bytes: %w", count, stride, ErrLimit)
	}
	table, err := im.src.bytes(offset, int(count)*segmentSize)
	if err != nil {
		return fmt.Errorf("segments: %w", err)
	}
	for ; len(table) > 0; table = table[segmentSize:] {
		im.segments = append(im.segments, segment{kind: elf.ProgType(le.Uint32(table)), flags: elf.ProgFlag(le.Uint32(table[4:])),
			offset: le.Uint64(table[8:]), address: le.Uint64(table[16:]), fileSize: le.Uint64(table[32:]), bytes: le.Uint64(table[40:])})
	}
	return nil
}

// readSections leaves the list empty where the file has none, as after sstrip.
func (im *image) readSections(offset uint64, stride uint16, count, names int) error {
	if offset == 0 || count == 0 {
		return nil
	}
	if stride != sectionSize || count > sectionsMax {
		return fmt.Errorf("%d sections of %d bytes: %w", count, stride, ErrLimit)
	}
	table, err := im.src.bytes(offset, count*sectionSize)
	if err != nil {
		return fmt.Errorf("sections: %w", err)
	}
	nameOffsets := make([]uint32, 0, count)
	for ; len(table) > 0; table = table[sectionSize:] {
		nameOffsets = append(nameOffsets, le.Uint32(table))
		im.sections = append(im.sections, section{kind: elf.SectionType(le.Uint32(table[4:])), flags: elf.SectionFlag(le.Uint64(table[8:])),
			address: le.Uint64(table[16:]), offset: le.Uint64(table[24:]), size: le.Uint64(table[32:]),
			link: uint64(le.Uint32(table[40:])), stride: le.Uint64(table[56:])})
	}
	if names >= len(im.sections) {
		return nil
	}
	at := im.sections[names]
	for i := range im.sections {
		if o := uint64(nameOffsets[i]); o < at.size {
			im.sections[i].name = im.src.text(at.offset+o, at.offset+at.size, nameBytesMax)
		}
	}
	return nil
}

// section returns the first of a name that has bytes in the file, or nil.
func (im *image) section(name string) *section {
	for i := range im.sections {
		if s := &im.sections[i]; s.name == name && s.kind != elf.SHT_NOBITS {
			return s
		}
	}
	return nil
}

// place returns the offset in the file of n bytes at a virtual address, in a segment with all of the flags.
func (im *image) place(address, n uint64, flags elf.ProgFlag) (uint64, bool) {
	for _, s := range im.segments {
		if s.kind == elf.PT_LOAD && s.flags&flags == flags && address >= s.address && address-s.address <= s.fileSize && n <= s.fileSize-(address-s.address) {
			offset := s.offset + (address - s.address)
			return offset, offset >= s.offset // no overflow
		}
	}
	return 0, false
}

// code returns up to limit executable bytes from a virtual address on.
func (im *image) code(address uint64, limit int) []byte {
	for _, s := range im.segments {
		if s.kind != elf.PT_LOAD || s.flags&elf.PF_X == 0 || address < s.address || address-s.address >= s.fileSize {
			continue
		}
		n := min(uint64(limit), s.fileSize-(address-s.address))
		p, err := im.src.bytes(s.offset+(address-s.address), int(n))
		if err != nil {
			return nil
		}
		return p
	}
	return nil
}

// buildID returns the GNU note's, "" for none.
func (im *image) buildID() string {
	for _, s := range im.segments {
		if s.kind != elf.PT_NOTE || s.fileSize == 0 || s.fileSize > noteBytesMax {
			continue
		}
		notes, err := im.src.bytes(s.offset, int(s.fileSize))
		if err != nil {
			return ""
		}
		if id := gnuBuildID(notes); id != "" {
			return id
		}
	}
	return ""
}

// gnuBuildID finds NT_GNU_BUILD_ID (3) in a note segment.
func gnuBuildID(notes []byte) string {
	for len(notes) >= 12 {
		name, desc, kind := le.Uint32(notes), le.Uint32(notes[4:]), le.Uint32(notes[8:])
		notes = notes[12:]
		nameEnd, descEnd := (uint64(name)+3)&^3, (uint64(desc)+3)&^3
		if nameEnd+descEnd > uint64(len(notes)) {
			return ""
		}
		if kind == 3 && bytes.Equal(notes[:name], []byte("GNU\x00")) && desc <= buildIDMax {
			return hex.EncodeToString(notes[nameEnd : nameEnd+uint64(desc)])
		}
		notes = notes[nameEnd+descEnd:]
	}
	return ""
}

// dynamic returns a library's own name and the names of those it needs.
func (im *image) dynamic() (soname string, needed []string) {
	var table segment
	for _, s := range im.segments {
		if s.kind == elf.PT_DYNAMIC {
			table = s
		}
	}
	entries := int(min(table.fileSize/16, dynamicMax))
	p, err := im.src.bytes(table.offset, entries*16)
	if err != nil {
		return "", nil
	}
	var names, size, own uint64
	var wanted []uint64
	for ; len(p) > 0; p = p[16:] {
		switch value := le.Uint64(p[8:]); elf.DynTag(le.Uint64(p)) {
		case elf.DT_STRTAB:
			names = value
		case elf.DT_STRSZ:
			size = value
		case elf.DT_SONAME:
			own = value
		case elf.DT_NEEDED:
			if len(wanted) < neededMax {
				wanted = append(wanted, value)
			}
		}
	}
	offset, ok := im.place(names, size, elf.PF_R)
	if !ok {
		return "", nil
	}
	name := func(at uint64) string {
		if at == 0 || at >= size {
			return ""
		}
		return im.src.text(offset+at, offset+size, sonameBytesMax)
	}
	for _, at := range wanted {
		needed = append(needed, name(at))
	}
	return name(own), needed
}

// symbol is a function of a symbol table.
type symbol struct{ address, size uint64 }

// symbols returns those of the wanted names that are defined as functions, from the table for dynamic linking and from the full one. Instead of reading every
// symbol's name, the names are looked for in the string table, and then the places in the symbols: both are read once from front to end.
func (im *image) symbols(wanted []string) (map[string]symbol, error) {
	found := make(map[string]symbol)
	for _, kind := range []elf.SectionType{elf.SHT_DYNSYM, elf.SHT_SYMTAB} {
		for _, s := range im.sections {
			if s.kind != kind || s.stride != symbolSize || s.link >= uint64(len(im.sections)) {
				continue
			}
			names, err := im.nameOffsets(im.sections[s.link], wanted)
			if err != nil {
				return found, err
			}
			if len(names) == 0 {
				continue
			}
			if err := im.definitions(s, names, found); err != nil {
				return found, err
			}
		}
	}
	return found, nil
}

// anchors are parts of the wanted names: each name has one of them, so that a string table is searched for these alone.
var anchors = [][]byte{[]byte("SSL_"), []byte("tls_")}

// nameOffsets finds where wanted names end a string: a linker lets "SSL_read" share the end of "BIO_SSL_read".
func (im *image) nameOffsets(table section, wanted []string) (map[uint32]string, error) {
	offsets := make(map[uint32]string)
	err := im.src.chunks(table.offset, table.size, nameBytesMax, func(part []byte, at uint64) bool {
		for _, anchor := range anchors {
			for from := 0; ; {
				i := bytes.Index(part[from:], anchor)
				if i < 0 {
					break
				}
				from += i + len(anchor)
				nameAt(part, from-len(anchor), anchor, wanted, func(start int, name string) { offsets[uint32(at)+uint32(start)] = name })
			}
		}
		return len(offsets) < stringsMax
	})
	return offsets, err
}

// nameAt reports the wanted names that have an anchor where part has it.
func nameAt(part []byte, at int, anchor []byte, wanted []string, found func(start int, name string)) {
	for _, name := range wanted {
		start := at - strings.Index(name, string(anchor))
		if start > at || start < 0 || len(part)-start <= len(name) {
			continue
		}
		if string(part[start:start+len(name)]) == name && part[start+len(name)] == 0 {
			found(start, name)
		}
	}
}

// definitions adds the symbols whose names are at the offsets. The first of a name stays: versions of one function are the same code or come default first.
func (im *image) definitions(table section, names map[uint32]string, found map[string]symbol) error {
	size := table.size / symbolSize * symbolSize
	return im.src.chunks(table.offset, size, 0, func(part []byte, _ uint64) bool {
		for ; len(part) >= symbolSize; part = part[symbolSize:] {
			name, ok := names[le.Uint32(part)]
			if !ok || elf.ST_TYPE(part[4]) != elf.STT_FUNC || elf.SectionIndex(le.Uint16(part[6:])) == elf.SHN_UNDEF {
				continue
			}
			if _, have := found[name]; !have {
				found[name] = symbol{address: le.Uint64(part[8:]), size: le.Uint64(part[16:])}
			}
		}
		return true
	})
}
