package dmg

import (
	"context"
	"fmt"
	"runtime"
	"slices"

	"github.com/go-dmg/dmg/internal/budget"
)

// near is the parked decoder from which a read would go on.
type near struct {
	index int   // among the parked ones, -1 if there is none
	reach int64 // the place before the read where it can be, -1
}

// nearestIdle finds the decoder of chunk i that can go on nearest before off.
func (e *engine) nearestIdle(i int, off int64) near {
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

// takeIdle takes the decoder at index k of the parked ones.
func (e *engine) takeIdle(k int) *decoder {
	d := e.mu.idle[k]
	e.mu.idle = slices.Delete(e.mu.idle, k, k+1)
	return d
}

// park keeps a decoder for the read that goes on where it stands. If it failed
// or is at the chunk's end only its memory is of use.
func (e *engine) putIdle(d *decoder, err error) {
	if err != nil || d.pos == d.length {
		d.chunk = -1
	}
	e.mu.idle = append(e.mu.idle, d)
	e.wake()
}

// maxIdle is how many decoders are parked at most while readers take new ones:
// each read looks through all of them.
const maxIdle = 128

// blank returns a decoder for chunk i that stands nowhere: a new one, or a parked one
// whose place is given up. Decoders may fill a quarter of the limit before
// parked ones are reused, which is enough for many sequential readers. A reader
// that can't have one yet waits, until ctx is done; its own run holds so many bytes of
// buffers meanwhile.
func (e *engine) acquireDecoder(ctx context.Context, i int, held int64) (d *decoder, err error) {
	c := &e.chunks[i]
	memory, err := e.memoryFor(i)
	if err != nil {
		return nil, err
	}
	err = e.acquire(ctx, memory, held, func() bool {
		d = e.tryDecoder(c, memory)
		return d != nil
	})
	if err == errNoRoom {
		// Whole-disk work has buffers besides.
		buffers := int64(runtime.GOMAXPROCS(0)) * outputBuffers * maxOutputBuffer
		err = &ChunkError{*c, fmt.Errorf("%w: decoding it takes %d bytes of memory, the limit is %d; a limit of %d MiB will do",
			ErrMemoryLimit, memory, e.mu.account.Limit, roundUp(memory+buffers, 1<<20)>>20)}
	}
	return d, err
}

// newDecoderFor is blank for a caller without the lock.
func (e *engine) newDecoderFor(ctx context.Context, i int, held int64) (*decoder, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.acquireDecoder(ctx, i, held)
}

// memoryFor returns how much of the limit a decoder of chunk i takes. It lets go of
// the lock, since it may read the source.
func (e *engine) memoryFor(i int) (int64, error) {
	window := e.mu.windows[i]
	e.mu.Unlock()
	defer e.mu.Lock()
	return decoderMemory(e.src, &e.chunks[i], window)
}

// maxWindows is how many chunks' windows are remembered. All but the oddest images
// need none.
const maxWindows = 1 << 10

// needWindow notes that LZMA chunk i needs a decoder with so long a window. It returns
// false if that is known already: then the decoder had it.
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

// tryDecoder returns a blank decoder for c if there is one, or free memory for it.
func (e *engine) tryDecoder(c *Chunk, memory int64) *decoder {
	a := &e.mu.account
	old := e.reusable(c, memory)
	few := a.Used[budget.Decoders]+memory <= a.Limit/4 && len(e.mu.idle) < maxIdle
	if old >= 0 && (!few || e.mu.idle[old].chunk < 0) {
		d := e.takeIdle(old)
		d.chunk, d.onePass, d.careful = -1, false, false
		return d
	}
	if !a.Take(budget.Decoders, memory) {
		return nil
	}
	return e.newDecoder(c.Method, memory)
}

// reusable returns the index of the parked decoder that c can best have, -1 if
// none is large enough: one that is done with the data before c's, else the one
// that was used longest ago.
func (e *engine) reusable(c *Chunk, memory int64) int {
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

// discard parks a decoder that has nothing to go on with.
func (e *engine) discard(d *decoder) {
	e.mu.Lock()
	d.fetch.giveBack()
	d.pos = d.length
	e.putIdle(d, nil)
	e.mu.Unlock()
}
