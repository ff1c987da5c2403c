package hfsvol

import (
	"bytes"
	"encoding/binary"
)

// big appends numbers, all big-endian.
type big struct{ b []byte }

func (w *big) u8(v ...uint8)   { w.b = append(w.b, v...) }
func (w *big) u16(v ...uint16) { put(w, binary.BigEndian.AppendUint16, v) }
func (w *big) u32(v ...uint32) { put(w, binary.BigEndian.AppendUint32, v) }
func (w *big) u64(v ...uint64) { put(w, binary.BigEndian.AppendUint64, v) }
func (w *big) zero(n int)      { w.b = append(w.b, make([]byte, n)...) }
func (w *big) str(s string)    { w.b = append(w.b, s...) }

func put[T any](w *big, appendTo func([]byte, T) []byte, all []T) {
	for _, v := range all {
		w.b = appendTo(w.b, v)
	}
}

// gap is what free blocks have, and slack what follows a fork's end in its last
// block: a reader that shows either is wrong.
const (
	gap   = 0xEE
	slack = 0xA5
)

// A disk is the volume's blocks, given out from the front.
type disk struct {
	size  int // of a block
	bytes []byte
	used  []bool
}

// take gives out a block with some contents.
func (d *disk) take(p []byte) uint32 {
	b := uint32(len(d.used))
	d.bytes = append(d.bytes, p...)
	d.bytes = append(d.bytes, bytes.Repeat([]byte{slack}, d.size-len(p))...)
	d.used = append(d.used, true)
	return b
}

// skip leaves a block free.
func (d *disk) skip() {
	d.bytes = append(d.bytes, bytes.Repeat([]byte{gap}, d.size)...)
	d.used = append(d.used, false)
}

// A fork is where bytes have gone.
type fork struct {
	size    int
	blocks  uint32
	extents [][2]uint32
}

// store writes a fork, in extents of so many blocks: neighbours in the fork are not
// neighbours on the disk, and every second extent lies before the one that it
// follows. 0 means one extent.
func (d *disk) store(p []byte, extent int) fork {
	f := fork{size: len(p), blocks: uint32((len(p) + d.size - 1) / d.size)}
	if f.blocks == 0 {
		return f
	}
	if extent == 0 {
		extent = int(f.blocks)
	}
	var pieces [][]byte
	for n := extent * d.size; len(p) > 0; p = p[min(n, len(p)):] {
		pieces = append(pieces, p[:min(n, len(p))])
	}
	f.extents = make([][2]uint32, len(pieces))
	for i := range pieces {
		k := i ^ 1 // the second one first
		if k >= len(pieces) {
			k = i
		}
		start := uint32(len(d.used))
		for q := pieces[k]; len(q) > 0; q = q[min(d.size, len(q)):] {
			d.take(q[:min(d.size, len(q))])
		}
		f.extents[k] = [2]uint32{start, uint32(len(d.used)) - start}
		if len(pieces) > 1 {
			d.skip()
		}
	}
	return f
}

// fill writes a fork to blocks that were given out before.
func (d *disk) fill(p []byte, start uint32, blocks int) fork {
	if len(p) > blocks*d.size {
		panic("hfsvol: the catalog has no room")
	}
	copy(d.bytes[int(start)*d.size:], p)
	return fork{len(p), uint32(blocks), [][2]uint32{{start, uint32(blocks)}}}
}

// at is the offset on the disk of a byte of the fork.
func (f fork) at(off, size int) int {
	for _, e := range f.extents {
		n := int(e[1]) * size
		if off < n {
			return int(e[0])*size + off
		}
		off -= n
	}
	panic("hfsvol: offset past the fork")
}

// record appends the fork's first 80 bytes, as catalog and volume header have them.
func (w *big) fork(f fork) {
	w.u64(uint64(f.size))
	w.u32(0, f.blocks)
	w.extents(f.extents)
}

// extents appends the first eight extents.
func (w *big) extents(all [][2]uint32) {
	for i := range 8 {
		if i < len(all) {
			w.u32(all[i][0], all[i][1])
		} else {
			w.u32(0, 0)
		}
	}
}

// overflow calls f for each row of eight extents but the first, with the number of
// blocks before it.
func (f fork) overflow(give func(start uint32, extents [][2]uint32)) {
	start := uint32(0)
	for i, e := range f.extents {
		if i > 0 && i%8 == 0 {
			give(start, f.extents[i:min(i+8, len(f.extents))])
		}
		start += e[1]
	}
}
