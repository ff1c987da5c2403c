package xz

// copySlack is what copying writes behind its end.
const copySlack = 16

// decode decodes symbols into buf up to limit, and returns how far it got. One call
// of run decodes the symbols that can't go on behind the chunk's data, however long
// they are. The others are decoded one by one, and the output of one that does go on
// there is dropped: what lies in the input behind its end is of another chunk, or of
// another stream.
func (z *Reader) decode(limit int) (o int, err error) {
	o, err = z.run(z.dst.Wr, limit, max(0, z.chunk.end-maxSymbol))
	for o < limit && err == nil {
		from := o
		if z.model.length == 0 {
			o, err = z.run(from, from+1, z.chunk.end)
		} else {
			o += z.repeat(o, limit)
		}
		if z.in.rd > z.chunk.end {
			z.in.rd = z.chunk.end
			return from, z.endless()
		}
	}
	return o, err
}

// run decodes symbols into buf from o up to limit, as long as they begin at last in
// the input or before. It returns how far it got. It is the loop that takes the time,
// and one piece for the sake of registers. The branches that can't be foreseen are
// those of literals, so these have none.
func (z *Reader) run(o, limit, last int) (_ int, err error) {
	in, m, buf := &z.in, &z.model, z.dst.Buf
	rng, code, pos := z.chunk.code.rng, z.chunk.code.code, uint(z.in.rd)
	// Positions in the dictionary count from its start, of which buf may have lost
	// some; of the position only the low bits matter.
	end, start := uint(last), int(max(0, z.chunk.start-z.dst.Base))
	phase := int(z.dst.Base-z.chunk.start) & (1<<maxPosBits - 1)
	window := int(min(int64(z.dst.Window), z.block.dictionary))
	state := m.state % numStates
	if m.length > 0 {
		o += z.repeat(o, limit)
	}
	pbMask, lpMask, lc := 1<<m.pb-1, 1<<m.lp-1, m.lc
	for o < limit && err == nil {
		if pos > end {
			break
		}
		at := (o + phase) & pbMask
		var bit uint32
		bit, rng, code, pos = in.bit(&m.match[state<<maxPosBits+uint(at)&15], rng, code, pos)
		if bit == 0 {
			prev := byte(0)
			if o > start {
				prev = buf[o-1]
			}
			ctx := (o+phase)&lpMask<<lc + int(prev>>(8-lc))
			lit := (*[literalSize]uint16)(m.literal[ctx&(1<<maxLitBits-1)*literalSize:])
			sym := uint32(1)
			if state < litStates {
				for sym < 0x100 {
					if rng < topValue {
						rng <<= 8
						code = code<<8 | uint32(in.buf[pos&inputMask])
						pos++
					}
					prob := &lit[sym&0xFF]
					p := uint32(*prob)
					bound := rng >> probBits * p
					t := uint32(int64(uint64(code)-uint64(bound)) >> 63) // all ones for a 0
					rng = rng - bound + (2*bound-rng)&t
					code -= bound &^ t
					*prob = uint16(p - uint32(int32(p+(1<<32-1<<probBits+31)&t)>>moveBits))
					sym = sym<<1 + t + 1
				}
				if state < 4 {
					state = 0
				} else {
					state -= 3
				}
			} else {
				// The byte that the last match would have gone on with says
				// much about what comes instead.
				if m.reps[0] >= uint32(min(o-start, window)) {
					err = z.tooFar(o)
					break
				}
				like, offset := uint32(buf[o-1-int(m.reps[0])])<<1, uint32(0x100)
				for sym < 0x100 {
					if rng < topValue {
						rng <<= 8
						code = code<<8 | uint32(in.buf[pos&inputMask])
						pos++
					}
					match := like & offset
					prob := &lit[(offset+match+sym)%literalSize]
					p := uint32(*prob)
					bound := rng >> probBits * p
					t := uint32(int64(uint64(code)-uint64(bound)) >> 63)
					rng = rng - bound + (2*bound-rng)&t
					code -= bound &^ t
					*prob = uint16(p - uint32(int32(p+(1<<32-1<<probBits+31)&t)>>moveBits))
					sym = sym<<1 + t + 1
					offset &= match ^ t
					like <<= 1
				}
				if state < 10 {
					state -= 3
				} else {
					state -= 6
				}
			}
			buf[o] = byte(sym)
			o++
			continue
		}

		var length uint32
		bit, rng, code, pos = in.bit(&m.rep[state%numStates], rng, code, pos)
		if bit == 0 {
			m.reps[3], m.reps[2], m.reps[1] = m.reps[2], m.reps[1], m.reps[0]
			length, rng, code, pos = in.length(&m.lens, at, rng, code, pos)
			m.reps[0], rng, code, pos = in.distance(m, min(length, lenSlots-1), rng, code, pos)
			if state < litStates {
				state = 7
			} else {
				state = 10
			}
		} else {
			bit, rng, code, pos = in.bit(&m.rep0[state%numStates], rng, code, pos)
			short := false
			if bit == 0 {
				bit, rng, code, pos = in.bit(&m.rep0Long[state<<maxPosBits+uint(at)&15], rng, code, pos)
				short = bit == 0
			} else {
				bit, rng, code, pos = in.bit(&m.rep1[state%numStates], rng, code, pos)
				if bit == 0 {
					m.reps[0], m.reps[1] = m.reps[1], m.reps[0]
				} else {
					bit, rng, code, pos = in.bit(&m.rep2[state%numStates], rng, code, pos)
					if bit == 0 {
						m.reps[0], m.reps[1], m.reps[2] = m.reps[2], m.reps[0], m.reps[1]
					} else {
						m.reps[0], m.reps[1], m.reps[2], m.reps[3] = m.reps[3], m.reps[0], m.reps[1], m.reps[2]
					}
				}
			}
			after := uint(8)
			if short {
				after = 9
				length = ^uint32(0) // one byte, with minMatch
			} else {
				length, rng, code, pos = in.length(&m.repLens, at, rng, code, pos)
			}
			if state >= litStates {
				after = 11
			}
			state = after
		}
		if m.reps[0] >= uint32(min(o-start, window)) {
			err = z.tooFar(o)
			break
		}
		m.length = int(int32(length)) + minMatch
		o += z.repeat(o, limit)
	}
	m.state = state
	z.chunk.code = rangeCode{rng, code}
	z.in.rd = int(pos)
	return o, err
}

// repeat makes m.length bytes of those m.reps[0]+1 bytes back, or as many as fit
// before limit. It returns how many.
func (z *Reader) repeat(o, limit int) int {
	n := min(z.model.length, limit-o)
	z.model.length -= n
	dist := int(z.model.reps[0]) + 1
	dst, src := z.dst.Buf[o:o+n+copySlack], z.dst.Buf[o-dist:]
	if dist >= copySlack {
		for i := 0; i < n; i += copySlack {
			copy(dst[i:][:copySlack], src[i:][:copySlack])
		}
		return n
	}
	for i := range dst[:n] {
		dst[i] = src[i]
	}
	return n
}

// endless is the error of data that goes on behind its end.
func (z *Reader) endless() error {
	if z.chunk.short != nil {
		return z.chunk.short
	}
	return z.corrupt("LZMA2 chunk with too little data")
}

// tooFar is the error of a match at o from before what there is: of the dictionary,
// or of the window only.
func (z *Reader) tooFar(o int) error {
	far := uint64(z.model.reps[0])
	if far >= uint64(z.dst.Base+int64(o)-z.chunk.start) || far >= uint64(z.block.dictionary) {
		return z.corrupt("a match from before the dictionary")
	}
	need := uint64(z.block.dictionary)
	if z.block.has[1] {
		need = min(need, z.block.sizes[1])
	}
	if far >= need { // there has been more of the block than its header says
		return z.corrupt("sizes in a block header")
	}
	return &WindowError{Offset: z.block.from, Window: int64(need)}
}

// length reads the length of a match, less minMatch.
func (in *input) length(m *lenModel, at int, rng, code uint32, pos uint) (v, _, _ uint32, _ uint) {
	v, rng, code, pos = in.bit(&m.choice, rng, code, pos)
	if v == 0 {
		return in.tree(m.low[at&15][:], 3, rng, code, pos)
	}
	v, rng, code, pos = in.bit(&m.choice2, rng, code, pos)
	if v == 0 {
		v, rng, code, pos = in.tree(m.mid[at&15][:], 3, rng, code, pos)
		return v + 8, rng, code, pos
	}
	v, rng, code, pos = in.tree(m.high[:], 8, rng, code, pos)
	return v + 16, rng, code, pos
}

// distance reads a distance, less one.
func (in *input) distance(m *model, length, rng, code uint32, pos uint) (v, _, _ uint32, _ uint) {
	v, rng, code, pos = in.tree(m.slot[length&3][:], slotBits, rng, code, pos)
	slot := v
	if slot < firstSpecial {
		return slot, rng, code, pos
	}
	n := uint(slot>>1 - 1)
	dist := (2 | slot&1) << n
	if slot < firstDirect {
		v, rng, code, pos = in.reverse(m.special[dist-slot:], n, rng, code, pos)
		return dist + v, rng, code, pos
	}
	v, rng, code, pos = in.direct(n-alignBits, rng, code, pos)
	dist += v << alignBits
	v, rng, code, pos = in.reverse(m.align[:], alignBits, rng, code, pos)
	return dist + v, rng, code, pos
}
