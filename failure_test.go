package dmg

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"errors"
	"hash/adler32"
	"io"
	"sync/atomic"
	"testing"

	"github.com/go-dmg/dmg/internal/dmgtest"
)

// squeeze does what other readers' need of memory does.
func squeeze(im *Image) {
	im.mu.Lock()
	for im.makeRoomLocked() {
	}
	im.mu.Unlock()
}

// evict does what other readers' pages do.
func evict(im *Image, chunk int) {
	im.mu.Lock()
	im.mu.cache.DropPages(chunk, im.chunks[chunk].Length)
	im.mu.Unlock()
}

// echoes is a zlib stream of a stored block of n bytes and of a megabyte that
// refers back to it. Byte 7+k of the stream is byte k of the disk.
func echoes(t *testing.T, n int64) (disk, stream []byte) {
	r := dmgtest.Random(9, n).Bytes()
	disk = bytes.Repeat(r, 1<<20/int(n))
	var b bytes.Buffer
	b.WriteString("\x78\x9C\x00")
	binary.Write(&b, binary.LittleEndian, []uint16{uint16(len(r)), ^uint16(len(r))})
	b.Write(r)
	w, err := flate.NewWriterDict(&b, 9, r)
	if err != nil {
		t.Fatal(err)
	}
	w.Write(disk[len(r):])
	w.Close()
	binary.Write(&b, binary.BigEndian, adler32.Checksum(disk))
	return disk, b.Bytes()
}

func echoImage(t *testing.T, n int64) (testImage, *flipped, *gate, *Image) {
	disk, stream := echoes(t, n)
	ti := testImage{disk, fileOf(t, stream, dmgtest.Chunk{Method: dmgtest.Zlib, Sectors: uint64(len(disk) / 512), Length: uint64(len(stream))})}
	f := &flipped{ReaderAt: bytes.NewReader(ti.file)}
	g := &gate{ReaderAt: f}
	im := ti.open(t, 0, func(io.ReaderAt) io.ReaderAt { return g })
	f.at = im.chunks[0].DataOffset + 7 + 5000
	return ti, f, g, im
}

// gate stops the next read, if it is closed.
type gate struct {
	io.ReaderAt
	stop    chan struct{} // nil: open
	reached chan struct{}
}

func (g *gate) ReadAt(p []byte, off int64) (int, error) {
	if s := g.stop; s != nil {
		g.stop = nil
		close(g.reached)
		<-s
	}
	return g.ReaderAt.ReadAt(p, off)
}

func mustBeRight(t *testing.T, ti testImage, im *Image, what string, off int64, n int) {
	t.Helper()
	p := make([]byte, n)
	k, err := im.ReadAt(p, off)
	if err != nil && err != io.EOF {
		t.Errorf("%s: %d bytes at %d: %v", what, n, off, err)
	} else if !bytes.Equal(p[:k], ti.disk[off:off+int64(k)]) {
		t.Errorf("%s: %d bytes at %d: wrong bytes without an error", what, n, off)
	}
}

// TestDoubtForgetsFetched has nothing used, when the damage has shown, of what another
// decoder has fetched.
func TestDoubtForgetsFetched(t *testing.T) {
	ti, f, _, im := echoImage(t, 8<<10)
	f.on.Store(true)
	im.ReadAt(make([]byte, 900<<10), 0) // wrong, and nothing tells
	f.on.Store(false)
	evict(im, 0)
	_, err := im.ReadAt(make([]byte, 40<<10), 0)
	if !errors.Is(err, ErrChecksum) {
		t.Fatal("damage has not shown")
	}
	mustBeRight(t, ti, im, "after it has shown", 0, 20<<10)
	mustBeRight(t, ti, im, "after it has shown", 0, 20<<10)
	mustBeRight(t, ti, im, "after it has shown", 64<<10, 20<<10)
}

// TestDoubtDuringTurn has the damage show while a turn is under way from a wrong
// checkpoint: nothing that it makes is kept.
func TestDoubtDuringTurn(t *testing.T) {
	ti, f, g, im := echoImage(t, 16<<10)
	f.on.Store(true)
	im.ReadAt(make([]byte, 200<<10), 0)
	f.on.Store(false)
	squeeze(im)
	g.reached = make(chan struct{})
	stop := make(chan struct{})
	g.stop = stop
	done := make(chan error)
	go func() {
		_, err := im.ReadAt(make([]byte, 8<<10), 64<<10)
		done <- err
	}()
	<-g.reached
	_, err := im.ReadAt(make([]byte, 40<<10), 0)
	if !errors.Is(err, ErrChecksum) {
		t.Fatal("damage has not shown")
	}
	close(stop)
	<-done
	mustBeRight(t, ti, im, "cached", 64<<10, 8<<10)
	mustBeRight(t, ti, im, "parked", 76<<10, 8<<10)
	mustBeRight(t, ti, im, "parked", 84<<10, 100<<10)
	checkAtRest(t, &im.engine)
}

// TestWrongTwice has the source give a wrong byte once, and later once more.
func TestWrongTwice(t *testing.T) {
	dmgtest.Native(t)
	ti, f, _, im := echoImage(t, 16<<10)
	for round := range 3 {
		squeeze(im)
		f.on.Store(true)
		im.ReadAt(make([]byte, 100<<10), 0)
		f.on.Store(false)
		squeeze(im)
		var err error
		tries := 0
		for tries < 20 {
			tries++
			squeeze(im)
			if _, err = im.ReadAt(make([]byte, 40<<10), 0); err == nil {
				break
			}
		}
		if err != nil {
			t.Errorf("round %d: can't be read any more: %v", round, err)
			break
		}
		mustBeRight(t, ti, im, "later", 0, 40<<10)
	}
}

// TestDoubtForward has no decoder go on whose window may be wrong.
func TestDoubtForward(t *testing.T) {
	dmgtest.Native(t)
	dmgtest.Long(t)
	t.Parallel()
	for _, m := range []dmgtest.Method{dmgtest.LZMA, dmgtest.LZFSE, dmgtest.ADC} {
		ti := workload{codecs: []dmgtest.Method{m}, size: 2 << 20}.image(t)
		c := ti.open(t, 0, nil).chunks[0]
		tried, shown, bad := 0, 0, 0
		for at := c.DataOffset + 5000; at < c.DataOffset+c.DataLength/4 && tried < fewer(60, 4); at += 1009 {
			tried++
			f := &flipped{ReaderAt: bytes.NewReader(ti.file), at: at}
			im := ti.open(t, 0, func(io.ReaderAt) io.ReaderAt { return f })
			f.on.Store(true)
			if _, err := im.ReadAt(make([]byte, 1<<20), 0); err != nil {
				continue
			}
			evict(im, 0)
			if _, err := im.ReadAt(make([]byte, 100<<10), 500<<10); err != nil {
				continue
			}
			_, err := im.ReadAt(make([]byte, im.Size()-600<<10), 600<<10)
			if err == nil || err == io.EOF {
				continue
			}
			f.on.Store(false)
			shown++
			p := make([]byte, 64<<10)
			if n, err := im.ReadAt(p, 1<<20); err == nil && !bytes.Equal(p[:n], ti.disk[1<<20:][:n]) {
				bad++
			}
		}
		if bad > 0 {
			t.Errorf("%v: wrong bytes without an error", m)
		}
	}
}

// TestWrongCursors has nothing kept of a bzip2 block that was not checked.
func TestWrongCursors(t *testing.T) {
	dmgtest.Native(t)
	t.Parallel()
	disk := dmgtest.Random(5, 1600*512).Bytes()
	stream, err := dmgtest.Compress(dmgtest.Bzip2, 9, disk)
	if err != nil {
		t.Fatal(err)
	}
	ti := testImage{disk, fileOf(t, stream, dmgtest.Chunk{Method: dmgtest.Bzip2, Sectors: 1600, Length: uint64(len(stream))})}
	f := &flipped{ReaderAt: bytes.NewReader(ti.file)}
	im := ti.open(t, 0, func(io.ReaderAt) io.ReaderAt { return f })
	f.at = im.chunks[0].DataOffset + 15 // of the block's origin
	f.on.Store(true)
	im.ReadAt(make([]byte, 100<<10), 0)
	evict(im, 0)
	im.ReadAt(make([]byte, len(disk)-50<<10), 50<<10)
	f.on.Store(false)
	squeeze(im)
	for off := int64(0); off < im.Size(); off += 200 << 10 {
		mustBeRight(t, ti, im, "later", off, 4<<10)
		squeeze(im)
	}
	checkAtRest(t, &im.engine)
}

// TestManyDoubts has a decoder that has been at work for long leave checkpoints,
// whatever became of other chunks.
func TestManyDoubts(t *testing.T) {
	dmgtest.Native(t)
	t.Parallel()
	disk := dmgtest.Text(5, 8<<20).Bytes()
	stream, err := dmgtest.Compress(dmgtest.Zlib, 1, disk)
	if err != nil {
		t.Fatal(err)
	}
	chunks := []dmgtest.Chunk{{Method: dmgtest.Zlib, Sectors: 8 << 11, Length: uint64(len(stream))}}
	for range 70 {
		chunks = append(chunks, dmgtest.Chunk{Method: dmgtest.Zlib, Sectors: 1, Offset: 100, Length: 512})
	}
	im := imageOf(t, Options{}, stream, chunks...)
	p := make([]byte, 64<<10)
	read := func(from, to int64) int {
		for off := from; off < to; off += int64(len(p)) {
			if _, err := im.ReadAt(p, off); err != nil {
				t.Fatal(err)
			}
		}
		im.mu.Lock()
		defer im.mu.Unlock()
		return len(im.mu.points.chunks[0])
	}
	a := read(0, 2<<20)
	for i := range int64(70) {
		if _, err := im.ReadAt(p[:512], 8<<20+i*512); err == nil {
			t.Fatal("no damage")
		}
	}
	if b := read(2<<20, 4<<20); b < a*3/2 {
		t.Errorf("%d checkpoints in 2 MiB, %d in 4 MiB", a, b)
	}
}

// TestStreamsCut has what is there served of streams that are longer than their
// chunks.
func TestStreamsCut(t *testing.T) {
	dmgtest.Long(t)
	dmgtest.Native(t)
	t.Parallel()
	for _, kind := range []string{"text", "random"}[:fewer(2, 2)] {
		content := dmgtest.Random(3, 1<<20)
		if kind == "text" {
			content = dmgtest.Text(3, 1<<20)
		}
		disk := content.Bytes()
		for _, m := range []dmgtest.Method{dmgtest.ADC, dmgtest.Zlib, dmgtest.Bzip2, dmgtest.LZFSE, dmgtest.LZMA} {
			stream, err := dmgtest.Compress(m, 0, disk)
			if err != nil {
				t.Fatal(err)
			}
			for _, sectors := range []uint64{1, 8, 64, 128, 256, 512, 1024} {
				im := imageOf(t, Options{}, stream, dmgtest.Chunk{Method: m, Sectors: sectors, Length: uint64(len(stream))})
				p := make([]byte, sectors*512)
				n, err := im.ReadAt(p, 0)
				if err != nil && err != io.EOF || !bytes.Equal(p, disk[:len(p)]) {
					t.Errorf("%s %v, %d sectors of a stream of 2048, %d bytes: %d, %v", kind, m, sectors, len(stream), n, err)
				}
			}
		}
	}
}

// TestIndexOfDamagedChunk has BuildIndex make the checkpoints before the damage.
func TestIndexOfDamagedChunk(t *testing.T) {
	dmgtest.Long(t)
	dmgtest.Native(t)
	t.Parallel()
	ti := workload{codecs: allCodecs[1:2], size: fewer[int64](8<<20, 4)}.image(t)
	c := ti.open(t, 0, nil).chunks[0]
	for _, at := range []int64{c.DataLength / 2, c.DataLength * 3 / 4, c.DataLength * 7 / 8, c.DataLength - 2} {
		bad := bytes.Clone(ti.file)
		bad[c.DataOffset+at] ^= 0x55
		im := testImage{ti.disk, bad}.open(t, 0, nil)
		n := [2]int{}
		for i := range n {
			if err := im.BuildIndex(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
			n[i] = indexOf(t, im).Len()
		}
		if n[0] < n[1] {
			t.Error("fewer at first")
		}
	}
}

// flipped is a source that gives a wrong byte as long as it is to.
type flipped struct {
	io.ReaderAt
	at int64
	on atomic.Bool
}

func (f *flipped) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.ReaderAt.ReadAt(p, off)
	if f.on.Load() && off <= f.at && f.at < off+int64(n) {
		p[f.at-off] ^= 0x55
	}
	return n, err
}

// TestWrongOnce has the source give a wrong byte once, without an error. When the
// damage has shown, nothing that was made of it is used any more.
func TestWrongOnce(t *testing.T) {
	dmgtest.Native(t)
	t.Parallel()
	size := fewer[int64](2<<20, 4)
	for _, w := range []workload{{codecs: allCodecs[1:2], size: size}, {codecs: allCodecs[2:3], size: size}, {codecs: allCodecs[3:4], size: size}} {
		ti := w.image(t)
		c := ti.open(t, 0, nil).chunks[0]
		shown := make(map[error]int)
		for at := c.DataOffset + 5000; at < c.DataOffset+c.DataLength/2 && len(shown) < 3; at += 3 * 1009 {
			f := &flipped{ReaderAt: bytes.NewReader(ti.file), at: at}
			im := ti.open(t, 0, func(io.ReaderAt) io.ReaderAt { return f })
			f.on.Store(true)
			_, err := im.ReadAt(make([]byte, im.Size()), 0)
			f.on.Store(false)
			class := ErrFormat
			switch {
			case errors.Is(err, ErrChecksum):
				class = ErrChecksum
			case !errors.Is(err, ErrFormat):
				continue // decoded to other bytes, and has no checksum
			}
			if shown[class]++; shown[class] > 4 {
				continue
			}
			for off := int64(0); off < im.Size(); off += 4096 {
				ti.mustRead(t, im, off, 4096)
			}
			ti.mustRead(t, im, 0, len(ti.disk))
		}
		if len(shown) == 0 {
			t.Errorf("%v: no damage has shown", w)
		}
	}
}

// TestDamageIsKept has a chunk that is damaged for good decoded from its start once
// more when that has shown, and from then on from its last checkpoint.
func TestDamageIsKept(t *testing.T) {
	dmgtest.Native(t)
	ti := workload{codecs: allCodecs[1:2], size: 4 << 20}.image(t)
	c := ti.open(t, 0, nil).chunks[0]
	f := &flipped{ReaderAt: bytes.NewReader(ti.file), at: c.DataOffset + c.DataLength*3/4}
	f.on.Store(true)
	im := ti.open(t, 0, func(io.ReaderAt) io.ReaderAt { return f })
	whole := make([]byte, im.Size())
	good := 0
	for range 2 {
		n, err := im.ReadAt(whole, 0)
		if err == nil {
			t.Fatal("the damage doesn't show")
		}
		good = max(good, n)
	}
	im.mu.Lock()
	im.mu.cache.DropPages(0, c.Length)
	im.mu.Unlock()
	for range 5 {
		before := im.Stats().BytesDecoded
		im.ReadAt(whole[:4096], int64(good))
		ti.mustRead(t, im, 1<<20, 4096)
		if n := im.Stats().BytesDecoded - before; n > 3*usualSpacing {
			t.Errorf("reads at the damage and before it decoded %d bytes", n)
		}
	}
}
