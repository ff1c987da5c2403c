package dmg_test

import (
	"bytes"
	"embed"
	"errors"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/go-dmg/dmg"
	"github.com/go-dmg/dmg/internal/imagetest"
)

func TestSamples(t *testing.T) {
	for _, s := range imagetest.ReadManifest(t) {
		t.Run(s.File, func(t *testing.T) {
			im, err := dmg.Open(filepath.Join(imagetest.Samples(), s.File), &dmg.Options{Password: s.Password})
			if err != nil {
				t.Fatal(err)
			}
			defer im.Close()
			imagetest.CheckDisk(t, im, s.Size, s.Sum)
		})
	}
}

// apfsDisk is the disk of good-apfs.dmg, larger than the others'.
const apfsDisk = "8ee999532b20e8fcdb2e67a94f93f0d85e1620349da533d869891b1e39be361e"

var imageTests = []struct {
	file   string // in testdata; its README says how each was made
	format string
	sum    string // SHA-256 of the decoded disk
	open   error  // if set, Open fails with it
	read   error  // if set, reading the whole disk fails with it
	whole  error  // of WriteTo, behind the last byte
	defect string // part of the one that it has; "" if it has none
}{
	{file: "good-raw.dmg", format: "UDRO", sum: imagetest.FullDisk},
	{file: "good-zlib.dmg", format: "UDZO", sum: imagetest.FullDisk},
	{file: "good-bzip2.dmg", format: "UDBZ", sum: imagetest.FullDisk},
	{file: "good-lzma.dmg", format: "ULMO", sum: imagetest.FullDisk},
	{file: "good-lzfse.dmg", format: "ULFO", sum: imagetest.FullDisk},
	{file: "good-lzfse-short.dmg", format: "ULFO", sum: imagetest.FullDisk},
	{file: "good-adc.dmg", format: "UDCO", sum: imagetest.FullDisk},
	{file: "good-one-chunk.dmg", format: "UDZO", sum: imagetest.FullDisk},
	{file: "good-mixed.dmg", format: "UDCO", sum: imagetest.FullDisk},
	{file: "good-rsrc-only.dmg", format: "UDCO", sum: imagetest.FullDisk},
	{file: "good-koly-first.dmg", format: "UDCO", sum: imagetest.FullDisk},
	{file: "good-tail.dmg", format: "UDZO", sum: imagetest.FullDisk},
	{file: "good-trailing.dmg", format: "UDCO", sum: imagetest.FullDisk},
	{file: "good-ignore.dmg", format: "UDZO", sum: imagetest.FullDisk},
	{file: "good-sums.dmg", format: "UDZO", sum: imagetest.FullDisk},
	{file: "good-no-sums.dmg", format: "UDZO", sum: imagetest.FullDisk},
	{file: "good-license.dmg", format: "UDZO", sum: imagetest.FullDisk},
	{file: "good-names.dmg", format: "UDZO", sum: imagetest.FullDisk},
	{file: "good-gaps.dmg", format: "UDZO", sum: imagetest.GapsDisk},
	{file: "good-apfs.dmg", format: "UDZO", sum: apfsDisk},
	{file: "unsupported-1990s.dmg", format: "UDZO", read: dmg.ErrUnsupported},
	{file: "bad-cut-table.dmg", format: "UDZO", sum: imagetest.FullDisk, defect: "room for"},
	{file: "bad-chunk-count.dmg", format: "UDZO", sum: imagetest.FullDisk, defect: "4294967295 chunks, room for"},
	{file: "bad-overlap.dmg", format: "UDZO", read: dmg.ErrFormat, defect: "overlaps"},
	{file: "bad-chunk-sectors.dmg", format: "UDZO", read: dmg.ErrFormat, defect: "reaches beyond"},
	{file: "bad-wrapped-sectors.dmg", format: "UDZO", read: dmg.ErrFormat, defect: "more than a disk can have"},
	{file: "bad-data-range.dmg", format: "UDZO", read: dmg.ErrFormat, defect: "outside the file"},
	{file: "bad-wrapped-offset.dmg", format: "UDZO", read: dmg.ErrFormat, defect: "outside the file"},
	{file: "bad-nested-plist.dmg", open: dmg.ErrFormat},
	{file: "bad-plist-range.dmg", open: dmg.ErrFormat},
	{file: "bad-short-chunk.dmg", format: "UDZO", read: dmg.ErrFormat},
	{file: "bad-stream.dmg", format: "UDZO", read: dmg.ErrChecksum},
	{file: "bad-table-sum.dmg", format: "UDZO", sum: imagetest.FullDisk, whole: dmg.ErrChecksum},
	{file: "bad-data-sum.dmg", format: "UDZO", sum: imagetest.FullDisk},
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
				size := int64(imagetest.DiskSize)
				if tt.sum == apfsDisk {
					size = 4366336
				}
				imagetest.CheckDiskWith(t, im, size, tt.sum, tt.whole)
				return
			}
			n, err := im.WriteTo(io.Discard)
			var chunk *dmg.ChunkError
			if !errors.Is(err, tt.read) || !errors.As(err, &chunk) || n != chunk.Chunk.Offset && tt.read == dmg.ErrUnsupported {
				t.Errorf("WriteTo = %d, %v, want a ChunkError of class %v", n, err, tt.read)
			}
			imagetest.CheckChunks(t, im)
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
	im := imagetest.OpenTest(t, "good-mixed.dmg", nil)
	disk := imagetest.ReadInSteps(t, im, 1<<20)
	if err := iotest.TestReader(io.NewSectionReader(im, 0, im.Size()), disk); err != nil {
		t.Error(err)
	}
	for _, p := range im.Partitions() {
		if err := iotest.TestReader(p.Section(), disk[p.Offset:p.Offset+p.Length]); err != nil {
			t.Errorf("%s: %v", p.Name, err)
		}
	}
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
	{name: "nothing at the end", off: imagetest.DiskSize, len: 0, n: 0},
	{name: "last byte", off: imagetest.DiskSize - 1, len: 1, n: 1},
	{name: "up to the end", off: imagetest.DiskSize - 700, len: 700, n: 700},
	{name: "across the end", off: imagetest.DiskSize - 3, len: 10, n: 3, err: io.EOF},
	{name: "at the end", off: imagetest.DiskSize, len: 1, n: 0, err: io.EOF},
	{name: "past the end", off: imagetest.DiskSize + 1, len: 1, n: 0, err: io.EOF},
	{name: "far past the end", off: 1<<63 - 1, len: 1 << 16, n: 0, err: io.EOF},
	{name: "all and more", off: 0, len: imagetest.DiskSize + 1, n: imagetest.DiskSize, err: io.EOF},
	{name: "negative", off: -1, len: 1, n: 0, err: errNegative},
}

func TestReadAt(t *testing.T) {
	im := imagetest.OpenTest(t, "good-mixed.dmg", nil)
	disk := imagetest.ReadInSteps(t, im, 1<<20)
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
	im := imagetest.OpenTest(t, "good-zlib.dmg", nil)
	imagetest.ReadInSteps(t, im, 4096)
	first := im.Stats()
	if first.BytesRead != imagetest.DiskSize || first.BytesDecoded == 0 || first.SourceReads == 0 || first.SourceBytes == 0 {
		t.Errorf("after one way through: %+v", first)
	}
	imagetest.ReadInSteps(t, im, 4096)
	second := im.Stats()
	if second.BytesDecoded != first.BytesDecoded || second.BytesRead != 2*imagetest.DiskSize || second.CacheHits <= first.CacheHits {
		t.Errorf("after the second: %+v, after the first: %+v", second, first)
	}
}

// A decoder that cannot be had within the limit is an error, and one that can
// serves any number of readers.
func TestMemoryLimit(t *testing.T) {
	im := imagetest.OpenTest(t, "good-zlib.dmg", &dmg.Options{MemoryLimit: 100 << 10})
	if _, err := im.ReadAt(make([]byte, 1), 0); !errors.Is(err, dmg.ErrMemoryLimit) {
		t.Errorf("100 KiB: %v, want ErrMemoryLimit", err)
	}
	im = imagetest.OpenTest(t, "good-mixed.dmg", &dmg.Options{MemoryLimit: 9 << 20})
	if got := imagetest.SumOf(imagetest.ReadInPieces(t, im, 64)); got != imagetest.FullDisk {
		t.Error("wrong bytes from 64 readers")
	}
	if _, err := dmg.Open("testdata/good-zlib.dmg", &dmg.Options{MemoryLimit: -1}); err == nil {
		t.Error("a negative limit is accepted")
	}
}

//go:embed testdata/good-zlib.dmg testdata/good-lzma.dmg
var embedded embed.FS

func TestOpenFSEmbedded(t *testing.T) {
	for _, name := range []string{"testdata/good-zlib.dmg", "testdata/good-lzma.dmg"} {
		im, err := dmg.OpenFS(embedded, name, nil)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		want := imagetest.ReadInSteps(t, imagetest.OpenTest(t, path.Base(name), nil), 1<<20)
		if got := imagetest.ReadInSteps(t, im, 4096); !bytes.Equal(got, want) {
			t.Errorf("%s: other bytes", name)
		}
		if err := im.Close(); err != nil {
			t.Error(err)
		}
	}
}
