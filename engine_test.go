package dmg

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-dmg/dmg/internal/budget"
	"github.com/go-dmg/dmg/internal/dmgtest"
	"github.com/go-dmg/dmg/internal/indexfile"
)

// fewer is n, or a part of it where decoding is slow.
func fewer[T int | int64](n, divisor T) T {
	if dmgtest.Slowed() {
		return n / divisor
	}
	return n
}

// A workload is a disk and how it is stored.
type workload struct {
	codecs []dmgtest.Method
	chunk  int64 // sectors; 0: one chunk
	size   int64
	kind   string // of content
}

var allCodecs = []dmgtest.Method{dmgtest.ADC, dmgtest.Zlib, dmgtest.Bzip2, dmgtest.LZFSE, dmgtest.LZMA}

func (w workload) String() string {
	name := "mixture"
	if len(w.codecs) == 1 {
		name = Method(w.codecs[0]).String()
	}
	if w.chunk == 0 {
		return name + "/one"
	}
	return fmt.Sprintf("%s/%dKiB", name, w.chunk/2)
}

// written are the images made so far: compressing takes longer than most of
// the tests that read them.
var written struct {
	sync.Mutex
	images map[string]testImage
}

// testImage is an image and the disk in it. Neither must be changed.
type testImage struct{ disk, file []byte }

// image returns the workload's image, 4 MiB unless it says otherwise.
func (w workload) image(tb testing.TB) testImage {
	tb.Helper()
	if w.size == 0 {
		w.size = fewer[int64](4<<20, 4)
	}
	key := fmt.Sprint(w.codecs, w.chunk, w.size, w.kind)
	written.Lock()
	defer written.Unlock()
	if im, ok := written.images[key]; ok {
		return im
	}
	var content dmgtest.Content
	switch w.kind {
	case "mixed": // with zeros, raw areas and chunks that are all zeros
		content = dmgtest.Mixed(7, w.size)
	case "random":
		content = dmgtest.Random(7, w.size)
	default:
		content = dmgtest.Text(7, w.size)
	}
	disk := content.Bytes()
	im := testImage{disk, dmgtest.Image(tb, disk, dmgtest.Options{Codecs: w.codecs, ChunkSectors: w.chunk, Level: 1})}
	if written.images == nil {
		written.images = make(map[string]testImage)
	}
	written.images[key] = im
	return im
}

// layouts are the codecs, each in one chunk and in chunks of 1 MiB.
func layouts(kind string) []workload {
	var all []workload
	for _, c := range allCodecs {
		for _, chunk := range []int64{0, fewer[int64](2048, 4)} {
			all = append(all, workload{codecs: []dmgtest.Method{c}, chunk: chunk, kind: kind})
		}
	}
	return all
}

// open opens the image through a source around its bytes; nil for none. When
// the test ends the engine must be at rest.
func (ti testImage) open(tb testing.TB, limit int64, around func(io.ReaderAt) io.ReaderAt) *Image {
	tb.Helper()
	var r io.ReaderAt = bytes.NewReader(ti.file)
	if around != nil {
		r = around(r)
	}
	im, err := NewImage(r, int64(len(ti.file)), &Options{MemoryLimit: limit})
	if err != nil {
		tb.Fatal(err)
	}
	if im.Size() != int64(len(ti.disk)) {
		tb.Fatalf("a disk of %d bytes, want %d", im.Size(), len(ti.disk))
	}
	tb.Cleanup(func() { checkAtRest(tb, &im.engine) })
	return im
}

// checkAtRest tests what must hold of an engine while nobody reads: no turn,
// no waiter and no pin is left, and the account is the sum of what is there.
func checkAtRest(tb testing.TB, e *engine) {
	tb.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.mu.flights) != 0 || len(e.mu.queue) != 0 {
		tb.Errorf("at rest: turns in %d chunks, %d readers waiting", len(e.mu.flights), len(e.mu.queue))
	}
	var want [budget.NumUses]int64
	for _, d := range e.mu.idle {
		want[budget.Decoders] += d.memory
	}
	if a := e.mu.idleParallel; a != nil {
		want[budget.Decoders] += a.memory
	}
	if err := e.mu.cache.CheckIdle(); err != nil {
		tb.Errorf("at rest: %v", err)
	}
	want[budget.Cache] = e.mu.cache.Size()
	want[budget.Checkpoints] = int64(len(e.mu.points.pages)) * pageSize
	for _, points := range e.mu.points.chunks {
		want[budget.Checkpoints] += chunkOverhead + int64(len(points))*checkpointOverhead
	}
	packed := &e.mu.points.packed
	if packed.made != len(packed.idle) {
		tb.Errorf("at rest: %d of %d unpackers are", len(packed.idle), packed.made)
	}
	want[budget.Checkpoints] += packed.memory + int64(packed.made)*indexfile.UnpackerMemory
	if a := &e.mu.account; a.Used != want {
		tb.Errorf("at rest: the account is %v, there is %v", a.Used, want)
	} else if a.Total() > a.Limit {
		tb.Errorf("at rest: %d bytes are in use of %d", a.Total(), a.Limit)
	}
}

// recordOf returns the record of the last checkpoint of the chunk at or before off.
func recordOf(tb testing.TB, im *Image, chunk int, off int64) []byte {
	tb.Helper()
	_, record, err := im.store.record(nil, chunk, off)
	if err != nil {
		tb.Fatal(err)
	}
	return record
}

// mustRead reads n bytes at off and compares them with the disk's.
func (ti testImage) mustRead(tb testing.TB, im io.ReaderAt, off int64, n int) {
	tb.Helper()
	p := make([]byte, n)
	ti.mustReadInto(tb, im, p, off)
}

func (ti testImage) mustReadInto(tb testing.TB, im io.ReaderAt, p []byte, off int64) {
	want := ti.disk[off:min(int64(len(ti.disk)), off+int64(len(p)))]
	n, err := im.ReadAt(p, off)
	if n != len(want) || err != nil && (err != io.EOF || n == len(p)) {
		tb.Errorf("ReadAt(%d, %d) = %d, %v", len(p), off, n, err)
		return
	}
	if !bytes.Equal(p[:n], want) {
		tb.Errorf("ReadAt(%d, %d): wrong bytes", len(p), off)
	}
}

// wayThrough reads the disk from start to end in steps.
func (ti testImage) wayThrough(tb testing.TB, im io.ReaderAt, step int) {
	tb.Helper()
	p := make([]byte, step)
	for off := 0; off < len(ti.disk) && !tb.Failed(); off += step {
		ti.mustReadInto(tb, im, p[:min(step, len(ti.disk)-off)], int64(off))
	}
}

// spacingOf is the present distance between checkpoints.
func spacingOf(im *Image) int64 {
	im.mu.Lock()
	defer im.mu.Unlock()
	return im.mu.points.spacing
}

// within fails the test if f takes much longer than it can: it is stuck then.
func within(t *testing.T, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(2 * time.Minute):
		buf := make([]byte, 1<<20)
		t.Fatalf("%s is stuck:\n%s", what, buf[:runtime.Stack(buf, true)])
	}
}

// R1: once the way there has been decoded, a read of 4 KiB decodes no more
// than a checkpoint's spacing and what it asks for.
func TestRandomReadsDecodeLittle(t *testing.T) {
	dmgtest.Native(t)
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
		if dmgtest.Slowed() && tt.size > 0 {
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
	for _, w := range layouts("mixed") {
		t.Run(w.String(), func(t *testing.T) {
			ti := w.image(t)
			for _, step := range []int{4096, 1000, 300_000}[:fewer(3, 3)] {
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

// R4: readers that want the same cold data decode it once, however each of
// them cuts it.
func TestSameColdMegabyte(t *testing.T) {
	dmgtest.NotEmulated(t)
	readers := fewer(64, 4)
	patterns := map[string]func(rng *rand.Rand, off, n int64) [][2]int64{
		"in one": func(_ *rand.Rand, off, n int64) [][2]int64 { return [][2]int64{{off, n}} },
		"in steps": func(_ *rand.Rand, off, n int64) (all [][2]int64) {
			for k := int64(0); k < n; k += 16 << 10 {
				all = append(all, [2]int64{off + k, min(16<<10, n-k)})
			}
			return all
		},
		"shuffled": func(rng *rand.Rand, off, n int64) (all [][2]int64) {
			for k := int64(0); k < n; k += 16 << 10 {
				all = append(all, [2]int64{off + k, min(16<<10, n-k)})
			}
			rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
			return all
		},
	}
	for _, w := range layouts("") {
		if w.codecs[0] == dmgtest.Bzip2 {
			continue
		}
		for name, pattern := range patterns {
			t.Run(w.String()+"/"+name, func(t *testing.T) {
				ti := w.image(t)
				counter := new(dmgtest.Counter)
				im := ti.open(t, 64<<20, func(r io.ReaderAt) io.ReaderAt { counter.R = r; return counter })
				size := int64(len(ti.disk))
				off, n := size/2, size/4 // 1 MiB, 2 MiB into the disk
				counter.Reset()
				start := make(chan struct{})
				var wg sync.WaitGroup
				for r := range readers {
					wg.Add(1)
					go func() {
						defer wg.Done()
						rng := rand.New(rand.NewPCG(uint64(r), 4))
						<-start
						for _, piece := range pattern(rng, off, n) {
							ti.mustRead(t, im, piece[0], int(piece[1]))
						}
					}()
				}
				close(start)
				within(t, "reading one megabyte", wg.Wait)
				// In one chunk the way there is decoded too.
				want, stored := n, int64(0)
				for c := range im.Chunks() {
					if c.Offset < off+n && off < c.Offset+c.Length {
						want = off + n - c.Offset
						stored += c.DataLength
					}
				}
				if w.chunk != 0 {
					want = n
				}
				if d := im.Stats().BytesDecoded; d > want+pageSize {
					t.Errorf("%d bytes decoded, want %d", d, want)
				}
				// An LZMA decoder's size is in the chunk's first bytes.
				if b := counter.Bytes(); b > stored+int64(readers)*128 {
					t.Errorf("%d bytes fetched of %d stored", b, stored)
				}
			})
		}
	}
}

// meeting is a source whose reads in some ranges wait until one has come in
// each of them. Readers that wait for each other never meet.
type meeting struct {
	r      io.ReaderAt
	ranges []Chunk
	mu     sync.Mutex
	here   map[int]bool
	all    chan struct{}
	late   atomic.Bool
}

func (m *meeting) ReadAt(p []byte, off int64) (int, error) {
	for i, c := range m.ranges {
		if c.DataOffset <= off && off < c.DataOffset+c.DataLength {
			m.mu.Lock()
			if !m.here[i] {
				m.here[i] = true
				if len(m.here) == len(m.ranges) {
					close(m.all)
				}
			}
			m.mu.Unlock()
			select {
			case <-m.all:
			case <-time.After(20 * time.Second):
				m.late.Store(true)
			}
		}
	}
	return m.r.ReadAt(p, off)
}

// R4: readers of different chunks don't wait for each other, nor do readers of
// different places in one chunk once there are checkpoints.
func TestReadersOverlap(t *testing.T) {
	for _, m := range allCodecs {
		w := workload{codecs: []dmgtest.Method{m}, chunk: fewer[int64](2048, 4)}
		t.Run(w.String(), func(t *testing.T) {
			ti := w.image(t)
			source := &meeting{here: make(map[int]bool), all: make(chan struct{})}
			im := ti.open(t, 64<<20, func(r io.ReaderAt) io.ReaderAt { source.r = r; return source })
			source.ranges = im.chunks[:3]
			var wg sync.WaitGroup
			for i := range source.ranges {
				wg.Add(1)
				go func() {
					defer wg.Done()
					ti.mustRead(t, im, source.ranges[i].Offset+1000, 5000)
				}()
			}
			within(t, "reading different chunks", wg.Wait)
			if source.late.Load() {
				t.Error("a reader waited for one of another chunk")
			}
		})
	}
	t.Run("zlib/one", func(t *testing.T) {
		w := workload{codecs: allCodecs[1:2], size: 16 << 20}
		ti := w.image(t)
		source := &meeting{here: make(map[int]bool), all: make(chan struct{})}
		im := ti.open(t, 8<<20, func(r io.ReaderAt) io.ReaderAt { source.r = r; return source })
		ti.wayThrough(t, im, len(ti.disk)) // which leaves only the end cached
		c := im.chunks[0]
		place := func(part int64) Chunk {
			return Chunk{DataOffset: c.DataOffset + c.DataLength*part/8, DataLength: c.DataLength / 8}
		}
		source.ranges = []Chunk{place(1), place(3)}
		var wg sync.WaitGroup
		for _, eighths := range []int64{3, 7} { // the middles of the second and fourth eighth
			wg.Add(1)
			go func() {
				defer wg.Done()
				ti.mustRead(t, im, c.Length*eighths/16, 5000)
			}()
		}
		within(t, "reading two places of a chunk", wg.Wait)
		if source.late.Load() {
			t.Error("a reader waited for one far away")
		}
	})
}

// A reader of what is cached never waits for the source.
func TestCachedReadsDontWait(t *testing.T) {
	w := workload{codecs: allCodecs[1:2]}
	ti := w.image(t)
	var block atomic.Bool
	blocked, release := make(chan struct{}, 1), make(chan struct{})
	im := ti.open(t, 64<<20, func(r io.ReaderAt) io.ReaderAt {
		return dmgtest.ReaderAtFunc(func(p []byte, off int64) (int, error) {
			if block.Load() {
				blocked <- struct{}{}
				<-release
			}
			return r.ReadAt(p, off)
		})
	})
	ti.mustRead(t, im, 0, 100_000)
	block.Store(true)
	var wg sync.WaitGroup
	wg.Add(1)
	go func() {
		defer wg.Done()
		ti.mustRead(t, im, int64(len(ti.disk))-5000, 4096)
	}()
	<-blocked
	block.Store(false)
	within(t, "reading cached bytes", func() { ti.mustRead(t, im, 500, 99_000) })
	close(release)
	wg.Wait()
}

// R5: a random read fetches the compressed bytes it decodes, 64 KiB more at
// most, in few calls.
func TestRandomReadsFetchLittle(t *testing.T) {
	dmgtest.Native(t)
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
		if dmgtest.Slowed() {
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
		start := im.mu.points.nearest(i, from)
		im.mu.Unlock()
		fine.mu.Lock()
		last := fine.mu.points.input(i, to)
		if last == 0 {
			last = c.DataLength
		}
		if start > 0 {
			last -= fine.mu.points.input(i, start)
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

// schedule is one reader of the model test: random reads, most of them short,
// some going on from the last, all compared with the disk.
func (ti testImage) schedule(t *testing.T, im *Image, seed uint64, reads int, budget int64) {
	rng := rand.New(rand.NewPCG(seed, 77))
	buf := make([]byte, 3<<20)
	last, size := int64(0), int64(len(ti.disk))
	for range reads {
		n := 1 + rng.IntN([]int{64, 4096, 4096, 70_000, 1 << 20, len(buf)}[min(5, rng.IntN(40)/6)])
		off := rng.Int64N(size)
		switch rng.IntN(4) {
		case 0: // on
			off = min(last, size-1)
		case 1: // near
			off = min(size-1, max(0, last+rng.Int64N(200_000)-100_000))
		}
		if budget -= int64(n); budget < 0 {
			return
		}
		p := buf[:n]
		ti.mustReadInto(t, im, p, off)
		if t.Failed() {
			return
		}
		last = min(size, off+int64(n))
	}
}

// Warm reads, cold reads and reads at the same time give the disk's bytes,
// whatever the order, the codec and the memory.
func TestModel(t *testing.T) {
	dmgtest.NotEmulated(t)
	mixture := append([]dmgtest.Method{dmgtest.Raw}, allCodecs...)
	for _, tt := range []struct {
		workload
		limits []int64
	}{
		{workload{codecs: mixture, chunk: 256, kind: "mixed"}, []int64{7 << 20, 16 << 20, 64 << 20}},
		{workload{codecs: allCodecs[1:2], kind: "mixed"}, []int64{zlibMemory + fetchBuffer, 500 << 10, 1 << 20, 8 << 20, 64 << 20}},
		{workload{codecs: allCodecs[2:3], kind: "mixed"}, []int64{bzip2Memory + fetchBuffer, 8 << 20, 64 << 20}},
		{workload{codecs: allCodecs[0:1], chunk: 512}, []int64{500 << 10, 8 << 20}},
		{workload{codecs: allCodecs[3:4], chunk: 512}, []int64{2 << 20, 8 << 20}},
		{workload{codecs: allCodecs[4:5], chunk: 512}, []int64{10 << 20, 32 << 20}},
	} {
		for _, limit := range tt.limits {
			t.Run(fmt.Sprintf("%v/%dKiB", tt.workload, limit>>10), func(t *testing.T) {
				ti := tt.image(t)
				im := ti.open(t, limit, nil)
				const readers = 16
				budget := fewer[int64](128<<20, 8) / readers
				if tt.codecs[0] != dmgtest.Zlib {
					budget /= 4 // slow where little is cached
				}
				var wg sync.WaitGroup
				for r := range readers {
					wg.Add(1)
					go func() {
						defer wg.Done()
						ti.schedule(t, im, uint64(r)+uint64(limit), 60, budget)
					}()
				}
				within(t, "reading at random", wg.Wait)
				checkAtRest(t, &im.engine)
			})
		}
	}
}

// R6: the least limit that fits a decoder serves any number of readers, and
// one byte less gives ErrMemoryLimit to all of them.
func TestLeastMemory(t *testing.T) {
	for _, m := range allCodecs {
		w := workload{codecs: []dmgtest.Method{m}, chunk: 512}
		t.Run(w.String(), func(t *testing.T) {
			ti := w.image(t)
			probe := ti.open(t, 0, nil)
			need := memoryFor(t, probe, &probe.chunks[0])
			for _, tt := range []struct {
				limit int64
				err   error
			}{
				{1, ErrMemoryLimit},
				{need - 1, ErrMemoryLimit},
				{need, nil},
				{need + pageSize, nil},
				{2 * need, nil},
			} {
				im := ti.open(t, tt.limit, nil)
				var wg sync.WaitGroup
				for r := range fewer(32, 4) {
					wg.Add(1)
					go func() {
						defer wg.Done()
						p := make([]byte, 3000)
						off := int64(r) * int64(len(ti.disk)-len(p)) / 31
						_, err := im.ReadAt(p, off)
						if !errors.Is(err, tt.err) {
							t.Errorf("limit %d: ReadAt: %v, want %v", tt.limit, err, tt.err)
						} else if err == nil && !bytes.Equal(p, ti.disk[off:off+int64(len(p))]) {
							t.Errorf("limit %d: wrong bytes at %d", tt.limit, off)
						}
						var chunk *ChunkError
						if err != nil && !errors.As(err, &chunk) {
							t.Errorf("limit %d: %v names no chunk", tt.limit, err)
						}
					}()
				}
				within(t, "reading with little memory", wg.Wait)
				checkAtRest(t, &im.engine)
			}
		})
	}
}

// memoryTests are run one by one, each in a process of its own: the garbage
// collector lets a heap grow in proportion to all that is in it.
var memoryTests = []struct {
	name   string
	w      workload
	limit  int64
	images int // open at once, each with its limit
}{
	{"mixture with LZMA", workload{codecs: allCodecs, chunk: 512, kind: "mixed"}, 32 << 20, 1},
	{"zlib", workload{codecs: allCodecs[1:2], size: 32 << 20}, 8 << 20, 1},
	{"zlib", workload{codecs: allCodecs[1:2], size: 32 << 20}, 32 << 20, 1},
	{"bzip2", workload{codecs: allCodecs[2:3]}, 16 << 20, 1},
	{"images", workload{codecs: allCodecs[1:2], size: 16 << 20}, 4 << 20, 4},
}

// memoryChild is set for the process that runs one of the memoryTests: its
// number and the image's name.
const memoryChild = "DMG_TEST_MEMORY"

// R6: whatever 64 readers do, what is in use stays under the limit and 8 MiB.
func TestMemoryInUse(t *testing.T) {
	dmgtest.NotEmulated(t)
	if dmgtest.Raced() {
		t.Skip("the race detector takes memory of its own")
	}
	if child := os.Getenv(memoryChild); child != "" {
		var i int
		var name string
		if _, err := fmt.Sscan(child, &i, &name); err != nil {
			t.Fatal(err)
		}
		readInMemory(t, name, memoryTests[i].limit, memoryTests[i].images)
		return
	}
	for i, tt := range memoryTests {
		t.Run(fmt.Sprintf("%s/%dMiB", tt.name, tt.limit>>20), func(t *testing.T) {
			name := filepath.Join(t.TempDir(), "image.dmg")
			if err := os.WriteFile(name, tt.w.image(t).file, 0o666); err != nil {
				t.Fatal(err)
			}
			c := dmgtest.Self(t, "-test.run=^TestMemoryInUse$", "-test.v")
			c.Env = append(os.Environ(), fmt.Sprintf("%s=%d %s", memoryChild, i, name))
			out, err := c.CombinedOutput()
			if err != nil {
				t.Errorf("%v\n%s", err, out)
			}
			for line := range bytes.Lines(out) {
				if bytes.Contains(line, []byte("in use")) {
					t.Logf("%s", bytes.TrimSpace(line))
				}
			}
		})
	}
}

// readInMemory reads images from a file at random, from 64 goroutines, and
// looks at the heap meanwhile.
func readInMemory(t *testing.T, name string, limit int64, images int) {
	var all []*Image
	for range images {
		im, err := Open(name, &Options{MemoryLimit: limit})
		if err != nil {
			t.Fatal(err)
		}
		defer im.Close()
		all = append(all, im)
	}
	const readers, buffer = 64, 128 << 10
	buffers := make([]byte, readers*buffer) // the callers' own
	inUse := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := inUse()
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var reads atomic.Int64
	for r := range readers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			rng := rand.New(rand.NewPCG(uint64(r), 9))
			p := buffers[r*buffer:][:buffer]
			im := all[r%len(all)]
			for {
				select {
				case <-stop:
					return
				default:
				}
				n := 1 + rng.IntN([]int{4096, 4096, buffer}[rng.IntN(3)])
				if _, err := im.ReadAt(p[:n], rng.Int64N(im.Size()-int64(n))); err != nil {
					t.Errorf("ReadAt: %v", err)
					return
				}
				reads.Add(1)
			}
		}()
	}
	most := int64(0)
	// A collection waits for its turn among the readers.
	for start := time.Now(); time.Since(start) < time.Second; {
		time.Sleep(20 * time.Millisecond)
		most = max(most, inUse()-before)
	}
	close(stop)
	wg.Wait()
	t.Logf("%d MiB: %.1f MiB in use at most, %d reads", limit>>20, float64(most)/(1<<20), reads.Load())
	if most > (limit+8<<20)*int64(images) {
		t.Errorf("%d bytes are in use by %d images, the limit is %d", most, images, limit)
	}
	// At rest there is no garbage, and what is there has been accounted for.
	counted := int64(0)
	for _, im := range all {
		checkAtRest(t, &im.engine)
		counted += im.mu.account.Total()
	}
	if rest := inUse() - before; rest > counted+1<<20 {
		t.Errorf("at rest %d bytes are in use, %d are accounted for", rest, counted)
	} else {
		t.Logf("at rest %.1f MiB are in use, %.1f are accounted for", float64(rest)/(1<<20), float64(counted)/(1<<20))
	}
	runtime.KeepAlive(buffers)
}

// errSometimes is what sources fail with in the tests below.
var errSometimes = errors.New("the source fails now and then")

// A fault is a source's way to fail one of its calls.
type fault struct {
	name  string
	cause error // that the read must fail with, if it fails
	read  func(r io.ReaderAt, p []byte, off int64) (int, error)
}

var faults = []fault{
	{"error", errSometimes, func(r io.ReaderAt, p []byte, off int64) (int, error) {
		return 0, errSometimes
	}},
	{"short with an error", errSometimes, func(r io.ReaderAt, p []byte, off int64) (int, error) {
		n, _ := r.ReadAt(p[:len(p)/2], off)
		return n, errSometimes
	}},
	{"one byte with an error", errSometimes, func(r io.ReaderAt, p []byte, off int64) (int, error) {
		n, _ := r.ReadAt(p[:1], off)
		return n, errSometimes
	}},
	{"short without an error", io.ErrNoProgress, func(r io.ReaderAt, p []byte, off int64) (int, error) {
		return r.ReadAt(p[:len(p)/2], off)
	}},
	{"nothing without an error", io.ErrNoProgress, func(r io.ReaderAt, p []byte, off int64) (int, error) {
		return 0, nil
	}},
	{"end", io.ErrUnexpectedEOF, func(r io.ReaderAt, p []byte, off int64) (int, error) {
		return 0, io.EOF
	}},
	{"short with the end", io.ErrUnexpectedEOF, func(r io.ReaderAt, p []byte, off int64) (int, error) {
		n, _ := r.ReadAt(p[:len(p)/2], off)
		return n, io.EOF
	}},
	{"all with the end", nil, func(r io.ReaderAt, p []byte, off int64) (int, error) {
		n, err := r.ReadAt(p, off)
		if err == nil {
			err = io.EOF
		}
		return n, err
	}},
	{"all with an error", nil, func(r io.ReaderAt, p []byte, off int64) (int, error) {
		n, _ := r.ReadAt(p, off)
		return n, errSometimes
	}},
}

// faulty fails its k-th call from now on.
type faulty struct {
	r      io.ReaderAt
	how    fault
	left   atomic.Int64 // calls until then
	failed atomic.Int64 // calls that failed
}

func (f *faulty) ReadAt(p []byte, off int64) (int, error) {
	if f.left.Add(-1) == 0 && len(p) > 1 {
		f.failed.Add(1)
		return f.how.read(f.r, p, off)
	}
	return f.r.ReadAt(p, off)
}

// R8: whichever call of the source fails, in whichever way, the read that made
// it says so or does without; bytes before the error are right; the same read
// then succeeds; and nothing of it stays behind.
func TestSourceFaults(t *testing.T) {
	dmgtest.Native(t)
	mixture := append([]dmgtest.Method{dmgtest.Raw}, allCodecs...)
	step := int64(1)
	if dmgtest.Raced() {
		mixture = mixture[:len(mixture)-1] // an LZMA decoder takes long to make
		step = 11
	}
	for _, w := range []workload{
		{codecs: mixture, chunk: 128, size: 512 << 10, kind: "mixed"},
		{codecs: allCodecs[1:2], size: 2 << 20},
		{codecs: allCodecs[2:3], size: 512 << 10, kind: "mixed"},
	} {
		ti := w.image(t)
		for _, how := range faults {
			t.Run(w.String()+"/"+how.name, func(t *testing.T) {
				goroutines := runtime.NumGoroutine()
				failed := false
				for k := int64(1); ; k += step {
					source := &faulty{how: how}
					im := ti.open(t, 16<<20, func(r io.ReaderAt) io.ReaderAt { source.r = r; return source })
					source.left.Store(k)
					ti.readDespiteFaults(t, im, source)
					checkAtRest(t, &im.engine)
					if t.Failed() {
						t.Fatalf("with call %d failing", k)
					}
					if source.failed.Load() == 0 {
						break // there are no more calls
					}
					failed = true
				}
				if !failed {
					t.Error("no call failed: the test tests nothing")
				}
				if n := runtime.NumGoroutine(); n > goroutines {
					t.Errorf("%d goroutines, were %d", n, goroutines)
				}
			})
		}
	}
}

// readDespiteFaults reads here and there, then everything in order.
func (ti testImage) readDespiteFaults(t *testing.T, im *Image, source *faulty) {
	rng := rand.New(rand.NewPCG(8, 8))
	size := int64(len(ti.disk))
	read := func(off int64, n int) {
		p := make([]byte, n)
		before := source.failed.Load()
		k, err := im.ReadAt(p, off)
		if err == io.EOF && k == n {
			err = nil
		}
		hit := source.failed.Load() > before
		switch {
		case err != nil && !hit:
			t.Errorf("ReadAt(%d, %d) fails long after the source did: %v", n, off, err)
		case err != nil && (source.how.cause == nil || !errors.Is(err, source.how.cause)):
			t.Errorf("ReadAt(%d, %d): %v, want %v", n, off, err, source.how.cause)
		case err == nil && k < n:
			t.Errorf("ReadAt(%d, %d) = %d without an error", n, off, k)
		}
		// No damage of the image: nobody should throw it away.
		if errors.Is(err, ErrFormat) || errors.Is(err, ErrChecksum) {
			t.Errorf("ReadAt(%d, %d): %v blames the image", n, off, err)
		}
		if !bytes.Equal(p[:k], ti.disk[off:off+int64(k)]) {
			t.Errorf("ReadAt(%d, %d): wrong bytes before %v", n, off, err)
		}
		if err != nil {
			ti.mustReadInto(t, im, p, off)
		}
	}
	for range 6 {
		n := 1 + rng.IntN(50_000)
		read(rng.Int64N(size-int64(n)), n)
	}
	for off := int64(0); off < size; off += 100_000 {
		read(off, int(min(100_000, size-off)))
	}
	for range 6 {
		n := 1 + rng.IntN(5000)
		read(rng.Int64N(size-int64(n)), n)
	}
}

// Many readers of a source that keeps failing get errors of its own and right
// bytes, and when it recovers all is as if nothing had been.
func TestSourceFaultsAtOnce(t *testing.T) {
	dmgtest.NotEmulated(t)
	for _, w := range []workload{
		{codecs: append([]dmgtest.Method{dmgtest.Raw}, allCodecs...), chunk: 256, size: 1 << 20, kind: "mixed"},
		{codecs: allCodecs[1:2]},
	} {
		t.Run(w.String(), func(t *testing.T) {
			ti := w.image(t)
			var broken atomic.Bool
			var calls atomic.Int64
			im := ti.open(t, 10<<20, func(r io.ReaderAt) io.ReaderAt {
				return dmgtest.ReaderAtFunc(func(p []byte, off int64) (int, error) {
					if k := calls.Add(1); broken.Load() && k%3 != 0 {
						n, _ := r.ReadAt(p[:min(int64(len(p)), k%2*100)], off)
						return n, errSometimes
					}
					return r.ReadAt(p, off)
				})
			})
			broken.Store(true)
			var wg sync.WaitGroup
			var failures atomic.Int64
			for r := range 32 {
				wg.Add(1)
				go func() {
					defer wg.Done()
					rng := rand.New(rand.NewPCG(uint64(r), 6))
					for range fewer(60, 4) {
						p := make([]byte, 1+rng.IntN(20_000))
						off := rng.Int64N(int64(len(ti.disk) - len(p)))
						n, err := im.ReadAt(p, off)
						if err != nil {
							failures.Add(1)
							if !errors.Is(err, errSometimes) {
								t.Errorf("ReadAt: %v", err)
							}
						} else if n < len(p) {
							t.Errorf("ReadAt = %d of %d without an error", n, len(p))
						}
						if !bytes.Equal(p[:n], ti.disk[off:off+int64(n)]) {
							t.Error("wrong bytes")
						}
					}
				}()
			}
			within(t, "reading a failing source", wg.Wait)
			if failures.Load() == 0 {
				t.Error("no read failed: the test tests nothing")
			}
			broken.Store(false)
			ti.wayThrough(t, im, 100_000)
		})
	}
}

// An LZMA chunk's decoder has no checkpoint; its size is read from the source
// first, and that read may fail as any other. A damaged chunk, too, is nobody
// else's trouble: only reads that touch it fail, each time, and keep nothing.
func TestDamagedChunk(t *testing.T) {
	dmgtest.Native(t)
	for _, m := range allCodecs {
		w := workload{codecs: []dmgtest.Method{m}, chunk: 256}
		t.Run(w.String(), func(t *testing.T) {
			ti := w.image(t)
			probe := ti.open(t, 0, nil)
			bad := probe.chunks[2]
			file := bytes.Clone(ti.file)
			clear(file[bad.DataOffset+bad.DataLength/2:][:bad.DataLength/4])
			damaged := testImage{ti.disk, file}
			im := damaged.open(t, 16<<20, nil)
			for range 3 {
				for i, c := range im.chunks {
					p := make([]byte, c.Length)
					n, err := im.ReadAt(p, c.Offset)
					if i != 2 {
						if err != nil && err != io.EOF || !bytes.Equal(p, ti.disk[c.Offset:c.end()]) {
							t.Fatalf("%v: %v, want its bytes", c, err)
						}
						continue
					}
					var chunk *ChunkError
					if !errors.As(err, &chunk) || chunk.Chunk != c || !errors.Is(err, ErrFormat) && !errors.Is(err, ErrChecksum) {
						t.Fatalf("the damaged %v: %d, %v", c, n, err)
					}
				}
			}
			// Across the border, what is before it is right.
			p := make([]byte, 3000)
			if n, err := im.ReadAt(p, bad.Offset-1000); n < 1000 || !bytes.Equal(p[:1000], ti.disk[bad.Offset-1000:bad.Offset]) {
				t.Errorf("before the damage: %d bytes, %v", n, err)
			}
		})
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

// A source's error at the trailer must not let a wrong checksum pass.
func TestSwallowedChecksum(t *testing.T) {
	ti := workload{codecs: allCodecs[1:2], size: 256 << 10}.image(t)
	c := ti.open(t, 0, nil).chunks[0]
	file := bytes.Clone(ti.file)
	trailer := c.DataOffset + c.DataLength - 4
	file[trailer]++
	failing := false
	im := testImage{ti.disk, file}.open(t, 0, func(r io.ReaderAt) io.ReaderAt {
		return dmgtest.ReaderAtFunc(func(p []byte, off int64) (int, error) {
			if failing && off <= trailer && off+int64(len(p)) > trailer {
				n, _ := r.ReadAt(p[:trailer-off], off)
				return n, errSometimes
			}
			return r.ReadAt(p, off)
		})
	})
	failing = true
	_, err := im.ReadAt(make([]byte, len(ti.disk)), 0)
	t.Log("while the source fails at the trailer: ", err)
	failing = false
	if _, err = im.ReadAt(make([]byte, len(ti.disk)), 0); !errors.Is(err, ErrChecksum) {
		t.Errorf("afterwards: %v, want ErrChecksum", err)
	}
}

// The blocks of a bzip2 chunk are decoded once for readers that come together.
func TestSameColdBzip2(t *testing.T) {
	ti := workload{codecs: allCodecs[2:3]}.image(t)
	im := ti.open(t, 64<<20, nil)
	off, n := int64(len(ti.disk)/2), len(ti.disk)/4
	var wg sync.WaitGroup
	for range 64 {
		wg.Add(1)
		go func() { defer wg.Done(); ti.mustRead(t, im, off, n) }()
	}
	wg.Wait()
	if d := im.Stats().BytesDecoded; d > off+int64(n)+pageSize {
		t.Errorf("%d bytes decoded, want %d", d, off+int64(n))
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

// Checkpoints of zlib chunks must not keep a bzip2 decoder from its memory.
func TestCheckpointsLeaveRoomForDecoder(t *testing.T) {
	dmgtest.Native(t)
	ti := workload{codecs: allCodecs[1:3], chunk: 16384, size: 16 << 20}.image(t) // zlib, then bzip2
	im := ti.open(t, bzip2Memory+fetchBuffer+512<<10, nil)
	p := make([]byte, 4096)
	half := int64(len(ti.disk) / 2)
	for off := int64(0); off < half; off += int64(len(p)) {
		ti.mustReadInto(t, im, p, off)
	}
	t.Log("checkpoints: ", im.Stats().CheckpointBytes)
	ti.mustReadInto(t, im, p, half+4<<20)
}

func TestRoundUp(t *testing.T) {
	for _, tt := range []struct{ n, unit, want int64 }{
		{0, 8, 0}, {1, 8, 8}, {8, 8, 8}, {9, 8, 16}, {1 << 40, 1 << 16, 1 << 40},
		{math.MaxInt64 - 15, 8, math.MaxInt64 - 15}, {math.MaxInt64 - 8, 8, math.MaxInt64 - 7},
		{math.MaxInt64 - 7, 8, math.MaxInt64}, {math.MaxInt64, 8, math.MaxInt64}, {math.MaxInt64, 1 << 16, math.MaxInt64},
	} {
		if got := roundUp(tt.n, tt.unit); got != tt.want {
			t.Errorf("roundUp(%d, %d) = %d, want %d", tt.n, tt.unit, got, tt.want)
		}
	}
}

// imageOf opens the image that fileOf makes.
func imageOf(t testing.TB, o Options, data []byte, chunks ...dmgtest.Chunk) *Image {
	t.Helper()
	b := fileOf(t, data, chunks...)
	im, err := NewImage(bytes.NewReader(b), int64(len(b)), &o)
	if err != nil {
		t.Fatal(err)
	}
	return im
}

// fileOf is an image of one table with chunks that follow each other on the disk.
func fileOf(t testing.TB, data []byte, chunks ...dmgtest.Chunk) []byte {
	t.Helper()
	sectors := uint64(0)
	for i := range chunks {
		chunks[i].Sector = sectors
		sectors += chunks[i].Sectors
	}
	l := &dmgtest.Layout{
		Tables: []dmgtest.Table{dmgtest.NewTable("whole disk (unknown partition : 0)", 0, int64(sectors), chunks...)},
		Data:   data,
		Koly:   dmgtest.NewKoly(),
	}
	l.Koly.Sectors = sectors
	if err := l.Seal(); err != nil {
		t.Fatal(err)
	}
	return l.Bytes()
}

// TestSharedNothing has every sector a chunk of its own, and all of them the same
// megabytes of blocks of nothing before what they decode to.
func TestSharedNothing(t *testing.T) {
	dmgtest.Native(t)
	const n = 2000
	z, err := dmgtest.Compress(dmgtest.Zlib, 0, dmgtest.Text(2, sectorSize).Bytes())
	if err != nil {
		t.Fatal(err)
	}
	data := append([]byte("\x78\x9C"), bytes.Repeat([]byte{0x02, 0x08, 0x20, 0x80, 0x00}, 4<<20/5)...)
	data = append(data, z[2:]...)
	im := imageOf(t, Options{}, data, slices.Repeat([]dmgtest.Chunk{{Method: dmgtest.Zlib, Sectors: 1, Length: uint64(len(data))}}, n)...)
	p := make([]byte, sectorSize)
	for i := range int64(n) {
		if _, err := im.ReadAt(p, i*sectorSize); !errors.Is(err, ErrFormat) {
			t.Fatalf("sector %d: %v", i, err)
		}
	}
	if got := im.Stats().SourceBytes; got > n*32<<10 {
		t.Errorf("%d bytes of the source were read", got)
	}
}

// TestSourcePanics has the source panic once: the panic comes out of the read, and
// later ones are served.
func TestSourcePanics(t *testing.T) {
	for _, w := range []workload{{codecs: allCodecs[1:2], size: 1 << 20}, {codecs: allCodecs[4:5], size: 1 << 20}} {
		ti := w.image(t)
		left := 0 // calls before the panic
		src := dmgtest.ReaderAtFunc(func(p []byte, off int64) (int, error) {
			if left--; left == 0 {
				panic("boom")
			}
			return bytes.NewReader(ti.file).ReadAt(p, off)
		})
		im := ti.open(t, 3<<20, func(io.ReaderAt) io.ReaderAt { return src })
		for call := 1; call < 20; call++ {
			left = call
			func() {
				defer func() {
					if v := recover(); v != nil && v != "boom" {
						panic(v)
					}
				}()
				im.ReadAt(make([]byte, 1<<20), 0)
			}()
			left = 0
			within(t, "a read after a panic", func() { ti.mustRead(t, im, int64(call)*5000, 4096) })
		}
		checkAtRest(t, &im.engine)
	}
}
