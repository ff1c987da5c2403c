package dmg

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
)

// A pipeline decodes the whole disk on several cores. Each worker takes the
// next piece of the disk, decodes it into buffers, and passes these to a lane of
// its own, where they are delivered while the worker goes on. In order, a lane
// waits for its piece's turn, and the worker runs ahead as far as its buffers
// go.
type pipeline struct {
	e       *engine
	workers int  // at most; 0: one a core
	ordered bool // pieces are delivered one after the other

	// data and zeros take what was decoded, and n zeros, for byte off of the
	// disk. They are called concurrently, unless ordered. b is only valid until
	// data returns. i is the chunk's index, -1 in a hole. zeros, which may take
	// long, stops when ctx is done.
	data  func(i int, off int64, b []byte) error
	zeros func(ctx context.Context, i int, off, n int64) error
	// skip, if not nil, tells chunks that are not to be decoded. They are
	// delivered as zeros.
	skip func(c *Chunk) bool
	// lost, if not nil, takes the error of a piece whose rest can't be read;
	// with it the others are delivered all the same.
	lost func(i int, err *ChunkError) error

	once     bool // what is decoded is not expected to be read again
	progress func(done, total int64)
	done     struct {
		sync.Mutex
		bytes int64
	}
}

// Sizes in bytes.
const (
	rawPiece   = 4 << 20 // the longest piece of a raw chunk
	zeroPiece  = 1 << 30 // the longest piece of zeros, so that there is progress,
	zeroPieces = 1 << 10 // or if that is longer: this part of the disk
	spanPiece  = 2 << 20 // the shortest piece of a chunk with checkpoints
)

// piece is a run of the disk that is decoded by one worker, from one place on.
type piece struct {
	chunk int   // index, -1 for a hole
	off   int64 // on the disk
	end   int64
	zero  bool
	d     *decoder      // of a compressed chunk
	haul  *haul         // in which its data comes; nil if it is fetched for itself
	turn  chan struct{} // closed when all before it is delivered
	next  chan struct{} // to be closed when it is itself
}

// run delivers the disk. It returns the offset up to which everything was
// delivered, and the first error.
func (p *pipeline) run(ctx context.Context) (int64, error) {
	r := pipelineRun{pipeline: p}
	ctx, r.cancel = context.WithCancelCause(ctx)
	defer r.cancel(nil)
	r.ctx = ctx
	r.claims.turn = make(chan struct{})
	close(r.claims.turn)
	r.unfinished.off = make(map[int64]struct{})
	if p.workers <= 0 {
		p.workers = runtime.GOMAXPROCS(0)
	}

	r.hauls.size, r.hauls.most = p.e.haulSize(p.workers)
	defer r.endHauls()
	defer p.e.wakeAfter(ctx)()

	var wg sync.WaitGroup
	buffer := p.e.laneBuffer(p.workers)
	for i := range p.workers {
		if err := p.e.takeLane(ctx, i, laneBuffers*buffer); err != nil {
			if i > 0 {
				break
			}
			return 0, err
		}
		r.held.Add(laneBuffers * buffer)
		l := &lane{run: &r, batches: make(chan batch, laneBuffers), free: make(chan []byte, laneBuffers)}
		for range laneBuffers {
			l.free <- make([]byte, buffer)
		}
		wg.Add(2)
		go func() {
			defer wg.Done()
			defer close(l.batches)
			for r.ctx.Err() == nil && l.work() {
			}
		}()
		go func() {
			defer wg.Done()
			defer p.e.releaseLane(laneBuffers * buffer)
			l.deliver()
		}()
	}
	wg.Wait()
	return r.result()
}

// pipelineRun is the state of one run.
type pipelineRun struct {
	*pipeline
	ctx    context.Context
	cancel context.CancelCauseFunc

	held atomic.Int64 // bytes of all lanes' buffers

	// claims is what the next piece is. The lock is held while its decoder is
	// waited for.
	claims struct {
		sync.Mutex
		off  int64
		turn chan struct{}
	}
	// hauls are planned in the order of the disk. The engine's lock guards them.
	hauls struct {
		size  int64 // of each
		most  int
		queue []*haul
	}
	// unfinished are the offsets up to which the pieces under way, and those
	// that failed, were delivered.
	unfinished struct {
		sync.Mutex
		off map[int64]struct{}
	}
}

// result returns what run does.
func (r *pipelineRun) result() (int64, error) {
	end := r.claims.off
	for off := range r.unfinished.off {
		end = min(end, off)
	}
	return end, context.Cause(r.ctx)
}

// claim returns the next piece with its decoder, nil if there is none. Pieces
// are claimed in order, so that of those with a decoder one can always go on.
func (r *pipelineRun) claim() (*piece, error) {
	r.claims.Lock()
	defer r.claims.Unlock()
	e, off := r.e, r.claims.off
	if off >= e.size {
		return nil, nil
	}
	p := &piece{off: off, turn: r.claims.turn, next: make(chan struct{})}
	p.chunk = e.find(off)
	var c Chunk
	if p.chunk == len(e.chunks) || off < e.chunks[p.chunk].Offset {
		c = e.gap(off, p.chunk)
		p.chunk = -1
	} else {
		c = e.chunks[p.chunk]
	}
	p.zero = c.Method.zeros() || r.skip != nil && r.skip(&c)
	var err error
	switch {
	case p.zero:
		p.end = off + min(c.end()-off, max(zeroPiece, e.size/zeroPieces)) // may be all an int64 holds
	case c.Method == Raw && off-c.Offset >= c.DataLength:
		p.end = c.end() // no data: one error says that, whatever the length
	case c.Method == Raw:
		p.end = off + min(c.end()-off, rawPiece)
		r.assignRaw(p)
	default:
		p.end = c.end()
		if c.Method.compressed() {
			err = r.assign(p, &c)
		}
	}
	r.claims.off, r.claims.turn = p.end, p.next
	r.begin(p)
	return p, err
}

// assign gives p a decoder, and makes it end where the next can begin: at a
// checkpoint, in zlib chunks. The blocks of a bzip2 chunk are decoded by several
// cores in any case.
func (r *pipelineRun) assign(p *piece, c *Chunk) (err error) {
	e := r.e
	e.mu.Lock()
	defer e.mu.Unlock()
	if c.Method == Zlib {
		if at := e.mu.points.from(p.chunk, p.off-c.Offset+spanPiece); at > 0 {
			p.end = c.Offset + at
		}
	}
	if p.d, err = e.blank(r.ctx, c, r.held.Load()); err != nil {
		return err
	}
	from := p.off - c.Offset
	n := e.aim(p.d, p.chunk, &turn{pos: e.mu.points.nearest(p.chunk, from), end: p.end - c.Offset}, false)
	if p.haul = r.haul(p.off); p.haul == nil && n > 0 {
		e.widen(p.d, n)
	}
	return nil
}

// assignRaw gives p, of a raw chunk, its data, if it is fetched with that of others.
func (r *pipelineRun) assignRaw(p *piece) {
	r.e.mu.Lock()
	defer r.e.mu.Unlock()
	if p.haul = r.haul(p.off); p.haul != nil {
		p.end = min(p.end, p.haul.to)
	}
}

// begin notes that a piece is under way.
func (r *pipelineRun) begin(p *piece) {
	r.unfinished.Lock()
	r.unfinished.off[p.off] = struct{}{}
	r.unfinished.Unlock()
}

// receive delivers one batch.
func (r *pipelineRun) receive(b batch) error {
	switch {
	case b.last:
		if err := r.end(b); err != nil {
			return err
		}
		r.unfinished.Lock()
		delete(r.unfinished.off, b.off)
		r.unfinished.Unlock()
		close(b.next)
		return nil
	case b.b == nil:
		if err := r.zeros(r.ctx, b.chunk, b.at, b.n); err != nil {
			return err
		}
		return r.count(b.n)
	}
	if err := r.data(b.chunk, b.at, b.b); err != nil {
		return err
	}
	return r.count(int64(len(b.b)))
}

// end takes note of how a piece ended.
func (r *pipelineRun) end(b batch) error {
	if b.err == nil {
		return nil
	}
	var damaged *ChunkError
	if r.lost == nil || !errors.As(b.err, &damaged) {
		return b.err
	}
	if err := r.lost(b.chunk, damaged); err != nil {
		return err
	}
	return r.count(b.piece.end - b.at)
}

// fail ends the run because of an error at byte at of the disk, up to which the
// piece was delivered.
func (r *pipelineRun) fail(p *piece, at int64, err error) {
	r.unfinished.Lock()
	delete(r.unfinished.off, p.off)
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
	r.done.bytes += n
	r.progress(r.done.bytes, r.e.size)
	return nil
}
