package bzip2

import (
	"encoding/binary"
	"io"
	"math/bits"

	"github.com/go-dmg/dmg/internal/readat"
)

const (
	// inputLen is how far a Stream reads ahead of what it decodes: enough to
	// make calls of the source rare, little enough that a caller who wants
	// one block fetches few bytes after it.
	inputLen = 32 << 10

	// groupLen holds the longest group: 50 codes of 20 bits, and the bytes
	// that a refill looks at.
	groupLen = groupSize*maxCodeLen/8 + 16

	// padLen zeros stand after the last byte of the input, so that the hot
	// loop needs no second, careful version: it runs into the zeros and over
	// tells of it afterwards.
	padLen = 2 * groupLen
)

// bitReader hands out bits, most significant first. Its buffer is filled in
// large pieces; bits are taken from a 64-bit window that is topped up 8 bytes
// at a time.
type bitReader struct {
	src io.Reader
	err error // why src gave no more; zeros follow its last byte

	window uint64 // the coming bits, the first one on top
	n      uint   // how many of them are counted; those below look ahead
	pos    int    // the next byte of buf that the window does not count
	end    int    // the end of what buf holds, zeros included
	last   int    // the end of what src gave, valid once err is set
	off    int64  // how far buf[0] is from the start of the data

	buf [inputLen + padLen]byte
}

// reset starts reading at bit in of the data, the byte of which is the first
// that src delivers.
func (r *bitReader) reset(src io.Reader, in int64) {
	r.src, r.err = src, nil
	r.window, r.n = 0, 0
	r.pos, r.end, r.last = 0, 0, 0
	r.off = in >> 3
	r.take(uint(in & 7))
}

// in returns the offset in bits of the next bit.
func (r *bitReader) in() int64 {
	return (r.off+int64(r.pos))<<3 - int64(r.n)
}

// over reports whether bits were taken from beyond the last byte.
func (r *bitReader) over() bool {
	return r.err != nil && r.in() > (r.off+int64(r.last))<<3
}

// cause is the error to return where over is true: the source's own, and
// io.ErrUnexpectedEOF where the source has just ended.
func (r *bitReader) cause() error {
	if r.err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return r.err
}

// ensure makes n bytes ready in the buffer, n at most groupLen. Only a caller
// that ignores over can run out of zeros; it is then given the same ones
// again, so it must look at over before long.
func (r *bitReader) ensure(n int) {
	if r.end-r.pos >= n {
		return
	}
	kept := copy(r.buf[:], r.buf[r.pos:r.end])
	r.off += int64(r.pos)
	r.last -= r.pos
	r.pos, r.end = 0, kept
	if r.err == nil {
		r.fill(n)
	}
	if r.err != nil && r.end < n {
		clear(r.buf[r.end : r.end+padLen])
		r.end += padLen
	}
}

// fill reads until the buffer holds n bytes or the source ends or fails. It
// does not insist on a full buffer: a source may be slow to deliver.
func (r *bitReader) fill(n int) {
	for r.end < n {
		k, err := readat.Some(r.src, r.buf[r.end:inputLen])
		r.end += k
		if err != nil {
			r.err, r.last = err, r.end
			return
		}
	}
}

// refill tops the window up to 56 bits or more.
func (r *bitReader) refill() {
	r.ensure(8)
	r.window |= binary.BigEndian.Uint64(r.buf[r.pos:]) >> (r.n & 63)
	r.pos += int((63 - r.n) >> 3)
	r.n |= 56
}

// take returns the next n bits, n at most 32.
func (r *bitReader) take(n uint) uint32 {
	if r.n < n {
		r.refill()
	}
	v := r.window >> 1 >> ((63 - n) & 63)
	r.window <<= n & 63
	r.n -= n
	return uint32(v)
}

// ones returns the length of the coming run of one bits, at most limit, and
// takes the run and the zero bit after it; a run of limit bits has no zero bit
// after it taken. limit is at most 32.
func (r *bitReader) ones(limit int) int {
	if r.n < 33 {
		r.refill()
	}
	k := bits.LeadingZeros64(^r.window)
	if k >= limit {
		r.take(uint(limit))
		return limit
	}
	r.take(uint(k + 1))
	return k
}

// align moves to the next byte's first bit.
func (r *bitReader) align() {
	r.take(uint(-r.in() & 7))
}
