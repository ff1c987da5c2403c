package dmg

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/go-dmg/dmg/internal/dmgtest"
)

// fewer is n, or a part of it if tests run in part.
func fewer[T int | int64](n, divisor T) T {
	if dmgtest.Part() {
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
	case "zeros":
		content = dmgtest.Zeros(w.size)
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
	if err := e.checkLocked(true); err != nil {
		tb.Errorf("at rest: %v", err)
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
	t.Parallel()
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
