// Package pagecache keeps decoded data in pages of one size, the recently used ones
// longest. Its memory comes out of a budget that others take from, too.
//
// It holds no lock: the caller guards every call with the lock that guards the budget.
// Only the bytes of a page may be used without: those of a pinned page, which never
// change, and those that the one caller adds who has the page open.
package pagecache

import "github.com/go-dmg/dmg/internal/budget"

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
// to them.
type Page struct {
	at     place
	lo, hi int
	buf    []byte

	pins       int  // callers that use it
	growing    bool // one of them has it open
	cached     bool // reachable through Cache.pages
	seen       bool // in the recent list, not in the new one
	prev, next *Page
}

// From returns the page's bytes from byte off of the chunk on, which Pin has found in
// it. They may be read until the page is unpinned.
func (p *Page) From(off int64) []byte { return p.buf[off%PageSize : p.hi] }

// Put writes b behind what an open page has, at byte off of the chunk. Nobody sees it
// before the page is sealed.
func (p *Page) Put(b []byte, off int64) { copy(p.buf[off%PageSize:], b) }

// End returns the offset in the chunk of the byte behind those that the page had when it
// was opened.
func (p *Page) End() int64 { return p.at.n*PageSize + int64(p.hi) }

// pageList is a circular list of pages around a sentinel, most recently used
// first.
type pageList struct {
	root Page
	len  int
}

func (l *pageList) init() { l.root.prev, l.root.next = &l.root, &l.root }

func (l *pageList) push(p *Page) {
	p.prev, p.next = &l.root, l.root.next
	p.prev.next, p.next.prev = p, p
	l.len++
}

func (l *pageList) remove(p *Page) {
	p.prev.next, p.next.prev = p.next, p.prev
	p.prev, p.next = nil, nil
	l.len--
}

// Cache is a segmented LRU of pages: a page is new until it is read again and only
// then recent, so that one way through a large disk does not flush what is used all
// the time. It must be initialized before use.
type Cache struct {
	account *budget.Budget
	pages   map[place]*Page
	fresh   pageList // read once, or decoded on the way to what was read
	recent  pageList // read again
	spare   []*Page  // with a buffer that is counted as taken
}

// Init makes c an empty cache, whose memory comes out of a.
func (c *Cache) Init(a *budget.Budget) {
	c.account = a
	c.pages = make(map[place]*Page)
	c.fresh.init()
	c.recent.init()
}

// Pin returns the page that holds byte off of a chunk, nil if there is none. The page
// and its bytes stay until Unpin.
func (c *Cache) Pin(chunk int, off int64) *Page {
	p := c.pages[place{chunk, off / PageSize}]
	if p == nil || int(off%PageSize) < p.lo || int(off%PageSize) >= p.hi {
		return nil
	}
	c.touch(p)
	p.pins++
	return p
}

// Has reports whether page n of a chunk is cached, or some of it.
func (c *Cache) Has(chunk int, n int64) bool { return c.pages[place{chunk, n}] != nil }

// touch marks p as used.
func (c *Cache) touch(p *Page) {
	if p.seen {
		c.recent.remove(p)
	} else {
		c.fresh.remove(p)
		p.seen = true
	}
	c.recent.push(p)
}

// Unpin ends a caller's use of p.
func (c *Cache) Unpin(p *Page) {
	if p.pins--; p.pins == 0 && !p.cached {
		c.spare = append(c.spare, p)
	}
}

// Open returns a page to put the bytes of a chunk from off on into: the one in the
// cache if it ends there, or one that is in no cache yet. It is nil if there is no
// memory for it. The caller must give the page to Seal or Discard.
func (c *Cache) Open(chunk int, off int64) *Page {
	at := place{chunk, off / PageSize}
	if p := c.pages[at]; p != nil && p.hi == int(off%PageSize) && !p.growing {
		p.growing = true
		p.pins++
		return p
	}
	p := c.blank()
	if p != nil {
		p.at, p.pins, p.growing = at, 1, true
		p.lo, p.hi = int(off%PageSize), int(off%PageSize)
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
	p.hi, p.growing = int(end-p.at.n*PageSize), false
	old := c.pages[p.at]
	if !p.cached && p.hi > p.lo && (old == nil || old.hi-old.lo < p.hi-p.lo) {
		if old != nil {
			c.drop(old)
		}
		c.pages[p.at] = p
		p.cached, p.seen = true, false
		c.fresh.push(p)
	}
	c.Unpin(p)
}

// Discard ends what Open began, but keeps nothing of what was added: a page that is in
// the cache has what it had, and one that is not, or was dropped meanwhile, has nothing.
func (c *Cache) Discard(p *Page) {
	if !p.cached {
		p.hi = p.lo
	}
	c.Seal(p, p.End())
}

// drop takes p out of the cache. Its buffer becomes spare, at once or when the
// last reader is done with it.
func (c *Cache) drop(p *Page) {
	delete(c.pages, p.at)
	if p.seen {
		c.recent.remove(p)
	} else {
		c.fresh.remove(p)
	}
	p.cached = false
	if p.pins == 0 {
		c.spare = append(c.spare, p)
	}
}

// evict drops the page that was used longest ago, but none that is being read.
// Recent pages may take three quarters of the cache. Beyond that the oldest of
// them become new again first, so that pages which were used much but long ago
// make room.
func (c *Cache) evict() {
	for c.recent.len > 3*(c.fresh.len+1) {
		old := c.recent.root.prev
		c.recent.remove(old)
		old.seen = false
		c.fresh.push(old)
	}
	for _, l := range []*pageList{&c.fresh, &c.recent} {
		for p := l.root.prev; p != &l.root; p = p.prev {
			if p.pins == 0 {
				c.drop(p)
				return
			}
		}
	}
}

// Shrink gives one page's memory back to the budget. It reports false if there is none
// to give: all pages are in use.
func (c *Cache) Shrink() bool {
	if len(c.spare) == 0 {
		c.evict()
	}
	n := len(c.spare)
	if n == 0 {
		return false
	}
	c.spare[n-1] = nil
	c.spare = c.spare[:n-1]
	c.account.Release(budget.Cache, PageSize)
	return true
}

// DropPage drops page n of a chunk.
func (c *Cache) DropPage(chunk int, n int64) {
	if p := c.pages[place{chunk, n}]; p != nil {
		c.drop(p)
	}
}

// DropPages drops all pages of a chunk, which has length bytes.
func (c *Cache) DropPages(chunk int, length int64) {
	if pages := length/PageSize + 1; pages < int64(len(c.pages)) {
		for n := range pages {
			c.DropPage(chunk, n)
		}
		return
	}
	for at, p := range c.pages {
		if at.chunk == chunk {
			c.drop(p)
		}
	}
}
