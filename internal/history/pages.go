package history

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/fnv"
)

// bbolt has checksums on its two meta pages only, and follows what other pages say: where one is damaged it fails an
// assertion, reads beyond the file, or walks in circles until the stack is full, which ends a Go process for good. So the one
// file that changes is walked here first, from its bytes and with every step bounded. Segments have a checksum of the whole
// file, and need no walk.

const (
	boltMagic   = 0xED0CDAED
	boltVersion = 2

	pageBranch   = 0x01
	pageLeaf     = 0x02
	pageFreelist = 0x10

	pageHeader    = 16
	pageElement   = 16
	bucketElement = 0x01
	bucketHeader  = 16
	depthMax      = 16 // a tree of 4 KiB pages has 3 levels at 64 MiB
)

// pageWalk is a walk over the pages of a file.
type pageWalk struct {
	file []byte
	size uint64 // of a page
	end  uint64 // pages in use
	seen []bool

	metas int // meta pages that are valid
}

// checkPages tells whether the trees of a bbolt file are whole, as its newer valid meta page names them. Not both meta pages are
// valid where the latest transaction was torn, or one of them damaged: the one before counts then.
func checkPages(file []byte) (bothMetas bool, err error) {
	w := pageWalk{file: file}
	root, freelist, err := w.meta()
	if err != nil {
		return false, err
	}
	w.seen = make([]bool, w.end)
	if err := w.tree(root, 0); err != nil {
		return false, err
	}
	if freelist != 1<<64-1 {
		err = w.freelist(freelist)
	}
	return w.metas == 2, err
}

// meta finds the meta page that counts.
func (w *pageWalk) meta() (root, freelist uint64, err error) {
	var newest uint64
	found := false
	// The second meta page is where the first one's page size says; all that is written here have 4 KiB to 64 KiB.
	for _, at := range []int{0, 4 << 10, 8 << 10, 16 << 10, 32 << 10, 64 << 10} {
		if at+pageHeader+64 > len(w.file) {
			break
		}
		m := w.file[at+pageHeader:]
		size, transaction := uint64(binary.LittleEndian.Uint32(m[8:])), binary.LittleEndian.Uint64(m[48:])
		sum := fnv.New64a()
		sum.Write(m[:56])
		if binary.LittleEndian.Uint32(m) != boltMagic || binary.LittleEndian.Uint32(m[4:]) != boltVersion ||
			sum.Sum64() != binary.LittleEndian.Uint64(m[56:]) || size < 1<<10 || size > 64<<10 || at != 0 && uint64(at) != size {
			continue
		}
		w.metas++
		if !found || transaction > newest {
			found, newest = true, transaction
			root, freelist = binary.LittleEndian.Uint64(m[16:]), binary.LittleEndian.Uint64(m[32:])
			w.size, w.end = size, binary.LittleEndian.Uint64(m[40:])
		}
	}
	if !found {
		return 0, 0, fmt.Errorf("%w: no meta page is valid", errDamaged)
	}
	if w.end > uint64(len(w.file))/w.size {
		return 0, 0, fmt.Errorf("%w: %d pages in a file of %d bytes", errDamaged, w.end, len(w.file))
	}
	return root, freelist, nil
}

// page returns a page that was not seen before, with what follows it as its overflow.
func (w *pageWalk) page(id uint64) (data []byte, flags, count uint16, err error) {
	if id < 2 || id >= w.end {
		return nil, 0, 0, fmt.Errorf("%w: page %d of %d", errDamaged, id, w.end)
	}
	head := w.file[id*w.size:]
	more := uint64(binary.LittleEndian.Uint32(head[12:]))
	if binary.LittleEndian.Uint64(head) != id || id+more >= w.end {
		return nil, 0, 0, fmt.Errorf("%w: page %d is another", errDamaged, id)
	}
	for i := id; i <= id+more; i++ {
		if w.seen[i] {
			return nil, 0, 0, fmt.Errorf("%w: page %d is used twice", errDamaged, i)
		}
		w.seen[i] = true
	}
	return head[:(more+1)*w.size], binary.LittleEndian.Uint16(head[8:]), binary.LittleEndian.Uint16(head[10:]), nil
}

func (w *pageWalk) tree(id uint64, depth int) error {
	data, flags, count, err := w.page(id)
	if err != nil {
		return err
	}
	if depth > depthMax {
		return fmt.Errorf("%w: page %d is too deep", errDamaged, id)
	}
	switch flags {
	case pageBranch:
		return w.branch(data, int(count), depth)
	case pageLeaf:
		return w.leaf(data, int(count), depth)
	}
	return fmt.Errorf("%w: page %d has flags %#x", errDamaged, id, flags)
}

func (w *pageWalk) branch(data []byte, count, depth int) error {
	if count == 0 || pageHeader+count*pageElement > len(data) {
		return fmt.Errorf("%w: branch of %d", errDamaged, count)
	}
	var before []byte
	for i := range count {
		at := pageHeader + i*pageElement
		e := data[at:]
		key, err := part(data, uint64(at)+uint64(binary.LittleEndian.Uint32(e)), uint64(binary.LittleEndian.Uint32(e[4:])))
		if err != nil {
			return err
		}
		if i > 0 && bytes.Compare(before, key) >= 0 {
			return fmt.Errorf("%w: keys out of order", errDamaged)
		}
		before = key
		if err := w.tree(binary.LittleEndian.Uint64(e[8:]), depth+1); err != nil {
			return err
		}
	}
	return nil
}

func (w *pageWalk) leaf(data []byte, count, depth int) error {
	if pageHeader+count*pageElement > len(data) {
		return fmt.Errorf("%w: leaf of %d", errDamaged, count)
	}
	var before []byte
	for i := range count {
		at := pageHeader + i*pageElement
		e := data[at:]
		begin := uint64(at) + uint64(binary.LittleEndian.Uint32(e[4:]))
		keySize, valueSize := uint64(binary.LittleEndian.Uint32(e[8:])), uint64(binary.LittleEndian.Uint32(e[12:]))
		key, err := part(data, begin, keySize)
		if err != nil {
			return err
		}
		value, err := part(data, begin+keySize, valueSize)
		if err != nil {
			return err
		}
		if i > 0 && bytes.Compare(before, key) >= 0 {
			return fmt.Errorf("%w: keys out of order", errDamaged)
		}
		before = key
		switch flags := binary.LittleEndian.Uint32(e); flags {
		case 0:
		case bucketElement:
			if err := w.bucket(value, depth); err != nil {
				return err
			}
		default:
			return fmt.Errorf("%w: element with flags %#x", errDamaged, flags)
		}
	}
	return nil
}

// bucket walks a bucket's tree, or its one page, which stands in the value where it is small.
func (w *pageWalk) bucket(value []byte, depth int) error {
	if len(value) < bucketHeader {
		return fmt.Errorf("%w: bucket of %d bytes", errDamaged, len(value))
	}
	if root := binary.LittleEndian.Uint64(value); root != 0 {
		return w.tree(root, depth+1)
	}
	page := value[bucketHeader:]
	if len(page) < pageHeader || binary.LittleEndian.Uint16(page[8:]) != pageLeaf || depth > depthMax {
		return fmt.Errorf("%w: bucket without a page", errDamaged)
	}
	return w.leaf(page, int(binary.LittleEndian.Uint16(page[10:])), depth+1)
}

// freelist tells whether what is free is really so, since it will be written over.
func (w *pageWalk) freelist(id uint64) error {
	data, flags, count, err := w.page(id)
	if err != nil {
		return err
	}
	n, at := uint64(count), uint64(pageHeader)
	if count == 0xFFFF && uint64(len(data)) >= at+8 {
		n = binary.LittleEndian.Uint64(data[at:])
		at += 8
	}
	if flags != pageFreelist || n > (uint64(len(data))-at)/8 {
		return fmt.Errorf("%w: list of %d free pages", errDamaged, n)
	}
	for ; n > 0; n-- {
		free := binary.LittleEndian.Uint64(data[at:])
		at += 8
		if free < 2 || free >= w.end || w.seen[free] {
			return fmt.Errorf("%w: page %d is not free", errDamaged, free)
		}
		w.seen[free] = true
	}
	return nil
}

func part(data []byte, from, size uint64) ([]byte, error) {
	if from > uint64(len(data)) || size > uint64(len(data))-from {
		return nil, fmt.Errorf("%w: %d bytes at %d of a page", errDamaged, size, from)
	}
	return data[from : from+size], nil
}
