package imagetest

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-dmg/dmg"
	"github.com/go-dmg/dmg/internal/dmgtest"
	"github.com/go-dmg/dmg/internal/lzfse"
)

// asifSays is what is wrong with the samples that must be refused.
var asifSays = map[string]string{
	"bad_bitmap_missing.asif.gz":      "bitmap entry 0x0",
	"bad_bitmap_outside.asif.gz":      "bitmap entry 0xffffffffffff: chunk 281474976710655 lies outside the file",
	"bad_block_size_0.asif.gz":        "sectors of 0 bytes",
	"bad_chunk_outside.asif.gz":       "lies outside the file",
	"bad_chunk_size_0.asif.gz":        "chunks of 0 bytes",
	"bad_chunk_size_4g.asif.gz":       "chunks of 4294966784 bytes",
	"bad_directory_outside.asif.gz":   "directory at 9223372036854775807, outside the file",
	"bad_reserved_bits.asif.gz":       "entry 0x7f80000000000005",
	"bad_sector_state.asif.gz":        "sector state 3",
	"bad_sectors.asif.gz":             "sectors of a disk that could have",
	"bad_segments.asif.gz":            "number that is 0 in all known images",
	"bad_status_0_with_chunk.asif.gz": "entry 0x5",
	"bad_table_outside.asif.gz":       "outside the file",
}

// TestASIFSamples reads what diskutil wrote, and what a writer in Python did.
func TestASIFSamples(t *testing.T) {
	dmgtest.Long(t)
	t.Parallel()
	dir := filepath.Join(Samples(), "asif")
	manifest, err := os.ReadFile(filepath.Join(dir, "MANIFEST.tsv"))
	if err != nil {
		t.Skip("no samples: ", err)
	}
	good := unpackASIF(t, filepath.Join(dir, "made_holes.asif.gz"))
	rows := strings.Split(strings.TrimSpace(string(manifest)), "\n")[1:]
	if len(rows) < 23 {
		t.Fatalf("%d rows in the manifest", len(rows))
	}
	rows = append(rows, "blank_100GB.asif.lzfse\t100000000000\tall zero")
	for _, row := range rows {
		col := strings.Split(row, "\t")
		t.Run(col[0], func(t *testing.T) {
			file := unpackASIF(t, filepath.Join(dir, col[0]))
			im, err := dmg.NewImage(bytes.NewReader(file), int64(len(file)), nil)
			if strings.HasPrefix(col[0], "bad_") {
				checkBadASIF(t, im, err, good, asifSays[col[0]])
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer im.Close()
			if im.Format() != "ASIF" || fmt.Sprint(im.Layers()) != "[ASIF]" || len(im.Defects()) > 0 {
				t.Errorf("%s %v, defects %v", im.Format(), im.Layers(), im.Defects())
			}
			size, err := strconv.ParseInt(col[1], 10, 64)
			if err != nil || im.Size() != size {
				t.Fatalf("%d bytes, want %s", im.Size(), col[1])
			}
			if len(col[2]) == 64 {
				CheckDisk(t, im, size, col[2])
				return
			}
			checkSparseASIF(t, im, col[2])
		})
	}
}

func unpackASIF(t *testing.T, name string) []byte {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var r io.Reader
	if strings.HasSuffix(name, ".gz") {
		if r, err = gzip.NewReader(f); err != nil {
			t.Fatal(err)
		}
	} else {
		z := new(lzfse.Reader)
		z.Reset(f)
		r = z
	}
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// checkBadASIF: the image is refused, or what is wrong with it when that is read; all else
// is as in the good one.
func checkBadASIF(t *testing.T, im *dmg.Image, err error, good []byte, say string) {
	t.Helper()
	if err != nil {
		if !errors.Is(err, dmg.ErrFormat) || !strings.Contains(err.Error(), say) {
			t.Errorf("%v, want %q", err, say)
		}
		return
	}
	defer im.Close()
	right, err := dmg.NewImage(bytes.NewReader(good), int64(len(good)), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer right.Close()
	want := ReadInSteps(t, right, 1<<20)
	damaged := make([]bool, im.Size()/512)
	for s := range damaged {
		p := make([]byte, 512)
		n, err := im.ReadAt(p, int64(s)*512)
		if damaged[s] = err != nil; err == nil {
			if !bytes.Equal(p, want[s*512:][:512]) {
				t.Fatalf("sector %d is wrong", s)
			}
			continue
		}
		var chunk *dmg.ChunkError
		if n > 0 || !errors.Is(err, dmg.ErrFormat) || !errors.As(err, &chunk) || !strings.Contains(err.Error(), say) {
			t.Fatalf("sector %d: %d, %v; want %q", s, n, err, say)
		}
		if c := chunk.Chunk; c.Offset > int64(s)*512 || c.Offset+c.Length < int64(s+1)*512 {
			t.Fatalf("sector %d: %v", s, c)
		}
	}
	lost := make([]bool, im.Size()/512)
	var out buffer
	err = im.Extract(context.Background(), &out, &dmg.ExtractOptions{Damaged: func(d dmg.Damage) error {
		for off := d.Offset; off < d.End(); off += 512 {
			lost[off/512] = true
		}
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	sectors := 0
	for s := range damaged {
		if damaged[s] {
			sectors++
			clear(want[s*512:][:512])
		}
		if damaged[s] != lost[s] {
			t.Fatalf("sector %d is damaged %v, and Extract says %v", s, damaged[s], lost[s])
		}
	}
	if sectors == 0 || !bytes.Equal(out.b, want) {
		t.Errorf("%d damaged sectors; the others are extracted right: %v", sectors, bytes.Equal(out.b, want))
	}
	if err := im.Verify(context.Background(), nil); !errors.Is(err, dmg.ErrFormat) || !strings.Contains(err.Error(), say) {
		t.Errorf("Verify: %v", err)
	}
	CheckChunks(t, im)
}

// buffer is an io.WriterAt in memory.
type buffer struct {
	mu sync.Mutex
	b  []byte
}

func (b *buffer) WriteAt(p []byte, off int64) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if grow := int(off) + len(p) - len(b.b); grow > 0 {
		b.b = append(b.b, make([]byte, grow)...)
	}
	return copy(b.b[off:], p), nil
}

// sparseOut counts what is written of a large output.
type sparseOut struct {
	mu      sync.Mutex
	written int64
	take    func(p []byte, off int64)
}

func (r *sparseOut) WriteAt(p []byte, off int64) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.written += int64(len(p))
	if r.take != nil {
		r.take(p, off)
	}
	return len(p), nil
}

// checkSparseASIF reads a large disk of which there is little: what the manifest has sums
// of. All else is a hole, which takes no time.
func checkSparseASIF(t *testing.T, im *dmg.Image, sums string) {
	t.Helper()
	begun := time.Now()
	data := make(map[int64]int64) // what is in the ranges of the manifest
	for _, field := range strings.Fields(sums) {
		at, sum, ok := strings.Cut(field, "=")
		if !ok {
			continue // all zero
		}
		var off, n int64
		if _, err := fmt.Sscanf(at, "%d+%d", &off, &n); err != nil {
			t.Fatal(err)
		}
		p := make([]byte, n)
		if _, err := im.ReadAt(p, off); err != nil || SumOf(p) != sum {
			t.Errorf("%s: %v", at, err)
		}
		data[off] = n
	}
	stored := int64(0)
	for c := range im.Chunks() {
		if c.Method == dmg.Zero {
			continue
		}
		stored += c.Length
		if n := data[c.Offset>>20<<20]; n < c.Length {
			t.Errorf("%v is none of the manifest's", c)
		}
	}
	CheckChunks(t, im)
	p := make([]byte, 100_000)
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		off := rnd.Int64N(im.Size() - int64(len(p)))
		if _, ok := data[off>>20<<20]; ok {
			continue
		}
		if _, ok := data[(off+int64(len(p)))>>20<<20]; ok {
			continue
		}
		if _, err := im.ReadAt(p, off); err != nil || len(bytes.Trim(p, "\x00")) > 0 {
			t.Fatalf("at %d: %v, or no zeros", off, err)
		}
	}
	var out sparseOut
	if err := im.Extract(context.Background(), &out, &dmg.ExtractOptions{Sparse: true}); err != nil {
		t.Error(err)
	}
	// Holes of up to 16 KiB are read, and written, with what is around them.
	if out.written < stored || out.written > stored+int64(len(data))<<20 {
		t.Errorf("%d bytes are written of %d", out.written, stored)
	}
	if took := time.Since(begun); took > 20*time.Second {
		t.Errorf("%d bytes took %v", im.Size(), took)
	}
}

// mkasif is a writer of ASIF in Python, which shares no code with this project.
const mkasif = "../../../shared/tools/mkasif.py"

var mkasifTests = []string{
	"",
	"--whole --shuffle",
	"--garbage --unmapped --user a=b",
	"--block 4096 --garbage",
	"--chunk 64K --garbage --max-size 1G --empty-table 2",
	"--chunk 16896 --garbage --max-size 16896M --shuffle",
	"--active 0 --version 9 --stale",
	"--active 1 --version 9223372036854775808 --stale --no-metadata",
}

// TestMkasif reads what the other writer wrote, with every option it has that is no lie.
func TestMkasif(t *testing.T) {
	t.Parallel()
	dmgtest.Native(t)
	run := runMkasif(t)
	raw := filepath.Join(t.TempDir(), "disk.raw")
	disk := dmgtest.Join(dmgtest.Mixed(1, 512<<10), dmgtest.Zeros(1400<<10), dmgtest.Text(2, 700<<10), dmgtest.Zeros(9<<10), dmgtest.Random(3, 5<<10)).Bytes()
	if err := os.WriteFile(raw, disk, 0o666); err != nil {
		t.Fatal(err)
	}
	for i, args := range mkasifTests {
		if dmgtest.Part() && i%4 != 2 {
			continue
		}
		t.Run(strings.ReplaceAll(args, " ", "_"), func(t *testing.T) {
			t.Parallel()
			want := disk
			if strings.Contains(args, "4096") {
				want = append(bytes.Clone(disk), make([]byte, -len(disk)&4095)...)
			}
			im := run(t, append([]string{raw}, strings.Fields(args)...))
			CheckDisk(t, im, int64(len(want)), SumOf(want))
		})
	}
	t.Run("1T", func(t *testing.T) {
		t.Parallel()
		im := run(t, []string{raw, "--size", "1T", "--garbage", "--at", "126G:" + raw, "--at", "1000G:" + raw})
		places := []int64{0, 126 << 30, 1000 << 30}
		if im.Size() != 1<<40 {
			t.Fatalf("%d bytes", im.Size())
		}
		var wg sync.WaitGroup
		for i := range 16 {
			wg.Add(1)
			go func() {
				defer wg.Done()
				rnd := rand.New(rand.NewPCG(1, uint64(i)))
				for range 60 {
					at := rnd.IntN(len(disk))
					p := make([]byte, rnd.IntN(min(len(disk)-at, 60_000)+1))
					off := places[rnd.IntN(3)] + int64(at)
					if _, err := im.ReadAt(p, off); err != nil || !bytes.Equal(p, disk[at:][:len(p)]) {
						t.Errorf("%d bytes at %d: %v", len(p), off, err)
					}
				}
			}()
		}
		wg.Wait()
		got := map[int64][]byte{}
		for _, off := range places {
			got[off] = make([]byte, len(disk))
		}
		out := sparseOut{take: func(p []byte, off int64) {
			for from, b := range got {
				if off >= from && off < from+int64(len(b)) {
					copy(b[off-from:], p)
					return
				}
			}
			t.Errorf("%d bytes are written at %d", len(p), off)
		}}
		begun := time.Now()
		if err := im.Extract(context.Background(), &out, &dmg.ExtractOptions{Sparse: true}); err != nil {
			t.Fatal(err)
		}
		took := time.Since(begun)
		t.Logf("extracted in %v, %d bytes written", took, out.written)
		if took > 10*time.Second {
			t.Errorf("extracting 1 TiB of holes took %v", took)
		}
		for off, b := range got {
			if !bytes.Equal(b, disk) {
				t.Errorf("what is at %d is extracted wrong", off)
			}
		}
	})
}

// runMkasif returns what writes and opens an image: mkasif.py with a raw disk and options.
func runMkasif(t *testing.T) func(t *testing.T, args []string) *dmg.Image {
	t.Helper()
	if _, err := os.Stat(mkasif); err != nil {
		t.Skip("no second writer: ", err)
	}
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("no Python: ", err)
	}
	return func(t *testing.T, args []string) *dmg.Image {
		t.Helper()
		name := filepath.Join(t.TempDir(), "image.asif")
		args = append([]string{mkasif, args[0], name}, args[1:]...)
		if out, err := exec.Command(python, args...).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		im, err := dmg.Open(name, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { im.Close() })
		return im
	}
}

// TestASIFSource: an error of the source while extents are looked up ends what was asked
// for, and is no damage.
func TestASIFSource(t *testing.T) {
	file, _ := dmgtest.ASIF{Size: 1 << 20, Data: map[int64][]byte{0: dmgtest.Text(1, 700_000).Bytes()}}.Bytes()
	fails := errors.New("the source fails")
	extract := func(good int) (calls int, err error) {
		var mu sync.Mutex
		r := readerFunc(func(p []byte, off int64) (int, error) {
			mu.Lock()
			defer mu.Unlock()
			if calls++; calls > good {
				return 0, fails
			}
			return bytes.NewReader(file).ReadAt(p, off)
		})
		im, err := dmg.NewImage(r, int64(len(file)), nil)
		if err != nil {
			return calls, err
		}
		defer im.Close()
		return calls, im.Extract(context.Background(), new(buffer), &dmg.ExtractOptions{Workers: 1, Damaged: func(d dmg.Damage) error {
			t.Errorf("%v is reported: %v", d, d.Err)
			return nil
		}})
	}
	all, err := extract(1000)
	if err != nil || all < 8 {
		t.Fatalf("%d calls, %v", all, err)
	}
	for good := range all - 1 { // the last call may be for what a prefetch doesn't need
		if _, err := extract(good); !errors.Is(err, fails) || errors.Is(err, dmg.ErrFormat) {
			t.Errorf("from call %d on: %v", good+1, err)
		}
	}
}

type readerFunc func(p []byte, off int64) (int, error)

func (f readerFunc) ReadAt(p []byte, off int64) (int, error) { return f(p, off) }
