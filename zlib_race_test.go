package dmg

import (
	"bytes"
	"compress/flate"
	"context"
	"encoding/binary"
	"errors"
	"hash/adler32"
	"io"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-dmg/dmg/internal/dmgtest"
)

// A zlibPiece is a part of the disk, and the blocks that it becomes in each stream.
type zlibPiece struct {
	level int // compress/flate's
	data  func(rng *rand.Rand) []byte
}

// Pieces of zlib streams: long runs of text that repeats, so that there is much output for
// little work under the race detector; text; zeros; and stored bytes.
var (
	repeats = zlibPiece{flate.BestSpeed, func(rng *rand.Rand) []byte {
		line := dmgtest.Text(rng.Uint64(), 3000).Bytes()
		var p []byte
		for len(p) < 48<<10 {
			at := rng.IntN(len(line) / 2)
			p = append(p, line[at:at+30+rng.IntN(100)]...)
			p = append(p, byte(rng.Uint32()))
		}
		return p
	}}
	plainText  = zlibPiece{flate.DefaultCompression, func(rng *rand.Rand) []byte { return dmgtest.Text(rng.Uint64(), 20<<10).Bytes() }}
	manyZeros  = zlibPiece{flate.BestSpeed, func(*rand.Rand) []byte { return make([]byte, 200<<10) }}
	storedText = zlibPiece{flate.NoCompression, plainText.data}
	noMatches  = zlibPiece{flate.HuffmanOnly, plainText.data}
)

// cheapZlib is an image of one zlib chunk, of so many bytes, whose stream is made of pieces
// in turn. It is quickly made: after the first round the stream repeats itself, and matches
// reach from one piece into the one before.
func cheapZlib(t testing.TB, size int, pieces ...zlibPiece) testImage {
	t.Helper()
	const window = 32 << 10
	rng := rand.New(rand.NewPCG(5, uint64(len(pieces))))
	var round []byte
	ends := []int{0}
	for len(round) < 512<<10 {
		for _, p := range pieces {
			round = append(round, p.data(rng)...)
			ends = append(ends, len(round))
		}
	}
	twice := append(bytes.Clone(round), round...)
	var disk, first, again bytes.Buffer
	for r, z := range []*bytes.Buffer{&first, &again} {
		for i := range len(ends) - 1 {
			from, to := r*len(round)+ends[i], r*len(round)+ends[i+1]
			w, err := flate.NewWriterDict(z, pieces[i%len(pieces)].level, twice[max(0, from-window):from])
			if err != nil {
				t.Fatal(err)
			}
			w.Write(twice[from:to])
			w.Flush()
		}
	}
	z := bytes.NewBuffer([]byte{0x78, 0x9C})
	z.Write(first.Bytes())
	for disk.Write(round); disk.Len() < size; disk.Write(round) {
		z.Write(again.Bytes())
	}
	z.Write([]byte{1, 0, 0, 0xFF, 0xFF}) // an empty stored block, the last
	b := disk.Bytes()
	b = append(b, make([]byte, -len(b)&(sectorSize-1))...)
	if pad := len(b) - disk.Len(); pad > 0 {
		z.Truncate(z.Len() - 5)
		z.Write([]byte{1, byte(pad), byte(pad >> 8), ^byte(pad), ^byte(pad >> 8)})
		z.Write(b[disk.Len():])
	}
	data := binary.BigEndian.AppendUint32(z.Bytes(), adler32.Checksum(b))
	return zlibImage(t, b, data)
}

// zlibImage is an image of one zlib chunk with that data.
func zlibImage(t testing.TB, disk, data []byte) testImage {
	t.Helper()
	sectors := int64(len(disk) / sectorSize)
	l := &dmgtest.Layout{Data: data, Koly: dmgtest.NewKoly()}
	l.Koly.Sectors = uint64(sectors)
	table := dmgtest.NewTable("whole disk (unknown partition : 0)", 0, sectors,
		dmgtest.Chunk{Method: dmgtest.Zlib, Sectors: uint64(sectors), Length: uint64(len(data))})
	var err error
	if table.Checksum, err = dmgtest.Sum(dmgtest.CRC32, disk); err != nil {
		t.Fatal(err)
	}
	l.Tables = []dmgtest.Table{table}
	if err := l.Seal(); err != nil {
		t.Fatal(err)
	}
	return testImage{disk, l.Bytes()}
}

// A togetherTest is an image in one zlib chunk, and what is done with it at the same time.
type togetherTest struct {
	name   string
	pieces []zlibPiece
	limit  int64   // of memory
	damage float64 // where in the data bytes are wrong, of 1; 0: nowhere
	works  []togetherWork
}

// togetherWork is one of several uses of an image at the same time. out takes what is
// written, and must be the disk up to where an error ends it.
type togetherWork struct {
	name string
	do   func(ctx context.Context, im *Image, out *sink) error
	want error // if the image is whole
}

var (
	extracts = togetherWork{name: "Extract", do: func(ctx context.Context, im *Image, out *sink) error {
		return im.Extract(ctx, out, &ExtractOptions{Workers: 6})
	}}
	extractsInOrder = togetherWork{name: "Extract in order", do: func(ctx context.Context, im *Image, out *sink) error {
		return im.Extract(ctx, out, &ExtractOptions{Workers: 4, Ordered: true})
	}}
	writesTo = togetherWork{name: "WriteTo", do: func(_ context.Context, im *Image, out *sink) error {
		_, err := im.WriteTo(io.NewOffsetWriter(out, 0))
		return err
	}}
	verifies = togetherWork{name: "Verify", do: func(ctx context.Context, im *Image, _ *sink) error {
		return im.Verify(ctx, &VerifyOptions{Workers: 6})
	}}
	indexes = togetherWork{name: "BuildIndex", do: func(ctx context.Context, im *Image, _ *sink) error {
		return im.BuildIndex(ctx, &BuildIndexOptions{Workers: 8})
	}}
	cancels = togetherWork{name: "cancelled", want: context.Canceled, do: func(ctx context.Context, im *Image, out *sink) error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		return im.Extract(ctx, out, &ExtractOptions{Workers: 5, Progress: func(done, total int64) {
			if done > total/2 {
				cancel()
			}
		}})
	}}
	readsFar = togetherWork{name: "a far read", do: func(_ context.Context, im *Image, out *sink) error {
		p := make([]byte, 64<<10)
		off := im.Size() * 3 / 5
		n, err := im.ReadAt(p, off)
		out.WriteAt(p[:n], off)
		return err
	}}
)

// Whole-disk work on several cores in one zlib chunk, several at once, beside readers, for
// the race detector above all: streams are so made that it takes little time.
func TestZlibAheadTogether(t *testing.T) {
	dmgtest.NotEmulated(t)
	dmgtest.LongOrRaced(t)
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(4))
	all := []zlibPiece{repeats, plainText, storedText, repeats, manyZeros, repeats}
	for _, tt := range []togetherTest{
		{"repeats", []zlibPiece{repeats}, 160 << 20, 0, []togetherWork{extracts, verifies}},
		{"all kinds", all, 160 << 20, 0, []togetherWork{indexes, writesTo}},
		{"little memory", all, 14 << 20, 0, []togetherWork{extractsInOrder, indexes, readsFar}},
		{"nothing to find", []zlibPiece{noMatches, storedText}, 32 << 20, 0, []togetherWork{extracts}},
		{"cancelled", all, 160 << 20, 0, []togetherWork{cancels, indexes, cancels}},
		{"damaged", []zlibPiece{repeats}, 160 << 20, 0.6, []togetherWork{extracts, writesTo, verifies, cancels}},
		{"wrong sum", all, 160 << 20, 1, []togetherWork{extracts, writesTo}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ti := cheapZlib(t, 9<<20+512<<10, tt.pieces...)
			if tt.damage > 0 {
				c := ti.zlibChunk(t)
				at := c.DataOffset + int64(float64(c.DataLength-1)*tt.damage)
				ti.file[at] ^= 0x40
				clear(ti.file[at+1 : min(at+100, c.DataOffset+c.DataLength)])
			}
			within(t, "work on one chunk", func() { tt.run(t, ti) })
		})
	}
}

// zlibChunk returns the first zlib chunk of the image.
func (ti testImage) zlibChunk(t testing.TB) Chunk {
	t.Helper()
	for c := range ti.open(t, 64<<20, nil).Chunks() {
		if c.Method == Zlib {
			return c
		}
	}
	t.Fatal("no zlib chunk")
	panic("unreachable")
}

func (tt *togetherTest) run(t *testing.T, ti testImage) {
	im := ti.open(t, tt.limit, nil)
	before := runtime.NumGoroutine()
	var works, readers sync.WaitGroup
	var done atomic.Bool
	for _, w := range tt.works {
		works.Add(1)
		go func() {
			defer works.Done()
			out := &sink{p: bytes.Clone(ti.disk)} // what is not written is not compared
			err := w.do(context.Background(), im, out)
			switch {
			case tt.damage > 0 && w.want == nil && w.name != readsFar.name:
				if !errors.Is(err, ErrFormat) && !errors.Is(err, ErrChecksum) {
					t.Errorf("%s: %v", w.name, err)
				}
			case !errors.Is(err, w.want) || w.want == nil && err != nil:
				if tt.damage == 0 {
					t.Errorf("%s: %v", w.name, err)
				}
			}
			if k := firstDifference(out.p, ti.disk); k >= 0 && (tt.damage == 0 || float64(k) < tt.damage*0.9*float64(len(ti.disk))) {
				t.Errorf("%s: byte %d is wrong", w.name, k)
			}
		}()
	}
	safe := int64(len(ti.disk)) - 64<<10
	if tt.damage > 0 {
		safe = int64(float64(safe) * tt.damage * 0.9)
	}
	for r := range 2 {
		readers.Add(1)
		go func() {
			defer readers.Done()
			// Earlier reads would leave checkpoints, and the works would be done from these.
			for im.count.bytesAhead.Load() == 0 && !done.Load() {
				time.Sleep(time.Millisecond)
			}
			rng := rand.New(rand.NewPCG(uint64(r), 3))
			for n := 0; n < 3 || !done.Load(); n++ {
				ti.mustRead(t, im, rng.Int64N(safe), 1+rng.IntN(30_000))
				time.Sleep(time.Millisecond)
			}
		}()
	}
	works.Wait()
	done.Store(true)
	readers.Wait()
	checkAtRest(t, &im.engine)
	if im.count.bytesAhead.Load() == 0 && tt.limit >= 32<<20 {
		t.Errorf("of %d bytes in %d nothing was decoded ahead", len(ti.disk), len(ti.file))
	}
	for range 1000 { // those that tell of a cancelled context
		if runtime.NumGoroutine() <= before {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Errorf("%d goroutines, were %d", runtime.NumGoroutine(), before)
}
