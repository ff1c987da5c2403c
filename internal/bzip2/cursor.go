package bzip2

import (
	"encoding/binary"
	"io"
)

const (
	// pieceLen is how far apart the rows are that a Text knows, and so the
	// bound of a Cursor's Skip.
	pieceLen = 1024

	// maxOut is the most bytes that a block decodes to: runs of 259 made of
	// 5 bytes each.
	maxOut = maxLevel * levelSize / (runLen + 1) * (runLen + 255)

	cursorLen = 15
)

// Cursor is a position in a block from which Read can go on, at any byte of
// its output. It is comparable, but one position may have several cursors:
// they differ in Row and Skip. The zero Cursor is the start of a Text and of
// no Block.
type Cursor struct {
	Out  uint32 // decoded bytes before it
	Pos  uint32 // bytes of text before it
	Row  uint32 // a row of the transform, and
	Skip uint16 // how many links to follow from there to the next byte of text
	run  run
}

// fits reports whether c can be a position in a block of n bytes of text.
func (c *Cursor) fits(n int) bool {
	return uint64(c.Pos) <= uint64(n) && (uint64(c.Row) < uint64(n) || n == 0) &&
		c.valid()
}

// valid reports whether c can be a position in some block.
func (c *Cursor) valid() bool {
	return c.Out <= maxOut && c.Pos <= maxLevel*levelSize && c.Row < maxLevel*levelSize &&
		c.Skip < pieceLen && uint32(c.Skip) <= c.Pos &&
		c.run.equal <= runLen && (c.run.pending == 0 || c.run.equal == 0)
}

// at is where in the text the next byte of its row is.
func (c *Cursor) at() uint32 { return c.Pos - uint32(c.Skip) }

// advance moves c by n bytes of output to pos in a text of size bytes, and
// returns what a Read of want bytes does.
func (c *Cursor) advance(n, want, pos, size int) (int, error) {
	c.Out += uint32(n)
	c.Pos = uint32(pos)
	switch {
	case n == want:
		return n, nil
	case c.run.equal == runLen:
		return n, errNoLength
	}
	return n, io.EOF
}

// AppendBinary appends c to p in 15 bytes. The error is always nil.
func (c Cursor) AppendBinary(p []byte) ([]byte, error) {
	p = binary.BigEndian.AppendUint32(p, c.Out)
	p = append(p, byte(c.Pos>>16), byte(c.Pos>>8), byte(c.Pos))
	p = append(p, byte(c.Row>>16), byte(c.Row>>8), byte(c.Row))
	p = binary.BigEndian.AppendUint16(p, c.Skip)
	return append(p, c.run.last, c.run.equal, c.run.pending), nil
}

// UnmarshalBinary sets c from the 15 bytes that AppendBinary appends. What can
// be no position in any block gives ErrCursor; Read checks the rest.
func (c *Cursor) UnmarshalBinary(p []byte) error {
	if len(p) != cursorLen {
		return ErrCursor
	}
	v := Cursor{
		Out:  binary.BigEndian.Uint32(p),
		Pos:  binary.BigEndian.Uint32(p[3:]) & (1<<24 - 1),
		Row:  binary.BigEndian.Uint32(p[6:]) & (1<<24 - 1),
		Skip: binary.BigEndian.Uint16(p[10:]),
		run:  run{last: p[12], equal: p[13], pending: p[14]},
	}
	if !v.valid() {
		return ErrCursor
	}
	*c = v
	return nil
}
