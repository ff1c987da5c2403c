package deflate

import (
	"encoding/binary"
	"math/bits"
)

// BlockHeaderLen bytes hold any block's header that begins in their first byte.
const BlockHeaderLen = headerIn

// findStride is how far FindBlock looks for one kind of block before it looks for
// the other, in bits.
const findStride = 8 << 10

// FindBlock looks for the start of a block at the bits from from on and before to
// of p, and returns the offset in bits of the first. Only a decoder can tell whether
// a block does begin there:
//
//   - A block with codes of its own is found by its header. In other data one in
//     some 10^10 bits looks like one.
//   - A stored block is found by its length and the complement behind that. The
//     bits between its type and the next byte must be zero, as encoders write them;
//     one that is not final is taken to have none, since they are not to be told
//     from the type. In other data there is one such place in some 200 KB.
//   - A block with the fixed codes has nothing to be found by.
//
// A header that goes on behind p isn't found: a search through pieces of a stream
// has the next piece begin where this one's to was, BlockHeaderLen bytes or more
// before its end.
func FindBlock(p []byte, from, to int) (bit int, ok bool) {
	from, to = max(from, 0), min(to, len(p)*8)
	for from < to {
		next := min(to, from+findStride)
		bit = findDynamic(p, from, next)
		if bit = findStored(p, from, bit); bit < next {
			return bit, true
		}
		from = next
	}
	return 0, false
}

// findStored looks for the header of a stored block, and returns to if there is
// none before that bit. For each place of a length there may be two headers, since
// the number of zero bits before it is open: one of a final block, with its last
// one bit, and one of a block that is not final, as late as that can begin.
func findStored(p []byte, from, to int) int {
	for i := max(1, (from+3+7)/8); i*8-10 < to && i+4 <= len(p); i++ {
		v := binary.LittleEndian.Uint32(p[i:])
		if uint16(v)^uint16(v>>16) != 0xFFFF {
			continue
		}
		before := uint(p[i-1]) << 8
		if i > 1 {
			before |= uint(p[i-2])
		}
		if before>>14 != 0 {
			continue
		}
		n := bits.Len(before)
		if bit := i*8 - 17 + n; n >= 7 && bit >= from {
			return min(bit, to)
		}
		if bit := i*8 - 3; n < 14 && bit >= from {
			return min(bit, to)
		}
	}
	return to
}

// clenKraft is the sum of 2^(7-n) over four code lengths n of three bits, but for
// those that are zero. The lengths of a complete code have a sum of 2^7; the sums
// here, and theirs, are modulo 2^8, so that the table is small.
var clenKraft = makeClenKraft()

func makeClenKraft() *[1 << 12]uint8 {
	t := new([1 << 12]uint8)
	for v := range t {
		for i := 0; i < 12; i += 3 {
			if n := v >> i & 7; n > 0 {
				t[v] += 1 << (clenBits - n)
			}
		}
	}
	return t
}

const (
	lookLit   = 3  // where in a header the number of literal/length codes stands,
	lookDist  = 8  // that of distance codes, five bits each,
	lookClen  = 13 // that of code-length codes, four bits,
	lookClens = 17 // and where their lengths begin

	// lookStep is how many places a word of 64 bits shows, up to the lengths.
	lookStep = 64 - lookClens + 1
)

// findDynamic looks for the header of a block with codes of its own, and returns to
// if there is none before that bit. One bit in five has the right type behind it and
// possible numbers of codes, which is told for many bits at a time. Of those places
// one in some hundred has a complete code for code lengths. There the whole header
// is looked at.
func findDynamic(p []byte, from, to int) int {
	for i := from >> 3; i*8 < to; i += lookStep / 8 {
		w := peekBits(p, i*8)
		// The type is 2, and the numbers, less their bases, are not 30 or 31.
		places := ^(w >> 1) & (w >> 2)
		places &^= w >> (lookLit + 1) & (w >> (lookLit + 2)) & (w >> (lookLit + 3)) & (w >> (lookLit + 4))
		places &^= w >> (lookDist + 1) & (w >> (lookDist + 2)) & (w >> (lookDist + 3)) & (w >> (lookDist + 4))
		places &= 1<<lookStep - 1
		if first := from - i*8; first > 0 {
			places &^= 1<<first - 1
		}
		if i*8+lookStep+lookClens+64 > len(p)*8 || i*8+lookStep > to {
			for ; places != 0; places &= places - 1 {
				bit := i*8 + bits.TrailingZeros64(places)
				if bit >= to {
					return to
				}
				if isDynamic(p, bit) {
					return bit
				}
			}
			continue
		}
		for ; places != 0; places &= places - 1 {
			k := bits.TrailingZeros64(places)
			n := w>>(k+lookClen)&15 + 4
			at := i*8 + k + lookClens
			v := binary.LittleEndian.Uint64(p[at>>3:]) >> (at & 7) & (1<<(3*n&63) - 1)
			kraft := clenKraft[v&0xFFF] + clenKraft[v>>12&0xFFF] + clenKraft[v>>24&0xFFF] +
				clenKraft[v>>36&0xFFF] + clenKraft[v>>48&0xFFF]
			if kraft == 1<<clenBits && isDynamic(p, i*8+k) {
				return i*8 + k
			}
		}
	}
	return to
}

// peekBits returns at least 57 bits of p from a bit on, zeros behind p's end.
func peekBits(p []byte, bit int) uint64 {
	i := bit >> 3
	if i+8 <= len(p) {
		return binary.LittleEndian.Uint64(p[i:]) >> (bit & 7)
	}
	var w [8]byte
	if i < len(p) {
		copy(w[:], p[i:])
	}
	return binary.LittleEndian.Uint64(w[:]) >> (bit & 7)
}

// isDynamic reports whether the header at a bit, whose first numbers are in their
// range, has codes that Decoder.dynamicTables takes.
func isDynamic(p []byte, bit int) bool {
	w := peekBits(p, bit+lookLit)
	nlit, ndist, nclen := int(w&31)+257, int(w>>5&31)+1, int(w>>10&15)+4
	w = peekBits(p, bit+lookClens)
	var clen [maxClen]byte
	for _, sym := range clenOrder[:nclen] {
		clen[sym] = byte(w & 7)
		w >>= 3
	}
	var b builder
	if !b.build(b.clen[:], clenBits, clen[:], clenSymbols[:], true) {
		return false
	}
	// Most are found out by a few lengths, which claim more codes than there are.
	lit, dist := codeSum{}, codeSum{}
	end, last := false, uint32(0)
	bit += lookClens + 3*nclen
	for i := 0; i < nlit+ndist; {
		w := peekBits(p, bit)
		e := b.clen[w&(1<<clenBits-1)]
		bit += int(e & entryDrop)
		n := 1
		if sym := e >> entryBase; sym < 16 {
			last = sym
		} else {
			r := clenRepeats[sym-16]
			n = int(w>>(e&entryDrop)&(1<<r.extra-1)) + int(r.base)
			bit += int(r.extra)
			if n > nlit+ndist-i || sym == 16 && i == 0 {
				return false
			}
			if sym > 16 {
				last = 0
			}
		}
		if last > 0 {
			k := max(0, min(n, nlit-i))
			end = end || i <= 256 && i+n > 256
			if !lit.add(k, last) || !dist.add(n-k, last) {
				return false
			}
		}
		i += n
	}
	return bit <= len(p)*8 && end && lit.isCode() && dist.isCode()
}

// A codeSum is what tells whether a code is one: how many lengths it has that are
// not zero, and what share of all codes these take, in 2^-15.
type codeSum struct{ used, share int }

// add adds a length so many times, and reports whether there are as many codes.
func (c *codeSum) add(times int, length uint32) bool {
	c.used += times
	c.share += times << (maxBits - length)
	return c.share <= 1<<maxBits
}

// isCode reports whether builder.build takes the code: a complete one, none, or one
// of a single bit.
func (c *codeSum) isCode() bool {
	return c.share == 1<<maxBits || c.used == 0 || c.used == 1 && c.share == 1<<(maxBits-1)
}
