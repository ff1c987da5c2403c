package xz

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"hash/crc32"
	"hash/crc64"
	"io"
)

const (
	headerMagic = "\xFD7zXZ\x00"
	footerMagic = "YZ"

	streamHeaderLen = 12
	footerLen       = 12

	lzma2ID = 0x21
)

// Types of check (section 2.1.1.2).
const (
	checkNone   = 0x00
	checkCRC32  = 0x01
	checkCRC64  = 0x04
	checkSHA256 = 0x0A
)

// checkLen is how long a check is, by its type, known or not.
var checkLen = [16]int{0, 4, 4, 4, 8, 8, 8, 16, 16, 16, 32, 32, 32, 64, 64, 64}

var ecma = crc64.MakeTable(crc64.ECMA)

// blockSum computes the check of a block. One that isn't known is not looked at
// (section 3.4).
type blockSum struct {
	check byte // its type
	crc   uint64
	sha   hash.Hash // if that is the type
	space [sha256.Size]byte
}

// begin starts the check of a block.
func (s *blockSum) begin() {
	s.crc = 0
	if s.check == checkSHA256 {
		if s.sha == nil {
			s.sha = sha256.New()
		}
		s.sha.Reset()
	}
}

// add adds data of the block.
func (s *blockSum) add(p []byte) {
	switch s.check {
	case checkCRC32:
		s.crc = uint64(crc32.Update(uint32(s.crc), crc32.IEEETable, p))
	case checkCRC64:
		s.crc = crc64.Update(s.crc, ecma, p)
	case checkSHA256:
		s.sha.Write(p)
	}
}

// matches compares a stored check with the data's. CRCs are little-endian in the file.
func (s *blockSum) matches(stored []byte) bool {
	switch s.check {
	case checkCRC32:
		return binary.LittleEndian.Uint32(stored) == uint32(s.crc)
	case checkCRC64:
		return binary.LittleEndian.Uint64(stored) == s.crc
	case checkSHA256:
		return bytes.Equal(s.sha.Sum(s.space[:0]), stored)
	}
	return true
}

// tally is what an index says of the blocks: how many there are, and a hash of
// their sizes, for both to be compared without being kept.
type tally struct{ blocks, hash uint64 }

// add counts a block: its length without padding, and that of its data. The hash
// is FNV-1a's, of words instead of bytes.
func (t *tally) add(unpadded, size uint64) {
	const prime = 1<<40 + 0x1B3
	t.blocks++
	t.hash = ((t.hash^unpadded)*prime ^ size) * prime
}

// block is the block at hand.
type block struct {
	from     int64 // offset of its header in the stream
	data     int64 // offset behind that
	sizes    [2]uint64
	has      [2]bool // whether the header says the compressed, the uncompressed size
	produced uint64  // bytes

	dictionary int64 // its length, in bytes
}

// streamHeader reads section 2.1.1.
func (z *Reader) streamHeader() error {
	p, err := z.in.take(streamHeaderLen)
	if err != nil {
		return err
	}
	switch {
	case string(p[:6]) != headerMagic:
		return z.corrupt("no .xz stream")
	case binary.LittleEndian.Uint32(p[8:]) != crc32.ChecksumIEEE(p[6:8]):
		return z.corrupt("checksum of the stream header")
	case p[6] != 0 || p[7] > 15:
		return z.corrupt("stream flags")
	}
	z.sum.check = p[7]
	z.next = partBlock
	return nil
}

// blockHeader reads section 3.1, or goes on to the index.
func (z *Reader) blockHeader() error {
	z.block = block{from: z.in.offset()}
	z.in.sum = 0
	p, err := z.in.take(1)
	if err != nil {
		return err
	}
	if p[0] == 0 {
		return z.index()
	}
	z.pass(z.block.from, false)
	n := int(p[0])*4 + 3 // behind this byte
	if p, err = z.in.take(n - 4); err != nil {
		return err
	}
	if err := z.takeSum("block header"); err != nil {
		return err
	}
	z.block.data = z.in.offset()
	return z.parseBlockHeader(p)
}

// takeSum reads a CRC-32 and compares it with that of what came before.
func (z *Reader) takeSum(of string) error {
	sum := z.in.sum
	p, err := z.in.take(4)
	if err != nil {
		return err
	}
	if binary.LittleEndian.Uint32(p) != sum {
		return z.corrupt("checksum of the " + of)
	}
	return nil
}

// parseBlockHeader reads a block header from its flags on.
func (z *Reader) parseBlockHeader(p []byte) error {
	h := fields{p: p}
	flags := h.byte()
	if flags&0x3C != 0 {
		return z.corrupt("block flags")
	}
	for i := range z.block.sizes {
		if z.block.has[i] = flags>>(6+i)&1 != 0; z.block.has[i] {
			z.block.sizes[i] = h.uvarint()
		}
	}
	filters := int(flags&3) + 1
	id := h.uvarint()
	props := h.bytes(h.uvarint())
	switch {
	case h.bad:
		return z.corrupt("block header")
	case filters > 1 || id != lzma2ID:
		return fmt.Errorf("%w %#x", ErrFilter, id)
	case len(props) != 1 || props[0] > 40:
		return z.corrupt("LZMA2 properties")
	case len(bytes.Trim(h.p, "\x00")) > 0:
		return z.corrupt("padding of a block header")
	}
	z.sum.begin()
	z.block.dictionary = dictionary(props[0])
	z.chunk = chunk{needs: resetAll}
	z.next = partChunk
	return nil
}

// endBlock reads what follows the data of a block: padding and check.
func (z *Reader) endBlock() error {
	b := &z.block
	stored := uint64(z.in.offset() - b.data)
	if b.has[0] && b.sizes[0] != stored || b.has[1] && b.sizes[1] != b.produced {
		return z.corrupt("sizes in a block header")
	}
	padding, err := z.in.take(int(-stored & 3))
	if err != nil {
		return err
	}
	if len(bytes.Trim(padding, "\x00")) > 0 {
		return z.corrupt("padding of a block")
	}
	check, err := z.in.take(checkLen[z.sum.check])
	if err != nil {
		return err
	}
	if !z.sum.matches(check) {
		return fmt.Errorf("%w of a block, at offset %d", ErrCheck, z.in.offset())
	}
	z.blocks.add(uint64(b.data-b.from)+stored+uint64(len(check)), b.produced)
	z.next = partBlock
	return nil
}

// index reads section 4, whose first byte has been read, and the footer.
func (z *Reader) index() error {
	count, err := z.takeUvarint()
	if err != nil {
		return err
	}
	var listed tally
	for range count {
		unpadded, err := z.takeUvarint()
		if err != nil {
			return err
		}
		size, err := z.takeUvarint()
		if err != nil {
			return err
		}
		listed.add(unpadded, size)
		if listed.blocks > z.blocks.blocks {
			break
		}
	}
	padding, err := z.in.take(int(-(z.in.offset() - z.block.from) & 3))
	if err != nil {
		return err
	}
	if listed != z.blocks || count != z.blocks.blocks || len(bytes.Trim(padding, "\x00")) > 0 {
		return z.corrupt("index")
	}
	if err := z.takeSum("index"); err != nil {
		return err
	}
	return z.footer(z.in.offset() - z.block.from)
}

// takeUvarint reads a number of section 1.2 from the stream.
func (z *Reader) takeUvarint() (v uint64, err error) {
	for shift := 0; shift < 63; shift += 7 {
		p, err := z.in.take(1)
		if err != nil {
			return 0, err
		}
		v |= uint64(p[0]&0x7F) << shift
		if p[0] < 0x80 {
			if p[0] == 0 && shift > 0 {
				break
			}
			return v, nil
		}
	}
	return 0, z.corrupt("a number")
}

// footer reads section 2.1.2, behind an index of so many bytes.
func (z *Reader) footer(index int64) error {
	p, err := z.in.take(footerLen)
	if err != nil {
		return err
	}
	switch {
	case string(p[10:]) != footerMagic:
		return z.corrupt("footer")
	case binary.LittleEndian.Uint32(p) != crc32.ChecksumIEEE(p[4:10]):
		return z.corrupt("checksum of the footer")
	case p[8] != 0 || p[9] != z.sum.check:
		return z.corrupt("stream flags in the footer")
	case (int64(binary.LittleEndian.Uint32(p[4:]))+1)*4 != index:
		return z.corrupt("size of the index in the footer")
	}
	return io.EOF
}

// Dictionary returns how long a dictionary the first block of a stream asks for,
// in bytes, by the stream's first bytes: 0 if they don't say. A hundred are enough
// as a rule, and more than the longest header is of no use.
func Dictionary(stream []byte) int64 {
	if len(stream) <= streamHeaderLen {
		return 0
	}
	n := int(stream[streamHeaderLen]) * 4 // with the first byte, without its checksum
	h := fields{p: stream[streamHeaderLen+1 : max(streamHeaderLen+1, min(len(stream), streamHeaderLen+n))]}
	flags := h.byte()
	for i := 6; i < 8; i++ {
		if flags>>i&1 != 0 {
			h.uvarint()
		}
	}
	id := h.uvarint()
	props := h.bytes(h.uvarint())
	if h.bad || id != lzma2ID || len(props) != 1 || props[0] > 40 {
		return 0
	}
	return dictionary(props[0])
}

// dictionary decodes section 5.3.1.
func dictionary(bits byte) int64 {
	if bits == 40 {
		return 1<<32 - 1
	}
	return int64(2|bits&1) << (bits/2 + 11)
}

// fields reads off p. After a failure it is bad and yields zeros.
type fields struct {
	p   []byte
	bad bool
}

func (f *fields) bytes(n uint64) []byte {
	if n > uint64(len(f.p)) {
		f.bad, f.p = true, nil
		return nil
	}
	p := f.p[:n]
	f.p = f.p[n:]
	return p
}

func (f *fields) byte() byte {
	if p := f.bytes(1); len(p) > 0 {
		return p[0]
	}
	return 0
}

// uvarint reads a number of section 1.2: 63 bits, and no longer than need be.
func (f *fields) uvarint() uint64 {
	v, n := binary.Uvarint(f.p)
	if n <= 0 || n > 9 || n > 1 && f.p[n-1] == 0 {
		f.bad, f.p = true, nil
		return 0
	}
	f.p = f.p[n:]
	return v
}
