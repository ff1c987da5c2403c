package dmg

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"runtime"
	"slices"

	"github.com/go-dmg/dmg/internal/deflate"
)

// zlibCodec decodes zlib chunks, RFC 1950. Every so many bytes it leaves a
// checkpoint: the Adler-32 so far, the deflate decoder's state, and of the
// window those bytes that what follows refers to. These are known when the
// next checkpoint is due, until when the codec keeps the window itself.
type zlibCodec struct {
	simpleCodec
	store *store
	host  host
	d     *decoder
	chunk int // d's, at start
	z     deflate.Decoder
	state deflate.Checkpoint
	head  [deflate.ZlibHeaderLen]byte
	nhead int    // bytes of head that have been read
	sum   uint32 // Adler-32 of all bytes before last
	last  []byte // decoded last, before the position; nil once sum has it
	good  int64  // up to here, the stream's checksum has confirmed the data

	ahead   *deflate.ParallelReader // decodes coming blocks, while a reader has far to go
	segment *deflate.Segment        // of it, in which the position is; nil if z is there
	at      int                     // the position in segment
	summed  int                     // up to here in segment, sum has it
	lag     int64                   // where z has yet to get to; 0 if it is at the position
	alone   int64                   // up to here it does without ahead

	due     int64      // offset in the chunk of the next checkpoint
	pending checkpoint // whose window isn't packed yet, at -1 if there is none
	refs    deflate.Refs
	window  [deflate.WindowSize]byte
	record  []byte // of the pending checkpoint, without its window; then with it
	packed  bool   // record has the window
}

const zlibRecordMax = deflate.MaxCheckpoint + deflate.MaxPackedWindow

// zlibMemory is what a zlibCodec holds.
const zlibMemory = deflate.Memory + deflate.WindowSize + zlibRecordMax + deflate.MaxCheckpoint + 8<<10

func newZlibCodec(s *store, h host) *zlibCodec {
	z := &zlibCodec{store: s, host: h, pending: checkpoint{off: -1}, record: make([]byte, 0, zlibRecordMax)}
	z.state.Header = make([]byte, 0, deflate.MaxCheckpoint)
	return z
}

// start resumes from the last checkpoint at or before off, or begins the
// stream.
func (z *zlibCodec) start(d *decoder, off int64) error {
	z.leave()
	z.lag, z.alone = 0, 0
	z.d, z.chunk = d, d.chunk
	from, record, err := z.store.record(z.record[:0], d.chunk, off)
	z.good = 0
	if d.pos, z.record = from.off, record; err != nil {
		return err
	}
	z.alone = d.pos + inflateAfter
	_, spacing := z.store.wanted(d.chunk, d.pos)
	z.plan(spacing)
	if len(z.record) > 0 {
		z.sum, z.last = from.sum, nil
		return z.resume(z.record)
	}
	z.nhead, z.sum, z.last = 0, 1, nil
	z.z.Reset(z)
	return nil
}

// onePassSpacing is how far apart checkpoints lie at least where all of a chunk is
// read for good. Finer ones would take a tenth of the time, to save two
// milliseconds if something is read again after all.
const onePassSpacing = 1 << 20

// plan sets when the next checkpoint is due.
func (z *zlibCodec) plan(spacing int64) {
	z.due = roundUp(z.d.pos+1, z.d.spacing(spacing))
	if z.due >= z.d.length {
		z.due = math.MaxInt64
	}
}

// resume goes on from a checkpoint's record.
func (z *zlibCodec) resume(record []byte) error {
	bad := func(err error) error {
		return fmt.Errorf("%w: checkpoint at byte %d of a zlib chunk: %w", ErrIndex, z.d.pos, err)
	}
	window, err := z.state.Parse(record)
	if err != nil {
		return bad(err)
	}
	z.nhead = len(z.head)
	z.d.fetch.skip(deflate.ZlibHeaderLen + z.state.In/8)
	if err := z.z.Resume(z, &z.state, window); err != nil {
		return bad(err)
	}
	return nil
}

// Read gives the deflate decoder the chunk's data. It takes the zlib header off
// what it fetches first, so that it needs no read of its own.
func (z *zlibCodec) Read(p []byte) (int, error) {
	n, err := z.d.fetch.Read(p)
	if z.nhead < len(z.head) && n > 0 {
		k := copy(z.head[z.nhead:], p[:n])
		z.nhead += k
		n = copy(p, p[k:n])
		if z.nhead == len(z.head) && err == nil {
			if err = deflate.CheckZlibHeader(z.head[:]); err != nil {
				n = 0 // or what came with it would be decoded first
			}
		}
	}
	return n, err
}

// Lend and Buffered make z a deflate.Lender. What is lent lies in the fetcher's
// buffer until that fetches again.
func (z *zlibCodec) Lend(n int) ([]byte, error) { return z.d.fetch.lend(n) }

// Buffered is how many bytes can be lent without a fetch.
func (z *zlibCodec) Buffered() int { return z.d.fetch.buffered() }

func (z *zlibCodec) decode(max int) (b []byte, err error) {
	if z.segment == nil {
		z.addLast()
	}
	if z.d.pos == z.due {
		if err := z.checkpoint(); err != nil {
			return nil, err
		}
	}
	for len(b) == 0 && err == nil {
		n := int(min(int64(max), z.due-z.d.pos))
		if b = z.decodedAhead(n); len(b) > 0 {
			return b, nil
		}
		if err := z.catchUp(); err != nil {
			return nil, err
		}
		if !z.takeAhead() {
			b, err = z.z.Decode(n)
			z.last = b
		}
	}
	if err == io.EOF && z.compareTrailer() == nil {
		z.good = z.d.pos // the stream is right, though it is shorter than its chunk
	}
	return b, err
}

// addLast brings the checksum up to the position. It waits until a read goes on
// there: most reads anywhere on a disk are alone.
func (z *zlibCodec) addLast() {
	if z.segment != nil {
		z.sum = z.segment.Sum(z.sum, z.summed, z.at)
		z.summed = z.at
		return
	}
	z.sum = deflate.Adler32(z.sum, z.last)
	z.last = nil
}

// checkpoint finishes the pending checkpoint, and begins one here if there is none.
// If there is, it fails where the data before is not what it was then.
func (z *zlibCodec) checkpoint() error {
	z.addLast()
	z.finishPending()
	err := z.store.compare(z.chunk, z.d.pos, z.sum)
	wanted, spacing := z.store.wanted(z.chunk, z.d.pos)
	z.plan(spacing)
	if !wanted {
		return err
	}
	if z.takeRecord() {
		return nil
	}
	if err := z.catchUp(); err != nil {
		return err
	}
	z.z.Checkpoint(&z.state)
	record, err := z.state.AppendBinary(z.record[:0])
	if err != nil {
		return nil // a state that can't be resumed is no place to resume
	}
	z.record = record
	z.pending = checkpoint{off: z.d.pos, in: deflate.ZlibHeaderLen + z.state.In/8 + 1, sum: z.sum}
	z.packed = false
	copy(z.window[:], z.z.Window())
	z.z.Track()
	return nil
}

// finishPending keeps the pending checkpoint, now that a window's length has
// been decoded since or the chunk is at its end.
func (z *zlibCodec) finishPending() {
	if z.pending.off >= 0 {
		z.pack()
		z.keep()
	}
}

// leave keeps the pending checkpoint of a chunk that is given up. If less than a
// window was decoded since, all of its window has to be kept, which takes the
// memory of eight: that is for one in usualSpacing at most.
func (z *zlibCodec) leave() {
	switch {
	case z.pending.off < 0:
	case max(z.z.Out(), z.lag)-z.pending.off >= deflate.WindowSize:
		z.finishPending()
	case z.pending.off%usualSpacing == 0:
		if !z.packed {
			z.record = deflate.AppendPackedWindow(z.record, z.window[:], nil)
		}
		z.keep()
	}
	z.pending.off = -1
}

// pack completes the pending checkpoint's record, with those bytes of its window that what
// was decoded since refers to.
func (z *zlibCodec) pack() {
	if !z.packed {
		z.z.Refs(&z.refs)
		z.record = deflate.AppendPackedWindow(z.record, z.window[:], &z.refs)
		z.packed = true
	}
}

// keep puts the pending checkpoint, whose record is complete, among the others.
func (z *zlibCodec) keep() {
	z.store.add(z.chunk, z.d.began, z.pending, z.record)
	z.pending.off = -1
}

func (z *zlibCodec) nearestBefore(d *decoder, off int64) int64 {
	if d.pos <= off {
		return d.pos
	}
	return -1
}

func (z *zlibCodec) proven(*decoder) int64 { return z.good }

func (z *zlibCodec) abandon() { z.pending.off = -1 }

// sumSoFar returns the Adler-32 up to the position.
func (z *zlibCodec) sumSoFar() (uint32, bool) {
	z.addLast()
	return z.sum, true
}

// suspend sees to it that nothing refers to the fetcher's buffer while others may use
// it.
func (z *zlibCodec) suspend() {
	z.endAhead()
	if z.z.Lent() {
		z.addLast()
	}
	z.z.Settle()
}

// verifyCheckpoint compares the Adler-32 where another decoder goes on.
func (z *zlibCodec) verifyCheckpoint() error {
	z.addLast()
	return z.store.compare(z.chunk, z.d.pos, z.sum)
}

// maxExcess returns how many bytes more than a chunk of that length its stream is
// decoded for, to get at its checksum. A stream that was cut on purpose goes on for
// less; a damaged one may go on without end.
func maxExcess(length int64) int64 { return min(length, 1<<40) + 1<<20 }

var errExcess = fmt.Errorf("%w: the data goes on far behind the last sector", ErrChecksum)

// finish compares the Adler-32 at the stream's end with the data's. What it decodes
// behind the chunk's end may refer to the pending checkpoint's window, too.
func (z *zlibCodec) finish(*decoder) error {
	z.endAhead()
	z.addLast()
	if err := z.catchUp(); err != nil {
		return err
	}
	defer z.finishPending()
	for excess := int64(0); ; {
		b, err := z.z.Decode(maxDecode)
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		z.sum = deflate.Adler32(z.sum, b)
		if excess += int64(len(b)); excess > maxExcess(z.d.length) {
			return errExcess
		}
	}
	return z.compareTrailer()
}

// compareTrailer compares the Adler-32 behind the stream with the data's.
func (z *zlibCodec) compareTrailer() error {
	var trailer [deflate.ZlibTrailerLen]byte
	if err := z.z.Trailer(trailer[:]); err != nil {
		return err
	}
	if sum := binary.BigEndian.Uint32(trailer[:]); sum != z.sum {
		return fmt.Errorf("%w: Adler-32 is %08x, stored is %08x", ErrChecksum, z.sum, sum)
	}
	return nil
}

// When several cores decode one chunk, in bytes of output: only if a reader has so far to go,
// once so much has been decoded alone, and again only so much after that came to nothing.
// With the build tag dmgparallel they do nearly always.
const (
	inflateFrom  = 8<<20 - deflate.Forced*(8<<20-256<<10)
	inflateRead  = 2 * inflateFrom // for a read, which may be one of many: it takes and gives back much memory
	inflateAfter = 1<<20 - deflate.Forced*(1<<20)
	inflateAgain = 64<<20 - deflate.Forced*(63<<20)
)

// cores returns how many cores there are for d's reader.
func (d *decoder) cores() int {
	switch {
	case deflate.Forced > 0:
		return leastInflate
	case d.spare != nil:
		return d.spare() + 1
	}
	return runtime.GOMAXPROCS(0)
}

// takeAhead goes over to what has been decoded ahead, if z is where some of that begins. It
// puts other cores to work if the reader has far to go.
func (z *zlibCodec) takeAhead() bool {
	d := z.d
	if z.ahead == nil {
		far := d.until - d.pos
		if far < inflateFrom || d.spare == nil && far < inflateRead || d.pos < z.alone || d.cores() < leastInflate {
			return false
		}
		c := &z.store.chunks[d.chunk]
		if c.Length < c.streamLen()+c.streamLen()/16 || c.Length/maxInflateRatio > c.streamLen() {
			return false
		}
	}
	z.z.StopBetweenBlocks()
	if !z.z.BetweenBlocks() || z.z.Out() < deflate.WindowSize {
		return false
	}
	if z.ahead == nil {
		if z.ahead = z.host.parallelInflate(d, &z.z, z.z.In()/8, d.cores()); z.ahead == nil {
			z.alone = d.pos + inflateAgain
			return false
		}
	}
	s := z.ahead.Take(&z.z)
	if z.ahead.GaveUp() {
		z.endAhead()
		z.alone = d.pos + inflateAgain
		return false
	}
	if s == nil {
		return false
	}
	z.segment, z.at, z.summed = s, 0, 0
	if z.pending.off < 0 || z.packed {
		return true
	}
	// The window of the pending checkpoint takes some bytes that the segment has too.
	for end := z.pending.off + deflate.WindowSize; z.z.Out() < end; {
		if _, err := z.z.Decode(int(end - z.z.Out())); err != nil {
			z.leaveSegment()
			return true // the error comes again, in its place
		}
	}
	z.pack()
	return true
}

// maxInflateRatio is the ratio from which on data is hardly more than one match after the
// other, which one core copies as fast as memory allows.
const maxInflateRatio = 64

// decodedAhead returns the next bytes that were decoded ahead, max at most; none if z has to
// decode what is next.
func (z *zlibCodec) decodedAhead(max int) []byte {
	for z.segment != nil {
		if n := min(max, z.segment.Len()-z.at); n > 0 {
			z.at += n
			z.d.count.bytesAhead.Add(int64(n))
			return z.segment.Bytes(z.at-n, z.at)
		}
		z.addLast()
		next := z.ahead.Next(z.segment)
		if next == nil {
			z.leaveSegment()
			break
		}
		z.segment, z.at, z.summed = next, 0, 0
	}
	return nil
}

// takeRecord makes the pending checkpoint of one that was made ahead.
func (z *zlibCodec) takeRecord() bool {
	if z.segment == nil {
		return false
	}
	record, in, ok := z.segment.Record(z.d.pos)
	if !ok {
		z.leaveSegment()
		return false
	}
	z.record = append(z.record[:0], record...)
	z.pending = checkpoint{off: z.d.pos, in: deflate.ZlibHeaderLen + in/8 + 1, sum: z.sum}
	z.packed = true
	return true
}

// leaveSegment has z go on from the position, or be placed a little before it. It reads
// nothing.
func (z *zlibCodec) leaveSegment() {
	if z.segment == nil {
		return
	}
	z.addLast()
	z.lag = z.segment.Out() + int64(z.at)
	c, window := z.segment.Before(z.at)
	if err := z.z.Place(&c, window); err != nil {
		panic(err) // it was made by a decoder
	}
	if z.pending.off >= 0 && !z.packed {
		z.z.TrackFrom(z.pending.off)
	}
	z.segment = nil
}

// catchUp has z get to the position.
func (z *zlibCodec) catchUp() error {
	if z.lag == 0 {
		return nil
	}
	c := &z.store.chunks[z.d.chunk]
	z.d.fetch.begin(c.DataOffset+deflate.ZlibHeaderLen+z.z.In()/8, c.streamEnd())
	z.d.fetch.short = z.ahead != nil
	if err := z.z.Continue(z); err != nil {
		return err
	}
	for z.z.Out() < z.lag {
		if _, err := z.z.Decode(int(min(maxDecode, z.lag-z.z.Out()))); err != nil {
			return err
		}
	}
	z.lag = 0
	return nil
}

// endAhead ends what was decoded ahead.
func (z *zlibCodec) endAhead() {
	z.leaveSegment()
	if z.ahead != nil {
		z.host.endInflate(z.ahead)
		z.ahead = nil
		z.d.fetch.short = false
	}
}

// salvageMemory is what salvage of a zlib chunk takes besides the decoder.
const salvageMemory = deflate.FindMemory + deflate.MarkerMemory + 96<<10

// leastSalvage is how long a chunk is, in bytes, of which the end is looked for: shorter
// ones have one block, and an image may have a million of them.
const leastSalvage = 8 << 10

// salvage decodes the stream's blocks behind the damage, if some lead to its end: then
// their place is known, but not the window before the first of them. Bytes that are
// copies of it are lost, and zeros; sectors are told apart by whether they have any. No
// checksum is of the rest alone, so that is doubtful.
func (z *zlibCodec) salvage(d *decoder, c *Chunk, from int64, emit salvaged) error {
	if c.Length < leastSalvage || !z.host.borrow(salvageMemory) {
		return nil // what is behind stays lost
	}
	defer z.host.giveBack(salvageMemory)
	z.endAhead()
	src := interruptedSource{d.fetch.ctx, io.NewSectionReader(d.fetch.src, c.DataOffset, c.DataLength)}
	tail, err := deflate.FindTail(src, deflate.ZlibHeaderLen*8+z.z.In(), c.DataLength, 0, c.Length)
	switch {
	case errors.Is(err, deflate.ErrNoTail):
		return nil
	case err != nil:
		return err
	}
	start := c.Length - tail.Len
	return tail.Decode(src, nil, func(off int64, b []byte, known []bool) error {
		for off += start; len(b) > 0; {
			n := min(len(b), sectorSize-int(off%sectorSize))
			q := unconfirmed
			if slices.Contains(known[:n], false) {
				q = partial
			}
			if err := emit(off, b[:n], q); err != nil {
				return err
			}
			off += int64(n)
			b, known = b[n:], known[n:]
		}
		return nil
	})
}

// interruptedSource is a source that fails once ctx is done. ctx may be nil.
type interruptedSource struct {
	ctx context.Context
	io.ReaderAt
}

// ReadAt implements io.ReaderAt.
func (s interruptedSource) ReadAt(p []byte, off int64) (int, error) {
	if s.ctx != nil && s.ctx.Err() != nil {
		return 0, s.ctx.Err()
	}
	return s.ReaderAt.ReadAt(p, off)
}
