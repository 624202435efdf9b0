package tlsfile

import (
	"debug/elf"
	"fmt"
	"math/bits"
	"slices"
)

// Limits of what is looked at of a function.
const (
	functionBytesMax = 64 << 10 // the functions of TLS libraries have 0.1 to 2 KB
	instructionsMax  = 16384
	outsideMax       = 2048 // instructions of other parts, where a function goes on or ends with
	outsideWindows   = 16   // places from which these are read
	outsideBytes     = 4096 // from each
	candidatesMax    = 64   // places that are tried
	stackMax         = 1 << 20
	innerTriedMax    = 8 // functions that may be those that one hands its work to
)

type flow uint8

const (
	flowNext    flow = iota // to the next instruction
	flowCall                // to another function, and on behind it
	flowJump                // to the target
	flowBranch              // to the target or the next
	flowReturn              // back to the caller
	flowStop                // nowhere
	flowUnknown             // something that is not followed
)

// instruction is what the placer needs to know of one.
type instruction struct {
	length   int
	text     string
	flow     flow
	target   int    // of a direct call, jump or branch
	indirect bool   // a call or jump to where a register or memory says
	emulated bool   // by the kernel
	reads    regset // at least: an instruction that is not known in detail may read more
	writes   regset
	copies   bool // of the register from to the single one in writes
	from     int
	half     bool // only 32 bits of it

	stack            int  // what is added to the stack pointer
	stackLost        bool // the stack pointer becomes what is not followed
	toFrame          bool // the frame pointer becomes the stack pointer + frame
	frame            int
	fromFrame, leave bool // the stack pointer becomes the frame pointer + stack; and then the frame pointer is popped
	address          bool // the register in writes becomes an address on the stack

	store     bool // of the register from to the stack pointer + disp
	disp      int
	savesLink bool // the return address goes from its register to memory
}

// regset is a set of general registers.
type regset uint32

func registers(list ...int) regset {
	var s regset
	for _, r := range list {
		s |= 1 << r
	}
	return s
}

// allButStack is every register except the stack pointer: compilers change that by known instructions only.
func allButStack(stack int) regset { return ^registers(stack) }

// processor is what differs between machines.
type processor struct {
	decode    func(code []byte, at int) (instruction, bool)
	names     []Location
	arguments []int // of C
	goArgs    []int
	caller    regset // what a call of a C function may change
	stack     int
	frame     int
	link      int  // register of the return address, 0 where it is on the stack
	returns   bool // a return instruction is emulated
}

func (im *image) processor() *processor {
	if im.machine == elf.EM_AARCH64 {
		return &arm64
	}
	return &x86
}

// What a register holds: nothing known, an argument (its number + 1), an address on the stack, or the return address.
type content int8

const (
	onStack content = 100
	link    content = 101
)

// state is what is known in front of an instruction, whichever way it was reached.
type state struct {
	regs             [32]content
	sp, fp           int // relative to the stack pointer at entry
	spKnown, fpKnown bool
	home             bool // the first argument is where Go's functions keep it
	linkSaved        bool
}

// homeOffset is where, above the stack pointer at entry, a Go function keeps its first argument when it needs the register: behind the return address.
const homeOffset = 8

// meet keeps what both know.
func (s state) meet(o state) state {
	for i := range s.regs {
		if s.regs[i] != o.regs[i] {
			s.regs[i] = 0
		}
	}
	s.spKnown = s.spKnown && o.spKnown && s.sp == o.sp
	s.fpKnown = s.fpKnown && o.fpKnown && s.fp == o.fp
	if !s.spKnown {
		s.sp = 0
	}
	if !s.fpKnown {
		s.fp = 0
	}
	s.home = s.home && o.home
	s.linkSaved = s.linkSaved || o.linkSaved
	return s
}

type node struct {
	in      instruction
	next    []int // offsets of what may follow
	leaves  bool  // the function may end here
	before  state
	reached bool
}

// graph is a function as its instructions, by their offsets from its entry. Offsets outside of it are of parts that a compiler has put elsewhere, and of
// functions that it ends with.
type graph struct {
	p        *processor
	code     []byte
	size     int
	entry    uint64
	fetch    func(address uint64, limit int) []byte
	endless  func(address uint64) bool // functions that do not return
	growing  func(address uint64) bool // functions that make the stack grow
	goCode   bool
	length   int // number of the argument that may be copied by halves
	nodes    map[int]*node
	windows  map[int][]byte
	outside  int
	complete bool // every instruction was understood, and where each goes is known
}

// graphOf reads a function, of Go where found is not nil. It returns nil where its code cannot be read.
func (im *image) graphOf(sym symbol, length int, found *goFunctions) *graph {
	size := int(min(sym.size, functionBytesMax))
	if size == 0 {
		size = functionBytesMax // assembler without a size: to where its instructions lead
	}
	code := im.code(sym.address, size+16) // the decoder looks ahead
	if len(code) == 0 {
		return nil
	}
	g := &graph{p: im.processor(), code: code, size: min(size, len(code)), entry: sym.address, fetch: im.code, length: length,
		nodes: make(map[int]*node), windows: make(map[int][]byte), complete: sym.size <= functionBytesMax}
	if found != nil {
		g.goCode = true
		g.endless = func(a uint64) bool { return found.endless[a] }
		g.growing = func(a uint64) bool { return found.growing[a] }
	}
	g.explore()
	if len(g.nodes) > 0 {
		g.flowStates()
	}
	return g
}

// explore decodes everything that is reachable from the entry.
func (g *graph) explore() {
	todo := []int{0}
	for len(todo) > 0 {
		at := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if g.nodes[at] != nil {
			continue
		}
		inside := at >= 0 && at < g.size
		in, ok := g.decode(at, inside)
		if !ok {
			g.complete = g.complete && !inside
			continue
		}
		n := &node{in: in}
		g.nodes[at] = n
		g.connect(at, n, inside)
		todo = append(todo, n.next...)
	}
	for _, n := range g.nodes { // what was not explored is an end
		kept := n.next[:0]
		for _, to := range n.next {
			if g.nodes[to] != nil {
				kept = append(kept, to)
			} else {
				n.leaves = true
			}
		}
		n.next = kept
	}
}

// decode reads one instruction; false where there is none or the limits are reached.
func (g *graph) decode(at int, inside bool) (instruction, bool) {
	if len(g.nodes) >= instructionsMax {
		g.complete = false
		return instruction{}, false
	}
	if inside {
		return g.p.decode(g.code, at)
	}
	if g.outside++; g.outside > outsideMax {
		return instruction{}, false
	}
	base := at &^ (outsideBytes - 1)
	w, ok := g.windows[base]
	if !ok && len(g.windows) < outsideWindows {
		w = g.fetch(g.entry+uint64(base), outsideBytes+16)
		g.windows[base] = w
	}
	if at-base >= len(w) {
		return instruction{}, false
	}
	in, ok := g.p.decode(w[at-base:], 0)
	in.target += at
	return in, ok
}

// connect fills in where an instruction leads.
func (g *graph) connect(at int, n *node, inside bool) {
	behind, target := at+n.in.length, n.in.target
	switch n.in.flow {
	case flowNext:
		n.next = append(n.next, behind)
	case flowCall:
		if n.in.indirect || g.endless == nil || !g.endless(g.entry+uint64(target)) {
			n.next = append(n.next, behind)
		}
	case flowJump, flowBranch:
		if n.in.flow == flowBranch {
			n.next = append(n.next, behind)
		}
		switch {
		case n.in.indirect:
			n.leaves = true // flowStates finds out whether it may
		case inside || target != 0: // from elsewhere to the entry is another call
			n.next = append(n.next, target)
		default:
			n.leaves = true
		}
	case flowReturn:
		n.leaves = true
	case flowUnknown:
		n.leaves = true
		g.complete = g.complete && !inside
	}
	if inside && behind >= g.size && n.in.flow == flowCall { // a call of what does not return, at the very end
		n.next = nil
	}
}

// flowStates finds the state in front of each instruction.
func (g *graph) flowStates() {
	var first state
	args := g.p.arguments
	if g.goCode {
		args = g.p.goArgs
	}
	for i, r := range args {
		first.regs[r] = content(i + 1)
	}
	if g.p.link != 0 {
		first.regs[g.p.link] = link
	}
	first.spKnown = true
	todo := []int{0}
	g.nodes[0].before, g.nodes[0].reached = first, true
	for len(todo) > 0 {
		at := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		n := g.nodes[at]
		after := g.after(n)
		for _, to := range n.next {
			if to == 0 && g.goCode {
				continue // behind the growing of the stack: a call like the first, whose arguments were put back
			}
			m := g.nodes[to]
			merged := after
			if m.reached {
				merged = m.before.meet(after)
			}
			if !m.reached || merged != m.before {
				m.before, m.reached = merged, true
				todo = append(todo, to)
			}
		}
	}
	for at, n := range g.nodes { // a jump by a register with the caller's stack is the call of another function; any other may go anywhere
		if at >= 0 && at < g.size && n.in.flow == flowJump && n.in.indirect && (!n.before.spKnown || n.before.sp != 0) {
			g.complete = false
		}
	}
}

// after is the state behind an instruction.
func (g *graph) after(n *node) state {
	s, in := n.before, &n.in
	writes := in.writes
	if in.flow == flowCall {
		writes = g.p.caller
		if g.goCode {
			writes = allButStack(g.p.stack)
		}
		if g.p.link != 0 {
			writes |= registers(g.p.link)
		}
	}
	if in.store && s.spKnown && s.sp+in.disp == homeOffset {
		s.home = s.regs[in.from] == 1
	}
	copied := content(0)
	if in.copies && (!in.half || s.regs[in.from] == content(g.length+1)) {
		copied = s.regs[in.from]
	}
	if in.address || in.copies && in.from == g.p.stack {
		copied = onStack
	}
	for w := writes; w != 0; w &= w - 1 {
		s.regs[bits.TrailingZeros32(uint32(w))] = 0
	}
	if copied != 0 {
		s.regs[bits.TrailingZeros32(uint32(writes))] = copied
	}
	s.linkSaved = s.linkSaved || in.savesLink
	g.moveStack(&s, in, writes)
	return s
}

// moveStack follows the stack pointer and the frame pointer.
func (g *graph) moveStack(s *state, in *instruction, writes regset) {
	switch {
	case in.leave:
		s.sp, s.spKnown, s.fpKnown = s.fp+8, s.fpKnown, false
		s.regs[g.p.frame] = 0
	case in.fromFrame:
		s.sp, s.spKnown = s.fp+in.stack, s.fpKnown
	case in.stackLost:
		s.spKnown = false
	case in.toFrame:
		s.fp, s.fpKnown = s.sp+in.frame, s.spKnown
	case writes&registers(g.p.frame) != 0 && in.flow != flowCall:
		s.fpKnown = false
		s.sp += in.stack
	default:
		s.sp += in.stack
	}
	if s.sp < -stackMax || s.sp > stackMax {
		s.spKnown = false
	}
	if !s.spKnown {
		s.sp = 0
	}
	if !s.fpKnown {
		s.fp = 0
	}
}

// once tells whether each call of the function passes an instruction exactly once: no way leads past it to an end, and none from it back to it. With
// idle, calls may pass it by that end without having called anything: they did nothing that matters.
func (g *graph) once(at int, idle bool) bool {
	seen := map[int]bool{at: true}
	todo := []int{0}
	for len(todo) > 0 { // without it, nothing that ends may be reachable
		i := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if seen[i] {
			continue
		}
		seen[i] = true
		n := g.nodes[i]
		if n.leaves && !(idle && n.in.flow == flowReturn) || idle && n.in.flow == flowCall && !g.grows(i, n) {
			return false
		}
		todo = append(todo, n.next...)
	}
	clear(seen)
	todo = append(todo[:0], g.nodes[at].next...)
	for len(todo) > 0 {
		i := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if i == at {
			return false
		}
		if seen[i] {
			continue
		}
		seen[i] = true
		todo = append(todo, g.nodes[i].next...)
	}
	return true
}

// grows tells whether a call makes the stack grow.
func (g *graph) grows(at int, n *node) bool {
	return g.goCode && !n.in.indirect && g.growing != nil && g.growing(g.entry+uint64(n.in.target))
}

// holds returns the register with an argument, preferring the one that it came in.
func (g *graph) holds(s *state, argument int) Location {
	if argument < 0 {
		return ""
	}
	want := content(argument + 1)
	args := g.p.arguments
	if g.goCode {
		args = g.p.goArgs
	}
	if r := args[argument]; s.regs[r] == want {
		return g.p.names[r]
	}
	if i := slices.Index(s.regs[:len(g.p.names)], want); i >= 0 {
		return g.p.names[i]
	}
	return ""
}

// site describes an instruction as a place for a probe, and tells whether all the arguments are there.
func (g *graph) site(im *image, at int, sig signature) (Site, bool) {
	n := g.nodes[at]
	s := &n.before
	site := Site{Instruction: n.in.text, Emulated: n.in.emulated, Session: g.holds(s, sig.session), Buffer: g.holds(s, sig.buffer), Length: g.holds(s, sig.length),
		Count: g.holds(s, sig.count), Stack: -s.sp}
	offset, ok := im.place(g.entry+uint64(at), uint64(n.in.length), elf.PF_X)
	site.Offset = offset
	if g.p.link == 0 {
		site.Return = !g.goCode && s.spKnown && s.sp == 0
	} else {
		site.Return = !g.goCode && s.regs[g.p.link] == link && !s.linkSaved
	}
	return site, ok && s.spKnown && site.Session != "" && site.Buffer != "" && site.Length != "" && (sig.count < 0 || site.Count != "")
}

// best returns the place for what is known at a call of the function: an emulated instruction, with the return address in its place if there is one. The
// reason says why there is none.
func (g *graph) best(im *image, sig signature) (site Site, reason string) {
	if !g.complete {
		return Site{}, "not all of the function's instructions are understood"
	}
	offsets := make([]int, 0, len(g.nodes))
	for at, n := range g.nodes {
		if at >= 0 && at < g.size && n.in.emulated && n.reached {
			offsets = append(offsets, at)
		}
	}
	slices.Sort(offsets)
	for _, idle := range []bool{false, true} {
		for _, at := range offsets[:min(len(offsets), candidatesMax)] {
			s, ok := g.site(im, at, sig)
			if !ok || site.Emulated && !s.Return || !g.once(at, idle) {
				continue
			}
			if site = s; s.Return {
				return site, ""
			}
		}
		if site.Emulated {
			return site, ""
		}
	}
	return site, "no instruction that the kernel emulates is passed once by each call with the arguments still in registers"
}

// entrySite is the function's first instruction, for where no better place was found.
func (g *graph) entrySite(im *image, sig signature, why string) []Site {
	if g.nodes[0] == nil {
		return nil
	}
	site, ok := g.site(im, 0, sig)
	if !ok {
		return nil
	}
	if site.Why = why; site.Emulated {
		site.Why = ""
	}
	return []Site{site}
}

// sites returns where probes see the plaintext of a function of C. Each call that handles plaintext passes one of them.
func (im *image) sites(sig signature, sym symbol) []Site {
	g := im.graphOf(sym, sig.length, nil)
	if g == nil {
		return nil
	}
	own, why := g.best(im, sig)
	if own.Return {
		return []Site{own}
	}
	if inner := g.inner(im, sig); len(inner) > 0 {
		return inner
	}
	if own.Emulated && g.p.returns {
		if own.Results = g.results(im); len(own.Results) > 0 {
			return []Site{own}
		}
	}
	if own.Emulated && sig.role == Write {
		return []Site{own}
	}
	if why == "" {
		why = "the return address is not where a probe of the return could be set at an instruction that the kernel emulates"
	}
	return g.entrySite(im, sig, why)
}

// results are the return instructions, where each end of the function is one.
func (g *graph) results(im *image) []uint64 {
	var list []uint64
	for at, n := range g.nodes {
		if !n.leaves {
			continue
		}
		offset, ok := im.place(g.entry+uint64(at), 4, elf.PF_X)
		if n.in.flow != flowReturn || !ok || at < 0 || at >= g.size {
			return nil
		}
		list = append(list, offset)
	}
	slices.Sort(list)
	return list
}

// inner returns the places in the functions that this one hands session, buffer and length on to, if each of them has a good one: they do what it is called
// for, and OpenSSL has one such function behind both forms of each call.
func (g *graph) inner(im *image, sig signature) []Site {
	if !g.complete {
		return nil
	}
	var offsets []int
	for at, n := range g.nodes {
		leaving := n.in.flow == flowJump && (n.in.target < 0 || n.in.target >= g.size)
		if at >= 0 && at < g.size && n.reached && !n.in.indirect && (n.in.flow == flowCall || leaving) {
			offsets = append(offsets, at)
		}
	}
	slices.Sort(offsets)
	var sites []Site
	seen := make(map[int]bool)
	for _, at := range offsets {
		n := g.nodes[at]
		handed, ok := g.handsOn(&n.before, sig)
		if !ok || seen[n.in.target] {
			continue
		}
		seen[n.in.target] = true
		if len(seen) > innerTriedMax {
			return nil
		}
		h := im.graphOf(symbol{address: g.entry + uint64(n.in.target)}, handed.length, nil)
		if h == nil || !h.uses(handed) {
			continue // they are there still, but not for it
		}
		site, _ := h.best(im, handed)
		if !site.Return {
			return nil
		}
		sites = append(sites, site)
	}
	return sites
}

// uses tells whether the function reads session, buffer and length.
func (g *graph) uses(sig signature) bool {
	var used [32]bool
	for _, n := range g.nodes {
		for r := n.in.reads; r != 0 && n.reached; r &= r - 1 {
			if c := n.before.regs[bits.TrailingZeros32(uint32(r))]; c > 0 && c <= content(len(g.p.arguments)) {
				used[c-1] = true
			}
		}
	}
	return used[sig.session] && used[sig.buffer] && used[sig.length]
}

// handsOn tells whether a call hands on session, buffer and length, and as which arguments.
func (g *graph) handsOn(s *state, sig signature) (signature, bool) {
	position := func(want content) int {
		return slices.IndexFunc(g.p.arguments, func(r int) bool { return s.regs[r] == want })
	}
	handed := signature{name: sig.name, role: sig.role, session: position(content(sig.session + 1)), buffer: position(content(sig.buffer + 1)),
		length: position(content(sig.length + 1)), count: -1}
	if handed.session < 0 || handed.buffer < 0 || handed.length < 0 {
		return handed, false
	}
	for i := handed.length + 1; i < len(g.p.arguments); i++ {
		if c := s.regs[g.p.arguments[i]]; c == onStack || sig.count >= 0 && c == content(sig.count+1) {
			handed.count = i
			break
		}
	}
	return handed, true
}

// goEntry returns where the arguments of a Go method on a slice of bytes are still in registers. Behind the check of the stack, since in front of it a
// call that makes the stack grow passes twice.
func (im *image) goEntry(sym symbol, found goFunctions) []Site {
	sig := signature{role: Write, session: 0, buffer: 1, length: 2, count: -1}
	g := im.graphOf(sym, sig.length, &found)
	if g == nil {
		return nil
	}
	site, why := g.best(im, sig)
	if site.Emulated {
		return []Site{site}
	}
	return g.entrySite(im, sig, why)
}

// goCopies returns where Read copies plaintext to its caller's buffer: at the call of memmove, whose arguments are all that is to be known. Go's
// stacks move, so that no return address may be exchanged, and a return instruction is stepped.
func (im *image) goCopies(sym symbol, found goFunctions) []Site {
	g := im.graphOf(sym, -1, &found)
	if g == nil || !g.complete {
		return nil
	}
	var sites []Site
	for at, n := range g.nodes {
		target := g.entry + uint64(n.in.target)
		if at < 0 || at >= g.size || n.in.flow != flowCall || n.in.indirect || !slices.ContainsFunc(found.named[goMemmove], func(s symbol) bool { return s.address == target }) {
			continue
		}
		offset, ok := im.place(g.entry+uint64(at), uint64(n.in.length), elf.PF_X)
		if !ok || !n.before.spKnown || !n.before.home {
			return nil
		}
		names, args := g.p.names, g.p.goArgs
		sites = append(sites, Site{Offset: offset, Instruction: n.in.text, Emulated: n.in.emulated, Buffer: names[args[0]], Source: names[args[1]],
			Length: names[args[2]], Stack: -n.before.sp, Session: stackLocation(g.p, homeOffset-n.before.sp)})
	}
	if len(sites) != 1 {
		return nil // copies of other things would be taken for plaintext
	}
	return sites
}

func stackLocation(p *processor, above int) Location {
	return Location(fmt.Sprintf("%s+%d", p.names[p.stack], above))
}
