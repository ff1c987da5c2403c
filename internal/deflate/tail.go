package deflate

import (
	"errors"
	"fmt"
	"io"

	"github.com/go-dmg/dmg/internal/readat"
)

// ErrNoTail is the class of what FindTail returns where it finds nothing.
var ErrNoTail = errors.New("deflate: no block that leads to the stream's end")

// A Tail is the end of a stream, from the start of one of its blocks on. Since it
// ends where the stream's output does, the place of each of its bytes is known though
// nothing before them is.
type Tail struct {
	In  int64 // offset of its first block, bits
	End int64 // offset behind its final block, bytes
	Len int64 // bytes of output
}

// FindTail looks for the longest part of a damaged zlib stream that begins at bit
// from or behind it and can be decoded up to the stream's end. r is the data that the
// stream is in, which offsets count from, and end is how many bytes it has. Behind
// the final block there are the 4 bytes of the checksum, then zero bytes, padding of
// them at most, and then end. size is how much output the whole stream has: the tail
// has no more than that, at least one byte, and no match from further back.
//
// [FindBlock] finds places where a block may begin. One is proved by the blocks
// behind it: the decoder must get from each to the next, and be at the stream's end
// behind the final one. Three things follow:
//
//   - Of several damaged places the tail begins behind the last one that keeps the
//     decoder from getting on, or has it end elsewhere.
//   - Damage that only changes bytes isn't noticed. A caller who knows of it gives a
//     from behind it.
//   - A stream within this one, such as a compressed file in a stored block, is taken
//     for the tail if nothing better is before it and it ends where this one must,
//     with as many bytes behind it. A padding of 0 makes that as unlikely as can be.
//
// The error has the class ErrNoTail, or it is r's own. FindTail takes FindMemory
// bytes. All that it decodes is no more than four times size, 16 times the data from
// from on, and a megabyte, where each place that is tried counts as 4 KiB of output,
// and each header with codes as 1 KiB. It reads no more than 256 KiB at a time, so
// that an error of r ends it soon.
func FindTail(r io.ReaderAt, from, end int64, padding int, size int64) (Tail, error) {
	f := &finder{
		src: r, last: end - ZlibTrailerLen, end: end, padding: int64(padding), size: size,
		budget: 4*min(size, 1<<58) + 16*min(end-from/8, 1<<56) + 1<<20, // no chunk is too long to be said
	}
	for from = max(from, 0); ; from++ {
		var err error
		if from, err = f.next(from); err != nil {
			return Tail{}, err
		}
		t, err := f.try(from)
		switch {
		case err == nil && t.Len == 0:
			// The end itself, and no search goes behind that: it would find blocks
			// in the checksum.
			return Tail{}, ErrNoTail
		case err == nil:
			return t, nil
		case f.srcErr != nil:
			return Tail{}, f.srcErr
		case f.budget < 0:
			return Tail{}, fmt.Errorf("%w: gave up at bit %d, the blocks before it lead nowhere", ErrNoTail, from)
		}
	}
}

// FindMemory is what FindTail holds, in bytes. It holds little where the data is short
// and nothing in it looks like a block: a damaged image may have very many such chunks.
const FindMemory = MarkerMemory + pieceLen + 8*maxTried

const (
	// pieceLen is how much of the data is searched at a time.
	pieceLen = 256 << 10

	// maxTried is how many places are remembered from which no decoder gets to the
	// stream's end, a power of two. A block has 10 to 50 KB as a rule.
	maxTried = 32 << 10
)

// What trying a place, or a header with codes, takes of the budget.
const (
	tryCost    = 4 << 10
	headerCost = 1 << 10
)

// A finder looks for a tail.
type finder struct {
	src     io.ReaderAt
	srcErr  error // that src returned
	last    int64 // bytes: where the stream must end, or before,
	padding int64 // by so many bytes
	end     int64 // of the data, bytes
	size    int64
	budget  int64

	base  int64 // offset of piece in the data
	piece []byte
	buf   []byte
	m     *MarkerDecoder // nil until something looks like a block, as tried is

	// tried has the numbers, plus 1, of blocks from which no decoder gets to the
	// stream's end, each in one slot. Different ways lead to the same block: the
	// stream's own blocks lead to each other. What is overwritten costs time only.
	tried []int64
}

// next returns the next place, from bit at on, where a block may begin.
func (f *finder) next(at int64) (int64, error) {
	for at < f.last*8 {
		if err := f.load(at / 8); err != nil {
			return 0, err
		}
		to := len(f.piece)
		if f.base+int64(to) < f.last {
			to -= BlockHeaderLen // it begins in the next piece, and is whole there
		}
		if bit, ok := FindBlock(f.piece, int(at-f.base*8), to*8); ok {
			return f.base*8 + int64(bit), nil
		}
		at = (f.base + int64(to)) * 8
	}
	return 0, ErrNoTail
}

// load makes piece hold the data from byte off on, unless it holds that and a
// header's length behind it.
func (f *finder) load(off int64) error {
	end := f.base + int64(len(f.piece))
	if off >= f.base && (off+BlockHeaderLen < end || end == f.last && off < end) {
		return nil
	}
	f.base, f.piece = off, nil
	if f.buf == nil {
		f.buf = make([]byte, min(pieceLen, f.last-off)) // later pieces are no longer
	}
	p := f.buf[:min(int64(len(f.buf)), f.last-off)]
	if _, err := readat.Full(f.src, p, off); err != nil {
		return err
	}
	f.piece = p
	return nil
}

// slot is that of a bit in tried.
func slot(bit int64) uint64 { return uint64(bit) * 0x9E3779B97F4A7C15 >> 32 % maxTried }

var errNowhere = errors.New("not a block, or one that leads elsewhere")

// try decodes from bit at to the stream's end.
func (f *finder) try(at int64) (Tail, error) {
	f.budget -= tryCost
	if f.m == nil {
		f.m, f.tried = new(MarkerDecoder), make([]int64, maxTried)
	}
	m := f.m
	if err := m.Reset(&finderInput{f: f, off: at / 8}, at, nil); err != nil {
		return Tail{}, err
	}
	for f.budget >= 0 {
		if err := m.Next(); err == io.EOF {
			return f.tail(at)
		} else if err != nil {
			return Tail{}, err
		}
		place := m.place()
		if f.tried[slot(place)] == place+1 {
			return Tail{}, errNowhere
		}
		f.tried[slot(place)] = place + 1
		if err := f.block(); err != nil {
			return Tail{}, err
		}
	}
	return Tail{}, errNowhere
}

// place is a number for the block at hand, whose header has just been read, by which
// it is known again. A stored block may be found a few bits behind where the block
// before it ends, and as one that is final or one that is not.
func (m *MarkerDecoder) place() int64 {
	place := m.In() << 1
	if m.d.final {
		place++
	}
	return place
}

// block decodes the block at hand.
func (f *finder) block() error {
	m := f.m
	f.budget -= 16
	if m.d.state == stDynamic {
		f.budget -= headerCost
	}
	for {
		p, err := m.Decode()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		f.budget -= int64(p.Len())
		if m.Out()+int64(m.Reach()) > f.size {
			// Blocks further on may do: they have less before the end.
			clear(f.tried)
			return errNowhere
		}
		if f.budget < 0 {
			return errNowhere
		}
	}
}

// tail returns the tail from bit at on, if the stream may end where the decoder is
// now.
func (f *finder) tail(at int64) (Tail, error) {
	t := Tail{In: at, End: (f.m.In() + 7) / 8, Len: f.m.Out()}
	padding := f.last - t.End
	if padding < 0 || padding > f.padding {
		return Tail{}, errNowhere
	}
	p := make([]byte, padding)
	if _, err := readat.Full(f.src, p, f.end-padding); err != nil {
		f.srcErr = err
		return Tail{}, err
	}
	for _, c := range p {
		if c != 0 {
			return Tail{}, errNowhere
		}
	}
	return t, nil
}

// finderInput reads the data from off on, up to where the stream must end: out of
// the piece that is searched, as far as that goes.
type finderInput struct {
	f   *finder
	off int64
}

// Read implements io.Reader.
func (r *finderInput) Read(p []byte) (int, error) {
	f := r.f
	if r.off >= f.last {
		return 0, io.EOF
	}
	if at := r.off - f.base; at >= 0 && at < int64(len(f.piece)) {
		n := copy(p, f.piece[at:])
		r.off += int64(n)
		return n, nil
	}
	n, err := readat.Full(f.src, p[:min(int64(len(p)), f.last-r.off)], r.off)
	r.off += int64(n)
	if err != nil {
		f.srcErr = err
	}
	return n, err
}

// Decode decodes the tail, and calls emit for one piece of its output after the
// other, with their offset from the tail's start. Where known is false the byte is
// not: it is a copy of one before the tail, and p has a zero for it. Where some of
// the WindowSize bytes before the tail are known the window has them, and else
// markers; it may be nil. r is what FindTail was given.
//
// The slices are valid until emit returns. An error of emit ends the decoding and is
// returned as it is, and so is one of r. Decode holds MarkerMemory bytes and 96 KiB.
func (t Tail) Decode(r io.ReaderAt, window []Symbol, emit func(off int64, p []byte, known []bool) error) error {
	m := new(MarkerDecoder)
	if err := m.Reset(io.NewSectionReader(r, t.In/8, t.End-t.In/8), t.In, window); err != nil {
		return err
	}
	p, known := make([]byte, maxMarkers+maxMatch), make([]bool, maxMarkers+maxMatch)
	for {
		if err := m.Next(); err == io.EOF {
			break
		} else if err != nil {
			return err
		}
		for {
			off := m.Out()
			s, err := m.Decode()
			if err == io.EOF {
				break
			}
			if err != nil {
				return err
			}
			if m.Out() > t.Len {
				return errChanged
			}
			for i := range s.Len() {
				v := s.At(i)
				p[i], known[i] = byte(v), true
				if v >= Marker {
					p[i], known[i] = 0, false
				}
			}
			if err := emit(off, p[:s.Len()], known[:s.Len()]); err != nil {
				return err
			}
		}
	}
	if m.Out() != t.Len {
		return errChanged
	}
	return nil
}

var errChanged = fmt.Errorf("%w: not the data in which the tail was found", ErrCorrupt)
