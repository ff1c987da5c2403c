package bzip2

import (
	"bytes"
	"math/bits"
	"sort"
)

// bitWriter writes bits, most significant first.
type bitWriter struct {
	p []byte
	n int // bits written
}

func (w *bitWriter) put(v uint64, n int) {
	for n--; n >= 0; n-- {
		if w.n&7 == 0 {
			w.p = append(w.p, 0)
		}
		w.p[w.n>>3] |= byte(v>>n&1) << (7 - w.n&7)
		w.n++
	}
}

// spec is a block to be written symbol by symbol, right or wrong. The bytes
// that occur in it are those from 0 to used-1.
type spec struct {
	used      int
	symbols   []int   // with the last one
	lengths   []uint8 // of the codes; equal ones if nil
	origin    int
	random    bool
	selectors int    // how many to write; as needed if 0
	crc       uint32 // of what it decodes to
}

// put writes the block.
func (b *spec) put(w *bitWriter) {
	w.put(blockMagic, 48)
	w.put(uint64(b.crc), 32)
	w.put(map[bool]uint64{true: 1}[b.random], 1)
	w.put(uint64(b.origin), 24)
	ranges := (b.used + 15) / 16
	w.put(1<<16-1<<(16-ranges), 16)
	for left := b.used; left > 0; left -= 16 {
		w.put(1<<16-1<<(16-min(left, 16)), 16)
	}
	w.put(2, 3)
	n := b.selectors
	if n == 0 {
		n = (len(b.symbols) + 49) / 50
	}
	w.put(uint64(n), 15)
	w.put(0, n) // always the first table
	lengths := b.lengths
	if lengths == nil {
		lengths = bytes.Repeat([]byte{byte(bits.Len(uint(b.used + 1)))}, b.used+2)
	}
	putLengths(w, lengths)
	putLengths(w, lengths)
	words := canonical(lengths)
	for _, s := range b.symbols {
		w.put(uint64(words[s]), int(lengths[s]))
	}
}

func putLengths(w *bitWriter, lengths []uint8) {
	at := lengths[0]
	w.put(uint64(at), 5)
	for _, n := range lengths {
		for ; at < n; at++ {
			w.put(2, 2)
		}
		for ; at > n; at-- {
			w.put(3, 2)
		}
		w.put(0, 1)
	}
}

// canonical returns the words of the canonical code.
func canonical(lengths []uint8) []uint32 {
	words := make([]uint32, len(lengths))
	next := uint32(0)
	for n := uint8(1); n <= 20; n++ {
		for s, l := range lengths {
			if l == n {
				words[s] = next
				next++
			}
		}
		next <<= 1
	}
	return words
}

// stream writes blocks as a stream.
func stream(level int, blocks ...*spec) []byte {
	w := &bitWriter{p: []byte("BZh"), n: 24}
	w.put(uint64('0'+level), 8)
	crc := uint32(0)
	for _, b := range blocks {
		b.put(w)
		crc = bits.RotateLeft32(crc, 1) ^ b.crc
	}
	w.put(endMagic, 48)
	w.put(uint64(crc), 32)
	return w.p
}

// crcBitwise is the CRC by its definition.
func crcBitwise(p []byte) uint32 {
	crc := ^uint32(0)
	for _, c := range p {
		crc ^= uint32(c) << 24
		for range 8 {
			crc = crc<<1 ^ 0x04C11DB7&-(crc>>31)
		}
	}
	return ^crc
}

// textbook decodes the symbols of a block that uses the bytes below used, each
// stage as it is described and nothing more.
func textbook(used int, symbols []int, origin int) []byte {
	list := make([]byte, used)
	for i := range list {
		list[i] = byte(i)
	}
	var last []byte
	weight := 1
	for _, s := range symbols[:len(symbols)-1] {
		if s < 2 {
			last = append(last, bytes.Repeat(list[:1], weight<<s)...)
			weight *= 2
			continue
		}
		weight = 1
		c := list[s-1]
		copy(list[1:s], list)
		list[0] = c
		last = append(last, c)
	}
	rows := make([]int, len(last))
	for i := range rows {
		rows[i] = i
	}
	sort.SliceStable(rows, func(i, j int) bool { return last[rows[i]] < last[rows[j]] })
	text := make([]byte, len(last))
	row := origin
	for i := range text {
		row = rows[row]
		text[i] = last[row]
	}
	return unrun(text)
}

// unrun expands runs.
func unrun(text []byte) []byte {
	var out []byte
	for i, equal := 0, 0; i < len(text); i++ {
		if equal == 4 {
			out = append(out, bytes.Repeat(out[len(out)-1:], int(text[i]))...)
			equal = 0
			continue
		}
		if equal > 0 && text[i] == text[i-1] {
			equal++
		} else {
			equal = 1
		}
		out = append(out, text[i])
	}
	return out
}

// scrambled returns data, which has no runs, as bzip2 0.9 wrote a block that it
// was slow to sort.
func scrambled(data []byte, used int) *spec {
	text := bytes.Clone(data)
	for i, k := randomSteps(0)-2, 0; i < len(text); {
		text[i] ^= 1
		k++
		i += randomSteps(k)
	}
	n := len(text)
	twice := append(text, text...)
	rows := make([]int, n)
	for i := range rows {
		rows[i] = i
	}
	sort.Slice(rows, func(i, j int) bool {
		return bytes.Compare(twice[rows[i]:rows[i]+n], twice[rows[j]:rows[j]+n]) < 0
	})
	b := &spec{used: used, random: true, crc: crcBitwise(data)}
	list := make([]byte, used)
	for i := range list {
		list[i] = byte(i)
	}
	for i, row := range rows {
		if row == 0 {
			b.origin = i
		}
		c := twice[row+n-1]
		j := bytes.IndexByte(list, c)
		copy(list[1:j+1], list[:j])
		list[0] = c
		if j == 0 {
			b.symbols = append(b.symbols, 0) // a run of one, and another
			if k := len(b.symbols); k > 1 && b.symbols[k-2] < 2 {
				b.symbols = lengthen(b.symbols[:k-1])
			}
			continue
		}
		b.symbols = append(b.symbols, j+1)
	}
	b.symbols = append(b.symbols, used+1)
	return b
}

// lengthen makes the run at the end of symbols one longer: counting in digits
// 1 and 2, the lowest first.
func lengthen(symbols []int) []int {
	i := len(symbols)
	for i > 0 && symbols[i-1] < 2 {
		i--
	}
	for ; i < len(symbols); i++ {
		if symbols[i] == 0 {
			symbols[i] = 1
			return symbols
		}
		symbols[i] = 0
	}
	return append(symbols, 0)
}

// runSymbols returns the symbols of a run of n.
func runSymbols(n int) []int {
	var s []int
	for ; n > 0; n = (n - 1) / 2 {
		s = append(s, (n-1)&1)
	}
	return s
}

// bomb is a block of 5n bytes of text, zeros in runs of 259.
func bomb(n int) *spec {
	// Its rotations are of 5 kinds, sorted by where the length, 255, stands:
	// last in the first n. Only two bytes occur, but used makes them 0 to 255.
	b := &spec{used: 256, symbols: []int{256}}
	b.symbols = append(b.symbols, runSymbols(n-1)...)
	b.symbols = append(b.symbols, 2)
	b.symbols = append(b.symbols, runSymbols(4*n-1)...)
	b.symbols = append(b.symbols, 257)
	b.crc = UpdateCRC(0, make([]byte, 259*n))
	return b
}
