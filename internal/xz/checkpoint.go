package xz

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"io"
	"math"

	"github.com/go-dmg/dmg/internal/stream"
)

// A checkpoint stands where the dictionary is empty, so it has no window: at a block's
// header, or at an LZMA2 chunk that resets the dictionary. Where a block has no such chunk
// but its first, as those of most encoders, it is decoded from its start.
//
// The state of a checkpoint is uvarints: the type of check, the number of blocks before it
// in the stream and the hash of their sizes (see tally); then 0 at a block, or inside one
//
//	1; the length of the block's header, and of its data so far; the bits that say which
//	sizes the header has, and both sizes; the bytes decoded of it; the length of its
//	dictionary; the CRC so far
//
// Inside blocks with a SHA-256 there are none: its state is no number.

// noWindow is a packed window of no bytes.
var noWindow = []byte{0}

// marks are the checkpoint that is wanted, and the one that was left.
type marks struct {
	mark   int64 // of output, from which on the next place will do; 0 if none is wanted
	marked bool
	point  stream.Point // if marked
}

// Mark asks for a checkpoint at byte off of the output or the first place behind that can
// have one. Point returns it.
func (m *marks) Mark(off int64) { m.mark, m.marked = off, false }

// Point returns the checkpoint that Mark asked for, if the decoder has come to it. It is
// complete at once, whether this is the end or not.
func (m *marks) Point(end bool) (stream.Point, bool) {
	ok := m.marked
	m.marked = false
	return m.point, ok
}

// leave leaves a checkpoint.
func (m *marks) leave(off, in int64, state []byte) {
	p := stream.Record{In: in, State: state, Window: noWindow}
	m.point = stream.Point{Off: off, In: in, Record: p.Append(m.point.Record[:0])}
	m.mark, m.marked = 0, true
}

// out is how many bytes have been decoded.
func (z *Reader) out() int64 { return z.dst.Base + int64(z.dst.Wr) }

// pass leaves a checkpoint at a place where the dictionary is empty, at byte in of the
// data, if one is wanted.
func (z *Reader) pass(in int64, inside bool) {
	if z.mark == 0 || z.out() < z.mark || inside && z.sum.check == checkSHA256 {
		return
	}
	var space [stream.MaxState]byte
	state := appendState(space[:0], z.sum.check, z.blocks)
	if b := &z.block; inside {
		flags := uint64(0)
		for i, has := range b.has {
			if has {
				flags |= 1 << i
			}
		}
		for _, n := range []uint64{
			1, uint64(b.data - b.from), uint64(in - b.data), flags, b.sizes[0], b.sizes[1],
			b.produced, uint64(b.dictionary), z.sum.crc,
		} {
			state = binary.AppendUvarint(state, n)
		}
	} else {
		state = append(state, 0)
	}
	z.leave(z.out(), in, state)
}

// appendState appends the beginning of a state.
func appendState(dst []byte, check byte, blocks tally) []byte {
	dst = binary.AppendUvarint(dst, uint64(check))
	dst = binary.AppendUvarint(dst, blocks.blocks)
	return binary.AppendUvarint(dst, blocks.hash)
}

// Resume makes z go on at byte off of the output, with the record of a checkpoint there; r
// reads on at byte p.In of the data. The error is stream.ErrRecord.
func (z *Reader) Resume(r io.Reader, off int64, p *stream.Record) error {
	z.Reset(r)
	f := stream.NewFields(p.State)
	z.sum.check = byte(f.Uvarint(15))
	z.blocks = tally{f.Uvarint(math.MaxInt64), f.Uvarint(math.MaxUint64)}
	z.next = partBlock
	if f.Uvarint(1) == 1 {
		z.resumeBlock(&f, p.In)
	}
	if err := f.End(); err != nil {
		return err
	}
	if p.Skip != 0 || p.Need != 0 || !bytes.Equal(p.Window, noWindow) || z.block.from < 0 || off < int64(z.block.produced) {
		return stream.ErrRecord
	}
	z.in.base = p.In
	z.dst.Base = off
	return nil
}

// resumeBlock sets the block at byte in of which decoding resumes.
func (z *Reader) resumeBlock(f *stream.Fields, in int64) {
	b := &z.block
	header, stored, flags := f.Uvarint(maxBlockHeader), f.Uvarint(math.MaxInt64), f.Uvarint(3)
	b.data = in - int64(stored)
	b.from = b.data - int64(header)
	for i := range b.sizes {
		b.sizes[i], b.has[i] = f.Uvarint(math.MaxInt64), flags>>i&1 != 0
	}
	b.produced = f.Uvarint(math.MaxInt64)
	b.dictionary = int64(f.Uvarint(1<<32 - 1))
	z.sum.begin()
	z.sum.crc = f.Uvarint(math.MaxUint64)
	z.chunk = chunk{needs: resetAll}
	z.next = partChunk
}

// maxBlockHeader is the length of the longest block header.
const maxBlockHeader = 1024

// Here returns the record of a checkpoint where Decode has got to, nil if none can be
// there. If a block ends there its check is compared. Errors are those of Decode.
func (s *Streams) Here() ([]byte, error) {
	z := s.z
	z.Mark(z.out())
	defer z.Mark(0)
	for !z.marked && z.next != partStored && z.next != partCompressed {
		if z.dst.Err == nil {
			z.dst.Err = z.step(z.dst.Wr)
		}
		if z.dst.Err == io.EOF {
			if err := z.Next(); err == io.EOF {
				return nil, nil
			}
		}
		if z.dst.Err != nil {
			return nil, z.dst.Err
		}
	}
	if !z.marked {
		return nil, nil
	}
	return z.point.Record, nil
}

// Space returns a buffer for the record that Resume is to have.
func (s *Streams) Space() []byte {
	if m := &s.z.marks; m.point.Record == nil {
		m.point.Record = make([]byte, 0, 2*stream.MaxState)
	}
	return s.z.marks.point.Record
}

// Mark, Point and Resume are those of [Reader], over all streams.
func (s *Streams) Mark(off int64)                      { s.z.Mark(off) }
func (s *Streams) Point(end bool) (stream.Point, bool) { return s.z.Point(end) }
func (s *Streams) Resume(r io.Reader, off int64, p *stream.Record) error {
	s.in = limited{r: r}
	return s.z.Resume(&s.in, off, p)
}

// IndexMemory is what Index allocates at most, in bytes.
const IndexMemory = 256 << 10

// An image has a stream of a block or few. Beyond these numbers the indexes are not read:
// each stream takes a read of the source.
const (
	maxListed = 16       // streams
	firstTail = 16 << 10 // bytes that are read first: an index of 2000 blocks as a rule
)

// Index calls yield for the blocks of a file of so many bytes but the first, in order, with
// the checkpoint at each: from the streams' indexes, without a look at the blocks. What
// these say may be wrong: then the decoder's checkpoint there is another, and the last
// block's end is no place for the index. It calls yield for none if the file does not end
// in an index that could be right. The error is the source's.
func Index(r io.ReaderAt, size int64, yield func(stream.Point)) error {
	t := tail{r: r, end: size, off: size}
	streams, err := t.streams()
	if err != nil || len(streams) == 0 {
		return err
	}
	out, last := int64(0), int64(0)
	var m marks
	for i := len(streams) - 1; i >= 0; i-- {
		s := streams[i]
		index, err := t.bytes(s.index, s.length)
		if err != nil {
			return err
		}
		in := s.start + streamHeaderLen
		blocks := tally{}
		s.check.each(index, func(unpadded, length int64) {
			if out > last { // there may be blocks of nothing
				var space [stream.MaxState]byte
				m.leave(out, in, append(appendState(space[:0], byte(s.check), blocks), 0))
				yield(m.point)
				last = out
			}
			blocks.add(uint64(unpadded), uint64(length))
			in += (unpadded + 3) &^ 3
			out += length
		})
	}
	return nil
}

// listed is a stream as its index has it. Offsets are of the file.
type listed struct {
	start, index int64
	length       int // of the index
	check        checkType
}

// streams returns the streams of the file, the last one first; none if they are not
// all there.
func (t *tail) streams() (all []listed, err error) {
	total := int64(0)
	for end := t.end; end > 0; {
		if len(all) == maxListed {
			return nil, nil
		}
		s, length, err := t.stream(end)
		if err != nil || s.length == 0 || length > math.MaxInt64-total {
			return nil, err
		}
		total += length
		all = append(all, s)
		end = s.start
	}
	return all, nil
}

// stream returns the stream that ends at a place in the file, but for padding, and how many
// bytes it decodes to. Its length is 0 if none does.
func (t *tail) stream(end int64) (s listed, length int64, err error) {
	footer, end, err := t.footer(end)
	if err != nil || footer == nil {
		return s, 0, err
	}
	n := (int64(binary.LittleEndian.Uint32(footer[4:])) + 1) * 4
	s.index = end - footerLen - n
	if footer[8] != 0 || footer[9] > 15 || n > IndexMemory || s.index < streamHeaderLen {
		return s, 0, nil
	}
	s.check = checkType(footer[9])
	index, err := t.bytes(s.index, int(n))
	if err != nil || binary.LittleEndian.Uint32(index[n-4:]) != crc32.ChecksumIEEE(index[:n-4]) {
		return s, 0, err
	}
	stored := int64(0)
	ok := s.check.each(index, func(unpadded, size int64) {
		if stored += min((unpadded+3)&^3, s.index-stored); size > math.MaxInt64-length {
			stored = s.index
			return
		}
		length += size
	})
	if s.start = s.index - stored - streamHeaderLen; ok && s.start >= 0 {
		s.length = int(n)
	}
	return s, length, nil
}

// footer returns the footer that ends at a place in the file, before padding, and its end;
// nil if there is none.
func (t *tail) footer(end int64) ([]byte, int64, error) {
	for from := end; end >= streamHeaderLen+footerLen && from-end < firstTail; end -= 4 {
		p, err := t.bytes(end-footerLen, footerLen)
		switch {
		case err != nil:
			return nil, 0, err
		case string(p[10:]) == footerMagic && binary.LittleEndian.Uint32(p) == crc32.ChecksumIEEE(p[4:10]):
			return p, end, nil
		case binary.LittleEndian.Uint32(p[8:]) != 0:
			return nil, 0, nil
		}
	}
	return nil, 0, nil
}

// checkType is a type of check.
type checkType byte

// each calls yield for the blocks of an index, with their lengths without padding, and
// those of what they decode to. It reports whether the index is whole.
func (c checkType) each(index []byte, yield func(unpadded, size int64)) bool {
	f := fields{p: index[:len(index)-4]}
	if f.byte() != 0 {
		return false
	}
	for n := f.uvarint(); n > 0 && !f.bad; n-- {
		unpadded, size := f.uvarint(), f.uvarint()
		if f.bad || unpadded < 5 || unpadded > math.MaxInt64-3 {
			return false
		}
		yield(int64(unpadded), int64(size))
	}
	return !f.bad && len(f.p) < 4
}

// tail reads a file from its end.
type tail struct {
	r   io.ReaderAt
	end int64
	off int64 // of buf in the file
	buf []byte
}

// bytes returns n bytes of the file from off on, IndexMemory at most. They are valid until
// the next call.
func (t *tail) bytes(off int64, n int) ([]byte, error) {
	if off < t.off || off+int64(n) > t.off+int64(len(t.buf)) {
		// What is before them is wanted next as a rule.
		end := off + int64(n)
		t.off = max(0, min(off, end-firstTail))
		if size := int(end - t.off); cap(t.buf) < size {
			t.buf = make([]byte, size)
		}
		t.buf = t.buf[:end-t.off]
		if _, err := t.r.ReadAt(t.buf, t.off); err != nil {
			return nil, err
		}
	}
	return t.buf[off-t.off:][:n], nil
}
