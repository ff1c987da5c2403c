package dmg

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/ulikunitz/xz"

	"github.com/go-dmg/dmg/internal/dmgtest"
	"github.com/go-dmg/dmg/internal/dmgtest/lzfseenc"
	"github.com/go-dmg/dmg/internal/stream"
	ourxz "github.com/go-dmg/dmg/internal/xz"
)

// xzBlock is how long a block of the .xz streams here is, in bytes.
const xzBlock = 300_000

// methodImage stores a disk in one chunk of a method, which is that stream.
func methodImage(t testing.TB, m dmgtest.Method, disk, stream []byte) testImage {
	t.Helper()
	sectors := int64(len(disk)) / sectorSize
	l := &dmgtest.Layout{Data: stream, Koly: dmgtest.NewKoly()}
	l.Tables = []dmgtest.Table{dmgtest.NewTable("disk", 0, sectors, dmgtest.Chunk{
		Method: m, Sectors: uint64(sectors), Length: uint64(len(stream)),
	})}
	if err := l.Seal(); err != nil {
		t.Fatal(err)
	}
	return testImage{disk, l.Bytes()}
}

// streamSize is how long the disks of streamImages are, in bytes.
const streamSize = 6 << 20

// streamImages are disks of one long chunk each, made once.
func streamImages(t testing.TB) map[string]testImage {
	t.Helper()
	images.Do(func() { images.all = makeStreamImages(t) })
	return images.all
}

var images struct {
	sync.Once
	all map[string]testImage
}

func makeStreamImages(t testing.TB) map[string]testImage {
	t.Helper()
	disk := dmgtest.Mixed(3, streamSize).Bytes()
	all := make(map[string]testImage)
	for _, m := range []dmgtest.Method{dmgtest.ADC, dmgtest.LZFSE} {
		data, err := dmgtest.Compress(m, 0, disk)
		if err != nil {
			t.Fatal(err)
		}
		all[Method(m).String()] = methodImage(t, m, disk, data)
	}
	var kinds lzfseenc.Writer
	for i, p := 0, disk; len(p) > 0; i++ {
		n := min(len(p), 700_000)
		kinds.Add(lzfseenc.Kinds[i%len(lzfseenc.Kinds)], p[:n])
		p = p[n:]
	}
	all["lzfse, all kinds of blocks"] = methodImage(t, dmgtest.LZFSE, disk, kinds.Close())
	blocks := func(p []byte, c xz.WriterConfig) []byte {
		c.DictCap, c.BlockSize = 64<<10, xzBlock
		var b bytes.Buffer
		w, err := c.NewWriter(&b)
		if err == nil {
			_, err = w.Write(p)
		}
		if err == nil {
			err = w.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	all["lzma"] = methodImage(t, dmgtest.LZMA, disk, blocks(disk, xz.WriterConfig{CheckSum: xz.CRC32}))
	half := len(disk) / 2 / xzBlock * xzBlock
	all["lzma, two streams"] = methodImage(t, dmgtest.LZMA, disk, bytes.Join([][]byte{
		blocks(disk[:half], xz.WriterConfig{NoCheckSum: true}), make([]byte, 8), blocks(disk[half:], xz.WriterConfig{CheckSum: xz.SHA256}),
	}, nil))
	return all
}

// checkRandom has reads of 4 KiB decode no more than from one checkpoint to the next.
func (ti testImage) checkRandom(t *testing.T, im *Image, reads int, spacing int64) {
	t.Helper()
	rng := rand.New(rand.NewPCG(5, 5))
	for range reads {
		before := im.Stats().BytesDecoded
		off := rng.Int64N(im.Size() - 4096)
		ti.mustRead(t, im, off, 4096)
		if n := im.Stats().BytesDecoded - before; n > spacing+4096 {
			t.Errorf("a read at %d decoded %d bytes, %d is the most", off, n, spacing+4096)
		}
	}
}

// R1: a random read in a long chunk of ADC, LZFSE or LZMA decodes no more than from one
// checkpoint to the next, also with a saved index; and the data is that of a decoder from
// the start. Of LZMA the first read does so too.
func TestStreamCheckpoints(t *testing.T) {
	dmgtest.Long(t)
	dmgtest.Native(t)
	for name, ti := range streamImages(t) {
		t.Run(name, func(t *testing.T) {
			spacing := int64(windowSpacing)
			if Method(dmgtest.LZMA).String() == name[:min(4, len(name))] {
				spacing = xzBlock
				ti.checkRandom(t, ti.open(t, 0, nil), 50, spacing)
			}
			im := ti.open(t, 0, nil)
			if err := im.BuildIndex(context.Background(), nil); err != nil {
				t.Fatal(err)
			}
			ti.checkRandom(t, im, 150, spacing)
			var file bytes.Buffer
			if _, err := indexOf(t, im).WriteTo(&file); err != nil {
				t.Fatal(err)
			}
			saved := ti.openIndexed(t, 8<<20, readIndex(t, file.Bytes()))
			if len(saved.mu.points.chunks[0]) == 0 {
				t.Fatal("no checkpoints")
			}
			last := int64(0) // a small index has few
			for _, p := range append(saved.mu.points.chunks[0], checkpoint{off: im.Size()}) {
				spacing, last = max(spacing, p.off-last), p.off
			}
			ti.checkRandom(t, saved, 150, spacing)
			// The way through leaves what BuildIndex left, on however many cores.
			way := ti.open(t, 0, nil)
			ti.wayThrough(t, way, 10_000)
			if got := indexOf(t, way); !bytes.Equal(got.file, file.Bytes()) {
				t.Error("another index from reads")
			}
			checkAtRest(t, &im.engine)
		})
	}
}

// R7: where the windows of checkpoints don't fit, they lie further apart, and each place
// reads right.
func TestStreamThinning(t *testing.T) {
	dmgtest.Native(t)
	dmgtest.Long(t)
	t.Parallel()
	for _, tt := range []struct {
		method dmgtest.Method
		period int // every byte of a window is copied later
		limit  int64
	}{
		{dmgtest.ADC, 60_000, 1 << 20},
		{dmgtest.LZFSE, 200_000, 2 << 20},
	} {
		m, limit := tt.method, tt.limit
		t.Run(Method(m).String(), func(t *testing.T) {
			disk := dmgtest.Random(1, 12<<20).Bytes()
			for i := tt.period; i < len(disk); i++ {
				if i%3000 > 50 { // with new bytes in between
					disk[i] = disk[i-tt.period]
				}
			}
			data, err := dmgtest.Compress(m, 0, disk)
			if err != nil {
				t.Fatal(err)
			}
			ti := methodImage(t, m, disk, data)
			im := ti.open(t, limit, nil)
			if im.mu.points.shrink != (12*windowRecord > checkpointShare(&im.mu.account)) {
				t.Error("records are shrunk where they are expected to fit, or are not where not")
			}
			ti.wayThrough(t, im, 64<<10)
			if n := len(im.mu.points.chunks[0]); n == 0 || n > 10 {
				t.Errorf("%d checkpoints: the test wants some of 11", n)
			}
			rng := rand.New(rand.NewPCG(6, 6))
			for range 40 {
				ti.mustRead(t, im, rng.Int64N(im.Size()-4096), 4096)
			}
			if s := im.Stats(); s.CheckpointBytes > limit/16*9+chunkOverhead+checkpointOverhead {
				t.Errorf("checkpoints take %d bytes of a limit of %d", s.CheckpointBytes, limit)
			}
			checkAtRest(t, &im.engine)
		})
	}
}

// R11: whole-disk work cuts chunks at checkpoints, and those of LZMA at blocks that nobody
// has decoded yet.
func TestStreamTasks(t *testing.T) {
	dmgtest.NotEmulated(t)
	dmgtest.Long(t)
	for name, ti := range streamImages(t) {
		t.Run(name, func(t *testing.T) {
			im := ti.open(t, 64<<20, nil)
			lzma := im.chunks[0].Method == LZMA
			for i := range 2 {
				got := make(sheet, len(ti.disk))
				tasks := 0
				p := pipeline{
					e: &im.engine, to: im.size, workers: 3,
					data:  func(off int64, b []byte) error { copy(got[off:], b); return nil },
					zeros: func(_ context.Context, off, n int64) error { clear(got[off:][:n]); return nil },
				}
				for off := int64(0); off < im.size; tasks++ { // as assign does
					at, ok := im.mu.points.after(0, off+spanTask)
					if off = im.size; ok {
						off = at.off
					}
				}
				if _, err := p.run(context.Background()); err != nil || !bytes.Equal(got, ti.disk) {
					t.Fatalf("%v", err)
				}
				if i == 1 && tasks < 3 {
					t.Errorf("%d tasks", tasks)
				}
			}
			if lzma && len(im.mu.points.chunks[0]) < streamSize/xzBlock {
				t.Errorf("%d checkpoints", len(im.mu.points.chunks[0]))
			}
			checkAtRest(t, &im.engine)
		})
	}
}

// A damaged block of LZMA is lost, or doubtful, and no other.
func TestStreamDamagedBlock(t *testing.T) {
	dmgtest.NotEmulated(t)
	dmgtest.Long(t)
	ti := streamImages(t)["lzma"]
	var at []stream.Point
	im := ti.open(t, 0, nil)
	c := im.chunks[0]
	data := ti.file[c.DataOffset:][:c.DataLength]
	if err := ourxz.Index(bytes.NewReader(data), c.DataLength, func(p stream.Point) { at = append(at, p) }); err != nil {
		t.Fatal(err)
	}
	bent := testImage{ti.disk, bytes.Clone(ti.file)}
	clear(bent.file[c.DataOffset+at[14].In+2000:][:5000])
	im = bent.open(t, 0, nil)
	p := make([]byte, 4096)
	for i, block := range at {
		if i != 14 {
			ti.mustReadInto(t, im, p, block.Off+100)
		}
	}
	_, err := im.ReadAt(make([]byte, xzBlock), at[14].Off)
	if !errors.Is(err, ErrFormat) && !errors.Is(err, ErrChecksum) {
		t.Errorf("the damaged block: %v", err)
	}
}

// An .xz index that lies, and has the right checksum: reads end with an error or not, but
// all of the chunk is found to be damaged.
func TestStreamIndexLies(t *testing.T) {
	dmgtest.NotEmulated(t)
	dmgtest.Long(t)
	good := streamImages(t)["lzma"]
	im := good.open(t, 0, nil)
	c := im.chunks[0]
	data := good.file[c.DataOffset:][:c.DataLength]
	for _, swap := range []bool{false, true} {
		bent := bytes.Clone(data)
		if swap {
			swapRecords(t, bent)
		}
		ti := methodImage(t, dmgtest.LZMA, good.disk, bent)
		im := ti.open(t, 0, nil)
		p := make([]byte, 4096)
		for off := int64(0); off < im.Size()-4096; off += 100_000 {
			im.ReadAt(p, off) // ends
		}
		im = ti.open(t, 0, nil)
		err := im.Extract(context.Background(), make(sheet, len(good.disk)), nil)
		if (err != nil) != swap || swap && !isDamage(err) {
			t.Errorf("swapped: %v: %v", swap, err)
		}
		checkAtRest(t, &im.engine)
	}
}

// swapRecords swaps two records in the index of an .xz stream: the last one's and another.
func swapRecords(t *testing.T, stream []byte) {
	t.Helper()
	footer := stream[len(stream)-12:]
	n := (int(binary.LittleEndian.Uint32(footer[4:])) + 1) * 4
	index := stream[len(stream)-12-n : len(stream)-12]
	b := index[1:]
	count, k := binary.Uvarint(b)
	b = b[k:]
	from := b
	records := make([][]byte, count)
	for i := range records {
		_, k := binary.Uvarint(b)
		_, l := binary.Uvarint(b[k:])
		records[i], b = bytes.Clone(b[:k+l]), b[k+l:]
	}
	last := len(records) - 1
	records[last], records[3] = records[3], records[last]
	copy(from, bytes.Join(records, nil))
	binary.LittleEndian.PutUint32(index[n-4:], crc32.ChecksumIEEE(index[:n-4]))
}

// sheet is a disk in memory.
type sheet []byte

// WriteAt implements io.WriterAt.
func (s sheet) WriteAt(p []byte, off int64) (int, error) { return copy(s[off:], p), nil }

// Reads that resume in these chunks allocate nothing.
func TestStreamReadsDontAllocate(t *testing.T) {
	dmgtest.Long(t)
	dmgtest.NotEmulated(t)
	if dmgtest.Raced() {
		t.Skip("the race detector allocates")
	}
	for name, ti := range streamImages(t) {
		t.Run(name, func(t *testing.T) {
			im := ti.open(t, 4<<20, nil)
			ti.wayThrough(t, im, 64<<10)
			rng := rand.New(rand.NewPCG(2, 2))
			p := make([]byte, 4096)
			read := func() {
				if _, err := im.ReadAt(p, rng.Int64N(im.Size()-4096)); err != nil {
					t.Error(err)
				}
			}
			for range 60 {
				read()
			}
			if n := testing.AllocsPerRun(60, read); n != 0 {
				t.Errorf("%v allocations a read", n)
			}
		})
	}
}

// An index with the right checksum may say anything of these chunks. Reads end, and keep to
// the limit.
func TestStreamIndexMutated(t *testing.T) {
	dmgtest.NotRaced(t)
	dmgtest.Long(t)
	t.Parallel()
	for name, ti := range streamImages(t) {
		t.Run(name, func(t *testing.T) {
			index := builtIndex(t, ti.file, ti.disk)
			if len(index) < 200 {
				t.Fatalf("an index of %d bytes", len(index))
			}
			rng := rand.New(rand.NewPCG(8, 9))
			p := make([]byte, 5000)
			for range fewer(60, 4) {
				f := unforged(t, index)
				if f.count > groupPoints || rng.IntN(2) == 0 {
					f.directory = mutate(rng, f.directory)
				} else {
					entries, parts := soleGroup(t, f)
					i := rng.IntN(len(parts))
					for len(parts[i]) == 0 {
						i = rng.IntN(len(parts))
					}
					parts[i] = mutate(rng, parts[i])
					n := f.count
					f.directory, f.groups = nil, nil
					f.add(n, entries, parts)
				}
				im, err := NewImage(bytes.NewReader(ti.file), int64(len(ti.file)), &Options{Index: readIndex(t, f.file()), MemoryLimit: 4 << 20})
				if err != nil {
					if !errors.Is(err, ErrIndex) {
						t.Errorf("%v, want ErrIndex", err)
					}
					continue
				}
				for range 4 {
					_, err := im.ReadAt(p, rng.Int64N(im.Size()-5000))
					if err != nil && !errors.Is(err, ErrIndex) && !isDamage(err) {
						t.Errorf("%v", err)
					}
				}
				checkAtRest(t, &im.engine)
			}
		})
	}
}

// TestStreamGigabyte reads at random in a chunk of 1 GiB, under a limit of 32 MiB: R1 holds
// to the byte, warm and with a saved index. It logs how long reads take.
func TestStreamGigabyte(t *testing.T) {
	dmgtest.Native(t)
	dmgtest.Long(t)
	const size, part, limit = 1 << 30, 16 << 20, 32 << 20
	disk := dmgtest.Mixed(3, part).Bytes()
	for _, m := range []dmgtest.Method{dmgtest.ADC, dmgtest.LZFSE} {
		t.Run(Method(m).String(), func(t *testing.T) {
			one, err := dmgtest.Compress(m, 0, disk)
			if err != nil {
				t.Fatal(err)
			}
			data := bytes.Repeat(bytes.TrimSuffix(one, []byte("bvx$")), size/part)
			if m == dmgtest.LZFSE {
				data = append(data, "bvx$"...)
			}
			sectors := int64(size / sectorSize)
			l := &dmgtest.Layout{Data: data, Koly: dmgtest.NewKoly()}
			l.Tables = []dmgtest.Table{dmgtest.NewTable("disk", 0, sectors, dmgtest.Chunk{
				Method: m, Sectors: uint64(sectors), Length: uint64(len(data)),
			})}
			if err := l.Seal(); err != nil {
				t.Fatal(err)
			}
			file := l.Bytes()
			open := func(ix *Index) *Image { return newTest(t, file, &Options{MemoryLimit: limit, Index: ix}) }
			check := func(im *Image, what string) {
				t.Helper()
				rng := rand.New(rand.NewPCG(5, 5))
				p, began := make([]byte, 4096), time.Now()
				const reads = 300
				for range reads {
					before, off := im.Stats().BytesDecoded, rng.Int64N(size-4096)
					if _, err := im.ReadAt(p, off); err != nil {
						t.Fatal(err)
					}
					if n := im.Stats().BytesDecoded - before; n > windowSpacing+4096 {
						t.Errorf("%s: a read at %d decoded %d bytes", what, off, n)
					}
					for i := range p {
						if p[i] != disk[(off+int64(i))%part] {
							t.Fatalf("%s: byte %d is wrong", what, off+int64(i))
						}
					}
				}
				s := im.Stats()
				t.Logf("%s: %v a read, %d checkpoints in %d bytes", what, time.Since(began)/reads, len(im.mu.points.chunks[0]), s.CheckpointBytes)
				checkAtRest(t, &im.engine)
			}
			im := open(nil)
			if err := im.BuildIndex(context.Background(), nil); err != nil {
				t.Fatal(err)
			}
			check(im, "warm")
			var saved bytes.Buffer
			if _, err := indexOf(t, im).WriteTo(&saved); err != nil {
				t.Fatal(err)
			}
			check(open(readIndex(t, saved.Bytes())), "with a saved index")
		})
	}
}
