package deflate

import "math/bits"

// A table entry is one word, read once for each symbol:
//
//	bits 0-5    bits to drop, extra bits included (in a subtable: after the
//	            main table's bits)
//	bits 8-11   the code's own length, where its extra bits begin; of a
//	            subtable: its bits
//	bits 12-14  what kind of exception it is; 0: a length, distance or literal
//	bits 16-30  the literal, the base length or distance, or the subtable's
//	            index
//	bit  31     it is a literal
//
// What the next lookup waits for is lowest: a shift takes its count from the
// low bits of a register, so the entry is its own count. One literal an entry,
// and 11 bits: two or three literals where their codes fit 11 or 12 bits were
// measured, and cost more in making the table than they saved.
const (
	entryDrop  = 63
	entryExtra = 8
	entryBase  = 16

	entrySub = 1 << 12 // go on in a subtable
	entryEnd = 1 << 13 // end of block
	entryBad = 1 << 14 // no symbol has this code
	entryOdd = entrySub | entryEnd | entryBad
	entryLit = 1 << 31
)

// Table sizes: the main table's bits, and room for the main table and the
// most subtables that a complete code can need (zlib's enough.c: 2342 for 288
// symbols and 11 bits, 402 for 32 and 8), as a power of two for masking.
const (
	litBits  = 11
	litSize  = 1 << 12
	distBits = 8
	distSize = 1 << 9
	clenBits = 7
)

const maxBits = 15

var (
	litSymbols  = makeLitSymbols()
	distSymbols = makeDistSymbols()
	clenSymbols = makeClenSymbols()
)

// makeLitSymbols makes the literal/length entries for codes of length 0, as in
// RFC 1951, 3.2.5.
func makeLitSymbols() (t [maxLit]uint32) {
	for i := range t {
		switch {
		case i < 256:
			t[i] = entryLit | uint32(i)<<entryBase
		case i == 256:
			t[i] = entryEnd
		case i < 265:
			t[i] = uint32(i-254) << entryBase
		case i < 285:
			extra := uint32(i-261) / 4
			t[i] = extra | (3+uint32(4+(i-261)%4)<<extra)<<entryBase
		case i == 285:
			t[i] = maxMatch << entryBase
		default:
			t[i] = entryBad
		}
	}
	return t
}

func makeDistSymbols() (t [maxDist]uint32) {
	for i := range t {
		switch {
		case i < 4:
			t[i] = uint32(i+1) << entryBase
		case i < 30:
			extra := uint32(i-2) / 2
			t[i] = extra | (1+uint32(2+i%2)<<extra)<<entryBase
		default:
			t[i] = entryBad
		}
	}
	return t
}

func makeClenSymbols() (t [maxClen]uint32) {
	for i := range t {
		t[i] = uint32(i) << entryBase
	}
	return t
}

// builder is scratch to build tables with.
type builder struct {
	clen   [1 << clenBits]uint32
	sorted [maxLit]uint16 // symbols by code length, then by value
}

// withLength is a symbol's entry for a code of n bits.
func withLength(sym uint32, n uint32) uint32 { return sym + n | n<<entryExtra }

// build makes the table for the canonical code with these lengths (RFC 1951,
// 3.2.2), main bits wide and followed by its subtables. symbols has the entry
// of each symbol without its code length.
//
// Only a complete code is taken. The exceptions are zlib's: no code at all
// (valid while unused: a block without matches), and one code of one bit,
// which complete rules out.
func (w *builder) build(table []uint32, main uint, lens []byte, symbols []uint32, complete bool) bool {
	var count [maxBits + 1]int
	for _, n := range lens {
		count[n]++
	}
	count[0] = 0
	left, used := 1, 0
	for _, n := range count[1:] {
		left = left<<1 - n
		if left < 0 {
			return false
		}
		used += n
	}
	w.sort(lens, &count)
	if left > 0 {
		if complete || used > 1 || used != count[1] {
			return false
		}
		w.degenerate(table[:1<<main], used, symbols)
		return true
	}
	w.fill(table, main, &count, symbols)
	return true
}

// sort puts the symbols that have a code in the order of their codes.
func (w *builder) sort(lens []byte, count *[maxBits + 1]int) {
	var next [maxBits + 1]int
	for n := 1; n < maxBits; n++ {
		next[n+1] = next[n] + count[n]
	}
	for sym, n := range lens {
		if n != 0 {
			w.sorted[next[n]] = uint16(sym)
			next[n]++
		}
	}
}

// degenerate fills the table of a code with no symbol or with one of one bit.
func (w *builder) degenerate(table []uint32, used int, symbols []uint32) {
	for i := range table {
		table[i] = withLength(entryBad, 1)
		if used == 1 && i&1 == 0 {
			table[i] = withLength(symbols[w.sorted[0]], 1)
		}
	}
}

// fill writes each entry of the main table once. Codes are taken in order of
// length while the table is as wide as the code; to widen it by a bit is to
// copy what is there behind itself.
func (w *builder) fill(table []uint32, main uint, count *[maxBits + 1]int, symbols []uint32) {
	code, size := uint(0), uint(1)
	sorted := w.sorted[:]
	for n := uint(1); n <= main; n++ {
		copy(table[size:2*size], table[:size])
		size *= 2
		for range count[n] {
			table[code] = withLength(symbols[sorted[0]], uint32(n))
			sorted = sorted[1:]
			code = nextCode(code, n)
		}
	}
	next, prefix, end := size, ^uint(0), size // of the subtable
	for n := main + 1; n <= maxBits; n++ {
		for left := count[n]; left > 0; left-- {
			if p := code & (size - 1); p != prefix {
				b := subtableBits(count, n, left, main)
				prefix, next = p, end
				end += 1 << b
				table[p] = entrySub | uint32(main) | uint32(b)<<entryExtra | uint32(next)<<entryBase
			}
			e := withLength(symbols[sorted[0]], uint32(n-main))
			sorted = sorted[1:]
			for i := next + code>>main; i < end; i += 1 << (n - main) {
				table[i] = e
			}
			code = nextCode(code, n)
		}
	}
}

// subtableBits is how wide the subtable must be that begins with a code of n
// bits: codes come in order of length, so it takes codes until it is full.
func subtableBits(count *[maxBits + 1]int, n uint, left int, main uint) uint {
	b := n - main
	for space := left; space < 1<<b && n < maxBits; {
		n++
		b++
		space = space*2 + count[n]
	}
	return b
}

// nextCode is the code after one of n bits, both in reversed bit order: a
// carry runs from the top bit down. After the last code it is 0.
func nextCode(code, n uint) uint {
	free := ^code & (1<<n - 1)
	if free == 0 {
		return 0
	}
	top := uint(1) << (bits.Len(free) - 1)
	return code&(top-1) | top
}
