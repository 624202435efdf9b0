package tlsfile

import "golang.org/x/arch/arm64/arm64asm"

// Registers of arm64 by their numbers, as the kernel calls them; 31 is the stack pointer or zero, as the instruction has it.
var arm64Names = [32]Location{"x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13", "x14", "x15", "x16", "x17", "x18",
	"x19", "x20", "x21", "x22", "x23", "x24", "x25", "x26", "x27", "x28", "x29", "x30", "sp"}

const (
	arm64Frame = 29
	arm64Link  = 30
	arm64Stack = 31
)

var arm64 = processor{
	decode:    decodeARM64,
	names:     arm64Names[:],
	arguments: []int{0, 1, 2, 3, 4, 5, 6, 7},
	goArgs:    []int{0, 1, 2, 3},
	caller:    1<<19 - 1 | 1<<arm64Link, // x0 to x18
	stack:     arm64Stack,
	frame:     arm64Frame,
	link:      arm64Link,
	returns:   true,
}

// decodeARM64 reads the instruction at an offset of code. Branches are told by their bits; what else the decoder does not know may change every register.
func decodeARM64(code []byte, at int) (instruction, bool) {
	if at%4 != 0 || at+4 > len(code) {
		return instruction{}, false
	}
	word := le.Uint32(code[at:])
	in := instruction{length: 4}
	inst, err := arm64asm.Decode(code[at:])
	if err == nil {
		in.text = arm64asm.GNUSyntax(inst)
	}
	if branchARM64(&in, word, at) {
		return in, true
	}
	if err != nil {
		in.writes = atomicARM64(word)
		return in, word != 0 // zeros are no code
	}
	effectARM64(&in, inst, word)
	return in, true
}

// branchARM64 fills in where an instruction goes, if it is one that branches or that the kernel simulates like these (arm64: probes/decode-insn.c). BL, B,
// their conditional forms, BR, BLR and RET without authentication, ADR and ADRP were from 4.10 on.
func branchARM64(in *instruction, word uint32, at int) bool {
	in.emulated = true
	switch {
	case word&0x7c000000 == 0x14000000: // B, BL
		in.target = at + signed(word, 0, 26)*4
		in.flow = flowJump
		if word>>31 == 1 {
			in.flow = flowCall
		}
	case word&0xff000010 == 0x54000000: // B.cond
		in.flow, in.target = flowBranch, at+signed(word, 5, 19)*4
	case word&0x7e000000 == 0x34000000: // CBZ, CBNZ
		in.flow, in.target, in.reads = flowBranch, at+signed(word, 5, 19)*4, registers(int(word&31))&^registers(31)
	case word&0x7e000000 == 0x36000000: // TBZ, TBNZ
		in.flow, in.target = flowBranch, at+signed(word, 5, 14)*4
	case word&0xfffffc1f == 0xd65f0000: // RET
		in.flow = flowReturn
	case word&0xfffffc1f == 0xd61f0000: // BR
		in.flow, in.indirect = flowJump, true
	case word&0xfffffc1f == 0xd63f0000: // BLR
		in.flow, in.indirect = flowCall, true
	case word&0x1f000000 == 0x10000000: // ADR, ADRP
		in.writes = registers(int(word&31)) &^ registers(31)
	default:
		in.emulated = false
		return otherBranchARM64(in, word)
	}
	return true
}

// otherBranchARM64 knows what goes elsewhere without being simulated.
func otherBranchARM64(in *instruction, word uint32) bool {
	switch {
	case word == 0xd65f0bff || word == 0xd65f0fff: // RETAA, RETAB
		in.flow = flowReturn
	case word&0xfe000000 == 0xd6000000: // other branches by register, ERET
		in.flow = flowUnknown
	case word&0xffe0001f == 0xd4200000, word>>16 == 0: // BRK, UDF
		in.flow = flowStop
	case word&0xff000000 == 0xd4000000: // SVC and the like
		in.writes = registers(0)
	default:
		return false
	}
	return true
}

// atomicARM64 returns what the atomic instructions of ARMv8.1 change, which the decoder does not know and Go's programs have; every register for others.
func atomicARM64(word uint32) regset {
	switch {
	case word&0x3fa07c00 == 0x08a07c00: // CAS
		return registers(int(word>>16&31)) &^ registers(31)
	case word&0x3f200c00 == 0x38200000: // LDADD, SWP and the like
		return registers(int(word&31)) &^ registers(31)
	}
	return allButStack(arm64Stack)
}

// signed returns a field of a word as a number with a sign.
func signed(word uint32, shift, width int) int {
	return int(int32(word<<(32-shift-width)) >> (32 - width))
}

// effectARM64 fills in what an instruction does to registers: loads and what computes change the one in the lowest bits, pairs a second, some the base.
func effectARM64(in *instruction, inst arm64asm.Inst, word uint32) {
	d, n, second := int(word&31), int(word>>5&31), int(word>>10&31)
	in.reads = registers(n, int(word>>16&31)) &^ registers(arm64Stack) // as far as the fields of most forms tell
	memory := word&0x0a000000 == 0x08000000
	switch inst.Op {
	case arm64asm.STP, arm64asm.STR, arm64asm.STUR, arm64asm.STRB, arm64asm.STURB, arm64asm.STRH, arm64asm.STURH, arm64asm.STNP, arm64asm.STLR, arm64asm.STLRB, arm64asm.STLRH:
		vector := word>>26&1 == 1
		in.savesLink = !vector && (d == arm64Link || inst.Op == arm64asm.STP && second == arm64Link)
		if !vector && inst.Op == arm64asm.STR && word&0xffc00000 == 0xf9000000 && n == arm64Stack {
			in.store, in.from, in.disp = true, d, int(word>>10&0xfff)*8
		}
	case arm64asm.CMP, arm64asm.CMN, arm64asm.TST, arm64asm.CCMP, arm64asm.CCMN, arm64asm.NOP, arm64asm.HINT, arm64asm.PRFM, arm64asm.DMB, arm64asm.DSB, arm64asm.ISB:
		return
	case arm64asm.LDP, arm64asm.LDPSW, arm64asm.LDNP:
		if word>>26&1 == 0 {
			in.writes = registers(d, second)
		}
	default:
		if memory && word>>26&1 == 1 {
			break // a register for vectors
		}
		in.writes = registers(d)
		if word&0x3f000000 == 0x08000000 { // exclusive ones and comparing ones change a second, or say in a register whether they did
			in.writes |= registers(second, int(word>>16&31))
		}
		in.copies, in.from = word&0xffe0ffe0 == 0xaa0003e0, int(word>>16&31) // MOV of 64 bits
		if sxtw := word&0xfffffc00 == 0x93407c00; sxtw || word&0xffe0ffe0 == 0x2a0003e0 {
			in.copies, in.half = true, true
			if sxtw {
				in.from = n
			}
		}
	}
	if in.copies && in.from == 31 {
		in.copies = false // zero
	}
	stackARM64(in, inst, word, d, n, memory)
}

// stackARM64 follows the stack pointer: addition and subtraction of constants, and loads and stores that change their base.
func stackARM64(in *instruction, inst arm64asm.Inst, word uint32, d, n int, memory bool) {
	immediate := word&0x1f800000 == 0x11000000 // ADD, SUB of a constant
	amount := int(word >> 10 & 0xfff)
	if word>>22&1 == 1 {
		amount <<= 12
	}
	if word>>30&1 == 1 {
		amount = -amount
	}
	writesStack := word>>29&1 == 0 // the forms without flags
	base, delta := writeBackARM64(word)
	switch {
	case immediate && writesStack && d == arm64Stack && n == arm64Stack:
		in.writes, in.stack = 0, amount
	case immediate && writesStack && d == arm64Stack && n == arm64Frame:
		in.writes, in.fromFrame, in.stack = 0, true, amount
	case immediate && writesStack && d == arm64Stack:
		in.writes, in.stackLost = 0, true
	case immediate && n == arm64Stack && d == arm64Frame:
		in.toFrame, in.frame = true, amount
	case immediate && n == arm64Stack && d != 31:
		in.address = true
	case base && n == arm64Stack:
		in.stack = delta
	case base && memory:
		in.writes |= registers(n)
	}
	in.writes &^= registers(arm64Stack) // elsewhere 31 is zero
}

// writeBackARM64 tells whether a load or store changes its base, and by how much.
func writeBackARM64(word uint32) (bool, int) {
	switch {
	case word&0x3a000000 == 0x28000000: // pairs
		mode := word >> 23 & 3
		scale := 2 + int(word>>31)
		if word>>26&1 == 1 {
			scale = 2 + int(word>>30)
		}
		return mode == 1 || mode == 3, signed(word, 15, 7) << scale
	case word&0x3b200000 == 0x38000000: // single ones
		mode := word >> 10 & 3
		return mode == 1 || mode == 3, signed(word, 12, 9)
	}
	return false, 0
}
