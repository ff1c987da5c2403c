package dmg

import "github.com/go-dmg/dmg/internal/budget"

// pageSize is the unit in which decoded data is cached, in bytes. Pages are
// aligned to their chunk's start, as checkpoints are. It is small enough for
// random reads not to fill the cache with what nobody asked for, and large
// enough for the bookkeeping not to show beside decoding.
const pageSize = 32 << 10

// pageKey is a page's place: its chunk's index, and its number in the chunk.
type pageKey struct {
	chunk int
	n     int64
}

// page holds decoded bytes [lo, hi) of its place. Bytes in that range never
// change as long as the page is in the cache, so that they are copied without
// a lock; the one reader that fills the page may append to them.
type page struct {
	key    pageKey
	lo, hi int
	buf    []byte

	pins       int  // readers that copy from it
	growing    bool // a reader fills it
	cached     bool // reachable through cache.pages
	seen       bool // in the recent list, not in the new one
	prev, next *page
}

// pageList is a circular list of pages around a sentinel, most recently used
// first.
type pageList struct {
	root page
	len  int
}

func (l *pageList) init() { l.root.prev, l.root.next = &l.root, &l.root }

func (l *pageList) push(p *page) {
	p.prev, p.next = &l.root, l.root.next
	p.prev.next, p.next.prev = p, p
	l.len++
}

func (l *pageList) remove(p *page) {
	p.prev.next, p.next.prev = p.next, p.prev
	p.prev, p.next = nil, nil
	l.len--
}

// cache keeps decoded pages, the recently used ones longest. It is a segmented
// LRU: a page is new until it is read again and only then recent, so that one
// way through a large disk does not flush what is used all the time. The
// engine's lock guards it.
type cache struct {
	account *budget.Budget
	pages   map[pageKey]*page
	fresh   pageList // read once, or decoded on the way to what was read
	recent  pageList // read again
	spare   []*page  // with a buffer that is counted as taken
}

func (c *cache) init(a *budget.Budget) {
	c.account = a
	c.pages = make(map[pageKey]*page)
	c.fresh.init()
	c.recent.init()
}

// find returns the page that holds byte off of a chunk, pinned, or nil.
func (c *cache) find(chunk int, off int64) *page {
	p := c.pages[pageKey{chunk, off / pageSize}]
	if p == nil || int(off%pageSize) < p.lo || int(off%pageSize) >= p.hi {
		return nil
	}
	c.touch(p)
	p.pins++
	return p
}

// touch marks p as used.
func (c *cache) touch(p *page) {
	if p.seen {
		c.recent.remove(p)
	} else {
		c.fresh.remove(p)
		p.seen = true
	}
	c.recent.push(p)
}

// unpin ends a reader's use of p.
func (c *cache) unpin(p *page) {
	if p.pins--; p.pins == 0 && !p.cached {
		c.spare = append(c.spare, p)
	}
}

// open returns a page for the bytes of a chunk from off on: the one in the
// cache if it ends there, or one that is in no cache yet. It is nil if there is
// no memory for it. The caller owns the page until it gives it to close.
func (c *cache) open(chunk int, off int64) *page {
	key := pageKey{chunk, off / pageSize}
	if p := c.pages[key]; p != nil && p.hi == int(off%pageSize) && !p.growing {
		p.growing = true
		p.pins++
		return p
	}
	p := c.blank()
	if p != nil {
		p.key, p.pins, p.growing = key, 1, true
		p.lo, p.hi = int(off%pageSize), int(off%pageSize)
	}
	return p
}

// blank returns a page out of use, with a buffer: new, spare, or that of the page
// used longest ago. It is nil if there is none.
func (c *cache) blank() *page {
	if len(c.spare) == 0 {
		if c.mayGrow() && c.account.Take(budget.Cache, pageSize) {
			return &page{buf: make([]byte, pageSize)}
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
func (c *cache) mayGrow() bool {
	a := c.account
	return a.Used[budget.Cache]+a.Used[budget.Checkpoints]+pageSize <= a.Limit-a.Limit/4
}

// give returns a page's memory for checkpoints, nil if there is none.
func (c *cache) give() []byte {
	if c.mayGrow() && c.account.Take(budget.Checkpoints, pageSize) {
		return make([]byte, pageSize)
	}
	p := c.blank()
	if p == nil {
		return nil
	}
	c.account.Move(budget.Cache, budget.Checkpoints, pageSize)
	return p.buf
}

// takeBack makes memory that give returned a spare page again.
func (c *cache) takeBack(buf []byte) {
	c.account.Move(budget.Checkpoints, budget.Cache, pageSize)
	c.spare = append(c.spare, &page{buf: buf})
}

// close puts a page that open returned into the cache, filled up to hi. Of two
// pages with different bytes of the same place the fuller one stays.
func (c *cache) close(p *page, hi int) {
	p.hi, p.growing = hi, false
	old := c.pages[p.key]
	if !p.cached && p.hi > p.lo && (old == nil || old.hi-old.lo < p.hi-p.lo) {
		if old != nil {
			c.drop(old)
		}
		c.pages[p.key] = p
		p.cached, p.seen = true, false
		c.fresh.push(p)
	}
	c.unpin(p)
}

// drop takes p out of the cache. Its buffer becomes spare, at once or when the
// last reader is done with it.
func (c *cache) drop(p *page) {
	delete(c.pages, p.key)
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
func (c *cache) evict() {
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

// shrink gives one page's memory back to the account.
func (c *cache) shrink() bool {
	if len(c.spare) == 0 {
		c.evict()
	}
	n := len(c.spare)
	if n == 0 {
		return false
	}
	c.spare[n-1] = nil
	c.spare = c.spare[:n-1]
	c.account.Release(budget.Cache, pageSize)
	return true
}

// forgetPage drops one page of a chunk.
func (c *cache) forgetPage(chunk int, n int64) {
	if p := c.pages[pageKey{chunk, n}]; p != nil {
		c.drop(p)
	}
}

// forget drops all pages of a chunk, which has so many bytes.
func (c *cache) forget(chunk int, length int64) {
	if pages := length/pageSize + 1; pages < int64(len(c.pages)) {
		for n := range pages {
			c.forgetPage(chunk, n)
		}
		return
	}
	for key, p := range c.pages {
		if key.chunk == chunk {
			c.drop(p)
		}
	}
}
