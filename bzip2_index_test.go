package dmg

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/go-dmg/dmg/internal/bzip2"
	"github.com/go-dmg/dmg/internal/dmgtest"
)

// bzip2Image is a disk in one bzip2 chunk of several blocks of 100 kB.
func bzip2Image(t *testing.T) testImage {
	return workload{codecs: allCodecs[2:3], size: fewer[int64](2<<20, 2)}.image(t)
}

// blocksOf returns the offsets in bits of a stream's blocks, and of its end.
func blocksOf(t *testing.T, stream []byte) (blocks []int, end int) {
	t.Helper()
	for from := 0; ; {
		bit, kind, ok := bzip2.FindBlock(stream, from)
		switch {
		case !ok:
			t.Fatal("the stream has no end")
		case kind == bzip2.KindEnd:
			return blocks, bit
		}
		blocks = append(blocks, bit)
		from = bit + 48
	}
}

// flipBit flips a bit, counted from the first byte's highest.
func flipBit(p []byte, bit int) { p[bit/8] ^= 0x80 >> (bit % 8) }

// Every block's start is a checkpoint, and each has cursors as far as it goes:
// reads resume at them all.
func TestBzip2Resume(t *testing.T) {
	t.Parallel()
	ti := bzip2Image(t)
	for _, limit := range []int64{7 << 20, 64 << 20} {
		for _, step := range []int{4096, 1 << 20} {
			im := ti.open(t, limit, nil)
			ti.wayThrough(t, im, step)
			blocks, _ := blocksOf(t, ti.file[im.chunks[0].DataOffset:][:im.chunks[0].DataLength])
			points := im.mu.points.chunks[0]
			if len(points) != len(blocks) || len(blocks) < 5 {
				t.Fatalf("steps of %d: %d checkpoints for %d blocks", step, len(points), len(blocks))
			}
			var record []byte
			for k, p := range points {
				record = im.mu.points.at(record[:0], p)
				point, err := bzip2.RecordPoint(record)
				if err != nil || point.In != int64(blocks[k]) {
					t.Fatalf("checkpoint %d is at bit %d, the block at %d (%v)", k, point.In, blocks[k], err)
				}
				end := im.Size()
				if k+1 < len(points) {
					end = points[k+1].off
				}
				cursors, err := bzip2.AppendRecordCursors(make([]bzip2.Cursor, 1), record)
				if want := int((end - p.off - 1) / cursorSpacing); err != nil || len(cursors)-1 < want {
					t.Errorf("block %d of %d bytes: %d cursors, want %d (%v)", k, end-p.off, len(cursors)-1, want, err)
				}
				for _, off := range []int64{0, 1, cursorSpacing - 1, cursorSpacing, cursorSpacing + 1, end - p.off - 1} {
					ti.mustRead(t, im, p.off+off, 100)
				}
			}
		}
	}
}

// Reads clustered in one block decode the block once.
func TestBzip2Cluster(t *testing.T) {
	ti := bzip2Image(t)
	im := ti.open(t, 7<<20, nil)
	ti.wayThrough(t, im, 1<<20)
	points := im.mu.points.chunks[0]
	from, to := points[2].off, points[3].off
	ti.mustRead(t, im, from+1, 10)
	before := im.Stats().SourceBytes
	rng := rand.New(rand.NewPCG(5, 1))
	for range 200 {
		ti.mustRead(t, im, from+rng.Int64N(to-from-4096), 4096)
	}
	if n := im.Stats().SourceBytes - before; n != 0 {
		t.Errorf("reads of one block fetched %d bytes more of it", n)
	}
}

// A block's CRC, and that of the stream, are checked on the first way through,
// in steps, by several readers, or with a decoder that was resumed at blocks.
func TestBzip2Checksum(t *testing.T) {
	ti := bzip2Image(t)
	c := ti.open(t, 0, nil).chunks[0]
	stream := ti.file[c.DataOffset:][:c.DataLength]
	blocks, end := blocksOf(t, stream)
	const sum = 48 + 7 // bits behind a magic
	for _, tt := range []struct {
		name string
		bit  int
	}{
		{"first block", blocks[0] + sum},
		{"last block", blocks[len(blocks)-1] + sum},
		{"stream", end + sum},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := bytes.Clone(ti.file)
			flipBit(file[c.DataOffset:], tt.bit)
			damaged := testImage{ti.disk, file}
			for _, way := range waysThrough {
				// Where readers take turns in a block none of them sees all of
				// it; its CRC is checked by who reads it whole.
				if tt.name != "stream" && (way.name == "two readers in turn" || way.name == "resumed from checkpoints") {
					continue
				}
				im := damaged.open(t, 16<<20, nil)
				err := way.read(im, make([]byte, im.Size()))
				var chunk *ChunkError
				if !errors.Is(err, ErrChecksum) || !errors.As(err, &chunk) {
					t.Errorf("%s: %v, want a ChunkError of class ErrChecksum", way.name, err)
				}
			}
		})
	}
}

// A record that is no block's, or has cursors that are none, gives an error.
func TestBzip2BadRecord(t *testing.T) {
	dmgtest.NotRaced(t)
	t.Parallel()
	ti := bzip2Image(t)
	im := ti.open(t, 64<<20, nil)
	ti.wayThrough(t, im, 1<<20)
	place := im.mu.points.chunks[0][1].off
	good := recordOf(t, im, 0, place)
	read := func(record []byte) error {
		im := ti.open(t, 16<<20, nil)
		im.mu.Lock()
		im.mu.points.add(0, checkpoint{off: place, in: 1000}, record)
		im.mu.Unlock()
		_, err := im.ReadAt(make([]byte, 1000), place+70_000)
		return err
	}
	if err := read(good); err != nil {
		t.Fatalf("a good record: %v", err)
	}
	for n := 1; n < len(good); n += 3 {
		// Fewer whole cursors are as good.
		if err := read(good[:n]); (n >= pointLen && (n-pointLen)%cursorLen == 0) != (err == nil) || err != nil && !errors.Is(err, ErrIndex) {
			t.Errorf("the first %d bytes of a record: %v", n, err)
		}
	}
	rng := rand.New(rand.NewPCG(3, 4))
	for range fewer(100, 8) {
		bad := bytes.Clone(good)
		bad[rng.IntN(len(bad))] ^= 1 << rng.IntN(8)
		var chunk *ChunkError
		if err := read(bad); err != nil && !errors.As(err, &chunk) {
			t.Errorf("a bent record: %v", err)
		}
	}
}

// Short cold reads do without the links of their block, wherever they are in it
// and across its end; those that follow have them.
func TestBzip2Spans(t *testing.T) {
	t.Parallel()
	ti := bzip2Image(t)
	im := ti.open(t, bzip2Memory+fetchBuffer+256<<10, nil)
	ti.wayThrough(t, im, 1<<20)
	points := im.mu.points.chunks[0]
	ranked := func() bool {
		im.mu.Lock()
		defer im.mu.Unlock()
		return len(im.mu.idle) == 1 && im.mu.idle[0].codec.(*bzip2Codec).block.Ranked()
	}
	rng := rand.New(rand.NewPCG(8, 1))
	size := int64(len(ti.disk))
	spans := 0
	for k := range fewer(300, 30) {
		// Away from the block that the last read left behind.
		p := points[(k*3+1)%len(points)]
		off := p.off + rng.Int64N(120_000)
		switch rng.IntN(4) {
		case 0: // at the block's start, or the end of the one before
			off = p.off + rng.Int64N(3000) - 1500
		case 1: // at a cursor
			off = p.off + cursorSpacing*rng.Int64N(12) + rng.Int64N(3) - 1
		}
		off = max(0, min(off, size-1))
		n := 1 + rng.Int64N([]int64{10, 4096, 20_000}[rng.IntN(3)])
		ti.mustRead(t, im, off, int(n))
		if !ranked() {
			continue
		}
		spans++
		switch rng.IntN(4) {
		case 0: // on
			ti.mustRead(t, im, min(size-1, off+n), 5000)
		case 1: // on, far
			ti.mustRead(t, im, min(size-1, off+n), 90_000)
		case 2: // near
			ti.mustRead(t, im, max(0, off-7000), 5000)
		}
	}
	if reads := fewer(300, 30); spans < reads/3 {
		t.Errorf("%d of %d reads did without links", spans, reads)
	}
}

// A cursor with another row is noticed: a read gives the right bytes or an error.
func TestBzip2BentCursor(t *testing.T) {
	dmgtest.NotRaced(t)
	ti := bzip2Image(t)
	im := ti.open(t, 64<<20, nil)
	ti.wayThrough(t, im, 1<<20)
	place := im.mu.points.chunks[0][1].off
	good := recordOf(t, im, 0, place)
	const row = 7 // bytes into a cursor
	failed := 0
	for k := range 10 {
		bent := bytes.Clone(good)
		bent[pointLen+k*cursorLen+row+2] ^= 1
		for j := range 10 {
			im := ti.open(t, 16<<20, nil)
			im.mu.Lock()
			im.mu.points.add(0, checkpoint{off: place, in: 1000}, bent)
			im.mu.Unlock()
			p := make([]byte, 1000)
			off := place + int64(j)*cursorSpacing + 100
			_, err := im.ReadAt(p, off)
			if err == nil && !bytes.Equal(p, ti.disk[off:][:len(p)]) || err != nil && !errors.Is(err, ErrIndex) {
				t.Errorf("cursor %d bent, read behind cursor %d: %v", k, j, err)
			}
			if err != nil {
				failed++
			}
		}
	}
	if failed < 10 {
		t.Errorf("%d reads noticed a bent cursor", failed)
	}
}

// A chunk may hold several streams, empty ones too, and bytes after the last.
func TestBzip2Streams(t *testing.T) {
	disk := dmgtest.Text(1, 600<<10).Bytes()
	compress := func(part []byte) []byte {
		b, err := dmgtest.Compress(dmgtest.Bzip2, 1, part)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	whole := compress(disk)
	several := bytes.Join([][]byte{compress(disk[:1]), compress(disk[1:250_001]), compress(nil), compress(disk[250_001:])}, nil)
	for _, tt := range []struct {
		name   string
		stream []byte
	}{
		{"one", whole},
		{"bytes after the end", append(bytes.Clone(whole), bytes.Repeat([]byte("not bzip2"), 1000)...)},
		{"several", several},
		{"several and bytes", append(bytes.Clone(several), 0)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := &dmgtest.Layout{Data: tt.stream, Koly: dmgtest.NewKoly()}
			l.Tables = []dmgtest.Table{dmgtest.NewTable("disk", 0, 1200, dmgtest.Chunk{
				Method: dmgtest.Bzip2, Sectors: 1200, Length: uint64(len(tt.stream)),
			})}
			if err := l.Seal(); err != nil {
				t.Fatal(err)
			}
			ti := testImage{disk, l.Bytes()}
			for _, step := range []int{4096, 1 << 20} {
				im := ti.open(t, 8<<20, nil)
				ti.wayThrough(t, im, step)
				rng := rand.New(rand.NewPCG(2, 3))
				for range 50 {
					ti.mustRead(t, im, rng.Int64N(int64(len(disk))-5000), 5000)
				}
			}
		})
	}
}
