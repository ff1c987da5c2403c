package dmg

import (
	"bytes"
	gobzip2 "compress/bzip2"
	"context"
	"errors"
	"io"
	"math/bits"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/go-dmg/dmg/internal/bzip2"
	"github.com/go-dmg/dmg/internal/dmgtest"
)

// bitWriter writes bits, the highest first.
type bitWriter struct {
	p []byte
	n int
}

func (w *bitWriter) put(v uint64, n int) {
	for n--; n >= 0; n-- {
		if w.n%8 == 0 {
			w.p = append(w.p, 0)
		}
		w.p[w.n/8] |= byte(v>>n&1) << (7 - w.n%8)
		w.n++
	}
}

// patch overwrites 32 bits.
func (w *bitWriter) patch(at int, v uint32) {
	for i := range 32 {
		b := byte(v >> (31 - i) & 1)
		q := at + i
		w.p[q/8] = w.p[q/8]&^(1<<(7-q%8)) | b<<(7-q%8)
	}
}

// run writes a run of n, in codes of so many bits.
func (w *bitWriter) run(n, codeBits int) {
	for ; n > 0; n = (n - 1) / 2 {
		w.put(uint64(n-1)&1, codeBits)
	}
}

// head writes a bzip2 block up to its tables, which are two. So many byte values are
// used, from 0 on.
func (w *bitWriter) head(origin, used, selectors int) {
	w.put(0x314159265359, 48)
	w.put(0x12345678, 32)
	w.put(0, 1)
	w.put(uint64(origin), 24)
	ranges := (used + 15) / 16
	w.put(1<<16-1<<(16-ranges), 16)
	for left := used; left > 0; left -= 16 {
		w.put(1<<16-1<<(16-min(left, 16)), 16)
	}
	w.put(2, 3)
	w.put(uint64(selectors), 15)
	w.put(0, selectors)
}

// tables writes two tables of codes of one length.
func (w *bitWriter) tables(symbols, length int) {
	for range 2 {
		w.put(uint64(length), 5)
		w.put(0, symbols)
	}
}

// smallBlock is a bzip2 block of 900,000 bytes in 32: two runs of a rotation.
func smallBlock(y int) []byte {
	var w bitWriter
	w.head(1, 2, 1)
	w.tables(4, 2)
	w.put(2, 2)
	w.run(y-1, 2)
	w.put(2, 2)
	w.run(900_000-y-1, 2)
	w.put(3, 2)
	return w.p
}

// blockOfBlocks is a bzip2 stream, its checksums right, with a block whose codes
// spell so many other blocks, and two of zeros behind it. It also returns to how many
// bytes it decodes.
func blockOfBlocks(t testing.TB, inside int) (stream []byte, size int64) {
	data := []byte{5, 6, 7}
	for y := 343_773; inside > 0; y += 2 {
		if b := smallBlock(y); bytes.IndexByte(b, 0xFF) < 0 { // which ends the block
			data = append(data, b...)
			inside--
		}
	}
	w := bitWriter{p: []byte("BZh9"), n: 32}
	var blocks []int
	zeros := func(n int) {
		blocks = append(blocks, w.n)
		w.head(0, 256, 1)
		w.tables(258, 9)
		w.put(256, 9)
		w.run(n-1, 9)
		w.put(2, 9)
		w.run(4*n-1, 9)
		w.put(257, 9)
	}
	zeros(2)
	blocks = append(blocks, w.n)
	w.head(0, 254, (len(data)+50)/50)
	w.tables(256, 8)
	for _, c := range data {
		w.put(uint64(c), 8)
	}
	w.put(0xFF, 8)
	zeros(180_000)
	zeros(180_000)
	end := w.n
	w.put(0x177245385090, 48)
	w.put(0, 32)

	var s bzip2.Stream
	var b bzip2.Block
	var text bzip2.Text
	s.Reset(bytes.NewReader(w.p))
	buf, sum := make([]byte, 1<<16), uint32(0)
	for _, at := range blocks {
		if err := s.Next(&b); err != nil {
			t.Fatal(err)
		}
		b.Unwind(&text)
		crc := uint32(0)
		for c, err := text.Start(), error(nil); err == nil; {
			var k int
			k, err = text.Read(&c, buf)
			crc = bzip2.UpdateCRC(crc, buf[:k])
			size += int64(k)
		}
		w.patch(at+48, crc)
		sum = bits.RotateLeft32(sum, 1) ^ crc
	}
	w.patch(end+48, sum)
	return w.p, size
}

// TestBlocksInside has hundreds of whole blocks inside the data of a block, each of
// which takes a core as long as a genuine one. The source would also be asked for
// what is behind each.
func TestBlocksInside(t *testing.T) {
	dmgtest.Native(t)
	dmgtest.Long(t)
	t.Parallel()
	const inside = 500
	stream, size := blockOfBlocks(t, inside)
	im := imageOf(t, Options{}, stream, dmgtest.Chunk{Method: dmgtest.Bzip2, Sectors: uint64(size / sectorSize), Length: uint64(len(stream))})
	begun := time.Now()
	if n, err := im.WriteTo(io.Discard); err != nil || n != size/sectorSize*sectorSize {
		t.Errorf("%d bytes of %d, %v", n, size, err)
	}
	took, calls := time.Since(begun), im.Stats().SourceReads
	t.Logf("%v, %d calls of the source", took, calls)
	if calls > inside/5 {
		t.Errorf("%d calls of the source for %d bytes", calls, len(stream))
	}
	if !dmgtest.Slowed() && took > 5*time.Second {
		t.Errorf("WriteTo took %v", took)
	}
}

// TestSearchEnds has no more of the source fetched for the next block than one can
// have, where there is none.
func TestSearchEnds(t *testing.T) {
	dmgtest.Native(t)
	t.Parallel()
	stream, size := blockOfBlocks(t, 0)
	stream[len(stream)-9] ^= 0x55 // of the end's magic
	stream = append(stream, make([]byte, 40<<20)...)
	im := imageOf(t, Options{}, stream, dmgtest.Chunk{Method: dmgtest.Bzip2, Sectors: uint64(size/sectorSize + 100_000), Length: uint64(len(stream))})
	_, err := im.ReadAt(make([]byte, 10<<20), size-5<<20)
	if n := im.Stats().SourceBytes; n > 16<<20 || !errors.Is(err, ErrFormat) {
		t.Errorf("%d bytes of the source were fetched, %v", n, err)
	}
}

// TestNothingIsCancelled cancels what decodes a chunk whose data is blocks of nothing.
func TestNothingIsCancelled(t *testing.T) {
	dmgtest.Long(t)
	dmgtest.Native(t)
	t.Parallel()
	for _, tt := range []struct {
		method dmgtest.Method
		data   string
	}{
		{dmgtest.Zlib, "\x78\x9C" + string(bytes.Repeat([]byte{0x02, 0x08, 0x20, 0x80, 0x00}, 16<<20))},
		{dmgtest.Bzip2, string(bytes.Repeat([]byte("BZh9\x17\x72\x45\x38\x50\x90\x00\x00\x00\x00"), 6<<20))},
	} {
		im := imageOf(t, Options{}, []byte(tt.data), dmgtest.Chunk{Method: tt.method, Sectors: 100 << 11, Length: uint64(len(tt.data))})
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		err := im.BuildIndex(ctx, nil)
		cancel()
		if n := im.Stats().SourceBytes; !errors.Is(err, context.DeadlineExceeded) || n > int64(len(tt.data))/2 {
			t.Errorf("%v: %d bytes of %d were read, %v", tt.method, n, len(tt.data), err)
		}
	}
}

// magicStream is a bzip2 stream of one block whose data are, to every bit, what
// blocks begin with: 254 bytes occur in it, so that there are 256 symbols, and
// all have codes of 8 bits.
func magicStream(crc uint32) []byte {
	const symbols = 60_000 // and the last one
	magic := [...]uint64{0x31, 0x41, 0x59, 0x26, 0x53, 0x59}
	w := &bitWriter{p: []byte("BZh9"), n: 32}
	w.head(symbols/2, 254, (symbols+1+49)/50)
	w.patch(32+48, crc)
	w.tables(256, 8)
	rng := rand.New(rand.NewPCG(4, 4))
	for i := range symbols {
		if i%1000 < len(magic) {
			w.put(magic[i%1000], 8)
		} else {
			w.put(2+rng.Uint64N(253), 8)
		}
	}
	w.put(255, 8)
	w.put(0x177245385090, 48)
	w.put(uint64(crc), 32)
	return w.p
}

// magicInside returns a stream as magicStream has it with its right CRC, and
// what it decodes to.
func magicInside(t *testing.T) (stream, data []byte) {
	t.Helper()
	// The text comes before the error of its CRC.
	data, err := io.ReadAll(gobzip2.NewReader(bytes.NewReader(magicStream(0))))
	if err == nil || len(data) < 50_000 {
		t.Fatalf("%d bytes, %v", len(data), err)
	}
	crc := ^uint32(0)
	for _, c := range data {
		crc ^= uint32(c) << 24
		for range 8 {
			crc = crc<<1 ^ 0x04C11DB7&-(crc>>31)
		}
	}
	stream = magicStream(^crc)
	if _, err := io.ReadAll(gobzip2.NewReader(bytes.NewReader(stream))); err != nil {
		t.Fatal(err)
	}
	return stream, data
}
