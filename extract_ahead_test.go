package dmg

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/go-dmg/dmg/internal/budget"
	"github.com/go-dmg/dmg/internal/dmgtest"
)

func compress(t *testing.T, level int, data []byte) []byte {
	t.Helper()
	z, err := dmgtest.Compress(dmgtest.Bzip2, level, data)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

// bzip2ChunkImage is an image of one bzip2 chunk with the given data.
func bzip2ChunkImage(t *testing.T, disk, data []byte) []byte {
	t.Helper()
	l, err := dmgtest.Build(disk, dmgtest.Options{Codecs: []dmgtest.Method{dmgtest.Raw}, Zeros: dmgtest.ZeroKeep})
	if err != nil {
		t.Fatal(err)
	}
	c := &l.Tables[0].Chunks[0]
	c.Method, c.Offset, c.Length = dmgtest.Bzip2, 0, uint64(len(data))
	l.Data = data
	if err := l.Seal(); err != nil {
		t.Fatal(err)
	}
	return l.Bytes()
}

// A bitBlock is a block cut out of a bzip2 stream.
type bitBlock struct {
	text []byte
	bits []bool
	crc  uint32
}

// cutBlock compresses text, which must be one block of level 9.
func cutBlock(t *testing.T, text []byte) bitBlock {
	t.Helper()
	z := compress(t, 9, text)
	bits := make([]bool, 0, 8*len(z))
	for _, c := range z {
		for i := range 8 {
			bits = append(bits, c<<i&0x80 != 0)
		}
	}
	number := func(b []bool) (v uint64) {
		for _, bit := range b {
			v <<= 1
			if bit {
				v++
			}
		}
		return v
	}
	const head, tail = 32, 48 + 32
	for pad := range 8 {
		end := len(bits) - pad - tail
		if number(bits[end:end+48]) == 0x177245385090 {
			return bitBlock{text, bits[head:end], uint32(number(bits[head+48 : head+48+32]))}
		}
	}
	t.Fatal("no end of a stream")
	return bitBlock{}
}

// joinBlocks writes blocks as one stream, each at whatever bit the last ends.
func joinBlocks(level byte, blocks ...bitBlock) (disk, stream []byte) {
	w := &bitWriter{p: []byte{'B', 'Z', 'h', level}, n: 32}
	crc := uint32(0)
	for _, b := range blocks {
		for _, bit := range b.bits {
			if bit {
				w.put(1, 1)
			} else {
				w.put(0, 1)
			}
		}
		crc = bits.RotateLeft32(crc, 1) ^ b.crc
		disk = append(disk, b.text...)
	}
	w.put(0x177245385090, 48)
	w.put(uint64(crc), 32)
	return disk, w.p
}

// An aheadTest is a disk, and its data as one bzip2 chunk.
type aheadTest struct {
	name         string
	disk, stream []byte
}

// aheadTests are chunks of 9 MB and many blocks. There is only time to compress a
// few of these: they occur several times.
func aheadTests(t *testing.T) []aheadTest {
	t.Helper()
	size, repeat := int64(800_000), 11
	if dmgtest.Part() {
		size, repeat = 200_000, 14
	}
	var large, small []bitBlock
	for i := range 2 {
		large = append(large, cutBlock(t, dmgtest.Text(uint64(i), size+int64(i)*1000).Bytes()))
		small = append(small, cutBlock(t, dmgtest.Text(uint64(i), 90_000+int64(i)*1000).Bytes()))
	}
	magic, data := magicInside(t)
	inside := aheadTest{name: "magics inside blocks"}
	for range repeat {
		disk, stream := joinBlocks('9', large...)
		inside.disk = append(append(inside.disk, disk...), data...)
		inside.stream = append(append(inside.stream, stream...), magic...)
	}
	if dmgtest.Part() {
		inside.disk = inside.disk[:len(inside.disk)&^(sectorSize-1)]
		return []aheadTest{inside}
	}
	zeros := cutBlock(t, make([]byte, 3<<20))

	one := aheadTest{name: "one stream"}
	one.disk, one.stream = joinBlocks('9', slices.Concat(slices.Repeat(large, repeat/2), []bitBlock{zeros}, large)...)
	level1 := aheadTest{name: "level 1"}
	level1.disk, level1.stream = joinBlocks('1', slices.Repeat(small, 50)...)
	tooLarge := aheadTest{name: "level 1 with small blocks and zeros"}
	tooLarge.disk, tooLarge.stream = joinBlocks('1', slices.Repeat(append(small, zeros), 12)...)
	many := aheadTest{name: "many streams"}
	for range repeat {
		disk, stream := joinBlocks('9', large[0])
		many.disk, many.stream = append(many.disk, disk...), append(many.stream, stream...)
		disk, stream = joinBlocks('1', small[1])
		many.disk, many.stream = append(many.disk, disk...), append(many.stream, stream...)
	}
	tests := []aheadTest{one, inside, level1, tooLarge, many}
	for i := range tests {
		tt := &tests[i]
		tt.disk = tt.disk[:len(tt.disk)&^(sectorSize-1)] // the last block is cut
	}
	return tests
}

// withCores runs the rest of a test as on a machine with four cores.
func withCores(t *testing.T) {
	old := runtime.GOMAXPROCS(4)
	t.Cleanup(func() { runtime.GOMAXPROCS(old) })
}

// TestBzip2Ahead decodes the blocks of one chunk on several cores and, in a
// memory that has no room for that, on one.
func TestBzip2Ahead(t *testing.T) {
	dmgtest.NotEmulated(t)
	dmgtest.LongOrRaced(t)
	withCores(t)
	for _, tt := range aheadTests(t) {
		t.Run(tt.name, func(t *testing.T) {
			disk := tt.disk
			img := bzip2ChunkImage(t, disk, tt.stream)
			for _, limit := range []int64{7 << 20, 64 << 20} {
				im := newTestImage(t, bytes.NewReader(img), len(img), limit)
				before := runtime.NumGoroutine()
				s := &sequence{recorder: newRecorder(im.Size())}
				ahead := false
				s.call = func(int) (bool, error) {
					im.mu.Lock()
					defer im.mu.Unlock()
					ahead = ahead || im.mu.account.Used[budget.Decoders] >= bzip2Memory+2*parallelWorker
					return false, nil
				}
				if n, err := im.WriteTo(s); n != im.Size() || err != nil {
					t.Errorf("limit %d: WriteTo = %d, %v", limit, n, err)
				}
				s.check(t, im, disk, im.Size(), false)
				if ahead != (limit > 7<<20) {
					t.Errorf("limit %d: blocks are decoded ahead: %v", limit, ahead)
				}
				checkIdle(t, im, before)
			}
			readFar(t, img, disk)
		})
	}
}

// readFar reads near the end of a chunk and then elsewhere: the way there is
// decoded ahead, and what is noted on it must be right.
func readFar(t *testing.T, img, disk []byte) {
	t.Helper()
	im := newTestImage(t, bytes.NewReader(img), len(img), 0)
	before := runtime.NumGoroutine()
	rng := rand.New(rand.NewPCG(7, 7))
	for i := range 20 {
		off := rng.IntN(len(disk) - 10_000)
		if i == 0 {
			off = len(disk) - 20_000
		}
		p := make([]byte, 10_000)
		if _, err := im.ReadAt(p, int64(off)); err != nil {
			t.Fatalf("ReadAt(%d): %v", off, err)
		}
		if k := firstDifference(p, disk[off:off+len(p)]); k >= 0 {
			t.Fatalf("ReadAt(%d): byte %d is wrong", off, k)
		}
	}
	checkIdle(t, im, before)
}

// aheadBlocks returns a disk of 6 MB that is one bzip2 stream.
func aheadBlocks(t *testing.T) (disk, stream []byte) {
	t.Helper()
	disk, stream = joinBlocks('9', slices.Repeat([]bitBlock{cutBlock(t, dmgtest.Text(8, 1200*sectorSize).Bytes())}, 10)...)
	return disk, stream
}

// A damaged block ends what comes before it and nothing else, as it does where
// blocks are not decoded ahead.
func TestBzip2AheadDamage(t *testing.T) {
	dmgtest.NotEmulated(t)
	dmgtest.Long(t)
	withCores(t)
	disk, z := aheadBlocks(t)
	z[len(z)*5/6] ^= 1
	img := bzip2ChunkImage(t, disk, z)
	var ends []int64
	for _, limit := range []int64{7 << 20, 64 << 20} {
		im := newTestImage(t, bytes.NewReader(img), len(img), limit)
		before := runtime.NumGoroutine()
		s := &sequence{recorder: newRecorder(im.Size())}
		n, err := im.WriteTo(s)
		var damaged *ChunkError
		if !errors.As(err, &damaged) || !errors.Is(err, ErrChecksum) && !errors.Is(err, ErrFormat) || n != s.n {
			t.Errorf("limit %d: WriteTo = %d, %v; %d bytes came", limit, n, err, s.n)
		}
		ends = append(ends, n)
		// A block's own bytes can only be told to be wrong after them.
		if whole := n - 1000_000; whole < im.Size()/2 {
			t.Errorf("limit %d: WriteTo stops after %d bytes", limit, n)
		} else if i := firstDifference(s.disk[:whole], disk[:whole]); i >= 0 {
			t.Errorf("limit %d: byte %d is wrong", limit, i)
		}
		checkIdle(t, im, before)
	}
	if ends[0] != ends[1] {
		t.Errorf("on one core %d bytes are written, on several %d", ends[0], ends[1])
	}
}

// Recovery finds the same of a damaged block, whether or not an earlier read has left a
// checkpoint at its start.
func TestBzip2RecoveryAfterReads(t *testing.T) {
	dmgtest.Long(t)
	dmgtest.Native(t)
	dmgtest.NotEmulated(t)
	disk, z := aheadBlocks(t)
	recovered := func(im *Image) string {
		out := &sink{p: make([]byte, im.Size())}
		var damage []string
		err := im.Extract(context.Background(), out, &ExtractOptions{Damaged: func(d Damage) error {
			damage = append(damage, d.String())
			return nil
		}})
		slices.Sort(damage)
		return fmt.Sprintf("%v, %q, %x", err, damage, sha256.Sum256(out.p))
	}
	doubtful := 0
	for at := len(z) / 40; at < len(z)/12; at += len(z) / 40 { // in the first block
		z := slices.Clone(z)
		z[at] ^= 1
		img := bzip2ChunkImage(t, disk, z)
		want := recovered(newTestImage(t, bytes.NewReader(img), len(img), 0))
		if strings.Contains(want, "doubtful") {
			doubtful++
		}
		im := newTestImage(t, bytes.NewReader(img), len(img), 0)
		if err := im.Verify(context.Background(), nil); err == nil {
			t.Errorf("byte %d: no error", at)
		}
		if got := recovered(im); got != want {
			t.Errorf("byte %d: after Verify %s\nwant %s", at, got, want)
		}
	}
	if doubtful == 0 {
		t.Error("no block is doubtful")
	}
}
