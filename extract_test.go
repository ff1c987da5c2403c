package dmg

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/pprof"
	"slices"
	"sort"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/go-dmg/dmg/internal/budget"
	"github.com/go-dmg/dmg/internal/dmgtest"
)

// failStep is what part of the calls so far lies before the next that fails.
func failStep() int {
	if dmgtest.Slowed() {
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

// checkIdle checks that nothing goes on in the engine: that what the account
// says is taken is parked, cached, or in checkpoints, and that no goroutine is
// left of those begun since there were as many as before.
func checkIdle(t *testing.T, im *Image, before int) {
	t.Helper()
	im.mu.Lock()
	decoders := int64(0)
	for _, d := range im.mu.idle {
		decoders += d.memory
	}
	if a := im.mu.idleParallel; a != nil {
		decoders += a.memory
	}
	pages := im.mu.cache.Size()
	if used := &im.mu.account.Used; used[budget.Decoders] != decoders || used[budget.Cache] != pages || used[budget.Buffers] != 0 {
		t.Errorf("%d bytes are taken for decoders, %d are parked; %d for pages, there are %d; %d for buffers", used[budget.Decoders], decoders, used[budget.Cache], pages, used[budget.Buffers])
	}
	if total := im.mu.account.Total(); total > im.mu.account.Limit {
		t.Errorf("%d bytes are taken of %d", total, im.mu.account.Limit)
	}
	if len(im.mu.flights) > 0 || len(im.mu.queue) > 0 {
		t.Errorf("%d turns and %d waiting readers are left", len(im.mu.flights), len(im.mu.queue))
	}
	im.mu.Unlock()

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
		if limit == 0 || dmgtest.Slowed() {
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
	for i, made := range madeImages() {
		if dmgtest.Slowed() && i%4 != 0 {
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

func compress(t *testing.T, level int, data []byte) []byte {
	t.Helper()
	z, err := dmgtest.Compress(dmgtest.Bzip2, level, data)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

// bzip2ChunkImage is an image of one bzip2 chunk with the given data.
func bzip2ChunkImage(t *testing.T, disk, data []byte) []byte {
	t.Helper()
	l, err := dmgtest.Build(disk, dmgtest.Options{Codecs: []dmgtest.Method{dmgtest.Raw}, Zeros: dmgtest.ZeroKeep})
	if err != nil {
		t.Fatal(err)
	}
	c := &l.Tables[0].Chunks[0]
	c.Method, c.Offset, c.Length = dmgtest.Bzip2, 0, uint64(len(data))
	l.Data = data
	if err := l.Seal(); err != nil {
		t.Fatal(err)
	}
	return l.Bytes()
}

// A bitBlock is a block cut out of a bzip2 stream.
type bitBlock struct {
	text []byte
	bits []bool
	crc  uint32
}

// cutBlock compresses text, which must be one block of level 9.
func cutBlock(t *testing.T, text []byte) bitBlock {
	t.Helper()
	z := compress(t, 9, text)
	bits := make([]bool, 0, 8*len(z))
	for _, c := range z {
		for i := range 8 {
			bits = append(bits, c<<i&0x80 != 0)
		}
	}
	number := func(b []bool) (v uint64) {
		for _, bit := range b {
			v <<= 1
			if bit {
				v++
			}
		}
		return v
	}
	const head, tail = 32, 48 + 32
	for pad := range 8 {
		end := len(bits) - pad - tail
		if number(bits[end:end+48]) == 0x177245385090 {
			return bitBlock{text, bits[head:end], uint32(number(bits[head+48 : head+48+32]))}
		}
	}
	t.Fatal("no end of a stream")
	return bitBlock{}
}

// joinBlocks writes blocks as one stream, each at whatever bit the last ends.
func joinBlocks(level byte, blocks ...bitBlock) (disk, stream []byte) {
	w := &bitWriter{p: []byte{'B', 'Z', 'h', level}, n: 32}
	crc := uint32(0)
	for _, b := range blocks {
		for _, bit := range b.bits {
			if bit {
				w.put(1, 1)
			} else {
				w.put(0, 1)
			}
		}
		crc = bits.RotateLeft32(crc, 1) ^ b.crc
		disk = append(disk, b.text...)
	}
	w.put(0x177245385090, 48)
	w.put(uint64(crc), 32)
	return disk, w.p
}

// An aheadTest is a disk, and its data as one bzip2 chunk.
type aheadTest struct {
	name         string
	disk, stream []byte
}

// aheadTests are chunks of 9 MB and many blocks. There is only time to compress a
// few of these: they occur several times.
func aheadTests(t *testing.T) []aheadTest {
	t.Helper()
	size, repeat := int64(800_000), 11
	if dmgtest.Slowed() {
		size, repeat = 200_000, 14
	}
	var large, small []bitBlock
	for i := range 2 {
		large = append(large, cutBlock(t, dmgtest.Text(uint64(i), size+int64(i)*1000).Bytes()))
		small = append(small, cutBlock(t, dmgtest.Text(uint64(i), 90_000+int64(i)*1000).Bytes()))
	}
	magic, data := magicInside(t)
	inside := aheadTest{name: "magics inside blocks"}
	for range repeat {
		disk, stream := joinBlocks('9', large...)
		inside.disk = append(append(inside.disk, disk...), data...)
		inside.stream = append(append(inside.stream, stream...), magic...)
	}
	if dmgtest.Slowed() {
		inside.disk = inside.disk[:len(inside.disk)&^(sectorSize-1)]
		return []aheadTest{inside}
	}
	zeros := cutBlock(t, make([]byte, 3<<20))

	one := aheadTest{name: "one stream"}
	one.disk, one.stream = joinBlocks('9', slices.Concat(slices.Repeat(large, repeat/2), []bitBlock{zeros}, large)...)
	level1 := aheadTest{name: "level 1"}
	level1.disk, level1.stream = joinBlocks('1', slices.Repeat(small, 50)...)
	tooLarge := aheadTest{name: "level 1 with small blocks and zeros"}
	tooLarge.disk, tooLarge.stream = joinBlocks('1', slices.Repeat(append(small, zeros), 12)...)
	many := aheadTest{name: "many streams"}
	for range repeat {
		disk, stream := joinBlocks('9', large[0])
		many.disk, many.stream = append(many.disk, disk...), append(many.stream, stream...)
		disk, stream = joinBlocks('1', small[1])
		many.disk, many.stream = append(many.disk, disk...), append(many.stream, stream...)
	}
	tests := []aheadTest{one, inside, level1, tooLarge, many}
	for i := range tests {
		tt := &tests[i]
		tt.disk = tt.disk[:len(tt.disk)&^(sectorSize-1)] // the last block is cut
	}
	return tests
}

// withCores runs the rest of a test as on a machine with four cores.
func withCores(t *testing.T) {
	old := runtime.GOMAXPROCS(4)
	t.Cleanup(func() { runtime.GOMAXPROCS(old) })
}

// TestBzip2Ahead decodes the blocks of one chunk on several cores and, in a
// memory that has no room for that, on one.
func TestBzip2Ahead(t *testing.T) {
	dmgtest.NotEmulated(t)
	withCores(t)
	for _, tt := range aheadTests(t) {
		t.Run(tt.name, func(t *testing.T) {
			disk := tt.disk
			img := bzip2ChunkImage(t, disk, tt.stream)
			for _, limit := range []int64{7 << 20, 64 << 20} {
				im := newTestImage(t, bytes.NewReader(img), len(img), limit)
				before := runtime.NumGoroutine()
				s := &sequence{recorder: newRecorder(im.Size())}
				ahead := false
				s.call = func(int) (bool, error) {
					im.mu.Lock()
					defer im.mu.Unlock()
					ahead = ahead || im.mu.account.Used[budget.Decoders] >= bzip2Memory+2*aheadMemory
					return false, nil
				}
				if n, err := im.WriteTo(s); n != im.Size() || err != nil {
					t.Errorf("limit %d: WriteTo = %d, %v", limit, n, err)
				}
				s.check(t, im, disk, im.Size(), false)
				if ahead != (limit > 7<<20) {
					t.Errorf("limit %d: blocks are decoded ahead: %v", limit, ahead)
				}
				checkIdle(t, im, before)
			}
			readFar(t, img, disk)
		})
	}
}

// readFar reads near the end of a chunk and then elsewhere: the way there is
// decoded ahead, and what is noted on it must be right.
func readFar(t *testing.T, img, disk []byte) {
	t.Helper()
	im := newTestImage(t, bytes.NewReader(img), len(img), 0)
	before := runtime.NumGoroutine()
	rng := rand.New(rand.NewPCG(7, 7))
	for i := range 20 {
		off := rng.IntN(len(disk) - 10_000)
		if i == 0 {
			off = len(disk) - 20_000
		}
		p := make([]byte, 10_000)
		if _, err := im.ReadAt(p, int64(off)); err != nil {
			t.Fatalf("ReadAt(%d): %v", off, err)
		}
		if k := firstDifference(p, disk[off:off+len(p)]); k >= 0 {
			t.Fatalf("ReadAt(%d): byte %d is wrong", off, k)
		}
	}
	checkIdle(t, im, before)
}

// aheadBlocks returns a disk of 6 MB that is one bzip2 stream.
func aheadBlocks(t *testing.T) (disk, stream []byte) {
	t.Helper()
	disk, stream = joinBlocks('9', slices.Repeat([]bitBlock{cutBlock(t, dmgtest.Text(8, 1200*sectorSize).Bytes())}, 10)...)
	return disk, stream
}

// A damaged block ends what comes before it and nothing else, as it does where
// blocks are not decoded ahead.
func TestBzip2AheadDamage(t *testing.T) {
	dmgtest.NotEmulated(t)
	withCores(t)
	disk, z := aheadBlocks(t)
	z[len(z)*5/6] ^= 1
	img := bzip2ChunkImage(t, disk, z)
	var ends []int64
	for _, limit := range []int64{7 << 20, 64 << 20} {
		im := newTestImage(t, bytes.NewReader(img), len(img), limit)
		before := runtime.NumGoroutine()
		s := &sequence{recorder: newRecorder(im.Size())}
		n, err := im.WriteTo(s)
		var damaged *ChunkError
		if !errors.As(err, &damaged) || !errors.Is(err, ErrChecksum) && !errors.Is(err, ErrFormat) || n != s.n {
			t.Errorf("limit %d: WriteTo = %d, %v; %d bytes came", limit, n, err, s.n)
		}
		ends = append(ends, n)
		// A block's own bytes can only be told to be wrong after them.
		if whole := n - 1000_000; whole < im.Size()/2 {
			t.Errorf("limit %d: WriteTo stops after %d bytes", limit, n)
		} else if i := firstDifference(s.disk[:whole], disk[:whole]); i >= 0 {
			t.Errorf("limit %d: byte %d is wrong", limit, i)
		}
		checkIdle(t, im, before)
	}
	if ends[0] != ends[1] {
		t.Errorf("on one core %d bytes are written, on several %d", ends[0], ends[1])
	}
}

var completeTo = regexp.MustCompile(`complete up to byte (\d+):`)

// checkStopped checks an error of Extract, and what was written before it.
func checkStopped(t *testing.T, im *Image, w *recorder, disk []byte, err, cause error) {
	t.Helper()
	if !errors.Is(err, cause) {
		t.Fatalf("%v, want %v", err, cause)
	}
	m := completeTo.FindStringSubmatch(err.Error())
	if m == nil {
		t.Fatalf("%v does not say how far it got", err)
	}
	end, _ := strconv.ParseInt(m[1], 10, 64)
	w.check(t, im, disk, end, false)
}

// mixedImage is an image of all methods with small chunks.
func mixedImage(t *testing.T) (img, disk []byte) {
	disk = testDisk()
	return dmgtest.Image(t, disk, dmgtest.Options{Codecs: testMethods, ChunkSectors: 64, Zeros: dmgtest.ZeroKeep}), disk
}

// TestExtractWriteError fails the k-th write, or makes it short. What the error
// says is written is, and the next Extract works.
func TestExtractWriteError(t *testing.T) {
	dmgtest.NotEmulated(t)
	img, disk := mixedImage(t)
	im := newTestImage(t, bytes.NewReader(img), len(img), 0)
	errWrite := errors.New("no space")
	count := newRecorder(im.Size())
	if err := im.Extract(context.Background(), count, nil); err != nil {
		t.Fatal(err)
	}
	before := runtime.NumGoroutine()
	for k := 1; k <= count.mu.calls; k += 1 + k/failStep() {
		for _, short := range []bool{false, true} {
			w := newRecorder(im.Size())
			cause := errWrite
			if short {
				cause = io.ErrShortWrite
			}
			w.call = func(call int) (bool, error) {
				if call == k && !short {
					return false, errWrite
				}
				return call == k, nil
			}
			workers := 1 + k%5
			err := im.Extract(context.Background(), w, &ExtractOptions{Workers: workers})
			checkStopped(t, im, w, disk, err, cause)

			s := &sequence{recorder: newRecorder(im.Size())}
			s.call = w.call
			n, err := im.WriteTo(s)
			if !errors.Is(err, cause) || n != s.n {
				t.Errorf("write %d: WriteTo = %d, %v; %d bytes came", k, n, err, s.n)
			}
			s.check(t, im, disk, n, false)
		}
	}
	w := newRecorder(im.Size())
	if err := im.Extract(context.Background(), w, nil); err != nil {
		t.Error(err)
	}
	w.check(t, im, disk, im.Size(), false)
	checkIdle(t, im, before)
}

// TestExtractSourceError fails the k-th read of the source. It is no damage, and
// the next Extract works.
func TestExtractSourceError(t *testing.T) {
	dmgtest.NotEmulated(t)
	img, disk := mixedImage(t)
	errSource := errors.New("connection reset")
	calls := int64(0)
	for k := int64(0); k <= calls; k += 1 + k/int64(failStep()) {
		src := &dmgtest.FailAt{R: bytes.NewReader(img), Err: errSource}
		im := newTestImage(t, src, len(img), 0)
		before := runtime.NumGoroutine()
		opened := src.Calls()
		src.Call = opened + k
		w := newRecorder(im.Size())
		err := im.Extract(context.Background(), w, &ExtractOptions{Workers: 1 + int(k%5)})
		if k == 0 {
			if err != nil {
				t.Fatal(err)
			}
			calls = src.Calls() - opened
			continue
		}
		var damaged *ChunkError
		if errors.As(err, &damaged) {
			t.Errorf("read %d: %v is damage", k, err)
		}
		checkStopped(t, im, w, disk, err, errSource)

		for _, work := range []func() error{
			func() error { _, err := im.WriteTo(io.Discard); return err },
			func() error { return im.Verify(context.Background(), nil) },
			func() error { return im.BuildIndex(context.Background(), nil) },
		} {
			// A read that is not needed, or after the work, fails the next.
			src.Call = src.Calls() + k/2 + 1
			if err := work(); err != nil && !errors.Is(err, errSource) || errors.As(err, &damaged) {
				t.Errorf("read %d: %v", k, err)
			}
		}
		src.Call = 0
		w = newRecorder(im.Size())
		if err := im.Extract(context.Background(), w, nil); err != nil {
			t.Error(err)
		}
		w.check(t, im, disk, im.Size(), false)
		checkIdle(t, im, before)
	}
}

// TestExtractDamage has one damaged chunk of each method.
func TestExtractDamage(t *testing.T) {
	dmgtest.NotEmulated(t)
	disk := testDisk()
	for _, m := range testMethods[1:] {
		t.Run(m.String(), func(t *testing.T) {
			l, err := dmgtest.Build(disk, dmgtest.Options{Codecs: []dmgtest.Method{m}, ChunkSectors: 128, Zeros: dmgtest.ZeroKeep})
			if err != nil {
				t.Fatal(err)
			}
			c := &l.Tables[0].Chunks[4]
			c.Length /= 2
			if err := l.Seal(); err != nil {
				t.Fatal(err)
			}
			img := l.Bytes()
			im := newTestImage(t, bytes.NewReader(img), len(img), 0)
			before := runtime.NumGoroutine()
			for _, workers := range []int{1, 3} {
				w := newRecorder(im.Size())
				err = im.Extract(context.Background(), w, &ExtractOptions{Workers: workers})
				var damaged *ChunkError
				if !errors.As(err, &damaged) || damaged.Chunk.Offset != int64(c.Sector)*sectorSize {
					t.Errorf("%v does not name the chunk at sector %d", err, c.Sector)
				}
				checkStopped(t, im, w, disk, err, ErrFormat)
			}
			if err := im.BuildIndex(context.Background(), nil); err != nil {
				t.Errorf("BuildIndex: %v", err)
			}
			checkIdle(t, im, before)
		})
	}
}

// TestExtractCancel cancels Extract when it has written something. It ends soon.
func TestExtractCancel(t *testing.T) {
	dmgtest.NotEmulated(t)
	withCores(t)
	mixed, disk := mixedImage(t)
	large, stream := aheadBlocks(t)
	for _, tt := range []struct {
		name      string
		img, disk []byte
		at        int // write that cancels
	}{
		{"small chunks", mixed, disk, 5},
		{"blocks ahead", bzip2ChunkImage(t, large, stream), large, 1},
		{"one zlib chunk", dmgtest.Image(t, large, dmgtest.Options{}), large, 1},
		{"zeros", dmgtest.Image(t, make([]byte, 16<<20), dmgtest.Options{}), make([]byte, 16<<20), 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			im := newTestImage(t, bytes.NewReader(tt.img), len(tt.img), 0)
			before := runtime.NumGoroutine()
			best := time.Hour
			for range 5 {
				ctx, cancel := context.WithCancel(context.Background())
				w := newRecorder(im.Size())
				var cancelled time.Time
				w.call = func(k int) (bool, error) {
					if k == tt.at {
						cancelled = time.Now()
						cancel()
					}
					return false, nil
				}
				err := im.Extract(ctx, w, nil)
				best = min(best, time.Since(cancelled))
				checkStopped(t, im, w, tt.disk, err, context.Canceled)
			}
			limit := 100 * time.Millisecond
			if dmgtest.Slowed() {
				limit *= 10
			}
			if best > limit {
				t.Errorf("Extract ends %v after it was cancelled", best)
			}
			checkIdle(t, im, before)
		})
	}
}

// TestWriteToSlow has a receiver that is slower than the decoders: these must wait
// for it rather than take more memory.
func TestWriteToSlow(t *testing.T) {
	img, disk := mixedImage(t)
	im := newTestImage(t, bytes.NewReader(img), len(img), 16<<20)
	s := &sequence{recorder: newRecorder(im.Size())}
	peak := int64(0)
	s.call = func(int) (bool, error) {
		time.Sleep(time.Millisecond)
		im.mu.Lock()
		peak = max(peak, im.mu.account.Total())
		im.mu.Unlock()
		return false, nil
	}
	if n, err := im.WriteTo(s); n != im.Size() || err != nil {
		t.Errorf("WriteTo = %d, %v", n, err)
	}
	s.check(t, im, disk, im.Size(), false)
	if peak == 0 || peak > 16<<20 {
		t.Errorf("%d bytes are taken of %d", peak, 16<<20)
	}
}

// TestWholeDiskTogether does everything at once, in a memory that is too small for
// all to go on at the same time.
func TestWholeDiskTogether(t *testing.T) {
	dmgtest.NotEmulated(t)
	withCores(t)
	img, disk := mixedImage(t)
	large, stream := aheadBlocks(t)
	for _, tt := range []struct {
		name      string
		img, disk []byte
		limit     int64
	}{
		{"small chunks", img, disk, 16 << 20},
		{"one bzip2 chunk", bzip2ChunkImage(t, large, stream), large, 16 << 20},
		{"one zlib chunk", dmgtest.Image(t, large, dmgtest.Options{}), large, 2 << 20},
	} {
		t.Run(tt.name, func(t *testing.T) {
			im := newTestImage(t, bytes.NewReader(tt.img), len(tt.img), tt.limit)
			before := runtime.NumGoroutine()
			done := make(chan struct{})
			go func() {
				doTogether(t, im, tt.disk)
				close(done)
			}()
			select {
			case <-done:
			case <-time.After(2 * time.Minute):
				t.Fatalf("deadlock:\n%s", goroutines())
			}
			checkIdle(t, im, before)
		})
	}
}

func doTogether(t *testing.T, im *Image, disk []byte) {
	works := []func() error{
		func() error {
			w := newRecorder(im.Size())
			defer w.check(t, im, disk, im.Size(), false)
			return im.Extract(context.Background(), w, nil)
		},
		func() error {
			s := &sequence{recorder: newRecorder(im.Size())}
			defer s.check(t, im, disk, im.Size(), false)
			_, err := im.WriteTo(s)
			return err
		},
		func() error { return im.Verify(context.Background(), nil) },
		func() error { return im.BuildIndex(context.Background(), nil) },
	}
	for i := range 16 {
		works = append(works, func() error { return readRandomly(im, disk, uint64(i)) })
	}
	var wg sync.WaitGroup
	for _, work := range works {
		wg.Add(1)
		go func() {
			defer wg.Done()
			if err := work(); err != nil {
				t.Error(err)
			}
		}()
	}
	wg.Wait()
}

// readRandomly makes short reads all over the disk.
func readRandomly(im *Image, disk []byte, seed uint64) error {
	rng := rand.New(rand.NewPCG(seed, 1))
	p := make([]byte, 10_000)
	reads := 30
	if dmgtest.Slowed() {
		reads = 2
	}
	for range reads {
		off := rng.IntN(len(disk) - len(p))
		if _, err := im.ReadAt(p, int64(off)); err != nil {
			return err
		}
		if i := firstDifference(p, disk[off:off+len(p)]); i >= 0 {
			return fmt.Errorf("ReadAt(%d): byte %d is wrong", off, i)
		}
	}
	return nil
}

// TestBuildIndexLimit has BuildIndex say that it has made nothing of a chunk whose
// decoder takes more than all memory.
func TestBuildIndexLimit(t *testing.T) {
	ti := workload{codecs: allCodecs[2:3], size: 2 << 20}.image(t)
	im := ti.open(t, bzip2Memory/2, nil)
	if err := im.BuildIndex(context.Background(), nil); !errors.Is(err, ErrMemoryLimit) {
		t.Errorf("got %v", err)
	}
}

// writerFunc is a Write method.
type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// TestReceiverEnds has the writer end the goroutine that it is called from.
func TestReceiverEnds(t *testing.T) {
	dmgtest.NotEmulated(t)
	for _, method := range allCodecs[1:3] {
		ti := workload{codecs: []dmgtest.Method{method}, chunk: 512, size: fewer[int64](8<<20, 8)}.image(t)
		im := ti.open(t, 0, nil)
		within(t, "WriteTo", func() {
			if _, err := im.WriteTo(writerFunc(func([]byte) (int, error) { runtime.Goexit(); return 0, nil })); err == nil {
				t.Error("no error")
			}
		})
		checkAtRest(t, &im.engine)
		ti.mustRead(t, im, 0, len(ti.disk))
	}
}

// TestVerifyProgressOfAll verifies a disk of nearly 2^63 bytes and the data fork
// besides.
func TestVerifyProgressOfAll(t *testing.T) {
	im := imageOf(t, Options{}, make([]byte, 4096), dmgtest.Chunk{Method: dmgtest.Zero, Sectors: maxSectors})
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	last := int64(0)
	im.Verify(ctx, &VerifyOptions{Progress: func(done, total int64) {
		if done < last || total < done {
			t.Errorf("%d of %d, after %d", done, total, last)
		}
		last = done
	}})
	if last == 0 {
		t.Error("no progress")
	}
}
