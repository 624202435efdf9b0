package tlsfile

import (
	"bytes"

	"golang.org/x/arch/x86/x86asm"
)

// Registers of x86-64 by their numbers in instructions, as the kernel calls them.
var x86Names = [16]Location{"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"}

const (
	rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi = 0, 1, 2, 3, 4, 5, 6, 7
	r8, r9, r10, r11                       = 8, 9, 10, 11
)

var (
	x86Caller = registers(rax, rcx, rdx, rsi, rdi, r8, r9, r10, r11) // what a function of C may change
	endbr64   = []byte{0xf3, 0x0f, 0x1e, 0xfa}
)

// x86 is the processor's part of the placer.
var x86 = processor{
	decode:    decodeX86,
	names:     x86Names[:],
	arguments: []int{rdi, rsi, rdx, rcx, r8, r9},
	goArgs:    []int{rax, rbx, rcx, rdi}, // Go's ABIInternal
	caller:    x86Caller,
	stack:     rsp,
	frame:     rbp,
}

// decodeX86 reads the instruction at an offset of code.
func decodeX86(code []byte, at int) (instruction, bool) {
	c := code[at:]
	if bytes.HasPrefix(c, endbr64) {
		return instruction{length: 4, text: "endbr64"}, true
	}
	if n := lengthVEX(c); n > 0 {
		return instruction{length: n, text: "(VEX)", writes: allButStack(rsp)}, n <= len(c)
	}
	inst, err := x86asm.Decode(c, 64)
	if err != nil || inst.Len == 0 || inst.Len > len(c) {
		return instruction{}, false
	}
	in := instruction{length: inst.Len, emulated: emulatedX86(c[:inst.Len]), text: x86asm.GNUSyntax(inst, 0, nil)}
	flowX86(&in, inst, at)
	in.reads = readsX86(inst)
	if in.flow == flowNext || in.flow == flowCall {
		effectX86(&in, inst)
	}
	return in, true
}

// emulatedX86 tells whether Linux, from 5.10 on, does the instruction itself (arch/x86/kernel/uprobes.c: branch_setup_xol_ops, push_setup_xol_ops). Prefixes
// other than the one for r8 to r15 make it refuse or step; longer no-operations are emulated by the newest kernels only.
func emulatedX86(c []byte) bool {
	switch b := c[0]; {
	case b == 0x90, b >= 0x50 && b <= 0x57:
		return len(c) == 1
	case b == 0x41:
		return len(c) == 2 && c[1] >= 0x50 && c[1] <= 0x57
	case b == 0xe8, b == 0xe9:
		return len(c) == 5
	case b == 0xeb, b >= 0x70 && b <= 0x7f:
		return len(c) == 2
	case b == 0x0f:
		return len(c) == 6 && c[1] >= 0x80 && c[1] <= 0x8f
	}
	return false
}

// flowX86 fills in where an instruction goes.
func flowX86(in *instruction, inst x86asm.Inst, at int) {
	rel, direct := inst.Args[0].(x86asm.Rel)
	in.target = at + inst.Len + int(rel)
	switch inst.Op {
	case x86asm.CALL:
		in.flow = flowCall
	case x86asm.JMP:
		in.flow = flowJump
	case x86asm.LCALL, x86asm.LJMP, x86asm.LRET, x86asm.IRET, x86asm.IRETD, x86asm.IRETQ, x86asm.SYSRET, x86asm.SYSEXIT, x86asm.XBEGIN:
		in.flow = flowUnknown
	case x86asm.RET:
		in.flow = flowReturn
	case x86asm.UD1, x86asm.UD2, x86asm.HLT, x86asm.INT:
		in.flow = flowStop
	default:
		if direct {
			in.flow = flowBranch // conditional jumps, LOOP, JRCXZ
		}
	}
	in.indirect = !direct && (in.flow == flowCall || in.flow == flowJump)
}

// writesNothing are instructions without an effect on general registers.
var writesNothing = opSet(x86asm.CMP, x86asm.TEST, x86asm.NOP, x86asm.PREFETCHT0, x86asm.PREFETCHT1, x86asm.PREFETCHT2, x86asm.PREFETCHNTA, x86asm.PREFETCHW,
	x86asm.BT, x86asm.CLD, x86asm.CLC, x86asm.STC, x86asm.CMC, x86asm.PAUSE, x86asm.LFENCE, x86asm.MFENCE, x86asm.SFENCE, x86asm.UCOMISD, x86asm.UCOMISS,
	x86asm.COMISD, x86asm.COMISS)

// writesFirst are instructions that change their first argument and nothing else.
var writesFirst = opSet(x86asm.MOV, x86asm.LEA, x86asm.MOVZX, x86asm.MOVSX, x86asm.MOVSXD, x86asm.ADD, x86asm.ADC, x86asm.SUB, x86asm.SBB, x86asm.AND, x86asm.OR,
	x86asm.XOR, x86asm.NOT, x86asm.NEG, x86asm.INC, x86asm.DEC, x86asm.SHL, x86asm.SHR, x86asm.SAR, x86asm.ROL, x86asm.ROR, x86asm.SHLD, x86asm.SHRD,
	x86asm.SETA, x86asm.SETAE, x86asm.SETB, x86asm.SETBE, x86asm.SETE, x86asm.SETG, x86asm.SETGE, x86asm.SETL, x86asm.SETLE, x86asm.SETNE, x86asm.SETNO,
	x86asm.SETNP, x86asm.SETNS, x86asm.SETO, x86asm.SETP, x86asm.SETS, x86asm.CMOVA, x86asm.CMOVAE, x86asm.CMOVB, x86asm.CMOVBE, x86asm.CMOVE, x86asm.CMOVG,
	x86asm.CMOVGE, x86asm.CMOVL, x86asm.CMOVLE, x86asm.CMOVNE, x86asm.CMOVNO, x86asm.CMOVNP, x86asm.CMOVNS, x86asm.CMOVO, x86asm.CMOVP, x86asm.CMOVS,
	x86asm.BSF, x86asm.BSR, x86asm.BTC, x86asm.BTR, x86asm.BTS, x86asm.BSWAP, x86asm.POPCNT, x86asm.MOVD, x86asm.MOVQ, x86asm.MOVUPS, x86asm.MOVAPS,
	x86asm.MOVDQA, x86asm.MOVDQU, x86asm.MOVHPS, x86asm.MOVLPS, x86asm.MOVUPD, x86asm.MOVAPD, x86asm.MOVSS, x86asm.MOVSD_XMM, x86asm.PXOR, x86asm.XORPS,
	x86asm.PUNPCKLQDQ, x86asm.PSHUFD, x86asm.POR, x86asm.PAND, x86asm.PADDQ, x86asm.PADDD, x86asm.PINSRQ, x86asm.PEXTRQ, x86asm.CVTSI2SD, x86asm.CVTTSD2SI)

func opSet(ops ...x86asm.Op) map[x86asm.Op]bool {
	set := make(map[x86asm.Op]bool, len(ops))
	for _, op := range ops {
		set[op] = true
	}
	return set
}

// readsX86 returns what an instruction reads, as far as its arguments tell. Saving a register is no use of it, nor is making it zero.
func readsX86(inst x86asm.Inst) regset {
	var set regset
	for i, a := range inst.Args {
		if mem, ok := a.(x86asm.Mem); ok {
			for _, part := range []x86asm.Reg{mem.Base, mem.Index} {
				if r, ok := registerX86(part); ok {
					set |= registers(r)
				}
			}
		}
		r, ok := registerX86(a)
		if ok && inst.Op != x86asm.PUSH && (i > 0 || !writesFirst[inst.Op] || inst.Op == x86asm.ADD || inst.Op == x86asm.SUB || inst.Op == x86asm.AND) {
			set |= registers(r)
		}
	}
	if (inst.Op == x86asm.XOR || inst.Op == x86asm.SUB) && inst.Args[0] == inst.Args[1] {
		return 0
	}
	return set
}

// effectX86 fills in what an instruction does to registers. What is not known is taken to change them all.
func effectX86(in *instruction, inst x86asm.Inst) {
	first, firstIsRegister := registerX86(inst.Args[0])
	switch op := inst.Op; {
	case in.flow == flowCall: // the placer knows
	case op == x86asm.PUSH:
		in.stack = -8
	case op == x86asm.POP:
		in.stack = 8
		in.writes = registers(first)
		in.stackLost = !firstIsRegister || first == rsp
	case op == x86asm.LEAVE:
		in.leave = true
	case op == x86asm.CDQ || op == x86asm.CQO:
		in.writes = registers(rdx)
	case op == x86asm.CDQE || op == x86asm.CWDE:
		in.writes = registers(rax)
	case writesNothing[op]:
	case op == x86asm.XCHG || op == x86asm.XADD || op == x86asm.CMPXCHG:
		in.writes = registers(rax)
		for _, a := range inst.Args[:2] {
			if r, ok := registerX86(a); ok {
				in.writes |= registers(r)
			}
		}
		in.stackLost = in.writes&registers(rsp) != 0
	case op == x86asm.IMUL && inst.Args[1] != nil:
		in.writes = registers(first)
	case writesFirst[op] && firstIsRegister:
		in.writes = registers(first)
		moveX86(in, inst, first)
	case writesFirst[op]: // memory or a register for vectors
		storeX86(in, inst)
	default:
		in.writes = allButStack(rsp)
	}
}

// storeX86 recognises a register that is put on the stack.
func storeX86(in *instruction, inst x86asm.Inst) {
	mem, isMem := inst.Args[0].(x86asm.Mem)
	from, isRegister := registerX86(inst.Args[1])
	if inst.Op == x86asm.MOV && isMem && isRegister && inst.MemBytes == 8 && mem.Base == x86asm.RSP && mem.Index == 0 {
		in.store, in.from, in.disp = true, from, int(mem.Disp)
	}
}

// moveX86 recognises copies between registers, and what sets the stack pointer.
func moveX86(in *instruction, inst x86asm.Inst, first int) {
	second, isRegister := registerX86(inst.Args[1])
	wide := inst.Args[0].(x86asm.Reg) >= x86asm.RAX && inst.Args[0].(x86asm.Reg) <= x86asm.R15
	half := inst.Args[0].(x86asm.Reg) >= x86asm.EAX && inst.Args[0].(x86asm.Reg) <= x86asm.R15L
	if isRegister && (inst.Op == x86asm.MOV && (wide || half) || inst.Op == x86asm.MOVSXD) {
		in.copies, in.from, in.half = true, second, inst.Op == x86asm.MOVSXD || half
	}
	imm, isImm := inst.Args[1].(x86asm.Imm)
	mem, isMem := inst.Args[1].(x86asm.Mem)
	if first != rsp && first != rbp {
		in.address = inst.Op == x86asm.LEA && mem.Base == x86asm.RSP
		return
	}
	switch {
	case first == rsp && inst.Op == x86asm.SUB && isImm:
		in.stack = -int(imm)
	case first == rsp && inst.Op == x86asm.ADD && isImm:
		in.stack = int(imm)
	case first == rsp && inst.Op == x86asm.LEA && isMem && mem.Base == x86asm.RSP && mem.Index == 0:
		in.stack = int(mem.Disp)
	case first == rsp && inst.Op == x86asm.LEA && isMem && mem.Base == x86asm.RBP && mem.Index == 0:
		in.fromFrame, in.stack = true, int(mem.Disp)
	case first == rsp && inst.Op == x86asm.MOV && isRegister && second == rbp:
		in.fromFrame = true
	case first == rsp:
		in.stackLost = true
	case inst.Op == x86asm.MOV && isRegister && second == rsp:
		in.toFrame = true
	case inst.Op == x86asm.LEA && isMem && mem.Base == x86asm.RSP && mem.Index == 0:
		in.toFrame, in.frame = true, int(mem.Disp)
	}
}

// registerX86 returns the number of the general register that an argument is or is part of.
func registerX86(a x86asm.Arg) (int, bool) {
	r, ok := a.(x86asm.Reg)
	switch {
	case !ok:
		return 0, false
	case r >= x86asm.RAX && r <= x86asm.R15:
		return int(r - x86asm.RAX), true
	case r >= x86asm.EAX && r <= x86asm.R15L:
		return int(r - x86asm.EAX), true
	case r >= x86asm.AX && r <= x86asm.R15W:
		return int(r - x86asm.AX), true
	case r >= x86asm.AL && r <= x86asm.BL:
		return int(r - x86asm.AL), true
	case r >= x86asm.AH && r <= x86asm.BH:
		return int(r - x86asm.AH), true
	case r >= x86asm.SPB && r <= x86asm.R15B:
		return int(r-x86asm.SPB) + 4, true
	}
	return 0, false
}

// lengthVEX returns the length of an instruction of AVX, AVX-512 or BMI, which the decoder does not know; 0 for others. None of them branches.
func lengthVEX(c []byte) int {
	var opcodeMap byte
	var n int // bytes in front of the opcode
	switch {
	case len(c) < 6:
		return 0
	case c[0] == 0xc5:
		opcodeMap, n = 1, 2
	case c[0] == 0xc4:
		opcodeMap, n = c[1]&31, 3
	case c[0] == 0x62:
		opcodeMap, n = c[1]&7, 4
	default:
		return 0
	}
	if opcodeMap < 1 || opcodeMap > 3 {
		return 0
	}
	opcode := c[n]
	if opcodeMap == 1 && opcode == 0x77 { // VZEROUPPER
		return n + 1
	}
	n += 1 + lengthModRM(c[n+1:])
	immediate := opcodeMap == 3
	if opcodeMap == 1 {
		immediate = opcode >= 0x70 && opcode <= 0x73 || opcode == 0xc2 || opcode >= 0xc4 && opcode <= 0xc6
	}
	if immediate {
		n++
	}
	return n
}

// lengthModRM returns the length of what says which registers and memory an instruction works on.
func lengthModRM(c []byte) int {
	mod, rm := c[0]>>6, c[0]&7
	n := 1
	if mod == 3 {
		return n
	}
	if rm == 4 {
		n++
		if mod == 0 && len(c) > 1 && c[1]&7 == 5 {
			return n + 4
		}
	}
	switch {
	case mod == 1:
		return n + 1
	case mod == 2, mod == 0 && rm == 5:
		return n + 4
	}
	return n
}
