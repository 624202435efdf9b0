package probes

import (
	"errors"
	"fmt"
	"io"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// walk runs a program over every connection: one that does the walk itself (bpf_for_each_map_elem), or an iterator, which
// the kernel leads from one to the next.
type walk struct {
	program  *ebpf.Program // of the first sort; its collection owns it
	iterator *link.Iter
}

// walkBy returns a walk whose program does it by itself. It is tried once: loading is not all that may be forbidden.
func walkBy(program *ebpf.Program) (*walk, error) {
	w := &walk{program: program}
	return w, w.run()
}

// walkOver returns a walk that is led over the elements of a map.
func walkOver(m *ebpf.Map, program *ebpf.Program) (*walk, error) {
	it, err := link.AttachIter(link.IterOptions{Program: program, Map: m})
	if err != nil {
		return nil, err
	}
	return &walk{iterator: it}, nil
}

// run visits every connection once.
func (w *walk) run() error {
	if w.iterator != nil {
		return runIterator(w.iterator)
	}
	_, err := w.program.Run(nil)
	return err
}

// Close detaches the iterator.
func (w *walk) Close() error {
	if w.iterator != nil {
		return w.iterator.Close()
	}
	return nil
}

// runIterator reads an iterator to its end.
func runIterator(it *link.Iter) error {
	r, err := it.Open()
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, r)
	return errors.Join(err, r.Close())
}

// errRefused is what a hardened kernel answers; tests ask for it by a program's name (Options.Refuse).
var errRefused = fmt.Errorf("refused on request: %w", unix.EPERM)
