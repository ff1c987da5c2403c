package dmg

import (
	"context"
	"errors"
	"slices"

	"github.com/go-dmg/dmg/internal/budget"
)

// prefetcher fetches the stored data of neighbouring tasks of a run in one call: each
// on its own would be a round trip where the source is remote. Whichever worker comes
// first fetches it, and one that would have to wait for that fetches what comes next
// meanwhile. The engine's lock guards it.
type prefetcher struct {
	*pipeline
	size  int64       // of each prefetch
	most  int         // prefetches
	queue []*prefetch // planned, in the order of the disk
	all   []*prefetch // with memory
	known span        // of the disk: what is stored, where the chunk map doesn't say that
}

// prefetch is stored data that is fetched at once. The engine's lock guards all but
// buf and err, which are as they are from when ready is closed.
type prefetch struct {
	from, to int64 // of the disk: the tasks
	off, end int64 // of the source: their data
	buf      []byte
	err      error // of the source, behind what is in buf
	memory   int64 // that buf takes of the limit; 0 if that was given up
	queued   bool  // tasks of it are yet to be claimed
	begun    bool  // it is being fetched, or was
	ready    chan struct{}
	pins     int // by tasks and by a fetch; without, it may be given up
}

// prefetchLook is how many chunks are looked at for one prefetch. Some may have no
// data.
const prefetchLook = 256

// begin prepares f for a run. The engine may take back what f doesn't use, until end.
func (f *prefetcher) begin(p *pipeline) {
	e := p.e
	f.pipeline = p
	workers := p.workers
	e.mu.Lock()
	defer e.mu.Unlock()
	f.size = e.prefetchSizeLocked()
	if f.size > 0 {
		f.most = min(workers+1, int(budget.SharePrefetch.Of(e.mu.account.Limit)/f.size))
	}
	e.mu.reclaimers = append(e.mu.reclaimers, f)
}

// end gives up all that f has.
func (f *prefetcher) end() {
	e := f.e
	e.mu.Lock()
	defer e.mu.Unlock()
	for len(f.all) > 0 {
		f.drop(len(f.all) - 1)
	}
	i := slices.Index(e.mu.reclaimers, reclaimer(f))
	e.mu.reclaimers = slices.Delete(e.mu.reclaimers, i, i+1)
	e.wakeLocked()
}

// idle implements reclaimer.
func (f *prefetcher) idle() (n int64) {
	for _, h := range f.all {
		if h.pins == 0 {
			n += h.memory
		}
	}
	return n
}

// reclaim implements reclaimer.
func (f *prefetcher) reclaim() bool {
	i := slices.IndexFunc(f.all, func(h *prefetch) bool { return h.pins == 0 })
	if i < 0 {
		return false
	}
	f.drop(i)
	return true
}

// drop gives up the prefetch at index i of all.
func (f *prefetcher) drop(i int) {
	h := f.all[i]
	f.all = slices.Delete(f.all, i, i+1)
	f.e.mu.account.Release(budget.Decoders, h.memory)
	h.buf, h.memory = nil, 0
}

// prefetchSizeLocked returns how many bytes are fetched at once, so that others keep the
// memory that they need; 0 if that is not worth it.
func (e *engine) prefetchSizeLocked() int64 {
	size := int64(maxFetch)
	for size > budget.ShareOnePrefetch.Of(e.mu.account.Limit) {
		size /= 2
	}
	if size < fetchBuffer {
		return 0
	}
	return size
}

// readBuffer returns a buffer as large as a prefetch to read the source with, or a
// small one if there is no memory.
func (e *engine) readBuffer() (buf []byte, giveBack func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	size := e.prefetchSizeLocked()
	if size == 0 || !e.takeCachedLocked(size) {
		return make([]byte, maxOutputBuffer), func() {}
	}
	return make([]byte, size), func() {
		e.mu.Lock()
		e.mu.account.Release(budget.Decoders, size)
		e.wakeLocked()
		e.mu.Unlock()
	}
}

// find returns the prefetch in which the task at byte off of the disk is, nil if it is
// in none. It is pinned. find is called with the lock.
func (f *prefetcher) find(off int64) *prefetch {
	h := f.queued(off)
	if h == nil && len(f.queue) == 0 {
		f.plan(off)
		h = f.queued(off) // may be another's
	}
	if h != nil {
		h.pins++
	}
	return h
}

// queued returns the prefetch with byte off among those that are planned, and drops
// those before it. Where one was given up before its time memory is short, and
// there will be no more: each would be fetched in vain.
func (f *prefetcher) queued(off int64) *prefetch {
	q := &f.queue
	for len(*q) > 0 && ((*q)[0].to <= off || (*q)[0].memory == 0) {
		if (*q)[0].memory == 0 && (*q)[0].to > off {
			f.size = 0
		}
		(*q)[0].queued = false
		*q = slices.Delete(*q, 0, 1)
	}
	if len(*q) == 0 || off < (*q)[0].from {
		return nil
	}
	return (*q)[0]
}

// plan queues a prefetch of the tasks from byte off of the disk on, behind the others:
// none if that is not worth it, or there is no memory. It returns the new one.
func (f *prefetcher) plan(off int64) *prefetch {
	plan, ok := f.survey(off)
	if !ok {
		return nil
	}
	h := f.reuseBuffer()
	if h == nil {
		return nil
	}
	h.from, h.to, h.off, h.end = plan.from, plan.to, plan.off, plan.end
	h.buf, h.queued, h.begun, h.ready = h.buf[:0], true, false, make(chan struct{})
	f.queue = append(f.queue, h)
	return h
}

// survey finds the tasks from byte off of the disk on whose data lies together.
// It reports whether it is worth fetching it at once.
func (f *prefetcher) survey(off int64) (h prefetch, ok bool) {
	e, n := f.e, 0
	room := f.size
	if e.src.unit > 0 {
		room -= 2 * maxUnit
	}
	i := e.find(off)
	for last := min(i+prefetchLook, len(e.chunks)); i < last && e.chunks[i].Offset < f.to; i++ {
		c := &e.chunks[i]
		if c.Method.zeros() || f.skip != nil && f.skip(c) {
			continue
		}
		from, to := max(off, c.Offset), min(f.to, c.end())
		if e.span != nil {
			if from < f.known.from || from >= f.known.to {
				break
			}
			to = min(to, f.known.to)
		}
		data, end, ok := e.prefetchableLocked(i, from, to)
		if n > 0 && (data < h.end || data-h.end > joinGap) || !ok || c.Method == Raw && e.src.block > room {
			break
		}
		if n == 0 {
			h.from, h.off = from, data
		}
		if over := end - h.off - room; over > 0 {
			if c.Method != Raw || end-over <= data {
				break
			}
			whole := e.src.cutAtBlock(data, end-over)
			end, to = whole, to-(end-whole)
		}
		h.to, h.end = to, end
		n++
	}
	h.off, h.end = e.src.alignToUnit(h.off, h.end)
	return h, n > 1 || n == 1 && h.end-h.off > maxOutputBuffer
}

// prefetchableLocked returns where the data of chunk i is between two places on the disk,
// and whether it may be fetched with others': all of a chunk, or any part of a raw
// one.
func (e *engine) prefetchableLocked(i int, from, to int64) (data, end int64, ok bool) {
	c := &e.chunks[i]
	_, cut := e.mu.points.after(i, spanTask)
	switch {
	case c.Method == Raw:
		return c.DataOffset + from - c.Offset, c.DataOffset + to - c.Offset, c.DataLength >= c.Length
	case c.Method.info().spans && cut:
		return 0, 0, false // it is several tasks
	}
	return c.DataOffset, c.streamEnd(), c.Method.compressed() && c.DataLength > 0 && from == c.Offset && to == c.end()
}

// reuseBuffer returns a prefetch that nobody needs any more, or a new one; nil if there
// is no memory for more.
func (f *prefetcher) reuseBuffer() *prefetch {
	for _, h := range f.all {
		if h.pins == 0 && !h.queued {
			return h
		}
	}
	if len(f.all) >= f.most || !f.e.takeCachedLocked(f.size) {
		return nil
	}
	h := &prefetch{memory: f.size, buf: make([]byte, 0, f.size)}
	f.all = append(f.all, h)
	return h
}

// wait returns when h, which is pinned, has been fetched: false if ctx is done
// before. An error of the source leaves it short, and is that of the first task
// which needs what is lacking.
func (f *prefetcher) wait(ctx context.Context, h *prefetch) bool {
	e := f.e
	e.mu.Lock()
	mine := !h.begun
	h.begun = true
	e.mu.Unlock()
	if mine {
		h.fetch(e.src)
		f.stored.add(h.buf, h.off)
		return true
	}
	select {
	case <-h.ready:
		return true
	default:
	}
	f.fetchNext()
	select {
	case <-h.ready:
		return true
	case <-ctx.Done():
		return false
	}
}

// fetchNext fetches what comes behind all that is planned.
func (f *prefetcher) fetchNext() {
	e := f.e
	e.mu.Lock()
	defer e.mu.Unlock()
	n := len(f.queue)
	if n == 0 {
		return
	}
	h := f.plan(f.queue[n-1].to)
	if h == nil {
		return
	}
	h.pins++
	h.begun = true
	defer f.unpinLocked(h)
	e.mu.Unlock()
	defer e.mu.Lock()
	h.fetch(e.src)
	f.stored.add(h.buf, h.off)
}

var errFetch = errors.New("dmg: fetching ahead did not come to its end")

// fetch reads what h is to have.
func (h *prefetch) fetch(src countingSource) {
	b := h.buf[:h.end-h.off]
	h.buf, h.err = h.buf[:0], errFetch // should the source panic
	defer close(h.ready)
	n, err := src.readSome(b, h.off)
	h.buf, h.err = b[:n], err
}

// failure returns the source's error behind what h has, once h was waited for. Damage of an
// archive is none: what is behind that may be good, and the task that needs it reads it.
func (h *prefetch) failure() error {
	if isDamage(h.err) {
		return nil
	}
	return h.err
}

// bytes returns what there is between two places in the source, once h was waited for.
func (h *prefetch) bytes(off, end int64) []byte {
	have := h.off + int64(len(h.buf))
	return h.buf[min(off, have)-h.off : min(end, have)-h.off]
}

// pin keeps h, which is pinned already, until one more call of unpin.
func (f *prefetcher) pin(h *prefetch) {
	f.e.mu.Lock()
	h.pins++
	f.e.mu.Unlock()
}

// unpin ends a use of h.
func (f *prefetcher) unpin(h *prefetch) {
	f.e.mu.Lock()
	f.unpinLocked(h)
	f.e.mu.Unlock()
}

func (f *prefetcher) unpinLocked(h *prefetch) {
	h.pins--
	f.e.wakeLocked()
}
