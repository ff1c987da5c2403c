package dmg

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
)

// A pipeline decodes a range of the disk on several cores. Each worker takes the
// next task, a piece of the disk, and decodes it into buffers. An output beside each
// worker delivers these while the worker goes on. In order, an output waits until all
// before its task is delivered, and the worker runs ahead as far as its buffers and some of
// the run's go.
type pipeline struct {
	e        *engine
	from, to int64 // of the disk
	workers  int   // at most; 0: one a core
	ordered  bool  // tasks are delivered one after the other

	// data and zeros take what was decoded, and n zeros, for byte off of the
	// disk. They are called concurrently, unless ordered. b is only valid until
	// data returns. zeros, which may take long, stops when ctx is done.
	data  func(off int64, b []byte) error
	zeros func(ctx context.Context, off, n int64) error
	// skip, if not nil, tells chunks that are not to be decoded. They are
	// delivered as zeros.
	skip func(c *Chunk) bool
	// damaged, if not nil, takes what can't be read as it was, in no order, from
	// one goroutine at a time. With it all that can be read is delivered, and
	// zeros for what is lost; without, the first damage ends the run.
	damaged  func(Damage) error
	salvages bool       // what is delivered of damaged chunks matters
	sums     *tableSums // of block tables; nil if they are not compared
	stored   *sourceSum // of what is fetched; nil if that is not compared

	drops    bool // what compressed chunks decode to is only counted, and not delivered
	toEnds   bool // a chunk that the range ends in is decoded to its end, where its checksum is
	onePass  bool // what is decoded is not expected to be read again
	progress func(done, total int64)
	done     struct {
		sync.Mutex
		bytes  int64
		before int64 // progress has been called with so many, before the run began anew
	}
	anew bool // it has begun anew
}

// Sizes in bytes.
const (
	rawTask   = 4 << 20 // the longest task of a raw chunk
	zeroTask  = 1 << 30 // the longest task of zeros, so that there is progress,
	zeroTasks = 1 << 10 // or if that is longer: this part of the disk
	spanTask  = 2 << 20 // the shortest task of a chunk with checkpoints
)

// task is a run of the disk that is decoded by one worker, from one place on.
type task struct {
	chunk int   // index, -1 for a hole
	off   int64 // on the disk
	end   int64
	zero  bool
	d     *decoder      // of a compressed chunk
	data  *prefetch     // in which its stored bytes come; nil if it fetches for itself
	turn  chan struct{} // closed when all before it is delivered
	next  chan struct{} // to be closed when it is itself
	sum   taskSum
}

// run delivers the range. It returns the offset up to which everything was
// delivered, and the first error. A panic of a worker, as of the source, or of
// a receiver ends the run and is passed on to run's caller.
func (p *pipeline) run(ctx context.Context) (int64, error) {
	p.reportOnce()
	end, err := p.runWorkers(ctx)
	if !errors.Is(err, errFewerWorkers) {
		return end, err
	}
	p.beginAnew(end)
	return p.runWorkers(ctx)
}

// errFewerWorkers is the error of a run in which a decoder turned out in the middle of a chunk
// to need more memory than there is beside other workers.
var errFewerWorkers = errors.New("dmg: too many workers")

// beginAnew prepares p for one worker, once everything up to byte end of the disk was
// delivered. What is delivered in order is not delivered again.
func (p *pipeline) beginAnew(end int64) {
	p.workers, p.anew = 1, true
	p.done.bytes, p.done.before = 0, p.done.bytes
	if p.sums != nil {
		p.sums = p.sums.anew()
	}
	if !p.ordered {
		return
	}
	data, zeros := p.data, p.zeros
	p.data = func(off int64, b []byte) error {
		if skip := min(int64(len(b)), end-off); skip > 0 {
			off, b = off+skip, b[skip:]
		}
		if len(b) == 0 {
			return nil
		}
		return data(off, b)
	}
	p.zeros = func(ctx context.Context, off, n int64) error {
		if skip := min(n, end-off); skip > 0 {
			off, n = off+skip, n-skip
		}
		return zeros(ctx, off, n)
	}
}

// maxReported is how many damaged ranges a run remembers, so as not to report them twice if
// it begins anew.
const maxReported = 1 << 10

// reportOnce has p not report the same damage twice.
func (p *pipeline) reportOnce() {
	damaged := p.damaged
	if damaged == nil {
		return
	}
	reported := make(map[span]bool)
	p.damaged = func(d Damage) error {
		s := span{d.Offset, d.End()}
		if p.anew && reported[s] {
			return nil
		}
		if len(reported) < maxReported {
			reported[s] = true
		}
		return damaged(d)
	}
}

// runWorkers is run, as far as it gets with all workers.
func (p *pipeline) runWorkers(ctx context.Context) (int64, error) {
	r := pipelineRun{pipeline: p}
	ctx, r.cancel = context.WithCancelCause(ctx)
	defer r.cancel(nil)
	r.ctx = ctx
	r.claims.off = p.from
	r.claims.turn = make(chan struct{})
	close(r.claims.turn)
	r.claims.changed.L = &r.claims
	r.unfinished.off = make(map[int64]struct{})
	if p.workers <= 0 {
		p.workers = runtime.GOMAXPROCS(0)
	}
	p.workers = p.tasks(p.workers) // the others' buffers would be taken from decoders
	if p.sums != nil && p.sums.inOrder {
		p.ordered = true
	}

	r.prefetch.begin(p)
	defer r.prefetch.end()
	defer p.e.wakeAfter(ctx)()

	var wg sync.WaitGroup
	buffer := p.e.outputBuffer(p.workers)
	workers, err := r.takeOutputs(outputBuffers * buffer)
	if err != nil {
		return p.from, err
	}
	r.alone = workers == 1
	r.more.begin(p, workers, buffer)
	defer r.more.end()
	for range workers {
		w := newWorker(&r, buffer)
		wg.Add(2)
		go func() {
			defer wg.Done()
			defer close(w.output)
			defer r.catch()
			for r.ctx.Err() == nil && w.work() {
			}
		}()
		go func() {
			defer wg.Done()
			defer r.leave(outputBuffers * buffer)
			w.deliver()
		}()
	}
	wg.Wait()
	if v := r.panicked.Load(); v != nil {
		panic(*v)
	}
	return r.result()
}

// takeOutputs takes memory for the buffers of all workers, so much for each. There are
// fewer workers if there is no more. A worker that waits for a decoder has to know how
// much the others hold.
func (r *pipelineRun) takeOutputs(memory int64) (workers int, err error) {
	for workers < r.workers {
		if err := r.e.takeOutput(r.ctx, workers, memory); err != nil {
			if workers == 0 {
				return 0, err
			}
			break
		}
		workers++
	}
	r.held.Store(int64(workers) * memory)
	r.claims.workers = workers
	return workers, nil
}

// tasks returns how many tasks the range has at most, or most if that is less; 1 at least.
func (p *pipeline) tasks(most int) int {
	e := p.e
	n := int64(1)
	for i, off := e.find(p.from), p.from; n < int64(most) && off < p.to; {
		if i == len(e.chunks) || off < e.chunks[i].Offset {
			n++
			off += e.gap(off, i).Length
			continue
		}
		c := &e.chunks[i]
		if off > p.from {
			n++
		}
		switch length := min(c.end(), p.to) - off; {
		case c.Method == Raw:
			n += length / fetchBuffer // a prefetch may end in it
		case !c.Method.compressed() || c.Method.info().spans:
			n += length / spanTask
		}
		off = c.end()
		i++
	}
	return int(min(n, int64(most)))
}

// pipelineRun is the state of one run.
type pipelineRun struct {
	*pipeline
	ctx      context.Context
	cancel   context.CancelCauseFunc
	panicked atomic.Pointer[any] // the value of the first panic

	alone   bool         // there is one worker from the start
	held    atomic.Int64 // bytes of all workers' buffers
	claimed atomic.Bool  // there are no more tasks to claim

	// claims is what the next task is. The lock is held while its decoder is
	// waited for.
	claims struct {
		sync.Mutex
		off  int64
		turn chan struct{}

		workers int       // that have buffers
		changed sync.Cond // workers or waits have
		waits   bool      // a worker waits until another has left,
		leave   bool      // and none is about to
	}
	prefetch prefetcher
	more     moreBuffers
	// unfinished are the offsets up to which the tasks under way, and those
	// that failed, were delivered.
	unfinished struct {
		sync.Mutex
		off map[int64]struct{}
	}
	damage sync.Mutex // one call of damaged at a time
}

var errPanic = errors.New("dmg: a worker panicked")

// catch ends the run if its goroutine panics. It is to be deferred.
func (r *pipelineRun) catch() {
	if v := recover(); v != nil {
		r.panicked.CompareAndSwap(nil, &v)
		r.cancel(errPanic)
	}
}

// spare returns how many workers have nothing to do, or will find that.
func (r *pipelineRun) spare() int {
	if !r.claimed.Load() {
		return 0
	}
	r.unfinished.Lock()
	defer r.unfinished.Unlock()
	return r.workers - len(r.unfinished.off)
}

// result returns what run does.
func (r *pipelineRun) result() (int64, error) {
	end := r.claims.off
	for off := range r.unfinished.off {
		end = min(end, off)
	}
	return end, context.Cause(r.ctx)
}

// claim returns the next task with its decoder, nil if there is none. Tasks
// are claimed in order, so that of those with a decoder one can always go on.
func (r *pipelineRun) claim() (*task, error) {
	r.claims.Lock()
	defer r.claims.Unlock()
	for r.claims.waits {
		if r.claims.leave {
			r.claims.leave = false
			return nil, nil
		}
		r.claims.changed.Wait()
	}
	e, off := r.e, r.claims.off
	if off >= r.to {
		return nil, nil
	}
	t := &task{off: off, turn: r.claims.turn, next: make(chan struct{})}
	t.chunk = e.find(off)
	var c Chunk
	if t.chunk == len(e.chunks) || off < e.chunks[t.chunk].Offset {
		c = e.gap(off, t.chunk)
		t.chunk = -1
	} else {
		c = e.chunks[t.chunk]
	}
	t.zero = c.Method.zeros() || r.skip != nil && r.skip(&c)
	t.end = min(c.end(), r.to)
	var err error
	switch {
	case t.zero:
		t.end = off + min(t.end-off, max(zeroTask, e.size/zeroTasks)) // may be all an int64 holds
	case c.Method == Raw && off-c.Offset >= c.DataLength:
		// No data: one error says that, whatever the length.
	case c.Method == Raw && e.span != nil:
		err = r.assignSpan(t)
	case c.Method == Raw:
		t.end = off + min(t.end-off, max(rawTask, e.src.block), c.DataLength-(off-c.Offset))
		if data := c.DataOffset - c.Offset; t.end < min(c.end(), r.to) {
			t.end = e.src.cutAtBlock(off+data, t.end+data) - data
		}
		r.assignRaw(t)
	case c.Method.compressed() && c.DataLength > 0:
		err = r.assign(t, &c)
		for errors.Is(err, ErrMemoryLimit) && r.dismiss() {
			err = r.assign(t, &c)
		}
	}
	r.sums.claim(t)
	r.claims.off, r.claims.turn = t.end, t.next
	r.begin(t)
	r.claimed.Store(t.end >= r.to)
	return t, err
}

// dismiss has one of the other workers leave, whose buffers take the room of a decoder
// that would fit beside the caller's own. It returns false if there is none. It is called
// with the lock of claims.
func (r *pipelineRun) dismiss() bool {
	c := &r.claims
	n := c.workers
	if n < 2 || r.ctx.Err() != nil {
		return false
	}
	for c.waits, c.leave = true, true; c.workers == n; {
		c.changed.Wait()
	}
	c.waits, c.leave = false, false
	c.changed.Broadcast()
	return true
}

// leave gives back the memory of the buffers of a worker that is done.
func (r *pipelineRun) leave(memory int64) {
	r.held.Add(-memory)
	r.e.releaseOutput(memory)
	r.claims.Lock()
	defer r.claims.Unlock()
	r.claims.workers--
	r.claims.changed.Broadcast()
}

// assign gives t a decoder, and makes it end where the next can begin: at a
// checkpoint, in zlib chunks. The blocks of a bzip2 chunk are decoded by several
// cores in any case.
func (r *pipelineRun) assign(t *task, c *Chunk) (err error) {
	e := r.e
	e.mu.Lock()
	defer e.mu.Unlock()
	if t.d, err = e.acquireDecoder(r.ctx, t.chunk, r.held.Load()); err != nil {
		return err
	}
	if c.Method.info().spans {
		if p, ok := e.mu.points.after(t.chunk, t.off-c.Offset+spanTask); ok {
			t.end = min(t.end, c.Offset+p.off)
		}
	}
	from := t.off - c.Offset
	n := e.planFetchLocked(t.d, t.chunk, &flight{pos: e.mu.points.before(t.chunk, from).off, end: t.end - c.Offset}, false)
	if t.data = r.prefetch.find(t.off); t.data == nil && n > 0 {
		e.growBufferLocked(t.d, n)
	}
	return nil
}

// assignSpan ends t where the hole that it begins with does, or what is stored there.
func (r *pipelineRun) assignSpan(t *task) error {
	longest := max(zeroTask, r.e.size/zeroTasks)
	length, zero, err := r.e.span(t.off, rawTask, longest)
	switch {
	case err != nil:
		return err
	case zero:
		t.zero = true
		t.end = t.off + min(t.end-t.off, length, longest)
		return nil
	}
	t.end = t.off + min(t.end-t.off, length, rawTask)
	r.e.mu.Lock()
	r.prefetch.known = span{t.off, t.end}
	r.e.mu.Unlock()
	r.assignRaw(t)
	return nil
}

// assignRaw gives t, of a raw chunk, its data, if it is fetched with that of others.
func (r *pipelineRun) assignRaw(t *task) {
	r.e.mu.Lock()
	defer r.e.mu.Unlock()
	if t.data = r.prefetch.find(t.off); t.data != nil {
		t.end = min(t.end, t.data.to)
	}
}

// begin notes that a task is under way.
func (r *pipelineRun) begin(t *task) {
	r.unfinished.Lock()
	r.unfinished.off[t.off] = struct{}{}
	r.unfinished.Unlock()
}

// receive delivers one output.
func (r *pipelineRun) receive(b output) error {
	switch {
	case b.last:
		if b.err != nil {
			return b.err
		}
		r.sums.end(b.task)
		r.unfinished.Lock()
		delete(r.unfinished.off, b.off)
		r.unfinished.Unlock()
		close(b.next)
		return nil
	case b.b == nil:
		return r.receiveZeros(b)
	}
	r.sums.data(b.task, b.b)
	if err := r.data(b.at, b.b); err != nil {
		return err
	}
	return r.count(int64(len(b.b)))
}

// receiveZeros delivers zeros. Those that are summed byte by byte come in pieces: a hostile
// image has more than can be summed before a receiver that wants no more is asked.
func (r *pipelineRun) receiveZeros(b output) error {
	piece := b.n
	if r.sums != nil && r.sums.inOrder {
		piece = summedZeros
	}
	for at, left := b.at, b.n; left > 0; at, left = at+piece, left-piece {
		n := min(piece, left)
		if err := r.sums.zeros(r.ctx, b.task, at, n); err != nil {
			return err
		}
		if err := r.zeros(r.ctx, at, n); err != nil {
			return err
		}
		if err := r.count(n); err != nil {
			return err
		}
	}
	return nil
}

// summedZeros is how many zeros are summed before they are delivered.
const summedZeros = 8 << 20

// fail ends the run because of an error at byte at of the disk, up to which the
// task was delivered.
func (r *pipelineRun) fail(t *task, at int64, err error) {
	r.unfinished.Lock()
	delete(r.unfinished.off, t.off)
	r.unfinished.off[at] = struct{}{}
	r.unfinished.Unlock()
	r.cancel(err)
}

// count reports progress.
func (r *pipelineRun) count(n int64) error {
	if r.progress == nil {
		return nil
	}
	r.done.Lock()
	defer r.done.Unlock()
	if r.done.bytes += n; r.done.bytes > r.done.before {
		r.progress(r.done.bytes, r.to-r.from)
	}
	return nil
}
