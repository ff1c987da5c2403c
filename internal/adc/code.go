package adc

import (
	"encoding/binary"

	"github.com/go-dmg/dmg/internal/stream"
)

// maxCode is the longest code with its literals.
const maxCode = 1 + maxLiterals

// step fetches input if less than a code is buffered and decodes codes until
// limit is reached or passed, or they run out. A code is decoded in one piece:
// outputSlack leaves room for it.
func (z *Reader) step(limit int) error {
	if limit = z.dst.Until(limit); limit == z.dst.Wr {
		z.dst.Begin(stream.Record{In: z.in.offset()})
		return nil
	}
	// A failing source still leaves the codes that came before.
	inputErr := z.in.fill(maxCode)
	before := z.in.rd
	if msg := z.codes(limit); msg != "" {
		return &CorruptError{Offset: z.in.offset(), Msg: msg}
	}
	if z.in.rd == before {
		return inputErr
	}
	return nil
}

// codes decodes the buffered codes that are complete. It tells what is wrong
// with the one it stops at, "" if nothing is.
//
// This is the hot loop: the state lives in variables, and short copies write
// whole words beyond their ends, where later output will be.
func (z *Reader) codes(limit int) string {
	b, out := z.in.bytes(), &z.mem.out
	wr, low, fault := z.dst.Wr, z.dst.Low(), ""
	for len(b) > 0 && wr < limit {
		op := int(b[0])
		if op >= 0x80 {
			n := op&0x7F + 1
			if len(b) <= n {
				break
			}
			wr += copy(out[wr:wr+n], b[1:])
			b = b[1+n:]
			continue
		}
		size, n, dist := 2, op>>2+3, 0
		if op >= 0x40 {
			size, n = 3, op&0x3F+4
		}
		if len(b) < size {
			break
		}
		if size == 3 {
			dist = int(binary.BigEndian.Uint16(b[1:])) + 1
		} else {
			dist = op&3<<8 | int(b[1]) + 1
		}
		if dist > wr-low {
			if dist > wr {
				fault = "copy reaches back before the start"
				break
			}
			z.dst.Refer(wr-dist, n)
		}
		if dist >= 16 && n <= copyOver {
			// The second half may need what the first one writes.
			*(*[16]byte)(out[wr:]) = [16]byte(out[wr-dist:])
			*(*[16]byte)(out[wr+16:]) = [16]byte(out[wr-dist+16:])
		} else {
			copyMatch(out[:wr+n], wr, dist)
		}
		wr += n
		b = b[size:]
	}
	z.dst.Wr = wr
	z.in.rd = z.in.wr - len(b)
	return fault
}

// copyMatch fills out[at:] from dist bytes back. Where the copy overlaps
// itself, each round copies all there is of the pattern and so doubles it.
func copyMatch(out []byte, at, dist int) {
	for from := at - dist; at < len(out); {
		at += copy(out[at:], out[from:at])
	}
}
