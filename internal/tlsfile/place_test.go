package tlsfile

import (
	"bytes"
	"debug/elf"
	"encoding/hex"
	"strings"
	"testing"
	"time"
)

// codeImage is a file of nothing but code, at address 0.
func codeImage(machine elf.Machine, code []byte) *image {
	n := uint64(len(code))
	return &image{src: &source{r: bytes.NewReader(code), size: int64(n), left: 64 << 20, until: time.Now().Add(time.Minute)}, machine: machine,
		segments: []segment{{kind: elf.PT_LOAD, flags: elf.PF_X | elf.PF_R, fileSize: n, bytes: n}}}
}

var plainRead = signature{name: "read", role: Read, session: 0, buffer: 1, length: 2, count: -1}

// A place is taken only where each call passes it once with its arguments; each case is a function made of instructions for the purpose.
func TestPlace(t *testing.T) {
	for name, c := range map[string]struct {
		code   string // hexadecimal, a space between instructions
		at     int    // of the place
		want   bool   // emulated
		ret    bool
		stack  int
		buffer Location
	}{
		"push at the entry":                {"55 4889e5 5d c3", 0, true, true, 0, "rsi"},
		"behind endbr64":                   {"f30f1efa 55 5d c3", 4, true, true, 0, "rsi"},
		"behind what makes room":           {"4883ec18 85d2 7800 4883c418 c3", 0, false, true, 0, "rsi"}, // for reading: its return could not be seen at js
		"two bytes of nop are stepped":     {"6690 31c0 c3", 0, false, true, 0, "rsi"},
		"push with another prefix":         {"4855 5d c3", 0, false, true, 0, "rsi"},
		"buffer moved to a saved register": {"4889f3 31f6 90 c3", 5, true, true, 0, "rbx"},
		"buffer lost before":               {"31f6 90 c3", 0, false, true, 0, "rsi"},
		"call in front of an end":          {"85d2 e800000000 7501 c3 55 5d c3", 2, true, true, 0, "rsi"},
		"length by halves":                 {"31f6 89d0 90 c3", 0, false, true, 0, "rsi"},
		"copy of the length":               {"89d0 31d2 90 c3", 4, true, true, 0, "rsi"},
	} {
		t.Run(name, func(t *testing.T) {
			code, err := hex.DecodeString(strings.ReplaceAll(c.code, " ", ""))
			if err != nil {
				t.Fatal(err)
			}
			sites := codeImage(elf.EM_X86_64, code).sites(plainRead, symbol{size: uint64(len(code))})
			if len(sites) != 1 || sites[0].Offset != uint64(c.at) || sites[0].Emulated != c.want || sites[0].Return != c.ret || sites[0].Stack != c.stack || sites[0].Buffer != c.buffer {
				t.Errorf("%+v, expected %+v", sites, c)
			}
			if len(sites) == 1 && !c.want && !sites[0].Emulated && sites[0].Why == "" {
				t.Error("no reason")
			}
		})
	}
}

// Where each call passes every instruction again and again, there is no place.
func TestNoPlace(t *testing.T) {
	code := []byte{0x90, 0xff, 0xca, 0x75, 0xfb, 0xc3} // nop; dec %edx; jne to the entry; ret
	if sites := codeImage(elf.EM_X86_64, code).sites(plainRead, symbol{size: 6}); len(sites) != 0 {
		t.Errorf("%+v", sites)
	}
}

// Instructions of AVX and the like, which the decoder does not know, have the length that another disassembler gives them.
func TestLengthVEX(t *testing.T) {
	for code, want := range map[string]int{
		"c5f877 90 90 90":             3,      // vzeroupper
		"c5fe6f06 90 90":              4,      // vmovdqu (%rsi),%ymm0
		"c5fe6f8680000000 90":         8,      // vmovdqu 0x80(%rsi),%ymm0
		"c4e37d38 c101 90":            6,      // vinserti128 $1,%xmm1,%ymm0,%ymm0
		"c4e2fbf7c6 90 90":            5,      // shrx %rax,%rsi,%rax
		"62f1fe486f4601 90":           7,      // vmovdqu64 0x40(%rsi),%zmm0
		"c5f973d808 90 90":            5,      // vpsrldq $8,%xmm0,%xmm0
		"c5fd6f0d10000000 90":         8,      // vmovdqa 0x10(%rip),%ymm1
		"c5fe6f842480000000 90":       9,      // vmovdqu 0x80(%rsp),%ymm0
		"4889f3 90 90 90":             0,      // mov
		"c4e37d0d0425 00000000 01 90": 10 + 1, // vblendpd $1,0x0,%ymm0,%ymm0
	} {
		b, err := hex.DecodeString(strings.ReplaceAll(code, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		if got := lengthVEX(b); got != want {
			t.Errorf("%s: %d, expected %d", code, got, want)
		}
	}
}

// Whatever the bytes of a function are, looking for a place ends, and a place that is said to be emulated is in the function and begins with such an instruction, which is
// on no way from itself and past which no way leads that does anything.
func FuzzPlace(f *testing.F) {
	for _, code := range []string{"554889e55dc3", "4883ec1885d278004883c418c3", "90ffca75fbc3", "f30f1efa41555dc3"} {
		b, err := hex.DecodeString(code)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, false)
	}
	f.Add([]byte{0x90, 0x0b, 0x40, 0xf9, 0xe0, 0x03, 0x00, 0x91, 0x01, 0x00, 0x00, 0xb0, 0xc0, 0x03, 0x5f, 0xd6}, true)
	f.Fuzz(func(t *testing.T, code []byte, arm bool) {
		machine := elf.EM_X86_64
		if arm {
			machine = elf.EM_AARCH64
		}
		im := codeImage(machine, code)
		sym := symbol{size: uint64(len(code))}
		for _, s := range im.sites(plainRead, sym) {
			if s.Offset >= uint64(len(code)) {
				t.Fatalf("outside: %+v", s)
			}
			if !arm && s.Emulated && !emulatedStart(code[s.Offset:]) {
				t.Errorf("not emulated: %+v", s)
			}
		}
		im.goEntry(sym, goFunctions{})
		im.goCopies(sym, goFunctions{named: map[string][]symbol{goMemmove: {{}}}})
	})
}

// emulatedStart tells whether code begins with an instruction that the kernel emulates, of whichever length.
func emulatedStart(code []byte) bool {
	for _, n := range []int{1, 2, 5, 6} {
		if n <= len(code) && emulatedX86(code[:n]) {
			return true
		}
	}
	return false
}
