package dmg_test

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/go-dmg/dmg"
)

const samples = "../shared/samples"

// sample is a row of the samples' MANIFEST.tsv.
type sample struct {
	file, password string
	size           int64
	sum            string // SHA-256 of the disk
}

func readManifest(t *testing.T) []sample {
	t.Helper()
	f, err := os.Open(filepath.Join(samples, "MANIFEST.tsv"))
	if err != nil {
		t.Skip("no samples: ", err)
	}
	defer f.Close()
	var rows []sample
	s := bufio.NewScanner(f)
	for s.Scan() {
		col := strings.Split(s.Text(), "\t")
		if len(col) != 4 {
			t.Fatalf("MANIFEST.tsv: %q", s.Text())
		}
		size, err := strconv.ParseInt(col[2], 10, 64)
		if err != nil {
			continue // the heading
		}
		password := strings.TrimPrefix(col[1], "-")
		rows = append(rows, sample{col[0], password, size, col[3]})
	}
	if len(rows) == 0 {
		t.Fatal("MANIFEST.tsv has no rows")
	}
	return rows
}

func sumOf(disk []byte) string {
	sum := sha256.Sum256(disk)
	return hex.EncodeToString(sum[:])
}

// readInSteps reads the whole disk in order.
func readInSteps(t *testing.T, im *dmg.Image, step int) []byte {
	t.Helper()
	disk := make([]byte, im.Size())
	for off := 0; off < len(disk); off += step {
		p := disk[off:min(len(disk), off+step)]
		if n, err := im.ReadAt(p, int64(off)); n != len(p) || err != nil {
			t.Fatalf("ReadAt(%d, %d) = %d, %v", len(p), off, n, err)
		}
	}
	return disk
}

// readInPieces reads the whole disk in pieces of random length and order, from
// many goroutines.
func readInPieces(t *testing.T, im *dmg.Image, readers int) []byte {
	t.Helper()
	rng := rand.New(rand.NewPCG(1, 2))
	disk := make([]byte, im.Size())
	type piece struct{ off, end int }
	var pieces []piece
	for off := 0; off < len(disk); {
		end := min(len(disk), off+1+rng.IntN(100_000))
		pieces = append(pieces, piece{off, end})
		off = end
	}
	rng.Shuffle(len(pieces), func(i, j int) { pieces[i], pieces[j] = pieces[j], pieces[i] })
	var wg sync.WaitGroup
	for i := range readers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for k := i; k < len(pieces); k += readers {
				p := disk[pieces[k].off:pieces[k].end]
				if n, err := im.ReadAt(p, int64(pieces[k].off)); n != len(p) || err != nil {
					t.Errorf("ReadAt(%d, %d) = %d, %v", len(p), pieces[k].off, n, err)
				}
			}
		}()
	}
	wg.Wait()
	return disk
}

// checkDisk compares what an image's readers give with the SHA-256 of its disk.
func checkDisk(t *testing.T, im *dmg.Image, size int64, sum string) {
	t.Helper()
	checkDiskWith(t, im, size, sum, nil)
}

// checkDiskWith is checkDisk for a disk whose reading as a whole ends with an error.
func checkDiskWith(t *testing.T, im *dmg.Image, size int64, sum string, whole error) {
	t.Helper()
	if im.Size() != size {
		t.Errorf("Size = %d, want %d", im.Size(), size)
	}
	if got := sumOf(readInSteps(t, im, 1<<20)); got != sum {
		t.Errorf("in steps: SHA-256 %s, want %s", got, sum)
	}
	if got := sumOf(readInPieces(t, im, 16)); got != sum {
		t.Errorf("in pieces: SHA-256 %s, want %s", got, sum)
	}
	h := sha256.New()
	if n, err := im.WriteTo(h); n != size || !errors.Is(err, whole) {
		t.Errorf("WriteTo = %d, %v, want %d, %v", n, err, size, whole)
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != sum {
		t.Errorf("WriteTo: SHA-256 %s, want %s", got, sum)
	}
	checkChunks(t, im)
}

// checkChunks tests that the chunks cover the disk from end to end.
func checkChunks(t *testing.T, im *dmg.Image) {
	t.Helper()
	off := int64(0)
	for c := range im.Chunks() {
		if c.Offset != off || c.Length <= 0 {
			t.Fatalf("%v at %d, %d bytes: want one at %d", c, c.Offset, c.Length, off)
		}
		if p := c.Partition; p < -1 || p >= len(im.Partitions()) {
			t.Fatalf("%v: partition %d of %d", c, p, len(im.Partitions()))
		}
		off += c.Length
	}
	if off != im.Size() {
		t.Errorf("chunks end at %d, the disk at %d", off, im.Size())
	}
}

func TestSamples(t *testing.T) {
	for _, s := range readManifest(t) {
		t.Run(s.file, func(t *testing.T) {
			im, err := dmg.Open(filepath.Join(samples, s.file), &dmg.Options{Password: s.password})
			if err != nil {
				t.Fatal(err)
			}
			defer im.Close()
			checkDisk(t, im, s.size, s.sum)
		})
	}
}

// The disks of the images in testdata.
const (
	fullDisk = "ef5a0155dc7b21303cdad93c4b8719b09c259b6a33cc9a5cdb1e967aec3a156f"
	gapsDisk = "7fa27ea8520282bf98b727473a0ffdde7ecf205365289efe4f0dda0e71cadf69"
	apfsDisk = "8ee999532b20e8fcdb2e67a94f93f0d85e1620349da533d869891b1e39be361e"
	diskSize = 135168 // but for the last
)

var imageTests = []struct {
	file   string // in testdata; its README says how each was made
	format string
	sum    string // SHA-256 of the decoded disk
	open   error  // if set, Open fails with it
	read   error  // if set, reading the whole disk fails with it
	whole  error  // of WriteTo, behind the last byte
	defect string // part of the one that it has; "" if it has none
}{
	{file: "good-raw.dmg", format: "UDRO", sum: fullDisk},
	{file: "good-zlib.dmg", format: "UDZO", sum: fullDisk},
	{file: "good-bzip2.dmg", format: "UDBZ", sum: fullDisk},
	{file: "good-lzma.dmg", format: "ULMO", sum: fullDisk},
	{file: "good-lzfse.dmg", format: "ULFO", sum: fullDisk},
	{file: "good-lzfse-short.dmg", format: "ULFO", sum: fullDisk},
	{file: "good-adc.dmg", format: "UDCO", sum: fullDisk},
	{file: "good-one-chunk.dmg", format: "UDZO", sum: fullDisk},
	{file: "good-mixed.dmg", format: "UDCO", sum: fullDisk},
	{file: "good-rsrc-only.dmg", format: "UDCO", sum: fullDisk},
	{file: "good-koly-first.dmg", format: "UDCO", sum: fullDisk},
	{file: "good-tail.dmg", format: "UDZO", sum: fullDisk},
	{file: "good-trailing.dmg", format: "UDCO", sum: fullDisk},
	{file: "good-ignore.dmg", format: "UDZO", sum: fullDisk},
	{file: "good-sums.dmg", format: "UDZO", sum: fullDisk},
	{file: "good-no-sums.dmg", format: "UDZO", sum: fullDisk},
	{file: "good-names.dmg", format: "UDZO", sum: fullDisk},
	{file: "good-gaps.dmg", format: "UDZO", sum: gapsDisk},
	{file: "good-apfs.dmg", format: "UDZO", sum: apfsDisk},
	{file: "unsupported-1990s.dmg", format: "UDZO", read: dmg.ErrUnsupported},
	{file: "bad-cut-table.dmg", format: "UDZO", sum: fullDisk, defect: "room for"},
	{file: "bad-chunk-count.dmg", format: "UDZO", sum: fullDisk, defect: "4294967295 chunks, room for"},
	{file: "bad-overlap.dmg", format: "UDZO", read: dmg.ErrFormat, defect: "overlaps"},
	{file: "bad-chunk-sectors.dmg", format: "UDZO", read: dmg.ErrFormat, defect: "reaches beyond"},
	{file: "bad-wrapped-sectors.dmg", format: "UDZO", read: dmg.ErrFormat, defect: "more than a disk can have"},
	{file: "bad-data-range.dmg", format: "UDZO", read: dmg.ErrFormat, defect: "outside the file"},
	{file: "bad-wrapped-offset.dmg", format: "UDZO", read: dmg.ErrFormat, defect: "outside the file"},
	{file: "bad-nested-plist.dmg", open: dmg.ErrFormat},
	{file: "bad-plist-range.dmg", open: dmg.ErrFormat},
	{file: "bad-short-chunk.dmg", format: "UDZO", read: dmg.ErrFormat},
	{file: "bad-stream.dmg", format: "UDZO", read: dmg.ErrChecksum},
	{file: "bad-table-sum.dmg", format: "UDZO", sum: fullDisk, whole: dmg.ErrChecksum},
	{file: "bad-data-sum.dmg", format: "UDZO", sum: fullDisk},
}

func TestImages(t *testing.T) {
	tested := make(map[string]bool)
	for _, tt := range imageTests {
		tested[tt.file] = true
		t.Run(tt.file, func(t *testing.T) {
			im, err := dmg.Open(filepath.Join("testdata", tt.file), nil)
			if !errors.Is(err, tt.open) {
				t.Fatalf("Open: %v, want %v", err, tt.open)
			}
			if tt.open != nil {
				return
			}
			defer im.Close()
			if im.Format() != tt.format {
				t.Errorf("Format = %q, want %q", im.Format(), tt.format)
			}
			if got := im.Defects(); len(got) > 1 || (len(got) == 1) != (tt.defect != "") || tt.defect != "" && !strings.Contains(got[0].Error(), tt.defect) {
				t.Errorf("Defects = %v, want %q", got, tt.defect)
			}
			if tt.read == nil {
				size := int64(diskSize)
				if tt.sum == apfsDisk {
					size = 4366336
				}
				checkDiskWith(t, im, size, tt.sum, tt.whole)
				return
			}
			n, err := im.WriteTo(io.Discard)
			var chunk *dmg.ChunkError
			if !errors.Is(err, tt.read) || !errors.As(err, &chunk) || n != chunk.Chunk.Offset && tt.read == dmg.ErrUnsupported {
				t.Errorf("WriteTo = %d, %v, want a ChunkError of class %v", n, err, tt.read)
			}
			checkChunks(t, im)
		})
	}
	files, err := filepath.Glob("testdata/*.dmg")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !tested[filepath.Base(f)] {
			t.Errorf("%s is in no test", f)
		}
	}
}

// Every partition's reader and the disk's keep the contract that
// testing/iotest checks.
func TestSectionReader(t *testing.T) {
	im := openTest(t, "good-mixed.dmg", nil)
	disk := readInSteps(t, im, 1<<20)
	if err := iotest.TestReader(io.NewSectionReader(im, 0, im.Size()), disk); err != nil {
		t.Error(err)
	}
	for _, p := range im.Partitions() {
		if err := iotest.TestReader(p.Section(), disk[p.Offset:p.Offset+p.Length]); err != nil {
			t.Errorf("%s: %v", p.Name, err)
		}
	}
}

func openTest(t *testing.T, name string, opts *dmg.Options) *dmg.Image {
	t.Helper()
	im, err := dmg.Open(filepath.Join("testdata", name), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := im.Close(); err != nil {
			t.Error(err)
		}
	})
	return im
}

var errNegative = errors.New("some error that is not io.EOF")

var readAtTests = []struct {
	name string
	off  int64
	len  int
	n    int
	err  error
}{
	{name: "start", off: 0, len: 10, n: 10},
	{name: "nothing", off: 5, len: 0, n: 0},
	{name: "nothing at the end", off: diskSize, len: 0, n: 0},
	{name: "last byte", off: diskSize - 1, len: 1, n: 1},
	{name: "up to the end", off: diskSize - 700, len: 700, n: 700},
	{name: "across the end", off: diskSize - 3, len: 10, n: 3, err: io.EOF},
	{name: "at the end", off: diskSize, len: 1, n: 0, err: io.EOF},
	{name: "past the end", off: diskSize + 1, len: 1, n: 0, err: io.EOF},
	{name: "far past the end", off: 1<<63 - 1, len: 1 << 16, n: 0, err: io.EOF},
	{name: "all and more", off: 0, len: diskSize + 1, n: diskSize, err: io.EOF},
	{name: "negative", off: -1, len: 1, n: 0, err: errNegative},
}

func TestReadAt(t *testing.T) {
	im := openTest(t, "good-mixed.dmg", nil)
	disk := readInSteps(t, im, 1<<20)
	for _, tt := range readAtTests {
		t.Run(tt.name, func(t *testing.T) {
			p := bytes.Repeat([]byte{0xA5}, tt.len)
			n, err := im.ReadAt(p, tt.off)
			if tt.err == errNegative && err != nil && err != io.EOF {
				err = errNegative
			}
			if n != tt.n || err != tt.err {
				t.Fatalf("ReadAt = %d, %v, want %d, %v", n, err, tt.n, tt.err)
			}
			if n > 0 && !bytes.Equal(p[:n], disk[tt.off:tt.off+int64(n)]) {
				t.Error("wrong bytes")
			}
		})
	}
}

func TestNewImageSize(t *testing.T) {
	b, err := os.ReadFile("testdata/good-zlib.dmg")
	if err != nil {
		t.Fatal(err)
	}
	for size := range int64(len(b)) {
		if _, err := dmg.NewImage(bytes.NewReader(b), size, nil); !errors.Is(err, dmg.ErrFormat) {
			t.Fatalf("the first %d bytes of an image: %v, want ErrFormat", size, err)
		}
		if size == 3000 {
			break // each further one says the same of a longer file
		}
	}
	if _, err := dmg.NewImage(bytes.NewReader(b), -1, nil); err == nil {
		t.Error("a negative size is accepted")
	}
	if _, err := dmg.NewImage(bytes.NewReader(b), int64(len(b))+5000, nil); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a size beyond the source: %v, want io.ErrUnexpectedEOF", err)
	}
}

// A byte that is read twice is decoded once, whoever reads it.
func TestStats(t *testing.T) {
	im := openTest(t, "good-zlib.dmg", nil)
	readInSteps(t, im, 4096)
	first := im.Stats()
	if first.BytesRead != diskSize || first.BytesDecoded == 0 || first.SourceReads == 0 || first.SourceBytes == 0 {
		t.Errorf("after one way through: %+v", first)
	}
	readInSteps(t, im, 4096)
	second := im.Stats()
	if second.BytesDecoded != first.BytesDecoded || second.BytesRead != 2*diskSize || second.CacheHits <= first.CacheHits {
		t.Errorf("after the second: %+v, after the first: %+v", second, first)
	}
}

// A decoder that cannot be had within the limit is an error, and one that can
// serves any number of readers.
func TestMemoryLimit(t *testing.T) {
	im := openTest(t, "good-zlib.dmg", &dmg.Options{MemoryLimit: 100 << 10})
	if _, err := im.ReadAt(make([]byte, 1), 0); !errors.Is(err, dmg.ErrMemoryLimit) {
		t.Errorf("100 KiB: %v, want ErrMemoryLimit", err)
	}
	im = openTest(t, "good-mixed.dmg", &dmg.Options{MemoryLimit: 9 << 20})
	if got := sumOf(readInPieces(t, im, 64)); got != fullDisk {
		t.Error("wrong bytes from 64 readers")
	}
	if _, err := dmg.Open("testdata/good-zlib.dmg", &dmg.Options{MemoryLimit: -1}); err == nil {
		t.Error("a negative limit is accepted")
	}
}
