package dmg

import (
	"math/rand/v2"
	"testing"

	"github.com/go-dmg/dmg/internal/budget"
	"github.com/go-dmg/dmg/internal/dmgtest"
)

// newTestCache returns a cache of its own, of a limit in pages. A quarter of
// the limit is not for pages.
func newTestCache(pages int64) (*cache, *budget.Budget) {
	a := &budget.Budget{Limit: pages * pageSize}
	c := new(cache)
	c.init(a)
	return c, a
}

// put caches bytes [lo, hi) of page n of a chunk.
func put(t *testing.T, c *cache, chunk int, n int64, lo, hi int) {
	t.Helper()
	p := c.open(chunk, n*pageSize+int64(lo))
	if p == nil {
		t.Fatalf("no page for page %d of chunk %d", n, chunk)
	}
	for i := lo; i < hi; i++ {
		p.buf[i] = pageByte(chunk, n, i)
	}
	c.close(p, hi)
}

// pageByte is what the tests keep at byte i of a page.
func pageByte(chunk int, n int64, i int) byte {
	return byte(chunk*31) ^ byte(n*7) ^ byte(i) ^ byte(i>>8)
}

// holds reports whether the cache has byte i of a page, without using it.
func holds(c *cache, chunk int, n int64, i int) bool {
	p := c.pages[pageKey{chunk, n}]
	return p != nil && p.lo <= i && i < p.hi
}

// checkCache tests what must hold of a cache between any two calls. Pages that
// callers hold are those they opened and have not closed yet, and are in no
// cache.
func checkCache(t *testing.T, c *cache, held int) {
	t.Helper()
	fresh, recent := 0, 0
	for key, p := range c.pages {
		if p.key != key || !p.cached || p.lo < 0 || p.lo > p.hi || p.hi > pageSize || len(p.buf) != pageSize {
			t.Fatalf("page %v: %d-%d of %d bytes, key %v, cached %v", key, p.lo, p.hi, len(p.buf), p.key, p.cached)
		}
		if p.seen {
			recent++
		} else {
			fresh++
		}
	}
	if fresh != c.fresh.len || recent != c.recent.len {
		t.Fatalf("lists of %d and %d pages, %d and %d are cached", c.fresh.len, c.recent.len, fresh, recent)
	}
	for _, l := range []*pageList{&c.fresh, &c.recent} {
		n := 0
		for p := l.root.next; p != &l.root; p = p.next {
			if p.next.prev != p || p.prev.next != p || c.pages[p.key] != p {
				t.Fatalf("page %v is linked wrong", p.key)
			}
			n++
		}
		if n != l.len {
			t.Fatalf("a list of %d pages has %d", l.len, n)
		}
	}
	for _, p := range c.spare {
		if p.cached || p.pins != 0 || p.growing {
			t.Fatalf("spare page %v: cached %v, %d pins, growing %v", p.key, p.cached, p.pins, p.growing)
		}
	}
	if held >= 0 {
		want := int64(len(c.pages)+len(c.spare)+held) * pageSize
		if got := c.account.Used[budget.Cache]; got != want {
			t.Fatalf("%d bytes are accounted for, %d pages are there", got, want/pageSize)
		}
	}
	if c.account.Total() > c.account.Limit {
		t.Fatalf("%d bytes of %d", c.account.Total(), c.account.Limit)
	}
}

// One way through a large disk must leave what was read twice where it is,
// and what is used again and again must stay whatever else is read.
func TestCacheScan(t *testing.T) {
	c, _ := newTestCache(64) // 48 pages
	for n := range int64(8) {
		put(t, c, 1, n, 0, pageSize)
		c.unpin(c.find(1, n*pageSize))
	}
	for n := range int64(1000) {
		put(t, c, 2, n, 0, pageSize)
		checkCache(t, c, 0)
	}
	for n := range int64(8) {
		if !holds(c, 1, n, 0) {
			t.Errorf("page %d, which was used, went before pages that never were", n)
		}
	}
	if !holds(c, 2, 999, 0) || !holds(c, 2, 999-39, 0) || holds(c, 2, 999-40, 0) {
		t.Error("of pages that were never used it is not the last 40 that stay")
	}
}

// Pages that were used much, but long ago, give way.
func TestCacheAges(t *testing.T) {
	c, _ := newTestCache(64)
	use := func(chunk int) {
		for n := range int64(48) {
			if !holds(c, chunk, n, 0) {
				put(t, c, chunk, n, 0, pageSize)
			}
			c.unpin(c.find(chunk, n*pageSize))
		}
	}
	for range 3 {
		use(1)
	}
	for range 6 {
		use(2)
	}
	old := 0
	for n := range int64(48) {
		if holds(c, 1, n, 0) {
			old++
		}
	}
	if old > 12 {
		t.Errorf("%d of 48 pages are those of the time before", old)
	}
	checkCache(t, c, 0)
}

// A page that is being read keeps its bytes and its memory, whatever else the
// cache is asked for.
func TestCachePins(t *testing.T) {
	c, a := newTestCache(8) // 6 pages
	for n := range int64(6) {
		put(t, c, 0, n, 0, pageSize)
	}
	var pinned []*page
	for n := range int64(6) {
		pinned = append(pinned, c.find(0, n*pageSize+5))
	}
	if p := c.open(0, 99*pageSize); p != nil {
		t.Fatal("a page is taken from its reader")
	}
	if c.shrink() || c.give() != nil {
		t.Fatal("memory is taken from a page's reader")
	}
	c.unpin(pinned[3])
	put(t, c, 0, 99, 0, pageSize)
	if holds(c, 0, 3, 0) || !holds(c, 0, 99, 0) {
		t.Error("the only page that nobody reads was not the one to go")
	}
	// Forgotten pages are read to the end too.
	c.forget(0, 1<<40)
	if len(c.pages) != 0 {
		t.Errorf("%d pages of a chunk are left", len(c.pages))
	}
	for n, p := range pinned {
		if n == 3 {
			continue
		}
		for i := range p.buf {
			if p.buf[i] != pageByte(0, int64(n), i) {
				t.Fatalf("byte %d of page %d changed under its reader", i, n)
			}
		}
		c.unpin(p)
	}
	checkCache(t, c, 0)
	for c.shrink() {
	}
	if a.Total() != 0 {
		t.Errorf("%d bytes can't be given back", a.Total())
	}
}

// openTests are two fillings of one page, one after the other.
var openTests = []struct {
	name           string
	lo, hi         int
	thenLo, thenHi int
	wantLo, wantHi int // in the cache in the end
}{
	{"goes on", 0, 100, 100, 300, 0, 300},
	{"goes on to the end", 7, 100, 100, pageSize, 7, pageSize},
	{"fuller", 200, 300, 0, 300, 0, 300},
	{"less full", 0, 300, 300 - 10, 310, 0, 300},
	{"as full", 0, 300, 400, 700, 0, 300},
	{"elsewhere, fuller", 0, 300, 400, 701, 400, 701},
	{"nothing", 0, 300, 500, 500, 0, 300},
	{"nothing more", 0, 300, 300, 300, 0, 300},
}

func TestCacheOpen(t *testing.T) {
	for _, tt := range openTests {
		t.Run(tt.name, func(t *testing.T) {
			c, _ := newTestCache(8)
			put(t, c, 3, 2, tt.lo, tt.hi)
			put(t, c, 3, 2, tt.thenLo, tt.thenHi)
			checkCache(t, c, 0)
			p := c.pages[pageKey{3, 2}]
			if p == nil || p.lo != tt.wantLo || p.hi != tt.wantHi {
				t.Fatalf("cached is %+v, want bytes %d-%d", p, tt.wantLo, tt.wantHi)
			}
			for i := p.lo; i < p.hi; i++ {
				if p.buf[i] != pageByte(3, 2, i) {
					t.Fatalf("byte %d is wrong", i)
				}
			}
			if c.find(3, 2*pageSize+int64(tt.wantHi)%pageSize) != nil && tt.wantHi < pageSize {
				t.Error("a byte is found that nobody decoded")
			}
		})
	}
}

// While one reader fills a page nobody sees more of it than is there, and
// nobody else appends to it.
func TestCacheGrowing(t *testing.T) {
	c, _ := newTestCache(8)
	put(t, c, 0, 0, 0, 100)
	p := c.open(0, 100)
	if p != c.pages[pageKey{0, 0}] {
		t.Fatal("a page that ends where decoding goes on is not gone on with")
	}
	if c.find(0, 100) != nil {
		t.Error("a byte is found before it is decoded")
	}
	q := c.open(0, 100)
	if q == p {
		t.Fatal("two readers append to one page")
	}
	for i := range pageSize {
		p.buf[i], q.buf[i] = pageByte(0, 0, i), pageByte(0, 0, i)
	}
	// The other is fuller by itself, and then not the one that is cached.
	c.close(q, 400)
	checkCache(t, c, -1)
	c.close(p, 500)
	checkCache(t, c, 0)
	if got := c.pages[pageKey{0, 0}]; got != p || got.hi != 500 {
		t.Errorf("cached are bytes %d-%d, want 0-500", got.lo, got.hi)
	}
}

// Any order of calls keeps the lists, the account and every byte as they
// should be.
func TestCacheRandom(t *testing.T) {
	dmgtest.Native(t)
	rng := rand.New(rand.NewPCG(3, 1))
	c, a := newTestCache(24)
	type reader struct {
		p      *page
		filler bool
		lo     int
	}
	var at []reader
	var given int64
	for range 50_000 {
		chunk, n := rng.IntN(3), int64(rng.IntN(12))
		switch k := rng.IntN(100); {
		case k < 30 && len(at) < 10:
			if p := c.find(chunk, n*pageSize+rng.Int64N(pageSize)); p != nil {
				at = append(at, reader{p: p})
			}
		case k < 60 && len(at) < 10:
			lo := rng.IntN(4) * (pageSize / 4)
			if p := c.open(chunk, n*pageSize+int64(lo)); p != nil {
				at = append(at, reader{p, true, lo})
			}
		case k < 94 && len(at) > 0:
			i := rng.IntN(len(at))
			r := at[i]
			at = append(at[:i], at[i+1:]...)
			if !r.filler {
				c.unpin(r.p)
				continue
			}
			hi := r.lo + rng.IntN(pageSize-r.lo+1)
			for i := r.lo; i < hi; i++ {
				r.p.buf[i] = pageByte(r.p.key.chunk, r.p.key.n, i)
			}
			c.close(r.p, hi)
		case k < 96:
			c.shrink()
		case k < 97:
			c.forget(chunk, rng.Int64N(10)*pageSize)
		case given < 6*pageSize:
			if c.give() != nil {
				given += pageSize
			}
		}
		checkCache(t, c, -1)
		if a.Used[budget.Checkpoints] != given {
			t.Fatalf("%d bytes were given, %d are accounted for", given, a.Used[budget.Checkpoints])
		}
	}
	for _, r := range at {
		if r.filler {
			c.close(r.p, r.lo)
		} else {
			c.unpin(r.p)
		}
	}
	checkCache(t, c, 0)
	for key, p := range c.pages {
		if p.pins != 0 || p.growing {
			t.Fatalf("page %v: %d pins, growing %v, with no reader left", key, p.pins, p.growing)
		}
		for i := p.lo; i < p.hi; i++ {
			if p.buf[i] != pageByte(key.chunk, key.n, i) {
				t.Fatalf("byte %d of page %v is wrong", i, key)
			}
		}
	}
	for c.shrink() {
	}
	if a.Total() != given {
		t.Errorf("%d bytes are in use after all was given back, want %d", a.Total(), given)
	}
}
