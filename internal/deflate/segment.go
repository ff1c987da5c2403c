package deflate

import (
	"encoding/binary"
	"io"
	"sync/atomic"
)

// A Segment is a part of a stream that a ParallelReader has decoded, from one place
// between two blocks on.
type Segment struct {
	next *Segment // in the order of the stream
	dead atomic.Bool

	// The reader's lock guards these.
	state  segState
	from   int64    // bit at or behind which it begins
	piece  int64    // in which from or start is
	start  int64    // bit at which it begins; -1 if that is yet to be found
	key    blockKey // of start
	linked bool     // the window before it is in mem, and out is known
	ended  bool     // it was decoded, and ends where
	endKey blockKey // says: of the block there,
	join   *Segment // with which this one begins; nil if it ends elsewhere
	tailed bool     // the last bytes in mem are known
	taken  bool     // the reader has had it

	// mem is the window before it, its n bytes of output, records, and the last window of
	// the output. At first so many of the output are symbols.
	mem     []byte
	out     int64 // offset in the stream's output of its first byte
	n       int
	symbols int
	block   int // what the block decoded last has of n and symbols
	marks   []Checkpoint
	end     Checkpoint // where it ends. Out is n
	parts   []part
	records []record
	used    int // of mem, before further records
}

type segState uint8

const (
	segQueued   segState = iota // for a worker
	segSearched                 // its start is being looked for
	segDecoded                  // it is being decoded, or waits for its window
	segSecond                   // its window is known, and what was unknown becomes known
	segReady                    // all is done
	segFailed                   // it is of no use
)

// blockKey tells blocks apart by where they begin. Where a stored block begins is only
// known to the byte behind its first three bits.
type blockKey int64

// keyOf returns the key of the block at a bit, which begins with these bits.
func keyOf(bit int64, first uint64) blockKey {
	if first>>1&3 == 0 {
		return -blockKey((bit+3+7)>>3<<1 | int64(first&1))
	}
	return blockKey(bit)
}

// peekKey returns the key of the block that is next. If there is none, or the source
// fails, that is of no matter to anyone else.
func (d *Decoder) peekKey() blockKey {
	bit := d.In()
	d.ensure(2)
	d.rerr = nil
	d.load()
	return keyOf(bit, d.bits|2&^(1<<d.nbits-1))
}

// part is the Adler-32 of the bytes from the end of the part before to end.
type part struct {
	end int
	sum uint32
}

// record is a checkpoint with its window, as AppendBinary and AppendPackedWindow make it.
type record struct {
	off      int64 // in the stream's output
	in       int64 // bits
	from, to int   // in mem
}

// add stores symbols, which are of two bytes each, or bytes, and reports whether there is
// room. If not, it stores none.
func (s *Segment) add(p []byte, size int) bool {
	at := s.n + s.symbols // each symbol takes one byte more
	if at+len(p) > len(s.mem)-2*WindowSize-maxRecord {
		return false
	}
	copy(s.mem[WindowSize+at:], p)
	s.n += len(p) / size
	if size == symbolLen {
		s.symbols = s.n
	}
	return true
}

// values are the bytes that symbols stand for: of each marker, once the window is known.
type values [1 << 16]byte

// set makes v that of a window.
func (v *values) set(window []byte) {
	for i := range 256 {
		v[i] = byte(i)
	}
	copy(v[Marker:], window)
}

// resolve makes bytes of symbols. Both may begin at the same place.
func (v *values) resolve(dst []byte, p Symbols) {
	for ; len(p) >= 32; p, dst = p[32:], dst[16:] {
		a, b := binary.LittleEndian.Uint64(p), binary.LittleEndian.Uint64(p[8:])
		c, d := binary.LittleEndian.Uint64(p[16:]), binary.LittleEndian.Uint64(p[24:])
		to := (*[16]byte)(dst)
		if (a|b|c|d)&anyMarker == 0 {
			binary.LittleEndian.PutUint64(to[:], uint64(packWord(a))|uint64(packWord(b))<<32)
			binary.LittleEndian.PutUint64(to[8:], uint64(packWord(c))|uint64(packWord(d))<<32)
			continue
		}
		binary.LittleEndian.PutUint64(to[:], uint64(v.word(a))|uint64(v.word(b))<<32)
		binary.LittleEndian.PutUint64(to[8:], uint64(v.word(c))|uint64(v.word(d))<<32)
	}
	for i := range p.Len() {
		dst[i] = v[p.At(i)]
	}
}

// word makes four bytes of four symbols.
func (v *values) word(w uint64) uint32 {
	return uint32(v[uint16(w)]) | uint32(v[uint16(w>>16)])<<8 | uint32(v[uint16(w>>32)])<<16 | uint32(v[uint16(w>>48)])<<24
}

// tail is where the last window of output stands, once it is known.
func (s *Segment) tail() []byte { return s.mem[len(s.mem)-WindowSize:] }

// setTail makes known the last window of output, where mem has symbols and bytes.
func (s *Segment) setTail(v *values) {
	tail := s.tail()
	if s.n < WindowSize {
		k := copy(tail, s.mem[s.n:WindowSize])
		tail = tail[k:]
	}
	from := s.n - len(tail)
	if k := s.symbols - from; k > 0 {
		v.resolve(tail[:k], s.mem[WindowSize+from*symbolLen:][:k*symbolLen])
		tail, from = tail[k:], s.symbols
	}
	copy(tail, s.mem[WindowSize+from+s.symbols:])
}

// setAll makes known all of the output.
func (s *Segment) setAll(v *values) {
	body := s.mem[WindowSize:]
	v.resolve(body[:s.symbols], body[:s.symbols*symbolLen])
	if s.symbols > 0 {
		copy(body[s.symbols:], body[s.symbols*symbolLen:s.symbols+s.n])
		s.symbols = 0
	}
}

// before returns the last mark before byte at of the output, or that at its start.
func (s *Segment) before(at int) *Checkpoint {
	i := len(s.marks) - 1
	for i > 0 && s.marks[i].Out >= int64(at) {
		i--
	}
	return &s.marks[i]
}

// cut ends s at a mark before byte at.
func (r *ParallelReader) cut(s *Segment, at int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	copyCheckpoint(&s.end, s.before(at))
	s.n, s.join = int(s.end.Out), nil
}

func copyCheckpoint(dst, src *Checkpoint) {
	header := append(dst.Header[:0], src.Header...)
	*dst = *src
	dst.Header = header
}

// Out returns the offset in the stream's output of the segment's first byte.
func (s *Segment) Out() int64 { return s.out }

// Len returns how many bytes of output the segment has.
func (s *Segment) Len() int { return s.n }

// Bytes returns the segment's output from one byte to another. It is valid until the
// segment is given back.
func (s *Segment) Bytes(from, to int) []byte { return s.mem[WindowSize+from : WindowSize+to] }

// Sum returns the Adler-32 of the segment's bytes from up to to, added to one of what is
// before. It has been made already for the parts between checkpoints.
func (s *Segment) Sum(sum uint32, from, to int) uint32 {
	for i := range s.parts {
		p := &s.parts[i]
		if p.end <= from {
			continue
		}
		begin := 0
		if i > 0 {
			begin = s.parts[i-1].end
		}
		if begin == from && p.end <= to {
			sum = adlerCombine(sum, p.sum, int64(p.end-begin))
			from = p.end
		} else {
			end := min(p.end, to)
			sum = Adler32(sum, s.Bytes(from, end))
			from = end
		}
		if from == to {
			break
		}
	}
	return sum
}

// Record returns the checkpoint at byte off of the stream's output, with its window: what
// [Checkpoint.AppendBinary] and [AppendPackedWindow] append. in is the checkpoint's place,
// in bits. There is one at each multiple of the spacing behind the segment's first byte, up
// to its end.
func (s *Segment) Record(off int64) (record []byte, in int64, ok bool) {
	for i := range s.records {
		if c := &s.records[i]; c.off == off {
			return s.mem[c.from:c.to], c.in, true
		}
	}
	return nil, 0, false
}

// Before returns a place from which a decoder can get to byte at of the segment, and the
// window there: before that byte, unless it is the segment's first. Both are valid
// until the segment is given back.
func (s *Segment) Before(at int) (c Checkpoint, window []byte) {
	c = *s.before(at)
	window = s.mem[c.Out : c.Out+WindowSize]
	c.Out += s.out
	return c, window
}

// markSpacing is how much output is between two marks, at least.
const markSpacing = 16 << 10

// maxRecord is the most that a record has.
const maxRecord = MaxCheckpoint + MaxPackedWindow

// endsAt has the decoder's place be the end of s.
func (s *Segment) endsAt(d *Decoder) {
	d.Checkpoint(&s.end)
	s.end.Out = int64(s.n)
	if n := len(s.marks); n > 0 && s.end.Out < s.marks[n-1].Out+markSpacing {
		return
	}
	if cap(s.marks) > len(s.marks) {
		s.marks = s.marks[:len(s.marks)+1]
	} else {
		s.marks = append(s.marks, Checkpoint{})
	}
	copyCheckpoint(&s.marks[len(s.marks)-1], &s.end)
}

// decoder is what a worker decodes segments with.
type segmentDecoder struct {
	r  *ParallelReader
	m  MarkerDecoder
	in pieceReader

	values values
	refs   Refs // of a checkpoint's window
	state  Checkpoint
}

// first decodes s with its window unknown, to a block's start where it may end or as far
// as there is room. It reports whether that is of any use: a start that was looked for
// may be none.
func (w *segmentDecoder) first(s *Segment) (useful bool) {
	r, m := w.r, &w.m
	s.n, s.symbols, s.block, s.marks, s.parts, s.records = 0, 0, 0, s.marks[:0], s.parts[:0], s.records[:0]
	w.in.seek(s.start / 8)
	if m.Reset(&w.in, s.start, nil) != nil {
		return false
	}
	var plain *Decoder
	begun := 0 // of what s has, before the block at hand
	limit := r.outputLimit()
	for !s.dead.Load() && !r.stopped.Load() {
		s.endsAt(&m.d)
		if m.d.state == stEnd {
			break
		}
		if used := s.n + s.symbols; m.d.state == stHeader && used > 0 {
			s.block, begun = used-begun, used
			if r.mayEnd(s, m.d.In(), &m.d) {
				break
			}
		}
		if plain == nil {
			if m.d.state == stHeader {
				if m.d.header() != nil {
					break
				}
				continue
			}
			p, err := m.Decode()
			if err != nil || !r.dense && !s.add(p, symbolLen) || r.dense && s.n+p.Len() > limit {
				break
			}
			if r.dense {
				s.n += p.Len()
			}
			if s.n >= WindowSize && m.clean() {
				plain = m.plain()
				plain.StopBetweenBlocks()
			}
			continue
		}
		p, err := plain.Decode(MaxDecode)
		if err != nil || plain.err != nil || !r.dense && !s.add(p, 1) || r.dense && s.n+len(p) > limit {
			break
		}
		if r.dense {
			s.n += len(p)
		}
	}
	s.n = int(s.end.Out)
	s.symbols = min(s.symbols, s.n)
	if s.dead.Load() || r.stopped.Load() || s.n == 0 {
		return false
	}
	if r.dense {
		w.keepTail(s, plain)
	}
	return true
}

// keepTail stores the last window of output of s, which has stored none, as symbols at the
// beginning of mem or bytes where they belong.
func (w *segmentDecoder) keepTail(s *Segment, plain *Decoder) {
	m := &w.m
	n := min(s.n, WindowSize)
	if plain != nil {
		at := plain.opos - int(plain.Out()-int64(s.n)) // what was decoded beyond the end
		copy(s.tail(), plain.buf[at-WindowSize:at])
		return
	}
	at := m.pos - int(m.Out()-int64(s.n))*symbolLen
	s.symbols = n
	copy(s.mem[WindowSize:], m.buf[at-n*symbolLen:at])
}

// second makes all of s known, now that the window is.
func (w *segmentDecoder) second(s *Segment) {
	v := &w.values
	v.set(s.mem[:WindowSize])
	if !w.r.dense {
		s.setTail(v)
		w.r.tailKnown(s)
		s.setAll(v)
		w.records(s)
	} else {
		if n := s.symbols; n > 0 {
			tail := s.tail()
			copy(tail, s.mem[n:WindowSize])
			v.resolve(tail[WindowSize-n:], s.mem[WindowSize:][:n*symbolLen])
		}
		w.r.tailKnown(s)
		s.symbols = 0
		w.again(s)
	}
	s.sum(w.r.span.Spacing())
}

// sum makes the parts' sums.
func (s *Segment) sum(spacing int64) {
	for at := 0; at < s.n; {
		end := int(min(int64(s.n), (s.out+int64(at))/spacing*spacing+spacing-s.out))
		s.parts = append(s.parts, part{end, Adler32(1, s.Bytes(at, end))})
		at = end
	}
}

// due returns where the first checkpoint behind byte at of s is due, -1 if that is behind
// its end, or where the chunk ends.
func (w *segmentDecoder) due(s *Segment, at int) int {
	spacing := w.r.span.Spacing()
	off := (s.out+int64(at))/spacing*spacing + spacing
	if off > s.out+int64(s.n) || off >= w.r.span.Length {
		return -1
	}
	return int(off - s.out)
}

// records makes the records of s, whose output is known: it decodes from the mark before
// each to a window behind it.
func (w *segmentDecoder) records(s *Segment) {
	s.used = WindowSize + s.n
	for at := w.due(s, 0); at >= 0; at = w.due(s, at) {
		c, window := s.Before(at)
		if !w.resume(&c, window) || !w.skip(s.out+int64(at)) || !w.begin(s) || !w.finish(s) {
			w.r.cut(s, at)
			return
		}
	}
}

// again decodes s anew, and makes its records on the way.
func (w *segmentDecoder) again(s *Segment) {
	d := &w.m.d
	s.used = WindowSize + s.n
	c, window := s.Before(0)
	if !w.resume(&c, window) {
		w.r.cut(s, 0)
		return
	}
	last := 0 // where the last checkpoint is
	due := w.due(s, 0)
	for at := 0; at < s.n; {
		to := s.n
		if due >= 0 {
			to = due
		}
		p, err := d.Decode(min(to-at, MaxDecode))
		if err != nil {
			w.r.cut(s, max(last, 1))
			return
		}
		at += copy(s.mem[WindowSize+at:WindowSize+s.n], p)
		if at == due {
			if last > 0 && !w.finish(s) {
				w.r.cut(s, last)
				return
			}
			if !w.begin(s) {
				w.r.cut(s, at)
				return
			}
			last, due = at, w.due(s, at)
		}
	}
	if last > 0 && !w.finish(s) {
		w.r.cut(s, last)
	}
}

// resume places the decoder at a checkpoint.
func (w *segmentDecoder) resume(c *Checkpoint, window []byte) bool {
	w.in.seek(c.In / 8)
	d := &w.m.d
	return d.Place(c, window[WindowSize-int(min(WindowSize, c.Out)):]) == nil && d.Continue(&w.in) == nil
}

// skip decodes up to byte off of the stream's output.
func (w *segmentDecoder) skip(off int64) bool {
	d := &w.m.d
	for d.Out() < off {
		if _, err := d.Decode(int(min(MaxDecode, off-d.Out()))); err != nil {
			return false
		}
	}
	return true
}

// begin begins a record where the decoder is, and reports whether there is room for it.
func (w *segmentDecoder) begin(s *Segment) bool {
	d := &w.m.d
	if s.used+maxRecord > len(s.mem)-WindowSize {
		return false
	}
	d.Checkpoint(&w.state)
	dst, err := w.state.AppendBinary(s.mem[s.used:s.used])
	if err != nil {
		return false
	}
	s.records = append(s.records, record{off: w.state.Out, in: w.state.In, from: s.used, to: s.used + len(dst)})
	d.Track()
	return true
}

// finish ends the last record, once a window was decoded behind it or the stream is at its
// end. It decodes more if need be.
func (w *segmentDecoder) finish(s *Segment) bool {
	d := &w.m.d
	c := &s.records[len(s.records)-1]
	for d.Out() < c.off+WindowSize {
		if _, err := d.Decode(int(c.off + WindowSize - d.Out())); err == io.EOF {
			break
		} else if err != nil {
			s.records = s.records[:len(s.records)-1]
			return false
		}
	}
	d.Refs(&w.refs)
	at := int(c.off - s.out)
	dst := AppendPackedWindow(s.mem[c.from:c.to], s.mem[at:at+WindowSize], &w.refs)
	c.to = c.from + len(dst)
	s.used = c.to
	return true
}
