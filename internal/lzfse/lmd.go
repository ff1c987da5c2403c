package lzfse

import "encoding/binary"

// The matches of a bvx1 or bvx2 block are triples: copy L literals, then M bytes
// from D bytes back. D = 0 repeats the distance before.

const (
	maxL = 315  // 60 + 2^8 - 1
	maxM = 2359 // 312 + 2^11 - 1

	maxTriple = maxL + maxM

	// lmdPad zero bytes start the payload. Encoders put them there for
	// decoders that load whole words going backwards.
	lmdPad = 8

	// A triple takes up to 14 + 17 + 23 bits: 6, 6 and 8 for the states, 8, 11
	// and 15 extra. One refill of 57 bits or more serves it.
	maxLMDPayload = lmdPad + maxMatches*(14+17+23)/8
)

// lmdState is where decoding stands in a block's triples. The payload stays in
// the input, at its next byte, until all are decoded.
type lmdState struct {
	size     int // of the payload, bytes
	pos      int // bits of the payload still to read
	left     int // triples still to read
	lit      int // literals used
	literals int // literals there are
	l, m, d  uint32
}

// startLMD gets ready to decode the triples whose payload is next in the input, of a block
// whose header is at that offset.
func (z *Reader) startLMD(h *fseHeader, header int64) error {
	p := z.in.bytes()[:h.lmdBytes]
	if !unusedZero(p, int(h.lmdBits)) || binary.LittleEndian.Uint64(p) != 0 {
		return z.corrupt("no padding around the triples")
	}
	z.blk = block{kind: fseBlock, rawLeft: int64(h.raw), header: header, lmd: lmdState{
		size:     len(p),
		pos:      len(p)*8 + int(h.lmdBits),
		left:     int(h.matches),
		literals: int(h.literals),
		l:        uint32(h.l), m: uint32(h.m), d: uint32(h.d),
	}}
	return nil
}

// lmd decodes triples until limit is reached or passed, or the block ends. A
// triple is decoded in one piece: outputSlack leaves room for it.
//
// Decoding spends most of its time here, so the state lives in variables and
// copies write whole words beyond their ends, where later output will be.
func (z *Reader) lmd(limit int) error {
	s := &z.blk.lmd
	p := z.in.bytes()[:s.size]
	t := &z.mem.tables
	out, literals := &z.mem.out, &z.mem.literals
	pos, left, lit, wr := s.pos, s.left, s.lit, z.dst.Wr
	sl, sm, sd := s.l, s.m, s.d
	raw, dist, low := int(z.blk.rawLeft), z.blk.prev, z.dst.Low()
	fault := ""

	for left > 0 && wr < limit {
		if pos < lmdPad*8 {
			fault = "more triples than bits"
			break
		}
		end := (pos + 7) >> 3
		w := binary.LittleEndian.Uint64(p[end-8:])
		// The bits still to read are below bit n of w.
		n := uint(pos-end<<3) + 64
		start := n

		e := t.l[sl%lStates]
		n -= uint(e & 0xFF)
		v := w >> (n & 63) & (1<<(e&63) - 1)
		x := e >> 8 & 63
		sl = uint32(e>>16&0xFFFF) + uint32(v>>x)
		l := int(e>>32) + int(v&(1<<x-1))

		e = t.m[sm%mStates]
		n -= uint(e & 0xFF)
		v = w >> (n & 63) & (1<<(e&63) - 1)
		x = e >> 8 & 63
		sm = uint32(e>>16&0xFFFF) + uint32(v>>x)
		m := int(e>>32) + int(v&(1<<x-1))

		e = t.d[sd%dStates]
		n -= uint(e & 0xFF)
		v = w >> (n & 63) & (1<<(e&63) - 1)
		x = e >> 8 & 63
		sd = uint32(e>>16&0xFFFF) + uint32(v>>x)
		if d := int(e>>32) + int(v&(1<<x-1)); d != 0 {
			dist = d
		}
		pos -= int(start - n)

		if l > s.literals-lit {
			fault = "more literals used than there are"
			break
		}
		if l+m > raw {
			fault = "block decodes to more than its size"
			break
		}
		if uint(dist-1) >= uint(wr+l-low) {
			if uint(dist-1) >= uint(wr+l) {
				fault = "match reaches back before the start"
				break
			}
			z.dst.Refer(wr+l-dist, m)
		}
		left--
		raw -= l + m

		*(*[16]byte)(out[wr:]) = [16]byte(literals[lit:])
		if l > 16 {
			copy(out[wr+16:wr+l], literals[lit+16:])
		}
		wr += l
		lit += l

		if dist >= 16 && m <= 32 {
			// The second half may need what the first one writes.
			*(*[16]byte)(out[wr:]) = [16]byte(out[wr-dist:])
			*(*[16]byte)(out[wr+16:]) = [16]byte(out[wr-dist+16:])
		} else {
			copyMatch(out[:wr+m], wr, dist)
		}
		wr += m
	}

	s.pos, s.left, s.lit, z.dst.Wr = pos, left, lit, wr
	s.l, s.m, s.d = sl, sm, sd
	z.blk.rawLeft, z.blk.prev = int64(raw), dist
	if fault != "" {
		return z.corrupt(fault)
	}
	if left == 0 {
		return z.endLMD()
	}
	return nil
}

// endLMD checks that a block ends where its header says and leaves it.
func (z *Reader) endLMD() error {
	switch s := &z.blk.lmd; {
	case z.blk.rawLeft != 0:
		return z.corrupt("block decodes to less than its size")
	case s.pos != lmdPad*8:
		return z.corrupt("triples don't match their payload")
	}
	z.in.rd += z.blk.lmd.size
	z.blk.kind = betweenBlocks
	return nil
}

// copyMatch fills out[at:] from dist bytes back. Where the match overlaps
// itself, each round copies all there is of the pattern and so doubles it.
func copyMatch(out []byte, at, dist int) {
	for from := at - dist; at < len(out); {
		at += copy(out[at:], out[from:at])
	}
}
