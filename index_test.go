package dmg

import (
	"bytes"
	"compress/flate"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
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

// places returns the offsets of all checkpoints.
func places(im *Image) map[int][]int64 {
	all := make(map[int][]int64)
	for chunk, points := range im.mu.points.chunks {
		for _, p := range points {
			all[chunk] = append(all[chunk], p.off)
		}
	}
	return all
}

// The same checkpoints give the same bytes, however they came to be.
func TestIndexIsReproducible(t *testing.T) {
	dmgtest.NotRaced(t)
	disk := indexDisk()
	for _, tt := range indexImages {
		t.Run(tt.name, func(t *testing.T) {
			file := dmgtest.Image(t, disk, tt.o)
			want := builtIndex(t, file, disk)
			ways := []struct {
				name string
				opts Options
				read func(im *Image)
			}{
				{"in one read", Options{}, func(im *Image) { im.ReadAt(make([]byte, im.Size()), 0) }},
				{"in small steps", Options{}, func(im *Image) { readPrefix(im, make([]byte, im.Size()), 4096) }},
				{"in little memory", Options{MemoryLimit: 16 << 20}, func(im *Image) { im.WriteTo(io.Discard) }},
				{"in much memory", Options{MemoryLimit: 256 << 20}, func(im *Image) { im.WriteTo(io.Discard) }},
				{"chunks from the last", Options{}, func(im *Image) {
					for _, c := range slices.Backward(im.chunks) {
						im.ReadAt(make([]byte, c.Length), c.Offset)
					}
				}},
				{"with the index", Options{Index: readIndex(t, want)}, func(im *Image) { im.WriteTo(io.Discard) }},
			}
			for _, way := range ways {
				im := newTest(t, file, &way.opts)
				way.read(im)
				if !bytes.Equal(saved(t, im), want) {
					t.Errorf("%s: another index", way.name)
				}
			}
		})
	}
}

// The cursors in a bzip2 block are the same, whoever decodes it: one core or
// those that work ahead, for a reader who needs all of it or a few bytes.
func TestIndexOfBzip2IsReproducible(t *testing.T) {
	dmgtest.NotRaced(t)
	size := fewer[int64](7<<20, 4) // more than aheadFrom, if not slow
	disk := dmgtest.Join(dmgtest.Mixed(8, size/2), dmgtest.Text(9, size/2)).Bytes()
	for _, level := range []int{1, 9} {
		file := dmgtest.Image(t, disk, dmgtest.Options{Codecs: []dmgtest.Method{dmgtest.Bzip2}, Level: level})
		steps := func(n int) func(*Image) {
			return func(im *Image) { readPrefix(im, make([]byte, im.Size()), n) }
		}
		build := func(im *Image) {
			if err := im.BuildIndex(context.Background(), nil); err != nil {
				t.Error(err)
			}
		}
		var want []byte
		for _, way := range []struct {
			name  string
			cores int
			read  func(im *Image)
		}{
			{"BuildIndex on one core", 1, build},
			{"BuildIndex on two", 2, build},
			{"WriteTo", 2, func(im *Image) { im.WriteTo(io.Discard) }},
			{"in one read", 2, steps(len(disk))},
			{"in steps of 4096", 1, steps(4096)},
			{"in steps of 30,000", 1, steps(30_000)},
			{"here and there, then all", 2, func(im *Image) {
				rng := rand.New(rand.NewPCG(1, 8))
				for range 50 {
					im.ReadAt(make([]byte, 5000), rng.Int64N(im.Size()))
				}
				steps(4096)(im)
			}},
		} {
			im := newTest(t, file, nil)
			procs := runtime.GOMAXPROCS(way.cores)
			way.read(im)
			runtime.GOMAXPROCS(procs)
			got := saved(t, im)
			if want == nil {
				want = got
			}
			if !bytes.Equal(got, want) {
				t.Errorf("level %d, %s: another index", level, way.name)
			}
		}
	}
}

// Random reads leave the checkpoints of zlib chunks that reading in order does.
func TestIndexByRandomReads(t *testing.T) {
	disk := indexDisk()
	file := dmgtest.Image(t, disk, dmgtest.Options{})
	im := newTest(t, file, nil)
	rng := rand.New(rand.NewPCG(3, 4))
	var wg sync.WaitGroup
	for range 4 {
		offs := make([]int64, 30)
		for i := range offs {
			offs[i] = rng.Int64N(int64(len(disk) - 1000))
		}
		offs = append(offs, int64(len(disk)-1000))
		wg.Add(1)
		go func() {
			defer wg.Done()
			p := make([]byte, 1000)
			for i, off := range offs {
				if i%20 == 0 {
					if _, err := im.Index(); err != nil {
						t.Error(err)
					}
				}
				if _, err := im.ReadAt(p, off); err != nil || !bytes.Equal(p, disk[off:][:len(p)]) {
					t.Errorf("read at %d: %v or wrong bytes", off, err)
				}
			}
		}()
	}
	wg.Wait()
	whole := newTest(t, file, nil)
	readThrough(t, whole, disk)
	// A decoder that was called away may have left one out.
	for chunk, offs := range places(im) {
		for _, off := range offs {
			if _, ok := slices.BinarySearch(places(whole)[chunk], off); !ok {
				t.Errorf("a checkpoint at %d of chunk %d", off, chunk)
			}
		}
	}
	other := newTest(t, file, &Options{Index: readIndex(t, saved(t, im))})
	readThrough(t, other, disk)
	if !bytes.Equal(saved(t, other), saved(t, whole)) {
		t.Error("another index when the rest has been read")
	}
}

// Where the index has more than checkpoints may take, they are thinned out.
func TestIndexThinned(t *testing.T) {
	dmgtest.NotRaced(t)
	disk := dmgtest.Text(1, 24<<20).Bytes()
	file := dmgtest.Image(t, disk, dmgtest.Options{})
	ix := readIndex(t, builtIndex(t, file, disk))
	full := newTest(t, file, &Options{Index: ix}).Stats().CheckpointBytes
	const limit = 1 << 20
	im := newTest(t, file, &Options{Index: ix, MemoryLimit: limit})
	if n := im.Stats().CheckpointBytes; n > limit/16*9 || n == 0 || full <= limit/16*9 {
		t.Errorf("%d bytes of checkpoints, %d without a limit", n, full)
	}
	p := make([]byte, 4096)
	if _, err := im.ReadAt(p, 20<<20); err != nil || !bytes.Equal(p, disk[20<<20:][:len(p)]) {
		t.Error(err, "or wrong bytes")
	}
	if n := im.Stats().BytesDecoded; n > 8<<20 {
		t.Errorf("the first read decodes %d bytes", n)
	}
}

// tryIndex reads the disk through an image that is given an index, if it is
// taken, from many places. It fails the test for wrong bytes, and for an error
// of another class than ErrIndex.
func tryIndex(t *testing.T, image, index, disk []byte) (taken bool) {
	t.Helper()
	ix, err := ReadIndex(bytes.NewReader(index))
	if err == nil {
		var im *Image
		if im, err = NewImage(bytes.NewReader(image), int64(len(image)), &Options{Index: ix}); err == nil {
			for off := int64(len(disk)) - 10; err == nil && off > 0; off -= int64(len(disk)) / 40 {
				p := make([]byte, 10)
				if _, err = im.ReadAt(p, off); err == nil && !bytes.Equal(p, disk[off:][:len(p)]) {
					t.Errorf("wrong bytes at %d", off)
				}
			}
			taken = err == nil
		}
	}
	if err != nil && !errors.Is(err, ErrIndex) {
		t.Errorf("%v, want ErrIndex", err)
	}
	return taken
}

func TestIndexMutated(t *testing.T) {
	dmgtest.NotRaced(t)
	disk := indexDisk()
	for _, tt := range indexImages[:4] {
		t.Run(tt.name, func(t *testing.T) {
			image := dmgtest.Image(t, disk, tt.o)
			index := builtIndex(t, image, disk)
			if !tryIndex(t, image, index, disk) {
				t.Fatal("the whole index is refused")
			}
			rng := rand.New(rand.NewPCG(5, 6))
			for range 200 {
				bad := mutate(rng, index)
				if tryIndex(t, image, bad, disk) && !bytes.Equal(bad, index) {
					t.Fatal("a changed index is taken")
				}
			}
		})
	}
}

// mutate returns b with one to four changes.
func mutate(rng *rand.Rand, b []byte) []byte {
	b = bytes.Clone(b)
	for range 1 + rng.IntN(4) {
		i := rng.IntN(len(b))
		n := min(1+rng.IntN(40), len(b)-i)
		switch rng.IntN(5) {
		case 0:
			b[i] ^= 1 << rng.IntN(8)
		case 1:
			b[i] = byte(rng.Uint32())
		case 2:
			b = slices.Delete(b, i, i+n)
		case 3:
			b = slices.Insert(b, i, b[i:i+n]...)
		case 4:
			clear(b[i : i+n])
		}
	}
	return b
}

func TestIndexCutShort(t *testing.T) {
	disk := dmgtest.Text(1, 600<<10).Bytes()
	image := dmgtest.Image(t, disk, dmgtest.Options{Codecs: []dmgtest.Method{dmgtest.Zlib, dmgtest.Bzip2}, ChunkSectors: 600})
	index := builtIndex(t, image, disk)
	if n := binary.BigEndian.Uint64(index[indexCount:]); n < 2 {
		t.Fatalf("%d checkpoints", n)
	}
	for n := range index {
		if _, err := ReadIndex(bytes.NewReader(index[:n])); !errors.Is(err, ErrIndex) {
			t.Fatalf("the first %d bytes of %d: %v, want ErrIndex", n, len(index), err)
		}
		// Nor is it taken when the checksum is right.
		if n < indexHeader || n%11 != 0 || n == len(index)-sha256.Size {
			continue
		}
		ix := readIndex(t, seal(bytes.Clone(index[:n])))
		if _, err := NewImage(bytes.NewReader(image), int64(len(image)), &Options{Index: ix}); !errors.Is(err, ErrIndex) {
			t.Fatalf("the first %d bytes of %d with a checksum: %v, want ErrIndex", n, len(index), err)
		}
	}
	if _, err := ReadIndex(bytes.NewReader(append(bytes.Clone(index), 0))); !errors.Is(err, ErrIndex) {
		t.Errorf("a byte more: %v, want ErrIndex", err)
	}
}

// seal appends the checksum.
func seal(body []byte) []byte {
	sum := sha256.Sum256(body)
	return append(body, sum[:]...)
}

func TestIndexOfAnotherImage(t *testing.T) {
	dmgtest.NotRaced(t)
	disk := dmgtest.Join(dmgtest.Text(6, 800<<10), dmgtest.Random(7, 5000)).Bytes()
	changed := bytes.Clone(disk)
	changed[len(changed)-100] ^= 1 // in random bytes: the streams stay as long
	bend := func(f func(l *dmgtest.Layout)) []byte {
		l, err := dmgtest.Build(disk, dmgtest.Options{ChunkSectors: 512})
		if err != nil {
			t.Fatal(err)
		}
		f(l)
		if err := l.Seal(); err != nil {
			t.Fatal(err)
		}
		return l.Bytes()
	}
	noSums := dmgtest.Options{DataSum: dmgtest.NoSum, TableSum: dmgtest.NoSum, MasterSum: dmgtest.NoSum}
	image := dmgtest.Image(t, disk, dmgtest.Options{ChunkSectors: 512})
	raw := make([]byte, 1<<20)
	copy(raw[510:], "\x55\xAA")
	for _, tt := range []struct {
		name       string
		image, own []byte
	}{
		{"other content", dmgtest.Image(t, changed, dmgtest.Options{ChunkSectors: 512}), image},
		{"other content, no checksums", dmgtest.Image(t, changed, noSums), dmgtest.Image(t, disk, noSums)},
		{"other chunks", dmgtest.Image(t, disk, dmgtest.Options{ChunkSectors: 511}), image},
		{"other level", dmgtest.Image(t, disk, dmgtest.Options{ChunkSectors: 512, Level: 1}), image},
		{"other order", dmgtest.Image(t, disk, dmgtest.Options{ChunkSectors: 512, Shuffle: true, Seed: 3}), image},
		{"other name", bend(func(l *dmgtest.Layout) { l.Tables[0].Name += "x" }), image},
		{"other sum of a table", bend(func(l *dmgtest.Layout) { l.Tables[0].Checksum.Data[0]++ }), image},
		{"other place of a chunk", bend(func(l *dmgtest.Layout) { l.Tables[0].Chunks[1].Offset-- }), image},
		{"other method of a chunk", bend(func(l *dmgtest.Layout) { l.Tables[0].Chunks[1].Method = dmgtest.Raw }), image},
		{"other segment id", bend(func(l *dmgtest.Layout) { l.Koly.SegmentID[3]++ }), image},
		{"a tail", append(bytes.Clone(image), 1, 2, 3), image},
		{"a raw disk", raw, image},
	} {
		t.Run(tt.name, func(t *testing.T) {
			index := builtIndex(t, tt.own, disk)
			if !tryIndex(t, tt.own, index, disk) {
				t.Fatal("its own index is refused")
			}
			if bytes.Equal(tt.image, tt.own) {
				t.Fatal("no other image")
			}
			_, err := NewImage(bytes.NewReader(tt.image), int64(len(tt.image)), &Options{Index: readIndex(t, index)})
			if !errors.Is(err, ErrIndex) {
				t.Errorf("%v, want ErrIndex", err)
			}
		})
	}
}

// Every kind of image has an index, if only an empty one.
func TestIndexOfContainers(t *testing.T) {
	dmgtest.NotRaced(t)
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

// forged is an index that can say anything and have the right checksum.
type forged struct {
	id        []byte
	count     uint64
	directory []byte
	groups    []byte
}

func (f *forged) file() []byte {
	b := binary.BigEndian.AppendUint32([]byte(indexMagic), indexVersion)
	b = binary.BigEndian.AppendUint64(append(b, f.id...), f.count)
	directory := storedStream(f.directory)
	b = binary.BigEndian.AppendUint64(b, uint64(len(directory)))
	return seal(append(append(b, directory...), f.groups...))
}

// add adds a group of checkpoints.
func (f *forged) add(points uint64, entries []byte, parts [numParts][]byte) {
	var group []byte
	for _, part := range parts[:numParts-1] {
		group = binary.AppendUvarint(group, uint64(len(part)))
	}
	group = append(group, storedStream(bytes.Join(parts[:], nil))...)
	f.directory = binary.AppendUvarint(f.directory, points)
	f.directory = binary.AppendUvarint(f.directory, uint64(len(group)))
	f.directory = append(f.directory, entries...)
	f.groups = append(f.groups, group...)
}

// storedStream is a DEFLATE stream of stored blocks (RFC 1951, section 3.2.4),
// which fuzzing has no time to compress.
func storedStream(p []byte) []byte {
	const most = 1<<16 - 1
	var b []byte
	for last := false; !last; {
		n := min(most, len(p))
		last = n == len(p)
		header := byte(0)
		if last {
			header = 1
		}
		b = append(b, header)
		b = binary.LittleEndian.AppendUint16(b, uint16(n))
		b = binary.LittleEndian.AppendUint16(b, ^uint16(n))
		b = append(b, p[:n]...)
		p = p[n:]
	}
	return b
}

// inflated decompresses a DEFLATE stream.
func inflated(t testing.TB, b []byte) []byte {
	t.Helper()
	p, err := io.ReadAll(flate.NewReader(bytes.NewReader(b)))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// unforged takes an index apart.
func unforged(t testing.TB, index []byte) *forged {
	t.Helper()
	n := binary.BigEndian.Uint64(index[indexDirectory:])
	b := index[indexHeader : len(index)-sha256.Size]
	return &forged{
		id:        index[indexIdentity:indexCount],
		count:     binary.BigEndian.Uint64(index[indexCount:]),
		directory: inflated(t, b[:n]),
		groups:    b[n:],
	}
}

// soleGroup takes the group of an index apart that has one: what the directory
// says of its checkpoints, and its parts.
func soleGroup(t testing.TB, f *forged) (entries []byte, parts [numParts][]byte) {
	t.Helper()
	_, n := binary.Uvarint(f.directory)
	length, k := binary.Uvarint(f.directory[n:])
	if length != uint64(len(f.groups)) {
		t.Fatal("not one group")
	}
	group := f.groups
	var lengths []uint64
	for range numParts - 1 {
		v, n := binary.Uvarint(group)
		lengths, group = append(lengths, v), group[n:]
	}
	raw := inflated(t, group)
	for i, n := range lengths {
		parts[i], raw = raw[:n], raw[n:]
	}
	parts[numParts-1] = raw
	return f.directory[n+k:], parts
}

// A test of an index of two chunks that have checkpoints and a third that has
// none. It is refused when the image is opened, or by the read that wants the
// checkpoint, or taken.
type verdict int

const (
	taken verdict = iota
	atOpen
	atRead
)

// What an index says is checked although its checksum is right.
func TestIndexForged(t *testing.T) {
	disk := indexDisk()
	image := dmgtest.Image(t, disk, dmgtest.Options{Codecs: []dmgtest.Method{dmgtest.Zlib, dmgtest.Bzip2, dmgtest.Raw}, ChunkSectors: 3000})
	index := builtIndex(t, image, disk)
	id := index[indexIdentity:indexCount]
	if whole := unforged(t, index); !tryIndex(t, image, whole.file(), disk) {
		t.Fatal("the index is refused when it is put together again")
	}
	numbers := func(v ...uint64) (b []byte) {
		for _, n := range v {
			b = binary.AppendUvarint(b, n)
		}
		return b
	}
	cat := func(p ...[]byte) []byte { return bytes.Join(p, nil) }
	one := func(entries []byte, parts ...[]byte) (f forged) {
		f.count = 1
		f.add(1, entries, [numParts][]byte(append(parts, make([][]byte, numParts-len(parts))...)))
		return f
	}
	const zlibChunk, bzip2Chunk, rawChunk = 0, 1, 2
	// A checkpoint before a block at byte 64 KiB of chunk 0.
	at := numbers(zlibChunk, minSpacing, 40, 1)
	state := func(runs ...byte) []byte { return append([]byte{1, 0}, runs...) }
	good := one(at, state(0))
	// A block at byte 5 of chunk 1.
	block := func(cursors uint64) []byte { return numbers(bzip2Chunk, 5, 256, cursors) }
	point := []byte{9, 0, 0, 0, 0}
	changed := func(f forged, change func(f *forged)) forged {
		f.directory, f.groups = bytes.Clone(f.directory), bytes.Clone(f.groups)
		change(&f)
		return f
	}
	for _, tt := range []struct {
		name string
		f    forged
		want verdict
	}{
		{"none", forged{}, taken},
		{"one", good, taken},
		{"one block", one(block(0), point), taken},
		{"a count too high", changed(good, func(f *forged) { f.count = 2 }), atOpen},
		{"a count far too high", changed(good, func(f *forged) { f.count = 1<<64 - 1 }), atOpen},
		{"a count too low", changed(good, func(f *forged) { f.count = 0 }), atOpen},
		{"bytes behind the directory", changed(good, func(f *forged) { f.directory = append(f.directory, 0) }), atOpen},
		{"bytes behind the groups", changed(good, func(f *forged) { f.groups = append(f.groups, 0) }), atOpen},
		{"a group cut", changed(good, func(f *forged) { f.groups = f.groups[1:] }), atOpen},
		{"a group of none", changed(good, func(f *forged) { f.directory = numbers(0, uint64(len(f.groups))) }), atOpen},
		{"a group of too many", changed(good, func(f *forged) { f.count, f.directory[0] = 100, groupPoints+1 }), atOpen},
		{"a group without data", changed(good, func(f *forged) { f.directory[1], f.groups = 0, nil }), atRead},
		{"no such chunk", one(numbers(3, minSpacing, 40), state(0)), atOpen},
		{"chunk of 70 bits", one(bytes.Repeat([]byte{0xFF}, 10), state(0)), atOpen},
		{"chunk without checkpoints", one(numbers(rawChunk, minSpacing, 40), state(0)), atOpen},
		{"past the chunk's end", one(numbers(zlibChunk, 3000*sectorSize, 40), state(0)), atOpen},
		{"at the chunk's start", one(numbers(zlibChunk, 0, 40), state(0)), atOpen},
		{"at an odd byte", one(numbers(zlibChunk, minSpacing+5, 40), state(0)), atOpen},
		{"past the data", one(numbers(zlibChunk, minSpacing, 1<<40), state(0)), atOpen},
		{"far past the data", one(numbers(zlibChunk, minSpacing, 1<<63-1), state(0)), atOpen},
		{"a block past the data", one(numbers(bzip2Chunk, 5, 9<<32, 0), point), atOpen},
		{"the same place twice", func() (f forged) {
			f.count = 2
			f.add(2, cat(at, numbers(0, 0, 0)), [numParts][]byte{cat(state(0), state(0))})
			return f
		}(), atOpen},
		{"one less than the group says", func() (f forged) {
			f.count = 2
			f.add(2, cat(at, numbers(0, minSpacing, 0, 1)), [numParts][]byte{state(0)})
			return f
		}(), atRead},
		{"no state", one(at), atRead},
		{"a state without flags", one(at, []byte{0, 0}), atRead},
		{"a long state", one(at, []byte{3, 0, 0, 0, 0}), atRead},
		{"a sum of 33 bits", one(numbers(zlibChunk, minSpacing, 40, 1<<32), state(0)), atOpen},
		{"no sum", one(numbers(zlibChunk, minSpacing, 40), state(0)), atOpen},
		{"a state of 2 KiB", one(at, cat([]byte{0x80, 0x10}, make([]byte, 3000))), atRead},
		{"a state of no kind", one(at, []byte{1, 0xFF, 0}), atRead},
		{"more states", one(at, cat(state(0), state(0))), atRead},
		{"literals left over", one(at, state(0), nil, nil, []byte{1}), atRead},
		{"a run without bytes", one(at, state(1), []byte{0}, []byte{1}), atRead},
		{"a window too long", one(at, state(2), []byte{0, 1}, numbers(32<<10, 0), make([]byte, 33<<10)), atRead},
		{"a group too large", one(at, state(0), nil, nil, make([]byte, 1<<20)), atRead},
		{"no block", one(block(0), []byte{10, 0, 0, 0, 0}), atRead},
		{"a cursor elsewhere", one(block(1), cat(point, make([]byte, cursorLen))), atRead},
		{"cursors cut", one(block(2), cat(point, make([]byte, cursorLen))), atRead},
		{"too many cursors", one(block(16383), cat(point, make([]byte, 16383*cursorLen))), atOpen},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.f.id = id
			ix := readIndex(t, tt.f.file())
			got := taken
			im, err := NewImage(bytes.NewReader(image), int64(len(image)), &Options{Index: ix})
			if err != nil {
				got = atOpen
			} else {
				for chunk, points := range places(im) {
					for _, off := range points {
						if _, _, e := im.store.record(nil, chunk, off); e != nil {
							got, err = atRead, e
						}
					}
				}
			}
			if got != tt.want || err != nil && !errors.Is(err, ErrIndex) {
				t.Errorf("%v, %v, want %v", got, err, tt.want)
			}
			// Where there is no memory to keep it packed all is noticed at once.
			_, err = NewImage(bytes.NewReader(image), int64(len(image)), &Options{Index: ix, MemoryLimit: 700 << 10})
			if (err == nil) != (tt.want == taken) || err != nil && !errors.Is(err, ErrIndex) {
				t.Errorf("in little memory: %v, want %v", err, tt.want)
			}
		})
	}
}

// A header that is wrong, though its checksum is right.
func TestIndexHeader(t *testing.T) {
	disk := dmgtest.Text(1, 300<<10).Bytes()
	image := dmgtest.Image(t, disk, dmgtest.Options{})
	index := builtIndex(t, image, disk)
	for _, tt := range []struct {
		name string
		at   int
	}{
		{"magic", 3},
		{"version", len(indexMagic) + 3},
		{"identity", indexIdentity},
		{"count", indexCount + 7},
		{"length of the directory", indexHeader - 1},
		{"huge directory", indexHeader - 8},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := bytes.Clone(index[:len(index)-sha256.Size])
			b[tt.at] ^= 0x80
			if tryIndex(t, image, seal(b), disk) {
				t.Error("it is taken")
			}
		})
	}
	if _, err := NewImage(bytes.NewReader(image), int64(len(image)), &Options{Index: new(Index)}); !errors.Is(err, ErrIndex) {
		t.Errorf("the zero Index: %v, want ErrIndex", err)
	}
	if _, err := new(Index).WriteTo(io.Discard); !errors.Is(err, ErrIndex) {
		t.Errorf("WriteTo of the zero Index: %v, want ErrIndex", err)
	}
	if n := new(Index).Len(); n != 0 {
		t.Errorf("Len of the zero Index is %d", n)
	}
}

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

// An index costs what its file says, not what its numbers say.
func TestReadIndexBounded(t *testing.T) {
	endless := io.MultiReader(bytes.NewReader([]byte(indexMagic)), io.LimitReader(zeroReader{}, 1<<40))
	if testing.Short() {
		t.Skip("reads 256 MiB")
	}
	if _, err := ReadIndex(endless); !errors.Is(err, ErrIndex) {
		t.Errorf("an endless file: %v, want ErrIndex", err)
	}
}

type zeroReader struct{}

func (zeroReader) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// fuzzImage is what the fuzz targets' indexes are of: a zlib chunk and one of
// bzip2, as small as they can be to have a checkpoint each.
func fuzzImage(tb testing.TB) (image, disk, index []byte) {
	const chunk = minSpacing/sectorSize + 2
	disk = dmgtest.Join(dmgtest.Text(1, minSpacing), dmgtest.Text(2, minSpacing)).Bytes()
	image = dmgtest.Image(tb, disk, dmgtest.Options{
		Codecs:       []dmgtest.Method{dmgtest.Zlib, dmgtest.Bzip2},
		Level:        1,
		ChunkSectors: chunk,
	})
	return image, disk, builtIndex(tb, image, disk)
}

// FuzzReadIndex reads anything as an index. What is accepted gives right bytes
// or an error.
func FuzzReadIndex(f *testing.F) {
	image, disk, index := fuzzImage(f)
	f.Add(index)
	f.Add(saved(f, newTest(f, image, nil)))
	f.Add(index[:indexHeader])
	f.Fuzz(func(t *testing.T, b []byte) {
		tryIndex(t, image, b, disk)
	})
}

// FuzzIndexStreams puts an index together that has the image's identity and
// the right checksum. It can say anything about what comes before a checkpoint,
// and so give wrong bytes, but reads end, and their errors have a class.
func FuzzIndexStreams(f *testing.F) {
	image, disk, index := fuzzImage(f)
	whole := unforged(f, index)
	entries, parts := soleGroup(f, whole)
	f.Add(whole.count, []byte(nil), entries, parts[0], parts[1], parts[2], parts[3])
	f.Add(whole.count, whole.directory, []byte(nil), parts[0], parts[1], parts[2], parts[3])
	f.Add(uint64(0), []byte(nil), []byte(nil), []byte(nil), []byte(nil), []byte(nil), []byte(nil))
	f.Fuzz(func(t *testing.T, count uint64, directory, entries, states, gaps, lengths, literals []byte) {
		forged := forged{id: whole.id, count: count}
		if count > 0 {
			forged.add(min(count, groupPoints), entries, [numParts][]byte{states, gaps, lengths, literals})
		}
		if len(directory) > 0 {
			forged.directory = directory
		}
		ix := readIndex(t, forged.file())
		// In little memory everything is unpacked at once.
		if im, err := NewImage(bytes.NewReader(image), int64(len(image)), &Options{Index: ix, MemoryLimit: 700 << 10}); err == nil {
			if n := im.Stats().CheckpointBytes; n > 350<<10+checkpointOverhead+chunkOverhead {
				t.Fatalf("%d bytes of checkpoints in little memory", n)
			}
		} else if !errors.Is(err, ErrIndex) {
			t.Fatalf("in little memory %v, want ErrIndex", err)
		}
		im, err := NewImage(bytes.NewReader(image), int64(len(image)), &Options{Index: ix, MemoryLimit: 16 << 20})
		if err != nil {
			if !errors.Is(err, ErrIndex) {
				t.Fatalf("%v, want ErrIndex", err)
			}
			return
		}
		if n := im.Stats().CheckpointBytes; n > 8<<20 {
			t.Fatalf("%d bytes of checkpoints", n)
		}
		classes := []error{ErrIndex, ErrFormat, ErrChecksum}
		isClass := func(err error) bool {
			return slices.ContainsFunc(classes, func(c error) bool { return errors.Is(err, c) })
		}
		p := make([]byte, 5000)
		for off := int64(len(disk) - len(p)); off >= 0; off -= 30_011 {
			if n, err := im.ReadAt(p, off); n != len(p) && !isClass(err) {
				t.Fatalf("ReadAt(%d) = %d, %v", off, n, err)
			}
		}
		// What was taken can be saved and taken again, if it can be unpacked.
		switch _, err := im.Index(); {
		case errors.Is(err, ErrIndex):
			return
		case err != nil:
			t.Fatalf("Index: %v", err)
		}
		if again := saved(t, im); len(again) < indexHeader+sha256.Size {
			t.Fatalf("an index of %d bytes", len(again))
		} else if _, err := NewImage(bytes.NewReader(image), int64(len(image)), &Options{Index: readIndex(t, again)}); err != nil {
			t.Fatalf("saved again: %v", err)
		}
	})
}

// TestIndexOfHugeChunk asks for the index of a chunk that says it has nearly 2^63
// bytes, whose start is a checkpoint with more in it than the index has room for.
func TestIndexOfHugeChunk(t *testing.T) {
	dmgtest.Native(t)
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
