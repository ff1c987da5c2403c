package lzfse

import "encoding/binary"

// LZVN, the code of bvxn blocks, packs literals (L), match length (M) and
// distance (D) into byte codes; literals follow their code.
//
//	LLMMMDDD DDDDDDDD           small distance (high bits first), DDD < 6
//	101LLMMM DDDDDDMM DDDDDDDD  medium (low bits first)
//	LLMMM111 DDDDDDDD DDDDDDDD  large (low bits first)
//	LLMMM110                    the distance before, L > 0
//	1111MMMM                    match only, the distance before; M = 0: next byte + 16
//	1110LLLL                    literals only; L = 0: next byte + 16
//	00000110                    end, seven zero bytes follow
//	00001110, 00010110          nothing
//
// M counts from 3 in the first four. 0111xxxx, 1101xxxx and 00MMM110 with
// M > 2 are not used.

const (
	// maxCode is the longest code with its literals.
	maxCode = 2 + 15 + 256

	// endCodeLen is the length of the end code with its zeros.
	endCodeLen = 8
)

// lzvnCode is one code. A size of 0 means that its bytes are incomplete.
type lzvnCode struct {
	size    int // without literals
	l, m, d int // d 0: the distance before
	end     bool
	bad     bool
}

// lzvn decodes codes until limit is reached or passed, or the block ends. A code
// is decoded in one piece.
func (z *Reader) lzvn(limit int) error {
	for z.wr < limit {
		// A failing source still leaves the codes that came before.
		need := int(min(maxCode, z.blk.packLeft))
		inputErr := z.in.fill(need)
		b := z.in.bytes()
		b = b[:min(int64(len(b)), z.blk.packLeft)]
		c := parseCode(b)
		switch {
		case c.bad:
			return z.corrupt("code that is not in use")
		case c.size > 0 && c.size+c.l <= len(b):
		case inputErr != nil:
			return inputErr
		default:
			return z.corrupt("code runs past the end of its block")
		}
		if c.end {
			return z.endLZVN(b)
		}
		if msg := z.lzvnCopy(c, b[c.size:c.size+c.l]); msg != "" {
			return z.corrupt(msg)
		}
		z.in.rd += c.size + c.l
		z.blk.packLeft -= int64(c.size + c.l)
	}
	return nil
}

// parseCode decodes the code that b starts with.
func parseCode(b []byte) lzvnCode {
	if len(b) == 0 {
		return lzvnCode{}
	}
	op := int(b[0])
	switch {
	case op >= 0xE0:
		return parseRun(b)
	case op>>4 == 0x7 || op>>4 == 0xD:
		return lzvnCode{bad: true}
	case op>>5 == 0b101:
		if len(b) < 3 {
			return lzvnCode{}
		}
		d := int(b[1]>>2) | int(b[2])<<6
		return lzvnCode{size: 3, l: op >> 3 & 3, m: op&7<<2 | int(b[1]&3) + 3, d: d, bad: d == 0}
	}
	c := lzvnCode{size: 1, l: op >> 6, m: op>>3&7 + 3}
	switch low := op & 7; {
	case low == 6:
		if c.l == 0 {
			return parseSpecial(op, b)
		}
		return c
	case low == 7 && len(b) >= 3:
		c.size, c.d = 3, int(binary.LittleEndian.Uint16(b[1:]))
	case low < 6 && len(b) >= 2:
		c.size, c.d = 2, low<<8|int(b[1])
	default:
		return lzvnCode{}
	}
	c.bad = c.d == 0
	return c
}

// parseRun decodes 111xxxxx: literals or a match, not both.
func parseRun(b []byte) lzvnCode {
	size, n := 1, int(b[0]&15)
	if n == 0 {
		if len(b) < 2 {
			return lzvnCode{}
		}
		size, n = 2, int(b[1])+16
	}
	if b[0] >= 0xF0 {
		return lzvnCode{size: size, m: n}
	}
	return lzvnCode{size: size, l: n}
}

// parseSpecial decodes 00MMM110, where no distance goes with no literals.
func parseSpecial(op int, b []byte) lzvnCode {
	switch op {
	case 0x06:
		if len(b) < endCodeLen {
			return lzvnCode{}
		}
		return lzvnCode{size: endCodeLen, end: true}
	case 0x0E, 0x16:
		return lzvnCode{size: 1}
	}
	return lzvnCode{bad: true}
}

// lzvnCopy carries a code out. It tells what is wrong with it, "" if nothing is.
func (z *Reader) lzvnCopy(c lzvnCode, literals []byte) string {
	if int64(c.l+c.m) > z.blk.rawLeft {
		return "block decodes to more than its size"
	}
	if c.d != 0 {
		z.blk.prev = c.d
	}
	dist := z.blk.prev
	if c.m > 0 && uint(dist-1) >= uint(z.wr+c.l) {
		return "match reaches back before the start"
	}
	out := z.mem.out[:z.wr+c.l+c.m]
	copy(out[z.wr:], literals)
	if c.m > 0 {
		copyMatch(out, z.wr+c.l, dist)
	}
	z.wr = len(out)
	z.blk.rawLeft -= int64(c.l + c.m)
	return ""
}

// endLZVN checks the end code, at the start of b, and leaves the block.
func (z *Reader) endLZVN(b []byte) error {
	switch {
	case z.blk.rawLeft != 0:
		return z.corrupt("block decodes to less than its size")
	case z.blk.packLeft != endCodeLen || binary.LittleEndian.Uint64(b) != 0x06:
		return z.corrupt("end code before the end of its block")
	}
	z.in.rd += endCodeLen
	z.blk.kind = betweenBlocks
	return nil
}
