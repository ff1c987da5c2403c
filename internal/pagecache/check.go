package pagecache

import "fmt"

// Size returns how many bytes of memory pages have: those that are cached, and those that
// are spare. The pages that are not counted are those that are open, or were dropped
// while a caller had them pinned.
func (c *Cache) Size() int64 {
	return int64(len(c.pages)+len(c.spare)) * PageSize
}

// CheckIdle returns an error if a cached page is in use, or Check has one. It takes time
// in proportion to the number of pages.
func (c *Cache) CheckIdle() error {
	for at, p := range c.pages {
		if p.pins != 0 || p.growing {
			return fmt.Errorf("page %v has %d pins, open %v", at, p.pins, p.growing)
		}
	}
	return c.Check()
}

// Check returns an error if what must hold of a cache between any two calls does not:
// that every cached page is in one list, that its bytes lie within it, and that nobody
// uses a spare page. It takes time in proportion to the number of pages.
func (c *Cache) Check() error {
	fresh, recent := 0, 0
	for at, p := range c.pages {
		if p.at != at || !p.cached || p.lo < 0 || p.lo > p.hi || p.hi > PageSize || len(p.buf) != PageSize {
			return fmt.Errorf("page %v: %d-%d of %d bytes, at %v, cached %v", at, p.lo, p.hi, len(p.buf), p.at, p.cached)
		}
		if p.seen {
			recent++
		} else {
			fresh++
		}
	}
	if fresh != c.fresh.len || recent != c.recent.len {
		return fmt.Errorf("lists of %d and %d pages, %d and %d are cached", c.fresh.len, c.recent.len, fresh, recent)
	}
	for _, l := range []*pageList{&c.fresh, &c.recent} {
		n := 0
		for p := l.root.next; p != &l.root; p = p.next {
			if p.next.prev != p || p.prev.next != p || c.pages[p.at] != p {
				return fmt.Errorf("page %v is linked wrong", p.at)
			}
			n++
		}
		if n != l.len {
			return fmt.Errorf("a list of %d pages has %d", l.len, n)
		}
	}
	for _, p := range c.spare {
		if p.cached || p.pins != 0 || p.growing {
			return fmt.Errorf("spare page %v: cached %v, %d pins, open %v", p.at, p.cached, p.pins, p.growing)
		}
	}
	if c.account.Total() > c.account.Limit {
		return fmt.Errorf("%d bytes of %d", c.account.Total(), c.account.Limit)
	}
	return nil
}
