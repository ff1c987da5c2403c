package lzfseenc

import (
	"encoding/binary"
	"math/bits"
)

// A Triple is what bvx1 and bvx2 blocks are made of: copy L literals, then M
// bytes from D back. D = 0 repeats the distance of the triple before.
type Triple struct{ L, M, D int }

// alphabet describes one of the four codes of a block.
type alphabet struct {
	states int
	base   []int // first value of each symbol
	extra  []int // bits after the symbol
}

// ladder builds an alphabet from the extra bits of its symbols.
func ladder(states int, extra ...int) alphabet {
	a := alphabet{states: states, extra: extra}
	next := 0
	for _, e := range extra {
		a.base = append(a.base, next)
		next += 1 << e
	}
	return a
}

var (
	alphaL       = ladder(64, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 3, 5, 8)
	alphaM       = ladder(64, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 5, 8, 11)
	alphaD       = ladder(256, distanceBits()...)
	alphaLiteral = ladder(1024, make([]int, 256)...)
)

// distanceBits: four symbols for each number of extra bits from 0 to 15.
func distanceBits() (extra []int) {
	for e := range 16 {
		extra = append(extra, e, e, e, e)
	}
	return extra
}

// symbol finds the symbol whose range of values v is in.
func (a *alphabet) symbol(v int) int {
	lo, hi := 0, len(a.base)
	for hi-lo > 1 {
		if mid := (lo + hi) / 2; a.base[mid] <= v {
			lo = mid
		} else {
			hi = mid
		}
	}
	return lo
}

// normalize scales counts so that they add up to the alphabet's states, none
// that was above zero becoming zero.
func (a *alphabet) normalize(counts []int) []uint16 {
	total := 0
	for _, n := range counts {
		total += n
	}
	freq := make([]uint16, len(counts))
	if total == 0 {
		freq[0] = uint16(a.states)
		return freq
	}
	left := a.states
	for s, n := range counts {
		if n > 0 {
			freq[s] = uint16(max(1, n*a.states/total))
			left -= int(freq[s])
		}
	}
	// Rounding down leaves states over; raising rare symbols to 1 can take too
	// many. Settle it with the most frequent one at each step.
	for left != 0 {
		most := 0
		for s := range freq {
			if freq[s] > freq[most] {
				most = s
			}
		}
		if left > 0 {
			freq[most] += uint16(left)
			break
		}
		freq[most]--
		left++
	}
	return freq
}

// bitWriter packs bits from the lowest of the first byte up.
type bitWriter struct {
	out []byte
	acc uint64
	n   uint
}

func (w *bitWriter) put(v, n uint) {
	w.acc |= uint64(v) << w.n
	for w.n += n; w.n >= 8; w.n -= 8 {
		w.out = append(w.out, byte(w.acc))
		w.acc >>= 8
	}
}

// finish writes the last byte and returns minus the number of its unused bits.
func (w *bitWriter) finish() int {
	if w.n == 0 {
		return 0
	}
	unused := 8 - int(w.n)
	w.put(0, uint(unused))
	return -unused
}

// coder is the encoder's side of an alphabet with frequencies: a symbol with
// frequency f has the states first to first+f-1.
type coder struct {
	alphabet
	freq  []uint16
	first []int
	state int
}

func (a alphabet) coder(freq []uint16) *coder {
	c := &coder{alphabet: a, freq: freq}
	next := 0
	for _, f := range freq {
		c.first = append(c.first, next)
		next += int(f)
	}
	return c
}

// put encodes a symbol: it writes the lower bits of the state, as many as leave
// a number from f to 2f-1, which becomes the place among the symbol's states.
func (c *coder) put(w *bitWriter, symbol int) {
	f := int(c.freq[symbol])
	x := c.state + c.states
	n := bits.Len(uint(x)) - bits.Len(uint(f))
	if x>>n < f {
		n--
	}
	w.put(uint(x)&(1<<n-1), uint(n))
	c.state = c.first[symbol] + x>>n - f
}

// value encodes a number: extra bits, then the symbol.
func (c *coder) value(w *bitWriter, v int) {
	s := c.symbol(v)
	w.put(uint(v-c.base[s]), uint(c.extra[s]))
	c.put(w, s)
}

// fse cuts plain[from:] into bvx1 or bvx2 blocks.
func (w *Writer) fse(kind Kind, from int) {
	var literals []byte
	var triples []Triple
	raw, last := 0, 0
	flush := func() {
		w.Triples(kind, literals, triples, raw)
		literals, triples, raw, last = literals[:0], triples[:0], 0, 0
	}
	add := func(lit []byte, m, d int) {
		if len(triples) == MaxMatches || len(literals)+len(lit) > MaxLiterals {
			flush()
		}
		literals = append(literals, lit...)
		raw += len(lit) + m
		if d == last {
			d = 0
		} else {
			last = d
		}
		triples = append(triples, Triple{len(lit), m, d})
	}
	w.find.parse(w.plain, from, MaxD, func(lit []byte, m match) {
		for ; len(lit) > MaxL; lit = lit[MaxL:] {
			add(lit[:MaxL], 0, 1) // any distance will do: there is a byte
		}
		if m.n == 0 {
			add(lit, 0, 1)
			return
		}
		for ; m.n > 0; lit = nil {
			n := min(m.n, MaxM)
			add(lit, n, m.dist)
			m.n -= n
		}
	})
	if len(triples) > 0 || from == len(w.plain) {
		flush()
	}
}

// Triples appends one bvx1 or bvx2 block that declares raw bytes. Values that
// the format can spell are written as they are, whether they make sense or not.
// What Add adds later doesn't know of such a block.
func (w *Writer) Triples(kind Kind, literals []byte, triples []Triple, raw int) {
	for len(literals)%4 != 0 {
		literals = append(literals[:len(literals):len(literals)], 0)
	}
	counts := [4][]int{make([]int, 20), make([]int, 20), make([]int, 64), make([]int, 256)}
	for _, t := range triples {
		counts[0][alphaL.symbol(t.L)]++
		counts[1][alphaM.symbol(t.M)]++
		counts[2][alphaD.symbol(t.D)]++
	}
	for _, c := range literals {
		counts[3][c]++
	}
	b := fseBlock{raw: raw, literals: len(literals), triples: len(triples)}
	for i, a := range []alphabet{alphaL, alphaM, alphaD, alphaLiteral} {
		b.freq[i] = a.normalize(counts[i])
	}
	b.packLiterals(literals)
	b.packTriples(triples)
	if kind == V1 {
		w.out = b.appendV1(w.out)
	} else {
		w.out = b.appendV2(w.out)
	}
}

// fseBlock is a block about to be written.
type fseBlock struct {
	raw, literals, triples int
	freq                   [4][]uint16 // L, M, D, literals
	litPack, lmdPack       []byte
	litBits, lmdBits       int
	litState               [4]int
	lmdState               [3]int
}

// packLiterals encodes from the last literal to the first, with four coders
// that take turns.
func (b *fseBlock) packLiterals(literals []byte) {
	var w bitWriter
	var c [4]*coder
	for i := range c {
		c[i] = alphaLiteral.coder(b.freq[3])
	}
	for i := len(literals) - 1; i >= 0; i-- {
		c[i%4].put(&w, int(literals[i]))
	}
	b.litBits = w.finish()
	b.litPack = w.out
	for i := range c {
		b.litState[i] = c[i].state
	}
}

// packTriples does the same; eight zero bytes come first.
func (b *fseBlock) packTriples(triples []Triple) {
	w := bitWriter{out: make([]byte, 8)}
	l, m, d := alphaL.coder(b.freq[0]), alphaM.coder(b.freq[1]), alphaD.coder(b.freq[2])
	for i := len(triples) - 1; i >= 0; i-- {
		d.value(&w, triples[i].D)
		m.value(&w, triples[i].M)
		l.value(&w, triples[i].L)
	}
	b.lmdBits = w.finish()
	b.lmdPack = w.out
	b.lmdState = [3]int{l.state, m.state, d.state}
}

func (b *fseBlock) appendV1(out []byte) []byte {
	le := binary.LittleEndian
	out = append(out, "bvx1"...)
	for _, v := range []int{b.raw, len(b.litPack) + len(b.lmdPack), b.literals, b.triples,
		len(b.litPack), len(b.lmdPack), b.litBits} {
		out = le.AppendUint32(out, uint32(v))
	}
	for _, s := range b.litState {
		out = le.AppendUint16(out, uint16(s))
	}
	out = le.AppendUint32(out, uint32(b.lmdBits))
	for _, s := range b.lmdState {
		out = le.AppendUint16(out, uint16(s))
	}
	for _, freq := range b.freq {
		for _, f := range freq {
			out = le.AppendUint16(out, f)
		}
	}
	out = append(out, 0, 0) // the C structure is padded to a multiple of four
	out = append(out, b.litPack...)
	return append(out, b.lmdPack...)
}

func (b *fseBlock) appendV2(out []byte) []byte {
	var w bitWriter
	for _, freq := range b.freq {
		for _, f := range freq {
			putFreq(&w, uint(f))
		}
	}
	w.finish()
	p0 := uint64(b.literals) | uint64(len(b.litPack))<<20 | uint64(b.triples)<<40 | uint64(b.litBits+7)<<60
	p1 := uint64(len(b.lmdPack))<<40 | uint64(b.lmdBits+7)<<60
	for i, s := range b.litState {
		p1 |= uint64(s) << (10 * i)
	}
	p2 := uint64(32 + len(w.out))
	for i, s := range b.lmdState {
		p2 |= uint64(s) << (32 + 10*i)
	}
	le := binary.LittleEndian
	out = append(out, "bvx2"...)
	out = le.AppendUint32(out, uint32(b.raw))
	out = le.AppendUint64(out, p0)
	out = le.AppendUint64(out, p1)
	out = le.AppendUint64(out, p2)
	out = append(out, w.out...)
	out = append(out, b.litPack...)
	return append(out, b.lmdPack...)
}

// putFreq writes a frequency in the prefix code of bvx2 headers.
func putFreq(w *bitWriter, f uint) {
	switch {
	case f < 2:
		w.put(f<<1, 2)
	case f < 4:
		w.put((f-2)<<2|1, 3)
	case f < 8:
		w.put((f-4)<<3|3, 5)
	case f < 24:
		w.put((f-8)<<4|7, 8)
	default:
		w.put((f-24)<<4|15, 14)
	}
}
