package lzfse

import (
	"encoding/binary"
	"io"
)

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
	// maxCode is the longest code with its literals. Its output is shorter
	// than maxTriple, so outputSlack covers it.
	maxCode = 2 + 15 + 256

	// endCodeLen is the length of the end code with its zeros.
	endCodeLen = 8
)

// codeKind tells codes apart by what is still to be read after the first byte.
type codeKind uint8

const (
	unusedCode codeKind = iota
	smallCode
	mediumCode
	largeCode
	plainCode // nothing
	longMatchCode
	longLiteralsCode
	endCode
)

// A lzvnCode is what the first byte of a code says: how long the code is without
// its literals, and the lengths of literals and match as far as known.
type lzvnCode struct {
	kind       codeKind
	size, l, m uint8
}

var lzvnCodes = makeLZVNCodes()

func makeLZVNCodes() (t [256]lzvnCode) {
	for op := range t {
		t[op] = makeLZVNCode(op)
	}
	return t
}

func makeLZVNCode(op int) lzvnCode {
	n := uint8(op & 15)
	l, m := uint8(op>>6), uint8(op>>3&7+3)
	switch {
	case op == 0xF0:
		return lzvnCode{kind: longMatchCode, size: 2}
	case op > 0xF0:
		return lzvnCode{kind: plainCode, size: 1, m: n}
	case op == 0xE0:
		return lzvnCode{kind: longLiteralsCode, size: 2}
	case op > 0xE0:
		return lzvnCode{kind: plainCode, size: 1, l: n}
	case op>>4 == 0x7 || op>>4 == 0xD:
		return lzvnCode{}
	case op>>5 == 0b101:
		return lzvnCode{kind: mediumCode, size: 3, l: uint8(op >> 3 & 3), m: uint8(op&7<<2 + 3)}
	case op == 0x06:
		return lzvnCode{kind: endCode, size: endCodeLen}
	case op == 0x0E || op == 0x16:
		return lzvnCode{kind: plainCode, size: 1}
	case op&7 == 6 && l == 0:
		return lzvnCode{}
	case op&7 == 6:
		return lzvnCode{kind: plainCode, size: 1, l: l, m: m}
	case op&7 == 7:
		return lzvnCode{kind: largeCode, size: 3, l: l, m: m}
	}
	return lzvnCode{kind: smallCode, size: 2, l: l, m: m}
}

// lzvn fetches input if less than a code is buffered and decodes codes until
// limit is reached or passed, they run out, or the block ends.
func (z *Reader) lzvn(limit int) error {
	// A failing source still leaves the codes that came before.
	inputErr := z.in.fill(int(min(maxCode, z.blk.packLeft)))
	b := z.in.bytes()
	b = b[:min(int64(len(b)), z.blk.packLeft)]
	used, end, fault := z.codes(b, limit)
	z.in.rd += used
	z.blk.packLeft -= int64(used)
	switch {
	case fault != "":
		return z.corrupt(fault)
	case end:
		return z.endLZVN(b[used:])
	case used > 0:
		return nil
	case inputErr != nil:
		return inputErr
	}
	return z.corrupt("code runs past the end of its block")
}

// codes decodes the complete codes in b. It tells how many bytes they take,
// whether the end code is next, and what is wrong with the next one, "" if
// nothing is. A code is decoded in one piece.
//
// This is the hot loop of bvxn blocks; it copies like the one over the triples.
func (z *Reader) codes(b []byte, limit int) (used int, end bool, fault string) {
	rest, out := b, &z.mem.out
	wr, dist, raw, low := z.dst.Wr, z.blk.prev, z.blk.rawLeft, z.dst.Low()
loop:
	for len(rest) > 0 && wr < limit {
		c := lzvnCodes[rest[0]]
		size, l, m, d := int(c.size), int(c.l), int(c.m), dist
		if len(rest) < size {
			break
		}
		switch c.kind {
		case smallCode:
			d = int(rest[0]&7)<<8 | int(rest[1])
		case mediumCode:
			m += int(rest[1] & 3)
			d = int(rest[1]>>2) | int(rest[2])<<6
		case largeCode:
			d = int(rest[1]) | int(rest[2])<<8
		case longMatchCode:
			m = int(rest[1]) + 16
		case longLiteralsCode:
			l = int(rest[1]) + 16
		case endCode:
			end = true
			break loop
		case unusedCode:
			fault = "code that is not in use"
			break loop
		}
		if len(rest) < size+l {
			break
		}
		if int64(l+m) > raw {
			fault = "block decodes to more than its size"
			break
		}
		if m > 0 && uint(d-1) >= uint(wr+l-low) {
			if uint(d-1) >= uint(wr+l) {
				fault = "match reaches back before the start"
				break
			}
			z.dst.Refer(wr+l-d, m)
		}
		if l <= 16 && len(rest) >= size+16 {
			*(*[16]byte)(out[wr:]) = [16]byte(rest[size:])
		} else {
			copy(out[wr:wr+l], rest[size:])
		}
		wr += l
		if m <= 16 && d >= 16 {
			*(*[16]byte)(out[wr:]) = [16]byte(out[wr-d:])
		} else {
			copyMatch(out[:wr+m], wr, d)
		}
		wr += m
		raw -= int64(l + m)
		dist = d
		rest = rest[size+l:]
	}
	z.dst.Wr, z.blk.prev, z.blk.rawLeft = wr, dist, raw
	return len(b) - len(rest), end, fault
}

// endLZVN checks the end code, which b starts with, and leaves the block.
func (z *Reader) endLZVN(b []byte) error {
	switch {
	case z.blk.rawLeft != 0:
		return z.corrupt("block decodes to less than its size")
	case binary.LittleEndian.Uint64(b) != 0x06:
		return z.corrupt("end code without its zeros")
	case z.blk.bare:
		return io.EOF
	case z.blk.packLeft != endCodeLen:
		return z.corrupt("end code before the end of its block")
	}
	z.in.rd += endCodeLen
	z.blk.kind = betweenBlocks
	return nil
}
