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

// decoder is what decoding a block needs besides the block: its tables and the
// transformed bytes.
type decoder struct {
	used      [256]byte // the bytes that occur, in order
	selectors [maxSelectors]uint8
	tables    [maxTables]table
	counts    [256]uint32 // how often each byte occurs in the transform
	bwt       []byte      // the transform's last column, and slack
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
// This is the hot loop of the first stage, and long so that its state stays in
// registers. A symbol is either a run, which repeats the front of the
// move-to-front list, or a position in the list, whose byte moves to the front
// and is written once. Both are one case here, a run being position 0 with a
// count; so the only branch that data decides is whether the position is one
// of the first 8, which are kept in one word.
func (d *decoder) readData(r *bitReader, h *header, size int) (int, string) {
	var list [256 / 8]uint64 // 8 positions a word, the first in the low byte
	for i, c := range d.used[:h.used] {
		list[i>>3] |= uint64(c) << (i & 7 << 3)
	}
	clear(d.counts[:])
	front := list[0]
	weight := uint(1) // of the next symbol of a run
	n := 0
	out := d.bwt
	window, left, pos := r.window, r.n, r.pos
	for _, sel := range d.selectors[:h.selectors] {
		t := &d.tables[sel]
		if !t.ready {
			t.build()
		}
		r.window, r.n, r.pos = window, left, pos
		if r.ensure(groupLen); r.over() {
			return 0, "too short"
		}
		pos = r.pos
		in := r.buf[:]
		for range groupSize {
			if left < maxCodeLen {
				window |= binary.BigEndian.Uint64(in[pos:]) >> (left & 63)
				pos += int((63 - left) >> 3)
				left |= 56
			}
			e := t.primary[window>>(64-primaryBits)]
			if e >= entryFar {
				if e&entryLong != 0 {
					var k uint
					if e, k = t.long(uint32(window >> (64 - maxCodeLen))); k == 0 {
						r.window, r.n, r.pos = window, left, pos
						return 0, "Huffman code that stands for nothing"
					}
					window <<= k & 63
					left -= k
				}
				if e&entryEnd != 0 {
					k := uint(e & entryLen)
					r.window, r.n, r.pos = window<<k, left-k, pos
					if n > size {
						return 0, "block longer than its level allows"
					}
					return n, ""
				}
				if e >= entryFar {
					k := uint(e & entryLen)
					window <<= k & 63
					left -= k
					j := uint(e >> 8)
					var c uint64
					front, c = moveToFront(&list, front, j)
					out[n] = byte(c)
					d.counts[byte(c)]++
					n++
					weight = 1
					continue
				}
			}
			k := uint(e & entryLen)
			window <<= k & 63
			left -= k

			shift := uint(e>>8) << 3
			c := front >> (shift & 63) & 0xFF
			mask := uint64(0xFF)<<(shift&63) | (1<<(shift&63) - 1)
			front = front&^mask | front<<8&mask | c

			run := uint(e>>4) & 1
			count := weight&-run<<(uint(e>>5)&1) | (run ^ 1)
			weight = weight<<1&-run | (run ^ 1)
			binary.LittleEndian.PutUint64(out[n:], c*0x0101010101010101)
			d.counts[byte(c)] += uint32(count)
			if count > 8 {
				if count > uint(size-n) || n > size {
					r.window, r.n, r.pos = window, left, pos
					return 0, "run beyond the block's end"
				}
				fill(out[n:n+int(count)], byte(c))
			}
			n += int(count)
		}
		if n > size {
			r.window, r.n, r.pos = window, left, pos
			return 0, "block longer than its level allows"
		}
	}
	r.window, r.n, r.pos = window, left, pos
	return 0, "more codes than selectors"
}

// moveToFront moves the byte at position j, 8 or more, to the front of the
// list, whose first word is front. It returns the new first word and the byte.
func moveToFront(list *[32]uint64, front uint64, j uint) (uint64, uint64) {
	last := j >> 3 & 31
	shift := j & 7 << 3
	word := list[last]
	c := word >> shift & 0xFF
	carry := front >> 56
	for i := uint(1); i < last; i++ {
		w := list[i&31]
		list[i&31] = w<<8 | carry
		carry = w >> 56
	}
	mask := uint64(0xFF)<<shift | (1<<shift - 1)
	list[last] = word&^mask | (word<<8|carry)&mask
	return front<<8 | c, c
}

// fill sets p to c.
func fill(p []byte, c byte) {
	for i := range p {
		p[i] = c
	}
}
