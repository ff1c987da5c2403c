package dmg

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/go-dmg/dmg/internal/dmgtest"
)

// thinningTests are images with more checkpoints than the limit holds.
var thinningTests = []struct {
	workload
	limit int64
}{
	{workload{codecs: allCodecs[1:2], size: 8 << 20}, 700 << 10},
	{workload{codecs: allCodecs[1:2], size: 8 << 20, kind: "mixed"}, 600 << 10},
	{workload{codecs: allCodecs[1:2], size: 8 << 20, chunk: 4096}, 700 << 10},
}

// R7: the spacing adapts to the limit, what checkpoints take keeps to its
// share, and after every thinning each place still reads right.
func TestZlibThinning(t *testing.T) {
	dmgtest.Native(t)
	t.Parallel()
	for _, tt := range thinningTests {
		t.Run(tt.workload.String()+tt.kind, func(t *testing.T) {
			ti := tt.image(t)
			im := ti.open(t, tt.limit, nil)
			p := make([]byte, 100_000)
			rng := rand.New(rand.NewPCG(4, 4))
			spacing, thinned := spacingOf(im), 0
			for off := int64(0); off < int64(len(ti.disk)); off += int64(len(p)) {
				ti.mustReadInto(t, im, p, off)
				now := spacingOf(im)
				if now == spacing {
					continue
				}
				spacing = now
				thinned++
				for range 30 {
					back := rng.Int64N(off)
					ti.mustReadInto(t, im, p[:1+rng.IntN(5000)], back)
				}
			}
			if thinned == 0 {
				t.Fatal("nothing was thinned: the test tests nothing")
			}
			// From every checkpoint that is left.
			for i, c := range im.chunks {
				im.mu.Lock()
				points := append([]checkpoint(nil), im.mu.points.chunks[i]...)
				im.mu.Unlock()
				for k, cp := range points {
					if cp.off != int64(k+1)*spacing {
						t.Fatalf("chunk %d: checkpoint %d is at %d, the spacing is %d", i, k, cp.off, spacing)
					}
					for _, d := range []int64{0, 1, 4095, 32 << 10, 33 << 10, spacing - 1} {
						if cp.off+d < c.Length {
							ti.mustReadInto(t, im, p[:4096], c.Offset+cp.off+d)
						}
					}
				}
			}
			if s := im.Stats(); s.CheckpointBytes > tt.limit/16*9+chunkOverhead+checkpointOverhead || s.CheckpointBytes < tt.limit/8 {
				t.Errorf("checkpoints take %d bytes of a limit of %d", s.CheckpointBytes, tt.limit)
			}
		})
	}
}

// Where memory is plenty the spacing stays fine, however the way was made.
func TestZlibSpacing(t *testing.T) {
	t.Parallel()
	w := workload{codecs: allCodecs[1:2], size: fewer[int64](8<<20, 4)}
	for _, step := range []int{4096, 10_000, 1 << 20} {
		ti := w.image(t)
		im := ti.open(t, 64<<20, nil)
		ti.wayThrough(t, im, step)
		points := im.mu.points.chunks[0]
		if want := int64(len(ti.disk))/minSpacing - 1; int64(len(points)) != want || spacingOf(im) != minSpacing {
			t.Errorf("steps of %d: %d checkpoints, want %d", step, len(points), want)
		}
		for k, p := range points {
			if p.off != int64(k+1)*minSpacing || k > 0 && p.in <= points[k-1].in || p.in > im.chunks[0].DataLength {
				t.Errorf("steps of %d: checkpoint %d is at byte %d, %d stored", step, k, p.off, p.in)
			}
		}
	}
}

// R1 after reads here and there: a decoder that is taken for another chunk
// leaves the last checkpoint of its way, however little it decoded behind it, or
// the one before that.
func TestZlibLastCheckpoint(t *testing.T) {
	t.Parallel()
	const chunk = 256 << 10
	ti := workload{codecs: allCodecs[1:2], size: 16 << 20, chunk: chunk / 512}.image(t)
	im := ti.open(t, 8<<20, nil)
	places := func(read func(off int64)) {
		for i := range im.chunks {
			read(im.chunks[i].Offset + 2*minSpacing + int64(i)*1000)
		}
	}
	places(func(off int64) { ti.mustRead(t, im, off, 4096) })
	im.mu.Lock()
	for i := range im.chunks {
		im.mu.cache.DropPages(i, chunk)
	}
	spacing := im.mu.points.spacing
	im.mu.Unlock()
	if spacing != minSpacing {
		t.Fatalf("the spacing is %d: the test wants it to stay", spacing)
	}
	places(func(off int64) {
		before := im.Stats().BytesDecoded
		ti.mustRead(t, im, off, 4096)
		if n := im.Stats().BytesDecoded - before; n > usualSpacing+4096 {
			t.Errorf("byte %d: %d bytes were decoded", off, n)
		}
	})
}

// waysThrough are ways to read a chunk in full, for the first time. Whichever
// is taken, a wrong checksum must come out. The last read says so.
var waysThrough = []struct {
	name string
	read func(im *Image, p []byte) error // p is as long as the disk
}{
	{"in one", func(im *Image, p []byte) error { _, err := im.ReadAt(p, 0); return err }},
	{"in steps of 4 KiB", func(im *Image, p []byte) error { return readSteps(im, p, 4096) }},
	{"in odd steps", func(im *Image, p []byte) error { return readSteps(im, p, 12_345) }},
	{"the end alone", func(im *Image, p []byte) error {
		_, err := im.ReadAt(p[:100], im.Size()-100)
		return err
	}},
	{"two readers in turn", func(im *Image, p []byte) error {
		half := im.Size() / 2 &^ 4095
		for off := int64(0); off < half; off += 4096 {
			if _, err := im.ReadAt(p[:4096], off); err != nil {
				return err
			}
			if _, err := im.ReadAt(p[:4096], min(half+off, im.Size()-4096)); err != nil {
				return err
			}
		}
		_, err := im.ReadAt(p[:100], im.Size()-100)
		return err
	}},
	{"resumed from checkpoints", func(im *Image, p []byte) error {
		rng := rand.New(rand.NewPCG(1, 1))
		// All but the end, here and there, so that no decoder goes all the way.
		for off := int64(0); off < im.Size()-200_000; off += 50_000 {
			if _, err := im.ReadAt(p[:1000], off); err != nil {
				return err
			}
			if _, err := im.ReadAt(p[:1000], rng.Int64N(off+1)); err != nil {
				return err
			}
		}
		_, err := im.ReadAt(p[:200_000], im.Size()-200_000)
		return err
	}},
}

func readSteps(im *Image, p []byte, step int) error {
	for off := 0; off < len(p); off += step {
		if _, err := im.ReadAt(p[off:min(len(p), off+step)], int64(off)); err != nil {
			return err
		}
	}
	return nil
}

// checkWrongSum reads an image whose only chunk has a wrong checksum in every
// way. The error must be a ChunkError of class ErrChecksum, each time.
func checkWrongSum(t *testing.T, ti testImage, limits ...int64) {
	t.Helper()
	for _, limit := range limits {
		for _, way := range waysThrough {
			t.Run(fmt.Sprintf("%s/%dKiB", way.name, limit>>10), func(t *testing.T) {
				im := ti.open(t, limit, nil)
				p := make([]byte, im.Size())
				err := way.read(im, p)
				var chunk *ChunkError
				if !errors.Is(err, ErrChecksum) || !errors.As(err, &chunk) || chunk.Chunk != im.chunks[0] {
					t.Fatalf("%v, want a ChunkError of class ErrChecksum", err)
				}
				// What was decoded is not served from the cache as if it were right.
				if err := waysThrough[0].read(im, p); !errors.Is(err, ErrChecksum) {
					t.Errorf("read again: %v, want ErrChecksum", err)
				}
			})
		}
	}
}

// A zlib stream's Adler-32 is checked on the first way through, whoever and
// however many made it: it is in the checkpoints.
func TestZlibChecksum(t *testing.T) {
	t.Parallel()
	ti := workload{codecs: allCodecs[1:2], size: fewer[int64](4<<20, 2)}.image(t)
	c := ti.open(t, 0, nil).chunks[0]
	file := bytes.Clone(ti.file)
	trailer := file[c.DataOffset+c.DataLength-4:][:4]
	binary.BigEndian.PutUint32(trailer, binary.BigEndian.Uint32(trailer)+1)
	checkWrongSum(t, testImage{ti.disk, file}, 64<<20, 700<<10)
}

// A checkpoint that is damaged or another stream's, as one from a file may be,
// gives an error or, at worst, wrong bytes that the checksum finds; it never
// ends the process.
func TestZlibBadRecord(t *testing.T) {
	t.Parallel()
	ti := workload{codecs: allCodecs[1:2], size: 1 << 20}.image(t)
	good := func() []byte {
		im := ti.open(t, 64<<20, nil)
		ti.wayThrough(t, im, 1<<20)
		return recordOf(t, im, 0, minSpacing)
	}()
	rng := rand.New(rand.NewPCG(3, 3))
	read := func(t *testing.T, record []byte) error {
		im := ti.open(t, 64<<20, nil)
		im.mu.Lock()
		im.mu.points.add(0, checkpoint{off: minSpacing, in: 1000}, record)
		im.mu.Unlock()
		_, err := im.ReadAt(make([]byte, 100_000), minSpacing)
		return err
	}
	if err := read(t, good); err != nil {
		t.Fatalf("a good record: %v", err)
	}
	// No bytes stand for the chunk's start. The window may end between any two
	// of its runs, which a saved index guards by a checksum of its own.
	for n := 1; n < min(len(good), 200); n++ {
		if err := read(t, good[:n]); !errors.Is(err, ErrIndex) && (err != nil || n < 50) {
			t.Errorf("the first %d bytes of a record: %v, want ErrIndex", n, err)
		}
	}
	for range fewer(400, 8) {
		bad := bytes.Clone(good)
		for range 1 + rng.IntN(4) {
			bad[rng.IntN(min(len(bad), 300))] = byte(rng.Uint32())
		}
		var chunk *ChunkError
		if err := read(t, bad); err != nil && !errors.As(err, &chunk) {
			t.Errorf("a bent record: %v", err)
		}
	}
}

// A stream may end early or go on after its chunk's bytes; what there is of
// it can be read.
func TestZlibLength(t *testing.T) {
	disk := dmgtest.Text(1, 256<<10).Bytes()
	stream, err := dmgtest.Compress(dmgtest.Zlib, 6, disk)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name    string
		sectors int64
		stream  []byte
		err     error
		right   int // bytes that must be read before it
	}{
		{"exact", 512, stream, nil, 256 << 10},
		{"bytes after the end", 512, append(bytes.Clone(stream), make([]byte, 5000)...), nil, 256 << 10},
		{"too little", 513, stream, ErrFormat, 256 << 10},
		{"cut in the data", 512, stream[:len(stream)/2], ErrFormat, 100 << 10},
		{"cut in the trailer", 512, stream[:len(stream)-1], ErrFormat, 0},
		{"no trailer", 512, stream[:len(stream)-4], ErrFormat, 0},
		{"nothing", 512, nil, ErrFormat, 0},
		{"a header's half", 512, stream[:1], ErrFormat, 0},
		{"no zlib", 512, bytes.Repeat([]byte{0xFF}, 1000), ErrFormat, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := &dmgtest.Layout{Data: tt.stream, Koly: dmgtest.NewKoly()}
			l.Tables = []dmgtest.Table{dmgtest.NewTable("disk", 0, tt.sectors, dmgtest.Chunk{
				Method: dmgtest.Zlib, Sectors: uint64(tt.sectors), Length: uint64(len(tt.stream)),
			})}
			if err := l.Seal(); err != nil {
				t.Fatal(err)
			}
			b := l.Bytes()
			for _, step := range []int{1 << 20, 4096} {
				im, err := NewImage(bytes.NewReader(b), int64(len(b)), nil)
				if err != nil {
					t.Fatal(err)
				}
				p := make([]byte, tt.sectors*sectorSize)
				n := 0
				for n < len(p) && err == nil {
					var k int
					k, err = im.ReadAt(p[n:min(len(p), n+step)], int64(n))
					n += k
				}
				if !errors.Is(err, tt.err) || tt.err == nil && err != nil {
					t.Errorf("steps of %d: %v, want %v", step, err, tt.err)
				}
				right := tt.right
				if step > right && tt.name == "cut in the data" {
					right = 0 // no checksum has confirmed any of them
				}
				if n < right || !bytes.Equal(p[:min(n, len(disk))], disk[:min(n, len(disk))]) {
					t.Errorf("steps of %d: %d bytes, want %d right ones", step, n, right)
				}
			}
		})
	}
}

// TestZlibHeader has no byte served of a chunk whose zlib header is none.
func TestZlibHeader(t *testing.T) {
	const fixed = "\x63\x60\x18\xD9\x20\x00\x00\x00\x00\x00" // 512 zeros in a block with the fixed codes
	for _, head := range []string{"\x78\x00", "\x78\xBB", "\x79\x9C", "\x00\x00"} {
		im := imageOf(t, Options{}, []byte(head+fixed), dmgtest.Chunk{Method: dmgtest.Zlib, Sectors: 1, Length: uint64(len(head + fixed))})
		for _, n := range []int{1, 100, 512} {
			if k, err := im.ReadAt(make([]byte, n), 0); k > 0 || !errors.Is(err, ErrFormat) {
				t.Errorf("header %x: a read of %d bytes gives %d, %v", head, n, k, err)
			}
		}
	}
}
