package xz

import (
	"encoding/binary"
	"math/bits"
)

// rangeCodeLen is how many bytes a range code begins with.
const rangeCodeLen = 5

// notZero is what a CorruptError says of a range code that does not begin as the
// encoder's carry has it begin: with a zero byte, which XZ Utils insist on too.
const notZero = "LZMA2 chunk that does not begin with a zero byte"

// topValue is what the range must be for one more bit.
const topValue = 1 << 24

// rangeCode is the state of the range coder between two calls of run. While it
// runs the numbers are local variables, which the compiler keeps in registers:
// what else reads bits takes them as arguments and returns them.
type rangeCode struct{ rng, code uint32 }

// newRangeCode begins at p, the first byte of which is zero.
func newRangeCode(p []byte) rangeCode {
	return rangeCode{1<<32 - 1, binary.BigEndian.Uint32(p[1:])}
}

// finished reports whether the range code is at its end, and all of it was read.
func (z *Reader) finished() bool {
	c := &z.chunk
	if c.code.rng < topValue {
		c.code.code = c.code.code<<8 | uint32(z.in.buf[z.in.rd&inputMask])
		z.in.rd++
	}
	return c.code.code == 0 && z.in.rd == c.end
}

// bit reads a bit.
func (in *input) bit(prob *uint16, rng, code uint32, pos uint) (bit, _, _ uint32, _ uint) {
	if rng < topValue {
		rng <<= 8
		code = code<<8 | uint32(in.buf[pos&inputMask])
		pos++
	}
	p := uint32(*prob)
	bound := rng >> probBits * p
	if code < bound {
		*prob = uint16(p + (1<<probBits-p)>>moveBits)
		return 0, bound, code, pos
	}
	*prob = uint16(p - p>>moveBits)
	return 1, rng - bound, code - bound, pos
}

// tree reads n bits, the first of them the highest.
func (in *input) tree(probs []uint16, n uint, rng, code uint32, pos uint) (v, _, _ uint32, _ uint) {
	m := uint32(1)
	for range n {
		if rng < topValue {
			rng <<= 8
			code = code<<8 | uint32(in.buf[pos&inputMask])
			pos++
		}
		p := uint32(probs[m])
		bound := rng >> probBits * p
		if code < bound {
			probs[m] = uint16(p + (1<<probBits-p)>>moveBits)
			rng = bound
			m <<= 1
		} else {
			probs[m] = uint16(p - p>>moveBits)
			rng -= bound
			code -= bound
			m = m<<1 | 1
		}
	}
	return m - 1<<n, rng, code, pos
}

// reverse reads n bits, the first of them the lowest.
func (in *input) reverse(probs []uint16, n uint, rng, code uint32, pos uint) (v, _, _ uint32, _ uint) {
	v, rng, code, pos = in.tree(probs, n, rng, code, pos)
	return bits.Reverse32(v) >> (32 - n), rng, code, pos
}

// direct reads n bits without a model, the first of them the highest.
func (in *input) direct(n uint, rng, code uint32, pos uint) (v, _, _ uint32, _ uint) {
	for range n {
		if rng < topValue {
			rng <<= 8
			code = code<<8 | uint32(in.buf[pos&inputMask])
			pos++
		}
		rng >>= 1
		code -= rng
		t := uint32(int32(code) >> 31) // all ones for a 0
		code += rng & t
		v = v<<1 + t + 1
	}
	return v, rng, code, pos
}
