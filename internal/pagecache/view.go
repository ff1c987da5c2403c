package pagecache

import (
	"math/rand/v2"
	"reflect"
	"sync/atomic"
)

// View reads cached pages without the lock of their [Cache], any number of goroutines at
// a time. It may miss a page that is there, while the cache changes: then the caller asks
// the cache.
//
// Readers write to nothing that other readers write to, as far as they have different
// lanes. A reader says which page it reads in a slot of its own (a hazard pointer), and
// then looks whether the page is still live. A page is taken for other bytes only after
// it was marked as not live, and is then in no slot. So of a reader and the one who takes the page one
// sees what the other has done: sync/atomic's operations have one order for all.
type View struct {
	table atomic.Pointer[[]atomic.Pointer[Page]] // buckets, a power of two
	mix   [3]uint64                              // of the hash, at random: an image can't choose what collides
	slots [Lanes]slot
}

// Lanes is how many readers a View serves without the lock at a time at most.
const Lanes = 64

// Lane returns a number that concurrent reads do not share as a rule, and that a
// goroutine's reads do: it comes from the address of their buffer.
func Lane(p []byte) uint {
	if len(p) == 0 {
		return 0
	}
	const smallest = 9 // bits: buffers of 512 bytes have lanes of their own
	h := uint64(reflect.ValueOf(&p[0]).Pointer()>>smallest) * 0x9E3779B97F4A7C15
	return uint(h >> 32)
}

// slot says which page a reader reads; nil if no reader has the slot.
type slot struct {
	page atomic.Pointer[Page]
	_    [120]byte // the next is in another cache line, also of those that are fetched in pairs
}

// laneTries is how many slots a reader tries, from that of its lane on.
const laneTries = 4

// maxChain is how many pages of a bucket are looked at without the lock. There is one as
// a rule. The way ends there, should it lead on and on: the pages on it may be moved.
const maxChain = 16

func (v *View) init() {
	for i := range v.mix {
		v.mix[i] = rand.Uint64() | 1
	}
	table := make([]atomic.Pointer[Page], 64)
	v.table.Store(&table)
}

// Copy copies cached bytes of a chunk from byte off on to dst, and returns how many: up
// to the page's end, 0 if there are none or the cache has to be asked. Readers who run
// at the same time should have different lanes; any number will do.
func (v *View) Copy(dst []byte, chunk int, off int64, lane uint) (n int) {
	at := place{chunk, off / PageSize}
	tag := v.hash(at)
	p := v.bucket(tag).Load()
	for hops := 0; p != nil && p.tag.Load() != tag; hops++ {
		if hops == maxChain {
			return 0
		}
		p = p.next.Load()
	}
	if p == nil {
		return 0
	}
	s := v.enter(p, lane)
	if s == nil {
		return 0
	}
	if from := off % PageSize; p.live.Load() && p.at == at && from >= int64(p.lo) {
		if hi := p.hi.Load(); from < hi {
			n = copy(dst, p.buf[from:hi])
			if !p.used.Load() { // or the write would take the line from other readers
				p.used.Store(true)
			}
		}
	}
	s.page.Store(nil)
	return n
}

// enter returns a slot that says that p is being read, nil if no slot is free nearby.
func (v *View) enter(p *Page, lane uint) *slot {
	for i := range uint(laneTries) {
		s := &v.slots[(lane+i)%Lanes]
		if s.page.CompareAndSwap(nil, p) {
			return s
		}
	}
	return nil
}

// reading reports whether a reader may be in p.
func (v *View) reading(p *Page) bool {
	for i := range v.slots {
		if v.slots[i].page.Load() == p {
			return true
		}
	}
	return false
}

// readers reports whether there may be a reader.
func (v *View) readers() bool {
	for i := range v.slots {
		if v.slots[i].page.Load() != nil {
			return true
		}
	}
	return false
}

// hash returns the hash of a place.
func (v *View) hash(at place) uint64 {
	h := uint64(at.chunk)*v.mix[0] + uint64(at.n)*v.mix[1] + v.mix[2]
	return h ^ h>>32
}

// bucket returns where the pages with that hash are.
func (v *View) bucket(tag uint64) *atomic.Pointer[Page] {
	table := *v.table.Load()
	return &table[tag&uint64(len(table)-1)]
}

// The following are called with the lock.

// lookUp returns the page of a place, nil if there is none.
func (v *View) lookUp(at place) *Page {
	p := v.bucket(v.hash(at)).Load()
	for p != nil && p.at != at {
		p = p.next.Load()
	}
	return p
}

// full reports whether so many pages are as many as there are buckets.
func (v *View) full(pages int) bool { return pages >= len(*v.table.Load()) }

// grow doubles the number of buckets for the pages in the lists.
func (v *View) grow(lists ...*pageList) {
	table := make([]atomic.Pointer[Page], 2*len(*v.table.Load()))
	v.table.Store(&table)
	for _, l := range lists {
		for p := l.oldest(); p != nil; p = l.after(p) {
			v.link(p)
		}
	}
}

// link puts p into its bucket.
func (v *View) link(p *Page) {
	b := v.bucket(p.tag.Load())
	p.next.Store(b.Load())
	b.Store(p)
}

// unlink takes p out of its bucket. Readers who stand at p find the way on from there.
func (v *View) unlink(p *Page) {
	at := v.bucket(p.tag.Load())
	for at.Load() != p {
		at = &at.Load().next
	}
	at.Store(p.next.Load())
}
