package pagecache

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/go-dmg/dmg/internal/dmgtest"
)

// Copy finds what is cached, to the page's end at most, and nothing else.
func TestViewCopy(t *testing.T) {
	c, _ := newTestCache(8)
	put(t, c, 1, 2, 100, 300)
	put(t, c, 1, 3, 0, PageSize)
	for _, tt := range []struct {
		name  string
		chunk int
		off   int64 // behind page 2's start
		n     int   // asked for
		want  int
	}{
		{"all", 1, 100, 1000, 200},
		{"the last byte", 1, 299, 1, 1},
		{"less than there is", 1, 150, 10, 10},
		{"before", 1, 99, 10, 0},
		{"behind", 1, 300, 10, 0},
		{"the next page", 1, PageSize, 2 * PageSize, PageSize},
		{"no page", 1, 2 * PageSize, 10, 0},
		{"another chunk", 0, 150, 10, 0},
		{"nothing", 1, 150, 0, 0},
	} {
		dst := make([]byte, tt.n)
		n := c.View().Copy(dst, tt.chunk, 2*PageSize+tt.off, uint(tt.n))
		if n != tt.want {
			t.Errorf("%s: %d bytes, want %d", tt.name, n, tt.want)
		}
		for i := range n {
			at := tt.off + int64(i)
			if dst[i] != pageByte(tt.chunk, 2+at/PageSize, int(at%PageSize)) {
				t.Fatalf("%s: byte %d is wrong", tt.name, i)
			}
		}
	}
	if err := c.CheckIdle(); err != nil {
		t.Error(err)
	}
}

// A page that a reader is in, without the lock, is taken for nothing else: it is neither
// evicted nor, once it is dropped, spare before the reader is done.
func TestViewHoldsPage(t *testing.T) {
	c, a := newTestCache(8) // 6 pages
	for n := range int64(6) {
		put(t, c, 0, n, 0, PageSize)
	}
	var slots []*slot
	for n := range int64(6) {
		s := c.view.enter(c.view.lookUp(place{0, n}), uint(n))
		if s == nil {
			t.Fatal("no slot is free")
		}
		slots = append(slots, s)
	}
	if c.CheckIdle() == nil || !c.Reading() {
		t.Error("readers are not noticed")
	}
	if c.Shrink() || c.Lend() != nil || c.Open(0, 99*PageSize) != nil {
		t.Fatal("a page is taken from its reader")
	}
	if n := c.View().Copy(make([]byte, 10), 0, 5, 63); n != 10 {
		t.Error("a page can't be read any more after it was not given up")
	}
	c.DropPages(0, 1<<40)
	if n := c.View().Copy(make([]byte, 10), 0, 5, 63); n != 0 {
		t.Error("a dropped page is read")
	}
	if c.Shrink() || len(c.spare) != 0 {
		t.Fatal("a dropped page is taken from its reader")
	}
	checkCache(t, c, 0)
	slots[3].page.Store(nil)
	put(t, c, 0, 99, 0, PageSize)
	for n, s := range slots {
		if p := s.page.Load(); p != nil && p.buf[77] != pageByte(0, int64(n), 77) {
			t.Errorf("page %d changed under its reader", n)
		}
		s.page.Store(nil)
	}
	for c.Shrink() {
	}
	if a.Total() != 0 || c.Reading() {
		t.Errorf("%d bytes can't be given back", a.Total())
	}
}

// Readers for whom there is no slot are told to ask the cache.
func TestViewFull(t *testing.T) {
	c, _ := newTestCache(8)
	put(t, c, 0, 0, 0, PageSize)
	p := c.view.lookUp(place{0, 0})
	for i := range laneTries {
		if c.view.enter(p, uint(5+i)) == nil {
			t.Fatal("no slot is free")
		}
	}
	if n := c.View().Copy(make([]byte, 10), 0, 5, 5); n != 0 {
		t.Error("a reader without a slot has read")
	}
	if n := c.View().Copy(make([]byte, 10), 0, 5, 5+laneTries); n != 10 {
		t.Error("a slot is free, and not used")
	}
}

// The table grows, and its chains stay short, also of a page in each of many chunks.
func TestViewTable(t *testing.T) {
	const n = 5000
	c, _ := newTestCache(2 * n)
	for i := range n {
		p := c.Open(i*64, int64(i%3)<<40)
		c.Seal(p, p.End()+1)
	}
	if err := c.Check(); err != nil {
		t.Fatal(err)
	}
	missed := 0
	for i := range n {
		if c.View().Copy(make([]byte, 1), i*64, int64(i%3)<<40, 0) != 1 {
			missed++
		}
	}
	if missed > n/1000 {
		t.Errorf("%d of %d pages are not found without the lock", missed, n)
	}
}

// TestViewStress has readers without the lock beside callers that fill pages, drop the
// pages of a chunk, and take memory. A reader gets the bytes of the place that it asked
// for, and none that were dropped before it asked.
func TestViewStress(t *testing.T) {
	dmgtest.NotEmulated(t)
	t.Parallel()
	const chunks, pages = 3, 5
	rounds := 100_000
	if dmgtest.Part() {
		rounds /= 5
	}
	if dmgtest.Raced() {
		rounds /= 5
	}
	c, a := newTestCache(10) // 7 pages of 15
	var mu sync.Mutex
	var version [chunks]atomic.Uint32 // of a chunk's bytes, which are all of it
	var wg, readers sync.WaitGroup
	var done atomic.Bool
	var hits [8]int
	for k := range hits {
		readers.Add(1)
		go func() {
			defer readers.Done()
			rng := rand.New(rand.NewPCG(2, uint64(k)))
			dst := make([]byte, PageSize)
			for !done.Load() {
				chunk, off := rng.IntN(chunks), rng.Int64N(pages*PageSize)
				before := version[chunk].Load()
				n := c.View().Copy(dst, chunk, off, uint(rng.IntN(5))) // few lanes, so that some miss
				after := version[chunk].Load()
				for i := 0; i < n; i += 1 + n/20 {
					b := dst[i]
					if age := b/chunks - byte(before); b%chunks != byte(chunk) || age > byte(after)-byte(before) {
						t.Errorf("a byte of chunk %d, version %d; want chunk %d, version %d-%d", b%chunks, b/chunks, chunk, before, after)
						return
					}
				}
				hits[k] += n
			}
		}()
	}
	for k := range 3 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			rng := rand.New(rand.NewPCG(1, uint64(k)))
			b := make([]byte, PageSize/2)
			for range rounds {
				chunk, off := rng.IntN(chunks), rng.Int64N(pages)*PageSize+rng.Int64N(2)*PageSize/2
				mu.Lock()
				v := version[chunk].Load()
				switch rng.IntN(100) {
				case 0:
					c.DropPages(chunk, pages*PageSize)
					if v < 255/chunks-1 {
						version[chunk].Store(v + 1)
					}
				case 1:
					c.Shrink()
				case 2:
					if b := c.Lend(); b != nil {
						clear(b)
						c.Return(b)
					}
				default:
					p := c.Open(chunk, off)
					mu.Unlock()
					if p == nil {
						mu.Lock()
						break
					}
					b[0] = byte(int(v)*chunks + chunk)
					for n := 1; n < len(b); n *= 2 {
						copy(b[n:], b[:n])
					}
					p.Put(b, off)
					mu.Lock()
					if v == version[chunk].Load() {
						c.Seal(p, off+PageSize/2)
					} else {
						c.Discard(p)
					}
				}
				mu.Unlock()
			}
		}()
	}
	wg.Wait()
	done.Store(true)
	readers.Wait()
	checkCache(t, c, 0)
	if err := c.CheckIdle(); err != nil {
		t.Error(err)
	}
	total := 0
	for _, n := range hits {
		total += n
	}
	if total == 0 {
		t.Error("no reader found anything")
	}
	for c.Shrink() {
	}
	if a.Total() != 0 {
		t.Errorf("%d bytes are in use after all was given back", a.Total())
	}
}
