package bzip2

import (
	"encoding/binary"
	"io"
)

const (
	blockMagic = 0x314159265359 // pi
	endMagic   = 0x177245385090 // its root
	magicLen   = 48

	pointLen = 13
)

// Point is a place between blocks from which a Stream can go on. The zero Point
// is the start of the data.
type Point struct {
	In    int64  // offset in bits
	Level int    // of the stream it is in; 0 where a stream's header is next
	CRC   uint32 // of the stream's blocks before it, combined
}

// After returns the point after block b, if b begins at p and is of its level.
// This is how blocks decoded apart from each other are joined: a block found by
// its magic is genuine only if the one before it ended there.
func (p Point) After(b *Block) (Point, bool) {
	return p.after(b.start.In, b.end, b.Len(), b.crc)
}

// AfterText is After for a block of which only the text is left.
func (p Point) AfterText(t *Text) (Point, bool) {
	return p.after(t.from, t.to, t.size, t.crc)
}

func (p Point) after(in, end int64, size int, crc uint32) (Point, bool) {
	if p.Level == 0 || in != p.In || size > p.Level*levelSize {
		return p, false
	}
	return Point{In: end, Level: p.Level, CRC: combine(p.CRC, crc)}, true
}

// valid reports whether p can be a place in some data.
func (p Point) valid() bool {
	return p.In >= 0 && p.Level >= 0 && p.Level <= maxLevel &&
		(p.Level > 0 || p.In&7 == 0 && p.CRC == 0)
}

// AppendBinary appends p to dst in 13 bytes. The error is always nil.
func (p Point) AppendBinary(dst []byte) ([]byte, error) {
	dst = binary.BigEndian.AppendUint64(dst, uint64(p.In))
	dst = append(dst, byte(p.Level))
	return binary.BigEndian.AppendUint32(dst, p.CRC), nil
}

// UnmarshalBinary sets p from the 13 bytes that AppendBinary appends. What can
// be no point of any data gives ErrCursor.
func (p *Point) UnmarshalBinary(src []byte) error {
	if len(src) != pointLen {
		return ErrCursor
	}
	v := Point{
		In:    int64(binary.BigEndian.Uint64(src)),
		Level: int(src[8]),
		CRC:   binary.BigEndian.Uint32(src[9:]),
	}
	if !v.valid() {
		return ErrCursor
	}
	*p = v
	return nil
}

// Stream reads the blocks of one or more bzip2 streams that stand one after the
// other. It is to be Reset or Resumed before use, and for one goroutine. It
// reads at most 32 KiB more of its source than the blocks it decodes.
type Stream struct {
	r       bitReader
	d       decoder
	point   Point // the next thing to decode, or past its magic:
	atBlock bool
	err     error
}

// Reset starts reading data from its beginning, a stream's header.
func (s *Stream) Reset(r io.Reader) { s.Resume(r, Point{}) }

// Resume starts reading at p. r delivers first the byte that holds bit p.In. A
// point that is none makes Next return ErrCursor.
func (s *Stream) Resume(r io.Reader, p Point) {
	s.point, s.atBlock, s.err = p, false, nil
	if !p.valid() {
		s.err = ErrCursor
		return
	}
	s.r.reset(r, p.In)
}

// Point returns where the Stream is: after the block last decoded, or at the
// block that Peek found.
func (s *Stream) Point() Point { return s.point }

// Peek goes to the next block, past the ends and headers of streams before it,
// and returns the block's point. It returns io.EOF after the last stream; bytes
// after that which begin no further stream are ignored. The CRC of a stream
// that ends here is checked, against that of the point the Stream began at and
// the CRCs that the blocks have.
func (s *Stream) Peek() (Point, error) {
	for !s.atBlock && s.err == nil {
		if s.point.Level == 0 {
			s.err = s.header()
		} else {
			s.err = s.magic(true)
		}
	}
	return s.point, s.err
}

// EndStream reads what stands behind the block last decoded, for a reader that
// needs no block after it. Where the stream ends there, EndStream compares the
// stream's CRC and returns true. It looks at nothing behind the stream's last byte,
// where Peek goes on to the next stream's header; Peek and Next still may. Where
// another block begins, EndStream returns false: the stream's CRC stands further on,
// and Next decodes that block. A Stream that has not begun reads its header first.
//
// The CRC is that of all the stream's blocks, so it can be compared only if the CRC
// of the point at which the Stream began is right. A caller who resumed at a point
// with any CRC passes false for crc.
//
// The errors are those of Peek but for io.EOF, and are returned again by later calls
// of any method.
func (s *Stream) EndStream(crc bool) (ended bool, err error) {
	for !s.atBlock && s.err == nil {
		switch {
		case s.point.Level > 0:
			s.err = s.magic(crc)
		case s.point.In > 0:
			return true, nil
		default:
			s.err = s.header()
		}
	}
	if s.err == io.EOF { // Peek has been here
		return true, nil
	}
	return false, s.err
}

// Next decodes the next block into b. Errors are those of Peek; an Error of
// class ErrCorrupt or ErrChecksum; io.ErrUnexpectedEOF; and the source's own.
// After an error it returns that again, until Reset or Resume, and b is empty.
//
// A worker that was only told of a magic at some bit resumes there, with the
// highest level and any CRC, and calls Next once: what is no block fails soon
// and at the cost of one block at most.
func (s *Stream) Next(b *Block) error { return s.next(b, false) }

// NextRanked is Next for one who wants a few bytes of the block, between cursors
// that are known: if it can be the block has ranks. A Read or an Unwind of it
// makes links of them first.
func (s *Stream) NextRanked(b *Block) error { return s.next(b, true) }

func (s *Stream) next(b *Block, ranked bool) error {
	b.clear()
	if _, err := s.Peek(); err != nil {
		return err
	}
	b.start = s.point
	if s.err = s.block(b, ranked); s.err != nil {
		b.clear()
		return s.err
	}
	b.end = s.r.in()
	s.atBlock = false
	s.point = Point{In: b.end, Level: s.point.Level, CRC: combine(s.point.CRC, b.crc)}
	return nil
}

// block decodes a block from after its magic.
func (s *Stream) block(b *Block, ranked bool) error {
	size := s.point.Level * levelSize
	h, msg := s.d.readHeader(&s.r, s.point.Level)
	if s.r.over() {
		return s.r.cause()
	}
	if msg != "" {
		return s.corrupt(msg)
	}
	ranked = ranked && !h.random // whose text is not what the column says
	s.d.into(b, ranked, size)
	n, msg := s.d.readData(&s.r, &h, size)
	switch {
	case s.r.over():
		return s.r.cause()
	case msg != "":
		return s.corrupt(msg)
	case h.origin >= n:
		return s.corrupt("origin outside the block")
	}
	b.crc, b.origin, b.size = h.crc, uint32(h.origin), n
	b.ranks.order(&s.d.counts)
	if ranked {
		b.ranks.mark(b.bwt, n, s.d.used[0])
		return nil
	}
	b.link()
	if h.random {
		b.unscramble()
	}
	return nil
}

// header reads a stream's header, which any but the first stream may lack.
func (s *Stream) header() error {
	for i, want := range "BZh" {
		c := s.r.take(8)
		if s.r.over() {
			if i == 0 && s.r.err == io.EOF && s.point.In > 0 {
				return io.EOF
			}
			return s.r.cause()
		}
		if rune(c) != want {
			return s.notStream()
		}
	}
	level := int(s.r.take(8)) - '0'
	if s.r.over() {
		return s.r.cause()
	}
	if level < 1 || level > maxLevel {
		return s.notStream()
	}
	s.point = Point{In: s.r.in(), Level: level}
	return nil
}

// notStream says what bytes mean that are no stream's header.
func (s *Stream) notStream() error {
	if s.point.In > 0 {
		return io.EOF
	}
	return s.corrupt("no bzip2 stream")
}

// magic reads what stands before a block or at a stream's end, and compares the
// stream's CRC if that is to be.
func (s *Stream) magic(crc bool) error {
	magic := uint64(s.r.take(24))<<24 | uint64(s.r.take(24))
	if s.r.over() {
		return s.r.cause()
	}
	switch magic {
	case blockMagic:
		s.atBlock = true
		return nil
	case endMagic:
		return s.endStream(crc)
	}
	return s.corrupt("neither a block nor the stream's end")
}

// endStream reads the rest of a stream and goes to the byte after it.
func (s *Stream) endStream(compare bool) error {
	crc := s.r.take(32)
	s.r.align()
	if s.r.over() {
		return s.r.cause()
	}
	if compare && crc != s.point.CRC {
		return &Error{Class: ErrChecksum, In: s.point.In, Msg: "stream"}
	}
	s.point = Point{In: s.r.in()}
	return nil
}

func (s *Stream) corrupt(msg string) error {
	return &Error{Class: ErrCorrupt, In: s.point.In, Msg: msg}
}
