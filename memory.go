package dmg

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"

	"github.com/go-dmg/dmg/internal/budget"
	"github.com/go-dmg/dmg/internal/bzip2"
	"github.com/go-dmg/dmg/internal/deflate"
	"github.com/go-dmg/dmg/internal/xz"
)

// checkpointShare is how much of the limit checkpoints may take before they are thinned
// out.
func checkpointShare(a *budget.Budget) int64 { return budget.ShareCheckpoints.Of(a.Limit) }

// checkLocked returns what is wrong with the engine's state, if anything is. These hold
// whenever the lock is free:
//
//   - What is in use is no more than the limit.
//   - Of each use, the parts that are known are no more than what is counted. At rest,
//     when no read and no whole-disk work is under way, they are the same, and nobody
//     waits.
//   - A page's published bytes don't change, and idle pages have no readers.
//
// Tests call it at rest. With the build tag dmgcheck, reads call it when they end.
func (e *engine) checkLocked(atRest bool) error {
	a := &e.mu.account
	if a.Total() > a.Limit {
		return fmt.Errorf("%d bytes are in use of %d", a.Total(), a.Limit)
	}
	var parts [budget.NumUses]int64
	for _, d := range e.mu.idle {
		parts[budget.Decoders] += d.memory
	}
	if p := e.mu.idleParallel; p != nil {
		parts[budget.Decoders] += parallelMemory(p.Workers())
	}
	for _, f := range e.mu.flights {
		if f.d != nil {
			parts[budget.Decoders] += f.d.memory
		}
	}
	parts[budget.Checkpoints] = e.mu.points.memory()
	if atRest {
		if err := e.mu.cache.CheckIdle(); err != nil {
			return err
		}
		parts[budget.Cache] = e.mu.cache.Size()
		if len(e.mu.flights) != 0 || len(e.mu.queue) != 0 || len(e.mu.reclaimers) != 0 {
			return fmt.Errorf("%d flights, %d waiters, %d runs", len(e.mu.flights), len(e.mu.queue), len(e.mu.reclaimers))
		}
		if p := &e.mu.points.packed; p.made != len(p.idle) {
			return fmt.Errorf("%d of %d unpackers are idle", len(p.idle), p.made)
		}
	}
	for use, n := range parts {
		if used := a.Used[use]; n > used || atRest && n != used {
			return fmt.Errorf("use %d: %d bytes are counted, there are %d", use, used, n)
		}
	}
	return nil
}

// A waiter waits for memory. Waiters are served in the order in which they came, so
// that one which needs much is not passed by for ever by others that need little.
type waiter struct {
	need int64 // bytes
	held int64 // bytes of buffers that the waiter's own run holds meanwhile
	cond sync.Cond
	woke int // how often
}

// acquire has try take memory, of which it needs so many bytes, as soon as it is this
// caller's turn. try reports whether it has succeeded; it is called with the lock,
// which acquire lets go while it waits. held is what the caller's run holds of
// budget.Buffers, and cannot give up. acquire returns errNoRoom if the need can't ever be
// met, or the cause for which ctx is done.
func (e *engine) acquire(ctx context.Context, need, held int64, try func() bool) error {
	a := &e.mu.account
	if need > a.Limit-held {
		return errNoRoom
	}
	if len(e.mu.queue) == 0 && e.tryRoomLocked(need, try) {
		return nil
	}
	w := &waiter{need: need, held: held}
	w.cond.L = &e.mu
	e.mu.queue = append(e.mu.queue, w)
	e.waiters.Add(1) // before the first looks for room: see copyCached
	defer e.leaveQueueLocked(w)
	if held > 0 && e.mu.queue[0] != w {
		e.wakeLocked() // this run may be what the first has been waiting for
	}
	for {
		if e.mu.queue[0] == w {
			// Nobody else takes what comes free from now on.
			a.Reserved = 0
			if e.tryRoomLocked(need, try) {
				return nil
			}
			switch {
			case w.woke > maxWoke && e.makeRoomLocked():
				continue
			case need > a.Limit-a.Used[budget.Checkpoints]-a.Used[budget.Buffers] && e.shedCheckpointsLocked():
				continue
			case e.stuckLocked():
				switch {
				case e.shedCheckpointsLocked():
					continue
				case !e.letPassLocked(w):
					return errNoRoom
				}
			default:
				a.Reserved = need
			}
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		w.cond.Wait()
		w.woke++
	}
}

// maxWoke is how often the first in the queue looks in vain before it gathers room
// bit by bit. As a rule a decoder that it can use is idle sooner.
const maxWoke = 16

// errNoRoom says that the memory limit has no room for what is needed.
var errNoRoom = fmt.Errorf("%w", ErrMemoryLimit)

// tryRoomLocked makes room until try succeeds. It gives up nothing unless that is enough.
func (e *engine) tryRoomLocked(need int64, try func() bool) bool {
	for !try() {
		if !e.mayFitLocked(need) || !e.makeRoomLocked() {
			return false
		}
	}
	return true
}

// stuckLocked reports whether waiting is in vain: no decoder is at work, nobody is reading a
// page, and all buffers belong to runs that wait themselves.
func (e *engine) stuckLocked() bool {
	held := int64(0)
	for _, w := range e.mu.queue {
		held += w.held
	}
	return e.atWorkLocked() <= 0 && e.mu.account.Used[budget.Buffers] <= held && !e.mu.cache.Reading()
}

// letPassLocked lets another waiter go before w, which is the first in the queue and waits in
// vain: one whose need there is room for beside all buffers, or else a run, if w is
// none. When that run is done, or has failed, its buffers come free.
func (e *engine) letPassLocked(w *waiter) bool {
	a := &e.mu.account
	room := a.Limit - a.Used[budget.Buffers]
	i := slices.IndexFunc(e.mu.queue[1:], func(other *waiter) bool { return other.need <= room })
	if i < 0 && w.held == 0 {
		i = slices.IndexFunc(e.mu.queue[1:], func(other *waiter) bool { return other.held > 0 })
	}
	if i < 0 {
		return false
	}
	other := e.mu.queue[i+1]
	e.mu.queue = slices.Insert(slices.Delete(e.mu.queue, i+1, i+2), 0, other)
	e.wakeLocked()
	return true
}

// leaveQueueLocked ends a wait, and wakes the next.
func (e *engine) leaveQueueLocked(w *waiter) {
	if e.mu.queue[0] == w {
		e.mu.account.Reserved = 0
	}
	i := slices.Index(e.mu.queue, w)
	e.mu.queue = slices.Delete(e.mu.queue, i, i+1)
	e.waiters.Add(-1)
	e.wakeLocked()
}

// wakeLocked has the first in the queue look again, since memory has come free or a decoder
// is idle.
func (e *engine) wakeLocked() {
	if len(e.mu.queue) > 0 {
		e.mu.queue[0].cond.Signal()
	}
}

// wakeAfter wakes all who wait once ctx is done, until stop is called.
func (e *engine) wakeAfter(ctx context.Context) (stop func() bool) {
	return context.AfterFunc(ctx, func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		for _, w := range e.mu.queue {
			w.cond.Signal()
		}
		e.mu.outputFree.Broadcast()
	})
}

// A reclaimer holds decoders' memory that it can do without. Its methods are called
// with the engine's lock.
type reclaimer interface {
	// idle returns how many bytes can be taken back.
	idle() int64
	// reclaim takes some back. It returns false if there is nothing to take.
	reclaim() bool
}

// makeRoomLocked gives back the memory of a cached page, of the idle parallel reader, of
// what was fetched ahead, or of the decoder idle longest. It returns false if
// all that is left is at work.
func (e *engine) makeRoomLocked() bool {
	if e.mu.cache.Shrink() {
		return true
	}
	if p := e.mu.idleParallel; p != nil {
		e.mu.idleParallel = nil
		e.mu.account.Release(budget.Decoders, parallelMemory(p.Workers()))
		return true
	}
	for _, r := range e.mu.reclaimers {
		if r.reclaim() {
			return true
		}
	}
	if len(e.mu.idle) == 0 {
		return false
	}
	d := e.takeIdleLocked(0)
	e.mu.account.Release(budget.Decoders, d.memory)
	return true
}

// memoryAtRestLocked returns how much memory decoders have that are not at work.
func (e *engine) memoryAtRestLocked() (n int64) {
	for _, d := range e.mu.idle {
		n += d.memory
	}
	if e.mu.idleParallel != nil {
		n += parallelMemory(e.mu.idleParallel.Workers())
	}
	for _, r := range e.mu.reclaimers {
		n += r.idle()
	}
	return n
}

// atWorkLocked returns how much memory decoders have that are.
func (e *engine) atWorkLocked() int64 {
	return e.mu.account.Used[budget.Decoders] - e.memoryAtRestLocked()
}

// mayFitLocked reports whether n bytes can be had by makeRoomLocked. If not, what is there had
// better stay.
func (e *engine) mayFitLocked(n int64) bool {
	a := &e.mu.account
	return n <= a.Limit-a.Total()-a.Reserved+a.Used[budget.Cache]+e.memoryAtRestLocked()
}

// takeCachedLocked takes memory for a decoder, from the cache if need be. While others wait
// for memory it takes none.
func (e *engine) takeCachedLocked(n int64) bool {
	for len(e.mu.queue) == 0 {
		if e.mu.account.Take(budget.Decoders, n) {
			return true
		}
		if !e.mu.cache.Shrink() {
			return false
		}
	}
	return false
}

// borrow implements host.
func (e *engine) borrow(n int64) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.takeNowLocked(n)
}

// giveBack implements host.
func (e *engine) giveBack(n int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.mu.account.Release(budget.Decoders, n)
	e.wakeLocked()
}

// takeNowLocked takes memory for decoders without waiting for it. While others wait for
// memory it takes none.
func (e *engine) takeNowLocked(n int64) bool {
	for len(e.mu.queue) == 0 {
		if e.mu.account.Take(budget.Decoders, n) {
			return true
		}
		if !e.makeRoomLocked() {
			return false
		}
	}
	return false
}

// near is the idle decoder from which a read would go on.
type near struct {
	index int   // among the idle ones, -1 if there is none
	reach int64 // the place before the read where it can be, -1
}

// nearestIdleLocked finds the decoder of chunk i that can go on nearest before off.
func (e *engine) nearestIdleLocked(i int, off int64) near {
	best := near{-1, -1}
	for k, d := range e.mu.idle {
		if d.chunk != i {
			continue
		}
		if reach := d.codec.nearestBefore(d, off); reach > best.reach {
			best = near{k, reach}
		}
	}
	return best
}

// takeIdleLocked takes the decoder at index k of the idle ones.
func (e *engine) takeIdleLocked(k int) *decoder {
	d := e.mu.idle[k]
	e.mu.idle = slices.Delete(e.mu.idle, k, k+1)
	return d
}

// putIdleLocked keeps a decoder for the read that goes on where it stands. If it failed
// or is at the chunk's end only its memory is of use.
func (e *engine) putIdleLocked(d *decoder, err error) {
	if err != nil || d.pos == d.length {
		d.chunk = -1
	}
	e.mu.idle = append(e.mu.idle, d)
	e.wakeLocked()
}

// maxIdle is how many decoders are idle at most while readers take new ones:
// each read looks through all of them.
const maxIdle = 128

// acquireDecoder returns a decoder for chunk i that stands nowhere: a new one, or an idle one
// whose place is given up. Decoders may fill a quarter of the limit before
// idle ones are reused, which is enough for many sequential readers. A reader
// that can't have one yet waits, until ctx is done; its own run holds so many bytes of
// buffers meanwhile.
func (e *engine) acquireDecoder(ctx context.Context, i int, held int64) (d *decoder, err error) {
	c := &e.chunks[i]
	memory, err := e.memoryFor(i)
	if err != nil {
		return nil, err
	}
	err = e.acquire(ctx, memory, held, func() bool {
		d = e.tryDecoderLocked(c, memory)
		return d != nil
	})
	if err == errNoRoom {
		// Whole-disk work has buffers besides, of one worker at least.
		const buffers = outputBuffers * maxOutputBuffer
		limit, enough := e.mu.account.Limit+e.archived, memory+buffers
		if e.archived > 0 { // an archive takes its share, or what it has now if that is more
			enough = max(enough/17*32+32, enough+e.archived)
		}
		err = &ChunkError{*c, fmt.Errorf("%w: decoding it takes %d bytes of memory, the limit is %d; a limit of %d MiB will do",
			ErrMemoryLimit, memory, limit, roundUp(enough, 1<<20)>>20)}
	}
	return d, err
}

// newDecoderFor is acquireDecoder for a caller without the lock.
func (e *engine) newDecoderFor(ctx context.Context, i int, held int64) (*decoder, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.acquireDecoder(ctx, i, held)
}

// decoderNow is newDecoderFor for a caller that can't wait: then it returns ErrMemoryLimit.
func (e *engine) decoderNow(i int) (d *decoder, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	memory, err := e.memoryFor(i)
	if err != nil {
		return nil, err
	}
	c := &e.chunks[i]
	if len(e.mu.queue) > 0 || !e.tryRoomLocked(memory, func() bool {
		d = e.tryDecoderLocked(c, memory)
		return d != nil
	}) {
		return nil, errNoRoom
	}
	return d, nil
}

// memoryFor returns how much of the limit a decoder of chunk i takes. If that is up to
// the chunk's data it lets go of the lock, since it may read the source: of a long LZMA
// chunk the header, and the index of its blocks if none is known yet.
func (e *engine) memoryFor(i int) (int64, error) {
	window := e.mu.windows[i]
	c := &e.chunks[i]
	if c.Method.info().memory > 0 {
		return decoderMemory(e.src, c, window)
	}
	// Of a list that is being made some checkpoints are there. Who took these for all would
	// not find the others, and begin before them.
	list := c.Method == LZMA && c.Length > xzShort && (len(e.mu.points.chunks[i]) == 0 || e.mu.listing[i] > 0) && e.takeCachedLocked(xz.IndexMemory)
	if list {
		if e.mu.listing == nil {
			e.mu.listing = make(map[int]int)
		}
		e.mu.listing[i]++
	}
	e.mu.Unlock()
	defer e.mu.Lock()
	if list {
		defer e.listed(i)
		if err := listBlocks(&e.store, e.src, i); err != nil {
			return 0, err
		}
	}
	if c.Method == LZMA && c.Length > xzShort && window == 0 {
		var err error
		if window, err = xzWindow(e.src, c); err != nil {
			return 0, err
		}
		e.needWindow(i, window)
	}
	return decoderMemory(e.src, c, window)
}

// listed notes that a goroutine has listed the blocks of LZMA chunk i, or failed to.
func (e *engine) listed(i int) {
	e.mu.Lock()
	if e.mu.listing[i]--; e.mu.listing[i] == 0 {
		delete(e.mu.listing, i)
	}
	e.mu.Unlock()
	e.giveBack(xz.IndexMemory)
}

// maxWindows is how many chunks' windows are remembered. All but the oddest images
// need none: their LZMA chunks are short.
const maxWindows = 1 << 10

// needWindow notes that LZMA chunk i needs a decoder with so long a window. It returns
// false if that is known already: then a decoder that was made since had it.
func (e *engine) needWindow(i int, window int64) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.mu.windows[i] >= window {
		return false
	}
	if e.mu.windows == nil || len(e.mu.windows) >= maxWindows {
		e.mu.windows = make(map[int]int64)
	}
	e.mu.windows[i] = window
	return true
}

// tryDecoderLocked returns a decoder that stands nowhere for c if there is one, or free memory for it.
func (e *engine) tryDecoderLocked(c *Chunk, memory int64) *decoder {
	a := &e.mu.account
	old := e.reusableLocked(c, memory)
	few := a.Used[budget.Decoders]+memory <= budget.ShareDecoders.Of(a.Limit) && len(e.mu.idle) < maxIdle
	if old >= 0 && (!few || e.mu.idle[old].chunk < 0) {
		d := e.takeIdleLocked(old)
		d.chunk, d.onePass, d.careful, d.spare = -1, false, false, nil
		return d
	}
	if !a.Take(budget.Decoders, memory) {
		return nil
	}
	return e.newDecoder(c.Method, memory)
}

// reusableLocked returns the index of the idle decoder that c can best have, -1 if
// none is large enough: one that is done with the data before c's, else the one
// that was used longest ago.
func (e *engine) reusableLocked(c *Chunk, memory int64) int {
	old := -1
	for k, d := range e.mu.idle {
		switch {
		case d.method != c.Method || d.least < memory:
		case d.chunk < 0 && d.fetch.follows(c.DataOffset):
			return k
		case old < 0 || d.chunk < 0 && e.mu.idle[old].chunk >= 0:
			old = k
		}
	}
	return old
}

// discard makes a decoder idle that has nothing to go on with.
func (e *engine) discard(d *decoder) {
	e.mu.Lock()
	d.fetch.giveBack()
	d.pos = d.length
	e.putIdleLocked(d, nil)
	e.mu.Unlock()
}

// parallelWorker is the memory of a parallel reader for each of its workers, in bytes.
const parallelWorker = bzip2.WorkerMemory + fetchBuffer

// parallelMemory returns how much memory a parallel reader of so many workers takes.
func parallelMemory(workers int) int64 {
	return bzip2.ParallelMemory + int64(workers)*parallelWorker
}

// parallelReader puts other cores to work on the coming blocks of d's bzip2 chunk, from
// byte at of its data on and as far as the reader at work needs them: as many
// cores as there are, if memory allows for two at least. It waits for none.
func (e *engine) parallelReader(d *decoder, at int64) *bzip2.ParallelReader {
	const least = 2
	cores := runtime.GOMAXPROCS(0)
	e.mu.Lock()
	defer e.mu.Unlock()
	p := e.mu.idleParallel
	e.mu.idleParallel = nil
	if p == nil {
		workers := int(min(int64(cores), (e.parallelRoomLocked()-bzip2.ParallelMemory)/parallelWorker))
		if workers < least || !e.takeNowLocked(parallelMemory(workers)) {
			return nil
		}
		p = bzip2.NewParallelReader(e.src.parallel(), workers)
	}
	c := &e.chunks[d.chunk]
	end, _ := e.inputLocked(d.chunk, d.until)
	span := bzip2.Span{
		Off: c.DataOffset, Length: c.streamLen(), From: at, Last: end - codecsLook, End: end,
		Fetched: d.fetch.stored.add,
	}
	p.Start(span, d.fetch.fetched(c.DataOffset+at))
	return p
}

// endParallel stops what parallelReader started, and keeps it for the next.
func (e *engine) endParallel(p *bzip2.ParallelReader) {
	p.Stop()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.mu.idleParallel == nil {
		e.mu.idleParallel = p
	} else {
		e.mu.account.Release(budget.Decoders, parallelMemory(p.Workers()))
	}
	e.wakeLocked()
}

// Of the parallel reader of zlib chunks, in bytes: what a segment has of output.
const (
	maxSegment  = 2<<20 - deflate.Forced*(2<<20-minSegment)
	goodSegment = 512 << 10 // with less, more of the time goes to looking for blocks
	minSegment  = 192 << 10
)

// leastInflate is how many cores are put to work on one zlib chunk at least: each takes up
// to twice the time of a single decoder.
const leastInflate = 4

// inflateMemory returns how much memory p takes.
func inflateMemory(p *deflate.ParallelReader) int64 {
	return deflate.ParallelMemory(p.Workers(), p.Segment())
}

// parallelInflate implements host. It leaves the checkpoints what they are going to take:
// there are as many as if one decoder made them.
func (e *engine) parallelInflate(d *decoder, z *deflate.Decoder, at int64, cores int) *deflate.ParallelReader {
	e.mu.Lock()
	defer e.mu.Unlock()
	c := &e.chunks[d.chunk]
	room := e.parallelRoomLocked() - e.checkpointsToComeLocked((d.until-d.pos)/d.spacing(e.mu.points.spacing)+1)
	workers, segment := inflateSize(room, cores)
	if workers < leastInflate || !e.takeNowLocked(deflate.ParallelMemory(workers, segment)) {
		return nil
	}
	last, _ := e.inputLocked(d.chunk, d.until)
	chunk, pos, onePass := d.chunk, d.pos, d.onePass
	off := c.DataOffset + deflate.ZlibHeaderLen
	span := deflate.Span{
		Off: off, End: min(c.streamEnd(), c.DataOffset+last+codecsLook), Last: last - deflate.ZlibHeaderLen,
		Length: c.Length, Ratio: float64(c.Length) / float64(c.streamLen()),
		Spacing: func() int64 { // workers ask for it, while d goes on
			_, usual := e.store.wanted(chunk, pos)
			return spacing(usual, onePass)
		},
	}
	fetched := d.fetch.fetched(off + at)
	e.mu.Unlock()
	defer e.mu.Lock() // Start asks for the spacing
	p := deflate.NewParallelReader(inflateSource{e.src, d.fetch.stored}, workers, segment)
	p.Start(span, z, fetched, at)
	return p
}

// inflateSize returns how many workers a parallel reader has that takes no more memory
// than there is, and what their segments have. It has fewer workers rather than short
// segments. There are no workers if there is memory for too few.
func inflateSize(room int64, cores int) (workers int, segment int64) {
	for workers = cores; workers >= leastInflate; workers-- {
		least := int64(goodSegment)
		if workers == leastInflate {
			least = minSegment
		}
		for segment = maxSegment; segment >= least; segment -= 64 << 10 {
			if deflate.ParallelMemory(workers, segment) <= room {
				return workers, segment
			}
		}
	}
	return 0, 0
}

// checkpointsToComeLocked returns how much more memory so many further checkpoints may take.
func (e *engine) checkpointsToComeLocked(n int64) int64 {
	a := &e.mu.account
	left := checkpointShare(a) - a.Used[budget.Checkpoints]
	return max(0, min(left, min(n, left)*(zlibRecordMax+recordHeader+checkpointOverhead)+pageSize))
}

// endInflate implements host. The reader is not kept: it would hold most of what the cache
// could have.
func (e *engine) endInflate(p *deflate.ParallelReader) {
	p.Stop()
	e.giveBack(inflateMemory(p))
}

// parallelRoomLocked returns how much memory parallelReader may take: what is free, and what is
// cached, but for an eighth of the limit. Readers that have a decoder keep it.
func (e *engine) parallelRoomLocked() int64 {
	a := &e.mu.account
	return a.Limit - budget.ShareBesideParallel.Of(a.Limit) - a.Total() + a.Used[budget.Cache]
}
