package dmg

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"iter"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/ulikunitz/xz"

	"github.com/go-dmg/dmg/internal/dmgtest"
)

// lzmaImage stores a disk in one .xz chunk as a writer of that set-up makes it.
func lzmaImage(t *testing.T, disk []byte, c xz.WriterConfig, bend func(stream []byte)) testImage {
	t.Helper()
	stream := xzStream(t, disk, c)
	if bend != nil {
		bend(stream)
	}
	return chunkImage(t, disk, stream)
}

// xzStream compresses a disk.
func xzStream(t *testing.T, disk []byte, c xz.WriterConfig) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := c.NewWriter(&b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(disk); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// chunkImage stores a disk in one chunk, which is that stream.
func chunkImage(t *testing.T, disk, stream []byte) testImage {
	t.Helper()
	sectors := int64(len(disk)) / sectorSize
	l := &dmgtest.Layout{Data: stream, Koly: dmgtest.NewKoly()}
	l.Tables = []dmgtest.Table{dmgtest.NewTable("disk", 0, sectors, dmgtest.Chunk{
		Method: dmgtest.LZMA, Sectors: uint64(sectors), Length: uint64(len(stream)),
	})}
	if err := l.Seal(); err != nil {
		t.Fatal(err)
	}
	return testImage{disk, l.Bytes()}
}

// memoryFor returns the memory of a decoder for c.
func memoryFor(t *testing.T, im *Image, c *Chunk) int64 {
	t.Helper()
	memory, err := decoderMemory(countingSource{r: im.src.r, n: new(counters)}, c, 0)
	if err != nil {
		t.Fatal(err)
	}
	return memory
}

// What a decoder takes of the limit follows from the dictionary that the stream
// names, and from the chunk's length, and is what it gets along with.
func TestLZMAMemory(t *testing.T) {
	dmgtest.Long(t)
	dmgtest.Native(t)
	t.Parallel()
	for _, tt := range []struct {
		dict, size, window int64
	}{
		{4 << 10, 200 << 10, 200<<10 + 64<<10},
		{8 << 20, 200 << 10, 200<<10 + 64<<10},
		{4 << 10, 2 << 20, 4 << 10},
		{1 << 20, 2 << 20, 1 << 20},
		{8 << 20, 2 << 20, 2<<20 + 64<<10},
	} {
		if dmgtest.Part() && tt.size > 1<<20 {
			continue
		}
		t.Run(fmt.Sprintf("%d KiB of %d", tt.dict>>10, tt.size>>10), func(t *testing.T) {
			ti := lzmaImage(t, dmgtest.Text(1, tt.size).Bytes(), xz.WriterConfig{DictCap: int(tt.dict)}, nil)
			im := ti.open(t, 0, nil)
			memory := memoryFor(t, im, &im.chunks[0])
			if memory < tt.window || memory > tt.window*9/8+512<<10 {
				t.Fatalf("%d bytes for a window of %d", memory, tt.window)
			}
			im = ti.open(t, memory, nil)
			ti.wayThrough(t, im, 10_000)
			im = ti.open(t, memory-1, nil)
			if _, err := im.ReadAt(make([]byte, 1), 0); !errors.Is(err, ErrMemoryLimit) {
				t.Errorf("one byte less: %v, want ErrMemoryLimit", err)
			}
		})
	}
}

// A decoder whose fetches became longer is not taken for one with a longer window.
func TestLZMAReuse(t *testing.T) {
	dmgtest.NotRaced(t)
	t.Parallel()
	half := fewer[int64](3<<20, 2)
	disk := dmgtest.Mixed(5, 2*half).Bytes()
	l := &dmgtest.Layout{Koly: dmgtest.NewKoly()}
	var chunks []dmgtest.Chunk
	for i, dict := range []int{4 << 10, 2 << 20} {
		stream := xzStream(t, disk[int64(i)*half:][:half], xz.WriterConfig{DictCap: dict})
		chunks = append(chunks, dmgtest.Chunk{
			Method: dmgtest.LZMA, Sector: uint64(int64(i) * half / sectorSize), Sectors: uint64(half / sectorSize),
			Offset: uint64(len(l.Data)), Length: uint64(len(stream)),
		})
		l.Data = append(l.Data, stream...)
	}
	l.Tables = []dmgtest.Table{dmgtest.NewTable("disk", 0, int64(len(disk))/sectorSize, chunks...)}
	if err := l.Seal(); err != nil {
		t.Fatal(err)
	}
	ti := testImage{disk, l.Bytes()}
	im := ti.open(t, 5<<20, nil)
	ti.wayThrough(t, im, 1<<20)
}

// withDictionary returns an image of one .xz chunk that says to be of so many
// sectors, for each dictionary that a header can name.
func withDictionary(t *testing.T, disk []byte, sectors int64) iter.Seq2[byte, testImage] {
	stream := xzStream(t, disk, xz.WriterConfig{DictCap: 4 << 10})
	// The stream's header is 12 bytes, then size, flags, and the filter: 0x21, the
	// length of its properties, the dictionary.
	const header, dictionary = 12, 12 + 2 + 2
	if stream[dictionary-2] != 0x21 {
		t.Fatal("the writer's header is not what the test thinks")
	}
	end := header + int(stream[header])*4
	return func(yield func(byte, testImage) bool) {
		for size := range byte(255) {
			bent := bytes.Clone(stream)
			bent[dictionary] = size
			binary.LittleEndian.PutUint32(bent[end:], crc32.ChecksumIEEE(bent[header:end]))
			l := &dmgtest.Layout{Data: bent, Koly: dmgtest.NewKoly()}
			l.Tables = []dmgtest.Table{dmgtest.NewTable("disk", 0, sectors, dmgtest.Chunk{
				Method: dmgtest.LZMA, Sectors: uint64(sectors), Length: uint64(len(bent)),
			})}
			if err := l.Seal(); err != nil {
				t.Fatal(err)
			}
			if !yield(size, testImage{disk, l.Bytes()}) {
				return
			}
		}
	}
}

// A header that names a dictionary of 4 GiB costs none of it: in a chunk that is
// shorter it can be read, in one that is as long it is refused.
func TestLZMAHugeDictionary(t *testing.T) {
	dmgtest.Long(t)
	t.Parallel()
	disk := dmgtest.Text(1, 64<<10).Bytes()
	for size, ti := range withDictionary(t, disk, int64(len(disk))/sectorSize) {
		im := ti.open(t, 2<<20, nil)
		p := make([]byte, len(disk))
		if _, err := im.ReadAt(p, 0); size <= 40 && (err != nil || !bytes.Equal(p, disk)) || size > 40 && !errors.Is(err, ErrFormat) {
			t.Errorf("dictionary %d: %v", size, err)
		}
	}
	for _, sectors := range []int64{8 << 30 / sectorSize, math.MaxInt64 / sectorSize} {
		for size, ti := range withDictionary(t, disk, sectors) {
			im := newTestImage(t, bytes.NewReader(ti.file), len(ti.file), 0)
			_, err := im.ReadAt(make([]byte, 1), 0)
			if huge := size >= 28 && size <= 40; huge != errors.Is(err, ErrMemoryLimit) || !huge && (err == nil) != (size <= 40) {
				t.Errorf("dictionary %d in a chunk of %d sectors: %v", size, sectors, err)
			}
			if used := im.mu.account.Total(); used > DefaultMemoryLimit {
				t.Fatalf("dictionary %d: %d bytes are taken", size, used)
			}
		}
	}
}

// A filter that is not decoded is said to be that.
func TestLZMAFilters(t *testing.T) {
	disk := dmgtest.Text(1, 4<<10).Bytes()
	ti := lzmaImage(t, disk, xz.WriterConfig{DictCap: 4 << 10}, func(stream []byte) {
		const header = 12
		stream[header+2] = 0x03 // delta
		end := header + int(stream[header])*4
		binary.LittleEndian.PutUint32(stream[end:], crc32.ChecksumIEEE(stream[header:end]))
	})
	if _, err := ti.open(t, 0, nil).ReadAt(make([]byte, 1), 0); !errors.Is(err, ErrUnsupported) {
		t.Errorf("%v, want ErrUnsupported", err)
	}
}

// A chunk that is damaged anywhere in its blocks can't be read to the end, and
// a source's error is its own.
func TestLZMADamage(t *testing.T) {
	disk := dmgtest.Text(3, 256<<10).Bytes()
	for _, at := range []float64{0, 0.1, 0.5, 0.8} {
		ti := lzmaImage(t, disk, xz.WriterConfig{DictCap: 64 << 10}, func(stream []byte) {
			stream[int(float64(len(stream))*at)] ^= 0x55
		})
		im := ti.open(t, 0, nil)
		_, err := io.Copy(io.Discard, io.NewSectionReader(im, 0, im.Size()))
		var chunk *ChunkError
		if !errors.As(err, &chunk) || !errors.Is(err, ErrFormat) && !errors.Is(err, ErrChecksum) {
			t.Errorf("damage at %v of the stream: %v", at, err)
		}
	}
}

// What stands behind the data of an .xz stream is looked at: padding, check, index
// and footer, whose every bit counts.
func TestLZMAEnd(t *testing.T) {
	disk := dmgtest.Text(4, 2<<10).Bytes()
	for _, check := range []byte{xz.None, xz.CRC32, xz.CRC64, xz.SHA256} {
		stream := xzStream(t, disk, xz.WriterConfig{DictCap: 64 << 10, CheckSum: check, NoCheckSum: check == xz.None})
		const footer = 12
		index := len(stream) - footer - 4*(1+int(binary.LittleEndian.Uint32(stream[len(stream)-8:])))
		end := index - map[byte]int{xz.CRC32: 4, xz.CRC64: 8, xz.SHA256: 32}[check]
		for at := end; at < len(stream); at++ {
			bent := bytes.Clone(stream)
			bent[at] ^= 1 << (at % 8)
			checkEnd(t, fmt.Sprintf("check %d, byte %d of %d", check, at, len(stream)), disk, bent, ErrChecksum)
			if at%4 == 0 {
				checkEnd(t, fmt.Sprintf("check %d, cut to %d of %d", check, at, len(stream)), disk, stream[:at], ErrChecksum)
			}
		}
		// LZMA decodes any byte to something: only the check tells.
		if check != xz.None {
			bent := bytes.Clone(stream)
			bent[end-200] ^= 1
			checkEnd(t, fmt.Sprintf("check %d, data", check), disk, bent, nil)
		}
		// Garbage behind the stream is none of its business, even if it begins as
		// padding does.
		for _, garbage := range []string{"", "\x00", "\x00\x00\x00\x00", "\x00\x00\x00\x00\x00", "\x00garbage", "garbage", string(stream[:50]), strings.Repeat("\x00", 300_001)} {
			checkEnd(t, fmt.Sprintf("check %d, %.20q behind", check, garbage), disk, append(bytes.Clone(stream), garbage...), errNone)
		}
		checkEnd(t, "a stream that goes on", disk[:1024], stream, errNone)
	}
}

// A chunk of several streams is read as one, like bzip2's, padding between them
// or not. What is wrong with a stream is noticed before the next begins, and what
// follows the last that is needed is not looked at.
func TestLZMAStreams(t *testing.T) {
	disk := dmgtest.Mixed(6, 96<<10).Bytes()
	a := xzStream(t, disk[:40_000], xz.WriterConfig{DictCap: 64 << 10, CheckSum: xz.CRC32})
	b := xzStream(t, disk[40_000:], xz.WriterConfig{DictCap: 4 << 10, NoCheckSum: true})
	none := xzStream(t, nil, xz.WriterConfig{DictCap: 4 << 10})
	bent := bytes.Clone(a)
	bent[len(a)-5] ^= 1 // the footer's flags
	padding := func(n int) []byte { return make([]byte, n) }
	for _, tt := range []struct {
		name  string
		parts [][]byte
		err   error // of a read of all
	}{
		{"two", [][]byte{a, b}, nil},
		{"padding", [][]byte{a, padding(8), b}, nil},
		{"streams of nothing", [][]byte{none, a, none, padding(4), none, b}, nil},
		{"garbage behind", [][]byte{a, b, padding(4), []byte("garbage")}, nil},
		{"half a stream behind", [][]byte{a, b, a[:1000]}, nil},
		{"a damaged stream behind", [][]byte{a, b, bent}, nil},
		{"three bytes of padding", [][]byte{a, padding(3), b}, ErrFormat},
		{"garbage between", [][]byte{a, []byte("garbage!"), b}, ErrFormat},
		{"one", [][]byte{a}, ErrFormat},
		{"a damaged stream before", [][]byte{bent, b}, ErrFormat},
		{"half a stream", [][]byte{a, b[:len(b)/2]}, ErrFormat},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ti := chunkImage(t, disk, bytes.Join(tt.parts, nil))
			if tt.err == nil {
				ti.wayThrough(t, ti.open(t, 0, nil), 10_000)
			}
			im := ti.open(t, 0, nil)
			p := make([]byte, len(disk))
			n, err := im.ReadAt(p, 0)
			if !errors.Is(err, tt.err) && err != io.EOF || !bytes.Equal(p[:n], disk[:n]) {
				t.Errorf("ReadAt: %d bytes, %v; want %v", n, err, tt.err)
			}
			var w bytes.Buffer
			if _, err := ti.open(t, 0, nil).WriteTo(&w); !errors.Is(err, tt.err) || w.Len() < 39_936 || !bytes.Equal(w.Bytes(), disk[:w.Len()]) {
				t.Errorf("WriteTo: %d bytes, %v; want %v", w.Len(), err, tt.err)
			}
		})
	}
}

// A later stream of a chunk may need a larger decoder than the first one says. Where one
// worker has the memory for it, any number of workers come to the same, at whatever limit.
func TestLZMAWindowGrows(t *testing.T) {
	dmgtest.NotEmulated(t)
	dmgtest.Long(t)
	const window = 5 << 19
	far := make([]byte, window)
	copy(far, dmgtest.Random(3, 8<<10).Bytes())
	disk := slices.Concat(dmgtest.Text(1, 64<<10).Bytes(), far, far[:8<<10])
	stream := slices.Concat(xzStream(t, disk[:64<<10], xz.WriterConfig{DictCap: 4 << 10}),
		xzStream(t, disk[64<<10:], xz.WriterConfig{DictCap: window}))
	text := dmgtest.Text(2, 1<<20).Bytes()
	small, err := dmgtest.Compress(dmgtest.Zlib, 1, text)
	if err != nil {
		t.Fatal(err)
	}
	data := slices.Concat(stream, small)
	one := dmgtest.Chunk{Method: dmgtest.LZMA, Sectors: uint64(len(disk) / sectorSize), Length: uint64(len(stream))}
	other := dmgtest.Chunk{Method: dmgtest.Zlib, Sectors: uint64(len(text) / sectorSize), Offset: uint64(len(stream)), Length: uint64(len(small))}
	all := slices.Concat(text, disk, disk, text, text, text, disk, text)
	ti := testImage{all, fileOf(t, data, other, one, one, other, other, other, one, other)}
	fits, anew := 0, 0
	limits, team := []int64{3670016, 4587520, 5734400, 7168000, 8 << 20, 12 << 20}, []int{1, 2, 8}
	if dmgtest.Slowed() {
		limits, team = limits[1:3], []int{1, 8}
	}
	for _, limit := range limits {
		var want error
		for _, workers := range team {
			for _, ordered := range []bool{false, true} {
				im := ti.open(t, limit, nil)
				out := &recorder{disk: make([]byte, len(all))}
				last := int64(0)
				var err error
				within(t, "Extract", func() {
					err = im.Extract(context.Background(), out, &ExtractOptions{Workers: workers, Ordered: ordered, Progress: func(done, _ int64) {
						if done <= last {
							t.Errorf("progress %d after %d", done, last)
						}
						last = done
					}})
				})
				if workers == 1 {
					want = err
				}
				if (err == nil) != (want == nil) || err != nil && !errors.Is(err, ErrMemoryLimit) {
					t.Errorf("%d workers in %d bytes, in order %v: %v, one worker %v", workers, limit, ordered, err, want)
				}
				if err == nil {
					fits++
					if k := firstDifference(out.disk, all); k >= 0 {
						t.Errorf("%d workers in %d bytes, in order %v: byte %d is wrong", workers, limit, ordered, k)
					}
					if last != int64(len(all)) {
						t.Errorf("progress ends at %d of %d", last, len(all))
					}
				}
				if ordered && im.count.bytesDecoded.Load() > int64(len(all)+len(disk)) {
					anew++
				}
				checkAtRest(t, &im.engine)
			}
		}
	}
	if fits < len(limits)*len(team) || anew == 0 {
		t.Errorf("%d succeed, %d have begun anew", fits, anew)
	}
}

// Verify names the same places of a chunk that is damaged twice, whatever its workers find
// first, and whatever readers find before it.
func TestLZMATwoDamages(t *testing.T) {
	dmgtest.NotEmulated(t)
	dmgtest.LongOrRaced(t)
	const block = 512 << 10
	disk := make([]byte, 16*block)
	for i := 0; i < len(disk); i += block / 8 {
		copy(disk[i:], dmgtest.Random(uint64(i), 512).Bytes())
	}
	stream := xzStream(t, disk, xz.WriterConfig{DictCap: 64 << 10, BlockSize: block, CheckSum: xz.CRC32})
	ti := chunkImage(t, disk, stream)
	c := slices.Collect(ti.open(t, 0, nil).Chunks())[0]
	for _, part := range []int64{5, 11} { // of 16: in a block's random bytes
		ti.file[c.DataOffset+c.DataLength*part/16+100] ^= 1
	}
	want := ti.open(t, 0, nil).Verify(context.Background(), &VerifyOptions{Workers: 1})
	if want == nil || strings.Count(want.Error(), "\n") < 1 {
		t.Fatalf("alone: %v", want)
	}
	for i := range 16 {
		im := ti.open(t, 0, nil)
		var readers sync.WaitGroup
		for r := range 3 {
			readers.Add(1)
			go func() {
				defer readers.Done()
				p := make([]byte, 10_000)
				for k := range 8 {
					im.ReadAt(p, int64((k*5+r*3+i)%16*block))
				}
			}()
		}
		if err := im.Verify(context.Background(), &VerifyOptions{Workers: 1 + i%4}); err == nil || err.Error() != want.Error() {
			t.Errorf("%d workers beside readers: %v\nalone: %v", 1+i%4, err, want)
		}
		readers.Wait()
	}
	// Workers that are about to begin at a block find it, though a reader has just failed.
	im := ti.open(t, 0, nil)
	if _, err := im.ReadAt(make([]byte, block), 5*block); !errors.Is(err, ErrFormat) && !errors.Is(err, ErrChecksum) {
		t.Errorf("ReadAt: %v", err)
	}
	im.mu.Lock()
	defer im.mu.Unlock()
	if n := len(im.mu.points.chunks[0]); n != len(disk)/block-1 {
		t.Errorf("after damage there are %d checkpoints", n)
	}
}

// errNone stands for no error.
var errNone = errors.New("none")

// checkEnd reads a disk that is one .xz chunk, at once and piece by piece. The
// read that gets to its end must fail with the error, any if it is nil.
func checkEnd(t *testing.T, name string, disk, stream []byte, want error) {
	t.Helper()
	ti := chunkImage(t, disk, stream)
	im := ti.open(t, 0, nil)
	p := make([]byte, len(disk))
	right := func(n int, err error) bool {
		switch want {
		case errNone:
			return n == len(p) && (err == nil || err == io.EOF)
		case nil:
			return err != nil && err != io.EOF
		}
		var chunk *ChunkError
		return n < len(p) && errors.Is(err, want) && errors.As(err, &chunk)
	}
	if n, err := im.ReadAt(p, 0); !right(n, err) || want == errNone && !bytes.Equal(p, disk) {
		t.Errorf("%s: %d bytes, %v; want %v", name, n, err, want)
	}
	p = p[:512]
	if n, err := ti.open(t, 0, nil).ReadAt(p, int64(len(disk)-len(p))); !right(n, err) {
		t.Errorf("%s: the last sector: %d bytes, %v; want %v", name, n, err, want)
	}
	if _, err := im.WriteTo(io.Discard); (err == nil) != (want == errNone) {
		t.Errorf("%s: WriteTo: %v, want %v", name, err, want)
	}
}

// The end of a stream costs no more than a look at it, however long it goes on.
func TestLZMALongEnd(t *testing.T) {
	disk := dmgtest.Text(4, 2<<10).Bytes()
	stream := xzStream(t, disk, xz.WriterConfig{DictCap: 64 << 10})
	im := chunkImage(t, disk, append(stream, make([]byte, 8<<20)...)).open(t, 0, nil)
	if n, err := im.ReadAt(make([]byte, len(disk)), 0); n < len(disk) {
		t.Error(err)
	}
	if got := im.Stats().SourceBytes; got > 2<<20 {
		t.Errorf("%d bytes were fetched", got)
	}
}
