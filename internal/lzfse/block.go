package lzfse

import (
	"encoding/binary"
	"io"
)

// The first four bytes of each kind of block, as a little-endian word.
const (
	magicEnd    = 'b' | 'v'<<8 | 'x'<<16 | '$'<<24
	magicStored = 'b' | 'v'<<8 | 'x'<<16 | '-'<<24
	magicV1     = 'b' | 'v'<<8 | 'x'<<16 | '1'<<24
	magicV2     = 'b' | 'v'<<8 | 'x'<<16 | '2'<<24
	magicLZVN   = 'b' | 'v'<<8 | 'x'<<16 | 'n'<<24
)

const (
	storedHeaderLen = 8
	lzvnHeaderLen   = 12
	v1HeaderLen     = 772 // the frequencies end at 770; the C structure is padded
	v1FreqAt        = 50
	v2FixedLen      = 32
	v2MaxHeaderLen  = v2FixedLen + (numFreqs*14+7)/8
)

// A block keeps the encoders' buffers small: so many matches, four times as
// many literals. Every decoder relies on it.
const (
	maxMatches  = 10000
	maxLiterals = 4 * maxMatches
)

// blockKind says which decoder a block needs; the zero value is between blocks.
type blockKind uint8

const (
	betweenBlocks blockKind = iota
	storedBlock
	lzvnBlock
	fseBlock
)

// block is the block being decoded.
type block struct {
	kind     blockKind
	rawLeft  int64 // bytes of the declared decoded size still to come
	packLeft int64 // LZVN: bytes of the payload still to come
	bare     bool  // LZVN: no block, but codes of unknown length
	prev     int   // distance of the last match, 0: none yet in this block
	header   int64 // of a block with entropy coding: the offset of its header

	lmd lmdState
}

// step decodes some of the current block, up to about mem.out[:limit], or reads
// the next block's header.
func (z *Reader) step(limit int) error {
	if limit = z.dst.Until(limit); limit == z.dst.Wr {
		z.checkpoint()
		return nil
	}
	switch z.blk.kind {
	case storedBlock:
		return z.stored(limit)
	case lzvnBlock:
		return z.lzvn(limit)
	case fseBlock:
		return z.lmd(limit)
	}
	return z.header()
}

// header reads a block's header. io.EOF stands for the end of the stream.
func (z *Reader) header() error {
	if err := z.in.fill(4); err != nil {
		return err
	}
	switch binary.LittleEndian.Uint32(z.in.bytes()) {
	case magicEnd:
		return io.EOF
	case magicStored:
		return z.storedHeader()
	case magicLZVN:
		return z.lzvnHeader()
	case magicV1:
		return z.v1Header()
	case magicV2:
		return z.v2Header()
	}
	return z.corrupt("unknown block magic")
}

// storedHeader reads: magic, decoded size.
func (z *Reader) storedHeader() error {
	if err := z.in.fill(storedHeaderLen); err != nil {
		return err
	}
	size := binary.LittleEndian.Uint32(z.in.bytes()[4:])
	z.in.rd += storedHeaderLen
	if size > 0 {
		z.blk = block{kind: storedBlock, rawLeft: int64(size)}
	}
	return nil
}

// lzvnHeader reads: magic, decoded size, payload size.
func (z *Reader) lzvnHeader() error {
	if err := z.in.fill(lzvnHeaderLen); err != nil {
		return err
	}
	b := z.in.bytes()
	z.blk = block{
		kind:     lzvnBlock,
		rawLeft:  int64(binary.LittleEndian.Uint32(b[4:])),
		packLeft: int64(binary.LittleEndian.Uint32(b[8:])),
	}
	z.in.rd += lzvnHeaderLen
	return nil
}

// stored copies bytes of a bvx- block.
func (z *Reader) stored(limit int) error {
	if err := z.in.fill(1); err != nil {
		return err
	}
	b := z.in.bytes()
	b = b[:min(int64(len(b)), z.blk.rawLeft)]
	n := copy(z.mem.out[z.dst.Wr:limit], b)
	z.dst.Wr += n
	z.in.rd += n
	if z.blk.rawLeft -= int64(n); z.blk.rawLeft == 0 {
		z.blk.kind = betweenBlocks
	}
	return nil
}

// fseHeader is what the headers of bvx1 and bvx2 blocks say besides the
// frequencies. The bits are the negated number of unused bits in the last byte
// of a payload.
type fseHeader struct {
	raw, literals, matches uint32
	litBytes, lmdBytes     uint32
	litBits, lmdBits       int32
	lit                    [4]uint16 // states of the four literal decoders
	l, m, d                uint16    // states of the other three
}

// v1Header reads a bvx1 header: all fields at their natural width.
func (z *Reader) v1Header() error {
	if err := z.in.fill(v1HeaderLen); err != nil {
		return err
	}
	b := z.in.bytes()[:v1HeaderLen]
	le := binary.LittleEndian
	h := fseHeader{
		raw:      le.Uint32(b[4:]),
		literals: le.Uint32(b[12:]),
		matches:  le.Uint32(b[16:]),
		litBytes: le.Uint32(b[20:]),
		lmdBytes: le.Uint32(b[24:]),
		litBits:  int32(le.Uint32(b[28:])),
		lmdBits:  int32(le.Uint32(b[40:])),
		l:        le.Uint16(b[44:]),
		m:        le.Uint16(b[46:]),
		d:        le.Uint16(b[48:]),
	}
	for i := range h.lit {
		h.lit[i] = le.Uint16(b[32+2*i:])
	}
	if uint64(le.Uint32(b[8:])) != uint64(h.litBytes)+uint64(h.lmdBytes) {
		return z.corrupt("payload size is not the sum of its parts")
	}
	for i := range z.mem.tables.freq {
		z.mem.tables.freq[i] = le.Uint16(b[v1FreqAt+2*i:])
	}
	return z.startFSE(&h, v1HeaderLen)
}

// v2Header reads a bvx2 header: three words of bit fields, then the frequencies.
// The unused bits on top of each word are read with the field below them, so
// that a set one takes the field out of its range.
func (z *Reader) v2Header() error {
	if err := z.in.fill(v2FixedLen); err != nil {
		return err
	}
	b := z.in.bytes()
	le := binary.LittleEndian
	p0, p1, p2 := le.Uint64(b[8:]), le.Uint64(b[16:]), le.Uint64(b[24:])
	size := uint32(p2)
	if size < v2FixedLen || size > v2MaxHeaderLen {
		return z.corrupt("impossible header size")
	}
	if err := z.in.fill(int(size)); err != nil {
		return err
	}
	b = z.in.bytes()[:size]
	h := fseHeader{
		raw:      le.Uint32(b[4:]),
		literals: uint32(p0 & 0xFFFFF),
		litBytes: uint32(p0 >> 20 & 0xFFFFF),
		matches:  uint32(p0 >> 40 & 0xFFFFF),
		litBits:  int32(p0>>60) - 7,
		lmdBytes: uint32(p1 >> 40 & 0xFFFFF),
		lmdBits:  int32(p1>>60) - 7,
		l:        uint16(p2 >> 32 & 0x3FF),
		m:        uint16(p2 >> 42 & 0x3FF),
		d:        uint16(p2 >> 52),
	}
	for i := range h.lit {
		h.lit[i] = uint16(p1 >> (10 * i) & 0x3FF)
	}
	if !unpackFreqs(&z.mem.tables.freq, b[v2FixedLen:]) {
		return z.corrupt("frequency tables don't fill their header")
	}
	return z.startFSE(&h, int(size))
}

// startFSE checks a header of headerLen bytes, takes it and the literals'
// payload from the input, decodes the literals and gets ready for the triples.
func (z *Reader) startFSE(h *fseHeader, headerLen int) error {
	if msg := h.check(); msg != "" {
		return z.corrupt(msg)
	}
	if msg := z.mem.tables.build(h); msg != "" {
		return z.corrupt(msg)
	}
	header := z.in.offset()
	z.in.rd += headerLen
	if err := z.in.fill(int(h.litBytes)); err != nil {
		return err
	}
	if !z.literals(h) {
		return z.corrupt("literals don't match their payload")
	}
	z.in.rd += int(h.litBytes)
	if err := z.in.fill(int(h.lmdBytes)); err != nil {
		return err
	}
	return z.startLMD(h, header)
}

// check tells what is wrong with a header, "" if nothing is.
func (h *fseHeader) check() string {
	switch {
	case h.literals > maxLiterals || h.literals%4 != 0:
		return "impossible number of literals"
	case h.matches > maxMatches:
		return "impossible number of matches"
	case h.litBytes > maxLiteralPayload || h.lmdBytes < lmdPad || h.lmdBytes > maxLMDPayload:
		return "impossible payload size"
	case h.litBits < -7 || h.litBits > 0 || h.lmdBits < -7 || h.lmdBits > 0:
		return "impossible number of bits"
	case max(h.lit[0], h.lit[1], h.lit[2], h.lit[3]) >= literalStates:
		return "literal state out of range"
	case h.l >= lStates || h.m >= mStates || h.d >= dStates:
		return "state out of range"
	case h.raw > h.literals+h.matches*maxM:
		return "decoded size larger than the block can give"
	}
	return ""
}
