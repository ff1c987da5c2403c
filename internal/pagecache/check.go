package pagecache

import "fmt"

// Size returns how many bytes of memory pages have: those that are cached, those that
// are spare, and those that were dropped while a reader was in them. The pages that are
// not counted are those that are open, or were dropped while a caller had them pinned.
func (c *Cache) Size() int64 {
	return int64(c.fresh.len+c.recent.len+len(c.spare)+len(c.leaving)) * PageSize
}

// CheckIdle returns an error if a cached page is in use, or Check has one. It takes time
// in proportion to the number of pages.
func (c *Cache) CheckIdle() error {
	for i := range c.view.slots {
		if p := c.view.slots[i].page.Load(); p != nil {
			return fmt.Errorf("a reader is in page %v", p.at)
		}
	}
	for _, l := range []*pageList{&c.fresh, &c.recent} {
		for p := l.oldest(); p != nil; p = l.after(p) {
			if p.pins != 0 || p.growing {
				return fmt.Errorf("page %v has %d pins, open %v", p.at, p.pins, p.growing)
			}
		}
	}
	return c.Check()
}

// Check returns an error if what must hold of a cache between any two calls does not:
// that every cached page is in one list and in its bucket, that its bytes lie within it,
// and that nobody uses a spare page. It takes time in proportion to the number of pages.
func (c *Cache) Check() error {
	for _, l := range []*pageList{&c.fresh, &c.recent} {
		n := 0
		for p := l.oldest(); p != nil; p = l.after(p) {
			hi := p.hi.Load()
			if !p.live.Load() || p.lo < 0 || int64(p.lo) > hi || hi > PageSize || len(p.buf) != PageSize {
				return fmt.Errorf("page %v: %d-%d of %d bytes, cached %v", p.at, p.lo, hi, len(p.buf), p.live.Load())
			}
			if p.newer.older != p || p.older.newer != p || c.list(p) != l || c.view.lookUp(p.at) != p || p.tag.Load() != c.view.hash(p.at) {
				return fmt.Errorf("page %v is linked wrong", p.at)
			}
			n++
		}
		if n != l.len {
			return fmt.Errorf("a list of %d pages has %d", l.len, n)
		}
	}
	linked := 0
	for i := range *c.view.table.Load() {
		for p := (*c.view.table.Load())[i].Load(); p != nil; p = p.next.Load() {
			linked++
		}
	}
	if linked != c.fresh.len+c.recent.len {
		return fmt.Errorf("%d pages are in buckets, %d in lists", linked, c.fresh.len+c.recent.len)
	}
	for _, l := range [][]*Page{c.spare, c.leaving} {
		for _, p := range l {
			if p.live.Load() || p.pins != 0 || p.growing {
				return fmt.Errorf("spare page %v: cached %v, %d pins, open %v", p.at, p.live.Load(), p.pins, p.growing)
			}
		}
	}
	if c.account.Total() > c.account.Limit {
		return fmt.Errorf("%d bytes of %d", c.account.Total(), c.account.Limit)
	}
	return nil
}
