package dmg

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"testing/iotest"

	"github.com/go-dmg/dmg/internal/dmgtest"
)

// indexDisk is 3 MiB and a bit: 48 spans of checkpoints, four bzip2 blocks. Where
// decoding is slow it is half of that.
func indexDisk() []byte {
	mib := fewer[int64](1<<20, 2)
	return dmgtest.Join(dmgtest.Mixed(5, mib), dmgtest.Text(6, 2*mib), dmgtest.Random(7, 5000)).Bytes()
}

func newTest(t testing.TB, file []byte, opts *Options) *Image {
	t.Helper()
	im, err := NewImage(bytes.NewReader(file), int64(len(file)), opts)
	if err != nil {
		t.Fatal(err)
	}
	return im
}

// indexOf returns the image's index.
func indexOf(t testing.TB, im *Image) *Index {
	t.Helper()
	ix, err := im.Index()
	if err != nil {
		t.Fatal(err)
	}
	return ix
}

// saved returns the bytes of the image's index.
func saved(t testing.TB, im *Image) []byte {
	t.Helper()
	var b bytes.Buffer
	if n, err := indexOf(t, im).WriteTo(&b); err != nil || n != int64(b.Len()) {
		t.Fatalf("WriteTo = %d, %v, wrote %d", n, err, b.Len())
	}
	return b.Bytes()
}

func readIndex(t testing.TB, file []byte) *Index {
	t.Helper()
	ix, err := ReadIndex(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	return ix
}

// readThrough reads the whole disk and compares it.
func readThrough(t testing.TB, im *Image, disk []byte) {
	t.Helper()
	var b bytes.Buffer
	if _, err := im.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	if got := b.Bytes(); !bytes.Equal(got[:len(disk)], disk) || len(bytes.Trim(got[len(disk):], "\x00")) > 0 {
		t.Fatal("wrong bytes")
	}
}

// builtIndex returns the index of an image whose whole disk has been read.
func builtIndex(t testing.TB, file, disk []byte) []byte {
	t.Helper()
	im := newTest(t, file, nil)
	readThrough(t, im, disk)
	return saved(t, im)
}

var indexImages = []struct {
	name string
	o    dmgtest.Options
	most int64 // the longest way between checkpoints that the index may have
}{
	{name: "zlib one chunk", o: dmgtest.Options{}, most: 512 << 10},
	{name: "zlib 1 MiB", o: dmgtest.Options{ChunkSectors: 2048}, most: 512 << 10},
	{name: "zlib level 1", o: dmgtest.Options{Level: 1, ChunkSectors: 5000}, most: 512 << 10},
	{name: "bzip2 one chunk", o: dmgtest.Options{Codecs: []dmgtest.Method{dmgtest.Bzip2}}, most: 900_000},
	{name: "bzip2 level 1", o: dmgtest.Options{Codecs: []dmgtest.Method{dmgtest.Bzip2}, Level: 1}, most: 200_000},
	{name: "mixed", o: dmgtest.Options{
		Codecs:       []dmgtest.Method{dmgtest.Zlib, dmgtest.Bzip2, dmgtest.Raw, dmgtest.LZFSE, dmgtest.Zlib},
		ChunkSectors: 3000, Shuffle: true,
	}, most: 3000 * sectorSize},
}

// An Image that is given the index of another one of the same file decodes no
// more for its first read than from the last checkpoint on, or one block.
func TestIndexRoundTrip(t *testing.T) {
	dmgtest.NotRaced(t)
	t.Parallel()
	disk := indexDisk()
	for _, tt := range indexImages {
		t.Run(tt.name, func(t *testing.T) {
			file := dmgtest.Image(t, disk, tt.o)
			index := builtIndex(t, file, disk)
			ix := readIndex(t, index)
			points := 0
			for _, offs := range places(newTest(t, file, &Options{Index: ix})) {
				points += len(offs)
			}
			if ix.Len() != points || points == 0 {
				t.Errorf("Len is %d, of %d checkpoints", ix.Len(), points)
			}
			if limit := max(len(file)/indexShare, indexFloor); len(index) > limit {
				t.Errorf("an index of %d bytes for an image of %d", len(index), len(file))
			}
			rng := rand.New(rand.NewPCG(1, 2))
			for range 20 {
				im := newTest(t, file, &Options{Index: ix})
				p := make([]byte, 4096)
				off := rng.Int64N(int64(len(disk) - len(p)))
				before := im.Stats().BytesDecoded
				if _, err := im.ReadAt(p, off); err != nil || !bytes.Equal(p, disk[off:][:len(p)]) {
					t.Fatalf("read at %d: %v or wrong bytes", off, err)
				}
				decoded := im.Stats().BytesDecoded - before
				if limit := tt.most + 4096; decoded > limit {
					t.Errorf("the first read decodes %d bytes, more than %d", decoded, limit)
				}
			}
			again := newTest(t, file, &Options{Index: ix})
			if got := saved(t, again); !bytes.Equal(got, index) {
				t.Error("an index that was taken over and saved is another one")
			}
			readThrough(t, again, disk)
		})
	}
}

// Damage that came after the index was made, and that only a checksum shows, is
// found wherever in a chunk it is: by ways through the whole disk, which begin at
// checkpoints, so that only the last comes to the chunk's end, and by a reader
// who goes from one checkpoint over the damage to another.
func TestIndexOfDamaged(t *testing.T) {
	dmgtest.NotRaced(t)
	withCores(t)
	disk := dmgtest.Random(3, 8<<20).Bytes() // in stored blocks
	file := dmgtest.Image(t, disk, dmgtest.Options{})
	ix := readIndex(t, builtIndex(t, file, disk))
	for _, part := range []float64{0.01, 0.3, 0.5, 0.8, 0.99} {
		damaged := bytes.Clone(file)
		damaged[int(part*float64(len(disk)))] ^= 1
		for _, memory := range []int64{0, 4 << 20} {
			ways := map[string]func(im *Image) error{
				"WriteTo": func(im *Image) error { _, err := im.WriteTo(io.Discard); return err },
				"Extract": func(im *Image) error { return im.Extract(context.Background(), newRecorder(im.Size()), nil) },
				"Verify":  func(im *Image) error { return im.Verify(context.Background(), nil) },
				"ReadAt": func(im *Image) error {
					at := int64(part * float64(im.Size()))
					from, to := max(0, at-1<<20), min(im.Size(), at+1<<20)
					_, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, io.NewSectionReader(im, from, to-from), make([]byte, 10_000))
					return err
				},
			}
			for name, way := range ways {
				var damage *ChunkError
				im := newTest(t, damaged, &Options{Index: ix, MemoryLimit: memory})
				if err := way(im); !errors.Is(err, ErrChecksum) || !errors.As(err, &damage) {
					t.Errorf("a byte at %v of the chunk, limit %d: %s: %v", part, memory, name, err)
				}
			}
		}
	}
}

// Every kind of image has an index, if only an empty one.
func TestIndexOfContainers(t *testing.T) {
	dmgtest.Long(t)
	dmgtest.NotRaced(t)
	t.Parallel()
	disk := dmgtest.Mixed(1, 1<<20).Bytes()
	copy(disk[510:], "\x55\xAA")
	write := func(b []byte) string {
		name := filepath.Join(t.TempDir(), "image.dmg")
		if err := os.WriteFile(name, b, 0o666); err != nil {
			t.Fatal(err)
		}
		return name
	}
	udif := func(codecs ...dmgtest.Method) []byte {
		return dmgtest.Image(t, disk, dmgtest.Options{Codecs: codecs})
	}
	encryption := dmgtest.Encryption{Password: "pass"}
	for _, tt := range []struct {
		name, file string
		empty      bool
	}{
		{"raw disk", write(disk), true},
		{"raw image", write(udif(dmgtest.Raw)), true},
		{"adc", write(udif(dmgtest.ADC)), true},
		{"lzfse", write(udif(dmgtest.LZFSE)), true},
		{"lzma", write(udif(dmgtest.LZMA)), true},
		{"sparse image", write(dmgtest.SparseImage(disk, dmgtest.SparseOptions{})), true},
		{"sparse bundle", dmgtest.SparseBundle(t, disk, dmgtest.BundleOptions{}), true},
		{"encrypted raw disk", write(encryption.Image(disk)), true},
		{"encrypted zlib", write(encryption.Image(udif(dmgtest.Zlib))), false},
		{"zlib", write(udif(dmgtest.Zlib)), false},
		{"bzip2", write(udif(dmgtest.Bzip2)), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			im, err := Open(tt.file, &Options{Password: "pass"})
			if err != nil {
				t.Fatal(err)
			}
			defer im.Close()
			unread := saved(t, im)
			readThrough(t, im, disk)
			index := saved(t, im)
			if bytes.Equal(unread, index) != tt.empty {
				t.Errorf("an index of %d bytes, unread one of %d", len(index), len(unread))
			}
			for _, b := range [][]byte{unread, index} {
				other, err := Open(tt.file, &Options{Password: "pass", Index: readIndex(t, b)})
				if err != nil {
					t.Fatal(err)
				}
				defer other.Close()
				readThrough(t, other, disk)
			}
		})
	}
}

// What the tests need of docs/INDEX.md.
const (
	indexMagic     = "\x89DMGIDX\n"
	indexVersion   = 1
	indexIdentity  = 12 // offsets in the header
	indexCount     = 44
	indexDirectory = 52
	indexHeader    = 60 // its length
	numParts       = 4  // of a group
	groupPoints    = 16
	pointLen       = 13 // of a bzip2 block's record
	cursorLen      = 15
)

// failingWriter takes n bytes.
type failingWriter struct{ n int }

var errTest = errors.New("test error")

func (w *failingWriter) Write(p []byte) (int, error) {
	k := min(w.n, len(p))
	w.n -= k
	if k < len(p) {
		return k, errTest
	}
	return k, nil
}

// Errors of readers, writers and sources are passed on.
func TestIndexErrors(t *testing.T) {
	disk := dmgtest.Text(1, 300<<10).Bytes()
	image := dmgtest.Image(t, disk, dmgtest.Options{DataSum: dmgtest.NoSum, TableSum: dmgtest.NoSum, MasterSum: dmgtest.NoSum})
	index := builtIndex(t, image, disk)
	r := io.MultiReader(bytes.NewReader(index[:100]), iotest.ErrReader(errTest))
	if _, err := ReadIndex(r); !errors.Is(err, errTest) {
		t.Errorf("ReadIndex: %v", err)
	}
	for _, r := range []io.Reader{
		iotest.OneByteReader(bytes.NewReader(index)), iotest.HalfReader(bytes.NewReader(index)), iotest.DataErrReader(bytes.NewReader(index)),
	} {
		if _, err := ReadIndex(r); err != nil {
			t.Errorf("%T: %v", r, err)
		}
	}
	if n, err := readIndex(t, index).WriteTo(&failingWriter{50}); n != 50 || err != errTest {
		t.Errorf("WriteTo = %d, %v", n, err)
	}

	// Without checksums the source is read to tell images apart.
	failing := false
	source := dmgtest.ReaderAtFunc(func(p []byte, off int64) (int, error) {
		if failing {
			return 0, errTest
		}
		return bytes.NewReader(image).ReadAt(p, off)
	})
	im, err := NewImage(source, int64(len(image)), nil)
	if err != nil {
		t.Fatal(err)
	}
	failing = true
	if ix, err := im.Index(); !errors.Is(err, errTest) || ix != nil {
		t.Errorf("Index of what could not be identified: %v, %v", ix, err)
	}
	failing = false
	if got := saved(t, im); len(got) >= len(index) {
		t.Errorf("an index of %d bytes of an image that was not read", len(got))
	}
}

// TestIndexOfHugeChunk asks for the index of a chunk that says it has nearly 2^63
// bytes, whose start is a checkpoint with more in it than the index has room for.
func TestIndexOfHugeChunk(t *testing.T) {
	dmgtest.Long(t)
	dmgtest.Native(t)
	t.Parallel()
	data, err := dmgtest.Compress(dmgtest.Bzip2, 9, make([]byte, 46<<20))
	if err != nil {
		t.Fatal(err)
	}
	for _, sectors := range []int64{1 << 40, maxSectors} {
		im := imageOf(t, Options{}, data, dmgtest.Chunk{Method: dmgtest.Bzip2, Sectors: uint64(sectors), Length: uint64(len(data))})
		im.ReadAt(make([]byte, 1<<20), 45<<20)
		if len(im.mu.points.chunks[0]) == 0 {
			t.Fatal("there is no checkpoint")
		}
		if ix := indexOf(t, im); ix.Len() != 0 {
			t.Errorf("%d sectors: %d checkpoints", sectors, ix.Len())
		}
	}
}
