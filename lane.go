package dmg

import (
	"context"
	"errors"
	"fmt"
)

// batch is a part of a piece on its way to be delivered.
type batch struct {
	*piece
	at   int64
	b    []byte // nil for zeros
	lent *haul  // whose b is, pinned; nil if it is the lane's
	n    int64  // of zeros
	err  error  // why the piece ends before its end
	last bool
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
	ok := l.flush(p) && l.send(batch{piece: p, at: at, err: err, last: true})
	if p.haul != nil {
		l.release(p)
	}
	return ok
}

// release ends the use of p's haul. A raw piece has all of its bytes there: unless
// these are delivered first, what waits for its turn would take all hauls.
func (l *lane) release(p *piece) {
	if p.d == nil {
		select {
		case <-p.next:
		case <-l.run.ctx.Done():
		}
	}
	l.run.e.mu.Lock()
	l.run.e.unpin(p.haul)
	l.run.e.mu.Unlock()
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

// passOn sends the bytes of a raw piece that its haul has, as they stand there. It
// returns how far that is.
func (l *lane) passOn(p *piece, c *Chunk) (int64, error) {
	r, h := l.run, p.haul
	if !r.load(h) {
		return p.off, r.ctx.Err()
	}
	at := c.DataOffset + p.off - c.Offset
	b := h.bytes(at, at+p.end-p.off)
	if len(b) == 0 {
		return p.off, h.err
	}
	r.e.mu.Lock()
	h.pins++
	r.e.mu.Unlock()
	sent := batch{piece: p, at: p.off, b: b, lent: h}
	if !l.send(sent) {
		l.takeBack(sent)
		return p.off, r.ctx.Err()
	}
	end := p.off + int64(len(b))
	if end < p.end {
		return end, h.err
	}
	return end, nil
}

func (l *lane) fillRaw(p *piece, c *Chunk) (at int64, err error) {
	if at = p.off; p.haul != nil {
		if at, err = l.passOn(p, c); err != nil {
			return at, err
		}
	}
	for {
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
	d.once, d.fetch.ctx = l.run.once, l.run.ctx
	defer func() { d.fetch.ctx = nil }()
	if h := p.haul; h != nil {
		if !l.run.load(h) {
			return at, l.run.ctx.Err()
		}
		d.fetch.borrow(h.buf, h.off, h.err)
	}
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
	switch {
	case err != nil:
	case to == c.Length:
		err = d.finish()
	default:
		err = d.joint()
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
	ends := true
	defer func() {
		if ends {
			if v := recover(); v != nil {
				panic(v) // ends the process: at once, and before run returns
			}
			l.run.cancel(errReceiver)
			for b := range l.batches { // else the worker might wait for room
				if b.b != nil {
					l.takeBack(b)
				}
			}
		}
	}()
	for b := range l.batches {
		l.pass(b)
		if b.b != nil {
			l.takeBack(b)
		}
	}
	ends = false
}

// errReceiver is the error of a run whose receiver ended the goroutine that it was
// called from, as testing.T.Fatal does.
var errReceiver = errors.New("dmg: the receiver ended its goroutine")

// pass delivers a batch.
func (l *lane) pass(b batch) {
	if l.run.ctx.Err() != nil {
		return // the worker is about to notice
	}
	if l.run.ordered {
		select {
		case <-b.turn:
		case <-l.run.ctx.Done():
			return
		}
	}
	if err := l.run.receive(b); err != nil {
		l.run.fail(b.piece, b.at, err)
	}
}

// takeBack makes the memory of a batch free for another.
func (l *lane) takeBack(b batch) {
	if b.lent == nil {
		l.free <- b.b
		return
	}
	l.run.e.mu.Lock()
	l.run.e.unpin(b.lent)
	l.run.e.mu.Unlock()
}

// A lane's buffers, in bytes. With larger ones, what is written is no longer in the
// second-level cache: extracting took a third longer at 256 KiB.
const (
	maxLaneBuffer = 64 << 10
	minLaneBuffer = 16 << 10 // under a low memory limit
	laneBuffers   = 4        // in each lane
)

// What lanes may take of the limit. It is little, because what they hold is no
// one else's until the run is over: the lanes of one run, and the lanes of all
// runs, before another has to wait. A run that finds the first share taken has
// one lane of small buffers.
const (
	laneShare  = 16 // one part of so many
	lanesShare = 4
)

// laneBuffer returns the size of the buffers in the lanes of a run.
func (e *engine) laneBuffer(workers int) int64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	a := &e.mu.account
	n := (a.limit/laneShare - a.used[useBuffers]) / laneBuffers / int64(workers)
	return max(minLaneBuffer, min(maxLaneBuffer, n))
}

// takeLane takes memory for the i-th lane of a run. The first waits for it until
// ctx is done; the others are done without.
func (e *engine) takeLane(ctx context.Context, i int, memory int64) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	a := &e.mu.account
	tooLow := fmt.Errorf("%w: %d bytes have no room for a buffer", ErrMemoryLimit, a.limit)
	share := a.limit / lanesShare
	if i > 0 {
		share = a.limit / laneShare
	}
	// The share is waited for apart from the memory: runs that hold it may need
	// memory to come to their end.
	fits := func() bool {
		taken := a.used[useBuffers]
		return taken == 0 || taken+memory <= share
	}
	for {
		if i > 0 && (!fits() || len(e.mu.queue) > 0) {
			return tooLow
		}
		for !fits() {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			e.mu.lanesFree.Wait()
		}
		if i > 0 {
			if !e.tryRoom(memory, func() bool { return a.take(useBuffers, memory) }) {
				return tooLow
			}
			return nil
		}
		taken := false
		err := e.acquire(ctx, memory, 0, func() bool {
			if !fits() {
				return true // another run was first
			}
			taken = a.take(useBuffers, memory)
			return taken
		})
		switch {
		case err == errNoRoom:
			return tooLow
		case err != nil || taken:
			return err
		}
	}
}

// releaseLane gives the memory of a lane back.
func (e *engine) releaseLane(memory int64) {
	e.mu.Lock()
	e.mu.account.release(useBuffers, memory)
	e.mu.lanesFree.Broadcast()
	e.wake()
	e.mu.Unlock()
}
