package hfsplus

import (
	"bytes"
	"io"
	"math"
	"sync/atomic"
)

// A fork reads the content of a fork. It may be used by many goroutines at once.
// It holds its first eight extents, and the record of the extents overflow tree
// that it used last.
type fork struct {
	v     *volume
	data  forkData
	known uint32 // blocks in data.extents

	// overflow finds the extents that the block is in, the number of the first
	// block there, and is nil for a fork that can't have more than eight extents.
	overflow func(block uint32) (run, error)
	last     atomic.Pointer[run]
}

// A run is a record of the extents overflow tree, or of the attributes tree.
type run struct {
	block   uint32 // of the fork, the first one there
	extents extents
}

func (v *volume) newFork(data forkData, overflow func(uint32) (run, error)) *fork {
	f := &fork{v: v, data: data, overflow: overflow}
	for _, e := range data.extents {
		if e.count > math.MaxUint32-f.known {
			break // newer blocks than 2³² are no fork's
		}
		f.known += e.count
	}
	return f
}

// fileFork returns a fork of a file. Nearly all have no more extents than their record.
func (fsys *FS) fileFork(data forkData, kind uint8, id uint32) *fork {
	f := fsys.volume.newFork(data, nil)
	if int64(f.known)*f.v.block < f.Size() {
		f.overflow = fsys.overflowOf(kind, id)
	}
	return f
}

// Size is what the volume says. A fork can have fewer bytes: reading them fails.
func (f *fork) Size() int64 { return f.data.length() }

// ReadAt reads each extent by one call of the source.
func (f *fork) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, formatError("fork", -1, "negative offset")
	}
	if off >= f.Size() {
		return 0, io.EOF
	}
	short := int64(len(p)) > f.Size()-off
	if short {
		p = p[:f.Size()-off]
	}
	for n < len(p) {
		at, length, err := f.locate(off + int64(n))
		if err != nil {
			return n, err
		}
		m := int(min(int64(len(p)-n), length))
		if at > f.v.end-int64(m) {
			return n, formatError("fork", at, "the volume ends at %d", f.v.end)
		}
		if err := readFull(f.v.r, p[n:n+m], at); err != nil {
			return n, err
		}
		n += m
	}
	if short {
		return n, io.EOF
	}
	return n, nil
}

// locate returns where a byte of the fork lies, and how many follow there.
func (f *fork) locate(off int64) (at, length int64, err error) {
	if off/f.v.block > math.MaxUint32 {
		return 0, 0, f.tooShort()
	}
	block := uint32(off / f.v.block)
	r := run{extents: f.data.extents}
	if block >= f.known {
		if r, err = f.runOf(block); err != nil {
			return 0, 0, err
		}
	}
	rest := block - r.block
	for i, e := range r.extents {
		if rest >= e.count {
			rest -= e.count
			continue
		}
		// Extents that follow each other are read at once.
		for _, next := range r.extents[i+1:] {
			if uint64(next.start) != uint64(e.start)+uint64(e.count) || next.count > math.MaxUint32-e.count {
				break
			}
			e.count += next.count
		}
		at, length, err := f.v.blockAt(e)
		skip := int64(rest)*f.v.block + off%f.v.block
		return at + skip, length - skip, err
	}
	return 0, 0, f.tooShort()
}

// contiguous returns how many bytes, up to most, one read of the source gets.
func (f *fork) contiguous(off, most int64) int64 {
	at, length, err := f.locate(off)
	if err != nil {
		return 0
	}
	return min(length, f.v.end-at, f.Size()-off, most)
}

func (f *fork) tooShort() error {
	return formatError("fork", -1, "%d bytes, but not that many blocks", f.data.size)
}

// runOf finds extents that are not in the fork's own record.
func (f *fork) runOf(block uint32) (run, error) {
	if r := f.last.Load(); r != nil && r.has(block) {
		return *r, nil
	}
	if f.overflow == nil {
		return run{}, f.tooShort()
	}
	r, err := f.overflow(block)
	if err != nil {
		return run{}, err
	}
	if r.block < f.known || !r.has(block) {
		return run{}, f.tooShort()
	}
	// If another record had some of its blocks, what is read would depend on the
	// order of reads.
	last := uint32(min(uint64(r.block)+r.blocks()-1, math.MaxUint32))
	if other, err := f.overflow(last); err != nil {
		return run{}, err
	} else if other.block != r.block {
		return run{}, formatError("fork", -1, "two records have block %d", other.block)
	}
	f.last.Store(&r)
	return r, nil
}

func (r *run) has(block uint32) bool {
	return block >= r.block && uint64(block-r.block) < r.blocks()
}

func (r *run) blocks() (n uint64) {
	for _, e := range r.extents {
		n += uint64(e.count)
	}
	return n
}

// overflowOf returns what looks up extents of a fork in the extents overflow tree.
// Its key is the kind of fork, the file, and the first block (TN1150, "Extents
// Overflow File").
func (fsys *FS) overflowOf(kind uint8, id uint32) func(uint32) (run, error) {
	return func(block uint32) (run, error) {
		t, err := fsys.extentsTree()
		if err != nil {
			return run{}, err
		}
		key := extentsKey(kind, id, block)
		got, data, err := t.floor(key)
		if err != nil {
			return run{}, err
		}
		return extentsRun(key, got, data)
	}
}

func validExtentsKey(key []byte) bool { return len(key) >= 10 }

// compareExtents orders by file, fork, and block.
func compareExtents(a, b []byte) int {
	if c := bytes.Compare(a[2:6], b[2:6]); c != 0 {
		return c
	}
	if c := int(a[0]) - int(b[0]); c != 0 {
		return c
	}
	return bytes.Compare(a[6:10], b[6:10])
}

const (
	dataFork     = 0
	resourceFork = 0xFF
)

func extentsKey(kind uint8, id, block uint32) []byte {
	key := make([]byte, 10)
	key[0] = kind
	be.PutUint32(key[2:], id)
	be.PutUint32(key[6:], block)
	return key
}

// extentsRun decodes a record, if it is of the fork of the wanted key.
func extentsRun(want, key, data []byte) (run, error) {
	if key == nil || key[0] != want[0] || be.Uint32(key[2:]) != be.Uint32(want[2:]) || len(data) < 64 {
		return run{}, formatError("extents overflow tree", -1, "no record for block %d of file %d", be.Uint32(want[6:]), be.Uint32(want[2:]))
	}
	return run{be.Uint32(key[6:]), parseExtents(data)}, nil
}
