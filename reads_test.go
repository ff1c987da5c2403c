package dmg

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-dmg/dmg/internal/dmgtest"
)

// R1: once the way there has been decoded, a read of 4 KiB decodes no more
// than a checkpoint's spacing and what it asks for.
func TestRandomReadsDecodeLittle(t *testing.T) {
	dmgtest.Native(t)
	t.Parallel()
	const n = 4096
	for _, tt := range []struct {
		workload
		limit   int64
		thinned bool // there are more checkpoints than their share holds
		most    func(im *Image) int64
	}{
		{workload{codecs: allCodecs[1:2], size: 16 << 20}, 64 << 20, false, func(*Image) int64 { return minSpacing + n }},
		{workload{codecs: allCodecs[1:2], size: 16 << 20}, 2 << 20, true, func(im *Image) int64 { return spacingOf(im) + n }},
		{workload{codecs: allCodecs[1:2], size: 16 << 20, chunk: 2048}, 2 << 20, true, func(im *Image) int64 { return spacingOf(im) + n }},
		{workload{codecs: allCodecs[1:2], size: 16 << 20, kind: "mixed"}, 600 << 10, true, func(im *Image) int64 { return spacingOf(im) + n }},
		// A bzip2 checkpoint is a block, and in it the cursors.
		{workload{codecs: allCodecs[2:3]}, 64 << 20, false, func(*Image) int64 { return cursorSpacing + n }},
		{workload{codecs: allCodecs[2:3]}, 7 << 20, false, func(*Image) int64 { return cursorSpacing + n }},
	} {
		if dmgtest.Part() && tt.size > 0 {
			tt.size /= 2
			tt.limit = max(tt.limit/2, 600<<10)
		}
		t.Run(fmt.Sprint(tt.workload, "/", tt.limit>>20, "MiB"), func(t *testing.T) {
			ti := tt.image(t)
			im := ti.open(t, tt.limit, nil)
			ti.wayThrough(t, im, 1<<20)
			if thinned := spacingOf(im) > minSpacing; thinned != tt.thinned {
				t.Fatalf("the spacing is %d: the test is not what it says", spacingOf(im))
			}
			rng := rand.New(rand.NewPCG(1, 1))
			decoded := im.Stats().BytesDecoded
			for range fewer(1000, 4) {
				off := rng.Int64N(int64(len(ti.disk)) - n)
				ti.mustRead(t, im, off, n)
				now := im.Stats().BytesDecoded
				if now-decoded > tt.most(im) {
					t.Fatalf("a read at %d decoded %d bytes, want %d at most", off, now-decoded, tt.most(im))
				}
				decoded = now
			}
		})
	}
}

// R2: reading on where the last read ended decodes nothing twice.
func TestSequentialReadsDecodeOnce(t *testing.T) {
	dmgtest.Native(t)
	t.Parallel()
	for _, w := range layouts("mixed") {
		t.Run(w.String(), func(t *testing.T) {
			ti := w.image(t)
			for _, step := range []int{4096, 1000, 300_000}[:fewer(3, 1)] {
				counter := new(dmgtest.Counter)
				im := ti.open(t, 16<<20, func(r io.ReaderAt) io.ReaderAt { counter.R = r; return counter })
				counter.Reset()
				ti.wayThrough(t, im, step)
				s := im.Stats()
				if most := int64(len(ti.disk)) * 105 / 100; s.BytesDecoded > most {
					t.Errorf("steps of %d: %d bytes decoded of %d", step, s.BytesDecoded, len(ti.disk))
				}
				if s.BytesRead != int64(len(ti.disk)) {
					t.Errorf("steps of %d: BytesRead is %d", step, s.BytesRead)
				}
				// What Stats says of the source is what the source saw.
				if s.SourceBytes != counter.Bytes() || s.SourceReads != int64(counter.Calls()) {
					t.Errorf("steps of %d: %d bytes in %d reads, the source counts %d in %d", step, s.SourceBytes, s.SourceReads, counter.Bytes(), counter.Calls())
				}
				if s.SourceBytes > int64(len(ti.file))*105/100 {
					t.Errorf("steps of %d: %d bytes fetched of a file of %d", step, s.SourceBytes, len(ti.file))
				}
			}
		})
	}
}

// Several readers, each going on where it stopped, don't cost each other what
// was decoded for them.
func TestInterleavedReadersDecodeOnce(t *testing.T) {
	t.Parallel()
	w := workload{codecs: allCodecs[1:2], size: fewer[int64](16<<20, 4)}
	ti := w.image(t)
	im := ti.open(t, 32<<20, nil)
	ti.wayThrough(t, im, 1<<20) // so that all of them can begin where they do
	const readers = 8
	part := int64(len(ti.disk)) / readers
	before := im.Stats().BytesDecoded
	p := make([]byte, 4096)
	for at := int64(0); at < part; at += int64(len(p)) {
		for r := range int64(readers) {
			ti.mustReadInto(t, im, p, r*part+at)
		}
	}
	if n := im.Stats().BytesDecoded - before; n > int64(len(ti.disk))*105/100+readers*minSpacing {
		t.Errorf("%d readers decoded %d bytes of %d", readers, n, len(ti.disk))
	}
}

// R3: what is in the cache is not decoded again, and what takes no decoding is
// in no cache.
func TestCacheHits(t *testing.T) {
	dmgtest.Native(t)
	t.Parallel()
	for _, w := range layouts("mixed") {
		t.Run(w.String(), func(t *testing.T) {
			ti := w.image(t)
			im := ti.open(t, 64<<20, nil)
			ti.wayThrough(t, im, 65536)
			first := im.Stats()
			ti.wayThrough(t, im, 4096)
			ti.wayThrough(t, im, 1<<20)
			second := im.Stats()
			if second.BytesDecoded != first.BytesDecoded || second.SourceBytes != first.SourceBytes {
				t.Errorf("warm reads decoded %d and fetched %d bytes", second.BytesDecoded-first.BytesDecoded, second.SourceBytes-first.SourceBytes)
			}
			if second.CacheHits <= first.CacheHits || second.CacheBytes == 0 {
				t.Errorf("%d hits in a cache of %d bytes", second.CacheHits-first.CacheHits, second.CacheBytes)
			}
		})
	}
	for _, m := range []dmgtest.Method{dmgtest.Raw, dmgtest.Zero, dmgtest.Ignore} {
		t.Run(Method(m).String(), func(t *testing.T) {
			disk := make([]byte, 4<<20)
			o := dmgtest.Options{Codecs: []dmgtest.Method{m}, ChunkSectors: 2048}
			if m == dmgtest.Raw {
				disk = dmgtest.Random(1, 4<<20).Bytes()
			} else if m == dmgtest.Ignore {
				o = dmgtest.Options{ChunkSectors: 2048, Zeros: dmgtest.ZeroIgnore}
			} else {
				o = dmgtest.Options{ChunkSectors: 2048}
			}
			ti := testImage{disk, dmgtest.Image(t, disk, o)}
			im := ti.open(t, 64<<20, nil)
			ti.wayThrough(t, im, 4096)
			ti.wayThrough(t, im, 1<<20)
			s := im.Stats()
			if s.BytesDecoded != 0 || s.CacheBytes != 0 || s.CheckpointBytes != 0 || s.CacheHits != 0 {
				t.Errorf("%+v: want neither decoding nor cache", s)
			}
			if m != dmgtest.Raw && s.SourceReads != 0 {
				t.Errorf("zeros were read from the source %d times", s.SourceReads)
			}
			// One disk image may hold the limit many times over.
			if m == dmgtest.Raw && s.SourceBytes != 2*int64(len(disk)) {
				t.Errorf("%d bytes were fetched of %d read", s.SourceBytes, 2*len(disk))
			}
		})
	}
}

// A read larger than the cache does not flush it.
func TestLargeReadSparesCache(t *testing.T) {
	dmgtest.NotRaced(t)
	t.Parallel()
	w := workload{codecs: allCodecs[1:2], size: 16 << 20}
	ti := w.image(t)
	im := ti.open(t, 8<<20, nil)
	const hot = 256 << 10
	for range 3 {
		for off := int64(0); off < hot; off += 4096 {
			ti.mustRead(t, im, off, 4096)
		}
	}
	ti.mustRead(t, im, 0, len(ti.disk))
	before := im.Stats().BytesDecoded
	for off := int64(0); off < hot; off += 4096 {
		ti.mustRead(t, im, off, 4096)
	}
	if n := im.Stats().BytesDecoded - before; n != 0 {
		t.Errorf("%d of %d bytes had to be decoded again after a read of everything", n, hot)
	}
}

// R5: a random read fetches the compressed bytes it decodes, 64 KiB more at
// most, in few calls.
func TestRandomReadsFetchLittle(t *testing.T) {
	dmgtest.Native(t)
	t.Parallel()
	const n = 4096
	for _, tt := range []struct {
		workload
		limit int64
		calls int64 // a read, at most
	}{
		{workload{codecs: allCodecs[1:2], size: 16 << 20}, 64 << 20, 1},
		{workload{codecs: allCodecs[1:2], size: 16 << 20}, 2 << 20, 2},
		{workload{codecs: allCodecs[1:2], size: 16 << 20, kind: "random"}, 64 << 20, 2},
		{workload{codecs: allCodecs[1:2], size: 16 << 20, kind: "random"}, 2 << 20, 8},
		{workload{codecs: allCodecs[1:2], size: 16 << 20, chunk: 2048}, 2 << 20, 4}, // from one chunk into the next
	} {
		if dmgtest.Part() {
			tt.size /= 2
		}
		t.Run(fmt.Sprint(tt.workload, tt.kind, "/", tt.limit>>10, "KiB"), func(t *testing.T) {
			ti := tt.image(t)
			// Another engine, which keeps all checkpoints, says what stored
			// bytes a span is made of.
			fine := ti.open(t, 1<<30, nil)
			ti.wayThrough(t, fine, 1<<20)
			counter := new(dmgtest.Counter)
			im := ti.open(t, tt.limit, func(r io.ReaderAt) io.ReaderAt { counter.R = r; return counter })
			ti.wayThrough(t, im, 1<<20)
			rng := rand.New(rand.NewPCG(5, 5))
			worst, calls := int64(0), int64(0)
			for range fewer(500, 4) {
				off := rng.Int64N(int64(len(ti.disk)) - n)
				span := compressedSpan(im, fine, off, off+n)
				counter.Reset()
				ti.mustRead(t, im, off, n)
				worst = max(worst, counter.Bytes()-span)
				calls = max(calls, int64(counter.Calls()))
			}
			t.Logf("spacing %d: at most %d calls, %d bytes beyond the compressed span", spacingOf(im), calls, worst)
			if worst > 64<<10 {
				t.Errorf("a read fetched %d bytes more than it decodes", worst)
			}
			if calls > tt.calls {
				t.Errorf("a read took %d calls of the source, want %d", calls, tt.calls)
			}
		})
	}
}

// compressedSpan returns how many stored bytes stand between im's checkpoints
// before a range of the disk and its end, as the finer checkpoints of another
// engine know.
func compressedSpan(im, fine *Image, off, end int64) (n int64) {
	for i := im.find(off); i < len(im.chunks) && im.chunks[i].Offset < end; i++ {
		c := &im.chunks[i]
		from := max(0, off-c.Offset)
		to := min(c.Length, end-c.Offset)
		im.mu.Lock()
		start := im.mu.points.before(i, from).off
		im.mu.Unlock()
		fine.mu.Lock()
		last := c.DataLength
		if p, ok := fine.mu.points.after(i, to); ok {
			last = p.in
		}
		if start > 0 {
			p, _ := fine.mu.points.after(i, start)
			last -= p.in
		}
		fine.mu.Unlock()
		n += last
	}
	return n
}

// A cold read far inside a chunk fetches what stands before it, in large
// reads, and little beyond.
func TestColdReadFetchesTheWay(t *testing.T) {
	dmgtest.NotRaced(t)
	notForced(t)
	t.Parallel()
	w := workload{codecs: allCodecs[1:2], size: fewer[int64](16<<20, 4)}
	ti := w.image(t)
	fine := ti.open(t, 1<<30, nil)
	ti.wayThrough(t, fine, 1<<20)
	for part := range 8 {
		counter := new(dmgtest.Counter)
		im := ti.open(t, 64<<20, func(r io.ReaderAt) io.ReaderAt { counter.R = r; return counter })
		off := int64(len(ti.disk)) * int64(part) / 8
		span := compressedSpan(im, fine, off, off+4096)
		counter.Reset()
		ti.mustRead(t, im, off, 4096)
		if over := counter.Bytes() - span; over > fetchBuffer {
			t.Errorf("a read at %d fetched %d bytes more than it decodes", off, over)
		} else {
			t.Logf("at %d: %d calls, %d bytes beyond the span of %d", off, counter.Calls(), over, span)
		}
		if calls := int64(counter.Calls()); calls > 4+span/fetchBuffer {
			t.Errorf("a read at %d took %d calls for %d bytes", off, calls, span)
		}
	}
}

// Reads allocate nothing in the steady state: what they need is there from the
// reads before.
func TestReadsDontAllocate(t *testing.T) {
	if dmgtest.Raced() {
		t.Skip("the race detector allocates")
	}
	const n = 4096
	w := workload{codecs: allCodecs[1:2], size: 16 << 20}
	ti := w.image(t)
	size := int64(len(ti.disk))
	for _, tt := range []struct {
		name  string
		ti    testImage
		limit int64
		next  func(rng *rand.Rand, off int64) int64
	}{
		{"cached", ti, 64 << 20, func(rng *rand.Rand, _ int64) int64 { return rng.Int64N(1 << 20) }},
		{"sequential", ti, 4 << 20, func(_ *rand.Rand, off int64) int64 { return (off + n) % (size - n) }},
		{"resumed, more memory", ti, 16 << 20, func(rng *rand.Rand, _ int64) int64 { return rng.Int64N(size - n) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			im := tt.ti.open(t, tt.limit, nil)
			tt.ti.wayThrough(t, im, 64<<10)
			rng := rand.New(rand.NewPCG(2, 2))
			p := make([]byte, n)
			off := int64(0)
			read := func() {
				off = tt.next(rng, off)
				if k, err := im.ReadAt(p, off); k != n || err != nil {
					t.Errorf("ReadAt(%d, %d) = %d, %v", n, off, k, err)
				}
			}
			for range 300 {
				read()
			}
			if allocs := testing.AllocsPerRun(300, read); allocs != 0 {
				t.Errorf("%v allocations a read", allocs)
			}
		})
	}
}

// A read that resumes from a checkpoint allocates nothing.
func TestResumedReadsDontAllocate(t *testing.T) {
	dmgtest.NotRaced(t)
	ti := workload{codecs: allCodecs[1:2], size: 16 << 20}.image(t)
	im := ti.open(t, 2<<20, nil)
	ti.wayThrough(t, im, 64<<10)
	rng := rand.New(rand.NewPCG(2, 2))
	p := make([]byte, 4096)
	read := func() { im.ReadAt(p, rng.Int64N(16<<20-4096)) }
	for range 300 {
		read()
	}
	if dmgtest.Raced() {
		t.Skip("the race detector allocates")
	}
	if a := testing.AllocsPerRun(300, read); a != 0 {
		t.Errorf("%v allocations a read", a)
	}
}

// ReadAtContext ends when its context does: while it decodes, while it waits for
// another's decoding, and while it waits for memory. The next read is as ever.
func TestReadAtContext(t *testing.T) {
	ti := workload{codecs: []dmgtest.Method{dmgtest.Zlib}, size: 8 << 20}.image(t)
	gate := make(chan struct{})
	var closed atomic.Bool
	src := dmgtest.ReaderAtFunc(func(p []byte, off int64) (int, error) {
		if closed.Load() {
			<-gate
		}
		return bytes.NewReader(ti.file).ReadAt(p, off)
	})
	im, err := NewImage(src, int64(len(ti.file)), nil)
	if err != nil {
		t.Fatal(err)
	}
	cause := errors.New("enough")
	done, cancel := context.WithCancelCause(context.Background())
	cancel(cause)
	p := make([]byte, 4096)
	if n, err := im.ReadAtContext(done, p, 0); n != 0 || !errors.Is(err, cause) {
		t.Errorf("a context that is done: %d, %v", n, err)
	}
	// One reader decodes, and its source keeps it; another waits for it.
	closed.Store(true)
	first := make(chan error, 1)
	go func() {
		p := make([]byte, 4096)
		_, err := im.ReadAt(p, 4<<20)
		if err == nil && !bytes.Equal(p, ti.disk[4<<20:4<<20+4096]) {
			err = errors.New("wrong bytes")
		}
		first <- err
	}()
	for im.inFlight() == 0 {
		time.Sleep(time.Millisecond)
	}
	ctx, stop := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer stop()
	within(t, "a read that waits for another", func() {
		if n, err := im.ReadAtContext(ctx, p, 4<<20); n != 0 || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("ReadAtContext = %d, %v", n, err)
		}
	})
	closed.Store(false)
	close(gate)
	if err := <-first; err != nil {
		t.Error(err)
	}
	if n, err := im.ReadAtContext(context.Background(), p, 5<<20); err != nil || !bytes.Equal(p[:n], ti.disk[5<<20:5<<20+4096]) {
		t.Errorf("afterwards: %d, %v", n, err)
	}
	checkAtRest(t, &im.engine)
}

// inFlight returns how many reads decode.
func (e *engine) inFlight() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.mu.flights)
}
