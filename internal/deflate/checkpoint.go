package deflate

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// ErrCheckpoint is the class of every error about a checkpoint or a packed
// window that can't be true.
var ErrCheckpoint = errors.New("deflate: invalid checkpoint")

func badCheckpoint(msg string) error { return fmt.Errorf("%w: %s", ErrCheckpoint, msg) }

// Block says where in the stream's grammar a checkpoint stands.
type Block uint8

const (
	BlockNone    Block = iota // before a block header or, if Final, at the stream's end
	BlockStored               // inside a stored block
	BlockFixed                // inside a block with the fixed codes
	BlockDynamic              // inside a block with codes of its own
)

// A Checkpoint is what a decoder needs, next to the window, to go on from a
// byte of output.
//
// It has the dynamic block's header in it, 50 to 100 bytes as a rule, and not
// its place in the stream: so to resume takes ONE contiguous read of the
// source, from byte In/8 on. The header may lie megabytes before In (one block
// may fill a stream), and a second read costs a round trip where the source is
// remote. The header's own bits are the most compact form of the code lengths
// at hand, and they are checked and made into tables by the code that does so
// for a stream.
type Checkpoint struct {
	In       int64  // bits before it in the stream
	Out      int64  // bytes of output before it
	Block    Block  // what it stands in
	Final    bool   // the block is the last one
	Stored   int    // bytes left of a stored block, else 0
	Length   int    // bytes left of a match that Out cuts, else 0
	Distance int    // how far back they are
	Header   []byte // BlockDynamic: the header's bits behind BTYPE, from bit 0 on, zero padded
}

// MaxCheckpoint is the longest encoding of a Checkpoint, about, in bytes: a dynamic
// block's header has 286+30 code lengths at most, of 14 bits each.
const MaxCheckpoint = 1 << 10

// Checkpoint sets c to the present position. It allocates nothing if c.Header
// has the capacity.
func (d *Decoder) Checkpoint(c *Checkpoint) {
	*c = Checkpoint{
		In: d.In(), Out: d.Out(), Final: d.final,
		Stored: d.stored, Length: d.mlen, Distance: d.mdist,
		Header: c.Header[:0],
	}
	if d.mlen == 0 {
		c.Distance = 0
	}
	switch d.state {
	case stStored:
		c.Block = BlockStored
	case stFixed:
		c.Block = BlockFixed
	case stDynamic:
		c.Block = BlockDynamic
		c.Header = append(c.Header, d.hdr[:d.hdrLen]...)
	}
}

// Resume continues a stream at c. r delivers the stream from byte c.In/8 on,
// the one that bit c.In lies in; window is what [AppendPackedWindow] made of the
// last min(WindowSize, c.Out) bytes of output before c.
//
// Nothing about them is believed: nonsense gives an ErrCheckpoint. A checkpoint
// that is merely not this stream's gives wrong bytes or an ErrCorrupt later.
// An error of r is returned as it is. After any error the decoder stands for
// nothing until the next Reset or Resume.
func (d *Decoder) Resume(r io.Reader, c *Checkpoint, window []byte) error {
	err := d.place(c, func(dst []byte) error { return unpackWindow(dst, window) })
	if err != nil {
		return err
	}
	return d.Continue(r)
}

// Place is Resume without a reader, and with the window as it is: the last
// min(WindowSize, c.Out) bytes before c. [Decoder.Continue] gives it the reader.
func (d *Decoder) Place(c *Checkpoint, window []byte) error {
	return d.place(c, func(dst []byte) error {
		if len(window) != len(dst) {
			return badCheckpoint("window of the wrong length")
		}
		copy(dst, window)
		return nil
	})
}

func (d *Decoder) place(c *Checkpoint, window func(dst []byte) error) error {
	d.Reset(nil)
	if err := c.check(); err != nil {
		return err
	}
	size := min(WindowSize, c.Out)
	if err := window(d.buf[:size]); err != nil {
		return err
	}
	if err := d.resumeBlock(c); err != nil {
		return err
	}
	d.inBase, d.skip = c.In/8, uint(c.In%8)
	d.final = c.Final
	d.stored, d.mlen, d.mdist = c.Stored, c.Length, c.Distance
	d.opos, d.outBase = int(size), c.Out-size
	return nil
}

// Continue has a decoder go on that has been placed. r is that of Resume, and so are the
// errors.
func (d *Decoder) Continue(r io.Reader) error {
	d.r = r
	d.lender, _ = r.(Lender)
	if d.skip > 0 {
		if err := d.ensure(1); err != nil {
			return err
		}
		d.load()
		d.take(d.skip)
		d.skip = 0
	}
	return nil
}

// resumeBlock sets the state and makes the block's tables.
func (d *Decoder) resumeBlock(c *Checkpoint) error {
	switch c.Block {
	case BlockNone:
		if c.Final {
			d.state = stEnd
		}
	case BlockStored:
		d.state = stStored
	case BlockFixed:
		d.state = stFixed
		d.fixedTables()
	case BlockDynamic:
		d.state = stDynamic
		d.hdrLen = copy(d.hdr[:], c.Header)
		d.iend = copy(d.in[:], c.Header)
		err := d.dynamicTables()
		if err != nil || (d.inBits()+7)/8 != d.hdrLen {
			return badCheckpoint("block header")
		}
		d.bits, d.nbits, d.ipos, d.iend = 0, 0, 0, 0
	}
	return nil
}

// check tests what can be tested without the stream.
func (c *Checkpoint) check() error {
	huffman := c.Block == BlockFixed || c.Block == BlockDynamic
	switch {
	case c.In < 0 || c.Out < 0:
		return badCheckpoint("negative offset")
	case c.Block > BlockDynamic:
		return badCheckpoint("block type")
	case c.Block == BlockStored && (c.Stored < 1 || c.Stored > 0xFFFF || c.In%8 != 0),
		c.Block != BlockStored && c.Stored != 0:
		return badCheckpoint("stored length")
	case c.Length != 0 && !huffman, c.Length < 0, c.Length > maxMatch-1:
		return badCheckpoint("match length")
	case c.Length == 0 && c.Distance != 0,
		c.Length != 0 && (c.Distance < 1 || int64(c.Distance) > min(WindowSize, c.Out)):
		return badCheckpoint("match distance")
	case (c.Block == BlockDynamic) != (len(c.Header) > 0), len(c.Header) > maxHeader:
		return badCheckpoint("block header")
	}
	return nil
}

// The binary form: a byte of flags, In and Out as uvarints; for a stored block
// a uvarint of what is left; if the position cuts a match its length and
// distance as uvarints; for a dynamic block the header's length as a uvarint
// and the header.
const (
	flagBlock = 3 << 0
	flagFinal = 1 << 2
	flagMatch = 1 << 3
)

// AppendBinary appends c in a compact form, some 10 bytes and the header. It
// fails for a checkpoint that Resume would refuse at sight.
func (c *Checkpoint) AppendBinary(dst []byte) ([]byte, error) {
	if err := c.check(); err != nil {
		return dst, err
	}
	flags := byte(c.Block)
	if c.Final {
		flags |= flagFinal
	}
	if c.Length > 0 {
		flags |= flagMatch
	}
	dst = append(dst, flags)
	dst = binary.AppendUvarint(dst, uint64(c.In))
	dst = binary.AppendUvarint(dst, uint64(c.Out))
	if c.Block == BlockStored {
		dst = binary.AppendUvarint(dst, uint64(c.Stored))
	}
	if c.Length > 0 {
		dst = binary.AppendUvarint(dst, uint64(c.Length))
		dst = binary.AppendUvarint(dst, uint64(c.Distance))
	}
	if c.Block == BlockDynamic {
		dst = binary.AppendUvarint(dst, uint64(len(c.Header)))
		dst = append(dst, c.Header...)
	}
	return dst, nil
}

// AppendWithoutOffsets appends p, which AppendBinary wrote, without In and Out,
// for whoever keeps these elsewhere.
func AppendWithoutOffsets(dst, p []byte) []byte {
	b := uvarints{p: p[1:]}
	b.next(1<<63 - 1)
	b.next(1<<63 - 1)
	return append(append(dst, p[0]), b.p...)
}

// AppendWithOffsets appends what AppendWithoutOffsets has made p of, if p is not
// empty.
func AppendWithOffsets(dst, p []byte, in, out int64) []byte {
	if len(p) == 0 {
		return dst
	}
	dst = binary.AppendUvarint(append(dst, p[0]), uint64(in))
	dst = binary.AppendUvarint(dst, uint64(out))
	return append(dst, p[1:]...)
}

// UnmarshalBinary sets c to what AppendBinary wrote, all of p. See Parse.
func (c *Checkpoint) UnmarshalBinary(p []byte) error {
	rest, err := c.Parse(p)
	if err == nil && len(rest) > 0 {
		return badCheckpoint("bytes left over")
	}
	return err
}

// Parse sets c to the checkpoint at the beginning of p and returns what is
// behind it. p may come from anyone: what Parse accepts has every field in its
// range, and only Resume can tell whether the block's header is a valid one.
// c keeps nothing of p, and its Header's memory is used again.
func (c *Checkpoint) Parse(p []byte) (rest []byte, err error) {
	if len(p) == 0 || p[0] >= flagMatch<<1 {
		return nil, badCheckpoint("flags")
	}
	flags := p[0]
	b := uvarints{p: p[1:]}
	n := Checkpoint{Block: Block(flags & flagBlock), Final: flags&flagFinal != 0, Header: c.Header[:0]}
	n.In, n.Out = int64(b.next(1<<63-1)), int64(b.next(1<<63-1))
	if n.Block == BlockStored {
		n.Stored = int(b.next(0xFFFF))
	}
	if flags&flagMatch != 0 {
		n.Length, n.Distance = int(b.next(maxMatch)), int(b.next(WindowSize))
		b.bad = b.bad || n.Length == 0
	}
	if n.Block == BlockDynamic {
		size := int(b.next(maxHeader))
		if size > len(b.p) {
			return nil, badCheckpoint("cut short")
		}
		n.Header = append(n.Header, b.p[:size]...)
		b.p = b.p[size:]
	}
	if b.bad {
		return nil, badCheckpoint("number")
	}
	if err := n.check(); err != nil {
		return nil, err
	}
	*c = n
	return b.p, nil
}

// uvarints reads numbers off p. After a failure it is bad and yields zeros.
type uvarints struct {
	p   []byte
	bad bool
}

func (b *uvarints) next(limit uint64) uint64 {
	v, n := binary.Uvarint(b.p)
	if n <= 0 || v > limit {
		b.bad, b.p = true, nil
		return 0
	}
	b.p = b.p[n:]
	return v
}
