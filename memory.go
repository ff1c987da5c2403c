package dmg

import (
	"context"
	"runtime"
	"runtime/metrics"
)

// use says what bytes of the memory limit are taken for.
type use int

const (
	useDecoders    use = iota // decoders at work or parked, with their buffers
	useCheckpoints            // what decoders resume from
	useCache                  // decoded data
	useBuffers                // decoded data on its way out of a pipeline
	numUses
)

// account is the one count of the memory that Options.MemoryLimit bounds, over
// the whole image. Its owner's lock guards it.
type account struct {
	limit int64
	used  [numUses]int64
}

// total returns the bytes in use.
func (a *account) total() (n int64) {
	for _, used := range a.used {
		n += used
	}
	return n
}

// take counts n more bytes for u, unless that would exceed the limit.
func (a *account) take(u use, n int64) bool {
	if n > a.limit-a.total() {
		return false
	}
	a.used[u] += n
	return true
}

// release gives n bytes back.
func (a *account) release(u use, n int64) {
	a.used[u] -= n
}

// move counts n bytes that were taken for one use for another.
func (a *account) move(from, to use, n int64) {
	a.used[from] -= n
	a.used[to] += n
}

// checkpointShare is how much of the limit checkpoints may take before they
// are thinned out: nine parts of sixteen. The rest is for decoders and decoded
// data: it must hold at least one decoder, and more checkpoints would not make
// reads faster in proportion, since a read also decodes what was asked for.
func (a *account) checkpointShare() int64 { return a.limit / 16 * 9 }

// makeRoom gives back the memory of a cached page, of what stands by to decode
// ahead, of what was fetched ahead, or of the decoder parked longest ago. It
// returns false if all that is left is at work.
func (e *engine) makeRoom() bool {
	if e.mu.cache.shrink() {
		e.dropped(pageSize)
		return true
	}
	if a := e.mu.standby; a != nil {
		e.mu.standby = nil
		e.mu.account.release(useDecoders, a.memory)
		e.dropped(a.memory)
		return true
	}
	if e.dropHaul() {
		return true
	}
	if len(e.mu.parked) == 0 {
		return false
	}
	d := e.unpark(0)
	e.mu.account.release(useDecoders, d.memory)
	e.dropped(d.memory)
	return true
}

// atRest returns how much memory decoders have that are not at work.
func (e *engine) atRest() (n int64) {
	for _, d := range e.mu.parked {
		n += d.memory
	}
	if e.mu.standby != nil {
		n += e.mu.standby.memory
	}
	for _, h := range e.mu.hauls {
		if h.pins == 0 {
			n += h.memory
		}
	}
	return n
}

// atWork returns how much memory decoders have that are.
func (e *engine) atWork() int64 { return e.mu.account.used[useDecoders] - e.atRest() }

// mayFit reports whether n bytes can be had by makeRoom. If not, what is there had
// better stay.
func (e *engine) mayFit(n int64) bool {
	a := &e.mu.account
	return n <= a.limit-a.total()+a.used[useCache]+e.atRest()
}

// takeCached takes memory for a decoder, from the cache if need be.
func (e *engine) takeCached(n int64) bool {
	for !e.mu.account.take(useDecoders, n) {
		if !e.mu.cache.shrink() {
			return false
		}
		e.dropped(pageSize)
	}
	return true
}

// wait returns when memory may have become free, or wake was called.
func (e *engine) wait() {
	e.mu.waiting++
	e.mu.freed.Wait()
	e.mu.waiting--
}

// wake has those who wait for memory look again. It is called with the lock.
func (e *engine) wake() {
	if e.mu.waiting > 0 {
		e.mu.freed.Broadcast()
	}
}

// wakeAfter wakes those who wait once ctx is done, until stop is called.
func (e *engine) wakeAfter(ctx context.Context) (stop func() bool) {
	return context.AfterFunc(ctx, func() {
		e.mu.Lock()
		e.wake()
		e.mu.Unlock()
	})
}

// What is given back to the account is left to the garbage collector, which lets
// the heap grow to twice what is in use before it starts. So the engine counts
// what it has dropped, and has it collected before it allocates more than
// maxGarbage in its place: but only where the heap is small. In a large one the
// engine's garbage doesn't show, and a collection takes long.
const (
	maxGarbage = 4 << 20
	smallHeap  = 8 // times the limit
)

// garbage is what was dropped and may not have been collected yet.
type garbage struct {
	bytes  int64
	cycles uint64 // of the collector, when the first of it was dropped
	sample []metrics.Sample
}

// read returns how many cycles the collector has done, and the size of the heap's
// objects.
func (g *garbage) read() (cycles, heap uint64) {
	if g.sample == nil {
		g.sample = []metrics.Sample{{Name: "/gc/cycles/total:gc-cycles"}, {Name: "/memory/classes/heap/objects:bytes"}}
	}
	metrics.Read(g.sample)
	return g.sample[0].Value.Uint64(), g.sample[1].Value.Uint64()
}

// dropped notes that n bytes have become garbage.
func (e *engine) dropped(n int64) {
	g := &e.mu.garbage
	if g.bytes == 0 {
		g.cycles, _ = g.read()
	}
	g.bytes += n
}

// collect sees to it that what was dropped is out of the heap before n bytes are
// allocated. It gives up the lock if that takes time.
func (e *engine) collect(n int64) {
	g := &e.mu.garbage
	if g.bytes+n <= maxGarbage || g.bytes == 0 || n < maxGarbage/8 {
		return
	}
	cycles, heap := g.read()
	g.bytes = 0
	// A cycle that was under way may have passed it over.
	if cycles > g.cycles+1 || heap > uint64(e.mu.account.limit)*smallHeap {
		return
	}
	e.mu.Unlock()
	runtime.GC()
	e.mu.Lock()
}
