// Package window packs the windows that checkpoints keep: of the output before a
// checkpoint, the bytes that later output copies. Decoders mark these in a [Refs] while
// they go on behind the checkpoint.
package window

import (
	"encoding/binary"
	"errors"
	"math/bits"
)

// Refs marks bytes of a window: bit i%64 of word i/64 stands for byte i. It is for
// windows of 64*len(Refs) bytes; the last byte of a window, however short, has the last
// number.
type Refs []uint64

// Mark marks bytes from to to-1. A match has a few words of them.
func (r Refs) Mark(from, to uint) {
	for from < to {
		n := min(to-from, 64-from%64)
		r[from/64] |= (1<<n - 1) << (from % 64)
		from += n
	}
}

// next is the first number from i on whose bit is set (flip 0) or clear (flip
// all ones), else the number of bits.
func (r Refs) next(i int, flip uint64) int {
	for ; i < 64*len(r); i = i&^63 + 64 {
		if w := (r[i/64] ^ flip) >> (i % 64); w != 0 {
			return i + bits.TrailingZeros64(w)
		}
	}
	return 64 * len(r)
}

// A packed window is its length as a uvarint, then runs: how many bytes to
// leave zero, how many follow (uvarints), and these bytes. What is behind the
// last run is zero.
//
// minGap unwanted bytes and more end a run: two numbers cost as much as fewer.
const minGap = 3

// Excess is how many bytes a packed window may have more than the window, of
// 256 KiB at most: a run of 16 KiB behind a gap of minGap costs a byte.
const Excess = 32

// wide is how many bytes Append copies for a short run.
const wide = 16

// Room is how much further on in a buffer than dst's end a window may begin that
// Append packs into that buffer: what is packed never gets at what is yet to be.
const Room = Excess + wide

// Append appends window without the bytes that refs doesn't mark; with nil for refs,
// all of it. It allocates nothing if dst has room for Excess bytes more than the window.
// The window may be a part of dst's free capacity, from Room bytes on.
func Append(dst, window []byte, refs Refs) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(window)))
	if refs == nil {
		return appendRun(dst, window, 0, 0, len(window))
	}
	size := 64 * len(refs)
	skip := size - len(window) // bits before the window's first byte
	done := skip
	for from := refs.next(skip, 0); from < size; {
		to := refs.next(from, ^uint64(0))
		next := refs.next(to, 0)
		for next < size && next-to < minGap {
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
	if len(dst)+2+wide <= cap(dst) && gap < 0x80 && n <= wide && from+wide <= len(window) {
		// The usual run: two short numbers, and a copy of constant length.
		i := len(dst)
		dst = dst[:i+2+wide]
		run := [wide]byte(window[from:])
		dst[i], dst[i+1] = byte(gap), byte(n)
		copy(dst[i+2:], run[:])
		return dst[:i+2+n]
	}
	dst = binary.AppendUvarint(dst, uint64(gap))
	dst = binary.AppendUvarint(dst, uint64(n))
	return append(dst, window[from:to]...)
}

// ErrPacked says that a packed window is none, or of another length.
var ErrPacked = errors.New("packed window")

var zeros [wide]byte

// Unpack makes dst the window that was packed, which must have been as long as dst.
// packed may be anything: what it says is checked against both. The error is ErrPacked.
func Unpack(dst, packed []byte) error {
	n, k := binary.Uvarint(packed)
	if k <= 0 || n != uint64(len(dst)) {
		return ErrPacked
	}
	clear(dst)
	for packed = packed[k:]; len(packed) > 0; {
		// The usual run, as in appendRun.
		if p := packed; len(p) >= 2+wide && p[0] < 0x80 && p[1] <= wide && int(p[0])+2*wide <= len(dst) {
			gap, n := int(p[0]), int(p[1])
			copy(dst[gap:][:wide], p[2:][:wide])
			copy(dst[gap+n:][:wide], zeros[:]) // what it wrote beyond the run
			dst, packed = dst[gap+n:], p[2+n:]
			continue
		}
		gap, g := binary.Uvarint(packed)
		n, k := binary.Uvarint(packed[max(g, 0):])
		if g <= 0 || k <= 0 || gap > uint64(len(dst)) || n > uint64(len(dst))-gap || n > uint64(len(packed)-g-k) {
			return ErrPacked
		}
		dst, packed = dst[gap:], packed[g+k:]
		copy(dst, packed[:n])
		dst, packed = dst[n:], packed[n:]
	}
	return nil
}
