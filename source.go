package dmg

import (
	"context"
	"io"
	"math"
	"sync/atomic"

	"github.com/go-dmg/dmg/internal/budget"
	"github.com/go-dmg/dmg/internal/bzip2"
	"github.com/go-dmg/dmg/internal/crypt"
	"github.com/go-dmg/dmg/internal/pagecache"
	"github.com/go-dmg/dmg/internal/readat"
)

// counters are the running totals behind Stats. What every read counts it counts in its
// lane, or all cores would wait for one cache line.
type counters struct {
	bytesDecoded atomic.Int64
	bytesAhead   atomic.Int64 // of these, of zlib chunks, by other cores
	lanes        [pagecache.Lanes]laneCounters
}

type laneCounters struct {
	bytesRead   atomic.Int64
	sourceBytes atomic.Int64
	sourceReads atomic.Int64
	cacheHits   atomic.Int64
	_           [96]byte // the next is in another cache line, also of those that are fetched in pairs
}

// laneOf returns the lane of reads into p.
func laneOf(p []byte) uint { return pagecache.Lane(p) }

// lane returns the counters of a lane.
func (c *counters) lane(n uint) *laneCounters { return &c.lanes[n%pagecache.Lanes] }

// resetSource forgets what was read of the source.
func (c *counters) resetSource() {
	for i := range c.lanes {
		c.lanes[i].sourceBytes.Store(0)
		c.lanes[i].sourceReads.Store(0)
	}
}

// sum returns the totals of all lanes.
func (c *counters) sum() (s Stats) {
	s.BytesDecoded = c.bytesDecoded.Load()
	for i := range c.lanes {
		l := &c.lanes[i]
		s.BytesRead += l.bytesRead.Load()
		s.SourceBytes += l.sourceBytes.Load()
		s.SourceReads += l.sourceReads.Load()
		s.CacheHits += l.cacheHits.Load()
	}
	return s
}

// countingSource is the image's source with its reads counted.
type countingSource struct {
	r    io.ReaderAt
	n    *counters
	unit int64 // of an encrypted source; else 0
	size int64 // of an encrypted source

	block int64 // that an archive decodes as one; 0 of another source
	inner bool  // it is in an archive, whose own reads are counted instead
}

// maxUnit is the most that may be fetched in vain at either end of a fetch.
const maxUnit = 16 << 10

// newSource returns r as the engine's source.
func newSource(r io.ReaderAt, n *counters) countingSource {
	s := countingSource{r: r, n: n}
	if b, ok := r.(*crypt.Reader); ok && b.BlockSize() <= maxUnit {
		s.unit, s.size = b.BlockSize(), b.Size()
	}
	if a, ok := r.(archiveData); ok {
		s.block = a.Segment()
	}
	return s
}

// whole widens a range of the source to what is decrypted as one: less takes more
// calls of what is below.
func (s countingSource) alignToUnit(off, end int64) (int64, int64) {
	if s.unit == 0 {
		return off, end
	}
	return off - off%s.unit, min((end+s.unit-1)/s.unit*s.unit, max(end, s.size))
}

// cutAtBlock returns where a range up to end may end: behind the last block of an archive
// that is in it as a whole, so that no other core waits for that block.
func (s countingSource) cutAtBlock(off, end int64) int64 {
	if s.block > 0 && end-end%s.block > off {
		return end - end%s.block
	}
	return end
}

// parallel returns s for a parallel reader, whose reads end where a unit does.
func (s countingSource) parallel() bzip2.ParallelSource {
	return bzip2.ParallelSource{
		ReaderAt: s,
		Align: func(off int64) int64 {
			off, _ = s.alignToUnit(off, off)
			return off
		},
		Tail: func() func(off, end int64) io.Reader {
			f := &fetcher{src: s}
			return func(off, end int64) io.Reader {
				f.begin(off, end)
				return f
			}
		},
	}
}

// inflateSource is a source for the parallel reader of zlib chunks.
type inflateSource struct {
	countingSource
	stored *sourceSum // takes what is fetched, unless it is nil
}

// ReadAt implements deflate.ParallelSource.
func (s inflateSource) ReadAt(p []byte, off int64) (int, error) {
	n, err := s.countingSource.ReadAt(p, off)
	if err == nil {
		s.stored.add(p, off)
	}
	return n, err
}

// Align implements deflate.ParallelSource.
func (s inflateSource) Align(off int64) int64 {
	off, _ = s.alignToUnit(off, off)
	return off
}

// ReadAt fills p or fails. The chunk map has been checked against the source's
// size: one that ends earlier now has changed, which is io.ErrUnexpectedEOF.
func (s countingSource) ReadAt(p []byte, off int64) (int, error) {
	n, err := readat.Full(s.r, p, off)
	if s.inner {
		return n, err
	}
	lane := s.n.lane(laneOf(p))
	lane.sourceReads.Add(1)
	lane.sourceBytes.Add(int64(n))
	return n, err
}

// readSome reads what it can of p, for a caller that goes on with what there is: n
// bytes, and why there are no more. The bytes that come with an error are asked for
// once more, because a source may have failed while it wrote them.
func (s countingSource) readSome(p []byte, off int64) (int, error) {
	n, err := s.ReadAt(p, off)
	if err == nil || n == 0 {
		return n, err
	}
	if _, again := s.ReadAt(p[:n], off); again != nil {
		return 0, again
	}
	return n, err
}

// Sizes of the reads that fetch compressed data, in bytes. Remote sources are
// slow for each call, and what is fetched in vain is slow everywhere: a fetch
// takes what the reader at work is known to need, and firstFetch where nothing
// is known. For a reader that goes on and on it doubles, chunk after chunk, up
// to maxFetch if there is memory for it: as much as the data of a megabyte that
// doesn't compress, with the blocks of an encrypted source that it lies in.
const (
	firstFetch  = 16 << 10
	fetchBuffer = 128 << 10 // which every decoder has
	maxFetch    = 1<<20 + 32<<10
)

// joinGap is what may lie between the data of two chunks for both to be fetched
// at once: it takes less time than a call of its own.
const joinGap = 16 << 10

// codecsLook is how many bytes codecs look at beyond what they need.
const codecsLook = 256

// forwardBlock is about what a block of LZFSE takes, all of which must be there
// for its first byte.
const forwardBlock = 32 << 10

// fetcher reads a chunk's stored bytes in order, for a decoder. What it has
// fetched it keeps until it fetches again, so that the bytes of a further chunk
// that came along are there for a decoder that goes on with that. An error of
// the source is kept apart from the end of the data, so that it is not taken for
// damage.
type fetcher struct {
	src countingSource
	at  int64 // of the next byte to read, in the source
	end int64 // of the chunk's data in the source
	err error // of the source

	// ctx, unless it is nil, ends a decoder's work at its next fetch: there may be any
	// amount of data that decodes to nothing.
	ctx context.Context

	stored *sourceSum // takes what is fetched, unless it is nil

	// What the reader at work needs is set by the engine, for each flight.
	want       int64 // up to which it needs the source's bytes, as far as that is known
	guess      bool  // want is an estimate
	most       int64 // up to which it may need them, where that is known and not far; 0
	beyond     int64 // up to which what follows the chunk's data is of use to it
	sequential bool  // it goes on where it stopped, and will want more
	nextChunks bool  // it came on from the chunk before, and will go on to the next
	short      bool  // it wants little at a time: the rest comes another way

	size     int64  // of the next fetch if nothing is known
	room     int64  // of the longest fetch
	off      int64  // of buf[0] in the source
	buf      []byte // what was fetched last
	borrowed bool   // buf is another's,
	own      []byte // this is f's,
	fail     error  // and this came behind buf
}

// borrow has f read what another has fetched, from byte off of the source on, and
// the source's error behind that, if there was one. It is so until f fetches itself
// or giveBack is called.
func (f *fetcher) borrow(b []byte, off int64, err error) {
	f.giveBack()
	f.own, f.buf, f.off, f.borrowed, f.fail = f.buf[:0], b, off, true, err
}

// giveBack ends what borrow began.
func (f *fetcher) giveBack() {
	if f.borrowed {
		f.buf, f.own, f.borrowed, f.fail = f.own, nil, false, nil
	}
}

// begin places f at byte off of the source. What the reader at work wants has
// been set before, or is set after.
func (f *fetcher) begin(off, end int64) {
	f.at, f.end, f.err, f.short = off, end, nil, false
	f.room = max(f.room, fetchBuffer)
}

// skip places f n bytes further on, before anything is read.
func (f *fetcher) skip(n int64) { f.at += n }

// forget drops what was fetched. After a failure it is asked for again.
func (f *fetcher) discardBuffer() { f.buf = f.buf[:0] }

// fetched returns what was fetched last, from byte off of the source on.
func (f *fetcher) fetched(off int64) []byte {
	if off < f.off || off > f.off+int64(len(f.buf)) {
		return nil
	}
	return f.buf[off-f.off:]
}

// overlaps reports whether any bytes from up to end of the source were fetched last.
func (f *fetcher) overlaps(from, end int64) bool {
	return f.off < end && from < f.off+int64(len(f.buf))
}

// has reports whether bytes from up to end of the source were fetched last.
func (f *fetcher) has(from, end int64) bool {
	return f.off <= from && end <= f.off+int64(len(f.buf))
}

// follows reports whether byte off of the source is among those fetched last or
// right behind them.
func (f *fetcher) follows(off int64) bool {
	return f.off <= off && off <= f.off+int64(len(f.buf))+joinGap && f.size > 0
}

// Read implements io.Reader.
func (f *fetcher) Read(p []byte) (int, error) {
	b, err := f.lend(len(p))
	return copy(p, b), err
}

// lend returns the next bytes, n at most, where they lie in buf: until the next
// fetch. It fetches if none are left there.
func (f *fetcher) lend(n int) ([]byte, error) {
	if f.err != nil {
		return nil, f.err
	}
	if f.at >= f.end {
		return nil, io.EOF
	}
	b := f.fetched(f.at)
	if len(b) == 0 {
		if err := f.fill(); err != nil {
			return nil, err
		}
		b = f.fetched(f.at)
	}
	b = b[:min(int64(len(b)), int64(n), f.end-f.at)]
	f.at += int64(len(b))
	return b, nil
}

// buffered returns how many bytes lend can give without a fetch.
func (f *fetcher) buffered() int {
	return int(max(0, min(int64(len(f.fetched(f.at))), f.end-f.at)))
}

// fill fetches from the place on.
func (f *fetcher) fill() error {
	if f.fail != nil {
		f.err = f.fail
		return f.err
	}
	if f.ctx != nil && f.ctx.Err() != nil {
		f.err = f.ctx.Err()
		return f.err
	}
	f.giveBack()
	n := f.next()
	buf := f.buf
	if int64(cap(buf)) < min(n+2*maxUnit, f.room) {
		buf = make([]byte, f.room)
	}
	f.buf = buf[:0] // in case the source panics
	off, end := f.src.alignToUnit(f.at, f.at+n)
	k, err := f.src.readSome(buf[:min(end-off, f.room)], off)
	f.buf, f.off = buf[:k], off
	f.stored.add(f.buf, off)
	if f.at < off+int64(k) {
		// What came may be enough. If not, the source is asked again, so that
		// its error is that of the read which needs the rest.
		return nil
	}
	f.err = err
	return err
}

// next returns how many bytes the next fetch takes.
func (f *fetcher) next() int64 {
	if !f.follows(f.at) {
		f.size = firstFetch
	}
	n := f.want - f.at
	if n <= 0 && f.most > f.at {
		n = f.most - f.at
	}
	if f.guess {
		if n > 4*fetchBuffer && f.most == 0 {
			n /= 2 // or most of it is in vain
		}
		f.size = max(f.size, fetchBuffer/2) // if it turns out too low
	}
	if n <= 0 || f.sequential {
		n = max(n, f.size)
		f.size = min(2*n, maxFetch)
	}
	if f.short {
		n = min(n, 4*firstFetch)
	}
	return min(n, max(f.end, f.beyond)-f.at, f.room)
}

// setDemandLocked tells a decoder of chunk i what the flight will need of it, and of the
// source.
func (e *engine) setDemandLocked(d *decoder, i int, t *flight, sequential bool) {
	if n := e.planFetchLocked(d, i, t, sequential); n > 0 {
		e.growBufferLocked(d, n)
	}
}

// planFetchLocked is setDemandLocked without more memory. It returns how much is going to be fetched.
func (e *engine) planFetchLocked(d *decoder, i int, t *flight, sequential bool) int64 {
	c, f := &e.chunks[i], &d.fetch
	d.until = t.end
	in, exact := e.inputLocked(i, t.end)
	f.want, f.guess, f.most, f.sequential, f.beyond = c.DataOffset+in, !exact, 0, sequential, 0
	if !exact && c.Method.info().forward && c.streamLen() <= maxFetch {
		f.most = c.streamEnd()
	}
	from := f.at
	if d.chunk != i {
		f.nextChunks = sequential
		from = c.DataOffset + e.mu.points.before(i, t.pos).in
	}
	if f.has(from, c.streamEnd()) {
		return 0
	}
	n := max(f.want-from, f.most-f.want)
	switch {
	case sequential:
		if f.nextChunks {
			f.beyond = e.joinedLocked(i, math.MaxInt64)
		}
		n = max(n, f.size)
	case t.end == c.Length && t.more > 0:
		f.beyond = e.joinedLocked(i, t.more)
		f.want = max(f.want, f.beyond)
		n = f.want - from
	}
	return n
}

// inputLocked returns how many bytes of chunk i's data it takes to decode up to byte
// end of the chunk: exactly where a checkpoint or the chunk's end says so, else
// about.
func (e *engine) inputLocked(i int, end int64) (n int64, exact bool) {
	c, points := &e.chunks[i], &e.mu.points
	if end >= c.Length {
		return c.streamLen(), true
	}
	if p, ok := points.after(i, end); ok {
		return min(p.in+codecsLook, c.streamLen()), true
	}
	last := points.before(i, end)
	if c.Method.info().blocks {
		// All of the block is needed. Its cursors say whether it is the chunk's
		// last one. Without them, that is no longer than the one before, and an
		// only one may be a whole chunk as hdiutil makes them.
		longest := int64(1 << 20)
		if last.off > 0 {
			longest = last.off - points.before(i, last.off-1).off
		}
		longest = max(longest, int64(points.cursors(i, end)+1)*cursorSpacing)
		if c.Length-last.off <= longest {
			return c.streamLen(), true
		}
	}
	left, length := float64(c.streamLen()-last.in), float64(c.Length-last.off)
	n = last.in + max(firstFetch, int64(left*(float64(end-last.off)/length)))
	if c.Method.info().forward {
		// A chunk has parts that compress better than others. Beyond this guess the
		// rest of it is fetched.
		n += forwardBlock + c.streamLen()/16
	}
	if n > c.streamLen()-firstFetch {
		return c.streamLen(), true // what is left is not worth a call
	}
	return n, false
}

// joinedLocked returns the end in the source of the data that is worth being fetched
// with that of chunk i, by a reader of the more bytes that follow it on the disk:
// of chunks that the same decoder can go on with, and that nobody has read yet.
func (e *engine) joinedLocked(i int, more int64) int64 {
	c := &e.chunks[i]
	method, start, end := c.Method, c.DataOffset, c.streamEnd()
	const look = 256 // chunks, which may have no data
	last := min(i+look, len(e.chunks)-1)
	for i++; i <= last && more > 0 && end-start < maxFetch; i++ {
		next := &e.chunks[i]
		more -= max(0, next.Offset-c.end()) // a hole
		c = next
		if c.Method.zeros() {
			more -= c.Length
			continue
		}
		if more <= 0 || c.Method != method || c.DataOffset < end || c.DataOffset-end > joinGap || e.mu.cache.Has(i, 0) {
			break
		}
		n := c.streamLen()
		if more < c.Length {
			n, _ = e.inputLocked(i, more)
		}
		end = c.DataOffset + n
		more -= c.Length
	}
	return end
}

// growBufferLocked lets the decoder fetch n bytes at once, or as many as there is memory
// for. That stays the decoder's.
func (e *engine) growBufferLocked(d *decoder, n int64) {
	a := &e.mu.account
	have := max(fetchBuffer, d.fetch.room)
	for room := int64(maxFetch); room > have; room /= 2 {
		if room/2 >= n {
			continue
		}
		extra := room - have
		// It must not keep others from having a decoder of their own.
		share := budget.ShareFetch.Of(a.Limit)
		if d.method.info().blocks {
			share = budget.ShareFetchBlock.Of(a.Limit)
		}
		used := a.Used[budget.Decoders]
		fits := used+extra <= share || used == d.memory && used+extra <= budget.ShareFetchAlone.Of(a.Limit)
		if fits && e.takeCachedLocked(extra) {
			d.memory += extra
			d.fetch.room = room
			return
		}
		if e.exchangeBuffersLocked(d, room) {
			return
		}
	}
}

// exchangeBuffersLocked exchanges d's fetch buffer for one of so many bytes, of the decoder
// idle longest that has one. What that has fetched is lost.
func (e *engine) exchangeBuffersLocked(d *decoder, room int64) bool {
	for _, old := range e.mu.idle {
		if old.fetch.room != room {
			continue
		}
		f, o := &d.fetch, &old.fetch
		have := max(fetchBuffer, f.room)
		d.memory += room - have
		old.memory -= room - have
		f.buf, o.buf = append(o.buf[:0], f.buf...), f.buf[:0]
		f.room, o.room = room, have
		return true
	}
	return false
}
