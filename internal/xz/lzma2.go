package xz

import "encoding/binary"

// chunk is the LZMA2 chunk at hand.
type chunk struct {
	start int64 // of the dictionary in the output: no match reaches further back
	left  int   // bytes that are still to be produced
	end   int   // of its data in the input, or of the input if that ends before
	short error // why data is missing behind that, or nil
	code  rangeCode
	needs byte // the least reset that the next chunk must make
}

// maxSymbol bytes are more than a symbol takes: 22 bits of the model, of at most 7
// bits each, and 26 without one.
const maxSymbol = 32

// Resets that a chunk makes, by the top bits of its control byte: of the state,
// with new properties, and of the dictionary too.
const (
	resetNothing = iota
	resetState
	resetProps
	resetAll
)

// chunkHeader begins a chunk. Its control byte is 0 at the end, 1 or 2 for bytes
// as they are with and without a reset of the dictionary, and has its top bit set
// for LZMA.
func (z *Reader) chunkHeader() error {
	p, err := z.in.take(1)
	if err != nil {
		return err
	}
	control := p[0]
	if control == 1 || control>>5 == 0x80>>5|resetAll {
		z.pass(z.in.offset()-1, true)
	}
	switch {
	case control == 0:
		z.next = partBlockEnd
		return nil
	case control == 1:
		z.resetDictionary()
		return z.beginStored()
	case control >= 0x80:
		return z.beginLZMA(control)
	case control != 2 || z.chunk.needs == resetAll:
		return z.corrupt("LZMA2 control byte")
	}
	return z.beginStored()
}

// resetDictionary begins a new dictionary; properties must follow.
func (z *Reader) resetDictionary() {
	z.chunk.start = z.dst.Base + int64(z.dst.Wr)
	z.chunk.needs = resetProps
}

func (z *Reader) beginStored() error {
	p, err := z.in.take(2)
	if err != nil {
		return err
	}
	z.chunk.left = int(binary.BigEndian.Uint16(p)) + 1
	z.next = partStored
	return nil
}

// stored copies a chunk of bytes as they are.
func (z *Reader) stored() error {
	if err := z.in.fill(1); err != nil {
		return err
	}
	in := &z.in
	n := copy(z.dst.Buf[z.dst.Wr:z.dst.Wr+min(z.chunk.left, z.limit-z.dst.Wr)], in.buf[in.rd:in.wr])
	in.rd += n
	z.produced(n)
	return nil
}

// produced counts n more bytes in buf.
func (z *Reader) produced(n int) {
	z.sum.add(z.dst.Buf[z.dst.Wr : z.dst.Wr+n])
	z.dst.Wr += n
	z.block.produced += uint64(n)
	if z.chunk.left -= n; z.chunk.left == 0 {
		z.next = partChunk
	}
}

func (z *Reader) beginLZMA(control byte) error {
	c := &z.chunk
	reset := control >> 5 & 3
	if reset < c.needs {
		return z.corrupt("LZMA2 chunk without a reset")
	}
	head := 4
	if reset >= resetProps {
		head = 5
	}
	p, err := z.in.take(head)
	if err != nil {
		return err
	}
	c.left = int(control&0x1F)<<16 + int(binary.BigEndian.Uint16(p)) + 1
	stored := int(binary.BigEndian.Uint16(p[2:])) + 1
	if reset == resetAll {
		z.resetDictionary()
	}
	if reset >= resetProps && !z.model.setProps(p[4]) {
		return z.corrupt("LZMA properties")
	}
	if reset >= resetState {
		z.model.reset()
	}
	c.needs = resetNothing
	if stored < rangeCodeLen {
		return z.corrupt("LZMA2 chunk without data")
	}
	// All of it, so that the loop need not look where the input ends. If it does
	// end, the symbols that are whole come first.
	if c.short = z.in.fill(stored); c.short != nil && z.in.wr-z.in.rd < rangeCodeLen {
		return c.short
	}
	c.end = z.in.rd + stored
	if c.short != nil {
		c.end = z.in.wr
	}
	if z.in.buf[z.in.rd] != 0 {
		return z.corrupt(notZero)
	}
	c.code = newRangeCode(z.in.buf[z.in.rd:])
	z.in.rd += rangeCodeLen
	z.model.length = 0
	z.next = partCompressed
	return nil
}

// lzma decodes on in a chunk, and sees to it that the chunk ends as it should.
func (z *Reader) lzma() error {
	from, limit := z.dst.Wr, min(z.limit, z.dst.Wr+z.chunk.left)
	to, err := z.decode(limit)
	z.produced(to - from)
	if err != nil {
		return err
	}
	if z.chunk.left > 0 {
		return nil
	}
	if z.chunk.short != nil {
		return z.chunk.short
	}
	if z.model.length > 0 || !z.finished() {
		return z.corrupt("LZMA2 chunk whose sizes are not those of its data")
	}
	return nil
}
