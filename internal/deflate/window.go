package deflate

import (
	"encoding/binary"
	"math/bits"
	"slices"
)

// MaxPackedWindow is the most bytes a packed window has.
const MaxPackedWindow = WindowSize + 16

// A packed window is its length as a uvarint, then runs: how many bytes to
// leave zero, how many follow (uvarints), and these bytes. What is behind the
// last run is zero.
//
// minGap unwanted bytes and more end a run: two numbers cost as much as fewer.
const minGap = 3

// AppendPackedWindow appends window without the bytes that refs doesn't mark;
// with nil for refs, all of it. It allocates nothing if dst has
// MaxPackedWindow bytes of room.
//
// refs must be complete: from [Decoder.Refs] after Track at this window and
// WindowSize bytes of output, or all the output there is. Then the packed
// window stays enough wherever later checkpoints are kept or dropped: output
// further on than WindowSize can't refer to the window, so a checkpoint's
// window depends on the WindowSize bytes behind it and on nothing else. A
// checkpoint between two others may go as long as the spans are not shorter.
//
// In 80 MB of source code and binaries the output refers to a tenth of each
// window: 3.1 KB in 300 runs, whether the checkpoints are 64, 128 or 256 KiB
// apart. Measured for each window (on a busy machine):
//
//	full                    32768 B
//	full, Snappy            17100 B    74 µs
//	runs                     3750 B     5 µs
//	runs, Snappy             2700 B    13 µs
//	runs, Huffman (huff0)    2600 B    28 µs
//
// 64 KiB decode in 70 µs, so a second stage would cost 10 % and more of the
// first way through a stream, and a dependency or memory for its tables, for
// a quarter of the size.
func AppendPackedWindow(dst, window []byte, refs *Refs) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(window)))
	if refs == nil {
		return appendRun(dst, window, 0, 0, len(window))
	}
	dst = slices.Grow(dst, MaxPackedWindow)
	skip := WindowSize - len(window) // bits before the window's first byte
	done := skip
	for from := refs.next(skip, 0); from < WindowSize; {
		to := refs.next(from, ^uint64(0))
		next := refs.next(to, 0)
		for next < WindowSize && next-to < minGap {
			to = refs.next(next, ^uint64(0))
			next = refs.next(to, 0)
		}
		dst = appendRun(dst, window, done-skip, from-skip, to-skip)
		done, from = to, next
	}
	return dst
}

// appendRun appends the run window[from:to] after one that ended at done.
func appendRun(dst, window []byte, done, from, to int) []byte {
	gap, n := from-done, to-from
	if len(dst)+18 <= cap(dst) && gap < 0x80 && n <= 16 && from+16 <= len(window) {
		// The usual run: two short numbers, and a copy of constant length.
		i := len(dst)
		dst = dst[:i+18]
		dst[i], dst[i+1] = byte(gap), byte(n)
		copy(dst[i+2:][:16], window[from:][:16])
		return dst[:i+2+n]
	}
	dst = binary.AppendUvarint(dst, uint64(gap))
	dst = binary.AppendUvarint(dst, uint64(n))
	return append(dst, window[from:to]...)
}

// next is the first number from i on whose bit is set (flip 0) or clear (flip
// all ones), else WindowSize.
func (r *Refs) next(i int, flip uint64) int {
	for ; i < WindowSize; i = i&^63 + 64 {
		if w := (r[i/64] ^ flip) >> (i % 64); w != 0 {
			return i + bits.TrailingZeros64(w)
		}
	}
	return WindowSize
}

var zeros [16]byte

// unpackWindow makes dst the window that was packed, which must have been as
// long as dst. packed may be anything: what it says is checked against both.
func unpackWindow(dst, packed []byte) error {
	b := uvarints{p: packed}
	if n := b.next(WindowSize); b.bad || n != uint64(len(dst)) {
		return badCheckpoint("window of the wrong length")
	}
	clear(dst)
	for len(b.p) > 0 {
		// The usual run, as in appendRun.
		if p := b.p; len(p) >= 18 && p[0] < 0x80 && p[1] <= 16 && int(p[0])+32 <= len(dst) {
			gap, n := int(p[0]), int(p[1])
			copy(dst[gap:][:16], p[2:][:16])
			copy(dst[gap+n:][:16], zeros[:]) // what it wrote beyond the run
			dst, b.p = dst[gap+n:], p[2+n:]
			continue
		}
		gap := b.next(uint64(len(dst)))
		n := b.next(uint64(len(dst)) - gap)
		if b.bad || n > uint64(len(b.p)) {
			return badCheckpoint("packed window")
		}
		dst = dst[gap:]
		copy(dst, b.p[:n])
		dst, b.p = dst[n:], b.p[n:]
	}
	return nil
}
