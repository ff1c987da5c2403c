package dmg

import "slices"

// haul is stored data of neighbouring pieces of a pipeline, fetched in one call:
// each on its own would be a round trip where the source is remote. Whichever
// worker comes first fetches it, and one that would have to wait for that fetches
// the next haul meanwhile. The engine's lock guards all but buf and err, which are
// as they are from when ready is closed.
type haul struct {
	run      *pipelineRun
	from, to int64 // of the disk: the pieces
	off, end int64 // of the source: their data
	buf      []byte
	err      error // of the source, behind what is in buf
	memory   int64 // that buf takes of the limit; 0 if that was given up
	queued   bool  // pieces of it are yet to be claimed
	begun    bool  // it is being fetched, or was
	ready    chan struct{}
	pins     int // by pieces, and by who fetches it; without, it may be given up
}

// haulLook is how many chunks are looked at for one haul. Some may have no data.
const haulLook = 256

// haulSize returns the size of hauls in bytes, and how many a run may have. They
// are not to cost others the memory that these need.
func (e *engine) haulSize(workers int) (size int64, most int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	size = maxFetch
	for size > e.mu.account.limit/32 {
		size /= 2
	}
	if size < fetchBuffer {
		return 0, 0
	}
	return size, min(workers+1, int(e.mu.account.limit/8/size))
}

// readBuffer returns a buffer as large as a haul to read the source with, or a
// small one if there is no memory.
func (e *engine) readBuffer() (buf []byte, giveBack func()) {
	size, _ := e.haulSize(1)
	e.mu.Lock()
	defer e.mu.Unlock()
	if size == 0 || !e.takeCached(size) {
		return make([]byte, maxLaneBuffer), func() {}
	}
	return make([]byte, size), func() {
		e.mu.Lock()
		e.mu.account.release(useDecoders, size)
		e.wake()
		e.mu.Unlock()
	}
}

// haul returns the haul in which the piece at byte off of the disk is, nil if it
// is in none. It is pinned. haul is called with the lock, and may give it up.
func (r *pipelineRun) haul(off int64) *haul {
	h := r.queued(off)
	if h == nil && len(r.hauls.queue) == 0 {
		r.plan(off)
		h = r.queued(off) // may be another's
	}
	if h != nil {
		h.pins++
	}
	return h
}

// queued returns the haul with byte off among those that are planned, and forgets
// those before it. Where one was given up before its time memory is short, and
// there will be no more: each would be fetched in vain.
func (r *pipelineRun) queued(off int64) *haul {
	q := &r.hauls.queue
	for len(*q) > 0 && ((*q)[0].to <= off || (*q)[0].memory == 0) {
		if (*q)[0].memory == 0 && (*q)[0].to > off {
			r.hauls.size = 0
		}
		(*q)[0].queued = false
		*q = slices.Delete(*q, 0, 1)
	}
	if len(*q) == 0 || off < (*q)[0].from {
		return nil
	}
	return (*q)[0]
}

// plan queues a haul of the pieces from byte off of the disk on, behind the others:
// none if that is not worth it, or there is no memory. It may give up the lock.
func (r *pipelineRun) plan(off int64) *haul {
	plan, ok := r.survey(off)
	if !ok {
		return nil
	}
	h := r.vacant()
	if h == nil {
		return nil
	}
	h.pins--
	// Another may have been here while the lock was given up.
	if n := len(r.hauls.queue); n > 0 && r.hauls.queue[n-1].to > plan.from {
		return nil
	}
	h.from, h.to, h.off, h.end = plan.from, plan.to, plan.off, plan.end
	h.buf, h.queued, h.begun, h.ready = h.buf[:0], true, false, make(chan struct{})
	r.hauls.queue = append(r.hauls.queue, h)
	return h
}

// survey finds the pieces from byte off of the disk on whose data lies together.
// It reports whether it is worth fetching it at once.
func (r *pipelineRun) survey(off int64) (h haul, ok bool) {
	e, n := r.e, 0
	room := r.hauls.size
	if e.src.unit > 0 {
		room -= 2 * maxUnit
	}
	i := e.find(off)
	for last := min(i+haulLook, len(e.chunks)); i < last; i++ {
		c := &e.chunks[i]
		if c.Method.zeros() || r.skip != nil && r.skip(c) {
			continue
		}
		from := max(off, c.Offset)
		data, end, ok := e.haulable(i, from)
		if n > 0 && (data < h.end || data-h.end > joinGap) || !ok {
			break
		}
		if n == 0 {
			h.from, h.off = from, data
		}
		to := c.end()
		if over := end - h.off - room; over > 0 {
			if c.Method != Raw || end-over <= data {
				break
			}
			end, to = end-over, to-over
		}
		h.to, h.end = to, end
		n++
	}
	h.off, h.end = e.src.whole(h.off, h.end)
	return h, n > 1 || n == 1 && h.end-h.off > maxLaneBuffer
}

// haulable returns where the data of chunk i is from byte from of the disk on, and
// whether a haul may have it: all of a chunk, or any part of a raw one.
func (e *engine) haulable(i int, from int64) (data, end int64, ok bool) {
	c := &e.chunks[i]
	switch {
	case c.Method == Raw:
		return c.DataOffset + from - c.Offset, c.DataOffset + c.Length, c.DataLength >= c.Length
	case c.Method == Zlib && e.mu.points.from(i, spanPiece) > 0:
		return 0, 0, false // it is several pieces
	}
	return c.DataOffset, c.streamEnd(), c.Method.compressed() && from == c.Offset
}

// vacant returns a haul of the run that nobody needs any more, or a new one, pinned;
// nil if there is no memory for more.
func (r *pipelineRun) vacant() *haul {
	e, n := r.e, 0
	for _, h := range e.mu.hauls {
		if h.run != r {
			continue
		}
		if n++; h.pins == 0 && !h.queued {
			h.pins++
			return h
		}
	}
	if n >= r.hauls.most || !e.takeCached(r.hauls.size) {
		return nil
	}
	h := &haul{run: r, memory: r.hauls.size, pins: 1}
	e.mu.hauls = append(e.mu.hauls, h)
	h.buf = make([]byte, 0, h.memory)
	return h
}

// load returns when h, which is pinned, has been fetched: false if the run is over
// before. An error of the source leaves it short, and is that of the first piece
// which needs what is lacking.
func (r *pipelineRun) load(h *haul) bool {
	e := r.e
	e.mu.Lock()
	mine := !h.begun
	h.begun = true
	e.mu.Unlock()
	if mine {
		h.fetch(e.src)
		return true
	}
	select {
	case <-h.ready:
		return true
	default:
	}
	r.loadNext()
	select {
	case <-h.ready:
		return true
	case <-r.ctx.Done():
		return false
	}
}

// loadNext fetches the haul behind those that are planned.
func (r *pipelineRun) loadNext() {
	e := r.e
	e.mu.Lock()
	defer e.mu.Unlock()
	n := len(r.hauls.queue)
	if n == 0 {
		return
	}
	h := r.plan(r.hauls.queue[n-1].to)
	if h == nil {
		return
	}
	h.pins++
	h.begun = true
	e.mu.Unlock()
	h.fetch(e.src)
	e.mu.Lock()
	e.unpin(h)
}

// fetch reads what h is to have.
func (h *haul) fetch(src countingSource) {
	n, err := src.ReadAt(h.buf[:h.end-h.off], h.off)
	h.buf, h.err = h.buf[:n], err
	close(h.ready)
}

// bytes returns what there is between two places in the source, once h is loaded.
func (h *haul) bytes(off, end int64) []byte {
	have := h.off + int64(len(h.buf))
	return h.buf[min(off, have)-h.off : min(end, have)-h.off]
}

// unpin ends a use of h. It is called with the lock.
func (e *engine) unpin(h *haul) {
	h.pins--
	e.wake()
}

// dropHaul gives up a haul that nobody is using, and reports whether there was
// one.
func (e *engine) dropHaul() bool {
	i := slices.IndexFunc(e.mu.hauls, func(h *haul) bool { return h.pins == 0 })
	if i < 0 {
		return false
	}
	e.endHaul(i)
	return true
}

// endHaul gives up the haul at index i.
func (e *engine) endHaul(i int) {
	h := e.mu.hauls[i]
	e.mu.hauls = slices.Delete(e.mu.hauls, i, i+1)
	e.mu.account.release(useDecoders, h.memory)
	h.buf, h.memory = nil, 0
}

// endHauls gives up all that the run has, at its end.
func (r *pipelineRun) endHauls() {
	e := r.e
	e.mu.Lock()
	defer e.mu.Unlock()
	for i := len(e.mu.hauls) - 1; i >= 0; i-- {
		if e.mu.hauls[i].run == r {
			e.endHaul(i)
		}
	}
	e.wake()
}
