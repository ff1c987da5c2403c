package dmg

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/go-dmg/dmg/internal/budget"
	"github.com/go-dmg/dmg/internal/dmgtest"
)

// TestCachedReadsTogether has readers of cached pages beside readers that need a page's
// memory for decoders of another method, evictions, and the loss of a chunk's pages, as
// after a failure. Every byte is right, nobody is refused memory, and in the end
// none is missing.
func TestCachedReadsTogether(t *testing.T) {
	dmgtest.NotEmulated(t)
	t.Parallel()
	reads := fewer(3000, 20)
	methods := []dmgtest.Method{dmgtest.Zlib, dmgtest.LZFSE}
	ti := workload{codecs: methods, chunk: 128, size: 2 << 20}.image(t)
	zlib, lzfse := decoderOf(t, ti, 0), decoderOf(t, ti, 1)
	for _, tt := range []struct {
		name  string
		limit int64
	}{
		{"room for all", 16 << 20},
		{"room for both decoders", zlib + lzfse + 24*pageSize},
		{"room for one decoder", max(zlib, lzfse) + 2*pageSize},
	} {
		t.Run(tt.name, func(t *testing.T) {
			im := ti.open(t, tt.limit, nil)
			ti.wayThrough(t, im, 64<<10)
			var readers, others sync.WaitGroup
			var done atomic.Bool
			for k := range 8 {
				readers.Add(1)
				go func() {
					defer readers.Done()
					rng := rand.New(rand.NewPCG(uint64(k), 1))
					p := make([]byte, 4096)
					for range reads {
						off := rng.Int64N(int64(len(ti.disk) - len(p)))
						if k < 6 {
							off %= 256 << 10 // as a rule these are cached
						}
						if n, err := im.ReadAt(p, off); n != len(p) || err != nil || !bytes.Equal(p, ti.disk[off:off+int64(n)]) {
							t.Errorf("ReadAt(%d) = %d, %v, or wrong bytes", off, n, err)
							return
						}
					}
				}()
			}
			others.Add(1)
			go func() {
				defer others.Done()
				for k := 0; !done.Load(); k++ {
					switch k % 8 {
					case 0:
						squeeze(im)
					case 4:
						evict(im, k/8%len(im.chunks))
					default:
						if _, err := im.WriteTo(new(discard)); err != nil && !errors.Is(err, ErrMemoryLimit) {
							t.Errorf("WriteTo: %v", err)
						}
					}
				}
			}()
			readers.Wait()
			done.Store(true)
			others.Wait()
		})
	}
}

// discard is io.Discard without its ReadFrom.
type discard struct{}

func (*discard) Write(p []byte) (int, error) { return len(p), nil }

// decoderOf returns what a decoder of the image's chunk takes.
func decoderOf(t *testing.T, ti testImage, chunk int) int64 {
	im := ti.open(t, 0, nil)
	n, err := decoderMemory(im.src, &im.chunks[chunk], 0)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// A reader of a cached page, which takes no lock, wakes the first who waits for memory:
// it may have looked in vain because of that page.
func TestCachedReadWakes(t *testing.T) {
	ti := workload{codecs: allCodecs[1:2]}.image(t)
	im := ti.open(t, 0, nil)
	ti.mustRead(t, im, 0, 4096)
	e := &im.engine
	const busy = 1 << 20 // of a decoder at work, so that the waiter may hope
	e.mu.Lock()
	e.mu.account.Take(budget.Decoders, busy)
	e.mu.Unlock()
	var tries atomic.Int32
	var enough atomic.Bool
	result := make(chan error)
	go func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		result <- e.acquire(context.Background(), e.mu.account.Limit, 0, func() bool {
			tries.Add(1)
			return enough.Load()
		})
	}()
	for waiting := false; !waiting; {
		e.mu.Lock()
		waiting = len(e.mu.queue) > 0
		e.mu.Unlock()
	}
	before := tries.Load()
	enough.Store(true)
	ti.mustRead(t, im, 0, 4096)
	within(t, "the waiter", func() {
		if err := <-result; err != nil {
			t.Error(err)
		}
	})
	if n := tries.Load(); n <= before || e.waiters.Load() != 0 {
		t.Errorf("%d tries, then %d; %d wait", before, n, e.waiters.Load())
	}
	e.mu.Lock()
	e.mu.account.Release(budget.Decoders, busy)
	e.mu.Unlock()
}

// A read that asks for memory while all of it is pages that others are reading waits for
// them. It is not refused.
func TestMemoryOfReadPages(t *testing.T) {
	ti := workload{codecs: allCodecs[1:2]}.image(t)
	im := ti.open(t, 0, nil)
	ti.mustRead(t, im, 0, pageSize)
	e := &im.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.stuckLocked() != true {
		t.Error("somebody is at work")
	}
	pg := e.mu.cache.Pin(0, 0)
	if pg == nil {
		t.Fatal("no page is cached")
	}
	if e.stuckLocked() {
		t.Error("to wait for a page's reader is called vain")
	}
	e.mu.cache.Unpin(pg)
}
