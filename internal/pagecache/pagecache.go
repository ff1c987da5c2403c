// Package pagecache keeps decoded data in pages of one size, the recently used ones
// longest. Its memory comes out of a budget that others take from, too.
//
// A [Cache] holds no lock: the caller guards every call with the lock that guards the
// budget. Its [View] reads cached pages without that lock, and without writing to memory
// that other readers write to, so that reads scale with the cores. Besides, only the bytes
// of a page may be used without the lock: those of a pinned page, which never change, and
// those that the one caller adds who has the page open.
package pagecache

import (
	"sync/atomic"

	"github.com/go-dmg/dmg/internal/budget"
)

// PageSize is the unit in which decoded data is cached, in bytes. Pages are
// aligned to their chunk's start, as checkpoints are. It is small enough for
// random reads not to fill the cache with what nobody asked for, and large
// enough for the bookkeeping not to show beside decoding.
const PageSize = 32 << 10

// place is where a page belongs: its chunk's index, and its number in the chunk.
type place struct {
	chunk int
	n     int64
}

// Page holds decoded bytes [lo, hi) of its place. Bytes in that range never change
// as long as somebody may read them; the one caller that has the page open may append
// to them. A page out of use is used again for another place.
type Page struct {
	// These change only while nobody may read the page. A reader without the lock uses
	// them after it has found live set while the page stands in the reader's slot.
	at  place
	lo  int
	buf []byte

	// Readers without the lock may see these of any page at any time.
	hi   atomic.Int64         // grows, as long as somebody may read the page
	live atomic.Bool          // in the cache, and may be read
	used atomic.Bool          // read since evict last looked at it
	tag  atomic.Uint64        // the hash of at
	next atomic.Pointer[Page] // in the bucket of View's table

	// These are guarded by the lock.
	pins         int  // callers that use it, but for those in slots
	growing      bool // one of them has it open
	seen         bool // in the recent list, not in the new one
	older, newer *Page
}

// length returns how many bytes the page has.
func (p *Page) length() int64 { return p.hi.Load() - int64(p.lo) }

// From returns the page's bytes from byte off of the chunk on, which Pin has found in
// it. They may be read until the page is unpinned.
func (p *Page) From(off int64) []byte { return p.buf[off%PageSize : p.hi.Load()] }

// Put writes b behind what an open page has, at byte off of the chunk. Nobody sees it
// before the page is sealed.
func (p *Page) Put(b []byte, off int64) { copy(p.buf[off%PageSize:], b) }

// End returns the offset in the chunk of the byte behind those that the page had when it
// was opened.
func (p *Page) End() int64 { return p.at.n*PageSize + p.hi.Load() }

// pageList is a circular list of pages around a sentinel, newest first.
type pageList struct {
	root Page
	len  int
}

func (l *pageList) init() { l.root.newer, l.root.older = &l.root, &l.root }

func (l *pageList) push(p *Page) {
	p.newer, p.older = &l.root, l.root.older
	p.newer.older, p.older.newer = p, p
	l.len++
}

func (l *pageList) remove(p *Page) {
	p.newer.older, p.older.newer = p.older, p.newer
	p.newer, p.older = nil, nil
	l.len--
}

// oldest returns the page that was pushed first; nil if there is none.
func (l *pageList) oldest() *Page { return l.after(&l.root) }

// after returns the page that was pushed next after p; nil if there is none.
func (l *pageList) after(p *Page) *Page {
	if p.newer == &l.root {
		return nil
	}
	return p.newer
}

// Cache holds pages in two queues: a page is new until it is read again and only
// then recent, so that one way through a large disk does not flush what is used all
// the time. Reads leave a mark, and move nothing; evict sorts pages by their marks. It
// must be initialized before use.
type Cache struct {
	account *budget.Budget
	view    View
	fresh   pageList // read once, or decoded on the way to what was read
	recent  pageList // read again
	spare   []*Page  // with a buffer that is counted as taken
	leaving []*Page  // dropped, but a reader was in it when it was looked at last
	pins    int      // of all pages
}

// Init makes c an empty cache, whose memory comes out of a.
func (c *Cache) Init(a *budget.Budget) {
	c.account = a
	c.view.init()
	c.fresh.init()
	c.recent.init()
}

// View returns what reads c without the lock.
func (c *Cache) View() *View { return &c.view }

// Pin returns the page that holds byte off of a chunk, nil if there is none. The page
// and its bytes stay until Unpin.
func (c *Cache) Pin(chunk int, off int64) *Page {
	p := c.view.lookUp(place{chunk, off / PageSize})
	if p == nil || off%PageSize < int64(p.lo) || off%PageSize >= p.hi.Load() {
		return nil
	}
	p.used.Store(true)
	c.pin(p)
	return p
}

func (c *Cache) pin(p *Page) {
	p.pins++
	c.pins++
}

// Reading reports whether somebody is reading a page, or has one open: then memory may
// come free that is not to be had now.
func (c *Cache) Reading() bool { return c.pins > 0 || c.view.readers() }

// Has reports whether page n of a chunk is cached, or some of it.
func (c *Cache) Has(chunk int, n int64) bool { return c.view.lookUp(place{chunk, n}) != nil }

// Unpin ends a caller's use of p.
func (c *Cache) Unpin(p *Page) {
	c.pins--
	if p.pins--; p.pins == 0 && !p.live.Load() {
		c.retire(p)
	}
}

// Open returns a page to put the bytes of a chunk from off on into: the one in the
// cache if it ends there, or one that is in no cache yet. It is nil if there is no
// memory for it. The caller must give the page to Seal or Discard.
func (c *Cache) Open(chunk int, off int64) *Page {
	at := place{chunk, off / PageSize}
	if p := c.view.lookUp(at); p != nil && p.hi.Load() == off%PageSize && !p.growing {
		p.growing = true
		c.pin(p)
		return p
	}
	p := c.blank()
	if p != nil {
		c.pin(p)
		p.at, p.growing = at, true
		p.tag.Store(c.view.hash(at))
		p.lo = int(off % PageSize)
		p.hi.Store(off % PageSize)
	}
	return p
}

// blank returns a page out of use, with a buffer: new, spare, or that of the page
// used longest ago. It is nil if there is none.
func (c *Cache) blank() *Page {
	if len(c.spare) == 0 {
		if c.mayGrow() && c.account.Take(budget.Cache, PageSize) {
			return &Page{buf: make([]byte, PageSize)}
		}
	}
	p := c.takeSpare()
	if p != nil && budget.Checks {
		for i := range p.buf {
			p.buf[i] = 0xDB // whoever reads it still will notice
		}
	}
	return p
}

// takeSpare returns a spare page, or that of the page used longest ago. It is nil if
// there is none.
func (c *Cache) takeSpare() *Page {
	if len(c.spare) == 0 && !c.collect() {
		c.evict()
	}
	n := len(c.spare)
	if n == 0 {
		return nil
	}
	p := c.spare[n-1]
	c.spare[n-1] = nil
	c.spare = c.spare[:n-1]
	return p
}

// mayGrow reports whether pages may take more memory: all of the limit but the
// quarter that is left to decoders.
func (c *Cache) mayGrow() bool {
	a := c.account
	return a.Used[budget.Cache]+a.Used[budget.Checkpoints]+PageSize <= a.Limit-budget.ShareDecoders.Of(a.Limit)
}

// Lend returns PageSize bytes of memory for checkpoints, nil if there are none. They
// count as checkpoints until Return.
func (c *Cache) Lend() []byte {
	if c.mayGrow() && c.account.Take(budget.Checkpoints, PageSize) {
		return make([]byte, PageSize)
	}
	p := c.blank()
	if p == nil {
		return nil
	}
	c.account.Move(budget.Cache, budget.Checkpoints, PageSize)
	return p.buf
}

// Return makes memory that Lend returned a spare page again.
func (c *Cache) Return(buf []byte) {
	c.account.Move(budget.Checkpoints, budget.Cache, PageSize)
	c.spare = append(c.spare, &Page{buf: buf})
}

// Seal puts a page that Open returned into the cache, filled up to byte end of the
// chunk. Of two pages with different bytes of the same place the fuller one stays.
func (c *Cache) Seal(p *Page, end int64) {
	p.hi.Store(end - p.at.n*PageSize)
	p.growing = false
	old := c.view.lookUp(p.at)
	if !p.live.Load() && p.length() > 0 && (old == nil || old.length() < p.length()) {
		if old != nil {
			c.drop(old)
		}
		c.insert(p)
	}
	c.Unpin(p)
}

// insert makes p a new page of the cache.
func (c *Cache) insert(p *Page) {
	if pages := c.fresh.len + c.recent.len; c.view.full(pages) {
		c.view.grow(&c.fresh, &c.recent)
	}
	p.seen = false
	c.fresh.push(p)
	p.used.Store(false)
	p.live.Store(true)
	c.view.link(p)
}

// Discard ends what Open began, but keeps nothing of what was added: a page that is in
// the cache has what it had, and one that is not, or was dropped meanwhile, has nothing.
func (c *Cache) Discard(p *Page) {
	p.growing = false
	c.Unpin(p)
}

// list returns the list that p is in.
func (c *Cache) list(p *Page) *pageList {
	if p.seen {
		return &c.recent
	}
	return &c.fresh
}

// drop takes p out of the cache. Its buffer becomes spare, at once or when the
// last reader is done with it.
func (c *Cache) drop(p *Page) {
	p.live.Store(false)
	c.view.unlink(p)
	c.list(p).remove(p)
	if p.pins == 0 {
		c.retire(p)
	}
}

// retire makes p, which is not in the cache and not pinned, a spare page, unless a reader
// without the lock is still in it.
func (c *Cache) retire(p *Page) {
	if c.view.reading(p) {
		c.leaving = append(c.leaving, p)
	} else {
		c.spare = append(c.spare, p)
	}
}

// collect makes the dropped pages spare whose readers are done. It reports whether there
// are any. New readers they had none: they are not live.
func (c *Cache) collect() bool {
	left := c.leaving[:0]
	for _, p := range c.leaving {
		if c.view.reading(p) {
			left = append(left, p)
		} else {
			c.spare = append(c.spare, p)
		}
	}
	clear(c.leaving[len(left):])
	c.leaving = left
	return len(c.spare) > 0
}

// evictLook is how many pages evict looks at before it takes one that was read again:
// the lock is held meanwhile.
const evictLook = 256

// evict drops a page that was not read for long, but none that is being read. A new page
// that was read again is recent from then on. Recent pages may take three quarters of the
// cache. Beyond that the oldest of them that were not read since they became recent, or
// since they were looked at last, are new again, so that pages which were used much but
// long ago make room.
func (c *Cache) evict() {
	for range evictLook {
		l, to := &c.fresh, &c.fresh
		if c.recent.len > 3*(c.fresh.len+1) {
			l = &c.recent
		}
		p := l.oldest()
		if p == nil {
			break
		}
		if p.used.Load() {
			p.used.Store(false)
			to = &c.recent
		} else if l == &c.fresh && c.give(p) {
			return
		}
		l.remove(p)
		p.seen = to == &c.recent
		to.push(p)
	}
	for _, l := range []*pageList{&c.fresh, &c.recent} {
		for p := l.oldest(); p != nil; p = l.after(p) {
			if c.give(p) {
				return
			}
		}
	}
}

// give drops p, and reports true, if nobody is reading it.
func (c *Cache) give(p *Page) bool {
	if p.pins > 0 {
		return false
	}
	p.live.Store(false) // no reader comes from now on
	if c.view.reading(p) {
		p.live.Store(true)
		return false
	}
	c.view.unlink(p)
	c.list(p).remove(p)
	c.spare = append(c.spare, p)
	return true
}

// Shrink gives one page's memory back to the budget. It reports false if there is none
// to give: all pages are in use.
func (c *Cache) Shrink() bool {
	if c.takeSpare() == nil {
		return false
	}
	c.account.Release(budget.Cache, PageSize)
	return true
}

// DropPage drops page n of a chunk.
func (c *Cache) DropPage(chunk int, n int64) {
	if p := c.view.lookUp(place{chunk, n}); p != nil {
		c.drop(p)
	}
}

// DropPages drops all pages of a chunk, which has length bytes.
func (c *Cache) DropPages(chunk int, length int64) {
	if pages := length/PageSize + 1; pages < int64(c.fresh.len+c.recent.len) {
		for n := range pages {
			c.DropPage(chunk, n)
		}
		return
	}
	for _, l := range []*pageList{&c.fresh, &c.recent} {
		for p := l.oldest(); p != nil; {
			next := l.after(p)
			if p.at.chunk == chunk {
				c.drop(p)
			}
			p = next
		}
	}
}
