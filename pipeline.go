package dmg

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
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

	progress func(done, total int64)
	done     struct {
		sync.Mutex
		bytes int64
	}
}

// Sizes in bytes.
const (
	maxLaneBuffer = 256 << 10 // of one buffer
	minLaneBuffer = 16 << 10  // of one buffer, under a low memory limit
	laneBuffers   = 4         // in each lane
	rawPiece      = 4 << 20   // the longest piece of a raw chunk
	zeroPiece     = 1 << 30   // the longest piece of zeros, so that there is progress,
	zeroPieces    = 1 << 10   // or if that is longer: this part of the disk
	spanPiece     = 2 << 20   // the shortest piece of a chunk with checkpoints
)

// piece is a run of the disk that is decoded by one worker, from one place on.
type piece struct {
	chunk int   // index, -1 for a hole
	off   int64 // on the disk
	end   int64
	zero  bool
	d     *decoder      // of a compressed chunk
	turn  chan struct{} // closed when all before it is delivered
	next  chan struct{} // to be closed when it is itself
}

// batch is a part of a piece on its way to be delivered.
type batch struct {
	*piece
	at   int64
	b    []byte // nil for zeros
	n    int64  // of zeros
	err  error  // why the piece ends before its end
	last bool
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

	var wg sync.WaitGroup
	buffer := p.e.laneBuffer(p.workers)
	for i := range p.workers {
		if err := p.e.takeLane(ctx, i, laneBuffers*buffer); err != nil {
			if i > 0 {
				break
			}
			return 0, err
		}
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
			l.deliver()
			p.e.releaseLane(laneBuffers * buffer)
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

	// claims is what the next piece is. The lock is held while its decoder is
	// waited for.
	claims struct {
		sync.Mutex
		off  int64
		turn chan struct{}
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
	case c.Method == Raw:
		p.end = off + min(c.end()-off, rawPiece)
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
	if p.d, err = e.blank(c); err == nil {
		from := p.off - c.Offset
		e.expect(p.d, p.chunk, &turn{pos: e.mu.points.nearest(p.chunk, from), end: p.end - c.Offset}, false)
	}
	return err
}

// begin notes that a piece is under way.
func (r *pipelineRun) begin(p *piece) {
	r.unfinished.Lock()
	r.unfinished.off[p.off] = struct{}{}
	r.unfinished.Unlock()
}

// lane is a worker's way to the receiver.
type lane struct {
	run     *pipelineRun
	batches chan batch
	free    chan []byte // as many as laneBuffers
	buf     []byte      // being filled
	begin   int64       // offset on the disk of its first byte
}

// work decodes one piece. It reports whether there was one.
func (l *lane) work() bool {
	p, err := l.run.claim()
	if p == nil {
		return false
	}
	at := p.off
	if err == nil {
		at, err = l.fill(p)
	}
	if p.d != nil {
		p.d.codec.rest()
		l.run.e.retire(p.d)
	}
	return l.flush(p) && l.send(batch{piece: p, at: at, err: err, last: true})
}

// fill decodes the piece into buffers. It returns how far it got.
func (l *lane) fill(p *piece) (int64, error) {
	e := l.run.e
	if p.zero {
		if !l.send(batch{piece: p, at: p.off, n: p.end - p.off}) {
			return p.off, l.run.ctx.Err()
		}
		return p.end, nil
	}
	c := &e.chunks[p.chunk]
	switch {
	case c.Method == Raw:
		return l.fillRaw(p, c)
	case p.d == nil:
		_, err := e.readChunk(p.chunk, []byte{0}, 0) // says what is unsupported
		return p.off, err
	}
	return l.fillDecoded(p, c)
}

func (l *lane) fillRaw(p *piece, c *Chunk) (int64, error) {
	for at := p.off; ; {
		if at == p.end {
			return at, nil
		}
		b := l.room(p, at)
		if b == nil {
			return at, l.run.ctx.Err()
		}
		b = b[:min(int64(len(b)), p.end-at)]
		n, err := l.run.e.readRaw(c, b, at-c.Offset)
		l.buf = l.buf[:len(l.buf)+n]
		at += int64(n)
		if err != nil {
			return at, err
		}
	}
}

func (l *lane) fillDecoded(p *piece, c *Chunk) (int64, error) {
	e, d := l.run.e, p.d
	at, from, to := p.off, p.off-c.Offset, p.end-c.Offset
	err := d.start(c, p.chunk, from)
	for err == nil && d.pos < to {
		if l.run.ctx.Err() != nil {
			return at, l.run.ctx.Err()
		}
		pos := d.pos
		var b []byte
		b, err = d.decode(to - pos)
		b = b[min(int64(len(b)), max(0, from-pos)):]
		for len(b) > 0 {
			space := l.room(p, at)
			if space == nil {
				return at, l.run.ctx.Err()
			}
			n := copy(space, b)
			l.buf = l.buf[:len(l.buf)+n]
			at += int64(n)
			b = b[n:]
		}
	}
	if err == nil && to == c.Length {
		err = d.finish()
	}
	if err != nil {
		err = e.chunkError(d, c, err)
	}
	return at, err
}

// room returns the free part of the buffer, for byte at of the disk: a new
// buffer if that is full. It is nil when the run is over.
func (l *lane) room(p *piece, at int64) []byte {
	if l.buf != nil && len(l.buf) == cap(l.buf) && !l.flush(p) {
		return nil
	}
	if l.buf == nil {
		select {
		case l.buf = <-l.free:
			l.buf, l.begin = l.buf[:0], at
		case <-l.run.ctx.Done():
			return nil
		}
	}
	return l.buf[len(l.buf):cap(l.buf)]
}

// flush passes the buffer on.
func (l *lane) flush(p *piece) bool {
	if l.buf == nil {
		return true
	}
	b := l.buf
	l.buf = nil
	return l.send(batch{piece: p, at: l.begin, b: b})
}

func (l *lane) send(b batch) bool {
	select {
	case l.batches <- b:
		return true
	case <-l.run.ctx.Done():
		return false
	}
}

// deliver passes on what the worker decodes, until it is done or the run is
// over.
func (l *lane) deliver() {
	for b := range l.batches {
		if l.run.ctx.Err() != nil {
			continue // the worker is about to notice
		}
		if l.run.ordered {
			select {
			case <-b.turn:
			case <-l.run.ctx.Done():
				continue
			}
		}
		if err := l.run.receive(b); err != nil {
			l.run.fail(b.piece, b.at, err)
			continue
		}
		if b.b != nil {
			l.free <- b.b
		}
	}
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

// laneShare is the part of the limit that the lanes of a run may take. It is
// small, because what they hold is no one else's until the run is over: a
// decoder must still fit beside the lanes of several runs.
const laneShare = 16

// laneBuffer returns the size of a lane's buffers.
func (e *engine) laneBuffer(workers int) int64 {
	n := e.mu.account.limit / laneShare / laneBuffers / int64(workers)
	return max(minLaneBuffer, min(maxLaneBuffer, n))
}

// takeLane takes memory for the i-th lane. The first waits if decoders have all
// of it. It counts as decoded data, not as decoders: a reader who finds that there
// are none waits for none.
func (e *engine) takeLane(ctx context.Context, i int, memory int64) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	a := &e.mu.account
	tooLow := fmt.Errorf("%w: %d bytes have no room for a buffer", ErrMemoryLimit, a.limit)
	if i > 0 && int64(i+1)*memory > a.limit/laneShare {
		return tooLow
	}
	stop := context.AfterFunc(ctx, func() {
		e.mu.Lock()
		e.mu.freed.Broadcast()
		e.mu.Unlock()
	})
	defer stop()
	for !a.take(useCache, memory) {
		switch {
		case e.makeRoom():
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case i > 0 || a.used[useDecoders] == 0:
			return tooLow
		default:
			e.wait()
		}
	}
	return nil
}

// releaseLane gives the memory of a lane back.
func (e *engine) releaseLane(memory int64) {
	e.mu.Lock()
	e.mu.account.release(useCache, memory)
	if e.mu.waiting > 0 {
		e.mu.freed.Broadcast()
	}
	e.mu.Unlock()
}
