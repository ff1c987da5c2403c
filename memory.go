package dmg

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/go-dmg/dmg/internal/budget"
)

// checkpointShare is how much of the limit checkpoints may take before they
// are thinned out: nine parts of sixteen. The rest is for decoders and decoded
// data: it must hold at least one decoder, and more checkpoints would not make
// reads faster in proportion, since a read also decodes what was asked for.
func checkpointShare(a *budget.Budget) int64 { return a.Limit / 16 * 9 }

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
	if len(e.mu.queue) == 0 && e.tryRoom(need, try) {
		return nil
	}
	w := &waiter{need: need, held: held}
	w.cond.L = &e.mu
	e.mu.queue = append(e.mu.queue, w)
	defer e.leaveQueue(w)
	for {
		if e.mu.queue[0] == w {
			// Nobody else takes what comes free from now on.
			a.Reserved = 0
			if e.tryRoom(need, try) {
				return nil
			}
			switch {
			case w.woke > maxWoke && e.makeRoom():
				continue
			case need > a.Limit-a.Used[budget.Checkpoints]-a.Used[budget.Buffers] && e.shedCheckpoints():
				continue
			case e.stuck():
				if !e.shedCheckpoints() {
					return errNoRoom
				}
				continue
			}
			a.Reserved = need
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		w.cond.Wait()
		w.woke++
	}
}

// maxWoke is how often the first in the queue looks in vain before it gathers room
// bit by bit. As a rule a decoder that it can use is parked sooner.
const maxWoke = 16

// errNoRoom says that the memory limit has no room for what is needed.
var errNoRoom = fmt.Errorf("%w", ErrMemoryLimit)

// tryRoom makes room until try succeeds. It gives up nothing unless that is enough.
func (e *engine) tryRoom(need int64, try func() bool) bool {
	for !try() {
		if !e.mayFit(need) || !e.makeRoom() {
			return false
		}
	}
	return true
}

// stuck reports whether waiting is in vain: no decoder is at work, and all buffers
// belong to runs that wait themselves.
func (e *engine) stuck() bool {
	held := int64(0)
	for _, w := range e.mu.queue {
		held += w.held
	}
	return e.atWork() <= 0 && e.mu.account.Used[budget.Buffers] <= held
}

// leaveQueue ends a wait, and wakes the next.
func (e *engine) leaveQueue(w *waiter) {
	if e.mu.queue[0] == w {
		e.mu.account.Reserved = 0
	}
	i := slices.Index(e.mu.queue, w)
	e.mu.queue = slices.Delete(e.mu.queue, i, i+1)
	e.wake()
}

// wake has the first in the queue look again, since memory has come free or a decoder
// was parked. It is called with the lock.
func (e *engine) wake() {
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

// makeRoom gives back the memory of a cached page, of the idle parallel reader, of
// what was fetched ahead, or of the decoder parked longest ago. It returns false if
// all that is left is at work.
func (e *engine) makeRoom() bool {
	if e.mu.cache.Shrink() {
		return true
	}
	if a := e.mu.idleParallel; a != nil {
		e.mu.idleParallel = nil
		e.mu.account.Release(budget.Decoders, a.memory)
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
	d := e.takeIdle(0)
	e.mu.account.Release(budget.Decoders, d.memory)
	return true
}

// atRest returns how much memory decoders have that are not at work.
func (e *engine) atRest() (n int64) {
	for _, d := range e.mu.idle {
		n += d.memory
	}
	if e.mu.idleParallel != nil {
		n += e.mu.idleParallel.memory
	}
	for _, r := range e.mu.reclaimers {
		n += r.idle()
	}
	return n
}

// atWork returns how much memory decoders have that are.
func (e *engine) atWork() int64 { return e.mu.account.Used[budget.Decoders] - e.atRest() }

// mayFit reports whether n bytes can be had by makeRoom. If not, what is there had
// better stay.
func (e *engine) mayFit(n int64) bool {
	a := &e.mu.account
	return n <= a.Limit-a.Total()-a.Reserved+a.Used[budget.Cache]+e.atRest()
}

// takeCached takes memory for a decoder, from the cache if need be. While others wait
// for memory it takes none.
func (e *engine) takeCached(n int64) bool {
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
	return e.takeNow(n)
}

// giveBack implements host.
func (e *engine) giveBack(n int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.mu.account.Release(budget.Decoders, n)
	e.wake()
}

// takeNow takes memory for decoders without waiting for it. While others wait for
// memory it takes none.
func (e *engine) takeNow(n int64) bool {
	for len(e.mu.queue) == 0 {
		if e.mu.account.Take(budget.Decoders, n) {
			return true
		}
		if !e.makeRoom() {
			return false
		}
	}
	return false
}
