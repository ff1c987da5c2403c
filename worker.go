package dmg

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/go-dmg/dmg/internal/budget"
	"github.com/go-dmg/dmg/internal/xz"
)

// output is a part of a task on its way to be delivered.
type output struct {
	*task
	at   int64 // on the disk
	b    []byte
	lent *prefetch // whose b is, pinned; nil if it is the worker's
	more bool      // b is one of the run's further buffers
	n    int64     // of zeros, where b is nil
	err  error     // why the task ends before its end
	last bool
}

// worker decodes tasks, one after the other, and delivers them.
type worker struct {
	run    *pipelineRun
	output chan output
	free   chan []byte  // as many as outputBuffers
	buf    []byte       // being filled
	more   bool         // it is one of the run's further buffers
	ahead  atomic.Int32 // how many of these it has
	begin  int64        // offset on the disk of its first byte
}

func newWorker(r *pipelineRun, buffer int64) *worker {
	w := &worker{run: r, output: make(chan output, outputBuffers+r.more.most), free: make(chan []byte, outputBuffers)}
	for range outputBuffers {
		w.free <- make([]byte, buffer)
	}
	return w
}

// work decodes one task. It reports whether there was one.
func (w *worker) work() bool {
	t, err := w.run.claim()
	if t == nil {
		return false
	}
	defer w.giveBack(t) // should something panic
	at := t.off
	if err == nil {
		at, err = w.fill(t)
	}
	var damaged *ChunkError
	if w.run.damaged != nil && errors.As(err, &damaged) && !errors.Is(err, ErrMemoryLimit) && !ofIndexAlone(err) {
		at, err = w.salvage(t, at, damaged)
	} else if isDamage(err) && t.d != nil {
		at = min(at, max(w.chainStart(t), w.proven(t)))
	}
	w.giveBackDecoder(t)
	ok := w.flush(t) && w.send(output{task: t, at: at, err: err, last: true})
	if t.data != nil && w.run.e.chunks[t.chunk].Method == Raw {
		// A raw task has all of its bytes in the prefetch: unless these are
		// delivered first, tasks that wait for their turn would take all of them.
		select {
		case <-t.next:
		case <-w.run.ctx.Done():
		}
	}
	return ok
}

// giveBack ends the use of what t has.
func (w *worker) giveBack(t *task) {
	w.giveBackDecoder(t)
	if t.data != nil {
		w.run.prefetch.unpin(t.data)
		t.data = nil
	}
}

func (w *worker) giveBackDecoder(t *task) {
	if d := t.d; d != nil {
		t.d = nil
		d.codec.suspend()
		w.run.e.discard(d)
	}
}

// proven returns the place on the disk up to which a checksum has confirmed what was
// decoded of t.
func (w *worker) proven(t *task) int64 {
	return w.run.e.chunks[t.chunk].Offset + t.d.codec.proven(t.d)
}

// chainStart returns the place on the disk from which on it is up to t whether what was
// delivered is right. A chunk that is cut into several tasks, at checkpoints, has its
// checksum compared by the last one. The others only compare that of their checkpoints,
// which may have been made from damaged data.
func (w *worker) chainStart(t *task) int64 {
	if c := &w.run.e.chunks[t.chunk]; t.end == min(c.end(), w.run.to) {
		return max(w.run.from, c.Offset)
	}
	return t.off
}

// fill decodes the task into buffers. It returns how far it got.
func (w *worker) fill(t *task) (int64, error) {
	e := w.run.e
	if t.zero {
		return w.sendZeros(t, t.off, t.end)
	}
	c := &e.chunks[t.chunk]
	switch {
	case c.Method == Raw:
		return w.fillRaw(t, c, t.off)
	case t.d == nil:
		_, err := e.readChunk(w.run.ctx, t.chunk, []byte{0}, 0) // says what is unsupported or missing
		return t.off, err
	}
	return w.fillDecoded(t, c, t.off)
}

// sendZeros delivers zeros from at to end. It returns how far it got.
func (w *worker) sendZeros(t *task, at, end int64) (int64, error) {
	if at == end {
		return end, nil
	}
	if !w.flush(t) || !w.send(output{task: t, at: at, n: end - at}) {
		return at, w.run.ctx.Err()
	}
	return end, nil
}

// sendDirect sends the bytes of a raw task that its prefetch has, as they stand there.
// It returns how far that is.
func (w *worker) sendDirect(t *task, c *Chunk) (int64, error) {
	r, h := w.run, t.data
	if !r.prefetch.wait(r.ctx, h) {
		return t.off, r.ctx.Err()
	}
	at := c.DataOffset + t.off - c.Offset
	b := h.bytes(at, at+t.end-t.off)
	if len(b) == 0 {
		return t.off, h.failure()
	}
	r.prefetch.pin(h)
	t.sum.add(b)
	sent := output{task: t, at: t.off, b: b, lent: h}
	if !w.send(sent) {
		w.recycle(sent)
		return t.off, r.ctx.Err()
	}
	end := t.off + int64(len(b))
	if end < t.end {
		return end, h.failure()
	}
	return end, nil
}

// fillRaw delivers the task's bytes from byte at of the disk on. It returns how far it got.
func (w *worker) fillRaw(t *task, c *Chunk, at int64) (int64, error) {
	if at == t.off && t.data != nil {
		var err error
		if at, err = w.sendDirect(t, c); err != nil {
			return at, w.run.e.archiveError(c, err)
		}
	}
	for {
		if at == t.end {
			return at, nil
		}
		b := w.room(t, at)
		if b == nil {
			return at, w.run.ctx.Err()
		}
		b = b[:min(int64(len(b)), t.end-at)]
		n, err := w.run.e.readRaw(c, b, at-c.Offset)
		t.sum.add(b[:n])
		if err == nil {
			w.run.stored.add(b[:n], c.DataOffset+at-c.Offset)
		}
		w.buf = w.buf[:len(w.buf)+n]
		at += int64(n)
		if err != nil {
			return at, err
		}
	}
}

// fillDecoded decodes the task from byte at of the disk on. It returns how far it
// got.
func (w *worker) fillDecoded(t *task, c *Chunk, at int64) (_ int64, err error) {
	for known := false; ; {
		at, err = w.decode(t, c, at)
		var short *xz.WindowError
		if !errors.As(err, &short) {
			return at, err
		}
		// Only the header of a later block said how large a decoder must be. Another
		// worker may have learned that meanwhile.
		grew := w.run.e.needWindow(t.chunk, short.Window)
		if !grew && known {
			return at, err
		}
		known = !grew
		w.giveBackDecoder(t)
		if t.d, err = w.largerDecoder(t.chunk); err != nil {
			return at, err
		}
	}
}

// largerDecoder returns a decoder in the middle of a task. In order, later tasks keep their
// memory until this one is delivered, so the worker can't wait for it: if there is none, or
// it has no room beside other workers, the run begins anew with one worker.
func (w *worker) largerDecoder(chunk int) (d *decoder, err error) {
	r := w.run
	if r.alone {
		return r.e.newDecoderFor(r.ctx, chunk, r.held.Load())
	}
	if r.ordered {
		d, err = r.e.decoderNow(chunk)
	} else {
		d, err = r.e.newDecoderFor(r.ctx, chunk, r.held.Load())
	}
	if errors.Is(err, ErrMemoryLimit) {
		err = fmt.Errorf("%w: %w", errFewerWorkers, err)
	}
	return d, err
}

func (w *worker) decode(t *task, c *Chunk, at int64) (int64, error) {
	e, d := w.run.e, t.d
	from, to := at-c.Offset, t.end-c.Offset
	d.onePass, d.careful, d.spare, d.fetch.ctx = w.run.onePass, w.run.salvages, w.run.spare, w.run.ctx
	d.fetch.stored = w.run.stored
	defer func() { d.fetch.ctx, d.fetch.stored = nil, nil }()
	if h := t.data; h != nil {
		if !w.run.prefetch.wait(w.run.ctx, h) {
			return at, w.run.ctx.Err()
		}
		d.fetch.borrow(h.buf, h.off, h.failure())
	}
	err := d.start(c, t.chunk, from)
	for err == nil && d.pos < to {
		if w.run.ctx.Err() != nil {
			return at, w.run.ctx.Err()
		}
		pos := d.pos
		var b []byte
		b, err = d.decode(to - pos)
		var ok bool
		if at, ok = w.copy(t, at, b[min(int64(len(b)), max(0, from-pos)):]); !ok {
			return at, w.run.ctx.Err()
		}
	}
	switch {
	case err != nil:
	case to == c.Length:
		err = d.finish()
	case w.run.toEnds && t.end == w.run.to && c.Method.info().trailer:
		err = w.finishChunk(d)
	default:
		err = d.verifyCheckpoint()
	}
	if err != nil {
		err = e.chunkError(d, c, err)
	}
	return at, err
}

// finishChunk decodes the rest of a chunk, of which no more is wanted, to get at its
// checksum.
func (w *worker) finishChunk(d *decoder) error {
	for d.pos < d.length {
		if err := w.run.ctx.Err(); err != nil {
			return err
		}
		if _, err := d.decode(d.length - d.pos); err != nil {
			return err
		}
	}
	return d.finish()
}

// copy puts b, for byte at of the disk, into buffers. It returns the place behind; it
// fails if the run is over.
func (w *worker) copy(t *task, at int64, b []byte) (int64, bool) {
	t.sum.add(b)
	if w.run.drops {
		return at + int64(len(b)), w.run.count(int64(len(b))) == nil
	}
	for len(b) > 0 {
		space := w.room(t, at)
		if space == nil {
			return at, false
		}
		n := copy(space, b)
		w.buf = w.buf[:len(w.buf)+n]
		at += int64(n)
		b = b[n:]
	}
	return at, true
}

// room returns the free part of the buffer, for byte at of the disk: a new
// buffer if that is full. It is nil when the run is over.
func (w *worker) room(t *task, at int64) []byte {
	if w.buf != nil && len(w.buf) == cap(w.buf) && !w.flush(t) {
		return nil
	}
	if w.buf == nil {
		b := w.buffer(t)
		if b == nil {
			return nil
		}
		w.buf, w.begin = b[:0], at
	}
	return w.buf[len(w.buf):cap(w.buf)]
}

// buffer returns a buffer for the output of t: a further one if the worker has none and it
// isn't the task's turn. It is nil when the run is over.
func (w *worker) buffer(t *task) []byte {
	w.more = false
	select {
	case b := <-w.free:
		return b
	default:
	}
	if n := int(w.ahead.Load()); n < w.run.more.most && !t.isNext() {
		if b := w.run.more.take(); b != nil {
			w.ahead.Add(1)
			w.more = true
			return b
		}
	}
	select {
	case b := <-w.free:
		return b
	case <-w.run.ctx.Done():
		return nil
	}
}

// isNext reports whether all before t is delivered.
func (t *task) isNext() bool {
	select {
	case <-t.turn:
		return true
	default:
		return false
	}
}

// flush passes the buffer on.
func (w *worker) flush(t *task) bool {
	if w.buf == nil {
		return true
	}
	b := w.buf
	w.buf = nil
	return w.send(output{task: t, at: w.begin, b: b, more: w.more})
}

func (w *worker) send(b output) bool {
	select {
	case w.output <- b:
		return true
	case <-w.run.ctx.Done():
		return false
	}
}

// deliver passes on what the worker decodes, until it is done or the run is
// over.
func (w *worker) deliver() {
	ends := true
	defer func() {
		if ends {
			w.run.cancel(errReceiver)
			for b := range w.output { // else the worker might wait for room
				if b.b != nil {
					w.recycle(b)
				}
			}
		}
	}()
	defer w.run.catch()
	for b := range w.output {
		w.pass(b)
		if b.b != nil {
			w.recycle(b)
		}
	}
	ends = false
}

// errReceiver is the error of a run whose receiver ended the goroutine that it was
// called from, as testing.T.Fatal does.
var errReceiver = errors.New("dmg: the receiver ended its goroutine")

// pass delivers an output.
func (w *worker) pass(b output) {
	if w.run.ctx.Err() != nil {
		return // the worker is about to notice
	}
	if w.run.ordered {
		select {
		case <-b.turn:
		case <-w.run.ctx.Done():
			return
		}
	}
	if err := w.run.receive(b); err != nil {
		w.run.fail(b.task, b.at, err)
	}
}

// recycle makes the memory of an output free for another.
func (w *worker) recycle(b output) {
	switch {
	case b.lent != nil:
		w.run.prefetch.unpin(b.lent)
	case b.more:
		w.ahead.Add(-1)
		w.run.more.put(b.b)
	default:
		w.free <- b.b
	}
}

// A worker's buffers, in bytes. With larger ones, what is written is no longer in the
// second-level cache: extracting took a third longer at 256 KiB.
const (
	maxOutputBuffer = 64 << 10
	minOutputBuffer = 16 << 10 // under a low memory limit
	outputBuffers   = 4        // of each worker
)

// moreBuffers are further buffers of a run in order, for the workers whose turn it isn't: with
// them a worker decodes a chunk of hdiutil's to its end meanwhile. They are taken from what
// is free or cached, and only while nobody waits for memory. The engine may take back those
// that are empty. Its lock guards them, but for most.
type moreBuffers struct {
	e     *engine
	size  int64 // bytes
	most  int   // of a worker; 0: there are none
	made  int
	empty [][]byte
}

// begin prepares m for so many workers of a run, whose buffers have so many bytes.
func (m *moreBuffers) begin(p *pipeline, workers int, size int64) {
	m.e, m.size = p.e, size
	if !p.ordered || workers < 2 || p.drops {
		return
	}
	m.e.mu.Lock()
	defer m.e.mu.Unlock()
	m.most = int(min(spanTask, budget.ShareAhead.Of(m.e.mu.account.Limit)/int64(workers)) / size)
	m.e.mu.reclaimers = append(m.e.mu.reclaimers, m)
}

// end gives back all of them.
func (m *moreBuffers) end() {
	m.e.mu.Lock()
	defer m.e.mu.Unlock()
	i := slices.Index(m.e.mu.reclaimers, reclaimer(m))
	if i < 0 {
		return
	}
	m.e.mu.reclaimers = slices.Delete(m.e.mu.reclaimers, i, i+1)
	m.e.mu.account.Release(budget.Decoders, int64(m.made)*m.size)
	m.e.wakeLocked()
}

// take returns one, nil if there is no memory.
func (m *moreBuffers) take() []byte {
	m.e.mu.Lock()
	defer m.e.mu.Unlock()
	if len(m.e.mu.queue) > 0 {
		return nil
	}
	if n := len(m.empty); n > 0 {
		b := m.empty[n-1]
		m.empty = m.empty[:n-1]
		return b
	}
	if !m.e.takeCachedLocked(m.size) {
		return nil
	}
	m.made++
	return make([]byte, m.size)
}

// put makes b free for another.
func (m *moreBuffers) put(b []byte) {
	m.e.mu.Lock()
	defer m.e.mu.Unlock()
	m.empty = append(m.empty, b)
	m.e.wakeLocked()
}

// idle implements reclaimer.
func (m *moreBuffers) idle() int64 { return int64(len(m.empty)) * m.size }

// reclaim implements reclaimer.
func (m *moreBuffers) reclaim() bool {
	n := len(m.empty)
	if n == 0 {
		return false
	}
	m.empty = slices.Delete(m.empty, n-1, n)
	m.made--
	m.e.mu.account.Release(budget.Decoders, m.size)
	return true
}

// outputBuffer returns the size of the buffers of a run. One that finds the share of a
// run taken has one worker with small buffers.
func (e *engine) outputBuffer(workers int) int64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	a := &e.mu.account
	n := (budget.ShareRun.Of(a.Limit) - a.Used[budget.Buffers]) / outputBuffers / int64(workers)
	return max(minOutputBuffer, min(maxOutputBuffer, n))
}

// takeOutput takes memory for the buffers of the i-th worker of a run. The first waits
// for it until ctx is done; the others are done without.
func (e *engine) takeOutput(ctx context.Context, i int, memory int64) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	a := &e.mu.account
	tooLow := fmt.Errorf("%w: %d bytes have no room for a buffer", ErrMemoryLimit, a.Limit)
	share := budget.ShareRuns.Of(a.Limit)
	if i > 0 {
		share = budget.ShareRun.Of(a.Limit)
	}
	// The share is waited for apart from the memory: runs that hold it may need
	// memory to come to their end.
	fits := func() bool {
		taken := a.Used[budget.Buffers]
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
			e.mu.outputFree.Wait()
		}
		if i > 0 {
			if !e.tryRoomLocked(memory, func() bool { return a.Take(budget.Buffers, memory) }) {
				return tooLow
			}
			return nil
		}
		taken := false
		err := e.acquire(ctx, memory, 0, func() bool {
			if !fits() {
				return true // another run was first
			}
			taken = a.Take(budget.Buffers, memory)
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

// releaseOutput gives the memory of a worker's buffers back.
func (e *engine) releaseOutput(memory int64) {
	e.mu.Lock()
	e.mu.account.Release(budget.Buffers, memory)
	e.mu.outputFree.Broadcast()
	e.wakeLocked()
	e.mu.Unlock()
}
