package deflate

import (
	"sync"
	"sync/atomic"
)

// ParallelSource is where a ParallelReader reads its data.
type ParallelSource interface {
	// ReadAt fills p or fails. It may be called by many goroutines at once.
	ReadAt(p []byte, off int64) (int, error)

	// Align returns the last offset up to off where a read had better end and the next
	// begin.
	Align(off int64) int64
}

// Span is what a ParallelReader decodes of a stream. The stream's bytes begin at byte Off
// of the source, and the source has none behind End.
type Span struct {
	Off, End int64
	Last     int64   // byte of the stream from which on segments are of no use
	Length   int64   // of output, behind which there are no checkpoints
	Ratio    float64 // bytes of output for each of the stream, about

	// Spacing returns how far apart checkpoints are to be: a power of two, WindowSize or
	// more, which may grow. It may be called by many goroutines at once.
	Spacing func() int64
}

// ParallelReader decodes the coming blocks of a DEFLATE stream on several cores. Each worker
// looks for a block in another piece of the data, and decodes from there on with the window
// unknown, up to where the next worker's block is. One goroutine takes these segments in
// order, and is given one only if it begins where the one before it ends. So what looks
// like a block and is none costs time, and never a byte. When the window before a segment
// is known, which takes the last 32 KiB of the one before it, a worker makes known all of it,
// its Adler-32, and its checkpoints.
//
// The goroutine itself decodes what the workers don't have: what can't be found, and what
// is behind damage. So errors are those of a Decoder.
//
// Checkpoints that are far apart are made by decoding anew from a mark before each to a
// window behind it. If they are near each other, that would be nearly everything. Then
// workers keep nothing of the first decoding but the window at its end, and decode anew
// all of it.
type ParallelReader struct {
	src       ParallelSource
	team      []*segmentDecoder
	segLen    int
	pieceMax  int64
	maxPieces int

	span     Span
	from     int64 // bit of the stream at which it began
	pieceLen int64
	dense    bool // checkpoints are near each other
	stopped  atomic.Bool
	workers  sync.WaitGroup
	cond     sync.Cond // something has changed

	mu struct {
		sync.Mutex
		first, last *Segment // that are yet to be given back
		next        int64    // piece that is yet to be searched
		low         int64    // pieces before it are gone
		pieces      map[int64]*piece
		buffers     [][]byte // for pieces
		free        []*Segment
		made        int // segments with memory
		failed      int // segments that were of no use
		used        int // segments that were
		panicked    *any

		// What is known of the window behind what was taken last: at a block's start.
		windowKey blockKey
		windowOut int64
		window    [WindowSize]byte
	}
}

// denseSpacing is the spacing of checkpoints below which all is decoded twice.
const denseSpacing = 256 << 10

// spareSegments is how many segments there are for two workers: one waits for its turn,
// while its worker decodes another.
const spareSegments = 3

func segments(workers int) int { return (workers*spareSegments + 1) / 2 }

// maxPiece is the longest piece of segments of so many bytes.
func maxPiece(segment int64) int64 { return segment / 3 }

// ParallelMemory returns how many bytes a ParallelReader of so many workers holds, whose
// segments have so many bytes of output at most, or less.
func ParallelMemory(workers int, segment int64) int64 {
	const marks = MaxCheckpoint
	n := int64(segments(workers))
	return int64(workers)*(MarkerMemory+72<<10) + n*(segment+2*WindowSize+segment/markSpacing*marks) +
		(n+2)*maxPiece(segment) + WindowSize
}

// NewParallelReader returns a ParallelReader of so many workers, at rest.
func NewParallelReader(src ParallelSource, workers int, segment int64) *ParallelReader {
	r := &ParallelReader{src: src, segLen: int(segment), pieceMax: maxPiece(segment)}
	r.maxPieces = segments(workers) + 2
	r.cond.L = &r.mu
	for range workers {
		w := &segmentDecoder{r: r}
		w.in.r = r
		r.team = append(r.team, w)
	}
	return r
}

// Workers returns how many workers there are.
func (r *ParallelReader) Workers() int { return len(r.team) }

// Segment returns how many bytes of output a segment has at most.
func (r *ParallelReader) Segment() int64 { return int64(r.segLen) }

// outputLimit returns how many bytes of output a segment may have as a rule, so that there
// is room for its records, and before that for symbols.
func (r *ParallelReader) outputLimit() int {
	if r.dense {
		return r.segLen * 13 / 16
	}
	return (r.segLen - maxRecord) / symbolLen
}

// Start has the workers decode the span from d's place on, which is between two blocks and
// has a full window. fetched is what has been read of the stream from byte off on. After
// Start there must be a Stop.
func (r *ParallelReader) Start(span Span, d *Decoder, fetched []byte, off int64) {
	r.span, r.from = span, d.In()
	r.dense = span.Spacing() < denseSpacing
	r.pieceLen = min(r.pieceMax, int64(float64(r.outputLimit())*7/8/max(1, span.Ratio)))
	r.pieceLen = max(r.pieceLen, min(r.pieceMax, minPiece))
	r.stopped.Store(false)
	m := &r.mu
	m.first, m.last, m.next, m.low = nil, nil, 0, 0
	m.pieces = make(map[int64]*piece)
	m.failed, m.used, m.panicked = 0, 0, nil
	copy(m.window[:], d.Window())
	m.windowKey, m.windowOut = d.peekKey(), d.Out()
	m.next = 1
	r.insertAt(nil, r.from, m.windowKey)
	for i := int64(0); i < int64(r.maxPieces) && r.pieceOff(i) >= off && r.pieceOff(i+1) <= off+int64(len(fetched)); i++ {
		b := fetched[r.pieceOff(i)-off : r.pieceOff(i+1)-off]
		if len(b) == 0 {
			break
		}
		p := &piece{buf: r.pieceBuffer(len(b)), read: true}
		copy(p.buf, b)
		m.pieces[i] = p
	}
	r.workers.Add(len(r.team))
	for _, w := range r.team {
		go func() {
			defer r.workers.Done()
			defer r.catch()
			for r.work(w) {
			}
		}()
	}
}

// minPiece is the shortest piece: blocks have 20 KB and more.
const minPiece = 48 << 10

// Stop ends the workers and waits for them. No segment is valid any more.
func (r *ParallelReader) Stop() {
	r.mu.Lock()
	r.stopped.Store(true)
	r.wake()
	r.mu.Unlock()
	r.workers.Wait()
	for s := r.mu.first; s != nil; s = s.next {
		r.putFree(s)
	}
	r.mu.first, r.mu.last = nil, nil
	for _, p := range r.mu.pieces {
		if cap(p.buf) > 0 {
			r.mu.buffers = append(r.mu.buffers, p.buf[:0])
		}
	}
	r.mu.pieces = nil
}

// catch ends the work if a worker panics, or the source ends its goroutine.
func (r *ParallelReader) catch() {
	if v := recover(); v != nil {
		r.mu.Lock()
		r.mu.panicked = &v
		r.mu.Unlock()
	} else if r.stopped.Load() {
		return
	}
	r.mu.Lock()
	r.stopped.Store(true)
	r.wake()
	r.mu.Unlock()
}

// wake has all look again. It is called with the lock.
func (r *ParallelReader) wake() { r.cond.Broadcast() }

// Taking apart what is of use from what isn't: the reader gives up when so many segments
// more than a quarter of those that were used were of none.
const maxFailedSegments = 12

// GaveUp reports whether so few segments were of use that Take returns none any more.
func (r *ParallelReader) GaveUp() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.gaveUp()
}

func (r *ParallelReader) gaveUp() bool { return r.mu.failed > maxFailedSegments+r.mu.used/4 }

// work does one thing, and reports whether there may be more.
func (r *ParallelReader) work(w *segmentDecoder) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for !r.stopped.Load() {
		if s := r.toFinish(); s != nil {
			s.state = segSecond
			r.unlocked(func() { w.second(s) })
			s.state = segReady
			r.dropPieces()
			r.wake()
			return true
		}
		if s := r.claim(); s != nil {
			r.decode(w, s)
			r.dropPieces()
			r.wake()
			return true
		}
		r.cond.Wait()
	}
	return false
}

// unlocked calls f without the lock, and has it again when that returns or panics.
func (r *ParallelReader) unlocked(f func()) {
	r.mu.Unlock()
	defer r.mu.Lock()
	f()
}

// toFinish returns a segment whose window is known.
func (r *ParallelReader) toFinish() *Segment {
	for s := r.mu.first; s != nil; s = s.next {
		if s.state == segDecoded && s.ended && s.linked && !s.dead.Load() {
			return s
		}
	}
	return nil
}

// claim returns the next segment to be decoded, with memory; nil if there is none.
func (r *ParallelReader) claim() *Segment {
	if r.gaveUp() || len(r.mu.free) == 0 && r.mu.made == segments(len(r.team)) {
		return nil
	}
	for s := r.mu.first; s != nil; s = s.next {
		if s.state == segQueued && !s.dead.Load() {
			r.takeMemory(s)
			return s
		}
	}
	off := r.pieceOff(r.mu.next)
	if off >= r.span.Last || off >= r.span.End-r.span.Off || len(r.mu.pieces) >= r.maxPieces {
		return nil
	}
	s := &Segment{from: off * 8, piece: r.mu.next, start: -1}
	r.mu.next++
	r.insert(r.mu.last, s)
	r.takeMemory(s)
	return s
}

// takeMemory gives s what it decodes to.
func (r *ParallelReader) takeMemory(s *Segment) {
	s.state = segSearched
	if n := len(r.mu.free); n > 0 {
		old := r.mu.free[n-1]
		r.mu.free = r.mu.free[:n-1]
		s.mem, s.marks, s.parts, s.records, s.end = old.mem, old.marks, old.parts, old.records, old.end
		return
	}
	r.mu.made++
	s.mem = make([]byte, WindowSize+r.segLen+WindowSize)
}

// putFree takes the memory of a segment back.
func (r *ParallelReader) putFree(s *Segment) {
	if s.mem != nil {
		r.mu.free = append(r.mu.free, &Segment{mem: s.mem, marks: s.marks, parts: s.parts, records: s.records, end: s.end})
		s.mem = nil
	}
}

// insert puts s behind another segment, first if that is nil.
func (r *ParallelReader) insert(behind, s *Segment) {
	if behind == nil {
		s.next, r.mu.first = r.mu.first, s
	} else {
		s.next, behind.next = behind.next, s
	}
	if s.next == nil {
		r.mu.last = s
	}
}

// decode looks for the start of s, unless that is known, and decodes it with its window
// unknown. Where that comes to nothing, it looks further on.
func (r *ParallelReader) decode(w *segmentDecoder, s *Segment) {
	searched := s.start < 0
	at := s.from
	for !s.dead.Load() && !r.stopped.Load() {
		if searched {
			bit, key := int64(-1), blockKey(0)
			r.unlocked(func() { bit, key = r.search(s, at) })
			if before := r.before(s); before != nil {
				bit, key, searched = before.end.In, before.endKey, false
			}
			if bit < 0 {
				break
			}
			s.start, s.key = bit, key
			s.piece = r.pieceAt(bit / 8)
			at = bit + 1
		}
		s.state = segDecoded
		r.wake() // whoever waits for the start
		useful := false
		r.unlocked(func() { useful = w.first(s) })
		if useful && (!searched || s.join != nil || s.n >= WindowSize) {
			s.ended = true
			r.link(s)
			return
		}
		if !searched {
			break
		}
	}
	s.state = segFailed
	if !s.dead.Load() {
		r.mu.failed++
	}
}

// before returns the segment that has been decoded to end where s begins, if there is one.
func (r *ParallelReader) before(s *Segment) *Segment {
	for b := r.mu.first; b != nil && b != s; b = b.next {
		if b.ended && b.join == s {
			return b
		}
	}
	return nil
}

// search looks for a block that begins at a bit of s's piece or behind.
func (r *ParallelReader) search(s *Segment, at int64) (int64, blockKey) {
	i := r.pieceAt(s.from / 8)
	p, err := r.piece(i)
	if err != nil {
		return -1, 0
	}
	base := r.pieceOff(i) * 8
	to := len(p) - BlockHeaderLen
	if r.pieceOff(i+1) == r.span.End-r.span.Off {
		to = len(p)
	}
	for from := int(at - base); from < to*8; {
		if s.dead.Load() || r.stopped.Load() {
			break
		}
		next := min(to*8, from+8*findStride)
		if bit, ok := FindBlock(p, from, next); ok {
			return base + int64(bit), keyOf(base+int64(bit), peekBits(p, bit))
		}
		from = next
	}
	return -1, 0
}

// mayEnd reports whether s, which is decoded up to a block at a bit, is to end there:
// because another segment begins there or will, or because it is long enough.
func (r *ParallelReader) mayEnd(s *Segment, bit int64, d *Decoder) bool {
	key := d.peekKey()
	findable := d.bits>>1&3 == 0 || d.bits>>1&3 == 2
	r.mu.Lock()
	defer r.mu.Unlock()
	if s.dead.Load() {
		return true
	}
	long := r.isLong(s)
	after := s
	for next := s.next; next != nil; after, next = next, next.next {
		switch {
		case next.state == segFailed || next.dead.Load():
			continue
		case next.start >= 0 && next.key == key:
			return r.endAt(s, key, next)
		case next.start >= 0 && next.start < bit:
			continue // s has passed it: one of the two is wrong
		case next.start < 0 && bit >= next.from:
			if next.state == segQueued {
				if next.next != nil && next.next.from <= bit {
					continue
				}
				next.start, next.key = bit, key
				return r.endAt(s, key, next)
			}
			if findable {
				return r.endAt(s, key, next)
			}
			return false
		}
		if long {
			return r.endAt(s, key, r.insertAt(after, bit, key))
		}
		return false
	}
	if bit/8 < r.pieceOff(r.mu.next) {
		if long {
			return r.endAt(s, key, r.insertAt(after, bit, key))
		}
		return false
	}
	// Nobody has come so far yet.
	if bit/8 >= r.span.Last {
		return r.endAt(s, key, nil)
	}
	r.mu.next = r.pieceAt(bit/8) + 1
	return r.endAt(s, key, r.insertAt(after, bit, key))
}

// isLong reports whether s, which is at the end of a block, had better end there: it may have
// no room for the next block, and would end inside it, where no segment begins.
func (r *ParallelReader) isLong(s *Segment) bool {
	used, limit := s.n+s.symbols, r.outputLimit()*symbolLen
	if r.dense {
		limit = r.outputLimit()
	}
	return used >= limit*3/4 || used+s.block+s.block/4 > limit
}

// insertAt puts a segment that begins at a bit behind another.
func (r *ParallelReader) insertAt(behind *Segment, bit int64, key blockKey) *Segment {
	n := &Segment{from: bit, start: bit, key: key, piece: r.pieceAt(bit / 8)}
	r.insert(behind, n)
	r.wake()
	return n
}

// endAt ends s where another begins.
func (r *ParallelReader) endAt(s *Segment, key blockKey, join *Segment) bool {
	s.endKey, s.join = key, join
	return true
}

// link gives s the window before it, if that is known.
func (r *ParallelReader) link(s *Segment) {
	if s.linked || s.mem == nil || s.start < 0 {
		return
	}
	if r.mu.windowKey == s.key {
		copy(s.mem, r.mu.window[:])
		s.out, s.linked = r.mu.windowOut, true
		return
	}
	if b := r.before(s); b != nil && b.tailed && b.endKey == s.key {
		r.linkTo(s, b)
	}
}

// linkTo gives s the window that b ends with.
func (r *ParallelReader) linkTo(s, b *Segment) {
	copy(s.mem[:WindowSize], b.tail())
	s.out, s.linked = b.out+b.end.Out, true
}

// tailKnown says that the last bytes of s are known, and so the window before the next.
func (r *ParallelReader) tailKnown(s *Segment) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s.tailed = true
	if n := s.join; n != nil && n.mem != nil && n.state == segDecoded && n.ended && !n.linked && n.key == s.endKey {
		r.linkTo(n, s)
		r.wake()
	}
}

// Take returns the segment that begins where d is, between two blocks, once it is decoded.
// It is nil if there is none, or what d has of a window is less than WindowSize; then d has to
// decode at least the next block.
func (r *ParallelReader) Take(d *Decoder) *Segment {
	window := d.Window()
	if len(window) < WindowSize || !d.BetweenBlocks() {
		return nil
	}
	bit, key := d.In(), d.peekKey()
	r.mu.Lock()
	defer r.mu.Unlock()
	copy(r.mu.window[:], window)
	r.mu.windowKey, r.mu.windowOut = key, d.Out()
	return r.take(bit, key)
}

// take returns the segment that begins at a bit, before which the window is known.
func (r *ParallelReader) take(bit int64, key blockKey) *Segment {
	for !r.gaveUp() {
		r.check()
		s := r.mu.first
		switch {
		case s == nil && (r.stopped.Load() || bit/8 >= r.span.Last || bit/8 < r.pieceOff(r.mu.next)):
			return nil
		case s == nil:
			// The workers begin here.
			r.mu.next = r.pieceAt(bit/8) + 1
			r.insertAt(nil, bit, key)
			continue
		case s.taken, s.state == segFailed, s.start >= 0 && s.start < bit && s.key != key:
			r.drop(s)
			continue
		case s.start < 0 && s.state == segQueued && bit >= s.from:
			if s.next != nil && s.next.from <= bit {
				r.drop(s)
				continue
			}
			s.start, s.key = bit, key
			r.wake()
			continue
		case s.start < 0 && bit < s.from, s.start >= 0 && s.key != key:
			return nil
		case s.state == segReady:
			if s.n == 0 {
				r.drop(s)
				return nil
			}
			s.taken = true
			r.mu.used++
			return s
		case s.state == segQueued && len(r.mu.free) == 0 && r.mu.made == segments(len(r.team)):
			return nil // all memory is behind it
		case s.state == segDecoded && s.ended && !s.linked:
			r.link(s)
			r.wake()
		}
		if r.stopped.Load() {
			return nil
		}
		r.cond.Wait()
	}
	return nil
}

// check passes on what a worker has panicked with.
func (r *ParallelReader) check() {
	if r.mu.panicked != nil {
		panic(*r.mu.panicked)
	}
}

// drop gives up the first segment, which was of no use.
func (r *ParallelReader) drop(s *Segment) {
	if s.state != segFailed && s.mem != nil && !s.taken {
		r.mu.failed++
	}
	s.dead.Store(true)
	r.release(s)
}

// release forgets the first segment. One that a worker is about to be done with gives its
// memory back first.
func (r *ParallelReader) release(s *Segment) {
	for (s.state == segSearched || s.state == segSecond || s.state == segDecoded && !s.ended) && !r.stopped.Load() {
		r.cond.Wait()
	}
	if r.mu.first == s {
		r.mu.first = s.next
		if s.next == nil {
			r.mu.last = nil
		}
	}
	r.putFree(s)
	r.dropPieces()
	r.wake()
}

// Next returns the segment behind s, and takes s back. If it is nil there is none, and s is
// still valid, until the next Take or Stop.
func (r *ParallelReader) Next(s *Segment) *Segment {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.check()
	if s.join == nil || r.gaveUp() {
		return nil
	}
	// Whatever is between the two is wrong.
	for s.next != s.join {
		n := s.next
		s.next = n.next
		n.dead.Store(true)
		r.mu.failed++
		r.release(n)
	}
	n := s.join
	copy(r.mu.window[:], s.mem[s.n:])
	r.mu.windowKey, r.mu.windowOut = s.endKey, s.out+int64(s.n)
	for {
		switch {
		case n.state == segFailed, n.start >= 0 && n.key != s.endKey, r.stopped.Load(), r.gaveUp():
			r.check()
			return nil
		case n.state == segReady:
			if n.n == 0 {
				return nil
			}
			n.taken = true
			r.mu.used++
			r.mu.first = n
			r.putFree(s)
			r.dropPieces()
			r.wake()
			return n
		case n.state == segQueued && len(r.mu.free) == 0 && r.mu.made == segments(len(r.team)):
			return nil
		case n.state == segDecoded && n.ended && !n.linked:
			r.link(n)
			r.wake()
		}
		r.cond.Wait()
	}
}
