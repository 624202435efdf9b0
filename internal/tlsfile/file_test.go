package tlsfile

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

func examineFile(t testing.TB, path string) File {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		t.Fatal(err)
	}
	found, err := Examine(file, info.Size())
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return found
}

// sharedLibrary returns the path of a library of this machine, as the linker finds it.
func sharedLibrary(t testing.TB, name string) string {
	t.Helper()
	for _, dir := range []string{"/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib"} {
		if found, _ := filepath.Glob(filepath.Join(dir, name)); len(found) > 0 {
			return found[0]
		}
	}
	t.Skip("this machine has no ", name)
	return ""
}

// build runs a compiler.
func build(t testing.TB, env []string, args ...string) {
	t.Helper()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = append(os.Environ(), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%q: %v\n%s", args, err, out)
	}
}

// disassembled are the instructions of a range by their offsets in the file, as objdump has them.
func disassembled(t testing.TB, path string, f Function, site Site) map[uint64]string {
	t.Helper()
	file, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var delta uint64 // from offset to address
	for _, p := range file.Progs {
		if p.Type == elf.PT_LOAD && p.Flags&elf.PF_X != 0 && site.Offset >= p.Off && site.Offset < p.Off+p.Filesz {
			delta = p.Vaddr - p.Off
		}
	}
	from := f.Address // of a function that it hands on to, the place is near the beginning
	if at := site.Offset + delta; at < f.Address || at >= f.Address+f.Size {
		from = at
	}
	tool, start, stop := "objdump", fmt.Sprintf("--start-address=%#x", from), fmt.Sprintf("--stop-address=%#x", site.Offset+delta+16)
	if file.Machine == elf.EM_AARCH64 {
		tool = "llvm-objdump"
		if _, err := exec.LookPath(tool); err != nil {
			tool = "llvm-objdump-14"
		}
	}
	out, err := exec.Command(tool, "-d", "--no-show-raw-insn", start, stop, path).Output()
	if err != nil {
		t.Fatal(tool, err)
	}
	list := make(map[uint64]string)
	for _, m := range regexp.MustCompile(`(?m)^\s*([0-9a-f]+):\s+(.*)$`).FindAllStringSubmatch(string(out), -1) {
		address, err := strconv.ParseUint(m[1], 16, 64)
		if err != nil {
			t.Fatal(err)
		}
		list[address-delta] = m[2]
	}
	return list
}

// emulatedText is what instructions that the kernel emulates look like in objdump.
var emulatedText = regexp.MustCompile(`^(push|nop$|call|jmp|j[a-z]+ |bl?\s|bl?$|b\.|cbn?z|tbn?z|adrp?\s)`)

// checkSites compares the places of a file with another disassembler: each is an instruction's first byte, and what it says it is.
func checkSites(t *testing.T, path string, found File, want ...string) {
	t.Helper()
	var names []string
	for _, f := range found.Functions {
		names = append(names, f.Name)
		if len(f.Sites) == 0 {
			t.Errorf("%s: no place for %s", path, f.Name)
		}
		for _, s := range f.Sites {
			list := disassembled(t, path, f, s)
			text, ok := list[s.Offset]
			switch {
			case !ok:
				t.Errorf("%s: %s: %#x is no instruction's first byte", path, f.Name, s.Offset)
			case s.Emulated != emulatedText.MatchString(text):
				t.Errorf("%s: %s: emulated %v at %q (%q)", path, f.Name, s.Emulated, text, s.Instruction)
			case !s.Emulated:
				t.Errorf("%s: %s: stepped at %q: %s", path, f.Name, text, s.Why)
			}
			t.Logf("%s %s: %s, %d below the entry's stack, return %v", filepath.Base(path), f.Name, text, s.Stack, s.Return)
		}
	}
	if !slices.Equal(names, want) {
		t.Errorf("%s: functions %q, expected %q", path, names, want)
	}
}

var (
	openSSLNames = []string{"SSL_read", "SSL_write", "SSL_read_ex", "SSL_write_ex"}
	goNames      = []string{goRead, goWrite}
)

// The libraries of this machine are recognised, with versions and with places where another disassembler sees an emulated instruction.
func TestInstalledLibraries(t *testing.T) {
	ssl := sharedLibrary(t, "libssl.so.[13]*")
	found := examineFile(t, ssl)
	if want := strings.TrimPrefix(filepath.Base(ssl), "libssl.so."); found.Kind != OpenSSL || found.Version != want || found.BuildID == "" {
		t.Errorf("%s: %+v", ssl, found)
	}
	checkSites(t, ssl, found, openSSLNames...)
	if tls := sharedLibrary(t, "libgnutls.so.30"); tls != "" {
		found := examineFile(t, tls)
		if found.Kind != GnuTLS || found.Version != "30" {
			t.Errorf("%s: %+v", tls, found)
		}
		checkSites(t, tls, found, "gnutls_record_recv", "gnutls_record_send")
	}
}

// Node has OpenSSL in its executable, with the symbols for dynamic linking alone; where it uses the shared library it has nothing.
func TestNode(t *testing.T) {
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip(err)
	}
	found := examineFile(t, node)
	if found.Kind == "" {
		t.Skip("this Node has no TLS of its own")
	}
	if found.Kind != OpenSSL || !strings.HasPrefix(found.Version, "3.") && !strings.HasPrefix(found.Version, "1.1.") {
		t.Errorf("%+v", found)
	}
	checkSites(t, node, found, openSSLNames...)
}

// What is no TLS library is none: programs without TLS, the part of OpenSSL without it, and files that are no programs.
func TestNoTLS(t *testing.T) {
	for _, path := range []string{"/bin/sh", "/etc/passwd", sharedLibrary(t, "libcrypto.so.[13]*"), sharedLibrary(t, "libc.so.6")} {
		if found := examineFile(t, path); found.Kind != "" || found.Reason != "" || len(found.Functions) > 0 {
			t.Errorf("%s: %+v", path, found)
		}
	}
}

const openSSLProgram = `#include <openssl/ssl.h>
#include <stdio.h>
int main(void) { char b[9]; puts(OpenSSL_version(0)); SSL *s = SSL_new(SSL_CTX_new(TLS_method())); size_t n;
return SSL_read(s, b, 9) + SSL_write(s, b, 9) + SSL_read_ex(s, b, 9, &n) + SSL_write_ex(s, b, 9, &n); }
`

// OpenSSL in a program is found by either table of symbols, with its version; without both it is said to be there and left alone.
func TestStaticOpenSSL(t *testing.T) {
	dir := t.TempDir()
	source := filepath.Join(dir, "static.c")
	if err := os.WriteFile(source, []byte(openSSLProgram), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, flags := range map[string][]string{"symbols": nil, "exported": {"-rdynamic", "-s"}, "stripped": {"-s"}, "fixed": {"-no-pie", "-static"}} {
		t.Run(name, func(t *testing.T) {
			program := filepath.Join(dir, name)
			build(t, nil, append(append([]string{"gcc", "-w", "-O2", "-o", program, source}, flags...), "-l:libssl.a", "-l:libcrypto.a", "-ldl", "-lpthread")...)
			found := examineFile(t, program)
			if found.Kind != OpenSSL || !regexp.MustCompile(`^\d\.\d\.\d+`).MatchString(found.Version) {
				t.Errorf("%+v", found)
			}
			if name == "stripped" {
				if len(found.Functions) > 0 || !strings.Contains(found.Reason, "stripped") {
					t.Errorf("%+v", found)
				}
				return
			}
			checkSites(t, program, found, openSSLNames...)
		})
	}
}

const goProgram = `package main

import "crypto/tls"

func main() { c, _ := tls.Dial("tcp", "", nil); c.Read(nil); c.Write(nil) }
`

// Go programs are recognised with and without symbols, at fixed and at any addresses, on both machines, with the version of Go.
func TestGo(t *testing.T) {
	dir := t.TempDir()
	source := filepath.Join(dir, "main.go")
	if err := os.WriteFile(source, []byte(goProgram), 0o600); err != nil {
		t.Fatal(err)
	}
	version, err := exec.Command("go", "env", "GOVERSION").Output()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ env, flags []string }{
		"plain":    {nil, nil},
		"stripped": {nil, []string{"-ldflags=-s -w"}},
		"trimmed":  {nil, []string{"-trimpath"}},
		"pie":      {nil, []string{"-buildmode=pie", "-ldflags=-s -w"}},
		"external": {[]string{"CGO_ENABLED=1"}, []string{"-ldflags=-s -w -linkmode=external"}},
		"arm64":    {[]string{"GOARCH=arm64", "CGO_ENABLED=0"}, []string{"-ldflags=-s -w"}},
	} {
		t.Run(name, func(t *testing.T) {
			if testing.Short() && (name == "trimmed" || name == "pie" || name == "arm64") {
				t.Skip("compiles the whole standard library")
			}
			program := filepath.Join(dir, name)
			build(t, c.env, append(append([]string{"go", "build", "-pgo=off", "-o", program}, c.flags...), source)...)
			found := examineFile(t, program)
			if found.Kind != GoTLS || found.Version != strings.TrimSpace(string(version)) {
				t.Errorf("%+v", found)
			}
			checkSites(t, program, found, goNames...)
		})
	}
}

// A file that needs more than it is given is left with an error that says so, and so is one whose tables point outside of it.
func TestLimits(t *testing.T) {
	data, err := os.ReadFile(sharedLibrary(t, "libssl.so.[13]*"))
	if err != nil {
		t.Fatal(err)
	}
	for name, src := range map[string]*source{
		"bytes": {r: bytes.NewReader(data), size: int64(len(data)), left: 4096, until: time.Now().Add(time.Minute)},
		"time":  {r: bytes.NewReader(data), size: int64(len(data)), left: readBytesMax, until: time.Now().Add(-time.Second)},
	} {
		if _, err := examine(src); !errors.Is(err, ErrLimit) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	many := slices.Clone(data)
	binary.LittleEndian.PutUint16(many[60:], 0xffff)
	if _, err := Examine(bytes.NewReader(many), int64(len(many))); !errors.Is(err, ErrLimit) {
		t.Errorf("65535 sections: %v", err)
	}
	if _, err := Examine(bytes.NewReader(data[:len(data)/2]), int64(len(data)/2)); !errors.Is(err, errOutside) {
		t.Errorf("half of a file: %v", err)
	}
}

// Memory that is used for an examination does not grow with the file.
func BenchmarkExamine(b *testing.B) {
	for _, path := range []string{sharedLibrary(b, "libssl.so.[13]*"), "/usr/bin/node"} {
		b.Run(filepath.Base(path), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				b.SetBytes(examineFile(b, path).BytesRead)
			}
		})
	}
}

// smallELF is a file whose parts a fuzzer can reach: a library with the names that are looked for and a few instructions.
func smallELF(t testing.TB) []byte {
	dir := t.TempDir()
	source := filepath.Join(dir, "small.s")
	text := ".text\n"
	for _, name := range append(openSSLNames, inOpenSSL) {
		text += fmt.Sprintf(".globl %s\n.type %s,%%function\n%s: nop\nnop\n.size %s,.-%s\n", name, name, name, name, name)
	}
	if err := os.WriteFile(source, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	build(t, nil, "gcc", "-nostdlib", "-shared", "-Wl,-z,noseparate-code", "-o", filepath.Join(dir, "small.so"), source)
	data, err := os.ReadFile(filepath.Join(dir, "small.so"))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// Whatever is in a file, examining it ends within the limits, and every place is in the file.
func FuzzExamine(f *testing.F) {
	f.Add(smallELF(f))
	f.Fuzz(func(t *testing.T, data []byte) {
		found, err := Examine(bytes.NewReader(data), int64(len(data)))
		if err == nil && found.Kind == "" && len(found.Functions) > 0 {
			t.Errorf("functions of nothing: %+v", found)
		}
		for _, function := range found.Functions {
			for _, s := range function.Sites {
				if s.Offset >= uint64(len(data)) {
					t.Errorf("%s is outside of the file: %+v", function.Name, s)
				}
			}
		}
	})
}

// goTableImage puts a table of functions into a file of nothing else.
func goTableImage(table []byte) *image {
	return &image{src: &source{r: bytes.NewReader(table), size: int64(len(table)), left: 64 << 20, until: time.Now().Add(time.Minute)}, machine: elf.EM_X86_64,
		sections: []section{{name: ".gopclntab", kind: elf.SHT_PROGBITS, size: uint64(len(table))}},
		segments: []segment{{kind: elf.PT_LOAD, flags: elf.PF_X | elf.PF_R, fileSize: uint64(len(table)), bytes: uint64(len(table))}}}
}

// goTableOf makes a table with the given functions, 64 bytes each.
func goTableOf(names ...string) []byte {
	header := make([]byte, goHeaderBytes)
	le.PutUint32(header, magicGo120)
	header[6], header[7] = 1, 8
	le.PutUint64(header[8:], uint64(len(names)))
	text := []byte{0}
	var offsets []uint32
	for _, n := range names {
		offsets = append(offsets, uint32(len(text)))
		text = append(append(text, n...), 0)
	}
	for len(text)%8 != 0 {
		text = append(text, 0)
	}
	le.PutUint64(header[32:], goHeaderBytes)
	le.PutUint64(header[40:], uint64(goHeaderBytes+len(text)))
	le.PutUint64(header[64:], uint64(goHeaderBytes+len(text)))
	var index, infos []byte
	for i := range names {
		index = le.AppendUint32(le.AppendUint32(index, uint32(i*64)), uint32(len(names)*8+8+len(infos)))
		infos = le.AppendUint32(le.AppendUint32(infos, uint32(i*64)), offsets[i])
	}
	index = le.AppendUint64(index, uint64(len(names)*64))
	return slices.Concat(header, text, index, infos)
}

// A table's functions are found by their names, with where they begin and end, the last one by the table's end.
func TestGoTable(t *testing.T) {
	im := goTableImage(goTableOf("main.main", goRead, "runtime.panicIndex", "runtime.morestack_noctxt", goWrite))
	found, err := im.goTable().find()
	if err != nil {
		t.Fatal(err)
	}
	if r, w := found.named[goRead], found.named[goWrite]; len(r) != 1 || r[0] != (symbol{64, 64}) || len(w) != 1 || w[0] != (symbol{256, 64}) || !found.endless[128] || !found.growing[192] {
		t.Errorf("%+v", found)
	}
}

// Whatever a table of functions holds, reading it ends.
func FuzzGoTable(f *testing.F) {
	f.Add(goTableOf(goRead, goWrite, goMemmove))
	f.Fuzz(func(t *testing.T, data []byte) {
		if table := goTableImage(data).goTable(); table != nil {
			var file File
			if err := table.recognise(&file); err == nil && len(file.Functions) > 0 && file.Kind != GoTLS {
				t.Errorf("%+v", file)
			}
		}
	})
}
