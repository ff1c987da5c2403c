package dmg

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/go-dmg/dmg/internal/budget"
	"github.com/go-dmg/dmg/internal/bzip2"
	"github.com/go-dmg/dmg/internal/pagecache"
	"github.com/go-dmg/dmg/internal/xz"
)

// pageSize is the unit, in bytes, in which decoded data is cached, and a decoder's progress
// is told to those that wait.
const pageSize = pagecache.PageSize

// engine serves the bytes of a chunk map. Zero and raw chunks are read straight
// into the caller's buffer. A read of a compressed chunk is made of steps. Each step
// copies what the cache has, or is a flight: it takes the idle decoder that stands
// nearest before the place, or starts one from the nearest checkpoint, decodes to the
// end of what it needs, and leaves the decoder idle there.
//
// There is one lock, mu, which is not held while decoding or reading the source.
// checkLocked says what holds when it is free. Besides:
//
//   - Nobody waits while holding a decoder, but for its own output.
//   - A flight's position moves after its page is published.
//   - What was decoded before a failure of its chunk is not published after it.
//   - Whole-disk work claims tasks in order, each together with its decoder.
//
// What is in mu is used with the lock. Methods named …Locked are called with it, and keep
// it. acquire, acquireDecoder and memoryFor are called with it too: they let it go while they
// wait or read the source, and have it again when they return, also after a panic. All
// others take it themselves.
type engine struct {
	chunkMap
	// span, if not nil, tells holes from data in the one raw chunk of a disk whose extents
	// are looked up when they are needed: how long what begins at off is, as far as data
	// bytes of it, or hole bytes, and whether it is zeros. It may read the source.
	span     func(off, data, hole int64) (length int64, zero bool, err error)
	src      countingSource
	store    store
	cached   *pagecache.View // of mu.cache, without the lock
	archived int64           // of the memory limit, what archives take that the image is in
	waiters  atomic.Int32    // the length of mu.queue

	_     [128]byte // reads of cached pages use what is above, and all that is below changes
	count counters

	mu struct {
		sync.Mutex
		account      budget.Budget
		cache        pagecache.Cache
		flights      []*flight             // at work
		spare        []*flight             // for use again
		idle         []*decoder            // least recently used first
		idleParallel *bzip2.ParallelReader // to be used again; may be nil
		points       checkpoints
		failures     failures
		windows      map[int]int64 // that decoders of long LZMA chunks need, in bytes
		listing      map[int]int   // how many goroutines list the blocks of a long LZMA chunk
		queue        []*waiter     // for memory, in the order in which they came

		reclaimers []reclaimer // pipelines that can give back memory
		outputFree sync.Cond   // a pipeline has given back its buffers
	}
}

func (e *engine) init(r io.ReaderAt, m chunkMap, limit int64) {
	e.chunkMap = m
	e.src = newSource(r, &e.count)
	e.mu.account.Limit = limit
	e.mu.cache.Init(&e.mu.account)
	e.cached = e.mu.cache.View()
	zlib, windowed := m.checkpointed()
	e.mu.points.init(&e.mu.account, &e.mu.cache, zlib, windowed)
	e.mu.outputFree.L = &e.mu
	e.store = store{mu: &e.mu, chunks: m.chunks, points: &e.mu.points, failures: &e.mu.failures, freed: e.wakeLocked}
	e.store.unpacked.L = &e.mu
}

// stats returns the counters so far.
func (e *engine) stats() Stats {
	s := e.count.sum()
	e.mu.Lock()
	defer e.mu.Unlock()
	a := &e.mu.account
	s.CheckpointBytes, s.CacheBytes, s.MemoryUsed = a.Used[budget.Checkpoints], a.Used[budget.Cache], a.Total()
	return s
}

// readAt is ReadAt of the disk, until ctx is done.
func (e *engine) readAt(ctx context.Context, p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, fmt.Errorf("dmg: ReadAt: offset %d is negative", off)
	}
	if len(p) == 0 {
		return 0, nil
	}
	if off >= e.size {
		return 0, io.EOF
	}
	atEnd := int64(len(p)) > e.size-off
	if atEnd {
		p = p[:e.size-off]
	}
	for n < len(p) && err == nil {
		var k int
		i := e.find(off + int64(n))
		if i == len(e.chunks) || off+int64(n) < e.chunks[i].Offset {
			hole := e.gap(off+int64(n), i)
			k = int(min(hole.Length, int64(len(p)-n)))
			clear(p[n : n+k])
		} else {
			k, err = e.readChunk(ctx, i, p[n:], off+int64(n)-e.chunks[i].Offset)
		}
		n += k
	}
	e.count.lane(laneOf(p)).bytesRead.Add(int64(n))
	if err == nil && atEnd {
		err = io.EOF
	}
	return n, err
}

// errMissing is the cause where a chunk's sectors have no data.
var errMissing = fmt.Errorf("%w: its data is missing from the file", ErrFormat)

// readChunk fills p with the bytes of chunk i from byte off of the chunk on, as
// far as the chunk goes. What p has room for beyond is asked for next. Of raw
// chunks it also reads those that go on where chunk i ends.
func (e *engine) readChunk(ctx context.Context, i int, p []byte, off int64) (n int, err error) {
	c := e.chunks[i]
	if c.Method == Raw {
		c = e.rawRun(i, off+int64(len(p)))
	}
	more := max(0, int64(len(p))-(c.Length-off))
	p = p[:int64(len(p))-more]
	switch {
	case ctx.Err() != nil:
		return 0, context.Cause(ctx)
	case c.Method.zeros():
		clear(p)
		return len(p), nil
	case c.Method == Raw && e.span != nil:
		return e.readSpan(p, off)
	case c.Method == Raw:
		return e.readRaw(&c, p, off)
	case c.DataLength == 0:
		return 0, &ChunkError{c, errMissing}
	case !c.Method.compressed():
		return 0, &ChunkError{c, fmt.Errorf("%w: %v compression", ErrUnsupported, c.Method)}
	}
	var proven int64
	for n < len(p) && err == nil {
		var k int
		k, proven, err = e.step(ctx, i, p[n:], off+int64(n), more)
		n += k
	}
	if isDamage(err) {
		// Decoders notice damage late: of what they made, only that counts
		// which a checksum has confirmed.
		n = int(max(0, min(int64(n), proven-off)))
	}
	return n, err
}

// isDamage reports whether err says that a chunk's data is not what was stored.
func isDamage(err error) bool { return errors.Is(err, ErrFormat) || errors.Is(err, ErrChecksum) }

// rawRun returns raw chunk i as one with those that go on where it ends, on the
// disk and in the source, until it has enough bytes.
func (e *engine) rawRun(i int, enough int64) Chunk {
	run := e.chunks[i]
	for i++; run.Length < enough && run.DataLength >= run.Length && i < len(e.chunks); i++ {
		next := &e.chunks[i]
		if next.Method != Raw || next.Offset != run.end() || next.DataOffset != run.DataOffset+run.Length || next.DataLength < next.Length {
			break
		}
		run.Length += next.Length
		run.DataLength = run.Length
	}
	return run
}

// readRaw reads from a raw chunk. One whose data is short of its sectors can be
// read as far as it goes.
func (e *engine) readRaw(c *Chunk, p []byte, off int64) (int, error) {
	have := max(0, min(int64(len(p)), c.DataLength-off))
	n, err := e.src.ReadAt(p[:have], c.DataOffset+off)
	if err == nil && n < len(p) {
		err = &ChunkError{*c, errMissing}
	}
	return n, e.archiveError(c, err)
}

// archiveError names the chunk in an error that says that an archive is damaged, which the
// image is in.
func (e *engine) archiveError(c *Chunk, err error) error {
	if e.src.inner && isDamage(err) && !errors.As(err, new(*ChunkError)) {
		err = &ChunkError{*c, err}
	}
	return err
}

// readSpan reads the hole at off, or what is stored there.
func (e *engine) readSpan(p []byte, off int64) (int, error) {
	length, zero, err := e.span(off, int64(len(p)), int64(len(p)))
	if err != nil {
		return 0, err
	}
	p = p[:min(int64(len(p)), length)]
	if zero {
		clear(p)
		return len(p), nil
	}
	return e.src.ReadAt(p, off)
}

// A flight is one reader's decoding of a part of a chunk. Others that need what it is
// about to decode wait for it.
type flight struct {
	ctx     context.Context
	chunk   int
	d       *decoder
	page    *pagecache.Page // that is being filled; may be nil
	pos     int64           // decoded, and cached if there was room, up to here
	end     int64           // where it will stop
	more    int64           // bytes that the reader wants beyond the chunk's end
	began   int             // the number of failures when it started
	waiting int             // readers that wait
	moved   sync.Cond
}

// step reads some of what p asks for: what is cached at off, or as much as one
// flight decodes. The reader wants more bytes beyond the chunk's end. With an error,
// proven is the offset in the chunk up to which a checksum has confirmed what was
// decoded.
func (e *engine) step(ctx context.Context, i int, p []byte, off, more int64) (n int, proven int64, err error) {
	for known := false; ; {
		n, proven, err = e.stepOnce(ctx, i, p, off, more)
		if err == nil {
			return n, proven, nil
		}
		var short *xz.WindowError
		if !errors.As(err, &short) {
			return n, proven, err
		}
		// With a larger decoder. Another reader may have learned meanwhile that it takes one.
		grew := e.needWindow(i, short.Window)
		if !grew && known {
			return n, proven, err
		}
		known = !grew
	}
}

// stepOnce is step for a decoder as large as it is known to have to be.
func (e *engine) stepOnce(ctx context.Context, i int, p []byte, off, more int64) (n int, proven int64, err error) {
	if n = e.copyCached(i, p, off); n > 0 {
		return n, 0, nil
	}
	pg, f, err := e.cachedOrFlight(ctx, i, off, off+int64(len(p)))
	switch {
	case err != nil:
		return 0, 0, err
	case pg != nil:
		return e.copyPage(pg, p, off), 0, nil
	}
	f.more = more
	n, proven, err = e.fly(f, p, off)
	if n == len(p) && !errors.Is(err, xz.ErrWindow) && !errors.Is(err, ErrChecksum) {
		err = nil // it is about what lies behind: the next reader will meet it
	}
	return n, proven, err
}

// cachedOrFlight returns the page with byte off of chunk i, pinned, or a new flight that
// will decode up to end. It waits for flights that are about to decode that byte.
func (e *engine) cachedOrFlight(ctx context.Context, i int, off, end int64) (*pagecache.Page, *flight, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for {
		if pg := e.mu.cache.Pin(i, off); pg != nil {
			return pg, nil, nil
		}
		f := e.flightToJoinLocked(i, off)
		if f == nil {
			return nil, e.startFlightLocked(ctx, i, off, end), nil
		}
		stop := func() bool { return true }
		if ctx.Done() != nil {
			stop = context.AfterFunc(ctx, func() {
				e.mu.Lock()
				f.moved.Broadcast()
				e.mu.Unlock()
			})
		}
		f.waiting++
		f.moved.Wait()
		f.waiting--
		stop()
		if ctx.Err() != nil {
			return nil, nil, context.Cause(ctx)
		}
	}
}

// fly decodes for a reader of p, at byte off of the flight's chunk. Should the source
// panic, others don't wait for the flight or its memory.
func (e *engine) fly(f *flight, p []byte, off int64) (n int, proven int64, err error) {
	landed := false
	defer func() { e.land(f, landed, err) }()
	if err = e.takeDecoder(f, off); err == nil {
		n, err = e.decode(f, p, off)
		proven = f.d.codec.proven(f.d)
	}
	landed = true
	return n, proven, err
}

// land ends a flight, which may have panicked, and puts its decoder aside.
func (e *engine) land(f *flight, landed bool, err error) {
	d := f.d
	if d != nil {
		d.fetch.ctx = nil
		if d.codec.suspend(); !landed {
			d.abandon()
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if f.page != nil {
		e.sealPageLocked(f, f.page.End())
	}
	if d != nil {
		if d.fetch.err != nil || e.mu.failures.invalidatedSince(f.chunk, f.began) {
			// The codec remembers the source's error, or began with what may
			// have been wrong.
			d.abandon()
			d.fetch.discardBuffer()
		}
		e.putIdleLocked(d, err)
	}
	e.finishFlightLocked(f)
	if budget.Checks {
		if err := e.checkLocked(false); err != nil {
			panic("dmg: " + err.Error())
		}
	}
}

// roundUp returns the next multiple of unit, a power of two, from n on, or the
// largest number where that is too large: a chunk may say that it has 2^63 bytes.
func roundUp(n, unit int64) int64 {
	if n > math.MaxInt64-unit {
		return math.MaxInt64
	}
	return (n + unit - 1) &^ (unit - 1)
}

// copyCached copies what the page with byte off of chunk i has of p, without the lock. It
// may miss a page that is just being published or given up.
func (e *engine) copyCached(i int, p []byte, off int64) int {
	lane := laneOf(p)
	n := e.cached.Copy(p, i, off, lane)
	if n == 0 {
		return 0
	}
	e.count.lane(lane).cacheHits.Add(1)
	if e.waiters.Load() > 0 {
		// The first may have looked for memory while this page was being read.
		e.mu.Lock()
		e.wakeLocked()
		e.mu.Unlock()
	}
	return n
}

// copyPage copies from a cached page, which is pinned.
func (e *engine) copyPage(pg *pagecache.Page, p []byte, off int64) int {
	n := copy(p, pg.From(off))
	e.count.lane(laneOf(p)).cacheHits.Add(1)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.mu.cache.Unpin(pg)
	e.wakeLocked()
	return n
}

// startFlightLocked enters a flight that will decode chunk i up to end. It has yet to be
// said from where.
func (e *engine) startFlightLocked(ctx context.Context, i int, off, end int64) *flight {
	var t *flight
	if n := len(e.mu.spare); n > 0 {
		t = e.mu.spare[n-1]
		e.mu.spare = e.mu.spare[:n-1]
	} else {
		t = new(flight)
		t.moved.L = &e.mu
	}
	t.ctx, t.chunk, t.d, t.page, t.pos, t.end = ctx, i, nil, nil, off, end
	t.began = e.mu.failures.count()
	e.mu.flights = append(e.mu.flights, t)
	return t
}

// finishFlightLocked removes t. Readers that wait for it look again.
func (e *engine) finishFlightLocked(t *flight) {
	t.ctx, t.d, t.page = nil, nil, nil // a spare flight must not keep a decoder alive
	last := len(e.mu.flights) - 1
	e.mu.flights[slices.Index(e.mu.flights, t)] = e.mu.flights[last]
	e.mu.flights[last] = nil
	e.mu.flights = e.mu.flights[:last]
	if t.waiting > 0 {
		t.moved.Broadcast()
	} else {
		e.mu.spare = append(e.mu.spare, t)
	}
}

// flightToJoinLocked returns the flight that a reader of byte off should wait for: one that
// has decoded less far than off, but no less far than where the reader itself
// would begin.
func (e *engine) flightToJoinLocked(i int, off int64) *flight {
	from := int64(-1)
	for _, t := range e.mu.flights {
		if t.chunk != i {
			continue
		}
		if from < 0 {
			from = max(e.mu.points.before(i, off).off, e.nearestIdleLocked(i, off).reach)
		}
		// A flight says where it is a page at a time. A bzip2 decoder can go to
		// and fro in its block, which takes long to decode.
		if from < t.pos+pageSize && t.pos <= off ||
			e.chunks[i].Method.info().blocks && e.mu.points.before(i, t.pos).off == from {
			return t
		}
	}
	return nil
}

// takeDecoder gives f a decoder that stands at or before byte off of the chunk. It may
// wait for memory.
func (e *engine) takeDecoder(f *flight, off int64) error {
	idle, err := e.chooseDecoder(f, off)
	if idle || err != nil {
		return err
	}
	c := &e.chunks[f.chunk]
	f.d.fetch.ctx = done(f.ctx)
	if err = f.d.start(c, f.chunk, off); err != nil {
		err = e.chunkError(f.d, c, err)
	}
	return err
}

// done returns ctx, or nil if it can't be done.
func done(ctx context.Context) context.Context {
	if ctx.Done() == nil {
		return nil
	}
	return ctx
}

// chooseDecoder gives f the idle decoder that stands nearest before byte off of the
// chunk, or one that is yet to be started. It reports which.
func (e *engine) chooseDecoder(f *flight, off int64) (idle bool, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	i := f.chunk
	near := e.nearestIdleLocked(i, off)
	from := e.mu.points.before(i, off).off
	if near.index >= 0 && near.reach >= from {
		d := e.takeIdleLocked(near.index)
		f.d = d
		d.fetch.ctx = done(f.ctx)
		d.began = f.began // it would have been abandoned
		if d.pos == off {
			// A reader that goes on where it stopped will want the page's rest.
			f.end = min(d.length, roundUp(f.end, pageSize))
		}
		e.setDemandLocked(d, i, f, d.pos == off)
		d.codec.seek(d, off)
		f.pos = d.pos
		return true, nil
	}
	f.pos = from
	if f.d, err = e.acquireDecoder(f.ctx, i, 0); err == nil {
		f.pos = e.mu.points.before(i, off).off // an .xz index may have been read
		e.setDemandLocked(f.d, i, f, off == 0 && f.d.fetch.follows(e.chunks[i].DataOffset))
	}
	return false, err
}

// decode runs a flight's decoder from where it stands to the flight's end, through p,
// which begins at byte off of the chunk. What it decodes goes to the cache, and
// to p.
func (e *engine) decode(t *flight, p []byte, off int64) (n int, err error) {
	d := t.d
	for err == nil && d.pos < t.end {
		if t.ctx.Err() != nil {
			e.nextPage(t, 0)
			return n, context.Cause(t.ctx)
		}
		e.nextPage(t, t.end-d.pos)
		for stop := min(t.end, roundUp(d.pos+1, pageSize)); err == nil && d.pos < stop; {
			at := d.pos
			var b []byte
			b, err = d.decode(stop - at)
			if t.page != nil {
				t.page.Put(b, at)
			}
			if skip := max(0, off-at); skip < int64(len(b)) {
				n += copy(p[n:], b[skip:])
			}
		}
	}
	e.nextPage(t, 0)
	// Others may go on here from a checkpoint: those of LZMA may be anywhere. A block of bzip2
	// is compared at its end: to do so at each page would take several times as long as decoding.
	if err == nil && (d.pos%minSpacing == 0 || d.method == LZMA) && d.pos < d.length && !d.method.info().blocks {
		err = d.verifyCheckpoint()
	}
	if err == nil && d.pos == d.length {
		if err = d.finish(); err != nil {
			// Nobody may read the chunk's end before it has been checked.
			n = 0
			e.mu.Lock()
			e.mu.cache.DropPage(d.chunk, (d.length-1)/pageSize)
			e.mu.Unlock()
		}
	}
	if err != nil {
		err = e.chunkError(d, &e.chunks[d.chunk], err)
	}
	return n, err
}

// nextPage seals the flight's page where the decoder stands and begins the next, if more
// bytes are to come. There is none where they are not to be cached: on the way
// to a place far off, or in a read so large that it would push out everything
// else.
func (e *engine) nextPage(t *flight, more int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if t.page != nil {
		e.sealPageLocked(t, t.d.pos)
	}
	if t.pos = t.d.pos; t.waiting > 0 {
		t.moved.Broadcast()
	}
	if more > 0 && more <= budget.ShareRead.Of(e.mu.account.Limit) {
		t.page = e.mu.cache.Open(t.d.chunk, t.d.pos)
	}
}

// sealPageLocked publishes the flight's page, filled up to byte end of the chunk. If decoding
// of the chunk has failed since the flight began, what it has added is not kept, nor what
// the page had if that was given up meanwhile.
func (e *engine) sealPageLocked(t *flight, end int64) {
	pg := t.page
	t.page = nil
	if e.mu.failures.invalidatedSince(t.chunk, t.began) {
		e.mu.cache.Discard(pg)
	} else {
		e.mu.cache.Seal(pg, end)
	}
}

// chunkError names the chunk in an error that is not the source's own. What was
// decoded of a chunk whose checksum is wrong is forgotten: it can't be told
// which of it is right.
func (e *engine) chunkError(d *decoder, c *Chunk, err error) error {
	d.fetch.discardBuffer()
	if errors.Is(err, d.fetch.err) {
		return e.archiveError(c, err)
	}
	wrong := errors.Is(err, ErrChecksum)
	if wrong || errors.Is(err, ErrFormat) {
		e.invalidate(d, wrong)
	}
	return &ChunkError{*c, err}
}
