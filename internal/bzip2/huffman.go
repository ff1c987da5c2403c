package bzip2

const (
	maxCodeLen = 20
	maxSymbols = 258 // 256 bytes, less the one at the front, two runs and the end
	groupSize  = 50  // codes to a selector

	primaryBits = 10
)

// An entry says what a code means, ready for the loops that decode groups:
//
//	bits 0-7    position in the move-to-front list, 0 for a run
//	bits 8-11   length of the code, 0 if it is longer than primaryBits
//	bit  12     not a code as long as this: look at the limits
//	bit  13     the end of the block
//	bit  14     RUNB
//	bit  15     RUNA or RUNB
type entry = uint16

const (
	entryLen  = 8 // shift to the length
	entryLong = 1 << 12
	entryEnd  = 1 << 13
	entryRunB = 1 << 14
	entryRun  = 1 << 15
)

// symbolEntry returns the entry of a symbol, without a length.
func symbolEntry(sym, symbols int) entry {
	switch sym {
	case 0:
		return entryRun
	case 1:
		return entryRun | entryRunB
	case symbols - 1:
		return entryEnd
	}
	// The front of the list is never named, a run stands for it, so symbol 2
	// is position 1.
	return entry(sym - 1)
}

// table decodes one Huffman code. Most codes are found by their first bits in
// primary. The few longer ones are compared with the limits of each length,
// which works because a canonical code orders its words by length.
type table struct {
	ready   bool
	symbols int
	lengths [maxSymbols]uint8

	primary [1 << primaryBits]entry
	limit   [maxCodeLen + 1]uint32 // the first 20 bits past the words of this length
	base    [maxCodeLen + 1]int32  // what to add to a word for its place in order
	order   [maxSymbols]entry      // symbols in the order of their words, no lengths
}

// build makes the table from its lengths. It takes any lengths, as libbz2
// does: where they claim more words than there is room for, the last ones are
// out of reach, and where they claim fewer, the words left over are invalid.
func (t *table) build() {
	var count [maxCodeLen + 1]int
	lengths := t.lengths[:t.symbols]
	for _, n := range lengths {
		count[n]++
	}
	var place [maxCodeLen + 1]int
	next, seen := uint32(0), 0 // the next word, its first bit on top of 20
	for n := 1; n <= maxCodeLen; n++ {
		shift := maxCodeLen - n
		place[n] = seen
		t.base[n] = int32(seen) - int32(next>>shift)
		next = min(next+uint32(count[n])<<shift, 1<<maxCodeLen)
		t.limit[n] = next
		seen += count[n]
	}
	for sym, n := range lengths {
		t.order[place[n]] = symbolEntry(sym, t.symbols)
		place[n]++
	}
	t.fill(&count)
	t.ready = true
}

// fill sets the primary table: each word of n bits has 2^(primaryBits-n) slots.
func (t *table) fill(count *[maxCodeLen + 1]int) {
	slots := t.primary[:]
	order := t.order[:]
	for n := 1; n <= primaryBits; n++ {
		width := 1 << (primaryBits - n)
		for _, e := range order[:count[n]] {
			if len(slots) == 0 {
				return
			}
			for i := range slots[:width] {
				slots[i] = e | entry(n)<<entryLen
			}
			slots = slots[width:]
		}
		order = order[count[n]:]
	}
	for i := range slots {
		slots[i] = entryLong
	}
}

// long decodes a word longer than primaryBits from the next 20 bits. It
// returns the word's length, 0 if there is no such word.
func (t *table) long(word uint32) (entry, uint) {
	for n := primaryBits + 1; n <= maxCodeLen; n++ {
		if word < t.limit[n] {
			return t.order[t.base[n]+int32(word>>(maxCodeLen-n))], uint(n)
		}
	}
	return 0, 0
}
