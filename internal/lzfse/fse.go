package lzfse

import (
	"encoding/binary"
	"math/bits"
)

// Finite state entropy coding, the format's way: each of the four alphabets has
// a fixed number of states, a power of two, shared out among its symbols by
// their frequencies and in their order. A symbol with frequency f owns f
// neighbouring states. To decode is to look the state up, which gives the
// symbol, and to read just as many bits as bring the state back into range.
//
// Encoders work from the last symbol to the first, so a decoder reads its
// payload backwards, from the highest bit of the last byte down.

const (
	literalStates, literalSymbols = 1024, 256
	lStates, lSymbols             = 64, 20  // literal run lengths
	mStates, mSymbols             = 64, 20  // match lengths
	dStates, dSymbols             = 256, 64 // distances

	// A header lists the frequencies in this order: L, M, D, literals.
	numFreqs = lSymbols + mSymbols + dSymbols + literalSymbols

	// A symbol takes 10 bits at most: all states but one are someone else's.
	maxLiteralPayload = maxLiterals * 10 / 8

	// literalSize allows for wide copies from the end of the literals.
	literalSize = maxLiterals + copyOver

	tableSize = literalStates*4 + (lStates+mStates+dStates)*8 + numFreqs*2
)

// literalEntry is what a literal decoder does in one state: bits 0–7 say how
// many bits to read, 8–15 are the symbol, 16–31 are added to the bits read and
// give the next state.
type literalEntry uint32

// valueEntry is the same for a decoder of L, M or D, whose symbols stand for a
// range of values: bits 0–7 count the bits to read for the state and the value
// together, 8–15 those of the value (the lower ones), 16–31 are the next state
// less the bits read, 32–63 the value less the bits read.
type valueEntry uint64

type tables struct {
	literal [literalStates]literalEntry
	l       [lStates]valueEntry
	m       [mStates]valueEntry
	d       [dStates]valueEntry
	freq    [numFreqs]uint16
}

// Extra bits of the L, M and D symbols. A symbol's range of values starts where
// the one before it ends.
var (
	lExtra = [lSymbols]uint8{16: 2, 3, 5, 8}
	mExtra = [mSymbols]uint8{16: 3, 5, 8, 11}
)

// dExtra is the same for distances: four symbols for each number of bits.
func dExtra(symbol int) uint8 { return uint8(symbol / 4) }

// unpackFreqs reads the frequencies of a bvx2 header, a prefix code from the
// lowest bit up:
//
//	00 → 0   10 → 1   001 → 2   101 → 3   xx011 → 4…7
//	xxxx0111 → 8…23   xxxxxxxxxx1111 → 24…1047
//
// It reports whether they fill p but for less than a byte.
func unpackFreqs(freq *[numFreqs]uint16, p []byte) bool {
	var acc uint64
	var n, used uint
	for i := range freq {
		for n < 14 && len(p) > 0 {
			acc |= uint64(p[0]) << n
			n += 8
			p = p[1:]
		}
		freq[i], used = unpackFreq(uint32(acc))
		if used > n {
			return false
		}
		acc >>= used
		n -= used
	}
	return len(p) == 0 && n < 8
}

// unpackFreq decodes one frequency and tells how many bits it took.
func unpackFreq(v uint32) (freq uint16, used uint) {
	switch bits.TrailingZeros32(^v) {
	case 0:
		return uint16(v >> 1 & 1), 2
	case 1:
		return uint16(2 + v>>2&1), 3
	case 2:
		return uint16(4 + v>>3&3), 5
	case 3:
		return uint16(8 + v>>4&15), 8
	}
	return uint16(24 + v>>4&1023), 14
}

// build makes the decoding tables that the header's block needs from freq. It
// tells what is wrong, "" if nothing is. Blocks without literals or matches are
// free to leave the tables of those as they were.
func (t *tables) build(h *fseHeader) string {
	f := t.freq[:]
	l, f := f[:lSymbols], f[lSymbols:]
	m, f := f[:mSymbols], f[mSymbols:]
	d, f := f[:dSymbols], f[dSymbols:]
	if sum(l) != lStates || sum(m) != mStates || sum(d) != dStates || sum(f) != literalStates {
		return "frequencies don't add up to the number of states"
	}
	if h.literals > 0 {
		t.buildLiteral(f)
	}
	if h.matches > 0 {
		buildValue(t.l[:], l, func(s int) uint8 { return lExtra[s] })
		buildValue(t.m[:], m, func(s int) uint8 { return mExtra[s] })
		buildValue(t.d[:], d, dExtra)
	}
	return ""
}

// sum adds frequencies up; no sum of 256 16-bit numbers overflows.
func sum(freq []uint16) (n uint32) {
	for _, f := range freq {
		n += uint32(f)
	}
	return n
}

func (t *tables) buildLiteral(freq []uint16) {
	at := 0
	for symbol, f := range freq {
		for x := int(f); x < 2*int(f); x++ {
			k, next := transition(x, literalStates)
			t.literal[at] = literalEntry(k | symbol<<8 | next<<16)
			at++
		}
	}
}

func buildValue(table []valueEntry, freq []uint16, extra func(int) uint8) {
	at, base := 0, valueEntry(0)
	for symbol, f := range freq {
		e := int(extra(symbol))
		for x := int(f); x < 2*int(f); x++ {
			k, next := transition(x, len(table))
			table[at] = valueEntry(k+e|e<<8|next<<16) | base<<32
			at++
		}
		base += 1 << e
	}
}

// transition tells how many bits, k, bring x back into states…2*states-1, and
// the lowest state they lead to. States are counted from 0, so what is called
// state s elsewhere is states+s here; x runs from f to 2f-1.
func transition(x, states int) (k, next int) {
	k = bits.Len(uint(states)) - bits.Len(uint(x))
	return k, x<<k - states
}

// literals decodes the literals of a block into mem.literals from the payload
// that is next in the input. It reports whether they take up all of it.
//
// Four decoders take turns on one stream of bits, so a single refill (at least
// 57 bits) serves a round of four (at most 40). This loop and the one over the
// triples are where an image's decoding time goes.
func (z *Reader) literals(h *fseHeader) bool {
	// The pad in front of the payload makes every load legal. Bit positions
	// count from the pad's start: 64 is the payload's first bit.
	p := z.in.buf[z.in.rd-inputPad : z.in.rd+int(h.litBytes)]
	pos := len(p)*8 + int(h.litBits)
	if !unusedZero(p, int(h.litBits)) {
		return false
	}
	t := &z.mem.tables.literal
	s0, s1, s2, s3 := uint32(h.lit[0]), uint32(h.lit[1]), uint32(h.lit[2]), uint32(h.lit[3])
	dst := z.mem.literals[:h.literals]
	for ; len(dst) >= 4; dst = dst[4:] {
		if pos < 64 {
			return false
		}
		end := (pos + 7) >> 3
		w := binary.LittleEndian.Uint64(p[end-8:])
		// The bits still to read are below bit n of w.
		n := uint(pos-end<<3) + 64
		start := n
		e0, e1, e2, e3 := t[s0%literalStates], t[s1%literalStates], t[s2%literalStates], t[s3%literalStates]
		n -= uint(e0 & 0xFF)
		s0 = uint32(e0>>16) + uint32(w>>(n&63))&(1<<(e0&31)-1)
		n -= uint(e1 & 0xFF)
		s1 = uint32(e1>>16) + uint32(w>>(n&63))&(1<<(e1&31)-1)
		n -= uint(e2 & 0xFF)
		s2 = uint32(e2>>16) + uint32(w>>(n&63))&(1<<(e2&31)-1)
		n -= uint(e3 & 0xFF)
		s3 = uint32(e3>>16) + uint32(w>>(n&63))&(1<<(e3&31)-1)
		pos -= int(start - n)
		binary.LittleEndian.PutUint32(dst, uint32(e0>>8&0xFF|e1&0xFF00|e2<<8&0xFF0000|e3<<16&0xFF000000))
	}
	return pos == 64
}

// unusedZero reports whether the unused bits on top of p's last byte, -n of
// them, are zero.
func unusedZero(p []byte, n int) bool {
	return p[len(p)-1]>>(8+n) == 0 || n == 0
}
