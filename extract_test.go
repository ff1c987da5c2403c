package dmg

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"slices"
	"sort"
	"sync"
	"testing"
	"time"

	"github.com/go-dmg/dmg/internal/dmgtest"
)

// failStep is what part of the calls so far lies before the next that fails.
func failStep() int {
	if dmgtest.Part() {
		return 1
	}
	return 4
}

// recorder is a disk that is written to. It notes what is written.
type recorder struct {
	mu struct {
		sync.Mutex
		calls  int
		writes []extent
	}
	disk []byte
	call func(k int) (short bool, err error) // of the k-th write, from 1
}

func newRecorder(size int64) *recorder { return &recorder{disk: make([]byte, size)} }

func (r *recorder) WriteAt(p []byte, off int64) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.calls++
	if r.call != nil {
		short, err := r.call(r.mu.calls)
		if err != nil {
			return 0, err
		}
		if short {
			p = p[:len(p)/2]
		}
	}
	n := copy(r.disk[off:], p)
	r.mu.writes = append(r.mu.writes, extent{uint64(off), uint64(n)})
	return n, nil
}

// sequence writes to a recorder in order.
type sequence struct {
	*recorder
	n int64
}

func (s *sequence) Write(p []byte) (int, error) {
	n, err := s.WriteAt(p, s.n)
	s.n += int64(n)
	return n, err
}

// check compares what was written before end with the disk. Each byte must have
// been written once, but in sparse mode none of those that are stored as zeros.
func (r *recorder) check(t *testing.T, im *Image, disk []byte, end int64, sparse bool) {
	t.Helper()
	if i := firstDifference(r.disk[:end], disk[:end]); i >= 0 {
		t.Errorf("byte %d of %d is %#x, want %#x", i, end, r.disk[i], disk[i])
	}
	runs := r.runs(t)
	for c := range im.Chunks() {
		at := uint64(min(end, c.Offset))
		n := uint64(min(end, c.end())) - at
		if n == 0 {
			continue
		}
		k := sort.Search(len(runs), func(k int) bool { return runs[k].off+runs[k].length > at })
		if sparse && c.Method.zeros() {
			if k < len(runs) && runs[k].off < at+n {
				t.Fatalf("byte %d of a %v is written", max(runs[k].off, at)-uint64(c.Offset), c)
			}
		} else if k == len(runs) || runs[k].off > at || runs[k].off+runs[k].length < at+n {
			t.Fatalf("not all of the first %d bytes of a %v is written", n, c)
		}
	}
}

// runs returns what has been written, in order of place, without a seam between what
// goes on where another ends. Nothing may have been written twice.
func (r *recorder) runs(t *testing.T) []extent {
	t.Helper()
	writes := slices.Clone(r.mu.writes)
	slices.SortFunc(writes, func(a, b extent) int { return cmp.Compare(a.off, b.off) })
	var runs []extent
	end := uint64(0)
	for _, w := range writes {
		switch {
		case w.length == 0:
			continue
		case w.off < end:
			t.Fatalf("byte %d is written twice", w.off)
		case w.off == end && len(runs) > 0:
			runs[len(runs)-1].length += w.length
		default:
			runs = append(runs, w)
		}
		end = w.off + w.length
	}
	return runs
}

// firstDifference returns the index of the first byte that differs, -1 if there is
// none.
func firstDifference(a, b []byte) int {
	if bytes.Equal(a, b) {
		return -1
	}
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	if len(a) != len(b) {
		return min(len(a), len(b))
	}
	return -1
}

func newTestImage(t *testing.T, r io.ReaderAt, size int, limit int64) *Image {
	t.Helper()
	im, err := NewImage(r, int64(size), &Options{MemoryLimit: limit})
	if err != nil {
		t.Fatal(err)
	}
	return im
}

// checkIdle checks that the engine is at rest, and that no goroutine is left of those
// begun since there were as many as before.
func checkIdle(t *testing.T, im *Image, before int) {
	t.Helper()
	checkAtRest(t, &im.engine)
	// A goroutine that has done all may still be counted for a moment.
	for range 200 {
		if runtime.NumGoroutine() <= before {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Errorf("%d goroutines, there were %d before:\n%s", runtime.NumGoroutine(), before, goroutines())
}

func goroutines() string {
	var b bytes.Buffer
	pprof.Lookup("goroutine").WriteTo(&b, 1)
	return b.String()
}

// leastLimit is a MemoryLimit that holds the image's largest decoder, the smallest
// buffers and some checkpoints: for bzip2 it is less than 7 MiB.
func leastLimit(t *testing.T, im *Image) int64 {
	t.Helper()
	most := int64(0)
	for i := range im.chunks {
		if c := &im.chunks[i]; c.Method.compressed() {
			most = max(most, memoryFor(t, im, c))
		}
	}
	const checkpoints = 700 << 10 // of what the tests read, at most
	lane := int64(outputBuffers * minOutputBuffer)
	return most + lane + checkpoints
}

// The methods that images may have, with all others in the same image.
var testMethods = []dmgtest.Method{dmgtest.Raw, dmgtest.ADC, dmgtest.Zlib, dmgtest.Bzip2, dmgtest.LZFSE, dmgtest.LZMA}

// testDisk has text, zeros, what a disk has, and a tail that ends in a sector.
func testDisk() []byte {
	disk := dmgtest.Join(dmgtest.Text(1, 600<<10), dmgtest.Zeros(300<<10), dmgtest.Mixed(2, 400<<10), dmgtest.Random(3, 100<<10+100)).Bytes()
	return append(disk, make([]byte, -len(disk)&(sectorSize-1))...)
}

// A madeImage is an image of testDisk.
type madeImage struct {
	name string
	o    dmgtest.Options
	gaps [][2]int64 // sectors that are not stored
}

func madeImages() []madeImage {
	made := []madeImage{
		{name: "all methods", o: dmgtest.Options{Codecs: testMethods, ChunkSectors: 64}},
		{name: "all methods in any order", o: dmgtest.Options{Codecs: testMethods, ChunkSectors: 100, Shuffle: true, TableOffset: true, Prefix: 777}},
		{name: "ignored zeros", o: dmgtest.Options{ChunkSectors: 64, Zeros: dmgtest.ZeroIgnore, MergeZeros: true}},
		{name: "compressed zeros", o: dmgtest.Options{Codecs: testMethods, ChunkSectors: 256, Zeros: dmgtest.ZeroKeep}},
		{name: "gaps", o: dmgtest.Options{ChunkSectors: 64, Partitions: []dmgtest.Partition{
			{Name: "b", First: 2000}, {Name: "a", First: 10, Sectors: 1490},
		}}, gaps: [][2]int64{{0, 10}, {1500, 2000}}},
		{name: "bytes after the streams", o: dmgtest.Options{Codecs: testMethods, ChunkSectors: 500, Trailing: 5000}},
		{name: "bzip2 of level 1", o: dmgtest.Options{Codecs: []dmgtest.Method{dmgtest.Bzip2}, Level: 1}},
	}
	for _, m := range testMethods {
		for _, sectors := range []int64{0, 2048} {
			name := fmt.Sprintf("%v in chunks of %d sectors", m, sectors)
			made = append(made, madeImage{name: name, o: dmgtest.Options{Codecs: []dmgtest.Method{m}, ChunkSectors: sectors}})
		}
	}
	return made
}

// checkExtract extracts an image in all ways.
func checkExtract(t *testing.T, img, disk []byte) {
	least := leastLimit(t, newTestImage(t, bytes.NewReader(img), len(img), 0))
	for _, limit := range []int64{least, 0} {
		im := newTestImage(t, bytes.NewReader(img), len(img), limit)
		before := runtime.NumGoroutine()
		workers := []int{1, 2, 3, 8, 64}
		if limit == 0 || dmgtest.Part() {
			workers = []int{3, 64}
		}
		for _, workers := range workers {
			sparse := workers&1 == 0
			w := newRecorder(im.Size())
			var done int64
			o := ExtractOptions{Workers: workers, Sparse: sparse, Progress: func(n, total int64) {
				if n < done || n > total || total != im.Size() {
					t.Errorf("progress goes from %d to %d of %d", done, n, total)
				}
				done = n
			}}
			if err := im.Extract(context.Background(), w, &o); err != nil {
				t.Errorf("limit %d, %d workers: %v", limit, workers, err)
				continue
			}
			w.check(t, im, disk, im.Size(), sparse)
			if done != im.Size() {
				t.Errorf("progress ends at %d of %d", done, im.Size())
			}
		}
		s := &sequence{recorder: newRecorder(im.Size())}
		if n, err := im.WriteTo(s); n != im.Size() || n != s.n || err != nil {
			t.Errorf("limit %d: WriteTo = %d, %v; %d of %d bytes came", limit, n, err, s.n, im.Size())
		}
		s.check(t, im, disk, im.Size(), false)
		if err := im.Verify(context.Background(), nil); err != nil {
			t.Errorf("limit %d: Verify: %v", limit, err)
		}
		if err := im.BuildIndex(context.Background(), nil); err != nil {
			t.Errorf("limit %d: BuildIndex: %v", limit, err)
		}
		checkIdle(t, im, before)
	}
}

// TestExtractMade writes images of all methods and layouts with all numbers of
// workers, in as little memory as there may be and in much.
func TestExtractMade(t *testing.T) {
	dmgtest.NotEmulated(t)
	dmgtest.Long(t)
	for i, made := range madeImages() {
		if dmgtest.Part() && i%4 != 0 {
			continue
		}
		t.Run(made.name, func(t *testing.T) {
			disk := testDisk()
			for _, g := range made.gaps {
				clear(disk[g[0]*sectorSize : g[1]*sectorSize])
			}
			checkExtract(t, dmgtest.Image(t, disk, made.o), disk)
		})
	}
}

// TestExtractTestdata does so for the images in testdata, whose bytes TestImages
// knows: Extract must write what ReadAt reads.
func TestExtractTestdata(t *testing.T) {
	names, err := filepath.Glob("testdata/good-*.dmg")
	if err != nil || len(names) == 0 {
		t.Fatal("no images: ", err)
	}
	for _, name := range names {
		t.Run(filepath.Base(name), func(t *testing.T) {
			img, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			im := newTestImage(t, bytes.NewReader(img), len(img), 0)
			disk := make([]byte, im.Size())
			if _, err := im.ReadAt(disk, 0); err != nil {
				t.Fatal(err)
			}
			checkExtract(t, img, disk)
		})
	}
}

// A zlib chunk that has checkpoints is decoded in several pieces.
func TestExtractPieces(t *testing.T) {
	dmgtest.NotEmulated(t)
	disk := dmgtest.Mixed(4, 9<<20).Bytes()
	img := dmgtest.Image(t, disk, dmgtest.Options{Zeros: dmgtest.ZeroKeep})
	im := newTestImage(t, bytes.NewReader(img), len(img), 0)
	if err := im.BuildIndex(context.Background(), nil); err != nil {
		t.Fatal(err)
	}
	for _, workers := range []int{1, 4} {
		before := im.Stats().BytesDecoded
		w := newRecorder(im.Size())
		if err := im.Extract(context.Background(), w, &ExtractOptions{Workers: workers}); err != nil {
			t.Fatal(err)
		}
		w.check(t, im, disk, im.Size(), false)
		if n := im.Stats().BytesDecoded - before; n != im.Size() {
			t.Errorf("%d workers decode %d bytes of %d", workers, n, im.Size())
		}
	}
	// Every read begins at a checkpoint.
	rng := rand.New(rand.NewPCG(1, 1))
	for range 50 {
		p := make([]byte, 4096)
		off := rng.Int64N(im.Size() - int64(len(p)))
		before := im.Stats().BytesDecoded
		if _, err := im.ReadAt(p, off); err != nil || !bytes.Equal(p, disk[off:off+4096]) {
			t.Fatalf("ReadAt(%d): wrong bytes or %v", off, err)
		}
		if n := im.Stats().BytesDecoded - before; n > minSpacing+4096 {
			t.Errorf("ReadAt(%d) decodes %d bytes", off, n)
		}
	}
}
