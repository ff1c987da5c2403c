package pagecache

import (
	"math/rand/v2"
	"testing"

	"github.com/go-dmg/dmg/internal/budget"
	"github.com/go-dmg/dmg/internal/dmgtest"
)

// newTestCache returns a cache of its own, of a limit in pages. A quarter of
// the limit is not for pages.
func newTestCache(pages int64) (*Cache, *budget.Budget) {
	a := &budget.Budget{Limit: pages * PageSize}
	c := new(Cache)
	c.Init(a)
	return c, a
}

// put caches bytes [lo, hi) of page n of a chunk.
func put(t *testing.T, c *Cache, chunk int, n int64, lo, hi int) {
	t.Helper()
	p := c.Open(chunk, n*PageSize+int64(lo))
	if p == nil {
		t.Fatalf("no page for page %d of chunk %d", n, chunk)
	}
	for i := lo; i < hi; i++ {
		p.buf[i] = pageByte(chunk, n, i)
	}
	c.Seal(p, p.at.n*PageSize+int64(hi))
}

// pageByte is what the tests keep at byte i of a page.
func pageByte(chunk int, n int64, i int) byte {
	return byte(chunk*31) ^ byte(n*7) ^ byte(i) ^ byte(i>>8)
}

// holds reports whether the cache has byte i of a page, without using it.
func holds(c *Cache, chunk int, n int64, i int) bool {
	p := c.view.lookUp(place{chunk, n})
	return p != nil && p.lo <= i && int64(i) < p.hi.Load()
}

// checkCache tests what must hold of a cache between any two calls. Pages that
// callers hold are those they opened and have not closed yet, and are in no
// cache.
func checkCache(t *testing.T, c *Cache, held int) {
	t.Helper()
	if err := c.Check(); err != nil {
		t.Fatal(err)
	}
	if held >= 0 {
		want := c.Size() + int64(held)*PageSize
		if got := c.account.Used[budget.Cache]; got != want {
			t.Fatalf("%d bytes are accounted for, %d pages are there", got, want/PageSize)
		}
	}
}

// One way through a large disk must leave what was read twice where it is,
// and what is used again and again must stay whatever else is read.
func TestCacheScan(t *testing.T) {
	c, _ := newTestCache(64) // 48 pages
	for n := range int64(8) {
		put(t, c, 1, n, 0, PageSize)
		c.Unpin(c.Pin(1, n*PageSize))
	}
	for n := range int64(1000) {
		put(t, c, 2, n, 0, PageSize)
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
				put(t, c, chunk, n, 0, PageSize)
			}
			c.Unpin(c.Pin(chunk, n*PageSize))
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
		put(t, c, 0, n, 0, PageSize)
	}
	var pinned []*Page
	for n := range int64(6) {
		pinned = append(pinned, c.Pin(0, n*PageSize+5))
	}
	if p := c.Open(0, 99*PageSize); p != nil {
		t.Fatal("a page is taken from its reader")
	}
	if c.Shrink() || c.Lend() != nil {
		t.Fatal("memory is taken from a page's reader")
	}
	c.Unpin(pinned[3])
	put(t, c, 0, 99, 0, PageSize)
	if holds(c, 0, 3, 0) || !holds(c, 0, 99, 0) {
		t.Error("the only page that nobody reads was not the one to go")
	}
	// Forgotten pages are read to the end too.
	c.DropPages(0, 1<<40)
	if n := c.fresh.len + c.recent.len; n != 0 {
		t.Errorf("%d pages of a chunk are left", n)
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
		c.Unpin(p)
	}
	checkCache(t, c, 0)
	for c.Shrink() {
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
	{"goes on to the end", 7, 100, 100, PageSize, 7, PageSize},
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
			p := c.view.lookUp(place{3, 2})
			if p == nil || p.lo != tt.wantLo || p.hi.Load() != int64(tt.wantHi) {
				t.Fatalf("cached is %+v, want bytes %d-%d", p, tt.wantLo, tt.wantHi)
			}
			for i := p.lo; i < int(p.hi.Load()); i++ {
				if p.buf[i] != pageByte(3, 2, i) {
					t.Fatalf("byte %d is wrong", i)
				}
			}
			if c.Pin(3, 2*PageSize+int64(tt.wantHi)%PageSize) != nil && tt.wantHi < PageSize {
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
	p := c.Open(0, 100)
	if p != c.view.lookUp(place{0, 0}) {
		t.Fatal("a page that ends where decoding goes on is not gone on with")
	}
	if c.Pin(0, 100) != nil {
		t.Error("a byte is found before it is decoded")
	}
	q := c.Open(0, 100)
	if q == p {
		t.Fatal("two readers append to one page")
	}
	for i := range PageSize {
		p.buf[i], q.buf[i] = pageByte(0, 0, i), pageByte(0, 0, i)
	}
	// The other is fuller by itself, and then not the one that is cached.
	c.Seal(q, 400)
	checkCache(t, c, -1)
	c.Seal(p, 500)
	checkCache(t, c, 0)
	if got := c.view.lookUp(place{0, 0}); got != p || got.hi.Load() != 500 {
		t.Errorf("cached are bytes %d-%d, want 0-500", got.lo, got.hi.Load())
	}
}

// Of an open page nothing is kept that was added before Discard: neither behind what
// the cache has, nor of a page of its own, nor of one that was dropped meanwhile.
func TestDiscard(t *testing.T) {
	c, _ := newTestCache(8)
	put(t, c, 0, 0, 0, 100)
	p := c.Open(0, 100)
	p.Put(make([]byte, 50), 100)
	c.Discard(p)
	if got := c.view.lookUp(place{0, 0}); got != p || got.lo != 0 || got.hi.Load() != 100 {
		t.Errorf("cached are bytes %d-%d, want 0-100", got.lo, got.hi.Load())
	}
	p = c.Open(0, PageSize+7)
	p.Put(make([]byte, 50), PageSize+7)
	c.Discard(p)
	if c.Has(0, 1) {
		t.Error("a page that was discarded is cached")
	}
	p = c.Open(0, 100)
	c.DropPage(0, 0)
	c.Discard(p)
	if c.Has(0, 0) {
		t.Error("a page that was dropped is cached")
	}
	checkCache(t, c, 0)
	if err := c.CheckIdle(); err != nil {
		t.Error(err)
	}
}

// CheckIdle tells of pages in use.
func TestCheckIdle(t *testing.T) {
	c, _ := newTestCache(8)
	put(t, c, 0, 0, 0, 100)
	p := c.Pin(0, 50)
	if c.CheckIdle() == nil {
		t.Error("a pinned page is not noticed")
	}
	if got := p.From(50); len(got) != 50 || got[0] != pageByte(0, 0, 50) {
		t.Errorf("%d bytes from byte 50 on", len(got))
	}
	c.Unpin(p)
	p = c.Open(0, 100)
	if c.CheckIdle() == nil {
		t.Error("an open page is not noticed")
	}
	c.Seal(p, 100)
	if err := c.CheckIdle(); err != nil {
		t.Error(err)
	}
}

// Any order of calls keeps the lists, the account and every byte as they
// should be.
func TestCacheRandom(t *testing.T) {
	dmgtest.Native(t)
	t.Parallel()
	rng := rand.New(rand.NewPCG(3, 1))
	c, a := newTestCache(24)
	type reader struct {
		p      *Page
		filler bool
		lo     int
	}
	var at []reader
	var given int64
	for range 50_000 {
		chunk, n := rng.IntN(3), int64(rng.IntN(12))
		switch k := rng.IntN(100); {
		case k < 30 && len(at) < 10:
			if p := c.Pin(chunk, n*PageSize+rng.Int64N(PageSize)); p != nil {
				at = append(at, reader{p: p})
			}
		case k < 60 && len(at) < 10:
			lo := rng.IntN(4) * (PageSize / 4)
			if p := c.Open(chunk, n*PageSize+int64(lo)); p != nil {
				at = append(at, reader{p, true, lo})
			}
		case k < 94 && len(at) > 0:
			i := rng.IntN(len(at))
			r := at[i]
			at = append(at[:i], at[i+1:]...)
			if !r.filler {
				c.Unpin(r.p)
				continue
			}
			hi := r.lo + rng.IntN(PageSize-r.lo+1)
			for i := r.lo; i < hi; i++ {
				r.p.buf[i] = pageByte(r.p.at.chunk, r.p.at.n, i)
			}
			c.Seal(r.p, r.p.at.n*PageSize+int64(hi))
		case k < 96:
			c.Shrink()
		case k < 97:
			c.DropPages(chunk, rng.Int64N(10)*PageSize)
		case given < 6*PageSize:
			if c.Lend() != nil {
				given += PageSize
			}
		}
		checkCache(t, c, -1)
		if a.Used[budget.Checkpoints] != given {
			t.Fatalf("%d bytes were given, %d are accounted for", given, a.Used[budget.Checkpoints])
		}
	}
	for _, r := range at {
		if r.filler {
			c.Seal(r.p, r.p.at.n*PageSize+int64(r.lo))
		} else {
			c.Unpin(r.p)
		}
	}
	checkCache(t, c, 0)
	if err := c.CheckIdle(); err != nil {
		t.Fatal(err)
	}
	for _, l := range []*pageList{&c.fresh, &c.recent} {
		for p := l.oldest(); p != nil; p = l.after(p) {
			for i := p.lo; i < int(p.hi.Load()); i++ {
				if p.buf[i] != pageByte(p.at.chunk, p.at.n, i) {
					t.Fatalf("byte %d of page %v is wrong", i, p.at)
				}
			}
		}
	}
	for c.Shrink() {
	}
	if a.Total() != given {
		t.Errorf("%d bytes are in use after all was given back, want %d", a.Total(), given)
	}
}
