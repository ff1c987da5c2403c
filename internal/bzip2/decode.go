package bzip2

import "encoding/binary"

const (
	minTables    = 2
	maxTables    = 6
	maxSelectors = 18002 // what a block of 900,000 bytes can use
	levelSize    = 100_000
	maxLevel     = 9

	// slack is how far one group may write past a block's size before it is
	// noticed: 50 symbols of 8 bytes, and the 8 bytes stored each time.
	slack = groupSize*8 + 8
)

// eightOnes makes eight equal bytes of one.
const eightOnes = 0x0101010101010101

// column has room for the transform's last column, which is what the codes stand
// for.
type column [maxLevel*levelSize + slack]byte

// decoder is what decoding a block needs besides the block: its tables, and where
// the results go.
type decoder struct {
	used      [256]byte // the bytes that occur, in order
	selectors [maxSelectors]uint8
	tables    [maxTables]table
	digit     int         // place in its run of the next symbol
	counts    [256]uint32 // how often each byte occurs in the column
	bwt       *column

	steps []uint32 // of ranks; nil if they are not asked for
	run   int      // number of the run that the next symbol begins
}

// header is what stands before a block's data.
type header struct {
	crc       uint32
	random    bool
	origin    int // row of the transform that is the text itself
	used      int // bytes that occur
	tables    int
	selectors int
}

// readHeader reads a block from after its magic up to the codes. Nothing here
// is taken for granted: after a magic found by chance it is random bits.
func (d *decoder) readHeader(r *bitReader, level int) (header, string) {
	h := header{crc: r.take(32), random: r.take(1) == 1, origin: int(r.take(24))}
	if h.origin > level*levelSize {
		return h, "origin beyond the block"
	}
	if h.used = d.readUsed(r); h.used == 0 {
		return h, "no byte occurs"
	}
	h.tables = int(r.take(3))
	if h.tables < minTables || h.tables > maxTables {
		return h, "number of Huffman tables"
	}
	h.selectors = int(r.take(15))
	if h.selectors == 0 {
		return h, "no selectors"
	}
	if !d.readSelectors(r, h.selectors, h.tables) {
		return h, "selector of no table"
	}
	// Some encoders write more selectors than any block can use. libbz2 from
	// 1.0.7 on reads them and forgets them.
	h.selectors = min(h.selectors, maxSelectors)
	for i := range h.tables {
		if !readLengths(r, &d.tables[i], h.used+2) {
			return h, "length of a Huffman code"
		}
	}
	return h, ""
}

// readUsed reads which bytes occur, 16 ranges of 16, and returns how many.
func (d *decoder) readUsed(r *bitReader) int {
	n := 0
	ranges := r.take(16)
	for i := range 16 {
		if ranges>>(15-i)&1 == 0 {
			continue
		}
		bytes := r.take(16)
		for j := range 16 {
			if bytes>>(15-j)&1 != 0 {
				d.used[n] = byte(i<<4 | j)
				n++
			}
		}
	}
	return n
}

// readSelectors reads which table each group uses: positions in a
// move-to-front list, in unary.
func (d *decoder) readSelectors(r *bitReader, n, tables int) bool {
	list := [maxTables]uint8{0, 1, 2, 3, 4, 5}
	for i := range n {
		k := r.ones(maxTables)
		if k >= tables || k >= len(list) {
			return false
		}
		front := list[k]
		for ; k > 0; k-- {
			list[k] = list[k-1]
		}
		list[0] = front
		if i < maxSelectors {
			d.selectors[i] = front
		}
	}
	return true
}

// readLengths reads the lengths of one table's codes, each as its difference
// from the one before. The table itself is built when a group asks for it: a
// block may be far shorter than six tables.
func readLengths(r *bitReader, t *table, symbols int) bool {
	t.ready = false
	t.symbols = symbols
	n := r.take(5)
	for i := range t.lengths[:symbols] {
		for {
			if n < 1 || n > maxCodeLen {
				return false
			}
			if r.take(1) == 0 {
				break
			}
			n += 1 - 2*r.take(1)
		}
		t.lengths[i] = uint8(n)
	}
	return true
}

// readData decodes the codes into d.bwt and d.counts and returns the number of
// bytes, or what is wrong.
//
// A group goes through three short loops, codes to symbols, symbols to bytes,
// bytes to the transform, since each then has few enough variables for the
// registers. One loop for all three measured a little slower, by about a tenth.
func (d *decoder) readData(r *bitReader, h *header, size int) (int, string) {
	var (
		m     mover
		syms  [groupSize + 1]entry
		bytes [groupSize]byte
	)
	d.digit = 0
	m.init(d.used[:h.used])
	clear(d.counts[:])
	d.run = 1
	n := 0
	for _, sel := range d.selectors[:h.selectors] {
		t := &d.tables[sel]
		if !t.ready {
			t.build()
		}
		// At the input's end zeros are decoded; here is where it is noticed,
		// or in the caller for the last group.
		if r.ensure(groupLen); r.over() {
			return 0, "too short"
		}
		k, ok := r.group(t, &syms)
		// Symbols left from another group do no harm: the block is at its end.
		m.move((*[groupSize]entry)(syms[:]), &bytes)
		n = d.write(syms[:k], &bytes, n, size)
		switch {
		case n > size:
			return 0, "block longer than its level allows"
		case !ok:
			return 0, "Huffman code that stands for nothing"
		case k < groupSize:
			return n, ""
		}
	}
	return 0, "more codes than selectors"
}

// group decodes a group's codes into syms and returns how many they are: fewer
// than 50 if the block ends. It returns false at a word that is no code. Enough
// input must be ready.
func (r *bitReader) group(t *table, syms *[groupSize + 1]entry) (int, bool) {
	window, left, pos := r.window, r.n, r.pos
	ok := true
	i := 0
loop:
	for i < groupSize {
		// 56 bits are enough for two of the longest codes.
		window |= binary.BigEndian.Uint64(r.buf[pos:]) >> (left & 63)
		pos += int((63 - left) >> 3)
		left |= 56
		for range 2 {
			e := t.primary[window>>(64-primaryBits)]
			k := uint(e >> entryLen & 0xF)
			if e&(entryLong|entryEnd) != 0 {
				if e&entryLong != 0 {
					if e, k = t.long(uint32(window >> (64 - maxCodeLen))); k == 0 {
						ok = false
						break loop
					}
				}
				if e&entryEnd != 0 {
					window <<= k & 63
					left -= k
					break loop
				}
			}
			window <<= k & 63
			left -= k
			syms[i] = e
			i++
		}
	}
	r.window, r.n, r.pos = window, left, pos
	return i, ok
}

// mover is the list of the move-to-front transform: 16 positions in two words,
// the first in the low byte, and the others after them.
type mover struct {
	w0, w1 uint64
	far    [farPad + 256]byte // position j at farPad+j
}

// farPad bytes before the list may be overwritten at any time.
const farPad = 48

func (m *mover) init(used []byte) {
	*m = mover{}
	list := m.far[farPad:]
	copy(list, used)
	m.w0 = binary.LittleEndian.Uint64(list)
	m.w1 = binary.LittleEndian.Uint64(list[8:])
}

// nearMasks has for each of the first 16 positions the bytes of the two words
// that change when it moves to the front: its own and those before it.
var nearMasks = makeNearMasks()

func makeNearMasks() *[16]struct{ w0, w1 uint64 } {
	t := new([16]struct{ w0, w1 uint64 })
	for j := range 8 {
		mask := ^uint64(0) >> (56 - 8*j)
		t[j].w0 = mask
		t[8+j].w0, t[8+j].w1 = ^uint64(0), mask
	}
	return t
}

// move replaces the symbols by the bytes that they name; a run is a byte at
// position 0, which does not move it.
//
// Positions below 16 are handled without a branch in the first two words,
// which stay in registers.
func (m *mover) move(syms *[groupSize]entry, bytes *[groupSize]byte) {
	w0, w1 := m.w0, m.w1
	masks := nearMasks
	for i, e := range syms {
		j := uint64(byte(e))
		if j >= 16 {
			c := m.far[farPad+j]
			m.makeRoom(j)
			m.far[farPad+16] = byte(w1 >> 56)
			w1 = w1<<8 | w0>>56
			w0 = w0<<8 | uint64(c)
			bytes[i] = c
			continue
		}
		w := w0
		if j >= 8 {
			w = w1
		}
		c := byte(w >> (j << 3 & 63))
		w1 ^= (w1 ^ (w1<<8 | w0>>56)) & masks[j].w1
		w0 ^= (w0 ^ (w0<<8 | uint64(c))) & masks[j].w0
		bytes[i] = c
	}
	m.w0, m.w1 = w0, w1
}

// makeRoom moves positions 16 to j-1 back by one. Half of all calls are for j
// below 64: 48 bytes, always, are then quicker than as many as there are. A
// shift by words in place of copy, and a list of lists, measured slower.
func (m *mover) makeRoom(j uint64) {
	if j >= 64 {
		copy(m.far[farPad+17:], m.far[farPad+16:farPad+j])
		return
	}
	p := (*[farPad + 1]byte)(m.far[j:])
	copy(p[33:49], p[32:48])
	copy(p[17:33], p[16:32])
	copy(p[1:17], p[:16])
}

// write writes a group's bytes to the transform from n on, as often as their
// symbols say, and counts them. It returns the new n, more than size if they do
// not fit.
func (d *decoder) write(syms []entry, bytes *[groupSize]byte, n, size int) int {
	out := d.bwt
	digit := d.digit
	steps, number := d.steps, d.run
	ranked := steps != nil
	for i, e := range syms[:min(len(syms), len(bytes))] {
		// A run's length is a number whose digits are 1 and 2, the lowest
		// first: each digit can be written as soon as it comes. All else is
		// digit 1 at place 0.
		run := int(int16(e)) >> 15 // all ones or none
		digit &= run
		count := 1 << ((digit + int(e>>14&1)) & 63)
		digit -= run
		c := bytes[i]
		if ranked {
			// What only adds to a run leaves its step for the next run to set.
			steps[number] = d.counts[c] - uint32(n)
			number += 1 + run
		}
		d.counts[c] += uint32(count)
		// 8 copies, which the next symbol overwrites where they are too many.
		binary.LittleEndian.PutUint64(out[n:n+8:n+8], uint64(c)*eightOnes)
		if count > 8 && !d.fill(n, count, size, c) {
			return size + 1
		}
		n += count
	}
	d.digit, d.run = digit, number
	return n
}

// fill goes on with a run of c at n after its first 8 bytes, and writes perhaps
// some more than that. It returns false if the run does not fit.
//
//go:noinline
func (d *decoder) fill(n, count, size int, c byte) bool {
	if n > size || count > size-n {
		return false
	}
	for p := d.bwt[n+8 : n+count+8]; len(p) >= 8; p = p[8:] {
		binary.LittleEndian.PutUint64(p, uint64(c)*eightOnes)
	}
	return true
}
