package bzip2

import "encoding/binary"

// A link is one row of the transform: the row of the byte that follows in the
// text, in the low bits, and the byte itself on top. A block has at most
// 900,000 rows, so 20 bits hold any of them.
const (
	linkRow  = 1<<20 - 1
	linkMark = 1 << 20 // set only within Unwind
	linkByte = 24      // shift to the byte
)

// Block is one block, decoded as far as the inverse of its Burrows-Wheeler
// transform: a link from every byte of its text to the next. Reading a piece
// of it from a Cursor costs one cache miss a byte and nothing else; Unwind
// decodes all of it in a fraction of the time that a read from end to end
// takes. A block may have ranks instead, which are there much sooner, but good
// only for UnwindSpan.
//
// The zero value is an empty block for Stream.Next to fill. Reads may run
// concurrently with each other, not with Next or Unwind, and not while the
// block has ranks.
type Block struct {
	bwt    *column  // the transform's last column,
	size   int      // and how much of it there is
	room   []uint32 // for links, or for the steps of ranks
	links  []uint32 // none if the block has ranks
	ranks  ranks
	origin uint32 // row of the first byte
	crc    uint32
	start  Point
	end    int64
}

// Point returns where the block starts. Its CRC is right if that of the point
// was at which the Stream began.
func (b *Block) Point() Point { return b.start }

// End returns the offset in bits of the first bit after the block.
func (b *Block) End() int64 { return b.end }

// CRC returns the CRC of the decoded bytes as the block has it. Reads do not
// check it, since they may start anywhere: whoever reads the whole block
// compares it with what UpdateCRC makes of the bytes, from 0 on.
func (b *Block) CRC() uint32 { return b.crc }

// Len returns how many bytes of text the block holds: its size before runs are
// expanded, which is the size that the stream's level limits.
func (b *Block) Len() int { return b.size }

// Start returns the cursor of the block's first byte.
func (b *Block) Start() Cursor { return Cursor{Row: b.origin} }

// Ranked reports whether the block has ranks.
func (b *Block) Ranked() bool { return b.size > 0 && len(b.links) == 0 }

// clear makes the block empty.
func (b *Block) clear() { b.size, b.links = 0, b.links[:0] }

// link sets the links from the transform's last column, in the place of ranks.
// The rows are sorted by their first byte and, for equal ones, keep the order
// that those bytes have in the last column; so each byte of it finds its row by
// counting.
//
// Counting up from the first byte and down from the last one at once halves the
// time in which a count waits for the same one to be stored just before. The
// transform is there to make equal bytes meet: a third of them and more are in
// eights that are counted as one.
func (b *Block) link() {
	if len(b.room) < b.size {
		b.room = make([]uint32, roundUp(b.size))
	}
	b.links = b.room[:b.size]
	bwt, links := b.bwt[:b.size], b.links
	up := b.ranks.first  // the next row of each byte, and
	var down [256]uint32 // the one after its last
	copy(down[:], up[1:])
	down[255] = uint32(b.size)
	i, j := 0, len(bwt)
	for j-i >= 16 {
		w := binary.LittleEndian.Uint64(bwt[i:])
		v := binary.LittleEndian.Uint64(bwt[j-8:])
		if c := byte(w); w == uint64(c)*eightOnes {
			linkEight((*[8]uint32)(links[up[c]:]), c, i)
			up[c] += 8
			i += 8
			continue
		}
		if c := byte(v); v == uint64(c)*eightOnes {
			j -= 8
			down[c] -= 8
			linkEight((*[8]uint32)(links[down[c]:]), c, j)
			continue
		}
		for range 8 {
			c, d := byte(w), byte(v>>56)
			w, v = w>>8, v<<8
			j--
			first, last := up[c], down[d]-1
			up[c], down[d] = first+1, last
			links[first] = uint32(c)<<linkByte | uint32(i)
			links[last] = uint32(d)<<linkByte | uint32(j)
			i++
		}
	}
	for ; i < j; i++ {
		c := bwt[i]
		links[up[c]] = uint32(c)<<linkByte | uint32(i)
		up[c]++
	}
}

// linkEight links eight equal bytes, the first at i.
func linkEight(links *[8]uint32, c byte, i int) {
	l := uint32(c)<<linkByte | uint32(i)
	links[0], links[1], links[2], links[3] = l, l+1, l+2, l+3
	links[4], links[5], links[6], links[7] = l+4, l+5, l+6, l+7
}

// roundUp returns the size to allocate for n bytes of text: that of the lowest
// level that holds them.
func roundUp(n int) int {
	return (n + levelSize - 1) / levelSize * levelSize
}

// Read decodes the bytes from c on into p and moves c past them. It fills p
// unless the block ends before, and then returns io.EOF, bare. A cursor that
// does not fit the block gives ErrCursor; one of another block may fit by
// chance, and then the bytes are wrong.
func (b *Block) Read(c *Cursor, p []byte) (int, error) {
	if !c.fits(b.size) {
		return 0, ErrCursor
	}
	if b.Ranked() {
		b.link()
	}
	links, row, pos := b.links, c.Row, int(c.Pos)
	for range c.Skip {
		row = links[row] & linkRow
	}
	n := c.run.flush(p)
	for n < len(p) && pos < len(links) {
		l := links[row]
		row = l & linkRow
		n += c.run.step(byte(l>>linkByte), p[n:])
		pos++
	}
	c.Row, c.Skip = row, 0
	return c.advance(n, len(p), pos, len(links))
}

// unscramble undoes what bzip2 0.9 did to blocks that its sort was slow on: it
// flipped the low bit of some bytes. The places are known by their offset in
// the text, so the text is put in order, and linked in that order.
func (b *Block) unscramble() {
	text := b.bwt[:b.size]
	row := b.origin
	for i := range text {
		l := b.links[row]
		text[i] = byte(l >> linkByte)
		row = l & linkRow
	}
	for i, k := 0, 0; i+randomSteps(k)-2 < len(text); k++ {
		text[i+randomSteps(k)-2] ^= 1
		i += randomSteps(k)
	}
	for i, c := range text {
		b.links[i] = uint32(c)<<linkByte | uint32((i+1)%len(text))
	}
	b.origin = 0
}
