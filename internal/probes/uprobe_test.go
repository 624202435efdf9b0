package probes

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"

	"github.com/perfagent/perfagent/internal/tlsfile"
)

// registerOffsets are the places of registers in struct pt_regs.
var registerOffsets = map[string]map[tlsfile.Location]int16{
	"amd64": {"r12": 24, "rbp": 32, "rbx": 40, "r9": 64, "r8": 72, "rax": 80, "rcx": 88, "rdx": 96, "rsi": 104, "rdi": 112},
	"arm64": {"x0": 0, "x1": 8, "x2": 16, "x3": 24, "x4": 32, "x5": 40},
}

// What the test's programs write, by index.
const (
	seenHits     = iota // calls
	seenLengths         // sum of the lengths they were given
	seenBuffer          // the last buffer
	seenText            // the first eight bytes of the last plaintext
	seenReturns         // calls that came back
	seenPositive        // with a result above 0
	seenResults         // the sum of these
	seenValues
)

// witness counts what passes one place.
type witness struct {
	seen   *ebpf.Map
	probes *Uprobes
}

// values reads what the programs wrote.
func (w *witness) values(t *testing.T) (v [seenValues]uint64) {
	t.Helper()
	for i := range v {
		if err := w.seen.Lookup(uint32(i), &v[i]); err != nil {
			t.Fatal(err)
		}
	}
	return v
}

// slot leaves the address of a value in R0.
func slot(m *ebpf.Map, index int32) asm.Instructions {
	return asm.Instructions{
		asm.StoreImm(asm.RFP, -4, int64(index), asm.Word),
		asm.Mov.Reg(asm.R2, asm.RFP), asm.Add.Imm(asm.R2, -4),
		asm.LoadMapPtr(asm.R1, m.FD()),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "end"),
	}
}

// program loads one of the witness's programs.
func (w *witness) program(t *testing.T, name, method string, body asm.Instructions) *ebpf.Program {
	t.Helper()
	spec := &ebpf.ProgramSpec{Name: name, Type: ebpf.Kprobe, License: "GPL", Instructions: append(body, asm.Mov.Imm(asm.R0, 0).WithSymbol("end"), asm.Return())}
	prepareUprobe(spec, method)
	p, err := ebpf.NewProgram(spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// newWitness attaches to a place of a file.
func newWitness(t *testing.T, file *os.File, site tlsfile.Site, method string) *witness {
	t.Helper()
	w := &witness{}
	var err error
	if w.seen, err = ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: seenValues}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.seen.Close() })
	registers := registerOffsets[runtime.GOARCH]
	buffer, ok1 := registers[site.Buffer]
	length, ok2 := registers[site.Length]
	text := buffer
	if site.Source != "" {
		text = registers[site.Source]
	}
	if !ok1 || !ok2 {
		t.Fatalf("a register of %+v has no place", site)
	}
	code := asm.Instructions{asm.Mov.Reg(asm.R6, asm.R1)}
	code = append(code, slot(w.seen, seenHits)...)
	code = append(code, asm.Mov.Imm(asm.R1, 1), asm.StoreXAdd(asm.R0, asm.R1, asm.DWord))
	code = append(code, slot(w.seen, seenLengths)...)
	code = append(code, asm.LoadMem(asm.R1, asm.R6, length, asm.DWord), asm.StoreXAdd(asm.R0, asm.R1, asm.DWord))
	code = append(code, slot(w.seen, seenBuffer)...)
	code = append(code, asm.LoadMem(asm.R1, asm.R6, buffer, asm.DWord), asm.StoreMem(asm.R0, 0, asm.R1, asm.DWord))
	code = append(code, slot(w.seen, seenText)...)
	code = append(code, asm.Mov.Reg(asm.R1, asm.R0), asm.Mov.Imm(asm.R2, 8), asm.LoadMem(asm.R3, asm.R6, text, asm.DWord), asm.FnProbeReadUser.Call())
	programs := UprobePrograms{Entry: w.program(t, "entry", method, code)}
	places := []UprobePlace{{Offset: site.Offset}}
	if site.Return {
		result := registers["rax"]
		if runtime.GOARCH == "arm64" {
			result = registers["x0"]
		}
		code = asm.Instructions{asm.LoadMem(asm.R6, asm.R1, result, asm.DWord), asm.LSh.Imm(asm.R6, 32), asm.ArSh.Imm(asm.R6, 32)}
		code = append(code, slot(w.seen, seenReturns)...)
		code = append(code, asm.Mov.Imm(asm.R1, 1), asm.StoreXAdd(asm.R0, asm.R1, asm.DWord), asm.JSLE.Imm(asm.R6, 0, "end"))
		code = append(code, slot(w.seen, seenPositive)...)
		code = append(code, asm.Mov.Imm(asm.R1, 1), asm.StoreXAdd(asm.R0, asm.R1, asm.DWord))
		code = append(code, slot(w.seen, seenResults)...)
		code = append(code, asm.StoreXAdd(asm.R0, asm.R6, asm.DWord))
		programs.Return = w.program(t, "back", method, code)
		places = append(places, UprobePlace{Offset: site.Offset, Return: true})
	}
	w.probes, err = AttachUprobes(file, programs, method, places, func() bool { return true })
	if errors.Is(err, ebpf.ErrNotSupported) || errors.Is(err, unix.EOPNOTSUPP) {
		t.Skip("this kernel has no uprobes: ", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.probes.Close() })
	return w
}

// keyPair writes a key and a certificate for it, and returns their paths.
func keyPair(t testing.TB) (string, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, block := range map[string]*pem.Block{"key": {Type: "PRIVATE KEY", Bytes: secret}, "certificate": {Type: "CERTIFICATE", Bytes: certificate}} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "key"), filepath.Join(dir, "certificate")
}

// command runs a build step.
func command(t testing.TB, args ...string) {
	t.Helper()
	if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%q: %v\n%s", args, err, out)
	}
}

// pair is a started test program, which waits for a line before it does what is counted.
type pair struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func startTLSPair(t testing.TB, env []string, args ...string) *pair {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute) // on a busy machine it takes seconds
	t.Cleanup(cancel)
	p := &pair{cmd: exec.CommandContext(ctx, args[0], args[1:]...)}
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stderr = os.Stderr
	var err error
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.out = bufio.NewReader(out)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.cmd.Process.Kill(); p.cmd.Wait() })
	if line, err := p.out.ReadString('\n'); line != "ready\n" {
		t.Fatalf("%q: %q, %v", args, line, err)
	}
	return p
}

// finish lets it go on, and returns what it says at the end.
func (p *pair) finish(t testing.TB, values ...any) {
	t.Helper()
	if _, err := io.WriteString(p.in, "go\n"); err != nil {
		t.Fatal(err)
	}
	line, err := p.out.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Sscan(line, values...); err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	if err := p.cmd.Wait(); err != nil {
		t.Fatal(err)
	}
}

// tlsSites opens and examines a file, and returns the only place for a function.
func tlsSites(t testing.TB, path string, kind tlsfile.Kind) (*os.File, map[string]tlsfile.Site) {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	info, err := file.Stat()
	if err != nil {
		t.Fatal(err)
	}
	found, err := tlsfile.Examine(file, info.Size())
	if err != nil || found.Kind != kind {
		t.Fatalf("%s is %q (%s), %v: expected %s", path, found.Kind, found.Reason, err, kind)
	}
	sites := make(map[string]tlsfile.Site)
	for _, f := range found.Functions {
		if len(f.Sites) == 1 {
			sites[f.Name] = f.Sites[0]
		}
	}
	return file, sites
}

// openSSLPair builds the test program with OpenSSL and returns its command's environment and path, and the file with the library: a copy of the shared one, which
// no other process of this machine has mapped, or the program itself.
func openSSLPair(t testing.TB, form string) (env []string, program, library string) {
	t.Helper()
	dir := t.TempDir()
	program = filepath.Join(dir, "tlspair")
	args := []string{"gcc", "-O2", "-o", program, "testdata/tlspair.c"}
	if form != "shared" {
		command(t, append(args, "-l:libssl.a", "-l:libcrypto.a", "-ldl", "-lpthread")...)
		if form == "exported" { // no full table of symbols, but the one for dynamic linking, as Node has
			command(t, append(args, "-l:libssl.a", "-l:libcrypto.a", "-ldl", "-lpthread", "-rdynamic", "-s")...)
		}
		return nil, program, program
	}
	command(t, append(args, "-lssl", "-lcrypto")...)
	out, err := exec.Command("ldd", program).Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		if fields := strings.Fields(line); len(fields) > 2 && strings.HasPrefix(fields[0], "libssl.so") {
			library = filepath.Join(dir, fields[0])
			command(t, "cp", "-L", fields[2], library)
		}
	}
	return []string{"LD_LIBRARY_PATH=" + dir}, program, library
}

// The places that are found in OpenSSL, shared and static, see every call of reading and writing exactly once, with its buffer, its length, its text and its result,
// whichever of both forms of the functions is called; at instructions that the kernel emulates, and whichever way they are attached.
func TestUprobesOpenSSL(t *testing.T) {
	requireRoot(t)
	key, certificate := keyPair(t)
	for _, form := range []string{"shared", "static", "exported"} {
		env, program, library := openSSLPair(t, form)
		file, sites := tlsSites(t, library, tlsfile.OpenSSL)
		for _, method := range []string{UprobeMethod(), UprobeEach} {
			for _, ex := range []string{"", "_ex"} {
				t.Run(form+" "+method+ex, func(t *testing.T) {
					read, write := sites["SSL_read"+ex], sites["SSL_write"+ex]
					if !read.Emulated || !write.Emulated || !read.Return || !write.Return {
						t.Errorf("expected places that the kernel emulates and that returns can be seen from: %+v %+v", read, write)
					}
					checkOpenSSL(t, file, read, write, method, startTLSPair(t, env, program, key, certificate, "997", strings.TrimPrefix(ex, "_")))
				})
			}
		}
	}
}

func checkOpenSSL(t *testing.T, file *os.File, read, write tlsfile.Site, method string, p *pair) {
	t.Helper()
	reading, writing := newWitness(t, file, read, method), newWitness(t, file, write, method)
	var messages, reads, written, out, in uint64
	p.finish(t, &messages, &reads, &written, &out, &in)
	text := uint64('a'+(messages-1)%26) * 0x0101010101010101
	w, r := writing.values(t), reading.values(t)
	results := written
	if write.Count != "" {
		results = messages // 1 for each, the number being written elsewhere
	}
	if want := [seenValues]uint64{messages, written, out, text, messages, messages, results}; w != want {
		t.Errorf("writes: %d, expected %d", w, want)
	}
	positive := reads - messages // each message is followed by a call that finds nothing
	if read.Count != "" {
		results = positive
	}
	if want := [seenValues]uint64{reads, reads * 1000, in, r[seenText], reads, positive, results}; r != want {
		t.Errorf("reads: %d, expected %d", r, want)
	}
}

// The places that are found in Go programs see every Write and every Read that has a result exactly once, with buffer, length and text, although stacks move: in
// programs with and without symbols, at fixed and at any addresses.
func TestUprobesGo(t *testing.T) {
	requireRoot(t)
	key, certificate := keyPair(t)
	for name, flags := range map[string][]string{"plain": nil, "stripped": {"-ldflags=-s -w"}, "trimmed": {"-trimpath"}, "pie": {"-buildmode=pie", "-ldflags=-s -w"},
		"cgo": {"-ldflags=-s -w -linkmode=external"}} {
		t.Run(name, func(t *testing.T) {
			if testing.Short() && (name == "trimmed" || name == "pie") {
				t.Skip("compiles the whole standard library")
			}
			program := filepath.Join(t.TempDir(), "gotls")
			command(t, append(append([]string{"go", "build", "-pgo=off", "-o", program}, flags...), "./testdata/gotls")...)
			file, sites := tlsSites(t, program, tlsfile.GoTLS)
			read, write := sites["crypto/tls.(*Conn).Read"], sites["crypto/tls.(*Conn).Write"]
			if !read.Emulated || !write.Emulated {
				t.Errorf("expected places that the kernel emulates: %+v %+v", read, write)
			}
			p := startTLSPair(t, nil, program, key, certificate, "997")
			reading, writing := newWitness(t, file, read, UprobeMethod()), newWitness(t, file, write, UprobeMethod())
			var messages, reads, written, out, in uint64
			p.finish(t, &messages, &reads, &written, &out, &in)
			text := uint64('a'+(messages-1)%26) * 0x0101010101010101
			if v, want := writing.values(t), [seenValues]uint64{messages, written, out, text}; v != want {
				t.Errorf("writes: %d, expected %d", v, want)
			}
			if v, want := reading.values(t), [seenValues]uint64{reads, written, in, text}; v != want {
				t.Errorf("reads: %d, expected %d", v, want)
			}
		})
	}
}

// A file that was changed while it was attached to is let go, and one that is replaced under a running program stays what that program has: it goes on, its calls are
// seen to the end, and closing leaves no descriptor behind.
func TestUprobesReplacedFile(t *testing.T) {
	requireRoot(t)
	key, certificate := keyPair(t)
	env, program, library := openSSLPair(t, "shared")
	before := descriptors(t)
	file, sites := tlsSites(t, library, tlsfile.OpenSSL)
	p := startTLSPair(t, env, program, key, certificate, "97")
	write := newWitness(t, file, sites["SSL_write"], UprobeMethod())
	command(t, "cp", library, library+".new")
	if err := os.Rename(library+".new", library); err != nil {
		t.Fatal(err)
	}
	none := UprobePrograms{Entry: write.program(t, "none", UprobeMethod(), nil)}
	_, err := AttachUprobes(file, none, UprobeMethod(), []UprobePlace{{Offset: sites["SSL_read"].Offset}}, func() bool { return false })
	if !errors.Is(err, ErrFileChanged) {
		t.Errorf("attached to a changed file: %v", err)
	}
	var messages, reads, written, out, in uint64
	p.finish(t, &messages, &reads, &written, &out, &in)
	if v := write.values(t); v[seenHits] != messages || v[seenReturns] != messages {
		t.Errorf("%d calls and %d returns seen, expected %d", v[seenHits], v[seenReturns], messages)
	}
	none.Entry.Close()
	if err := errors.Join(write.probes.Close(), write.seen.Close(), file.Close()); err != nil {
		t.Error(err)
	}
	if after := descriptors(t); after > before+2 { // the two programs of the witness, closed at the end of the test
		t.Errorf("%d descriptors, before %d", after, before)
	}
}

// Measures a call of SSL_read that returns at once: without a probe, with one at the chosen place, there and at its return, and at the function's first instruction.
func BenchmarkUprobe(b *testing.B) {
	if os.Geteuid() != 0 {
		b.Skip("attaching needs root")
	}
	key, certificate := keyPair(b)
	env, program, library := openSSLPair(b, "shared")
	file, sites := tlsSites(b, library, tlsfile.OpenSSL)
	info, err := file.Stat()
	if err != nil {
		b.Fatal(err)
	}
	found, err := tlsfile.Examine(file, info.Size())
	if err != nil {
		b.Fatal(err)
	}
	site := sites["SSL_read"]
	entry := found.Functions[0].Offset
	for _, c := range []struct {
		name   string
		places []UprobePlace
	}{{"none", nil}, {"chosen", []UprobePlace{{Offset: site.Offset}}},
		{"chosen+return", []UprobePlace{{Offset: site.Offset}, {Offset: site.Offset, Return: true}}},
		{"entry", []UprobePlace{{Offset: entry}}}, {"entry+return", []UprobePlace{{Offset: entry}, {Offset: entry, Return: true}}}} {
		b.Run(c.name, func(b *testing.B) {
			spec := &ebpf.ProgramSpec{Type: ebpf.Kprobe, License: "GPL", Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()}}
			prepareUprobe(spec, UprobeMethod())
			empty, err := ebpf.NewProgram(spec)
			if err != nil {
				b.Fatal(err)
			}
			defer empty.Close()
			p := startTLSPair(b, env, program, key, certificate, fmt.Sprint(max(b.N, 1000)), "time")
			probes, err := AttachUprobes(file, UprobePrograms{Entry: empty, Return: empty}, UprobeMethod(), c.places, func() bool { return true })
			if err != nil {
				b.Fatal(err)
			}
			defer probes.Close()
			var ns float64
			p.finish(b, &ns)
			b.ReportMetric(ns, "ns/call")
		})
	}
}
